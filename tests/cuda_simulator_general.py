"""Every mode, padding, layout, dtype and coordinate source on device arrays, against the oracle.

Run by test_cuda_simulator.py. A test that leaves an option open takes its values alternating from
the lists below, so that the tests together cover every value.
"""

import itertools

import numpy as np
import pytest
import reference
import spline_reference
from cuda_simulator_suite import host, on_device
from numba import cuda

import numba_stn as stn
from numba_stn.kernels.cuda import device, sums

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap", "fill", "mirror")
DTYPES = (np.float64, np.float32, np.float16, np.uint8, np.uint16)
SOURCES = {
    "grid": (stn.grid_sample, stn.grid_sample_vjp),
    "affine": (stn.warp_affine, stn.warp_affine_vjp),
    "projective": (stn.warp_perspective, stn.warp_perspective_vjp),
}
# Planes and volumes of each source; volumes are sampled bicubically at grids only, for the time.
KINDS = [
    (mode, padding, source, dims)
    for mode, padding, source, dims in itertools.product(MODES, PADDINGS, SOURCES, (2, 3))
    if dims == 2 or mode != "bicubic" or source == "grid"
]

# Python warns about divisions by 0 and operations that give NaN.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

modes = pytest.mark.parametrize("mode", MODES)
paddings = pytest.mark.parametrize("padding", PADDINGS)


class Case:
    """Random arrays: ``count`` images of 2 channels, sampled by 2 maps."""

    def __init__(self, dtype, coord, source, dims=2, count=2, last=False, sides=None):
        rng = np.random.default_rng(dims)
        self.layout, self.last = "NHWC" if last else "NCHW", last
        self.sides = sides or ((4, 5) if dims == 2 else (3, 4, 2))
        self.size = (3, 6) if dims == 2 else (2, 3, 5)
        self.images = (rng.random((count, 2, *self.sides)) * 200).astype(dtype)
        kind = np.float32 if np.dtype(dtype).kind == "u" else dtype
        self.dsamples = rng.standard_normal((2, 2, *self.size)).astype(kind)
        self.coords = rng.uniform(-1.7, 1.7, (2, *self.size, dims)).astype(coord)
        if source != "grid":
            columns = dims + 1
            rows = columns if source == "projective" else dims
            self.coords = rng.uniform(-1, 1, (2, rows, columns)).astype(coord)
        if source == "projective":
            self.coords[:, -1] = [0.125, -0.25, 1] if dims == 2 else [0.125, -0.25, 0.5, 1.5]
        self.forward, self.backward = SOURCES[source]
        self.arguments = () if source == "grid" else (self.size,)
        self.source = source

    def put(self, array):
        """On the device, in the layout."""
        array = np.moveaxis(array, 1, -1) if self.last else array
        return on_device(np.ascontiguousarray(array))

    def get(self, array):
        array = host(array)
        return np.moveaxis(array, -1, 1) if self.last else array

    def grid(self, corners):
        if self.source == "grid":
            return self.coords
        make = getattr(reference, f"{self.source}_grid")
        return make(self.coords, self.size, corners)

    def from_grid(self, dgrid, corners):
        """The coordinates' gradient from the grid's."""
        if self.source == "grid":
            return dgrid
        if self.source == "affine":
            return reference.affine_grid_vjp(dgrid, corners)
        return reference.projective_grid_vjp(dgrid, self.coords, corners)

    def check(self, mode, padding, corners=False, fill=(3, 7)):
        """Compare samples, coverage and gradients with the oracle's."""
        options = {"mode": mode, "padding_mode": padding, "align_corners": corners}
        options |= {"fill": fill, "layout": self.layout}
        rule, grid = (padding, corners), self.grid(corners)
        images, coords = self.put(self.images), on_device(self.coords)
        out = self.put(np.zeros((2, 2, *self.size), self.images.dtype))
        got, covered = self.forward(
            images, coords, *self.arguments, coverage=True, out=out, **options
        )
        assert got is out
        coarse = self.coords.dtype == np.float32
        want = reference.grid_sample(self.images, grid, *rule, fill=fill, mode=mode)
        close(self.get(got), want, coarse)
        inside = reference.coverage(grid, self.sides, *rule, mode=mode)
        close(host(covered), inside, coarse)
        dimages, dcoords = self.backward(self.put(self.dsamples), images, coords, **options)
        want, dgrid = reference.grid_sample_vjp(
            self.dsamples, self.images, grid, *rule, fill=fill, mode=mode
        )
        close(self.get(dimages), want, coarse)
        assert host(dcoords).dtype == self.coords.dtype
        coarse = coarse or self.images.dtype != np.float64
        close(host(dcoords), self.from_grid(dgrid, corners), coarse)


