"""The coordinates of an output row, for bilinear samples at a grid or by an affine theta.

``coords`` is the grid, (N, H_out, W_out, 2), or theta as (N, 1, 2, 3). ``sides`` are
(H, W, H_out, W_out); :mod:`..math.coordinates` defines ``off``. For all other samplers,
:mod:`.coordinate_sources` computes the rows.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import overload

from ..math.coordinates import (
    affine_axis,
    affine_start,
    middle,
    split,
    unnormalize_slope,
)
from ..math.jit import scalar
from ..math.sampler_kind import AFFINE

# A block prefetches what the row this many rows further down reads. The processor does not foresee
# which cache lines a rotated image needs, and loading one from memory takes as long as 3 blocks.
ROWS_AHEAD = 8


class ImageMap(NamedTuple):
    """What all rows of samples n have in common."""

    axes: Any  # of x and of y: :func:`.coordinates.affine_axis`; for a grid, its scale and shift
    inverse: Any  # 1 / step of x and of y
    ahead: int  # the distance, in elements, to what a later row reads; 0 if it is not known


@scalar
def image_map(source, coords, n, sides, off):
    """The :class:`ImageMap` of samples n."""
    h, w, rows, columns = sides
    zero = np.float64(0)
    if source != AFFINE:
        x = (unnormalize_slope(w, off), zero, zero, middle(w, off))
        y = (unnormalize_slope(h, off), zero, zero, middle(h, off))
        return ImageMap((x, y), (zero, zero), 0)
    x0, x1, x2 = coords[n, 0, 0, 0], coords[n, 0, 0, 1], coords[n, 0, 0, 2]
    y0, y1, y2 = coords[n, 0, 1, 0], coords[n, 0, 1, 1], coords[n, 0, 1, 2]
    x = affine_axis(x0, x1, x2, w, columns, rows, off)
    y = affine_axis(y0, y1, y2, h, columns, rows, off)
    return ImageMap((x, y), (1.0 / x[0], 1.0 / y[0]), elements_ahead(x, y, w, h))


@scalar
def elements_ahead(x, y, w, h):
    """The distance from what a row reads to what the row ROWS_AHEAD further down reads."""
    far_x, far_y = ROWS_AHEAD * x[1], ROWS_AHEAD * y[1]
    if not (abs(far_x) < w and abs(far_y) < h):
        return 0
    return int(far_y) * w + int(far_x)


@scalar
def row_map(source, axes, i, sides):
    """Start and step of x, then of y, along output row i; for a grid, its shifts and scales."""
    h, w, rows, _ = sides
    x, y = axes
    if source != AFFINE:
        return x[3], x[0], y[3], y[0]
    return affine_start(x, i, w, rows), x[0], affine_start(y, i, h, rows), y[0]


def from_grid(c, start, step, real):
    """Pixel coordinate ``start + step c`` in float64; for float32 by :func:`.coordinates.split`."""
    raise NotImplementedError("for compiled code")


@overload(from_grid)
def _from_grid(c, start, step, real):
    if c == real.dtype == types.float32:
        return lambda c, start, step, real: split(c, start, step)
    return lambda c, start, step, real: start + step * np.float64(c)
