"""Run benchmarks and print their table; exit code 1 when one of them could not run."""

import sys

from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
