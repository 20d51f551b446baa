"""CPU kernel of one image (H, W, C), whose channels are neighbours in memory, warped by a matrix.

The addresses of a block of LANES pixels are computed by :mod:`.simd.addresses`. Then, pixel by
pixel, one load per row of taps gets both neighbours with all their channels; more than four
channels are loaded four at a time. Integers are blended in float32 and rounded half to even; the
image is not copied to floats. Border blocks are computed by :mod:`.simd.border_samples`.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from .. import cpu_launch
from ..math.coordinates import along_row
from ..math.dtypes import computed
from ..math.jit import inlined, scalar
from ..math.sampler_kind import AFFINE, BILINEAR, PROJECTIVE
from .bilinear_coordinates import ROWS_AHEAD
from .limits import divided_row_limits
from .simd.border_samples import make_sample_border
from .simd.checked_taps import POSITIONS, store_positions
from .simd.memory import borrowed, stack_memory
from .simd.row_segments import RowSegment
from .simd.vectors import I32, I64, LANES, Emitter, Plane, lanes
from .tiles import Tile, block_origin, block_span, can_block, rows_per_tile
from .traversal import Visitor, make_traverse

# There are kernels for 1 to 4 channels each, and one for this number or more.
MANY = 5

# Reflection mirrors at the outer edges of the outermost pixels, as OpenCV's BORDER_REFLECT does.
OFF = 1.0


# --- Interior blocks ------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def sample_interior(typingctx, channels, image, out, real, where, slots):
    """Sample a segment of interior blocks.

    ``where`` is (i, k, count, slot, columns, ahead): in row i, ``count`` blocks from the k-th on;
    ``slot`` is that of the first. A later row reads ``ahead`` pixels further on, which is
    prefetched. ``real`` is a number of the type that blends.
    """
    if not isinstance(channels, types.IntegerLiteral):
        return None

    def codegen(context, builder, signature, args):
        _, image_, out_, _, packed, start = args
        i, *blocks, ahead = cgutils.unpack_tuple(builder, packed)
        emit = Emitter(builder, context.get_value_type(real))
        source, target = (Plane(context, builder, *pair) for pair in ((image, image_), (out, out_)))
        pixels = _Pixels(emit, channels.literal_value, image.dtype, source)
        with RowSegment(emit, blocks, start).each_block() as (slot, j):
            pixels.prefetch(slot, ahead)
            pixels.blend(slot, target.address(i, j, I64(0)))
        return context.get_dummy_value()

    return types.void(channels, image, out, real, where, slots), codegen


class _Pixels:
    """Loads, blends and stores the pixels of an image."""

    def __init__(self, emit, channels, dtype, image):
        self.emit, self.channels, self.image = emit, channels, image
        self.kind, self.bytes = image.kind, image.bytes
        self.whole = isinstance(dtype, types.Integer)

    def prefetch(self, slot, ahead):
        """Prefetch what a later row reads."""
        emit, b = self.emit, self.emit.builder
        size = b.mul(self.image.shape[2], I64(self.bytes))
        start = b.add(self.image.start, b.mul(ahead, size))
        for k in range(0, LANES, LANES // 4):
            emit.prefetch(b.add(start, b.mul(b.zext(slot.offset(k), I64), size)))

    def blend(self, slot, target):
        """Blend a block's pixels, and store them from ``target`` on."""
        if self.channels == 1:
            self._blend_grey(slot, target)
        elif self.channels <= 4:
            self._blend_channels(slot, target)
        else:
            self._blend_many(slot, target)

    def _bases(self):
        """Opaque addresses of the image's first two rows."""
        b = self.emit.builder
        pitch = b.mul(self.image.shape[1], self.image.shape[2])
        lower = b.add(self.image.start, b.mul(pitch, I64(self.bytes)))
        return self.emit.opaque(self.image.start), self.emit.opaque(lower)

    def _blend_grey(self, slot, target):
        """Blend pixels of one channel, all lanes together."""
        emit, b = self.emit, self.emit.builder
        tx, ty = slot.fractions()
        one = lanes(emit.real, 1.0)
        taps = [
            self._to_real(tap) for tap in emit.load_pairs(self._bases(), slot.offset, self.image)
        ]
        west, east = (self._blend_column(taps[k], taps[k + 2], b.fsub(one, ty), ty) for k in (0, 1))
        value = b.fadd(b.fmul(west, b.fsub(one, tx)), b.fmul(east, tx))
        self._store(value, target, LANES)

    def _blend_column(self, upper, lower, sy, ty):
        """Weighted sum of an upper and a lower tap."""
        b = self.emit.builder
        return b.fadd(b.fmul(upper, sy), b.fmul(lower, ty))

    def _blend_channels(self, slot, target):
        """Blend pixels of 2 to 4 channels one after another.

        The channels of two neighbours, west then east, fill a vector of 4 or 8. Each store, except
        the last, may overlap the next pixel, which is stored later.
        """
        emit, b = self.emit, self.emit.builder
        count = 4 if self.channels == 2 else 8
        tx, ty = slot.fractions()
        one = lanes(emit.real, 1.0)
        tys, sys = emit.spill(ty), emit.spill(b.fsub(one, ty))
        txs, sxs = emit.spill(tx), emit.spill(b.fsub(one, tx))
        rows = self._bases()
        for k in range(LANES):
            far = b.mul(b.zext(slot.offset(k), I64), I64(self.channels * self.bytes))
            upper, lower = (self._load(b.add(row, far), count) for row in rows)
            sy, t = (emit.splat(emit.lane(values, k), count) for values in (sys, tys))
            column = self._blend_column(upper, lower, sy, t)
            sides = [emit.splat(emit.lane(values, k), count) for values in (sxs, txs)]
            half = count // 2
            east = [min(self.channels + c, count - 1) for c in range(half)]
            west = _select(b, column, list(range(half)))
            east = _select(b, column, east)
            sx, t = (_select(b, side, list(range(half))) for side in sides)
            value = b.fadd(b.fmul(west, sx), b.fmul(east, t))
            address = b.add(target, I64(k * self.channels * self.bytes))
            self._store(value, address, half if k < LANES - 1 else self.channels)

    def _blend_many(self, slot, target):
        """Blend pixels one after another, four channels at a time; the last four may overlap."""
        emit, b = self.emit, self.emit.builder
        tx, ty = slot.fractions()
        one = lanes(emit.real, 1.0)
        stored = [emit.spill(v) for v in (tx, b.fsub(one, tx), ty, b.fsub(one, ty))]
        channels = self.image.shape[2]
        size = b.mul(channels, I64(self.bytes))
        groups = b.udiv(b.add(channels, I64(3)), I64(4))
        rows = self._bases()
        for k in range(LANES):
            far = b.mul(b.zext(slot.offset(k), I64), size)
            tx, sx, ty, sy = (emit.splat(emit.lane(values, k), 4) for values in stored)
            with cgutils.for_range(b, groups) as loop:
                first, end = b.mul(loop.index, I64(4)), b.sub(channels, I64(4))
                first = b.select(b.icmp_signed("<", first, end), first, end)
                step = b.mul(first, I64(self.bytes))
                upper, lower = (b.add(b.add(row, far), step) for row in rows)
                west = self._blend_column(self._load(upper, 4), self._load(lower, 4), sy, ty)
                upper, lower = b.add(upper, size), b.add(lower, size)
                east = self._blend_column(self._load(upper, 4), self._load(lower, 4), sy, ty)
                value = b.fadd(b.fmul(west, sx), b.fmul(east, tx))
                self._store(value, b.add(b.add(target, b.mul(size, I64(k))), step), 4)

    def _load(self, address, count):
        """Load ``count`` elements, as numbers to blend."""
        b, kind = self.emit.builder, ir.VectorType(self.kind, count)
        load = b.load(b.inttoptr(address, kind.as_pointer()))
        load.align = self.bytes
        return self._to_real(load)

    def _to_real(self, vector):
        """Convert elements to the type that blends."""
        if not self.whole:
            return vector
        kind = ir.VectorType(self.emit.real, vector.type.count)
        wide = self.emit.builder.zext(vector, ir.VectorType(I32, vector.type.count))
        return self.emit.builder.sitofp(wide, kind)

    def _store(self, vector, address, count):
        """Store the first ``count`` numbers of a vector, rounded if the image has integers."""
        b = self.emit.builder
        if self.whole:
            whole = b.fptosi(self.emit.call("rint", vector), ir.VectorType(I32, vector.type.count))
            vector = b.trunc(whole, ir.VectorType(self.kind, vector.type.count))
        while count:
            part = 1 << (count.bit_length() - 1)
            kind = ir.VectorType(self.kind, part)
            pointer = b.inttoptr(address, kind.as_pointer())
            b.store(_select(b, vector, list(range(part))), pointer).align = self.bytes
            count -= part
            vector = _select(b, vector, list(range(part, part + count))) if count else vector
            address = b.add(address, I64(part * self.bytes))


