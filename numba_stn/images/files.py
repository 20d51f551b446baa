"""Image files: pictures by Pillow, other TIFF by tifffile, ``.npy`` and ``.npz`` by NumPy.

An image is (H, W) or (H, W, C): grey with one channel, grey and alpha with 2, colour with 3, colour
and alpha with 4. A file is written completely or not at all.
"""

import io
import pathlib
from typing import NamedTuple

import numpy as np

from ..utils.atomic_write import write_atomically
from .file_error import FileError
from .metadata import Metadata
from .npy_files import NpyFile, encode_npz, open_npy, read_npz
from .pictures import can_write, encode_picture, read_picture
from .tiff_files import SUFFIXES as TIFF_SUFFIXES
from .tiff_files import encode_tiff, read_tiff

__all__ = ["DTYPES", "SUFFIXES", "FileError", "ImageFile", "Metadata", "NpyFile", "open_npy",
           "read_file", "read_image", "write_image"]  # fmt: skip

DTYPES = ("uint8", "uint16", "float32", "float64")
# Those of an image in a file, which warp_image takes.
IMAGE_DTYPES = (*DTYPES, "bool", "int8", "int16", "int32", "uint32", "int64", "uint64", "float16",
                "complex64", "complex128")  # fmt: skip
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".npy", ".npz")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")

_CHANNELS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}


class ImageFile(NamedTuple):
    """The content of an image file."""

    pixels: np.ndarray
    metadata: Metadata


def read_image(path: pathlib.Path, allow_large: bool = False) -> np.ndarray:
    """Read the image in a file, in native byte order; see :func:`read_file`."""
    return read_file(path, allow_large).pixels


def read_file(path: pathlib.Path, allow_large: bool = False) -> ImageFile:
    """Read the image in a file, and the metadata that an output file can keep.

    The orientation in EXIF metadata is applied, and palettes are converted to colours.

    Raises
    ------
    FileError
        If it cannot be read, is truncated, has several images, more bits than its reader reads, or,
        without ``allow_large``, more than 178,956,970 pixels.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".npy", ".npz"):
            return ImageFile(_read_array(path), Metadata())
        read = read_tiff if suffix in TIFF_SUFFIXES else read_picture
        pixels, metadata = read(path, allow_large)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    return ImageFile(_native(pixels), metadata)


def _read_array(path):
    """Read an ``.npy`` or ``.npz`` file."""
    array = read_npz(path) if path.suffix.lower() == ".npz" else open_npy(path)
    if array.ndim not in (2, 3) or array.dtype.name not in IMAGE_DTYPES:
        raise FileError(
            f"{path}: expected (H, W) or (H, W, C) of {', '.join(IMAGE_DTYPES)}, got "
            f"{array.shape} of {array.dtype}"
        )
    return _native(array[:])


def _native(pixels):
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def write_image(path: pathlib.Path, image: np.ndarray, metadata: Metadata | None = None,
                quality: int | None = None) -> str:  # fmt: skip
    """Write an image in the format that the file's suffix names.

    Parameters
    ----------
    path : pathlib.Path
    image : (H, W) or (H, W, C) array
    metadata : Metadata, optional
        Of the input file. What the format has no place for is left out.
    quality : int, optional
        From 1 to 100, of a JPEG or WebP. By default, a JPEG has that of an input JPEG, a WebP from
        a lossless input is lossless, and all others have 95.

    Returns
    -------
    text : str
        What was written, in a line.

    Raises
    ------
    FileError
        If the format is unknown or cannot store the image, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    file = io.BytesIO()
    remarks = _encode(path, image, file, metadata or Metadata(), quality)
    try:
        write_atomically(path, file.getvalue())
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    return ", ".join([describe(image), *remarks])


def describe(image: np.ndarray) -> str:
    """The size, channels and dtype of an image, in words."""
    channels = image.shape[2] if image.ndim == 3 else 1
    named = _CHANNELS.get(channels, f"{channels} channels")
    return f"{image.shape[1]} x {image.shape[0]} pixels, {named}, {image.dtype}"


def _encode(path, image, file, metadata, quality):
    """Write an image into an open file in the format of the path; returns remarks about it."""
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        if suffix == ".npz":
            encode_npz(file, image)
        else:
            np.save(file, image, allow_pickle=False)
        lost = ", ".join(metadata.names())
        return [f"without {lost}"] if lost else []
    squeezed = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if can_write(squeezed):
        return encode_picture(path, squeezed, file, metadata, quality)
    if suffix in TIFF_SUFFIXES:
        return encode_tiff(path, squeezed, file, metadata)
    channels = squeezed.shape[2] if squeezed.ndim == 3 else 1
    raise FileError(
        f"{path}: expected uint8 with 1 to 4 channels, or uint16 with one, got {channels} "
        f"channels of {image.dtype}; .tif and .npy can store any image"
    )
