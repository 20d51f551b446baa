"""Runs the CUDA kernels in Numba's simulator, which must be chosen before Numba is imported."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


# The scalar math compiled, and, where there are many kinds of it and little to compute, in Python.
SUITES = {
    "cuda_simulator_suite.py": {},
    "cuda_simulator_general.py": {"NUMBA_DISABLE_JIT": "1"},
    "cuda_simulator_derived.py": {"NUMBA_DISABLE_JIT": "1"},
    "train_simulator_suite.py": {},
}


@pytest.mark.parametrize("suite", SUITES)
def test_cuda_kernels_in_the_simulator(suite):
    pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(HERE / suite)]
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", **SUITES[suite]},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
