"""Losses against finite differences, optimisers on a quadratic, schedules."""

import numpy as np
import pytest
from gradcheck import check_vjp

from numba_stn import data, nn
from numba_stn.nn import train
from numba_stn.nn.finite import NonFiniteError
from numba_stn.nn.tree import leaves, tree_map
from numba_stn.training import experiment

# --- Losses ---------------------------------------------------------------------------------------


def test_gradients_of_losses():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((5, 4)), np.array([0, 1, 2, 3, 3])
    loss, dlogits = nn.softmax_cross_entropy(logits, labels)
    check_vjp(lambda x: nn.softmax_cross_entropy(x, labels)[0], lambda d: d * dlogits, logits, rng)
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.isclose(loss, -np.log(probability[range(5), labels]).mean())
    loss, dlogits = nn.softmax_cross_entropy(logits, labels, 0.3)
    check_vjp(lambda x: nn.softmax_cross_entropy(x, labels, 0.3)[0], lambda d: d * dlogits,
              logits, rng)  # fmt: skip
    target = np.full((5, 4), 0.3 / 4)
    target[range(5), labels] += 0.7
    assert np.isclose(loss, -(target * np.log(probability)).sum(1).mean())
    targets = rng.standard_normal((5, 4))
    _, doutputs = nn.mean_squared_error(logits, targets)
    check_vjp(lambda x: nn.mean_squared_error(x, targets)[0], lambda d: d * doutputs, logits, rng)


def test_weighted_cross_entropy():
    """PyTorch's definition, number by number, with and without label smoothing."""
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.standard_normal((6, 3)), np.array([0, 1, 2, 2, 0, 1]), [0.5, 2, 7]
    log_probability = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    for share in (0.0, 0.3):
        expected = 0.0
        for n, label in enumerate(labels):
            for k in range(3):
                target = share / 3 + (1 - share) * (k == label)
                expected -= weights[k] * target * log_probability[n, k]
        expected /= sum(weights[label] for label in labels)
        loss, dlogits = nn.softmax_cross_entropy(logits, labels, share, weights)
        assert loss == pytest.approx(expected, rel=1e-12)
        check_vjp(
            lambda x, s=share: nn.softmax_cross_entropy(x, labels, s, weights)[0],
            lambda d, dx=dlogits: d * dx, logits, rng,
        )  # fmt: skip
        plain, weighted = (
            nn.softmax_cross_entropy(logits, labels, share, w) for w in (None, [3] * 3)
        )
        assert weighted[0] == pytest.approx(plain[0])
        np.testing.assert_allclose(weighted[1], plain[1], atol=1e-15)
    loss, dlogits = nn.softmax_cross_entropy(logits.astype("f4"), labels, 0.1, np.ones(3))
    assert (type(loss), dlogits.dtype) == (float, np.float32)
    far = nn.softmax_cross_entropy(np.array([[1e4, -np.inf]]), np.array([0]), 0, [1, 2])
    assert far[0] == 0
    np.testing.assert_array_equal(far[1], [[0, 0]])


@pytest.mark.parametrize("weights", [None, [1, 3.5, 0.5, 2]])
def test_binary_cross_entropy(weights):
    rng = np.random.default_rng(1)
    logits, targets = 3 * rng.standard_normal((5, 4)), rng.integers(0, 2, (5, 4))
    expected = 0.0
    for (_, k), logit, target in zip(np.ndindex(5, 4), logits.flat, targets.flat, strict=True):
        p = 1 / (1 + np.exp(-logit))
        expected -= (weights[k] if weights else 1) * np.log(p) if target else np.log(1 - p)
    loss, dlogits = nn.binary_cross_entropy(logits, targets, weights)
    assert loss == pytest.approx(expected / 20, rel=1e-12)
    for given in (targets, targets.astype(bool), 0.2 + 0.6 * targets):
        _, dlogits = nn.binary_cross_entropy(logits, given, weights)
        check_vjp(lambda x, t=given: nn.binary_cross_entropy(x, t, weights)[0],
                  lambda d, dx=dlogits: d * dx, logits, rng)  # fmt: skip


def test_binary_cross_entropy_of_huge_logits_is_finite():
    logits = np.array([[1e4, -1e4, 1e4, -1e4]], np.float32)
    loss, dlogits = nn.binary_cross_entropy(logits, np.array([[1, 0, 0, 1]]))
    assert loss == 5e3
    np.testing.assert_array_equal(dlogits, [[0, 0, 0.25, -0.25]])


def test_huber():
    rng = np.random.default_rng(2)
    outputs, targets = 3 * rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    for delta in (0.5, 1.0, 100.0):
        expected = [
            d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)
            for d in (outputs - targets).flat
        ]
        loss, doutputs = nn.huber(outputs, targets, delta)
        assert loss == pytest.approx(np.mean(expected), rel=1e-12)
        check_vjp(lambda x, limit=delta: nn.huber(x, targets, limit)[0],
                  lambda d, dx=doutputs: d * dx, outputs, rng)  # fmt: skip
    half = nn.mean_squared_error(outputs, targets)[0] / 2
    assert nn.huber(outputs, targets, 100.0)[0] == pytest.approx(half)


