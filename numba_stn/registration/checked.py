"""The arguments of ``register``: one clear error before anything is computed."""

from typing import Any, NamedTuple

import numpy as np

from ..ops.validate import chosen, finite_numbers, whole_number
from .models import GROUPS
from .pyramid import Frame

METRICS = {"correlation": None, "intensity": None}
DTYPES = tuple(np.dtype(name) for name in ("uint8", "uint16", "float32", "float64"))

# The shortest sides that are taken.
LEAST_SIDE = {2: 16, 3: 8}

# Dimensions and group by name.
TRANSFORMS = {
    **{name: (2, name) for name in (*GROUPS[2], "tps")},
    **{f"{name} 3-D": (3, name) for name in GROUPS[3]},
}


class Job(NamedTuple):
    """What ``register`` was asked for, as it is used: grey images and a group's name."""

    name: str
    transform: str
    moving: np.ndarray
    fixed: np.ndarray
    mask: np.ndarray | None
    start: np.ndarray
    iterations: int
    tolerance: float
    control: int
    stiffness: float

    def start_in(self, moving: Frame, fixed: Frame) -> np.ndarray:
        """The first guess, in coordinates."""
        return np.linalg.inv(moving.to_pixels()) @ self.start @ fixed.to_pixels()


def checked(
    moving: Any, fixed: Any, transform: str, metric: str, *, mask: Any, start: Any, levels: Any,
    iterations: Any, tolerance: Any, control: Any, stiffness: Any,
) -> Job:  # fmt: skip
    """The job, if it is one."""
    dims, group = chosen("transform", transform, TRANSFORMS)
    chosen("metric", metric, METRICS)
    grey, target = grey_of("moving", moving, dims), grey_of("fixed", fixed, dims)
    if mask is not None:
        mask = _mask(mask, target)
    for name, image in (("moving", grey), ("fixed", target if mask is None else target[mask])):
        if image.min() == image.max():
            raise ValueError(f"{name}: expected an image that varies, got a constant one")
    if levels is not None:
        whole_number("levels", levels, 1)
    tolerance, stiffness = number("tolerance", tolerance), number("stiffness", stiffness)
    if tolerance == 0:
        raise ValueError("tolerance: expected a positive number, got 0")
    return Job(
        transform, group, grey, target, mask, _start(start, grey, target, dims, group),
        whole_number("iterations", iterations, 1), tolerance, whole_number("control", control, 2),
        stiffness,
    )  # fmt: skip


def grey_of(name: str, image: Any, dims: int) -> np.ndarray:
    """One number a pixel, if it is an image: the mean of its channels."""
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(image).__name__}")
    if image.dtype not in DTYPES:
        raise TypeError(f"{name}: expected one of {', '.join(map(str, DTYPES))}, got {image.dtype}")
    if image.ndim not in ((2, 3) if dims == 2 else (3,)):
        shape = "(H, W) or (H, W, C)" if dims == 2 else "(D, H, W)"
        raise ValueError(f"{name}: expected shape {shape}, got {image.shape}")
    if min(image.shape[:dims]) < LEAST_SIDE[dims] or 0 in image.shape:
        raise ValueError(
            f"{name}: expected sides of {LEAST_SIDE[dims]} pixels at least, got {image.shape}"
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError(f"{name}: expected finite numbers, got some that are not")
    if image.ndim > dims:
        image = image.mean(axis=-1, dtype=np.float32 if image.dtype != np.float64 else np.float64)
    return np.ascontiguousarray(image)


def number(name: str, value: Any) -> float:
    """A finite number from 0 on."""
    found = float(finite_numbers(name, value, "a finite number from 0 on", lambda shape: not shape))
    if found < 0:
        raise ValueError(f"{name}: expected a finite number from 0 on, got {value!r}")
    return found


def _mask(mask, fixed):
    """Which pixels count."""
    found = np.asarray(mask)
    if found.dtype != np.bool_:
        raise TypeError(f"mask: expected bool, got {found.dtype}")
    if found.shape != fixed.shape:
        raise ValueError(f"mask: expected the fixed image's {fixed.shape}, got {found.shape}")
    if np.count_nonzero(found) < LEAST_SIDE[2] ** 2:
        raise ValueError(
            f"mask: expected {LEAST_SIDE[2] ** 2} pixels at least, got {np.count_nonzero(found)}"
        )
    return found


def _start(start, moving, fixed, dims, group):
    """The first guess, as a matrix between pixels."""
    found = np.eye(dims + 1)
    if start is None:
        found[:dims, dims] = [(a - b) / 2 for a, b in zip(moving.shape, fixed.shape, strict=True)][
            ::-1
        ]
        return found
    shapes = [(dims, dims + 1), (3, 3)] if group == "projective" else [(dims, dims + 1)]
    wanted = " or ".join(map(str, shapes)) + " finite numbers"
    given = finite_numbers("start", start, wanted, lambda shape: shape in shapes)
    found[: len(given)] = given
    if not abs(np.linalg.det(found)) > 1e-12:
        raise ValueError(f"start: expected a matrix with an inverse, got {given.tolist()}")
    return found / found[-1, -1]
