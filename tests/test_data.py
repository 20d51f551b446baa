"""Data sets and distortions. MNIST's tests read the real files where NUMBA_STN_DATA names them."""

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


def test_read_idx_reads_what_it_is_given(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    raw = bytes([0, 0, 8, 3]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    path = tmp_path / "some.gz"
    path.write_bytes(gzip.compress(raw))
    sha = mnist_module.hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(mnist_module.read_idx(path, sha), values)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(data.DataError, match="some.gz is truncated or altered.*expected"):
        mnist_module.read_idx(path, sha)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(data.DataError, match="train-images-idx3-ubyte.gz is missing"):
        data.mnist(str(tmp_path))


def test_a_failed_download_says_what_to_do(monkeypatch, tmp_path):
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
    """Bright squares in the middle of 28 x 28, each of its own brightness."""
    images = np.zeros((50, 1, 28, 28), np.float32)
    images[:, :, 10:18, 10:18] = np.linspace(0.5, 1, 50, dtype=np.float32)[:, None, None, None]
    return images


@pytest.mark.parametrize(("name", "side"), [("none", 28), ("R", 28), ("RTS", 42), ("TC", 60)])
def test_distortions_keep_what_they_should(name, side, squares):
    task = data.TASKS[name]
    first, again = (task(np.random.default_rng(0), squares) for _ in range(2))
    other = task(np.random.default_rng(1), squares)
    assert first.shape == (50, 1, side, side)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert (name == "none") == np.array_equal(first, other)
    assert first.min() >= 0
    assert first.max() <= squares.max() * (1 + 1e-6)


def moments(images):
    """Mass, mean (x, y) and mean squared distance from it, of each image."""
    line = np.arange(images.shape[-1])
    mass = images.sum((1, 2, 3))
    x, y = ((images.sum(axis) * line).sum((1, 2)) / mass for axis in (2, 3))
    spread = images * (
        (line - x[:, None, None, None]) ** 2 + (line[:, None] - y[:, None, None, None]) ** 2
    )
    return mass, x, y, spread.sum((1, 2, 3)) / mass


def test_r_turns_about_the_centre(squares):
    mass, x, y, spread = moments(data.TASKS["R"](np.random.default_rng(0), squares))
    expected = moments(squares)
    np.testing.assert_allclose(mass, expected[0], rtol=0.02)
    np.testing.assert_allclose([x, y], 13.5, atol=0.1)
    np.testing.assert_allclose(spread, expected[3] + 0.2, atol=0.25)  # interpolation blurs


def test_rts_places_and_scales(squares):
    mass, x, y, _ = moments(data.TASKS["RTS"](np.random.default_rng(0), squares))
    zoom = np.sqrt(mass / moments(squares)[0])
    assert 0.65 < zoom.min() < 0.8 < 1.1 < zoom.max() < 1.25
    room = (42 - 28 * zoom) / 2 + 0.5
    assert (np.abs(x - 20.5) < room).all()
    assert (np.abs(y - 20.5) < room).all()
    assert x.std() > 3
    assert y.std() > 3


def test_the_angle_and_the_shift_mean_what_they_say():
    image = np.zeros((1, 1, 9, 9), np.float32)
    image[0, 0, 4, 7] = 1  # right of the centre
    turned = data.distort.placed(image, 9, np.array([np.pi / 2]), np.ones(1), np.zeros((1, 2)))
    assert np.unravel_index(turned.argmax(), turned.shape)[2:] == (7, 4)  # now below it
    moved = data.distort.placed(image, 13, np.zeros(1), np.ones(1), np.array([[1.0, -2.0]]))
    assert np.unravel_index(moved.argmax(), moved.shape)[2:] == (4, 10)


def test_tc_copies_the_digit_exactly_and_clutters(squares):
    canvas = data.TASKS["TC"](np.random.default_rng(0), squares)
    for image, own in zip(canvas[:, 0], squares[:, 0], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (28, 28))
        assert (windows >= own - 1e-6).all((2, 3)).any()
    alone = data.TASKS["TC"](np.random.default_rng(0), np.repeat(squares[:1], 50, 0))
    assert (alone.sum((1, 2, 3)) > squares[0].sum() + 1).mean() > 0.3
    one = data.TASKS["TC"](np.random.default_rng(0), squares[:1])
    assert one.shape == (1, 1, 60, 60)


def test_data_folder_is_not_in_the_code():
    root = pathlib.Path(data.__file__).parents[1]
    for path in root.rglob("*.py"):
        assert "shared/data" not in path.read_text(), path
