"""Where blocks read: the first of the two steps in which a row is worked through.

A block is LANES neighbouring pixels of an output row, in LLVM vectors. :func:`place` finds where
the blocks of a chunk read, from a grid or from a row's map, and leaves in a workspace, of those
whose taps are all inside the image, the lower taps' offsets and the fractions. The functions of
:mod:`.bilinear` load those taps and use them, a run of such blocks at a time. In one step the
processor would wait: a block's chain from its coordinates to its samples is longer than what it
can look ahead.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.coordinates import AFFINE, BICUBIC, FAR, GRID, MIDDLE, NEAREST, PROJECTIVE, SNAP, ZEROS
from .vectors import F32, F64, I32, I64, LANES, Emitter, Plane, lanes

# Blocks that a workspace has room for: a chunk of a row.
SLOTS = 16

# Blocks whose middles are found at a time.
GROUP = 8

# Bytes of a workspace for two chunks: of each block the fractions in x and in y, and the offsets.
WORKSPACE = 2 * SLOTS * LANES * (8 + 8 + 4)

# A tile's rows of a grid lie too far apart for the processor to foresee the next one.
GRID_ROWS_AHEAD = 4

# Bytes of a line of the cache.
LINE = 64


class Slot:
    """A placed block in the workspace that starts at the pointer ``start``."""

    def __init__(self, emit, start, number):
        b, vector = emit.builder, LANES * emit.bytes
        self.emit = emit
        self.x = b.add(b.ptrtoint(start, I64), b.mul(number, I64(2 * vector + LANES * 4)))
        self.y, self.offsets = (b.add(self.x, I64(k * vector)) for k in (1, 2))

    def fractions(self):
        """Fractions in x and in y."""
        kind = lanes(self.emit.real)
        return [self.emit.load(address, kind) for address in (self.x, self.y)]

    def offset(self, k):
        """How many elements the lower tap of lane k is from the image's first."""
        b = self.emit.builder
        place = b.inttoptr(self.offsets, I32.as_pointer())
        return self.emit.lane(place, k)


@intrinsic
def interior_length(typingctx, inside):
    """How many blocks from the first on are inside: the lowest bits that are set."""

    def codegen(context, builder, signature, args):
        return builder.cttz(builder.not_(args[0]), ir.IntType(1)(0))

    return types.int64(types.int64), codegen


def column_of(emit, k, columns):
    """First column of block k: the last block is moved back to end with the row."""
    b = emit.builder
    return emit.least(b.mul(k, I64(LANES)), b.sub(columns, I64(LANES)))


@intrinsic(prefer_literal=True)
def compute_addresses(typingctx, source, padding, mode, fill, coords, row, slots):
    """Place blocks of a row; bit k of the result: whether the k-th of a chunk is inside.

    ``where`` is (n, i, first, stop, chunk, columns): of samples n, row i of so many columns, blocks
    first to stop - 1; block ``chunk`` has the workspace's first slot. ``row`` and ``limits`` are
    those of :mod:`.rows`. Fractions are of ``fill``'s type. Where the ``mode`` is the nearest
    pixel, that is what is left in place of the lower tap.
    """
    if not all(isinstance(flag, types.IntegerLiteral) for flag in (source, padding, mode)):
        return None

    def codegen(context, builder, signature, args):
        row_, limits_, where_ = (
            cgutils.unpack_tuple(builder, part) for part in cgutils.unpack_tuple(builder, args[5])
        )
        emit = Emitter(builder, context.get_value_type(fill))
        blocks = _Blocks(emit, where_, args[6], mode.literal_value)
        if source.literal_value == AFFINE:
            return _place_along(blocks, row_, limits_)
        grid = Plane(context, builder, coords, args[4])
        return _place_anywhere(
            blocks, source.literal_value, padding.literal_value, grid, row_, limits_
        )

    return types.int64(source, padding, mode, fill, coords, row, slots), codegen


