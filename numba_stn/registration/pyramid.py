"""Image pyramids: both images at several resolutions, each half the size of the one before."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..kernels.registration.alignment_sums import Axes
from ..kernels.registration.pyramid import halve, smooth

# An image is not halved if a side would be shorter than this: fewer pixels determine too little.
LEAST_SIDE = {2: 24, 3: 12}

# A pyramid ends where fewer pixels of an image are compared.
LEAST_PIXELS = 100

# The number of pixels along the border that are not compared at the finest level.
BORDER = 2

# The weight of a pixel in its own mean, along each axis, when an image is smoothed.
CENTER = 6 / 16

# The share of a mask's pixels in the moving and in the fixed image that may be left out because
# their neighbourhoods are not complete. A sample needs four pixels of the moving image.
INCOMPLETE = 0.25, 0.5

# A pixel of a coarser level is compared if this share of the pixels that it averages is.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Level:
    """One resolution of both images.

    Parameters
    ----------
    moving, fixed : (D, H, W) arrays of float32
        Smoothed, with mean 0 and standard deviation 1 at the finest level; a plane is one slice.
        Pixels that are not compared are NaN.
    halvings, moving_halvings : int
        How often the fixed and the moving image were halved.
    axes : Axes
        The coordinates of both images' pixels.
    """

    moving: np.ndarray
    fixed: np.ndarray
    halvings: int
    moving_halvings: int
    axes: Axes

    @cached_property
    def pixels(self) -> int:
        """The number of pixels of the fixed image that are compared."""
        return int(np.count_nonzero(~np.isnan(self.fixed)))

    @cached_property
    def moving_share(self) -> float:
        """The share of the moving image's pixels that are compared."""
        return float(np.mean(~np.isnan(self.moving)))

    def without(self, outliers: np.ndarray) -> "Level":
        """The level without these pixels of the fixed image."""
        return replace(self, fixed=np.where(outliers, np.float32(np.nan), self.fixed))


@dataclass(frozen=True)
class Frame:
    """Coordinates of an image: the origin is its centre, and the unit is a number of pixels.

    All axes have the same unit, and so have both images.

    Parameters
    ----------
    sides : tuple of int
        (H, W) or (D, H, W) of the image.
    unit : float
        The unit in pixels: half of the fixed image's longest side.
    """

    sides: tuple[int, ...]
    unit: float

    def to_pixels(self, halvings: int = 0) -> np.ndarray:
        """Matrix (d + 1, d + 1) from coordinates (x, y[, z], 1) to pixels of the halved image."""
        size = len(self.sides)
        matrix = np.diag([*[self.unit / 2.0**halvings] * size, 1.0])
        matrix[:size, size] = self.center(halvings)[::-1][:size]
        return matrix

    @cached_property
    def corners(self) -> np.ndarray:
        """The centres of the corner pixels, (d + 1, 2^d)."""
        ends = [np.array([-0.5, 0.5]) * (side - 1) / self.unit for side in self.sides[::-1]]
        mesh = np.meshgrid(*ends, [1.0], indexing="ij")
        return np.stack([axis.ravel() for axis in mesh])

    def center(self, halvings: int) -> tuple[float, ...]:
        """The image's centre (z, y, x) in pixels of the halved image; z is 0 in a plane."""
        step = 2.0**halvings
        centers = [((side - 1) / 2 + 0.5) / step - 0.5 for side in self.sides]
        return (*[0.0] * (3 - len(self.sides)), *centers)


def frames(moving: Any, fixed: Any) -> tuple[Frame, Frame]:
    """Give the coordinates of both images, in one unit."""
    unit = max(fixed.shape) / 2
    return Frame(moving.shape, unit), Frame(fixed.shape, unit)


class Layer(NamedTuple):
    """An image of float32, and the weight of each pixel, from 0 to 1; None for 1 everywhere."""

    values: np.ndarray
    weights: np.ndarray | None

    def halved(self) -> "Layer":
        """Average 2 x 2 (x 2) pixels by their weights."""
        if self.weights is None:
            return Layer(halve(self.values), None)
        weights = halve(self.weights)
        return Layer(_divide(halve(self.values * self.weights), weights), weights)

    def smoothed(self, share: float) -> "Layer":
        """Smooth the image, each pixel by its weight.

        Beside pixels without weight, the mean is one of pixels on one side, and so that of another
        position. So only pixels with complete neighbourhoods keep a weight, even if they have none
        themselves: single holes are filled. If more than a ``share`` of the neighbourhoods is not
        complete, those keep it that are at least as complete as the best of this share.
        """
        if self.weights is None:
            return Layer(smooth(self.values), None)
        around = smooth(self.weights)
        values = _divide(smooth(self.values * self.weights), around)
        own = np.float32(CENTER ** sum(side > 1 for side in values.shape))
        others = (around - own * self.weights) / (1 - own)
        enough = np.quantile(others[self.weights >= LEAST_SHARE], share)
        complete = others >= min(enough, np.float32(1)) - np.float32(1e-6)
        return Layer(values, complete.astype(np.float32))

    @property
    def compared(self) -> np.ndarray:
        """The image, with NaN where pixels are not compared."""
        if self.weights is None:
            return self.values
        return np.where(self.weights >= LEAST_SHARE, self.values, np.float32(np.nan))


