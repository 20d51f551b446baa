"""Conversion of :func:`numba_stn.warp_image`'s matrices from and to those of other libraries.

Our matrix maps output pixels (x, y) to input pixels (x, y), with pixel centres at integers. The
matrices of other libraries differ in direction, in the order of the axes, and in units:

============  ================  ==========  =======================================
library       direction         axes        units
============  ================  ==========  =======================================
OpenCV        input to output   (x, y)      pixels
scikit-image  output to input   (x, y)      pixels
SciPy         output to input   (row, col)  pixels
PyTorch       output to input   (x, y)      [-1, 1] across each side: ``theta``
============  ================  ==========  =======================================

Each function takes one matrix or a stack of them, and returns float64.
"""

from typing import Any

import numpy as np

from ..ops.docstrings import documented
from .fits import fit_projective
from .matrix_checks import (
    as_3x3,
    check_affine,
    check_four_points,
    check_numbers,
    drop_last_row,
    invert,
)

__all__ = [
    "from_opencv",
    "from_points",
    "from_scipy",
    "from_skimage",
    "from_theta",
    "to_opencv",
    "to_scipy",
    "to_skimage",
    "to_theta",
]

Array = Any

# Exchanges x and y.
_SWAP = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])


# --- Points ---------------------------------------------------------------------------------------


def from_points(points: Array, images: Array) -> np.ndarray:
    """Compute the projective matrix that maps four points to four others.

    ``points (..., 4, 2), images (..., 4, 2) -> matrix (..., 3, 3)``

    ``(u, v) = ((a x + b y + c) / w, (d x + e y + f) / w)`` with ``w = g x + h y + i`` gives two
    linear equations per point for the nine entries, up to a factor (Hartley and Zisserman 2004,
    section 4.1). The last entry is 1; if it must be 0, because the origin goes to infinity, the
    largest is 1 or -1. The units are those of the points: pixels for :func:`numba_stn.warp_image`,
    normalised coordinates for a theta of :func:`numba_stn.warp_perspective`.
    :func:`numba_stn.estimate` takes any number of points.

    Parameters
    ----------
    points : (..., 4, 2) array
        (x, y) of each point.
    images : (..., 4, 2) array
        (x, y) that the matrix maps each point to.

    Returns
    -------
    matrix : (..., 3, 3) array
        The same as ``cv2.getPerspectiveTransform(points, images)``, for each of a stack.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite, or three of the points lie on a line.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import from_points
    >>> square = [[0, 0], [1, 0], [0, 1], [1, 1]]
    >>> from_points(square, [[0, 0], [2, 0], [0, 3], [2, 3]]).round(9) + 0.0
    array([[2., 0., 0.],
           [0., 3., 0.],
           [0., 0., 1.]])
    """
    points, images = check_four_points("points", points), check_four_points("images", images)
    points, images = np.broadcast_arrays(points, images)
    return fit_projective(points, images, np.ones(4))


# --- OpenCV ---------------------------------------------------------------------------------------


def from_opencv(matrix: Array) -> np.ndarray:
    """Convert the ``M`` of ``cv2.warpAffine(image, M, ...)`` to our matrix, its inverse.

    ``matrix (..., 2, 3) -> matrix (..., 2, 3)``

    With ``flags=cv2.WARP_INVERSE_MAP``, OpenCV takes our matrix without conversion.

    Parameters
    ----------
    matrix : (..., 2, 3) or (..., 3, 3) array
        Maps input pixels to output pixels.

    Returns
    -------
    matrix : (..., 2, 3) or, for a projective one, (..., 3, 3) array

    Raises
    ------
    ValueError, TypeError
        If the matrix has the wrong shape, is not finite, or has no inverse.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import from_opencv
    >>> from_opencv([[1, 0, 5], [0, 1, 0]])
    array([[ 1.,  0., -5.],
           [ 0.,  1.,  0.]])
    """
    return drop_last_row(invert("matrix", as_3x3("matrix", matrix)))


