"""CUDA kernels of samples that are means over areas: :mod:`numba_stn.ops.antialias` on a GPU.

A thread reads all parts of its output pixels, so the finer samples are never in memory. The number
of parts is computed on the GPU too (:mod:`.supersampling`). This module has the functions that
:class:`numba_stn.ops.sampler.Plan` calls, under the names of :mod:`.backend`; arrays, ``kind``
and ``geometry`` are those of :mod:`.general`.
"""

import functools
import sys

import numpy as np

from ..cpu_launch import source_hash
from ..math.antialias import MOST
from ..math.fixed_point import bits_are_finite, fixed_point_scale
from ..math.interpolation import all_covered, weight_bits
from ..math.spline_samplers import SplineSamplers
from . import spline_lines
from .convert import clear, converted, plain
from .coordinate_sources import input_pixel, theta_row_gradients
from .device import (
    NARROW,
    THREADS,
    cuda,
    empty,
    inlined,
    jit,
    kernel_array,
    launch_pixels,
    narrow,
    output,
    returned,
)
from .general import coverage_geometry, theta_size
from .kernel_arguments import outside, terms_of
from .layout import Geometry, channel_steps, element, pixel_index, sample_start
from .loops import block_part, each_pixel, sum_pixels
from .sums import add_rows, fraction_of, no_rows, sum_images, sum_theta
from .supersampling import (
    add_part,
    finer_geometry,
    finer_slice,
    fold_parts,
    part_counts,
    part_pixel,
    part_row,
)
from .taps import (
    Images,
    add_taps,
    fill_of,
    form_of,
    locate,
    pixel_gradient,
    store,
    taps_at,
    weighted_sum,
)

__all__ = [
    "clear",
    "converted",
    "coverage",
    "empty",
    "kernel_array",
    "output",
    "returned",
    "sample",
    "sample_vjp_coords",
    "sample_vjp_images",
]

# --- sample ---------------------------------------------------------------------------------------


@inlined
def sample_pixel(call, g, common, where):
    """Write the means of one output pixel, ``group`` channels at a time."""
    kind, coords, counts, images, group, samples = call
    real, index = type(images.fill[0]), type(where[3])
    _, step_out = channel_steps(kind, g)
    to, c = sample_start(kind, g, where), index(0)
    while c < g.counts[2]:
        zeros = real(0), real(0), real(0), real(0)
        part_call = kind, coords, counts, images, group, c
        totals = fold_parts(add_part_values, part_call, g, common, where, zeros)
        start, count = index(to + c * step_out), real(common.total)
        write_means(samples, start, step_out, totals, count, images.form, group)
        c = index(c + group)


@inlined
def add_part_values(call, g, common, totals, part):
    """Add one part to the totals of ``group`` channels from ``c`` on."""
    kind, _, _, images, group, c = call
    real, index = type(images.fill[0]), type(c)
    step, _ = channel_steps(kind, g)
    position = locate(kind, part_pixel(call, common, part), g)
    taps, start = taps_at(kind, position, real), index(common.start + c * step)
    t0, t1, t2, t3 = totals
    v0, v1, v2, v3 = fills(images.fill, c, group)
    if position.inside:
        v0 = weighted_sum(kind, images, start, taps, v0)
        if group > 1:
            v1 = weighted_sum(kind, images, index(start + step), taps, v1)
        if group > 2:
            v2 = weighted_sum(kind, images, index(start + 2 * step), taps, v2)
        if group > 3:
            v3 = weighted_sum(kind, images, index(start + 3 * step), taps, v3)
    return t0 + v0, t1 + v1, t2 + v2, t3 + v3


@inlined
def fills(fill, c, group):
    """The numbers outside the image in ``group`` channels from ``c`` on; zeros for the others."""
    real, index = type(fill[0]), type(c)
    v0, v1, v2, v3 = fill_of(fill, c), real(0), real(0), real(0)
    if group > 1:
        v1 = fill_of(fill, index(c + 1))
    if group > 2:
        v2 = fill_of(fill, index(c + 2))
    if group > 3:
        v3 = fill_of(fill, index(c + 3))
    return v0, v1, v2, v3


