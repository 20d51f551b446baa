"""Displacement fields: compose them, integrate velocities, and see whether they fold.

A field says for each pixel how far from its own position it is sampled, in pixels, x before y
before z: the map is ``phi(x) = x + u(x)``. :func:`numba_stn.grid_from_displacement` makes a grid of
it. Fields are (N, H, W, 2), or (N, D, H, W, 3) for volumes, of NumPy or CuPy, float32 or float64.
Beyond its edges a field continues with the values there.

A velocity field v that does not change with time moves points along ``dx/dt = v(x)``. Where they
are at time 1 is a smooth map with a smooth inverse, a diffeomorphism, which the velocity -v gives.
"""

from typing import Any

import numpy as np

from ..kernels.cpu import displacements
from ..utils.namespace import as_array, is_cupy, namespace
from .cpab import cpab_velocity, cpab_velocity_vjp
from .dask_arrays import accept_dask_arrays
from .docstrings import documented
from .grid_sample import grid_sample, grid_sample_vjp
from .grids import (
    check_coordinates,
    compute_normalisation,
    grid_from_displacement,
    grid_from_displacement_vjp,
    to_dtype_of,
)
from .validate import check_integer, check_not_empty

__all__ = [
    "compose_displacements",
    "compose_displacements_vjp",
    "count_folds",
    "cpab_velocity",
    "cpab_velocity_vjp",
    "integrate_velocity",
    "integrate_velocity_vjp",
    "jacobian_determinant",
    "jacobian_determinant_vjp",
]

Array = Any

# Fields continue beyond their edges, and have their channels last.
_OPTIONS: dict[str, Any] = {"padding_mode": "border", "layout": "NHWC"}


# --- Composition ----------------------------------------------------------------------------------


@accept_dask_arrays("first", "second")
@documented
def compose_displacements(first: Array, second: Array) -> Array:
    """Compose the maps of displacement fields: apply ``second``, then ``first``.

    ``first (N, H, W, 2), second (N, H, W, 2) -> displacement (N, H, W, 2)``

    ``u(x) = second(x) + first(x + second(x))``, with linear interpolation. As with
    :func:`numba_stn.compose_theta`, warping by it gives the same result as warping by ``first`` and
    then by ``second``, except that the image is interpolated only once.

    Parameters
    ----------
    first, second : (N, H, W, 2) or (N, D, H, W, 3) arrays of float32 or float64
        In pixels, x before y before z; of the same shape and dtype.

    Returns
    -------
    displacement : array of their shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import deformations
    >>> shift = np.tile([1.0, 0.5], (1, 4, 4, 1))
    >>> deformations.compose_displacements(shift, shift)[0, 0, 0]
    array([2., 1.])
    """
    first = _check_field("first", first)
    return _compose(first, _check_field("second", second, first))


@accept_dask_arrays("ddisplacement", "first", "second")
@documented
def compose_displacements_vjp(
    ddisplacement: Array, first: Array, second: Array
) -> tuple[Array, Array]:
    """Compute the gradients of :func:`compose_displacements` with respect to both fields.

    ``ddisplacement (N, H, W, 2) -> dfirst (N, H, W, 2), dsecond (N, H, W, 2)``

    Parameters
    ----------
    ddisplacement : array of the fields' shape and dtype
        Gradient of the loss with respect to the composition.
    first, second
        The inputs of :func:`compose_displacements`.

    Returns
    -------
    dfirst, dsecond : arrays of their shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import deformations
    >>> zero, one = np.zeros((1, 3, 3, 2)), np.ones((1, 3, 3, 2))
    >>> dfirst, dsecond = deformations.compose_displacements_vjp(one, zero, zero)
    >>> dfirst.sum(), dsecond.sum()
    (np.float64(18.0), np.float64(18.0))
    """
    first = _check_field("first", first)
    second = _check_field("second", second, first)
    return _compose_vjp(_check_field("ddisplacement", ddisplacement, first), first, second)


