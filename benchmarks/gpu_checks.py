"""What :mod:`benchmarks.gpu` checks before it times: values and gradients, and that bits repeat."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import numba_stn as stn
from numba_stn.bench.rows import MissingError, difference, installed

from .gpu_arrays import Gpu, host

PADDINGS = ("zeros", "border", "reflection")

# Gradients are held against the oracle only where a coordinate is further than this, in pixels,
# from a place where the slope changes: beside it a rounding changes the slope as a whole.
MARGIN = 1 / 128


class Shape(NamedTuple):
    """Images (N, C, H, W), how many maps read them, and the sides of the samples."""

    count: int
    maps: int
    channels: int
    sides: tuple[int, int]
    size: tuple[int, int]


# Odd sides; one image for several maps; a side of one pixel; rows and columns of several blocks.
SHAPES = (
    Shape(3, 3, 2, (37, 61), (45, 29)),
    Shape(1, 4, 3, (33, 50), (41, 67)),
    Shape(2, 2, 1, (1, 9), (5, 3)),
    Shape(2, 2, 3, (701, 509), (613, 770)),
)
# As the sides of two are, for a first look; and few enough threads for Numba's simulator.
QUICK_SHAPES = (Shape(2, 2, 2, (4, 5), (3, 7)), Shape(1, 2, 1, (3, 1), (2, 5)))

# Each repeated: many blocks, and many samples added to each pixel of one image.
REPEATED = (Shape(4, 4, 3, (512, 512), (512, 512)), Shape(1, 16, 1, (64, 64), (500, 500)))
QUICK_REPEATED = (Shape(1, 2, 1, (3, 4), (5, 6)),)


class Case(NamedTuple):
    """One function on one shape, and the options it is called with."""

    op: str
    shape: Shape
    real: type
    padding: str = "zeros"
    align_corners: bool = False

    def __str__(self):
        shape = self.shape
        images = "x".join(map(str, (shape.count, shape.channels, *shape.sides)))
        samples = "x".join(map(str, (shape.maps, *shape.size)))
        corners = "corners" if self.align_corners else "edges"
        padding = "" if self.op == "affine_grid" else f" {self.padding}"
        return f"{self.op} {np.dtype(self.real)}{padding} {corners} {images} to {samples}"


class Inputs(NamedTuple):
    """NumPy arrays, and the largest pixel coordinate that occurs."""

    images: Any
    coords: Any
    dsamples: Any
    reach: float


def cases(shapes: tuple[Shape, ...]) -> Iterator[Case]:
    """Every function, padding, convention and precision."""
    for shape, real, corners in itertools.product(shapes, (np.float32, np.float64), (False, True)):
        yield Case("affine_grid", shape, real, "zeros", corners)
        for op, padding in itertools.product(("grid_sample", "warp_affine"), PADDINGS):
            yield Case(op, shape, real, padding, corners)


def drawn(case: Case) -> Inputs:
    """Random inputs; a third or so of the coordinates lie outside the images."""
    rng, shape = np.random.default_rng(0), case.shape
    images = rng.standard_normal((shape.count, shape.channels, *shape.sides))
    dsamples = rng.standard_normal((shape.maps, shape.channels, *shape.size))
    theta = rng.uniform(-1, 1, (shape.maps, 2, 3)).astype(case.real)
    grid = rng.uniform(-1.6, 1.6, (shape.maps, *shape.size, 2)).astype(case.real)
    coords = grid if case.op == "grid_sample" else theta
    if case.op == "affine_grid":
        dsamples = grid
    else:
        if case.op == "warp_affine":
            grid = stn.affine_grid(
                theta.astype(float), shape.size, align_corners=case.align_corners
            )
        dsamples *= _smooth(grid, shape.sides, case.align_corners)[:, None]
    # In pixels of the larger side, as if [-1, 1] were as wide as it.
    reach = max(shape.sides) * (1 + float(np.abs(grid).max())) / 2
    return Inputs(images.astype(case.real), coords, dsamples.astype(case.real), reach)


def _smooth(grid, sides, align_corners):
    """Whether each coordinate is far from where a slope changes: whole and half pixels."""
    far = np.ones(grid.shape[:3], bool)
    for k, side in enumerate(sides[::-1]):
        span = side - 1 if align_corners else side
        pixels = (side - 1 + span * grid[..., k].astype(float)) / 2
        if span:  # else every coordinate is the one pixel, exactly
            far &= np.abs(2 * pixels - np.rint(2 * pixels)) > 2 * MARGIN
    return far


# --- Results: ours, and PyTorch's -----------------------------------------------------------------


def ours(case: Case, inputs: Inputs, put: Callable[[Any], Any]) -> dict[str, Any]:
    """Forward and backward by numba_stn, on the arrays that ``put`` makes."""
    corners, size = {"align_corners": case.align_corners}, case.shape.size
    images, coords, dsamples = (put(array) for array in inputs[:3])
    if case.op == "affine_grid":
        results = (stn.affine_grid(coords, size, **corners),
                   stn.affine_grid_vjp(dsamples, **corners))  # fmt: skip
    else:
        options = {"padding_mode": case.padding, **corners}
        sides = [size] if case.op == "warp_affine" else []
        samples = getattr(stn, case.op)(images, coords, *sides, **options)
        vjp = getattr(stn, f"{case.op}_vjp")
        results = (samples, *vjp(dsamples, images, coords, **options))
    return dict(zip(parts(case), map(host, results), strict=True))


def parts(case: Case) -> tuple[str, ...]:
    """Names of the results."""
    return {"affine_grid": ("grid", "dtheta"), "grid_sample": ("samples", "dimages", "dgrid"),
            "warp_affine": ("samples", "dimages", "dtheta")}[case.op]  # fmt: skip


def by_torch(torch: Any, case: Case, inputs: Inputs, real: str, place: str) -> dict[str, Any]:
    """The same by PyTorch, in this precision and on this device."""
    functional, corners = torch.nn.functional, {"align_corners": case.align_corners}
    images, coords, dsamples = (
        torch.tensor(array, dtype=getattr(torch, real), device=place) for array in inputs[:3]
    )
    images.requires_grad_(), coords.requires_grad_()
    grid = coords
    if case.op != "grid_sample":
        sides = (case.shape.maps, case.shape.channels, *case.shape.size)
        grid = functional.affine_grid(coords, sides, **corners)
    if case.op == "affine_grid":
        grid.backward(dsamples)
        results = (grid, coords.grad)
    else:
        each = images.expand(case.shape.maps, -1, -1, -1)
        samples = functional.grid_sample(each, grid, padding_mode=case.padding, **corners)
        samples.backward(dsamples)
        results = (samples, images.grad, coords.grad)
    return dict(zip(parts(case), map(host, results), strict=True))


def oracle(case: Case, inputs: Inputs) -> tuple[str, dict[str, Any]]:
    """Whose, and the results in float64 on the CPU: PyTorch's, or our own where it is absent."""
    try:
        torch = installed("torch")
    except MissingError:
        wide = Inputs(*(array.astype(float) for array in inputs[:3]), inputs.reach)
        return "numba_stn's CPU kernels, float64", ours(case, wide, lambda array: array)
    return "PyTorch on the CPU, float64", by_torch(torch, case, inputs, "float64", "cpu")


