"""Functions built on the sampler, on device arrays: derivatives, means over areas, splines.

Run by test_cuda_simulator.py. The expected values are differences of the oracle's samples, means of
its samples over finer outputs, and its samples at the coordinates of SciPy's splines.
"""

import itertools
import math
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from cuda_simulator_general import Case, close
from cuda_simulator_suite import Device, foreign, host, on_device, simulated  # noqa: F401
from numba import cuda
from scipy.interpolate import RBFInterpolator
from test_antialias import means_of_integers
from test_grids import results

import numba_stn as stn
from numba_stn.kernels.cuda import device, sums, tps

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

STEP = 1e-6


def difference(f, at, tangents):
    """Directional derivative of an oracle's function, with one tangent for each argument."""
    pairs = [(a.astype(float), t.astype(float)) for a, t in zip(at, tangents, strict=True)]
    after, before = (f(*(a + sign * STEP * t for a, t in pairs)) for sign in (1, -1))
    return (after - before) / (2 * STEP)


# --- Forward derivatives --------------------------------------------------------------------------

JVPS = {
    "grid": stn.grid_sample_jvp,
    "affine": stn.warp_affine_jvp,
    "projective": stn.warp_perspective_jvp,
}
# Mode, padding, source, axes, dtype of images and of coordinates, images, channels last.
KINDS = [
    ("bilinear", "zeros", "grid", 2, "f4", "f4", 2, False),
    ("bilinear", "fill", "affine", 2, "f8", "f8", 1, True),
    ("bicubic", "reflection", "projective", 2, "f8", "f8", 2, False),
    ("bicubic", "zeros", "affine", 2, "u1", "f8", 2, True),
    ("bilinear", "wrap", "affine", 3, "f2", "f4", 1, False),
    ("bilinear", "border", "grid", 3, "f8", "f4", 2, True),
    ("nearest", "border", "projective", 2, "u2", "f8", 2, False),
]


def roughly(got, want, tolerance, zero=False):
    """Equal up to this fraction of the largest value, or both ``zero``."""
    assert (np.abs(want).max() < 1e-9) if zero else (np.abs(want).max() > 0.1)
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_forward_derivatives(kind):
    mode, padding, source, dims, dtype, coord, count, last = kind
    case = Case(np.dtype(dtype).type, np.dtype(coord).type, source, dims, count, last)
    rng = np.random.default_rng(1)
    wide = np.float64 if dtype == "f8" else np.float32
    images_dot = rng.standard_normal(case.images.shape).astype(wide)
    coords_dot = rng.standard_normal(case.coords.shape).astype(coord)
    options = {"mode": mode, "padding_mode": padding, "fill": (3, 7)}

    def oracle(images, coords):
        case.coords = coords
        grid = case.grid(False)
        return reference.grid_sample(images, grid, padding, fill=(3, 7), mode=mode)

    at, ways = (case.images, case.coords), (images_dot, coords_dot)
    run = (case.put(case.images), on_device(case.coords))
    dots = case.put(images_dot), on_device(coords_dot)
    size = {} if source == "grid" else {"size": case.size}
    got = JVPS[source](*run, *dots, layout=case.layout, **size, **options)
    assert host(got).dtype == wide
    coarse = dtype != "f8" or coord == "f4"
    roughly(case.get(got), difference(oracle, at, ways), 1e-3 if coarse else 1e-7)
    still = JVPS[source](*run, layout=case.layout, **size, **options)
    assert not host(still).any()


def test_forward_derivatives_where_a_divisor_is_0():
    """Border samples are read there but do not change, since the oracle's slope is 0."""
    images, theta = np.ones((1, 1, 4, 5)), np.array([[[0.3, 0, 0.1], [0, 0.3, 0], [1.0, 0, 0]]])
    arrays = [on_device(a) for a in (images, theta)]
    got = stn.warp_perspective_jvp(
        *arrays, theta_dot=on_device(np.ones((1, 3, 3))), size=(3, 3), padding_mode="border"
    )
    assert np.isfinite(host(got)).all()


