"""``python -m benchmarks.compare``: what ``numba-stn bench`` does, in a checkout."""

import sys

from numba_stn.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