def close(got, want, coarse):
    """Equal up to rounding, of the numbers' own type or of float32, whichever is coarser."""
    if got.dtype.kind == "u":
        off = np.abs(got - np.clip(want, 0, np.iinfo(got.dtype).max))
        assert off.max() <= 0.501
        return
    digits = {2: 2e-3, 4: 3e-5, 8: 1e-11}[got.dtype.itemsize]
    tolerance = max(digits, 3e-5 if coarse else 0)
    scale = tolerance * max(1.0, np.abs(want).max(initial=0.0))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=scale)


# --- Values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)), ids=str)
def test_every_kind(number, kind):
    mode, padding, source, dims = kind
    dtype = DTYPES[number % 5]
    coord = np.float32 if dtype == np.float32 or number % 7 == 0 else np.float64
    case = Case(dtype, coord, source, dims, count=1 + number % 2, last=number % 3 == 0)
    case.check(mode, padding, corners=number // 5 % 2 == 0, fill=((3, 7), 5)[number % 4 == 0])


@pytest.mark.parametrize("padding", ["zeros", "mirror"])
@pytest.mark.parametrize(("mode", "source"), [("lanczos4", "grid"), ("catmull-rom", "affine")])
def test_other_kernels_of_weights(mode, source, padding):
    Case(np.float64, np.float64, source, last=source == "grid").check(mode, padding)


@pytest.mark.parametrize(
    ("order", "padding"),
    [(2, "reflection"), (3, "mirror"), (3, "zeros"), (4, "border"), (5, "wrap")],
)
def test_splines(order, padding):
    """Samples, and the gradients by images and grid, beside dense matrices; then integers."""
    case, fill = Case(np.float64, np.float64, "grid", last=order % 2 == 0), (3.0, 7.0)
    options = {"mode": f"spline{order}", "padding_mode": padding, "layout": case.layout}
    images, grid = case.put(case.images), on_device(case.coords)
    got = case.get(stn.grid_sample(images, grid, fill=fill, **options))
    dimages, dgrid = stn.grid_sample_vjp(case.put(case.dsamples), images, grid, fill=fill,
                                         **options)  # fmt: skip
    whole = np.rint(case.images).astype(np.uint8)
    stored = case.get(stn.grid_sample(case.put(whole), grid, fill=fill, **options))
    scale = np.array(case.sides[::-1]) / 2
    for n in range(2):
        x, y = ((case.coords[n].reshape(-1, 2) + 1) * scale - 0.5).T
        slopes = np.zeros((2, x.size))
        for c in range(2):
            rule, own = (order, padding), fill[c] if padding == "zeros" else 0.0
            want, dx, dy = spline_reference.sample(case.images[n, c], x, y, *rule, fill=own)
            close(got[n, c].ravel(), want, False)
            d = case.dsamples[n, c].ravel()
            want = spline_reference.sample_vjp(d, x, y, case.sides, *rule)
            close(case.get(dimages)[n, c], want, False)
            slopes += d * np.stack([dx, dy])
            want, _, _ = spline_reference.sample(whole[n, c].astype(float), x, y, *rule, fill=own)
            close(stored[n, c].ravel(), want, True)
        close(host(dgrid)[n].reshape(-1, 2), slopes.T * scale, False)


def test_splines_of_one_image_and_of_maps():
    """As on the CPU: the theta's gradient and the matrix between pixels follow from the grid's."""
    rng = np.random.default_rng(0)
    image, theta = rng.standard_normal((1, 1, 5, 6)), np.eye(2, 3)[None] * 0.7
    options = {"mode": "spline3", "fill": 2.0}
    grid = on_device(reference.affine_grid(theta, (5, 6)))
    arrays = on_device(image), on_device(theta)
    want = host(stn.grid_sample(arrays[0], grid, **options))
    close(host(stn.warp_affine(*arrays, **options)), want, False)
    dsamples = on_device(rng.standard_normal(want.shape))
    dgrid = host(stn.grid_sample_vjp(dsamples, arrays[0], grid, **options)[1])
    dtheta = host(stn.warp_affine_vjp(dsamples, *arrays, **options)[1])
    close(dtheta, reference.affine_grid_vjp(dgrid), False)
    tangent = on_device(rng.standard_normal(theta.shape))
    change = host(stn.warp_affine_jvp(*arrays, None, tangent, **options))
    close((change * host(dsamples)).sum(), (dtheta * host(tangent)).sum(), False)
    matrix = np.array([[0.7, 0, 0.75], [0, 0.7, 0.6]])
    close(host(stn.warp_image(on_device(image[0, 0]), matrix, **options)), want[0, 0], False)
    boxes = [[1.0, 0.0, 5.0, 4.0]]
    crops = stn.crop_and_resize(on_device(image[0, 0]), boxes, (3, 3), mode="spline3")
    single = stn.crop_and_resize(on_device(image[0, 0]), boxes[0], (3, 3), mode="spline3")
    np.testing.assert_array_equal(host(crops)[0], host(single))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [False, True])
