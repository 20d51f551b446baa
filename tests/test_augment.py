"""Random augmentation: the maps that are drawn, and the warp of the batch."""

import numba
import numpy as np
import pytest

import numba_stn as stn

OPTIONS = {"rotate": 20, "scale": 0.3, "translate": 0.2, "shear": 10, "flip": True}


def batch(dtype=np.uint8, sides=(24, 36)):
    rng = np.random.default_rng(1)
    return (rng.random((50, 3, *sides)) * (255 if dtype == np.uint8 else 1)).astype(dtype)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_batch_is_warped_by_the_maps(dtype, layout):
    images = batch(dtype)
    if layout == "NHWC":
        images = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    found, maps = stn.augment(images, np.random.default_rng(0), layout=layout, **OPTIONS)
    expected = stn.warp_affine(images, maps.theta, padding_mode="border", layout=layout)
    rounding = 1 if dtype == np.uint8 else 1e-5
    np.testing.assert_allclose(found, expected.astype(float), atol=rounding)
    assert (found == expected).mean() > 0.99 or dtype != np.uint8
    assert found.dtype == dtype
    assert maps.theta.shape == (50, 2, 3)
    assert len(np.unique(maps.theta.reshape(50, -1), axis=0)) == 50


def test_the_same_bits_on_any_number_of_threads():
    images = batch(np.float32)
    as_bytes = np.random.default_rng(2).integers(0, 256, (40, 90, 80, 3), np.uint8)
    for given, layout in ((images, "NCHW"), (as_bytes, "NHWC")):
        for more in ({}, {"perspective": 0.1}, {"elastic": 0.05}):
            found = []
            for count in (1, numba.config.NUMBA_NUM_THREADS):
                numba.set_num_threads(count)
                options = OPTIONS | more | {"layout": layout}
                augmented, maps = stn.augment(given, np.random.default_rng(7), **options)
                found.append((augmented.tobytes(), maps.theta.tobytes()))
            assert found[0] == found[1]


def pixel_maps(theta, sides):
    """The maps in pixels from the image's centre: linear parts (N, 2, 2) and shifts (N, 2)."""
    half = np.array([sides[1] / 2, sides[0] / 2])
    linear = theta[:, :, :2] * half[:, None] / half
    return linear, theta[:, :, 2] * half


@pytest.mark.parametrize("sides", [(24, 24), (24, 48)])
def test_each_distortion_is_within_its_range_and_reaches_it(sides):
    images = np.zeros((2000, 1, *sides), np.uint8)

    def maps(**options):
        maps = stn.augment(images, np.random.default_rng(3), **options)[1]
        return pixel_maps(maps.theta, sides)

    linear, shift = maps(rotate=30)
    eye = np.broadcast_to(np.eye(2), linear.shape)
    np.testing.assert_allclose(linear @ linear.swapaxes(1, 2), eye, atol=1e-12)
    angles = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert -30 <= angles.min() < -29
    assert 29 < angles.max() <= 30
    assert not shift.any()
    linear, _ = maps(scale=0.25)
    zooms = 1 / linear[:, 0, 0]
    assert 0.8 <= zooms.min() < 0.81
    assert 1.24 < zooms.max() <= 1.25
    assert abs((zooms > 1).mean() - 0.5) < 0.05
    linear, shift = maps(translate=0.1)
    np.testing.assert_allclose(linear, eye, atol=1e-12)
    for axis, side in ((0, sides[1]), (1, sides[0])):
        assert 0.095 * side < np.abs(shift[:, axis]).max() <= 0.1 * side + 1e-9
    linear, _ = maps(shear=10)
    slopes = np.degrees(np.arctan(linear[:, 0, 1]))
    np.testing.assert_allclose(linear[:, 1], np.broadcast_to([0, 1], (2000, 2)), atol=1e-12)
    assert 9.5 < np.abs(slopes).max() <= 10
    linear, _ = maps(flip=True)
    assert set(np.round(linear[:, 0, 0]).tolist()) == {-1, 1}
    assert abs((linear[:, 0, 0] < 0).mean() - 0.5) < 0.05


def test_without_options_nothing_changes():
    for layout in ("NCHW", "NHWC"):
        for dtype in (np.uint8, np.float32):
            images = batch(dtype, (23, 49))
            images = np.ascontiguousarray(images) if layout == "NCHW" else images[:, 0, :, :, None]
            found, maps = stn.augment(images, np.random.default_rng(0), layout=layout)
            np.testing.assert_array_equal(found, images)
            eye = np.broadcast_to(np.eye(2, 3), maps.theta.shape)
            np.testing.assert_array_equal(maps.theta, eye)
            np.testing.assert_array_equal(maps.matrices, eye)
    images = batch()
    assert stn.augment(images[:0], np.random.default_rng(0), **OPTIONS)[0].shape == (0, 3, 24, 36)


