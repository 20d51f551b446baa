"""Second derivatives: beside PyTorch's double backward, differences of gradients, and closed forms.

A kernel takes seconds to compile, so CI runs a few samplers of each kind; all of them are tested by
``python tests/test_second_derivatives.py``.
"""

import itertools
import sys

import numba
import numpy as np
import pytest
from samplers import EXACT, Sampler, problem
from scipy.interpolate import BSpline

import numba_stn as stn
from numba_stn.kernels.math import curvatures, interpolation
from numba_stn.kernels.math.jit import python_callable
from numba_stn.kernels.math.sampler_kind import LANCZOS4, SPLINE2

FUNCTIONS = {
    "grid": (stn.grid_sample_vjp_jvp, stn.grid_sample_vjp_vjp),
    "affine": (stn.warp_affine_vjp_jvp, stn.warp_affine_vjp_vjp),
    "projective": (stn.warp_perspective_vjp_jvp, stn.warp_perspective_vjp_vjp),
}
WIDE = [
    Sampler(source, mode, padding, 2, layout)
    for (mode, padding), source, layout in zip(
        itertools.product(
            ("catmull-rom", "spline2", "spline3", "spline4", "spline5", "lanczos4"),
            ("zeros", "border", "reflection", "mirror", "wrap", "fill"),
        ),
        itertools.cycle(["grid", "affine", "projective"]),
        itertools.cycle(["NCHW", "NCHW", "NHWC", "NHWC"]),
        strict=False,
    )
]
ALL = EXACT + WIDE
# A few of them: every source, and each kind of mode, padding, number of axes and layout.
FEW = [EXACT[k] for k in (0, 6, 10, 20)] + [WIDE[k] for k in (17, 31)]
PADDINGS = ("zeros", "border", "reflection")
TORCH = [
    *itertools.product(("nearest", "bilinear", "bicubic"), PADDINGS, (2,)),
    *itertools.product(("bilinear",), PADDINGS, (3,)),
]
FEW_TORCH = [
    ("nearest", "zeros", 2), ("bilinear", "reflection", 2), ("bicubic", "zeros", 2),
    ("bilinear", "border", 3),
]  # fmt: skip

corners = pytest.mark.parametrize("align_corners", [False, True])


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    """One variant of each kernel is enough, except where threads are tested."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


# --- Weights --------------------------------------------------------------------------------------

FRACTIONS = (0.0, 1e-9, 0.03, 1 / 32, 0.1, 0.3, 0.5, 0.7, 0.97, 1.0 - 1e-9)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_the_curvatures_of_splines_are_those_of_scipy(order):
    found = python_callable(curvatures.CURVATURES[SPLINE2 + order - 2])
    spline = BSpline.basis_element(np.arange(order + 2.0)).derivative(2)
    for t in FRACTIONS[1:]:
        np.testing.assert_allclose(found(t), spline(t + np.arange(order, -1, -1)), atol=1e-14)


@pytest.mark.parametrize("mode", range(9))
def test_curvatures_are_differences_of_slopes(mode):
    slopes = python_callable(interpolation.SLOPES[mode])
    found = python_callable(curvatures.CURVATURES[mode])
    for t in np.linspace(0.01, 0.99, 50):
        want = (np.array(slopes(t + 1e-5)) - np.array(slopes(t - 1e-5))) / 2e-5
        np.testing.assert_allclose(found(t), want, atol=2e-8)
        np.testing.assert_allclose(found(np.float32(t)), want, atol=1e-5)
        assert {type(each) for each in found(np.float32(t))} <= {float, np.float32}


def test_curvatures_of_lanczos_have_no_gap_where_the_series_begins():
    found = python_callable(curvatures.CURVATURES[LANCZOS4])
    below, above = found(0.5 - 1e-12), found(0.5 + 1e-12)
    np.testing.assert_allclose(below, above, atol=1e-9)
    np.testing.assert_allclose(found(1e-13), found(0.0), atol=1e-9)


@pytest.mark.parametrize("mode", range(9))
def test_slopes_add_up_to_the_documented_bound(mode):
    weights, slopes = (
        python_callable(table[mode]) for table in (interpolation.WEIGHTS, interpolation.SLOPES)
    )
    at = np.linspace(0, 1, 257)
    most, steep = (max(np.abs(each(t)).sum() for t in at) for each in (weights, slopes))
    assert 3 * most * most * steep <= 2.0 ** curvatures.SLOPE_BITS[mode] * (1 + 1e-12)


# --- Beside PyTorch -------------------------------------------------------------------------------


def check_torch(mode, padding, dims, align_corners):
    """All three gradients of grid_sample's gradients."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(dims)
    sides, size = (4, 5, 6)[-dims:], (3, 4, 5)[-dims:]
    images, grid = rng.standard_normal((2, 3, *sides)), rng.uniform(-1.7, 1.7, (2, *size, dims))
    dsamples = rng.standard_normal((2, 3, *size))
    ddimages, ddgrid = rng.standard_normal(images.shape), rng.standard_normal(grid.shape)
    options = {"mode": mode, "padding_mode": padding, "align_corners": align_corners}

    given = [torch.tensor(each, requires_grad=True) for each in (dsamples, images, grid)]
    try:
        samples = torch.nn.functional.grid_sample(*given[1:], **options)
        first = torch.autograd.grad(samples, given[1:], given[0], create_graph=True)
        loss = sum(
            (d * torch.tensor(dd)).sum() for d, dd in zip(first, (ddimages, ddgrid), strict=True)
        )
        want = torch.autograd.grad(loss, given, allow_unused=True)
    except RuntimeError as error:
        if "not implemented" in str(error):
            pytest.skip("this PyTorch has no double backward of grid_sample")
        raise
    got = stn.grid_sample_vjp_vjp(ddimages, ddgrid, dsamples, images, grid, **options)
    for ours, theirs in zip(got, want, strict=True):
        theirs = np.zeros(ours.shape) if theirs is None else theirs.numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-12 * max(1.0, np.abs(theirs).max()))