@pytest.mark.parametrize(
    ("mode", "padding", "dtype", "coord", "last"),
    [("bilinear", "zeros", "f4", "f4", False), ("bilinear", "fill", "u1", "f8", True),
     ("bicubic", "border", "f8", "f8", False)],
)  # fmt: skip
def test_normal_equations(monkeypatch, mode, padding, dtype, coord, last):
    monkeypatch.setattr(sums, "MOST_PARTS", 2)
    case = Case(np.dtype(dtype).type, np.dtype(coord).type, "affine", last=last)
    case.size = (5, 3)
    kind = "f4" if dtype == "u1" else dtype
    residuals = np.random.default_rng(2).standard_normal((2, 2, 5, 3)).astype(kind)
    options = {"mode": mode, "padding_mode": padding, "fill": (3, 7)}

    def oracle(theta):
        return reference.warp_affine(case.images, theta, case.size, **options)

    columns = [
        difference(oracle, [case.coords], [np.broadcast_to(unit.reshape(2, 3), (2, 2, 3))])
        for unit in np.eye(6)
    ]
    jacobian = np.stack(columns, axis=-1).reshape(2, -1, 6)
    arrays = case.put(case.images), on_device(case.coords), case.put(residuals)
    jtj, jtr = stn.warp_affine_gauss_newton(*arrays, layout=case.layout, **options)
    assert host(jtj).dtype == host(jtr).dtype == np.float64
    tolerance = 1e-7 if dtype == "f8" else 1e-3
    roughly(host(jtj), np.einsum("npi,npj->nij", jacobian, jacobian), tolerance)
    flat = residuals.reshape(2, -1).astype(float)
    roughly(host(jtr), np.einsum("npi,np->ni", jacobian, flat), tolerance)
    if coord == "f4":
        again = stn.warp_affine_gauss_newton(*arrays, layout=case.layout, **options)
        assert host(again[0]).tobytes() == host(jtj).tobytes()
    none = case.put(case.images[:, :0]), arrays[1], case.put(residuals[:, :0])
    assert not host(stn.warp_affine_gauss_newton(*none, layout=case.layout)[0]).any()


# --- Second derivatives ---------------------------------------------------------------------------

BACK = {
    "grid": (stn.grid_sample_vjp_jvp, stn.grid_sample_vjp_vjp),
    "affine": (stn.warp_affine_vjp_jvp, stn.warp_affine_vjp_vjp),
    "projective": (stn.warp_perspective_vjp_jvp, stn.warp_perspective_vjp_vjp),
}
SECOND = [
    *KINDS,
    ("bilinear", "mirror", "projective", 2, "f4", "f4", 1, True),
    ("bicubic", "border", "grid", 2, "f8", "f8", 1, True),
    ("bilinear", "border", "projective", 3, "f8", "f8", 1, False),
    ("bicubic", "mirror", "affine", 3, "f8", "f8", 1, True),
]


@pytest.mark.parametrize("kind", SECOND, ids=str)
def test_second_derivatives(kind):
    mode, padding, source, dims, dtype, coord, count, last = kind
    case = Case(np.dtype(dtype).type, np.dtype(coord).type, source, dims, count, last)
    rng = np.random.default_rng(5)
    wide = np.float64 if dtype == "f8" else np.float32
    dsamples_dot = rng.standard_normal(case.dsamples.shape).astype(case.dsamples.dtype)
    images_dot = rng.standard_normal(case.images.shape).astype(wide)
    coords_dot = rng.standard_normal(case.coords.shape).astype(coord)
    first = case.dsamples, case.images, case.coords
    dots = dsamples_dot, images_dot, coords_dot

    def oracle(number):
        def gradient(dsamples, images, coords):
            case.coords = coords
            grid, rule = case.grid(False), {"fill": (3, 7), "mode": mode}
            found = reference.grid_sample_vjp(dsamples, images, grid, padding, **rule)
            return found[0] if number == 0 else case.from_grid(found[1], False)

        return gradient

    def samples(images, coords):
        case.coords = coords
        grid, rule = case.grid(False), {"fill": (3, 7), "mode": mode}
        return reference.grid_sample(images, grid, padding, **rule)

    options = {"mode": mode, "padding_mode": padding, "fill": (3, 7), "layout": case.layout}
    on = [case.put(first[0]), case.put(first[1]), on_device(first[2])]
    on_dots = [case.put(dots[0]), case.put(dots[1]), on_device(dots[2])]
    tolerance = 2e-3 if dtype != "f8" or coord == "f4" else 1e-7
    forward, backward = BACK[source]
    got = forward(*on, *on_dots, **options)
    roughly(case.get(got[0]), difference(oracle(0), first, dots), tolerance)
    roughly(host(got[1]), difference(oracle(1), first, dots), tolerance, mode == "nearest")
    assert host(got[0]).dtype == case.dsamples.dtype
    assert host(got[1]).dtype == coord
    again = forward(*on, *on_dots, **options)
    assert [host(a).tobytes() for a in again] == [host(a).tobytes() for a in got]

    dd = images_dot.astype(case.dsamples.dtype)  # the gradient's dtype
    got = backward(case.put(dd), on_dots[2], *on, **options)
    still = np.zeros_like(dsamples_dot), images_dot, coords_dot
    roughly(case.get(got[0]), difference(samples, first[1:], dots[1:]), tolerance)
    nothing = mode == "nearest"
    roughly(case.get(got[1]), difference(oracle(0), first, still), tolerance, nothing)
    roughly(host(got[2]), difference(oracle(1), first, still), tolerance, nothing)
    none = backward(None, None, *on, **options)
    assert not any(host(each).any() for each in none)


