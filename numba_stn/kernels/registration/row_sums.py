"""Sums over rows of float32 numbers, 16 lanes at a time.

LLVM vectorises a sum only if it may change the order of the additions, and the order that it then
chooses depends on the processor. Here the order is written out: lane k adds the elements k, k + 16,
k + 32, ... of a row; then the upper half of the lanes is added to the lower half, until one is
left. So the sums have the same bits on every processor.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ..cpu.simd.vectors import F32, I32, I64, LANES, Emitter, Plane, lanes
from ..math.jit import scalar


@scalar
def padded_width(width):
    """The width of rows whose sums are wanted: the next multiple of the number of lanes."""
    return -(-width // LANES) * LANES


def make_row_sums(count, terms):
    """Make an intrinsic ``f(rows, indices)`` that returns ``count`` sums over the columns.

    ``rows`` is a C-contiguous (R, W) array of float32, and W a multiple of LANES. ``terms(builder,
    *vectors)`` builds the terms of the sums from the elements of the rows ``indices``.
    """

    @intrinsic
    def row_sums(typingctx, rows, indices):
        def codegen(context, builder, signature, args):
            emit, table = Emitter(builder, F32), Plane(context, builder, rows, args[0])
            starts = [table.address(i, I64(0)) for i in cgutils.unpack_tuple(builder, args[1])]
            sums = [cgutils.alloca_once_value(builder, lanes(F32, 0.0)) for _ in range(count)]
            blocks = builder.udiv(table.shape[1], I64(LANES))
            with cgutils.for_range(builder, blocks) as loop:
                far = builder.mul(loop.index, I64(LANES * table.bytes))
                vectors = [emit.load(builder.add(start, far), lanes(F32)) for start in starts]
                for total, term in zip(sums, terms(builder, *vectors), strict=True):
                    builder.store(builder.fadd(builder.load(total), term), total)
            found = [_add_lanes(builder, builder.load(total)) for total in sums]
            return cgutils.pack_array(builder, found)

        return types.UniTuple(types.float32, count)(rows, indices), codegen

    return row_sums


def _add_lanes(builder, vector):
    """Add the lanes of a vector: the upper half to the lower half, until one is left."""
    half = LANES // 2
    while half:
        low, high = (
            ir.Constant(ir.VectorType(I32, half), [k + first for k in range(half)])
            for first in (0, half)
        )
        parts = (builder.shuffle_vector(vector, vector, order) for order in (low, high))
        vector, half = builder.fadd(*parts), half // 2
    return builder.extract_element(vector, I32(0))


def _slope_products(b, one, two, x):
    product = b.fmul(one, two)
    first = b.fmul(product, x)
    return product, first, b.fmul(first, x)


def _slope_value_products(b, slope, sample, target, x):
    by_sample, by_target = b.fmul(slope, sample), b.fmul(slope, target)
    return by_sample, b.fmul(by_sample, x), by_target, b.fmul(by_target, x), slope, b.fmul(slope, x)


def _value_products(b, sample, target):
    squares = b.fmul(sample, sample), b.fmul(sample, target), b.fmul(target, target)
    return *squares, sample, target


# The sums of ``one two``, ``one two x`` and ``one two x^2``, from the rows (one, two, x).
slope_products = make_row_sums(3, _slope_products)

# The sums of a slope times (sample, target, 1), each followed by the same times x, from the rows
# (slope, sample, target, x).
slope_value_products = make_row_sums(6, _slope_value_products)

# The sums of s^2, s f, f^2, s and f, from the rows (sample, target).
value_products = make_row_sums(5, _value_products)
