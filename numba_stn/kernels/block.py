"""The fast path of bilinear sampling: a block of pixels at a time, in LLVM vectors.

Numba's loops over gathered pixels compile to one scalar after another. Here a block of LANES
pixels of one output row is written out as LLVM vectors through :func:`numba.extending.intrinsic`:
coordinates in float64, then for each pixel two loads of two neighbours each, shuffled into the
four vectors of taps, and blended. LLVM makes AVX-512, AVX2 or NEON of it.

A block is done here only if the four taps of all its pixels lie inside the image; paddings and
rims stay with the scalar code of :mod:`.cpu`. The operations and their order are those of
:mod:`.pixel`, so a block gives the scalar code's bits.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16

# A block addresses its pixels with 32 bits.
MOST_PIXELS = 2**31 - 1

_i1, _i32, _i64, _f64 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.DoubleType()


class Emitter:
    """A builder of LLVM code, with the few vector operations that a block needs."""

    def __init__(self, builder, real):
        self.builder, self.real = builder, real

    def vector(self, kind):
        """LANES of a type."""
        return ir.VectorType(kind, LANES)

    def splat(self, value):
        """A scalar in every lane."""
        kind = self.vector(value.type)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, _i32(0))
        zeros = ir.Constant(self.vector(_i32), [0] * LANES)
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)

    def constant(self, kind, value):
        """A number in every lane."""
        return ir.Constant(self.vector(kind), [value] * LANES)

    def floor(self, x):
        """Largest whole number not above x."""
        name = f"llvm.floor.v{LANES}f64"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(x.type, [x.type]), name
        )
        return self.builder.call(function, [x])

    def all_lanes(self, mask):
        """Whether a condition holds in every lane."""
        whole = ir.IntType(LANES)
        return self.builder.icmp_unsigned(
            "==", self.builder.bitcast(mask, whole), ir.Constant(whole, -1)
        )

    def join(self, parts):
        """Vectors end to end."""
        while len(parts) > 1:
            width = 2 * parts[0].type.count
            order = ir.Constant(ir.VectorType(_i32, width), list(range(width)))
            parts = [
                self.builder.shuffle_vector(a, b, order)
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def pairs(self, addresses):
        """The values at each address and behind it: two vectors."""
        pair = ir.VectorType(self.real, 2)
        loads = []
        for address in addresses:
            load = self.builder.load(self.builder.inttoptr(address, pair.as_pointer()))
            load.align = 4
            loads.append(load)
        halves = self.join(loads[: LANES // 2]), self.join(loads[LANES // 2 :])
        return [
            self.builder.shuffle_vector(
                *halves, ir.Constant(self.vector(_i32), list(range(first, 2 * LANES, 2)))
            )
            for first in (0, 1)
        ]


def _inside(emit, x, y, height, width):
    """Whether all taps of all lanes are in the image: 0 <= x < W - 1 and 0 <= y < H - 1."""
    builder, zero = emit.builder, emit.constant(_f64, 0.0)
    mask = None
    for c, side in ((x, width), (y, height)):
        last = emit.splat(builder.sitofp(builder.sub(side, _i64(1)), _f64))
        for op, bound in ((">=", zero), ("<", last)):
            found = builder.fcmp_ordered(op, c, bound)
            mask = found if mask is None else builder.and_(mask, found)
    return emit.all_lanes(mask)


def _taps(emit, x, y, width):
    """Offset of each lane's lower tap in its plane, and the fractions."""
    builder = emit.builder
    low_x, low_y = emit.floor(x), emit.floor(y)
    whole = emit.vector(_i32)
    row = builder.mul(builder.fptosi(low_y, whole), emit.splat(builder.trunc(width, _i32)))
    offset = builder.add(row, builder.fptosi(low_x, whole))
    fractions = [builder.fsub(c, low) for c, low in ((x, low_x), (y, low_y))]
    if emit.real != _f64:
        fractions = [builder.fptrunc(f, emit.vector(emit.real)) for f in fractions]
    return offset, fractions


def _weights(emit, tx, ty):
    """The weights of :func:`.pixel.bilinear_weights`."""
    builder, one = emit.builder, emit.constant(emit.real, 1.0)
    sx, sy = builder.fsub(one, tx), builder.fsub(one, ty)
    return [builder.fmul(a, b) for a, b in ((sx, sy), (tx, sy), (sx, ty), (tx, ty))]


def _addresses(emit, offset):
    """Byte offset of each lane, as integers of their own."""
    builder = emit.builder
    size = 8 if emit.real == _f64 else 4
    wide = builder.mul(builder.zext(offset, emit.vector(_i64)), emit.constant(_i64, size))
    place = cgutils.alloca_once(builder, emit.vector(_i64))
    builder.store(wide, place)
    lanes = builder.bitcast(place, _i64.as_pointer())
    out = []
    for lane in range(LANES):
        load = builder.load(builder.gep(lanes, [_i32(lane)]))
        load.volatile = True
        out.append(load)
    return out


def _blend(emit, x, y, images, plane, shape, samples, plane_out):
    """Sample every channel at the coordinates of a block that lies inside."""
    builder = emit.builder
    size = 8 if emit.real == _f64 else 4
    channels, _, width = shape
    offset, (tx, ty) = _taps(emit, x, y, width)
    weights = _weights(emit, tx, ty)
    lanes = _addresses(emit, offset)
    below = builder.mul(width, _i64(size))
    with cgutils.for_range(builder, channels) as loop:
        start = builder.add(images, builder.mul(loop.index, builder.mul(plane, _i64(size))))
        top = [builder.add(start, lane) for lane in lanes]
        taps = [*emit.pairs(top), *emit.pairs([builder.add(a, below) for a in top])]
        terms = [builder.fmul(tap, weight) for tap, weight in zip(taps, weights, strict=True)]
        value = terms[0]
        for term in terms[1:]:
            value = builder.fadd(value, term)
        out = builder.add(samples, builder.mul(loop.index, builder.mul(plane_out, _i64(size))))
        builder.store(value, builder.inttoptr(out, value.type.as_pointer())).align = size


@intrinsic
def sample_affine_block(typingctx, row, j, images, plane, shape, samples, plane_out, fill):
    """Sample LANES pixels from column j on of an affine row, if all their taps are inside.

    ``row`` is (start, step of x, start, step of y); ``images`` and ``samples`` are the addresses
    of image n's first pixel and of the block's first sample in channel 0; ``plane`` and
    ``plane_out`` are the pixels of a channel; ``shape`` is (C, H, W). Returns whether it was done.
    """
    signature = types.boolean(row, j, images, plane, shape, samples, plane_out, fill)

    def codegen(context, builder, signature, args):
        row, j, images, plane, shape, samples, plane_out, _ = args
        emit = Emitter(builder, context.get_value_type(signature.args[-1]))
        start_x, step_x, start_y, step_y = cgutils.unpack_tuple(builder, row)
        shape = cgutils.unpack_tuple(builder, shape)
        lanes = ir.Constant(emit.vector(_f64), [float(lane) for lane in range(LANES)])
        columns = builder.fadd(emit.splat(builder.sitofp(j, _f64)), lanes)
        x, y = (
            builder.fadd(emit.splat(start), builder.fmul(emit.splat(step), columns))
            for start, step in ((start_x, step_x), (start_y, step_y))
        )
        inside = _inside(emit, x, y, shape[1], shape[2])
        with builder.if_then(inside, likely=True):
            _blend(emit, x, y, images, plane, shape, samples, plane_out)
        return inside

    return signature, codegen
