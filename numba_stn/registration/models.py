"""The maps that registration estimates, and how a step updates them.

A map takes points of the fixed image to points of the moving one, both in the coordinates of
:class:`.pyramid.Frame`.

The maps of a group are matrices M. A step with parameters d updates M to ``exp(sum_i d_i G_i) M``,
with the group's generators G_i: the map is followed by a small one of the same group. So a rigid
map stays rigid, and the derivative of M at d = 0 is ``G_i M``. A thin-plate spline is a sum of
functions times its control points, and a step is added to them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..kernels.registration.alignment_sums import Sums, grid_sums, matrix_sums
from ..kernels.registration.pyramid import halve
from ..ops.grid_sample import grid_sample
from ..ops.tps_grid import control_points, solve_spline, tps_grid
from ..ops.warps import warp_affine, warp_perspective
from .pyramid import Frame, Level

GROUPS = {
    2: ("translation", "rigid", "similarity", "affine", "projective"),
    3: ("translation", "rigid", "similarity", "affine"),
}


@lru_cache(maxsize=16)
def generators(name: str, dims: int) -> np.ndarray:
    """Give the group's generators, (P, d + 1, d + 1): one for each degree of freedom."""

    def matrix_with(*entries):
        matrix = np.zeros((dims + 1, dims + 1))
        for i, j, value in entries:
            matrix[i, j] = value
        return matrix

    axes = range(dims)
    shifts = [matrix_with((i, dims, 1.0)) for i in axes]
    rotations = [matrix_with((i, j, -1.0), (j, i, 1.0)) for i in axes for j in axes if i < j]
    zoom = [matrix_with(*((i, i, 1.0) for i in axes))]
    linear = [matrix_with((i, j, 1.0)) for i in axes for j in axes]
    divisors = [matrix_with((dims, j, 1.0)) for j in axes]
    return np.array({
        "translation": shifts,
        "rigid": rotations + shifts,
        "similarity": rotations + zoom + shifts,
        "affine": linear + shifts,
        "projective": linear + shifts + divisors,
    }[name])  # fmt: skip


def exponential(matrix: np.ndarray) -> np.ndarray:
    """Sum ``matrix^k / k!``. A step is small, so the series is short."""
    total = term = np.eye(len(matrix))
    largest = norm = float(np.abs(matrix).sum())  # bounds the entries of a term
    for k in range(1, 30):
        term = term @ matrix / k
        total = total + term
        if largest < 1e-17:
            break
        largest *= norm / (k + 1)
    return total


@dataclass(frozen=True)
class MatrixMap:
    """A map of a group.

    Parameters
    ----------
    group : str
        One of GROUPS.
    matrix : (d + 1, d + 1) array
        From the fixed image's coordinates to the moving one's.
    fixed : Frame
        The fixed image's coordinates.
    """

    group: str
    matrix: np.ndarray
    fixed: Frame

    def updated(self, step: np.ndarray) -> "MatrixMap":
        """The map after a step of its P parameters."""
        size = len(self.matrix)
        tangents = generators(self.group, size - 1).reshape(len(step), -1)
        matrix = exponential((step @ tangents).reshape(size, size)) @ self.matrix
        return MatrixMap(self.group, matrix / matrix[-1, -1], self.fixed)

    def sums(self, level: Level) -> Sums:
        """The sums of a step at a level, for the P parameters: normal is (P, P), mixed (P, 3)."""
        rows = len(self.matrix) - (self.group != "projective")
        normal, mixed, values = matrix_sums(
            level.moving, level.fixed, self.matrix[:rows], level.axes
        )
        tangents = (generators(self.group, len(self.matrix) - 1) @ self.matrix)[:, :rows]
        # The sums' derivatives are per pixel of the level, those of the parameters per unit.
        tangents = tangents.reshape(len(tangents), -1) * level.axes.moving[0]
        return Sums(tangents @ normal @ tangents.T, tangents @ mixed, values)

    def pixel_matrix(self, level: Level | None, moving: Frame) -> np.ndarray:
        """The matrix between pixels: those of a level, or those of the images."""
        n, m = (level.halvings, level.moving_halvings) if level else (0, 0)
        back = np.linalg.inv(self.fixed.to_pixels(n))
        return moving.to_pixels(m) @ self.matrix @ back

    def sample(self, level: Level, moving: Frame) -> np.ndarray:
        """Warp the level's moving image to the fixed one's pixels; NaN outside."""
        matrix = self.pixel_matrix(level, moving)
        sides = level.fixed.shape[-len(self.fixed.sides) :]
        image = level.moving.reshape(level.moving.shape[-len(sides) :])
        return warp_by_matrix(image, matrix, sides)

    def distance(self, other: "MatrixMap") -> float:
        """The largest distance, in pixels, between both maps' positions of a corner."""
        return float(np.abs(self.corners() - other.corners()).max()) * self.fixed.unit

    def area_ratio(self) -> float:
        """The factor of areas or volumes at the corner where it is furthest from 1.

        It is negative for a mirrored image, and 0 if a corner is at infinity. A projective map
        multiplies areas by its determinant over the divisor's third power.
        """
        divisors = (self.matrix @ self.fixed.corners)[-1]
        if not (divisors > 0).all():
            return 0.0
        ratios = np.linalg.det(self.matrix) / divisors ** len(self.matrix)
        return float(ratios[np.abs(np.log(np.abs(ratios) + 1e-300)).argmax()])

    def corners(self) -> np.ndarray:
        """The moving image's coordinates of the fixed image's corners."""
        mapped = self.matrix @ self.fixed.corners
        return mapped[:-1] / mapped[-1]

    def penalty(self) -> tuple[float, float, float]:
        """No penalty, with no gradient and no Hessian."""
        return 0.0, 0.0, 0.0


