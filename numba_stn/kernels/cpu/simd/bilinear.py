"""Bilinear samples of 16 pixels at a time, and the gradient of their coordinates.

Numba compiles a loop over gathered pixels to scalar code. Here a block of LANES pixels of an output
row is written out as LLVM vectors: for each pixel two loads of two neighbours each, shuffled into
the four vectors of taps, and blended. LLVM makes AVX-512, AVX2 or NEON code of it. Each function
has two versions: one for segments of interior blocks, whose taps are all inside the image and whose
addresses are already computed (:mod:`.addresses`), and one for a border block (:mod:`.border`).

The operations and their order are those of :mod:`numba_stn.kernels.math.coordinates`, and both
versions give the same bits; only the images' gradient (:mod:`.images_gradient`) is summed in
another order. Rows of fewer than LANES pixels, images of one column and planes of 2^31 pixels are
not computed here.
"""

from numba.core import cgutils

from .border import border_taps, weighted_fills
from .interpolation import bilinear_weights
from .intrinsics import border_function, interior_function
from .row_segments import not_repeated, prefetch_ahead
from .vectors import F64, I32, I64, LANES, lanes

# --- Samples --------------------------------------------------------------------------------------


# A row segment of at least this many blocks is sampled channel by channel: then neighbouring
# addresses are written, and neighbouring ones read. A shorter one is sampled block by block, so
# that the weights are computed once for all channels.
LONG = 4


@interior_function
def sample_interior(row, segment, affine, map_, ahead):
    """Sample a segment of blocks; a later row reads ``ahead`` elements away."""
    emit, b = row.emit, row.emit.builder

    def sample(image, bases, slot, shares, target):
        if affine:
            prefetch_ahead(row, image, slot, ahead)
        emit.store(blend(emit, emit.load_pairs(bases, slot.offset, row.images), shares), target)

    with b.if_else(b.icmp_signed(">=", segment.count, I64(LONG))) as (long, short):
        with long, row.each_channel(I64(0)) as (image, start):
            bases = row.bases(image)
            with segment.each_block() as (slot, j):
                shares = bilinear_weights(emit, *slot.fractions())
                sample(image, bases, slot, shares, row.address(start, j))
        with short, segment.each_block() as (slot, j):
            shares = bilinear_weights(emit, *slot.fractions())
            with row.each_channel(j) as (image, target):
                sample(image, row.bases(image), slot, shares, target)


@border_function
def sample_border(row, block):
    """Sample a border block."""
    emit, b = row.emit, row.emit.builder
    x, y, touching = block.axes()
    taps = border_taps(row, x, y)
    shares = bilinear_weights(emit, x.fraction, y.fraction)
    fills = weighted_fills(emit, block.fill, shares)
    with row.each_channel(block.j) as (image, sample):
        value = blend(emit, taps(image)(fills), shares)
        if touching is not None:
            value = b.select(touching, value, emit.splat(block.fill))
        emit.store(value, sample)


def blend(emit, taps, shares):
    """Weighted sum of the taps: :func:`.interpolation.bilinear`."""
    b = emit.builder
    value, *terms = [b.fmul(tap, share) for tap, share in zip(taps, shares, strict=True)]
    for term in terms:
        value = b.fadd(value, term)
    return value


# --- Gradient of the coordinates ------------------------------------------------------------------


@interior_function
def coords_gradient_interior(row, segment, affine, map_, ahead):
    """Gradient with respect to the coordinates of a segment's samples.

    The fourth array gets it. For a grid, that array is the gradient of the grid. For an affine row,
    it has the (6, LANES) sums of dx times the column, dx times the row, and dx, then those of dy,
    where (dx, dy) is the gradient in pixels.
    """
    emit = row.emit
    sums = _Moments(row) if affine else None
    with segment.each_block() as (slot, j):

        def taps(image, slot=slot):
            if affine:
                prefetch_ahead(row, image, slot, ahead)
            found = emit.load_pairs(row.bases(image), slot.offset, row.images)
            return found, found

        found = _coordinate_gradients(row, j, *slot.fractions(), taps)
        if sums is None:
            _store_grid_gradient(row, j, found, map_[1::2])
        else:
            sums.add(found, j, segment.repeated(j))
    if sums is not None:
        sums.write()


