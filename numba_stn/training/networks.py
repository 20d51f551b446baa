"""Networks for images of any size and number of channels, with or without a transformer."""

from ..nn import (
    avg_pool,
    batch_norm,
    conv2d,
    dropout,
    flatten,
    linear,
    max_pool,
    relu,
    serial,
    spatial_transformer,
)
from ..nn.base import Layer, Shape
from ..nn.containers import Serial
from ..transforms.parametrisations import Transform

MODELS = ("st-cnn", "cnn")

# Features of the convolutions of the classifier and of the localisation, and of the hidden layers.
WIDTHS, DENSE = (32, 64, 96, 128, 128), 128
LOCALISATION_WIDTHS, LOCALISATION_DENSE = (20, 40, 40, 40, 40), 32

# Convolutions are added until the shorter side has at most this many pixels; images with fewer
# than LEAST_SIDE pixels have none.
LAST_SIDE, LEAST_SIDE = 5, 7

# From this side on, the localisation sees the images at half size.
HALVED_SIDE = 28


def build(
    model: str,
    shape: Shape,
    outputs: int,
    transform: str | Transform = "affine",
    rounds: int = 1,
) -> Serial:
    """Build a network for images of a shape: (N, C, H, W) -> (N, outputs).

    The number of convolutions grows with the images' sides.

    Parameters
    ----------
    model : {"st-cnn", "cnn"}
        With or without a spatial transformer before the convolutions.
    shape : (C, H, W)
    outputs : int
        Number of classes, for example.
    transform : str or Transform
        The transformer's.
    rounds : int
        Number of rounds in which the transformer predicts its map.

    Returns
    -------
    Serial

    Examples
    --------
    >>> from numba_stn.training import networks
    >>> networks.build("st-cnn", (3, 48, 48), 15).output_shape((3, 48, 48))
    (15,)
    """
    layers = classifier(shape, outputs)
    if model == "st-cnn":
        warped = spatial_transformer(localisation(shape), transform, rounds=rounds)
        layers = [warped, *layers]
    return serial(*layers)


def classifier(shape: Shape, outputs: int) -> list[Layer]:
    """Convolutions, each followed by pooling, and a hidden layer."""
    layers = _convolutions(shape, WIDTHS)
    return [*layers, flatten(), linear(DENSE), batch_norm(), relu(), dropout(0.3), linear(outputs)]


def localisation(shape: Shape) -> Serial:
    """Convolutions and a hidden layer, on images at half size; small images keep their size."""
    layers: list[Layer] = [avg_pool(2)] if min(shape[1:]) >= HALVED_SIDE else []
    reduced = serial(*layers).output_shape(shape) if layers else shape
    layers += _convolutions(reduced, LOCALISATION_WIDTHS, last_side=9)
    return serial(*layers, flatten(), linear(LOCALISATION_DENSE), batch_norm(), relu())


def _convolutions(shape: Shape, widths: tuple[int, ...], last_side: int = LAST_SIDE) -> list[Layer]:
    """Convolutions and pooling, until the shorter side has at most ``last_side`` pixels."""
    layers: list[Layer] = []
    side = min(shape[1:])
    for features in widths:
        if side < LEAST_SIDE or (layers and side <= last_side):
            break
        kernel = 5 if not layers and side >= 24 else 3
        side -= kernel - 1
        layers += [conv2d(features, kernel), batch_norm()]
        if side >= 4:
            layers.append(max_pool(2))
            side //= 2
        layers.append(relu())
    return layers
