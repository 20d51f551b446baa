"""``numba-stn warmup``."""

import argparse
import time

from ..utils.progress import progress
from .options import UsageError

EXAMPLES = """\
  numba-stn warmup                                      compile all usual kernels now
"""


def add(commands) -> None:
    """Add the subcommand and its options to the parser."""
    warmup = commands.add_parser(
        "warmup",
        help="compile the kernels now instead of at their first call",
        description="Compile the kernels of the usual calls and write them to Numba's cache, from "
        "which later processes load them.",
    )
    warmup.add_argument("calls", nargs="*", metavar="CALL", help="only calls whose name contains "
        "this, for example float32 or warp_affine; default: all")  # fmt: skip
    warmup.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``numba-stn warmup``."""
    from .. import warmup

    began = time.perf_counter()
    folder = warmup.cache_folder()
    if folder is None:
        raise UsageError("Numba has no writable cache folder; set NUMBA_CACHE_DIR to one")
    try:
        calls = warmup.choose(args.calls)
    except LookupError as error:
        raise UsageError(error.args[0]) from error
    for call in progress(calls, lambda call: call.name):
        call.run()
    print(f"finished after {time.perf_counter() - began:.0f} s; the cache is {folder}")
    return 0
