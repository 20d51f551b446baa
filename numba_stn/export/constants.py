"""What both exports share: which layers can be exported, theta's formula, and preprocessing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..nn.activations import LeakyRelu, Sigmoid, Softmax, Tanh
from ..nn.base import Layer, Shape
from ..nn.containers import Branches, MeanOfViews, Serial
from ..nn.convolution import Conv2d
from ..nn.dense import Flatten, Linear, Relu
from ..nn.dropout import Dropout
from ..nn.normalisation import BatchNorm
from ..nn.pooling import AvgPool, GlobalAvgPool, MaxPool
from ..nn.poses import WithTheta
from ..nn.rounds import zoomed_out
from ..nn.transformer import SpatialTransformer
from ..nn.volumes import AvgPool3d, Conv3d, MaxPool3d
from ..ops.tps_grid import tps_grid
from ..transforms.parametrisations import Transform
from . import expressions
from .expressions import Expression

# The padding modes of PyTorch's and ONNX's grid_sample.
EXPORTABLE_PADDINGS = ("zeros", "border", "reflection")

# The layers that have a counterpart in both, besides containers and the transformer.
EXPORTABLE_LAYERS = (
    Linear, Conv2d, BatchNorm, MaxPool, AvgPool, GlobalAvgPool, Relu, LeakyRelu, Tanh, Sigmoid,
    Softmax, Flatten, Dropout, Conv3d, MaxPool3d, AvgPool3d,
)  # fmt: skip


class ExportError(Exception):
    """The network cannot be exported; the message says which part."""


# --- Checks ---------------------------------------------------------------------------------------


def check_exportable(net: Layer) -> None:
    """Raise unless a network can be exported; it need not be trained.

    Parameters
    ----------
    net : Layer

    Raises
    ------
    ExportError
        If a layer, a transform or a padding mode has no counterpart in PyTorch and ONNX; the
        message names it.

    Examples
    --------
    >>> from numba_stn import export, nn
    >>> export.check_exportable(nn.serial(nn.flatten(), nn.linear(2)))
    """
    if isinstance(net, (Serial, Branches)):
        for layer in net.layers:
            check_exportable(layer)
    elif isinstance(net, (MeanOfViews, WithTheta)):
        check_exportable(net.layer)
    elif isinstance(net, SpatialTransformer):
        check_exportable(net.localisation)
        if net.transform.kind == "cpab":
            raise ExportError(f"the transform {net.transform} has no counterpart in PyTorch and "
                              f"ONNX")  # fmt: skip
        check_sampler(net)
        theta_formula(net)
    elif type(net) not in EXPORTABLE_LAYERS:  # a subclass may compute something else
        raise ExportError(f"{net!r} has no counterpart in PyTorch and ONNX")


def check_sampler(layer: SpatialTransformer) -> None:
    """Raise unless PyTorch's and ONNX's samplers can replace this transformer's.

    Raises
    ------
    ExportError
        If its padding mode is unknown to them.
    """
    if layer.padding_mode not in EXPORTABLE_PADDINGS:
        raise ExportError(
            f"padding_mode: only {', '.join(EXPORTABLE_PADDINGS)} can be exported, "
            f"got {layer.padding_mode!r}"
        )


# --- Theta ----------------------------------------------------------------------------------------


class ThetaFormula(NamedTuple):
    """Theta of one round: ``weight @ terms + bias``, flat.

    The terms are the transform's parameters, or expressions of them.
    """

    terms: list[Expression]
    weight: np.ndarray
    bias: np.ndarray

    def compute_terms(self, leaf: Callable[[int], Any], apply: Callable[..., Any]) -> list[Any]:
        """The terms as computed by the functions of :func:`.expressions.compute`."""
        return expressions.compute(self.terms, leaf, apply)


def theta_formula(layer: SpatialTransformer) -> ThetaFormula:
    """The formula of one round's theta from the transform's parameters, without views.

    With :func:`is_composed`, theta is a square matrix, with the last row that affine maps omit.

    Raises
    ------
    ExportError
        If the transform's formula is not of the functions that :class:`Expression` has.
    """
    transform = layer.transform
    unit = np.concatenate([np.zeros((1, transform.size)), np.eye(transform.size)])
    theta = transform.theta(unit).reshape(len(unit), -1)
    weight, bias = (theta[1:] - theta[0]).T, theta[0]
    probe = np.random.default_rng(0).standard_normal((8, transform.size))
    expected = transform.theta(probe).reshape(8, -1)
    terms = expressions.parameters(transform.size)[0].tolist()
    if not np.allclose(expected, probe @ weight.T + bias):
        terms, weight, bias = _traced(transform)
        columns = expressions.compute(
            terms, lambda index: probe[:, index], lambda name, *given: getattr(np, name)(*given)
        )
        if not np.allclose(expected, np.stack(columns, 1) @ weight.T + bias):
            raise ExportError(f"the transform {transform} cannot be exported: the expressions of "
                              f"its formula do not give its theta")  # fmt: skip
    if is_composed(layer) and transform.kind != "projective":
        weight = np.concatenate([weight, np.zeros((transform.shape[1], len(terms)))])
        bias = np.concatenate([bias, np.eye(transform.shape[1])[-1]])
    return ThetaFormula(terms, weight.astype(np.float32), bias.astype(np.float32))


def _traced(transform):
    """The expressions in theta, and the weight and bias that put them in their places."""
    try:
        theta = transform.forward(expressions.parameters(transform.size))
        entries = np.asarray(theta, object).ravel().tolist()
        terms = list(
            {id(entry): entry for entry in entries if isinstance(entry, Expression)}.values()
        )
        places = {id(term): column for column, term in enumerate(terms)}
        weight, bias = np.zeros((len(entries), len(terms))), np.zeros(len(entries))
        for row, entry in enumerate(entries):
            if isinstance(entry, Expression):
                weight[row, places[id(entry)]] = 1
            else:
                bias[row] = float(entry)
    except Exception as error:  # a user's formula may be any code
        raise ExportError(
            f"the transform {transform} cannot be exported: expected a formula of arithmetic and "
            f"{', '.join(expressions.FUNCTIONS)}: {error}"
        ) from error
    return terms, weight, bias


def is_composed(layer: SpatialTransformer) -> bool:
    """Whether theta is a product of matrices: of several rounds, or with views."""
    return layer.rounds > 1 or bool(layer.view_angles)


def zoom_matrix(layer: SpatialTransformer) -> np.ndarray:
    """The square matrix by which a round's theta is multiplied for the next one."""
    columns = layer.transform.shape[1]
    return zoomed_out(np.eye(columns)[None], layer.zoom)[0].astype(np.float32)


