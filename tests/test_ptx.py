"""Every CUDA kernel compiles to PTX, which needs no GPU, and the instructions are the right ones.

The simulator has no types. PTX shows them: float64 in a float32 kernel, and float atomics, whose
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
from numba.core.types import Tuple, UniTuple

from numba_stn.kernels.cpu_launch import source_hash
from numba_stn.kernels.cuda import bilinear as kernels
from numba_stn.kernels.cuda import convert, general, interleaved, sums
from numba_stn.kernels.cuda import images_gradient as gather_kernels
from numba_stn.kernels.cuda.taps import HALF, PLAIN
from numba_stn.kernels.math.fixed_point import FRACTION32, FRACTION64
from numba_stn.kernels.math.sampler_kind import (
    AFFINE,
    BICUBIC,
    BILINEAR,
    BORDER,
    FILL,
    GRID,
    NEAREST,
    PROJECTIVE,
    REFLECTION,
    WRAP,
    ZEROS,
    Kind,
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


def geometry(coord, index=int32):
    """The fields of layout.Geometry."""
    return Tuple((coord, *[UniTuple(index, 3)] * 3))


def sample(source, padding, image, coord, index=int32):
    types = line(image), line(coord), image, geometry(coord, index), line(image)
    return kernels.make_sample(source, padding), types


def sample_vjp_images(source, padding, image, coord, index=int32):
    kernel = kernels.make_sample_vjp_images(source, padding, FRACTIONS[image])
    summed = (line(int64), int64, line(int64))
    return kernel, (line(image), line(coord), geometry(coord, index), *summed)


def sample_vjp_coords(source, padding, image, coord, index=int32):
    types = (line(image), line(image), line(coord), image, geometry(coord, index))
    if source == AFFINE:
        return kernels.make_theta_gradient(padding, real(coord)), (*types, int64, line(coord))
    return kernels.make_grid_gradient(padding), (*types, line(coord))


# --- Kernels of every kind ------------------------------------------------------------------------

# How images are stored (float16 as bits, with a form that says so), and computed in.
STORED = {
    "float32": (float32, PLAIN, float32), "float16": (uint16, HALF, float32),
    "uint8": (uint8, 255, float32), "float64": (float64, PLAIN, float64),
    "uint16": (uint16, 65535, float32),
}  # fmt: skip


def kinds():
    """(kind, dtype, coordinates' type): every mode with every padding, the others alternating."""
    planes = [(GRID, 2), (AFFINE, 2), (PROJECTIVE, 2)]
    volumes = [(GRID, 3), (AFFINE, 3), (PROJECTIVE, 3)]
    for mode in (BILINEAR, NEAREST, BICUBIC):
        sources = planes + (planes if mode == BICUBIC else volumes)
        for padding in (ZEROS, BORDER, REFLECTION, WRAP, FILL):
            source, dims = sources[(padding + 3 * mode) % 6]
            dtype = list(STORED)[(padding + 2 * mode) % 5]
            coord = float64 if dtype == "float64" and mode != BICUBIC else float32
            yield Kind(source, mode, padding, dims, (mode + padding) % 2 == 0), dtype, coord


def any_sample(kind, dtype, coord, index=int32):
    stored, form, computed = STORED[dtype]
    types = line(stored), line(coord), outside(kind, computed), geometry(coord, index)
    return general.make_sample(kind, form), (*types, line(stored))


def any_coverage(kind, dtype, coord, index=int32):
    return general.make_coverage(kind), (line(coord), geometry(coord, index), line(coord))


def any_vjp_images(kind, dtype, coord, index=int32):
    _, _, computed = STORED[dtype]
    kernel = general.make_sample_vjp_images(kind, FRACTIONS[computed])
    summed = line(int64), int64, line(int64)
    return kernel, (line(computed), line(coord), geometry(coord, index), *summed)


def any_vjp_coords(kind, dtype, coord, index=int32):
    stored, form, computed = STORED[dtype]
    types = line(computed), line(stored), line(coord), outside(kind, computed)
    types += (geometry(coord, index),)
    if kind.source == GRID:
        return general.make_grid_gradient(kind, form), (*types, line(coord))
    kernel = general.make_theta_gradient(kind, form, real(coord))
    return kernel, (*types, int64, line(coord))


def outside(kind, computed):
    """One number for all channels, or one for each."""
    return line(computed) if kind.padding == ZEROS else UniTuple(computed, 1)


def gather(group, image, coord, index=int32):
    types = line(image), line(coord), geometry(coord, index), line(image)
    return gather_kernels.make_gather(group), types


OTHERS = {
    "affine_grid": lambda f: (
        kernels.make_affine_grid(), (line(f), geometry(f), line(f)),
    ),
    "affine_grid_vjp": lambda f: (
        kernels.make_affine_grid_vjp(real(f)), (line(f), geometry(f), int64, line(f)),
    ),
    "affine_grid of volumes": lambda f: (
        general.make_affine_volume(), (line(f), geometry(f), line(f)),
    ),
    "affine_grid_vjp of volumes": lambda f: (
        general.make_affine_volume_vjp(real(f)), (line(f), geometry(f), int64, line(f)),
    ),
    "zeros": lambda f: (convert.make_zeros(), (line(f),)),
    "write": lambda f: (
        convert.make_write(), (UniTuple(f, convert.CHUNK), int64, line(f)),
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
    """PTX of a kernel, which must compile and must not add floats atomically."""
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


@pytest.mark.parametrize(("kind", "dtype", "coord"), list(kinds()), ids=str)
@pytest.mark.parametrize("make", [any_sample, any_coverage, any_vjp_images, any_vjp_coords])
def test_samplers_of_every_kind(make, kind, dtype, coord):
    if kind.mode == NEAREST and make is any_vjp_coords:
        return  # the nearest pixel stays the same
    text = ptx(*make(kind, dtype, coord))
    wide = coord == float64 or (dtype == "float64" and make is not any_coverage)
    assert (".f64" in text) == wide
    assert ("atom.global.add.u64" in text) == (make is any_vjp_images)
    # Flags are constants where they are used: no function call is left, and no tuple is in memory.
    assert not re.search(r"\bcall\b|\.local\b", text)


@pytest.mark.parametrize("pair", [(HALF, PLAIN), (PLAIN, HALF)], ids=["from", "to"])
def test_float16(pair):
    lines = [line({HALF: uint16, PLAIN: float32}[form]) for form in pair]
    text = ptx(convert.make_convert(*pair), tuple(lines))
    assert ".f64" not in text


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
    for fills in (UniTuple(blended, 1), line(blended)):
        types = line(dtype), UniTuple(blended, 9), fills, geometry(blended), line(dtype)
        text = ptx(interleaved.make_warp(source, PADDINGS[padding], int(whole)), types)
        assert (".f64" in text) == (dtype == float64)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("mode", [NEAREST, BILINEAR, BICUBIC])
def test_warp_image_of_any_mode(mode, dtype):
    stored, form, computed = STORED[dtype]
    source, padding = ((AFFINE, WRAP), (PROJECTIVE, FILL))[(mode + form) % 2]
    types = line(stored), UniTuple(computed, 9), line(computed), geometry(computed)
    kernel = interleaved.make_general_warp(source, mode, padding, form)
    assert (".f64" in ptx(kernel, (*types, line(stored)))) == (dtype == "float64")


@pytest.mark.parametrize("dtype", FRACTIONS, ids=str)
@pytest.mark.parametrize("name", OTHERS)
def test_other_kernels(name, dtype):
    text = ptx(*OTHERS[name](dtype))
    moved = name in ("clear", "find_peak", "zeros")
    assert (".f64" in text) == (dtype == float64 and not moved)


@pytest.mark.parametrize("make", [sample, sample_vjp_images, sample_vjp_coords])
def test_hopper(make):
    ptx(*make(AFFINE, REFLECTION, float32, float32), capability=(9, 0))


@pytest.mark.parametrize("make", [any_sample, any_coverage, any_vjp_images, any_vjp_coords])
def test_every_kind_on_hopper_and_beyond_the_reach_of_32_bits(make):
    for source, mode, dims, coord in ((AFFINE, BILINEAR, 3, float32), (GRID, BICUBIC, 2, float64)):
        kind = Kind(source, mode, REFLECTION, dims, dims == 3)
        ptx(*make(kind, "float16", coord, int64), capability=(9, 0))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("make", [sample, sample_vjp_images, sample_vjp_coords])
def test_arrays_beyond_the_reach_of_32_bits(make, source):
    ptx(*make(SOURCES[source], ZEROS, float32, float32, int64))
