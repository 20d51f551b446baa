"""Layers: gradients, shapes, known values, bad input; trees of parameters."""

import os
import subprocess
import sys

import numpy as np
import pytest
from gradcheck import check_vjp
from hypothesis import given, settings
from hypothesis import strategies as st

from numba_stn import nn
from numba_stn.kernels.cpu.simd.vectors import LANES
from numba_stn.kernels.layers import batch_blocks, convolution
from numba_stn.nn import optim, zoo
from numba_stn.nn.tree import flatten, leaves, tree_map, unflatten
from numba_stn.transforms.parametrisations import TRANSFORMS, tps

LAYERS = {
    "linear": (nn.linear(4), (7,)),
    "conv2d": (nn.conv2d(4, 3), (2, 7, 6)),
    "conv2d strided": (nn.conv2d(3, 3, stride=2, padding=2), (2, 8, 5)),
    "conv2d 1x1": (nn.conv2d(3, 1), (2, 3, 3)),
    "max_pool": (nn.max_pool(2), (2, 7, 6)),
    "max_pool 3": (nn.max_pool(3), (1, 9, 11)),
    "avg_pool": (nn.avg_pool(2), (2, 7, 6)),
    "relu": (nn.relu(), (5, 3)),
    "flatten": (nn.flatten(), (2, 3, 4)),
    "batch_norm": (nn.batch_norm(), (3, 4, 5)),
    "batch_norm dense": (nn.batch_norm(), (6,)),
    "serial": (nn.serial(nn.conv2d(3, 2), nn.relu(), nn.flatten(), nn.linear(2)), (1, 4, 4)),
    "parallel": (
        nn.parallel(nn.conv2d(3, 3, padding=1), nn.serial(nn.batch_norm(), nn.relu())),
        (2, 4, 4),
    ),
    "transformer": (
        nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(6)), "affine", size=(5, 4)),
        (2, 6, 7),
    ),
    "transformer of splines": (
        nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(3)), tps(2), size=(3, 4)),
        (1, 5, 6),
    ),
    "transformers in depth": (
        nn.serial(
            nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(3)), "attention"),
            nn.conv2d(2, 3),
            nn.spatial_transformer(
                nn.serial(nn.flatten(), nn.linear(3)), "rotation", padding_mode="border"
            ),
        ),
        (1, 7, 7),
    ),
    "averaged": (
        nn.averaged(2, nn.conv2d(3, 3), nn.batch_norm(), nn.flatten(), nn.linear(2)),
        (4, 5, 6),
    ),
    "transformer with turns": (
        nn.spatial_transformer(
            nn.serial(nn.flatten(), nn.linear(3)), "affine", size=(5, 4), turns=(0, 30, -70)
        ),
        (2, 6, 7),
    ),
    "transformers with turns, averaged": (
        nn.serial(
            nn.spatial_transformer(
                nn.serial(nn.flatten(), nn.linear(3)), "attention", turns=(0, 9)
            ),
            nn.averaged(
                2,
                nn.spatial_transformer(
                    nn.serial(nn.flatten(), nn.linear(3)), "projective", turns=(5,)
                ),
                nn.flatten(),
                nn.linear(2),
            ),
        ),
        (1, 5, 6),
    ),
    "transformers side by side": (
        nn.parallel(
            *[nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(3)), size=(4, 4))] * 2
        ),
        (1, 7, 7),
    ),
}


