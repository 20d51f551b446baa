"""The recipe for images in arrays: what it chooses, what it keeps, and that it resumes exactly."""

import numpy as np
import pytest
from picture_sets import arrays

import numba_stn as stn
from numba_stn import data
from numba_stn.nn import tree
from numba_stn.nn.finite import NonFiniteError
from numba_stn.training import networks, recipe
from numba_stn.training.recipe import Recipe

SMALL = {"epochs": 3, "batch": 4}


def job(images=None, **options):
    """A job on the pictures of the tests: 18 to learn from, 6 to validate."""
    found, labels = arrays()
    images = found if images is None else images
    return recipe.classification(Recipe(**SMALL | options), images, labels, np.arange(18),
                                 np.arange(18, 24))  # fmt: skip


def flat(state):
    return tree.flatten({"params": state.learner.params, "state": state.learner.state,
                         "slots": state.learner.optimiser_state["slots"],
                         "best": list(state.best)})  # fmt: skip


def assert_same(one, other):
    assert one.history == other.history
    assert one.epoch == other.epoch
    for name, array in flat(one).items():
        np.testing.assert_array_equal(array, flat(other)[name], err_msg=name)


@pytest.fixture(scope="module")
def trained():
    """A job, and all its states after epochs."""
    own = job()
    return own, list(recipe.epochs(own))


def test_it_learns_and_describes_each_epoch(trained):
    own, states = trained
    assert [state.epoch for state in states] == [1, 2, 3]
    history = states[-1].history
    assert [sorted(entry) for entry in history] == 3 * [sorted([
        "epoch", "train_loss", "train_error", "validation_loss", "validation_error", "coverage"
    ])]  # fmt: skip
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    found = recipe.outputs(own, states[-1].learner, own.train.images[18:])
    wrong = (found.argmax(1) != own.train.targets[18:]).mean()
    assert history[-1]["validation_error"] == pytest.approx(100 * wrong)


def test_it_resumes_from_any_state_with_the_same_bits(trained):
    own, states = trained
    *_, last = recipe.epochs(own, states[0])
    assert_same(last, states[-1])
    between = next(state for state in recipe.states(own) if state.epoch == 1 and state.step == 2)
    *_, last = recipe.epochs(own, between)
    assert_same(last, states[-1])


def test_the_seed_decides():
    first, second, other = (list(recipe.epochs(job(epochs=1, seed=s)))[-1] for s in (0, 0, 1))
    assert_same(first, second)
    assert first.history != other.history


def test_the_best_epoch_is_kept(trained):
    own, states = trained
    number = recipe.best_epoch(states[-1].history)
    best = recipe.best_learner(own, states[-1])
    for name, array in tree.flatten(best.params).items():
        expected = tree.flatten(states[number - 1].learner.params)[name]
        np.testing.assert_array_equal(array, expected)
    _, error = recipe.measure(own, best, own.validation)
    assert error == min(entry["validation_error"] for entry in states[-1].history)


def test_which_epoch_is_the_best():
    def history(*pairs):
        return [{"epoch": n, "validation_error": error, "validation_loss": loss}
                for n, (error, loss) in enumerate(pairs, 1)]  # fmt: skip

    assert recipe.best_epoch(history((5, 1), (3, 1), (4, 0))) == 2
    assert recipe.best_epoch(history((3, 2), (3, 1), (3, 3))) == 2
    assert recipe.best_epoch(history((3, 1), (3, 1))) == 2
    assert recipe.best_epoch([{"epoch": 1}, {"epoch": 2}]) == 2
    assert recipe.best_epoch([]) == 0


def test_patience_ends_a_training_early(monkeypatch):
    errors = iter([50, 40, 45, 42, 41, 30])
    monkeypatch.setattr(recipe, "measure", lambda *_: (1.0, float(next(errors))))
    states = list(recipe.epochs(job(epochs=6, patience=2)))
    assert len(states) == 4  # the second epoch in a row that is not better than the second
    assert recipe.best_epoch(states[-1].history) == 2


