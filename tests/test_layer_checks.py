"""Layers, optimisers and schedules refuse what does not fit, before a kernel sees it."""

import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from test_layers import LAYERS, built

from numba_stn import nn
from numba_stn.nn import train
from numba_stn.nn.tree import leaves, tree_map

IMAGES = np.random.default_rng(0).standard_normal((4, 2, 12, 12)).astype(np.float32)


def started(layer, shape=(2, 12, 12)):
    """Initial parameters and state."""
    return layer.init(np.random.default_rng(0), shape), layer.init_state(shape)


# --- The cases that read or wrote out of bounds ---------------------------------------------------


def test_a_gradient_of_another_shape():
    _, pullback, _ = nn.max_pool(2).apply((), IMAGES)
    expected = r"max_pool: dy: expected the output's shape \(4, 2, 6, 6\), got \(4, 2, 600, 600\)"
    with pytest.raises(ValueError, match=expected):
        pullback(np.ones((4, 2, 600, 600), np.float32))
    layer = nn.conv2d(8, 3)
    _, pullback, _ = layer.apply(started(layer)[0], IMAGES)
    expected = r"conv2d: dy: .* \(4, 8, 10, 10\), got \(1, 1, 1, 1\)"
    with pytest.raises(ValueError, match=expected):
        pullback(np.ones((1, 1, 1, 1), np.float32))


def test_parameters_of_another_shape():
    layer = nn.conv2d(8, 3)
    params, _ = started(layer)
    expected = r"conv2d: params\.bias: expected shape \(8,\) .* \(N, 2, 12, 12\), got \(1,\)"
    with pytest.raises(ValueError, match=expected):
        layer.apply(params | {"bias": np.ones(1, np.float32)}, IMAGES)
    expected = r"conv2d: params\.weight: expected shape \(8, 2, 3, 3\) .*, got \(8, 2, 5, 3\)"
    with pytest.raises(ValueError, match=expected):
        layer.apply(params | {"weight": np.ones((8, 2, 5, 3), np.float32)}, IMAGES)


@pytest.mark.parametrize("key", ["shift", "scale", "mean", "var"])
def test_statistics_of_another_length(key):
    net = nn.serial(nn.conv2d(8, 3), nn.batch_norm(), nn.max_pool(2))
    params, state = started(net)
    tree, name = (params, "params") if key in ("shift", "scale") else (state, "state")
    tree[1][key] = np.ones(1, np.float32)
    for training in (False, True):
        with pytest.raises(ValueError, match=rf"batch_norm: {name}\.{key}: .*\(8,\).*got \(1,\)"):
            net.apply(params, IMAGES, state, training)


# --- Every layer ----------------------------------------------------------------------------------

every = pytest.mark.parametrize("name", LAYERS)


def other_shapes(array):
    """Arrays of other shapes; some would be broadcast."""
    yield from (array[None], array[..., None], array.reshape(-1)[:1].reshape(()))
    for axis in range(array.ndim):
        yield np.take(array, range(array.shape[axis] - 1), axis)
        yield np.concatenate([array, np.take(array, [0], axis)], axis)
        if array.shape[axis] > 1:
            yield np.take(array, [0], axis)


def no_floats(array):
    """Arrays of other dtypes, and what is no array."""
    for dtype in ("int64", "uint8", "complex64", "float16", "object", "bool"):
        yield array.astype(dtype)
    yield from (array.tolist(), None, "text", 2.5, np.ma.masked_array(array), object())


def replaced(tree, path, leaf):
    """The tree with another leaf."""
    paths = iter([path_ for path_, _ in leaves(tree)])
    return tree_map(lambda old: leaf if next(paths) == path else old, tree)


def bad_leaves(tree):
    """(path, tree in which one leaf is wrong, error)."""
    for path, leaf in leaves(tree):
        for odd in other_shapes(leaf):
            yield path, replaced(tree, path, odd), ValueError
        for odd in no_floats(leaf):
            if not isinstance(odd, list):  # tree_map goes into lists
                yield path, replaced(tree, path, odd), TypeError


