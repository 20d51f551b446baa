"""Sums on a GPU that give the same bits every time, although threads finish in any order.

Theta's gradient has few numbers and many terms. The terms are added in a fixed tree: by thread, by
block, then over the blocks. The images' gradient is a scatter, which fits no tree. It is summed in
integers, whose sum does not depend on the order (see :mod:`.fixed_point`): terms are
scaled by a power of two, which the device computes from the largest ``|dsamples|`` and from the
number of samples that read one image, so that no sum can overflow.

The unit of these integers is below ``T max|dsamples| / 2**60``, where T is the number of samples
that read one image: 2**-36 of the largest term for a 4096 x 4096 output, 2**-48 for 64 x 64. Each
term is rounded to that unit, far below float32's own rounding of the largest terms; a float64
gradient is exact to that fraction of the largest term, not to 2**-53 of each. The bicubic unit is
twice that, because the magnitudes of Keys's weights may add up to 1.9. If ``dsamples`` has an
infinity or NaN, the images' gradient is NaN everywhere.
"""

import functools
from dataclasses import replace

import numpy as np

from ..cpu_launch import source_hash
from ..math.fixed_point import (
    FRACTION32,
    FRACTION64,
    bits_are_finite,
    dequantize,
    fixed_point_scale,
    quantize,
)
from ..math.jit import scalar
from .device import BLOCK, THREADS, cuda, device_function, each, empty, jit, launch, launch_pixels

# The largest number of blocks that sum theta's gradient for one map.
MOST_PARTS = 256

# --- Theta's gradient: a fixed tree ---------------------------------------------------------------


@scalar
def moments(gx, gy, x, y):
    """Gradient of theta's two rows by one pixel: (gx, gy) times (x, y, 1)."""
    return gx * x, gx * y, gx, gy * x, gy * y, gy


@scalar
def no_moments(zero):
    """Moments of no pixel."""
    return zero, zero, zero, zero, zero, zero


@scalar
def plus(a, b):
    """The sum of two sets of moments."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5]


@device_function
def add_threads(shared):
    """Add ``shared[:, t]`` over the block's threads, pair by pair, into ``shared[:, 0]``."""
    t = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    half = shared.shape[1] >> 1
    cuda.syncthreads()
    while half > 0:
        if t < half:
            for k in range(shared.shape[0]):
                shared[k, t] += shared[k, t + half]
        cuda.syncthreads()
        half >>= 1


@device_function
def add_block(shared, sums, part, partials):
    """Write the sum of the threads' moments as :func:`write_block` does."""
    t = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    shared[0, t], shared[1, t], shared[2, t] = sums[0], sums[1], sums[2]
    shared[3, t], shared[4, t], shared[5, t] = sums[3], sums[4], sums[5]
    write_block(shared, part, partials)


@device_function
def write_block(shared, part, partials):
    """Write the sums of ``shared[:, t]`` over the threads to ``partials[n, :, number]``.

    ``part`` is (n, number, parts), see :func:`.loops.block_part`; ``partials`` has the shape
    (N, numbers, parts).
    """
    n, number, parts = part
    t = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    numbers = shared.shape[0]
    add_threads(shared)
    while t < numbers:
        partials[(n * numbers + t) * parts + number] = shared[t, 0]
        t += cuda.blockDim.x * cuda.blockDim.y


# The same for a theta of any shape: rows of x, y, z and the divisor, each the sums of a gradient
# times (x, y, z, 1).


@scalar
def no_rows(off):
    """Sums of no terms, of the type of ``off``."""
    none = type(off)(0)
    row = none, none, none, none
    return row, row, row, row


@scalar
def add_to_rows(sums, g, x, y, z):
    """Add one pixel's gradient."""
    return (
        add_to_row(sums[0], g[0], x, y, z),
        add_to_row(sums[1], g[1], x, y, z),
        add_to_row(sums[2], g[2], x, y, z),
        add_to_row(sums[3], g[3], x, y, z),
    )


@scalar
def add_to_row(row, g, x, y, z):
    """Add to one row."""
    return row[0] + g * x, row[1] + g * y, row[2] + g * z, row[3] + g


@device_function
def put_row(shared, t, k, row, dims):
    """Write one row to ``shared[k:, t]``; a row of a plane has no z."""
    shared[k, t], shared[k + 1, t], shared[k + dims, t] = row[0], row[1], row[3]
    if dims == 3:
        shared[k + 2, t] = row[2]


@device_function
def add_rows(shared, sums, dims, part, partials):
    """:func:`add_block` for the rows of theta; ``shared`` has room for the divisor's, or not."""
    t = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    columns = dims + 1
    put_row(shared, t, 0, sums[0], dims)
    put_row(shared, t, columns, sums[1], dims)
    if dims == 3:
        put_row(shared, t, 2 * columns, sums[2], dims)
    if shared.shape[0] > dims * columns:
        put_row(shared, t, dims * columns, sums[3], dims)
    write_block(shared, part, partials)


