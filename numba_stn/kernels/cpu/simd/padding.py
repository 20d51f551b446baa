"""Padding of a block's coordinates and taps along an axis: :mod:`numba_stn.kernels.math.padding`.

All numbers are float64, in which indices and offsets are exact, and each lane gets the bits of the
scalar code. Where that has a branch, both results are computed, and one is selected.
"""

from ...math.padding import MOST_REFLECTIONS
from ...math.sampler_kind import (
    BEFORE,
    BICUBIC,
    BORDER,
    FILL,
    MIRROR,
    REFLECTION,
    TAPS,
    WRAP,
    ZEROS,
)
from .vectors import F64, I32, I64, lanes


class Side:
    """A side of ``size`` pixels: its numbers in every lane, and the padding along it.

    :meth:`pad` sets the slope of the padded coordinate: it is 0 outside the mask ``sloped``, -1 in
    ``reverses``, and 1 elsewhere; either mask may be None.
    """

    def __init__(self, emit, size, off, mode, padding):
        b = emit.builder
        if padding == MIRROR:
            padding, off = REFLECTION, F64(0.0)
        self.emit, self.mode, self.padding = emit, mode, padding
        last = b.sitofp(b.sub(size, I64(1)), F64)
        self.off, self.length = off, b.fadd(last, off)
        self.sloped = self.reverses = None
        self.size, self.last = emit.splat(b.sitofp(size, F64)), emit.splat(last)
        self.end = b.trunc(b.sub(size, I64(1)), I32)

    def pad(self, c):
        """The padded coordinate, and the mask of the lanes that have taps; None if all have."""
        wide = self.mode >= BICUBIC
        reach = TAPS[self.mode] / 2 if wide else 1.0
        if self.padding == ZEROS:
            return self._keep_near(c, reach)
        some = self._is_inside(c) if self.padding == FILL else None
        if self.padding == WRAP:
            return self._wrap(c, self.size), some
        if self.padding == REFLECTION and wide:
            period = self.emit.splat(self.emit.builder.fmul(F64(2.0), self.length))
            return self._wrap(c, period), some
        if self.padding == REFLECTION:
            c, self.reverses = self.reflect(c)
            self.sloped = self._is_between(c, 0.0)
            return c, some
        margin = reach + 1.0 if wide else 0.0
        self.sloped = self._is_between(c, margin)
        return self._clip(c, margin), some

    def _keep_near(self, c, reach):
        """Coordinates near the image; the others are replaced by 0."""
        b, high = self.emit.builder, self._plus(self.last, reach)
        above, below = b.fcmp_ordered(">=", c, lanes(F64, -reach)), b.fcmp_ordered("<", c, high)
        some = b.and_(above, below)
        return b.select(some, c, lanes(F64, 0.0)), some

    def _is_inside(self, c):
        """The mask of the coordinates within the image's outer edges."""
        b = self.emit.builder
        edge = self.emit.splat(b.fmul(self.off, F64(0.5)))
        above = b.fcmp_ordered(">=", c, b.fneg(edge))
        return b.and_(above, b.fcmp_ordered("<=", c, b.fadd(self.last, edge)))

    def _clip(self, c, margin):
        """Coordinates clipped to the image and ``margin`` pixels around it; NaN: the low end."""
        b, low, high = self.emit.builder, lanes(F64, -margin), self._plus(self.last, margin)
        c = b.select(b.fcmp_ordered(">", c, low), c, low)
        return b.select(b.fcmp_ordered(">=", c, high), high, c)

    def _is_between(self, c, margin):
        """The mask of the coordinates that :meth:`_clip` does not change, and not at the ends."""
        b, high = self.emit.builder, self._plus(self.last, margin)
        return b.and_(b.fcmp_ordered(">", c, lanes(F64, -margin)), b.fcmp_ordered("<", c, high))

    def _wrap(self, c, period):
        """Coordinates modulo the period, 0 if they are too large to be exact."""
        emit, b = self.emit, self.emit.builder
        near = self._is_near(emit.call("fabs", c), period)
        self.sloped = near
        whole = emit.call("floor", b.fdiv(c, period))
        return b.select(near, b.fsub(c, b.fmul(whole, period)), lanes(F64, 0.0))

    def reflect(self, c, clip=True):
        """Coordinates mirrored at the ends of the image, clipped to it, and where that reverses.

        The second is the mask of the lanes in which a larger ``c`` gives a smaller coordinate. The
        quotient by the length may be wrong by 1, which its remainder shows; all else is exact. If
        not clipped, they may be as large as those of bicubic taps (:meth:`_wrap`).
        """
        emit, b, zero = self.emit, self.emit.builder, lanes(F64, 0.0)
        low = emit.splat(b.fmul(self.off, F64(-0.5)))
        length, inverse = emit.splat(self.length), emit.splat(b.fdiv(F64(1.0), self.length))
        far = emit.call("fabs", b.fsub(c, low))
        times = emit.call("floor", b.fmul(far, inverse))
        rest = b.fsub(far, b.fmul(times, length))
        for wrong, step in (
            (b.fcmp_ordered("<", rest, zero), -1.0),
            (b.fcmp_ordered(">=", rest, length), 1.0),
        ):
            times = b.select(wrong, b.fadd(times, lanes(F64, step)), times)
            rest = b.select(wrong, b.fsub(rest, b.fmul(lanes(F64, step), length)), rest)
        half = emit.call("floor", b.fmul(times, lanes(F64, 0.5)))
        even = b.fcmp_ordered("==", b.fadd(half, half), times)
        there, back = b.fadd(low, rest), b.fsub(b.fadd(low, length), rest)
        near = self._is_near(far, length if clip else b.fadd(length, length))
        mirrored = b.select(near, b.select(even, there, back), zero)
        inside = b.and_(b.fcmp_ordered(">=", c, zero), b.fcmp_ordered("<=", c, self.last))
        reverses = b.and_(b.not_(inside), b.xor(even, b.fcmp_ordered(">=", c, low)))
        c = b.select(inside, c, mirrored)
        if clip:
            return self._clip(c, 0.0), reverses
        self.sloped = b.or_(inside, near)
        return c, reverses

    def _is_near(self, distance, period):
        """The mask of the distances that are not too large for exact reflections; false for NaN."""
        b = self.emit.builder
        most = b.fmul(period, lanes(F64, float(MOST_REFLECTIONS)))
        return b.fcmp_ordered("<", distance, most)

    # --- Taps -------------------------------------------------------------------------------------

    def tap(self, low, k):
        """The pixel, of 32 bits, that the tap ``k`` pixels beyond ``low`` reads, and a mask.

        ``low`` are whole numbers of padded coordinates. The mask has the lanes whose tap the image
        has; in others the tap reads any pixel. It is None if no tap is missing.
        """
        emit, b, wide = self.emit, self.emit.builder, self.mode >= BICUBIC
        if self.padding == WRAP or (self.padding == REFLECTION and wide):
            folded = self._repeat(b.fadd(low, lanes(F64, float(k))) if k else low)
            return b.fptosi(folded, lanes(I32)), None
        index = b.fptosi(low, lanes(I32))
        index = b.add(index, lanes(I32, k)) if k else index
        clamped = emit.clamp(index, I32(0), self.end)
        if self.padding in (BORDER, FILL) and wide:
            return clamped, None
        return clamped, b.icmp_signed("==", clamped, index)

    def _repeat(self, index):
        """The pixels of an image that is repeated, or mirrored and repeated, without end."""
        emit, b = self.emit, self.emit.builder
        if self.padding == WRAP:
            return self._fold(index, self.size)
        period = emit.splat(b.fmul(F64(2.0), self.length))
        folded = self._fold(index, period)
        back = b.fsub(b.fsub(period, emit.splat(self.off)), folded)
        folded = b.select(b.fcmp_ordered("<", folded, self.size), folded, back)
        single = b.fcmp_ordered("==", period, lanes(F64, 0.0))
        return b.select(single, lanes(F64, 0.0), folded)

    def _fold(self, index, period):
        """The index of a tap modulo the period, which may be a single pixel."""
        b, before = self.emit.builder, BEFORE[self.mode]
        for _ in range(max(before, 1)):
            negative = b.fcmp_ordered("<", index, lanes(F64, 0.0))
            index = b.select(negative, b.fadd(index, period), index)
        for _ in range(max(TAPS[self.mode] - before, 3)):
            above = b.fcmp_ordered(">=", index, period)
            index = b.select(above, b.fsub(index, period), index)
        return index

    def _plus(self, vector, number):
        b = self.emit.builder
        return b.fadd(vector, lanes(F64, number)) if number else vector


def to_offsets(emit, indices, stride):
    """Indices of 32 bits times the stride, as integers of 64 bits.

    The product is that of float64 numbers, in which it is exact: for those the processor has a fast
    instruction.
    """
    b = emit.builder
    product = b.fmul(b.sitofp(indices, lanes(F64)), emit.splat(b.sitofp(stride, F64)))
    return b.fptosi(product, lanes(I64))
