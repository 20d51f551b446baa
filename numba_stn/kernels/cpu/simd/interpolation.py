"""Weights, and samples of interior blocks in any mode: of a plane, or of pixels of 2 to 4 channels.

All taps of a block are inside the image. Along each axis a mode reads n taps (1 to 8), which are
neighbours in a row of memory, so each pixel takes n loads of n neighbours. They are weighted and
summed by rows first, then by columns, in the order of
:func:`numba_stn.kernels.cpu.taps.make_block_sum`, whose bits they give. Integers are
computed in float32.
"""

import functools
import itertools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.interpolation import CATMULL_ROM_KEYS, KEYS
from ...math.sampler_kind import (
    BEFORE,
    BICUBIC,
    BILINEAR,
    CATMULL_ROM,
    LANCZOS4,
    NEAREST,
    SPLINE3,
    SPLINE5,
    TAPS,
)
from .gathers import gather_elements
from .lanczos import lanczos_slopes, lanczos_weights
from .vectors import I32, I64, LANES, Emitter, Plane, lanes
from .workspace import Slot


@functools.cache
def make_sample_block(mode, channels):
    """Function: write an interior block's samples; ``channels``: 1, or 2 to 4 in each pixel.

    It is called as ``f(image, samples, where, steps, slots, real)``, with the elements of images
    and of samples as one-dimensional arrays. ``where`` is (planes, start, target, slot): the number
    of planes; the elements at which the first one's image and the block's samples begin; and the
    slot with the block's addresses. ``steps`` are the numbers of elements from plane to plane of
    the image, from plane to plane of the samples, from row to row of the image, and to what a later
    row reads. ``real`` is a number of the type that computes.
    """

    @intrinsic
    def sample_block(typingctx, image, samples, where, steps, slots, real):
        def codegen(context, builder, signature, args):
            image_, samples_, where_, steps_, slots_, _ = args
            emit = Emitter(builder, context.get_value_type(real))
            source = Plane(context, builder, image, image_)
            target = Plane(context, builder, samples, samples_)
            (planes, first, first_target, slot), (far, along, pitch, ahead) = (
                cgutils.unpack_tuple(builder, each) for each in (where_, steps_)
            )
            block = _Block(emit, mode, channels, source)
            block.compute_weights(Slot(emit, slots_, slot))
            with cgutils.for_range(builder, planes) as loop:
                start, to = (
                    builder.add(one, builder.mul(loop.index, step))
                    for one, step in ((first, far), (first_target, along))
                )
                block.prefetch(source.address(builder.add(start, ahead)))
                block.compute_bases(start, pitch)
                if channels == 1:
                    block.sample_plane(target.address(to))
                else:
                    block.sample_pixels(target.address(to))
            return context.get_dummy_value()

        return types.void(image, samples, where, steps, slots, real), codegen

    return sample_block


