"""The distortions of the paper's experiments, with numba_stn's own warps.

Jaderberg et al. 2015, sections 4.1 and A.2 to A.4, for images with a side of 28 pixels (MNIST).
For other sides, lengths in pixels are scaled accordingly.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..ops.tps_grid import control_points
from ..ops.warp_tps import warp_tps
from ..ops.warps import warp_affine, warp_perspective
from ..transforms.matrices import from_points
from ..utils.namespace import as_array
from ..utils.schema import number, whole
from .dataset import Split


@dataclass(frozen=True)
class Task:
    """A classification task: distorted digits, or the sum of several.

    Calling it distorts a split, see :meth:`__call__`.

    Parameters
    ----------
    name : str
        The paper's abbreviation.
    canvas : float
        Side of the result, in sides of the original images.
    draw : callable
        ``draw(rng, images, side)`` distorts images (N, 1, S, S) to (N, 1, side, side).
    digits : int
        Number of digits in an example, each in its own channel. The label is their sum.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import data
    >>> task = data.TASKS["RTS"]
    >>> split = data.Split(np.zeros((5, 1, 28, 28), np.float32), np.arange(5))
    >>> task(np.random.default_rng(0), split).images.shape
    (5, 1, 42, 42)
    """

    name: str
    canvas: float
    draw: Callable[[np.random.Generator, np.ndarray, int], np.ndarray]
    digits: int = 1

    def __post_init__(self):
        number(above=0)(self.canvas, "canvas")
        whole(1)(self.digits, "digits")

    def side(self, side: int) -> int:
        """Side of the result for original images of ``side`` pixels."""
        return round(self.canvas * side)

    @property
    def classes(self) -> int:
        """Number of different labels."""
        return 9 * self.digits + 1

    def __call__(self, rng: np.random.Generator, split: Split) -> Split:
        """Distort each example; with several digits, add other examples as further channels.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws the distortions.
        split : Split
            Of images (N, 1, S, S).

        Returns
        -------
        Split
            Of images (N, digits, side(S), side(S)).

        Raises
        ------
        ValueError, TypeError
            If an argument is of another kind, or the images are not square.
        """
        split = _checked(rng, split)
        side = self.side(split.images.shape[-1])
        parts = [split]
        for _ in range(1, self.digits):
            parts.append(split.take(rng.permutation(len(split.labels))))
        images = [self._drawn(rng, part.images, side) for part in parts]
        labels = sum(part.labels for part in parts[1:]) + split.labels
        return Split(images[0] if len(images) == 1 else np.concatenate(images, 1), labels)

    def _drawn(self, rng, images, side):
        """The distorted images; raises if ``draw`` gave another shape."""
        drawn, expected = self.draw(rng, images, side), (len(images), 1, side, side)
        if np.shape(drawn) != expected:
            raise ValueError(f"draw: expected images of shape {expected}, got {np.shape(drawn)}")
        return drawn


def _checked(rng, split):
    """The split with NumPy arrays; raises unless a task can distort it."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng: expected a numpy.random.Generator, as numpy.random.default_rng(0) gives it, "
            f"got {type(rng).__name__}"
        )
    if not isinstance(split, Split):
        raise TypeError(f"split: expected a numba_stn.data.Split, got {type(split).__name__}")
    images, labels = as_array(split.images, "images"), as_array(split.labels, "labels")
    if images.dtype not in (np.float32, np.float64):
        raise TypeError(f"images: expected float32 or float64 from 0 to 1, got {images.dtype}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels: expected whole numbers, got {labels.dtype}")
    if images.ndim != 4 or images.shape[1] != 1 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images: expected square images (N, 1, S, S), got {images.shape}")
    if not images.shape[2]:
        raise ValueError(f"images: expected at least one pixel, got {images.shape}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels: expected one for each of {len(images)} images, got {labels.shape}"
        )
    return Split(images, labels.astype(np.int64))


