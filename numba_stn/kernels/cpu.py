"""CPU kernels: `prange` loops over rows, forward and backward side by side.

Coordinates are formed in float64 whatever the images are; values are summed in the images' own
precision, and theta's gradient in float64. Nothing depends on the number of threads: a sample
and a row's share of theta's gradient are each computed by one thread, rows are added up in
order, and every pixel of an image's gradient is summed in one fixed order of the samples.

``coords`` is the grid, (N, H_out, W_out, 2), or for ``source == AFFINE`` theta as (N, 1, 2, 3),
so that one loop reads either. ``off`` is ``1 - align_corners`` as a float64. ``sides`` are
(H, W, H_out, W_out).
"""

import functools
import math

import numpy as np
from numba import carray, prange

from . import launch
from .block import sample_block, sample_vjp_coords_block, sample_vjp_images_block
from .host import empty, output, returned, taken
from .lanes import SLOTS, WORKSPACE, fetch, memory, place
from .pixel import (
    AFFINE,
    GRID,
    OUTSIDE,
    REFLECTION,
    ZEROS,
    affine_axis,
    affine_start,
    along_row,
    base_coordinate,
    bilinear,
    bilinear_slopes,
    bilinear_weights,
    locate,
    middle,
    scalar,
    span,
    unnormalize_slope,
)
from .vectors import LANES

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

# A row's block fetches into the cache what the row so many rows later will read. The processor
# does not foresee a turned image's lines, and a line from memory takes as long as three blocks.
ROWS_AHEAD = 8

# Rows that a task works through together, a few blocks' columns at a time: what they read stays
# in cache, and within few pages. It also adds up their shares of theta's gradient.
BAND = 32

# Channels of the images' gradient that a task works on, so that their planes stay in cache.
GROUP = 4

# Bytes that a task needs for a band's rows, and for six sums of each lane.
MAPS, LIMITS, SUMS = BAND * 4 * 8, BAND * 5 * 8, 6 * LANES * 8


# --- Coordinate sources ---------------------------------------------------------------------------


@scalar
def image_map(source, coords, n, sides, off):
    """All that rows of samples n have in common: :func:`.pixel.affine_axis` of x and of y.

    For a grid, half the image's sides and their middles.
    """
    h, w, rows, columns = sides
    zero = np.float64(0)
    if source != AFFINE:
        return (
            (unnormalize_slope(w, off), zero, zero, middle(w, off)),
            (unnormalize_slope(h, off), zero, zero, middle(h, off)),
        )
    x0, x1, x2 = coords[n, 0, 0, 0], coords[n, 0, 0, 1], coords[n, 0, 0, 2]
    y0, y1, y2 = coords[n, 0, 1, 0], coords[n, 0, 1, 1], coords[n, 0, 1, 2]
    return (
        affine_axis(x0, x1, x2, w, columns, rows, off),
        affine_axis(y0, y1, y2, h, columns, rows, off),
    )


@scalar
def row_map(source, axes, i, sides):
    """Start and step of x, then of y: along output row i, or of a normalised coordinate."""
    h, w, rows, _ = sides
    x, y = axes
    if source != AFFINE:
        return x[3], x[0], y[3], y[0]
    return affine_start(x, i, w, rows), x[0], affine_start(y, i, h, rows), y[0]


@scalar
def elements_ahead(source, axes, sides):
    """Where a later row will read: so many elements from where this one does; 0: not known."""
    far_x, far_y = ROWS_AHEAD * axes[0][1], ROWS_AHEAD * axes[1][1]
    if source != AFFINE or not (abs(far_x) < sides[1] and abs(far_y) < sides[0]):
        return 0
    return int(far_y) * sides[1] + int(far_x)


@scalar
def point(source, coords, row, n, i, j, first, real):
    """Input pixel coordinate (x, y) that output pixel (i, j) of image n reads, in float64.

    ``first`` is its block's first column, ``real`` the type of the images.
    """
    if source == AFFINE:
        return (
            along_row(row[0], row[1], first, j - first, real),
            along_row(row[2], row[3], first, j - first, real),
        )
    x, y = np.float64(coords[n, i, j, 0]), np.float64(coords[n, i, j, 1])
    return row[0] + row[1] * x, row[2] + row[3] * y


