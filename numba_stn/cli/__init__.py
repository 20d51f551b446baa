"""The command ``numba-stn``, a module for each subcommand.

What a subcommand needs is imported when it runs.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from . import bench, doctor, export, predict, register, reproduce, train, warmup, warp
from .options import UsageError

PARTS = (warp, register, train, predict, export, reproduce, bench, warmup, doctor)
EXAMPLES = "examples:\n" + "".join(part.EXAMPLES for part in PARTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.

    0: done; 1: a comparison found results that differ; 2: the input was at fault, one line on
    stderr says how; 130: stopped by Ctrl-C.
    """
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except UsageError as error:
        print(f"numba-stn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("numba-stn: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has had enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        "numba-stn",
        description="Spatial transformer networks without a framework.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"numba-stn {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for part in PARTS:
        part.add(commands)
    return top
