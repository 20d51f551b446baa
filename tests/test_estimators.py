"""The estimators: scikit-learn's own suite of checks, and what it cannot know of images."""

import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import numba_stn as stn
from numba_stn import data, export, nn
from numba_stn.data.splitting import split_groups
from numba_stn.nn.tree import leaves
from numba_stn.training import recipe
from numba_stn.training.image_layouts import find_layout

SPLIT = data.digits()
DIGITS, LABELS = SPLIT.train.images[:200, 0, ::2, ::2], SPLIT.train.labels[:200]
OTHERS, ANSWERS = SPLIT.test.images[:100, 0, ::2, ::2], SPLIT.test.labels[:100]

QUICK = {"epochs": 4, "batch_size": 16, "random_state": 0}


def classifier(*arguments, **options):
    return stn.STNClassifier(*arguments, **QUICK | options)


def regressor(*arguments, **options):
    return stn.STNRegressor(*arguments, **QUICK | options)


@pytest.fixture(scope="module")
def fitted():
    return classifier(epochs=10).fit(DIGITS, LABELS)


# --- scikit-learn's checks ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [stn.STNClassifier, stn.STNRegressor])
def test_scikit_learns_checks(make):
    """All of them, without exceptions; with few epochs, because they train a hundred times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(make(epochs=10, batch_size=16), on_fail=None, on_skip=None)
    assert len(results) > 50
    for result in results:
        if result["status"] == "skipped":
            allowed = ("SCIPY_ARRAY_API", "pandas", "does not have a decision_function")
            assert any(word in str(result["exception"]) for word in allowed), result
        else:
            assert result["status"] == "passed", result


# --- Learning -------------------------------------------------------------------------------------


def test_digits_are_learned(fitted):
    assert fitted.score(OTHERS, ANSWERS) > 0.7
    probability = fitted.predict_proba(OTHERS)
    assert probability.shape == (100, 10)
    np.testing.assert_allclose(probability.sum(1), 1)
    np.testing.assert_array_equal(fitted.classes_[probability.argmax(1)], fitted.predict(OTHERS))
    assert fitted.n_iter_ == len(fitted.history_) == 10
    assert {"train_loss", "validation_error", "coverage"} <= fitted.history_[0].keys()
    errors = [entry["validation_error"] for entry in fitted.history_]
    assert errors[fitted.best_iteration_ - 1] == min(errors)


def test_theta_and_the_aligned_images(fitted):
    theta, aligned = fitted.theta(OTHERS), fitted.transform(OTHERS)
    assert (theta.shape, aligned.shape) == ((100, 2, 3), OTHERS.shape)
    assert np.abs(theta - np.eye(2, 3)).max() > 0.01
    # Standardised zeros outside of the image are the training images' mean.
    inside = stn.warp_affine(OTHERS[:, None] - fitted.mean_[0], theta)[:, 0] + fitted.mean_[0]
    np.testing.assert_allclose(aligned, inside, atol=1e-5)
    plain = classifier(None, epochs=1).fit(DIGITS, LABELS)
    for method in (plain.theta, plain.transform):
        with pytest.raises(ValueError, match="the network has no transformer"):
            method(OTHERS)
    spline = classifier("tps", epochs=1).fit(DIGITS, LABELS)
    assert spline.theta(OTHERS).shape == (100, 16, 2)


def test_the_same_seed_gives_the_same_bits(fitted):
    again = clone(fitted).fit(DIGITS, LABELS)
    assert again.predict_proba(OTHERS).tobytes() == fitted.predict_proba(OTHERS).tobytes()
    other = clone(fitted).set_params(random_state=1).fit(DIGITS, LABELS)
    assert other.predict_proba(OTHERS).tobytes() != fitted.predict_proba(OTHERS).tobytes()


def test_it_trains_as_the_recipe_does(fitted):
    """The same bits as from the engine, called by hand with the same seed and division."""
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    part = split_groups(LABELS, range(200), (0.85, 0.0, 0.15), seed)
    options = recipe.Recipe(epochs=10, batch=16, seed=seed)
    job = recipe.classification(
        options, DIGITS[..., None], LABELS, np.flatnonzero(part == 0), np.flatnonzero(part == 2)
    )
    *_, last = recipe.epochs(job)
    found = recipe.best_learner(job, last)
    for (path, one), (_, other) in zip(
        leaves(found.params), leaves(fitted.weights_["params"]), strict=True
    ):
        assert one.tobytes() == other.tobytes(), path
    assert list(last.history) == fitted.history_


def test_an_estimator_is_exported(fitted):
    torch = pytest.importorskip("torch")
    ends = {"preprocessing": export.Preprocessing(fitted.mean_, fitted.deviation_, "float32")}
    module = export.to_torch(
        fitted.network_, **fitted.weights_, shape=(1, 8, 8), activation="softmax", **ends
    )
    with torch.no_grad():
        found = module(torch.from_numpy(OTHERS[..., None])).numpy()
    np.testing.assert_allclose(found, fitted.predict_proba(OTHERS), atol=1e-5)
    with pytest.raises(NotFittedError):
        classifier().network_  # noqa: B018


def test_several_labels_at_once():
    y = np.stack([LABELS % 2 == 0, LABELS > 4, LABELS == 0], 1).astype(int)
    found = classifier(epochs=12).fit(DIGITS, y)
    wanted = np.stack([ANSWERS % 2 == 0, ANSWERS > 4, ANSWERS == 0], 1)
    assert found.predict(OTHERS).shape == (100, 3)
    assert (found.predict(OTHERS) == wanted).mean() > 0.75
    np.testing.assert_array_equal(found.predict_proba(OTHERS) > 0.5, found.predict(OTHERS) == 1)
    with pytest.raises(ValueError, match="labels of the form of the first fit"):
        found.set_params(warm_start=True).fit(DIGITS, LABELS)


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_regression(loss):
    """The mean grey level, and its square, on scales that differ by a factor of a million."""
    level = OTHERS.mean((1, 2))
    targets = np.stack([1e4 * DIGITS.mean((1, 2)), DIGITS.mean((1, 2)) ** 2 / 100], 1)
    found = regressor(None, loss=loss, epochs=15, learning_rate=0.003).fit(DIGITS, targets)
    assert found.predict(OTHERS).shape == (100, 2)
    assert found.score(OTHERS, np.stack([1e4 * level, level**2 / 100], 1)) > 0.7
    assert regressor(epochs=1).fit(DIGITS, targets[:, 0]).predict(OTHERS).shape == (100,)


# --- Forms of images ------------------------------------------------------------------------------


def forms(images):
    """The same grey images in every form."""
    yield images
    yield images[..., None]
    yield images[:, None]
    yield images.reshape(len(images), -1)


def test_every_form_of_images_gives_the_same_bits(fitted):
    expected = fitted.predict_proba(OTHERS)
    for train, test in zip(forms(DIGITS), forms(OTHERS), strict=True):
        found = classifier(epochs=10).fit(train, LABELS)
        assert found.predict_proba(test).tobytes() == expected.tobytes()
        assert found.image_shape_ == (8, 8, 1)
        assert found.n_features_in_ == 64
        assert found.transform(test).shape == test.shape
        np.testing.assert_array_equal(found.theta(test), fitted.theta(OTHERS))


def test_colours_and_integers():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 9, 8, 3)).astype(np.uint8)
    labels = np.array(["grün", "rot"])[(images[..., 0].mean((1, 2)) > 127).astype(int)]
    expected = classifier().fit(images, labels).predict_proba(images)
    for same in (np.moveaxis(images, -1, 1), images.astype(np.float64), images.astype(np.int64)):
        found = classifier().fit(same, labels)
        assert found.predict_proba(same).tobytes() == expected.tobytes()
        assert found.image_shape_ == (9, 8, 3)
    rows = classifier(image_shape=(9, 8, 3)).fit(images.reshape(60, -1), labels)
    assert rows.predict_proba(images.reshape(60, -1)).tobytes() == expected.tobytes()
    with pytest.warns(UserWarning, match=r"floats of at most 1, but the images of fit were inte"):
        rows.predict(images.reshape(60, -1) / images.max())


@pytest.mark.parametrize(("shape", "options", "form", "expected"), [
    ((5, 9, 8, 4), {}, "NHWC", (9, 8, 4)), ((5, 3, 9, 8), {}, "NCHW", (9, 8, 3)),
    ((5, 3, 9, 4), {}, "NHWC", (3, 9, 4)), ((5, 3, 9, 4), {"layout": "NCHW"}, "NCHW", (9, 4, 3)),
    ((5, 9, 8, 7), {"layout": "NHWC"}, "NHWC", (9, 8, 7)), ((5, 1, 1), {}, "NHW", (1, 1, 1)),
    ((5, 12), {}, "flat", (1, 12, 1)), ((5, 16), {}, "flat", (4, 4, 1)),
    ((5, 12), {"image_shape": (2, 2, 3)}, "flat", (2, 2, 3)),
    ((5, 12), {"image_shape": np.array([3, 4])}, "flat", (3, 4, 1)),
])  # fmt: skip
def test_layouts(shape, options, form, expected):
    x = np.arange(np.prod(shape)).reshape(shape)
    layout = find_layout(x, options.get("image_shape"), options.get("layout", "auto"))
    assert (layout.form, layout.shape) == (form, expected)
    images = layout.images(x)
    assert images.shape == (5, *expected)
    np.testing.assert_array_equal(layout.given_form(np.moveaxis(images, -1, 1)), x)


@pytest.mark.parametrize(("shape", "options", "message"), [
    ((5, 9, 8, 7), {}, "layout: expected NHWC or NCHW"), ((5,), {}, "Expected 2D array"),
    ((5, 9, 8), {"layout": "HWC"}, "layout: expected one of"), ((5, 9, 0), {}, "with pixels"),
    ((5, 2, 3, 4, 5), {}, "X: expected images"),
    ((5, 12), {"image_shape": (3, 5)}, "image_shape: expected a shape of 12 numbers"),
    ((5, 12), {"image_shape": "3x4"}, r"image_shape: expected \(H, W\) or"),
    ((5, 12), {"image_shape": (3, 4.5)}, r"image_shape: expected \(H, W\) or"),
    ((5, 9, 8), {"image_shape": (8, 9)}, r"image_shape: expected \(9, 8, 1\), as X has it"),
])  # fmt: skip
def test_wrong_layouts(shape, options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options).fit(np.ones(shape), np.arange(5))


def test_long_rows_are_worth_a_warning():
    with pytest.warns(UserWarning, match=r"rows of 300 numbers are no square images.*image_shape="):
        find_layout(np.zeros((2, 300)), None, "auto")


# --- Wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "message"), [
    ({"transformation": "twist"}, "^transformation: expected one of"),
    ({"transformation": "rigid_3d"}, "transformation: expected one of images, got rigid_3d"),
    ({"epochs": 0}, "epochs: expected a whole number from 1 to 1000000, got 0"),
    ({"batch_size": -1}, "^batch_size: expected"),
    ({"learning_rate": 0}, "^learning_rate: expected"),
    ({"augment": {"spin": 3}}, r"augment: expected None, False or a dictionary with some of"),
    ({"augment": {"rotate": -1}}, "rotate: expected"),
    ({"class_weight": "uneven"}, "class_weight: expected"),
    ({"class_weight": {77: 2}}, "class_weight: expected classes of"),
    ({"class_weight": {1: 0}}, "class_weight: weight must be positive"),
    ({"validation_fraction": 1}, "validation_fraction: expected a number from 0 to less than 1"),
    ({"net": "nets"}, "net: expected FILE.py:FUNCTION"),
    ({"net": nn.serial(nn.flatten(), nn.linear(3))}, "net: .*expected 10 outputs"),
    ({"random_state": "zero"}, "cannot be used to seed"),
])  # fmt: skip
def test_wrong_parameters(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(**options).fit(DIGITS, LABELS)


def test_wrong_arrays(fitted):
    bad = DIGITS.copy()
    bad[3, 2, 2] = np.nan
    for x, y, message in (
        (DIGITS, LABELS[:-1], "inconsistent numbers of samples"), (bad, LABELS, "X contains NaN"),
        (DIGITS, LABELS * 0, "y: expected at least two classes, got one class"),
        (DIGITS, LABELS + 0.5, "Unknown label type"), (DIGITS[:0], LABELS[:0], "minimum of 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            classifier().fit(x, y)
    for x in (DIGITS[:, :-1], DIGITS[..., None], DIGITS[0]):
        with pytest.raises(
            ValueError, match=r"X: expected images of shape|Expected 2D|X has 8 features"
        ):
            fitted.predict(x)
    with pytest.raises(ValueError, match="X contains NaN"):
        fitted.predict(bad)
    with pytest.raises(ValueError, match="groups: expected one for each of 200 images, got 3"):
        classifier().fit(DIGITS, LABELS, groups=[1, 2, 3])
    with pytest.raises(ValueError, match="loss: expected one of"):
        regressor(loss="l1").fit(DIGITS, LABELS)
    with pytest.raises(NotFittedError):
        classifier().save("nowhere")


def test_a_fit_that_fails_leaves_the_estimator_as_it_was(fitted):
    before = fitted.predict_proba(OTHERS)
    with pytest.raises(ValueError, match="at least two classes"):
        fitted.fit(DIGITS[:, ::2], LABELS * 0)
    assert fitted.predict_proba(OTHERS).tobytes() == before.tobytes()


# --- Going on -------------------------------------------------------------------------------------


def test_partial_fit_learns():
    found = classifier()
    with pytest.raises(ValueError, match="classes: expected all classes in the first call"):
        found.partial_fit(DIGITS, LABELS)
    for epoch in range(12):
        found.partial_fit(DIGITS[:120], LABELS[:120], classes=range(10) if not epoch else None)
        found.partial_fit(DIGITS[120:], LABELS[120:])
    assert found.n_iter_ == 24
    assert [entry["epoch"] for entry in found.history_] == list(range(1, 25))
    assert found.score(OTHERS, ANSWERS) > 0.6
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        found.partial_fit(DIGITS, LABELS, classes=[1, 2])
    with pytest.raises(ValueError, match="y: expected classes of .*, got 10"):
        found.partial_fit(DIGITS, LABELS + 1)
    numbers = regressor(None).partial_fit(DIGITS, LABELS).partial_fit(DIGITS, LABELS)
    assert numbers.n_iter_ == 2


def test_a_warm_start_goes_on():
    cold = classifier(epochs=3).fit(DIGITS, LABELS)
    first, mean = cold.history_[0]["train_loss"], cold.mean_
    cold.set_params(warm_start=True).fit(DIGITS[:150], LABELS[:150])
    assert cold.history_[0]["train_loss"] < first / 1.2
    np.testing.assert_array_equal(cold.mean_, mean)


def test_callbacks_and_verbosity(capsys):
    seen = []

    def stop(estimator, entry):
        seen.append((estimator.predict(OTHERS[:1]).shape, entry["epoch"]))
        return entry["epoch"] == 2

    found = classifier(verbose=True, callbacks=[stop, lambda *_: None]).fit(DIGITS, LABELS)
    assert seen == [((1,), 1), ((1,), 2)]
    assert found.n_iter_ == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1 of 4: train loss ")
    assert len(lines) == 2


def test_an_interrupted_fit_keeps_what_was_learned():
    def interrupt(estimator, entry):
        if entry["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted after epoch 2, and what was learned is kept"):
        found = classifier(callbacks=interrupt).fit(DIGITS, LABELS)
    assert found.n_iter_ == 2
    found.predict(OTHERS)


def test_groups_are_not_divided():
    """Pairs of equal images: with groups no validation image is a training image too."""
    chosen = []

    class Noting(stn.STNClassifier):
        def _divided(self, *arguments):
            chosen.append(super()._divided(*arguments))
            return chosen[-1]

    groups = np.arange(200) // 2
    Noting(**QUICK | {"epochs": 1}).fit(DIGITS, LABELS, groups=groups)
    train, validation = chosen[0]
    assert len(train) + len(validation) == 200
    assert 20 <= len(validation) <= 40
    assert not set(groups[train]) & set(groups[validation])


def test_classes_are_weighted():
    """With the weight of one class large, more is that class."""
    threes = [
        (classifier(class_weight=weight).fit(DIGITS, LABELS).predict(OTHERS) == 3).mean()
        for weight in (None, {3: 1e4})
    ]
    assert threes[0] < 0.3 < threes[1]
    few = np.concatenate([np.flatnonzero(LABELS == 1)[:1], np.flatnonzero(LABELS == 0)[:11]])
    weights = []
    for choice in ("auto", "balanced", None):
        found = classifier(class_weight=choice, epochs=1).fit(DIGITS[few], LABELS[few])
        weights.append(found._weights(np.array([11, 1])))
    np.testing.assert_allclose(weights[:2], [[12 / 22, 6]] * 2)
    assert weights[2] is None


# --- Networks of one's own ------------------------------------------------------------------------


def small(shape, outputs):
    return nn.serial(
        nn.conv2d(6, 3, 2, "same"), nn.tanh(),
        nn.spatial_transformer(nn.serial(nn.global_avg_pool(), nn.linear(4)), "rotation"),
        nn.global_avg_pool(), nn.linear(outputs),
    )  # fmt: skip


def test_networks_of_ones_own(tmp_path):
    (tmp_path / "nets.py").write_text(
        "from test_estimators import small as imported\n"
        "def small(shape, outputs):\n    return imported(shape, outputs)\n"
    )
    found = [
        classifier(net=net).fit(DIGITS, LABELS).predict_proba(OTHERS)
        for net in (small, f"{tmp_path / 'nets.py'}:small", small((1, 8, 8), 10))
    ]
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    inner = classifier(net=small).fit(DIGITS, LABELS)
    assert inner.theta(OTHERS).shape == (100, 2, 3)


# --- Files ----------------------------------------------------------------------------------------

LOAD = """
import sys, numpy as np, numba_stn as stn
images = np.load(sys.argv[2])
for name in sys.argv[3:]:
    kind, file = name.split(":")
    found = getattr(stn, kind).load(f"{sys.argv[1]}/{file}")
    for method in ("predict_proba", "predict", "transform", "theta"):
        if hasattr(found, method):
            print(np.ascontiguousarray(getattr(found, method)(images)).tobytes().hex())
