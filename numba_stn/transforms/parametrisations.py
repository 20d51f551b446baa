"""Parametrisations of theta: params (N, P) -> theta (N, 2, 3), and their gradients.

A transform is a frozen value with ``theta(params)``, ``vjp(dtheta, params) -> dparams`` and the
parameters of its identity map. Its formulas are in :mod:`numba_stn.transforms.formulas`. Theta maps
normalised output coordinates to normalised input coordinates, so a scale of 0.5 samples half of
the input's width: it zooms in. Angles are exact on square images. The theta of a projective
transform is (N, 3, 3), that of a volume (N, 3, 4); the theta of a thin-plate spline is its control
points, (N, K, 2).

:mod:`numba_stn.transforms.composition` composes and inverts theta.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from numbers import Real
from typing import Any

import numpy as np

from ..ops.cpab import check_cells, velocity_basis
from ..ops.tps_grid import check_regularisation, control_points
from ..ops.validate import check_flag, look_up
from ..utils.namespace import as_array
from . import formulas
from .composition import SHAPES, compose_unchecked, compose_unchecked_vjp, with_last_row

__all__ = [
    "SHAPES",
    "TRANSFORMS",
    "Transform",
    "affine",
    "affine_3d",
    "attention",
    "by_name",
    "compose",
    "cpab",
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


@dataclass(frozen=True)
class Transform:
    """A parametrisation of maps: params (N, P) -> theta.

    Parameters
    ----------
    name : str
        Name on the command line.
    identity : tuple of float
        The P parameters of the identity map.
    forward : callable
        params (N, P) -> theta (N, 2, 3), or of the kind's shape.
    backward : callable
        (dtheta, params) -> dparams.
    kind : {"affine", "affine 3-D", "projective", "tps", "cpab"}
        The warp that takes theta: ``warp_affine`` on images or on volumes, ``warp_perspective``,
        ``warp_tps``, or the map of a piecewise-affine velocity field.
    regularisation : float
        The regularisation for ``warp_tps``.
    scales : tuple of int
        Indices of the parameters that a zoom multiplies; empty if the transform cannot zoom.
    cells : (int, int), optional
        Of "cpab": the numbers of rows and columns of cells.

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
    cells: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Number of parameters, P."""
        return len(self.identity)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of theta without N; a spline may have any number of points."""
        if self.cells is not None:
            return (4 * self.cells[0] * self.cells[1], 2, 3)
        return SHAPES.get(self.kind, (self.size // 2, 2))

    def __repr__(self) -> str:
        return self.name

    def zoomed(self, share: float) -> tuple[float, ...]:
        """Return the P parameters of the map that samples the central part of the image.

        Parameters
        ----------
        share : float
            Length of this part relative to the image's sides: 1 is the identity, less zooms in.

        Returns
        -------
        tuple of float

        Raises
        ------
        ValueError
            If the share is not positive and finite, or if the transform cannot zoom.

        Examples
        --------
        >>> from numba_stn.transforms import affine
        >>> affine.zoomed(0.5)
        (0.5, 0.0, 0.0, 0.0, 0.5, 0.0)
        """
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < np.inf:
            raise ValueError(f"zoom: expected a positive number, got {share!r}")
        if share != 1 and not self.scales:
            raise ValueError(f"zoom: {self.name} cannot zoom, expected 1, got {share!r}")
        return tuple(
            value * float(share) if number in self.scales else value
            for number, value in enumerate(self.identity)
        )

    def theta(self, params: Array) -> Array:
        """Compute theta ``(N, *shape)`` of the params (N, P), in their dtype and library.

        Raises
        ------
        ValueError, TypeError
            If ``params`` has the wrong shape or is not floating.
        """
        return self.forward(self._check(params))

    def vjp(self, dtheta: Array, params: Array) -> Array:
        """Compute the gradient (N, P) with respect to the parameters from that of theta.

        Raises
        ------
        ValueError, TypeError
            If ``params`` or ``dtheta`` has the wrong shape or is not floating.
        """
        params, dtheta = self._check(params), as_array(dtheta, "dtheta")
        if dtheta.dtype.kind != "f":
            raise TypeError(f"dtheta: expected float32 or float64, got {dtheta.dtype}")
        if dtheta.shape != (len(params), *self.shape):
            raise ValueError(
                f"dtheta: expected shape {(len(params), *self.shape)}, got {dtheta.shape}"
            )
        return self.backward(dtheta, params)

    def _check(self, params):
        """Return params (N, P) of float32 or float64."""
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
    """Return the transform of this name; a transform is returned as it is.

    ``name -> Transform``

    Parameters
    ----------
    transform : str or Transform

    Returns
    -------
    Transform

    Raises
    ------
    ValueError
        If there is no transform of this name; the message lists the names.

    Examples
    --------
    >>> from numba_stn.transforms import by_name
    >>> by_name("similarity").size
    4
    """
    if isinstance(transform, Transform):
        return transform
    return look_up("transform", transform, TRANSFORMS)


# --- Thin-plate splines ---------------------------------------------------------------------------


def tps(k: int = 4, regularisation: float = 0.0) -> Transform:
    """Create the transform of thin-plate splines with k x k control points.

    ``k -> Transform: params (N, 2 k * k) -> control (N, k * k, 2)``

    The parameters are the sampling positions of :func:`numba_stn.control_points`, point by point, x
    before y; see :func:`numba_stn.warp_tps`. The transform named "tps" is the paper's, with 16
    points.

    Parameters
    ----------
    k : int
        Points per side, at least 2.
    regularisation : float
        0: the spline passes through the points. Above 0: a smoother spline only comes near them.

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


# --- Piecewise-affine velocities ------------------------------------------------------------------


def cpab(cells: int | Sequence[int] = 3, fixed_border: bool = True) -> Transform:
    """Create the transform of continuous piecewise-affine velocity fields.

    ``cells -> Transform: params (N, P) -> theta (N, T, 2, 3)``

    The square [-1, 1] x [-1, 1] is divided into cells, each of four triangles. In each triangle the
    velocity is affine, ``theta[t] @ (x, y, 1)``, and it is continuous across the edges (Freifeld et
    al. 2017; Detlefsen et al. 2018). The map is where the velocity takes the points in time 1, see
    :func:`numba_stn.deformations.integrate_velocity`; it does not fold, and -params gives its
    inverse.

    The parameters are the velocities of the vertices, x before y: those of the cells' corners, row
    by row, then those of their middles, without those that are fixed. They are a basis of the null
    space of the continuity constraints.

    Parameters
    ----------
    cells : int, or two of them
        Numbers of rows and columns of cells.
    fixed_border : bool
        Whether nothing flows across the border of the square, which then is mapped to itself.

    Returns
    -------
    Transform

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or value; the message names it.

    Examples
    --------
    >>> from numba_stn.transforms import cpab
    >>> cpab(2), cpab(2).size, cpab(2, fixed_border=False).size
    (cpab(2, 2), 14, 26)
    """
    return _cpab(check_cells(cells), check_flag("fixed_border", fixed_border))


@lru_cache
def _cpab(cells, fixed_border):
    """The one transform of these cells, so that two are equal."""
    basis = velocity_basis(cells, fixed_border)

    def forward(params):
        return (params @ basis.T.astype(params.dtype)).reshape(len(params), -1, 2, 3)

    def backward(dtheta, params):
        return dtheta.reshape(len(params), -1) @ basis.astype(dtheta.dtype)

    name = f"cpab({cells[0]}, {cells[1]}{'' if fixed_border else ', fixed_border=False'})"
    identity = (0.0,) * basis.shape[1]
    return Transform(name, identity, forward, backward, "cpab", cells=cells)


# --- Composition ----------------------------------------------------------------------------------


def compose(*transforms: str | Transform, name: str | None = None) -> Transform:
    """Compose transforms: the last one is applied to an output point first.

    ``transforms of P1, P2, ... parameters -> Transform of P1 + P2 + ... parameters``

    The parameters are those of the transforms in order. If one of them is projective, so is the
    composition.

    Parameters
    ----------
    *transforms : Transform or str
        At least one; affine or projective, of the plane.
    name : str, optional
        Name of the composition; by default, the names joined by " * ".

    Returns
    -------
    Transform

    Raises
    ------
    ValueError
        If no transform is given, or one is a spline or a transform of volumes.

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
        """Return each transform's theta, and its params."""
        split = np.split(params, ends, axis=1)
        thetas = [t.forward(part) for t, part in zip(parts, split, strict=True)]
        return thetas if kind == "affine" else [with_last_row(theta) for theta in thetas], split

    def forward(params):
        thetas, _ = factors(params)
        product = thetas[0]
        for theta in thetas[1:]:
            product = compose_unchecked(product, theta)
        return product

    def backward(dtheta, params):
        thetas, split = factors(params)
        products = [thetas[0]]
        for theta in thetas[1:-1]:
            products.append(compose_unchecked(products[-1], theta))
        dparams = []
        for k in range(len(parts) - 1, 0, -1):
            dtheta, dlast = compose_unchecked_vjp(dtheta, products[k - 1], thetas[k])
            dparams.append(parts[k].vjp(dlast[:, : parts[k].shape[0]], split[k]))
        dparams.append(parts[0].vjp(dtheta[:, : parts[0].shape[0]], split[0]))
        return np.concatenate(dparams[::-1], axis=1)

    identity = tuple(value for transform in parts for value in transform.identity)
    # At the identity it makes no difference which factor zooms; the first that can does.
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
