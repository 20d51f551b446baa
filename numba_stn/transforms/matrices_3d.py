"""Conversion of matrices of volumes from and to those of SciPy, SimpleITK and nibabel.

Our matrix (4, 4) maps output voxels (x, y, z) to input voxels (x, y, z), with voxel centres at
integers, as :mod:`numba_stn.matrices` does in the plane. x counts along the last axis of an array
(D, H, W). :func:`to_theta` gives the theta of :func:`numba_stn.warp_affine`.

============  ================  ==========   ===========================================
library       direction         axes         units
============  ================  ==========   ===========================================
SciPy         output to input   array's      voxels
SimpleITK     output to input   x, y, z      millimetres, LPS+ (left, posterior, up)
nibabel       voxel to world    array's      millimetres, RAS+ (right, anterior, up)
PyTorch       output to input   x, y, z      [-1, 1] across each side: ``theta``
============  ================  ==========   ===========================================

The last axis of the array of ``sitk.GetArrayFromImage`` is x; that of nibabel's ``dataobj`` is its
third, k.
"""

from typing import Any, NamedTuple

import numpy as np

from ..ops.docstrings import documented
from .matrix_checks import check_numbers

__all__ = [
    "Geometry",
    "from_nibabel",
    "from_scipy",
    "from_simpleitk",
    "from_theta",
    "to_nibabel",
    "to_scipy",
    "to_simpleitk",
    "to_theta",
]

Array = Any

# Exchanges x and z: the order of an array's axes, and that of coordinates.
_REVERSE = np.eye(4)[[2, 1, 0, 3]]


def _as_4x4(name, array, projective=False):
    """Return a matrix (4, 4), affine unless it may be projective."""
    found = check_numbers(name, array)
    if found.shape == (3, 4):
        found = np.vstack([found, [0.0, 0, 0, 1]])
    affine = found.shape == (4, 4) and found[3].tolist() == [0, 0, 0, 1]
    if not affine and not (projective and found.shape == (4, 4)):
        raise ValueError(f"{name}: expected an affine matrix (3, 4) or (4, 4), got {found.tolist()}"
                         if found.shape == (4, 4) else
                         f"{name}: expected shape (3, 4) or (4, 4), got {found.shape}")  # fmt: skip
    return found


def _inverse(name, matrix):
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(f"{name}: expected a matrix with an inverse, got "
                         f"{matrix.tolist()}") from None  # fmt: skip


# --- SciPy ----------------------------------------------------------------------------------------


def from_scipy(matrix: Array, offset: Array = 0.0) -> np.ndarray:
    """Convert the arguments of ``scipy.ndimage.affine_transform(volume, ...)`` to our matrix.

    ``matrix (3, 3), offset (3,) -> matrix (4, 4)``

    Parameters
    ----------
    matrix : (3,), (3, 3), (3, 4) or (4, 4) array
        Maps output to input voxels in the order of the array's axes; three numbers are the
        diagonal.
    offset : number or (3,) array
        Added to the voxels; ignored if the matrix has a fourth column.

    Returns
    -------
    matrix : (4, 4) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite.

    Examples
    --------
    >>> import numba_stn as stn
    >>> stn.matrices_3d.from_scipy([1, 1, 2], offset=(5, 0, 0))
    array([[2., 0., 0., 0.],
           [0., 1., 0., 0.],
           [0., 0., 1., 5.],
           [0., 0., 0., 1.]])
    """
    found = check_numbers("matrix", matrix)
    if found.shape == (3,):
        found = np.diag(found)
    if found.shape == (3, 3):
        shift = check_numbers("offset", offset)
        if shift.shape not in ((), (3,)):
            raise ValueError(f"offset: expected a number, or three, got shape {shift.shape}")
        found = np.column_stack([found, np.broadcast_to(shift, 3)])
    return _REVERSE @ _as_4x4("matrix", found) @ _REVERSE


def to_scipy(matrix: Array) -> tuple[np.ndarray, np.ndarray]:
    """Convert our matrix to ``matrix`` and ``offset`` of ``scipy.ndimage.affine_transform``.

    ``matrix (4, 4) -> matrix (3, 3), offset (3,)``

    Parameters
    ----------
    matrix : (3, 4) or (4, 4) array
        Maps output to input voxels (x, y, z).

    Returns
    -------
    matrix : (3, 3) array
    offset : (3,) array

    Raises
    ------
    ValueError, TypeError
        If the matrix has the wrong shape, is not finite, or is projective.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> matrix, offset = stn.matrices_3d.to_scipy(np.eye(4)[:3] + [[0, 0, 0, 7]] * np.eye(3, 4))
    >>> offset
    array([0., 0., 0.])
    """
    found = _REVERSE @ _as_4x4("matrix", matrix) @ _REVERSE
    return found[:3, :3].copy(), found[:3, 3].copy()


# --- SimpleITK ------------------------------------------------------------------------------------


