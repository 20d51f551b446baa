"""Stacks of images in files that need not fit into memory: Zarr arrays, and arrays in ``.npy``.

A stack is (N, H, W), (N, H, W, C) or (N, C, H, W); which one, its axes say as letters. It is warped
a few images at a time, each as :func:`numba_stn.warp_image` warps it. A file is written beside its
place and put there whole. Zarr is imported here.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..images.files import DTYPES, FileError
from ..images.warp_image import warp_image

AXES = ("NHW", "NHWC", "NCHW")
SUFFIXES = (".zarr", ".npy")

# Bytes of images, read and written, that a chunk may have, and that a task should have: much less
# than a worker's memory, and much more work than it takes to hand a task out.
CHUNK, TASK = 2**25, 2**26

# What marks a folder as Zarr's.
_MARKS = ("zarr.json", ".zarray", ".zgroup")


class Stack(NamedTuple):
    """What a file holds: axes, shape, dtype, and the chunks it is kept in (None: one piece)."""

    path: pathlib.Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None

    @property
    def sides(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[self.axes.index("H")], self.shape[self.axes.index("W")]

    @property
    def channels(self) -> int | None:
        """C, if there is such an axis."""
        return self.shape[self.axes.index("C")] if "C" in self.axes else None

    def of_sides(self, sides: tuple[int, int]) -> tuple[int, ...]:
        """The shape of as many images of other sides."""
        own = dict(zip(self.axes, self.shape, strict=True)) | {"H": sides[0], "W": sides[1]}
        return tuple(own[axis] for axis in self.axes)


class Job(NamedTuple):
    """A stack's way from one file to another: all that a task must know."""

    source: Stack
    target: pathlib.Path
    chunk: int
    matrix: np.ndarray
    sides: tuple[int, int]
    options: dict[str, Any]


# --- What is in a file ----------------------------------------------------------------------------


def is_zarr(path: pathlib.Path) -> bool:
    """Whether this is meant for a Zarr array, by its name or by what lies there."""
    return path.suffix.lower() == ".zarr" or any((path / mark).is_file() for mark in _MARKS)


def is_stack(path: pathlib.Path, axes: str | None = None) -> bool:
    """Whether there is a stack: Zarr's, or an ``.npy`` of four axes, or one called so."""
    if is_zarr(path) or axes:
        return True
    try:
        return path.suffix.lower() == ".npy" and np.load(path, mmap_mode="r").ndim == 4
    except (OSError, ValueError, EOFError):
        return False


def look(path: pathlib.Path, axes: str | None = None) -> Stack:
    """What a stack's file holds; its images are not read.

    Raises
    ------
    FileError
        If it cannot be read, or its shape or dtype is no stack's.
    ImportError
        Where Zarr is missing.
    """
    path = path.absolute()
    array = _opened(path)
    axes = axes or {3: "NHW", 4: "NHWC"}.get(array.ndim, "NHW")
    if array.ndim != len(axes) or array.dtype.name not in DTYPES:
        wanted = axes if array.ndim in (3, 4) else "NHW, NHWC or NCHW"
        raise FileError(
            f"{path}: expected a stack {wanted} of {', '.join(DTYPES)}, got {array.shape} of "
            f"{array.dtype}"
        )
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    stack = Stack(path, axes, array.shape, array.dtype, chunks)
    if not all(stack.sides):
        raise FileError(f"{path}: expected images of at least one pixel, got {array.shape}")
    return stack


def _opened(path):
    return _open_zarr(path) if is_zarr(path) else _open_npy(path)


def _open_npy(path):
    if path.suffix.lower() != ".npy":
        raise FileError(f"{path}: expected a stack in .zarr or .npy")
    try:
        with _naming(path):
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileError(f"{path}: not an array, or cut off: {error}") from error


def _open_zarr(path, mode="r"):
    import zarr

    if not path.exists():
        raise FileError(f"{path}: No such file or directory")
    try:
        return zarr.open_array(path, mode=mode)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FileError(f"{path}: {_why_no_array(path, error)}") from error


def _why_no_array(path, error):
    """What is there instead of a Zarr array."""
    import zarr

    if not any((path / mark).is_file() for mark in _MARKS):
        return f"not a Zarr array: expected {' or '.join(_MARKS[:2])} in it"
    try:
        names = ", ".join(sorted(zarr.open_group(path, mode="r").array_keys())) or "none"
    except (OSError, ValueError, TypeError, KeyError):
        return f"not a Zarr array, or a damaged one: {error}".replace("\n", " ")
    return f"a Zarr group, expected an array; those in it, to be named as {path}/NAME: {names}"


