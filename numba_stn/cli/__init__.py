"""The command ``numba-stn``: one module for each subcommand.

A subcommand imports what it needs when it runs, so that ``--help`` is fast.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from . import bench, doctor, export, predict, register, reproduce, train, warmup, warp
from .options import UsageError

COMMANDS = (warp, register, train, predict, export, reproduce, bench, warmup, doctor)
EXAMPLES = "examples:\n" + "".join(command.EXAMPLES for command in COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    The codes are 0 if the command succeeded, 1 if a check failed (results of libraries differ,
    images do not match, or a training diverged), 2 if the input is invalid, and 130 after Ctrl-C.
    One line on stderr says why it is 1 or 2.
    """
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except UsageError as error:
        print(f"numba-stn: {error}", file=sys.stderr)
        return error.code
    except RuntimeError as error:
        if "NUMBA_DISABLE_JIT" not in str(error):
            raise
        print(f"numba-stn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("numba-stn: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, for example ``head``, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = argparse.ArgumentParser(
        "numba-stn",
        description="Spatial transformer networks without a framework.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"numba-stn {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top