def _compose(first, second):
    """:func:`compose_displacements` without checks."""
    if not is_cupy(second) and second.shape[-1] == 3:
        return displacements.compose_3d(first, second)
    return second + grid_sample(first, grid_from_displacement(second), **_OPTIONS)


def _compose_vjp(dout, first, second, together=False):
    """:func:`compose_displacements_vjp` without checks; ``together``: only the sum of both."""
    if is_cupy(second):
        grid = grid_from_displacement(second)
        dfirst, dgrid = grid_sample_vjp(dout, first, grid, **_OPTIONS)
        dsecond = dout + grid_from_displacement_vjp(dgrid)
        return dfirst + dsecond if together else (dfirst, dsecond)
    dfirst = np.zeros(first.shape, first.dtype)
    dsecond = dfirst if together else np.zeros(second.shape, second.dtype)
    displacements.compose_vjp(dout, first, second, dfirst, dsecond)
    return dfirst if together else (dfirst, dsecond)


# --- Velocities -----------------------------------------------------------------------------------


@accept_dask_arrays("velocity")
@documented
def integrate_velocity(velocity: Array, steps: int = 7) -> Array:
    """Integrate a stationary velocity field to a displacement field, by scaling and squaring.

    ``velocity (N, H, W, 2) -> displacement (N, H, W, 2)``

    ``phi_0(x) = x + v(x) / 2^steps``, and ``phi_{{k+1}} = phi_k o phi_k``, ``steps`` times: the map
    of the velocity for time 1 (Arsigny et al. 2006). ``integrate_velocity(-velocity)`` is its
    inverse, up to the interpolation. This is the layer VecInt of VoxelMorph (Dalca et al. 2018).

    Parameters
    ----------
    velocity : (N, H, W, 2) or (N, D, H, W, 3) array of float32 or float64
        In pixels, x before y before z.
    steps : int
        At least 0. The first map moves each pixel by a ``2^steps``-th of its velocity: with 7, by
        less than a pixel up to a velocity of 128 pixels.

    Returns
    -------
    displacement : array of the velocity's shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    A rotation by 90 degrees about the middle, far from the edges:

    >>> import numpy as np
    >>> from numba_stn import deformations
    >>> y, x = np.mgrid[-20:21, -20:21].astype(float)
    >>> velocity = np.pi / 2 * np.stack([-y, x], -1)[None]
    >>> deformations.integrate_velocity(velocity, 10)[0, 20, 25].round(1)  # from (5, 0) to (0, 5)
    array([-5.,  5.])
    """
    velocity, steps = _check_field("velocity", velocity), check_integer("steps", steps, 0)
    start, square, in_pixels = _squaring(velocity, steps)
    field = start
    for _ in range(steps):
        field = square(field)
    return in_pixels(field)


@accept_dask_arrays("ddisplacement", "velocity")
@documented
def integrate_velocity_vjp(ddisplacement: Array, velocity: Array, steps: int = 7) -> Array:
    """Compute the gradient of :func:`integrate_velocity` with respect to the velocity.

    ``ddisplacement (N, H, W, 2), velocity (N, H, W, 2) -> dvelocity (N, H, W, 2)``

    It is the gradient of what is computed, squaring by squaring. The fields between the squarings
    are computed again, and all are in memory together.

    Parameters
    ----------
    ddisplacement : array of the velocity's shape and dtype
        Gradient of the loss with respect to the displacement.
    velocity, steps
        The inputs of :func:`integrate_velocity`.

    Returns
    -------
    dvelocity : array of the velocity's shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import deformations
    >>> still, one = np.zeros((1, 3, 3, 2)), np.ones((1, 3, 3, 2))
    >>> deformations.integrate_velocity_vjp(one, still)[0, 1, 1]
    array([1., 1.])
    """
    velocity, steps = _check_field("velocity", velocity), check_integer("steps", steps, 0)
    gradient = _check_field("ddisplacement", ddisplacement, velocity)
    start, square, in_pixels = _squaring(velocity, steps)
    fields = [start]
    for _ in range(steps - 1):
        fields.append(square(fields[-1]))
    for field in reversed(fields[:steps]):
        field = in_pixels(field)
        gradient = _compose_vjp(gradient, field, field, together=True)
    return gradient * gradient.dtype.type(0.5**steps)