@inlined
def write_means(samples, to, step, totals, count, form, group):
    """Write the means of ``group`` channels, from element ``to`` on."""
    index = type(to)
    store(samples, to, totals[0] / count, form)
    if group > 1:
        store(samples, index(to + step), totals[1] / count, form)
    if group > 2:
        store(samples, index(to + 2 * step), totals[2] / count, form)
    if group > 3:
        store(samples, index(to + 3 * step), totals[3] / count, form)


@functools.cache
def make_sample(kind, form, group):
    """Kernel: images, theta -> samples, ``group`` channels at a time."""
    sources = source_hash()

    def sample(images, coords, counts, fill, geometry, samples):
        _ = sources
        call = kind, coords, counts, Images(images, form, fill), group, samples
        each_pixel(finer_slice, sample_pixel, kind.dims, call, Geometry(*geometry))

    return jit(sample)


@inlined
def pixel_coverage(call, g, common, where):
    """Write how much of one output pixel comes from inside the image."""
    covered, real = call[3], type(g.off)
    total = fold_parts(add_part_coverage, call, g, common, where, real(0))
    covered[np.uint64(pixel_index(where, g.sizes))] = total / real(common.total)


@inlined
def add_part_coverage(call, g, common, total, part):
    """Add how much of one part comes from inside the image."""
    kind, pixel = call[0], part_pixel(call, common, part)
    return total + all_covered(pixel, g.sides, kind.mode, kind.padding, kind.dims, g.off)


@functools.cache
def make_coverage(kind):
    """Kernel: theta -> how much of each sample comes from inside the image."""
    sources = source_hash()

    def coverage(coords, counts, geometry, covered):
        _ = sources
        call = kind, coords, counts, covered
        each_pixel(finer_slice, pixel_coverage, kind.dims, call, Geometry(*geometry))

    return jit(coverage)


# --- dimages --------------------------------------------------------------------------------------


@inlined
def scatter_pixel(call, g, common, where):
    """Add the gradient of one output pixel to the totals of the image's pixels."""
    kind, coords, counts, dsamples, scale, totals = call
    at = sample_start(kind, g, where)
    part_call = kind, coords, counts, dsamples, scale, totals, at
    fold_parts(scatter_part, part_call, g, common, where, at)


@inlined
def scatter_part(call, g, common, at, part):
    """Add the gradient of one part; the pixel's channels begin at element ``at``."""
    kind, _, _, dsamples, scale, totals, _ = call
    real, index, to, first = dsamples.dtype.type, type(at), common.start, at
    step, step_out = channel_steps(kind, g)
    position = locate(kind, part_pixel(call, common, part), g)
    taps = taps_at(kind, position, real)
    c = index(0) if position.inside else g.counts[2]
    while c < g.counts[2]:
        value = element(dsamples, at) / real(common.total)
        add_taps(kind, totals, to, taps, value, scale)
        to, at, c = index(to + step), index(at + step_out), index(c + 1)
    return first


@functools.cache
def make_sample_vjp_images(kind, fraction):
    """Kernel: dsamples, theta -> each pixel's sum as an integer."""
    sources = source_hash()

    def sample_vjp_images(dsamples, coords, counts, geometry, peak, terms, totals):
        _ = sources
        if not bits_are_finite(peak[0], fraction):
            return
        scale = fixed_point_scale(peak[0], fraction, terms, dsamples.dtype.type(1))
        call = kind, coords, counts, dsamples, scale, totals
        each_pixel(finer_slice, scatter_pixel, kind.dims, call, Geometry(*geometry))

    return jit(sample_vjp_images)


# --- dtheta ---------------------------------------------------------------------------------------