def rotate_scale_shift(images, side, angle, zoom, shift):
    """Rotate each image by ``angle`` (radians), scale it by ``zoom``, shift it by ``shift`` pixels.

    The image starts in the middle of a canvas of ``side`` pixels; ``shift`` (N, 2) is (x, y).
    Theta maps the canvas to the image, so it is the inverse: shift back, scale back, rotate back.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    theta = np.empty((len(images), 2, 3))
    theta[:, :, :2] = np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2)
    theta[:, :, :2] *= (side / images.shape[-1] / zoom)[:, None, None]
    theta[:, :, 2] = -(theta[:, :, :2] @ (2 / side * shift)[:, :, None])[:, :, 0]
    return warp_affine(images, theta, (side, side))


def draw_none(rng, images, side):
    """No distortion."""
    return images


def draw_r(rng, images, side):
    """R: rotation uniform in +-90 degrees."""
    count = len(images)
    angle = rng.uniform(-np.pi / 2, np.pi / 2, count)
    return rotate_scale_shift(images, side, angle, np.ones(count), np.zeros((count, 2)))


def draw_rts(rng, images, side):
    """RTS: rotation +-45 degrees, scale 0.7 to 1.2, anywhere with the image inside the canvas."""
    count = len(images)
    angle = rng.uniform(-np.pi / 4, np.pi / 4, count)
    zoom = rng.uniform(0.7, 1.2, count)
    room = (side - images.shape[-1] * zoom) / 2
    return rotate_scale_shift(
        images, side, angle, zoom, rng.uniform(-1, 1, (count, 2)) * room[:, None]
    )


def draw_p(rng, images, side):
    """P: scale 0.75 to 1, then each corner of the canvas moved by N(0, 5 pixels) in any direction.

    The distance is normal, not x and y. If x and y are each normal, many digits collapse: a fully
    connected network, which has a lower error than the paper's for R and E, then misclassified
    three times as many digits as the paper's, after 20 epochs.
    """
    count = len(images)
    zoom = rng.uniform(0.75, 1.0, count)
    corners = np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    distance, angle = rng.normal(0, 5 * 2 / 28, (count, 4)), rng.uniform(0, 2 * np.pi, (count, 4))
    moved = corners + distance[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    to_canvas = from_points(np.broadcast_to(corners, moved.shape), moved)
    theta = np.linalg.inv(to_canvas)
    theta[:, :2] /= zoom[:, None, None]
    return warp_perspective(images, theta, (side, side))


def draw_e(rng, images, side):
    """E: scale 0.75 to 1, then 16 thin-plate control points, x and y moved by N(0, 1.5 pixels).

    The points are on the canvas, and the moved points are the sampling positions in the scaled
    image.
    """
    count = len(images)
    zoom = rng.uniform(0.75, 1.0, count)
    moved = control_points(4) + rng.normal(0, 1.5 * 2 / 28, (count, 16, 2))
    return warp_tps(images, moved / zoom[:, None, None], (side, side))


def draw_tc(rng, images, side):
    """TC: anywhere on the canvas, among six patches from other images."""
    count, own = len(images), images.shape[-1]
    corner = rng.integers(0, side - own + 1, (count, 2))
    shift = corner - (side - own) / 2
    canvas = rotate_scale_shift(images, side, np.zeros(count), np.ones(count), shift)
    patch = max(1, round(own * 6 / 28))
    for _ in range(6):
        # Any image except the n-th itself, if there is another one.
        other = (np.arange(count) + rng.integers(1, max(count, 2), count)) % count
        rows, columns = _random_patches(rng, count, own, patch)
        to_rows, to_columns = _random_patches(rng, count, side, patch)
        each = np.arange(count)[:, None, None]
        clutter = images[other[:, None, None], 0, rows, columns]
        canvas[each, 0, to_rows, to_columns] = np.maximum(
            canvas[each, 0, to_rows, to_columns], clutter
        )
    return canvas


def _random_patches(rng, count, side, patch):
    """Rows (N, patch, 1) and columns (N, 1, patch) of a random patch in each image."""
    top, left = rng.integers(0, side - patch + 1, (2, count, 1))
    line = np.arange(patch)
    return (top + line)[:, :, None], (left + line)[:, None, :]


TASKS = {
    task.name: task
    for task in (
        Task("none", 1.0, draw_none),
        Task("R", 1.0, draw_r),
        Task("RTS", 1.5, draw_rts),
        Task("P", 1.0, draw_p),
        Task("E", 1.0, draw_e),
        Task("TC", 60 / 28, draw_tc),
        Task("addition", 1.5, draw_rts, digits=2),
    )
}