class Geometry(NamedTuple):
    """Where an image of SimpleITK is in space: ``Geometry.of(image)``."""

    origin: Any = (0.0, 0.0, 0.0)
    spacing: Any = (1.0, 1.0, 1.0)
    direction: Any = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)

    @classmethod
    def of(cls, image: Any) -> "Geometry":
        """The geometry of a ``SimpleITK.Image``."""
        return cls(image.GetOrigin(), image.GetSpacing(), image.GetDirection())

    def to_world(self) -> np.ndarray:
        """The matrix from voxels (x, y, z) to millimetres: origin + direction (spacing index)."""
        origin, spacing = (
            check_numbers("origin", self.origin),
            check_numbers("spacing", self.spacing),
        )
        direction = check_numbers("direction", self.direction)
        if (origin.shape, spacing.shape, direction.size) != ((3,), (3,), 9):
            raise ValueError(f"geometry: expected an origin and a spacing of 3 numbers and a "
                             f"direction of 9, got shapes {origin.shape}, {spacing.shape} and "
                             f"{direction.shape}")  # fmt: skip
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = direction.reshape(3, 3) * spacing, origin
        return matrix


def from_simpleitk(
    matrix: Array,
    translation: Array = (0.0, 0.0, 0.0),
    center: Array = (0.0, 0.0, 0.0),
    *,
    fixed: Geometry = Geometry(),  # noqa: B008
    moving: Geometry = Geometry(),  # noqa: B008
) -> np.ndarray:
    """Convert an affine transform of SimpleITK to our matrix.

    ``matrix (3, 3), translation (3,), center (3,) -> matrix (4, 4)``

    Such a transform maps a point x of the output to ``A (x - center) + center + translation`` in
    the input, in millimetres of LPS+ space. It is the transform that ``sitk.Resample`` takes, and
    that a registration returns.

    Parameters
    ----------
    matrix, translation, center : (3, 3) or (9,) array, and (3,) arrays
        ``transform.GetMatrix()``, ``GetTranslation()`` and ``GetCenter()``.
    fixed, moving : Geometry
        Of the output and of the input: ``Geometry.of(image)``.

    Returns
    -------
    matrix : (4, 4) array
        From output to input voxels (x, y, z), for the arrays of ``sitk.GetArrayFromImage``.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite, or a spacing is 0.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> half = stn.matrices_3d.Geometry(spacing=(0.5, 0.5, 0.5))
    >>> stn.matrices_3d.from_simpleitk(np.eye(3), (2, 0, 0), fixed=half)
    array([[0.5, 0. , 0. , 2. ],
           [0. , 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0. ],
           [0. , 0. , 0. , 1. ]])
    """
    linear = check_numbers("matrix", matrix)
    shift, middle = check_numbers("translation", translation), check_numbers("center", center)
    if (linear.size, shift.shape, middle.shape) != (9, (3,), (3,)):
        raise ValueError(f"matrix: expected 9 numbers, and a translation and a center of 3, got "
                         f"shapes {linear.shape}, {shift.shape} and {middle.shape}")  # fmt: skip
    linear = linear.reshape(3, 3)
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = linear, shift + middle - linear @ middle
    return _inverse("moving", moving.to_world()) @ world @ fixed.to_world()


def to_simpleitk(
    matrix: Array,
    *,
    fixed: Geometry = Geometry(),  # noqa: B008
    moving: Geometry = Geometry(),  # noqa: B008
) -> tuple[np.ndarray, np.ndarray]:
    """Convert our matrix to the arguments of ``sitk.AffineTransform(matrix, translation)``.

    ``matrix (4, 4) -> matrix (9,), translation (3,)``

    Parameters
    ----------
    matrix : (3, 4) or (4, 4) array
        Maps output to input voxels (x, y, z).
    fixed, moving : Geometry
        Of the output and of the input.

    Returns
    -------
    matrix : (9,) array
        Row by row; the center is the origin.
    translation : (3,) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite, or a spacing is 0.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.matrices_3d.to_simpleitk(np.eye(4))[1]
    array([0., 0., 0.])
    """
    found = moving.to_world() @ _as_4x4("matrix", matrix) @ _inverse("fixed", fixed.to_world())
    return found[:3, :3].ravel(), found[:3, 3].copy()


# --- nibabel --------------------------------------------------------------------------------------


