"""The first of two steps in which a row is sampled: compute the addresses of its interior blocks.

A block is LANES neighbouring pixels of an output row, in LLVM vectors. :func:`compute_addresses`
computes the sampling positions of the blocks of a chunk, from a grid or from a row's map. For each
block whose taps are all inside the image, it stores the offsets of the lower taps and the fractions
in the block's :class:`.workspace.Slot`. The functions of :mod:`.bilinear` and :mod:`.interpolation`
then load the taps and use them, one row segment at a time. If both were done in one step, the
processor would wait: the chain of operations from a block's coordinates to its samples is longer
than what it can look ahead.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.coordinates import MIDDLE, SNAP
from ...math.sampler_kind import AFFINE, BEFORE, GRID, NEAREST, ZEROS
from .positions import can_split, compute_positions, split_positions
from .vectors import F32, F64, I32, I64, LANES, Emitter, Plane, lanes
from .workspace import Slot, first_column

# The number of blocks whose middles are computed at a time.
GROUP = 8

# Rows of a grid are so far apart in memory that the processor does not foresee the next one. A row
# therefore prefetches the row of the grid that is this many rows further down.
GRID_ROWS_AHEAD = 4

# Bytes of a cache line.
LINE = 64


@intrinsic(prefer_literal=True)
def compute_addresses(typingctx, source, padding, mode, fill, coords, row, slots):
    """Fill the slots of a row's interior blocks.

    Returns an integer whose bit k is set if block k of the chunk is inside. ``row`` is (map,
    limits, where): the start and step of the row's coordinates, its :class:`.limits.Limits`, and
    (n, i, first, stop, chunk, columns). That is, blocks ``first`` to ``stop`` - 1 of row i of
    samples n, a row of ``columns`` samples; block ``chunk`` has the workspace's first slot.
    Fractions are of ``fill``'s type. Offsets are those of the lower tap, or of the nearest pixel if
    that is the ``mode``.
    """
    if not all(isinstance(flag, types.IntegerLiteral) for flag in (source, padding, mode)):
        return None

    def codegen(context, builder, signature, args):
        map_, limits, where = (
            cgutils.unpack_tuple(builder, part) for part in cgutils.unpack_tuple(builder, args[5])
        )
        emit = Emitter(builder, context.get_value_type(fill))
        blocks = _Blocks(emit, where, args[6], mode.literal_value)
        if source.literal_value == AFFINE:
            return _compute_affine(blocks, map_, limits)
        grid, flags = Plane(context, builder, coords, args[4]), (source, padding)
        return _compute_checked(blocks, *(flag.literal_value for flag in flags), grid, map_, limits)

    return types.int64(source, padding, mode, fill, coords, row, slots), codegen


class _Blocks:
    """The blocks whose addresses are computed."""

    def __init__(self, emit, where, slots, mode):
        self.emit, self.slots, self.mode = emit, slots, mode
        self.n, self.i, self.first, self.stop, self.chunk, self.columns = where

    def slot(self, k):
        """The slot of block k."""
        return Slot(self.emit, self.slots, self.emit.builder.sub(k, self.chunk))

    def margin(self):
        """The number of pixels read on each side of the lower tap and its neighbour."""
        return F64(float(BEFORE[self.mode]))

    def store(self, slot, parts, pitch, base=None):
        """Store the fractions, and the offsets of the lower taps, in a slot.

        ``parts`` are (lower tap, fraction) of x and of y; ``base`` is added to the offsets.
        """
        emit, b = self.emit, self.emit.builder
        if self.mode != NEAREST:
            for (_, fraction), address in zip(parts, (slot.x, slot.y), strict=True):
                emit.store(emit.narrow(fraction), address)
        (x, _), (y, _) = parts
        offsets = b.add(b.mul(y, emit.splat(b.trunc(pitch, I32))), x)
        emit.store(offsets if base is None else b.add(offsets, base), slot.offsets)


def tap_of(emit, mode, c):
    """Lower tap, or nearest one, of coordinates."""
    return emit.call("rint" if mode == NEAREST else "floor", c)


def base_of(emit, mode, c):
    """Whole numbers close to ``c``, from which coordinates are counted.

    They are even if a half is rounded to the even neighbour.
    """
    b = emit.builder
    if mode != NEAREST:
        return emit.call("floor", c)
    half = ir.Constant(c.type, [0.5] * c.type.count)
    whole = emit.call("floor", b.fmul(c, half))
    return b.fadd(whole, whole)


# --- Affine rows ----------------------------------------------------------------------------------


def _compute_affine(blocks, row, limits):
    """Fill the slots of an affine row's blocks; its limits say which are inside.

    Coordinates are those of :func:`.coordinates.along_row`. The float64 part of the computation, of
    which each block has one number, is done for GROUP blocks at a time.
    """
    emit, b = blocks.emit, blocks.emit.builder
    low, high = _inner_blocks(blocks, *limits[:2])
    count, pitch = emit.maximum(b.sub(high, low), I64(0)), limits[4]
    axes = [_AffineAxis(blocks, start, step) for start, step in (row[:2], row[2:4])]
    base = None
    groups = b.udiv(b.add(count, I64(GROUP - 1)), I64(GROUP))
    with cgutils.for_range(b, groups) as group:
        first = b.mul(group.index, I64(GROUP))
        wholes = [axis.compute_bases(b.add(low, first)) for axis in axes]
        if emit.real != F64:
            x, y = (b.fptosi(whole, ir.VectorType(I32, GROUP)) for whole in wholes)
            pitches = emit.splat(b.trunc(pitch, I32), GROUP)
            bases = emit.spill(b.add(b.mul(y, pitches), x))
        with cgutils.for_range(b, emit.minimum(b.sub(count, first), I64(GROUP))) as loop:
            k = loop.index
            if emit.real != F64:
                base = emit.splat(b.load(b.gep(bases, [k])))
            slot = blocks.slot(b.add(b.add(low, first), k))
            blocks.store(slot, [axis.parts(k) for axis in axes], pitch, base)
    ones = b.sub(b.shl(I64(1), count), I64(1))
    # If no block is inside, low may be large, and a shift by 64 bits or more is undefined.
    return b.shl(ones, emit.minimum(b.sub(low, blocks.chunk), I64(63)))


def _inner_blocks(blocks, first, last):
    """First block and last + 1 of those that are within columns ``first`` to ``last`` - 1."""
    emit, b = blocks.emit, blocks.emit.builder
    ends = b.icmp_signed(">=", last, blocks.columns)
    low = b.sdiv(b.add(first, I64(LANES - 1)), I64(LANES))
    high = b.select(ends, blocks.stop, b.sdiv(last, I64(LANES)))
    # The row's last block may begin less than LANES columns after the one before it.
    final = b.sdiv(b.sub(blocks.columns, I64(1)), I64(LANES))
    late = b.icmp_signed(">", first, b.sub(blocks.columns, I64(LANES)))
    high = b.select(late, emit.minimum(high, final), high)
    return emit.maximum(low, blocks.first), emit.minimum(high, blocks.stop)


class _AffineAxis:
    """One coordinate of an affine row's blocks: a whole number for each, and offsets from it."""

    def __init__(self, blocks, start, step):
        self.blocks, self.emit = blocks, blocks.emit
        emit = self.emit
        b = emit.builder
        last = b.sitofp(b.sub(blocks.columns, I64(LANES)), F64)
        self.last = emit.splat(last, GROUP)
        self.start, self.step = (emit.splat(value, GROUP) for value in (start, step))
        steps = lanes(emit.real, [float(k - MIDDLE) for k in range(LANES)])
        self.steps = b.fmul(emit.splat(emit.narrow(step)), steps)

    def compute_bases(self, low):
        """The whole numbers of GROUP blocks from ``low`` on."""
        emit, b = self.emit, self.emit.builder
        numbers = ir.Constant(ir.VectorType(F64, GROUP), [float(k * LANES) for k in range(GROUP)])
        first = b.fadd(emit.splat(b.sitofp(b.mul(low, I64(LANES)), F64), GROUP), numbers)
        ends = b.fcmp_ordered(">", first, self.last)
        half = ir.Constant(first.type, [float(MIDDLE)] * GROUP)
        columns = b.fadd(b.select(ends, self.last, first), half)
        middles = b.fadd(self.start, b.fmul(self.step, columns))
        bases = base_of(emit, self.blocks.mode, middles)
        self.nears = emit.spill(emit.narrow(b.fsub(middles, bases)))
        self.bases = emit.spill(bases)
        return bases

    def parts(self, k):
        """Lower taps and fractions of the k-th block; float32's taps are counted from the base."""
        emit, b = self.emit, self.emit.builder
        near, snap = b.load(b.gep(self.nears, [k])), lanes(emit.real, SNAP)
        c = b.fsub(b.fadd(b.fadd(emit.splat(near), self.steps), snap), snap)
        if emit.real == F64:  # the definition is the rounded sum
            c = b.fadd(emit.splat(b.load(b.gep(self.bases, [k]))), c)
        low = tap_of(emit, self.blocks.mode, c)
        return b.fptosi(low, lanes(I32)), b.fsub(c, low)


