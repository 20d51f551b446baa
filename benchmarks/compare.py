"""``python -m benchmarks.compare`` runs ``numba-stn bench`` in a checkout."""

import sys

from numba_stn.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
