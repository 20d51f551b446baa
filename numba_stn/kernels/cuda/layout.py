"""Where a CUDA kernel's numbers are in memory: shapes, strides, and indices of elements.

Kernels take every array as a line of elements. All shapes of a call come as one tuple, the fields
of :class:`Geometry`. Arrays stay arguments of their own, and the tuple has no names before it is in
the kernel: Numba finds the types of tuples of numbers in C, those of arrays in tuples and of named
tuples in Python, at every launch.
"""

from typing import NamedTuple

import numpy as np

from .device import inlined


class Geometry(NamedTuple):
    """What addresses and coordinates are computed from. All integers are of the indices' type."""

    off: float  # 1 - align_corners, of the coordinates' type
    counts: tuple  # images, maps, channels
    sides: tuple  # (D, H, W) of the images; a plane has D = 1
    sizes: tuple  # (D, H, W) of the output


@inlined
def element(line, k):
    """Element ``k`` of an array; an unsigned index needs no code that counts from the end."""
    return line[np.uint64(k)]


@inlined
def strides(channels, sides, channels_last):
    """Elements of a batch from image to image, from channel to channel, from pixel to pixel."""
    index = type(channels)
    volume = index(sides[0] * sides[1] * sides[2])
    if channels_last:
        return index(volume * channels), index(1), channels
    return index(volume * channels), volume, index(1)


@inlined
def channel_steps(kind, g):
    """Elements from channel to channel, of the images and of the samples."""
    _, step, _ = strides(g.counts[2], g.sides, kind.channels_last)
    _, step_out, _ = strides(g.counts[2], g.sizes, kind.channels_last)
    return step, step_out


@inlined
def image_start(kind, g, n):
    """First element of the image that map ``n`` samples; all maps may share one image."""
    image, _, _ = strides(g.counts[2], g.sides, kind.channels_last)
    return type(n)(n * image * min(g.counts[0] - 1, 1))


@inlined
def sample_start(kind, g, where):
    """Element of the first channel of the output pixel ``where``, (n, k, i, j)."""
    n, k, i, j = where
    image, _, step = strides(g.counts[2], g.sizes, kind.channels_last)
    return type(j)(n * image + pixel_index((type(j)(0), k, i, j), g.sizes) * step)


@inlined
def pixel_index(where, sizes):
    """Number of the output pixel ``where``, (n, k, i, j), counted over all maps."""
    n, k, i, j = where
    depth, rows, columns = sizes
    return type(columns)(((n * depth + k) * rows + i) * columns + j)
