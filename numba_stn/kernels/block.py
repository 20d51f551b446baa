"""The fast path of bilinear sampling: a block of pixels at a time, in LLVM vectors.

Numba compiles a loop over gathered pixels to one scalar after another. Here a block of LANES
pixels of one output row is written out as LLVM vectors, through
:func:`numba.extending.intrinsic`: coordinates in float64, then for each pixel two loads of two
neighbours each, shuffled into the four vectors of taps, and blended. LLVM makes AVX-512, AVX2 or
NEON of it.

The operations and their order are those of :mod:`.pixel`, so a block gives the bits of the scalar
code in :mod:`.cpu`, which remains for what a block does not do: reflection beyond the edges,
images of one column, and planes of 2^31 pixels.
"""

from llvmlite.ir import IntType
from numba.core import cgutils, types
from numba.extending import intrinsic

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


def _with_taps(block, fill, body):
    """Emit ``body(taps, touching)`` twice: for blocks that lie inside, and for the others.

    ``touching`` are the lanes that read a pixel at all; None stands for every lane.
    """
    with block.emit.builder.if_else(block.inside, likely=True) as (inside, rim):
        with inside:
            body(_plain_taps(block), None)
        with rim:
            touching = block.emit.both(block.x.sloped, block.y.sloped) if block.zeros else None
            body(_careful_taps(block, fill), touching)


# --- What the loops of cpu.py call ----------------------------------------------------------------


def _literal(*kinds):
    return all(isinstance(kind, types.IntegerLiteral) for kind in kinds)


@intrinsic(prefer_literal=True)
def sample_block(typingctx, source, padding, images, coords, row, ahead, off, fill, samples, where):
    """Sample LANES pixels of a row, from ``where`` = (m, n, i, j) on; whether it was done.

    ``m`` is the image that row i of samples n reads, and ``row`` its map. What a later row will
    read is fetched into the cache: it is so many pixels ``ahead`` in x and in y, or the grid has
    its coordinates so many rows ahead.
    """
    if not _literal(source, padding):
        return None
    signature = types.boolean(
        source, padding, images, coords, row, ahead, off, fill, samples, where
    )

    def codegen(context, builder, signature, args):
        _, _, image, coord, row_, ahead_, off_, fill_, sample, where_ = args
        block = Block(
            context, builder, (images, coords, samples), source.literal_value,
            padding.literal_value, (image, coord, sample),
            cgutils.unpack_tuple(builder, row_), off_, cgutils.unpack_tuple(builder, where_),
        )  # fmt: skip
        with builder.if_then(block.done, likely=True):
            _fetch(block, *cgutils.unpack_tuple(builder, ahead_))
            _sample(block, fill_)
        return block.done

    return signature, codegen


