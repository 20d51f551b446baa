"""The paper's networks: their numbers of parameters, and their transformers' initial theta."""

import numpy as np
import pytest

from numba_stn import nn
from numba_stn.nn import zoo


@pytest.mark.parametrize("model", zoo.MODELS)
@pytest.mark.parametrize("side", [16, 28, 42, 60])
def test_models_of_the_paper(model, side):
    net = zoo.build(model, (1, side, side), size=(min(side, 28),) * 2)
    params = net.init(np.random.default_rng(0), (1, side, side))
    assert nn.tree.size(params) < 400_000
    x = np.zeros((2, 1, side, side), np.float32)
    assert net.apply(params, x, net.init_state(x.shape[1:]))[0].shape == (2, 10)


@pytest.mark.parametrize("model", ["st-fcn", "st-cnn"])
@pytest.mark.parametrize("size", [(28, 28), [(28, 28), (16, 16)]])
def test_parallel_transformers_share_the_parameters_of_one(model, size):
    shape = (2, 42, 42)
    net = zoo.build(model, shape, size=size, classes=19, transformers=2)
    assert nn.tree.size(net.init(np.random.default_rng(0), shape)) < 400_000
    assert net.output_shape(shape) == (19,)


def test_a_smaller_output_starts_in_the_middle_with_one_sample_per_pixel():
    shape = (1, 42, 42)
    image = np.random.default_rng(0).random((1, *shape), np.float32)
    for transform in ("affine", "tps"):
        layer = zoo.build("st-cnn", shape, transform, (28, 28)).layers[0]
        params, state = layer.init(np.random.default_rng(0), shape), layer.init_state(shape)
        samples, _, _ = layer.apply(params, image, state)
        np.testing.assert_allclose(samples, image[:, :, 7:35, 7:35], rtol=0, atol=1e-5)
    assert zoo.build("st-cnn", shape, "rotation", (28, 28)).layers[0].zoom == 1


@pytest.mark.parametrize("transform", ["affine", "projective", "tps"])
@pytest.mark.parametrize("model", ["st-fcn", "st-cnn"])
@pytest.mark.parametrize("side", [20, 16])
def test_with_several_sizes_each_transformer_follows_the_last(side, model, transform):
    """The last one starts with the middle 20 of 28 pixels, here of a linear ramp."""
    y, x = np.mgrid[:42, :42].astype(np.float32)
    image = (x + 50 * y)[None, None]
    net = zoo.build(model, (1, 42, 42), transform, [(28, 28), (side, side)])
    params, state = net.init(np.random.default_rng(0), (1, 42, 42)), net.init_state((1, 42, 42))
    assert nn.tree.size(params) < 400_000
    samples, _, _ = nn.serial(*net.layers[:2]).apply(params[:2], image, state[:2])
    c = 10.5 + (np.arange(side) + 0.5) * 20 / side
    np.testing.assert_allclose(samples, (c + 50 * c[:, None])[None, None], rtol=0, atol=2e-3)


@pytest.mark.parametrize("model", ["st-fcn", "st-cnn", "st-cnn-deep"])
def test_several_views_have_the_parameters_of_one(model):
    shape, size = (1, 42, 42), [(28, 28), (28, 28)]
    one, five = (zoo.build(model, shape, size=size, views=views) for views in (1, 5))
    counts = {nn.tree.size(net.init(np.random.default_rng(0), shape)) for net in (one, five)}
    assert len(counts) == 1
    assert five.output_shape(shape) == (10,)
    assert five.layers[0].view_angles == (0, -20, 20, -40, 40)
    assert one.layers[0].view_angles == ()


def test_the_logits_of_several_views_are_the_mean_of_each_ones():
    shape = (1, 42, 42)
    images = np.random.default_rng(0).random((4, *shape), np.float32)
    net = zoo.build("st-fcn", shape, size=[(28, 28), (16, 16)], views=3)
    params, state = net.init(np.random.default_rng(0), shape), net.init_state(shape)
    first, rest = net.layers
    logits = 0
    for angle in (0, -20, 20):
        transformer = nn.spatial_transformer(first.localisation, size=(28, 28), zoom=first.zoom,
                                             view_angles=(angle,))  # fmt: skip
        view = transformer.apply(params[0], images, state[0])[0]
        logits = logits + rest.layer.apply(params[1], view, state[1])[0]
    np.testing.assert_allclose(net.apply(params, images, state)[0], logits / 3, atol=1e-5)


def test_wrong_shapes_are_refused():
    for shape in ((28, 28), (28,), (1, 28, 28, 1), ()):
        with pytest.raises(ValueError, match=r"build: x: expected shape \(N, C, H, W\), got \(N,"):
            zoo.build("cnn", shape)
    for shape in ((1, 0, 28), (0, 28, 28), (1, 28, -1), (1, 28.0, 28)):
        with pytest.raises(ValueError, match=r"build: (height|width|channels) must be a whole"):
            zoo.build("fcn", shape)
    with pytest.raises(ValueError, match="build: classes must be a whole number"):
        zoo.build("cnn", (1, 28, 28), classes=0)
    with pytest.raises(ValueError, match=r"conv2d: x: .* window of 5 x 5 fits, got \(N, 28, 28, 1"):
        zoo.build("cnn", (28, 28, 1)).init(np.random.default_rng(0), (28, 28, 1))
