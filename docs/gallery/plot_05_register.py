"""
Align two photographs
=====================

This page aligns two pictures of the same place, taken with a rotated camera and another exposure.
``register`` finds the map from one to the other, and reports whether they match at all.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import numba_stn as stn

photo = load_sample_image("china.jpg").mean(2)
fixed = photo[60:360, 120:520]
tilted = stn.rotate(photo, 9, center=(320, 210), zoom=1.06)[75:375, 105:505]
noise = np.random.default_rng(0).normal(0, 4, tilted.shape)
moving = 0.7 * tilted + 50 + noise

# %%
# "similarity" allows a rotation, one scale and a translation. ``register`` also estimates the gain
# and the bias between the images.
found = stn.register(moving, fixed, "similarity")
report = found.report
angle = np.rad2deg(np.arctan2(found.matrix[1, 0], found.matrix[0, 0]))
print(f"match: {report.converged}; rotated by {abs(angle):.2f} degrees; "
      f"gain {report.gain:.2f}, bias {report.bias:.0f}")


# %%
# Squares of the two images alternate: where the images match, lines continue across the edges.
def chequered(one, other, side=50):
    """Combine two images in a chequerboard pattern."""
    rows, columns = np.indices(one.shape) // side
    return np.where((rows + columns) % 2, one, other)


brighter = report.gain * found.aligned + report.bias
shown = {
    "fixed": fixed,
    "moving": moving,
    "both, before": chequered(moving, fixed),
    "both, registered": chequered(brighter, fixed),
}
figure, axes = plt.subplots(2, 2, figsize=(8.4, 6.4), layout="constrained")
for axis, (title, image) in zip(axes.flat, shown.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.set_title(title)
    axis.axis("off")

# %%
# Another photograph does not match, and the report says so.
flower = load_sample_image("flower.jpg").mean(2)[60:360, 120:520]
print(stn.register(flower, fixed, "similarity").report.reason)
