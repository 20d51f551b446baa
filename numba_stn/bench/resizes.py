"""Rows of resized images (H, W[, C]), with and without antialiasing, and of many crops."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .images import UINT8_TOLERANCE
from .rows import (
    ROUNDING,
    MissingError,
    Row,
    Runner,
    kornia_rs_function,
    peer_module,
    stn_function,
)

# OpenCV and Pillow round weights of uint8 to fixed point: values may differ by a grey level. Pillow
# and PyTorch also round between the two axes of a filter.
LEVEL, ROUNDED_TWICE = UINT8_TOLERANCE, UINT8_TOLERANCE + 1 / 255


class Resize(NamedTuple):
    """An image (H, W, C), and the sides of the output."""

    image: Any
    size: tuple
    filter: Any  # None, or the filter that antialiases


def problem(dtype, sides, size, channels, kind=None):
    """A smooth random image, from 0 to 1, or to 255 for uint8."""
    rng = np.random.default_rng(0)
    image = rng.random((*sides, channels), np.float32)
    image = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1)) / np.float32(3)
    if np.dtype(dtype).kind == "u":
        image = np.rint(image * 255).astype(dtype)
    return Resize(image[..., 0] if channels == 1 else image, size, kind)


def _image(found):
    return {"samples": np.asarray(found)}


def _tolerance(p):
    if p.image.dtype.kind == "f":
        return ROUNDING
    return ROUNDED_TWICE if p.filter else LEVEL


def stn_resize(p):
    """numba_stn's resize into an existing array."""
    out = np.empty((*p.size, *p.image.shape[2:]), p.image.dtype)
    options = {"out": out} if p.filter is None else {"out": out, "antialias": p.filter}
    return Runner(partial(stn_function("resize"), p.image, p.size, **options), _image)


def cv2_resize(p):
    """OpenCV's resize: INTER_LINEAR, or INTER_AREA for means over areas."""
    cv2 = peer_module("cv2")
    kinds = {None: cv2.INTER_LINEAR, "area": cv2.INTER_AREA}
    if p.filter not in kinds:
        raise MissingError("OpenCV has no such filter")
    out = np.empty((*p.size, *p.image.shape[2:]), p.image.dtype)
    run = partial(cv2.resize, p.image, p.size[::-1], out, interpolation=kinds[p.filter])
    return Runner(run, _image, _tolerance(p))


def torch_resize(p):
    """PyTorch's interpolate, in its own layout (N, C, H, W)."""
    torch = peer_module("torch")
    if p.filter not in (None, "triangle", "cubic"):
        raise MissingError("PyTorch has no such filter")
    if p.image.dtype.kind != "f" and p.filter is None:
        raise MissingError("PyTorch interpolates only floating-point images")
    planes = np.atleast_3d(p.image).transpose(2, 0, 1)[None]
    images = torch.as_tensor(np.ascontiguousarray(planes))
    options = {"mode": "bicubic" if p.filter == "cubic" else "bilinear", "align_corners": False,
               "antialias": p.filter is not None}  # fmt: skip
    resize = partial(torch.nn.functional.interpolate, images, p.size, **options)

    def run():
        with torch.no_grad():
            return resize()

    return Runner(run, partial(_first_image, p), _tolerance(p))


def _first_image(p, found):
    image = np.asarray(found)[0].transpose(1, 2, 0)
    return {"samples": image.reshape(*p.size, *p.image.shape[2:])}


def pillow_resize(p):
    """Pillow's resize, which always antialiases; its box filter is no mean over areas."""
    pillow = peer_module("PIL.Image")
    filters = {"triangle": "BILINEAR", "cubic": "BICUBIC", "lanczos3": "LANCZOS"}
    if p.filter not in filters or (p.image.dtype != np.uint8 and p.image.ndim == 3):
        raise MissingError("Pillow cannot do this")
    image, kind = pillow.fromarray(p.image), getattr(pillow.Resampling, filters[p.filter])
    return Runner(partial(image.resize, p.size[::-1], kind), _image, _tolerance(p))


def kornia_rs_resize(p):
    """kornia-rs's resize of uint8 colours, without antialiasing."""
    resize = kornia_rs_function("resize")
    if p.filter is not None or p.image.dtype != np.uint8 or p.image.ndim != 3:
        raise MissingError("kornia_rs resizes uint8 colours")
    run = partial(resize, p.image, p.size, interpolation="bilinear")
    return Runner(run, _image, UINT8_TOLERANCE)


RESIZE = {"ours": stn_resize, "cv2": cv2_resize, "torch": torch_resize, "pillow": pillow_resize,
          "kornia_rs": kornia_rs_resize}  # fmt: skip


def row(dtype, size, channels=1, kind=None, sides=(1080, 1920)):
    """Row: an image that is resized."""
    return Row("resize", partial(problem, dtype, sides, size, channels, kind), RESIZE)


# --- Crops ----------------------------------------------------------------------------------------


class Crops(NamedTuple):
    """An image, boxes of whole pixels (left, top, right, bottom), and the sides of each crop."""

    image: Any
    boxes: Any
    size: tuple


def crops_problem(count, size):
    """Boxes of 40 to 250 pixels in a photograph's size."""
    rng = np.random.default_rng(0)
    image = problem("uint8", (1080, 1920), None, 3).image
    corners = rng.integers(0, (1600, 800), (count, 2))
    return Crops(image, np.hstack([corners, corners + rng.integers(40, 250, (count, 1))]), size)


def stn_crops(p):
    """numba_stn's crop_and_resize into an existing array."""
    out = np.empty((len(p.boxes), *p.size, 3), np.uint8)
    return Runner(
        partial(stn_function("crop_and_resize"), p.image, p.boxes, p.size, out=out), _image
    )


def cv2_crops(p):
    """A loop of OpenCV's resize over slices."""
    cv2, out = peer_module("cv2"), np.empty((len(p.boxes), *p.size, 3), np.uint8)

    def run():
        for (left, top, right, bottom), crop in zip(p.boxes, out, strict=True):
            cv2.resize(p.image[top:bottom, left:right], p.size[::-1], crop)
        return out

    # Taps beside the box: OpenCV repeats its edge, and ours reads the image around it.
    return Runner(run, _image, 1.0)


def crops_row(count, size):
    """Row: boxes of an image, resized."""
    return Row("crop_and_resize", partial(crops_problem, count, size),
               {"ours": stn_crops, "cv2": cv2_crops})  # fmt: skip


_KINDS = (None, "area", "triangle", "cubic", "lanczos3")

ROWS = {
    **{
        f"resize {dtype} 1080x1920 to {size[0]}x{size[1]}": row(dtype, size)
        for dtype in ("uint8", "float32")
        for size in ((540, 960), (2160, 3840), (1081, 1921), (224, 398))
    },
    "resize uint8 256x256x3 to 100x100": row("uint8", (100, 100), 3, sides=(256, 256)),
    **{
        f"resize {kind} uint8 1080x1920x3 to 224x398": row("uint8", (224, 398), 3, kind)
        for kind in _KINDS[1:]
    },
    "resize area float32 1080x1920 to 540x960": row("float32", (540, 960), 1, "area"),
    "resize triangle float32 1080x1920 to 224x398": row("float32", (224, 398), 1, "triangle"),
    "crop_and_resize 64 boxes to 64x64x3": crops_row(64, (64, 64)),
}
