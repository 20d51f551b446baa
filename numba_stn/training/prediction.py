"""Prediction: a trained network on a user's own images."""

import numpy as np

from .. import data
from ..nn.base import Layer
from ..nn.train import Learner
from ..ops.warps import warp_affine
from .experiment import Config, network

# Luma weights of red, green and blue in image files (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def network_input(config: Config, image: np.ndarray, invert: bool = False) -> np.ndarray:
    """Convert an image to an input of a run's network: grey, of the network's size.

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
    if (digits := data.TASKS[config.task].digits) > 1:
        raise ValueError(f"this network takes {digits} digits at once, not single images")
    _, (_, side, _) = network(config)
    if not np.isfinite(image).all():
        raise ValueError("expected finite numbers, got NaN or infinity")
    scale = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    grey = image.astype(np.float32) / np.float32(scale)
    channels = grey.shape[2] if grey.ndim == 3 else 1
    if channels >= 3:
        grey = grey[:, :, :3] @ _LUMA
    elif grey.ndim == 3:
        grey = grey[:, :, 0]
    if invert:
        grey = 1 - grey
    identity = np.eye(2, 3, dtype=np.float32)[None]
    images = np.ascontiguousarray(grey)[None, None]
    return warp_affine(images, identity, (side, side), padding_mode="border", antialias=True)


def probabilities(net: Layer, learner: Learner, images: np.ndarray) -> np.ndarray:
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