def _squaring(velocity, steps):
    """The first displacement, the function that squares one, and that which gives it in pixels.

    In the plane, and for CuPy, displacements are in normalised coordinates, so that a grid is one
    sum of two arrays.
    """
    start = velocity * velocity.dtype.type(0.5**steps)
    if not is_cupy(velocity) and velocity.shape[-1] == 3:
        return start, lambda field: displacements.compose_3d(field, field), lambda field: field
    still = grid_from_displacement(np.zeros_like(start[:1]))
    factors, _ = compute_normalisation(start.shape[1:-1], 1)
    factors = np.tile(factors, (start.shape[-2], 1))  # of a row, which NumPy multiplies faster
    forth, back = to_dtype_of(start, factors), to_dtype_of(start, 1 / factors)

    def square(field):
        moved = grid_sample(field, still + field, **_OPTIONS)
        moved += field
        return moved

    return start * forth, square, lambda field: field * back


# --- Folds ----------------------------------------------------------------------------------------


@accept_dask_arrays("displacement")
@documented
def jacobian_determinant(displacement: Array) -> Array:
    """Compute the determinant of the map's Jacobian matrix at each pixel.

    ``displacement (N, H, W, 2) -> determinant (N, H, W)``

    ``det(I + du/dx)``, by central differences inside and one-sided ones at the edges, as by
    ``np.gradient``. It is the area that a pixel of the output covers in the input, in pixels: above
    1 the map shrinks the image, below 0 it mirrors it.

    Parameters
    ----------
    displacement : (N, H, W, 2) or (N, D, H, W, 3) array of float32 or float64
        In pixels, x before y before z.

    Returns
    -------
    determinant : (N, H, W) or (N, D, H, W) array

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import deformations
    >>> y, x = np.mgrid[:4, :5]
    >>> wider = np.stack([0.5 * x, 0 * y], -1)[None]
    >>> deformations.jacobian_determinant(wider)[0, 0]
    array([1.5, 1.5, 1.5, 1.5, 1.5])
    """
    return _determinant(_jacobian(_check_field("displacement", displacement), _central))


@accept_dask_arrays("ddeterminant", "displacement")
@documented
def jacobian_determinant_vjp(ddeterminant: Array, displacement: Array) -> Array:
    """Compute the gradient of :func:`jacobian_determinant` with respect to the displacement.

    ``ddeterminant (N, H, W), displacement (N, H, W, 2) -> ddisplacement (N, H, W, 2)``

    Parameters
    ----------
    ddeterminant : (N, H, W) or (N, D, H, W) array of the displacement's dtype
        Gradient of the loss with respect to the determinant.
    displacement
        The input of :func:`jacobian_determinant`.

    Returns
    -------
    ddisplacement : array of the displacement's shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import deformations
    >>> still = np.zeros((1, 2, 2, 2))
    >>> deformations.jacobian_determinant_vjp(np.ones((1, 2, 2)), still)[0, :, :, 0]
    array([[-2.,  2.],
           [-2.,  2.]])
    """
    displacement = _check_field("displacement", displacement)
    gradient = as_array(ddeterminant, "ddeterminant")
    if gradient.shape != displacement.shape[:-1] or gradient.dtype != displacement.dtype:
        raise ValueError(
            f"ddeterminant: expected shape {displacement.shape[:-1]} and dtype "
            f"{displacement.dtype}, got {gradient.shape} and {gradient.dtype}"
        )
    rows = _jacobian(displacement, _central)
    dims = len(rows)
    found = np.zeros_like(displacement)
    for axis in range(dims):
        for c in range(dims):
            by_slope = gradient * _cofactor(rows, c, axis)
            found[..., c] += _central_vjp(by_slope, dims - axis)
    return found


