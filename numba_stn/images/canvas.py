"""Matrices for whole images, from input pixels to output pixels (x, y), and their canvas.

They are computed from what a user asks for: rotate by an angle, put the corners at four points.
Pixel centres are integers; sides are (H, W).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..transforms.matrices import from_points

Sides = tuple[int, int]

# Pixels that a canvas may cut off, so that rounding errors of sines do not enlarge it.
_TOLERANCE = 1e-6


def translation_matrix(x: float, y: float) -> np.ndarray:
    """Return the matrix that moves an image by x to the right and by y down."""
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def cos_sin(degrees: float) -> tuple[float, float]:
    """Return cosine and sine of an angle; exact for multiples of 90 degrees."""
    remainder = math.remainder(degrees, 90)
    quarters = round((math.remainder(degrees, 360) - remainder) / 90)
    cos, sin = math.cos(math.radians(remainder)), math.sin(math.radians(remainder))
    for _ in range(quarters % 4):
        cos, sin = -sin, cos
    return cos, sin


def matrix_from_parts(
    sides: Sides,
    rotate: float = 0.0,
    scale: Sequence[float] = (1.0, 1.0),
    shear: Sequence[float] = (0.0, 0.0),
    translate: Sequence[float] = (0.0, 0.0),
    flip: str = "",
) -> np.ndarray:
    """Return the matrix that flips, scales, shears, rotates (about the centre) and translates.

    The steps are taken in this order. ``flip`` is "horizontal", "vertical" or "both"; ``rotate`` is
    in degrees, counter-clockwise as the image is displayed; ``shear`` (kx, ky) adds kx y to x and
    ky x to y.
    """
    cos, sin = cos_sin(rotate)
    rotation = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])  # rows run downwards
    shearing = np.array([[1.0, shear[0], 0], [shear[1], 1, 0], [0, 0, 1]])
    signs = [-1.0 if flip in (axis, "both") else 1.0 for axis in ("horizontal", "vertical")]
    scaling, (x, y) = np.diag([signs[0] * scale[0], signs[1] * scale[1], 1.0]), _centre(sides)
    to_centre, from_centre = translation_matrix(-x, -y), translation_matrix(x, y)
    moved = translation_matrix(*translate) @ from_centre
    return moved @ rotation @ shearing @ scaling @ to_centre


def matrix_from_corners(sides: Sides, corners: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the matrix that moves the image's outer corners to four points.

    The points are those of the upper left, upper right, lower right and lower left corner. Pixel
    edges are half a pixel from pixel centres, so (-0.5, -0.5), (W - 0.5, -0.5) and so on leave the
    image as it is.

    Raises
    ------
    ValueError
        If the points are not the corners of a convex quadrilateral, in order.
    """
    found = from_points(_outer_corners(sides), corners)
    edges = np.roll(corners, -1, 0) - np.asarray(corners, float)
    turns = np.array([a[0] * b[1] - a[1] * b[0] for a, b in zip(edges, np.roll(edges, -1, 0),
                                                                strict=True)])  # fmt: skip
    if not ((turns > 0).all() or (turns < 0).all()):
        raise ValueError(f"corners: expected those of a convex quadrilateral, in order around it, "
                         f"got {np.asarray(corners).tolist()}")  # fmt: skip
    return found


def size_of_corners(corners: Sequence[Sequence[float]]) -> Sides:
    """Return the sides (H, W) of a rectangle with the longer of opposite edges between corners."""
    lengths = [math.dist(corners[k], corners[(k + 1) % 4]) for k in range(4)]
    return max(1, round(max(lengths[1::2]))), max(1, round(max(lengths[::2])))


def resize_matrix(sides: Sides, size: Sides) -> np.ndarray:
    """Return the matrix that resizes an image to these sides, outer edges to outer edges."""
    sy, sx = size[0] / sides[0], size[1] / sides[1]
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1.0]])


def recentre(matrix: np.ndarray, sides: Sides, size: Sides) -> np.ndarray:
    """Return the same map on a canvas of another size with the same centre."""
    before, after = _centre(sides), _centre(size)
    return translation_matrix(after[0] - before[0], after[1] - before[1]) @ matrix


def expand_canvas(matrix: np.ndarray, sides: Sides) -> tuple[np.ndarray, Sides]:
    """Return the same map on the smallest canvas that holds the whole image, and its sides.

    Raises
    ------
    ValueError
        If a part of the image is at infinity.
    """
    u, v, w = matrix @ np.vstack([_outer_corners(sides).T, np.ones(4)])
    if not (w > 1e-9 * abs(w).max()).all():
        raise ValueError("no canvas holds all of the image: a part of it is at infinity")
    x, y = u / w, v / w
    width, height = (max(1, math.ceil(np.ptp(c) - _TOLERANCE)) for c in (x, y))
    centre = (x.max() + x.min()) / 2, (y.max() + y.min()) / 2
    move = translation_matrix((width - 1) / 2 - centre[0], (height - 1) / 2 - centre[1])
    return move @ matrix, (height, width)


def tie_shift(start: float, side: float, out: int) -> float:
    """Return by how much to shift the positions of a resized side in nearest mode.

    Where a position is half way between two pixels, the second is taken, as ``floor((j + 1/2) side
    / out)`` does. With whole numbers and ``side / out = w / o`` in lowest terms, positions plus 1/2
    are multiples of 1 / o if w is even, and there are no ties otherwise: half of that decides all
    ties and nothing else.
    """
    if not (float(start).is_integer() and float(side).is_integer()):
        return 0.0
    common = math.gcd(int(side), out)
    return common / (2 * out) if int(side) // common % 2 == 0 else 0.0


def with_matrix(result: Any, matrix: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return a warped image, and the inverses of the matrices (..., 3, 3) from output to input."""
    return result, np.linalg.inv(matrix)


def _centre(sides):
    """Return (x, y) of the centre."""
    return (sides[1] - 1) / 2, (sides[0] - 1) / 2


def _outer_corners(sides):
    """Return (x, y) of the outer corners of the corner pixels."""
    height, width = sides
    return np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
