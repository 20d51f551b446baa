"""Splines, Lanczos and Catmull-Rom samples, and mirrored images, beside SciPy, OpenCV and oracles.

A kernel takes seconds to compile, so CI runs a few pairs of mode and padding mode; all of them are
tested by ``python tests/test_interpolations.py``.
"""

import sys

import numpy as np
import pytest
import reference
import scipy.ndimage
import spline_reference
from gradcheck import check_vjp
from scipy.interpolate import BSpline

import numba_stn as stn
from numba_stn import inline
from numba_stn.kernels.math import interpolation
from numba_stn.kernels.math.jit import python_callable
from numba_stn.kernels.math.sampler_kind import LANCZOS4, SPLINE2

SCIPY = {"mirror": "mirror", "reflection": "reflect", "wrap": "grid-wrap",
         "zeros": "grid-constant", "border": "nearest"}  # fmt: skip
ALL = [(order, padding) for order in (2, 3, 4, 5) for padding in SCIPY]
FEW = [(3, "mirror"), (3, "zeros"), (2, "reflection"), (4, "border"), (5, "wrap")]
WIDE = [("lanczos4", "mirror"), ("catmull-rom", "zeros")]


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    """One variant of each kernel is enough, except where threads are tested."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


# --- Weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_the_weights_of_splines_are_those_of_scipy(order):
    weights = python_callable(interpolation.WEIGHTS[SPLINE2 + order - 2])
    slopes = python_callable(interpolation.SLOPES[SPLINE2 + order - 2])
    spline = BSpline.basis_element(np.arange(order + 2.0))
    for t in (0.0, 0.1, 0.5, 0.75, 1.0 - 1e-9):
        at = t + np.arange(order, -1, -1)
        np.testing.assert_allclose(weights(t), spline(at), atol=1e-15)
        np.testing.assert_allclose(slopes(t), spline.derivative()(at), atol=2e-15)


def test_the_weights_of_lanczos_are_those_of_a_windowed_sinc():
    weights = python_callable(interpolation.WEIGHTS[LANCZOS4])
    slopes = python_callable(interpolation.SLOPES[LANCZOS4])
    for t in (0.0, 1e-12, 1e-5, 1 / 32, 0.03126, 0.3, 0.5, 0.7, 1 - 1 / 32, 1 - 1e-5, 1 - 1e-12):
        _, want, want_slopes = zip(*reference.weighted_taps(t, "lanczos4"), strict=True)
        np.testing.assert_allclose(weights(t), want, rtol=0, atol=4e-15)
        np.testing.assert_allclose(slopes(t), want_slopes, rtol=0, atol=4e-13)
        single = weights(np.float32(t)), slopes(np.float32(t))
        np.testing.assert_allclose(single, (weights(t), slopes(t)), rtol=0, atol=3e-6)


# --- Samples beside SciPy's and OpenCV's ----------------------------------------------------------


def positions(rng, height, width, count=(30, 20)):
    """Random positions, half of which are outside, some far away."""
    reach = rng.choice([2, 40], count)
    return rng.uniform(-reach, width + reach), rng.uniform(-reach, height + reach)


def check_spline(order, padding):
    """Sizes below 10 are not compared where SciPy does not pass through the pixels."""
    rng = np.random.default_rng(order)
    smallest = 12 if padding == "reflection" else 1
    sizes = [(smallest, 14), (15, smallest + 1), *rng.integers(smallest, 40, (4, 2))]
    for height, width in sizes:
        image, (x, y) = rng.standard_normal((height, width)), positions(rng, height, width)
        fill = 0.7 if padding == "zeros" else 0.0
        want = scipy.ndimage.map_coordinates(image, [y, x], order=order, mode=SCIPY[padding],
                                             cval=fill)  # fmt: skip
        options = {"mode": f"spline{order}", "padding_mode": padding}
        got = stn.remap(image, x, y, fill=fill, **options)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11)
        single = stn.remap(image.astype(np.float32), x, y, fill=fill, **options)
        np.testing.assert_allclose(single, want, rtol=0, atol=5e-5)


@pytest.mark.parametrize(("order", "padding"), FEW)
def test_splines_are_those_of_scipy(order, padding):
    check_spline(order, padding)


@pytest.mark.parametrize("padding", ["reflection", "mirror", "wrap", "border", "zeros"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_splines_pass_through_the_pixels_of_the_smallest_images(size, padding):
    """SciPy's do not, with its mode "reflect"."""
    rng = np.random.default_rng(size)
    image = rng.standard_normal((size, 9))
    y, x = np.mgrid[:size, :9]
    order = {"reflection": 2, "mirror": 3, "wrap": 5, "border": 4, "zeros": 3}[padding]
    got = stn.remap(image, x, y, mode=f"spline{order}", padding_mode=padding)
    np.testing.assert_allclose(got, image, atol=1e-12)