@scalar
def read(images, n, c, y, x, fill):
    """One tap: the pixel, or ``fill`` where the image has none.

    A branch, not a product: 0 * inf in a missing tap would turn a gradient into NaN.
    """
    if 0 <= y < images.shape[2] and 0 <= x < images.shape[3]:
        return images[n, c, y, x]
    return fill


@scalar
def point_vjp(dsamples, images, padding, off, fill, m, n, i, j, x, y):
    """Gradient with respect to the pixel coordinate (x, y) of one sample, in float64."""
    real = images.dtype.type
    h, w = images.shape[2:]
    ix, tx, slope_x = locate(x, w, padding, off)
    iy, ty, slope_y = locate(y, h, padding, off)
    dx, dy = real(0), real(0)
    outside = ix == OUTSIDE or iy == OUTSIDE
    for c in range(0 if outside else dsamples.shape[1]):
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
    return dx * slope_x if slope_x != 0.0 else 0.0, dy * slope_y if slope_y != 0.0 else 0.0


@scalar
def point_sample(images, samples, padding, off, fill, m, n, i, j, x, y):
    """Sample the pixel coordinate (x, y)."""
    real = samples.dtype.type
    ix, tx, _ = locate(x, images.shape[3], padding, off)
    iy, ty, _ = locate(y, images.shape[2], padding, off)
    outside = ix == OUTSIDE or iy == OUTSIDE
    weights = bilinear_weights(real(tx), real(ty))
    for c in range(samples.shape[1]):
        if outside:
            samples[n, c, i, j] = fill
            continue
        samples[n, c, i, j] = bilinear(
            read(images, m, c, iy, ix, fill),
            read(images, m, c, iy, ix + 1, fill),
            read(images, m, c, iy + 1, ix, fill),
            read(images, m, c, iy + 1, ix + 1, fill),
            weights,
        )


@scalar
def point_scatter(dsamples, dimages, padding, off, top, bottom, m, n, i, j, x, y):
    """Add one sample's gradient to the pixels it was read from, in rows top to bottom - 1."""
    real = dimages.dtype.type
    h, w = dimages.shape[2:]
    iy, ty, _ = locate(y, h, padding, off)
    if iy + 1 < top or iy >= bottom:
        return
    ix, tx, _ = locate(x, w, padding, off)
    nw, ne, sw, se = bilinear_weights(real(tx), real(ty))
    for c in range(dsamples.shape[1]):
        d = dsamples[n, c, i, j]
        if top <= iy:
            if 0 <= ix:
                dimages[m, c, iy, ix] += d * nw
            if -1 <= ix < w - 1:
                dimages[m, c, iy, ix + 1] += d * ne
        if iy + 1 < bottom:
            if 0 <= ix:
                dimages[m, c, iy + 1, ix] += d * sw
            if -1 <= ix < w - 1:
                dimages[m, c, iy + 1, ix + 1] += d * se


# --- Blocks ---------------------------------------------------------------------------------------


@scalar
def can_block(height, width, columns):
    """Whether rows of so many columns are done in blocks: see :mod:`.block`."""
    return columns >= LANES and width > 1 and height * width < 2**31


@scalar
def block_count(columns):
    """Blocks of a row."""
    return (columns + LANES - 1) // LANES


@scalar
def block_span(k, columns):
    """First column and last + 1 of block k; the last block is moved back to end with the row."""
    first = max(0, min(k * LANES, columns - LANES))
    return first, min(first + LANES, columns)


@scalar
def between(start, step, inverse, low, high, columns):
    """Columns from which on and up to which ``start + step j`` is in [low, high)."""
    if step == 0.0:
        return (0, columns) if low <= start < high else (0, 0)
    one, two = (low - start) * inverse, (high - start) * inverse
    left, right = max(min(one, two), -1.0), min(max(one, two), np.float64(columns))
    if not left < right:
        return 0, 0
    return int(math.floor(left)) + 1, int(math.ceil(right))


