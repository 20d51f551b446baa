"""Warps for NumPy image code: one image (H, W) or (H, W, C), a matrix between pixels.

Channels are last, and pixel centres are integers, as in OpenCV, scikit-image and SciPy.
:mod:`numba_stn.ops` has the same for batches (N, C, H, W), with normalised coordinates and
gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..ops.docstrings import documented
from ..ops.validate import check_flag, check_image_shape, fill_key, remember
from . import dask_images
from .alpha import premultiplied
from .antialias import check_on_cpu, warp_means
from .dask_images import choose_kernels
from .patches import Means, Warp
from .pixel_maps import check_matrix, check_sampler

__all__ = ["warp_image"]


@documented
def warp_image(
    image: Any,
    matrix: Any,
    shape: tuple[int, int] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    fill: Any = 0,
    alpha: bool = False,
    antialias: bool = False,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Warp an image by a matrix from output pixels to input pixels.

    ``image (H, W[, C]), matrix (2, 3) or (3, 3) -> out (H_out, W_out[, C])``

    ``out[y, x]`` is the image at ``(u / w, v / w)`` with ``(u, v, w) = matrix @ (x, y, 1)``; w is 1
    for a (2, 3) matrix. With bilinear mode this is what ``cv2.warpAffine(..., flags=INTER_LINEAR |
    WARP_INVERSE_MAP)`` and ``skimage.transform.warp(image, matrix)`` compute. Coordinates are
    exact to two millionths of an output pixel, see below.

    Parameters
    ----------
    {image}
    matrix : (2, 3) or (3, 3) array
        Maps output pixels (x, y) to input pixels (x, y); pixel centres are integers.
    shape : (H_out, W_out), optional
        The output's sides; by default, those of the image.
    {image_mode, image_padding_mode, image_fill, image_alpha, image_antialias, image_out, stream}

    Returns
    -------
    out : (H_out, W_out) or (H_out, W_out, C) array of the image's dtype

    Raises
    ------
    {errors}

    See Also
    --------
    numba_stn.rotate, numba_stn.resize, numba_stn.crop_and_resize : Compute the matrix themselves.
    numba_stn.warp_affine : Warps batches, with gradients.

    Notes
    -----
    A coordinate's error is at most 2e-7 plus 2e-6 times its step, in input pixels. The step is the
    change of that coordinate from one output column to the next, ``matrix[0, 0]`` or
    ``matrix[1, 0]``. The error does not depend on the image's sides, nor on rows. It is below 2e-7
    where a (3, 3) matrix divides, and in float64 images. On a GPU coordinates are float32, except
    for a float64 image:
    their error grows with the sides.

    :mod:`numba_stn.transforms.matrices` converts from and to the matrices of OpenCV, scikit-image,
    SciPy and PyTorch.

    Examples
    --------
    Sample half a pixel further right; rotate by 90 degrees:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.uint8([[0, 10, 20], [30, 40, 50]])
    >>> stn.warp_image(image, [[1, 0, 0.5], [0, 1, 0]], padding_mode="border")
    array([[ 5, 15, 20],
           [35, 45, 50]], dtype=uint8)
    >>> stn.warp_image(image, [[0, 1, 0], [-1, 0, 1]], (3, 2))
    array([[30,  0],
           [40, 10],
           [50, 20]], dtype=uint8)
    """
    if alpha:
        return premultiplied(warp_image, image, matrix, shape, mode=mode, fill=fill, out=out,
                             padding_mode=padding_mode, antialias=antialias,
                             stream=stream)  # fmt: skip
    found = check_matrix(matrix)
    kernels, image = choose_kernels(image, stream, out)
    sides = image.shape[:2] if shape is None else check_image_shape(shape)
    options = mode, padding_mode, fill
    if antialias is not False:
        return warp_antialiased(kernels, image, found, options, sides, antialias, out, stream)
    return warp_by(kernels, image, found, options, sides, out, stream)


# --- Plans ----------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """The output's shape, and ``warp(image, matrix, out)``, which fills it."""

    shape: tuple[int, ...]
    warp: Callable[[Any, Any, Any], None]


_plans: dict[Any, Plan] = {}


def warp_by(kernels, image, found, options, sides, out=None, stream=None):
    """Warp an image as :func:`.choose_backend_for_image` returns it.

    ``found`` is the kind of map and the (3, 3) float64 matrix; ``options`` are the caller's mode,
    padding mode and fill. The checked arguments of earlier calls are looked up all at once.
    """
    if kernels is dask_images:
        return dask_images.compute_lazily(image, Warp.of(image, found, options, sides))
    kind, matrix = found
    mode, padding_mode, fill = options
    try:
        exact = fill if type(fill) is int else fill_key(fill)
        key: Any = kernels, kind, image.shape, image.dtype, mode, padding_mode, exact, sides
        plan = _plans.get(key)
    except TypeError:
        key = plan = None
    if plan is None:
        plan = _make_plan(kernels, kind, image, options, sides)
        if key is not None:
            remember(_plans, key, plan)
    result = kernels.output(plan.shape, image, image, out, stream)
    if result.size:
        plan.warp(image, matrix, result)
    return kernels.returned(result, out)


def warp_antialiased(kernels, image, found, options, sides, antialias, out=None, stream=None):
    """Warp as :func:`warp_by` does, but by means over areas if ``antialias`` is true."""
    if not check_flag("antialias", antialias):
        return warp_by(kernels, image, found, options, sides, out, stream)
    check_on_cpu(kernels, stream)
    check_sampler(found[0][0], image, options)
    if kernels is dask_images:
        return dask_images.compute_lazily(image, Means.of(image, found[1], options, sides))
    return warp_means(_warp_plain, kernels, image, found[1], options, sides, out)


def _warp_plain(kernels, image, matrix, options, sides):
    return warp_by(kernels, image, check_matrix(matrix), options, sides)


def _make_plan(kernels, kind, image, options, sides):
    """Check the options, and prepare the warp."""
    source, form = kind
    sampler, fill = check_sampler(source, image, options)
    shape = (*sides, *image.shape[2:])
    warp = kernels.prepare_warp(sampler, form, fill, image.shape, image.dtype, shape)
    return Plan(shape, warp)
