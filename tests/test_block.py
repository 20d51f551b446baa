"""Interior and border blocks give the same, in any division into bands and tiles."""

import numba
import numpy as np
import pytest

import numba_stn as stn
from numba_stn.kernels import cpu_launch
from numba_stn.kernels.cpu import bilinear
from numba_stn.kernels.cpu.simd.vectors import LANES
from numba_stn.kernels.cpu.tiles import BAND, bands_per_tile, rows_per_tile
from numba_stn.kernels.math.jit import python_callable
from numba_stn.kernels.math.sampler_kind import AFFINE, BORDER, GRID, REFLECTION, ZEROS


def compiled(make, source, padding):
    """A kernel that is compiled now, with the present globals of its module."""
    return numba.njit(make(source, padding, False).py_func, error_model="numpy")


def usual(make, source, padding):
    """The kernel as it is, which other tests compile, too."""
    return make(source, padding, False)


@python_callable
def never(height, width, columns):
    return False


def problem(source, dtype, columns):
    """Images, coordinates inside, at the borders and far outside, and a gradient."""
    rng = np.random.default_rng(columns)
    images = rng.standard_normal((2, 3, 12, 19)).astype(dtype)
    theta = (np.eye(2, 3) + 0.5 * rng.standard_normal((2, 2, 3))).astype(dtype)
    coords = theta[:, None] if source == AFFINE else stn.affine_grid(theta, (9, columns))
    if source == GRID:
        odd = [np.nan, np.inf, -np.inf, 1e30, -1.0, 1.0, 0.0, -1 + 1 / 19, 1 - 1 / 19]
        coords[0, :, 2, 0] = odd
        coords[1, :, 3, 1] = odd
        coords[1, 4, :LANES] = 50  # a whole block outside
    return images, coords, rng.standard_normal((2, 3, 9, columns)).astype(dtype)


CASES = [(AFFINE, ZEROS), (AFFINE, BORDER), (AFFINE, REFLECTION), (GRID, ZEROS), (GRID, BORDER)]


@pytest.mark.parametrize(("source", "padding"), CASES)
def test_interior_blocks_give_the_bits_of_border_blocks(source, padding, monkeypatch):
    results = []
    for kernel in (usual, compiled):
        if kernel is compiled:  # no block is taken for an interior one
            monkeypatch.setattr(bilinear, "can_block", never)
        sample = kernel(bilinear.make_sample, source, padding)
        to_images = kernel(bilinear.make_sample_vjp_images, source, padding)
        to_coords = kernel(bilinear.make_sample_vjp_coords, source, padding)
        found = []
        for dtype, columns in ((np.float32, 16), (np.float32, 41), (np.float64, 41)):
            images, coords, dsamples = problem(source, dtype, columns)
            samples = np.full_like(dsamples, np.nan)
            sample(images, coords, 1.0, images.dtype.type(0.3), 1, samples)
            dimages = np.full_like(images, np.nan)
            to_images(dsamples, coords, 1.0, 2, 4, False, dimages)
            in_quads = np.full_like(images, np.nan)
            to_images(dsamples, coords, 1.0, 1, 2, True, in_quads)
            np.testing.assert_allclose(in_quads, dimages, rtol=1e-5, atol=1e-5)
            dcoords = np.zeros((2, 9, 2, 2)) if source == AFFINE else np.full_like(coords, np.nan)
            to_coords(dsamples, images, coords, 1.0, images.dtype.type(0.3), 1, dcoords)
            found.append((samples, dimages, dcoords))
        results.append(found)
    for ours, expected in zip(*results, strict=True):
        for name, a, b in zip(("samples", "dimages", "dcoords"), ours, expected, strict=True):
            assert np.isfinite(b).all()
            assert np.abs(b).max() > 0.1
            if name == "dimages":  # a block sums in its own order
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(a, b, err_msg=name)


