"""Image files: read and written by Pillow, or ``.npy`` by NumPy. Pillow is imported when needed.

An image is (H, W) or (H, W, C): grey with one channel, grey and alpha with 2, colour with 3, colour
and alpha with 4. A file is written completely or not at all.
"""

import io
import pathlib
import warnings

import numpy as np

from ..utils.atomic_write import write_atomically

# Pillow's modes that are read, and the mode, an array of pixels, that each is converted to.
MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16", "I;16B": "I;16",
         "1": "L", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}  # fmt: skip
DTYPES = ("uint8", "uint16", "float32", "float64")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".npy")


class FileError(Exception):
    """A file cannot be read or written as an image; the message names file and reason."""


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


# --- Arrays ---------------------------------------------------------------------------------------


def _read_array(path):
    """Read an ``.npy`` file."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileError(f"{path}: not an array, or truncated: {error}") from error
    if array.ndim not in (2, 3) or array.dtype.name not in DTYPES:
        raise FileError(
            f"{path}: expected (H, W) or (H, W, C) of {', '.join(DTYPES)}, got "
            f"{array.shape} of {array.dtype}"
        )
    return array


# --- Pictures -------------------------------------------------------------------------------------


def _read_picture(path):
    """Read an image file by Pillow."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
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
        except (SyntaxError, ValueError, EOFError) as error:  # Pillow's errors for broken files
            raise FileError(f"{path}: a broken image: {error}") from error


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
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path}: {error}") from error


def _format(path) -> str:
    """Return Pillow's name of the format."""
    from PIL import Image

    return Image.registered_extensions()[path.suffix.lower()]
