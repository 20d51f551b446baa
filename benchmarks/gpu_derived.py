"""More checks of :mod:`benchmarks.gpu`: other samplers, and the functions built on the sampler.

These are every interpolation, volumes, forward derivatives, normal equations, antialiasing,
splines, and displacement fields. The oracle is this package's CPU kernels in float64, which the
tests compare with slower code. Where slopes are compared, they have no jumps, at which rounding
could select another slope.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import numba_stn as stn
from numba_stn import deformations
from numba_stn.bench.rows import MissingError, relative_difference

from .gpu_arrays import Gpu, host
from .gpu_checks import QUICK_SHAPES, SHAPES, Shape

# The number of control points along a side.
POINTS = 3

# The sides of volumes, and of their samples.
BOX, BOX_OUT = (3, 4, 5), (2, 5, 3)


class Inputs(NamedTuple):
    """Arrays and their tangents: one of each kind for each map, and one image or several."""

    images: Any
    grid: Any
    theta: Any
    square: Any
    control: Any
    dsamples: Any
    volumes: Any
    grid_3d: Any
    theta_3d: Any
    dvolumes: Any
    field: Any
    images_dot: Any
    grid_dot: Any
    theta_dot: Any
    square_dot: Any
    control_dot: Any

    @property
    def size(self):
        """The sides of the samples."""
        return tuple(self.dsamples.shape[2:])


def draw(shape: Shape, real: type) -> Inputs:
    """Draw random inputs; some coordinates are outside the images, and some maps shrink."""
    rng = np.random.default_rng(1)
    normal, count = rng.standard_normal, shape.maps
    square = np.eye(3) * rng.uniform(0.8, 2.5, (count, 1, 1)) + 0.2 * normal((count, 3, 3))
    square[:, 2] = [0.1, -0.15, 1]
    given = {
        "images": normal((shape.count, shape.channels, *shape.sides)),
        "grid": rng.uniform(-1.6, 1.6, (count, *shape.size, 2)),
        "theta": square[:, :2].copy(),
        "square": square,
        "control": stn.control_points(POINTS) + 0.2 * normal((count, POINTS**2, 2)),
    }
    dots = {f"{name}_dot": normal(array.shape) for name, array in given.items()}
    given |= dots | {"dsamples": normal((count, shape.channels, *shape.size))}
    given |= {
        "volumes": normal((shape.count, shape.channels, *BOX)),
        "grid_3d": rng.uniform(-1.6, 1.6, (count, *BOX_OUT, 3)),
        "theta_3d": np.eye(3, 4) + 0.3 * normal((count, 3, 4)),
        "dvolumes": normal((count, shape.channels, *BOX_OUT)),
        "field": 2 * normal((count, *shape.size, 2)),
    }
    return Inputs(**{name: array.astype(real) for name, array in given.items()})


# --- The calls ------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call, the names of its results, and the number of terms of a coordinate."""

    run: Callable[[Inputs], Any]
    results: tuple[str, ...]
    terms: int = 3


CUBIC = {"mode": "bicubic"}
SPLINE = POINTS**2 + 3


def both_ways(name, coords, x, sides=(), **options):
    """Compute samples, their coverage, and both gradients."""
    warp, vjp = getattr(stn, name), getattr(stn, f"{name}_vjp")
    forward = warp(x.images, coords, *sides, coverage=True, **options)
    return *forward, *vjp(x.dsamples, x.images, coords, **options)


def volumes(name, coords, x, sides=(), **options):
    """Compute samples of volumes, and the volumes' gradient: linear slopes have jumps."""
    warp, vjp = getattr(stn, name), getattr(stn, f"{name}_vjp")
    forward = warp(x.volumes, coords, *sides, **options)
    return forward, vjp(x.dvolumes, x.volumes, coords, wrt=("images",), **options)[0]


def of_cupy(function, x):
    """Call a function that takes arrays of NumPy and CuPy, of the libraries of arrays."""
    if type(x.images).__module__.partition(".")[0] not in ("numpy", "cupy"):
        raise MissingError("it takes arrays of CuPy, which is not installed, or finds no GPU")
    return function(x)


