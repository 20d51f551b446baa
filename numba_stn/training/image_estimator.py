"""What the estimators in scikit-learn's manner have in common: images in, training, and files.

They prepare arrays for :mod:`.recipe`, which trains.
"""

import contextlib
import copy
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError as error:  # numba_stn imports this module when an estimator is used
    raise ImportError(
        f'the estimators need scikit-learn 1.6 or newer ({error}); pip install "numba_stn[train]"'
    ) from error

from ..nn import adam, train
from ..nn.base import Layer
from ..nn.diagnostics import observe_transformers
from ..nn.tree import tree_map
from ..transforms.parametrisations import by_name
from . import estimator_files, networks, own_network, recipe
from .checkpoint import TrainingState
from .image_layouts import ImageLayout, find_layout
from .recipe import AUGMENTATIONS, Job, Recipe, Standardisation

# Images with a shorter side are not augmented by default: a shift of a pixel changes them too much.
LEAST_AUGMENTED = 8

# With fewer images than this none are held out for validation: too few to choose an epoch by.
LEAST_VALIDATED = 100

# The constant learning rate of partial_fit, as a share of the highest one of fit.
PARTIAL_RATE = 0.1


class ImageEstimator(TransformerMixin, BaseEstimator):
    """What :class:`STNClassifier` and :class:`STNRegressor` have in common."""

    # --- What a subclass defines ---

    # Whether images are augmented by default.
    _augments = False

    mean_: np.ndarray
    deviation_: np.ndarray
    history_: list[dict]

    def _check_targets(self, y, reset):
        """The targets for the network (N, ...), with what they say kept; ``y`` is an array."""
        raise NotImplementedError

    def _take_classes(self, classes, y, first):
        """Use the classes of :meth:`partial_fit`."""

    def _objective(self, targets):
        """The objective of training on these targets."""
        raise NotImplementedError

    @property
    def _outputs(self):
        """Number of the network's outputs."""
        raise NotImplementedError

    # --- Fitting ---

    def fit(self, X: Any, y: Any, groups: Any = None) -> Any:
        """Train on images; Ctrl-C ends the training, and keeps what was learned.

        Parameters
        ----------
        X : array
            Images (N, H, W), (N, H, W, C) or (N, C, H, W), of uint8 or any other real numbers, or
            flat rows (N, F); see ``image_shape`` and ``layout``.
        y : (N,) or (N, K) array
            See the class.
        groups : (N,) array, optional
            Images of the same group are never divided between training and validation.

        Returns
        -------
        self
        """
        return self._replaced_by("_fit", X, y, groups)

    def _replaced_by(self, method, *arguments):
        """Call a method of a copy, and become the copy unless it fails."""
        other = copy.copy(self)
        getattr(other, method)(*arguments)
        self.__dict__.update(other.__dict__)
        return self

    def _fit(self, X, y, groups):
        """:meth:`fit`, which may leave an unusable estimator."""
        warm = self.warm_start and hasattr(self, "weights_")
        images, targets = self._validated(X, y, not warm, not warm)
        seed = self._seed()
        job = self._job(images, targets, self._divided(targets, groups, seed), seed, warm)
        start = recipe.initial_state(job)
        if warm:
            slots = job.optimiser.init(self.weights_["params"])
            start = TrainingState(self._learner()._replace(optimiser_state=slots))
        self._train(job, start)

    def _partial_fit(self, X, y, classes=None):
        """Train for one epoch, with a constant learning rate."""
        first = not hasattr(self, "weights_")
        self._take_classes(classes, y, first)
        images, targets = self._validated(X, y, first, False)
        earlier = [] if first else self.history_
        everything = np.arange(len(images)), np.arange(0)
        job = self._job(images, targets, everything, self._seed() + len(earlier), not first, 1)
        rule = adam(job.recipe.rate * PARTIAL_RATE, weight_decay=job.recipe.weight_decay)
        job = job._replace(optimiser=replace(rule, factors=job.optimiser.factors))
        start = recipe.initial_state(job)
        if not first:
            slots = getattr(self, "_optimiser_state", None)
            slots = job.optimiser.init(self.weights_["params"]) if slots is None else slots
            start = TrainingState(self._learner()._replace(optimiser_state=slots))
        self._train(job, start)
        self.history_ = earlier + [entry | {"epoch": len(earlier) + 1} for entry in self.history_]
        self.n_iter_ = self.best_iteration_ = len(self.history_)

    def _seed(self):
        """The seed of a training."""
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _validated(self, X, y, reset, reset_targets):
        """Images (N, H, W, C) and targets, checked; with ``reset`` they define the shapes."""
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                f"is None."
            )
        images = self._images(X, reset)
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y", allow_nd=True)
        if len(y) != len(images):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: expected one y for "
                f"each of {len(images)} images, got {len(y)}"
            )
        return images, self._check_targets(y, reset_targets)

    def _images(self, X, reset):
        """Images (N, H, W, C), checked."""
        x = check_array(X, dtype="numeric", ensure_2d=False, allow_nd=True, input_name="X")
        if x.ndim < 3:  # flat rows, and what scikit-learn's own message explains
            x = validate_data(self, X, reset=reset, dtype="numeric")
        if x.dtype.kind == "b":
            x = x.view(np.uint8)
        if reset:
            layout = find_layout(x, self.image_shape, self.layout)
            self.image_shape_, self._form = layout.shape, layout.form
            self._integers = x.dtype.kind in "iu"
            if x.ndim > 2:
                self.n_features_in_ = int(np.prod(layout.shape))
                self.__dict__.pop("feature_names_in_", None)
        elif self._integers and x.dtype.kind == "f" and x.max() <= 1 < self.mean_.max():
            warnings.warn(
                f"X: floats of at most {x.max():g}, but the images of fit were integers with a "
                f"mean of {self.mean_.max():g}; give images of the same range", stacklevel=4,
            )  # fmt: skip
        return self._layout.images(x)

    @property
    def _layout(self):
        """The form in which images are given."""
        height, width, channels = self.image_shape_
        return ImageLayout((height, width, channels), self._form)

    def _divided(self, targets, groups, seed):
        """Indices of the images to train on and of those to choose the best epoch by."""
        from ..data.splitting import TEST, TRAIN, split_groups

        count, share = len(targets), self.validation_fraction
        if not 0 <= share < 1:
            raise ValueError(
                f"validation_fraction: expected a number from 0 to less than 1, got {share!r}"
            )
        if not self.early_stopping or count < LEAST_VALIDATED or not share:
            return np.arange(count), np.arange(0)
        labels = targets if targets.dtype.kind in "iu" and targets.ndim == 1 else np.zeros(count)
        own = range(count) if groups is None else np.asarray(groups).tolist()
        if len(own) != count:
            raise ValueError(f"groups: expected one for each of {count} images, got {len(own)}")
        part = split_groups(labels, own, (1 - share, 0.0, share), seed)  # into two parts
        return np.flatnonzero(part == TRAIN), np.flatnonzero(part == TEST)

    def _job(self, images, targets, parts, seed, warm, epochs=None):
        """The job of :mod:`.recipe`; a warm start keeps the network and the standardisation."""
        if not warm:
            self._description = self._describe()
            self._net = self._build()
        chosen, validation = parts
        job = recipe.make_job(
            self._recipe(images, seed, epochs), images, targets, chosen, validation,
            self._outputs, self._objective(targets[chosen]), self._network(),
        )  # fmt: skip
        if not warm:
            self.mean_, self.deviation_ = job.train.standardise
        standardise = Standardisation(self.mean_, self.deviation_)
        return job._replace(
            train=job.train._replace(standardise=standardise),
            validation=job.validation._replace(standardise=standardise),
        )

    def _recipe(self, images, seed, epochs) -> Recipe:
        """The recipe of the estimator's parameters."""
        options: dict[str, Any] = {**dict.fromkeys(AUGMENTATIONS, 0.0), "flip": False}
        if self.augment is None:
            if self._augments and min(images.shape[1:3]) >= LEAST_AUGMENTED:
                options = {name: getattr(Recipe(), name) for name in AUGMENTATIONS}
        elif self.augment:
            if not isinstance(self.augment, dict) or not self.augment.keys() <= set(AUGMENTATIONS):
                raise ValueError(
                    f"augment: expected None, False or a dictionary with some of "
                    f"{list(AUGMENTATIONS)}, got {self.augment!r}"
                )
            options |= self.augment
        with _named(batch="batch_size", rate="learning_rate"):
            return Recipe(
                epochs=self.epochs if epochs is None else epochs, batch=self.batch_size, seed=seed,
                rate=self.learning_rate, localisation_rate=self.localisation_rate,
                weight_decay=self.weight_decay, patience=self.patience, **options,
            )  # fmt: skip

    def _train(self, job: Job, state: TrainingState):
        """Train, and keep the best epoch's weights."""
        callbacks = self.callbacks or ()
        callbacks = [callbacks] if callable(callbacks) else list(callbacks)
        try:
            for latest in recipe.epochs(job, state):
                state = latest
                entry = state.history[-1]
                if self.verbose:
                    print(_in_words(entry, job.recipe.epochs))
                self._keep(job, state)
                answers = [callback(self, entry) for callback in callbacks]
                if any(answer is True for answer in answers):
                    break
        except KeyboardInterrupt:
            if not state.history:
                raise
            warnings.warn(f"training was interrupted after epoch {len(state.history)}, and what "
                          f"was learned is kept", stacklevel=5)  # fmt: skip

    def _keep(self, job, state):
        """Keep what was learned so far, with the best epoch's weights."""
        learner = recipe.best_learner(job, state)
        self.weights_ = {"params": learner.params, "state": learner.state}
        self._optimiser_state = state.learner.optimiser_state
        self.history_ = list(state.history)
        self.n_iter_, self.best_iteration_ = len(self.history_), recipe.best_epoch(state.history)

    # --- The network ---

    def _describe(self):
        """What the network is built from: transformation, network of one's own, and rounds."""
        return self.transformation, self.net, self.rounds

    def _build(self) -> Layer:
        """The network of the description."""
        transformation, net, rounds = self._description
        height, width, channels = self.image_shape_
        shape = channels, height, width
        if net is not None:
            if isinstance(net, Layer):
                return own_network.build(lambda *_: net, shape, self._outputs)
            builder = own_network.load_builder(net) if isinstance(net, str) else net
            if not callable(builder):
                raise TypeError(
                    f"net: expected a function (shape, outputs) -> layer, FILE.py:FUNCTION, or a "
                    f"layer, got {type(net).__name__}"
                )
            return own_network.build(builder, shape, self._outputs)
        if transformation is None:
            if rounds != 1:
                raise ValueError(f"rounds: expected 1 without a transformation, got {rounds!r}")
            return networks.build("cnn", shape, self._outputs)
        with _named(transform="transformation"):
            transform = by_name(transformation)
        if transform.kind == "affine 3-D":
            raise ValueError(f"transformation: expected one of images, got {transform}")
        return networks.build("st-cnn", shape, self._outputs, transform, rounds)

    @property
    def network_(self) -> Layer:
        """The fitted network, a layer, for instance to export it with ``weights_``."""
        check_is_fitted(self, "weights_")
        return self._network()

    def _network(self) -> Layer:
        """The fitted network; it is built again in another process."""
        found = self.__dict__.get("_net")
        return self._build() if found is None else found

    def _learner(self):
        return train.Learner(self.weights_["params"], self.weights_["state"], None)

    def _to_predict(self):
        """The learner whose matrix products are in float64.

        Their sums have an order that depends on the number of images, which is seen in the last
        digits of float32. So an image's result does not depend on those that it comes with.
        """
        state = self.weights_["state"]
        return train.Learner(_with_double_matrices(self.weights_["params"]), state, None)

    def _examples(self, X):
        """The images, and how they are standardised."""
        images = self._images(X, reset=False)
        index, standardise = np.arange(len(images)), Standardisation(self.mean_, self.deviation_)
        return recipe.Examples(images, index, index, standardise)

    def _raw_outputs(self, X):
        """The network's outputs, (N, outputs), as float64."""
        check_is_fitted(self, "weights_")
        examples = self._examples(X)
        found = recipe.outputs_of(self._network(), self._to_predict(), examples)
        return found.astype(np.float64)

    def _observed(self, X):
        """What the first transformer does with each image: for parts of the images."""
        check_is_fitted(self, "weights_")
        examples, net, learner = self._examples(X), self._network(), self._to_predict()
        for first in range(0, len(examples.chosen), recipe.CHUNK):
            index = np.arange(first, min(first + recipe.CHUNK, len(examples.chosen)))
            found = observe_transformers(net, learner, examples.take(index).images)
            if not found:
                raise ValueError("the network has no transformer: transformation is None")
            yield found[0]

    # --- What the transformer does ---

    def transform(self, X: Any) -> np.ndarray:
        """The images as the network's first transformer sees them: aligned.

        Parameters
        ----------
        X : array
            As in :meth:`fit`.

        Returns
        -------
        array
            Of X's form, range and dtype; of float32 if X has no floats.
        """
        observed = [seen.after for seen in self._observed(X)]
        mean, deviation = (part[:, None, None] for part in (self.mean_, self.deviation_))
        aligned = self._layout.given_form(np.concatenate(observed) * deviation + mean)
        dtype = getattr(X, "dtype", None)
        is_double = isinstance(dtype, np.dtype) and dtype == np.float64
        return np.ascontiguousarray(aligned, np.float64 if is_double else np.float32)

    def theta(self, X: Any) -> np.ndarray:
        """The maps that the network's first transformer predicts for the images.

        Parameters
        ----------
        X : array
            As in :meth:`fit`.

        Returns
        -------
        (N, 2, 3) array, or another shape; see :mod:`numba_stn.transforms`
            From normalised coordinates of the aligned image to those of the given one.
        """
        return np.concatenate([seen.theta for seen in self._observed(X)])

    # --- Files ---

    def save(self, path: Any) -> None:
        """Save the fitted estimator in a safetensors file, which holds no code.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        check_is_fitted(self, "weights_")
        estimator_files.save(self, path)

    @classmethod
    def load(cls, path: Any, **parameters: Any) -> Any:
        """Load an estimator that :meth:`save` wrote; it gives the same bits.

        Parameters
        ----------
        path : str or path-like
        **parameters
            Those that the file does not hold, because they are code: ``net`` if there was one,
            ``transformation`` if it was one of your own. Loading a file runs no other one.

        Returns
        -------
        STNClassifier or STNRegressor

        Raises
        ------
        ValueError
            If the file is damaged, is of another estimator, or lacks a parameter that is code.
        """
        return estimator_files.load(cls, path, parameters)

    def __getstate__(self):
        state = dict(super().__getstate__())
        state.pop("_net", None)  # transforms are functions, which pickle may refuse
        return state


@contextlib.contextmanager
def _named(**names):
    """Context in which an error about one of the arguments is about the estimator's parameter."""
    try:
        yield
    except ValueError as error:
        name, colon, message = str(error).partition(":")
        raise ValueError(f"{names.get(name, name)}{colon}{message}") from error


def _with_double_matrices(tree):
    """Parameters whose matrices, those of linear layers, are of float64."""
    return tree_map(lambda array: array.astype(np.float64) if array.ndim == 2 else array, tree)


def _in_words(entry, epochs):
    """An epoch's line for ``verbose``."""
    numbers = [f"{name.replace('_', ' ')} {entry[name]:.4g}" for name in entry
               if name not in ("epoch", "coverage")]  # fmt: skip
    return f"epoch {entry['epoch']} of {epochs}: {', '.join(numbers)}"
