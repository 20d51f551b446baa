"""Preparation: any image becomes one of the size, channels and dtype that a network was trained on.

Training and prediction call the same function, so an image is prepared in the same way by both.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np

from ..utils.schema import field_rules, one_of, whole

FITS = ("stretch", "crop", "pad")
DTYPES = ("uint8", "uint16", "float32")

# A side has at most this number of pixels, far above what the networks can use.
MOST_SIDE = 4096

# Luma weights of red, green and blue in image files (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Preparation:
    """How images are prepared.

    Parameters
    ----------
    height, width : int
        Sides of a prepared image.
    channels : int
        1 for grey, 3 for colour; arrays may have any number.
    fit : {"stretch", "crop", "pad"}
        What is done if an image has another aspect ratio: it is stretched; the middle is cut out of
        it; or it is fitted in, and its edge pixels are repeated.
    ground : int
        Grey level, from 0 to 255, of the ground under transparent pixels.
    dtype : {"uint8", "uint16", "float32"}
        Of a prepared image. uint8 and uint16 have the range of their type; floats are from 0 to 1
        if they come from these, and are otherwise the image's numbers.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range.
    """

    height: Annotated[int, whole(1, MOST_SIDE)]
    width: Annotated[int, whole(1, MOST_SIDE)]
    channels: Annotated[int, whole(1, 1024)] = 3
    fit: Annotated[str, one_of(FITS)] = "stretch"
    ground: Annotated[int, whole(0, 255)] = 255
    dtype: Annotated[str, one_of(DTYPES)] = "uint8"

    def __post_init__(self):
        for name, rule in field_rules(Preparation).items():
            object.__setattr__(self, name, rule(getattr(self, name), name))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Prepare an image (H, W) or (H, W, C): (height, width, channels) of the dtype.

        Two channels are grey and alpha, and four are colour and alpha, unless the prepared image
        has as many. Images that become smaller are averaged over the area of each new pixel.

        Raises
        ------
        ValueError, TypeError
            If the image has no pixels, NaN, another number of channels or another dtype.
        """
        planes = _checked(image)
        planes = _to_dtype(planes, np.dtype(self.dtype))
        planes = self._to_channels(planes)
        return self._to_size(planes)

    def locate(self, points: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
        """Where points of a prepared image are in the image itself, of sides (H, W).

        Parameters
        ----------
        points : (P, 2) array
            x and y in normalised coordinates, -1 and 1 at the edges of the prepared image.
        sides : (H, W)

        Returns
        -------
        (P, 2) array
            x and y in pixels, whose centres are integers.
        """
        found = []
        for coordinate, length, axis in zip(
            points.T, (self.width, self.height), self._axes(sides)[::-1], strict=True
        ):
            edge = (coordinate + 1) / 2 * length - axis.before
            found.append(axis.start + edge * (axis.end - axis.start) / axis.length - 0.5)
        return np.stack(found, -1)

    def _axes(self, sides):
        """How each side of an image (H, W) becomes that of a prepared one."""
        zooms = self.height / sides[0], self.width / sides[1]
        axes = []
        for side, length in zip(sides, (self.height, self.width), strict=True):
            if self.fit == "crop":
                axes.append(_Axis(0, length, *_middle(side, length / max(zooms))))
            elif self.fit == "pad":
                inside = min(length, max(1, round(side * min(zooms))))
                axes.append(_Axis((length - inside) // 2, inside, 0, side))
            else:
                axes.append(_Axis(0, length, 0, side))
        return axes

    def _to_channels(self, planes):
        """The image with this number of channels; transparent pixels get the ground's colour."""
        found = planes.shape[2]
        if found == self.channels:
            return planes
        if found > 4 or self.channels not in (1, 3):
            raise ValueError(f"expected {self.channels} channels, got {found}")
        if found in (2, 4):
            planes = _composite(planes, self.ground)
        if planes.shape[2] == self.channels:
            return planes
        if self.channels == 3:
            return np.repeat(planes, 3, axis=2)
        return _rounded(planes.astype(np.float32) @ LUMA, planes.dtype)[:, :, None]

    def _to_size(self, planes):
        """The image with these sides."""
        if planes.shape[:2] == (self.height, self.width):
            return planes
        rows, columns = self._axes(planes.shape[:2])
        box = columns.start, rows.start, columns.end, rows.end
        resized = _resized(planes, (rows.length, columns.length), box)
        if self.fit != "pad":
            return resized
        around = [(axis.before, side - axis.length - axis.before) for axis, side in
                  ((rows, self.height), (columns, self.width))]  # fmt: skip
        return np.pad(resized, [*around, (0, 0)], mode="edge")


class _Axis(NamedTuple):
    """A side of an image, from ``start`` to ``end``, as ``length`` pixels of the prepared one.

    ``before`` is the number of padded pixels before them.
    """

    before: int
    length: int
    start: float
    end: float


def _middle(side, length):
    """Start and end of a part of a side, in its middle."""
    start = max(0.0, (side - length) / 2)
    return start, min(start + length, side)


def _checked(image):
    """The image as (H, W, C) of a dtype that has a conversion."""
    image = np.asarray(image)
    planes = image[:, :, None] if image.ndim == 2 else image
    if planes.ndim != 3 or 0 in planes.shape:
        raise ValueError(f"expected an image (H, W) or (H, W, C) with pixels, got {image.shape}")
    if planes.dtype == bool:
        return planes.astype(np.uint8) * np.uint8(255)
    if planes.dtype.kind not in "iuf":
        raise TypeError(f"expected whole or floating numbers, got {planes.dtype}")
    if planes.dtype not in (np.uint8, np.uint16) and planes.dtype.kind != "f":
        return planes.astype(np.float32)
    if planes.dtype.kind == "f" and not np.isfinite(planes).all():
        raise ValueError("expected finite numbers, got NaN or infinity")
    return planes


def _to_dtype(planes, dtype):
    """The image in another dtype; integers have the range of their type, floats 0 to 1."""
    if planes.dtype == dtype:
        return planes
    if dtype.kind == "f":
        most = np.iinfo(planes.dtype).max if planes.dtype.kind == "u" else 1
        return planes.astype(np.float32) / np.float32(most)
    if planes.dtype.kind == "f":
        least, largest = float(planes.min()), float(planes.max())
        if least < 0 or largest > 1:
            raise ValueError(f"expected floats from 0 to 1, got {least:g} to {largest:g}")
        return _rounded(planes.astype(np.float32) * np.iinfo(dtype).max, dtype)
    if dtype == np.uint16:
        return planes.astype(np.uint16) * np.uint16(257)
    return _rounded(planes.astype(np.float32) / 257, dtype)


def _composite(planes, ground):
    """Colour over the ground, by alpha, which is the last channel."""
    most = np.float32(np.iinfo(planes.dtype).max if planes.dtype.kind == "u" else 1)
    alpha = planes[:, :, -1:].astype(np.float32) / most
    below = np.float32(ground / 255) * most
    return _rounded(planes[:, :, :-1] * alpha + below * (1 - alpha), planes.dtype)


def _rounded(numbers, dtype):
    return np.rint(numbers).astype(dtype) if dtype.kind == "u" else numbers.astype(dtype)


def _resized(planes, size, box):
    """A box (left, top, right, bottom) of the image, in another size, by Pillow.

    Each new pixel is a mean, weighted by a triangle that covers at least two old pixels.
    """
    from PIL import Image

    sides, how = (size[1], size[0]), Image.Resampling.BILINEAR
    if planes.dtype == np.uint8 and planes.shape[2] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(planes)).resize(sides, how, box))
    result = np.empty((*size, planes.shape[2]), planes.dtype)
    working = np.uint8 if planes.dtype == np.uint8 else np.float32
    for channel in range(planes.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(planes[:, :, channel], working))
        result[:, :, channel] = _rounded(np.asarray(plane.resize(sides, how, box)), result.dtype)
    return result
