"""``numba-stn register``: the files it writes, and that it writes none if images do not match."""

import numpy as np
import pytest
from scipy import ndimage

import numba_stn as stn
from numba_stn import cli
from numba_stn.cli import register as command
from numba_stn.images import files
from numba_stn.registration.models import GROUPS


def scene(seed, degrees=0):
    """The centre of a larger rotated image."""
    noise = np.random.default_rng(seed).random((136, 160))
    layers = [ndimage.gaussian_filter(noise, sigma) * sigma for sigma in (2, 4, 8)]
    total = sum(layers)
    image = np.uint8(255 * (total - total.min()) / np.ptp(total))
    return np.ascontiguousarray(stn.rotate(image, degrees)[20:-20, 20:-20])


def run(*args):
    return cli.main(["register", *map(str, args)])


@pytest.fixture
def pair(tmp_path):
    """A scene, and the same scene rotated by 4 degrees, darker, with three channels."""
    fixed = scene(0)
    moving = np.dstack([(0.7 * scene(0, 4)).astype(np.uint8)] * 3)
    files.write_image(tmp_path / "moving.png", moving)
    files.write_image(tmp_path / "fixed.png", fixed)
    return moving, fixed


def test_one_image_is_aligned_with_the_other(pair, tmp_path, capsys):
    moving, fixed = pair
    paths = [tmp_path / name for name in ("moving.png", "fixed.png", "aligned.png")]
    assert run(*paths, "--matrix", tmp_path / "m.txt", "--transform", "rigid") == 0
    output = capsys.readouterr().out
    assert "correlation 1.000" in output
    assert "aligned-before-after.png" in output
    aligned, overlays = (files.read_image(tmp_path / name) for name in
                         ("aligned.png", "aligned-before-after.png"))  # fmt: skip
    matrix = np.loadtxt(tmp_path / "m.txt")
    np.testing.assert_array_equal(aligned, stn.warp_image(moving, matrix, fixed.shape))
    assert np.rad2deg(np.arctan2(matrix[0, 1], matrix[0, 0])) == pytest.approx(4, abs=0.1)
    before, after = (half.astype(int) for half in (overlays[:, :120], overlays[:, -120:]))
    apart, together = ((half[20:-20, 20:-20, 0], half[20:-20, 20:-20, 1])
                       for half in (before, after))  # fmt: skip
    assert np.corrcoef(*(x.ravel() for x in apart))[0, 1] < 0.95
    assert np.corrcoef(*(x.ravel() for x in together))[0, 1] > 0.99


@pytest.mark.parametrize("dtype", [">u2", ">i2"])
def test_tiff_of_other_numbers(dtype, tmp_path):
    """Of big-endian ones the command said "got a constant one", and it refused int16."""
    tifffile = pytest.importorskip("tifffile")
    for name, degrees in (("moving", 4), ("fixed", 0)):
        image = scene(0, degrees).astype(int) * 100 - (1000 if dtype == ">i2" else 0)
        tifffile.imwrite(tmp_path / f"{name}.tif", image.astype(dtype), byteorder=">")
    paths = [tmp_path / name for name in ("moving.tif", "fixed.tif", "aligned.tif")]
    assert run(*paths, "--matrix", tmp_path / "m.txt", "--transform", "rigid") == 0
    matrix = np.loadtxt(tmp_path / "m.txt")
    assert np.rad2deg(np.arctan2(matrix[0, 1], matrix[0, 0])) == pytest.approx(4, abs=0.1)
    aligned = files.read_image(tmp_path / "aligned.tif")
    moving = files.read_image(tmp_path / "moving.tif")
    assert aligned.dtype == np.dtype(dtype).newbyteorder("=")
    expected = stn.warp_image(moving.astype(np.float32), matrix, moving.shape)
    np.testing.assert_allclose(aligned, expected, atol=1)


def test_images_that_do_not_match_are_not_written(pair, tmp_path, capsys):
    files.write_image(tmp_path / "other.png", scene(7))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(tmp_path / "moving.png", tmp_path / "other.png", tmp_path / "new" / "o.png") == 1
    assert "do not match" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_errors_name_the_wrong_argument(pair, tmp_path, capsys):
    moving, fixed = tmp_path / "moving.png", tmp_path / "fixed.png"
    files.write_image(tmp_path / "flat.png", np.zeros((50, 50), np.uint8))
    files.write_image(tmp_path / "small.png", np.ones((20, 20), np.uint8))
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    out, before = tmp_path / "out.png", sorted(path.name for path in tmp_path.iterdir())
    for words, message in (
        ([moving, fixed, taken], "--force"),
        ([moving, tmp_path / "none.png", out], "No such file"),
        ([moving, tmp_path / "flat.png", out], "fixed"),
        ([moving, fixed, out, "--mask", tmp_path / "small.png"], "mask"),
        ([moving, fixed, out, "--transform", "tps", "--matrix", "m"], "has no matrix"),
        ([moving, fixed, tmp_path / "out.xyz"], "expected a name that ends in"),
        ([moving, fixed, out, "--picture", tmp_path / "p.xyz"], "expected a name that ends in"),
        ([moving, fixed, out, "--picture", out], "OUT and --picture: both would be written to"),
        ([moving, fixed, out, "--matrix", tmp_path, "--force"], "got a folder"),
        ([moving, fixed, out, "--matrix", moving / "m.txt"], "cannot be written to"),
    ):
        assert run(*words) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert taken.read_bytes() == b"mine"
    assert run(moving, fixed, out, "--matrix", tmp_path / "new" / "m.txt") == 0
    assert (tmp_path / "new" / "m.txt").exists()


def test_help_names_every_transform():
    assert (*GROUPS[2], "tps") == command.TRANSFORMS