def test_losses_refuse_what_does_not_fit():
    logits, labels = np.zeros((2, 3)), np.array([0, 2])
    cases = (
        (nn.softmax_cross_entropy, (logits, labels, 0, [1, 2]), ValueError, r"weights: .*\(3,\)"),
        (nn.softmax_cross_entropy, (logits, labels, 0, [1, 2, 0]), ValueError, "positive finite"),
        (nn.softmax_cross_entropy, (logits, labels, 0, [1, 2, np.nan]), ValueError, "positive"),
        (nn.softmax_cross_entropy, (logits, labels, 0, "abc"), TypeError, "class_weights: "),
        (nn.binary_cross_entropy, (logits, labels), ValueError, r"targets: .*\(2, 3\), got \(2,\)"),
        (nn.binary_cross_entropy, (logits, logits + 2), ValueError, "from 0 to 1, got 2.0 to 2.0"),
        (nn.binary_cross_entropy, (logits, logits + np.nan), ValueError, "from 0 to 1"),
        (nn.binary_cross_entropy, (logits, logits, [1, 2, -1]), ValueError, "positive_weights: "),
        (nn.binary_cross_entropy, (logits[:0], logits[:0]), ValueError, "at least one number"),
        (nn.huber, (logits, logits, 0), ValueError, "delta must be positive"),
        (nn.huber, (logits, logits, None), TypeError, "delta must be a number"),
        (nn.huber, (logits, logits > 0, np.nan), ValueError, "delta"),
        (nn.huber, (logits, logits * 1j), TypeError, "targets: expected real numbers"),
        (nn.huber, (labels, labels), TypeError, "outputs: expected floating numbers"),
    )  # fmt: skip
    for loss, given, error, message in cases:
        with pytest.raises(error, match=message):
            loss(*given)


# --- Training with other losses -------------------------------------------------------------------


def trained(loss, targets, steps=150):
    """Weights of one linear layer after gradient descent, its inputs, and the last loss."""
    rng = np.random.default_rng(3)
    net, optimiser = nn.serial(nn.flatten(), nn.linear(2)), nn.adam(0.05)
    x = rng.standard_normal((40, 1, 1, 3)).astype(np.float32)
    targets = targets(x.reshape(40, 3))
    learner = train.init_learner(net, optimiser, (1, 1, 3), rng)
    for _ in range(steps):
        learner, value, errors = train.train_step(net, optimiser, learner, x, targets, loss=loss)
    assert train.evaluate(net, learner, x, targets, loss)[1] == 0
    return net, learner, x, targets, value, errors


def test_regression_finds_a_linear_map():
    weight = np.array([[1, -2, 0.5], [0, 3, 1]], np.float32)
    for loss in (nn.mean_squared_error, nn.huber):
        net, learner, x, targets, _, errors = trained(loss, lambda x: x @ weight.T + 1, 600)
        assert errors == 0
        np.testing.assert_allclose(learner.params[1]["weight"], weight, atol=1e-2)
        value, _ = train.evaluate(net, learner, x, targets, loss, batch=7)
        assert value == pytest.approx(loss(net.apply(learner.params, x)[0], targets)[0], rel=1e-4)
        assert value < 1e-3


def test_several_labels_at_once_are_learned():
    net, learner, x, targets, value, _ = trained(
        nn.binary_cross_entropy, lambda x: np.stack([x[:, 0] > 0, x[:, 1] + x[:, 2] > 0], 1), 600
    )
    assert value < 0.2
    assert ((net.apply(learner.params, x)[0] > 0) == targets).mean() > 0.95


def test_evaluate_counts_errors():
    net = nn.serial(nn.flatten(), nn.linear(3))
    learner = train.init_learner(net, nn.sgd(0.1), (1, 1, 4), np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((11, 1, 1, 4)).astype(np.float32)
    logits = net.apply(learner.params, x)[0]
    labels = np.where(np.arange(11) % 3, logits.argmax(1), logits.argmin(1))
    for batch in (4, 100):
        loss, errors = train.evaluate(net, learner, x, labels, batch=batch)
        assert loss == pytest.approx(nn.softmax_cross_entropy(logits, labels)[0], rel=1e-6)
        assert errors == 4
    for bad in (labels[:-1], labels[0]):
        with pytest.raises(ValueError, match="targets: expected one for each of 11 images"):
            train.evaluate(net, learner, x, bad)
    with pytest.raises(ValueError, match="0 images, at least one"):
        train.evaluate(net, learner, x[:0], labels[:0])


def test_a_step_with_wrong_options():
    net = nn.serial(nn.flatten(), nn.linear(2))
    learner, x = train.init_learner(net, nn.sgd(0.1), (1, 1, 3), np.random.default_rng(0)), IMAGES
    with pytest.raises(ValueError, match="label_smoothing: expected 0 with a loss of one's own"):
        train.train_step(net, nn.sgd(0.1), learner, x, LABELS, 0.1, nn.huber)
    with pytest.raises(ValueError, match=r"targets: expected the outputs' shape \(3, 2\)"):
        train.train_step(net, nn.sgd(0.1), learner, x, LABELS, loss=nn.huber)
    wrong = np.array([[1, 0], [np.nan, 2], [np.inf, 0]])
    message = "the loss is nan; 2 of 3 images of the batch have targets that are not finite: 1, 2"
    with pytest.raises(NonFiniteError, match=message) as caught:
        train.train_step(net, nn.sgd(0.1), learner, x, wrong, loss=nn.huber)
    assert caught.value.images == (1, 2)


def test_batches_without_a_distortion():
    split = data.Split(np.arange(10.0).reshape(10, 1, 1, 1), np.arange(10))
    batches = list(train.shuffled_batches(np.random.default_rng(0), split, 3))
    assert [len(labels) for _, labels in batches] == [3, 3, 3]
    order = [label for _, labels in batches for label in labels]
    assert len(set(order)) == 9
    for images, labels in batches:
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)


