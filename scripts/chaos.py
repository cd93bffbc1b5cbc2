"""Lets the bank suffer one schedule of faults after the other: ``make chaos``."""

import argparse
import asyncio
import functools
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples/bank")]

from tests.system.chaos.play import play  # noqa: E402  # it is found only now


def main() -> int:
    """Play the schedules; return how many went wrong, 100 at most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first; the next is one more")
    parser.add_argument("--schedules", type=int, default=1, help="how many")
    parser.add_argument("--seconds", type=float, default=30.0, help="for how long things fail")
    parser.add_argument("--backend", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--bus", choices=("", "rabbitmq", "kafka"), default="")
    options = parser.parse_args()
    place = " ".join(filter(None, (options.backend, options.bus)))
    failed = 0
    for seed in range(options.seed, options.seed + options.schedules):
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{place.replace(' ', '-')}-{seed}-"))
        lines: list[str] = []
        say = functools.partial(_say, lines, time.monotonic(), shown=options.schedules == 1)
        run = play(
            seed, seconds=options.seconds, backend=options.backend, bus=options.bus,
            folder=folder, say=say,
        )  # fmt: skip
        try:
            print(f"{place} seed {seed}: {asyncio.run(run)}", flush=True)
            shutil.rmtree(folder)
        except Exception as error:  # noqa: BLE001  # whatever it is, the next one is played
            failed += 1
            print(f"{place} seed {seed}: {error!r}; see {folder}", flush=True)
            (folder / "schedule.log").write_text("\n".join([*lines, traceback.format_exc()]))
    print(f"{options.schedules - failed} of {options.schedules} schedules ended well")
    return min(failed, 100)


def _say(lines: list[str], began: float, text: str, *, shown: bool) -> None:
    lines.append(f"{time.monotonic() - began:6.1f} s  {text}")
    if shown:
        print(lines[-1], flush=True)


if __name__ == "__main__":
    sys.exit(main())
