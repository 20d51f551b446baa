"""Thin-plate splines: SciPy's, control points, grids, samples, and gradients."""

import itertools
import math

import numba
import numpy as np
import pytest
from gradcheck import check_vjp
from samplers import MODES, PADDINGS
from scipy.interpolate import RBFInterpolator

import numba_stn as stn
from numba_stn.kernels import cpu_launch
from numba_stn.kernels.cpu import backend, tps
from numba_stn.kernels.math.jit import python_callable
from numba_stn.ops import tps_grid

LATTICE = stn.control_points(4)
kinds = pytest.mark.parametrize(("mode", "padding_mode"), [*itertools.product(MODES, PADDINGS)])


def problem(seed, count=3, k=4, shape=(3, 2, 9, 8)):
    rng = np.random.default_rng(seed)
    control = stn.control_points(k) + 0.15 * rng.standard_normal((count, k * k, 2))
    return rng, rng.standard_normal(shape), control


def wide(seed, regularisation):
    """Splines that sample inside, near the edges and outside, so that every padding matters."""
    rng, images, control = problem(seed)
    control *= 1.5
    outside = np.abs(stn.tps_grid(control, (6, 20), regularisation=regularisation)) > 1
    assert 0.2 < outside.any(axis=-1).mean() < 0.8
    return rng, images, control


def test_the_logarithm_is_as_accurate_as_numpys():
    squares = np.concatenate([np.logspace(-300, 1, 5000), np.linspace(0.4, 2.1, 5000), [1.0, 8.0]])
    energy = python_callable(tps.energy)
    got = np.array([energy(square) for square in squares])
    np.testing.assert_allclose(got, squares * np.log(squares), rtol=4e-16 * 4, atol=1e-307)
    assert energy(0.0) == 0


# --- The grid -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_the_spline_passes_through_the_control_points(k):
    _, _, control = problem(k, k=k)
    grid = stn.tps_grid(control, (k, k), align_corners=True)
    np.testing.assert_allclose(grid.reshape(3, k * k, 2), control, atol=1e-13)


@pytest.mark.parametrize("regularisation", [0.0, 0.3])
@pytest.mark.parametrize("align_corners", [True, False])
def test_against_the_spline_of_scipy(align_corners, regularisation):
    _, _, control = problem(0)
    where = stn.affine_grid(np.eye(2, 3)[None], (5, 9), align_corners=align_corners)[0]
    chosen = {"align_corners": align_corners, "regularisation": regularisation}
    got = stn.tps_grid(control, (5, 9), **chosen)
    for n in range(3):
        # SciPy's U is half of ours, so its smoothing is half as well.
        peer = RBFInterpolator(LATTICE, control[n], smoothing=regularisation / 2)
        np.testing.assert_allclose(got[n].reshape(-1, 2), peer(where.reshape(-1, 2)), atol=1e-12)


def test_very_smooth_is_the_affine_map_of_least_squares():
    _, _, control = problem(1)
    columns = np.column_stack([LATTICE, np.ones(16)])
    theta = [np.linalg.lstsq(columns, each, rcond=None)[0].T for each in control]
    got = stn.tps_grid(control, (6, 7), regularisation=1e9)
    np.testing.assert_allclose(got, stn.affine_grid(np.array(theta), (6, 7)), atol=1e-7)


