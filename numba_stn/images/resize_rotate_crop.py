"""Turn, resize and crop NumPy images (H, W) or (H, W, C): :func:`numba_stn.warp_image` by name.

Each function is one matrix for :func:`numba_stn.warp_image`. A pixel is a square: pixel (x, y) has
its centre at the whole numbers (x, y) and covers half a pixel to each side. A point to turn about
is given, as there, by whole numbers at pixels' centres; a box by whole numbers at pixels' edges, as
in a slice, so that all of an image is the box (0, 0, W, H).
"""

import math
from typing import Any

import numpy as np

from ..kernels import on_gpu
from ..ops.validate import (
    MAX_SIDE,
    check_finite,
    check_flag,
    check_image_shape,
    choose_kernels_for_image,
)
from .warp_image import warp_image

__all__ = ["crop_and_resize", "resize", "rotate"]

# What a canvas may cut off, in pixels: as much as the sines of common angles are wrong, and more.
_TOLERANCE = 1e-6


# --- Turn -----------------------------------------------------------------------------------------


def rotate(
    image: Any,
    degrees: float,
    *,
    center: Any = None,
    zoom: float = 1.0,
    expand: bool = False,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    fill: Any = 0,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Turn an image about a point; a positive angle turns it counter-clockwise, as one sees it.

    With rows drawn downwards, that is: 90 degrees bring the right edge to the top, as ``np.rot90``
    does. Multiples of 90 degrees are exact.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array of uint8, uint16, float32 or float64
        As :func:`numba_stn.warp_image` takes it.
    degrees : number
        How far to turn.
    center : (x, y), optional
        The point that stays where it is; pixel centres are whole numbers. The image's middle,
        ((W - 1) / 2, (H - 1) / 2), if not given.
    zoom : number
        How many times larger the image becomes.
    expand : bool
        Whether the canvas grows (or shrinks, with the zoom) to the least whole number of pixels
        that holds all of the turned image, whose middle is then the canvas's; ``center`` would
        have no effect, and must be None.
    mode, padding_mode, fill, stream
        As in :func:`numba_stn.warp_image`.
    out : array, optional
        Where to write the result.

    Returns
    -------
    out : (H, W) or (H, W, C) array of the image's dtype; with ``expand``, of the canvas's sides

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    See Also
    --------
    numba_stn.warp_image : With any matrix.

    Notes
    -----
    Without ``expand`` it is ``cv2.warpAffine(image, cv2.getRotationMatrix2D(center, degrees, zoom),
    (W, H))``, ``skimage.transform.rotate(image, degrees, center=center)``,
    ``scipy.ndimage.rotate(image, degrees, reshape=False, order=1, mode="grid-constant")`` and
    ``kornia.geometry.transform.rotate``. The canvas of ``expand`` is ``|H cos| + |W sin|`` by
    ``|H sin| + |W cos|`` pixels, rounded up; SciPy's ``reshape=True`` rounds to the nearest, and
    scikit-image's ``resize=True`` measures between the centres of pixels.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.uint8([[1, 2, 3], [4, 5, 6]])
    >>> stn.rotate(image, 90, expand=True)
    array([[3, 6],
           [2, 5],
           [1, 4]], dtype=uint8)
    >>> stn.rotate(image, 180)
    array([[6, 5, 4],
           [3, 2, 1]], dtype=uint8)
    >>> stn.rotate(image, 90, center=(0, 0), fill=9)
    array([[1, 4, 9],
           [9, 9, 9]], dtype=uint8)
    """
    image, sides = _check_image(image, stream)
    turn, factor = _rotation_matrix(degrees), _check_zoom(zoom)
    middle = _centre(sides)
    if check_flag("expand", expand):
        if center is not None:
            raise ValueError(f"center: expected None with expand=True, got {center!r}")
        shape = _expanded_shape(sides, turn, factor)
        matrix = _affine_about(turn / factor, middle, _centre(shape))
    else:
        shape = sides
        if center is not None:
            middle = check_finite("center", center, "two finite numbers (x, y)", _is_pair)
        matrix = _affine_about(turn / factor, middle, middle)
    return warp_image(
        image, matrix, shape, mode=mode, padding_mode=padding_mode, fill=fill, out=out,
        stream=stream,
    )  # fmt: skip


def _rotation_matrix(degrees):
    """(2, 2) matrix from offsets in the turned image to offsets in the image itself."""
    angle = float(check_finite("degrees", degrees, "a finite number", _is_number))
    cos, sin = _cos_sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _check_zoom(zoom):
    wanted = "a positive, finite number"
    factor = float(check_finite("zoom", zoom, wanted, _is_number))
    if factor <= 0:
        raise ValueError(f"zoom: expected {wanted}, got {zoom!r}")
    return factor


def _cos_sin(degrees):
    """Cosine and sine of an angle; of whole quarter turns, exactly."""
    rest = math.remainder(degrees, 90)
    quarters = round((math.remainder(degrees, 360) - rest) / 90)
    cos, sin = math.cos(math.radians(rest)), math.sin(math.radians(rest))
    for _ in range(quarters % 4):
        cos, sin = -sin, cos
    return cos, sin


def _expanded_shape(sides, turn, zoom):
    """Sides of the least image that holds all of the turned one."""
    width, height = zoom * (np.abs(turn) @ sides[::-1])
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"zoom: expected at most {MAX_SIDE} pixels a side of the canvas, "
                         f"got {zoom}")  # fmt: skip
    return tuple(max(1, math.ceil(side - _TOLERANCE)) for side in (height, width))


def _affine_about(linear, point, target):
    """The affine matrix with this linear part that takes ``target`` to ``point``."""
    return np.column_stack([linear, point - linear @ target])


def _centre(sides):
    """(x, y) of an image's middle, in units of pixels whose centres are whole numbers."""
    return (np.array(sides[::-1], float) - 1) / 2


# --- Resize and crop ------------------------------------------------------------------------------


def resize(
    image: Any,
    shape: tuple[int, int],
    *,
    mode: str = "bilinear",
    padding_mode: str = "border",
    fill: Any = 0,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Stretch or shrink an image to a shape, so that its outer edges stay its outer edges.

    Between pixels the image is the weighted mean of its four neighbours, however much it shrinks:
    nothing is averaged besides, so that fine patterns come out false at less than half the size.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array of uint8, uint16, float32 or float64
        As :func:`numba_stn.warp_image` takes it.
    shape : (H_out, W_out)
        The output's sides.
    mode, padding_mode, fill, stream
        As in :func:`numba_stn.warp_image`; an enlarged image reads up to half a pixel outside.
    out : array, optional
        Where to write the result.

    Returns
    -------
    out : (H_out, W_out) or (H_out, W_out, C) array of the image's dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    See Also
    --------
    crop_and_resize : The same for a part of the image.

    Notes
    -----
    It is ``cv2.resize(image, (W_out, H_out))`` with INTER_LINEAR,
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``,
    ``skimage.transform.resize(image, shape, order=1, mode="edge", anti_aliasing=False)``,
    ``scipy.ndimage.zoom(image, zoom, order=1, mode="nearest", grid_mode=True)`` and
    ``kornia.geometry.transform.resize(align_corners=False)``.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.resize(np.float32([[0, 4]]), (1, 4))
    array([[0., 1., 3., 4.]], dtype=float32)
    >>> stn.resize(np.uint8([[0, 10], [20, 30]]), (1, 1))
    array([[15]], dtype=uint8)
    """
    image, sides = _check_image(image, stream)
    shape = check_image_shape(shape)
    return warp_image(
        image, _box_matrix((0, 0, sides[1], sides[0]), shape), shape, mode=mode,
        padding_mode=padding_mode, fill=fill, out=out, stream=stream,
    )  # fmt: skip


def crop_and_resize(
    image: Any,
    boxes: Any,
    shape: tuple[int, int],
    *,
    mode: str = "bilinear",
    padding_mode: str = "border",
    fill: Any = 0,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Cut one box, or each of several, out of an image and bring it to a shape.

    A box (x0, y0, x1, y1) is that of a slice, ``image[y0:y1, x0:x1]``, but may have fractions:
    numbers count the edges of pixels, so that all of an image is (0, 0, W, H). It may reach
    outside. The result is what :func:`resize` would make of the box, but that pixels next to it
    count where there are any: at a box's edge, the image does not end.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array of uint8, uint16, float32 or float64
        As :func:`numba_stn.warp_image` takes it. All boxes read it where it is; a strided one on
        the CPU is copied once.
    boxes : (4,) or (K, 4) array
        One box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, or K of them.
    shape : (H_out, W_out)
        What each box is brought to.
    mode, padding_mode, fill, stream
        As in :func:`numba_stn.warp_image`.
    out : array, optional
        Where to write the result.

    Returns
    -------
    out : (H_out, W_out[, C]) or (K, H_out, W_out[, C]) array of the image's dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    See Also
    --------
    resize : All of the image.
    numba_stn.warp_affine : Many crops of a batch, with gradients.

    Notes
    -----
    Where nothing shrinks, it is Pillow's ``image.resize((W_out, H_out),
    Image.Resampling.BILINEAR, box=box)`` for each box. ``tf.image.crop_and_resize`` and
    ``kornia.geometry.transform.crop_and_resize`` take for (x0, y0, x1, y1) the centres of pixels
    that become the centres of the output's corners: with ``dx = (x1 - x0) / (W_out - 1)``, their x0
    and x1 are our ``x0 + (1 - dx) / 2`` and ``x1 + (1 + dx) / 2``, and y alike.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.uint8([[0, 10, 20, 30], [40, 50, 60, 70]])
    >>> stn.crop_and_resize(image, (1, 0, 3, 2), (2, 2))
    array([[10, 20],
           [50, 60]], dtype=uint8)
    >>> stn.crop_and_resize(image, [(0, 0, 4, 2), (0.5, 0, 2.5, 1)], (1, 2))
    array([[[25, 45]],
           [[ 5, 15]]], dtype=uint8)
    """
    kernels, held = choose_kernels_for_image(image, stream)
    image = image if on_gpu(image) else held
    shape, boxes = check_image_shape(shape), _check_boxes(boxes)
    options = {"mode": mode, "padding_mode": padding_mode, "fill": fill, "stream": stream}
    if boxes.ndim == 1:
        return warp_image(image, _box_matrix(boxes, shape), shape, out=out, **options)
    crops = kernels.output((len(boxes), *shape, *held.shape[2:]), held, held, out, stream)
    each = kernels.returned(crops)
    for k, box in enumerate(boxes):
        warp_image(image, _box_matrix(box, shape), shape, out=each[k], **options)
    return kernels.returned(crops, out)


def _box_matrix(box, shape):
    """The matrix that spreads a box (x0, y0, x1, y1) of pixels' edges over an output."""
    x0, y0, x1, y1 = box
    dx, dy = (x1 - x0) / shape[1], (y1 - y0) / shape[0]
    return np.array([[dx, 0, x0 + (dx - 1) / 2], [0, dy, y0 + (dy - 1) / 2]])


# --- Checks ---------------------------------------------------------------------------------------


def _check_image(image, stream):
    """The image as ``warp_image`` will take it without another copy, and its sides."""
    _, held = choose_kernels_for_image(image, stream)
    return (image if on_gpu(image) else held), held.shape[:2]


def _check_boxes(boxes):
    wanted = "finite numbers (x0, y0, x1, y1), or (K, 4) of them"
    found = check_finite("boxes", boxes, wanted, _is_boxes)
    empty = (found[..., :2] >= found[..., 2:]).any(-1)
    if empty.any():
        first = found[empty][0].tolist()
        raise ValueError(f"boxes: expected x0 < x1 and y0 < y1, got (x0, y0, x1, y1) = {first}")
    return found


def _is_number(shape):
    return shape == ()


def _is_pair(shape):
    return shape == (2,)


def _is_boxes(shape):
    return len(shape) in (1, 2) and shape[-1] == 4
