"""
Inside your own @njit loop
==========================

This page uses the sampler inside a loop that you compile yourself. ``stn.inline.sampler()`` is a
function of one point, callable from ``@njit`` code. Here each pixel follows a vector field and
averages the noise along its path ("line integral convolution"). One grid could not express this,
and no array of sampling positions is ever in memory.
"""

import math

import numpy as np
from matplotlib import pyplot as plt
from numba import njit, prange

from numba_stn import inline

SIDE, STEPS = 320, 18
read = inline.sampler("bilinear", "wrap")


@njit
def flow(x, y):
    """Return the direction of a flow with three vortices, a vector of length 1."""
    u, v = 0.0, 0.0
    for cx, cy, spin in ((0.3, 0.35, 1.0), (0.72, 0.4, -1.0), (0.5, 0.78, 1.0)):
        dx, dy = x / SIDE - cx, y / SIDE - cy
        strength = spin * math.exp(-18 * (dx * dx + dy * dy))
        u, v = u - strength * dy, v + strength * dx
    length = math.hypot(u, v) + 1e-12
    return u / length, v / length


@njit(parallel=True)
def drawn(noise):
    """Average the noise along each pixel's path, forward and backward."""
    out = np.empty((SIDE, SIDE))
    for i in prange(SIDE):
        for j in range(SIDE):
            total = 0.0
            for direction in (-1.0, 1.0):
                x, y = float(j), float(i)
                for _ in range(STEPS):
                    u, v = flow(x, y)
                    x, y = x + direction * u, y + direction * v
                    total += read(noise, x, y, 0.0)
            out[i, j] = total / (2 * STEPS)
    return out


noise = np.random.default_rng(0).random((SIDE, SIDE))
figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
axes[0].imshow(noise[:80, :80], cmap="gray")
axes[0].set_title("a corner of the noise")
axes[1].imshow(drawn(noise), cmap="bone")
axes[1].set_title("averaged along the flow")
for axis in axes:
    axis.axis("off")