def test_control_points_are_in_rows_and_x_comes_first():
    points = stn.control_points(3).reshape(3, 3, 2)
    np.testing.assert_array_equal(points[0, :, 0], [-1, 0, 1])
    np.testing.assert_array_equal(points[:, 0, 1], [-1, 0, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("regularisation", [0.0, 1.0])
def test_the_lattice_is_the_identity(dtype, regularisation):
    control = stn.control_points(4, dtype)[None]
    grid = stn.tps_grid(control, (7, 49), regularisation=regularisation)
    identity = stn.affine_grid(np.eye(2, 3)[None], (7, 49)).astype(dtype)
    assert grid.dtype == dtype
    np.testing.assert_array_equal(grid, identity)
    image = np.random.default_rng(0).standard_normal((1, 2, 7, 49)).astype(dtype)
    np.testing.assert_allclose(stn.warp_tps(image, control), image, atol=1e-13)


def test_points_moved_by_an_affine_map_are_that_map():
    rng, images, _ = problem(2)
    theta = np.eye(2, 3) + 0.2 * rng.standard_normal((3, 2, 3))
    control = LATTICE @ theta[:, :, :2].swapaxes(1, 2) + theta[:, None, :, 2]
    got = stn.warp_tps(images, control, (6, 20))
    np.testing.assert_allclose(got, stn.warp_affine(images, theta, (6, 20)), atol=1e-11)


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_grid_s_gradient(align_corners):
    rng, _, control = problem(3)
    chosen = {"align_corners": align_corners, "regularisation": 0.1}
    check_vjp(
        lambda x: stn.tps_grid(x, (5, 35), **chosen),  # two vectors of columns, and a part of one
        lambda d: stn.tps_grid_vjp(d, 4, **chosen), control, rng,
    )  # fmt: skip
    single = stn.tps_grid_vjp(np.ones((2, 3, 4, 2), np.float32), 3)
    assert (single.dtype, single.shape) == (np.float32, (2, 9, 2))


# --- Samples --------------------------------------------------------------------------------------

CASES = [
    {"mode": mode, "padding_mode": padding, "layout": layout, "fill": [0.5, -1.0]}
    for mode, padding, layout in [
        ("bilinear", "zeros", "NCHW"),
        ("nearest", "wrap", "NHWC"),
    ]
]


@pytest.mark.parametrize("chosen", CASES, ids=lambda chosen: f"{chosen['mode']}")
def test_samples_are_those_of_the_grid(chosen):
    _, images, control = problem(4)
    if chosen["layout"] == "NHWC":
        images = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    grid = stn.tps_grid(control, (6, 20), align_corners=True, regularisation=0.1)
    want, inside = stn.grid_sample(images, grid, align_corners=True, coverage=True, **chosen)
    out = np.empty_like(want)
    spline = {"align_corners": True, "regularisation": 0.1, **chosen}
    got, covered = stn.warp_tps(images, control, (6, 20), coverage=True, out=out, **spline)
    assert got is out
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(covered, inside)


@kinds
def test_gradients(mode, padding_mode):
    rng, images, control = wide(6, 0.05)
    chosen = {"mode": mode, "padding_mode": padding_mode, "regularisation": 0.05}
    chosen["fill"] = [0.5, -1.0]

    def vjp(d, which):
        return stn.warp_tps_vjp(d, images, control, **chosen, wrt=(which,))

    check_vjp(
        lambda x: stn.warp_tps(x, control, (6, 20), **chosen),
        lambda d: vjp(d, "images")[0], images, rng,
    )  # fmt: skip
    assert vjp(np.ones((3, 2, 6, 20)), "images")[1] is None
    assert vjp(np.ones((3, 2, 6, 20)), "control")[0] is None
    if mode != "nearest":  # small steps do not change the nearest pixel
        check_vjp(
            lambda x: stn.warp_tps(images, x, (6, 20), **chosen),
            lambda d: vjp(d, "control")[1], control, rng, step=1e-8, rtol=1e-5,
        )  # fmt: skip


def test_gradients_of_one_image_for_many_splines():
    rng, images, control = wide(6, 0.0)
    check_vjp(
        lambda x: stn.warp_tps(*x, (6, 20)), lambda d: stn.warp_tps_vjp(d, images[:1], control),
        (images[:1], control), rng, step=1e-8, rtol=1e-5,
    )  # fmt: skip


@kinds
def test_the_image_gradient_is_the_adjoint_of_warping(mode, padding_mode):
    """<A x, y> = <x, A^T y>, with a fill of 0."""
    rng, images, control = wide(14, 0.0)
    chosen = {"mode": mode, "padding_mode": padding_mode, "align_corners": True}
    samples = stn.warp_tps(images, control, (6, 20), **chosen)
    d = rng.standard_normal(samples.shape)
    dimages, _ = stn.warp_tps_vjp(d, images, control, **chosen, wrt=("images",))
    scale = np.abs(samples * d).sum()
    assert scale > 10
    assert abs(np.sum(samples * d) - np.sum(images * dimages)) < 1e-13 * scale


def test_the_nearest_mode_has_no_slope():
    _, images, control = problem(7)
    chosen = {"mode": "nearest", "wrt": ("control",)}
    assert not stn.warp_tps_vjp(np.ones((3, 2, 6, 20)), images, control, **chosen)[1].any()


def test_float16_is_kept_and_summed_in_float32():
    rng, _, control = problem(8, count=40)
    image = rng.standard_normal((1, 1, 9, 8)).astype(np.float16)
    dsamples = rng.standard_normal((40, 1, 9, 8)).astype(np.float16)
    dimage, dcontrol = stn.warp_tps_vjp(dsamples, image, control)
    want, _ = stn.warp_tps_vjp(dsamples.astype("f"), image.astype("f"), control)
    assert (dimage.dtype, dcontrol.dtype) == (np.float16, np.float64)
    np.testing.assert_array_equal(dimage, want.astype(np.float16))


@kinds
def test_forward_derivatives_against_the_gradients(mode, padding_mode):
    rng, images, control = wide(9, 0.1)
    dots = rng.standard_normal(images.shape), rng.standard_normal(control.shape)
    chosen = {"mode": mode, "padding_mode": padding_mode, "fill": 0.5, "regularisation": 0.1}
    forward = stn.warp_tps_jvp(images, control, *dots, (6, 20), **chosen)
    d = rng.standard_normal(forward.shape)
    dimages, dcontrol = stn.warp_tps_vjp(d, images, control, **chosen)
    backward = np.sum(dimages * dots[0]) + np.sum(dcontrol * dots[1])
    assert abs(np.sum(d * forward) - backward) < 1e-10 < 0.1 < abs(backward)


def test_a_tangent_that_is_not_given_is_zero():
    rng, images, control = problem(9)
    dots = rng.standard_normal(images.shape), rng.standard_normal(control.shape)
    chosen = {"fill": 0.5, "regularisation": 0.1}
    one = stn.warp_tps_jvp(images, control, dots[0], size=(6, 20), **chosen)
    chosen["fill"] = 0.0
    np.testing.assert_allclose(one, stn.warp_tps(dots[0], control, (6, 20), **chosen))
    assert not stn.warp_tps_jvp(images, control).any()
    still = stn.warp_tps_jvp(images, control, control_dot=dots[1], **chosen)
    tiny = stn.warp_tps_jvp(images, control, control_dot=2.0**-40 * dots[1], **chosen)
    np.testing.assert_allclose(2.0**40 * tiny, still, atol=1e-12)


# --- Bits -----------------------------------------------------------------------------------------


def test_the_spline_has_the_same_bits_on_any_threads(monkeypatch):
    _, _, control = problem(10)

    def both():
        grid = stn.tps_grid(control, (21, 33))
        return grid, stn.tps_grid_vjp(grid, 4)

    want = both()
    monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", 0)
    for one, other in zip(both(), want, strict=True):
        np.testing.assert_array_equal(one, other)
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        for one, other in zip(both(), want, strict=True):
            np.testing.assert_array_equal(one, other)
    finally:
        numba.set_num_threads(most)


def test_groups_of_images_change_nothing(monkeypatch):
    _, images, control = problem(10)
    samples = stn.warp_tps(images, control, (21, 33))
    gradients = stn.warp_tps_vjp(samples, images, control)
    single, _ = stn.warp_tps_vjp(samples, images[:1], control)
    monkeypatch.setattr(tps, "CHUNK", 1)
    np.testing.assert_array_equal(stn.warp_tps(images, control, (21, 33)), samples)
    for one, other in zip(stn.warp_tps_vjp(samples, images, control), gradients, strict=True):
        np.testing.assert_array_equal(one, other)
    one, _ = stn.warp_tps_vjp(samples, images[:1], control)
    np.testing.assert_allclose(one, single, atol=1e-13)


def test_a_batch_s_grid_is_never_in_memory(monkeypatch):
    monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", 10**9)  # the variant that is compiled already
    sizes = []
    kernel = backend.spline_grid
    monkeypatch.setattr(backend, "spline_grid", lambda *a: (sizes.append(a[-1].nbytes), kernel(*a)))
    images, control = np.zeros((70, 1, 128, 128)), np.tile(LATTICE, (70, 1, 1))
    stn.warp_tps(images, control)
    assert max(sizes) <= 2**23 < sum(sizes) == 70 * 128 * 128 * 16


# --- Empty batches and NaN ------------------------------------------------------------------------


def test_empty_batches():
    images, control = np.zeros((0, 2, 4, 5)), np.zeros((0, 16, 2))
    assert stn.warp_tps(images, control, (3, 3)).shape == (0, 2, 3, 3)
    dimages, dcontrol = stn.warp_tps_vjp(np.zeros((0, 2, 3, 3)), images, control)
    assert (dimages.shape, dcontrol.shape) == (images.shape, control.shape)
    assert stn.warp_tps(np.zeros((1, 0, 4, 5)), LATTICE[None]).shape == (1, 0, 4, 5)


def test_nan_control_points_sample_outside():
    control = np.full((1, 16, 2), np.nan)
    assert not stn.warp_tps(np.ones((1, 1, 4, 5)), control).any()
    assert not stn.warp_tps_vjp(np.ones((1, 1, 4, 5)), np.ones((1, 1, 4, 5)), control)[0].any()


IMAGES, CONTROL = np.zeros((2, 1, 4, 4)), np.tile(LATTICE, (2, 1, 1))
BAD = {
    "control.*k . k points.*2, 15, 2": lambda: stn.warp_tps(IMAGES, CONTROL[:, 1:]),
    "control.*any, any, 2.*2, 16, 1": lambda: stn.warp_tps(IMAGES, CONTROL[..., :1]),
    "control.*int64": lambda: stn.tps_grid(CONTROL.astype(int), (3, 3)),
    "images.*1 or 2.*control": lambda: stn.warp_tps(np.zeros((3, 1, 4, 4)), CONTROL),
    "images.*planes": lambda: stn.warp_tps(IMAGES[:, None], CONTROL),
    "regularisation.*-1": lambda: stn.warp_tps(IMAGES, CONTROL, regularisation=-1),
    "regularisation.*nan": lambda: stn.tps_grid(CONTROL, (3, 3), regularisation=math.nan),
    "dsamples.*2, 1, any, any.*1, 1, 4, 4": lambda: stn.warp_tps_vjp(IMAGES[:1], IMAGES, CONTROL),
    "wrt.*control.*theta": lambda: stn.warp_tps_vjp(IMAGES, IMAGES, CONTROL, wrt=("theta",)),
    "control_dot.*float64.*float32": lambda: stn.warp_tps_jvp(
        IMAGES, CONTROL, control_dot=CONTROL.astype("f")
    ),
    "k.*2 points.*1": lambda: stn.control_points(1),
    "k.*integer.*2.5": lambda: stn.tps_grid_vjp(np.zeros((1, 2, 2, 2)), 2.5),
    "dgrid.*at least one pixel": lambda: stn.tps_grid_vjp(np.zeros((1, 0, 2, 2)), 2),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()


# --- Peers ----------------------------------------------------------------------------------------


def test_against_kornia():
    """With our solution: kornia's solver uses distances from sources to targets, another map."""
    torch, kornia = pytest.importorskip("torch"), pytest.importorskip("kornia")
    _, images, control = problem(11, shape=(3, 2, 12, 10))
    points, matrix = tps_grid.solve_spline(4, 0.0)
    weights = torch.tensor(matrix @ control)
    # Its U is half of ours.
    peer = kornia.geometry.transform.warp_image_tps(
        torch.tensor(images), torch.tensor(np.tile(points, (3, 1, 1))),
        2 * weights[:, :-3], weights[:, -3:], align_corners=True,
    )  # fmt: skip
    got = stn.warp_tps(images, control, align_corners=True)
    np.testing.assert_allclose(got, peer.numpy(), atol=1e-11)


def test_against_scikit_image():
    transform = pytest.importorskip("skimage.transform")
    if not hasattr(transform, "ThinPlateSplineTransform"):
        pytest.skip("needs scikit-image 0.24")
    _, _, control = problem(12)
    peer = transform.ThinPlateSplineTransform()
    if hasattr(peer, "from_estimate"):
        peer = type(peer).from_estimate(LATTICE, control[0])
    else:
        assert peer.estimate(LATTICE, control[0])
    where = stn.affine_grid(np.eye(2, 3)[None], (6, 7))[0]
    got = stn.tps_grid(control, (6, 7))[0]
    # It takes distances below 1e-4 for 1e-4.
    np.testing.assert_allclose(got, peer(where.reshape(-1, 2)).reshape(got.shape), atol=1e-6)
