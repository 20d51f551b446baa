"""CUDA kernels of thin-plate splines: from their points to weights and a grid, and back.

Those of :mod:`.tps` on a GPU, in the type of the points. The lattice and its matrix are uploaded
once. Arrays are lines of elements.
"""

import functools

from ..cpu.tps import energy_by_log, slices
from ..launch import source_hash
from ..math.coordinates import base_coordinate
from .calls import off_of, typed
from .device import BLOCK, THREADS, constant, cuda, each, empty, inlined, jit, launch, narrow, tiles
from .layout import element
from .loops import first_pixel, next_row
from .sums import add_block, make_theta_sum, parts_of, plus

# Numbers of grids in memory at a time, but for one image's: few enough to matter little beside the
# images, and enough that the host is ahead of the GPU.
CHUNK = 2**24

# Images whose grids a thread forms at once: the functions are the same for all.
IMAGES = 4

# Functions whose sums a block adds up at once, for x and y each.
FUNCTIONS = 3

# --- The functions --------------------------------------------------------------------------------


@inlined
def function(points, k, count, x, y):
    """Function k of the K + 3 at (x, y): U of a point, 1, x and y; from there on, any."""
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
    """Kernel: control (N, K, 2) -> weights (N, K + 3, 2), a thread a number."""
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
    """Kernel: dweights (N, rows, 2), of rows at least K + 3 -> dcontrol (N, K, 2)."""
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
    """Add a function times its weights, those of each spline from ``at`` on."""
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


@functools.cache
def make_spline_grid():
    """Kernel: weights (N, K + 3, 2) -> the splines, added to ``start`` times (x, y)."""
    sources = source_hash()

    def spline_grid(weights, points, start, off, count, shape, grid):
        _ = sources
        batch, rows, columns = shape
        index, length = type(columns), type(columns)(2 * (count + 3))
        group, first, j = first_pixel(index)
        x = base_coordinate(j, columns, off)
        while j < columns and group * IMAGES < batch:
            n, last, i = index(group * IMAGES), index(batch - 1), first
            # Where there are fewer images, the last one is formed again, and not written.
            n1, n2, n3 = index(min(n + 1, last)), index(min(n + 2, last)), index(min(n + 3, last))
            at = (index(n * length), index(n1 * length), index(n2 * length), index(n3 * length))
            while i < rows:
                y, k = base_coordinate(i, rows, off), index(0)
                sx, sy = start * x, start * y
                sums = sx, sy, sx, sy, sx, sy, sx, sy
                while k < count + 3:
                    value = function(points, k, count, x, y)
                    sums = add_function(sums, weights, at, k, value)
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
                i = index(next_row(i))
            group = index(group + cuda.gridDim.z)

    return jit(spline_grid)


@functools.cache
def make_spline_grid_vjp(real):
    """Kernel: dgrid -> each block's sums for the weights of three functions, (N, groups, 6, parts).

    In the order of the weights: of x and y for each function.
    """
    sources, (x_block, y_block), threads = source_hash(), BLOCK, THREADS

    def spline_grid_vjp(dgrid, points, off, count, groups, shape, parts, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        _, rows, columns = shape
        index, zero = type(columns), real(0)
        block, part = index(cuda.blockIdx.x // parts), index(cuda.blockIdx.x % parts)
        n, k = index(block // groups), index(block % groups * FUNCTIONS)
        sums = (zero, zero, zero, zero, zero, zero)
        i = index(part * y_block + cuda.threadIdx.y)
        while i < rows:
            y, j = base_coordinate(i, rows, off), index(cuda.threadIdx.x)
            while j < columns:
                x, at = base_coordinate(j, columns, off), index(2 * ((n * rows + i) * columns + j))
                gx, gy = element(dgrid, at), element(dgrid, at + 1)
                f = function(points, k, count, x, y)
                g = function(points, index(k + 1), count, x, y)
                h = function(points, index(k + 2), count, x, y)
                sums = plus(sums, (f * gx, f * gy, g * gx, g * gy, h * gx, h * gy))
                j = index(j + x_block)
            i = index(i + parts * y_block)
        add_block(shared, sums, (block, part, parts), partials)

    return jit(spline_grid_vjp)


# --- What :mod:`numba_stn.ops.tps_grid` calls; spline.py has the same names -----------------------


def spline_groups(count, size, points):
    """Images whose grids stand in memory together, as slices."""
    rows, columns = size
    return slices(count, max(1, CHUNK // (2 * rows * columns)))


def spline_room(count, size, control):
    """Memory for the grids of so many images, in the precision that splines are computed in."""
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
    launch(
        make_spline_grid(), tiles(-(-batch // IMAGES), rows, columns), BLOCK,
        weights, _resident(points, grid), grid.dtype.type(start), off_of(off, grid),
        index(len(points)), typed(index, (batch, rows, columns)), grid,
    )  # fmt: skip


def spline_points(dgrid, points, matrix, off, dcontrol):
    """Fill ``dcontrol``, (N, K, 2), from the gradient of a grid."""
    batch, rows, columns, _ = dgrid.shape
    index, count, real = narrow(dgrid), len(points), dgrid.dtype.type
    groups, parts = -(-(count + 3) // FUNCTIONS), parts_of(rows)
    partials = empty((batch, groups, 6, parts), dgrid.dtype, dgrid)
    dweights = empty((batch, FUNCTIONS * groups, 2), dgrid.dtype, dgrid)
    launch(
        make_spline_grid_vjp(real), (batch * groups * parts,), BLOCK,
        dgrid, _resident(points, dgrid), off_of(off, dgrid), index(count), index(groups),
        typed(index, (batch, rows, columns)), parts, partials,
    )  # fmt: skip
    launch(make_theta_sum(real), (dweights.size,), THREADS, partials, parts, dweights)
    rows = FUNCTIONS * groups
    each(make_spline_points(), dcontrol, dweights, _resident(matrix, dgrid), rows, count)


def _resident(numbers, like):
    """Numbers of a lattice on the GPU, in the type of an array there."""
    return constant(numbers, like.dtype, like)