class _Block:
    """A block's taps, weights and samples."""

    def __init__(self, emit, mode, channels, image):
        self.emit, self.mode, self.channels, self.image = emit, mode, channels, image
        self.count = TAPS[mode]

    def compute_weights(self, slot):
        """Compute the weights of a block's taps from its fractions."""
        emit, self.slot = self.emit, slot
        if self.mode != NEAREST:
            x, y = slot.fractions()
            self.across, self.down = (tap_weights(emit, self.mode, t) for t in (x, y))
            self.down_lanes = [emit.spill(weight) for weight in self.down]

    def prefetch(self, start):
        """Prefetch what a later row reads, which is counted from the address ``start``."""
        b = self.emit.builder
        for k in range(0, LANES, LANES // 2):
            far = b.mul(b.zext(self.slot.offset(k), I64), I64(self.channels * self.image.bytes))
            self.emit.prefetch(b.add(start, far))

    def compute_bases(self, first, pitch):
        """Compute the addresses of the rows of taps, if the lower tap is element ``first``."""
        emit, b = self.emit, self.emit.builder
        size = I64(self.image.bytes)
        for _ in range(BEFORE[self.mode]):  # a pixel to the left, and a row up
            first = b.sub(first, b.add(pitch, I64(self.channels)))
        start, step = self.image.address(first), b.mul(pitch, size)
        self.bases = []
        for _ in range(self.count):
            self.bases.append(emit.opaque(start))
            start = b.add(start, step)

    # --- Samples of a plane -----------------------------------------------------------------------

    def sample_plane(self, target):
        """Write the samples of one plane, which are neighbours in memory."""
        emit, b = self.emit, self.emit.builder
        if self.mode == NEAREST:
            offsets = b.zext(emit.load(self.slot.offsets, lanes(I32)), lanes(I64))
            block = gather_elements(emit, self.image, self.bases[0], offsets)
            _store(b, block, target, self.image.bytes)
            return
        if self.mode == BILINEAR:
            taps = emit.load_pairs(self.bases, self.slot.offset, self.image)
            west, east = (
                self._weighted_sum(self.down, [to_real(emit, tap) for tap in taps[k::2]])
                for k in (0, 1)
            )
            total = self._weighted_sum(self.across, [west, east])
            _store(b, to_stored(emit, total, self.image.kind), target)
            return
        columns = emit.concatenate([self._sum_columns(k) for k in range(LANES)])
        orders = [
            lanes(I32, list(range(n, self.count * LANES, self.count))) for n in range(self.count)
        ]
        by_tap = [b.shuffle_vector(columns, columns, order) for order in orders]
        total = self._weighted_sum(self.across, by_tap)
        _store(b, to_stored(emit, total, self.image.kind), target)

    # --- Samples of pixels with several channels --------------------------------------------------

    def sample_pixels(self, target):
        """Write the samples of pixels, one after another, all channels of a pixel together."""
        emit, b, size = self.emit, self.emit.builder, self.channels * self.image.bytes
        if self.mode == NEAREST:
            self._copy_pixels(target)
            return
        across = [emit.spill(weight) for weight in self.across]
        for k in range(LANES):
            address = b.add(target, I64(k * size))
            columns, kind = self._sum_columns(k), ir.VectorType(I32, self.channels)
            orders = [
                ir.Constant(kind, [n * self.channels + c for c in range(self.channels)])
                for n in range(self.count)
            ]
            weights = [emit.splat(emit.lane(each, k), self.channels) for each in across]
            by_tap = [b.shuffle_vector(columns, columns, order) for order in orders]
            samples = to_stored(emit, self._weighted_sum(weights, by_tap), self.image.kind)
            _store(b, samples, address, self.image.bytes)

    def _copy_pixels(self, target):
        """Copy pixels unchanged.

        A pixel of three elements is copied as four, since that takes one instruction and three take
        two. The next pixel overwrites the fourth. The last pixel is copied as three, and so is the
        whole block if one of its pixels is the image's last.
        """
        b, size = self.emit.builder, self.channels * self.image.bytes
        if self.channels != 3:
            self._copy(target, self.channels)
            return
        end = b.add(self.image.start, b.mul(self.image.shape[0], I64(self.image.bytes)))
        last = b.sub(b.udiv(b.sub(end, self.bases[0]), I64(size)), I64(1))
        last = b.trunc(self.emit.minimum(last, I64(2**31 - 1)), I32)
        offsets = self.emit.load(self.slot.offsets, lanes(I32))
        early = b.icmp_unsigned("<", offsets, self.emit.splat(last))
        with b.if_else(self.emit.true_everywhere(early), likely=True) as (then, otherwise):
            with then:
                self._copy(target, 4, LANES - 1)
                address = b.add(target, I64((LANES - 1) * size))
                _store(b, self._load(self.bases[0], LANES - 1, 3), address, self.image.bytes)
            with otherwise:
                self._copy(target, 3)

    def _copy(self, target, count, pixels=LANES):
        """Copy ``count`` elements from each pixel on."""
        b, size = self.emit.builder, self.channels * self.image.bytes
        for k in range(pixels):
            elements = self._load(self.bases[0], k, count)
            _store(b, elements, b.add(target, I64(k * size)), self.image.bytes)

    # --- Loads, sums and conversions --------------------------------------------------------------

    def _load(self, base, k, count):
        """Load ``count`` elements of a row of taps, from lane k's first tap on; one is a scalar."""
        b, size = self.emit.builder, self.image.bytes
        far = b.mul(b.zext(self.slot.offset(k), I64), I64(self.channels * size))
        kind = self.image.kind if count == 1 else ir.VectorType(self.image.kind, count)
        load = b.load(b.inttoptr(b.add(base, far), kind.as_pointer()))
        load.align = size
        return load

    def _weighted_sum(self, weights, vectors):
        """Weighted sum of vectors, in their order."""
        b = self.emit.builder
        total, *terms = [b.fmul(each, by) for each, by in zip(vectors, weights, strict=True)]
        for term in terms:
            total = b.fadd(total, term)
        return total

    def _sum_columns(self, k):
        """For each column of lane k's taps, the weighted sum over its rows."""
        emit, width = self.emit, self.count * self.channels
        weights = [emit.splat(emit.lane(each, k), width) for each in self.down_lanes]
        rows = [to_real(emit, self._load(base, k, width)) for base in self.bases]
        return self._weighted_sum(weights, rows)


def to_real(emit, vector):
    """Elements of an image, converted to the type that computes."""
    if not isinstance(vector.type.element, ir.IntType):
        return vector
    b, count = emit.builder, vector.type.count
    wide = b.zext(vector, ir.VectorType(I32, count))
    return b.sitofp(wide, ir.VectorType(emit.real, count))


def to_stored(emit, vector, kind):
    """Convert to elements of type ``kind``; integers are rounded half to even and saturated."""
    if not isinstance(kind, ir.IntType):
        return vector
    b, count = emit.builder, vector.type.count
    low, high = (
        ir.Constant(vector.type, [limit] * count) for limit in (0.0, float(2**kind.width - 1))
    )
    vector = emit.call("minnum", high, emit.call("maxnum", low, emit.call("rint", vector)))
    return b.trunc(b.fptosi(vector, ir.VectorType(I32, count)), ir.VectorType(kind, count))


def _store(builder, vector, address, align=1):
    """Store a vector at an address."""
    pointer = builder.inttoptr(address, vector.type.as_pointer())
    builder.store(vector, pointer).align = align


# --- Weights --------------------------------------------------------------------------------------


def bilinear_weights(emit, tx, ty):
    """The four weights of :func:`numba_stn.kernels.math.interpolation.bilinear_weights`."""
    b, one = emit.builder, lanes(emit.real, 1.0)
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)
    return [b.fmul(p, q) for p, q in ((sx, sy), (tx, sy), (sx, ty), (tx, ty))]


