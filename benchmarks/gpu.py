"""Check and then time the CUDA kernels on this machine's GPU.

Run ``python -m benchmarks.gpu`` in a checkout, with NumPy, Numba and numba-cuda. PyTorch and CuPy
are peers, and CuPy's arrays are used if it is installed. First, values, gradients and repeated bits
are checked (:mod:`.gpu_checks`, :mod:`.gpu_derived`), then the device's copy bandwidth is measured,
then each row. numba_stn and each peer alternate in one process, after a warm-up; the result is the
median of several rounds, by CUDA events. A ratio is the peer's time divided by that of numba_stn:
above 1, numba_stn is faster. A peer whose results differ is named and not timed.

The exit code is 1 if a check failed, numba_stn failed in a row, or results differ, and 2 if there
is no GPU. A target that is missed is no failure.
"""

import argparse
import itertools
import json
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numba_stn.bench import clock
from numba_stn.bench.rows import ROUNDING, MissingError, disagreement
from numba_stn.utils.atomic_write import write_atomically
from numba_stn.utils.commit import current_commit
from numba_stn.utils.progress import progress

from . import gpu_derived, gpu_derived_rows, tables
from .gpu_arrays import Gpu
from .gpu_checks import checks
from .gpu_rows import Row, convert, one_line, rows

# A measurement lasts at least this number of milliseconds, in which a short call is repeated, up to
# a number of calls.
LEAST_MILLISECONDS = 40.0
MOST_CALLS = 500

# The number of calls whose launches are timed on the host: few enough that the driver's queue never
# fills.
LAUNCHES = 100

# The number of bytes that the measurement of the copy bandwidth copies.
COPIED_BYTES = 1 << 30

Found = dict[str, Any]


# --- The clock ------------------------------------------------------------------------------------


class Clock:
    """Time calls by CUDA events on the default stream, which all libraries use.

    Parameters
    ----------
    event : callable
        Makes an event: ``record()``, ``synchronize()``, ``elapsed_time(later)``.
    synchronize : callable
        Waits for the device.
    """

    def __init__(self, event: Callable[[], Any], synchronize: Callable[[], None]) -> None:
        self.event, self.synchronize = event, synchronize

    def device(self, run: Callable[[], object], count: int) -> float:
        """Measure milliseconds per call on the device, over this number of calls."""
        begin, end = self.event(), self.event()
        begin.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / count

    def call(self, run: Callable[[], object]) -> float:
        """Measure milliseconds per call, after one call that determines the number of calls."""
        first = self.device(run, 1)
        count = min(max(LEAST_MILLISECONDS / max(first, 1e-6), 1), MOST_CALLS)
        return self.device(run, int(count))

    def launch(self, run: Callable[[], object]) -> float:
        """Measure milliseconds on the host until a call returns, while the device still works."""
        run()
        self.synchronize()
        began = time.perf_counter()
        for _ in range(LAUNCHES):
            run()
        taken = time.perf_counter() - began
        self.synchronize()
        return 1e3 * taken / LAUNCHES


def medians(runs: Mapping[str, Callable], rounds: int, measure: Callable) -> dict[str, float]:
    """Median milliseconds of each library, measured in alternating rounds."""
    times: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(rounds):
        for who, run in runs.items():
            times[who].append(measure(run))
    return clock.medians(times)


# --- Rows -----------------------------------------------------------------------------------------


def measure(name: str, row: Row, gpu: Gpu, timer: Clock, rounds: int, speed: float | None) -> Found:
    """Measure our milliseconds, the peers' ratios, and our share of the copy bandwidth.

    Raises
    ------
    MissingError
        If numba_stn cannot do the work of this row.
    """
    p = row.problem()
    sets = [convert(p, gpu.put) for _ in range(copies(p, gpu.l2()))]
    runs, absent = {}, {}
    results: dict[str, Any] = {}
    for who, make in row.makers.items():
        try:
            runners = [make(each) for each in sets]
            results[who] = runners[-1].read(runners[-1].run())
        except Exception as error:
            if who == "ours":
                raise
            absent[who] = one_line(error)
            continue
        runs[who] = cycle([runner.run for runner in runners])
    differences = {who: disagreement(result, results["ours"], ROUNDING)
                   for who, result in results.items()}  # fmt: skip
    timed = {who: run for who, run in runs.items() if not differences[who]}
    times = medians(timed, rounds, timer.launch if row.launch else timer.call)
    ours = times.pop("ours")
    share = row.moved_bytes / ours / 1e6 / speed if row.moved_bytes and speed else None
    return {
        "row": name,
        "ours_ms": round(ours, 5),
        "ratios": {who: round(other / ours, 2) for who, other in times.items()},
        "share_of_copy": None if share is None else round(share, 3),
        "bars": dict(row.targets),
        "disagree": {who: how for who, how in differences.items() if how},
        "absent": absent,
    }


