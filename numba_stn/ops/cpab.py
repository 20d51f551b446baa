"""Continuous piecewise-affine velocity fields of the plane (CPAB; Freifeld et al. 2017).

The square [-1, 1] x [-1, 1] is divided into ``cells``, rows and columns of rectangles, and each
rectangle by its diagonals into four triangles: the upper, right, lower and left one. In triangle t
the velocity is ``theta[t] @ (x, y, 1)``, in normalised coordinates. It is continuous exactly if the
triangles of each vertex agree there, so the velocities of the vertices determine all matrices. They
are the parameters here: a basis of the null space of the constraints that is the same everywhere,
while the one that a singular value decomposition finds depends on the machine.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from .docstrings import documented
from .grids import half_sides
from .validate import check_output_size, corner_offset

Array = Any

# The vertices of the triangles of a cell, of its corners, row by row, and its middle (4).
_TRIANGLES = ((0, 1, 4), (1, 3, 4), (3, 2, 4), (2, 0, 4))


def check_cells(cells: int | Sequence[int]) -> tuple[int, int]:
    """The numbers of rows and columns of cells."""
    pair = (cells, cells) if isinstance(cells, int) else cells
    whole = isinstance(pair, Sequence) and all(
        isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side > 0
        for side in pair
    )
    if isinstance(cells, bool) or not whole or len(pair) != 2:
        raise ValueError(f"cells: expected a positive integer, or two of them, got {cells!r}")
    return int(pair[0]), int(pair[1])


@functools.lru_cache(32)
def mesh(cells: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The vertices (V, 2), x before y, and the triangles (T, 3): corners, then middles."""
    rows, columns = cells
    y, x = np.meshgrid(np.linspace(-1, 1, rows + 1), np.linspace(-1, 1, columns + 1), indexing="ij")
    corners = np.stack([x.ravel(), y.ravel()], 1)
    number = np.arange(len(corners)).reshape(rows + 1, columns + 1)
    own = np.stack([number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]], -1)
    own = own.reshape(-1, 4)
    middles = corners[own].mean(1)
    own = np.concatenate([own, len(corners) + np.arange(len(middles))[:, None]], 1)
    triangles = own[:, _TRIANGLES].reshape(-1, 3)
    return np.concatenate([corners, middles]), triangles


@functools.lru_cache(32)
def velocity_basis(cells: tuple[int, int], fixed_border: bool) -> np.ndarray:
    """Matrix (6 T, P) from the parameters, the vertices' velocities, to theta.

    With ``fixed_border`` nothing flows across the border: the parameters are without the vertices'
    velocities at right angles to it.
    """
    vertices, triangles = mesh(cells)
    count = len(vertices)
    points = np.concatenate([vertices[triangles], np.ones((len(triangles), 3, 1))], 2)
    inverses = np.linalg.inv(points)  # theta = velocities^T inverse^T
    basis = np.zeros((len(triangles), 2, 3, count, 2))
    for corner in range(3):
        for c in range(2):
            owner = np.arange(len(triangles)), c, slice(None), triangles[:, corner], c
            basis[owner] += inverses[:, :, corner]
    free = np.abs(vertices) < 1 if fixed_border else np.ones((count, 2), bool)
    return basis.reshape(6 * len(triangles), 2 * count)[:, free.ravel()]


@functools.lru_cache(32)
def _positions(cells, size, off, dtype):
    """Sparse matrix (H W, 3 T): (x, y, 1) of each pixel, in the columns of its triangle."""
    rows, columns = size
    x, y = ((2 * np.arange(side) - (side - 1)) / max(side - 1 + off, 1) for side in (columns, rows))
    x, y = (axis.ravel() for axis in np.meshgrid(x, y))
    triangle = _triangle_of(x, y, cells)
    values = np.stack([x, y, np.ones(x.size)], 1).astype(dtype)
    places = 3 * triangle[:, None] + np.arange(3)
    shape = (x.size, 12 * cells[0] * cells[1])
    starts = 3 * np.arange(x.size + 1)
    return csr_array((values.ravel(), places.ravel(), starts), shape)


def _triangle_of(x, y, cells):
    """The triangle of each point; of two at an edge, either has the same velocity there."""
    rows, columns = cells
    across, down = (x + 1) * columns / 2, (y + 1) * rows / 2
    column = np.clip(np.floor(across), 0, columns - 1).astype(np.int64)
    row = np.clip(np.floor(down), 0, rows - 1).astype(np.int64)
    a, b = across - column - 0.5, down - row - 0.5
    part = np.select([-b >= np.abs(a), a >= np.abs(b), b >= np.abs(a)], [0, 1, 2], 3)
    return 4 * (row * columns + column) + part


