"""Lets hypothesis try other inputs than the tests do in every run, round by round.

Each round has a seed, which is printed when it begins, when it ends, and with what it finds; with
``--seed`` there is one round, of that seed. The first round that finds something is the last one.
"""

import argparse
import secrets
import subprocess
import sys
import time

TIMEOUT_S = 900  # of a test: making an input small takes a while
NO_TESTS = 5


def explore(seed: int, until: float | None, arguments: list[str]) -> int:
    """Run one round; return the exit code of pytest."""
    print(f"== explore SEED={seed}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "hypothesis", "-p", "no:randomly"]
    command += ["--hypothesis-profile", "explore", "--hypothesis-seed", str(seed)]
    command += ["--timeout", str(TIMEOUT_S), *arguments]
    if until is not None:
        command += ["--explore-until", str(until)]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - of a developer's own
    found = "nothing" if code in (0, NO_TESTS) else f"something (exit code {code})"
    print(f"== explore SEED={seed} found {found}", flush=True)
    return code


def main() -> int:
    """Explore; return the exit code of the last round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="begin nothing after so many")
    parser.add_argument("--seed", type=int, help="repeat the round of this seed, in any time")
    options, arguments = parser.parse_known_args()
    if options.seed is not None:
        return explore(options.seed, None, arguments)
    until = time.monotonic() + options.minutes * 60
    code = rounds = 0
    while not code and time.monotonic() < until:
        code = explore(secrets.randbelow(2**32), until, arguments)
        rounds += 1
    print(f"== explored {rounds} rounds")
    return code


if __name__ == "__main__":
    sys.exit(main())