def interpolated(name, coords, mode, padding):
    """A call that computes samples and gradients in a mode and with a padding."""

    def run(x):
        sides = [] if name == "grid_sample" else [x.size]
        options = {"mode": mode, "padding_mode": padding}
        options |= {"fill": 0.5} if padding == "fill" else {}
        return both_ways(name, getattr(x, coords), x, sides, **options)

    return run


GRADIENTS = ("samples", "covered", "dimages", "dcoords")
# The modes whose slopes have no jumps, with every source and padding.
INTERPOLATIONS = (
    ("grid_sample", "grid", "spline2", "mirror"),
    ("warp_affine", "theta", "spline3", "zeros"),
    ("grid_sample", "grid", "spline3", "fill"),
    ("warp_affine", "theta", "spline4", "border"),
    ("warp_perspective", "square", "spline5", "wrap"),
    ("grid_sample", "grid", "lanczos4", "reflection"),
    ("warp_affine", "theta", "lanczos4", "mirror"),
    ("warp_affine", "theta", "catmull-rom", "fill"),
    ("grid_sample", "grid", "catmull-rom", "mirror"),
)
CALLS = {
    **{f"{name} {mode} {padding}": Call(interpolated(name, coords, mode, padding), GRADIENTS)
       for name, coords, mode, padding in INTERPOLATIONS},
    "grid_sample of volumes": Call(
        lambda x: volumes("grid_sample", x.grid_3d, x, padding_mode="mirror"),
        ("samples", "dimages"),
    ),
    "warp_affine of volumes": Call(
        lambda x: volumes("warp_affine", x.theta_3d, x, [BOX_OUT]), ("samples", "dimages")
    ),
    "integrate_velocity": Call(
        lambda x: of_cupy(lambda x: deformations.integrate_velocity(x.field), x),
        ("displacement",), 60,
    ),
    "grid_sample_linearised_vjp": Call(
        lambda x: of_cupy(
            lambda x: stn.grid_sample_linearised_vjp(x.dsamples, x.images, x.grid), x
        ),
        ("dgrid",), 60,
    ),
    "grid_sample bicubic reflection": Call(
        lambda x: both_ways("grid_sample", x.grid, x, padding_mode="reflection", **CUBIC),
        GRADIENTS,
    ),
    "warp_perspective bicubic wrap": Call(
        lambda x: both_ways(
            "warp_perspective", x.square, x, [x.size], padding_mode="wrap", **CUBIC
        ),
        GRADIENTS,
    ),
    "warp_affine antialias": Call(
        lambda x: both_ways("warp_affine", x.theta, x, [x.size], antialias=True, **CUBIC),
        GRADIENTS,
    ),
    "warp_perspective antialias border": Call(
        lambda x: both_ways(
            "warp_perspective", x.square, x, [x.size], antialias=True, padding_mode="border",
            **CUBIC,
        ),
        GRADIENTS,
    ),
    "warp_tps": Call(
        lambda x: both_ways("warp_tps", x.control, x, [x.size], regularisation=0.1, **CUBIC),
        GRADIENTS, SPLINE,
    ),
    "tps_grid": Call(
        lambda x: (stn.tps_grid(x.control, x.size), stn.tps_grid_vjp(x.grid, POINTS)),
        ("grid", "dcontrol"), SPLINE,
    ),
    "grid_sample_jvp": Call(
        lambda x: stn.grid_sample_jvp(x.images, x.grid, x.images_dot, x.grid_dot, **CUBIC),
        ("samples_dot",),
    ),
    "warp_affine_jvp": Call(
        lambda x: stn.warp_affine_jvp(
            x.images, x.theta, x.images_dot, x.theta_dot, x.size, padding_mode="border", **CUBIC
        ),
        ("samples_dot",),
    ),
    "warp_perspective_jvp": Call(
        lambda x: stn.warp_perspective_jvp(
            x.images, x.square, x.images_dot, x.square_dot, x.size, **CUBIC
        ),
        ("samples_dot",),
    ),
    "warp_tps_jvp": Call(
        lambda x: stn.warp_tps_jvp(
            x.images, x.control, x.images_dot, x.control_dot, x.size, **CUBIC
        ),
        ("samples_dot",), SPLINE,
    ),
    "warp_affine_gauss_newton": Call(
        lambda x: stn.warp_affine_gauss_newton(x.images, x.theta, x.dsamples, **CUBIC),
        ("jtj", "jtr"),
    ),
}  # fmt: skip