@documented
def count_folds(displacement: Array) -> Array:
    """Count the pixels at which a map folds.

    ``displacement (N, H, W, 2) -> folds (N,)``

    A pixel counts if one of the ``2^dimensions`` determinants of its one-sided differences, to the
    left or right, up or down, is not positive. Central differences do not see a pixel that has
    jumped over its neighbour. A map without folds has an inverse.

    Parameters
    ----------
    displacement : (N, H, W, 2) or (N, D, H, W, 3) array of float32 or float64
        In pixels, x before y before z.

    Returns
    -------
    folds : (N,) array of integers

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import deformations
    >>> displacement = np.zeros((1, 3, 5, 2))
    >>> displacement[0, 1, 2, 0] = 1.5  # over its right neighbour
    >>> deformations.count_folds(displacement)
    array([2])
    """
    displacement = _check_field("displacement", displacement)
    dims = displacement.shape[-1]
    folded = np.zeros_like(displacement[..., 0], bool)
    for sides in np.ndindex(*(2,) * dims):
        rows = _jacobian(displacement, lambda u, axis, sides=sides: _one_sided(u, axis, sides))
        folded |= ~(_determinant(rows) > 0)  # NaN too
    return folded.sum(tuple(range(1, folded.ndim)))


def _jacobian(displacement, difference):
    """``d phi_c / d axis``, a list for each component c of a list for each axis x, y, z."""
    dims = displacement.shape[-1]
    return [
        [
            difference(displacement[..., c], dims - axis) + displacement.dtype.type(c == axis)
            for axis in range(dims)
        ]
        for c in range(dims)
    ]


def _determinant(rows):
    """The determinant of a matrix of arrays, by its first column's cofactors."""
    return sum(rows[c][0] * _cofactor(rows, c, 0) for c in range(len(rows)))


def _cofactor(rows, c, axis):
    """The cofactor of an entry."""
    rest = [[row[k] for k in range(len(rows)) if k != axis] for n, row in enumerate(rows) if n != c]
    minor = rest[0][0] if len(rest) == 1 else rest[0][0] * rest[1][1] - rest[0][1] * rest[1][0]
    return minor if (c + axis) % 2 == 0 else -minor


def _central(values, axis):
    """Central differences along an axis, one-sided at its ends; 0 along a side of one pixel."""
    side = values.shape[axis]
    found = np.zeros_like(values)
    if side > 1:
        new, old = np.moveaxis(found, axis, 0), np.moveaxis(values, axis, 0)
        new[1:-1] = (old[2:] - old[:-2]) / 2
        new[0], new[-1] = old[1] - old[0], old[-1] - old[-2]
    return found


def _central_vjp(slopes, axis):
    """The transpose of :func:`_central`."""
    found = np.zeros_like(slopes)
    if slopes.shape[axis] > 1:
        new, d = np.moveaxis(found, axis, 0), np.moveaxis(slopes, axis, 0)
        new[2:] += d[1:-1] / 2
        new[:-2] -= d[1:-1] / 2
        new[1] += d[0]
        new[0] -= d[0]
        new[-1] += d[-1]
        new[-2] -= d[-1]
    return found


def _one_sided(values, axis, sides):
    """Differences along an axis to the next pixel, or to the one before; at an end the other."""
    if values.shape[axis] == 1:
        return np.zeros_like(values)
    steps = np.diff(values, axis=axis)
    first, last = np.take(steps, [0], axis), np.take(steps, [-1], axis)
    return np.concatenate([steps, last] if sides[axis - 1] else [first, steps], axis)


# --- Checks ---------------------------------------------------------------------------------------


def _check_field(name, field, like=None):
    """A field as a contiguous array of NumPy or CuPy."""
    field = as_array(field, name)
    _, field, _ = check_coordinates(name, field, whole=True)
    check_not_empty(name, tuple(field.shape[1:-1]))
    if like is not None and (field.shape != like.shape or field.dtype != like.dtype):
        raise ValueError(
            f"{name}: expected shape {like.shape} and dtype {like.dtype}, got {field.shape} and "
            f"{field.dtype}"
        )
    return namespace(field, *[] if like is None else [like]).ascontiguousarray(field)
