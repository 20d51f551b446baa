"""What one thread of a CUDA kernel reads around a coordinate: :mod:`.taps` on a GPU.

Any mode, padding, layout and storage, in two and three dimensions. ``kind`` is constant where a
kernel is compiled, so the loops over taps become straight code. A tap along an axis is an offset in
elements. The offsets along z, y and x add up, and a negative one means that there is no such pixel.
"""

from typing import Any, NamedTuple

import numpy as np

from ..math.dtypes import from_half, nearest, saturated, to_half
from ..math.fixed_point import quantize
from ..math.interpolation import eight_slopes, eight_weights, locate_taps
from ..math.padding import MISSING, tap_index
from ..math.sampler_kind import BICUBIC, LANCZOS4, NEAREST, SPLINE4, SPLINE5, TAPS, ZEROS
from .device import cuda, inlined
from .layout import channel_steps, element

# How numbers are stored: as they are, as the bits of a float16, or, for any other form, as integers
# from 0 to that form.
PLAIN, HALF = 0, 1


class Images(NamedTuple):
    """Images in memory, and what is outside them."""

    line: Any
    form: int  # how the numbers are stored
    fill: Any  # a tuple of one number, or an array with a number for each channel


class Position(NamedTuple):
    """A coordinate between taps; each field has an entry for z, y and x."""

    offsets: tuple  # of eight taps each
    fractions: tuple
    slopes: tuple  # derivatives of the padded coordinates
    inside: bool  # whether any tap is read


class Taps(NamedTuple):
    """Eight taps along z, y and x each; those that a mode does not have are missing."""

    offsets: tuple
    weights: tuple


# --- Storage --------------------------------------------------------------------------------------


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
def fill_of(fill, c):
    """The number outside the image in channel ``c``."""
    return fill[np.uint64(c)] if len(fill) > 1 else fill[0]


# --- Taps and weights -----------------------------------------------------------------------------


@inlined
def locate(kind, pixel, g):
    """The :class:`Position` of an input pixel coordinate (x, y, z)."""
    x, y, z = pixel
    d, h, w = g.sides
    index, none = type(w), type(g.off)(0)
    step = g.counts[2] if kind.channels_last else index(1)
    ox, tx, sx, some_x = axis_position(kind, x, w, step, g.off)
    oy, ty, sy, some_y = axis_position(kind, y, h, index(step * w), g.off)
    oz, tz, sz, some_z = (
        (index(0), *no_taps(index), *no_taps(index), index(MISSING)),
        none,
        none,
        True,
    )
    if kind.dims == 3:
        oz, tz, sz, some_z = axis_position(kind, z, d, index(step * w * h), g.off)
    return Position((oz, oy, ox), (tz, ty, tx), (sz, sy, sx), some_x and some_y and some_z)


@inlined
def axis_position(kind, c, size, step, off):
    """Offsets of the taps along one axis, fraction, slope, and whether any tap is read."""
    mode, padding, index = kind.mode, kind.padding, type(size)
    first, t, slope, some = locate_taps(c, size, mode, padding, off)
    one = two = three = four = five = six = seven = index(MISSING)
    zero = index(step * tap_index(first, size, mode, padding, off))
    if mode != NEAREST:
        one = index(step * tap_index(index(first + 1), size, mode, padding, off))
    if mode >= BICUBIC:
        two = index(step * tap_index(index(first + 2), size, mode, padding, off))
        three = index(step * tap_index(index(first + 3), size, mode, padding, off))
    if mode >= SPLINE4:
        four = index(step * tap_index(index(first + 4), size, mode, padding, off))
    if mode >= SPLINE5:
        five = index(step * tap_index(index(first + 5), size, mode, padding, off))
    if mode == LANCZOS4:
        six = index(step * tap_index(index(first + 6), size, mode, padding, off))
        seven = index(step * tap_index(index(first + 7), size, mode, padding, off))
    return (zero, one, two, three, four, five, six, seven), t, slope, some


@inlined
def no_taps(index):
    """Three offsets of missing taps."""
    return index(MISSING), index(MISSING), index(MISSING)


@inlined
def taps_at(kind, position, real):
    """The :class:`Taps` of a position, with weights of the type ``real``."""
    t = position.fractions
    weights = (
        eight_weights(real(t[0]), kind.mode if kind.dims == 3 else NEAREST),
        eight_weights(real(t[1]), kind.mode),
        eight_weights(real(t[2]), kind.mode),
    )
    return Taps(position.offsets, weights)


@inlined
def weight_slopes_at(kind, position, real):
    """Derivatives of the weights of :func:`taps_at` along z, y and x."""
    t = position.fractions
    return (
        eight_slopes(real(t[0]), kind.mode if kind.dims == 3 else NEAREST),
        eight_slopes(real(t[1]), kind.mode),
        eight_slopes(real(t[2]), kind.mode),
    )


