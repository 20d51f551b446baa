"""Transforms as constant matrices, the form in which PyTorch and ONNX models have them."""

import numpy as np

from ..nn.transformer import SpatialTransformer
from ..ops.tps_grid import tps_grid
from ..transforms.parametrisations import Transform

# The padding modes of PyTorch's and ONNX's grid_sample.
EXPORTABLE_PADDINGS = ("zeros", "border", "reflection")


class ExportError(Exception):
    """The network cannot be exported; the message says which part."""


def check_sampler(layer: SpatialTransformer) -> None:
    """Raise unless PyTorch's and ONNX's samplers can replace this transformer's.

    Raises
    ------
    ExportError
        If it warps volumes, or its padding mode is unknown to them.
    """
    if layer.transform.kind == "affine 3-D":
        raise ExportError(f"{layer.transform}: transformers of volumes cannot be exported")
    if layer.padding_mode not in EXPORTABLE_PADDINGS:
        raise ExportError(
            f"padding_mode: only {', '.join(EXPORTABLE_PADDINGS)} can be exported, "
            f"got {layer.padding_mode!r}"
        )


def theta_matrix(layer: SpatialTransformer) -> tuple[np.ndarray, np.ndarray]:
    """``weight`` (size of theta, P) and ``bias`` of ``theta.ravel() = weight @ params + bias``.

    Here theta is that of all views of an image, one after another.

    Raises
    ------
    ExportError
        If theta is not a linear function of the parameters, for instance of an angle.
    """
    transform = layer.transform
    unit = np.concatenate([np.zeros((1, transform.size)), np.eye(transform.size)])
    theta = layer.theta_of_views(unit).reshape(len(unit), -1)
    weight, bias = (theta[1:] - theta[0]).T, theta[0]
    probe = np.random.default_rng(0).standard_normal((3, transform.size))
    if not np.allclose(layer.theta_of_views(probe).reshape(3, -1), probe @ weight.T + bias):
        raise ExportError(
            f"the transform {transform} cannot be exported: its theta is not linear in its "
            f"parameters; expected one like affine, projective or tps"
        )
    return weight.astype(np.float32), bias.astype(np.float32)


def tps_grid_matrix(transform: Transform, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """Matrix (H W, K) whose product with K control points is a thin-plate spline's grid."""
    points = transform.size // 2
    control = np.zeros((points, points, 2))
    control[:, :, 0] = np.eye(points)
    grid = tps_grid(control, size, align_corners=align_corners,
                    regularisation=transform.regularisation)  # fmt: skip
    return grid[..., 0].reshape(points, -1).T.astype(np.float32)


def output_points(size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """(3, H W): x, y and 1 of the output's pixels, in normalised coordinates."""
    axes = []
    for side in size:
        length = side - 1 if align_corners else side
        axes.append((2 * np.arange(side) - (side - 1)) / max(length, 1))
    y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).astype(np.float32)
