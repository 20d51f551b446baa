"""Sampling at lists of points, and its transpose: splatting values onto images.

Points are (N, P, 2), or (N, P, 3) in volumes. They are normalised like the coordinates of a grid, x
before y before z. Internally they are a grid of another shape, so they have all modes and paddings
of :func:`numba_stn.grid_sample`.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from .docstrings import documented
from .grid_sample import grid_sample, grid_sample_vjp
from .validate import (
    LAYOUTS,
    check_array,
    check_not_empty,
    check_output_size,
    check_wrt,
    choose_backend,
    look_up,
)

__all__ = ["sample_points", "sample_points_vjp", "splat", "splat_vjp"]

Array = Any

# A list of at least MIN_POINTS becomes a grid of ROWS rows, if they divide it, so that threads
# share the rows.
ROWS, MIN_POINTS = 64, 4096

VALUE_DTYPES = (np.dtype("float32"), np.dtype("float64"), np.dtype("float16"))


# --- sample_points --------------------------------------------------------------------------------


@documented
def sample_points(
    images: Array,
    points: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    stream: Any = None,
) -> Array:
    """Sample images at lists of points.

    ``images (N, C, H, W), points (N, P, 2) -> samples (N, C, P)``

    Parameters
    ----------
    {images, points}
    {mode, padding_mode, align_corners, fill, layout, stream}

    Returns
    -------
    samples : (N, C, P) array of the images' dtype
        (N, P, C) if the layout has the channels last.

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> stn.sample_points(image, np.array([[[0.0, 0.0], [-0.5, -0.5]]]))
    array([[[1.5, 0. ]]])
    """
    points = _check_array("points", points)
    _check_dims(images, points)
    channels_last = _channels_last(layout)
    samples = grid_sample(
        images, _as_grid(points), mode=mode, padding_mode=padding_mode, align_corners=align_corners,
        fill=fill, layout=layout, stream=stream,
    )  # fmt: skip
    shape, count = tuple(samples.shape), points.shape[1]
    if channels_last:
        return samples.reshape((shape[0], count, shape[-1]))
    return samples.reshape((*shape[:2], count))


@documented
def sample_points_vjp(
    dsamples: Array,
    images: Array,
    points: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("images", "points"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Compute the gradients of :func:`sample_points` with respect to the images and the points.

    ``dsamples (N, C, P) -> dimages (N, C, H, W), dpoints (N, P, 2)``

    Parameters
    ----------
    {dsamples}
    images, points
        The inputs of :func:`sample_points`.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`sample_points`.
    {wrt}

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
    dpoints : array of the points' shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, points = np.arange(4.0).reshape(1, 1, 2, 2), np.zeros((1, 1, 2))
    >>> stn.sample_points_vjp(np.ones((1, 1, 1)), image, points)[1]
    array([[[1., 2.]]])
    """
    points = _check_array("points", points)
    _check_dims(images, points)
    dsamples = _check_values("dsamples", dsamples, points, layout)
    wanted, grid = check_wrt(wrt, ("images", "points")), _as_grid(points)
    dimages, dgrid = grid_sample_vjp(
        _as_samples(dsamples, grid, layout), images, grid, mode=mode, padding_mode=padding_mode,
        align_corners=align_corners, fill=fill, layout=layout, stream=stream,
        wrt=[name for name, want in zip(("images", "grid"), wanted, strict=True) if want],
    )  # fmt: skip
    return dimages, None if dgrid is None else dgrid.reshape(points.shape)


# --- splat ----------------------------------------------------------------------------------------


@documented
def splat(
    values: Array,
    points: Array,
    size: tuple[int, ...],
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    layout: str = "NCHW",
    stream: Any = None,
) -> Array:
    """Distribute values over the pixels around points: the transpose of :func:`sample_points`.

    ``values (N, C, P), points (N, P, 2) -> images (N, C, H, W)``

    A value is added to the pixels from which its point would be sampled, with the same weights. So
    ``<splat(values), images> = <values, sample_points(images)>`` for any images, with a fill of 0.

    Parameters
    ----------
    values : (N, C, P) array of float32, float64 or float16
        (N, P, C) if the layout has the channels last.
    {points}
    size : (H, W) or (D, H, W)
        Sides of the images.
    {mode, padding_mode, align_corners, layout, stream}

    Returns
    -------
    images : (N, C, H, W) or (N, C, D, H, W) array of the values' dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> points = np.array([[[0.0, 0.0], [-0.5, -0.5]]])
    >>> stn.splat(np.array([[[4.0, 10.0]]]), points, (2, 2))
    array([[[[11.,  1.],
             [ 1.,  1.]]]])
    """
    points = _check_array("points", points)
    values = _check_values("values", values, points, layout, VALUE_DTYPES)
    grid, sides = _as_grid(points), check_output_size(size, len(points), points.shape[2])
    kernels, found = choose_backend(stream, values=values)
    shape = _images_shape(found, sides, layout)
    images = kernels.returned(kernels.empty(shape, found.dtype, found))
    return grid_sample_vjp(
        _as_samples(values, grid, layout), images, grid, mode=mode, padding_mode=padding_mode,
        align_corners=align_corners, layout=layout, wrt=("images",), stream=stream,
    )[0]  # fmt: skip


