"""Diagnostics of transformers: their outputs and coverage, and the warning of a collapse."""

import json
from dataclasses import replace

import numpy as np
import pytest

from numba_stn import cli
from numba_stn.nn import (
    conv2d,
    flatten,
    linear,
    mean_of_views,
    parallel,
    relu,
    residual,
    serial,
    spatial_transformer,
    train,
)
from numba_stn.nn.diagnostics import observe_transformers
from numba_stn.training import experiment, pictures

IMAGES = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)


def start(net):
    shape = IMAGES.shape[1:]
    params = net.init(np.random.default_rng(0), shape)
    return train.Learner(params, net.init_state(shape), None)


def test_transformers_are_observed_anywhere_in_a_network():
    def one(size):
        return spatial_transformer(serial(flatten(), linear(3), relu()), size=(size, size))

    net = serial(
        parallel(one(6), serial(one(5), one(6))),
        conv2d(4, 3), relu(), one(2), flatten(), linear(2),
    )  # fmt: skip
    learner = start(net)
    seen = observe_transformers(net, learner, IMAGES)
    assert [(each.before.shape[1:], each.after.shape[1:]) for each in seen] == [
        ((1, 8, 8), (1, 6, 6)), ((1, 8, 8), (1, 5, 5)), ((1, 5, 5), (1, 6, 6)),
        ((4, 4, 4), (4, 2, 2)),
    ]  # fmt: skip
    for number, each in enumerate(seen):
        if number != 2:  # this one enlarges, so its border is outside the last pixels' centres
            np.testing.assert_allclose(each.coverage, 100, rtol=1e-5)
    front = net.layers[0].apply(learner.params[0], IMAGES, learner.state[0])[0]
    np.testing.assert_array_equal(front, np.concatenate([seen[0].after, seen[2].after], 1))
    expected = net.layers[1].apply(learner.params[1], front)[0]
    np.testing.assert_allclose(seen[3].before, np.maximum(expected, 0), rtol=1e-5)


def test_transformers_are_observed_in_sums():
    """With their thetas; a learner may have an empty state, if no layer needs one."""
    one = spatial_transformer(serial(flatten(), linear(3), relu()), "attention")
    net = serial(residual(one, conv2d(1, 1)), residual(one))
    learner = start(net)
    learner.params[0][0][0]["localisation"]["head"]["bias"][:] = 0.5, 0.25, 0
    for state in (learner.state, ()):
        first, second = observe_transformers(net, learner._replace(state=state), IMAGES)
        np.testing.assert_array_equal(first.theta, [[[0.5, 0, 0.25], [0, 0.5, 0]]] * 3)
        np.testing.assert_array_equal(second.theta, [np.eye(2, 3)] * 3)
        conv = net.layers[0].layers[0].layers[1]
        expected = IMAGES + conv.apply(learner.params[0][0][1], first.after)[0]
        np.testing.assert_array_equal(second.before, expected)


def test_coverage_is_the_share_inside_the_image():
    net = serial(spatial_transformer(serial(flatten(), linear(2)), "translation"))
    learner = start(net)
    learner.params[0]["localisation"]["head"]["bias"][:] = 1.0, 0.0  # half the width
    (seen,) = observe_transformers(net, learner, IMAGES)
    assert seen.coverage == pytest.approx(50)
    assert (seen.covered[:, :, 4:] == 0).all()


def test_transformers_before_inside_and_after_a_mean_of_views():
    def one(size, **options):
        return spatial_transformer(serial(flatten(), linear(3)), size=(size, size), **options)

    net = serial(
        one(6, view_angles=(0, 90)), mean_of_views(2, one(5), relu()), one(4), flatten(), linear(2)
    )
    learner = start(net)
    seen = observe_transformers(net, learner, IMAGES)
    assert [len(each.before) for each in seen] == [3, 3, 3]
    front = serial(*net.layers[:2])
    expected = front.apply(learner.params[:2], IMAGES, learner.state[:2])[0]
    np.testing.assert_allclose(seen[2].before, expected, rtol=1e-5)
    np.testing.assert_allclose(seen[1].before, seen[0].after[:, :1])


def test_a_network_without_a_transformer_has_no_outputs():
    net = serial(flatten(), linear(2))
    assert observe_transformers(net, start(net), IMAGES) == []


def test_transformers_in_depth_learn():
    """One of the images, one of feature maps; both learn, and both are observed."""
    config = experiment.Config(model="st-cnn-deep", epochs=2)
    learner, metrics = experiment.run(experiment.prepare(config))
    first, second = metrics["history"]
    assert second["train_loss"] < 0.7 * first["train_loss"]
    assert len(second["coverage"]) == 2
    for params in (learner.params[0], learner.params[5]):
        assert np.abs(params["localisation"]["head"]["weight"]).max() > 1e-3


@pytest.mark.parametrize(
    ("model", "task", "views", "shown"),
    [("st-cnn-deep", "R", 1, 0), ("st-fcn", "RTS", 1, 1), ("st-fcn", "RTS", 3, 1)],
)
def test_the_pictures_show_the_last_transformer_of_the_images(model, task, views, shown):
    """With several views, the first one."""
    config = experiment.Config(model=model, task=task, views=views)
    setup = experiment.prepare(config)
    learner, images = experiment.initial_state(setup).learner, setup.test.images[:2]
    seen = observe_transformers(setup.net, learner, images)
    assert len(seen) == 2
    found = pictures.transformed(setup.net, learner, images)
    np.testing.assert_array_equal(found, seen[shown].after)
    net = experiment.prepare(replace(config, views=1)).net
    one_view = train.Learner(_flat(learner.params), _flat(learner.state), None)
    for each, expected in zip(seen, observe_transformers(net, one_view, images), strict=True):
        np.testing.assert_allclose(each.before, expected.before, atol=1e-6)
        np.testing.assert_allclose(each.after[:, :1], expected.after[:, :1], atol=1e-6)


def _flat(tree):
    """The tree of a network with one view, from that of a network with several."""
    return (tree[0], *tree[1]) if len(tree) == 2 else tree


# --- Collapse -------------------------------------------------------------------------------------


def test_a_collapse_is_reported_with_advice(tmp_path, capsys):
    """A localisation that learns much too fast moves theta outside the images."""
    command = ["train", "--model", "st-fcn", "--transform", "translation", "--epochs", "8"]
    out = tmp_path / "fast"
    assert cli.main([*command, "--localisation-rate", "300", "--out", str(out)]) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "collapse" in x]
    assert line.startswith("numba-stn: collapse: in epoch")
    assert "smaller --localisation-rate" in line
    history = json.loads((out / "metrics.json").read_text())["history"]
    assert min(entry["coverage"][0] for entry in history) < experiment.COLLAPSE_PERCENT
    out = tmp_path / "slow"
    assert cli.main([*command, "--out", str(out)]) == 0
    assert "collapse" not in capsys.readouterr().err
    history = json.loads((out / "metrics.json").read_text())["history"]
    assert min(entry["coverage"][0] for entry in history) > 80
