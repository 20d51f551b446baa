"""CPU kernels of every sampler: any mode, padding, dtype and layout, in two and three dimensions.

A sampler is composed of a coordinate source (:mod:`.coordinate_sources`), an interpolation and a
padding rule (:mod:`.padding`), a storage (:mod:`.dtypes`), and the loops of this module,
each of which is written once. :mod:`.sample_2d` computes samples of the plane. For the common case,
:mod:`.backend` calls the kernels of :mod:`.bilinear` instead.

Images are (N, C, D, H, W), or (N, D, H, W, C) if channels are last; a plane has D = 1. Samples have
the same layout. ``kind`` is a :class:`.sampler_kind.Kind`; ``fill`` has a number for each channel.
Coordinates and theta's gradient are float64; values have the type of ``fill``. Nothing depends on
the number of threads.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.coordinates import from_middle, unnormalize_slope
from ..math.dtypes import bits, computed
from ..math.interpolation import all_covered
from ..math.jit import inlined, scalar
from ..math.padding import MISSING, tap_index
from ..math.sampler_kind import FILL, GRID, LANCZOS4, PROJECTIVE, SPLINE2, TAPS
from . import framed_samples
from .coordinate_sources import make_input_pixel, make_row, make_theta_row_gradients
from .framed_samples import elements_together, make_sample_framed
from .gradients_2d import make_vjp_coords, make_vjp_images
from .plane_segments import make_sample_pixel
from .sample_2d import make_sample_plane
from .simd.interpolation import VECTOR_MODES
from .simd.memory import borrowed
from .taps import make_channel_slopes, make_get, make_lengths, make_locate, make_put, make_weights
from .theta_sums import ROWS_PER_PART, add_row, write_dtheta
from .tiles import rows_per_tile
from .traversal import make_fold_row

# The largest number of channels, if they are last, that are sampled together.
MOST_CHANNELS = 4


# --- Samples and coverage -------------------------------------------------------------------------


@functools.cache
def make_sample(kind, dtype, parallel):
    """Kernel: images, coords -> samples of this dtype, pixel by pixel."""
    stamp = cpu_launch.stamp(parallel)
    lengths, sample_pixel = make_lengths(kind.channels_last), make_sample_pixel(kind, dtype)

    def visit(task, state, row, at, pixel):
        arrays, fill, sides, off = task
        m = at[0] if len(arrays[0]) > 1 else 0
        sample_pixel(arrays, fill, m, at, pixel, sides, off)
        return state

    fold_row = make_fold_row(kind, inlined(visit))

    def sample(images, coords, off, fill, samples):
        _, _, sides = lengths(images)
        batch, _, sizes = lengths(samples)
        for line in prange(batch * sizes[0] * sizes[1]):
            arrays, where, outside = borrowed(((images, samples), coords, fill))
            task = (arrays, outside, sides, off)
            fold_row(task, 0, line, where, sides, sizes, off, fill.dtype.type)
        return stamp

    return cpu_launch.jit(sample, parallel)


@functools.cache
def make_coverage(kind, parallel):
    """Kernel: coords -> the share of each sample that comes from inside; with FILL it is 0 or 1."""
    stamp = cpu_launch.stamp(parallel)
    _, mode, padding, dims, _, _ = kind

    def visit(task, state, row, at, pixel):
        covered, sides, off = task
        covered[at] = all_covered(pixel, sides, mode, padding, dims, off)
        return state

    fold_row = make_fold_row(kind, inlined(visit))

    def coverage(coords, sides, off, covered):
        sizes = covered.shape[1:]
        for line in prange(covered.shape[0] * sizes[0] * sizes[1]):
            own, where = borrowed((covered, coords))
            fold_row((own, sides, off), 0, line, where, sides, sizes, off, np.float64)
        return stamp

    return cpu_launch.jit(coverage, parallel)


# --- Gradient of the images -----------------------------------------------------------------------


@functools.cache
def make_sample_vjp_images(kind, parallel):
    """Kernel: dsamples, coords -> dimages.

    A task owns some rows of one image and goes through all samples, always in the same order. The
    loop over pixels is written out here: with :func:`.traversal.make_fold_row` LLVM optimises it
    differently, and bicubic planes took 1.16 times as long, volumes 1.08 times.
    """
    stamp = cpu_launch.stamp(parallel)
    source, mode, padding, dims, channels_last, between = kind
    row_of, input_pixel = make_row(source, dims, between), make_input_pixel(source, dims, mode)
    locate, weights_of = make_locate(mode, padding, dims), make_weights(mode, dims)
    get, put, lengths = (
        make_get(channels_last),
        make_put(channels_last),
        make_lengths(channels_last),
    )
    taps, deep = TAPS[mode], TAPS[mode] if dims == 3 else 1

    def sample_vjp_images(dsamples, coords, off, bands, dimages):
        real = dimages.dtype.type
        count, _, sides = lengths(dimages)
        batch, channels, sizes = lengths(dsamples)
        (d, h, w), (depth, rows, columns) = sides, sizes
        for task in prange(count * bands):
            m, band = task // bands, task % bands
            gradients, where, sums = borrowed((dsamples, coords, dimages))
            top, bottom = band * d * h // bands, (band + 1) * d * h // bands
            for r in range(top, bottom):
                for x in range(w):
                    for c in range(channels):
                        put(sums, m, c, r // h, r % h, x, real(0))
            first, last = (m, m + 1) if count > 1 else (0, batch)
            for line in range(first * depth * rows, last * depth * rows):
                n, k, i = line // rows // depth, line // rows % depth, line % rows
                row = row_of(where, n, k, i, sides, sizes, off)
                for j in range(columns):
                    pixel = input_pixel(where, row, n, k, i, j, columns, real)
                    (iz, iy, ix), t, _, some, _ = locate(pixel, sides, off)
                    if not some:
                        continue
                    wz, wy, wx = weights_of(t, real)
                    for z in range(deep):
                        jz = tap_index(iz + z, d, mode, padding, off)
                        for y in range(taps):
                            jy = tap_index(iy + y, h, mode, padding, off)
                            r = jz * h + jy
                            if jz == MISSING or jy == MISSING or r < top or r >= bottom:
                                continue
                            for x in range(taps):
                                jx = tap_index(ix + x, w, mode, padding, off)
                                if jx == MISSING:
                                    continue
                                weight = wz[z] * wy[y] * wx[x]
                                for c in range(channels):
                                    share = get(gradients, n, c, k, i, j) * weight
                                    total = get(sums, m, c, jz, jy, jx) + share
                                    put(sums, m, c, jz, jy, jx, total)
        return stamp

    return cpu_launch.jit(sample_vjp_images, parallel)


# --- Gradient of the coordinates ------------------------------------------------------------------


@functools.cache
def make_pixel_gradient(kind, dtype):
    """Function: gradient (x, y, z) with respect to one sample's position, in float64.

    It sums over the channels the slopes of the sample times ``dsamples``. ``arrays`` are (images,
    dsamples).
    """
    _, mode, padding, dims, channels_last, _ = kind
    get, locate = make_get(channels_last), make_locate(mode, padding, dims)
    channel_slopes, lengths = make_channel_slopes(kind, dtype), make_lengths(channels_last)

    def pixel_gradient(arrays, fill, at, pixel, sides, off):
        (images, dsamples), (n, k, i, j) = arrays, at
        real, zero = fill.dtype.type, type(off)(0)
        count, channels, _ = lengths(images)
        m = n if count > 1 else 0
        first, t, (sz, sy, sx), some, inside = locate(pixel, sides, off)
        if not some:
            return zero, zero, zero
        gx, gy, gz = real(0), real(0), real(0)
        for c in range(channels):
            g = get(dsamples, n, c, k, i, j)
            x, y, z = channel_slopes(images, fill, (m, c, first), t, inside, sides, off)
            gx, gy, gz = gx + g * x, gy + g * y, gz + g * z
        # A slope of 0 must win over an infinite difference, as a missing tap does.
        return (
            type(off)(gx) * sx if sx != zero else zero,
            type(off)(gy) * sy if sy != zero else zero,
            type(off)(gz) * sz if sz != zero else zero,
        )

    return scalar(pixel_gradient)


@functools.cache
def make_sample_vjp_coords(kind, dtype, parallel):
    """Kernel: dsamples, images, coords -> dgrid, or sums for theta of each part."""
    stamp = cpu_launch.stamp(parallel)
    source, lengths = kind.source, make_lengths(kind.channels_last)
    numbers = 4 if source == PROJECTIVE else 3
    fold_row = make_fold_row(kind, _make_differentiate(kind, dtype))

    def sample_vjp_coords(dsamples, images, coords, off, fill, dcoords):
        _, _, sides = lengths(images)
        batch, _, sizes = lengths(dsamples)
        depth, rows, _ = sizes
        parts = (depth * rows + ROWS_PER_PART - 1) // ROWS_PER_PART
        for number in prange(batch * parts):
            n, part = number // parts, number % parts
            arrays, where, outside, dgrid = borrowed(((images, dsamples), coords, fill, dcoords))
            task = (arrays, outside, dgrid, sides, sizes, off)
            sums, zeros = np.zeros((4, 4)), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
            for r in range(part * ROWS_PER_PART, min(depth * rows, (part + 1) * ROWS_PER_PART)):
                line = n * depth * rows + r
                found = fold_row(task, zeros, line, where, sides, sizes, off, fill.dtype.type)
                z, y = from_middle(r // rows, depth), from_middle(r % rows, rows)
                for axis in range(numbers):
                    add_row(sums, axis, found[axis], found[4 + axis], y, z)
            if source != GRID:
                # Assigning the array would compile Numba's message about different shapes: 2 s.
                for axis in range(4):
                    for column in range(4):
                        dcoords[n, part, axis, column] = sums[axis, column]
        return stamp

    return cpu_launch.jit(sample_vjp_coords, parallel)


def _make_differentiate(kind, dtype):
    """Function: write a grid's gradient at one pixel, or add a matrix's to the sums of a row.

    The sums are those of the gradients in x, y, z and the divisor, then of those times the column.
    """
    gradient_of = make_pixel_gradient(kind, dtype)
    row_gradients = make_theta_row_gradients(kind.source)
    source, write_grid_gradient = kind.source, make_write_grid_gradient(kind.dims)

    def visit(task, state, row, at, pixel):
        arrays, fill, dgrid, sides, sizes, off = task
        g = gradient_of(arrays, fill, at, pixel, sides, off)
        if source == GRID:
            write_grid_gradient(dgrid, at, g, sides, off)
            return state
        gx, gy, gz, gw = row_gradients(row, at[3], pixel, g, sides, off)
        column = from_middle(at[3], sizes[2])
        x0, y0, z0, w0, x1, y1, z1, w1 = state
        x1, y1, z1, w1 = x1 + gx * column, y1 + gy * column, z1 + gz * column, w1 + gw * column
        return x0 + gx, y0 + gy, z0 + gz, w0 + gw, x1, y1, z1, w1

    return inlined(visit)


@functools.cache
def make_write_grid_gradient(dims):
    """Function: write the gradient with respect to a sampling position as that of the grid."""
    if dims == 3:

        def write_grid_gradient(dgrid, at, g, sides, off):
            n, k, i, j = at
            for axis in range(3):
                dgrid[n, k, i, j, axis] = g[axis] * unnormalize_slope(sides[2 - axis], off)

    else:

        def write_grid_gradient(dgrid, at, g, sides, off):
            n, _, i, j = at
            for axis in range(2):
                dgrid[n, i, j, axis] = g[axis] * unnormalize_slope(sides[2 - axis], off)

    return scalar(write_grid_gradient)


# --- Functions that :mod:`.backend` calls ---------------------------------------------------------


def prepare_sample(kind, images_shape, dtype, off, fill, shape):
    """A function ``write(images, coords, samples)`` for images and samples of these shapes."""
    work = math.prod(shape) * (TAPS[kind.mode] ** kind.dims + 1)
    if not has_vector_code(kind):

        def write_pixels(images, coords, samples):
            images, samples = as_volume(kind, images), as_volume(kind, samples)
            cpu_launch.run(make_sample, (kind, dtype), work, images, coords, off, fill, samples)

        return write_pixels
    batch, size = shape[0], shape[1:3] if kind.channels_last else shape[2:]
    rows, sides = size[0], images_shape[1:3] if kind.channels_last else images_shape[2:]
    planes = framed_samples.planes_at_once(kind, dtype, fill, sides, size)
    if planes:
        framed, zero = (kind, dtype, elements_together(kind, len(fill))), fill.dtype.type(0)

        def write_framed(images, coords, samples):
            height = rows_per_tile(batch, rows, cpu_launch.workers(work))
            images, samples = as_volume(kind, images), as_volume(kind, samples)
            arguments = images, coords, off, zero, height, planes, samples
            cpu_launch.run(make_sample_framed, framed, work, *arguments)

        return write_framed
    flags = kind, dtype, _channels_together(kind, len(fill))

    def write(images, coords, samples):
        height = rows_per_tile(batch, rows, cpu_launch.workers(work))
        images, samples = as_volume(kind, images), as_volume(kind, samples)
        arguments = images, coords, off, fill, height, samples
        cpu_launch.run(make_sample_plane, flags, work, *arguments)

    return write


def _channels_together(kind, channels):
    """The number of channels of a plane that are sampled together; 0 if it is one at a time."""
    return channels if kind.channels_last and channels <= MOST_CHANNELS else 0


def has_frame(kind, dtype, fill, image_shape, shape):
    """Whether an image (H, W[, C]) gets a frame: then :func:`prepare_warp` is fastest."""
    return framed_samples.planes_at_once(kind, dtype, fill, image_shape[:2], shape[:2]) > 0


def prepare_warp(kind, fill, image_shape, dtype, shape):
    """A function ``warp(image, matrix, out)`` for one image (H, W[, C]) and a matrix of pixels."""
    channels, (rows, columns) = math.prod(image_shape[2:]), shape[:2]
    sides, sizes = (1, *image_shape[:2], channels), (1, rows, columns, channels)
    write = prepare_sample(kind, sides, dtype, 1.0, fill.astype(computed(dtype)), sizes)

    def warp(image, matrix, out):
        write(image.reshape(sides), matrix.reshape(1, 3, 3), out.reshape(sizes))

    return warp


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``, of the samples' shape without channels, for images of these ``sides``."""
    shape = covered if kind.dims == 3 else covered[:, None]
    sides = (1, *sides)[-3:]
    cpu_launch.run(make_coverage, (kind,), covered.size * 4, coords, sides, off, shape)


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``."""
    work = dsamples.size * (TAPS[kind.mode] ** kind.dims + 1)
    lines = math.prod(kind.spatial(dimages)[:-1])
    bands = max(1, min(-(-cpu_launch.workers(work) // max(len(dimages), 1)), lines))
    make = make_vjp_images if _has_blocks(kind, dsamples) else make_sample_vjp_images
    cpu_launch.run(
        make, (kind,), work,
        as_volume(kind, dsamples), coords, off, bands, as_volume(kind, dimages),
    )  # fmt: skip


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta."""
    work = dsamples.size * (TAPS[kind.mode] ** kind.dims + 1)
    sizes, sides = ((1, *kind.spatial(array))[-3:] for array in (dsamples, images))
    parts = -(-sizes[0] * sizes[1] // ROWS_PER_PART)
    sums = dcoords if kind.source == GRID else np.empty((len(coords), parts, 4, 4))
    arguments = as_volume(kind, dsamples), as_volume(kind, images), coords, off, fill
    if _has_blocks(kind, dsamples) and images.dtype != np.float16:
        cpu_launch.run(make_vjp_coords, (kind,), work, *arguments, sums)
    else:
        cpu_launch.run(make_sample_vjp_coords, (kind, images.dtype), work, *arguments, sums)
    if kind.source != GRID:
        write_dtheta(kind, sums, sides, sizes, off, dcoords)


def _has_blocks(kind, dsamples):
    """Whether the gradients are computed by blocks of pixels: not of float16."""
    return has_vector_code(kind) and dsamples.dtype != np.float16


@functools.cache
def has_vector_code(kind):
    """Whether samples of this kind are computed by blocks of pixels.

    Blocks with all taps inside do not look at the padding. Coefficients of splines have margins,
    and under FILL samples in these are not inside.
    """
    margins = SPLINE2 <= kind.mode < LANCZOS4 and kind.padding == FILL
    return kind.dims == 2 and kind.mode in VECTOR_MODES and not margins


def as_volume(kind, array):
    """View a batch as the kernels expect it: a plane with a depth of 1, float16 as its bits."""
    array = bits(array)
    if kind.dims == 3:
        return array
    return array[:, None] if kind.channels_last else array[:, :, None]
