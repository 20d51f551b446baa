"""What one thread of a kernel of :mod:`.bilinear` computes: coordinates, and the taps around them.

Planes only, with their channels first.
"""

import numpy as np

from ..math.coordinates import affine_axis, affine_start, last, unnormalize
from ..math.interpolation import weighted_fill
from ..math.sampler_kind import AFFINE
from .device import device_function
from .layout import element

# --- Coordinate sources ---------------------------------------------------------------------------


@device_function
def map_axes(source, coords, n, g):
    """What map n does to x and to y, see :func:`.coordinates.affine_axis`; zeros for a grid."""
    off = g.off
    if source != AFFINE:
        none = (off, off, off, off)
        return none, none
    (_, h, w), (_, rows, columns) = g.sides, g.sizes
    t = 6 * n
    x0, x1, x2 = element(coords, t), element(coords, t + 1), element(coords, t + 2)
    y0, y1, y2 = element(coords, t + 3), element(coords, t + 4), element(coords, t + 5)
    return (
        affine_axis(x0, x1, x2, w, columns, rows, off),
        affine_axis(y0, y1, y2, h, columns, rows, off),
    )


@device_function
def input_pixel(source, coords, axes, where, g):
    """Input pixel coordinate (x, y) that the output pixel ``where`` samples."""
    off, (_, h, w) = g.off, g.sides
    if source == AFFINE:
        x, y = axes
        _, _, i, j = where
        _, rows, _ = g.sizes
        column = type(off)(j)
        return (
            affine_start(x, i, w, rows) + x[0] * column,
            affine_start(y, i, h, rows) + y[0] * column,
        )
    k = grid_index(where, g)
    return unnormalize(element(coords, k), w, off), unnormalize(element(coords, k + 1), h, off)


@device_function
def grid_index(where, g):
    """Element of a grid that has the x of an output pixel; y is next to it."""
    (n, _, i, j), (_, rows, columns) = where, g.sizes
    return 2 * type(j)((n * rows + i) * columns + j)


# --- Taps -----------------------------------------------------------------------------------------


@device_function
def all_inside(iy, ix, h, w):
    """Whether the tap at (iy, ix) and its right and lower neighbours are in the image."""
    return 0 <= ix and ix < last(w) and 0 <= iy and iy < last(h)


@device_function
def interior_taps(images, plane, iy, ix, w):
    """The taps nw, ne, sw, se of the plane at element ``plane``; all four are inside."""
    index, one = type(plane), np.uint64(1)
    upper = np.uint64(index(plane + iy * w + ix))
    lower = np.uint64(index(plane + (iy + 1) * w + ix))
    return images[upper], images[upper + one], images[lower], images[lower + one]


@device_function
def border_taps(images, plane, iy, ix, sides, fills):
    """The taps of :func:`interior_taps`; where there is none, one of ``fills`` takes its place."""
    east, south = type(ix)(ix + 1), type(iy)(iy + 1)
    nw, ne, sw, se = fills
    return (
        tap_or_fill(images, plane, iy, ix, sides, nw),
        tap_or_fill(images, plane, iy, east, sides, ne),
        tap_or_fill(images, plane, south, ix, sides, sw),
        tap_or_fill(images, plane, south, east, sides, se),
    )


@device_function
def weighted_fills(fill, weights):
    """What takes the place of four missing taps, whose weights these are."""
    nw, ne, sw, se = weights
    return (
        weighted_fill(fill, nw),
        weighted_fill(fill, ne),
        weighted_fill(fill, sw),
        weighted_fill(fill, se),
    )


@device_function
def tap_or_fill(images, plane, iy, ix, sides, fill):
    """One tap: the pixel, or ``fill`` outside the image."""
    _, h, w = sides
    if 0 <= iy and iy < h and 0 <= ix and ix < w:
        return element(images, plane + iy * w + ix)
    return fill
