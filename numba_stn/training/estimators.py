"""Networks with a spatial transformer as estimators in scikit-learn's manner."""

from functools import partial
from typing import Any

import numpy as np

from .image_estimator import ImageEstimator  # before scikit-learn: it says how to install it

from sklearn.base import ClassifierMixin, RegressorMixin  # isort: skip
from sklearn.utils.multiclass import check_classification_targets, type_of_target  # isort: skip
from sklearn.utils.validation import check_array, column_or_1d  # isort: skip

from ..nn.activations import logistic
from ..nn.checks import check_positive
from ..nn.losses import binary_cross_entropy, huber, mean_squared_error, softmax_cross_entropy
from . import recipe
from .recipe import Objective


class STNClassifier(ClassifierMixin, ImageEstimator):
    """Classifier of images with a spatial transformer, in the manner of scikit-learn.

    A convolutional network that looks at each image through a spatial transformer (Jaderberg et al.
    2015), trained as ``numba-stn train DATA`` does: standardised by the training images, augmented
    by small warps, with the best epoch kept. Needs scikit-learn (``pip install numba_stn[train]``).

    Parameters
    ----------
    transformation : str, Transform or None
        Of the transformer, see :mod:`numba_stn.transforms`; None for a network without one.
    net : callable, str or Layer, optional
        A network of one's own: a function ``(shape (C, H, W), outputs) -> layer``, its name as
        ``"file.py:function"``, or a layer.
    rounds : int
        Number of rounds in which the transformer predicts its map, see
        :func:`numba_stn.nn.spatial_transformer`.
    image_shape : (H, W) or (H, W, C), optional
        Of flat rows. By default a row is a square image if its length is a square number, and else
        an image of one row.
    layout : {"auto", "NHWC", "NCHW"}
        Of images with 4 dimensions. Automatically, channels are the last axis if it has at most 4
        elements, and else the second one.
    epochs, batch_size : int, optional
        By default chosen by the number of images.
    learning_rate : float
        Highest learning rate of the one-cycle schedule.
    localisation_rate : float
        Factor of the learning rate for the transformer's localisation.
    weight_decay, label_smoothing : float
        As in :func:`numba_stn.nn.adam` and :func:`numba_stn.nn.softmax_cross_entropy`.
    class_weight : "auto", "balanced", None or dict
        Weights of the classes in the loss: "balanced" is inversely proportional to their numbers of
        images, a dictionary has a positive number for each class, and "auto" is "balanced" if the
        largest class has more than 10 times the images of the smallest one.
    augment : dict, False or None
        Options of :func:`numba_stn.augment` for the training images, and ``light``, the change of
        contrast and brightness. By default rotations by up to 15 degrees and the like, for images
        of at least 8 pixels a side.
    early_stopping : bool
        Whether the best epoch is chosen by images that are held out for validation. It takes 100
        images; otherwise the last epoch is kept.
    validation_fraction : float
        Share of these images.
    patience : int, optional
        Number of epochs without improvement after which training ends; by default it does not.
    warm_start : bool
        Whether :meth:`fit` goes on from the weights of the last call.
    verbose : bool
        Whether each epoch prints a line.
    random_state : int, RandomState or None
        With the same int, the same arrays give the same bits.
    callbacks : callable or list of callables, optional
        Called after each epoch as ``callback(estimator, entry)``, where ``entry`` is the epoch's in
        ``history_``; training ends if one returns True.

    Attributes
    ----------
    classes_ : array
        The labels; with several labels per image, their numbers.
    image_shape_ : (H, W, C)
    n_features_in_ : int
        Numbers of an image.
    mean_, deviation_ : (C,) arrays
        The standardisation.
    weights_ : dict
        The network's ``"params"`` and ``"state"``, as :func:`numba_stn.nn.save` takes them.
    network_ : Layer
        The network.
    history_ : list of dict
        Losses and errors in percent of each epoch.
    n_iter_, best_iteration_ : int
        Number of epochs, and the one that was kept.

    Notes
    -----
    ``y`` has the labels (N,), of any type. If it is (N, K), of zeros and ones, each image has any
    number of K labels: the loss is then binary cross-entropy, and :meth:`predict_proba` gives the
    probability of each label.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> rng = np.random.default_rng(0)
    >>> images = rng.random((40, 12, 12))
    >>> images[::2, :6] += 2
    >>> labels = np.where(np.arange(40) % 2, "low", "high")
    >>> classifier = stn.STNClassifier("translation", epochs=5, random_state=0)
    >>> classifier.fit(images, labels).predict(images[:2])
    array(['high', 'low'], dtype='<U4')
    """

    _augments = True

    def __init__(
        self,
        transformation="affine",
        *,
        net=None,
        rounds=1,
        image_shape=None,
        layout="auto",
        epochs=None,
        batch_size=None,
        learning_rate=0.01,
        localisation_rate=0.1,
        weight_decay=0.02,
        label_smoothing=0.1,
        class_weight="auto",
        augment=None,
        early_stopping=True,
        validation_fraction=0.15,
        patience=None,
        warm_start=False,
        verbose=False,
        random_state=None,
        callbacks=None,
    ):
        self.transformation = transformation
        self.net = net
        self.rounds = rounds
        self.image_shape = image_shape
        self.layout = layout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.localisation_rate = localisation_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state
        self.callbacks = callbacks

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
        """Train for one epoch on a part of the images, and keep what was learned before.

        The first call fixes the shape of the images and their standardisation. The learning rate is
        constant, a tenth of ``learning_rate``.

        Parameters
        ----------
        X, y : arrays
            As in :meth:`fit`.
        classes : array
            All classes that will occur; wanted in the first call.

        Returns
        -------
        self
        """
        return self._replaced_by("_partial_fit", X, y, classes)

    def _take_classes(self, classes, y, first):
        if first:
            if classes is None:
                raise ValueError("classes: expected all classes in the first call of partial_fit")
            self.classes_ = np.unique(column_or_1d(np.asarray(classes)))
            self._several = type_of_target(y) == "multilabel-indicator"
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(
                f"classes: expected those of the first call, {self.classes_.tolist()}, got "
                f"{np.unique(classes).tolist()}"
            )

    def _check_targets(self, y, reset):
        check_classification_targets(y)
        several = type_of_target(y) == "multilabel-indicator"
        if not several:
            y = column_or_1d(y, warn=True)
        if reset:
            self._several = several
            self.classes_ = np.arange(y.shape[1]) if several else np.unique(y)
            if len(self.classes_) < 2 and not several:
                raise ValueError(
                    f"y: expected at least two classes, got one class, "
                    f"{self.classes_.tolist()[0]!r}"
                )
        if several != self._several:
            raise ValueError("y: expected labels of the form of the first fit, got another one")
        if several:
            if y.shape[1] != len(self.classes_):
                raise ValueError(f"y: expected {len(self.classes_)} labels, got {y.shape[1]}")
            return y.astype(np.float32)
        place = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        unknown = self.classes_[place] != y
        if unknown.any():
            raise ValueError(
                f"y: expected classes of {self.classes_.tolist()}, got {y[unknown].tolist()[0]!r}"
            )
        return place.astype(np.int64)

    def _objective(self, targets):
        if self._several:
            return Objective(binary_cross_entropy, _wrong_rows)
        weights = self._weights(np.bincount(targets, minlength=len(self.classes_)))
        loss = partial(softmax_cross_entropy, label_smoothing=self.label_smoothing,
                       class_weights=weights)  # fmt: skip
        return Objective(loss, recipe.wrong_labels)

    def _weights(self, counts):
        """The classes' weights, or None."""
        found = self.class_weight
        if found == "auto":
            found = "balanced" if counts.max() > recipe.UNEVEN * max(counts.min(), 1) else None
        if found is None:
            return None
        if isinstance(found, str) and found == "balanced":
            return counts.sum() / (len(counts) * np.maximum(counts, 1))
        if not isinstance(found, dict):
            raise ValueError(
                f'class_weight: expected "auto", "balanced", None or a dictionary, got {found!r}'
            )
        if unknown := [key for key in found if key not in self.classes_]:
            raise ValueError(
                f"class_weight: expected classes of {self.classes_.tolist()}, got {unknown[0]!r}"
            )
        weights = [found.get(key, 1.0) for key in self.classes_.tolist()]
        for weight in weights:
            check_positive("class_weight", weight=weight)
        return np.array(weights, np.float64)

    @property
    def _outputs(self):
        return len(self.classes_)

    def predict(self, X: Any) -> np.ndarray:
        """The most likely class of each image, or its labels, (N, K), if it may have several.

        Parameters
        ----------
        X : array
            As in :meth:`fit`.

        Returns
        -------
        (N,) or (N, K) array
        """
        outputs = self._raw_outputs(X)
        return (outputs > 0).astype(int) if self._several else self.classes_[outputs.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, or of each label.

        Parameters
        ----------
        X : array
            As in :meth:`fit`.

        Returns
        -------
        (N, classes) array of float64
        """
        outputs = self._raw_outputs(X)
        if self._several:
            return logistic(outputs)
        powers = np.exp(outputs - outputs.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)


class STNRegressor(RegressorMixin, ImageEstimator):
    """Regression from images with a spatial transformer, in the manner of scikit-learn.

    The network of :class:`STNClassifier`, trained to predict numbers. The targets are standardised
    for training. Images are not augmented by default, because a rotated image may have another
    target. Needs scikit-learn (``pip install numba_stn[train]``).

    Parameters
    ----------
    transformation, net, rounds, image_shape, layout, epochs, batch_size
        As in :class:`STNClassifier`.
    learning_rate, localisation_rate, weight_decay
        As in :class:`STNClassifier`.
    loss : {"squared_error", "huber"}
        The latter is less sensitive to outliers; see :func:`numba_stn.nn.huber`.
    augment : dict, False or None
        Options of :func:`numba_stn.augment`; by default there is none.
    early_stopping, validation_fraction, patience, warm_start, verbose, random_state, callbacks
        As in :class:`STNClassifier`.

    Attributes
    ----------
    image_shape_, n_features_in_, mean_, deviation_, weights_, network_, n_iter_, best_iteration_
        As in :class:`STNClassifier`.
    target_mean_, target_deviation_ : arrays
        The standardisation of the targets.
    history_ : list of dict
        Losses and errors of each epoch; the error is the mean squared error of standardised
        targets.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> grey = np.linspace(0, 1, 40)
    >>> images = np.tile(grey[:, None, None], (1, 9, 9))
    >>> regressor = stn.STNRegressor(None, epochs=20, random_state=0).fit(images, 100 * grey)
    >>> bool(regressor.score(images, 100 * grey) > 0.8)
    True
    """

    def __init__(
        self,
        transformation="affine",
        *,
        net=None,
        rounds=1,
        image_shape=None,
        layout="auto",
        epochs=None,
        batch_size=None,
        learning_rate=0.01,
        localisation_rate=0.1,
        weight_decay=0.02,
        loss="squared_error",
        augment=None,
        early_stopping=True,
        validation_fraction=0.15,
        patience=None,
        warm_start=False,
        verbose=False,
        random_state=None,
        callbacks=None,
    ):
        self.transformation = transformation
        self.net = net
        self.rounds = rounds
        self.image_shape = image_shape
        self.layout = layout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.localisation_rate = localisation_rate
        self.weight_decay = weight_decay
        self.loss = loss
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state
        self.callbacks = callbacks

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def partial_fit(self, X: Any, y: Any) -> Any:
        """Train for one epoch on a part of the images, and keep what was learned before.

        The first call fixes the shape of the images, and the standardisation of images and targets.
        The learning rate is constant, a tenth of ``learning_rate``.

        Parameters
        ----------
        X, y : arrays
            As in :meth:`fit`.

        Returns
        -------
        self
        """
        return self._replaced_by("_partial_fit", X, y)

    def _check_targets(self, y, reset):
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if reset or not hasattr(self, "target_mean_"):
            self.target_mean_, self.target_deviation_ = y.mean(0), y.std(0)
            self.target_deviation_ = np.where(self.target_deviation_ > 0, self.target_deviation_, 1)
        if y.shape[1:] != self.target_mean_.shape:
            raise ValueError(
                f"y: expected shape {('N', *self.target_mean_.shape)}, as in the first fit, got "
                f"{y.shape}"
            )
        standardised = (y - self.target_mean_) / self.target_deviation_
        return standardised.reshape(len(y), -1).astype(np.float32)

    def _objective(self, targets):
        losses = {"squared_error": mean_squared_error, "huber": huber}
        if self.loss not in losses:
            raise ValueError(f"loss: expected one of {list(losses)}, got {self.loss!r}")
        return Objective(losses[self.loss], _squared_errors, 1.0)

    @property
    def _outputs(self):
        return int(self.target_mean_.size)

    def predict(self, X: Any) -> np.ndarray:
        """The predicted numbers of each image.

        Parameters
        ----------
        X : array
            As in :meth:`fit`.

        Returns
        -------
        (N,) or (N, K) array of float64
            Of the form of the targets.
        """
        outputs = self._raw_outputs(X)
        outputs = outputs.reshape(len(outputs), *self.target_mean_.shape)
        return outputs * self.target_deviation_ + self.target_mean_


# --- Helpers --------------------------------------------------------------------------------------


def _wrong_rows(outputs, targets):
    """Number of images of which a label is wrong."""
    return int(np.count_nonzero(((outputs > 0) != (targets > 0.5)).any(1)))


def _squared_errors(outputs, targets):
    """Sum over images of the mean squared error."""
    return float(((outputs - targets) ** 2).mean(1).sum())
