"""Images as people have them, (N, H, W), (N, H, W, C), (N, C, H, W) or flat rows, and back."""

import math
import warnings
from typing import NamedTuple

import numpy as np

LAYOUTS = ("auto", "NHWC", "NCHW")

# An axis with at most this number of elements can be that of channels.
MOST_CHANNELS = 4

# Flat rows with more numbers than this that are not square images are worth a warning.
LONG_ROW = 100


class ImageLayout(NamedTuple):
    """The shape (H, W, C) of the images, and the form in which they are given.

    Attributes
    ----------
    shape : (H, W, C)
    form : {"flat", "NHW", "NHWC", "NCHW"}
    """

    shape: tuple[int, int, int]
    form: str

    @property
    def given(self) -> tuple[int, ...]:
        """The shape of one image, as it is given."""
        height, width, channels = self.shape
        return {"flat": (height * width * channels,), "NHW": (height, width), "NHWC": self.shape,
                "NCHW": (channels, height, width)}[self.form]  # fmt: skip

    def images(self, x: np.ndarray) -> np.ndarray:
        """The given images as (N, H, W, C), a view where possible.

        Raises
        ------
        ValueError
            If they have another shape.
        """
        if x.shape[1:] != self.given:
            raise ValueError(
                f"X: expected images of shape {('N', *self.given)}, as in fit, got {x.shape}"
            )
        if self.form == "NCHW":
            return np.moveaxis(x, 1, -1)
        return x.reshape(len(x), *self.shape)

    def given_form(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, ...) of any size in the given form; flat rows are of their own length."""
        if self.form == "NCHW":
            return images
        last = np.moveaxis(images, 1, -1)
        if self.form == "flat":
            return last.reshape(len(images), math.prod(images.shape[1:]))
        return last[..., 0] if self.form == "NHW" else last


def find_layout(x: np.ndarray, image_shape: tuple[int, ...] | None, layout: str) -> ImageLayout:
    """The layout of an array of images.

    Parameters
    ----------
    x : array
        Of 2 dimensions, flat rows, or of 3 or 4.
    image_shape : (H, W) or (H, W, C), optional
        Of flat rows. By default their images are square if their length is a square number, and
        else a single row of pixels.
    layout : {"auto", "NHWC", "NCHW"}
        Of arrays with 4 dimensions. Automatically, the channels are the last axis if it has at most
        4 elements, and else the second one, if that has.

    Raises
    ------
    ValueError, TypeError
        If the array is of another shape, or an argument is wrong.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {list(LAYOUTS)}, got {layout!r}")
    if x.ndim == 2:
        return ImageLayout(_shape_of_rows(x.shape[1], image_shape), "flat")
    if x.ndim == 3:
        found = ImageLayout((*x.shape[1:], 1), "NHW")
    elif x.ndim == 4:
        found = _with_channels(x.shape, layout)
    else:
        raise ValueError(
            f"X: expected images (N, H, W), (N, H, W, C) or (N, C, H, W), or flat rows (N, F), got "
            f"shape {x.shape}"
        )
    if 0 in found.shape:
        raise ValueError(f"X: expected images with pixels, got shape {x.shape}")
    if image_shape is not None and _checked_shape(image_shape) != found.shape:
        raise ValueError(f"image_shape: expected {found.shape}, as X has it, got {image_shape!r}")
    return found


def _with_channels(shape, layout):
    """The layout of an array of 4 dimensions."""
    if layout == "auto":
        fits = [shape[axis] <= MOST_CHANNELS for axis in (3, 1)]
        if not any(fits):
            raise ValueError(
                f"layout: expected NHWC or NCHW, because neither the last nor the second axis of X "
                f"has at most {MOST_CHANNELS} elements, got {layout!r} and shape {shape}"
            )
        layout = "NHWC" if fits[0] else "NCHW"
    sides = shape[1:] if layout == "NHWC" else (*shape[2:], shape[1])
    return ImageLayout(tuple(sides), layout)


def _shape_of_rows(length, image_shape):
    """The shape (H, W, C) of the images of flat rows."""
    if image_shape is not None:
        shape = _checked_shape(image_shape)
        if math.prod(shape) != length:
            raise ValueError(
                f"image_shape: expected a shape of {length} numbers, the length of X's rows, got "
                f"{image_shape!r}"
            )
        return shape
    side = math.isqrt(length)
    if side * side == length:
        return side, side, 1
    if length > LONG_ROW:
        warnings.warn(
            f"X: rows of {length} numbers are no square images, and are taken as images of 1 x "
            f"{length} pixels; set image_shape=(H, W) or (H, W, C)", stacklevel=2,
        )  # fmt: skip
    return 1, length, 1


def _checked_shape(image_shape):
    """(H, W, C) of (H, W) or (H, W, C)."""
    try:
        shape = tuple(int(side) for side in image_shape)
        whole = all(side == given for side, given in zip(shape, image_shape, strict=True))
    except (TypeError, ValueError):
        shape, whole = (), False
    if not whole or len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"image_shape: expected (H, W) or (H, W, C), got {image_shape!r}")
    return (*shape, 1) if len(shape) == 2 else shape
