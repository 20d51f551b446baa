"""Samples of a border block, some of whose taps may be outside the image: any mode and padding.

All that a sample needs of an axis (which pixels it reads, whether the image has them, and their
weights) is computed once for all channels. Then, channel by channel, each tap of the LANES pixels
is loaded, or replaced where it is missing. The sums are those of
:func:`numba_stn.kernels.cpu.taps.make_weighted_sum`.
"""

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.sampler_kind import BICUBIC, NEAREST, TAPS, ZEROS
from .interpolation import tap_weights, to_real, to_stored
from .padding import Side, to_offsets
from .positions import compute_positions
from .vectors import F64, I32, I64, LANES, Emitter, Plane, lanes

# Bytes of a coordinate for each lane.
POSITIONS = LANES * 8


@intrinsic(prefer_literal=True)
def store_positions(typingctx, source, mode, coords, row, where, real, x, y):
    """Store the sampling positions of a block's lanes at the pointers ``x`` and ``y``.

    ``where`` is (n, i, j), for the block at column j of row i of samples n; ``row`` is the row's
    map, and ``real`` a number of the type that computes.
    """
    if not all(isinstance(flag, types.IntegerLiteral) for flag in (source, mode)):
        return None

    def codegen(context, builder, signature, args):
        _, _, coords_, row_, where_, _, *pointers = args
        emit = Emitter(builder, context.get_value_type(real))
        row_, where_ = (cgutils.unpack_tuple(builder, each) for each in (row_, where_))
        grid = Plane(context, builder, coords, coords_)
        even = mode.literal_value == NEAREST
        found = compute_positions(emit, source.literal_value, grid, row_, where_, even)
        for c, pointer in zip(found, pointers, strict=True):
            emit.store(c, builder.ptrtoint(pointer, I64))
        return context.get_dummy_value()

    return types.void(source, mode, coords, row, where, real, x, y), codegen