"""


def test_a_saved_estimator_gives_the_same_bits_in_another_process(fitted, tmp_path):
    several = classifier(stn.transforms.similarity, epochs=np.int64(3)).fit(
        DIGITS, np.stack([LABELS > 4, LABELS < 3], 1).astype(int)
    )
    numbers = regressor("restricted_affine").fit(DIGITS, np.stack([LABELS, -LABELS], 1))
    words = classifier("affine").fit(DIGITS, np.array([f"digit {n}" for n in LABELS]))
    estimators = {"a": fitted, "b": several, "c": numbers, "d": words}
    expected = []
    np.save(tmp_path / "images.npy", OTHERS)
    for name, estimator in estimators.items():
        estimator.save(tmp_path / name)
        for method in ("predict_proba", "predict", "transform", "theta"):
            if hasattr(estimator, method):
                found = getattr(estimator, method)(OTHERS)
                expected.append(np.ascontiguousarray(found).tobytes().hex())
    names = [f"{type(found).__name__}:{name}" for name, found in estimators.items()]
    command = [sys.executable, "-c", LOAD, str(tmp_path), str(tmp_path / "images.npy"), *names]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == expected
    loaded = stn.STNClassifier.load(tmp_path / "a")
    assert loaded.get_params() == fitted.get_params()
    assert loaded.history_ == fitted.history_
    options = stn.STNClassifier.load(tmp_path / "b").get_params()
    assert (options["transformation"], options["epochs"]) == ("similarity", 3)
    loaded.set_params(warm_start=True, epochs=1).fit(DIGITS, LABELS)
    again = pickle.loads(pickle.dumps(numbers))
    assert again.predict(OTHERS).tobytes() == numbers.predict(OTHERS).tobytes()


def test_parameters_that_are_code_are_given_again(tmp_path):
    found = classifier(net=small, callbacks=lambda *_: None).fit(DIGITS, LABELS)
    found.save(tmp_path / "own")
    with pytest.raises(ValueError, match=r"saved without net, which is code: .*load\(path, net="):
        stn.STNClassifier.load(tmp_path / "own")
    loaded = stn.STNClassifier.load(tmp_path / "own", net=small)
    assert loaded.predict_proba(OTHERS).tobytes() == found.predict_proba(OTHERS).tobytes()
    assert loaded.callbacks is None
    (tmp_path / "nets.py").write_text("from test_estimators import small\n")
    named = classifier(net=f"{tmp_path / 'nets.py'}:small").fit(DIGITS, LABELS)
    named.save(tmp_path / "named")
    (tmp_path / "nets.py").write_text("1 / 0")
    with pytest.raises(ValueError, match="saved without net, which is code"):
        stn.STNClassifier.load(tmp_path / "named")
    again = stn.STNClassifier.load(tmp_path / "named", net=small)
    assert again.predict_proba(OTHERS).tobytes() == named.predict_proba(OTHERS).tobytes()
    with pytest.raises(ValueError, match="has no parameter 'nets'"):
        stn.STNClassifier.load(tmp_path / "own", net=small, nets=1)
    with pytest.raises(ValueError, match="weights: "):
        stn.STNClassifier.load(tmp_path / "own", net=nn.serial(nn.flatten(), nn.linear(10)))


def test_files_that_are_something_else(fitted, tmp_path):
    path = tmp_path / "file"
    fitted.save(path)
    with pytest.raises(ValueError, match="expected a STNRegressor, got a STNClassifier"):
        stn.STNRegressor.load(path)
    content = path.read_bytes()
    for damaged, message in (
        (content[:99], "truncated"),
        (b"", "truncated"),
        (content.replace(b'\\"fitted\\"', b'\\"fittet\\"'), "damaged"),
        (content.replace(b"estimator 1", b"estimator 9"), "expected a file"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            stn.STNClassifier.load(path)
    nn.save(path, fitted.weights_)
    with pytest.raises(ValueError, match="expected a file of STNClassifier.save"):
        stn.STNClassifier.load(path)


# --- Together with scikit-learn -------------------------------------------------------------------


def test_grid_search_over_two_transforms():
    search = GridSearchCV(classifier(epochs=2), {"transformation": ["affine", "rotation"]}, cv=2)
    search.fit(DIGITS, LABELS)
    assert set(search.cv_results_["param_transformation"]) == {"affine", "rotation"}
    assert search.best_estimator_.predict(OTHERS).shape == (100,)


def test_pipelines_and_cross_validation():
    pipeline = make_pipeline(FunctionTransformer(lambda x: 255 * x), classifier(epochs=5))
    scores = cross_val_score(pipeline, DIGITS, LABELS, cv=2)
    assert scores.shape == (2,)
    assert scores.min() > 0.2
    aligner = make_pipeline(classifier(epochs=2), classifier(None, epochs=2))
    assert aligner.fit(DIGITS, LABELS).predict(OTHERS).shape == (100,)


def test_without_scikit_learn_everything_else_works():
    code = (
        "import sys\nsys.modules['sklearn'] = None\n"
        "import numba_stn\nfrom numba_stn import *\n"
        "try:\n    numba_stn.STNClassifier\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert "need scikit-learn" in done.stdout
    assert 'pip install "numba_stn[train]"' in done.stdout
