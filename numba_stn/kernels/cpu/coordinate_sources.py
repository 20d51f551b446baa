"""Sampling positions in two and three dimensions: of the pixels of an output row, and gradients.

A *row* is what all columns of an output row have in common. For theta, it has start and step of the
numerators of x, y and z, in pixels, and of their divisor, which is 1 unless the map is projective.
For a grid, it has scale and shift from normalised coordinates to pixels, or 1 and 0 if the grid has
positions in pixels.

:func:`make_input_pixel` computes the sampling position (x, y, z) of a column,
:func:`make_input_pixel_dot` its tangent, and :func:`make_theta_row_gradients` takes the gradient
with respect to a position to the gradient with respect to numerators and divisor, from which
theta's gradient follows by sums over columns.

``sides`` are (D, H, W) of the images, ``sizes`` those of the output; a plane's depth is 1.
:mod:`.coordinates` defines ``off``. ``coords`` is a grid, (N, D_out, H_out, W_out, 2 or 3), or
theta.
"""

import functools

from ..math.coordinates import along_row, along_row_evenly, middle, unnormalize_slope
from ..math.jit import inlined, scalar
from ..math.matrix_rows import axis_row, divisor_row, position_jvp, quotient_vjp
from ..math.sampler_kind import GRID, NEAREST, PROJECTIVE
from .bilinear_coordinates import from_grid
from .simd.vectors import LANES
from .tiles import block_origin, block_span

# --- theta ----------------------------------------------------------------------------------------


@functools.cache
def make_theta_rows(source, dims, tangent=False):
    """Function: coords, n, type -> the rows of theta n for x, y, z and the divisor.

    Each has the factors of column, row and slice, and a constant. The divisor of an affine map is
    the constant 1, and 0 if ``coords`` is a ``tangent``.
    """
    unit = 0 if tangent else 1
    if source == GRID:

        def theta_rows(coords, n, real):
            none = (real(0), real(0), real(0), real(0))
            return none, none, none, none

    elif dims == 3:
        projective = source == PROJECTIVE

        def theta_rows(coords, n, real):
            divisor = (real(0), real(0), real(0), real(unit))
            if projective:
                divisor = _volume_row(coords, n, 3, real)
            return (
                _volume_row(coords, n, 0, real),
                _volume_row(coords, n, 1, real),
                _volume_row(coords, n, 2, real),
                divisor,
            )

    else:
        projective = source == PROJECTIVE

        def theta_rows(coords, n, real):
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

    return scalar(theta_rows)


@scalar
def _volume_row(coords, n, k, real):
    """Row k of a volume's theta."""
    return (
        real(coords[n, k, 0]), real(coords[n, k, 1]), real(coords[n, k, 2]), real(coords[n, k, 3])
    )  # fmt: skip


# --- Rows and sampling positions ------------------------------------------------------------------


@functools.cache
def make_row(source, dims, between_pixels, tangent=False):
    """Function: coords, n, k, i, sides, sizes, off -> the row, i of slice k of samples n."""
    theta_rows = make_theta_rows(source, dims, tangent)
    if source == GRID and between_pixels:

        def row(coords, n, k, i, sides, sizes, off):
            zero, one = off * 0, off * 0 + 1
            return (zero, one), (zero, one), (zero, one), (zero, zero)

    elif source == GRID:

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
            tx, ty, tz, tw = theta_rows(coords, n, type(off))
            return (
                (tx[1] * i + tx[3], tx[0]), (ty[1] * i + ty[3], ty[0]),
                (tz[3], tz[0]), (tw[1] * i + tw[3], tw[0]),
            )  # fmt: skip

    else:

        def row(coords, n, k, i, sides, sizes, off):
            (tx, ty, tz, tw), (d, h, w) = theta_rows(coords, n, type(off)), sides
            divisor = divisor_row(tw, k, i, sizes, off)
            return (
                axis_row(tx, w, divisor, k, i, sizes, off),
                axis_row(ty, h, divisor, k, i, sizes, off),
                axis_row(tz, d, divisor, k, i, sizes, off),
                divisor,
            )

    return inlined(row)


