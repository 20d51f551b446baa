"""Draw the pictures of docs/how.md: ``python docs/figures.py [NAME ...]``."""

import pathlib
import sys

import numpy as np
from matplotlib import pyplot as plt
from picture_style import BLUE, GREEN, GREY, ORANGE, RED, STYLE

import numba_stn as stn
from numba_stn import data, transforms

FOLDER = pathlib.Path(__file__).parent / "images"
EXTENT = (-1, 1, 1, -1)  # an image in normalised coordinates, y down


# --- Helpers --------------------------------------------------------------------------------------


def digit(label=5, which=3, side=64):
    """Return a handwritten digit with a black margin, (side, side), float32 in [0, 1]."""
    split = data.digits().train
    small = split.images[np.flatnonzero(split.labels == label)[which]]
    wider = np.eye(2, 3, dtype=np.float32)[None] * 1.4
    return np.clip(stn.warp_affine(small[None], wider, (side, side), mode="bicubic")[0, 0], 0, 1)


def batch(image):
    """Reshape (H, W) to (1, 1, H, W)."""
    return image[None, None]


def frame(theta):
    """Map the corners of the output to the input, (5, 2); the last one repeats the first."""
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1.0]])
    return corners @ theta.T


def show(axes, image, title="", **options):
    """Draw an image in normalised coordinates, without ticks."""
    axes.imshow(image, extent=EXTENT, cmap="gray", vmin=0, vmax=1, **options)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title)
    for spine in axes.spines.values():
        spine.set_visible(False)


def show_frame(axes, image, theta, title="", dots=0):
    """Draw the input, the output's frame in it with its top marked, and some points of its grid."""
    show(axes, image, title)
    x, y = frame(theta).T
    axes.plot(x, y, color=ORANGE, lw=2, clip_on=False)
    axes.plot(x[:2], y[:2], color=RED, lw=3.5, clip_on=False)
    if dots:
        grid = stn.affine_grid(theta[None], (dots, dots))[0].reshape(-1, 2)
        axes.plot(*grid.T, ".", color=ORANGE, ms=4, clip_on=False)
    axes.set(xlim=(-1.4, 1.4), ylim=(1.4, -1.4), facecolor="#e8e8e8")


def arrow(figure, left, right, text):
    """Draw an arrow between two axes, with a label above it."""
    a, b = left.get_position(), right.get_position()
    y = (a.y0 + a.y1) / 2
    figure.text((a.x1 + b.x0) / 2, y + 0.05, text, ha="center", va="bottom", fontsize=9)
    line = plt.Line2D([a.x1 + 0.008, b.x0 - 0.012], [y, y], color="black", lw=1.2)
    figure.add_artist(line)
    figure.text(b.x0 - 0.014, y, "▸", ha="center", va="center", fontsize=11)


# --- The figures ----------------------------------------------------------------------------------


def parts():
    """Draw the three parts of a transformer, on one digit."""
    image = digit()
    theta = np.array([[0.62, 0.27, 0.1], [-0.27, 0.62, -0.06]])
    scene = stn.warp_affine(batch(image), stn.invert_theta(theta[None]), (64, 64))[0, 0]
    figure = plt.figure(figsize=(10, 2.3))
    axes = [figure.add_axes((x, 0.04, 0.184, 0.8)) for x in (0.0, 0.29, 0.545, 0.815)]
    show(axes[0], scene, "image")
    axes[1].axis("off")
    axes[1].set(title="theta", xlim=(0, 1), ylim=(0, 1))
    for (i, j), value in np.ndenumerate(theta):
        axes[1].text(0.28 + 0.3 * j, 0.6 - 0.2 * i, f"{value:.2f}", ha="right", va="center")
    for x, inwards in ((0.02, 0.04), (0.95, -0.04)):
        axes[1].plot([x + inwards, x, x, x + inwards], [0.72, 0.72, 0.28, 0.28], "k", lw=1)
    show_frame(axes[2], scene, theta, "grid", dots=9)
    show(axes[3], stn.warp_affine(batch(scene), theta[None])[0, 0], "samples")
    for left, right, word in zip(
        axes, axes[1:], ("localisation\nnet", "grid\ngenerator", "sampler"), strict=False
    ):
        arrow(figure, left, right, word)
    return figure