@scalar
def slack(step):
    """More than a coordinate of an affine row is ever rounded by."""
    return 1e-3 * (1.0 + abs(step))


@scalar
def row_limits(source, padding, row, inverse, top, bottom, right, sides):
    """What :func:`.lanes.place` wants to know of a row: see there.

    ``inverse`` are 1 by the steps of x and of y.
    """
    height, width, _, columns = sides
    if source != AFFINE:
        return top, bottom, right, width, width
    tame = abs(row[0]) + abs(row[1]) + abs(row[2]) + abs(row[3]) < 1e15  # and not NaN
    if not tame:
        return 0, 0, 0, columns, width
    least = 0.0 if padding == ZEROS else 1.0
    x, y = slack(row[1]), slack(row[3])
    first, last = between(row[0], row[1], inverse[0], least + x, right - 1 - x, columns)
    one, two = between(row[2], row[3], inverse[1], max(least, top) + y, bottom - 1 - y, columns)
    first, last = max(first, one), min(last, two)
    if padding == REFLECTION or (first == 0 and last == columns):
        return first, last, 0, columns, width
    # What is clipped to an edge is read there.
    none, infinite = padding == ZEROS, 1e18
    left, stop = (0, columns)
    if none:
        left, stop = between(row[0], row[1], inverse[0], -1 - x, width + x, columns)
    low = top - 1 - y if none or top > 0 else -infinite
    high = bottom + y if none or bottom < height else infinite
    one, two = between(row[2], row[3], inverse[1], low, high, columns)
    return first, last, max(left, one), min(stop, two), width


@scalar
def find_rows(source, padding, axes, sides, first, last, top, bottom, maps, limits):
    """Fill in :func:`row_map` and :func:`row_limits` for rows first to last - 1."""
    inverse = (1.0 / axes[0][0], 1.0 / axes[1][0])
    for i in range(first, last):
        row = row_map(source, axes, i, sides)
        found = row_limits(source, padding, row, inverse, top, bottom, sides[1], sides)
        for k in range(4):
            maps[i - first, k] = row[k]
        for k in range(5):
            limits[i - first, k] = found[k]


@scalar
def found_row(maps, limits, r):
    """What :func:`find_rows` found for the r-th of its rows."""
    return (
        (maps[r, 0], maps[r, 1], maps[r, 2], maps[r, 3]),
        (limits[r, 0], limits[r, 1], limits[r, 2], limits[r, 3], limits[r, 4]),
    )


@scalar
def centred(moment, total, size, off):
    """Sum of d times the normalised coordinate, from those of d times the pixel's, and of d."""
    length = span(size, off)
    if length == 0.0:
        return 0.0
    return (2 * moment - (size - 1) * total) / length


# --- affine_grid ----------------------------------------------------------------------------------


@functools.cache
def make_affine_grid(parallel):
    """Kernel: theta -> grid."""
    stamp = launch.stamp(parallel)

    def affine_grid(theta, off, grid):
        batch, rows, columns, _ = grid.shape
        for row in prange(batch * rows):
            n, i = row // rows, row % rows
            y = base_coordinate(i, rows, off)
            for j in range(columns):
                x = base_coordinate(j, columns, off)
                for k in range(2):
                    grid[n, i, j, k] = theta[n, k, 0] * x + theta[n, k, 1] * y + theta[n, k, 2]
        return stamp

    return launch.jit(affine_grid, parallel)


@functools.cache
def make_grid_moments(parallel):
    """Kernel: dgrid -> each row's sums of d times column, d times row, and d, (N, H_out, 2, 3)."""
    stamp = launch.stamp(parallel)

    def grid_moments(dgrid, moments):
        batch, rows, columns, _ = dgrid.shape
        for row in prange(batch * rows):
            n, i = row // rows, row % rows
            for k in range(2):
                by_column, total = 0.0, 0.0
                for j in range(columns):
                    d = np.float64(dgrid[n, i, j, k])
                    by_column += d * j
                    total += d
                moments[n, i, k, 0] = by_column
                moments[n, i, k, 1] = total * i
                moments[n, i, k, 2] = total
        return stamp

    return launch.jit(grid_moments, parallel)


