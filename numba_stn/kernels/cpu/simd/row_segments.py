"""Rows of samples and segments of rows: what blocks read and write there, and prefetching."""

import contextlib

from numba.core import cgutils, types
from numba.extending import intrinsic

from .vectors import I32, I64, LANES, Emitter, Plane, lanes
from .workspace import SLOTS, Slot, first_column


class Row:
    """Output row i of samples n, which sample image m; ``where`` is (m, n, i).

    ``values`` are arrays, of the types ``kinds``: images, coordinates, samples, and others.
    """

    def __init__(self, context, builder, kinds, values, where):
        self.emit = Emitter(builder, context.get_value_type(kinds[0].dtype))
        planes = [
            Plane(context, builder, kind, value) for kind, value in zip(kinds, values, strict=True)
        ]
        self.images, self.coords, *self.others = planes
        self.m, self.n, self.i = where
        self.channels = (I64(0), self.images.shape[1])  # first, and last + 1
        self.height, self.width = self.images.shape[2:]

    @contextlib.contextmanager
    def each_channel(self, j):
        """Loop over the channels: the addresses of a channel's image and of its sample j."""
        b = self.emit.builder
        image = self.images.address(self.m, I64(0), I64(0), I64(0))
        sample = self.others[0].address(self.n, I64(0), self.i, j)
        first, last = self.channels
        with cgutils.for_range(b, b.sub(last, first)) as loop:
            self.channel = c = b.add(first, loop.index)
            yield (
                self._channel_address(self.images, c, image),
                self._channel_address(self.others[0], c, sample),
            )

    def _channel_address(self, plane, c, first):
        """The address in channel c that corresponds to the address ``first`` in channel 0."""
        b = self.emit.builder
        step = b.mul(plane.shape[2], plane.shape[3])
        return b.add(first, b.mul(b.mul(c, step), I64(self.emit.bytes)))

    def offsets(self, rows, columns):
        """The number of elements from a plane's first pixel to each lane's pixel."""
        b = self.emit.builder
        width = self.emit.splat(b.trunc(self.width, I32))
        return b.add(b.mul(rows, width), columns)

    def address(self, start, offset):
        """Address of the pixel that is ``offset`` elements after the address ``start``."""
        b = self.emit.builder
        return b.add(start, b.mul(b.zext(offset, I64), I64(self.emit.bytes)))

    def pointer(self, address, k):
        """Pointer to the pixel k to the right of an address."""
        b = self.emit.builder
        return b.inttoptr(b.add(address, I64(k * self.emit.bytes)), self.emit.real.as_pointer())

    def below(self, address):
        """Address of the pixel below."""
        b = self.emit.builder
        return b.add(address, b.mul(self.width, I64(self.emit.bytes)))

    def bases(self, image):
        """The addresses of a plane's first two rows, to which the offsets of taps are added."""
        return [self.emit.opaque(start) for start in (image, self.below(image))]


class RowSegment:
    """Neighbouring interior blocks of a row; ``where`` is (first block, count, slot, columns)."""

    def __init__(self, emit, where, slots):
        self.emit, self.slots = emit, slots
        self.first, self.count, self.slot, self.columns = where

    @contextlib.contextmanager
    def each_block(self):
        """Loop over the blocks: a block's slot and its first column."""
        b = self.emit.builder
        with cgutils.for_range(b, self.count) as loop:
            slot = Slot(self.emit, self.slots, b.add(self.slot, loop.index))
            self.block = b.add(self.first, loop.index)
            yield slot, first_column(self.emit, self.block, self.columns)

    def repeated(self, j):
        """The number of pixels of the block at column j that the block before it has, too."""
        b = self.emit.builder
        return b.sub(b.mul(self.block, I64(LANES)), j)


def not_repeated(row, skip):
    """The mask of a block's lanes except the first ``skip``, which the block before it has, too."""
    b = row.emit.builder
    return b.icmp_signed(">=", lanes(I32, list(range(LANES))), row.emit.splat(b.trunc(skip, I32)))


# --- Prefetching ----------------------------------------------------------------------------------


def prefetch_ahead(row, image, slot, ahead):
    """Prefetch what a later affine row reads, ``ahead`` elements after what this block reads."""
    b = row.emit.builder
    later = b.add(image, b.mul(ahead, I64(row.emit.bytes)))
    for k in range(0, LANES, LANES // 2):
        row.emit.prefetch(row.address(later, slot.offset(k)))


@intrinsic
def prefetch_taps(typingctx, line, real, where, slots):
    """Prefetch what interior blocks read: the cache lines of every fourth lane's upper taps.

    ``line`` has the images' elements; ``real`` is a number of the type that computes. ``where`` is
    (first, planes, step, channels, inside): ``planes`` planes from element ``first`` on, ``step``
    elements apart, with ``channels`` elements per pixel, for the slots whose bits are set in
    ``inside``.
    """

    def codegen(context, builder, signature, args):
        line_, _, where_, slots_ = args
        plane = Plane(context, builder, line, line_)
        emit = Emitter(builder, context.get_value_type(real))
        first, planes, step, channels, inside = cgutils.unpack_tuple(builder, where_)
        size = builder.mul(channels, I64(plane.bytes))
        with cgutils.for_range(builder, I64(2 * SLOTS)) as each:
            bit = builder.and_(builder.lshr(inside, each.index), I64(1))
            slot = Slot(emit, slots_, each.index)
            with cgutils.for_range(builder, builder.mul(bit, planes)) as loop:
                start = plane.address(builder.add(first, builder.mul(loop.index, step)))
                for k in range(0, LANES, 4):
                    far = builder.mul(builder.zext(slot.offset(k), I64), size)
                    emit.prefetch(builder.add(start, far))
        return context.get_dummy_value()

    return types.void(line, real, where, slots), codegen
