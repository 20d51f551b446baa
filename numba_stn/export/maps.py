"""Transforms as constant matrices, which is all that the formats know of them."""

import numpy as np

from ..nn.transformer import SpatialTransformer
from ..ops.tps_grid import tps_grid
from ..transforms.parametrisations import Transform

# What PyTorch's and ONNX's grid_sample know.
PADDINGS = ("zeros", "border", "reflection")


class ExportError(Exception):
    """A network cannot be said in the format; the message says which part."""


def check(layer: SpatialTransformer) -> None:
    """Raise unless the others' sampler can do what this transformer does.

    Raises
    ------
    ExportError
        If it warps volumes, or pads in a way that they do not know.
    """
    if layer.transform.kind == "affine 3-D":
        raise ExportError(f"{layer.transform}: transformers of volumes cannot be exported")
    if layer.padding_mode not in PADDINGS:
        raise ExportError(
            f"padding_mode: only {', '.join(PADDINGS)} can be exported, got {layer.padding_mode!r}"
        )


def linear_map(layer: SpatialTransformer) -> tuple[np.ndarray, np.ndarray]:
    """``weight`` (maps' size, P) and ``bias`` with ``maps.ravel() = weight @ params + bias``.

    The maps are theta of each of an image's readings.

    Raises
    ------
    ExportError
        If theta is not a linear function of the parameters, as an angle's is not.
    """
    transform = layer.transform
    unit = np.concatenate([np.zeros((1, transform.size)), np.eye(transform.size)])
    maps = layer.maps(unit).reshape(len(unit), -1)
    weight, bias = (maps[1:] - maps[0]).T, maps[0]
    probe = np.random.default_rng(0).standard_normal((3, transform.size))
    if not np.allclose(layer.maps(probe).reshape(3, -1), probe @ weight.T + bias):
        raise ExportError(
            f"the transform {transform} cannot be exported: its theta is not linear in its "
            f"parameters; expected one as affine, projective or tps"
        )
    return weight.astype(np.float32), bias.astype(np.float32)


def spline_matrix(transform: Transform, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """(H W, K): the grid of a spline is this by its control points."""
    points = transform.size // 2
    control = np.zeros((points, points, 2))
    control[:, :, 0] = np.eye(points)
    grid = tps_grid(control, size, align_corners=align_corners,
                    regularisation=transform.regularisation)  # fmt: skip
    return grid[..., 0].reshape(points, -1).T.astype(np.float32)


def base_points(size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """(3, H W): x, y and 1 of the output's pixels, in normalised coordinates."""
    axes = []
    for side in size:
        span = side - 1 if align_corners else side
        axes.append((2 * np.arange(side) - (side - 1)) / max(span, 1))
    y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).astype(np.float32)
