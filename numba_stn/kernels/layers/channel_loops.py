"""The inner loops over the pixels of a channel: pooling and batch normalisation, in LLVM vectors.

Images are in batch blocks, so one vector holds the same pixel of LANES images. All arrays are
passed flat, and offsets into them as numbers of elements.
"""

from llvmlite import ir
from numba.core import cgutils

from ..cpu.simd.vectors import I32, I64, LANES, lanes
from .flat_arrays import vector_function

# --- Pooling --------------------------------------------------------------------------------------


def _window_elements(builder, kernel, x_row, x_at):
    """Emit a loop over a window's elements; yields an element's index in the window, its offset."""
    with cgutils.for_range(builder, kernel) as i, cgutils.for_range(builder, kernel) as j:
        k = builder.add(builder.mul(i.index, kernel), j.index)
        step = builder.add(builder.mul(i.index, x_row), builder.mul(j.index, I64(LANES)))
        yield k, builder.add(x_at, step)


@vector_function
def window_extreme(emit, arrays, numbers):
    """Largest or smallest value of a window, and its index: the first of equals; NaN wins."""
    x, extreme, indices = arrays
    kernel, x_row, x_at, at, smallest = numbers
    b = emit.builder
    best = cgutils.alloca_once_value(b, x.vector(x_at))
    index = cgutils.alloca_once_value(b, lanes(indices.real, 0))
    for k, offset in _window_elements(b, kernel, x_row, x_at):
        value, so_far = x.vector(offset), b.load(best)
        missing = b.fcmp_unordered("uno", value, value)
        above, below = (b.fcmp_ordered(sign, value, so_far) for sign in "><")
        better = b.or_(b.select(smallest, below, above), missing)
        b.store(b.select(better, value, so_far), best)
        number = emit.splat(b.trunc(k, indices.real))
        b.store(b.select(better, number, b.load(index)), index)
    extreme.store(b.load(best), at)
    indices.store(b.load(index), at)


@vector_function
def add_to_chosen_element(emit, arrays, numbers):
    """Add ``factor`` times a gradient to the element of its window that was chosen."""
    dx, dchosen, indices = arrays
    kernel, x_row, x_at, at, factor = numbers
    b = emit.builder
    d, index = b.fmul(dchosen.vector(at), emit.splat(factor)), indices.vector(at)
    for k, offset in _window_elements(b, kernel, x_row, x_at):
        mine = b.icmp_signed("==", index, emit.splat(b.trunc(k, indices.real)))
        more = b.select(mine, d, lanes(emit.real, 0.0))
        dx.store(b.fadd(dx.vector(offset), more), offset)


@vector_function
def pooled_gradient(emit, arrays, numbers):
    """Write ``x_factor (x - mean) + constant`` of a window; add to the element that was chosen.

    What is added is ``dy_factor`` times the gradient of the chosen element.
    """
    dx, dchosen, indices, x = arrays
    kernel, x_row, x_at, at, mean, dy_factor, x_factor, constant = numbers
    b = emit.builder
    d, index = b.fmul(dchosen.vector(at), emit.splat(dy_factor)), indices.vector(at)
    middle, slope, first = map(emit.splat, (mean, x_factor, constant))
    for k, offset in _window_elements(b, kernel, x_row, x_at):
        mine = b.icmp_signed("==", index, emit.splat(b.trunc(k, indices.real)))
        more = b.select(mine, d, lanes(emit.real, 0.0))
        moved = b.fadd(b.fmul(slope, b.fsub(x.vector(offset), middle)), first)
        dx.store(b.fadd(more, moved), offset)


# --- Sums over pixels -----------------------------------------------------------------------------

# Number of sums that a loop adds to in turn: an addition takes four cycles, but two can begin in
# each of them.
UNROLLED = 4


def _sums(emit, count, number, terms):
    """Emit sums over ``count`` pixels; ``terms(k)`` gives the ``number`` vectors of pixel k."""
    b = emit.builder
    zero = lanes(emit.real, 0.0)
    totals = [[cgutils.alloca_once_value(b, zero) for _ in range(number)] for _ in range(UNROLLED)]

    def add(own, k):
        for total, term in zip(own, terms(k), strict=True):
            b.store(b.fadd(b.load(total), term), total)

    whole = b.udiv(count, I64(UNROLLED))
    with cgutils.for_range(b, whole) as loop:
        for u, own in enumerate(totals):
            add(own, b.add(b.mul(loop.index, I64(UNROLLED)), I64(u)))
    done = b.mul(whole, I64(UNROLLED))
    with cgutils.for_range(b, b.sub(count, done)) as loop:
        add(totals[0], b.add(done, loop.index))
    columns = [[b.load(total) for total in column] for column in zip(*totals, strict=True)]
    return [b.fadd(b.fadd(one, two), b.fadd(three, four)) for one, two, three, four in columns]


def _pixel(b, at, k):
    """Offset of pixel k of the channel that begins at ``at``."""
    return b.add(at, b.mul(k, I64(LANES)))


@vector_function
def add_pixels(emit, arrays, numbers):
    """Add the sum of a channel's pixels to a vector of ``sums``, in each lane."""
    sums, x = arrays
    count, at, sums_at = numbers
    b = emit.builder
    (total,) = _sums(emit, count, 1, lambda k: [x.vector(_pixel(b, at, k))])
    sums.store(b.fadd(sums.vector(sums_at), total), sums_at)


@vector_function
def add_squares(emit, arrays, numbers):
    """Add the sum of ``(x - middle)^2`` over a channel's pixels to a vector of ``sums``."""
    sums, x = arrays
    count, at, sums_at, middle = numbers
    b = emit.builder
    middles = emit.splat(middle)

    def terms(k):
        difference = b.fsub(x.vector(_pixel(b, at, k)), middles)
        return [b.fmul(difference, difference)]

    (total,) = _sums(emit, count, 1, terms)
    sums.store(b.fadd(sums.vector(sums_at), total), sums_at)


@vector_function
def add_products(emit, arrays, numbers):
    """Add the sums of ``dy`` and of ``dy (x - mean)`` over a channel's pixels to two vectors."""
    sums, dy, x = arrays
    count, at, sums_at, mean = numbers
    b = emit.builder
    means = emit.splat(mean)

    def terms(k):
        d = dy.vector(_pixel(b, at, k))
        return [d, b.fmul(d, b.fsub(x.vector(_pixel(b, at, k)), means))]

    for place, total in zip(
        (sums_at, b.add(sums_at, I64(LANES))), _sums(emit, count, 2, terms), strict=True
    ):
        sums.store(b.fadd(sums.vector(place), total), place)


@vector_function
def add_lanes(emit, arrays, numbers):
    """Add the sum of a vector's lanes to a number: upper half plus lower half, and so on."""
    found, sums = arrays
    at, sums_at = numbers
    b, width, vector = emit.builder, LANES, sums.vector(sums_at)
    while width > 1:
        width //= 2
        kind = ir.VectorType(I32, width)
        halves = [ir.Constant(kind, list(range(k, k + width))) for k in (0, width)]
        low, high = (b.shuffle_vector(vector, vector, half) for half in halves)
        vector = b.fadd(low, high)
    pointer = b.gep(found.data, [at])
    b.store(b.fadd(b.load(pointer), b.extract_element(vector, I32(0))), pointer)