def _select(builder, vector, order):
    """The elements of a vector that ``order`` lists."""
    if order == list(range(vector.type.count)):
        return vector
    mask = ir.Constant(ir.VectorType(I32, len(order)), order)
    return builder.shuffle_vector(vector, vector, mask)


# --- Rows and single pixels -----------------------------------------------------------------------


@scalar
def matrix_row(matrix, i):
    """Start and step of x, of y, and of their divisor, along output row i."""
    return (
        matrix[0, 1] * i + matrix[0, 2],
        matrix[0, 0],
        matrix[1, 1] * i + matrix[1, 2],
        matrix[1, 0],
        matrix[2, 1] * i + matrix[2, 2],
        matrix[2, 0],
    )


@scalar
def pixels_ahead(source, matrix, h, w):
    """The distance, in pixels, from what a row reads to what a later row reads; 0 if not known."""
    x, y = ROWS_AHEAD * matrix[0, 1], ROWS_AHEAD * matrix[1, 1]
    if source != AFFINE or not (abs(x) < w and abs(y) < h):
        return 0
    return int(y) * w + int(x)


@functools.cache
def make_input_pixel(source):
    """Function: row, first, j, type -> the sampling position (x, y) of column j.

    ``first`` is the :func:`.tiles.block_origin`.
    """
    if source == AFFINE:

        def input_pixel(row, first, j, real):
            return (
                along_row(row[0], row[1], first, j - first, real),
                along_row(row[2], row[3], first, j - first, real),
            )

    else:

        def input_pixel(row, first, j, real):
            inverse = 1.0 / (row[4] + row[5] * j)
            return (row[0] + row[1] * j) * inverse, (row[2] + row[3] * j) * inverse

    return inlined(input_pixel)


