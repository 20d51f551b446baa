"""``python -m benchmarks.gpu``: the CUDA kernels on this machine's GPU, checked and then timed.

In a checkout, with NumPy, Numba and numba-cuda; PyTorch and CuPy are peers, and CuPy's arrays are
used where it is installed. First values, gradients and repeated bits (:mod:`.gpu_checks`,
:mod:`.gpu_derived`), then the device's own copy bandwidth, then each row: this project and each
peer in turn, warm, in one process, by CUDA events, the median of several rounds. A ratio is the
peer's time by ours: above 1 we are faster. A peer whose results differ is named and not timed.

The exit code is 1 if a check failed, if a row of ours failed, or if results differ, and 2 where
there is no GPU to run on. A bar that is not reached is no failure.
"""

import argparse
import itertools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numba_stn.bench import clock
from numba_stn.bench.rows import ROUNDING, MissingError, disagreement
from numba_stn.utils.progress import progress
from numba_stn.utils.record import commit, write_atomically

from . import gpu_derived, gpu_derived_rows, tables
from .gpu_arrays import Gpu
from .gpu_checks import checks
from .gpu_rows import Row, line, placed, rows

# Milliseconds that a turn lasts at least: a short call is made again and again, as a loop would.
TURN = 40.0
MOST_CALLS = 500

# Calls whose launches are timed on the host: few enough that the driver's queue never fills.
LAUNCHES = 100

COPIED = 1 << 30

Found = dict[str, Any]


# --- The clock ------------------------------------------------------------------------------------


class Clock:
    """Milliseconds that calls take, by CUDA events on the default stream, where all libraries work.

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
        """Milliseconds a call, of so many calls one after another."""
        begin, end = self.event(), self.event()
        begin.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / count

    def turn(self, run: Callable[[], object]) -> float:
        """Milliseconds a call, after one that is not counted and tells how many a turn needs."""
        first = self.device(run, 1)
        return self.device(run, int(min(max(TURN / max(first, 1e-6), 1), MOST_CALLS)))

    def launch(self, run: Callable[[], object]) -> float:
        """Milliseconds of the host until a call returns, whatever the device still does."""
        run()
        self.synchronize()
        began = time.perf_counter()
        for _ in range(LAUNCHES):
            run()
        taken = time.perf_counter() - began
        self.synchronize()
        return 1e3 * taken / LAUNCHES


def medians(runs: Mapping[str, Callable], rounds: int, turn: Callable) -> dict[str, float]:
    """Each one's median milliseconds, of turns that alternate."""
    times: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(rounds):
        for who, run in runs.items():
            times[who].append(turn(run))
    return clock.medians(times)


# --- A row, measured ------------------------------------------------------------------------------


def measure(name: str, row: Row, gpu: Gpu, timer: Clock, rounds: int, speed: float | None) -> Found:
    """Our milliseconds, each peer's ratio to them, and our share of the copy bandwidth.

    Raises
    ------
    MissingError
        If we cannot do this row.
    """
    p = row.problem()
    sets = [placed(p, gpu.put) for _ in range(copies(p, gpu.l2()))]
    runs, absent = {}, {}
    results: dict[str, Any] = {}
    for who, make in row.makers.items():
        try:
            runners = [make(each) for each in sets]
            results[who] = runners[-1].read(runners[-1].run())
        except Exception as error:
            if who == "ours":
                raise
            absent[who] = line(error)
            continue
        runs[who] = in_turn([runner.run for runner in runners])
    apart = {who: disagreement(result, results["ours"], ROUNDING)
             for who, result in results.items()}  # fmt: skip
    turn = timer.launch if row.launch else timer.turn
    times = medians({who: run for who, run in runs.items() if not apart[who]}, rounds, turn)
    ours = times.pop("ours")
    share = row.moved / ours / 1e6 / speed if row.moved and speed else None
    return {
        "row": name,
        "ours_ms": round(ours, 5),
        "ratios": {who: round(other / ours, 2) for who, other in times.items()},
        "share_of_copy": None if share is None else round(share, 3),
        "bars": dict(row.bars),
        "disagree": {who: how for who, how in apart.items() if how},
        "absent": absent,
    }


