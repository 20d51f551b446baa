"""
Two digits, two transformers
============================

This page trains a network to classify two digits, each rotated, scaled and placed anywhere in a
channel of its own. A transformer warps all channels by one map, so a single one can straighten only
one of the two digits. Here two transformers work side by side and share the task. (The paper's
"MNIST addition" asks for the sum of the digits, which takes longer to learn.)
"""

import numpy as np
from matplotlib import pyplot as plt

from numba_stn import data, nn
from numba_stn.nn import diagnostics, train

EPOCHS, BATCH = 25, 40
splits, rts = data.digits(), data.TASKS["RTS"]


def pairs(rng, split):
    """Pair each example with another: images (N, 2, 24, 24), both labels alternating (2 N,)."""
    other = split.take(rng.permutation(len(split.labels)))
    images = np.concatenate([rts(rng, split).images, rts(rng, other).images], 1)
    return data.Split(images, np.stack([split.labels, other.labels], 1).ravel())


class Each(nn.Layer):
    """Reshape (N, 20) to (2 N, 10): ten classes for each digit."""

    def output_shape(self, shape):
        """Return the shape of one digit's logits."""
        return (10,)

    def forward(self, params, x, wrt_x=True):
        """Return the reshaped logits and their pullback."""
        return x.reshape(-1, 10), lambda dy: ((), dy.reshape(-1, 20))


def network(count):
    """Build ``count`` transformers side by side, and a classifier after them."""
    localisation = nn.serial(
        nn.avg_pool(2), nn.conv2d(16, 5), nn.batch_norm(), nn.relu(), nn.flatten(),
        nn.linear(32), nn.batch_norm(), nn.relu(),
    )
    each = nn.spatial_transformer(localisation, "affine", size=(16, 16))
    return nn.serial(
        nn.parallel(*[each] * count), nn.conv2d(24, 5), nn.batch_norm(), nn.max_pool(2), nn.relu(),
        nn.conv2d(32, 3), nn.batch_norm(), nn.max_pool(2), nn.relu(), nn.flatten(), nn.linear(20),
        Each(),
    )


test = pairs(np.random.default_rng(1), splits.test)
for count in (1, 2):
    net, rng = network(count), np.random.default_rng(0)
    rate = nn.one_cycle(1e-2, EPOCHS * (len(splits.train.labels) // BATCH))
    optimiser = nn.adam(rate, factors={"localisation": 0.3})
    learner = train.init_learner(net, optimiser, (2, 24, 24), rng)
    for _ in range(EPOCHS):
        for batch in train.prefetch(train.shuffled_batches(rng, splits.train, BATCH, pairs)):
            learner, _, _ = train.train_step(net, optimiser, learner, *batch)
    error = train.error_percent(net, learner, *test)
    print(f"{count} in parallel: test error {error:.0f} %")

# %%
# The two channels of six examples, and the output of each of the two transformers.
one, two = diagnostics.observe_transformers(net, learner, test.images[:6])
figure, rows = plt.subplots(3, 12, figsize=(11, 3.1), layout="constrained")
for n in range(6):
    for channel in range(2):
        shown = one.before, one.after, two.after
        for axes, images in zip(rows[:, 2 * n + channel], shown, strict=True):
            axes.imshow(images[n, channel], cmap="gray")
            axes.set(xticks=[], yticks=[])
for axes, label in zip(rows[:, 0], ("input", "first", "second"), strict=True):
    axes.set_ylabel(label)
