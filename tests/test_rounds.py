"""The transformer in several rounds: samples and gradients beside slow loops, files and checks."""

import numpy as np
import pytest
import reference
from gradcheck import dot, like, moved

from numba_stn import nn
from numba_stn.nn import zoo
from numba_stn.transforms import TRANSFORMS, by_name

GROUPS = ("translation", "rotation", "rigid", "similarity", "affine", "restricted_affine",
          "projective", "affine_3d")  # fmt: skip


def square(theta):
    """Theta with the row that affine maps omit."""
    last = np.zeros((len(theta), 1, theta.shape[2]))
    last[..., -1] = 1
    return np.concatenate([theta, last], 1)[:, : theta.shape[2]]


def sampled(layer, images, theta, size):
    """The images at theta, pixel by pixel."""
    make = reference.projective_grid if layer.transform.kind == "projective" else (
        lambda maps, *more: reference.affine_grid(maps[:, : len(size)], *more))  # fmt: skip
    grid = make(theta, size, layer.align_corners)
    return reference.grid_sample(images, grid, layer.padding_mode, layer.align_corners)


def oracle(layer, params, images):
    """What the transformer computes, with products of square matrices; localisation is tanh."""
    own = params["localisation"]
    (_, weights, _), head = own["features"], own["head"]
    zoom = np.eye(by_name(layer.transform).shape[1])
    zoom[:-1, :-1] /= layer.zoom
    theta, seen = None, images
    for number in range(layer.rounds):
        features = np.tanh(seen.reshape(len(seen), -1) @ weights["weight"].T + weights["bias"])
        step = square(layer.transform.theta(features @ head["weight"].T + head["bias"]))
        theta = theta @ zoom @ step if number else step
        seen = sampled(layer, images, theta @ zoom, images.shape[2:])
    return sampled(layer, images, theta, layer.size or images.shape[2:])


def example(name, rounds=3, **options):
    transform = by_name(name)
    sides = (4, 3, 4) if transform.kind == "affine 3-D" else (5, 6)
    localisation = nn.serial(nn.flatten(), nn.linear(3), nn.tanh())
    zoom = 0.9 if transform.scales else 1.0
    layer = nn.spatial_transformer(localisation, name, zoom=zoom, rounds=rounds, **options)
    rng = np.random.default_rng(5)
    params = layer.init(rng, (2, *sides))
    params = moved(params, like(rng, params), 0.15)
    return layer, params, rng.standard_normal((2, 2, *sides)), rng


@pytest.mark.parametrize("name", GROUPS)
def test_samples_and_gradients_are_those_of_slow_loops(name):
    """The derivative along a random direction, by differences of the loops, to 1e-6."""
    size = (2, 3, 2) if name == "affine_3d" else (3, 4)
    layer, params, images, rng = example(name, size=size, padding_mode="border")
    samples, pullback, _ = layer.apply(params, images)
    np.testing.assert_allclose(samples, oracle(layer, params, images), rtol=0, atol=1e-12)
    way, step = (like(rng, params), like(rng, images)), 1e-6
    after, before = (
        oracle(layer, *moved((params, images), way, sign * step)) for sign in (1, -1)
    )  # fmt: skip
    dsamples = rng.standard_normal(samples.shape)
    numeric = np.vdot(dsamples, (after - before) / (2 * step))
    dparams, dimages = pullback(dsamples)
    assert abs(numeric) > 1e-2
    assert dot((dparams, dimages), way) == pytest.approx(numeric, rel=1e-6)
    without, nothing = layer.apply(params, images, wrt_x=False)[1](dsamples)
    assert nothing is None or layer.rounds == 1
    for one, two in zip(nn.tree.leaves(without), nn.tree.leaves(dparams), strict=True):
        np.testing.assert_array_equal(one[1], two[1])


def test_one_round_is_the_transformer_as_it_was():
    localisation = nn.serial(nn.flatten(), nn.linear(3), nn.tanh())
    one = nn.spatial_transformer(localisation, rounds=1)
    assert one == nn.spatial_transformer(localisation)
    layer, params, images, _ = example("affine", rounds=1)
    theta, _, _ = layer.theta(params, images)
    np.testing.assert_array_equal(
        theta, layer.transform.theta(layer.head.apply(
            params["localisation"]["head"],
            localisation.apply(params["localisation"]["features"], images)[0])[0]),
    )  # fmt: skip


