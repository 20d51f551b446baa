"""CPU kernel of registration's verdict: sums over the parts of two images."""

import functools
import math

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.jit import inlined

# The sums of a part: the number of pixels; a, b, a^2, b^2 and a b of both images; the products of
# the slopes along x, y and z of their mean, (xx, xy, xz, yy, yz, zz); and these slopes times b - a.
COUNT, VALUES, SLOPES, MIXED, SUMS = 0, slice(1, 6), slice(6, 12), slice(12, 15), 15


@functools.cache
def make_part_sums(parallel):
    """Kernel: two images (D, H, W) -> the sums of each part, (P, 15) of float64.

    A row of ``bounds`` (P, 6) is the first and the last index + 1 of a part, for each axis. A pixel
    counts if both images have it: those left out are NaN. A slope counts if both of its pixels do.
    """
    stamp = cpu_launch.stamp(parallel)

    def part_sums(one, two, bounds, sums):
        depth, height, width = one.shape
        slopes_along_z = depth > 1
        for part in prange(len(sums)):
            total = sums[part]
            total[:] = 0
            ends = bounds[part]
            for k in range(ends[0], ends[1]):
                for i in range(ends[2], ends[3]):
                    for j in range(ends[4], ends[5]):
                        a, b = np.float64(one[k, i, j]), np.float64(two[k, i, j])
                        if math.isnan(a) or math.isnan(b):
                            continue
                        x = y = z = 0.0
                        if 0 < j < width - 1:
                            x = slope(one, two, (k, i, j - 1), (k, i, j + 1))
                        if 0 < i < height - 1:
                            y = slope(one, two, (k, i - 1, j), (k, i + 1, j))
                        if slopes_along_z and 0 < k < depth - 1:
                            z = slope(one, two, (k - 1, i, j), (k + 1, i, j))
                        e = b - a
                        terms = (1.0, a, b, a * a, b * b, a * b, x * x, x * y, x * z, y * y, y * z,
                                 z * z, x * e, y * e, z * e)  # fmt: skip
                        for n in range(len(terms)):
                            total[n] += terms[n]
        return stamp

    return cpu_launch.jit(part_sums, parallel)


@inlined
def slope(one, two, before, after):
    """The slope of the mean of two images, per pixel; 0 if a pixel is left out."""
    difference = one[after] + two[after] - one[before] - two[before]
    return 0.0 if math.isnan(difference) else 0.25 * np.float64(difference)


def part_sums(one: np.ndarray, two: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """Divide two images into ``counts`` parts along each axis, and sum over each of them.

    The result is (P, 15), with the sums that SLOPES and the other names are the indices of.
    """
    ends = [np.arange(count + 1) * side // count for count, side in
            zip(counts, one.shape, strict=True)]  # fmt: skip
    mesh = np.meshgrid(*(np.arange(count) for count in counts), indexing="ij")
    index = [axis.ravel() for axis in mesh]
    bounds = np.stack([end[i + n] for end, i in zip(ends, index, strict=True) for n in (0, 1)], 1)
    sums = np.empty((len(bounds), SUMS))
    cpu_launch.run(make_part_sums, (), 4 * one.size, one, two, bounds, sums)
    return sums