def warp_by_matrix(image: np.ndarray, matrix: np.ndarray, sides: Any, fill: float = np.nan) -> Any:
    """Warp a plane or a volume by a matrix between pixels; ``fill`` is the value outside."""
    theta = theta_from_matrix(matrix, sides, image.shape)
    dims = len(sides)
    if dims == 2 and np.any(theta[2] != (0, 0, 1)):
        warp, theta = warp_perspective, theta[None]
    else:
        warp, theta = warp_affine, theta[None, :dims]
    return warp(image[None, None], theta, sides, padding_mode="fill", fill=fill)[0, 0]


def theta_from_matrix(
    matrix: np.ndarray, size: tuple[int, ...], image_size: tuple[int, ...]
) -> np.ndarray:
    """Theta (d + 1, d + 1) of a matrix between pixels, in 2-D or 3-D, without aligned corners."""

    def to_pixels(sides):
        scale = np.diag([*(side / 2 for side in sides[::-1]), 1.0])
        scale[:-1, -1] = [(side - 1) / 2 for side in sides[::-1]]
        return scale

    return np.linalg.inv(to_pixels(image_size)) @ matrix @ to_pixels(size)


# --- Thin-plate splines ---------------------------------------------------------------------------


@dataclass(frozen=True)
class SplineMap:
    """A thin-plate spline: see :mod:`numba_stn.ops.tps_grid`.

    Parameters
    ----------
    control : (K, 2) array
        The moving image's normalised coordinates of the points of a regular lattice.
    sides, target : (H, W)
        The sides of the moving and of the fixed image.
    stiffness : float
        The weight of the bending energy; the squared differences have the weight 1.
    basis : tuple of (K, H, W) arrays of float32
        :func:`basis_functions` of the fixed image, halved 0, 1, ... times.
    """

    control: np.ndarray
    sides: tuple[int, ...]
    target: tuple[int, ...]
    stiffness: float
    basis: tuple[np.ndarray, ...]

    @property
    def lattice(self) -> int:
        """The number of control points along a side."""
        return round(len(self.control) ** 0.5)

    def updated(self, step: np.ndarray) -> "SplineMap":
        """The spline after a step of its 2 K parameters, all x before all y."""
        return replace(self, control=self.control + step.reshape(2, -1).T)

    def sums(self, level: Level) -> Sums:
        """The sums of a step at a level: normal is (2 K, 2 K), mixed (2 K, 3)."""
        half = np.array(self.sides[::-1]) / 2 / 2.0**level.moving_halvings
        grid = np.stack([(c + 1) * np.float32(h) - np.float32(0.5)
                         for c, h in zip(self.coordinates(level), half, strict=True)])  # fmt: skip
        basis = self.basis[level.halvings]
        normal, mixed, values = grid_sums(level.moving, level.fixed, grid, basis)
        # From derivatives per pixel to those per normalised coordinate.
        scale = np.repeat(half, len(self.control))
        return Sums(scale[:, None] * normal * scale, scale[:, None] * mixed, values)

    def coordinates(self, level: Level) -> np.ndarray:
        """The moving image's normalised coordinates of the level's pixels, (2, H, W)."""
        return np.tensordot(self.control.T.astype(np.float32), self.basis[level.halvings], 1)

    def sample(self, level: Level, moving: Frame) -> np.ndarray:
        """Warp the level's moving image to the fixed one's pixels; NaN outside."""
        scale = np.array(self.sides) / 2.0**level.moving_halvings / level.moving.shape[1:]
        grid = np.stack([(c + 1) * np.float32(k) - 1 for c, k in
                         zip(self.coordinates(level), scale[::-1], strict=True)],
                        axis=-1)  # fmt: skip
        return grid_sample(level.moving[None], grid[None], padding_mode="fill", fill=np.nan)[0, 0]

    def distance(self, other: "SplineMap") -> float:
        """The largest distance, in pixels, between both splines' control points."""
        return float((np.abs(self.control - other.control) * self.sides[::-1]).max() / 2)

    def area_ratio(self) -> float:
        """The factor of areas in the lattice's cell where it is furthest from 1."""
        k = self.lattice
        points = self.control.reshape(k, k, 2)
        right, down = np.diff(points, axis=1)[:-1], np.diff(points, axis=0)[:, :-1]
        areas = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
        ratios = areas * ((k - 1) / 2) ** 2 * np.prod(self.sides) / np.prod(self.target)
        return float(ratios.ravel()[np.abs(np.log(np.maximum(ratios, 1e-300))).argmax()])

    def penalty(self):
        """Half the bending energy times the stiffness, its gradient and its Hessian."""
        k = self.lattice
        offsets, matrix = self.control - control_points(k), bending_matrix(k) * self.stiffness
        gradient = matrix @ offsets
        energy = 0.5 * float((offsets * gradient).sum())
        return energy, gradient.T.ravel(), np.kron(np.eye(2), matrix)


