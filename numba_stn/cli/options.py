"""What the subcommands share: names, option types, and the folder that is written to."""

import argparse
import contextlib
import importlib.util
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

# Spelled out here, so that --help need not import what they name.
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
    """The user can mend this; the message says how."""


@contextlib.contextmanager
def folder_of(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder, writable before anything is computed in vain, and gone again if left empty."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
        yield folder
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


def require_pillow() -> None:
    """Say what reading images lacks, before anything is done."""
    if importlib.util.find_spec("PIL") is None:
        raise UsageError('images need Pillow; pip install "numba-stn[images]"')


# --- Option types ---------------------------------------------------------------------------------


def among(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A list of these, by commas."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(f"expected some of {list(choices)}, got {name!r}")
        return names

    return parse


def seeds(text: str) -> tuple[int, ...]:
    """Seeds, by commas."""
    return tuple(seed(part) for part in text.split(","))


def positive(text: str) -> int:
    """A number of things."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def rate(text: str) -> float:
    """A positive number."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return rate


def share(text: str) -> float:
    """A number from 0 to below 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, got {text!r}")
    return share
