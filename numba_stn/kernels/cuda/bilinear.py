"""CUDA kernels of the common case: bilinear samples of float planes with their channels first.

Each is a loop of :mod:`.loops` and a function that handles one pixel. ``geometry`` has the fields
of :class:`.layout.Geometry`; ``axes`` are those of :func:`.bilinear_pixels.map_axes`.
"""

import functools

import numpy as np

from ..cpu_launch import source_hash
from ..math.coordinates import base_coordinate, unnormalize_slope
from ..math.fixed_point import bits_are_finite, fixed_point_scale
from ..math.interpolation import bilinear, bilinear_slopes, bilinear_weights, locate
from ..math.padding import OUTSIDE
from ..math.sampler_kind import AFFINE, GRID
from .bilinear_pixels import (
    all_inside,
    border_taps,
    grid_index,
    input_pixel,
    interior_taps,
    map_axes,
    weighted_fills,
)
from .device import THREADS, cuda, device_function, inlined, jit
from .layout import Geometry, element
from .loops import block_part, each_pixel, first_x, no_slice, row_y, sum_pixels
from .sums import add_block, add_tap, moments, no_moments, plus

# --- affine_grid ----------------------------------------------------------------------------------


@inlined
def grid_slice(call, g, n, k):
    """The two rows of theta."""
    theta, t = call[0], 6 * n
    x = element(theta, t), element(theta, t + 1), element(theta, t + 2)
    return x, (element(theta, t + 3), element(theta, t + 4), element(theta, t + 5))


@inlined
def write_coordinate(call, g, common, where):
    """Write the coordinate of one output pixel."""
    (_, u, grid), (x, y) = call, common
    v, at = base_coordinate(where[2], g.sizes[1], g.off), np.uint64(grid_index(where, g))
    grid[at] = x[0] * u + x[1] * v + x[2]
    grid[at + np.uint64(1)] = y[0] * u + y[1] * v + y[2]


@functools.cache
def make_affine_grid():
    """Kernel: theta -> grid."""
    sources = source_hash()

    def affine_grid(theta, geometry, grid):
        _ = sources
        g = Geometry(*geometry)
        each_pixel(grid_slice, write_coordinate, 2, (theta, first_x(g), grid), g)

    return jit(affine_grid)


@inlined
def grid_gradient_moments(call, g, common, v, sums, where):
    """Add the gradient of one grid coordinate with respect to theta."""
    (dgrid,), at = call, grid_index(where, g)
    u = base_coordinate(where[3], g.sizes[2], g.off)
    return plus(sums, moments(element(dgrid, at), element(dgrid, at + 1), u, v))