def test_a_matrix_gives_the_affine_transform_of_scipy():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (50, 41))
    matrix = np.array([[0.9, 0.3, -4.0], [-0.2, 1.1, 3.0]])
    axes = stn.matrices.to_scipy(matrix)
    want = scipy.ndimage.affine_transform(image, *axes, mode="mirror")
    options = {"mode": "spline3", "padding_mode": "mirror"}
    np.testing.assert_allclose(stn.warp_image(image, matrix, **options), want, atol=1e-10)
    whole = np.rint(image).astype(np.uint8)
    want = scipy.ndimage.affine_transform(whole.astype(float), *axes, mode="mirror")
    got = stn.warp_image(whole, matrix, **options)
    assert np.abs(got - np.clip(want, 0, 255)).max() <= 0.501
    want = scipy.ndimage.affine_transform(image, *axes, mode="grid-constant", cval=7)
    got = stn.warp_image(np.stack([image, image], -1), matrix, mode="spline3", fill=7)
    np.testing.assert_allclose(got, np.stack([want, want], -1), atol=1e-10)
    boxes = [[2.0, 3.0, 30.0, 40.0], [0.0, 0.0, 41.0, 50.0]]
    crops = stn.crop_and_resize(image, boxes, (20, 30), **options)
    for box, crop in zip(boxes, crops, strict=True):
        alone = stn.crop_and_resize(image, box, (20, 30), **options)
        np.testing.assert_array_equal(crop, alone)


def test_positions_in_32nds_give_the_lanczos_samples_of_opencv():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    image = rng.standard_normal((30, 27)).astype(np.float32)
    x, y = (rng.integers(-8 * 32, (side + 8) * 32, (40, 37)) / 32 for side in (27, 30))
    maps = x.astype(np.float32), y.astype(np.float32), cv2.INTER_LANCZOS4
    want = cv2.remap(image, *maps, borderMode=cv2.BORDER_REFLECT_101)
    got = stn.remap(image, x, y, mode="lanczos4", padding_mode="mirror")
    np.testing.assert_allclose(got, want, rtol=0, atol=4e-6)
    whole = rng.integers(0, 256, (30, 27), np.uint8)
    want = cv2.remap(whole, *maps, borderMode=cv2.BORDER_REFLECT_101)
    got = stn.remap(whole, x, y, mode="lanczos4", padding_mode="mirror")
    assert np.abs(got.astype(int) - want).max() <= 1


def test_mirrored_images_are_those_of_opencv():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    matrix = np.array([[0.9, 0.3, -20.0], [-0.2, 1.1, 30.0]])
    flags = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REFLECT_101}
    for shape in ((50, 41), (50, 41, 3)):
        image = rng.integers(0, 256, shape, np.uint8)
        for by in (matrix, np.array([[0.7, 0, -30.5], [0, 1.2, 40.25]])):
            want = cv2.warpAffine(image, by, (60, 55), **flags).astype(int)
            got = stn.warp_image(image, by, (55, 60), padding_mode="mirror")
            assert np.abs(got - want).max() <= 1


# --- The oracles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "lanczos4", "catmull-rom"])
@pytest.mark.parametrize("corners", [False, True])
def test_modes_and_mirrors_are_the_oracle(mode, corners):
    """Forward, and both gradients; ``catmull-rom`` under zeros, the others mirrored."""
    padding = "zeros" if mode == "catmull-rom" else "mirror"
    options = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    check_oracle((5, 6), (4, 5), 3.0, options)
    check_oracle((19, 40), (2, 35), 0.4, options)  # whole blocks of pixels, all taps inside


