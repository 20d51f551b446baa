"""What a trained network does with its test images, as numbers: answers, frames, poses."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from ..nn.base import Layer
from ..nn.diagnostics import observe_transformers
from ..nn.train import Learner
from .frames import frames, outline

# Images that the network processes at a time, and the most whose poses are measured.
CHUNK, MOST_POSED = 256, 2000


class Poses(NamedTuple):
    """Where the first transformer looks in each of some images.

    Attributes
    ----------
    rotation : (N,) array
        Of the frame, in degrees, clockwise as seen in the picture.
    size : (N,) array
        Of the frame, as a share of the image's: the root of the ratio of the areas.
    shift : (N, 2) array
        Of the frame's middle, x and y, as a share of the image's sides.
    coverage : (N,) array
        Share of the frame that is inside the image.
    """

    rotation: np.ndarray
    size: np.ndarray
    shift: np.ndarray
    coverage: np.ndarray


class Review(NamedTuple):
    """A network's answers for test images.

    Attributes
    ----------
    labels : (N,) array
    probabilities : (N, classes) array
    poses : Poses or None
        Of at most 2,000 images; None without a transformer at the start of the network.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    poses: Poses | None

    @property
    def found(self) -> np.ndarray:
        """The most likely class of each image."""
        return self.probabilities.argmax(1)

    def confusion(self) -> np.ndarray:
        """Numbers of images (classes, classes): by their label, and by the network's answer."""
        classes = self.probabilities.shape[1]
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.labels, self.found), 1)
        return counts

    def worst(self, most: int) -> np.ndarray:
        """Indices of misclassified images, those first of whose wrong class it was most certain."""
        wrong = np.flatnonzero(self.found != self.labels)
        certain = self.probabilities[wrong, self.found[wrong]]
        return wrong[np.argsort(-certain, kind="stable")][:most]


def review(net: Layer, learner: Learner, test: Any) -> Review:
    """Apply a network to test images.

    Parameters
    ----------
    net : Layer
    learner : Learner
        Of NumPy arrays.
    test : numba_stn.data.Split or numba_stn.training.recipe.Examples
        With ``labels``, and ``take(indices)``.

    Returns
    -------
    Review
    """
    labels, answers, poses = np.asarray(test.labels), [], []
    for first in range(0, len(labels), CHUNK):
        images = test.take(np.arange(first, min(first + CHUNK, len(labels)))).images
        logits = net.apply(learner.params, images, learner.state)[0]
        answers.append(softmax(np.nan_to_num(logits.astype(np.float64)), axis=1))
        if first < MOST_POSED and (seen := frames(net, learner, images)):
            coverage = observe_transformers(net, learner, images)[0].covered.mean((1, 2))
            poses.append(pose_of(seen[0], images.shape[2:], coverage))
    joined = Poses(*map(np.concatenate, zip(*poses, strict=True))) if poses else None
    return Review(labels, np.concatenate(answers), joined)


def pose_of(polygons: np.ndarray, sides: Sequence[int], coverage: np.ndarray) -> Poses:
    """The poses of frames (N, P, 2), in normalised coordinates of images of sides (H, W).

    They are those of the affine map that is nearest to the frame's.
    """
    square = np.concatenate([outline(), np.ones((len(outline()), 1))], 1)
    maps = np.linalg.lstsq(square, np.moveaxis(polygons, 0, 1).reshape(len(square), -1))[0]
    theta = maps.reshape(3, len(polygons), 2).transpose(1, 2, 0)
    across = np.array([sides[1], sides[0]], float)
    linear = theta[:, :, :2] * across[:, None] / across
    rotation = np.arctan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])
    size = np.sqrt(np.abs(np.linalg.det(linear)))
    return Poses(np.degrees(rotation), size, theta[:, :, 2] / 2, coverage)
