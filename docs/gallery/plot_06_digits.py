"""
Train on digits
===============

This page trains a small network on scikit-learn's digits, rotated by up to 90 degrees. The network
learns to rotate them back before it classifies them, without being given the angles. ``numba-stn
train`` does the same with a larger network, for longer, and saves what it learned.
"""

import numpy as np
from matplotlib import pyplot as plt

from numba_stn import data, nn
from numba_stn.nn import diagnostics, train

EPOCHS, BATCH = 25, 40
splits = data.digits()
rotated = data.TASKS["R"]
test = rotated(np.random.default_rng(1), splits.test)

# %%
# The localisation net looks at the image; the transformer turns its features into an angle.
localisation = nn.serial(
    nn.conv2d(16, 5), nn.max_pool(2), nn.relu(), nn.flatten(),
    nn.linear(32), nn.batch_norm(), nn.relu(),
)
net = nn.serial(
    nn.spatial_transformer(localisation, "rotation"),
    nn.conv2d(16, 3), nn.batch_norm(), nn.max_pool(2), nn.relu(),
    nn.conv2d(32, 3), nn.batch_norm(), nn.max_pool(2), nn.relu(), nn.flatten(), nn.linear(10),
)

# %%
# Each epoch rotates the digits by new angles.
rng = np.random.default_rng(0)
steps = EPOCHS * (len(splits.train.labels) // BATCH)
optimiser = nn.adam(nn.one_cycle(1e-2, steps))
learner = train.init_learner(net, optimiser, (1, 16, 16), rng)
losses = []
for _ in range(EPOCHS):
    for batch in train.shuffled_batches(rng, splits.train, BATCH, rotated):
        learner, loss, _ = train.train_step(net, optimiser, learner, *batch)
        losses.append(loss)
print(f"test error: {train.error_percent(net, learner, *test):.1f} %")

# %%
# The inputs of the transformer, and its outputs.
(seen,) = diagnostics.observe_transformers(net, learner, test.images)
figure = plt.figure(figsize=(10, 2.5), layout="constrained")
curve, digits = figure.subfigures(1, 2, width_ratios=(1, 2.6))
axes = curve.subplots()
axes.plot(np.convolve(losses, np.ones(20) / 20, "valid"))
axes.set(xlabel="step", title="loss, mean of 20 steps", yscale="log")
for label, (above, below) in enumerate(digits.subplots(2, 10).T):
    n = int(np.flatnonzero(test.labels == label)[0])
    above.imshow(seen.before[n, 0], cmap="gray")
    below.imshow(seen.after[n, 0], cmap="gray")
    above.axis("off")
    below.axis("off")
digits.suptitle("inputs, and the same digits rotated by the network", fontsize=10)