@functools.cache
def make_affine_grid_vjp(real):
    """Kernel: dgrid -> each block's sums of theta's gradient."""
    sources, threads = source_hash(), THREADS

    def affine_grid_vjp(dgrid, geometry, parts, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        g, sums = Geometry(*geometry), no_moments(real(0))
        part = block_part(parts, g)
        sums = sum_pixels(no_slice, row_y, grid_gradient_moments, 2, (dgrid,), g, sums, part)
        add_block(shared, sums, part, partials)

    return jit(affine_grid_vjp)


# --- sample ---------------------------------------------------------------------------------------


@inlined
def plane_slice(call, g, n, k):
    """The axes of map n, and the first element of its image; ``call`` begins with the source."""
    source, coords = call[0], call[1]
    (count, _, channels), (_, h, w) = g.counts, g.sides
    start = type(w)(n * channels * h * w) if count > 1 else type(w)(0)
    return map_axes(source, coords, n, g), start


@inlined
def first_channel(g, where):
    """Element of the first channel of an output pixel."""
    (_, _, channels), (_, rows, columns), (n, _, i, j) = g.counts, g.sizes, where
    return type(j)((n * channels * rows + i) * columns + j)


@inlined
def sample_pixel(call, g, common, where):
    """Write the channels of one output pixel."""
    source, coords, padding, images, fill, samples = call
    axes, plane = common
    x, y = input_pixel(source, coords, axes, where, g)
    blend(padding, images, fill, plane, (x, y), g, samples, first_channel(g, where))


@device_function
def blend(padding, images, fill, plane, pixel, g, samples, to):
    """Write the channels of one output pixel from element ``to`` on, read from ``plane`` on.

    The address itself counts the channels: a counter beside it would take three instructions more.
    """
    real = samples.dtype.type
    (_, _, channels), (_, h, w), (_, rows, columns) = g.counts, g.sides, g.sizes
    index = type(w)
    ix, tx, _ = locate(pixel[0], w, padding, g.off)
    iy, ty, _ = locate(pixel[1], h, padding, g.off)
    weights, step = bilinear_weights(real(tx), real(ty)), index(rows * columns)
    end = index(to + channels * step)
    if all_inside(iy, ix, h, w):
        while to < end:
            nw, ne, sw, se = interior_taps(images, plane, iy, ix, w)
            samples[np.uint64(to)] = bilinear(nw, ne, sw, se, weights)
            plane, to = index(plane + h * w), index(to + step)
        return
    outside, fills = ix == OUTSIDE or iy == OUTSIDE, weighted_fills(fill, weights)
    while to < end:
        nw, ne, sw, se = border_taps(images, plane, iy, ix, g.sides, fills)
        samples[np.uint64(to)] = fill if outside else bilinear(nw, ne, sw, se, weights)
        plane, to = index(plane + h * w), index(to + step)


@functools.cache
def make_sample(source, padding, blocks=None):
    """Kernel: images, coords -> samples; ``blocks`` are those of :func:`.device.jit`."""
    sources = source_hash()

    def sample(images, coords, fill, geometry, samples):
        _ = sources
        call = source, coords, padding, images, fill, samples
        each_pixel(plane_slice, sample_pixel, 2, call, Geometry(*geometry))

    return jit(sample, blocks)


# --- dimages: a scatter, summed as integers -------------------------------------------------------


@inlined
def scatter_pixel(call, g, common, where):
    """Add the gradient of one output pixel to the totals of the image's pixels."""
    source, coords, padding, dsamples, scale, totals = call
    real, sides = dsamples.dtype.type, g.sides
    (_, _, channels), (_, h, w), (_, rows, columns) = g.counts, sides, g.sizes
    (axes, plane), at, index = common, first_channel(g, where), type(w)
    x, y = input_pixel(source, coords, axes, where, g)
    ix, tx, _ = locate(x, w, padding, g.off)
    iy, ty, _ = locate(y, h, padding, g.off)
    nw, ne, sw, se = bilinear_weights(real(tx), real(ty))
    step = index(rows * columns)
    end = index(at + channels * step)
    while at < end:
        d = element(dsamples, at)
        add_tap(totals, plane, iy, ix, sides, d * nw, scale)
        add_tap(totals, plane, iy, index(ix + 1), sides, d * ne, scale)
        add_tap(totals, plane, index(iy + 1), ix, sides, d * sw, scale)
        add_tap(totals, plane, index(iy + 1), index(ix + 1), sides, d * se, scale)
        plane, at = index(plane + h * w), index(at + step)


@functools.cache
def make_sample_vjp_images(source, padding, fraction):
    """Kernel: dsamples, coords -> each pixel's sum as an integer."""
    sources = source_hash()

    def sample_vjp_images(dsamples, coords, geometry, peak, terms, totals):
        _ = sources
        if not bits_are_finite(peak[0], fraction):
            return
        scale = fixed_point_scale(peak[0], fraction, terms, dsamples.dtype.type(1))
        call = source, coords, padding, dsamples, scale, totals
        each_pixel(plane_slice, scatter_pixel, 2, call, Geometry(*geometry))

    return jit(sample_vjp_images)


# --- dcoords: dgrid, or theta's gradient ----------------------------------------------------------


@device_function
def pixel_gradient(padding, images, fill, plane, pixel, g, dsamples, at):
    """Gradient of one output pixel with respect to its normalised coordinate (x, y).

    Its channels begin at element ``at`` of ``dsamples`` and are read from ``plane`` on.
    """
    real, zero = images.dtype.type, type(g.off)(0)
    (_, _, channels), (_, h, w), (_, rows, columns) = g.counts, g.sides, g.sizes
    index = type(w)
    ix, tx, slope_x = locate(pixel[0], w, padding, g.off)
    iy, ty, slope_y = locate(pixel[1], h, padding, g.off)
    if ix == OUTSIDE or iy == OUTSIDE:
        return zero, zero
    inside, one, tx, ty = all_inside(iy, ix, h, w), real(1), real(tx), real(ty)
    for_x = weighted_fills(fill, (one - ty, one - ty, ty, ty))
    for_y = weighted_fills(fill, (one - tx, tx, one - tx, tx))
    dx, dy, step = real(0), real(0), index(rows * columns)
    end = index(at + channels * step)
    while at < end:
        if inside:
            nw, ne, sw, se = interior_taps(images, plane, iy, ix, w)
            by_x, by_y = bilinear_slopes(nw, ne, sw, se, tx, ty)
        else:
            nw, ne, sw, se = border_taps(images, plane, iy, ix, g.sides, for_x)
            by_x, _ = bilinear_slopes(nw, ne, sw, se, tx, ty)
            nw, ne, sw, se = border_taps(images, plane, iy, ix, g.sides, for_y)
            _, by_y = bilinear_slopes(nw, ne, sw, se, tx, ty)
        d = element(dsamples, at)
        dx += d * by_x
        dy += d * by_y
        plane, at = index(plane + h * w), index(at + step)
    # A slope of 0 must win over an infinite difference, as a missing tap does.
    gx = type(g.off)(dx) * slope_x * unnormalize_slope(w, g.off) if slope_x != zero else zero
    gy = type(g.off)(dy) * slope_y * unnormalize_slope(h, g.off) if slope_y != zero else zero
    return gx, gy


@inlined
def grid_gradient_pixel(call, g, common, where):
    """Write the gradient of one output pixel with respect to its coordinate in the grid."""
    source, grid, padding, images, fill, dsamples, dgrid = call
    (axes, plane), to = common, np.uint64(grid_index(where, g))
    pixel, at = input_pixel(source, grid, axes, where, g), first_channel(g, where)
    dgrid[to], dgrid[to + np.uint64(1)] = pixel_gradient(
        padding, images, fill, plane, pixel, g, dsamples, at
    )


@functools.cache
def make_grid_gradient(padding):
    """Kernel: dsamples, images, grid -> dgrid."""
    sources = source_hash()

    def grid_gradient(dsamples, images, grid, fill, geometry, dgrid):
        _ = sources
        call = GRID, grid, padding, images, fill, dsamples, dgrid
        each_pixel(plane_slice, grid_gradient_pixel, 2, call, Geometry(*geometry))

    return jit(grid_gradient)


@inlined
def theta_gradient_pixel(call, g, common, v, sums, where):
    """Add the gradient of one output pixel with respect to theta."""
    source, theta, padding, images, fill, dsamples = call
    axes, plane = common
    pixel, at = input_pixel(source, theta, axes, where, g), first_channel(g, where)
    gx, gy = pixel_gradient(padding, images, fill, plane, pixel, g, dsamples, at)
    return plus(sums, moments(gx, gy, base_coordinate(where[3], g.sizes[2], g.off), v))


@functools.cache
def make_theta_gradient(padding, real):
    """Kernel: dsamples, images, theta -> each block's sums of theta's gradient."""
    sources, threads = source_hash(), THREADS

    def theta_gradient(dsamples, images, theta, fill, geometry, parts, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        g, sums = Geometry(*geometry), no_moments(real(0))
        part = block_part(parts, g)
        call = AFFINE, theta, padding, images, fill, dsamples
        sums = sum_pixels(plane_slice, row_y, theta_gradient_pixel, 2, call, g, sums, part)
        add_block(shared, sums, part, partials)

    return jit(theta_gradient, 4 if real == np.float32 else None)
