"""What is done with the strips of a framed image: bilinear samples, and both gradients in any mode.

:func:`.strips.compute_strip` has filled the slots. Bilinear sums have the terms and the order of
:mod:`.bilinear`, but theta's moments are summed strip by strip.
"""

import contextlib

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.sampler_kind import BICUBIC
from .bilinear import blend
from .checked_taps import weighted_sum
from .gathers import gather_pairs
from .images_gradient import ORDER, spill_as_quads
from .interpolation import bilinear_weights, tap_slopes, tap_weights
from .strips import load_slopes
from .vectors import F32, F64, I32, I64, LANES, Emitter, Plane, lanes
from .workspace import Slot


class _Strip:
    """A strip of samples: ``where`` is (n, first channel, planes, i, rows, column, first slot)."""

    def __init__(self, builder, samples, slots, where):
        self.samples, self.slots, self.builder = samples, slots, builder
        self.emit = Emitter(builder, samples.kind)
        self.n, self.channel, self.planes, self.i, self.rows, self.column, self.slot = where

    @contextlib.contextmanager
    def each_block(self):
        """Loop over the strip's blocks."""
        with cgutils.for_range(self.builder, self.rows) as loop:
            self.row = self.builder.add(self.i, loop.index)
            self.number = self.builder.add(self.slot, loop.index)
            yield Slot(self.emit, self.slots, self.number)

    @contextlib.contextmanager
    def each_plane(self):
        """Loop over the planes: a plane's number, and the address of the block's samples."""
        b = self.builder
        with cgutils.for_range(b, self.planes) as loop:
            channel = b.add(self.channel, loop.index)
            yield loop.index, self.samples.address(self.n, channel, self.row, self.column)


def _load_taps(strip, frame, plane, slot):
    """The four taps of each lane, from a plane of the framed image: (planes, H + 4, W + 4)."""
    b = strip.builder
    first = frame.address(plane, I64(0), I64(0))
    below = b.add(first, b.mul(frame.shape[2], I64(frame.bytes)))
    if frame.kind == F32:
        return gather_pairs(strip.emit, [first, below], slot.offsets)
    bases = [strip.emit.opaque(start) for start in (first, below)]
    return strip.emit.load_pairs(bases, slot.offset, frame)


@intrinsic
def sample_strip(typingctx, frame, samples, where, slots):
    """Sample a strip's blocks; ``where`` is (n, first channel, planes, i, rows, column, slot)."""

    def codegen(context, builder, signature, args):
        source, target = (
            Plane(context, builder, *pair) for pair in zip((frame, samples), args[:2], strict=True)
        )
        strip = _Strip(builder, target, args[3], cgutils.unpack_tuple(builder, args[2]))
        with strip.each_block() as slot:
            shares = bilinear_weights(strip.emit, *slot.fractions())
            with strip.each_plane() as (plane, address):
                taps = _load_taps(strip, source, plane, slot)
                strip.emit.store(blend(strip.emit, taps, shares), address)
        return context.get_dummy_value()

    return types.void(frame, samples, where, slots), codegen


def _not_repeated(strip, number):
    """The mask of the lanes that are not also in the block before: ``number`` is the block's."""
    b = strip.builder
    repeated = b.trunc(b.sub(b.mul(number, I64(LANES)), strip.column), I32)
    return b.icmp_signed(">=", lanes(I32, list(range(LANES))), strip.emit.splat(repeated))


# --- Gradient of theta ----------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def moments_strip(typingctx, mode, frame, dsamples, sums, where, number, memory):
    """Add a strip's moments to ``sums``, (6, LANES), as in :mod:`.bilinear`.

    ``number`` is that of the block in its row, and ``memory`` has the slots and the slopes.
    """
    if not isinstance(mode, types.IntegerLiteral):
        return None
    gradients_of = _bicubic_gradients if mode.literal_value == BICUBIC else _bilinear_gradients

    def codegen(context, builder, signature, args):
        source, own, out = (
            Plane(context, builder, *pair)
            for pair in zip((frame, dsamples, sums), args[1:4], strict=True)
        )
        slots, slopes = cgutils.unpack_tuple(builder, args[6])
        strip = _Strip(builder, own, slots, cgutils.unpack_tuple(builder, args[4]))
        emit, b = strip.emit, builder
        fresh, none = _not_repeated(strip, args[5]), lanes(emit.real, 0.0)
        totals = [cgutils.alloca_once_value(b, lanes(F64, 0.0)) for _ in range(4)]
        with strip.each_block() as slot:
            gradients = gradients_of(strip, source, slot)
            row = emit.splat(b.sitofp(strip.row, F64))
            padded = load_slopes(emit, slopes, strip.number)
            for axis, (gradient, slope) in enumerate(zip(gradients, padded, strict=True)):
                reverses = b.fcmp_ordered("<", slope, none)
                moving = b.and_(fresh, b.fcmp_unordered("!=", slope, none))
                gradient = b.select(reverses, b.fneg(gradient), gradient)
                found = emit.widen(b.select(moving, gradient, none))
                parts = found, b.fmul(found, row)
                for total, part in zip(totals[2 * axis : 2 * axis + 2], parts, strict=True):
                    b.store(b.fadd(b.load(total), part), total)
        _add_moments(strip, out, [b.load(total) for total in totals])
        return context.get_dummy_value()

    return types.void(mode, frame, dsamples, sums, where, number, memory), codegen


