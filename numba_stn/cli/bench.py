"""``numba-stn bench``."""

import argparse
import contextlib
import pathlib
import sys

from ..utils.progress import progress
from .options import UsageError, folder_of, positive

EXAMPLES = """\
  numba-stn bench warp_affine                           race the other libraries at this
"""


def add(commands) -> None:
    """Its options."""
    bench = commands.add_parser(
        "bench",
        help="race the other libraries installed here",
        description="Time this project and each installed peer at the same work, in turn, after a "
        "check that the results agree. A ratio is the peer's time by ours.",
    )
    add = bench.add_argument
    add("rows", nargs="*", metavar="ROW", help="rows whose name holds this; default: all")
    add("--rounds", type=positive, default=9, metavar="N", help="default: 9")
    add("--json", metavar="FILE", help="write the figures to this file too")
    add("--list", action="store_true", help="show the rows' names")
    add("--sweep", action="store_true", help="instead of the rows, sweep angle, zoom, size and "
        "channels; takes some minutes")  # fmt: skip
    bench.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn bench``; 1 if a peer's results differ from ours."""
    from ..bench import report

    if args.sweep and args.rows:
        raise UsageError("--sweep: it measures instead of the rows; name none")
    try:
        names = report.choose(args.rows)
    except LookupError as error:
        raise UsageError(error.args[0]) from error
    if args.list:
        print("\n".join(names))
        return 0
    with _report_file(args) as write:
        found = _measured(args, names)
        write(found)
    return int(any(row["disagree"] for row in [*found.get("rows", []), *found.get("sweep", [])]))


def _measured(args, names):
    """The figures asked for, said as they come."""
    from ..bench import report, sweep

    if not args.sweep:
        return report.comparison(names, args.rounds, lambda text: print(text, flush=True))
    found = sweep.table(progress(sweep.points(), sweep.name), args.rounds)
    for point in found:
        print(sweep.line(point))
    return {"sweep": found}


@contextlib.contextmanager
def _report_file(args):
    """A function that writes the figures to ``--json``, which is tried before there are any."""
    import json

    from ..bench import report
    from ..utils.record import write_atomically

    if args.json is None:
        yield lambda found: None
        return
    path = pathlib.Path(args.json)

    def write(found):
        found = report.circumstances(["numba-stn", *sys.argv[1:]], args.rounds) | found
        write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())

    with folder_of(path.parent):
        yield write
