"""Warp stacks of images that need not fit into memory: Zarr arrays, and arrays in ``.npy`` files.

A stack is (N, H, W), (N, H, W, C) or (N, C, H, W), as its axes say, for instance "NHWC". A few
images are read and warped at a time, each as :func:`numba_stn.warp_image` warps it. The output is
written into a workspace (:mod:`numba_stn.utils.atomic_write`) and renamed when it is complete. This
module imports Zarr.
"""

import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..images.files import IMAGE_DTYPES, FileError, Metadata, NpyFile, open_npy
from ..images.tiff_files import SUFFIXES as TIFF_SUFFIXES
from ..images.tiff_files import TiffStack, create_tiff, has_pages, open_tiff_stack, write_pages
from ..images.warp_image import warp_image
from ..utils.atomic_write import is_stream, remove_late, replace_file, replace_folder

AXES = ("NHW", "NHWC", "NCHW")
SUFFIXES = (".zarr", ".npy", *TIFF_SUFFIXES)

# Size of a chunk at most, and of a task about: bytes of the images before and after the warp. This
# is much less than a worker's memory, and much more work than the scheduling of a task.
CHUNK_BYTES, TASK_BYTES = 2**25, 2**26

# Bytes of a stack at most: more is damaged metadata, and would be millions of tasks.
MOST_BYTES = 2**48

# Files that mark a folder as a Zarr array or group; the files that an array may have; and the names
# of its chunks in formats 2 and 3, with points or slashes, and of those that are not complete.
_ZARR_MARKERS = ("zarr.json", ".zarray", ".zgroup")
_ARRAY_FILES = ("zarr.json", ".zarray", ".zattrs")
_CHUNK = re.compile(r"c|(c[./])?\d+([./]\d+)*|.*\.[0-9a-f]{32}\.partial")


