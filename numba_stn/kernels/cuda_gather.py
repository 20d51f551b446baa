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

from .cuda_points import element, first_place, image_axes, next_row
from .device import BLOCK, cuda, jit, launch, tiles
from .launch import source_hash
from .pixel import AFFINE, affine_start, scalar

# Channels whose sums a thread has in registers.
GROUP = 4

# Rounding of a coordinate, by the largest of the numbers that it comes from: 2**-23 in float32,
# several times over.
ROUNDING = 2.0**-20


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
        stop = whole(math.floor(high) + 1) if high >= real(0) else whole(0)
    return first, stop


@scalar
def between(start, step, inverse, slack):
    """Columns where ``start + step j`` is between -1 and 1, or nearly; all where it always is."""
    one = type(start)(1) + slack
    a, b = (-one - start) * inverse, (one - start) * inverse
    return min(a, b), max(a, b)


@scalar
def inverse_of(axes, sides):
    """What a pixel's rows of samples are found from: see :func:`rows_near`.

    The row of samples that reads the pixel (x, y) is ``by_x x + by_y y + shift``; those that come
    near it are at most ``half`` from there, and ``loss`` times its number for rounding.
    """
    x, y = axes
    h, w, rows, _ = sides
    real = type(x[0])
    whole = type(h)
    rounding = real(ROUNDING)
    cx, cy = affine_start(x, whole(0), w, rows), affine_start(y, whole(0), h, rows)
    determinant = x[0] * y[1] - x[1] * y[0]
    terms = abs(x[0] * y[1]) + abs(x[1] * y[0])
    if not abs(determinant) > terms * real(2.0**-10):
        # No inverse to rely on: any row may be near.
        nothing = real(0)
        return nothing, nothing, nothing, real(np.inf), nothing
    inverse = real(1) / determinant
    across, along = abs(x[0]) * abs(inverse), abs(y[0]) * abs(inverse)
    far = across * (real(h) + abs(cy)) + along * (real(w) + abs(cx))
    half = across + along + rounding * far
    by_x, by_y = -y[0] * inverse, x[0] * inverse
    return by_x, by_y, -(by_x * cx + by_y * cy), half, rounding * terms * abs(inverse)


@scalar
def rows_near(found, py, px, rows):
    """Rows of samples that may come near a pixel: the first, and one past the last."""
    by_x, by_y, shift, half, loss = found
    real = type(half)
    middle = by_x * real(px) + by_y * real(py) + shift
    reach = half + loss * abs(middle)
    return clamped(middle - reach, middle + reach, rows)


@scalar
def columns_near(x, y, i, py, px, inverse_x, inverse_y, sides):
    """Columns of row i that may come near a pixel, and where the row starts from there."""
    h, w, rows, columns = sides
    real = type(x[0])
    rounding = real(ROUNDING)
    start_x, start_y = affine_start(x, i, w, rows), affine_start(y, i, h, rows)
    slack_x = rounding * (abs(start_x) + real(w))
    slack_y = rounding * (abs(start_y) + real(h))
    start_x, start_y = start_x - real(px), start_y - real(py)
    a, b = between(start_x, x[0], inverse_x, slack_x)
    c, d = between(start_y, y[0], inverse_y, slack_y)
    first, stop = clamped(a, b, columns)
    other, end = clamped(c, d, columns)
    return max(first, other), min(stop, end), start_x, start_y


@functools.cache
def make_gather(group):
    """Kernel: dsamples, theta -> dimages, ``group`` channels at a time."""
    sources = source_hash()

    def gather(dsamples, theta, off, counts, sides, dimages):
        _ = sources
        real, zero = dimages.dtype.type, dimages.dtype.type(0)
        count, batch, channels = counts
        h, w, rows, columns = sides
        index = type(h)
        one = type(off)(1)
        m, first, px = first_place(index)
        plane, step = index(h * w), index(rows * columns)
        while px < w and m < count:
            py = first
            while py < h:
                c = index(0)
                while c < channels:
                    t0, t1, t2, t3 = zero, zero, zero, zero
                    n = m if count > 1 else index(0)
                    last = n if count > 1 else index(batch - 1)
                    while n <= last:
                        x, y = image_axes(AFFINE, theta, n, sides, off)
                        size = abs(x[0]) + abs(x[1]) + abs(x[2]) + abs(x[3])
                        size += abs(y[0]) + abs(y[1]) + abs(y[2]) + abs(y[3])
                        i, end = index(0), index(0)
                        if size < type(off)(np.inf):  # else all samples are outside
                            i, end = rows_near(inverse_of((x, y), sides), py, px, rows)
                        inverse_x, inverse_y = one / x[0], one / y[0]
                        while i < end:
                            j, stop, start_x, start_y = columns_near(
                                x, y, i, py, px, inverse_x, inverse_y, sides
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
                        n = index(n + 1)
                    to = index((m * channels + c) * plane + py * w + px)
                    dimages[np.uint64(to)] = t0
                    if group > 1:
                        dimages[np.uint64(to + plane)] = t1
                    if group > 2:
                        dimages[np.uint64(to + 2 * plane)] = t2
                    if group > 3:
                        dimages[np.uint64(to + 3 * plane)] = t3
                    c = index(c + group)
                py = index(next_row(py))
            m = index(m + cuda.gridDim.z)

    return jit(gather)


def gather(dsamples, theta, off, counts, sides, dimages):
    """Fill ``dimages``, of the images' shape."""
    count, channels, h, w = dimages.shape
    group = next(size for size in (4, 3, 2, 1) if channels % size == 0)
    launch(
        make_gather(group), tiles(count, h, w), BLOCK, dsamples, theta, off, counts, sides, dimages
    )
