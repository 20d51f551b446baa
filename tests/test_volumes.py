"""Volumes: projective maps, splines and cubic samples, beside SciPy, oracles and differences."""

import numpy as np
import pytest
import reference
import scipy.ndimage
import spline_reference
from gradcheck import check_vjp

import numba_stn as stn
from numba_stn.kernels import cpu_launch

SCIPY = {"mirror": "mirror", "reflection": "reflect", "wrap": "grid-wrap",
         "zeros": "grid-constant", "border": "nearest"}  # fmt: skip


def projective(rng, count=2, spread=0.2):
    """Maps whose divisor is not 0 between -1 and 1."""
    theta = np.eye(4) + spread * rng.standard_normal((count, 4, 4))
    theta[:, 3] = [0, 0, 0, 1] + rng.uniform(-0.25, 0.25, (count, 4)) * [1, 1, 1, 0.3]
    return theta


@pytest.fixture
def serial(monkeypatch):
    """One variant of each kernel is enough."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


# --- Projective maps ------------------------------------------------------------------------------


def test_an_affine_map_with_a_last_row_is_the_affine_map(serial):
    rng = np.random.default_rng(0)
    volumes, theta = rng.standard_normal((2, 2, 5, 6, 7)), rng.uniform(-1, 1, (2, 3, 4))
    square = np.concatenate([theta, np.tile([[[0.0, 0, 0, 1]]], (2, 1, 1))], 1)
    want = stn.warp_affine(volumes, theta, (3, 4, 5))
    for factor in (1.0, -2.0):  # a projective map is a matrix up to a factor
        got = stn.warp_perspective(volumes, factor * square, (3, 4, 5))
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_a_plane_is_a_volume_with_one_slice(serial):
    rng = np.random.default_rng(1)
    images, theta = rng.standard_normal((2, 1, 6, 7)), np.eye(3) + rng.uniform(-0.2, 0.2, (2, 3, 3))
    deep = np.tile(np.eye(4), (2, 1, 1))
    deep[:, [[0], [1], [3]], [0, 1, 3]] = theta
    got = stn.warp_perspective(images[:, :, None], deep, (1, 5, 4))[:, :, 0]
    np.testing.assert_allclose(got, stn.warp_perspective(images, theta, (5, 4)), atol=1e-12)


def test_forward_derivatives_and_gradients_of_all_inputs(serial):
    rng = np.random.default_rng(2)
    start = rng.standard_normal((2, 2, 5, 4, 6)), projective(rng)
    options = {"mode": "bicubic", "padding_mode": "border", "layout": "NCDHW"}

    def warp(given):
        return stn.warp_perspective(*given, (3, 4, 5), **options)

    check_vjp(warp, lambda d: stn.warp_perspective_vjp(d, *start, **options), start, rng)
    dots = tuple(rng.standard_normal(array.shape) for array in start)
    ends = [
        warp([a + sign * 1e-6 * b for a, b in zip(start, dots, strict=True)]) for sign in (1, -1)
    ]
    found = stn.warp_perspective_jvp(*start, *dots, (3, 4, 5), **options)
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, atol=1e-6)


def test_the_same_bits_on_one_thread_and_on_two(monkeypatch):
    rng = np.random.default_rng(3)
    volumes = rng.standard_normal((2, 1, 9, 10, 11)).astype(np.float32)
    theta = projective(rng)
    found = []
    for work in (0, 10**12):  # two threads, then one
        monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", work)
        samples = stn.warp_perspective(volumes, theta, mode="bicubic")
        parts = samples, *stn.warp_perspective_vjp(samples, volumes, theta, mode="bicubic")
        found.append([part.tobytes() for part in parts])
    assert found[0] == found[1]


def test_plans_antialiasing_and_one_map_for_all(serial):
    rng = np.random.default_rng(4)
    volumes = rng.standard_normal((3, 1, 6, 8, 10))
    one = projective(rng, 1)
    want = stn.warp_perspective(volumes, np.repeat(one, 3, 0))
    np.testing.assert_array_equal(stn.warp_perspective(volumes, one), want)
    plan = stn.plan_warp(volumes, np.repeat(one, 3, 0))
    np.testing.assert_array_equal(plan(volumes, np.repeat(one, 3, 0)), want)
    got = stn.warp_perspective(volumes, np.eye(4)[None], (3, 4, 5), antialias=True)
    blocks = volumes.reshape(3, 1, 3, 2, 4, 2, 5, 2).mean((3, 5, 7))
    np.testing.assert_allclose(got, blocks, atol=1e-12)


def test_empty_batches_and_divisors_of_zero(serial):
    none = stn.warp_perspective(np.zeros((0, 2, 3, 4, 5)), np.zeros((0, 4, 4)))
    assert none.shape == (0, 2, 3, 4, 5)
    theta = np.eye(4)[None].copy()
    theta[:, 3, 3] = 0  # w is 0 everywhere
    samples = stn.warp_perspective(np.ones((1, 1, 2, 2, 2)), theta, fill=7.0)
    np.testing.assert_array_equal(samples, 7.0)
    dimages, dtheta = stn.warp_perspective_vjp(samples, np.ones((1, 1, 2, 2, 2)), theta)
    assert not dimages.any()
    assert not dtheta.any()


@pytest.mark.parametrize(
    ("volumes", "theta", "message"),
    [((1, 1, 2, 2, 2), (1, 3, 3), r"theta: expected shape \(any, 4, 4\), got \(1, 3, 3\)"),
     ((1, 1, 2, 2, 2), (1, 3, 4), r"theta: expected shape \(any, 4, 4\), got \(1, 3, 4\)"),
     ((1, 1, 2, 2), (1, 4, 4), r"theta: expected shape \(any, 3, 3\), got \(1, 4, 4\)"),
     ((2, 1, 2, 2, 2), (3, 4, 4), "images: expected a batch of 1 or 3")],
)  # fmt: skip
def test_maps_that_do_not_fit_are_named(volumes, theta, message):
    with pytest.raises(ValueError, match=message):
        stn.warp_perspective(np.zeros(volumes), np.zeros(theta))


def test_a_matrix_between_voxels_gives_theta_and_back(serial):
    """Each output voxel is sampled where the matrix says."""
    rng, sides, size = np.random.default_rng(10), (7, 8, 9), (4, 5, 6)
    matrix = np.eye(4) + 0.02 * rng.standard_normal((4, 4))
    ramp = np.stack(np.mgrid[tuple(map(slice, sides))][::-1]).astype(float)[None]  # x, y and z
    z, y, x = np.mgrid[1:3, 1:4, 1:5]
    u = np.tensordot(matrix, np.stack([x, y, z, np.ones_like(x)]), 1)
    for corners in (False, True):
        theta = stn.matrices_3d.to_theta(matrix, size, sides, align_corners=corners)
        got = stn.warp_perspective(ramp, theta[None], size, align_corners=corners)
        inner = got[0][:, 1:3, 1:4, 1:5]
        np.testing.assert_allclose(inner, u[:3] / u[3], atol=1e-9)
        back = stn.matrices_3d.from_theta(theta, size, sides, align_corners=corners)
        np.testing.assert_allclose(back / back[3, 3], matrix / matrix[3, 3], atol=1e-12)


def test_maps_are_composed_and_inverted():
    rng = np.random.default_rng(5)
    first, second = projective(rng), projective(rng)
    one = stn.identity_theta(2, "projective 3-D")
    both = stn.compose_theta(first, second)
    np.testing.assert_allclose(both, first @ second, atol=1e-15)
    back = stn.compose_theta(both, stn.invert_theta(both))
    np.testing.assert_allclose(back, one, atol=1e-12)
    check_vjp(lambda x: stn.compose_theta(*x), lambda d: stn.compose_theta_vjp(d, first, second),
              (first, second), rng)  # fmt: skip
    check_vjp(stn.invert_theta, lambda d: stn.invert_theta_vjp(d, stn.invert_theta(first)), first,
              rng)  # fmt: skip


# --- Cubic samples and splines --------------------------------------------------------------------


@pytest.mark.parametrize(("order", "padding"), [(3, "mirror"), (3, "zeros"), (3, "reflection"),
                                                (2, "wrap"), (3, "border")])  # fmt: skip
def test_splines_are_those_of_scipy(serial, order, padding):
    rng, sides = np.random.default_rng(order), (13, 12, 14)
    volume = rng.standard_normal(sides)
    points = rng.uniform(-8, np.add(sides[::-1], 8), (60, 3))
    fill = 0.7 if padding == "zeros" else 0.0
    want = scipy.ndimage.map_coordinates(volume, points[:, ::-1].T, order=order,
                                         mode=SCIPY[padding], cval=fill)  # fmt: skip
    grid = stn.grid_from_pixels(points, sides)[None]
    options = {"mode": f"spline{order}", "padding_mode": padding, "fill": fill}
    got = stn.sample_points(volume[None, None], grid, **options)
    np.testing.assert_allclose(got[0, 0], want, atol=1e-11)
    last = stn.sample_points(volume[None, ..., None], grid, layout="NDHWC", **options)
    np.testing.assert_allclose(last[0, ..., 0], want, atol=1e-11)


@pytest.mark.parametrize("padding", ["zeros", "mirror"])
def test_the_gradients_of_splines_are_those_of_dense_matrices(serial, padding):
    rng, sides = np.random.default_rng(6), (1, 4, 5)
    volumes = rng.standard_normal((2, 2, *sides))
    points = rng.uniform(-4, np.add(sides[::-1], 4), (2, 20, 3))
    dsamples = rng.standard_normal((2, 2, 20))
    options = {"mode": "spline3", "padding_mode": padding, "fill": 0.5}
    grid = stn.grid_from_pixels(points, sides)
    dimages, dpoints = stn.sample_points_vjp(dsamples, volumes, grid, **options)
    for n in range(2):
        axes = [spline_reference.axis(3, points[n, :, 2 - k], side, padding)
                for k, side in enumerate(sides)]  # fmt: skip
        z, y, x = (values for values, _ in axes)
        want = np.einsum("cp,pd,ph,pw->cdhw", dsamples[n], z, y, x)
        np.testing.assert_allclose(dimages[n], want, atol=1e-10)
        lifted = volumes[n] - (0.5 if padding == "zeros" else 0)
        for k, axis in enumerate("xyz"):
            own = [slopes if 2 - a == k else values for a, (values, slopes) in enumerate(axes)]
            slopes = np.einsum("cdhw,pd,ph,pw->cp", lifted, *own)
            want = (dsamples[n] * slopes).sum(0) * sides[2 - k] / 2
            np.testing.assert_allclose(dpoints[n, :, k], want, atol=1e-9, err_msg=axis)


@pytest.mark.parametrize("mode", ["catmull-rom", "lanczos4"])
def test_other_weights_are_the_oracle(serial, mode):
    rng = np.random.default_rng(7)
    volumes, grid = rng.standard_normal((1, 2, 3, 4, 5)), rng.uniform(-2, 2, (1, 2, 2, 3, 3))
    options = {"mode": mode, "padding_mode": "mirror"}
    got = stn.grid_sample(volumes, grid, **options)
    np.testing.assert_allclose(got, reference.grid_sample(volumes, grid, **options), atol=1e-11)


def test_maps_of_splines_have_gradients(serial):
    rng = np.random.default_rng(8)
    start = rng.standard_normal((1, 1, 4, 5, 3)), np.eye(3, 4)[None] + 0.1 * rng.random((1, 3, 4))
    options = {"mode": "spline3", "padding_mode": "border"}
    check_vjp(lambda x: stn.warp_affine(*x, (3, 3, 3), **options),
              lambda d: stn.warp_affine_vjp(d, *start, **options), start, rng)  # fmt: skip


def test_bytes_are_rounded_and_saturated(serial):
    volume = np.zeros((1, 1, 6, 6, 6), np.uint8)
    volume[..., 2:4, 2:4, 2:4] = 255
    points = np.random.default_rng(9).uniform(0, 5, (200, 3))
    grid = stn.grid_from_pixels(points, (6, 6, 6))[None]
    wide = stn.sample_points(volume.astype(np.float32), grid, mode="bicubic")
    assert wide.max() > 255.5
    assert wide.min() < -0.5
    got = stn.sample_points(volume, grid, mode="bicubic")
    np.testing.assert_array_equal(got, np.clip(np.rint(wide), 0, 255))
