"""CPU kernels of float planes under an affine map, for images that fit into a frame.

Bilinear samples, and both gradients in any mode (:mod:`.frames`, :mod:`.simd.framed`).
:mod:`.framed_samples` has other samples. :mod:`.bilinear` and :mod:`.gradients_2d` have the kernels
for larger images and for grids.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import carray, prange

from .. import cpu_launch
from ..math.jit import inlined, scalar
from ..math.sampler_kind import AFFINE, BILINEAR, TAPS
from .bilinear_coordinates import image_map, row_map
from .frames import (
    FRAMES,
    frame_bytes,
    framed_planes,
    make_copy_to_frame,
    make_each_strip,
    make_from_frame,
)
from .moments import write_dtheta
from .simd.framed import (
    accumulate_strip,
    accumulate_taps_strip,
    moments_strip,
    sample_strip,
)
from .simd.images_gradient import gather_quads
from .simd.memory import borrowed, stack_memory
from .simd.strips import RINGS, SLOPES
from .simd.vectors import LANES
from .simd.workspace import WORKSPACE
from .tiles import BAND, TILE_BANDS, TILE_ROWS, bands_per_tile, block_count, block_span

# The pixels around a framed image.
RING = RINGS[BILINEAR]

# Bytes for the quads of a task: see :mod:`.simd.images_gradient`.
QUADS = 2**16

# The largest number of channels of the images' gradient that a task computes.
GROUP = 4

# Bytes for six sums of each lane, for each band of a tile.
SUMS = TILE_BANDS * 6 * LANES * 8


class Task(NamedTuple):
    """A tile of a kernel: rows ``start`` to ``end`` - 1 of samples n."""

    n: int
    start: int
    end: int
    shape: Any  # (H, W, H_out, W_out)
    map: Any  # of :func:`.bilinear_coordinates.image_map`
    off: float
    arrays: Any  # a frame of planes or quads, the samples or their gradient, and others
    channels: Any  # first, and number of planes
    memory: Any  # for the slots, and perhaps for slopes


@inlined
def row_of(task, i):
    """Start and step of x, then of y, along output row i."""
    return row_map(AFFINE, task.map.axes, i, task.shape)


@inlined
def nothing_outside(task, where):
    """What a gradient does with a strip without taps."""


@functools.cache
def make_copy_planes(padding, mode):
    """Function: copy planes of image m, from a channel on, into a frame (planes, H', W')."""
    copy = make_copy_to_frame(padding, mode)

    def copy_planes(frame, images, m, first, planes, off):
        channels, h, w = images.shape[1:]
        line, out = images.reshape(images.size), frame.reshape(frame.size)
        size = frame.shape[1] * frame.shape[2]
        for plane in range(planes):
            copy(out, plane * size, line, (m * channels + first + plane) * h * w, (h, w, 1), off)

    return scalar(copy_planes)


# --- Samples --------------------------------------------------------------------------------------


@functools.cache
def make_sample(padding, parallel):
    """Kernel: images, theta -> samples; ``planes`` are sampled at once."""
    stamp = cpu_launch.stamp(parallel)

    def visit(task, where, number):
        (frame, samples), (i, rows, column, slot) = task.arrays, where
        at = (task.n, *task.channels, i, rows, column, slot)
        sample_strip(frame, samples, at, task.memory[0])

    def outside(task, where):
        samples, (first, planes), (start, rows, column, _) = task.arrays[1], task.channels, where
        zero = samples.dtype.type(0)
        for c in range(first, first + planes):
            for i in range(start, start + rows):
                for j in range(column, column + LANES):
                    samples[task.n, c, i, np.uint64(j)] = zero

    each_strip = make_each_strip(padding, BILINEAR, row_of, inlined(visit), inlined(outside))
    copy_planes = make_copy_planes(padding, BILINEAR)

    def sample(images, theta, off, height, planes, samples):
        batch, channels, rows, columns = samples.shape
        h, w = images.shape[2:]
        real, zero = samples.dtype.type, samples.dtype.type(0)
        tiles = (rows + height - 1) // height
        for number in prange(batch * tiles):
            n, start = number // tiles, number % tiles * height
            m, end = n if images.shape[0] > 1 else 0, min(rows, start + height)
            frame = carray(stack_memory(FRAMES), (planes, h + 2 * RING, w + 2 * RING), real)
            memory = (stack_memory(WORKSPACE),)
            own, where, out = borrowed((images, theta, samples))
            shape = (h, w, rows, columns)
            lines = image_map(AFFINE, where, n, shape, off)
            for first in range(0, channels, planes):
                count = min(planes, channels - first)
                copy_planes(frame, own, m, first, count, off)
                task = Task(n, start, end, shape, lines, off, (frame, out), (first, count), memory)
                each_strip(task, zero)
        return stamp

    return cpu_launch.jit(sample, parallel)


# --- Gradient of the images -----------------------------------------------------------------------


@functools.cache
def make_sample_vjp_images(padding, mode, parallel):
    """Kernel: dsamples, theta -> dimages; each task sums some channels of an image.

    Bilinear gradients are summed in quads, the others in a frame.
    """
    stamp = cpu_launch.stamp(parallel)
    ring, (accumulate, shape_of, finish) = RINGS[mode], _make_sums(padding, mode)

    def visit(task, where, number):
        (sums, dsamples), (i, rows, column, slot) = task.arrays, where
        at = (task.n, *task.channels, i, rows, column, slot)
        accumulate(sums, dsamples, at, number, task.memory[0])

    each_strip = make_each_strip(padding, mode, row_of, inlined(visit), nothing_outside)

    def sample_vjp_images(dsamples, theta, off, planes, dimages):
        batch, channels, rows, columns = dsamples.shape
        h, w = dimages.shape[2:]
        real, zero = dimages.dtype.type, dimages.dtype.type(0)
        groups = (channels + planes - 1) // planes
        for number in prange(batch * groups):
            n, first = number // groups, number % groups * planes
            count = min(planes, channels - first)
            sides = h + 2 * ring, w + 2 * ring
            sums = carray(stack_memory(QUADS), shape_of(count, sides), real)
            sums[:] = zero
            memory = (stack_memory(WORKSPACE),)
            own, where, out = borrowed((dsamples, theta, dimages))
            shape = (h, w, rows, columns)
            lines = image_map(AFFINE, where, n, shape, off)
            for start in range(0, rows, TILE_ROWS):
                end = min(rows, start + TILE_ROWS)
                task = Task(n, start, end, shape, lines, off, (sums, own), (first, count), memory)
                each_strip(task, zero)
            finish(sums, out, n, first, off)
        return stamp

    return cpu_launch.jit(sample_vjp_images, parallel)


def _make_sums(padding, mode):
    """Functions that add a strip to the sums, give their shape, and write them to the images."""
    if mode == BILINEAR:
        return (
            accumulate_strip,
            inlined(lambda count, sides: (count, *sides, 4)),
            pixels_of_quads,
        )

    def accumulate(sums, dsamples, at, number, slots):
        accumulate_taps_strip(mode, sums, dsamples, at, number, slots)

    shape_of = inlined(lambda count, sides: (count, *sides))
    return inlined(accumulate), shape_of, make_from_frame(padding, mode)


@scalar
def pixel_of_quads(quads, k, y, x):
    """The gradient of pixel (y, x): the sum of one number from each of four quads.

    These are the first number of the pixel's own quad, the second of the one to the left, the third
    of the one above, and the fourth of the one above and to the left.
    """
    i, j = y + RING, x + RING
    upper = quads[k, i, j, 0] + quads[k, i, j - 1, 1]
    return upper + quads[k, i - 1, j, 2] + quads[k, i - 1, j - 1, 3]


@scalar
def pixels_of_quads(quads, dimages, n, first, off):
    """Write the sums of quads to the pixels of image n, from a channel on."""
    h, w = dimages.shape[2:]
    for k in range(quads.shape[0]):
        for y in range(h):
            for block in range(block_count(w)):
                left, right = block_span(block, w)
                if right - left == LANES:
                    origin = (k, y + RING - 1, left + RING - 1)
                    gather_quads(quads, dimages, (*origin, n, first + k, y, left))
                    continue
                for x in range(left, right):
                    dimages[n, first + k, y, x] = pixel_of_quads(quads, k, y, x)


# --- Gradient of theta ----------------------------------------------------------------------------


@functools.cache
def make_sample_vjp_theta(padding, mode, parallel):
    """Kernel: dsamples, images, theta -> the moments of each band of BAND rows."""
    stamp = cpu_launch.stamp(parallel)

    def visit(task, where, number):
        (frame, dsamples, sums), (i, rows, column, slot) = task.arrays, where
        own = sums[(i - task.start) // BAND]
        at = (task.n, *task.channels, i, rows, column, slot)
        moments_strip(mode, frame, dsamples, own, at, number, task.memory)

    each_strip = make_each_strip(padding, mode, row_of, inlined(visit), nothing_outside)
    copy_planes, ring = make_copy_planes(padding, mode), RINGS[mode]

    def sample_vjp_theta(dsamples, images, theta, off, bands, planes, moments):
        batch, channels, rows, columns = dsamples.shape
        h, w = images.shape[2:]
        real, zero, height = images.dtype.type, images.dtype.type(0), bands * BAND
        tiles = (rows + height - 1) // height
        for number in prange(batch * tiles):
            n, start = number // tiles, number % tiles * height
            m, end = n if images.shape[0] > 1 else 0, min(rows, start + height)
            frame = carray(stack_memory(FRAMES), (planes, h + 2 * ring, w + 2 * ring), real)
            sums = carray(stack_memory(SUMS), (TILE_BANDS, 6, LANES), np.float64)
            sums[:] = 0
            memory = (stack_memory(WORKSPACE), stack_memory(SLOPES))
            own, where, given = borrowed((images, theta, dsamples))
            shape = (h, w, rows, columns)
            lines = image_map(AFFINE, where, n, shape, off)
            arrays = (frame, given, sums)
            for first in range(0, channels, planes):
                count = min(planes, channels - first)
                copy_planes(frame, own, m, first, count, off)
                task = Task(n, start, end, shape, lines, off, arrays, (first, count), memory)
                each_strip(task, zero)
            for band in range((end - start + BAND - 1) // BAND):
                for k in range(6):
                    moments[n, start // BAND + band, k // 3, k % 3] = sums[band, k].sum()
        return stamp

    return cpu_launch.jit(sample_vjp_theta, parallel)


# --- Functions that :mod:`.backend` calls ---------------------------------------------------------


def planes_of_samples(kind, fill, dsamples, images):
    """The number of planes of theta's gradient at once; 0 if these kernels are not for the kind."""
    if kind.channels_last or images.dtype.kind != "f" or images.itemsize < 4:
        return 0
    return framed_planes(kind, fill, images.shape[2:], images.itemsize, dsamples.shape[2:])