@documented
def splat_vjp(
    dimages: Array,
    values: Array,
    points: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    layout: str = "NCHW",
    wrt: Collection[str] = ("values", "points"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Compute the gradients of :func:`splat` with respect to the values and the points.

    ``dimages (N, C, H, W) -> dvalues (N, C, P), dpoints (N, P, 2)``

    Parameters
    ----------
    dimages : (N, C, H, W) or (N, C, D, H, W) array of the values' dtype
        Gradient of the loss with respect to the images.
    values, points
        The inputs of :func:`splat`.
    mode, padding_mode, align_corners, layout, stream
        The options given to :func:`splat`.
    {wrt}

    Returns
    -------
    dvalues : array of the values' shape and dtype, or None
    dpoints : array of the points' shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> points, dimages = np.zeros((1, 1, 2)), np.arange(4.0).reshape(1, 1, 2, 2)
    >>> stn.splat_vjp(dimages, np.ones((1, 1, 1)), points)
    (array([[[1.5]]]), array([[[1., 2.]]]))
    """
    wanted, points = check_wrt(wrt, ("values", "points")), _check_array("points", points)
    values = _check_values("values", values, points, layout, VALUE_DTYPES)
    kernels, found = choose_backend(None, dimages=dimages)
    expected = _images_shape(values, [None] * points.shape[2], layout)
    check_array("dimages", found, expected, (values.dtype,))
    check_not_empty("dimages", found.shape[1:-1] if _channels_last(layout) else found.shape[2:])
    dimages = kernels.returned(found)  # contiguous, for both gradients
    options: dict[str, Any] = {
        "mode": mode, "padding_mode": padding_mode, "align_corners": align_corners,
        "layout": layout, "stream": stream,
    }  # fmt: skip
    dvalues = sample_points(dimages, points, **options) if wanted[0] else None
    if not wanted[1]:
        return dvalues, None
    return dvalues, sample_points_vjp(values, dimages, points, wrt=("points",), **options)[1]


# --- Checks ---------------------------------------------------------------------------------------


def _check_array(name, array):
    """Return an array of three axes, where it is."""
    kernels, found = choose_backend(None, **{name: array})
    if len(found.shape) != 3 or (name == "points" and found.shape[2] not in (2, 3)):
        expected = "(N, P, 2) or (N, P, 3)" if name == "points" else "(N, C, P)"
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(found.shape)}")
    if name == "points":
        check_array(name, found, (None, None, None))
        if not found.shape[1]:
            raise ValueError(f"points: expected at least one, got shape {tuple(found.shape)}")
    return kernels.returned(found)


def _check_values(name, values, points, layout, dtypes=None):
    """Return values, one per channel and point, of one of these dtypes."""
    values, sides = _check_array(name, values), points.shape[:2]
    shape = (*sides, None) if _channels_last(layout) else (sides[0], None, sides[1])
    return check_array(name, values, shape, dtypes or (values.dtype,))


def _check_dims(images, points):
    """Raise an error for points of planes with volumes, and of volumes with planes."""
    shape = getattr(images, "shape", None)
    if shape is None:  # a list, or not an array at all
        shape = choose_backend(None, images=images)[1].shape
    dims = len(shape) - 2
    if dims in (2, 3) and points.shape[2] != dims:
        expected = f"(N, P, {dims}) for images of shape {tuple(shape)}"
        raise ValueError(f"points: expected shape {expected}, got {tuple(points.shape)}")


def _channels_last(layout):
    """Return whether the channels are last."""
    return look_up("layout", layout, LAYOUTS)


# --- Points as a grid -----------------------------------------------------------------------------


def _images_shape(values, sides, layout):
    """Return the shape of images of these sides with the values' batch and channels."""
    batch, *axes = values.shape
    return (batch, *sides, axes[1]) if _channels_last(layout) else (batch, axes[0], *sides)


def _as_grid(points):
    """Return points as a grid (N, rows, columns, 2) or (N, 1, rows, columns, 3)."""
    batch, count, dims = points.shape
    rows = ROWS if count >= MIN_POINTS and count % ROWS == 0 else 1
    return points.reshape((batch, *[1] * (dims - 2), rows, count // rows, dims))


def _as_samples(values, grid, layout):
    """Return the values of points in the shape of the grid's samples."""
    shape, sides = tuple(values.shape), tuple(grid.shape[1:-1])
    if _channels_last(layout):
        return values.reshape((shape[0], *sides, shape[2]))
    return values.reshape((*shape[:2], *sides))
