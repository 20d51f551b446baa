"""CPU kernel of :mod:`numba_stn.ops.antialias`: how finely each map's output pixels are divided."""

import functools

import numpy as np

from .. import launch
from ..math.matrix_rows import divided_into
from .coordinate_sources import make_matrix


@functools.cache
def make_part_counts(source, dims, parallel):
    """Kernel: theta -> parts of an output pixel along (D, H, W), (N, 3)."""
    stamp, matrix = launch.stamp(parallel), make_matrix(source, dims)

    def part_counts(theta, sides, sizes, off, counts):
        for n in range(len(theta)):
            found = divided_into(source, matrix(theta, n, type(off)), sides, sizes, off)
            counts[n, 0], counts[n, 1], counts[n, 2] = found
        return stamp

    return launch.jit(part_counts, parallel)


def part_counts(kind, theta, sides, sizes, off):
    """Parts of an output pixel along (D, H, W) for each map, in float64; a plane's D has one."""
    counts = np.empty((len(theta), 3), np.int64)
    sides, sizes = ((1, *lengths)[-3:] for lengths in (sides, sizes))
    make_part_counts(kind.source, kind.dims, False)(theta, sides, sizes, np.float64(off), counts)
    return counts
