"""The four networks of the paper's experiments, each under 400,000 parameters.

Jaderberg et al. 2015, appendix A.4, with batch normalisation, which the paper did not have.
"""

from math import prod

from .layer import Layer, Shape
from .layers import (
    Serial,
    avg_pool,
    batch_norm,
    conv2d,
    flatten,
    linear,
    max_pool,
    relu,
    serial,
)
from .transformer import spatial_transformer

MODELS = ("fcn", "cnn", "st-fcn", "st-cnn")


def build(model: str, shape: Shape, transform: str = "affine", size: tuple[int, int] | None = None,
          classes: int = 10) -> Serial:  # fmt: skip
    """The network for images of ``shape``.

    Parameters
    ----------
    model : {"fcn", "cnn", "st-fcn", "st-cnn"}
    shape : (C, H, W)
    transform : str
        For the models with a transformer.
    size : (H_out, W_out), optional
        What the transformer makes of the images; their own size, if not given.
    classes : int

    Returns
    -------
    Serial

    Raises
    ------
    ValueError
        If there is no such model or transform.

    Examples
    --------
    >>> from numba_stn.nn import zoo
    >>> net = zoo.build("st-cnn", (1, 28, 28))
    >>> net.output_shape((1, 28, 28))
    (10,)
    """
    if model not in MODELS:
        raise ValueError(f"model: expected one of {list(MODELS)}, got {model!r}")
    dense = model.endswith("fcn")
    if not model.startswith("st-"):
        return fcn(shape, classes) if dense else cnn(shape, classes)
    localisation = fcn_localisation() if dense else cnn_localisation(shape)
    transformer = spatial_transformer(localisation, transform, size)
    seen = transformer.output_shape(shape)
    classifier = fcn(seen, classes) if dense else cnn(seen, classes)
    return serial(transformer, *classifier.layers)


def fcn(shape: Shape, classes: int) -> Serial:
    """Two hidden layers of 128, or of 96 where 128 would see too many pixels."""
    width = 128 if prod(shape) <= 2_500 else 96
    hidden = [layer for _ in range(2) for layer in (linear(width), batch_norm(), relu())]
    return serial(flatten(), *hidden, linear(classes))


def cnn(shape: Shape, classes: int) -> Serial:
    """Two convolutions, each with pooling, and a linear layer; small images get small windows."""
    first, second = (9, 7) if shape[1] >= 28 else (5, 3)
    return serial(
        *_convolution(32, first), max_pool(2),
        *_convolution(64, second), max_pool(2),
        flatten(), linear(classes),
    )  # fmt: skip


def fcn_localisation() -> Serial:
    """Two hidden layers of 32."""
    return serial(flatten(), linear(32), batch_norm(), relu(), linear(32), relu())


def cnn_localisation(shape: Shape) -> Serial:
    """Two convolutions on the image at half size, and a hidden layer; small images stay whole."""
    half: list[Layer] = [avg_pool(2)] if shape[1] >= 28 else []
    return serial(
        *half, *_convolution(20, 5), max_pool(2), *_convolution(20, 5 if half else 3),
        flatten(), linear(20), relu(),
    )  # fmt: skip


def _convolution(features: int, kernel: int) -> list[Layer]:
    return [conv2d(features, kernel), batch_norm(), relu()]
