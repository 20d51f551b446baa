"""``numba-stn warp`` on stacks: it agrees with warp_image, and writes files whole or not at all."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import numba_stn as stn
from numba_stn import cli
from numba_stn.distributed import image_stacks, stack_files

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


def a_folder_of_letters(path):
    path.mkdir()
    (path / "letters.txt").write_text("dear")


def a_group_of_format_3(path):
    zarr.create_group(path)
    write_zarr(path / "fine", STACKS["NHW"])


def a_group_of_format_2(path):
    zarr.create_group(path, zarr_format=2)
    write_zarr(path / "fine", STACKS["NHW"], zarr_format=2)


def an_array_with_letters(path):
    write_zarr(path, STACKS["NHW"])
    (path / "c" / "letters.txt").write_text("dear")


def an_array_with_an_array(path):
    write_zarr(path, STACKS["NHW"], zarr_format=2)
    write_zarr(path / "inner", STACKS["NHW"], zarr_format=2)


def a_damaged_array(path):
    write_zarr(path, STACKS["NHW"])
    (path / "zarr.json").write_text("[" * 100_000)


def a_file_of_this_name(path):
    path.write_text("dear")


def files_below(path):
    """The files of a folder, or the file, with their content."""
    return {found: found.read_bytes() for found in (path, *path.rglob("*")) if found.is_file()}


OTHERS = (a_folder_of_letters, a_group_of_format_3, a_group_of_format_2, an_array_with_letters,
          an_array_with_an_array, a_damaged_array, a_file_of_this_name)  # fmt: skip


@pytest.mark.parametrize("make", OTHERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("linked", [False, True])
def test_only_an_array_is_replaced(make, linked, tmp_path, capsys):
    given, out = write_zarr(tmp_path / "in.zarr", STACKS["NHW"]), tmp_path / "mine.zarr"
    make(out)
    if linked:
        (tmp_path / "link.zarr").symlink_to(out)
    before = files_below(tmp_path)
    target = tmp_path / "link.zarr" if linked else out
    assert warp(given, target, *ROTATE, "--force") == 2
    assert "not overwritten" in capsys.readouterr().err.splitlines()[-1]
    assert files_below(tmp_path) == before


def test_a_zarr_array_is_not_replaced_by_a_file_of_numpy(tmp_path, capsys):
    given = write_zarr(tmp_path / "in.zarr", STACKS["NHW"])
    write_zarr(tmp_path / "mine.npy", STACKS["NHW"])
    before = files_below(tmp_path)
    assert warp(given, tmp_path / "mine.npy", *ROTATE, "--force") == 2
    assert "not overwritten" in capsys.readouterr().err.splitlines()[-1]
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("target", ["in.zarr/out.zarr", "in.zarr/c/out.npy"])
def test_nothing_is_written_into_an_array(target, tmp_path, capsys):
    given = write_zarr(tmp_path / "in.zarr", STACKS["NHW"])
    before = files_below(tmp_path)
    assert warp(given, tmp_path / target, *ROTATE, "--force") == 2
    assert f"outside of the Zarr array {given}" in capsys.readouterr().err.splitlines()[-1]
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("options", [{}, {"zarr_format": 2}, {"shards": (8, 20, 30)},
                                     {"chunk_key_encoding": {"name": "default", "separator": "."}},
                                     {"attributes": {"a": 1}}], ids=str)  # fmt: skip
def test_arrays_of_every_kind_are_replaced(options, tmp_path):
    given = write_zarr(tmp_path / "in.zarr", STACKS["NHW"])
    write_zarr(tmp_path / "out.zarr", STACKS["NHW"], **options)
    assert warp(given, tmp_path / "out.zarr", *ROTATE, "--force") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.zarr"), expected(STACKS["NHW"], "NHW"))


def test_a_group_that_took_the_place_meanwhile_is_not_replaced(tmp_path, capsys, monkeypatch):
    given, out = write_zarr(tmp_path / "in.zarr", STACKS["NHW"]), tmp_path / "out.zarr"
    original = image_stacks.write_images

    def write_images(*args):
        original(*args)
        if not out.exists():
            a_group_of_format_3(out)

    monkeypatch.setattr(image_stacks, "write_images", write_images)
    assert warp(given, out, *ROTATE) == 2
    assert "not overwritten" in capsys.readouterr().err.splitlines()[-1]
    np.testing.assert_array_equal(read_group(out), STACKS["NHW"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]


def read_group(path):
    return zarr.open_group(path, mode="r")["fine"][:]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_arrays_of_numpy_in_both_orders(order, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(image_stacks, "TASK_BYTES", 1)
    array = STACKS["NHWC"].astype(dtype, order=order)
    np.save(tmp_path / "in.npy", array)
    assert warp(tmp_path / "in.npy", tmp_path / "out.npy", *ROTATE) == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(STACKS["NHWC"], "NHWC"))


SHRINKS = """
import os, sys
from numba_stn import cli
from numba_stn.distributed import image_stacks as stacks
stacks.TASK_BYTES, stacks.CHUNK_BYTES, original = 1, 2000, stacks.warp_images
def warp_images(*args, **options):
    os.truncate(sys.argv[2], 5000)
    return original(*args, **options)
