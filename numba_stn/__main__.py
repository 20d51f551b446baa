"""``python -m numba_stn``: the command line."""

import sys

from .cli import main

sys.exit(main())
