"""What one thread of a CUDA kernel reads around a coordinate: :mod:`.weighted_sum` on a GPU.

Any mode, padding, layout and storage, in two and three dimensions. ``rule`` is (mode, padding,
dims), numbers that are known where a kernel is compiled: the loops over taps become straight code.
Arrays are lines of elements. A tap along an axis is an offset, in elements; the offsets of z, y and
x add up, and one that is negative says that there is no such pixel.
"""

import numpy as np

from ..math.coordinates import BICUBIC, NEAREST, ZEROS, quantize
from ..math.interpolation import MISSING, four_slopes, four_weights, place, tap
from ..math.storage import from_half, nearest, saturated, to_half
from .device import cuda, inlined
from .single_pixels import element

# How numbers are stored: as what they are, as the bits of a float16, or, any other number, as whole
# numbers up to that one.
PLAIN, HALF = 0, 1


def form_of(dtype):
    """How numbers of a dtype are stored."""
    if dtype == np.float16:
        return HALF
    return int(np.iinfo(dtype).max) if dtype.kind == "u" else PLAIN


@inlined
def load(line, at, form, real):
    """Element ``at`` of an array, as a number of the type ``real``."""
    found = element(line, at)
    return real(from_half(found)) if form == HALF else real(found)


@inlined
def store(line, at, value, form):
    """Write element ``at`` of an array."""
    kind = line.dtype.type
    if form == HALF:
        line[np.uint64(at)] = kind(to_half(value))
    elif form == PLAIN:
        line[np.uint64(at)] = kind(value)
    else:
        line[np.uint64(at)] = kind(saturated(nearest(value), form))


@inlined
def number_for(fill, c):
    """The number outside of channel ``c``: the only one, or that of an array."""
    return fill[np.uint64(c)] if len(fill) > 1 else fill[0]


# --- Taps -----------------------------------------------------------------------------------------


@inlined
def axis(c, size, pitch, rule, off):
    """Offsets of the taps along an axis, fraction, slope, and whether any is read."""
    mode, padding, _ = rule
    whole = type(size)
    first, t, slope, some = place(c, size, mode, padding, off)
    one = two = three = whole(MISSING)
    zero = whole(pitch * tap(first, size, mode, padding, off))
    if mode != NEAREST:
        one = whole(pitch * tap(whole(first + 1), size, mode, padding, off))
    if mode == BICUBIC:
        two = whole(pitch * tap(whole(first + 2), size, mode, padding, off))
        three = whole(pitch * tap(whole(first + 3), size, mode, padding, off))
    return (zero, one, two, three), t, slope, some


@inlined
def locate(pixel, sides, along, rule, off):
    """Offsets, fractions and slopes of (z, y, x), and whether anything is read.

    From pixel to pixel of a row are ``along`` elements.
    """
    x, y, z = pixel
    d, h, w = sides
    whole, none = type(w), type(off)(0)
    ox, tx, sx, some_x = axis(x, w, along, rule, off)
    oy, ty, sy, some_y = axis(y, h, whole(along * w), rule, off)
    oz, tz, sz, some_z = (
        (whole(0), whole(MISSING), whole(MISSING), whole(MISSING)),
        none,
        none,
        True,
    )
    if rule[2] == 3:
        oz, tz, sz, some_z = axis(z, d, whole(along * w * h), rule, off)
    return (oz, oy, ox), (tz, ty, tx), (sz, sy, sx), some_x and some_y and some_z


@inlined
def weights_at(t, rule, real):
    """Weights of the taps of (z, y, x)."""
    mode, _, dims = rule
    return (
        four_weights(real(t[0]), mode if dims == 3 else NEAREST),
        four_weights(real(t[1]), mode),
        four_weights(real(t[2]), mode),
    )