def test_every_dtype_in_either_layout(dtype, last):
    for mode, source in (("bilinear", "affine"), ("bicubic", "grid")):
        Case(dtype, np.float64, source, last=last).check(mode, "zeros")


@modes
@paddings
@pytest.mark.parametrize("corners", [False, True])
def test_images_of_one_pixel_a_side(mode, padding, corners):
    Case(np.float64, np.float64, "grid", last=True, sides=(3, 1)).check(mode, padding, corners)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 4, 5)])
def test_grids_of_volumes(size, real, corners):
    rng = np.random.default_rng(0)
    theta = rng.uniform(-1, 1, (2, 3, 4)).astype(real)
    grid = stn.affine_grid(on_device(theta), size, align_corners=corners)
    close(host(grid), reference.affine_grid(theta, size, corners), False)
    dgrid = rng.standard_normal((2, *size, 3)).astype(real)
    dtheta = stn.affine_grid_vjp(on_device(dgrid), align_corners=corners)
    close(host(dtheta), reference.affine_grid_vjp(dgrid, corners), False)


@paddings
@modes
def test_wild_coordinates(mode, padding):
    case = Case(np.float64, np.float32, "grid", last=True)
    wild = np.float32([np.nan, np.inf, -np.inf, 1e30, -1e30])
    case.coords[0, 0, :5, 0] = wild
    case.coords[0, 1, :5, 1] = wild
    case.coords[1, 1, :5] = wild[:, None]
    case.check(mode, padding)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@paddings
def test_wild_maps(mode, padding):
    """The divisor is 0 somewhere, or everywhere."""
    case = Case(np.float64, np.float64, "projective")
    case.coords[0, 2] = [1, 0, 0]
    case.coords[1, 2] = 0
    options = {"mode": mode, "padding_mode": padding, "fill": 0.5}
    for size in ((3, 3), (2, 4)):
        arrays = on_device(case.images), on_device(case.coords)
        assert np.isfinite(host(stn.warp_perspective(*arrays, size, **options))).all()
        dsamples = on_device(np.ones((2, 2, *size)))
        dimages, dtheta = stn.warp_perspective_vjp(dsamples, *arrays, **options)
        assert np.isfinite(host(dimages)).all()
        assert np.isfinite(host(dtheta)[1]).all()


@pytest.mark.parametrize("source", SOURCES)
def test_identity_gives_the_images_bit_for_bit(source):
    for dtype, mode in itertools.product(DTYPES, MODES):
        case = Case(dtype, np.float32, "affine", last=True)
        theta = np.eye(2 + (source == "projective"), 3, dtype=np.float32)
        if source == "grid":
            coords = reference.affine_grid(theta[None].repeat(2, 0), case.sides, True)
            got = stn.grid_sample(
                case.put(case.images), on_device(coords), mode=mode, layout="NHWC",
                align_corners=True, padding_mode="border",
            )  # fmt: skip
            np.testing.assert_allclose(case.get(got), case.images, rtol=1e-3)
            continue
        maps = on_device(theta[None].repeat(2, 0))
        got = SOURCES[source][0](case.put(case.images), maps, mode=mode, layout="NHWC")
        np.testing.assert_array_equal(case.get(got), case.images)