def parameters():
    """Draw the effect of each parameter: the sampled frame, and the output."""
    image = digit()
    angle = np.array([[np.deg2rad(30)]])
    cases = [
        ("identity", np.eye(2, 3)[None]),
        ("translation\n(0.4, 0)", transforms.translation.theta(np.array([[0.4, 0]]))),
        ("translation\n(0, 0.4)", transforms.translation.theta(np.array([[0, 0.4]]))),
        ("scale\n(0.6, 0.6)", transforms.scale.theta(np.array([[0.6, 0.6]]))),
        ("scale\n(1.3, 0.7)", transforms.scale.theta(np.array([[1.3, 0.7]]))),
        ("rotation\n30°", transforms.rotation.theta(angle)),
        ("shear\n(0.4, 0)", transforms.shear.theta(np.array([[0.4, 0]]))),
        ("shear\n(0, 0.4)", transforms.shear.theta(np.array([[0, 0.4]]))),
    ]
    figure, rows = plt.subplots(2, len(cases), figsize=(11, 3.4), layout="constrained")
    for (title, theta), above, below in zip(cases, *rows, strict=True):
        show_frame(above, image, theta[0], title)
        show(below, stn.warp_affine(batch(image), theta)[0, 0])
    for axes, label in ((rows[0, 0], "sampled frame"), (rows[1, 0], "output")):
        axes.set_ylabel(label, fontsize=10)
    return figure


def direction():
    """Show that moving input pixels leaves holes, and that sampling by output pixels does not."""
    image = digit(side=24)
    side = len(image)
    theta = np.array([[0.62, -0.36, 0.0], [0.36, 0.62, 0.0]])
    pull = stn.warp_affine(batch(image), theta[None], mode="nearest")[0, 0]
    push = np.linalg.inv(theta[:, :2])
    centres = stn.affine_grid(np.eye(2, 3)[None], (side, side))[0]
    landed = np.rint(((centres @ push.T + 1) * side - 1) / 2).astype(int)
    pushed, hits = np.zeros((side, side)), np.zeros((side, side), int)
    inside = ((landed >= 0) & (landed < side)).all(-1)
    for value, (x, y) in zip(image[inside], landed[inside], strict=True):
        pushed[y, x], hits[y, x] = value, hits[y, x] + 1
    figure, axes = plt.subplots(1, 3, figsize=(8.6, 3.1), layout="constrained")
    show(axes[0], image, "input")
    red = np.stack([pushed] * 3, -1)
    red[hits == 0] = (0.84, 0.37, 0.0)
    holes = f"{(hits == 0).sum()} of {side * side} pixels get no value"
    show(axes[1], red, f"input pixels moved to the output:\n{holes}")
    show(axes[2], pull, "output pixels that sample the input:\nevery pixel gets one value")
    return figure


def kernels():
    """Draw a sample as a function of its position, and the slope of that function."""
    row = np.array([0.15, 0.3, 0.9, 0.5, 0.65, 0.2])
    x = np.linspace(-0.4, 5.4, 1161)
    grid = stn.grid_from_pixels(np.stack([x, 0 * x], -1)[None, None], (1, 6))
    figure, columns = plt.subplots(
        2, 3, figsize=(9.6, 3.9), layout="constrained", sharex=True, sharey="row"
    )
    for mode, (above, below) in zip(("nearest", "bilinear", "bicubic"), columns.T, strict=True):
        options = {"mode": mode, "padding_mode": "border"}
        value = stn.grid_sample(row[None, None, None], grid, **options)[0, 0, 0]
        ones = np.ones((1, 1, 1, len(x)))
        _, slope = stn.grid_sample_vjp(ones, row[None, None, None], grid, **options, wrt=("grid",))
        jumps = np.abs(np.diff(value, append=value[-1])) > 0.05
        above.plot(x, np.where(jumps, np.nan, value), color=BLUE)
        above.plot(range(6), row, "o", color="black", ms=4)
        slope = slope[0, 0, :, 0] * 2 / 6  # a pixel is 2/6 of the normalised side
        jumps = np.abs(np.diff(slope, append=slope[-1])) > 0.05
        below.axhline(0, color=GREY, lw=0.6)
        below.plot(x, np.where(jumps, np.nan, slope), color=RED)
        above.set_title(mode)
        below.set(xlabel="sampling position, in pixels", xticks=range(6))
    columns[0, 0].set_ylabel("sample")
    columns[1, 0].set_ylabel("slope")
    return figure


