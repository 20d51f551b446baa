"""Axes of stacks: which are the rows and columns of images, which the channels, and all others.

An axis is a letter: Y or H rows, X or W columns; S samples (colours), C channels, and N, T and Z,
which number images. Each letter is there at most once, in any order. Colours are S; without S, they
are C. All images get the same warp, and fills are per colour.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["LETTERS", "channel_axis", "check_axes", "from_images", "plane_axes", "to_images"]

LETTERS = "NTCZYXSHW"

# What axes are called in metadata.
_NAMES = {"time": "T", "channel": "C", "row": "Y", "column": "X", "sample": "S", "samples": "S",
          "depth": "Z", "height": "Y", "width": "X"}  # fmt: skip


def check_axes(text: str) -> str:
    """Return axes in capital letters.

    Raises
    ------
    ValueError
        If a letter is not known or there twice, or rows or columns are missing.
    """
    axes = text.upper()
    rows, columns = (sum(axes.count(letter) for letter in pair) for pair in ("YH", "XW"))
    if set(axes) - set(LETTERS) or len(set(axes)) < len(axes) or rows != 1 or columns != 1:
        raise ValueError(f"expected Y and X and any of N, T, C, Z and S, each once, such as YX or "
                         f"TCZYX, got {text!r}")  # fmt: skip
    return axes


def axes_of_names(names: Sequence[Any], count: int) -> str | None:
    """Return the axes with these names, or None if they are no axes of images."""
    letters = []
    for name in names:
        text = str(name).lower()
        letters.append(_NAMES.get(text, text.upper()))
    try:
        axes = check_axes("".join(letters))
    except ValueError:
        return None
    return axes if len(axes) == count == len(letters) else None


def plane_axes(axes: str) -> tuple[int, int]:
    """Return the numbers of the axes of rows and of columns."""
    return max(map(axes.find, "YH")), max(map(axes.find, "XW"))


def channel_axis(axes: str) -> int | None:
    """Return the number of the axis of colours, or None."""
    found = axes.find("S") if "S" in axes else axes.find("C")
    return None if found < 0 else found


def _order(axes):
    """The axes that number images, then those of rows, columns and colours."""
    own = [*plane_axes(axes), *([] if channel_axis(axes) is None else [channel_axis(axes)])]
    return [k for k in range(len(axes)) if k not in own], own


def to_images(block: np.ndarray, axes: str) -> np.ndarray:
    """Return a part of a stack as images (n, H, W) or (n, H, W, C)."""
    batch, own = _order(axes)
    moved, count = block.transpose(*batch, *own), math.prod(block.shape[k] for k in batch)
    return moved.reshape(count, *moved.shape[len(batch) :])


def from_images(images: np.ndarray, axes: str, shape: Sequence[int]) -> np.ndarray:
    """Return the inverse of :func:`to_images`, for a part of this shape."""
    batch, own = _order(axes)
    order = [*batch, *own]
    moved = images.reshape([shape[k] for k in order])
    return moved.transpose(np.argsort(order))
