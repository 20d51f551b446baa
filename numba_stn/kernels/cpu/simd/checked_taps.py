"""Taps of a block, any of which may be outside the image: any mode, padding and layout.

All that a sample needs of an axis (which pixels it reads, whether the image has them, and their
weights) is computed here, once for all channels; :mod:`.border_samples` and :mod:`.plane_gradients`
use it. A block's positions are computed before, and are in memory.
"""

from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.sampler_kind import BEFORE, NEAREST, TAPS, ZEROS
from .gathers import gather_elements
from .interpolation import tap_slopes, tap_weights, to_real
from .padding import Side, to_offsets
from .positions import compute_positions
from .vectors import F64, I64, LANES, Emitter, Plane, lanes

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


class CheckedTaps:
    """A block's taps: for each its offsets, and the mask of the lanes in which the image has it.

    The taps are numbered along x, then along y. Weights and slopes are lists by tap along an axis.
    """

    def __init__(self, emit, mode, padding, image):
        self.emit, self.mode, self.padding, self.image = emit, mode, padding, image

    def compute(self, positions, sides, strides, off):
        """Compute the taps of the lanes at ``positions``, two pointers.

        ``sides`` are (H, W); ``strides`` begin with the elements from one channel, row and column
        of the image to the next.
        """
        emit, b = self.emit, self.emit.builder
        axes = [
            self._axis(pointer, side, stride, off)
            for pointer, side, stride in zip(positions, sides[::-1], strides[2:0:-1], strict=True)
        ]
        (columns, self.x), (rows, self.y) = axes
        self.some = _all_of(emit, self.x.some, self.y.some)
        self.rows = [index for _, index, _ in rows]
        self.taps = [
            [(b.add(row, column), _all_of(emit, has_row, has_column)) for row, _, has_row in rows]
            for column, _, has_column in columns
        ]

    def _axis(self, pointer, size, stride, off):
        """Offsets, indices and masks of the taps along an axis, and the :class:`_Axis`."""
        emit, b = self.emit, self.emit.builder
        side = Side(emit, size, off, self.mode, self.padding)
        c, some = side.pad(emit.load(b.ptrtoint(pointer, I64), lanes(F64)))
        low = emit.call("rint" if self.mode == NEAREST else "floor", c)
        axis = _Axis(emit, side, some)
        if self.mode != NEAREST:
            fraction = emit.narrow(b.fsub(c, low))
            axis.weights = tap_weights(emit, self.mode, fraction)
            axis.slopes = tap_slopes(emit, self.mode, fraction)
        first = -BEFORE[self.mode]
        taps = []
        for k in range(first, first + TAPS[self.mode]):
            index, exists = side.tap(low, k)
            taps.append((to_offsets(emit, index, stride), index, exists))
        return taps, axis

    def values(self, base, tap, fills, weights):
        """For each pair of weights, the values of a tap.

        A missing tap of weight 0 adds nothing: 0 * inf would be NaN.
        """
        emit, b, zero = self.emit, self.emit.builder, lanes(self.emit.real, 0.0)
        offsets, exists = tap
        value = to_real(emit, self.load(base, offsets))
        if exists is None:
            return [value] * len(weights)
        if self.padding != ZEROS:
            return [b.select(exists, value, zero)] * len(weights)
        found = []
        for pair in weights:
            counts = emit.all_of(*(b.fcmp_unordered("!=", each, zero) for each in pair))
            found.append(b.select(exists, value, b.select(counts, fills, zero)))
        return found

    def load(self, base, offsets):
        """Load the image's elements at the lanes' offsets from an address."""
        return gather_elements(self.emit, self.image, base, offsets)


class _Axis:
    """Weights of the taps along an axis, their slopes, and the slope of the padded coordinate."""

    def __init__(self, emit, side, some):
        self.emit, self.some = emit, some
        self.sloped, self.reverses = side.sloped, side.reverses
        self.weights, self.slopes = [lanes(emit.real, 1.0)], [lanes(emit.real, 0.0)]

    def times_slope(self, gradient):
        """The gradient of a coordinate before padding, from that of the padded one."""
        b = self.emit.builder
        if self.reverses is not None:
            gradient = b.select(self.reverses, b.fneg(gradient), gradient)
        if self.sloped is not None:
            gradient = b.select(self.sloped, gradient, lanes(F64, 0.0))
        return gradient


def _all_of(emit, *masks):
    """The mask of the lanes in which all masks are true; None stands for one that always is."""
    given = [mask for mask in masks if mask is not None]
    return emit.all_of(*given) if given else None


def weighted_sum(builder, weights, vectors):
    """Weighted sum of vectors, in their order."""
    total, *terms = [
        builder.fmul(weight, vector) for weight, vector in zip(weights, vectors, strict=True)
    ]
    for term in terms:
        total = builder.fadd(total, term)
    return total


def load_fill(emit, fill, kind, c):
    """The fill of a channel, in the type that computes; ``kind`` is Numba's type of the fills."""
    b = emit.builder
    value = b.load(b.inttoptr(fill.address(c), fill.kind.as_pointer()))
    return b.uitofp(value, emit.real) if isinstance(kind, types.Integer) else emit.narrow(value)
