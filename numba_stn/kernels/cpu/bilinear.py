"""CPU kernels of the common case: bilinear samples of float planes with their channels first.

:mod:`.backend` says what holds for all kernels, and calls these; :mod:`.bilinear` has those of a
GPU.
"""

import functools

import numpy as np
from numba import carray, prange

from .. import launch
from ..math.coordinates import AFFINE, BILINEAR, GRID, scalar
from .rows import (
    BAND,
    TALL,
    block_count,
    block_span,
    can_block,
    elements_ahead,
    find_rows,
    first_slot,
    image_map,
    make_found_row,
    origin,
    point,
    reads_nothing,
    touching,
)
from .simd.addresses import SLOTS, WORKSPACE, memory, place, run_length
from .simd.bilinear import (
    gather_quads,
    sample_rim,
    sample_run,
    sample_vjp_coords_rim,
    sample_vjp_coords_run,
    sample_vjp_images_rim,
    sample_vjp_images_run,
    sum_quads_rim,
    sum_quads_run,
)
from .simd.lanes import fetch
from .simd.vectors import LANES
from .single_pixels import pixel_of_quads, point_quads, point_sample, point_scatter, point_vjp

# Channels of the images' gradient that a task works on, so that their planes stay in cache.
GROUP = 4

# Bytes for the quads of a small image's planes: see :func:`.bilinear.sum_quads_run`.
QUADS = 2**16

found_row = make_found_row(4)

# Bytes that a task needs for a tile's rows, and for six sums of each lane and band.
MAPS, LIMITS, SUMS = TALL * BAND * 4 * 8, TALL * BAND * 6 * 8, TALL * 6 * LANES * 8


@functools.cache
def make_sample(source, padding, parallel):
    """Kernel: images, coords -> samples."""
    stamp = launch.stamp(parallel)

    def sample(images, coords, off, fill, height, samples):
        real = samples.dtype.type
        batch, planes, rows, columns = samples.shape
        h, w = images.shape[2:]
        sides, line = (h, w, rows, columns), images.reshape(images.size)
        fast, blocks = can_block(h, w, columns), block_count(columns)
        tiles = (rows + height - 1) // height
        for task in prange(batch * tiles):
            n, start = task // tiles, task % tiles * height
            m, end = n if images.shape[0] > 1 else 0, min(rows, start + height)
            axes = image_map(source, coords, n, sides, off)
            ahead = elements_ahead(source, axes, sides)
            slots = memory(WORKSPACE)
            maps = carray(memory(MAPS), (TALL * BAND, 4), np.float64)
            limits = carray(memory(LIMITS), (TALL * BAND, 6), np.int64)
            find_rows(source, padding, axes, sides, start, end, 0, h, w, maps, limits)
            arrays = (images, coords, samples)
            for i in range(start, end):
                _, limit = found_row(maps, limits, i - start)
                left, right = touching(limit, 0, blocks)
                fill_span(samples, fill, n, i, 0, min(left * LANES, columns))
                fill_span(samples, fill, n, i, right * LANES, columns)
            for chunk in range(0, blocks, SLOTS):
                stop = min(chunk + SLOTS, blocks)
                inside, following = np.int64(0), np.int64(0)
                for i in range(start - 1, end):
                    inside, following = following, np.int64(0)
                    if fast and i + 1 < end:
                        row, limit = found_row(maps, limits, i + 1 - start)
                        where = (n, i + 1, chunk, stop, first_slot(chunk, i + 1), columns)
                        following = place(
                            source, padding, BILINEAR, fill, coords, row, limit, where, slots
                        )
                        if source == GRID:
                            where = (m * planes * h * w, planes, h * w, 1, following)
                            fetch(line, fill, where, slots)
                    if i < start:
                        continue
                    row, limit = found_row(maps, limits, i - start)
                    base = first_slot(chunk, i)
                    k, high = touching(limit, chunk, stop)
                    while k < high:
                        length = run_length(inside >> (k - base))
                        if length:
                            where = (m, n, i, k, length, k - base, columns, ahead)
                            sample_run(source, arrays, row, where, slots)
                            k += length
                            continue
                        first, last = block_span(k, columns)
                        k += 1
                        if not (
                            fast
                            and sample_rim(source, padding, arrays, row, fill, (m, n, i, first))
                        ):
                            for j in range(first, last):
                                x, y = point(
                                    source, coords, row, n, i, j, origin(j, first, columns), real
                                )
                                point_sample(images, samples, padding, off, fill, m, n, i, j, x, y)
        return stamp

    return launch.jit(sample, parallel)


