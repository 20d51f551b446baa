"""The gradient of the images, bilinear, of 16 samples at a time: added to pixels, or to quads.

The forward direction and the gradient of the coordinates are in :mod:`.bilinear`, which says how
the functions are called.
"""

from llvmlite.ir import IntType, VectorType
from numba.core import cgutils, types
from numba.extending import intrinsic

from .border import clamped_taps
from .interpolation import bilinear_weights
from .intrinsics import border_function, interior_function
from .row_segments import not_repeated, prefetch_ahead
from .vectors import I32, I64, LANES, Emitter, Plane, lanes

# The order in which lanes are added. Neighbouring pixels add to the same taps, and would wait for
# each other, so lanes that are four apart follow one another.
ORDER = [first + 4 * k for first in range(4) for k in range(LANES // 4)]


@interior_function
def accumulate_interior(row, segment, affine, map_, first, last, ahead):
    """Add the gradients of a segment's samples to the pixels they were read from.

    Only channels ``first`` to ``last`` - 1 are computed.
    """
    emit, b, real = row.emit, row.emit.builder, row.emit.real
    row.channels = (first, last)
    with segment.each_block() as (slot, j):
        shares = bilinear_weights(emit, *slot.fractions())
        fresh = not_repeated(row, segment.repeated(j))
        with row.each_channel(j) as (image, sample):
            d = b.select(fresh, emit.load(sample, lanes(real)), lanes(real, 0.0))
            nw, ne, sw, se = (emit.spill(b.fmul(d, share)) for share in shares)
            if affine:
                prefetch_ahead(row, image, slot, ahead)
            upper, lower = row.bases(image)
            for k in ORDER:
                offset = slot.offset(k)
                for start, west, east in ((upper, nw, ne), (lower, sw, se)):
                    address = row.address(start, offset)
                    for column, part in enumerate((west, east)):
                        pointer = row.pointer(address, column)
                        b.store(b.fadd(b.load(pointer), emit.lane(part, k)), pointer)


@border_function
def accumulate_border(row, block):
    """:func:`accumulate_interior` for a border block, lane after lane.

    ``where`` ends with (skip, first, last, top, bottom): only rows ``top`` to ``bottom`` - 1 of the
    image are written, and the first ``skip`` lanes are left out.
    """
    emit, b, real = row.emit, row.emit.builder, row.emit.real
    skip, *row.channels, top, bottom = block.numbers
    top, bottom = (b.trunc(number, I32) for number in (top, bottom))
    x, y, touching = block.axes()
    rows, columns = clamped_taps(row, x, y, top, bottom)
    fresh = not_repeated(row, skip)
    if touching is not None:
        fresh = b.and_(fresh, touching)
    touched = b.and_(fresh, b.or_(rows[0][1], rows[1][1]))
    bits = IntType(LANES)
    with b.if_then(b.icmp_unsigned("!=", b.bitcast(touched, bits), bits(0))):
        taps = [
            (emit.spill(row.offsets(i, j)), emit.all_of(fresh, row_exists, column_exists))
            for i, row_exists in rows for j, column_exists in columns
        ]  # fmt: skip
        shares = bilinear_weights(emit, x.fraction, y.fraction)
        with row.each_channel(block.j) as (image, sample):
            start, d = emit.opaque(image), emit.load(sample, lanes(real))
            parts = [
                emit.spill(b.select(mask, b.fmul(d, share), lanes(real, 0.0)))
                for (_, mask), share in zip(taps, shares, strict=True)
            ]
            for k in ORDER:
                for (offsets, _), part in zip(taps, parts, strict=True):
                    pointer = row.pointer(row.address(start, emit.lane(offsets, k)), 0)
                    b.store(b.fadd(b.load(pointer), emit.lane(part, k)), pointer)


# --- Small images: quads --------------------------------------------------------------------------
#
# A quad has four sums, one for each tap of the samples that share a lower tap. One load and one
# store add to a quad; adding to pixels takes four of each. And quads do not overlap in part, as
# pairs of pixels do: a load that overlaps an earlier store in part has to wait until that store has
# reached the cache. There is a quad for each lower tap that touches the image, from -1 to W - 1 and
# from -1 to H - 1. At the end, :func:`gather_quads` sums the quads into pixels.


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
    x, y, touching = block.axes()
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
    shares = bilinear_weights(emit, *fractions)
    with row.each_channel(j) as (_, sample):
        d = b.select(fresh, emit.load(sample, lanes(real)), lanes(real, 0.0))
        parts = spill_as_quads(emit, [b.fmul(d, share) for share in shares])
        first = b.sub(row.channel, row.channels[0])
        base = emit.opaque(quads.address(first, I64(1), I64(1), I64(0)))
        for k in ORDER:
            address = b.add(base, b.mul(b.sext(offset(k), I64), size))
            part = emit.load(b.add(parts[k % 4], I64(4 * emit.bytes * (k // 4))), quad)
            emit.store(b.fadd(emit.load(address, quad), part), address)


def spill_as_quads(emit, vectors):
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
    """Sum the quads of LANES pixels; ``where`` is (channel, row, column, m, c, y, x).

    The first three are the number of the plane of quads, and the quad above and to the left of the
    first pixel's. The scalar form is :func:`numba_stn.kernels.cpu.bilinear.pixel_of_quads`.
    """

    def codegen(context, builder, signature, args):
        own, plane = (
            Plane(context, builder, *pair) for pair in zip((quads, dimages), args[:2], strict=True)
        )
        emit, b = Emitter(builder, plane.kind), builder
        channel, above, left, m, c, y, x = cgutils.unpack_tuple(builder, args[2])
        below, right = b.add(above, I64(1)), b.add(left, I64(1))
        taps = [(below, right), (below, left), (above, right), (above, left)]
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
