"""rotate, resize and crop_and_resize against a float64 oracle, and their exact properties."""

import math

import numpy as np
import plain_images as plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numba_stn as stn

DTYPES = ["uint8", "uint16", "float32", "float64"]
PADDINGS = ["zeros", "border", "reflection"]
CHANNELS = [(), (1,), (3,), (6,)]


def picture(shape, dtype="float32", seed=0):
    """Noise over the dtype's whole range, or around zero."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "u":
        return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def check(got, image, positions, padding="zeros", fill=0):
    """Compare a result with the oracle's at these positions, up to rounding of the coordinates."""
    want = plain.bilinear(image, *positions, padding, fill)
    assert got.dtype == image.dtype
    scale = max(np.abs(image.astype(float)).max(), np.abs(fill).max())
    slack = scale * (1e-12 if image.dtype == np.float64 else 2e-5)
    atol = slack + (0.5 if image.dtype.kind == "u" else 0)
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


# --- rotate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_rotate_against_the_oracle(dtype, channels):
    image = picture((37, 53, *channels), dtype)
    for degrees, center, zoom in ((30, None, 1), (-100.5, (3, 30.25), 1.7), (725, (-9, 4), 0.6)):
        for padding in PADDINGS:
            fill = 7 if padding == "zeros" else 0
            options = {"center": center, "zoom": zoom, "padding_mode": padding, "fill": fill}
            positions = plain.rotated_positions((37, 53), degrees, center, zoom)
            check(stn.rotate(image, degrees, **options), image, positions, padding, fill)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(-400, 400), st.floats(0.2, 3))
