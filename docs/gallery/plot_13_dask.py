"""
More images than memory: Dask
=============================

This page stabilises a "film" of 240 frames against a shaking camera, one chunk of frames at a time.
Every warp takes Dask arrays that are chunked along N. Nothing is computed until you ask for it. A
task runs its kernels on one thread, so that Dask's workers share the cores among themselves.
"""

import dask.array as da
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import numba_stn as stn

FRAMES = 240
rng = np.random.default_rng(0)
photo = stn.resize(load_sample_image("china.jpg").mean(2).astype(np.float32), (214, 320))

# %%
# The camera's path shifts and rotates each frame a little. All frames are warps of one photograph.
shaking = np.cumsum(rng.normal(0, [0.012, 0.006, 0.012], (FRAMES, 3)), axis=0)
theta = stn.transforms.rigid.theta(shaking)
film = stn.warp_affine(photo[None, None], da.from_array(theta, chunks=(24, 2, 3)))
print(film)

# %%
# Still nothing is computed. The inverse maps stabilise the film; ``da.compute`` then computes the
# means and three single frames.
steady = stn.warp_affine(film, stn.invert_theta(theta), padding_mode="border")
shaken, still, frames = da.compute(film.mean(0), steady.mean(0), film[::80])

figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained")
titles = "one frame", "mean of all frames", "mean of all frames, stabilised"
for axis, title, image in zip(axes, titles, (frames[2, 0], shaken[0], still[0]), strict=True):
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.set_title(title)
    axis.axis("off")
