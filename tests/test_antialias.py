"""Antialiased warps: means over areas, their gradients, and their properties."""

import numpy as np
import pytest
from gradcheck import check_vjp
from samplers import EXACT, STORED, pixels, problem

import numba_stn as stn
from numba_stn.kernels.cpu.antialias import part_counts
from numba_stn.kernels.math.sampler_kind import PROJECTIVE, Kind
from numba_stn.ops import validate

IDENTITY = np.eye(2, 3)[None]
INTEGERS = [row for row in STORED if row.dtype.startswith("u") and row.source != "grid"]


def checkerboard(side):
    return (np.indices((side, side)).sum(0) % 2).astype(float)[None, None]


def test_a_checkerboard_shrinks_to_grey():
    board = checkerboard(32)
    aliased = stn.warp_affine(board, IDENTITY, (11, 11))
    smooth = stn.warp_affine(board, IDENTITY, (11, 11), antialias=True)
    assert np.abs(aliased - 0.5).max() > 0.4
    assert np.abs(smooth - 0.5).max() < 0.12


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_whole_factor_is_the_mean_of_blocks(layout):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 3, 12, 20))
    blocks = images.reshape(2, 3, 4, 3, 10, 2).mean(axis=(3, 5))
    if layout == "NHWC":
        images, blocks = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (images, blocks))
    theta = np.repeat(IDENTITY, 2, 0)
    got = stn.warp_affine(images, theta, (4, 10), antialias=True, layout=layout)
    np.testing.assert_allclose(got, blocks, atol=1e-12)


def test_aligned_corners_divide_the_same_areas():
    x = np.linspace(-1, 1, 41)
    image = np.tile(x**2, (1, 1, 3, 1))  # with known means over areas
    got = stn.warp_affine(image, IDENTITY, (3, 11), antialias=True, align_corners=True)
    finer = np.linspace(-1, 1, 11)[1:-1, None] + np.array([-1.5, -0.5, 0.5, 1.5]) * 0.05
    expected = np.interp(finer, x, x**2).mean(axis=1)
    np.testing.assert_allclose(got[0, 0, 1, 1:-1], expected, atol=1e-12)


def test_an_output_pixel_has_at_most_16_parts():
    """At a factor of 64, parts are 4 pixels apart, and each samples halfway between two pixels."""
    image = np.random.default_rng(7).random((1, 1, 3, 128))
    got = stn.warp_affine(image, IDENTITY, (3, 2), antialias=True)
    parts = (image[..., 1::4] + image[..., 2::4]) / 2
    np.testing.assert_allclose(got, parts.reshape(1, 1, 3, 2, 16).mean(-1), atol=1e-12)


def test_parts_of_a_projective_map_follow_its_largest_jacobian():
    """It is measured by differences at 9 x 9 points of the output."""
    rng, (sides, size) = np.random.default_rng(8), ((60, 47), (7, 11))
    theta = np.eye(3) + 0.2 * rng.standard_normal((40, 3, 3))
    theta[:, 2] = [0, 0, 1] + rng.uniform(-0.45, 0.45, (40, 3)) * [1, 1, 0]
    kind = Kind(PROJECTIVE)
    found = part_counts(kind, theta, sides, size, 1.0)[:, 1:]
    line, step = np.linspace(-1, 1, 9), 1e-6
    points = np.stack([*np.meshgrid(line, line), np.ones((9, 9))]).reshape(3, -1)

    def moved(matrix, axis):
        """The distance in pixels that an output pixel's step along an axis takes in the image."""
        at = [matrix @ (points + sign * step * np.eye(3)[:, axis : axis + 1]) for sign in (1, -1)]
        plus, minus = (u[:2] / u[2] for u in at)
        pixels = (plus - minus) / (2 * step) * np.array(sides[::-1])[:, None] / size[1 - axis]
        return np.sqrt((pixels**2).sum(0)).max()

    lengths = np.array([[moved(matrix, axis) for axis in (1, 0)] for matrix in theta])
    np.testing.assert_array_equal(found, np.clip(np.ceil(lengths), 1, 16))
    assert len(np.unique(found)) > 5


