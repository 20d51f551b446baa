"""How a transformer's gradient with respect to theta is computed: exactly, or linearised."""

import math
from dataclasses import dataclass
from typing import Any

from ..ops.grid_sample import affine_grid, affine_grid_vjp
from ..ops.linearised import draw_offsets, grid_sample_linearised_vjp
from ..ops.tps_grid import tps_grid, tps_grid_vjp
from ..ops.warp_cpab import cpab_grid, cpab_grid_vjp
from ..transforms.parametrisations import Transform


@dataclass(frozen=True)
class Linearised:
    """See :func:`linearised`."""

    spread: float = 4.0
    count: int = 16
    seed: int = 0

    def __post_init__(self):
        """Check the numbers."""
        draw_offsets(3, self.spread, self.count, self.seed)

    def theta_gradient(
        self, transform: Transform, dsamples: Any, images: Any, theta: Any, options: dict[str, Any]
    ) -> Any:
        """Gradient with respect to theta."""
        grid, back = _grid(transform, theta, dsamples.shape[2:], options["align_corners"])
        numbers: dict[str, Any] = {"spread": self.spread, "count": self.count, "seed": self.seed}
        return back(grid_sample_linearised_vjp(dsamples, images, grid, **numbers, **options))


def linearised(spread: float = 4.0, count: int = 16, seed: int = 0) -> Linearised:
    """Compute the gradient with respect to theta by linearised multi-sampling.

    For ``spatial_transformer(..., gradient=linearised())``; ``gradient="linearised"`` is the same.
    The output and the gradient with respect to the images stay exact; see
    :func:`numba_stn.grid_sample_linearised_vjp` (Jiang et al. 2019). It costs ``count`` samplings.

    Parameters
    ----------
    spread : float
        How far around a position the slope is measured: a standard deviation, in pixels of the
        images.
    count : int
        Number of positions; even, at least 6.
    seed : int
        Of the positions.

    Returns
    -------
    Linearised

    Raises
    ------
    ValueError, TypeError
        If a number is out of range or of the wrong type.

    Examples
    --------
    >>> from numba_stn import nn
    >>> layer = nn.spatial_transformer(nn.flatten(), gradient=nn.linearised(spread=6.0))
    >>> layer.gradient
    Linearised(spread=6.0, count=16, seed=0)
    """
    return Linearised(spread, count, seed)


def check_gradient_kind(name: str, transform: Transform, gradient: Any) -> Linearised | None:
    """The gradient of a layer: None if it is exact."""
    if gradient == "linearised":
        gradient = Linearised()
    if gradient == "exact" or gradient is None:
        return None
    if not isinstance(gradient, Linearised):
        raise ValueError(
            f'{name}: gradient: expected "exact", "linearised" or linearised(...), got {gradient!r}'
        )
    if transform.kind == "projective":
        raise ValueError(f"{name}: gradient: expected exact for {transform}, got {gradient!r}")
    return gradient


def _grid(transform, theta, size, align_corners):
    """The grid of a transform's theta, and its pullback."""
    options: dict[str, Any] = {"align_corners": align_corners}
    if transform.kind == "tps":
        options["regularisation"] = transform.regularisation
        k = math.isqrt(theta.shape[1])
        return (
            tps_grid(theta, size, **options),
            lambda dgrid: tps_grid_vjp(dgrid, k, **options),
        )
    if transform.kind == "cpab":
        return (
            cpab_grid(theta, size, transform.cells, align_corners),
            lambda dgrid: cpab_grid_vjp(dgrid, theta, transform.cells, align_corners),
        )
    return affine_grid(theta, size, **options), lambda dgrid: affine_grid_vjp(dgrid, **options)
