"""Compose and invert affine and projective maps, given as theta, and their gradients.

Theta is (N, 2, 3) for affine maps of the plane and (N, 3, 4) for those of space, (N, 3, 3) and
(N, 4, 4) for projective maps. Translations, scales, rotations, rigid maps and similarities are
affine maps; composing and inverting them gives maps of the same kind. ``compose_theta(first,
second)`` sends an output point through ``second`` first. Warping by it gives the same result as
warping by ``first`` and then by ``second``, except that the image is interpolated only once.

A projective map is a matrix up to a factor, which no warp sees. The functions work on the matrices
as they are: divide by ``theta[:, -1:, -1:]`` if the last entry has to be 1.
"""

from typing import Any

import numpy as np

from ..ops.docstrings import documented
from ..ops.validate import check_float_dtype, check_integer, look_up
from ..utils.namespace import as_array, namespace

__all__ = [
    "compose_theta",
    "compose_theta_vjp",
    "identity_theta",
    "invert_theta",
    "invert_theta_vjp",
]

Array = Any

SHAPES = {
    "affine": (2, 3), "affine 3-D": (3, 4), "projective": (3, 3), "projective 3-D": (4, 4),
}  # fmt: skip


@documented
def identity_theta(count: int, kind: str = "affine", dtype: Any = np.float64) -> np.ndarray:
    """Create theta of N identity maps.

    ``count -> theta (N, 2, 3)``

    Parameters
    ----------
    count : int
        Number of maps, N.
    kind : {"affine", "affine 3-D", "projective", "projective 3-D"}
        Shape of theta: (N, 2, 3), (N, 3, 4), (N, 3, 3) or (N, 4, 4).
    dtype : data type
        float64 or float32.

    Returns
    -------
    theta : (N, 2, 3), (N, 3, 4), (N, 3, 3) or (N, 4, 4) array

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numba_stn as stn
    >>> stn.identity_theta(1)
    array([[[1., 0., 0.],
            [0., 1., 0.]]])
    """
    one = np.eye(*look_up("kind", kind, SHAPES), dtype=check_float_dtype(dtype))
    return np.tile(one, (check_integer("count", count, 0), 1, 1))


# --- Compose --------------------------------------------------------------------------------------


@documented
def compose_theta(first: Array, second: Array) -> Array:
    """Compose maps: apply ``second``, then ``first``.

    ``first (N, 2, 3), second (N, 2, 3) -> theta (N, 2, 3)``

    The result is the matrix product ``first @ second``; affine maps are completed by a last row
    (0, ..., 0, 1) for this.

    Parameters
    ----------
    first, second : (N, 2, 3), (N, 3, 4), (N, 3, 3) or (N, 4, 4) arrays of float32 or float64
        Of the same shape and dtype.

    Returns
    -------
    theta : array of their shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    A view that is twice as large, moved by 0.1 of its size:

    >>> import numpy as np
    >>> import numba_stn as stn
    >>> scale, shift = np.array([[[2.0, 0, 0], [0, 2, 0]]]), np.array([[[1.0, 0, 0.1], [0, 1, 0]]])
    >>> stn.compose_theta(scale, shift)
    array([[[2. , 0. , 0.2],
            [0. , 2. , 0. ]]])
    """
    first = check_theta("first", first)
    return compose_unchecked(first, check_theta("second", second, first))


