"""Warps for NumPy image code: one image (H, W) or (H, W, C), a matrix between pixels.

Channels are last, and pixel centres are integers, as in OpenCV, scikit-image and SciPy.
:mod:`numba_stn.ops` has the same for batches (N, C, H, W), with normalised coordinates and
gradients.
"""

from typing import Any

import numpy as np

from ..kernels.math.sampler_kind import AFFINE, PROJECTIVE, Kind
from ..ops.docstrings import documented
from ..ops.validate import (
    MODES,
    PADDINGS,
    check_image_shape,
    choose_backend_for_image,
    expand_fill,
    look_up,
)

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
    {image_mode, image_padding_mode, image_fill, image_out, stream}

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
    source, matrix = _check_matrix(matrix)
    kind = Kind(
        source,
        look_up("mode", mode, MODES),
        look_up("padding_mode", padding_mode, PADDINGS),
        channels_last=True,
        between_pixels=True,
    )
    kernels, image = choose_backend_for_image(image, stream)
    sides = image.shape[:2] if shape is None else check_image_shape(shape)
    numbers = expand_fill(fill, (*image.shape, 1)[2], image.dtype).astype(image.dtype)
    result = kernels.output((*sides, *image.shape[2:]), image, image, out, stream)
    if result.size:
        kernels.warp_image(kind, image, matrix, numbers, result)
    return kernels.returned(result, out)


def _check_matrix(matrix):
    """Return the kind of map and the matrix as (3, 3) float64."""
    try:
        found = np.asarray(matrix, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"matrix: expected numbers (2, 3) or (3, 3), got {matrix!r}") from None
    if found.shape not in ((2, 3), (3, 3)):
        raise ValueError(f"matrix: expected shape (2, 3) or (3, 3), got {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"matrix: expected finite numbers, got {found.tolist()}")
    if len(found) == 2:
        return AFFINE, np.vstack([found, [0, 0, 1]])
    if not found[2].any():
        raise ValueError(f"matrix: expected a last row other than zeros, got {found.tolist()}")
    if found[2, 0] == found[2, 1] == 0:
        return AFFINE, found / found[2, 2]
    return PROJECTIVE, np.ascontiguousarray(found)
