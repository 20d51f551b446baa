"""Sample an image at given positions, and polar images: :func:`remap` and functions built on it."""

from typing import Any

import numpy as np

from ..kernels.cpu import coordinate_arrays
from ..ops.any_dtype import check_dtype
from ..ops.docstrings import documented
from ..ops.grid_sample import grid_sample
from ..ops.grids import compute_normalisation
from ..ops.validate import (
    BATCH_DTYPES,
    MODES,
    check_image_shape,
    choose_backend,
    corner_offset,
    look_up,
)
from ..transforms import maps

__all__ = ["remap", "unwarp_polar", "warp_polar"]

# The rows that a sample reads beyond an image's: two for a cubic, and more for a spline, whose
# coefficients depend on all rows, but not on those that are further away than these.
_RIMS = {"lanczos4": 4} | {f"spline{order}": 48 for order in (2, 3, 4, 5)}

# The positions whose grid is in memory at a time: 1 MiB, which a core's cache holds.
_POSITIONS = 2**16

# OpenCV's fixed-point maps have 5 bits of each fraction.
_FRACTION = 32.0


@documented
def remap(
    image: Any,
    map_x: Any,
    map_y: Any = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    fill: Any = 0,
) -> np.ndarray:
    """Sample an image at the position that is given for each output pixel.

    ``image (H, W[, C]), map_x (H_out, W_out), map_y (H_out, W_out) -> out (H_out, W_out[, C])``

    Parameters
    ----------
    image : (H, W) or (H, W, C) array
        Of the dtypes of :func:`numba_stn.warp_image`, by the same rules; on the CPU.
    map_x, map_y : (H_out, W_out) arrays
        Position in the image, with pixel centres at integers; NaN is outside. Or the fixed-point
        maps of ``cv2.convertMaps``: ``map_x`` (H_out, W_out, 2) of int16 with the whole parts of x
        and y, and ``map_y`` (H_out, W_out) of uint16 with both fractions in 32nds, or None.
    {mode}
    {image_padding_mode, image_fill}

    Returns
    -------
    out : (H_out, W_out) or (H_out, W_out, C) array of the image's dtype

    Raises
    ------
    {errors}

    See Also
    --------
    numba_stn.maps : Maps of swirls, meshes and lenses.
    numba_stn.grid_sample : The same for batches, with gradients.

    Notes
    -----
    The result is that of ``cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR)`` and of
    ``skimage.transform.warp(image, np.stack([map_y, map_x]), order=1)``. With ``mode="spline3"``
    and ``padding_mode="mirror"`` it is that of ``scipy.ndimage.map_coordinates(image, [map_y,
    map_x], mode="mirror")``.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.uint8([[0, 10, 20], [30, 40, 50]])
    >>> stn.remap(image, [[0.5, 2]], [[0, 1]])
    array([[ 5, 50]], dtype=uint8)
    """
    image, (x, y) = _check_image(image, mode), _positions(map_x, map_y)
    factors, centres = compute_normalisation(image.shape[:2], corner_offset(False))
    batch = image.reshape(1, *image.shape[:2], -1)
    out = np.empty((1, *x.shape, batch.shape[3]), image.dtype)
    rows = max(1, _POSITIONS // x.shape[1])
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        grid = coordinate_arrays.joined(x[part], y[part], centres, factors)
        grid_sample(batch, grid[None], mode=mode, padding_mode=padding_mode, fill=fill,
                    layout="NHWC", out=out[:, part])  # fmt: skip
    return out.reshape(*x.shape, *image.shape[2:])


def _check_image(image, mode):
    """Return an image (H, W) or (H, W, C) of a dtype that is sampled."""
    _, image = choose_backend(None, image=image)
    if not isinstance(image, np.ndarray):
        raise TypeError("image: expected a NumPy array, got an array on a GPU, for which there is "
                        "grid_sample")  # fmt: skip
    check_dtype("image", image, BATCH_DTYPES, look_up("mode", mode, MODES))
    if image.ndim not in (2, 3) or 0 in image.shape[:2]:
        raise ValueError(f"image: expected shape (H, W) or (H, W, C), got {image.shape}")
    return image


def _positions(map_x, map_y):
    """Return x and y (H_out, W_out), float32 or float64, from one of the forms of maps."""
    map_x = np.asarray(map_x)
    if map_x.dtype == np.int16 and map_x.ndim == 3:
        return _from_fixed_point(map_x, map_y)
    try:
        both_single = map_x.dtype == np.asarray(map_y).dtype == np.float32
        kind = np.float32 if both_single else np.float64
        x, y = (np.ascontiguousarray(each, kind) for each in (map_x, map_y))
    except (TypeError, ValueError):
        raise TypeError("map_x, map_y: expected arrays of numbers") from None
    if x.ndim != 2 or x.shape != y.shape or not x.size:
        raise ValueError(f"map_x, map_y: expected two arrays (H_out, W_out), or (H_out, W_out, 2) "
                         f"of int16 and (H_out, W_out) of uint16, got {x.shape} of {map_x.dtype} "
                         f"and {y.shape}")  # fmt: skip
    return x, y


def _from_fixed_point(whole, fractions):
    """Add whole parts and 32nds: the index of a fraction is 32 times that of y, plus that of x."""
    if whole.shape[2] != 2 or not whole.size:
        raise ValueError(f"map_x: expected (H_out, W_out, 2) of int16, got {whole.shape}")
    x, y = (whole[..., axis].astype(np.float64) for axis in range(2))
    if fractions is None:
        return x, y
    fractions = np.asarray(fractions)
    if fractions.dtype != np.uint16 or fractions.shape != whole.shape[:2]:
        raise ValueError(f"map_y: expected {whole.shape[:2]} of uint16, as cv2.convertMaps returns "
                         f"with int16, got {fractions.shape} of {fractions.dtype}")  # fmt: skip
    return x + (fractions & 31) / _FRACTION, y + (fractions >> 5 & 31) / _FRACTION


@documented
def warp_polar(
    image: Any,
    size: tuple[int, int],
    center: Any,
    radius: float,
    *,
    log: bool = False,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    fill: Any = 0,
) -> np.ndarray:
    """Unroll an image around a point: rows become angles, columns become distances.

    ``image (H, W[, C]) -> out (H_out, W_out[, C])``

    Row i has the angle ``2 pi i / H_out``, from x towards y; column j has the distance
    ``j radius / W_out``, or with ``log`` the distance ``radius^(j / W_out)``.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array
        As for :func:`remap`.
    size : (H_out, W_out)
        The numbers of angles and of distances.
    center : (x, y)
        The point, in pixels.
    radius : number
        Distance of the column after the last, in pixels.
    log : bool
        Whether the distance grows by a constant factor.
    {mode}
    {image_padding_mode, image_fill}

    Returns
    -------
    out : (H_out, W_out) or (H_out, W_out, C) array of the image's dtype

    Raises
    ------
    {errors}

    See Also
    --------
    unwarp_polar : The inverse.
    numba_stn.polar_grid : The grid for batches, with gradients.

    Notes
    -----
    The result is that of ``skimage.transform.warp_polar(image, (y, x), radius=radius,
    output_shape=size)``, also with ``scaling="log"``, and of ``cv2.warpPolar``, except that its
    logarithmic distance is one less.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(25.0).reshape(5, 5)
    >>> stn.warp_polar(image, (4, 2), (2, 2), 2.0).round(9)
    array([[12., 13.],
           [12., 17.],
           [12., 11.],
           [12.,  7.]])
    """
    x, y = maps.polar(size, center, radius, log=log)
    return remap(image, x, y, mode=mode, padding_mode=padding_mode, fill=fill)


@documented
def unwarp_polar(
    image: Any,
    size: tuple[int, int],
    center: Any,
    radius: float,
    *,
    log: bool = False,
    mode: str = "bilinear",
    fill: Any = 0,
) -> np.ndarray:
    """Roll a polar image up again: the inverse of :func:`warp_polar`.

    ``image (H, W[, C]) -> out (H_out, W_out[, C])``

    Angles between the last row and the first are interpolated between both. Pixels that are more
    than ``radius`` from the centre are outside.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array
        A polar image, with H angles and W distances.
    size : (H_out, W_out)
        The output's sides.
    center : (x, y)
        The point around which the output is rolled up, in its pixels.
    radius, log
        As given to :func:`warp_polar`.
    {mode}
    {image_fill}

    Returns
    -------
    out : (H_out, W_out) or (H_out, W_out, C) array of the image's dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> polar = np.float32([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]])  # rings of one value
    >>> stn.unwarp_polar(polar, (3, 3), (1, 1), 3.0).round(3)
    array([[2.414, 2.   , 2.414],
           [2.   , 1.   , 2.   ],
           [2.414, 2.   , 2.414]], dtype=float32)
    """
    image = _check_image(image, mode)
    rim = _RIMS.get(mode, 2)
    whole = image[np.arange(-rim, len(image) + rim) % len(image)]
    x, y = maps.from_polar(check_image_shape(size), image.shape[:2], center, radius, log=log)
    return remap(whole, x, y + rim, mode=mode, padding_mode="fill", fill=fill)
