"""Run benchmarks and print their table; exit code 1 when one of them could not run."""

import sys

from benchmarks.figures import draw, keep
from benchmarks.harness import main

COMMANDS = {"keep": keep, "draw": draw}

if __name__ == "__main__":
    names = sys.argv[1:]
    if len(names) == 1 and names[0] in COMMANDS:
        COMMANDS[names[0]]()
    else:
        sys.exit(main(names))
