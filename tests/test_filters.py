"""Images that shrink without aliasing: filters for boxes, and means over areas for any map."""

import numpy as np
import pytest

import numba_stn as stn

RNG = np.random.default_rng(0)


# --- An independent oracle: a matrix for each axis ------------------------------------------------


def keys(a, x):
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def lanczos(x):
    if x == 0:
        return 1.0
    return 3 * np.sin(np.pi * x) * np.sin(np.pi * x / 3) / (np.pi * x) ** 2 if abs(x) < 3 else 0.0


FUNCTIONS = {
    "triangle": lambda x: max(0.0, 1 - abs(x)),
    "cubic": lambda x: keys(-0.5, x),
    "cubic-0.75": lambda x: keys(-0.75, x),
    "lanczos3": lanczos,
}
FILTERS = ("area", *FUNCTIONS)


def weights(name, side, size, interval=None):
    """Return the matrix (size, side) of an axis, pixel by pixel."""
    low, high = interval or (0, side)
    step = (high - low) / size
    found = np.zeros((size, side))
    for j in range(size):
        for k in range(side):
            if name == "area":
                left, right = low + j * step, low + (j + 1) * step
                found[j, k] = max(0.0, min(k + 1, right) - max(k, left))
            else:
                scale = max(step, 1)
                found[j, k] = FUNCTIONS[name]((k + 0.5 - low - (j + 0.5) * step) / scale)
    return found / found.sum(1, keepdims=True)


def resized(image, shape, name, box=None):
    x0, y0, x1, y1 = box or (0, 0, image.shape[1], image.shape[0])
    rows = weights(name, image.shape[0], shape[0], (y0, y1))
    columns = weights(name, image.shape[1], shape[1], (x0, x1))
    return np.einsum("iy,jx,yx...->ij...", rows, columns, image.astype(float))


def random_case(most=60):
    height, width, rows, columns = (int(side) for side in RNG.integers(1, most, 4))
    channels = RNG.choice([0, 1, 2, 3, 4, 7])
    return (height, width, *([channels] if channels else [])), (rows, columns)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16"])
@pytest.mark.parametrize("name", FILTERS)
def test_resize_is_a_product_of_matrices(name, dtype):
    cases = [random_case() for _ in range(12)]
    cases += [((1, 1), (5, 7)), ((9, 1, 3), (1, 1)), ((1, 70), (1, 9)), ((40, 33, 2), (40, 33)),
              ((200, 3), (2, 3)), ((24, 46, 3), (12, 23)), ((17, 300), (17, 299))]  # fmt: skip
    for shape, size in cases:
        if dtype[0] == "f":
            image, tolerance = RNG.normal(size=shape).astype(dtype), {"float32": 3e-6}
        else:
            image, tolerance = RNG.integers(0, np.iinfo(dtype).max, shape, dtype), {}
        found = stn.resize(image, size, antialias=name)
        expected = resized(image, size, name)
        assert found.dtype == dtype
        assert found.shape == expected.shape
        if dtype[0] == "u":
            expected = np.clip(expected, 0, np.iinfo(dtype).max)
        limit = 0.51 if dtype[0] == "u" else tolerance.get(dtype, 1e-12)
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit * (1 + (dtype[0] == "f")))


@pytest.mark.parametrize("name", FILTERS)
def test_crops_by_filters(name):
    image = RNG.random((31, 40, 3))
    boxes = [(3.25, 2, 30.5, 29), (0, 0, 40, 31), (10, 10, 11, 10.5), (-4, -3, 20, 50)]
    found, matrices = stn.crop_and_resize(image, boxes, (7, 9), antialias=name, return_matrix=True)
    for crop, matrix, box in zip(found, matrices, boxes, strict=True):
        single, own = stn.crop_and_resize(image, box, (7, 9), antialias=name, return_matrix=True)
        np.testing.assert_array_equal(single, crop)
        np.testing.assert_allclose(own, matrix)
        if box[0] >= 0:
            np.testing.assert_allclose(crop, resized(image, (7, 9), name, box), atol=1e-13)
    whole = stn.resize(image, (7, 9), antialias=name)
    np.testing.assert_array_equal(found[1], whole)
    away = stn.crop_and_resize(image, (100, -300, 190, -200), (2, 3), antialias=name)
    np.testing.assert_allclose(away, np.broadcast_to(image[0, -1], (2, 3, 3)), atol=0.5)