IMAGES, LABELS = np.ones((3, 1, 1, 3), np.float32), np.array([0, 1, 1])


def softened(labels, share, classes):
    """Target probabilities, number by number."""
    return np.array([
        [share / classes + (1 - share) * (k == label) for k in range(classes)] for label in labels
    ])  # fmt: skip


def test_a_training_step_smooths_the_labels():
    """One step of plain gradient descent on one linear layer, by hand."""
    rng = np.random.default_rng(1)
    net, optimiser = nn.serial(nn.flatten(), nn.linear(4)), nn.sgd(0.5, momentum=0)
    learner = train.init_learner(net, optimiser, (1, 2, 3), rng)
    x, labels = rng.random((5, 1, 2, 3)), rng.integers(0, 4, 5)
    weight, bias = learner.params[1]["weight"].astype(float), learner.params[1]["bias"]
    logits = x.reshape(5, 6) @ weight.T + bias
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for share in (0.0, 0.4):
        target = softened(labels, share, 4)
        after, loss, _ = train.train_step(net, optimiser, learner, x, labels, share)
        assert loss == pytest.approx(-(target * np.log(probability)).sum() / 5, rel=1e-6)
        moved = weight - 0.5 * (probability - target).T @ x.reshape(5, 6) / 5
        np.testing.assert_allclose(after.params[1]["weight"], moved, atol=1e-6)


def test_a_run_smooths_the_labels():
    """The first loss that a run reports."""
    config = experiment.Config(model="fcn", epochs=1, label_smoothing=0.4)
    setup, losses = experiment.prepare(config), []
    learner = experiment.initial_state(setup).learner
    batches = train.shuffled_batches(
        np.random.default_rng([0, 0]), setup.train, config.batch, setup.task
    )
    images, labels = next(batches)
    logits = setup.net.apply(learner.params, images, learner.state, True)[0].astype(float)
    log_probability = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    experiment.run(setup, on_step=lambda done, loss, error: losses.append(loss))
    expected = -(softened(labels, 0.4, 10) * log_probability).sum() / len(labels)
    assert losses[0] == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_of_huge_logits_is_finite():
    loss, dlogits = nn.softmax_cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(dlogits, [[1, -1]])


# --- Optimisers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", [nn.sgd(0.05), nn.adam(0.05)], ids=["sgd", "adam"])
def test_a_quadratic_is_minimised(optimiser):
    target = {"a": np.array([1.0, -2.0]), "b": (np.array([[3.0]]),)}
    params = tree_map(np.zeros_like, target)
    state = optimiser.init(params)
    for _ in range(600):
        grads = tree_map(lambda p, t: p - t, params, target)
        params, state = optimiser.update(params, grads, state)
    for (_, p), (_, t) in zip(leaves(params), leaves(target), strict=True):
        np.testing.assert_allclose(p, t, atol=1e-3)


def test_a_subtree_has_its_own_rate():
    params = {"localisation": {"w": np.ones(1)}, "rest": np.ones(1)}
    optimiser = nn.sgd(0.1, momentum=0, factors={"localisation": 0.25})
    moved, _ = optimiser.update(params, params, optimiser.init(params))
    assert (moved["localisation"]["w"], moved["rest"]) == (1 - 0.025, 1 - 0.1)
    with pytest.raises(ValueError, match="factors.*localization"):
        nn.sgd(0.1, factors={"localization": 1.0}).init(params)


def test_schedules():
    assert nn.constant(0.3)(99) == 0.3
    decay = nn.step_decay(1.0, every=10)
    assert [round(decay(step), 6) for step in (0, 9, 10, 25)] == [1, 1, 0.1, 0.01]
    wave = nn.cosine(2.0, 100)
    assert (wave(0), round(wave(50), 9), wave(100), wave(101)) == (2.0, 1.0, 0.0, 0.0)
    cycle = [nn.one_cycle(1.0, 100)(step) for step in range(101)]
    assert np.argmax(cycle) == 25
    assert max(cycle) == 1.0
    assert np.isclose(cycle[0], 0.04)
    assert cycle[100] == 0.0
    assert nn.sgd(wave).schedule is wave
