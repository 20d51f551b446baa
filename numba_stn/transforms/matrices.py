"""Matrices between :func:`numba_stn.warp_image` and other libraries.

Ours maps output pixels (x, y) to input pixels (x, y), whose centres are whole numbers. What others
mean by a matrix differs in direction, in the order of the axes, and in the units:

============  ================  ==========  =======================================
library       direction         axes        units
============  ================  ==========  =======================================
OpenCV        input to output   (x, y)      pixels
scikit-image  output to input   (x, y)      pixels
SciPy         output to input   (row, col)  pixels
PyTorch       output to input   (x, y)      [-1, 1] across each side: ``theta``
============  ================  ==========  =======================================

Each function takes one matrix or a stack of them, and gives float64.
"""

from typing import Any

import numpy as np

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

# x and y, exchanged.
_SWAP = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])


# --- Points ---------------------------------------------------------------------------------------


def from_points(points: Array, images: Array) -> np.ndarray:
    """The projective matrix that maps four points to four others.

    With the lower right number fixed at 1, ``(u, v) = ((a x + b y + c) / w, (d x + e y + f) / w)``,
    ``w = g x + h y + 1``, gives two linear equations a point for the other eight (Hartley and
    Zisserman 2004, section 4.1). In whatever units the points are: pixels for
    :func:`numba_stn.warp_image`, normalised coordinates for a theta of
    :func:`numba_stn.warp_perspective`.

    Parameters
    ----------
    points : (..., 4, 2) array
        (x, y) each.
    images : (..., 4, 2) array
        Where the matrix takes them.

    Returns
    -------
    matrix : (..., 3, 3) array
        ``cv2.getPerspectiveTransform(points, images)``, for a stack of them.

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
    points, images = _check_four_points("points", points), _check_four_points("images", images)
    (x, y), (u, v) = np.moveaxis(points, -1, 0), np.moveaxis(images, -1, 0)
    one, zero = np.ones_like(x), np.zeros_like(x)
    of_u = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    of_v = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    equations = np.concatenate([of_u, of_v], -2)
    found = np.linalg.solve(equations, np.concatenate([u, v], -1)[..., None])[..., 0]
    return np.concatenate([found, one[..., :1]], -1).reshape(*found.shape[:-1], 3, 3)


# --- OpenCV ---------------------------------------------------------------------------------------


def from_opencv(matrix: Array) -> np.ndarray:
    """Our matrix, from the ``M`` of ``cv2.warpAffine(image, M, ...)``: its inverse.

    With ``flags=cv2.WARP_INVERSE_MAP`` OpenCV takes ours as it is.

    Parameters
    ----------
    matrix : (..., 2, 3) or (..., 3, 3) array
        From input to output pixels.

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
    return _drop_last_row(_invert("matrix", _as_3x3("matrix", matrix)))


def to_opencv(matrix: Array) -> np.ndarray:
    """The ``M`` of ``cv2.warpAffine`` or ``cv2.warpPerspective``, without WARP_INVERSE_MAP.

    See :func:`from_opencv`, which does the same.

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
    """Our matrix, from what ``skimage.transform.warp(image, inverse_map)`` is given.

    Parameters
    ----------
    inverse_map : (..., 3, 3) array, or a transform of scikit-image
        ``transform.inverse`` where ``warp`` is given that. A transform's ``params`` are taken.

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
    return _drop_last_row(_as_3x3("inverse_map", getattr(inverse_map, "params", inverse_map)))


def to_skimage(matrix: Array) -> np.ndarray:
    """The ``inverse_map`` of ``skimage.transform.warp``, (..., 3, 3).

    Examples
    --------
    >>> from numba_stn.transforms.matrices import to_skimage
    >>> to_skimage([[1, 0, 5], [0, 1, 0]])
    array([[1., 0., 5.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    return _as_3x3("matrix", matrix)


# --- SciPy ----------------------------------------------------------------------------------------


def from_scipy(matrix: Array, offset: Array = 0.0) -> np.ndarray:
    """Our matrix, from those of ``scipy.ndimage.affine_transform(image, matrix, offset)``.

    Parameters
    ----------
    matrix : (2,), (..., 2, 2), (..., 2, 3) or (..., 3, 3) array
        From output to input pixels (row, column); of two numbers, the diagonal.
    offset : number or (..., 2) array
        Added to the rows and columns; where the matrix has a third column, that counts.

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
    found = _check_numbers("matrix", matrix)
    if found.shape == (2,):
        found = np.diag(found)
    if found.shape[-2:] == (2, 2):
        try:
            shift = np.broadcast_to(_check_numbers("offset", offset), found.shape[:-1])
        except ValueError:
            raise ValueError(
                f"offset: expected a number, or two, got shape {np.shape(offset)}"
            ) from None
        found = np.concatenate([found, shift[..., None]], axis=-1)
    return _check_affine(_SWAP @ _as_3x3("matrix", found) @ _SWAP)


