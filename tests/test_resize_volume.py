"""Volumes resized and cropped, beside SciPy, PyTorch, Pillow and slices."""

import numpy as np
import pytest
import scipy.ndimage

import numba_stn as stn

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    """One variant of each kernel is enough."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


@pytest.mark.parametrize("shape", [(3, 4, 5), (12, 7, 20), (1, 1, 1)])
def test_linear_volumes_are_those_of_pytorch(shape):
    torch = pytest.importorskip("torch")
    volume = RNG.standard_normal((2, 3, 6, 5, 7))
    want = torch.nn.functional.interpolate(torch.from_numpy(volume), shape, mode="trilinear")
    got = stn.resize_volume(volume, shape)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-12)
    np.testing.assert_array_equal(stn.resize_volume(volume[1, 2], shape), got[1, 2])


def test_nearest_voxels_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    labels = RNG.integers(-(2**60), 2**60, (1, 1, 6, 5, 8))
    for shape in ((3, 10, 4), (4, 3, 16), (1, 2, 3)):
        index = torch.arange(240.0).reshape(labels.shape)
        want = torch.nn.functional.interpolate(index, shape, mode="nearest-exact")
        got = stn.resize_volume(labels, shape, mode="nearest")
        np.testing.assert_array_equal(got, labels.ravel()[want.numpy().astype(int)])


@pytest.mark.parametrize("order", [1, 3])
def test_zoomed_volumes_are_those_of_scipy(order):
    volume = RNG.random((12, 13, 14))
    mode = "bilinear" if order == 1 else "spline3"
    for zoom in ((2, 1, 1.5), (0.5, 2, 1)):
        shape = tuple(round(side * z) for side, z in zip(volume.shape, zoom, strict=True))
        exact = np.divide(shape, volume.shape)
        want = scipy.ndimage.zoom(volume, exact, order=order, mode="nearest", grid_mode=True)
        got = stn.resize_volume(volume, shape, mode=mode)
        np.testing.assert_allclose(got, want, atol=1e-10)


def test_means_over_areas_are_those_of_blocks():
    volume = RNG.random((4, 6, 9))
    blocks = volume.reshape(2, 2, 3, 2, 3, 3).mean((1, 3, 5))
    got = stn.resize_volume(volume, (2, 3, 3), antialias="area")
    np.testing.assert_allclose(got, blocks, atol=1e-12)
    whole = np.rint(volume * 255).astype(np.uint8)
    want = whole.astype(float).reshape(2, 2, 3, 2, 3, 3).mean((1, 3, 5))
    got = stn.resize_volume(whole, (2, 3, 3), antialias="area")
    assert got.dtype == np.uint8
    assert np.abs(got - want).max() <= 0.5 + 1e-4  # rounded once
    both = stn.resize_volume(volume + 2j * volume, (2, 3, 3), antialias="area")
    np.testing.assert_allclose(both, blocks + 2j * blocks, atol=1e-12)
    mask = volume > 0.5
    most = mask.reshape(2, 2, 3, 2, 3, 3).mean((1, 3, 5)) > 0.5
    np.testing.assert_array_equal(stn.resize_volume(mask, (2, 3, 3), antialias="area"), most)


@pytest.mark.parametrize(("name", "pillow"), [("triangle", "BILINEAR"), ("cubic", "BICUBIC"),
                                              ("lanczos3", "LANCZOS")])  # fmt: skip
def test_filters_are_those_of_pillow_along_each_axis(name, pillow):
    image = pytest.importorskip("PIL.Image")
    volume, shape = RNG.random((9, 8, 11), np.float32), (4, 12, 5)
    want = volume
    for axis, side in enumerate(shape):
        moved = np.moveaxis(want, axis, 0)
        lines = image.fromarray(np.ascontiguousarray(moved.reshape(len(moved), -1)))
        found = np.asarray(lines.resize((lines.width, side), image.Resampling[pillow]))
        want = np.moveaxis(found.reshape(side, *moved.shape[1:]), 0, axis)
    got = stn.resize_volume(volume, shape, antialias=name)
    np.testing.assert_allclose(got, want, atol=2e-6)
    batch = stn.resize_volume(np.stack([volume, 2 * volume])[None], shape, antialias=name)
    np.testing.assert_array_equal(batch[0, 0], got)
    np.testing.assert_allclose(batch[0, 1], 2 * got, rtol=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic", "spline3"])
def test_a_whole_box_is_the_slice(mode):
    for dtype in (np.float32, np.uint8, np.int16):
        volume = (RNG.random((7, 6, 8)) * 200).astype(dtype)
        crop = stn.crop_and_resize_volume(volume, (1, 2, 3, 5, 6, 7), (4, 4, 4), mode=mode)
        slack = 1e-4 if mode == "spline3" else 0
        np.testing.assert_allclose(crop, volume[3:7, 2:6, 1:5], atol=slack)


def test_several_boxes_of_one_volume_and_of_a_batch():
    batch, boxes = RNG.random((2, 3, 6, 7, 8)), [(0.5, 1, 1, 5, 6.25, 4), (-2, 0, 0, 8, 7, 9)]
    for options in ({"padding_mode": "fill", "fill": (1.0, 2.0, 3.0)}, {"antialias": "triangle"}):
        crops = stn.crop_and_resize_volume(batch, boxes, (3, 4, 2), **options)
        assert crops.shape == (2, 2, 3, 3, 4, 2)
        for n in range(2):
            one = stn.crop_and_resize_volume(batch[n : n + 1], boxes, (3, 4, 2), **options)
            np.testing.assert_array_equal(one[:, 0], crops[:, n])
        alone = stn.crop_and_resize_volume(batch, boxes[1], (3, 4, 2), **options)
        np.testing.assert_array_equal(alone, crops[1])
    assert stn.crop_and_resize_volume(batch[:0], boxes, (1, 2, 3)).shape == (2, 0, 3, 1, 2, 3)
    assert stn.crop_and_resize_volume(batch[:, :0], boxes[0], (1, 2, 3), antialias="area").size == 0
    assert stn.crop_and_resize_volume(batch[0, 0], np.zeros((0, 6)), (1, 2, 3)).shape[0] == 0


def test_the_matrix_takes_points_along():
    """Corners of the box go to the corners of the crop; a ramp has the value of its position."""
    box, shape = (1.0, 2.0, 0.0, 7.0, 8.0, 6.0), (4, 3, 5)
    ramp = np.mgrid[0:9, 0:10, 0:11].astype(float)[::-1]
    crops, matrix = zip(*(stn.crop_and_resize_volume(axis, box, shape, return_matrix=True)
                          for axis in ramp), strict=True)  # fmt: skip
    ends = np.array([box[:3], box[3:]]) - 0.5
    want = np.array([[0, 0, 0], shape[::-1]]) - 0.5
    np.testing.assert_allclose(stn.transform_points(matrix[0], ends), want, atol=1e-12)
    points = np.stack([crop[1, 1, 2] for crop in crops])[None]
    np.testing.assert_allclose(stn.transform_points(matrix[0], points), [[2, 1, 1]], atol=1e-12)
    _, several = stn.crop_and_resize_volume(ramp[0], [box, box], shape, return_matrix=True)
    np.testing.assert_array_equal(several, [matrix[0]] * 2)
    _, whole = stn.resize_volume(ramp[0], shape, return_matrix=True)
    np.testing.assert_allclose(whole[:3, :3].diagonal(), [5 / 11, 3 / 10, 4 / 9])


VOLUME = np.zeros((2, 3, 4))
BAD = [
    ("volume: expected a NumPy array, got list", lambda: stn.resize_volume([[[1.0]]], (1, 1, 1))),
    (r"volume: expected shape \(D, H, W\) or \(N, C, D, H, W\), got \(2, 3\)",
     lambda: stn.resize_volume(VOLUME[..., 0], (1, 1, 1))),
    (r"volume: expected sides of at least one pixel, got \(0, 3, 4\)",
     lambda: stn.resize_volume(VOLUME[:0], (1, 1, 1))),
    ("volume: expected .*labels", lambda: stn.resize_volume(VOLUME.astype(np.int64), (1, 1, 1))),
    ("shape: expected three positive integers .* got .1, 2.",
     lambda: stn.resize_volume(VOLUME, (1, 2))),
    ("shape: expected three positive integers .* got .0, 1, 2.",
     lambda: stn.resize_volume(VOLUME, (0, 1, 2))),
    ("shape: expected three positive integers .* got 2.5", lambda: stn.resize_volume(VOLUME, 2.5)),
    ("mode: expected one of", lambda: stn.resize_volume(VOLUME, (1, 1, 1), mode="cubic")),
    ("padding_mode: expected one of",
     lambda: stn.resize_volume(VOLUME, (1, 1, 1), padding_mode="edge")),
    ('padding_mode: expected "border" with antialias',
     lambda: stn.resize_volume(VOLUME, (1, 1, 1), padding_mode="zeros", antialias=True)),
    ("antialias: expected True, False or one of",
     lambda: stn.resize_volume(VOLUME, (1, 1, 1), antialias="box")),
    ("fill: expected 1 or 1 numbers",
     lambda: stn.resize_volume(VOLUME, (1, 1, 1), padding_mode="zeros", fill=(1, 2))),
    (r"boxes: expected finite numbers .* got shape \(4,\)",
     lambda: stn.crop_and_resize_volume(VOLUME, (0, 0, 1, 1), (1, 1, 1))),
    ("boxes: expected x0 < x1, y0 < y1 and z0 < z1",
     lambda: stn.crop_and_resize_volume(VOLUME, (0, 0, 1, 1, 1, 1), (1, 1, 1))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "call"), BAD, ids=[message for message, _ in BAD])
def test_bad_input_is_named(message, call):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