@corners
@pytest.mark.parametrize(("mode", "padding", "dims"), FEW_TORCH)
def test_double_backward_is_that_of_pytorch(mode, padding, dims, align_corners):
    check_torch(mode, padding, dims, align_corners)


# --- Beside differences of the gradients ----------------------------------------------------------


class Given:
    """A sampler's arrays in its layout, tangents of them, and its functions."""

    def __init__(self, sampler, align_corners, seed=0):
        rng = np.random.default_rng(seed)
        self.sampler, self.align = sampler, align_corners
        given = problem(rng, sampler, align=align_corners)
        self.fill, self.size = given.fill, given.size
        self.first = given.dsamples, given.images, given.coords
        wide = sampler.dsamples, sampler.compute_dtype, np.dtype(sampler.coords)
        self.dots = [
            rng.standard_normal(each.shape).astype(dtype)
            for each, dtype in zip(self.first, wide, strict=True)
        ]
        self.forward, self.backward = FUNCTIONS[sampler.source]

    def vjp(self, *arrays):
        return self.sampler.vjp(*arrays, self.align, fill=self.fill)

    def jvp(self, dots):
        given = problem(np.random.default_rng(0), self.sampler, align=self.align)
        return self.sampler.jvp(given, *dots, self.align)

    def call(self, function, *arrays, **options):
        """Call a function with arrays whose images have channels first."""
        options |= self.sampler.options(self.align)
        options |= {"layout": self.sampler.layout, "fill": self.fill}
        is_images = [each is not None and each.ndim == self.sampler.dims + 2 for each in arrays]
        if self.sampler.source == "grid":  # the last axis of a grid is not a channel
            is_images = [
                flag and each.shape[-1] != self.sampler.dims
                for flag, each in zip(is_images, arrays, strict=True)
            ]
        to = self.sampler.to_layout
        found = function(
            *(to(a) if flag else a for a, flag in zip(arrays, is_images, strict=True)), **options
        )
        return *(self.sampler.from_layout(each) for each in found[:-1]), found[-1]


def difference(f, at, towards, step=1e-6):
    """Central difference of f along a direction."""
    plus, minus = (f(*(a + s * d for a, d in zip(at, towards, strict=True))) for s in (step, -step))
    return [(p - m) / (2 * step) for p, m in zip(plus, minus, strict=True)]


def check_differences(sampler, align_corners):
    """Both functions, and what they have in common."""
    given = Given(sampler, align_corners)
    dsamples_dot, images_dot, coords_dot = given.dots
    still = 0 * dsamples_dot, images_dot, coords_dot
    if sampler.mode == "nearest":  # small steps do not change the nearest pixel
        still = 0 * dsamples_dot, images_dot, 0 * coords_dot
        coords_dot = 0 * coords_dot
    want = difference(given.vjp, given.first, (dsamples_dot, images_dot, coords_dot))
    got = given.call(given.forward, *given.first, *given.dots)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())
    want = difference(given.vjp, given.first, still)
    got = given.call(given.backward, *given.dots[1:], *given.first)
    np.testing.assert_array_equal(got[0], given.jvp(given.dots[1:]))
    for ours, theirs in zip(got[1:], want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())
    if sampler.mode != "nearest":
        assert all(np.abs(each).max() > 0.1 for each in want)


