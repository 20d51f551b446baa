"""Displacement fields, pixel coordinates and polar grids: known values, gradients, peers."""

import sys

import fake_cupy
import numpy as np
import pytest
import reference
from gradcheck import check_vjp

import numba_stn as stn

SIZES = {2: (5, 7), 3: (4, 5, 7)}
BOTH = pytest.mark.parametrize("align_corners", [True, False])
DIMS = pytest.mark.parametrize("dims", [2, 3])


def positions(size):
    """Pixel coordinates (1, *size, dims) of each pixel, x first."""
    return np.stack(np.meshgrid(*map(np.arange, size), indexing="ij")[::-1], axis=-1)[None] * 1.0


# --- Displacement ---------------------------------------------------------------------------------


@DIMS
@BOTH
def test_no_displacement_is_the_identity(dims, align_corners):
    size = SIZES[dims]
    got = stn.grid_from_displacement(np.zeros((2, *size, dims)), align_corners=align_corners)
    theta = np.tile(np.eye(dims, dims + 1), (2, 1, 1))
    want = stn.affine_grid(theta, size, align_corners=align_corners)
    np.testing.assert_array_equal(got, want)


@DIMS
@BOTH
def test_integer_displacements_select_pixels(dims, align_corners):
    rng, size = np.random.default_rng(dims), SIZES[dims]
    image = rng.standard_normal((1, 1, *size))
    to = np.stack([rng.integers(0, side, size) for side in reversed(size)], axis=-1)
    grid = stn.grid_from_displacement(to[None] - positions(size), align_corners=align_corners)
    got = stn.grid_sample(image, grid, align_corners=align_corners)
    want = image[0, 0][tuple(to[..., dims - 1 - axis] for axis in range(dims))]
    np.testing.assert_allclose(got[0, 0], want, atol=1e-12)


@BOTH
def test_images_of_another_size(align_corners):
    """The identity then resizes the image; a displacement is in pixels of the image."""
    size, image_size = (3, 4), (6, 9)
    chosen = {"align_corners": align_corners}
    displacement = np.random.default_rng(0).standard_normal((1, *size, 2))
    grid = stn.grid_from_displacement(displacement, image_size, **chosen)
    identity = stn.affine_grid(np.eye(2, 3)[None], size, **chosen)
    moved = stn.pixels_from_grid(grid, image_size, **chosen)
    still = stn.pixels_from_grid(identity, image_size, **chosen)
    np.testing.assert_allclose(moved - still, displacement, atol=1e-13)


@BOTH
def test_the_gradient_of_a_volume_s_grid(align_corners):
    dgrid = np.random.default_rng(1).standard_normal((2, 3, 5, 4, 3))
    got = stn.affine_grid_vjp(dgrid, align_corners=align_corners)
    np.testing.assert_allclose(got, reference.affine_grid_vjp(dgrid, align_corners), atol=1e-12)


# --- Pixels ---------------------------------------------------------------------------------------


@DIMS
@BOTH
def test_pixels_and_back(dims, align_corners):
    size, chosen = SIZES[dims], {"align_corners": align_corners}
    grid = stn.grid_from_pixels(positions(size), size, **chosen)
    want = stn.affine_grid(np.eye(dims, dims + 1)[None], size, **chosen)
    np.testing.assert_allclose(grid, want, atol=1e-15)
    np.testing.assert_allclose(
        stn.pixels_from_grid(grid, size, **chosen), positions(size), atol=1e-14
    )


def test_a_side_of_one_pixel_with_aligned_corners():
    chosen = {"align_corners": True}
    pixels = np.array([[2.0, 5.0]])
    np.testing.assert_array_equal(stn.grid_from_pixels(pixels, (1, 3), **chosen), [[1.0, 0.0]])
    np.testing.assert_array_equal(stn.pixels_from_grid(pixels, (1, 3), **chosen), [[3.0, 0.0]])
    displacement = np.ones((1, 1, 3, 2))
    got = stn.grid_from_displacement(displacement, **chosen)
    np.testing.assert_array_equal(got[0, 0], [[0, 0], [1, 0], [2, 0]])


@DIMS
@BOTH
def test_gradients(dims, align_corners):
    rng, size = np.random.default_rng(2), SIZES[dims]
    image_size, chosen = (8, 3, 6)[-dims:], {"align_corners": align_corners}
    x = rng.standard_normal((2, *size, dims))
    for name in ("grid_from_displacement", "grid_from_pixels", "pixels_from_grid"):
        f, vjp = getattr(stn, name), getattr(stn, f"{name}_vjp")
        check_vjp(
            lambda x, f=f: f(x, image_size, **chosen),
            lambda d, vjp=vjp: vjp(d, image_size, **chosen), x, rng,
        )  # fmt: skip
    check_vjp(
        lambda x: stn.grid_from_displacement(x, **chosen),
        lambda d: stn.grid_from_displacement_vjp(d, **chosen), x, rng,
    )  # fmt: skip