def weights():
    """Draw the four bilinear weights as areas."""
    figure, axes = plt.subplots(figsize=(3.4, 3.2), layout="constrained")
    tx, ty = 0.65, 0.3
    areas = {
        "(1-tx)(1-ty)": ((tx, ty), 1 - tx, 1 - ty, BLUE),
        "tx (1-ty)": ((0, ty), tx, 1 - ty, GREEN),
        "(1-tx) ty": ((tx, 0), 1 - tx, ty, ORANGE),
        "tx ty": ((0, 0), tx, ty, RED),
    }
    for text, (corner, width, height, colour) in areas.items():
        axes.add_patch(plt.Rectangle(corner, width, height, color=colour, alpha=0.45, lw=0))
        middle = corner[0] + width / 2, corner[1] + height / 2
        axes.text(*middle, text, ha="center", va="center", fontsize=8)
    corners = {"nw": (0, 0, BLUE), "ne": (1, 0, GREEN), "sw": (0, 1, ORANGE), "se": (1, 1, RED)}
    for name, (x, y, colour) in corners.items():
        axes.plot(x, y, "o", color=colour, ms=11, clip_on=False)
        axes.annotate(
            name, (x, y), (14 * (2 * x - 1), 14 * (1 - 2 * y)), textcoords="offset points",
            ha="center", va="center", fontsize=10,
        )  # fmt: skip
    axes.plot(tx, ty, "k+", ms=12, mew=2)
    axes.set(xlim=(-0.05, 1.05), ylim=(1.05, -0.05), aspect="equal")
    axes.axis("off")
    return figure


def descent():
    """Draw gradient descent on theta from the identity to the pose of a digit."""
    target = digit()
    theta_true = transforms.similarity.theta(np.array([[0.5, 0.75, 0.2, -0.15]]))
    scene = stn.warp_affine(batch(target), stn.invert_theta(theta_true))
    theta, shown, losses = np.eye(2, 3)[None], {}, []
    steps = 200
    for step in range(steps + 1):
        samples = stn.warp_affine(scene, theta)
        difference = samples - batch(target)
        losses.append((difference**2).mean())
        dsamples = 2 * difference / difference.size
        _, dtheta = stn.warp_affine_vjp(dsamples, scene, theta, wrt=("theta",))
        if step in (0, 50, 65, steps):
            grid = stn.affine_grid(theta, (64, 64))
            _, dgrid = stn.grid_sample_vjp(dsamples, scene, grid, wrt=("grid",))
            shown[step] = theta[0].copy(), grid[0], dgrid[0], samples[0, 0]
        theta = theta - 0.15 * dtheta
    figure, rows = plt.subplots(2, 5, figsize=(10.4, 4.2), layout="constrained")
    for (step, (at, grid, dgrid, samples)), above, below in zip(
        shown.items(), rows[0], rows[1], strict=False
    ):
        show_frame(above, scene[0, 0], at, f"step {step}")
        if step < steps:
            some, votes = grid[2::5, 2::5], -dgrid[2::5, 2::5]
            length = np.linalg.norm(votes, axis=-1)
            big = length > 0.1 * length.max()
            above.quiver(
                *some[big].T, *(0.3 * votes[big] / length.max()).T, color="#56b4e9",
                angles="xy", scale_units="xy", scale=1, width=0.012, zorder=3,
            )  # fmt: skip
        show(below, samples, f"error {losses[step]:.3f}")
    rows[0, 0].set_ylabel("sampled frame", fontsize=9)
    rows[1, 0].set_ylabel("output", fontsize=9)
    rows[0, 4].plot(losses, color=BLUE)
    rows[0, 4].set(title="mean squared error", xlabel="step", ylim=(0, None))
    show(rows[1, 4], target, "target")
    return figure


FIGURES = {
    figure.__name__: figure
    for figure in (parts, parameters, direction, kernels, weights, descent)
}  # fmt: skip


def main(names):
    """Write images/how-NAME.png."""
    plt.switch_backend("agg")
    with plt.rc_context(STYLE):
        for name in names or FIGURES:
            figure = FIGURES[name]()
            figure.savefig(FOLDER / f"how-{name}.png", dpi=140)
            plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