def test_without_validation_images_the_last_epoch_is_the_best():
    images, labels = arrays()
    own = recipe.classification(Recipe(**SMALL | {"epochs": 1}), images, labels, np.arange(24), [])
    (state,) = recipe.epochs(own)
    assert "validation_error" not in state.history[0]
    assert "coverage" in state.history[0]
    assert recipe.best_learner(own, state).params is state.learner.params


def test_images_are_standardised_by_the_training_images():
    images, _ = arrays()
    own = job(images)
    flat_pixels = images[:18].reshape(-1, 3).astype(np.float64)
    mean, deviation = own.train.standardise
    np.testing.assert_allclose(mean, flat_pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(deviation, flat_pixels.std(0), rtol=1e-6)
    (found,) = own.train.take(np.array([3])).images
    np.testing.assert_allclose(
        found, ((images[3] - flat_pixels.mean(0)) / flat_pixels.std(0)).transpose(2, 0, 1),
        atol=1e-5,
    )  # fmt: skip
    constant = images.copy()
    constant[:, :, :, 1] = 9
    assert job(constant).train.standardise.deviation[1] == 1


def test_light_changes_contrast_and_brightness():
    """Each image is a multiple of itself plus a number, within the range."""
    options = {"rotate": 0, "scale": 0, "translate": 0, "shear": 0}
    own = job(light=0.5, **options)
    batch = own.train.take(np.arange(18))
    found = recipe.distortion(own.recipe)(np.random.default_rng(0), batch).images
    gains, offsets = [], []
    for image, plain in zip(found, batch.images, strict=True):
        gain, offset = np.polyfit(plain.ravel().astype(float), image.ravel().astype(float), 1)
        np.testing.assert_allclose(image, plain * gain + offset, atol=1e-4)
        gains.append(gain)
        offsets.append(offset)
    assert 1 / 1.5 - 1e-4 <= min(gains) < 1 < max(gains) <= 1.5 + 1e-4
    assert -0.5 <= min(offsets) < 0 < max(offsets) <= 0.5
    plain = job(light=0, **options)
    found = recipe.distortion(plain.recipe)(np.random.default_rng(0), batch).images
    assert found is batch.images


def test_no_copy_of_the_images_is_made(trained):
    own, _ = trained
    images, labels = arrays()
    own = recipe.classification(Recipe(), images, labels, np.arange(18), np.arange(18, 24))
    assert own.train.images is images
    assert own.validation.images is images


def test_classes_that_are_uneven_are_weighted():
    images, labels = arrays(10)
    order = np.argsort(labels, kind="stable")  # ten of each
    uneven = order[[0, *range(10, 30)]]
    own = recipe.classification(Recipe(), images, labels, uneven[:12], uneven[12:])
    assert own.recipe.class_weight == "none"  # of those that there are, 1 and 10
    own = recipe.classification(Recipe(), images, labels, order[[0, *range(10, 21)]], order[21:])
    assert own.recipe.class_weight == "none"
    many = np.concatenate([order[:1], np.repeat(order[10:20], 2), order[20:22]])
    own = recipe.classification(Recipe(), images, labels, many, order[22:])
    assert own.recipe.class_weight == "balanced"
    logits = np.zeros((3, 3), np.float32)
    _, dlogits = own.objective.loss(logits, np.arange(3))
    largest = np.abs(np.diag(dlogits))
    np.testing.assert_allclose(largest / largest[0], [1, 1 / 20, 1 / 2], rtol=1e-6)
    same = recipe.classification(Recipe(class_weight="none"), images, labels, many, order[22:])
    _, dlogits = same.objective.loss(logits, np.arange(3))
    assert len(set(np.diag(dlogits).tolist())) == 1


def test_the_weighted_loss_is_its_formula_and_its_gradient_the_slope():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 3)), rng.integers(0, 3, 7)
    weights = np.array([1.0, 4.0, 0.5])
    loss, dlogits = recipe.cross_entropy(logits, labels, 0.1, weights)
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = 0.9 * np.eye(3)[labels] + 0.1 / 3
    expected = -(target * np.log(share)).sum(1) @ weights[labels] / weights[labels].sum()
    assert loss == pytest.approx(expected, rel=1e-12)
    step = 1e-6 * rng.normal(size=logits.shape)
    (above, _), (below, _) = (recipe.cross_entropy(logits + sign * step, labels, 0.1, weights)
                              for sign in (1, -1))  # fmt: skip
    assert (dlogits * step).sum() == pytest.approx((above - below) / 2, rel=1e-6)
    equal = recipe.cross_entropy(logits, labels, 0.1, np.full(3, 2.0))
    plain = recipe.cross_entropy(logits, labels, 0.1)
    assert equal[0] == pytest.approx(plain[0])
    np.testing.assert_allclose(equal[1], plain[1])


