"""Image files: read and written by Pillow, or ``.npy`` by NumPy. Pillow is imported when needed.

An image is (H, W) or (H, W, C): grey with one channel, grey and alpha with 2, colour with 3, colour
and alpha with 4. A file is written completely or not at all.
"""

import io
import logging
import math
import os
import pathlib
import textwrap
import warnings
from dataclasses import dataclass

import numpy as np

from ..utils.atomic_write import write_atomically

# Pillow's modes that are read, and the mode, an array of pixels, that each is converted to.
MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16", "I;16B": "I;16",
         "1": "L", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}  # fmt: skip
DTYPES = ("uint8", "uint16", "float32", "float64")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".npy")


# Pillow logs some errors that it also raises; without a handler they would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# Bytes that are read at a time of an array whose images are not one after another.
BLOCK_BYTES = 2**24


class FileError(ValueError):
    """A file cannot be read or written as an image; the message names file and reason."""


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
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
            if file.peek(2)[:2] == b"PK":
                raise FileError(f"{path}: an .npz, expected the array in an .npy")
            shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
            found = NpyFile(path, shape, dtype, fortran, file.tell())
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    except FileError:
        raise
    except KeyError as error:
        raise FileError(f"{path}: an .npy of the unknown version {error}") from error
    except Exception as error:  # whatever NumPy and Python's parser raise on any bytes
        raise FileError(f"{path}: not an array, or truncated: {_short(error)}") from error
    if dtype.kind not in "biufc" or any(side < 0 for side in shape):
        raise FileError(f"{path}: expected an array of numbers, got {shape} of {dtype}")
    if (expected := found.offset + math.prod(shape) * dtype.itemsize) != size:
        raise FileError(f"{path}: not an array, or truncated: {shape} of {dtype} takes {expected} "
                        f"bytes, got {size}")  # fmt: skip
    return found


def read_image(path: pathlib.Path) -> np.ndarray:
    """Read the image in a file: uint8, uint16, or the dtype in an ``.npy``.

    The orientation in EXIF metadata is applied, and palettes are converted to colours.

    Raises
    ------
    FileError
        If it cannot be read, is truncated, has several images, or more bits than Pillow reads.
    """
    try:
        return _read_array(path) if path.suffix.lower() == ".npy" else _read_picture(path)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


def write_image(path: pathlib.Path, image: np.ndarray) -> None:
    """Write an image in the format that the file's suffix names.

    Raises
    ------
    FileError
        If the format is unknown or cannot store the image, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    file = io.BytesIO()
    if suffix == ".npy":
        np.save(file, image, allow_pickle=False)
    else:
        _encode(path, image, file)
    try:
        write_atomically(path, file.getvalue())
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


def _short(error):
    """The message of an error about a file's content, which may be long, in a part of a line."""
    return textwrap.shorten(str(error), 200) or type(error).__name__


# --- Arrays ---------------------------------------------------------------------------------------


def _read_array(path):
    """Read an ``.npy`` file."""
    array = open_npy(path)
    if array.ndim not in (2, 3) or array.dtype.name not in DTYPES:
        raise FileError(
            f"{path}: expected (H, W) or (H, W, C) of {', '.join(DTYPES)}, got "
            f"{array.shape} of {array.dtype}"
        )
    return array[:]


# --- Pictures -------------------------------------------------------------------------------------


def _read_picture(path):
    """Read an image file by Pillow."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow: a file that it reads is read completely
        try:
            with Image.open(path) as picture:
                _check_picture(path, picture)
                picture.load()
                upright = ImageOps.exif_transpose(picture)
                return np.array(_convert(path, upright))
        except UnidentifiedImageError:
            raise FileError(f"{path}: no image format that Pillow knows") from None
        except Image.DecompressionBombError as error:
            raise FileError(f"{path}: {error}; an array in .npy may have any size") from None
        except (FileError, OSError, MemoryError):
            raise
        except Exception as error:  # whatever Pillow's decoders raise on broken files
            raise FileError(f"{path}: a broken image: {_short(error)}") from error


def _check_picture(path, picture):
    """Raise an error for files that Pillow would silently read in part."""
    if getattr(picture, "n_frames", 1) > 1:
        raise FileError(f"{path}: expected one image, got {picture.n_frames}")
    raw = [str(tile[3]) for tile in picture.tile]
    if picture.mode not in ("I;16", "I;16B") and any(";16" in each for each in raw):
        raise FileError(
            f"{path}: got 16 bits per channel, of which Pillow reads 8; expected .npy for them"
        )


def _convert(path, picture):
    """Return the picture in a mode whose pixels are the array's elements."""
    if picture.mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode not in MODES:
        raise FileError(f"{path}: expected 8 or 16 bits, grey or colour, got Pillow's mode "
                        f"{picture.mode}")  # fmt: skip
    return picture.convert(MODES[picture.mode]) if MODES[picture.mode] != picture.mode else picture


def _encode(path, image, file):
    """Write the image into an open file in the format of the path."""
    from PIL import Image

    squeezed = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    grey16 = image.dtype == np.uint16 and squeezed.ndim == 2
    channels = squeezed.shape[2] if squeezed.ndim == 3 else 1
    if not (grey16 or image.dtype == np.uint8) or channels > 4:
        raise FileError(
            f"{path}: expected uint8 with 1 to 4 channels, or uint16 with one, got {channels} "
            f"channels of {image.dtype}; .npy can store any image"
        )
    try:
        Image.fromarray(np.ascontiguousarray(squeezed)).save(file, _format(path))
    except MemoryError:
        raise
    except Exception as error:  # whatever Pillow's encoders raise on what they cannot store
        raise FileError(f"{path}: {_short(error)}") from error


def _format(path) -> str:
    """Return Pillow's name of the format."""
    from PIL import Image

    return Image.registered_extensions()[path.suffix.lower()]
