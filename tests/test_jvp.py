"""Forward derivatives: against differences, against the gradients, and J^T J against J."""

import itertools

import numpy as np
import pytest
import reference
from samplers import EXACT, MODES, PADDINGS, Sampler, problem

import numba_stn as stn

exact = pytest.mark.parametrize("sampler", EXACT, ids=str)
corners = pytest.mark.parametrize("align_corners", [False, True])


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


def moving(seed, sampler, align_corners):
    """A problem, and tangents of its images and coordinates."""
    rng = np.random.default_rng(seed)
    given = problem(rng, sampler, align=align_corners)
    return given, rng.standard_normal(given.images.shape), rng.standard_normal(given.coords.shape)


def difference(f, at, towards, step=1e-8):
    """Central difference of f along a direction."""
    plus, minus = ([a + s * d for a, d in zip(at, towards, strict=True)] for s in (step, -step))
    return (f(*plus) - f(*minus)) / (2 * step)


# --- Every sampler --------------------------------------------------------------------------------


@exact
@corners
def test_against_differences(sampler, align_corners):
    given, images_dot, coords_dot = moving(0, sampler, align_corners)
    got = sampler.jvp(given, images_dot, coords_dot, align_corners)
    if sampler.mode == "nearest":  # small steps do not change the nearest pixel
        coords_dot = 0 * coords_dot

    def samples(images, coords):
        return sampler.sample(images, coords, given.size, align_corners, fill=given.fill)

    want = difference(samples, (given.images, given.coords), (images_dot, coords_dot))
    np.testing.assert_allclose(got, want, atol=3e-6 * np.abs(want).max())
    assert np.abs(want).max() > 1


@exact
@corners
def test_against_the_gradients(sampler, align_corners):
    """<d, J v> = <J^T d, v>."""
    given, images_dot, coords_dot = moving(1, sampler, align_corners)
    arrays = (given.dsamples, given.images, given.coords)
    forward = np.sum(given.dsamples * sampler.jvp(given, images_dot, coords_dot, align_corners))
    dimages, dcoords = sampler.vjp(*arrays, align_corners, fill=given.fill)
    backward = np.sum(dimages * images_dot) + np.sum(dcoords * coords_dot)
    scale = np.sum(np.abs(dcoords * coords_dot)) + np.sum(np.abs(dimages * images_dot))
    assert abs(forward - backward) < 1e-12 * scale
    assert abs(backward) > 0.1


# --- Tangents that are zero -----------------------------------------------------------------------


def plane(seed):
    rng = np.random.default_rng(seed)
    return rng, rng.random((2, 3, 9, 8)), np.eye(2, 3)[None] + 0.2 * rng.standard_normal((2, 2, 3))


def test_a_tangent_that_is_not_given_is_zero():
    rng, images, theta = plane(3)
    images_dot, theta_dot = rng.standard_normal(images.shape), rng.standard_normal(theta.shape)
    both = stn.warp_affine_jvp(images, theta, images_dot, theta_dot)
    one = stn.warp_affine_jvp(images, theta, images_dot)
    np.testing.assert_array_equal(one, stn.warp_affine(images_dot, theta))
    other = stn.warp_affine_jvp(images, theta, theta_dot=theta_dot)
    np.testing.assert_allclose(both, one + other, atol=1e-12)
    assert not stn.warp_affine_jvp(images, theta).any()


def test_the_nearest_mode_has_no_slope():
    rng, images, theta = plane(4)
    theta_dot = rng.standard_normal(theta.shape)
    assert not stn.warp_affine_jvp(images, theta, theta_dot=theta_dot, mode="nearest").any()


# --- Gauss-Newton ---------------------------------------------------------------------------------

NORMAL = [
    Sampler("affine", mode, padding, 2, layout)
    for (mode, padding), layout in zip(
        itertools.product(MODES[1:], PADDINGS), itertools.cycle(["NCHW", "NHWC"]), strict=False
    )
]


def jacobian(sampler, given, align_corners):
    """Jacobian of the oracle's samples (N, C, H, W) with respect to theta's six numbers."""
    grid = sampler.grid(given.coords, given.size, align_corners)
    chosen = sampler.options(align_corners) | {"fill": given.fill}
    points = [point for _, point in reference.base_points(given.size, align_corners)]
    base = np.reshape(points, (*given.size, 3))
    slopes = []
    for channel in np.eye(given.images.shape[1]):
        d = np.ones(given.dsamples.shape) * channel[:, None, None]
        slopes.append(reference.grid_sample_vjp(d, given.images, grid, **chosen)[1])
    return np.einsum("cnhwx,hwp->nchwxp", slopes, base).reshape(*given.dsamples.shape, 6)


@corners
@pytest.mark.parametrize("sampler", NORMAL, ids=str)
def test_the_normal_equations_are_those_of_the_jacobian(sampler, align_corners):
    given = problem(np.random.default_rng(5), sampler, align=align_corners)
    arrays = sampler.to_layout(given.images), given.coords, sampler.to_layout(given.dsamples)
    chosen = sampler.options(align_corners) | {"layout": sampler.layout, "fill": given.fill}
    jtj, jtr = stn.warp_affine_gauss_newton(*arrays, **chosen)
    j = jacobian(sampler, given, align_corners)
    np.testing.assert_allclose(jtj, np.einsum("nchwi,nchwj->nij", j, j), atol=1e-9)
    np.testing.assert_allclose(jtr, np.einsum("nchwi,nchw->ni", j, given.dsamples), atol=1e-9)
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


def test_integers_have_tangents_in_float32():
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