def _fetch(block, far_x, far_y, rows):
    """Ask for the cache lines that the first and the middle lane will want some rows later."""
    emit, b = block.emit, block.emit.builder
    first = block.first_pixel()
    for k in range(0, LANES, LANES // 2):
        pixel = []
        for axis, far in ((block.y, far_y), (block.x, far_x)):
            there = b.fadd(block.coordinate(axis, k, rows), far)
            last = b.sitofp(b.sub(axis.side, I64(1)), F64)
            inside = emit.number("minnum", emit.number("maxnum", there, F64(0.0)), last)
            pixel.append(b.fptosi(inside, I64))
        offset = b.add(b.mul(pixel[0], block.x.side), pixel[1])
        with cgutils.for_range(b, block.images.shape[1]) as loop:
            start = block.channel(block.images, loop.index, first)
            emit.prefetch(b.add(start, b.mul(offset, I64(emit.bytes))))


def _sample(block, fill):
    """Blend the taps of every channel: :func:`.pixel.bilinear`."""
    b, weights = block.emit.builder, block.weights()
    first = block.first_pixel()

    def body(taps, touching):
        with cgutils.for_range(b, block.images.shape[1]) as loop:
            found = taps(block.channel(block.images, loop.index, first))
            terms = [b.fmul(tap, weight) for tap, weight in zip(found, weights, strict=True)]
            value = terms[0]
            for term in terms[1:]:
                value = b.fadd(value, term)
            if touching is not None:
                value = b.select(touching, value, block.emit.splat(fill))
            b.store(value, block.lanes_at(loop.index)).align = block.emit.bytes

    _with_taps(block, fill, body)


@intrinsic(prefer_literal=True)
def sample_vjp_coords_block(
    typingctx, source, padding, dsamples, images, coords, row, ahead, off, fill, dcoords, where
):
    """Gradient with respect to the coordinates of LANES samples; whether it was done.

    From ``where`` = (m, n, i, j, skip) on. A grid's goes to ``dcoords``, the gradient's grid; an
    affine row's is added to ``dcoords`` (4, LANES), the lanes' sums of dx times the column, dx,
    dy times the column, dy, but for the first ``skip`` lanes, which another block has done.
    """
    if not _literal(source, padding):
        return None
    signature = types.boolean(
        source, padding, dsamples, images, coords, row, ahead, off, fill, dcoords, where
    )

    def codegen(context, builder, signature, args):
        _, _, dsample, image, coord, row_, ahead_, off_, fill_, dcoord, where_ = args
        *place, skip = cgutils.unpack_tuple(builder, where_)
        block = Block(
            context, builder, (images, coords, dsamples), source.literal_value,
            padding.literal_value, (image, coord, dsample),
            cgutils.unpack_tuple(builder, row_), off_, place,
        )  # fmt: skip
        kind = context.get_value_type(dcoords.dtype)
        out = Plane(context, builder, dcoords, dcoord, 8 if kind == F64 else 4)
        with builder.if_then(block.done, likely=True):
            _fetch(block, *cgutils.unpack_tuple(builder, ahead_))
            gradients = _coordinate_gradients(block, fill_, off_)
            if source.literal_value == AFFINE:
                _add_moments(block, gradients, skip, out)
            else:
                _store_pairs(block, gradients, kind, out.at(*block.where[1:], I64(0)))
        return block.done

    return signature, codegen


def _coordinate_gradients(block, fill, off):
    """Gradients with respect to the normalised x and y: see :func:`.pixel.bilinear_slopes`."""
    emit, b, real = block.emit, block.emit.builder, block.emit.real
    sums = [cgutils.alloca_once_value(b, lanes(real, 0.0)) for _ in range(2)]
    tx, ty, one = block.x.fraction, block.y.fraction, lanes(real, 1.0)
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)
    first = block.first_pixel()

    def body(taps, touching):
        with cgutils.for_range(b, block.images.shape[1]) as loop:
            nw, ne, sw, se = taps(block.channel(block.images, loop.index, first))
            d = b.load(block.lanes_at(loop.index))
            d.align = emit.bytes
            by_x = b.fadd(b.fmul(b.fsub(ne, nw), sy), b.fmul(b.fsub(se, sw), ty))
            by_y = b.fadd(b.fmul(b.fsub(sw, nw), sx), b.fmul(b.fsub(se, ne), tx))
            for total, slope in zip(sums, (by_x, by_y), strict=True):
                b.store(b.fadd(b.load(total), b.fmul(d, slope)), total)

    _with_taps(block, fill, body)
    found = []
    for total, axis in zip(sums, (block.x, block.y), strict=True):
        value = b.load(total)
        wide = value if real == F64 else b.fpext(value, lanes(F64))
        span = b.fadd(b.sitofp(b.sub(axis.side, I64(1)), F64), off)
        scaled = b.fmul(wide, emit.splat(b.fmul(span, F64(0.5))))
        counts = emit.both(block.x.sloped, block.y.sloped) if block.zeros else axis.sloped
        found.append(b.select(counts, scaled, lanes(F64, 0.0)))
    return found


def _add_moments(block, gradients, skip, out):
    """Add each lane's moments to its sums."""
    emit, b = block.emit, block.emit.builder
    numbers = lanes(I32, list(range(LANES)))
    fresh = b.icmp_signed(">=", numbers, emit.splat(b.trunc(skip, I32)))
    k = 0
    for gradient in gradients:
        own = b.select(fresh, gradient, lanes(F64, 0.0))
        for moment in (b.fmul(own, block.columns), own):
            place = b.inttoptr(out.at(I64(k), I64(0)), lanes(F64).as_pointer())
            total = b.load(place)
            total.align = 8
            b.store(b.fadd(total, moment), place).align = 8
            k += 1