def test_nothing_is_interpolated_twice():
    """Two rounds of half a pixel are a whole pixel, which leaves an image of noise sharp."""
    images = np.random.default_rng(0).random((1, 1, 8, 8))
    layer = nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(2)), "translation", rounds=2)
    params = layer.init(np.random.default_rng(0), (1, 8, 8))
    params["localisation"]["head"]["bias"] += np.array([1 / 8, 0], np.float32)
    samples, _, _ = layer.apply(params, images)
    np.testing.assert_allclose(samples[..., :-1], images[..., 1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("zoom", [1.0, 0.5])
def test_rounds_start_at_the_identity_and_at_the_zoom(zoom):
    images = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    for name, transform in TRANSFORMS.items():
        if transform.kind not in ("affine", "projective") or (zoom < 1 and not transform.scales):
            continue
        size = (8, 8) if zoom == 1 else (4, 4)
        layer = nn.spatial_transformer(nn.flatten(), name, size, zoom=zoom, rounds=3)
        y, _, _ = layer.apply(layer.init(np.random.default_rng(0), (1, 8, 8)), images)
        expected = images if zoom == 1 else images[:, :, 2:6, 2:6]
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6, err_msg=name)


def test_each_round_has_its_own_running_statistics(tmp_path):
    localisation = nn.serial(nn.batch_norm(), nn.flatten(), nn.linear(2), nn.tanh())
    layer = nn.spatial_transformer(localisation, "translation", rounds=2)
    rng = np.random.default_rng(0)
    images = rng.random((4, 1, 6, 6)).astype(np.float32)
    params, state = layer.init(rng, (1, 6, 6)), layer.init_state((1, 6, 6))
    params["localisation"]["head"]["bias"] += np.array([0.7, 0], np.float32)
    for _ in range(200):
        _, _, state = layer.apply(params, images, state, train=True)
    seen = layer.warp(images, np.array([[[1, 0, 0.7], [0, 1, 0]]] * 4, np.float32), None)
    for its, expected in zip(state, (images, seen), strict=True):
        np.testing.assert_allclose(its[0]["mean"], expected.mean((0, 2, 3)), rtol=1e-3)
    expected = layer.apply(params, images, state)[0]
    nn.save(tmp_path / "layer.safetensors", (params, state))
    params, state = nn.load(tmp_path / "layer.safetensors")
    np.testing.assert_array_equal(layer.apply(params, images, state)[0], expected)


def test_bad_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds: expected 1 for tps, whose maps cannot be comp"):
        nn.spatial_transformer(nn.flatten(), "tps", rounds=2)
    for rounds in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="spatial_transformer: rounds must be a whole number"):
            nn.spatial_transformer(nn.flatten(), rounds=rounds)
    layer = nn.spatial_transformer(nn.flatten(), rounds=2)
    params = layer.init(np.random.default_rng(0), (1, 4, 4))
    with pytest.raises(ValueError, match="state: expected a tuple of 2 items, got 3"):
        layer.apply(params, np.zeros((1, 1, 4, 4), np.float32), ((), (), ()))


@pytest.mark.parametrize("model", ["st-fcn", "st-cnn"])
def test_networks_of_the_paper_in_rounds_have_the_parameters_of_one(model):
    shape = (1, 42, 42)
    one, three = (zoo.build(model, shape, size=(28, 28), rounds=rounds) for rounds in (1, 3))
    params, other = (net.init(np.random.default_rng(0), shape) for net in (one, three))
    assert nn.tree.size(params) == nn.tree.size(other)
    assert three.layers[0].rounds == 3
    with pytest.raises(ValueError, match="rounds: the model cnn has no transformer, got 2"):
        zoo.build("cnn", shape, rounds=2)
    with pytest.raises(ValueError, match="rounds: expected 1 for tps"):
        zoo.build(model, shape, "tps", rounds=2)


def test_a_classifier_in_rounds_is_saved_and_loaded(tmp_path):
    pytest.importorskip("sklearn")
    from numba_stn import STNClassifier

    rng = np.random.default_rng(0)
    images, labels = rng.random((30, 9, 9)), np.arange(30) % 2
    images[labels == 1, 3:6] += 2
    fitted = STNClassifier("similarity", rounds=2, epochs=2, random_state=0).fit(images, labels)
    assert fitted.network_.layers[0].rounds == 2
    fitted.save(tmp_path / "fitted.safetensors")
    again = STNClassifier.load(tmp_path / "fitted.safetensors")
    assert (again.rounds, again.network_.layers[0].rounds) == (2, 2)
    for method in ("predict_proba", "transform", "theta"):
        np.testing.assert_array_equal(
            getattr(again, method)(images), getattr(fitted, method)(images)
        )
    for options, message in (
        ({"rounds": 0}, "rounds must be a whole number"),
        ({"transformation": None, "rounds": 2}, "rounds: expected 1 without a transformation"),
        ({"transformation": "tps", "rounds": 2}, "rounds: expected 1 for tps"),
    ):
        with pytest.raises(ValueError, match=message):
            STNClassifier(**options).fit(images, labels)
