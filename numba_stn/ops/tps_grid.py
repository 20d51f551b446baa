"""Thin-plate splines: smooth maps given by K control points (Bookstein 1989).

The control points are a lattice of k x k points over [-1, 1]^2 of the output, K = k^2; ``control``
(N, K, 2) has the sampling position of each of them in the input, in normalised coordinates, x
before y. Between the points the map is the spline that bends least::

    f(p) = p + a + A p + sum_k w_k U(|p - p_k|),    U(r) = r^2 log r^2

A (K + 3, K) matrix, computed once for each K and regularisation, takes ``control`` minus the
lattice to a, A and w_k. So the spline is linear in ``control``. If ``control`` is the lattice
itself, the map is the identity: the grid is then exactly that of the identity's theta, and a warp
returns its images up to rounding.

:mod:`numba_stn.ops.warp_tps` warps images by them. On the CPU splines are computed in float64, on a
GPU in the dtype of ``control``; the matrix is computed on the CPU, and a GPU keeps a copy.
"""

from functools import lru_cache
from math import inf, isqrt
from numbers import Real
from typing import Any

import numpy as np

from .docstrings import documented
from .validate import (
    check_array,
    check_float_dtype,
    check_integer,
    check_not_empty,
    check_output_size,
    choose_backend,
    corner_offset,
)

__all__ = ["control_points", "tps_grid", "tps_grid_vjp"]

Array = Any


# --- The spline -----------------------------------------------------------------------------------


def control_points(k: int, dtype: Any = np.float64) -> np.ndarray:
    """Create the lattice of k x k control points: row by row over [-1, 1]^2, x before y.

    ``k -> points (k * k, 2)``

    Parameters
    ----------
    k : int
        Points per side, at least 2.
    dtype : data type
        float64 or float32.

    Returns
    -------
    points : (k * k, 2) array
        As ``control``, these points are the identity map.

    Raises
    ------
    ValueError, TypeError
        If k is not an integer of at least 2, or the dtype is another.

    Examples
    --------
    >>> import numba_stn as stn
    >>> stn.control_points(2)
    array([[-1., -1.],
           [ 1., -1.],
           [-1.,  1.],
           [ 1.,  1.]])
    """
    line, real = np.linspace(-1.0, 1.0, check_points_per_side(k)), check_float_dtype(dtype)
    x, y = np.meshgrid(line, line)
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(real)


