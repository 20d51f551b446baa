"""Inputs that the suites share, drawn from one seed."""

import numpy as np

SHAPES = ["1x1x1024x1024", "256x1x42x42", "64x32x28x28"]


def problem(shape):
    """Images, mild affine maps, and a gradient of the samples."""
    rng = np.random.default_rng(0)
    batch, channels, height, width = map(int, shape.split("x"))
    images = rng.standard_normal((batch, channels, height, width)).astype(np.float32)
    theta = np.eye(2, 3) + 0.2 * rng.standard_normal((batch, 2, 3))
    return images, theta.astype(np.float32), rng.standard_normal(images.shape).astype(np.float32)
