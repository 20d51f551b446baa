"""Blocks of pixels and what they read: images as addresses, axes, taps and weights.

A block is LANES neighbouring pixels of an output row, in LLVM vectors.
"""

import contextlib

from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.coordinates import BORDER, OUTSIDE, REFLECTION
from .addresses import SLOTS, Slot, column_of
from .vectors import F64, I32, I64, LANES, Emitter, Plane, lanes

# --- Where the pixels of a row stand --------------------------------------------------------------


class Row:
    """An output row: row i of samples n, which read image m; ``where`` is (m, n, i)."""

    def __init__(self, context, builder, kinds, values, where):
        self.emit = Emitter(builder, context.get_value_type(kinds[0].dtype))
        planes = [
            Plane(context, builder, kind, value) for kind, value in zip(kinds, values, strict=True)
        ]
        self.images, self.coords, *self.others = planes
        self.m, self.n, self.i = where
        self.channels = (I64(0), self.images.shape[1])  # first, and last + 1
        self.height, self.width = self.images.shape[2:]

    @contextlib.contextmanager
    def each_channel(self, j):
        """Loop over the channels: the addresses of a channel's image and of its sample j."""
        b = self.emit.builder
        image = self.images.at(self.m, I64(0), I64(0), I64(0))
        sample = self.others[0].at(self.n, I64(0), self.i, j)
        first, last = self.channels
        with cgutils.for_range(b, b.sub(last, first)) as loop:
            self.channel = c = b.add(first, loop.index)
            yield self._plane(self.images, c, image), self._plane(self.others[0], c, sample)

    def _plane(self, plane, c, first):
        """Address of channel c of an array whose row, or image, starts at ``first``."""
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

    def rows(self, image):
        """A plane's first two rows as bases of taps."""
        return [self.emit.hidden(start) for start in (image, self.below(image))]


class Run:
    """Neighbouring blocks that are placed: ``where`` is (block, how many, slot, columns)."""

    def __init__(self, emit, where, slots):
        self.emit, self.slots = emit, slots
        self.first, self.count, self.slot, self.columns = where

    @contextlib.contextmanager
    def each_block(self):
        """Loop over the blocks: a block's slot and its first column."""
        b = self.emit.builder
        with cgutils.for_range(b, self.count) as loop:
            slot = Slot(self.emit, self.slots, b.add(self.slot, loop.index))
            self.block = b.add(self.first, loop.index)
            yield slot, column_of(self.emit, self.block, self.columns)

    def repeated(self, j):
        """How many pixels of the block at column j the block before it has, too."""
        b = self.emit.builder
        return b.sub(b.mul(self.block, I64(LANES)), j)


@intrinsic
def prefetch_taps(typingctx, line, real, where, slots):
    """Ask for what placed blocks will read: the lines of every fourth lane's upper taps.

    ``line`` has the images' elements, ``real`` is a number of the type that computes. ``where`` is
    (first, planes, step, colours, placed): of so many planes from element ``first`` on, ``step``
    elements apart, whose pixels have so many, for the slots whose bits are set.
    """

    def codegen(context, builder, signature, args):
        line_, _, where_, slots_ = args
        plane = Plane(context, builder, line, line_)
        emit = Emitter(builder, context.get_value_type(real))
        first, planes, step, colours, placed = cgutils.unpack_tuple(builder, where_)
        size = builder.mul(colours, I64(plane.bytes))
        with cgutils.for_range(builder, I64(2 * SLOTS)) as each:
            bit = builder.and_(builder.lshr(placed, each.index), I64(1))
            slot = Slot(emit, slots_, each.index)
            with cgutils.for_range(builder, builder.mul(bit, planes)) as loop:
                start = plane.at(builder.add(first, builder.mul(loop.index, step)))
                for k in range(0, LANES, 4):
                    far = builder.mul(builder.zext(slot.offset(k), I64), size)
                    emit.prefetch(builder.add(start, far))
        return context.get_dummy_value()

    return types.void(line, real, where, slots), codegen


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
    """The weights of :func:`.coordinates.bilinear_weights`."""
    b, one = emit.builder, lanes(emit.real, 1.0)
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)
    return [b.fmul(p, q) for p, q in ((sx, sy), (tx, sy), (sx, ty), (tx, ty))]


def prefetch_ahead(row, image, slot, ahead):
    """Ask for what an affine row further down will read, ``ahead`` elements away."""
    b = row.emit.builder
    far = b.add(image, b.mul(ahead, I64(row.emit.bytes)))
    for k in range(0, LANES, LANES // 2):
        row.emit.prefetch(row.address(far, slot.offset(k)))


def border_taps(row, x, y, fill):
    """For a channel's address, the four vectors of taps, ``fill`` where there is none.

    Each lane loads two neighbours that exist, and takes from them what it should have read.
    """
    emit, b = row.emit, row.emit.builder
    width, height = (b.trunc(side, I32) for side in (row.width, row.height))
    one, fill = lanes(I32, 1), emit.splat(fill)
    columns = emit.clamp(x.index, I32(0), b.sub(width, I32(2)))
    shift = b.sub(x.index, columns)
    exact, left, right = (b.icmp_signed("==", shift, lanes(I32, k)) for k in (0, 1, -1))
    rows = []
    for index in (y.index, b.add(y.index, one)):
        found = emit.clamp(index, I32(0), b.sub(height, I32(1)))
        offsets = emit.stored(row.offsets(found, columns))
        rows.append((offsets, b.icmp_signed("==", found, index)))

    def taps(start):
        found = []
        base = emit.hidden(start)
        for offsets, exists in rows:
            low, high = emit.pairs([base], lambda k, own=offsets: emit.lane(own, k), row.images)
            west = b.select(exact, low, b.select(left, high, fill))
            east = b.select(exact, high, b.select(right, low, fill))
            found += [b.select(exists, west, fill), b.select(exists, east, fill)]
        return found

    return taps