def to_scipy(matrix: Array) -> tuple[np.ndarray, np.ndarray]:
    """``matrix`` (..., 2, 2) and ``offset`` (..., 2) of ``scipy.ndimage.affine_transform``.

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
    found = _check_affine(_SWAP @ _as_3x3("matrix", matrix) @ _SWAP)
    return np.ascontiguousarray(found[..., :2]), np.ascontiguousarray(found[..., 2])


# --- PyTorch, and this library's batches ----------------------------------------------------------


def from_theta(
    theta: Array, size: tuple[int, int], image_size: tuple[int, int], *, align_corners: bool = False
) -> np.ndarray:
    """Our matrix, from the theta of ``affine_grid`` and :func:`numba_stn.warp_affine`.

    ``P theta Q`` with P from normalised to pixel coordinates of the image,
    ``((c + 1) S - 1) / 2``, or ``(c + 1) / 2 (S - 1)`` where corners are aligned, and Q from those
    of the output's pixels.

    Parameters
    ----------
    theta : (..., 2, 3) or (..., 3, 3) array
        Maps normalised output to normalised input coordinates.
    size, image_size : (H_out, W_out) and (H, W)
        Sides of the output and of the image.
    align_corners : bool
        Whether -1 and 1 are the centres of the corner pixels (True) or their outer edges.

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
    theta = _as_3x3("theta", theta)
    to_unit, from_unit = (
        _normalised_matrix(size, align_corners),
        _pixels_matrix(image_size, align_corners),
    )
    return _drop_last_row(from_unit @ theta @ to_unit)


def to_theta(
    matrix: Array, size: tuple[int, int], image_size: tuple[int, int], *,
    align_corners: bool = False,
) -> np.ndarray:  # fmt: skip
    """Theta for ``affine_grid`` and :func:`numba_stn.warp_affine`: :func:`from_theta` undone.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, the matrix is not finite, or corners are aligned on a
        side of one pixel, whose normalised coordinates say nothing.

    Examples
    --------
    >>> from numba_stn.transforms.matrices import to_theta
    >>> to_theta([[1, 0, 1], [0, 1, 0]], (4, 4), (4, 4))
    array([[1. , 0. , 0.5],
           [0. , 1. , 0. ]])
    """
    matrix = _as_3x3("matrix", matrix)
    if align_corners and 1 in (*size, *image_size):
        raise ValueError(
            f"align_corners: expected sides of at least two pixels, got {size} and {image_size}"
        )
    to_unit, from_unit = (
        _normalised_matrix(image_size, align_corners),
        _pixels_matrix(size, align_corners),
    )
    return _drop_last_row(to_unit @ matrix @ from_unit)


def _pixels_matrix(size, align_corners):
    """Matrix from normalised to pixel coordinates of these sides (H, W)."""
    height, width = size
    off = 0.0 if align_corners else 1.0
    return np.array([
        [(width - 1 + off) / 2, 0, (width - 1) / 2],
        [0, (height - 1 + off) / 2, (height - 1) / 2],
        [0, 0, 1],
    ])  # fmt: skip


def _normalised_matrix(size, align_corners):
    """The way back; on a side of one pixel with aligned corners, all is 0."""
    found = _pixels_matrix(size, align_corners)
    for k in range(2):
        scale = 1 / found[k, k] if found[k, k] else 0.0
        found[k, k], found[k, 2] = scale, -found[k, 2] * scale
    return found


# --- Checks ---------------------------------------------------------------------------------------


def _check_numbers(name, array):
    try:
        found = np.asarray(array, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected numbers, got {array!r}") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: expected finite numbers, got {found.tolist()}")
    return found


def _check_four_points(name, array):
    """Four points, no three of which lie on a line."""
    found = _check_numbers(name, array)
    if found.shape[-2:] != (4, 2):
        raise ValueError(f"{name}: expected four points, (..., 4, 2), got {found.shape}")
    without_one = np.stack([np.delete(found, k, axis=-2) for k in range(4)], axis=-3)
    (ax, ay), (bx, by) = np.moveaxis(without_one[..., 1:, :] - without_one[..., :1, :], (-2, -1),
                                     (0, 1))  # fmt: skip
    longest = np.ptp(found, axis=-2).max(-1)[..., None]
    if not (abs(ax * by - ay * bx) > 1e-9 * longest**2).all():
        raise ValueError(
            f"{name}: expected four points of which no three lie on a line, got {found.tolist()}"
        )
    return found


def _as_3x3(name, array):
    """Matrices as (..., 3, 3)."""
    found = _check_numbers(name, array)
    if found.shape[-2:] not in ((2, 3), (3, 3)):
        raise ValueError(f"{name}: expected shape (..., 2, 3) or (..., 3, 3), got {found.shape}")
    if found.shape[-2] == 3:
        return found.copy()
    last = np.broadcast_to([0.0, 0.0, 1.0], (*found.shape[:-2], 1, 3))
    return np.concatenate([found, last], axis=-2)


def _invert(name, found):
    try:
        return np.linalg.inv(found)
    except np.linalg.LinAlgError:
        raise ValueError(f"{name}: expected one with an inverse, got {found.tolist()}") from None


def _drop_last_row(found):
    """Without the last row, if it is (0, 0, 1) in all of them, or a multiple of that."""
    scale = found[..., 2:, 2:]
    if found[..., 2, :2].any() or not scale.all():
        return found
    return found[..., :2, :] / scale


def _check_affine(found):
    found = _drop_last_row(found)
    if found.shape[-2] == 3:
        raise ValueError(f"matrix: expected an affine one for SciPy, got {found.tolist()}")
    return found
