"""The files of ``numba-stn warp``: which images are read and written, and the matrix."""

import contextlib
import glob
import io
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

from .options import UsageError

# Each image's source and target.
Pairs = Sequence[tuple[pathlib.Path, pathlib.Path]]

# Characters of a matrix in a text file, at most.
MOST_TEXT = 2**16


# --- Images ---------------------------------------------------------------------------------------


def names_several(name: str) -> bool:
    """Whether a name is a folder's, or a pattern and no file's."""
    path = pathlib.Path(name)
    return path.is_dir() or (any(sign in name for sign in "*?[") and not path.exists())


def image_files(names: Sequence[str]) -> list[pathlib.Path]:
    """List the images that are named, those of folders, and those that match patterns."""
    if len(names) == 1:
        return _images_of(names[0])
    found = [_images_of(name) if names_several(name) else [pathlib.Path(name)] for name in names]
    return list(dict.fromkeys(path for paths in found for path in paths))


def _images_of(name):
    """List the images of a folder, or those that match a pattern."""
    from ..images.files import SUFFIXES

    source = pathlib.Path(name)
    paths = source.iterdir() if source.is_dir() else map(pathlib.Path, glob.glob(name))
    found = sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UsageError(f"{name}: found no image; expected file names that end in "
                         f"{', '.join(SUFFIXES)}")  # fmt: skip
    return found


def check_folder(folder: pathlib.Path, count: int) -> None:
    """Raise if the output of several images is a file, or has a file's name."""
    from ..images.files import SUFFIXES

    if not folder.is_dir() and (folder.exists() or folder.suffix.lower() in SUFFIXES):
        raise UsageError(f"{folder}: expected a folder for the output of {count} image"
                         f"{'s' * (count != 1)}, got a file name")  # fmt: skip


def check_inputs_remain(pairs: Pairs, matrix: str | None) -> None:
    """Raise if an output is also an input: a run that was stopped could not be repeated."""
    inputs = {}
    for source in [*(source for source, _ in pairs), *([pathlib.Path(matrix)] if matrix else [])]:
        with contextlib.suppress(OSError):
            inputs[_identity(source)] = source
    for source, target in pairs:
        with contextlib.suppress(OSError):
            if found := inputs.get(_identity(target)):
                raise UsageError(f"{target}: would be written for {source}, but is the input "
                                 f"{found}; expected another output folder")  # fmt: skip


def _identity(path):
    found = os.stat(path)
    return found.st_dev, found.st_ino


# --- The matrix -----------------------------------------------------------------------------------


def read_matrix(name: str, convention: str | None) -> Any:
    """Read a file's matrix and convert it to one from input to output pixels."""
    from ..transforms.matrices import from_opencv, from_skimage, to_skimage

    try:
        matrix = _read_npy_matrix(name) if name.endswith(".npy") else _read_text_matrix(name)
    except OSError as error:
        raise UsageError(f"--matrix {name}: {error.strerror or error}") from error
    except (ValueError, UserWarning) as error:
        raise UsageError(f"--matrix {name}: expected 2 or 3 rows of 3 numbers: {error}") from error
    try:
        inverse = to_skimage(from_opencv(from_skimage(matrix)))  # raises if there is no inverse
        return to_skimage(matrix) if convention == "opencv" else inverse
    except (ValueError, TypeError) as error:
        text = str(error).split(": ", 1)[-1]  # without the name of the function's argument
        raise UsageError(f"--matrix {name}: {text}") from error


def _read_npy_matrix(name):
    from ..images.files import FileError, open_npy

    try:
        found = open_npy(pathlib.Path(name))
        if found.ndim != 2 or max(found.shape) > 3:
            raise UsageError(f"--matrix {name}: expected 2 or 3 rows of 3 numbers, got an array "
                             f"{found.shape}")  # fmt: skip
        return found[:]
    except FileError as error:
        raise UsageError(f"--matrix {error}") from error


def _read_text_matrix(name):
    """Read a text file; NumPy is given its text, because it would also fetch URLs."""
    import numpy as np

    with open(name) as file:
        text = file.read(MOST_TEXT + 1)
    if len(text) > MOST_TEXT:
        raise ValueError("the file is too long")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # loadtxt warns if there are no numbers
        return np.loadtxt(io.StringIO(text))
