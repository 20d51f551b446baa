"""Benchmarks for asv: the rows of the comparison, and the start-up time.

For each row, ``time_ours`` is the time of numba_stn, and ``track_ratio`` is a peer's time divided
by it. asv skips what the installed commit, or this machine, lacks.
"""

import os
import pathlib

from . import clock, memory, startup
from .report import ROWS
from .rows import MissingError, Runner

# Each commit has a cache of its own, so that no kernel of another commit is timed. asv sets both
# variables.
if {"ASV_ENV_DIR", "ASV_COMMIT"} <= os.environ.keys():
    _HERE = pathlib.Path(os.environ["ASV_ENV_DIR"], "numba", os.environ["ASV_COMMIT"])
    os.environ["NUMBA_CACHE_DIR"] = str(_HERE)


def rows(op: str) -> list[str]:
    """List the rows of an op."""
    return [name for name, row in ROWS.items() if row.op == op]


def prepared(name: str, who: str, problem: object) -> Runner:
    """Prepare a library for a row, and run it once."""
    makers = ROWS[name].makers
    if who not in makers:
        raise MissingError(f"{name} has no {who}")
    runner = makers[who](problem)
    runner.run()
    return runner


class _Times:
    """The time of numba_stn for each row."""

    param_names = ("row",)
    version = "1"
    warmup_time, sample_time, repeat, rounds = 0.2, 0.05, (3, 10, 2.0), 2

    def setup(self, row):
        self.run = prepared(row, "ours", ROWS[row].problem()).run

    def time_ours(self, row):
        self.run()


class _Ratios:
    """Each peer's time divided by ours: above 1, numba_stn is faster."""

    param_names = ("row", "peer")
    version = "1"
    unit = "times"

    def setup(self, row, peer):
        problem = ROWS[row].problem()
        self.runs = {who: prepared(row, who, problem).run for who in (peer, "ours")}

    def track_ratio(self, row, peer):
        times = clock.medians(clock.interleaved_times(self.runs, rounds=7, patience=2.0))
        return times[peer] / times["ours"]


class WarpAffine(_Times):
    """warp_affine."""

    params = (rows("warp_affine"),)


class WarpAffineRatios(_Ratios):
    """warp_affine against the peers."""

    params = (rows("warp_affine"), ["torch", "cv2"])


class BothWays(_Times):
    """warp_affine and its gradients."""

    params = (rows("warp_affine both ways"),)


class BothWaysRatios(_Ratios):
    """warp_affine and its gradients against PyTorch."""

    params = (rows("warp_affine both ways"), ["torch"])


class BothWaysMemory:
    """warp_affine and its gradients: peak memory, divided by inputs, samples and gradients."""

    params = (["x".join(map(str, shape)) for shape in memory.SHAPES],)
    param_names = ("shape",)
    version = "1"
    unit = "times"

    def track_peak(self, shape):
        needed, used = memory.peak("ours", tuple(map(int, shape.split("x"))))
        return used / needed

    def peakmem_both_ways(self, shape):
        memory.peak("ours", tuple(map(int, shape.split("x"))))


class GridSample(_Times):
    """grid_sample."""

    params = (rows("grid_sample"),)


class GridSampleRatios(_Ratios):
    """grid_sample against the peers."""

    params = (rows("grid_sample"), ["torch", "cv2"])


class WarpImage(_Times):
    """warp_image."""

    params = (rows("warp_image"),)


class WarpImageRatios(_Ratios):
    """warp_image against the peers."""

    params = (rows("warp_image"), ["torch", "cv2", "skimage", "scipy"])


class Resize(_Times):
    """resize and crop_and_resize."""

    params = (rows("resize"),)


class ResizeRatios(_Ratios):
    """resize and crop_and_resize against the peers."""

    params = (rows("resize"), ["cv2", "torch", "pillow"])


class Modes(_Times):
    """Other modes, volumes, projective maps, splines and layouts."""

    params = (rows("modes"),)


class ModesRatios(_Ratios):
    """Other modes, volumes, projective maps, splines and layouts against the peers."""

    params = (rows("modes"), ["torch", "cv2"])


class Training(_Times):
    """One Adam step."""

    params = (rows("training"),)


class TrainingRatios(_Ratios):
    """One Adam step against PyTorch."""

    params = (rows("training"), ["torch"])


class Startup:
    """The start-up time of a new process, without the interpreter's own start."""

    version = "1"
    number, repeat, rounds, warmup_time = 1, 3, 1, 0

    def timeraw_import(self):
        return "import numba_stn"

    def timeraw_first_call(self):
        return startup.FIRST_CALL, COMPILED

    def timeraw_first_call_compiling(self):
        return startup.FIRST_CALL, NOT_COMPILED


# Code that runs before the first call and is not timed.
COMPILED = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {startup.FIRST_CALL!r}], check=True)
"""
NOT_COMPILED = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = folder.name
"""
