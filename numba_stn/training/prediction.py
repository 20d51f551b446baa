"""Prediction: a trained network on a user's own images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import data
from ..data.preparation import LUMA
from ..nn.base import Layer
from ..nn.train import Learner
from ..ops.warps import warp_affine
from .experiment import Config, network
from .image_runs import ImageConfig

# The share of an image's side that the larger side of a digit takes: scikit-learn's digits touch
# two sides, MNIST's are 20 of 28 pixels.
DIGIT_SHARE = {"digits": 1.0, "mnist": 20 / 28}

# A digit that takes less than this part of that share is enlarged to it.
LEAST_SHARE = 0.75

# Pixels brighter than this share of the brightest belong to the digit.
INK = 0.3

# A ground that is brighter than this, from black to white, is made black.
GREY = 0.1


class Prepared(NamedTuple):
    """An image as a network takes it.

    Attributes
    ----------
    planes : (1, C, H, W) array of float32
    locate : callable
        Takes points (P, 2), x and y in normalised coordinates of the planes, to pixels of the image
        as it was read, where integers are pixels' centres.
    notes : list of str
        What was done to the image that its owner should know.
    """

    planes: np.ndarray
    locate: Callable[[np.ndarray], np.ndarray]
    notes: list[str]


def prepare_image(
    config: Config | ImageConfig, image: np.ndarray, invert: bool = False
) -> Prepared:
    """Convert an image to an input of a run's network, exactly as training did.

    Images for a network of digits are checked besides: a transparent ground is filled, dark digits
    on a bright ground are inverted, and digits with a wide margin are enlarged.

    Parameters
    ----------
    config : Config or ImageConfig
        Of the run.
    image : (H, W) or (H, W, C) array
    invert : bool
        For a network of digits: the digits are dark on a bright ground.

    Raises
    ------
    ValueError, TypeError
        If the image cannot be converted.
    """
    if isinstance(config, ImageConfig):
        if invert:
            raise ValueError("--invert: only for networks of digits")
        preparation = config.preparation
        planes = config.standardisation(preparation(image)[None])
        sides = image.shape[:2]
        return Prepared(planes, lambda points: preparation.locate(points, sides), [])
    return _prepare_digit(config, image, invert)


# --- Digits ---------------------------------------------------------------------------------------


def network_input(config: Config, image: np.ndarray, invert: bool = False) -> np.ndarray:
    """Convert an image to an input of a network of digits: grey, of the network's size.

    Parameters
    ----------
    config : Config
        Of the run.
    image : (H, W) or (H, W, C) array
        Grey or colour, with or without alpha. Integers have the range of their type, floats 0 to 1.
    invert : bool
        For dark digits on a bright background.

    Returns
    -------
    (1, 1, side, side) array of float32

    Raises
    ------
    ValueError
        If the network takes several images at once, or the image has values that are not finite.
    """
    grey, _ = _grey(config, image)
    return _sampled(config, 1 - grey if invert else grey, np.eye(2, 3))


def _prepare_digit(config, image, invert):
    """An input of a network of digits, from an image of a digit on any ground."""
    grey, alpha = _grey(config, image)
    notes = []
    if alpha is not None and alpha.min() < alpha.max():
        visible = grey[alpha > 0.5]
        below = 0.0 if visible.size and visible.mean() > 0.5 else 1.0
        grey = grey * alpha + below * (1 - alpha)
        notes.append(f"the transparent ground is taken as {'white' if below else 'black'}")
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if not invert and np.median(rim) > (grey.min() + grey.max()) / 2:
        invert = True
        notes.append("dark on a bright ground, inverted")
    grey = 1 - grey if invert else grey
    ground, brightest = float(np.median(1 - rim if invert else rim)), float(grey.max())
    if GREY < ground < brightest:
        grey = np.clip((grey - ground) / (brightest - ground), 0, 1)
        notes.append("a grey ground, darkened")
    theta, wide = _digit_box(config, grey)
    if wide:
        notes.append("a wide margin, enlarged")
    planes = _sampled(config, grey, theta)
    height, width = grey.shape

    def locate(points):
        x, y = (points @ theta[:, :2].T + theta[:, 2]).T
        return np.stack([((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2], -1)

    return Prepared(planes, locate, notes)


def _grey(config, image):
    """The image (H, W) from 0 to 1, and its alpha, or None."""
    if (digits := data.TASKS[config.task].digits) > 1:
        raise ValueError(f"this network takes {digits} digits at once, not single images")
    if not np.isfinite(image).all():
        raise ValueError("expected finite numbers, got NaN or infinity")
    scale = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    numbers = image.astype(np.float32) / np.float32(scale)
    channels = numbers.shape[2] if numbers.ndim == 3 else 0
    alpha = numbers[:, :, -1] if channels in (2, 4) else None
    if channels >= 3:
        numbers = numbers[:, :, :3] @ LUMA
    elif channels:
        numbers = numbers[:, :, 0]
    return numbers, alpha


def _digit_box(config, grey):
    """Theta of what the network sees: all of the image, or less around a digit with a margin."""
    height, width = grey.shape
    ink = grey - np.median(grey)
    rows, columns = np.nonzero(ink > max(INK * float(ink.max()), 1e-6))
    whole = np.eye(2, 3)
    if not rows.size:
        return whole, False
    (top, bottom), (left, right) = ((where.min(), where.max() + 1) for where in (rows, columns))
    wanted = DIGIT_SHARE[config.dataset] / data.TASKS[config.task].canvas
    longer = max(bottom - top, right - left)
    if longer / max(height, width) >= LEAST_SHARE * wanted:
        return whole, False
    seen = longer / wanted  # pixels of the image along a side of the input
    x, y = (left + right) / width - 1, (top + bottom) / height - 1
    return np.array([[seen / width, 0, x], [0, seen / height, y]]), True


def _sampled(config, grey, theta):
    """The input of the network, by a map from it to the image."""
    _, (_, side, _) = network(config)
    images = np.ascontiguousarray(grey, np.float32)[None, None]
    theta = np.asarray(theta, np.float32)[None]
    return warp_affine(images, theta, (side, side), padding_mode="border", antialias=True)


# --- The network's answer -------------------------------------------------------------------------


def class_names(config: Config | ImageConfig) -> list[str]:
    """The names of a run's classes."""
    if isinstance(config, ImageConfig):
        return list(config.classes)
    return [str(number) for number in range(data.TASKS[config.task].classes)]


def probabilities(net: Layer, learner: Learner, images: Any) -> np.ndarray:
    """Softmax of the logits: the probability of each class, (N, classes).

    Raises
    ------
    ValueError
        If a logit is not finite, for instance because weights are too large for float32.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            logits = net.apply(learner.params, images, learner.state)[0].astype(np.float64)
        if not np.isfinite(logits).all():
            raise FloatingPointError("expected finite numbers")
    except FloatingPointError as error:  # also of a layer
        raise ValueError(f"the network's logits are NaN or infinite: {error}") from error
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
