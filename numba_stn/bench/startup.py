"""The start-up time of a new process: the import, the first call, and compilation."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

FIRST_CALL = (
    "import numpy, numba_stn; numba_stn.warp_affine("
    "numpy.ones((1, 1, 8, 8), 'f'), numpy.eye(2, 3, dtype='f')[None])"
)
CODES = {
    "python alone": "pass",
    "import numba_stn": "import numba_stn",
    "numba-stn --help": "import numba_stn.cli; numba_stn.cli.main(['--help'])",
    "first warp_affine, compiled before": FIRST_CALL,
}
NOT_COMPILED = "first warp_affine, nothing compiled"


def table(rounds: int) -> list[dict[str, Any]]:
    """Median seconds of whole processes."""
    seconds(FIRST_CALL)  # compiles the kernel, if the cache does not have it
    times: dict[str, list[float]] = {what: [] for what in CODES}
    for _ in range(rounds):
        for what, code in CODES.items():
            times[what].append(seconds(code))
    with tempfile.TemporaryDirectory() as folder:
        times[NOT_COMPILED] = [seconds(FIRST_CALL, NUMBA_CACHE_DIR=folder)]
    return [
        {"what": what, "seconds": round(statistics.median(each), 3)} for what, each in times.items()
    ]


def seconds(code: str, **env: str) -> float:
    """Time a process that runs this code, from its start to its end."""
    began = time.perf_counter()
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=os.environ | env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
