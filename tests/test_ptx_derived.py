"""The CUDA kernels of functions built on the sampler compile to PTX, see :mod:`test_ptx`."""

import re

import pytest
from numba.core.types import UniTuple
from test_ptx import (
    FRACTIONS,
    STORED,
    _ampere,  # noqa: F401
    float32,
    float64,
    geometry,
    int32,
    int64,
    line,
    outside,
    ptx,
    real,
)

from numba_stn.kernels.cuda import antialias, convert, grid_conversions, supersampling, tps
from numba_stn.kernels.cuda import jvp as jvp_kernels
from numba_stn.kernels.cuda import second_derivatives as second
from numba_stn.kernels.math.sampler_kind import (
    AFFINE,
    BICUBIC,
    BILINEAR,
    BORDER,
    FILL,
    GRID,
    PROJECTIVE,
    REFLECTION,
    ZEROS,
    Kind,
)

KINDS = [
    (Kind(GRID, BILINEAR, ZEROS, 3), "float32", float32),
    (Kind(AFFINE, BICUBIC, BORDER), "uint8", float32),
    (Kind(PROJECTIVE, BILINEAR, REFLECTION, channels_last=True), "float16", float32),
    (Kind(AFFINE, BILINEAR, FILL, 3), "float32", float64),
]


def jvp(kind, dtype, coord, index=int32):
    stored, form, computed = STORED[dtype]
    types = line(stored), line(coord), line(coord), outside(kind, computed), geometry(coord, index)
    return jvp_kernels.make_sample_jvp_coords(kind, form), (*types, line(computed))


def normal(kind, dtype, coord, index=int32):
    stored, form, computed = STORED[dtype]
    types = line(computed), line(stored), line(coord), outside(kind, computed)
    kernel = jvp_kernels.make_normal(kind, form, real(coord))
    return kernel, (*types, geometry(coord, index), int64, line(coord))


def moved(kind, dtype, coord, index=int32):
    computed = line(STORED[dtype][2])
    return second.make_moved(kind), (
        computed, line(coord), line(coord), geometry(coord, index), computed,
    )  # fmt: skip


def scatter_moved(kind, dtype, coord, index=int32):
    computed = STORED[dtype][2]
    types = line(computed), line(coord), geometry(coord, index), line(int64), int64, line(int64)
    return second.make_scatter_moved(kind, FRACTIONS[computed]), types


def gradient_dot(kind, dtype, coord, index=int32):
    stored, form, computed = STORED[dtype]
    arrays = line(computed), line(stored), line(coord), line(coord)
    types = *arrays, outside(kind, computed), geometry(coord, index)
    if kind.source == GRID:
        return second.make_grid_gradient_dot(kind, form), (*types, line(coord))
    return second.make_theta_gradient_dot(kind, form, real(coord)), (*types, int64, line(coord))


def mean(kind, dtype, coord, index=int32):
    stored, form, computed = STORED[dtype]
    types = line(stored), line(coord), line(index), outside(kind, computed), geometry(coord, index)
    return antialias.make_sample(kind, form, 3), (*types, line(stored))


def mean_coverage(kind, dtype, coord, index=int32):
    types = line(coord), line(index), geometry(coord, index), line(coord)
    return antialias.make_coverage(kind), types


def mean_vjp_images(kind, dtype, coord, index=int32):
    computed = STORED[dtype][2]
    types = line(computed), line(coord), line(index), geometry(coord, index)
    kernel = antialias.make_sample_vjp_images(kind, FRACTIONS[computed])
    return kernel, (*types, line(int64), int64, line(int64))


def mean_vjp_theta(kind, dtype, coord, index=int32):
    stored, form, computed = STORED[dtype]
    types = line(computed), line(stored), line(coord), line(index), outside(kind, computed)
    kernel = antialias.make_theta_gradient(kind, form, real(coord))
    return kernel, (*types, geometry(coord, index), int64, line(coord))


def part_counts(kind, dtype, coord, index=int32):
    types = line(coord), geometry(coord, index), line(index)
    return supersampling.make_part_counts(kind.source, kind.dims), types


SECOND = [moved, scatter_moved, gradient_dot]
MAKERS = [
    jvp, normal, mean, mean_coverage, mean_vjp_images, mean_vjp_theta, part_counts, *SECOND,
]  # fmt: skip


def applies(make, kind):
    """Normal equations are for affine maps of planes, means over areas for maps of any kind."""
    if make is normal:
        return kind.source == AFFINE and kind.dims == 2
    return make in (jvp, *SECOND) or kind.source != GRID


EVERY = [(make, *each) for each in KINDS for make in MAKERS if applies(make, each[0])]


@pytest.mark.parametrize(
    ("make", "kind", "dtype", "coord"),
    EVERY,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_kernels_of_every_kind(make, kind, dtype, coord):
    text = ptx(*make(kind, dtype, coord))
    assert (".f64" in text) == (coord == float64)
    assert ("atom.global.add.u64" in text) == (make in (mean_vjp_images, scatter_moved))
    assert not re.search(r"\bcall\b|\.local\b", text)


@pytest.mark.parametrize("make", MAKERS)
def test_on_hopper_and_beyond_the_reach_of_32_bits(make):
    kind = Kind(AFFINE, BILINEAR, ZEROS)
    assert ".f64" not in ptx(*make(kind, "float16", float32, int64), capability=(9, 0))


OTHERS = {
    "spline_weights": lambda f: (
        tps.make_spline_weights(), (*[line(f)] * 4, f, int64),
    ),
    "spline_points": lambda f: (
        tps.make_spline_points(), (*[line(f)] * 3, int64, int64),
    ),
    "spline_grid": lambda f: (
        tps.make_spline_grid(), (line(f), line(f), f, geometry(f), line(f)),
    ),
    "spline_grid_vjp": lambda f: (
        tps.make_spline_grid_vjp(real(f)), (line(f), line(f), geometry(f), int64, line(f)),
    ),
    "add": lambda f: (convert.make_add(), (line(f), line(f))),
    "scaled": lambda f: (
        grid_conversions.make_scaled(3), (line(f), line(f), *[UniTuple(f, 3)] * 3),
    ),
    "displaced": lambda f: (
        grid_conversions.make_displaced(3),
        (line(f), line(f), UniTuple(f, 3), f, UniTuple(int64, 3)),
    ),
    "polar": lambda f: (
        grid_conversions.make_polar(True),
        (line(f), line(f), line(f), f, UniTuple(f, 3), UniTuple(f, 3), UniTuple(int64, 2)),
    ),
    "shifts": lambda f: (grid_conversions.make_shifts(), (line(f), line(f), UniTuple(f, 3))),
}  # fmt: skip


@pytest.mark.parametrize("dtype", FRACTIONS, ids=str)
@pytest.mark.parametrize("name", OTHERS)
def test_kernels_of_coordinates(name, dtype):
    text = ptx(*OTHERS[name](dtype), capability=(9, 0))
    assert (".f64" in text) == (dtype == float64)
    assert not re.search(r"\bcall\b|\.local\b", text)


def test_a_few_sums_are_added_in_float64():
    """The only float32 kernel with float64: one sum of at most 256 terms for each number."""
    text = ptx(jvp_kernels.make_normal_sum(), (line(float32), int64, *[line(float64)] * 2))
    wide = set(re.findall(r"(\w+)(?:\.\w+)*\.f64(?:\.f32)?\s", text))
    assert wide <= {"add", "cvt", "ld", "st", "mov", "selp"}, wide
