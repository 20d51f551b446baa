"""Pictures of a run's results. This is the only module that imports Matplotlib."""

import io

import numpy as np
from matplotlib.figure import Figure

from ..data import Split
from ..nn.base import Layer
from ..nn.diagnostics import observe_transformers
from ..nn.train import Learner


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def learning_curves(history: list[dict]) -> Figure:
    """Plot the loss, and the error on training and validation images, against the epoch."""
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


def transformed(net: Layer, learner: Learner, images: np.ndarray) -> np.ndarray | None:
    """The output of the last transformer whose input is images, not features; None without one."""
    outputs = observe_transformers(net, learner, images)
    afters = [output.after for output in outputs if output.before.shape[1] == images.shape[1]]
    return afters[-1] if afters else None


def before_and_after(net: Layer, learner: Learner, split: Split, per_class: int = 3) -> Figure:
    """Show ``per_class`` images of each class, each above the transformer's output for it.

    The last rows are the means over up to 200 images of a class. They are sharp where the
    transformer brings the class into one pose, and blurred where it does not.
    """
    classes = np.unique(split.labels)
    members = [np.flatnonzero(split.labels == label)[:200] for label in classes]
    rows: list[tuple[str, list[np.ndarray]]] = []
    befores = [split.images[index] for index in members]
    afters = [transformed(net, learner, images) for images in befores]
    kinds: list[tuple[str, list]] = [("input", befores)]
    if afters[0] is not None:
        kinds.append(("warped", afters))
    for k in range(per_class):
        for name, columns in kinds:
            rows.append((name, [images[min(k, len(images) - 1), 0] for images in columns]))
    rows += [(f"mean {name}", [images[:, 0].mean(0) for images in columns])
             for name, columns in kinds]  # fmt: skip
    return _image_grid(rows, [str(label) for label in classes])


def _image_grid(rows: list[tuple[str, list[np.ndarray]]], titles: list[str]) -> Figure:
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