@contextlib.contextmanager
def _naming(path):
    """The system's errors as ours, with the file's name."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


# --- Writing --------------------------------------------------------------------------------------


@contextlib.contextmanager
def created(path: pathlib.Path, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...]
            ) -> Iterator[pathlib.Path]:  # fmt: skip
    """An empty stack beside ``path``, to be filled by :func:`put`, and then put there.

    After an error, or Ctrl-C, nothing is left of it; after a worse end it lies there hidden.

    Raises
    ------
    FileError
        If it cannot be written, or something lies there that is no stack.
    """
    path = path.resolve()
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    if path.is_dir() and not any((path / mark).is_file() for mark in (_MARKS[0], _MARKS[1])):
        raise FileError(f"{path}: a folder that is no Zarr array; it is not overwritten")
    try:
        with _naming(path):
            (_create_zarr if is_zarr(path) else _create_npy)(beside, shape, dtype, chunks)
        yield beside
        with _naming(path):
            _settle(beside, path)
    finally:
        _remove(beside)


def _create_zarr(path, shape, dtype, chunks):
    import zarr

    zarr.create_array(path, shape=shape, dtype=dtype.newbyteorder("="), chunks=chunks)


def _create_npy(path, shape, dtype, chunks):
    """The header, and room for the numbers."""
    header = {"descr": dtype.newbyteorder("=").str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * dtype.itemsize)


def _settle(beside, path):
    """Put what is whole in its place; a folder cannot take another's, which goes aside first."""
    if not beside.is_dir():
        _remove(path) if path.is_dir() else None
        os.replace(beside, path)
        return
    for left in beside.rglob("*.partial"):  # by a worker that was killed as it wrote
        left.unlink()
    aside = beside.with_name(f"{beside.name}.old")
    if path.exists():
        os.replace(path, aside)
    os.replace(beside, path)
    _remove(aside)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def put(path: pathlib.Path, start: int, images: np.ndarray) -> None:
    """Write images into a stack from number ``start`` on.

    It must be there still: a worker that was given up may come to this late. If it goes away
    meanwhile nothing is left behind.
    """
    if is_zarr(path):
        _open_zarr(path, "r+")[start : start + len(images)] = images
        if not (path / _MARKS[0]).is_file():
            _remove(path)
        return
    with path.open("r+b") as file:  # not through a map of memory, which a full disk would kill
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(start * images[:1].nbytes, os.SEEK_CUR)
        file.write(np.ascontiguousarray(images).data)


# --- Warping --------------------------------------------------------------------------------------


def warped(images: np.ndarray, axes: str, matrix: np.ndarray, sides: tuple[int, int],
           **options: Any) -> np.ndarray:  # fmt: skip
    """Images of a stack (n, ...) as :func:`numba_stn.warp_image` warps each with these options."""
    last = np.moveaxis(images, 1, -1) if axes == "NCHW" else images
    native = np.ascontiguousarray(last, last.dtype.newbyteorder("="))
    out = np.empty((len(native), *sides, *native.shape[3:]), native.dtype)
    for image, result in zip(native, out, strict=True):
        warp_image(image, matrix, sides, out=result, **options)
    return np.moveaxis(out, -1, 1) if axes == "NCHW" else out


def check(stack: Stack, matrix: np.ndarray, **options: Any) -> None:
    """Raise what warping such images would, before anything is read or written."""
    channels = () if stack.channels is None else (stack.channels,)
    image = np.zeros((1, 1, *channels), stack.dtype.newbyteorder("="))
    warp_image(image, matrix, **options)


def chunks(stack: Stack, sides: tuple[int, int]) -> tuple[int, ...]:
    """How a warped stack is kept: chunked as its source, but none larger than is good."""
    shape = stack.of_sides(sides)
    most = max(1, CHUNK // _bytes_each(stack, sides))
    own = stack.chunks or (most, *shape[1:])
    few = (min(own[0], most), *own[1:])
    return tuple(max(1, min(chunk, side)) for chunk, side in zip(few, shape, strict=True))


def spans(stack: Stack, sides: tuple[int, int], chunk: int) -> list[tuple[int, int]]:
    """First image and end of each task's: whole chunks, so that no two tasks write to one."""
    several = max(1, TASK // (_bytes_each(stack, sides) * chunk)) * chunk
    count = stack.shape[0]
    return [(start, min(start + several, count)) for start in range(0, count, several)]


def _bytes_each(stack, sides):
    """Of an image, before and after."""
    elements = sum(int(np.prod(shape[1:])) for shape in (stack.shape, stack.of_sides(sides)))
    return max(1, elements * stack.dtype.itemsize)


def warp_span(job: Job, span: tuple[int, int]) -> int:
    """The task: some images from file to file, a chunk at a time; how many."""
    array = _open_zarr(job.source.path) if is_zarr(job.source.path) else _open_npy(job.source.path)
    for start in range(*span, job.chunk):
        images = np.asarray(array[start : min(start + job.chunk, span[1])])
        put(
            job.target, start, warped(images, job.source.axes, job.matrix, job.sides, **job.options)
        )
    return span[1] - span[0]


def warp(
    source: Stack,
    target: pathlib.Path,
    matrix: np.ndarray,
    sides: tuple[int, int],
    compute: Callable[[Callable, list[dict]], Iterator[int]],
    **options: Any,
) -> Generator[int, None, None]:
    """Warp a stack into a file; yields how many images are done, a task at a time.

    Parameters
    ----------
    source : Stack
    target : pathlib.Path
        Ends in ``.zarr`` or ``.npy``; what is there is overwritten.
    matrix : (2, 3) or (3, 3) array
        From output to input pixels, as for :func:`numba_stn.warp_image`.
    sides : (H, W)
        Of the output.
    compute : callable
        Calls a function with the keywords of each dictionary in a list, in any order, on whatever
        threads or machines, and yields the results as they come; see :mod:`.cluster`.
    **options
        As for :func:`numba_stn.warp_image`.

    Raises
    ------
    FileError
        If a file cannot be read or written.
    ValueError, TypeError
        If the options are wrong.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise FileError(f"{target}: expected a name that ends in {' or '.join(SUFFIXES)} for a "
                        f"stack")  # fmt: skip
    check(source, matrix, **options)
    division = chunks(source, sides)
    with created(target, source.of_sides(sides), source.dtype, division) as beside:
        job = Job(source, beside, division[0], matrix, sides, options)
        parts = spans(source, sides, division[0])
        yield from compute(warp_span, [{"job": job, "span": span} for span in parts])
