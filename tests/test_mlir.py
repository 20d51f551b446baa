"""The kernels compile with numba-cuda-mlir, where only that is installed.

All of them: ``python -m benchmarks.gpu_mlir``, which takes minutes.
"""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

import numba_stn

ROOT = pathlib.Path(numba_stn.__file__).parents[1]
here = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda_mlir") is None, reason="needs the extra cuda-mlir"
)


def compiled(*words):
    command = [sys.executable, "-m", "benchmarks.gpu_mlir", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@here
def test_kernels_compile():
    """Forward and backward of the common case: sums in shared memory, named tuples, scalar math."""
    done = compiled("--calls", "warp_affine bilinear")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "4 of 4 kernels compiled" in done.stdout


PACKAGES = [
    ({"numba_cuda", "numba_cuda_mlir"}, "numba-cuda"),
    ({"numba_cuda"}, "numba-cuda"),
    ({"numba_cuda_mlir"}, "numba-cuda-mlir"),
    (set(), "numba-cuda"),
]


@pytest.mark.parametrize(("installed", "chosen"), PACKAGES, ids=str)
def test_which_package_compiles(installed, chosen, monkeypatch):
    pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
    from numba_stn.kernels.cuda import device

    found = {name: name in installed or None for name in ("numba_cuda", "numba_cuda_mlir")}
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: found[name])
    assert device._package() == chosen
    monkeypatch.setattr(device, "SIMULATED", True)
    assert device._package() == "numba-cuda"


def test_without_the_package_the_check_is_an_error_of_one_line():
    if importlib.util.find_spec("numba_cuda_mlir") is not None:
        pytest.skip("numba-cuda-mlir is installed")
    done = compiled()
    assert done.returncode == 2
    assert done.stderr == "python -m benchmarks.gpu_mlir: numba-cuda-mlir is not installed\n"
