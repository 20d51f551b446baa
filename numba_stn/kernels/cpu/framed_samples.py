"""CPU kernel of samples under an affine map, of any mode, dtype and layout, from framed images.

:mod:`.frames` says when an image gets a frame. :mod:`.sample_2d` has the kernel for all others, and
:mod:`.framed` those of the common case.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import carray, prange

from .. import cpu_launch
from ..math.jit import inlined
from ..math.sampler_kind import AFFINE
from .coordinate_sources import make_row
from .frames import FRAMES, framed_planes, make_copy_to_frame, make_each_strip
from .simd.interpolation import make_sample_block
from .simd.memory import borrowed, stack_memory
from .simd.strips import RINGS
from .simd.vectors import LANES
from .simd.workspace import WORKSPACE
from .taps import make_lengths

# The largest number of channels of a pixel that are sampled together.
MOST_CHANNELS = 4


class Task(NamedTuple):
    """A tile of samples: rows ``start`` to ``end`` - 1 of samples n."""

    n: int
    start: int
    end: int
    shape: Any  # (H, W, H_out, W_out)
    coords: Any
    off: float
    arrays: Any  # the elements of the frame and of the samples
    channels: Any  # planes of an image, the first one, and their number; of pixels there is one
    zero: Any  # of the type that computes
    memory: Any  # for the slots


@functools.cache
def _make_strips(kind, together):
    """Function: sample the strips of a task's tile."""
    row_in, ring = make_row(AFFINE, 2, kind.between_pixels), RINGS[kind.mode]
    sample_block = make_sample_block(kind.mode, together)

    def row_of(task, i):
        h, w, rows, columns = task.shape
        sides, sizes = (1, h, w), (1, rows, columns)
        x, y, _, _ = row_in(task.coords, task.n, 0, i, sides, sizes, task.off)
        return x[0], x[1], y[0], y[1]

    def first_element(task, i, j):
        (_, _, rows, columns), (channels, first, _) = task.shape, task.channels
        return (((task.n * channels + first) * rows + i) * columns + j) * together

    first_element = inlined(first_element)

    def visit(task, where, number):
        (frame, samples), (i, count, column, slot) = task.arrays, where
        (h, w, rows, columns), planes = task.shape, task.channels[2]
        pitch = (w + 2 * ring) * together
        steps = ((h + 2 * ring) * pitch, rows * columns, pitch, 0)
        for r in range(count):
            at = (planes, 0, first_element(task, i + r, column), slot + r)
            sample_block(frame, samples, at, steps, task.memory[0], task.zero)

    def outside(task, where):
        samples, (i, count, column, _) = task.arrays[1], where
        (_, _, rows, columns), zero = task.shape, task.arrays[1].dtype.type(0)
        for plane in range(task.channels[2]):
            for r in range(count):
                first = first_element(task, i + r, column) + plane * rows * columns
                for k in range(first, first + LANES * together):
                    samples[np.uint64(k)] = zero

    return make_each_strip(
        kind.padding, kind.mode, inlined(row_of), inlined(visit), inlined(outside)
    )


@functools.cache
def make_sample_framed(kind, dtype, together, parallel):
    """Kernel: images, coords -> samples; arrays are :func:`.general.as_volume`.

    ``together``: the number of elements of a pixel, 1 if channels are planes.
    """
    stamp = cpu_launch.stamp(parallel)
    lengths, ring = make_lengths(kind.channels_last), RINGS[kind.mode]
    copy, each_strip = make_copy_to_frame(kind.padding, kind.mode), _make_strips(kind, together)

    def sample(images, coords, off, zero, height, planes, samples):
        count, _, (_, h, w) = lengths(images)
        batch, channels, (_, rows, columns) = lengths(samples)
        size = (h + 2 * ring) * (w + 2 * ring) * together
        line, samples_line = images.reshape(images.size), samples.reshape(samples.size)
        tiles, stride = (rows + height - 1) // height, h * w * together
        for number in prange(batch * tiles):
            n, start = number // tiles, number % tiles * height
            m, end = n if count > 1 else 0, min(rows, start + height)
            frame = carray(stack_memory(FRAMES), (planes * size,), images.dtype.type)
            own, where, out = borrowed((line, coords, samples_line))
            shape, memory = (h, w, rows, columns), (stack_memory(WORKSPACE),)
            groups = channels // together
            for first in range(0, groups, planes):
                copied = min(planes, groups - first)
                for plane in range(copied):
                    source = (m * groups + first + plane) * stride
                    copy(frame, plane * size, own, source, (h, w, together), off)
                task = Task(
                    n, start, end, shape, where, off, (frame, out), (groups, first, copied), zero,
                    memory,
                )  # fmt: skip
                each_strip(task, zero)
        return stamp

    return cpu_launch.jit(sample, parallel)


def planes_at_once(kind, dtype, fill, sides, size):
    """The number of planes that the kernel samples together; 0 if it is not for such images.

    ``sides`` and ``size`` are (H, W) of images and samples; ``fill`` has a number a channel.
    """
    together = elements_together(kind, len(fill))
    if dtype == np.float16 or together > MOST_CHANNELS:
        return 0
    return framed_planes(kind, fill, sides, together * dtype.itemsize, size)


def elements_together(kind, channels):
    """The number of elements of a pixel."""
    return channels if kind.channels_last else 1
