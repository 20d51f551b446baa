"""Layers, losses, optimisers and transforms on arrays of a stand-in for CuPy agree with the CPU.

train_simulator_suite.py has the tests that need the warps' CUDA kernels too.
"""

import subprocess
import sys
from functools import partial

import fake_cupy
import numpy as np
import pytest
from test_layers import LAYERS, built

from numba_stn import nn
from numba_stn.nn import train
from numba_stn.nn.tree import flatten, leaves, tree_map
from numba_stn.transforms.parametrisations import TRANSFORMS, compose
from numba_stn.utils import namespace

DENSE = [name for name in LAYERS if not name.startswith("transformer")]


@pytest.fixture
def cupy(monkeypatch):
    module = fake_cupy.module()
    monkeypatch.setitem(sys.modules, "cupy", module)
    for name in fake_cupy.counts:
        monkeypatch.setitem(fake_cupy.counts, name, 0)
    return module


def close(got, want, tolerance=1e-12):
    """Assert that a tree on the device is close to one of NumPy arrays."""
    got, want = flatten(got), flatten(want)
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert isinstance(got[name], fake_cupy.ndarray), name
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        largest = np.abs(array[np.isfinite(array)]).max(initial=1.0)
        np.testing.assert_allclose(
            got[name].get(), array, rtol=tolerance, atol=tolerance * largest, err_msg=name
        )


def both(layer, params, x, dy, state=(), training=False, wrt_x=True):
    """Output, new state and gradients of a layer."""
    y, pullback, new = layer.apply(params, x, state, training, wrt_x)
    dparams, dx = pullback(dy)
    return {"y": y, "state": new, "dparams": dparams, **({} if dx is None else {"dx": dx})}


def check(cupy, layer, params, x, state=(), training=False, tolerance=1e-12, wrt_x=True):
    dy = np.random.default_rng(1).standard_normal((len(x), *layer.output_shape(x.shape[1:])))
    dy = dy.astype(layer.apply(params, x, state, training)[0].dtype)
    own = [params, x, dy, state]
    there = [tree_map(cupy.asarray, tree) for tree in own]
    fake_cupy.counts["waits"] = 0
    got = both(layer, *there, training, wrt_x)
    assert fake_cupy.counts["waits"] == 0
    close(got, both(layer, *own, training, wrt_x), tolerance)


# --- Layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", DENSE)
def test_layers_agree_with_the_cpu(cupy, name, training):
    layer, params, x, state, _ = built(name)
    check(cupy, layer, params, x, state, training)


@pytest.mark.parametrize("name", DENSE)
def test_in_float32_too(cupy, name):
    layer, params, x, state, _ = built(name)
    params = tree_map(lambda array: array.astype(np.float32), params)
    check(cupy, layer, params, x.astype(np.float32), state, True, 1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "sides"),
    [(1, 1, 0, (1, 1)), (2, 1, 3, (4, 7)), (3, 2, 1, (9, 6)), (4, 3, 0, (11, 5)), (2, 3, 2, (8, 9)),
     (5, 1, 0, (5, 8))],
)  # fmt: skip
def test_convolutions_of_every_shape(cupy, kernel, stride, padding, sides):
    """Windows that overlap, touch, or leave gaps; rows and columns without a window."""
    rng = np.random.default_rng(kernel)
    layer, x = nn.conv2d(3, kernel, stride, padding), rng.standard_normal((4, 2, *sides))
    params = tree_map(lambda p: rng.standard_normal(p.shape), layer.init(rng, x.shape[1:]))
    check(cupy, layer, params, x)


