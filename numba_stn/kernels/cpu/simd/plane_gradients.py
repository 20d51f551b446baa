"""Gradients of a block of a plane, in any mode, padding and layout: by the images and positions.

Each block is treated as a border block (:mod:`.checked_taps`). The sums are those of the scalar
code in :mod:`numba_stn.kernels.cpu.general`, in its order.
"""

import functools

from numba.core import cgutils, types
from numba.extending import intrinsic

from .checked_taps import CheckedTaps, load_fill, weighted_sum
from .vectors import F64, I32, I64, LANES, Emitter, Plane, lanes


def _load_gradients(emit, samples, first, stride, span):
    """The samples' gradients of lanes ``span`` (first, last + 1); other lanes are arbitrary.

    They are ``stride`` elements apart, and ``first`` is the element of lane 0.
    """
    b, (skip, stop) = emit.builder, span
    held = emit.spill(lanes(emit.real, 0.0))
    whole = b.and_(b.icmp_signed("==", stop, I64(LANES)), b.icmp_signed("==", stride, I64(1)))
    with b.if_else(whole) as (then, otherwise):
        with then:
            vector = emit.load(samples.address(first), lanes(emit.real))
            b.store(vector, b.bitcast(held, vector.type.as_pointer()))
        with otherwise, cgutils.for_range(b, b.sub(stop, skip)) as loop:
            lane = b.add(skip, loop.index)
            address = samples.address(b.add(first, b.mul(lane, stride)))
            element = b.load(b.inttoptr(address, emit.real.as_pointer()))
            b.store(element, b.gep(held, [lane]))
    return b.load(b.bitcast(held, lanes(emit.real).as_pointer()))


# --- By the images --------------------------------------------------------------------------------


@functools.cache
def make_accumulate(mode, padding):
    """Function: add a block's gradients to the pixels that its samples were read from.

    It is called as ``f((dimages, dsamples), (x, y), where, window, sides, strides, off)``: elements
    as one-dimensional arrays; the pointers of :func:`.checked_taps.store_positions`; (first element
    of the image, of lane 0's samples, first lane, last + 1, channels); the rows of the image that
    are written, first and last + 1; (H, W); and the strides of
    :func:`.border_samples.make_sample_border`.
    """

    @intrinsic
    def accumulate(typingctx, arrays, positions, where, window, sides, strides, off):
        def codegen(context, builder, signature, args):
            arrays_, positions_, where_, window_, sides_, strides_ = (
                cgutils.unpack_tuple(builder, each) for each in args[:6]
            )
            images, samples = (
                Plane(context, builder, *each) for each in zip(arrays, arrays_, strict=True)
            )
            emit = Emitter(builder, images.kind)
            taps = CheckedTaps(emit, mode, padding, images)
            taps.compute(positions_, sides_, strides_, args[6])
            _add_taps(emit, taps, samples, where_, window_, strides_)
            return context.get_dummy_value()

        return types.void(arrays, positions, where, window, sides, strides, off), codegen

    return accumulate


def _add_taps(emit, taps, samples, where, window, strides):
    """Add the gradients, lane after lane and tap after tap, by rows."""
    b, (start, first, *span, channels) = emit.builder, where
    # What a lane must not write is added, as 0, to a pixel of the window.
    safe = emit.splat(b.mul(window[0], strides[1]))
    top, bottom = (emit.splat(b.trunc(row, I32)) for row in window)
    tables = []
    for y, row in enumerate(taps.rows):
        inside = b.and_(b.icmp_signed(">=", row, top), b.icmp_signed("<", row, bottom))
        for x, column in enumerate(taps.taps):
            offsets, exists = column[y]
            masks = [mask for mask in (inside, exists, taps.some) if mask is not None]
            mask = emit.all_of(*masks)
            offset = b.select(mask, offsets, safe)
            weight = b.fmul(taps.y.weights[y], taps.x.weights[x])
            tables.append((emit.spill(offset), mask, weight))
    with cgutils.for_range(b, channels) as loop:
        base = taps.image.address(b.add(start, b.mul(loop.index, strides[0])))
        own = b.add(first, b.mul(loop.index, strides[3]))
        d = _load_gradients(emit, samples, own, strides[4], span)
        parts = [
            (offset, emit.spill(b.select(mask, b.fmul(d, weight), lanes(emit.real, 0.0))))
            for offset, mask, weight in tables
        ]
        with cgutils.for_range(b, b.sub(span[1], span[0])) as lane:
            k = b.add(span[0], lane.index)
            for offset, part in parts:
                far = b.mul(b.load(b.gep(offset, [k])), I64(emit.bytes))
                pointer = b.inttoptr(b.add(base, far), emit.real.as_pointer())
                b.store(b.fadd(b.load(pointer), b.load(b.gep(part, [k]))), pointer)