# The modes that there is vector code for, with Keys's parameter of cubic ones and the order of
# splines. It is used for samples and gradients of planes; :mod:`..general` has the other modes.
_KEYS = {BICUBIC: KEYS, CATMULL_ROM: CATMULL_ROM_KEYS}
_ORDERS = {SPLINE3: 3, SPLINE5: 5}
VECTOR_MODES = (NEAREST, BILINEAR, *_KEYS, *_ORDERS, LANCZOS4)


def tap_weights(emit, mode, t):
    """The weights along one axis, as in :mod:`numba_stn.kernels.math.interpolation`."""
    b, one = emit.builder, lanes(emit.real, 1.0)
    if mode == BILINEAR:
        return [b.fsub(one, t), t]
    if mode in _ORDERS:
        return _spline_weights(emit, _ORDERS[mode], t)
    if mode == LANCZOS4:
        return lanczos_weights(emit, t)
    up, a = b.fsub(one, t), _KEYS[mode]
    return [_outer(emit, b.fadd(one, t), a), _inner(emit, t, a), _inner(emit, up, a),
            _outer(emit, b.fsub(lanes(emit.real, 2.0), t), a)]  # fmt: skip


def tap_slopes(emit, mode, t):
    """The slopes of :func:`tap_weights`."""
    b, one = emit.builder, lanes(emit.real, 1.0)
    if mode == BILINEAR:
        return [lanes(emit.real, -1.0), one]
    if mode == LANCZOS4:
        return lanczos_slopes(emit, t)
    if mode in _ORDERS:
        below = _spline_weights(emit, _ORDERS[mode] - 1, t)
        inner = [b.fsub(low, high) for low, high in itertools.pairwise(below)]
        return [b.fneg(below[0]), *inner, below[-1]]
    up, far, a = b.fsub(one, t), b.fsub(lanes(emit.real, 2.0), t), _KEYS[mode]
    return [_outer_slope(emit, b.fadd(one, t), a), _inner_slope(emit, t, a),
            b.fneg(_inner_slope(emit, up, a)), b.fneg(_outer_slope(emit, far, a))]  # fmt: skip


def _spline_weights(emit, order, t):
    """The weights of a B-spline's coefficients, order after order."""
    b = emit.builder

    def number(value):
        return lanes(emit.real, float(value))

    def above(k):
        return b.fadd(t, number(k)) if k else t

    weights = [b.fsub(number(1), t), t]
    for degree in range(2, order + 1):
        share = number(1.0 / degree)
        terms = [b.fmul(b.fsub(number(1), t), weights[0])]
        for k in range(1, degree):
            before = b.fmul(above(degree - k), weights[k - 1])
            after = b.fmul(b.fsub(number(k + 1), t), weights[k])
            terms.append(b.fadd(before, after))
        terms.append(b.fmul(t, weights[-1]))
        weights = [b.fmul(term, share) for term in terms]
    return weights


def _inner_slope(emit, d, a):
    """Slope of Keys's kernel at distances of 0 to 1."""
    b = emit.builder
    three, two = (lanes(emit.real, c) for c in (3 * (a + 2), 2 * (a + 3)))
    return b.fmul(b.fsub(b.fmul(three, d), two), d)


def _outer_slope(emit, d, a):
    """Slope of Keys's kernel at distances of 1 to 2."""
    b = emit.builder
    three, ten, eight = (lanes(emit.real, c * a) for c in (3.0, 10.0, 8.0))
    return b.fadd(b.fmul(b.fsub(b.fmul(three, d), ten), d), eight)


def _inner(emit, d, a):
    """Keys's kernel at distances of 0 to 1."""
    b, (two, three, one) = emit.builder, (lanes(emit.real, c) for c in (a + 2, a + 3, 1.0))
    return b.fadd(b.fmul(b.fmul(b.fsub(b.fmul(two, d), three), d), d), one)


def _outer(emit, d, a):
    """Keys's kernel at distances of 1 to 2."""
    b = emit.builder
    one, five, eight, four = (lanes(emit.real, c * a) for c in (1.0, 5.0, 8.0, 4.0))
    inner = b.fadd(b.fmul(b.fsub(b.fmul(one, d), five), d), eight)
    return b.fsub(b.fmul(inner, d), four)