@documented
def cpab_velocity(
    theta: Array, size: Sequence[int], cells: int | Sequence[int], *, align_corners: bool = False
) -> Array:
    """Compute a continuous piecewise-affine velocity field at the pixels of an output.

    ``theta (N, T, 2, 3) -> velocity (N, H_out, W_out, 2)``

    ``v(x, y) = theta[t] @ (x, y, 1)`` in the triangle t of the point, in normalised coordinates,
    and here in pixels of the output (Freifeld et al. 2017). :func:`numba_stn.transforms.cpab` makes
    theta of parameters; :func:`integrate_velocity` makes the map, and that of -v is its inverse.

    Parameters
    ----------
    theta : (N, T, 2, 3) array of float32 or float64
        Of NumPy. T is four times the number of cells: the upper, right, lower and left triangle of
        each, cell by cell, row by row.
    size : (H_out, W_out)
        The output's sides.
    cells : int, or two of them
        Numbers of rows and columns of cells.
    {align_corners}

    Returns
    -------
    velocity : (N, H_out, W_out, 2) array of theta's dtype
        In pixels, x before y.

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import deformations, transforms
    >>> theta = transforms.cpab(1, fixed_border=False).theta(np.ones((1, 10)))
    >>> deformations.cpab_velocity(theta, (4, 6), 1)[0, 0, 0].round(6)  # one half side per time
    array([3., 2.])
    """
    cells, size = check_cells(cells), tuple(check_output_size(size, None, 2))
    theta = check_theta("theta", theta, cells)
    off = corner_offset(align_corners)
    matrix = _positions(cells, size, off, theta.dtype)
    count = len(theta)
    flat = theta.transpose(1, 3, 0, 2).reshape(matrix.shape[1], 2 * count)
    velocity = (matrix @ flat).reshape(*size, count, 2).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(velocity * half_sides(size, off).astype(theta.dtype))


@documented
def cpab_velocity_vjp(
    dvelocity: Array, cells: int | Sequence[int], *, align_corners: bool = False
) -> Array:
    """Compute the gradient of :func:`cpab_velocity` with respect to theta.

    ``dvelocity (N, H_out, W_out, 2) -> dtheta (N, T, 2, 3)``

    Parameters
    ----------
    dvelocity : (N, H_out, W_out, 2) array of float32 or float64
        Gradient of the loss with respect to the velocity; of NumPy.
    cells, align_corners
        As given to :func:`cpab_velocity`.

    Returns
    -------
    dtheta : (N, T, 2, 3) array of dvelocity's dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import deformations
    >>> deformations.cpab_velocity_vjp(np.ones((1, 4, 4, 2)), 1).shape
    (1, 4, 2, 3)
    """
    cells = check_cells(cells)
    dvelocity = _check_numpy("dvelocity", dvelocity)
    if dvelocity.ndim != 4 or dvelocity.shape[3] != 2 or 0 in dvelocity.shape[1:]:
        raise ValueError(f"dvelocity: expected shape (N, H, W, 2), got {dvelocity.shape}")
    count, *size, _ = dvelocity.shape
    off = corner_offset(align_corners)
    matrix = _positions(cells, tuple(size), off, dvelocity.dtype)
    factors = half_sides(tuple(size), off).astype(dvelocity.dtype)
    flat = (dvelocity * factors).transpose(1, 2, 0, 3)
    dtheta = matrix.T @ flat.reshape(matrix.shape[0], 2 * count)
    return np.ascontiguousarray(dtheta.reshape(-1, 3, count, 2).transpose(2, 0, 3, 1))


def check_theta(name, theta, cells):
    """Theta as an array of NumPy, of the shape that these cells have."""
    theta = _check_numpy(name, theta)
    expected = 4 * cells[0] * cells[1], 2, 3
    if theta.shape[1:] != expected:
        shape = ", ".join(map(str, ("N", *expected)))
        raise ValueError(f"{name}: expected shape ({shape}), got {theta.shape}")
    return theta


def _check_numpy(name, array):
    """A floating array of NumPy."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected an array of NumPy, got {type(array).__name__}")
    if array.dtype.char not in "fd":
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    return array
