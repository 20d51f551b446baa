"""CPU kernels of registration: the sums of a Gauss-Newton step.

Images are float32 volumes (D, H, W), a plane being one of a single slice. A row is read first,
pixel by pixel, into a few short arrays; sums over those are loops that LLVM makes vectors of. Bands
of rows are summed each by one thread and added in order, so nothing depends on their number.
"""

import functools

import numpy as np
from numba import njit, prange

from .. import launch
from ..math.coordinates import inlined, scalar

# Rows that one task sums.
BAND = 8

# Sums over a row may be added up in any order, as long as it is the same one every time.
_ORDER_FREE = {"reassoc", "nsz", "contract"}


def summed(function):
    """Compile a sum over short arrays, for vectors."""
    return njit(error_model="numpy", fastmath=_ORDER_FREE)(function)


# --- Reading, with slopes -------------------------------------------------------------------------


@inlined
def in_plane(image, height, width, z, y, x):
    """The bilinear value of a plane at a place inside it, and its slopes along x, y and z.

    Images are flat, and indices unsigned, for Numba asks of others whether they count from the end.
    """
    i, j = min(int(y), height - 2), min(int(x), width - 2)
    value, along, down = _slice(image, i * width + j, width, np.float32(y - i), np.float32(x - j))
    return value, along, down, np.float32(0)


@inlined
def in_volume(image, height, width, z, y, x):
    """The trilinear value of a volume at a place inside it, and its slopes along x, y and z."""
    depth = len(image) // (height * width)
    k, i, j = min(int(z), depth - 2), min(int(y), height - 2), min(int(x), width - 2)
    t, v, u = np.float32(z - k), np.float32(y - i), np.float32(x - j)
    place = (k * height + i) * width + j
    near, along, down = _slice(image, place, width, v, u)
    far, along_, down_ = _slice(image, place + height * width, width, v, u)
    slope = far - near
    return near + t * slope, along + t * (along_ - along), down + t * (down_ - down), slope


@inlined
def _slice(image, place, width, v, u):
    """Value and slopes along x and y within a slice."""
    a, b = image[np.uint64(place)], image[np.uint64(place + 1)]
    c, d = image[np.uint64(place + width)], image[np.uint64(place + width + 1)]
    upper, lower = b - a, d - c
    first, second = a + u * upper, c + u * lower
    down = second - first
    return first + v * down, upper + v * (lower - upper), down


# --- Sums over a row ------------------------------------------------------------------------------


@summed
def products(one, two, x):
    """Sums of ``one two``, ``one two x`` and ``one two x^2``."""
    s0, s1, s2 = np.float32(0), np.float32(0), np.float32(0)
    for j in range(len(x)):
        q = one[j] * two[j]
        t = q * x[j]
        s0 += q
        s1 += t
        s2 += t * x[j]
    return s0, s1, s2


@summed
def with_values(slope, sample, target, x):
    """Sums of a slope times (sample, target, 1), and of those times x."""
    a0, a1, b0 = np.float32(0), np.float32(0), np.float32(0)
    b1, c0, c1 = np.float32(0), np.float32(0), np.float32(0)
    for j in range(len(x)):
        a, b = slope[j] * sample[j], slope[j] * target[j]
        a0 += a
        a1 += a * x[j]
        b0 += b
        b1 += b * x[j]
        c0 += slope[j]
        c1 += slope[j] * x[j]
    return a0, a1, b0, b1, c0, c1


@summed
def of_values(sample, target):
    """Sums of s^2, s f, f^2, s and f."""
    ss, sf, ff = np.float32(0), np.float32(0), np.float32(0)
    s, f = np.float32(0), np.float32(0)
    for j in range(len(sample)):
        ss += sample[j] * sample[j]
        sf += sample[j] * target[j]
        ff += target[j] * target[j]
        s += sample[j]
        f += target[j]
    return ss, sf, ff, s, f


# --- A map that is a matrix -----------------------------------------------------------------------


