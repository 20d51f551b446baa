"""Single pixels of images (N, C, H, W), forward and backward: those without vector code.

``at`` is (m, n, i, j): sample (i, j) of samples n, which sample image m. ``pixel`` is the sampling
position (x, y).
"""

from ..math.interpolation import (
    bilinear,
    bilinear_slopes,
    bilinear_weights,
    locate,
    weighted_fill,
)
from ..math.jit import inlined, scalar
from ..math.padding import OUTSIDE


@inlined
def read(images, n, c, y, x, fill):
    """One tap: the pixel, or ``fill`` where the image has none."""
    if 0 <= y < images.shape[2] and 0 <= x < images.shape[3]:
        return images[n, c, y, x]
    return fill


@inlined
def read_for_slopes(images, n, c, y, x, fill_x, fill_y):
    """One tap for the slope in x, and for the slope in y."""
    if 0 <= y < images.shape[2] and 0 <= x < images.shape[3]:
        pixel = images[n, c, y, x]
        return pixel, pixel
    return fill_x, fill_y


# --- Samples --------------------------------------------------------------------------------------


@scalar
def sample_pixel(images, samples, padding, off, fill, at, pixel):
    """Write all channels of one sample."""
    real = samples.dtype.type
    (m, n, i, j), (x, y) = at, pixel
    ix, tx, _ = locate(x, images.shape[3], padding, off)
    iy, ty, _ = locate(y, images.shape[2], padding, off)
    outside = ix == OUTSIDE or iy == OUTSIDE
    weights = bilinear_weights(real(tx), real(ty))
    for c in range(samples.shape[1]):
        if outside:
            samples[n, c, i, j] = fill
            continue
        samples[n, c, i, j] = bilinear(
            read(images, m, c, iy, ix, weighted_fill(fill, weights[0])),
            read(images, m, c, iy, ix + 1, weighted_fill(fill, weights[1])),
            read(images, m, c, iy + 1, ix, weighted_fill(fill, weights[2])),
            read(images, m, c, iy + 1, ix + 1, weighted_fill(fill, weights[3])),
            weights,
        )


# --- Gradient of the images -----------------------------------------------------------------------


@scalar
def accumulate_pixel(dsamples, dimages, padding, off, part, at, pixel):
    """Add one sample's gradient to the pixels it was read from.

    ``part`` is (first, last, top, bottom): only channels ``first`` to ``last`` - 1 and rows ``top``
    to ``bottom`` - 1 are written.
    """
    real = dimages.dtype.type
    h, w = dimages.shape[2:]
    (m, n, i, j), (x, y), (first, last, top, bottom) = at, pixel, part
    iy, ty, _ = locate(y, h, padding, off)
    if iy + 1 < top or iy >= bottom:
        return
    ix, tx, _ = locate(x, w, padding, off)
    nw, ne, sw, se = bilinear_weights(real(tx), real(ty))
    for c in range(first, last):
        d = dsamples[n, c, i, j]
        if top <= iy:
            if 0 <= ix:
                dimages[m, c, iy, ix] += d * nw
            if -1 <= ix < w - 1:
                dimages[m, c, iy, ix + 1] += d * ne
        if iy + 1 < bottom:
            if 0 <= ix:
                dimages[m, c, iy + 1, ix] += d * sw
            if -1 <= ix < w - 1:
                dimages[m, c, iy + 1, ix + 1] += d * se


@scalar
def accumulate_quad(dsamples, quads, padding, off, c, at, pixel):
    """Add one sample's gradient, in channels c and following, to the quad of its lower tap."""
    real = quads.dtype.type
    h, w = quads.shape[1] - 1, quads.shape[2] - 1
    (_, n, i, j), (x, y) = at, pixel
    iy, ty, _ = locate(y, h, padding, off)
    ix, tx, _ = locate(x, w, padding, off)
    if ix == OUTSIDE or iy == OUTSIDE:
        return
    weights = bilinear_weights(real(tx), real(ty))
    for k in range(quads.shape[0]):
        for tap in range(4):
            quads[k, iy + 1, ix + 1, tap] += dsamples[n, c + k, i, j] * weights[tap]


@scalar
def pixel_of_quads(quads, k, y, x):
    """The gradient of pixel (y, x): the sum of one number from each of four quads.

    These are the first number of the pixel's own quad, the second of the one to the left, the third
    of the one above, and the fourth of the one above and to the left.
    """
    upper = quads[k, y + 1, x + 1, 0] + quads[k, y + 1, x, 1]
    return upper + quads[k, y, x + 1, 2] + quads[k, y, x, 3]


# --- Gradient of the coordinates ------------------------------------------------------------------


@scalar
def coords_gradient(dsamples, images, padding, off, fill, at, pixel):
    """Gradient with respect to the sampling position (x, y) of one sample, in float64."""
    real = images.dtype.type
    h, w = images.shape[2:]
    (m, n, i, j), (x, y) = at, pixel
    ix, tx, slope_x = locate(x, w, padding, off)
    iy, ty, slope_y = locate(y, h, padding, off)
    tx, ty, one = real(tx), real(ty), real(1)
    west, east = weighted_fill(fill, one - tx), weighted_fill(fill, tx)
    north, south = weighted_fill(fill, one - ty), weighted_fill(fill, ty)
    dx, dy = real(0), real(0)
    outside = ix == OUTSIDE or iy == OUTSIDE
    for c in range(0 if outside else dsamples.shape[1]):
        nw = read_for_slopes(images, m, c, iy, ix, north, west)
        ne = read_for_slopes(images, m, c, iy, ix + 1, north, east)
        sw = read_for_slopes(images, m, c, iy + 1, ix, south, west)
        se = read_for_slopes(images, m, c, iy + 1, ix + 1, south, east)
        d = dsamples[n, c, i, j]
        dx += d * bilinear_slopes(nw[0], ne[0], sw[0], se[0], tx, ty)[0]
        dy += d * bilinear_slopes(nw[1], ne[1], sw[1], se[1], tx, ty)[1]
    # A slope of 0 must win over an infinite difference, as a missing tap does.
    return dx * slope_x if slope_x != 0.0 else 0.0, dy * slope_y if slope_y != 0.0 else 0.0
