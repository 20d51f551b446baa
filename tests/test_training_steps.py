"""Batches, errors and means of training, on networks that only pass numbers on."""

from types import SimpleNamespace

import numpy as np
import pytest

from numba_stn import data, nn
from numba_stn.nn import train
from numba_stn.training import experiment
from numba_stn.training.checkpoint import TrainingState


def numbered(count):
    """Images whose pixels are their numbers."""
    images = np.arange(count, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), "f")
    return data.Split(images, np.arange(count) % 3)


def unchanged(rng, split):
    return split


def test_the_last_images_that_fill_no_batch_are_dropped():
    batches = [*train.shuffled_batches(np.random.default_rng(0), numbered(11), 4, unchanged)]
    assert [len(images) for images, _ in batches] == [4, 4]
    numbers = np.concatenate([images[:, 0, 0, 0] for images, _ in batches])
    assert len(np.unique(numbers)) == 8
    assert (np.diff(numbers) < 0).any()
    for images, labels in batches:
        np.testing.assert_array_equal(images[:, 0, 0, 0] % 3, labels)


def test_the_error_is_a_share_in_percent():
    net, images = nn.flatten(), np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]].reshape(5, 1, 2, 2)
    learner = train.Learner((), (), None)
    np.testing.assert_array_equal(train.predict(net, learner, images, 2), [0, 1, 2, 3, 0])
    assert train.error_percent(net, learner, images, np.array([0, 1, 2, 0, 1])) == 40


# --- An experiment --------------------------------------------------------------------------------


def test_means_are_those_of_the_epochs_steps():
    state = TrainingState(None, step=4, loss_sum=6.0, errors=3)
    setup = SimpleNamespace(config=SimpleNamespace(batch=10))
    assert experiment._epoch_means(setup, state) == {"train_loss": 1.5, "train_error": 7.5}


def test_a_distorted_set_has_at_least_the_images_asked_for():
    found = experiment._distorted(data.TASKS["none"], numbered(7), 0, 20)
    assert len(found.labels) == 21
    np.testing.assert_array_equal(np.bincount(found.images[:, 0, 0, 0].astype(int)), [3] * 7)


def test_a_collapse_is_reported_once():
    said = []
    experiment.warn_of_collapse([30.0, 20.0], (), said.append)
    assert len(said) == 1
    assert "20 % of the samples of transformer 2" in said[0]
    history = ({"coverage": [30.0, 20.0]},)
    experiment.warn_of_collapse([30.0, 10.0], history, said.append)
    assert len(said) == 1


def test_each_epoch_draws_its_own_batches(monkeypatch):
    drawn = []

    def steps(net, optimiser, learner, batches, label_smoothing):
        for images, _ in batches:
            drawn.append(images[:, 0, 0, 0].tolist())
            yield learner, 1.0, 0

    monkeypatch.setattr(experiment.train, "train_steps", steps)
    config = experiment.Config(batch=5)
    setup = experiment.Setup(config, None, None, numbered(15), None, None, data.TASKS["none"])
    epochs = []
    for epoch in (0, 1, 0):
        drawn.clear()
        for _ in experiment._train_epoch(setup, TrainingState(None, epoch), experiment.ignore):
            pass
        epochs.append([*drawn])
    assert epochs[0] == epochs[2] != epochs[1]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == [*range(15)]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_resumed_epoch_skips_the_steps_that_are_done(monkeypatch, steps):
    drawn = []

    def record(net, optimiser, learner, batches, label_smoothing):
        for images, _ in batches:
            drawn.append(images[:, 0, 0, 0].tolist())
            yield learner, 1.0, 0

    monkeypatch.setattr(experiment.train, "train_steps", record)
    config = experiment.Config(batch=5)
    setup = experiment.Setup(config, None, None, numbered(15), None, None, data.TASKS["none"])
    for state in (TrainingState(None), TrainingState(None, 0, steps, float(steps))):
        for _ in experiment._train_epoch(setup, state, experiment.ignore):
            pass
    assert drawn[3:] == drawn[steps:3]
