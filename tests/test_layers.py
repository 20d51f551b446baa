"""Layers: gradients, shapes, dtypes, bad input; parameter trees."""

import numpy as np
import pytest
from gradcheck import check_vjp

from numba_stn import nn
from numba_stn.nn import optim, zoo
from numba_stn.nn.tree import flatten, leaves, tree_map, unflatten
from numba_stn.transforms.parametrisations import tps

LAYERS = {
    "linear": (nn.linear(4), (7,)),
    "conv2d": (nn.conv2d(4, 3), (2, 7, 6)),
    "conv2d strided": (nn.conv2d(3, 3, stride=2, padding=2), (2, 8, 5)),
    "conv2d same": (nn.conv2d(3, 3, padding="same"), (2, 5, 6)),
    "conv2d same, even": (nn.conv2d(3, 4, padding="same"), (2, 5, 6)),
    "conv2d same, strided": (nn.conv2d(3, 3, 2, "same"), (2, 8, 5)),
    "conv2d 1x1": (nn.conv2d(3, 1), (2, 3, 3)),
    "max_pool": (nn.max_pool(2), (2, 7, 6)),
    "max_pool 3": (nn.max_pool(3), (1, 9, 11)),
    "avg_pool": (nn.avg_pool(2), (2, 7, 6)),
    "global_avg_pool": (nn.global_avg_pool(), (2, 5, 6)),
    "conv3d": (nn.conv3d(3, 3), (2, 5, 4, 6)),
    "conv3d strided": (nn.conv3d(2, 3, stride=2, padding=1), (2, 4, 5, 7)),
    "conv3d same, even": (nn.conv3d(2, 2, padding="same"), (1, 3, 4, 2)),
    "conv3d same, strided": (nn.conv3d(2, 3, 2, "same"), (1, 4, 5, 1)),
    "conv3d 1x1x1": (nn.conv3d(3, 1), (2, 1, 2, 3)),
    "max_pool3d": (nn.max_pool3d(2), (2, 5, 4, 7)),
    "avg_pool3d": (nn.avg_pool3d(3), (2, 3, 7, 6)),
    "volumes": (
        nn.serial(
            nn.conv3d(3, 3, padding="same"),
            nn.batch_norm(),
            nn.relu(),
            nn.max_pool3d(),
            nn.avg_pool3d(2),
            nn.flatten(),
            nn.linear(2),
        ),
        (1, 4, 5, 6),
    ),
    "transformer of volumes": (
        nn.spatial_transformer(
            nn.serial(nn.conv3d(2, 3), nn.flatten(), nn.linear(4)), "affine_3d", size=(3, 4, 3)
        ),
        (1, 4, 5, 4),
    ),
    "relu": (nn.relu(), (5, 3)),
    "tanh": (nn.tanh(), (5, 3)),
    "sigmoid": (nn.sigmoid(), (2, 3, 4)),
    "leaky_relu": (nn.leaky_relu(0.3), (2, 3, 4)),
    "softmax": (nn.softmax(), (5,)),
    "softmax of channels": (nn.softmax(), (3, 4, 5)),
    "activations in batch blocks": (
        nn.serial(
            nn.conv2d(3, 2),
            nn.tanh(),
            nn.conv2d(4, 2),
            nn.leaky_relu(),
            nn.max_pool(2),
            nn.sigmoid(),
            nn.conv2d(3, 1),
            nn.softmax(),
            nn.avg_pool(2),
        ),
        (2, 10, 11),
    ),
    "flatten": (nn.flatten(), (2, 3, 4)),
    "batch_norm": (nn.batch_norm(), (3, 4, 5)),
    "batch_norm dense": (nn.batch_norm(), (6,)),
    "serial": (nn.serial(nn.conv2d(3, 2), nn.relu(), nn.flatten(), nn.linear(2)), (1, 4, 4)),
    "parallel": (
        nn.parallel(nn.conv2d(3, 3, padding=1), nn.serial(nn.batch_norm(), nn.relu())),
        (2, 4, 4),
    ),
    "sum": (
        nn.sum_of(nn.conv2d(3, 3, 2, "same"), nn.serial(nn.batch_norm(), nn.conv2d(3, 1, 2))),
        (2, 5, 6),
    ),
    "residual": (
        nn.residual(nn.conv2d(2, 3, padding="same"), nn.batch_norm(), nn.residual(nn.relu())),
        (2, 5, 6),
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
    "mean of views": (
        nn.mean_of_views(2, nn.conv2d(3, 3), nn.batch_norm(), nn.flatten(), nn.linear(2)),
        (4, 5, 6),
    ),
    "transformer with views": (
        nn.spatial_transformer(
            nn.serial(nn.flatten(), nn.linear(3)), "affine", size=(5, 4), view_angles=(0, 30, -70)
        ),
        (2, 6, 7),
    ),
    "transformers with views, mean of views": (
        nn.serial(
            nn.spatial_transformer(
                nn.serial(nn.flatten(), nn.linear(3)), "attention", view_angles=(0, 9)
            ),
            nn.mean_of_views(
                2,
                nn.spatial_transformer(
                    nn.serial(nn.flatten(), nn.linear(3)), "projective", view_angles=(5,)
                ),
                nn.flatten(),
                nn.linear(2),
            ),
        ),
        (1, 5, 6),
    ),
    "transformer in rounds": (
        nn.spatial_transformer(
            nn.serial(nn.batch_norm(), nn.flatten(), nn.linear(4), nn.batch_norm(), nn.tanh()),
            "affine",
            size=(5, 4),
            zoom=0.8,
            view_angles=(0, 30),
            rounds=3,
        ),
        (2, 6, 7),
    ),
    "transformer of projective maps in rounds": (
        nn.spatial_transformer(
            nn.serial(nn.flatten(), nn.linear(3), nn.tanh()),
            "projective",
            padding_mode="border",
            rounds=2,
        ),
        (1, 6, 6),
    ),
    "transformers that return theta": (
        nn.serial(
            nn.spatial_transformer(
                nn.serial(nn.flatten(), nn.linear(3)),
                "attention",
                size=(4, 3),
                rounds=2,
                view_angles=(0, 20),
                return_theta=True,
            ),
            nn.mean_of_views(2, nn.with_theta(6, nn.conv2d(2, 2), nn.flatten()), nn.linear(3)),
        ),
        (2, 6, 5),
    ),
    "with theta": (nn.with_theta(2, nn.conv2d(3, 2), nn.flatten()), (4, 5, 6)),
    "transformers in parallel": (
        nn.parallel(
            *[nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(3)), size=(4, 4))] * 2
        ),
        (1, 7, 7),
    ),
}


