"""affine_grid, grid_sample and warp_affine: the oracle, gradient checks, properties, bad input."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from gradcheck import check_vjp
from hypothesis import given, settings
from hypothesis import strategies as st

import numba_stn as stn

PADDINGS = ("zeros", "border", "reflection")
CASES = list(itertools.product(PADDINGS, (False, True)))
TOLERANCE = {np.float32: 2e-4, np.float64: 1e-11}  # of values near 1, at coordinates up to 100


def options(padding_mode, align_corners):
    return {"padding_mode": padding_mode, "align_corners": align_corners}


def problem(rng, dtype=np.float64, images=(3, 2, 5, 7), size=(6, 4)):
    """Images, theta, a grid reaching far outside, and a gradient of the samples."""
    batch = images[0]
    theta = np.eye(2, 3) + rng.standard_normal((batch, 2, 3))
    grid = rng.standard_normal((batch, *size, 2)) * rng.choice([0.7, 4.0], (batch, *size, 1))
    arrays = rng.standard_normal(images), theta, grid, rng.standard_normal((*images[:2], *size))
    return [array.astype(dtype) for array in arrays]


def away_from_kinks(rng, batch, size, sides, align_corners):
    """A grid whose pixel coordinates are away from integers and half integers."""
    pixel = rng.integers(-9, 18, (batch, *size, 2)) + rng.choice([0.25, 0.75], (batch, *size, 2))
    pixel += rng.uniform(-0.15, 0.15, pixel.shape)
    side = np.array(sides[::-1], float)
    return 2 * pixel / (side - 1) - 1 if align_corners else (2 * pixel + 1) / side - 1


# --- The oracle -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(6, 4), (1, 5), (5, 1), (1, 1)])
def test_affine_grid_and_its_vjp(dtype, align_corners, size):
    rng = np.random.default_rng(1)
    _, theta, grid, _ = problem(rng, dtype, size=size)
    got = stn.affine_grid(theta, size, align_corners=align_corners)
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got, reference.affine_grid(theta, size, align_corners), rtol=0, atol=TOLERANCE[dtype]
    )
    np.testing.assert_allclose(
        stn.affine_grid_vjp(grid, align_corners=align_corners),
        reference.affine_grid_vjp(grid, align_corners), rtol=0, atol=TOLERANCE[dtype],
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("padding_mode", "align_corners"), CASES)
@pytest.mark.parametrize("fill", [0.0, -1.5])
def test_grid_sample_and_its_vjp(dtype, padding_mode, align_corners, fill):
    images, _, grid, dsamples = problem(np.random.default_rng(2), dtype)
    chosen = options(padding_mode, align_corners) | {"fill": fill}
    agree(
        dtype,
        (stn.grid_sample(images, grid, **chosen),
         *stn.grid_sample_vjp(dsamples, images, grid, **chosen)),
        (reference.grid_sample(images, grid, **chosen),
         *reference.grid_sample_vjp(dsamples, images, grid, **chosen)),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("padding_mode", "align_corners"), CASES)
@pytest.mark.parametrize("size", [(6, 4), (1, 3), (1, 1)])
def test_warp_affine_and_its_vjp(dtype, padding_mode, align_corners, size):
    images, theta, _, dsamples = problem(np.random.default_rng(3), dtype, size=size)
    chosen = options(padding_mode, align_corners)
    agree(
        dtype,
        (stn.warp_affine(images, theta, size, **chosen),
         *stn.warp_affine_vjp(dsamples, images, theta, **chosen)),
        (reference.warp_affine(images, theta, size, **chosen),
         *reference.warp_affine_vjp(dsamples, images, theta, **chosen)),
    )  # fmt: skip


def agree(dtype, got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == dtype
        scale = max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * scale)
        assert np.abs(ours).max() > 0


@pytest.mark.parametrize(("padding_mode", "align_corners"), CASES)
def test_one_image_for_many_maps(padding_mode, align_corners):
    images, theta, grid, dsamples = problem(np.random.default_rng(4))
    one, chosen = images[:1], options(padding_mode, align_corners)
    many = np.repeat(one, 3, axis=0)
    for name, coords in (("grid_sample", grid), ("warp_affine", theta)):
        warp, vjp = getattr(stn, name), getattr(stn, f"{name}_vjp")
        kwargs = {} if name == "grid_sample" else {"size": (6, 4)}
        np.testing.assert_array_equal(
            warp(one, coords, **kwargs, **chosen), warp(many, coords, **kwargs, **chosen)
        )
        dimages, dcoords = vjp(dsamples, one, coords, **chosen)
        assert np.abs(dimages).max() > 0.1 < np.abs(dcoords).max()
        dmany, dexpected = vjp(dsamples, many, coords, **chosen)
        np.testing.assert_allclose(dimages, dmany.sum(0, keepdims=True), atol=1e-12)
        np.testing.assert_array_equal(dcoords, dexpected)


# --- Gradient checks ------------------------------------------------------------------------------


@pytest.mark.parametrize(("padding_mode", "align_corners"), CASES)
def test_gradients_of_grid_sample(padding_mode, align_corners):
    rng = np.random.default_rng(5)
    images = rng.standard_normal((2, 3, 9, 8))
    grid = away_from_kinks(rng, 2, (5, 6), (9, 8), align_corners)
    chosen = options(padding_mode, align_corners)
    check_vjp(
        lambda x: stn.grid_sample(*x, **chosen),
        lambda d: stn.grid_sample_vjp(d, images, grid, **chosen), (images, grid), rng,
    )  # fmt: skip


@pytest.mark.parametrize(("padding_mode", "align_corners"), CASES)
def test_gradients_of_warp_affine(padding_mode, align_corners):
    rng = np.random.default_rng(6)
    images, theta, _, _ = problem(rng)
    chosen = options(padding_mode, align_corners)
    check_vjp(
        lambda x: stn.warp_affine(*x, size=(6, 4), **chosen),
        lambda d: stn.warp_affine_vjp(d, images, theta, **chosen), (images, theta), rng, step=1e-8,
        rtol=1e-5,
    )  # fmt: skip


def test_border_padding_has_no_slope_where_the_coordinate_is_clipped():
    image = np.arange(16.0).reshape(1, 1, 4, 4)
    identity = np.array([[[1.0, 0, 0], [0, 1, 0]]])
    grid = stn.affine_grid(identity, (4, 4), align_corners=True)
    chosen = {"padding_mode": "border", "align_corners": True}
    _, dgrid = stn.grid_sample_vjp(np.ones_like(image), image, grid, **chosen)
    assert not dgrid[0, :, [0, -1], 0].any()
    assert not dgrid[0, [0, -1], :, 1].any()
    assert dgrid[0, 1:-1, 1:-1].all()


# --- Any input ------------------------------------------------------------------------------------


@st.composite
def any_problem(draw):
    """Images and theta of any shape, dtype and stride, and options."""
    side, count = st.integers(1, 9), st.integers(0, 3)
    batch, channels = draw(count), draw(count)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtypes = st.sampled_from([np.float32, np.float64])
    images = rng.standard_normal(
        (draw(st.sampled_from([1, batch])), channels, draw(side), draw(side))
    )
    theta = np.eye(2, 3) + rng.standard_normal((batch, 2, 3))
    chosen = options(draw(st.sampled_from(PADDINGS)), draw(st.booleans()))
    images, theta = images.astype(draw(dtypes)), theta.astype(draw(dtypes))
    return strided(draw, images), strided(draw, theta), (draw(side), draw(side)), chosen


def strided(draw, array):
    """The same values with other strides or another byte order."""
    layout = draw(st.sampled_from(["C", "F", "reversed", "every other", "swapped bytes"]))
    if layout == "reversed":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    if layout == "every other":
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if layout == "swapped bytes":
        return array.astype(array.dtype.newbyteorder("S"))
    return np.array(array, order=layout)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(any_problem())
def test_fused_and_unfused_agree(problem):
    images, theta, size, chosen = problem
    before = images.copy(), theta.copy()
    grid = stn.affine_grid(theta.astype(np.float64), size, align_corners=chosen["align_corners"])
    samples = stn.warp_affine(images, theta, size, **chosen)
    inside = reference.warp_affine(np.ones_like(images), theta, size, **chosen) > 1e-3
    assert (samples[inside] != 0).all()
    atol = 1e-4 if 4 in (images.itemsize, theta.itemsize) else 1e-9
    np.testing.assert_allclose(samples, stn.grid_sample(images, grid, **chosen), atol=atol)
    dsamples = np.cos(np.arange(samples.size)).reshape(samples.shape).astype(samples.dtype)
    dimages, dtheta = stn.warp_affine_vjp(dsamples, images, theta, **chosen)
    dexpected, dgrid = stn.grid_sample_vjp(dsamples, images, grid, **chosen)
    np.testing.assert_allclose(dimages, dexpected, atol=atol)
    assert (dimages.dtype, dtheta.dtype) == (samples.dtype, theta.dtype.newbyteorder("="))
    if atol == 1e-9:  # in float32 a coordinate at a kink may be on either side of it
        dunfused = stn.affine_grid_vjp(dgrid, align_corners=chosen["align_corners"])
        np.testing.assert_allclose(dtheta, dunfused, atol=1e-8)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(theta, before[1])


@settings(deadline=None, max_examples=100)
@given(any_problem())
def test_the_image_gradient_is_the_transpose_of_the_warp(problem):
    images, theta, size, chosen = problem
    samples = stn.warp_affine(images, theta, size, **chosen).astype(float)
    dsamples = np.cos(np.arange(samples.size)).reshape(samples.shape).astype(images.dtype)
    dimages, _ = stn.warp_affine_vjp(dsamples, images, theta, **chosen, wrt=("images",))
    forward, backward = np.sum(samples * dsamples), np.sum(dimages.astype(float) * images)
    inside = reference.warp_affine(np.ones_like(images), theta, size, **chosen) > 1e-3
    assert forward != 0 or not inside.any()
    scale = 1 + np.sum(np.abs(samples * dsamples))
    assert abs(forward - backward) <= 1e-5 * scale


@pytest.mark.parametrize(("padding_mode", "align_corners"), CASES)
def test_odd_coordinates_are_safe(padding_mode, align_corners):
    odd = [np.nan, np.inf, -np.inf, 1e30, -1e30, 3.4e38, 2.0**31, -(2.0**63), 1e18]
    pairs = [(x, y) for x in [*odd, 0.1] for y in [*odd, 0.1]]
    image = np.arange(1.0, 13.0).reshape(1, 1, 3, 4)
    chosen = options(padding_mode, align_corners)
    for dtype in (np.float32, np.float64):
        grid = np.array(pairs, dtype).reshape(1, 10, 10, 2)
        samples = stn.grid_sample(image, grid, fill=-7.0, **chosen)
        expected = reference.grid_sample(image, np.clip(np.nan_to_num(grid, nan=-1e5), -1e5, 1e5),
                                         fill=-7.0, **chosen)  # fmt: skip
        if padding_mode == "reflection":  # too large to reflect exactly, so at the low edge
            low = np.where(np.abs(grid) < 10, grid, -1 if align_corners else -1 + 1e-9)
            expected = reference.grid_sample(image, low, fill=-7.0, **chosen)
            reflected = np.abs(grid) < 2**22  # a float64 of 2^31 is too large as well
            assert np.array_equal(reflected.any(-1), (np.abs(grid) < 10).any(-1))
        np.testing.assert_allclose(samples, expected, atol=1e-6)
        dimages, dgrid = stn.grid_sample_vjp(np.ones_like(samples), image, grid, **chosen)
        assert np.isfinite(dimages).all()
        assert not dgrid[np.abs(np.nan_to_num(grid, nan=1e30)) > 10].any()


def test_infinite_pixels_do_not_leak_from_missing_taps():
    image = np.full((1, 1, 2, 2), np.inf)
    corner = np.array([[[[1.0, 1.0]]]])
    for padding_mode in PADDINGS:
        chosen = {"padding_mode": padding_mode, "align_corners": True}
        assert stn.grid_sample(image, corner, **chosen) == np.inf
        if padding_mode != "zeros":
            _, dgrid = stn.grid_sample_vjp(np.ones((1, 1, 1, 1)), image, corner, **chosen)
            assert not dgrid.any()


@pytest.mark.parametrize("fill", [np.inf, np.nan])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_a_missing_tap_of_weight_zero_adds_nothing(padding_mode, fill):
    """The share of the fill, and its slope, are the differences between fills of 1 and 0."""
    rng = np.random.default_rng(8)
    for sides in ((5, 9), (9, 33)):  # single pixels, and blocks
        chosen = {"padding_mode": padding_mode, "align_corners": True}
        images = rng.standard_normal((1, 1, *sides)).astype(np.float32)
        whole = np.stack(np.meshgrid(*(np.arange(side) for side in sides[::-1])), -1)
        side = np.array(sides[::-1])
        for far in (0, 0.5):  # with 0 all taps that are missing have a weight of 0
            pixel = whole + far * rng.integers(0, 2, whole.shape)
            grid = (2 * pixel / (side - 1) - 1)[None].astype(np.float32)
            samples, slopes = (
                [function(*arrays, fill=k, **chosen) for k in (0.0, 1.0)]
                for function, *arrays in (
                    (reference.grid_sample, images, grid),
                    (reference.grid_sample_vjp, np.ones(images.shape), images, grid),
                )
            )
            found = stn.grid_sample(images, grid, fill=fill, **chosen)
            read = samples[1] != samples[0]
            np.testing.assert_array_equal(np.isfinite(found), ~read)
            np.testing.assert_allclose(found[~read], samples[0][~read], rtol=1e-6, atol=1e-6)
            assert read.any() == (padding_mode == "zeros" and far > 0)
            _, dgrid = stn.grid_sample_vjp(np.ones_like(images), images, grid, fill=fill, **chosen)
            inside = (pixel[None] <= side - 1).all(-1)  # beyond, infinite slopes may cancel
            read = slopes[1][1] != slopes[0][1]
            np.testing.assert_array_equal(np.isfinite(dgrid)[inside], ~read[inside])
            finite = ~read & inside[..., None]
            np.testing.assert_allclose(dgrid[finite], slopes[0][1][finite], rtol=1e-5, atol=1e-5)
        theta = np.eye(2, 3, dtype=np.float32)[None]
        for align in (False, True):
            same = stn.warp_affine(images, theta, fill=fill, **chosen | {"align_corners": align})
            np.testing.assert_array_equal(same, images)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_an_identity_returns_its_images_bit_for_bit(padding_mode, align_corners):
    rng = np.random.default_rng(7)
    for side in (1, 2, 3, 28, 41, 49, 100):
        images = rng.standard_normal((1, 1, side, side + 2)).astype(np.float32)
        samples = stn.warp_affine(
            images, np.eye(2, 3, dtype=np.float32)[None], **options(padding_mode, align_corners)
        )
        np.testing.assert_array_equal(samples, images)


def test_a_constant_image_and_its_fill_stay_constant():
    theta = np.array([[[1.3, 0.4, 0.9], [-0.7, 1.1, 0.3]]])
    samples = stn.warp_affine(np.full((1, 2, 8, 8), 0.3), theta, (30, 30), fill=0.3)
    np.testing.assert_allclose(samples, 0.3, rtol=1e-15)
    far = np.full((1, 4, 4, 2), 9.0)
    assert (stn.grid_sample(np.zeros((1, 1, 8, 8)), far, fill=0.3) == 0.3).all()


# --- The same bits --------------------------------------------------------------------------------

HASH = """
import hashlib, numpy as np, numba_stn as stn
rng = np.random.default_rng(0)
images = rng.standard_normal((2, 3, 150, 170)).astype(np.float32)
theta = (np.eye(2, 3) + 0.3 * rng.standard_normal((2, 2, 3))).astype(np.float32)
grid = stn.affine_grid(theta, (210, 190))
samples = stn.grid_sample(images, grid)
fused = stn.warp_affine(images, theta, (210, 190), padding_mode="reflection")
results = [grid, samples, fused, *stn.grid_sample_vjp(samples, images, grid),
           *stn.warp_affine_vjp(fused, images, theta, padding_mode="border"),
           *stn.warp_affine_vjp(fused, images[:1], theta)]
