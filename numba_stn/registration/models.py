"""Maps that registration can find, and how they move.

A map takes points of the fixed image to points of the moving one, both in the coordinates of
:class:`.pyramid.Frame`. Those of a group are matrices M; a step of parameters d makes ``exp(sum_i
d_i G_i) M`` of it, with the group's generators G_i: the map followed by a small one of the same
group. So a rigid map stays rigid, and the derivative of M at d = 0 is ``G_i M``, linear. A
thin-plate spline is a sum of functions times its control points, which a step is added to.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..kernels.registration.alignment_sums import grid_moments, moments
from ..kernels.registration.pyramid import halved
from ..ops.grid_sample import grid_sample
from ..ops.tps_grid import control_points, solution, tps_grid
from ..ops.warps import warp_affine, warp_perspective
from .pyramid import Frame, Level

GROUPS = {
    2: ("translation", "rigid", "similarity", "affine", "projective"),
    3: ("translation", "rigid", "similarity", "affine"),
}


@lru_cache(maxsize=16)
def generators(name: str, dims: int) -> np.ndarray:
    """The group's generators, (P, d + 1, d + 1): one for each number that is free."""

    def one(*entries):
        matrix = np.zeros((dims + 1, dims + 1))
        for i, j, value in entries:
            matrix[i, j] = value
        return matrix

    axes = range(dims)
    shifts = [one((i, dims, 1.0)) for i in axes]
    turns = [one((i, j, -1.0), (j, i, 1.0)) for i in axes for j in axes if i < j]
    zoom = [one(*((i, i, 1.0) for i in axes))]
    entries = [one((i, j, 1.0)) for i in axes for j in axes]
    tilts = [one((dims, j, 1.0)) for j in axes]
    return np.array({
        "translation": shifts,
        "rigid": turns + shifts,
        "similarity": turns + zoom + shifts,
        "affine": entries + shifts,
        "projective": entries + shifts + tilts,
    }[name])  # fmt: skip


def exponential(matrix: np.ndarray) -> np.ndarray:
    """``sum_k matrix^k / k!``, of a small step, whose series is short."""
    found = term = np.eye(len(matrix))
    largest = norm = float(np.abs(matrix).sum())  # no entry of a term is larger
    for k in range(1, 30):
        term = term @ matrix / k
        found = found + term
        if largest < 1e-17:
            break
        largest *= norm / (k + 1)
    return found


@dataclass(frozen=True)
class Matrix:
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

    def moved(self, step: np.ndarray) -> "Matrix":
        """The map after a step of its P parameters."""
        size = len(self.matrix)
        ways = generators(self.group, size - 1).reshape(len(step), -1)
        matrix = exponential((step @ ways).reshape(size, size)) @ self.matrix
        return Matrix(self.group, matrix / matrix[-1, -1], self.fixed)

    def sums(self, level: Level):
        """J^T J (P, P), J^T (s, f, 1) (P, 3), and the sums of values, at a level."""
        rows = len(self.matrix) - (self.group != "projective")
        normal, mixed, values = moments(
            level.moving, level.fixed, level.mask, self.matrix[:rows],
            level.fixed_at, level.moving_at, level.columns,
        )  # fmt: skip
        ways = (generators(self.group, len(self.matrix) - 1) @ self.matrix)[:, :rows]
        # The sums' derivatives are by pixels of the level, the parameters' by units.
        ways = ways.reshape(len(ways), -1) * level.moving_at[0]
        return ways @ normal @ ways.T, ways @ mixed, values

    def pixels(self, level: Level | None, moving: Frame) -> np.ndarray:
        """The matrix between pixels: of a level, or of the images themselves."""
        n = level.halvings if level else 0
        back = np.linalg.inv(self.fixed.to_pixels(n))
        return moving.to_pixels(n) @ self.matrix @ back

    def read(self, level: Level, moving: Frame) -> np.ndarray:
        """The level's moving image as the fixed one's pixels read it; NaN outside."""
        matrix = self.pixels(level, moving)
        sides = level.fixed.shape[-len(self.fixed.sides) :]
        return warped(level.moving.reshape(level.moving.shape[-len(sides) :]), matrix, sides)

    def apart(self, other: "Matrix") -> float:
        """How far another map takes the fixed image's corners from here, in pixels."""
        return float(np.abs(self.corners() - other.corners()).max()) * self.fixed.unit

    def zoom(self) -> float:
        """What areas or volumes are multiplied by, at the corner where that is most; < 0: mirrored.

        A projective map multiplies them by its determinant over the divisor's third power.
        """
        divisors = (self.matrix @ self.fixed.corners)[-1]
        if not (divisors > 0).all():
            return 0.0
        zooms = np.linalg.det(self.matrix) / divisors ** len(self.matrix)
        return float(zooms[np.abs(np.log(np.abs(zooms) + 1e-300)).argmax()])

    def corners(self) -> np.ndarray:
        """Where the fixed image's corners are read."""
        found = self.matrix @ self.fixed.corners
        return found[:-1] / found[-1]

    def penalty(self) -> tuple[float, float, float]:
        """Nothing is held against a map of a group."""
        return 0.0, 0.0, 0.0


