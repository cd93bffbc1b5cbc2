"""``headwater up``: a whole system on one machine, a process for each instance."""

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from headwater._os.files import owned
from headwater._os.limits import raise_descriptors
from headwater.errors import ConfigurationError

if TYPE_CHECKING:
    from headwater.cli.supervising.plan import Part
    from headwater.cli.supervising.spawner import Spawner
    from headwater.operations.system import System

_SHUFFLE_S_MAX = 3.0


def up(
    *,
    file: Annotated[Path, Parameter(name=["--file", "-f"])] = Path("headwater.toml"),
    host: str | None = None,
    port: int | None = None,
    discovery_port: int | None = None,
    config_port: int | None = None,
    ready_file: Path | None = None,
    shuffle: int | None = None,
) -> None:
    """Run a whole system on this machine until Ctrl-C or SIGTERM.

    Parameters
    ----------
    file
        The description of the system.
    host
        Where the gateway listens, instead of the one in the file; 0.0.0.0 in a container.
    port
        Port of the gateway, instead of the one in the file; 0 chooses a free one.
    discovery_port
        Port of the discovery service.
    config_port
        Port of the configuration service.
    ready_file
        Write addresses and process ids there as JSON when everything is ready.
    shuffle
        Start the processes in another order, with pauses, as this number says: a system must not
        depend on who comes first.
    """
    from headwater.cli.supervising.spawner import Spawner

    if not file.is_file():
        from headwater.operations.documents import Document

        Document(file)  # raises the right error before anything is started
    raise_descriptors()
    given = {"gateway": port, "discovery": discovery_port, "config": config_port}
    with asyncio.Runner() as runner:
        # The fork server imports what the instances need while we read the file.
        spawner = Spawner(file.resolve().parent)
        try:
            code = runner.run(
                _up(spawner, lambda: _described(file, host), given, ready_file, shuffle)
            )
        finally:
            runner.run(spawner.close())
    if code:
        sys.exit(code)


def _described(file: Path, host: str | None) -> "System":
    from headwater.operations.system import load_system

    system = load_system(file)
    if host is None:
        return system
    return msgspec.structs.replace(system, gateway={**system.gateway, "host": host})


async def _up(
    spawner: "Spawner",
    describe: Callable[[], "System"],
    given: dict[str, int | None],
    ready_file: Path | None,
    shuffle: int | None,
) -> int:
    from headwater._os.signals import stop_signals
    from headwater.cli.logs import configure_logs
    from headwater.cli.supervising.output import Output
    from headwater.cli.supervising.plan import choose_ports, plan
    from headwater.cli.supervising.supervisor import Supervisor

    configure_logs("error")
    system = describe()
    with contextlib.ExitStack() as held:
        ports = choose_ports(system, given, held=held)
        held.enter_context(_only_one(system.data))
        parts = plan(system, ports)
        stop = asyncio.Event()
        output = Output([part.name for part in parts], lost=stop.set)
        supervisor = Supervisor(
            system, parts, ports, spawner=spawner, output=output, ready_file=ready_file
        )
        pauses_s = _pauses(parts, shuffle)

        asked: list[int] = []

        def told(number: int) -> None:
            stop.set()
            if number == signal.SIGHUP:  # a closed terminal may send several
                output.say("stopping, as the terminal was closed")
                return
            asked.append(number)
            if len(asked) > 1:
                supervisor.kill()
            output.say("stopping (once more to kill)" if len(asked) == 1 else "killing everything")

        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, told, number)
        try:
            code = await supervisor.run(stop, pauses_s)
            output.say(f"{system.name} has stopped")
        finally:
            await output.close()
        return code


def _pauses(parts: "Sequence[Part]", shuffle: int | None) -> dict[str, float]:
    """Return how long each process waits before it is started for the first time, seconds."""
    if shuffle is None:
        return {}
    draw = random.Random(shuffle)  # noqa: S311  # nothing secret
    return {part.name: draw.uniform(0.0, _SHUFFLE_S_MAX) for part in parts}


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Own the data directory; the system releases it whatever happens to this process."""
    with contextlib.ExitStack() as held:
        try:
            data.mkdir(parents=True, exist_ok=True)
            held.enter_context(owned(data / "up.lock"))
        except BlockingIOError as error:
            raise ConfigurationError(
                subject=str(data),
                reason="another `headwater up` uses this data: stop it, or set another `data`",
            ) from error
        except OSError as error:
            raise ConfigurationError(
                subject=str(data), reason=f"cannot be used for data: {error.strerror}"
            ) from error
        yield
