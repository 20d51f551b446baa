"""The sampling positions of a block's lanes, in input pixels.

The operations and their order are those of :mod:`numba_stn.kernels.math.coordinates`, so that a
block and a single pixel get the same bits.
"""

from ...math.coordinates import FAR, MIDDLE, SNAP
from ...math.sampler_kind import AFFINE, GRID, PROJECTIVE
from .vectors import F32, F64, I64, LANES, lanes


def compute_positions(emit, source, coords, row, where, even=False):
    """Coordinates x and y of every lane, in float64; ``where`` is (n, i, j).

    An ``even`` base is that of :func:`.coordinates.along_row_evenly`.
    """
    b = emit.builder
    if source == PROJECTIVE:
        return _projective_coordinates(emit, row, where[2])
    if source == AFFINE:
        return [affine_coordinate(emit, *line, where[2], even) for line in (row[:2], row[2:4])]
    normalised, starts, steps = load_grid(emit, coords, where), row[:4:2], row[1:4:2]
    found = [
        b.fadd(emit.splat(start), b.fmul(emit.splat(step), emit.widen(c)))
        for c, start, step in zip(normalised, starts, steps, strict=True)
    ]
    if not can_split(emit, source, coords):
        return found
    near = [
        b.fadd(emit.widen(low), emit.widen(fraction))
        for low, fraction in split_positions(emit, coords, where, row)
    ]
    limit = lanes(F64, float(FAR))
    return [
        b.select(b.fcmp_ordered("<", emit.call("fabs", far), limit), close, far)
        for far, close in zip(found, near, strict=True)
    ]


def affine_coordinate(emit, start, step, j, even=False):
    """A coordinate of an affine row: :func:`.coordinates.along_row`, or with an even base."""
    b = emit.builder
    middle = b.fadd(start, b.fmul(step, b.fadd(b.sitofp(j, F64), F64(float(MIDDLE)))))
    base = emit.call_float64("floor", b.fmul(middle, F64(0.5)) if even else middle)
    base = b.fadd(base, base) if even else base
    near, step = emit.narrow(b.fsub(middle, base)), emit.narrow(step)
    near = b.select(b.fcmp_unordered("uno", near, near), emit.real(0.0), near)
    steps = lanes(emit.real, [float(k - MIDDLE) for k in range(LANES)])
    offsets = b.fadd(emit.splat(near), b.fmul(emit.splat(step), steps))
    snap = lanes(emit.real, SNAP)
    return b.fadd(emit.splat(base), emit.widen(b.fsub(b.fadd(offsets, snap), snap)))


def _projective_coordinates(emit, row, j):
    """Coordinates of a projective row: linear numerators, divided by a linear divisor."""
    b = emit.builder
    columns = b.fadd(emit.splat(b.sitofp(j, F64)), lanes(F64, [float(k) for k in range(LANES)]))
    x, y, w = (
        b.fadd(emit.splat(start), b.fmul(emit.splat(step), columns))
        for start, step in (row[:2], row[2:4], row[4:])
    )
    inverse = b.fdiv(lanes(F64, 1.0), w)
    return [b.fmul(x, inverse), b.fmul(y, inverse)]


# --- Grids ----------------------------------------------------------------------------------------


def load_grid(emit, grid, where):
    """Normalised coordinates x and y of every lane."""
    address, size = grid.address(*where, I64(0)), LANES * grid.bytes
    halves = (emit.builder.add(address, I64(k * size)) for k in (0, 1))
    return emit.deinterleave(*(emit.load(half, lanes(grid.kind)) for half in halves))


def can_split(emit, source, coords):
    """Whether :func:`split_positions` can be used: for float32 images and a float32 grid."""
    return source == GRID and emit.real == F32 and coords.kind == F32


def split_positions(emit, grid, where, row):
    """Lower taps and fractions of a float32 grid, in float32: :func:`.coordinates.split`."""
    b, one = emit.builder, lanes(F32, 1.0)
    normalised, starts, steps = load_grid(emit, grid, where), row[:4:2], row[1:4:2]
    parts = []
    for c, start, step in zip(normalised, starts, steps, strict=True):
        middle, step = (emit.splat(emit.narrow(value)) for value in (start, step))
        product = b.fmul(c, step)
        remainder = emit.call("fma", c, step, b.fneg(product))
        base = emit.call("floor", b.fadd(product, middle))
        far = b.fadd(b.fsub(product, b.fsub(base, middle)), remainder)
        far = b.fsub(b.fadd(far, one), one)
        low = emit.call("floor", far)
        parts.append((b.fadd(base, low), b.fsub(far, low)))
    return parts
