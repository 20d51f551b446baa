"""Parametrisations of theta: params (N, P) -> theta (N, 2, 3), and the way back for gradients.

A transform is a frozen value with ``theta(params)`` and ``vjp(dtheta, params) -> dparams``, which
stand side by side in :mod:`numba_stn.transforms.formulas`, and with the parameters of its identity.
Theta maps normalised output coordinates to normalised input coordinates, so a scale of 0.5 reads
half of the input's width: it zooms in. Angles are true ones where an image is square. A projective
transform's theta is (N, 3, 3); a thin-plate spline's is its control points, (N, K, 2); a volume's,
(N, 3, 4).

:mod:`numba_stn.transforms.composition` has products and inverses of theta.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from numbers import Real
from typing import Any

import numpy as np

from ..ops.tps_grid import check_regularisation, control_points
from ..ops.validate import look_up
from ..utils.namespace import as_array
from . import formulas
from .composition import compose_unchecked, compose_unchecked_vjp, with_last_row

__all__ = [
    "SHAPES",
    "TRANSFORMS",
    "Transform",
    "affine",
    "affine_3d",
    "attention",
    "by_name",
    "compose",
    "projective",
    "restricted_affine",
    "rigid",
    "rigid_3d",
    "rotation",
    "scale",
    "shear",
    "similarity",
    "tps",
    "translation",
]

Array = Any

# Theta's shape, but for N, of each kind but the splines, which may have any number of points.
SHAPES = {"affine": (2, 3), "affine 3-D": (3, 4), "projective": (3, 3)}


@dataclass(frozen=True)
class Transform:
    """A family of maps.

    Parameters
    ----------
    name : str
        What it is called on the command line.
    identity : tuple of float
        The P parameters of the identity map.
    forward : callable
        params (N, P) -> theta (N, 2, 3), or of the kind's shape.
    backward : callable
        (dtheta, params) -> dparams.
    kind : {"affine", "affine 3-D", "projective", "tps"}
        Whose theta it is: that of ``warp_affine``, on images or volumes, of ``warp_perspective``
        or of ``warp_tps``.
    regularisation : float
        What ``warp_tps`` is given besides.
    scales : tuple of int
        Which of the identity's parameters a zoom multiplies; none, if the family has no zoom.

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
    kind: str = "affine"
    regularisation: float = 0.0
    scales: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of parameters, P."""
        return len(self.identity)

    @property
    def shape(self) -> tuple[int, int]:
        """Theta's shape, but for N."""
        return SHAPES.get(self.kind, (self.size // 2, 2))

    def __repr__(self) -> str:
        return self.name

    def zoomed(self, share: float) -> tuple[float, ...]:
        """The P parameters of the map that reads this share of the image's sides, in its middle.

        Parameters
        ----------
        share : float
            1 for the identity; less zooms in.

        Returns
        -------
        tuple of float

        Raises
        ------
        ValueError
            If the share is not positive and finite, or if the family has no zoom.

        Examples
        --------
        >>> from numba_stn.transforms import affine
        >>> affine.zoomed(0.5)
        (0.5, 0.0, 0.0, 0.0, 0.5, 0.0)
        """
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < np.inf:
            raise ValueError(f"zoom: expected a positive number, got {share!r}")
        if share != 1 and not self.scales:
            raise ValueError(f"zoom: {self.name} has none, expected 1, got {share!r}")
        return tuple(
            value * float(share) if number in self.scales else value
            for number, value in enumerate(self.identity)
        )

    def theta(self, params: Array) -> Array:
        """Theta ``(N, *shape)`` of the params (N, P), in their dtype and library.

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
        params, dtheta = self._checked(params), as_array(dtheta, "dtheta")
        if dtheta.dtype.kind != "f":
            raise TypeError(f"dtheta: expected float32 or float64, got {dtheta.dtype}")
        if dtheta.shape != (len(params), *self.shape):
            raise ValueError(
                f"dtheta: expected shape {(len(params), *self.shape)}, got {dtheta.shape}"
            )
        return self.backward(dtheta, params)

    def _checked(self, params):
        params = as_array(params, "params")
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
    return look_up("transform", transform, TRANSFORMS)


# --- Thin-plate splines ---------------------------------------------------------------------------


def tps(k: int = 4, regularisation: float = 0.0) -> Transform:
    """Thin-plate splines of k x k control points: see :func:`numba_stn.warp_tps`.

    The parameters are where the points of :func:`numba_stn.control_points` read the input, one
    after another, x before y. By the name "tps" there is the paper's, of 16 points.

    Parameters
    ----------
    k : int
        Points a side, 2 at least.
    regularisation : float
        0: the points read where they are told to. More: a smoother map only comes near.

    Returns
    -------
    Transform

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or value; the message names it.

    Examples
    --------
    >>> from numba_stn.transforms import tps
    >>> tps(3).size
    18
    """
    points, regularisation = control_points(k), check_regularisation(regularisation)
    sides = [f"k={k}"] if k != 4 else []
    smooth = [f"regularisation={regularisation}"] if regularisation else []
    name = f"tps({', '.join(sides + smooth)})" if sides or smooth else "tps"
    identity = tuple(points.ravel().tolist())
    return Transform(
        name, identity, formulas.points, formulas.points_vjp, "tps", regularisation,
        tuple(range(len(identity))),
    )  # fmt: skip


# --- Composition ----------------------------------------------------------------------------------


def compose(*transforms: str | Transform, name: str | None = None) -> Transform:
    """The product of transforms: an output point goes through the last one first.

    The parameters are those of the transforms, one after another. With a projective one among
    them the product is projective.

    Parameters
    ----------
    *transforms : Transform or str
        At least one; affine or projective, of the plane.
    name : str, optional

    Returns
    -------
    Transform

    Raises
    ------
    ValueError
        If there are none, or one is a spline or of volumes.

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
    for transform in parts:
        if transform.kind not in ("affine", "projective"):
            raise ValueError(
                f"compose: expected affine or projective transforms of the plane, got {transform}"
            )
    kind = "projective" if any(t.kind == "projective" for t in parts) else "affine"
    *ends, _ = accumulate(transform.size for transform in parts)

    def factors(params):
        own = np.split(params, ends, axis=1)
        thetas = [t.theta(part) for t, part in zip(parts, own, strict=True)]
        return thetas if kind == "affine" else [with_last_row(theta) for theta in thetas], own

    def forward(params):
        thetas, _ = factors(params)
        product = thetas[0]
        for theta in thetas[1:]:
            product = compose_unchecked(product, theta)
        return product

    def backward(dtheta, params):
        thetas, own = factors(params)
        products = [thetas[0]]
        for theta in thetas[1:-1]:
            products.append(compose_unchecked(products[-1], theta))
        dparams = []
        for k in range(len(parts) - 1, 0, -1):
            dtheta, dlast = compose_unchecked_vjp(dtheta, products[k - 1], thetas[k])
            dparams.append(parts[k].vjp(dlast[:, : parts[k].shape[0]], own[k]))
        dparams.append(parts[0].vjp(dtheta[:, : parts[0].shape[0]], own[0]))
        return np.concatenate(dparams[::-1], axis=1)

    identity = tuple(value for transform in parts for value in transform.identity)
    # At the identity it makes no difference which of the factors zooms: the first that can.
    starts = [0, *ends]
    zooms = [(start, t.scales) for start, t in zip(starts, parts, strict=True) if t.scales]
    scales = tuple(start + number for start, numbers in zooms[:1] for number in numbers)
    name = name or " * ".join(transform.name for transform in parts)
    return Transform(name, identity, forward, backward, kind, scales=scales)


translation = Transform("translation", (0.0, 0.0), formulas.translation, formulas.translation_vjp)
scale = Transform("scale", (1.0, 1.0), formulas.scale, formulas.scale_vjp, scales=(0, 1))
rotation = Transform("rotation", (0.0,), formulas.rotation, formulas.rotation_vjp)
shear = Transform("shear", (0.0, 0.0), formulas.shear, formulas.shear_vjp)
attention = Transform(
    "attention", (1.0, 0.0, 0.0), formulas.attention, formulas.attention_vjp, scales=(0,)
)
affine = Transform(
    "affine", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), formulas.affine, formulas.affine_vjp, scales=(0, 4)
)
restricted_affine = compose(translation, rotation, shear, scale, name="restricted_affine")
rigid = Transform("rigid", (0.0, 0.0, 0.0), formulas.rigid, formulas.rigid_vjp)
similarity = Transform(
    "similarity", (0.0, 1.0, 0.0, 0.0), formulas.similarity, formulas.similarity_vjp, scales=(1,)
)
projective = Transform(
    "projective", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
    formulas.projective, formulas.projective_vjp, "projective", scales=(0, 4),
)  # fmt: skip
affine_3d = Transform(
    "affine_3d", (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    formulas.affine_3d, formulas.affine_3d_vjp, "affine 3-D", scales=(0, 5, 10),
)  # fmt: skip
rigid_3d = Transform("rigid_3d", (0.0,) * 6, formulas.rigid_3d, formulas.rigid_3d_vjp, "affine 3-D")

TRANSFORMS = {
    transform.name: transform
    for transform in (
        translation, scale, rotation, shear, rigid, similarity, attention, restricted_affine,
        affine, projective, tps(), affine_3d, rigid_3d,
    )
}  # fmt: skip