@pytest.mark.parametrize("mode", ["spline2", "lanczos4", "spline5"])
@pytest.mark.parametrize("padding", ["mirror", "fill"])
def test_second_derivatives_of_wide_modes(mode, padding):
    """Beside differences of the gradients on the device."""
    rng, options = np.random.default_rng(6), {"mode": mode, "padding_mode": padding, "fill": 2.0}
    shapes = (2, 1, 3, 2), (2, 1, 5, 4), (2, 3, 2, 2)
    first = [rng.standard_normal(shape) for shape in shapes]
    dots = [rng.standard_normal(shape) for shape in shapes]
    got = stn.grid_sample_vjp_jvp(*map(on_device, (*first, *dots)), **options)
    for number in (0, 1):

        def gradient(*arrays, number=number):
            return host(stn.grid_sample_vjp(*map(on_device, arrays), **options)[number])

        roughly(host(got[number]), difference(gradient, first, dots), 1e-7)


def test_second_derivatives_of_splines():
    rng, options = np.random.default_rng(7), {"padding_mode": "border", "regularisation": 0.1}
    images, dsamples = rng.standard_normal((1, 2, 5, 4)), rng.standard_normal((3, 2, 3, 4))
    control = 0.6 * stn.control_points(2) + 0.1 * rng.standard_normal((3, 4, 2))
    first = dsamples, images, control
    dots = [rng.standard_normal(each.shape) for each in first]
    got = stn.warp_tps_vjp_jvp(*map(on_device, (*first, *dots)), **options)
    back = stn.warp_tps_vjp_vjp(*map(on_device, (dots[1], dots[2], *first)), **options)
    for number in (0, 1):

        def gradient(*arrays, number=number):
            return host(stn.warp_tps_vjp(*map(on_device, arrays), **options)[number])

        roughly(host(got[number]), difference(gradient, first, dots), 1e-7)
        still = 0 * dsamples, *dots[1:]
        roughly(host(back[1 + number]), difference(gradient, first, still), 1e-7)
    change = stn.warp_tps_jvp(*map(on_device, (images, control, *dots[1:])), (3, 4), **options)
    assert host(change).tobytes() == host(back[0]).tobytes()


# --- Means over areas -----------------------------------------------------------------------------


def parts_of(jacobian, sides, size, corners):
    """Parts of an output pixel along each axis: its length in pixels of the image."""
    spans = [np.array([side - corners for side in lengths[::-1]]) for lengths in (sides, size)]
    ways = jacobian * spans[0][:, None] / spans[1]
    lengths = np.sqrt((ways**2).sum(axis=0))
    return [min(16, max(1, math.ceil(length - 1e-4))) for length in lengths]


def finer_lines(size, parts, corners):
    """Centres of the parts along x, y (and z)."""
    return [
        np.array(
            [2 * (j + (p + 0.5) / f - 0.5) - (side - 1) for j in range(side) for p in range(f)]
        )
        / (side - corners)
        for side, f in zip(size[::-1], parts, strict=True)
    ]


def finer_points(size, parts, corners):
    """(x, y, 1) or (x, y, z, 1) of all parts, shaped like the finer output."""
    lines = finer_lines(size, parts, corners)
    places = np.meshgrid(*lines[::-1], indexing="ij")[::-1]
    return np.stack([*places, np.ones_like(places[0])], axis=-1)


def means(array, parts, axis):
    """Means over the parts of pixels, along axes from ``axis`` on."""
    for k, f in enumerate(parts[::-1]):
        shape = array.shape[: axis + k]
        array = array.reshape(*shape, -1, f, *array.shape[axis + k + 1 :]).mean(axis=axis + k + 1)
    return array


