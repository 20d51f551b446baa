"""``numba-stn warmup``."""

import argparse
import time

from ..utils.progress import progress_bar
from .options import UsageError

EXAMPLES = """\
  numba-stn warmup                                      compile all usual kernels now
  numba-stn warmup images training                      those of images and of training
"""


def add(commands) -> None:
    """Add the subcommand and its options to the parser."""
    warmup = commands.add_parser(
        "warmup",
        help="compile the kernels now instead of at their first call",
        description="Compile the kernels of the usual calls and write them to Numba's cache, from "
        "which later processes load them. What is in the cache already takes no time.",
    )
    warmup.add_argument("calls", nargs="*", metavar="CALL", help="only calls whose name contains "
        'this, for example images, training, registration, uint8 or warp_affine; "all": also '
        "those that are less usual; default: the usual ones")  # fmt: skip
    warmup.add_argument("--list", action="store_true", help="print the calls' names and exit")
    warmup.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``numba-stn warmup``."""
    from .. import warmup

    began = time.perf_counter()
    try:
        calls = warmup.choose(args.calls)
    except LookupError as error:
        raise UsageError(error.args[0]) from error
    if args.list:
        print("\n".join(call.name for call in calls))
        return 0
    folder = warmup.cache_folder()
    if folder is None:
        raise UsageError("Numba has no writable cache folder; set NUMBA_CACHE_DIR to one")
    processes = warmup.process_count(calls)
    seconds = warmup.expected_seconds(calls, processes)
    print(f"{len(calls)} calls, processes: {processes}; about {seconds:.0f} s if none is compiled "
          f"yet", flush=True)  # fmt: skip
    with progress_bar(len(calls), " calls") as advance:
        for _ in warmup.compile_calls(calls, processes):
            advance(1)
    print(f"finished after {time.perf_counter() - began:.0f} s; the cache is {folder}")
    return 0
