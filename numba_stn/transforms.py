"""Parametrisations of theta: params (N, P) -> theta (N, 2, 3), and the way back for gradients.

A transform is a frozen value with ``theta(params)`` and ``vjp(dtheta, params) -> dparams``, which
stand side by side below, and with the parameters of its identity. Theta maps normalised output
coordinates to normalised input coordinates, so a scale of 0.5 reads half of the input's width:
it zooms in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from .namespace import as_array, namespace

__all__ = [
    "TRANSFORMS",
    "Transform",
    "affine",
    "attention",
    "by_name",
    "compose",
    "restricted_affine",
    "rotation",
    "scale",
    "shear",
    "translation",
]

Array = Any


@dataclass(frozen=True)
class Transform:
    """A family of affine maps.

    Parameters
    ----------
    name : str
        What it is called on the command line.
    identity : tuple of float
        The P parameters of the identity map.
    forward : callable
        params (N, P) -> theta (N, 2, 3).
    backward : callable
        (dtheta, params) -> dparams.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.transforms import attention
    >>> attention.theta(np.array([[0.5, 0.25, 0.0]]))
    array([[[0.5 , 0.  , 0.25],
            [0.  , 0.5 , 0.  ]]])
    """

    name: str
    identity: tuple[float, ...]
    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]

    @property
    def size(self) -> int:
        """Number of parameters, P."""
        return len(self.identity)

    def __repr__(self) -> str:
        return self.name

    def theta(self, params: Array) -> Array:
        """Theta (N, 2, 3) of the parameters (N, P), in their dtype; of NumPy or CuPy, as they are.

        Raises
        ------
        ValueError, TypeError
            If ``params`` has the wrong shape or is not floating.
        """
        return self.forward(self._checked(params))

    def vjp(self, dtheta: Array, params: Array) -> Array:
        """Gradient (N, P) with respect to the parameters, from the one with respect to theta.

        Raises
        ------
        ValueError, TypeError
            If ``params`` or ``dtheta`` has the wrong shape or is not floating.
        """
        params, dtheta = self._checked(params), as_array(dtheta)
        if dtheta.dtype.kind != "f":
            raise TypeError(f"dtheta: expected float32 or float64, got {dtheta.dtype}")
        if dtheta.shape != (len(params), 2, 3):
            raise ValueError(f"dtheta: expected shape ({len(params)}, 2, 3), got {dtheta.shape}")
        return self.backward(dtheta, params)

    def _checked(self, params):
        params = as_array(params)
        if params.ndim != 2 or params.shape[1] != self.size:
            raise ValueError(
                f"params: {self.name} expects shape (N, {self.size}), got {params.shape}"
            )
        if params.dtype.name not in ("float32", "float64"):
            raise TypeError(f"params: expected float32 or float64, got {params.dtype}")
        return params


# --- By name --------------------------------------------------------------------------------------


def by_name(transform: str | Transform) -> Transform:
    """The transform of this name, or the transform itself.

    Raises
    ------
    ValueError
        If there is none; the message lists the names.
    """
    if isinstance(transform, Transform):
        return transform
    if transform not in tuple(TRANSFORMS):  # a tuple, so that unhashable values are compared too
        raise ValueError(f"transform: expected one of {list(TRANSFORMS)}, got {transform!r}")
    return TRANSFORMS[transform]


# --- Translation: (tx, ty) ------------------------------------------------------------------------


def _translation(params):
    theta = _identity(params)
    theta[:, :, 2] = params
    return theta


def _translation_vjp(dtheta, params):
    return dtheta[:, :, 2].copy()


# --- Scale: (sx, sy) ------------------------------------------------------------------------------


def _scale(params):
    theta = namespace(params).zeros((len(params), 2, 3), params.dtype)
    theta[:, 0, 0], theta[:, 1, 1] = params.T
    return theta


def _scale_vjp(dtheta, params):
    return np.stack([dtheta[:, 0, 0], dtheta[:, 1, 1]], axis=1)


# --- Rotation: (angle,), in radians ---------------------------------------------------------------


def _rotation(params):
    theta = namespace(params).zeros((len(params), 2, 3), params.dtype)
    cos, sin = np.cos(params[:, 0]), np.sin(params[:, 0])
    theta[:, 0, 0], theta[:, 0, 1] = cos, -sin
    theta[:, 1, 0], theta[:, 1, 1] = sin, cos
    return theta


def _rotation_vjp(dtheta, params):
    cos, sin = np.cos(params[:, 0]), np.sin(params[:, 0])
    by_cos = dtheta[:, 0, 0] + dtheta[:, 1, 1]
    by_sin = dtheta[:, 1, 0] - dtheta[:, 0, 1]
    return (by_sin * cos - by_cos * sin)[:, None]


# --- Shear: (kx, ky), x reads kx y more, y reads ky x more ----------------------------------------


def _shear(params):
    theta = _identity(params)
    theta[:, 0, 1], theta[:, 1, 0] = params.T
    return theta


def _shear_vjp(dtheta, params):
    return np.stack([dtheta[:, 0, 1], dtheta[:, 1, 0]], axis=1)


# --- Attention: (s, tx, ty), one scale for both axes (Jaderberg et al. 2015, equation 2) ----------


def _attention(params):
    theta = namespace(params).zeros((len(params), 2, 3), params.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = params[:, 0]
    theta[:, :, 2] = params[:, 1:]
    return theta


def _attention_vjp(dtheta, params):
    zoom = dtheta[:, 0, 0] + dtheta[:, 1, 1]
    return np.concatenate([zoom[:, None], dtheta[:, :, 2]], axis=1)


# --- Affine: theta's six entries, row by row ------------------------------------------------------


def _affine(params):
    return params.reshape(-1, 2, 3).copy()


def _affine_vjp(dtheta, params):
    return dtheta.reshape(-1, 6).copy()


# --- Composition ----------------------------------------------------------------------------------


def _product(first, second):
    """Theta of "``second``, then ``first``", as 3 x 3 matrices with a last row (0, 0, 1)."""
    theta = first[:, :, :2] @ second
    theta[:, :, 2] += first[:, :, 2]
    return theta


def _product_vjp(dtheta, first, second):
    linear = dtheta @ second.swapaxes(1, 2)
    dfirst = np.concatenate([linear, dtheta[:, :, 2:]], axis=2)
    return dfirst, first[:, :, :2].swapaxes(1, 2) @ dtheta


def compose(*transforms: str | Transform, name: str | None = None) -> Transform:
    """The product of transforms: an output point goes through the last one first.

    The parameters are those of the transforms, one after another.

    Parameters
    ----------
    *transforms : Transform or str
        At least one.
    name : str, optional

    Returns
    -------
    Transform

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.transforms import compose, scale, translation
    >>> both = compose(translation, scale)
    >>> both.theta(np.array([[0.5, 0.0, 2.0, 3.0]]))
    array([[[2. , 0. , 0.5],
            [0. , 3. , 0. ]]])
    """
    if not transforms:
        raise ValueError("compose: expected at least one transform")
    parts = [by_name(transform) for transform in transforms]
    *ends, _ = accumulate(transform.size for transform in parts)

    def factors(params):
        own = np.split(params, ends, axis=1)
        return [t.theta(part) for t, part in zip(parts, own, strict=True)], own

    def forward(params):
        thetas, _ = factors(params)
        product = thetas[0]
        for theta in thetas[1:]:
            product = _product(product, theta)
        return product

    def backward(dtheta, params):
        thetas, own = factors(params)
        products = [thetas[0]]
        for theta in thetas[1:-1]:
            products.append(_product(products[-1], theta))
        dparams = []
        for k in range(len(parts) - 1, 0, -1):
            dtheta, dlast = _product_vjp(dtheta, products[k - 1], thetas[k])
            dparams.append(parts[k].vjp(dlast, own[k]))
        dparams.append(parts[0].vjp(dtheta, own[0]))
        return np.concatenate(dparams[::-1], axis=1)

    identity = tuple(value for transform in parts for value in transform.identity)
    return Transform(name or " * ".join(t.name for t in parts), identity, forward, backward)


translation = Transform("translation", (0.0, 0.0), _translation, _translation_vjp)
scale = Transform("scale", (1.0, 1.0), _scale, _scale_vjp)
rotation = Transform("rotation", (0.0,), _rotation, _rotation_vjp)
shear = Transform("shear", (0.0, 0.0), _shear, _shear_vjp)
attention = Transform("attention", (1.0, 0.0, 0.0), _attention, _attention_vjp)
affine = Transform("affine", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), _affine, _affine_vjp)
restricted_affine = compose(translation, rotation, shear, scale, name="restricted_affine")

TRANSFORMS = {
    transform.name: transform
    for transform in (translation, scale, rotation, shear, attention, restricted_affine, affine)
}


def _identity(params):
    theta = namespace(params).zeros((len(params), 2, 3), params.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    return theta
