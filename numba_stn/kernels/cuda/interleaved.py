"""Warps of one image (H, W, C) on a GPU: the counterpart of the CPU's module of the same name.

Coordinates are computed in the type that values are blended in: float32, or float64 for float64
images.
"""

import functools

import numpy as np

from ..cpu_launch import source_hash
from ..math.dtypes import computed, nearest
from ..math.interpolation import bilinear_by_columns, bilinear_weights, locate, weighted_fill
from ..math.padding import OUTSIDE
from ..math.sampler_kind import AFFINE, BILINEAR, BORDER, REFLECTION, ZEROS, Kind
from .bilinear_pixels import all_inside
from .convert import numbers_for
from .device import (
    device_function,
    inlined,
    jit,
    kernel_array,
    launch_pixels,
    narrow,
    returned,
)
from .kernel_arguments import typed
from .layout import Geometry, element, sample_start
from .loops import each_row, first_pixel
from .taps import Images, blend, fill_of, form_of


@inlined
def each_output_pixel(of_pixel, call, g):
    """Handle each output pixel of this thread: :func:`.loops.each_pixel` for one image."""
    n, i, j = first_pixel(type(g.sizes[2]))
    if j < g.sizes[2]:
        each_row(of_pixel, call, g, (), (n, n, i, j))


@device_function
def input_pixel(source, matrix, i, j):
    """Input pixel (x, y) that the output pixel (i, j) samples."""
    real = type(matrix[0])
    row, column = real(i), real(j)
    x = matrix[0] * column + (matrix[1] * row + matrix[2])
    y = matrix[3] * column + (matrix[4] * row + matrix[5])
    if source == AFFINE:
        return x, y
    divisor = matrix[6] * column + (matrix[7] * row + matrix[8])
    return x / divisor, y / divisor


# --- Bilinear -------------------------------------------------------------------------------------


@inlined
def blend_pixel(call, g, common, where):
    """Write the channels of one output pixel."""
    source, matrix, padding, integers, image, fills, out = call
    (_, _, channels), (_, h, w), (_, _, columns), (_, _, i, j) = g.counts, g.sides, g.sizes, where
    index, kind = type(w), out.dtype.type
    x, y = input_pixel(source, matrix, i, j)
    ix, tx, _ = locate(x, w, padding, g.off)
    iy, ty, _ = locate(y, h, padding, g.off)
    outside, inside = ix == OUTSIDE or iy == OUTSIDE, all_inside(iy, ix, h, w)
    north, south = inside or 0 <= iy < h, inside or 0 <= iy + 1 < h
    west, east = inside or 0 <= ix < w, inside or 0 <= ix + 1 < w
    upper = index(index(iy * w + ix) * channels)
    lower = index(upper + w * channels)
    to, c = index(index(i * columns + j) * channels), index(0)
    nw, ne, sw, se = bilinear_weights(tx, ty)
    while c < channels:
        fill = fill_of(fills, c)
        value = bilinear_by_columns(
            tap_or_fill(image, upper + c, north and west, weighted_fill(fill, nw)),
            tap_or_fill(image, upper + channels + c, north and east, weighted_fill(fill, ne)),
            tap_or_fill(image, lower + c, south and west, weighted_fill(fill, sw)),
            tap_or_fill(image, lower + channels + c, south and east, weighted_fill(fill, se)),
            tx,
            ty,
        )
        value = fill if outside else value
        out[np.uint64(to + c)] = kind(nearest(value)) if integers else kind(value)
        c = index(c + 1)


@device_function
def tap_or_fill(image, at, inside, fill):
    """One tap as a number to blend: element ``at``, or ``fill`` outside the image."""
    return type(fill)(element(image, at)) if inside else fill


@functools.cache
def make_warp(source, padding, integers):
    """Kernel: image (H, W, C), matrix as a tuple, fills -> out, which may hold integers."""
    sources = source_hash()

    def warp(image, matrix, fills, geometry, out):
        _ = sources
        call = source, matrix, padding, integers, image, fills, out
        each_output_pixel(blend_pixel, call, Geometry(*geometry))

    return jit(warp)


# --- Any mode and padding -------------------------------------------------------------------------


@inlined
def sample_pixel(call, g, common, where):
    """Write the channels of one output pixel."""
    kind, matrix, images, out = call
    _, _, i, j = where
    x, y = input_pixel(kind.source, matrix, i, j)
    zero = type(j)(0)
    to = sample_start(kind, g, (zero, zero, i, j))
    blend(kind, images, zero, (x, y, type(x)(0)), g, out, to)


@functools.cache
def make_general_warp(source, mode, padding, form):
    """The same kernel for any mode and padding."""
    sources, kind = source_hash(), Kind(source, mode, padding, channels_last=True)

    def warp(image, matrix, fills, geometry, out):
        _ = sources
        call = kind, matrix, Images(image, form, fills), out
        each_output_pixel(sample_pixel, call, Geometry(*geometry))

    return jit(warp)


def warp_image(kind, image, matrix, fills, out):
    """Fill ``out``, (H_out, W_out[, C]), from ``image``, (H, W[, C])."""
    source, mode, padding = kind.source, kind.mode, kind.padding
    real, index = computed(image.dtype), narrow(image, out)
    if mode == BILINEAR and padding in (ZEROS, BORDER, REFLECTION):
        kernel = make_warp(source, padding, int(image.dtype.kind == "u"))
    else:
        kernel = make_general_warp(source, mode, padding, form_of(image.dtype))
    counts = typed(index, (1, 1, len(fills)))
    sides, sizes = (typed(index, (1, *array.shape[:2])) for array in (image, out))
    geometry = real.type(1), counts, sides, sizes
    launch_pixels(
        kernel, geometry, image, tuple(map(real.type, matrix.ravel())),
        numbers_for(fills.astype(real), image), geometry, out,
    )  # fmt: skip


def prepare_warp(kind, form, fills, image_shape, dtype, shape):
    """A function ``warp(image, matrix, out)``; on the GPU, nothing depends on the shapes."""

    def warp(image, matrix, out):
        warp_image(kind, image, matrix, fills, out)

    return warp


def warp_crops(kind, image, matrices, fills, crops):
    """Fill ``crops``, (K, H_out, W_out[, C]), from one image, by K matrices."""
    each = returned(crops)
    for k, matrix in enumerate(matrices):
        crop = kernel_array("out", each[k], crops.stream)
        warp_image(kind, image, matrix, fills, crop)
