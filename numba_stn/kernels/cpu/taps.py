"""One sample of an image of any layout and dtype: its taps, their weights, and the weighted sum.

``inside`` means that all taps are inside the image, so that none needs a check. Images are
(N, C, D, H, W), or (N, D, H, W, C) if channels are last; a plane has D = 1.
"""

import functools

import numpy as np

from ..math.curvatures import CURVATURES
from ..math.dtypes import make_load
from ..math.interpolation import SLOPES, WEIGHTS, locate_taps
from ..math.jit import inlined, scalar
from ..math.padding import MISSING, tap_index
from ..math.sampler_kind import BEFORE, BILINEAR, TAPS, ZEROS

# --- Elements of arrays of either layout ----------------------------------------------------------


@functools.cache
def make_get(channels_last):
    """Function: array, n, c, z, y, x -> element. Unsigned indices never count from the end."""
    u = np.uint64
    if channels_last:
        return inlined(lambda a, n, c, z, y, x: a[u(n), u(z), u(y), u(x), u(c)])
    return inlined(lambda a, n, c, z, y, x: a[u(n), u(c), u(z), u(y), u(x)])


@functools.cache
def make_put(channels_last):
    """Function: write an element, ``put(array, n, c, z, y, x, element)``."""
    u = np.uint64
    if channels_last:

        def put(a, n, c, z, y, x, element):
            a[u(n), u(z), u(y), u(x), u(c)] = element

    else:

        def put(a, n, c, z, y, x, element):
            a[u(n), u(c), u(z), u(y), u(x)] = element

    return inlined(put)


@functools.cache
def make_lengths(channels_last):
    """Function: array -> batch, channels, (D, H, W)."""
    if channels_last:
        return inlined(lambda a: (a.shape[0], a.shape[4], a.shape[1:4]))
    return inlined(lambda a: (a.shape[0], a.shape[1], a.shape[2:5]))


# --- One sample -----------------------------------------------------------------------------------


@functools.cache
def make_locate(mode, padding, dims):
    """Function: pixel, sides, off -> first tap, fractions, slopes, whether it has taps, ``inside``.

    The first tap, the fractions and the slopes are each given along (z, y, x).
    """
    deep, count = dims == 3, TAPS[mode]

    def locate(pixel, sides, off):
        x, y, z = pixel
        d, h, w = sides
        ix, tx, sx, some_x = locate_taps(x, w, mode, padding, off)
        iy, ty, sy, some_y = locate_taps(y, h, mode, padding, off)
        iz, tz, sz, some = ix * 0, tx * 0, sx * 0, some_x and some_y
        inside = 0 <= ix and ix + count <= w and 0 <= iy and iy + count <= h
        if deep:
            iz, tz, sz, some_z = locate_taps(z, d, mode, padding, off)
            some, inside = some and some_z, inside and 0 <= iz and iz + count <= d
        return (iz, iy, ix), (tz, ty, tx), (sz, sy, sx), some, inside

    return inlined(locate)


@functools.cache
def make_weights(mode, dims, orders=(0, 0, 0)):
    """Function: fractions, type -> weights of the taps along (z, y, x).

    ``orders`` along each of them are 0, or 1 for the slopes of the weights, or 2 for the slopes'.
    """
    modes = mode if dims == 3 else 0, mode, mode
    z, y, x = ((WEIGHTS, SLOPES, CURVATURES)[n][m] for n, m in zip(orders, modes, strict=True))
    return scalar(lambda t, real: (z(real(t[0])), y(real(t[1])), x(real(t[2]))))


@functools.cache
def make_weighted_sum(kind, dtype):
    """Functions: image m, channel c, first tap, weights -> the weighted sum of the taps.

    The first function is for taps that are all inside, the second checks each tap.
    """
    _, mode, padding, dims, channels_last, _ = kind
    get, load = make_get(channels_last), make_load(dtype)
    count, deep = TAPS[mode], TAPS[mode] if dims == 3 else 1

    def sum_inside(images, fill, m, c, first, weights, sides, off):
        real = fill.dtype.type
        (iz, iy, ix), (wz, wy, wx) = first, weights
        total = real(0)
        for x in range(count):
            column = real(0)
            for y in range(count):
                for z in range(deep):
                    value = load(get(images, m, c, iz + z, iy + y, ix + x), real)
                    column += wz[z] * wy[y] * value
            total += column * wx[x]
        return total

    def sum_checked(images, fill, m, c, first, weights, sides, off):
        real = fill.dtype.type
        (iz, iy, ix), (wz, wy, wx), (d, h, w) = first, weights, sides
        total = real(0)
        for x in range(count):
            column, jx = real(0), tap_index(ix + x, w, mode, padding, off)
            for y in range(count):
                jy = tap_index(iy + y, h, mode, padding, off)
                for z in range(deep):
                    jz, weight = tap_index(iz + z, d, mode, padding, off), wz[z] * wy[y]
                    # A missing tap is skipped and not multiplied: 0 * inf is NaN.
                    if jx != MISSING and jy != MISSING and jz != MISSING:
                        column += weight * load(get(images, m, c, jz, jy, jx), real)
                    elif padding == ZEROS and weight != real(0) and wx[x] != real(0):
                        column += weight * fill[c]
            total += column * wx[x]
        return total

    return inlined(sum_inside), scalar(sum_checked)


