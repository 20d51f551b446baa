"""
Volumes: turn solid digits so that they can be read
===================================================

Digits drawn out to solids, turned about a random axis, and looked at through: the projection of a
turned solid is hard to read. A transformer of volumes turns it back first (Jaderberg et al. 2015,
appendix A). It is the same layer as in the plane; its theta is (N, 3, 4), and the samples are
trilinear.
"""

import numpy as np
from matplotlib import pyplot as plt

from numba_stn import data, nn, warp_affine
from numba_stn.nn import train
from numba_stn.transforms import parametrisations

SIDE = 16
splits = data.digits()


def solid(rng, split):
    """Digits of a third of the cube's depth, turned by up to a radian about each axis."""
    volumes = np.zeros((len(split.labels), 1, SIDE, SIDE, SIDE), np.float32)
    volumes[:, :, 5:11] = 0.6 * split.images[:, :, None]
    turn = np.zeros((len(volumes), 6), np.float32)
    turn[:, :3] = rng.uniform(-1, 1, (len(volumes), 3))
    theta = parametrisations.rigid_3d.theta(turn)
    theta[:, :, :3] *= 1.3  # small enough to stay inside
    return data.Split(warp_affine(volumes, theta), split.labels)


# %%
# Looking through is a layer of our own: what it gives, and how the gradient comes back.
class Projection(nn.Layer):
    """(N, C, D, H, W) -> (N, C, H, W): the sum along the depth."""

    def output_shape(self, shape):
        """(C, H, W)."""
        return (shape[0], *shape[2:])

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        return x.sum(2), lambda dy: ((), np.broadcast_to(dy[:, :, None], x.shape))


def reader(*first):
    """A network that reads projections, behind other layers."""
    return nn.serial(
        *first, Projection(), nn.conv2d(16, 5), nn.batch_norm(), nn.max_pool(2), nn.relu(),
        nn.conv2d(32, 3), nn.batch_norm(), nn.relu(), nn.flatten(), nn.linear(10),
    )


localisation = nn.serial(nn.flatten(), nn.linear(64), nn.batch_norm(), nn.relu())
nets = {
    "projected": reader(),
    "turned, then projected": reader(nn.spatial_transformer(localisation, "rigid_3d")),
}

# %%
# Both learn from the same solids, turned afresh in each epoch.
EPOCHS, BATCH = 15, 50
test = solid(np.random.default_rng(1), splits.test)
learners, errors = {}, {}
for name, net in nets.items():
    factors = {"localisation": 0.1} if "turned" in name else {}
    optimiser = nn.adam(nn.one_cycle(1e-2, EPOCHS * (800 // BATCH)), factors=factors)
    learner = train.init_learner(net, optimiser, test.images.shape[1:], np.random.default_rng(0))
    for epoch in range(EPOCHS):
        rng = np.random.default_rng([0, epoch])
        for batch in train.prefetch(train.shuffled_batches(rng, splits.train, BATCH, solid)):
            learner, _, _ = train.train_step(net, optimiser, learner, *batch)
    errors[name] = train.error_percent(net, learner, *test)
    learners[name] = learner
    print(f"{name}: {errors[name]:.1f} % of the test digits are misread")

# %%
# Above the projections of the solids as they come, below as the transformer turned them.
net = nets["turned, then projected"]
learner = learners["turned, then projected"]
chosen = [int(np.flatnonzero(test.labels == label)[0]) for label in range(10)]
seen = test.images[chosen]
turned = net.layers[0].apply(learner.params[0], seen, learner.state[0])[0]
figure, rows = plt.subplots(2, 10, figsize=(9, 2.1), layout="constrained")
for above, below, before, after in zip(*rows, seen, turned, strict=True):
    above.imshow(before[0].sum(0), cmap="gray")
    below.imshow(after[0].sum(0), cmap="gray")
    above.set(xticks=[], yticks=[])
    below.set(xticks=[], yticks=[])
