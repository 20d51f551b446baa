"""Data sets and distortions. The tests of MNIST need the real files, in NUMBA_STN_DATA."""

import gzip
import importlib
import os
import pathlib

import numpy as np
import pytest

from numba_stn import data

mnist_module = importlib.import_module("numba_stn.data.mnist")

HOME = os.environ.get("NUMBA_STN_DATA")
needs_mnist = pytest.mark.skipif(not HOME, reason="NUMBA_STN_DATA does not name MNIST's folder")


def test_digits():
    digits = data.digits()
    counts = [len(split.labels) for split in digits]
    assert counts == [800, 197, 800]
    for images, labels in digits:
        assert (images.dtype, labels.dtype) == (np.float32, np.int64)
        assert images.shape[1:] == (1, 16, 16)
        assert images.min() == 0
        assert images.max() == 1
        assert set(labels) == set(range(10))
    together = np.concatenate([split.images.reshape(len(split.images), -1) for split in digits])
    assert len(np.unique(together, axis=0)) == 1797


@needs_mnist
def test_mnist():
    mnist = data.mnist(HOME)
    assert [split.images.shape for split in mnist] == [
        (55_000, 1, 28, 28), (5_000, 1, 28, 28), (10_000, 1, 28, 28),
    ]  # fmt: skip
    assert mnist.train.images.dtype == np.float32
    assert (mnist.test.images.min(), mnist.test.images.max()) == (0, 1)
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.isclose(mnist.test.images.mean(), 0.1325, atol=1e-4)  # published mean


