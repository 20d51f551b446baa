"""Files of stacks: Zarr arrays, ``.npy``, ``.npz`` and TIFF, read and written in parts.

A part is a slice along each axis. An output is written into a workspace
(:mod:`numba_stn.utils.atomic_write`) and renamed when it is complete. Zarr is imported when needed.
"""

import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..images.files import IMAGE_DTYPES, FileError, Metadata, NpyFile, open_npy
from ..images.npy_files import read_npz, runs_of
from ..images.tiff_files import SUFFIXES as TIFF_SUFFIXES
from ..images.tiff_files import TiffStack, create_tiff, has_pages, open_tiff_stack, pages_offset
from ..utils.atomic_write import is_stream, remove_late, replace_file, replace_folder
from .stack_axes import axes_of_names, channel_axis, plane_axes

SUFFIXES = (".zarr", ".npy", ".npz", *TIFF_SUFFIXES)

# Bytes of a stack at most: more is damaged metadata, and would be millions of tasks.
MOST_BYTES = 2**48

# Files that mark a folder as a Zarr array or group; the files that an array may have; and the names
# of its chunks in formats 2 and 3, with points or slashes, and of those that are not complete.
_ZARR_MARKERS = ("zarr.json", ".zarray", ".zgroup")
_ARRAY_FILES = ("zarr.json", ".zarray", ".zattrs")
_CHUNK = re.compile(r"c|(c[./])?\d+([./]\d+)*|.*\.[0-9a-f]{32}\.partial")


class Stack(NamedTuple):
    """A stack's file: axes, shape, dtype, chunk shape (None: not divided), and metadata.

    ``attributes`` are those of a Zarr array.
    """

    path: pathlib.Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None
    metadata: Metadata = Metadata()
    attributes: dict[str, Any] | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """(H, W)."""
        rows, columns = plane_axes(self.axes)
        return self.shape[rows], self.shape[columns]

    @property
    def channels(self) -> int | None:
        """The number of colours, or None without such an axis."""
        axis = channel_axis(self.axes)
        return None if axis is None else self.shape[axis]

    @property
    def images(self) -> int:
        """The number of images."""
        own = (*plane_axes(self.axes), channel_axis(self.axes))
        return math.prod(side for k, side in enumerate(self.shape) if k not in own)

    def shape_with(self, sides: tuple[int, int]) -> tuple[int, ...]:
        """The stack's shape with other image sides (H, W)."""
        lengths = dict(enumerate(self.shape)) | dict(zip(plane_axes(self.axes), sides, strict=True))
        return tuple(lengths.values())


# --- Which files are stacks -----------------------------------------------------------------------


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
    array: Any = open_stack(path)
    shape = array.shape
    if isinstance(array, TiffStack) and axes and len(axes) == len(array.leading) + len(shape) - 1:
        shape = (*array.leading, *shape[1:])
    axes = axes or _own_axes(path, array) or {2: "YX", 3: "NHW", 4: "NHWC"}.get(len(shape), "")
    if len(shape) != len(axes) or array.dtype.name not in IMAGE_DTYPES:
        wanted = axes or "whose axes --axes names"
        raise FileError(
            f"{path}: expected a stack {wanted} of {', '.join(IMAGE_DTYPES)}, got {shape} of "
            f"{array.dtype}"
        )
    metadata = getattr(array, "metadata", None)
    stack = Stack(
        path, axes, shape, array.dtype,
        getattr(array, "shards", None) or getattr(array, "chunks", None),
        metadata if isinstance(metadata, Metadata) else Metadata(),
        dict(array.attrs) if is_zarr(path) else None,
    )  # fmt: skip
    if not all(stack.sides):
        raise FileError(f"{path}: expected images of at least one pixel, got {shape}")
    if math.prod(shape) * array.dtype.itemsize > MOST_BYTES:
        raise FileError(f"{path}: expected at most {MOST_BYTES} bytes of numbers, got "
                        f"{shape} of {array.dtype}")  # fmt: skip
    return stack


def _own_axes(path, array):
    """The axes that a Zarr array's metadata name, or those of the OME group that it is in."""
    if not is_zarr(path):
        return None
    own = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    found = [own] if own else []
    for group in list(path.parents)[:2]:
        if _has_marker(group, _ZARR_MARKERS):
            found += _ome_axes(group, path.relative_to(group).as_posix())
    for names in found:
        if isinstance(names, (list, tuple)) and (axes := axes_of_names(names, array.ndim)):
            return axes
    return None


def _ome_axes(group, name):
    """The names of the axes of an array in a group of OME-Zarr."""
    import zarr

    try:
        attributes = dict(zarr.open_group(group, mode="r").attrs)
        scales = (attributes.get("ome") or attributes)["multiscales"]
        return [
            [axis["name"] if isinstance(axis, dict) else axis for axis in scale["axes"]]
            for scale in scales
            if name in [each["path"] for each in scale["datasets"]]
        ]
    except Exception:  # whatever is there instead
        return []


# --- Reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NpzArray:
    """The array of an ``.npz``, in memory."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """Its dtype."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Its number of axes."""
        return self.array.ndim

    def __getitem__(self, where: Any) -> np.ndarray:
        """Return a part."""
        return self.array[where]


