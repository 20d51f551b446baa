"""Numbers in training that are not finite: found before the weights change, and where they are."""

import numpy as np
import pytest

from numba_stn import cli, nn
from numba_stn.nn import train
from numba_stn.nn.finite import NonFiniteError
from numba_stn.nn.tree import leaves, tree_map
from numba_stn.training import experiment, runs

LOCALISATION = nn.serial(nn.avg_pool(2), nn.flatten(), nn.linear(8), nn.relu())
NET = nn.serial(
    nn.spatial_transformer(LOCALISATION), nn.conv2d(3, 3), nn.batch_norm(), nn.relu(),
    nn.flatten(), nn.linear(4),
)  # fmt: skip
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((6, 1, 8, 8), np.float32), RNG.integers(0, 4, 6)


def start(net=NET, optimiser=None, seed=0):
    optimiser = optimiser or nn.adam(1e-2, factors={})
    shape = IMAGES.shape[1:]
    return optimiser, train.init_learner(net, optimiser, shape, np.random.default_rng(seed))


def copy(learner):
    """All of a learner's arrays, copied."""
    return [np.copy(leaf) for _, leaf in leaves((learner.params, learner.state, learner[2]))]


def check_refused(net, images, match, change=None, bad=()):
    """A step raises an error, and leaves the learner that it was given as it was."""
    optimiser, learner = start(net)
    if change:
        learner = learner._replace(params=change(learner.params))
    before = copy(learner)
    with pytest.raises(NonFiniteError, match=match) as caught:
        train.train_step(net, optimiser, learner, images, LABELS)
    assert caught.value.images == bad
    for was, leaf in zip(before, copy(learner), strict=True):
        np.testing.assert_array_equal(was, leaf)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_pixel(odd):
    """Theta samples nothing then, so that the loss would be finite."""
    images = IMAGES.copy()
    images[4, 0, 3, 3] = odd
    check_refused(NET, images, r"spatial_transformer: theta is not finite for 1 of 6 inputs; "
                  r"1 of 6 images .* not finite: 4$", bad=(4,))  # fmt: skip
    plain = nn.serial(*NET.layers[1:])
    images[1, 0, 0, 0] = odd
    check_refused(plain, images, r"the loss is nan: .* not finite is that of 0 \(conv2d\); "
                  r"2 of 6 images .*: 1, 4$", bad=(1, 4))  # fmt: skip


def test_a_loss_that_is_finite_without_theta(monkeypatch):
    """Where nobody looks at theta, the gradient of the localisation shows it."""
    images = IMAGES.copy()
    images[4, 0, 3, 3] = np.nan
    monkeypatch.setattr("numba_stn.nn.transformer.check_theta", lambda name, theta: None)
    check_refused(NET, images, r"the gradient of 0\.localisation\.\S+ \(.*\).* is not finite", None,
                  (4,))  # fmt: skip


def changed(path, value):
    """A function that changes one weight."""

    def change(params):
        names = iter([".".join(p) for p, _ in leaves(params)])

        def leaf(array):
            array = array.copy()
            if next(names) == path:
                array.reshape(-1)[1] = value
            return array

        return tree_map(leaf, params)

    return change


def test_a_weight():
    check_refused(NET, IMAGES, r"theta is not finite for 6 of 6 inputs$",
                  changed("0.localisation.head.weight", np.nan))  # fmt: skip
    check_refused(NET, IMAGES, r"the loss is nan: .* that of 1 \(conv2d\)$",
                  changed("1.weight", np.nan))  # fmt: skip
    check_refused(NET, IMAGES, r"the loss is nan: .* that of 5 \(linear\)$",
                  changed("5.bias", np.inf))  # fmt: skip


def test_a_gradient_in_a_layer_that_has_a_finite_output():
    class Root(nn.Layer):
        """The square root, whose slope at 0 is infinite."""

        def forward(self, params, x, wrt_x=True):
            y = np.sqrt(np.maximum(x, 0))
            return y, lambda dy: ((), dy / (2 * y))

    net = nn.serial(nn.flatten(), nn.linear(5), Root(), nn.linear(4))
    check_refused(net, IMAGES, r"the gradient of 1\.bias \(linear\) and of 1 other arrays is not")


def test_a_step_that_is_too_large():
    """Gradients are finite, but the new weights are not."""
    net = nn.serial(nn.flatten(), nn.linear(4))
    optimiser, learner = start(net, nn.sgd(1e300))
    with pytest.raises(NonFiniteError, match=r"^1\.weight: the weight is not finite in step 0$"):
        train.train_step(net, optimiser, learner, IMAGES, LABELS)