stacks.warp_images = warp_images
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(order, tmp_path):
    given, out = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(given, np.asarray(STACKS["NHW"].repeat(3, 0), order=order))
    command = [sys.executable, "-c", SHRINKS, "warp", str(given), str(out), "--rotate", "20"]
    done = subprocess.run([*command, "--axes", "NHW"], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"numba-stn: {given}: ")
    assert "truncated" in last
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


def test_a_source_that_is_replaced_while_it_is_read_is_an_error(tmp_path, capsys, monkeypatch):
    given, other, original = tmp_path / "in.npy", tmp_path / "other.npy", image_stacks.warp_images
    np.save(given, STACKS["NHWC"])
    np.save(other, STACKS["NHWC"][:, :-1])
    monkeypatch.setattr(image_stacks, "TASK_BYTES", 1)
    monkeypatch.setattr(image_stacks, "CHUNK_BYTES", 12000)  # one image, before and after

    def warp_images(*args, **options):
        with contextlib.suppress(FileNotFoundError):  # another task replaced it
            other.replace(given)  # at once: no task reads half a file
        return original(*args, **options)

    monkeypatch.setattr(image_stacks, "warp_images", warp_images)
    assert warp(given, tmp_path / "out.npy", *ROTATE) == 2
    assert "changed while it is read" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out.npy").exists()


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
def write_images(path, shape, first, images):
    original(path, shape, first, images)
    if first[0] >= 4:
        os.kill(os.getpid(), signal.{})
        time.sleep(1)
stacks.write_images = write_images
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("sign", "target"), [("SIGINT", "out.zarr"), ("SIGTERM", "out.npy"),
                                              ("SIGKILL", "out.zarr"), ("SIGKILL", "out.npy")]
                         )  # fmt: skip
def test_after_a_stop_there_is_no_output(sign, target, tmp_path, capsys):
    given, out = write_zarr(tmp_path / "in.zarr", STACKS["NHW"]), tmp_path / target
    command = [sys.executable, "-c", STOPPED.format(sign), "warp", str(given), str(out)]
    done = subprocess.run([*command, "--rotate", "20"], capture_output=True, text=True)
    number = getattr(signal, sign)
    assert done.returncode == (-number if sign == "SIGKILL" else 128 + number), done.stderr
    assert not out.exists()
    left = [path.name for path in tmp_path.iterdir() if path != given]
    assert all(name.startswith(".") for name in left)
    assert len(left) == (sign == "SIGKILL")
    for force in ([], ["--force"])[: 1 + len(left)]:  # what is left is named, and then removed
        assert warp(given, out, "--rotate", 20, *force) == 0
        assert all(name in capsys.readouterr().err for name in left)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", target]


EXCHANGED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from numba_stn import cli
original, count = os.rename, 0
def rename(one, other):
    global count
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.{})
    original(one, other)
