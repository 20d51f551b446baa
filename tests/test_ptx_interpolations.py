"""The CUDA kernels of splines, Lanczos samples and mirrored images compile, see :mod:`test_ptx`."""

import re

import pytest
from numba.core.types import UniTuple
from test_ptx import (
    NEAREST,
    STORED,
    _ampere,  # noqa: F401
    any_coverage,
    any_sample,
    any_vjp_coords,
    any_vjp_images,
    float32,
    float64,
    int64,
    line,
    ptx,
)

from numba_stn.kernels.cuda import spline_lines
from numba_stn.kernels.cuda.taps import HALF
from numba_stn.kernels.math.sampler_kind import (
    AFFINE,
    BILINEAR,
    BORDER,
    CATMULL_ROM,
    FILL,
    GRID,
    LANCZOS4,
    MIRROR,
    SPLINE2,
    SPLINE3,
    SPLINE4,
    SPLINE5,
    WRAP,
    ZEROS,
    Kind,
)

NARROW = [
    (Kind(GRID, NEAREST, MIRROR), "uint8", float32),
    (Kind(AFFINE, BILINEAR, MIRROR, 3), "float32", float32),
    (Kind(GRID, CATMULL_ROM, MIRROR), "float32", float32),
    (Kind(AFFINE, SPLINE2, MIRROR), "float32", float32),
    (Kind(GRID, SPLINE3, FILL, channels_last=True), "float32", float32),
]
WIDE = [
    (Kind(AFFINE, SPLINE4, BORDER), "float32", float32),
    (Kind(GRID, SPLINE5, WRAP), "float64", float64),
    (Kind(AFFINE, LANCZOS4, ZEROS, channels_last=True), "float32", float32),
]
makers = pytest.mark.parametrize("make", [any_sample, any_coverage, any_vjp_images, any_vjp_coords])


@makers
@pytest.mark.parametrize(("kind", "dtype", "coord"), NARROW + WIDE, ids=str)
def test_samplers(make, kind, dtype, coord):
    if kind.mode == NEAREST and make is any_vjp_coords:
        return  # the nearest pixel stays the same
    text = ptx(*make(kind, dtype, coord))
    assert (".f64" in text) == (coord == float64)
    assert "call" not in text
    if (kind, dtype, coord) in NARROW:
        assert not re.search(r"\.local\b", text)


@pytest.mark.parametrize("real", [float32, float64], ids=str)
def test_filters(real):
    lines, pair, poles = UniTuple(int64, 3), UniTuple(int64, 2), UniTuple(real, 2)
    stored, form, _ = STORED["float16" if real == float32 else "float64"]
    types = line(stored), lines, pair, int64, line(real), poles, int64, line(real)
    texts = [ptx(spline_lines.make_filter_lines(form, True), types)]
    types = line(real), lines, int64, UniTuple(real, 1), int64, line(real)
    texts.append(ptx(spline_lines.make_filter_lines_vjp(False), types))
    texts.append(ptx(spline_lines.make_scale(), (line(real), int64, poles, line(real))))
    assert all((".f64" in text) == (real == float64) for text in texts)


def test_samples_are_stored_as_float16():
    stored, _, computed = STORED["float16"]
    ptx(spline_lines.make_store_samples(HALF), (line(computed), line(stored)))
