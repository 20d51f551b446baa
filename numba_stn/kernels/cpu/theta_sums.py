"""Theta's gradient in the general kernels: sums of rows, then of parts of rows, then ``dtheta``.

Sums are (..., 3, 4): for each row of theta those of the gradient times column, row, slice, and 1.
"""

import functools

import numpy as np

from ..math.jit import scalar
from .arrays import ignore_float_errors
from .coordinate_sources import theta_scales

# The number of rows whose contributions to theta's gradient are summed first.
ROWS_PER_PART = 16


@scalar
def add_row(sums, r, total, by_column, i, k):
    """Add the sums of output row i of slice k to those for row r of theta.

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
    rows, last = dtheta.shape[1], dtheta.shape[2] - 1
    factors, scales = _factors(kind.source, sides, sizes, off)
    with ignore_float_errors():
        found = sums.sum(axis=1)[:, :rows]
        found *= factors
        found *= scales[:rows]
        dtheta[:, :, :last] = found[:, :, :last]
        dtheta[:, :, last] = found[:, :, 3]


@functools.lru_cache(256)
def _factors(source, sides, sizes, off):
    """Factors for columns of theta, and for rows."""
    scales = np.array(theta_scales(source, sides, off))[:, None]
    return normalising_factors(sizes, off), scales


def normalising_factors(sizes, off):
    """Factors, for x, y, z and 1, from twice a distance to the middle to normalised ones."""
    lengths = [side - 1 + off for side in sizes[::-1]]
    return np.array([1 / length if length else 0.0 for length in lengths] + [1.0])
