"""Random augmentation: one affine map for each image of a batch, in one warp."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.warps import warp_affine
from ..utils.namespace import as_array, namespace
from ..utils.schema import flag, number

__all__ = ["augment"]

# Largest angles in degrees.
MOST_ROTATE, MOST_SHEAR = 360.0, 80.0


def augment(
    images: Any,
    rng: np.random.Generator,
    *,
    rotate: float = 0.0,
    scale: float = 0.0,
    translate: float = 0.0,
    shear: float = 0.0,
    flip: bool = False,
    mode: str = "bilinear",
    padding_mode: str = "border",
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
) -> tuple[Any, np.ndarray]:
    """Rotate, scale, shift, shear and mirror each image at random, in one warp for the batch.

    ``images (N, C, H, W) -> augmented (N, C, H, W), theta (N, 2, 3)``

    Every image gets a map of its own. Angles are those seen in the picture, whether or not it is
    square. The same generator gives the same bits on any number of threads.

    Parameters
    ----------
    images : (N, C, H, W) array, or (N, H, W, C) with ``layout="NHWC"``
        Of a dtype that :func:`numba_stn.warp_affine` takes, uint8 for example. The dtype is kept.
    rng : numpy.random.Generator
        Draws the maps, the same number of values whatever the options are.
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
    mode, padding_mode, fill, layout
        As in :func:`numba_stn.warp_affine`.

    Returns
    -------
    augmented : array of the images' shape and dtype
    theta : (N, 2, 3) array of float64
        The maps: ``augmented`` is ``warp_affine(images, theta)`` with the same options.

    Raises
    ------
    ValueError, TypeError
        If an argument is of the wrong type or out of range; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> images = np.full((4, 32, 32, 3), 7, np.uint8)
    >>> rng = np.random.default_rng(0)
    >>> augmented, theta = stn.augment(images, rng, rotate=10, scale=0.1, layout="NHWC")
    >>> augmented.shape, augmented.dtype.name, theta.shape
    ((4, 32, 32, 3), 'uint8', (4, 2, 3))
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
    sides = images.shape[1:3] if layout == "NHWC" else images.shape[2:]
    theta = random_maps(rng, len(images), sides, **options)
    on_device = namespace(images).asarray(theta)
    augmented = warp_affine(images, on_device, mode=mode, padding_mode=padding_mode, fill=fill,
                            layout=layout)  # fmt: skip
    return augmented, theta


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
