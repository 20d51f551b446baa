"""Placed blocks of any mode, in LLVM vectors: of one plane, or of pixels of 2 to 4 channels.

All taps of a block of :mod:`.addresses` are inside the image. Along each axis a mode reads n of
them (1, 2 or 4), which stand together in a row of memory, so each pixel takes n loads of n
neighbours. They are weighted and summed by rows first, then by columns, in the order of
:func:`.weighted_sum.make_run_contract`, whose bits these are. Integers are computed in float32.
"""

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.coordinates import BICUBIC, BILINEAR, NEAREST
from ...math.interpolation import KEYS, TAPS
from .addresses import Slot
from .vectors import I32, I64, LANES, Emitter, Plane, lanes


@functools.cache
def make_sample_block(mode, channels):
    """Function: write an interior block's samples; ``channels``: 1, or 2 to 4 in each pixel.

    ``f(image, samples, where, steps, slots, real)``, with the elements of images and of samples in
    a line. ``where`` is (planes, start, target, slot): of the first of so many planes, the image's
    elements begin at ``start`` and the block's samples at ``target``; the slot has the block's
    addresses. ``steps`` are the numbers of elements from plane to plane of the image, and of the
    samples, from row to row of the image, and to what a later row reads. ``real`` is a number of
    the type that computes.
    """

    @intrinsic
    def sample_block(typingctx, image, samples, where, steps, slots, real):
        def codegen(context, builder, signature, args):
            image_, samples_, where_, steps_, slots_, _ = args
            emit = Emitter(builder, context.get_value_type(real))
            source = Plane(context, builder, image, image_)
            target = Plane(context, builder, samples, samples_)
            (planes, first, first_target, slot), (far, along, pitch, ahead) = (
                cgutils.unpack_tuple(builder, each) for each in (where_, steps_)
            )
            taps = _Taps(emit, mode, channels, source, image.dtype)
            taps.weigh(Slot(emit, slots_, slot))
            with cgutils.for_range(builder, planes) as loop:
                start, to = (
                    builder.add(one, builder.mul(loop.index, step))
                    for one, step in ((first, far), (first_target, along))
                )
                taps.prefetch(source.at(builder.add(start, ahead)))
                taps.start(start, pitch)
                if channels == 1:
                    taps.plane(target.at(to))
                else:
                    taps.pixels(target.at(to))
            return context.get_dummy_value()

        return types.void(image, samples, where, steps, slots, real), codegen

    return sample_block