def test_infinite_gradients_of_samples_outside_leave_no_nan():
    """Also in blocks: the gradients of an image that no sample reads are 0."""
    images = np.ones((1, 1, 20, 20), np.float32)
    theta = np.array([[[1.0, 0, 0], [0, 1, 0]]], np.float32)
    dsamples = np.zeros((1, 1, 20, 40), np.float32)
    far = theta + np.array([[[0, 0, 9], [0, 0, 0]]], np.float32)
    dsamples[:] = np.inf
    dimages, dtheta = stn.warp_affine_vjp(dsamples, images, far)
    assert not dimages.any()
    assert not dtheta.any()


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("sides", [(1, 64), (2, 64), (3, 40), (40, 2), (33, 3)])
def test_thin_images(sides, padding_mode):
    """No block is inside: a row's limits must be empty, not reversed."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((1, 1, *sides)).astype(np.float32)
    dsamples = rng.standard_normal((1, 1, 40, 64)).astype(np.float32)
    for theta in (
        [[1, 0, 0], [0.5, 1, 0]], [[1, 0, 0], [1e-5, 1, 0]], [[0.05, 1e-4, 0], [1e-3, 0.05, 0]],
        [[-1, 1e-16, 0], [-1e-16, -1, 0]], [[0.3, 0.2, 0.1], [-0.2, 0.3, 0.4]],
    ):  # fmt: skip
        theta = np.array([theta], np.float32)
        grid = stn.affine_grid(theta.astype(np.float64), (40, 64))
        wide = images.astype(np.float64), grid
        options = {"padding_mode": padding_mode}
        found = stn.warp_affine(images, theta, (40, 64), **options)
        np.testing.assert_allclose(found, stn.grid_sample(*wide, **options), atol=2e-5)
        dimages, _ = stn.warp_affine_vjp(dsamples, images, theta, **options)
        expected, _ = stn.grid_sample_vjp(dsamples.astype(np.float64), *wide, **options)
        np.testing.assert_allclose(dimages, expected, atol=2e-3)


@pytest.mark.parametrize("padding", [ZEROS, BORDER, REFLECTION])
def test_the_images_gradient_has_the_same_bits_in_any_bands(padding):
    """For any number of bands, up to one for each row."""
    rng = np.random.default_rng(0)
    dsamples = np.zeros((1, 1, 48, 64), np.float32)
    dsamples[0, 0, [0, 7, 24, 47]] = rng.standard_normal((4, 64))
    kernel = bilinear.make_sample_vjp_images(AFFINE, padding, False)
    for cos, sin in ((-1, 1.2e-16), (6e-17, 1), (0.6, 0.5), (1, 0)):
        theta = np.array([[[cos, -sin, 0], [sin, cos, 0]]], np.float32)
        found = []
        for bands in (1, 2, 5, 48):
            dimages = np.full((1, 1, 48, 64), np.nan, np.float32)
            kernel(dsamples, theta[:, None], 1.0, bands, 4, False, dimages)
            found.append(dimages.view(np.uint32))
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("source", [AFFINE, GRID])
def test_tiles_of_any_height_give_the_same_bits(source):
    """For samples, tiles of any number of rows; for the gradient, of 1 to 4 bands."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((1, 2, 40, 50)).astype(np.float32)
    dsamples = rng.standard_normal((1, 2, 150, 300)).astype(np.float32)
    theta = np.array([[[0.8, -0.5, 0.1], [0.5, 0.8, -0.1]]], np.float32)
    coords = theta[:, None] if source == AFFINE else stn.affine_grid(theta, (150, 300))
    sample = bilinear.make_sample(source, ZEROS, False)
    to_coords = bilinear.make_sample_vjp_coords(source, ZEROS, False)
    found = []
    for bands, height in ((1, 1), (2, BAND + 5), (3, 3 * BAND), (4, 4 * BAND)):
        samples = np.full_like(dsamples, np.nan)
        sample(images, coords, 1.0, np.float32(0), height, samples)
        shape = (1, 5, 2, 3) if source == AFFINE else coords.shape
        dcoords = np.full(shape, np.nan, np.float64 if source == AFFINE else np.float32)
        to_coords(dsamples, images, coords, 1.0, np.float32(0), bands, dcoords)
        assert np.isfinite(samples).all()
        assert np.isfinite(dcoords).all()
        found.append((samples, dcoords))
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_tiles_are_tall_if_no_worker_waits():
    assert bands_per_tile(1, 4096, 2) == 4  # 32 tiles for two workers
    assert bands_per_tile(1, 1080, 2) == 3  # 12 tiles of 3 bands, not 9 of 4
    assert bands_per_tile(1, 128, 4) == 1
    assert bands_per_tile(64, 28, 2) in (1, 2, 3, 4)  # one tile per image


