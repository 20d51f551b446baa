"""The command ``numba-stn``: one module for each subcommand.

A subcommand imports what it needs when it runs, so that ``--help`` is fast.
"""

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from . import bench, doctor, export, predict, register, reproduce, train, warmup, warp
from .options import UsageError
from .surroundings import OutputError, one_line, safe_streams, stop_signals

COMMANDS = (warp, register, train, predict, export, reproduce, bench, warmup, doctor)
EXAMPLES = "examples:\n" + "".join(command.EXAMPLES for command in COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    The codes are 0 if the command succeeded; 1 if a check failed (results of libraries differ,
    images do not match, or a training diverged), or if the command goes over several images or
    runs, and one of them failed; 2 if the input is invalid, or a file cannot be read or written;
    130 after Ctrl-C, 143 after
    SIGTERM and 129 after SIGHUP. One line on stderr says why.
    """
    with safe_streams(), stop_signals() as received:
        code = _run(argv)
        return 128 + received[0] if code == 130 and received else code


def _run(argv):
    """Run the command line, and report whatever stops it in one line."""
    try:
        try:
            args = parse(argv)
        except SystemExit:  # after --help
            sys.stdout.flush()
            raise
        code = args.run(args)
        sys.stdout.flush()  # now, because an error at Python's end is a traceback
        return code
    except UsageError as error:
        return _report(error, error.code)
    except RuntimeError as error:
        if "NUMBA_DISABLE_JIT" not in str(error):
            raise
        return _report(error, 2)
    except KeyboardInterrupt as error:
        return _report(f"stopped: {error}" if error.args else "stopped", 130)
    except OutputError as error:
        if isinstance(error.args[0], BrokenPipeError):  # the reader, for example ``head``, is gone
            return 0
        return _report(f"standard output: {error.args[0].strerror}", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _report(f"{where}{error.strerror or error}", 2)
    except MemoryError as error:
        return _report(f"not enough memory{f': {error}' if error.args else ''}", 2)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    argparse takes the files of ``warp a.png b.png --rotate 5 out`` only up to the first option. The
    others are added here.
    """
    top = parser()
    args, rest = top.parse_known_args(argv)
    if rest and (not hasattr(args, warp.MORE) or any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.more = [*args.more, *rest]
    return args


def _report(text, code):
    """Print why the command stops; returns the exit code."""
    print(f"numba-stn: {one_line(text)}", file=sys.stderr)
    return code


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
