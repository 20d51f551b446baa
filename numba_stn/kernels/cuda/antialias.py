"""CUDA kernels of samples that are means over areas: :mod:`numba_stn.ops.antialias` on a GPU.

A thread reads all the parts of its output pixels, so no finer samples are ever in memory. How
finely a map's pixels are divided is found there too (:mod:`.pixel_parts`). Here stand the names of
:mod:`.backend` that :class:`numba_stn.ops.sampler.Pass` calls; arrays, ``kind`` and shapes are
those of :mod:`.general`.
"""

import functools

import numpy as np

from ..launch import source_hash
from ..math.coordinates import bits_are_finite, fixed_point_scale
from ..math.interpolation import SPREAD, all_covered
from ..math.matrix_rows import MOST
from .calls import off_of, outside, tiles_of, typed
from .convert import clear, converted, plain
from .coordinate_sources import place_of, pull
from .device import (
    BLOCK,
    NARROW,
    THREADS,
    cuda,
    empty,
    inlined,
    jit,
    launch,
    narrow,
    output,
    returned,
    taken,
)
from .general import numbers_of
from .pixel_parts import (
    add_part,
    finer_matrix,
    first_part,
    next_part,
    part_counts,
    parts,
    pixel_of,
    shapes,
)
from .single_pixels import element, first_place, next_row
from .sums import add_rows, fraction_of, no_rows, sum_images, sum_theta
from .taps import (
    add_taps,
    form_of,
    locate,
    number_for,
    slopes_of,
    store,
    strides,
    weighted,
    weights_at,
)

__all__ = [
    "clear",
    "converted",
    "coverage",
    "empty",
    "output",
    "returned",
    "sample",
    "sample_vjp_coords",
    "sample_vjp_images",
    "taken",
]

# --- sample ---------------------------------------------------------------------------------------


@inlined
def read(images, start, step, offsets, weights, some, rule, form, fill, c, group):
    """One part of ``group`` channels from ``c`` on, whose planes begin at ``start``; and zeros."""
    real, whole = type(fill[0]), type(c)
    v0, v1, v2, v3 = number_for(fill, c), real(0), real(0), real(0)
    if group > 1:
        v1 = number_for(fill, whole(c + 1))
    if group > 2:
        v2 = number_for(fill, whole(c + 2))
    if group > 3:
        v3 = number_for(fill, whole(c + 3))
    if some:
        v0 = weighted(images, start, offsets, weights, rule, form, v0)
        if group > 1:
            v1 = weighted(images, whole(start + step), offsets, weights, rule, form, v1)
        if group > 2:
            v2 = weighted(images, whole(start + 2 * step), offsets, weights, rule, form, v2)
        if group > 3:
            v3 = weighted(images, whole(start + 3 * step), offsets, weights, rule, form, v3)
    return v0, v1, v2, v3


@inlined
def write(samples, to, step, totals, count, form, group):
    """Write the means of ``group`` channels, from element ``to`` on."""
    whole = type(to)
    store(samples, to, totals[0] / count, form)
    if group > 1:
        store(samples, whole(to + step), totals[1] / count, form)
    if group > 2:
        store(samples, whole(to + 2 * step), totals[2] / count, form)
    if group > 3:
        store(samples, whole(to + 3 * step), totals[3] / count, form)


