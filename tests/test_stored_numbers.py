"""Scalar math of stored numbers: float16 bits, and rounding to the even neighbour."""

import numpy as np
import pytest

from numba_stn.kernels.math import dtypes, interpolation
from numba_stn.kernels.math.jit import python_callable

from_half = python_callable(dtypes.from_half)
half_to_even = python_callable(interpolation.half_to_even)
nearest = python_callable(dtypes.nearest)
to_half = python_callable(dtypes.to_half)


def test_every_float16_is_read_exactly():
    every = np.arange(2**16, dtype=np.uint16)
    found = np.array([from_half(bits) for bits in every], np.float32)
    np.testing.assert_array_equal(found, every.view(np.float16).astype(np.float32))


def test_float16_is_rounded_as_numpy_does():
    """Halfway between all neighbours, near it, subnormal numbers, the largest, infinity, NaN."""
    magnitudes = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = (magnitudes[1:] + magnitudes[:-1]) / 2
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(halves, 3000), halves[:1500], halves[-1500:]])
    near = [np.nextafter(chosen, np.float32(way)) for way in (0, np.inf)]
    special = np.float32([65504, 65519.99, 65520, 1e30, np.inf, 0, 2**-25, 2**-26])
    values = np.concatenate([magnitudes[::7], chosen, *near, special])
    values = np.concatenate([values, -values])
    with np.errstate(over="ignore"):
        want = values.astype(np.float16)
    found = np.array([to_half(value) for value in values], np.uint16).view(np.float16)
    np.testing.assert_array_equal(found.view(np.uint16), want.view(np.uint16))
    assert np.isnan(np.uint16(to_half(np.float32(np.nan))).view(np.float16))


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_halves_are_rounded_to_the_even_neighbour(real):
    for number in np.arange(-4, 4.25, 0.25):
        assert half_to_even(real(number)) == round(float(number))
        if number >= 0:
            assert nearest(np.float32(number)) == round(float(number))
