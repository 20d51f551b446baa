"""Rows of grid_sample."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .rows import COARSE, Row, Runner, installed, own
from .warps import problem


class Reading(NamedTuple):
    """Images, and the grid that reads them."""

    images: Any
    grid: Any


def reading(side):
    """An image, and a smooth random grid: a turn, and a few low waves of random phase."""
    images, theta, _ = problem((1, 1, side, side))
    rng = np.random.default_rng(1)
    line = (2 * np.arange(side) - (side - 1)) / side
    y, x = line[:, None], line[None, :]
    turned = [row[0] * x + row[1] * y + row[2] for row in theta[0].astype(float)]
    for coordinate in turned:
        for k in range(1, 5):
            a, b = rng.uniform(0, 2 * np.pi, 2)
            coordinate += 0.05 / k * np.sin(k * np.pi * x + a) * np.sin(k * np.pi * y + b)
    return Reading(images, np.stack(turned, -1)[None].astype(np.float32))


def pixels(grid, sides):
    """The grid's x and y in pixels, whose centres are whole numbers."""
    return [
        np.ascontiguousarray(((grid[0, :, :, k] + 1) * side - 1) / 2)
        for k, side in enumerate(sides[::-1])
    ]


def ours(p):
    """grid_sample into an array that is there."""
    out = np.empty((*p.images.shape[:2], *p.grid.shape[1:3]), p.images.dtype)
    return Runner(partial(own("grid_sample"), p.images, p.grid, out=out), _samples)


def torch_sample(p):
    """PyTorch's grid_sample."""
    torch = installed("torch")
    sample = torch.nn.functional.grid_sample
    images, grid = torch.as_tensor(p.images), torch.as_tensor(p.grid)
    return Runner(partial(sample, images, grid, align_corners=False), _samples)


def cv2_remap(p):
    """OpenCV's remap, whose grid is in pixels, x and y apart."""
    cv2, image = installed("cv2"), p.images[0, 0]
    x, y = pixels(p.grid, image.shape)
    run = partial(cv2.remap, image, x, y, cv2.INTER_LINEAR, np.empty_like(x))
    return Runner(run, _one, COARSE)


def scipy_map(p):
    """SciPy's map_coordinates, whose grid is in pixels, y before x."""
    read, image = installed("scipy.ndimage").map_coordinates, p.images[0, 0]
    x, y = pixels(p.grid, image.shape)
    run = partial(read, image, np.stack([y, x]), np.empty_like(x), 1, "grid-constant")
    return Runner(run, _one)


def _samples(samples):
    return {"samples": np.asarray(samples)}


def _one(image):
    return {"samples": image[None, None]}


def row(side):
    """Row: one image read by a smooth random grid."""
    makers = {"ours": ours, "torch": torch_sample, "cv2": cv2_remap, "scipy": scipy_map}
    return Row("grid_sample", partial(reading, side), makers)


ROWS = {"grid_sample 1x1x2048x2048": row(2048)}