@functools.cache
def make_channel_slopes(kind, dtype):
    """Function: fractions -> slopes of one channel's sample in x, y and z, per pixel.

    ``where`` is (m, c, first): image m, channel c, and the first tap along (z, y, x).
    """
    dims = kind.dims
    sum_inside, sum_checked = make_weighted_sum(kind, dtype)
    along_z, along_y, along_x = (
        make_weights(kind.mode, dims, orders) for orders in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    deep = dims == 3

    def channel_slopes(images, fill, where, t, inside, sides, off):
        (m, c, first), real = where, fill.dtype.type
        wz, wy, wx = along_z(t, real), along_y(t, real), along_x(t, real)
        z = real(0)
        if inside:
            x = sum_inside(images, fill, m, c, first, wx, sides, off)
            y = sum_inside(images, fill, m, c, first, wy, sides, off)
            if deep:
                z = sum_inside(images, fill, m, c, first, wz, sides, off)
        else:
            x = sum_checked(images, fill, m, c, first, wx, sides, off)
            y = sum_checked(images, fill, m, c, first, wy, sides, off)
            if deep:
                z = sum_checked(images, fill, m, c, first, wz, sides, off)
        return x, y, z

    return scalar(channel_slopes)


@functools.cache
def make_channel_curvatures(kind, dtype):
    """Function: fractions -> second derivatives of one channel's sample: xx, yy, zz, xy, xz, yz.

    They are per pixel; the arguments are those of :func:`make_channel_slopes`.
    """
    deep, curved = kind.dims == 3, kind.mode > BILINEAR
    xx, yy, zz, xy, xz, yz = (
        _make_derivative(kind, dtype, orders)
        for orders in ((0, 0, 2), (0, 2, 0), (2, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))
    )

    def channel_curvatures(images, fill, where, t, inside, sides, off):
        real = fill.dtype.type
        found_xx = found_yy = found_zz = found_xz = found_yz = real(0)
        found_xy = xy(images, fill, where, t, inside, sides, off)
        if deep:
            found_xz = xz(images, fill, where, t, inside, sides, off)
            found_yz = yz(images, fill, where, t, inside, sides, off)
        if curved:
            found_xx = xx(images, fill, where, t, inside, sides, off)
            found_yy = yy(images, fill, where, t, inside, sides, off)
        if curved and deep:
            found_zz = zz(images, fill, where, t, inside, sides, off)
        return found_xx, found_yy, found_zz, found_xy, found_xz, found_yz

    return scalar(channel_curvatures)


def _make_derivative(kind, dtype, orders):
    """Function: fractions -> the derivative of these orders, along (z, y, x), of a channel."""
    sum_inside, sum_checked = make_weighted_sum(kind, dtype)
    weights_of = make_weights(kind.mode, kind.dims, orders)

    def derivative(images, fill, where, t, inside, sides, off):
        m, c, first = where
        weights = weights_of(t, fill.dtype.type)
        if inside:
            return sum_inside(images, fill, m, c, first, weights, sides, off)
        return sum_checked(images, fill, m, c, first, weights, sides, off)

    return scalar(derivative)


@functools.cache
def make_block_sum(mode, dtype):
    """Function: elements, first, steps, weights -> the weighted sum of the taps around an element.

    It is for planes, and for taps that are all inside. ``elements`` are the image's, ``first`` is
    the lower or nearest tap, and ``steps`` are the numbers of elements from pixel to pixel and from
    row to row.
    """
    load, count, before = make_load(dtype), TAPS[mode], BEFORE[mode]

    def block_sum(elements, first, steps, weights, real):
        (along, down), (_, wy, wx) = steps, weights
        total = real(0)
        if before:
            first -= before * (along + down)
        for x in range(count):
            column = real(0)
            for y in range(count):
                column += wy[y] * load(elements[np.uint64(first + y * down + x * along)], real)
            total += column * wx[x]
        return total

    return scalar(block_sum)
