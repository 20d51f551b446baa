"""The inner loops of a convolution, in LLVM vectors whose lanes are LANES images.

Images are in batch blocks, (blocks, C, H, W, LANES), so that one vector holds the same pixel of
LANES images, and a convolution is a sum of products ``vector * weight``. Each function here
computes a tile of such sums in registers: enough of them to hide the latency of an addition, and
few enough for the registers to hold.

All arrays are passed flat, and offsets into them as numbers of elements.
"""

import itertools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ..cpu.simd.vectors import I32, I64, LANES, Emitter, lanes


class _Flat:
    """A flat array, of which vectors or single elements are read and written."""

    def __init__(self, context, builder, kind, value):
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.data = builder, array.data
        self.real = context.get_value_type(kind.dtype)
        self.bytes = kind.dtype.bitwidth // 8

    def _pointer(self, index):
        """Pointer to the vector that begins at an element."""
        vector = lanes(self.real).as_pointer()
        return self.builder.bitcast(self.builder.gep(self.data, [index]), vector)

    def vector(self, index):
        """Read LANES elements."""
        load = self.builder.load(self._pointer(index))
        load.align = self.bytes
        return load

    def store(self, vector, index):
        """Write LANES elements."""
        self.builder.store(vector, self._pointer(index)).align = self.bytes

    def number(self, index):
        """Read one element."""
        return self.builder.load(self.builder.gep(self.data, [index]))


class _Tile:
    """A tile of sums of products, (rows, columns) vectors in registers."""

    def __init__(self, emit, rows, columns, first):
        self.emit = emit
        self.sums = [
            [cgutils.alloca_once_value(emit.builder, first(r)) for _ in range(columns)]
            for r in range(rows)
        ]

    def add(self, left, right):
        """Add ``left[row] * right[column]`` to each sum."""
        b = self.emit.builder
        for row, a in zip(self.sums, left, strict=True):
            for total, c in zip(row, right, strict=True):
                b.store(self.emit.call("fmuladd", a, c, b.load(total)), total)

    def each(self):
        """Row, column and value of every sum."""
        for r, row in enumerate(self.sums):
            for s, total in enumerate(row):
                yield r, s, self.emit.builder.load(total)


# Possible numbers of rows, and of columns, of a tile.
SIDES = (4, 2, 1)


def _tile_function(build):
    """Make an intrinsic ``f(rows, columns, arrays, numbers)``.

    Its code comes from ``build(emit, rows, columns, arrays, numbers)``. ``rows`` and ``columns``
    are in SIDES, ``arrays`` is a tuple of flat arrays, and ``numbers`` is a tuple of int64.
    """

    @intrinsic
    def tile(typingctx, rows, columns, arrays, numbers):
        def codegen(context, builder, signature, args):
            flat = [
                _Flat(context, builder, kind, value)
                for kind, value in zip(arrays, cgutils.unpack_tuple(builder, args[2]), strict=True)
            ]
            numbers_ = cgutils.unpack_tuple(builder, args[3])
            for sides in itertools.product(SIDES, SIDES):
                same = [
                    builder.icmp_signed("==", side, I64(k))
                    for side, k in zip(args[:2], sides, strict=True)
                ]
                with builder.if_then(builder.and_(*same)):
                    build(Emitter(builder, flat[0].real), *sides, flat, numbers_)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, arrays, numbers), codegen

    tile.__name__ = build.__name__
    return tile


@_tile_function
def correlate(emit, features, positions, arrays, numbers):
    """``y[f, p] = bias[f] + sum over taps of weight[tap, f] x[p + tap]``.

    ``arrays`` are x, taps, weight, bias and y. ``numbers`` are the number of taps, the offset of
    the first position in x, the step between positions there, the offsets of the tile in weight,
    bias and y, and the step between features in y.
    """
    x, taps, weight, bias, y = arrays
    count, x_at, x_step, weight_at, bias_at, y_at, y_feature = numbers
    b = emit.builder
    tile = _Tile(
        emit, features, positions, lambda f: emit.splat(bias.number(b.add(bias_at, I64(f))))
    )
    with cgutils.for_range(b, count) as loop:
        start = b.add(x_at, taps.number(loop.index))
        pixels = [x.vector(b.add(start, b.mul(x_step, I64(p)))) for p in range(positions)]
        at = b.add(weight_at, b.mul(loop.index, I64(features)))
        weights = [emit.splat(weight.number(b.add(at, I64(f)))) for f in range(features)]
        tile.add(weights, pixels)
    for f, p, value in tile.each():
        y.store(value, b.add(b.add(y_at, b.mul(y_feature, I64(f))), I64(p * LANES)))


@_tile_function
def correlate_vjp_x(emit, taps_, positions, arrays, numbers):
    """``dx[p + tap] += sum over features of weight[f, tap] dy[f, p]``.

    ``arrays`` are dx, taps, weight and dy. ``numbers`` are the number of features, the offset of
    the first position in dx, the step between positions there, the offset of the tile in weight,
    the number of its first tap, the offset of the first position in dy, and the step between
    features there.
    """
    dx, taps, weight, dy = arrays
    count, x_at, x_step, weight_at, tap_at, y_at, y_feature = numbers
    b = emit.builder
    zero = lanes(emit.real, 0.0)
    tile = _Tile(emit, taps_, positions, lambda _: zero)
    with cgutils.for_range(b, count) as loop:
        start = b.add(y_at, b.mul(y_feature, loop.index))
        gradients = [dy.vector(b.add(start, I64(p * LANES))) for p in range(positions)]
        at = b.add(weight_at, b.mul(loop.index, I64(taps_)))
        weights = [emit.splat(weight.number(b.add(at, I64(t)))) for t in range(taps_)]
        tile.add(weights, gradients)
    for t, p, value in tile.each():
        at = b.add(x_at, taps.number(b.add(tap_at, I64(t))))
        at = b.add(at, b.mul(x_step, I64(p)))
        dx.store(b.fadd(dx.vector(at), value), at)