def test_read_idx(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    raw = bytes([0, 0, 8, 3]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    path = tmp_path / "some.gz"
    path.write_bytes(gzip.compress(raw))
    sha = mnist_module.hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(mnist_module.read_idx(path, sha), values)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(data.DataError, match="some.gz: truncated or altered.*expected"):
        mnist_module.read_idx(path, sha)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(data.DataError, match="train-images-idx3-ubyte.gz: missing"):
        data.mnist(str(tmp_path))


def test_a_failed_download_is_reported_with_advice(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_STN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(mnist_module, "MIRROR", (tmp_path / "nowhere").as_uri() + "/")
    with pytest.raises(data.DataError, match=r"cannot download.*--data-dir"):
        data.mnist()
    assert not list(tmp_path.rglob("*.gz"))


def test_the_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_STN_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match=str(tmp_path)):
        data.mnist()


# --- Distortions ----------------------------------------------------------------------------------


@pytest.fixture
def squares():
    """Bright squares in the middle of 28 x 28 pixels, each of another brightness."""
    images = np.zeros((50, 1, 28, 28), np.float32)
    images[:, :, 10:18, 10:18] = np.linspace(0.5, 1, 50, dtype=np.float32)[:, None, None, None]
    return data.Split(images, np.arange(50) % 10)


SIDES = {"none": 28, "R": 28, "RTS": 42, "P": 28, "E": 28, "TC": 60, "addition": 42}


@pytest.mark.parametrize("name", data.TASKS)
def test_distortions_keep_shapes_labels_and_range(name, squares):
    task = data.TASKS[name]
    first, again = (task(np.random.default_rng(0), squares) for _ in range(2))
    other = task(np.random.default_rng(1), squares)
    assert first.images.shape == (50, task.digits, SIDES[name], SIDES[name])
    assert first.images.dtype == np.float32
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (name == "none") == np.array_equal(first.images, other.images)
    assert first.images.min() >= 0
    assert first.images.max() <= squares.images.max() * (1 + 1e-6)
    if task.digits == 1:
        np.testing.assert_array_equal(first.labels, squares.labels)


def drawn(name, split):
    """The images of a task."""
    return data.TASKS[name](np.random.default_rng(0), split).images


def moments(images):
    """Mass, mean (x, y) and mean squared distance from it, of each image."""
    line = np.arange(images.shape[-1])
    mass = images.sum((1, 2, 3))
    x, y = ((images.sum(axis) * line).sum((1, 2)) / mass for axis in (2, 3))
    deviation = images * (
        (line - x[:, None, None, None]) ** 2 + (line[:, None] - y[:, None, None, None]) ** 2
    )
    return mass, x, y, deviation.sum((1, 2, 3)) / mass


def test_r_rotates_about_the_centre(squares):
    mass, x, y, deviation = moments(drawn("R", squares))
    expected = moments(squares.images)
    np.testing.assert_allclose(mass, expected[0], rtol=0.02)
    np.testing.assert_allclose([x, y], 13.5, atol=0.1)
    np.testing.assert_allclose(deviation, expected[3] + 0.2, atol=0.25)  # interpolation blurs


def test_rts_shifts_and_scales(squares):
    mass, x, y, _ = moments(drawn("RTS", squares))
    zoom = np.sqrt(mass / moments(squares.images)[0])
    assert 0.65 < zoom.min() < 0.8 < 1.1 < zoom.max() < 1.25
    room = (42 - 28 * zoom) / 2 + 0.5
    assert (np.abs(x - 20.5) < room).all()
    assert (np.abs(y - 20.5) < room).all()
    assert x.std() > 3
    assert y.std() > 3


def test_the_angles_of_r_and_rts_are_the_papers():
    """+-90 and +-45 degrees, measured at a dot that is right of the centre."""
    images = np.zeros((400, 1, 28, 28), np.float32)
    images[:, :, 13:15, 22:24] = 1
    split = data.Split(images, np.zeros(400, int))
    line = np.arange(28) - 13.5
    r = drawn("R", split)
    angles = np.arctan2((r.sum((1, 3)) * line).sum(1), (r.sum((1, 2)) * line).sum(1))
    assert 1.5 < np.abs(angles).max() < np.pi / 2 + 0.05
    assert abs(np.abs(angles).mean() - np.pi / 4) < 0.08
    images[:, :, 13:15, 4:6] = 1  # a line through the centre, which a shift does not turn
    rts = drawn("RTS", split)
    y, x = np.mgrid[:42, :42]
    _, mx, my, _ = moments(rts)
    dx, dy = x - mx[:, None, None], y - my[:, None, None]
    xx, xy, yy = ((rts[:, 0] * product).sum((1, 2)) for product in (dx * dx, dx * dy, dy * dy))
    angles = np.arctan2(2 * xy, xx - yy) / 2
    assert 0.72 < np.abs(angles).max() < np.pi / 4 + 0.05
    assert abs(np.abs(angles).mean() - np.pi / 8) < 0.05


def test_clutter_comes_from_other_images():
    """Six patches of 6 x 6 pixels, none from the image itself."""
    images = np.zeros((300, 1, 28, 28), np.float32)
    images[:] = (np.arange(300, dtype=np.float32) + 1)[:, None, None, None]
    canvas = drawn("TC", data.Split(images, np.zeros(300, int)))[:, 0]
    most = 0
    for number, image in enumerate(canvas, 1):
        found, counts = np.unique(image[(image != 0) & (np.abs(image - number) > 1e-3)],
                                  return_counts=True)  # fmt: skip
        assert counts.sum() <= 6 * 36
        most = max(most, len(found))
    assert most == 6
    two = images[:2].copy()
    two[0], two[1] = 0, 1  # the first is black, so that all white on its canvas is the second's
    for seed in range(20):
        task = data.TASKS["TC"](np.random.default_rng(seed), data.Split(two, np.zeros(2, int)))
        black, white = task.images[:, 0]
        assert black.sum() > 0
        assert white.sum() == pytest.approx(28 * 28, rel=1e-5)


def test_the_directions_of_angle_and_shift():
    image = np.zeros((1, 1, 9, 9), np.float32)
    image[0, 0, 4, 7] = 1  # right of the centre
    one, none, angle = np.ones(1), np.zeros((1, 2)), np.array([np.pi / 2])
    rotated = data.distort.rotate_scale_shift(image, 9, angle, one, none)
    assert np.unravel_index(rotated.argmax(), rotated.shape)[2:] == (7, 4)  # now below it
    shift = np.array([[1.0, -2.0]])
    shifted = data.distort.rotate_scale_shift(image, 13, np.zeros(1), one, shift)
    assert np.unravel_index(shifted.argmax(), shifted.shape)[2:] == (4, 10)


def test_tc_copies_the_digit_exactly_and_adds_clutter(squares):
    canvas = drawn("TC", squares)
    for image, own in zip(canvas[:, 0], squares.images[:, 0], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (28, 28))
        assert (windows >= own - 1e-6).all((2, 3)).any()
    equal = drawn("TC", squares.take(np.zeros(50, int)))
    assert (equal.sum((1, 2, 3)) > squares.images[0].sum() + 1).mean() > 0.3
    one = drawn("TC", squares.take(slice(1)))
    assert one.shape == (1, 1, 60, 60)


def dots(count):
    """Images with a dot a quarter of a side away from each corner."""
    images = np.zeros((count, 1, 28, 28), np.float32)
    images[:, :, 7::13, 7::13] = 1
    return data.Split(images, np.zeros(count, int))


def test_p_moves_the_corners_as_opencv_does():
    """The same random moves, applied by OpenCV."""
    cv2 = pytest.importorskip("cv2")
    split = dots(20)
    images = drawn("P", split)
    rng = np.random.default_rng(0)
    zoom, amount = rng.uniform(0.75, 1.0, 20), rng.normal(0, 5 * 2 / 28, (20, 4))
    angle = rng.uniform(0, 2 * np.pi, (20, 4))
    moves = amount[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    corners = np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    for image, own, factor, move in zip(images[:, 0], split.images[:, 0], zoom, moves, strict=True):
        start, end = ((14 * points + 13.5).astype(np.float32)
                      for points in (corners / factor, corners + move))  # fmt: skip
        matrix = cv2.getPerspectiveTransform(start, end)
        expected = cv2.warpPerspective(own, matrix, (28, 28))
        np.testing.assert_allclose(image, expected, atol=0.05)  # OpenCV rounds its coordinates


def test_e_agrees_with_scipys_splines():
    split = dots(200)
    images = drawn("E", split)
    mean = images.mean((0, 1))
    np.testing.assert_allclose(mean, mean[::-1, ::-1], atol=0.15)  # no direction is preferred
    rng = np.random.default_rng(0)
    zoom, moves = rng.uniform(0.75, 1.0, 200), rng.normal(0, 1.5 * 2 / 28, (200, 16, 2))
    from scipy.interpolate import RBFInterpolator
    from scipy.ndimage import map_coordinates

    line = (2 * np.arange(28) + 1) / 28 - 1
    pixels = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    lattice = np.linspace(-1, 1, 4)
    lattice = np.stack(np.meshgrid(lattice, lattice), -1).reshape(-1, 2)
    for n in range(3):
        spline = RBFInterpolator(lattice, (lattice + moves[n]) / zoom[n])  # thin-plate by default
        positions = 14 * spline(pixels)[:, ::-1].T + 13.5
        expected = map_coordinates(split.images[n, 0], positions, order=1, mode="grid-constant")
        np.testing.assert_allclose(images[n, 0].ravel(), expected, atol=1e-4)


def test_the_label_of_the_addition_is_the_sum(squares):
    """The brightness of a square gives its number, also after the distortion."""
    split = data.Split(squares.images, np.arange(50))
    found = data.TASKS["addition"](np.random.default_rng(0), split)
    numbers = np.rint((found.images.max((2, 3)) - 0.5) * 98)
    np.testing.assert_array_equal(found.labels, numbers.sum(1))
    np.testing.assert_array_equal(np.sort(numbers[:, 1]), np.arange(50))
    assert (numbers[:, 1] != numbers[:, 0]).mean() > 0.8
    assert data.TASKS["addition"].classes == 19


def test_data_folder_is_not_in_the_code():
    root = pathlib.Path(data.__file__).parents[1]
    for path in root.rglob("*.py"):
        assert "shared/data" not in path.read_text(), path


# --- Unusual splits -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", data.TASKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tasks_distort_tiny_images_and_none(name, dtype):
    """From one pixel on, and without an image; what is white stays from 0 to 1."""
    task = data.TASKS[name]
    for count, side in ((0, 1), (0, 28), (1, 1), (3, 1), (5, 2), (2, 3), (1, 7), (4, 9)):
        split = data.Split(np.ones((count, 1, side, side), dtype), np.arange(count))
        found = task(np.random.default_rng(0), split)
        assert found.images.shape == (count, task.digits, task.side(side), task.side(side))
        assert found.images.dtype == dtype
        assert found.labels.shape == (count,)
        assert found.labels.dtype == np.int64
        if count:
            assert 0 <= found.images.min()
            assert 0 < found.images.max() <= 1 + 1e-6


def test_tc_has_clutter_on_tiny_images():
    """A patch is at least one pixel: beside the one white pixel of the digit there are others."""
    split = data.Split(np.ones((50, 1, 1, 1), np.float32), np.zeros(50, np.int64))
    canvas = data.TASKS["TC"](np.random.default_rng(0), split).images
    white = (canvas == 1).sum((1, 2, 3))
    assert white.min() >= 1
    assert white.max() > 1


ONES = np.ones((3, 1, 4, 4), np.float32)
WRONG_SPLITS = {
    "2 x 5 pixels": (
        (np.ones((2, 1, 2, 5), np.float32), np.arange(2)),
        r"images: .*\(2, 1, 2, 5\)",
    ),
    "no pixel": ((np.ones((2, 1, 0, 0), np.float32), np.arange(2)), "images: .*at least one pixel"),
    "two channels": ((np.ones((2, 2, 4, 4), np.float32), np.arange(2)), "images: .*square"),
    "no channels": ((ONES[:, 0], np.arange(3)), r"images: .*\(3, 4, 4\)"),
    "one image": ((ONES[0, 0], np.arange(1)), r"images: .*\(4, 4\)"),
    "uint8": (((ONES * 255).astype(np.uint8), np.arange(3)), "images: .*got uint8"),
    "float16": ((ONES.astype(np.float16), np.arange(3)), "images: .*got float16"),
    "complex": ((ONES.astype(complex), np.arange(3)), "images: .*got complex128"),
    "objects": ((ONES.astype(object), np.arange(3)), "images: .*got object"),
    "lists": (("no", [1, 2, 3]), "images: "),
    "labels: too few": ((ONES, np.arange(2)), r"labels: expected one for each of 3 .*\(2,\)"),
    "labels: two axes": ((ONES, np.zeros((3, 1), int)), r"labels: .*\(3, 1\)"),
    "labels: floats": ((ONES, np.zeros(3)), "labels: .*got float64"),
}


@pytest.mark.parametrize("name", data.TASKS)
@pytest.mark.parametrize("wrong", WRONG_SPLITS)
def test_what_a_task_cannot_distort_is_named(name, wrong):
    arrays, message = WRONG_SPLITS[wrong]
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        data.TASKS[name](np.random.default_rng(0), data.Split(*arrays))


def test_other_arguments_of_a_task_are_named():
    split = data.Split(ONES, np.arange(3))
    for rng in (0, None, np.random.RandomState(0)):
        with pytest.raises(TypeError, match="^rng: expected a numpy.random.Generator"):
            data.TASKS["R"](rng, split)
    with pytest.raises(TypeError, match="^split: expected a numba_stn.data.Split, got ndarray"):
        data.TASKS["R"](np.random.default_rng(0), ONES)
    for canvas in (0, -1.0, np.nan, "1", True):
        with pytest.raises(ValueError, match="^canvas: expected a finite number above 0"):
            data.Task("mine", canvas, data.TASKS["R"].draw)
    for digits in (0, 1.5, "2"):
        with pytest.raises(ValueError, match="^digits: expected a whole number of at least 1"):
            data.Task("mine", 1.0, data.TASKS["R"].draw, digits)
    flat = data.Task("mine", 1.0, lambda rng, images, side: images[:, 0])
    with pytest.raises(ValueError, match=r"^draw: expected .*\(3, 1, 4, 4\), got \(3, 4, 4\)"):
        flat(np.random.default_rng(0), split)
