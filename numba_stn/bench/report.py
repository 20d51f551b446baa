"""The report of ``numba-stn bench``: measure the rows, then print and save the results.

In a row, numba_stn and each installed peer do the same work on the same inputs in one process, in
alternating rounds, after a warm-up; the result is the median. Before the measurement, the results
are compared with one another and with PyTorch's in float64. A ratio is the peer's time divided by
that of numba_stn: above 1, numba_stn is faster. A peer that is not installed, or cannot do the
work, is left out; one whose results differ is named and not timed. Each library uses its default
number of threads.
"""

import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from typing import Any

from . import (
    clock,
    gradients,
    grids,
    image_operations,
    images,
    memory,
    modes,
    operations,
    resizes,
    second_derivatives,
    splines,
    startup,
    training_steps,
    warps,
)
from .rows import MissingError, Row, Runner, disagreement, relative_difference, runners, to_float64

ROWS: dict[str, Row] = {
    **warps.ROWS, **grids.ROWS, **modes.ROWS, **splines.ROWS, **gradients.ROWS, **images.ROWS,
    **image_operations.ROWS, **resizes.ROWS, **operations.ROWS, **second_derivatives.ROWS,
    **training_steps.ROWS,
}  # fmt: skip

LIBRARIES = ("numba-stn", "numba", "numpy", "torch", "opencv-python-headless", "scipy",
             "scikit-image", "kornia", "kornia_rs", "pillow", "ipp")  # fmt: skip

Table = list[dict[str, Any]]


def prepared(name: str, who: str, problem: Any) -> Runner:
    """Prepare a library for a row, and run it once."""
    makers = ROWS[name].makers
    if who not in makers:
        raise MissingError(f"{name} has no {who}")
    runner = makers[who](problem)
    runner.run()
    return runner


def choose(words: Sequence[str]) -> list[str]:
    """List the rows and tables whose name contains one of these words; all if there are none."""
    names = [*ROWS, "memory", "startup"]
    for word in words:
        if not any(word in name for name in names):
            raise LookupError(f"no row's name contains {word!r}; --list prints the names")
    return [name for name in names if not words or any(word in name for word in words)]


def comparison(names: Sequence[str], rounds: int, output: Callable[[str], None]) -> dict[str, Any]:
    """Measure the rows and tables with these names, and output each result as a line of text."""
    found: dict[str, Any] = {"rows": []}
    for name in names:
        if name in ROWS:
            row = measure(name, ROWS[name], rounds)
            found["rows"] += [row] if row else []
            output(_line(row) if row else f"{name:42s} skipped: this version lacks it")
    if "memory" in names:
        found["memory"] = memory.table()
        title = "peak memory, divided by that of inputs, samples and gradients"
        output(_lines(title, found["memory"]))
    if "startup" in names:
        found["startup"] = startup.table(rounds)
        output(_lines("seconds of a new process", found["startup"]))
    if errors := [_error_line(row) for row in found["rows"] if row.get("errors")]:
        title = "largest error against float64, divided by the largest value"
        output("\n".join(["", title, *errors]))
    return found


def measure(name: str, row: Row, rounds: int, patience: float = clock.PATIENCE) -> dict[str, Any]:
    """Measure a row: our milliseconds, the peers' ratios, and errors; empty if we lack it."""
    try:
        problem = row.problem()
    except MissingError:
        return {}
    libraries = runners(row, problem)
    if not libraries:
        return {}
    results = {who: runner.read(runner.run()) for who, runner in libraries.items()}
    differences = {who: disagreement(found, results["ours"], libraries[who].tolerance)
                   for who, found in results.items()}  # fmt: skip
    errors = _errors(row, problem, results)
    runs = {who: runner.run for who, runner in libraries.items() if not differences[who]}
    times = clock.interleaved_times(runs, rounds, patience)
    medians = clock.medians(times)
    ours = medians.pop("ours")
    return {
        "row": name,
        "ours_ms": round(1e3 * ours, 5),
        "ratios": {who: round(other / ours, 2) for who, other in medians.items()},
        "rounds": {who: len(each) for who, each in times.items()},
        "errors": errors,
        "disagree": {who: how for who, how in differences.items() if how},
    }


def _errors(row, problem, results):
    """Largest errors of numba_stn and PyTorch, against PyTorch in float64; none of integers."""
    if any(part.dtype.kind in "iu" for part in results.get("torch", {}).values()):
        return {}
    if "torch" not in results:
        return {}
    runner = row.makers["torch"](to_float64(problem))
    exact = runner.read(runner.run())
    return {
        part: {
            who: float(f"{relative_difference(results[who][part], exact[part]).max():.3g}")
            for who in ("ours", "torch")
        }
        for part in exact
    }


# --- Text -----------------------------------------------------------------------------------------


def _line(row):
    return f"{row['row']:42s} {row['ours_ms']:10.3f} ms   {ratios(row)}"


def ratios(row: dict[str, Any]) -> str:
    """Format the peers' ratios, and name the peers whose results differ."""
    return "   ".join([
        *(f"{ratio:6.2f} x {who}" for who, ratio in row["ratios"].items()),
        *(f"NOT {who}: {how}" for who, how in row["disagree"].items()),
    ])  # fmt: skip


def _error_line(row):
    parts = (
        f"{part} {error['ours']:.2g} (torch {error['torch']:.2g})"
        for part, error in row["errors"].items()
    )
    return f"{row['row']:42s} {'   '.join(parts)}"


def _lines(title, table):
    rows = ("   ".join(f"{value!s:42}" if k == 0 else str(value)
            for k, value in enumerate(row.values())) for row in table)  # fmt: skip
    return "\n".join(["", title, *(rows if table else ["not available on this system"])])


# --- Provenance -----------------------------------------------------------------------------------


def provenance(command: Sequence[str], rounds: int) -> dict[str, Any]:
    """Record the command, the commit and the machine of a measurement."""
    from numba_stn.utils.commit import current_commit

    return {"command": " ".join(command), "rounds": rounds, "commit": current_commit(),
            "machine": machine()}  # fmt: skip


def machine() -> dict[str, Any]:
    """Describe the processor, its cores and their speed-up, and each library's version."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    cores = os.cpu_count() or 1
    speedups = clock.thread_speedups(cores)
    return {"processor": processor(), "cores": cores,
            "threads_worth": {"least": round(speedups[0], 2),
                              "median": round(statistics.median(speedups), 2),
                              "most": round(speedups[-1], 2)},
            "threads": threads(), "python": platform.python_version(),
            "versions": versions}  # fmt: skip


def threads() -> dict[str, int]:
    """Count the threads of each library that is loaded."""
    functions = {"numba": "get_num_threads", "torch": "get_num_threads", "cv2": "getNumThreads"}
    return {
        name: getattr(import_module(name), function)()
        for name, function in functions.items()
        if name in sys.modules
    }


def processor() -> str:
    """Name the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(text.split(":")[1].strip() for text in file if "model name" in text)
    except (OSError, StopIteration):
        return platform.processor()
