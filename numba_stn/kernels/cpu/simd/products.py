"""Sums of a row's functions, each times a number, for the splines of :mod:`..tps`; all float64."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .vectors import F64, I32, I64, LANES, Emitter, Plane, lanes


@intrinsic
def combine_functions(typingctx, weights, basis, start, line, n):
    """Write ``line`` (2 columns): x and y in turn, ``start`` times (x, y) plus the n-th spline.

    ``weights (N, K + 3, 2)``, ``basis (K + 3, columns)`` whose last rows are x and y, and whose
    columns are a multiple of LANES.
    """

    def codegen(context, builder, signature, args):
        emit = Emitter(builder, F64)
        own, functions = (Plane(context, builder, *pair) for pair in
                          ((weights, args[0]), (basis, args[1])))  # fmt: skip
        target, factor = Plane(context, builder, line, args[3]), emit.splat(args[2])
        count, columns = functions.shape
        vector = lanes(F64)
        first = [builder.sub(count, I64(2)), builder.sub(count, I64(1))]
        with cgutils.for_range_slice(builder, I64(0), columns, I64(LANES), I64) as (j, _):
            starts = [builder.fmul(factor, emit.load(functions.address(k, j), vector))
                      for k in first]  # fmt: skip
            totals = [cgutils.alloca_once_value(builder, value) for value in starts]
            with cgutils.for_range(builder, count) as loop:
                function = emit.load(functions.address(loop.index, j), vector)
                for axis, total in enumerate(totals):
                    weight = _load_number(emit, own, args[4], loop.index, I64(axis))
                    _add_to(builder, total, builder.fmul(emit.splat(weight), function))
            x, y = (builder.load(total) for total in totals)
            order = [k + LANES * axis for k in range(LANES) for axis in range(2)]
            pairs = builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, 2 * LANES), order))
            emit.store(pairs, target.address(builder.mul(j, I64(2))))
        return context.get_dummy_value()

    return types.void(weights, basis, start, line, n), codegen


@intrinsic
def sum_over_pixels(typingctx, pixels, dgrid, where, totals):
    """Write ``totals`` (2, functions): the sum of a row's functions times the grid's gradient.

    ``pixels (columns, functions)`` has the functions of each pixel, a multiple of LANES; ``where``
    is (image, row) of ``dgrid (N, H, W, 2)``. A vector has LANES functions, so nothing is added up
    across a vector.
    """

    def codegen(context, builder, signature, args):
        emit = Emitter(builder, F64)
        functions = Plane(context, builder, pixels, args[0])
        gradient, target = (Plane(context, builder, *pair) for pair in
                            ((dgrid, args[1]), (totals, args[3])))  # fmt: skip
        n, i = cgutils.unpack_tuple(builder, args[2])
        columns, wide = functions.shape
        with cgutils.for_range_slice(builder, I64(0), wide, I64(LANES), I64) as (k, _):
            sums = [cgutils.alloca_once_value(builder, lanes(F64, 0.0)) for _ in range(2)]
            for total in sums:
                builder.store(lanes(F64, 0.0), total)
            with cgutils.for_range(builder, columns) as loop:
                function = emit.load(functions.address(loop.index, k), lanes(F64))
                for axis, total in enumerate(sums):
                    value = _load_number(emit, gradient, n, i, loop.index, I64(axis))
                    _add_to(builder, total, builder.fmul(emit.splat(emit.widen(value)), function))
            for axis, total in enumerate(sums):
                emit.store(builder.load(total), target.address(I64(axis), k))
        return context.get_dummy_value()

    return types.void(pixels, dgrid, where, totals), codegen


def _load_number(emit, plane, *index):
    pointer = emit.builder.inttoptr(plane.address(*index), plane.kind.as_pointer())
    return emit.builder.load(pointer)


def _add_to(builder, total, term):
    builder.store(builder.fadd(builder.load(total), term), total)
