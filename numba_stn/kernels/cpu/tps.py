"""CPU kernels of thin-plate splines: from control points to weights and a grid, and back.

A spline is the weighted sum of K + 3 functions of an output pixel: U of the distance to each of the
K points, 1, x and y. A row's functions are computed once for all images. Everything is computed in
float64; only the grid may be float32. One thread computes a whole row, so nothing depends on the
number of threads.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.coordinates import base_coordinate
from ..math.jit import scalar
from .arrays import ignore_float_errors
from .simd.products import combine_functions, sum_over_pixels
from .simd.vectors import LANES

# The largest number of float64 numbers in memory at a time, for grids and sums of their rows; a
# single image may need more. What is written here is read at once, so it should be in a core's
# cache.
CHUNK = 2**18

_LOG_2 = math.log(2)
_LEAST = np.float64(math.sqrt(0.5)).view(np.int64)


# --- Basis functions ------------------------------------------------------------------------------


@scalar
def energy(square):
    """U of Bookstein 1989, ``r^2 log r^2``, as a function of r^2; 0 at 0.

    The logarithm is computed here without a branch, so that compilers vectorise a row. With
    ``r^2 = 2^e m`` and m between sqrt(1/2) and sqrt(2), it is ``e log 2 + 2 artanh s``, with
    ``s = (m - 1) / (m + 1)``. The series of artanh is cut off after s^21. The logarithm of 0 comes
    out as a finite number, which is multiplied by 0.
    """
    bits = np.float64(square).view(np.int64)
    exponent = np.int64(np.int64(bits - _LEAST) >> 52)
    m = np.int64(bits - (exponent << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = 1 / 13 + z * (1 / 15 + z * (1 / 17 + z * (1 / 19 + z * (1 / 21))))
    series = 1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * series)))
    series = 1.0 + z * (1 / 3 + z * series)
    return square * (np.float64(exponent) * _LOG_2 + 2.0 * s * series)


@scalar
def energy_by_log(square):
    """:func:`energy` in the type of ``square``, for targets whose logarithm is an instruction."""
    real = type(square)
    return square * real(math.log(square)) if square > real(0) else real(0)


@scalar
def fill_basis(points, i, rows, columns, off, basis):
    """Fill ``basis`` with the K + 3 functions along output row i: U of each point, 1, x and y."""
    count = len(points)
    y = base_coordinate(i, rows, off)
    ones, xs, ys = basis[count], basis[count + 1], basis[count + 2]
    for j in range(columns):
        ones[j], xs[j], ys[j] = 1.0, base_coordinate(j, columns, off), y
    for k in range(count):
        line, x0, across = basis[k], points[k, 0], (y - points[k, 1]) ** 2
        for j in range(columns):
            along = xs[j] - x0
            line[j] = energy(along * along + across)


# --- Grid -----------------------------------------------------------------------------------------


@functools.cache
def make_spline_grid(parallel):
    """Kernel: weights (N, K + 3, 2), points (K, 2) -> the splines plus ``start`` times (x, y)."""
    stamp = cpu_launch.stamp(parallel)

    def spline_grid(weights, points, start, off, grid):
        batch, rows, columns, _ = grid.shape
        wide = whole_vectors(columns)
        for i in prange(rows):
            basis, line = np.zeros((len(points) + 3, wide)), np.empty(2 * wide)
            fill_basis(points, i, rows, columns, off, basis)
            for n in range(batch):
                combine_functions(weights, basis, start, line, n)
                for j in range(columns):
                    grid[n, i, j, 0], grid[n, i, j, 1] = line[2 * j], line[2 * j + 1]
        return stamp

    return cpu_launch.jit(spline_grid, parallel)


@functools.cache
def make_spline_grid_vjp(parallel):
    """Kernel: dgrid -> each row's sums for the weights, (N, H_out, K + 3, 2)."""
    stamp = cpu_launch.stamp(parallel)

    def spline_grid_vjp(dgrid, points, off, sums):
        batch, rows, columns, _ = dgrid.shape
        count = len(points) + 3
        for i in prange(rows):
            basis, totals = np.zeros((count, columns)), np.empty((2, whole_vectors(count)))
            fill_basis(points, i, rows, columns, off, basis)
            pixels = np.zeros((columns, totals.shape[1]))
            pixels[:, :count] = basis.T
            for n in range(batch):
                sum_over_pixels(pixels, dgrid, (n, i), totals)
                for k in range(count):
                    sums[n, i, k, 0], sums[n, i, k, 1] = totals[0, k], totals[1, k]
        return stamp

    return cpu_launch.jit(spline_grid_vjp, parallel)


@scalar
def whole_vectors(count):
    """The least multiple of LANES that is at least ``count``."""
    return (count + LANES - 1) // LANES * LANES


# --- Functions that :mod:`numba_stn.ops.tps_grid` calls; kernels/cuda/tps.py has the same names ---


def spline_groups(count, size, points):
    """Slices of the batch: the images whose grids, and sums of rows, are in memory together."""
    rows, columns = size
    return slices(count, max(1, CHUNK // (2 * rows * max(columns, points + 3))))


def slices(count, step):
    """Slices of length ``step`` that divide a batch of ``count``; the last may be shorter."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def spline_memory(count, size, control):
    """Memory for the grids of ``count`` images, in the precision in which splines are computed."""
    return np.empty((count, *size, 2))


def spline_weights(control, points, matrix, start):
    """Weights (N, K + 3, 2) of the splines through ``control`` minus ``start`` times ``points``."""
    # Rounded to control's dtype, so that float32 control points at the lattice give the identity.
    offsets = control.astype(np.float64) - start * points.astype(control.dtype)
    return np.einsum("kc,ncd->nkd", matrix, offsets)


def spline_grid(weights, points, start, off, grid):
    """Fill ``grid`` with ``start`` times the output's own coordinates, plus the spline."""
    work = grid.size * (len(points) + 3) // 8 + math.prod(grid.shape[1:3]) * len(points)
    cpu_launch.run(make_spline_grid, (), work, weights, points, start, off, grid)


def spline_points(dgrid, points, matrix, off, dcontrol):
    """Fill ``dcontrol``, (N, K, 2), from the gradient of a grid."""
    for group in spline_groups(len(dgrid), dgrid.shape[1:3], len(points)):
        dweights = np.empty((group.stop - group.start, len(matrix), 2))
        with ignore_float_errors():
            spline_grid_vjp(dgrid[group], points, off, dweights)
            dcontrol[group] = np.einsum("kc,nkd->ncd", matrix, dweights)


def spline_grid_vjp(dgrid, points, off, dweights):
    """Fill ``dweights``, (N, K + 3, 2)."""
    sums = np.empty((len(dgrid), dgrid.shape[1], *dweights.shape[1:]))
    work = dgrid.size * (len(points) + 3) // 8 + math.prod(dgrid.shape[1:3]) * len(points)
    cpu_launch.run(make_spline_grid_vjp, (), work, dgrid, points, off, sums)
    dweights[...] = sums.sum(axis=1)