@pytest.mark.parametrize(
    ("count", "batch", "epochs"), [(5, 5, 60), (100, 8, 60), (1000, 32, 60), (10**5, 64, 10)]
)
def test_batch_and_epochs_by_the_size_of_the_set(count, batch, epochs):
    found = recipe.resolved(Recipe(), count)
    assert (found.batch, found.epochs) == (batch, epochs)
    assert recipe.resolved(Recipe(batch=3, epochs=2), count).batch == 3
    assert recipe.resolved(Recipe(batch=3, epochs=2), count).epochs == 2


def test_nan_and_infinity_are_named():
    images = arrays()[0].astype(np.float32)
    images[[3, 7], 2, 2, 1] = np.nan
    with pytest.raises(ValueError, match="image 3 has NaN or infinity"):
        job(images)
    own = job(arrays()[0].astype(np.float32))
    own.train.images[[3, 7], 2, 2, 1] = np.inf
    with pytest.raises(NonFiniteError, match="these are the images") as caught:
        list(recipe.epochs(own))
    assert set(caught.value.images) <= {3, 7}


def test_arrays_that_do_not_fit_are_refused():
    images, labels = arrays()
    index = np.arange(24)
    with pytest.raises(
        ValueError, match=r"images: expected shape \(N, H, W, C\), got \(24, 12, 12\)"
    ):
        recipe.classification(Recipe(), images[..., 0], labels, index, [])
    with pytest.raises(ValueError, match="labels: expected 24 integers"):
        recipe.classification(Recipe(), images, labels[:-1], index, [])
    with pytest.raises(ValueError, match="labels: expected 24 integers"):
        recipe.classification(Recipe(), images, labels * 0.5, index, [])
    with pytest.raises(ValueError, match="train: expected at least one image"):
        recipe.classification(Recipe(), images, labels, [], index)
    for wrong in ({"rotate": -1}, {"epochs": 0}, {"model": "vgg"}, {"class_weight": "some"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Recipe(**wrong)


@pytest.mark.parametrize("model", networks.MODELS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 5), (3, 5, 4), (1, 8, 8), (3, 24, 31), (3, 48, 48), (1, 96, 224)]
)
def test_networks_fit_images_of_any_size(model, shape):
    net = networks.build(model, shape, 4)
    assert net.output_shape(shape) == (4,)
    params = net.init(np.random.default_rng(0), shape)
    if max(shape) < 40:
        images = np.zeros((2, *shape), np.float32)
        assert net.apply(params, images, net.init_state(shape))[0].shape == (2, 4)
    assert sum(array.size for array in tree.flatten(params).values()) < 4_000_000


def test_training_images_are_distorted_by_augment_in_all_its_ways():
    options = {"rotate": 5.0, "scale": 0.1, "translate": 0.1, "shear": 2.0, "flip": True,
               "perspective": 0.1, "elastic": 0.05}  # fmt: skip
    distort = recipe.distortion(recipe.Recipe(**options, light=0.0))
    images = np.random.default_rng(0).random((6, 3, 20, 24), np.float32)
    found = distort(np.random.default_rng(1), data.Split(images, np.arange(6)))
    expected, _ = stn.augment(images, np.random.default_rng(1), **options)
    np.testing.assert_array_equal(found.images, expected)
    assert np.abs(found.images - images).max() > 0.1