class _Blocks:
    """The blocks to be placed."""

    def __init__(self, emit, where, slots, mode):
        self.emit, self.slots, self.mode = emit, slots, mode
        self.n, self.i, self.first, self.stop, self.chunk, self.columns = where

    def slot(self, k):
        return Slot(self.emit, self.slots, self.emit.builder.sub(k, self.chunk))

    def tap(self, c):
        """Lower tap, or nearest one, of coordinates."""
        return self.emit.call("rint" if self.mode == NEAREST else "floor", c)

    def base(self, place):
        """Whole numbers from which coordinates near ``place`` are counted.

        Even ones where a half is rounded to the even neighbour.
        """
        emit, b = self.emit, self.emit.builder
        if self.mode != NEAREST:
            return emit.call("floor", place)
        half = ir.Constant(place.type, [0.5] * place.type.count)
        whole = emit.call("floor", b.fmul(place, half))
        return b.fadd(whole, whole)

    def margin(self):
        """How many more pixels are read to each side of the lower tap and its neighbour."""
        return F64(1.0 if self.mode == BICUBIC else 0.0)


def _leave(blocks, slot, parts, width, whole=None):
    """Leave fractions, and offsets of lower taps; ``parts`` are those of x and y."""
    emit, b = blocks.emit, blocks.emit.builder
    if blocks.mode != NEAREST:
        for (_, fraction), address in zip(parts, (slot.x, slot.y), strict=True):
            emit.store(emit.narrow(fraction), address)
    (x, _), (y, _) = parts
    offsets = b.add(b.mul(y, emit.splat(b.trunc(width, I32))), x)
    emit.store(offsets if whole is None else b.add(offsets, whole), slot.offsets)


# --- Affine rows ----------------------------------------------------------------------------------


def _place_along(blocks, row, limits):
    """Place the blocks of an affine row that its limits say are inside.

    Coordinates are those of :func:`.coordinates.along_row`. What is done in float64, once a block,
    is done for GROUP blocks at a time.
    """
    emit, b = blocks.emit, blocks.emit.builder
    low, high = _inner_blocks(blocks, *limits[:2])
    count, width = emit.most(b.sub(high, low), I64(0)), limits[4]
    axes = [_Along(blocks, start, step) for start, step in (row[:2], row[2:4])]
    whole = None
    groups = b.udiv(b.add(count, I64(GROUP - 1)), I64(GROUP))
    with cgutils.for_range(b, groups) as group:
        first = b.mul(group.index, I64(GROUP))
        bases = [axis.find(b.add(low, first)) for axis in axes]
        if emit.real != F64:
            x, y = (b.fptosi(base, ir.VectorType(I32, GROUP)) for base in bases)
            pitch = emit.splat(b.trunc(width, I32), GROUP)
            wholes = emit.stored(b.add(b.mul(y, pitch), x))
        with cgutils.for_range(b, emit.least(b.sub(count, first), I64(GROUP))) as loop:
            k = loop.index
            if emit.real != F64:
                whole = emit.splat(b.load(b.gep(wholes, [k])))
            slot = blocks.slot(b.add(b.add(low, first), k))
            _leave(blocks, slot, [axis.parts(k) for axis in axes], width, whole)
    ones = b.sub(b.shl(I64(1), count), I64(1))
    # Where there are none, low may be far: shifted by so much, not even 0 is anything.
    return b.shl(ones, emit.least(b.sub(low, blocks.chunk), I64(63)))


def _inner_blocks(blocks, first, last):
    """The blocks, from and up to, that lie in columns first to last - 1."""
    emit, b = blocks.emit, blocks.emit.builder
    ends = b.icmp_signed(">=", last, blocks.columns)
    low = b.sdiv(b.add(first, I64(LANES - 1)), I64(LANES))
    high = b.select(ends, blocks.stop, b.sdiv(last, I64(LANES)))
    # The row's last block may begin before the others' next would.
    final = b.sdiv(b.sub(blocks.columns, I64(1)), I64(LANES))
    late = b.icmp_signed(">", first, b.sub(blocks.columns, I64(LANES)))
    high = b.select(late, emit.least(high, final), high)
    return emit.most(low, blocks.first), emit.least(high, blocks.stop)


