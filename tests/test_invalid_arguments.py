"""Invalid arguments of every public function of arrays: one clear error, or a result."""

import inspect
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import numba_stn as stn
from numba_stn.ops import sampler, validate
from numba_stn.transforms import composition, parametrisations

IMAGES = np.random.default_rng(0).random((2, 3, 5, 6))
THETA, SQUARE = np.tile(np.eye(2, 3), (2, 1, 1)), np.tile(np.eye(3), (2, 1, 1))
CONTROL, GRID = np.tile(stn.control_points(3), (2, 1, 1)), np.zeros((2, 5, 6, 2))
POINTS, VALUES = np.zeros((2, 4, 2)), np.ones((2, 3, 4))

# Valid arguments of each function.
CALLS = {
    stn.affine_grid: (THETA, (5, 6)),
    stn.affine_grid_vjp: (GRID,),
    stn.grid_sample: (IMAGES, GRID),
    stn.grid_sample_vjp: (IMAGES, IMAGES, GRID),
    stn.grid_sample_jvp: (IMAGES, GRID, IMAGES, GRID),
    stn.warp_affine: (IMAGES, THETA),
    stn.warp_affine_vjp: (IMAGES, IMAGES, THETA),
    stn.warp_affine_jvp: (IMAGES, THETA, IMAGES, THETA),
    stn.warp_affine_gauss_newton: (IMAGES, THETA, IMAGES),
    stn.warp_perspective: (IMAGES, SQUARE),
    stn.warp_perspective_vjp: (IMAGES, IMAGES, SQUARE),
    stn.warp_perspective_jvp: (IMAGES, SQUARE, IMAGES, SQUARE),
    stn.warp_tps: (IMAGES, CONTROL),
    stn.warp_tps_vjp: (IMAGES, IMAGES, CONTROL),
    stn.warp_tps_jvp: (IMAGES, CONTROL, IMAGES, CONTROL),
    stn.grid_sample_vjp_jvp: (IMAGES, IMAGES, GRID, IMAGES, IMAGES, GRID),
    stn.grid_sample_vjp_vjp: (IMAGES, GRID, IMAGES, IMAGES, GRID),
    stn.warp_affine_vjp_jvp: (IMAGES, IMAGES, THETA, IMAGES, IMAGES, THETA),
    stn.warp_affine_vjp_vjp: (IMAGES, THETA, IMAGES, IMAGES, THETA),
    stn.warp_perspective_vjp_jvp: (IMAGES, IMAGES, SQUARE, IMAGES, IMAGES, SQUARE),
    stn.warp_perspective_vjp_vjp: (IMAGES, SQUARE, IMAGES, IMAGES, SQUARE),
    stn.warp_tps_vjp_jvp: (IMAGES, IMAGES, CONTROL, IMAGES, IMAGES, CONTROL),
    stn.warp_tps_vjp_vjp: (IMAGES, CONTROL, IMAGES, IMAGES, CONTROL),
    stn.tps_grid: (CONTROL, (5, 6)),
    stn.tps_grid_vjp: (GRID, 3),
    stn.control_points: (3,),
    stn.sample_points: (IMAGES, POINTS),
    stn.sample_points_vjp: (VALUES, IMAGES, POINTS),
    stn.splat: (VALUES, POINTS, (5, 6)),
    stn.splat_vjp: (IMAGES, VALUES, POINTS),
    stn.grid_from_displacement: (GRID,),
    stn.grid_from_displacement_vjp: (GRID,),
    stn.grid_from_pixels: (POINTS, (5, 6)),
    stn.grid_from_pixels_vjp: (POINTS, (5, 6)),
    stn.pixels_from_grid: (POINTS, (5, 6)),
    stn.pixels_from_grid_vjp: (POINTS, (5, 6)),
    stn.polar_grid: ((3, 4), (5, 6), (2.0, 2.0), 3.0),
    stn.polar_grid_vjp: (GRID, (5, 6)),
    composition.identity_theta: (2,),
    composition.compose_theta: (THETA, THETA),
    composition.compose_theta_vjp: (THETA, THETA, THETA),
    composition.invert_theta: (THETA,),
    composition.invert_theta_vjp: (THETA, THETA),
    parametrisations.by_name: ("affine",),
    parametrisations.tps: (3,),
}

OBJECTS = [
    "text", b"x", 3, 2.5, -1, np.nan, True, [], [1], {}, object(), [[1, 2], [3]], (0, 0), (-1, 2),
    (2, 2, 2), (1.5, 2), np.zeros(()), np.zeros(0), np.float64(1), IMAGES > 0,
]  # fmt: skip


def variants(array):
    """An array of another type or shape, or full of NaN."""
    for dtype in ("complex128", "object", "bool", "int64", "U5", "longdouble", "M8[s]"):
        yield array.astype(dtype)
    yield from (array[None], array[0], array[..., :1], array[..., :0], array[:, :0], array[:0])
    yield from (array[:1], np.repeat(array, 2, axis=0), array * np.nan, np.ma.masked_array(array))
    yield array.tolist()


def attempt(function, given, name, odd):
    """Call the function with one unusual argument; an error has to begin with an argument's name.

    It may be another's: if images and maps do not fit each other, one of them is named.
    """
    message = None
    try:
        function(**given | {name: odd})
    except (ValueError, TypeError) as error:
        message = str(error)
    names = "|".join(inspect.signature(function).parameters)
    assert message is None or re.match(rf"({names}): .*expect(ed|s) ", message), (
        name, odd, message
    )  # fmt: skip


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_one_odd_argument(function):
    parameters = inspect.signature(function).parameters
    given = dict(zip(parameters, CALLS[function], strict=False))
    for name in parameters:
        usual = given.get(name)
        for odd in (*OBJECTS, *(variants(usual) if isinstance(usual, np.ndarray) else ())):
            attempt(function, given, name, odd)


