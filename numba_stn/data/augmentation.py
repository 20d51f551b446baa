"""The maps of a random augmentation, which move all that goes along with the images."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..images.warp_image import warp_image
from ..kernels.cpu_launch import one_thread, workers
from ..ops.tps_grid import solve_spline
from ..ops.warp_tps import warp_tps
from ..ops.warps import warp_affine, warp_perspective
from ..transforms.matrices import from_theta
from ..transforms.moved_points import transform_boxes
from ..utils.namespace import as_array, namespace

__all__ = ["Augmentation"]

# Points along each edge of a box that are moved: a straight line need not stay one.
EDGE_POINTS = 17

# Steps of Newton's method for the point that a spline maps to a given one, the step of the
# differences that give its slopes, and the distance at which a point counts as found; in normalised
# coordinates.
STEPS, DIFFERENCE, FOUND = 30, 1e-6, 1e-9

# Dtypes that the kernels of single images take.
_IMAGE_DTYPES = ("uint8", "uint16", "float32", "float64")

# From this number of pixels on, images of integers with 3 or 4 channels are warped one by one by
# warp_image, in fixed point; smaller ones take less time in one launch for the whole batch.
_ONE_BY_ONE = 128 * 128


@dataclass(frozen=True)
class Augmentation:
    """The maps of a call of :func:`numba_stn.augment`, one for each image.

    They map output to input coordinates, as all maps of warps; points and boxes move by their
    inverse.

    Attributes
    ----------
    theta : (N, 2, 3) or (N, 3, 3) array of float64
        The affine maps, or with ``perspective`` the projective ones, in normalised coordinates.
    control : (N, 16, 2) array of float64, or None
        With ``elastic``, the control points of the splines, see :func:`numba_stn.warp_tps`. They
        contain theta.
    sides : (H, W)
        Sides of the images.
    layout : {"NCHW", "NHWC"}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> images = np.zeros((2, 1, 20, 30), np.float32)
    >>> _, maps = stn.augment(images, np.random.default_rng(0), flip=True)
    >>> found = maps.transform_points([[[0, 5]], [[0, 5]]])
    >>> [np.abs(points).round(2).tolist() for points in found]
    [[[0.0, 5.0]], [[29.0, 5.0]]]
    """

    theta: np.ndarray
    control: np.ndarray | None = field(default=None)
    sides: tuple[int, int] = (1, 1)
    layout: str = "NCHW"

    def __len__(self) -> int:
        """Number of maps."""
        return len(self.theta)

    @property
    def matrices(self) -> np.ndarray:
        """The maps in pixels, (N, 2, 3) or (N, 3, 3), as :func:`numba_stn.warp_image` takes them.

        With ``elastic`` they lack the elastic part.
        """
        if self.theta.shape[1] == 3:
            return from_theta(self.theta, self.sides, self.sides)
        height, width = self.sides
        linear = self.theta[:, :, :2] * np.array([[1, width / height], [height / width, 1]])
        centre = np.array([width - 1, height - 1]) / 2  # exact for the identity
        shift = self.theta[:, :, 2] * np.array([width, height]) / 2
        return np.concatenate([linear, (centre - linear @ centre + shift)[:, :, None]], 2)

    # --- Images ---

    def warp(
        self,
        images: Any,
        *,
        mode: str = "bilinear",
        padding_mode: str = "border",
        fill: float | Sequence[float] = 0.0,
    ) -> Any:
        """Warp a batch by the maps: other images of the same scenes, or label images.

        Parameters
        ----------
        images : (N, C, H, W) or (N, H, W, C) array, as given to ``augment``; or (N, H, W)
            With ``mode="nearest"`` of any dtype: labels stay exact.
        mode, padding_mode, fill
            As in :func:`numba_stn.warp_affine`. Pixels from outside an image get ``fill`` with
            ``padding_mode="zeros"``: the number of a label to ignore, for example.

        Returns
        -------
        warped : array of the images' shape and dtype

        Raises
        ------
        ValueError, TypeError
            If the images do not fit the maps, or an option is wrong.
        """
        images = as_array(images, "images")
        plain = images.ndim == 3
        last = self.layout == "NHWC" or plain
        if images.ndim not in (3, 4) or len(images) != len(self):
            raise ValueError(f"images: expected {len(self)} images, as given to augment, or "
                             f"(N, H, W), got shape {images.shape}")  # fmt: skip
        if (found := images.shape[1:3] if last else images.shape[2:]) != tuple(self.sides):
            raise ValueError(f"images: expected sides {tuple(self.sides)}, got {found}")
        options = {"mode": mode, "padding_mode": padding_mode, "fill": fill}
        if mode == "nearest" and namespace(images) is np and images.dtype.name not in _IMAGE_DTYPES:
            return self._warp_labels(images, padding_mode, fill)
        whole = images[..., None] if plain else images
        warped = self._warp(whole, "NHWC" if last else "NCHW", options)
        return warped[..., 0] if plain else warped

    def _warp(self, images, layout, options):
        """Warp a batch (N, C, H, W) or (N, H, W, C)."""
        xp = namespace(images)
        if self.control is not None:
            return warp_tps(images, xp.asarray(self.control), **options, layout=layout)
        if xp is np and layout == "NHWC" and _has_faster_kernels(images):
            return self._warp_each(images, options)
        warp = warp_affine if self.theta.shape[1] == 2 else warp_perspective
        return warp(images, xp.asarray(self.theta), **options, layout=layout)

    def _warp_each(self, images, options):
        """Warp image by image (H, W, C)."""
        images, matrices = np.ascontiguousarray(images), self.matrices
        out = np.empty_like(images)

        def warp_one(n):
            warp_image(images[n], matrices[n], out=out[n], **options)

        for_each(len(images), images.size, warp_one)
        return out

    def _warp_labels(self, labels, padding_mode, fill):
        """Warp the number of each pixel, which float64 holds exactly, and take these pixels."""
        height, width = self.sides
        numbers = np.arange(height * width, dtype=np.float64).reshape(1, height, width)
        options = {"mode": "nearest", "padding_mode": padding_mode, "fill": -1.0}
        last = self.layout == "NHWC" and labels.ndim == 4
        planes = np.moveaxis(labels, -1, 1) if last else labels
        out = np.empty_like(planes)
        fills = np.asarray(fill, labels.dtype)
        for n, own in enumerate(planes):
            map_n = Augmentation(self.theta[n : n + 1],
                                 None if self.control is None else self.control[n : n + 1],
                                 self.sides)  # fmt: skip
            found = map_n._warp(numbers[..., None], "NHWC", options)[0, ..., 0].astype(np.int64)
            flat = own.reshape(-1, height * width)
            taken = np.where(found < 0, fills.reshape(-1, 1, 1), flat[:, found])
            out[n] = taken.reshape(own.shape)
        return np.moveaxis(out, 1, -1) if last else out

    # --- Points and boxes ---

    def transform_points(self, points: Any) -> Any:
        """Move points of the images to where the augmented images show them.

        Parameters
        ----------
        points : (N, P, 2) array, or a list of N arrays (P, 2)
            Pixel coordinates (x, y), with pixel centres at integers.

        Returns
        -------
        moved : array (N, P, 2) of float64, or a list of arrays, as given
            A point may be outside the image. It is NaN if no pixel can show it: beyond the horizon
            of a projective map.

        Raises
        ------
        ValueError, TypeError
            If there are not N sets of points, or their shapes are wrong.
        """
        given = self._checked("points", points, 2)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            moved = [self._move(n, own) for n, own in enumerate(given)]
        return moved if _is_list(points) else _stacked(moved, np.shape(points))

    def transform_boxes(
        self, boxes: Any, *, min_visible: float = 0.0, pixels: str = "edges"
    ) -> tuple[Any, Any]:
        """Move boxes: each becomes the smallest one that holds what it held, clipped to the image.

        Parameters
        ----------
        boxes : (N, K, 4) array, or a list of N arrays (K, 4)
            (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1.
        min_visible, pixels
            As in :func:`numba_stn.transform_boxes`.

        Returns
        -------
        boxes : array (N, K, 4) of float64, or a list of arrays, as given
            All boxes, in the order in which they came.
        kept : array (N, K) of bool, or a list of arrays
            Whether enough of each box is visible.

        Raises
        ------
        ValueError, TypeError
            If there are not N sets of boxes, or their shapes are wrong.
        """
        given = self._checked("boxes", boxes, 4)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = [self._move_boxes(n, own, min_visible, pixels) for n, own in enumerate(given)]
        moved, kept = [each for each, _ in found], [each for _, each in found]
        if _is_list(boxes):
            return moved, kept
        shape = np.shape(boxes)
        return _stacked(moved, shape), _stacked(kept, shape[:-1], bool)

    def _checked(self, name, items, numbers):
        """Arrays (K, numbers) of float64, one for each image."""
        items = items if _is_list(items) else np.asarray(items, np.float64)
        if len(items) != len(self):
            raise ValueError(f"{name}: expected one set for each of {len(self)} images, got "
                             f"{len(items)}")  # fmt: skip
        found = [np.asarray(each, np.float64) for each in items]
        for n, each in enumerate(found):
            if each.size == 0:
                found[n] = np.empty((0, numbers))
            elif each.ndim != 2 or each.shape[1] != numbers:
                raise ValueError(f"{name}: expected shape (K, {numbers}) for an image, got "
                                 f"{each.shape}")  # fmt: skip
        return found

    def _move_boxes(self, n, boxes, min_visible, pixels):
        """Move the edges of boxes (K, 4), and clip what holds them."""
        shift = 0.5 if pixels == "edges" else 0.0
        along = np.linspace(0, 1, EDGE_POINTS)[:, None]
        x0, y0, x1, y1 = (boxes - shift).T[:, None]
        x, y = x0 + (x1 - x0) * along, y0 + (y1 - y0) * along
        across, down = np.broadcast_arrays(y0, x)[0], np.broadcast_arrays(x0, y)[0]
        edges = [(x, across), (x, across - y0 + y1), (down, y), (down - x0 + x1, y)]
        points = np.concatenate([np.stack(edge, -1) for edge in edges])  # (4 EDGE_POINTS, K, 2)
        moved = self._move(n, points.reshape(-1, 2)).reshape(points.shape) + shift
        hidden = np.isnan(moved).any(-1).all(0)
        low = np.where(np.isnan(moved), np.inf, moved).min(0)
        high = np.where(np.isnan(moved), -np.inf, moved).max(0)
        outer = np.concatenate([low, high], 1)
        outer[hidden] = -1e9  # outside
        outer = np.clip(outer, -1e9, 1e9)
        found, kept = transform_boxes(np.eye(3), outer, self.sides, min_visible=min_visible,
                                      pixels=pixels)  # fmt: skip
        return found, kept & ~hidden

    def _move(self, n, points):
        """Move points (P, 2), in pixels, of image n by the inverse of its map."""
        height, width = self.sides
        half = np.array([width, height]) / 2
        inside = (points + 0.5) / half - 1
        theta = self.theta[n]
        whole = theta if len(theta) == 3 else np.concatenate([theta, [[0.0, 0.0, 1.0]]])
        moved = np.linalg.solve(whole, np.concatenate([inside, np.ones((len(inside), 1))], 1).T).T
        # Where this is not positive, the divisor is not: the map shows the point nowhere.
        seen = moved[:, 2:] > 0
        moved = np.where(seen, moved[:, :2] / moved[:, 2:], np.nan)
        if self.control is not None:
            moved = _invert_spline(self.control[n], inside, moved)
        return (moved + 1) * half - 0.5


def for_each(count: int, work: int, function: Callable[[int], Any]) -> None:
    """Call ``function(n)`` for each of ``count`` numbers, on threads if there is enough work.

    Each call runs its kernels on its own thread.
    """
    threads = min(workers(work), count)
    if threads <= 1:
        for n in range(count):
            function(n)
        return

    def run(first):
        with one_thread():
            for n in range(first, count, threads):
                function(n)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(threads)))


def _has_faster_kernels(images):
    """Whether images (N, H, W, C) are warped faster by the kernels of single images."""
    _, height, width, channels = images.shape
    fixed_point = images.dtype.name in ("uint8", "uint16") and channels in (3, 4)
    return fixed_point and height * width >= _ONE_BY_ONE


def _is_list(items):
    """Whether sets are given as a list, so that their lengths may differ."""
    return isinstance(items, (list, tuple))


def _stacked(arrays, shape, dtype=np.float64):
    """One array, also of no images."""
    return np.stack(arrays) if arrays else np.empty(shape, dtype)


# --- Splines --------------------------------------------------------------------------------------


def _spline(control, points):
    """The thin-plate spline of control points (K, 2) at points (P, 2)."""
    lattice, solve = solve_spline(round(len(control) ** 0.5), 0.0)
    weights = solve @ (control - lattice)
    squares = ((points[:, None] - lattice) ** 2).sum(-1)
    bent = squares * np.log(np.maximum(squares, 1e-300))
    linear = np.concatenate([np.ones((len(points), 1)), points], 1)
    return points + np.concatenate([bent, linear], 1) @ weights


def _invert_spline(control, targets, start):
    """Points that a spline maps to targets (P, 2), by Newton's method; NaN where it fails."""
    found = start.copy()
    for _ in range(STEPS):
        missing = targets - _spline(control, found)
        slopes = [
            (_spline(control, found + step) - _spline(control, found - step)) / (2 * DIFFERENCE)
            for step in DIFFERENCE * np.eye(2)
        ]
        jacobian = np.stack(slopes, -1)
        determinant = np.linalg.det(jacobian)
        safe = np.where((np.abs(determinant) > 1e-9)[:, None, None], jacobian, np.eye(2))
        found = found + np.linalg.solve(safe, missing[:, :, None])[:, :, 0]
    missing = np.abs(targets - _spline(control, found)).max(1)
    return np.where((missing < FOUND)[:, None], found, np.nan)
