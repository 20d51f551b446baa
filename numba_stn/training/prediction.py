"""A trained network on images from elsewhere."""

import numpy as np

from .. import data
from ..nn.layer import Layer
from ..nn.train import Learner
from ..ops.warps import warp_affine
from .experiment import Config, network

# Luma of colours as files have them (ITU-R BT.601).
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def seen_by(config: Config, image: np.ndarray, invert: bool = False) -> np.ndarray:
    """An image as the network of a run wants it.

    Parameters
    ----------
    config : Config
        Of the run.
    image : (H, W) or (H, W, C) array
        Grey, with alpha or not, or colours. Whole numbers span their type, floats 0 to 1.
    invert : bool
        For dark digits on a bright ground.

    Returns
    -------
    (1, 1, side, side) array of float32

    Raises
    ------
    ValueError
        If the network reads several images at once, or the image has numbers that are not finite.
    """
    if (digits := data.TASKS[config.task].digits) > 1:
        raise ValueError(f"this network reads {digits} digits at once, not single images")
    _, (_, side, _) = network(config)
    if not np.isfinite(image).all():
        raise ValueError("expected finite numbers, got some that are not")
    scale = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    bright = image.astype(np.float32) / np.float32(scale)
    channels = bright.shape[2] if bright.ndim == 3 else 1
    if channels >= 3:
        bright = bright[:, :, :3] @ _GREY
    elif bright.ndim == 3:
        bright = bright[:, :, 0]
    if invert:
        bright = 1 - bright
    identity = np.eye(2, 3, dtype=np.float32)[None]
    whole = np.ascontiguousarray(bright)[None, None]
    return warp_affine(whole, identity, (side, side), padding_mode="border", antialias=True)


def probabilities(net: Layer, learner: Learner, images: np.ndarray) -> np.ndarray:
    """Softmax of the logits: (N, classes), each row's sum is 1."""
    logits = net.apply(learner.params, images, learner.state)[0].astype(np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
