"""The formulas of :mod:`numba_stn.transforms`: params (N, P) -> theta, and their gradients.

``f(params)`` returns theta, ``f_vjp(dtheta, params)`` the gradient with respect to the parameters;
both are new arrays of the parameters' dtype and library.
"""

import numpy as np

from ..utils.namespace import namespace


def identity(params):
    """Theta (N, 2, 3) of N identity maps."""
    theta = namespace(params).zeros((len(params), 2, 3), params.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    return theta


# --- Translation: (tx, ty) ------------------------------------------------------------------------


def translation(params):
    """(tx, ty) -> theta."""
    theta = identity(params)
    theta[:, :, 2] = params
    return theta


def translation_vjp(dtheta, params):
    """Gradient of :func:`translation`."""
    return dtheta[:, :, 2].copy()


# --- Scale: (sx, sy) ------------------------------------------------------------------------------


def scale(params):
    """(sx, sy) -> theta."""
    theta = namespace(params).zeros((len(params), 2, 3), params.dtype)
    theta[:, 0, 0], theta[:, 1, 1] = params.T
    return theta


def scale_vjp(dtheta, params):
    """Gradient of :func:`scale`."""
    return np.stack([dtheta[:, 0, 0], dtheta[:, 1, 1]], axis=1)


# --- Rotation: (angle,), in radians ---------------------------------------------------------------


def rotation(params):
    """(angle,) -> theta."""
    theta = namespace(params).zeros((len(params), 2, 3), params.dtype)
    cos, sin = np.cos(params[:, 0]), np.sin(params[:, 0])
    theta[:, 0, 0], theta[:, 0, 1] = cos, -sin
    theta[:, 1, 0], theta[:, 1, 1] = sin, cos
    return theta


def rotation_vjp(dtheta, params):
    """Gradient of :func:`rotation`."""
    cos, sin = np.cos(params[:, 0]), np.sin(params[:, 0])
    by_cos = dtheta[:, 0, 0] + dtheta[:, 1, 1]
    by_sin = dtheta[:, 1, 0] - dtheta[:, 0, 1]
    return (by_sin * cos - by_cos * sin)[:, None]


# --- Shear: (kx, ky); kx y is added to x, and ky x to y -------------------------------------------


def shear(params):
    """(kx, ky) -> theta."""
    theta = identity(params)
    theta[:, 0, 1], theta[:, 1, 0] = params.T
    return theta


def shear_vjp(dtheta, params):
    """Gradient of :func:`shear`."""
    return np.stack([dtheta[:, 0, 1], dtheta[:, 1, 0]], axis=1)


# --- Attention: (s, tx, ty), one scale for both axes (Jaderberg et al. 2015, equation 2) ----------


def attention(params):
    """(s, tx, ty) -> theta."""
    theta = namespace(params).zeros((len(params), 2, 3), params.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = params[:, 0]
    theta[:, :, 2] = params[:, 1:]
    return theta


def attention_vjp(dtheta, params):
    """Gradient of :func:`attention`."""
    dscale = dtheta[:, 0, 0] + dtheta[:, 1, 1]
    return np.concatenate([dscale[:, None], dtheta[:, :, 2]], axis=1)


# --- Affine: theta's six entries, row by row ------------------------------------------------------


def affine(params):
    """The six entries -> theta."""
    return params.reshape(-1, 2, 3).copy()


def affine_vjp(dtheta, params):
    """Gradient of :func:`affine`."""
    return dtheta.reshape(-1, 6).copy()


# --- Rigid: (angle, tx, ty); similarity: (angle, s, tx, ty), with one scale for both axes ---------


def rigid(params):
    """(angle, tx, ty) -> theta."""
    theta = rotation(params)
    theta[:, :, 2] = params[:, 1:]
    return theta


def rigid_vjp(dtheta, params):
    """Gradient of :func:`rigid`."""
    return np.concatenate([rotation_vjp(dtheta, params), dtheta[:, :, 2]], axis=1)


def similarity(params):
    """(angle, s, tx, ty) -> theta."""
    theta = rotation(params) * params[:, 1, None, None]
    theta[:, :, 2] = params[:, 2:]
    return theta


def similarity_vjp(dtheta, params):
    """Gradient of :func:`similarity`."""
    dangle = rotation_vjp(dtheta, params) * params[:, 1:2]
    dscale = (dtheta * rotation(params)).sum(axis=(1, 2))
    return np.concatenate([dangle, dscale[:, None], dtheta[:, :, 2]], axis=1)


# --- Projective: theta's entries row by row, except the last, which is 1 --------------------------


def projective(params):
    """The first eight entries -> theta (N, 3, 3)."""
    theta = namespace(params).zeros((len(params), 9), params.dtype)
    theta[:, :8], theta[:, 8] = params, 1
    return theta.reshape(-1, 3, 3)


def projective_vjp(dtheta, params):
    """Gradient of :func:`projective`."""
    return dtheta.reshape(-1, 9)[:, :8].copy()


# --- Thin-plate spline: the sampling positions of its control points, x before y ------------------


def points(params):
    """2 K coordinates -> control points (N, K, 2)."""
    return params.reshape(len(params), params.shape[1] // 2, 2).copy()


def points_vjp(dtheta, params):
    """Gradient of :func:`points`."""
    return dtheta.reshape(params.shape).copy()


# --- Affine maps of volumes: theta's twelve entries -----------------------------------------------


def affine_3d(params):
    """The twelve entries, row by row, -> theta (N, 3, 4)."""
    return params.reshape(-1, 3, 4).copy()


def affine_3d_vjp(dtheta, params):
    """Gradient of :func:`affine_3d`."""
    return dtheta.reshape(-1, 12).copy()


# --- Rigid maps of volumes: (rx, ry, rz, tx, ty, tz), a rotation by |r| radians about the axis r --
#
# Rodrigues' formula: R = I + a K + b K K, with K v = r x v, a = sin(t) / t, b = (1 - cos(t)) / t^2,
# t = |r|. Below t = 0.01 the factors are computed by their series; the first omitted terms are
# below 1e-11.

# A square of t that no sum with another number shows, and whose root is not 0 in float32.
TINY = 1e-30


def rigid_3d(params):
    """(rx, ry, rz, tx, ty, tz) -> theta (N, 3, 4)."""
    r = params[:, :3]
    (a, b), _ = _rodrigues_factors(r)
    cross = _cross_matrices(r)
    theta = namespace(params).zeros((len(params), 3, 4), params.dtype)
    theta[:, :, :3] = a * cross + b * (cross @ cross)
    theta[:, :, 3] = params[:, 3:]
    for k in range(3):
        theta[:, k, k] += 1
    return theta


def rigid_3d_vjp(dtheta, params):
    """Gradient of :func:`rigid_3d`."""
    r, drotation = params[:, :3], dtheta[:, :, :3]
    (a, b), (da, db) = _rodrigues_factors(r)
    cross = _cross_matrices(r)
    by_length = (da * cross + db * (cross @ cross)) * drotation  # d/dt / t, per entry
    dcross = a * drotation + b * (
        drotation @ cross.transpose(0, 2, 1) + cross.transpose(0, 2, 1) @ drotation
    )
    by_entries = np.stack([
        dcross[:, 2, 1] - dcross[:, 1, 2],
        dcross[:, 0, 2] - dcross[:, 2, 0],
        dcross[:, 1, 0] - dcross[:, 0, 1],
    ], axis=1)  # fmt: skip
    dr = by_entries + by_length.sum((1, 2))[:, None] * r
    return np.concatenate([dr, dtheta[:, :, 3]], axis=1)


def _cross_matrices(r):
    """Return K (N, 3, 3) of each r (N, 3)."""
    cross = namespace(r).zeros((len(r), 3, 3), r.dtype)
    cross[:, 2, 1], cross[:, 0, 2], cross[:, 1, 0] = r.T
    return cross - cross.transpose(0, 2, 1)


def _rodrigues_factors(r):
    """Return a and b (N, 1, 1) of each r, and their derivatives with respect to t, over t."""
    square = (r * r).sum(1)[:, None, None]
    if square.dtype == object:  # expressions, of an exported network: no series in float32
        square, small = square + TINY, np.zeros(square.shape, bool)
    else:
        small = square < 1e-4
    t = np.sqrt(np.where(small, 1, square))
    cos, sin = np.cos(t), np.sin(t)
    a = np.where(small, 1 - square / 6, sin / t)
    b = np.where(small, 0.5 - square / 24, (1 - cos) / t**2)
    da = np.where(small, -1 / 3 + square / 30, (cos - sin / t) / t**2)
    db = np.where(small, -1 / 12 + square / 180, (sin / t - 2 * (1 - cos) / t**2) / t**2)
    return (a, b), (da, db)