def built(name, seed=0):
    """A layer with float64 parameters off their starting point, its input and its state."""
    layer, shape = LAYERS[name]
    rng = np.random.default_rng(seed)
    params = tree_map(lambda p: p + 0.2 * rng.standard_normal(p.shape), layer.init(rng, shape))
    return layer, params, rng.standard_normal((4, *shape)), layer.init_state(shape), rng


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [False, True])
def test_gradients(name, train):
    layer, params, x, state, rng = built(name)
    _, pullback, _ = layer.apply(params, x, state, train)
    check_vjp(
        lambda inputs: layer.apply(*inputs, state, train)[0],
        pullback, (params, x), rng, step=1e-7, rtol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_and_dtypes(name):
    layer, shape = LAYERS[name]
    params = layer.init(np.random.default_rng(0), shape)
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    y, pullback, state = layer.apply(params, x, layer.init_state(shape), train=True)
    assert y.shape == (3, *layer.output_shape(shape))
    dparams, dx = pullback(np.ones_like(y))
    assert (y.dtype, dx.dtype, dx.shape) == (np.float32, np.float32, x.shape)
    for (path, p), (_, d) in zip(leaves(params), leaves(dparams), strict=True):
        assert (p.dtype, p.shape) == (np.float32, d.shape), path
        assert d.dtype == np.float32, path
    for path, s in leaves(state):
        assert np.asarray(s).dtype == np.float32 or s == (), path


@pytest.mark.parametrize("name", LAYERS)
def test_the_same_seed_gives_the_same_weights(name):
    layer, shape = LAYERS[name]
    one, two = (flatten(layer.init(np.random.default_rng(3), shape)) for _ in range(2))
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])
    assert hash(layer) == hash(layer)
    assert type(layer).__name__ in repr(layer)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4))
def test_convolution_is_the_sum_it_says(seed, kernel, stride, padding):
    """So are its adjoints: their tiles of 4, 2 and 1 all occur among random shapes."""
    rng = np.random.default_rng(seed)
    channels, features, batch = rng.integers(1, 9), rng.integers(1, 9), rng.integers(1, 40)
    sides = rng.integers(kernel, kernel + 9, 2)
    layer = nn.conv2d(int(features), kernel, stride, padding)
    x = rng.standard_normal((batch, channels, *sides))
    params = tree_map(
        lambda p: rng.standard_normal(p.shape), layer.init(rng, (int(channels), *map(int, sides)))
    )
    y, pullback, _ = layer.apply(params, x)
    wide = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    view = np.lib.stride_tricks.sliding_window_view(wide, (kernel, kernel), axis=(2, 3))
    windows = view[:, :, ::stride, ::stride]
    expected = np.einsum("ncijkl,fckl->nfij", windows, params["weight"])
    np.testing.assert_allclose(y, expected + params["bias"][:, None, None], atol=1e-10)
    d = rng.standard_normal(y.shape)
    dparams, dx = pullback(d)
    dweight = np.einsum("ncijkl,nfij->fckl", windows, d)
    np.testing.assert_allclose(dparams["weight"], dweight, atol=1e-9)
    np.testing.assert_allclose(dparams["bias"], d.sum((0, 2, 3)), atol=1e-10)
    # y is linear in x, and dx its transpose.
    assert abs((expected * d).sum() - (x * dx).sum()) < 1e-8


def test_the_first_of_equals_is_the_largest_and_nan_is_passed_on():
    x = np.zeros((1, 1, 2, 4))
    x[0, 0, 0, 2], x[0, 0, 1, 3] = np.nan, 5
    y, pullback, _ = nn.max_pool(2).apply((), x)
    np.testing.assert_array_equal(y, [[[[0, np.nan]]]])
    _, dx = pullback(np.ones_like(y))
    np.testing.assert_array_equal(dx, [[[[1, 0, 1, 0], [0, 0, 0, 0]]]])