def to_opencv(matrix: Array) -> np.ndarray:
    """Convert our matrix to its inverse, the ``M`` of ``cv2.warpAffine`` and ``warpPerspective``.

    ``matrix (..., 2, 3) -> matrix (..., 2, 3)``

    OpenCV takes this matrix without ``WARP_INVERSE_MAP``.

    Parameters
    ----------
    matrix : (..., 2, 3) or (..., 3, 3) array
        Maps output pixels to input pixels.

    Returns
    -------
    matrix : (..., 2, 3) or, for a projective one, (..., 3, 3) array

    Raises
    ------
    ValueError, TypeError
        If the matrix has the wrong shape, is not finite, or has no inverse.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import to_opencv
    >>> to_opencv([[2, 0, 1], [0, 2, 0]])
    array([[ 0.5,  0. , -0.5],
           [ 0. ,  0.5,  0. ]])
    """
    return from_opencv(matrix)


# --- scikit-image ---------------------------------------------------------------------------------


def from_skimage(inverse_map: Any) -> np.ndarray:
    """Convert the ``inverse_map`` of ``skimage.transform.warp(image, inverse_map)`` to our matrix.

    ``inverse_map (..., 3, 3) -> matrix (..., 2, 3)``

    Parameters
    ----------
    inverse_map : (..., 3, 3) array, or a transform of scikit-image
        The argument of ``warp``: pass ``transform.inverse`` if ``warp`` is called with it. Of a
        transform, the ``params`` are used.

    Returns
    -------
    matrix : (..., 2, 3) or, for a projective one, (..., 3, 3) array

    Raises
    ------
    ValueError, TypeError
        If the matrix has the wrong shape or is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.transforms.matrices import from_skimage
    >>> from_skimage(np.eye(3))
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """
    return drop_last_row(as_3x3("inverse_map", getattr(inverse_map, "params", inverse_map)))


