"""
Co-localisation: find what images have in common
================================================

This page finds an object that all images of a set contain, without labels. Every image shows a four
somewhere. A transformer learns to crop it from one condition only: the crops of two images should
look more alike than a crop and a window at a random position (Jaderberg et al. 2015, appendix A).
Two images look alike if the features of a network that classifies digits are close.
"""

import numpy as np
from matplotlib import pyplot as plt

from numba_stn import data, invert_theta, nn, transforms, warp_affine
from numba_stn.nn import train

CANVAS, DIGIT, COUNT = 48, 16, 64
SHARE = np.float32(DIGIT / CANVAS)
rng = np.random.default_rng(0)
splits = data.digits()

# %%
# The features come from a small network that learns to classify upright digits, without its last
# layer.
classifier = nn.serial(
    nn.conv2d(16, 3), nn.batch_norm(), nn.max_pool(2), nn.relu(),
    nn.flatten(), nn.linear(32), nn.batch_norm(), nn.relu(), nn.linear(10),
)
optimiser = nn.adam(1e-2)
learner = train.init_learner(classifier, optimiser, (1, DIGIT, DIGIT), rng)
for _ in range(10):
    for batch in train.shuffled_batches(rng, splits.train, 50, data.TASKS["none"]):
        learner, _, _ = train.train_step(classifier, optimiser, learner, *batch)
features = nn.serial(*classifier.layers[:-1])
known, statistics = learner.params[:-1], learner.state[:-1]


# %%
# The transformer chooses only the position of its window. This is a transform of our own: theta
# from two parameters, and the gradient back.
def window(centres):
    """Return theta of windows with these centres."""
    theta = np.tile(np.eye(2, 3, dtype=centres.dtype) * SHARE, (len(centres), 1, 1))
    theta[:, :, 2] = centres
    return theta


free = transforms.Transform("window", (0.0, 0.0), window, lambda dtheta, _: dtheta[:, :, 2])
localisation = nn.serial(
    nn.avg_pool(2), nn.conv2d(16, 5), nn.max_pool(2), nn.relu(),
    nn.conv2d(16, 3), nn.relu(), nn.flatten(), nn.linear(32), nn.relu(),
)
finder = nn.spatial_transformer(localisation, free, size=(DIGIT, DIGIT))


def anywhere(count):
    """Draw centres of windows that are on the canvas."""
    return rng.uniform(SHARE - 1, 1 - SHARE, (count, 2)).astype(np.float32)


def scattered(split, count):
    """Place fours on black canvases; return the images and the centres."""
    fours, centres = split.images[split.labels == 4], anywhere(count)
    chosen = fours[rng.integers(len(fours), size=count)]
    return warp_affine(chosen, invert_theta(window(centres)), (CANVAS, CANVAS)), centres


# %%
# Each image is compared with its neighbour in the batch and a random window of its own. The triplet
# loss is
# ``max(0, |f - f_neighbour|^2 / 2 - |f - f_random|^2 + margin)``.
optimiser = nn.adam(nn.one_cycle(2e-3, 200))
params = finder.init(rng, (1, CANVAS, CANVAS))
memory = optimiser.init(params)
for _ in range(200):
    images, _ = scattered(splits.train, COUNT)
    cut, to_params, _ = finder.apply(params, images, wrt_x=False)
    f, to_cut, _ = features.apply(known, cut, statistics)
    elsewhere = warp_affine(images, window(anywhere(COUNT)), (DIGIT, DIGIT))
    near = f - np.roll(f, 1, axis=0)
    far = f - features.apply(known, elsewhere, statistics)[0]
    hinge = (near**2).sum(1) / 2 - (far**2).sum(1) + 60
    active = (hinge > 0)[:, None] / np.float32(COUNT)
    df = active * (near - 2 * far) - np.roll(active * near, -1, axis=0)
    dparams, _ = to_params(to_cut(df)[1])
    params, memory = optimiser.update(params, dparams, memory)

# %%
# Boxes are compared by the intersection over the union of their areas (IoU). Nothing in the loss
# says which part of a four should be in the centre of the window, so the windows agree with one
# another rather than with the true boxes.
images, centres = scattered(splits.test, 500)
found = finder.theta(params, images)[0][:, :, 2]
both = np.clip(2 * SHARE - np.abs(found - centres), 0, None).prod(1)
iou = both / (2 * (2 * SHARE) ** 2 - both)
print(f"IoU above 0.5: {100 * (iou > 0.5).mean():.0f} %")

figure, rows = plt.subplots(2, 6, figsize=(9, 3.2), layout="constrained")
for n, (above, below) in enumerate(rows.T):
    above.imshow(images[n, 0], cmap="gray", extent=(-1, 1, 1, -1))
    for at, colour in ((centres[n], "C2"), (found[n], "C1")):
        box = plt.Rectangle(at - SHARE, 2 * SHARE, 2 * SHARE, fill=False, color=colour)
        above.add_patch(box)
    below.imshow(finder.apply(params, images[n : n + 1])[0][0, 0], cmap="gray")
    above.set_title(f"IoU {iou[n]:.2f}")
for axes in rows.flat:
    axes.set(xticks=[], yticks=[])
rows[0, 0].set_ylabel("true: green\nfound: orange")
rows[1, 0].set_ylabel("crop")