@scalar
def fill_span(samples, fill, n, i, first, last):
    """What reads nothing is ``fill``."""
    # An index that cannot be negative, for LLVM to vectorise.
    for c in range(samples.shape[1]):
        for j in range(first, last):
            samples[n, c, i, np.uint64(j)] = fill


@functools.cache
def make_sample_vjp_images(source, padding, parallel):
    """Kernel: dsamples, coords -> dimages.

    Each task owns a band of one image's rows, of a few channels, and goes through all the
    samples, always in the same order, for what falls into it. However many bands there are, a
    pixel's sum has the same terms in the same order. A ``small`` image is one band, and summed in
    quads: see :func:`.bilinear.sum_quads_run`.
    """
    stamp = launch.stamp(parallel)

    def sample_vjp_images(dsamples, coords, off, bands, group, small, dimages):
        real = dimages.dtype.type
        batch, channels, rows, columns = dsamples.shape
        count, _, h, w = dimages.shape
        sides, line = (h, w, rows, columns), dimages.reshape(dimages.size)
        fast, blocks = can_block(h, w, columns), block_count(columns)
        tiles = (rows + TALL * BAND - 1) // (TALL * BAND)
        groups = (channels + group - 1) // group
        for task in prange(count * bands * groups):
            m, band = task // groups // bands, task // groups % bands
            top, bottom = band * h // bands, (band + 1) * h // bands
            c, end_c = task % groups * group, min(channels, task % groups * group + group)
            if not small:
                dimages[m, c:end_c, top:bottom] = real(0)
            slots = memory(WORKSPACE)
            maps = carray(memory(MAPS), (TALL * BAND, 4), np.float64)
            limits = carray(memory(LIMITS), (TALL * BAND, 6), np.int64)
            quads = carray(memory(QUADS), (end_c - c if small else 0, h + 1, w + 1, 4), real)
            if small:
                quads[:] = real(0)
            arrays = (dimages, coords, dsamples, quads)
            pitch = w + 1 if small else w
            first_n, last_n = (m, m + 1) if count > 1 else (0, batch)
            for tile in range((last_n - first_n) * tiles):
                n, start = first_n + tile // tiles, tile % tiles * TALL * BAND
                end = min(rows, start + TALL * BAND)
                axes = image_map(source, coords, n, sides, off)
                ahead = elements_ahead(source, axes, sides)
                find_rows(
                    source, padding, axes, sides, start, end, top, bottom, pitch, maps, limits
                )
                for chunk in range(0, blocks, SLOTS):
                    stop = min(chunk + SLOTS, blocks)
                    inside, following = np.int64(0), np.int64(0)
                    for i in range(start - 1, end):
                        inside, following = following, np.int64(0)
                        if fast and i + 1 < end:
                            row, limit = found_row(maps, limits, i + 1 - start)
                            low, high = touching(limit, chunk, stop)
                            where = (n, i + 1, low, high, first_slot(chunk, i + 1), columns)
                            following = place(
                                source, padding, BILINEAR, real(0), coords, row, limit, where, slots
                            )
                            if source == GRID and not small:
                                where = ((m * channels + c) * h * w, end_c - c, h * w, 1, following)
                                fetch(line, real(0), where, slots)
                        if i < start:
                            continue
                        row, limit = found_row(maps, limits, i - start)
                        base = first_slot(chunk, i)
                        k, high = touching(limit, chunk, stop)
                        while k < high:
                            length = run_length(inside >> (k - base))
                            if length:
                                where = (
                                    m, n, i, k, length, k - base, columns, c, end_c, ahead
                                )  # fmt: skip
                                if small:
                                    sum_quads_run(source, arrays, row, where, slots)
                                else:
                                    sample_vjp_images_run(source, arrays, row, where, slots)
                                k += length
                                continue
                            first, last = block_span(k, columns)
                            skip = k * LANES - first
                            k += 1
                            where, done = (m, n, i, first, skip, c, end_c, top, bottom), False
                            if fast and small:
                                done = sum_quads_rim(source, padding, arrays, row, real(0), where)
                            elif fast:
                                done = sample_vjp_images_rim(
                                    source, padding, arrays, row, real(0), where
                                )
                            for j in range(last if done else first + skip, last):
                                x, y = point(
                                    source, coords, row, n, i, j, origin(j, first, columns), real
                                )
                                if small:
                                    point_quads(dsamples, quads, padding, off, c, n, i, j, x, y)
                                else:
                                    point_scatter(
                                        dsamples[:, c:end_c], dimages[:, c:end_c],
                                        padding, off, top, bottom, m, n, i, j, x, y,
                                    )  # fmt: skip
            if small:
                pixels_of_quads(quads, dimages, m, c)
        return stamp

    return launch.jit(sample_vjp_images, parallel)