def _divide(values, weights):
    """Divide a sum of weighted values by the sum of weights; 0 where that is 0."""
    return np.where(weights > 0, values / np.where(weights > 0, weights, np.float32(1)), 0)


class Stats(NamedTuple):
    """The mean and the standard deviation that an image had, smoothed, where it is compared."""

    mean: float
    deviation: float


class Images(NamedTuple):
    """Two grey images, and the masks of the pixels that are compared; None for all of them."""

    moving: np.ndarray
    fixed: np.ndarray
    moving_mask: np.ndarray | None = None
    mask: np.ndarray | None = None


def pyramid(
    images: Images, levels: int | None, halvings: tuple[int, int] = (0, 0)
) -> tuple[list[Level], Stats, Stats]:
    """Build the levels, from fine to coarse; also give each image's mean and standard deviation.

    At the finest level the moving and the fixed image are already halved ``halvings`` times. A
    pixel of the next level is the mean of 2 x 2 (x 2) pixels. The finest level is smoothed by
    (1, 4, 6, 4, 1) / 16, so that the blur of bilinear interpolation matters little.
    """
    moving_frame, fixed_frame = frames(images.moving, images.fixed)
    least = LEAST_SIDE[len(fixed_frame.sides)]
    finest, coarser, stats = zip(
        _standardise(images.moving, images.moving_mask, halvings[0], INCOMPLETE[0]),
        _standardise(images.fixed, images.mask, halvings[1], INCOMPLETE[1]),
        strict=True,
    )
    pair = [_without_border(layer.compared) for layer in finest]
    found: list[Level] = []
    while True:
        moving, fixed = pair
        counts = [n + len(found) for n in halvings]
        axes = _axes(moving_frame, fixed_frame, counts, fixed.shape[2])
        found.append(Level(moving, fixed, counts[1], counts[0], axes))
        sides = [side for side in (*moving.shape, *fixed.shape) if side > 1]
        if len(found) == levels or min(sides) // 2 < least:
            break
        coarser = tuple(layer.halved() for layer in coarser)
        pair = [layer.compared for layer in coarser]
        if min(np.count_nonzero(~np.isnan(image)) for image in pair) < LEAST_PIXELS:
            break
    return found, *stats


def _without_border(image):
    """Leave out the pixels next to the border, whose neighbourhoods are not complete.

    A warp may also have mixed them with what it fills an image with.
    """
    inner = tuple(slice(BORDER, -BORDER) if side > 1 else slice(None) for side in image.shape)
    found = np.full(image.shape, np.nan, np.float32)
    found[inner] = image[inner]
    return found


def _axes(moving_frame, fixed_frame, halvings, width):
    """Give the coordinates of the pixels of a level."""
    moving_unit, unit = (frame.unit / 2.0**n for frame, n in
                         zip((moving_frame, fixed_frame), halvings, strict=True))  # fmt: skip
    center = fixed_frame.center(halvings[1])
    columns = ((np.arange(width) - center[2]) / unit).astype(np.float32)
    return Axes((1 / unit, *center), (moving_unit, *moving_frame.center(halvings[0])), columns)


def _standardise(image, mask, halvings, incomplete):
    """Halve and smooth an image, and give it mean 0 and standard deviation 1 where it is compared.

    Give it twice: with the weights of the finest level, and with those for the coarser ones, which
    need no complete neighbourhoods. Also give the mean and the standard deviation that it had.
    """
    origin, unit = 0.0, 1.0
    if image.dtype.kind == "f" or mask is not None:
        image, origin, unit = _to_unit_range(image, mask)
    shape = (1,) * (3 - image.ndim) + image.shape
    layer = Layer(image.reshape(shape), None if mask is None else np.float32(mask).reshape(shape))
    for _ in range(halvings):
        layer = layer.halved()
    finest = layer.smoothed(incomplete)
    values = finest.values

    def inside():
        return (values if finest.weights is None else values[finest.weights > 0]).ravel()

    mean = float(inside().mean(dtype=np.float64))
    values -= np.float32(mean)
    deviation = float(np.einsum("i,i", inside(), inside()) / inside().size) ** 0.5 or 1.0
    values *= np.float32(1 / deviation)
    stats = Stats(origin + unit * mean, unit * deviation)
    return finest, Layer(values, layer.weights), stats


def _to_unit_range(image, mask):
    """Scale the compared pixels to [-1, 1], in float32; also give the range's middle and half.

    Pixels that are not compared may be anything, and become 0.
    """
    inside = image if mask is None else image[mask]
    low, high = float(inside.min()) / 2, float(inside.max()) / 2
    origin, unit = low + high, high - low
    image = image if mask is None else np.where(mask, image, origin)
    return np.float32((image - origin) / unit), origin, unit
