"""Cells: every combination of size, dtype, channels, padding, mode and map, beside one peer.

A row of the comparison (:mod:`.rows`) is one case; the cells of an operation are its neighbours. A
fast kernel that serves only the rows shows up here as a slow cell.
"""

import contextlib
import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import clock, warps
from .modes import CV2
from .rows import MissingError, peer_module, stn_function

MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
# Name, degrees, and the input's pixels per output pixel.
MAPS = (("identity", 0.0, 1.0), ("10 degrees", 10.0, 1.0), ("73 degrees, zoom 1.3", 73.0, 1 / 1.3))
# Name and factor of both sides; the first keeps them.
RESIZES = (("to itself", 1.0), ("x 0.5", 0.5), ("x 0.37", 0.37), ("x 1.6", 1.6), ("x 3", 3.0))
BATCHES = ((64, 1, 28, 28), (32, 1, 60, 60), (8, 64, 14, 14), (7, 5, 61, 37), (4, 3, 128, 128),
           (16, 3, 48, 31))  # fmt: skip
CV2_BORDERS = {"zeros": "BORDER_CONSTANT", "border": "BORDER_REPLICATE",
               "reflection": "BORDER_REFLECT"}  # fmt: skip

# The seconds that a library may spend on a cell.
PATIENCE = 0.5

# Results may differ by this share of the largest value, on average.
MEAN_TOLERANCE = 0.02


class Cell(NamedTuple):
    """An operation, the shape and dtype of its input, its options, and its map."""

    op: str
    shape: tuple[int, ...]
    dtype: str
    mode: str
    padding: str
    map: tuple[Any, ...]


def name(cell: Cell) -> str:
    """Describe a cell on one line."""
    shape = "x".join(map(str, cell.shape))
    return f"{cell.op}, {shape} {cell.dtype}, {cell.mode}, {cell.padding}, {cell.map[0]}"


def families() -> dict[str, list[Cell]]:
    """All cells by operation."""
    images = [(*(side, side), *channels) for side in (48, 256, 700) for channels in ((), (3,))]
    dtypes = ("uint8", "float32")
    warped = itertools.product(images, dtypes, MODES, PADDINGS, MAPS)
    resized = itertools.product(images, dtypes, ("bilinear",), ("border",), RESIZES)
    batches = [*itertools.product(BATCHES, ("float32",), MODES, PADDINGS, MAPS)]
    return {
        "warp_image": [Cell("warp_image", *each) for each in warped],
        "resize": [Cell("resize", *each) for each in resized],
        "warp_affine": [Cell("warp_affine", *each) for each in batches],
        "warp_affine both ways": [Cell("warp_affine both ways", *each) for each in batches],
    }


# --- Libraries ------------------------------------------------------------------------------------


def libraries(cell: Cell) -> dict[str, Callable[[], Any]]:
    """The work of a cell, by numba_stn ("ours") and by the peer."""
    return _MAKERS[cell.op](cell)


def _image(cell):
    """A smooth random image (H, W[, C]) of the cell's dtype."""
    rng = np.random.default_rng(0)
    image = rng.random(cell.shape, np.float32)
    image = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1)) / np.float32(3)
    return np.rint(image * 255).astype(cell.dtype) if cell.dtype == "uint8" else image


def _warp_image(cell):
    cv2, image = peer_module("cv2"), _image(cell)
    (height, width), (_, degrees, zoom) = cell.shape[:2], cell.map
    cos, sin = zoom * np.cos(np.deg2rad(degrees)), zoom * np.sin(np.deg2rad(degrees))
    x, y = (width - 1) / 2, (height - 1) / 2
    matrix = np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])
    flags = getattr(cv2, CV2[cell.mode]) | cv2.WARP_INVERSE_MAP
    border = getattr(cv2, CV2_BORDERS[cell.padding])
    return {
        "ours": partial(stn_function("warp_image"), image, matrix, mode=cell.mode,
                        padding_mode=cell.padding, out=np.empty_like(image)),
        "cv2": partial(cv2.warpAffine, image, matrix, (width, height), np.empty_like(image),
                       flags=flags, borderMode=border),
    }  # fmt: skip


def _resize(cell):
    cv2, image = peer_module("cv2"), _image(cell)
    height, width = (max(1, round(side * cell.map[1])) for side in cell.shape[:2])
    outs = [np.empty((height, width, *cell.shape[2:]), cell.dtype) for _ in range(2)]
    return {
        "ours": partial(stn_function("resize"), image, (height, width), out=outs[0]),
        "cv2": partial(cv2.resize, image, (width, height), outs[1],
                       interpolation=cv2.INTER_LINEAR),
    }  # fmt: skip


def _problem(cell, backward=False):
    _, degrees, zoom = cell.map
    return warps.problem(cell.shape, degrees, zoom, backward)