def open_stack(path: pathlib.Path) -> NpyFile | NpzArray | TiffStack | Any:
    """Open a stack."""
    suffix = path.suffix.lower()
    if is_zarr(path):
        return _open_zarr(path)
    if suffix in TIFF_SUFFIXES:
        return open_tiff_stack(path)
    if suffix == ".npz":
        return NpzArray(read_npz(path))
    if suffix != ".npy":
        raise FileError(f"{path}: expected a stack in .zarr, .npy, .npz or .tif")
    return open_npy(path)


def _open_zarr(path, mode="r"):
    import zarr

    if not path.exists():
        raise FileError(f"{path}: No such file or directory")
    try:
        return zarr.open_array(path, mode=mode)
    except Exception as error:  # whatever Zarr raises on any metadata
        raise FileError(f"{path}: {_describe_non_array(path, error)}") from error


def read_block(array: Any, stack: Stack, where: tuple[slice, ...]) -> np.ndarray:
    """Read a part of an open stack."""
    try:
        if isinstance(array, NpyFile):
            return array.read(where)
        if isinstance(array, TiffStack):
            return _read_pages(array, stack.shape, where)
        return np.asarray(array[where])
    except (FileError, MemoryError):
        raise
    except Exception as error:  # whatever Zarr and its codecs raise on any content
        raise FileError(f"{stack.path}: cannot be read: {error}") from error


def _read_pages(array, shape, where):
    """Read pages, which all but the last axes number."""
    leading = len(shape) - len(array.shape) + 1
    counts = tuple(len(range(*each.indices(side))) for each, side in zip(where, shape, strict=True))
    found = np.empty(counts, array.dtype)
    pages = np.arange(math.prod(shape[:leading])).reshape(shape[:leading])[where[:leading]]
    for index, page in np.ndenumerate(pages):
        found[index] = array[page : page + 1][0][where[leading:]]
    return found


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
def create_stack(path: pathlib.Path, like: Stack, shape: tuple[int, ...],
                 chunks: tuple[int, ...]) -> Iterator[pathlib.Path]:  # fmt: skip
    """Create an empty stack of another's dtype and metadata, which becomes ``path`` at the end.

    Yields its path in a workspace, for :func:`write_images`. After an error, or Ctrl-C, nothing is
    left.

    Raises
    ------
    FileError
        If it cannot be written, or ``path`` is something else than a stack of its kind.
    """
    path, suffix, dtype = path.resolve(), path.suffix.lower(), like.dtype.newbyteorder("=")
    as_zarr = suffix == ".zarr"
    _check_replaceable(path, as_zarr)
    with _file_errors(path), (replace_folder if as_zarr else replace_file)(path) as new:
        work = new.with_name("image.npy") if suffix == ".npz" else new
        if suffix in TIFF_SUFFIXES:
            create_tiff(new, _as_pages(like, shape), dtype, like.metadata)
        elif as_zarr:
            _create_zarr(new, like, shape, chunks)
        else:
            _create_npy(work, shape, dtype)
        yield work
        if suffix == ".npz":
            with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(work, work.name)
            work.unlink()
        for left in new.rglob("*.partial"):  # left by a worker that was killed while writing
            left.unlink()
        _check_replaceable(path, as_zarr)  # once more, for the warp may have taken hours


def check_pages(path: pathlib.Path, axes: str) -> None:
    """Raise if a stack with these axes cannot be the pages of a TIFF."""
    first = len(axes) - _page_axes(axes)
    if path.suffix.lower() in TIFF_SUFFIXES and plane_axes(axes) != (first, first + 1):
        raise FileError(f"{path}: expected axes that end with rows and columns, or with rows, "
                        f"columns and colours, such as NHW or NHWC, for a TIFF, got "
                        f"{axes}")  # fmt: skip


def _page_axes(axes):
    """The number of axes of a page: rows, columns, and colours if these are last."""
    return 3 if channel_axis(axes) == len(axes) - 1 else 2


def _as_pages(like, shape):
    """The shape (N, H, W) or (N, H, W, C) of pages."""
    own = _page_axes(like.axes)
    return (math.prod(shape[:-own]), *shape[-own:])


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


def _create_zarr(path, like, shape, chunks):
    import zarr

    zarr.create_array(path, shape=shape, dtype=like.dtype.newbyteorder("="), chunks=chunks,
                      attributes=like.attributes or {},
                      dimension_names=list(like.axes.lower()))  # fmt: skip


def _create_npy(path, shape, dtype):
    """Write the header, and reserve the space for the numbers."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + math.prod(shape) * dtype.itemsize)


def write_images(path: pathlib.Path, shape: tuple[int, ...], first: tuple[int, ...],
                 images: np.ndarray) -> None:  # fmt: skip
    """Write a part of an existing stack of this shape, whose first element is ``first``.

    A worker that was given up may call this after the stack was removed. Then nothing is left
    behind.
    """
    if is_zarr(path):
        where = tuple(slice(k, k + n) for k, n in zip(first, images.shape, strict=True))
        _open_zarr(path, "r+")[where] = images
        if not (path / _ZARR_MARKERS[0]).is_file():
            shutil.rmtree(path, ignore_errors=True)
            remove_late(path)
        return
    start = pages_offset(path) if path.suffix.lower() in TIFF_SUFFIXES else None
    # Not a memory map: a full disk would kill the process. Nor a buffer: it would also write what
    # is between two runs, as it was before other tasks wrote there.
    with path.open("r+b", buffering=0) as file:
        if start is None:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        for index, element in runs_of(shape, first, images.shape):
            file.seek(start + element * images.itemsize)
            left = memoryview(images[index].tobytes())
            while left:
                left = left[file.write(left) :]