def check_oracle(sides, size, reach, options):
    rng = np.random.default_rng(1)
    images, grid = rng.standard_normal((2, 2, *sides)), rng.uniform(-reach, reach, (2, *size, 2))
    dsamples = rng.standard_normal((2, 2, *size))
    want = reference.grid_sample(images, grid, **options)
    np.testing.assert_allclose(stn.grid_sample(images, grid, **options), want, atol=1e-11)
    got = stn.grid_sample_vjp(dsamples, images, grid, **options)
    for have, correct in zip(
        got, reference.grid_sample_vjp(dsamples, images, grid, **options), strict=True
    ):
        np.testing.assert_allclose(have, correct, atol=1e-10)


def test_volumes_are_mirrored():
    rng = np.random.default_rng(2)
    images, theta = rng.standard_normal((2, 1, 3, 4, 5)), rng.uniform(-1.5, 1.5, (2, 3, 4))
    dsamples = rng.standard_normal((2, 1, 3, 2, 4))
    got = stn.warp_affine(images, theta, (3, 2, 4), padding_mode="mirror")
    want = reference.warp_affine(images, theta, (3, 2, 4), padding_mode="mirror")
    np.testing.assert_allclose(got, want, atol=1e-12)
    got = stn.warp_affine_vjp(dsamples, images, theta, padding_mode="mirror")
    want = reference.warp_affine_vjp(dsamples, images, theta, padding_mode="mirror")
    for have, correct in zip(got, want, strict=True):
        np.testing.assert_allclose(have, correct, atol=1e-11)


def check_spline_gradients(order, padding, corners=False):
    """Beside dense matrices: samples and the gradients by images and grid, in pixels."""
    rng = np.random.default_rng(order)
    for height, width in ((5, 6), (1, 2), (9, 3)):
        image = rng.standard_normal((height, width))
        x, y = rng.uniform(-9, width + 9, 15), rng.uniform(-9, height + 9, 15)
        grid = stn.grid_from_pixels(np.stack([x, y], -1)[None, None], (height, width),
                                    align_corners=corners)  # fmt: skip
        if corners and 1 in image.shape:
            continue  # all coordinates are the same
        options = {"mode": f"spline{order}", "padding_mode": padding, "align_corners": corners}
        fill = 0.5 if padding == "zeros" else 0.0
        want, dx, dy = spline_reference.sample(image, x, y, order, padding, corners, fill)
        got = stn.grid_sample(image[None, None], grid, fill=fill, **options)
        np.testing.assert_allclose(got.ravel(), want, atol=1e-10)
        dsamples = rng.standard_normal((1, 1, 1, 15))
        dimages, dgrid = stn.grid_sample_vjp(
            dsamples, image[None, None], grid, fill=fill, **options
        )
        want = spline_reference.sample_vjp(
            dsamples.ravel(), x, y, image.shape, order, padding, corners
        )
        np.testing.assert_allclose(dimages[0, 0], want, atol=1e-10)
        scale = np.array([width, height]) / 2 - (0.5 if corners else 0)
        want = np.stack([dx, dy], -1) * dsamples.ravel()[:, None] * scale
        np.testing.assert_allclose(dgrid[0, 0], want, atol=1e-9)


@pytest.mark.parametrize(("order", "padding"), FEW)
def test_the_gradients_of_splines_are_those_of_dense_matrices(order, padding):
    check_spline_gradients(order, padding)


def test_mirrors_at_corners_that_are_aligned():
    check_spline_gradients(2, "reflection", corners=True)


def test_gradients_of_maps_and_forward_derivatives():
    rng = np.random.default_rng(3)
    options = {"mode": "spline3", "layout": "NHWC"}
    images, theta = (
        rng.standard_normal((2, 6, 7, 3)),
        np.eye(2, 3) + rng.uniform(-0.4, 0.4, (2, 2, 3)),
    )

    def warp(given):
        return stn.warp_affine(*given, (4, 5), **options)

    def vjp(dsamples):
        return stn.warp_affine_vjp(dsamples, images, theta, **options)

    check_vjp(warp, vjp, (images, theta), rng)
    dots = rng.standard_normal(images.shape), rng.standard_normal(theta.shape)
    found = stn.warp_affine_jvp(images, theta, *dots, (4, 5), **options)
    ends = [
        warp([a + s * 1e-6 * b for a, b in zip((images, theta), dots, strict=True)])
        for s in (1, -1)
    ]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, atol=1e-6)


