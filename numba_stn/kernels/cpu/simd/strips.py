"""Strips: the blocks of eight rows at the same columns, under an affine map, from a framed image.

What a row of a small image needs besides its samples (its map, its limits, the addresses of a few
blocks) takes longer than the samples. So it is computed for all rows of a strip at once, by vectors
that have a number of each row. And the image has a frame of a few pixels: coordinates far outside
are clamped to it, so that all taps of all blocks can be read, and no block is a border block. The
positions and the samples are those of :mod:`.addresses` and :mod:`.border`, bit for bit.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.coordinates import MIDDLE, SNAP
from ...math.sampler_kind import BICUBIC, BILINEAR, BORDER, NEAREST, REFLECTION, ZEROS
from .addresses import base_of, tap_of
from .padding import Side
from .positions import affine_coordinate
from .vectors import F64, I1, I32, I64, LANES, Emitter, lanes
from .workspace import Slot

# The rows of a strip.
STRIP = 8

# Bytes for the slopes of two strips' blocks, in x and in y.
SLOPES = 2 * STRIP * LANES * 2 * 8

# By mode: the pixels that a frame has on each side of the image, and the tap that stands for all
# whose pixels are outside.
RINGS = {NEAREST: 2, BILINEAR: 2, BICUBIC: 5}
FURTHEST = {NEAREST: -2, BILINEAR: -2, BICUBIC: -3}


@intrinsic(prefer_literal=True)
def compute_strip(typingctx, padding, mode, zero, starts, where, sides, memory):
    """Fill the slots of a strip's blocks; returns whether any of their taps are in the image.

    ``starts`` points to the coordinates of all rows at column 0, first x and then y. ``where`` is
    (first row, distance from x to y, step of x, step of y, first column, first slot, tame):
    coordinates that are not ``tame`` may be too large for integers, or NaN. ``sides`` are
    (H, W, off), and ``zero`` has the type that computes. ``memory`` has the slots, and if wanted
    memory for the slopes of the padding, which are -1, 0 or 1.
    """
    if not all(isinstance(flag, types.IntegerLiteral) for flag in (padding, mode)):
        return None

    def codegen(context, builder, signature, args):
        starts_, where_, sides_, memory_ = args[3:]
        slots_, *slopes_ = cgutils.unpack_tuple(builder, memory_)
        emit = Emitter(builder, context.get_value_type(zero))
        row, apart, *steps, column, slot, tame = cgutils.unpack_tuple(builder, where_)
        *lengths, off = cgutils.unpack_tuple(builder, sides_)
        start = builder.add(builder.ptrtoint(starts_, I64), builder.mul(row, I64(8)))
        addresses = start, builder.add(start, builder.mul(apart, I64(8)))
        flags = padding.literal_value, mode.literal_value
        axes = [
            _StripAxis(emit, (*flags, off), *each, column)
            for each in zip(addresses, steps, lengths[::-1], strict=True)
        ]
        strip = _Strip(emit, axes, *flags)
        tame = builder.icmp_signed("!=", tame, ir.Constant(tame.type, 0))
        strip.store((slots_, slot, *slopes_), tame)
        return builder.zext(strip.touches(tame), I64)

    return types.int64(padding, mode, zero, starts, where, sides, memory), codegen


def load_slopes(emit, slopes, slot):
    """The slopes of the padding in x and in y, of the block with this slot."""
    b, vector = emit.builder, LANES * emit.bytes
    start = b.add(b.ptrtoint(slopes, I64), b.mul(slot, I64(2 * vector)))
    return [emit.load(b.add(start, I64(k * vector)), lanes(emit.real)) for k in range(2)]


class _Strip:
    """A strip's blocks."""

    def __init__(self, emit, axes, padding, mode):
        self.emit, self.axes, self.padding, self.mode = emit, axes, padding, mode
        self.ring = RINGS[mode]
        self.pitch = emit.builder.fadd(axes[0].last, emit.real(1.0 + 2 * self.ring))
        self.ends = [axis.ends() for axis in axes]

    def touches(self, tame):
        """Whether some block may have taps in the image."""
        emit, b = self.emit, self.emit.builder
        if self.padding != ZEROS:
            return I1(1)
        before, after = {NEAREST: (0, 0), BILINEAR: (0, 1), BICUBIC: (1, 2)}[self.mode]
        found = []
        for axis, (first, last) in zip(self.axes, self.ends, strict=True):
            end = emit.splat(b.fadd(axis.last, emit.real(float(before))), STRIP)
            found += [
                b.fcmp_ordered(">=", last, ir.Constant(last.type, [float(-after)] * STRIP)),
                b.fcmp_ordered("<=", first, end),
            ]
        return b.or_(b.icmp_unsigned("!=", self._bits(found), _NO_ROW), b.not_(tame))

    def _are_near(self):
        """Whether all coordinates are reflected at most once; in float64: not at all."""
        emit, b = self.emit, self.emit.builder
        once, found = emit.real != F64, []
        for axis, (first, last) in zip(self.axes, self.ends, strict=True):
            low = b.fsub(emit.real(1.0), axis.last) if once else emit.real(1.0)
            high = b.fadd(axis.last, axis.last) if once else axis.last
            found += [
                b.fcmp_ordered(">=", first, emit.splat(low, STRIP)),
                b.fcmp_ordered("<", last, emit.splat(b.fsub(high, emit.real(1.0)), STRIP)),
            ]
        return b.icmp_unsigned("==", self._bits(found), _EACH_ROW)

    def _bits(self, masks):
        """The bits of the rows for which all masks are true."""
        return self.emit.builder.bitcast(self.emit.all_of(*masks), _EACH_ROW.type)

    def store(self, memory, tame):
        """Store what all blocks need; ``memory`` is (slots, first slot[, memory for slopes])."""
        b = self.emit.builder
        quick = b.and_(tame, self._are_near()) if self.padding == REFLECTION else tame
        with b.if_else(quick, likely=True) as (then, otherwise):
            for case, parts in ((then, _StripAxis.near), (otherwise, _StripAxis.anywhere)):
                with case, cgutils.for_range(b, I64(STRIP)) as loop:
                    found = [parts(axis, loop.index) for axis in self.axes]
                    self._store_block(memory, loop.index, found)

    def _store_block(self, memory, k, parts):
        emit, b = self.emit, self.emit.builder
        (slots, first, *slopes), ((x, tx, x_slope), (y, ty, y_slope)) = memory, parts
        slot = Slot(emit, slots, b.add(first, k))
        # Whole numbers smaller than 2^24, and exact. The frame's first pixel is the origin.
        origin = b.fmul(b.fadd(self.pitch, emit.real(1.0)), emit.real(float(self.ring)))
        offsets = emit.call("fma", y, emit.splat(self.pitch), b.fadd(x, emit.splat(origin)))
        emit.store(b.fptosi(offsets, lanes(I32)), slot.offsets)
        if self.mode != NEAREST:
            emit.store(tx, slot.x)
            emit.store(ty, slot.y)
        if not slopes:
            return
        one, zero, vector = lanes(emit.real, 1.0), lanes(emit.real, 0.0), LANES * emit.bytes
        if self.padding == ZEROS:
            x_slope = y_slope = (b.and_(x_slope[0], y_slope[0]), None)
        address = b.add(b.ptrtoint(slopes[0], I64), b.mul(b.add(first, k), I64(2 * vector)))
        for number, (moving, reverses) in enumerate((x_slope, y_slope)):
            slope = one if reverses is None else b.select(reverses, lanes(emit.real, -1.0), one)
            emit.store(b.select(moving, slope, zero), b.add(address, I64(number * vector)))


