"""Arrays of numbers on a GPU: conversions, zeros, and a few numbers from the host.

Numbers from the host are passed as a kernel's arguments, so that nothing waits for a copy.
"""

import functools
from dataclasses import replace

import numpy as np

from ..cpu_launch import source_hash
from .device import THREADS, cuda, each, empty, jit, launch
from .taps import form_of, load, store

# How many numbers a kernel takes as arguments.
CHUNK = 16


def plain(array):
    """``array`` as kernels take it: float16 as its bits."""
    if array.dtype != np.float16 or not array.size:
        return array
    return replace(array, view=array.view.view(np.uint16))


@functools.cache
def make_convert(form, to):
    """Kernel: numbers stored in one form -> the same numbers in another form."""
    sources = source_hash()

    def convert(source, result):
        _ = sources
        for k in range(cuda.grid(1), source.size, cuda.gridsize(1)):
            store(result, k, load(source, k, form, np.float32), to)

    return jit(convert)


def converted(array, dtype):
    """``array`` with another dtype: float32 from float16, or float16 from float32."""
    if array.dtype == dtype:
        return array
    result = empty(array.shape, dtype, array)
    each(make_convert(form_of(array.dtype), form_of(dtype)), plain(array), plain(result))
    return result


@functools.cache
def make_zeros():
    """Kernel: zeros."""
    sources = source_hash()

    def zeros(line):
        _ = sources
        for k in range(cuda.grid(1), line.size, cuda.gridsize(1)):
            line[k] = 0

    return jit(zeros)


def clear(array):
    """Fill an array with zeros."""
    each(make_zeros(), array)


@functools.cache
def make_add():
    """Kernel: add an array to another."""
    sources = source_hash()

    def add(line, other):
        _ = sources
        for k in range(cuda.grid(1), line.size, cuda.gridsize(1)):
            line[k] += other[k]

    return jit(add)


def add(array, other):
    """Add another array to an array."""
    each(make_add(), array, other)


@functools.cache
def make_write():
    """Kernel: a few numbers -> an array, from element ``first`` on."""
    sources = source_hash()

    def write(numbers, first, line):
        _ = sources
        k = cuda.grid(1)
        if k < len(numbers) and first + k < line.size:
            line[first + k] = numbers[k]

    return jit(write)


def alike(fill):
    """Whether all channels have the same fill; NaN counts as equal to NaN."""
    return bool((fill == fill[:1]).all() or np.isnan(fill).all())


def numbers_for(fill, like):
    """The channels' fills as kernels take them: one number as a tuple, several as an array."""
    if not len(fill) or alike(fill):
        return (fill[0] if len(fill) else fill.dtype.type(0),)
    line = empty(fill.shape, fill.dtype, like)
    blocks = -(-CHUNK // THREADS)
    for first in range(0, len(fill), CHUNK):
        part = np.zeros(CHUNK, fill.dtype)
        part[: len(fill) - first] = fill[first : first + CHUNK]
        launch(make_write(), (blocks,), THREADS, tuple(part), first, line)
    return line
