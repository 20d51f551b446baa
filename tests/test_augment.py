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
    found, theta = stn.augment(images, np.random.default_rng(0), layout=layout, **OPTIONS)
    expected = stn.warp_affine(images, theta, padding_mode="border", layout=layout)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype
    assert theta.shape == (50, 2, 3)
    assert len(np.unique(theta.reshape(50, -1), axis=0)) == 50


def test_the_same_bits_on_any_number_of_threads():
    images = batch(np.float32)
    found = []
    for count in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(count)
        found.append(stn.augment(images, np.random.default_rng(7), **OPTIONS)[0].tobytes())
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
        theta = stn.augment(images, np.random.default_rng(3), **options)[1]
        return pixel_maps(theta, sides)

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
    images = batch()
    found, theta = stn.augment(images, np.random.default_rng(0))
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(theta, np.broadcast_to(np.eye(2, 3), theta.shape))
    assert stn.augment(images[:0], np.random.default_rng(0), **OPTIONS)[0].shape == (0, 3, 24, 36)


def test_a_shift_moves_a_spot_as_the_map_says():
    images = np.zeros((1, 1, 41, 61), np.float32)
    images[0, 0, 20, 30] = 1
    found, theta = stn.augment(images, np.random.default_rng(5), translate=0.2)
    rows, columns = np.indices((41, 61))
    total = found[0, 0].sum()
    at = np.array([(found[0, 0] * columns).sum(), (found[0, 0] * rows).sum()]) / total
    expected = np.array([30, 20]) - theta[0, :, 2] * np.array([61, 41]) / 2
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
        ({"layout": "CHW"}, "layout: expected one of"),
        ({"mode": "cubic"}, "mode: expected"),
    ],
)  # fmt: skip
def test_bad_arguments(change, message):
    given = {"images": batch(), "rng": np.random.default_rng(0)} | change
    images, rng = given.pop("images"), given.pop("rng")
    with pytest.raises((ValueError, TypeError), match=message):
        stn.augment(images, rng, **given)