@inlined
def no_row(call, g, common, n, k, i):
    """An ``of_row`` without a result: the parts of a pixel have rows of their own."""
    return i


@inlined
def theta_gradient_pixel(call, g, common, row, sums, where):
    """Add the gradient of one output pixel with respect to theta."""
    kind, coords, counts, images, dsamples = call
    part_call = kind, coords, counts, images, dsamples, sample_start(kind, g, where)
    return fold_parts(add_part_gradient, part_call, g, common, where, sums)


@inlined
def add_part_gradient(call, g, common, sums, part):
    """Add the gradient of one part."""
    kind, coords, _, images, dsamples, at = call
    row = part_row(common, part)
    pixel = input_pixel(kind, coords, row, part, common.finer)
    gradient = pixel_gradient(kind, images, common.start, pixel, g, dsamples, at)
    gradient = theta_row_gradients(kind.source, row, part[3], pixel, gradient, g)
    return add_part(sums, gradient, common, part, g.off)


@functools.cache
def make_theta_gradient(kind, form, real):
    """Kernel: dsamples, images, theta -> each block's sums of theta's gradient."""
    sources, threads, numbers = source_hash(), THREADS, theta_size(kind)

    def theta_gradient(dsamples, images, coords, counts, fill, geometry, parts, partials):
        _ = sources
        shared = cuda.shared.array((numbers, threads), real)
        g, dims = Geometry(*geometry), kind.dims
        part = block_part(parts, g)
        call, sums = (kind, coords, counts, Images(images, form, fill), dsamples), no_rows(g.off)
        sums = sum_pixels(finer_slice, no_row, theta_gradient_pixel, dims, call, g, sums, part)
        add_rows(shared, sums, dims, part, partials)

    return jit(theta_gradient)


# --- What the passes call -------------------------------------------------------------------------


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``, which are means."""
    if kind.needs_filter():
        _splines.sample(kind, images, coords, off, fill, samples)
        return
    geometry = finer_geometry(kind, images, samples, coords, off)
    group = next(size for size in (4, 3, 2, 1) if kind.channels(images) % size == 0)
    launch_pixels(
        make_sample(kind, form_of(images.dtype), group), geometry,
        plain(images), coords, part_counts(kind, coords, geometry), outside(kind, fill, samples),
        geometry, plain(samples),
    )  # fmt: skip


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``, shaped as the samples without channels, for images with these sides."""
    kind = kind.of_coefficients()
    reach = max(*sides, *covered.shape) < NARROW // MOST
    index = narrow(coords, covered) if reach else np.int64
    geometry = coverage_geometry(index, off, coords, sides, covered)
    counts = part_counts(kind, coords, geometry)
    launch_pixels(make_coverage(kind), geometry, coords, counts, geometry, covered)


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``."""
    if kind.needs_filter():
        _splines.sample_vjp_images(kind, dsamples, coords, off, dimages)
        return
    geometry = finer_geometry(kind, dimages, dsamples, coords, off)
    kernel = make_sample_vjp_images(kind, fraction_of(dsamples.dtype))
    # The parts of a sample together add no more than the sample itself would.
    most = terms_of(geometry) << weight_bits(kind)
    counts = part_counts(kind, coords, geometry)
    sum_images(kernel, geometry, most, dimages, dsamples, coords, counts, geometry)


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dtheta):
    """Fill ``dtheta``."""
    if kind.needs_filter():
        _splines.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dtheta)
        return
    if not dsamples.size:
        clear(dtheta)
        return
    geometry = finer_geometry(kind, images, dsamples, coords, off)
    sum_theta(
        make_theta_gradient(kind, form_of(images.dtype), coords.dtype.type), geometry, dtheta,
        dsamples, plain(images), coords, part_counts(kind, coords, geometry),
        outside(kind, fill, images), geometry,
    )  # fmt: skip


# These call the functions above for coefficients.
_splines = SplineSamplers(sys.modules[__name__], spline_lines)
