"""The oracle for every sampler: slow, obvious float64 loops, in any number of dimensions.

Like :mod:`reference` it shares nothing with the package. Images are (N, C, ..., W), grids
(N, ..., W_out, dims) with x before y before z. A sample is the product of its axes, and an axis a
list of taps: (index, weight, slope), where the index is None outside the image.
"""

import itertools
import math

import numpy as np
from reference import base_line

KEYS = -0.75


def weights(mode, c):
    """(whole number, weight, slope) of each tap of a coordinate."""
    if mode == "nearest":
        return [(round(c), 1.0, 0.0)]
    low = math.floor(c)
    if mode == "bilinear":
        return [(low, low + 1 - c, -1.0), (low + 1, c - low, 1.0)]
    return [(i, keys(abs(c - i)), slope_of_keys(abs(c - i)) * (1 if c > i else -1))
            for i in range(low - 1, low + 3)]  # fmt: skip


def keys(d):
    if d < 1:
        return (KEYS + 2) * d**3 - (KEYS + 3) * d**2 + 1
    return KEYS * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def slope_of_keys(d):
    if d < 1:
        return 3 * (KEYS + 2) * d**2 - 2 * (KEYS + 3) * d
    return KEYS * (3 * d**2 - 10 * d + 8) if d < 2 else 0.0


def mirrored(c, low, high):
    """``c`` between two mirrors, and the sign of the way there."""
    sign = 1.0
    if high <= low:
        return 0.0, 0.0
    while c < low or c > high:
        c, sign = 2 * (low if c < low else high) - c, -sign
    return c, sign


def clipped(c, size):
    if not c > 0:
        return 0.0, 0.0
    return (c, 1.0) if c < size - 1 else (size - 1.0, 0.0)


def axis(g, size, mode, padding, corners):
    """The taps of one normalised coordinate, slopes with respect to it; None: reads nothing."""
    scale = (size - 1) / 2 if corners else size / 2
    c, edge = (size - 1) / 2 + g * scale, 0.0 if corners else 0.5
    if padding in ("zeros", "fill"):
        far = 3 if padding == "zeros" else edge
        if not -far <= c <= size - 1 + far:
            return None
    elif not abs(c) < 1e6:
        return [(size - 1 if padding == "border" and c > 0 else 0, 1.0, 0.0)]
    sign = 1.0
    if mode != "bicubic" and padding == "reflection":
        c, sign = mirrored(c, -edge, size - 1 + edge)
    if mode != "bicubic" and padding in ("border", "fill", "reflection"):
        c, slope = clipped(c, size)
        sign *= slope
    return [(index(i, size, padding, corners), w, s * sign * scale) for i, w, s in weights(mode, c)]


def index(i, size, padding, corners):
    """The pixel that a whole number stands for."""
    if padding == "wrap":
        return i % size
    if padding == "zeros":
        return i if 0 <= i < size else None
    if padding == "reflection":
        edge = 0.0 if corners else 0.5
        return int(mirrored(i, -edge, size - 1 + edge)[0]) if size > 1 else 0
    return min(max(i, 0), size - 1)


def taps(point, shape, *rule):
    """(place in the image or None, weight, slopes in x, y and z) of each tap of one grid point."""
    axes = [axis(float(g), size, *rule) for g, size in zip(point, shape[::-1], strict=True)]
    if None in axes:
        return
    for found in itertools.product(*axes):
        places = tuple(i for i, _, _ in found)[::-1]
        values = [w for _, w, _ in found]
        slopes = [s * math.prod(values[:k] + values[k + 1 :]) for k, (_, _, s) in enumerate(found)]
        yield (None if None in places else places), math.prod(values), slopes


def sample(images, grid, fill, *rule):
    """Samples (N, C, ...), how much of them comes from inside, and slopes (N, C, ..., dims)."""
    fill = np.broadcast_to(np.asarray(fill, float), images.shape[1:2])
    size, dims = grid.shape[1:-1], grid.shape[-1]
    samples = np.zeros((len(grid), images.shape[1], *size))
    slopes, covered = np.zeros((*samples.shape, dims)), np.zeros(grid.shape[:-1])
    for where in np.ndindex(*grid.shape[:-1]):
        n, at = where[0], where[1:]
        image = np.asarray(images[n if len(images) > 1 else 0], float)
        found = list(taps(grid[where], image.shape[1:], *rule))
        if not found:
            samples[(n, slice(None), *at)] = fill
        for place, weight, slope in found:
            value = fill if place is None else image[(slice(None), *place)]
            samples[(n, slice(None), *at)] += weight * value
            slopes[(n, slice(None), *at)] += np.outer(value, slope)
        covered[where] = coverage(grid[where], image.shape[1:], *rule)
    return samples, covered, slopes


def coverage(point, shape, mode, padding, corners):
    rule = mode, padding if padding == "fill" else "zeros", corners
    return sum(weight for place, weight, _ in taps(point, shape, *rule) if place is not None)


def scatter(dsamples, shape, grid, *rule):
    """Gradient with respect to images of this shape."""
    dimages = np.zeros(shape)
    for where in np.ndindex(*grid.shape[:-1]):
        n, at = where[0], where[1:]
        for place, weight, _ in taps(grid[where], shape[2:], *rule):
            if place is not None:
                d = np.asarray(dsamples[(n, slice(None), *at)], float)
                dimages[(n if shape[0] > 1 else 0, slice(None), *place)] += weight * d
    return dimages


def points(size, corners):
    """Normalised output coordinates (x, y, z, 1), in an array of this size."""
    lines = [base_line(side, corners) for side in size]
    mesh = np.meshgrid(*lines, indexing="ij")[::-1]
    return np.stack([*mesh, np.ones(size)], axis=-1)


def grid_of(theta, size, corners):
    """The grid of affine or projective maps; a last row, where there is one, divides."""
    found = np.einsum("nrc,...c->n...r", np.asarray(theta, float), points(size, corners))
    rows, columns = theta.shape[1:]
    return found[..., :-1] / found[..., -1:] if rows == columns else found


def theta_gradient(dgrid, theta, corners):
    """Theta's gradient from the grid's."""
    place = points(dgrid.shape[1:-1], corners)
    if theta.shape[1] == theta.shape[2]:
        found = np.einsum("nrc,...c->n...r", np.asarray(theta, float), place)
        w = found[..., -1:]
        across = -(dgrid * found[..., :-1] / w).sum(-1, keepdims=True)
        dgrid = np.concatenate([dgrid, across], axis=-1) / w
    rows = dgrid.reshape(len(dgrid), -1, dgrid.shape[-1])
    return np.einsum("npr,pc->nrc", rows, place.reshape(-1, place.shape[-1]))
