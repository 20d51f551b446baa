"""Maps that only scale, mirror and shift, which have a kernel of their own, against the oracle."""

import numpy as np
import pytest
import reference

import numba_stn as stn
from numba_stn.kernels import cpu_launch
from numba_stn.kernels.cpu import axis_aligned

RNG = np.random.default_rng(0)

# Scale and shift along x, along y: enlarged, shrunk, mirrored, moved, a single column, far outside.
MAPS = {
    "enlarged": (0.31, -0.4, 0.6, -0.2),
    "shrunk": (2.3, 0.7, 1.9, -1.2),
    "mirrored": (-1.1, 8.3, 0.45, 1.5),
    "moved": (1.0, -3.0, 1.0, 2.0),
    "half a pixel": (1.0, 0.5, 1.0, -0.5),
    "moved along y": (1.0, 1.0, 1.0, 0.25),
    "one column": (0.0, 2.25, 1.2, 0.0),
    "outside": (1.0, 100.0, 1.0, -50.0),
}
SHAPES = [((9, 11), (7, 40)), ((30, 17), (12, 5)), ((1, 5), (20, 9)), ((2, 2), (3, 18))]
KINDS = [
    *(("float64", mode, padding) for mode in ("bilinear", "bicubic")
      for padding in ("zeros", "border", "reflection", "wrap", "fill")),
    ("uint8", "bilinear", "zeros"), ("uint8", "bicubic", "border"),
    ("float32", "bilinear", "border"), ("uint16", "bilinear", "reflection"),
]  # fmt: skip


def matrix_of(name):
    across, x, down, y = MAPS[name]
    return np.array([[across, 0, x], [0, down, y]])


def expected(image, name, shape, fill, **options):
    """The oracle's samples of an image (H, W, C), in float64."""
    across, x, down, y = MAPS[name]
    height, width = image.shape[:2]
    columns, rows = across * np.arange(shape[1]) + x, down * np.arange(shape[0]) + y
    # The oracle takes normalised coordinates, in which pixel j's centre is (2 j + 1) / S - 1.
    gx, gy = np.meshgrid((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1)
    images = image.transpose(2, 0, 1)[None].astype(float)
    found = reference.grid_sample(images, np.stack([gx, gy], -1)[None], fill=fill, **options)
    return found[0].transpose(1, 2, 0)


@pytest.fixture
def calls(monkeypatch):
    """The number of images that the kernel has warped."""
    found, warp = [], axis_aligned._Warp.crop
    monkeypatch.setattr(axis_aligned._Warp, "crop", lambda *args: found.append(1) or warp(*args))
    return found


@pytest.mark.parametrize(("dtype", "mode", "padding"), KINDS)
def test_against_the_oracle(dtype, mode, padding, calls):
    options, whole = {"mode": mode, "padding_mode": padding}, np.dtype(dtype).kind == "u"
    tolerance = {"float64": 1e-9, "float32": 2e-3}.get(dtype, 0.502)
    for channels, (sides, shape) in zip((1, 3, 2, 6), SHAPES, strict=True):
        image = RNG.integers(0, 256, (*sides, channels)).astype(dtype)
        fill = np.arange(3, 3 + channels)
        for name in MAPS:
            got = stn.warp_image(image, matrix_of(name), shape, fill=fill, **options)
            want = expected(image, name, shape, fill, **options)
            if whole:
                want = want.clip(0, np.iinfo(dtype).max)
            message = f"{sides} to {shape}, {channels} channels, {name}"
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=message)
    assert len(calls) == len(SHAPES) * len(MAPS)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_whole_pixels_are_copied_as_they_are(dtype):
    image = RNG.integers(0, 256, (12, 40, 3)).astype(dtype)
    if dtype == "float32":
        image[2, 3], image[4, 5], image[6, 7] = np.nan, np.inf, -0.0
    moved = stn.warp_image(image, [[1, 0, 2], [0, 1, 3]], (9, 38))
    assert moved.tobytes() == image[3:, 2:].tobytes()
    assert stn.resize(image, (12, 40)).tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("step", [0.3, 0.9, -1.3, 1.9, 2.7])
@pytest.mark.parametrize("channels", [1, 3])
def test_rows_of_many_windows(channels, step, mode):
    """Near and far taps, at the line's ends too; and rows of more than a part."""
    image = RNG.integers(0, 256, (5, 800, channels)).astype(np.float32)
    columns = int(800 / abs(step))
    x = step * (np.arange(columns) - columns / 2) + 400.0 + 0.25
    got = stn.warp_image(
        image, [[step, 0, x[0]], [0, 1, 0.5]], (4, columns), mode=mode, padding_mode="border"
    )
    low = np.floor(x).astype(int)
    taps = range(2) if mode == "bilinear" else range(-1, 3)

    def weights(t):
        if mode == "bilinear":
            return np.stack([1 - t, t])
        a, d = -0.75, np.stack([1 + t, t, 1 - t, 2 - t])
        near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
        return np.where(d <= 1, near, far)

    across = sum(
        w[:, None] * image[:, np.clip(low + k, 0, 799)]
        for k, w in zip(taps, weights(x - low), strict=True)
    )
    want = sum(
        w * across[np.clip(np.arange(4) + k, 0, 4)]
        for k, w in zip(taps, weights(np.float64(0.5)), strict=True)
    )
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("columns", [1, 5, 16, 53])
def test_halves_are_means_of_four(dtype, channels, columns):
    whole = np.dtype(dtype).kind == "u"
    image = RNG.integers(0, np.iinfo(dtype).max + 1 if whole else 9, (14, 2 * columns, channels))
    pairs = image.astype(float).reshape(7, 2, columns, 2, channels)
    want = pairs.mean((1, 3))
    got = stn.resize(image.astype(dtype), (7, columns))
    np.testing.assert_array_equal(got, np.rint(want) if whole else want)


def test_steps_of_two_that_are_no_halves():
    image = RNG.integers(0, 256, (12, 80, 3)).astype(np.uint8)
    matrix = np.array([[2, 0, 1.5], [0, 2, 0.5]])
    want = image.reshape(6, 2, 80, 3).astype(float).mean(1)
    want = np.rint((want[:, 1:79:2] + want[:, 2:80:2]) / 2)
    np.testing.assert_array_equal(stn.warp_image(image, matrix, (6, 39)), want)


def test_a_tap_of_weight_0_that_the_image_lacks_reads_nothing():
    image = np.ones((4, 20), np.float32)
    found = stn.warp_image(image, [[1, 0, 0], [0, 1, 0]], (6, 24), fill=np.inf)
    assert (found[:4, :20] == 1).all()
    assert np.isposinf(found[4:]).all()
    assert np.isposinf(found[:, 20:]).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_number_of_rows_of_a_task_changes_no_bit(mode, monkeypatch):
    image = RNG.standard_normal((31, 37, 3)).astype(np.float32)
    for shape in ((90, 80), (11, 12), (31, 50)):
        found = []
        for workers in (1, 2, 5, 31):
            monkeypatch.setattr(cpu_launch, "workers", lambda work, count=workers: count)
            found.append(stn.resize(image, shape, mode=mode).tobytes())
        assert len(set(found)) == 1


def test_serial_and_parallel_runs_have_the_same_bits(monkeypatch):
    image = RNG.standard_normal((200, 300, 3)).astype(np.float32)
    parallel = stn.resize(image, (411, 280))
    monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", 2**60)
    assert stn.resize(image, (411, 280)).tobytes() == parallel.tobytes()
