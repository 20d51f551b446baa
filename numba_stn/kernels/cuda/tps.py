"""CUDA kernels of thin-plate splines: from control points to weights and a grid, and back.

The counterpart of the CPU's :mod:`numba_stn.kernels.cpu.tps`, in the type of the points. The
lattice and its matrix are uploaded once.
"""

import functools

from ..cpu.tps import energy_by_log, slices
from ..cpu_launch import source_hash
from ..math.coordinates import base_coordinate
from .device import (
    BLOCK,
    THREADS,
    constant,
    cuda,
    each,
    empty,
    inlined,
    jit,
    launch,
    launch_pixels,
    narrow,
)
from .kernel_arguments import off_of, typed
from .layout import Geometry, element
from .loops import block_part, each_pixel, first_x, quotient, row_y, sum_pixels
from .sums import add_block, make_theta_sum, no_moments, parts_of, plus

# Numbers of grids in memory at a time, at least those of one image: few enough to need
# little memory beside the images, and enough that the host stays ahead of the GPU.
CHUNK = 2**24

# Images whose grids a thread computes at once, since all use the same functions.
IMAGES = 4

# Functions whose sums a block computes at once, for x and y each.
FUNCTIONS = 3

# --- The functions --------------------------------------------------------------------------------


@inlined
def function(points, k, count, x, y):
    """Function k of the K + 3 at (x, y): U of a point, 1, x and y; a larger k gives any value."""
    real = type(x)
    if k < count:
        across, down = x - element(points, 2 * k), y - element(points, 2 * k + 1)
        return energy_by_log(across * across + down * down)
    if k == count:
        return real(1)
    if k == count + 1:
        return x
    return y


# --- Weights, from control points -----------------------------------------------------------------


@functools.cache
def make_spline_weights():
    """Kernel: control (N, K, 2) -> weights (N, K + 3, 2), one thread for each number."""
    sources = source_hash()

    def spline_weights(weights, control, points, matrix, start, count):
        _ = sources
        real = weights.dtype.type
        for to in range(cuda.grid(1), weights.size, cuda.gridsize(1)):
            axis, k, n = to % 2, to // 2 % (count + 3), to // 2 // (count + 3)
            total, c = real(0), 0
            while c < count:
                offset = control[2 * (n * count + c) + axis] - start * points[2 * c + axis]
                total += matrix[k * count + c] * offset
                c += 1
            weights[to] = total

    return jit(spline_weights)


@functools.cache
def make_spline_points():
    """Kernel: dweights (N, rows, 2), where rows is at least K + 3 -> dcontrol (N, K, 2)."""
    sources = source_hash()

    def spline_points(dcontrol, dweights, matrix, rows, count):
        _ = sources
        real = dcontrol.dtype.type
        for to in range(cuda.grid(1), dcontrol.size, cuda.gridsize(1)):
            axis, c, n = to % 2, to // 2 % count, to // 2 // count
            total, k = real(0), 0
            while k < count + 3:
                total += matrix[k * count + c] * dweights[2 * (n * rows + k) + axis]
                k += 1
            dcontrol[to] = total

    return jit(spline_points)


# --- grid -----------------------------------------------------------------------------------------


@inlined
def add_function(sums, weights, at, k, value):
    """Add a function times its weights to the four splines, whose weights begin at ``at``."""
    x0, y0, x1, y1, x2, y2, x3, y3 = sums
    k = type(at[0])(2 * k)
    return (
        x0 + value * element(weights, at[0] + k),
        y0 + value * element(weights, at[0] + k + 1),
        x1 + value * element(weights, at[1] + k),
        y1 + value * element(weights, at[1] + k + 1),
        x2 + value * element(weights, at[2] + k),
        y2 + value * element(weights, at[2] + k + 1),
        x3 + value * element(weights, at[3] + k),
        y3 + value * element(weights, at[3] + k + 1),
    )


@inlined
def put(grid, to, x, y):
    """Write a coordinate."""
    grid[to], grid[to + 1] = x, y


@inlined
def spline_slice(call, g, n, k):
    """First of a group's images, and where the weights of each begin."""
    (batch, _, count), index = g.counts, type(n)
    n, last, length = index(n * IMAGES), index(batch - 1), index(2 * (count + 3))
    # Where a group has fewer images, the last one is computed again and not written.
    n1, n2, n3 = index(min(n + 1, last)), index(min(n + 2, last)), index(min(n + 3, last))
    return n, (index(n * length), index(n1 * length), index(n2 * length), index(n3 * length))


@inlined
def spline_pixel(call, g, common, where):
    """Write the coordinates of one output pixel of a group's images."""
    (weights, points, start, x, grid), (n, at), (_, _, i, j) = call, common, where
    (batch, _, count), (_, rows, columns), index = g.counts, g.sizes, type(j)
    y, k = base_coordinate(i, rows, g.off), index(0)
    sx, sy = start * x, start * y
    sums = sx, sy, sx, sy, sx, sy, sx, sy
    while k < count + 3:
        sums = add_function(sums, weights, at, k, function(points, k, count, x, y))
        k = index(k + 1)
    x0, y0, x1, y1, x2, y2, x3, y3 = sums
    to, plane = index(2 * ((n * rows + i) * columns + j)), index(2 * rows * columns)
    put(grid, to, x0, y0)
    if n + 1 < batch:
        put(grid, index(to + plane), x1, y1)
    if n + 2 < batch:
        put(grid, index(to + 2 * plane), x2, y2)
    if n + 3 < batch:
        put(grid, index(to + 3 * plane), x3, y3)