# --- By the positions -----------------------------------------------------------------------------


@functools.cache
def make_position_gradients(mode, padding):
    """Function: the gradients with respect to a block's positions, in float64.

    It is called as ``f((images, dsamples, fill), (x, y), where, sides, strides, off, real)``, as in
    :func:`make_accumulate`, and writes the gradients to the memory that has the positions.
    """

    @intrinsic
    def position_gradients(typingctx, arrays, positions, where, sides, strides, off, real):
        def codegen(context, builder, signature, args):
            arrays_, positions_, where_, sides_, strides_ = (
                cgutils.unpack_tuple(builder, each) for each in args[:5]
            )
            emit = Emitter(builder, context.get_value_type(real))
            planes = [Plane(context, builder, *each) for each in zip(arrays, arrays_, strict=True)]
            taps = CheckedTaps(emit, mode, padding, planes[0])
            taps.compute(positions_, sides_, strides_, args[5])
            sums = _position_sums(emit, taps, planes, where_, strides_, arrays[2].dtype)
            for axis, total, pointer in zip((taps.x, taps.y), sums, positions_, strict=True):
                gradient = axis.times_slope(emit.widen(builder.load(total)))
                if taps.some is not None:
                    gradient = builder.select(taps.some, gradient, lanes(F64, 0.0))
                emit.store(gradient, builder.ptrtoint(pointer, I64))
            return context.get_dummy_value()

        return types.void(arrays, positions, where, sides, strides, off, real), codegen

    return position_gradients


def _position_sums(emit, taps, planes, where, strides, fill_kind):
    """Pointers to the sums over channels of the samples' gradients times their slopes."""
    b, (start, first, *span, channels) = emit.builder, where
    image, samples, fill = planes
    zero = lanes(emit.real, 0.0)
    sums = [cgutils.alloca_once_value(b, zero) for _ in range(2)]
    with cgutils.for_range(b, channels) as loop:
        base = emit.opaque(image.address(b.add(start, b.mul(loop.index, strides[0]))))
        own = b.add(first, b.mul(loop.index, strides[3]))
        d = _load_gradients(emit, samples, own, strides[4], span)
        fills = emit.splat(load_fill(emit, fill, fill_kind, loop.index))
        factors = (taps.x.slopes, taps.y.weights), (taps.x.weights, taps.y.slopes)
        for total, slope in zip(sums, _slopes(emit, taps, base, fills, factors), strict=True):
            b.store(b.fadd(b.load(total), b.fmul(d, slope)), total)
    return sums


def _slopes(emit, taps, base, fills, factors):
    """For each pair of factors along x and along y, the sum of the taps times both."""
    b, columns = emit.builder, [[], []]
    for x, column in enumerate(taps.taps):
        found = [
            taps.values(base, tap, fills, [(across[x], down[y]) for across, down in factors])
            for y, tap in enumerate(column)
        ]
        for k, (_, down) in enumerate(factors):
            columns[k].append(weighted_sum(b, down, [values[k] for values in found]))
    return [weighted_sum(b, across, own) for (across, _), own in zip(factors, columns, strict=True)]
