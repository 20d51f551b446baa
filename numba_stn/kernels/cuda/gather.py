"""The images' gradient of an affine warp on a GPU, gathered through the inverse map.

Each thread owns pixels of the image and looks for the samples that read them: the maps' inverse
gives the rows of samples that come within a pixel of it, two inequalities the columns of each row.
It adds them up row by row, so the sum has one order, and no memory is needed but the result's.

Where an image has nothing outside (padding with zeros) that is all there is. Under the other
paddings a pixel at the edge is read from everywhere, and :mod:`.sums` adds up instead.

A pixel's weight falls from 1 to 0 within one pixel without a jump, so a coordinate need not be
rounded as the forward pass rounds it; but what may be read must be found, so the ranges are wider
by more than coordinates are ever rounded by.
"""

import functools
import math

import numpy as np

from ..launch import source_hash
from ..math.coordinates import AFFINE, affine_start, scalar
from .device import BLOCK, cuda, device_function, jit, launch, tiles
from .layout import Geometry, element
from .loops import first_pixel, next_row
from .single_pixels import map_axes

# Rounding of a coordinate, by the largest of the numbers that it comes from: 2**-23 in float32,
# several times over.
ROUNDING = 2.0**-20

# Columns to a pixel along a row that does not move.
MOST = 2.0**40


@scalar
def clamped(low, high, size):
    """Whole numbers from ``low`` to ``high`` that are indices: the first, and one past the last.

    A bound that is NaN bounds nothing.
    """
    whole, real = type(size), type(low)
    first, stop = whole(0), size
    if low > real(0):
        first = whole(math.ceil(low)) if low < real(size) else size
    if high < real(size):
        stop = whole(whole(math.floor(high)) + 1) if high >= real(0) else whole(0)
    return first, stop


@scalar
def columns_of(axis, size, columns):
    """Of x or of y: columns to a pixel, and those within a pixel of a place, on either side.

    Along a row that hardly moves there are very many.
    """
    real = type(axis[0])
    slack = real(ROUNDING) * (abs(axis[0]) * real(columns) + real(2 * size))
    inverse = real(MOST)
    if abs(axis[0]) * real(MOST) > real(1):
        inverse = real(1) / axis[0]
    return inverse, (real(1) + slack) * abs(inverse)


@scalar
def inverse_of(axes, sides):
    """What a pixel's rows of samples are found from: see :func:`rows_near`.

    The row of samples that reads the pixel (x, y) is ``by_x x + by_y y + shift``; those that come
    near it are at most ``half`` from there.
    """
    x, y = axes
    h, w, rows, _ = sides
    real = type(x[0])
    whole = type(h)
    rounding = real(ROUNDING)
    cx, cy = affine_start(x, whole(0), w, rows), affine_start(y, whole(0), h, rows)
    determinant = x[0] * y[1] - x[1] * y[0]
    terms = abs(x[0] * y[1]) + abs(x[1] * y[0])
    size = abs(x[0]) + abs(x[1]) + abs(cx) + abs(y[0]) + abs(y[1]) + abs(cy)
    if not size < real(np.inf):  # then all samples are outside
        return real(0), real(0), real(-2), real(0)
    if not abs(determinant) > terms * real(2.0**-10):
        # No inverse to rely on: any row may be near.
        return real(0), real(0), real(0), real(np.inf)
    inverse = real(1) / determinant
    across, along = abs(x[0]) * abs(inverse), abs(y[0]) * abs(inverse)
    far = across * (real(h) + abs(cy)) + along * (real(w) + abs(cx))
    half = across + along + rounding * far
    by_x, by_y = -y[0] * inverse, x[0] * inverse
    return by_x, by_y, -(by_x * cx + by_y * cy), half


@scalar
def rows_near(found, py, px, rows):
    """Rows of samples that may come near a pixel: the first, and one past the last."""
    by_x, by_y, shift, half = found
    real = type(half)
    middle = by_x * real(px) + by_y * real(py) + shift
    return clamped(middle - half, middle + half, rows)


@scalar
def columns_near(x, y, i, py, px, across, down, sides):
    """Columns of row i that may come near a pixel, and the way from there to the row's start.

    ``across`` and ``down`` are :func:`columns_of` x and of y.
    """
    h, w, rows, columns = sides
    real = type(x[0])
    start_x = affine_start(x, i, w, rows) - real(px)
    start_y = affine_start(y, i, h, rows) - real(py)
    at_x, at_y = -start_x * across[0], -start_y * down[0]
    low = max(at_x - across[1], at_y - down[1])
    high = min(at_x + across[1], at_y + down[1])
    first, stop = clamped(low, high, columns)
    return first, stop, start_x, start_y


@device_function
def write(line, k, value, added):
    """Write element ``k``, or add to it."""
    k = np.uint64(k)
    line[k] = line[k] + value if added else value


@functools.cache
def make_gather(group):
    """Kernel: dsamples, theta -> dimages, ``group`` channels at a time.

    With one image for many maps a thread adds to its own pixels, map by map.
    """
    sources = source_hash()

    def gather(dsamples, theta, geometry, dimages):
        _ = sources
        g = Geometry(*geometry)
        off, (count, batch, channels), (_, h, w), (_, rows, columns) = g
        real, zero, one = dimages.dtype.type, dimages.dtype.type(0), type(off)(1)
        index, sides = type(h), (h, w, rows, columns)
        n, first, px = first_pixel(index)
        plane, step = index(h * w), index(rows * columns)
        while px < w and n < batch:
            m, added = (n, False) if count > 1 else (index(0), n > 0)
            axes = map_axes(AFFINE, theta, n, g)
            (x, y), found = axes, inverse_of(axes, sides)
            x_columns, y_columns = columns_of(x, w, columns), columns_of(y, h, columns)
            py = first
            while py < h:
                top, bottom = rows_near(found, py, px, rows)
                c = index(0)
                while c < channels:
                    t0, t1, t2, t3 = zero, zero, zero, zero
                    i = top
                    while i < bottom:
                        j, stop, start_x, start_y = columns_near(
                            x, y, i, py, px, x_columns, y_columns, sides
                        )
                        at = index(((n * channels + c) * rows + i) * columns + j)
                        while j < stop:
                            column = type(off)(j)
                            across = one - abs(start_x + x[0] * column)
                            down = one - abs(start_y + y[0] * column)
                            if across > type(off)(0) and down > type(off)(0):
                                weight = real(across) * real(down)
                                t0 += weight * element(dsamples, at)
                                if group > 1:
                                    t1 += weight * element(dsamples, at + step)
                                if group > 2:
                                    t2 += weight * element(dsamples, at + 2 * step)
                                if group > 3:
                                    t3 += weight * element(dsamples, at + 3 * step)
                            j, at = index(j + 1), index(at + 1)
                        i = index(i + 1)
                    to = index((m * channels + c) * plane + py * w + px)
                    write(dimages, to, t0, added)
                    if group > 1:
                        write(dimages, to + plane, t1, added)
                    if group > 2:
                        write(dimages, to + 2 * plane, t2, added)
                    if group > 3:
                        write(dimages, to + 3 * plane, t3, added)
                    c = index(c + group)
                py = index(next_row(py))
            n = index(n + cuda.gridDim.z) if count > 1 else index(n + 1)

    return jit(gather)


def gather(dsamples, theta, geometry, dimages):
    """Fill ``dimages``, of the images' shape."""
    count, channels, h, w = dimages.shape
    group = next(size for size in (4, 3, 2, 1) if channels % size == 0)
    launch(make_gather(group), tiles(count, h, w), BLOCK, dsamples, theta, geometry, dimages)
