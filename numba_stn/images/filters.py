"""Filters for resizing: what each pixel of an output is the weighted mean of, along an axis.

A filter is a function of the distance from the middle of an output pixel. Where the image shrinks,
it is as many times wider as the step from one output pixel to the next is long. It is cut off where
the image ends, and its weights are divided by their sum. This is what Pillow and PyTorch do. The
weights of "area" are the lengths of the pixels inside the output pixel.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..kernels.cpu.filters import Taps, divide

__all__ = ["AREA", "FILTERS", "column_taps", "row_taps"]

AREA = "area"


class Filter(NamedTuple):
    """A function of the distance, and the distance from which on it is 0."""

    function: Callable[[np.ndarray], np.ndarray]
    support: float


def _triangle(x):
    return np.maximum(0.0, 1.0 - np.abs(x))


def _keys(a):
    """Return Keys's cubic convolution, whose slope at distance 1 is ``a``."""

    def cubic(x):
        x = np.abs(x)
        inner = ((a + 2) * x - (a + 3)) * x * x + 1
        outer = a * (((x - 5) * x + 8) * x - 4)
        return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))

    return cubic


def _lanczos(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_FUNCTIONS = {
    "triangle": Filter(_triangle, 1.0),
    "cubic": Filter(_keys(-0.5), 2.0),
    "cubic-0.75": Filter(_keys(-0.75), 2.0),
    "lanczos3": Filter(_lanczos, 3.0),
}

FILTERS = (AREA, *_FUNCTIONS)

# Weights below this are rounding errors.
_NOTHING = 1e-13


@functools.lru_cache(64)
def row_taps(name: str, interval: tuple[float, float], side: int, size: int, real: str) -> Taps:
    """Return the taps of ``size`` rows that divide an interval of an image of ``side`` rows.

    The interval (start, length) is in pixels of the image, with integers at their edges. The arrays
    are shared: nobody changes them.
    """
    start, length = interval
    step = length / size
    middle = start + (np.arange(size) + 0.5) * step
    weights, first = (_area if name == AREA else _filtered)(name, middle, step, side)
    total = weights.sum(1, keepdims=True)
    outside = ~(total > _NOTHING)  # there, the nearest pixel is taken
    weights = np.where(outside, np.arange(weights.shape[1]) == 0, weights) / np.where(
        outside, 1.0, total
    )
    return _trimmed(weights, first, real)


@functools.lru_cache(64)
def column_taps(
    name: str, interval: tuple[float, float], side: int, size: int, real: str, channels: int
) -> tuple[Taps, np.ndarray]:
    """Return the taps of columns, and how they are divided for tasks."""
    taps = row_taps(name, interval, side, size, real)
    return taps, divide(taps, channels)


def _pixels(low, high, side):
    """Return pixels between two positions, (size, most), and which of them are in the image."""
    first = np.clip(np.floor(low), 0, side - 1).astype(np.int64)
    end = np.clip(np.ceil(high), first + 1, side).astype(np.int64)
    pixels = first[:, None] + np.arange((end - first).max())
    return pixels, pixels < end[:, None]


def _filtered(name, middle, step, side):
    """Return a filter's weights, and the first pixel that each row of them is for."""
    function, support = _FUNCTIONS[name]
    scale = max(step, 1.0)
    middle = np.clip(middle, 0, side)[:, None]  # a filter beside the image is that at its edge
    pixels, inside = _pixels(middle[:, 0] - support * scale, middle[:, 0] + support * scale, side)
    return np.where(inside, function((pixels + 0.5 - middle) / scale), 0.0), pixels[:, 0]


def _area(name, middle, step, side):
    """Return the lengths of pixels inside an output pixel, and the first pixel of each row."""
    low, high = middle - step / 2, middle + step / 2
    pixels, inside = _pixels(low, high, side)
    lengths = np.minimum(pixels + 1, high[:, None]) - np.maximum(pixels, low[:, None])
    return np.where(inside, np.maximum(lengths, 0.0), 0.0), pixels[:, 0]


def _trimmed(weights, first, real):
    """Drop the weights at the ends of rows that are zero: their pixels need not be finite."""
    used = np.abs(weights) > _NOTHING
    lead = used.argmax(1)
    counts = weights.shape[1] - used[:, ::-1].argmax(1) - lead
    columns = np.arange(counts.max())
    places = np.minimum(lead[:, None] + columns, weights.shape[1] - 1)
    kept = np.where(columns < counts[:, None], np.take_along_axis(weights, places, 1), 0.0)
    return Taps(first + lead, counts.astype(np.int64), np.ascontiguousarray(kept, real))
