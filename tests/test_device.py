"""The errors for arrays on a GPU where no kernel can run."""

import numpy as np
import pytest

import numba_stn as stn

pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")


class OnGPU:
    """Looks like an array on a GPU."""

    def __init__(self):
        memory = {"data": (0, False), "version": 3}
        self.__cuda_array_interface__ = {"shape": (1, 2, 3), "typestr": "<f4", **memory}


@pytest.fixture
def device():
    from numba_stn.kernels.cuda import device

    device._require_driver.cache_clear()
    yield device
    device._require_driver.cache_clear()


def test_a_missing_driver_is_named(device, monkeypatch):
    monkeypatch.setattr(device.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device.cuda, "cuda_error", lambda: "no libcuda\nhere")
    with pytest.raises(RuntimeError, match=r"numba-stn\[cuda12\].*: no libcuda here"):
        stn.affine_grid(OnGPU(), (2, 2))


def test_a_missing_compiler_is_named(device, monkeypatch):
    monkeypatch.setattr(device.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device.cuda, "cuda_error", lambda: None)
    with pytest.raises(RuntimeError, match=r"numba-stn\[cuda12\].*NVVM"):
        stn.affine_grid(OnGPU(), (2, 2))


def test_a_missing_package_is_named(device, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"numba-stn\[cuda12\].*numba-cuda is not installed"):
        stn.affine_grid(OnGPU(), (2, 2))


def test_an_array_of_the_gpu_and_one_of_the_cpu():
    with pytest.raises(TypeError, match="images is on the CPU, theta is on the GPU"):
        stn.warp_affine(np.zeros((1, 1, 2, 2), np.float32), OnGPU())
