"""From moments to theta's gradient: the sums of d times column, of d times row, and of d."""

import functools

from numba import prange

from .. import cpu_launch
from ..math.coordinates import span
from ..math.jit import scalar


@scalar
def centred_moment(moment, total, size, off):
    """Sum of d times the normalised coordinate, from the sums of d times the index and of d."""
    length = span(size, off)
    if length == 0.0:
        return 0.0
    return (2 * moment - (size - 1) * total) / length


@functools.cache
def make_theta_from_moments(parallel):
    """Kernel: moments of rows, or of bands of rows, summed in order -> dtheta.

    ``scales`` are factors that the gradients with respect to x and y still lack.
    """
    stamp = cpu_launch.stamp(parallel)

    def theta_from_moments(moments, rows, columns, scales, off, dtheta):
        batch, parts = moments.shape[:2]
        for n in prange(batch):
            for k in range(2):
                by_column, by_row, total = 0.0, 0.0, 0.0
                for part in range(parts):
                    by_column += moments[n, part, k, 0]
                    by_row += moments[n, part, k, 1]
                    total += moments[n, part, k, 2]
                dtheta[n, k, 0] = centred_moment(by_column, total, columns, off) * scales[k]
                dtheta[n, k, 1] = centred_moment(by_row, total, rows, off) * scales[k]
                dtheta[n, k, 2] = total * scales[k]
        return stamp

    return cpu_launch.jit(theta_from_moments, parallel)


def write_dtheta(moments, sides, size, off, dtheta):
    """Fill ``dtheta`` by :func:`make_theta_from_moments`.

    ``sides`` are (H, W) of images whose pixels the gradients count; None if they are normalised.
    ``size`` is (H_out, W_out).
    """
    scales = (1.0, 1.0) if sides is None else tuple((n - 1 + off) / 2 for n in sides[::-1])
    cpu_launch.run(
        make_theta_from_moments, (), moments.size, moments, *size, scales, off, dtheta
    )  # fmt: skip
