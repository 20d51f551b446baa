"""Random augmentation: one map for each image of a batch, and one interpolation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.tps_grid import control_points
from ..transforms.matrices import from_points
from ..utils.namespace import as_array
from ..utils.schema import flag, number
from .augmentation import Augmentation

__all__ = ["augment"]

# Largest angles in degrees, and largest shifts of corners and of control points in sides. With the
# latter no map folds an image.
MOST_ROTATE, MOST_SHEAR, MOST_PERSPECTIVE, MOST_ELASTIC = 360.0, 80.0, 0.2, 0.1

# Control points along a side of an elastic map.
ELASTIC_POINTS = 4


def augment(
    images: Any,
    rng: np.random.Generator,
    *,
    rotate: float = 0.0,
    scale: float = 0.0,
    translate: float = 0.0,
    shear: float = 0.0,
    flip: bool = False,
    perspective: float = 0.0,
    elastic: float = 0.0,
    mode: str = "bilinear",
    padding_mode: str = "border",
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
) -> tuple[Any, Augmentation]:
    """Distort each image of a batch at random, in one warp.

    ``images (N, C, H, W) -> augmented (N, C, H, W), maps``

    Every image gets a map of its own. The maps are returned: they move points, boxes and label
    images as they moved the pixels. Angles are those seen in the picture, whether or not it is
    square. The same generator gives the same bits on any number of threads.

    Parameters
    ----------
    images : (N, C, H, W) array, or (N, H, W, C) with ``layout="NHWC"``
        Of a dtype that :func:`numba_stn.warp_affine` takes, uint8 for example. The dtype is kept.
    rng : numpy.random.Generator
        Draws the maps, the same number of values whatever the options are; ``perspective`` and
        ``elastic`` draw further ones.
    rotate : float
        Largest angle in degrees; an image is rotated by up to this, in either direction.
    scale : float
        An image is enlarged by a factor from ``1 / (1 + scale)`` to ``1 + scale``; smaller and
        larger are equally likely.
    translate : float
        Largest shift along each axis, as a share of the image's side.
    shear : float
        Largest angle in degrees by which vertical lines are tilted, in either direction.
    flip : bool
        Whether half of the images are mirrored left to right.
    perspective : float
        Largest shift of each corner along each axis, as a share of the side, up to 0.2: the image
        is seen from the side. This comes after the options above.
    elastic : float
        Largest shift of each of 4 x 4 control points along each axis, as a share of the side, up to
        0.1. A thin-plate spline goes through the points. This comes last.
    mode, padding_mode, fill, layout
        As in :func:`numba_stn.warp_affine`.

    Returns
    -------
    augmented : array of the images' shape and dtype
    maps : Augmentation
        ``maps.theta`` has the maps of :func:`numba_stn.warp_affine`, or
        :func:`numba_stn.warp_perspective`; ``maps.warp(labels, mode="nearest")`` warps label
        images by the same maps, ``maps.transform_points(points)`` and
        ``maps.transform_boxes(boxes)`` move what is marked in the images.

    Raises
    ------
    ValueError, TypeError
        If an argument is of the wrong type or out of range; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> images = np.full((4, 32, 32, 3), 7, np.uint8)
    >>> rng = np.random.default_rng(0)
    >>> augmented, maps = stn.augment(images, rng, rotate=10, scale=0.1, layout="NHWC")
    >>> augmented.shape, augmented.dtype.name, maps.theta.shape
    ((4, 32, 32, 3), 'uint8', (4, 2, 3))
    >>> labels = np.zeros((4, 32, 32), np.int64)
    >>> maps.warp(labels, mode="nearest").shape
    (4, 32, 32)
    >>> maps.transform_points(np.ones((4, 5, 2))).shape
    (4, 5, 2)
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng: expected a numpy.random.Generator, as numpy.random.default_rng(0) gives it, "
            f"got {type(rng).__name__}"
        )
    if layout not in ("NCHW", "NHWC"):
        raise ValueError(f"layout: expected one of ['NCHW', 'NHWC'], got {layout!r}")
    images = as_array(images, "images")
    if images.ndim != 4:
        raise ValueError(f"images: expected shape ({', '.join(layout)}), got {images.shape}")
    options: dict[str, Any] = {
        "rotate": number(0, MOST_ROTATE)(rotate, "rotate"),
        "scale": number(0)(scale, "scale"),
        "translate": number(0)(translate, "translate"),
        "shear": number(0, MOST_SHEAR)(shear, "shear"),
        "flip": flag(flip, "flip"),
    }
    perspective = number(0, MOST_PERSPECTIVE)(perspective, "perspective")
    elastic = number(0, MOST_ELASTIC)(elastic, "elastic")
    sides = images.shape[1:3] if layout == "NHWC" else images.shape[2:]
    theta, control = random_maps(rng, len(images), sides, **options), None
    if perspective:
        theta = with_perspective(rng, theta, perspective)
    if elastic:
        control = elastic_control(rng, theta, elastic)
    maps = Augmentation(theta, control, sides, layout)
    return maps.warp(images, mode=mode, padding_mode=padding_mode, fill=fill), maps


def random_maps(
    rng: np.random.Generator,
    count: int,
    sides: tuple[int, int],
    rotate: float,
    scale: float,
    translate: float,
    shear: float,
    flip: bool,
) -> np.ndarray:
    """Draw the maps of :func:`augment`, theta (N, 2, 3), for images of these sides (H, W).

    In pixels from the image's centre, theta is ``(R S)^-1 / zoom`` after the shift, where R rotates
    and S shears; normalised coordinates are pixels times ``2 / side``.
    """
    angle, tilt, zoom, left, down, mirror = rng.uniform(-1, 1, (6, count))
    cos, sin = np.cos(np.radians(rotate * angle)), np.sin(np.radians(rotate * angle))
    slope = np.tan(np.radians(shear * tilt))
    linear = np.empty((count, 2, 2))  # the inverse of S, times that of R
    linear[:, 0] = np.stack([cos + slope * sin, slope * cos - sin], -1)
    linear[:, 1] = np.stack([sin, cos], -1)
    linear *= np.exp(-np.log1p(scale) * zoom)[:, None, None]
    height, width = (max(side, 1) for side in sides)
    linear *= np.array([[1, height / width], [width / height, 1]])
    if flip:
        linear[:, 0] *= np.where(mirror < 0, -1, 1)[:, None]
    shift = 2 * translate * np.stack([left, down], -1)
    return np.concatenate([linear, -linear @ shift[:, :, None]], 2)


def with_perspective(rng: np.random.Generator, theta: np.ndarray, share: float) -> np.ndarray:
    """Theta (N, 3, 3): first a projective map that moves the corners, then theta (N, 2, 3)."""
    corners = np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    moved = corners + 2 * share * rng.uniform(-1, 1, (len(theta), 4, 2))
    projective = from_points(np.broadcast_to(corners, moved.shape), moved)
    last = np.broadcast_to([[[0.0, 0.0, 1.0]]], (len(theta), 1, 3))
    return np.concatenate([theta, last], 1) @ projective


def elastic_control(rng: np.random.Generator, theta: np.ndarray, share: float) -> np.ndarray:
    """Control points (N, K, 2) of splines: the lattice, moved at random, then mapped by theta."""
    lattice = control_points(ELASTIC_POINTS)
    points = lattice + 2 * share * rng.uniform(-1, 1, (len(theta), len(lattice), 2))
    mapped = points @ theta[:, :, :2].swapaxes(1, 2) + theta[:, None, :, 2]
    return mapped[..., :2] / mapped[..., 2:] if theta.shape[1] == 3 else mapped