assert all(np.abs(r).max() > 0.1 for r in results)
print(hashlib.sha256(b"".join(r.tobytes() for r in results)).hexdigest())
"""


@pytest.mark.slow
def test_the_same_bits_with_any_number_of_threads():
    found = []
    for threads in ("1", "2", "4"):
        env = os.environ | {"NUMBA_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", HASH], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1] == found[2]


def test_serial_and_parallel_kernels_give_the_same_bits(monkeypatch):
    from numba_stn.kernels import cpu_launch

    images, theta, grid, dsamples = problem(np.random.default_rng(8), np.float32)
    results = []
    for work in (0, 10**12):
        monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", work)
        results.append(
            [
                stn.affine_grid(theta, (6, 4)),
                stn.affine_grid_vjp(grid),
                stn.grid_sample(images, grid),
                *stn.grid_sample_vjp(dsamples, images, grid),
                *stn.warp_affine_vjp(dsamples, images, theta),
                *stn.warp_affine_vjp(dsamples, images[:1], theta),
                *stn.warp_affine_vjp(dsamples[:1], images[:1], theta[:1]),
            ]
        )
    for serial, parallel in zip(*results, strict=True):
        np.testing.assert_array_equal(serial, parallel)
        assert np.abs(serial).max() > 0.1


# --- Arguments out, wrt and size ------------------------------------------------------------------


def test_out_is_filled_and_returned():
    images, theta, grid, _ = problem(np.random.default_rng(9))
    expected = stn.warp_affine(images, theta, (6, 4))
    assert np.abs(expected).max() > 0.1
    strided = np.empty((3, 2, 6, 8))[..., ::2]
    for out in (np.full((3, 2, 6, 4), np.nan), strided):
        assert stn.warp_affine(images, theta, (6, 4), out=out) is out
        np.testing.assert_array_equal(out, expected)
    out = np.empty((3, 2, 6, 4))
    assert stn.grid_sample(images, grid, out=out) is out


def test_a_gradient_that_is_not_wanted_is_none():
    images, theta, grid, dsamples = problem(np.random.default_rng(10))
    for vjp, coords, name in (
        (stn.grid_sample_vjp, grid, "grid"),
        (stn.warp_affine_vjp, theta, "theta"),
    ):
        dimages, dcoords = vjp(dsamples, images, coords)
        assert np.abs(dimages).max() > 0.1 < np.abs(dcoords).max()
        only, none = vjp(dsamples, images, coords, wrt=("images",))
        np.testing.assert_array_equal(only, dimages)
        assert none is None
        none, only = vjp(dsamples, images, coords, wrt=[name])
        np.testing.assert_array_equal(only, dcoords)
        assert none is None
        assert vjp(dsamples, images, coords, wrt=()) == (None, None)


def test_the_full_shape_is_accepted_as_a_size():
    theta = np.eye(2, 3)[None]
    assert stn.affine_grid(theta, (1, 5, 3, 4)).shape == (1, 3, 4, 2)
    assert stn.affine_grid(theta, np.array([3, 4])).shape == (1, 3, 4, 2)


# --- Bad input ------------------------------------------------------------------------------------

IMAGES, THETA, GRID = np.zeros((2, 1, 4, 4)), np.zeros((2, 2, 3)), np.zeros((2, 3, 3, 2))
SAMPLES = np.zeros((2, 1, 3, 3))

BAD = {
    "images: masked": (lambda: stn.warp_affine(np.ma.ones((2, 1, 4, 4)), THETA), TypeError,
                       "images.*mask"),
    "images: ragged": (lambda: stn.warp_affine([[1, 2], [3]], THETA), TypeError, "images.*list"),
    "size: other batch": (lambda: stn.affine_grid(THETA, (3, 1, 2, 2)), ValueError, "size.*N = 2"),
    "size: huge": (lambda: stn.affine_grid(THETA, (10**30, 2)), ValueError, "size"),
    "fill: complex": (lambda: stn.warp_affine(IMAGES, THETA, fill=1j), TypeError, "fill.*1j"),
    "fill: huge": (lambda: stn.warp_affine(IMAGES.astype("f"), THETA, fill=1e300), ValueError,
                   "fill.*float32.*1e"),
    "wrt: number": (lambda: stn.grid_sample_vjp(SAMPLES, IMAGES, GRID, wrt=5), ValueError,
                    "wrt.*5"),
    "images: rank": (lambda: stn.warp_affine(IMAGES[0], THETA), ValueError, "images.*got .1, 4, 4"),
    "images: dtype": (lambda: stn.warp_affine(IMAGES.astype("U1"), THETA), TypeError, "images.*U1"),
    "images: int": (lambda: stn.warp_affine(IMAGES.astype(int), THETA), TypeError, "images.*int64"),
    "images: object": (lambda: stn.warp_affine(None, THETA), TypeError, "images.*object"),
    "images: batch": (lambda: stn.warp_affine(np.zeros((3, 1, 4, 4)), THETA), ValueError, "images"),
    "images: empty": (lambda: stn.warp_affine(IMAGES[:, :, :0], THETA), ValueError, "images.*0, 4"),
    "theta: shape": (lambda: stn.warp_affine(IMAGES, THETA[:, :, :2]), ValueError, "theta.*2, 2"),
    "theta: rank": (lambda: stn.affine_grid(THETA[0], (2, 2)), ValueError, "theta.*got .2, 3"),
    "theta: complex": (lambda: stn.affine_grid(THETA + 0j, (2, 2)), TypeError, "theta.*complex128"),
    "grid: last side": (lambda: stn.grid_sample(IMAGES, SAMPLES), ValueError, "grid.*any, 2"),
    "size: zero": (lambda: stn.affine_grid(THETA, (0, 2)), ValueError, "size.*0, 2"),
    "size: number": (lambda: stn.affine_grid(THETA, 5), TypeError, "size.*got 5"),
    "size: float": (lambda: stn.affine_grid(THETA, (2.5, 2)), TypeError, "size.*2.5"),
    "size: three": (lambda: stn.warp_affine(IMAGES, THETA, (1, 2, 3)), ValueError, "size.*1, 2, 3"),
    "mode": (lambda: stn.warp_affine(IMAGES, THETA, mode="cubist"), ValueError, "mode.*cubist"),
    "padding_mode": (lambda: stn.grid_sample(IMAGES, GRID, padding_mode="zero"), ValueError,
                     "padding_mode.*'zeros'.*'zero'"),
    "padding_mode: list": (lambda: stn.grid_sample(IMAGES, GRID, padding_mode=[]), ValueError,
                           "padding_mode"),
    "align_corners": (lambda: stn.affine_grid(THETA, (2, 2), align_corners="no"), TypeError,
                      "align_corners.*'no'"),
    "fill": (lambda: stn.warp_affine(IMAGES, THETA, fill="white"), TypeError, "fill.*white"),
    "wrt: name": (lambda: stn.grid_sample_vjp(SAMPLES, IMAGES, GRID, wrt=("theta",)), ValueError,
                  "wrt.*theta"),
    "wrt: string": (lambda: stn.grid_sample_vjp(SAMPLES, IMAGES, GRID, wrt="grid"), ValueError,
                    "wrt.*grid"),
    "dsamples: shape": (lambda: stn.grid_sample_vjp(SAMPLES[:, :, :2], IMAGES, GRID), ValueError,
                        "dsamples.*2, 1, 3, 3.*2, 1, 2, 3"),
    "dsamples: dtype": (lambda: stn.grid_sample_vjp(SAMPLES.astype("f"), IMAGES, GRID), TypeError,
                        "dsamples.*float64.*float32"),
    "dgrid": (lambda: stn.affine_grid_vjp(GRID[0]), ValueError, "dgrid.*3, 3, 2"),
    "out: shape": (lambda: stn.grid_sample(IMAGES, GRID, out=np.zeros((2, 1, 3, 4))), ValueError,
                   "out.*3, 3.*3, 4"),
    "out: dtype": (lambda: stn.grid_sample(IMAGES, GRID, out=SAMPLES.astype("f")), ValueError,
                   "out.*float32"),
    "out: list": (lambda: stn.grid_sample(IMAGES, GRID, out=[]), TypeError, "out.*list"),
    "out: shared": (lambda: stn.warp_affine(IMAGES, THETA, out=IMAGES), ValueError, "out.*shared"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


def test_a_read_only_out_is_named():
    out = np.zeros((2, 1, 3, 3))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out.*read-only"):
        stn.grid_sample(IMAGES, GRID, out=out)
