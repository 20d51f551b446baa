"""Rows of the other functions of single images: rotate, remap, polar coordinates, augmentation."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import grids, images, resizes
from .rows import COARSE, MissingError, Row, Runner, peer_module, stn_function

DEGREES = 30.0


class Remap(NamedTuple):
    """An image (H, W, C), and the input positions of the output's pixels, in pixels."""

    image: Any
    x: Any
    y: Any


def photograph(dtype, height, width, channels=3):
    """A smooth random image (H, W[, C])."""
    return resizes.problem(dtype, (height, width), None, channels).image


def _image(found):
    return {"samples": np.asarray(found)}


def _tolerance(image):
    return max(images.UINT8_TOLERANCE, COARSE) if image.dtype.kind == "u" else COARSE


# --- rotate ---------------------------------------------------------------------------------------


def stn_rotate(image):
    """``rotate`` of numba_stn into an existing array."""
    return Runner(partial(stn_function("rotate"), image, DEGREES, out=np.empty_like(image)), _image)


def cv2_rotate(image):
    """OpenCV's getRotationMatrix2D and warpAffine."""
    cv2, out, sides = peer_module("cv2"), np.empty_like(image), image.shape[1::-1]
    center = (sides[0] - 1) / 2, (sides[1] - 1) / 2

    def run():
        matrix = cv2.getRotationMatrix2D(center, DEGREES, 1)
        return cv2.warpAffine(image, matrix, sides, out, flags=cv2.INTER_LINEAR)

    return Runner(run, _image, _tolerance(image))


def pillow_rotate(image):
    """Pillow's rotate, of uint8."""
    pillow = peer_module("PIL.Image")
    if image.dtype != np.uint8:
        raise MissingError("Pillow rotates uint8 images")
    given = pillow.fromarray(image)
    return Runner(partial(given.rotate, DEGREES, pillow.Resampling.BILINEAR), _image, 4 / 255)


def skimage_rotate(image):
    """scikit-image's rotate."""
    run = partial(peer_module("skimage.transform").rotate, image, DEGREES, preserve_range=True)
    return Runner(run, _image, _tolerance(image))


def rotate_row(*shape):
    """Row: an image that is rotated about its centre."""
    makers: dict[str, Any] = {"ours": stn_rotate, "cv2": cv2_rotate, "pillow": pillow_rotate,
                              "skimage": skimage_rotate}  # fmt: skip
    return Row("rotate", partial(photograph, *shape), makers)


# --- remap ----------------------------------------------------------------------------------------


def remap_problem(dtype, side):
    """An image, and smooth random positions."""
    drawn = grids.problem(side)
    return Remap(photograph(dtype, side, side), *grids.pixels(drawn.grid, (side, side)))


def stn_remap(p):
    """``remap`` of numba_stn."""
    return Runner(partial(stn_function("remap"), p.image, p.x, p.y), _image)


def cv2_remap(p):
    """OpenCV's remap."""
    cv2 = peer_module("cv2")
    return Runner(partial(cv2.remap, p.image, p.x, p.y, cv2.INTER_LINEAR), _image,
                  _tolerance(p.image))  # fmt: skip


def remap_row(dtype, side):
    """Row: an image sampled at positions in pixels."""
    return Row("remap", partial(remap_problem, dtype, side), {"ours": stn_remap, "cv2": cv2_remap})


# --- Polar coordinates ----------------------------------------------------------------------------


def stn_polar(image):
    """warp_polar of numba_stn: a row for each angle."""
    side = image.shape[0]
    run = partial(stn_function("warp_polar"), image, (side, side // 2), (side / 2, side / 2),
                  side / 2)  # fmt: skip
    return Runner(run, _image)


def cv2_polar(image):
    """OpenCV's warpPolar."""
    cv2, side = peer_module("cv2"), image.shape[0]
    run = partial(cv2.warpPolar, image, (side // 2, side), (side / 2, side / 2), side / 2,
                  cv2.INTER_LINEAR)  # fmt: skip
    # OpenCV samples at the radii r * k / n, ours at the centres of n rings.
    return Runner(run, _image, 1.0)


def polar_row(dtype, side):
    """Row: an image in polar coordinates."""
    makers: dict[str, Any] = {"ours": stn_polar, "cv2": cv2_polar}
    return Row("warp_polar", partial(photograph, dtype, side, side), makers)


# --- Augmentation ---------------------------------------------------------------------------------

OPTIONS = {"rotate": 15.0, "scale": 0.2, "translate": 0.1, "shear": 10.0}


def batch(count, side):
    """Random uint8 images (N, H, W, C)."""
    return np.stack([photograph("uint8", side, side)] * count)


def stn_augment(given):
    """``augment`` of numba_stn: random maps, and the warps."""
    augment = stn_function("augment")
    return Runner(
        lambda: augment(given, np.random.default_rng(1), **OPTIONS, layout="NHWC"),
        lambda found: _image(found[0]),
    )


def cv2_augment(given):
    """A loop of OpenCV's warpAffine, by the maps that numba_stn drew."""
    cv2, out = peer_module("cv2"), np.empty_like(given)
    _, drawn = stn_function("augment")(given, np.random.default_rng(1), **OPTIONS, layout="NHWC")
    matrices, sides = drawn.matrices[:, :2], given.shape[2:0:-1]
    options = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}

    def run():
        for image, matrix, target in zip(given, matrices, out, strict=True):
            cv2.warpAffine(image, matrix, sides, target, **options)
        return out

    return Runner(run, _image, _tolerance(given))


def augment_row(count, side):
    """Row: a batch of images, each warped by a random map."""
    makers: dict[str, Any] = {"ours": stn_augment, "cv2": cv2_augment}
    return Row("augment", partial(batch, count, side), makers)


ROWS = {
    "rotate uint8 1080x1920x3": rotate_row("uint8", 1080, 1920),
    "rotate uint8 256x256x3": rotate_row("uint8", 256, 256),
    "rotate float32 64x64": rotate_row("float32", 64, 64, 1),
    "remap uint8 1024x1024x3": remap_row("uint8", 1024),
    "warp_polar uint8 1024x1024x3": polar_row("uint8", 1024),
    "augment uint8 64x224x224x3": augment_row(64, 224),
}
