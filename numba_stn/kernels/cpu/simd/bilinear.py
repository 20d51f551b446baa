"""The fast path of bilinear sampling: 16 pixels at a time, forward and backward.

Numba compiles a loop over gathered pixels to one scalar after another. Here a block of LANES
pixels of one output row is written out as LLVM vectors, through
:func:`numba.extending.intrinsic`: for each pixel two loads of two neighbours each, shuffled into
the four vectors of taps, and blended. LLVM makes AVX-512, AVX2 or NEON of it. Each function comes
twice: for runs of blocks whose taps are all inside, which need no care and were placed before
(:mod:`.addresses`), and for a block on the block.

The operations and their order are those of :mod:`.coordinates`, so a block gives the bits of the
scalar code in :mod:`.single_pixels` (only the images' gradient is added up in the block's own
order). The scalar code remains for what a block does not do: reflection beyond the edges, rows of
fewer than LANES pixels, images of one column, and planes of 2^31 pixels.
"""

import contextlib

from llvmlite.ir import IntType, VectorType
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.coordinates import AFFINE, REFLECTION, ZEROS
from .addresses import coordinates
from .lanes import Axis, Row, Run, border_taps, prefetch_ahead, weights
from .vectors import F64, I1, I32, I64, LANES, Emitter, Plane, lanes

# --- How the functions are called -----------------------------------------------------------------


def _interior_function(build):
    """An intrinsic ``f(source, arrays, row, where, slots)`` for a run of placed blocks.

    ``arrays`` are the images (or their gradient), what holds the coordinates, the samples (or
    their gradient), and what ``build`` needs besides; ``row`` is the row's map. ``where`` starts
    with (m, n, i, k, count, slot, columns): image m is read for samples n from row i, ``count``
    blocks from the k-th on; the first of them is in that slot.
    """

    @intrinsic(prefer_literal=True)
    def function(typingctx, source, arrays, row, where, slots):
        if not isinstance(source, types.IntegerLiteral):
            return None

        def codegen(context, builder, signature, args):
            values, row_, where_ = (cgutils.unpack_tuple(builder, args[k]) for k in (1, 2, 3))
            own = Row(context, builder, list(arrays), values, where_[:3])
            run = Run(own.emit, where_[3:7], args[4])
            build(own, run, source.literal_value == AFFINE, row_, *where_[7:])
            return context.get_dummy_value()

        return types.void(source, arrays, row, where, slots), codegen

    function.__name__ = build.__name__
    return function


class _BorderBlock:
    """A block on the rim, and what it was called with."""

    def __init__(self, row, source, padding, values, j, fill, numbers):
        self.row, self.source, self.padding, self.map = row, source, padding, values
        self.j, self.fill, self.numbers = j, fill, numbers
        self.affine = source == AFFINE
        self.done = cgutils.alloca_once_value(row.emit.builder, I1(1))

    @contextlib.contextmanager
    def axes(self):
        """Its axes, and the lanes that read anything, where it can be done.

        A block cannot be done where a coordinate is reflected.
        """
        row, emit, b = self.row, self.row.emit, self.row.emit.builder
        found = coordinates(emit, self.source, row.coords, self.map, (row.n, row.i, self.j))
        x, y = (
            Axis(emit, c, side, self.padding)
            for c, side in zip(found, (row.width, row.height), strict=True)
        )
        touching = emit.both(x.sloped, y.sloped)
        if self.padding == REFLECTION:
            b.store(emit.every([touching]), self.done)
        with b.if_then(b.load(self.done), likely=True):
            yield x, y, touching if self.padding == ZEROS else None


def _new_lanes(row, skip):
    """The lanes of a block but for the first ``skip``, which another block has."""
    b = row.emit.builder
    return b.icmp_signed(">=", lanes(I32, list(range(LANES))), row.emit.splat(b.trunc(skip, I32)))


