"""Samples at lists of points, and their transpose: values spread over the pixels around points.

Points are (N, P, 2), or (N, P, 3) in volumes, normalised as a grid's coordinates are, x before y
before z. They are a grid of another shape, so all of :func:`numba_stn.grid_sample`'s modes and
paddings hold for them.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from .grid_sample import grid_sample, grid_sample_vjp
from .validate import (
    LAYOUTS,
    check_array,
    check_not_empty,
    check_output_size,
    check_wrt,
    choose_kernels,
    look_up,
)

__all__ = ["sample_points", "sample_points_vjp", "splat", "splat_vjp"]

Array = Any

# A list as long is taken as so many rows of a grid, where it can be, so that threads share them.
ROWS, MIN_POINTS = 64, 4096

VALUE_DTYPES = (np.dtype("float32"), np.dtype("float64"), np.dtype("float16"))


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
    """Read images at lists of points.

    Parameters
    ----------
    images : (N, C, H, W) or (N, C, D, H, W) array of float32, float64, float16, uint8 or uint16
        With N = 1, one image is read by every list.
    points : (N, P, 2) or (N, P, 3) array of float32 or float64
        Normalised coordinates, x before y before z.
    mode, padding_mode, align_corners, fill, layout, stream
        As in :func:`numba_stn.grid_sample`.

    Returns
    -------
    samples : (N, C, P) array of the images' dtype
        (N, P, C) where the layout has the channels last.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> stn.sample_points(image, np.array([[[0.0, 0.0], [-0.5, -0.5]]]))
    array([[[1.5, 0. ]]])
    """
    points = _check_array("points", points)
    _check_dims(images, points)
    last = _channels_last(layout)
    samples = grid_sample(
        images, _as_grid(points), mode=mode, padding_mode=padding_mode, align_corners=align_corners,
        fill=fill, layout=layout, stream=stream,
    )  # fmt: skip
    shape, count = tuple(samples.shape), points.shape[1]
    return samples.reshape((shape[0], count, shape[-1]) if last else (*shape[:2], count))


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
    """Gradients of :func:`sample_points` with respect to the images and the points.

    Parameters
    ----------
    dsamples : array of the samples' shape
        Gradient of the loss with respect to the samples; of the images' dtype, or float32 where
        the images are integers.
    images, points, mode, padding_mode, align_corners, fill, layout, stream
        As given to :func:`sample_points`.
    wrt : collection of {"images", "points"}
        The gradients wanted. One that is not asked for is None and costs nothing.

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
    dpoints : array of the points' shape and dtype, or None

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

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
    """Spread values over the pixels around points: the transpose of :func:`sample_points`.

    ``<splat(values), images> = <values, sample_points(images)>`` for any images, with a fill of 0.
    A value is added to the pixels that its point would be read from, with the same weights.

    Parameters
    ----------
    values : (N, C, P) array of float32, float64 or float16
        (N, P, C) where the layout has the channels last.
    points : (N, P, 2) or (N, P, 3) array of float32 or float64
        Normalised coordinates, x before y before z.
    size : (H, W) or (D, H, W)
        Sides of the images.
    mode, padding_mode, align_corners, layout, stream
        As in :func:`numba_stn.grid_sample`.

    Returns
    -------
    images : (N, C, H, W) or (N, C, D, H, W) array of the values' dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

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
    kernels, held = choose_kernels(stream, values=values)
    shape = _images_shape(held, sides, layout)
    images = kernels.returned(kernels.empty(shape, held.dtype, held))
    return grid_sample_vjp(
        _as_samples(values, grid, layout), images, grid, mode=mode, padding_mode=padding_mode,
        align_corners=align_corners, layout=layout, wrt=("images",), stream=stream,
    )[0]  # fmt: skip


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
    """Gradients of :func:`splat` with respect to the values and the points.

    Parameters
    ----------
    dimages : (N, C, H, W) or (N, C, D, H, W) array of the values' dtype
        Gradient of the loss with respect to the images.
    values, points, mode, padding_mode, align_corners, layout, stream
        As given to :func:`splat`.
    wrt : collection of {"values", "points"}
        The gradients wanted. One that is not asked for is None and costs nothing.

    Returns
    -------
    dvalues : array of the values' shape and dtype, or None
    dpoints : array of the points' shape and dtype, or None

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> points, dimages = np.zeros((1, 1, 2)), np.arange(4.0).reshape(1, 1, 2, 2)
    >>> stn.splat_vjp(dimages, np.ones((1, 1, 1)), points)
    (array([[[1.5]]]), array([[[1., 2.]]]))
    """
    wanted, points = check_wrt(wrt, ("values", "points")), _check_array("points", points)
    values = _check_values("values", values, points, layout, VALUE_DTYPES)
    kernels, held = choose_kernels(None, dimages=dimages)
    expected = _images_shape(values, [None] * points.shape[2], layout)
    check_array("dimages", held, expected, (values.dtype,))
    check_not_empty("dimages", held.shape[1:-1] if _channels_last(layout) else held.shape[2:])
    dimages = kernels.returned(held)  # contiguous, for both gradients
    options: dict[str, Any] = {
        "mode": mode, "padding_mode": padding_mode, "align_corners": align_corners,
        "layout": layout, "stream": stream,
    }  # fmt: skip
    dvalues = sample_points(dimages, points, **options) if wanted[0] else None
    if not wanted[1]:
        return dvalues, None
    return dvalues, sample_points_vjp(values, dimages, points, wrt=("points",), **options)[1]


# --- Points as a grid -----------------------------------------------------------------------------


def _check_array(name, array):
    """An array that has a shape; what is on a GPU stays as it is."""
    kernels, held = choose_kernels(None, **{name: array})
    if len(held.shape) != 3 or (name == "points" and held.shape[2] not in (2, 3)):
        wanted = "(N, P, 2) or (N, P, 3)" if name == "points" else "(N, C, P)"
        raise ValueError(f"{name}: expected shape {wanted}, got {tuple(held.shape)}")
    if name == "points":
        check_array(name, held, (None, None, None))
        if not held.shape[1]:
            raise ValueError(f"points: expected one at least, got shape {tuple(held.shape)}")
    return kernels.returned(held)


def _check_values(name, values, points, layout, dtypes=None):
    """Values at points, a channel after another or together, of one of these dtypes."""
    values, sides = _check_array(name, values), points.shape[:2]
    shape = (*sides, None) if _channels_last(layout) else (sides[0], None, sides[1])
    return check_array(name, values, shape, dtypes or (values.dtype,))


def _check_dims(images, points):
    """Refuse points of planes for volumes, and the other way round."""
    shape = getattr(images, "shape", None)
    if shape is None:  # a list, or what is none
        shape = choose_kernels(None, images=images)[1].shape
    dims = len(shape) - 2
    if dims in (2, 3) and points.shape[2] != dims:
        wanted = f"(N, P, {dims}) for images of shape {tuple(shape)}"
        raise ValueError(f"points: expected shape {wanted}, got {tuple(points.shape)}")


def _images_shape(values, sides, layout):
    """The shape of images of these sides, of as many channels as the values have."""
    batch, *rest = values.shape
    return (batch, *sides, rest[1]) if _channels_last(layout) else (batch, rest[0], *sides)


def _channels_last(layout):
    """Whether channels stand last."""
    return look_up("layout", layout, LAYOUTS)


def _as_grid(points):
    """Points as a grid (N, rows, columns, 2), or (N, 1, rows, columns, 3)."""
    batch, count, dims = points.shape
    divided = count >= MIN_POINTS and count % ROWS == 0
    rows = ROWS if divided else 1
    return points.reshape((batch, *[1] * (dims - 2), rows, count // rows, dims))


def _as_samples(values, grid, layout):
    """Values of points in the shape of the grid's samples."""
    shape, last = tuple(values.shape), _channels_last(layout)
    sides = tuple(grid.shape[1:-1])
    return values.reshape((shape[0], *sides, shape[2]) if last else (*shape[:2], *sides))
