"""The networks of the paper's experiments, each under 400,000 parameters.

Jaderberg et al. 2015, appendix A.4, with batch normalisation, which the paper did not have.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from ..transforms.parametrisations import by_name
from .layer import Layer, Shape, whole
from .layers import (
    Serial,
    averaged,
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
from .transformer import TURNED, SpatialTransformer, spatial_transformer

MODELS = ("fcn", "cnn", "st-fcn", "st-cnn", "st-cnn-deep")

# Weights of the first layer of a dense localisation: the first one's, and that of one that reads
# what a transformer before it has cut out.
FIRST, AGAIN = 110_000, 26_000

# Weights of the two dense layers behind a transformer, and how many of them another one takes for
# the whole of its localisation; the features of the first of these layers, at most.
BEHIND, TAKEN, WIDEST = 266_300, 36_000, 448

# How much of the sides of what another one has cut out a transformer starts with: as much as a
# digit fills of MNIST's images, 20 of 28 pixels.
NEARER = 20 / 28

# Degrees from one reading to the next, of a network that reads each image several times.
TURN = 20


def build(
    model: str,
    shape: Shape,
    transform: str = "affine",
    size: tuple[int, int] | Sequence[tuple[int, int]] | None = None,
    classes: int = 10,
    transformers: int = 1,
    readings: int = 1,
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
    size : (H_out, W_out) or several of them, optional
        What a transformer makes of the images; their own size, if not given. If it is smaller,
        the transformer starts in their middle, with a pixel a sample. With several sizes, so many
        transformers stand one behind another, each reading what the last one made, at first the
        middle 5/7 of its sides.
    classes : int
    transformers : int
        Side by side, each reading all channels; what they make goes on together.
    readings : int
        How many times the network reads each image: as the first transformer brings it into place,
        then turned by -20 degrees, by 20, by -40, and so on. Its logits are the mean over these.

    Returns
    -------
    Serial

    Raises
    ------
    ValueError
        If there is no such model or transform, or the model has no transformer to have several of,
        or not a single one that can be turned for several readings.

    Examples
    --------
    >>> from numba_stn.nn import zoo
    >>> net = zoo.build("st-cnn", (1, 28, 28))
    >>> net.output_shape((1, 28, 28))
    (10,)
    """
    if model not in MODELS:
        raise ValueError(f"model: expected one of {list(MODELS)}, got {model!r}")
    whole("build", transformers=transformers, readings=readings)
    dense = model.endswith("fcn")
    if not model.startswith("st-"):
        if transformers > 1:
            raise ValueError(f"transformers: the model {model} has none, got {transformers}")
        if readings > 1:
            raise ValueError(f"readings: the model {model} has no transformer, got {readings}")
        return fcn(shape, classes) if dense else cnn(shape, classes)
    if readings > 1 < transformers:
        raise ValueError(
            f"readings: expected 1 with {transformers} transformers side by side, got {readings}"
        )
    if readings > 1 and by_name(transform).kind not in TURNED:
        raise ValueError(f"readings: {transform} cannot be turned, expected 1, got {readings}")
    sizes = size if size and isinstance(size[0], Sequence) else [size]
    each = _in_depth(shape, transform, sizes, transformers, dense)
    front = each if transformers == 1 else [parallel(*[serial(*each)] * transformers)]
    seen = serial(*front).output_shape(shape)
    classifier = fcn(seen, classes, _behind(seen, len(sizes))) if dense else cnn(seen, classes)
    behind = list(classifier.layers)
    if model == "st-cnn-deep":
        behind.insert(4, spatial_transformer(deep_localisation(), transform))
    if readings == 1:
        return serial(*front, *behind)
    first, *others = front
    return serial(replace(first, turns=_turns(readings)), averaged(readings, *others, *behind))


def _in_depth(shape, transform, sizes, transformers, dense):
    """A transformer for each size, the next one on what the last one made."""
    layers: list[SpatialTransformer] = []
    for size in sizes:
        again = bool(layers)
        if dense:
            localisation = fcn_localisation(shape, transformers, again)
        else:
            localisation = cnn_localisation(shape)
        zoom = _zoom(transform, shape, size, again)
        layers.append(spatial_transformer(localisation, transform, size, zoom=zoom))
        shape = layers[-1].output_shape(shape)
    return layers


def _turns(readings):
    """0 degrees, -20, 20, -40, and so on."""
    return tuple(float(TURN * ((k + 1) // 2) * (-1) ** k) for k in range(readings))


def _behind(seen, transformers):
    """Features of the first dense layer behind so many transformers; the next one has 256."""
    return _width((prod(seen) + 256,), BEHIND - TAKEN * (transformers - 1), WIDEST)


def _zoom(transform, shape, size, again):
    """Where a smaller output starts: in the middle of the image, if it can.

    With a sample a pixel, or nearer to what another transformer has cut out already.
    """
    if not (size and by_name(transform).scales):
        return 1.0
    return NEARER if again else size[0] / shape[1]


def fcn(shape: Shape, classes: int, width: int | None = None) -> Serial:
    """Two hidden layers, the first of ``width`` features and the second of up to 256.

    Without one, the first is of up to 256, of fewer where it would have more than 340,000 weights.
    """
    if width is None:
        width = _width(shape, 340_000, 256)
    return serial(flatten(), *_dense(width), *_dense(min(width, 256)), linear(classes))


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
        flatten(), *_dense(128), linear(classes),
    )  # fmt: skip


def fcn_localisation(shape: Shape, transformers: int = 1, again: bool = False) -> Serial:
    """Two hidden layers of 128 and 64; of up to 256 and 64 on a large image at half size.

    ``again``: the image is what a transformer before it has cut out, and that is seen at half size
    too. Those of several transformers share their number of weights.
    """
    halving = _half(shape, 28 if again else 40)
    half = serial(*halving, flatten())
    weights = (AGAIN if again else FIRST) // transformers
    width = _width(half.output_shape(shape), weights, 256 if halving else 128)
    return serial(*half.layers, *_dense(width), *_dense(64))


def cnn_localisation(shape: Shape) -> Serial:
    """Two convolutions on the image at half size, and a hidden layer; small images stay whole."""
    return serial(
        *_half(shape, 28), *_pooled(20, 5), *_convolution(40, 3), relu(), flatten(), *_dense(32)
    )


def deep_localisation() -> Serial:
    """A hidden layer on feature maps at half size."""
    return serial(avg_pool(2), flatten(), linear(32), relu())


def _half(shape: Shape, least: int) -> list[Layer]:
    """Pooling for images of so many pixels a side."""
    return [avg_pool(2)] if shape[1] >= least else []


def _width(shape: Shape, weights: int, most: int) -> int:
    """A layer's features, in eights, so that it has no more than these weights."""
    return min(most, weights // prod(shape) // 8 * 8)


def _dense(features: int) -> list[Layer]:
    return [linear(features), batch_norm(), relu()]


def _convolution(features: int, kernel: int) -> list[Layer]:
    return [conv2d(features, kernel), batch_norm()]


def _pooled(features: int, kernel: int) -> list[Layer]:
    """With pooling before the ReLU, which is the same as after it, on a quarter of the pixels."""
    return [*_convolution(features, kernel), max_pool(2), relu()]
