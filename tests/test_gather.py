"""The scalar functions by which the gathering CUDA kernel finds the samples near a pixel."""

import numpy as np
import pytest

from numba_stn.kernels.math import coordinates
from numba_stn.kernels.math.jit import python_callable

pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
from numba_stn.kernels.cuda import images_gradient

affine_axis = python_callable(coordinates.affine_axis)
affine_start = python_callable(coordinates.affine_start)
columns_near = python_callable(images_gradient.columns_near)
columns_of = python_callable(images_gradient.columns_of)
inverse_of = python_callable(images_gradient.inverse_of)
rows_near = python_callable(images_gradient.rows_near)

SIDES = (37, 53, 29, 61)
REALS = pytest.mark.parametrize("real", [np.float32, np.float64])


def rotated(angle, zoom, x=0.1, y=-0.2):
    cos, sin = zoom * np.cos(np.deg2rad(angle)), zoom * np.sin(np.deg2rad(angle))
    return [[cos, -sin, x], [sin, cos, y]]


MAPS = {
    "identity": rotated(0, 1, 0, 0),
    "rotated": rotated(30, 0.8),
    "90 degrees": rotated(90, 1),
    "far out": rotated(20, 9),
    "far in": rotated(70, 0.02),
    "mirrored": [[-1, 0, 0], [0, 0.7, 0.3]],
    "sheared": [[1, 5, 0], [0, 1, 0]],
    "nearly flat": [[1, 1, 0], [1, 1.0001, 0]],
    "flat": [[1, 1, 0], [1, 1, 0]],
    "one column": [[0, 0.9, 0], [0.8, 0, 0]],
    "one line": [[1, 0, 0.2], [0, 0, 0.1]],
    "one point": [[0, 0, 0.11], [0, 0, -0.3]],
    "shifted": [[1, 0.2, 1.5], [0, 1, -1.2]],
    "far away": [[1, 0.2, 1e6], [0, 1, 3]],
    "steep and far": [[3e3, 20, 2.9e3], [11, 2e3, -2e3]],
}


def axes(theta, real, off, sides):
    h, w, rows, columns = sides
    x, y = np.asarray(theta, real)
    off = real(off)
    return (
        affine_axis(*x, w, columns, rows, off),
        affine_axis(*y, h, columns, rows, off),
    )


def sampling_positions(axes, sides, real):
    """The coordinates of every sample, as the forward kernel computes them."""
    h, w, rows, columns = sides
    (x, y), column = axes, np.arange(columns).astype(real)
    starts = [(affine_start(x, i, w, rows), affine_start(y, i, h, rows)) for i in range(rows)]
    return (
        np.array([real(sx) + real(x[0]) * column for sx, _ in starts]),
        np.array([real(sy) + real(y[0]) * column for _, sy in starts]),
    )


def found(axes, sides, real):
    """For each pixel the samples that are visited: booleans (h, w, rows, columns)."""
    h, w, rows, columns = sides
    x, y = (tuple(map(real, axis)) for axis in axes)
    inverse = inverse_of((x, y), sides)
    across, down = (
        columns_of(x, w, columns),
        columns_of(y, h, columns),
    )
    looked = np.zeros((h, w, rows, columns), bool)
    for py in range(h):
        for px in range(w):
            for i in range(*rows_near(inverse, py, px, rows)):
                j, stop, _, _ = columns_near(x, y, i, py, px, across, down, sides)
                looked[py, px, i, j:stop] = True
    return looked


def reading(xs, ys, sides):
    """For each pixel the samples that read it."""
    h, w, _, _ = sides
    with np.errstate(invalid="ignore"):
        across = np.abs(xs - np.arange(w).reshape(-1, 1, 1)) < 1
        down = np.abs(ys - np.arange(h).reshape(-1, 1, 1)) < 1
    return down[:, None] & across[None]


@REALS
@pytest.mark.parametrize("off", [0, 1])
@pytest.mark.parametrize("name", MAPS)
def test_no_sample_that_reads_a_pixel_is_missed(name, off, real):
    where = axes(MAPS[name], real, off, SIDES)
    wanted = reading(*sampling_positions(where, SIDES, real), SIDES)
    looked = found(where, SIDES, real)
    assert not (wanted & ~looked).any()
    if name in ("identity", "rotated", "90 degrees", "far out", "far in", "mirrored", "shifted"):
        assert looked.sum() <= 3 * wanted.sum() + looked[:, :, :, 0].size


@REALS
def test_sides_of_one_pixel(real):
    for sides in ((1, 1, 3, 4), (1, 5, 4, 1), (6, 1, 1, 7), (3, 4, 1, 1)):
        for off in (0, 1):
            where = axes(MAPS["rotated"], real, off, sides)
            wanted = reading(*sampling_positions(where, sides, real), sides)
            assert not (wanted & ~found(where, sides, real)).any()


def test_random_maps():
    rng = np.random.default_rng(0)
    for _ in range(40):
        sides = tuple(int(side) for side in rng.integers(1, 25, 4))
        theta = rng.standard_normal((2, 3)) * 10.0 ** rng.uniform(-3, 3, (2, 1))
        where = axes(theta, np.float32, 1, sides)
        wanted = reading(*sampling_positions(where, sides, np.float32), sides)
        assert not (wanted & ~found(where, sides, np.float32)).any()


NEARLY = {
    f"flat to {e:g}": [[1, 1, 0.01], [1, 1 + e, -0.02]] for e in (1e-2, 1e-3, 1e-5, 3e-7, 1e-7)
}
LARGE = MAPS | NEARLY | {"long and thin": [[1e-3, 0.3, 0], [0.2, 1e-4, 0]]}


@REALS
@pytest.mark.parametrize("sides", [(4096, 3001, 2999, 4000), (4096, 3001, 7, 4000)], ids=str)
@pytest.mark.parametrize("name", LARGE)
def test_large_sides(name, sides, real):
    """Each sample is visited by the pixels that it reads, however its coordinates are rounded."""
    rng = np.random.default_rng(0)
    h, w, rows, columns = sides
    x, y = (tuple(map(real, axis)) for axis in axes(LARGE[name], real, 1, sides))
    inverse = inverse_of((x, y), sides)
    across, down = (
        columns_of(x, w, columns),
        columns_of(y, h, columns),
    )
    inside = 0
    for i, j in zip(rng.integers(rows, size=3000), rng.integers(columns, size=3000), strict=True):
        column = real(j)
        at_x = real(affine_start(x, i, w, rows)) + x[0] * column
        at_y = real(affine_start(y, i, h, rows)) + y[0] * column
        px, py = int(np.floor(at_x)), int(np.floor(at_y))
        if not (0 <= px < w and 0 <= py < h):
            continue
        inside += 1
        first, stop = rows_near(inverse, py, px, rows)
        assert first <= i < stop
        first, stop, _, _ = columns_near(x, y, int(i), py, px, across, down, sides)
        assert first <= j < stop
    assert inside or name in ("far away", "steep and far")
