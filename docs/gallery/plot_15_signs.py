"""
Traffic signs
=============

This page draws its own photographs of traffic signs, somewhere in a scene and seen at an angle, and
trains a classifier on them. Nobody tells the network where the sign is; the transformer finds out
where to look. For a folder of your own pictures, ``numba-stn train`` does the same: see
:doc:`/own-images`.
"""

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw

import numba_stn as stn
from numba_stn import nn

COUNT, EPOCHS, SIDE = 1800, 20, 48
NAMES = np.array(["stop", "yield", "no entry", "caution", "ahead", "priority"])


def drawn(name):
    """Draw a sign, 48 x 48 RGBA, in the middle of a transparent ground."""
    image = Image.new("RGBA", (96, 96))
    pen, middle = ImageDraw.Draw(image), (48, 48)
    red, white, blue = (190, 20, 30), (240, 240, 235), (20, 70, 160)
    if name in ("stop", "priority"):
        sides, fill = (8, red) if name == "stop" else (4, (245, 190, 20))
        pen.regular_polygon((*middle, 47), sides, 22.5 if name == "stop" else 45, fill, white)
        pen.rectangle((20, 40, 76, 56) if name == "stop" else (46, 46, 50, 50), white)
    elif name in ("yield", "caution"):
        turn = 180 if name == "yield" else 0
        pen.regular_polygon((*middle, 47), 3, turn, red)
        pen.regular_polygon((*middle, 29), 3, turn, white)
        pen.rectangle((44, 38, 52, 60), (20, 20, 20) if name == "caution" else white)
    else:
        pen.ellipse((2, 2, 94, 94), red if name == "no entry" else blue, white, 3)
        bar = (18, 40, 78, 56) if name == "no entry" else (42, 40, 54, 80)
        pen.rectangle(bar, white)
        if name == "ahead":
            pen.polygon([(48, 14), (70, 42), (26, 42)], white)
    return np.pad(np.asarray(image.resize((26, 26))), ((11, 11), (11, 11), (0, 0)))


# %%
# Each photograph is a scene of blurred colours, the sign in it, and noise. The sign is warped with
# its alpha channel, so its rim blends with the scene. ``stn.augment`` draws the maps.
rng = np.random.default_rng(0)
labels = np.arange(COUNT) % len(NAMES)
scenes = np.stack([stn.resize(scene, (SIDE, SIDE), mode="bicubic", padding_mode="border")
                   for scene in rng.random((COUNT, 5, 5, 3))])  # fmt: skip
signs = np.stack([drawn(name) for name in NAMES])[labels]
warped, _ = stn.augment(signs, rng, rotate=20, scale=0.25, shear=10, translate=0.2,
                        perspective=0.05, layout="NHWC", padding_mode="zeros")  # fmt: skip
warped = warped / 255
alpha = warped[..., 3:]
photographs = alpha * warped[..., :3] + (1 - alpha) * np.clip(scenes, 0, 1)
photographs = photographs * rng.uniform(0.4, 1, (COUNT, 1, 1, 1))
photographs += rng.normal(0, 0.03, photographs.shape)
photographs = np.uint8(255 * np.clip(photographs, 0, 1))


# %%
# The transformer reads 24 x 24 pixels, a quarter of a photograph, so it must find the sign. Two
# thirds of the photographs are for training. The error is that on the last third.
def net(shape, classes):
    """A network whose transformer shifts and zooms."""
    layers = [nn.conv2d(16, 5), nn.batch_norm(), nn.max_pool(2), nn.relu(), nn.conv2d(32, 3),
              nn.batch_norm(), nn.max_pool(2), nn.relu(), nn.flatten(), nn.linear(48),
              nn.batch_norm(), nn.relu()]  # fmt: skip
    localisation = nn.serial(nn.avg_pool(2), *layers)
    transformer = nn.spatial_transformer(localisation, "similarity", (24, 24), "border", zoom=0.7)
    return nn.serial(transformer, *layers, nn.linear(classes))


first = 2 * COUNT // 3
classifier = stn.STNClassifier(net=net, epochs=EPOCHS, localisation_rate=0.3, random_state=0)
classifier.fit(photographs[:first], NAMES[labels[:first]])
unseen, answers = photographs[first:], NAMES[labels[first:]]
print(f"test error: {100 - 100 * classifier.score(unseen, answers):.1f} %")

# %%
# Photographs that it has not seen, with the frame in which the transformer looks, its answers, and
# what it read there.
some = slice(0, 12)
corners = np.array([[-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], [1] * 5])
frames = (classifier.theta(unseen[some]) @ corners + 1) * SIDE / 2 - 0.5
found, aligned = classifier.predict(unseen[some]), classifier.transform(unseen[some])
figure, axes = plt.subplots(4, 6, figsize=(10, 7), layout="constrained")
for n, (x, y) in enumerate(frames):
    above, below = axes[n // 6 * 2 : n // 6 * 2 + 2, n % 6]
    above.imshow(unseen[n])
    above.plot(x, y, color="orange" if found[n] == answers[n] else "red", linewidth=2)
    above.set(title=found[n], xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5))
    below.imshow(np.uint8(np.clip(aligned[n], 0, 255)))
for axis in axes.flat:
    axis.axis("off")
