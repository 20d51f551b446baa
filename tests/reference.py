"""The oracle: slow, obvious float64 loops, written from the definitions alone.

Nothing is shared with the package. Paddings are applied step by step (reflect, or move by a period,
until inside), weights are functions of the distance from a pixel (the paper's max(0, 1 - |x - w|),
and Keys's polynomials), and theta's gradient goes through the grid. Planes and volumes share the
code; channels come first.
"""

import itertools
import math

import numpy as np

FAR = 1e6  # too far to move step by step

# Paddings that mirror, and modes that read more than two pixels along an axis.
MIRRORED, WIDE = ("reflection", "mirror"), ("bicubic", "catmull-rom", "lanczos4")


# --- Grids ----------------------------------------------------------------------------------------


def base_line(size, align_corners):
    if size == 1:
        return np.zeros(1)
    line = np.linspace(-1.0, 1.0, size)
    return line if align_corners else line * (size - 1) / size


def base_points(size, align_corners):
    """(index, (x, y, 1) or (x, y, z, 1)) of every output pixel."""
    lines = [base_line(side, align_corners) for side in size]
    for index in itertools.product(*map(range, size)):
        point = [line[i] for line, i in zip(lines, index, strict=True)]
        yield index, [*point[::-1], 1.0]


def affine_grid(theta, size, align_corners=False):
    grid = np.zeros((len(theta), *size, len(size)))
    for n, matrix in enumerate(np.asarray(theta, float)):
        for index, point in base_points(size, align_corners):
            grid[(n, *index)] = matrix @ point
    return grid


def affine_grid_vjp(dgrid, align_corners=False):
    size = dgrid.shape[1:-1]
    dtheta = np.zeros((len(dgrid), len(size), len(size) + 1))
    for n in range(len(dgrid)):
        for index, point in base_points(size, align_corners):
            dtheta[n] += np.outer(np.asarray(dgrid[(n, *index)], float), point)
    return dtheta


def projective_grid(theta, size, align_corners=False):
    grid = np.zeros((len(theta), *size, len(size)))
    for n, matrix in enumerate(np.asarray(theta, float)):
        for index, point in base_points(size, align_corners):
            *numerators, w = matrix @ point
            grid[(n, *index)] = np.array(numerators) / w
    return grid


def projective_grid_vjp(dgrid, theta, align_corners=False):
    """The quotient rule, pixel by pixel."""
    dtheta = np.zeros(theta.shape)
    for n, matrix in enumerate(np.asarray(theta, float)):
        for index, point in base_points(dgrid.shape[1:-1], align_corners):
            *numerators, w = matrix @ point
            g = np.asarray(dgrid[(n, *index)], float)
            dtheta[n] += np.outer([*(g / w), -(g @ numerators) / w**2], point)
    return dtheta


# --- One axis: the pixels of a coordinate ---------------------------------------------------------


def pixel_of(g, size, align_corners):
    """Pixel coordinate of a normalised one, and its slope."""
    if align_corners:
        return (g + 1) / 2 * (size - 1), (size - 1) / 2
    return ((g + 1) * size - 1) / 2, size / 2


def is_on(c, size, align_corners):
    """Whether a coordinate is between the outer edges of a side, or aligned pixel centres."""
    return (0 <= c <= size - 1) if align_corners else (-0.5 <= c <= size - 0.5)


def moved_inside(c, size, padding_mode, align_corners):
    """Coordinate after reflections, or moves by a period, into the image; and its slope."""
    centres = align_corners or padding_mode == "mirror"
    low, high = (0.0, size - 1.0) if centres else (-0.5, size - 0.5)
    if not abs(c) < FAR or (padding_mode in MIRRORED and high <= low):
        return 0.0, 0.0
    slope = 1.0
    if padding_mode == "wrap":
        while c < 0 or c >= size:
            c += size if c < 0 else -size
        return c, slope
    while c < low or c > high:
        c = 2 * (low if c < low else high) - c
        slope = -slope
    return c, slope


