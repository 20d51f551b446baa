"""Whole rows of elements: combined with weights, interpolated, or copied.

A row's elements are its pixels' channels, one after another. Blocks of LANES elements are computed
together. The last block is moved back to end with the row; a row that is shorter than a block is
computed element by element.

Interpolation reads each block of elements from a *window* of two vectors of the line if its taps
lie that close to each other, as they do when an image is enlarged, moved or halved; then the taps
are chosen by permutations of vectors. Otherwise they are gathered one by one.
"""

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.sampler_kind import TAPS
from .gathers import gather
from .interpolation import to_real, to_stored
from .vectors import F32, I32, I64, LANES, Emitter, Plane, lanes

_CACHE_LINE = 64  # bytes


def _each_chunk(builder, out, end, count, chunk):
    """Call ``chunk(first, width)`` so that each of the elements 0 to ``count`` - 1 is in one.

    The blocks between the first and the last begin where whole vectors of the output do, which
    begins at the address ``end``: storing across cache lines takes twice as long.
    """

    def each_block():
        size = min(LANES * out.bytes, _CACHE_LINE)
        before = builder.and_(builder.neg(end), I64(size - 1))
        lead = builder.udiv(before, I64(out.bytes))
        with builder.if_then(builder.icmp_unsigned("!=", lead, I64(0))):
            chunk(I64(0), LANES)
        _each_whole_block(builder, lead, count, lambda number, first: chunk(first, LANES))

    _choose_by_length(builder, count, each_block, lambda first: chunk(first, 1))


def _choose_by_length(builder, count, each_block, element):
    """Call ``each_block()``, or ``element(first)`` for each element of a short row."""
    with builder.if_else(builder.icmp_signed("<", count, I64(LANES))) as (short, long):
        with short, cgutils.for_range(builder, count) as loop:
            element(loop.index)
        with long:
            each_block()


def _each_whole_block(builder, start, count, block):
    """Call ``block(number, first)`` for blocks from ``start`` on; the last ends with the row."""
    length = builder.sub(count, start)
    whole, last = builder.udiv(length, I64(LANES)), builder.sub(count, I64(LANES))
    with cgutils.for_range(builder, whole) as loop:
        block(loop.index, builder.add(start, builder.mul(loop.index, I64(LANES))))
    rest = builder.urem(length, I64(LANES))
    with builder.if_then(builder.icmp_unsigned("!=", rest, I64(0))):
        block(whole, last)


def load_elements(emit, plane, address, width):
    """Load ``width`` elements, as a vector, from an address."""
    b, kind = emit.builder, ir.VectorType(plane.kind, width)
    load = b.load(b.inttoptr(address, kind.as_pointer()))
    load.align = plane.bytes
    return load


def store_elements(emit, vector, address, align):
    """Store a vector at an address."""
    b = emit.builder
    b.store(vector, b.inttoptr(address, vector.type.as_pointer())).align = align


def _sum(builder, terms):
    total, *others = terms
    for term in others:
        total = builder.fadd(total, term)
    return total


@intrinsic
def combine_rows(typingctx, rows, weights, target, where):
    """Write the weighted sum of rows: ``where`` is (first element of the rows, of target, count).

    ``rows`` is a tuple of one-dimensional arrays, and ``weights`` of numbers of the type that
    computes. The sum is rounded and saturated if the target has integers.
    """

    def codegen(context, builder, signature, args):
        rows_, weights_, (first, to, count) = (
            cgutils.unpack_tuple(builder, args[k]) for k in (0, 1, 3)
        )
        emit = Emitter(builder, context.get_value_type(weights.dtype))
        planes = [Plane(context, builder, rows.dtype, row) for row in rows_]
        out = Plane(context, builder, target, args[2])
        starts = [plane.address(first) for plane in planes]
        end = out.address(to)

        def chunk(e, width):
            far = builder.mul(e, I64(planes[0].bytes))
            terms = [
                builder.fmul(
                    to_real(emit, load_elements(emit, plane, builder.add(start, far), width)),
                    emit.splat(weight, width),
                )
                for plane, start, weight in zip(planes, starts, weights_, strict=True)
            ]
            value = to_stored(emit, _sum(builder, terms), out.kind)
            store_elements(emit, value, builder.add(end, builder.mul(e, I64(out.bytes))), out.bytes)

        _each_chunk(builder, out, end, count, chunk)
        return context.get_dummy_value()

    return types.void(rows, weights, target, where), codegen


