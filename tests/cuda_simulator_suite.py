"""The public functions on device arrays; test_cuda_simulator.py runs this in the simulator.

The simulator runs one CUDA thread after the other in Python, so shapes are small. They are odd too,
so that there are several blocks of 4 x 2 threads, some of them partly empty. With a GPU,
``NUMBA_ENABLE_CUDASIM=0 pytest tests/cuda_simulator_suite.py`` runs the same tests there.
"""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import reference
import simulator
from numba import config, cuda
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

import numba_stn as stn
from numba_stn.kernels.cuda import device, sums

simulator.prepare()
device.MOST_LINE_BLOCKS = 2

PADDINGS = ("zeros", "border", "reflection")
TOLERANCES = {np.float32: 2e-5, np.float64: 1e-12}

simulated = pytest.mark.skipif(not config.ENABLE_CUDASIM, reason="fakes what a GPU cannot do")
paddings = pytest.mark.parametrize("padding", PADDINGS)
corners = pytest.mark.parametrize("align_corners", [False, True])
precisions = pytest.mark.parametrize("real", TOLERANCES)


class Case:
    """Random arrays for every function: ``count`` images of 3 channels, sampled by 2 maps."""

    def __init__(self, image=np.float64, coord=np.float64, count=2, sides=(4, 5), size=(3, 7)):
        rng = np.random.default_rng(0)
        self.size = size
        self.tolerance = max(TOLERANCES[image], TOLERANCES[coord])
        self.images = rng.standard_normal((count, 3, *sides)).astype(image)
        self.dsamples = rng.standard_normal((2, 3, *size)).astype(image)
        self.grid = rng.uniform(-1.6, 1.6, (2, *size, 2)).astype(coord)
        self.theta = rng.uniform(-1, 1, (2, 2, 3)).astype(coord)

    def check(self, name, *arguments, exact=None, **options):
        """Compare the GPU's results with the oracle's."""
        arrays = [getattr(self, a) if isinstance(a, str) else a for a in arguments]
        got = getattr(stn, name)(*map(on_device, arrays), **options)
        options["padding_mode"] = options.pop("padding_mode", "zeros")
        if name.startswith("affine"):
            del options["padding_mode"]
        want = getattr(reference, name)(*arrays, **options)
        got, want = (r if isinstance(r, tuple) else (r,) for r in (got, want))
        for one, other in zip(got, want, strict=True):
            close(one, other, self.tolerance)


def on_device(argument):
    return cuda.to_device(argument) if isinstance(argument, np.ndarray) else argument


def host(array):
    assert hasattr(array, "__cuda_ndarray__")
    return array.copy_to_host()


def close(got, want, tolerance=1e-12):
    largest = np.abs(want).max(initial=1.0)
    np.testing.assert_allclose(host(got), want, rtol=tolerance, atol=tolerance * largest)


# --- Values, compared with the oracle's -----------------------------------------------------------


@corners
@precisions
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 18)])
def test_affine_grid(size, real, align_corners):
    case = Case(coord=real, size=size)
    case.check("affine_grid", "theta", size, align_corners=align_corners)
    case.check("affine_grid_vjp", "grid", align_corners=align_corners)


@paddings
@corners
@precisions
def test_grid_sample(padding, align_corners, real):
    options = {"padding_mode": padding, "align_corners": align_corners, "fill": 0.5}
    case = Case(real, real)
    case.check("grid_sample", "images", "grid", **options)
    case.check("grid_sample_vjp", "dsamples", "images", "grid", **options)


@paddings
@corners
@precisions
def test_warp_affine(padding, align_corners, real):
    options = {"padding_mode": padding, "align_corners": align_corners, "fill": 0.5}
    case = Case(real, real)
    case.check("warp_affine", "images", "theta", case.size, **options)
    case.check("warp_affine_vjp", "dsamples", "images", "theta", **options)


@paddings
@pytest.mark.parametrize("pair", [(np.float32, np.float64), (np.float64, np.float32)])
def test_images_and_coordinates_of_different_precision(padding, pair):
    case = Case(*pair)
    case.check("grid_sample", "images", "grid", padding_mode=padding)
    case.check("grid_sample_vjp", "dsamples", "images", "grid", padding_mode=padding)
    case.check("warp_affine", "images", "theta", case.size, padding_mode=padding)
    case.check("warp_affine_vjp", "dsamples", "images", "theta", padding_mode=padding)