def clipped(c, size):
    if not c > 0:
        return 0.0, 0.0
    if c >= size - 1:
        return size - 1.0, 0.0
    return c, 1.0


def padded(c, size, mode, padding_mode, align_corners):
    """Coordinate from which taps are counted, and its slope; None if there are no taps.

    Bicubic taps are padded one by one, so for them only very distant coordinates are changed.
    """
    if padding_mode == "zeros" or (padding_mode == "fill" and not is_on(c, size, align_corners)):
        return (c, 1.0) if padding_mode == "zeros" and abs(c) < FAR else None
    if padding_mode == "wrap":
        return moved_inside(c, size, "wrap", align_corners)
    if mode in WIDE:
        if abs(c) < FAR:
            return (c, 1.0) if size > 1 or padding_mode not in MIRRORED else (0.0, 0.0)
        return (size + 5.0 if c > 0 and padding_mode == "border" else 0.0), 0.0
    slope = 1.0
    if padding_mode in MIRRORED:
        c, slope = moved_inside(c, size, padding_mode, align_corners)
    c, inside = clipped(c, size)
    return c, slope * inside


def pixel_at(i, size, padding_mode, align_corners):
    """The pixel of tap i; None outside."""
    if padding_mode == "zeros":
        return i if 0 <= i < size else None
    if padding_mode in ("wrap", *MIRRORED):
        i = round(moved_inside(float(i), size, padding_mode, align_corners)[0])
    return min(max(i, 0), size - 1)


def keys(d, a):
    """Keys's weight of a pixel at the distance d, and its slope in d."""
    inner, outer = [a + 2, -(a + 3), 0, 1], [a, -5 * a, 8 * a, -4 * a]
    piece = np.poly1d(inner if abs(d) <= 1 else outer)
    return piece(abs(d)), piece.deriv()(abs(d)) * (1 if d >= 0 else -1)


def weighted_taps(c, mode):
    """(tap, weight, slope) of the taps of a coordinate."""
    low = math.floor(c)
    if mode == "nearest":
        return [(round(c), 1.0, 0.0)]  # Python rounds a half to even
    if mode == "bilinear":
        return [(low, 1 - (c - low), -1.0), (low + 1, c - low, 1.0)]
    if mode == "lanczos4":
        taps, step = np.arange(low - 3, low + 5), 1e-30j  # slopes by a complex step
        kernel = np.sinc(c + step - taps) * np.sinc((c + step - taps) / 4)
        weights = kernel / kernel.sum()
        slopes = weights.imag / step.imag
        return list(zip(taps.tolist(), weights.real.tolist(), slopes.tolist(), strict=True))
    a = -0.5 if mode == "catmull-rom" else -0.75
    return [(i, *keys(c - i, a)) for i in range(low - 1, low + 3)]


def axis_taps(g, size, mode, padding_mode, align_corners):
    """(pixel or None, weight, slope in g) of each tap along an axis; None if there are no taps."""
    c, scale = pixel_of(float(g), size, align_corners)
    found = padded(c, size, mode, padding_mode, align_corners)
    if found is None:
        return None
    c, inside = found
    return [
        (pixel_at(i, size, padding_mode, align_corners), weight, slope * inside * scale)
        for i, weight, slope in weighted_taps(c, mode)
    ]


# --- Samples --------------------------------------------------------------------------------------


def taps(point, shape, mode, padding_mode, align_corners):
    """(pixel or None, weight, slopes in x, y, z) of each tap of one grid point."""
    axes = [
        axis_taps(g, size, mode, padding_mode, align_corners)
        for g, size in zip(point, shape[::-1], strict=True)
    ]
    if None in axes:
        return
    for along in itertools.product(*axes):
        pixel = tuple(index for index, _, _ in along)[::-1]
        weights = [weight for _, weight, _ in along]
        slopes = [
            slope * math.prod(weights[:axis] + weights[axis + 1 :])
            for axis, (_, _, slope) in enumerate(along)
        ]
        yield None if None in pixel else pixel, math.prod(weights), slopes