def built(name, seed=0):
    """A layer with float64 parameters, an input and its state; the parameters are random."""
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


def test_an_empty_batch_works():
    net = nn.serial(nn.conv2d(4, 3), nn.relu(), nn.avg_pool(2), nn.conv2d(2, 1), nn.max_pool(2))
    params = net.init(np.random.default_rng(0), (1, 12, 12))
    y, pullback, _ = net.apply(params, np.zeros((0, 1, 12, 12), np.float32))
    dparams, dx = pullback(y)
    assert (y.shape, dx.shape) == ((0, 2, 2, 2), (0, 1, 12, 12))
    assert not any(d.any() for _, d in leaves(dparams) if np.size(d))


def test_an_empty_batch_works_with_views():
    layer, params, x, state, _ = built("transformers with views, mean of views")
    y, pullback, _ = layer.apply(params, x[:0], state)
    dparams, dx = pullback(y)
    assert (y.shape, dx.shape) == ((0, 2), x[:0].shape)
    assert not any(d.any() for _, d in leaves(dparams) if np.size(d))


def test_batch_norm_updates_its_running_statistics():
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


@pytest.mark.parametrize("around", [(), ("max_pool",), ("max_pool", "max_pool")], ids=len)
def test_running_statistics_move_by_one_tenth_towards_the_unbiased_ones(around):
    """By hand, alone, on batch blocks, and fused with the pooling that follows."""
    before, after = [nn.max_pool(1)] * len(around[:1]), [nn.max_pool(1)] * len(around[1:])
    net, at = nn.serial(*before, nn.batch_norm(), *after), len(before)
    params, state = net.init(np.random.default_rng(0), (1, 2, 1)), net.init_state((1, 2, 1))
    first, second = (np.array(pixels, np.float32).reshape(2, 1, 2, 1) for pixels in
                     ([1, 2, 3, 6], [0, 0, 0, 4]))  # fmt: skip
    _, _, state = net.apply(params, first, state, train=True)  # mean 3, sum of squares 14
    assert state[at]["mean"][0] == pytest.approx(0.3)
    assert state[at]["var"][0] == pytest.approx(0.9 + 0.1 * 14 / 3)
    _, _, state = net.apply(params, second, state, train=True)  # mean 1, sum of squares 12
    assert state[at]["mean"][0] == pytest.approx(0.9 * 0.3 + 0.1)
    assert state[at]["var"][0] == pytest.approx(0.9 * (0.9 + 1.4 / 3) + 0.1 * 4)