def results(call: Call, x: Inputs) -> dict[str, Any]:
    """Make a call, and copy its results to the host."""
    found = call.run(x)
    found = found if isinstance(found, tuple) else (found,)
    return dict(zip(call.results, map(host, found), strict=True))


# --- The checks -----------------------------------------------------------------------------------


def tolerance(call: Call, shape: Shape, x: Inputs) -> float:
    """The largest error allowed, as a share of the largest value.

    As in :func:`.gpu_checks.tolerance`, except that the slopes of a cubic change by several times
    its values from pixel to pixel, and the coordinates of a spline are sums of more terms.
    """
    reach = 2 * max(shape.sides)
    units = float(np.prod(shape.size)) * shape.maps * 2.0**-57
    return float(np.finfo(x.images.dtype).eps) * (32 + 8 * reach * call.terms) + units


def correct(gpu: Gpu, name: str, shape: Shape, real: type) -> dict[str, Any]:
    """Compute the errors of a call, and describe what is wrong."""
    call, x = CALLS[name], draw(shape, real)
    expected = results(call, Inputs(*(array.astype(float) for array in x)))
    found, most = results(call, Inputs(*map(gpu.put, x))), tolerance(call, shape, x)
    errors, wrong = {}, []
    for part, exact in expected.items():
        error = float(relative_difference(found[part], exact).max())
        digits = {"ours": error if np.isfinite(error) else None, "tolerance": most}
        errors[part] = {who: size and float(f"{size:.3g}") for who, size in digits.items()}
        if not error <= most:  # NaN too
            wrong.append(f"{part} is off by {error:.2g}, more than {most:.2g}")
    return {"check": named(name, shape, real), "op": f"{name} {np.dtype(real)}",
            "oracle": "numba_stn's CPU kernels, float64", "errors": errors,
            "wrong": "; ".join(wrong)}  # fmt: skip


def repeated(gpu: Gpu, name: str, shape: Shape) -> dict[str, Any]:
    """Test whether a call gives the same bits again, alone and while the device is busy."""
    call, x = CALLS[name], Inputs(*map(gpu.put, draw(shape, np.float32)))
    first, wrong = results(call, x), []
    for when, busy in (("alone", False), ("during other work", True)):
        with gpu.busy() if busy else contextlib.nullcontext():
            again = results(call, x)
        wrong += [f"{part} has other bits the second time, {when}"
                  for part in first if first[part].tobytes() != again[part].tobytes()]  # fmt: skip
    return {"check": f"same bits: {name}", "beside": bool(gpu.cupy or gpu.torch),
            "wrong": "; ".join(wrong)}  # fmt: skip


def named(name, shape, real):
    """Name a check."""
    images = "x".join(map(str, (shape.count, shape.channels, *shape.sides)))
    return f"correct: {name} {np.dtype(real)} {images}"


def checks(gpu: Gpu, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """Give all checks by name, for a shape with several maps and for a large one."""
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    shapes = QUICK_SHAPES[:1] if quick else (SHAPES[1], SHAPES[3])
    for name in CALLS:
        for shape in shapes:
            for real in (np.float32, np.float64):
                run = functools.partial(correct, gpu, name, shape, real)
                found[named(name, shape, real)] = run
        found[f"same bits: {name}"] = functools.partial(repeated, gpu, name, shapes[0])
    return found
