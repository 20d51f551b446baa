"""CUDA kernels that convert coordinates between units: pixels, displacements, polar grids.

:mod:`numba_stn.ops.grids` and :mod:`numba_stn.ops.polar_grid` use the functions of NumPy and CuPy;
these kernels do the same for arrays of libraries without such functions. Numbers for x, y and z are
tuples of three.
"""

import functools
import math

import numpy as np

from ..cpu_launch import source_hash
from ..math.coordinates import base_coordinate
from .device import constant, cuda, each, empty, inlined, jit
from .kernel_arguments import off_of, typed


@inlined
def pick(numbers, axis):
    """The number for x, y or z."""
    return numbers[0] if axis == 0 else numbers[1] if axis == 1 else numbers[2]


# --- One coordinate at a time ---------------------------------------------------------------------


@functools.cache
def make_scaled(dims):
    """Kernel: coordinates -> ``(c - before) factor + after``."""
    sources = source_hash()

    def scaled(result, coords, before, factor, after):
        _ = sources
        for to in range(cuda.grid(1), result.size, cuda.gridsize(1)):
            axis = to % dims
            found = (coords[to] - pick(before, axis)) * pick(factor, axis)
            result[to] = found + pick(after, axis)

    return jit(scaled)


@functools.cache
def make_displaced(dims):
    """Kernel: displacements -> each output pixel's own coordinates plus these times a factor."""
    sources = source_hash()

    def displaced(result, displacements, factor, off, sizes):
        _ = sources
        depth, rows, columns = sizes
        index = type(columns)
        for to in range(cuda.grid(1), result.size, cuda.gridsize(1)):
            axis, pixel = to % dims, to // dims
            own = base_coordinate(index(pixel % columns), columns, off)
            if axis == 1:
                own = base_coordinate(index(pixel // columns % rows), rows, off)
            elif axis == 2:
                own = base_coordinate(index(pixel // columns // rows % depth), depth, off)
            result[to] = displacements[to] * pick(factor, axis) + own

    return jit(displaced)


@functools.cache
def make_polar(log):
    """Kernel: centres (N, 2) in pixels -> normalised coordinates of angles and distances.

    ``directions`` are each row's cosine and sine, which the host computes because the GPU would
    need float64 for them. ``radius`` is that of the column after the last, or its logarithm.
    """
    sources = source_hash()

    def polar(result, center, directions, radius, middle, factor, sizes):
        _ = sources
        rows, columns = sizes
        real = result.dtype.type
        for to in range(cuda.grid(1), result.size, cuda.gridsize(1)):
            axis, pixel = to % 2, to // 2
            part = real(pixel % columns) / real(columns)
            distance = real(math.exp(part * radius)) if log else part * radius
            offset = directions[pixel // columns % rows * 2 + axis] * distance
            found = center[pixel // columns // rows * 2 + axis] + offset
            result[to] = (found - pick(middle, axis)) * pick(factor, axis)

    return jit(polar)


@functools.cache
def make_shifts():
    """Kernel: gradient of theta (N, 2, 3) -> that of its shifts, times a factor, (N, 2)."""
    sources = source_hash()

    def shifts(result, dtheta, factor):
        _ = sources
        for to in range(cuda.grid(1), result.size, cuda.gridsize(1)):
            result[to] = dtheta[3 * to + 2] * pick(factor, to % 2)

    return jit(shifts)


# --- What :mod:`numba_stn.ops.grids` and :mod:`numba_stn.ops.polar_grid` call ---------------------


def scaled(coords, before, factor, after):
    """``(coords - before) factor + after``, each a number for each axis."""
    result = empty(coords.shape, coords.dtype, coords)
    numbers = (_three(each_axis, coords) for each_axis in (before, factor, after))
    each(make_scaled(coords.shape[-1]), result, coords, *numbers)
    return result


def displaced(displacements, factor, off):
    """The output's own coordinates plus ``displacements factor``."""
    shape, like = displacements.shape, displacements
    result, sizes = empty(shape, like.dtype, like), typed(int, (1, *shape[1:-1])[-3:])
    args = _three(factor, like), off_of(off, like), sizes
    each(make_displaced(shape[-1]), result, displacements, *args)
    return result


def polar(center, size, radius, log, middle, factor):
    """The grid of angles and distances from centres in pixels."""
    count, kind = center.size // 2, center.dtype.type
    result = empty((count, *size, 2), center.dtype, center)
    reach = kind(math.log(radius) if log else radius)
    angles = 2 * np.pi * np.arange(size[0]) / size[0]
    directions = constant(np.stack([np.cos(angles), np.sin(angles)], axis=-1), kind, center)
    each(
        make_polar(bool(log)), result, center, directions, reach, _three(middle, center),
        _three(factor, center), typed(int, size),
    )  # fmt: skip
    return result


def shifts(dtheta, factor):
    """The gradient of theta's shifts, times a factor for each axis."""
    result = empty((len(dtheta), 2), dtheta.dtype, dtheta)
    each(make_shifts(), result, dtheta, _three(factor, dtheta))
    return result


def _three(numbers, like):
    """Numbers for x, y and z in the type of an array; 0 for the z of a plane."""
    kind = like.dtype.type
    return (*map(kind, numbers), kind(0))[:3]
