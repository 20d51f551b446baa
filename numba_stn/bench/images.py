"""Rows of warp_image: one NumPy image (H, W, C), warped by a matrix between pixels."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import warps
from .rows import ROUNDING, MissingError, Row, Runner, peer_module, stn_function

# Libraries round the weights or only the result, so values of uint8 may differ by 1.5.
UINT8_TOLERANCE = 1.5 / 255


class ImageProblem(NamedTuple):
    """An image (H, W, C), the matrix (2, 3) from output to input pixels, and the same as theta."""

    image: Any
    matrix: Any
    theta: Any


def problem(dtype, height, width):
    """A smooth random image, from 0 to 1, or to 255 for uint8."""
    images, theta, _ = warps.problem((1, 3, height, width))
    image = np.ascontiguousarray(images[0].transpose(1, 2, 0))
    if np.dtype(dtype).kind == "u":
        image = np.rint(image * np.iinfo(dtype).max).astype(dtype)
    return ImageProblem(image, warps.pixel_matrix(theta[0], height, width), theta)


def stn_warp(p):
    """warp_image of numba_stn into an existing array."""
    run = partial(stn_function("warp_image"), p.image, p.matrix, out=np.empty_like(p.image))
    return Runner(run, warps.batched)


def torch_warp(p):
    """PyTorch's affine_grid and grid_sample, in its own layout (N, C, H, W)."""
    if p.image.dtype.kind != "f":
        raise MissingError("PyTorch samples only floating-point images")
    images = np.ascontiguousarray(p.image.transpose(2, 0, 1)[None])
    return warps.torch_forward(warps.Warp(images, p.theta))


def cv2_warp(p):
    """OpenCV's warpAffine."""
    cv2, sides = peer_module("cv2"), p.image.shape[1::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    run = partial(cv2.warpAffine, p.image, p.matrix, sides, np.empty_like(p.image), flags=flags)
    return Runner(run, warps.batched, _tolerance(p))


def skimage_warp(p):
    """scikit-image's warp; its result is floating-point and is not rounded here."""
    return warps.skimage_warp(p.image, p.matrix)._replace(tolerance=_tolerance(p))


def scipy_warp(p):
    """SciPy's affine_transform, one channel at a time."""
    return warps.scipy_warp(p.image, p.matrix)._replace(tolerance=_tolerance(p))


def _tolerance(p):
    return UINT8_TOLERANCE if p.image.dtype.kind == "u" else ROUNDING


def row(dtype):
    """Row: an image of 1080 x 1920 pixels."""
    makers = {"ours": stn_warp, "torch": torch_warp, "cv2": cv2_warp, "skimage": skimage_warp,
              "scipy": scipy_warp}  # fmt: skip
    return Row("warp_image", partial(problem, dtype, 1080, 1920), makers)


ROWS = {f"warp_image {dtype} 1080x1920x3": row(dtype) for dtype in ("uint8", "float32")}