def from_nibabel(fixed: Array, moving: Array, world: Array = None) -> np.ndarray:
    """Convert the affines of two images of nibabel to our matrix.

    ``fixed (4, 4), moving (4, 4) -> matrix (4, 4)``

    An affine maps voxels (i, j, k) of an array to millimetres of RAS+ space. The matrix resamples
    the moving array on the voxels of the fixed one: ``moving^-1 world fixed``, with the axes in
    our order.

    Parameters
    ----------
    fixed, moving : (4, 4) arrays
        ``image.affine`` of the output and of the input.
    world : (4, 4) array, optional
        Maps points of the output to points of the input, in RAS+ millimetres; by default, both
        images are in the same place. Of a transform in LPS+, ``S world S`` with ``S = diag(-1, -1,
        1, 1)`` is that in RAS+.

    Returns
    -------
    matrix : (4, 4) array
        From output to input voxels (x, y, z) = (k, j, i), for arrays as nibabel has them.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, is not finite, or has no inverse.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.matrices_3d.from_nibabel(np.diag([1, 1, 2, 1]), np.eye(4))
    array([[2., 0., 0., 0.],
           [0., 1., 0., 0.],
           [0., 0., 1., 0.],
           [0., 0., 0., 1.]])
    """
    world = np.eye(4) if world is None else _as_4x4("world", world)
    inverse = _inverse("moving", _as_4x4("moving", moving))
    return _REVERSE @ inverse @ world @ _as_4x4("fixed", fixed) @ _REVERSE


def to_nibabel(matrix: Array, moving: Array) -> np.ndarray:
    """Compute the affine of a volume that was warped by our matrix.

    ``matrix (4, 4), moving (4, 4) -> affine (4, 4)``

    With it, ``nibabel.Nifti1Image(warped, affine)`` shows each voxel where the moving image had it.

    Parameters
    ----------
    matrix : (3, 4) or (4, 4) array
        Maps output to input voxels (x, y, z).
    moving : (4, 4) array
        ``image.affine`` of the input.

    Returns
    -------
    affine : (4, 4) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.matrices_3d.to_nibabel(np.diag([2, 1, 1, 1]), np.eye(4)).diagonal()
    array([1., 1., 2., 1.])
    """
    return _as_4x4("moving", moving) @ _REVERSE @ _as_4x4("matrix", matrix) @ _REVERSE


# --- PyTorch and our batches ----------------------------------------------------------------------


@documented
def from_theta(
    theta: Array, size: tuple[int, int, int], image_size: tuple[int, int, int], *,
    align_corners: bool = False,
) -> np.ndarray:  # fmt: skip
    """Convert theta of :func:`numba_stn.warp_affine` or ``warp_perspective`` of volumes.

    ``theta (3, 4) -> matrix (4, 4)``

    Parameters
    ----------
    theta : (3, 4) or (4, 4) array
        Maps normalised output coordinates to normalised input coordinates.
    size, image_size : (D_out, H_out, W_out) and (D, H, W)
        Sides of the output and of the volume.
    {align_corners}

    Returns
    -------
    matrix : (4, 4) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.matrices_3d.from_theta(np.eye(3, 4), (2, 2, 2), (4, 4, 4))[0]
    array([2. , 0. , 0. , 0.5])
    """
    off = 0.0 if align_corners else 1.0
    to_normalised = _inverse("size", _pixels_matrix("size", size, off))
    square = _as_4x4("theta", theta, projective=True)
    return _pixels_matrix("image_size", image_size, off) @ square @ to_normalised


@documented
def to_theta(
    matrix: Array, size: tuple[int, int, int], image_size: tuple[int, int, int], *,
    align_corners: bool = False,
) -> np.ndarray:  # fmt: skip
    """Convert our matrix to theta of :func:`numba_stn.warp_affine` or ``warp_perspective``.

    ``matrix (4, 4) -> theta (3, 4)``

    Parameters
    ----------
    matrix : (3, 4) or (4, 4) array
        Maps output to input voxels (x, y, z).
    size, image_size : (D_out, H_out, W_out) and (D, H, W)
        Sides of the output and of the volume.
    {align_corners}

    Returns
    -------
    theta : (3, 4) or, for a projective one, (4, 4) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite, or corners are aligned and a side has
        one voxel.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.matrices_3d.to_theta(np.eye(4), (4, 4, 4), (4, 4, 4))
    array([[1., 0., 0., 0.],
           [0., 1., 0., 0.],
           [0., 0., 1., 0.]])
    """
    off = 0.0 if align_corners else 1.0
    to_normalised = _inverse("image_size", _pixels_matrix("image_size", image_size, off))
    square = _as_4x4("matrix", matrix, projective=True)
    found = to_normalised @ square @ _pixels_matrix("size", size, off)
    if square[3, :3].any() or not square[3, 3]:
        return found + 0.0
    return found[:3] / found[3, 3] + 0.0


def _pixels_matrix(name, size, off):
    """Return the matrix from normalised coordinates to voxels on sides (D, H, W)."""
    sides = check_numbers(name, size)
    if sides.shape != (3,) or not ((sides > 0) & (sides == np.rint(sides))).all():
        raise ValueError(f"{name}: expected three positive integers (D, H, W), got {size}")
    matrix = np.eye(4)
    for axis, side in enumerate(sides[::-1]):
        matrix[axis, axis], matrix[axis, 3] = (side - 1 + off) / 2, (side - 1) / 2
    return matrix
