"""
Every transform
===============

This page shows one example of each transform: its parameters, and the warped image. A transform
computes theta from a few parameters, and maps gradients of theta back to gradients of the
parameters. Remember that theta says where to *sample*.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import numba_stn as stn

photo = stn.resize(load_sample_image("flower.jpg")[:, 100:527], (200, 200)) / np.float32(255)
squares = (np.indices((200, 200)) // 25).sum(0) % 2
images = np.moveaxis(photo * (0.75 + 0.25 * squares[..., None].astype(np.float32)), 2, 0)[None]

# %%
# The parameters of each transform. Those of a spline are the positions at which its 16 points are
# sampled: here, a little away from the points themselves.
nearby = stn.control_points(4) + np.random.default_rng(3).normal(0, 0.09, (16, 2))
parameters = {
    "translation": [0.3, -0.2],
    "scale": [0.5, 1.2],
    "rotation": [0.5],
    "shear": [0.4, 0.0],
    "attention": [0.6, 0.2, 0.1],
    "rigid": [0.5, 0.3, 0.0],
    "similarity": [-0.4, 0.7, 0.0, 0.1],
    "restricted_affine": [0.1, 0.0, 0.3, 0.3, 0.0, 0.8, 1.1],
    "affine": [0.9, -0.3, 0.1, 0.5, 0.8, 0.0],
    "projective": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.35, 0.25],
    "tps": nearby.ravel(),
}
WARPS = {"affine": stn.warp_affine, "projective": stn.warp_perspective, "tps": stn.warp_tps}

figure, axes = plt.subplots(3, 4, figsize=(9, 7.4), layout="constrained")
axes[0, 0].imshow(np.moveaxis(images[0], 0, 2))
axes[0, 0].set_title("the photograph")
for axis, (name, values) in zip(axes.flat[1:], parameters.items(), strict=True):
    transform = stn.transforms.by_name(name)
    theta = transform.theta(np.array([values]))
    samples = WARPS[transform.kind](images, theta)
    axis.imshow(np.moveaxis(samples[0], 0, 2).clip(0, 1))
    numbers = ", ".join(f"{value:g}" for value in values) if len(values) < 9 else "16 points"
    axis.set_title(f"{name}\n{numbers}", fontsize=8)
for axis in axes.flat:
    axis.axis("off")
