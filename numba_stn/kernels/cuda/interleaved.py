"""Warps of one image whose channels stand together, on a GPU: :mod:`.interleaved` on the CPU.

Coordinates are formed in the type that values are blended in: float32, but for float64 images.
"""

import functools

import numpy as np

from ..launch import source_hash
from ..math.coordinates import (
    AFFINE,
    BILINEAR,
    BORDER,
    OUTSIDE,
    REFLECTION,
    ZEROS,
    bilinear_by_columns,
    locate,
)
from ..math.storage import computed, nearest
from .convert import numbers_for
from .device import BLOCK, device_function, jit, launch, narrow, tiles
from .single_pixels import all_inside, element, first_place, next_row
from .taps import blend, form_of, number_for


@device_function
def place(source, matrix, i, j):
    """Input pixel that output pixel (i, j) reads."""
    real = type(matrix[0])
    row, column = real(i), real(j)
    x = matrix[0] * column + (matrix[1] * row + matrix[2])
    y = matrix[3] * column + (matrix[4] * row + matrix[5])
    if source == AFFINE:
        return x, y
    divisor = matrix[6] * column + (matrix[7] * row + matrix[8])
    return x / divisor, y / divisor


@device_function
def read(image, at, there, fill):
    """One tap as a number to blend: element ``at``, or ``fill`` where the image has none."""
    return type(fill)(element(image, at)) if there else fill


@functools.cache
def make_warp(source, padding, whole):
    """Kernel: image (H, W, C), matrix as a tuple, fills -> out; ``whole``: of whole numbers."""
    sources = source_hash()

    def warp(image, matrix, fills, channels, sides, out):
        _ = sources
        real, kind = type(matrix[0]), out.dtype.type
        h, w, rows, columns = sides
        index = type(h)
        _, i, j = first_place(index)
        while j < columns and i < rows:
            x, y = place(source, matrix, i, j)
            ix, tx, _ = locate(x, w, padding, real(1))
            iy, ty, _ = locate(y, h, padding, real(1))
            outside = ix == OUTSIDE or iy == OUTSIDE
            inside = all_inside(iy, ix, sides)
            north, south = inside or 0 <= iy < h, inside or 0 <= iy + 1 < h
            west, east = inside or 0 <= ix < w, inside or 0 <= ix + 1 < w
            upper = index(index(iy * w + ix) * channels)
            lower = index(upper + w * channels)
            to, c = index(index(i * columns + j) * channels), index(0)
            while c < channels:
                fill = number_for(fills, c)
                value = bilinear_by_columns(
                    read(image, upper + c, north and west, fill),
                    read(image, upper + channels + c, north and east, fill),
                    read(image, lower + c, south and west, fill),
                    read(image, lower + channels + c, south and east, fill),
                    tx,
                    ty,
                )
                value = fill if outside else value
                out[np.uint64(to + c)] = kind(nearest(value)) if whole else kind(value)
                c = index(c + 1)
            i = index(next_row(i))

    return jit(warp)


@functools.cache
def make_general_warp(source, mode, padding, form):
    """The same kernel for any mode and padding."""
    sources, rule = source_hash(), (mode, padding, 2)

    def warp(image, matrix, fills, channels, sides, out):
        _ = sources
        real = type(matrix[0])
        h, w, rows, columns = sides
        index = type(h)
        _, i, j = first_place(index)
        while j < columns and i < rows:
            x, y = place(source, matrix, i, j)
            steps, to = (index(1), index(1), channels), index(index(i * columns + j) * channels)
            pixel, volume = (x, y, real(0)), (index(1), h, w)
            blend(
                image, index(0), steps, pixel, volume, rule, real(1), fills, channels, form, out, to
            )
            i = index(next_row(i))

    return jit(warp)


def warp_image(kind, image, matrix, fills, out):
    """Fill ``out``, (H_out, W_out[, C]), from ``image``, (H, W[, C])."""
    source, mode, padding = kind.source, kind.mode, kind.padding
    real = computed(image.dtype)
    if mode == BILINEAR and padding in (ZEROS, BORDER, REFLECTION):
        kernel = make_warp(source, padding, int(image.dtype.kind == "u"))
    else:
        kernel = make_general_warp(source, mode, padding, form_of(image.dtype))
    index = narrow(image, out)
    sides = tuple(index(side) for side in (*image.shape[:2], *out.shape[:2]))
    launch(
        kernel, tiles(1, *out.shape[:2]), BLOCK,
        image, tuple(map(real.type, matrix.ravel())), numbers_for(fills.astype(real), image),
        index(len(fills)), sides, out,
    )  # fmt: skip