@inlined
def slopes_at(t, rule, real):
    """Slopes of :func:`weights_at`."""
    mode, _, dims = rule
    return (
        four_slopes(real(t[0]), mode if dims == 3 else NEAREST),
        four_slopes(real(t[1]), mode),
        four_slopes(real(t[2]), mode),
    )


# Loops over taps are written out: the compiler would not unroll them all, and a tuple is quick only
# where the place in it is known.


@inlined
def weighted(line, at, offsets, weights, rule, form, fill):
    """Weighted sum of the taps around element ``at``."""
    o, w = offsets[2], weights[2]
    total = column(line, at, offsets, weights, o[0], w[0], rule, form, fill)
    if rule[0] != NEAREST:
        total += column(line, at, offsets, weights, o[1], w[1], rule, form, fill)
    if rule[0] == BICUBIC:
        total += column(line, at, offsets, weights, o[2], w[2], rule, form, fill)
        total += column(line, at, offsets, weights, o[3], w[3], rule, form, fill)
    return total


@inlined
def column(line, at, offsets, weights, ox, wx, rule, form, fill):
    """The share of the taps at ``ox`` of the row."""
    o, w = offsets[1], weights[1]
    total = pile(line, at, offsets, weights, o[0], w[0], ox, wx, rule, form, fill)
    if rule[0] != NEAREST:
        total += pile(line, at, offsets, weights, o[1], w[1], ox, wx, rule, form, fill)
    if rule[0] == BICUBIC:
        total += pile(line, at, offsets, weights, o[2], w[2], ox, wx, rule, form, fill)
        total += pile(line, at, offsets, weights, o[3], w[3], ox, wx, rule, form, fill)
    return total * wx


@inlined
def pile(line, at, offsets, weights, oy, wy, ox, wx, rule, form, fill):
    """What the taps at ``oy`` of that column give it: in a plane, one tap."""
    o, w = offsets[0], weights[0]
    total = share(line, at, o[0], oy, ox, w[0] * wy, wx, rule, form, fill)
    if rule[2] == 3 and rule[0] != NEAREST:
        total += share(line, at, o[1], oy, ox, w[1] * wy, wx, rule, form, fill)
    return total


@inlined
def share(line, at, oz, oy, ox, weight, wx, rule, form, fill):
    """One tap times its weight along y and z.

    A missing tap reads a pixel that there is, so that no load waits for a branch, and is then left
    out: 0 * inf is NaN.
    """
    real, whole = type(fill), type(at)
    plane = whole(max(oz, whole(0)) + max(oy, whole(0)))
    value = load(line, whole(at + plane + max(ox, whole(0))), form, real)
    if not (ox >= 0 and oy >= 0 and oz >= 0):
        outside = rule[1] == ZEROS and weight != real(0) and wx != real(0)
        return weight * fill if outside else real(0)
    return weight * value


@inlined
def add_taps(totals, at, offsets, weights, rule, value, scale):
    """Add to the sums of the taps around element ``at`` their shares of a value."""
    o, w = offsets[2], weights[2]
    add_column(totals, at, offsets, weights, o[0], w[0], rule, value, scale)
    if rule[0] != NEAREST:
        add_column(totals, at, offsets, weights, o[1], w[1], rule, value, scale)
    if rule[0] == BICUBIC:
        add_column(totals, at, offsets, weights, o[2], w[2], rule, value, scale)
        add_column(totals, at, offsets, weights, o[3], w[3], rule, value, scale)


@inlined
def add_column(totals, at, offsets, weights, ox, wx, rule, value, scale):
    """The same for the taps at ``ox`` of the row."""
    o, w = offsets[1], weights[1]
    add_pile(totals, at, offsets, weights, o[0], w[0], ox, wx, rule, value, scale)
    if rule[0] != NEAREST:
        add_pile(totals, at, offsets, weights, o[1], w[1], ox, wx, rule, value, scale)
    if rule[0] == BICUBIC:
        add_pile(totals, at, offsets, weights, o[2], w[2], ox, wx, rule, value, scale)
        add_pile(totals, at, offsets, weights, o[3], w[3], ox, wx, rule, value, scale)