def _border_function(build):
    """An intrinsic ``f(source, padding, arrays, row, fill, where)`` that returns a boolean.

    It says whether the block was done. ``where`` starts with (m, n, i, j): columns j on.
    """

    @intrinsic(prefer_literal=True)
    def function(typingctx, source, padding, arrays, row, fill, where):
        if not all(isinstance(flag, types.IntegerLiteral) for flag in (source, padding)):
            return None

        def codegen(context, builder, signature, args):
            values, row_, where_ = (cgutils.unpack_tuple(builder, args[k]) for k in (2, 3, 5))
            own = Row(context, builder, list(arrays), values, where_[:3])
            flags = source.literal_value, padding.literal_value
            block = _BorderBlock(own, *flags, row_, where_[3], args[4], where_[4:])
            build(own, block)
            return builder.load(block.done)

        return types.boolean(source, padding, arrays, row, fill, where), codegen

    function.__name__ = build.__name__
    return function


# --- Forward --------------------------------------------------------------------------------------


# Runs of so many blocks are sampled channel by channel: what is written lies together, and so does
# what is read. Shorter ones block by block: the weights are formed once for all channels.
LONG = 4


@_interior_function
def sample_interior(row, run, affine, values, ahead):
    """Sample a run of blocks; a later row reads ``ahead`` elements away."""
    emit, b = row.emit, row.emit.builder

    def sample(image, bases, slot, shares, target):
        if affine:
            prefetch_ahead(row, image, slot, ahead)
        emit.store(_blend(emit, emit.pairs(bases, slot.offset, row.images), shares), target)

    with b.if_else(b.icmp_signed(">=", run.count, I64(LONG))) as (long, short):
        with long, row.each_channel(I64(0)) as (image, start):
            bases = row.rows(image)
            with run.each_block() as (slot, j):
                shares = weights(emit, *slot.fractions())
                sample(image, bases, slot, shares, row.address(start, j))
        with short, run.each_block() as (slot, j):
            shares = weights(emit, *slot.fractions())
            with row.each_channel(j) as (image, target):
                sample(image, row.rows(image), slot, shares, target)


@_border_function
def sample_border(row, block):
    """Sample a block on the block."""
    emit, b = row.emit, row.emit.builder
    with block.axes() as (x, y, touching):
        taps = border_taps(row, x, y, block.fill)
        shares = weights(emit, x.fraction, y.fraction)
        with row.each_channel(block.j) as (image, sample):
            value = _blend(emit, taps(image), shares)
            if touching is not None:
                value = b.select(touching, value, emit.splat(block.fill))
            emit.store(value, sample)


def _blend(emit, taps, shares):
    """Weighted sum of the taps: :func:`.coordinates.bilinear`."""
    b = emit.builder
    terms = [b.fmul(tap, share) for tap, share in zip(taps, shares, strict=True)]
    value = terms[0]
    for term in terms[1:]:
        value = b.fadd(value, term)
    return value


# --- Gradient with respect to the coordinates -----------------------------------------------------


@_interior_function
def coords_gradient_interior(row, run, affine, values, ahead):
    """Gradient with respect to the coordinates of a run's samples.

    A grid's goes to the fourth array, the gradient's grid. An affine row's, in pixels, is added to
    the fourth array's (6, LANES) sums: of dx times the column, dx times the row, dx, and of dy
    alike.
    """
    emit = row.emit
    sums = _Moments(row) if affine else None
    with run.each_block() as (slot, j):

        def taps(image, slot=slot):
            if affine:
                prefetch_ahead(row, image, slot, ahead)
            return emit.pairs(row.rows(image), slot.offset, row.images)

        found = _coordinate_gradients(row, j, *slot.fractions(), taps)
        if sums is None:
            _store_pairs(row, j, found, values[1::2])
        else:
            sums.add(found, j, run.repeated(j))
    if sums is not None:
        sums.write()


@_border_function
def coords_gradient_border(row, block):
    """The same of a block on the rim, but for the first lanes, so many as ``where`` ends with."""
    b = row.emit.builder
    (skip,) = block.numbers
    with block.axes() as (x, y, touching):
        taps = border_taps(row, x, y, block.fill)
        found = [
            b.select(axis.sloped if touching is None else touching, value, lanes(F64, 0.0))
            for axis, value in zip(
                (x, y),
                _coordinate_gradients(row, block.j, x.fraction, y.fraction, taps),
                strict=True,
            )
        ]
        if block.affine:
            sums = _Moments(row)
            sums.add(found, block.j, skip)
            sums.write()
        else:
            _store_pairs(row, block.j, found, block.map[1::2])


