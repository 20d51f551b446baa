"""Any input to samplers and layers: shapes, strides, NaN, long images, threads, and bad input."""

import os
import pathlib
import subprocess
import sys

import everything
import fuzz_layers
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from samplers import ALL, EXACT, Sampler, expected, found, pixels, problem
from test_grid_sample import strided
from test_samplers import check

import numba_stn as stn

every = pytest.mark.parametrize("sampler", ALL, ids=str)


@pytest.fixture(autouse=True, scope="module")
def _serial():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)
        yield


# --- Sides of 0 and 1, strides, byte orders -------------------------------------------------------


@st.composite
def any_problem(draw):
    """A sampler and a problem for it, of any shape and strides."""
    sampler, count, side = draw(st.sampled_from(ALL)), st.integers(0, 3), st.integers(1, 9)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sides, size = ([draw(side) for _ in range(3)] for _ in range(2))
    align = draw(st.booleans())
    case = problem(rng, sampler, sides, size, draw(count), draw(count), align)
    if draw(st.booleans()) and len(case.coords):
        case = case._replace(images=case.images[:1])
    images, coords, dsamples = (strided(draw, array) for array in case[:3])
    return sampler, case._replace(images=images, coords=coords, dsamples=dsamples), align


@settings(deadline=None, max_examples=300)
@given(any_problem())
def test_any_shape_and_strides(drawn):
    sampler, case, align = drawn
    before = [array.copy() for array in case[:3]]
    got, want = found(sampler, case, align), expected(sampler, case, align)
    contrast = 1 + np.abs(np.asarray(case.images, float)).max(initial=0)
    check(sampler, got, want, contrast, side=16)
    for array, was in zip(case[:3], before, strict=True):
        np.testing.assert_array_equal(array, was)


# --- NaN, infinite and huge numbers ---------------------------------------------------------------

ODD = [np.nan, np.inf, -np.inf, 1e30, -1e30, 3.4e38, 2.0**31, -(2.0**63), 1e18, 0.0, -1.0, 1.0]


def nonsense(rng, array, share):
    """Replace a share of an array's numbers by NaN, infinities and huge numbers."""
    if array.dtype.kind == "u":
        return array
    with np.errstate(over="ignore"):
        odd = rng.choice(ODD, array.shape).astype(array.dtype)
    return np.where(rng.random(array.shape) < share, odd, array)


def garbage(byte):
    """np.empty whose memory is filled with one byte."""

    def empty(shape, dtype=float, **kind):
        array = np.zeros(shape, dtype, **kind)
        array.reshape(-1).view(np.uint8)[...] = byte
        return array

    return empty


def everything_of(sampler, case, align):
    """Samples, coverage and gradients."""
    arrays = case.images, case.coords
    samples, covered = sampler.sample(
        *arrays, case.size, align, fill=case.fill, coverage=True
    )  # fmt: skip
    return samples, covered, *sampler.vjp(case.dsamples, *arrays, align, fill=case.fill)