os.rename = rename
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("sign", ["SIGTERM", "SIGKILL"])
def test_a_stop_between_the_renames_loses_nothing(sign, tmp_path, capsys):
    given = write_zarr(tmp_path / "in.zarr", STACKS["NHW"])
    before, after = STACKS["NHW"], expected(STACKS["NHW"], "NHW")
    command = ["warp", str(given), str(given), *map(str, ROTATE), "--force"]
    stopped = [sys.executable, "-c", EXCHANGED.format(sign), *command]
    done = subprocess.run(stopped, capture_output=True, text=True)
    if sign != "SIGKILL":
        assert done.returncode == 128 + getattr(signal, sign), done.stderr
        np.testing.assert_array_equal(read(given), after)
        assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]
        return
    assert not given.exists()
    (left,) = tmp_path.iterdir()
    assert warp(given, tmp_path / "out.zarr", *ROTATE) == 0
    lines = capsys.readouterr().err
    assert f"numba-stn: {given}: put back" in lines
    assert str(left) in lines
    np.testing.assert_array_equal(read(given), before)
    np.testing.assert_array_equal(read(tmp_path / "out.zarr"), after)


def test_a_late_worker_leaves_nothing_behind(tmp_path, monkeypatch):
    """A worker that was given up writes into an array that is removed before or meanwhile."""
    path = write_zarr(tmp_path / "x.zarr", STACKS["NHW"])
    original, images = stack_files._open_zarr, STACKS["NHW"]

    class Removed:
        def __init__(self, array):
            self.array = array

        def __setitem__(self, where, images):
            os.rename(path, tmp_path / "elsewhere.zarr")
            self.array[where] = images

    monkeypatch.setattr(stack_files, "_open_zarr", lambda *args: Removed(original(*args)))
    stack_files.write_images(path, images.shape, (4, 0, 0), images[:4])
    assert [found.name for found in tmp_path.iterdir()] == ["elsewhere.zarr"]
    monkeypatch.setattr(stack_files, "_open_zarr", original)
    with pytest.raises(image_stacks.FileError):
        stack_files.write_images(path, images.shape, (4, 0, 0), images[:4])
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
    write_zarr(folder / "in.zarr", STACKS["NHW"][0, 0])


def dates(folder):
    write_zarr(folder / "in.zarr", STACKS["NHW"].astype("M8[s]"))


def no_pixels(folder):
    zarr.create_array(folder / "in.zarr", shape=(3, 0, 5), dtype="u1", chunks=(1, 1, 5))


def nothing(folder):
    pass


def edited(folder, **changes):
    """An array whose metadata, in format 2, are changed."""
    write_zarr(folder / "in.zarr", STACKS["NHW"], zarr_format=2)
    path = folder / "in.zarr" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def beyond_all_memory(folder):
    edited(folder, shape=[10**30, 20, 30])


def chunks_of_nothing(folder):
    edited(folder, chunks=[4, 20, 0])


def nested(folder):
    (folder / "in.zarr").mkdir()
    (folder / "in.zarr" / "zarr.json").write_text("[" * 100_000)


def a_group_that_was_an_array(folder):
    write_zarr(folder / "in.zarr", STACKS["NHW"])
    (folder / "in.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')


BAD = {
    beyond_all_memory: "expected at most", chunks_of_nothing: "cannot be read",
    nested: "a damaged one", a_group_that_was_an_array: "its arrays, which you name as",
    nothing: "No such file", no_zarr: "not a Zarr array", a_file: "not a Zarr array",
    a_group: "its arrays, which you name as", garbled: "a damaged one",
    flat: "got (30,) of uint8",
    dates: "of datetime64", no_pixels: "at least one pixel",
}  # fmt: skip


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_stacks_are_reported(make, tmp_path, capsys):
    make(tmp_path)
    assert warp(tmp_path / "in.zarr", tmp_path / "new" / "out.zarr", "--rotate", 5) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "block/s" not in line]
    (line,) = filter(None, lines)
    assert line.startswith(f"numba-stn: {tmp_path / 'in.zarr'}: ")
    assert BAD[make] in line
    assert not (tmp_path / "new").exists()


ARGUMENTS = {
    "suffix": (
        ["in.zarr", "out.png", "--rotate", "5"],
        "ends in one of .zarr, .npy, .npz, .tif",
    ),
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
