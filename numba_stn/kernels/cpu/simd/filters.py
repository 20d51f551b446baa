"""Weighted sums of many rows, and of many neighbours in a row, for :mod:`..filters`.

A *tile* is LANES x LANES numbers on the stack. LANES rows are summed into it and then transposed,
so that the neighbours of all these rows are summed together, one row in each lane. The sums are
transposed back.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .interpolation import to_real, to_stored
from .lines import load_elements, store_elements
from .vectors import I32, I64, LANES, Emitter, Plane, lanes


@intrinsic(prefer_literal=True)
def sum_rows(typingctx, image, weights, where, tiles, tile):
    """Write a row of each of ``tiles`` tiles: the weighted sum of rows of an image (H, elements).

    ``where`` is (row of the weights, first row of the image, number of rows, first element, row of
    the tiles). The elements of a tile follow those of the tile before it.
    """
    if not isinstance(tiles, types.IntegerLiteral):
        return None

    def codegen(context, builder, signature, args):
        image_, weights_, where_, _, tile_ = args
        by, start, count, element, to = cgutils.unpack_tuple(builder, where_)
        emit = Emitter(builder, context.get_value_type(weights.dtype))
        plane = Plane(context, builder, image, image_)
        pitch = builder.mul(plane.shape[1], I64(plane.bytes))

        def read(k):
            address = builder.add(plane.address(start, element), builder.mul(k, pitch))
            return [
                to_real(emit, load_elements(emit, plane, builder.add(address, I64(far)), LANES))
                for far in range(0, tiles.literal_value * LANES * plane.bytes, LANES * plane.bytes)
            ]

        totals = _sums(emit, Plane(context, builder, weights, weights_).address(by, I64(0)), count,
                       read, tiles.literal_value)  # fmt: skip
        for n, total in enumerate(totals):
            emit.store(total, _row(emit, tile_, builder.add(to, I64(n * LANES))))
        return context.get_dummy_value()

    return types.void(image, weights, where, tiles, tile), codegen


@intrinsic
def sum_neighbours(typingctx, lines, weights, where, tile):
    """Write a row of a tile: the weighted sum of vectors of an array (elements * LANES).

    ``where`` is (row of the weights, first vector, number of vectors, vectors from one to the next,
    row of the tile).
    """

    def codegen(context, builder, signature, args):
        lines_, weights_, where_, tile_ = args
        by, first, count, step, to = cgutils.unpack_tuple(builder, where_)
        emit = Emitter(builder, context.get_value_type(weights.dtype))
        plane, size = Plane(context, builder, lines, lines_), I64(LANES * emit.bytes)
        start, far = builder.add(plane.start, builder.mul(first, size)), builder.mul(step, size)

        def read(k):
            return [emit.load(builder.add(start, builder.mul(k, far)), lanes(emit.real))]

        (total,) = _sums(emit, Plane(context, builder, weights, weights_).address(by, I64(0)),
                         count, read, 1)  # fmt: skip
        emit.store(total, _row(emit, tile_, to))
        return context.get_dummy_value()

    return types.void(lines, weights, where, tile), codegen


@intrinsic
def transpose_to(typingctx, tile, n, lines, first):
    """Write the columns of the n-th tile as vectors of an array (elements * LANES).

    The vector ``first`` is that of the tile's first column.
    """

    def codegen(context, builder, signature, args):
        emit = Emitter(builder, context.get_value_type(lines.dtype))
        start = Plane(context, builder, lines, args[2]).start
        size = I64(LANES * emit.bytes)
        for k, vector in enumerate(_transposed(emit, args[0], args[1])):
            at = builder.add(args[3], I64(k))
            emit.store(vector, builder.add(start, builder.mul(at, size)))
        return context.get_dummy_value()

    return types.void(tile, n, lines, first), codegen


@intrinsic
def transpose(typingctx, tile, real):
    """Transpose a tile; ``real`` is a number of the type that computes."""

    def codegen(context, builder, signature, args):
        emit = Emitter(builder, context.get_value_type(real))
        for k, vector in enumerate(_transposed(emit, args[0], I64(0))):
            emit.store(vector, _row(emit, args[0], I64(k)))
        return context.get_dummy_value()

    return types.void(tile, real), codegen


@intrinsic
def store_row(typingctx, tile, out, where, real):
    """Write a row of a tile to the output (H, elements), rounded and saturated if need be.

    ``where`` is (row of the tile, row of the output, first element, number of elements).
    """

    def codegen(context, builder, signature, args):
        tile_, out_, where_, _ = args
        row, to, element, count = cgutils.unpack_tuple(builder, where_)
        emit, target = (
            Emitter(builder, context.get_value_type(real)),
            Plane(context, builder, out, out_),
        )
        start, end = _row(emit, tile_, row), target.address(to, element)

        def write(e, width):
            address = builder.add(start, builder.mul(e, I64(emit.bytes)))
            vector = emit.load(address, ir.VectorType(emit.real, width))
            value = to_stored(emit, vector, target.kind)
            far = builder.mul(e, I64(target.bytes))
            store_elements(emit, value, builder.add(end, far), target.bytes)

        whole = builder.icmp_signed("==", count, I64(LANES))
        with builder.if_else(whole) as (vector, rest):
            with vector:
                write(I64(0), LANES)
            with rest, cgutils.for_range(builder, count) as loop:
                write(loop.index, 1)
        return context.get_dummy_value()

    return types.void(tile, out, where, real), codegen


def _sums(emit, weights, count, read, number):
    """Sum each of the ``number`` vectors ``read(k)`` times the k-th of the weights."""
    b = emit.builder
    totals = [cgutils.alloca_once_value(b, lanes(emit.real, 0.0)) for _ in range(number)]
    with cgutils.for_range(b, count) as loop:
        address = b.add(weights, b.mul(loop.index, I64(emit.bytes)))
        weight = emit.splat(b.load(b.inttoptr(address, emit.real.as_pointer())))
        for total, vector in zip(totals, read(loop.index), strict=True):
            b.store(b.fadd(b.load(total), b.fmul(vector, weight)), total)
    return [b.load(total) for total in totals]


def _row(emit, tile, row):
    """The address of a row of a tile."""
    start = emit.builder.ptrtoint(tile, I64)
    return emit.builder.add(start, emit.builder.mul(row, I64(LANES * emit.bytes)))


def _transposed(emit, tile, n):
    """The columns of the n-th tile: half of its rows is interleaved with the other, 4 times."""
    first = emit.builder.mul(n, I64(LANES))
    rows = [
        emit.load(_row(emit, tile, emit.builder.add(first, I64(k))), lanes(emit.real))
        for k in range(LANES)
    ]
    half = LANES // 2
    orders = [
        lanes(I32, [place for e in range(half) for place in (start + e, LANES + start + e)])
        for start in (0, half)
    ]
    for _ in range(LANES.bit_length() - 1):
        rows = [
            emit.builder.shuffle_vector(rows[k], rows[k + half], order)
            for k in range(half)
            for order in orders
        ]
    return rows
