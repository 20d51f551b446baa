"""Where one thread of a CUDA kernel reads, by the math of :mod:`.matrix_rows`.

Coordinates are formed in their own type, that of ``off``. Arrays are lines of elements; ``sides``
are (D, H, W) of the images, ``sizes`` those of the output, of the type of all indices; a plane's
depth is 1.
"""

import numpy as np

from ..math.coordinates import GRID, PROJECTIVE, unnormalize, unnormalize_slope
from ..math.matrix_rows import axis_row, divided, divisor_row, moved
from .device import inlined
from .single_pixels import element

# --- theta ----------------------------------------------------------------------------------------


@inlined
def three(line, at):
    """A row of theta in the plane, as :mod:`.matrix_rows` takes it."""
    x = element(line, at)
    return x, element(line, at + 1), type(x)(0), element(line, at + 2)


@inlined
def four(line, at):
    """A row of theta in space."""
    return (
        element(line, at), element(line, at + 1), element(line, at + 2), element(line, at + 3)
    )  # fmt: skip


@inlined
def matrix(source, dims, coords, n, off):
    """The rows of the n-th theta for x, y, z and the divisor; of a grid, nothing."""
    real = type(off)
    none, unit = (real(0), real(0), real(0), real(0)), (real(0), real(0), real(0), real(1))
    if source == GRID:
        return none, none, none, unit
    if dims == 3:
        at = 12 * n
        return four(coords, at), four(coords, at + 4), four(coords, at + 8), unit
    at = 9 * n if source == PROJECTIVE else 6 * n
    divisor = three(coords, at + 6) if source == PROJECTIVE else unit
    return three(coords, at), three(coords, at + 3), none, divisor


@inlined
def tangent(source, dims, coords_dot, n, off):
    """:func:`matrix` of a change of theta: the divisor that a map does not have stays."""
    x, y, z, w = matrix(source, dims, coords_dot, n, off)
    none = type(off)(0)
    return x, y, z, w if source == PROJECTIVE else (none, none, none, none)


# --- Rows and pixels ------------------------------------------------------------------------------


@inlined
def row_of(theta, k, i, sides, sizes, off):
    """Start and step, along a row of the output, of the numerators and of the divisor."""
    d, h, w = sides
    divisor = divisor_row(theta[3], i, sizes, off)
    return (
        axis_row(theta[0], w, divisor, k, i, sizes, off),
        axis_row(theta[1], h, divisor, k, i, sizes, off),
        axis_row(theta[2], d, divisor, k, i, sizes, off),
        divisor,
    )


@inlined
def place_of(n, k, i, j, sizes):
    """Number of an output pixel, of all."""
    depth, rows, columns = sizes
    return type(columns)(((n * depth + k) * rows + i) * columns + j)


@inlined
def point(source, dims, coords, row, where, sides, sizes, off):
    """Input pixel (x, y, z) that the output pixel ``where``, (n, k, i, j), reads."""
    n, k, i, j = where
    d, h, w = sides
    if source == GRID:
        at = type(j)(dims * place_of(n, k, i, j, sizes))
        z = unnormalize(element(coords, at + 2), d, off) if dims == 3 else type(off)(0)
        return (
            unnormalize(element(coords, at), w, off),
            unnormalize(element(coords, at + 1), h, off),
            z,
        )
    (x0, xs), (y0, ys), (z0, zs), (w0, ws) = row
    column = type(off)(j)
    x, y, z = x0 + xs * column, y0 + ys * column, z0 + zs * column
    if source == PROJECTIVE:
        divisor = w0 + ws * column
        x, y = x / divisor, y / divisor
    return x, y, z


# --- The adjoint, and forward derivatives ---------------------------------------------------------


@inlined
def pull(source, row, j, pixel, slopes, sides, off):
    """What the three rows of theta's gradient are made of, from slopes in pixels."""
    d, h, w = sides
    x, y, z = slopes
    if source == PROJECTIVE:
        x, y, z = divided(row, j, pixel, slopes, sides, off)
        return x * unnormalize_slope(w, off), y * unnormalize_slope(h, off), z
    return (
        x * unnormalize_slope(w, off),
        y * unnormalize_slope(h, off),
        z * unnormalize_slope(d, off),
    )


@inlined
def write_slopes(dgrid, dims, at, slopes, sides, off):
    """Write a gradient with respect to a pixel coordinate as one to a grid's."""
    d, h, w = sides
    at = np.uint64(dims * at)
    dgrid[at] = slopes[0] * unnormalize_slope(w, off)
    dgrid[at + np.uint64(1)] = slopes[1] * unnormalize_slope(h, off)
    if dims == 3:
        dgrid[at + np.uint64(2)] = slopes[2] * unnormalize_slope(d, off)


@inlined
def push(source, dims, coords_dot, row, row_dot, where, pixel, sides, sizes, off):
    """How the input pixel of the output pixel ``where`` moves, in pixels."""
    n, k, i, j = where
    if source != GRID:
        return moved(source, row, row_dot, j, pixel)
    d, h, w = sides
    at = type(j)(dims * place_of(n, k, i, j, sizes))
    z = element(coords_dot, at + 2) * unnormalize_slope(d, off) if dims == 3 else type(off)(0)
    return (
        element(coords_dot, at) * unnormalize_slope(w, off),
        element(coords_dot, at + 1) * unnormalize_slope(h, off),
        z,
    )