def _store_pairs(block, gradients, kind, address):
    """Write the gradients as (x, y) pairs."""
    b = block.emit.builder
    if kind != F64:
        gradients = [b.fptrunc(gradient, lanes(kind)) for gradient in gradients]
    size = 8 if kind == F64 else 4
    for k in (0, 1):
        order = [half + pixel for pixel in range(k * LANES // 2, (k + 1) * LANES // 2)
                 for half in (0, LANES)]  # fmt: skip
        pairs = b.shuffle_vector(*gradients, lanes(I32, order))
        place = b.inttoptr(b.add(address, I64(k * LANES * size)), pairs.type.as_pointer())
        b.store(pairs, place).align = size


@intrinsic(prefer_literal=True)
def sample_vjp_images_block(typingctx, source, padding, dsamples, coords, row, off, dimages, where):
    """Add LANES samples' gradients to the pixels they were read from; whether it was done.

    From ``where`` = (m, n, i, j, skip, top, bottom) on: rows top to bottom - 1 of image m take
    what falls into them, but nothing from the first ``skip`` lanes.
    """
    if not _literal(source, padding):
        return None
    signature = types.boolean(source, padding, dsamples, coords, row, off, dimages, where)

    def codegen(context, builder, signature, args):
        _, _, dsample, coord, row_, off_, dimage, where_ = args
        *place, skip, top, bottom = cgutils.unpack_tuple(builder, where_)
        block = Block(
            context, builder, (dimages, coords, dsamples), source.literal_value,
            padding.literal_value, (dimage, coord, dsample),
            cgutils.unpack_tuple(builder, row_), off_, place,
        )  # fmt: skip
        with builder.if_then(block.done, likely=True):
            _scatter(block, *(builder.trunc(number, I32) for number in (skip, top, bottom)))
        return block.done

    return signature, codegen


def _scatter(block, skip, top, bottom):
    """Add the weighted gradients of every channel, if any of them falls between top and bottom."""
    emit, b = block.emit, block.emit.builder
    rows, columns = _tap_places(block, top, bottom)
    fresh = b.icmp_signed(">=", lanes(I32, list(range(LANES))), emit.splat(skip))
    if block.zeros:
        fresh = emit.both(fresh, block.x.sloped, block.y.sloped)
    whole = b.and_(block.inside, emit.every([rows[0][1], rows[1][1]]))
    with b.if_else(whole, likely=True) as (inside, rim):
        with inside:
            _scatter_inside(block, skip)
        with rim:
            touched = b.and_(fresh, b.or_(rows[0][1], rows[1][1]))
            bits = IntType(LANES)
            with b.if_then(b.icmp_unsigned("!=", b.bitcast(touched, bits), bits(0))):
                taps = [(row, column, emit.both(fresh, there, here))
                        for row, there in rows for column, here in columns]  # fmt: skip
                _scatter_carefully(block, taps)


def _tap_places(block, top, bottom):
    """Rows of the two taps in y and columns of those in x, brought inside, and whether they are."""
    emit, b = block.emit, block.emit.builder
    one, highest = lanes(I32, 1), b.sub(b.trunc(block.x.side, I32), I32(1))
    rows: list[tuple] = []
    columns: list[tuple] = []
    for axis, low, high, found in (
        (block.y, top, b.sub(bottom, I32(1)), rows),
        (block.x, I32(0), highest, columns),
    ):
        for index in (axis.index, b.add(axis.index, one)):
            place = emit.clamp(index, low, high)
            found.append((place, b.icmp_signed("==", place, index)))
    return rows, columns


# Neighbouring pixels add to the same taps, and would wait for each other; these take turns.
ORDER = [first + 4 * k for first in range(4) for k in range(LANES // 4)]


def _scatter_inside(block, skip):
    """Add what all taps give, lane by lane, the channels of each at once."""
    emit, b = block.emit, block.emit.builder
    offsets = block.offsets(block.y.index, block.x.index)
    weights = [emit.stored(weight) for weight in block.weights()]
    below = b.mul(block.x.side, I64(emit.bytes))
    image, gradient = block.first_pixel(), block.first_sample()
    for k in ORDER:
        with b.if_then(b.icmp_signed("<=", skip, I32(k)), likely=True):
            own = [emit.lane(weight, k) for weight in weights]
            start = block.address(image, emit.lane(offsets, k))
            with cgutils.for_range(b, block.images.shape[1]) as loop:
                nw = block.channel(block.images, loop.index, start)
                sw = b.add(nw, below)
                d = b.load(block.pointer(block.channel(block.samples, loop.index, gradient), k))
                for weight, row, column in zip(own, (nw, nw, sw, sw), (0, 1, 0, 1), strict=True):
                    place = block.pointer(row, column)
                    b.store(b.fadd(b.load(place), b.fmul(d, weight)), place)


def _scatter_carefully(block, taps):
    """Add what the lanes and taps give that count, one lane after another."""
    emit, b, real = block.emit, block.emit.builder, block.emit.real
    offsets = [block.offsets(row, column) for row, column, _ in taps]
    with cgutils.for_range(b, block.images.shape[1]) as loop:
        start = emit.hidden(block.channel(block.images, loop.index, block.first_pixel()))
        d = b.load(block.lanes_at(loop.index))
        d.align = emit.bytes
        shares = [
            emit.stored(b.select(mask, b.fmul(d, weight), lanes(real, 0.0)))
            for (_, _, mask), weight in zip(taps, block.weights(), strict=True)
        ]
        for k in ORDER:
            for offset, share in zip(offsets, shares, strict=True):
                place = block.pointer(block.address(start, emit.lane(offset, k)), 0)
                b.store(b.fadd(b.load(place), emit.lane(share, k)), place)
