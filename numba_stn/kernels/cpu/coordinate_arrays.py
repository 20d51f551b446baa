"""CPU kernels of arrays of coordinates: scaled, shifted, or joined from x and y.

NumPy's functions give the same bits, but go over pairs of numbers one pair at a time.
"""

import functools

import numpy as np
from numba import prange

from .. import cpu_launch

# Coordinates that one task computes.
TASK = 4096

# Below this number NumPy's functions take microseconds, and a kernel would have to be loaded.
LEAST = 2048


@functools.cache
def make_scale(parallel):
    """Kernel: coords (P, D) -> ``(coords - before) * factors + after``, each of one axis."""
    stamp = cpu_launch.stamp(parallel)

    def scale(coords, before, factors, after, out):
        count, axes = coords.shape
        for task in prange((count + TASK - 1) // TASK):
            first, last = task * TASK, min((task + 1) * TASK, count)
            for axis in range(axes):
                b, f, a = before[axis], factors[axis], after[axis]
                for p in range(first, last):
                    out[p, axis] = (coords[p, axis] - b) * f + a
        return stamp

    return cpu_launch.jit(scale, parallel)


@functools.cache
def make_join(parallel):
    """Kernel: x (P), y (P) -> float64 (P, 2): ``(x - before) * factors``."""
    stamp = cpu_launch.stamp(parallel)

    def join(x, y, before, factors, out):
        count, bx, by, fx, fy = len(x), before[0], before[1], factors[0], factors[1]
        for task in prange((count + TASK - 1) // TASK):
            first, last = task * TASK, min((task + 1) * TASK, count)
            for p in range(first, last):
                out[p, 0] = (np.float64(x[p]) - bx) * fx
                out[p, 1] = (np.float64(y[p]) - by) * fy
        return stamp

    return cpu_launch.jit(join, parallel)


def scaled(coords, before, factors, after):
    """Return ``(coords - before) * factors + after``; the last axis is x, y and z.

    The factors, one for each axis, are of the coordinates' dtype.
    """
    if coords.size < LEAST:
        return (coords - before) * factors + after
    out = np.empty_like(coords)
    flat = (-1, coords.shape[-1])
    cpu_launch.run(make_scale, (), coords.size, coords.reshape(flat), before, factors, after,
                   out.reshape(flat))  # fmt: skip
    return out


def joined(x, y, before, factors):
    """Return ``(x - before) * factors`` and the same of y, float64 (..., 2); contiguous inputs."""
    out = np.empty((*x.shape, 2))
    cpu_launch.run(make_join, (), out.size, x.ravel(), y.ravel(), before, factors,
                   out.reshape(-1, 2))  # fmt: skip
    return out
