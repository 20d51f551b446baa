"""A border block, some of whose taps may be outside the image: its coordinates and its taps."""

from ...math.padding import OUTSIDE
from ...math.sampler_kind import AFFINE, BILINEAR, BORDER, REFLECTION, ZEROS
from .padding import Side
from .positions import compute_positions
from .vectors import F64, I32, I64, lanes


class BorderBlock:
    """A border block at column j of a row, and what its function was called with.

    ``map`` is the row's map, and ``numbers`` are those that only some functions have.
    """

    def __init__(self, row, flags, map_, j, outside, numbers):
        self.row, self.map, self.j, self.numbers = row, map_, j, numbers
        self.source, self.padding = flags
        self.fill, self.off = outside
        self.affine = self.source == AFFINE

    def axes(self):
        """Its two axes, and the mask of the lanes that have taps; None if all have."""
        row, emit = self.row, self.row.emit
        where = (row.n, row.i, self.j)
        found = compute_positions(emit, self.source, row.coords, self.map, where)
        x, y = (
            Axis(emit, c, side, self.padding, self.off)
            for c, side in zip(found, (row.width, row.height), strict=True)
        )
        return x, y, emit.all_of(x.sloped, y.sloped) if self.padding == ZEROS else None


class Axis:
    """The lower tap and fraction of each lane along an axis, and the mask of those with a slope.

    A coordinate that is clipped has no slope. With zeros outside, one without taps has none.
    ``reverses`` is the mask of the lanes whose slope is -1 by reflection; it may be None.
    """

    def __init__(self, emit, c, side, padding, off):
        b, self.reverses = emit.builder, None
        if padding == REFLECTION:
            c, self.reverses = Side(emit, side, off, BILINEAR, padding).reflect(c)
        last = emit.splat(b.sitofp(b.sub(side, I64(1)), F64))
        zero = lanes(F64, 0.0)
        above, below = b.fcmp_ordered(">", c, zero), b.fcmp_ordered("<", c, last)
        self.sloped = emit.all_of(above, below)
        if padding == BORDER:
            c = b.select(above, c, zero)
            c = b.select(b.fcmp_ordered(">=", c, last), last, c)
        low = emit.call("floor", c)
        fraction = b.fsub(c, low)
        if padding not in (BORDER, REFLECTION):
            size = emit.splat(b.sitofp(side, F64))
            self.sloped = emit.all_of(
                b.fcmp_ordered(">=", c, lanes(F64, -1.0)), b.fcmp_ordered("<", c, size)
            )
            low = b.select(self.sloped, low, lanes(F64, float(OUTSIDE)))
            fraction = b.select(self.sloped, fraction, zero)
        self.index = b.fptosi(low, lanes(I32))
        self.fraction = emit.narrow(fraction)

    def times_slope(self, emit, gradient):
        """The gradient of a coordinate before padding, from that of the padded one."""
        b = emit.builder
        if self.reverses is not None:
            gradient = b.select(self.reverses, b.fneg(gradient), gradient)
        return b.select(self.sloped, gradient, lanes(F64, 0.0))


def weighted_fills(emit, fill, weights):
    """For each vector of weights, the values of missing taps: ``fill``, or 0 if the weight is 0.

    So a missing tap of weight 0 adds nothing, even if ``fill`` is infinite.
    """
    b, fill, zero = emit.builder, emit.splat(fill), lanes(emit.real, 0.0)
    return [b.select(b.fcmp_unordered("!=", each, zero), fill, zero) for each in weights]


def border_taps(row, x, y):
    """Function: a channel's address -> function: four vectors of fills -> those of the taps.

    Where there is no tap, its fill takes its place. Each lane loads two neighbours that exist, and
    selects from them what it should have read.
    """
    emit, b = row.emit, row.emit.builder
    width, height = (b.trunc(side, I32) for side in (row.width, row.height))
    one = lanes(I32, 1)
    columns = emit.clamp(x.index, I32(0), b.sub(width, I32(2)))
    shift = b.sub(x.index, columns)
    exact, left, right = (b.icmp_signed("==", shift, lanes(I32, k)) for k in (0, 1, -1))
    rows = []
    for index in (y.index, b.add(y.index, one)):
        clamped = emit.clamp(index, I32(0), b.sub(height, I32(1)))
        offsets = emit.spill(row.offsets(clamped, columns))
        rows.append((offsets, b.icmp_signed("==", clamped, index)))

    def load(start):
        base = emit.opaque(start)
        pairs = [
            emit.load_pairs([base], lambda k, own=offsets: emit.lane(own, k), row.images)
            for offsets, _ in rows
        ]

        def taps(fills):
            found = []
            for k, ((low, high), (_, exists)) in enumerate(zip(pairs, rows, strict=True)):
                fill_west, fill_east = fills[2 * k : 2 * k + 2]
                west = b.select(exact, low, b.select(left, high, fill_west))
                east = b.select(exact, high, b.select(right, low, fill_east))
                found += [b.select(exists, west, fill_west), b.select(exists, east, fill_east)]
            return found

        return taps

    return load


def clamped_taps(row, x, y, top, bottom):
    """Rows of the two taps in y and columns of the two in x, clamped to rows top to bottom - 1.

    Each comes with the mask of the lanes in which clamping changed nothing.
    """
    emit, b = row.emit, row.emit.builder
    one, last = lanes(I32, 1), b.sub(b.trunc(row.width, I32), I32(1))

    def taps(axis, low, high):
        found = []
        for index in (axis.index, b.add(axis.index, one)):
            clamped = emit.clamp(index, low, high)
            found.append((clamped, b.icmp_signed("==", clamped, index)))
        return found

    return taps(y, top, b.sub(bottom, I32(1))), taps(x, I32(0), last)
