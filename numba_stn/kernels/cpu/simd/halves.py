"""Rows of an image that is halved: each element is the mean of four, two in each of two rows.

This is what a bilinear resize by 1/2 computes, with the same bits: all weights are 1/2. Elements
are the channels of pixels. A group of blocks reads whole vectors, and constant permutations bring
the two neighbours of each element to its lane.
"""

import math

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .lines import load_elements, store_elements
from .vectors import I32, I64, LANES, Emitter, Plane

# The numbers of channels that have permutations.
MOST_CHANNELS = 4


@intrinsic
def halve_rows(typingctx, rows, channels, target, to, count, real):
    """Write the means of two rows of an image, ``count`` elements of a target from ``to`` on.

    ``channels`` are 1 to MOST_CHANNELS, and ``real`` is a number of the type that computes.
    """

    def codegen(context, builder, signature, args):
        rows_, channels_, target_, to_, count_, _ = args
        emit = Emitter(builder, context.get_value_type(real))
        planes = [
            Plane(context, builder, rows.dtype, row) for row in cgutils.unpack_tuple(builder, rows_)
        ]
        out = Plane(context, builder, target, target_)
        for size in range(1, MOST_CHANNELS + 1):
            with builder.if_then(builder.icmp_signed("==", channels_, I64(size))):
                _Means(emit, rows.dtype.dtype, planes, out, size).write(to_, count_)
        return context.get_dummy_value()

    return types.void(rows, channels, target, to, count, real), codegen


class _Means:
    """The means of a row, for a number of channels."""

    def __init__(self, emit, dtype, rows, out, channels):
        self.emit, self.rows, self.out, self.channels = emit, rows, out, channels
        self.whole = isinstance(dtype, types.Integer)

    def write(self, to, count):
        """Write ``count`` elements from ``to`` on."""
        b = self.emit.builder
        blocks = self.channels // math.gcd(self.channels, LANES)
        length = I64(blocks * LANES)
        groups = b.udiv(count, length)
        with cgutils.for_range(b, groups) as loop:
            first = b.mul(loop.index, length)
            self._write_group(first, b.add(to, first), blocks)
        done = b.mul(groups, length)
        with cgutils.for_range(b, b.sub(count, done)) as loop:
            e = b.add(done, loop.index)
            self._write_element(e, b.add(to, e))

    def _write_group(self, first, to, blocks):
        """Write ``blocks`` blocks; element e of them has its first pixel's at 2 e there."""
        emit, b, size = self.emit, self.emit.builder, self.channels
        start = b.mul(first, I64(2))
        sums = []
        for k in range(2 * blocks):
            at = b.add(start, I64(k * LANES))
            upper, lower = (load_elements(emit, row, row.address(at), LANES) for row in self.rows)
            sums.append(self._half(upper, lower))
        for k in range(blocks):
            west = [2 * size * (e // size) + e % size for e in range(k * LANES, (k + 1) * LANES)]
            sides = [self._choose(sums, [i + far for i in west]) for far in (0, size)]
            address = self.out.address(b.add(to, I64(k * LANES)))
            store_elements(emit, self._mean(*sides), address, self.out.bytes)

    def _choose(self, vectors, indices):
        """The numbers at these places of the concatenated vectors."""
        emit, b = self.emit, self.emit.builder
        used = sorted({i // LANES for i in indices})
        parts = [vectors[k] for k in used]
        while len(parts) & (len(parts) - 1):
            parts.append(parts[-1])
        whole = emit.concatenate(parts)
        places = [used.index(i // LANES) * LANES + i % LANES for i in indices]
        return b.shuffle_vector(whole, whole, ir.Constant(ir.VectorType(I32, LANES), places))

    def _write_element(self, e, to):
        """Write a single element."""
        emit, b, size = self.emit, self.emit.builder, I64(self.channels)
        west = b.add(b.mul(b.mul(b.udiv(e, size), size), I64(2)), b.urem(e, size))
        sides = []
        for far in (I64(0), size):
            at = b.add(west, far)
            sides.append(
                self._half(*(load_elements(emit, row, row.address(at), 1) for row in self.rows))
            )
        store_elements(emit, self._mean(*sides), self.out.address(to), self.out.bytes)

    def _half(self, one, two):
        """Half the sum of two elements; of integers, the sum."""
        b = self.emit.builder
        if self.whole:
            wide = ir.VectorType(ir.IntType(2 * one.type.element.width), one.type.count)
            return b.add(b.zext(one, wide), b.zext(two, wide))
        half = ir.Constant(one.type, [0.5] * one.type.count)
        return b.fadd(b.fmul(one, half), b.fmul(two, half))

    def _mean(self, one, two):
        """The mean of four elements from two results of :meth:`_half`; a half becomes even."""
        b = self.emit.builder
        if not self.whole:
            return self._half(one, two)
        total = b.add(one, two)
        ones, twos = (ir.Constant(total.type, [n] * total.type.count) for n in (1, 2))
        odd = b.and_(b.lshr(total, twos), ones)
        mean = b.lshr(b.add(b.add(total, ones), odd), twos)
        return b.trunc(mean, ir.VectorType(self.out.kind, total.type.count))
