"""What one thread of a CUDA kernel does: its pixels, where they read, and what they read there.

Arrays are lines of elements; ``sides`` are (H, W, H_out, W_out), of the type of all indices.
"""

import numpy as np

from ..math.coordinates import AFFINE, affine_axis, affine_start, last, unnormalize
from .device import BLOCK, ROWS_A_THREAD, cuda, device_function

# Rows of a tile.
TILE = BLOCK[1] * ROWS_A_THREAD

# --- A thread's pixels ----------------------------------------------------------------------------


@device_function
def first_place(index):
    """Image, row and column at which a thread begins."""
    return (
        index(cuda.blockIdx.z),
        index(cuda.blockIdx.y * TILE + cuda.threadIdx.y),
        index(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x),
    )


@device_function
def next_row(i):
    """A thread's row after row ``i``: in its tile, or in the next one that is its block's."""
    i += cuda.blockDim.y
    if (i - cuda.threadIdx.y) & (TILE - 1) == 0:
        i += (cuda.gridDim.y - 1) * TILE
    return i


@device_function
def element(line, k):
    """Element ``k`` of an array in line; an index without a sign is not counted from the end."""
    return line[np.uint64(k)]


# --- Coordinate sources ---------------------------------------------------------------------------


@device_function
def image_axes(source, coords, n, sides, off):
    """All that rows of samples n have in common, of x and of y; zeros where a grid holds them."""
    h, w, rows, columns = sides
    if source != AFFINE:
        none = (off, off, off, off)
        return none, none
    t = 6 * n
    x0, x1, x2 = element(coords, t), element(coords, t + 1), element(coords, t + 2)
    y0, y1, y2 = element(coords, t + 3), element(coords, t + 4), element(coords, t + 5)
    return (
        affine_axis(x0, x1, x2, w, columns, rows, off),
        affine_axis(y0, y1, y2, h, columns, rows, off),
    )


@device_function
def point(source, coords, axes, n, i, j, sides, off):
    """Input pixel coordinate (x, y) that output pixel (i, j) of image n reads."""
    h, w, rows, columns = sides
    if source == AFFINE:
        x, y = axes
        column = type(off)(j)
        return (
            affine_start(x, i, w, rows) + x[0] * column,
            affine_start(y, i, h, rows) + y[0] * column,
        )
    k = 2 * ((n * rows + i) * columns + j)
    return unnormalize(element(coords, k), w, off), unnormalize(element(coords, k + 1), h, off)


# --- Taps -----------------------------------------------------------------------------------------


@device_function
def all_inside(iy, ix, sides):
    """Whether the taps at (iy, ix) and their right and lower neighbours are in the image."""
    return 0 <= ix and ix < last(sides[1]) and 0 <= iy and iy < last(sides[0])


@device_function
def inner_taps(images, plane, iy, ix, sides):
    """The taps nw, ne, sw, se of a plane that begins at ``plane``, all of which it has."""
    index, one = type(plane), np.uint64(1)
    upper = np.uint64(index(plane + iy * sides[1] + ix))
    lower = np.uint64(index(plane + (iy + 1) * sides[1] + ix))
    return images[upper], images[upper + one], images[lower], images[lower + one]


@device_function
def read(images, plane, iy, ix, sides, fill):
    """One tap: the pixel, or ``fill`` where the image has none."""
    if 0 <= iy and iy < sides[0] and 0 <= ix and ix < sides[1]:
        return element(images, plane + iy * sides[1] + ix)
    return fill


@device_function
def rim_taps(images, plane, iy, ix, sides, fill):
    """The taps of :func:`inner_taps`, any of which may be outside."""
    east, south = type(ix)(ix + 1), type(iy)(iy + 1)
    return (
        read(images, plane, iy, ix, sides, fill),
        read(images, plane, iy, east, sides, fill),
        read(images, plane, south, ix, sides, fill),
        read(images, plane, south, east, sides, fill),
    )