def test_normal_equations_of_splines():
    rng = np.random.default_rng(4)
    images, theta = rng.standard_normal((1, 1, 6, 7)), np.eye(2, 3)[None] * 0.8
    residuals, columns = rng.standard_normal((1, 1, 6, 7)), []
    for k in range(6):
        dot = np.eye(6)[k].reshape(1, 2, 3)
        columns.append(stn.warp_affine_jvp(images, theta, None, dot, mode="spline3").ravel())
    jacobian = np.stack(columns, 1)
    jtj, jtr = stn.warp_affine_gauss_newton(images, theta, residuals, mode="spline3")
    np.testing.assert_allclose(jtj[0], jacobian.T @ jacobian, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(jtr[0], jacobian.T @ residuals.ravel(), rtol=1e-10, atol=1e-9)


# --- Integers, fills, threads and wrong arguments -------------------------------------------------


def test_fill_has_hard_edges_and_nothing_fades():
    rng = np.random.default_rng(5)
    image = rng.uniform(1, 2, (6, 8))
    y, x = np.mgrid[-3:9:0.25, -3:11:0.25] + 0.01
    got = stn.remap(image, x, y, mode="spline3", padding_mode="fill", fill=-9)
    inside = (x >= -0.5) & (x <= 7.5) & (y >= -0.5) & (y <= 5.5)
    assert (got[~inside] == -9).all()
    want = stn.remap(image, x, y, mode="spline3", padding_mode="border")
    np.testing.assert_allclose(got[inside], want[inside], atol=1e-12)


def test_integers_are_rounded_and_saturated():
    rng = np.random.default_rng(6)
    image = rng.choice(np.uint8([0, 255]), (20, 22, 3))
    x, y = positions(rng, 20, 22)
    got = stn.remap(image, x, y, mode="spline3", padding_mode="mirror")
    assert got.dtype == np.uint8
    for c in range(3):
        want = scipy.ndimage.map_coordinates(image[..., c].astype(float), [y, x], mode="mirror")
        assert want.min() < 0
        assert want.max() > 255
        assert np.abs(got[..., c] - np.clip(want, 0, 255)).max() <= 0.501


def test_the_same_bits_on_one_thread_and_two(monkeypatch):
    numba = pytest.importorskip("numba")
    rng = np.random.default_rng(7)
    images, theta = rng.standard_normal((2, 2, 40, 50)), rng.uniform(-1, 1, (2, 2, 3))
    dsamples = rng.standard_normal(images.shape)
    options = {"mode": "spline3", "padding_mode": "mirror"}

    def run():
        found = stn.warp_affine(images, theta, **options)
        return found, *stn.warp_affine_vjp(dsamples, images, theta, **options)

    alone, before = run(), numba.get_num_threads()
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 0)
    for threads in {1, min(2, before)}:
        numba.set_num_threads(threads)
        for one, two in zip(alone, run(), strict=True):
            np.testing.assert_array_equal(one, two)
    numba.set_num_threads(before)


def test_an_unrolled_image_is_rolled_up_again_by_any_mode():
    rng = np.random.default_rng(8)
    polar = rng.standard_normal((60, 20))
    whole = np.tile(polar, (3, 1))
    x, y = stn.maps.from_polar((41, 41), polar.shape, (20, 20), 20.0)
    want = scipy.ndimage.map_coordinates(whole, [y + 60, x], mode="nearest")
    inside = x < 17
    got = stn.unwarp_polar(polar, (41, 41), (20, 20), 20.0, mode="spline3")
    np.testing.assert_allclose(got[inside], want[inside], atol=1e-6)


def test_a_function_of_one_point_cannot_filter():
    with pytest.raises(ValueError, match="a spline needs the whole image filtered first"):
        inline.sampler("spline3")


if __name__ == "__main__":
    for pair in ALL:
        check_spline(*pair)
        check_spline_gradients(*pair)
        print(*pair, "ok", flush=True)
    sys.exit(0)