@functools.cache
def make_spline_grid():
    """Kernel: weights (N, K + 3, 2) -> the splines, added to ``start`` times (x, y).

    The counts of the geometry are (N, groups of images, K).
    """
    sources = source_hash()

    def spline_grid(weights, points, start, geometry, grid):
        _ = sources
        g = Geometry(*geometry)
        each_pixel(spline_slice, spline_pixel, 2, (weights, points, start, first_x(g), grid), g)

    return jit(spline_grid)


@inlined
def function_slice(call, g, n, k):
    """Image and first function of a group of functions; these are numbered over all images."""
    image, group = quotient(n, g.counts[1])
    return image, type(n)(group * FUNCTIONS)


@inlined
def add_function_gradients(call, g, common, y, sums, where):
    """Add the gradient of one grid coordinate for the functions of a group."""
    (dgrid, points), (n, first), (_, rows, columns) = call, common, g.sizes
    _, _, i, j = where
    count, index = g.counts[2], type(j)
    x, at = base_coordinate(j, columns, g.off), index(2 * ((n * rows + i) * columns + j))
    gx, gy = element(dgrid, at), element(dgrid, at + 1)
    f0 = function(points, first, count, x, y)
    f1 = function(points, index(first + 1), count, x, y)
    f2 = function(points, index(first + 2), count, x, y)
    return plus(sums, (f0 * gx, f0 * gy, f1 * gx, f1 * gy, f2 * gx, f2 * gy))


@functools.cache
def make_spline_grid_vjp(real):
    """Kernel: dgrid -> each block's sums for the weights of three functions, (N, groups, 6, parts).

    In the order of the weights: x and y of each function. The counts of the geometry are (N, groups
    of functions, K).
    """
    sources, threads = source_hash(), THREADS

    def spline_grid_vjp(dgrid, points, geometry, parts, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        g, sums = Geometry(*geometry), no_moments(real(0))
        part = block_part(parts, g)
        call = dgrid, points
        sums = sum_pixels(function_slice, row_y, add_function_gradients, 2, call, g, sums, part)
        add_block(shared, sums, part, partials)

    return jit(spline_grid_vjp)


# --- What :mod:`numba_stn.ops.tps_grid` calls; the CPU has the same names -------------------------


def spline_groups(count, size, points):
    """Images whose grids are in memory together, as slices."""
    rows, columns = size
    return slices(count, max(1, CHUNK // (2 * rows * columns)))


def spline_memory(count, size, control):
    """Memory for the grids of ``count`` images, in the precision that splines are computed in."""
    return empty((count, *size, 2), control.dtype, control)


def spline_weights(control, points, matrix, start):
    """Weights (N, K + 3, 2) of the splines through ``control`` less ``start`` times the lattice."""
    weights = empty((len(control), len(matrix), 2), control.dtype, control)
    each(
        make_spline_weights(), weights, control, _resident(points, control),
        _resident(matrix, control), control.dtype.type(start), len(points),
    )  # fmt: skip
    return weights


def spline_grid(weights, points, start, off, grid):
    """Fill ``grid``: ``start`` times the output's own coordinates, plus the spline."""
    batch, rows, columns, _ = grid.shape
    index = narrow(grid, weights)
    counts, sizes = (batch, -(-batch // IMAGES), len(points)), typed(index, (1, rows, columns))
    geometry = off_of(off, grid), typed(index, counts), sizes, sizes
    launch_pixels(
        make_spline_grid(), geometry, weights, _resident(points, grid), grid.dtype.type(start),
        geometry, grid,
    )  # fmt: skip


def spline_points(dgrid, points, matrix, off, dcontrol):
    """Fill ``dcontrol``, (N, K, 2), from the gradient of a grid."""
    batch, rows, columns, _ = dgrid.shape
    index, count, real = narrow(dgrid), len(points), dgrid.dtype.type
    groups, parts = -(-(count + 3) // FUNCTIONS), parts_of(rows)
    partials = empty((batch, groups, 6, parts), dgrid.dtype, dgrid)
    dweights = empty((batch, FUNCTIONS * groups, 2), dgrid.dtype, dgrid)
    sizes = typed(index, (1, rows, columns))
    geometry = off_of(off, dgrid), typed(index, (batch, groups, count)), sizes, sizes
    launch(
        make_spline_grid_vjp(real), (batch * groups * parts,), BLOCK,
        dgrid, _resident(points, dgrid), geometry, parts, partials,
    )  # fmt: skip
    launch(make_theta_sum(real), (dweights.size,), THREADS, partials, parts, dweights)
    rows = FUNCTIONS * groups
    each(make_spline_points(), dcontrol, dweights, _resident(matrix, dgrid), rows, count)


def _resident(numbers, like):
    """Numbers of a lattice on the GPU, in the type of another array."""
    return constant(numbers, like.dtype, like)
