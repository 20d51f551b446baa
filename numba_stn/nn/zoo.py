"""The networks of the paper's experiments, each under 400,000 parameters.

Jaderberg et al. 2015, appendix A.4, with batch normalisation, which the paper did not have.
"""

from math import prod

from .layer import Layer, Shape, whole
from .layers import (
    Serial,
    avg_pool,
    batch_norm,
    conv2d,
    flatten,
    linear,
    max_pool,
    parallel,
    relu,
    serial,
)
from .transformer import spatial_transformer

MODELS = ("fcn", "cnn", "st-fcn", "st-cnn", "st-cnn-deep")


def build(
    model: str,
    shape: Shape,
    transform: str = "affine",
    size: tuple[int, int] | None = None,
    classes: int = 10,
    transformers: int = 1,
) -> Serial:
    """The network for images of ``shape``.

    Parameters
    ----------
    model : {"fcn", "cnn", "st-fcn", "st-cnn", "st-cnn-deep"}
        The last has a transformer of the images and one of what the first convolution makes of
        them.
    shape : (C, H, W)
    transform : str
        For the models with a transformer.
    size : (H_out, W_out), optional
        What a transformer makes of the images; their own size, if not given.
    classes : int
    transformers : int
        Side by side, each reading all channels; what they make goes on together.

    Returns
    -------
    Serial

    Raises
    ------
    ValueError
        If there is no such model or transform, or the model has no transformer to have several of.

    Examples
    --------
    >>> from numba_stn.nn import zoo
    >>> net = zoo.build("st-cnn", (1, 28, 28))
    >>> net.output_shape((1, 28, 28))
    (10,)
    """
    if model not in MODELS:
        raise ValueError(f"model: expected one of {list(MODELS)}, got {model!r}")
    whole("build", transformers=transformers)
    dense = model.endswith("fcn")
    if not model.startswith("st-"):
        if transformers > 1:
            raise ValueError(f"transformers: the model {model} has none, got {transformers}")
        return fcn(shape, classes) if dense else cnn(shape, classes)
    localisation = fcn_localisation(shape) if dense else cnn_localisation(shape)
    each = spatial_transformer(localisation, transform, size)
    front = each if transformers == 1 else parallel(*[each] * transformers)
    seen = front.output_shape(shape)
    classifier = fcn(seen, classes) if dense else cnn(seen, classes)
    if model == "st-cnn-deep":
        first, rest = classifier.layers[:4], classifier.layers[4:]
        return serial(front, *first, spatial_transformer(deep_localisation(), transform), *rest)
    return serial(front, *classifier.layers)


def fcn(shape: Shape, classes: int) -> Serial:
    """Two hidden layers of 128, or of 96 where 128 would see too many pixels."""
    width = 128 if prod(shape) <= 2_000 else 96
    hidden = [layer for _ in range(2) for layer in (linear(width), batch_norm(), relu())]
    return serial(flatten(), *hidden, linear(classes))


def cnn(shape: Shape, classes: int) -> Serial:
    """Three convolutions, pooling after the first and the third, and a hidden layer.

    Images above 32 pixels a side are pooled after the second too. Those below 28 get two
    convolutions, and no hidden layer.
    """
    if shape[1] < 28:
        return serial(*_pooled(32, 5), *_pooled(64, 3), flatten(), linear(classes))
    second = _pooled(48, 3) if shape[1] > 32 else [*_convolution(48, 3), relu()]
    return serial(
        *_pooled(24, 5), *second, *_pooled(64, 3),
        flatten(), linear(128), batch_norm(), relu(), linear(classes),
    )  # fmt: skip


def fcn_localisation(shape: Shape) -> Serial:
    """Two hidden layers of 32, on the image at half size where it is large."""
    return serial(
        *_half(shape, 40), flatten(), linear(32), batch_norm(), relu(), linear(32), relu()
    )


def cnn_localisation(shape: Shape) -> Serial:
    """Two convolutions on the image at half size, and a hidden layer; small images stay whole."""
    half = _half(shape, 28)
    return serial(
        *half, *_pooled(20, 5), *_convolution(20, 5 if half else 3), relu(),
        flatten(), linear(20), relu(),
    )  # fmt: skip


def deep_localisation() -> Serial:
    """A hidden layer on feature maps at half size."""
    return serial(avg_pool(2), flatten(), linear(32), relu())


def _half(shape: Shape, least: int) -> list[Layer]:
    """Pooling for images of so many pixels a side."""
    return [avg_pool(2)] if shape[1] >= least else []


def _convolution(features: int, kernel: int) -> list[Layer]:
    return [conv2d(features, kernel), batch_norm()]


def _pooled(features: int, kernel: int) -> list[Layer]:
    """With pooling before the ReLU, which is the same as after it, on a quarter of the pixels."""
    return [*_convolution(features, kernel), max_pool(2), relu()]