def test_dropout_drops_its_share_and_scales_the_others():
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
        for axis in (0, 1):  # no row or column is dropped as a whole
            share = (y == 0).mean(axis)
            expected = np.sqrt(0.21 / y.shape[axis])
            assert share.std() == pytest.approx(expected, rel=0.35)
    for y in (other, seeded):  # independent of the first
        assert ((y == 0) & (first == 0)).mean() == pytest.approx(0.09, abs=0.02)
        counts = [(z == 0).ravel()[:9984].reshape(-1, 64).sum(1) for z in (first, y)]
        assert abs(np.corrcoef(*counts)[0, 1]) < 0.3  # nor the same ones, elsewhere in a block
    with pytest.raises(ValueError, match=r"dropout: share .*1\.5"):
        nn.dropout(1.5)


def test_unflatten_inverts_flatten():
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


def test_errors_name_the_bad_argument():
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
    with pytest.raises(ValueError, match="view_angles: .*degrees, got 'left'"):
        nn.spatial_transformer(nn.flatten(), view_angles=("left",))
    with pytest.raises(TypeError, match="view_angles: .*sequence of angles in degrees, got 20"):
        nn.spatial_transformer(nn.flatten(), view_angles=20)
    with pytest.raises(ValueError, match="view_angles: .* affine or projective .*got tps"):
        nn.spatial_transformer(nn.flatten(), "tps", view_angles=(0, 90))
    with pytest.raises(ValueError, match="mean_of_views: views .*got 0"):
        nn.mean_of_views(0, nn.relu())
    with pytest.raises(ValueError, match="model.*'vgg'"):
        zoo.build("vgg", (1, 28, 28))
    with pytest.raises(ValueError, match="views: the model cnn has no transformer, got 2"):
        zoo.build("cnn", (1, 28, 28), views=2)
    with pytest.raises(ValueError, match="views: expected 1 with 2 parallel .*, got 2"):
        zoo.build("st-cnn", (1, 28, 28), transformers=2, views=2)
    with pytest.raises(ValueError, match="views: tps cannot be rotated, expected 1, got 2"):
        zoo.build("st-cnn", (1, 28, 28), "tps", views=2)
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