def fill_of(fill, channels):
    return np.broadcast_to(np.asarray(fill, float), (channels,))


def grid_sample(images, grid, padding_mode="zeros", align_corners=False, fill=0.0, mode="bilinear"):
    size = grid.shape[1:-1]
    out = np.zeros((len(grid), images.shape[1], *size))
    outside = fill_of(fill, images.shape[1])
    for n in range(len(grid)):
        image = np.asarray(images[n if len(images) > 1 else 0], float)
        for index in itertools.product(*map(range, size)):
            found = list(
                taps(grid[(n, *index)], image.shape[1:], mode, padding_mode, align_corners)
            )
            value = np.zeros(len(image)) if found else outside
            for pixel, weight, _ in found:
                value = value + weight * (outside if pixel is None else image[(..., *pixel)])
            out[(n, slice(None), *index)] = value
    return out


def grid_sample_vjp(
    dsamples, images, grid, padding_mode="zeros", align_corners=False, fill=0.0, mode="bilinear"
):
    size = grid.shape[1:-1]
    dimages, dgrid = np.zeros(images.shape), np.zeros(grid.shape)
    outside = fill_of(fill, images.shape[1])
    for n in range(len(grid)):
        m = n if len(images) > 1 else 0
        image = np.asarray(images[m], float)
        for index in itertools.product(*map(range, size)):
            d = np.asarray(dsamples[(n, slice(None), *index)], float)
            for pixel, weight, slopes in taps(
                grid[(n, *index)], image.shape[1:], mode, padding_mode, align_corners
            ):
                if pixel is not None:
                    dimages[(m, slice(None), *pixel)] += weight * d
                value = outside if pixel is None else image[(..., *pixel)]
                dgrid[(n, *index)] += np.array(slopes) * (d @ value)
    return dimages, dgrid


def coverage(grid, shape, padding_mode="zeros", align_corners=False, mode="bilinear"):
    """The sum of the weights of taps inside, whatever the padding; 0 or 1 for "fill"."""
    covered = np.zeros(grid.shape[:-1])
    for index in np.ndindex(covered.shape):
        if padding_mode == "fill":
            covered[index] = all(
                is_on(pixel_of(float(g), size, align_corners)[0], size, align_corners)
                for g, size in zip(grid[index], shape[::-1], strict=True)
            )
            continue
        for pixel, weight, _ in taps(grid[index], shape, mode, "zeros", align_corners):
            covered[index] += weight if pixel is not None else 0
    return covered


def warp_affine(images, theta, size=None, align_corners=False, **options):
    grid = affine_grid(theta, size or images.shape[2:], align_corners)
    return grid_sample(images, grid, align_corners=align_corners, **options)


def warp_affine_vjp(dsamples, images, theta, align_corners=False, **options):
    grid = affine_grid(theta, dsamples.shape[2:], align_corners)
    dimages, dgrid = grid_sample_vjp(dsamples, images, grid, align_corners=align_corners, **options)
    return dimages, affine_grid_vjp(dgrid, align_corners)


def warp_perspective_vjp(dsamples, images, theta, align_corners=False, **options):
    grid = projective_grid(theta, dsamples.shape[2:], align_corners)
    dimages, dgrid = grid_sample_vjp(dsamples, images, grid, align_corners=align_corners, **options)
    return dimages, projective_grid_vjp(dgrid, theta, align_corners)


# --- How samples are stored -----------------------------------------------------------------------


def stored(values, dtype):
    """Values in a dtype: integers are rounded, a half to even, and saturated."""
    dtype = np.dtype(dtype)
    if dtype.kind != "u":
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)