@every
def test_results_do_not_depend_on_uninitialised_memory(sampler, monkeypatch):
    """Whatever memory contained, the results are the same; with NaN and infinity everywhere."""
    rng = np.random.default_rng(ALL.index(sampler))
    everything_of(sampler, problem(rng, sampler), False)  # compile before np.empty is replaced
    for _ in range(60):
        long = rng.choice([1, 2, 40, 70], p=[0.3, 0.3, 0.3, 0.1])
        sides, size = rng.integers(1, 6, 3), rng.integers(1, 6, 3)
        sides[-1], size[-1] = sides[-1] * long, size[-1] * rng.choice([1, 8, 13])
        batch, channels = rng.integers(0, 4, 2)
        case = problem(rng, sampler, rng.permutation(sides), tuple(size), batch, channels)
        share = rng.choice([0.02, 0.3, 1.0])
        images, coords, dsamples, fill = (
            nonsense(rng, array, share)
            for array in (case.images, case.coords, case.dsamples, case.fill)
        )
        case = case._replace(images=images, coords=coords, dsamples=dsamples, fill=fill)
        align, results = bool(rng.integers(2)), []
        for byte in (0x3E, 0x41):
            with monkeypatch.context() as patch:
                patch.setattr(np, "empty", garbage(byte))
                results.append(everything_of(sampler, case, align))
        for first, second in zip(*results, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shapes", ["NARROW", "THIN"])
def test_nor_do_functions_built_on_the_sampler(shapes, monkeypatch):
    """Forward derivatives, antialiased warps, points, splines: of normal input and of NaN."""
    for name, call in everything.derived(shapes=getattr(everything, shapes)):
        for share in (0, 0.3):
            call()  # compile before np.empty is replaced
            results = []
            for byte in (0x3E, 0x41):
                rng = np.random.default_rng(0)

                def like(array, rng=rng, share=share):
                    return nonsense(rng, array, share)

                with monkeypatch.context() as patch:
                    empty = garbage(byte)
                    patch.setattr(np, "empty", empty)
                    patch.setattr(np, "empty_like", lambda a, e=empty: e(a.shape, a.dtype))
                    results.append(call(like=like))
            for first, second in zip(*results, strict=True):
                np.testing.assert_array_equal(first, second, err_msg=name)


def test_nor_do_layers(monkeypatch):
    """Random stacks, forward and backward: of normal numbers and of NaN, infinity and huge ones."""
    for seed in range(150):
        net, given, train = fuzz_layers.random_case(np.random.default_rng(seed))
        for share in (0, 0.1):
            if share:
                rng = np.random.default_rng(seed)
                given |= {key: nonsense(rng, given[key], share) for key in ("x", "dy")}
                train = False  # training refuses a theta that is not finite
            case, results = (fuzz_layers.ours, net, given, train), []
            with np.errstate(all="ignore"):
                fuzz_layers.run(*case)  # compile before np.empty is replaced
                for byte in (0x3E, 0x41):
                    with monkeypatch.context() as patch:
                        empty = garbage(byte)
                        patch.setattr(np, "empty", empty)
                        patch.setattr(np, "empty_like", lambda a, e=empty: e(a.shape, a.dtype))
                        results.append(fuzz_layers.run(*case))
            for name, first in results[0].items():
                np.testing.assert_array_equal(first, results[1][name], err_msg=f"{seed} {name}")


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**32), st.data())
def test_layers_take_any_shape_and_strides(seed, data):
    """Random stacks agree with the oracle, whatever the strides and byte orders of their arrays."""
    net, case, train = fuzz_layers.random_case(np.random.default_rng(seed))
    before = {name: case[name].copy() for name in ("x", "dy")}
    case |= {name: strided(data.draw, case[name]) for name in before if case[name].size}
    found = fuzz_layers.run(fuzz_layers.ours, net, case, train)
    fuzz_layers.check_oracle(found, net, case | before, train)
    for name, was in before.items():
        np.testing.assert_array_equal(case[name], was)


def test_uninitialised_memory_is_filled(monkeypatch):
    found = []
    for byte in (0x3E, 0x41):
        monkeypatch.setattr(np, "empty", garbage(byte))
        found.append(np.empty((2, 3), np.float32))
    assert (found[0] != found[1]).all()


@every
def test_invalid_coordinates_follow_the_padding_rules(sampler):
    """NaN, infinity and 1e30 are outside or at an edge, without a slope."""
    if sampler.source != "grid":
        pytest.skip("a map is invalid everywhere at once")
    rng = np.random.default_rng(0)
    case = problem(rng, sampler, channels=3)
    odd = rng.choice([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38, 2.0**63], case.coords.shape)
    chosen = rng.random(case.coords.shape) < 0.4
    case = case._replace(coords=np.where(chosen, odd, case.coords).astype(sampler.coords))
    for align in (False, True):
        got, want = found(sampler, case, align), expected(sampler, case, align)
        check(sampler, got, want, np.abs(case.images.astype(float)).max())
        np.testing.assert_allclose(got[2][chosen], 0, atol=1e-5 * np.abs(got[2]).max())


# --- Longer than 32,767 ---------------------------------------------------------------------------

LONG = 33_001


@pytest.mark.parametrize("sampler", EXACT, ids=str)
def test_long_images(sampler):
    """Longer than OpenCV's limit; sampled at both ends and between."""
    rng = np.random.default_rng(1)
    for sides in [(1, 1, LONG), (1, LONG, 1), (LONG, 1, 1)][: sampler.dims]:
        case = problem(rng, sampler, sides, (2, 3, 40), batch=1, channels=1)
        if sampler.source == "grid":
            ends = rng.choice([-1.0, 1.0], case.coords.shape)
            case = case._replace(coords=ends + rng.uniform(-9, 9, ends.shape) / LONG)
        got, want = found(sampler, case), expected(sampler, case)
        np.testing.assert_allclose(got[0], want[0], atol=1e-9)
        np.testing.assert_allclose(got[1], want[1], atol=1e-9)
        np.testing.assert_allclose(got[2], want[2], atol=1e-8 * max(1, np.abs(want[2]).max()))


