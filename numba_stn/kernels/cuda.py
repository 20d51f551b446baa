"""CUDA kernels: one thread a pixel, forward and backward side by side.

Those of the common case, bilinear samples of float planes with their channels first; all others
are in :mod:`.cuda_general`, and what is said here holds for them too. No call falls back to the
CPU. The scalar math is that of :mod:`.pixel`; here stand only loops and writes. Arrays and launches
are in :mod:`.device`, sums in :mod:`.sums`. A kernel computes coordinates in the type of its
coordinates and values in the type of its images, so a float32 kernel has no float64 arithmetic,
of which most GPUs have little.

The same inputs give the same bits every time: no float is ever added atomically. The images'
gradient of an affine warp is gathered (:mod:`.cuda_gather`). That of a grid, or under a padding
that reads the edges from everywhere, is summed in integers of one unit for the whole array, which
is below ``T max|dsamples| / 2**60``, where T is the number of samples that read one image: 2**-36
of the largest term for a 4096 x 4096 output, 2**-48 for 64 x 64. Each term is rounded to that
unit, which is far below float32's own rounding of the largest terms; a float64 gradient is exact
to that fraction of the largest term, and not to 2**-53 of each. (Keys's weights may add up to 1.9
in magnitude, so the bicubic unit is twice that.) The sums cannot overflow. Where
``dsamples`` holds an infinity or NaN, the images' gradient is then NaN everywhere.

``coords`` is as in :mod:`.cpu`; ``off`` has the coordinates' type. Kernels take the elements of
arrays in line, and the sides, whose type is that of all indices: 32 bits where they reach. Work is
split into tiles of the output, and a kernel goes on to the next tile where the device has no more
blocks. Loops are ``while`` loops: ``range`` with a step that is not known divides to count its
turns, and counts in 64 bits.
"""

import functools

import numpy as np

from . import cuda_areas as areas
from . import cuda_coords as coords
from . import cuda_general
from .cuda_convert import add, alike, clear, converted
from .cuda_gather import gather
from .cuda_general import coverage
from .cuda_interleaved import warp_image
from .cuda_points import (
    all_inside,
    element,
    first_place,
    image_axes,
    inner_taps,
    next_row,
    point,
    rim_taps,
)
from .cuda_spline import (
    spline_grid,
    spline_groups,
    spline_points,
    spline_room,
    spline_weights,
)
from .cuda_tangents import normal_equations, sample_jvp_coords
from .device import (
    BLOCK,
    THREADS,
    cuda,
    device_function,
    empty,
    jit,
    launch,
    narrow,
    output,
    returned,
    some_of,
    taken,
    tiles,
)
from .launch import source_hash
from .pixel import (
    AFFINE,
    OUTSIDE,
    ZEROS,
    base_coordinate,
    bilinear,
    bilinear_slopes,
    bilinear_weights,
    bits_are_finite,
    fixed_point_scale,
    locate,
    unnormalize,
    unnormalize_slope,
)
from .sums import add_block, add_tap, fraction_of, moments, plus, sum_images, sum_theta

__all__ = [
    "add",
    "affine_grid",
    "affine_grid_vjp",
    "areas",
    "clear",
    "converted",
    "coords",
    "coverage",
    "empty",
    "normal_equations",
    "output",
    "returned",
    "sample",
    "sample_jvp_coords",
    "sample_vjp_coords",
    "sample_vjp_images",
    "some_of",
    "spline_grid",
    "spline_groups",
    "spline_points",
    "spline_room",
    "spline_weights",
    "taken",
    "warp_image",
]

# --- affine_grid ----------------------------------------------------------------------------------


@functools.cache
def make_affine_grid():
    """Kernel: theta -> grid."""
    sources = source_hash()

    def affine_grid(theta, off, shape, grid):
        _ = sources
        batch, rows, columns = shape
        index = type(rows)
        n, first, j = first_place(index)
        u = base_coordinate(j, columns, off)
        while j < columns and n < batch:
            t, i = 6 * n, first
            x0, x1, x2 = element(theta, t), element(theta, t + 1), element(theta, t + 2)
            y0, y1, y2 = element(theta, t + 3), element(theta, t + 4), element(theta, t + 5)
            while i < rows:
                v = base_coordinate(i, rows, off)
                k = np.uint64(2 * index((n * rows + i) * columns + j))
                grid[k] = x0 * u + x1 * v + x2
                grid[k + np.uint64(1)] = y0 * u + y1 * v + y2
                i = index(next_row(i))
            n = index(n + cuda.gridDim.z)

    return jit(affine_grid)


