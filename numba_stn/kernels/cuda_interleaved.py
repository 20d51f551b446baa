"""Warps of one image whose channels stand together, on a GPU: :mod:`.interleaved` on the CPU.

Coordinates are formed in the type that values are blended in: float32, but for float64 images.
"""

import functools

import numpy as np

from .cuda_points import all_inside, element, first_place, next_row
from .device import BLOCK, device_function, jit, launch, narrow, tiles
from .launch import source_hash
from .pixel import (
    AFFINE,
    BILINEAR,
    BORDER,
    OUTSIDE,
    REFLECTION,
    ZEROS,
    bilinear_by_columns,
    locate,
)

# Channels that may each have a fill of their own: a kernel gets them one by one.
MOST_FILLS = 64

# The sum of this and a small float32 is rounded to a whole number.
SNAP = 2**23


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


@device_function
def nearest(value):
    """Nearest whole number, a half to the even one, of a float32 from 0 to 2**22."""
    return (value + np.float32(SNAP)) - np.float32(SNAP)


@functools.cache
def make_warp(source, padding, whole):
    """Kernel: image (H, W, C), matrix and fills as tuples -> out; ``whole``: of whole numbers."""
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
                fill = fills[c] if len(fills) > 1 else fills[0]
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


def warp_image(kind, image, matrix, fills, out):
    """Fill ``out``, (H_out, W_out[, C]), from ``image``, (H, W[, C])."""
    source, padding = kind.source, kind.padding
    if kind.mode != BILINEAR or padding not in (ZEROS, BORDER, REFLECTION):
        raise NotImplementedError(
            "arrays on a GPU: so far only bilinear, padded by zeros, border or reflection"
        )
    channels = len(fills)
    real = np.float64 if image.dtype == np.float64 else np.float32
    if (fills == fills[0]).all() or np.isnan(fills).all():
        fills = fills[:1]
    elif channels > MOST_FILLS:
        raise ValueError(
            f"fill: expected one number, or at most {MOST_FILLS} different ones on a GPU, "
            f"got {channels}"
        )
    index = narrow(image, out)
    sides = tuple(index(side) for side in (*image.shape[:2], *out.shape[:2]))
    launch(
        make_warp(source, padding, int(image.dtype.kind == "u")), tiles(1, *out.shape[:2]), BLOCK,
        image, tuple(map(real, matrix.ravel())), tuple(map(real, fills)), index(channels), sides,
        out,
    )  # fmt: skip