@corners
@pytest.mark.parametrize("sampler", FEW, ids=str)
def test_against_differences_of_the_gradients(sampler, align_corners):
    check_differences(sampler, align_corners)


@pytest.mark.parametrize("sampler", FEW[1:3], ids=str)
def test_the_hessian_is_symmetric(sampler):
    """<u, H v> = <v, H u> for steps of images and coordinates, without any differences."""
    given, other = Given(sampler, False), Given(sampler, False, seed=1)
    u, v = given.dots[1:], other.dots[1:]
    products = [given.call(given.forward, *given.first, None, *each) for each in (u, v)]
    pairs = (v, products[0]), (u, products[1])
    one, two = (sum(np.sum(a * b) for a, b in zip(*pair, strict=True)) for pair in pairs)
    scale = max(1.0, *(np.sum(np.abs(a * b)) for a, b in zip(v, products[0], strict=True)))
    assert abs(one - two) < 1e-12 * scale


SMALLER = [
    FEW[1]._replace(dtype="float16", coords="float32"),
    FEW[2]._replace(dtype="uint8", coords="float32"),
]


@pytest.mark.parametrize("sampler", SMALLER, ids=str)
def test_smaller_dtypes_agree_with_float64(sampler):
    given = Given(sampler, False)
    wide = Given(sampler._replace(dtype="float64", coords="float64"), False)
    wide.first = [each.astype(np.float64) for each in given.first]
    wide.dots, wide.fill = [each.astype(np.float64) for each in given.dots], given.fill * 1.0
    got = given.call(given.forward, *given.first, *given.dots)
    want = wide.call(wide.forward, *wide.first, *wide.dots)
    assert got[0].dtype == sampler.dsamples
    assert got[1].dtype == sampler.coords
    dd = given.dots[1].astype(sampler.dsamples), given.dots[2]
    back = given.call(given.backward, *dd, *given.first)
    assert back[0].dtype == back[1].dtype == sampler.dsamples
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.abs(theirs).max())


