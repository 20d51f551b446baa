"""``numba-stn warp --axes``: stacks with any axes, and large images in patches."""

import itertools

import numpy as np
import pytest

import numba_stn as stn
from numba_stn import cli
from numba_stn.distributed import image_stacks, stack_axes

zarr, tifffile = pytest.importorskip("zarr"), pytest.importorskip("tifffile")

RNG = np.random.default_rng(0)
LENGTHS = {"T": 2, "C": 3, "Z": 2, "Y": 20, "X": 30, "S": 3, "N": 4, "H": 20, "W": 30}
OPTIONS = ("--rotate", "20", "--size", "31x22")


def warp(*args):
    return cli.main(["warp", *map(str, args)])


def numbers(axes, dtype="u1"):
    return RNG.integers(0, 250, [LENGTHS[letter] for letter in axes]).astype(dtype)


def write_zarr(path, array, **options):
    stored = zarr.create_array(path, shape=array.shape, dtype=array.dtype, **options)
    stored[:] = array
    return path


def each_image(array, axes, function):
    """Apply a function to each image (Y, X) of an array, one after another."""
    rows, columns = (axes.index(max(pair, key=axes.find)) for pair in ("YH", "XW"))
    moved = np.moveaxis(array, (rows, columns), (-2, -1))
    found = [function(moved[index]) for index in np.ndindex(*moved.shape[:-2])]
    found = np.reshape(found, (*moved.shape[:-2], *found[0].shape))
    return np.moveaxis(found, (-2, -1), (rows, columns))


def expected(array, axes, fill=0):
    """Each image rotated on a canvas of 22 x 31; the middle of both stays the middle."""

    def rotated(image):
        matrix = [[np.cos(a := np.deg2rad(20)), -np.sin(a)], [np.sin(a), np.cos(a)]]
        shift = np.array([14.5, 9.5]) - matrix @ np.array([15.0, 10.5])
        return stn.warp_image(image, np.c_[matrix, shift], (22, 31), fill=fill)

    return each_image(array, axes, rotated)