def test_an_infinite_fill_is_not_where_it_has_no_weight():
    case = Case(np.float64, np.float64, "grid", last=True)
    case.coords[0, 0] = 9.0
    images, grid = case.put(case.images), on_device(case.coords)
    for mode in MODES:
        got = stn.grid_sample(images, grid, mode=mode, fill=(np.inf, 1.0), layout="NHWC")
        want = reference.grid_sample(case.images, case.coords, fill=1.0, mode=mode)
        found, inside = case.get(got), reference.coverage(case.coords, case.sides, mode=mode) == 1
        assert (found[0, 0, 0] == np.inf).all()
        close(found[:, 1], want[:, 1], False)
        close(found[:, 0][inside], want[:, 0][inside], False)
        # On the border, at pixels' centres, taps outside have a weight of 0.
        maps = on_device(np.eye(2, 3)[None].repeat(2, 0))
        got = stn.warp_affine(images, maps, mode=mode, fill=(np.inf, np.nan), layout="NHWC")
        np.testing.assert_array_equal(case.get(got), case.images)


def test_many_channels_each_with_a_fill(monkeypatch):
    images = np.zeros((1, 19, 2, 2), np.float32)
    theta = on_device(np.float32([[[1, 0, 9], [0, 1, 0]]]))
    fill = np.arange(19.0)
    got = host(stn.warp_affine(on_device(images), theta, fill=fill))
    np.testing.assert_array_equal(got, np.broadcast_to(fill[:, None, None], got.shape))
    picture = on_device(np.zeros((2, 2, 19), np.uint8))
    got = host(stn.warp_image(picture, [[1, 0, 9], [0, 1, 0]], fill=fill))
    np.testing.assert_array_equal(got, np.broadcast_to(fill, got.shape))


# --- Gradients: order, range, and empty arrays ----------------------------------------------------