def largest_jacobian(theta, sides, size, corners):
    """Lengths of a projective map's columns at some positions of the output."""
    found, dims = [], len(sides)
    for point in itertools.product(np.linspace(-1, 1, 9), repeat=dims):
        if dims == 3 and size[0] == 1 and point[2]:
            continue  # the only slice is in the middle
        *numerators, w = theta @ [*point, 1]
        ways = theta[:dims, :dims] - np.outer(np.array(numerators) / w, theta[dims, :dims])
        found.append(parts_of(ways / w, sides, size, corners))
    return np.max(found, axis=0).tolist()


# Source, axes, mode, padding, corners, dtype of images and of coordinates, images, channels last,
# number of channels.
AREAS = [
    ("affine", 2, "bilinear", "zeros", False, "f8", "f8", 2, False, 2),
    ("affine", 2, "bicubic", "reflection", True, "f8", "f8", 1, True, 3),
    ("affine", 2, "nearest", "wrap", False, "u1", "f8", 2, False, 1),
    ("affine", 2, "bilinear", "border", True, "f4", "f4", 2, True, 5),
    ("affine", 3, "bilinear", "fill", False, "f4", "f8", 1, False, 4),
    ("projective", 2, "bilinear", "zeros", False, "f2", "f4", 2, False, 2),
    ("projective", 3, "bilinear", "border", False, "f8", "f8", 2, True, 1),
]


@pytest.mark.parametrize("kind", AREAS, ids=str)
def test_means_over_areas(kind):
    source, dims, mode, padding, corners, dtype, coord, count, last, channels = kind
    rng = np.random.default_rng(3)
    case = Case(np.dtype(dtype).type, np.dtype(coord).type, source, dims, count, last)
    sides, size = ((9, 7), (3, 2)) if dims == 2 else ((2, 5, 3), (1, 2, 2))
    case.images = (rng.random((count, channels, *sides)) * 200).astype(dtype)
    theta = np.eye(dims + (source == "projective"), dims + 1) * np.array([0.9, 0.4])[:, None, None]
    theta[:, :dims] += 0.1 * rng.standard_normal((2, dims, dims + 1))
    if source == "projective":
        theta[:, -1] = [0.125, -0.25, 1] if dims == 2 else [0.125, -0.25, 0.25, 1]
    theta = theta.astype(coord)
    options = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    fill = tuple(range(3, 3 + channels))
    want, inside = np.zeros((2, channels, *size)), np.zeros((2, *size))
    back = rng.standard_normal(want.shape).astype("f4" if dtype == "u1" else dtype)
    dimages, dtheta = np.zeros(case.images.shape), np.zeros(theta.shape)
    for n, matrix in enumerate(theta.astype(float)):
        m = slice(n, n + 1) if count > 1 else slice(0, 1)
        if source == "affine":
            parts = parts_of(matrix[:, :-1], sides, size, corners)
        else:
            parts = largest_jacobian(matrix, sides, size, corners)
        assert max(parts) > 1
        points = finer_points(size, parts, corners)
        found = points @ matrix.T
        grid = (found[..., :-1] / found[..., -1:] if source == "projective" else found)[None]
        read = (case.images[m], grid, padding, corners)
        want[n] = means(reference.grid_sample(*read, fill=fill, mode=mode)[0], parts, 1)
        inside[n] = means(reference.coverage(grid, sides, padding, corners, mode=mode)[0], parts, 0)
        d = back[n : n + 1].astype(float) / math.prod(parts)
        for axis, f in enumerate(parts[::-1]):
            d = d.repeat(f, axis=2 + axis)
        dpart, dgrid = reference.grid_sample_vjp(d, *read, fill=fill, mode=mode)
        dimages[m] += dpart
        g = dgrid[0]
        if source == "projective":
            w = found[..., -1:]
            third = -(g * grid[0]).sum(axis=-1, keepdims=True) / w
            g = np.concatenate([g / w, third], axis=-1)
        dtheta[n] = np.tensordot(g, points, (range(dims), range(dims)))
    options |= {"fill": fill, "layout": case.layout, "antialias": True}
    images, coords = case.put(case.images), on_device(theta)
    got, covered = case.forward(images, coords, size, coverage=True, **options)
    coarse = coord == "f4"
    close(case.get(got), want, coarse)
    close(host(covered), inside, coarse)
    got = case.backward(case.put(back), images, coords, **options)
    close(case.get(got[0]), dimages, coarse)
    close(host(got[1]), dtheta, coarse or dtype != "f8")
    if coarse:
        again = case.backward(case.put(back), images, coords, **options)
        assert [host(a).tobytes() for a in again] == [host(a).tobytes() for a in got]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("source", ["affine", "projective"])