@every
@pytest.mark.parametrize("training", [False, True])
def test_every_array_is_checked(name, training):
    """In single layers and in containers; the error names the argument's last key."""
    layer, params, x, state, _ = built(name)
    for path, bad, error in bad_leaves(params):
        with pytest.raises(error, match=rf"^[a-z_0-9: ]+: (x and )?params\.{path[-1]}: expected "):
            layer.apply(bad, x, state, training)
    for path, bad, error in bad_leaves(state):
        with pytest.raises(error, match=rf"^[a-z_0-9: ]+: (x and )?state\.{path[-1]}: expected "):
            layer.apply(params, x, bad, training)
    y, pullback, _ = layer.apply(params, x, state, training)
    for odd in other_shapes(y):
        with pytest.raises(ValueError, match=r"^[a-z_0-9]+: dy: expected the output's shape"):
            pullback(odd)
    for odd in no_floats(y):
        with pytest.raises(TypeError, match=r"^[a-z_0-9]+: dy: expected "):
            pullback(odd)
    for odd in no_floats(x):
        with pytest.raises(TypeError, match=r"^[a-z_0-9]+: x: expected "):
            layer.apply(params, odd, state, training)


@every
def test_other_structures_are_refused(name):
    layer, params, x, state, _ = built(name)
    odd = [None, 5, "text", np.zeros(3), (*params, {}) if isinstance(params, tuple) else (params,)]
    if isinstance(params, dict):
        odd += [params | {"more": np.zeros(1)}, dict(list(params.items())[1:]), ()]
    elif params:
        odd += [params[1:], {}]
    for bad in odd:
        with pytest.raises((ValueError, TypeError), match=r"^[a-z_0-9]+: params(\.\w+)*: expected"):
            layer.apply(bad, x, state)


@every
def test_strides_byte_orders_and_views_do_not_matter(name):
    layer, params, x, state, rng = built(name)
    y, pullback, _ = layer.apply(params, x, state, True)
    dy = rng.standard_normal(y.shape)
    expected = [y, *(leaf for _, leaf in leaves(pullback(dy)))]

    def others(array):
        yield array.astype(array.dtype.newbyteorder("S"))
        yield np.asfortranarray(array)
        yield np.repeat(array, 2, axis=-1)[..., ::2]
        yield array[::-1].copy()[::-1]

    for other_x, other_dy in zip(others(x), others(dy), strict=True):
        y, pullback, _ = layer.apply(params, other_x, state, True)
        for got, want in zip([y, *(leaf for _, leaf in leaves(pullback(other_dy)))], expected,
                             strict=True):  # fmt: skip
            np.testing.assert_array_equal(got, want)


def test_arrays_in_files_are_taken(tmp_path):
    layer = nn.conv2d(3, 3)
    params, _ = started(layer)
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "bias.npy", params["bias"])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    bias = np.load(tmp_path / "bias.npy", mmap_mode="r")
    found, _, _ = layer.apply(params | {"bias": bias}, mapped)
    np.testing.assert_array_equal(found, layer.apply(params, IMAGES)[0])


# --- Layers of others -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale(nn.Layer):
    """A layer with a parameter, a state, and its own apply."""

    by: float = 2.0

    def init(self, rng, shape):
        return {"factor": np.full(shape, self.by, np.float32)}

    def init_state(self, shape):
        return {"seen": np.zeros(1, np.int64)}

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        y = params["factor"] * x
        return y, lambda dy: ({"factor": (dy * x).sum(0)}, dy * params["factor"]), state


class Square(nn.Layer):
    """A layer with forward only, that is no dataclass."""

    def forward(self, params, x, wrt_x=True):
        return x * x, lambda dy: ((), 2 * x * dy)


class Halved(nn.Layer):
    """A layer whose output does not have the shape that it says."""

    def forward(self, params, x, wrt_x=True):
        return x[:, :, ::2], lambda dy: ((), dy)  # nor has its gradient


