"""Samplers for a user's own loops: against grid_sample and its gradients, on both targets."""

import itertools
import os
from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit

import numba_stn as stn
from numba_stn.ops import inline

PADDINGS = ("zeros", "border", "reflection", "wrap", "fill")
MODES = ("bilinear", "nearest", "bicubic")
# Every mode and every padding, in the plane and in a volume.
CASES = [(mode, padding, 2) for mode, padding in zip(MODES * 2, PADDINGS, strict=False)]
CASES += [("bilinear", "zeros", 3), ("nearest", "wrap", 3), ("bilinear", "reflection", 3)]
CASES += [("bicubic", "mirror", 3)]


def normalised(points, sides):
    """Normalised coordinates of pixel coordinates."""
    return (2 * points + 1) / np.array(sides[::-1], float) - 1


@pytest.mark.parametrize(("mode", "padding", "dims"), CASES)
def test_one_point_is_a_grid_of_one(mode, padding, dims):
    rng = np.random.default_rng(0)
    sides = (5, 6, 7)[:dims]
    image = rng.standard_normal(sides)
    points = rng.uniform(-4, 11, (60, dims)).round(1) + 0.033
    sample = inline.sampler(mode, padding, dims=dims)
    slopes = inline.sampler_with_gradient(mode, padding, dims=dims)
    grid = normalised(points, sides).reshape(60, *[1] * dims, dims)
    chosen = {"mode": mode, "padding_mode": padding, "fill": 0.25}
    expected = stn.grid_sample(image[None, None], grid, **chosen).ravel()
    _, dgrid = stn.grid_sample_vjp(np.ones((60, 1, *[1] * dims)), image[None, None], grid, **chosen)
    gradient = dgrid.reshape(60, dims) * 2 / np.array(sides[::-1])
    for point, value, slope in zip(points, expected, gradient, strict=True):
        assert sample(image, *point, 0.25) == pytest.approx(value, abs=1e-12)
        found = slopes(image, *point, 0.25)
        np.testing.assert_allclose(found, (value, *slope), atol=1e-10)


def test_the_coordinates_decide_the_type():
    sample = inline.sampler()
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)

    @njit
    def both(image):
        narrow = sample(image, np.float32(0.1), np.float32(0.5), np.float32(0))
        return narrow, sample(image, 0.1, 0.5, 0.0)

    narrow, wide = both(image)
    assert wide == 1.6
    assert narrow == pytest.approx(1.6, abs=1e-6)
    assert str(both.nopython_signatures[0].return_type) == "Tuple(float32, float64)"


def test_a_user_s_own_loop():
    sample = inline.sampler_with_gradient("bicubic", "border")
    y, x = np.mgrid[:20.0, :20.0]
    image = -((x - 7.3) ** 2) - (y - 11.8) ** 2

    @njit
    def climb(image, x, y):
        for _ in range(200):
            _, dx, dy = sample(image, x, y, 0.0)
            x, y = x + 0.1 * dx, y + 0.1 * dy
        return x, y

    top = climb(image, 12.0, 6.0)
    np.testing.assert_allclose(top, (7.3, 11.8), atol=0.2)
    value, dx, dy = sample(image, *top, 0.0)
    assert value >= image.max() - 1e-12
    assert abs(dx) < 1e-6 > abs(dy)


def test_invalid_coordinates_are_safe():
    odd = [np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**63]
    image = np.arange(1.0, 13.0).reshape(3, 4)
    for mode, padding in itertools.product(("bilinear", "bicubic"), PADDINGS):
        sample = inline.sampler_with_gradient(mode, padding)
        for x, y in itertools.product([*odd, 1.2], odd):
            value, dx, dy = sample(image, x, y, -7.0)
            assert np.isfinite(value)
            assert dy == 0
            assert np.isfinite(dx)


def test_an_infinite_pixel_of_weight_0_is_not_sampled():
    image = np.array([[1.0, np.inf], [2.0, np.inf]])
    sample = inline.sampler("bilinear", "border")
    assert sample(image, 0.0, 0.5, 0.0) == 1.5


def test_the_same_function_for_the_same_arguments():
    assert inline.sampler() is inline.sampler("bilinear", "zeros")
    assert inline.sampler() is not inline.sampler(align_corners=True)


@pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") == "1", reason="nothing is compiled")
def test_it_compiles_in_a_cuda_kernel_without_float64(monkeypatch):
    pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
    from numba import cuda, float32

    device = SimpleNamespace(compute_capability=(8, 0))
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
    sample = inline.sampler_with_gradient("bicubic", "reflection")

    def kernel(image, points, out):
        k = cuda.grid(1)
        if k < out.shape[0]:
            value, dx, dy = sample(image, points[k, 0], points[k, 1], float32(0))
            out[k, 0], out[k, 1], out[k, 2] = value, dx, dy

    ptx, _ = cuda.compile_ptx(
        kernel, (float32[:, ::1], float32[:, ::1], float32[:, ::1]), cc=(8, 0)
    )
    assert ".visible .entry" in ptx
    assert ".f64" not in ptx


BAD = {
    "mode.*'cubic'": {"mode": "cubic"},
    "padding_mode.*'edge'": {"padding_mode": "edge"},
    "dims: expected 2 or 3, got 4": {"dims": 4},
    "mode.*whole image.*spline3": {"mode": "spline3", "dims": 3},
    "align_corners.*'no'": {"align_corners": "no"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        inline.sampler(**BAD[message])
