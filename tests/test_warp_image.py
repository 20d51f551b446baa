"""warp_image against SciPy, which has the same pixel coordinates."""

import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import numba_stn as stn

DTYPES = ["uint8", "uint16", "float32", "float64"]
PADDINGS = {"zeros": "grid-constant", "border": "nearest", "reflection": "reflect"}


def picture(rng, shape, dtype):
    """Noise over the dtype's whole range, or around zero."""
    if np.dtype(dtype).kind == "u":
        return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def expected(image, matrix, shape, padding, fill):
    """SciPy's result in float64."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    full = np.vstack([matrix, [0, 0, 1]]) if len(matrix) == 2 else np.asarray(matrix)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in full)
    fills = np.broadcast_to(fill, image.shape[2:])
    planes = image.reshape(*image.shape[:2], -1).astype(float)
    found = [
        ndimage.map_coordinates(
            planes[..., c], [v / w, u / w], order=1, mode=PADDINGS[padding],
            cval=float(fills.reshape(-1)[c]) if fills.size else 0.0,
        )
        for c in range(planes.shape[2])
    ]  # fmt: skip
    return np.stack(found, -1).reshape(*shape, *image.shape[2:])


def check(image, matrix, shape, padding="zeros", fill=0):
    got = stn.warp_image(image, matrix, shape, padding_mode=padding, fill=fill)
    want = expected(image, matrix, shape, padding, fill)
    assert got.dtype == image.dtype
    scale = np.abs(image.astype(float)).max() + np.abs(fill).max()
    # Coordinates have errors of a few millionths; integers are rounded too.
    slack = scale * (1e-12 if image.dtype == np.float64 else 2e-5)
    atol = slack + (0.5 if image.dtype.kind == "u" else 0)
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("channels", [None, 2, 3, 4, 6])
def test_against_scipy(dtype, padding, channels):
    rng = np.random.default_rng(0)
    image = picture(rng, (37, 53) if channels is None else (37, 53, channels), dtype)
    for angle, zoom in ((0, 1), (30, 0.6), (90, 1.7), (-140, 1)):
        cos, sin = zoom * np.cos(np.deg2rad(angle)), zoom * np.sin(np.deg2rad(angle))
        matrix = [[cos, -sin, 26 - cos * 40 + sin * 20], [sin, cos, 18 - sin * 40 - cos * 20]]
        check(image, matrix, (41, 80), padding, 7 if padding == "zeros" else 0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_nothing_is_written_after_the_last_pixel(dtype, channels):
    """Blocks are stored several pixels or channels at a time, also the last one."""
    image = np.full((9, 50, channels), 7, dtype)
    for columns in (5, 32):
        for step, slope in ((1, 0), (1, 1e-3), (-1, 1e-3), (0.7, 0)):  # the third leads outside
            buffer = np.full(4 * columns * channels + 64, 99, dtype)
            out = buffer[:-64].reshape(4, columns, channels)
            matrix = [[step, slope, 2.5], [slope, step, 2.5]]
            assert stn.warp_image(image, matrix, (4, columns), fill=7, out=out) is out
            np.testing.assert_array_equal(buffer, np.repeat([7, 99], [out.size, 64]))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_perspective(dtype, padding):
    rng = np.random.default_rng(0)
    image = picture(rng, (60, 50, 3), dtype)
    check(image, [[1.1, 0.1, -3], [0.05, 0.9, 2], [2e-3, -1e-3, 1]], (48, 64), padding)
    # w passes through 0, where the map is undefined.
    found = stn.warp_image(image, [[1, 0, 0], [0, 1, 0], [1 / 16, 0, -1]], padding_mode=padding)
    assert found.shape == image.shape


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.sampled_from(DTYPES), st.integers(1, 7), st.sampled_from([*PADDINGS])
)
def test_random_sides(seed, dtype, channels, padding):
    """Images and outputs narrower than a block of pixels, and a little wider."""
    rng = np.random.default_rng(seed)
    image = picture(rng, (*rng.integers(1, 24, 2), channels), dtype)
    matrix = np.eye(2, 3) + rng.normal(0, 0.4, (2, 3)) + [[0, 0, rng.normal(0, 5)], [0, 0, 0]]
    check(image, matrix, tuple(map(int, rng.integers(1, 40, 2))), padding)


def test_the_identity_is_exact_and_each_channel_has_its_fill():
    for dtype in DTYPES:
        for channels in (1, 3, 4, 5):
            image = picture(np.random.default_rng(1), (19, 40, channels), dtype)
            np.testing.assert_array_equal(stn.warp_image(image, np.eye(3)), image)
            fill = np.arange(channels)
            moved = stn.warp_image(image, [[1, 0, -20], [0, 1, 5]], (19, 70), fill=fill)
            np.testing.assert_array_equal(moved[:14, 20:60], image[5:])
            np.testing.assert_array_equal(moved[:, :20], np.broadcast_to(fill, (19, 20, channels)))
            np.testing.assert_array_equal(moved[14:], np.broadcast_to(fill, (5, 70, channels)))


@pytest.mark.parametrize("padding", PADDINGS)
def test_thin_images_enlarged(padding):
    rng = np.random.default_rng(0)
    for sides in ((1, 40), (2, 2), (2, 40), (40, 2), (40, 3), (3, 3)):
        image = picture(rng, (*sides, 3), "float32")
        for matrix in ([[0.05, 0, 0], [0, 0.05, 0]], [[0.04, 1e-4, 0.5], [1e-3, 0.05, 0.999]]):
            check(image, matrix, (40, 64), padding)


def test_halves_are_rounded_to_even():
    image = np.uint8([[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(stn.warp_image(image, [[1, 0, 0.5], [0, 1, 0]], (1, 4)),
                                  [[0, 2, 2, 4]])  # fmt: skip
    wide = np.arange(40, dtype=np.uint16)[None].repeat(3, 0)
    found = stn.warp_image(wide, [[1, 0, 0.5], [0, 1, 0]], (2, 32))
    np.testing.assert_array_equal(found[0], np.rint(np.arange(32) + 0.5))


def test_infinite_pixels_do_not_reach_samples_outside():
    image = np.full((30, 30, 3), np.inf, np.float32)
    moved = stn.warp_image(image, [[1, 0, 100], [0, 1, 0]])
    assert not moved.any()


@pytest.mark.parametrize("fill", [np.inf, np.nan])
def test_a_missing_tap_of_weight_zero_adds_nothing(fill):
    for channels in (1, 3, 6):
        image = picture(np.random.default_rng(0), (19, 40, channels), "float32")
        for padding in PADDINGS:
            for size in ((19, 40), (19, 9)):  # blocks, and rows too short for them
                found = stn.warp_image(image, np.eye(3), size, fill=fill, padding_mode=padding)
                np.testing.assert_array_equal(found, image[:, : size[1]])
                found = stn.warp_image(image[:, : size[1]], [[1, 0, 0], [0, 1, 0.5]], fill=fill,
                                       padding_mode=padding)  # fmt: skip
                assert np.isfinite(found[:-1]).all()
                assert np.isfinite(found[-1]).all() == (padding != "zeros")


# The documented bound of a coordinate's error, in input pixels.
def bound(step):
    return 2e-7 + 2e-6 * np.abs(step)


@pytest.mark.parametrize("seed", range(3))
def test_coordinates_are_as_exact_as_documented(seed):
    """Stripes of width 1 show where they are sampled; in float64 nearly exactly."""
    rng = np.random.default_rng(seed)
    reached = 0.0
    for step in (0.3, 1.0, 2.7, 30.1, 333.3, 1400.7, 1e4):
        columns = int(rng.integers(16, 50))  # the last block may overlap the one before
        width = int(step * columns) + 40
        stripes = np.tile(np.arange(width) % 2.0, (2, 1))
        matrix = [[step * rng.uniform(0.9, 1), 0.1, rng.uniform(1, 2)], [0, 0, 0.25]]
        exact = stn.warp_image(stripes, matrix, (1, columns))
        found = stn.warp_image(stripes.astype(np.float32), matrix, (1, columns))
        error = np.abs(found - exact).max()
        assert error <= bound(matrix[0][0]) + 1e-7  # of the float32 samples
        reached = max(reached, error / bound(matrix[0][0]))
    assert reached > 0.1  # the bound is not much too large


def test_serial_and_parallel_give_the_same_bits(monkeypatch):
    from numba_stn.kernels import cpu_launch

    image = picture(np.random.default_rng(0), (90, 70, 3), "float32")
    found = []
    for work in (0, 10**12):
        monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", work)
        found.append(stn.warp_image(image, [[0.8, 0.3, -4], [-0.3, 0.8, 9]]))
    np.testing.assert_array_equal(*found)


class Subclass(np.ndarray):
    pass


def outputs(like):
    """Arrays of this shape that kernels cannot write to as they are, or whose class differs."""
    swapped = like.dtype.newbyteorder()
    yield np.empty(like.shape, swapped)
    yield np.empty((*like.shape, 2), swapped)[..., 0]
    yield np.empty_like(like).view(Subclass)
    with tempfile.TemporaryFile() as file:
        yield np.memmap(file, like.dtype, "w+", shape=like.shape)
    packed = np.zeros(like.shape, [("byte", "u1"), ("value", like.dtype)])
    yield packed["value"]
    yield np.frombuffer(bytearray(like.nbytes + 1), like.dtype, offset=1).reshape(like.shape)
    yield np.empty_like(like)[::-1, ::-1]
    yield np.empty_like(like, order="F")


def test_layouts_and_out():
    rng = np.random.default_rng(0)
    image = picture(rng, (40, 30, 3), "uint8")
    matrix = [[0.9, 0.2, 1], [-0.2, 0.9, 3]]
    want = stn.warp_image(image, matrix)
    np.testing.assert_array_equal(stn.warp_image(np.asfortranarray(image), matrix), want)
    swapped = image.astype(">u2")
    np.testing.assert_array_equal(stn.warp_image(swapped, matrix), want)
    out = np.empty_like(image)
    assert stn.warp_image(image, matrix, out=out) is out
    np.testing.assert_array_equal(out, want)
    wide = np.zeros((40, 60, 3), np.uint8)
    assert stn.warp_image(image, matrix, out=wide[:, ::2]).base is wide
    np.testing.assert_array_equal(wide[:, ::2], want)
    assert not wide[:, 1::2].any()
    large = image.astype(np.float32)
    want = stn.warp_image(large, matrix)
    for out in outputs(want):
        assert stn.warp_image(large, matrix, out=out) is out
        np.testing.assert_array_equal(np.asarray(out), want)
    with pytest.raises(TypeError, match="out: expected an array without a mask"):
        stn.warp_image(large, matrix, out=np.ma.masked_array(np.empty_like(want)))
    plane = image[:, :, 0].view(np.matrix)
    want = stn.warp_image(image[:, :, 0], matrix)
    out = np.empty_like(plane)
    assert isinstance(out, np.matrix)
    assert stn.warp_image(plane, np.array(matrix).view(np.matrix), out=out) is out
    np.testing.assert_array_equal(np.asarray(out), want)
    assert stn.warp_image(image[:, :, :0], matrix).shape == (40, 30, 0)


IMAGE, MATRIX = np.zeros((4, 5, 3), np.uint8), np.eye(2, 3)
READ_ONLY = np.zeros((4, 5, 3), np.uint8)
READ_ONLY.flags.writeable = False
WRONG = {
    "image: expected .*, got int64": (([[1]], MATRIX), {}),
    "image: expected integers of at most 32 bits": ((IMAGE.astype(int), MATRIX), {}),
    r"image: expected shape \(H, W\)": ((IMAGE[None], MATRIX), {}),
    "image: expected sides": ((IMAGE[:0], MATRIX), {}),
    r"matrix: expected shape \(2, 3\)": ((IMAGE, np.eye(4)), {}),
    "matrix: expected numbers": ((IMAGE, "rotate"), {}),
    "matrix: expected finite": ((IMAGE, MATRIX * np.nan), {}),
    "matrix: expected a last row": ((IMAGE, np.zeros((3, 3))), {}),
    "shape: expected two positive": ((IMAGE, MATRIX, (0, 4)), {}),
    "shape: expected two": ((IMAGE, MATRIX, 4), {}),
    "mode: expected": ((IMAGE, MATRIX), {"mode": "cubic"}),
    "padding_mode: expected": ((IMAGE, MATRIX), {"padding_mode": "wrap around"}),
    "fill: expected a number that uint8 can hold, got 256": ((IMAGE, MATRIX), {"fill": 256}),
    "fill: expected a number that uint8 can hold, got 0.5": ((IMAGE, MATRIX), {"fill": 0.5}),
    "fill: expected 1 or 3 numbers": ((IMAGE, MATRIX), {"fill": [1, 2]}),
    "fill: expected a number or one": ((IMAGE, MATRIX), {"fill": "black"}),
    "out: expected shape": ((IMAGE, MATRIX), {"out": np.zeros((4, 5), np.uint8)}),
    "out: expected a NumPy": ((IMAGE, MATRIX), {"out": [1]}),
    "out: expected an array that can be": ((IMAGE, MATRIX), {"out": READ_ONLY}),
    "stream: expected None": ((IMAGE, MATRIX), {"stream": 7}),
    "out: expected memory": ((IMAGE, MATRIX), {"out": IMAGE}),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_named(message):
    args, options = WRONG[message]
    with pytest.raises((ValueError, TypeError), match=message):
        stn.warp_image(*args, **options)
