"""The fast path of bilinear sampling: a block of pixels at a time, forward and backward.

Numba compiles a loop over gathered pixels to one scalar after another. Here a block of LANES
pixels of one output row is written out as LLVM vectors, through
:func:`numba.extending.intrinsic`: coordinates, then for each pixel two loads of two neighbours
each, shuffled into the four vectors of taps, and blended. LLVM makes AVX-512, AVX2 or NEON of it.
Each function has two halves: for blocks whose taps are all inside, which need no care, and for
the others.

The operations and their order are those of :mod:`.pixel`, so a block gives the bits of the scalar
code in :mod:`.points` (only the images' gradient is added up in the block's own order). The scalar
code remains for what a block does not do: reflection beyond the edges, rows of fewer than LANES
pixels, images of one column, and planes of 2^31 pixels.
"""

import contextlib

from llvmlite.ir import IntType
from numba.core import cgutils, types
from numba.extending import intrinsic

from .lanes import (
    BEYOND,
    INSIDE,
    RIM,
    Axis,
    Block,
    Slot,
    coordinates,
    inner_taps,
    outer_taps,
    weights,
)
from .pixel import AFFINE, REFLECTION, ZEROS
from .vectors import F64, I1, I8, I32, I64, LANES, lanes

# --- How the functions are called -----------------------------------------------------------------


class _Call:
    """A block that was placed, and what it was called with."""

    def __init__(self, block, source, row, slot, fill, numbers):
        self.block, self.source, self.row, self.slot = block, source, row, slot
        self.affine = source == AFFINE
        self.fill, self.numbers = fill, numbers
        self.done = cgutils.alloca_once_value(block.emit.builder, I1(1))

    @contextlib.contextmanager
    def halves(self, beyond=None):
        """Two branches: for blocks whose taps are all inside, and for those on the rim.

        Before them, what ``beyond()`` emits is done for blocks that read nothing.
        """
        b = self.block.emit.builder
        kind = self.slot.kind()
        with b.if_then(b.icmp_unsigned("==", kind, I8(BEYOND)), likely=False):
            if beyond is not None:
                beyond()
        with b.if_else(b.icmp_unsigned("==", kind, I8(INSIDE)), likely=True) as (inside, others):
            rim = self._rim(others, kind)
            yield inside, rim

    @contextlib.contextmanager
    def _rim(self, others, kind):
        b = self.block.emit.builder
        with others, b.if_then(b.icmp_unsigned("==", kind, I8(RIM))):
            yield

    def taps(self, ahead):
        """Fractions and taps of a block inside."""
        ahead = ahead if self.affine else None  # a grid's rows have no such distance
        return *self.slot.fractions(), inner_taps(self.block, self.slot, ahead)

    @contextlib.contextmanager
    def outer(self):
        """The axes of another block, and the lanes that read anything; where it can be done.

        A block cannot be done where a coordinate is reflected.
        """
        block, emit, b = self.block, self.block.emit, self.block.emit.builder
        x, y = (
            Axis(emit, c, side, block.padding)
            for c, side in zip(
                coordinates(emit, self.source, block.coords, self.row, block.where[1:]),
                (block.width, block.height),
                strict=True,
            )
        )
        touching = emit.both(x.sloped, y.sloped)
        if block.padding == REFLECTION:
            b.store(emit.every([touching]), self.done)
        with b.if_then(b.load(self.done), likely=True):
            yield x, y, touching if block.padding == ZEROS else None


def _block_function(build):
    """An intrinsic ``f(source, padding, arrays, row, fill, where, slots)`` that returns a boolean.

    It says whether the block was done. ``arrays`` are the images (or their gradient), what holds
    the coordinates, the samples (or their gradient), and what ``build`` needs besides; ``row`` is
    the row's map; ``where`` starts with (m, n, i, j, slot): image m is read for samples n from row
    i, column j on, as :func:`.lanes.place` has found before.
    """

    @intrinsic(prefer_literal=True)
    def function(typingctx, source, padding, arrays, row, fill, where, slots):
        if not all(isinstance(flag, types.IntegerLiteral) for flag in (source, padding)):
            return None

        def codegen(context, builder, signature, args):
            values, row_, where_ = (cgutils.unpack_tuple(builder, args[k]) for k in (2, 3, 5))
            block = Block(
                context, builder, padding.literal_value, list(arrays), values, where_[:4]
            )  # fmt: skip
            slot = Slot(block.emit, args[6], where_[4])
            call = _Call(block, source.literal_value, row_, slot, args[4], where_[5:])
            build(call, block)
            return builder.load(call.done)

        return types.boolean(source, padding, arrays, row, fill, where, slots), codegen

    function.__name__ = build.__name__
    return function


