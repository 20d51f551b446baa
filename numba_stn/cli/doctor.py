"""``numba-stn doctor``."""

import argparse
import sys

EXAMPLES = """\
  numba-stn doctor                                      check this installation
"""


def add(commands) -> None:
    """Add the subcommand and its options to the parser."""
    doctor = commands.add_parser(
        "doctor",
        help="check this installation: what works, what is missing, how to install it",
        description="Report versions, the processor, threads, the cache of compiled kernels, "
        "optional packages and CUDA. The exit code is 1 if warps on the CPU do not work.",
    )
    doctor.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``numba-stn doctor``; the exit code is 1 if the CPU's kernels do not work."""
    from . import environment

    healthy = True
    for finding in environment.findings():
        mark = "WARNS" if finding.warns else {True: "ok", False: "FAILS", None: "-"}[finding.ok]
        print(f"{mark:5}  {finding.name:18} {finding.text}", flush=True)
        if finding.advice:
            print(f"{'':5}  {'':18} {finding.advice}")
        healthy = healthy and (finding.ok is not False or not finding.required)
    if not healthy:
        print("numba-stn: warps do not work here; see above", file=sys.stderr)
    return int(not healthy)
