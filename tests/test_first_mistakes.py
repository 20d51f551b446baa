"""What people try first: messages that lead on, shapes that mean something, and empty outputs."""

import warnings

import numpy as np
import pytest

import numba_stn as stn

RNG = np.random.default_rng(0)
EYE = np.eye(2, 3, dtype=np.float32)


# --- Messages -------------------------------------------------------------------------------------


def test_one_theta_without_a_batch_axis():
    images = RNG.random((1, 1, 5, 6), np.float32)
    message = r"theta: expected shape \(any, 2, 3\), got \(2, 3\); theta\[None\] is a batch of one"
    with pytest.raises(ValueError, match=message):
        stn.warp_affine(images, EYE)
    with pytest.raises(ValueError, match=r"theta\[None\] is a batch of one"):
        stn.affine_grid(EYE, (3, 3))
    with pytest.raises(ValueError, match=r"grid\[None\] is a batch of one"):
        stn.grid_sample(images, np.zeros((3, 3, 2), np.float32))
    with pytest.raises(ValueError, match=r"theta: expected shape \(any, 2, 3\), got \(3, 2\)$"):
        stn.warp_affine(images, EYE.T)


def test_lists_of_whole_numbers():
    with pytest.raises(TypeError, match=r"got int64; np.asarray\(theta, np.float32\) converts it"):
        stn.warp_affine(np.ones((1, 1, 5, 6), np.float32), np.int64([[[1, 0, 0], [0, 1, 0]]]))


@pytest.mark.parametrize("shape", [(64, 48), (64, 48, 3)])
def test_a_photograph_given_to_a_function_of_batches(shape):
    message = r"images: expected shape .* got \(64, 48.*; warp_image takes one image \(H, W\) or"
    with pytest.raises(ValueError, match=message):
        stn.warp_affine(np.ones(shape, np.float32), EYE[None])
    with pytest.raises(ValueError, match=message):
        stn.grid_sample(np.ones(shape, np.float32), np.zeros((1, 3, 3, 2), np.float32))


def test_channels_last_without_the_layout():
    images = np.ones((2, 64, 64, 3), np.float32)
    theta = np.stack([EYE, EYE])
    with pytest.warns(UserWarning, match=r'64 channels of 64 x 3 pixels.*pass layout="NHWC"'):
        stn.warp_affine(images, theta)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stn.warp_affine(images, theta, layout="NHWC").shape == images.shape
        stn.warp_affine(np.ones((2, 64, 4, 4), np.float32), theta)  # small feature maps
        stn.warp_affine(np.ones((2, 3, 64, 4), np.float32), theta)


def test_shapes_of_dask_arrays_are_named_as_they_are():
    da = pytest.importorskip("dask.array")
    with pytest.raises(ValueError, match=r"images: expected shape .* got \(64, 64, 64\)"):
        stn.warp_affine(da.zeros((64, 64, 64), "f4"), np.tile(EYE, (64, 1, 1)))


# --- One map for all images -----------------------------------------------------------------------


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("projective", [False, True])
def test_one_theta_for_all_images(projective, antialias):
    """As if it were repeated; its gradient is the sum of theirs."""
    warp, vjp = (stn.warp_perspective, stn.warp_perspective_vjp) if projective else (
        stn.warp_affine, stn.warp_affine_vjp)  # fmt: skip
    images = RNG.random((3, 2, 9, 11))
    theta = np.eye(3)[None, : 3 if projective else 2] + RNG.normal(0, 0.1, (1, 2 + projective, 3))
    repeated = np.repeat(theta, 3, 0)
    options = {"antialias": antialias}
    samples = warp(images, theta, (5, 4), **options)
    np.testing.assert_array_equal(samples, warp(images, repeated, (5, 4), **options))
    dsamples = RNG.random(samples.shape)
    dimages, dtheta = vjp(dsamples, images, theta, **options)
    expected = vjp(dsamples, images, repeated, **options)
    np.testing.assert_array_equal(dimages, expected[0])
    np.testing.assert_array_equal(dtheta, expected[1].sum(0, keepdims=True))
    assert vjp(dsamples, images, theta, wrt=("images",), **options)[1] is None
    with pytest.raises(ValueError, match="images: expected a batch of 1 or 2"):
        warp(images, repeated[:2])