@pytest.mark.parametrize("last", [False, True])
def test_means_of_integers_are_rounded_half_to_even(dtype, source, last):
    """The parts of an identity are at pixels; the expectation is computed in whole numbers."""
    case = Case(dtype, np.float64, source, last=last)
    rng = np.random.default_rng(6)
    case.images = rng.integers(0, np.iinfo(dtype).max + 1, (2, 2, 6, 8)).astype(dtype)
    theta = on_device(np.tile(np.eye(2 + (source == "projective"), 3), (2, 1, 1)))
    want, halves = means_of_integers(case.images, (3, 4))
    assert min(halves) > 0
    got = case.forward(case.put(case.images), theta, (3, 4), layout=case.layout, antialias=True)
    np.testing.assert_array_equal(case.get(got), want)


def test_a_map_that_does_not_shrink_is_not_averaged():
    case = Case(np.float32, np.float32, "affine")
    case.coords *= np.float32(0.3)
    arrays = case.put(case.images), on_device(case.coords)
    whole = stn.warp_affine(*arrays, mode="bicubic", antialias=True)
    np.testing.assert_array_equal(host(whole), host(stn.warp_affine(*arrays, mode="bicubic")))


def test_maps_with_infinities_are_divided_safely():
    image, theta = on_device(np.ones((1, 1, 3, 3), np.float32)), np.eye(2, 3, dtype=np.float32)
    for value in (np.nan, np.inf, 1e30, 0.0):
        theta[0, 0] = value
        found = host(stn.warp_affine(image, on_device(theta[None]), (1, 2), antialias=True))
        assert found.shape == (1, 1, 1, 2)
    none = on_device(np.zeros((0, 2, 3))), on_device(np.zeros((0, 1, 3, 3)))
    assert stn.warp_affine(none[1], none[0], antialias=True).shape == (0, 1, 3, 3)


# --- Splines --------------------------------------------------------------------------------------


class Spline:
    """Control points of 2 x 2 or 3 x 3, and the matrices that take them to x and y of a grid."""

    def __init__(self, count, k, size, coord="f8", regularisation=0.0, corners=False):
        rng = np.random.default_rng(4)
        self.rng, self.size, lattice = rng, size, stn.control_points(k)
        self.control = (lattice + 0.2 * rng.standard_normal((count, k * k, 2))).astype(coord)
        points = np.array([point[:2] for _, point in reference.base_points(size, corners)])
        # SciPy's function is half of ours, so its smoothing is half of ours too.
        smoothing = {"smoothing": regularisation / 2}
        self.matrix = RBFInterpolator(lattice, np.eye(k * k), **smoothing)(points)
        offsets = np.einsum("pk,nkd->npd", self.matrix, self.control - lattice)
        self.grid = (points + offsets).reshape(count, *size, 2)
        self.options = {"regularisation": regularisation, "align_corners": corners}

    def pulled(self, dgrid):
        return np.einsum("pk,npd->nkd", self.matrix, dgrid.reshape(len(dgrid), -1, 2))


@pytest.mark.parametrize(
    ("k", "count", "size", "coord", "smooth", "corners"),
    [(2, 5, (3, 5), "f8", 0.3, True), (3, 1, (5, 2), "f4", 0.0, False),
     (3, 1, (1, 1), "f8", 0, False)],
)  # fmt: skip
def test_splines_grids(k, count, size, coord, smooth, corners):
    case = Spline(count, k, size, coord, smooth, corners)
    grid = host(stn.tps_grid(on_device(case.control), size, **case.options))
    assert grid.dtype == coord
    close(grid, case.grid, False)
    dgrid = case.rng.standard_normal((count, *size, 2)).astype(coord)
    dcontrol = host(stn.tps_grid_vjp(on_device(dgrid), k, **case.options))
    assert dcontrol.dtype == coord
    close(dcontrol, case.pulled(dgrid), False)


@pytest.mark.parametrize("coord", ["f4", "f8"])
def test_the_lattice_is_the_identity(coord):
    control = on_device(stn.control_points(3, coord)[None])
    identity = reference.affine_grid(np.eye(2, 3)[None], (4, 5)).astype(coord)
    np.testing.assert_allclose(host(stn.tps_grid(control, (4, 5))), identity, rtol=1e-7)