def test_parts_of_a_projective_map_of_volumes_follow_its_largest_jacobian():
    """As above; an output with one slice has no points before and after it."""
    rng, sides, step = np.random.default_rng(9), (30, 25, 21), 1e-6
    theta = np.eye(4) + 0.2 * rng.standard_normal((20, 4, 4))
    theta[:, 3] = [0, 0, 0, 1] + rng.uniform(-0.3, 0.3, (20, 4)) * [1, 1, 1, 0]
    for size in ((5, 4, 6), (1, 4, 6)):
        found = part_counts(Kind(PROJECTIVE, dims=3), theta, sides, size, 1.0)
        line = np.linspace(-1, 1, 9)
        points = np.stack(np.meshgrid(line, line, line if size[0] > 1 else [0.0])).reshape(3, -1)
        points = np.concatenate([points, np.ones((1, points.shape[1]))])
        for matrix, parts in zip(theta, found, strict=True):
            for axis in range(3):
                ends = [matrix @ (points + sign * step * np.eye(4)[:, axis : axis + 1])
                        for sign in (1, -1)]  # fmt: skip
                plus, minus = (u[:3] / u[3] for u in ends)
                pixels = (plus - minus) / (2 * step) * np.array(sides[::-1])[:, None]
                length = np.sqrt((pixels**2).sum(0)).max() / size[2 - axis]
                assert parts[2 - axis] == np.clip(np.ceil(length), 1, 16)


def test_maps_that_do_not_shrink_are_unchanged():
    rng = np.random.default_rng(1)
    image = rng.standard_normal((1, 2, 9, 9)).astype(np.float32)
    theta = np.array([[[0.6, -0.5, 0.1], [0.5, 0.6, 0.0]]])
    np.testing.assert_array_equal(
        stn.warp_affine(image, theta, antialias=True), stn.warp_affine(image, theta)
    )


def test_maps_of_a_batch_do_not_affect_each_other():
    rng = np.random.default_rng(2)
    images, theta = (
        rng.random((3, 1, 20, 20)),
        np.eye(2, 3) * np.array([1, 2.5, 4.2])[:, None, None],
    )
    together = stn.warp_affine(images, theta, (7, 8), antialias=True)
    for n in range(3):
        alone = stn.warp_affine(images[n : n + 1], theta[n : n + 1], (7, 8), antialias=True)
        np.testing.assert_array_equal(together[n : n + 1], alone)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sampler", [row for row in EXACT if row.source != "grid"], ids=str)
def test_gradients(sampler, align_corners):
    """Against differences; the images' gradient also as the adjoint."""
    rng = np.random.default_rng(3)
    given = problem(rng, sampler, (5, 13, 12), (2, 4, 5), align=align_corners)
    images, theta, size = given.images, given.coords, given.size

    def samples(images, theta, **options):
        return sampler.sample(images, theta, size, align_corners, antialias=True, **options)

    def gradients(d, **options):
        return sampler.vjp(d, images, theta, align_corners, antialias=True, **options)

    plain = sampler.sample(images, theta, size, align_corners)
    forward = samples(images, theta) * given.dsamples
    assert np.abs(samples(images, theta) - plain).max() > 0.1
    backward = images * gradients(given.dsamples, wrt=("images",))[0]
    assert abs(forward.sum() - backward.sum()) < 1e-12 * np.abs(forward).sum()
    check_vjp(
        lambda x: samples(x, theta, fill=given.fill),
        lambda d: gradients(d, fill=given.fill)[0], images, rng,
    )  # fmt: skip
    if sampler.mode != "nearest":  # small steps do not change the nearest pixels
        check_vjp(
            lambda x: samples(images, x, fill=given.fill),
            lambda d: gradients(d, fill=given.fill)[1], theta, rng, step=1e-8, rtol=1e-5,
        )  # fmt: skip