def _add_moments(strip, out, totals):
    """Add to the sums of d times column, d times row, and d, from the last two of each axis."""
    emit, b = strip.emit, strip.builder
    first = emit.splat(b.sitofp(strip.column, F64))
    columns = b.fadd(first, lanes(F64, [float(k) for k in range(LANES)]))
    for axis in range(2):
        total, by_row = totals[2 * axis : 2 * axis + 2]
        for k, part in enumerate((b.fmul(total, columns), by_row, total), 3 * axis):
            address = out.address(I64(k), I64(0))
            emit.store(b.fadd(emit.load(address, lanes(F64)), part), address)


def _sum_over_planes(strip, slopes_of):
    """The gradients in x and y per pixel: the sums over planes of d times the slopes."""
    emit, b, real = strip.emit, strip.builder, strip.emit.real
    sums = [cgutils.alloca_once_value(b, lanes(real, 0.0)) for _ in range(2)]
    with strip.each_plane() as (plane, address):
        slopes, d = slopes_of(plane), emit.load(address, lanes(real))
        for total, slope in zip(sums, slopes, strict=True):
            b.store(b.fadd(b.load(total), b.fmul(d, slope)), total)
    return [b.load(total) for total in sums]


def _bilinear_gradients(strip, frame, slot):
    """Gradients in x and y per pixel: :func:`.interpolation.bilinear_slopes`."""
    b, one, (tx, ty) = strip.builder, lanes(strip.emit.real, 1.0), slot.fractions()
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)

    def slopes(plane):
        nw, ne, sw, se = _load_taps(strip, frame, plane, slot)
        by_x = b.fadd(b.fmul(b.fsub(ne, nw), sy), b.fmul(b.fsub(se, sw), ty))
        return by_x, b.fadd(b.fmul(b.fsub(sw, nw), sx), b.fmul(b.fsub(se, ne), tx))

    return _sum_over_planes(strip, slopes)


def _bicubic_gradients(strip, frame, slot):
    """Gradients in x and y per pixel: sums of 4 x 4 taps, first over rows, then over columns."""
    emit, b, (x, y) = strip.emit, strip.builder, slot.fractions()
    down = [[emit.spill(each) for each in of(emit, BICUBIC, y)] for of in (tap_weights, tap_slopes)]
    across = tap_slopes(emit, BICUBIC, x), tap_weights(emit, BICUBIC, x)

    def slopes(plane):
        bases = _rows_of_taps(strip, frame, plane)
        columns = [], []  # by lane, the sums over rows with weights, and with slopes
        for k in range(LANES):
            rows = [emit.load(_tap_address(strip, base, slot, k), _quad(emit)) for base in bases]
            for sums, factors in zip(columns, down, strict=True):
                each = [emit.splat(emit.lane(factor, k), 4) for factor in factors]
                sums.append(weighted_sum(b, each, rows))
        return [
            weighted_sum(b, factors, _by_tap(emit, sums))
            for sums, factors in zip(columns, across, strict=True)
        ]

    return _sum_over_planes(strip, slopes)


def _quad(emit):
    return ir.VectorType(emit.real, 4)


def _by_tap(emit, quads):
    """From a quad of each lane, four vectors: the first numbers, the second ones, and so on."""
    whole = emit.concatenate(quads)
    orders = [lanes(I32, [4 * k + tap for k in range(LANES)]) for tap in range(4)]
    return [emit.builder.shuffle_vector(whole, whole, order) for order in orders]


def _rows_of_taps(strip, frame, plane):
    """Opaque addresses of the four rows of bicubic taps of the frame's first pixel."""
    b = strip.builder
    pitch = b.mul(frame.shape[2], I64(frame.bytes))
    first = b.sub(frame.address(plane, I64(0), I64(0)), b.add(pitch, I64(frame.bytes)))
    return [strip.emit.opaque(b.add(first, b.mul(pitch, I64(r)))) for r in range(4)]