@border_function
def coords_gradient_border(row, block):
    """:func:`coords_gradient_interior` for a border block.

    ``where`` ends with ``skip``: the sums of an affine row do not count the first ``skip`` lanes.
    """
    b = row.emit.builder
    (skip,) = block.numbers
    x, y, touching = block.axes()
    load = border_taps(row, x, y)
    west, east, north, south = (
        weighted_fills(row.emit, block.fill, [weight])[0]
        for axis in (x, y)
        for weight in (b.fsub(lanes(row.emit.real, 1.0), axis.fraction), axis.fraction)
    )

    def taps(image):
        found = load(image)
        return found([north, north, south, south]), found([west, east, west, east])

    gradients = _coordinate_gradients(row, block.j, x.fraction, y.fraction, taps)
    if touching is not None:
        x.sloped = y.sloped = touching
    found = [
        axis.times_slope(row.emit, value) for axis, value in zip((x, y), gradients, strict=True)
    ]
    if block.affine:
        sums = _Moments(row)
        sums.add(found, block.j, skip)
        sums.write()
    else:
        _store_grid_gradient(row, block.j, found, block.map[1::2])


def _coordinate_gradients(row, j, tx, ty, taps):
    """Gradients in x and y per pixel, in float64: :func:`.interpolation.bilinear_slopes`.

    ``taps`` gives those for the slope in x, and those for the slope in y.
    """
    emit, b, real = row.emit, row.emit.builder, row.emit.real
    sums = [cgutils.alloca_once(b, lanes(real)) for _ in range(2)]
    for total in sums:
        b.store(lanes(real, 0.0), total)
    one = lanes(real, 1.0)
    sx, sy = b.fsub(one, tx), b.fsub(one, ty)
    with row.each_channel(j) as (image, sample):
        (nw, ne, sw, se), for_y = taps(image)
        d = emit.load(sample, lanes(real))
        by_x = b.fadd(b.fmul(b.fsub(ne, nw), sy), b.fmul(b.fsub(se, sw), ty))
        nw, ne, sw, se = for_y
        by_y = b.fadd(b.fmul(b.fsub(sw, nw), sx), b.fmul(b.fsub(se, ne), tx))
        for total, slope in zip(sums, (by_x, by_y), strict=True):
            b.store(b.fadd(b.load(total), b.fmul(d, slope)), total)
    return [emit.widen(b.load(total)) for total in sums]


class _Moments:
    """Each lane's six sums of an affine row, kept in registers while a segment is summed."""

    def __init__(self, row):
        self.row, self.emit = row, row.emit
        self.out = row.others[1]
        self.sums = [cgutils.alloca_once(self.emit.builder, lanes(F64)) for _ in range(6)]
        for k, total in enumerate(self.sums):
            self.emit.builder.store(self.emit.load(self._address(k), lanes(F64)), total)

    def _address(self, k):
        return self.out.address(I64(k), I64(0))

    def add(self, gradients, j, skip):
        """Add a block's moments, except those of the first ``skip`` lanes."""
        emit, b = self.emit, self.emit.builder
        fresh = not_repeated(self.row, skip)
        first = emit.splat(b.sitofp(j, F64))
        columns = b.fadd(first, lanes(F64, [float(k) for k in range(LANES)]))
        row = emit.splat(b.sitofp(self.row.i, F64))
        moments = []
        for gradient in gradients:
            own = b.select(fresh, gradient, lanes(F64, 0.0))
            moments += [b.fmul(own, columns), b.fmul(own, row), own]
        for total, moment in zip(self.sums, moments, strict=True):
            b.store(b.fadd(b.load(total), moment), total)

    def write(self):
        """Write the sums to memory."""
        for k, total in enumerate(self.sums):
            self.emit.store(self.emit.builder.load(total), self._address(k))


def _store_grid_gradient(row, j, gradients, scales):
    """Store the gradients as (x, y) pairs, times the ``scales`` to normalised coordinates."""
    b, emit, out = row.emit.builder, row.emit, row.others[1]
    address = out.address(row.n, row.i, j, I64(0))
    scaled = [
        b.fmul(gradient, emit.splat(scale))
        for gradient, scale in zip(gradients, scales, strict=True)
    ]
    if out.kind != F64:
        scaled = [b.fptrunc(gradient, lanes(out.kind)) for gradient in scaled]
    for k in (0, 1):
        order = [half + pixel for pixel in range(k * LANES // 2, (k + 1) * LANES // 2)
                 for half in (0, LANES)]  # fmt: skip
        pairs = b.shuffle_vector(*scaled, lanes(I32, order))
        emit.store(pairs, b.add(address, I64(k * LANES * out.bytes)))
