"""Which signals ask a process to stop in order."""

import asyncio
import signal


def stop_signals() -> list[signal.Signals]:
    """Return them; a hang-up is one unless it is ignored, as ``nohup`` has it."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hang_up]


def stop_on_signals() -> asyncio.Event:
    """Return an event that the first of these signals sets; the second one ends the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        stop.set()
        if number != signal.SIGHUP:  # a closed terminal may send several
            loop.remove_signal_handler(number)

    for number in stop_signals():
        loop.add_signal_handler(number, told, number)
    return stop


__all__ = ["stop_on_signals", "stop_signals"]