def test_a_shift_moves_a_spot_as_the_map_says():
    images = np.zeros((1, 1, 41, 61), np.float32)
    images[0, 0, 20, 30] = 1
    found, maps = stn.augment(images, np.random.default_rng(5), translate=0.2)
    rows, columns = np.indices((41, 61))
    total = found[0, 0].sum()
    at = np.array([(found[0, 0] * columns).sum(), (found[0, 0] * rows).sum()]) / total
    expected = np.array([30, 20]) - maps.theta[0, :, 2] * np.array([61, 41]) / 2
    np.testing.assert_allclose(at, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rng": 0}, "rng: expected a numpy.random.Generator"),
        ({"images": np.zeros((2, 3, 4))}, r"images: expected shape \(N, C, H, W\), got \(2, "),
        ({"images": [[1, [2]]]}, "images: expected an array"),
        ({"rotate": -1}, "rotate: expected a finite number from 0 to 360.0, got -1"),
        ({"rotate": "10"}, "rotate: expected a finite number"),
        ({"scale": np.nan}, "scale: expected a finite number"),
        ({"translate": True}, "translate: expected a finite number"),
        ({"shear": 90}, "shear: expected a finite number from 0 to 80.0, got 90"),
        ({"flip": 1}, "flip: expected true or false, got 1"),
        ({"perspective": 0.3}, "perspective: expected a finite number from 0 to 0.2, got 0.3"),
        ({"elastic": -0.1}, "elastic: expected a finite number from 0 to 0.1, got -0.1"),
        ({"fill": (1, 2)}, "fill: expected 1 or 3 numbers"),
        ({"layout": "CHW"}, "layout: expected one of"),
        ({"mode": "cubic"}, "mode: expected"),
    ],
)  # fmt: skip
def test_bad_arguments(change, message):
    given = {"images": batch(), "rng": np.random.default_rng(0)} | change
    images, rng = given.pop("images"), given.pop("rng")
    with pytest.raises((ValueError, TypeError), match=message):
        stn.augment(images, rng, **given)


# --- What goes along ------------------------------------------------------------------------------

KINDS = {
    "affine": OPTIONS,
    "perspective": OPTIONS | {"perspective": 0.2},
    "elastic": OPTIONS | {"elastic": 0.1},
    "all": OPTIONS | {"perspective": 0.1, "elastic": 0.06},
}
SIDES = (61, 83)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_point_is_where_the_image_shows_it(kind, layout):
    """A small bright spot is drawn at each point, and found again in the augmented image."""
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(15, side - 16, (60, 1)) for side in SIDES[::-1]], -1)
    rows, columns = np.indices(SIDES)
    away = (columns - points[..., :1]) ** 2 + (rows - points[..., 1:]) ** 2
    images = np.exp(-away / 8).reshape(60, 1, *SIDES)
    images = images if layout == "NCHW" else np.moveaxis(images, 1, -1)
    found, maps = stn.augment(images, np.random.default_rng(1), layout=layout,
                              padding_mode="zeros", **KINDS[kind])  # fmt: skip
    found = found.reshape(60, *SIDES) ** 2
    total = found.sum((1, 2))
    at = np.stack([(found * columns).sum((1, 2)), (found * rows).sum((1, 2))], -1) / total[:, None]
    moved = maps.transform_points(points)[:, 0]
    inside = ((moved > 8) & (moved < np.array(SIDES[::-1]) - 9)).all(1)
    assert inside.sum() > 35
    np.testing.assert_allclose(at[inside], moved[inside], atol=0.35)
    assert np.abs(at - moved)[inside].mean() < 0.1
    some = maps.transform_points([own[: n % 2] for n, own in enumerate(points)])
    assert [len(own) for own in some] == [n % 2 for n in range(60)]
    np.testing.assert_array_equal(some[1], moved[1:2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_holds_what_it_held(kind):
    """The pixels of a filled box are found again; the new box is the smallest that holds them."""
    rng = np.random.default_rng(0)
    x0, y0 = rng.integers(5, 40, 50), rng.integers(5, 30, 50)
    x1, y1 = x0 + rng.integers(10, 35, 50), y0 + rng.integers(10, 25, 50)
    labels = np.zeros((50, *SIDES), np.int64)
    for image, a, b, c, d in zip(labels, x0, y0, x1, y1, strict=True):
        image[b:d, a:c] = 1
    images = np.zeros((50, *SIDES, 3), np.uint8)
    _, maps = stn.augment(images, np.random.default_rng(2), layout="NHWC", **KINDS[kind])
    warped = maps.warp(labels, mode="nearest", padding_mode="zeros")
    boxes = np.stack([x0, y0, x1, y1], 1)[:, None]
    found, kept = maps.transform_boxes(boxes)
    assert found.shape == (50, 1, 4)
    whole_boxes = 0
    for image, (box,), (is_kept,) in zip(warped, found, kept, strict=True):
        across, down = (np.flatnonzero(image.any(axis)) for axis in (0, 1))
        if not len(across):
            continue
        assert is_kept
        seen = [across[0], down[0], across[-1] + 1, down[-1] + 1]
        assert (box[:2] <= np.array(seen[:2]) + 1.6).all()
        assert (box[2:] >= np.array(seen[2:]) - 1.6).all()
        if (box[:2] > 0).all() and (box[2:] < SIDES[::-1]).all():  # nothing is cut off
            np.testing.assert_allclose(box, seen, atol=1.6)
            whole_boxes += 1
    assert whole_boxes > 10
    lists, _ = maps.transform_boxes([own[:0] for own in boxes])
    assert [own.shape for own in lists] == [(0, 4)] * 50
    _, whole = maps.transform_boxes(boxes, min_visible=0.999)
    assert 0 < whole.sum() < kept.sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int16, np.int64, np.float16, np.complex64])