# --- Other rows -----------------------------------------------------------------------------------


def _compute_checked(blocks, source, padding, grid, row, limits):
    """Fill the slots of blocks that are inside, which the coordinates of each block decide."""
    emit, b = blocks.emit, blocks.emit.builder
    inside = cgutils.alloca_once_value(b, I64(0))
    with cgutils.for_range(b, b.sub(blocks.stop, blocks.first)) as loop:
        k = b.add(blocks.first, loop.index)
        where = (blocks.n, blocks.i, first_column(emit, k, blocks.columns))
        if source == GRID:
            _prefetch_grid(emit, grid, where)
        if blocks.mode != NEAREST and can_split(emit, source, grid):
            parts = split_positions(emit, grid, where, row)
            is_inside = _taps_inside(blocks, parts, padding, limits)
        else:
            found = compute_positions(emit, source, grid, row, where)
            is_inside = _coordinates_inside(blocks, found, padding, limits)
            lows = [tap_of(emit, blocks.mode, c) for c in found]
            parts = [(low, b.fsub(c, low)) for low, c in zip(lows, found, strict=True)]
        with b.if_then(is_inside, likely=True):
            taps = [(b.fptosi(low, lanes(I32)), fraction) for low, fraction in parts]
            blocks.store(blocks.slot(k), taps, limits[4])
            bit = b.shl(I64(1), b.sub(k, blocks.chunk))
            b.store(b.or_(b.load(inside), bit), inside)
    return b.load(inside)