@pytest.mark.parametrize("kind", [("bicubic", "grid", 2), ("bilinear", "affine", 3)])
def test_the_same_bits_every_time(kind):
    mode, source, dims = kind
    case = Case(np.float32, np.float32, source, dims, count=1)
    triple = [on_device(a) for a in (case.dsamples, case.images, case.coords)]
    first, second = (case.backward(*triple, mode=mode, padding_mode="wrap") for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert host(one).tobytes() == host(other).tobytes()


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_largest_sums_of_cubic_weights(real):
    """All samples are where the magnitudes of the weights have the largest sum."""
    grid = np.zeros((1, 3, 5, 2), real)
    for size in (1.0, -1.0, np.finfo(real).max / 2**8):
        dsamples = np.full((1, 1, 3, 5), size, real)
        arrays = on_device(dsamples), on_device(np.zeros((1, 1, 1, 1), real)), on_device(grid)
        got = stn.grid_sample_vjp(*arrays, mode="bicubic", padding_mode="border", wrt=("images",))
        np.testing.assert_allclose(host(got[0]), 15 * float(size), rtol=1e-6)


def test_an_infinite_gradient_gives_nan_everywhere():
    case = Case(np.float16, np.float32, "affine")
    case.dsamples[1, 1, 0, 0] = np.inf
    triple = [on_device(a) for a in (case.dsamples, case.images, case.coords)]
    assert np.isnan(host(case.backward(*triple, mode="bicubic", wrt=("images",))[0])).all()


def test_more_work_than_blocks(monkeypatch):
    monkeypatch.setattr(device, "MOST_BLOCKS", 1)
    monkeypatch.setattr(sums, "MOST_PARTS", 2)
    case = Case(np.float64, np.float64, "affine", 3)
    case.size = (2, 17, 5)
    case.arguments = (case.size,)
    case.dsamples = np.random.default_rng(0).standard_normal((2, 2, *case.size))
    case.check("bilinear", "reflection")


def test_no_images_no_channels():
    case = Case(np.float16, np.float32, "affine")
    options = {"mode": "bicubic", "padding_mode": "wrap"}
    coords = on_device(case.coords)
    none = case.images[:, :0], case.dsamples[:, :0]
    dimages, dtheta = stn.warp_affine_vjp(on_device(none[1]), on_device(none[0]), coords, **options)
    assert (dimages.shape, dimages.dtype) == ((2, 0, 4, 5), np.float16)
    np.testing.assert_array_equal(host(dtheta), np.zeros((2, 2, 3)))
    empty = [on_device(a) for a in (case.dsamples[:0], case.images[:1], case.coords[:0])]
    dimages, dtheta = stn.warp_affine_vjp(*empty, **options)
    np.testing.assert_array_equal(host(dimages), np.zeros((1, 2, 4, 5)))
    assert dtheta.shape == (0, 2, 3)
    samples, covered = stn.warp_affine(*empty[1:], coverage=True, **options)
    assert (samples.shape, covered.shape) == ((0, 2, 4, 5), (0, 4, 5))


def test_the_nearest_pixel_has_no_gradient_of_coordinates():
    case = Case(np.float32, np.float64, "grid")
    triple = [on_device(a) for a in (case.dsamples, case.images, case.coords)]
    dgrid = stn.grid_sample_vjp(*triple, mode="nearest", wrt=("grid",))[1]
    assert dgrid.dtype == np.float64
    np.testing.assert_array_equal(host(dgrid), np.zeros(case.coords.shape))


# --- One image (H, W, C) --------------------------------------------------------------------------

ROTATION = np.array([[0.8137, 0.5213, -1.3171], [-0.4391, 0.9077, 2.1133]])
PERSPECTIVE = np.array([*ROTATION, [0.0117, -0.0193, 1.0913]])


@paddings
@modes
@pytest.mark.parametrize("matrix", [ROTATION, PERSPECTIVE], ids=["affine", "projective"])
def test_warp_image(matrix, padding, mode):
    rng = np.random.default_rng(0)
    for dtype, fill in ((np.uint8, (1, 5, 2)), (np.float64, 3)):
        image = (rng.random((5, 7, 3)) * 200).astype(dtype)
        options = {"mode": mode, "padding_mode": padding, "fill": fill}
        got = host(stn.warp_image(on_device(image), matrix, (4, 6), **options))
        want = picture(image, matrix, (4, 6), fill, mode, padding)
        assert got.dtype == dtype
        close(got, want, False)


def picture(image, matrix, size, fill, mode, padding):
    """The oracle's result; pixel coordinates are normalised as with corners not aligned."""
    rows, columns = np.indices(size)
    found = np.einsum("rc,cij->ijr", matrix, [columns, rows, np.ones(size)])
    if len(matrix) == 3:
        found = found[..., :2] / found[..., 2:]
    sides = np.array(image.shape[1::-1])
    grid = (2 * found + 1) / sides - 1
    images = np.moveaxis(image, -1, 0)[None]
    return np.moveaxis(
        reference.grid_sample(images, grid[None], padding, fill=fill, mode=mode)[0], 0, -1
    )


def test_wrong_arguments_are_named():
    picture = on_device(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="fill: expected 1 or 3 numbers"):
        stn.warp_image(picture, np.eye(3), fill=(1, 2))
    volume = on_device(np.zeros((1, 1, 2, 2, 2)))
    with pytest.raises(ValueError, match=r"theta: expected shape \(any, 4, 4\), got \(1, 3, 4\)"):
        stn.warp_perspective(volume, on_device(np.zeros((1, 3, 4))))
    out = cuda.device_array((1, 1, 2, 2), np.uint8)
    images = on_device(np.zeros((1, 1, 2, 2), np.float16))
    with pytest.raises(ValueError, match="out: expected .* dtype float16"):
        stn.warp_affine(images, on_device(np.zeros((1, 2, 3))), out=out)


# --- Functions built on the sampler ---------------------------------------------------------------


def test_points():
    rng = np.random.default_rng(0)
    images, points = rng.standard_normal((1, 2, 4, 5)), rng.uniform(-1, 1, (2, 6, 2))
    got = host(stn.sample_points(on_device(images), on_device(points), mode="bicubic"))
    want = reference.grid_sample(images, points[:, None], mode="bicubic")[:, :, 0]
    close(got, want, False)
    values = rng.standard_normal((2, 2, 6))
    got = host(stn.splat(on_device(values), on_device(points), (4, 5), padding_mode="wrap"))
    want = reference.grid_sample_vjp(values[:, :, None], np.zeros((2, 2, 4, 5)), points[:, None],
                                     "wrap")[0]  # fmt: skip
    close(got, want, False)
