"""The distortions of the paper's experiments, drawn by this project's own warp.

Jaderberg et al. 2015, section 4.1 and appendix A.4, for images of side S (28 for MNIST); other
sides scale along.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..warps import warp_affine


@dataclass(frozen=True)
class Task:
    """A distortion.

    Parameters
    ----------
    name : str
        The paper's abbreviation.
    canvas : float
        Side of the result, in sides of the original.
    draw : callable
        (rng, images (N, 1, S, S), canvas side) -> images of the canvas's side.
    """

    name: str
    canvas: float
    draw: Callable[[np.random.Generator, np.ndarray, int], np.ndarray]

    def side(self, side: int) -> int:
        """Side of the result for an original of ``side`` pixels."""
        return round(self.canvas * side)

    def __call__(self, rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
        """Distort each image anew.

        Parameters
        ----------
        rng : numpy.random.Generator
            The same generator draws the same distortions.
        images : (N, 1, S, S) array

        Returns
        -------
        (N, 1, side(S), side(S)) array
        """
        return self.draw(rng, images, self.side(images.shape[-1]))


def placed(images, side, angle, zoom, shift):
    """Each image turned by ``angle`` (radians), enlarged by ``zoom``, moved by ``shift`` pixels.

    The image starts in the middle of a canvas of ``side`` pixels; ``shift`` (N, 2) is (x, y).
    Theta maps the canvas to the image, so it is the inverse: move back, shrink, turn back.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    theta = np.empty((len(images), 2, 3))
    theta[:, :, :2] = np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2)
    theta[:, :, :2] *= (side / images.shape[-1] / zoom)[:, None, None]
    theta[:, :, 2] = -(theta[:, :, :2] @ (2 / side * shift)[:, :, None])[:, :, 0]
    return warp_affine(images, theta, (side, side))


def draw_none(rng, images, side):
    """The images themselves."""
    return images


def draw_r(rng, images, side):
    """R: rotation uniform in +-90 degrees."""
    count = len(images)
    angle = rng.uniform(-np.pi / 2, np.pi / 2, count)
    return placed(images, side, angle, np.ones(count), np.zeros((count, 2)))


def draw_rts(rng, images, side):
    """RTS: rotation +-45 degrees, scale 0.7 to 1.2, anywhere that keeps the square inside."""
    count = len(images)
    angle = rng.uniform(-np.pi / 4, np.pi / 4, count)
    zoom = rng.uniform(0.7, 1.2, count)
    room = (side - images.shape[-1] * zoom) / 2
    return placed(images, side, angle, zoom, rng.uniform(-1, 1, (count, 2)) * room[:, None])


def draw_tc(rng, images, side):
    """TC: anywhere on the canvas, among six patches cut out of other images."""
    count, own = len(images), images.shape[-1]
    corner = rng.integers(0, side - own + 1, (count, 2))
    shift = corner - (side - own) / 2
    canvas = placed(images, side, np.zeros(count), np.ones(count), shift)
    patch = round(own * 6 / 28)
    for _ in range(6):
        # Another image: any but the n-th itself (itself only if there is no other).
        other = (np.arange(count) + rng.integers(1, max(count, 2), count)) % count
        rows, columns = _corners(rng, count, own, patch)
        to_rows, to_columns = _corners(rng, count, side, patch)
        each = np.arange(count)[:, None, None]
        clutter = images[other[:, None, None], 0, rows, columns]
        canvas[each, 0, to_rows, to_columns] = np.maximum(
            canvas[each, 0, to_rows, to_columns], clutter
        )
    return canvas


def _corners(rng, count, side, patch):
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
        Task("TC", 60 / 28, draw_tc),
    )
}
