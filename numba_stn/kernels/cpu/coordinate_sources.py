"""Where samples read, in two and three dimensions: a row of the output, a pixel of it, and back.

A *row* is what does not change from column to column: start and step of the numerators of x, y and
z, in pixels, and of their divisor (which is 1 but for projective maps); of a grid, which is
normalised, what takes its coordinates to pixels.
``point`` gives the input pixel (x, y, z) of a column. ``pull`` takes a gradient with respect to it
to one with respect to numerators and divisor, from which theta's follows by sums over columns.

``sides`` are (D, H, W) of the images, ``sizes`` those of the output; a plane's depth is 1. ``off``
is that of :mod:`.coordinates`. Coordinates are a grid (N, D_out, H_out, W_out, 2 or 3), or theta.
"""

import functools

from ..math.coordinates import (
    GRID,
    NEAREST,
    PROJECTIVE,
    along_row,
    along_row_evenly,
    inlined,
    middle,
    scalar,
    unnormalize_slope,
)
from ..math.matrix_rows import axis_row, divided, divisor_row, moved
from .rows import from_grid
from .simd.vectors import LANES
from .tiles import block_origin, block_span

# --- theta ----------------------------------------------------------------------------------------


@functools.cache
def make_matrix(source, dims, tangent=False):
    """Function: coords, n, type -> the rows of theta for x, y, z and the divisor.

    Each has the factors of column, row and slice, and what is added. In a ``tangent`` the divisor
    that an affine map does not have is 0, and not 1.
    """
    unit = 0 if tangent else 1
    if source == GRID:

        def matrix(coords, n, real):
            none = (real(0), real(0), real(0), real(0))
            return none, none, none, none

    elif dims == 3:

        def matrix(coords, n, real):
            return (
                _entries(coords, n, 0, real),
                _entries(coords, n, 1, real),
                _entries(coords, n, 2, real),
                (real(0), real(0), real(0), real(unit)),
            )

    else:
        projective = source == PROJECTIVE

        def matrix(coords, n, real):
            none, one = real(0), real(unit)
            x0, x1, x2 = real(coords[n, 0, 0]), real(coords[n, 0, 1]), real(coords[n, 0, 2])
            y0, y1, y2 = real(coords[n, 1, 0]), real(coords[n, 1, 1]), real(coords[n, 1, 2])
            w0, w1, w2 = none, none, one
            if projective:
                w0, w1, w2 = real(coords[n, 2, 0]), real(coords[n, 2, 1]), real(coords[n, 2, 2])
            return (
                (x0, x1, none, x2), (y0, y1, none, y2),
                (none, none, none, none), (w0, w1, none, w2),
            )  # fmt: skip

    return scalar(matrix)


@scalar
def _entries(coords, n, k, real):
    return (
        real(coords[n, k, 0]), real(coords[n, k, 1]), real(coords[n, k, 2]), real(coords[n, k, 3])
    )  # fmt: skip


# --- Rows and pixels ------------------------------------------------------------------------------


@functools.cache
def make_row(source, dims, between_pixels, tangent=False):
    """Function: coords, n, k, i, sides, sizes, off -> the row."""
    matrix = make_matrix(source, dims, tangent)
    if source == GRID:

        def row(coords, n, k, i, sides, sizes, off):
            (d, h, w), zero = sides, off * 0
            return (
                (middle(w, off), unnormalize_slope(w, off)),
                (middle(h, off), unnormalize_slope(h, off)),
                (middle(d, off), unnormalize_slope(d, off)),
                (zero, zero),
            )

    elif between_pixels:

        def row(coords, n, k, i, sides, sizes, off):
            tx, ty, tz, tw = matrix(coords, n, type(off))
            return (
                (tx[1] * i + tx[3], tx[0]), (ty[1] * i + ty[3], ty[0]),
                (tz[3], tz[0]), (tw[1] * i + tw[3], tw[0]),
            )  # fmt: skip

    else:

        def row(coords, n, k, i, sides, sizes, off):
            (tx, ty, tz, tw), (d, h, w) = matrix(coords, n, type(off)), sides
            divisor = divisor_row(tw, i, sizes, off)
            return (
                axis_row(tx, w, divisor, k, i, sizes, off),
                axis_row(ty, h, divisor, k, i, sizes, off),
                axis_row(tz, d, divisor, k, i, sizes, off),
                divisor,
            )

    return scalar(row)


@functools.cache
def make_point(source, dims, mode):
    """Function: coords, row, n, k, i, j, columns, real -> (x, y, z) in pixels.

    Of a row of so many columns; in the plane, where the blocks of :mod:`.addresses` put them for
    images of the type ``real``.
    """
    deep, along = dims == 3, along_row_evenly if mode == NEAREST else along_row
    if source == GRID and deep:

        def point(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, zs), _ = row
            x = from_grid(coords[n, k, i, j, 0], x0, xs, real)
            y = from_grid(coords[n, k, i, j, 1], y0, ys, real)
            return x, y, from_grid(coords[n, k, i, j, 2], z0, zs, real)

    elif source == GRID:

        def point(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, _), _ = row
            x = from_grid(coords[n, i, j, 0], x0, xs, real)
            return x, from_grid(coords[n, i, j, 1], y0, ys, real), z0

    elif source == PROJECTIVE:

        def point(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, _), (w0, ws) = row
            inverse = 1.0 / (w0 + ws * j)
            return (x0 + xs * j) * inverse, (y0 + ys * j) * inverse, z0

    elif deep:

        def point(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, zs), _ = row
            return x0 + xs * j, y0 + ys * j, z0 + zs * j

    else:

        def point(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, _), _ = row
            first = block_origin(j, block_span(j // LANES, columns)[0], columns)
            return along(x0, xs, first, j - first, real), along(y0, ys, first, j - first, real), z0

    return inlined(point)


# --- The adjoint ----------------------------------------------------------------------------------


@functools.cache
def make_push(source, dims):
    """Function: coords_dot, row, row_dot, (n, k, i, j), pixel -> how the pixel moves, in pixels.

    ``row_dot`` is the row of ``coords_dot`` as a tangent; the map is linear in theta but for the
    division.
    """
    deep = dims == 3
    if source == GRID and deep:

        def push(coords_dot, row, row_dot, at, pixel):
            d = coords_dot[at]
            return d[0] * row[0][1], d[1] * row[1][1], d[2] * row[2][1]

    elif source == GRID:

        def push(coords_dot, row, row_dot, at, pixel):
            d = coords_dot[at[0], at[2], at[3]]
            return d[0] * row[0][1], d[1] * row[1][1], 0.0

    else:

        def push(coords_dot, row, row_dot, at, pixel):
            return moved(source, row, row_dot, at[3], pixel)

    return scalar(push)


@functools.cache
def make_pull(source):
    """Function: row, j, pixel, its gradient, sides, off -> gradient of the numerators, or divisor.

    In pixels; the third is z's for an affine map and the divisor's for a projective one. Where the
    gradient is 0 so are these, however near the divisor is to 0.
    """
    if source != PROJECTIVE:
        return scalar(lambda row, j, pixel, slopes, sides, off: slopes)
    return divided


def scales(source, sides, off):
    """What the sums over pixels are multiplied by, for each row of theta."""
    half = [(side - 1 + off) / 2 for side in sides[::-1]]
    return (*half[:2], 1.0) if source == PROJECTIVE else tuple(half)