def test_the_same_bits_on_any_number_of_threads():
    import numba

    image = RNG.random((300, 500, 3), np.float32)
    expected = stn.resize(image, (130, 170), antialias="lanczos3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)
        serial = stn.resize(image, (130, 170), antialias="lanczos3")
    np.testing.assert_array_equal(serial, expected)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = stn.resize(image, (130, 170), antialias="lanczos3")
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(alone, expected)


def test_what_is_not_read_need_not_be_finite():
    image = np.ones((8, 8))
    image[:, 4:] = np.nan
    for name in FILTERS:
        assert np.isfinite(stn.crop_and_resize(image, (0, 0, 1, 8), (4, 1), antialias=name)).all()
    same = RNG.normal(size=(6, 5))
    same[2, 3] = np.inf
    for name in FILTERS:
        np.testing.assert_array_equal(stn.resize(same, (6, 5), antialias=name), same)


# --- Other libraries ------------------------------------------------------------------------------

PILLOW = {"triangle": "BILINEAR", "cubic": "BICUBIC", "lanczos3": "LANCZOS"}


@pytest.mark.parametrize("name", PILLOW)
def test_pillow(name):
    """Of numbers whose sums along one axis stay between 0 and 255: Pillow saturates these."""
    image_module = pytest.importorskip("PIL.Image")
    kind = getattr(image_module.Resampling, PILLOW[name])
    for _ in range(15):
        shape, (rows, columns) = random_case(90)
        image = RNG.integers(90, 166, shape[:2], np.uint8)
        expected = np.asarray(image_module.fromarray(image).resize((columns, rows), kind))
        found = stn.resize(image, (rows, columns), antialias=name)
        assert np.abs(found.astype(int) - expected).max() <= 1
        real = image.astype(np.float32)
        expected = np.asarray(image_module.fromarray(real).resize((columns, rows), kind))
        found = stn.resize(real, (rows, columns), antialias=name)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_pytorch(mode):
    torch = pytest.importorskip("torch")
    for _ in range(15):
        shape, size = random_case(90)
        image = RNG.random((*shape[:2], 3), np.float32)
        batch = torch.from_numpy(image).permute(2, 0, 1)[None]
        expected = torch.nn.functional.interpolate(batch, size, mode=mode, antialias=True)
        found = stn.resize(image, size, mode=mode, antialias=True)
        np.testing.assert_allclose(found, expected[0].permute(1, 2, 0), atol=1e-5)


def test_opencv():
    cv2 = pytest.importorskip("cv2")
    for _ in range(15):
        (height, width, *_), _ = random_case(90)
        rows, columns = (int(RNG.integers(1, side + 1)) for side in (height, width))
        for image in (RNG.random((height, width, 3), np.float32),
                      RNG.integers(0, 256, (height, width), np.uint8)):  # fmt: skip
            expected = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
            found = stn.resize(image, (rows, columns), antialias="area")
            limit = 1e-5 if image.dtype == np.float32 else 1
            difference = found.astype(float) - expected.reshape(found.shape)
            assert np.abs(difference).max() <= limit


# --- Any map --------------------------------------------------------------------------------------


def zone_plate(side=400):
    """All frequencies, from 0 in the middle to that of the pixels at the middles of the edges."""
    y, x = np.mgrid[:side, :side] - side / 2
    return np.rint(127.5 + 127.5 * np.cos(np.pi * (x * x + y * y) / side)).astype(np.uint8)


def test_a_zone_plate():
    """Where its waves are shorter than two output pixels, nothing but grey may remain."""
    plate, small = zone_plate(), (80, 80)
    mean = plate.reshape(80, 5, 80, 5).mean((1, 3))
    scaled = [[5, 0, 2], [0, 5, 2]]
    y, x = np.mgrid[:80, :80] - 39.5
    fine = (np.hypot(x, y) > 16) & (np.abs(x) < 32) & (np.abs(y) < 32)
    calls = {
        "plain": stn.resize(plate, small),
        "area": stn.resize(plate, small, antialias="area"),
        "triangle": stn.resize(plate, small, antialias=True),
        "cubic": stn.resize(plate, small, mode="bicubic", antialias=True),
        "lanczos3": stn.resize(plate, small, antialias="lanczos3"),
        "warp": stn.warp_image(plate, scaled, small, padding_mode="border", antialias=True),
        "rotate": stn.rotate(plate, 0, zoom=0.2, expand=True, padding_mode="border",
                             antialias=True),
        "turned": stn.rotate(plate, 30, zoom=0.2, padding_mode="border",
                             antialias=True)[160:240, 160:240],
    }  # fmt: skip
    contrast = {name: np.std(image[fine].astype(float)) for name, image in calls.items()}
    assert contrast["plain"] > 60
    assert contrast["triangle"] < 8
    assert contrast["cubic"] < 5
    assert contrast["lanczos3"] < 5
    assert contrast["turned"] < 20
    for name in ("area", "warp", "rotate"):
        assert np.abs(calls[name] - mean).max() <= 0.5


def test_means_are_those_of_batches():
    image = RNG.random((60, 70, 2), np.float32)
    matrix = np.array([[3.1, -0.9, 4], [1.2, 2.2, 3]])
    tilt = np.array([*matrix, [0.004, 0.002, 1]])
    for given, warp in ((matrix, stn.warp_affine), (tilt, stn.warp_perspective)):
        theta = stn.matrices.to_theta(given, (17, 19), (60, 70))[None]
        expected = warp(image[None], theta, (17, 19), layout="NHWC", antialias=True)[0]
        found = stn.warp_image(image, given, (17, 19), antialias=True)
        np.testing.assert_allclose(found, expected, atol=2e-3 if given is tilt else 1e-5)


def test_maps_that_enlarge_are_not_changed():
    image = RNG.integers(0, 256, (20, 20, 3), np.uint8)
    matrix = [[0.7, 0.1, 2], [-0.1, 0.6, 3]]
    expected = stn.warp_image(image, matrix)
    np.testing.assert_array_equal(stn.warp_image(image, matrix, antialias=True), expected)
    np.testing.assert_array_equal(stn.warp_image(image, np.eye(3), antialias=True), image)


@pytest.mark.parametrize("zoom", [0.05, 0.02, 0.004])
def test_means_over_more_pixels_than_parts(zoom):
    """A pattern of single pixels stays grey, however much the image shrinks."""
    board = (np.indices((500, 500)).sum(0) % 2 * 255).astype(np.uint8)
    board[1::4] = board[:-1:4]  # and one of pairs of rows
    found = stn.rotate(board, 17, zoom=zoom, expand=True, antialias=True, padding_mode="border")
    middle = found[len(found) // 4 : -(len(found) // 4) or None]
    assert np.abs(middle.astype(float) - board.mean()).max() <= 6


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", ">u2", ">f4", "float64"])
def test_any_memory(dtype):
    image = RNG.integers(0, 256, (21, 34, 3)).astype(dtype)
    wide = np.zeros((21, 68, 3), dtype)
    wide[:, ::2] = image
    locked = image.copy()
    locked.flags.writeable = False
    for call in (
        lambda x, **o: stn.resize(x, (5, 6), antialias="cubic", **o),
        lambda x, **o: stn.warp_image(x, 4 * np.eye(3), (5, 6), antialias=True, **o),
    ):
        expected = call(np.ascontiguousarray(image, np.dtype(dtype).newbyteorder("=")))
        for each in (image, np.asfortranarray(image), wide[:, ::2], image[::-1][::-1], locked):
            np.testing.assert_array_equal(call(each), expected)
        out = np.zeros((5, 12, 3), dtype)[:, ::2]
        assert call(image, out=out) is out
        np.testing.assert_array_equal(out, expected)
        with pytest.raises(ValueError, match="out: expected shape"):
            call(image, out=np.zeros((5, 6), np.float32))
        assert call(image[..., :0]).shape == (5, 6, 0)
        with pytest.raises(ValueError, match="image: expected sides of at least one pixel"):
            call(image[:0])


def test_alpha_and_matrix():
    """Transparent pixels do not darken visible ones."""
    plate = np.zeros((40, 40, 4), np.uint8)
    plate[7:31, 9:30] = (200, 150, 100, 255)
    found, matrix = stn.resize(plate, (9, 9), alpha=True, antialias="area", return_matrix=True)
    visible = found[..., 3] > 30
    assert np.abs(found[visible][:, :3] - np.array([200.0, 150, 100])).max() <= 1
    np.testing.assert_allclose(matrix[0, 0], 9 / 40)
    found = stn.rotate(plate, 20, zoom=0.3, alpha=True, antialias=True)
    visible = found[..., 3] > 30
    assert np.abs(found[visible][:, :3] - np.array([200.0, 150, 100])).max() <= 1


WRONG = {
    "antialias: expected True, False or one of": {"antialias": "box"},
    r"antialias: expected True, False .*, got 1$": {"antialias": 1},
    "antialias: expected True, False .*, got None": {"antialias": None},
    'padding_mode: expected "border" with antialias': {"antialias": True, "padding_mode": "zeros"},
    "mode: expected one of": {"antialias": True, "mode": "best"},
    "fill: expected a number": {"antialias": True, "fill": "red"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message):
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises((ValueError, TypeError), match=message):
        stn.resize(image, (3, 3), **WRONG[message])
    plain = stn.resize(image, (3, 3), padding_mode="zeros", antialias=np.bool_(False))
    np.testing.assert_array_equal(plain, stn.resize(image, (3, 3), padding_mode="zeros"))
    with pytest.raises((ValueError, TypeError), match=message):
        stn.crop_and_resize(image, [(0, 0, 8, 8)], (3, 3), **WRONG[message])
    for call in (stn.warp_image, stn.rotate):
        with pytest.raises(TypeError, match="antialias: expected True or False, got 'area'"):
            call(image, np.eye(3) if call is stn.warp_image else 3.0, antialias="area")


def test_huge_factors():
    image = RNG.random((3000, 2, 3), np.float32)
    for name in FILTERS:
        found = stn.resize(image, (1, 2), antialias=name)
        np.testing.assert_allclose(found[0], resized(image, (1, 2), name)[0], atol=1e-5)
        wide = stn.resize(image[:2], (2, 5000), antialias=name)
        assert np.isfinite(wide).all()
    found = stn.crop_and_resize(image, (-1e300, -1e9, 1e300, 1e9), (2, 3), antialias=True)
    assert np.isfinite(found).all()
    found = stn.warp_image(image, 1e6 * np.eye(3), (2, 2), antialias=True)
    assert np.isfinite(found).all()
