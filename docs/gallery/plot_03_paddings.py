"""
Every padding mode
==================

This page shows what the five values of ``padding_mode`` put outside the image. Above, a photograph
is zoomed out and rotated. Below, a corner of a 4 x 4 image is magnified, to show how the edges
differ: under "zeros" the image fades into the fill over one pixel, under "fill" it ends at its
edge.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import numba_stn as stn

photo = stn.resize(load_sample_image("china.jpg"), (214, 320)) / np.float32(255)
images = np.moveaxis(photo, 2, 0)[None]
zoomed_out = stn.transforms.similarity.theta(np.float32([[0.2, 2.2, 0.0, 0.0]]))

tiny = np.random.default_rng(5).random((1, 3, 4, 4), np.float32) * 0.7 + 0.3
corner = np.float32([[[0.7, 0, -0.9], [0, 0.7, -0.9]]])

BLUE = (0.1, 0.3, 0.5)
paddings = ("zeros", "border", "reflection", "wrap", "fill")
figure, rows = plt.subplots(2, 5, figsize=(10, 3.7), layout="constrained")
for name, above, below in zip(paddings, *rows, strict=True):
    samples = stn.warp_affine(images, zoomed_out, padding_mode=name, fill=BLUE)
    above.imshow(np.moveaxis(samples[0], 0, 2))
    above.set_title(name)
    samples = stn.warp_affine(tiny, corner, (160, 160), padding_mode=name, fill=BLUE)
    below.imshow(np.moveaxis(samples[0], 0, 2))
    edge = (-1 + 0.9) / 0.7  # the output position of the image's edge
    below.axhline((edge + 1) * 80, color="white", lw=0.8, ls=":")
    below.axvline((edge + 1) * 80, color="white", lw=0.8, ls=":")
for axis in rows.flat:
    axis.axis("off")

# %%
# ``coverage=True`` also returns how much of each sample comes from inside, for any padding mode.
_, covered = stn.warp_affine(images, zoomed_out, coverage=True)
print(f"{100 * covered.mean():.0f} % of the larger picture is inside the photograph")
