"""Measure what a call costs besides its compiled code.

``python -m benchmarks.call_cost [NAME...]`` prints, for public functions on small arrays, the
microseconds of a call, those of its compiled kernels called with the same arguments, and the
difference: checks, look-ups, allocations and dispatch in Python. A time is the least of many
means over short loops, so that other processes on the same cores do not matter.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import numba_stn as stn
from numba_stn.kernels import cpu_launch

# A loop takes about this number of seconds, less than what the system gives a process at a time.
LOOP = 5e-4


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.call_cost",
                                     description=__doc__.split("\n")[0])  # fmt: skip
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="only rows whose name contains this")
    add("--loops", type=int, default=300, help="loops of each row; default: 300")
    args = parser.parse_args(argv)
    print("| call | microseconds | compiled code | the rest |\n| --- | --- | --- | --- |")
    for name, call in rows():
        if not args.names or any(part in name for part in args.names):
            whole, compiled = microseconds(call, args.loops), kernels_of(call, args.loops)
            print(f"| {name} | {whole:.1f} | {compiled:.1f} | {whole - compiled:.1f} |", flush=True)


def microseconds(call: Callable[[], Any], loops: int) -> float:
    """Measure the least mean of a call's time, in microseconds."""
    call()
    began = time.perf_counter()
    call()
    count = max(1, round(LOOP / (time.perf_counter() - began)))
    least = float("inf")
    for _ in range(loops):
        began = time.perf_counter()
        for _ in range(count):
            call()
        least = min(least, (time.perf_counter() - began) / count)
    return least * 1e6


def kernels_of(call: Callable[[], Any], loops: int) -> float:
    """Measure the kernels that a call launches, each called directly."""
    launched: list[Callable[[], Any]] = []
    run = cpu_launch.run

    def record(make, flags, work, *args):
        kernel = make(*flags, cpu_launch.parallel(work))
        launched.append(lambda: kernel(*args))
        run(make, flags, work, *args)

    cpu_launch.run = record
    try:
        call()
    finally:
        cpu_launch.run = run
    return sum(microseconds(kernel, loops) for kernel in launched)


# --- Rows -----------------------------------------------------------------------------------------


def rows() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the calls by name."""
    yield from batches()
    yield from derived()
    yield from single_images()


def batches() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield warps of a batch of one digit, and others of its size."""
    rng = np.random.default_rng(0)
    images = rng.random((1, 1, 28, 28), dtype=np.float32)
    colour = rng.random((2, 3, 28, 28), dtype=np.float32)
    theta = np.float32([[[0.9, -0.1, 0.05], [0.1, 0.9, 0.0]]])
    two, out = np.repeat(theta, 2, axis=0), np.empty_like(images)
    square = np.concatenate([theta, np.float32([[[0, 0.1, 1]]])], axis=1)
    grid = stn.affine_grid(theta, (28, 28))
    yield "warp_affine", lambda: stn.warp_affine(images, theta)
    yield "warp_affine, out", lambda: stn.warp_affine(images, theta, out=out)
    if hasattr(stn, "plan_warp"):
        plan = stn.plan_warp(images, theta)
        yield "plan_warp(...)(images, theta)", lambda: plan(images, theta)
        yield "plan_warp(...)(..., out)", lambda: plan(images, theta, out=out)
    yield "warp_affine to 1 x 1", lambda: stn.warp_affine(images, theta, (1, 1))
    yield "warp_affine, border", lambda: stn.warp_affine(images, theta, padding_mode="border")
    yield "warp_affine, nearest", lambda: stn.warp_affine(images, theta, mode="nearest")
    yield (
        "warp_affine 2 x 3, a fill each",
        (lambda: stn.warp_affine(colour, two, padding_mode="fill", fill=(0.1, 0.2, 0.3))),
    )
    yield "warp_affine NHWC", lambda: stn.warp_affine(colour, two, (3, 3), layout="NHWC")
    digits = (images * 255).astype(np.uint8)
    yield "warp_affine uint8", lambda: stn.warp_affine(digits, theta)
    yield "warp_affine coverage", lambda: stn.warp_affine(images, theta, coverage=True)
    yield "warp_affine antialias", lambda: stn.warp_affine(images, theta, (9, 9), antialias=True)
    volume, maps = images.reshape(1, 1, 7, 7, 16), np.eye(3, 4, dtype=np.float32)[None]
    yield "warp_affine 3-D", lambda: stn.warp_affine(volume, maps)
    yield "warp_affine_vjp", lambda: stn.warp_affine_vjp(images, images, theta)
    yield (
        "warp_affine_vjp, theta",
        lambda: stn.warp_affine_vjp(images, images, theta, wrt=["theta"]),
    )
    yield "warp_perspective", lambda: stn.warp_perspective(images, square)
    yield "warp_perspective_vjp", lambda: stn.warp_perspective_vjp(images, images, square)
    yield "affine_grid", lambda: stn.affine_grid(theta, (28, 28))
    yield "affine_grid_vjp", lambda: stn.affine_grid_vjp(grid)
    yield "grid_sample", lambda: stn.grid_sample(images, grid)
    yield "grid_sample_vjp", lambda: stn.grid_sample_vjp(images, images, grid)