@pytest.mark.parametrize(
    ("few", "mode", "padding", "dtype", "coord", "count"),
    [(True, "bilinear", "border", "f8", "f8", 1), (False, "bicubic", "fill", "f2", "f4", 3),
     (True, "nearest", "zeros", "u1", "f8", 3)],
)  # fmt: skip
def test_images_warped_by_splines(monkeypatch, few, mode, padding, dtype, coord, count):
    """All grids at once, and one after another where there is little memory for grids."""
    if few:
        monkeypatch.setattr(tps, "CHUNK", 1)
    case = Spline(3, 2, (4, 3), coord, 0.1)
    images = (case.rng.random((count, 2, 5, 4)) * 200).astype(dtype)
    back = case.rng.standard_normal((3, 2, 4, 3)).astype("f4" if dtype == "u1" else dtype)
    options = {"mode": mode, "padding_mode": padding, "fill": (3, 7)}
    rule = {"padding_mode": padding, "fill": (3, 7), "mode": mode}
    arrays = on_device(images), on_device(case.control)
    out = on_device(np.zeros((3, 2, 4, 3), dtype))
    chosen = options | case.options
    got, covered = stn.warp_tps(*arrays, case.size, coverage=True, out=out, **chosen)
    assert got is out
    coarse = coord == "f4"
    close(host(got), reference.grid_sample(images, case.grid, **rule), coarse)
    inside = reference.coverage(case.grid, (5, 4), padding, mode=mode)
    close(host(covered), inside, coarse)
    dimages, dcontrol = stn.warp_tps_vjp(on_device(back), *arrays, **chosen)
    want, dgrid = reference.grid_sample_vjp(back, images, case.grid, **rule)
    assert host(dimages).dtype == back.dtype
    close(host(dimages), want, coarse)
    close(host(dcontrol), case.pulled(dgrid), coarse or dtype != "f8")


@pytest.mark.parametrize("few", [False, True])
def test_forward_derivatives_of_splines(monkeypatch, few):
    if few:
        monkeypatch.setattr(tps, "CHUNK", 1)
    case = Spline(2, 2, (4, 3), regularisation=0.1)
    images = case.rng.random((2, 2, 5, 4)) * 200
    dots = case.rng.standard_normal(images.shape), case.rng.standard_normal(case.control.shape)
    tangent = np.einsum("pk,nkd->npd", case.matrix, dots[1]).reshape(case.grid.shape)
    options = {"padding_mode": "border", "mode": "bicubic"}
    want = difference(
        lambda images, grid: reference.grid_sample(images, grid, **options),
        (images, case.grid), (dots[0], tangent),
    )  # fmt: skip
    given = [on_device(a) for a in (images, case.control, *dots)]
    got = stn.warp_tps_jvp(*given, case.size, **options, **case.options)
    roughly(host(got), want, 1e-7)
    images_only = stn.warp_tps_jvp(*given[:3], size=case.size, **options, **case.options)
    close(host(images_only), reference.grid_sample(dots[0], case.grid, **options), False)


def test_no_images_to_warp():
    images, control = on_device(np.zeros((0, 1, 3, 3))), on_device(np.zeros((0, 4, 2)))
    assert stn.warp_tps(images, control).shape == (0, 1, 3, 3)
    image = on_device(np.ones((1, 1, 3, 3)))
    dimage, dcontrol = stn.warp_tps_vjp(images, image, control)
    assert not host(dimage).any()
    assert dcontrol.shape == (0, 4, 2)
    assert stn.tps_grid_vjp(on_device(np.zeros((0, 2, 2, 2))), 2).shape == (0, 4, 2)
    assert (
        stn.warp_tps_jvp(on_device(np.zeros((1, 0, 3, 3))), on_device(np.ones((1, 4, 2)))).size == 0
    )


# --- Devices and streams --------------------------------------------------------------------------


