"""The fast path of bilinear sampling: a block of pixels at a time, forward and backward.

Numba compiles a loop over gathered pixels to one scalar after another. Here a block of LANES
pixels of one output row is written out as LLVM vectors, through
:func:`numba.extending.intrinsic`: coordinates, then for each pixel two loads of two neighbours
each, shuffled into the four vectors of taps, and blended. LLVM makes AVX-512, AVX2 or NEON of it.
Each function has two halves: for blocks whose taps are all inside, which need no care, and for
the others.

The operations and their order are those of :mod:`.pixel`, so a block gives the bits of the scalar
code in :mod:`.cpu` (only the images' gradient is added up in the block's own order). The scalar
code remains for what a block does not do: reflection beyond the edges, rows of fewer than LANES
pixels, images of one column, and planes of 2^31 pixels.
"""

import contextlib

from llvmlite.ir import IntType
from numba.core import cgutils, types
from numba.extending import intrinsic

from .lanes import Block, inner_taps, outer_taps, weights
from .pixel import AFFINE, REFLECTION, ZEROS
from .vectors import F64, I1, I32, I64, LANES, Plane, lanes

# --- How a block is made and called ---------------------------------------------------------------


def _block_function(build):
    """An intrinsic ``f(source, padding, arrays, row, fill, where)`` that returns a boolean.

    It says whether the block was done. ``arrays`` are the images (or their gradient), what holds
    the coordinates, the samples (or their gradient), and what ``build`` needs besides; ``row`` is
    the row's map, and ``where`` starts with (m, n, i, j, ahead): image m is read for the pixels
    of samples n from row i, column j on, and what will be read soon is ``ahead`` elements away.
    """

    @intrinsic(prefer_literal=True)
    def function(typingctx, source, padding, arrays, row, fill, where):
        if not all(isinstance(flag, types.IntegerLiteral) for flag in (source, padding)):
            return None

        def codegen(context, builder, signature, args):
            kinds = list(arrays)
            values, row_, where_ = (cgutils.unpack_tuple(builder, args[k]) for k in (2, 3, 5))
            block = Block(
                context, builder, source.literal_value, padding.literal_value,
                kinds, values, row_, where_[:4],
            )  # fmt: skip
            others = [
                Plane(context, builder, kind, value)
                for kind, value in zip(kinds[3:], values[3:], strict=True)
            ]
            done = cgutils.alloca_once_value(builder, I1(1))
            build(block, source.literal_value == AFFINE, others, args[4], where_[4:], done)
            return builder.load(done)

        return types.boolean(source, padding, arrays, row, fill, where), codegen

    function.__name__ = build.__name__
    return function


@contextlib.contextmanager
def _outer(block, done):
    """The axes of a block with taps outside, and the lanes that read anything; if it can be done.

    A block cannot be done where a coordinate is reflected.
    """
    b, emit = block.emit.builder, block.emit
    x, y = block.outer()
    touching = emit.both(x.sloped, y.sloped)
    if block.padding == REFLECTION:
        b.store(emit.every([touching]), done)
    with b.if_then(b.load(done), likely=True):
        yield x, y, touching if block.padding == ZEROS else None


# --- Forward --------------------------------------------------------------------------------------


@_block_function
def sample_block(block, affine, others, fill, numbers, done):
    """Sample LANES pixels of a row."""
    (ahead,) = numbers
    with block.emit.builder.if_else(block.inside, likely=True) as (inside, rim):
        with inside:
            x, y = block.inner()
            _blend(block, x, y, inner_taps(block, x, y, ahead if affine else None))
        with rim, _outer(block, done) as (x, y, touching):
            _blend(block, x, y, outer_taps(block, x, y, fill), touching, fill)


def _blend(block, x, y, taps, touching=None, fill=None):
    """Weighted sum of the taps of every channel: :func:`.pixel.bilinear`."""
    emit, b = block.emit, block.emit.builder
    shares = weights(emit, x, y)
    for image, sample in block.each_channel():
        terms = [b.fmul(tap, share) for tap, share in zip(taps(image), shares, strict=True)]
        value = terms[0]
        for term in terms[1:]:
            value = b.fadd(value, term)
        if touching is not None:
            value = b.select(touching, value, emit.splat(fill))
        emit.store(value, sample)


# --- Gradient with respect to the coordinates -----------------------------------------------------


@_block_function
def sample_vjp_coords_block(block, affine, others, fill, numbers, done):
    """Gradient with respect to the coordinates of LANES samples.

    A grid's goes to the fourth array, the gradient's grid. An affine row's, in pixels, is added to
    the fourth array's (4, LANES) sums: of dx times the column, dx, dy times the column, dy; but
    for the first ``skip`` lanes, which another block has done.
    """
    (out,), (ahead, skip) = others, numbers

    def write(gradients):
        if affine:
            _add_moments(block, gradients, skip, out)
        else:
            _store_pairs(block, gradients, out)

    with block.emit.builder.if_else(block.inside, likely=True) as (inside, rim):
        with inside:
            x, y = block.inner()
            taps = inner_taps(block, x, y, ahead if affine else None)
            write(_coordinate_gradients(block, x, y, taps))
        with rim, _outer(block, done) as (x, y, touching):
            found = _coordinate_gradients(block, x, y, outer_taps(block, x, y, fill))
            zero, b = lanes(F64, 0.0), block.emit.builder
            write([
                b.select(axis.sloped if touching is None else touching, value, zero)
                for axis, value in zip((x, y), found, strict=True)
            ])  # fmt: skip


