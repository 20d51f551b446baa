"""Samples of a border block, some of whose taps may be outside the image: any mode and padding.

Channel by channel, each tap of the LANES pixels is loaded, or replaced where it is missing
(:mod:`.checked_taps`). The sums are those of :func:`numba_stn.kernels.cpu.taps.make_weighted_sum`.
"""

import functools

from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.sampler_kind import NEAREST
from .checked_taps import CheckedTaps, load_fill, weighted_sum
from .interpolation import to_stored
from .vectors import I64, LANES, Emitter, Plane


@functools.cache
def make_sample_border(mode, padding):
    """Function: write the samples of a border block.

    It is called as ``f((image, samples, fill), (x, y), where, sides, strides, off, real)``: the
    elements of images and samples as one-dimensional arrays, and a number for each channel; the
    pointers of :func:`.checked_taps.store_positions`; (first element of the image, of the samples,
    number of lanes to write, channels); (H, W); and the elements from one channel, row and column
    to the next, in the image, and from one channel and column to the next, in the samples.
    """

    @intrinsic
    def sample_border(typingctx, arrays, positions, where, sides, strides, off, real):
        def codegen(context, builder, signature, args):
            arrays_, positions_, where_, sides_, strides_ = (
                cgutils.unpack_tuple(builder, each) for each in args[:5]
            )
            emit = Emitter(builder, context.get_value_type(real))
            planes = [Plane(context, builder, *each) for each in zip(arrays, arrays_, strict=True)]
            block = _Block(emit, CheckedTaps(emit, mode, padding, planes[0]), planes)
            block.taps.compute(positions_, sides_, strides_, args[5])
            block.sample(where_, strides_, arrays[2].dtype)
            return context.get_dummy_value()

        return types.void(arrays, positions, where, sides, strides, off, real), codegen

    return sample_border


class _Block:
    """A border block: its taps, and the arrays."""

    def __init__(self, emit, taps, planes):
        self.emit, self.taps = emit, taps
        self.image, self.samples, self.fill = planes

    def sample(self, where, strides, fill_kind):
        """Write the samples of all channels."""
        b, (start, target, count, channels) = self.emit.builder, where
        with cgutils.for_range(b, channels) as loop:
            image = b.add(start, b.mul(loop.index, strides[0]))
            fill = load_fill(self.emit, self.fill, fill_kind, loop.index)
            value = self._value(self.emit.opaque(self.image.address(image)), fill)
            self._write(value, b.add(target, b.mul(loop.index, strides[3])), strides[4], count)

    def _value(self, base, fill):
        """The samples of one channel, in the type that is stored."""
        emit, b, taps = self.emit, self.emit.builder, self.taps
        fills = emit.splat(fill)
        if taps.mode == NEAREST:
            ((offsets, exists),) = taps.taps[0]
            value = taps.load(base, offsets)
            masks = [mask for mask in (exists, taps.some) if mask is not None]
            if not masks:
                return value
            return b.select(emit.all_of(*masks), value, to_stored(emit, fills, self.samples.kind))
        columns = []
        for column, along in zip(taps.taps, taps.x.weights, strict=True):
            values = [
                taps.values(base, tap, fills, [(down, along)])[0]
                for tap, down in zip(column, taps.y.weights, strict=True)
            ]
            columns.append(weighted_sum(b, taps.y.weights, values))
        total = weighted_sum(b, taps.x.weights, columns)
        if taps.some is not None:
            total = b.select(taps.some, total, fills)
        return to_stored(emit, total, self.samples.kind)

    def _write(self, value, first, stride, count):
        """Write the first ``count`` lanes, ``stride`` elements apart, from element ``first`` on."""
        emit, b = self.emit, self.emit.builder
        whole = b.and_(b.icmp_signed("==", count, I64(LANES)), b.icmp_signed("==", stride, I64(1)))
        with b.if_else(whole) as (then, otherwise):
            with then:
                pointer = b.inttoptr(self.samples.address(first), value.type.as_pointer())
                b.store(value, pointer).align = self.samples.bytes
            with otherwise:
                held = emit.spill(value)
                with cgutils.for_range(b, count) as loop:
                    address = self.samples.address(b.add(first, b.mul(loop.index, stride)))
                    element = b.load(b.gep(held, [loop.index]))
                    b.store(element, b.inttoptr(address, element.type.as_pointer()))