@functools.cache
def make_moments(dims, projective, masked, parallel):
    """Kernel: both images and the matrix -> each band's sums.

    With h the derivatives of a sample with respect to the map's rows, and p = (x, y[, z], 1) of
    the fixed image: ``normal`` (bands, A, A, K, K) of ``h h^T p p^T`` (upper triangle in both
    pairs), ``mixed`` (bands, A, K, 3) of ``h p (s, f, 1)``, and ``values`` (bands, 6) of
    s^2, s f, f^2, s, f and 1.
    """
    stamp = launch.stamp(parallel)
    read = in_plane if dims == 2 else in_volume
    ways = dims + projective

    @scalar
    def read_row(moving, fixed, mask, matrix, start, at, k, i, x, rows):
        """Fill the rows: derivatives of the sample, the sample, the target; 0 where none is."""
        depth, height, width = moving.shape
        image, targets = moving.reshape(-1), fixed[k, i]
        unit, cz, cy, cx = at
        count = 0
        for j in range(len(x)):
            w = 1.0
            u = start[0] + matrix[0, 0] * x[j]
            v = start[1] + matrix[1, 0] * x[j]
            t = start[2] + matrix[2, 0] * x[j]
            if projective:
                w = 1.0 / t
                u, v, t = u * w, v * w, 0.0
            column, line = u * unit + cx, v * unit + cy
            level = t * unit + cz if dims == 3 else 0.0
            inside = 0 <= column <= width - 1 and 0 <= line <= height - 1 and w > 0
            if dims == 3:
                inside = inside and 0 <= level <= depth - 1
            if masked:
                inside = inside and mask[k, i, j]
            if not inside:
                for r in range(ways + 2):
                    rows[r, j] = 0
                continue
            value, gx, gy, gz = read(image, height, width, level, line, column)
            rows[ways, j], rows[ways + 1, j] = value, targets[j]
            if projective:
                rows[0, j], rows[1, j] = gx * w, gy * w
                rows[2, j] = -(gx * u + gy * v) * w
            else:
                rows[0, j], rows[1, j] = gx, gy
                if dims == 3:
                    rows[2, j] = gz
            count += 1
        return count

    def moments(moving, fixed, mask, matrix, fixed_at, moving_at, x, normal, mixed, values):
        depth, height, width = fixed.shape
        unit, cz, cy, _ = fixed_at
        lines = depth * height
        for band in prange(len(values)):
            rows = np.empty((ways + 2, width), np.float32)
            own, own_mixed, own_values = normal[band], mixed[band], values[band]
            own[:], own_mixed[:], own_values[:] = 0, 0, 0
            c = np.ones(dims)  # y[, z] and 1: what of p is the same along a row
            start = np.zeros(3)
            for line in range(band * BAND, min(lines, (band + 1) * BAND)):
                k, i = line // height, line % height
                c[0] = (i - cy) * unit
                if dims == 3:
                    c[1] = (k - cz) * unit
                for a in range(ways):
                    start[a] = 0
                    for b in range(dims):
                        start[a] += matrix[a, b + 1] * c[b]
                count = read_row(moving, fixed, mask, matrix, start, moving_at, k, i, x, rows)
                if count == 0:
                    continue
                sample, target = rows[ways], rows[ways + 1]
                for a in range(ways):
                    for b in range(a, ways):
                        add_products(own[a, b], products(rows[a], rows[b], x), c)
                    add_mixed(own_mixed[a], with_values(rows[a], sample, target, x), c)
                ss, sf, ff, s, f = of_values(sample, target)
                own_values[0] += ss
                own_values[1] += sf
                own_values[2] += ff
                own_values[3] += s
                own_values[4] += f
                own_values[5] += count
        return stamp

    return launch.jit(moments, parallel)


@scalar
def add_products(own, found, c):
    """Add a row's share of ``p p^T`` times a product of slopes, from the sums over x^0, 1, 2."""
    s0, s1, s2 = found
    own[0, 0] += s2
    for a in range(len(c)):
        own[0, a + 1] += s1 * c[a]
        for b in range(a, len(c)):
            own[a + 1, b + 1] += s0 * c[a] * c[b]


@scalar
def add_mixed(own, found, c):
    """Add a row's share of ``p (s, f, 1)`` times a slope."""
    for m in range(3):
        own[0, m] += found[2 * m + 1]
        for a in range(len(c)):
            own[a + 1, m] += found[2 * m] * c[a]