@paddings
def test_one_image_for_many_maps(padding):
    case = Case(count=1)
    case.check("grid_sample", "images", "grid", padding_mode=padding)
    case.check("grid_sample_vjp", "dsamples", "images", "grid", padding_mode=padding)
    case.check("warp_affine", "images", "theta", case.size, padding_mode=padding)
    case.check("warp_affine_vjp", "dsamples", "images", "theta", padding_mode=padding)


@paddings
@pytest.mark.parametrize("sides", [(1, 1), (1, 4), (3, 1)])
def test_images_of_one_pixel_a_side(padding, sides):
    case = Case(sides=sides, size=(2, 5))
    case.check("grid_sample_vjp", "dsamples", "images", "grid", padding_mode=padding)
    case.check("warp_affine_vjp", "dsamples", "images", "theta", padding_mode=padding)


def test_more_work_than_blocks(monkeypatch):
    monkeypatch.setattr(device, "MOST_BLOCKS", 1)
    monkeypatch.setattr(sums, "MOST_PARTS", 2)
    case = Case(size=(7, 18))
    case.check("affine_grid", "theta", case.size)
    case.check("affine_grid_vjp", "grid")
    case.check("grid_sample", "images", "grid")
    case.check("grid_sample_vjp", "dsamples", "images", "grid")
    case.check("warp_affine_vjp", "dsamples", "images", "theta")


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e12])
@precisions
@paddings
def test_wild_coordinates(padding, real, wild):
    case = Case(coord=real, size=(2, 5))
    case.grid[0, 0, 1:3, 0] = wild
    case.grid[1, 1, 2:4, 1] = wild
    case.check("grid_sample", "images", "grid", padding_mode=padding, fill=0.5)
    case.check("grid_sample_vjp", "dsamples", "images", "grid", padding_mode=padding)
    case.theta[0, 1, 2] = wild
    theta = on_device(case.theta)
    samples = host(stn.warp_affine(on_device(case.images), theta, padding_mode=padding))
    assert np.isfinite(samples).all()


@precisions
def test_identity_gives_the_images_bit_for_bit(real):
    case = Case(real)
    theta = on_device(np.tile(np.eye(2, 3, dtype=real), (2, 1, 1)))
    np.testing.assert_array_equal(host(stn.warp_affine(on_device(case.images), theta)), case.images)


@paddings
def test_an_infinite_fill(padding):
    case = Case(size=(3, 9))
    case.grid[0, 0] = 9.0
    for fill in (np.inf, np.nan):
        got = stn.grid_sample(
            on_device(case.images), on_device(case.grid), padding_mode=padding, fill=fill
        )
        want = stn.grid_sample(case.images, case.grid, padding_mode=padding, fill=fill)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(host(got), want, rtol=1e-12, atol=1e-12)


# --- One image (H, W, C) --------------------------------------------------------------------------

# No blend of integers ends in one half, whose rounding would depend on rounding errors.
ROTATION = [[0.8137, 0.5213, -1.3171], [-0.4391, 0.9077, 2.1133]]
PERSPECTIVE = [*ROTATION, [0.0117, -0.0193, 1.0913]]