def calls(put):
    """Calls of all these functions on small arrays, as functions without arguments."""
    images, theta = put(np.ones((1, 1, 3, 3))), put(np.eye(2, 3)[None] * 2)
    square, control = put(np.eye(3)[None] * 2), put(stn.control_points(2)[None])
    grid = put(np.zeros((1, 2, 2, 2)))
    return {
        "grid_sample_jvp": lambda **how: stn.grid_sample_jvp(images, grid, images, grid, **how),
        "warp_affine_jvp": lambda **how: stn.warp_affine_jvp(images, theta, images, theta, **how),
        "warp_perspective_jvp": lambda **how: stn.warp_perspective_jvp(
            images, square, theta_dot=square, **how
        ),
        "warp_affine_gauss_newton": lambda **how: stn.warp_affine_gauss_newton(
            images, theta, images, **how
        ),
        "antialias": lambda **how: stn.warp_affine(images, theta, antialias=True, **how),
        "antialias_vjp": lambda **how: stn.warp_affine_vjp(
            images, images, theta, antialias=True, **how
        ),
        "tps_grid": lambda **how: stn.tps_grid(control, (2, 2), **how),
        "tps_grid_vjp": lambda **how: stn.tps_grid_vjp(grid, 2, **how),
        "warp_tps": lambda **how: stn.warp_tps(images, control, **how),
        "warp_tps_vjp": lambda **how: stn.warp_tps_vjp(images, images, control, **how),
        "warp_tps_jvp": lambda **how: stn.warp_tps_jvp(images, control, images, control, **how),
    }


def others(put):
    """The same for the other public functions."""
    images, theta, grid = (
        put(np.ones((1, 1, 2, 2))),
        put(np.eye(2, 3)[None]),
        np.zeros((1, 2, 2, 2)),
    )
    square, grid, samples = put(np.eye(3)[None]), put(grid), put(np.ones((1, 1, 2, 2)))
    points, values, picture = (
        put(np.zeros((1, 2, 2))),
        put(np.ones((1, 1, 2))),
        put(np.ones((2, 2))),
    )
    return {
        "affine_grid": lambda: stn.affine_grid(theta, (2, 2)),
        "affine_grid_vjp": lambda: stn.affine_grid_vjp(grid),
        "grid_sample": lambda: stn.grid_sample(images, grid),
        "grid_sample_vjp": lambda: stn.grid_sample_vjp(samples, images, grid),
        "grid_from_displacement": lambda: stn.grid_from_displacement(grid),
        "grid_from_displacement_vjp": lambda: stn.grid_from_displacement_vjp(grid),
        "grid_from_pixels": lambda: stn.grid_from_pixels(grid, (2, 2)),
        "grid_from_pixels_vjp": lambda: stn.grid_from_pixels_vjp(grid, (2, 2)),
        "pixels_from_grid": lambda: stn.pixels_from_grid(grid, (2, 2)),
        "pixels_from_grid_vjp": lambda: stn.pixels_from_grid_vjp(grid, (2, 2)),
        "crop_and_resize": lambda: stn.crop_and_resize(picture, (0, 0, 1, 1), (2, 2)),
        "resize": lambda: stn.resize(picture, (3, 2)),
        "rotate": lambda: stn.rotate(picture, 30),
        "warp_image": lambda: stn.warp_image(picture, np.eye(3)),
        "sample_points": lambda: stn.sample_points(images, points),
        "sample_points_vjp": lambda: stn.sample_points_vjp(values, images, points),
        "splat": lambda: stn.splat(values, points, (2, 2)),
        "splat_vjp": lambda: stn.splat_vjp(images, values, points),
        "polar_grid": lambda: stn.polar_grid((2, 2), (2, 2), put(np.ones((1, 2))), 1.0),
        "polar_grid_vjp": lambda: stn.polar_grid_vjp(grid, (2, 2)),
        "plan_warp": lambda: stn.plan_warp(images, theta)(images, theta),
        "warp_affine": lambda: stn.warp_affine(images, theta),
        "warp_affine_vjp": lambda: stn.warp_affine_vjp(samples, images, theta),
        "warp_perspective": lambda: stn.warp_perspective(images, square),
        "warp_perspective_vjp": lambda: stn.warp_perspective_vjp(samples, images, square),
        **second_derivatives(put),
    }


def second_derivatives(put):
    """The same for the derivatives of gradients."""
    images, corners = put(np.ones((1, 1, 2, 2))), stn.control_points(2)[None]
    moved_by = {
        "grid_sample": put(np.zeros((1, 2, 2, 2))), "warp_affine": put(np.eye(2, 3)[None]),
        "warp_perspective": put(np.eye(3)[None]), "warp_tps": put(corners),
    }  # fmt: skip
    runs = {}
    for name, by in moved_by.items():
        forward, backward = (getattr(stn, f"{name}_vjp_{way}") for way in ("jvp", "vjp"))
        runs[f"{name}_vjp_jvp"] = partial(forward, images, images, by, images, images, by)
        runs[f"{name}_vjp_vjp"] = partial(backward, images, by, images, images, by)
    return runs