@scalar
def pixels_of_quads(quads, dimages, m, c):
    """Sum quads in the pixels of image m, from channel c on."""
    h, w = dimages.shape[2:]
    for k in range(quads.shape[0]):
        for y in range(h):
            for block in range(block_count(w)):
                first, last = block_span(block, w)
                if last - first == LANES:
                    gather_quads(quads, dimages, (k, m, c + k, y, first))
                    continue
                for x in range(first, last):
                    dimages[m, c + k, y, x] = pixel_of_quads(quads, k, y, x)


@functools.cache
def make_sample_vjp_coords(source, padding, parallel):
    """Kernel: dsamples, images, coords -> dgrid, or the moments of each band of BAND rows."""
    stamp = launch.stamp(parallel)

    def sample_vjp_coords(dsamples, images, coords, off, fill, tall, dcoords):
        real = images.dtype.type
        planes, rows, columns = dsamples.shape[1:]
        h, w = images.shape[2:]
        sides, line = (h, w, rows, columns), images.reshape(images.size)
        fast, blocks = can_block(h, w, columns), block_count(columns)
        tiles = (rows + tall * BAND - 1) // (tall * BAND)
        for task in prange(coords.shape[0] * tiles):
            n, start = task // tiles, task % tiles * tall * BAND
            m, end = n if images.shape[0] > 1 else 0, min(rows, start + tall * BAND)
            sums = carray(memory(SUMS), (TALL, 6, LANES), np.float64)
            sums[:] = 0
            axes = image_map(source, coords, n, sides, off)
            ahead = elements_ahead(source, axes, sides)
            slots = memory(WORKSPACE)
            maps = carray(memory(MAPS), (TALL * BAND, 4), np.float64)
            limits = carray(memory(LIMITS), (TALL * BAND, 6), np.int64)
            find_rows(source, padding, axes, sides, start, end, 0, h, w, maps, limits)
            for chunk in range(0, blocks, SLOTS):
                stop = min(chunk + SLOTS, blocks)
                inside, following = np.int64(0), np.int64(0)
                for i in range(start - 1, end):
                    inside, following = following, np.int64(0)
                    if fast and i + 1 < end:
                        row, limit = found_row(maps, limits, i + 1 - start)
                        where = (n, i + 1, chunk, stop, first_slot(chunk, i + 1), columns)
                        following = place(
                            source, padding, BILINEAR, fill, coords, row, limit, where, slots
                        )
                        if source == GRID:
                            where = (m * planes * h * w, planes, h * w, 1, following)
                            fetch(line, fill, where, slots)
                    if i < start:
                        continue
                    row, limit = found_row(maps, limits, i - start)
                    base, k, own = first_slot(chunk, i), chunk, sums[(i - start) // BAND]
                    arrays = (images, coords, dsamples, own if source == AFFINE else dcoords)
                    while k < stop:
                        length = run_length(inside >> (k - base))
                        if length:
                            where = (m, n, i, k, length, k - base, columns, ahead)
                            sample_vjp_coords_run(source, arrays, row, where, slots)
                            k += length
                            continue
                        first, last = block_span(k, columns)
                        skip = k * LANES - first
                        k += 1
                        if reads_nothing(limit, first, last):
                            continue
                        where = (m, n, i, first, skip)
                        if fast and sample_vjp_coords_rim(
                            source, padding, arrays, row, fill, where
                        ):
                            continue
                        for j in range(first + skip, last):
                            x, y = point(
                                source, coords, row, n, i, j, origin(j, first, columns), real
                            )
                            gx, gy = point_vjp(
                                dsamples, images, padding, off, fill, m, n, i, j, x, y
                            )
                            if source == AFFINE:
                                own[0, j - first] += gx * j
                                own[1, j - first] += gx * i
                                own[2, j - first] += gx
                                own[3, j - first] += gy * j
                                own[4, j - first] += gy * i
                                own[5, j - first] += gy
                            else:
                                dcoords[n, i, j, 0] = gx * row[1]
                                dcoords[n, i, j, 1] = gy * row[3]
            if source == AFFINE:
                for band in range((end - start + BAND - 1) // BAND):
                    for k in range(6):
                        dcoords[n, start // BAND + band, k // 3, k % 3] = sums[band, k].sum()
        return stamp

    return launch.jit(sample_vjp_coords, parallel)
