"""The pictures a run leaves behind. Matplotlib is imported here and nowhere else."""

import io

import numpy as np
from matplotlib.figure import Figure

from ..data import Split
from ..nn.layer import Layer
from ..nn.train import Learner
from ..nn.watch import watch


def png(figure: Figure) -> bytes:
    """The figure as a file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def learning_curves(history: list[dict]) -> Figure:
    """Loss, and error on the training and validation images, against the epoch."""
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(8, 3.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [entry["train_loss"] for entry in history], marker=".")
    left.set(xlabel="epoch", ylabel="cross-entropy (training)", yscale="log")
    for kind in ("train", "validation"):
        errors = [entry[f"{kind}_error"] for entry in history]
        right.plot(epochs, errors, marker=".", label=kind.replace("train", "training"))
    right.set(xlabel="epoch", ylabel="error (%)", ylim=(0, None))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    return figure


def warped(net: Layer, learner: Learner, images: np.ndarray) -> np.ndarray | None:
    """What the network's transformers make of the images; None if it has none.

    Of several the last one that reads images, not features.
    """
    seen = watch(net, learner, images)
    afters = [each.after for each in seen if each.before.shape[1] == images.shape[1]]
    return afters[-1] if afters else None


def before_and_after(net: Layer, learner: Learner, split: Split, each: int = 3) -> Figure:
    """Some images of each class, and below each of them what the transformer makes of it.

    The last row is the mean over the class's test images, where a class that is turned to one
    pose is sharp, and one that is not is blurred.
    """
    classes = np.unique(split.labels)
    members = [np.flatnonzero(split.labels == label)[:200] for label in classes]
    rows: list[tuple[str, list[np.ndarray]]] = []
    befores = [split.images[index] for index in members]
    afters = [warped(net, learner, images) for images in befores]
    kinds: list[tuple[str, list]] = [("input", befores)]
    if afters[0] is not None:
        kinds.append(("warped", afters))
    for k in range(each):
        for name, columns in kinds:
            rows.append((name, [images[min(k, len(images) - 1), 0] for images in columns]))
    rows += [(f"mean {name}", [images[:, 0].mean(0) for images in columns])
             for name, columns in kinds]  # fmt: skip
    return _mosaic(rows, [str(label) for label in classes])


def _mosaic(rows: list[tuple[str, list[np.ndarray]]], titles: list[str]) -> Figure:
    """Grey images in labelled rows and titled columns."""
    size = (0.72 * len(titles) + 0.8, 0.72 * len(rows) + 0.3)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes_row, (name, images) in zip(grid, rows, strict=True):
        for axes, image in zip(axes_row, images, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=max(float(image.max()), 1e-6))
            axes.set(xticks=[], yticks=[])
        axes_row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    return figure
