"""Every CUDA kernel compiles to PTX, which needs no GPU; and what its instructions show.

The simulator has no types. PTX has: it shows float64 in a float32 kernel, and float atomics, whose
sums would change from run to run.
"""

import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

from numba import cuda, float32, float64, int32, int64, uint8, uint16
from numba.core.types import UniTuple

from numba_stn.kernels import cuda as kernels
from numba_stn.kernels import cuda_gather, cuda_interleaved, sums
from numba_stn.kernels.launch import source_hash
from numba_stn.kernels.pixel import (
    AFFINE,
    BORDER,
    FRACTION32,
    FRACTION64,
    GRID,
    PROJECTIVE,
    REFLECTION,
    ZEROS,
)

PADDINGS = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}
SOURCES = {"grid": GRID, "affine": AFFINE}
FRACTIONS = {float32: FRACTION32, float64: FRACTION64}


@pytest.fixture(autouse=True)
def _ampere(monkeypatch):
    """Device functions are compiled for the current device; here it is an A100."""
    device = SimpleNamespace(compute_capability=(8, 0))
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)


def line(dtype):
    return dtype[::1]


def real(dtype):
    return getattr(np, str(dtype))


def shapes(index):
    """Of the images and maps, and of their sides."""
    return UniTuple(index, 3), UniTuple(index, 4)


def sample(source, padding, image, coord, index=int32):
    types = (line(image), line(coord), coord, image, *shapes(index), line(image))
    return kernels.make_sample(source, padding), types


def sample_vjp_images(source, padding, image, coord, index=int32):
    kernel = kernels.make_sample_vjp_images(source, padding, FRACTIONS[image])
    summed = (line(int64), int64, line(int64))
    return kernel, (line(image), line(coord), coord, *shapes(index), *summed)


def sample_vjp_coords(source, padding, image, coord, index=int32):
    types = (line(image), line(image), line(coord), coord, image, *shapes(index))
    if source == AFFINE:
        return kernels.make_theta_gradient(padding, real(coord)), (*types, int64, line(coord))
    return kernels.make_grid_gradient(padding), (*types, line(coord))


def gather(group, image, coord, index=int32):
    types = (line(image), line(coord), coord, *shapes(index), line(image))
    return cuda_gather.make_gather(group), types


PLAIN = {
    "affine_grid": lambda f: (
        kernels.make_affine_grid(), (line(f), f, UniTuple(int32, 3), line(f)),
    ),
    "affine_grid_vjp": lambda f: (
        kernels.make_affine_grid_vjp(real(f)),
        (line(f), f, UniTuple(int32, 3), int64, line(f)),
    ),
    "theta_sum": lambda f: (sums.make_theta_sum(real(f)), (line(f), int64, line(f))),
    "clear": lambda f: (sums.make_clear(), (line(int64), line(int64))),
    "find_peak": lambda f: (
        sums.make_find_peak(FRACTIONS[f]), (line({float32: int32, float64: int64}[f]), line(int64)),
    ),
    "to_floats": lambda f: (
        sums.make_to_floats(FRACTIONS[f]), (line(int64), line(int64), int64, line(f)),
    ),
}  # fmt: skip


def ptx(kernel, types, capability=(8, 0)):
    """PTX of a kernel, and what holds for every one: it compiled, and adds no float atomically."""
    assert source_hash() in [cell.cell_contents for cell in kernel.py_func.__closure__]
    text, _ = cuda.compile_ptx(kernel.py_func, types, cc=capability)
    assert f".target sm_{capability[0]}{capability[1]}" in text
    assert ".visible .entry" in text
    assert not re.search(r"\b(atom|red)\.\S*\.f(16|32|64)", text)
    return text


@pytest.mark.parametrize("image", FRACTIONS, ids=str)
@pytest.mark.parametrize("coord", FRACTIONS, ids=str)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("make", [sample, sample_vjp_images, sample_vjp_coords])
def test_samplers(make, source, padding, coord, image):
    text = ptx(*make(SOURCES[source], PADDINGS[padding], image, coord))
    assert (".f64" in text) == (float64 in (image, coord))
    assert ("atom.global.add.u64" in text) == (make is sample_vjp_images)


@pytest.mark.parametrize("image", FRACTIONS, ids=str)
@pytest.mark.parametrize("coord", FRACTIONS, ids=str)
@pytest.mark.parametrize("group", [1, 2, 3, 4])
def test_gather(group, coord, image):
    text = ptx(*gather(group, image, coord))
    assert (".f64" in text) == (float64 in (image, coord))
    assert "atom." not in text


@pytest.mark.parametrize("dtype", [uint8, uint16, float32, float64], ids=str)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("source", [AFFINE, PROJECTIVE], ids=["affine", "projective"])
def test_warp_image(source, padding, dtype):
    whole, blended = dtype in (uint8, uint16), float64 if dtype == float64 else float32
    for count in (1, 3):
        fills = UniTuple(blended, count)
        types = (line(dtype), UniTuple(blended, 9), fills, int32, UniTuple(int32, 4), line(dtype))
        text = ptx(cuda_interleaved.make_warp(source, PADDINGS[padding], int(whole)), types)
        assert (".f64" in text) == (dtype == float64)


@pytest.mark.parametrize("dtype", FRACTIONS, ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_other_kernels(name, dtype):
    text = ptx(*PLAIN[name](dtype))
    assert (".f64" in text) == (dtype == float64 and name not in ("clear", "find_peak"))


@pytest.mark.parametrize("make", [sample, sample_vjp_images, sample_vjp_coords])
def test_hopper(make):
    ptx(*make(AFFINE, REFLECTION, float32, float32), capability=(9, 0))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("make", [sample, sample_vjp_images, sample_vjp_coords])
def test_arrays_beyond_the_reach_of_32_bits(make, source):
    ptx(*make(SOURCES[source], ZEROS, float32, float32, int64))
