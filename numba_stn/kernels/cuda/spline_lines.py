"""CUDA kernels of spline coefficients: one thread filters a line, in global memory.

The counterpart of :mod:`numba_stn.kernels.cpu.spline_lines`, with the same formulas
(:mod:`numba_stn.kernels.math.splines`). Lines are numbered so that neighbouring threads have
neighbouring lines.
"""

import functools

import numpy as np

from ..cpu_launch import source_hash
from ..math.splines import POLES, filter_line, scale_ends
from .convert import numbers_for, plain
from .device import THREADS, cuda, each, empty, inlined, jit, launch
from .taps import fill_of, form_of, load, store

# The most blocks of threads.
_MOST_BLOCKS = 4096


@inlined
def line_start(line, inner, n):
    """First element of a line; ``inner`` lines of ``n`` samples are interleaved."""
    return line // inner * n * inner + line % inner


@functools.cache
def make_filter_lines(form, constant):
    """Kernel: pixels -> coefficients; see the CPU's for the arguments."""
    sources = source_hash()

    def filter_lines(pixels, lines, channels, margin, fill, poles, boundary, coefficients):
        _ = sources
        number, inner, n = lines
        real, wide = coefficients.dtype.type, n + 2 * margin
        for line in range(cuda.grid(1), number, cuda.gridsize(1)):
            start, to = line_start(line, inner, n), line_start(line, inner, wide)
            for i in range(wide):
                k = min(max(i - margin, 0), n - 1)
                value = load(pixels, start + k * inner, form, real)
                if constant and k != i - margin:
                    value = fill_of(fill, line // channels[1] % channels[0])
                coefficients[to + i * inner] = value
            filter_line(coefficients, to, inner, 1, wide, poles, boundary)

    return jit(filter_lines)


@functools.cache
def make_filter_lines_vjp(constant):
    """Kernel: the transpose, in place in ``dcoefficients``, whose inner part is then copied."""
    sources = source_hash()

    def filter_lines_vjp(dcoefficients, lines, margin, poles, boundary, dpixels):
        _ = sources
        number, inner, n = lines
        real, wide = dpixels.dtype.type, n + 2 * margin
        for line in range(cuda.grid(1), number, cuda.gridsize(1)):
            start, to = line_start(line, inner, wide), line_start(line, inner, n)
            scale_ends(dcoefficients, start, inner, 1, wide, real(2), boundary)
            filter_line(dcoefficients, start, inner, 1, wide, poles, boundary)
            scale_ends(dcoefficients, start, inner, 1, wide, real(0.5), boundary)
            for i in range(n):
                dpixels[to + i * inner] = dcoefficients[start + (margin + i) * inner]
            if not constant:
                end = start + (margin + n) * inner
                for i in range(margin):
                    dpixels[to] += dcoefficients[start + i * inner]
                    dpixels[to + (n - 1) * inner] += dcoefficients[end + i * inner]

    return jit(filter_lines_vjp)


@functools.cache
def make_store_samples(form):
    """Kernel: numbers -> the same numbers as an image stores them."""
    sources = source_hash()

    def store_samples(numbers, samples):
        _ = sources
        for k in range(cuda.grid(1), samples.size, cuda.gridsize(1)):
            store(samples, k, numbers[k], form)

    return jit(store_samples)


@functools.cache
def make_scale():
    """Kernel: numbers times factors, which repeat: ``along`` numbers each have the same one."""
    sources = source_hash()

    def scale(numbers, along, factors, result):
        _ = sources
        for k in range(cuda.grid(1), result.size, cuda.gridsize(1)):
            result[k] = numbers[k] * factors[k // along % len(factors)]

    return jit(scale)


# --- Functions that :mod:`..math.spline_samplers` calls -------------------------------------------


def filter_axis(pixels, lines, channels, found, fill, mode, coefficients):
    """Fill ``coefficients``; ``found`` is a :class:`..math.splines.Continuation`."""
    kernel = make_filter_lines(form_of(pixels.dtype), found.constant)
    outside = numbers_for(fill if found.constant else fill[:0], pixels)
    launch(
        kernel, _blocks(lines), THREADS, plain(pixels), lines, channels, found.margin,
        outside, _poles(mode, coefficients.dtype), found.boundary, coefficients,
    )  # fmt: skip


def filter_axis_vjp(dcoefficients, lines, found, mode, dpixels):
    """Fill ``dpixels``; ``dcoefficients`` are overwritten."""
    launch(
        make_filter_lines_vjp(found.constant), _blocks(lines), THREADS,
        dcoefficients, lines, found.margin, _poles(mode, dpixels.dtype), found.boundary, dpixels,
    )  # fmt: skip


def store_samples(numbers, samples):
    """Write numbers to samples of another dtype."""
    each(make_store_samples(form_of(samples.dtype)), numbers, plain(samples))


def scaled(coords, along, factors):
    """Normalised coordinates times the factors of x, y and z, in their own type."""
    result = empty(coords.shape, coords.dtype, coords)
    write_scaled(coords, along, factors, result)
    return result


def write_scaled(coords, along, factors, result):
    """Write the same to ``result``."""
    each(make_scale(), coords, along, tuple(map(result.dtype.type, factors)), result)


def shifted(matrices, margin):
    """Matrices from pixels to pixels, whose results are moved by a margin."""
    moved = np.array(matrices, np.float64)
    moved[:, :2] += margin * moved[:, 2:]
    return moved


def _blocks(lines):
    return (min(-(-lines[0] // THREADS), _MOST_BLOCKS),)


def _poles(mode, dtype):
    return tuple(map(dtype.type, POLES[mode]))
