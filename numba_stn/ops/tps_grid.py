"""Thin-plate splines: images bent by K control points (Bookstein 1989).

The control points are a lattice of k x k points over [-1, 1]^2 of the output, K = k^2;
``control`` (N, K, 2) says where each of them reads the input, in normalised coordinates, x before
y. Between them the map is the spline that bends least::

    f(p) = p + a + A p + sum_k w_k U(|p - p_k|),    U(r) = r^2 log r^2

whose a, A and w_k follow from ``control`` minus the lattice by one (K + 3, K) matrix, found once
for each K and regularisation. So the spline is linear in ``control``, and ``control`` that is the
lattice itself is the identity: the grid is then exactly that of the identity's theta, and images
come back to rounding.

:mod:`numba_stn.ops.warp_tps` bends images by them. On the CPU splines are computed in float64, on a
GPU in the type of ``control``; that matrix is found on the CPU, and kept on the GPU.
"""

from functools import lru_cache
from math import inf, isqrt
from numbers import Real
from typing import Any

import numpy as np

from .validate import (
    check_array,
    check_float_dtype,
    check_integer,
    check_not_empty,
    check_output_size,
    choose_kernels,
    corner_offset,
)

__all__ = ["control_points", "tps_grid", "tps_grid_vjp"]

Array = Any


# --- The spline -----------------------------------------------------------------------------------