class RecentTables:
    """The tables that were computed last, with at most ``limit`` bytes together."""

    def __init__(self, limit: int):
        self.limit = limit
        self._tables: OrderedDict[tuple, tuple[np.ndarray, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple, compute: Callable) -> tuple[np.ndarray, ...]:
        """Find or compute the arrays of a table, and drop those that were used longest ago."""
        with self._lock:
            found = self._tables.pop(key, None)
        found = compute(*key) if found is None else found
        with self._lock:
            self._tables[key] = found
            while self.nbytes > self.limit:
                self._tables.popitem(last=False)
        return found

    @property
    def nbytes(self) -> int:
        """The number of bytes of all tables."""
        return sum(array.nbytes for table in self._tables.values() for array in table)


# A registration holds its own tables. These are for the next image of the same size.
TABLES = RecentTables(64 * 2**20)


def basis_functions(k: int, sides: tuple[int, ...], levels: int) -> tuple[np.ndarray, ...]:
    """The weight of each of k x k control points at each pixel, (K, H, W) of float32, per level."""
    return TABLES.get((k, sides, levels), _compute_basis_functions)


def _compute_basis_functions(k, sides, levels):
    units = np.zeros((k * k, k * k, 2))
    units[np.arange(k * k), np.arange(k * k), 0] = 1
    basis = np.empty((k * k, *sides), np.float32)
    for one, unit in zip(basis, units, strict=True):
        one[:] = tps_grid(unit[None], sides)[0, :, :, 0]
    found = [basis]
    while len(found) < levels:
        found.append(np.stack([halve(each) for each in found[-1]]))
    return tuple(found)


@lru_cache(maxsize=8)
def bending_matrix(k: int) -> np.ndarray:
    """The positive semi-definite matrix (K, K) of the bending energy, up to a factor of 16 pi."""
    _, matrix = solve_spline(k, 0.0)
    energy = (matrix[: k * k] + matrix[: k * k].T) / 2
    return energy if np.trace(energy) > 0 else -energy