def test_a_network_without_the_gradient_of_the_images(cupy):
    net = nn.serial(
        nn.max_pool(2), nn.conv2d(4, 3, padding=1), nn.relu(), nn.avg_pool(2), nn.conv2d(2, 1),
        nn.max_pool(3), nn.flatten(), nn.linear(3),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((5, 2, 13, 15))
    params = net.init(np.random.default_rng(0), x.shape[1:])
    check(cupy, net, params, x)
    check(cupy, net, params, x, wrt_x=False)
    check(cupy, net, params, x[:0])


def test_max_pool_chooses_the_first_of_equal_values_and_propagates_nan(cupy):
    x = np.zeros((1, 1, 5, 5))
    x[0, 0, 0, 2], x[0, 0, 1, 3], x[0, 0, 3, 1] = np.nan, 5, -1
    for kernel in (1, 2, 3, 5):
        check(cupy, nn.max_pool(kernel), (), x)
    large = np.zeros((1, 1, 17, 17))
    large[0, 0, 16, 15] = 1
    check(cupy, nn.max_pool(17), (), large)
    check(cupy, nn.serial(nn.max_pool(1), nn.relu()), ((), ()), x)


def test_layers_of_different_dtypes_work_together(cupy):
    net = nn.serial(nn.conv2d(2, 3), nn.conv2d(2, 3))
    first, second = net.init(np.random.default_rng(0), (1, 8, 8))
    params = first, tree_map(lambda weight: weight.astype(np.float64), second)
    check(cupy, net, params, np.ones((3, 1, 8, 8), np.float32), tolerance=1e-5)


def test_arrays_of_two_libraries_are_an_error(cupy):
    layer, params, x, _, _ = built("conv2d")
    there = tree_map(cupy.asarray, params)
    with pytest.raises(TypeError, match=r"of one library.*got numpy.ndarray and cupy.ndarray"):
        layer.apply(there, x)
    with pytest.raises(TypeError, match="of one library"):
        layer.apply(params, cupy.asarray(x))
    with pytest.raises(TypeError, match="linear: x and params.weight: .*of one library"):
        nn.linear(2).apply(tree_map(cupy.asarray, {"weight": x[0, 0], "bias": x[0, 0, 0]}), x[0, 0])


def test_dropout_agrees_with_the_cpu(cupy):
    layer, x = nn.dropout(0.4, 3), np.random.default_rng(0).random((7, 9)).astype(np.float32)
    state = {"steps": np.array([5], np.uint32)}
    here, back, after = layer.apply((), x, state, train=True)
    there = tree_map(cupy.asarray, state)
    fake_cupy.counts["waits"] = 0
    y, back_there, after_there = layer.apply((), cupy.asarray(x), there, train=True)
    assert fake_cupy.counts["waits"] == 0
    close([y, back_there(y)[1], after_there["steps"]], [here, back(here)[1], after["steps"]], 0)


# --- Transforms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TRANSFORMS, "one part"])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_transforms_agree_with_the_cpu(cupy, name, real):
    transform = TRANSFORMS[name] if name in TRANSFORMS else compose("rotation")
    rng = np.random.default_rng(0)
    params = rng.standard_normal((4, transform.size)).astype(real)
    dtheta = rng.standard_normal((4, *transform.shape)).astype(real)
    tolerance = 1e-6 if real is np.float32 else 1e-14
    there = cupy.asarray(params)
    close(transform.theta(there), transform.theta(params), tolerance)
    close(transform.vjp(cupy.asarray(dtheta), there), transform.vjp(dtheta, params), tolerance)
    with pytest.raises(ValueError, match="params: .* expects shape"):
        transform.theta(there[:, :0])


# --- Losses ---------------------------------------------------------------------------------------


def test_losses_agree_with_the_cpu(cupy):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((5, 4)), np.array([0, 1, 2, 3, 3])
    logits[1], logits[2, 1] = [1e4, -1e4, 0, 0], -np.inf
    there = cupy.asarray(logits)
    for given, smoothing in ((labels, 0), (cupy.asarray(labels), 0), (labels, 0.1)):
        if smoothing:
            there[2, 1] = logits[2, 1] = -5  # with -inf there, the loss is infinite
        loss, dlogits = nn.softmax_cross_entropy(logits, labels, smoothing)
        fake_cupy.counts["waits"] = 0
        got, dgot = nn.softmax_cross_entropy(there, given, smoothing)
        assert fake_cupy.counts["waits"] == 0
        close([got, dgot], [np.array(loss), dlogits])
    logits[1:3], targets = 0, rng.standard_normal((5, 4))
    loss, doutputs = nn.mean_squared_error(logits, targets)
    for given in (targets, cupy.asarray(targets)):
        got, dgot = nn.mean_squared_error(cupy.asarray(logits), given)
        close([got, dgot], [np.array(loss), doutputs])


@pytest.mark.parametrize("loss", [
    partial(nn.softmax_cross_entropy, class_weights=[1, 2, 0.5, 3]),
    partial(nn.softmax_cross_entropy, class_weights=[1, 2, 0.5, 3], label_smoothing=0.2),
    nn.binary_cross_entropy, partial(nn.binary_cross_entropy, positive_weights=[1, 2, 0.5, 3]),
    nn.huber, partial(nn.huber, delta=0.3),
])  # fmt: skip
def test_other_losses_agree_with_the_cpu(cupy, loss):
    rng = np.random.default_rng(1)
    outputs, targets = rng.standard_normal((5, 4)), rng.random((5, 4))
    if getattr(loss, "func", None) is nn.softmax_cross_entropy:
        targets = np.array([0, 1, 2, 3, 3])
    value, doutputs = loss(outputs, targets)
    for given in (targets, cupy.asarray(targets)):
        there = cupy.asarray(outputs)
        fake_cupy.counts["waits"] = 0
        got = loss(there, given)
        assert fake_cupy.counts["waits"] == 0
        close(list(got), [np.array(value), doutputs])
    if targets.ndim == 1:
        assert np.isnan(float(loss(there, cupy.asarray(targets + 1))[0]))


def test_wrong_labels(cupy):
    logits, wrong = cupy.asarray(np.zeros((2, 3), np.float32)), np.array([0, 3])
    with pytest.raises(ValueError, match=r"labels: expected integers in \[0, 3\), got 0 to 3"):
        nn.softmax_cross_entropy(logits, wrong)
    for bad in (wrong, -wrong - 1):
        assert np.isnan(float(nn.softmax_cross_entropy(logits, cupy.asarray(bad))[0]))
    with pytest.raises(TypeError, match="labels: expected integers, got float64"):
        nn.softmax_cross_entropy(logits, cupy.asarray([0.0, 1.0]))
    with pytest.raises(TypeError, match="of one library"):
        nn.softmax_cross_entropy(np.zeros((2, 3)), cupy.asarray([0, 1]))
    with pytest.raises(TypeError, match="of one library"):
        nn.mean_squared_error(np.zeros(2), cupy.asarray([0.0, 1.0]))


# --- Steps ----------------------------------------------------------------------------------------

NET = nn.serial(
    nn.conv2d(3, 3), nn.batch_norm(), nn.relu(), nn.max_pool(2),
    nn.parallel(nn.conv2d(2, 3, padding=1), nn.serial(nn.avg_pool(1), nn.relu())),
    nn.flatten(), nn.linear(4),
)  # fmt: skip


def batches(count, size=6):
    rng = np.random.default_rng(0)
    return [(rng.random((size, 1, 9, 8)), rng.integers(0, 4, size)) for _ in range(count)]


@pytest.mark.parametrize(
    "optimiser",
    [nn.sgd(0.1, weight_decay=0.01), nn.adam(nn.cosine(0.01, 4), weight_decay=0.01)],
    ids=["sgd", "adam"],
)
def test_steps_agree_with_the_cpu(cupy, optimiser):
    learners = [
        train.init_learner(NET, optimiser, (1, 9, 8), np.random.default_rng(0), library)
        for library in (np, cupy)
    ]
    for images, labels in batches(4):
        found = [train.train_step(NET, optimiser, learner, images, labels) for learner in learners]
        learners = [learner for learner, _, _ in found]
        (_, loss, wrong), (_, there, wrong_there) = found
        assert float(there) == pytest.approx(loss, rel=1e-5)
        assert int(wrong_there) == wrong
    close(learners[1].params, learners[0].params, 1e-4)
    close(learners[1].state, learners[0].state, 1e-5)
    images = np.concatenate([images for images, _ in batches(4)])
    want = train.predict(NET, learners[0], images, batch=7)
    got = train.predict(NET, learners[1], images, batch=7)
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, want)
    back = train.to_numpy(learners[1])
    assert {type(leaf) for _, leaf in leaves((back.params, back.state))} == {np.ndarray}