def _coordinate_gradients(block, x, y, taps):
    """Gradients with respect to x and y in pixels, in float64: :func:`.pixel.bilinear_slopes`."""
    emit, b, real = block.emit, block.emit.builder, block.emit.real
    sums = [cgutils.alloca_once(b, lanes(real)) for _ in range(2)]
    for total in sums:
        b.store(lanes(real, 0.0), total)
    tx, ty, one = x.fraction, y.fraction, lanes(real, 1.0)
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)
    for image, sample in block.each_channel():
        nw, ne, sw, se = taps(image)
        d = emit.load(sample, lanes(real))
        by_x = b.fadd(b.fmul(b.fsub(ne, nw), sy), b.fmul(b.fsub(se, sw), ty))
        by_y = b.fadd(b.fmul(b.fsub(sw, nw), sx), b.fmul(b.fsub(se, ne), tx))
        for total, slope in zip(sums, (by_x, by_y), strict=True):
            b.store(b.fadd(b.load(total), b.fmul(d, slope)), total)
    return [emit.widen(b.load(total)) for total in sums]


def _add_moments(block, gradients, skip, out):
    """Add each lane's moments to its sums."""
    emit, b = block.emit, block.emit.builder
    numbers = lanes(I32, list(range(LANES)))
    fresh = b.icmp_signed(">=", numbers, emit.splat(b.trunc(skip, I32)))
    k = 0
    for gradient in gradients:
        own = b.select(fresh, gradient, lanes(F64, 0.0))
        for moment in (b.fmul(own, block.columns), own):
            place = out.at(I64(k), I64(0))
            emit.store(b.fadd(emit.load(place, lanes(F64)), moment), place)
            k += 1


def _store_pairs(block, gradients, out):
    """Write the gradients, by normalised coordinates, as (x, y) pairs."""
    b, address = block.emit.builder, out.at(*block.where[1:], I64(0))
    scaled = [
        b.fmul(gradient, block.emit.splat(scale))
        for gradient, scale in zip(gradients, block.scales, strict=True)
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
def sample_vjp_images_block(block, affine, others, fill, numbers, done):
    """Add LANES samples' gradients to the pixels they were read from.

    Rows top to bottom - 1 of the image take what falls into them, but nothing from the first
    ``skip`` lanes.
    """
    b = block.emit.builder
    ahead, *limits = numbers
    skip, top, bottom = (b.trunc(number, I32) for number in limits)
    with b.if_else(block.inside, likely=True) as (inside, rim):
        with inside:
            x, y = block.inner()
            _scatter(block, x, y, None, skip, top, bottom, ahead if affine else None)
        with rim, _outer(block, done) as (x, y, touching):
            _scatter(block, x, y, touching, skip, top, bottom, None)


def _scatter(block, x, y, touching, skip, top, bottom, ahead):
    """Add the weighted gradients of every channel, if any of them falls between top and bottom."""
    emit, b = block.emit, block.emit.builder
    rows, columns = _tap_places(block, x, y, top, bottom)
    fresh = b.icmp_signed(">=", lanes(I32, list(range(LANES))), emit.splat(skip))
    if touching is not None:
        fresh = b.and_(fresh, touching)
    whole = emit.every([there for _, there in rows + columns])
    with b.if_else(whole, likely=True) as (all_of_it, some):
        with all_of_it:
            _scatter_whole(block, x, y, skip, ahead)
        with some:
            touched = b.and_(fresh, b.or_(rows[0][1], rows[1][1]))
            bits = IntType(LANES)
            with b.if_then(b.icmp_unsigned("!=", b.bitcast(touched, bits), bits(0))):
                taps = [(row, column, emit.both(fresh, there, here))
                        for row, there in rows for column, here in columns]  # fmt: skip
                _scatter_some(block, x, y, taps)


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


# Neighbouring pixels add to the same taps, and would wait for each other; these take turns.
ORDER = [first + 4 * k for first in range(4) for k in range(LANES // 4)]


def _scatter_whole(block, x, y, skip, ahead):
    """Add what all taps give, lane by lane, the channels of each at once."""
    emit, b = block.emit, block.emit.builder
    offsets = block.offsets(y.index, x.index)
    shares = [emit.stored(share) for share in weights(emit, x, y)]
    image, gradient = block.first_pixel(), block.first_sample()
    for k in ORDER:
        with b.if_then(b.icmp_signed("<=", skip, I32(k)), likely=True):
            own = [emit.lane(share, k) for share in shares]
            start = block.address(image, emit.lane(offsets, k))
            with cgutils.for_range(b, block.images.shape[1]) as loop:
                nw = block.channel(block.images, loop.index, start)
                sw = block.below(nw)
                if ahead is not None and k in (0, LANES // 2):
                    emit.prefetch(b.add(nw, b.mul(ahead, I64(emit.bytes))))
                d = b.load(block.pointer(block.channel(block.samples, loop.index, gradient), k))
                for share, row, column in zip(own, (nw, nw, sw, sw), (0, 1, 0, 1), strict=True):
                    place = block.pointer(row, column)
                    b.store(b.fadd(b.load(place), b.fmul(d, share)), place)


def _scatter_some(block, x, y, taps):
    """Add what the lanes and taps give that count, one lane after another."""
    emit, b, real = block.emit, block.emit.builder, block.emit.real
    offsets = [block.offsets(row, column) for row, column, _ in taps]
    shares = weights(emit, x, y)
    for image, sample in block.each_channel():
        start, d = emit.hidden(image), emit.load(sample, lanes(real))
        parts = [
            emit.stored(b.select(mask, b.fmul(d, share), lanes(real, 0.0)))
            for (_, _, mask), share in zip(taps, shares, strict=True)
        ]
        for k in ORDER:
            for offset, part in zip(offsets, parts, strict=True):
                place = block.pointer(block.address(start, emit.lane(offset, k)), 0)
                b.store(b.fadd(b.load(place), emit.lane(part, k)), place)
