"""Parts of output pixels on a GPU, for means over areas: how many there are, and where they sample.

The parts are counted on the GPU, in theta's own type, so that nothing waits for theta. ``counts``
are the parts of a map's pixels along (D, H, W). A part is a pixel of a finer output, whose sides
are the output's times these counts.
"""

import functools
from typing import NamedTuple

import numpy as np

from ..cpu_launch import source_hash
from ..math.antialias import MOST, finer_scale, parts_per_pixel
from ..math.coordinates import base_coordinate
from .coordinate_sources import input_pixel, row_of, theta_rows
from .device import NARROW, THREADS, cuda, empty, inlined, jit, launch
from .kernel_arguments import geometry_of
from .layout import Geometry, element, image_start
from .sums import add_to_rows


class FinerSlice(NamedTuple):
    """What the pixels of one slice have in common where each of them has several parts."""

    theta: tuple  # its rows on the finer output
    scales: tuple  # by what theta's columns x, y and z were multiplied
    start: int  # first element of the image
    factors: tuple  # parts of a pixel along (D, H, W)
    total: int  # parts of a pixel
    finer: Geometry  # the call's, with the sides of the finer output


# --- In a kernel ----------------------------------------------------------------------------------


@inlined
def finer_slice(call, g, n, k):
    """The :class:`FinerSlice` of map n; ``call`` begins with kind, coordinates and counts."""
    kind, coords, counts = call[0], call[1], call[2]
    depth, rows, columns = g.sizes
    index = type(columns)
    fk, fi, fj = element(counts, 3 * n), element(counts, 3 * n + 1), element(counts, 3 * n + 2)
    sizes = index(depth * fk), index(rows * fi), index(columns * fj)
    scales = (
        finer_scale(columns, fj, g.off),
        finer_scale(rows, fi, g.off),
        finer_scale(depth, fk, g.off),
    )
    x, y, z, w = theta_rows(kind.source, kind.dims, coords, n, g.off)
    theta = scaled(x, scales), scaled(y, scales), scaled(z, scales), scaled(w, scales)
    finer = Geometry(g.off, g.counts, g.sides, sizes)
    start = image_start(kind, g, n)
    return FinerSlice(theta, scales, start, (fk, fi, fj), index(fk * fi * fj), finer)


@inlined
def scaled(row, scales):
    """A row of theta whose columns are multiplied."""
    return row[0] * scales[0], row[1] * scales[1], row[2] * scales[2], row[3]


@inlined
def fold_parts(of_part, call, g, common, where, total):
    """Fold ``total = of_part(call, g, common, total, part)`` over the parts of one output pixel."""
    n, k, i, j = where
    index, factors = type(j), common.factors
    k, i, j = index(k * factors[0]), index(i * factors[1]), index(j * factors[2])
    part, left = (n, k, i, j), common.total
    while left > 0:
        total = of_part(call, g, common, total, part)
        part, left = next_part(part, (k, i, j), factors), index(left - 1)
    return total


@inlined
def next_part(part, first, factors):
    """The part after ``part`` of the pixel whose parts begin at ``first``."""
    n, k, i, j = part
    index = type(j)
    j = index(j + 1)
    if j == first[2] + factors[2]:
        i, j = index(i + 1), first[2]
    if i == first[1] + factors[1]:
        k, i = index(k + 1), first[1]
    return n, k, i, j


@inlined
def part_row(common, part):
    """The row of theta for one part."""
    return row_of(common.theta, part[1], part[2], common.finer)


@inlined
def part_pixel(call, common, part):
    """Input pixel that one part samples."""
    kind, coords = call[0], call[1]
    return input_pixel(kind, coords, part_row(common, part), part, common.finer)


@inlined
def add_part(sums, gradient, common, part, off):
    """Add the gradient of one part to the sums for theta, whose columns were multiplied."""
    real, (_, k, i, j), scales = type(off), part, common.scales
    count, (depth, rows, columns) = real(common.total), common.finer.sizes
    gradient = gradient[0] / count, gradient[1] / count, gradient[2] / count, gradient[3] / count
    x = base_coordinate(j, columns, off) * scales[0]
    y = base_coordinate(i, rows, off) * scales[1]
    return add_to_rows(sums, gradient, x, y, base_coordinate(k, depth, off) * scales[2])


# --- Before it ------------------------------------------------------------------------------------


@functools.cache
def make_part_counts(source, dims):
    """Kernel: theta -> parts of an output pixel along (D, H, W), (N, 3)."""
    sources = source_hash()

    def part_counts(theta, geometry, counts):
        _ = sources
        off, _, sides, sizes = geometry
        n = cuda.grid(1)
        while 3 * n < counts.size:
            rows = theta_rows(source, dims, theta, n, off)
            found = parts_per_pixel(source, rows, sides, sizes, off)
            counts[3 * n], counts[3 * n + 1], counts[3 * n + 2] = found
            n += cuda.gridsize(1)

    return jit(part_counts)


def part_counts(kind, coords, geometry):
    """Parts of an output pixel along (D, H, W) for each map, of the type of the indices."""
    counts = empty((len(coords), 3), type(geometry[3][0]), coords)
    kernel = make_part_counts(kind.source, kind.dims)
    blocks = -(-len(coords) // THREADS)
    launch(kernel, (blocks,), THREADS, coords, geometry, counts)
    return counts


def finer_geometry(kind, images, samples, coords, off):
    """:func:`.geometry_of`, in a type that holds the sides of the finest output too."""
    geometry = geometry_of(kind, images, samples, coords, off)
    if max(geometry[3]) < NARROW // MOST:
        return geometry
    return geometry_of(kind, images, samples, coords, off, np.int64)
