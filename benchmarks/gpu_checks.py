"""The checks of :mod:`benchmarks.gpu`: values, gradients, and the same bits when repeated."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import numba_stn as stn
from numba_stn.bench.rows import MissingError, peer_module, relative_difference

from .gpu_arrays import Gpu, host

PADDINGS = ("zeros", "border", "reflection")

# Gradients are compared with the oracle only at coordinates that are further than this, in pixels,
# from one at which the slope jumps. Closer to it, rounding may select the other slope.
MARGIN = 1 / 128


class Shape(NamedTuple):
    """Images (N, C, H, W), the number of maps, and the sides of the samples."""

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
# Small shapes for a quick test, with few enough threads for Numba's simulator.
QUICK_SHAPES = (Shape(2, 2, 2, (4, 5), (3, 7)), Shape(1, 2, 1, (3, 1), (2, 5)))

# The shapes that are repeated: many blocks, and many samples added to each pixel of one image.
REPEATED = (Shape(4, 4, 3, (512, 512), (512, 512)), Shape(1, 16, 1, (64, 64), (500, 500)))
QUICK_REPEATED = (Shape(1, 2, 1, (3, 4), (5, 6)),)


class Case(NamedTuple):
    """One function on one shape, with its options."""

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
    """NumPy arrays, and the largest pixel coordinate in them."""

    images: Any
    coords: Any
    dsamples: Any
    reach: float


def cases(shapes: tuple[Shape, ...]) -> Iterator[Case]:
    """Combine every function, padding, convention and precision."""
    for shape, real, corners in itertools.product(shapes, (np.float32, np.float64), (False, True)):
        yield Case("affine_grid", shape, real, "zeros", corners)
        for op, padding in itertools.product(("grid_sample", "warp_affine"), PADDINGS):
            yield Case(op, shape, real, padding, corners)


def draw(case: Case) -> Inputs:
    """Draw random inputs; about a third of the coordinates are outside the images."""
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
        dsamples *= _far_from_jumps(grid, shape.sides, case.align_corners)[:, None]
    # In pixels of the larger side.
    reach = max(shape.sides) * (1 + float(np.abs(grid).max())) / 2
    return Inputs(images.astype(case.real), coords, dsamples.astype(case.real), reach)


def _far_from_jumps(grid, sides, align_corners):
    """Test whether each coordinate is far from the jumps of slopes, at whole and half pixels."""
    far = np.ones(grid.shape[:3], bool)
    for k, side in enumerate(sides[::-1]):
        span = side - 1 if align_corners else side
        pixels = (side - 1 + span * grid[..., k].astype(float)) / 2
        if span:  # otherwise every coordinate is exactly the only pixel
            far &= np.abs(2 * pixels - np.rint(2 * pixels)) > 2 * MARGIN
    return far


# --- Results --------------------------------------------------------------------------------------


def by_stn(case: Case, inputs: Inputs, put: Callable[[Any], Any]) -> dict[str, Any]:
    """Compute forward and backward by numba_stn, on the arrays that ``put`` makes."""
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
    """Name the results."""
    return {"affine_grid": ("grid", "dtheta"), "grid_sample": ("samples", "dimages", "dgrid"),
            "warp_affine": ("samples", "dimages", "dtheta")}[case.op]  # fmt: skip


def by_torch(torch: Any, case: Case, inputs: Inputs, real: str, device: str) -> dict[str, Any]:
    """Compute forward and backward by PyTorch, in a precision and on a device."""
    functional, corners = torch.nn.functional, {"align_corners": case.align_corners}
    images, coords, dsamples = (
        torch.tensor(array, dtype=getattr(torch, real), device=device) for array in inputs[:3]
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
        expanded = images.expand(case.shape.maps, -1, -1, -1)
        samples = functional.grid_sample(expanded, grid, padding_mode=case.padding, **corners)
        samples.backward(dsamples)
        results = (samples, images.grad, coords.grad)
    return dict(zip(parts(case), map(host, results), strict=True))


def oracle(case: Case, inputs: Inputs) -> tuple[str, dict[str, Any]]:
    """Name the oracle and compute its results in float64 on the CPU: PyTorch, or our kernels."""
    try:
        torch = peer_module("torch")
    except MissingError:
        wide = Inputs(*(array.astype(float) for array in inputs[:3]), inputs.reach)
        return "numba_stn's CPU kernels, float64", by_stn(case, wide, lambda array: array)
    return "PyTorch on the CPU, float64", by_torch(torch, case, inputs, "float64", "cpu")


# --- The checks -----------------------------------------------------------------------------------


def tolerance(case: Case, inputs: Inputs, part: str) -> float:
    """The largest error allowed, as a share of the largest value.

    A coordinate is a sum of a few products, each at most ``reach`` pixels, so its error is a few
    ``eps reach``. Between two pixels, a value changes by at most twice the largest value, and every
    weight and slope by as much as the coordinate. With two axes and two roundings this gives
    ``8 eps reach``. Errors that do not depend on the coordinate (weights, sums of channels, the
    tree that sums theta's gradient) add some tens of ``eps``. The images' gradient is summed in
    units of ``2**-60`` of the largest term times the number of terms T, up to T terms a pixel.
    """
    terms = case.shape.size[0] * case.shape.size[1] * case.shape.maps
    units = float(terms) * 2.0**-58 if part == "dimages" else 0.0
    return float(np.finfo(case.real).eps) * (32 + 8 * inputs.reach) + units


def correct(gpu: Gpu, case: Case) -> dict[str, Any]:
    """Compute the errors of numba_stn and of PyTorch on the device, and describe what is wrong."""
    inputs = draw(case)
    oracle_name, expected = oracle(case, inputs)
    found, peer = by_stn(case, inputs, gpu.put), {}
    if gpu.torch:
        peer = by_torch(gpu.torch, case, inputs, str(np.dtype(case.real)), "cuda")
    errors, wrong = {}, []
    for part, exact in expected.items():
        most = tolerance(case, inputs, part)
        error = {who: float(relative_difference(results[part], exact).max())
                 for who, results in (("ours", found), ("torch", peer)) if results}  # fmt: skip
        # JSON has no NaN.
        errors[part] = {who: float(f"{size:.3g}") if np.isfinite(size) else None
                        for who, size in (error | {"tolerance": most}).items()}  # fmt: skip
        if found[part].dtype != case.real:
            wrong.append(f"{part}: expected {np.dtype(case.real)}, got {found[part].dtype}")
        if not error["ours"] <= most:  # NaN too
            wrong.append(f"{part} is off by {error['ours']:.2g}, more than {most:.2g}")
    return {"check": f"correct: {case}", "op": f"{case.op} {np.dtype(case.real)}",
            "oracle": oracle_name, "errors": errors, "wrong": "; ".join(wrong)}  # fmt: skip


def repeated(gpu: Gpu, case: Case) -> dict[str, Any]:
    """Test whether a case gives the same bits again, alone and while the device is busy."""
    inputs = draw(case)
    first, wrong = by_stn(case, inputs, gpu.put), []
    for when, busy in (("alone", False), ("during other work", True)):
        with gpu.busy() if busy else contextlib.nullcontext():
            again = by_stn(case, inputs, gpu.put)
        wrong += [f"{part} has other bits the second time, {when}"
                  for part in first if first[part].tobytes() != again[part].tobytes()]  # fmt: skip
    return {"check": f"same bits: {case}", "beside": bool(gpu.cupy or gpu.torch),
            "wrong": "; ".join(wrong)}  # fmt: skip


def checks(gpu: Gpu, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """Give all checks by name."""
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for case in cases(QUICK_SHAPES if quick else SHAPES):
        found[f"correct: {case}"] = lambda case=case: correct(gpu, case)
    for shape in QUICK_REPEATED if quick else REPEATED:
        for op, real in itertools.product(("grid_sample", "warp_affine"), (np.float32, np.float64)):
            case = Case(op, shape, real)
            found[f"same bits: {case}"] = lambda case=case: repeated(gpu, case)
    return found
