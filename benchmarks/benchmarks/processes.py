"""Whole processes: the import, the first call, and peak memory."""

from .common import bench, sides

# Code that runs before the first call and is not timed. asv runs ``timeraw`` code by itself.
CALL = bench("startup").FIRST_CALL
COMPILED = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {CALL!r}], check=True)
"""
NOT_COMPILED = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = folder.name
"""
ROTATE = "import numpy, numba_stn; numba_stn.rotate(numpy.zeros((64, 64, 3), 'u1'), 30)"
PROCESSES = {
    "import": "import numba_stn",
    "warp_affine, compiled before": (CALL, COMPILED),
    "warp_affine, nothing compiled": (CALL, NOT_COMPILED),
    "rotate, nothing compiled": (ROTATE, NOT_COMPILED),
}


class StartUp:
    """The first call of a new process, without the interpreter's own start."""

    params = (list(PROCESSES),)
    param_names = ("process",)
    version = "1"
    number, repeat, rounds, warmup_time, timeout = 1, 2, 1, 0, 300

    def setup(self, process):
        if process.startswith("rotate"):
            bench("rows").stn_function("rotate")

    def timeraw_process(self, process):
        return PROCESSES[process]


class PeakMemory:
    """warp_affine both ways: the most memory in use, in bytes, and divided by what it must hold.

    It must hold the inputs, the samples and the gradients.
    """

    params = (["1x1x4096x4096"],)
    param_names = ("shape",)
    version = "1"
    unit = "times"

    def peakmem_both_ways(self, shape):
        bench("memory").peak("ours", sides(shape))

    def track_both_ways(self, shape):
        needed, used = bench("memory").peak("ours", sides(shape))
        return used / needed