def derived() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield functions built on the sampler."""
    rng = np.random.default_rng(0)
    images = rng.random((1, 1, 28, 28), dtype=np.float32)
    theta = np.float32([[[0.9, -0.1, 0.05], [0.1, 0.9, 0.0]]])
    grid = stn.affine_grid(theta, (28, 28))
    control = stn.control_points(3, np.float32)[None]
    points, values = rng.random((1, 20, 2)), np.ones((1, 1, 20))
    yield "warp_affine_jvp", lambda: stn.warp_affine_jvp(images, theta, images, theta)
    yield "grid_sample_jvp", lambda: stn.grid_sample_jvp(images, grid, images, grid)
    yield "warp_affine_gauss_newton", lambda: stn.warp_affine_gauss_newton(images, theta, images)
    yield "warp_tps", lambda: stn.warp_tps(images, control)
    yield "warp_tps_vjp", lambda: stn.warp_tps_vjp(images, images, control)
    yield "warp_tps_jvp", lambda: stn.warp_tps_jvp(images, control, images, control)
    yield "tps_grid", lambda: stn.tps_grid(control, (28, 28))
    yield "tps_grid_vjp", lambda: stn.tps_grid_vjp(grid, 3)
    yield "sample_points", lambda: stn.sample_points(images, points)
    yield (
        "sample_points_vjp",
        lambda: stn.sample_points_vjp(values.astype(np.float32), images, points),
    )
    yield "splat", lambda: stn.splat(values, points, (28, 28))
    yield "grid_from_displacement", lambda: stn.grid_from_displacement(grid)
    yield "grid_from_pixels", lambda: stn.grid_from_pixels(points, (28, 28))
    yield "pixels_from_grid", lambda: stn.pixels_from_grid(points, (28, 28))
    yield "compose_theta", lambda: stn.compose_theta(theta, theta)
    yield "invert_theta", lambda: stn.invert_theta(theta)


def single_images() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield functions of NumPy images."""
    rng = np.random.default_rng(0)
    image, out = rng.random((64, 64), dtype=np.float32), np.empty((64, 64), np.float32)
    photo = (rng.random((64, 64, 3)) * 255).astype(np.uint8)
    matrix = np.array([[0.9, 0.1, 2.0], [-0.1, 0.9, 3.0]])
    square = np.vstack([matrix, [0.0, 0.001, 1.0]])
    boxes = np.array([[0, 0, 32, 32], [5.5, 2, 40, 60], [1, 2, 3, 4]])
    yield "warp_image", lambda: stn.warp_image(image, matrix)
    yield "warp_image, out", lambda: stn.warp_image(image, matrix, out=out)
    yield "warp_image to 1 x 1", lambda: stn.warp_image(image, matrix, (1, 1))
    yield "warp_image, list", lambda: stn.warp_image(image, [[1, 0, 2], [0, 1, 3]], (1, 1))
    yield "warp_image, projective", lambda: stn.warp_image(image, square, (1, 1))
    yield "warp_image uint8 x 3", lambda: stn.warp_image(photo, matrix, (1, 1), fill=(9, 9, 9))
    yield "warp_image, bicubic", lambda: stn.warp_image(image, matrix, (1, 1), mode="bicubic")
    yield "resize 64 to 64", lambda: stn.resize(image, (64, 64))
    yield "resize 64 to 32", lambda: stn.resize(image, (32, 32))
    yield "rotate", lambda: stn.rotate(image, 10)
    yield "rotate, expand", lambda: stn.rotate(image, 10, expand=True)
    yield "rotate uint8 x 3", lambda: stn.rotate(photo, 10)
    yield "crop_and_resize, 3 boxes", lambda: stn.crop_and_resize(image, boxes, (8, 8))


if __name__ == "__main__":
    main()
