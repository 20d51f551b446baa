"""Small sets of pictures, made by the tests: each class is a bright bar in a place of its own."""

import numpy as np
from PIL import Image

CLASSES = ("bar", "cross", "dot")


def picture(label, rng, side=12):
    """A picture in colour of a class, with noise."""
    pixels = rng.integers(0, 60, (side, side, 3), dtype=np.uint8)
    middle = side // 2
    if label in ("bar", "cross"):
        pixels[middle - 1 : middle + 1, 1:-1] = (250, 120, 30)
    if label == "cross":
        pixels[1:-1, middle - 1 : middle + 1] = (250, 120, 30)
    if label == "dot":
        pixels[middle - 2 : middle + 2, middle - 2 : middle + 2] = (30, 120, 250)
    return pixels


def write_folder(folder, per_class=8, classes=CLASSES, side=12, tracks=4):
    """Write a folder with a subfolder for each class; names are TRACK_FRAME.png."""
    rng = np.random.default_rng(0)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            name = f"{number % tracks:03}_{number // tracks:02}.png"
            Image.fromarray(picture(label, rng, side)).save(folder / label / name)
    return folder


def arrays(per_class=8, classes=CLASSES, side=12):
    """Images (N, H, W, 3) and labels (N,) of the same kind."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(len(classes)), per_class)
    return np.stack([picture(classes[label], rng, side) for label in labels]), labels
