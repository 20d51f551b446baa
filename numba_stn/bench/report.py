"""What ``numba-stn bench`` prints and writes.

Every row does the same work on the same inputs in one process: this project and each installed
peer in turn, warm, for several rounds; the figure is the median. Before the clock starts the
results are compared, and held against PyTorch's in float64. A ratio is the peer's time by ours:
above 1 we are faster. A peer that is not installed, or cannot do the work, is left out; one whose
results differ is named and not timed. Threads are as each library chooses by default.
"""

import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from typing import Any

from . import clock, grids, images, memory, modes, splines, startup, steps, warps
from .rows import MissingError, Row, difference, disagreement, runners, widened

ROWS: dict[str, Row] = {
    **warps.ROWS, **grids.ROWS, **images.ROWS, **modes.ROWS, **splines.ROWS, **steps.ROWS,
}  # fmt: skip

LIBRARIES = ("numba-stn", "numba", "numpy", "torch", "opencv-python-headless", "scipy",
             "scikit-image", "kornia")  # fmt: skip

Table = list[dict[str, Any]]


def choose(words: Sequence[str]) -> list[str]:
    """Names of the rows and tables that hold one of these words; all of them if there are none."""
    names = [*ROWS, "memory", "startup"]
    for word in words:
        if not any(word in name for name in names):
            raise LookupError(f"no row's name holds {word!r}; --list shows the names")
    return [name for name in names if not words or any(word in name for word in words)]


def comparison(names: Sequence[str], rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure the rows and tables of these names; say each as it is done."""
    found: dict[str, Any] = {"rows": []}
    for name in names:
        if name in ROWS:
            row = measure(name, ROWS[name], rounds)
            found["rows"] += [row] if row else []
            say(_line(row) if row else f"{name:42s} left out: it is not in this version")
    if "memory" in names:
        found["memory"] = memory.table()
        say(_lines("peak memory by that of inputs, samples and gradients", found["memory"]))
    if "startup" in names:
        found["startup"] = startup.table(rounds)
        say(_lines("seconds of a new process", found["startup"]))
    if errors := [_error_line(row) for row in found["rows"] if row.get("errors")]:
        say("\n".join(["", "largest error against float64, by the largest value", *errors]))
    return found


def measure(name: str, row: Row, rounds: int, patience: float = clock.PATIENCE) -> dict[str, Any]:
    """A row: our milliseconds, each peer's ratio to them, and the errors; empty if we lack it."""
    try:
        problem = row.problem()
    except MissingError:
        return {}
    able = runners(row, problem)
    if not able:
        return {}
    results = {who: runner.read(runner.run()) for who, runner in able.items()}
    apart = {who: disagreement(found, results["ours"], able[who].tolerance)
             for who, found in results.items()}  # fmt: skip
    errors = _errors(row, problem, results)
    runs = {who: runner.run for who, runner in able.items() if not apart[who]}
    times = clock.turns(runs, rounds, patience)
    medians = clock.medians(times)
    ours = medians.pop("ours")
    return {
        "row": name,
        "ours_ms": round(1e3 * ours, 5),
        "ratios": {who: round(other / ours, 2) for who, other in medians.items()},
        "rounds": {who: len(each) for who, each in times.items()},
        "errors": errors,
        "disagree": {who: how for who, how in apart.items() if how},
    }


def _errors(row, problem, results):
    """Largest errors of ours and PyTorch's against PyTorch in float64."""
    if "torch" not in results:
        return {}
    runner = row.makers["torch"](widened(problem))
    exact = runner.read(runner.run())
    return {
        part: {
            who: float(f"{difference(results[who][part], exact[part]).max():.3g}")
            for who in ("ours", "torch")
        }
        for part in exact
    }


# --- Lines ----------------------------------------------------------------------------------------


def _line(row):
    return f"{row['row']:42s} {row['ours_ms']:10.3f} ms   {ratios(row)}"


def ratios(row: dict[str, Any]) -> str:
    """The peers' ratios, and those whose results differ, so that their times compare nothing."""
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
    return "\n".join(["", title, *(rows if table else ["not known on this system"])])


# --- Where it was measured ------------------------------------------------------------------------


def circumstances(command: Sequence[str], rounds: int) -> dict[str, Any]:
    """What the figures were measured with."""
    from numba_stn.utils.record import commit

    return {"command": " ".join(command), "rounds": rounds, "commit": commit(),
            "machine": machine()}  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, cores and what their threads are worth, each library's threads and version."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    cores = os.cpu_count() or 1
    worth = clock.threads_worth(cores)
    return {"processor": processor(), "cores": cores,
            "threads_worth": {"least": round(worth[0], 2),
                              "median": round(statistics.median(worth), 2),
                              "most": round(worth[-1], 2)},
            "threads": threads(), "python": platform.python_version(),
            "versions": versions}  # fmt: skip


def threads() -> dict[str, int]:
    """Threads that each library uses, of those that are loaded."""
    asked = {"numba": "get_num_threads", "torch": "get_num_threads", "cv2": "getNumThreads"}
    return {
        name: getattr(import_module(name), function)()
        for name, function in asked.items()
        if name in sys.modules
    }


def processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(text.split(":")[1].strip() for text in file if "model name" in text)
    except (OSError, StopIteration):
        return platform.processor()
