"""Ratios to the peers: ``python -m benchmarks.compare [--json FILE] [--rounds N] [ROW ...]``.

Every row does the same work on the same float32 inputs in one process: this project and each
installed peer in turn, warm, for several rounds; the figure is the median. Before the clock starts
the results are compared. A ratio is the peer's time by ours: above 1 we are faster. Peers come
from the extra ``peers``; one that is not installed is left out. Threads are as each library
chooses by default.
"""

import argparse
import json
import os
import platform
import statistics
import time
from importlib import metadata

from . import steps, warps

# Seconds before each turn, and a run that is not timed: for the other library's threads to fall
# asleep, and for the caches to hold one's own data.
PAUSE = 0.02

ROWS = {**warps.ROWS, **steps.ROWS}


def main() -> None:
    """Run the rows that are named, or all of them; print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("rows", nargs="*", metavar="ROW", help=f"some of {list(ROWS)}")
    arguments.add_argument("--rounds", type=int, default=9, help="default: 9")
    arguments.add_argument("--json", metavar="FILE", help="write the table as JSON")
    args = arguments.parse_args()
    if unknown := set(args.rows) - set(ROWS):
        arguments.error(f"no such rows: {sorted(unknown)}; there are {list(ROWS)}")
    table = []
    for name in args.rows or ROWS:
        row = measure(name, ROWS[name], args.rounds)
        table.append(row)
        print(line(row), flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": machine(), "rows": table}, file, indent=1)


def measure(name, prepare, rounds):
    """Median times of a row: ours in milliseconds, and each peer's ratio to it."""
    runners = {who: run for who, run in prepare().items() if run is not None}
    times = {who: [] for who in runners}
    for who, run in runners.items():  # compiled, allocated, warm
        for _ in range(2):
            run()
        times[who].clear()
    for _ in range(rounds):
        for who, run in runners.items():
            time.sleep(PAUSE)
            run()
            began = time.perf_counter()
            run()
            times[who].append(time.perf_counter() - began)
    medians = {who: statistics.median(each) for who, each in times.items()}
    ours = medians.pop("ours")
    return {
        "row": name,
        "ours_ms": round(1e3 * ours, 4),
        "ratios": {who: round(other / ours, 2) for who, other in medians.items()},
    }


def line(row):
    """A row of the table."""
    ratios = "   ".join(f"{ratio:6.2f} x {who}" for who, ratio in row["ratios"].items())
    return f"{row['row']:42s} {row['ours_ms']:10.3f} ms   {ratios}"


def machine():
    """What the figures were measured on."""
    names = ["numba-stn", "numba", "numpy", "torch", "opencv-python-headless", "scipy",
             "scikit-image", "kornia"]  # fmt: skip
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"processor": processor(), "cores": os.cpu_count(), "versions": versions}


def processor():
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(text.split(":")[1].strip() for text in file if "model name" in text)
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