@documented
def compose_theta_vjp(dtheta: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Compute the gradients of :func:`compose_theta` with respect to both maps.

    ``dtheta (N, 2, 3) -> dfirst (N, 2, 3), dsecond (N, 2, 3)``

    ``dfirst = dtheta second^T`` and ``dsecond = first^T dtheta``, as matrices.

    Parameters
    ----------
    dtheta : array of the maps' shape and dtype
        Gradient of the loss with respect to the composition.
    first, second
        The inputs of :func:`compose_theta`.

    Returns
    -------
    dfirst, dsecond : arrays of their shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> import numba_stn as stn
    >>> one = stn.identity_theta(1)
    >>> dfirst, dsecond = stn.compose_theta_vjp(np.ones((1, 2, 3)), one, one)
    >>> dfirst
    array([[[1., 1., 1.],
            [1., 1., 1.]]])
    """
    first = check_theta("first", first)
    second = check_theta("second", second, first)
    return compose_unchecked_vjp(check_theta("dtheta", dtheta, first), first, second)


def compose_unchecked(first, second):
    """Do as :func:`compose_theta`, without checks."""
    linear, square = _linear_part(first)
    theta = linear @ second
    if not square:
        theta[:, :, -1] += first[:, :, -1]
    return theta


def compose_unchecked_vjp(dtheta, first, second):
    """Do as :func:`compose_theta_vjp`, without checks."""
    linear, square = _linear_part(first)
    dfirst = dtheta @ second.swapaxes(1, 2)
    if not square:
        dfirst = np.concatenate([dfirst, dtheta[:, :, -1:]], axis=2)
    return dfirst, linear.swapaxes(1, 2) @ dtheta


def _linear_part(theta):
    """Return the columns that multiply coordinates, and whether theta is square: all columns do."""
    square = theta.shape[1] == theta.shape[2]
    return theta if square else theta[:, :, :-1], square


# --- Invert ---------------------------------------------------------------------------------------


@documented
def invert_theta(theta: Array) -> Array:
    """Invert maps: ``compose_theta(theta, invert_theta(theta))`` is the identity.

    ``theta (N, 2, 3) -> inverse (N, 2, 3)``

    Parameters
    ----------
    theta : (N, 2, 3), (N, 3, 4), (N, 3, 3) or (N, 4, 4) array of float32 or float64

    Returns
    -------
    inverse : array of theta's shape and dtype

    Raises
    ------
    ValueError, TypeError
        If theta has the wrong shape or dtype, or a map has no inverse. Arrays on a GPU are not
        tested for this: there, the inverse of such a map is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import numba_stn as stn
    >>> stn.invert_theta(np.array([[[2.0, 0, 1], [0, 4, 2]]])) + 0.0
    array([[[ 0.5 ,  0.  , -0.5 ],
            [ 0.  ,  0.25, -0.5 ]]])
    """
    theta = check_theta("theta", theta)
    try:
        found = np.linalg.inv(with_last_row(theta))[:, : theta.shape[1]]
        # CuPy's arrays are not tested, because the test would wait for the GPU.
        invertible = not isinstance(found, np.ndarray) or bool(np.isfinite(found).all())
    except np.linalg.LinAlgError:
        invertible = False
    if not invertible:
        raise ValueError("theta: expected maps with an inverse, got one without")
    return found


@documented
def invert_theta_vjp(dinverse: Array, inverse: Array) -> Array:
    """Compute the gradient of :func:`invert_theta` with respect to theta, from its result.

    ``dinverse (N, 2, 3), inverse (N, 2, 3) -> dtheta (N, 2, 3)``

    ``dtheta = -inverse^T dinverse inverse^T``, as matrices.

    Parameters
    ----------
    dinverse : array of the inverse's shape and dtype
        Gradient of the loss with respect to the inverse.
    inverse : array
        The result of :func:`invert_theta`.

    Returns
    -------
    dtheta : array of the inverse's shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> import numba_stn as stn
    >>> stn.invert_theta_vjp(np.ones((1, 2, 3)), stn.identity_theta(1))
    array([[[-1., -1., -1.],
            [-1., -1., -1.]]])
    """
    inverse = check_theta("inverse", inverse)
    dinverse = check_theta("dinverse", dinverse, inverse)
    transposed = with_last_row(inverse).swapaxes(1, 2)
    linear = transposed[:, : inverse.shape[1], : inverse.shape[1]]
    return -(linear @ dinverse @ transposed)


# --- Shared by both -------------------------------------------------------------------------------


def with_last_row(theta):
    """Return theta with the last row (0, ..., 0, 1), which affine maps omit."""
    count, rows, columns = theta.shape
    if rows == columns:
        return theta
    square = namespace(theta).zeros((count, columns, columns), theta.dtype)
    square[:, :rows], square[:, -1, -1] = theta, 1
    return square


def check_theta(name, theta, like=None):
    """Return maps of a known shape, or of the shape and dtype of others."""
    theta = as_array(theta, name)
    if theta.dtype.char not in "fd":  # in any byte order
        raise TypeError(f"{name}: expected float32 or float64, got {theta.dtype}")
    if like is None and (theta.ndim != 3 or theta.shape[1:] not in SHAPES.values()):
        raise ValueError(
            f"{name}: expected shape (N, 2, 3), (N, 3, 4), (N, 3, 3) or (N, 4, 4), "
            f"got {theta.shape}"
        )
    if like is not None and (theta.shape != like.shape or theta.dtype != like.dtype):
        raise ValueError(
            f"{name}: expected shape {like.shape} and dtype {like.dtype}, "
            f"got {theta.shape} and {theta.dtype}"
        )
    return theta
