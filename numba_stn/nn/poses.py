"""Layers that use the theta of spatial transformers: features with it, transformers apart."""

from dataclasses import dataclass, field

import numpy as np

from .base import Layer, check_layers
from .checks import batch_of, check_tree, check_whole
from .containers import Parallel, serial
from .penalties import OverlapPenalty, overlap_penalty
from .transformer import SpatialTransformer


@dataclass(frozen=True)
class WithTheta(Layer):
    """A layer on the first channels, whose features are followed by the last ones: theta's entries.

    (N, C + entries, ...) -> (N, F + entries), where the layer maps (N, C, ...) to (N, F).
    """

    name = "with_theta"

    entries: int
    layer: Layer

    def __post_init__(self):
        """Check the arguments."""
        check_whole(self.name, entries=self.entries)
        check_layers(self.name, (self.layer,))

    def init(self, rng, shape):
        """The layer's own."""
        return self.layer.init(rng, self.image_shape(shape))

    def init_state(self, shape):
        """The layer's."""
        return self.layer.init_state(self.image_shape(shape))

    def output_shape(self, shape):
        """(F + entries,)."""
        features = self.layer.output_shape(self.image_shape(shape))
        if len(features) != 1:
            raise ValueError(
                f"{self.name}: layers: expected outputs of shape (F,), got {features}; end them "
                f"with flatten() or linear()"
            )
        return (features[0] + self.entries,)

    def image_shape(self, shape):
        """Shape of an image without theta's channels."""
        if len(shape) < 2 or shape[0] <= self.entries or 0 in shape[1:]:
            raise ValueError(
                f"{self.name}: x: expected images with more than {self.entries} channels, got "
                f"{batch_of(shape)}"
            )
        return (shape[0] - self.entries, *shape[1:])

    def arrays(self, shape):
        """See :meth:`Layer.arrays`; they are the layer's."""
        return None, ()

    def part(self, key):
        """See :meth:`Layer.part`; it is the layer's."""
        return self.layer.part(key)

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class; theta's channels are constant, so that one pixel of them is enough."""
        channels = x.shape[1] - self.entries
        features, back, state = self.layer.apply(params, x[:, :channels], state, train, wrt_x)
        theta = x[:, channels:].reshape(len(x), self.entries, -1)[:, :, 0]

        def pullback(dy):
            dparams, dimages = back(dy[:, : features.shape[1]])
            if not wrt_x:
                return dparams, None
            dtheta = np.zeros_like(x[:, channels:]).reshape(len(x), self.entries, -1)
            dtheta[:, :, 0] = dy[:, features.shape[1] :]
            dtheta = dtheta.reshape(len(x), self.entries, *x.shape[2:])
            return dparams, np.concatenate([dimages, dtheta], axis=1)

        return np.concatenate([features, theta], axis=1), pullback, state


def with_theta(entries: int, *layers: Layer) -> WithTheta:
    """Apply layers to the samples of a transformer, and append theta to their features.

    (N, C + P, ...) -> (N, F + P). The input is the output of a :func:`spatial_transformer` with
    ``return_theta``, whose last P channels have theta's entries: 6 for affine maps, 9 for
    projective ones. The layers see the other channels only.

    Parameters
    ----------
    entries : int
        Number of theta's entries, P.
    *layers : Layer
        Applied one after another, to (N, C, ...). Their output is (N, F).

    Returns
    -------
    WithTheta

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or value, or there are no channels besides theta's.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> net = nn.serial(
    ...     nn.spatial_transformer(nn.flatten(), "affine", return_theta=True),
    ...     nn.with_theta(6, nn.flatten(), nn.linear(8)),
    ...     nn.linear(10),
    ... )
    >>> params = net.init(np.random.default_rng(0), (1, 8, 8))
    >>> net.apply(params, np.ones((2, 1, 8, 8), np.float32))[0].shape
    (2, 10)
    """
    return WithTheta(entries, serial(*layers))


@dataclass(frozen=True)
class Apart(Parallel):
    """Transformers in parallel, which training keeps from looking at the same place."""

    name = "apart"

    layers: tuple[SpatialTransformer, ...]
    penalty: OverlapPenalty = field(default_factory=lambda: overlap_penalty(1.0))

    def __post_init__(self):
        """Check the transformers."""
        super().__post_init__()
        for layer in self.layers:
            if not isinstance(layer, SpatialTransformer):
                raise TypeError(f"{self.name}: expected spatial transformers, got {layer!r}")
            if layer.view_angles or layer.transform.shape != self.layers[0].transform.shape:
                raise ValueError(
                    f"{self.name}: expected transformers with one view and thetas of one shape, "
                    f"got {layer!r}"
                )
            if layer.transform.kind == "tps":
                raise ValueError(f"{self.name}: expected affine or projective maps, got {layer!r}")

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        states = state or ((),) * len(self.layers)
        check_tree(self.name, "state", states, (None,) * len(self.layers))
        results = [
            layer.apply_with_theta(layer_params, x, layer_state, train, wrt_x)
            for layer, layer_params, layer_state in zip(self.layers, params, states, strict=True)
        ]
        outputs, thetas = zip(*(both for both, _, _ in results), strict=True)

        def pullback(dy):
            dthetas = self.penalty(thetas)[1] if train else (None,) * len(thetas)
            parts = self.combined_vjp(dy, [y.shape[1] for y in outputs])
            backs = [
                back(gradients)
                for (_, back, _), gradients in zip(
                    results, zip(parts, dthetas, strict=True), strict=True
                )
            ]
            dx = sum(dx for _, dx in backs) if wrt_x else None
            return tuple(dparams for dparams, _ in backs), dx

        return self.combined(list(outputs)), pullback, tuple(state for _, _, state in results)


def apart(*transformers: SpatialTransformer, weight: float = 1.0) -> Apart:
    """Apply transformers in parallel, and train them not to look at the same place.

    As :func:`parallel`; in training the gradient of ``overlap_penalty(weight)`` of their thetas is
    added. As with weight decay, the loss that is reported does not contain it.

    Parameters
    ----------
    *transformers : SpatialTransformer
        Affine or projective, with one view.
    weight : float
        Of :func:`overlap_penalty`.

    Returns
    -------
    Apart

    Raises
    ------
    ValueError, TypeError
        If an argument is something else.

    Examples
    --------
    >>> from numba_stn import nn
    >>> one = nn.spatial_transformer(nn.flatten(), "attention", size=(4, 4))
    >>> nn.apart(one, one, weight=0.1).output_shape((1, 8, 8))
    (2, 4, 4)
    """
    return Apart(transformers, overlap_penalty(weight))
