"""Gradients of samples with respect to their positions that see further than the next pixel.

The slope of a bilinear sample is the difference of the two pixels next to it. Where these are
equal, it is 0, however near the object is.
"""

from typing import Any

import numpy as np

from ..utils.namespace import as_array, namespace
from .docstrings import documented
from .grid_sample import grid_sample
from .grids import check_coordinates, half_sides, to_dtype_of
from .validate import check_integer, corner_offset

__all__ = ["grid_sample_linearised_vjp"]

Array = Any


@documented
def grid_sample_linearised_vjp(
    dsamples: Array,
    images: Array,
    grid: Array,
    *,
    spread: float = 4.0,
    count: int = 16,
    seed: int = 0,
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Array:
    """Compute the gradient with respect to the grid by linearised multi-sampling.

    ``dsamples (N, C, H_out, W_out) -> dgrid (N, H_out, W_out, 2)``

    The images are sampled bilinearly at ``count`` positions around each position of the grid, with
    offsets drawn from a normal distribution, and the slope of the sample is that of the linear
    function that fits these samples best, in the sense of least squares (Jiang et al. 2019). Such a
    slope points to an object that is a few ``spread`` away, where that of
    :func:`numba_stn.grid_sample_vjp` is 0. All positions have the same offsets, and for each offset
    there is another one of the opposite sign, so that the mean offset is 0.

    Parameters
    ----------
    {dsamples}
    images : (N, C, H, W) or (N, C, D, H, W) array of float32 or float64
        Of NumPy or CuPy.
    grid : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array of float32 or float64
        Normalised coordinates, x before y before z.
    spread : float
        Standard deviation of the offsets along each axis, in pixels of the images; positive.
    count : int
        Number of offsets; even, and at least twice the number of axes.
    seed : int
        Of the offsets. The same seed gives the same bits.
    padding_mode, align_corners
        As in :func:`numba_stn.grid_sample`.

    Returns
    -------
    dgrid : array of the grid's shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    A bright column, four pixels to the right of the position:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.zeros((1, 1, 9, 17))
    >>> image[..., 12] = 1
    >>> grid, dsamples = np.zeros((1, 1, 1, 2)), np.ones((1, 1, 1, 1))
    >>> float(stn.grid_sample_vjp(dsamples, image, grid)[1][0, 0, 0, 0])
    0.0
    >>> bool(stn.grid_sample_linearised_vjp(dsamples, image, grid)[0, 0, 0, 0] > 0)
    True
    """
    grid, images = as_array(grid, "grid"), as_array(images, "images")
    _, grid, dims = check_coordinates("grid", grid, whole=True)
    offsets = draw_offsets(dims, spread, count, seed)
    weights = np.linalg.pinv(offsets)  # (dims, count): from samples to slopes
    sides, off = tuple(images.shape[2:]), corner_offset(align_corners)
    options: dict[str, Any] = {"padding_mode": padding_mode, "align_corners": align_corners}
    dsamples = as_array(dsamples, "dsamples")
    expected = (*images.shape[:2], *grid.shape[1:-1])
    if dsamples.shape != expected:
        raise ValueError(f"dsamples: expected shape {expected}, got {dsamples.shape}")
    scale = half_sides(sides, off) if len(sides) == dims else np.ones(dims)
    steps = offsets / np.where(scale > 0, scale, 1)
    found = namespace(grid, images, dsamples).zeros(grid.shape, grid.dtype)
    for offset, weight in zip(steps, weights.T, strict=True):
        samples = grid_sample(images, grid + to_dtype_of(grid, offset), **options)
        product = (dsamples * samples).sum(1).astype(grid.dtype)
        found += product[..., None] * to_dtype_of(grid, weight * scale)
    return found


def draw_offsets(dims: int, spread: float, count: int, seed: int) -> np.ndarray:
    """Offsets (count, dims) in pixels; the second half is the first with the opposite sign."""
    if isinstance(spread, bool) or not isinstance(spread, (int, float, np.number)):
        raise TypeError(f"spread: expected a positive number, got {spread!r}")
    if not 0 < spread < np.inf:
        raise ValueError(f"spread: expected a positive number, got {spread!r}")
    if check_integer("count", count, 2 * dims) % 2:
        raise ValueError(f"count: expected an even number, got {count}")
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    half = spread * rng.standard_normal((count // 2, dims))
    return np.concatenate([half, -half])
