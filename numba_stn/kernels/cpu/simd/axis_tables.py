"""Tables of the taps along an axis: the pixels that each position reads, and their weights."""

import functools

from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.coordinates import SNAP
from ...math.sampler_kind import BEFORE, TAPS, ZEROS
from .interpolation import tap_weights
from .padding import Side
from .positions import affine_coordinate
from .vectors import F64, I32, I64, LANES, Emitter, Plane, lanes

# The index of a tap that reads the fill, and of one that reads zero; pixel x has the index x + 2.
FILL_SLOT, ZERO_SLOT, SLOTS = 0, 1, 2


@functools.cache
def make_store_taps(mode, padding):
    """Function: write the tables of ``count`` positions ``start + step * k``, k from ``first`` on.

    It is called as ``f((start, step, size, off), (first, count, alone), crop, slots, weights)``.
    ``slots``, 32-bit integers, and ``weights`` are (taps, at least the next multiple of LANES);
    what is beyond ``count`` is arbitrary. A tap of weight 0 reads zero. If ``alone``, each position
    is the middle of a block of its own, as in rows; else they are in blocks that begin with
    ``first``, as columns are (:func:`.coordinates.along_row`). ``crop`` are the numbers of a
    :class:`.patches.Crop`.
    """

    @intrinsic
    def store_taps(typingctx, axis, where, crop, slots, weights):
        def codegen(context, builder, signature, args):
            (start, step, size, off), (origin, count, alone), part = (
                cgutils.unpack_tuple(builder, args[k]) for k in (0, 1, 2)
            )
            emit = Emitter(builder, context.get_value_type(weights.dtype))
            outs = [
                Plane(context, builder, kind, value)
                for kind, value in ((slots, args[3]), (weights, args[4]))
            ]
            side = Side(emit, size, off, mode, padding)
            part = [emit.splat(builder.trunc(number, I32)) for number in part]
            blocks = builder.udiv(builder.add(count, I64(LANES - 1)), I64(LANES))
            least = builder.sub(count, I64(LANES))
            few = builder.icmp_signed("<", least, I64(0))
            with cgutils.for_range(builder, blocks) as loop:
                first = builder.mul(loop.index, I64(LANES))
                with builder.if_else(builder.or_(alone, few)) as (own, shared):
                    with own:
                        c = _alone(emit, start, step, builder.add(origin, first))
                        _store(emit, side, part, outs, c, first)
                    with shared:
                        first = emit.minimum(first, least)
                        c = affine_coordinate(emit, start, step, builder.add(origin, first))
                        _store(emit, side, part, outs, c, first)
            return context.get_dummy_value()

        return types.void(axis, where, crop, slots, weights), codegen

    return store_taps


def _alone(emit, start, step, first):
    """Positions that are each the middle of a block: :func:`.coordinates.along_row`."""
    b = emit.builder
    numbers = lanes(F64, [float(k) for k in range(LANES)])
    columns = b.fadd(emit.splat(b.sitofp(first, F64)), numbers)
    middle = b.fadd(emit.splat(start), b.fmul(emit.splat(step), columns))
    base = emit.call("floor", middle)
    near = emit.narrow(b.fsub(middle, base))
    near = b.select(b.fcmp_unordered("uno", near, near), lanes(emit.real, 0.0), near)
    snap = lanes(emit.real, SNAP)
    return b.fadd(base, emit.widen(b.fsub(b.fadd(near, snap), snap)))


def _store(emit, side, part, outs, c, first):
    """Write the taps of a block's positions."""
    b, (slots, weights), (start, cut, jump) = emit.builder, outs, part
    none, one = (lanes(emit.real, number) for number in (0.0, 1.0))
    c, some = side.pad(c)
    low = emit.call("floor", c)
    each = tap_weights(emit, side.mode, emit.narrow(b.fsub(c, low)))
    for k in range(TAPS[side.mode]):
        index, exists = side.tap(low, k - BEFORE[side.mode])
        moved = b.select(b.icmp_signed(">=", index, cut), b.sub(index, jump), index)
        slot = b.add(b.sub(moved, start), lanes(I32, SLOTS))
        weight = each[k]
        if exists is not None:
            missing = FILL_SLOT if side.padding == ZEROS else ZERO_SLOT
            slot = b.select(exists, slot, lanes(I32, missing))
        slot = b.select(b.fcmp_unordered("!=", weight, none), slot, lanes(I32, ZERO_SLOT))
        if some is not None:  # a position without taps is all fill
            slot = b.select(some, slot, lanes(I32, ZERO_SLOT if k else FILL_SLOT))
            weight = b.select(some, weight, none if k else one)
        emit.store(slot, slots.address(I64(k), first))
        emit.store(weight, weights.address(I64(k), first))
