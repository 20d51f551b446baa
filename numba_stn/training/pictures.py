"""Pictures of a run's results. This is the only module that imports Matplotlib."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..data import Split
from ..data.preparation import Preparation
from ..nn.base import Layer
from ..nn.diagnostics import observe_transformers
from ..nn.train import Learner


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()


def learning_curves(history: list[dict]) -> Figure:
    """Plot the loss, and the error on training and validation images, against the epoch."""
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(8, 3.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [entry["train_loss"] for entry in history], marker=".")
    left.set(xlabel="epoch", ylabel="cross-entropy (training)", yscale="log")
    for kind in ("train", "validation"):
        if f"{kind}_error" not in history[0]:
            continue
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


def first_channel(planes: np.ndarray) -> np.ndarray:
    """The first channel (N, H, W) of images (N, C, H, W)."""
    return planes[:, 0]


def draw_frames(pixels: np.ndarray, polygons: list[np.ndarray]) -> np.ndarray:
    """An image with polygons (P, 2), x and y in pixels, drawn into it: (H, W, 3) of uint8.

    A line is a few pixels wide, and dark at its edges, so that it is seen on any ground.
    """
    from PIL import Image, ImageDraw

    height, width = pixels.shape[:2]
    picture = Image.fromarray(Preparation(height, width, 3)(visible(pixels)))
    thickness = max(1, round(min(height, width) / 60))
    draw = ImageDraw.Draw(picture)
    for polygon in polygons:
        points = [(float(x), float(y)) for x, y in [*polygon, polygon[0]]]
        if thickness > 1:
            draw.line(points, (0, 0, 0), thickness + 2, "curve")
        draw.line(points, (255, 220, 0), thickness, "curve")
    return np.asarray(picture)


def framed(picture: np.ndarray, frames: list[np.ndarray], least: int) -> np.ndarray:
    """A picture from 0 to 1, enlarged to at least ``least`` pixels a side, with frames drawn in.

    ``picture`` is (H, W) or (H, W, 3); the frames (P, 2) are in its normalised coordinates.
    """
    times = max(1, -(-least // min(picture.shape[:2])))
    pixels = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    large = pixels.repeat(times, 0).repeat(times, 1)
    sides = np.array(large.shape[1::-1])
    return draw_frames(large, [((frame + 1) * sides - 1) / 2 for frame in frames])


def histograms(quantities: dict[str, np.ndarray]) -> Figure:
    """A histogram of each quantity."""
    figure = Figure(figsize=(2.6 * len(quantities), 2.2), dpi=100, layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(1, len(quantities), squeeze=False)[0], quantities.items(), strict=True
    ):
        least, most = float(values.min()), float(values.max())
        room = 0.5 if most - least < 1e-6 else 0.0  # as before training, when all are one value
        axes.hist(values, np.linspace(least - room, most + room, 31))
        axes.set_xlabel(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def visible(pixels: np.ndarray) -> np.ndarray:
    """The image; floats and wide integers are scaled to 0 to 1 if they are outside."""
    if pixels.dtype in (np.uint8, np.uint16, np.bool_):
        return pixels
    least, largest = min(float(pixels.min()), 0.0), max(float(pixels.max()), 1.0)
    return ((pixels - least) / (largest - least)).astype(np.float32)


def before_and_after(
    net: Layer,
    learner: Learner,
    split: Split,
    per_class: int = 3,
    show: Callable[[np.ndarray], np.ndarray] = first_channel,
    names: Sequence[str] | None = None,
) -> Figure:
    """Show ``per_class`` images of each class, each above the transformer's output for it.

    The last rows are the means over up to 200 images of a class. They are sharp where the
    transformer brings the class into one pose, and blurred where it does not. ``show`` makes
    pictures (N, H, W), or (N, H, W, 3) from 0 to 1, from images (N, C, H, W); ``names`` has the
    classes' names.
    """
    classes = np.unique(split.labels)
    members = [np.flatnonzero(split.labels == label)[:200] for label in classes]
    rows: list[tuple[str, list[np.ndarray]]] = []
    images = [split.images[index] for index in members]
    warped = [transformed(net, learner, own) for own in images]
    kinds = [("input", [show(own) for own in images])]
    if after := [show(own) for own in warped if own is not None]:
        kinds.append(("warped", after))
    for k in range(per_class):
        for name, columns in kinds:
            rows.append((name, [own[min(k, len(own) - 1)] for own in columns]))
    rows += [(f"mean {name}", [own.mean(0) for own in columns]) for name, columns in kinds]
    return _image_grid(rows, [str(label) if names is None else names[label] for label in classes])


def _image_grid(rows: list[tuple[str, list[np.ndarray]]], titles: list[str]) -> Figure:
    """Images, grey or in colour, in labelled rows and titled columns."""
    size = (0.72 * len(titles) + 0.8, 0.72 * len(rows) + 0.3)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes_row, (name, images) in zip(grid, rows, strict=True):
        for axes, image in zip(axes_row, images, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=max(float(image.max()), 1e-6))
            axes.set(xticks=[], yticks=[])
        axes_row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    slanted = {"rotation": 45, "ha": "left"} if max(map(len, titles)) > 8 else {}
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9 if not slanted else 7, **slanted)
    return figure
