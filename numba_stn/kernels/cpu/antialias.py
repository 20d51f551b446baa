"""CPU kernel of :mod:`numba_stn.ops.antialias`: the number of parts of a map's output pixels."""

import functools

import numpy as np

from .. import cpu_launch
from ..math.antialias import parts_per_pixel
from .coordinate_sources import make_theta_rows


@functools.cache
def make_part_counts(source, dims, parallel):
    """Kernel: theta -> number of parts of an output pixel along (D, H, W), as (N, 3)."""
    stamp, theta_rows = cpu_launch.stamp(parallel), make_theta_rows(source, dims)

    def part_counts(theta, sides, sizes, off, counts):
        for n in range(len(theta)):
            found = parts_per_pixel(source, theta_rows(theta, n, type(off)), sides, sizes, off)
            counts[n, 0], counts[n, 1], counts[n, 2] = found
        return stamp

    return cpu_launch.jit(part_counts, parallel)


def part_counts(kind, theta, sides, sizes, off):
    """Number of parts of an output pixel along (D, H, W), (N, 3); a plane has one along D.

    They are computed in float64.
    """
    counts = np.empty((len(theta), 3), np.int64)
    sides, sizes = ((1, *lengths)[-3:] for lengths in (sides, sizes))
    make_part_counts(kind.source, kind.dims, False)(theta, sides, sizes, off, counts)
    return counts