def _prefetch_grid(emit, grid, where):
    """Prefetch the cache lines that a later row's grid has at these columns."""
    b, (n, i, j) = emit.builder, where
    later = grid.address(n, b.add(i, I64(GRID_ROWS_AHEAD)), j, I64(0))
    for line in range(0, 2 * LANES * grid.bytes, LINE):
        emit.prefetch(b.add(later, I64(line)))


def _interior_ranges(blocks, padding, limits):
    """Ranges [low, high) of the coordinates, in x and in y, whose taps are inside; float64.

    A clipped coordinate, and 0 too, has no slope; such blocks are border blocks.
    """
    emit, b, margin = blocks.emit, blocks.emit.builder, blocks.margin()
    least = F64(0.0 if padding == ZEROS else 1.0)
    top, bottom, right = (b.sitofp(limits[k], F64) for k in (0, 1, 5))
    low = emit.call_float64("maxnum", least, top)
    return [
        (b.fadd(low, margin), b.fsub(b.fsub(high, F64(1.0)), margin))
        for low, high in ((least, right), (low, bottom))
    ]


def _coordinates_inside(blocks, found, padding, limits):
    """Whether all taps of a block are inside, by its coordinates x and y."""
    emit, b = blocks.emit, blocks.emit.builder
    checks = []
    for c, (low, high) in zip(found, _interior_ranges(blocks, padding, limits), strict=True):
        checks.append(b.fcmp_ordered(">=", c, emit.splat(low)))
        checks.append(b.fcmp_ordered("<", c, emit.splat(high)))
    return emit.true_everywhere(*checks)


def _taps_inside(blocks, parts, padding, limits):
    """Whether all taps of a block are inside, by its lower taps: whole numbers in float32."""
    emit, b = blocks.emit, blocks.emit.builder
    ranges = _interior_ranges(blocks, padding, limits)
    checks = []
    for (tap, _), (low, high) in zip(parts, ranges, strict=True):
        checks.append(b.fcmp_ordered(">=", tap, emit.splat(b.fptrunc(low, F32))))
        checks.append(b.fcmp_ordered("<", tap, emit.splat(b.fptrunc(high, F32))))
    return emit.true_everywhere(*checks)
