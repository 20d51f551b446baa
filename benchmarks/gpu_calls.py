"""Calls whose kernels :mod:`.gpu_kernels` looks at: every operation, on arrays that only pretend.

Each is a problem of the size that is to be measured on a GPU, much larger than its last-level
cache. Together they launch every kernel, for the dtypes and options that matter for speed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import numba_stn as stn
from numba_stn.ops.validate import MODES, PADDINGS

from .gpu_launches import empty, pretended

# The sides of images and volumes, small enough that all indices have 32 bits.
PLANES, GRIDS, VOLUMES = (64, 3, 1024, 1024), (16, 1, 2048, 2048), (4, 2, 256, 256, 256)


def calls() -> dict[str, tuple[Callable[[], object], int]]:
    """All calls by name, and the number of their output pixels."""
    plane = PLANES[0] * PLANES[2] * PLANES[3]
    groups = {warps: plane, stored: plane, derived: plane, grids: GRIDS[0] * GRIDS[2] * GRIDS[3],
              volumes: VOLUMES[0] * int(np.prod(VOLUMES[2:])), coordinates: 16 * 2048 * 2048,
              image: 8192 * 8192}  # fmt: skip
    return {name: (call, pixels) for group, pixels in groups.items()
            for name, call in group().items()}  # fmt: skip


def thetas(count: int, rows: int = 2, dims: int = 2) -> Any:
    """Maps that rotate and enlarge, about the middle; most pixels are inside, none are aligned."""
    theta = np.eye(rows, dims + 1, dtype=np.float32)
    theta[:2, :2] = 0.8 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    if rows > dims:
        theta[-1, :2] = 0.05, -0.05
    return pretended(np.tile(theta, (count, 1, 1)))


def both(name: str, images: Any, coords: Any, **options: Any) -> Callable[[], object]:
    """A sampler and both its gradients."""
    vjp = getattr(stn, f"{name}_vjp")
    gradients = {key: value for key, value in options.items() if key not in ("coverage", "size")}

    def run():
        forward = getattr(stn, name)(images, coords, **options)
        samples = forward[0] if isinstance(forward, tuple) else forward
        if samples.dtype.kind == "u":
            samples = empty(samples.shape)
        return vjp(samples, images, coords, **gradients)

    return run


def warps():
    """Affine and projective warps, in every mode and with every padding."""
    images, theta, square = empty(PLANES), thetas(64), thetas(64, 3)
    found = {f"warp_affine {mode}": both("warp_affine", images, theta, mode=mode)
             for mode in MODES}  # fmt: skip
    for padding in PADDINGS:
        if padding != "zeros":
            fill = {"fill": 0.5} if padding == "fill" else {}
            found[f"warp_affine {padding}"] = both(
                "warp_affine", images, theta, padding_mode=padding, **fill
            )
    found["warp_perspective bilinear"] = both("warp_perspective", images, square, coverage=True)
    return found


def grids():
    """Samples by a grid, in every mode."""
    images, grid = empty(GRIDS), empty((GRIDS[0], *GRIDS[2:], 2))
    found = {f"grid_sample {mode}": both("grid_sample", images, grid, mode=mode)
             for mode in MODES}  # fmt: skip
    found["grid_sample mirror"] = both(
        "grid_sample", images, grid, mode="bicubic", padding_mode="mirror"
    )
    # A step of the integration of velocities: fields have their two components last.
    field = empty((*GRIDS[:1], *GRIDS[2:], 2))
    found["displacement fields, composed"] = both(
        "grid_sample", field, grid, padding_mode="border", layout="NHWC"
    )
    points = empty((GRIDS[0], GRIDS[2] * GRIDS[3], 2))
    found["splat"] = lambda: stn.splat(empty((*GRIDS[:2], points.shape[1])), points, GRIDS[2:])
    return found


def stored():
    """Images that are stored in other ways."""
    theta, found = thetas(64), {}
    for dtype in ("float16", "uint8", "uint16", "float64"):
        images = empty(PLANES, dtype)
        coords = pretended(theta.astype(np.float64)) if dtype == "float64" else theta
        found[f"warp_affine {dtype}"] = both("warp_affine", images, coords)
    count, channels, height, width = PLANES
    last = empty((count, height, width, channels))
    found["warp_affine NHWC"] = both("warp_affine", last, theta, layout="NHWC")
    return found


def volumes():
    """Samples of volumes."""
    images, theta = empty(VOLUMES), thetas(VOLUMES[0], 3, 3)
    grid = empty((VOLUMES[0], *VOLUMES[2:], 3))
    found = {f"warp_affine of volumes {mode}": both("warp_affine", images, theta, mode=mode)
             for mode in ("bilinear", "nearest")}  # fmt: skip
    found["grid_sample of volumes"] = both("grid_sample", images, grid)
    found["affine_grid of volumes"] = lambda: (
        stn.affine_grid(theta, VOLUMES[2:]),
        stn.affine_grid_vjp(grid),
    )
    return found


def derived():
    """Functions built on the sampler."""
    images, theta, square = empty(PLANES), thetas(64), thetas(64, 3)
    grid = empty((64, *PLANES[2:], 2))
    control = pretended(np.tile(stn.control_points(4, np.float32), (64, 1, 1)))
    half = PLANES[2] // 2, PLANES[3] // 2
    return {
        "warp_affine_jvp": lambda: stn.warp_affine_jvp(images, theta, images, theta),
        "warp_perspective_jvp": lambda: stn.warp_perspective_jvp(images, square, images, square),
        "grid_sample_jvp": lambda: stn.grid_sample_jvp(images, grid, images, grid),
        "warp_tps_jvp": lambda: stn.warp_tps_jvp(images, control, images, control),
        "warp_affine_gauss_newton": lambda: stn.warp_affine_gauss_newton(images, theta, images),
        "warp_affine antialias": both(
            "warp_affine", images, theta, size=half, antialias=True, coverage=True
        ),
        "warp_perspective antialias": both(
            "warp_perspective", images, square, size=half, antialias=True
        ),
        "warp_tps": both("warp_tps", images, control, size=PLANES[2:]),
        "affine_grid": lambda: (
            stn.affine_grid(theta, PLANES[2:]),
            stn.affine_grid_vjp(grid),
        ),
    }


def coordinates():
    """Conversions of coordinates."""
    field, sides = empty((16, 2048, 2048, 2)), (2048, 2048)
    center = empty((16, 2))
    return {
        "grid_from_displacement": lambda: stn.grid_from_displacement(field),
        "grid_from_pixels": lambda: stn.grid_from_pixels(field, sides),
        "polar_grid": lambda: (
            stn.polar_grid(sides, sides, center, 900.0, log=True),
            stn.polar_grid_vjp(field, sides),
        ),
    }


def image():
    """One image (H, W, C)."""
    matrix = np.array([[0.9, -0.3, 500.0], [0.3, 0.9, -100.0], [0.0, 0.0, 1.0]])
    found = {}
    for dtype in ("uint8", "uint16", "float32"):
        for mode in ("bilinear", "bicubic", "nearest", "lanczos4", "spline3"):
            picture = empty((8192, 8192, 3), dtype)
            found[f"warp_image {dtype} {mode}"] = lambda picture=picture, mode=mode: stn.warp_image(
                picture, matrix, mode=mode
            )
    return found
