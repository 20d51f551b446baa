"""Arrays in ``.npy`` and ``.npz`` files, read without pickle and without a memory map."""

import contextlib
import math
import os
import pathlib
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from .file_error import FileError, shorten

# Bytes that are read at a time of an array whose images are not one after another.
BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class NpyFile:
    """The array in an ``.npy`` file, which is read in parts.

    It is not mapped: a map of a file that shrinks meanwhile kills the process.
    """

    path: pathlib.Path
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, images: slice) -> np.ndarray:
        """Read a part along the first axis.

        Raises
        ------
        FileError
            If it cannot be read, or the file has been truncated.
        """
        start, stop, _ = images.indices(self.shape[0])
        count, others = max(0, stop - start), math.prod(self.shape[1:])
        try:
            with self.path.open("rb") as file:
                if not self.fortran:
                    numbers = self._read(file, start * others, count * others)
                    return numbers.reshape(count, *self.shape[1:])
                return self._read_columns(file, start, count, others)
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror or error}") from error

    def read(self, where: tuple[slice, ...]) -> np.ndarray:
        """Read a part: a slice along each axis.

        Raises
        ------
        FileError
            If it cannot be read, or the file has been truncated.
        """
        if self.fortran:
            return self[where[0]][(slice(None), *where[1:])]
        ranges = [range(*each.indices(side)) for each, side in zip(where, self.shape, strict=True)]
        found = np.empty([len(each) for each in ranges], self.dtype)
        try:
            with self.path.open("rb") as file:
                first = [each.start for each in ranges]
                for index, element in runs_of(self.shape, first, found.shape):
                    part = found[index]
                    part[...] = self._read(file, element, part.size).reshape(part.shape)
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror or error}") from error
        return found

    def _read_columns(self, file, start, count, others):
        """Read from an array whose first axis is the one along which numbers are neighbours."""
        length = self.shape[0]
        found = np.empty((others, count), self.dtype)
        rows = max(1, BLOCK_BYTES // max(1, length * self.dtype.itemsize))
        for first in range(0, others, rows):
            part = found[first : first + rows]
            numbers = self._read(file, first * length, len(part) * length)
            part[:] = numbers.reshape(len(part), length)[:, start : start + count]
        return found.reshape(*self.shape[:0:-1], count).T

    def _read(self, file, first, count):
        """Read numbers, from this one on."""
        file.seek(self.offset + first * self.dtype.itemsize)
        found = np.fromfile(file, self.dtype, count)
        if len(found) < count:
            raise FileError(f"{self.path}: truncated while it is read")
        return found


def runs_of(
    shape: Sequence[int], first: Sequence[int], counts: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the runs of neighbouring elements of which a part of an array consists.

    Each is an index of the part, for its leading axes, and the number of the first element in the
    array. The part's first element is ``first``, and its shape ``counts``.
    """
    split = len(shape)
    while split > 1 and counts[split - 1] == shape[split - 1]:
        split -= 1
    inner = math.prod(shape[split:])
    for index in np.ndindex(*counts[: split - 1]):
        element = 0
        for k, start in enumerate(first[:split]):
            element = element * shape[k] + start + (index[k] if k < split - 1 else 0)
        yield index, element * inner


# What reads the header of each version. 3 differs from 2 only in names of fields.
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
            (3, 0): np.lib.format.read_array_header_2_0}  # fmt: skip


def open_npy(path: pathlib.Path) -> NpyFile:
    """Read the header of an ``.npy`` file.

    Raises
    ------
    FileError
        If it cannot be read, is something else, has objects, or has not the length that the header
        says.
    """
    with _errors_of(path), path.open("rb") as file:
        if file.peek(2)[:2] == b"PK":
            raise FileError(f"{path}: an .npz, expected the array in an .npy")
        return _read_header(path, file, os.fstat(file.fileno()).st_size)


def read_npz(path: pathlib.Path) -> np.ndarray:
    """Read the only array in an ``.npz`` file.

    Raises
    ------
    FileError
        If it cannot be read, has several arrays, or what :func:`open_npy` raises for.
    """
    with _errors_of(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            listed = ", ".join(name.removesuffix(".npy") for name in names[:9])
            raise FileError(f"{path}: expected one array, got {len(names)}: {shorten(listed)}")
        with archive.open(names[0]) as file:
            found = _read_header(path, file, archive.getinfo(names[0]).file_size)
            numbers = np.frombuffer(file.read(), found.dtype)
    if not found.fortran:
        return numbers.reshape(found.shape)
    return numbers.reshape(found.shape[::-1]).T


def encode_npz(file: IO[bytes], image: np.ndarray) -> None:
    """Write an image into an open file as the array ``image`` of an ``.npz``."""
    np.savez_compressed(file, image=image)


@contextlib.contextmanager
def _errors_of(path):
    """Raise whatever a file's content leads to as a :class:`FileError`."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    except (FileError, MemoryError):
        raise
    except Exception as error:  # whatever NumPy, Python's parser and zipfile raise on any bytes
        raise FileError(f"{path}: not an array, or truncated: {shorten(error)}") from error


def _read_header(path, file, size):
    """Read the header of an array that takes, with it, ``size`` bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise FileError(f"{path}: an .npy of the unknown version {version}")
        try:
            shape, fortran, dtype = _HEADERS[version](file)
        except MemoryError as error:  # Python's, of what is nested too deeply
            raise ValueError("its header is nested too deeply") from error
    if dtype.kind not in "biufc" or any(side < 0 for side in shape):
        raise FileError(f"{path}: expected an array of numbers, got {shape} of {dtype}")
    found = NpyFile(path, shape, dtype, fortran, file.tell())
    if (expected := found.offset + math.prod(shape) * dtype.itemsize) != size:
        raise FileError(f"{path}: not an array, or truncated: {shape} of {dtype} takes {expected} "
                        f"bytes, got {size}")  # fmt: skip
    return found
