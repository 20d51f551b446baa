"""A block: LANES neighbouring pixels of an output row, in LLVM vectors.

A row is worked through in two steps, a few blocks at a time. First :func:`place` finds where each
block reads (from a grid, or from a row's affine map), and leaves in a workspace the lower taps'
offsets and the fractions, and whether all taps are inside the image. Then the functions of
:mod:`.block` load the taps and use them. In one step the processor would wait: a block's chain
from its coordinates to its samples is longer than what it can look ahead.
"""

import contextlib

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .pixel import AFFINE, BORDER, GRID, MIDDLE, OUTSIDE, PROJECTIVE, REFLECTION, SNAP, ZEROS
from .vectors import F64, I8, I32, I64, LANES, Emitter, Plane, lanes

# Blocks that a workspace has room for.
SLOTS = 8

# A tile's rows of a grid lie too far apart for the processor to foresee the next one.
GRID_ROWS_AHEAD = 4

# Bytes of a line of the cache.
LINE = 64


@intrinsic(prefer_literal=True)
def memory(typingctx, size):
    """So many bytes on the stack of the function that asks for them."""
    if not isinstance(size, types.IntegerLiteral):
        return None

    def codegen(context, builder, signature, args):
        kind = ir.ArrayType(lanes(I64), -(-size.literal_value // (LANES * 8)))
        return builder.bitcast(cgutils.alloca_once(builder, kind), I8.as_pointer())

    return types.voidptr(size), codegen


# Bytes of a workspace: for each slot the offsets and fractions, and a line for the flag.
WORKSPACE = SLOTS * (2 * LANES * 8 + LANES * 4 + 64)


class Slot:
    """A block's place in the workspace."""

    def __init__(self, emit, start, number):
        b, vector = emit.builder, LANES * emit.bytes
        size = 2 * vector + LANES * 4 + 64
        self.emit = emit
        self.flag = b.add(b.ptrtoint(start, I64), b.mul(number, I64(size)))
        self.offsets = b.add(self.flag, I64(64))
        self.x, self.y = (b.add(self.offsets, I64(LANES * 4 + k * vector)) for k in (0, 1))

    def mark(self, kind):
        """Say that the block is RIM, INSIDE or BEYOND."""
        b = self.emit.builder
        b.store(kind, b.inttoptr(self.flag, I8.as_pointer()))

    def kind(self):
        """RIM, INSIDE or BEYOND."""
        b = self.emit.builder
        return b.load(b.inttoptr(self.flag, I8.as_pointer()))

    def fractions(self):
        """Fractions in x and in y."""
        kind = lanes(self.emit.real)
        return [self.emit.load(address, kind) for address in (self.x, self.y)]

    def offset(self, k):
        """How many elements the lower tap of lane k is from the image's first."""
        b = self.emit.builder
        place = b.inttoptr(self.offsets, I32.as_pointer())
        return self.emit.lane(place, k)


# --- Where the pixels of a block stand ------------------------------------------------------------


class Block:
    """LANES pixels from column j of an output row on; ``where`` starts with (m, n, i, j)."""

    def __init__(self, context, builder, padding, kinds, values, where):
        self.emit = Emitter(builder, context.get_value_type(kinds[0].dtype))
        planes = [
            Plane(context, builder, kind, value) for kind, value in zip(kinds, values, strict=True)
        ]
        self.images, self.coords, *self.others = planes
        self.padding, self.where = padding, where
        self.channels = (I64(0), self.images.shape[1])  # first, and last + 1
        self.height, self.width = self.images.shape[2:]

    def first_pixel(self):
        """Address of the image's first pixel, in channel 0."""
        return self.images.at(self.where[0], I64(0), I64(0), I64(0))

    def first_sample(self):
        """Address of the block's first sample, in channel 0."""
        _, n, i, j = self.where
        return self.others[0].at(n, I64(0), i, j)

    @contextlib.contextmanager
    def each_channel(self):
        """Loop over the channels: the addresses of a channel's image and of its samples."""
        b = self.emit.builder
        image, sample = self.first_pixel(), self.first_sample()
        first, last = self.channels
        with cgutils.for_range(b, b.sub(last, first)) as loop:
            c = b.add(first, loop.index)
            yield self.channel(self.images, c, image), self.channel(self.others[0], c, sample)

    def channel(self, plane, c, first):
        """Address of channel c of an array whose block, or image, starts at ``first``."""
        b = self.emit.builder
        step = b.mul(plane.shape[2], plane.shape[3])
        return b.add(first, b.mul(b.mul(c, step), I64(self.emit.bytes)))

    def offsets(self, rows, columns):
        """Each lane's pixel in its plane, in elements."""
        b = self.emit.builder
        width = self.emit.splat(b.trunc(self.width, I32))
        return b.add(b.mul(rows, width), columns)

    def address(self, start, offset):
        """Address of a pixel in the plane that starts at ``start``."""
        b = self.emit.builder
        return b.add(start, b.mul(b.zext(offset, I64), I64(self.emit.bytes)))

    def pointer(self, address, k):
        """A pixel k to the right of an address, to load or store."""
        b = self.emit.builder
        place = b.add(address, I64(k * self.emit.bytes))
        return b.inttoptr(place, self.emit.real.as_pointer())

    def below(self, address):
        """Address of the pixel below."""
        b = self.emit.builder
        return b.add(address, b.mul(self.width, I64(self.emit.bytes)))


# --- Where they read ------------------------------------------------------------------------------


def _along(emit, start, step, j):
    """A coordinate of an affine row, a whole number and offsets: :func:`.pixel.along_row`."""
    b = emit.builder
    place = b.fadd(start, b.fmul(step, b.fadd(b.sitofp(j, F64), F64(float(MIDDLE)))))
    base = emit.number("floor", place)
    near, step = emit.narrow(b.fsub(place, base)), emit.narrow(step)
    near = b.select(b.fcmp_unordered("uno", near, near), emit.real(0.0), near)
    steps = lanes(emit.real, [float(k - MIDDLE) for k in range(LANES)])
    offsets = b.fadd(emit.splat(near), b.fmul(emit.splat(step), steps))
    snap = lanes(emit.real, SNAP)
    return base, b.fsub(b.fadd(offsets, snap), snap)


def _from_grid(emit, grid, where, row):
    """Coordinates that a grid holds: :func:`.pixel.unnormalize`."""
    b = emit.builder
    n, i, j = where
    address, size = grid.at(n, i, j, I64(0)), LANES * grid.bytes
    halves = [emit.load(b.add(address, I64(k * size)), lanes(grid.kind)) for k in (0, 1)]
    return [
        b.fadd(emit.splat(start), b.fmul(emit.splat(step), emit.widen(c)))
        for c, start, step in zip(emit.apart(*halves), row[::2], row[1::2], strict=True)
    ]


def _projected(emit, row, j):
    """Coordinates of a projective row: each a quotient of two that are linear."""
    b = emit.builder
    columns = b.fadd(emit.splat(b.sitofp(j, F64)), lanes(F64, [float(k) for k in range(LANES)]))
    x, y, w = (
        b.fadd(emit.splat(start), b.fmul(emit.splat(step), columns))
        for start, step in (row[:2], row[2:4], row[4:])
    )
    return [b.fdiv(x, w), b.fdiv(y, w)]


def coordinates(emit, source, coords, row, where):
    """Coordinates x and y of every lane, in float64; ``where`` is (n, i, j)."""
    b = emit.builder
    if source == GRID:
        return _from_grid(emit, coords, where, row)
    if source == PROJECTIVE:
        return _projected(emit, row, where[2])
    found = [_along(emit, start, step, where[2]) for start, step in (row[:2], row[2:4])]
    return [b.fadd(emit.splat(base), emit.widen(offsets)) for base, offsets in found]


# What a placed block is: some taps inside and some not, all of them inside, or none.
RIM, INSIDE, BEYOND = 0, 1, 2


@intrinsic(prefer_literal=True)
def place(typingctx, source, padding, fill, coords, row, limits, where, slots):
    """Find where a block reads, and leave it in the workspace.

    ``where`` is (n, i, j, slot) for samples n, row i, column j on. ``limits`` are, of an affine
    row, the columns from which on and up to which all taps are inside, and those between which
    there are any; of others, the first row and the last + 1 that taps may be in, the last + 1
    column that they may be in, and the image's width. Behind them comes the image's width.
    Fractions are of ``fill``'s type.
    """
    if not all(isinstance(flag, types.IntegerLiteral) for flag in (source, padding)):
        return None

    def codegen(context, builder, signature, args):
        value, row_, limits_, where_ = args[3], *(
            cgutils.unpack_tuple(builder, packed) for packed in args[4:7]
        )  # fmt: skip
        emit = Emitter(builder, context.get_value_type(fill))
        slot = Slot(emit, args[7], where_[3])
        if source.literal_value == AFFINE:
            _place_along(emit, row_, limits_, where_[2], slot)
        else:
            grid = Plane(context, builder, coords, value)
            if source.literal_value == GRID:
                _fetch_grid(emit, grid, where_)
            found = coordinates(emit, source.literal_value, grid, row_, where_[:3])
            _place_anywhere(emit, padding.literal_value, found, limits_, slot)
        return context.get_dummy_value()

    return types.void(source, padding, fill, coords, row, limits, where, slots), codegen


def _fetch_grid(emit, grid, where):
    """Ask for the lines of a grid that a later row of the tile has at these columns."""
    b, (n, i, j, _) = emit.builder, where
    later = grid.at(n, b.add(i, I64(GRID_ROWS_AHEAD)), j, I64(0))
    for line in range(0, 2 * LANES * grid.bytes, LINE):
        emit.prefetch(b.add(later, I64(line)))


def _place_along(emit, row, limits, j, slot):
    """Place a block of an affine row, whose limits say what it is."""
    b = emit.builder
    end = b.add(j, I64(LANES))
    first, last, left, right, width = limits
    inside = b.and_(b.icmp_signed(">=", j, first), b.icmp_signed("<=", end, last))
    near = b.and_(b.icmp_signed("<", j, right), b.icmp_signed(">", end, left))
    slot.mark(b.select(inside, I8(INSIDE), b.select(near, I8(RIM), I8(BEYOND))))
    with b.if_then(inside, likely=True):
        inner = []
        for start, step in (row[:2], row[2:4]):
            base, offsets = _along(emit, start, step, j)
            if emit.real == F64:  # the sum is rounded, and that is what counts
                base, offsets = None, b.fadd(emit.splat(base), offsets)
            inner.append((base, offsets, emit.call("floor", offsets)))
        _leave(emit, inner, width, slot)


def _place_anywhere(emit, padding, found, limits, slot):
    """Place a block whose coordinates may be anything."""
    b = emit.builder
    # A coordinate that is clipped, 0 too, has no slope, and is left to the outer half.
    least = F64(0.0 if padding == ZEROS else 1.0)
    top, bottom, right = (b.sitofp(limit, F64) for limit in limits[:3])
    spans = ((least, right), (emit.number("maxnum", least, top), bottom))
    inside = emit.every([
        check for c, (low, high) in zip(found, spans, strict=True)
        for check in (b.fcmp_ordered(">=", c, emit.splat(low)),
                      b.fcmp_ordered("<", c, emit.splat(b.fsub(high, F64(1.0)))))
    ])  # fmt: skip
    slot.mark(b.select(inside, I8(INSIDE), I8(RIM)))
    with b.if_then(inside, likely=True):
        _leave(emit, [(None, c, emit.call("floor", c)) for c in found], limits[4], slot)


def _leave(emit, inner, width, slot):
    """Leave the fractions and the offsets of lower taps that are inside.

    A coordinate is a whole number, or None, a number of each lane, and that rounded down.
    """
    b, taps = emit.builder, []
    for (base, c, low), address in zip(inner, (slot.x, slot.y), strict=True):
        index = b.fptosi(low, lanes(I32))
        taps.append(index if base is None else b.add(index, emit.splat(b.fptosi(base, I32))))
        emit.store(emit.narrow(b.fsub(c, low)), address)
    pitch = emit.splat(b.trunc(width, I32))
    emit.store(b.add(b.mul(taps[1], pitch), taps[0]), slot.offsets)


@intrinsic
def fetch(typingctx, images, where, slots):
    """Ask for what a placed block will read: the lines of every fourth lane's upper taps.

    ``where`` is (m, c, end, slot): from channels c to end - 1 of image m.
    """

    def codegen(context, builder, signature, args):
        plane = Plane(context, builder, images, args[0])
        emit = Emitter(builder, plane.kind)
        m, first, last, number = cgutils.unpack_tuple(builder, args[1])
        slot = Slot(emit, args[2], number)
        inside = builder.icmp_unsigned("==", slot.kind(), I8(INSIDE))
        count = builder.sub(last, first)
        with builder.if_then(inside), cgutils.for_range(builder, count) as loop:
            start = plane.at(m, builder.add(first, loop.index), I64(0), I64(0))
            for k in range(0, LANES, 4):
                far = builder.mul(builder.zext(slot.offset(k), I64), I64(plane.bytes))
                emit.prefetch(builder.add(start, far))
        return context.get_dummy_value()

    return types.void(images, where, slots), codegen


# --- The axes of a block that needs care ----------------------------------------------------------


class Axis:
    """Lower tap, fraction, and the lanes in which the coordinate counts."""

    def __init__(self, emit, c, side, padding):
        b = emit.builder
        last = emit.splat(b.sitofp(b.sub(side, I64(1)), F64))
        zero = lanes(F64, 0.0)
        above, below = b.fcmp_ordered(">", c, zero), b.fcmp_ordered("<", c, last)
        self.sloped = emit.both(above, below)
        if padding == BORDER:
            c = b.select(above, c, zero)
            c = b.select(b.fcmp_ordered(">=", c, last), last, c)
        low = emit.call("floor", c)
        fraction = b.fsub(c, low)
        if padding not in (BORDER, REFLECTION):
            size = emit.splat(b.sitofp(side, F64))
            self.sloped = emit.both(
                b.fcmp_ordered(">=", c, lanes(F64, -1.0)), b.fcmp_ordered("<", c, size)
            )
            low = b.select(self.sloped, low, lanes(F64, float(OUTSIDE)))
            fraction = b.select(self.sloped, fraction, zero)
        self.index = b.fptosi(low, lanes(I32))
        self.fraction = emit.narrow(fraction)


# --- Taps and weights -----------------------------------------------------------------------------


def weights(emit, tx, ty):
    """The weights of :func:`.pixel.bilinear_weights`."""
    b, one = emit.builder, lanes(emit.real, 1.0)
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)
    return [b.fmul(p, q) for p, q in ((sx, sy), (tx, sy), (sx, ty), (tx, ty))]


def inner_taps(block, slot, ahead):
    """For a channel's address, the four vectors of taps, all of which are inside.

    What an affine row further down will read is asked for: it is ``ahead`` elements away.
    """
    emit, b = block.emit, block.emit.builder

    def taps(start):
        if ahead is not None:
            far = b.add(start, b.mul(ahead, I64(emit.bytes)))
            for k in range(0, LANES, LANES // 2):
                emit.prefetch(block.address(far, slot.offset(k)))
        return emit.pairs([start, block.below(start)], slot.offset, block.images)

    return taps


def outer_taps(block, x, y, fill):
    """For a channel's address, the four vectors of taps, ``fill`` where there is none.

    Each lane loads two neighbours that exist, and takes from them what it should have read.
    """
    emit, b = block.emit, block.emit.builder
    width, height = (b.trunc(side, I32) for side in (block.width, block.height))
    one, fill = lanes(I32, 1), emit.splat(fill)
    columns = emit.clamp(x.index, I32(0), b.sub(width, I32(2)))
    shift = b.sub(x.index, columns)
    exact, left, right = (b.icmp_signed("==", shift, lanes(I32, k)) for k in (0, 1, -1))
    rows = []
    for index in (y.index, b.add(y.index, one)):
        row = emit.clamp(index, I32(0), b.sub(height, I32(1)))
        offsets = emit.stored(block.offsets(row, columns))
        rows.append((offsets, b.icmp_signed("==", row, index)))

    def taps(start):
        found = []
        for offsets, exists in rows:
            low, high = emit.pairs([start], lambda k, own=offsets: emit.lane(own, k), block.images)
            west = b.select(exact, low, b.select(left, high, fill))
            east = b.select(exact, high, b.select(right, low, fill))
            found += [b.select(exists, west, fill), b.select(exists, east, fill)]
        return found

    return taps
