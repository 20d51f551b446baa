"""The integers in which CUDA kernels sum: range, precision, and infinity and NaN."""

import itertools
import math

import numpy as np
import pytest

from numba_stn.kernels.math import fixed_point, interpolation
from numba_stn.kernels.math.jit import python_callable
from numba_stn.kernels.math.sampler_kind import (
    BICUBIC,
    BILINEAR,
    CATMULL_ROM,
    GRID,
    LANCZOS4,
    NEAREST,
    Kind,
)

bits_are_finite = python_callable(fixed_point.bits_are_finite)
dequantize = python_callable(fixed_point.dequantize)
fixed_point_scale = python_callable(fixed_point.fixed_point_scale)
eight_weights = python_callable(interpolation.eight_weights)
quantize = python_callable(fixed_point.quantize)

FLOATS = {
    np.float32: (np.int32, fixed_point.FRACTION32),
    np.float64: (np.int64, fixed_point.FRACTION64),
}

pytestmark = pytest.mark.parametrize("real", FLOATS)


def bits(value, real):
    return int(np.abs(real(value)).view(FLOATS[real][0]))


def scale(values, terms, real):
    """The scale for at most 2**terms of these values, in their precision."""
    peak = max(bits(value, real) for value in values)
    return real(fixed_point_scale(peak, FLOATS[real][1], terms, real(1)))


def total(values, real, terms=None):
    """The sum as the kernels compute it, but in Python's integers, which cannot overflow."""
    values = [real(value) for value in values]
    terms = (len(values) - 1).bit_length() if terms is None else terms
    factor = scale(values, terms, real)
    return real(dequantize(sum(quantize(v, factor) for v in values), factor))


def extremes(real):
    kind = np.finfo(real)
    return [kind.max, real(1.5), np.nextafter(real(2), real(0)), kind.tiny, kind.smallest_subnormal]


@pytest.mark.parametrize("terms", [0, 1, 7, 24, 40])
def test_the_largest_sum_fits_in_64_bits(real, terms):
    for peak in extremes(real):
        largest = abs(quantize(peak, scale([peak], terms, real)))
        smallest = abs(quantize(-peak, scale([peak], terms, real)))
        assert max(largest, smallest) * 2**terms < 2**63


@pytest.mark.parametrize("terms", [0, 1, 7, 24, 40])
def test_no_more_than_two_bits_are_left_unused(real, terms):
    for peak in extremes(real)[:3]:
        assert quantize(peak, scale([peak], terms, real)) * 2**terms >= 2**61


@pytest.mark.parametrize("mode", [NEAREST, BILINEAR, BICUBIC, CATMULL_ROM, LANCZOS4])
def test_the_magnitudes_of_a_samples_weights_add_up_to_the_documented_bound(real, mode):
    """Over a plane, and over a volume."""
    most = max(sum(map(abs, map(float, weights))) for weights in weights_of(mode, real))
    for axes in (2, 3):
        bits = interpolation.weight_bits(Kind(GRID, mode, dims=axes))
        assert most**axes <= 2.0**bits * (1 + 4 * np.finfo(real).eps)
        assert most**axes > 2.0 ** (bits - 1)  # and to no larger one
    assert (mode >= BICUBIC) == (most > 1.2)


def weights_of(mode, real):
    """The weights along an axis for fractions from 0 to 1, including the worst, 1/2."""
    return [eight_weights(real(t), mode) for t in np.linspace(0, 1, 257)]


@pytest.mark.parametrize("terms", [0, 1, 24, 40])
@pytest.mark.parametrize("mode", [BILINEAR, BICUBIC])
def test_all_taps_of_all_samples_on_one_pixel_fit_in_64_bits(real, mode, terms):
    """2**terms samples of one sign, on an image of one pixel, which all their taps read."""
    axes, bits = 3, interpolation.weight_bits(Kind(GRID, mode, dims=3))
    for peak in extremes(real):
        factor = scale([peak], terms + bits, real)
        for along in weights_of(mode, real)[::32]:
            total = sum(
                abs(quantize(real(peak) * real(math.prod(weights)), factor))
                for weights in itertools.product(map(real, along), repeat=axes)
            )
            assert total * 2**terms < 2**63


def test_scale_and_its_inverse_are_normal(real):
    for peak in [0.0, *extremes(real)]:
        for terms in (0, 24, 40):
            factor = scale([peak], terms, real)
            assert np.finfo(real).tiny <= factor <= 1 / np.finfo(real).tiny
            assert math.frexp(factor)[0] == 0.5


def test_the_order_of_the_terms_does_not_matter(real):
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(500) * 10.0 ** rng.uniform(-5, 5, 500)).astype(real)
    floats = {float(np.add.accumulate(rng.permutation(values))[-1]) for _ in range(20)}
    fixed = {float(total(rng.permutation(values), real)) for _ in range(20)}
    assert len(floats) > 1
    assert len(fixed) == 1


@pytest.mark.parametrize("count", [1, 5, 300])
def test_the_error_of_each_term_is_at_most_half_the_documented_unit(real, count):
    rng = np.random.default_rng(count)
    values = rng.standard_normal(count).astype(real)
    unit = count * np.abs(values).max() / 2.0**60
    rounding = np.finfo(real).eps * abs(math.fsum(values))
    assert abs(float(total(values, real)) - math.fsum(values)) <= count * unit / 2 + rounding


def test_one_term_comes_back_exactly(real):
    for value in extremes(real)[:4]:
        assert total([value], real) == value
        assert total([-value], real) == -value


@pytest.mark.parametrize("digits", [3, 22, 23, 24, 40])
def test_terms_are_rounded_to_the_nearest_integer(real, digits):
    for part in (0, 0.25, 0.5, 0.75, 1):
        for value in (real(2**digits + part), real(-(2**digits) - part)):
            assert quantize(value, real(1)) == math.floor(float(value) + 0.5)


def test_a_sum_may_cancel_to_nothing(real):
    peak = np.finfo(real).max
    assert total([peak, -peak, peak, -peak], real) == 0


def test_zeros_sum_to_zero(real):
    assert total([0.0, -0.0, 0.0], real) == 0


def test_infinity_and_nan_are_not_finite(real):
    finite = [bits_are_finite(bits(v, real), FLOATS[real][1]) for v in [0, *extremes(real)]]
    others = [bits_are_finite(bits(v, real), FLOATS[real][1]) for v in (np.inf, np.nan)]
    assert all(finite)
    assert not any(others)


def test_the_bits_of_magnitudes_have_the_order_of_the_magnitudes(real):
    rng = np.random.default_rng(0)
    values = np.append(rng.standard_normal(50), [0.0, *extremes(real), np.inf]).astype(real)
    by_bits = sorted(values, key=lambda value: bits(value, real))
    assert np.all(np.diff(np.abs(by_bits[:-1])) >= 0)
    assert bits(np.nan, real) > bits(np.inf, real) == bits(by_bits[-1], real)
