"""The inner loops of a convolution, in LLVM vectors whose lanes are LANES images.

Images are in batch blocks, (blocks, C, H, W, LANES), so that one vector holds the same pixel of
LANES images, and a convolution is a sum of products ``vector * weight``. Each function here
computes a tile of such sums in registers: enough of them to hide the latency of an addition, and
few enough for the registers to hold.

All arrays are passed flat, and offsets into them as numbers of elements.
"""

import itertools

from numba.core import cgutils, types
from numba.extending import intrinsic

from ..cpu.simd.vectors import I64, LANES, Emitter, lanes
from .flat_arrays import FlatArray


class _Tile:
    """A tile of sums of products, (rows, columns) vectors in registers."""

    def __init__(self, emit, first, columns):
        """``first`` has a vector for each row, or a list with one for each of its columns."""
        self.emit = emit
        rows = [row if isinstance(row, list) else [row] * columns for row in first]
        self.sums = [
            [cgutils.alloca_once_value(emit.builder, value) for value in row] for row in rows
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
                FlatArray(context, builder, kind, value)
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
    biases = [emit.splat(bias.number(b.add(bias_at, I64(f)))) for f in range(features)]
    tile = _Tile(emit, biases, positions)
    with cgutils.for_range(b, count) as loop:
        start = b.add(x_at, taps.number(loop.index))
        pixels = [x.vector(b.add(start, b.mul(x_step, I64(p)))) for p in range(positions)]
        at = b.add(weight_at, b.mul(loop.index, I64(features)))
        weights = [emit.splat(weight.number(b.add(at, I64(f)))) for f in range(features)]
        tile.add(weights, pixels)
    for f, p, value in tile.each():
        y.store(value, b.add(b.add(y_at, b.mul(y_feature, I64(f))), I64(p * LANES)))


@_tile_function
def gather_positions(emit, positions, _, arrays, numbers):
    """``near[f, p] = dy[f, p]``, so that the features of a tile of positions are neighbours.

    ``arrays`` are near and dy. ``numbers`` are the number of features, the offset in near, the
    offset of the first position in dy, and the step between features there.
    """
    near, dy = arrays
    count, near_at, y_at, y_feature = numbers
    b = emit.builder
    with cgutils.for_range(b, count) as loop:
        start = b.add(y_at, b.mul(y_feature, loop.index))
        place = b.add(near_at, b.mul(loop.index, I64(positions * LANES)))
        for p in range(positions):
            near.store(dy.vector(b.add(start, I64(p * LANES))), b.add(place, I64(p * LANES)))


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
    tile = _Tile(emit, [zero] * taps_, positions)
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
    """``sums[f, tap] += dy[f, p] x[p + tap]`` for each position p of some rows, in each lane.

    ``arrays`` are sums, taps, positions, x and dy; ``positions`` has the offset in x of each
    position from the first. ``numbers`` are the number of positions, the offset of the first in x
    and in dy, the step between features there, the number of the tile's first tap, its offset in
    sums, and the step between features there.
    """
    sums, taps, positions, x, dy = arrays
    count, x_at, y_at, y_feature, tap_at, sums_at, sums_feature = numbers
    b = emit.builder
    places = [
        [b.add(sums_at, b.add(b.mul(sums_feature, I64(f)), I64(t * LANES))) for t in range(taps_)]
        for f in range(features)
    ]
    tile = _Tile(emit, [[sums.vector(at) for at in row] for row in places], taps_)
    offsets = [taps.number(b.add(tap_at, I64(t))) for t in range(taps_)]
    with cgutils.for_range(b, count) as loop:  # one for all rows: short loops cost more
        xs = b.add(x_at, positions.number(loop.index))
        ys = b.add(y_at, b.mul(loop.index, I64(LANES)))
        pixels = [x.vector(b.add(xs, tap)) for tap in offsets]
        gradients = [dy.vector(b.add(ys, b.mul(y_feature, I64(f)))) for f in range(features)]
        tile.add(gradients, pixels)
    for f, t, value in tile.each():
        sums.store(value, places[f][t])
