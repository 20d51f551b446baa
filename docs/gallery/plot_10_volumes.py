"""
Volumes: rotate solid digits so that they can be classified
===========================================================

This page trains a transformer of volumes. Digits are extruded to solids, rotated about a random
axis, and projected to an image; the projection of a rotated solid is hard to classify. The
transformer first rotates the solid back (Jaderberg et al. 2015, appendix A). It is the same layer
as in 2-D; its theta is (N, 3, 4), and its samples are trilinear.
"""

import numpy as np
from matplotlib import pyplot as plt

from numba_stn import data, nn, transforms, warp_affine
from numba_stn.nn import train

SIDE = 16
splits = data.digits()


def solid(rng, split):
    """Extrude digits to a third of the cube's depth; rotate by up to a radian about each axis."""
    volumes = np.zeros((len(split.labels), 1, SIDE, SIDE, SIDE), np.float32)
    volumes[:, :, 5:11] = 0.6 * split.images[:, :, None]
    params = np.zeros((len(volumes), 6), np.float32)
    params[:, :3] = rng.uniform(-1, 1, (len(volumes), 3))
    theta = transforms.rigid_3d.theta(params)
    theta[:, :, :3] *= 1.3  # small enough to stay inside
    return data.Split(warp_affine(volumes, theta), split.labels)


# %%
# The projection is a layer of our own: its output, and the gradient back.
class Projection(nn.Layer):
    """Sum along the depth: (N, C, D, H, W) -> (N, C, H, W)."""

    def output_shape(self, shape):
        """Return (C, H, W)."""
        return (shape[0], *shape[2:])

    def forward(self, params, x, wrt_x=True):
        """Return the sum and its pullback."""
        return x.sum(2), lambda dy: ((), np.broadcast_to(dy[:, :, None], x.shape))


def classifier(*first):
    """Build a network that classifies projections, after other layers."""
    return nn.serial(
        *first, Projection(), nn.conv2d(16, 5), nn.batch_norm(), nn.max_pool(2), nn.relu(),
        nn.conv2d(32, 3), nn.batch_norm(), nn.relu(), nn.flatten(), nn.linear(10),
    )


localisation = nn.serial(nn.flatten(), nn.linear(64), nn.batch_norm(), nn.relu())
nets = {
    "projected": classifier(),
    "rotated, then projected": classifier(nn.spatial_transformer(localisation, "rigid_3d")),
}

# %%
# Both networks learn from the same solids, rotated anew in each epoch.
EPOCHS, BATCH = 15, 50
test = solid(np.random.default_rng(1), splits.test)
learners, errors = {}, {}
for name, net in nets.items():
    factors = {"localisation": 0.1} if "rotated" in name else {}
    optimiser = nn.adam(nn.one_cycle(1e-2, EPOCHS * (800 // BATCH)), factors=factors)
    learner = train.init_learner(net, optimiser, test.images.shape[1:], np.random.default_rng(0))
    for epoch in range(EPOCHS):
        rng = np.random.default_rng([0, epoch])
        for batch in train.prefetch(train.shuffled_batches(rng, splits.train, BATCH, solid)):
            learner, _, _ = train.train_step(net, optimiser, learner, *batch)
    errors[name] = train.error_percent(net, learner, *test)
    learners[name] = learner
    print(f"{name}: test error {errors[name]:.1f} %")

# %%
# Above, the projections of the solids; below, those of the solids that the transformer rotated.
net = nets["rotated, then projected"]
learner = learners["rotated, then projected"]
chosen = [int(np.flatnonzero(test.labels == label)[0]) for label in range(10)]
seen = test.images[chosen]
straightened = net.layers[0].apply(learner.params[0], seen, learner.state[0])[0]
figure, rows = plt.subplots(2, 10, figsize=(9, 2.1), layout="constrained")
for above, below, before, after in zip(*rows, seen, straightened, strict=True):
    above.imshow(before[0].sum(0), cmap="gray")
    below.imshow(after[0].sum(0), cmap="gray")
    above.set(xticks=[], yticks=[])
    below.set(xticks=[], yticks=[])
