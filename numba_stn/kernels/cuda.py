"""CUDA kernels: one thread a pixel, forward and backward side by side.

The scalar math is that of :mod:`.pixel`; here stand only loops and writes. Arrays and launches are
in :mod:`.device`, sums in :mod:`.sums`. A kernel computes coordinates in the type of its
coordinates and values in the type of its images, so a float32 kernel has no float64 arithmetic,
of which most GPUs have little.

The same inputs give the same bits every time: no float is ever added atomically. The images'
gradient is summed in integers of one unit for the whole array, which is below
``T max|dsamples| / 2**60``, where T is the number of samples that read one image: 2**-36 of the
largest term for a 4096 x 4096 output, 2**-48 for 64 x 64. Each term is rounded to that unit, which
is far below float32's own rounding of the largest terms; a float64 gradient is exact to that
fraction of the largest term, and not to 2**-53 of each. The sums cannot overflow. Where
``dsamples`` holds an infinity or NaN, the images' gradient is NaN everywhere.

``coords`` is as in :mod:`.cpu`; ``off`` has the coordinates' type. Work is split into tiles of
the output, and a kernel goes on to the next tile where the device has no more blocks.
"""

import functools
from dataclasses import replace

from .device import (
    BLOCK,
    THREADS,
    cuda,
    device_function,
    empty,
    jit,
    launch,
    output,
    returned,
    taken,
    tiles,
)
from .launch import source_hash
from .pixel import (
    AFFINE,
    OUTSIDE,
    affine_axis,
    affine_start,
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
    "affine_grid",
    "affine_grid_vjp",
    "empty",
    "output",
    "returned",
    "sample",
    "sample_vjp_coords",
    "sample_vjp_images",
    "taken",
]

# --- Coordinate sources ---------------------------------------------------------------------------


@device_function
def row_map(source, coords, n, i, h, w, rows, columns, off):
    """Start and step of x, then of y, along output row i; zeros where a grid holds them."""
    if source != AFFINE:
        zero = type(off)(0)
        return zero, zero, zero, zero
    x0, x1, x2 = coords[n, 0, 0, 0], coords[n, 0, 0, 1], coords[n, 0, 0, 2]
    y0, y1, y2 = coords[n, 0, 1, 0], coords[n, 0, 1, 1], coords[n, 0, 1, 2]
    x = affine_axis(x0, x1, x2, w, columns, rows, off)
    y = affine_axis(y0, y1, y2, h, columns, rows, off)
    return affine_start(x, i, w, rows), x[0], affine_start(y, i, h, rows), y[0]


@device_function
def point(source, coords, row, n, i, j, h, w, off):
    """Input pixel coordinate (x, y) that output pixel (i, j) of image n reads."""
    if source == AFFINE:
        real = type(off)
        return row[0] + row[1] * real(j), row[2] + row[3] * real(j)
    return unnormalize(coords[n, i, j, 0], w, off), unnormalize(coords[n, i, j, 1], h, off)


@device_function
def read(images, n, c, y, x, fill):
    """One tap: the pixel, or ``fill`` where the image has none."""
    if 0 <= y < images.shape[2] and 0 <= x < images.shape[3]:
        return images[n, c, y, x]
    return fill


# --- affine_grid ----------------------------------------------------------------------------------


@functools.cache
def make_affine_grid():
    """Kernel: theta -> grid."""
    sources = source_hash()

    def affine_grid(theta, off, grid):
        _ = sources
        batch, rows, columns, _ = grid.shape
        x, y, z = cuda.grid(3)
        x_step, y_step, z_step = cuda.gridsize(3)
        for n in range(z, batch, z_step):
            for i in range(y, rows, y_step):
                v = base_coordinate(i, rows, off)
                for j in range(x, columns, x_step):
                    u = base_coordinate(j, columns, off)
                    for k in range(2):
                        grid[n, i, j, k] = theta[n, k, 0] * u + theta[n, k, 1] * v + theta[n, k, 2]

    return jit(affine_grid)