def _tap_address(strip, base, slot, k):
    """The address of lane k's tap, counted from a base."""
    b = strip.builder
    return b.add(base, b.mul(b.zext(slot.offset(k), I64), I64(strip.emit.bytes)))


# --- Gradient of the images -----------------------------------------------------------------------


@intrinsic
def accumulate_strip(typingctx, quads, dsamples, where, number, slots):
    """Add a strip's gradients, bilinear, to the quads of their lower taps.

    The quads are (planes, H + 4, W + 4, 4): see :mod:`.images_gradient`.
    """

    def codegen(context, builder, signature, args):
        target, own = (
            Plane(context, builder, *pair) for pair in zip((quads, dsamples), args[:2], strict=True)
        )
        strip = _Strip(builder, own, args[4], cgutils.unpack_tuple(builder, args[2]))
        emit, b = strip.emit, builder
        fresh, size = _not_repeated(strip, args[3]), I64(4 * emit.bytes)
        with strip.each_block() as slot:
            shares = bilinear_weights(emit, *slot.fractions())
            with strip.each_plane() as (plane, address):
                d = _load_fresh(strip, address, fresh)
                parts = spill_as_quads(emit, [b.fmul(d, share) for share in shares])
                base = emit.opaque(target.address(plane, I64(0), I64(0), I64(0)))
                for k in ORDER:
                    at = b.add(base, b.mul(b.zext(slot.offset(k), I64), size))
                    part = _load_quad(emit, parts, k)
                    emit.store(b.fadd(emit.load(at, _quad(emit)), part), at)
        return context.get_dummy_value()

    return types.void(quads, dsamples, where, number, slots), codegen


def _load_fresh(strip, address, fresh):
    """The samples' gradients, 0 where they are also in the block before."""
    kind = lanes(strip.emit.real)
    return strip.builder.select(fresh, strip.emit.load(address, kind), lanes(strip.emit.real, 0.0))


def _load_quad(emit, parts, k):
    """Lane k's quad, of what :func:`.images_gradient.spill_as_quads` has stored."""
    return emit.load(emit.builder.add(parts[k % 4], I64(4 * emit.bytes * (k // 4))), _quad(emit))


@intrinsic(prefer_literal=True)
def accumulate_taps_strip(typingctx, mode, sums, dsamples, where, number, slots):
    """Add a strip's gradients, nearest or bicubic, to the pixels of a frame, (planes, H', W')."""
    if not isinstance(mode, types.IntegerLiteral):
        return None
    add_block = _add_bicubic if mode.literal_value == BICUBIC else _add_nearest

    def codegen(context, builder, signature, args):
        target, own = (
            Plane(context, builder, *pair) for pair in zip((sums, dsamples), args[1:3], strict=True)
        )
        strip = _Strip(builder, own, args[5], cgutils.unpack_tuple(builder, args[3]))
        fresh = _not_repeated(strip, args[4])
        with strip.each_block() as slot:
            add_block(strip, target, slot, fresh)
        return context.get_dummy_value()

    return types.void(mode, sums, dsamples, where, number, slots), codegen


def _add_nearest(strip, sums, slot, fresh):
    emit, b = strip.emit, strip.builder
    with strip.each_plane() as (plane, address):
        d = emit.spill(_load_fresh(strip, address, fresh))
        base = emit.opaque(sums.address(plane, I64(0), I64(0)))
        for k in ORDER:
            pixel = b.inttoptr(_tap_address(strip, base, slot, k), emit.real.as_pointer())
            b.store(b.fadd(b.load(pixel), emit.lane(d, k)), pixel)


def _add_bicubic(strip, sums, slot, fresh):
    emit, b, (x, y) = strip.emit, strip.builder, slot.fractions()
    across = spill_as_quads(emit, tap_weights(emit, BICUBIC, x))
    down = tap_weights(emit, BICUBIC, y)
    with strip.each_plane() as (plane, address):
        d = _load_fresh(strip, address, fresh)
        factors = [emit.spill(b.fmul(d, each)) for each in down]
        bases = _rows_of_taps(strip, sums, plane)
        for k in ORDER:
            weights = _load_quad(emit, across, k)
            for base, factor in zip(bases, factors, strict=True):
                at = _tap_address(strip, base, slot, k)
                part = b.fmul(emit.splat(emit.lane(factor, k), 4), weights)
                emit.store(b.fadd(emit.load(at, _quad(emit)), part), at)
