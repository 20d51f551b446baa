"""Which input pixel an output pixel samples, by the math of :mod:`.matrix_rows`, and the gradient.

Coordinates are computed in their own type, that of ``g.off``; ``g`` is a :class:`.layout.Geometry`,
``kind`` a :class:`.sampler_kind.Kind`.
"""

import numpy as np

from ..math.coordinates import unnormalize, unnormalize_slope
from ..math.matrix_rows import axis_row, divisor_row, position_jvp, quotient_vjp
from ..math.sampler_kind import GRID, PROJECTIVE
from .device import inlined
from .layout import element, pixel_index

# --- theta ----------------------------------------------------------------------------------------


@inlined
def theta_rows(source, dims, coords, n, off):
    """The rows of theta n for x, y, z and the divisor; a grid has none."""
    real = type(off)
    none, unit = (real(0), real(0), real(0), real(0)), (real(0), real(0), real(0), real(1))
    if source == GRID:
        return none, none, none, unit
    if dims == 3:
        at = 16 * n if source == PROJECTIVE else 12 * n
        divisor = volume_row(coords, at + 12) if source == PROJECTIVE else unit
        return (
            volume_row(coords, at), volume_row(coords, at + 4), volume_row(coords, at + 8), divisor
        )  # fmt: skip
    at = 9 * n if source == PROJECTIVE else 6 * n
    divisor = plane_row(coords, at + 6) if source == PROJECTIVE else unit
    return plane_row(coords, at), plane_row(coords, at + 3), none, divisor


@inlined
def theta_rows_dot(source, dims, coords_dot, n, off):
    """:func:`theta_rows` of theta's tangent; the divisor of an affine map does not change."""
    x, y, z, w = theta_rows(source, dims, coords_dot, n, off)
    none = type(off)(0)
    return x, y, z, w if source == PROJECTIVE else (none, none, none, none)


@inlined
def plane_row(line, at):
    """A row of a plane's theta, as :mod:`.matrix_rows` takes it: with a factor of 0 for z."""
    x = element(line, at)
    return x, element(line, at + 1), type(x)(0), element(line, at + 2)


@inlined
def volume_row(line, at):
    """A row of a volume's theta."""
    return (
        element(line, at), element(line, at + 1), element(line, at + 2), element(line, at + 3)
    )  # fmt: skip


# --- Rows and pixels ------------------------------------------------------------------------------


@inlined
def row_of(theta, k, i, g):
    """Start and step, along a row of the output, of the numerators and of the divisor."""
    off, (d, h, w), sizes = g.off, g.sides, g.sizes
    divisor = divisor_row(theta[3], k, i, sizes, off)
    return (
        axis_row(theta[0], w, divisor, k, i, sizes, off),
        axis_row(theta[1], h, divisor, k, i, sizes, off),
        axis_row(theta[2], d, divisor, k, i, sizes, off),
        divisor,
    )


@inlined
def input_pixel(kind, coords, row, where, g):
    """Input pixel (x, y, z) that the output pixel ``where``, (n, k, i, j), samples."""
    j = where[3]
    off, (d, h, w) = g.off, g.sides
    if kind.source == GRID:
        at = type(j)(kind.dims * pixel_index(where, g.sizes))
        z = unnormalize(element(coords, at + 2), d, off) if kind.dims == 3 else type(off)(0)
        return (
            unnormalize(element(coords, at), w, off),
            unnormalize(element(coords, at + 1), h, off),
            z,
        )
    (x0, xs), (y0, ys), (z0, zs), (w0, ws) = row
    column = type(off)(j)
    x, y, z = x0 + xs * column, y0 + ys * column, z0 + zs * column
    if kind.source == PROJECTIVE:
        divisor = w0 + ws * column
        x, y = x / divisor, y / divisor
        if kind.dims == 3:
            z = z / divisor
    return x, y, z


@inlined
def input_pixel_dot(kind, coords_dot, rows, where, pixel, g):
    """Tangent of :func:`input_pixel`; ``rows`` are those of theta and of theta's tangent."""
    j = where[3]
    off, (d, h, w) = g.off, g.sides
    if kind.source != GRID:
        return position_jvp(kind.source, kind.dims, rows[0], rows[1], j, pixel)
    at = type(j)(kind.dims * pixel_index(where, g.sizes))
    z = type(off)(0)
    if kind.dims == 3:
        z = element(coords_dot, at + 2) * unnormalize_slope(d, off)
    return (
        element(coords_dot, at) * unnormalize_slope(w, off),
        element(coords_dot, at + 1) * unnormalize_slope(h, off),
        z,
    )


# --- The gradient ---------------------------------------------------------------------------------


@inlined
def write_grid_gradient(kind, dgrid, where, gradient, g):
    """Write the gradient with respect to an input pixel as that of the grid's coordinate."""
    d, h, w = g.sides
    at = np.uint64(kind.dims * pixel_index(where, g.sizes))
    dgrid[at] = gradient[0] * unnormalize_slope(w, g.off)
    dgrid[at + np.uint64(1)] = gradient[1] * unnormalize_slope(h, g.off)
    if kind.dims == 3:
        dgrid[at + np.uint64(2)] = gradient[2] * unnormalize_slope(d, g.off)


@inlined
def theta_row_gradients(source, row, j, pixel, gradient, g):
    """For theta's rows x, y, z and divisor, the factor of (x, y, z, 1) in their gradient."""
    off, (d, h, w) = g.off, g.sides
    x, y, z = gradient
    divisor = type(off)(0)
    if source == PROJECTIVE:
        x, y, z, divisor = quotient_vjp(row, j, pixel, gradient, g.sides, off)
    return (
        x * unnormalize_slope(w, off),
        y * unnormalize_slope(h, off),
        z * unnormalize_slope(d, off),
        divisor,
    )
