"""The arguments of ``register``: check them before anything is computed."""

from typing import Any, NamedTuple

import numpy as np

from ..ops.validate import check_finite, check_integer, look_up
from .models import GROUPS
from .pyramid import Frame

METRICS = {"correlation": None, "intensity": None}
DTYPES = tuple(np.dtype(name) for name in ("uint8", "uint16", "float32", "float64"))

# The shortest side of an image in 2-D and 3-D.
LEAST_SIDE = {2: 16, 3: 8}

# The number of dimensions and the group of each transform.
TRANSFORMS = {
    **{name: (2, name) for name in (*GROUPS[2], "tps")},
    **{f"{name} 3-D": (3, name) for name in GROUPS[3]},
}


class Options(NamedTuple):
    """The optional arguments of ``register``, as they are given."""

    mask: Any
    start: Any
    levels: Any
    iterations: Any
    tolerance: Any
    control: Any
    stiffness: Any


class Problem(NamedTuple):
    """The checked arguments of ``register``, with grey images and the group's name."""

    name: str
    group: str  # one of GROUPS, or "tps"
    moving: np.ndarray
    fixed: np.ndarray
    mask: np.ndarray | None
    start: np.ndarray  # a square matrix between pixels
    iterations: int
    tolerance: float
    control: int
    stiffness: float

    def start_matrix(self, moving: Frame, fixed: Frame) -> np.ndarray:
        """The initial matrix between coordinates."""
        return np.linalg.inv(moving.to_pixels()) @ self.start @ fixed.to_pixels()


def check_arguments(
    moving: Any, fixed: Any, transform: str, metric: str, options: Options
) -> Problem:
    """Check the arguments; the message of an error names the argument."""
    dims, group = look_up("transform", transform, TRANSFORMS)
    look_up("metric", metric, METRICS)
    grey, target = to_grey("moving", moving, dims), to_grey("fixed", fixed, dims)
    mask = None if options.mask is None else _mask(options.mask, target)
    for name, image in (("moving", grey), ("fixed", target if mask is None else target[mask])):
        if image.min() == image.max():
            raise ValueError(f"{name}: expected an image that varies, got a constant one")
    if options.levels is not None:
        check_integer("levels", options.levels, 1)
    tolerance = non_negative("tolerance", options.tolerance)
    stiffness = non_negative("stiffness", options.stiffness)
    if tolerance == 0:
        raise ValueError("tolerance: expected a positive number, got 0")
    return Problem(
        transform, group, grey, target, mask, _start(options.start, grey, target, group),
        check_integer("iterations", options.iterations, 1), tolerance,
        check_integer("control", options.control, 2), stiffness,
    )  # fmt: skip


def to_grey(name: str, image: Any, dims: int) -> np.ndarray:
    """Check an image and average its channels."""
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(image).__name__}")
    if image.dtype not in DTYPES:
        raise TypeError(f"{name}: expected one of {', '.join(map(str, DTYPES))}, got {image.dtype}")
    if image.ndim not in ((2, 3) if dims == 2 else (3,)):
        shape = "(H, W) or (H, W, C)" if dims == 2 else "(D, H, W)"
        raise ValueError(f"{name}: expected shape {shape}, got {image.shape}")
    if min(image.shape[:dims]) < LEAST_SIDE[dims] or 0 in image.shape:
        raise ValueError(
            f"{name}: expected sides of at least {LEAST_SIDE[dims]} pixels, got {image.shape}"
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError(f"{name}: expected finite numbers, got some that are not")
    if image.ndim > dims:
        image = image.mean(axis=-1, dtype=np.float32 if image.dtype != np.float64 else np.float64)
    return np.ascontiguousarray(image)


def non_negative(name: str, value: Any) -> float:
    """Check a finite number that is at least 0."""
    wanted = "a finite number that is at least 0"
    number = float(check_finite(name, value, wanted, lambda shape: not shape))
    if number < 0:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return number


def _mask(mask, fixed):
    """Check a mask."""
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask: expected bool, got {mask.dtype}")
    if mask.shape != fixed.shape:
        raise ValueError(f"mask: expected the fixed image's shape {fixed.shape}, got {mask.shape}")
    if np.count_nonzero(mask) < LEAST_SIDE[2] ** 2:
        raise ValueError(
            f"mask: expected at least {LEAST_SIDE[2] ** 2} pixels, got {np.count_nonzero(mask)}"
        )
    return mask


def _start(start, moving, fixed, group):
    """Check the initial matrix; by default, the centres of the images are aligned."""
    dims = fixed.ndim
    matrix = np.eye(dims + 1)
    if start is None:
        offsets = [(a - b) / 2 for a, b in zip(moving.shape, fixed.shape, strict=True)]
        matrix[:dims, dims] = offsets[::-1]
        return matrix
    shapes = [(dims, dims + 1), (3, 3)] if group == "projective" else [(dims, dims + 1)]
    wanted = " or ".join(map(str, shapes)) + " finite numbers"
    given = check_finite("start", start, wanted, lambda shape: shape in shapes)
    matrix[: len(given)] = given
    if not abs(np.linalg.det(matrix)) > 1e-12:
        raise ValueError(f"start: expected an invertible matrix, got {given.tolist()}")
    return matrix / matrix[-1, -1]