def moments(moving, fixed, mask, matrix, fixed_at, moving_at, x):
    """The sums of :func:`make_moments`, over all bands, as whole matrices.

    Parameters
    ----------
    moving, fixed : (D, H, W) arrays of float32
    mask : array of fixed's shape, of bool, or None
    matrix : (A, K) array of float64
        From the fixed image's coordinates to the moving one's; A is 3 for a projective map.
    fixed_at, moving_at : tuples of float
        (unit, z, y, x): a fixed coordinate is (j - x) unit, a moving pixel is u unit + x.
    x : (W,) array of float32
        The fixed image's columns in its coordinates.

    Returns
    -------
    normal : (A K, A K) array
        J^T J, of the derivative in moving pixels.
    mixed : (A K, 3) array
        J^T (s, f, 1).
    values : (6,) array
        Sums of s^2, s f, f^2, s, f and 1.
    """
    ways, size = matrix.shape
    dims = size - 1
    projective = dims == 2 and ways == 3
    bands = -(-fixed.shape[0] * fixed.shape[1] // BAND)
    normal, mixed = np.empty((bands, ways, ways, size, size)), np.empty((bands, ways, size, 3))
    values, numbers = np.empty((bands, 6)), np.zeros((3, size))
    numbers[:ways] = matrix
    held = fixed if mask is None else mask  # which is not read if there is none
    launch.run(
        make_moments, (dims, projective, mask is not None), fixed.size,
        moving, fixed, held, numbers, fixed_at, moving_at, x, normal, mixed, values,
    )  # fmt: skip
    whole = normal.sum(axis=0).ravel()[_places(ways, size)]
    return whole, mixed.sum(axis=0).reshape(ways * size, 3), values.sum(axis=0)


@functools.cache
def _places(ways, size):
    """Where each entry of J^T J stands among the sums, whose upper triangles alone are filled."""
    a, k, b, m = np.ogrid[:ways, :size, :ways, :size]
    place = (np.minimum(a, b), np.maximum(a, b), np.minimum(k, m), np.maximum(k, m))
    found = np.ravel_multi_index(np.broadcast_arrays(*place), (ways, ways, size, size))
    return found.reshape(ways * size, ways * size)


# --- Any other map --------------------------------------------------------------------------------


@functools.cache
def make_reads(masked, parallel):
    """Kernel: images (1, H, W) and a grid of pixels -> slopes (2, H, W), samples, targets."""
    stamp = launch.stamp(parallel)

    def reads(moving, fixed, mask, columns, lines, slopes, samples, targets, counts):
        _, height, width = moving.shape
        image = moving.reshape(-1)
        for i in prange(len(samples)):
            count = 0
            for j in range(samples.shape[1]):
                x, y = columns[i, j], lines[i, j]
                inside = 0 <= x <= width - 1 and 0 <= y <= height - 1
                if masked:
                    inside = inside and mask[0, i, j]
                if not inside:
                    slopes[0, i, j], slopes[1, i, j] = 0, 0
                    samples[i, j], targets[i, j] = 0, 0
                    continue
                value, gx, gy, _ = in_plane(image, height, width, 0.0, y, x)
                slopes[0, i, j], slopes[1, i, j] = gx, gy
                samples[i, j], targets[i, j] = value, fixed[0, i, j]
                count += 1
            counts[i] = count
        return stamp

    return launch.jit(reads, parallel)


def grid_moments(moving, fixed, mask, columns, lines, basis):
    """The sums of :func:`moments` for a map that is a sum of functions times parameters.

    Parameters
    ----------
    moving, fixed, mask
        As there, of planes.
    columns, lines : (H, W) arrays of float32
        Where each pixel of the fixed image reads the moving one.
    basis : (K, H, W) array of float32
        The functions, the same for both axes.
    """
    count, height, width = basis.shape
    slopes = np.empty((2, height, width), np.float32)
    samples, targets = np.empty((2, height, width), np.float32)
    counts = np.empty(height, np.int64)
    held = fixed if mask is None else mask
    launch.run(
        make_reads, (mask is not None,), fixed.size,
        moving, fixed, held, columns, lines, slopes, samples, targets, counts,
    )  # fmt: skip
    basis, slopes = basis.reshape(count, -1), slopes.reshape(2, -1)
    s, f = samples.ravel(), targets.ravel()
    normal = np.empty((2, count, 2, count))
    right = np.stack([slopes[a] * v for a in range(2) for v in (s, f, np.float32(1))])
    with launch.one_blas_thread():
        for a, b in ((0, 0), (0, 1), (1, 1)):
            normal[a, :, b] = (basis * (slopes[a] * slopes[b])) @ basis.T
        mixed = (basis @ right.T).reshape(count, 2, 3).transpose(1, 0, 2)
        values = np.array([s @ s, s @ f, f @ f, s.sum(), f.sum(), counts.sum()], np.float64)
    normal[1, :, 0] = normal[0, :, 1]
    return normal.reshape(2 * count, -1), mixed.reshape(-1, 3).astype(np.float64), values
