"""Matrices for whole images, from input to output pixels (x, y), whose centres are whole numbers.

They are made from what a person says: turn it by so much, put its corners there. Sides are (H, W).
"""

import math
from collections.abc import Sequence

import numpy as np

from ..transforms.matrices import from_points

Sides = tuple[int, int]

# What a canvas may cut off, in pixels: as much as the sines of common angles are wrong, and more.
_TOLERANCE = 1e-6


def translation_matrix(x: float, y: float) -> np.ndarray:
    """Moved by x to the right and y down."""
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def matrix_from_parts(
    sides: Sides,
    rotate: float = 0.0,
    scale: Sequence[float] = (1.0, 1.0),
    shear: Sequence[float] = (0.0, 0.0),
    translate: Sequence[float] = (0.0, 0.0),
) -> np.ndarray:
    """About its middle scaled, sheared and turned, in this order, and then moved.

    ``rotate`` in degrees, counter-clockwise as one sees it; ``shear`` (kx, ky) adds kx y to x and
    ky x to y.
    """
    angle = math.radians(rotate)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])  # rows run downwards
    slant = np.array([[1.0, shear[0], 0], [shear[1], 1, 0], [0, 0, 1]])
    (x, y), size = _centre(sides), np.diag([*scale, 1.0])
    return (
        translation_matrix(*translate)
        @ translation_matrix(x, y)
        @ turn
        @ slant
        @ size
        @ translation_matrix(-x, -y)
    )


def matrix_from_corners(sides: Sides, corners: Sequence[Sequence[float]]) -> np.ndarray:
    """The outer corners come to lie at four points.

    Upper left, upper right, lower right, lower left; edges of pixels lie half a pixel beside their
    centres, so an image keeps its place with (-0.5, -0.5), (W - 0.5, -0.5) and so on.

    Raises
    ------
    ValueError
        If three of the points lie on a line.
    """
    return from_points(_outer_corners(sides), corners)


def resize_matrix(sides: Sides, size: Sides) -> np.ndarray:
    """Stretched to these sides, edge upon edge."""
    sy, sx = size[0] / sides[0], size[1] / sides[1]
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1.0]])


def recentre(matrix: np.ndarray, sides: Sides, size: Sides) -> np.ndarray:
    """The same on a canvas of another size, whose middle lies where the image's own was."""
    before, after = _centre(sides), _centre(size)
    return translation_matrix(after[0] - before[0], after[1] - before[1]) @ matrix


def expand_canvas(matrix: np.ndarray, sides: Sides) -> tuple[np.ndarray, Sides]:
    """The same on the least canvas that holds all of the image, and the canvas's sides.

    Raises
    ------
    ValueError
        If a part of the image lies at infinity.
    """
    u, v, w = matrix @ np.vstack([_outer_corners(sides).T, np.ones(4)])
    if not (w > 1e-9 * abs(w).max()).all():
        raise ValueError("no canvas holds all of the image: a part of it lies at infinity")
    x, y = u / w, v / w
    width, height = (max(1, math.ceil(np.ptp(c) - _TOLERANCE)) for c in (x, y))
    middle = (x.max() + x.min()) / 2, (y.max() + y.min()) / 2
    return translation_matrix((width - 1) / 2 - middle[0], (height - 1) / 2 - middle[1]) @ matrix, (
        height, width,
    )  # fmt: skip


def _centre(sides):
    """(x, y) of the middle."""
    return (sides[1] - 1) / 2, (sides[0] - 1) / 2


def _outer_corners(sides):
    """The outer corners (x, y) of the corner pixels."""
    height, width = sides
    return np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