@functools.cache
def make_sample(kind, form, group):
    """Kernel: images, theta -> samples, ``group`` channels at a time."""
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    rule = mode, padding, dims

    def sample(images, coords, counts, off, fill, numbers, sides, sizes, samples):
        _ = sources
        count, batch, channels = numbers
        depth, rows, columns = sizes
        index, real = type(columns), type(fill[0])
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        slice_, first, j = first_place(index)
        while j < columns and slice_ < batch * depth:
            n, k, i = index(slice_ // depth), index(slice_ % depth), first
            start = index(n * image) if count > 1 else index(0)
            factors, finer, most = parts(counts, n, sizes)
            theta, _ = finer_matrix(source, dims, coords, n, factors, sizes, off)
            while i < rows:
                begin, c = first_part(k, i, j, factors), index(0)
                to = index(n * whole + place_of(index(0), k, i, j, sizes) * along_out)
                while c < channels:
                    totals, where, left = (real(0), real(0), real(0), real(0)), begin, most
                    while left > 0:
                        _, pixel = pixel_of(
                            source, dims, coords, theta, n, where, sides, finer, off
                        )
                        offsets, t, _, some = locate(pixel, sides, along, rule, off)
                        weights, plane = weights_at(t, rule, real), index(start + c * step)
                        v0, v1, v2, v3 = read(
                            images, plane, step, offsets, weights, some, rule, form, fill, c, group
                        )
                        t0, t1, t2, t3 = totals
                        totals = t0 + v0, t1 + v1, t2 + v2, t3 + v3
                        where, left = next_part(where, begin, factors), index(left - 1)
                    write(
                        samples, index(to + c * step_out), step_out, totals, real(most), form, group
                    )
                    c = index(c + group)
                i = index(next_row(i))
            slice_ = index(slice_ + cuda.gridDim.z)

    return jit(sample)


@functools.cache
def make_covered(kind):
    """Kernel: theta -> how much of each sample comes from inside."""
    sources, (source, mode, padding, dims, _, _) = source_hash(), kind

    def coverage(coords, counts, off, batch, sides, sizes, covered):
        _ = sources
        depth, rows, columns = sizes
        index, real = type(columns), type(off)
        slice_, first, j = first_place(index)
        while j < columns and slice_ < batch * depth:
            n, k, i = index(slice_ // depth), index(slice_ % depth), first
            factors, finer, most = parts(counts, n, sizes)
            theta, _ = finer_matrix(source, dims, coords, n, factors, sizes, off)
            while i < rows:
                begin = first_part(k, i, j, factors)
                total, where, left = real(0), begin, most
                while left > 0:
                    _, pixel = pixel_of(source, dims, coords, theta, n, where, sides, finer, off)
                    total += all_covered(pixel, sides, mode, padding, dims, off)
                    where, left = next_part(where, begin, factors), index(left - 1)
                covered[np.uint64(place_of(n, k, i, j, sizes))] = total / real(most)
                i = index(next_row(i))
            slice_ = index(slice_ + cuda.gridDim.z)

    return jit(coverage)


# --- Gradients ------------------------------------------------------------------------------------


@functools.cache
def make_sample_vjp_images(kind, fraction):
    """Kernel: dsamples, theta -> each pixel's sum as an integer."""
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    rule = mode, padding, dims

    def sample_vjp_images(
        dsamples, coords, counts, off, numbers, sides, sizes, peak, terms, totals
    ):
        _ = sources
        real = dsamples.dtype.type
        count, batch, channels = numbers
        depth, rows, columns = sizes
        index = type(columns)
        if not bits_are_finite(peak[0], fraction):
            return
        scale = fixed_point_scale(peak[0], fraction, terms, real(1))
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        slice_, first, j = first_place(index)
        while j < columns and slice_ < batch * depth:
            n, k, i = index(slice_ // depth), index(slice_ % depth), first
            factors, finer, most = parts(counts, n, sizes)
            theta, _ = finer_matrix(source, dims, coords, n, factors, sizes, off)
            while i < rows:
                begin = first_part(k, i, j, factors)
                where, left = begin, most
                while left > 0:
                    _, pixel = pixel_of(source, dims, coords, theta, n, where, sides, finer, off)
                    offsets, t, _, some = locate(pixel, sides, along, rule, off)
                    weights = weights_at(t, rule, real)
                    to = index(n * image) if count > 1 else index(0)
                    at = index(n * whole + place_of(index(0), k, i, j, sizes) * along_out)
                    c = index(0) if some else channels
                    while c < channels:
                        value = element(dsamples, at) / real(most)
                        add_taps(totals, to, offsets, weights, rule, value, scale)
                        to, at, c = index(to + step), index(at + step_out), index(c + 1)
                    where, left = next_part(where, begin, factors), index(left - 1)
                i = index(next_row(i))
            slice_ = index(slice_ + cuda.gridDim.z)

    return jit(sample_vjp_images)


@functools.cache
def make_theta_gradient(kind, form, real):
    """Kernel: dsamples, images, theta -> each block's sums of theta's gradient."""
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    (x_block, y_block), threads, rule = BLOCK, THREADS, (mode, padding, dims)
    length = numbers_of(source, dims)

    def theta_gradient(
        dsamples, images, coords, counts, off, fill, numbers, sides, sizes, blocks, partials
    ):
        _ = sources
        shared = cuda.shared.array((length, threads), real)
        count, _, channels = numbers
        depth, rows, columns = sizes
        index = type(columns)
        n, block = index(cuda.blockIdx.x // blocks), index(cuda.blockIdx.x % blocks)
        factors, finer, most = parts(counts, n, sizes)
        theta, by = finer_matrix(source, dims, coords, n, factors, sizes, off)
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        start = index(n * image) if count > 1 else index(0)
        steps, sums = (step, step_out, along), no_rows(off)
        line = index(block * y_block + cuda.threadIdx.y)
        while line < depth * rows:
            k, i, j = index(line // rows), index(line % rows), index(cuda.threadIdx.x)
            while j < columns:
                begin = first_part(k, i, j, factors)
                where, left = begin, most
                at = index(n * whole + place_of(index(0), k, i, j, sizes) * along_out)
                while left > 0:
                    row, pixel = pixel_of(source, dims, coords, theta, n, where, sides, finer, off)
                    slopes = slopes_of(
                        dsamples, at, images, start, steps, pixel, sides, rule, off, fill,
                        channels, form,
                    )  # fmt: skip
                    found = pull(source, row, where[2], pixel, slopes, sides, off)
                    sums = add_part(sums, found, where, finer, by, real(most), off)
                    where, left = next_part(where, begin, factors), index(left - 1)
                j = index(j + x_block)
            line = index(line + blocks * y_block)
        add_rows(shared, sums, dims, n, block, blocks, partials)

    return jit(theta_gradient)


# --- What the passes call -------------------------------------------------------------------------


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``, which are means."""
    numbers, sides, sizes = shapes(kind, images, samples, coords)
    group = next(size for size in (4, 3, 2, 1) if numbers[2] % size == 0)
    launch(
        make_sample(kind, form_of(images.dtype), group), tiles_of(len(samples), sizes), BLOCK,
        plain(images), coords, part_counts(kind, coords, off, sides, sizes), off_of(off, coords),
        outside(kind, fill, samples), numbers, sides, sizes, plain(samples),
    )  # fmt: skip


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``, the samples' shape but for the channels, for images with such sides."""
    reach = max(*sides, *covered.shape) < NARROW // MOST
    index = narrow(coords, covered) if reach else np.int64
    sides, sizes = (typed(index, (1, *lengths)[-3:]) for lengths in (sides, covered.shape[1:]))
    launch(
        make_covered(kind), tiles_of(len(covered), sizes), BLOCK, coords,
        part_counts(kind, coords, off, sides, sizes), off_of(off, coords), index(len(covered)),
        sides, sizes, covered,
    )  # fmt: skip


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``."""
    numbers, sides, sizes = shapes(kind, dimages, dsamples, coords)
    kernel = make_sample_vjp_images(kind, fraction_of(dsamples.dtype))
    most = int(np.prod(sizes, dtype=np.int64)) * (len(dsamples) if len(dimages) == 1 else 1)
    counts = part_counts(kind, coords, off, sides, sizes)
    where = counts, off_of(off, coords), numbers, sides, sizes
    blocks = tiles_of(len(dsamples) if numbers[2] else 0, sizes)
    # Each part of a sample gives its share: together no more than the sample would.
    sum_images(kernel, blocks, most << SPREAD[kind.mode], dsamples, coords, where, dimages)


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dtheta):
    """Fill ``dtheta``."""
    if not dsamples.size:
        clear(dtheta)
        return
    numbers, sides, sizes = shapes(kind, images, dsamples, coords)
    counts = part_counts(kind, coords, off, sides, sizes)
    sum_theta(
        make_theta_gradient(kind, form_of(images.dtype), coords.dtype.type),
        int(sizes[0]) * int(sizes[1]), dtheta, dsamples, plain(images), coords, counts,
        off_of(off, coords), outside(kind, fill, images), numbers, sides, sizes,
    )  # fmt: skip