@functools.cache
def make_input_pixel(source, dims, mode):
    """Function: coords, row, n, k, i, j, columns, real -> sampling position (x, y, z), in pixels.

    The row has ``columns`` columns. In the plane, the position is the one that the blocks of
    :mod:`.addresses` have, for images of the type ``real``.
    """
    deep, along = dims == 3, along_row_evenly if mode == NEAREST else along_row
    if source == GRID and deep:

        def input_pixel(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, zs), _ = row
            x = from_grid(coords[n, k, i, j, 0], x0, xs, real)
            y = from_grid(coords[n, k, i, j, 1], y0, ys, real)
            return x, y, from_grid(coords[n, k, i, j, 2], z0, zs, real)

    elif source == GRID:

        def input_pixel(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, _), _ = row
            x = from_grid(coords[n, i, j, 0], x0, xs, real)
            return x, from_grid(coords[n, i, j, 1], y0, ys, real), z0

    elif source == PROJECTIVE and deep:

        def input_pixel(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, zs), (w0, ws) = row
            inverse = 1.0 / (w0 + ws * j)
            return (x0 + xs * j) * inverse, (y0 + ys * j) * inverse, (z0 + zs * j) * inverse

    elif source == PROJECTIVE:

        def input_pixel(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, _), (w0, ws) = row
            inverse = 1.0 / (w0 + ws * j)
            return (x0 + xs * j) * inverse, (y0 + ys * j) * inverse, z0

    elif deep:

        def input_pixel(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, zs), _ = row
            return x0 + xs * j, y0 + ys * j, z0 + zs * j

    else:

        def input_pixel(coords, row, n, k, i, j, columns, real):
            (x0, xs), (y0, ys), (z0, _), _ = row
            first = block_origin(j, block_span(j // LANES, columns)[0], columns)
            return along(x0, xs, first, j - first, real), along(y0, ys, first, j - first, real), z0

    return inlined(input_pixel)


# --- Tangents and gradients -----------------------------------------------------------------------


@functools.cache
def make_input_pixel_dot(source, dims):
    """Function: coords_dot, row, row_dot, (n, k, i, j), pixel -> the tangent of ``pixel``.

    ``pixel`` is the sampling position; the tangent is in pixels. ``row_dot`` is the row of the
    tangent ``coords_dot``: except for the division, the map is linear in theta.
    """
    deep = dims == 3
    if source == GRID and deep:

        def input_pixel_dot(coords_dot, row, row_dot, at, pixel):
            d = coords_dot[at]
            return d[0] * row[0][1], d[1] * row[1][1], d[2] * row[2][1]

    elif source == GRID:

        def input_pixel_dot(coords_dot, row, row_dot, at, pixel):
            d = coords_dot[at[0], at[2], at[3]]
            return d[0] * row[0][1], d[1] * row[1][1], 0.0

    else:

        def input_pixel_dot(coords_dot, row, row_dot, at, pixel):
            return position_jvp(source, dims, row, row_dot, at[3], pixel)

    return scalar(input_pixel_dot)


@functools.cache
def make_theta_row_gradients(source):
    """Function: row, j, pixel, its gradient, sides, off -> gradients of numerators and divisor.

    They are in pixels: those of x, y and z, and the divisor's, which an affine map does not have.
    If the gradient of ``pixel`` is 0, so are these, even if the divisor is close to 0.
    """
    if source != PROJECTIVE:
        return scalar(lambda row, j, pixel, slopes, sides, off: (*slopes, off * 0))
    return quotient_vjp


def theta_scales(sides, off):
    """For x, y, z and the divisor, the factor from sums over pixels to theta's gradient."""
    return (*((side - 1 + off) / 2 for side in sides[::-1]), 1.0)
