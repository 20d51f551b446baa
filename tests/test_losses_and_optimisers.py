"""Losses against finite differences, optimisers on a quadratic, schedules."""

import numpy as np
import pytest
from gradcheck import check_vjp

from numba_stn import nn
from numba_stn.nn import train
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
