"""Coordinates of float32 images, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

import numba_stn as stn
from numba_stn.kernels.math import coordinates
from numba_stn.kernels.math.jit import python_callable

along_row = python_callable(coordinates.along_row)
along_row_evenly = python_callable(coordinates.along_row_evenly)
split = python_callable(coordinates.split)


@pytest.mark.parametrize("size", [2, 37, 4095, 100_001])
def test_coordinates_of_a_float32_grid_keep_the_rounding_error_of_the_product(size):
    """They are exact to 2^-23, which the product in float32 is not."""
    start, step = (size - 1) / 2, size / 2
    products = []
    for c in np.random.default_rng(0).uniform(-1.5, 1.5, 2000).astype(np.float32):
        exact = Fraction(start) + Fraction(step) * Fraction(float(c))
        assert abs(Fraction(split(c, start, step)) - exact) <= Fraction(1, 2**23)
        products.append(abs(Fraction(float(np.float32(step) * c)) + Fraction(start) - exact))
    assert size < 50 or max(products) > Fraction(1, 2**20)


@pytest.mark.parametrize("columns", [5, 48], ids=["pixels", "blocks"])
def test_positions_that_round_to_a_pixel_have_the_taps_on_both_sides(columns):
    """A position just below pixel k is k in float32. Its taps are k - 1 and k nevertheless."""
    side, count = 5001, 40 * columns
    ramp = np.broadcast_to(np.arange(side, dtype=np.float32), (1, 1, 3, side))
    k = np.random.default_rng(2).integers(side // 2, side - 1, count)
    c = ((2 * k + 1) / side - 1).astype(np.float32)
    x = (side - 1) / 2 + side / 2 * c.astype(float)
    assert ((x < k) & (x.astype(np.float32) == k)).mean() > 0.2
    for y, share in ((0.5, 1), (-0.5, 0.5)):  # with the rows above and below; the upper is outside
        grid = np.stack([c, np.full_like(c, (2 * y + 1) / 3 - 1)], -1).reshape(1, 40, columns, 2)
        found = stn.grid_sample(ramp, grid)
        np.testing.assert_allclose(found.ravel(), share * x, atol=2e-3)


@pytest.mark.parametrize("function", [along_row, along_row_evenly])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_coordinates_along_a_row(function, real):
    """Those of a block's lanes: the step is rounded to ``real``, and few bits are left."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        start, step, first = rng.uniform(-50, 5000), rng.uniform(-2, 2), int(rng.integers(0, 4000))
        for lane in range(16):
            exact = Fraction(start) + Fraction(step) * (first + lane)
            found = Fraction(function(start, step, first, lane, real))
            assert abs(found - exact) <= Fraction(1, 2**19 if real == np.float32 else 2**23)
            if real == np.float32:
                assert (found * 2**24).denominator == 1


def test_infinite_coordinates_stay_infinite():
    assert along_row(np.inf, 1.0, 0, 3, np.float32) == np.inf
    assert np.isnan(along_row(np.nan, 1.0, 0, 3, np.float32))