def planes_of_gradient(kind, dsamples, dimages):
    """The same for the images' gradient. Images that several samples share have other kernels."""
    if len(dimages) != len(dsamples):
        return 0
    planes = planes_of_samples(kind, _NO_FILL, dsamples, dimages)
    if planes and kind.mode == BILINEAR:
        planes = QUADS // (4 * frame_bytes(kind.mode, dimages.shape[2:], dimages.itemsize))
    return min(planes, GROUP)


_NO_FILL = np.zeros(1)


def sample_vjp_images(kind, dsamples, theta, off, planes, dimages):
    """Fill ``dimages``, of the images' shape."""
    cpu_launch.run(
        make_sample_vjp_images, (kind.padding, kind.mode), dsamples.size * TAPS[kind.mode] ** 2,
        dsamples, theta[:, None], off, planes, dimages,
    )  # fmt: skip


def sample_vjp_theta(kind, dsamples, images, theta, off, planes, dtheta):
    """Fill ``dtheta``, (N, 2, 3)."""
    size, work = dsamples.shape[2:], dsamples.size * TAPS[kind.mode] ** 2
    moments = np.empty((len(dsamples), -(-size[0] // BAND), 2, 3))
    bands = bands_per_tile(len(dsamples), size[0], cpu_launch.workers(work))
    cpu_launch.run(
        make_sample_vjp_theta, (kind.padding, kind.mode), work,
        dsamples, images, theta[:, None], off, bands, planes, moments,
    )  # fmt: skip
    write_dtheta(moments, images.shape[2:], size, off, dtheta)
