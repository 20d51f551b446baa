"""Losses for the registration of images: beside slow loops, and gradients by differences."""

import itertools

import numpy as np
import pytest
from gradcheck import check_vjp
from scipy.spatial.distance import dice as dice_distance

from numba_stn import nn


def window_of(side, at, window):
    if window is None:
        return slice(None)
    return slice(max(at - window // 2, 0), min(at + window // 2 + 1, side))


def correlation_by_loops(x, y, window, epsilon=1e-5):
    total = 0.0
    for index in itertools.product(*map(range, x.shape)):
        around = tuple(window_of(x.shape[k], index[k], window) for k in range(2, x.ndim))
        a, b = x[index[:2]][around].ravel(), y[index[:2]][around].ravel()
        (va, cov), (_, vb) = np.cov(a, b, bias=True) if a.size > 1 else np.zeros((2, 2))
        total += cov**2 / (va * vb + epsilon)
    return 1 - total / x.size


@pytest.mark.parametrize("window", [1, 3, 5, 99, None])
@pytest.mark.parametrize("shape", [(2, 2, 6, 7), (1, 1, 3, 4, 5)])
def test_correlation(shape, window):
    rng = np.random.default_rng(0)
    x, y = rng.random((2, *shape))
    value, dx = nn.cross_correlation(x, y, window)
    assert value == pytest.approx(correlation_by_loops(x, y, window), rel=1e-9)
    if window == 1:
        assert (value, np.abs(dx).max()) == (1, pytest.approx(0, abs=1e-12))
        return
    check_vjp(
        lambda x: np.array(nn.cross_correlation(x, y, window)[0]), lambda d: d * dx, x, rng,
    )  # fmt: skip


def test_correlation_ignores_brightness_and_contrast():
    x = np.random.default_rng(0).random((1, 1, 12, 12)).astype(np.float32)
    shade = np.linspace(1, 1.3, 12, dtype=np.float32)
    value, dx = nn.cross_correlation(x * shade + 3, x, 5)
    assert (value < 0.05, dx.dtype) == (True, np.float32)


def test_dice():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 2, 3, 5, 6)) > 0.5
    expected = np.mean([[dice_distance(a.ravel(), b.ravel()) for a, b in zip(p, q, strict=True)]
                        for p, q in zip(x, y, strict=True)])  # fmt: skip
    assert nn.dice(x.astype(float), y)[0] == pytest.approx(expected, abs=1e-5)
    x, y = rng.random((2, 2, 3, 5, 6))
    _, dx = nn.dice(x, y)
    check_vjp(lambda x: np.array(nn.dice(x, y)[0]), lambda d: d * dx, x, rng)
    assert nn.dice(0 * x, 0 * y)[0] == 0


@pytest.mark.parametrize("shape", [(2, 5, 4, 2), (1, 3, 4, 5, 3), (1, 1, 4, 2)])
def test_smoothness(shape):
    u, rng = np.random.default_rng(0).standard_normal(shape), np.random.default_rng(1)
    axes = shape[-1]
    parts = [np.mean(np.diff(u, axis=k) ** 2) for k in range(1, axes + 1) if shape[k] > 1]
    value, du = nn.smoothness(u)
    assert value == pytest.approx(sum(parts) / axes)
    check_vjp(lambda u: np.array(nn.smoothness(u)[0]), lambda d: d * du, u, rng)


def test_bad_images_are_refused():
    x = np.zeros((1, 1, 4, 4))
    with pytest.raises(ValueError, match="window: expected an odd number, got 4"):
        nn.cross_correlation(x, x, 4)
    with pytest.raises(ValueError, match="window must be a whole number"):
        nn.cross_correlation(x, x, 2.5)
    with pytest.raises(ValueError, match=r"outputs: expected shape \(N, C, H, W\)"):
        nn.cross_correlation(x[0], x[0])
    with pytest.raises(ValueError, match="epsilon must be positive"):
        nn.dice(x, x, 0)
    with pytest.raises(ValueError, match="targets: expected the outputs' shape"):
        nn.dice(x, x[..., 1:])
    with pytest.raises(ValueError, match=r"displacement: expected shape \(N, H, W, 2\)"):
        nn.smoothness(x)
    with pytest.raises(TypeError, match="displacement: expected floating numbers"):
        nn.smoothness(np.zeros((1, 2, 2, 2), int))