@pytest.mark.parametrize("sampler", [row for row in EXACT if row.source != "grid"], ids=str)
def test_long_outputs(sampler):
    rng = np.random.default_rng(2)
    case = problem(rng, sampler, size=(1, 1, LONG), batch=1)
    (samples, _, dtheta), some = found(sampler, case), np.arange(0, LONG, 1500)
    points = np.zeros((len(some), sampler.dims + 1))
    points[:, 0], points[:, -1] = reference.base_line(LONG, False)[some], 1
    grid = points @ case.coords[0].T
    if sampler.source == "projective":
        grid = grid[:, :-1] / grid[:, -1:]
    grid = grid.reshape(1, *[1] * (sampler.dims - 1), -1, sampler.dims)
    want = reference.grid_sample(case.images, grid, fill=case.fill, **sampler.options())
    np.testing.assert_allclose(samples[..., some], want, atol=1e-10)
    assert np.isfinite(dtheta).all()


# --- Threads --------------------------------------------------------------------------------------

SHARED = [
    Sampler("projective", "bilinear", "border", 2, "NHWC"),
    Sampler("affine", "bicubic", "reflection", 2, "NCHW"),
    Sampler("grid", "bilinear", "border", 3, "NHWC"),
    Sampler("affine", "bilinear", "zeros", 2, "NHWC", "uint8", "float32"),
]

THREADS = """
import sys; sys.path.insert(0, TESTS)
import numba, numpy as np
from numba_stn.kernels import cpu_launch as launch
from samplers import found, problem
from test_any_input import SHARED
for sampler in SHARED:
    for batch in (1, 2):
        case = problem(np.random.default_rng(0), sampler, (5, 37, 41), (4, 43, 39), batch, 3)
        launch.PARALLEL_WORK = 10**12
        serial = found(sampler, case)
        launch.PARALLEL_WORK = 0
        for threads in (3, 2, 1):
            numba.set_num_threads(threads) if launch._process.launched else None
            for ours, theirs in zip(found(sampler, case), serial, strict=True):
                np.testing.assert_array_equal(ours, theirs)
                assert np.abs(ours).max() > 0.1
print(numba.get_num_threads())
""".replace("TESTS", repr(str(pathlib.Path(__file__).parent)))


def test_the_same_bits_serially_and_with_any_number_of_threads():
    env = os.environ | {"NUMBA_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", THREADS], env=env, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


# --- Registration ---------------------------------------------------------------------------------