def test_the_gradient_of_one_image_for_many_maps_is_the_sum():
    rng = np.random.default_rng(4)
    image, theta = rng.random((1, 2, 16, 16)), np.eye(2, 3) * np.array([1, 3])[:, None, None]
    d = rng.standard_normal((2, 2, 5, 5))
    many = np.repeat(image, 2, 0)
    np.testing.assert_array_equal(
        stn.warp_affine(image, theta, (5, 5), antialias=True),
        stn.warp_affine(many, theta, (5, 5), antialias=True),
    )
    dimage, dtheta = stn.warp_affine_vjp(d, image, theta, antialias=True)
    dmany, dexpected = stn.warp_affine_vjp(d, many, theta, antialias=True)
    np.testing.assert_allclose(dimage, dmany.sum(0, keepdims=True), atol=1e-12)
    np.testing.assert_array_equal(dtheta, dexpected)


def test_coverage_out_and_integers():
    image = np.full((1, 1, 16, 16), 200, np.uint8)
    out = np.empty((1, 1, 4, 4), np.uint8)
    theta = np.array([[[1.0, 0, 1.0], [0, 1.0, 0]]])
    got, covered = stn.warp_affine(image, theta, (4, 4), antialias=True, coverage=True, out=out)
    assert got is out
    np.testing.assert_allclose(covered[0, 0], [1, 1, 0.03125 * 1, 0], atol=0.04)
    assert (out[0, 0, :, :2] == 200).all()
    assert not out[0, 0, :, 3].any()


def means_of_integers(images, size):
    """Means of blocks of pixels, (N, C, *size), rounded half to even in whole numbers.

    Also the share of means that are halfway between an even number and the odd one above it, and
    of those halfway between an odd number and the even one above it.
    """
    split = [number for side, count in zip(images.shape[2:], size, strict=True)
             for number in (count, side // count)]  # fmt: skip
    inner = tuple(range(3, 3 + 2 * len(size), 2))
    blocks = images.astype(np.int64).reshape(*images.shape[:2], *split)
    count = np.prod([split[k] for k in range(1, len(split), 2)])
    low, rest = np.divmod(blocks.sum(axis=inner), count)
    half, odd = 2 * rest == count, low % 2 == 1
    found = low + ((2 * rest > count) | (half & odd))
    return found, ((half & ~odd).mean(), (half & odd).mean())


@pytest.mark.parametrize("sampler", INTEGERS, ids=str)
def test_means_of_integers_are_rounded_half_to_even(sampler):
    """An identity that shrinks by whole factors has its parts at pixels, in every mode."""
    sides, size = ((12, 20), (4, 10)) if sampler.dims == 2 else ((4, 6, 8), (2, 2, 4))
    images = pixels(np.random.default_rng(6), (3, 2, *sides), sampler.dtype)
    images[0, 0] = np.iinfo(sampler.dtype).max
    shape = sampler.dims + (sampler.source == "projective"), sampler.dims + 1
    theta = np.tile(np.eye(*shape, dtype=sampler.coords), (3, 1, 1))
    want, halves = means_of_integers(images, size)
    assert min(halves) > 0
    got = sampler.sample(images, theta, size, antialias=True)
    assert got.dtype == sampler.dtype
    np.testing.assert_array_equal(got, want)


def test_means_of_every_integer_dtype_are_tested():
    every = {dtype.name for dtype in validate.BATCH_DTYPES if dtype.kind in "iu"}
    assert {sampler.dtype for sampler in INTEGERS} == every


def test_a_volume_shrinks_too():
    rng = np.random.default_rng(5)
    volume = rng.random((1, 1, 6, 8, 4))
    got = stn.warp_affine(volume, np.eye(3, 4)[None], (3, 2, 4), antialias=True)
    expected = volume.reshape(1, 1, 3, 2, 2, 4, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_invalid_maps_are_safe():
    image, theta = np.ones((1, 1, 4, 4)), np.eye(2, 3)[None].copy()
    for value in (np.nan, np.inf, 1e30, 0.0):
        theta[0, 0, 0] = value
        assert stn.warp_affine(image, theta, antialias=True).shape == (1, 1, 4, 4)
        assert stn.warp_affine(image[:0], theta[:0], antialias=True).shape == (0, 1, 4, 4)