def test_paddings_called_same():
    """Against hand-made zeros: a window for each stride-th pixel, more zeros at the ends."""
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 10))
    for kernel, stride, (top, bottom, left, right) in (
        (3, 1, (1, 1, 1, 1)), (4, 1, (1, 2, 1, 2)), (3, 2, (1, 1, 0, 1)), (2, 3, (0, 1, 0, 1)),
        (5, 3, (2, 2, 2, 2)), (1, 2, (0, 0, 0, 0)), (2, 2, (0, 1, 0, 0)),
    ):  # fmt: skip
        same, bare = nn.conv2d(4, kernel, stride, "same"), nn.conv2d(4, kernel, stride)
        params = same.init(np.random.default_rng(1), x.shape[1:])
        zeros = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        y = same.apply(params, x)[0]
        np.testing.assert_array_equal(y, bare.apply(params, zeros)[0])
        assert y.shape[2:] == (-(-7 // stride), -(-10 // stride))
    for padding in ("valid", -1, 1.5, None, True):
        with pytest.raises(ValueError, match=r"conv2d: padding must be a whole number"):
            nn.conv2d(4, 3, 1, padding)


def test_a_sigmoid_keeps_its_precision():
    """Each side is computed from exp(-|x|), so neither overflows nor is rounded to 0 or 1."""
    y, pullback, _ = nn.sigmoid().apply((), np.array([[-700.0, -40.0, 40.0, 1e5]]))
    np.testing.assert_allclose(y, [[np.exp(-700), np.exp(-40), 1 - np.exp(-40), 1]], rtol=1e-15)
    assert np.isfinite(pullback(np.ones_like(y))[1]).all()
    y, _, _ = nn.softmax().apply((), np.array([[1e5, 1e5 - 1, -1e5]]))
    np.testing.assert_allclose(y, [[np.e / (1 + np.e), 1 / (1 + np.e), 0]], rtol=1e-12)


def test_branches_refuse_what_does_not_fit():
    x = np.zeros((2, 3, 5, 5))
    for layer, message in (
        (nn.sum_of(nn.conv2d(3, 3), nn.relu()), "sum: layers: expected outputs of one shape"),
        (nn.residual(nn.conv2d(4, 1)), "sum: layers: expected outputs of one shape"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.init(np.random.default_rng(0), x.shape[1:])
    with pytest.raises(ValueError, match=r"softmax: x: .*one channel, got \(N, 0, 5, 5\)"):
        nn.softmax().apply((), x[:, :0])
    for empty in (x[:, :, :0], x[0, 0]):
        with pytest.raises(ValueError, match=r"global_avg_pool: x: expected shape \(N, C, H, W\)"):
            nn.global_avg_pool().apply((), empty)
    with pytest.raises(ValueError, match="sum: expected at least one layer, got none"):
        nn.sum_of()
    with pytest.raises(TypeError, match=r"expected layers, got .*call it: relu\(\), not relu"):
        nn.residual(nn.relu)


# These take the input that the test gives to the others.
ANY_SHAPE = (
    "relu", "tanh", "sigmoid", "leaky_relu", "softmax", "softmax of channels", "flatten",
    "global_avg_pool",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ANY_SHAPE])
def test_layers_check_their_input(name):
    layer, params, x, state, _ = built(name)
    with pytest.raises(ValueError, match=r"expected"):
        layer.apply(params, x[:, 0], state)
    if not name.startswith("transformer"):
        with pytest.raises(TypeError, match="float32 or float64"):
            layer.apply(params, x.astype(int), state)


def test_weights_keep_their_dtype():
    net = nn.serial(nn.batch_norm(), nn.flatten(), nn.linear(3))
    params, state = net.init(np.random.default_rng(0), (1, 2, 2)), net.init_state((1, 2, 2))
    x = np.random.default_rng(0).random((5, 1, 2, 2))  # float64, as NumPy draws by default
    for optimiser in (nn.sgd(np.float64(0.1)), nn.adam(lambda step: np.float64(0.1))):
        y, pullback, after = net.apply(params, x, state, train=True)
        moved, _ = optimiser.update(params, pullback(y)[0], optimiser.init(params))
        assert {leaf.dtype.name for _, leaf in leaves(moved)} == {"float32"}
        assert {leaf.dtype.name for leaf in after[0].values()} == {"float32"}


def test_gradients_are_matched_by_name():
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    optimiser = nn.sgd(1.0, momentum=0)
    moved, _ = optimiser.update(params, {"b": np.ones(1), "a": np.zeros(1)}, optimiser.init(params))
    assert (moved["a"][0], moved["b"][0]) == (0, -1)


@pytest.mark.parametrize("name", LAYERS)
def test_dparams_are_the_same_without_the_gradient_of_the_images(name):
    layer, params, x, state, rng = built(name)
    y, pullback, _ = layer.apply(params, x, state, True)
    z, cheaper, _ = layer.apply(params, x, state, True, wrt_x=False)
    dy = rng.standard_normal(y.shape)
    np.testing.assert_array_equal(y, z)
    expected, got = flatten(pullback(dy)[0]), flatten(cheaper(dy)[0])
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)