def view_matrices(layer: SpatialTransformer) -> np.ndarray:
    """(K, 3, 3): the rotation of each view, by which theta is multiplied; one if it has none."""
    columns = layer.transform.shape[1]
    return layer.rotated_views(np.eye(columns)[None]).astype(np.float32)


# --- Preprocessing --------------------------------------------------------------------------------


class Preprocessing(NamedTuple):
    """What an exported model does with an image before the network sees it.

    The model takes images (N, H, W, C) of ``dtype``, as image files are read, and the network sees
    ``(images - mean) / deviation``, in float32 and with channels first.

    Attributes
    ----------
    mean, deviation : (C,) array
        Of each channel, in the images' own units.
    dtype : {"uint8", "uint16", "float32"}
    """

    mean: Any
    deviation: Any
    dtype: str = "uint8"

    def checked(self, shape: Shape) -> "Preprocessing":
        """The same with arrays, for images of ``shape`` (C, H, W).

        Raises
        ------
        ValueError
            If something does not fit.
        """
        if self.dtype not in ("uint8", "uint16", "float32"):
            raise ValueError(
                f"preprocessing: dtype: expected uint8, uint16 or float32, got {self.dtype!r}"
            )
        if len(shape) != 3:
            raise ValueError(f"preprocessing: expected a network for images (C, H, W), got {shape}")
        mean, deviation = (np.asarray(part, np.float64) for part in self[:2])
        for name, part in (("mean", mean), ("deviation", deviation)):
            if part.shape != shape[:1] or not np.isfinite(part).all():
                raise ValueError(
                    f"preprocessing: {name}: expected {shape[0]} finite numbers, got {part}"
                )
        if not (deviation > 0).all():
            raise ValueError(
                f"preprocessing: deviation: expected positive numbers, got {deviation}"
            )
        return Preprocessing(mean, deviation, self.dtype)


def check_activation(activation: str | None) -> None:
    """Raise unless it is the name of a function that turns logits into probabilities, or None."""
    if activation not in (None, "softmax", "sigmoid"):
        raise ValueError(f"activation: expected softmax, sigmoid or None, got {activation!r}")


# --- Grids ----------------------------------------------------------------------------------------


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
