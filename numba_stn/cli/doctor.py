"""``numba-stn doctor``."""

import argparse
import sys

EXAMPLES = """\
  numba-stn doctor                                      what works here, and what is missing
"""


def add(commands) -> None:
    """Its options."""
    doctor = commands.add_parser(
        "doctor",
        help="say what works here, what is missing, and how to get it",
        description="Versions, processor, threads, the cache of compiled kernels, and CUDA. The "
        "exit code is 1 if something that warps on the CPU need does not work.",
    )
    doctor.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn doctor``; 1 if the CPU's kernels do not work."""
    from . import environment

    well = True
    for finding in environment.findings():
        mark = {True: "ok", False: "FAILS", None: "-"}[finding.well]
        print(f"{mark:5}  {finding.name:18} {finding.text}", flush=True)
        if finding.advice:
            print(f"{'':5}  {'':18} {finding.advice}")
        well = well and (finding.well is not False or not finding.needed)
    if not well:
        print("numba-stn: warps do not work here; see above", file=sys.stderr)
    return int(not well)
