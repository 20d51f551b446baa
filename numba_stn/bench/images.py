"""Rows of warp_image: one NumPy image (H, W, C), warped by a matrix between pixels."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import ipp, warps
from .rows import (
    COARSE,
    ROUNDING,
    MissingError,
    Row,
    Runner,
    kornia_rs_function,
    peer_module,
    stn_function,
)

# Libraries round the weights or only the result, so values of uint8 may differ by 1.5.
UINT8_TOLERANCE = 1.5 / 255


class ImageProblem(NamedTuple):
    """An image (H, W, C), the matrix (2, 3) from output to input pixels, and the same as theta."""

    image: Any
    matrix: Any
    theta: Any


def problem(dtype, height, width, channels=3):
    """A smooth random image, from 0 to 1, or to 255 for uint8."""
    images, theta, _ = warps.problem((1, channels, height, width))
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


def ipp_warp(p):
    """Intel IPP's warp, by all threads."""
    return Runner(ipp.warp(p.image, p.matrix), warps.batched, max(_tolerance(p), COARSE))


def kornia_rs_warp(p):
    """kornia-rs's warp_affine, whose matrices map input pixels to output pixels."""
    warp = kornia_rs_function("warp_affine")
    if p.image.dtype != np.uint8 or p.image.shape[2] != 3:
        raise MissingError("kornia_rs warps uint8 colours")
    whole = np.linalg.inv(np.vstack([p.matrix, [0, 0, 1]]))[:2]
    run = partial(warp, p.image, tuple(whole.ravel().tolist()), p.image.shape[:2], "bilinear")
    return Runner(run, warps.batched, _tolerance(p))


def pillow_warp(p):
    """Pillow's transform, whose positions are of pixels' corners."""
    pillow = peer_module("PIL.Image")
    if p.image.dtype != np.uint8:
        raise MissingError("Pillow warps uint8 images")
    (a, b, c), (d, e, f) = p.matrix.tolist()
    corners = a, b, c + 0.5 - (a + b) / 2, d, e, f + 0.5 - (d + e) / 2
    image = pillow.fromarray(p.image[..., 0] if p.image.shape[2] == 1 else p.image)
    run = partial(image.transform, image.size, pillow.Transform.AFFINE, corners,
                  pillow.Resampling.BILINEAR)  # fmt: skip
    return Runner(run, lambda found: warps.batched(np.asarray(found)), _tolerance(p))


def _tolerance(p):
    return UINT8_TOLERANCE if p.image.dtype.kind == "u" else ROUNDING


def row(dtype, height, width, channels):
    """Row: an image that is warped."""
    makers = {"ours": stn_warp, "torch": torch_warp, "cv2": cv2_warp, "ipp": ipp_warp,
              "kornia_rs": kornia_rs_warp, "pillow": pillow_warp, "skimage": skimage_warp,
              "scipy": scipy_warp}  # fmt: skip
    return Row("warp_image", partial(problem, dtype, height, width, channels), makers)


ROWS = {
    f"warp_image {dtype} {height}x{width}" + "x3" * (channels == 3): row(
        dtype, height, width, channels
    )
    for height, width, channels in ((1080, 1920, 3), (1080, 1920, 1), (256, 256, 3), (64, 64, 1))
    for dtype in ("uint8", "float32")
}