@inlined
def add_pile(totals, at, offsets, weights, oy, wy, ox, wx, rule, value, scale):
    """The same for the taps at ``oy`` of that column."""
    o, w = offsets[0], weights[0]
    add_share(totals, at, o[0], oy, ox, w[0] * wy * wx, value, scale)
    if rule[2] == 3 and rule[0] != NEAREST:
        add_share(totals, at, o[1], oy, ox, w[1] * wy * wx, value, scale)


@inlined
def add_share(totals, at, oz, oy, ox, weight, value, scale):
    """The same for one tap."""
    if ox >= 0 and oy >= 0 and oz >= 0 and weight != type(value)(0):
        to = np.uint64(type(at)(at + oz + oy + ox))
        cuda.atomic.add(totals, to, quantize(value * weight, scale))


# --- All channels of a sample ---------------------------------------------------------------------


@inlined
def strides(channels, sides, channels_last):
    """Elements of a batch from image to image, from channel to channel, from pixel to pixel."""
    whole = type(channels)
    volume = whole(sides[0] * sides[1] * sides[2])
    if channels_last:
        return whole(volume * channels), whole(1), channels
    return whole(volume * channels), volume, whole(1)


@inlined
def blend(images, start, steps, pixel, sides, rule, off, fill, channels, form, samples, to):
    """Write one output pixel's channels from element ``to`` on; they read from ``start`` on.

    ``steps`` are those from channel to channel, of the images and of the samples, and that from
    pixel to pixel of the images.
    """
    real, whole = type(fill[0]), type(channels)
    step, step_out, along = steps
    offsets, t, _, some = locate(pixel, sides, along, rule, off)
    weights, c = weights_at(t, rule, real), whole(0)
    while c < channels:
        value = number_for(fill, c)
        if some:
            value = weighted(images, start, offsets, weights, rule, form, value)
        store(samples, to, value, form)
        start, to, c = whole(start + step), whole(to + step_out), whole(c + 1)


@inlined
def channel_slopes(images, start, offsets, weights, tilts, rule, form, fill):
    """Slopes in x, y and z of one channel's sample, in pixels; ``tilts`` are those of weights."""
    (wz, wy, wx), (vz, vy, vx) = weights, tilts
    x = weighted(images, start, offsets, (wz, wy, vx), rule, form, fill)
    y = weighted(images, start, offsets, (wz, vy, wx), rule, form, fill)
    z = type(fill)(0)
    if rule[2] == 3:
        z = weighted(images, start, offsets, (vz, wy, wx), rule, form, fill)
    return x, y, z


@inlined
def slopes_of(dsamples, at, images, start, steps, pixel, sides, rule, off, fill, channels, form):
    """Slopes in x, y and z of one output pixel's channels, weighted by ``dsamples``, and summed."""
    real, whole, zero = type(fill[0]), type(channels), type(off)(0)
    step, step_out, along = steps
    offsets, t, (sz, sy, sx), some = locate(pixel, sides, along, rule, off)
    if not some:
        return zero, zero, zero
    weights, tilts = weights_at(t, rule, real), slopes_at(t, rule, real)
    gx, gy, gz, c = real(0), real(0), real(0), whole(0)
    while c < channels:
        d, other = element(dsamples, at), number_for(fill, c)
        x, y, z = channel_slopes(images, start, offsets, weights, tilts, rule, form, other)
        gx, gy, gz = gx + d * x, gy + d * y, gz + d * z
        start, at, c = whole(start + step), whole(at + step_out), whole(c + 1)
    # A slope of 0 must win over an infinite difference, as a missing tap does.
    return (
        type(off)(gx) * sx if sx != zero else zero,
        type(off)(gy) * sy if sy != zero else zero,
        type(off)(gz) * sz if sz != zero else zero,
    )