def to_skimage(matrix: Array) -> np.ndarray:
    """Convert our matrix to the ``inverse_map`` of ``skimage.transform.warp``.

    ``matrix (..., 2, 3) -> inverse_map (..., 3, 3)``

    Parameters
    ----------
    matrix : (..., 2, 3) or (..., 3, 3) array
        Maps output pixels to input pixels.

    Returns
    -------
    inverse_map : (..., 3, 3) array

    Raises
    ------
    ValueError, TypeError
        If the matrix has the wrong shape or is not finite.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import to_skimage
    >>> to_skimage([[1, 0, 5], [0, 1, 0]])
    array([[1., 0., 5.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    return as_3x3("matrix", matrix)


# --- SciPy ----------------------------------------------------------------------------------------


def from_scipy(matrix: Array, offset: Array = 0.0) -> np.ndarray:
    """Convert the arguments of ``scipy.ndimage.affine_transform(image, ...)`` to our matrix.

    ``matrix (..., 2, 2), offset (..., 2) -> matrix (..., 2, 3)``

    Parameters
    ----------
    matrix : (2,), (..., 2, 2), (..., 2, 3) or (..., 3, 3) array
        Maps output pixels (row, column) to input pixels; two numbers are the diagonal.
    offset : number or (..., 2) array
        Added to the rows and columns; ignored if the matrix has a third column.

    Returns
    -------
    matrix : (..., 2, 3) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite, or the matrix is projective.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import from_scipy
    >>> from_scipy([[1, 0], [0, 2]], offset=(3, 4))
    array([[2., 0., 4.],
           [0., 1., 3.]])
    """
    found = check_numbers("matrix", matrix)
    if found.shape == (2,):
        found = np.diag(found)
    if found.shape[-2:] == (2, 2):
        try:
            shift = np.broadcast_to(check_numbers("offset", offset), found.shape[:-1])
        except ValueError:
            raise ValueError(
                f"offset: expected a number, or two, got shape {np.shape(offset)}"
            ) from None
        found = np.concatenate([found, shift[..., None]], axis=-1)
    return check_affine(_SWAP @ as_3x3("matrix", found) @ _SWAP)


def to_scipy(matrix: Array) -> tuple[np.ndarray, np.ndarray]:
    """Convert our matrix to ``matrix`` and ``offset`` of ``scipy.ndimage.affine_transform``.

    ``matrix (..., 2, 3) -> matrix (..., 2, 2), offset (..., 2)``

    Parameters
    ----------
    matrix : (..., 2, 3) or (..., 3, 3) array
        Maps output pixels to input pixels.

    Returns
    -------
    matrix : (..., 2, 2) array
        Maps output pixels (row, column) to input pixels, without the offset.
    offset : (..., 2) array
        Added to the rows and columns.

    Raises
    ------
    ValueError, TypeError
        If the matrix has the wrong shape, is not finite, or is projective.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import to_scipy
    >>> matrix, offset = to_scipy([[2, 0, 4], [0, 1, 3]])
    >>> matrix
    array([[1., 0.],
           [0., 2.]])
    >>> offset
    array([3., 4.])
    """
    found = check_affine(_SWAP @ as_3x3("matrix", matrix) @ _SWAP)
    return np.ascontiguousarray(found[..., :2]), np.ascontiguousarray(found[..., 2])


# --- PyTorch and our batches ----------------------------------------------------------------------


@documented
def from_theta(
    theta: Array, size: tuple[int, int], image_size: tuple[int, int], *, align_corners: bool = False
) -> np.ndarray:
    """Convert the theta of ``affine_grid`` and :func:`numba_stn.warp_affine` to our matrix.

    ``theta (..., 2, 3) -> matrix (..., 2, 3)``

    The matrix is ``P theta Q``. P maps normalised coordinates to pixels of the image by
    ``((c + 1) S - 1) / 2``, or ``(c + 1) / 2 (S - 1)`` if corners are aligned; Q maps pixels of the
    output to normalised coordinates.

    Parameters
    ----------
    theta : (..., 2, 3) or (..., 3, 3) array
        Maps normalised output coordinates to normalised input coordinates.
    size, image_size : (H_out, W_out) and (H, W)
        Sides of the output and of the image.
    {align_corners}

    Returns
    -------
    matrix : (..., 2, 3) or, for a projective one, (..., 3, 3) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, or theta is not finite.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import from_theta
    >>> from_theta([[1, 0, 0.5], [0, 1, 0]], (4, 4), (4, 4))
    array([[1., 0., 1.],
           [0., 1., 0.]])
    """
    theta = as_3x3("theta", theta)
    to_normalised = _normalised_matrix(size, align_corners)
    to_pixels = _pixels_matrix(image_size, align_corners)
    return drop_last_row(to_pixels @ theta @ to_normalised)


@documented
def to_theta(
    matrix: Array, size: tuple[int, int], image_size: tuple[int, int], *,
    align_corners: bool = False,
) -> np.ndarray:  # fmt: skip
    """Convert our matrix to theta for ``affine_grid`` and :func:`numba_stn.warp_affine`.

    ``matrix (..., 2, 3) -> theta (..., 2, 3)``

    This is the inverse of :func:`from_theta`.

    Parameters
    ----------
    matrix : (..., 2, 3) or (..., 3, 3) array
        Maps output pixels to input pixels.
    size, image_size : (H_out, W_out) and (H, W)
        Sides of the output and of the image.
    {align_corners}

    Returns
    -------
    theta : (..., 2, 3) or, for a projective one, (..., 3, 3) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, the matrix is not finite, or corners are aligned and a
        side has one pixel: all normalised coordinates then mean that pixel.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import to_theta
    >>> to_theta([[1, 0, 1], [0, 1, 0]], (4, 4), (4, 4))
    array([[1. , 0. , 0.5],
           [0. , 1. , 0. ]])
    """
    matrix = as_3x3("matrix", matrix)
    if align_corners and 1 in (*size, *image_size):
        raise ValueError(
            f"align_corners: expected sides of at least two pixels, got {size} and {image_size}"
        )
    to_normalised = _normalised_matrix(image_size, align_corners)
    to_pixels = _pixels_matrix(size, align_corners)
    return drop_last_row(to_normalised @ matrix @ to_pixels)


def _pixels_matrix(size, align_corners):
    """Return the matrix from normalised to pixel coordinates on sides (H, W)."""
    height, width = size
    off = 0.0 if align_corners else 1.0
    return np.array([
        [(width - 1 + off) / 2, 0, (width - 1) / 2],
        [0, (height - 1 + off) / 2, (height - 1) / 2],
        [0, 0, 1],
    ])  # fmt: skip


def _normalised_matrix(size, align_corners):
    """Return the inverse of :func:`_pixels_matrix`; 0 on a side of one pixel, corners aligned."""
    found = _pixels_matrix(size, align_corners)
    for k in range(2):
        scale = 1 / found[k, k] if found[k, k] else 0.0
        found[k, k], found[k, 2] = scale, -found[k, 2] * scale
    return found
