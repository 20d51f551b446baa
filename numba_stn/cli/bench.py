"""``numba-stn bench``."""

import argparse
import contextlib
import pathlib
import sys

from ..utils.progress import progress
from .options import UsageError, output_files, positive, rate

EXAMPLES = """\
  numba-stn bench warp_affine                           compare the speed with other libraries
"""


def add(commands) -> None:
    """Add the subcommand and its options to the parser."""
    bench = commands.add_parser(
        "bench",
        help="compare the speed with other installed libraries",
        description="Time numba_stn and each installed peer on the same work, in alternating "
        "rounds, after a check that the results agree. A ratio is the peer's time divided by that "
        "of numba_stn: 3.0 means that numba_stn is three times faster, 0.5 that it is twice as "
        "slow.",
    )
    add = bench.add_argument
    add("rows", nargs="*", metavar="ROW", help="only rows whose name contains this; default: all")
    add("--rounds", type=positive, default=9, metavar="N",
        help="how often each library is timed; default: 9")  # fmt: skip
    add("--json", metavar="FILE", help="also write the results to this file")
    add("--list", action="store_true", help="print the names of the rows and exit")
    add("--sweep", action="store_true", help="vary angle, zoom, size and channels instead of "
        "timing the rows; takes some minutes")  # fmt: skip
    add("--cells", action="store_true", help="time every combination of size, dtype, channels, "
        "padding, mode and map of the operations that ROW names, beside one peer each, and print "
        "the slowest; takes some minutes")  # fmt: skip
    add("--least", type=rate, metavar="RATIO", help="with --cells: fail if a cell's "
        "ratio is below this")  # fmt: skip
    bench.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``numba-stn bench``; the exit code is 1 if results differ or a cell is too slow."""
    from ..bench import cells, report

    if args.sweep and args.cells:
        raise UsageError("--cells: expected no --sweep, got both")
    if args.least is not None and not args.cells:
        raise UsageError("--least: expected --cells, whose ratios it limits")
    if args.sweep and args.rows:
        raise UsageError("--sweep: expected no row names, because it replaces the rows")
    try:
        names = (cells if args.cells else report).choose(args.rows)
    except LookupError as error:
        raise UsageError(error.args[0]) from error
    if args.list:
        print("\n".join(names))
        return 0
    with _report_file(args) as write:
        found = _measured(args, names)
        write(found)
    measured = (row for part in ("rows", "sweep", "cells") for row in found.get(part, []))
    disagree = any(row["disagree"] for row in measured)
    slow = cells.below(found.get("cells", []), args.least or 0.0)
    for cell in slow:
        print(f"below {args.least}: {cell}", file=sys.stderr)
    return int(disagree or bool(slow))


def _measured(args, names):
    """Measure the rows, the sweep or the cells, and print the results."""
    from ..bench import cells, report, sweep

    if args.cells:
        every = [cell for name in names for cell in cells.families()[name]]
        measured = cells.measure(progress(every, cells.name), args.rounds)
        print("\n".join(cells.summary(measured)))
        return {"cells": measured}
    if not args.sweep:
        return report.comparison(names, args.rounds, lambda text: print(text, flush=True))
    found = sweep.table(progress(sweep.points(), sweep.name), args.rounds)
    for point in found:
        print(sweep.line(point))
    return {"sweep": found}


@contextlib.contextmanager
def _report_file(args):
    """Give a function that writes the results to ``--json``; check first that it can."""
    import json

    from ..bench import report
    from ..utils.atomic_write import write_atomically

    if args.json is None:
        yield lambda found: None
        return
    path = pathlib.Path(args.json)
    if path.is_dir():
        raise UsageError(f"--json {path}: expected a file name, got a folder")

    def write(found):
        found = report.provenance(["numba-stn", *sys.argv[1:]], args.rounds) | found
        write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())

    with output_files([path]):
        yield write
