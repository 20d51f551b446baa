"""The sums of a registration step, and image pyramids, against plain NumPy."""

import numpy as np
import pytest
from scipy import ndimage

from numba_stn.kernels.registration import alignment_sums, pyramid


def scene(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- Pyramids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 12), (3, 5), (6, 1), (4, 7, 5)])
def test_images_are_smoothed_and_halved(shape):
    image, want = scene(shape), scene(shape).astype(float)
    for axis, side in enumerate(shape):
        if side > 1:
            want = ndimage.correlate1d(want, np.array([1, 4, 6, 4, 1]) / 16, axis, mode="nearest")
    np.testing.assert_allclose(pyramid.smooth(image), want, atol=1e-6)
    halves = image.astype(float)
    for axis, side in enumerate(shape):
        if side > 1:
            even, odd = (np.take(halves, range(k, side // 2 * 2, 2), axis) for k in (0, 1))
            halves = (even + odd) / 2
    np.testing.assert_allclose(pyramid.halve(image), halves, atol=1e-6)


# --- Sums -----------------------------------------------------------------------------------------


def bilinear(image, x, y):
    """Samples, and slopes in x and y, inside an image."""
    j = np.minimum(x.astype(int), image.shape[1] - 2)
    i = np.minimum(y.astype(int), image.shape[0] - 2)
    u, v, image = x - j, y - i, image.astype(float)
    a, b, c, d = image[i, j], image[i, j + 1], image[i + 1, j], image[i + 1, j + 1]
    upper, lower = a + u * (b - a), c + u * (d - c)
    return upper + v * (lower - upper), (b - a) * (1 - v) + (d - c) * v, lower - upper


def expected(jacobian, samples, targets):
    """The sums of a step, from the Jacobian (pixels, parameters)."""
    ones = np.ones_like(samples)
    right = np.stack([samples, targets, ones], -1)
    values = [samples @ samples, samples @ targets, targets @ targets, samples.sum(),
              targets.sum(), len(samples)]  # fmt: skip
    return jacobian.T @ jacobian, jacobian.T @ right, values


def check(found, want):
    for ours, theirs in zip(found, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def compared(column, line, moving, fixed):
    """The pixels that are inside and not NaN, in either image."""
    inside = (column >= 0) & (column <= moving.shape[1] - 1)
    inside &= (line >= 0) & (line <= moving.shape[0] - 1)
    samples, _, _ = bilinear(moving, np.where(inside, column, 0), np.where(inside, line, 0))
    inside &= np.isfinite(samples) & np.isfinite(fixed)
    assert 0.2 < inside.mean() < 0.95
    return inside


def images(masked):
    """A moving and a fixed image; pixels that are not compared are NaN."""
    moving, fixed = scene((23, 30)), scene((21, 26), 1)
    if masked:
        for seed, image in enumerate((moving, fixed)):
            image[np.random.default_rng(seed).random(image.shape) < 0.1] = np.nan
    return moving, fixed


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("projective", [False, True])
def test_sums_of_a_matrix(projective, masked):
    moving, fixed = images(masked)
    matrix = np.array([[0.9, 0.25, 0.3], [-0.2, 1.1, -0.25], [0.2, -0.1, 1.0]])[: 2 + projective]
    unit, (cy, cx), (my, mx) = 13.0, (10.0, 12.5), (11.0, 14.5)
    columns = ((np.arange(26) - cx) / unit).astype(np.float32)
    axes = alignment_sums.Axes((1 / unit, 0.0, cy, cx), (unit, 0.0, my, mx), columns)
    found = alignment_sums.matrix_sums(moving[None], fixed[None], matrix, axes)
    y, x = np.meshgrid((np.arange(21) - cy) / unit, columns.astype(float), indexing="ij")
    points = np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    u, v, w = np.vstack([matrix, [[0, 0, 1]]])[:3] @ points
    u, v = u / w, v / w
    column, line = u * unit + mx, v * unit + my
    inside = compared(column, line, moving, fixed.ravel())
    samples, gx, gy = bilinear(moving, column[inside], line[inside])
    rows = [gx / w[inside], gy / w[inside]]
    if projective:
        rows.append(-(rows[0] * u[inside] + rows[1] * v[inside]))
    jacobian = np.stack([row * point for row in rows for point in points[:, inside]], -1)
    check(found, expected(jacobian, samples, fixed.ravel()[inside].astype(float)))


def trilinear(volume, x, y, z):
    """Samples, and slopes in x, y and z, inside a volume."""
    k = np.minimum(z.astype(int), volume.shape[0] - 2)
    found = np.empty((2, 3, len(z)))
    for number in np.unique(k):
        at = k == number
        for side in (0, 1):
            found[side][:, at] = bilinear(volume[number + side], x[at], y[at])
    near, far = found
    value, gx, gy = near + (z - k) * (far - near)
    return value, gx, gy, far[0] - near[0]


def test_sums_of_a_volume():
    moving, fixed, unit = scene((9, 13, 20)), scene((8, 11, 17), 1), 9.0
    matrix = np.array([[0.9, 0.2, 0.1, 0.1], [-0.2, 1.1, 0.1, -0.1], [0.1, -0.1, 0.9, 0.06]])
    (cz, cy, cx), (mz, my, mx) = (3.5, 5.0, 8.0), (4.0, 6.0, 9.5)
    columns = ((np.arange(17) - cx) / unit).astype(np.float32)
    axes = alignment_sums.Axes((1 / unit, cz, cy, cx), (unit, mz, my, mx), columns)
    found = alignment_sums.matrix_sums(moving, fixed, matrix, axes)
    z, y, x = np.meshgrid((np.arange(8) - cz) / unit, (np.arange(11) - cy) / unit,
                          columns.astype(float), indexing="ij")  # fmt: skip
    points = np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1)
    positions = unit * (matrix @ points) + np.array([[mx], [my], [mz]])
    assert np.abs(positions - np.rint(positions)).min() > 1e-6  # at a pixel slopes are ambiguous
    sides = np.array(moving.shape[::-1])[:, None]
    inside = ((positions >= 0) & (positions <= sides - 1)).all(0)
    assert 0.2 < inside.mean() < 0.95
    samples, *slopes = trilinear(moving, *positions[:, inside])
    jacobian = np.stack([row * point for row in slopes for point in points[:, inside]], -1)
    check(found, expected(jacobian, samples, fixed.ravel()[inside].astype(float)))


@pytest.mark.parametrize("masked", [False, True])
def test_sums_of_a_grid(masked):
    (moving, fixed), rng = images(masked), np.random.default_rng(3)
    basis = rng.standard_normal((4, 21, 26)).astype(np.float32)
    grid = np.stack([rng.uniform(-3, 32, fixed.shape), rng.uniform(-3, 25, fixed.shape)])
    grid = grid.astype(np.float32)
    found = alignment_sums.grid_sums(moving[None], fixed[None], grid, basis)
    column, line = grid.astype(float)
    inside = compared(column, line, moving, fixed)
    samples, gx, gy = bilinear(moving, column[inside], line[inside])
    jacobian = np.stack([g * b for g in (gx, gy) for b in basis[:, inside].astype(float)], -1)
    check(found, expected(jacobian, samples, fixed[inside].astype(float)))
