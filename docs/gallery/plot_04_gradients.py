"""
Gradients as images
===================

A loss compares what a warp made with what it should look like. Its derivatives have the shapes of
what they are the derivatives of, so they can be looked at: that of the samples, of the image, and
of each place that was read.
"""

import numpy as np
from matplotlib import pyplot as plt

import numba_stn as stn

split = stn.data.digits().train
three = split.images[split.labels == 3][:1].astype(float)
theta = stn.transforms.similarity.theta(np.array([[0.25, 0.9, 0.12, 0.05]]))
grid = stn.affine_grid(theta, (48, 48))
samples = stn.grid_sample(three, grid)
target = stn.warp_affine(three, np.eye(2, 3)[None], (48, 48))

# %%
# The loss is the squared difference; the rest is one call.
dsamples = 2 * (samples - target)
dimages, dgrid = stn.grid_sample_vjp(dsamples, three, grid)
dtheta = stn.affine_grid_vjp(dgrid)

# %%
# Red is "the loss grows with this", blue "it falls". The samples' gradient is spread back over the
# pixels that were read; the places' gradients are large at the digit's edges, where a small move
# changes what is read. Theta's six numbers are the sums of these, each place weighted by where it
# stands.
figure, axes = plt.subplots(1, 6, figsize=(11, 2.4), layout="constrained")
axes[0].imshow(samples[0, 0])
axes[0].set_title("samples")
shown = {
    "dsamples": dsamples[0, 0],
    "dimages": dimages[0, 0],
    "dgrid, x": dgrid[0, ..., 0],
    "dgrid, y": dgrid[0, ..., 1],
    "dtheta": dtheta[0],
}
for axis, (title, gradient) in zip(axes[1:], shown.items(), strict=True):
    most = np.abs(gradient).max()
    axis.imshow(gradient, cmap="RdBu_r", vmin=-most, vmax=most)
    axis.set_title(f"{title}\n{' x '.join(map(str, gradient.shape))}")
for (i, j), value in np.ndenumerate(dtheta[0]):
    axes[5].text(j, i, f"{value:.0f}", ha="center", va="center")
for axis in axes:
    axis.set(xticks=[], yticks=[])