@functools.cache
def make_theta_sum(real):
    """Kernel: the blocks' sums, (N, numbers, parts) -> dtheta; one block for each number."""
    sources, threads = source_hash(), THREADS

    def theta_sum(partials, parts, dtheta):
        _ = sources
        shared = cuda.shared.array((1, threads), real)
        t = cuda.threadIdx.x
        total = real(0)
        for part in range(t, parts, threads):
            total += partials[cuda.blockIdx.x * parts + part]
        shared[0, t] = total
        add_threads(shared)
        if t == 0:
            dtheta[cuda.blockIdx.x] = shared[0, 0]

    return jit(theta_sum)


def parts_of(rows):
    """The number of blocks that sum this number of rows."""
    return min(-(-rows // BLOCK[1]), MOST_PARTS)


def sum_theta(kernel, geometry, dtheta, *args):
    """Fill ``dtheta``: a kernel sums parts of the output's rows, another one sums the parts."""
    batch, numbers = len(dtheta), dtheta.shape[1] * dtheta.shape[2]
    depth, rows, _ = map(int, geometry[3])
    parts = parts_of(depth * rows)
    partials = empty((batch, numbers, parts), dtheta.dtype, dtheta)
    launch(kernel, (batch * parts,), BLOCK, *args, parts, partials)
    launch(make_theta_sum(dtheta.dtype.type), (batch * numbers,), THREADS, partials, parts, dtheta)


# --- The images' gradient: integers ---------------------------------------------------------------


@functools.cache
def make_clear():
    """Kernel: set the totals and the peak to zero."""
    sources = source_hash()

    def clear(totals, peak):
        _ = sources
        first = cuda.grid(1)
        if first == 0:
            peak[0] = 0
        for k in range(first, totals.size, cuda.gridsize(1)):
            totals[k] = 0

    return jit(clear)


@functools.cache
def make_find_peak(fraction):
    """Kernel: the bits of floats -> ``peak``, the bits of the largest magnitude.

    Bits of magnitudes have the order of the magnitudes; infinity and NaN are above all others.
    """
    sources = source_hash()
    magnitude = 2**63 - 1 if fraction == FRACTION64 else 2**31 - 1

    def find_peak(bits, peak):
        _ = sources
        shared = cuda.shared.array(1, np.int64)
        if cuda.threadIdx.x == 0:
            shared[0] = 0
        cuda.syncthreads()
        largest = np.int64(0)
        for k in range(cuda.grid(1), bits.size, cuda.gridsize(1)):
            largest = max(largest, np.int64(bits[k]) & magnitude)
        cuda.atomic.max(shared, 0, largest)
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            cuda.atomic.max(peak, 0, shared[0])

    return jit(find_peak)


@device_function
def add_tap(totals, plane, iy, ix, sides, value, scale):
    """Add one term to a pixel's sum, if the image has that pixel."""
    _, h, w = sides
    if 0 <= iy < h and 0 <= ix < w:
        cuda.atomic.add(totals, np.uint64(plane + iy * w + ix), quantize(value, scale))


@functools.cache
def make_to_floats(fraction):
    """Kernel: sums as integers -> floats; NaN if a term was infinite or NaN."""
    sources = source_hash()

    def to_floats(totals, peak, terms, dimages):
        _ = sources
        real = dimages.dtype.type
        finite = bits_are_finite(peak[0], fraction)
        scale = fixed_point_scale(peak[0], fraction, terms, real(1))
        for k in range(cuda.grid(1), totals.size, cuda.gridsize(1)):
            dimages[k] = dequantize(totals[k], scale) if finite else real(np.nan)

    return jit(to_floats)


def fraction_of(dtype):
    """Length of the fraction in the bits of a float."""
    return FRACTION64 if dtype == np.float64 else FRACTION32


def sum_images(kernel, geometry, most, dimages, dsamples, *args):
    """Fill ``dimages``: a kernel adds to each pixel at most ``most`` terms, as integers."""
    fraction, terms = fraction_of(dsamples.dtype), max(most - 1, 0).bit_length()
    peak = empty((1,), np.int64, dimages)
    totals = empty(dimages.shape, np.int64, dimages)
    each(make_clear(), totals, peak)
    each(make_find_peak(fraction), _bits(dsamples, fraction), peak)
    if dsamples.size:
        launch_pixels(kernel, geometry, dsamples, *args, peak, terms, totals)
    each(make_to_floats(fraction), totals, peak, terms, dimages)


def _bits(array, fraction):
    """The bits of the elements, as integers."""
    kind = np.int64 if fraction == FRACTION64 else np.int32
    return replace(array, view=array.view.view(kind)) if array.size else array
