"""``numba-stn warp`` on stacks: it agrees with warp_image, and writes files whole or not at all."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import numba_stn as stn
from numba_stn import cli
from numba_stn.distributed import image_stacks

zarr = pytest.importorskip("zarr")

RNG = np.random.default_rng(0)
STACKS = {
    "NHW": RNG.integers(0, 256, (11, 20, 30), np.uint8),
    "NHWC": RNG.integers(0, 65536, (11, 20, 30, 3), np.uint16),
    "NCHW": RNG.random((11, 2, 20, 30), np.float32),
}


def warp(*args):
    return cli.main(["warp", *map(str, args)])


def write_zarr(path, array, chunks=4, **options):
    """Write a Zarr array with chunks along N."""
    stored = zarr.create_array(path, shape=array.shape, dtype=array.dtype,
                               chunks=(chunks, *array.shape[1:]), **options)  # fmt: skip
    stored[:] = array
    return path


def read(path):
    return zarr.open_array(path, mode="r")[:] if path.suffix == ".zarr" else np.load(path)


def expected(array, axes, **options):
    """Each image rotated by 20 degrees on a canvas that holds it."""
    last = np.moveaxis(array, 1, -1) if axes == "NCHW" else array
    rotated = np.stack([stn.rotate(image, 20, expand=True, **options) for image in last])
    return np.moveaxis(rotated, -1, 1) if axes == "NCHW" else rotated


ROTATE = ("--rotate", 20, "--expand")


@pytest.mark.parametrize("axes", STACKS)
@pytest.mark.parametrize("source", [".zarr", ".npy"])
@pytest.mark.parametrize("target", [".zarr", ".npy"])
def test_each_image_agrees_with_warp_image(axes, source, target, tmp_path, monkeypatch):
    monkeypatch.setattr(image_stacks, "TASK_BYTES", 1)  # many tasks
    array = STACKS[axes]
    given, out = tmp_path / f"in{source}", tmp_path / f"out{target}"
    write_zarr(given, array) if source == ".zarr" else np.save(given, array)
    assert warp(given, out, *ROTATE, "--axes", axes, "--fill", 7) == 0
    found = read(out)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, expected(array, axes, fill=7))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([given.name, out.name])


def test_default_axes(tmp_path):
    for axes in ("NHW", "NHWC"):
        given = write_zarr(tmp_path / f"{axes}.zarr", STACKS[axes])
        assert warp(given, tmp_path / f"{axes}.npy", *ROTATE) == 0
        np.testing.assert_array_equal(read(tmp_path / f"{axes}.npy"), expected(STACKS[axes], axes))
    np.save(tmp_path / "four.npy", STACKS["NHWC"])
    assert warp(tmp_path / "four.npy", tmp_path / "four.zarr", *ROTATE) == 0
    np.testing.assert_array_equal(read(tmp_path / "four.zarr"), read(tmp_path / "NHWC.npy"))
    image = STACKS["NHW"][:, :, :3]  # an .npy with three axes is one image with channels
    np.save(tmp_path / "image.npy", image)
    assert warp(tmp_path / "image.npy", tmp_path / "o.npy", *ROTATE) == 0
    np.testing.assert_array_equal(read(tmp_path / "o.npy"), stn.rotate(image, 20, expand=True))


@pytest.mark.parametrize(
    "options",
    [
        {"zarr_format": 2},
        {"shards": (8, 20, 30)},
        {"chunks": 11},
        {"dtype": ">u2"},
    ],
    ids=str,
)
def test_kinds_of_zarr(options, tmp_path):
    array = STACKS["NHW"].astype(options.pop("dtype", "u1"))
    given = write_zarr(tmp_path / "in.zarr", array, **options)
    assert warp(given, tmp_path / "out.zarr", *ROTATE) == 0
    np.testing.assert_array_equal(read(tmp_path / "out.zarr"), expected(STACKS["NHW"], "NHW"))


def test_a_stack_keeps_its_chunks_and_large_ones_are_divided(tmp_path, monkeypatch):
    array = STACKS["NHW"]
    tiles = zarr.create_array(tmp_path / "in.zarr", shape=array.shape, dtype="u1",
                              chunks=(3, 8, 16))  # fmt: skip
    tiles[:] = array
    assert warp(tmp_path / "in.zarr", tmp_path / "a.zarr", *ROTATE) == 0
    assert zarr.open_array(tmp_path / "a.zarr").chunks == (3, 8, 16)
    monkeypatch.setattr(image_stacks, "CHUNK_BYTES", 4000)
    assert warp(tmp_path / "in.zarr", tmp_path / "b.zarr", *ROTATE) == 0
    assert zarr.open_array(tmp_path / "b.zarr").chunks == (2, 8, 16)
    np.testing.assert_array_equal(read(tmp_path / "b.zarr"), expected(array, "NHW"))


@pytest.mark.parametrize("target", ["out.zarr", "out.npy"])
def test_an_empty_stack(target, tmp_path):
    np.save(tmp_path / "in.npy", STACKS["NHWC"][:0])
    assert warp(tmp_path / "in.npy", tmp_path / target, "--size", "4x5") == 0
    assert read(tmp_path / target).shape == (0, 5, 4, 3)


# --- Nothing is lost, and no file is incomplete ---------------------------------------------------


@pytest.mark.parametrize("target", ["out.zarr", "out.npy"])
def test_nothing_is_overwritten_without_force(target, tmp_path, capsys):
    given, out = write_zarr(tmp_path / "in.zarr", STACKS["NHW"]), tmp_path / target
    assert warp(given, out, "--scale", 2) == 0
    before = read(out)
    assert warp(given, out, "--rotate", 20) == 2
    assert "--force" in capsys.readouterr().err.splitlines()[-1]
    np.testing.assert_array_equal(read(out), before)
    assert warp(given, out, *ROTATE, "--force") == 0
    np.testing.assert_array_equal(read(out), expected(STACKS["NHW"], "NHW"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", target]


def test_a_stack_may_be_overwritten_by_itself(tmp_path):
    given = write_zarr(tmp_path / "in.zarr", STACKS["NHW"])
    assert warp(given, given, *ROTATE, "--force") == 0
    np.testing.assert_array_equal(read(given), expected(STACKS["NHW"], "NHW"))


def test_a_folder_that_is_not_an_array_is_not_overwritten(tmp_path, capsys):
    given = write_zarr(tmp_path / "in.zarr", STACKS["NHW"])
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "letters.txt").write_text("dear")
    assert warp(given, tmp_path / "mine.zarr", *ROTATE, "--force") == 2
    assert "not a Zarr array; it is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "mine.zarr" / "letters.txt").read_text() == "dear"


@pytest.mark.parametrize("target", ["out.zarr", "out.npy"])
def test_after_a_damaged_chunk_no_output_is_left(target, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(image_stacks, "TASK_BYTES", 1)
    given = write_zarr(tmp_path / "in.zarr", STACKS["NHW"])
    chunk = given / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    assert warp(given, tmp_path / "new" / target, *ROTATE) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"numba-stn: {given}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr"]


STOPPED = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' background jobs ignore it
from numba_stn import cli
from numba_stn.distributed import image_stacks as stacks
stacks.TASK_BYTES, original = 1, stacks.write_images
def write_images(path, start, images):
    original(path, start, images)
    if start >= 4:
        os.kill(os.getpid(), signal.{})
        time.sleep(1)
stacks.write_images = write_images
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("sign", ["SIGINT", "SIGKILL"])
@pytest.mark.parametrize("target", ["out.zarr", "out.npy"])
def test_after_a_stop_there_is_no_output(sign, target, tmp_path):
    given, out = write_zarr(tmp_path / "in.zarr", STACKS["NHW"]), tmp_path / target
    command = [sys.executable, "-c", STOPPED.format(sign), "warp", str(given), str(out)]
    done = subprocess.run([*command, "--rotate", "20"], capture_output=True, text=True)
    assert done.returncode == (130 if sign == "SIGINT" else -signal.SIGKILL), done.stderr
    assert not out.exists()
    left = [path.name for path in tmp_path.iterdir() if path != given]
    assert all(name.startswith(".") for name in left)
    assert not left or sign == "SIGKILL"


def test_a_late_worker_leaves_nothing_behind(tmp_path, monkeypatch):
    """A worker that was given up writes into an array that is removed before or meanwhile."""
    path = write_zarr(tmp_path / "x.zarr", STACKS["NHW"])
    original = image_stacks._open_zarr

    class Removed:
        def __init__(self, array):
            self.array = array

        def __setitem__(self, where, images):
            os.rename(path, tmp_path / "elsewhere.zarr")
            self.array[where] = images

    monkeypatch.setattr(image_stacks, "_open_zarr", lambda *args: Removed(original(*args)))
    image_stacks.write_images(path, 4, STACKS["NHW"][:4])
    assert [found.name for found in tmp_path.iterdir()] == ["elsewhere.zarr"]
    monkeypatch.setattr(image_stacks, "_open_zarr", original)
    with pytest.raises(image_stacks.FileError):
        image_stacks.write_images(path, 4, STACKS["NHW"][:4])
    assert not path.exists()


# --- Bad input ------------------------------------------------------------------------------------


def no_zarr(folder):
    (folder / "in.zarr").mkdir()


def a_file(folder):
    (folder / "in.zarr").write_text("not a stack")


def a_group(folder):
    zarr.create_group(folder / "in.zarr")
    write_zarr(folder / "in.zarr" / "fine", STACKS["NHW"])


def garbled(folder):
    write_zarr(folder / "in.zarr", STACKS["NHW"])
    text = (folder / "in.zarr" / "zarr.json").read_text()
    (folder / "in.zarr" / "zarr.json").write_text(text[: len(text) // 2])


def flat(folder):
    write_zarr(folder / "in.zarr", STACKS["NHW"][0])


def complex_numbers(folder):
    write_zarr(folder / "in.zarr", STACKS["NHW"].astype(np.complex64))


def no_pixels(folder):
    zarr.create_array(folder / "in.zarr", shape=(3, 0, 5), dtype="u1", chunks=(1, 1, 5))


def nothing(folder):
    pass


BAD = {
    nothing: "No such file", no_zarr: "not a Zarr array", a_file: "not a Zarr array",
    a_group: "its arrays, which you name as", garbled: "a damaged one",
    flat: "got (20, 30) of uint8",
    complex_numbers: "of complex64", no_pixels: "at least one pixel",
}  # fmt: skip


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_stacks_are_reported(make, tmp_path, capsys):
    make(tmp_path)
    assert warp(tmp_path / "in.zarr", tmp_path / "new" / "out.zarr", "--rotate", 5) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"numba-stn: {tmp_path / 'in.zarr'}: ")
    assert BAD[make] in line
    assert not (tmp_path / "new").exists()


ARGUMENTS = {
    "suffix": (["in.zarr", "out.tif", "--rotate", "5"], "ends in .zarr or .npy for a stack"),
    "fill": (["in.zarr", "out.zarr", "--rotate", "5", "--fill", "1,2"], "in.zarr: fill: "),
    "big fill": (["in.zarr", "out.zarr", "--rotate", "5", "--fill", "300"], "in.zarr: fill: "),
    "axes": (["in.zarr", "out.zarr", "--rotate", "5", "--axes", "NHWC"], "expected a stack NHWC"),
    "an image's axes": (["im.png", "o.zarr", "--rotate", "5", "--axes", "NHW"], "expected a stack"),
    "scheduler": (["in.zarr", "o.zarr", "--size", "3x3", "--scheduler", "there"], "found no Dask"),
    "image": (["im.png", "o.png", "--size", "3x3", "--scheduler", "there:1"], "expected a stack"),
    "singular": (["in.zarr", "o.zarr", "--corners", *"00112233"], "no three lie on a line"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_bad_arguments_are_reported(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_zarr(pathlib.Path("in.zarr"), STACKS["NHW"])
    pathlib.Path("im.png").write_bytes(b"")
    arguments, message = ARGUMENTS[name]
    assert warp(*arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["im.png", "in.zarr"]


def test_missing_zarr_is_reported(tmp_path, capsys, monkeypatch):
    write_zarr(tmp_path / "in.zarr", STACKS["NHW"])
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert warp(tmp_path / "in.zarr", tmp_path / "out.zarr", "--rotate", 5) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'pip install "numba-stn[scale]"' in line


def test_help_names_every_choice():
    from numba_stn.cli import warp as command

    assert command.AXES == image_stacks.AXES
