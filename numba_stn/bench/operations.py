"""Rows of the other operations: grid generators, points, tangents, deformations, registration."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import modes, splines, warps
from .rows import Row, Runner, peer_module, stn_function, stn_module


def _named(name, found):
    return {name: np.asarray(found)}


def _read(name):
    return partial(_named, name)


# --- Grid generators ------------------------------------------------------------------------------


def stn_affine_grid(p):
    """affine_grid of numba_stn."""
    return Runner(partial(stn_function("affine_grid"), p.theta, p.images.shape), _read("grid"))


def torch_affine_grid(p):
    """PyTorch's affine_grid."""
    torch = peer_module("torch")
    run = partial(torch.nn.functional.affine_grid, torch.as_tensor(p.theta), p.images.shape,
                  align_corners=False)  # fmt: skip
    return Runner(run, _read("grid"))


def stn_tps_grid(p):
    """tps_grid of numba_stn."""
    run = partial(stn_function("tps_grid"), p.control, p.images.shape)
    return Runner(run, _read("grid"))


def torch_tps_grid(p):
    """A product with a matrix that is computed before the measurement."""
    torch, (height, width) = peer_module("torch"), p.images.shape[2:]
    matrix = splines.grid_matrix(height, width, p.control.shape[1]).astype(p.control.dtype)
    matrix = torch.as_tensor(matrix)
    control = torch.as_tensor(p.control)
    return Runner(lambda: (matrix @ control).reshape(-1, height, width, 2), _read("grid"))


# --- Points ---------------------------------------------------------------------------------------


class Points(NamedTuple):
    """Images, positions in them (N, P, 2), and a value of each channel at each, (N, C, P)."""

    images: Any
    points: Any
    values: Any


def points_problem(shape, count):
    """Smooth random images, and positions anywhere in them."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-1, 1, (shape[0], count, 2)).astype(np.float32)
    values = rng.standard_normal((*shape[:2], count), np.float32)
    return Points(warps.problem(shape).images, points, values)


def stn_points(p):
    """sample_points of numba_stn."""
    return Runner(partial(stn_function("sample_points"), p.images, p.points), _read("samples"))


def torch_points(p):
    """PyTorch's grid_sample at a grid of one row."""
    torch = peer_module("torch")
    images, grid = torch.as_tensor(p.images), torch.as_tensor(p.points[:, None])
    sample = partial(torch.nn.functional.grid_sample, images, grid, align_corners=False)
    return Runner(lambda: sample()[:, :, 0], _read("samples"))


def stn_splat(p):
    """Splat of numba_stn."""
    run = partial(stn_function("splat"), p.values, p.points, p.images.shape[2:])
    return Runner(run, _read("images"))


def torch_splat(p):
    """The images' gradient of PyTorch's grid_sample."""
    torch = peer_module("torch")
    grid, values = torch.as_tensor(p.points), torch.as_tensor(p.values)[:, :, None]
    images = torch.zeros(p.images.shape, dtype=grid.dtype, requires_grad=True)
    samples = torch.nn.functional.grid_sample(images, grid[:, None], align_corners=False)
    run = partial(torch.autograd.grad, samples, images, values, retain_graph=True)
    return Runner(run, lambda found: _named("images", found[0]))


# --- Tangents -------------------------------------------------------------------------------------


def stn_tangents(p):
    """warp_affine_jvp of numba_stn, along the images and theta."""
    jvp = stn_function("warp_affine_jvp")
    run = partial(jvp, p.images, p.theta, p.images[::-1].copy(), p.theta)
    return Runner(run, _read("samples_dot"))


# --- Deformations ---------------------------------------------------------------------------------

SQUARINGS = 7


class Velocity(NamedTuple):
    """A velocity field (N, H, W, 2), in pixels."""

    field: Any


def velocity(side):
    """A smooth random velocity field (1, H, W, 2), in pixels."""
    waves = np.linspace(0, 2 * np.pi, side, dtype=np.float32)
    phases = np.random.default_rng(4).uniform(0, 2 * np.pi, 4)
    x, y = np.sin(waves[None] + phases[0]), np.cos(waves[:, None] + phases[1])
    field = side / 20 * np.stack([x * y, np.cos(waves[None] + phases[2]) * y], -1)
    return Velocity(field[None].astype(np.float32))


def stn_integrate(p):
    """integrate_velocity of numba_stn."""
    integrate = stn_module("deformations").integrate_velocity
    return Runner(partial(integrate, p.field, SQUARINGS), _read("displacement"))


def torch_integrate(p):
    """The same squarings in PyTorch: each composes the map with itself by grid_sample."""
    torch = peer_module("torch")
    field = torch.as_tensor(p.field)
    sides = torch.tensor(field.shape[2:0:-1], dtype=field.dtype)
    lines = [torch.arange(side, dtype=field.dtype) for side in field.shape[1:3]]
    pixels = torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], -1)

    def run():
        moved = field / 2**SQUARINGS
        for _ in range(SQUARINGS):
            grid = (2 * (pixels + moved) + 1) / sides - 1
            moved = moved + torch.nn.functional.grid_sample(
                moved.permute(0, 3, 1, 2), grid, padding_mode="border", align_corners=False
            ).permute(0, 2, 3, 1)
        return moved

    return Runner(run, _read("displacement"))


