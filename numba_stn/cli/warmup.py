"""``numba-stn warmup``."""

import argparse
import time

from ..utils.progress import progress
from .options import UsageError

EXAMPLES = """\
  numba-stn warmup                                      compile now, not at the first calls
"""


def add(commands) -> None:
    """Its options."""
    warmup = commands.add_parser(
        "warmup",
        help="compile the kernels now, not at the first calls",
        description="Compile the kernels for the usual calls and leave them in Numba's cache, "
        "where later processes find them.",
    )
    warmup.add_argument("calls", nargs="*", metavar="CALL", help="calls whose name holds this, as "
        "float32 or warp_affine; default: all")  # fmt: skip
    warmup.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn warmup``."""
    from .. import warmup

    began = time.perf_counter()
    folder = warmup.cache_folder()
    if folder is None:
        raise UsageError("Numba finds no folder for its cache; set NUMBA_CACHE_DIR to one")
    try:
        calls = warmup.choose(args.calls)
    except LookupError as error:
        raise UsageError(error.args[0]) from error
    for call in progress(calls, lambda call: call.name):
        call.run()
    print(f"warm after {time.perf_counter() - began:.0f} s; the cache is {folder}")
    return 0
