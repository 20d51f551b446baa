"""Runs the CUDA kernels in Numba's simulator, which must be chosen before Numba is imported."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.parametrize("suite", ["cuda_simulator_suite.py", "train_simulator_suite.py"])
def test_cuda_kernels_in_the_simulator(suite):
    pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(HERE / suite)]
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
