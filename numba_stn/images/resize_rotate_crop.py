"""Rotate, resize and crop NumPy images (H, W) or (H, W, C).

Each function computes a matrix for :func:`numba_stn.warp_image`. A pixel is a square: pixel (x, y)
has its centre at the integers (x, y) and extends half a pixel to each side. The centre of a
rotation has these coordinates, with integers at pixel centres. A box has integers at pixel edges,
as in a slice, so that the whole image is the box (0, 0, W, H).
"""

import functools
import math
from typing import Any

import numpy as np

from ..kernels.math.sampler_kind import AFFINE
from ..ops.docstrings import documented
from ..ops.validate import (
    MAX_SIDE,
    check_finite,
    check_flag,
    check_image_shape,
)
from . import dask_images
from .alpha import premultiplied
from .antialias import check_on_cpu, filter_of, resize_filtered
from .canvas import cos_sin, tie_shift, with_matrix
from .dask_images import choose_kernels
from .filters import AREA
from .patches import Filtered, Warp
from .pixel_maps import as_affine, check_matrix, check_sampler
from .warp_image import warp_antialiased, warp_by

__all__ = ["crop_and_resize", "resize", "rotate"]

# Pixels that a canvas may cut off, so that rounding errors of sines do not enlarge it.
_TOLERANCE = 1e-6


# --- Rotate ---------------------------------------------------------------------------------------


@documented
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
    alpha: bool = False,
    antialias: bool = False,
    out: Any = None,
    stream: Any = None,
    return_matrix: bool = False,
) -> Any:
    """Rotate an image about a point; positive angles are counter-clockwise.

    ``image (H, W[, C]) -> out (H, W[, C])``

    Counter-clockwise is meant as the image is displayed, with rows running downwards: 90 degrees
    bring the right edge to the top, as ``np.rot90`` does. Multiples of 90 degrees are exact.

    Parameters
    ----------
    {image}
    degrees : number
        Angle of the rotation.
    center : (x, y), optional
        Fixed point of the rotation; pixel centres are integers. By default, the image's centre,
        ((W - 1) / 2, (H - 1) / 2).
    zoom : number
        Factor by which the image is enlarged.
    expand : bool
        Whether the canvas grows (or shrinks, with the zoom) to the smallest integer size that holds
        the whole rotated image, centred. ``center`` would have no effect, and must be None.
    {image_mode, image_padding_mode, image_fill, image_alpha, image_antialias}
    {image_out, stream, return_matrix}

    Returns
    -------
    out : (H, W) or (H, W, C) array of the image's dtype; with ``expand``, of the canvas's sides

    Raises
    ------
    {errors}

    See Also
    --------
    numba_stn.warp_image : Warps by any matrix.

    Notes
    -----
    Without ``expand``, the result is that of ``cv2.warpAffine(image,
    cv2.getRotationMatrix2D(center, degrees, zoom), (W, H))``, of ``skimage.transform.rotate(image,
    degrees, center=center)``, of ``scipy.ndimage.rotate(image, degrees, reshape=False, order=1,
    mode="grid-constant")`` and of ``kornia.geometry.transform.rotate``. With ``expand``, the canvas
    has ``|H cos| + |W sin|`` by ``|H sin| + |W cos|`` pixels, rounded up; SciPy's ``reshape=True``
    rounds to the nearest integer, and scikit-image's ``resize=True`` measures between pixel
    centres.

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
    if alpha:
        return premultiplied(rotate, image, degrees, center=center, zoom=zoom, expand=expand,
                             mode=mode, padding_mode=padding_mode, fill=fill, out=out,
                             antialias=antialias, stream=stream,
                             return_matrix=return_matrix)  # fmt: skip
    kernels, image = choose_kernels(image, stream, out)
    sides = shape = image.shape[:2]
    cos, sin = cos_sin(_check_number("degrees", degrees, "a finite number"))
    factor = _check_zoom(zoom)
    fixed = target = _centre(sides)
    if check_flag("expand", expand):
        if center is not None:
            raise ValueError(f"center: expected None with expand=True, got {center!r}")
        shape = _expanded_shape(sides, cos, sin, factor)
        target = _centre(shape)
    elif center is not None:
        expected = "two finite numbers (x, y)"
        fixed = target = check_finite("center", center, expected, _is_pair).tolist()
    matrix = _rotation_about(cos / factor, sin / factor, fixed, target)
    options = mode, padding_mode, fill
    if antialias is False:
        rotated = warp_by(kernels, image, matrix, options, shape, out, stream)
    else:
        rotated = warp_antialiased(kernels, image, matrix, options, shape, antialias, out, stream)
    return with_matrix(rotated, matrix[1]) if return_matrix else rotated


def _check_number(name, value, expected):
    """Return a finite number as a float."""
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    return float(check_finite(name, value, expected, _is_number))


def _check_zoom(zoom):
    """Return a positive zoom."""
    expected = "a positive, finite number"
    factor = _check_number("zoom", zoom, expected)
    if factor <= 0:
        raise ValueError(f"zoom: expected {expected}, got {zoom!r}")
    return factor


def _expanded_shape(sides, cos, sin, zoom):
    """Return the sides of the smallest image that holds the whole rotated image."""
    (h, w), cos, sin = sides, abs(cos), abs(sin)
    width, height = zoom * (cos * w + sin * h), zoom * (sin * w + cos * h)
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"zoom: expected a canvas of at most {MAX_SIDE} pixels per side, "
                         f"got {zoom}")  # fmt: skip
    return tuple(max(1, math.ceil(side - _TOLERANCE)) for side in (height, width))


def _rotation_about(cos, sin, point, target):
    """Return the map from offsets to rotated offsets that takes ``target`` to ``point``."""
    (x, y), (u, v) = point, target
    return as_affine(cos, -sin, x - (cos * u - sin * v), sin, cos, y - (sin * u + cos * v))


def _centre(sides):
    """Return (x, y) of an image's centre, in pixels whose centres are integers."""
    return (sides[1] - 1) / 2, (sides[0] - 1) / 2


