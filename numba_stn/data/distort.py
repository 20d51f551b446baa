"""The distortions of the paper's experiments, drawn by this project's own warps.

Jaderberg et al. 2015, sections 4.1 and A.2 to A.4, for images of side S (28 for MNIST); other
sides scale along.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..ops.tps_grid import control_points
from ..ops.warp_tps import warp_tps
from ..ops.warps import warp_affine, warp_perspective
from ..transforms.matrices import from_points
from .dataset import Split


@dataclass(frozen=True)
class Task:
    """A distortion, and what is to be read.

    Parameters
    ----------
    name : str
        The paper's abbreviation.
    canvas : float
        Side of the result, in sides of the original.
    draw : callable
        (rng, images (N, 1, S, S), canvas side) -> images of the canvas's side.
    digits : int
        Each in a channel of its own; the label is their sum.
    """

    name: str
    canvas: float
    draw: Callable[[np.random.Generator, np.ndarray, int], np.ndarray]
    digits: int = 1

    def side(self, side: int) -> int:
        """Side of the result for an original of ``side`` pixels."""
        return round(self.canvas * side)

    @property
    def classes(self) -> int:
        """Number of different labels."""
        return 9 * self.digits + 1

    def __call__(self, rng: np.random.Generator, split: Split) -> Split:
        """Distort each example anew; with several digits, put others of the split beside it.

        Parameters
        ----------
        rng : numpy.random.Generator
            The same generator draws the same distortions.
        split : Split of (N, 1, S, S) images

        Returns
        -------
        Split of (N, digits, side(S), side(S)) images
        """
        side = self.side(split.images.shape[-1])
        parts = [split]
        for _ in range(1, self.digits):
            parts.append(split.take(rng.permutation(len(split.labels))))
        images = [self.draw(rng, part.images, side) for part in parts]
        labels = sum(part.labels for part in parts[1:]) + split.labels
        return Split(images[0] if len(images) == 1 else np.concatenate(images, 1), labels)


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


def draw_p(rng, images, side):
    """P: scale 0.75 to 1, then each corner of the canvas moved by N(0, 5 pixels) in any direction.

    The amount is what is normal. With x and y each moved by as much, many digits collapse: a
    fully connected network, which reads R and E better than the paper's, misread three times as
    many as the paper's after 20 epochs.
    """
    count = len(images)
    zoom = rng.uniform(0.75, 1.0, count)
    corners = np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    amount, angle = rng.normal(0, 5 * 2 / 28, (count, 4)), rng.uniform(0, 2 * np.pi, (count, 4))
    moved = corners + amount[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    to_canvas = from_points(np.broadcast_to(corners, moved.shape), moved)
    theta = np.linalg.inv(to_canvas)
    theta[:, :2] /= zoom[:, None, None]
    return warp_perspective(images, theta, (side, side))


def draw_e(rng, images, side):
    """E: scale 0.75 to 1, then 16 thin-plate control points moved by N(0, 1.5 pixels) each way.

    The points are those of the canvas, and their moves say where it reads the scaled image.
    """
    count = len(images)
    zoom = rng.uniform(0.75, 1.0, count)
    moved = control_points(4) + rng.normal(0, 1.5 * 2 / 28, (count, 16, 2))
    return warp_tps(images, moved / zoom[:, None, None], (side, side))


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
        Task("P", 1.0, draw_p),
        Task("E", 1.0, draw_e),
        Task("TC", 60 / 28, draw_tc),
        Task("addition", 1.5, draw_rts, digits=2),
    )
}