@st.composite
def any_registration(draw):
    """Images of any sides, dtypes and strides, and their masks, with NaN beneath."""
    transform = draw(st.sampled_from(["translation", "affine", "projective", "tps", "rigid 3-D"]))
    dims = 3 if transform.endswith("3-D") else 2
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    images, masks = [], []
    for _ in range(2):
        sides = [draw(st.integers(20, 40)) for _ in range(dims)]
        coarse = rng.random([-(-side // 4) for side in sides])
        dtype = np.dtype(draw(st.sampled_from(["uint8", "uint16", "float32", "float64"])))
        image = np.kron(coarse, np.ones([4] * dims))[tuple(map(slice, sides))] * 200
        mask = rng.random(sides) > 0.1 if draw(st.booleans()) else None
        if mask is not None and dtype.kind == "f":
            image[~mask] = np.nan
        images.append(image.astype(dtype))
        masks.append(mask)
    return transform, images, [strided(draw, image) for image in images], masks


@settings(deadline=None, max_examples=60)
@given(any_registration())
def test_registration_of_any_input(drawn):
    """Neither strides, nor byte orders, nor what memory contained, change a bit."""
    transform, images, others, (moving_mask, mask) = drawn
    # Kernels are compiled first, since Numba looks np.empty up while it compiles.
    stn.register(*images, transform, mask=mask, moving_mask=moving_mask, iterations=3)
    found = []
    for pair, byte in ((images, 0x3E), (others, 0x41)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(np, "empty", garbage(byte))
            found.append(stn.register(
                *pair, transform, mask=mask, moving_mask=moving_mask, iterations=3
            ))  # fmt: skip
    for image, other in zip(images, others, strict=True):
        np.testing.assert_array_equal(image, other)
    np.testing.assert_array_equal(found[0].theta, found[1].theta)
    np.testing.assert_array_equal(found[0].aligned, found[1].aligned)
    assert np.isfinite(found[0].theta).all()
    assert str(found[0].report) == str(found[1].report)


# --- Bad input ------------------------------------------------------------------------------------

IMAGES, VOLUMES = np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 5, 6))
THETA, THETA3 = np.zeros((2, 2, 3)), np.zeros((2, 3, 4))
PROJECTIVE, GRID, GRID3 = np.zeros((2, 3, 3)), np.zeros((2, 4, 4, 2)), np.zeros((2, 4, 4, 4, 3))
BYTES = IMAGES.astype("uint8")

BAD = {
    "splines of volumes": (lambda: stn.warp_tps(VOLUMES, np.zeros((2, 4, 2))), ValueError,
                           "images.*planes.*2, 3, 4, 5, 6"),
    "projective volumes": (lambda: stn.warp_perspective(VOLUMES, THETA3), ValueError,
                           "theta.*4, 4.*2, 3, 4"),
    "mode": (lambda: stn.warp_perspective(IMAGES, PROJECTIVE, mode="linear"), ValueError,
             "mode.*'bilinear'.*'linear'"),
    "padding_mode": (lambda: stn.grid_sample(IMAGES, GRID, padding_mode="constant"), ValueError,
                     "padding_mode.*'fill'.*'constant'"),
    "layout": (lambda: stn.warp_affine(IMAGES, THETA, layout="CHWN"), ValueError,
               "layout.*'NHWC'.*'CHWN'"),
    "layout: list": (lambda: stn.warp_affine(IMAGES, THETA, layout=["NCHW"]), ValueError, "layout"),
    "fill: too many": (lambda: stn.warp_affine(IMAGES, THETA, fill=[1, 2]), ValueError,
                       "fill.*3 numbers.*1, 2"),
    "fill: ranks": (lambda: stn.warp_affine(IMAGES, THETA, fill=[[1, 2, 3]]), TypeError,
                    "fill.*1, 2, 3"),
    "fill: negative": (lambda: stn.warp_affine(BYTES, THETA, fill=-1), ValueError, "fill.*uint8"),
    "fill: 256": (lambda: stn.warp_affine(BYTES, THETA, fill=[0, 256, 1]), ValueError,
                  "fill.*uint8.*256"),
    "fill: a half": (lambda: stn.warp_affine(BYTES, THETA, fill=0.5), ValueError, "fill.*uint8"),
    "fill: NaN": (lambda: stn.warp_affine(BYTES, THETA, fill=np.nan), ValueError, "fill.*uint8"),
    "fill: float16": (lambda: stn.warp_affine(IMAGES.astype("e"), THETA, fill=1e5), ValueError,
                      "fill.*float16"),
    "fill: complex": (lambda: stn.warp_affine(IMAGES, THETA, fill=np.complex64(1j)), TypeError,
                      "fill.*1j"),
    "fill: text": (lambda: stn.warp_affine(IMAGES, THETA, fill=["a"] * 3), TypeError, "fill"),
    "images: int64": (lambda: stn.warp_affine(IMAGES.astype("int64"), THETA), TypeError,
                      "images.*nearest.*int64"),
    "images: text": (lambda: stn.warp_affine(IMAGES.astype(str), THETA), TypeError, "images"),
    "images: rank": (lambda: stn.warp_affine(VOLUMES[None], THETA), ValueError,
                     "images.*N, C, D, H, W.*1, 2, 3, 4, 5, 6"),
    "images: rank, last": (lambda: stn.warp_affine(IMAGES[0], THETA, layout="NHWC"), ValueError,
                           "images.*N, H, W, C.*3, 4, 5"),
    "images: no rows": (lambda: stn.warp_affine(IMAGES[:, :0], THETA, layout="NHWC"), ValueError,
                        "images.*0, 4"),
    "images: no slices": (lambda: stn.grid_sample(VOLUMES[:, :, :0], GRID3), ValueError,
                          "images.*0, 5, 6"),
    "theta: float16": (lambda: stn.warp_affine(IMAGES, THETA.astype("e")), TypeError,
                       "theta.*float16"),
    "theta: float16, projective": (lambda: stn.warp_perspective(IMAGES, PROJECTIVE.astype("e")),
                                   TypeError, "theta.*float16"),
    "grid: float16": (lambda: stn.grid_sample(IMAGES, GRID.astype("e")), TypeError,
                      "grid.*float16"),
    "grid: int": (lambda: stn.grid_sample(IMAGES, GRID.astype(int)), TypeError, "grid.*int64"),
    "theta: planes' for volumes": (lambda: stn.warp_affine(VOLUMES, THETA), ValueError,
                                   "theta.*any, 3, 4.*2, 2, 3"),
    "theta: volumes' for planes": (lambda: stn.warp_affine(IMAGES, THETA3), ValueError,
                                   "theta.*any, 2, 3.*2, 3, 4"),
    "theta: affine for projective": (lambda: stn.warp_perspective(IMAGES, THETA), ValueError,
                                     "theta.*any, 3, 3.*2, 2, 3"),
    "grid: planes' for volumes": (lambda: stn.grid_sample(VOLUMES, GRID), ValueError,
                                  "grid.*any, any, any, any, 3.*2, 4, 4, 2"),
    "grid: volumes' for planes": (lambda: stn.grid_sample(IMAGES, GRID3), ValueError,
                                  "grid.*any, any, any, 2.*4, 4, 4, 3"),
    "size: planes' for volumes": (lambda: stn.warp_affine(VOLUMES, THETA3, (2, 2)), ValueError,
                                  "size.*D_out.*2, 2"),
    "size: volumes' for planes": (lambda: stn.warp_perspective(IMAGES, PROJECTIVE, (2, 2, 2)),
                                  ValueError, "size.*H_out.*2, 2, 2"),
    "size: zero slices": (lambda: stn.affine_grid(THETA3, (0, 2, 2)), ValueError, "size.*0, 2, 2"),
    "dsamples: float64 for bytes": (
        lambda: stn.warp_affine_vjp(IMAGES, BYTES, THETA), TypeError,
        "dsamples.*float32.*float64"),
    "dsamples: bytes for bytes": (
        lambda: stn.warp_affine_vjp(BYTES, BYTES, THETA), TypeError, "dsamples.*float32.*uint8"),
    "dsamples: float32 for float16": (
        lambda: stn.warp_affine_vjp(IMAGES.astype("f"), IMAGES.astype("e"), THETA), TypeError,
        "dsamples.*float16.*float32"),
    "dsamples: layout": (
        lambda: stn.warp_affine_vjp(IMAGES[:1].repeat(2, 0), IMAGES, THETA, layout="NHWC",
                                    wrt=("grid",)), ValueError, "wrt.*theta.*grid"),
    "dsamples: channels": (
        lambda: stn.grid_sample_vjp(np.zeros((2, 4, 4, 3)), IMAGES, GRID), ValueError,
        "dsamples.*2, 3, 4, 4.*2, 4, 4, 3"),
    "dsamples: rank": (
        lambda: stn.warp_affine_vjp(IMAGES, VOLUMES, THETA3), ValueError,
        "dsamples.*2, 3, any, any, any.*2, 3, 4, 5"),
    "out: bytes": (
        lambda: stn.warp_affine(BYTES, THETA, out=IMAGES), ValueError, "out.*uint8.*float64"),
    "out: layout": (
        lambda: stn.warp_affine(IMAGES, THETA, (7, 8), layout="NHWC", out=np.zeros((2, 5, 7, 8))),
        ValueError, "out.*2, 7, 8, 5.*2, 5, 7, 8"),
    "dgrid: volume": (lambda: stn.affine_grid_vjp(GRID3[..., :2]), ValueError,
                      "dgrid.*any, 3.*4, 4, 4, 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


def test_a_fill_may_be_of_any_kind_of_number():
    """Scalars of NumPy, tuples, arrays; numbers that the dtype represents exactly."""
    theta = np.full((2, 2, 3), 9.0) * [0, 0, 1]
    for fill in (7, np.uint8(7), np.float32(7), np.array(7), (7, 7, 7), np.full(3, 7)):
        got = stn.warp_affine(BYTES, theta, layout="NCHW", padding_mode="fill", fill=fill)
        assert got.dtype == np.uint8
        assert (got == 7).all()
    assert pixels(np.random.default_rng(0), 3, "uint8").dtype == np.uint8