@functools.cache
def make_affine_grid_vjp(real):
    """Kernel: dgrid -> each block's sums of theta's gradient."""
    sources, (x_block, y_block), threads = source_hash(), BLOCK, THREADS

    def affine_grid_vjp(dgrid, off, shape, parts, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        _, rows, columns = shape
        index = type(rows)
        n, part = index(cuda.blockIdx.x // parts), index(cuda.blockIdx.x % parts)
        zero = real(0)
        sums = (zero, zero, zero, zero, zero, zero)
        i = index(part * y_block + cuda.threadIdx.y)
        while i < rows:
            v = base_coordinate(i, rows, off)
            j = index(cuda.threadIdx.x)
            while j < columns:
                k = 2 * index((n * rows + i) * columns + j)
                u = base_coordinate(j, columns, off)
                sums = plus(sums, moments(element(dgrid, k), element(dgrid, k + 1), u, v))
                j = index(j + x_block)
            i = index(i + parts * y_block)
        add_block(shared, sums, n, part, parts, partials)

    return jit(affine_grid_vjp)


# --- sample: images and coordinates -> samples ----------------------------------------------------


@device_function
def blend(images, plane, x, y, padding, sides, off, fill, channels, to, samples):
    """Write one output pixel's channels from element ``to`` on; they read from ``plane`` on."""
    real = samples.dtype.type
    h, w, rows, columns = sides
    index = type(h)
    ix, tx, _ = locate(x, w, padding, off)
    iy, ty, _ = locate(y, h, padding, off)
    weights, c = bilinear_weights(real(tx), real(ty)), index(0)
    if all_inside(iy, ix, sides):
        while c < channels:
            nw, ne, sw, se = inner_taps(images, plane, iy, ix, sides)
            samples[np.uint64(to)] = bilinear(nw, ne, sw, se, weights)
            plane, to, c = index(plane + h * w), index(to + rows * columns), index(c + 1)
        return
    outside = ix == OUTSIDE or iy == OUTSIDE
    while c < channels:
        nw, ne, sw, se = rim_taps(images, plane, iy, ix, sides, fill)
        # An infinite fill has no weight of 0.
        samples[np.uint64(to)] = fill if outside else bilinear(nw, ne, sw, se, weights)
        plane, to, c = index(plane + h * w), index(to + rows * columns), index(c + 1)


@functools.cache
def make_sample(source, padding):
    """Kernel: images, coords -> samples."""
    sources = source_hash()

    def sample(images, coords, off, fill, counts, sides, samples):
        _ = sources
        count, batch, channels = counts
        h, w, rows, columns = sides
        index = type(h)
        n, first, j = first_place(index)
        while j < columns and n < batch:
            axes, i = image_axes(source, coords, n, sides, off), first
            plane = index(n * channels * h * w) if count > 1 else index(0)
            while i < rows:
                x, y = point(source, coords, axes, n, i, j, sides, off)
                to = index((n * channels * rows + i) * columns + j)
                blend(images, plane, x, y, padding, sides, off, fill, channels, to, samples)
                i = index(next_row(i))
            n = index(n + cuda.gridDim.z)

    return jit(sample)


# --- dimages: a scatter summed as integers --------------------------------------------------------


@functools.cache
def make_sample_vjp_images(source, padding, fraction):
    """Kernel: dsamples, coords -> each pixel's sum as an integer."""
    sources = source_hash()

    def sample_vjp_images(dsamples, coords, off, counts, sides, peak, terms, totals):
        _ = sources
        real = dsamples.dtype.type
        count, batch, channels = counts
        h, w, rows, columns = sides
        index = type(h)
        if not bits_are_finite(peak[0], fraction):
            return
        scale = fixed_point_scale(peak[0], fraction, terms, real(1))
        n, first, j = first_place(index)
        while j < columns and n < batch:
            axes, i = image_axes(source, coords, n, sides, off), first
            image = index(n * channels) if count > 1 else index(0)
            while i < rows:
                x, y = point(source, coords, axes, n, i, j, sides, off)
                ix, tx, _ = locate(x, w, padding, off)
                iy, ty, _ = locate(y, h, padding, off)
                nw, ne, sw, se = bilinear_weights(real(tx), real(ty))
                plane = index(image * h * w)
                at = index((n * channels * rows + i) * columns + j)
                c = index(0)
                while c < channels:
                    d = element(dsamples, at)
                    add_tap(totals, plane, iy, ix, sides, d * nw, scale)
                    add_tap(totals, plane, iy, index(ix + 1), sides, d * ne, scale)
                    add_tap(totals, plane, index(iy + 1), ix, sides, d * sw, scale)
                    add_tap(totals, plane, index(iy + 1), index(ix + 1), sides, d * se, scale)
                    plane, at, c = index(plane + h * w), index(at + rows * columns), index(c + 1)
                i = index(next_row(i))
            n = index(n + cuda.gridDim.z)

    return jit(sample_vjp_images)


# --- dcoords: dgrid, or theta's gradient ----------------------------------------------------------


@device_function
def pixel_gradient(dsamples, images, at, plane, channels, x, y, padding, sides, off, fill):
    """Gradient with respect to the normalised coordinate of one output pixel.

    Its first channel is element ``at`` of ``dsamples``, and reads the plane from ``plane`` on.
    """
    real, zero = images.dtype.type, type(off)(0)
    h, w, rows, columns = sides
    index = type(h)
    ix, tx, slope_x = locate(x, w, padding, off)
    iy, ty, slope_y = locate(y, h, padding, off)
    if ix == OUTSIDE or iy == OUTSIDE:
        return zero, zero
    inside = all_inside(iy, ix, sides)
    dx, dy, c = real(0), real(0), index(0)
    while c < channels:
        if inside:
            nw, ne, sw, se = inner_taps(images, plane, iy, ix, sides)
        else:
            nw, ne, sw, se = rim_taps(images, plane, iy, ix, sides, fill)
        by_x, by_y = bilinear_slopes(nw, ne, sw, se, real(tx), real(ty))
        d = element(dsamples, at)
        dx += d * by_x
        dy += d * by_y
        plane, at, c = index(plane + h * w), index(at + rows * columns), index(c + 1)
    # A slope of 0 must win over an infinite difference, as a missing tap does.
    gx = type(off)(dx) * slope_x * unnormalize_slope(w, off) if slope_x != zero else zero
    gy = type(off)(dy) * slope_y * unnormalize_slope(h, off) if slope_y != zero else zero
    return gx, gy


@functools.cache
def make_grid_gradient(padding):
    """Kernel: dsamples, images, grid -> dgrid."""
    sources = source_hash()

    def grid_gradient(dsamples, images, grid, off, fill, counts, sides, dgrid):
        _ = sources
        count, batch, channels = counts
        h, w, rows, columns = sides
        index = type(h)
        n, first, j = first_place(index)
        while j < columns and n < batch:
            i, plane = first, index(n * channels * h * w) if count > 1 else index(0)
            while i < rows:
                k = np.uint64(2 * index((n * rows + i) * columns + j))
                x, y = unnormalize(grid[k], w, off), unnormalize(grid[k + np.uint64(1)], h, off)
                at = index((n * channels * rows + i) * columns + j)
                dgrid[k], dgrid[k + np.uint64(1)] = pixel_gradient(
                    dsamples, images, at, plane, channels, x, y, padding, sides, off, fill
                )
                i = index(next_row(i))
            n = index(n + cuda.gridDim.z)

    return jit(grid_gradient)


@functools.cache
def make_theta_gradient(padding, real):
    """Kernel: dsamples, images, theta -> each block's sums of theta's gradient."""
    sources, (x_block, y_block), threads = source_hash(), BLOCK, THREADS

    def theta_gradient(dsamples, images, theta, off, fill, counts, sides, parts, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        count, _, channels = counts
        h, w, rows, columns = sides
        index = type(h)
        n, part = index(cuda.blockIdx.x // parts), index(cuda.blockIdx.x % parts)
        axes = image_axes(AFFINE, theta, n, sides, off)
        plane = index(n * channels * h * w) if count > 1 else index(0)
        zero = real(0)
        sums = (zero, zero, zero, zero, zero, zero)
        i = index(part * y_block + cuda.threadIdx.y)
        while i < rows:
            v = base_coordinate(i, rows, off)
            j = index(cuda.threadIdx.x)
            while j < columns:
                x, y = point(AFFINE, theta, axes, n, i, j, sides, off)
                at = index((n * channels * rows + i) * columns + j)
                gx, gy = pixel_gradient(
                    dsamples, images, at, plane, channels, x, y, padding, sides, off, fill
                )
                sums = plus(sums, moments(gx, gy, base_coordinate(j, columns, off), v))
                j = index(j + x_block)
            i = index(i + parts * y_block)
        add_block(shared, sums, n, part, parts, partials)

    return jit(theta_gradient)


# --- What the functional layer calls; cpu.py has the same names -----------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), from ``theta``."""
    if len(grid.shape) == 5:
        cuda_general.affine_grid(theta, off, grid)
        return
    shape = _typed(narrow(grid), grid.shape[:3])
    launch(make_affine_grid(), tiles(*shape), BLOCK, theta, _off(off, theta), shape, grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 2, 3) or (N, 3, 4), from ``dgrid``."""
    if len(dgrid.shape) == 5:
        cuda_general.affine_grid_vjp(dgrid, off, dtheta)
        return
    kernel, shape = make_affine_grid_vjp(dgrid.dtype.type), _typed(narrow(dgrid), dgrid.shape[:3])
    sum_theta(kernel, dgrid.shape[1], dtheta, dgrid, _off(off, dgrid), shape)


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``, which read ``fill`` outside, a number for each channel."""
    if not _common(kind, images) or not alike(fill):
        cuda_general.sample(kind, images, coords, off, fill, samples)
        return
    launch(
        make_sample(kind.source, kind.padding), _tiles(samples), BLOCK, images, coords,
        _off(off, coords), fill[0], *_sides(images, samples, coords), samples,
    )  # fmt: skip


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``, of the images' shape."""
    if not _common(kind, dimages):
        cuda_general.sample_vjp_images(kind, dsamples, coords, off, dimages)
        return
    source, padding = kind.source, kind.padding
    batch, _, rows, columns = dsamples.shape
    where = _off(off, coords), *_sides(dimages, dsamples, coords)
    if source == AFFINE and padding == ZEROS and batch:
        gather(dsamples, coords, *where, dimages)
        return
    kernel = make_sample_vjp_images(source, padding, fraction_of(dsamples.dtype))
    most = rows * columns * (batch if len(dimages) == 1 else 1)
    sum_images(kernel, _tiles(dsamples), most, dsamples, coords, where, dimages)


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta where the source is a matrix."""
    if not _common(kind, images) or not alike(fill):
        cuda_general.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords)
        return
    source, padding = kind.source, kind.padding
    args = (
        dsamples, images, coords, _off(off, coords), fill[0] if len(fill) else fill.dtype.type(0),
        *_sides(images, dsamples, coords),
    )  # fmt: skip
    if source == AFFINE:
        kernel = make_theta_gradient(padding, coords.dtype.type)
        sum_theta(kernel, dsamples.shape[2], dcoords, *args)
    else:
        launch(make_grid_gradient(padding), _tiles(dsamples), BLOCK, *args, dcoords)


def _common(kind, images):
    """Whether these images have the kernels of this file; :mod:`.cuda_general` has all others."""
    return kind.is_common() and images.dtype.kind == "f" and images.dtype.itemsize > 2


def _off(off, coords):
    """``off`` in the precision of the coordinates."""
    return coords.dtype.type(off)


def _tiles(samples):
    batch, _, rows, columns = samples.shape
    return tiles(batch, rows, columns)


def _sides(images, samples, coords):
    """(images, maps, channels) and (H, W, H_out, W_out), in the type of the indices."""
    index = narrow(images, samples, coords)
    (count, channels, h, w), (batch, _, rows, columns) = images.shape, samples.shape
    return _typed(index, (count, batch, channels)), _typed(index, (h, w, rows, columns))


def _typed(index, numbers):
    return tuple(index(number) for number in numbers)