def test_a_run_of_layers_is_one_layer_after_another():
    """Bundled once for all of them, or once for each: the same bits."""
    rng = np.random.default_rng(0)
    layers = (
        nn.max_pool(2), nn.conv2d(4, 3, padding=1), nn.avg_pool(2), nn.conv2d(3, 3, 2, 1),
        nn.relu(), nn.conv2d(2, 1), nn.max_pool(3),
    )  # fmt: skip
    net, x = nn.serial(*layers), rng.standard_normal((17, 2, 25, 27))
    params = net.init(rng, x.shape[1:])
    y, pullback, _ = net.apply(params, x)
    (dparams, dx), (_, none) = pullback(y), net.apply(params, x, wrt_x=False)[1](y)
    backs, expected = [], x
    for layer, own in zip(layers, params, strict=True):
        expected, back, _ = layer.apply(own, expected)
        backs.append(back)
    np.testing.assert_array_equal(y, expected)
    down = y
    for back, own in zip(reversed(backs), reversed(dparams), strict=True):
        theirs, down = back(down)
        for (_, a), (_, b) in zip(leaves(own), leaves(theirs), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(dx, down)
    assert none is None


def test_an_empty_batch_goes_through():
    net = nn.serial(nn.conv2d(4, 3), nn.relu(), nn.avg_pool(2), nn.conv2d(2, 1), nn.max_pool(2))
    params = net.init(np.random.default_rng(0), (1, 12, 12))
    y, pullback, _ = net.apply(params, np.zeros((0, 1, 12, 12), np.float32))
    dparams, dx = pullback(y)
    assert (y.shape, dx.shape) == ((0, 2, 2, 2), (0, 1, 12, 12))
    assert not any(d.any() for _, d in leaves(dparams) if np.size(d))


def test_an_empty_batch_has_no_readings():
    layer, params, x, state, _ = built("transformers with turns, averaged")
    y, pullback, _ = layer.apply(params, x[:0], state)
    dparams, dx = pullback(y)
    assert (y.shape, dx.shape) == ((0, 2), x[:0].shape)
    assert not any(d.any() for _, d in leaves(dparams) if np.size(d))


def test_turns_are_numbers_whatever_they_came_as():
    one, other = (
        nn.spatial_transformer(nn.flatten(), turns=turns) for turns in ([0, 9], np.array([0, 9]))
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one.turns == (0.0, 9.0)


def test_layers_of_different_precision_work_together():
    net = nn.serial(nn.conv2d(2, 3), nn.conv2d(2, 3))
    first, second = net.init(np.random.default_rng(0), (1, 8, 8))
    params = first, tree_map(lambda weight: weight.astype(np.float64), second)
    y, pullback, _ = net.apply(params, np.ones((3, 1, 8, 8), np.float32))
    (dfirst, dsecond), dx = pullback(y)
    assert (y.dtype, dfirst["weight"].dtype, dsecond["weight"].dtype) == ("f8", "f4", "f8")
    assert np.isfinite(dx).all()


def test_images_survive_being_bundled():
    rng = np.random.default_rng(0)
    for batch in (0, 1, LANES, LANES + 1):
        x = rng.standard_normal((batch, 2, 3, 5)).astype(np.float32)
        bundled = batch_blocks.bundle(x)
        assert bundled.shape == (-(-batch // LANES), 2, 3, 5, LANES)
        np.testing.assert_array_equal(batch_blocks.unbundle(bundled, batch), x)
        np.testing.assert_array_equal(batch_blocks.cropped(batch_blocks.bundle(x, 2), 2), bundled)
        np.testing.assert_array_equal(batch_blocks.padded(bundled, 2), batch_blocks.bundle(x, 2))


def test_serial_and_parallel_kernels_give_the_same_bits(monkeypatch):
    from numba_stn.kernels import launch
    from numba_stn.kernels.layers import batch_norm

    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3, 8, 9)).astype(np.float32)
    weight, bias = rng.standard_normal((7, 3, 3, 3)), rng.standard_normal(7)
    results = []
    for work in (0, 10**12):
        monkeypatch.setattr(launch, "PARALLEL_WORK", work)
        wide = batch_blocks.bundle(x, 1)
        y = convolution.convolve(wide, weight, bias, 2)
        pooled, which = batch_blocks.max_pool(y, 2)
        dy = batch_blocks.max_pool_vjp(pooled, which, y.shape, 2)
        dx = convolution.convolve_vjp_x(dy, weight, wide.shape, 2)
        both = convolution.convolve_vjp_weight(dy, wide, weight.shape, 2)
        flat = (
            batch_blocks.rectify(y),
            batch_blocks.rectify_vjp(dy, y),
            batch_blocks.unbundle(y, 40),
        )
        norm, (mean, var) = batch_norm.Pooled(2), batch_norm.moments(y, 40)
        normal = norm.normalize(y, 40, mean, bias, var)
        sums = norm.normalize_sums(pooled, y, 40, mean)
        down = norm.combine(pooled, y, 40, mean, bias, *sums)
        results.append((wide, y, pooled, which, dy, dx, *both, *flat, normal, *sums, down))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch", [1, 16, 21])
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_of_bundles_is_that_of_images(batch, train):
    """In a run of layers that work on bundles, whatever fills up the last one."""
    rng = np.random.default_rng(batch)
    x, dy = 3 + rng.standard_normal((2, batch, 3, 4, 6))
    norm, run = nn.batch_norm(), nn.serial(nn.max_pool(1), nn.batch_norm(), nn.relu())
    params = {"scale": rng.random(3) + 1, "shift": rng.standard_normal(3) + 1}
    state = {"mean": rng.standard_normal(3), "var": rng.random(3) + 1}
    alone, back, moved = norm.apply(params, x, state, train)
    bundled, run_back, states = run.apply(((), params, ()), x, ((), state, ()), train)
    np.testing.assert_allclose(bundled, np.maximum(alone, 0), atol=1e-12)
    (_, dparams, _), dx = run_back(dy)
    want, want_dx = back(np.where(alone > 0, dy, 0))
    np.testing.assert_allclose(dx, want_dx, atol=1e-12)
    for key in want:
        np.testing.assert_allclose(dparams[key], want[key], rtol=1e-11)
    for key in state:
        np.testing.assert_allclose(states[1][key], moved[key], rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 16, 21])
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_before_a_pooling_is_one_after_the_other(batch, train):
    """A run works both in one step; scales of both signs and none, and sides that leave a rest."""
    rng = np.random.default_rng(batch)
    x, scale = 3 + rng.standard_normal((batch, 3, 7, 9)), np.array([1.5, -0.7, 0])
    dy = rng.standard_normal((batch, 3, 3, 4))
    norm, pool = nn.batch_norm(), nn.max_pool(2)
    state = norm.init_state((3, 7, 9))
    params = {"scale": scale, "shift": rng.standard_normal(3)}
    normal, norm_back, moved = norm.apply(params, x, state, train)
    alone, pool_back, _ = pool.apply((), normal)
    run = nn.serial(norm, pool)
    both, back, states = run.apply((params, ()), x, (state, ()), train)
    np.testing.assert_allclose(both, alone, atol=1e-12)
    (dparams, none), dx = back(dy)
    want, want_dx = norm_back(pool_back(dy)[1])
    assert none == states[1] == ()
    np.testing.assert_allclose(dx, want_dx, atol=1e-12)
    np.testing.assert_allclose(dparams["shift"], want["shift"], rtol=1e-11)
    # Without a scale all elements are equally large, and any may be the one.
    np.testing.assert_allclose(dparams["scale"][:2], want["scale"][:2], rtol=1e-11)
    for key in state:
        np.testing.assert_allclose(states[0][key], moved[key], rtol=1e-6)


def test_batch_norm_learns_its_statistics():
    layer = nn.batch_norm(momentum=0.5)
    x = np.random.default_rng(0).normal(3, 2, (500, 2, 4, 4)).astype(np.float32)
    params, state = layer.init(np.random.default_rng(0), (2, 4, 4)), layer.init_state((2, 4, 4))
    for _ in range(20):
        y, _, state = layer.apply(params, x, state, train=True)
    np.testing.assert_allclose(state["mean"], x.mean((0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(state["var"], x.var((0, 2, 3), ddof=1), rtol=1e-3)
    calm, _, after = layer.apply(params, x, state)
    np.testing.assert_allclose(calm, y, atol=1e-2)
    assert after is state
    with pytest.raises(ValueError, match="batch_norm.*state"):
        layer.apply(params, x)


def test_a_transformer_starts_at_the_identity():
    rng = np.random.default_rng(0)
    for name, transform in TRANSFORMS.items():
        sides = (5, 5, 5) if transform.kind == "affine 3-D" else (9, 9)
        x = rng.standard_normal((2, 1, *sides)).astype(np.float32)
        layer = nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(4)), name)
        y, _, _ = layer.apply(layer.init(rng, x.shape[1:]), x)
        np.testing.assert_allclose(y, x, rtol=0, atol=1e-12 if name == "tps" else 0)


def test_a_transformer_may_start_at_a_zoom():
    images = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    for name in ("affine", "projective", "tps", "similarity", "restricted_affine"):
        layer = nn.spatial_transformer(nn.flatten(), name, (4, 4), zoom=0.5)
        y, _, _ = layer.apply(layer.init(np.random.default_rng(0), (1, 8, 8)), images)
        np.testing.assert_allclose(y, images[:, :, 2:6, 2:6], rtol=0, atol=1e-6, err_msg=name)
    with pytest.raises(ValueError, match="zoom: rotation cannot zoom"):
        nn.spatial_transformer(nn.flatten(), "rotation", zoom=0.5)


@pytest.mark.parametrize("transform", ["affine", "projective"])
def test_a_reading_is_turned_about_the_middle_of_what_is_read(transform):
    images = np.random.default_rng(0).random((3, 2, 8, 8))
    layer = nn.spatial_transformer(nn.flatten(), transform, (4, 4), zoom=0.5, turns=(0, 90, -180))
    params = layer.init(np.random.default_rng(0), (2, 8, 8))
    y, _, _ = layer.apply(params, images)
    middle = images[:, :, 2:6, 2:6]
    readings = [np.rot90(middle, quarters, (2, 3)) for quarters in (0, 1, 2)]
    np.testing.assert_allclose(y, np.concatenate(readings, 1), rtol=0, atol=1e-12)
    samples, covered = layer.covered(params, images)
    np.testing.assert_array_equal(samples, y)
    np.testing.assert_allclose(covered, np.ones((3, 4, 4)))


def test_averaged_is_the_mean_over_the_readings():
    rng = np.random.default_rng(0)
    each, x = nn.serial(nn.conv2d(3, 3), nn.flatten(), nn.linear(2)), rng.random((5, 6, 4, 4))
    layer = nn.averaged(3, *each.layers)
    params = layer.init(rng, (6, 4, 4))
    y, _, _ = layer.apply(params, x)
    said = [each.apply(params, part)[0] for part in np.split(x, 3, axis=1)]
    np.testing.assert_allclose(y, sum(said) / 3, rtol=1e-12)
    with pytest.raises(ValueError, match=r"averaged: .* 3 equal parts, got \(5, 4, 4\)"):
        layer.output_shape((5, 4, 4))


def test_dropout_takes_a_share_and_makes_up_for_it():
    layer, x = nn.dropout(0.3, seed=4), np.ones((200, 50), np.float32)
    state = layer.init_state((50,))
    calm, back, same = layer.apply((), x, state)
    assert calm is x
    assert same is state
    assert back(x)[1] is x
    first, back, after = layer.apply((), x, state, train=True)
    again, _, _ = layer.apply((), x, state, train=True)
    other, _, _ = layer.apply((), x, after, train=True)
    seeded, _, _ = nn.dropout(0.3, seed=5).apply((), x, state, train=True)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(back(x)[1], first)
    np.testing.assert_array_equal(np.unique(first), np.float32([0, 1 / 0.7]))
    for y in (first, other, seeded):
        assert (y == 0).mean() == pytest.approx(0.3, abs=0.02)
        for axis in (0, 1):  # nothing is left out everywhere
            share = (y == 0).mean(axis)
            expected = np.sqrt(0.21 / y.shape[axis])
            assert share.std() == pytest.approx(expected, rel=0.35)
    for y in (other, seeded):  # independent of the first
        assert ((y == 0) & (first == 0)).mean() == pytest.approx(0.09, abs=0.02)
    with pytest.raises(ValueError, match=r"dropout: .*1\.5"):
        nn.dropout(1.5)


# --- Trees, bad input -----------------------------------------------------------------------------


def test_a_tree_survives_its_flat_form():
    net = LAYERS["transformers in depth"][0]
    params = net.init(np.random.default_rng(0), (1, 7, 7))
    flat = flatten(params)
    assert "0.localisation.head.bias" in flat
    back = unflatten(flat, tree_map(np.zeros_like, params))
    for (path, a), (_, b) in zip(leaves(params), leaves(back), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=str(path))
    with pytest.raises(ValueError, match=r"1\.weight.*missing"):
        unflatten({k: v for k, v in flat.items() if k != "1.weight"}, params)
    with pytest.raises(ValueError, match=r"1\.bias has shape \(9,\)"):
        unflatten(flat | {"1.bias": np.zeros(9)}, params)


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="linear.*flatten"):
        nn.linear(3).init(rng, (1, 4, 4))
    with pytest.raises(ValueError, match="conv2d.*5 x 5.*4, 4"):
        nn.conv2d(3, 5).init(rng, (1, 4, 4))
    with pytest.raises(ValueError, match="max_pool.*C, H, W"):
        nn.max_pool().output_shape((4,))
    with pytest.raises(ValueError, match="parallel.*channels only"):
        nn.parallel(nn.relu(), nn.max_pool()).init(rng, (1, 4, 4))
    with pytest.raises(ValueError, match="localisation.*flatten"):
        nn.spatial_transformer(nn.conv2d(3, 3)).init(rng, (1, 4, 4))
    with pytest.raises(ValueError, match="transform.*'wild'"):
        nn.spatial_transformer(nn.flatten(), "wild")
    with pytest.raises(ValueError, match="turns: .*degrees, got 'left'"):
        nn.spatial_transformer(nn.flatten(), turns=("left",))
    with pytest.raises(TypeError, match="turns: .*several angles in degrees, got 20"):
        nn.spatial_transformer(nn.flatten(), turns=20)
    with pytest.raises(ValueError, match="turns: .* affine or projective .*got tps"):
        nn.spatial_transformer(nn.flatten(), "tps", turns=(0, 90))
    with pytest.raises(ValueError, match="averaged: readings .*got 0"):
        nn.averaged(0, nn.relu())
    with pytest.raises(ValueError, match="model.*'vgg'"):
        zoo.build("vgg", (1, 28, 28))
    with pytest.raises(ValueError, match="readings: the model cnn has no transformer, got 2"):
        zoo.build("cnn", (1, 28, 28), readings=2)
    with pytest.raises(ValueError, match="readings: expected 1 with 2 .*side by side, got 2"):
        zoo.build("st-cnn", (1, 28, 28), transformers=2, readings=2)
    with pytest.raises(ValueError, match="readings: tps cannot be turned, expected 1, got 2"):
        zoo.build("st-cnn", (1, 28, 28), "tps", readings=2)
    with pytest.raises(ValueError, match=r"labels.*\(3, 2\).*\(2,\)"):
        nn.softmax_cross_entropy(np.zeros((3, 2)), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"labels.*\[0, 2\).*0 to 2"):
        nn.softmax_cross_entropy(np.zeros((2, 2)), np.array([0, 2]))
    with pytest.raises(TypeError, match="labels.*bool"):
        nn.softmax_cross_entropy(np.zeros((2, 2)), np.array([True, False]))
    with pytest.raises(ValueError, match="labels.*empty"):
        nn.softmax_cross_entropy(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"label_smoothing.*from 0 to 1, got 1\.5"):
        nn.softmax_cross_entropy(np.zeros((1, 2)), np.zeros(1, int), 1.5)
    with pytest.raises(TypeError, match=r"relu\(\)"):
        nn.serial(nn.flatten(), nn.relu)
    with pytest.raises(ValueError, match="conv2d: kernel.*'3'"):
        nn.conv2d(2, "3")
    with pytest.raises(ValueError, match="padding_mode.*wild"):
        nn.spatial_transformer(nn.flatten(), padding_mode="wild")
    with pytest.raises(ValueError, match="size"):
        nn.spatial_transformer(nn.flatten(), size=(0, 3))
    with pytest.raises(ValueError, match="targets"):
        nn.mean_squared_error(np.zeros(3), np.zeros(2))
    assert optim.one_cycle(1.0, 1)(0) > 0


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ("relu", "flatten")])
def test_a_wrong_input_is_named(name):
    layer, params, x, state, _ = built(name)
    with pytest.raises(ValueError, match=r"expected"):
        layer.apply(params, x[:, 0], state)
    if not name.startswith("transformer"):
        with pytest.raises(TypeError, match="float32 or float64"):
            layer.apply(params, x.astype(int), state)


