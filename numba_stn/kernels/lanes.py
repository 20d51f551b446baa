"""A block: LANES neighbouring pixels of an output row, in LLVM vectors.

What it knows: where its pixels read (from a grid, or from a row's affine map), the lower tap and
the fraction on each axis, whether all taps are inside the image, and how to load the taps, with
care or without. What is done with them stands in :mod:`.block`.
"""

from .pixel import AFFINE, BORDER, OUTSIDE, REFLECTION, ZEROS
from .vectors import F64, I1, I32, I64, LANES, Emitter, Plane, lanes

# --- Where a block reads --------------------------------------------------------------------------


def _affine_points(emit, row, j):
    """Coordinates of the columns from j on, and the columns."""
    b = emit.builder
    numbers = lanes(F64, [float(k) for k in range(LANES)])
    columns = b.fadd(emit.splat(b.sitofp(j, F64)), numbers)
    start_x, step_x, start_y, step_y = (emit.splat(value) for value in row)
    x = b.fadd(start_x, b.fmul(step_x, columns))
    return x, b.fadd(start_y, b.fmul(step_y, columns)), columns


def _grid_points(emit, real, address, sides, off):
    """Coordinates that the grid holds from an address on, in pixels: :func:`.pixel.unnormalize`."""
    b = emit.builder
    kind, size = lanes(real), LANES * (8 if real == F64 else 4)
    halves = []
    for k in (0, 1):
        place = b.inttoptr(b.add(address, I64(k * size)), kind.as_pointer())
        halves.append(b.load(place))
        halves[-1].align = size // LANES
    points = []
    for c, side in zip(emit.apart(*halves), (sides[1], sides[0]), strict=True):
        wide = c if real == F64 else b.fpext(c, lanes(F64))
        span = b.fadd(b.sitofp(b.sub(side, I64(1)), F64), off)
        scaled = b.fmul(b.fadd(wide, lanes(F64, 1.0)), emit.splat(span))
        points.append(b.fmul(b.fsub(scaled, emit.splat(off)), lanes(F64, 0.5)))
    return points


class Axis:
    """One axis of a block: lower tap, fraction, and the lanes in which the coordinate counts."""

    def __init__(self, emit, c, side, padding):
        b = emit.builder
        self.side = side
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
        self.low = low
        self.index = b.fptosi(low, lanes(I32))
        self.fraction = fraction if emit.real == F64 else b.fptrunc(fraction, lanes(emit.real))
        # Both taps inside: 0 <= index < side - 1, in one unsigned comparison.
        highest = emit.splat(b.trunc(b.sub(side, I64(1)), I32))
        self.inside = b.icmp_unsigned("<", self.index, highest)