def _coordinate_gradients(row, j, tx, ty, taps):
    """Gradients in x and y per pixel, in float64: :func:`.coordinates.bilinear_slopes`."""
    emit, b, real = row.emit, row.emit.builder, row.emit.real
    sums = [cgutils.alloca_once(b, lanes(real)) for _ in range(2)]
    for total in sums:
        b.store(lanes(real, 0.0), total)
    one = lanes(real, 1.0)
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)
    with row.each_channel(j) as (image, sample):
        nw, ne, sw, se = taps(image)
        d = emit.load(sample, lanes(real))
        by_x = b.fadd(b.fmul(b.fsub(ne, nw), sy), b.fmul(b.fsub(se, sw), ty))
        by_y = b.fadd(b.fmul(b.fsub(sw, nw), sx), b.fmul(b.fsub(se, ne), tx))
        for total, slope in zip(sums, (by_x, by_y), strict=True):
            b.store(b.fadd(b.load(total), b.fmul(d, slope)), total)
    return [emit.widen(b.load(total)) for total in sums]


class _Moments:
    """Each lane's sums of an affine row, kept in registers while a run is added up."""

    def __init__(self, row):
        self.row, self.emit = row, row.emit
        self.out = row.others[1]
        self.sums = [cgutils.alloca_once(self.emit.builder, lanes(F64)) for _ in range(6)]
        for k, total in enumerate(self.sums):
            self.emit.builder.store(self.emit.load(self._place(k), lanes(F64)), total)

    def _place(self, k):
        return self.out.at(I64(k), I64(0))

    def add(self, gradients, j, skip):
        """Add a block's moments, but for the first ``skip`` lanes, which another block has."""
        emit, b = self.emit, self.emit.builder
        fresh = _new_lanes(self.row, skip)
        first = emit.splat(b.sitofp(j, F64))
        columns = b.fadd(first, lanes(F64, [float(k) for k in range(LANES)]))
        row = emit.splat(b.sitofp(self.row.i, F64))
        moments = []
        for gradient in gradients:
            own = b.select(fresh, gradient, lanes(F64, 0.0))
            moments += [b.fmul(own, columns), b.fmul(own, row), own]
        for total, moment in zip(self.sums, moments, strict=True):
            b.store(b.fadd(b.load(total), moment), total)

    def write(self):
        """Leave the sums in memory."""
        for k, total in enumerate(self.sums):
            self.emit.store(self.emit.builder.load(total), self._place(k))