# --- Forward --------------------------------------------------------------------------------------


@_block_function
def sample_block(call, block):
    """Sample LANES pixels of a row; ``where`` ends with how far ahead a later row reads."""
    (ahead,) = call.numbers

    def nothing():
        with block.each_channel() as (_, sample):
            block.emit.store(block.emit.splat(call.fill), sample)

    with call.halves(nothing) as (inside, rim):
        with inside:
            _blend(block, *call.taps(ahead))
        with rim, call.outer() as (x, y, touching):
            taps = outer_taps(block, x, y, call.fill)
            _blend(block, x.fraction, y.fraction, taps, touching, call.fill)


def _blend(block, tx, ty, taps, touching=None, fill=None):
    """Weighted sum of the taps of every channel: :func:`.pixel.bilinear`."""
    emit, b = block.emit, block.emit.builder
    shares = weights(emit, tx, ty)
    with block.each_channel() as (image, sample):
        terms = [b.fmul(tap, share) for tap, share in zip(taps(image), shares, strict=True)]
        value = terms[0]
        for term in terms[1:]:
            value = b.fadd(value, term)
        if touching is not None:
            value = b.select(touching, value, emit.splat(fill))
        emit.store(value, sample)


# --- Gradient with respect to the coordinates -----------------------------------------------------


@_block_function
def sample_vjp_coords_block(call, block):
    """Gradient with respect to the coordinates of LANES samples.

    A grid's goes to the fourth array, the gradient's grid. An affine row's, in pixels, is added to
    the fourth array's (6, LANES) sums: of dx times the column, dx times the row, dx, and of dy
    alike; but for the first ``skip`` lanes, which another block has done. ``where`` ends with
    (ahead, skip).
    """
    ahead, skip = call.numbers

    def write(gradients):
        if call.affine:
            _add_moments(block, gradients, skip)
        else:
            _store_pairs(block, gradients, call.row[1::2])

    def nothing():
        if not call.affine:
            write([lanes(F64, 0.0)] * 2)

    with call.halves(nothing) as (inside, rim):
        with inside:
            write(_coordinate_gradients(block, *call.taps(ahead)))
        with rim, call.outer() as (x, y, touching):
            taps = outer_taps(block, x, y, call.fill)
            found = _coordinate_gradients(block, x.fraction, y.fraction, taps)
            zero, b = lanes(F64, 0.0), block.emit.builder
            write([
                b.select(axis.sloped if touching is None else touching, value, zero)
                for axis, value in zip((x, y), found, strict=True)
            ])  # fmt: skip


def _coordinate_gradients(block, tx, ty, taps):
    """Gradients with respect to x and y in pixels, in float64: :func:`.pixel.bilinear_slopes`."""
    emit, b, real = block.emit, block.emit.builder, block.emit.real
    sums = [cgutils.alloca_once(b, lanes(real)) for _ in range(2)]
    for total in sums:
        b.store(lanes(real, 0.0), total)
    one = lanes(real, 1.0)
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)
    with block.each_channel() as (image, sample):
        nw, ne, sw, se = taps(image)
        d = emit.load(sample, lanes(real))
        by_x = b.fadd(b.fmul(b.fsub(ne, nw), sy), b.fmul(b.fsub(se, sw), ty))
        by_y = b.fadd(b.fmul(b.fsub(sw, nw), sx), b.fmul(b.fsub(se, ne), tx))
        for total, slope in zip(sums, (by_x, by_y), strict=True):
            b.store(b.fadd(b.load(total), b.fmul(d, slope)), total)
    return [emit.widen(b.load(total)) for total in sums]


def _add_moments(block, gradients, skip):
    """Add each lane's moments to its sums."""
    emit, b, out = block.emit, block.emit.builder, block.others[1]
    numbers = lanes(I32, list(range(LANES)))
    fresh = b.icmp_signed(">=", numbers, emit.splat(b.trunc(skip, I32)))
    first = emit.splat(b.sitofp(block.where[3], F64))
    columns = b.fadd(first, lanes(F64, [float(k) for k in range(LANES)]))
    row = emit.splat(b.sitofp(block.where[2], F64))
    k = 0
    for gradient in gradients:
        own = b.select(fresh, gradient, lanes(F64, 0.0))
        for moment in (b.fmul(own, columns), b.fmul(own, row), own):
            place = out.at(I64(k), I64(0))
            emit.store(b.fadd(emit.load(place, lanes(F64)), moment), place)
            k += 1


