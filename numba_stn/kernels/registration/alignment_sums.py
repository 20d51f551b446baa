"""CPU kernels of registration: the sums of a Gauss-Newton step.

A step needs sums over all pixels of the fixed image that are compared: with the fixed image's
value f, the moving image's sample s at the pixel's position under the map, and the row J of the
Jacobian of s, they are J^T J, J^T (s, f, 1), and s^2, s f, f^2, s, f and 1. There are two kinds of
maps:

- :func:`matrix_sums`, for a map that is a matrix: one pass over the pixels, and no Jacobian in
  memory;
- :func:`grid_sums`, for a map whose coordinates are a sum of functions times its parameters.

A row is sampled pixel by pixel into a few short arrays (:mod:`.sample_rows`), whose products are
then summed in vectors (:mod:`.row_sums`). A thread sums a band of rows, and bands are added in
order, so neither the number of threads nor the processor changes the result.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.jit import scalar
from .row_sums import padded_width, slope_products, slope_value_products, value_products
from .sample_rows import make_sample_grid, make_sample_row

# The number of rows that one task sums.
BAND = 8


class Axes(NamedTuple):
    """The coordinates of both images.

    A coordinate of the fixed image is ``(j - center) * scale`` for pixel j, and a pixel of the
    moving image is ``u * scale + center`` for coordinate u.

    Parameters
    ----------
    fixed, moving : tuples of float
        (scale, z, y, x) of each image, with the center's z, y and x.
    columns : (W,) array of float32
        The coordinates of the fixed image's columns.
    """

    fixed: Any
    moving: Any
    columns: Any


class Sums(NamedTuple):
    """The sums of a step: J^T J, J^T (s, f, 1), and (s^2, s f, f^2, s, f, 1)."""

    normal: Any
    mixed: Any
    values: Any


# --- A map that is a matrix -----------------------------------------------------------------------


@functools.cache
def make_matrix_sums(dims, projective, parallel):
    """Kernel: both images and the matrix -> the sums of each band of rows.

    ``scales`` is ``axes.fixed + axes.moving`` of :class:`Axes`, and x is ``axes.columns``. A row of
    ``sums`` holds three arrays, one after the other. With h the derivatives of a sample with
    respect to the map's A rows, and p = (x, y[, z], 1) of the fixed image, these are the sums of
    ``h h^T p p^T`` (A, A, K, K), only the upper triangle of both pairs, of ``h p (s, f, 1)``
    (A, K, 3), and of s^2, s f, f^2, s, f and 1 (6,).
    """
    stamp = cpu_launch.stamp(parallel)
    sample_row = make_sample_row(dims, projective)
    map_rows, size = dims + projective, dims + 1
    sample, target, column = map_rows, map_rows + 1, map_rows + 2
    normal_end, mixed_end = _section_ends(map_rows, size)

    def matrix_sums(moving, fixed, matrix, scales, x, sums):
        depth, height, width = fixed.shape
        scale, cz, cy = scales[0], scales[1], scales[2]
        moving_axis = scales[4], scales[5], scales[6], scales[7]
        lines = depth * height
        for band in prange(len(sums)):
            # The slopes, the sample and the fixed image's value; then x. All end with zeros.
            rows = np.zeros((map_rows + 3, padded_width(width)), np.float32)
            rows[-1, :width] = x
            sums[band, :] = 0
            normal = sums[band, :normal_end].reshape(map_rows, map_rows, size, size)
            mixed = sums[band, normal_end:mixed_end].reshape(map_rows, size, 3)
            values = sums[band, mixed_end:]
            c = np.ones(dims)  # y[, z] and 1: the part of p that is constant along a row
            start = np.zeros(3)
            for line in range(band * BAND, min(lines, (band + 1) * BAND)):
                k, i = line // height, line % height
                c[0] = (i - cy) * scale
                if dims == 3:
                    c[1] = (k - cz) * scale
                for a in range(map_rows):
                    start[a] = 0
                    for b in range(dims):
                        start[a] += matrix[a, b + 1] * c[b]
                count = sample_row(moving, fixed[k, i], matrix, start, moving_axis, x, rows)
                if count == 0:
                    continue
                for a in range(map_rows):
                    for b in range(a, map_rows):
                        add_normal(normal[a, b], slope_products(rows, (a, b, column)), c)
                    add_mixed(mixed[a], slope_value_products(rows, (a, sample, target, column)), c)
                add_values(values, value_products(rows, (sample, target)), count)
        return stamp

    return cpu_launch.jit(matrix_sums, parallel)


@scalar
def add_normal(normal, row_sums, c):
    """Add a row's ``p p^T`` times a product of slopes, from the sums over x^0, x^1 and x^2."""
    s0, s1, s2 = row_sums
    normal[0, 0] += s2
    for a in range(len(c)):
        normal[0, a + 1] += s1 * c[a]
        for b in range(a, len(c)):
            normal[a + 1, b + 1] += s0 * c[a] * c[b]