@intrinsic
def to_line(typingctx, row, target, where):
    """Write a row's elements as numbers: ``where`` is (first element, that of target, count)."""

    def codegen(context, builder, signature, args):
        first, to, count = cgutils.unpack_tuple(builder, args[2])
        emit = Emitter(builder, context.get_value_type(target.dtype))
        source, out = (
            Plane(context, builder, *each) for each in ((row, args[0]), (target, args[1]))
        )
        start, end = source.address(first), out.address(to)

        def chunk(e, width):
            address = builder.add(start, builder.mul(e, I64(source.bytes)))
            value = to_real(emit, load_elements(emit, source, address, width))
            store_elements(emit, value, builder.add(end, builder.mul(e, I64(out.bytes))), out.bytes)

        _each_chunk(builder, out, end, count, chunk)
        return context.get_dummy_value()

    return types.void(row, target, where), codegen


@intrinsic
def copy_elements(typingctx, source, target, where):
    """Copy elements: ``where`` is (first element of the source, of the target, count)."""

    def codegen(context, builder, signature, args):
        first, to, count = cgutils.unpack_tuple(builder, args[2])
        start, end = (
            Plane(context, builder, kind, value).address(index)
            for kind, value, index in ((source, args[0], first), (target, args[1], to))
        )
        size = builder.mul(count, I64(source.dtype.bitwidth // 8))
        pointers = [builder.inttoptr(each, ir.IntType(8).as_pointer()) for each in (end, start)]
        cgutils.raw_memcpy(builder, *pointers, size, 1)
        return context.get_dummy_value()

    return types.void(source, target, where), codegen


# --- Interpolation along a row --------------------------------------------------------------------

# The elements of a window.
WINDOW = 2 * LANES

# The start of the window of a block that has none.
NO_WINDOW = -1


@functools.cache
def make_interpolate_line(mode):
    """Function: line, tables, target, first element of the target, count -> elements of the target.

    ``tables`` are the offsets and weights of the taps, both (taps, elements in blocks), and the
    first element of each block's window. Offsets, 32-bit integers, are counted from there, or from
    the line's start. Lines have numbers of the type that computes.
    """

    @intrinsic
    def interpolate_line(typingctx, line, tables, target, to, count):
        def codegen(context, builder, signature, args):
            emit = Emitter(builder, context.get_value_type(line.dtype))
            source, out = (
                Plane(context, builder, kind, value)
                for kind, value in ((line, args[0]), (target, args[2]))
            )
            tables_ = zip(tables, cgutils.unpack_tuple(builder, args[1]), strict=True)
            index, weight, windows = (Plane(context, builder, *table) for table in tables_)
            end = out.address(args[3])

            def write(read, first, e, width):
                terms = []
                for k in range(TAPS[mode]):
                    at, by = (
                        load_elements(emit, plane, plane.address(I64(k), first), width)
                        for plane in (index, weight)
                    )
                    terms.append(builder.fmul(read(at), by))
                value = to_stored(emit, _sum(builder, terms), out.kind)
                store_elements(
                    emit, value, builder.add(end, builder.mul(e, I64(out.bytes))), out.bytes
                )

            def gather_from(start):
                base = builder.inttoptr(start, source.kind.as_pointer())
                return lambda at: gather(emit, base, at)

            def block(number, e):
                first = builder.mul(number, I64(LANES))
                window = builder.sext(_load_one(builder, windows, number), I64)
                near = builder.icmp_signed("!=", window, I64(NO_WINDOW))
                with builder.if_else(near) as (inside, scattered):
                    with inside:
                        start = source.address(window)
                        permutes = source.kind == F32 and has_permutations(context)
                        read = permute_window(emit, source, start) if permutes else None
                        write(read or gather_from(start), first, e, LANES)
                    with scattered:
                        write(gather_from(source.start), first, e, LANES)

            def element(e):
                write(gather_from(source.start), e, e, 1)

            count_ = args[4]
            _choose_by_length(
                builder, count_,
                lambda: _each_whole_block(builder, I64(0), count_, block), element,
            )  # fmt: skip
            return context.get_dummy_value()

        return types.void(line, tables, target, to, count), codegen

    return interpolate_line


def _load_one(builder, plane, index):
    """Load an element."""
    return builder.load(builder.inttoptr(plane.address(index), plane.kind.as_pointer()))


def has_permutations(context):
    """Whether the processor permutes two vectors of LANES float32 numbers (AVX-512)."""
    return "+avx512f" in context.codegen().magic_tuple()[2].split(",")


def permute_window(emit, plane, start):
    """Function: the numbers at these offsets from an address, of a window in two vectors."""
    b, vector, numbers = emit.builder, lanes(F32), lanes(I32)
    halves = [
        load_elements(emit, plane, b.add(start, I64(k * LANES * plane.bytes)), LANES)
        for k in range(2)
    ]
    function = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(vector, [vector, numbers, vector]),
        "llvm.x86.avx512.vpermi2var.ps.512",
    )  # fmt: skip
    return lambda at: b.call(function, [halves[0], at, halves[1]])