def close(found, wanted):
    """The same within a grey level: the test computes the matrix in another way."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    assert np.abs(found.astype(float) - wanted).max() <= 1


AXES = ("YX", "XY", "YXC", "CYX", "TCZYX", "TZYXS", "YZX", "CXTY", "SYX", "NWH", "ZYXC", "tczyx")


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("kind", [".zarr", ".npy", ".npz"])
def test_axes_in_any_order(axes, kind, tmp_path, monkeypatch):
    array, given, out = numbers(axes.upper()), tmp_path / f"in{kind}", tmp_path / f"out{kind}"
    if kind == ".zarr":
        write_zarr(given, array, chunks=[max(1, side // 2) for side in array.shape])
    elif kind == ".npy":
        np.save(given, array)
    else:
        np.savez(given, array)
    wanted = expected(array, axes.upper(), 7)
    for limit in (2**25, 3000):  # whole images, and patches
        monkeypatch.setattr(image_stacks, "CHUNK_BYTES", limit)
        monkeypatch.setattr(image_stacks, "TASK_BYTES", 1000)
        assert warp(given, out, *OPTIONS, "--fill", 7, "--axes", axes, "--force") == 0
        if kind == ".zarr":
            stored = zarr.open_array(out, mode="r")
            chunks = zarr.open_array(given).chunks
            assert stored.chunks == tuple(map(min, chunks, wanted.shape)) or limit == 3000
            close(stored[:], wanted)
        else:
            found = np.load(out)
            close(found["image"] if kind == ".npz" else found, wanted)


def test_a_fill_for_each_colour(tmp_path, monkeypatch):
    array = numbers("TCZYX")
    given = write_zarr(tmp_path / "in.zarr", array, chunks=(1, 1, 2, 10, 10))
    for limit in (2**25, 3000):
        monkeypatch.setattr(image_stacks, "CHUNK_BYTES", limit)
        assert warp(given, tmp_path / "o.zarr", "--translate", 100, 0, "--fill", "5,6,7", "--force",
                    "--axes", "TCZYX") == 0  # fmt: skip
        found = zarr.open_array(tmp_path / "o.zarr", mode="r")[:]
        assert (found == np.array([5, 6, 7])[:, None, None, None]).all()


def test_pages_with_axes(tmp_path):
    array = numbers("TCZYX", "u2")
    tifffile.imwrite(tmp_path / "in.tif", array, photometric="minisblack", metadata={
        "axes": "TCZYX"})  # fmt: skip
    wanted = expected(array, "TCZYX")
    for name in ("o.tif", "o.npy", "o.zarr"):
        assert warp(tmp_path / "in.tif", tmp_path / name, *OPTIONS, "--axes", "TCZYX") == 0
    close(tifffile.imread(tmp_path / "o.tif"), wanted.reshape(-1, 22, 31))
    close(np.load(tmp_path / "o.npy"), wanted)
    close(zarr.open_array(tmp_path / "o.zarr", mode="r")[:], wanted)
    assert warp(tmp_path / "in.tif", tmp_path / "n.npy", *OPTIONS, "--axes", "NYX") == 0
    close(np.load(tmp_path / "n.npy"), wanted.reshape(-1, 22, 31))


# --- Metadata -------------------------------------------------------------------------------------


def names_of_its_own(path, array):
    write_zarr(path / "a.zarr", array, dimension_names=["time", "y", "x"])
    return path / "a.zarr"


def names_of_xarray(path, array):
    attributes = {"_ARRAY_DIMENSIONS": ["t", "y", "x"], "unit": "counts"}
    write_zarr(path / "a.zarr", array, zarr_format=2, attributes=attributes)
    return path / "a.zarr"


def names_of_ome(path, array, version="0.5"):
    axes = [{"name": "t", "type": "time"}, {"name": "y", "type": "space"},
            {"name": "x", "type": "space"}]  # fmt: skip
    scales = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}], "version": version}]}
    old = version == "0.4"
    group = zarr.create_group(path / "a.zarr", zarr_format=2 if old else 3,
                              attributes=scales if old else {"ome": scales})  # fmt: skip
    stored = group.create_array("0", shape=array.shape, dtype=array.dtype, chunks=(1, 7, 30))
    stored[:] = array
    return path / "a.zarr" / "0"


def names_of_old_ome(path, array):
    return names_of_ome(path, array, "0.4")


@pytest.mark.parametrize(
    "make", [names_of_its_own, names_of_xarray, names_of_ome, names_of_old_ome]
)
def test_axes_of_metadata(make, tmp_path, capsys):
    array = RNG.integers(0, 250, (4, 20, 30), np.uint8)
    assert warp(make(tmp_path, array), tmp_path / "o.zarr", *OPTIONS) == 0
    assert "a stack TYX of 4 x 22 x 31, uint8" in capsys.readouterr().out
    found = zarr.open_array(tmp_path / "o.zarr", mode="r")
    close(found[:], expected(array, "TYX"))
    assert found.metadata.dimension_names == ("t", "y", "x")


def test_attributes_are_kept_and_channels_are_channels(tmp_path):
    array = numbers("YXC")
    given = write_zarr(tmp_path / "a.zarr", array, chunks=(7, 9, 3),
                       dimension_names=["y", "x", "channel"],
                       attributes={"exposure": [1, 2.5], "by": "me"})  # fmt: skip
    assert warp(given, tmp_path / "o.zarr", *OPTIONS, "--fill", "1,2,3") == 0
    found = zarr.open_array(tmp_path / "o.zarr", mode="r")
    assert dict(found.attrs) == {"exposure": [1, 2.5], "by": "me"}
    assert found.chunks == (7, 9, 3)
    close(found[:], np.stack([expected(array[..., c], "YX", c + 1) for c in range(3)], -1))


def test_metadata_that_say_nothing(tmp_path, capsys):
    """Names that are no axes, or of another number, are as good as none."""
    array = RNG.integers(0, 250, (4, 20, 30), np.uint8)
    write_zarr(tmp_path / "a.zarr", array, dimension_names=["i", "j", "k"])
    group = zarr.create_group(tmp_path / "g.zarr", attributes={"multiscales": [3, {"axes": 7}]})
    group.create_array("x", data=array)
    for name in ("a.zarr", "g.zarr/x"):
        assert warp(tmp_path / name, tmp_path / "o.zarr", *OPTIONS, "--force") == 0
        assert "a stack NHW of" in capsys.readouterr().out
    write_zarr(tmp_path / "five.zarr", array[None, None])
    assert warp(tmp_path / "five.zarr", tmp_path / "p.zarr", *OPTIONS) == 2
    assert "--axes" in capsys.readouterr().err


# --- Large images ---------------------------------------------------------------------------------


PHOTO = RNG.integers(0, 256, (300, 340), np.uint8)


@pytest.mark.parametrize("options", [
    ("--rotate", "20", "--expand"), ("--scale", "0.1", "--expand"),
    ("--corners", "10", "20", "300", "5", "330", "250", "30", "290", "--padding", "border"),
    ("--rotate", "10", "--padding", "reflection", "--mode", "bicubic"),
    ("--scale", "0.4", "--padding", "wrap", "--no-antialias"), ("--flip", "both"),
], ids=" ".join)  # fmt: skip
def test_a_large_image_is_never_read_whole(options, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", PHOTO)
    assert warp(tmp_path / "a.npy", tmp_path / "whole.npy", *options) == 0
    given = write_zarr(tmp_path / "a.zarr", PHOTO, chunks=(32, 50))
    sizes, original = [], image_stacks.read_block

    def read_block(array, stack, where):
        found = original(array, stack, where)
        sizes.append(found.nbytes)
        return found

    monkeypatch.setattr(image_stacks, "read_block", read_block)
    monkeypatch.setattr(image_stacks, "CHUNK_BYTES", 20_000)
    for source, out in itertools.product((given, tmp_path / "a.npy"), ("o.zarr", "o.npy")):
        assert warp(source, tmp_path / out, *options, "--axes", "YX", "--force") == 0
        found = zarr.open_array(tmp_path / out)[:] if out == "o.zarr" else np.load(tmp_path / out)
        np.testing.assert_array_equal(found, np.load(tmp_path / "whole.npy"))
        assert max(sizes) <= 20_000
    assert len(sizes) > 20


def test_an_image_of_two_axes_needs_no_option(tmp_path, capsys):
    given = write_zarr(tmp_path / "a.zarr", PHOTO, chunks=(32, 50))
    assert warp(given, tmp_path / "o.zarr", "--rotate", 180) == 0
    assert "an image YX of 300 x 340, uint8" in capsys.readouterr().out
    found = zarr.open_array(tmp_path / "o.zarr")
    np.testing.assert_array_equal(found[:], PHOTO[::-1, ::-1])
    assert found.chunks == (32, 50)


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["", "YXQ", "YYX", "TCZ", "YHX", "XW", "Y"])
def test_bad_axes_are_named(axes, tmp_path, capsys):
    np.save(tmp_path / "a.npy", PHOTO)
    with pytest.raises(SystemExit):
        warp(tmp_path / "a.npy", tmp_path / "o.npy", *OPTIONS, "--axes", axes)
    assert "expected Y and X and any of" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("axes", "message"),
    [("TYX", "expected a stack TYX"), ("XY", "expected axes that end with rows")],
)
def test_axes_that_do_not_fit_are_named(axes, message, tmp_path, capsys):
    np.save(tmp_path / "a.npy", PHOTO)
    assert warp(tmp_path / "a.npy", tmp_path / "o.tif", *OPTIONS, "--axes", axes) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_parts_and_images_are_inverse():
    for axes in AXES:
        array = numbers(axes.upper())
        images = stack_axes.to_images(array, axes.upper())
        assert images.shape[1:3] == (20, 30)
        again = stack_axes.from_images(images, axes.upper(), array.shape)
        np.testing.assert_array_equal(again, array)