# --- Volumes --------------------------------------------------------------------------------------


class Volume(NamedTuple):
    """Volumes (N, C, D, H, W), and the sides of the output."""

    volumes: Any
    size: tuple


def volume(side, size):
    """A smooth random volume."""
    return Volume(modes.volume_problem(side).images, (size,) * 3)


def stn_resize_volume(p):
    """resize_volume of numba_stn."""
    return Runner(partial(stn_function("resize_volume"), p.volumes, p.size), _read("samples"))


def torch_resize_volume(p):
    """PyTorch's interpolate."""
    torch = peer_module("torch")
    run = partial(torch.nn.functional.interpolate, torch.as_tensor(p.volumes), p.size,
                  mode="trilinear", align_corners=False)  # fmt: skip
    return Runner(run, _read("samples"))


# --- Registration and estimation ------------------------------------------------------------------


class Pair(NamedTuple):
    """Two images, of which the moving one is warped onto the fixed one."""

    moving: Any
    fixed: Any


def pair(side):
    """Waves and blobs, seen from two positions some degrees and pixels apart."""
    rng = np.random.default_rng(5)
    centers, sizes = rng.uniform(0, side, (60, 2)), rng.uniform(side / 60, side / 15, 60)
    heights = rng.uniform(-1, 1, 60)
    y, x = np.mgrid[:side, :side].astype(float)

    def seen(angle, shift):
        cos, sin, half = np.cos(angle), np.sin(angle), side / 2
        u = cos * (x - half) - sin * (y - half) + half + shift
        v = sin * (x - half) + cos * (y - half) + half - shift
        parts = zip(centers, sizes, heights, strict=True)
        found = sum(h * np.exp(-((u - a) ** 2 + (v - b) ** 2) / s**2) for (a, b), s, h in parts)
        return found.astype(np.float32)

    return Pair(seen(0.05, side / 100), seen(0.0, 0.0))


def stn_register(p):
    """Register of numba_stn: an affine map."""
    run = partial(stn_function("register"), p.moving, p.fixed, "affine")
    return Runner(run, lambda found: _named("matrix", found.matrix[:2]))


def cv2_register(p):
    """OpenCV's findTransformECC on the whole images, from the identity."""
    cv2 = peer_module("cv2")
    stop = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6

    def run():
        start = np.eye(2, 3, dtype=np.float32)
        return cv2.findTransformECC(p.fixed, p.moving, start, cv2.MOTION_AFFINE, stop)[1]

    return Runner(run, _read("matrix"), 0.02)


class Pairs(NamedTuple):
    """Points, and where they are moved to."""

    source: Any
    target: Any


def pairs(count):
    """Points moved by an affine map, with noise."""
    rng = np.random.default_rng(6)
    source = rng.uniform(0, 1000, (count, 2))
    target = source @ np.array([[0.9, 0.2], [-0.3, 1.1]]) + [30, -20]
    return Pairs(source, target + rng.normal(0, 0.5, target.shape))


def stn_estimate(p):
    """Estimate of numba_stn: an affine map by least squares."""
    run = partial(stn_function("estimate"), "affine", p.source, p.target)
    return Runner(run, lambda found: _named("matrix", found.matrix[:2]))


def skimage_estimate(p):
    """scikit-image's AffineTransform.from_estimate."""
    kind = peer_module("skimage.transform").AffineTransform
    run = partial(kind.from_estimate, p.source, p.target)
    return Runner(run, lambda found: _named("matrix", found.params[:2]))


def both(op, problem, ours, **peers):
    """Row: numba_stn, and peers by name."""
    return Row(op, problem, {"ours": ours, **peers})


ROWS = {
    "affine_grid 256x1x42x42": both(
        "affine_grid", partial(warps.problem, (256, 1, 42, 42)), stn_affine_grid,
        torch=torch_affine_grid),
    "tps_grid 256x1x42x42": both(
        "tps_grid", partial(splines.problem, (256, 1, 42, 42), 4), stn_tps_grid,
        torch=torch_tps_grid),
    "sample_points 8x16x128x128, 10000 points": both(
        "sample_points", partial(points_problem, (8, 16, 128, 128), 10_000), stn_points,
        torch=torch_points),
    "splat 8x16x128x128, 10000 points": both(
        "splat", partial(points_problem, (8, 16, 128, 128), 10_000), stn_splat,
        torch=torch_splat),
    "warp_affine_jvp 256x1x42x42": both(
        "warp_affine_jvp", partial(warps.problem, (256, 1, 42, 42)), stn_tangents),
    "integrate_velocity 1x256x256x2": both(
        "integrate_velocity", partial(velocity, 256), stn_integrate, torch=torch_integrate),
    "resize_volume 1x1x96x96x96 to 128x128x128": both(
        "resize_volume", partial(volume, 96, 128), stn_resize_volume, torch=torch_resize_volume),
    "register affine 512x512": both(
        "register", partial(pair, 512), stn_register, cv2=cv2_register),
    "estimate affine, 1000 points": both(
        "estimate", partial(pairs, 1000), stn_estimate, skimage=skimage_estimate),
}  # fmt: skip
