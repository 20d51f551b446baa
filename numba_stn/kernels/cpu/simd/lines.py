"""Whole rows of elements: combined with weights, interpolated, or copied.

A row's elements are its pixels' channels, one after another. Full vectors of LANES elements are
computed together, and what remains is computed one by one.
"""

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.sampler_kind import TAPS
from .interpolation import to_real, to_stored
from .vectors import I32, I64, LANES, Emitter, Plane


def _each_chunk(builder, count, chunk):
    """Call ``chunk(first, width)`` for the elements 0 to ``count`` - 1."""
    whole = builder.udiv(count, I64(LANES))
    with cgutils.for_range(builder, whole) as loop:
        chunk(builder.mul(loop.index, I64(LANES)), LANES)
    done = builder.mul(whole, I64(LANES))
    with cgutils.for_range(builder, builder.sub(count, done)) as loop:
        chunk(builder.add(done, loop.index), 1)


def _load(emit, plane, address, width):
    """Load ``width`` elements, as a vector, from an address."""
    b, kind = emit.builder, ir.VectorType(plane.kind, width)
    load = b.load(b.inttoptr(address, kind.as_pointer()))
    load.align = plane.bytes
    return load


def _store(emit, vector, address, align):
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
                    to_real(emit, _load(emit, plane, builder.add(start, far), width)),
                    emit.splat(weight, width),
                )
                for plane, start, weight in zip(planes, starts, weights_, strict=True)
            ]
            value = to_stored(emit, _sum(builder, terms), out.kind)
            _store(emit, value, builder.add(end, builder.mul(e, I64(out.bytes))), out.bytes)

        _each_chunk(builder, count, chunk)
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
            value = to_real(emit, _load(emit, source, address, width))
            _store(emit, value, builder.add(end, builder.mul(e, I64(out.bytes))), out.bytes)

        _each_chunk(builder, count, chunk)
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


@functools.cache
def make_interpolate_line(mode):
    """Function: line, offsets and weights, both (taps, count), -> elements of a target from ``to``.

    The offsets are 32-bit integers, and lines have numbers of the type that computes.
    """

    @intrinsic
    def interpolate_line(typingctx, line, offsets, weights, target, to, count):
        def codegen(context, builder, signature, args):
            emit = Emitter(builder, context.get_value_type(line.dtype))
            source, index, weight, out = (
                Plane(context, builder, kind, value)
                for kind, value in zip((line, offsets, weights, target), args[:4], strict=True)
            )
            base = builder.inttoptr(source.start, source.kind.as_pointer())
            end = out.address(args[4])

            def chunk(e, width):
                terms = []
                for k in range(TAPS[mode]):
                    at, by = (
                        _load(emit, plane, plane.address(I64(k), e), width)
                        for plane in (index, weight)
                    )
                    terms.append(builder.fmul(gather(emit, base, at), by))
                value = to_stored(emit, _sum(builder, terms), out.kind)
                _store(emit, value, builder.add(end, builder.mul(e, I64(out.bytes))), out.bytes)

            _each_chunk(builder, args[5], chunk)
            return context.get_dummy_value()

        return types.void(line, offsets, weights, target, to, count), codegen

    return interpolate_line


# --- Gathering ------------------------------------------------------------------------------------


class _VectorOfPointers(ir.instructions.Instruction):
    """The addresses of the elements at a vector of indices."""

    def __init__(self, block, base, index):
        kind = ir.VectorType(base.type, index.type.count)
        super().__init__(block, kind, "getelementptr", [base, index])
        self.element = base.type.pointee

    def descr(self, buf):
        """Write the instruction."""
        base, index = self.operands
        buf.append(
            f"getelementptr {self.element}, {base.type} {base.get_reference()}, "
            f"{index.type} {index.get_reference()}\n"
        )


def gather(emit, base, index):
    """Load the numbers at a vector of indices from a pointer."""
    b, width, kind = emit.builder, index.type.count, base.type.pointee
    if width == 1:
        element = b.load(b.gep(base, [b.extract_element(index, I32(0))]))
        vector = ir.Constant(ir.VectorType(kind, 1), ir.Undefined)
        return b.insert_element(vector, element, I32(0))
    pointers = _VectorOfPointers(b.block, base, index)
    b._insert(pointers)
    bits = {"float": 32, "double": 64}[str(kind)]
    masks, values = ir.VectorType(ir.IntType(1), width), ir.VectorType(kind, width)
    function = cgutils.get_or_insert_function(
        b.module,
        ir.FunctionType(values, [pointers.type, I32, masks, values]),
        f"llvm.masked.gather.v{width}f{bits}.v{width}p0",
    )
    everywhere = ir.Constant(masks, [1] * width)
    undefined = ir.Constant(values, ir.Undefined)
    return b.call(function, [pointers, I32(bits // 8), everywhere, undefined])