def test_the_layers_of_others_are_checked():
    layer, x = Scale(3.0), np.ones((5, 4), np.float32)
    params, state = started(layer, (4,))
    y, pullback, _ = layer.apply(params, x, state, True)
    assert (y == 3).all()
    with pytest.raises(ValueError, match=r"^Scale: params\.factor: .* \(4,\) .* got \(1,\)"):
        layer.apply({"factor": np.ones(1, np.float32)}, x, state)
    with pytest.raises(TypeError, match=r"^Scale: state\.seen: expected int64, got float64"):
        layer.apply(params, x, {"seen": np.zeros(1)}, True)
    with pytest.raises(ValueError, match="^Scale: dy: "):
        pullback(y[:1])
    with pytest.raises(TypeError, match="^Square: x: expected float32 or float64, got int64"):
        Square().apply((), np.arange(3))
    with pytest.raises(ValueError, match="^Square: dy: "):
        Square().apply((), x)[1](x[0])


def test_wrong_results_of_a_layer_are_refused_by_its_neighbours():
    """The next layer would read out of bounds, or the one before."""
    net = nn.serial(nn.conv2d(3, 3), Halved(), nn.flatten(), nn.linear(2))
    params, _ = started(net)
    with pytest.raises(ValueError, match=r"^linear: params\.weight: .* x of shape \(N, 150\)"):
        net.apply(params, IMAGES)
    net = nn.serial(nn.conv2d(3, 3), Halved())
    params, _ = started(net)
    y, pullback, _ = net.apply(params, IMAGES)
    with pytest.raises(ValueError, match=r"^conv2d: dy: .* \(4, 3, 10, 10\), got \(4, 3, 5, 10\)"):
        pullback(y)


def test_a_layer_is_the_same_value_after_it_was_applied():
    layer = nn.conv2d(3, 3)
    layer.apply(started(layer)[0], IMAGES)
    assert layer == nn.conv2d(3, 3)
    assert hash(layer) == hash(nn.conv2d(3, 3))
    assert pickle.loads(pickle.dumps(layer)) == layer
    params, _ = started(layer)
    for side in range(3, 100):  # it remembers a few shapes, not all
        layer.apply(params, np.zeros((1, 2, side, 3), np.float32))
    assert len(vars(layer)["_remembered"]) <= 32


# --- Empty arrays ---------------------------------------------------------------------------------


def test_no_channels_and_no_pixels():
    layer = nn.conv2d(3, 3)
    params, _ = started(layer, (0, 5, 5))
    params["bias"] += 2
    y, pullback, _ = layer.apply(params, np.zeros((2, 0, 5, 5), np.float32))
    assert (y == 2).all()
    dparams, dx = pullback(y)
    assert (dx.shape, dparams["weight"].shape) == ((2, 0, 5, 5), (3, 0, 3, 3))
    np.testing.assert_array_equal(dparams["bias"], [36] * 3)
    with pytest.raises(ValueError, match=r"conv2d: x: .* window of 3 x 3 fits, got \(N, 2, 0, 9"):
        layer.apply(started(layer)[0], np.zeros((2, 2, 0, 9), np.float32))
    norm, nothing = nn.batch_norm(), np.zeros((2, 2, 0, 9), np.float32)
    params, state = started(norm)
    with pytest.raises(ValueError, match="batch_norm: x: expected at least one example"):
        norm.apply(params, nothing, state, True)
    with pytest.raises(ValueError, match=r"batch_norm: x: .*got \(N,\)"):
        nn.batch_norm().init(np.random.default_rng(0), ())
    with pytest.raises(ValueError, match=r"max_pool: x: .*got \(N,\)"):
        nn.max_pool().output_shape(())
    with pytest.raises(ValueError, match=r"spatial_transformer: x: .* got \(N, 2, 0, 9\)"):
        nn.spatial_transformer(nn.flatten()).output_shape((2, 0, 9))
    with pytest.raises(ValueError, match=r"spatial_transformer: x: .*H, W\).*2, 9, 9, 9\)"):
        nn.spatial_transformer(nn.flatten()).output_shape((2, 9, 9, 9))
    with pytest.raises(ValueError, match="relu: x: expected a batch"):
        nn.relu().apply((), np.array(1.0))


