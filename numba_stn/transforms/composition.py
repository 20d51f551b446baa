"""Maps that form a group, as theta: the identity, products and inverses, and their gradients.

Theta is (N, 2, 3) for affine maps of the plane, (N, 3, 4) for those of space, and (N, 3, 3) for
projective maps of the plane. Translations, scales, rotations, rigid maps and similarities are
affine maps, and closed under all of this. With ``compose_theta(first, second)`` an output point
goes through ``second`` first, so warping by it is warping by ``first`` and the result by
``second``, but for what interpolating twice adds.

A projective map is a matrix up to a factor, which no warp sees. Products and inverses are those of
the matrices as they are: divide by ``theta[:, 2:, 2:]`` where a 1 should stand there.
"""

from typing import Any

import numpy as np

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

SHAPES = {"affine": (2, 3), "affine 3-D": (3, 4), "projective": (3, 3)}


def identity_theta(count: int, kind: str = "affine", dtype: Any = np.float64) -> np.ndarray:
    """Theta of so many identity maps.

    Parameters
    ----------
    count : int
        How many, N.
    kind : {"affine", "affine 3-D", "projective"}
        Of which shape: (N, 2, 3), (N, 3, 4) or (N, 3, 3).
    dtype : data type
        float64 or float32.

    Returns
    -------
    theta : (N, 2, 3), (N, 3, 4) or (N, 3, 3) array

    Raises
    ------
    ValueError, TypeError
        If there is no such kind, or an argument is of the wrong type.

    Examples
    --------
    >>> import numba_stn as stn
    >>> stn.identity_theta(1)
    array([[[1., 0., 0.],
            [0., 1., 0.]]])
    """
    one = np.eye(*look_up("kind", kind, SHAPES), dtype=check_float_dtype(dtype))
    return np.tile(one, (check_integer("count", count, 0), 1, 1))


# --- Product --------------------------------------------------------------------------------------


def compose_theta(first: Array, second: Array) -> Array:
    """Theta of "``second``, then ``first``": their product as matrices.

    Affine ones have a last row (0, .., 0, 1) for that.

    Parameters
    ----------
    first, second : (N, 2, 3), (N, 3, 4) or (N, 3, 3) arrays of float32 or float64
        Of one shape and dtype.

    Returns
    -------
    theta : array of their shape and dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or dtype; the message names it.

    Examples
    --------
    Twice as large a view, moved by 0.1 of it:

    >>> import numpy as np
    >>> import numba_stn as stn
    >>> scale, shift = np.array([[[2.0, 0, 0], [0, 2, 0]]]), np.array([[[1.0, 0, 0.1], [0, 1, 0]]])
    >>> stn.compose_theta(scale, shift)
    array([[[2. , 0. , 0.2],
            [0. , 2. , 0. ]]])
    """
    first = check_theta("first", first)
    return compose_unchecked(first, check_theta("second", second, first))


def compose_theta_vjp(dtheta: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Gradients of :func:`compose_theta` with respect to both.

    ``dfirst = dtheta second^T`` and ``dsecond = first^T dtheta``, as matrices.

    Parameters
    ----------
    dtheta : array of the product's shape and dtype
        Gradient of the loss with respect to the product.
    first, second
        As given to :func:`compose_theta`.

    Returns
    -------
    dfirst, dsecond : arrays of their shape and dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or dtype; the message names it.

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
    """:func:`compose_theta`, of arrays that are as they should be."""
    linear, whole = _linear_part(first)
    theta = linear @ second
    if not whole:
        theta[:, :, -1] += first[:, :, -1]
    return theta


def compose_unchecked_vjp(dtheta, first, second):
    """:func:`compose_theta_vjp`, of arrays that are as they should be."""
    linear, whole = _linear_part(first)
    dfirst = dtheta @ second.swapaxes(1, 2)
    if not whole:
        dfirst = np.concatenate([dfirst, dtheta[:, :, -1:]], axis=2)
    return dfirst, linear.swapaxes(1, 2) @ dtheta


def _linear_part(theta):
    """The columns that multiply coordinates, and whether they are all: of a square theta."""
    whole = theta.shape[1] == theta.shape[2]
    return theta if whole else theta[:, :, :-1], whole


# --- Inverse --------------------------------------------------------------------------------------


def invert_theta(theta: Array) -> Array:
    """Theta of the maps back: ``compose_theta(theta, invert_theta(theta))`` is the identity.

    Parameters
    ----------
    theta : (N, 2, 3), (N, 3, 4) or (N, 3, 3) array of float32 or float64

    Returns
    -------
    theta : array of its shape and dtype

    Raises
    ------
    ValueError, TypeError
        If it has the wrong shape or dtype, or a map has no inverse; of arrays on a GPU, which are
        not looked at, such a map's inverse is not finite.

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
        # CuPy's are not looked at, for that would wait for the GPU.
        sound = not isinstance(found, np.ndarray) or bool(np.isfinite(found).all())
    except np.linalg.LinAlgError:
        sound = False
    if not sound:
        raise ValueError("theta: expected maps that have an inverse, got one that has none")
    return found


def invert_theta_vjp(dinverse: Array, inverse: Array) -> Array:
    """Gradient of :func:`invert_theta` with respect to theta, from its result.

    ``dtheta = -inverse^T dinverse inverse^T``, as matrices.

    Parameters
    ----------
    dinverse : array of the inverse's shape and dtype
        Gradient of the loss with respect to the inverse.
    inverse : array
        What :func:`invert_theta` gave.

    Returns
    -------
    dtheta : array of its shape and dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or dtype; the message names it.

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
    back = with_last_row(inverse).swapaxes(1, 2)
    linear = back[:, : inverse.shape[1], : inverse.shape[1]]
    return -(linear @ dinverse @ back)


# --- Both -----------------------------------------------------------------------------------------


def with_last_row(theta):
    """Theta with the last row (0, .., 0, 1) that affine maps go without."""
    count, rows, columns = theta.shape
    if rows == columns:
        return theta
    whole = namespace(theta).zeros((count, columns, columns), theta.dtype)
    whole[:, :rows], whole[:, -1, -1] = theta, 1
    return whole


def check_theta(name, theta, like=None):
    """Maps, if they are some; of the shape and dtype of others."""
    theta = as_array(theta, name)
    if theta.dtype.name not in ("float32", "float64"):
        raise TypeError(f"{name}: expected float32 or float64, got {theta.dtype}")
    if like is None and (theta.ndim != 3 or theta.shape[1:] not in SHAPES.values()):
        raise ValueError(
            f"{name}: expected shape (N, 2, 3), (N, 3, 4) or (N, 3, 3), got {theta.shape}"
        )
    if like is not None and (theta.shape != like.shape or theta.dtype != like.dtype):
        raise ValueError(
            f"{name}: expected shape {like.shape} and dtype {like.dtype}, "
            f"got {theta.shape} and {theta.dtype}"
        )
    return theta