@paddings
@pytest.mark.parametrize("matrix", [ROTATION, PERSPECTIVE], ids=["affine", "projective"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_warp_image(dtype, matrix, padding):
    rng = np.random.default_rng(0)
    for channels, fill in (((), 3), ((3,), (1, 5, 2)), ((1,), 7)):
        image = (rng.random((5, 7, *channels)) * 200).astype(dtype)
        options = {"padding_mode": padding, "fill": fill}
        got = host(stn.warp_image(on_device(image), matrix, (6, 9), **options))
        want = stn.warp_image(image, matrix, (6, 9), **options)
        assert got.dtype == want.dtype == dtype
        # Float32 coordinates may round to the other neighbour, a grey level apart.
        apart = np.abs(got.astype(float) - want)
        assert apart.max() <= {"uint8": 1, "uint16": 1, "float32": 2e-3, "float64": 1e-9}[dtype]
        assert (apart > 1e-2).mean() < 0.05


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_rotate_resize_and_crop(dtype):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(dtype)
    boxes = [(0, 0, 7, 5), (-1.5, 1, 3.25, 4), (6, 0, 9, 2)]
    for run in (
        lambda image, **out: stn.rotate(image, 30, expand=True, fill=9, **out),
        lambda image, **out: stn.resize(image, (4, 9), **out),
        lambda image, **out: stn.crop_and_resize(image, boxes[1], (3, 6), **out),
        lambda image, **out: stn.crop_and_resize(image, boxes, (3, 6), **out),
    ):
        want = run(image)
        got = run(on_device(image))
        assert type(got) is type(on_device(image))
        np.testing.assert_allclose(host(got), want, rtol=0, atol=1 if dtype == "uint8" else 1e-10)
        out = on_device(np.zeros_like(want))
        assert run(on_device(image), out=out) is out
        np.testing.assert_array_equal(host(out), host(got))


def test_warp_image_into_out_and_wrong_arguments():
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    out = cuda.device_array((4, 6), np.uint8)
    assert stn.warp_image(on_device(image), np.eye(3), out=out) is out
    np.testing.assert_array_equal(host(out), image)
    with pytest.raises(TypeError, match="out: expected an array on the GPU"):
        stn.warp_image(on_device(image), np.eye(3), out=np.zeros_like(image))
    with pytest.raises(TypeError, match="image: expected integers of at most 32 bits.*int64"):
        stn.warp_image(on_device(image.astype(int)), np.eye(3))


# --- Values, compared with the CPU's --------------------------------------------------------------


@paddings
@pytest.mark.parametrize("special", [0.0, np.inf, np.nan])
@pytest.mark.filterwarnings("ignore:.*invalid value:RuntimeWarning")  # inf - inf, in Python
def test_the_cpu_gives_the_same(padding, special):
    case = Case()
    case.images[0, 1, 2, 3] = special
    for name in ("grid", "theta"):
        function = {"grid": stn.grid_sample, "theta": stn.warp_affine}[name]
        vjp = {"grid": stn.grid_sample_vjp, "theta": stn.warp_affine_vjp}[name]
        pair = [case.images, getattr(case, name)]
        triple = [case.dsamples, *pair]
        size = [case.size] if name == "theta" else []
        got = function(*map(on_device, pair), *size, padding_mode=padding)
        want = function(*pair, *size, padding_mode=padding)
        np.testing.assert_allclose(host(got), want, rtol=1e-12, atol=1e-12)
        got = vjp(*map(on_device, triple), padding_mode=padding)
        want = vjp(*triple, padding_mode=padding)
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(host(one), other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["grid", "theta"])
@pytest.mark.parametrize("count", [1, 2])
def test_the_same_bits_every_time(name, count):
    case = Case(np.float32, np.float32, count)
    vjp = {"grid": stn.grid_sample_vjp, "theta": stn.warp_affine_vjp}[name]
    triple = [on_device(a) for a in (case.dsamples, case.images, getattr(case, name))]
    first, second = vjp(*triple), vjp(*triple)
    for one, other in zip(first, second, strict=True):
        assert host(one).tobytes() == host(other).tobytes()


# --- Empty arrays, and gradients with infinity or NaN ---------------------------------------------


def test_no_images():
    case = Case()
    images, grid, theta = case.images[:0], case.grid[:0], case.theta[:0]
    case.check("affine_grid", theta, case.size)
    case.check("affine_grid_vjp", grid)
    assert stn.grid_sample(on_device(images), on_device(grid)).shape == (0, 3, 3, 7)
    assert stn.warp_affine(on_device(images), on_device(theta)).shape == (0, 3, 4, 5)
    triple = [on_device(a) for a in (case.dsamples[:0], images, theta)]
    assert [d.shape for d in stn.warp_affine_vjp(*triple)] == [(0, 3, 4, 5), (0, 2, 3)]


def test_one_image_and_no_maps():
    case = Case(count=1)
    triple = [on_device(a) for a in (case.dsamples[:0], case.images, case.grid[:0])]
    dimages, dgrid = stn.grid_sample_vjp(*triple)
    np.testing.assert_array_equal(host(dimages), np.zeros((1, 3, 4, 5)))
    assert dgrid.shape == (0, 3, 7, 2)


def test_no_channels():
    case = Case()
    for name in ("grid", "theta"):
        vjp = {"grid": stn.grid_sample_vjp, "theta": stn.warp_affine_vjp}[name]
        coords = on_device(getattr(case, name))
        triple = [on_device(case.dsamples[:, :0]), on_device(case.images[:, :0]), coords]
        dimages, dcoords = vjp(*triple)
        assert dimages.shape == (2, 0, 4, 5)
        np.testing.assert_array_equal(host(dcoords), np.zeros(coords.shape))


def test_a_gradient_that_is_not_wanted_is_none():
    case = Case()
    triple = [on_device(a) for a in (case.dsamples, case.images, case.theta)]
    assert stn.warp_affine_vjp(*triple, wrt=("images",))[1] is None
    assert stn.warp_affine_vjp(*triple, wrt=("theta",))[0] is None
    assert stn.warp_affine_vjp(*triple, wrt=()) == (None, None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@precisions
def test_an_infinite_gradient_gives_nan_everywhere(real, bad):
    case = Case(real)
    case.dsamples[1, 2, 0, 0] = bad
    triple = [on_device(a) for a in (case.dsamples, case.images, case.grid)]
    assert np.isnan(host(stn.grid_sample_vjp(*triple, wrt=("images",))[0])).all()


@precisions
def test_gradients_of_every_size_keep_their_digits(real):
    kind = np.finfo(real)
    for size in (0.0, kind.tiny * 2**60, 1e20, kind.max / 1024):
        case = Case(real)
        case.dsamples = np.clip(case.dsamples, -2, 2) * real(size)
        triple = [on_device(a) for a in (case.dsamples, case.images, case.grid)]
        got = host(stn.grid_sample_vjp(*triple, wrt=("images",))[0])
        want = reference.grid_sample_vjp(case.dsamples, case.images, case.grid)[0]
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCES[real] * float(size))


# --- Arrays: out, and errors ----------------------------------------------------------------------


def test_out_is_filled_and_returned():
    case = Case()
    images, grid = on_device(case.images), on_device(case.grid)
    out = cuda.device_array((2, 3, 3, 7), np.float64)
    assert stn.grid_sample(images, grid, out=out) is out
    close(out, reference.grid_sample(case.images, case.grid))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: np.empty((2, 3, 4, 5)), TypeError, "an array on the GPU"),
        (lambda: cuda.device_array((2, 3, 5, 4)), ValueError, "shape .* got"),
        (lambda: cuda.device_array((2, 3, 4, 5), np.float32), ValueError, "dtype float64"),
        (lambda: cuda.device_array((2, 3, 4, 10))[..., ::2], ValueError, "a contiguous array"),
    ],
)
def test_wrong_out(make, error, message):
    case = Case()
    with pytest.raises(error, match=f"out: expected.*{message}"):
        stn.warp_affine(on_device(case.images), on_device(case.theta), out=make())