def test_weights_keep_their_precision():
    net = nn.serial(nn.batch_norm(), nn.flatten(), nn.linear(3))
    params, state = net.init(np.random.default_rng(0), (1, 2, 2)), net.init_state((1, 2, 2))
    x = np.random.default_rng(0).random((5, 1, 2, 2))  # float64, as NumPy draws by default
    for optimiser in (nn.sgd(np.float64(0.1)), nn.adam(lambda step: np.float64(0.1))):
        y, pullback, after = net.apply(params, x, state, train=True)
        moved, _ = optimiser.update(params, pullback(y)[0], optimiser.init(params))
        assert {leaf.dtype.name for _, leaf in leaves(moved)} == {"float32"}
        assert {leaf.dtype.name for leaf in after[0].values()} == {"float32"}


def test_gradients_find_their_parameters_by_name():
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    optimiser = nn.sgd(1.0, momentum=0)
    moved, _ = optimiser.update(params, {"b": np.ones(1), "a": np.zeros(1)}, optimiser.init(params))
    assert (moved["a"][0], moved["b"][0]) == (0, -1)


CONVOLUTION = """
import hashlib, numpy as np
from numba_stn.nn import conv2d
rng = np.random.default_rng(0)
layer, x = conv2d(64, 7), rng.standard_normal((64, 32, 10, 10)).astype(np.float32)
params = layer.init(rng, x.shape[1:])
y, pullback, _ = layer.apply(params, x)
dparams, dx = pullback(y)
print(hashlib.sha256(b"".join(a.tobytes() for a in (y, dparams["weight"], dx))).hexdigest())
"""


