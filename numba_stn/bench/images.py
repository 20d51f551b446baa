"""Rows of warp_image: one NumPy image (H, W, C), warped by a matrix of pixels."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import warps
from .rows import ROUNDING, MissingError, Row, Runner, installed, own

# Whole numbers may differ by a grey level of 255 and a half: weights are rounded, or the result.
GREY = 1.5 / 255


class Image(NamedTuple):
    """An image (H, W, C), output pixel to input pixel (2, 3), and the same map normalised."""

    image: Any
    matrix: Any
    theta: Any


def picture(dtype, height, width):
    """A smooth random picture, from 0 to 1, or to 255 in whole numbers."""
    images, theta, _ = warps.problem((1, 3, height, width))
    image = np.ascontiguousarray(images[0].transpose(1, 2, 0))
    if np.dtype(dtype).kind == "u":
        image = np.rint(image * np.iinfo(dtype).max).astype(dtype)
    return Image(image, warps.pixel_matrix(theta[0], height, width), theta)


def ours(p):
    """warp_image into an array that is there."""
    run = partial(own("warp_image"), p.image, p.matrix, out=np.empty_like(p.image))
    return Runner(run, warps.batched)


def torch_warp(p):
    """PyTorch's two calls on its own layout (N, C, H, W)."""
    if p.image.dtype.kind != "f":
        raise MissingError("PyTorch samples floating images")
    images = np.ascontiguousarray(p.image.transpose(2, 0, 1)[None])
    return warps.torch_forward(warps.Warp(images, p.theta))


def cv2_warp(p):
    """OpenCV's warpAffine."""
    cv2, sides = installed("cv2"), p.image.shape[1::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    run = partial(cv2.warpAffine, p.image, p.matrix, sides, np.empty_like(p.image), flags=flags)
    return Runner(run, warps.batched, _tolerance(p))


def skimage_warp(p):
    """Scikit-image's warp; its result is floating, and not rounded here."""
    return warps.skimage_warp(p.image, p.matrix)._replace(tolerance=_tolerance(p))


def scipy_warp(p):
    """SciPy's affine_transform, a channel at a time."""
    return warps.scipy_warp(p.image, p.matrix)._replace(tolerance=_tolerance(p))


def _tolerance(p):
    return GREY if p.image.dtype.kind == "u" else ROUNDING


def row(dtype):
    """Row: a picture of the size of a film frame."""
    makers = {"ours": ours, "torch": torch_warp, "cv2": cv2_warp, "skimage": skimage_warp,
              "scipy": scipy_warp}  # fmt: skip
    return Row("warp_image", partial(picture, dtype, 1080, 1920), makers)


ROWS = {f"warp_image {dtype} 1080x1920x3": row(dtype) for dtype in ("uint8", "float32")}