def test_a_step_uploads_its_batch_and_waits_for_nothing(cupy):
    optimiser = nn.adam(0.01)
    learner = train.init_learner(NET, optimiser, (1, 9, 8), np.random.default_rng(0), cupy)
    fake_cupy.counts["uploads"] = 0
    for images, labels in batches(3):
        learner, _, _ = train.train_step(NET, optimiser, learner, images, labels)
    assert fake_cupy.counts == {"waits": 0, "uploads": 6}
    there = [tuple(map(cupy.asarray, batch)) for batch in batches(3)]
    fake_cupy.counts["uploads"] = 0
    for images, labels in there:
        learner, _, _ = train.train_step(NET, optimiser, learner, images, labels)
    assert fake_cupy.counts == {"waits": 0, "uploads": 0}
    train.predict(NET, learner, np.zeros((10, 1, 9, 8), np.float32), batch=5)
    assert fake_cupy.counts == {"waits": 1, "uploads": 2}


def test_a_step_gives_the_same_bits_again(cupy):
    optimiser, found = nn.adam(0.01), []
    for _ in range(2):
        learner = train.init_learner(NET, optimiser, (1, 9, 8), np.random.default_rng(0), cupy)
        for images, labels in batches(2):
            learner, _, _ = train.train_step(NET, optimiser, learner, images, labels)
        found.append([leaf.get().tobytes() for _, leaf in leaves(learner.params)])
    assert found[0] == found[1]


# --- Whose arrays, and what is missing ------------------------------------------------------------


def test_namespaces(cupy):
    here, there = np.ones(2), cupy.asarray([1.0])
    assert namespace.namespace() is namespace.namespace(here, here) is np
    assert namespace.namespace(there, there) is cupy
    assert namespace.to_device_of(here, here) is here
    assert isinstance(namespace.to_device_of(here, here, there), fake_cupy.ndarray)
    assert namespace.to_host(here) is here
    assert type(namespace.to_host(there)) is np.ndarray
    assert namespace.gpu_name(np) is None
    assert namespace.gpu_name(cupy) == "A stand-in"
    with pytest.raises(ValueError, match=r"device: expected one of \['cpu', 'cuda'\], got 'gpu'"):
        namespace.array_library("gpu")


def test_the_cpu_needs_no_cupy():
    code = (
        "import sys; sys.modules['cupy'] = None\n"
        "import numpy as np\n"
        "from numba_stn import nn\n"
        "from numba_stn.nn import train, zoo\n"
        "net, optimiser = zoo.build('fcn', (1, 8, 8)), nn.adam()\n"
        "learner = train.init_learner(net, optimiser, (1, 8, 8), np.random.default_rng(0))\n"
        "images, labels = np.ones((3, 1, 8, 8), np.float32), np.array([0, 1, 2])\n"
        "learner, loss, wrong = train.train_step(net, optimiser, learner, images, labels)\n"
        "print(type(loss) is float and 'numba.cuda' not in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
