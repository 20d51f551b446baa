"""CPU kernels of spline coefficients: every line along an axis is filtered, many at a time.

A task copies LANES lines to a buffer, element by element, so that the recursions along the lines
are computed in vectors across them. :mod:`..math.splines` has the formulas.
"""

import functools

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.dtypes import bits, make_load, make_store
from ..math.jit import inlined, scalar
from ..math.splines import POLES, filter_line, scale_ends
from .simd.memory import borrowed
from .simd.vectors import LANES

# --- Kernels --------------------------------------------------------------------------------------


@inlined
def line_starts(first, number, inner, n):
    """First elements of LANES lines from ``first`` on; after the last line, that of the last.

    ``inner`` lines of ``n`` samples are interleaved.
    """
    starts = np.empty(LANES, np.int64)
    for lane in range(LANES):
        line = min(first + lane, number - 1)
        starts[lane] = line // inner * n * inner + line % inner
    return starts


@functools.cache
def make_filter_lines(dtype, parallel):
    """Kernel: pixels -> coefficients of lines that are continued by margins.

    ``lines`` are (number, inner, n): the number of lines, how many of them are interleaved, and the
    samples of each. ``channels`` are (count, every): line k is in channel ``k // every % count``,
    whose fill is in ``fill``; without fill, the margin repeats the edge.
    """
    stamp, load = cpu_launch.stamp(parallel), make_load(dtype)

    def filter_group(arrays, first, lines, channels, margin, poles, boundary):
        (pixels, coefficients, fill), (number, inner, n) = arrays, lines
        wide, count = n + 2 * margin, min(LANES, number - first)
        buffer = np.empty(wide * LANES, coefficients.dtype)
        real, u = coefficients.dtype.type, np.uint64
        starts = line_starts(first, number, inner, n)
        for lane in range(LANES):
            low = load(pixels[u(starts[lane])], real)
            high = load(pixels[u(starts[lane] + (n - 1) * inner)], real)
            if len(fill):
                line = min(first + lane, number - 1)
                low = high = fill[line // channels[1] % channels[0]]
            for i in range(margin):
                buffer[u(i * LANES + lane)] = low
                buffer[u((margin + n + i) * LANES + lane)] = high
        for i in range(n):
            for lane in range(LANES):
                found = load(pixels[u(starts[lane] + i * inner)], real)
                buffer[u((margin + i) * LANES + lane)] = found
        filter_line(buffer, 0, LANES, LANES, wide, poles, boundary)
        ends = line_starts(first, number, inner, wide)
        for i in range(wide):
            for lane in range(count):
                coefficients[u(ends[lane] + i * inner)] = buffer[u(i * LANES + lane)]

    filter_group = scalar(filter_group)

    def filter_lines(pixels, lines, channels, margin, fill, poles, boundary, coefficients):
        for group in prange((lines[0] + LANES - 1) // LANES):
            arrays, roots = borrowed(((pixels, coefficients, fill), poles))
            filter_group(arrays, group * LANES, lines, channels, margin, roots, boundary)
        return stamp

    return cpu_launch.jit(filter_lines, parallel)


@functools.cache
def make_filter_lines_vjp(parallel):
    """Kernel: the transpose; ``constant`` says that the margins did not depend on the pixels."""
    stamp = cpu_launch.stamp(parallel)

    def filter_lines_vjp(dcoefficients, lines, margin, constant, poles, boundary, dpixels):
        for group in prange((lines[0] + LANES - 1) // LANES):
            arrays, roots = borrowed(((dcoefficients, dpixels), poles))
            _filter_group_vjp(arrays, group * LANES, lines, (margin, constant), roots, boundary)
        return stamp

    return cpu_launch.jit(filter_lines_vjp, parallel)


@scalar
def _filter_group_vjp(arrays, first, lines, margins, poles, boundary):
    """The transpose of the filter on LANES lines from ``first`` on."""
    (dcoefficients, dpixels), (number, inner, n), (margin, constant) = arrays, lines, margins
    wide, count = n + 2 * margin, min(LANES, number - first)
    buffer = np.empty(wide * LANES, dpixels.dtype)
    real, u = dpixels.dtype.type, np.uint64
    starts = line_starts(first, number, inner, wide)
    for i in range(wide):
        for lane in range(LANES):
            buffer[u(i * LANES + lane)] = dcoefficients[u(starts[lane] + i * inner)]
    scale_ends(buffer, 0, LANES, LANES, wide, real(2), boundary)
    filter_line(buffer, 0, LANES, LANES, wide, poles, boundary)
    scale_ends(buffer, 0, LANES, LANES, wide, real(0.5), boundary)
    if not constant:
        end = (margin + n - 1) * LANES
        for i in range(margin):
            for lane in range(LANES):
                buffer[margin * LANES + lane] += buffer[i * LANES + lane]
                buffer[end + lane] += buffer[end + (i + 1) * LANES + lane]
    ends = line_starts(first, number, inner, n)
    for i in range(n):
        for lane in range(count):
            dpixels[u(ends[lane] + i * inner)] = buffer[u((margin + i) * LANES + lane)]


@functools.cache
def make_store_samples(dtype, parallel):
    """Kernel: numbers -> the same numbers as an image stores them."""
    stamp, store = cpu_launch.stamp(parallel), make_store(dtype)

    def store_samples(numbers, samples):
        for k in prange(len(numbers)):
            samples[k] = store(numbers[k])
        return stamp

    return cpu_launch.jit(store_samples, parallel)


# --- Functions that :mod:`..math.spline_samplers` calls -------------------------------------------


def filter_axis(pixels, lines, channels, found, fill, mode, coefficients):
    """Fill ``coefficients``; ``found`` is a :class:`..math.splines.Continuation`."""
    poles, fill = np.array(POLES[mode]), fill if found.constant else fill[:0]
    cpu_launch.run(
        make_filter_lines, (pixels.dtype,), coefficients.size * 4 * len(poles),
        bits(pixels).reshape(-1), lines, channels, found.margin, fill, poles, found.boundary,
        coefficients.reshape(-1),
    )  # fmt: skip


def filter_axis_vjp(dcoefficients, lines, found, mode, dpixels):
    """Fill ``dpixels``: the transpose of :func:`filter_axis`."""
    poles = np.array(POLES[mode])
    cpu_launch.run(
        make_filter_lines_vjp, (), dcoefficients.size * 4 * len(poles),
        dcoefficients.reshape(-1), lines, found.margin, found.constant, poles, found.boundary,
        dpixels.reshape(-1),
    )  # fmt: skip


def store_samples(numbers, samples):
    """Write numbers to samples of another dtype."""
    cpu_launch.run(
        make_store_samples, (samples.dtype,), samples.size,
        numbers.reshape(-1), bits(samples).reshape(-1),
    )  # fmt: skip


def scaled(coords, along, factors):
    """Normalised coordinates times the factors of x, y and z, in float64; of thetas, the rows.

    ``along`` is the number of elements from a coordinate, or row, to the next; there are as many
    coordinates as axes, or as rows of theta.
    """
    wide = np.array(coords, np.float64)
    parts = wide.reshape(-1, len(factors), along)
    parts *= np.array(factors)[:, None]
    return wide


def write_scaled(coords, along, factors, result):
    """Write the same to ``result``, of any dtype."""
    result[...] = scaled(coords, along, factors)


def shifted(matrices, margin):
    """Matrices from pixels to pixels, whose results are moved by a margin."""
    moved = np.array(matrices, np.float64)
    moved[:, :2] += margin * moved[:, 2:]
    return moved