def test_labels_are_those_of_the_nearest_pixels(kind, dtype):
    """Every pixel has the number that uint8 labels get, whatever the dtype and the layout."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2 if dtype is bool else 100, (4, 1, *SIDES)).astype(np.uint8)
    _, maps = stn.augment(labels, np.random.default_rng(3), **KINDS[kind])
    options = {"mode": "nearest", "padding_mode": "zeros", "fill": 1}
    expected = maps.warp(labels, **options)
    for given in (labels, labels[:, 0]):
        found = maps.warp(given.astype(dtype), **options)
        assert (found.dtype, found.shape) == (dtype, given.shape)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected.astype(dtype))
    large = labels.astype(np.int64) + 2**60
    found = maps.warp(large, mode="nearest")
    np.testing.assert_array_equal(found - 2**60, maps.warp(labels, mode="nearest"))


def test_a_perspective_moves_corners_by_up_to_its_share():
    images = np.zeros((500, 1, 20, 30), np.uint8)
    _, maps = stn.augment(images, np.random.default_rng(0), perspective=0.1)
    corners = np.array([[-0.5, -0.5], [29.5, -0.5], [-0.5, 19.5], [29.5, 19.5]])
    moved = stn.transform_points(maps.matrices, corners)
    shift = np.abs(moved - corners) / [30, 20]
    assert 0.0999 < shift.max() <= 0.1 + 1e-12
    assert maps.theta.shape == (500, 3, 3)


def test_no_elastic_map_folds_an_image():
    """Neighbouring pixels stay in order, at the largest amount too."""
    images = np.zeros((300, 1, 8, 8), np.uint8)
    _, maps = stn.augment(images, np.random.default_rng(0), elastic=0.1)
    grid = stn.tps_grid(maps.control, (40, 40))
    right, down = grid[:, :-1, 1:] - grid[:, :-1, :-1], grid[:, 1:, :-1] - grid[:, :-1, :-1]
    areas = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
    assert areas.min() > 0
    points = np.broadcast_to([[3.0, 2.0], [0.0, 7.0]], (300, 2, 2))
    assert np.isfinite(maps.transform_points(points)).all()


def test_a_point_beyond_the_horizon_is_nowhere():
    """The map shows (x / (1 - 2 x), ...): no x of the left quarter, where 1 + 2 x is negative."""
    theta = np.array([[[1.0, 0, 0], [0, 1, 0], [-2, 0, 1]]])
    maps = stn.Augmentation(theta, sides=(10, 10))
    (moved,) = maps.transform_points([[[0.0, 5.0], [4.0, 5.0], [9.0, 5.0]]])
    back = stn.transform_points(maps.matrices[0], moved[1:])
    np.testing.assert_allclose(back, [[4, 5], [9, 5]], atol=1e-9)
    assert np.isnan(moved[0]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda maps: maps.warp(np.zeros((3, 1, 8, 9))), "images: expected 2 images"),
        (lambda maps: maps.warp(np.zeros((2, 1, 8, 8))), r"images: expected sides \(8, 9\)"),
        (lambda maps: maps.warp(np.zeros((2, 8))), "images: expected 2 images"),
        (lambda maps: maps.warp(np.zeros((2, 1, 8, 9), np.int64)), "images: expected"),
        (lambda maps: maps.transform_points(np.zeros((3, 2))), "points: expected one set"),
        (lambda maps: maps.transform_points(np.zeros((2, 3, 3))), r"points: expected shape \(K, 2"),
        (lambda maps: maps.transform_boxes([[[0, 0, 1]], []]), r"boxes: expected shape \(K, 4"),
        (lambda maps: maps.transform_boxes(np.ones((2, 1, 4)), pixels="all"), "pixels: expected"),
    ],
)  # fmt: skip
def test_what_goes_along_must_fit(call, message):
    _, maps = stn.augment(np.zeros((2, 1, 8, 9)), np.random.default_rng(0), rotate=5)
    with pytest.raises((ValueError, TypeError), match=message):
        call(maps)