each = pytest.mark.parametrize("transform", parametrisations.TRANSFORMS.values(), ids=repr)


@each
def test_odd_parameters_of_a_transform(transform):
    params = np.tile(transform.identity, (2, 1))
    theta = transform.theta(params)
    for odd in (*OBJECTS, *variants(params)):
        attempt(transform.theta, {"params": params}, "params", odd)
        attempt(transform.vjp, {"dtheta": theta, "params": params}, "params", odd)
    for odd in (*OBJECTS, *variants(theta)):
        attempt(transform.vjp, {"dtheta": theta, "params": params}, "dtheta", odd)


WARPS = {
    "affine": (stn.warp_affine, stn.warp_affine_vjp),
    "affine 3-D": (stn.warp_affine, stn.warp_affine_vjp),
    "projective": (stn.warp_perspective, stn.warp_perspective_vjp),
    "tps": (stn.warp_tps, stn.warp_tps_vjp),
}


@each
def test_nan_parameters_and_sides_of_one_pixel(transform):
    """NaN, infinities and 1e30 sample outside, or something finite; nothing fails."""
    rng, dims = np.random.default_rng(1), transform.shape[1] - (transform.kind != "projective")
    dims = 2 if transform.kind in ("tps", "projective") else dims
    warp, vjp = WARPS[transform.kind]
    odd = [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-300, 0.0]
    for sides in ((5, 6, 7)[-dims:], (1, 1, 1)[-dims:]):
        for count in (0, 3):
            params = np.tile(transform.identity, (count, 1))
            params[rng.random(params.shape) < 0.4] = rng.choice(odd)
            images = rng.random((count, 2, *sides))
            with np.errstate(all="ignore"):  # a transform's formula is in NumPy, which warns
                theta = transform.theta(params)
            samples = warp(images, theta)
            dimages, dtheta = vjp(samples, images, theta)
            assert (samples.shape, dimages.shape) == (images.shape, images.shape)
            assert np.isfinite(samples).all()
            assert np.isfinite(dimages).all()
            with np.errstate(all="ignore"):
                assert transform.vjp(dtheta, params).shape == params.shape


@each
def test_sides_without_pixels_are_refused(transform):
    dims = 3 if transform.kind == "affine 3-D" else 2
    theta = transform.theta(np.tile(transform.identity, (2, 1)))
    for side in range(dims):
        sides = [4] * dims
        sides[side] = 0
        with pytest.raises(ValueError, match="images: expected sides of at least one pixel"):
            WARPS[transform.kind][0](np.zeros((2, 1, *sides)), theta)
        with pytest.raises(ValueError, match=r"size: expected .* got \["):
            WARPS[transform.kind][0](np.zeros((2, 1, *[4] * dims)), theta, sides)


# --- What is remembered of earlier calls ----------------------------------------------------------

# Values that equal one that an earlier call was given, but are refused: (name, valid, refused).
EQUAL = [
    ("align_corners", True, 1),
    ("align_corners", False, 0.0),
    ("size", (5, 6), (5.0, 6.0)),
    ("size", [5, 6], np.array([5.0, 6.0])),
    ("fill", 1.0, Decimal(1)),
    ("fill", Fraction(1), Decimal(1)),
    ("fill", 0, 0j),
    ("fill", (0.0, 1.0, 2.0), (0.0, Decimal(1), 2.0)),
]


@pytest.mark.parametrize(("name", "valid", "refused"), EQUAL, ids=str)
@pytest.mark.parametrize("function", [stn.warp_affine, stn.warp_tps])
def test_a_value_is_refused_although_an_equal_one_was_taken(function, name, valid, refused):
    given = dict(zip(inspect.signature(function).parameters, CALLS[function], strict=False))
    for _ in range(2):
        function(**given | {name: valid})
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: "):
            function(**given | {name: refused})


def test_fills_are_told_apart_by_their_bits():
    outside = np.array([[[1.0, 0, 9], [0, 1, 9]]])
    given = {"images": IMAGES[:1], "theta": outside}
    fills = (0.0, -0.0, np.float32(0.1), 0.1, np.nan, 0, -0.0)
    for fill in fills:
        samples = stn.warp_affine(**given, fill=fill)
        assert samples.tobytes() == np.full(samples.shape, fill, float).tobytes()
    each = [1.0, 2.0, 3.0]
    for fill in (each, np.array(each)):
        for value in (1.0, 7.0):
            fill[0] = value  # the same object, changed
            samples = stn.warp_affine(**given, fill=fill)
            assert samples[0, :, 0, 0].tolist() == [value, 2.0, 3.0]


def test_an_error_shows_what_this_call_was_given():
    for size in ((0, 6), [0, 6], (np.int64(0), 6)):
        with pytest.raises(ValueError, match=re.escape(f"got {size!r}")):
            stn.warp_affine(IMAGES, THETA, size)
    for fill in ((1, 2), [1.0, 2.0]):
        with pytest.raises(ValueError, match=re.escape(f"got {fill!r}")):
            stn.warp_affine(IMAGES, THETA, fill=fill)


def test_no_more_is_remembered_than_a_table_holds():
    for k in range(2 * validate.REMEMBERED):
        stn.warp_affine(IMAGES[:, :, :1, :1], THETA, (1, 1), fill=float(k))
        assert len(validate._options) <= validate.REMEMBERED
        assert len(sampler._plans) <= validate.REMEMBERED
