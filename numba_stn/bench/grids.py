"""Rows of grid_sample."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import warps
from .rows import COARSE, Row, Runner, peer_module, stn_function


class GridProblem(NamedTuple):
    """Images, and the grid at which they are sampled."""

    images: Any
    grid: Any


def problem(side):
    """An image, and a smooth random grid: a rotation plus a few low waves of random phase."""
    images, theta, _ = warps.problem((1, 1, side, side))
    rng = np.random.default_rng(1)
    line = (2 * np.arange(side) - (side - 1)) / side
    y, x = line[:, None], line[None, :]
    coordinates = [row[0] * x + row[1] * y + row[2] for row in theta[0].astype(float)]
    for coordinate in coordinates:
        for k in range(1, 5):
            a, b = rng.uniform(0, 2 * np.pi, 2)
            coordinate += 0.05 / k * np.sin(k * np.pi * x + a) * np.sin(k * np.pi * y + b)
    return GridProblem(images, np.stack(coordinates, -1)[None].astype(np.float32))


def pixels(grid, sides):
    """The grid's x and y in pixels, whose centres are whole numbers."""
    return [
        np.ascontiguousarray(((grid[0, :, :, k] + 1) * side - 1) / 2)
        for k, side in enumerate(sides[::-1])
    ]


def stn_sample(p):
    """grid_sample of numba_stn into an existing array."""
    out = np.empty((*p.images.shape[:2], *p.grid.shape[1:3]), p.images.dtype)
    return Runner(partial(stn_function("grid_sample"), p.images, p.grid, out=out), _samples)


def torch_sample(p):
    """PyTorch's grid_sample."""
    torch = peer_module("torch")
    sample = torch.nn.functional.grid_sample
    images, grid = torch.as_tensor(p.images), torch.as_tensor(p.grid)
    return Runner(partial(sample, images, grid, align_corners=False), _samples)


def cv2_remap(p):
    """OpenCV's remap, whose grid is in pixels, x and y in two arrays."""
    cv2, image = peer_module("cv2"), p.images[0, 0]
    x, y = pixels(p.grid, image.shape)
    run = partial(cv2.remap, image, x, y, cv2.INTER_LINEAR, np.empty_like(x))
    return Runner(run, _one_plane, COARSE)


def scipy_map(p):
    """SciPy's map_coordinates, whose grid is in pixels, y before x."""
    sample, image = peer_module("scipy.ndimage").map_coordinates, p.images[0, 0]
    x, y = pixels(p.grid, image.shape)
    run = partial(sample, image, np.stack([y, x]), np.empty_like(x), 1, "grid-constant")
    return Runner(run, _one_plane)


def _samples(samples):
    return {"samples": np.asarray(samples)}


def _one_plane(image):
    return {"samples": image[None, None]}


def row(side):
    """Row: one image sampled at a smooth random grid."""
    makers = {"ours": stn_sample, "torch": torch_sample, "cv2": cv2_remap, "scipy": scipy_map}
    return Row("grid_sample", partial(problem, side), makers)


ROWS = {"grid_sample 1x1x2048x2048": row(2048)}
