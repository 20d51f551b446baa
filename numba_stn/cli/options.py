"""Helpers of the subcommands: names of choices, option types, and the output folder."""

import argparse
import contextlib
import functools
import importlib.util
import os
import pathlib
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from ..utils.atomic_write import destination, is_stream, settle_leftovers, workspace
from .surroundings import one_line

# The choices are written out here, so that --help need not import the modules that define them.
DATASETS = ("digits", "mnist")
TASKS = ("none", "R", "RTS", "P", "E", "TC", "addition")
MODELS = ("fcn", "cnn", "st-fcn", "st-cnn", "st-cnn-deep")
TABLE_MODELS = MODELS[:4]
TRANSFORMS = (
    "translation", "scale", "rotation", "shear", "rigid", "similarity", "attention",
    "restricted_affine", "affine", "projective", "tps",
)  # fmt: skip
DEVICES = ("cpu", "cuda")
TABLE_TASKS = ("R", "RTS", "P", "E", "TC", "addition")
TABLE_TRANSFORMS = ("affine", "projective", "tps")


class UsageError(Exception):
    """An error that the user can correct; the message says how."""

    code = 2  # the exit code


class FailedError(UsageError):
    """A training that diverged; or some of the images or runs, which did not stop the others."""

    code = 1


@contextlib.contextmanager
def output_folder(folder: pathlib.Path, force: bool = False) -> Iterator[pathlib.Path]:
    """Create a folder and check that it is writable; remove it again if it is empty at the end.

    The check comes first, so that nothing is computed in vain. What killed runs left in the folder
    is reported, and with ``force`` removed.
    """
    new: list[pathlib.Path] = []
    try:
        try:
            new += [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            with workspace(folder):
                pass
        except OSError as error:
            text = f"{folder}: cannot be written to: {error.strerror or error}"
            raise UsageError(text) from error
        report_leftovers(folder, force)
        yield folder
    finally:
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


@contextlib.contextmanager
def output_files(paths: Sequence[pathlib.Path], force: bool = False) -> Iterator[None]:
    """The :func:`output_folder` of each file: that of the file which a symbolic link names."""
    folders = dict.fromkeys(destination(path).parent for path in paths if not is_stream(path))
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(output_folder(folder, force))
        for folder in dict.fromkeys(path.parent for path in paths):  # of links; it may be read-only
            if folder not in folders:
                report_leftovers(folder, force)
        yield


def check_absent(paths: Sequence[pathlib.Path], force: bool) -> None:
    """Raise if one of the files exists and ``force`` is not given."""
    for path in paths:
        harmless = is_stream(path) and not path.is_block_device()
        if os.path.lexists(path) and not force and not harmless:
            raise UsageError(f"{path}: the file exists; --force overwrites it")


def check_different(outputs: Sequence[tuple[object, pathlib.Path]]) -> None:
    """Raise if two of the outputs, each with a name for messages, would be one file.

    Their folders must exist.
    """
    seen: dict[str, list] = {}
    real_folder = functools.cache(os.path.realpath)
    for name, path in outputs:
        target = destination(path)
        target = pathlib.Path(real_folder(target.parent), target.name)
        alike = seen.setdefault(unicodedata.normalize("NFC", str(target)).casefold(), [])
        for other, its_target in alike:
            if target == its_target or _is_one_file(target, its_target):
                raise UsageError(f"{other} and {name}: both would be written to {path}")
        alike.append((name, target))


def _is_one_file(one, other):
    """Whether two paths are one to the file system, which may ignore case."""
    with contextlib.suppress(OSError), workspace(one.parent) as work:
        (work / one.name).touch()
        return one.parent.samefile(other.parent) and (work / other.name).exists()
    return False


def report_leftovers(folder: pathlib.Path, force: bool = False) -> None:
    """Report what killed runs left in a folder; with ``force``, remove it."""
    for line in settle_leftovers(folder, force):
        print(f"numba-stn: {line}", file=sys.stderr)


def print_written(path: pathlib.Path, text: str) -> None:
    """Print what was written to a file; on stderr if the file may be the standard output."""
    stream = sys.stderr if is_stream(path) else sys.stdout
    print(f"wrote {one_line(path)}: {text}", file=stream)


def require_pillow() -> None:
    """Raise if Pillow, which reads images, is missing."""
    if importlib.util.find_spec("PIL") is None:
        raise UsageError('images need Pillow; pip install "numba-stn[images]"')


# --- Option types ---------------------------------------------------------------------------------


def some_of(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """The type of a list of choices, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(f"expected some of {list(choices)}, got {name!r}")
        return names

    return parse


def seeds(text: str) -> tuple[int, ...]:
    """Convert a list of seeds, separated by commas."""
    return tuple(seed(part) for part in text.split(","))


def positive(text: str) -> int:
    """Convert a positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Convert a seed, a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def rate(text: str) -> float:
    """Convert a positive number."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return rate


def share(text: str) -> float:
    """Convert a number of at least 0 and below 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(
            f"expected a number of at least 0 and below 1, got {text!r}"
        )
    return share
