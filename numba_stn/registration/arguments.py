"""The arguments of ``register``: check them before anything is computed."""

from typing import Any, NamedTuple

import numpy as np

from ..kernels.math.dtypes import computed
from ..ops.validate import check_finite, check_integer, look_up
from .models import GROUPS
from .outliers import without_rim
from .pyramid import Images

METRICS = {"correlation": None, "intensity": None}
DTYPES = tuple(np.dtype(name) for name in ("uint8", "uint16", "float32", "float64"))

# Images of these are converted to floats.
CONVERTED = tuple(
    np.dtype(name) for name in ("bool", "int8", "int16", "float16", "int32", "uint32")
)

# The shortest side of an image in 2-D and 3-D.
LEAST_SIDE = {2: 16, 3: 8}

# If no start is given, the smallest ratio of the images' sides at which they may have different
# resolutions, and the largest ratio of those ratios.
LEAST_ZOOM, LARGEST_ASPECT = 1.2, 1.25

# The number of dimensions and the group of each transform.
TRANSFORMS = {
    **{name: (2, name) for name in (*GROUPS[2], "tps")},
    **{f"{name} 3-D": (3, name) for name in GROUPS[3]},
}


class Options(NamedTuple):
    """The optional arguments of ``register``, as they are given."""

    mask: Any
    moving_mask: Any
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
    images: Images
    starts: list[np.ndarray]  # square matrices between pixels; if one leads nowhere, try the next
    iterations: int
    tolerance: float
    control: int
    stiffness: float


def check_arguments(
    moving: np.ndarray, fixed: np.ndarray, transform: str, metric: str, options: Options
) -> Problem:
    """Check the arguments, of which the images are checked by :func:`native`."""
    dims, group = look_up("transform", transform, TRANSFORMS)
    look_up("metric", metric, METRICS)
    grey_moving, moving_mask = to_grey("moving", moving, options.moving_mask, "moving_mask", dims)
    grey_fixed, mask = to_grey("fixed", fixed, options.mask, "mask", dims)
    masks = without_rim(grey_moving, moving_mask), without_rim(grey_fixed, mask)
    images = Images(grey_moving, grey_fixed, *masks)
    if options.levels is not None:
        check_integer("levels", options.levels, 1)
    tolerance = non_negative("tolerance", options.tolerance)
    stiffness = non_negative("stiffness", options.stiffness)
    if tolerance == 0:
        raise ValueError("tolerance: expected a positive number, got 0")
    return Problem(
        transform, group, images, _starts(options.start, images, group),
        check_integer("iterations", options.iterations, 1), tolerance,
        check_integer("control", options.control, 2), stiffness,
    )  # fmt: skip


def native(name: str, image: Any) -> np.ndarray:
    """Check an image's type and dtype; give it in the byte order of this machine."""
    if isinstance(image, np.ma.MaskedArray):
        mask = "mask" if name == "fixed" else f"{name}_mask"
        raise TypeError(f"{name}: expected an array without a mask, got a masked array; pass "
                        f"{name}.filled(0), and {mask}=~np.ma.getmaskarray({name})")  # fmt: skip
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(image).__name__}")
    dtype = image.dtype.newbyteorder("=")
    if dtype not in (*DTYPES, *CONVERTED):
        hint = f"np.abs({name})" if dtype.kind == "c" else f"{name}.astype(np.float64)"
        raise TypeError(f"{name}: expected one of {', '.join(map(str, (*DTYPES, *CONVERTED)))}, "
                        f"got {image.dtype}; {hint} may be what you mean")  # fmt: skip
    return image.astype(dtype, copy=False)


def to_grey(
    name: str, image: np.ndarray, mask: Any, mask_name: str, dims: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Check an image and its mask, and average its channels."""
    if image.ndim not in ((2, 3) if dims == 2 else (3,)):
        shape = "(H, W) or (H, W, C)" if dims == 2 else "(D, H, W)"
        raise ValueError(f"{name}: expected shape {shape}, got {image.shape}")
    if min(image.shape[:dims]) < LEAST_SIDE[dims] or 0 in image.shape:
        raise ValueError(
            f"{name}: expected sides of at least {LEAST_SIDE[dims]} pixels, got {image.shape}"
        )
    if image.dtype not in DTYPES:
        image = image.astype(computed(image.dtype))
    if image.ndim > dims:
        with np.errstate(invalid="ignore", over="ignore"):  # of pixels that are not finite
            dtype = np.float32 if image.dtype != np.float64 else np.float64
            image = image.mean(axis=-1, dtype=dtype)
    mask = None if mask is None else _mask(mask_name, mask, image.shape)
    compared = image if mask is None else image[mask]
    if image.dtype.kind == "f" and not np.isfinite(compared).all():
        where = "" if mask is None else " where its mask is true"
        raise ValueError(f"{name}: expected finite numbers{where}, got some that are not")
    if compared.min() == compared.max():
        raise ValueError(f"{name}: expected an image that varies, got a constant one")
    return np.ascontiguousarray(image), mask


def non_negative(name: str, value: Any) -> float:
    """Check a finite number that is at least 0."""
    wanted = "a finite number that is at least 0"
    number = float(check_finite(name, value, wanted, lambda shape: not shape))
    if number < 0:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return number


def _mask(name, mask, sides):
    """Check a mask."""
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"{name}: expected bool, got {mask.dtype}")
    if mask.shape != sides:
        raise ValueError(f"{name}: expected the image's sides {sides}, got {mask.shape}")
    if np.count_nonzero(mask) < LEAST_SIDE[2] ** 2:
        raise ValueError(
            f"{name}: expected at least {LEAST_SIDE[2] ** 2} pixels, got {np.count_nonzero(mask)}"
        )
    return mask


def _starts(start, images, group):
    """Check the initial matrix. By default, the centres of the images are aligned.

    If the sides of one image are larger by one factor, it may show more of the scene, or the same
    with a higher resolution: then there are two matrices.
    """
    sides, dims = images.fixed.shape, images.fixed.ndim
    if start is None:
        starts = [_centred(images, 1.0)]
        zooms = np.array(images.moving.shape) / sides
        zoom = float(zooms.prod() ** (1 / dims))
        alike = zooms.max() < LARGEST_ASPECT * zooms.min()
        if group not in ("translation", "rigid") and alike and max(zoom, 1 / zoom) > LEAST_ZOOM:
            starts.append(_centred(images, zoom))
        return starts
    shapes = [(dims, dims + 1), (3, 3)] if group == "projective" else [(dims, dims + 1)]
    wanted = " or ".join(map(str, shapes)) + " finite numbers"
    given = check_finite("start", start, wanted, lambda shape: shape in shapes)
    matrix = np.eye(dims + 1)
    matrix[: len(given)] = given
    if not abs(np.linalg.det(matrix)) > 1e-12 or matrix[-1, -1] == 0:
        raise ValueError(f"start: expected an invertible matrix, got {given.tolist()}")
    return [matrix / matrix[-1, -1]]


def _centred(images, zoom):
    """The matrix that aligns the images' centres, and multiplies by ``zoom``."""
    dims = images.fixed.ndim
    moving, fixed = (
        (np.array(image.shape[::-1]) - 1) / 2 for image in (images.moving, images.fixed)
    )
    matrix = np.diag([*[zoom] * dims, 1.0])
    matrix[:dims, dims] = moving - zoom * fixed
    return matrix