# --- Numbers --------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf

# Each makes something that would fail later, or silently do the wrong thing.
NUMBERS = {
    "sgd: momentum": [lambda v=v: nn.sgd(0.1, momentum=v) for v in (-0.1, 1, 2, NAN, INF)],
    "sgd: weight_decay": [lambda v=v: nn.sgd(0.1, weight_decay=v) for v in (-1e-9, NAN, INF)],
    "constant: rate": [lambda v=v: nn.sgd(v) for v in (-0.1, NAN, INF)]
    + [lambda v=v: nn.adam(v) for v in (-1e-3, NAN, INF)]
    + [lambda v=v: nn.constant(v) for v in (-1, NAN)],
    "adam: beta1": [lambda v=v: nn.adam(1e-3, v) for v in (1.0, 1, 1.5, -0.1, NAN)],
    "adam: beta2": [lambda v=v: nn.adam(1e-3, 0.9, v) for v in (1.0, 2, -0.1, NAN)],
    "adam: epsilon": [lambda v=v: nn.adam(epsilon=v) for v in (0, -1e-8, NAN, INF)],
    "adam: weight_decay": [lambda v=v: nn.adam(weight_decay=v) for v in (-0.1, NAN, INF)],
    "factors: localisation": [
        lambda v=v: nn.adam(factors={"localisation": v}) for v in (-0.1, NAN, INF)
    ],
    "step_decay: every": [lambda v=v: nn.step_decay(0.1, v) for v in (0, -1, 1.5, NAN, True, "3")],
    "step_decay: rate": [lambda v=v: nn.step_decay(v, 3) for v in (-1, NAN, INF)],
    "step_decay: factor": [lambda v=v: nn.step_decay(0.1, 3, v) for v in (-0.5, NAN, INF)],
    "cosine: steps": [lambda v=v: nn.cosine(0.1, v) for v in (0, -5, 2.5, NAN)],
    "cosine: rate": [lambda v=v: nn.cosine(v, 5) for v in (-0.1, NAN, INF)],
    "one_cycle: steps": [lambda v=v: nn.one_cycle(0.1, v) for v in (0, -5, 2.5)],
    "one_cycle: rate": [lambda v=v: nn.one_cycle(v, 5) for v in (-0.1, NAN, INF)],
    "one_cycle: warm": [lambda v=v: nn.one_cycle(0.1, 5, warm=v) for v in (-0.1, 1.1, NAN)],
    "one_cycle: start": [lambda v=v: nn.one_cycle(0.1, 5, start=v) for v in (-0.1, 1.1, NAN)],
    "batch_norm: momentum": [lambda v=v: nn.batch_norm(v) for v in (-0.1, 1.1, NAN)],
    "batch_norm: epsilon": [lambda v=v: nn.batch_norm(0.9, v) for v in (0, -1e-5, NAN, INF)],
    "dropout: share": [lambda v=v: nn.dropout(v) for v in (-0.1, 1, NAN)],
    "dropout: seed": [lambda v=v: nn.dropout(0.5, v) for v in (-1, 1.5, None)],
    "conv2d: stride": [lambda v=v: nn.conv2d(1, 1, v) for v in (0, -1, 1.0, True)],
    "conv2d: padding": [lambda v=v: nn.conv2d(1, 1, 1, v) for v in (-1, 0.5, None)],
    "linear: features": [lambda v=v: nn.linear(v) for v in (0, -1, 2.0, True)],
    "avg_pool: kernel": [lambda v=v: nn.avg_pool(v) for v in (0, -1, 2.0)],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range(name):
    for make in NUMBERS[name]:
        with pytest.raises(ValueError, match=f"^{name} must be .*, got "):
            make()


@pytest.mark.parametrize(
    "make",
    [lambda: nn.sgd("fast"), lambda: nn.sgd(None), lambda: nn.adam(0.1, beta1="0.9"),
     lambda: nn.adam(epsilon=1j), lambda: nn.cosine([0.1], 5), lambda: nn.sgd(True),
     lambda: nn.adam(factors={"localisation": "slow"}), lambda: nn.adam(factors=0.1),
     lambda: nn.adam(factors=[("localisation", 0.1)]), lambda: nn.dropout("half"),
     lambda: nn.batch_norm(None)],
)  # fmt: skip
def test_what_is_no_number(make):
    with pytest.raises(TypeError, match=r"^\w+:.* must be a number|^factors: expected a mapping"):
        make()


def test_a_factor_that_matches_no_layer_lists_those_that_exist():
    net = nn.serial(nn.spatial_transformer(nn.flatten()), nn.flatten(), nn.linear(2))
    params, _ = started(net)
    with pytest.raises(ValueError, match=r"factors: .*'localisation'.* got \['localization'\]"):
        nn.adam(factors={"localization": 0.1}).init(params)
    with pytest.raises(ValueError, match="factors: "):
        train.init_learner(net, nn.sgd(0.1, factors={"localization": 0.1, "head": 1}), (2, 12, 12),
                           np.random.default_rng(0))  # fmt: skip


def test_a_schedule_that_gives_no_rate():
    params = {"weight": np.ones(2)}
    for odd in (-0.1, NAN, INF):
        optimiser = nn.sgd(lambda step, odd=odd: odd if step else 0.1)
        moved, state = optimiser.update(params, params, optimiser.init(params))
        with pytest.raises(ValueError, match=r"schedule: the rate of step 1 must be .*, got "):
            optimiser.update(moved, params, state)


def test_gradients_that_do_not_fit_the_parameters():
    params = {"weight": np.ones((2, 3)), "bias": np.ones(2)}
    for optimiser in (nn.sgd(0.1), nn.adam()):
        state = optimiser.init(params)
        with pytest.raises(ValueError, match=r"grads: bias: expected shape \(2,\), got \(1,\)"):
            optimiser.update(params, params | {"bias": np.ones(1)}, state)
        with pytest.raises(ValueError, match=r"grads: expected .*'weight', 'bias'.*\['weight'\]"):
            optimiser.update(params, {"weight": np.ones((2, 3))}, state)


# --- Losses and training --------------------------------------------------------------------------


def test_losses_refuse_what_has_no_loss():
    with pytest.raises(ValueError, match=r"outputs: expected at least one number.*\(0,\)"):
        nn.mean_squared_error(np.zeros(0), np.zeros(0))
    with pytest.raises(TypeError, match="targets: expected real numbers, got complex128"):
        nn.mean_squared_error(np.zeros(2), np.zeros(2, complex))
    for odd in (NAN, "0.1", None, -0.1, 1.1):
        with pytest.raises(ValueError, match="label_smoothing: expected a number from 0 to 1"):
            nn.softmax_cross_entropy(np.zeros((1, 2)), np.zeros(1, int), odd)


def test_training_refuses_bad_numbers():
    net = nn.serial(nn.flatten(), nn.linear(3))
    optimiser = nn.sgd(0.1)
    learner = train.init_learner(net, optimiser, (2, 12, 12), np.random.default_rng(0))
    labels = np.array([0, 1, 2, 0])
    with pytest.raises(ValueError, match="label_smoothing"):
        train.train_step(net, optimiser, learner, IMAGES, labels, 1.5)
    with pytest.raises(ValueError, match="predict: batch must be"):
        train.predict(net, learner, IMAGES, batch=0)
    with pytest.raises(ValueError, match=r"labels: expected one for each of 4 answers, got \(3,\)"):
        train.error_percent(net, learner, IMAGES, labels[:3])
    with pytest.raises(ValueError, match="shuffled_batches: batch must be"):
        next(train.shuffled_batches(np.random.default_rng(0), type("S", (), {"labels": labels}), 0,
                                    lambda rng, split: split))  # fmt: skip
    with pytest.raises(ValueError, match="prefetch: depth must be"):
        next(train.prefetch([1], depth=0))