def copies(p: Any, cache: int) -> int:
    """How many sets of inputs it takes for a call to find none of its own in the cache."""
    size = sum(getattr(part, "nbytes", 0) for part in p)
    return max(1, min(-(-4 * cache // max(size, 1)), 64)) if size > 1 << 20 else 1


def in_turn(runs: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """A function that calls the next one each time."""
    each = itertools.cycle(runs)
    return lambda: next(each)()


def bandwidth(gpu: Gpu, timer: Clock, rounds: int, size: int) -> Found:
    """Gigabytes a second, read and written, of the device's copy to itself."""
    source = gpu.cuda.to_device(np.random.default_rng(0).integers(0, 256, size, np.uint8))
    target = gpu.cuda.device_array(size, np.uint8)
    times = [timer.turn(lambda: target.copy_to_device(source)) for _ in range(rounds)]
    return {"bytes": size, "gb_per_s": round(2 * size / statistics.median(times) / 1e6, 1)}


# --- The command ----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Check and measure; the exit code."""
    args = parser().parse_args(argv)
    try:
        gpu = Gpu()
    except RuntimeError as error:
        return _refused(error)
    timer = Clock(gpu.cuda.event, gpu.cuda.synchronize)
    checked = checks(gpu, args.quick) | gpu_derived.checks(gpu, args.quick)
    timed = rows(gpu, args.quick) | gpu_derived_rows.rows(gpu, args.quick)
    names = [*checked, "copy bandwidth", *timed]
    for word in args.rows:
        if not any(word in name for name in names):
            return _refused(f"no row's name holds {word!r}; --list shows the names")
    names = [name for name in names if not args.rows or any(word in name for word in args.rows)]
    if args.list:
        print("\n".join(names))
        return 0
    found = {**circumstances(gpu, args, argv), "done": False, "checks": [], "rows": [],
             "skipped": [], "failed": []}  # fmt: skip
    try:
        write(args.json, found)
        for name in progress(names, str):
            one(name, checked, timed, gpu, timer, args, found)
            gpu.tidy()
            write(args.json, found)  # so that what was measured outlives a run that is cut off
        found["done"] = True
        write(args.json, found)
    except OSError as error:
        return _refused(f"cannot write to {args.json}: {error.strerror}")
    except KeyboardInterrupt:
        return 130
    print(report(found))
    return int(bool(found["failed"]))


def one(name, checked, timed, gpu, timer, args, found):
    """Do one of the parts, and put what came out where it belongs."""
    try:
        if name in checked:
            found["checks"].append(checked[name]())
            wrong = found["checks"][-1]["wrong"]
        elif name in timed:
            speed = found.get("copy", {}).get("gb_per_s")
            row = measure(name, timed[name], gpu, timer, args.rounds, speed)
            found["rows"].append(row)
            wrong = "; ".join(f"NOT {who}: {how}" for who, how in row["disagree"].items())
        else:
            size, wrong = COPIED >> 6 if args.quick else COPIED, ""
            found["copy"] = bandwidth(gpu, timer, args.rounds, size)
    except MissingError as error:
        found["skipped"].append({"row": name, "why": line(error)})
        return
    except Exception as error:  # the next row may do
        if "out of memory" in str(error).lower().replace("_", " "):
            found["skipped"].append({"row": name, "why": line(error)})
            return
        wrong = line(error)
    if wrong:
        found["failed"].append({"row": name, "why": wrong})


def report(found: Found) -> str:
    """What is printed in the end, losses and failures included."""
    device, copy = found["gpu"], found.get("copy")
    name, capability = device["name"] or "unknown device", device["compute_capability"]
    lines = [f"{name}, compute capability {capability}, CUDA {device['runtime']}, "
             f"{device['arrays']} arrays"]  # fmt: skip
    worst = tables.gpu_errors(found)
    lines += ["largest errors against float64, by the largest value", worst, ""] if worst else []
    right = sum(not check["wrong"] for check in found["checks"])
    lines += [f"{right} of {len(found['checks'])} checks passed"]
    lines += [f"copy: {copy['gb_per_s']} GB/s, read and written"] if copy else []
    lines += ["", tables.gpu(found), tables.losses(found)] if found["rows"] else []
    for row in found["rows"]:
        lines += [f"{row['row']}: without {who}: {why}" for who, why in row["absent"].items()]
    lines += [f"skipped: {each['row']}: {each['why']}" for each in found["skipped"]]
    lines += [f"FAILED: {each['row']}: {each['why']}" for each in found["failed"]]
    return "\n".join(lines)


def circumstances(gpu: Gpu, args: argparse.Namespace, argv: Sequence[str] | None) -> Found:
    """What is measured with what."""
    words = sys.argv[1:] if argv is None else argv
    return {"command": " ".join(["python -m benchmarks.gpu", *words]),
            "commit": args.commit or commit(), "rounds": args.rounds, "quick": args.quick,
            "gpu": gpu.about()}  # fmt: skip


def write(path: str | None, found: Found) -> None:
    """The figures to a file, whole or not at all."""
    if path is not None:
        file = pathlib.Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (json.dumps(found, indent=1) + "\n").encode())


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    found = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    add = found.add_argument
    add("--rows", nargs="+", default=[], metavar="WORD", help="checks and rows whose name holds "
        "one of these; default: all")  # fmt: skip
    add("--rounds", type=_positive, default=9, metavar="N", help="default: 9")
    add("--json", metavar="FILE", help="write the figures to this file, after every row")
    add("--quick", action="store_true", help="small shapes, for a first look")
    add("--list", action="store_true", help="show the names")
    add("--commit", metavar="HASH", help="what is measured, where the checkout has no .git")
    return found


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def _refused(why):
    print(f"python -m benchmarks.gpu: {' '.join(str(why).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