class _Along:
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

    def find(self, low):
        """The whole numbers of GROUP blocks from ``low`` on."""
        emit, b = self.emit, self.emit.builder
        numbers = ir.Constant(ir.VectorType(F64, GROUP), [float(k * LANES) for k in range(GROUP)])
        first = b.fadd(emit.splat(b.sitofp(b.mul(low, I64(LANES)), F64), GROUP), numbers)
        ends = b.fcmp_ordered(">", first, self.last)
        middle = ir.Constant(first.type, [float(MIDDLE)] * GROUP)
        columns = b.fadd(b.select(ends, self.last, first), middle)
        place = b.fadd(self.start, b.fmul(self.step, columns))
        base = self.blocks.base(place)
        self.nears = emit.stored(emit.narrow(b.fsub(place, base)))
        self.bases = emit.stored(base)
        return base

    def parts(self, k):
        """Lower taps and fractions of the k-th block; float32's taps still lack the whole."""
        emit, b = self.emit, self.emit.builder
        near, snap = b.load(b.gep(self.nears, [k])), lanes(emit.real, SNAP)
        c = b.fsub(b.fadd(b.fadd(emit.splat(near), self.steps), snap), snap)
        if emit.real == F64:  # the sum is rounded, and that is what counts
            c = b.fadd(emit.splat(b.load(b.gep(self.bases, [k]))), c)
        low = self.blocks.tap(c)
        return b.fptosi(low, lanes(I32)), b.fsub(c, low)


# --- Other rows -----------------------------------------------------------------------------------


def _place_anywhere(blocks, source, padding, grid, row, limits):
    """Place blocks whose coordinates may be anything."""
    emit, b = blocks.emit, blocks.emit.builder
    inside = cgutils.alloca_once_value(b, I64(0))
    with cgutils.for_range(b, b.sub(blocks.stop, blocks.first)) as loop:
        k = b.add(blocks.first, loop.index)
        where = (blocks.n, blocks.i, column_of(emit, k, blocks.columns))
        if source == GRID:
            _fetch_grid(emit, grid, where)
        if blocks.mode != NEAREST and _is_split(emit, source, grid):
            parts = _split(emit, grid, where, row)
            holds = _whole_inside(blocks, parts, padding, limits)
        else:
            found = coordinates(emit, source, grid, row, where)
            holds = _inside(blocks, found, padding, limits)
            lows = [blocks.tap(c) for c in found]
            parts = [(low, b.fsub(c, low)) for low, c in zip(lows, found, strict=True)]
        with b.if_then(holds, likely=True):
            taps = [(b.fptosi(low, lanes(I32)), fraction) for low, fraction in parts]
            _leave(blocks, blocks.slot(k), taps, limits[4])
            bit = b.shl(I64(1), b.sub(k, blocks.chunk))
            b.store(b.or_(b.load(inside), bit), inside)
    return b.load(inside)


def _fetch_grid(emit, grid, where):
    """Ask for the lines of a grid that a later row of the tile has at these columns."""
    b, (n, i, j) = emit.builder, where
    later = grid.at(n, b.add(i, I64(GRID_ROWS_AHEAD)), j, I64(0))
    for line in range(0, 2 * LANES * grid.bytes, LINE):
        emit.prefetch(b.add(later, I64(line)))


def _spans(blocks, padding, limits):
    """The lower taps that are inside, in x and in y: from and up to; float64.

    A coordinate that is clipped, 0 too, has no slope, and is left to others.
    """
    emit, b, margin = blocks.emit, blocks.emit.builder, blocks.margin()
    least = F64(0.0 if padding == ZEROS else 1.0)
    top, bottom, right = (b.sitofp(limits[k], F64) for k in (0, 1, 5))
    low = emit.number("maxnum", least, top)
    return [
        (b.fadd(low, margin), b.fsub(b.fsub(high, F64(1.0)), margin))
        for low, high in ((least, right), (low, bottom))
    ]


def _inside(blocks, found, padding, limits):
    """Whether all taps of these coordinates are inside."""
    emit, b = blocks.emit, blocks.emit.builder
    return emit.every([
        check for c, (low, high) in zip(found, _spans(blocks, padding, limits), strict=True)
        for check in (b.fcmp_ordered(">=", c, emit.splat(low)),
                      b.fcmp_ordered("<", c, emit.splat(high)))
    ])  # fmt: skip


