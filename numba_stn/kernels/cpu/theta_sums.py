"""Theta's gradient in the general kernels: sums of rows, then of parts of rows, then ``dtheta``.

Sums are (..., 4, 4): for x, y, z and the divisor, those of the gradient times column, row, slice,
and 1. The divisor's are summed for projective maps only.
"""

import functools

import numpy as np

from ..math.jit import scalar
from ..math.sampler_kind import PROJECTIVE
from .arrays import ignore_float_errors
from .coordinate_sources import theta_scales

# The number of rows whose contributions to theta's gradient are summed first.
ROWS_PER_PART = 16


@scalar
def add_row(sums, r, total, by_column, i, k):
    """Add the sums of output row i of slice k to those of x, y, z or the divisor, number r.

    ``total`` is the sum of gradients, ``by_column`` that of gradients times column.
    """
    sums[r, 0] += by_column
    sums[r, 1] += total * i
    sums[r, 2] += total * k
    sums[r, 3] += total


def write_dtheta(kind, sums, sides, sizes, off, dtheta):
    """Fill ``dtheta`` from the sums of parts.

    Their gradients are in pixels; columns, rows and slices are twice the distances from the middle.
    """
    last, rows = kind.dims, [0, 1, 2][: kind.dims]
    if kind.source == PROJECTIVE:
        rows.append(3)
    factors, scales = _factors(sides, sizes, off)
    with ignore_float_errors():
        found = sums.sum(axis=1)[:, rows]
        found *= factors
        found *= scales[rows]
        dtheta[:, :, :last] = found[:, :, :last]
        dtheta[:, :, last] = found[:, :, 3]


@functools.lru_cache(256)
def _factors(sides, sizes, off):
    """Factors for columns of theta, and for x, y, z and the divisor."""
    scales = np.array(theta_scales(sides, off))[:, None]
    return normalising_factors(sizes, off), scales


def normalising_factors(sizes, off):
    """Factors, for x, y, z and 1, from twice a distance to the middle to normalised ones."""
    lengths = [side - 1 + off for side in sizes[::-1]]
    return np.array([1 / length if length else 0.0 for length in lengths] + [1.0])