# --- Empty outputs --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("sides", [(0, 5), (5, 0), (0, 0)])
def test_grids_without_positions(sides, mode):
    """Samples without pixels, and gradients of zeros, as PyTorch's."""
    images, grid = np.ones((2, 3, 4, 4)), np.ones((2, *sides, 2))
    samples = stn.grid_sample(images, grid, mode=mode)
    assert samples.shape == (2, 3, *sides)
    _, covered = stn.grid_sample(images, grid, mode=mode, coverage=True)
    assert covered.shape == (2, *sides)
    dimages, dgrid = stn.grid_sample_vjp(samples, images, grid, mode=mode)
    assert dimages.shape == images.shape
    assert not dimages.any()
    assert dgrid.shape == grid.shape
    tangent = stn.grid_sample_jvp(images, grid, np.ones_like(images), np.ones_like(grid), mode=mode)
    assert np.shape(tangent)[-4:] == samples.shape


def test_a_volume_without_positions():
    images, grid = np.ones((1, 2, 3, 4, 5)), np.ones((1, 0, 2, 3, 3))
    samples = stn.grid_sample(images, grid)
    assert samples.shape == (1, 2, 0, 2, 3)
    dimages, dgrid = stn.grid_sample_vjp(samples, images, grid)
    assert not dimages.any()
    assert dgrid.shape == grid.shape


# --- Kinks ----------------------------------------------------------------------------------------


def test_the_slope_at_a_kink_is_that_of_one_side():
    """A coordinate that is a pixel in exact arithmetic: PyTorch's is 1e-16 less."""
    image = np.tile(np.arange(5.0), (1, 1, 5, 1))
    _, dgrid = stn.grid_sample_vjp(np.ones((1, 1, 1, 1)), image, np.full((1, 1, 1, 2), -0.8))
    left, right = 0.0, 2.5  # per pixel 0 (outside is 0) and 1; a pixel is 1 / 2.5 of [-1, 1]
    assert dgrid[0, 0, 0, 0] in (left, right)


# --- Nearest pixels of a resized image ------------------------------------------------------------


def test_half_way_between_two_pixels_the_second_is_taken():
    """As INTER_NEAREST_EXACT, nearest-exact, Pillow and scikit-image do."""
    row = np.arange(8, dtype=np.uint8)[None]
    assert stn.resize(row, (1, 4), mode="nearest").tolist() == [[1, 3, 5, 7]]
    assert stn.resize(row, (1, 2), mode="nearest").tolist() == [[2, 6]]
    crops = stn.crop_and_resize(row, [(0, 0, 8, 1), (2, 0, 6, 1)], (1, 2), mode="nearest")
    assert crops.tolist() == [[[2, 6]], [[3, 5]]]
    assert stn.crop_and_resize(row, (2, 0, 6, 1), (1, 2), mode="nearest").tolist() == [[3, 5]]


def test_nearest_pixels_are_exact_for_all_sides():
    for _ in range(200):
        height, width, rows, columns = (int(side) for side in RNG.integers(1, 70, 4))
        image = RNG.integers(0, 256, (height, width), np.uint8)
        y = (2 * np.arange(rows) + 1) * height // (2 * rows)
        x = (2 * np.arange(columns) + 1) * width // (2 * columns)
        found = stn.resize(image, (rows, columns), mode="nearest")
        np.testing.assert_array_equal(found, image[y[:, None], x])
    _, matrix = stn.resize(np.zeros((8, 8), np.uint8), (4, 4), mode="nearest", return_matrix=True)
    np.testing.assert_allclose(matrix, [[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])


@pytest.mark.parametrize("sides", [(64, 48), (7, 5), (250, 100)])
def test_nearest_pixels_of_other_libraries(sides):
    cv2 = pytest.importorskip("cv2")
    image = RNG.integers(0, 256, (2 * sides[0], 2 * sides[1]), np.uint8)
    expected = cv2.resize(image, sides[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(stn.resize(image, sides, mode="nearest"), expected)