def _whole_inside(blocks, parts, padding, limits):
    """The same of lower taps, in float32; they are whole numbers."""
    emit, b = blocks.emit, blocks.emit.builder
    spans = _spans(blocks, padding, limits)
    checks = []
    for (low, _), (least, high) in zip(parts, spans, strict=True):
        checks.append(b.fcmp_ordered(">=", low, emit.splat(b.fptrunc(least, F32))))
        checks.append(b.fcmp_ordered("<", low, emit.splat(b.fptrunc(high, F32))))
    return emit.every(checks)


# --- Coordinates ----------------------------------------------------------------------------------


def coordinates(emit, source, coords, row, where):
    """Coordinates x and y of every lane, in float64; ``where`` is (n, i, j)."""
    b = emit.builder
    if source == PROJECTIVE:
        return _projected(emit, row, where[2])
    if source == AFFINE:
        return [_along(emit, start, step, where[2]) for start, step in (row[:2], row[2:4])]
    found = [
        b.fadd(emit.splat(start), b.fmul(emit.splat(step), emit.widen(c)))
        for c, start, step in zip(_loaded(emit, coords, where), row[:4:2], row[1:4:2], strict=True)
    ]
    if not _is_split(emit, source, coords):
        return found
    near = [b.fadd(emit.widen(low), emit.widen(t)) for low, t in _split(emit, coords, where, row)]
    limit = lanes(F64, float(FAR))
    return [
        b.select(b.fcmp_ordered("<", emit.call("fabs", far), limit), close, far)
        for far, close in zip(found, near, strict=True)
    ]


def _along(emit, start, step, j):
    """A coordinate of an affine row: :func:`.coordinates.along_row`."""
    b = emit.builder
    place = b.fadd(start, b.fmul(step, b.fadd(b.sitofp(j, F64), F64(float(MIDDLE)))))
    base = emit.number("floor", place)
    near, step = emit.narrow(b.fsub(place, base)), emit.narrow(step)
    near = b.select(b.fcmp_unordered("uno", near, near), emit.real(0.0), near)
    steps = lanes(emit.real, [float(k - MIDDLE) for k in range(LANES)])
    offsets = b.fadd(emit.splat(near), b.fmul(emit.splat(step), steps))
    snap = lanes(emit.real, SNAP)
    return b.fadd(emit.splat(base), emit.widen(b.fsub(b.fadd(offsets, snap), snap)))


def _projected(emit, row, j):
    """Coordinates of a projective row: each a quotient of two that are linear."""
    b = emit.builder
    columns = b.fadd(emit.splat(b.sitofp(j, F64)), lanes(F64, [float(k) for k in range(LANES)]))
    x, y, w = (
        b.fadd(emit.splat(start), b.fmul(emit.splat(step), columns))
        for start, step in (row[:2], row[2:4], row[4:])
    )
    inverse = b.fdiv(lanes(F64, 1.0), w)
    return [b.fmul(x, inverse), b.fmul(y, inverse)]


def _loaded(emit, grid, where):
    """Normalised coordinates x and y of every lane."""
    b = emit.builder
    address, size = grid.at(*where, I64(0)), LANES * grid.bytes
    return emit.apart(*(emit.load(b.add(address, I64(k * size)), lanes(grid.kind)) for k in (0, 1)))


def _is_split(emit, source, coords):
    """Whether coordinates are found in float32: :func:`.coordinates.split`."""
    return source == GRID and emit.real == F32 and coords.kind == F32


def _split(emit, grid, where, row):
    """Lower taps and fractions of a float32 grid, in float32: :func:`.coordinates.split`."""
    b, one = emit.builder, lanes(F32, 1.0)
    parts = []
    for c, start, step in zip(_loaded(emit, grid, where), row[:4:2], row[1:4:2], strict=True):
        middle, step = (emit.splat(emit.narrow(value)) for value in (start, step))
        product = b.fmul(c, step)
        rest = emit.call("fma", c, step, b.fneg(product))
        base = emit.call("floor", b.fadd(product, middle))
        far = b.fadd(b.fsub(product, b.fsub(base, middle)), rest)
        far = b.fsub(b.fadd(far, one), one)
        low = emit.call("floor", far)
        parts.append((b.fadd(base, low), b.fsub(far, low)))
    return parts
