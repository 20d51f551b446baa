"""The oracle: slow, obvious float64 loops, written from the definitions and from nothing else.

Nothing is shared with the package. Paddings are applied by walking (reflect until inside), the
interpolation is the paper's sum over pixels of max(0, 1 - |x - w|), and theta's gradient goes
through the grid.
"""

import math

import numpy as np


def base_line(size, align_corners):
    if size == 1:
        return np.zeros(1)
    line = np.linspace(-1.0, 1.0, size)
    return line if align_corners else line * (size - 1) / size


def affine_grid(theta, size, align_corners=False):
    grid = np.zeros((len(theta), *size, 2))
    ys, xs = base_line(size[0], align_corners), base_line(size[1], align_corners)
    for n, matrix in enumerate(np.asarray(theta, float)):
        for i, y in enumerate(ys):
            for j, x in enumerate(xs):
                grid[n, i, j] = matrix @ [x, y, 1.0]
    return grid


def affine_grid_vjp(dgrid, align_corners=False):
    batch, rows, columns, _ = dgrid.shape
    ys, xs = base_line(rows, align_corners), base_line(columns, align_corners)
    dtheta = np.zeros((batch, 2, 3))
    for n in range(batch):
        for i in range(rows):
            for j in range(columns):
                dtheta[n] += np.outer(np.asarray(dgrid[n, i, j], float), [xs[j], ys[i], 1.0])
    return dtheta


def padded(g, size, padding_mode, align_corners):
    """Pixel coordinate after padding, and its slope with respect to the normalised one."""
    scale = (size - 1) / 2 if align_corners else size / 2
    c = (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2
    slope = 1.0
    if padding_mode == "zeros":
        return c, slope * scale
    if padding_mode == "reflection":
        low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
        if high <= low or not abs(c) < 1e6:
            return 0.0, 0.0
        while c < low or c > high:
            c = 2 * (low if c < low else high) - c
            slope = -slope
    if not c > 0:
        return 0.0, 0.0
    if c >= size - 1:
        return size - 1.0, 0.0
    return c, slope * scale


def neighbours(c):
    """The two taps of a coordinate, each with its weight and the weight's slope."""
    if not abs(c) < 1e6:
        return []
    low = math.floor(c)
    return [(low, 1 - (c - low), -1.0), (low + 1, c - low, 1.0)]


def taps(point, shape, padding_mode, align_corners):
    """(row, column, weight, slope in x, slope in y, inside) of each tap of one grid point."""
    x, scale_x = padded(float(point[0]), shape[1], padding_mode, align_corners)
    y, scale_y = padded(float(point[1]), shape[0], padding_mode, align_corners)
    for h, wy, sy in neighbours(y):
        for w, wx, sx in neighbours(x):
            inside = 0 <= h < shape[0] and 0 <= w < shape[1]
            yield h, w, wx * wy, sx * wy * scale_x, wx * sy * scale_y, inside


def grid_sample(images, grid, padding_mode="zeros", align_corners=False, fill=0.0):
    batch, rows, columns, _ = grid.shape
    out = np.zeros((batch, images.shape[1], rows, columns))
    for n in range(batch):
        image = np.asarray(images[n if len(images) > 1 else 0], float)
        for i in range(rows):
            for j in range(columns):
                found = list(taps(grid[n, i, j], image.shape[1:], padding_mode, align_corners))
                if not found:
                    out[n, :, i, j] = fill
                for h, w, weight, _, _, inside in found:
                    out[n, :, i, j] += weight * (image[:, h, w] if inside else fill)
    return out


def grid_sample_vjp(dsamples, images, grid, padding_mode="zeros", align_corners=False, fill=0.0):
    batch, rows, columns, _ = grid.shape
    dimages, dgrid = np.zeros(images.shape), np.zeros(grid.shape)
    for n in range(batch):
        m = n if len(images) > 1 else 0
        image = np.asarray(images[m], float)
        for i in range(rows):
            for j in range(columns):
                d = np.asarray(dsamples[n, :, i, j], float)
                for h, w, weight, slope_x, slope_y, inside in taps(
                    grid[n, i, j], image.shape[1:], padding_mode, align_corners
                ):
                    value = image[:, h, w] if inside else np.full(len(image), fill)
                    if inside:
                        dimages[m, :, h, w] += weight * d
                    dgrid[n, i, j, 0] += slope_x * (d @ value)
                    dgrid[n, i, j, 1] += slope_y * (d @ value)
    return dimages, dgrid


def warp_affine(images, theta, size=None, align_corners=False, **options):
    grid = affine_grid(theta, size or images.shape[2:], align_corners)
    return grid_sample(images, grid, align_corners=align_corners, **options)


def warp_affine_vjp(dsamples, images, theta, align_corners=False, **options):
    grid = affine_grid(theta, dsamples.shape[2:], align_corners)
    dimages, dgrid = grid_sample_vjp(dsamples, images, grid, align_corners=align_corners, **options)
    return dimages, affine_grid_vjp(dgrid, align_corners)
