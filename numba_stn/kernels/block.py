"""The fast path of bilinear sampling: a block of pixels at a time, forward and backward.

Numba compiles a loop over gathered pixels to one scalar after another. Here a block of LANES
pixels of one output row is written out as LLVM vectors, through
:func:`numba.extending.intrinsic`: coordinates in float64, then for each pixel two loads of two
neighbours each, shuffled into the four vectors of taps, and blended. LLVM makes AVX-512, AVX2 or
NEON of it.

The operations and their order are those of :mod:`.pixel`, so a block gives the bits of the scalar
code in :mod:`.cpu` (only the images' gradient is added up in the block's own order). The scalar
code remains for what a block does not do: reflection beyond the edges, rows of fewer than LANES
pixels, images of one column, and planes of 2^31 pixels.
"""

from llvmlite.ir import IntType
from numba.core import cgutils, types
from numba.extending import intrinsic

from .lanes import Block, with_taps
from .pixel import AFFINE
from .vectors import F64, I32, I64, LANES, Plane, lanes

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

    with_taps(block, fill, body)


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

    with_taps(block, fill, body)
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