# --- Resize and crop ------------------------------------------------------------------------------


@documented
def resize(
    image: Any,
    shape: tuple[int, int],
    *,
    mode: str = "bilinear",
    padding_mode: str = "border",
    fill: Any = 0,
    alpha: bool = False,
    antialias: bool | str = False,
    out: Any = None,
    stream: Any = None,
    return_matrix: bool = False,
) -> Any:
    """Resize an image to a shape; its outer edges remain its outer edges.

    ``image (H, W[, C]) -> out (H_out, W_out[, C])``

    In bilinear mode, each output pixel is the weighted mean of four input pixels, however much the
    image shrinks, so fine patterns are aliased below half the size; with ``antialias`` it is the
    mean over its area. An enlarged image samples up to half a pixel outside the input.

    Parameters
    ----------
    {image}
    shape : (H_out, W_out)
        The output's sides.
    {image_mode, image_padding_mode, image_fill, image_alpha, image_filter}
    {image_out, stream, return_matrix}

    Returns
    -------
    out : (H_out, W_out) or (H_out, W_out, C) array of the image's dtype

    Raises
    ------
    {errors}

    See Also
    --------
    crop_and_resize : The same for a part of the image.

    Notes
    -----
    The result is that of ``cv2.resize(image, (W_out, H_out))`` with INTER_LINEAR, of
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``, of
    ``skimage.transform.resize(image, shape, order=1, mode="edge", anti_aliasing=False)``, of
    ``scipy.ndimage.zoom(image, zoom, order=1, mode="nearest", grid_mode=True)`` and of
    ``kornia.geometry.transform.resize(align_corners=False)``. With ``antialias=True`` it is that
    of ``torch.nn.functional.interpolate(antialias=True)`` and of Pillow.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.resize(np.float32([[0, 4]]), (1, 4))
    array([[0., 1., 3., 4.]], dtype=float32)
    >>> stn.resize(np.uint8([[0, 10], [20, 30]]), (1, 1))
    array([[15]], dtype=uint8)
    """
    if alpha:
        return premultiplied(resize, image, shape, mode=mode, padding_mode=padding_mode, fill=fill,
                             antialias=antialias, out=out, stream=stream,
                             return_matrix=return_matrix)  # fmt: skip
    kernels, image = choose_kernels(image, stream, out)
    shape, options = check_image_shape(shape), (mode, padding_mode, fill)
    name = None if antialias is False else filter_of(antialias, mode, padding_mode)
    if name == AREA and image.shape[:2] == (2 * shape[0], 2 * shape[1]):
        name, options = None, ("bilinear", padding_mode, fill)  # the same means, of four pixels
    if name is None:
        matrix = _resize_matrix(image.shape[:2], shape, options[0] == "nearest")
        resized = warp_by(kernels, image, matrix, options, shape, out, stream)
    else:
        whole = np.array([0.0, 0.0, image.shape[1], image.shape[0]])
        resized = _filtered(kernels, image, whole, options, shape, name, out, stream)
    exact = _resize_matrix(image.shape[:2], shape, False)[1]
    return with_matrix(resized, exact) if return_matrix else resized