def _store_pairs(row, j, gradients, scales):
    """Write the gradients, by normalised coordinates, as (x, y) pairs."""
    b, emit, out = row.emit.builder, row.emit, row.others[1]
    address = out.at(row.n, row.i, j, I64(0))
    scaled = [
        b.fmul(gradient, emit.splat(scale))
        for gradient, scale in zip(gradients, scales, strict=True)
    ]
    if out.kind != F64:
        scaled = [b.fptrunc(gradient, lanes(out.kind)) for gradient in scaled]
    for k in (0, 1):
        order = [half + pixel for pixel in range(k * LANES // 2, (k + 1) * LANES // 2)
                 for half in (0, LANES)]  # fmt: skip
        pairs = b.shuffle_vector(*scaled, lanes(I32, order))
        emit.store(pairs, b.add(address, I64(k * LANES * out.bytes)))


# --- Gradient with respect to the images ----------------------------------------------------------

# Neighbouring pixels add to the same taps, and would wait for each other; these take turns.
ORDER = [first + 4 * k for first in range(4) for k in range(LANES // 4)]


@_interior_function
def accumulate_interior(row, run, affine, values, first, last, ahead):
    """Add the gradients of a run's samples to the pixels they were read from.

    Of channels ``first`` to ``last`` - 1.
    """
    emit, b, real = row.emit, row.emit.builder, row.emit.real
    row.channels = (first, last)
    with run.each_block() as (slot, j):
        shares = weights(emit, *slot.fractions())
        fresh = _new_lanes(row, run.repeated(j))
        with row.each_channel(j) as (image, sample):
            d = b.select(fresh, emit.load(sample, lanes(real)), lanes(real, 0.0))
            nw, ne, sw, se = (emit.stored(b.fmul(d, share)) for share in shares)
            if affine:
                prefetch_ahead(row, image, slot, ahead)
            upper, lower = row.rows(image)
            for k in ORDER:
                offset = slot.offset(k)
                for start, west, east in ((upper, nw, ne), (lower, sw, se)):
                    address = row.address(start, offset)
                    for column, part in enumerate((west, east)):
                        place = row.pointer(address, column)
                        b.store(b.fadd(b.load(place), emit.lane(part, k)), place)


@_border_function
def accumulate_border(row, block):
    """The same of a block on the rim, lane after lane.

    Rows top to bottom - 1 of the image take what falls into them, but nothing from the first
    ``skip`` lanes. ``where`` ends with (skip, first, last, top, bottom).
    """
    emit, b, real = row.emit, row.emit.builder, row.emit.real
    skip, *row.channels, top, bottom = block.numbers
    top, bottom = (b.trunc(number, I32) for number in (top, bottom))
    with block.axes() as (x, y, touching):
        rows, columns = _tap_addresses(row, x, y, top, bottom)
        fresh = _new_lanes(row, skip)
        if touching is not None:
            fresh = b.and_(fresh, touching)
        touched = b.and_(fresh, b.or_(rows[0][1], rows[1][1]))
        bits = IntType(LANES)
        with b.if_then(b.icmp_unsigned("!=", b.bitcast(touched, bits), bits(0))):
            taps = [(emit.stored(row.offsets(place, column)), emit.both(fresh, there, here))
                    for place, there in rows for column, here in columns]  # fmt: skip
            shares = weights(emit, x.fraction, y.fraction)
            with row.each_channel(block.j) as (image, sample):
                start, d = emit.hidden(image), emit.load(sample, lanes(real))
                parts = [
                    emit.stored(b.select(mask, b.fmul(d, share), lanes(real, 0.0)))
                    for (_, mask), share in zip(taps, shares, strict=True)
                ]
                for k in ORDER:
                    for (offsets, _), part in zip(taps, parts, strict=True):
                        place = row.pointer(row.address(start, emit.lane(offsets, k)), 0)
                        b.store(b.fadd(b.load(place), emit.lane(part, k)), place)


def _tap_addresses(row, x, y, top, bottom):
    """Rows of the two taps in y and columns of those in x, brought inside, and whether they are."""
    emit, b = row.emit, row.emit.builder
    one, highest = lanes(I32, 1), b.sub(b.trunc(row.width, I32), I32(1))
    rows: list[tuple] = []
    columns: list[tuple] = []
    for axis, low, high, found in (
        (y, top, b.sub(bottom, I32(1)), rows),
        (x, I32(0), highest, columns),
    ):
        for index in (axis.index, b.add(axis.index, one)):
            place = emit.clamp(index, low, high)
            found.append((place, b.icmp_signed("==", place, index)))
    return rows, columns


# --- Gradient with respect to small images --------------------------------------------------------
#
# A quad is what the four taps get of samples whose lower tap is the same. One load and one store
# add to it what would take four each among the pixels, and no two overlap in part: a load that
# does has to wait until a store has left for the cache. So small images' gradients are summed in
# quads, one for each lower tap that reaches the image, -1 to W - 1 and -1 to H - 1, and then the
# quads in pixels.


@_interior_function
def accumulate_quads_interior(row, run, affine, values, first, last, _ahead):
    """Add the gradients of a run's samples to the quads of their lower taps.

    The fourth array has the quads, (channels, H + 1, W + 1, 4), of channels ``first`` to
    ``last`` - 1. The blocks' offsets count quads, and from the one of pixel (0, 0).
    """
    row.channels = (first, last)
    with run.each_block() as (slot, j):
        fresh = _new_lanes(row, run.repeated(j))
        _accumulate_quads(row, j, fresh, *slot.fractions(), slot.offset)


@_border_function
def accumulate_quads_border(row, block):
    """The same of a block on the rim; ``where`` ends with (skip, first, last, _, _)."""
    emit, b = row.emit, row.emit.builder
    skip, *row.channels, _, _ = block.numbers
    with block.axes() as (x, y, touching):
        fresh = _new_lanes(row, skip)
        offsets = b.add(b.mul(y.index, emit.splat(_pitch(row))), x.index)
        if touching is not None:  # the others have no quad
            fresh = b.and_(fresh, touching)
            offsets = b.select(touching, offsets, lanes(I32, 0))
        offsets = emit.stored(offsets)
        _accumulate_quads(
            row, block.j, fresh, x.fraction, y.fraction, lambda k: emit.lane(offsets, k)
        )


def _pitch(row):
    """Quads of a row."""
    return row.emit.builder.trunc(row.others[1].shape[2], I32)


def _accumulate_quads(row, j, fresh, tx, ty, offset):
    """Add samples' gradients, where they are ``fresh``, to the quads that ``offset(k)`` tells."""
    emit, b, real, quads = row.emit, row.emit.builder, row.emit.real, row.others[1]
    size, quad = I64(4 * emit.bytes), VectorType(real, 4)
    shares = weights(emit, tx, ty)
    with row.each_channel(j) as (_, sample):
        d = b.select(fresh, emit.load(sample, lanes(real)), lanes(real, 0.0))
        parts = _as_quads(emit, [b.fmul(d, share) for share in shares])
        base = emit.hidden(quads.at(b.sub(row.channel, row.channels[0]), I64(1), I64(1), I64(0)))
        for k in ORDER:
            place = b.add(base, b.mul(b.sext(offset(k), I64), size))
            part = emit.load(b.add(parts[k % 4], I64(4 * emit.bytes * (k // 4))), quad)
            emit.store(b.fadd(emit.load(place, quad), part), place)


def _as_quads(emit, vectors):
    """Four vectors as quads in memory: the k-th address holds those of lanes k, k + 4, ..."""
    b = emit.builder
    groups = range(0, LANES, 4)

    def interleave(one, two, order):
        return b.shuffle_vector(one, two, lanes(I32, [g + k for g in groups for k in order]))

    low, high = [0, LANES, 1, LANES + 1], [2, LANES + 2, 3, LANES + 3]
    nw, ne, sw, se = vectors
    left, right = [0, 1, LANES, LANES + 1], [2, 3, LANES + 2, LANES + 3]
    quads = [
        interleave(interleave(nw, ne, half), interleave(sw, se, half), side)
        for half in (low, high) for side in (left, right)
    ]  # fmt: skip
    return [b.ptrtoint(emit.stored(vector), I64) for vector in quads]


@intrinsic
def gather_quads(typingctx, quads, dimages, where):
    """Sum the quads of LANES pixels; ``where`` is (channel of the quads, m, c, y, x).

    See :func:`.single_pixels.pixel_of_quads`.
    """

    def codegen(context, builder, signature, args):
        own, plane = (
            Plane(context, builder, *pair) for pair in zip((quads, dimages), args[:2], strict=True)
        )
        emit, b = Emitter(builder, plane.kind), builder
        channel, m, c, y, x = cgutils.unpack_tuple(builder, args[2])
        below, right = b.add(y, I64(1)), b.add(x, I64(1))
        taps = [(below, right), (below, x), (y, right), (y, x)]
        parts = [
            _every_fourth(emit, own.at(channel, row, column, I64(0)), number)
            for number, (row, column) in enumerate(taps)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = b.fadd(total, part)
        emit.store(total, plane.at(m, c, y, x))
        return context.get_dummy_value()

    return types.void(quads, dimages, where), codegen


def _every_fourth(emit, address, number):
    """The so-many-th number of each of LANES quads."""
    b, size = emit.builder, LANES * emit.bytes
    parts = [emit.load(b.add(address, I64(k * size)), lanes(emit.real)) for k in range(4)]
    order = lanes(I32, [number + 4 * k for k in range(LANES // 2)] * 2)
    halves = [b.shuffle_vector(*parts[k : k + 2], order) for k in (0, 2)]
    whole = [*range(LANES // 2), *range(LANES, LANES + LANES // 2)]
    return b.shuffle_vector(*halves, lanes(I32, whole))