def control_points(k: int, dtype: Any = np.float64) -> np.ndarray:
    """The lattice of k x k control points: row by row over [-1, 1]^2, x before y.

    Parameters
    ----------
    k : int
        Points a side, 2 at least.
    dtype : data type
        float64 or float32.

    Returns
    -------
    points : (k * k, 2) array
        As ``control``, the identity.

    Raises
    ------
    ValueError, TypeError
        If k is not a whole number from 2 on, or the data type another.

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


def check_points_per_side(k: Any) -> int:
    """Points a side, if it is a number of them."""
    count = check_integer("k", k, 0)
    if count < 2:
        raise ValueError(f"k: expected 2 points a side at least, got {k!r}")
    return count


@lru_cache(maxsize=16)
def solve_spline(k: int, regularisation: float) -> tuple[np.ndarray, np.ndarray]:
    """The lattice, and the matrix (K + 3, K) from the points' offsets to w, a and A.

    Of the system (U + regularisation I) w + P (a, A) = offsets, P^T w = 0, with U of the points'
    distances and P = (1, x, y) of the points (Bookstein 1989, with Wahba 1990's smoothing).
    """
    from scipy.linalg import solve

    points = control_points(k)
    count = len(points)
    squares = ((points[:, None] - points) ** 2).sum(axis=-1)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = squares * np.log(np.where(squares > 0, squares, 1.0))
    system[np.arange(count), np.arange(count)] = regularisation
    system /= 1.0 + regularisation  # for w times that: however large it is, the system is sound
    system[count, :count], system[count + 1 :, :count] = 1.0, points.T
    system[:, count:] = system[count:].T
    found = solve(system, np.eye(count + 3, count), assume_a="sym")
    found[:count] /= 1.0 + regularisation
    found.flags.writeable = points.flags.writeable = False
    return points, found


def check_control(control: np.ndarray) -> np.ndarray:
    """Control points, if they are a lattice's."""
    check_array("control", control, (None, None, 2))
    k = isqrt(control.shape[1])
    if k < 2 or k * k != control.shape[1]:
        raise ValueError(
            f"control: expected k * k points, 4, 9, 16 or so on, got shape {tuple(control.shape)}"
        )
    return control


def check_regularisation(regularisation: float) -> float:
    """The regularisation, if it is one."""
    if not isinstance(regularisation, (Real, np.number)) or not 0 <= float(regularisation) < inf:
        raise ValueError(
            f"regularisation: expected a finite number from 0 on, got {regularisation!r}"
        )
    return float(regularisation)


# --- tps_grid -------------------------------------------------------------------------------------


def tps_grid(
    control: Array,
    size: tuple[int, ...],
    *,
    align_corners: bool = False,
    regularisation: float = 0.0,
    stream: Any = None,
) -> Array:
    """Sampling grid of a thin-plate spline.

    Parameters
    ----------
    control : (N, K, 2) array of float32 or float64
        Where each of the K = k * k points of :func:`numba_stn.control_points` reads the input, in
        normalised coordinates, x before y.
    size : (H_out, W_out)
        The output's sides; PyTorch's full shape (N, C, H, W) is understood too.
    align_corners : bool
        Whether -1 and 1 are the centres of the corner pixels (True) or their outer edges.
    regularisation : float
        0: the points read where ``control`` says. More: the spline, smoother, only comes near, and
        has the least ``sum_k |f(p_k) - control_k|^2 + regularisation w^T U w``, where 16 pi times
        w^T U w is its bending energy, the integral of its squared second derivatives. Very much
        leaves the affine map of least squares.
    stream : stream of Numba, CuPy or PyTorch, or its address, optional
        As in :func:`numba_stn.affine_grid`. A GPU is waited for when it first meets such a K and
        regularisation.

    Returns
    -------
    grid : (N, H_out, W_out, 2) array of control's dtype
        Computed in float64 on the CPU.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    See Also
    --------
    warp_tps : Does this and :func:`grid_sample`, without the grid of all images in memory.

    Examples
    --------
    The upper left point reads further in, and bends what is near it more than what is far:

    >>> import numpy as np, numba_stn as stn
    >>> control = stn.control_points(3)[None]
    >>> control[0, 0] = [-0.5, -0.5]
    >>> stn.tps_grid(control, (3, 3), align_corners=True)[0, :, :, 0].round(3) + 0.0
    array([[-0.5,  0. ,  1. ],
           [-1. ,  0. ,  1. ],
           [-1. ,  0. ,  1. ]])
    """
    kernels, control = choose_kernels(stream, control=control)
    regularisation = check_regularisation(regularisation)
    size = check_output_size(size, len(check_control(control)))
    off, (points, matrix) = corner_offset(align_corners), solve_spline_for(control, regularisation)
    grid = kernels.empty((len(control), *size, 2), control.dtype, control)
    weights = kernels.spline_weights(control, points, matrix, 1.0)
    kernels.spline_grid(weights, points, 1.0, off, grid)
    return kernels.returned(grid)


def solve_spline_for(control, regularisation):
    """The :func:`solution` for so many points."""
    return solve_spline(isqrt(control.shape[1]), regularisation)


def generate_grids(kernels, control, size, off, regularisation, start=1.0):
    """Images, as slices, and their grids, which are overwritten by the next ones.

    ``start`` is 1, or 0 for the change of the grid as the points move by ``control``.
    """
    points, matrix = solve_spline_for(control, regularisation)
    weights = kernels.spline_weights(control, points, matrix, start)
    held = None
    for group in kernels.spline_groups(len(control), size, len(points)):
        if held is None:
            held = kernels.spline_room(group.stop, size, control)
        grid = kernels.some_of(held, slice(group.stop - group.start))
        kernels.spline_grid(kernels.some_of(weights, group), points, start, off, grid)
        yield group, grid


def tps_grid_vjp(
    dgrid: Array,
    k: int,
    *,
    align_corners: bool = False,
    regularisation: float = 0.0,
    stream: Any = None,
) -> Array:
    """Gradient of :func:`tps_grid` with respect to the control points.

    The grid is linear in them. The same inputs give the same bits every time.

    Parameters
    ----------
    dgrid : (N, H_out, W_out, 2) array of float32 or float64
        Gradient of the loss with respect to the grid.
    k : int
        Control points a side.
    align_corners, regularisation, stream
        As given to :func:`tps_grid`.

    Returns
    -------
    dcontrol : (N, k * k, 2) array of dgrid's dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    All pixels read further to the right as all points do:

    >>> import numpy as np, numba_stn as stn
    >>> dcontrol = stn.tps_grid_vjp(np.ones((1, 4, 4, 2)), 2)
    >>> dcontrol.sum(axis=1).round(9)
    array([[16., 16.]])
    """
    kernels, dgrid = choose_kernels(stream, dgrid=dgrid)
    check_array("dgrid", dgrid, (None, None, None, 2))
    check_not_empty("dgrid", dgrid.shape[1:3])
    points, matrix = solve_spline(check_points_per_side(k), check_regularisation(regularisation))
    dcontrol = kernels.empty((len(dgrid), *points.shape), dgrid.dtype, dgrid)
    kernels.spline_points(dgrid, points, matrix, corner_offset(align_corners), dcontrol)
    return kernels.returned(dcontrol)
