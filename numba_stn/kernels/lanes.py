"""A block: LANES neighbouring pixels of an output row, in LLVM vectors.

What it knows: where its pixels read (from a grid, or from a row's affine map), the lower tap and
the fraction on each axis, whether all taps are inside the image, and how to load the taps. What is
done with them stands in :mod:`.block`.
"""

from dataclasses import dataclass

from llvmlite.ir import Value
from numba.core import cgutils

from .pixel import AFFINE, BORDER, MIDDLE, OUTSIDE, REFLECTION, ZEROS
from .vectors import F64, I32, I64, LANES, Emitter, Plane, lanes

# --- One axis, where all taps are inside and where some are not ---------------------------------


@dataclass
class Inner:
    """An axis of lanes whose taps are inside: lower tap, and fraction towards the upper one."""

    index: Value
    fraction: Value


def _inner(emit, c, low):
    """An axis from coordinates inside and what they are rounded down to."""
    b = emit.builder
    return Inner(b.fptosi(low, lanes(I32)), emit.narrow(b.fsub(c, low)))


class Axis:
    """An axis of any lanes: lower tap, fraction, and the lanes in which the coordinate counts."""

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


# --- A block: where it reads ----------------------------------------------------------------------


class Block:
    """LANES pixels from column j of an output row on: what they read, and where they stand.

    ``inside`` says whether all their taps are inside the image, and whether no coordinate is
    brought inside by its padding; then :meth:`inner` gives the axes, else :meth:`outer` does.
    """

    def __init__(self, context, builder, source, padding, kinds, arrays, row, where):
        self.emit = Emitter(builder, context.get_value_type(kinds[0].dtype))
        self.images = Plane(context, builder, kinds[0], arrays[0])
        self.samples = Plane(context, builder, kinds[2], arrays[2])
        self.padding, self.where = padding, where
        self.height, self.width = self.images.shape[2:]
        # At 0 a coordinate that is clipped has no slope.
        self.lowest = F64(0.0 if padding == ZEROS else 1.0)
        if source == AFFINE:
            self._along_row(row)
        else:
            self._from_grid(Plane(context, builder, kinds[1], arrays[1]), row)

    # --- Coordinates ------------------------------------------------------------------------------

    def _along_row(self, row):
        """Coordinates of an affine row: :func:`.pixel.along_row`.

        They rise or fall along the row, so the two ends tell whether all are inside.
        """
        emit, b = self.emit, self.emit.builder
        first = b.sitofp(self.where[3], F64)
        middle = b.fadd(first, F64(float(MIDDLE)))
        steps = lanes(emit.real, [float(k - MIDDLE) for k in range(LANES)])
        self.columns = b.fadd(emit.splat(first), lanes(F64, [float(k) for k in range(LANES)]))
        self._bases, self._offsets, checks = [], [], []
        for start, step, side in ((*row[:2], self.width), (*row[2:], self.height)):
            place = b.fadd(start, b.fmul(step, middle))
            base = emit.number("floor", place)
            near, stride = emit.narrow(b.fsub(place, base)), emit.narrow(step)
            near = b.select(b.fcmp_unordered("uno", near, near), emit.real(0.0), near)
            last = b.sitofp(b.sub(side, I64(1)), F64)
            for k in (-MIDDLE, LANES - 1 - MIDDLE):
                end = b.fadd(near, b.fmul(stride, emit.real(float(k))))
                end = b.fadd(base, emit.widen(end))
                checks.append(b.fcmp_ordered(">=", end, self.lowest))
                checks.append(b.fcmp_ordered("<", end, last))
            self._bases.append(base)
            self._offsets.append(b.fadd(emit.splat(near), b.fmul(emit.splat(stride), steps)))
        self.inside = emit.both(*checks)
        self.inner, self._coordinates = self._inner_of_row, self._coordinates_of_row

    def _inner_of_row(self):
        emit, b = self.emit, self.emit.builder
        if emit.real == F64:  # the sum of base and offset is rounded, and that is what counts
            return [_inner(emit, c, emit.call("floor", c)) for c in self._coordinates_of_row()]
        axes = []
        for base, offsets in zip(self._bases, self._offsets, strict=True):
            axis = _inner(emit, offsets, emit.call("floor", offsets))
            axis.index = b.add(axis.index, emit.splat(b.fptosi(base, I32)))
            axes.append(axis)
        return axes

    def _coordinates_of_row(self):
        emit, b = self.emit, self.emit.builder
        return [
            b.fadd(emit.splat(base), emit.widen(offsets))
            for base, offsets in zip(self._bases, self._offsets, strict=True)
        ]

    def _from_grid(self, grid, row):
        """Coordinates that the grid holds: :func:`.pixel.unnormalize`."""
        emit, b = self.emit, self.emit.builder
        _, n, i, j = self.where
        self.scales = row[1::2]
        address, size = grid.at(n, i, j, I64(0)), LANES * grid.bytes
        halves = [emit.load(b.add(address, I64(k * size)), lanes(grid.kind)) for k in (0, 1)]
        self._wide, self._lows, checks = [], [], []
        for c, start, step, side in zip(
            emit.apart(*halves), row[::2], row[1::2], (self.width, self.height), strict=True
        ):
            wide = b.fadd(emit.splat(start), b.fmul(emit.splat(step), emit.widen(c)))
            low = emit.call("floor", wide)
            last = emit.splat(b.sitofp(b.sub(side, I64(1)), F64))
            checks.append(b.fcmp_ordered(">=", low, emit.splat(self.lowest)))
            checks.append(b.fcmp_ordered("<", low, last))
            self._wide.append(wide)
            self._lows.append(low)
        self.inside = emit.every(checks)
        self.inner, self._coordinates = self._inner_of_grid, lambda: self._wide

    def _inner_of_grid(self):
        return [_inner(self.emit, *pair) for pair in zip(self._wide, self._lows, strict=True)]

    def outer(self):
        """The axes x and y, with whatever care they need."""
        sides = (self.width, self.height)
        return [
            Axis(self.emit, c, side, self.padding)
            for c, side in zip(self._coordinates(), sides, strict=True)
        ]

    # --- Addresses --------------------------------------------------------------------------------

    def first_pixel(self):
        """Address of the image's first pixel, in channel 0."""
        return self.images.at(self.where[0], I64(0), I64(0), I64(0))

    def first_sample(self):
        """Address of the block's first sample, in channel 0."""
        _, n, i, j = self.where
        return self.samples.at(n, I64(0), i, j)

    def channel(self, plane, c, first):
        """Address of channel c of an array whose block, or image, starts at ``first``."""
        b = self.emit.builder
        step = b.mul(plane.shape[2], plane.shape[3])
        return b.add(first, b.mul(b.mul(c, step), I64(self.emit.bytes)))

    def each_channel(self):
        """Loop over the channels: the addresses of a channel's image and of its samples."""
        b = self.emit.builder
        image, sample = self.first_pixel(), self.first_sample()
        with cgutils.for_range(b, self.images.shape[1]) as loop:
            yield (
                self.channel(self.images, loop.index, image),
                self.channel(self.samples, loop.index, sample),
            )

    def offsets(self, rows, columns):
        """Each lane's pixel in its plane, in elements; in memory."""
        b = self.emit.builder
        width = self.emit.splat(b.trunc(self.width, I32))
        return self.emit.stored(b.add(b.mul(rows, width), columns))

    def address(self, start, offset):
        """Address of a pixel in the plane that starts at ``start``."""
        b = self.emit.builder
        return b.add(start, b.mul(b.sext(offset, I64), I64(self.emit.bytes)))

    def pointer(self, address, k):
        """A pixel k to the right of an address, to load or store."""
        b = self.emit.builder
        place = b.add(address, I64(k * self.emit.bytes))
        return b.inttoptr(place, self.emit.real.as_pointer())

    def below(self, address):
        """Address of the pixel below."""
        b = self.emit.builder
        return b.add(address, b.mul(self.width, I64(self.emit.bytes)))


def weights(emit, x, y):
    """The weights of :func:`.pixel.bilinear_weights`."""
    b, one = emit.builder, lanes(emit.real, 1.0)
    sx, sy = b.fsub(one, x.fraction), b.fsub(one, y.fraction)
    return [
        b.fmul(p, q)
        for p, q in ((sx, sy), (x.fraction, sy), (sx, y.fraction), (x.fraction, y.fraction))
    ]


# --- The taps -------------------------------------------------------------------------------------


def inner_taps(block, x, y, ahead):
    """For a channel's address, the four vectors of taps, all of which are inside.

    What a later row will read is asked for: it is ``ahead`` elements away, where that is known.
    """
    emit, b = block.emit, block.emit.builder
    offsets = block.offsets(y.index, x.index)

    def taps(start):
        if ahead is not None:
            far = b.add(start, b.mul(ahead, I64(emit.bytes)))
            for k in range(0, LANES, LANES // 2):
                emit.prefetch(block.address(far, emit.lane(offsets, k)))
        return emit.pairs([start, block.below(start)], offsets)

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
