"""The images' gradient of an affine warp on a GPU, gathered through the inverse map.

Each thread owns pixels of the image and finds the samples that read them: the inverse map gives the
rows of samples that come within a pixel of it, two inequalities give the columns of each row. The
thread adds these samples row by row, so the sum has one order, and the only memory is the result's.

This covers images with nothing outside (padding with zeros). Under the other paddings a pixel at
the edge is read from everywhere, and :mod:`.sums` adds in integers instead.

A pixel's weight falls from 1 to 0 within one pixel, without a jump, so a coordinate need not be
rounded as the forward pass rounds it. But no sample may be missed, so the ranges are wider by more
than the rounding of coordinates.
"""

import functools
import math

import numpy as np

from ..cpu_launch import source_hash
from ..math.coordinates import affine_start
from ..math.jit import scalar
from ..math.sampler_kind import AFFINE
from .bilinear_pixels import map_axes
from .device import BLOCK, cuda, device_function, inlined, jit, launch, tiles
from .layout import Geometry, element
from .loops import first_pixel, next_row

# Rounding of a coordinate, relative to the largest number that it is computed from: several times
# 2**-23, the rounding of float32.
ROUNDING = 2.0**-20

# Columns per pixel along a row whose samples all have the same coordinate.
MOST = 2.0**40


@scalar
def clamped(low, high, size):
    """Indices from ``low`` to ``high``: the first, and one past the last. A NaN does not bound."""
    whole, real = type(size), type(low)
    first, stop = whole(0), size
    if low > real(0):
        first = whole(math.ceil(low)) if low < real(size) else size
    if high < real(size):
        stop = whole(whole(math.floor(high)) + 1) if high >= real(0) else whole(0)
    return first, stop


@scalar
def columns_of(axis, size, columns):
    """Columns per pixel along x or y, and the columns within a pixel of a position on either side.

    Along a row whose coordinate hardly changes there are very many.
    """
    real = type(axis[0])
    slack = real(ROUNDING) * (abs(axis[0]) * real(columns) + real(2) * real(size))
    inverse = real(MOST)
    if abs(axis[0]) * real(MOST) > real(1):
        inverse = real(1) / axis[0]
    return inverse, (real(1) + slack) * abs(inverse)


@scalar
def inverse_of(axes, sides):
    """The inverse map as :func:`rows_near` needs it: ``by_x``, ``by_y``, ``shift`` and ``half``.

    The row of samples that reads the pixel (x, y) is ``by_x x + by_y y + shift``; the rows near the
    pixel are at most ``half`` from there.
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
    if not size < real(np.inf):  # all samples are outside
        return real(0), real(0), real(-2), real(0)
    if not abs(determinant) > terms * real(2.0**-10):
        # The inverse is not reliable: any row may be near.
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
    """Columns of row i that may come near a pixel, and the distance from it to the row's start.

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


# --- The kernel -----------------------------------------------------------------------------------


@inlined
def map_of(theta, n, g):
    """What :func:`columns_near` and :func:`rows_near` need of map n."""
    (_, h, w), (_, rows, columns) = g.sides, g.sizes
    x, y = map_axes(AFFINE, theta, n, g)
    across, down = columns_of(x, w, columns), columns_of(y, h, columns)
    return (x, y), inverse_of((x, y), (h, w, rows, columns)), across, down


@inlined
def gather_pixel(call, g, affine, where):
    """Write the gradient of pixel (py, px) of image m by map n, or add to it.

    ``group`` channels at a time.
    """
    (group, dsamples, dimages, added), (n, m, py, px) = call, where
    (_, _, channels), (_, h, w), (_, rows, columns) = g.counts, g.sides, g.sizes
    zero, index = dimages.dtype.type(0), type(w)
    top, bottom = rows_near(affine[1], py, px, rows)
    plane, c = index(h * w), index(0)
    while c < channels:
        sums, i = (zero, zero, zero, zero), top
        while i < bottom:
            first = index(((n * channels + c) * rows + i) * columns)
            sums = add_row(group, dsamples, first, g, affine, (i, py, px), sums)
            i = index(i + 1)
        to = index((m * channels + c) * plane + py * w + px)
        write(dimages, to, sums[0], added)
        if group > 1:
            write(dimages, to + plane, sums[1], added)
        if group > 2:
            write(dimages, to + 2 * plane, sums[2], added)
        if group > 3:
            write(dimages, to + 3 * plane, sums[3], added)
        c = index(c + group)


@inlined
def add_row(group, dsamples, first, g, affine, where, sums):
    """Add the samples of row i that read pixel (py, px); the row begins at element ``first``."""
    ((x, y), _, across, down), (i, py, px) = affine, where
    (_, h, w), (_, rows, columns) = g.sides, g.sizes
    real, coord, index = type(sums[0]), type(g.off), type(w)
    t0, t1, t2, t3 = sums
    step, one, zero = index(rows * columns), coord(1), coord(0)
    j, stop, start_x, start_y = columns_near(x, y, i, py, px, across, down, (h, w, rows, columns))
    at = index(first + j)
    while j < stop:
        by_x = one - abs(start_x + x[0] * coord(j))
        by_y = one - abs(start_y + y[0] * coord(j))
        if by_x > zero and by_y > zero:
            weight = real(by_x) * real(by_y)
            t0 += weight * element(dsamples, at)
            if group > 1:
                t1 += weight * element(dsamples, at + step)
            if group > 2:
                t2 += weight * element(dsamples, at + 2 * step)
            if group > 3:
                t3 += weight * element(dsamples, at + 3 * step)
        j, at = index(j + 1), index(at + 1)
    return t0, t1, t2, t3


@device_function
def write(line, k, value, added):
    """Write element ``k``, or add to it."""
    k = np.uint64(k)
    line[k] = line[k] + value if added else value


@functools.cache
def make_gather(group):
    """Kernel: dsamples, theta -> dimages, ``group`` channels at a time.

    If all maps share one image, a thread adds to its own pixels, map by map.
    """
    sources = source_hash()

    def gather(dsamples, theta, geometry, dimages):
        _ = sources
        g = Geometry(*geometry)
        (count, batch, _), (_, h, w) = g.counts, g.sides
        index = type(w)
        n, first, px = first_pixel(index)
        while px < w and n < batch:
            m, added = (n, False) if count > 1 else (index(0), n > 0)
            affine, py = map_of(theta, n, g), first
            while py < h:
                gather_pixel((group, dsamples, dimages, added), g, affine, (n, m, py, px))
                py = index(next_row(py))
            n = index(n + cuda.gridDim.z) if count > 1 else index(n + 1)

    return jit(gather)


def gather(dsamples, theta, geometry, dimages):
    """Fill ``dimages``, of the images' shape."""
    count, channels, h, w = dimages.shape
    group = next(size for size in (4, 3, 2, 1) if channels % size == 0)
    launch(make_gather(group), tiles(count, h, w), BLOCK, dsamples, theta, geometry, dimages)