# The bits of rows.
_NO_ROW, _EACH_ROW = (ir.Constant(ir.IntType(STRIP), bits) for bits in (0, -1))


class _StripAxis:
    """One coordinate of a strip's blocks: for each a whole number, and offsets from it.

    Taps are whole numbers of the type that computes.
    """

    def __init__(self, emit, flags, starts, step, size, column):
        b, kind = emit.builder, ir.VectorType(F64, STRIP)
        self.emit, (self.padding, self.mode, self.off) = emit, flags
        self.starts, self.long_step, self.column, self.size = starts, step, column, size
        self.last = b.sitofp(b.sub(size, I64(1)), emit.real)
        across = b.fmul(step, b.fadd(b.sitofp(column, F64), F64(float(MIDDLE))))
        middles = b.fadd(emit.load(starts, kind), emit.splat(across, STRIP))
        bases = base_of(emit, self.mode, middles)
        self.nears = emit.narrow(b.fsub(middles, bases))
        self.bases = emit.narrow(bases)
        self.step = emit.narrow(step)
        steps = lanes(emit.real, [float(k - MIDDLE) for k in range(LANES)])
        self.steps = b.fmul(emit.splat(self.step), steps)
        self.stored = [emit.spill(each) for each in (self.nears, self.bases)]

    def ends(self):
        """The least and the largest tap of each block: coordinates are monotonic in a row."""
        emit, b = self.emit, self.emit.builder
        taps = []
        for lane in (0, LANES - 1):
            far = b.fmul(self.step, emit.real(float(lane - MIDDLE)))
            taps.append(self._split(b.fadd(self.nears, emit.splat(far, STRIP)), self.bases)[0])
        rising = b.fcmp_ordered("<", *taps)
        return b.select(rising, *taps), b.select(rising, *taps[::-1])

    def _split(self, c, bases):
        """Taps and fractions."""
        emit, b = self.emit, self.emit.builder
        snap = ir.Constant(c.type, [SNAP] * c.type.count)
        c = b.fsub(b.fadd(c, snap), snap)
        if emit.real == F64:  # the definition is the rounded sum
            c = b.fadd(bases, c)
        low = tap_of(emit, self.mode, c)
        return low if emit.real == F64 else b.fadd(bases, low), b.fsub(c, low)

    def near(self, k):
        """Taps, fractions, and (where there is a slope, where it is -1), of row k's block.

        For coordinates that are small, and that are reflected at most once; in float64, not at all.
        """
        emit, b = self.emit, self.emit.builder
        near, base = (emit.splat(b.load(b.gep(at, [k]))) for at in self.stored)
        tap, fraction = self._split(b.fadd(near, self.steps), base)
        if self.padding == ZEROS:
            return self._near_zeros(tap, fraction)
        if self.padding == BORDER:
            return self._near_border(tap, fraction)
        if emit.real == F64:
            return tap, fraction, (lanes(I1, 1), None)
        tap, fraction, reverses = self._reflect_once(tap, fraction)
        if self.mode == BICUBIC:
            return tap, fraction, (lanes(I1, 1), reverses)
        tap, fraction, (moving, _) = self._near_border(tap, fraction)
        return tap, fraction, (moving, reverses)

    def _near_zeros(self, tap, fraction):
        emit, b = self.emit, self.emit.builder
        before = {NEAREST: 0.0, BILINEAR: -1.0, BICUBIC: -2.0}[self.mode]
        end = b.fadd(self.last, emit.real(1.0 if self.mode == BICUBIC else 0.0))
        some = b.and_(
            b.fcmp_ordered(">=", tap, lanes(emit.real, before)),
            b.fcmp_ordered("<=", tap, emit.splat(end)),
        )
        beyond = b.fadd(end, emit.real(1.0))
        return self._clamp(tap, float(FURTHEST[self.mode]), beyond), fraction, (some, None)

    def _near_border(self, tap, fraction):
        emit, b, none = self.emit, self.emit.builder, lanes(self.emit.real, 0.0)
        margin = 3.0 if self.mode == BICUBIC else 0.0
        low, high = lanes(emit.real, -margin), b.fadd(self.last, emit.real(margin))
        below, above = b.fcmp_ordered("<", tap, low), b.fcmp_ordered(">=", tap, emit.splat(high))
        fraction = b.select(b.or_(below, above), none, fraction)
        at_low = b.and_(b.fcmp_ordered("==", tap, low), b.fcmp_ordered("==", fraction, none))
        moving = b.not_(b.or_(b.or_(below, above), at_low))
        return self._clamp(tap, -margin, high), fraction, (moving, None)

    def _reflect_once(self, tap, fraction):
        """Mirror positions outside, each a whole number and a rest: the result is exact."""
        emit, b = self.emit, self.emit.builder
        zero, one, half = (lanes(emit.real, number) for number in (0.0, 1.0, 0.5))
        edge = b.fmul(emit.narrow(self.off), emit.real(0.5))
        low, high = b.fneg(edge), b.fadd(self.last, edge)
        c = b.fadd(tap, fraction)  # rounding does not take it across a mirror
        below, above = (
            b.fcmp_ordered(how, c, emit.splat(mirror)) for how, mirror in (("<", low), (">", high))
        )
        twice = b.select(below, *(emit.splat(b.fadd(each, each)) for each in (low, high)))
        whole, rest = b.fsub(twice, tap), b.fneg(fraction)
        if self.mode == NEAREST:  # halves go to the even neighbour
            tie = b.fcmp_ordered("==", emit.call("fabs", rest), half)
            even = b.fmul(
                lanes(emit.real, 2.0), emit.call("rint", b.fmul(b.fadd(whole, rest), half))
            )
            whole = b.select(tie, even, whole)
        else:
            split = b.fcmp_ordered("<", rest, zero)
            whole = b.select(split, b.fsub(whole, one), whole)
            rest = b.select(split, b.fadd(rest, one), zero)
        outside = b.or_(below, above)
        return b.select(outside, whole, tap), b.select(outside, rest, fraction), outside

    def _clamp(self, tap, low, high):
        b, low, high = self.emit.builder, lanes(self.emit.real, low), self.emit.splat(high)
        tap = b.select(b.fcmp_ordered(">", tap, low), tap, low)
        return b.select(b.fcmp_ordered("<", tap, high), tap, high)

    def anywhere(self, k):
        """The same for any coordinates, also NaN."""
        emit, b = self.emit, self.emit.builder
        start = b.load(b.gep(b.inttoptr(self.starts, F64.as_pointer()), [k]))
        even = self.mode == NEAREST
        c = affine_coordinate(emit, start, self.long_step, self.column, even)
        side = Side(emit, self.size, self.off, self.mode, self.padding)
        if self.padding == REFLECTION and self.mode == BICUBIC:
            (c, side.reverses), some = side.reflect(c, clip=False), None
        else:
            c, some = side.pad(c)
        tap = tap_of(emit, self.mode, c)
        fraction = emit.narrow(b.fsub(c, tap))
        if some is not None:
            tap = b.select(some, tap, lanes(F64, float(FURTHEST[self.mode])))
        return emit.narrow(tap), fraction, (side.sloped if some is None else some, side.reverses)
