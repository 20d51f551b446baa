"""Forward derivatives: against differences, against the gradients, and J^T J against J."""

import itertools

import numpy as np
import pytest

import numba_stn as stn

CASES = list(itertools.product(("zeros", "reflection", "fill"), ("bilinear", "bicubic")))
WARPS = {"warp_affine": (2, 3), "warp_perspective": (3, 3)}


def problem(seed, shape=(2, 3)):
    rng = np.random.default_rng(seed)
    theta = np.eye(*shape)[None] + 0.2 * rng.standard_normal((2, *shape))
    return rng, rng.random((2, 3, 9, 8)), theta


def difference(f, at, towards, step=1e-7):
    """Central difference of f along a direction."""
    ahead, behind = ([a + s * d for a, d in zip(at, towards, strict=True)] for s in (step, -step))
    return (f(*ahead) - f(*behind)) / (2 * step)


@pytest.mark.parametrize(("padding_mode", "mode"), CASES)
@pytest.mark.parametrize("name", WARPS)
def test_warps_against_differences(name, padding_mode, mode):
    rng, images, theta = problem(0, WARPS[name])
    chosen = {"padding_mode": padding_mode, "mode": mode, "fill": [0.1, 0.2, 0.3]}
    dots = rng.standard_normal(images.shape), rng.standard_normal(theta.shape)
    warp, jvp = getattr(stn, name), getattr(stn, f"{name}_jvp")
    expected = difference(lambda *x: warp(*x, (6, 20), **chosen), (images, theta), dots)
    got = jvp(images, theta, *dots, (6, 20), **chosen)
    np.testing.assert_allclose(got, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_grid_sample_against_its_gradients(layout):
    rng, images, _ = problem(1)
    images = np.ascontiguousarray(np.moveaxis(images, 1, -1)) if layout == "NHWC" else images
    grid = rng.uniform(-1.2, 1.2, (2, 4, 5, 2))
    images_dot, grid_dot = rng.standard_normal(images.shape), rng.standard_normal(grid.shape)
    ahead = stn.grid_sample_jvp(images, grid, images_dot, grid_dot, layout=layout)
    d = rng.standard_normal(ahead.shape)
    dimages, dgrid = stn.grid_sample_vjp(d, images, grid, layout=layout)
    back = np.sum(dimages * images_dot) + np.sum(dgrid * grid_dot)
    assert abs(np.sum(d * ahead) - back) < 1e-11 < 0.1 < abs(back)


def test_volumes_against_their_gradients():
    rng = np.random.default_rng(2)
    volumes, theta = rng.random((1, 2, 4, 5, 6)), np.eye(3, 4) + 0.1 * rng.random((2, 3, 4))
    dots = rng.standard_normal(volumes.shape), rng.standard_normal(theta.shape)
    ahead = stn.warp_affine_jvp(volumes, theta, *dots)
    d = rng.standard_normal(ahead.shape)
    dvolumes, dtheta = stn.warp_affine_vjp(d, volumes, theta)
    back = np.sum(dvolumes * dots[0]) + np.sum(dtheta * dots[1])
    assert abs(np.sum(d * ahead) - back) < 1e-10 < 0.1 < abs(back)


def test_a_tangent_that_is_not_given_is_zero():
    rng, images, theta = problem(3)
    images_dot, theta_dot = rng.standard_normal(images.shape), rng.standard_normal(theta.shape)
    both = stn.warp_affine_jvp(images, theta, images_dot, theta_dot)
    one = stn.warp_affine_jvp(images, theta, images_dot)
    np.testing.assert_array_equal(one, stn.warp_affine(images_dot, theta))
    other = stn.warp_affine_jvp(images, theta, theta_dot=theta_dot)
    np.testing.assert_allclose(both, one + other, atol=1e-12)
    assert not stn.warp_affine_jvp(images, theta).any()


def test_the_nearest_pixel_does_not_move():
    rng, images, theta = problem(4)
    theta_dot = rng.standard_normal(theta.shape)
    assert not stn.warp_affine_jvp(images, theta, theta_dot=theta_dot, mode="nearest").any()


@pytest.mark.parametrize(("padding_mode", "mode"), CASES)
def test_the_normal_equations_are_those_of_the_jacobian(padding_mode, mode):
    rng, images, theta = problem(5)
    chosen = {"padding_mode": padding_mode, "mode": mode}
    residuals = rng.standard_normal((2, 3, 6, 7))
    columns = [
        stn.warp_affine_jvp(
            images, theta, theta_dot=np.tile(unit.reshape(2, 3), (2, 1, 1)), size=(6, 7), **chosen
        ).reshape(2, -1)
        for unit in np.eye(6)
    ]
    jacobian = np.stack(columns, axis=-1)
    jtj, jtr = stn.warp_affine_gauss_newton(images, theta, residuals, **chosen)
    np.testing.assert_allclose(jtj, np.einsum("npi,npj->nij", jacobian, jacobian), atol=1e-9)
    expected = np.einsum("npi,np->ni", jacobian, residuals.reshape(2, -1))
    np.testing.assert_allclose(jtr, expected, atol=1e-9)
    assert np.abs(jtj).max() > 1 < np.abs(jtr).max()


def test_gauss_newton_aligns_images():
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    image = np.exp(-3 * ((x - 0.1) ** 2 + 0.4 * y**2 + 0.5 * x * y))[None, None]
    moved = np.array([[[1.05, 0.08, 0.1], [-0.06, 0.95, -0.08]]])
    target, theta = stn.warp_affine(image, moved, mode="bicubic"), np.eye(2, 3)[None]
    for _ in range(8):
        residuals = stn.warp_affine(image, theta, mode="bicubic") - target
        jtj, jtr = stn.warp_affine_gauss_newton(image, theta, residuals, mode="bicubic")
        theta = theta - np.linalg.solve(jtj, jtr[..., None]).reshape(1, 2, 3)
    np.testing.assert_allclose(theta, moved, atol=1e-6)


def test_integers_move_in_float32():
    image = (np.arange(48).reshape(1, 1, 6, 8) * 5).astype(np.uint8)
    theta, theta_dot = np.eye(2, 3)[None], np.full((1, 2, 3), 0.1)
    got = stn.warp_affine_jvp(image, theta, theta_dot=theta_dot)
    expected = stn.warp_affine_jvp(image.astype(np.float32), theta, theta_dot=theta_dot)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-3)


IMAGES, THETA = np.zeros((2, 1, 4, 4)), np.zeros((2, 2, 3))
BAD = {
    "theta_dot.*2, 2, 3.*got .2, 2": lambda: stn.warp_affine_jvp(
        IMAGES, THETA, theta_dot=THETA[..., :2]
    ),
    "theta_dot.*float64.*float32": lambda: stn.warp_affine_jvp(
        IMAGES, THETA, theta_dot=THETA.astype("f")
    ),
    "images_dot.*float64.*float32": lambda: stn.warp_affine_jvp(IMAGES, THETA, IMAGES.astype("f")),
    "mode.*bilinear.*nearest": lambda: stn.warp_affine_gauss_newton(
        IMAGES, THETA, IMAGES, mode="nearest"
    ),
    "residuals.*2, 1, any.*got .1, 1, 4": lambda: stn.warp_affine_gauss_newton(
        IMAGES, THETA, IMAGES[:1]
    ),
    "images.*planes": lambda: stn.warp_affine_gauss_newton(
        np.zeros((1, 1, 2, 2, 2)), np.zeros((1, 3, 4)), np.zeros((1, 1, 2, 2, 2))
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()