# --- Weighted sums, and their gradients -----------------------------------------------------------
#
# Loops over taps are written out: the compiler would not unroll them all, and a tuple is fast only
# where its index is constant. Where a sample reads more than 16 pixels, there are loops all the
# same, since the code of 64 taps would be long.


@inlined
def is_wide(kind):
    """Whether there are loops over the taps."""
    return kind.mode >= SPLINE4 or (kind.dims == 3 and kind.mode >= BICUBIC)


@inlined
def weighted_sum(kind, images, at, taps, fill):
    """Weighted sum of the taps around element ``at``."""
    if is_wide(kind):
        return wide_sum(kind, images, at, taps, fill)
    o, w = taps.offsets[2], taps.weights[2]
    total = sum_over_y(kind, images, at, taps, (o[0], w[0]), fill)
    if kind.mode != NEAREST:
        total += sum_over_y(kind, images, at, taps, (o[1], w[1]), fill)
    if kind.mode >= BICUBIC:
        total += sum_over_y(kind, images, at, taps, (o[2], w[2]), fill)
        total += sum_over_y(kind, images, at, taps, (o[3], w[3]), fill)
    return total


@inlined
def sum_over_y(kind, images, at, taps, x, fill):
    """The part of the sum that one tap along x gives; ``x`` is its offset and weight."""
    o, w = taps.offsets[1], taps.weights[1]
    total = sum_over_z(kind, images, at, taps, (o[0], w[0]), x, fill)
    if kind.mode != NEAREST:
        total += sum_over_z(kind, images, at, taps, (o[1], w[1]), x, fill)
    if kind.mode >= BICUBIC:
        total += sum_over_z(kind, images, at, taps, (o[2], w[2]), x, fill)
        total += sum_over_z(kind, images, at, taps, (o[3], w[3]), x, fill)
    return total * x[1]


@inlined
def sum_over_z(kind, images, at, taps, y, x, fill):
    """The part that one tap along y gives to :func:`sum_over_y`: in a plane, one pixel."""
    o, w = taps.offsets[0], taps.weights[0]
    total = weighted_tap(kind, images, at, (o[0], y[0], x[0]), w[0] * y[1], x[1], fill)
    if kind.dims == 3 and kind.mode != NEAREST:
        total += weighted_tap(kind, images, at, (o[1], y[0], x[0]), w[1] * y[1], x[1], fill)
    return total


@inlined
def wide_sum(kind, images, at, taps, fill):
    """The sum of any number of taps."""
    (oz, oy, ox), (wz, wy, wx) = taps.offsets, taps.weights
    real, zero = type(fill), type(at)(0)
    total = real(0)
    for x in range(TAPS[kind.mode]):
        column = real(0)
        for y in range(TAPS[kind.mode]):
            if kind.dims == 3:
                for z in range(TAPS[kind.mode]):
                    offsets, weight = (oz[z], oy[y], ox[x]), wz[z] * wy[y]
                    column += weighted_tap(kind, images, at, offsets, weight, wx[x], fill)
            else:
                column += weighted_tap(kind, images, at, (zero, oy[y], ox[x]), wy[y], wx[x], fill)
        total += column * wx[x]
    return total


@inlined
def weighted_tap(kind, images, at, offsets, weight, weight_x, fill):
    """One pixel times its weight along y and z.

    A missing tap reads some pixel of the image, so that no load waits for a branch, and its value
    is then dropped: 0 * inf is NaN.
    """
    oz, oy, ox = offsets
    real, index = type(fill), type(at)
    plane = index(max(oz, index(0)) + max(oy, index(0)))
    value = load(images.line, index(at + plane + max(ox, index(0))), images.form, real)
    if not (ox >= 0 and oy >= 0 and oz >= 0):
        outside = kind.padding == ZEROS and weight != real(0) and weight_x != real(0)
        return weight * fill if outside else real(0)
    return weight * value


@inlined
def add_taps(kind, totals, at, taps, value, scale):
    """Add a value times each tap's weight to the totals around element ``at``."""
    if is_wide(kind):
        add_wide(kind, totals, at, taps, value, scale)
        return
    o, w = taps.offsets[2], taps.weights[2]
    add_over_y(kind, totals, at, taps, (o[0], w[0]), value, scale)
    if kind.mode != NEAREST:
        add_over_y(kind, totals, at, taps, (o[1], w[1]), value, scale)
    if kind.mode >= BICUBIC:
        add_over_y(kind, totals, at, taps, (o[2], w[2]), value, scale)
        add_over_y(kind, totals, at, taps, (o[3], w[3]), value, scale)


