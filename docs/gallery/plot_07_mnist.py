"""
Distorted MNIST
===============

This page shows the paper's distortions, and trains a network on digits that are rotated, scaled and
placed anywhere (RTS). It sees 6,000 digits of MNIST three times: enough to see the transformer at
work, far from what it can reach (see :doc:`../results`). ``NUMBA_STN_DATA`` names a folder that
contains MNIST's files under ``mnist/``; without it, the page uses scikit-learn's digits.
"""

import os

import numpy as np
from matplotlib import pyplot as plt

from numba_stn import data, nn
from numba_stn.nn import diagnostics, train

COUNT, EPOCHS, BATCH = 6_000, 3, 60
try:
    if "NUMBA_STN_DATA" not in os.environ:
        raise data.DataError("NUMBA_STN_DATA is not set")
    splits = data.mnist()
except data.DataError as missing:
    print(f"no MNIST: {missing}; using scikit-learn's digits instead")
    splits = data.digits()
few = splits.train.take(slice(COUNT))

# %%
# Each row shows one distortion of the same eight digits. The last one has two digits, whose sum is
# the label.
figure, rows = plt.subplots(7, 8, figsize=(6.4, 5.8), layout="constrained")
for row, (name, task) in zip(rows, data.TASKS.items(), strict=True):
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    distorted = task(np.random.default_rng(2), few.take(slice(8)))
    for axes, image in zip(row, distorted.images, strict=True):
        axes.imshow(image.max(0), cmap="gray")
        axes.set(xticks=[], yticks=[])

# %%
# The transformer crops a small image out of a large one.
rts, rng = data.TASKS["RTS"], np.random.default_rng(0)
side = few.images.shape[-1]
localisation = nn.serial(
    nn.avg_pool(2), nn.conv2d(16, 5), nn.batch_norm(), nn.max_pool(2), nn.relu(), nn.flatten(),
    nn.linear(32), nn.batch_norm(), nn.relu(),
)
net = nn.serial(
    nn.spatial_transformer(localisation, "affine", size=(21, 21)),
    nn.conv2d(16, 3), nn.batch_norm(), nn.max_pool(2), nn.relu(),
    nn.conv2d(32, 3), nn.batch_norm(), nn.max_pool(2), nn.relu(), nn.flatten(), nn.linear(10),
)
rate = nn.one_cycle(1e-2, EPOCHS * (len(few.labels) // BATCH))
optimiser = nn.adam(rate, factors={"localisation": 0.3})
learner = train.init_learner(net, optimiser, (1, rts.side(side), rts.side(side)), rng)
for _ in range(EPOCHS):
    for batch in train.prefetch(train.shuffled_batches(rng, few, BATCH, rts)):
        learner, _, _ = train.train_step(net, optimiser, learner, *batch)
test = rts(np.random.default_rng(1), splits.test.take(slice(2_000)))
error = train.error_percent(net, learner, *test)
print(f"test error: {error:.1f} % of {len(test.labels)} digits")

(seen,) = diagnostics.observe_transformers(net, learner, test.images[:200])
figure, rows = plt.subplots(2, 10, figsize=(9, 2.1), layout="constrained")
for label, (above, below) in enumerate(rows.T):
    n = int(np.flatnonzero(test.labels[:200] == label)[0])
    above.imshow(seen.before[n, 0], cmap="gray")
    below.imshow(seen.after[n, 0], cmap="gray")
    above.set(xticks=[], yticks=[])
    below.set(xticks=[], yticks=[])