# --- The kernel -----------------------------------------------------------------------------------


class Task(NamedTuple):
    """A tile of the output, and what the visitor needs there."""

    arrays: Any  # image and output
    elements: Any  # those of image and output, and a number for each channel
    matrix: Any
    tile: Tile
    sides: Any  # (H, W, H_out, W_out)
    fill: Any  # a row of filled pixels, (W_out * C,)
    zero: Any  # of the type that computes
    ahead: int


@functools.cache
def make_warp(source, padding, channels, parallel):
    """Kernel: image (H, W, C), matrix (3, 3), fill -> out; ``channels``: C, or MANY.

    ``fill`` is a row of filled pixels, (W_out * C,), of which the kernel copies parts.
    """
    stamp = cpu_launch.stamp(parallel)
    visitor = _make_visitor(source, padding, channels)
    traverse = make_traverse(source, padding, BILINEAR, visitor)

    def warp(image, matrix, fill, zero, height, out):
        h, w = image.shape[:2]
        rows, columns = out.shape[:2]
        tiles = (rows + height - 1) // height
        for number in prange(tiles):
            start, end = number * height, min(rows, (number + 1) * height)
            tile = Tile(0, 0, start, end, columns, can_block(h, w, columns))
            arrays, where, outside = borrowed(((image, out), matrix, fill))
            elements = borrowed((image.reshape(image.size), out.reshape(out.size), fill))
            ahead = pixels_ahead(source, where, h, w)
            sides = (h, w, rows, columns)
            task = Task(arrays, elements, where, tile, sides, outside, zero, ahead)
            traverse(task, where, tile, zero)
        return stamp

    return cpu_launch.jit(warp, parallel)