def test_a_running_statistic():
    """A variance that float32 cannot hold, of features that are finite."""
    net = nn.serial(nn.flatten(), nn.batch_norm(), nn.linear(4))
    images = IMAGES * np.float32(3e19)
    check_refused(net, images, r"(running statistic|gradient) of 1\.\w+ \(batch_norm\)")


def test_a_learner_is_checked_at_any_time():
    _, learner = start()
    train.check_finite(NET, learner)
    bad = changed("0.localisation.features.2.weight", np.inf)(learner.params)
    with pytest.raises(NonFiniteError, match=r"0\.localisation\.features\.2\.weight \(linear\)"):
        train.check_finite(NET, learner._replace(params=bad))
    assert issubclass(NonFiniteError, FloatingPointError)


def test_large_numbers_are_no_fault():
    """A theta that samples far outside; weights whose sum of squares is large."""
    optimiser, learner = start()
    far = changed("0.localisation.head.bias", 1e25)(learner.params)
    assert far is not learner.params
    far = tree_map(lambda a: np.where(a == np.float32(1e25), np.float32(1e18), a), far)
    after, loss, _ = train.train_step(NET, optimiser, learner._replace(params=far), IMAGES, LABELS)
    assert np.isfinite(loss)
    train.check_finite(NET, after)


# --- Runs -----------------------------------------------------------------------------------------


CONFIG = experiment.Config(model="st-fcn", epochs=3)
VICTIMS = (17, 600)


def spoil(setup):
    """The setup, of which two training images have a NaN pixel from the second epoch on."""
    victims, calls = setup.train.images[list(VICTIMS)], []

    def task(rng, split):
        distorted = setup.task(rng, split)
        calls.append(split)
        if len(calls) > setup.steps:
            spoiled = (split.images[:, None] == victims).all((2, 3, 4)).any(1)
            distorted.images[spoiled, 0, 5, 5] = np.nan
        return distorted

    return setup._replace(task=task)


def test_a_run_reports_step_and_images_and_keeps_what_was_good(tmp_path, monkeypatch, capsys):
    setup = experiment.prepare(CONFIG)
    monkeypatch.setattr(experiment, "prepare", lambda *_: spoil(setup))
    out = tmp_path / "run"
    assert cli.main(["train", "--model", "st-fcn", "--epochs", "3", "--out", str(out)]) == 1
    line = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    order = np.random.default_rng([0, 1]).permutation(800)  # of the second epoch
    step = min(int(np.flatnonzero(order == victim)[0]) // 50 for victim in VICTIMS)
    named = [str(n) for n in order[step * 50 : step * 50 + 50] if n in VICTIMS]
    assert line.startswith(
        f"numba-stn: epoch 2, after step {step} of 16: spatial_transformer: theta"
    )
    assert f"in the training set these are the images {', '.join(named)};" in line
    assert str(out / runs.CHECKPOINT) in line
    assert [path.name for path in out.iterdir()] == [runs.CHECKPOINT]
    state = experiment.resumed_state(setup, out / runs.CHECKPOINT)
    assert (state.epoch, len(state.history)) == (1, 1)
    train.check_finite(setup.net, state.learner)


def test_a_run_that_diverges_keeps_its_checkpoint(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["train", "--model", "fcn", "--rate", "1e30", "--out", str(out)]) == 1
    errors = capsys.readouterr().err.replace("\r", "\n")
    assert errors.splitlines()[-1].startswith("numba-stn: epoch 1, after step ")
    assert "a smaller --rate may help" in errors.splitlines()[-1]
    assert "Warning" not in errors
    assert (out / runs.CHECKPOINT).exists()


def test_images_that_are_not_finite_have_no_class():
    """A theta of NaN samples nothing, so the logits would be finite."""
    net = nn.serial(
        nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(4)), "affine"), nn.flatten(),
        nn.linear(3),
    )  # fmt: skip
    learner = train.init_learner(net, nn.sgd(0.1), (1, 6, 6), np.random.default_rng(0))
    images = np.random.default_rng(1).random((10, 1, 6, 6)).astype(np.float32)
    images[7, 0, 2, 2] = np.nan
    assert np.isfinite(net.apply(learner.params, images, learner.state)[0]).all()
    expected = "images 5 to 9: expected finite numbers; 1 of 5 images of the batch .*: 2"
    for use in (
        lambda: train.predict(net, learner, images, batch=5),
        lambda: train.error_percent(net, learner, images, np.zeros(10, int)),
        lambda: train.evaluate(net, learner, images, np.zeros(10, int), batch=5),
    ):
        with pytest.raises(NonFiniteError, match=r"expected finite numbers; 1 of \d+ images"):
            use()
    with pytest.raises(NonFiniteError, match=expected):
        train.predict(net, learner, images, batch=5)
    assert train.predict(net, learner, images[:7]).shape == (7,)