@functools.cache
def make_theta_from_moments(parallel):
    """Kernel: moments of rows or of bands of them, added up in order -> dtheta.

    ``scales`` are what the gradients with respect to x and y still have to be multiplied by.
    """
    stamp = launch.stamp(parallel)

    def theta_from_moments(moments, rows, columns, scales, off, dtheta):
        batch, parts = moments.shape[:2]
        for n in prange(batch):
            for k in range(2):
                by_column, by_row, total = 0.0, 0.0, 0.0
                for part in range(parts):
                    by_column += moments[n, part, k, 0]
                    by_row += moments[n, part, k, 1]
                    total += moments[n, part, k, 2]
                dtheta[n, k, 0] = centred(by_column, total, columns, off) * scales[k]
                dtheta[n, k, 1] = centred(by_row, total, rows, off) * scales[k]
                dtheta[n, k, 2] = total * scales[k]
        return stamp

    return launch.jit(theta_from_moments, parallel)


# --- sample: images and coordinates -> samples ----------------------------------------------------


@functools.cache
def make_sample(source, padding, parallel):
    """Kernel: images, coords -> samples."""
    stamp = launch.stamp(parallel)

    def sample(images, coords, off, fill, samples):
        real = samples.dtype.type
        batch, _, rows, columns = samples.shape
        h, w = images.shape[2:]
        sides = (h, w, rows, columns)
        fast, blocks = can_block(h, w, columns), block_count(columns)
        bands = (rows + BAND - 1) // BAND
        for task in prange(batch * bands):
            n, band = task // bands, task % bands
            m = n if images.shape[0] > 1 else 0
            axes = image_map(source, coords, n, sides, off)
            ahead = elements_ahead(source, axes, sides)
            slots = memory(WORKSPACE)
            maps = carray(memory(MAPS), (BAND, 4), np.float64)
            limits = carray(memory(LIMITS), (BAND, 5), np.int64)
            start, end = band * BAND, min(rows, (band + 1) * BAND)
            find_rows(source, padding, axes, sides, start, end, 0, h, maps, limits)
            for chunk in range(0, blocks, SLOTS):
                stop = min(chunk + SLOTS, blocks)
                for i in range(start, end):
                    row, limit = found_row(maps, limits, i - start)
                    for k in range(chunk, stop if fast else 0):
                        where = (n, i, block_span(k, columns)[0], k - chunk)
                        place(source, padding, fill, coords, row, limit, where, slots)
                        if source == GRID:
                            fetch(images, m, k - chunk, slots)
                    for k in range(chunk, stop):
                        first, last = block_span(k, columns)
                        if fast and sample_block(
                            source, padding, (images, coords, samples), row, fill,
                            (m, n, i, first, k - chunk, ahead), slots,
                        ):  # fmt: skip
                            continue
                        for j in range(first, last):
                            x, y = point(source, coords, row, n, i, j, first, real)
                            point_sample(images, samples, padding, off, fill, m, n, i, j, x, y)
        return stamp

    return launch.jit(sample, parallel)


