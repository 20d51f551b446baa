"""Where the transformers of a network look in its input: frames, as polygons."""

from itertools import takewhile
from typing import Any

import numpy as np

from ..nn.base import Layer
from ..nn.containers import Branches, Serial
from ..nn.train import Learner
from ..nn.transformer import SpatialTransformer
from ..nn.tree import Tree
from ..ops.grid_sample import grid_sample
from ..ops.tps_grid import tps_grid
from ..ops.warp_cpab import cpab_grid

# Points along each side of a frame. Affine maps would need two, splines bend.
POINTS = 17

# A spline is computed at this number of points along each side, and linear in between.
FINE = 65


def frames(net: Layer, learner: Learner, images: np.ndarray) -> list[np.ndarray]:
    """The outlines of what the first transformers sample, in normalised coordinates of the images.

    Of several transformers in series at the start of the network, the outline is that of the last;
    of several views, that of the first.

    Parameters
    ----------
    net : Layer
    learner : Learner
    images : (N, C, H, W) array
        As the network takes them.

    Returns
    -------
    list of (N, P, 2) arrays
        One for each of the transformers in parallel; empty if the network does not begin with one.
    """
    return _frames(net, learner.params, learner.state, images)


def _frames(layer: Layer, params: Tree, state: Tree, images: np.ndarray) -> list[np.ndarray]:
    if isinstance(layer, Branches):
        parts = zip(layer.layers, params, state or ((),) * len(params), strict=True)
        return [frame for part in parts for frame in _frames(*part, images)]
    chain: list[Any] = []  # of transformers, with their thetas
    for part, own, its_state in _leading(layer, params, state):
        theta, _, _ = part.theta(own, images, its_state)
        theta = theta[:: part.views]
        chain.append((part, theta))
        images = part.apply(own, images, its_state)[0][:, : images.shape[1]]
    if not chain:
        first = layer.layers[0] if isinstance(layer, Serial) and layer.layers else None
        if isinstance(first, (Serial, Branches)):
            return _frames(first, params[0], state[0] if state else (), images)
        return []
    points = np.broadcast_to(outline(), (len(images), 4 * POINTS, 2))
    for part, theta in reversed(chain):
        points = mapped(part, theta, points)
    return [points]


def _leading(layer: Layer, params: Tree, state: Tree) -> list[tuple[Any, Tree, Tree]]:
    """The transformers at the start of a network, with their parameters and state."""
    if isinstance(layer, SpatialTransformer):
        return [(layer, params, state)]
    if not isinstance(layer, Serial):
        return []
    parts = zip(layer.layers, params, state or [()] * len(layer.layers), strict=False)
    return list(takewhile(lambda part: isinstance(part[0], SpatialTransformer), parts))


def outline() -> np.ndarray:
    """Points (4 P, 2) around the square from -1 to 1."""
    along = np.linspace(-1, 1, POINTS)
    one = np.ones(POINTS)
    return np.concatenate(
        [
            np.stack(side, -1)
            for side in ((along, -one), (one, along), (-along, one), (-one, -along))
        ]
    )


def mapped(layer: SpatialTransformer, theta: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, P, 2) of a transformer's output as points of its input."""
    if layer.transform.kind in ("tps", "cpab"):
        smooth, cells = layer.transform.regularisation, layer.transform.cells
        if layer.transform.kind == "tps":
            grid = tps_grid(theta, (FINE, FINE), align_corners=True, regularisation=smooth)
        else:
            grid = cpab_grid(theta, (FINE, FINE), cells, align_corners=True)
        planes = np.ascontiguousarray(np.moveaxis(grid, 3, 1), np.float64)
        found = grid_sample(planes, points[:, None].astype(np.float64), padding_mode="border",
                            align_corners=True)  # fmt: skip
        return np.moveaxis(found[:, :, 0], 1, 2)
    both = np.concatenate([points, np.ones((*points.shape[:2], 1))], 2) @ theta.swapaxes(1, 2)
    return both[..., :2] / both[..., 2:] if both.shape[2] == 3 else both