@functools.cache
def make_affine_grid_vjp(real):
    """Kernel: dgrid -> each block's sums of theta's gradient."""
    sources, (x_block, y_block), threads = source_hash(), BLOCK, THREADS

    def affine_grid_vjp(dgrid, off, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        _, rows, columns, _ = dgrid.shape
        parts = partials.shape[2]
        n, part = cuda.blockIdx.x // parts, cuda.blockIdx.x % parts
        zero = real(0)
        sums = (zero, zero, zero, zero, zero, zero)
        for i in range(part * y_block + cuda.threadIdx.y, rows, parts * y_block):
            v = base_coordinate(i, rows, off)
            for j in range(cuda.threadIdx.x, columns, x_block):
                u = base_coordinate(j, columns, off)
                sums = plus(sums, moments(dgrid[n, i, j, 0], dgrid[n, i, j, 1], u, v))
        add_block(shared, sums, n, part, partials)

    return jit(affine_grid_vjp)


# --- sample: images and coordinates -> samples ----------------------------------------------------


@functools.cache
def make_sample(source, padding):
    """Kernel: images, coords -> samples."""
    sources = source_hash()

    def sample(images, coords, off, fill, samples):
        _ = sources
        real = samples.dtype.type
        batch, channels, rows, columns = samples.shape
        count, _, h, w = images.shape
        x0, y0, z0 = cuda.grid(3)
        x_step, y_step, z_step = cuda.gridsize(3)
        for n in range(z0, batch, z_step):
            m = n if count > 1 else 0
            for i in range(y0, rows, y_step):
                row = row_map(source, coords, n, i, h, w, rows, columns, off)
                for j in range(x0, columns, x_step):
                    x, y = point(source, coords, row, n, i, j, h, w, off)
                    ix, tx, _ = locate(x, w, padding, off)
                    iy, ty, _ = locate(y, h, padding, off)
                    outside = ix == OUTSIDE or iy == OUTSIDE
                    weights = bilinear_weights(real(tx), real(ty))
                    for c in range(channels):
                        if outside:
                            samples[n, c, i, j] = fill
                        else:
                            samples[n, c, i, j] = bilinear(
                                read(images, m, c, iy, ix, fill),
                                read(images, m, c, iy, ix + 1, fill),
                                read(images, m, c, iy + 1, ix, fill),
                                read(images, m, c, iy + 1, ix + 1, fill),
                                weights,
                            )

    return jit(sample)


# --- dimages: a scatter summed as integers --------------------------------------------------------


@functools.cache
def make_sample_vjp_images(source, padding, fraction):
    """Kernel: dsamples, coords -> each pixel's sum as an integer."""
    sources = source_hash()

    def sample_vjp_images(dsamples, coords, off, peak, terms, totals):
        _ = sources
        real = dsamples.dtype.type
        batch, channels, rows, columns = dsamples.shape
        count, _, h, w = totals.shape
        if not bits_are_finite(peak[0], fraction):
            return
        scale = fixed_point_scale(peak[0], fraction, terms, real(1))
        x0, y0, z0 = cuda.grid(3)
        x_step, y_step, z_step = cuda.gridsize(3)
        for n in range(z0, batch, z_step):
            m = n if count > 1 else 0
            for i in range(y0, rows, y_step):
                row = row_map(source, coords, n, i, h, w, rows, columns, off)
                for j in range(x0, columns, x_step):
                    x, y = point(source, coords, row, n, i, j, h, w, off)
                    ix, tx, _ = locate(x, w, padding, off)
                    iy, ty, _ = locate(y, h, padding, off)
                    nw, ne, sw, se = bilinear_weights(real(tx), real(ty))
                    for c in range(channels):
                        d = dsamples[n, c, i, j]
                        add_tap(totals, m, c, iy, ix, d * nw, scale)
                        add_tap(totals, m, c, iy, ix + 1, d * ne, scale)
                        add_tap(totals, m, c, iy + 1, ix, d * sw, scale)
                        add_tap(totals, m, c, iy + 1, ix + 1, d * se, scale)

    return jit(sample_vjp_images)


# --- dcoords: dgrid, or theta's gradient ----------------------------------------------------------


@device_function
def pixel_gradient(dsamples, images, n, i, j, x, y, padding, off, fill):
    """Gradient with respect to the normalised coordinate of one output pixel."""
    real, zero = images.dtype.type, type(off)(0)
    count, channels, h, w = images.shape
    m = n if count > 1 else 0
    ix, tx, slope_x = locate(x, w, padding, off)
    iy, ty, slope_y = locate(y, h, padding, off)
    if ix == OUTSIDE or iy == OUTSIDE:
        return zero, zero
    dx, dy = real(0), real(0)
    for c in range(channels):
        by_x, by_y = bilinear_slopes(
            read(images, m, c, iy, ix, fill),
            read(images, m, c, iy, ix + 1, fill),
            read(images, m, c, iy + 1, ix, fill),
            read(images, m, c, iy + 1, ix + 1, fill),
            real(tx),
            real(ty),
        )
        d = dsamples[n, c, i, j]
        dx += d * by_x
        dy += d * by_y
    # A slope of 0 must win over an infinite difference, as a missing tap does.
    gx = type(off)(dx) * slope_x * unnormalize_slope(w, off) if slope_x != zero else zero
    gy = type(off)(dy) * slope_y * unnormalize_slope(h, off) if slope_y != zero else zero
    return gx, gy


@functools.cache
def make_grid_gradient(padding):
    """Kernel: dsamples, images, grid -> dgrid."""
    sources = source_hash()

    def grid_gradient(dsamples, images, grid, off, fill, dgrid):
        _ = sources
        batch, rows, columns, _ = grid.shape
        _, _, h, w = images.shape
        x0, y0, z0 = cuda.grid(3)
        x_step, y_step, z_step = cuda.gridsize(3)
        for n in range(z0, batch, z_step):
            for i in range(y0, rows, y_step):
                for j in range(x0, columns, x_step):
                    x = unnormalize(grid[n, i, j, 0], w, off)
                    y = unnormalize(grid[n, i, j, 1], h, off)
                    gx, gy = pixel_gradient(dsamples, images, n, i, j, x, y, padding, off, fill)
                    dgrid[n, i, j, 0] = gx
                    dgrid[n, i, j, 1] = gy

    return jit(grid_gradient)


@functools.cache
def make_theta_gradient(padding, real):
    """Kernel: dsamples, images, theta -> each block's sums of theta's gradient."""
    sources, (x_block, y_block), threads = source_hash(), BLOCK, THREADS

    def theta_gradient(dsamples, images, theta, off, fill, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        _, _, rows, columns = dsamples.shape
        _, _, h, w = images.shape
        parts = partials.shape[2]
        n, part = cuda.blockIdx.x // parts, cuda.blockIdx.x % parts
        zero = real(0)
        sums = (zero, zero, zero, zero, zero, zero)
        for i in range(part * y_block + cuda.threadIdx.y, rows, parts * y_block):
            v = base_coordinate(i, rows, off)
            row = row_map(AFFINE, theta, n, i, h, w, rows, columns, off)
            for j in range(cuda.threadIdx.x, columns, x_block):
                x, y = point(AFFINE, theta, row, n, i, j, h, w, off)
                gx, gy = pixel_gradient(dsamples, images, n, i, j, x, y, padding, off, fill)
                sums = plus(sums, moments(gx, gy, base_coordinate(j, columns, off), v))
        add_block(shared, sums, n, part, partials)

    return jit(theta_gradient)


# --- What the functional layer calls; cpu.py has the same names -----------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, H_out, W_out, 2), from ``theta``, (N, 2, 3)."""
    batch, rows, columns, _ = grid.shape
    launch(make_affine_grid(), tiles(batch, rows, columns), BLOCK, theta, _off(off, theta), grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 2, 3), from ``dgrid``, (N, H_out, W_out, 2)."""
    kernel = make_affine_grid_vjp(dgrid.dtype.type)
    sum_theta(kernel, dgrid.shape[1], dtheta, dgrid, _off(off, dgrid))


def sample(source, padding, images, coords, off, fill, samples):
    """Fill ``samples``, (N, C, H_out, W_out)."""
    batch, _, rows, columns = samples.shape
    launch(
        make_sample(source, padding), tiles(batch, rows, columns), BLOCK,
        images, _four_sided(source, coords), _off(off, coords), images.dtype.type(fill), samples,
    )  # fmt: skip


def sample_vjp_images(source, padding, dsamples, coords, off, dimages):
    """Fill ``dimages``, of the images' shape."""
    batch, _, rows, columns = dsamples.shape
    kernel = make_sample_vjp_images(source, padding, fraction_of(dsamples.dtype))
    most = rows * columns * (batch if len(dimages) == 1 else 1)
    off, coords = _off(off, coords), _four_sided(source, coords)
    sum_images(kernel, tiles(batch, rows, columns), most, dsamples, coords, off, dimages)


def sample_vjp_coords(source, padding, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta where the source is affine."""
    batch, _, rows, columns = dsamples.shape
    off, fill = _off(off, coords), images.dtype.type(fill)
    if source == AFFINE:
        kernel = make_theta_gradient(padding, coords.dtype.type)
        coords = _four_sided(source, coords)
        sum_theta(kernel, rows, dcoords, dsamples, images, coords, off, fill)
    else:
        kernel, blocks = make_grid_gradient(padding), tiles(batch, rows, columns)
        launch(kernel, blocks, BLOCK, dsamples, images, coords, off, fill, dcoords)


def _off(off, coords):
    """``off`` in the precision of the coordinates."""
    return coords.dtype.type(off)


def _four_sided(source, coords):
    """Theta with the sides of a grid: (N, 2, 3) -> (N, 1, 2, 3)."""
    if source != AFFINE or not len(coords):
        return coords
    return replace(coords, view=coords.view.reshape(len(coords), 1, 2, 3))