def _make_visitor(source, padding, channels):
    """The visitor that samples the rows and blocks of a tile."""
    numbers, input_pixel = 6 if source == PROJECTIVE else 4, make_input_pixel(source)
    sample_border = make_sample_border(BILINEAR, padding)

    def rows(task, i):
        row, width = matrix_row(task.matrix, i), task.sides[1]
        # A load of three channels is eight elements long, and reaches into a third pixel.
        right = width - 1 if channels == 3 else width
        limits = divided_row_limits(source, padding, BILINEAR, row, right, task.sides)
        return row[:numbers], limits

    def outside(task, i, first, stop):
        out = task.arrays[1]
        size = out.shape[2]
        elements, start = out.reshape(-1), i * out.shape[1] * size
        for k in range(first * size, stop * size):  # unsigned, so that LLVM vectorises
            elements[np.uint64(start + k)] = task.fill[np.uint64(k)]

    def interior(task, row, segment, slots):
        (i, k, count, slot), (image, out) = segment, task.arrays
        where = (i, k, count, slot, task.tile.columns, task.ahead)
        sample_interior(channels, image, out, task.zero, where, slots)

    def border(task, row, i, k):
        columns, real = task.tile.columns, type(task.zero)
        first, stop = block_span(k, columns)
        x, y = stack_memory(POSITIONS), stack_memory(POSITIONS)
        if task.tile.blocked:
            where = (0, i, first)
            store_positions(source, BILINEAR, task.matrix, row, where, task.zero, x, y)
        else:
            xs, ys = carray(x, (LANES,), np.float64), carray(y, (LANES,), np.float64)
            for lane in range(LANES):
                j = min(first + lane, stop - 1)
                xs[lane], ys[lane] = input_pixel(row, block_origin(j, first, columns), j, real)
        size, (h, w, _, _) = task.arrays[0].shape[2], task.sides
        where = (0, (i * columns + first) * size, stop - first, size)
        strides = (1, w * size, size, 1, size)
        sample_border(task.elements, (x, y), where, (h, w), strides, OFF, task.zero)

    return Visitor(
        inlined(rows), inlined(outside), nothing_to_prefetch, inlined(interior), inlined(border)
    )


@inlined
def nothing_to_prefetch(task, inside, slots):
    """Nothing: interior blocks prefetch what a later row reads."""


def prepare_warp(kind, fill, image_shape, dtype, shape):
    """A function ``warp(image, matrix, out)`` for images and outputs of these shapes."""
    channels, (rows, columns) = math.prod(image_shape[2:]), shape[:2]
    row, zero = np.repeat(fill[None], columns, axis=0).reshape(-1), computed(dtype).type(0)
    flags, work = (kind.source, kind.padding, min(channels, MANY)), rows * columns * channels * 2
    sides, sizes = (*image_shape[:2], channels), (rows, columns, channels)

    def warp(image, matrix, out):
        height = rows_per_tile(1, rows, cpu_launch.workers(work))
        cpu_launch.run(
            make_warp, flags, work,
            image.reshape(sides), matrix, row, zero, height, out.reshape(sizes),
        )  # fmt: skip

    return warp
