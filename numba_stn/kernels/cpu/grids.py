"""CPU kernels of affine grids, of planes and of volumes: forward, and sums for theta's gradient."""

import functools

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.coordinates import base_coordinate, from_middle
from .arrays import ignore_float_errors
from .theta_sums import add_row, normalising_factors

# --- Planes ---------------------------------------------------------------------------------------


@functools.cache
def make_affine_grid(parallel):
    """Kernel: theta -> grid."""
    stamp = cpu_launch.stamp(parallel)

    def affine_grid(theta, off, grid):
        batch, rows, columns, _ = grid.shape
        for row in prange(batch * rows):
            n, i = row // rows, row % rows
            y = base_coordinate(i, rows, off)
            for j in range(columns):
                x = base_coordinate(j, columns, off)
                for k in range(2):
                    grid[n, i, j, k] = theta[n, k, 0] * x + theta[n, k, 1] * y + theta[n, k, 2]
        return stamp

    return cpu_launch.jit(affine_grid, parallel)


@functools.cache
def make_grid_moments(parallel):
    """Kernel: dgrid -> moments (N, H_out, 2, 3): sums over each row of d times column, row and 1.

    d is the gradient with respect to x, then to y.
    """
    stamp = cpu_launch.stamp(parallel)

    def grid_moments(dgrid, moments):
        batch, rows, columns, _ = dgrid.shape
        for row in prange(batch * rows):
            n, i = row // rows, row % rows
            for k in range(2):
                by_column, total = 0.0, 0.0
                for j in range(columns):
                    d = np.float64(dgrid[n, i, j, k])
                    by_column += d * j
                    total += d
                moments[n, i, k, 0] = by_column
                moments[n, i, k, 1] = total * i
                moments[n, i, k, 2] = total
        return stamp

    return cpu_launch.jit(grid_moments, parallel)


# --- Volumes --------------------------------------------------------------------------------------


@functools.cache
def make_affine_volume(parallel):
    """Kernel: theta (N, 3, 4) -> grid."""
    stamp = cpu_launch.stamp(parallel)

    def affine_grid(theta, off, grid):
        batch, depth, rows, columns, _ = grid.shape
        for task in prange(batch * depth * rows):
            n, k, i = task // rows // depth, task // rows % depth, task % rows
            z, y = base_coordinate(k, depth, off), base_coordinate(i, rows, off)
            for j in range(columns):
                x = base_coordinate(j, columns, off)
                for r in range(3):
                    t = theta[n, r]
                    grid[n, k, i, j, r] = t[0] * x + t[1] * y + t[2] * z + t[3]
        return stamp

    return cpu_launch.jit(affine_grid, parallel)


@functools.cache
def make_volume_moments(parallel):
    """Kernel: dgrid -> each slice's sums for theta, (N, D_out, 3, 4)."""
    stamp = cpu_launch.stamp(parallel)

    def moments(dgrid, sums):
        batch, depth, rows, columns, _ = dgrid.shape
        for task in prange(batch * depth):
            n, k = task // depth, task % depth
            sums[n, k] = 0
            for i in range(rows):
                for r in range(3):
                    total, by_column = 0.0, 0.0
                    for j in range(columns):
                        d = np.float64(dgrid[n, k, i, j, r])
                        total += d
                        by_column += d * from_middle(j, columns)
                    y, z = from_middle(i, rows), from_middle(k, depth)
                    add_row(sums[n, k], r, total, by_column, y, z)
        return stamp

    return cpu_launch.jit(moments, parallel)


def affine_volume(theta, off, grid):
    """Fill ``grid``, (N, D_out, H_out, W_out, 3)."""
    cpu_launch.run(make_affine_volume, (), grid.size, theta, off, grid)


def affine_volume_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 3, 4)."""
    sums = np.empty((*dgrid.shape[:2], 3, 4))
    cpu_launch.run(make_volume_moments, (), dgrid.size, dgrid, sums)
    with ignore_float_errors():
        dtheta[...] = sums.sum(axis=1) * normalising_factors(dgrid.shape[1:4], off)