def test_a_convolution_has_the_same_bits_with_any_number_of_threads():
    found = []
    for threads in ("1", "2", "3"):
        env = os.environ | {"NUMBA_NUM_THREADS": threads}
        command = [sys.executable, "-c", CONVOLUTION]
        found.append(subprocess.run(command, env=env, capture_output=True, text=True, check=True))
    assert found[0].stdout == found[1].stdout == found[2].stdout


def test_a_large_window_names_its_pixel():
    layer, x = nn.max_pool(300), np.zeros((1, 1, 300, 300), np.float32)
    x[0, 0, 299, 298] = 1
    _, pullback, _ = layer.apply((), x)
    _, dx = pullback(np.ones((1, 1, 1, 1), np.float32))
    assert dx[0, 0, 299, 298] == 1


def test_limits_on_blas_may_overlap():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    from numba_stn.kernels.launch import _blas, one_blas_thread

    _blas.cache_clear()  # a library loaded since it was asked, as SciPy's, would not be known

    def counts():
        found = threadpoolctl.threadpool_info()
        return [pool["num_threads"] for pool in found if pool["user_api"] == "blas"]

    before = counts()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(counts()) == {1}
    second.__exit__(None, None, None)
    assert counts() == before


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_learn_the_same_without_the_gradient_of_the_images(name):
    layer, params, x, state, rng = built(name)
    y, pullback, _ = layer.apply(params, x, state, True)
    z, cheaper, _ = layer.apply(params, x, state, True, wrt_x=False)
    dy = rng.standard_normal(y.shape)
    np.testing.assert_array_equal(y, z)
    expected, got = flatten(pullback(dy)[0]), flatten(cheaper(dy)[0])
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)