def test_tiles_of_samples_share_the_rows_evenly():
    assert rows_per_tile(1, 4096, 2) == 4 * BAND  # 32 tiles for two workers
    assert rows_per_tile(1, 1080, 2) == 108  # 10 tiles, five for each worker
    assert rows_per_tile(1, 100, 4) == 25
    assert rows_per_tile(64, 28, 2) == 28  # one tile per image
    assert rows_per_tile(3, 100, 2) == 50  # half images: three tiles for each worker
    assert rows_per_tile(3, 10, 2) == 10  # to begin another tile takes as long as some rows


@pytest.mark.parametrize("columns", [1, 2, 7, 15])
def test_rows_too_short_for_blocks_have_exact_coordinates(columns):
    """Their few pixels are far apart in the image, and their steps must not be rounded."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((1, 1, 40, 300)).astype(np.float32)
    theta = np.array([[[1.5, 0.3, 0.26], [-0.2, 1.1, -0.4]]], np.float32)
    got = stn.warp_affine(images, theta, (9, columns), padding_mode="reflection")
    want = stn.warp_affine(
        images.astype(np.float64), theta.astype(np.float64), (9, columns), padding_mode="reflection"
    )
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-6)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_an_infinite_gradient_at_the_edge_reaches_the_same_pixels_in_any_bands(bad):
    """A clipped sample's tap of weight 0 gives NaN in row 1, also if a band begins there."""
    theta = np.tile(np.float32([[[1, 0, 0], [0, 1, -3]]]), (100, 1, 1))
    dsamples = np.zeros((100, 1, 40, 16), np.float32)
    dsamples[0, 0, 1, 5] = bad
    image, found = np.zeros((1, 1, 2, 16), np.float32), []
    stn.warp_affine_vjp(dsamples, image, theta, padding_mode="border")  # starts the threads
    most = numba.get_num_threads()
    try:
        for threads in (1, most):
            numba.set_num_threads(threads)
            options = {"padding_mode": "border", "wrt": ("images",)}
            found.append(stn.warp_affine_vjp(dsamples, image, theta, **options)[0].tobytes())
    finally:
        numba.set_num_threads(most)
    assert len(set(found)) == 1


@pytest.mark.parametrize(("mode", "columns"), [("bicubic", 40), ("nearest", 9)])
def test_any_gradient_of_planes_has_the_same_bits_in_any_bands(mode, columns, monkeypatch):
    """One image, sampled by several maps: each band of its rows goes through all samples."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 13, 11, 2))
    theta = (np.eye(3) + 0.4 * rng.standard_normal((3, 3, 3))) @ np.diag([1, 1, 3])
    dsamples, found = rng.standard_normal((3, 20, columns, 2)), []
    for workers in (1, 2, 5, 13):
        monkeypatch.setattr(cpu_launch, "workers", lambda work, count=workers: count)
        dimages, dtheta = stn.warp_perspective_vjp(
            dsamples, image, theta, mode=mode, padding_mode="border", layout="NHWC"
        )
        found.append((dimages.tobytes(), dtheta.tobytes()))
    assert (dimages != 0).mean() > 0.4
    assert len(set(found)) == 1