def copies(p: Any, cache: int) -> int:
    """Count the sets of inputs that a loop needs so that no call finds its inputs in the cache."""
    size = sum(getattr(part, "nbytes", 0) for part in p)
    return max(1, min(-(-4 * cache // max(size, 1)), 64)) if size > 1 << 20 else 1


def cycle(runs: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """Make a function that calls the next of these functions each time."""
    each = itertools.cycle(runs)
    return lambda: next(each)()


def bandwidth(gpu: Gpu, timer: Clock, rounds: int, size: int) -> Found:
    """Measure the gigabytes per second, read and written, of a copy within the device."""
    source = gpu.cuda.to_device(np.random.default_rng(0).integers(0, 256, size, np.uint8))
    target = gpu.cuda.device_array(size, np.uint8)
    times = [timer.call(lambda: target.copy_to_device(source)) for _ in range(rounds)]
    return {"bytes": size, "gb_per_s": round(2 * size / statistics.median(times) / 1e6, 1)}


# --- The command ----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Check and measure, and return the exit code."""
    args = parser().parse_args(argv)
    try:
        gpu = Gpu(args.arrays)
    except RuntimeError as error:
        return _usage_error(error)
    timer = Clock(gpu.cuda.event, gpu.cuda.synchronize)
    parts = Parts(
        checks(gpu, args.quick) | gpu_derived.checks(gpu, args.quick),
        rows(gpu, args.quick) | gpu_derived_rows.rows(gpu, args.quick),
        gpu, timer, args.rounds, COPIED_BYTES >> 6 if args.quick else COPIED_BYTES,
    )  # fmt: skip
    names = [*parts.checks, "copy bandwidth", *parts.rows]
    for word in args.rows:
        if not any(word in name for name in names):
            return _usage_error(f"no row's name contains {word!r}; --list prints the names")
    names = [name for name in names if not args.rows or any(word in name for word in args.rows)]
    names = share_of(names, *args.part)
    if args.profile:
        return profile([parts.rows[name] for name in names if name in parts.rows], gpu)
    if args.list:
        print("\n".join(names))
        return 0
    found = {**provenance(gpu, args, argv), "done": False, "checks": [], "rows": [],
             "skipped": [], "failed": []}  # fmt: skip
    try:
        write(args.json, found)
        for name in progress(names, str):
            parts.run(name, found)
            gpu.free()
            write(args.json, found)  # after each part, so that an interrupted run keeps its results
        found["done"] = True
        write(args.json, found)
    except OSError as error:
        return _usage_error(f"cannot write to {args.json}: {error.strerror}")
    except KeyboardInterrupt:
        return 130
    print(report(found))
    return int(bool(found["failed"]))


def share_of(names: Sequence[str], number: int, count: int) -> list[str]:
    """The names of one of several processes, which share the work.

    Checks of one operation, which need the same kernels, are in one process.
    """
    if count == 1:
        return list(names)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_KERNELS.sub("", name), []).append(name)
    return [name for group in list(groups.values())[number - 1 :: count] for name in group]


# What two names with the same kernels may differ in: what is checked, types, corners and shapes.
_KERNELS = re.compile(r"^(correct|same bits): | float(32|64)\b| (edges|corners)\b| \d+x.*")


def profile(listed: Sequence[Row], gpu: Gpu) -> int:
    """Run numba_stn's work of some rows once, after a warm-up, between marks for a profiler."""
    for row in listed:
        run = row.makers["ours"](convert(row.problem(), gpu.put)).run
        run()
        gpu.cuda.synchronize()
        gpu.cuda.profile_start()
        run()
        gpu.cuda.synchronize()
        gpu.cuda.profile_stop()
        gpu.free()
    return 0


class Parts(NamedTuple):
    """The checks and the rows by name, and what they run with."""

    checks: Mapping[str, Callable[[], Found]]
    rows: Mapping[str, Row]
    gpu: Gpu
    timer: Clock
    rounds: int
    copied_bytes: int

    def run(self, name: str, found: Found) -> None:
        """Run a check, a row or the copy, and add its result to ``found``."""
        try:
            wrong = self._result(name, found)
        except MissingError as error:
            found["skipped"].append({"row": name, "why": one_line(error)})
            return
        except Exception as error:  # the next part may succeed
            if "out of memory" in str(error).lower().replace("_", " "):
                found["skipped"].append({"row": name, "why": one_line(error)})
                return
            wrong = one_line(error)
        if wrong:
            found["failed"].append({"row": name, "why": wrong})

    def _result(self, name, found):
        """Add the result of a part, and describe what is wrong with it."""
        if name in self.checks:
            found["checks"].append(self.checks[name]())
            return found["checks"][-1]["wrong"]
        if name not in self.rows:
            found["copy"] = bandwidth(self.gpu, self.timer, self.rounds, self.copied_bytes)
            return ""
        speed = found.get("copy", {}).get("gb_per_s")
        row = measure(name, self.rows[name], self.gpu, self.timer, self.rounds, speed)
        found["rows"].append(row)
        return "; ".join(f"NOT {who}: {how}" for who, how in row["disagree"].items())


def report(found: Found) -> str:
    """Format all results, with losses and failures."""
    device, copy = found["gpu"], found.get("copy")
    name, capability = device["name"] or "unknown device", device["compute_capability"]
    lines = [f"{name}, compute capability {capability}, CUDA {device['runtime']}, "
             f"{device['arrays']} arrays"]  # fmt: skip
    worst = tables.gpu_errors(found)
    if worst:
        lines += ["largest errors against float64, divided by the largest value", worst, ""]
    passed = sum(not check["wrong"] for check in found["checks"])
    lines += [f"{passed} of {len(found['checks'])} checks passed"]
    lines += [f"copy: {copy['gb_per_s']} GB/s, read and written"] if copy else []
    lines += ["", tables.gpu(found), tables.losses(found)] if found["rows"] else []
    for row in found["rows"]:
        lines += [f"{row['row']}: without {who}: {why}" for who, why in row["absent"].items()]
    lines += [f"skipped: {each['row']}: {each['why']}" for each in found["skipped"]]
    lines += [f"FAILED: {each['row']}: {each['why']}" for each in found["failed"]]
    return "\n".join(lines)


def provenance(gpu: Gpu, args: argparse.Namespace, argv: Sequence[str] | None) -> Found:
    """Record the command, the commit and the device of a measurement."""
    words = sys.argv[1:] if argv is None else argv
    return {"command": " ".join(["python -m benchmarks.gpu", *words]),
            "commit": args.commit or current_commit(), "rounds": args.rounds, "quick": args.quick,
            "gpu": gpu.about()}  # fmt: skip


def write(path: str | None, found: Found) -> None:
    """Write the results to a file, completely or not at all."""
    if path is not None:
        file = pathlib.Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (json.dumps(found, indent=1) + "\n").encode())


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    result = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    add = result.add_argument
    add("--rows", nargs="+", default=[], metavar="WORD", help="only checks and rows whose name "
        "contains one of these; default: all")  # fmt: skip
    add("--rounds", type=_positive, default=9, metavar="N", help="how often each library is timed; "
        "default: 9")  # fmt: skip
    add("--json", metavar="FILE", help="write the results to this file, after every row")
    add("--quick", action="store_true", help="small shapes, for a quick test")
    add("--arrays", choices=("any", "cupy", "torch", "numba"), default="any", help="the library of "
        "the inputs; numba's allocator hides no access beyond an array")  # fmt: skip
    add("--part", type=_part, default=(1, 1), metavar="K/N", help="only the K-th of N parts, for "
        "several processes")  # fmt: skip
    add("--profile", action="store_true", help="run numba_stn's work of the rows once, for ncu "
        "--profile-from-start off")  # fmt: skip
    add("--list", action="store_true", help="print the names and exit")
    add("--commit", metavar="HASH", help="the commit that is measured, if the checkout has no .git")
    return result


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def _part(text):
    number, _, count = text.partition("/")
    if not 1 <= _positive(number) <= _positive(count):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 1 to N, got {text!r}")
    return int(number), int(count)


def _usage_error(why):
    print(f"python -m benchmarks.gpu: {' '.join(str(why).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
