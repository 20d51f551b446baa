"""CPU kernels of registration: samples of the moving image, with their slopes.

Images are float32 volumes (D, H, W); a plane has one slice. Their pixels that are not compared are
NaN: a position counts if the fixed image's value and the sample, and so all pixels that it reads,
are numbers.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.jit import inlined, scalar

# --- Samples and their slopes ---------------------------------------------------------------------


@inlined
def sample_plane(image, height, width, z, y, x):
    """Sample a plane bilinearly inside it; also return the slopes along x, y and z.

    Images are flat, and indices unsigned, because Numba checks signed ones for counting from the
    end.
    """
    i, j = min(int(y), height - 2), min(int(x), width - 2)
    value, along, down = _sample_slice(
        image, i * width + j, width, np.float32(y - i), np.float32(x - j)
    )
    return value, along, down, np.float32(0)


@inlined
def sample_volume(image, height, width, z, y, x):
    """Sample a volume trilinearly inside it; also return the slopes along x, y and z."""
    depth = len(image) // (height * width)
    k, i, j = min(int(z), depth - 2), min(int(y), height - 2), min(int(x), width - 2)
    t, v, u = np.float32(z - k), np.float32(y - i), np.float32(x - j)
    address = (k * height + i) * width + j
    near, along, down = _sample_slice(image, address, width, v, u)
    far, along_, down_ = _sample_slice(image, address + height * width, width, v, u)
    slope = far - near
    return near + t * slope, along + t * (along_ - along), down + t * (down_ - down), slope


@inlined
def _sample_slice(image, address, width, v, u):
    """Sample within a slice; also return the slopes along x and y."""
    a, b = image[np.uint64(address)], image[np.uint64(address + 1)]
    c, d = image[np.uint64(address + width)], image[np.uint64(address + width + 1)]
    upper, lower = b - a, d - c
    first, second = a + u * upper, c + u * lower
    down = second - first
    return first + v * down, upper + v * (lower - upper), down


# --- A row under a matrix -------------------------------------------------------------------------


@functools.cache
def make_sample_row(dims, projective):
    """Make the function that samples the moving image at a row of the fixed image's pixels.

    ``targets`` is a row of the fixed image. ``start`` is the part of the map that is constant along
    the row: the matrix times (0, y[, z], 1). The function fills ``rows`` with the derivatives of
    the sample with respect to the map's rows, the sample, and the fixed image's value; all are 0
    where a position is outside or does not count. It returns the number of positions that count.
    """
    sample = sample_plane if dims == 2 else sample_volume
    map_rows = dims + projective

    @scalar
    def sample_row(moving, targets, matrix, start, axis, x, rows):
        depth, height, width = moving.shape
        image = moving.reshape(-1)
        scale, cz, cy, cx = axis
        count = 0
        for j in range(len(x)):
            w = 1.0
            u = start[0] + matrix[0, 0] * x[j]
            v = start[1] + matrix[1, 0] * x[j]
            t = start[2] + matrix[2, 0] * x[j]
            if projective:
                w = 1.0 / t
                u, v, t = u * w, v * w, 0.0
            column, line = u * scale + cx, v * scale + cy
            level = t * scale + cz if dims == 3 else 0.0
            inside = 0 <= column <= width - 1 and 0 <= line <= height - 1 and w > 0
            if dims == 3:
                inside = inside and 0 <= level <= depth - 1
            value = gx = gy = gz = np.float32(np.nan)
            if inside and not math.isnan(targets[j]):
                value, gx, gy, gz = sample(image, height, width, level, line, column)
            if math.isnan(value):
                for r in range(map_rows + 2):
                    rows[r, j] = 0
                continue
            rows[map_rows, j], rows[map_rows + 1, j] = value, targets[j]
            if projective:
                rows[0, j], rows[1, j] = gx * w, gy * w
                rows[2, j] = -(gx * u + gy * v) * w
            else:
                rows[0, j], rows[1, j] = gx, gy
                if dims == 3:
                    rows[2, j] = gz
            count += 1
        return count

    return sample_row


# --- A plane under a grid -------------------------------------------------------------------------


@functools.cache
def make_sample_grid(parallel):
    """Kernel: images (1, H, W) and a grid -> the samples at the grid's positions.

    ``grid`` (2, H, W) holds the columns and the lines, in pixels of the moving image. ``out``
    (4, H, W) is filled with the slopes along x and y, the sample, and the fixed image's value; all
    are 0 where a position is outside or does not count. ``counts`` (H,) is the number of positions
    that count, of each row.
    """
    stamp = cpu_launch.stamp(parallel)

    def sample_grid(moving, fixed, grid, out, counts):
        _, height, width = moving.shape
        image = moving.reshape(-1)
        for i in prange(out.shape[1]):
            count = 0
            for j in range(out.shape[2]):
                x, y = grid[0, i, j], grid[1, i, j]
                inside = 0 <= x <= width - 1 and 0 <= y <= height - 1
                value = gx = gy = np.float32(np.nan)
                if inside and not math.isnan(fixed[0, i, j]):
                    value, gx, gy, _ = sample_plane(image, height, width, 0.0, y, x)
                if math.isnan(value):
                    out[0, i, j], out[1, i, j] = 0, 0
                    out[2, i, j], out[3, i, j] = 0, 0
                    continue
                out[0, i, j], out[1, i, j] = gx, gy
                out[2, i, j], out[3, i, j] = value, fixed[0, i, j]
                count += 1
            counts[i] = count
        return stamp

    return cpu_launch.jit(sample_grid, parallel)