@_tile_function
def correlate_vjp_weight(emit, features, taps_, arrays, numbers):
    """``dweight[f, tap] += sum over blocks, positions and lanes of dy[f, p] x[p + tap]``.

    ``arrays`` are dweight, taps, x and dy. ``numbers`` are the first block and the end of the
    blocks, the output's rows and columns, the steps in x between blocks, rows and positions, the
    steps in dy between blocks and features, the offset of the tile's features in dy, the number of
    its first tap, its offset in dweight, and the step between features there.
    """
    dweight, taps, x, dy = arrays
    (first, last, rows, columns, x_block, x_row, x_step, y_block, y_feature, y_at, tap_at,
     weight_at, weight_feature) = numbers  # fmt: skip
    b = emit.builder
    zero = lanes(emit.real, 0.0)
    tile = _Tile(emit, features, taps_, lambda _: zero)
    offsets = [taps.number(b.add(tap_at, I64(t))) for t in range(taps_)]
    with cgutils.for_range(b, b.sub(last, first)) as block:
        n = b.add(first, block.index)
        with cgutils.for_range(b, rows) as row:
            x_start = b.add(b.mul(n, x_block), b.mul(row.index, x_row))
            y_row = b.mul(b.mul(row.index, columns), I64(LANES))
            y_start = b.add(b.add(y_at, b.mul(n, y_block)), y_row)
            with cgutils.for_range(b, columns) as column:
                xs = b.add(x_start, b.mul(column.index, x_step))
                ys = b.add(y_start, b.mul(column.index, I64(LANES)))
                pixels = [x.vector(b.add(xs, tap)) for tap in offsets]
                gradients = [
                    dy.vector(b.add(ys, b.mul(y_feature, I64(f)))) for f in range(features)
                ]
                tile.add(gradients, pixels)
    for f, t, value in tile.each():
        total = _sum_of_lanes(emit, value)
        at = b.add(b.add(weight_at, b.mul(weight_feature, I64(f))), I64(t))
        pointer = b.gep(dweight.data, [at])
        b.store(b.fadd(b.load(pointer), total), pointer)


def _sum_of_lanes(emit, vector):
    """The sum of a vector's lanes: the upper half is added to the lower half, and so on."""
    b, width = emit.builder, LANES
    while width > 1:
        width //= 2
        kind = ir.VectorType(I32, width)
        halves = [ir.Constant(kind, list(range(k, k + width))) for k in (0, width)]
        low, high = (b.shuffle_vector(vector, vector, half) for half in halves)
        vector = b.fadd(low, high)
    return b.extract_element(vector, I32(0))


# --- Pooling --------------------------------------------------------------------------------------


def _vector_function(build):
    """Make an intrinsic ``f(arrays, numbers)`` from ``build(emit, flat arrays, numbers)``."""

    @intrinsic
    def function(typingctx, arrays, numbers):
        def codegen(context, builder, signature, args):
            flat = [
                _Flat(context, builder, kind, value)
                for kind, value in zip(arrays, cgutils.unpack_tuple(builder, args[0]), strict=True)
            ]
            build(Emitter(builder, flat[0].real), flat, cgutils.unpack_tuple(builder, args[1]))
            return context.get_dummy_value()

        return types.void(arrays, numbers), codegen

    function.__name__ = build.__name__
    return function


def _window_elements(builder, kernel, x_row, x_at):
    """Emit a loop over a window's elements; yields an element's index in the window, its offset."""
    with cgutils.for_range(builder, kernel) as i, cgutils.for_range(builder, kernel) as j:
        k = builder.add(builder.mul(i.index, kernel), j.index)
        step = builder.add(builder.mul(i.index, x_row), builder.mul(j.index, I64(LANES)))
        yield k, builder.add(x_at, step)


@_vector_function
def window_extreme(emit, arrays, numbers):
    """Largest or smallest value of a window, and its index: the first of equals; NaN wins."""
    x, extreme, indices = arrays
    kernel, x_row, x_at, at, smallest = numbers
    b = emit.builder
    best = cgutils.alloca_once_value(b, x.vector(x_at))
    index = cgutils.alloca_once_value(b, lanes(indices.real, 0))
    for k, offset in _window_elements(b, kernel, x_row, x_at):
        value, so_far = x.vector(offset), b.load(best)
        missing = b.fcmp_unordered("uno", value, value)
        above, below = (b.fcmp_ordered(sign, value, so_far) for sign in "><")
        better = b.or_(b.select(smallest, below, above), missing)
        b.store(b.select(better, value, so_far), best)
        number = emit.splat(b.trunc(k, indices.real))
        b.store(b.select(better, number, b.load(index)), index)
    extreme.store(b.load(best), at)
    indices.store(b.load(index), at)


@_vector_function
def add_to_chosen_element(emit, arrays, numbers):
    """Add ``factor`` times a gradient to the element of its window that was chosen."""
    dx, dchosen, indices = arrays
    kernel, x_row, x_at, at, factor = numbers
    b = emit.builder
    d, index = b.fmul(dchosen.vector(at), emit.splat(factor)), indices.vector(at)
    for k, offset in _window_elements(b, kernel, x_row, x_at):
        mine = b.icmp_signed("==", index, emit.splat(b.trunc(k, indices.real)))
        more = b.select(mine, d, lanes(emit.real, 0.0))
        dx.store(b.fadd(dx.vector(offset), more), offset)
