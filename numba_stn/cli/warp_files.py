"""The files of ``numba-stn warp``: which images are read and written, matrices and points."""

import argparse
import contextlib
import glob
import io
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .options import UsageError

# Each image's source and target.
Pairs = Sequence[tuple[pathlib.Path, pathlib.Path]]

# Characters of a text file with a matrix or points, and rows of points, at most.
MOST_TEXT, MOST_ROWS = 2**20, 2**16

_TO_SPACES = str.maketrans(",;", "  ")


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


def given_matrix(args: argparse.Namespace) -> Any:
    """The matrix of ``--matrix`` or ``--points``, from input to output pixels, or None."""
    if args.points is not None:
        return _fitted_matrix(args.points, args.fit, args.robust)
    return None if args.matrix is None else read_matrix(args.matrix, args.convention)


def _fitted_matrix(name, kind, robust):
    """Fit a map to the pairs of points in a file."""
    from ..transforms.estimation import estimate

    expected = "rows of 4 numbers X Y U V"
    pairs = _read_rows("--points", name, expected)
    if pairs.ndim != 2 or pairs.shape[1] != 4:
        raise UsageError(f"--points {name}: expected {expected}, got an array {pairs.shape}")
    kinds = {1: "translation", 2: "similarity", 3: "affine"}
    kind = kind or kinds.get(len(pairs), "projective")
    try:
        found = estimate(kind, pairs[:, :2], pairs[:, 2:], robust=robust)
    except (ValueError, TypeError) as error:
        raise UsageError(f"--points {name}: {error}") from error
    print(f"fitted {kind} to {found.inliers.sum()} of {len(pairs)} points: they are off by "
          f"{found.rms:.2f} pixels (rms)", file=sys.stderr)  # fmt: skip
    return found.matrix


def read_matrix(name: str, convention: str | None) -> Any:
    """Read a file's matrix and convert it to one from input to output pixels."""
    from ..transforms.matrices import from_opencv, from_skimage, to_skimage

    matrix = _read_rows("--matrix", name, "2 or 3 rows of 3 numbers")
    try:
        inverse = to_skimage(from_opencv(from_skimage(matrix)))  # raises if there is no inverse
        return to_skimage(matrix) if convention == "opencv" else inverse
    except (ValueError, TypeError) as error:
        text = str(error).split(": ", 1)[-1]  # without the name of the function's argument
        raise UsageError(f"--matrix {name}: {text}") from error


def _read_rows(option, name, expected):
    """Read rows of numbers from a text or ``.npy`` file."""
    try:
        if name.endswith(".npy"):
            return _read_npy_rows(option, name, expected)
        return _parse_rows(_read_text(name))
    except OSError as error:
        raise UsageError(f"{option} {name}: {error.strerror or error}") from error
    except (ValueError, UserWarning) as error:
        raise UsageError(f"{option} {name}: expected {expected}: {error}") from error


def _read_npy_rows(option, name, expected):
    from ..images.files import FileError, open_npy

    try:
        found = open_npy(pathlib.Path(name))
        if found.ndim != 2 or found.shape[1] > 4 or found.shape[0] > MOST_ROWS:
            raise UsageError(f"{option} {name}: expected {expected}, got an array {found.shape}")
        return found[:]
    except FileError as error:
        raise UsageError(f"{option} {error}") from error


def _read_text(name):
    """Read a text file: NumPy itself would also fetch URLs."""
    with open(name) as file:
        text = file.read(MOST_TEXT + 1)
    if len(text) > MOST_TEXT:
        raise ValueError("the file is too long")
    return text


def _parse_rows(text: str) -> Any:
    """Rows of numbers, separated by spaces, tabs, commas or semicolons."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # loadtxt warns if there are no numbers
        return np.loadtxt(io.StringIO(text.translate(_TO_SPACES)), ndmin=2)