# --- The checks -----------------------------------------------------------------------------------


def tolerance(case: Case, inputs: Inputs, part: str) -> float:
    """The largest error allowed, as a share of the largest value.

    A coordinate is a sum of a few products, each of which may be as large as ``reach`` pixels, and
    so is off by a few ``eps reach``; between two pixels a value moves by at most twice the largest
    there is, and every weight and slope by as much as the coordinate. Twice for two axes:
    ``8 eps reach`` with two roundings. What does not depend on the coordinate (weights, sums of
    channels, the tree that adds up theta's gradient) adds some tens of ``eps``. The images'
    gradient is summed in units of ``2**-60`` of the largest term by the number of terms T, up to T
    of them a pixel.
    """
    terms = case.shape.size[0] * case.shape.size[1] * case.shape.maps
    units = float(terms) * 2.0**-58 if part == "dimages" else 0.0
    return float(np.finfo(case.real).eps) * (32 + 8 * inputs.reach) + units


def correct(gpu: Gpu, case: Case) -> dict[str, Any]:
    """Errors of one case, ours and those of PyTorch on the same device, and what is wrong."""
    inputs = drawn(case)
    whose, expected = oracle(case, inputs)
    found, peer = ours(case, inputs, gpu.put), {}
    if gpu.torch:
        peer = by_torch(gpu.torch, case, inputs, str(np.dtype(case.real)), "cuda")
    errors, wrong = {}, []
    for part, exact in expected.items():
        most = tolerance(case, inputs, part)
        error = {who: float(difference(results[part], exact).max())
                 for who, results in (("ours", found), ("torch", peer)) if results}  # fmt: skip
        # JSON has no NaN.
        errors[part] = {who: float(f"{size:.3g}") if np.isfinite(size) else None
                        for who, size in (error | {"tolerance": most}).items()}  # fmt: skip
        if found[part].dtype != case.real:
            wrong.append(f"{part} is {found[part].dtype}")
        if not error["ours"] <= most:  # NaN too
            wrong.append(f"{part} is off by {error['ours']:.2g}, more than {most:.2g}")
    return {"check": f"correct: {case}", "op": f"{case.op} {np.dtype(case.real)}",
            "oracle": whose, "errors": errors, "wrong": "; ".join(wrong)}  # fmt: skip


def repeated(gpu: Gpu, case: Case) -> dict[str, Any]:
    """Whether a case gives the same bits again, by itself and while the device is busy."""
    inputs = drawn(case)
    first, wrong = ours(case, inputs, gpu.put), []
    for when, beside in (("by itself", False), ("beside other work", True)):
        if beside:
            with gpu.busy():
                again = ours(case, inputs, gpu.put)
        else:
            again = ours(case, inputs, gpu.put)
        wrong += [f"{part} has other bits the second time, {when}"
                  for part in first if first[part].tobytes() != again[part].tobytes()]  # fmt: skip
    return {"check": f"same bits: {case}", "beside": bool(gpu.cupy or gpu.torch),
            "wrong": "; ".join(wrong)}  # fmt: skip


def checks(gpu: Gpu, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """All of them, by name."""
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for case in cases(QUICK_SHAPES if quick else SHAPES):
        found[f"correct: {case}"] = lambda case=case: correct(gpu, case)
    for shape in QUICK_REPEATED if quick else REPEATED:
        for op, real in itertools.product(("grid_sample", "warp_affine"), (np.float32, np.float64)):
            case = Case(op, shape, real)
            found[f"same bits: {case}"] = lambda case=case: repeated(gpu, case)
    return found