@scalar
def add_mixed(mixed, row_sums, c):
    """Add a row's ``p (s, f, 1)`` times a slope."""
    for m in range(3):
        mixed[0, m] += row_sums[2 * m + 1]
        for a in range(len(c)):
            mixed[a + 1, m] += row_sums[2 * m] * c[a]


@scalar
def add_values(values, row_sums, count):
    """Add a row's s^2, s f, f^2, s, f and 1."""
    for k in range(5):
        values[k] += row_sums[k]
    values[5] += count


def matrix_sums(moving: Any, fixed: Any, matrix: Any, axes: Axes) -> Sums:
    """Sum over all pixels for a map that is a matrix.

    Parameters
    ----------
    moving, fixed : (D, H, W) arrays of float32
        Pixels that are not compared are NaN.
    matrix : (A, K) array of float64
        From the fixed image's coordinates to the moving one's; A is 3 for a projective map.
    axes : Axes

    Returns
    -------
    Sums
        ``normal`` (A K, A K) is J^T J, with derivatives per moving pixel; ``mixed`` (A K, 3) is
        J^T (s, f, 1); ``values`` (6,) are the sums of s^2, s f, f^2, s, f and 1.
    """
    map_rows, size = matrix.shape
    dims = size - 1
    projective = dims == 2 and map_rows == 3
    bands = -(-fixed.shape[0] * fixed.shape[1] // BAND)
    normal_end, mixed_end = _section_ends(map_rows, size)
    per_band = np.empty((bands, mixed_end + 6))
    padded = np.zeros((3, size))
    padded[:map_rows] = matrix
    cpu_launch.run(
        make_matrix_sums, (dims, projective), fixed.size,
        moving, fixed, padded, (*axes.fixed, *axes.moving), axes.columns, per_band,
    )  # fmt: skip
    normal, mixed, values = np.split(per_band.sum(axis=0), [normal_end, mixed_end])
    normal = normal[_symmetric_indices(map_rows, size)]
    return Sums(normal, mixed.reshape(map_rows * size, 3), values)


def _section_ends(map_rows, size):
    """Where, in a band's sums, J^T J ends and J^T (s, f, 1) ends."""
    normal_end = map_rows**2 * size**2
    return normal_end, normal_end + map_rows * size * 3


@functools.cache
def _symmetric_indices(map_rows, size):
    """Index each entry of J^T J in the sums, of which only the upper triangles are filled."""
    a, k, b, m = np.ogrid[:map_rows, :size, :map_rows, :size]
    upper = (np.minimum(a, b), np.maximum(a, b), np.minimum(k, m), np.maximum(k, m))
    shape = (map_rows, map_rows, size, size)
    indices = np.ravel_multi_index(np.broadcast_arrays(*upper), shape)
    return indices.reshape(map_rows * size, map_rows * size)


# --- Any other map --------------------------------------------------------------------------------


def grid_sums(moving: Any, fixed: Any, grid: Any, basis: Any) -> Sums:
    """Sum over all pixels for a map whose coordinates are functions times parameters.

    Parameters
    ----------
    moving, fixed
        As in :func:`matrix_sums`; planes only.
    grid : (2, H, W) array of float32
        The column and the line in the moving image of each pixel of the fixed image.
    basis : (K, H, W) array of float32
        The functions, the same for both axes.

    Returns
    -------
    Sums
        As in :func:`matrix_sums`, for 2 K parameters: those of x first, then those of y.
    """
    count, height, width = basis.shape
    sampled, counts = np.empty((4, height, width), np.float32), np.empty(height, np.int64)
    cpu_launch.run(make_sample_grid, (), fixed.size, moving, fixed, grid, sampled, counts)
    basis, sampled = basis.reshape(count, -1), sampled.reshape(4, -1)
    slopes, s, f = sampled[:2], sampled[2], sampled[3]
    normal = np.empty((2, count, 2, count))
    right = np.stack([slopes[a] * v for a in range(2) for v in (s, f, np.float32(1))])
    with cpu_launch.one_blas_thread():
        for a, b in ((0, 0), (0, 1), (1, 1)):
            normal[a, :, b] = (basis * (slopes[a] * slopes[b])) @ basis.T
        mixed = (basis @ right.T).reshape(count, 2, 3).transpose(1, 0, 2)
    normal[1, :, 0] = normal[0, :, 1]
    products = s * s, s * f, f * f, s, f
    values = np.array([*(each.sum(dtype=np.float64) for each in products), counts.sum()])
    mixed = mixed.reshape(-1, 3).astype(np.float64)
    return Sums(normal.reshape(2 * count, -1), mixed, values)
