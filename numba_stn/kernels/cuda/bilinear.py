"""CUDA kernels of the common case: bilinear samples of float planes with their channels first.

:mod:`.backend` says what holds for all kernels, and calls these. ``counts`` are (images, maps,
channels), ``sides`` (H, W, H_out, W_out), of the type of all indices.
"""

import functools

import numpy as np

from ..launch import source_hash
from ..math.coordinates import (
    AFFINE,
    OUTSIDE,
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
from .device import BLOCK, THREADS, cuda, device_function, jit
from .single_pixels import (
    all_inside,
    element,
    first_place,
    image_axes,
    inner_taps,
    next_row,
    point,
    rim_taps,
)
from .sums import add_block, add_tap, moments, plus

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
