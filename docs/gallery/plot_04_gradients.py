"""
Gradients as images
===================

This page shows the gradients of a warp as images. A loss compares the output of a warp with a
target. A derivative of the loss has the shape of the array it belongs to, so you can look at it:
the derivative of the samples, of the image, and of each sampling position.
"""

import numpy as np
from matplotlib import pyplot as plt

import numba_stn as stn

split = stn.data.digits().train
three = stn.warp_affine(split.images[split.labels == 3][:1], 1.5 * np.eye(2, 3)[None], (24, 24))
theta = stn.transforms.similarity.theta(np.array([[0.25, 0.9, 0.12, 0.05]]))
grid = stn.affine_grid(theta, (48, 48))
samples = stn.grid_sample(three, grid)
target = stn.warp_affine(three, np.eye(2, 3)[None], (48, 48))  # the upright digit

# %%
# The loss is the squared difference. One call gives the other gradients.
dsamples = 2 * (samples - target)
dimages, dgrid = stn.grid_sample_vjp(dsamples, three, grid)
dtheta = stn.affine_grid_vjp(dgrid)

# %%
# Red means that the loss grows with this value, blue that it falls. The gradient of the samples is
# distributed over the pixels that they read. The gradients of the sampling positions are large at
# the digit's edges, where a small move changes the sample. Theta's six numbers are the sums of
# these, each weighted by the coordinates of its output pixel.
figure, axes = plt.subplots(1, 7, figsize=(12, 2.2), layout="constrained")
for axis, title, image in zip(axes, ("samples", "target"), (samples, target), strict=False):
    axis.imshow(image[0, 0], cmap="gray")
    axis.set_title(title)
shown = {
    "dsamples": dsamples[0, 0],
    "dimages": dimages[0, 0],
    "dgrid, x": dgrid[0, ..., 0],
    "dgrid, y": dgrid[0, ..., 1],
    "dtheta": dtheta[0],
}
for axis, (title, gradient) in zip(axes[2:], shown.items(), strict=True):
    most = np.abs(gradient).max()
    axis.imshow(gradient, cmap="RdBu_r", vmin=-most, vmax=most)
    axis.set_title(f"{title}\n{' x '.join(map(str, gradient.shape))}")
for (i, j), value in np.ndenumerate(dtheta[0]):
    colour = "white" if abs(value) > 0.6 * np.abs(dtheta).max() else "black"
    axes[6].text(j, i, f"{value:.0f}", ha="center", va="center", color=colour)
for axis in axes:
    axis.set(xticks=[], yticks=[])
