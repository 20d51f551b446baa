"""Which part of a large image a rectangle of the output reads.

A rectangle of the output is (top, bottom, left, right), with the first row and column and those
after the last. :func:`positions_of` gives the range of positions that it samples, from the map and
the rectangle's corners, and :func:`crop_of` the pixels that these read along an axis, by the rules
of the padding.
"""

import math
from typing import NamedTuple

import numpy as np

from ..kernels.cpu.patches import Crop, period_of
from ..kernels.math.sampler_kind import (
    BEFORE,
    BICUBIC,
    BORDER,
    FILL,
    REFLECTION,
    SPLINE2,
    SPLINE5,
    SPLINE_MARGIN,
    TAPS,
    WRAP,
    ZEROS,
)

__all__ = ["Part", "crop_of", "numpy_slice", "positions_of", "whole_part"]

Span = tuple[float, float]

# Pixels by which a range may be too narrow: positions are rounded.
_SLACK = 2

# Pixels on each side of a spline's taps of which its coefficients are computed. The pixels further
# away change them by less than float64 can tell: the largest pole is 0.43.
_HALO = 48

# Positions beyond this are not told apart.
_FAR = 2.0**31

# The smallest divisor of a projective map, relative to the largest, at which positions are finite.
_HORIZON = 1e-9


class Part(NamedTuple):
    """The part of an axis of an image that is read.

    ``slices`` (start, stop, step) are of the image; their pixels, one slice after the other, are
    those of the crop.
    """

    slices: tuple[tuple[int, int, int], ...]
    crop: Crop

    @property
    def length(self) -> int:
        """The number of pixels."""
        return sum(len(range(*each)) for each in self.slices)


def numpy_slice(part: tuple[int, int, int]) -> tuple[int, int | None, int]:
    """The numbers of a slice of an array, in which -1 would be the last pixel."""
    start, stop, step = part
    return start, None if stop < 0 else stop, step


def whole_part(side: int) -> Part:
    """The whole axis."""
    return Part(((0, side, 1),), Crop(0))


# --- Positions ------------------------------------------------------------------------------------


def positions_of(
    matrix: np.ndarray, rectangle: tuple[int, int, int, int], mode: int, padding: int,
    sides: tuple[int, int],
) -> tuple[Span | None, Span | None] | None:  # fmt: skip
    """Return the ranges of y and x that are sampled: None if any may be; None for both if none is.

    ``mode`` is one of coefficients. With zeros and fill these are the positions that have taps in
    the image.
    """
    top, bottom, left, right = rectangle
    corners = np.array([[left, right - 1, right - 1, left], [top, top, bottom - 1, bottom - 1],
                        [1.0, 1.0, 1.0, 1.0]])  # fmt: skip
    with np.errstate(all="ignore"):
        vertices = (matrix @ corners).T
        if not np.isfinite(vertices).all():
            return None, None
        if padding in (ZEROS, FILL):
            return _seen(vertices, _margin(mode), sides)
        w = vertices[:, 2]
        if not (abs(w.sum()) == abs(w).sum() and abs(w).min() > _HORIZON * abs(w).max()):
            return None, None
        x, y = vertices[:, 0] / w, vertices[:, 1] / w
    return (float(y.min()), float(y.max())), (float(x.min()), float(x.max()))


def _margin(mode):
    """How far outside the image a sample may have taps."""
    margin = SPLINE_MARGIN if SPLINE2 <= mode <= SPLINE5 else 0
    return margin + TAPS[mode] + _SLACK


def _seen(vertices, margin, sides):
    """Return the ranges of positions at most ``margin`` outside, by clipping a polygon.

    ``vertices`` are homogeneous. Within a polygon whose divisor keeps its sign, ranges are those of
    the vertices.
    """
    (height, width), least = sides, _HORIZON * abs(vertices[:, 2]).max()
    low, right, bottom = -margin, width - 1 + margin, height - 1 + margin
    limits = np.array([[1, 0, -low], [-1, 0, right], [0, 1, -low], [0, -1, bottom]], float)
    found = []
    for sign in (1.0, -1.0):
        polygon = _clip(sign * vertices, np.array([0.0, 0, 1]), least)
        for limit in limits:
            polygon = _clip(polygon, limit, 0.0)
        found.append(polygon[:, :2] / polygon[:, 2:])
    points = np.concatenate(found)
    if not len(points):
        return None
    (x_low, y_low), (x_high, y_high) = points.min(0).tolist(), points.max(0).tolist()
    return (y_low, y_high), (x_low, x_high)


