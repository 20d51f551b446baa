"""The images' gradient for small images, summed in quads.

A quad has four sums, one for each tap of the samples that share a lower tap. One load and one store
add to a quad; adding to pixels takes four of each. And quads do not overlap in part, as pairs of
pixels do: a load that overlaps an earlier store in part has to wait until that store has reached
the cache. There is a quad for each lower tap that touches the image, from -1 to W - 1 and from -1
to H - 1. At the end, :func:`gather_quads` sums the quads into pixels.
"""

from llvmlite.ir import VectorType
from numba.core import cgutils, types
from numba.extending import intrinsic

from .bilinear import ORDER
from .block_functions import border_function, interior_function
from .lanes import not_repeated, weights
from .vectors import I32, I64, LANES, Emitter, Plane, lanes

# --- Adding to quads ------------------------------------------------------------------------------


@interior_function
def accumulate_quads_interior(row, segment, affine, map_, first, last, _ahead):
    """Add the gradients of a segment's samples to the quads of their lower taps.

    The fourth array has the quads, (channels, H + 1, W + 1, 4), of channels ``first`` to
    ``last`` - 1. The slots' offsets count quads from that of pixel (0, 0).
    """
    row.channels = (first, last)
    with segment.each_block() as (slot, j):
        fresh = not_repeated(row, segment.repeated(j))
        _accumulate(row, j, fresh, slot.fractions(), slot.offset)


@border_function
def accumulate_quads_border(row, block):
    """:func:`accumulate_quads_interior` for a border block.

    ``where`` ends with (skip, first, last, _, _); the first ``skip`` lanes are left out.
    """
    emit, b = row.emit, row.emit.builder
    skip, *row.channels, _, _ = block.numbers
    with block.axes() as (x, y, touching):
        fresh = not_repeated(row, skip)
        offsets = b.add(b.mul(y.index, emit.splat(_pitch(row))), x.index)
        if touching is not None:  # lanes without taps have no quad
            fresh = b.and_(fresh, touching)
            offsets = b.select(touching, offsets, lanes(I32, 0))
        offsets = emit.spill(offsets)
        fractions = x.fraction, y.fraction
        _accumulate(row, block.j, fresh, fractions, lambda k: emit.lane(offsets, k))


def _pitch(row):
    """The number of quads in a row."""
    return row.emit.builder.trunc(row.others[1].shape[2], I32)


def _accumulate(row, j, fresh, fractions, offset):
    """Add the gradients of a block's samples, if they are ``fresh``, to the quads ``offset(k)``."""
    emit, b, real, quads = row.emit, row.emit.builder, row.emit.real, row.others[1]
    size, quad = I64(4 * emit.bytes), VectorType(real, 4)
    shares = weights(emit, *fractions)
    with row.each_channel(j) as (_, sample):
        d = b.select(fresh, emit.load(sample, lanes(real)), lanes(real, 0.0))
        parts = _spill_as_quads(emit, [b.fmul(d, share) for share in shares])
        first = b.sub(row.channel, row.channels[0])
        base = emit.opaque(quads.address(first, I64(1), I64(1), I64(0)))
        for k in ORDER:
            address = b.add(base, b.mul(b.sext(offset(k), I64), size))
            part = emit.load(b.add(parts[k % 4], I64(4 * emit.bytes * (k // 4))), quad)
            emit.store(b.fadd(emit.load(address, quad), part), address)


def _spill_as_quads(emit, vectors):
    """Store four vectors as quads: the k-th address has those of lanes k, k + 4, and so on."""
    b = emit.builder
    groups = range(0, LANES, 4)

    def interleave(one, two, order):
        return b.shuffle_vector(one, two, lanes(I32, [g + k for g in groups for k in order]))

    low, high = [0, LANES, 1, LANES + 1], [2, LANES + 2, 3, LANES + 3]
    nw, ne, sw, se = vectors
    left, right = [0, 1, LANES, LANES + 1], [2, 3, LANES + 2, LANES + 3]
    quads = [
        interleave(interleave(nw, ne, half), interleave(sw, se, half), side)
        for half in (low, high) for side in (left, right)
    ]  # fmt: skip
    return [b.ptrtoint(emit.spill(vector), I64) for vector in quads]


# --- From quads to pixels -------------------------------------------------------------------------


@intrinsic
def gather_quads(typingctx, quads, dimages, where):
    """Sum the quads of LANES pixels; ``where`` is (channel of the quads, m, c, y, x).

    The scalar form is :func:`numba_stn.kernels.cpu.single_pixels.pixel_of_quads`.
    """

    def codegen(context, builder, signature, args):
        own, plane = (
            Plane(context, builder, *pair) for pair in zip((quads, dimages), args[:2], strict=True)
        )
        emit, b = Emitter(builder, plane.kind), builder
        channel, m, c, y, x = cgutils.unpack_tuple(builder, args[2])
        below, right = b.add(y, I64(1)), b.add(x, I64(1))
        taps = [(below, right), (below, x), (y, right), (y, x)]
        total, *parts = [
            _load_strided(emit, own.address(channel, row, column, I64(0)), number)
            for number, (row, column) in enumerate(taps)
        ]
        for part in parts:
            total = b.fadd(total, part)
        emit.store(total, plane.address(m, c, y, x))
        return context.get_dummy_value()

    return types.void(quads, dimages, where), codegen


def _load_strided(emit, address, number):
    """Load the sum with this number, 0 to 3, of each of LANES quads."""
    b, size = emit.builder, LANES * emit.bytes
    parts = [emit.load(b.add(address, I64(k * size)), lanes(emit.real)) for k in range(4)]
    order = lanes(I32, [number + 4 * k for k in range(LANES // 2)] * 2)
    halves = [b.shuffle_vector(*parts[k : k + 2], order) for k in (0, 2)]
    whole = [*range(LANES // 2), *range(LANES, LANES + LANES // 2)]
    return b.shuffle_vector(*halves, lanes(I32, whole))