@functools.cache
def make_sample_border(mode, padding):
    """Function: write the samples of a border block.

    It is called as ``f((image, samples, fill), (x, y), where, sides, strides, off, real)``: the
    elements of images and samples as one-dimensional arrays, and a number for each channel; the
    pointers of :func:`store_positions`; (first element of the image, first element of the samples,
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
            block = _Block(emit, mode, padding, planes, [kind.dtype for kind in arrays])
            block.compute_axes(positions_, sides_, strides_, args[5])
            block.sample(where_, strides_)
            return context.get_dummy_value()

        return types.void(arrays, positions, where, sides, strides, off, real), codegen

    return sample_border


class _Block:
    """A border block's taps, weights and samples."""

    def __init__(self, emit, mode, padding, planes, dtypes):
        self.emit, self.mode, self.padding, self.count = emit, mode, padding, TAPS[mode]
        self.image, self.samples, self.fill = planes
        self.dtype, _, self.fill_dtype = dtypes

    # --- Axes -------------------------------------------------------------------------------------

    def compute_axes(self, positions, sides, strides, off):
        """Compute offsets, masks and weights of all taps."""
        emit, b = self.emit, self.emit.builder
        axes = [
            self._axis(pointer, side, stride, off)
            for pointer, side, stride in zip(positions, sides[::-1], strides[2:0:-1], strict=True)
        ]
        (columns, self.across, some_x), (rows, self.down, some_y) = axes
        self.some = _all_of(emit, some_x, some_y)
        self.taps = [
            [
                (emit.spill(b.add(row, column)), _all_of(emit, has_row, has_column))
                for row, has_row in rows
            ]
            for column, has_column in columns
        ]

    def _axis(self, pointer, size, stride, off):
        """Offsets and masks of the taps along an axis, their weights, and the mask of lanes."""
        emit, b = self.emit, self.emit.builder
        side = Side(emit, size, off, self.mode, self.padding)
        c, some = side.pad(emit.load(b.ptrtoint(pointer, I64), lanes(F64)))
        low = emit.call("rint" if self.mode == NEAREST else "floor", c)
        weights = None
        if self.mode != NEAREST:
            weights = tap_weights(emit, self.mode, emit.narrow(b.fsub(c, low)))
        if self.mode == BICUBIC:
            low = b.fsub(low, lanes(F64, 1.0))
        taps = []
        for k in range(self.count):
            index, exists = side.tap(b.fadd(low, lanes(F64, float(k))) if k else low)
            taps.append((to_offsets(emit, index, stride), exists))
        return taps, weights, some

    # --- Samples ----------------------------------------------------------------------------------

    def sample(self, where, strides):
        """Write the samples of all channels."""
        b, (start, target, count, channels) = self.emit.builder, where
        with cgutils.for_range(b, channels) as loop:
            image = b.add(start, b.mul(loop.index, strides[0]))
            fill = self._load_fill(loop.index)
            value = self._value(self.emit.opaque(self.image.address(image)), fill)
            self._write(value, b.add(target, b.mul(loop.index, strides[3])), strides[4], count)

    def _load_fill(self, c):
        """The fill of a channel, in the type that computes."""
        b = self.emit.builder
        fill = b.load(b.inttoptr(self.fill.address(c), self.fill.kind.as_pointer()))
        if isinstance(self.fill_dtype, types.Integer):
            return b.uitofp(fill, self.emit.real)
        return self.emit.narrow(fill)

    def _value(self, base, fill):
        """The samples of one channel, in the type that is stored."""
        emit, b = self.emit, self.emit.builder
        fills = emit.splat(fill)
        if self.mode == NEAREST:
            ((offsets, exists),) = self.taps[0]
            value = self._load(base, offsets)
            masks = [mask for mask in (exists, self.some) if mask is not None]
            if not masks:
                return value
            return b.select(emit.all_of(*masks), value, to_stored(emit, fills, self.samples.kind))
        columns = []
        for column, along in zip(self.taps, self.across, strict=True):
            values = [
                self._tap(base, tap, fills, (down, along))
                for tap, down in zip(column, self.down, strict=True)
            ]
            columns.append(_weighted_sum(b, self.down, values))
        total = _weighted_sum(b, self.across, columns)
        if self.some is not None:
            total = b.select(self.some, total, fills)
        return to_stored(emit, total, self.samples.kind)

    def _tap(self, base, tap, fills, weights):
        """The values of a tap. A missing one of weight 0 adds nothing: 0 * inf would be NaN."""
        emit, b, zero = self.emit, self.emit.builder, lanes(self.emit.real, 0.0)
        offsets, exists = tap
        value = to_real(emit, self._load(base, offsets))
        if exists is None:
            return value
        missing = zero
        if self.padding == ZEROS:
            counts = emit.all_of(*(b.fcmp_unordered("!=", each, zero) for each in weights))
            missing = b.select(counts, fills, zero)
        return b.select(exists, value, missing)

    def _load(self, base, offsets):
        """Load the elements at the lanes' offsets from an address."""
        emit, b, size = self.emit, self.emit.builder, self.image.bytes
        vector = ir.Constant(lanes(self.image.kind), ir.Undefined)
        for k in range(LANES):
            address = b.add(base, b.mul(emit.lane(offsets, k), I64(size)))
            element = b.load(b.inttoptr(address, self.image.kind.as_pointer()))
            vector = b.insert_element(vector, element, I32(k))
        return vector

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


def _all_of(emit, *masks):
    """The mask of the lanes in which all masks are true; None stands for one that always is."""
    given = [mask for mask in masks if mask is not None]
    return emit.all_of(*given) if given else None


def _weighted_sum(builder, weights, vectors):
    total, *terms = [
        builder.fmul(weight, vector) for weight, vector in zip(weights, vectors, strict=True)
    ]
    for term in terms:
        total = builder.fadd(total, term)
    return total