def _warp_affine(cell):
    torch, p = peer_module("torch"), _problem(cell)
    functional, options = torch.nn.functional, {"mode": cell.mode, "padding_mode": cell.padding}
    images, theta = torch.as_tensor(p.images), torch.as_tensor(p.theta)

    def run():
        with torch.no_grad():
            grid = functional.affine_grid(theta, images.shape, align_corners=False)
            return functional.grid_sample(images, grid, align_corners=False, **options)

    ours = partial(stn_function("warp_affine"), p.images, p.theta, out=np.empty_like(p.images),
                   **options)  # fmt: skip
    return {"ours": ours, "torch": run}


def _both_ways(cell):
    torch, p = peer_module("torch"), _problem(cell, backward=True)
    functional, options = torch.nn.functional, {"mode": cell.mode, "padding_mode": cell.padding}
    images, theta = (torch.as_tensor(part).requires_grad_() for part in (p.images, p.theta))
    dsamples = torch.as_tensor(p.dsamples)
    forward, backward = stn_function("warp_affine"), stn_function("warp_affine_vjp")
    samples = np.empty_like(p.images)

    def theirs():
        grid = functional.affine_grid(theta, images.shape, align_corners=False)
        found = functional.grid_sample(images, grid, align_corners=False, **options)
        return torch.autograd.grad(found, (images, theta), dsamples)

    def ours():
        forward(p.images, p.theta, out=samples, **options)
        return backward(p.dsamples, p.images, p.theta, **options)

    return {"ours": ours, "torch": theirs}


_MAKERS = {"warp_image": _warp_image, "resize": _resize, "warp_affine": _warp_affine,
           "warp_affine both ways": _both_ways}  # fmt: skip


# --- Measuring ------------------------------------------------------------------------------------


def choose(words: Sequence[str]) -> list[str]:
    """List the operations whose name contains one of these words; all if there are none."""
    names = list(families())
    for word in words:
        if not any(word in name for name in names):
            expected = ", ".join(map(repr, names))
            raise LookupError(f"no operation with cells contains {word!r}; there are {expected}")
    return [name for name in names if not words or any(word in name for word in words)]


def measure(cells: Iterable[Cell], rounds: int) -> list[dict[str, Any]]:
    """For each cell, our microseconds and the peer's time divided by ours.

    A peer that is not installed leaves the cell out. Results that differ are named, not timed.
    """
    found = []
    for cell in cells:
        with contextlib.suppress(MissingError):
            found.append(_measure(cell, rounds))
    return found


def _measure(cell, rounds):
    runs = libraries(cell)
    (peer, _), *_ = ((who, run) for who, run in runs.items() if who != "ours")
    different = _difference(cell, runs["ours"](), runs[peer]())
    if different:
        del runs[peer]
    found = clock.medians(clock.interleaved_times(runs, rounds, PATIENCE))
    ratio = None if different else round(found[peer] / found["ours"], 3)
    return {"op": cell.op, "cell": name(cell), "ours_us": round(1e6 * found["ours"], 2),
            "peer": peer, "ratio": ratio, "disagree": different}  # fmt: skip


def _difference(cell, ours, theirs):
    """Describe how the results differ, or return an empty text.

    OpenCV rounds coordinates, so near a jump or an edge single samples differ by any amount: only
    the mean difference is compared.
    """
    if cell.op.endswith("both ways"):
        ours, theirs = ours[0], theirs[0]  # the images' gradient
    ours, theirs = (np.asarray(each, np.float64) for each in (ours, theirs))
    mean = np.abs(ours - theirs).mean() / np.abs(ours).max()
    return "" if mean < MEAN_TOLERANCE else f"differs by {mean:.2g} of the largest value on average"


def summary(found: Sequence[dict[str, Any]], worst: int = 10) -> list[str]:
    """Lines: for each operation median, tenth percentile and minimum, and its worst cells."""
    lines = []
    for op in dict.fromkeys(each["op"] for each in found):
        own = [each for each in found if each["op"] == op]
        timed = sorted((each for each in own if each["ratio"]), key=lambda each: each["ratio"])
        ratios = [each["ratio"] for each in timed]
        lines += [f"{each['cell']}: NOT {each['peer']}: {each['disagree']}"
                  for each in own if each["disagree"]]  # fmt: skip
        if ratios:
            lines.append(f"{op}: {len(ratios)} cells, times {timed[0]['peer']}: median "
                         f"{statistics.median(ratios):.2f}, tenth percentile "
                         f"{ratios[len(ratios) // 10]:.2f}, worst {ratios[0]:.2f}")  # fmt: skip
        lines += [f"{each['ratio']:8.2f}  {each['ours_us']:10.1f} us  {each['cell']}"
                  for each in timed[:worst]]  # fmt: skip
    return lines


def below(found: Iterable[dict[str, Any]], least: float) -> list[str]:
    """List the cells whose ratio is below the least that is allowed."""
    return [each["cell"] for each in found if each["ratio"] is not None and each["ratio"] < least]
