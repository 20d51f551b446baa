"""
Find a digit in clutter
=======================

This page trains a network to classify a digit anywhere on a canvas more than twice as wide as the
digit, among six pieces of other digits (the paper's task TC). The transformer is an *attention*: it
chooses only a position and a size. It learns to crop the digit, because a cropped digit is easier
to classify.
"""

import numpy as np
from matplotlib import pyplot as plt

from numba_stn import data, nn
from numba_stn.nn import train

EPOCHS, BATCH = 40, 50
splits, clutter = data.digits(), data.TASKS["TC"]
test = clutter(np.random.default_rng(1), splits.test)
side = test.images.shape[-1]

localisation = nn.serial(
    nn.avg_pool(2), nn.conv2d(16, 5), nn.batch_norm(), nn.max_pool(2), nn.relu(), nn.flatten(),
    nn.linear(32), nn.batch_norm(), nn.relu(),
)
finder = nn.spatial_transformer(localisation, "attention", size=(16, 16))
net = nn.serial(
    finder, nn.conv2d(16, 3), nn.batch_norm(), nn.max_pool(2), nn.relu(),
    nn.conv2d(32, 3), nn.batch_norm(), nn.max_pool(2), nn.relu(), nn.flatten(), nn.linear(10),
)

rng = np.random.default_rng(0)
rate = nn.one_cycle(1e-2, EPOCHS * (len(splits.train.labels) // BATCH))
optimiser = nn.adam(rate, factors={"localisation": 0.3})
learner = train.init_learner(net, optimiser, (1, side, side), rng)
for _ in range(EPOCHS):
    for batch in train.prefetch(train.shuffled_batches(rng, splits.train, BATCH, clutter)):
        learner, _, _ = train.train_step(net, optimiser, learner, *batch)
print(f"test error: {train.error_percent(net, learner, *test):.1f} %")

# %%
# The windows that it chose, and their contents.
theta, _, _ = finder.theta(learner.params[0], test.images, learner.state[0])
cut = finder.apply(learner.params[0], test.images, learner.state[0])[0]
figure, rows = plt.subplots(2, 10, figsize=(10, 2.3), layout="constrained")
for n, (above, below) in enumerate(rows.T):
    above.imshow(test.images[n, 0], cmap="gray", extent=(-1, 1, 1, -1))
    size, (x, y) = theta[n, 0, 0], theta[n, :, 2]
    above.add_patch(
        plt.Rectangle((x - size, y - size), 2 * size, 2 * size, fill=False, color="C1", lw=1.5)
    )
    below.imshow(cut[n, 0], cmap="gray")
    above.set(xticks=[], yticks=[], xlim=(-1.3, 1.3), ylim=(1.3, -1.3), facecolor="0.9")
    below.set(xticks=[], yticks=[], xlabel=f"a {test.labels[n]}")