class Stack(NamedTuple):
    """A stack's file: axes, shape, dtype, chunk shape (None: not divided), and metadata."""

    path: pathlib.Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None
    metadata: Metadata = Metadata()

    @property
    def sides(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[self.axes.index("H")], self.shape[self.axes.index("W")]

    @property
    def channels(self) -> int | None:
        """C, or None without such an axis."""
        return self.shape[self.axes.index("C")] if "C" in self.axes else None

    def shape_with(self, sides: tuple[int, int]) -> tuple[int, ...]:
        """The stack's shape with other image sides (H, W)."""
        lengths = dict(zip(self.axes, self.shape, strict=True)) | {"H": sides[0], "W": sides[1]}
        return tuple(lengths[axis] for axis in self.axes)


class WarpJob(NamedTuple):
    """The warp of a stack from one file to another: all that a task needs to know."""

    source: Stack
    target: pathlib.Path
    chunk: int
    matrix: np.ndarray
    sides: tuple[int, int]
    options: dict[str, Any]


# --- Reading --------------------------------------------------------------------------------------


def is_zarr(path: pathlib.Path) -> bool:
    """Whether a path is a Zarr array's, by its name or its content."""
    return path.suffix.lower() == ".zarr" or _has_marker(path, _ZARR_MARKERS)


def _has_marker(path, markers):
    return any(os.path.isfile(path / marker) for marker in markers)


def is_stack(path: pathlib.Path, axes: str | None = None) -> bool:
    """Whether a file is a stack.

    That is a Zarr array, an ``.npy`` with four axes, a TIFF with several pages, or, with ``axes``,
    any file.
    """
    if is_zarr(path) or axes:
        return True
    if path.suffix.lower() in TIFF_SUFFIXES:
        return has_pages(path)
    try:
        return path.suffix.lower() == ".npy" and open_npy(path).ndim == 4
    except FileError:
        return False


def describe_stack(path: pathlib.Path, axes: str | None = None) -> Stack:
    """Describe a stack's file without reading its images.

    Raises
    ------
    FileError
        If it cannot be read, or its shape or dtype is not that of a stack.
    ImportError
        If Zarr is missing.
    """
    path = path.absolute()
    array = _open(path)
    axes = axes or {3: "NHW", 4: "NHWC"}.get(array.ndim, "NHW")
    if array.ndim != len(axes) or array.dtype.name not in IMAGE_DTYPES:
        wanted = axes if array.ndim in (3, 4) else "NHW, NHWC or NCHW"
        raise FileError(
            f"{path}: expected a stack {wanted} of {', '.join(IMAGE_DTYPES)}, got {array.shape} of "
            f"{array.dtype}"
        )
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    metadata = getattr(array, "metadata", None)
    stack = Stack(path, axes, array.shape, array.dtype, chunks,
                  metadata if isinstance(metadata, Metadata) else Metadata())  # fmt: skip
    if not all(stack.sides):
        raise FileError(f"{path}: expected images of at least one pixel, got {array.shape}")
    if math.prod(array.shape) * array.dtype.itemsize > MOST_BYTES:
        raise FileError(f"{path}: expected at most {MOST_BYTES} bytes of numbers, got "
                        f"{array.shape} of {array.dtype}")  # fmt: skip
    return stack


def _open(path) -> NpyFile | TiffStack | Any:
    """Open a stack, from which images are read as from an array."""
    if is_zarr(path):
        return _open_zarr(path)
    if path.suffix.lower() in TIFF_SUFFIXES:
        return open_tiff_stack(path)
    if path.suffix.lower() != ".npy":
        raise FileError(f"{path}: expected a stack in .zarr, .npy or .tif")
    return open_npy(path)


def _open_zarr(path, mode="r"):
    import zarr

    if not path.exists():
        raise FileError(f"{path}: No such file or directory")
    try:
        return zarr.open_array(path, mode=mode)
    except Exception as error:  # whatever Zarr raises on any metadata
        raise FileError(f"{path}: {_describe_non_array(path, error)}") from error


def _read(array, path, images):
    """Read images of an open stack."""
    try:
        return np.asarray(array[images])
    except (FileError, MemoryError):
        raise
    except Exception as error:  # whatever Zarr and its codecs raise on any content
        raise FileError(f"{path}: cannot be read: {error}") from error


def _describe_non_array(path, error):
    """Say what a path has instead of a Zarr array."""
    import zarr

    if not _has_marker(path, _ZARR_MARKERS):
        return f"not a Zarr array: expected {' or '.join(_ZARR_MARKERS[:2])} in it"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Zarr warns of what is no part of a group
            names = ", ".join(sorted(zarr.open_group(path, mode="r").array_keys())) or "none"
    except Exception:
        return f"not a Zarr array, or a damaged one: {error}".replace("\n", " ")
    return f"a Zarr group, expected an array; its arrays, which you name as {path}/NAME: {names}"


@contextlib.contextmanager
def _file_errors(path):
    """Raise the system's errors as :class:`FileError`, with the file's name."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


# --- Writing --------------------------------------------------------------------------------------


@contextlib.contextmanager
def create_stack(path: pathlib.Path, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...],
                 metadata: Metadata = Metadata()) -> Iterator[pathlib.Path]:  # noqa: B008 # fmt: skip
    """Create an empty stack in a workspace, which becomes ``path`` at the end.

    Yields the path there, for :func:`write_images`. After an error, or Ctrl-C, nothing is left.

    Raises
    ------
    FileError
        If it cannot be written, or ``path`` is something else than a stack of its kind.
    """
    path = path.resolve()
    as_zarr = path.suffix.lower() == ".zarr"
    _check_replaceable(path, as_zarr)
    with _file_errors(path), (replace_folder if as_zarr else replace_file)(path) as new:
        if path.suffix.lower() in TIFF_SUFFIXES:
            create_tiff(new, shape, dtype.newbyteorder("="), metadata)
        else:
            (_create_zarr if as_zarr else _create_npy)(new, shape, dtype, chunks)
        yield new
        for left in new.rglob("*.partial"):  # left by a worker that was killed while writing
            left.unlink()
        _check_replaceable(path, as_zarr)  # once more, for the warp may have taken hours


def _check_replaceable(path, as_zarr):
    """Raise if a stack at this path would replace anything except a stack of its kind."""
    for parent in path.parents:
        if _is_array(parent):
            raise FileError(f"{path}: expected a path outside of the Zarr array {parent}")
    if not path.exists():
        return
    if is_stream(path) or path.is_dir() != as_zarr:
        raise FileError(f"{path}: {'not a Zarr array' if as_zarr else 'not a file'}; it is not "
                        f"overwritten")  # fmt: skip
    if as_zarr and not _is_array(path):
        raise FileError(f"{path}: a folder that is not a Zarr array; it is not overwritten")
    if as_zarr and (foreign := _foreign_file(path)):
        raise FileError(f"{path}: a Zarr array with other files in it, such as {foreign}; it is "
                        f"not overwritten")  # fmt: skip


def _is_array(path):
    """Whether a folder is a Zarr array, and not a group."""
    if _has_marker(path, (".zgroup",)):
        return False
    try:
        content = json.loads((path / "zarr.json").read_bytes())
    except FileNotFoundError:
        return _has_marker(path, (".zarray",))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("node_type") == "array"


def _foreign_file(path):
    """A file in an array's folder that is not the array's; None if there is none."""
    for folder, _, names in os.walk(path):
        for file in names:
            name = pathlib.Path(folder, file).relative_to(path).as_posix()
            if name not in _ARRAY_FILES and not _CHUNK.fullmatch(name):
                return name
    return None


def _create_zarr(path, shape, dtype, chunks):
    import zarr

    zarr.create_array(path, shape=shape, dtype=dtype.newbyteorder("="), chunks=chunks)


def _create_npy(path, shape, dtype, chunks):
    """Write the header, and reserve the space for the numbers."""
    header = {"descr": dtype.newbyteorder("=").str, "fortran_order": False, "shape": shape}
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * dtype.itemsize)


def write_images(path: pathlib.Path, start: int, images: np.ndarray) -> None:
    """Write images into an existing stack, from index ``start`` on.

    A worker that was given up may call this after the stack was removed. Then nothing is left
    behind.
    """
    if is_zarr(path):
        _open_zarr(path, "r+")[start : start + len(images)] = images
        if not (path / _ZARR_MARKERS[0]).is_file():
            shutil.rmtree(path, ignore_errors=True)
            remove_late(path)
        return
    if path.suffix.lower() in TIFF_SUFFIXES:
        write_pages(path, start, images)
        return
    with path.open("r+b") as file:  # not a memory map: a full disk would kill the process
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(start * images[:1].nbytes, os.SEEK_CUR)
        file.write(np.ascontiguousarray(images).data)


# --- Warping --------------------------------------------------------------------------------------


def warp_images(images: np.ndarray, axes: str, matrix: np.ndarray, sides: tuple[int, int],
                **options: Any) -> np.ndarray:  # fmt: skip
    """Warp images of a stack (n, ...), each by :func:`numba_stn.warp_image` with these options."""
    last = np.moveaxis(images, 1, -1) if axes == "NCHW" else images
    native = np.ascontiguousarray(last, last.dtype.newbyteorder("="))
    out = np.empty((len(native), *sides, *native.shape[3:]), native.dtype)
    for image, result in zip(native, out, strict=True):
        warp_image(image, matrix, sides, out=result, **options)
    return np.moveaxis(out, -1, 1) if axes == "NCHW" else out


def check_options(stack: Stack, matrix: np.ndarray, **options: Any) -> None:
    """Raise the errors that warping the stack would raise, before anything is read or written."""
    channels = () if stack.channels is None else (stack.channels,)
    image = np.zeros((1, 1, *channels), stack.dtype.newbyteorder("="))
    warp_image(image, matrix, **options)


def chunk_shape(stack: Stack, sides: tuple[int, int]) -> tuple[int, ...]:
    """Chunk shape of the warped stack: the source's, with at most CHUNK_BYTES of images."""
    shape = stack.shape_with(sides)
    most = max(1, CHUNK_BYTES // _bytes_per_image(stack, sides))
    own = stack.chunks or (most, *shape[1:])
    limited = (min(own[0], most), *own[1:])
    return tuple(max(1, min(chunk, side)) for chunk, side in zip(limited, shape, strict=True))


def task_ranges(stack: Stack, sides: tuple[int, int], chunk: int) -> list[tuple[int, int]]:
    """Range (start, stop) of each task's images: whole chunks, so that no two tasks share one."""
    length = max(1, TASK_BYTES // (_bytes_per_image(stack, sides) * chunk)) * chunk
    count = stack.shape[0]
    return [(start, min(start + length, count)) for start in range(0, count, length)]


def _bytes_per_image(stack, sides):
    """Bytes of an image before and after the warp, together."""
    elements = sum(int(np.prod(shape[1:])) for shape in (stack.shape, stack.shape_with(sides)))
    return max(1, elements * stack.dtype.itemsize)


def warp_range(job: WarpJob, images: tuple[int, int]) -> int:
    """The task: warp a range of images, one chunk at a time; returns the number of images."""
    start, stop = images
    array = _open(job.source.path)
    if (array.shape, array.dtype) != (job.source.shape, job.source.dtype):
        raise FileError(f"{job.source.path}: changed while it is read")
    for first in range(start, stop, job.chunk):
        chunk = _read(array, job.source.path, slice(first, min(first + job.chunk, stop)))
        result = warp_images(chunk, job.source.axes, job.matrix, job.sides, **job.options)
        write_images(job.target, first, result)
    return stop - start


def warp_stack(
    source: Stack,
    target: pathlib.Path,
    matrix: np.ndarray,
    sides: tuple[int, int],
    compute: Callable[[Callable, list[dict]], Iterator[int]],
    **options: Any,
) -> Generator[int, None, None]:
    """Warp a stack into a file; yields the number of images of each task that is done.

    Parameters
    ----------
    source : Stack
    target : pathlib.Path
        Ends in ``.zarr`` or ``.npy``. An existing stack is overwritten.
    matrix : (2, 3) or (3, 3) array
        From output to input pixels, as for :func:`numba_stn.warp_image`.
    sides : (H, W)
        Of the output images.
    compute : callable
        ``compute(function, calls)`` calls the function with the keywords of each dictionary in a
        list, in any order, on any threads or machines, and yields the results as they come; see
        :mod:`.cluster`.
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
        raise FileError(f"{target}: expected a name that ends in one of {', '.join(SUFFIXES)} "
                        f"for a stack")  # fmt: skip
    if target.suffix.lower() in TIFF_SUFFIXES and source.axes == "NCHW":
        raise FileError(f"{target}: expected axes NHW or NHWC for a TIFF, got NCHW")
    check_options(source, matrix, **options)
    chunks = chunk_shape(source, sides)
    with create_stack(target, source.shape_with(sides), source.dtype, chunks,
                      source.metadata) as temporary:  # fmt: skip
        source = source._replace(metadata=Metadata())  # which workers do not need
        job = WarpJob(source, temporary, chunks[0], matrix, sides, options)
        ranges = task_ranges(source, sides, chunks[0])
        yield from compute(warp_range, [{"job": job, "images": images} for images in ranges])