@functools.cache
def make_sample_vjp_images(source, padding, parallel):
    """Kernel: dsamples, coords -> dimages.

    Each task owns a band of one image's rows, of a few channels, and goes through all the
    samples, always in the same order, for what falls into it. However many bands there are, a
    pixel's sum has the same terms in the same order.
    """
    stamp = launch.stamp(parallel)

    def sample_vjp_images(dsamples, coords, off, bands, dimages):
        real = dimages.dtype.type
        batch, channels, rows, columns = dsamples.shape
        count, _, h, w = dimages.shape
        sides = (h, w, rows, columns)
        fast, blocks = can_block(h, w, columns), block_count(columns)
        parts = (rows + BAND - 1) // BAND
        groups = (channels + GROUP - 1) // GROUP
        for task in prange(count * bands * groups):
            m, band = task // groups // bands, task // groups % bands
            top, bottom = band * h // bands, (band + 1) * h // bands
            c, end_c = task % groups * GROUP, min(channels, task % groups * GROUP + GROUP)
            dimages[m, c:end_c, top:bottom] = real(0)
            slots = memory(WORKSPACE)
            maps = carray(memory(MAPS), (BAND, 4), np.float64)
            limits = carray(memory(LIMITS), (BAND, 5), np.int64)
            first_n, last_n = (m, m + 1) if count > 1 else (0, batch)
            for lot in range((last_n - first_n) * parts):
                n, start = first_n + lot // parts, lot % parts * BAND
                end = min(rows, start + BAND)
                axes = image_map(source, coords, n, sides, off)
                ahead = elements_ahead(source, axes, sides)
                find_rows(source, padding, axes, sides, start, end, top, bottom, maps, limits)
                for chunk in range(0, blocks, SLOTS):
                    for i in range(start, end):
                        row, limit = found_row(maps, limits, i - start)
                        low, high = chunk, min(chunk + SLOTS, blocks)
                        if source == AFFINE:  # where there is nothing, there is nothing to do
                            low = max(low, limit[2] // LANES)
                            high = min(high, (limit[3] + LANES - 1) // LANES)
                        for k in range(low, high if fast else 0):
                            where = (n, i, block_span(k, columns)[0], k - chunk)
                            place(source, padding, real(0), coords, row, limit, where, slots)
                            if source == GRID:
                                fetch(dimages, m, k - chunk, slots)
                        for k in range(low, high):
                            first, last = block_span(k, columns)
                            skip = k * LANES - first
                            if fast and sample_vjp_images_block(
                                source, padding, (dimages, coords, dsamples), row, real(0),
                                (m, n, i, first, k - chunk, ahead, skip, top, bottom, c, end_c),
                                slots,
                            ):  # fmt: skip
                                continue
                            for j in range(first + skip, last):
                                x, y = point(source, coords, row, n, i, j, first, real)
                                point_scatter(
                                    dsamples[:, c:end_c], dimages[:, c:end_c],
                                    padding, off, top, bottom, m, n, i, j, x, y,
                                )  # fmt: skip
        return stamp

    return launch.jit(sample_vjp_images, parallel)


@functools.cache
def make_sample_vjp_coords(source, padding, parallel):
    """Kernel: dsamples, images, coords -> dgrid, or the moments of each band of BAND rows."""
    stamp = launch.stamp(parallel)

    def sample_vjp_coords(dsamples, images, coords, off, fill, dcoords):
        real = images.dtype.type
        rows, columns = dsamples.shape[2:]
        h, w = images.shape[2:]
        sides = (h, w, rows, columns)
        fast, blocks = can_block(h, w, columns), block_count(columns)
        bands = (rows + BAND - 1) // BAND
        for task in prange(coords.shape[0] * bands):
            n, band = task // bands, task % bands
            m = n if images.shape[0] > 1 else 0
            sums = carray(memory(SUMS), (6, LANES), np.float64)
            sums[:] = 0
            axes = image_map(source, coords, n, sides, off)
            ahead = elements_ahead(source, axes, sides)
            slots = memory(WORKSPACE)
            maps = carray(memory(MAPS), (BAND, 4), np.float64)
            limits = carray(memory(LIMITS), (BAND, 5), np.int64)
            start, end = band * BAND, min(rows, (band + 1) * BAND)
            find_rows(source, padding, axes, sides, start, end, 0, h, maps, limits)
            for chunk in range(0, blocks, SLOTS):
                stop = min(chunk + SLOTS, blocks)
                for i in range(start, end):
                    row, limit = found_row(maps, limits, i - start)
                    for k in range(chunk, stop if fast else 0):
                        where = (n, i, block_span(k, columns)[0], k - chunk)
                        place(source, padding, fill, coords, row, limit, where, slots)
                        if source == GRID:
                            fetch(images, m, k - chunk, slots)
                    for k in range(chunk, stop):
                        first, last = block_span(k, columns)
                        skip = k * LANES - first
                        if fast and sample_vjp_coords_block(
                            source, padding,
                            (images, coords, dsamples, sums if source == AFFINE else dcoords),
                            row, fill, (m, n, i, first, k - chunk, ahead, skip), slots,
                        ):  # fmt: skip
                            continue
                        for j in range(first + skip, last):
                            x, y = point(source, coords, row, n, i, j, first, real)
                            gx, gy = point_vjp(
                                dsamples, images, padding, off, fill, m, n, i, j, x, y
                            )
                            if source == AFFINE:
                                sums[0, j - first] += gx * j
                                sums[1, j - first] += gx * i
                                sums[2, j - first] += gx
                                sums[3, j - first] += gy * j
                                sums[4, j - first] += gy * i
                                sums[5, j - first] += gy
                            else:
                                dcoords[n, i, j, 0] = gx * row[1]
                                dcoords[n, i, j, 1] = gy * row[3]
            if source == AFFINE:
                for k in range(6):
                    dcoords[n, band, k // 3, k % 3] = sums[k].sum()
        return stamp

    return launch.jit(sample_vjp_coords, parallel)


# --- What the functional layer calls; cuda.py has the same names ----------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, H_out, W_out, 2), from ``theta``, (N, 2, 3)."""
    launch.run(make_affine_grid, (), grid.size, theta, np.float64(off), grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 2, 3), from ``dgrid``, (N, H_out, W_out, 2)."""
    _, rows, columns, _ = dgrid.shape
    moments = np.empty((*dgrid.shape[:2], 2, 3))
    launch.run(make_grid_moments, (), dgrid.size, dgrid, moments)
    _theta_from(moments, rows, columns, (1.0, 1.0), off, dtheta)


def sample(source, padding, images, coords, off, fill, samples):
    """Fill ``samples``, (N, C, H_out, W_out)."""
    coords = _four_sided(source, coords)
    fill = images.dtype.type(fill)
    launch.run(
        make_sample, (source, padding), samples.size * 4,
        images, coords, np.float64(off), fill, samples,
    )  # fmt: skip


def sample_vjp_images(source, padding, dsamples, coords, off, dimages):
    """Fill ``dimages``, of the images' shape."""
    count, _, height, _ = dimages.shape
    work = dsamples.size * 4
    shared = launch.threads() if launch.parallel(work) else 1
    bands = max(1, min(-(-shared // max(count, 1)), height))
    coords = _four_sided(source, coords)
    launch.run(
        make_sample_vjp_images, (source, padding), work,
        dsamples, coords, np.float64(off), bands, dimages,
    )  # fmt: skip


def sample_vjp_coords(source, padding, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta where the source is affine."""
    off = np.float64(off)
    rows, columns = dsamples.shape[2:]
    h, w = images.shape[2:]
    affine = source == AFFINE
    out = np.empty((len(dsamples), -(-rows // BAND), 2, 3)) if affine else dcoords
    launch.run(
        make_sample_vjp_coords, (source, padding), dsamples.size * 4,
        dsamples, images, _four_sided(source, coords), off, images.dtype.type(fill), out,
    )  # fmt: skip
    if affine:
        _theta_from(out, rows, columns, ((w - 1 + off) / 2, (h - 1 + off) / 2), off, dcoords)


def _theta_from(moments, rows, columns, scales, off, dtheta):
    launch.run(
        make_theta_from_moments, (), moments.size,
        moments, rows, columns, scales, np.float64(off), dtheta,
    )  # fmt: skip


def _four_sided(source, coords):
    """Theta with the sides of a grid: (N, 2, 3) -> (N, 1, 2, 3)."""
    return coords[:, None] if source == AFFINE else coords