@lru_cache(maxsize=16)
def solve_spline(k: int, regularisation: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lattice, and the matrix (K + 3, K) from the points' offsets to w, a and A.

    It solves the system (U + regularisation I) w + P (a, A) = offsets, P^T w = 0, with U of the
    points' distances and P = (1, x, y) of the points (Bookstein 1989, with the smoothing of Wahba
    1990).
    """
    from scipy.linalg import solve

    points = control_points(k)
    count = len(points)
    squares = ((points[:, None] - points) ** 2).sum(axis=-1)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = squares * np.log(np.where(squares > 0, squares, 1.0))
    system[np.arange(count), np.arange(count)] = regularisation
    # The unknowns are (1 + regularisation) w: the system is well-conditioned however large it is.
    system /= 1.0 + regularisation
    system[count, :count], system[count + 1 :, :count] = 1.0, points.T
    system[:, count:] = system[count:].T
    found = solve(system, np.eye(count + 3, count), assume_a="sym")
    found[:count] /= 1.0 + regularisation
    found.flags.writeable = points.flags.writeable = False
    return points, found


def solve_spline_for(control, regularisation):
    """Return :func:`solve_spline` for the number of points in ``control``."""
    return solve_spline(isqrt(control.shape[1]), regularisation)


# --- tps_grid -------------------------------------------------------------------------------------


@documented
def tps_grid(
    control: Array,
    size: tuple[int, ...],
    *,
    align_corners: bool = False,
    regularisation: float = 0.0,
    stream: Any = None,
) -> Array:
    """Compute the sampling grid of thin-plate splines.

    ``control (N, K, 2) -> grid (N, H_out, W_out, 2)``

    Parameters
    ----------
    {control}
    size : (H_out, W_out)
        The output's sides. PyTorch's full shape (N, C, H, W) is accepted too.
    {align_corners, regularisation, stream}

    Returns
    -------
    grid : (N, H_out, W_out, 2) array of control's dtype
        Computed in float64 on the CPU.

    Raises
    ------
    {errors}

    See Also
    --------
    warp_tps : Does this and :func:`grid_sample`, without the grid of all images in memory.

    Examples
    --------
    The upper left point samples further inside; it moves nearby pixels more than distant ones:

    >>> import numpy as np, numba_stn as stn
    >>> control = stn.control_points(3)[None]
    >>> control[0, 0] = [-0.5, -0.5]
    >>> stn.tps_grid(control, (3, 3), align_corners=True)[0, :, :, 0].round(3) + 0.0
    array([[-0.5,  0. ,  1. ],
           [-1. ,  0. ,  1. ],
           [-1. ,  0. ,  1. ]])
    """
    kernels, control = choose_backend(stream, control=control)
    regularisation = check_regularisation(regularisation)
    size = check_output_size(size, len(check_control(control)))
    off, (points, matrix) = corner_offset(align_corners), solve_spline_for(control, regularisation)
    grid = kernels.empty((len(control), *size, 2), control.dtype, control)
    weights = kernels.spline_weights(control, points, matrix, 1.0)
    kernels.spline_grid(weights, points, 1.0, off, grid)
    return kernels.returned(grid)


@documented
def tps_grid_vjp(
    dgrid: Array,
    k: int,
    *,
    align_corners: bool = False,
    regularisation: float = 0.0,
    stream: Any = None,
) -> Array:
    """Compute the gradient of :func:`tps_grid` with respect to the control points.

    ``dgrid (N, H_out, W_out, 2) -> dcontrol (N, k * k, 2)``

    The grid is linear in the control points, so their values are not needed. The same inputs give
    the same bits every time.

    Parameters
    ----------
    {dgrid}
    k : int
        Control points per side.
    align_corners, regularisation, stream
        The options given to :func:`tps_grid`.

    Returns
    -------
    dcontrol : (N, k * k, 2) array of dgrid's dtype

    Raises
    ------
    {errors}

    Examples
    --------
    If all points move to the right, all pixels sample further to the right:

    >>> import numpy as np, numba_stn as stn
    >>> dcontrol = stn.tps_grid_vjp(np.ones((1, 4, 4, 2)), 2)
    >>> dcontrol.sum(axis=1).round(9)
    array([[16., 16.]])
    """
    kernels, dgrid = choose_backend(stream, dgrid=dgrid)
    check_array("dgrid", dgrid, (None, None, None, 2))
    check_not_empty("dgrid", dgrid.shape[1:3])
    points, matrix = solve_spline(check_points_per_side(k), check_regularisation(regularisation))
    dcontrol = kernels.empty((len(dgrid), *points.shape), dgrid.dtype, dgrid)
    kernels.spline_points(dgrid, points, matrix, corner_offset(align_corners), dcontrol)
    return kernels.returned(dcontrol)


def generate_grids(kernels, control, size, off, regularisation, start=1.0):
    """Yield groups of images, as slices, and their grids; the next grid overwrites the last.

    ``start`` is 1, or 0 for the tangent of the grid if ``control`` is a tangent.
    """
    points, matrix = solve_spline_for(control, regularisation)
    weights = kernels.spline_weights(control, points, matrix, start)
    memory = None
    for group in kernels.spline_groups(len(control), size, len(points)):
        if memory is None:
            memory = kernels.spline_memory(group.stop, size, control)
        grid = kernels.batch_slice(memory, slice(group.stop - group.start))
        kernels.spline_grid(kernels.batch_slice(weights, group), points, start, off, grid)
        yield group, grid


# --- Checks ---------------------------------------------------------------------------------------


def check_points_per_side(k: Any) -> int:
    """Return the number of control points per side."""
    count = check_integer("k", k, 0)
    if count < 2:
        raise ValueError(f"k: expected at least 2 points per side, got {k!r}")
    return count


def check_control(control: np.ndarray) -> np.ndarray:
    """Return control points whose number is that of a lattice."""
    check_array("control", control, (None, None, 2))
    k = isqrt(control.shape[1])
    if k < 2 or k * k != control.shape[1]:
        raise ValueError(
            f"control: expected k * k points (4, 9, 16, ...), got shape {tuple(control.shape)}"
        )
    return control


def check_regularisation(regularisation: float) -> float:
    """Return a finite regularisation of at least 0."""
    if not isinstance(regularisation, (Real, np.number)) or not 0 <= float(regularisation) < inf:
        raise ValueError(
            f"regularisation: expected a finite number of at least 0, got {regularisation!r}"
        )
    return float(regularisation)