def results(like, dtype):
    """Results of all functions on arrays converted by ``like``."""
    x = like(np.random.default_rng(3).standard_normal((2, 3, 4, 2)).astype(dtype))
    yield stn.grid_from_displacement(x)
    yield stn.grid_from_displacement_vjp(x)
    for f in (stn.grid_from_pixels, stn.pixels_from_grid):
        yield f(x, (3, 5))
    for f in (stn.grid_from_pixels_vjp, stn.pixels_from_grid_vjp):
        yield f(x, (3, 5))
    yield stn.polar_grid((3, 4), (8, 9), like(np.ones((2, 2), dtype)), 3)
    yield stn.polar_grid_vjp(x, (8, 9))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_are_kept(dtype):
    assert {array.dtype for array in results(np.asarray, dtype)} == {np.dtype(dtype)}
    assert stn.polar_grid((3, 4), (8, 9), (4, 4), 3).dtype == np.float64


def test_arrays_of_cupy_stay_on_the_gpu(monkeypatch):
    cupy = fake_cupy.module()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    pairs = zip(results(cupy.asarray, "float64"), results(np.asarray, "float64"), strict=True)
    for got, want in pairs:
        assert isinstance(got, fake_cupy.ndarray)
        np.testing.assert_array_equal(got.get(), want)


# --- Polar ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
def test_against_scikit_image(log):
    transform = pytest.importorskip("skimage.transform")
    image = np.random.default_rng(4).random((20, 30))
    want = transform.warp_polar(
        image, (9.5, 14.0), radius=9.0, output_shape=(16, 8), order=1,
        scaling="log" if log else "linear",
    )  # fmt: skip
    grid = stn.polar_grid((16, 8), image.shape, (14.0, 9.5), 9.0, log=log)
    got = stn.grid_sample(image[None, None], grid)
    np.testing.assert_allclose(got[0, 0], want, atol=1e-12)


def test_against_opencv():
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(5).random((20, 30), np.float32)
    flags = cv2.WARP_POLAR_LINEAR | cv2.INTER_LINEAR
    want = cv2.warpPolar(image, (8, 16), (14.0, 9.5), 9.0, flags)
    grid = stn.polar_grid((16, 8), image.shape, (14.0, 9.5), 9.0)
    got = stn.grid_sample(image[None, None].astype(np.float64), grid)
    np.testing.assert_allclose(
        got[0, 0], want, atol=0.04
    )  # OpenCV rounds coordinates to 1/32 of a pixel
    assert np.abs(got[0, 0] - want).mean() < 0.01


def test_a_rotated_image_is_shifted():
    y, x = np.mgrid[-20:21, -20:21] / 20.0
    blob = np.exp(-6 * ((x - 0.4) ** 2 + (y - 0.1) ** 2))[None, None]
    rotated = np.ascontiguousarray(np.rot90(blob, -1, (2, 3)))  # 90 degrees, from x towards y
    grid = stn.polar_grid((8, 10), (41, 41), (20, 20), 18.0)
    one, other = (stn.grid_sample(image, grid) for image in (blob, rotated))
    np.testing.assert_allclose(np.roll(one, 2, axis=2), other, atol=1e-12)


@BOTH
def test_the_center_s_gradient(align_corners):
    rng, chosen = np.random.default_rng(6), {"align_corners": align_corners}
    check_vjp(
        lambda c: stn.polar_grid((5, 6), (20, 30), c, 8.0, log=True, **chosen),
        lambda d: stn.polar_grid_vjp(d, (20, 30), **chosen), rng.random((3, 2)), rng,
    )  # fmt: skip


# --- Other arrays ---------------------------------------------------------------------------------

DISPLACEMENT, POINTS = np.zeros((1, 3, 4, 2)), np.zeros((5, 2))


BAD = {
    "displacement.*N, H, W, 2.*N, D, H, W, 3.*3, 4, 2": lambda: stn.grid_from_displacement(
        DISPLACEMENT[0]
    ),
    "displacement.*int64": lambda: stn.grid_from_displacement(DISPLACEMENT.astype(int)),
    "displacement.*one pixel": lambda: stn.grid_from_displacement(DISPLACEMENT[:, :0]),
    "align_corners.*1": lambda: stn.grid_from_displacement(DISPLACEMENT, align_corners=1),
    "image_size.*D, H, W.*4, 5": lambda: stn.grid_from_pixels(np.zeros((2, 3)), (4, 5)),
    "image_size.*0, 5": lambda: stn.pixels_from_grid(POINTS, (0, 5)),
    "image_size.*H, W.*7$": lambda: stn.grid_from_pixels_vjp(POINTS, 7),
    "grid.*..., 2.*..., 3.*5, 1": lambda: stn.pixels_from_grid(POINTS[:, :1], (4, 5)),
    "dgrid.*N, H, W, 2.*5, 2": lambda: stn.polar_grid_vjp(POINTS, (4, 5)),
    "center.*N, 2.*1, 3, 4, 2": lambda: stn.polar_grid((3, 4), (8, 9), DISPLACEMENT, 3.0),
    "radius.*above 1.*1": lambda: stn.polar_grid((3, 4), (8, 9), (4, 4), 1, log=True),
    "radius.*above 0.*nan": lambda: stn.polar_grid((3, 4), (8, 9), (4, 4), np.nan),
    "size.*3": lambda: stn.polar_grid(3, (8, 9), (4, 4), 1),
    "log.*'yes'": lambda: stn.polar_grid((3, 4), (8, 9), (4, 4), 3, log="yes"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()