def test_every_public_function_runs_on_device_arrays(monkeypatch):
    """And copies nothing to the host.

    Registration, functions without arrays and those that use CuPy's operations are excepted.
    """
    runs = calls(on_device) | others(on_device)
    public = {name for name in stn.__all__ if callable(getattr(stn, name))}
    on_the_cpu = {
        "control_points", "identity_theta", "register", "Registration", "Report",
        "augment", "Augmentation", "estimate", "Estimate", "remap", "transform_boxes",
        "transform_points",
        "transform_points_vjp", "unwarp_polar", "warp_polar", "resize_volume",
        "crop_and_resize_volume",
    }  # fmt: skip
    with_cupy = {"compose_theta", "compose_theta_vjp", "invert_theta", "invert_theta_vjp",
                 "grid_sample_linearised_vjp"}  # fmt: skip
    assert public - runs.keys() == on_the_cpu | with_cupy
    image = on_device(np.ones((20, 20)))
    with pytest.raises(TypeError, match="moving: expected a NumPy array"):
        stn.register(image, image)
    kind = type(on_device(np.zeros(1)))
    monkeypatch.setattr(kind, "copy_to_host", lambda *_: pytest.fail("copied to the host"))
    for name, run in runs.items():
        found = run()
        for result in found if isinstance(found, tuple) else (found,):
            assert isinstance(result, kind), name


@simulated
def test_results_are_of_the_callers_library_and_on_the_named_stream(foreign, monkeypatch):  # noqa: F811
    """Nothing is waited for or copied, except a new lattice, which is uploaded."""
    library = sys.modules[foreign.__module__]
    library.int32 = np.int32
    runs, used, waits = calls(foreign), [], []
    device._uploaded.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(cuda, "synchronize", lambda: waits.append(1))
        runs["tps_grid"]()
    assert waits == [1, 1]  # the lattice and its matrix, which stay on the device
    waits.clear()
    library.cuda.ExternalStream = lambda *numbers: Device(numbers[0])
    library.cuda.stream = lambda stream: stream
    monkeypatch.setattr(device, "_stream", lambda *key: used.append(key) or 0)
    monkeypatch.setattr(cuda, "synchronize", lambda: waits.append(1))
    monkeypatch.setattr(cuda, "to_device", lambda array: waits.append(2))
    for name, run in runs.items():
        found = run(stream=SimpleNamespace(ptr=5))
        results = found if isinstance(found, tuple) else (found,)
        assert {type(result) for result in results} == {foreign}, name
    assert set(used) == {(0, 5)}
    assert not waits


def test_arrays_on_both_sides():
    case = Case(np.float64, np.float64, "affine")
    images, theta = case.put(case.images), on_device(case.coords)
    with pytest.raises(TypeError, match="images is on the GPU, theta is on the GPU, theta_dot is"):
        stn.warp_affine_jvp(images, theta, theta_dot=case.coords)
    with pytest.raises(TypeError, match="control is on the CPU"):
        stn.warp_tps(images, np.zeros((2, 4, 2)))
    with pytest.raises(TypeError, match="residuals is on the CPU"):
        stn.warp_affine_gauss_newton(images, theta, case.dsamples)
    with pytest.raises(ValueError, match=r"theta_dot: expected shape \(2, 2, 3\)"):
        stn.warp_affine_jvp(images, theta, theta_dot=on_device(case.coords[:1]))


# --- Grids of pixels and of angles ----------------------------------------------------------------


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_grids_of_pixels_displacements_and_angles(real):
    """The results of NumPy's functions, for arrays of libraries without such functions."""
    pairs = zip(results(on_device, real), results(np.asarray, real), strict=True)
    for got, want in pairs:
        assert host(got).dtype == want.dtype
        np.testing.assert_allclose(host(got), want, atol=1e-13 if real == "float64" else 3e-6)
    center = np.array([2.0, 3.0], real)
    got = host(stn.polar_grid((3, 2), (5, 7), on_device(center), 4.0))
    np.testing.assert_allclose(got, stn.polar_grid((3, 2), (5, 7), center, 4.0), atol=1e-6)
    with pytest.raises(ValueError, match=r"dgrid: expected shape \(N, H, W, 2\)"):
        stn.polar_grid_vjp(on_device(center), (5, 7))
