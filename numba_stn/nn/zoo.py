"""The networks of the paper's experiments, each with less than 400,000 parameters.

Jaderberg et al. 2015, appendix A.4, with batch normalisation, which the paper did not use.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from ..transforms.parametrisations import by_name
from .base import Layer, Shape
from .batch_blocked import check_image_shape
from .checks import check_whole
from .containers import Serial, mean_of_views, parallel, serial
from .convolution import conv2d
from .dense import flatten, linear, relu
from .normalisation import batch_norm
from .pooling import avg_pool, max_pool
from .transformer import ROTATABLE, SpatialTransformer, spatial_transformer

MODELS = ("fcn", "cnn", "st-fcn", "st-cnn", "st-cnn-deep")

# Number of weights in the first layer of a fully connected localisation: of the first transformer,
# and of a transformer that follows another one.
FIRST_LOCALISATION_WEIGHTS, NEXT_LOCALISATION_WEIGHTS = 110_000, 26_000

# Number of weights in the two hidden layers of the fully connected classifier after a transformer,
# and how many fewer they have for each further transformer, whose localisation needs them.
CLASSIFIER_WEIGHTS, WEIGHTS_PER_TRANSFORMER = 266_300, 36_000

# The largest number of features of that classifier's first layer.
CLASSIFIER_FEATURES = 448

# Initial zoom of a transformer that follows another one: the share of an MNIST image's side that a
# digit fills, 20 of 28 pixels.
NEXT_ZOOM = 20 / 28

# Angle between the views of a network with several views, in degrees.
VIEW_ANGLE = 20


def build(
    model: str,
    shape: Shape,
    transform: str = "affine",
    size: tuple[int, int] | Sequence[tuple[int, int]] | None = None,
    classes: int = 10,
    transformers: int = 1,
    views: int = 1,
    rounds: int = 1,
) -> Serial:
    """Build one of the paper's networks: (N, C, H, W) -> logits (N, classes).

    Parameters
    ----------
    model : {"fcn", "cnn", "st-fcn", "st-cnn", "st-cnn-deep"}
        Fully connected or convolutional, with "st-" after a spatial transformer. "st-cnn-deep" has
        a second transformer, of the first convolution's output.
    shape : (C, H, W)
        Of one image.
    transform : str
        The transformers' transform, see :mod:`numba_stn.transforms`.
    size : (H_out, W_out) or several of them, optional
        Output size of the transformer; by default the images' own. If it is smaller, the
        transformer starts in the middle of the images, with one sample per pixel. With several
        sizes there is one transformer for each, one after another. Each further one starts with the
        middle 5/7 of its input's sides.
    classes : int
    transformers : int
        Number of transformers in parallel. Each sees all channels, and their outputs are
        concatenated.
    views : int
        Number of views of each image. The first transformer gives the first view, and rotations of
        it by -20 degrees, 20, -40, and so on. The logits are the mean over the views.
    rounds : int
        Number of rounds of each transformer of the images, see
        :func:`numba_stn.nn.spatial_transformer`.

    Returns
    -------
    Serial

    Raises
    ------
    ValueError
        If there is no such model or transform, if the shape or a number is wrong, if the model has
        no transformer for ``transformers``, ``views`` or ``rounds``, or if it has several in
        parallel, or a transform that cannot be rotated, for ``views``.

    Examples
    --------
    >>> from numba_stn.nn import zoo
    >>> net = zoo.build("st-cnn", (1, 28, 28))
    >>> net.output_shape((1, 28, 28))
    (10,)
    """
    _check(model, transform, transformers, views, rounds)
    check_image_shape("build", shape)
    check_whole("build", height=shape[1], width=shape[2], channels=shape[0], classes=classes)
    dense = model.endswith("fcn")
    if not model.startswith("st-"):
        return fcn(shape, classes) if dense else cnn(shape, classes)
    sizes = size if size and isinstance(size[0], Sequence) else [size]
    chain = _transformers(shape, transform, sizes, transformers, dense, rounds)
    first_layers = chain if transformers == 1 else [parallel(*[serial(*chain)] * transformers)]
    warped = serial(*first_layers).output_shape(shape)
    if dense:
        classifier = fcn(warped, classes, _classifier_features(warped, len(sizes)))
    else:
        classifier = cnn(warped, classes)
    last_layers = list(classifier.layers)
    if model == "st-cnn-deep":
        last_layers.insert(4, spatial_transformer(deep_localisation(), transform))
    if views == 1:
        return serial(*first_layers, *last_layers)
    first, *others = first_layers
    return serial(
        replace(first, view_angles=_view_angles(views)),
        mean_of_views(views, *others, *last_layers),
    )


def _check(model, transform, transformers, views, rounds):
    """Raise unless there is such a network."""
    if model not in MODELS:
        raise ValueError(f"model: expected one of {list(MODELS)}, got {model!r}")
    check_whole("build", transformers=transformers, views=views, rounds=rounds)
    if not model.startswith("st-"):
        if transformers > 1:
            raise ValueError(f"transformers: the model {model} has none, got {transformers}")
        if views > 1:
            raise ValueError(f"views: the model {model} has no transformer, got {views}")
        if rounds > 1:
            raise ValueError(f"rounds: the model {model} has no transformer, got {rounds}")
    elif views > 1 < transformers:
        raise ValueError(
            f"views: expected 1 with {transformers} parallel transformers, got {views}"
        )
    elif views > 1 and by_name(transform).kind not in ROTATABLE:
        raise ValueError(f"views: {transform} cannot be rotated, expected 1, got {views}")


def _transformers(shape, transform, sizes, transformers, dense, rounds):
    """One transformer for each size, one after another."""
    layers: list[SpatialTransformer] = []
    for size in sizes:
        follows = bool(layers)
        if dense:
            localisation = fcn_localisation(shape, transformers, follows)
        else:
            localisation = cnn_localisation(shape)
        zoom = _zoom(transform, shape, size, follows)
        layer = spatial_transformer(localisation, transform, size, zoom=zoom, rounds=rounds)
        layers.append(layer)
        shape = layers[-1].output_shape(shape)
    return layers


def _view_angles(views):
    """0 degrees, -20, 20, -40, and so on."""
    return tuple(float(VIEW_ANGLE * ((k + 1) // 2) * (-1) ** k) for k in range(views))


def _classifier_features(shape, transformers):
    """Features of the first layer of a fully connected classifier; the second has up to 256."""
    weights = CLASSIFIER_WEIGHTS - WEIGHTS_PER_TRANSFORMER * (transformers - 1)
    return _features((prod(shape) + 256,), weights, CLASSIFIER_FEATURES)


def _zoom(transform, shape, size, follows):
    """Initial zoom: one sample per pixel, or :data:`NEXT_ZOOM` after another transformer.

    It is 1 for a transform that cannot scale.
    """
    if not (size and by_name(transform).scales):
        return 1.0
    return NEXT_ZOOM if follows else size[0] / shape[1]


def fcn(shape: Shape, classes: int, features: int | None = None) -> Serial:
    """Fully connected network with hidden layers of ``features`` and up to 256 features.

    By default the first one has up to 256 features, and fewer if it would have more than 340,000
    weights.
    """
    if features is None:
        features = _features(shape, 340_000, 256)
    return serial(flatten(), *_dense(features), *_dense(min(features, 256)), linear(classes))


def cnn(shape: Shape, classes: int) -> Serial:
    """Three convolutions, pooling after the first and the third, and a hidden layer.

    Images above 32 pixels a side are pooled after the second too. Images below 28 pixels get two
    convolutions and no hidden layer.
    """
    if shape[1] < 28:
        return serial(*_pooled(32, 5), *_pooled(64, 3), flatten(), linear(classes))
    second = _pooled(48, 3) if shape[1] > 32 else [*_convolution(48, 3), relu()]
    return serial(
        *_pooled(24, 5), *second, *_pooled(64, 3),
        flatten(), *_dense(128), linear(classes),
    )  # fmt: skip


def fcn_localisation(shape: Shape, transformers: int = 1, follows: bool = False) -> Serial:
    """Hidden layers of 128 and 64 features; of up to 256 and 64 on a large image at half size.

    ``follows`` says that the transformer follows another one; its input is seen at half size from
    28 pixels a side on. Parallel transformers share their number of weights.
    """
    halving = _halving(shape, 28 if follows else 40)
    reduced = serial(*halving, flatten())
    weights = NEXT_LOCALISATION_WEIGHTS if follows else FIRST_LOCALISATION_WEIGHTS
    most = 256 if halving else 128
    features = _features(reduced.output_shape(shape), weights // transformers, most)
    return serial(*reduced.layers, *_dense(features), *_dense(64))


def cnn_localisation(shape: Shape) -> Serial:
    """Two convolutions and a hidden layer, on images at half size; small images keep their size."""
    return serial(
        *_halving(shape, 28), *_pooled(20, 5), *_convolution(40, 3), relu(), flatten(), *_dense(32)
    )


def deep_localisation() -> Serial:
    """A hidden layer on feature maps at half size."""
    return serial(avg_pool(2), flatten(), linear(32), relu())


def _halving(shape: Shape, least: int) -> list[Layer]:
    """Average pooling, for images of at least ``least`` pixels a side."""
    return [avg_pool(2)] if shape[1] >= least else []


def _features(shape: Shape, weights: int, most: int) -> int:
    """The largest multiple of 8, up to ``most``, that needs at most ``weights`` weights."""
    return min(most, weights // prod(shape) // 8 * 8)


def _dense(features: int) -> list[Layer]:
    return [linear(features), batch_norm(), relu()]


def _convolution(features: int, kernel: int) -> list[Layer]:
    return [conv2d(features, kernel), batch_norm()]


def _pooled(features: int, kernel: int) -> list[Layer]:
    """Convolution, max pooling, ReLU: pooling before ReLU gives the same result faster."""
    return [*_convolution(features, kernel), max_pool(2), relu()]
