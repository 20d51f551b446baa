"""Parts of output pixels on a GPU, for means over areas: how many there are, and where they read.

They are counted on the GPU, in theta's own type, so that nobody waits for theta. ``counts`` of a
map are its pixels' parts along (D, H, W), and ``finer`` the sides of the output divided so: a part
is a pixel of that.
"""

import functools

import numpy as np

from ..launch import source_hash
from ..math.coordinates import base_coordinate
from ..math.matrix_rows import MOST, divided_into, shrunk
from .calls import off_of, shapes_of, typed
from .coordinate_sources import matrix, point, row_of
from .device import NARROW, THREADS, cuda, empty, inlined, jit, launch
from .single_pixels import element
from .sums import add_to_rows

# --- In a kernel ----------------------------------------------------------------------------------


@inlined
def parts(counts, n, sizes):
    """Parts of a pixel of map n along (D, H, W), the sides of the finer output, how many parts."""
    index = type(sizes[0])
    k, i, j = element(counts, 3 * n), element(counts, 3 * n + 1), element(counts, 3 * n + 2)
    finer = index(sizes[0] * k), index(sizes[1] * i), index(sizes[2] * j)
    return (k, i, j), finer, index(k * i * j)


@inlined
def times(row, by):
    """A row of theta whose columns are multiplied."""
    return row[0] * by[0], row[1] * by[1], row[2] * by[2], row[3]


@inlined
def finer_matrix(source, dims, coords, n, factors, sizes, off):
    """The rows of the n-th theta on the finer output, and what its columns were multiplied by."""
    depth, rows, columns = sizes
    by = (
        shrunk(columns, factors[2], off),
        shrunk(rows, factors[1], off),
        shrunk(depth, factors[0], off),
    )
    x, y, z, w = matrix(source, dims, coords, n, off)
    return (times(x, by), times(y, by), times(z, by), times(w, by)), by


@inlined
def first_part(k, i, j, factors):
    """Where the parts of an output pixel begin."""
    index = type(j)
    return index(k * factors[0]), index(i * factors[1]), index(j * factors[2])


@inlined
def next_part(where, first, factors):
    """The part after ``where`` of the pixel whose parts begin at ``first``."""
    k, i, j = where
    index = type(j)
    j = index(j + 1)
    if j == first[2] + factors[2]:
        i, j = index(i + 1), first[2]
    if i == first[1] + factors[1]:
        k, i = index(k + 1), first[1]
    return k, i, j


@inlined
def pixel_of(source, dims, coords, theta, n, where, sides, finer, off):
    """Row of a part, and the input pixel that it reads."""
    k, i, j = where
    row = row_of(theta, k, i, sides, finer, off)
    return row, point(source, dims, coords, row, (n, k, i, j), sides, finer, off)


@inlined
def add_part(sums, g, where, finer, by, count, off):
    """Add one part's gradient to the sums for theta, whose columns were multiplied."""
    k, i, j = where
    g = g[0] / count, g[1] / count, g[2] / count
    x = base_coordinate(j, finer[2], off) * by[0]
    y = base_coordinate(i, finer[1], off) * by[1]
    return add_to_rows(sums, g, x, y, base_coordinate(k, finer[0], off) * by[2])


# --- Before it ------------------------------------------------------------------------------------


@functools.cache
def make_part_counts(source, dims):
    """Kernel: theta -> parts of an output pixel along (D, H, W), (N, 3)."""
    sources = source_hash()

    def part_counts(theta, off, sides, sizes, counts):
        _ = sources
        n = cuda.grid(1)
        while 3 * n < counts.size:
            found = divided_into(source, matrix(source, dims, theta, n, off), sides, sizes, off)
            counts[3 * n], counts[3 * n + 1], counts[3 * n + 2] = found
            n += cuda.gridsize(1)

    return jit(part_counts)


def part_counts(kind, coords, off, sides, sizes):
    """Parts of an output pixel along (D, H, W) for each map, of the type of the sides."""
    counts = empty((len(coords), 3), type(sides[0]), coords)
    kernel = make_part_counts(kind.source, kind.dims)
    blocks = -(-len(coords) // THREADS)
    launch(kernel, (blocks,), THREADS, coords, off_of(off, coords), sides, sizes, counts)
    return counts


def shapes(kind, images, samples, coords):
    """:func:`.shapes_of`, in a type that holds the sides of the finest output too."""
    found = shapes_of(kind, images, samples, coords)
    reach = max(found[2]) < NARROW // MOST
    return found if reach else tuple(typed(np.int64, numbers) for numbers in found)
