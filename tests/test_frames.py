"""Small images under an affine map: framed, and processed in strips of rows.

The oracle, and the kernels of larger images (:mod:`numba_stn.kernels.cpu.traversal`), to which the
same calls are sent when a task's memory for frames is set to nothing.
"""

import numpy as np
import pytest
from samplers import Sampler, expected, found, problem
from test_samplers import check

import numba_stn as stn
from numba_stn.kernels.cpu import frames
from numba_stn.kernels.math.sampler_kind import AFFINE, Kind

PADDINGS = ["zeros", "border", "reflection"]
PLANES = [
    Sampler("affine", mode, padding, 2, "NCHW", dtype, dtype)
    for mode, padding, dtype in (
        ("nearest", "zeros", "float32"), ("nearest", "border", "float64"),
        ("nearest", "reflection", "float32"), ("bilinear", "zeros", "float32"),
        ("bilinear", "zeros", "float64"), ("bilinear", "border", "float32"),
        ("bilinear", "reflection", "float32"), ("bilinear", "reflection", "float64"),
        ("bicubic", "zeros", "float64"), ("bicubic", "border", "float32"),
        ("bicubic", "reflection", "float32"), ("bicubic", "reflection", "float64"),
    )
]  # fmt: skip
PIXELS = [
    Sampler("affine", mode, padding, 2, "NHWC", dtype, "float32")
    for mode, padding, dtype in (
        ("nearest", "zeros", "uint8"), ("bilinear", "border", "uint16"),
        ("bicubic", "reflection", "uint8"),
    )
]  # fmt: skip

# Inside; across all edges; half outside; outside; reflected more than once; too far for integers.
MAPS = np.array([
    [[0.9, 0.1, 0.02], [-0.05, 0.8, 0.03]],
    [[-1.3, 0.2, 0.31], [0.1, -1.1, 0.2]],
    [[0.7, 0.3, -0.9], [0.4, 0.5, 0.6]],
    [[0.1, 0.0, 3.7], [0.0, 0.2, 0.0]],
    [[4.0, 0.3, 1.0], [0.5, -5.0, 0.3]],
    [[1e7, 1e6, 0.1], [0.0, 1.0, 1e5]],
])  # fmt: skip


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    """One variant of each kernel is enough; another test compares the serial and parallel ones."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


def small(sampler, sides, size, seed=0, maps=MAPS[:5]):
    """A problem whose images have frames: nothing is read outside but zeros."""
    rng = np.random.default_rng(seed)
    given = problem(rng, sampler, sides, size, len(maps), channels=3)
    coords = maps + 0.01 * rng.standard_normal(maps.shape)
    return given._replace(coords=coords.astype(sampler.coords), fill=np.zeros_like(given.fill))


@pytest.mark.parametrize("sampler", PLANES + PIXELS, ids=str)
def test_framed_images_against_the_oracle(sampler):
    sizes = ((21, 30), (19, 41), False), ((1, 2), (9, 17), True), ((60, 61), (30, 48), False)
    for sides, size, align in sizes:  # of the last one, a frame has one plane
        given = small(sampler, sides, size)
        want, got = expected(sampler, given, align), found(sampler, given, align)
        contrast = np.abs(given.images.astype(float)).max()
        check(sampler, got, want, contrast, side=2 * max(sides) * np.abs(given.coords).max())


@pytest.mark.parametrize("sampler", PLANES, ids=str)
def test_framed_images_give_what_larger_ones_give(sampler, rows_only):
    # With whole blocks, samples have the same bits. Reflected bicubic taps do not, since they are
    # added in reversed order; nor do the gradients, whose sums have another order.
    given = small(sampler, (37, 23), (20, 48), maps=MAPS)
    framed = found(sampler, given)
    with rows_only():
        others = found(sampler, given)
    if (sampler.mode, sampler.padding) != ("bicubic", "reflection"):
        np.testing.assert_array_equal(framed[0], others[0])
    eps = np.finfo(sampler.dtype).eps
    for ours, theirs in zip(framed, others, strict=True):
        scale = 1 + np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=400 * eps * scale)


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_coordinates_that_are_not_numbers(mode, padding_mode, rows_only):
    rng = np.random.default_rng(3)
    images = rng.standard_normal((4, 2, 20, 24)).astype(np.float32)
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (4, 1, 1))
    theta[0, 0, 2], theta[1, 1, 0], theta[2, 0, 0], theta[3, 1, 1] = np.nan, np.inf, -1e30, 3e38
    options = {"mode": mode, "padding_mode": padding_mode}
    framed = stn.warp_affine(images, theta, (20, 32), **options)
    with rows_only():
        others = stn.warp_affine(images, theta, (20, 32), **options)
    np.testing.assert_array_equal(framed, others)


def test_what_is_outside_the_image_does_not_matter():
    # A tap outside has the weight 0: even an infinite gradient or pixel beside it leaves no NaN.
    images = np.zeros((1, 1, 18, 20), np.float32)
    theta = np.array([[[1, 0, 2.5], [0, 1, 0]]], np.float32)
    dsamples = np.full((1, 1, 18, 20), np.nan, np.float32)
    dimages, dtheta = stn.warp_affine_vjp(dsamples, images, theta)
    assert not dimages.any()
    assert not dtheta.any()
    images[..., -1, -1] = np.inf
    samples = stn.warp_affine(images, np.eye(2, 3, dtype=np.float32)[None], padding_mode="border")
    assert np.isposinf(samples[..., -1, -1])


def test_one_image_for_many_maps():
    rng = np.random.default_rng(4)
    image, theta = rng.standard_normal((1, 2, 20, 24)), MAPS[:3].copy()
    dsamples = rng.standard_normal((3, 2, 20, 24))
    dimage, dtheta = stn.warp_affine_vjp(dsamples, image, theta)
    many, each = stn.warp_affine_vjp(dsamples, np.repeat(image, 3, axis=0), theta)
    np.testing.assert_allclose(dimage, many.sum(axis=0, keepdims=True), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(dtheta, each)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_serial_and_parallel_kernels_give_the_same_bits(mode, monkeypatch):
    sampler = Sampler("affine", mode, "border", 2, "NCHW", "float64", "float64")
    given = small(sampler, (40, 33), (300, 41), maps=MAPS[:1])
    serial = found(sampler, given)
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 0)
    for ours, theirs in zip(serial, found(sampler, given), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_which_images_have_a_frame():
    kind, zero = Kind(AFFINE), np.zeros(1, np.float32)

    def planes(sides=(28, 28), size=(28, 28), fill=zero, kind=kind):
        return frames.framed_planes(kind, fill, sides, 4, size)

    assert planes() == 8

    assert planes((80, 80), (80, 80)) == 1
    assert not planes((100, 100), (100, 100))  # a frame would not fit
    assert not planes((80, 80), (20, 20))  # the output is too small for a copy
    assert not planes(size=(28, 15))
    assert not planes(fill=zero + 1)
    assert not planes(kind=kind._replace(dims=3))
    assert not planes((0, 28))