def test_an_expanded_canvas_is_the_smallest_that_holds_the_image(height, width, degrees, zoom):
    image = picture((height, width), "float64")
    found = stn.rotate(image, degrees, zoom=zoom, expand=True, fill=np.nan)
    corners = np.array([width + 1j * height, width - 1j * height]) * zoom
    corners *= np.exp(-1j * np.deg2rad(degrees))
    for side, extent in zip(found.shape, (corners.imag, corners.real), strict=True):
        assert side - 1 < np.abs(extent).max() + 1e-5 or side == 1
        assert np.abs(extent).max() <= side + 1e-5
    positions = plain.rotated_positions(image.shape, degrees, None, zoom, found.shape)
    inside = plain.is_inside(positions, image.shape, 1e-6)
    np.testing.assert_allclose(found[inside], plain.bilinear(image, *positions)[inside], atol=1e-11)
    beyond = ~plain.is_inside(positions, image.shape, -1 - 1e-6)
    assert np.isnan(found[beyond]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sides", [(1, 1), (1, 2), (2, 7), (16, 16), (33, 33), (40, 37), (37, 64)])
@pytest.mark.parametrize("padding", PADDINGS)
def test_multiples_of_90_degrees_are_exact(dtype, sides, padding):
    for channels in ((), (3,)):
        image = picture((*sides, *channels), dtype)
        for k in range(-5, 6):
            want = np.rot90(image, k)
            got = stn.rotate(image, 90 * k, expand=True, padding_mode=padding)
            np.testing.assert_array_equal(got, want)
            if k % 2 == 0 or sides[0] == sides[1]:
                got = stn.rotate(image, 90.0 * k, padding_mode=padding)
                np.testing.assert_array_equal(got, want)


def test_a_positive_angle_brings_the_right_edge_up():
    image = np.zeros((21, 21), np.float32)
    image[10, 20] = 1
    for degrees in (10, 45, 80, 90):
        row, column = np.unravel_index(stn.rotate(image, degrees).argmax(), image.shape)
        angle = math.radians(degrees)
        assert abs(row - (10 - 10 * math.sin(angle))) < 1
        assert abs(column - (10 + 10 * math.cos(angle))) < 1


def test_the_center_stays_and_the_zoom_enlarges():
    image = picture((30, 40), "float64")
    for center in ((0, 0), (39, 29), (12, 7)):
        found = stn.rotate(image, 77.7, center=center, zoom=1.3)
        assert abs(found[center[::-1]] - image[center[::-1]]) < 1e-12
    found = stn.rotate(image, 0, center=(0, 0), zoom=2)
    np.testing.assert_array_equal(found[::2, ::2], image[:15, :20])
    assert stn.rotate(image, 0, zoom=2, expand=True).shape == (60, 80)
    assert stn.rotate(image, 0, zoom=0.01, expand=True).shape == (1, 1)
    large = stn.rotate(np.zeros((50, 90)), 0, zoom=1.1, expand=True)
    assert large.shape == (55, 99)  # 1.1 * 50 is a little above 55
    assert stn.rotate(image, 60, expand=True, zoom=2).shape == (
        math.ceil(60 * 0.5 + 80 * 3**0.5 / 2), math.ceil(60 * 3**0.5 / 2 + 80 * 0.5)
    )  # fmt: skip


# --- resize ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_resize_against_the_oracle(dtype, channels):
    image = picture((37, 53, *channels), dtype)
    for shape in ((1, 1), (13, 90), (100, 17), (74, 106), (38, 54)):
        positions = plain.cropped_positions((0, 0, 53, 37), shape)
        for padding in PADDINGS:
            check(stn.resize(image, shape, padding_mode=padding), image, positions, padding)
        check(stn.resize(image, shape), image, positions, "border")


@pytest.mark.parametrize("dtype", DTYPES)
def test_resize_to_the_same_shape_returns_the_image(dtype):
    for shape in ((1, 1), (3, 50), (64, 64, 3), (17, 33, 5)):
        image = picture(shape, dtype)
        np.testing.assert_array_equal(stn.resize(image, shape[:2]), image)


def test_resize_keeps_linear_images():
    """A ramp stays a ramp between the centres of the border pixels."""
    ramp = np.tile(np.arange(50.0) + 0.5, (4, 1))
    found = stn.resize(ramp, (4, 200)) / 50
    np.testing.assert_allclose(found[:, 2:-2], np.tile((np.arange(2, 198) + 0.5) / 200, (4, 1)))
    pairs = ramp.reshape(4, 25, 2).mean(-1)
    np.testing.assert_allclose(stn.resize(ramp, (4, 25)), pairs, atol=1e-12)


# --- crop_and_resize ------------------------------------------------------------------------------

BOXES = [
    (0, 0, 53, 37), (10.5, 3.25, 30, 29.75), (-8, -3.5, 20, 60), (50, 30, 50.5, 31), (70, 2, 80, 9)
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_crops_against_the_oracle(dtype, channels):
    image = picture((37, 53, *channels), dtype)
    for padding in PADDINGS:
        fill = 5 if padding == "zeros" else 0
        options = {"padding_mode": padding, "fill": fill}
        found = stn.crop_and_resize(image, BOXES, (21, 34), **options)
        assert found.shape == (len(BOXES), 21, 34, *channels)
        for box, crop in zip(BOXES, found, strict=True):
            check(crop, image, plain.cropped_positions(box, (21, 34)), padding, fill)
            alone = stn.crop_and_resize(image, box, (21, 34), **options)
            np.testing.assert_array_equal(alone, crop)
    by_default = stn.crop_and_resize(image, BOXES, (21, 34))
    np.testing.assert_array_equal(
        by_default, stn.crop_and_resize(image, BOXES, (21, 34), padding_mode="border")
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_crop_between_pixels_is_a_slice(dtype):
    image = picture((37, 53, 3), dtype)
    boxes = [(0, 0, 20, 9), (33, 28, 53, 37), (7, 11, 27, 20)]
    for padding in PADDINGS:
        found = stn.crop_and_resize(image, boxes, (9, 20), padding_mode=padding)
        for (x0, y0, x1, y1), crop in zip(boxes, found, strict=True):
            np.testing.assert_array_equal(crop, image[y0:y1, x0:x1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_crop_of_the_whole_image_is_its_resize(dtype):
    image = picture((37, 53), dtype)
    for shape in ((37, 53), (10, 100), (80, 31)):
        whole = stn.crop_and_resize(image, (0, 0, 53, 37), shape)
        np.testing.assert_array_equal(whole, stn.resize(image, shape))


def test_a_crop_samples_beyond_its_box():
    image = np.float32([[0, 0, 8, 8]])
    np.testing.assert_array_equal(stn.crop_and_resize(image, (0, 0, 2, 1), (1, 4)), [[0, 0, 0, 2]])


def test_no_boxes():
    image = picture((5, 6, 3), "uint8")
    assert stn.crop_and_resize(image, np.zeros((0, 4)), (2, 3)).shape == (0, 2, 3, 3)


def test_all_boxes_take_one_launch_and_one_image(monkeypatch):
    """No box copies the image; a strided one is copied once."""
    from numba_stn.kernels import cpu_launch
    from numba_stn.kernels.cpu import backend

    images, launches, warp, run = [], [], backend.warp_crops, cpu_launch.run

    def spy(kind, image, *args):
        images.append(image)
        warp(kind, image, *args)

    monkeypatch.setattr(backend, "warp_crops", spy)
    monkeypatch.setattr(cpu_launch, "run", lambda *args: launches.append(1) or run(*args))
    image = picture((20, 30, 3), "uint8")
    stn.crop_and_resize(image, [(0, 0, 4, 4)] * 3, (2, 2))
    assert np.shares_memory(images[0], image)
    stn.crop_and_resize(image[::2, ::3], [(0, 0, 4, 4)] * 3, (2, 2))
    assert images[1].flags.c_contiguous
    assert len(images) == len(launches) == 2


# --- All functions --------------------------------------------------------------------------------

CALLS = {
    "rotate": lambda image, **options: stn.rotate(image, 30, **options),
    "expanded": lambda image, **options: stn.rotate(image, 30, expand=True, **options),
    "resize": lambda image, **options: stn.resize(image, (7, 9), **options),
    "crop": lambda image, **options: stn.crop_and_resize(image, (1, 1, 3.5, 4), (7, 9), **options),
    "crops": lambda image, **options: stn.crop_and_resize(image, BOXES, (7, 9), **options),
}


@pytest.mark.parametrize("call", CALLS)
def test_layouts_and_out(call):
    run = CALLS[call]
    image = picture((20, 30, 3), "uint8")
    want = run(image)
    np.testing.assert_array_equal(run(np.asfortranarray(image)), want)
    np.testing.assert_array_equal(run(image.repeat(2, axis=1)[:, ::2]), want)
    out = np.empty_like(want)
    assert run(image, out=out) is out
    np.testing.assert_array_equal(out, want)
    wide = np.zeros((*want.shape, 2), np.uint8)
    assert run(image, out=wide[..., 1]).base is wide
    np.testing.assert_array_equal(wide[..., 1], want)
    assert not wide[..., 0].any()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("mode: expected", {"mode": "sharp"}),
        ("padding_mode: expected", {"padding_mode": "edge"}),
        ("fill: expected a number that uint8 can hold", {"fill": -1}),
        ("out: expected shape", {"out": np.zeros((2, 2), np.uint8)}),
        ("out: expected a NumPy array", {"out": [1]}),
        ("stream: expected None", {"stream": 7}),
    ],
)
def test_wrong_options_are_named(call, message, options):
    with pytest.raises((ValueError, TypeError), match=message):
        CALLS[call](picture((4, 5, 3), "uint8"), **options)


@pytest.mark.parametrize("call", CALLS)
def test_wrong_images_are_named(call):
    for message, image in {
        "image: expected .*, got int64": [[1]],
        "image: expected integers of at most 32 bits": np.zeros((2, 2), int),
        r"image: expected shape \(H, W\)": np.zeros((2, 2, 2, 2)),
        "image: expected sides": np.zeros((0, 2)),
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            CALLS[call](image)


IMAGE = np.zeros((4, 5, 3), np.uint8)
WRONG = {
    "degrees: expected a finite number, got nan": lambda: stn.rotate(IMAGE, math.nan),
    "degrees: expected a finite number, got 'half": lambda: stn.rotate(IMAGE, "half a circle"),
    r"degrees: expected a finite number, got shape \(2,\)": lambda: stn.rotate(IMAGE, (1, 2)),
    "zoom: expected a positive, finite number, got 0": lambda: stn.rotate(IMAGE, 1, zoom=0),
    "zoom: expected a positive, finite number, got inf": lambda: stn.rotate(IMAGE, 1, zoom=np.inf),
    "zoom: expected a canvas": lambda: stn.rotate(IMAGE, 1, zoom=1e10, expand=True),
    "center: expected two finite numbers": lambda: stn.rotate(IMAGE, 1, center=3),
    "center: expected None with": lambda: stn.rotate(IMAGE, 1, center=(1, 1), expand=True),
    "expand: expected True or False, got 1": lambda: stn.rotate(IMAGE, 1, expand=1),
    r"shape: expected two positive integers \(H_out, W_out\), got 7": lambda: stn.resize(IMAGE, 7),
    "shape: expected two positive integers .* got None": lambda: stn.resize(IMAGE, None),
    r"shape: expected .* got \(0, 2\)": lambda: stn.resize(IMAGE, (0, 2)),
    "shape: expected": lambda: stn.crop_and_resize(IMAGE, (0, 0, 1, 1), (2, 2, 3)),
    "boxes: expected .* got shape": lambda: stn.crop_and_resize(IMAGE, (0, 0, 1), (2, 2)),
    "boxes: expected finite .* nan": lambda: stn.crop_and_resize(
        IMAGE, (0, 0, 1, math.nan), (2, 2)
    ),
    r"boxes: expected x0 < x1 and y0 < y1, .* \[0.0, 3.0, 1.0, 2.0\]": lambda: stn.crop_and_resize(
        IMAGE, [(0, 0, 1, 1), (0, 3, 1, 2)], (2, 2)
    ),
    "boxes: expected x0 < x1": lambda: stn.crop_and_resize(IMAGE, (2, 0, 2, 1), (2, 2)),
    "boxes: expected finite numbers": lambda: stn.crop_and_resize(IMAGE, "all", (2, 2)),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        WRONG[message]()
