"""The spatial transformer (Jaderberg et al. 2015) as a layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from numbers import Real
from typing import Any

import numpy as np

from ..ops import warp_cpab, warp_tps, warps
from ..ops.validate import check_options, check_output_size
from ..transforms.composition import SHAPES
from ..transforms.parametrisations import Transform, by_name
from ..utils.namespace import namespace
from .base import Layer, Pullback, check_arguments, check_layers, repeat
from .checks import batch_of, check_gradient, check_whole
from .dense import Linear
from .finite import check_theta
from .gradients import Linearised, check_gradient_kind
from .penalties import Penalty, check_penalties
from .rounds import Predicted, composed_rounds
from .tree import Tree

# The kinds of transforms whose theta can be rotated, for several views.
ROTATABLE = ("affine", "projective")


@dataclass(frozen=True)
class SpatialTransformer(Layer):
    """Warp each image by a theta that a small network predicts from the image itself.

    ``localisation`` maps the images to features (N, F). A linear layer, the head, maps the features
    to the transform's parameters (N, P). Its initial weights are 0, and its initial bias is the
    transform's identity, so that training starts from the undistorted image, or, with a ``zoom``
    below 1, from its middle.

    The layer's parameters are ``{"localisation": {"features": ..., "head": ...}}``. An optimiser
    with ``factors={"localisation": 0.1}`` trains these at a tenth of the learning rate.

    With K ``view_angles`` each image is sampled K times, once for each angle, and these views are
    concatenated along channels. With several ``rounds`` theta is composed of several predictions;
    the state is then a tuple of the localisation's, one for each round. With ``return_theta`` the
    entries of theta are further channels of the output.

    :func:`spatial_transformer` makes one, and describes the attributes.
    """

    name = "spatial_transformer"

    localisation: Layer
    transform: Transform
    size: tuple[int, ...] | None = None
    padding_mode: str = "zeros"
    align_corners: bool = False
    zoom: float = 1.0
    view_angles: Sequence[float] = ()
    rounds: int = 1
    return_theta: bool = False
    penalties: Sequence[Penalty] = ()
    gradient: str | Linearised | None = "exact"

    def __post_init__(self):
        """Check the localisation, the angles and the rounds."""
        check_layers(self.name, (self.localisation,))
        check_whole(self.name, rounds=self.rounds)
        if self.rounds > 1 and self.transform.kind not in SHAPES:
            raise ValueError(
                f"{self.name}: rounds: expected 1 for {self.transform}, whose maps cannot be "
                f"composed, got {self.rounds}"
            )
        object.__setattr__(self, "view_angles", _checked_angles(self.view_angles))  # it is frozen
        object.__setattr__(self, "penalties", check_penalties(self.name, self.penalties))
        found = check_gradient_kind(self.name, self.transform, self.gradient)
        object.__setattr__(self, "gradient", found)
        if not isinstance(self.return_theta, bool):
            raise TypeError(
                f"{self.name}: return_theta: expected True or False, got {self.return_theta!r}"
            )
        if self.view_angles and self.transform.kind not in ROTATABLE:
            raise ValueError(
                f"view_angles: expected an affine or projective transform, got {self.transform}"
            )

    def init(self, rng, shape):
        """The localisation's initial parameters, and the head's."""
        self.output_shape(shape)
        (features,) = self.localisation.output_shape(shape)
        head = {
            "weight": np.zeros((self.transform.size, features), np.float32),
            "bias": np.array(self.transform.zoomed(self.zoom), np.float32),
        }
        return {"localisation": {"features": self.localisation.init(rng, shape), "head": head}}

    def init_state(self, shape):
        """The localisation's; with several rounds a tuple of them."""
        one = self.localisation.init_state(shape)
        return (one,) * self.rounds if self.rounds > 1 else one

    def output_shape(self, shape):
        """``(C, *size)``; with K views, ``(K C, *size)``; P channels more for theta's entries."""
        sides = "D, H, W" if self.transform.kind == "affine 3-D" else "H, W"
        if len(shape) != 1 + len(sides.split()) or 0 in shape[1:]:
            raise ValueError(
                f"{self.name}: x: expected shape (N, C, {sides}), with sides of at least one "
                f"pixel, got {batch_of(shape)}"
            )
        features = self.localisation.output_shape(shape)
        if len(features) != 1:
            raise ValueError(
                f"{self.name}: localisation: expected a network with outputs of shape (F,), got "
                f"{features}; end it with flatten() or linear()"
            )
        return (self.views * (shape[0] + self.theta_channels), *(self.size or shape[1:]))

    def arrays(self, shape):
        """See :meth:`Layer.arrays`; localisation and head check their own."""
        return {"localisation": {"features": None, "head": None}}, ()

    def part(self, key):
        """See :meth:`Layer.part`."""
        return {"features": self.localisation, "head": self.head}.get(key, self)

    @cached_property
    def head(self) -> Linear:
        """The linear layer from features to the transform's parameters."""
        return _Head(self.transform.size)

    @property
    def views(self) -> int:
        """Number of views of each image, K."""
        return len(self.view_angles) or 1

    @property
    def theta_channels(self) -> int:
        """Number of channels of the output that have theta's entries, for each view."""
        return math.prod(self.transform.shape) if self.return_theta else 0

    def rotated_views(self, theta: Any) -> Any:
        """Theta (N K, ...) of each view, from that of the images."""
        if not self.view_angles:
            return theta
        views = np.stack([_rotated(theta, angle) for angle in self.view_angles], axis=1)
        return views.reshape(-1, *theta.shape[1:])

    def rotated_views_vjp(self, dtheta: Any) -> Any:
        """Gradient with respect to the images' theta, from that of each view's."""
        if not self.view_angles:
            return dtheta
        views = dtheta.reshape(-1, self.views, *dtheta.shape[1:])
        return sum(_rotated(views[:, k], -angle) for k, angle in enumerate(self.view_angles))

    def theta(
        self, params: Tree, images: Any, state: Tree = (), train: bool = False, wrt_x: bool = True
    ) -> tuple[Any, Any, Tree]:
        """Predict theta from images; returns theta, the pullback and the localisation's state.

        Theta is (N K, ...) with K views. The other arguments are those of :meth:`Layer.apply`. In
        training the pullback adds the gradients of the penalties.
        """
        images = check_arguments(self, params, images, state, train)
        own = params["localisation"]
        theta, back, state = composed_rounds(self, own, images, state, train, wrt_x)
        if train and namespace(theta) is np:  # looking at CuPy's would wait for the GPU
            check_theta(self.name, theta)

        def pullback(dviews):
            dtheta = self.rotated_views_vjp(dviews)
            for penalty in self.penalties if train else ():
                dtheta = dtheta + penalty(theta)[1]
            dlocalisation, dimages = back(dtheta)
            return {"localisation": dlocalisation}, dimages

        return self.rotated_views(theta), pullback, state

    def predict(self, params: Tree, seen: Any, state: Tree, train: bool, wrt_x: bool) -> Predicted:
        """The map that localisation and head, with these parameters, predict in one round."""
        features, back, state = self.localisation.apply(
            params["features"], seen, state, train, wrt_x
        )
        raw, head_back, _ = self.head.apply(params["head"], features)

        def pullback(dstep):
            dhead, dfeatures = head_back(self.transform.vjp(dstep, raw))
            dlocalisation, dseen = back(dfeatures)
            return {"features": dlocalisation, "head": dhead}, dseen

        return Predicted(self.transform.theta(raw), pullback, state)

    def warp(self, images: Any, theta: Any, size: tuple[int, ...] | None) -> Any:
        """The images at theta, by the transform's warp and the layer's options."""
        warp, _, _ = _warp_functions(self.transform)
        return warp(*_contiguous(images, theta), size, **self._options)

    def warp_vjp(self, dsamples: Any, images: Any, theta: Any, wrt_x: bool) -> tuple[Any, Any]:
        """Gradients of :meth:`warp` with respect to the images, if wanted, and to theta."""
        _, warp_vjp, name = _warp_functions(self.transform)
        wrt = ("images", name) if wrt_x else (name,)
        dsamples, images = _contiguous(dsamples, images)
        images, theta = _contiguous(images, theta)
        if not isinstance(self.gradient, Linearised):
            return warp_vjp(dsamples, images, theta, **self._options, wrt=wrt)
        dtheta = self.gradient.theta_gradient(
            self.transform, dsamples, images, theta, self._options
        )
        if not wrt_x:
            return None, dtheta
        return warp_vjp(dsamples, images, theta, **self._options, wrt=("images",))[0], dtheta

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """Warp the images; dx is the sum of the sampler's and the localisation's gradients."""
        (y, _), back, state = self.apply_with_theta(params, x, state, train, wrt_x)
        return y, lambda dy: back((dy, None)), state

    def apply_with_theta(
        self, params: Tree, x: Any, state: Tree = (), train: bool = False, wrt_x: bool = True
    ) -> tuple[tuple[Any, Any], Pullback, Tree]:
        """Warp the images; returns the output and theta, the pullback of both, and the state.

        ``dparams, dx = pullback((dy, dtheta))``; dtheta is the gradient of a loss that depends on
        theta itself, or None. With K views, theta is (N K, ...).
        """
        theta, back, state = self.theta(params, x, state, train, wrt_x)
        images = self._repeat(x)
        samples = self.warp(images, theta, self.size)
        y = self._output(samples, theta)
        y_shape = y.shape

        def pullback(gradients):
            dy, dtheta = gradients
            dy = check_gradient(self.name, dy, type(samples), y_shape, samples.dtype)
            dsamples, dchannels = self._output_vjp(dy, samples.shape)
            dimages, dmaps = self.warp_vjp(dsamples, images, theta, wrt_x)
            for more in (dchannels, dtheta):
                dmaps = dmaps if more is None else dmaps + more.reshape(dmaps.shape)
            dparams, dx = back(dmaps)
            return dparams, self._repeat_vjp(dimages) + dx if wrt_x else None

        return (y, theta), pullback, state

    def apply_with_coverage(self, params: Tree, x: Any, state: Tree = ()) -> tuple[Any, Any, Any]:
        """Warp the images; returns the output, the covered share of each sample, and theta.

        The share, (N, H_out, W_out), is 1 inside the image and 0 outside. With several views it is
        the mean over them.
        """
        maps, _, _ = self.theta(params, x, state)
        warp, _, _ = _warp_functions(self.transform)
        images, theta = _contiguous(self._repeat(x), maps)
        samples, covered = warp(images, theta, self.size, **self._options, coverage=True)
        if self.view_angles:
            covered = covered.reshape(-1, self.views, *covered.shape[1:]).mean(1)
        return self._output(samples, maps), covered, maps

    def _repeat(self, x):
        """(N K, C, ...): each image once for each view."""
        return repeat(x, self.views) if self.view_angles else x

    def _repeat_vjp(self, dimages):
        """(N, C, ...): the sum over the views of each image."""
        if not self.view_angles:
            return dimages
        batch = len(dimages) // self.views
        return dimages.reshape(batch, self.views, *dimages.shape[1:]).sum(1)

    def _output(self, samples, theta):
        """(N K, C, ...) -> (N, K (C + P), ...): after the samples of each view its theta."""
        if self.return_theta:
            entries = theta.reshape(len(theta), self.theta_channels, *[1] * (samples.ndim - 2))
            constant = entries + np.zeros_like(samples[:, :1])
            samples = np.concatenate([samples, constant], axis=1)
        channels, *sides = samples.shape[1:]
        return samples.reshape(len(samples) // self.views, self.views * channels, *sides)

    def _output_vjp(self, dy, shape):
        """The gradients of the samples, which have this shape, and of theta's entries (N K, P)."""
        batch, channels, *sides = shape
        dy = dy.reshape(batch, channels + self.theta_channels, *sides)
        if not self.return_theta:
            return dy, None
        entries = dy[:, channels:].reshape(batch, self.theta_channels, -1)
        return dy[:, :channels], entries.sum(2)

    @property
    def _options(self) -> dict[str, Any]:
        return {"padding_mode": self.padding_mode, "align_corners": self.align_corners}


@dataclass(frozen=True)
class _Head(Linear):
    """The last layer of a localisation, under its own name in messages."""

    name = "spatial_transformer: head"


def _contiguous(x, theta):
    """Both as contiguous arrays: the CUDA kernels take no others."""
    contiguous = namespace(x, theta).ascontiguousarray
    return contiguous(x), contiguous(theta)


# --- View angles ----------------------------------------------------------------------------------


def _rotated(theta, degrees):
    """``theta R``: an output point is rotated first. The vjp is the rotation by the opposite angle.

    ``R`` has the columns ``(cos, sin, 0), (-sin, cos, 0), (0, 0, 1)``.
    """
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, shift = theta[:, :, :1], theta[:, :, 1:2], theta[:, :, 2:]
    return np.concatenate([cos * x + sin * y, cos * y - sin * x, shift], axis=2)


def _checked_angles(angles):
    """The angles as a tuple of floats."""
    if not isinstance(angles, (Sequence, np.ndarray)) or isinstance(angles, str):
        raise TypeError(f"view_angles: expected a sequence of angles in degrees, got {angles!r}")
    for angle in angles:
        if isinstance(angle, bool) or not isinstance(angle, Real) or not math.isfinite(angle):
            raise ValueError(f"view_angles: expected angles in degrees, got {angle!r}")
    return tuple(map(float, angles))


# --- The warps of the transforms ------------------------------------------------------------------


def _warp_functions(transform):
    """The warp for a transform's theta, its vjp, and the name of theta in the latter's ``wrt``."""
    if transform.kind == "tps":
        options = {"regularisation": transform.regularisation}
        warp, warp_vjp = warp_tps.warp_tps, warp_tps.warp_tps_vjp
        return partial(warp, **options), partial(warp_vjp, **options), "control"
    if transform.kind == "cpab":
        cells = {"cells": transform.cells}
        both = partial(warp_cpab.warp_cpab, **cells), partial(warp_cpab.warp_cpab_vjp, **cells)
        return *both, "theta"
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
    view_angles: Sequence[float] = (),
    rounds: int = 1,
    return_theta: bool = False,
    penalties: Sequence[Penalty] = (),
    gradient: str | Linearised = "exact",
) -> SpatialTransformer:
    """Spatial transformer layer: (N, C, H, W) -> (N, C, H_out, W_out), or the same for volumes.

    ``theta = transform(head(localisation(images)))``, and the output is the images warped by theta
    (Jaderberg et al. 2015). It may be used anywhere in a network, and more than once. The warps are
    :func:`numba_stn.warp_affine`, :func:`numba_stn.warp_perspective` and
    :func:`numba_stn.warp_tps`, with CUDA kernels for CuPy arrays.

    Parameters
    ----------
    localisation : Layer
        Maps images (N, C, H, W), or volumes (N, C, D, H, W), to features (N, F). The head, which
        maps features to the transform's parameters, is added here, and starts at the identity.
    transform : str or Transform
        See :mod:`numba_stn.transforms`.
    size : (H_out, W_out) or, for volumes, (D_out, H_out, W_out), optional
        Shape of the output; by default that of the images.
    padding_mode, align_corners
        As in :func:`numba_stn.warp_affine`.
    zoom : float
        Initial share of the images' sides that is sampled, in their middle. With
        ``zoom = size / sides`` the output starts with one sample per pixel, so no detail is lost;
        training finds what is outside.
    view_angles : sequence of K floats, optional
        Angles in degrees. Each image is then sampled once for each of them, with
        ``theta_k = theta R_k``. The columns of ``R_k`` are ``(cos, sin, 0)``, ``(-sin, cos, 0)``
        and ``(0, 0, 1)``. A positive angle rotates the output counter-clockwise about its middle;
        if it is square, 90 degrees are ``np.rot90``. The K views are concatenated along channels,
        (N, K C, H_out, W_out), as :func:`numba_stn.nn.mean_of_views` takes them.
    rounds : int
        Number of rounds of prediction (Lin and Lucey 2017). The second round sees the images
        through the map that the first one found, at their own size, and predicts what is left; and
        so on. All rounds share localisation and head. Their maps are composed, and the output is
        sampled from the original images, so nothing is interpolated twice. Not for splines, whose
        maps cannot be composed; the maps of :data:`~numba_stn.transforms.shear` are composed to
        affine maps that are no shears.
    return_theta : bool
        Whether later layers get theta: its P entries, row by row, are then P constant channels
        after the samples (of each view), (N, K (C + P), ...). A convolution can use them as they
        are; :func:`numba_stn.nn.with_theta` hands them to a layer of features.
    penalties : sequence of Penalty
        Whose gradients are added in training, for instance ``(identity_penalty(0.1),)``; as with
        weight decay, the loss that is reported does not contain them. See
        :func:`numba_stn.nn.identity_penalty`, :func:`numba_stn.nn.scale_penalty` and
        :func:`numba_stn.nn.area_penalty`.
    gradient : {"exact", "linearised"} or Linearised
        How the gradient with respect to theta is computed. The exact one of a bilinear sample sees
        the next pixels only; see :func:`numba_stn.nn.linearised`. Not for projective maps.

    Returns
    -------
    SpatialTransformer

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or value, or the transform has no zoom or cannot be
        rotated; the message names it.

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
        localisation, transform, size, padding_mode, align_corners, zoom, view_angles, rounds,
        return_theta, penalties, gradient,
    )  # fmt: skip