class _Taps:
    """A block's taps, weights and samples."""

    def __init__(self, emit, mode, channels, image, dtype):
        self.emit, self.mode, self.channels, self.image = emit, mode, channels, image
        self.count, self.whole = TAPS[mode], isinstance(dtype, types.Integer)
        self.most = float(2 ** (8 * image.bytes) - 1)

    def weigh(self, slot):
        """The weights of a block's taps."""
        emit, self.slot = self.emit, slot
        if self.mode != NEAREST:
            x, y = slot.fractions()
            self.across, self.down = _weights(emit, self.mode, x), _weights(emit, self.mode, y)
            self.down_each = [emit.stored(weight) for weight in self.down]

    def prefetch(self, start):
        """Ask for what a later row will read, counted from the address ``start``."""
        b = self.emit.builder
        for k in range(0, LANES, LANES // 2):
            far = b.mul(b.zext(self.slot.offset(k), I64), I64(self.channels * self.image.bytes))
            self.emit.prefetch(b.add(start, far))

    def start(self, first, pitch):
        """The addresses of the rows of taps around the first pixel of an image."""
        emit, b = self.emit, self.emit.builder
        size = I64(self.image.bytes)
        if self.mode == BICUBIC:  # one pixel to the left, one row up
            first = b.sub(first, b.add(pitch, I64(self.channels)))
        start, step = self.image.at(first), b.mul(pitch, size)
        self.rows = []
        for _ in range(self.count):
            self.rows.append(emit.hidden(start))
            start = b.add(start, step)

    def plane(self, target):
        """Samples of one plane, side by side."""
        emit, b = self.emit, self.emit.builder
        if self.mode == NEAREST:
            block = ir.Constant(ir.VectorType(self.image.kind, LANES), ir.Undefined)
            for k in range(LANES):
                block = b.insert_element(block, self._raw(self.rows[0], k, 1), I32(k))
            _store(b, block, target, self.image.bytes)
            return
        if self.mode == BILINEAR:
            taps = emit.pairs(self.rows, self.slot.offset, self.image)
            west, east = (
                self._sum(self.down, [self._real(tap) for tap in taps[k::2]]) for k in (0, 1)
            )
            _store(b, self._stored(self._sum(self.across, [west, east])), target)
            return
        columns = emit.join([self._column(k) for k in range(LANES)])
        orders = [
            lanes(I32, list(range(n, self.count * LANES, self.count))) for n in range(self.count)
        ]
        apart = [b.shuffle_vector(columns, columns, order) for order in orders]
        _store(b, self._stored(self._sum(self.across, apart)), target)

    def pixels(self, target):
        """Samples of pixels, one after another, all their channels together."""
        emit, b, size = self.emit, self.emit.builder, self.channels * self.image.bytes
        if self.mode == NEAREST:
            self._nearest(target)
            return
        across = [emit.stored(weight) for weight in self.across]
        for k in range(LANES):
            place = b.add(target, I64(k * size))
            column, kind = self._column(k), ir.VectorType(I32, self.channels)
            orders = [
                ir.Constant(kind, [n * self.channels + c for c in range(self.channels)])
                for n in range(self.count)
            ]
            weights = [emit.splat(emit.lane(each, k), self.channels) for each in across]
            apart = [b.shuffle_vector(column, column, order) for order in orders]
            _store(b, self._stored(self._sum(weights, apart)), place, self.image.bytes)

    def _nearest(self, target):
        """Pixels as they are; of three elements one more is moved, which the next overwrites.

        Two instructions move what is no power of two, one would do for the larger power.
        """
        b, size = self.emit.builder, self.channels * self.image.bytes
        if self.channels != 3:
            self._move(target, self.channels)
            return
        end = b.add(self.image.start, b.mul(self.image.shape[0], I64(self.image.bytes)))
        last = b.sub(b.udiv(b.sub(end, self.rows[0]), I64(size)), I64(1))  # none is behind that one
        last = b.trunc(self.emit.least(last, I64(2**31 - 1)), I32)
        offsets = self.emit.load(self.slot.offsets, lanes(I32))
        early = b.icmp_unsigned("<", offsets, self.emit.splat(last))
        with b.if_else(self.emit.every([early]), likely=True) as (then, otherwise):
            with then:
                self._move(target, 4, LANES - 1)
                at = b.add(target, I64((LANES - 1) * size))
                _store(b, self._raw(self.rows[0], LANES - 1, 3), at, self.image.bytes)
            with otherwise:
                self._move(target, 3)

    def _move(self, target, count, pixels=LANES):
        """So many elements from each pixel on."""
        b, size = self.emit.builder, self.channels * self.image.bytes
        for k in range(pixels):
            raw = self._raw(self.rows[0], k, count)
            _store(b, raw, b.add(target, I64(k * size)), self.image.bytes)

    def _raw(self, row, k, count):
        """Elements of lane k from its tap in a row on; a single one is no vector."""
        b, bytes_ = self.emit.builder, self.image.bytes
        far = b.mul(b.zext(self.slot.offset(k), I64), I64(self.channels * bytes_))
        kind = self.image.kind if count == 1 else ir.VectorType(self.image.kind, count)
        load = b.load(b.inttoptr(b.add(row, far), kind.as_pointer()))
        load.align = bytes_
        return load

    def _sum(self, weights, vectors):
        """Weighted sum of vectors, in their order."""
        b = self.emit.builder
        one, *terms = [b.fmul(each, by) for each, by in zip(vectors, weights, strict=True)]
        for term in terms:
            one = b.fadd(one, term)
        return one

    def _column(self, k):
        """Lane k's neighbours along its row, each the weighted sum of its column."""
        emit, width = self.emit, self.count * self.channels
        weights = [emit.splat(emit.lane(each, k), width) for each in self.down_each]
        return self._sum(weights, [self._real(self._raw(row, k, width)) for row in self.rows])

    def _real(self, vector):
        """Numbers to compute with."""
        if not self.whole:
            return vector
        b, count = self.emit.builder, vector.type.count
        wide = b.zext(vector, ir.VectorType(I32, count))
        return b.sitofp(wide, ir.VectorType(self.emit.real, count))

    def _stored(self, vector):
        """Elements of the samples: rounded half to even and saturated, where they are whole."""
        if not self.whole:
            return vector
        emit, b, count = self.emit, self.emit.builder, vector.type.count
        limits = (ir.Constant(vector.type, [limit] * count) for limit in (0.0, self.most))
        low, high = limits
        vector = emit.call("minnum", high, emit.call("maxnum", low, emit.call("rint", vector)))
        whole = b.fptosi(vector, ir.VectorType(I32, count))
        return b.trunc(whole, ir.VectorType(self.image.kind, count))


def _store(builder, vector, address, align=1):
    """A vector to an address."""
    place = builder.inttoptr(address, vector.type.as_pointer())
    builder.store(vector, place).align = align


def _weights(emit, mode, t):
    """The weights of :data:`.interpolation.WEIGHTS` for fractions."""
    b, one = emit.builder, lanes(emit.real, 1.0)
    if mode == BILINEAR:
        return [b.fsub(one, t), t]
    up = b.fsub(one, t)
    return [_outer(emit, b.fadd(one, t)), _inner(emit, t), _inner(emit, up),
            _outer(emit, b.fsub(lanes(emit.real, 2.0), t))]  # fmt: skip


def _inner(emit, d):
    b, (two, three, one) = emit.builder, (lanes(emit.real, c) for c in (KEYS + 2, KEYS + 3, 1.0))
    return b.fadd(b.fmul(b.fmul(b.fsub(b.fmul(two, d), three), d), d), one)


def _outer(emit, d):
    b = emit.builder
    a, five, eight, four = (lanes(emit.real, c * KEYS) for c in (1.0, 5.0, 8.0, 4.0))
    inner = b.fadd(b.fmul(b.fsub(b.fmul(a, d), five), d), eight)
    return b.fsub(b.fmul(inner, d), four)
