"""Penalties on theta: numbers that are added to the loss, and their gradients.

Each is a value that is called with theta and returns the penalty, a mean over the batch, and its
gradient. ``spatial_transformer(..., penalties=(...))`` adds the gradients in training; in a loop of
your own, call them with the theta of ``apply_with_theta``.

Theta is (N, 2, 3), (N, 3, 4), (N, 3, 3) or (N, 4, 4), or the control points (N, K, 2) of a spline.
In what follows, t is the point that the middle of the output samples, and J the Jacobian matrix
there: the last and the other columns of an affine theta. For a projective theta H, divided by its
last entry,
``J = A - t v^T`` with ``H = [[A, t], [v^T, 1]]``.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops.tps_grid import control_points
from ..transforms.composition import SHAPES
from ..utils.namespace import as_array, is_cupy, namespace
from .checks import check_number

# Added to the covariance matrices of areas, so that those of points have an inverse.
TINY = 1e-6


@dataclass(frozen=True)
class Penalty:
    """Base class of the penalties: ``penalty(theta) -> value, dtheta``."""

    weight: float

    def __post_init__(self):
        """Check the weight."""
        check_number(type(self).__name__, weight=self.weight)

    def __call__(self, theta: Any) -> tuple[Any, Any]:
        """Return the penalty and its gradient with respect to theta."""
        theta = _checked(theta)
        values, dtheta = self.of_each(theta)
        scale = theta.dtype.type(self.weight / max(len(theta), 1))
        value = values.sum() * scale
        return (value if is_cupy(value) else float(value)), dtheta * scale

    def of_each(self, theta: Any) -> tuple[Any, Any]:
        """The penalty (N,) of each map, and the gradient of their sum; without the weight."""
        raise NotImplementedError


# --- Towards the identity -------------------------------------------------------------------------


@dataclass(frozen=True)
class IdentityPenalty(Penalty):
    """See :func:`identity_penalty`."""

    def of_each(self, theta):
        """``|theta - I|^2``."""
        if theta.shape[1] == theta.shape[2]:
            last = theta[:, -1:, -1:]
            one = namespace(theta).asarray(np.eye(theta.shape[1]), theta.dtype)
            off = theta / last - one
            doff = 2 * off
            dtheta = doff / last
            dtheta[:, -1, -1] -= (doff * theta).sum((1, 2)) / (last * last)[:, 0, 0]
            return (off * off).sum((1, 2)), dtheta
        if theta.shape[2] == 2:
            one = control_points(math.isqrt(theta.shape[1]))
        else:
            one = np.eye(*theta.shape[1:])
        off = theta - namespace(theta).asarray(one, theta.dtype)
        return (off * off).sum((1, 2)), 2 * off


def identity_penalty(weight: float) -> Penalty:
    """Penalise maps that differ from the identity.

    ``weight mean_n |theta[n] - I|^2``, the sum of the squares of all entries. Projective maps are
    divided by their last entry; the identity of a spline is :func:`numba_stn.control_points`.

    Parameters
    ----------
    weight : float
        At least 0.

    Returns
    -------
    Penalty
        Called with theta, it returns the value and the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> value, dtheta = nn.identity_penalty(0.5)(np.array([[[1.0, 0, 0.2], [0, 1, 0]]]))
    >>> print(round(value, 3), dtheta[0, 0])
    0.02 [0.  0.  0.2]
    """
    return IdentityPenalty(weight)


# --- Bounded scales and areas ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Bounded(Penalty):
    """Penalties of what is below ``least`` or above ``most``."""

    least: float
    most: float

    def __post_init__(self):
        """Check the limits."""
        super().__post_init__()
        check_number(type(self).__name__, least=self.least)
        check_number(type(self).__name__, self.least, most=self.most)

    def beyond(self, numbers: Any) -> Any:
        """How far numbers are above ``most``, or, below 0, below ``least``."""
        low, high = numbers.dtype.type(self.least), numbers.dtype.type(self.most)
        return numbers - np.minimum(np.maximum(numbers, low), high)


@dataclass(frozen=True)
class ScalePenalty(_Bounded):
    """See :func:`scale_penalty`."""

    def of_each(self, theta):
        """Squares of how far singular values are beyond the limits."""
        (_, jacobian), back = _middle(theta)
        u, sizes, vt = np.linalg.svd(jacobian)
        off = self.beyond(sizes)
        return (off * off).sum(1), back(None, (u * (2 * off)[:, None]) @ vt)


def scale_penalty(weight: float, least: float = 0.5, most: float = 2.0) -> Penalty:
    """Penalise maps that magnify, shrink or squeeze the image too much.

    ``weight mean_n sum_i off(s_i)^2``, where s_i are the singular values of the Jacobian matrix in
    the middle, the scales along the map's own axes, and ``off(s)`` is ``s - most`` above ``most``,
    ``s - least`` below ``least``, and 0 between. A scale of 0.5 samples half of a side.

    Parameters
    ----------
    weight, least, most : float
        At least 0.

    Returns
    -------
    Penalty
        Called with theta, it returns the value and the gradient. Not for splines.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> value, dtheta = nn.scale_penalty(1.0, most=2.0)(np.array([[[3.0, 0, 0], [0, 1, 0]]]))
    >>> print(round(value, 3), dtheta[0, 0, 0].round(3))
    1.0 2.0
    """
    return ScalePenalty(weight, least, most)


@dataclass(frozen=True)
class AreaPenalty(_Bounded):
    """See :func:`area_penalty`."""

    def of_each(self, theta):
        """Squares of how far areas are beyond the limits."""
        (_, jacobian), back = _middle(theta)
        cofactors = _cofactors(jacobian)
        areas = (cofactors[:, 0] * jacobian[:, 0]).sum(1)
        off = self.beyond(np.abs(areas))
        slopes = 2 * off * np.sign(areas)
        return off * off, back(None, slopes[:, None, None] * cofactors)


def area_penalty(weight: float, least: float = 0.25, most: float = 1.0) -> Penalty:
    """Penalise maps that sample too little or too much of the image.

    ``weight mean_n off(|det J[n]|)^2``, where ``|det J|`` is the sampled area as a share of the
    image's (in 3-D the volume), and ``off`` is that of :func:`scale_penalty`.

    Parameters
    ----------
    weight, least, most : float
        At least 0.

    Returns
    -------
    Penalty
        Called with theta, it returns the value and the gradient. Not for splines.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> nn.area_penalty(1.0)(np.array([[[2.0, 0, 0], [0, 1, 0]]]))[0]
    1.0
    """
    return AreaPenalty(weight, least, most)


# --- Apart from each other ------------------------------------------------------------------------


@dataclass(frozen=True)
class OverlapPenalty:
    """See :func:`overlap_penalty`."""

    weight: float

    def __post_init__(self):
        """Check the weight."""
        check_number(type(self).__name__, weight=self.weight)

    def __call__(self, thetas: Any) -> tuple[Any, list[Any]]:
        """Return the penalty and its gradient with respect to each theta."""
        thetas = [_checked(theta) for theta in thetas]
        if len({theta.shape for theta in thetas}) > 1:
            shapes = ", ".join(str(theta.shape) for theta in thetas)
            raise ValueError(f"thetas: expected arrays of one shape, got {shapes}")
        middles = [_middle(theta) for theta in thetas]
        total, dmiddles = 0.0, [[0, 0] for _ in thetas]
        for i in range(len(thetas)):
            for j in range(i):
                overlaps, gradients = _overlap(middles[i][0], middles[j][0])
                total = total + overlaps.sum()
                for k, (dt, djacobian) in zip((i, j), gradients, strict=True):
                    dmiddles[k][0] = dmiddles[k][0] + dt
                    dmiddles[k][1] = dmiddles[k][1] + djacobian
        scale = self.weight / max(len(thetas[0]) if thetas else 0, 1)
        dthetas = []
        for theta, (_, back), (dt, djacobian) in zip(thetas, middles, dmiddles, strict=True):
            factor = theta.dtype.type(scale)
            dthetas.append(back(dt, djacobian) * factor if len(thetas) > 1 else 0 * theta)
        value = total * scale
        return (value if is_cupy(value) else float(value)), dthetas


def overlap_penalty(weight: float) -> OverlapPenalty:
    """Penalise parallel transformers that look at the same place.

    ``weight mean_n sum_{i<j} exp(-(t_i - t_j)^T S^-1 (t_i - t_j) / 2)`` with
    ``S = (J_i J_i^T + J_j J_j^T) / 3``: areas are compared as if they were normal distributions of
    the same middle and second moments, so that the gradient is not 0 for areas apart. A pair that
    looks at the same place counts 1. :func:`apart` is the layer.

    Parameters
    ----------
    weight : float
        At least 0.

    Returns
    -------
    OverlapPenalty
        Called with a list of thetas, it returns the value and the list of their gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> left, right = np.eye(2, 3)[None] / 2, np.eye(2, 3)[None] / 2
    >>> left[0, 0, 2], right[0, 0, 2] = -0.5, 0.5
    >>> value, (dleft, dright) = nn.overlap_penalty(1.0)([left, right])
    >>> print(round(value, 3), bool(dleft[0, 0, 2] > 0 > dright[0, 0, 2]))
    0.05 True
    """
    return OverlapPenalty(weight)


def _overlap(one, two):
    """The overlaps (N,) of two areas, and the gradients of their sum with respect to (t, J)."""
    (t, a), (u, b) = one, two
    tiny = namespace(t).asarray(TINY * np.eye(t.shape[1]), t.dtype)
    moments = (a @ a.swapaxes(1, 2) + b @ b.swapaxes(1, 2)) / 3 + tiny
    apart = t - u
    solved = np.linalg.solve(moments, apart[..., None])[..., 0]
    overlaps = np.exp(-(apart * solved).sum(1) / 2)
    dapart = -overlaps[:, None] * solved
    dmoments = overlaps[:, None, None] / 3 * solved[:, :, None] * solved[:, None, :]
    return overlaps, ((dapart, dmoments @ a), (-dapart, dmoments @ b))


# --- The middle of the output ---------------------------------------------------------------------


def _middle(theta):
    """The middle t (N, D) and the Jacobian J (N, D, D) there, and their pullback to theta."""
    if theta.shape[2] == 2:
        raise ValueError(f"theta: expected affine or projective maps, got shape {theta.shape}")
    square = theta.shape[1] == theta.shape[2]
    maps = theta / theta[:, -1:, -1:] if square else theta
    dims = theta.shape[2] - 1
    t, jacobian = maps[:, :dims, dims], maps[:, :dims, :dims]
    if not square:
        return (t, jacobian), lambda dt, dj: _joined(0 * t if dt is None else dt, dj)
    slopes = maps[:, -1, :dims]

    def back(dt, djacobian):
        dt = (0 if dt is None else dt) - (djacobian * slopes[:, None]).sum(2)
        dslopes = -(djacobian * t[:, :, None]).sum(1)
        dmaps = np.concatenate([_joined(dt, djacobian), _joined(0 * t[:, :1], dslopes[:, None])], 1)
        dtheta = dmaps / theta[:, -1:, -1:]
        dtheta[:, -1, -1] = -(dmaps * maps).sum((1, 2)) / theta[:, -1, -1]
        return dtheta

    return (t, jacobian - t[:, :, None] * slopes[:, None]), back


def _joined(t, jacobian):
    """Rows of a matrix, with t as its last column."""
    return np.concatenate([jacobian, t[..., None]], 2)


def _cofactors(matrices):
    """The cofactor matrices of (N, 2, 2) or (N, 3, 3): the gradient of the determinant."""
    if matrices.shape[1] == 2:
        (a, b), (c, d) = matrices.transpose(1, 2, 0)
        return np.stack([d, -c, -b, a], 1).reshape(-1, 2, 2)
    rows = matrices.transpose(1, 0, 2)
    return np.stack([np.cross(rows[k - 2], rows[k - 1]) for k in range(3)], 1)


def _checked(theta):
    """Theta as a floating array of a known shape."""
    theta = as_array(theta, "theta")
    if theta.dtype.char not in "fd":
        raise TypeError(f"theta: expected float32 or float64, got {theta.dtype}")
    known = theta.ndim == 3 and theta.shape[1:] in SHAPES.values()
    side = math.isqrt(theta.shape[1]) if theta.ndim == 3 else 0
    if not known and not (side > 1 and theta.shape[1:] == (side * side, 2)):
        raise ValueError(
            f"theta: expected shape (N, 2, 3), (N, 3, 4), (N, 3, 3), (N, 4, 4) or (N, k * k, 2), "
            f"got {theta.shape}"
        )
    return theta


def check_penalties(name: str, penalties: Any) -> tuple[Penalty, ...]:
    """The penalties of a layer as a tuple; raises if one is something else."""
    penalties = (penalties,) if isinstance(penalties, Penalty) else penalties
    if not isinstance(penalties, (tuple, list)):
        raise TypeError(f"{name}: penalties: expected a sequence of penalties, got {penalties!r}")
    for penalty in penalties:
        if not isinstance(penalty, Penalty):
            raise TypeError(f"{name}: penalties: expected penalties, got {penalty!r}")
    return tuple(penalties)