# --- Splines, and what they are good for ----------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_thin_plate_splines(count, monkeypatch):
    monkeypatch.setattr("numba_stn.kernels.cpu.tps.CHUNK", 1)  # one spline at a time
    rng = np.random.default_rng(3)
    options = {"mode": "bicubic", "padding_mode": "border", "regularisation": 0.2}
    control = 0.7 * stn.control_points(3) + 0.2 * rng.standard_normal((3, 9, 2))
    first = rng.standard_normal((3, 2, 5, 6)), rng.standard_normal((count, 2, 7, 8)), control
    dots = [rng.standard_normal(each.shape) for each in first]

    def vjp(*arrays):
        return stn.warp_tps_vjp(*arrays, **options)

    got = stn.warp_tps_vjp_jvp(*first, *dots, **options)
    for ours, theirs in zip(got, difference(vjp, first, dots), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())
    back = stn.warp_tps_vjp_vjp(*dots[1:], *first, **options)
    change = stn.warp_tps_jvp(*first[1:], *dots[1:], (5, 6), **options)
    np.testing.assert_array_equal(back[0], change)
    want = difference(vjp, first, (0 * first[0], *dots[1:]))
    for ours, theirs in zip(back[1:], want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_projective_volumes(mode):
    rng = np.random.default_rng(8)
    images, theta = rng.standard_normal((2, 1, 4, 5, 6)), rng.standard_normal((2, 4, 4))
    at = rng.standard_normal(images.shape), images, np.eye(4) + 0.08 * theta
    towards = [rng.standard_normal(each.shape) for each in at]
    options = {"mode": mode, "padding_mode": "border"}

    def gradients(*arrays):
        return stn.warp_perspective_vjp(*arrays, **options)

    for found, expected in zip(
        stn.warp_perspective_vjp_jvp(*at, *towards, **options),
        difference(gradients, at, towards), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_a_newton_step_solves_a_problem_that_gauss_newton_does_not():
    """The squares of samples of x y, by one shift: the Hessian is that of a polynomial."""
    image = np.outer(np.arange(9.0) - 4, np.arange(9.0) - 4)[None, None]
    grid, n = np.array([[[[0.2, 0.3]]]]), 9 / 2  # pixels to 1
    samples = stn.grid_sample(image, grid)
    x, y = grid[0, 0, 0] * n
    assert samples.item() == pytest.approx(x * y)
    columns = []
    for unit in np.eye(2):
        dot = unit.reshape(1, 1, 1, 2)
        change = stn.grid_sample_jvp(image, grid, grid_dot=dot)
        found = stn.grid_sample_vjp_jvp(samples, image, grid, change, grid_dot=dot)[1]
        columns.append(found.ravel() / n**2)
    np.testing.assert_allclose(columns, [[y * y, 2 * x * y], [2 * x * y, x * x]])


# --- Arguments and shapes -------------------------------------------------------------------------


def plane(seed, count=2):
    rng = np.random.default_rng(seed)
    theta = np.eye(2, 3) + 0.2 * rng.standard_normal((2, 2, 3))
    shapes = (2, 3, 5, 6), (count, 3, 9, 8)
    return rng, *(rng.standard_normal(shape) for shape in shapes), theta


def test_a_tangent_that_is_not_given_is_zero():
    rng, *first = plane(4)
    dots = [rng.standard_normal(each.shape) for each in first]
    both = stn.warp_affine_vjp_jvp(*first, *dots)
    parts = []
    for k in range(3):
        one = [dot if k == number else None for number, dot in enumerate(dots)]
        parts.append(stn.warp_affine_vjp_jvp(*first, *one))
    for got, each in zip(both, zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(got, sum(each), atol=1e-12)
    np.testing.assert_array_equal(parts[0][0], stn.warp_affine_vjp(dots[0], *first[1:])[0])
    assert not parts[1][0].any()  # the gradient of the images does not depend on them
    assert not any(each.any() for each in stn.warp_affine_vjp_jvp(*first))
    assert not any(each.any() for each in stn.warp_affine_vjp_vjp(None, None, *first))


def test_only_what_is_wanted_is_computed():
    rng, *first = plane(5)
    dots = [rng.standard_normal(each.shape) for each in first]
    whole = stn.warp_affine_vjp_vjp(*dots[1:], *first)
    for k, name in enumerate(("dsamples", "images", "theta")):
        found = stn.warp_affine_vjp_vjp(*dots[1:], *first, wrt=(name,))
        np.testing.assert_array_equal(found[k], whole[k])
        assert [each is None for each in found] == [number != k for number in range(3)]
    found = stn.warp_affine_vjp_jvp(*first, *dots, wrt=("theta",))
    assert found[0] is None
    np.testing.assert_array_equal(found[1], stn.warp_affine_vjp_jvp(*first, *dots)[1])


def test_one_theta_for_all_images_and_one_image_for_all_thetas():
    rng, dsamples, images, theta = plane(6)
    one, one_dot = theta[:1], rng.standard_normal((1, 2, 3))
    images_dot = rng.standard_normal(images.shape)
    got = stn.warp_affine_vjp_jvp(dsamples, images, one, None, images_dot, one_dot)
    both = np.repeat(one, 2, axis=0), np.repeat(one_dot, 2, axis=0)
    want = stn.warp_affine_vjp_jvp(dsamples, images, both[0], None, images_dot, both[1])
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1].sum(axis=0, keepdims=True), atol=1e-12)
    theta_dot = rng.standard_normal(theta.shape)
    got = stn.warp_affine_vjp_jvp(dsamples, images[:1], theta, None, images_dot[:1], theta_dot)
    twice = np.repeat(images[:1], 2, axis=0), np.repeat(images_dot[:1], 2, axis=0)
    want = stn.warp_affine_vjp_jvp(dsamples, twice[0], theta, None, twice[1], theta_dot)
    np.testing.assert_allclose(got[0], want[0].sum(axis=0, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(got[1], want[1], atol=1e-12)


def test_empty_batches():
    none = np.zeros((0, 3, 5, 6)), np.zeros((0, 3, 9, 8)), np.zeros((0, 2, 3))
    found = stn.warp_affine_vjp_vjp(none[1], none[2], *none)
    assert [each.shape for each in found] == [each.shape for each in none]
    image, theta = np.ones((1, 3, 9, 8)), np.zeros((0, 2, 3))
    dimages, _ = stn.warp_affine_vjp_jvp(none[0], image, theta, theta_dot=theta)
    assert dimages.shape == image.shape
    assert not dimages.any()
    control = np.zeros((0, 9, 2))
    dimages, _ = stn.warp_tps_vjp_jvp(none[0], image, control, control_dot=control)
    assert not dimages.any()


def test_a_coordinate_without_a_slope_does_not_move():
    """Infinite positions and infinite tangents beyond the border give zeros, not NaN."""
    images, theta = np.ones((1, 1, 4, 5)), np.array([[[0.3, 0, 0.1], [0, 0.3, 0], [1.0, 0, 0]]])
    theta_dot, dsamples = np.ones((1, 3, 3)), np.ones((1, 1, 3, 3))
    for padding in ("border", "zeros"):
        found = stn.warp_perspective_vjp_vjp(
            images, theta_dot, dsamples, images, theta, padding_mode=padding
        )
        assert all(np.isfinite(each).all() for each in found)
    grid, grid_dot = np.full((1, 1, 1, 2), 7.0), np.full((1, 1, 1, 2), np.inf)
    found = stn.grid_sample_vjp_vjp(
        images, grid_dot, dsamples[..., :1, :1], images, grid, padding_mode="border"
    )
    assert all(np.isfinite(each).all() for each in found)


@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_dtypes_that_are_converted(dtype):
    """Integers have gradients in float64; complex numbers are two channels."""
    rng, dsamples, images, theta = plane(7)
    images = (100 * images + (50j * images[::-1] if dtype == "complex64" else 0)).astype(dtype)
    real = np.dtype("float64") if dtype == "int32" else np.dtype(dtype)
    dsamples, images_dot = dsamples.astype(real), rng.standard_normal(images.shape).astype(real)
    theta_dot = rng.standard_normal(theta.shape)
    got = stn.warp_affine_vjp_vjp(images_dot, theta_dot, dsamples, images, theta)
    assert got[0].dtype == got[1].dtype == real
    if dtype == "complex64":
        dsamples, images, images_dot = (
            np.concatenate([each.real, each.imag], 1) for each in (dsamples, images, images_dot)
        )
    want = stn.warp_affine_vjp_vjp(
        *(images_dot, theta_dot, dsamples, images.astype(images_dot.dtype), theta)
    )
    for ours, theirs in zip(got[:2], want[:2], strict=True):
        if dtype == "complex64":
            ours = np.concatenate([ours.real, ours.imag], 1)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got[2], want[2], rtol=1e-5)


def test_the_same_bits_on_any_number_of_threads(monkeypatch):
    """A single image is divided into bands of rows, as many as there are threads."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 0)
    rng = np.random.default_rng(8)
    images, theta = rng.standard_normal((1, 2, 33, 31)), np.eye(2, 3) + np.zeros((3, 1, 1))
    theta += 0.3 * rng.standard_normal(theta.shape)
    dsamples = rng.standard_normal((3, 2, 40, 37))
    first = dsamples, images, theta
    dots = [rng.standard_normal(each.shape) for each in first]
    before, found = numba.get_num_threads(), []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            found.append(stn.warp_affine_vjp_jvp(*first, *dots))
    finally:
        numba.set_num_threads(before)
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)
    found.append(stn.warp_affine_vjp_jvp(*first, *dots))
    assert len({tuple(each.tobytes() for each in pair) for pair in found}) == 1


IMAGES, THETA = np.zeros((2, 1, 4, 4)), np.zeros((2, 2, 3))
FIRST = IMAGES, IMAGES, THETA
BAD = {
    "ddtheta.*2, 2, 3.*got .2, 2": lambda: stn.warp_affine_vjp_vjp(None, THETA[..., :2], *FIRST),
    "ddimages.*float64.*float32": lambda: stn.warp_affine_vjp_vjp(IMAGES.astype("f"), None, *FIRST),
    "ddimages.*2, 1, 4, 4.*got .1, 1": lambda: stn.warp_affine_vjp_vjp(IMAGES[:1], None, *FIRST),
    "dsamples_dot.*2, 1, 4, 4": lambda: stn.warp_affine_vjp_jvp(*FIRST, IMAGES[:1]),
    "theta_dot.*float64.*float32": lambda: stn.warp_affine_vjp_jvp(
        *FIRST, theta_dot=THETA.astype("f")
    ),
    "images_dot.*float64": lambda: stn.warp_affine_vjp_jvp(*FIRST, None, IMAGES.astype("f")),
    "wrt.*dsamples": lambda: stn.warp_affine_vjp_vjp(None, THETA, *FIRST, wrt=("grid",)),
    "dsamples: expected": lambda: stn.warp_affine_vjp_jvp(IMAGES[:1], *FIRST[1:]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()


if __name__ == "__main__":
    for case in itertools.product(TORCH, (False, True)):
        check_torch(*case[0], case[1])
        print(*case, "ok", flush=True)
    for each, align in itertools.product(ALL, (False, True)):
        check_differences(each, align)
        print(each, align, "ok", flush=True)
    sys.exit(0)