@inlined
def add_over_y(kind, totals, at, taps, x, value, scale):
    """The same for one tap along x."""
    o, w = taps.offsets[1], taps.weights[1]
    add_over_z(kind, totals, at, taps, (o[0], w[0]), x, value, scale)
    if kind.mode != NEAREST:
        add_over_z(kind, totals, at, taps, (o[1], w[1]), x, value, scale)
    if kind.mode >= BICUBIC:
        add_over_z(kind, totals, at, taps, (o[2], w[2]), x, value, scale)
        add_over_z(kind, totals, at, taps, (o[3], w[3]), x, value, scale)


@inlined
def add_over_z(kind, totals, at, taps, y, x, value, scale):
    """The same for one tap along x and one along y."""
    o, w = taps.offsets[0], taps.weights[0]
    add_weighted(totals, at, (o[0], y[0], x[0]), w[0] * y[1] * x[1], value, scale)
    if kind.dims == 3 and kind.mode != NEAREST:
        add_weighted(totals, at, (o[1], y[0], x[0]), w[1] * y[1] * x[1], value, scale)


@inlined
def add_wide(kind, totals, at, taps, value, scale):
    """The same for any number of taps."""
    (oz, oy, ox), (wz, wy, wx) = taps.offsets, taps.weights
    zero = type(at)(0)
    for y in range(TAPS[kind.mode]):
        for x in range(TAPS[kind.mode]):
            if kind.dims == 3:
                for z in range(TAPS[kind.mode]):
                    offsets, weight = (oz[z], oy[y], ox[x]), wz[z] * wy[y] * wx[x]
                    add_weighted(totals, at, offsets, weight, value, scale)
            else:
                add_weighted(totals, at, (zero, oy[y], ox[x]), wy[y] * wx[x], value, scale)


@inlined
def add_weighted(totals, at, offsets, weight, value, scale):
    """The same for one pixel, as an integer."""
    oz, oy, ox = offsets
    if ox >= 0 and oy >= 0 and oz >= 0 and weight != type(value)(0):
        to = np.uint64(type(at)(at + oz + oy + ox))
        cuda.atomic.add(totals, to, quantize(value * weight, scale))


# --- All channels of a sample ---------------------------------------------------------------------


@inlined
def blend(kind, images, start, pixel, g, samples, to):
    """Write the channels of one output pixel from element ``to`` on, read from ``start`` on."""
    real, index = type(images.fill[0]), type(to)
    step, step_out = channel_steps(kind, g)
    position = locate(kind, pixel, g)
    taps, c = taps_at(kind, position, real), index(0)
    while c < g.counts[2]:
        value = fill_of(images.fill, c)
        if position.inside:
            value = weighted_sum(kind, images, start, taps, value)
        store(samples, to, value, images.form)
        start, to, c = index(start + step), index(to + step_out), index(c + 1)


@inlined
def pixel_gradient(kind, images, start, pixel, g, dsamples, at):
    """Gradient with respect to an input pixel coordinate (x, y, z), summed over the channels.

    The channels of ``dsamples`` begin at element ``at``, those of the image at ``start``.
    """
    real, index, zero = type(images.fill[0]), type(at), type(g.off)(0)
    step, step_out = channel_steps(kind, g)
    position = locate(kind, pixel, g)
    if not position.inside:
        return zero, zero, zero
    taps, weight_slopes = taps_at(kind, position, real), weight_slopes_at(kind, position, real)
    gx, gy, gz, c = real(0), real(0), real(0), index(0)
    while c < g.counts[2]:
        d, fill = element(dsamples, at), fill_of(images.fill, c)
        x, y, z = sample_slopes(kind, images, start, taps, weight_slopes, fill)
        gx, gy, gz = gx + d * x, gy + d * y, gz + d * z
        start, at, c = index(start + step), index(at + step_out), index(c + 1)
    # A slope of 0 must win over an infinite difference, as a missing tap does.
    sz, sy, sx = position.slopes
    return (
        type(g.off)(gx) * sx if sx != zero else zero,
        type(g.off)(gy) * sy if sy != zero else zero,
        type(g.off)(gz) * sz if sz != zero else zero,
    )


@inlined
def sample_slopes(kind, images, start, taps, weight_slopes, fill):
    """Derivatives of one channel's sample with respect to x, y and z, in pixels."""
    offsets, (wz, wy, wx), (vz, vy, vx) = taps.offsets, taps.weights, weight_slopes
    x = weighted_sum(kind, images, start, Taps(offsets, (wz, wy, vx)), fill)
    y = weighted_sum(kind, images, start, Taps(offsets, (wz, vy, wx)), fill)
    z = type(fill)(0)
    if kind.dims == 3:
        z = weighted_sum(kind, images, start, Taps(offsets, (vz, wy, wx)), fill)
    return x, y, z