def warped(image: np.ndarray, matrix: np.ndarray, sides: Any, fill: float = np.nan) -> Any:
    """A plane or volume under a matrix between pixels; ``fill`` outside."""
    theta = theta_of(matrix, sides, image.shape)
    dims = len(sides)
    if dims == 2 and np.any(theta[2] != (0, 0, 1)):
        warp, theta = warp_perspective, theta[None]
    else:
        warp, theta = warp_affine, theta[None, :dims]
    return warp(image[None, None], theta, sides, padding_mode="fill", fill=fill)[0, 0]


def theta_of(matrix: np.ndarray, size: tuple[int, ...], image_size: tuple[int, ...]) -> np.ndarray:
    """Theta (d + 1, d + 1) of a matrix between pixels, in the plane or in space.

    Corners are not aligned: -1 and 1 are the outer edges.
    """

    def to_pixels(sides):
        found = np.diag([*(side / 2 for side in sides[::-1]), 1.0])
        found[:-1, -1] = [(side - 1) / 2 for side in sides[::-1]]
        return found

    return np.linalg.inv(to_pixels(image_size)) @ matrix @ to_pixels(size)


# --- Thin-plate splines ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Spline:
    """A thin-plate spline: see :mod:`numba_stn.ops.tps_grid`.

    Parameters
    ----------
    control : (K, 2) array
        Where the lattice's points read the moving image, in normalised coordinates.
    sides, target : (H, W)
        Of the moving and the fixed image.
    stiffness : float
        What the bending energy counts beside the squared differences of a pixel.
    """

    control: np.ndarray
    sides: tuple[int, ...]
    target: tuple[int, ...]
    stiffness: float

    def moved(self, step: np.ndarray) -> "Spline":
        """The spline after a step of its 2 K parameters, all x before all y."""
        return replace(self, control=self.control + step.reshape(2, -1).T)

    def sums(self, level: Level):
        """J^T J (2 K, 2 K), J^T (s, f, 1) (2 K, 3), and the sums of values, at a level."""
        basis = functions(round(len(self.control) ** 0.5), self.target, level.halvings)
        half = np.array(self.sides[::-1]) / 2 / 2.0**level.halvings
        columns, lines = ((p + 1) * np.float32(h) - np.float32(0.5)
                          for p, h in zip(self.places(level), half, strict=True))  # fmt: skip
        normal, mixed, values = grid_moments(
            level.moving, level.fixed, level.mask, columns, lines, basis
        )
        ways = np.repeat(half, len(self.control))
        return ways[:, None] * normal * ways, ways[:, None] * mixed, values

    def places(self, level: Level) -> np.ndarray:
        """Where the level's pixels read the moving image, in its normalised coordinates."""
        basis = functions(round(len(self.control) ** 0.5), self.target, level.halvings)
        return np.tensordot(self.control.T.astype(np.float32), basis, 1)

    def read(self, level: Level, moving: Frame) -> np.ndarray:
        """The level's moving image as the fixed one's pixels read it; NaN outside."""
        scale = np.array(self.sides) / 2.0**level.halvings / level.moving.shape[1:]
        grid = np.stack([(p + 1) * np.float32(k) - 1 for p, k in
                         zip(self.places(level), scale[::-1], strict=True)], axis=-1)  # fmt: skip
        return grid_sample(level.moving[None], grid[None], padding_mode="fill", fill=np.nan)[0, 0]

    def apart(self, other: "Spline") -> float:
        """How far another spline takes the control points from here, in pixels."""
        return float((np.abs(self.control - other.control) * self.sides[::-1]).max() / 2)

    def zoom(self) -> float:
        """What areas are multiplied by, in the cell of the lattice where that is most."""
        k = round(len(self.control) ** 0.5)
        places = self.control.reshape(k, k, 2)
        right, down = np.diff(places, axis=1)[:-1], np.diff(places, axis=0)[:, :-1]
        areas = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
        zooms = areas * ((k - 1) / 2) ** 2 * np.prod(self.sides) / np.prod(self.target)
        return float(zooms.ravel()[np.abs(np.log(np.maximum(zooms, 1e-300))).argmax()])

    def penalty(self):
        """Half the bending energy, its slope, and the matrix of its second derivatives."""
        k = round(len(self.control) ** 0.5)
        offsets, matrix = self.control - control_points(k), bending(k) * self.stiffness
        slope = matrix @ offsets
        return 0.5 * float((offsets * slope).sum()), slope.T.ravel(), np.kron(np.eye(2), matrix)


@lru_cache(maxsize=8)
def functions(k: int, sides: tuple[int, ...], halvings: int) -> np.ndarray:
    """What each control point counts at each pixel: (K, H, W) of float32."""
    if halvings:
        finer = functions(k, sides, halvings - 1)
        return np.stack([halved(each) for each in finer])
    units = np.zeros((k * k, k * k, 2))
    units[np.arange(k * k), np.arange(k * k), 0] = 1
    basis = np.empty((k * k, *sides), np.float32)
    for one, unit in zip(basis, units, strict=True):
        one[:] = tps_grid(unit[None], sides)[0, :, :, 0]
    return basis


@lru_cache(maxsize=8)
def bending(k: int) -> np.ndarray:
    """Matrix (K, K) of the bending energy, but for a factor of 16 pi: positive semi-definite."""
    _, matrix = solution(k, 0.0)
    energy = (matrix[: k * k] + matrix[: k * k].T) / 2
    return energy if np.trace(energy) > 0 else -energy
