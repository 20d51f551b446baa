"""What is watched inside a network, and the collapse of a transformer."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from numba_stn import cli
from numba_stn.kernels import launch
from numba_stn.nn import (
    averaged,
    conv2d,
    flatten,
    linear,
    parallel,
    relu,
    serial,
    spatial_transformer,
    train,
    watch,
)
from numba_stn.training import experiment, pictures

IMAGES = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)


def start(net):
    shape = IMAGES.shape[1:]
    params = net.init(np.random.default_rng(0), shape)
    return train.Learner(params, net.init_state(shape), None)


def test_each_transformer_is_seen_wherever_it_stands():
    def one(size):
        return spatial_transformer(serial(flatten(), linear(3), relu()), size=(size, size))

    net = serial(
        parallel(one(6), serial(one(5), one(6))),
        conv2d(4, 3), relu(), one(2), flatten(), linear(2),
    )  # fmt: skip
    learner = start(net)
    seen = watch.watch(net, learner, IMAGES)
    assert [(each.before.shape[1:], each.after.shape[1:]) for each in seen] == [
        ((1, 8, 8), (1, 6, 6)), ((1, 8, 8), (1, 5, 5)), ((1, 5, 5), (1, 6, 6)),
        ((4, 4, 4), (4, 2, 2)),
    ]  # fmt: skip
    for number, each in enumerate(seen):
        if number != 2:  # which is enlarged: its rim lies beyond the centres of the last pixels
            np.testing.assert_allclose(each.coverage, 100, rtol=1e-5)
    front = net.layers[0].apply(learner.params[0], IMAGES, learner.state[0])[0]
    np.testing.assert_array_equal(front, np.concatenate([seen[0].after, seen[2].after], 1))
    expected = net.layers[1].apply(learner.params[1], front)[0]
    np.testing.assert_allclose(seen[3].before, np.maximum(expected, 0), rtol=1e-5)


def test_coverage_is_the_share_that_lies_inside():
    net = serial(spatial_transformer(serial(flatten(), linear(2)), "translation"))
    learner = start(net)
    learner.params[0]["localisation"]["head"]["bias"][:] = 1.0, 0.0  # half the width
    (seen,) = watch.watch(net, learner, IMAGES)
    assert seen.coverage == pytest.approx(50)
    assert (seen.covered[:, :, 4:] == 0).all()


def test_what_stands_behind_several_readings_sees_their_mean():
    def one(size, **options):
        return spatial_transformer(serial(flatten(), linear(3)), size=(size, size), **options)

    net = serial(one(6, turns=(0, 90)), averaged(2, one(5), relu()), one(4), flatten(), linear(2))
    learner = start(net)
    seen = watch.watch(net, learner, IMAGES)
    assert [len(each.before) for each in seen] == [3, 3, 3]
    front = serial(*net.layers[:2])
    expected = front.apply(learner.params[:2], IMAGES, learner.state[:2])[0]
    np.testing.assert_allclose(seen[2].before, expected, rtol=1e-5)
    np.testing.assert_allclose(seen[1].before, seen[0].after[:, :1])


def test_a_network_without_a_transformer_shows_nothing():
    net = serial(flatten(), linear(2))
    assert watch.watch(net, start(net), IMAGES) == []


def test_transformers_in_depth_learn():
    """One of the images, one of feature maps; both move, and both are watched."""
    config = experiment.Config(model="st-cnn-deep", epochs=2)
    learner, metrics = experiment.run(experiment.prepare(config))
    first, second = metrics["history"]
    assert second["train_loss"] < 0.7 * first["train_loss"]
    assert len(second["coverage"]) == 2
    for params in (learner.params[0], learner.params[5]):
        assert np.abs(params["localisation"]["head"]["weight"]).max() > 1e-3


@pytest.mark.parametrize(
    ("model", "task", "readings", "shown"),
    [("st-cnn-deep", "R", 1, 0), ("st-fcn", "RTS", 1, 1), ("st-fcn", "RTS", 3, 1)],
)
def test_the_pictures_show_the_last_transformer_of_the_images(model, task, readings, shown):
    """Of several readings, the first."""
    config = experiment.Config(model=model, task=task, readings=readings)
    setup = experiment.prepare(config)
    learner, images = experiment.begin(setup).learner, setup.test.images[:2]
    seen = watch.watch(setup.net, learner, images)
    assert len(seen) == 2
    np.testing.assert_array_equal(pictures.warped(setup.net, learner, images), seen[shown].after)
    once = experiment.prepare(replace(config, readings=1)).net
    alone = train.Learner(_flat(learner.params), _flat(learner.state), None)
    for each, expected in zip(seen, watch.watch(once, alone, images), strict=True):
        np.testing.assert_allclose(each.before, expected.before, atol=1e-6)
        np.testing.assert_allclose(each.after[:, :1], expected.after[:, :1], atol=1e-6)


def _flat(tree):
    """The numbers of a network that reads once, of those of one that reads several times."""
    return (tree[0], *tree[1]) if len(tree) == 2 else tree


# --- Collapse -------------------------------------------------------------------------------------


def test_a_collapse_is_told_and_how_to_mend_it(tmp_path, capsys):
    """A localisation that learns much too fast throws theta off the images."""
    command = ["train", "--model", "st-fcn", "--transform", "translation", "--epochs", "8"]
    out = tmp_path / "fast"
    assert cli.main([*command, "--localisation-rate", "300", "--out", str(out)]) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "collapse" in x]
    assert line.startswith("numba-stn: collapse: in epoch")
    assert "smaller --localisation-rate" in line
    history = json.loads((out / "metrics.json").read_text())["history"]
    assert min(entry["coverage"][0] for entry in history) < experiment.COLLAPSED
    out = tmp_path / "slow"
    assert cli.main([*command, "--out", str(out)]) == 0
    assert "collapse" not in capsys.readouterr().err
    history = json.loads((out / "metrics.json").read_text())["history"]
    assert min(entry["coverage"][0] for entry in history) > 80


# --- Batches drawn ahead --------------------------------------------------------------------------


def test_batches_drawn_ahead_are_the_same_in_the_same_order():
    alone = []

    def batches():
        for k in range(7):
            alone.append((threading.current_thread(), launch.parallel(10**9)))
            yield k

    assert list(train.ahead(batches())) == list(range(7))
    assert {threads for _, threads in alone} == {False}  # the main thread's kernels have the cores
    assert threading.current_thread() not in {thread for thread, _ in alone}
    assert launch.parallel(10**9)


def test_two_batches_are_drawn_before_they_are_asked_for():
    drawn, third = [], threading.Event()

    def batches():
        for k in range(5):
            drawn.append(k)
            if k == 2:
                third.set()
            yield k

    ahead = train.ahead(batches(), depth=2)
    assert next(ahead) == 0
    assert third.wait(10)
    ahead.close()
    assert len(drawn) < 5


def test_an_error_in_the_background_arrives():
    def batches():
        yield 1
        raise ValueError("no more")

    ahead = train.ahead(batches())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no more"):
        next(ahead)