def test_out_may_not_share_memory_with_an_input():
    case = Case()
    images, theta = on_device(case.images), on_device(case.theta)
    with pytest.raises(ValueError, match="shared with an input"):
        stn.warp_affine(images, theta, out=images)
    whole = on_device(np.zeros((3, 3, 4, 5)))
    with pytest.raises(ValueError, match="shared with an input"):
        stn.warp_affine(whole[:2], theta, out=whole[1:])


@simulated
def test_an_out_that_cannot_be_written_to():
    case = Case()
    out = cuda.device_array((2, 3, 4, 5), np.float64)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        stn.warp_affine(on_device(case.images), on_device(case.theta), out=out)


def test_arrays_on_both_sides():
    case = Case()
    with pytest.raises(TypeError, match="images is on the GPU, theta is on the CPU"):
        stn.warp_affine(on_device(case.images), case.theta)
    with pytest.raises(TypeError, match="out: expected a NumPy array"):
        stn.warp_affine(case.images, case.theta, out=on_device(case.images))


def test_arrays_with_gaps_are_refused():
    case = Case()
    with pytest.raises(ValueError, match=r"theta: expected a contiguous array .* strides"):
        stn.warp_affine(on_device(case.images), on_device(case.theta)[:, :, ::2])


def test_wrong_shapes_and_types_are_named():
    case = Case()
    images, theta = on_device(case.images), on_device(case.theta)
    with pytest.raises(ValueError, match=r"theta: expected shape \(any, 2, 3\), got \(2, 3\)"):
        stn.warp_affine(images, theta[0])
    with pytest.raises(
        TypeError, match="images: expected integers of at most 32 bits, .*, got int64"
    ):
        stn.warp_affine(on_device(case.images.astype(np.int64)), theta)


# --- Arrays of other libraries --------------------------------------------------------------------


class Device(contextlib.nullcontext):
    """A device, whose number PyTorch calls ``index`` and CuPy ``id``."""

    def __init__(self, number):
        super().__init__()
        self.index = self.id = number


class Foreign:
    """The part of an array of PyTorch or CuPy that this project uses."""

    def __init__(self, data, number=0):
        self.data, self.device = data, Device(number)
        self.__cuda_array_interface__ = data.__array_interface__


