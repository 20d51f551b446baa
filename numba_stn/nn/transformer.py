"""The spatial transformer (Jaderberg et al. 2015) as a layer like any other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from ..ops import warp_tps, warps
from ..ops.validate import check_options, check_output_size
from ..transforms.parametrisations import Transform, by_name
from ..utils.namespace import namespace
from .layer import Layer, repeated
from .tree import Tree

# The kinds of transforms whose maps can be turned.
TURNED = ("affine", "projective")


@dataclass(frozen=True)
class SpatialTransformer(Layer):
    """Warp each image by a map that a small network reads off the image itself.

    ``localisation`` sees the images and gives features (N, F); a linear layer of zero weights,
    whose bias is the transform's identity, turns them into the transform's parameters, so that
    training starts from the undistorted image, or, with a ``zoom`` below 1, from its middle. Its
    parameters are
    ``{"localisation": {"features": ..., "head": ...}}``: an optimiser's
    ``factors={"localisation": 0.1}`` slows down just these.

    With K ``turns`` each image is read K times, and its readings lie side by side along channels.
    """

    localisation: Layer
    transform: Transform
    size: tuple[int, ...] | None = None
    padding_mode: str = "zeros"
    align_corners: bool = False
    zoom: float = 1.0
    turns: Sequence[float] = ()

    def __post_init__(self):
        """Check the turns."""
        object.__setattr__(self, "turns", _degrees(self.turns))  # frozen, but for this
        if self.turns and self.transform.kind not in TURNED:
            raise ValueError(
                f"turns: expected an affine or projective transform, got {self.transform}"
            )

    def init(self, rng, shape):
        """The localisation's own parameters, and the head's identity or zoom."""
        features = self.localisation.output_shape(shape)
        if len(features) != 1:
            raise ValueError(
                f"localisation: expected a network that gives features (F,), got {features}; "
                f"end it with flatten() or linear()"
            )
        head = {
            "weight": np.zeros((self.transform.size, *features), np.float32),
            "bias": np.array(self.transform.zoomed(self.zoom), np.float32),
        }
        return {"localisation": {"features": self.localisation.init(rng, shape), "head": head}}

    def init_state(self, shape):
        """The localisation's."""
        return self.localisation.init_state(shape)

    def output_shape(self, shape):
        """``(C, *size)``; with K turns, ``(K C, *size)``."""
        return (self.readings * shape[0], *(self.size or shape[1:]))

    @property
    def readings(self) -> int:
        """How many times each image is read, K."""
        return len(self.turns) or 1

    def maps(self, raw: Any) -> Any:
        """Theta (N K, ...) of each reading, from the transform's parameters (N, P)."""
        theta = self.transform.theta(raw)
        if not self.turns:
            return theta
        each = np.stack([_turned(theta, turn) for turn in self.turns], axis=1)
        return each.reshape(-1, *theta.shape[1:])

    def maps_vjp(self, dmaps: Any, raw: Any) -> Any:
        """Gradient (N, P), from the one with respect to :meth:`maps`."""
        if not self.turns:
            return self.transform.vjp(dmaps, raw)
        each = dmaps.reshape(-1, self.readings, *dmaps.shape[1:])
        back = [_turned(each[:, k], -turn) for k, turn in enumerate(self.turns)]
        return self.transform.vjp(sum(back), raw)

    def theta(
        self, params: Tree, images: Any, state: Tree = (), train: bool = False, wrt_x: bool = True
    ) -> tuple[Any, Any, Tree]:
        """:meth:`maps` of these images, the pullback, and the localisation's new state."""
        own = params["localisation"]
        features, back, state = self.localisation.apply(
            own["features"], images, state, train, wrt_x
        )
        weight = own["head"]["weight"]
        raw = features @ weight.T + own["head"]["bias"]

        def pullback(dtheta):
            draw = self.maps_vjp(dtheta, raw)
            dfeatures, dimages = back(draw @ weight)
            head = {"weight": draw.T @ features, "bias": draw.sum(0)}
            return {"localisation": {"features": dfeatures, "head": head}}, dimages

        return self.maps(raw), pullback, state

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """The warped images; the pullback's dx adds both ways: sampler and localisation."""
        theta, back, state = self.theta(params, x, state, train, wrt_x)
        images, theta = _in_rows(self._each(x), theta)
        warp, warp_vjp, name = _warp(self.transform)
        wrt = ("images", name) if wrt_x else (name,)
        samples = warp(images, theta, self.size, **self._options)

        def pullback(dy):
            dsamples, _ = _in_rows(dy.reshape(samples.shape) if self.turns else dy, theta)
            dimages, dtheta = warp_vjp(dsamples, images, theta, **self._options, wrt=wrt)
            dparams, dseen = back(dtheta)
            return dparams, self._each_vjp(dimages) + dseen if wrt_x else None

        return self._side_by_side(samples), pullback, state

    def covered(self, params: Tree, x: Any, state: Tree = ()) -> tuple[Any, Any]:
        """The warped images, and how much of each sample, (N, H_out, W_out), lies inside.

        With turns, the mean over the readings of each.
        """
        theta, _, _ = self.theta(params, x, state)
        warp, _, _ = _warp(self.transform)
        images, theta = _in_rows(self._each(x), theta)
        samples, covered = warp(images, theta, self.size, **self._options, coverage=True)
        apart = covered.reshape(-1, self.readings, *covered.shape[1:])
        return self._side_by_side(samples), apart.mean(1) if self.turns else covered

    def _each(self, x):
        """Each image as often as it is read."""
        return repeated(x, self.readings) if self.turns else x

    def _each_vjp(self, dimages):
        """The sum over an image's readings."""
        if not self.turns:
            return dimages
        return dimages.reshape(-1, self.readings, *dimages.shape[1:]).sum(1)

    def _side_by_side(self, samples):
        """An image's readings along channels."""
        channels, *sides = samples.shape[1:]
        return samples.reshape(len(samples) // self.readings, self.readings * channels, *sides)

    @property
    def _options(self) -> dict[str, Any]:
        return {"padding_mode": self.padding_mode, "align_corners": self.align_corners}


def _in_rows(x, theta):
    """Both without gaps: the GPU's kernels take nothing else."""
    in_rows = namespace(x, theta).ascontiguousarray
    return in_rows(x), in_rows(theta)


# --- Turns ----------------------------------------------------------------------------------------


def _turned(theta, degrees):
    """Theta behind a turn: an output point is turned first. Its adjoint is the turn back."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, rest = theta[:, :, :1], theta[:, :, 1:2], theta[:, :, 2:]
    return np.concatenate([cos * x + sin * y, cos * y - sin * x, rest], axis=2)


def _degrees(turns):
    """The turns as floats."""
    if not isinstance(turns, (Sequence, np.ndarray)) or isinstance(turns, str):
        raise TypeError(f"turns: expected several angles in degrees, got {turns!r}")
    for turn in turns:
        if isinstance(turn, bool) or not isinstance(turn, Real) or not math.isfinite(turn):
            raise ValueError(f"turns: expected angles in degrees, got {turn!r}")
    return tuple(map(float, turns))


# --- The warps of the transforms ------------------------------------------------------------------


def _warp(transform):
    """The warp that takes a transform's theta, its vjp, and what theta is called there."""
    if transform.kind == "tps":
        more = {"regularisation": transform.regularisation}
        return partial(warp_tps.warp_tps, **more), partial(warp_tps.warp_tps_vjp, **more), "control"
    if transform.kind == "projective":
        return warps.warp_perspective, warps.warp_perspective_vjp, "theta"
    return warps.warp_affine, warps.warp_affine_vjp, "theta"


def spatial_transformer(
    localisation: Layer,
    transform: str | Transform = "affine",
    size: tuple[int, ...] | None = None,
    padding_mode: str = "zeros",
    align_corners: bool = False,
    zoom: float = 1.0,
    turns: Sequence[float] = (),
) -> SpatialTransformer:
    """Spatial transformer, to stand anywhere in a network, more than once.

    It warps CuPy's arrays by the CUDA kernels of :func:`numba_stn.warp_affine`,
    :func:`numba_stn.warp_perspective` and :func:`numba_stn.warp_tps`.

    Parameters
    ----------
    localisation : Layer
        From images (N, C, H, W), or volumes (N, C, D, H, W), to features (N, F). The layer that
        turns features into the transform's parameters is added here, and starts at the identity.
    transform : str or Transform
        See :mod:`numba_stn.transforms`.
    size : (H_out, W_out) or, for volumes, (D_out, H_out, W_out), optional
        Sides of the samples; the images' own, if not given.
    padding_mode, align_corners
        As in :func:`numba_stn.warp_affine`.
    zoom : float
        The share of the images' sides that is read before any training, in their middle. At
        ``size / sides`` a sample is then a pixel, which loses no detail; training finds what lies
        outside.
    turns : sequence of float, optional
        Degrees. Each image is then read once for each of them, by the one map that the
        localisation finds for it, behind a turn by so much: ``theta_k = theta R_k``, with the
        columns ``(cos, sin, 0), (-sin, cos, 0), (0, 0, 1)`` of ``R_k``. What is read is turned
        about its middle, as ``np.rot90`` turns by 90, where it is square. An image's K readings lie
        side by side along channels, (N, K C, H_out, W_out), for :func:`numba_stn.nn.averaged` to
        read.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or value, or the transform has no zoom or cannot be
        turned; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import flatten, linear, relu, serial, spatial_transformer
    >>> layer = spatial_transformer(serial(flatten(), linear(8), relu()), "attention", size=(4, 4))
    >>> images = np.ones((2, 1, 8, 8), np.float32)
    >>> params = layer.init(np.random.default_rng(0), images.shape[1:])
    >>> samples, pullback, _ = layer.apply(params, images)
    >>> samples.shape
    (2, 1, 4, 4)
    """
    transform = by_name(transform)
    if size is not None:
        size = tuple(check_output_size(size, None, 3 if transform.kind == "affine 3-D" else 2))
    check_options("bilinear", padding_mode, align_corners, 0.0)
    transform.zoomed(zoom)  # here, so that the error comes before any training
    return SpatialTransformer(
        localisation, transform, size, padding_mode, align_corners, zoom, turns
    )