class Block:
    """LANES pixels from column j of an output row on: coordinates, fractions and weights."""

    def __init__(self, context, builder, types_, source, padding, arrays, row, off, where):
        images, coords, samples = types_
        self.emit = emit = Emitter(builder, context.get_value_type(images.dtype))
        size = context.get_value_type(coords.dtype)
        _, n, i, j = where
        self.images = Plane(context, builder, images, arrays[0], emit.bytes)
        self.samples = Plane(context, builder, samples, arrays[2], emit.bytes)
        self.where, self.columns, self.zeros = where, None, padding == ZEROS
        height, width = self.images.shape[2:]
        self.grid, self.coord, self.off = None, size, off
        if source == AFFINE:
            x, y, self.columns = _affine_points(emit, row, j)
        else:
            self.grid = Plane(context, builder, coords, arrays[1], 8 if size == F64 else 4)
            x, y = _grid_points(emit, size, self.grid.at(n, i, j, I64(0)), (height, width), off)
        self.x, self.y = Axis(emit, x, width, padding), Axis(emit, y, height, padding)
        self.inside = emit.every([self.x.inside, self.y.inside])
        if padding == REFLECTION:
            self.done = emit.every([self.x.sloped, self.y.sloped])
        else:
            self.done = I1(1)

    def coordinate(self, axis, k, rows):
        """Lane k's coordinate, or the one that the grid holds so many rows further on."""
        b = self.emit.builder
        if self.grid is None:
            return b.extract_element(axis.low, I32(k))
        _, n, i, j = self.where
        entry = I64(0 if axis is self.x else 1)
        address = self.grid.at(n, b.add(i, rows), b.add(j, I64(k)), entry)
        c = b.load(b.inttoptr(address, self.coord.as_pointer()))
        wide = c if self.coord == F64 else b.fpext(c, F64)
        span = b.fadd(b.sitofp(b.sub(axis.side, I64(1)), F64), self.off)
        return b.fmul(b.fsub(b.fmul(b.fadd(wide, F64(1.0)), span), self.off), F64(0.5))

    def weights(self):
        """The weights of :func:`.pixel.bilinear_weights`."""
        b, one = self.emit.builder, lanes(self.emit.real, 1.0)
        tx, ty = self.x.fraction, self.y.fraction
        sx, sy = b.fsub(one, tx), b.fsub(one, ty)
        return [b.fmul(p, q) for p, q in ((sx, sy), (tx, sy), (sx, ty), (tx, ty))]

    def offsets(self, rows, columns):
        """Each lane's pixel in its plane; in memory."""
        b = self.emit.builder
        width = self.emit.splat(b.trunc(self.x.side, I32))
        return self.emit.stored(b.add(b.mul(rows, width), columns))

    def first_pixel(self):
        """Address of the image's first pixel, in channel 0."""
        return self.images.at(self.where[0], I64(0), I64(0), I64(0))

    def first_sample(self):
        """Address of the block's first sample, in channel 0."""
        _, n, i, j = self.where
        return self.samples.at(n, I64(0), i, j)

    def pointer(self, address, k):
        """A pixel k to the right of an address, to load or store."""
        b = self.emit.builder
        place = b.add(address, I64(k * self.emit.bytes))
        return b.inttoptr(place, self.emit.real.as_pointer())

    def address(self, start, offset):
        """Address of a pixel in the plane that starts at ``start``."""
        b = self.emit.builder
        return b.add(start, b.mul(b.zext(offset, I64), I64(self.emit.bytes)))

    def channel(self, plane, c, first):
        """Address of channel c of an array whose block, or image, starts at ``first``."""
        b = self.emit.builder
        step = b.mul(plane.shape[2], plane.shape[3])
        return b.add(first, b.mul(b.mul(c, step), I64(self.emit.bytes)))

    def lanes_at(self, c):
        """Address of the block's own samples in channel c, as a vector's."""
        address = self.channel(self.samples, c, self.first_sample())
        return self.emit.builder.inttoptr(address, lanes(self.emit.real).as_pointer())


# --- The taps, where all are inside and where some are not ----------------------------------------


def _plain_taps(block):
    """For a channel's address, the four vectors of taps, all of which are inside."""
    emit, b = block.emit, block.emit.builder
    offsets = block.offsets(block.y.index, block.x.index)
    below = b.mul(block.x.side, I64(emit.bytes))

    def taps(start):
        return emit.pairs([start, b.add(start, below)], offsets)

    return taps


def _careful_taps(block, fill):
    """For a channel's address, the four vectors of taps, ``fill`` where there is none.

    Each lane loads two neighbours that exist, and takes from them what it should have read.
    """
    emit, b = block.emit, block.emit.builder
    width, height = (b.trunc(axis.side, I32) for axis in (block.x, block.y))
    one, fill = lanes(I32, 1), emit.splat(fill)
    columns = emit.clamp(block.x.index, I32(0), b.sub(width, I32(2)))
    shift = b.sub(block.x.index, columns)
    exact, left, right = (b.icmp_signed("==", shift, lanes(I32, k)) for k in (0, 1, -1))
    rows = []
    for index in (block.y.index, b.add(block.y.index, one)):
        row = emit.clamp(index, I32(0), b.sub(height, I32(1)))
        rows.append((block.offsets(row, columns), b.icmp_signed("==", row, index)))

    def taps(start):
        found = []
        for offsets, exists in rows:
            low, high = emit.pairs([start], offsets)
            west = b.select(exact, low, b.select(left, high, fill))
            east = b.select(exact, high, b.select(right, low, fill))
            found += [b.select(exists, west, fill), b.select(exists, east, fill)]
        return found

    return taps


def with_taps(block, fill, body):
    """Emit ``body(taps, touching)`` twice: for blocks that lie inside, and for the others.

    ``touching`` are the lanes that read a pixel at all; None stands for every lane.
    """
    with block.emit.builder.if_else(block.inside, likely=True) as (inside, rim):
        with inside:
            body(_plain_taps(block), None)
        with rim:
            touching = block.emit.both(block.x.sloped, block.y.sloped) if block.zeros else None
            body(_careful_taps(block, fill), touching)
