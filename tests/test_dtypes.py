"""Images of any dtype, in the functions of one image and of batches.

Labels are compared with NumPy's indexing, bit for bit, and numbers with the same function on floats
that hold them exactly.
"""

import numpy as np
import pytest

import numba_stn as stn

RNG = np.random.default_rng(0)
SIDES, SIZE = (23, 29), (17, 31)
MATRIX = np.array([[0.91370123, -0.21130987, 3.07123456], [0.23169876, 0.81231234, -2.09138765]])
INTEGERS = ("bool", "int8", "int16", "int32", "uint32", "int64", "uint64")
WIDER = {
    "bool": "float32", "int8": "float32", "int16": "float32", "float16": "float32",
    "int32": "float64", "uint32": "float64",
}  # fmt: skip


def limits(dtype):
    return (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def image_of(dtype, shape):
    """Numbers of the whole range of a dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return RNG.integers(*limits(dtype), shape, dtype, endpoint=True)
    if dtype.kind == "b":
        return RNG.random(shape) < 0.5
    real = RNG.normal(0, 100, shape)
    return (real + 1j * RNG.normal(0, 100, shape) if dtype.kind == "c" else real).astype(dtype)


def rounded(numbers, dtype):
    low, high = limits(dtype)
    return np.clip(np.rint(numbers), low, high).astype(dtype)


def nearest(image, fill):
    """Index the nearest pixels."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    u, v = np.rint(np.einsum("ij,jkl->ikl", MATRIX, [x, y, np.ones_like(x)])).astype(int)
    inside = (u >= 0) & (u < SIDES[1]) & (v >= 0) & (v < SIDES[0])
    found = np.full((*SIZE, *image.shape[2:]), fill, image.dtype)
    found[inside] = image[v[inside], u[inside]]
    return found


def variants(image):
    """Return the same numbers in other byte orders and strides, and read-only."""
    swapped = image.astype(image.dtype.newbyteorder("S"))
    padded = np.zeros((2 * len(image), *image.shape[1:]), image.dtype)
    padded[::-2] = image
    locked = image.copy()
    locked.flags.writeable = False
    return swapped, np.asfortranarray(image), padded[::-2], locked, swapped[::-1, ::-1][::-1, ::-1]


# --- One image ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("dtype", [*INTEGERS, "float16", "complex64", "complex128"])
def test_nearest_pixels_are_moved_exactly(dtype, channels):
    image = image_of(dtype, (*SIDES, *channels))
    fill = limits(dtype)[1] if dtype in INTEGERS else 2.5
    for each in (image, *variants(image)):
        found = stn.warp_image(each, MATRIX, SIZE, mode="nearest", fill=fill)
        assert found.dtype == image.dtype
        np.testing.assert_array_equal(found, nearest(image, fill))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_labels_that_are_signalling_nans_as_floats(dtype):
    """Whoever moves them as floats sets another bit."""
    bits = 23 if dtype == "int32" else 52
    payload = RNG.integers(1, 2**20, SIDES, dtype)
    exponent = 0xFF if dtype == "int32" else 0x7FF
    image = payload | (np.array(exponent, dtype) << bits)
    assert np.isnan(image.view(f"f{image.itemsize}")).all()
    found = stn.warp_image(image, MATRIX, SIZE, mode="nearest", fill=-1)
    np.testing.assert_array_equal(found, nearest(image, -1))
    found = stn.resize(image, (60, 70), mode="nearest")
    rows, columns = (np.arange(n) * 2 + 1 for n in (60, 70))
    expected = image[rows[:, None] * SIDES[0] // 120, columns * SIDES[1] // 140]
    np.testing.assert_array_equal(found, expected)


CALLS = {
    "warp_image": lambda image, **options: stn.warp_image(image, MATRIX, SIZE, **options),
    "perspective": lambda image, **options: stn.warp_image(
        image, [*MATRIX, [1e-3, 2e-3, 1]], SIZE, **options
    ),
    "rotate": lambda image, **options: stn.rotate(image, 33, expand=True, **options),
    "resize": lambda image, **options: stn.resize(image, (11, 40), **options),
    "crop": lambda image, **options: stn.crop_and_resize(image, (2, 1, 19, 21), (9, 8), **options),
    "crops": lambda image, **options: stn.crop_and_resize(
        image, [(2, 1, 19, 21), (-3, 0.5, 30, 9)], (9, 8), **options
    ),
    "remap": lambda image, **options: stn.remap(image, *RNG_MAPS, **options),
    "polar": lambda image, **options: stn.warp_polar(image, (20, 9), (13, 11), 9, **options),
    "unroll": lambda image, **options: stn.unwarp_polar(image, (20, 19), (9, 9), 8, **options),
    "antialiased": lambda image, **options: stn.warp_image(
        image, 3 * np.eye(3), (7, 9), antialias=True, **options
    ),
    "filtered": lambda image, **options: stn.resize(
        image, (7, 9), antialias="lanczos3", **options
    ),
}  # fmt: skip
RNG_MAPS = RNG.uniform(-2, 31, (2, 12, 13))


# Of a bicubic polar image, remap shows the same.
NAMES = [(name, mode) for name in CALLS for mode in ("bilinear", "bicubic")]
NAMES.remove(("unroll", "bicubic"))


@pytest.mark.parametrize(("name", "mode"), NAMES)
@pytest.mark.parametrize("dtype", WIDER)
def test_numbers_are_those_of_floats_rounded(dtype, name, mode):
    image = image_of(dtype, (*SIDES, 2))
    found = CALLS[name](image, mode=mode)
    floats = CALLS[name](image.astype(WIDER[dtype]), mode=mode)
    if dtype == "float16":
        expected = floats.astype(np.float16)
    else:
        expected = rounded(floats, dtype)
    assert found.dtype == image.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_are_two_channels(dtype, name):
    for channels in ((), (2,)):
        image = image_of(dtype, (*SIDES, *channels))
        found = CALLS[name](image)
        assert found.dtype == dtype
        expected = CALLS[name](image.real.copy()) + 1j * CALLS[name](image.imag.copy())
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_fills():
    image = np.zeros((4, 4), np.int64)
    away = [[1, 0, 100], [0, 1, 0]]
    for dtype, fill in (("int64", 2**63 - 1), ("uint64", 2**64 - 1), ("int16", -32768),
                        ("bool", True), ("complex64", 1 - 2j), ("float16", np.inf)):  # fmt: skip
        found = stn.warp_image(image.astype(dtype), away, fill=fill, mode="nearest")
        assert (found == np.array(fill, dtype)).all()
    for dtype, fill in (("int8", 128), ("int16", 0.5), ("bool", 2), ("uint32", -1),
                        ("int64", 2**63), ("int16", np.nan), ("float16", 1e6)):  # fmt: skip
        with pytest.raises(ValueError, match=f"fill: expected a number that {dtype} can hold"):
            stn.warp_image(image.astype(dtype), away, fill=fill, mode="nearest")
    with pytest.raises(TypeError, match="fill: expected a number"):
        stn.warp_image(image.astype(float), away, fill=1j)


def test_a_bool_is_true_where_more_than_half_of_it_is():
    image = np.array([[False, True]])
    assert stn.resize(image, (1, 6)).tolist() == [[False, False, False, True, True, True]]
    assert stn.resize(image, (1, 1)).tolist() == [[False]]  # half of it


def test_an_interpolated_int16_is_saturated():
    image = np.int16([[-32768, 32767, 32767, -32768]] * 4)
    found = stn.resize(image, (4, 33), mode="bicubic")
    assert found.max() == 32767
    assert found.min() == -32768


REFUSED = {
    "int64": (np.zeros((4, 4), np.int64), r"at most 32 bits, or mode=.nearest.* for labels, got "
              r"int64; image.astype\(np.float64\) converts it"),
    "object": (np.zeros((4, 4), object), "image: expected one of .*, got object"),
    "text": (np.zeros((4, 4), "U3"), "image: expected one of .*, got <U3"),
    "dates": (np.zeros((4, 4), "M8[s]"), r"image: expected one of .*, got datetime64\[s\]"),
    "records": (np.zeros((4, 4), "u1, f4"), r"image: expected one of .*, got \["),
    "wide": (np.zeros((4, 4), "longdouble"), r"got float\d+; image.astype\(np.float64\) converts"),
    "masked": (np.ma.zeros((4, 4)), "image: expected an array without a mask"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_messages(name):
    image, message = REFUSED[name]
    for call in CALLS.values():
        with pytest.raises(TypeError, match=message):
            call(image)
    with pytest.raises(TypeError, match=message):
        stn.rotate(np.stack([image] * 4, -1) if name != "masked" else np.ma.stack([image] * 4, -1),
                   3, alpha=True)  # fmt: skip


def test_labels_are_not_averaged():
    image = np.zeros((9, 9), np.int64)
    for call in (CALLS["antialiased"], CALLS["filtered"]):
        with pytest.raises(TypeError, match="antialias=False for labels, got int64"):
            call(image, mode="nearest")


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_alpha_of_signed_integers(dtype):
    """A plate on transparent ground keeps its colour."""
    plate = np.zeros((20, 20, 4), dtype)
    plate[5:15, 5:15] = (3000, 2000, -1000, np.iinfo(dtype).max)
    found = stn.rotate(plate, 7, alpha=True)
    visible = found[..., 3] > 0.01 * np.iinfo(dtype).max
    np.testing.assert_allclose(found[visible][:, :3], [[3000, 2000, -1000]] * visible.sum(), atol=1)


@pytest.mark.parametrize("dtype", ["int16", ">i2", "float16", "bool", "uint32"])
def test_out(dtype):
    image = image_of(np.dtype(dtype).newbyteorder("="), SIDES).astype(dtype)
    expected = stn.warp_image(image, MATRIX, SIZE)
    big = np.zeros((SIZE[0], 2 * SIZE[1]), dtype)
    for out in (np.zeros(SIZE, dtype), big[:, ::2]):
        assert stn.warp_image(image, MATRIX, SIZE, out=out) is out
        np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="out: expected shape"):
        stn.warp_image(image, MATRIX, SIZE, out=np.zeros(SIZE, np.uint8))


# --- Batches --------------------------------------------------------------------------------------

THETA = np.eye(2, 3) + RNG.normal(0, 0.1, (2, 2, 3))
GRID = RNG.uniform(-1.1, 1.1, (2, 6, 7, 2))
BATCH = {
    "affine": lambda x, **options: stn.warp_affine(x, THETA, (8, 9), **options),
    "antialias": lambda x, **options: stn.warp_affine(x, 1.9 * THETA, (4, 5), antialias=True,
                                                       **options),
    "perspective": lambda x, **options: stn.warp_perspective(
        x, np.concatenate([THETA, [[[0.1, 0.2, 1]]] * 2], 1), (8, 9), **options),
    "tps": lambda x, **options: stn.warp_tps(x, 0.9 * stn.control_points(3)[None].repeat(2, 0),
                                             (8, 9), **options),
    "grid": lambda x, **options: stn.grid_sample(x, GRID, **options),
    "points": lambda x, **options: stn.sample_points(x, GRID[:, 0], **options),
    "plan": lambda x, **options: stn.plan_warp(x, THETA, (8, 9), **options)(x, THETA),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCH)
@pytest.mark.parametrize(
    ("dtype", "layout"),
    [("bool", "NCHW"), ("int16", "NHWC"), ("int32", "NCHW"), ("complex64", "NCHW"),
     ("complex64", "NHWC")],
)  # fmt: skip
def test_batches(dtype, layout, name):
    x = image_of(dtype, (2, 3, 11, 12) if layout == "NCHW" else (2, 11, 12, 3))
    found = BATCH[name](x, layout=layout)
    assert found.dtype == dtype
    if dtype == "complex64":
        parts = (BATCH[name](part.copy(), layout=layout) for part in (x.real, x.imag))
        np.testing.assert_allclose(found, next(parts) + 1j * next(parts), rtol=1e-4, atol=1e-3)
    else:
        floats = BATCH[name](x.astype(WIDER[dtype]), layout=layout)
        if name == "antialias":  # the parts are rounded, too
            assert np.abs(found.astype(float) - floats).max() <= 1
        else:
            np.testing.assert_array_equal(found, rounded(floats, dtype))


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint64"])
def test_labels_in_batches_and_volumes(dtype):
    x = image_of(dtype, (2, 3, 11, 12))
    codes = np.arange(x.size, dtype=np.uint16).reshape(x.shape)
    for name in ("affine", "grid"):
        where = BATCH[name](codes, mode="nearest", padding_mode="border").astype(int)
        found = BATCH[name](x, mode="nearest", padding_mode="border")
        np.testing.assert_array_equal(found, x.ravel()[where])
        last = BATCH[name](
            np.moveaxis(x, 1, -1), mode="nearest", padding_mode="border", layout="NHWC"
        )
        np.testing.assert_array_equal(np.moveaxis(last, -1, 1), found)
    volume = image_of(dtype, (1, 1, 4, 5, 6))
    if dtype == "int32":
        volume.view(np.uint32)[...] |= 0x7F800001  # as a float, a signalling NaN
        volume.view(np.uint32)[...] &= 0xFFBFFFFF
    mirrored = stn.warp_affine(volume, np.diag([-1.0, 1, 1])[None] @ np.eye(3, 4), mode="nearest")
    np.testing.assert_array_equal(mirrored, volume[..., ::-1])


@pytest.mark.parametrize("dtype", ["int16", "int32", "complex128"])
def test_gradients_of_batches(dtype):
    x = image_of(dtype, (2, 3, 11, 12))
    samples = stn.warp_affine(x, THETA, (8, 9))
    wide = x if dtype == "complex128" else x.astype(WIDER[dtype])
    dsamples = image_of("complex128", samples.shape)
    dsamples = dsamples if dtype == "complex128" else dsamples.real.astype(wide.dtype)
    dimages, dtheta = stn.warp_affine_vjp(dsamples, x, THETA)
    assert dimages.dtype == wide.dtype
    if dtype == "complex128":  # of the loss Re(sum(conj(dsamples) * samples))
        parts = [
            stn.warp_affine_vjp(d.copy(), i.copy(), THETA)
            for d, i in ((dsamples.real, x.real), (dsamples.imag, x.imag))
        ]
        np.testing.assert_allclose(dimages, parts[0][0] + 1j * parts[1][0])
        np.testing.assert_allclose(dtheta, parts[0][1] + parts[1][1])
        tangents = image_of(dtype, x.shape), RNG.normal(size=THETA.shape)
        change = stn.warp_affine_jvp(x, THETA, *tangents, (8, 9))
        forward = np.sum((dsamples.conj() * change).real)
        backward = np.sum((dimages.conj() * tangents[0]).real) + np.sum(dtheta * tangents[1])
        np.testing.assert_allclose(forward, backward, rtol=1e-9)
        return
    for found, expected in zip((dimages, dtheta), stn.warp_affine_vjp(dsamples, wide, THETA),
                               strict=True):  # fmt: skip
        np.testing.assert_array_equal(found, expected)
    change = stn.warp_affine_jvp(x, THETA, None, THETA, (8, 9))
    np.testing.assert_array_equal(change, stn.warp_affine_jvp(wide, THETA, None, THETA, (8, 9)))


def test_batches_of_labels_say_what_to_write():
    message = r'images: expected integers .*mode="nearest".* for labels, got int64; images.astype\('
    for call in BATCH.values():
        with pytest.raises(TypeError, match=message):
            call(np.zeros((2, 3, 11, 12), np.int64))
    with pytest.raises(TypeError, match="antialias=False for labels"):
        BATCH["antialias"](np.zeros((2, 3, 11, 12), np.int64), mode="nearest")


# --- Registration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", ">u2", ">f4", "float16", "uint32"])
def test_registration(dtype):
    noise = 200 * RNG.random((12, 12))
    moving = stn.resize(noise, (64, 64), mode="bicubic")
    fixed = stn.rotate(moving, 5, padding_mode="border")
    moving, fixed = (np.rint(image + 100).astype(dtype) for image in (moving, fixed))
    result = stn.register(moving, fixed, "rigid")
    degrees = np.rad2deg(np.arctan2(result.matrix[0, 1], result.matrix[0, 0]))
    assert abs(degrees + 5) < 0.1
    assert result.aligned.dtype == np.dtype(dtype).newbyteorder("=")


def test_images_that_are_not_registered():
    image = RNG.random((32, 32))
    with pytest.raises(TypeError, match=r"moving: .*complex128; np.abs\(moving\) may be what you"):
        stn.register(image + 0j, image)
    message = r"fixed: .*masked array; pass fixed.filled\(0\), and mask=~np.ma.getmaskarray\(fixed"
    with pytest.raises(TypeError, match=message):
        stn.register(image, np.ma.masked_array(image))
