"""The range of a projective row's columns that can touch the image, found from its ends."""

import numpy as np
import pytest

import numba_stn as stn
from numba_stn.kernels.cpu import limits
from numba_stn.kernels.math.jit import python_callable
from numba_stn.kernels.math.sampler_kind import BICUBIC, BILINEAR, BORDER, NEAREST, ZEROS

affine_limits = python_callable(limits.affine_limits)
projected_limits = python_callable(limits.projected_limits)
reaching = python_callable(limits.reaching)

SIDES = (30, 40, 7, 100)  # H, W, H_out, W_out


def coordinates(line):
    """The sampling positions of a row's columns."""
    x0, xs, y0, ys, w0, ws = line
    j = np.arange(SIDES[3])
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x0 + xs * j) / (w0 + ws * j), (y0 + ys * j) / (w0 + ws * j)


def random_lines(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        start, end = rng.uniform(-60, 90, (2, 2))
        divisors = rng.uniform(0.3, 3, 2) * rng.choice([-1, 1])
        numerators = start * divisors[0], end * divisors[1]
        steps = (numerators[1] - numerators[0]) / (SIDES[3] - 1)
        step = (divisors[1] - divisors[0]) / (SIDES[3] - 1)
        yield (
            numerators[0][0], steps[0], numerators[0][1], steps[1], divisors[0], step,
        )  # fmt: skip


@pytest.mark.parametrize(("mode", "reach"), [(NEAREST, 0.5), (BILINEAR, 1.0), (BICUBIC, 2.0)])
def test_columns_that_miss_the_image_are_left_out(mode, reach):
    """Every column that touches the image is kept, and few others."""
    kept = needed = 0
    for line in random_lines(1000):
        left, stop = projected_limits(ZEROS, mode, line, SIDES)
        assert 0 <= left <= stop <= SIDES[3]
        x, y = coordinates(line)
        reads = (
            (-reach < x) & (x < SIDES[1] - 1 + reach) & (-reach < y) & (y < SIDES[0] - 1 + reach)
        )
        columns = np.flatnonzero(reads)
        assert not len(columns) or (left <= columns[0] and columns[-1] < stop)
        kept, needed = kept + stop - left, needed + len(columns)
    assert needed < kept < 1.2 * needed


def test_a_row_without_known_limits_is_kept_whole():
    line = (5.0, 1.0, 3.0, 0.5, 1.0, -0.03)  # the divisor is 0 at column 33
    assert projected_limits(ZEROS, BILINEAR, line, SIDES) == (0, SIDES[3])
    line = (500.0, 1.0, 3.0, 0.5, 1.0, 0.01)
    assert projected_limits(ZEROS, BILINEAR, line, SIDES) == (0, 0)
    assert projected_limits(BORDER, BILINEAR, line, SIDES) == (0, SIDES[3])
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        for k in range(6):
            broken = (*line[:k], bad, *line[k + 1 :])
            assert projected_limits(ZEROS, BILINEAR, broken, SIDES) == (0, SIDES[3])


@pytest.mark.parametrize("padding", [ZEROS, BORDER])
@pytest.mark.parametrize(
    ("mode", "before", "after"), [(NEAREST, 0, 0), (BILINEAR, 0, 1), (BICUBIC, 1, 2)]
)
def test_affine_columns_that_are_inside_have_all_their_taps(mode, before, after, padding):
    """And few others do; columns without taps are left out, those with taps are not."""
    rng, found, possible = np.random.default_rng(2), 0, 0
    height, width, _, columns = SIDES
    for _ in range(3000):
        (x0, y0), (xs, ys) = rng.uniform(-40, 60, 2), rng.uniform(-1.5, 1.5, 2)
        row, window = (x0, xs, y0, ys), limits.Window(0, height, width, width)
        inverse = (1 / xs, 1 / ys)
        first, last, low, high, *_ = affine_limits(padding, mode, row, inverse, window, SIDES)
        x, y = x0 + xs * np.arange(columns), y0 + ys * np.arange(columns)
        whole = np.rint if mode == NEAREST else np.floor
        inside = (whole(x) >= before) & (whole(x) + after < width)
        inside &= (whole(y) >= before) & (whole(y) + after < height)
        assert inside[first:last].all()
        found, possible = found + max(last - first, 0), possible + inside.sum()
        if padding == ZEROS:
            reach = 0.5 if mode == NEAREST else 1 + before
            touching = (x > -reach) & (x < width - 1 + reach)
            touching &= (y > -reach) & (y < height - 1 + reach)
            some = np.flatnonzero(touching)
            assert not len(some) or (16 * low <= some[0] and some[-1] < 16 * high)
    assert 0.85 * possible < found <= possible


def test_the_columns_at_which_a_line_is_positive():
    assert reaching(-10.0, 2.0, 20) == (5, 20)
    assert reaching(10.0, -2.0, 20) == (0, 6)
    assert reaching(1.0, 0.0, 20) == (0, 20)
    assert reaching(-1.0, 0.0, 20) == (0, 0)
    assert reaching(-1e300, 1e-300, 20) == (20, 20)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 300), (13, 500)])
def test_tiles_and_chunks_of_rows_agree_with_a_grid(mode, size):
    """More rows than a tile, more columns than a chunk, and parts that miss the image."""
    images = np.random.default_rng(1).random((1, 2, 50, 60))
    theta = np.array([[[1.4, 0.9, 0.2], [-0.8, 1.3, 0.1], [0.3, -0.2, 1.0]]])
    samples = stn.warp_perspective(images, theta, size, mode=mode, fill=7.0)
    y, x = ((2 * np.arange(side) + 1) / side - 1 for side in size)
    at = theta[0] @ np.stack([*np.meshgrid(x, y), np.ones(size)]).reshape(3, -1)
    grid = (at[:2] / at[2]).T.reshape(1, *size, 2)
    expected = stn.grid_sample(images, grid, mode=mode, fill=7.0)
    assert (expected == 7).mean() > 0.2
    if mode == "nearest":  # rounding decides ties
        assert (samples != expected).mean() < 1e-3
    else:
        np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-9)