@pytest.fixture(params=["torch", "cupy"])
def foreign(request, monkeypatch):
    """The type of a library's arrays; a fake of that library is loaded."""
    kind = type("Array", (Foreign,), {"__module__": request.param})
    streams = SimpleNamespace(
        current_stream=lambda place: SimpleNamespace(cuda_stream=0),
        get_current_stream=lambda: SimpleNamespace(ptr=0),
    )
    library = SimpleNamespace(
        empty=lambda shape, dtype, device=None: kind(np.full(shape, 7, dtype)),
        cuda=streams, float32=np.float32, float64=np.float64, int64=np.int64,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, request.param, library)
    monkeypatch.setattr(
        cuda, "from_cuda_array_interface", lambda interface, array, sync: FakeCUDAArray(
            array.data.reshape(interface["shape"])
        ), raising=False,
    )  # fmt: skip
    monkeypatch.setattr(cuda, "gpus", [contextlib.nullcontext()] * 2)
    return kind


@simulated
def test_results_are_of_the_callers_library(foreign):
    case = Case()
    images, theta = foreign(case.images), foreign(case.theta)
    samples = stn.warp_affine(images, theta, case.size)
    gradients = stn.warp_affine_vjp(foreign(case.dsamples), images, theta)
    grid = stn.affine_grid(theta, case.size)
    want = reference.warp_affine_vjp(case.dsamples, case.images, case.theta)
    assert {type(result) for result in (samples, *gradients, grid)} == {foreign}
    for got, exact in zip(gradients, want, strict=True):
        np.testing.assert_allclose(got.data, exact, rtol=1e-12, atol=1e-12)


@simulated
def test_out_of_the_callers_library(foreign):
    case = Case()
    images, theta = foreign(case.images), foreign(case.theta)
    out = foreign(np.zeros((2, 3, 4, 5)))
    assert stn.warp_affine(images, theta, out=out) is out
    np.testing.assert_allclose(out.data, reference.warp_affine(case.images, case.theta))
    with pytest.raises(ValueError, match="shared with an input"):
        stn.warp_affine(images, theta, out=foreign(case.images))


@simulated
def test_arrays_on_two_devices(foreign):
    case = Case()
    with pytest.raises(ValueError, match="images is on GPU 0, theta is on GPU 1"):
        stn.warp_affine(foreign(case.images), foreign(case.theta, 1))


@simulated
def test_kernels_run_on_the_librarys_stream(foreign, monkeypatch):
    case, used, waits = Case(), [], []
    streams = sys.modules[foreign.__module__].cuda
    monkeypatch.setattr(streams, "current_stream", lambda place: SimpleNamespace(cuda_stream=9))
    monkeypatch.setattr(streams, "get_current_stream", lambda: SimpleNamespace(ptr=9))
    monkeypatch.setattr(device, "_stream", lambda *place: used.append(place) or 0)
    monkeypatch.setattr(cuda, "synchronize", lambda: waits.append(1))
    stn.affine_grid(foreign(case.theta), case.size)
    assert used == [(0, 9)]
    assert not waits
    stn.warp_affine(foreign(case.images), on_device(case.theta))
    assert waits


@simulated
@pytest.mark.parametrize("attribute", ["cuda_stream", "ptr", "handle", None])
def test_kernels_run_on_the_named_stream(foreign, monkeypatch, attribute):
    case, used, waits, current = Case(), [], [], []
    streams = sys.modules[foreign.__module__].cuda
    streams.ExternalStream = lambda *place: Device(place[0])
    streams.stream = lambda place: current.append(place.index) or place
    monkeypatch.setattr(device, "_stream", lambda *place: used.append(place) or 0)
    monkeypatch.setattr(cuda, "synchronize", lambda: waits.append(1))
    triple = [foreign(a) for a in (case.dsamples, case.images, case.theta)]
    stn.warp_affine_vjp(*triple, stream=SimpleNamespace(**{attribute: 5}) if attribute else 5)
    assert set(used) == {(0, 5)}
    assert not waits
    # PyTorch allocates on that stream too.
    assert current == ([5] * len(current) if foreign.__module__ == "torch" else [])
    assert bool(current) == (foreign.__module__ == "torch")
    stn.warp_affine(*triple[1:], case.size, out=foreign(case.dsamples), stream=5)
    assert not waits


def test_a_wrong_stream_is_named():
    case = Case()
    with pytest.raises(TypeError, match="stream: expected a stream of Numba, CuPy or PyTorch"):
        stn.affine_grid(on_device(case.theta), case.size, stream="fast")
    with pytest.raises(TypeError, match="stream: expected None for arrays on the CPU, got 5"):
        stn.affine_grid(case.theta, case.size, stream=5)