@documented
def crop_and_resize(
    image: Any,
    boxes: Any,
    shape: tuple[int, int],
    *,
    mode: str = "bilinear",
    padding_mode: str = "border",
    fill: Any = 0,
    alpha: bool = False,
    antialias: bool | str = False,
    out: Any = None,
    stream: Any = None,
    return_matrix: bool = False,
) -> Any:
    """Crop one or several boxes from an image and resize each to a shape.

    ``image (H, W[, C]), boxes (K, 4) -> out (K, H_out, W_out[, C])``

    A box (x0, y0, x1, y1) is that of a slice, ``image[y0:y1, x0:x1]``, but may have fractions.
    Coordinates are integers at pixel edges, so the whole image is (0, 0, W, H). A box may reach
    outside the image. The result is that of :func:`resize` on the box, except that samples near the
    box's edge also use the pixels outside the box, where the image has any.

    Parameters
    ----------
    {image}
    boxes : (4,) or (K, 4) array
        One box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, or K of them. All of them share the
        image; a strided image on the CPU is copied once.
    shape : (H_out, W_out)
        The output's sides, for each box.
    {image_mode, image_padding_mode, image_fill, image_alpha, image_filter}
    {image_out, stream, return_matrix}

    Returns
    -------
    out : (H_out, W_out[, C]) or (K, H_out, W_out[, C]) array of the image's dtype

    Raises
    ------
    {errors}

    See Also
    --------
    resize : Resizes the whole image.
    numba_stn.warp_affine : Crops from a batch of images, with gradients.

    Notes
    -----
    Where nothing shrinks, and otherwise with ``antialias=True``, the result is that of Pillow's
    ``image.resize((W_out, H_out), Image.Resampling.BILINEAR, box=box)`` for each box. In
    ``tf.image.crop_and_resize`` and ``kornia.geometry.transform.crop_and_resize``, (x0, y0, x1, y1)
    are the centres of the input pixels that become the centres of the output's corners: with ``dx =
    (x1 - x0) / (W_out - 1)``, their x0 and x1 are our ``x0 + (1 - dx) / 2`` and ``x1 + (1 + dx) /
    2``, and y likewise.

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
    if alpha:
        return premultiplied(crop_and_resize, image, boxes, shape, mode=mode, fill=fill, out=out,
                             padding_mode=padding_mode, antialias=antialias, stream=stream,
                             return_matrix=return_matrix)  # fmt: skip
    kernels, image = choose_kernels(image, stream, out)
    shape, boxes = check_image_shape(shape), _check_boxes(boxes)
    options = mode, padding_mode, fill
    name = None if antialias is False else filter_of(antialias, mode, padding_mode)
    if name is not None:
        crops = _filtered(kernels, image, boxes, options, shape, name, out, stream)
        exact = _box_matrices(np.atleast_2d(boxes), shape, False).reshape(*boxes.shape[:-1], 3, 3)
        return with_matrix(crops, exact) if return_matrix else crops
    if boxes.ndim == 1:
        matrix = _box_matrix(boxes.tolist(), shape, mode == "nearest")
        crop = warp_by(kernels, image, matrix, options, shape, out, stream)
        exact = _box_matrix(boxes.tolist(), shape, False)[1]
        return with_matrix(crop, exact) if return_matrix else crop
    matrices = _box_matrices(boxes, shape, mode == "nearest")
    crops = _warp_boxes(kernels, image, matrices, options, shape, out, stream)
    return with_matrix(crops, _box_matrices(boxes, shape, False)) if return_matrix else crops


def _warp_boxes(kernels, image, matrices, options, shape, out, stream):
    """Crop boxes by their matrices, (K, 3, 3)."""
    if kernels is dask_images:
        jobs = [Warp.of(image, check_matrix(each), options, shape) for each in matrices]
        return dask_images.compute_several(image, jobs)
    kind, fills = check_sampler(AFFINE, image, options)
    crops = kernels.output((len(matrices), *shape, *image.shape[2:]), image, image, out, stream)
    if crops.size:
        kernels.warp_crops(kind, image, matrices, fills, crops)
    return kernels.returned(crops, out)


def _filtered(kernels, image, boxes, options, shape, name, out, stream):
    """Resize boxes by the filter of this name."""
    check_sampler(AFFINE, image, options)
    check_on_cpu(kernels, stream)
    if kernels is dask_images:
        jobs = [Filtered.of(image, box, name, shape) for box in np.atleast_2d(boxes).tolist()]
        several = dask_images.compute_several(image, jobs)
        return several if boxes.ndim == 2 else several[0]
    return resize_filtered(kernels, image, boxes, shape, name, out)


@functools.lru_cache(512)
def _resize_matrix(sides, shape, nearest):
    """Return the map of a whole image; calls share its matrix, which nobody changes."""
    return _box_matrix((0, 0, sides[1], sides[0]), shape, nearest)


def _box_matrix(box, shape, nearest):
    """Return the map that stretches a box (x0, y0, x1, y1) of pixel edges over an output."""
    x0, y0, x1, y1 = box
    dx, dy = (x1 - x0) / shape[1], (y1 - y0) / shape[0]
    x, y = x0 + (dx - 1) / 2, y0 + (dy - 1) / 2
    if nearest:
        x += tie_shift(x0, x1 - x0, shape[1])
        y += tie_shift(y0, y1 - y0, shape[0])
    return as_affine(dx, 0.0, x, 0.0, dy, y)


def _box_matrices(boxes, shape, nearest):
    """Return the matrices of K boxes, (K, 3, 3)."""
    low, steps = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]) / shape[::-1]
    matrices = np.zeros((len(boxes), 3, 3))
    matrices[:, [0, 1], [0, 1]], matrices[:, :2, 2] = steps, low + (steps - 1) / 2
    matrices[:, 2, 2] = 1.0
    if nearest:
        for matrix, (x0, y0, x1, y1) in zip(matrices, boxes.tolist(), strict=True):
            matrix[0, 2] += tie_shift(x0, x1 - x0, shape[1])
            matrix[1, 2] += tie_shift(y0, y1 - y0, shape[0])
    return matrices


# --- Checks ---------------------------------------------------------------------------------------


def _check_boxes(boxes):
    """Return boxes (4,) or (K, 4) that are not empty."""
    expected = "finite numbers (x0, y0, x1, y1), or (K, 4) of them"
    found = check_finite("boxes", boxes, expected, _is_boxes)
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