def _store_pairs(block, gradients, scales):
    """Write the gradients, by normalised coordinates, as (x, y) pairs."""
    b, out = block.emit.builder, block.others[1]
    address = out.at(*block.where[1:], I64(0))
    scaled = [
        b.fmul(gradient, block.emit.splat(scale))
        for gradient, scale in zip(gradients, scales, strict=True)
    ]
    if out.kind != F64:
        scaled = [b.fptrunc(gradient, lanes(out.kind)) for gradient in scaled]
    for k in (0, 1):
        order = [half + pixel for pixel in range(k * LANES // 2, (k + 1) * LANES // 2)
                 for half in (0, LANES)]  # fmt: skip
        pairs = b.shuffle_vector(*scaled, lanes(I32, order))
        block.emit.store(pairs, b.add(address, I64(k * LANES * out.bytes)))


# --- Gradient with respect to the images ----------------------------------------------------------


@_block_function
def sample_vjp_images_block(call, block):
    """Add LANES samples' gradients to the pixels they were read from.

    Rows top to bottom - 1 of the image take what falls into them, but nothing from the first
    ``skip`` lanes. ``where`` ends with (ahead, skip, top, bottom, c, end): channels c to end - 1.
    """
    b = block.emit.builder
    ahead, *limits, first, last = call.numbers
    block.channels = (first, last)
    skip, top, bottom = (b.trunc(number, I32) for number in limits)
    with call.halves() as (inside, rim):
        with inside:
            _scatter_whole(call, block, skip, ahead)
        with rim, call.outer() as (x, y, touching):
            _scatter_some(block, x, y, touching, skip, top, bottom)


# Neighbouring pixels add to the same taps, and would wait for each other; these take turns.
ORDER = [first + 4 * k for first in range(4) for k in range(LANES // 4)]


def _scatter_whole(call, block, skip, ahead):
    """Add what all taps give, lane by lane."""
    emit, b, slot, real = block.emit, block.emit.builder, call.slot, block.emit.real
    shares = weights(emit, *slot.fractions())
    fresh = b.icmp_signed(">=", lanes(I32, list(range(LANES))), emit.splat(skip))
    with block.each_channel() as (image, sample):
        d = b.select(fresh, emit.load(sample, lanes(real)), lanes(real, 0.0))
        nw, ne, sw, se = (emit.stored(b.fmul(d, share)) for share in shares)
        if call.affine:
            far = b.add(image, b.mul(ahead, I64(emit.bytes)))
            for k in range(0, LANES, LANES // 2):
                emit.prefetch(block.address(far, slot.offset(k)))
        upper, lower = emit.hidden(image), emit.hidden(block.below(image))
        for k in ORDER:
            offset = slot.offset(k)
            for start, west, east in ((upper, nw, ne), (lower, sw, se)):
                address = block.address(start, offset)
                for column, part in enumerate((west, east)):
                    place = block.pointer(address, column)
                    b.store(b.fadd(b.load(place), emit.lane(part, k)), place)


def _scatter_some(block, x, y, touching, skip, top, bottom):
    """Add what the lanes and taps give that count, one lane after another."""
    emit, b, real = block.emit, block.emit.builder, block.emit.real
    rows, columns = _tap_places(block, x, y, top, bottom)
    fresh = b.icmp_signed(">=", lanes(I32, list(range(LANES))), emit.splat(skip))
    if touching is not None:
        fresh = b.and_(fresh, touching)
    touched = b.and_(fresh, b.or_(rows[0][1], rows[1][1]))
    bits = IntType(LANES)
    with b.if_then(b.icmp_unsigned("!=", b.bitcast(touched, bits), bits(0))):
        taps = [(emit.stored(block.offsets(row, column)), emit.both(fresh, there, here))
                for row, there in rows for column, here in columns]  # fmt: skip
        shares = weights(emit, x.fraction, y.fraction)
        with block.each_channel() as (image, sample):
            start, d = emit.hidden(image), emit.load(sample, lanes(real))
            parts = [
                emit.stored(b.select(mask, b.fmul(d, share), lanes(real, 0.0)))
                for (_, mask), share in zip(taps, shares, strict=True)
            ]
            for k in ORDER:
                for (offsets, _), part in zip(taps, parts, strict=True):
                    place = block.pointer(block.address(start, emit.lane(offsets, k)), 0)
                    b.store(b.fadd(b.load(place), emit.lane(part, k)), place)


def _tap_places(block, x, y, top, bottom):
    """Rows of the two taps in y and columns of those in x, brought inside, and whether they are."""
    emit, b = block.emit, block.emit.builder
    one, highest = lanes(I32, 1), b.sub(b.trunc(block.width, I32), I32(1))
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
