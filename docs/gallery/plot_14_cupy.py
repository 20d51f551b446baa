"""
The same on a GPU: CuPy
=======================

This page runs a warp on a GPU. The arrays decide where the kernels run: CuPy's arrays stay on the
GPU, and so do the results. Nothing else in the code changes. Without a GPU this page says so and
continues with NumPy.
"""

import time

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import numba_stn as stn

try:
    import cupy as xp

    xp.cuda.runtime.getDeviceCount()
    print("on", xp.cuda.runtime.getDeviceProperties(0)["name"].decode())
    to_host, wait = xp.asnumpy, xp.cuda.Device().synchronize
except Exception as reason:
    print(f"skipped on the GPU, NumPy instead: {reason}")
    xp, to_host, wait = np, np.asarray, lambda: None

# %%
# One photograph, and sixteen maps that zoom in and rotate.
photo = np.moveaxis(load_sample_image("flower.jpg")[:, 100:527], 2, 0)[None] / np.float32(255)
t = np.linspace(0, 1, 16)[:, None]
theta = stn.transforms.similarity.theta(np.hstack([t, 1 / (1 + 3 * t), 0.1 * t, 0 * t]))
images, theta = xp.asarray(photo), xp.asarray(theta.astype(np.float32))

samples = stn.warp_affine(images, theta, (160, 160))  # the first call compiles the kernel
wait()
begin = time.perf_counter()
samples = stn.warp_affine(images, theta, (160, 160))
wait()
print(f"{type(samples).__module__}: {1e3 * (time.perf_counter() - begin):.1f} ms")

figure, axes = plt.subplots(2, 8, figsize=(10, 2.6), layout="constrained")
for axis, image in zip(axes.flat, to_host(samples), strict=True):
    axis.imshow(np.moveaxis(image, 0, 2).clip(0, 1))
    axis.axis("off")