def _clip(polygon, limit, least):
    """Return the part of a polygon where ``vertex @ limit >= least`` (Sutherland and Hodgman)."""
    if not len(polygon):
        return polygon
    heights, kept = polygon @ limit - least, []
    for k in range(len(polygon)):
        here, before = heights[k], heights[k - 1]
        if (here >= 0) != (before >= 0):
            share = before / (before - here)
            kept.append(polygon[k - 1] + share * (polygon[k] - polygon[k - 1]))
        if here >= 0:
            kept.append(polygon[k])
    return np.array(kept).reshape(-1, 3)


# --- Pixels ---------------------------------------------------------------------------------------


def crop_of(span: Span | None, side: int, mode: int, padding: int, folded: bool) -> Part:
    """Return the pixels of an axis that a range of positions reads.

    ``folded`` says that reflected positions are brought into the image, as they are where taps do
    not reach across its edge, and where taps are computed one by one.
    """
    splines = SPLINE2 <= mode <= SPLINE5
    rim = _HALO if splines else _SLACK
    if span is None or not -_FAR < span[0] <= span[1] < _FAR:
        return whole_part(side)
    low = math.floor(span[0]) - BEFORE[mode] - rim
    high = math.floor(span[1]) - BEFORE[mode] + TAPS[mode] + rim
    if padding in (ZEROS, BORDER, FILL):
        return _clipped(low, high, side)
    if padding == WRAP:
        return _wrapped(low, high, side) if high - low + 2 < side else whole_part(side)
    if folded or mode < BICUBIC:
        short = side > 1 and high - low < 2 * side
        return _folded(low, high, side, padding) if short else whole_part(side)
    return _reflected(low, high, side, padding) if 2 * (high - low + 2) < side else whole_part(side)


def _even(index):
    """Return the even number at or before an index: halves are rounded to even pixels."""
    return index - index % 2


def _clipped(low, high, side):
    start = _even(min(max(low, 0), side - 1))
    return Part(((start, max(min(high, side), start + 1), 1),), Crop(start))


def _wrapped(low, high, side):
    start = _even(low % side)
    stop = start + high - low + 1
    if stop <= side:
        return Part(((start, stop, 1),), Crop(start))
    head = stop - side  # pixels of the beginning, which come first
    return Part(((0, head, 1), (start, side, 1)), Crop(0, (head + start) // 2, start - head))


def _folded(low, high, side, padding):
    """Positions are in the image, and so are their taps or else weigh nothing."""
    indices = np.arange(low, high) % period_of(padding, side)
    mirrored = period_of(padding, side) - (padding == REFLECTION) - indices
    indices = np.where(indices < side, indices, mirrored)
    start = _even(int(indices.min()))
    return Part(((start, int(indices.max()) + 1, 1),), Crop(start))


def _reflected(low, high, side, padding):
    """Positions are in a period: the image, and after it the mirrored image."""
    period, low_mirror = period_of(padding, side), int(padding == REFLECTION)
    start = _even(low % period)
    stop = start + high - low + 1
    if stop <= side:
        return Part(((start, stop, 1),), Crop(start))
    if start >= side and stop <= period:  # a part of the mirrored image
        first, last = (period - low_mirror - k for k in (start, stop - 1))
        return Part(((first, last - 1, -1),), Crop(start))
    if stop <= period:  # around the last pixel
        edge = _even(max(0, min(start, period - low_mirror - stop)))
        return Part(((edge, side, 1),), Crop(edge))
    head = min(side, max(stop - period, period - low_mirror - start + 1) + 1)  # around the first
    return Part(((0, head, 1),), Crop(0, (stop - period + start) // 2))
