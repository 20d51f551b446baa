"""The batch normalisation layer."""

from dataclasses import dataclass

import numpy as np

from ..kernels.layers import batch_norm as batch_norm_kernels
from ..kernels.layers.batch_norm import InputGradient
from ..utils.namespace import namespace
from . import cupy_layers
from .base import zeros
from .batch_blocked import BatchBlocked
from .checks import check_number, check_positive
from .pooling import MaxPool


@dataclass(frozen=True)
class BatchNorm(BatchBlocked):
    """``(x - mean) / sqrt(var + epsilon) * scale + shift`` in each channel (Ioffe, Szegedy 2015).

    In training, mean and variance are the batch's, and the running ones in the state move towards
    them by ``1 - momentum`` in each step. Otherwise the running ones are used.
    """

    name = "batch_norm"

    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self):
        """Check the arguments."""
        check_number(self.name, at_most=1, momentum=self.momentum)
        check_positive(self.name, epsilon=self.epsilon)

    def output_shape(self, shape):
        """The input's."""
        if not shape:
            raise ValueError(
                "batch_norm: x: expected shape (N, features) or (N, C, H, W), got (N,)"
            )
        return shape

    def init(self, rng, shape):
        """Scale 1, shift 0."""
        self.output_shape(shape)
        return {"scale": np.ones(shape[0], np.float32), "shift": zeros(shape[0])}

    def init_state(self, shape):
        """Mean 0, variance 1."""
        self.output_shape(shape)
        return {"mean": zeros(shape[0]), "var": np.ones(shape[0], np.float32)}

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        return self.normalized(cupy_layers, params, x, len(x), state, train)

    def blocked_apply(self, params, x, batch, state=(), train=False, wrt_x=True):
        """See the class."""
        kernels = batch_norm_kernels if namespace(x) is np else cupy_layers
        return self.normalized(kernels, params, x, batch, state, train)

    def fused_with(self, following):
        """See :class:`numba_stn.kernels.layers.batch_norm.Pooled`."""
        return _PooledBatchNorm(self, following.kernel) if isinstance(following, MaxPool) else None

    def normalized(self, kernels, params, x, batch, state, train):
        """:meth:`apply` with the functions for x's layout."""
        if not isinstance(state, dict):
            raise ValueError("batch_norm: state: expected that of init_state, got none")
        count = batch * kernels.pixels(x)
        if train and not count:
            raise ValueError("batch_norm: x: expected at least one example to train on, got none")
        mean, var = state["mean"], state["var"]
        if train:
            mean, var = kernels.moments(x, batch)
            state = self._updated(state, mean, var * (count / max(count - 1, 1)))
        inverse = 1 / np.sqrt(var + self.epsilon)
        factor = params["scale"] * inverse

        def pullback(dy):
            dshift, products = kernels.normalize_sums(dy, x, batch, mean)
            dscale, x_factor, constant = products * inverse, 0 * factor, 0 * factor
            if train:  # the batch's own mean and variance depend on x too
                x_factor, constant = -factor * inverse * dscale / count, -factor * dshift / count
            numbers = InputGradient(mean, factor, x_factor, constant)
            dx = kernels.normalize_vjp_x(dy, x, batch, numbers)
            dparams = {"scale": dscale, "shift": dshift}  # they may be float64
            return {k: v.astype(params[k].dtype, copy=False) for k, v in dparams.items()}, dx

        return kernels.normalize(x, batch, mean, factor, params["shift"]), pullback, state

    def _updated(self, state, mean, var):
        """The running mean and variance after a step."""
        moved = {}
        for key, new in (("mean", mean), ("var", var)):
            dtype = state[key].dtype
            keep = dtype.type(self.momentum)
            moved[key] = (keep * state[key] + (1 - keep) * new).astype(dtype)
        return moved


@dataclass(frozen=True)
class _PooledBatchNorm(BatchBlocked):
    """Batch normalisation followed by max pooling; parameters and state are the former's."""

    count = 2

    norm: BatchNorm
    kernel: int

    def blocked_apply(self, params, x, batch, state=(), train=False, wrt_x=True):
        """See the class."""
        kernels = batch_norm_kernels.Pooled(self.kernel)
        return self.norm.normalized(kernels, params, x, batch, state, train)


def batch_norm(momentum: float = 0.9, epsilon: float = 1e-5) -> BatchNorm:
    """Batch normalisation layer, for (N, features) or (N, C, H, W).

    ``y = (x - mean) / sqrt(var + epsilon) * scale + shift`` in each channel (Ioffe, Szegedy 2015).
    In training, mean and variance are the batch's. Otherwise they are running averages, which are
    the layer's state.

    Parameters
    ----------
    momentum : float
        Share of the running averages that a training step keeps.
    epsilon : float
        Added to the variance, so that no division by 0 occurs.

    Returns
    -------
    BatchNorm

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> norm = nn.batch_norm()
    >>> params, state = norm.init(np.random.default_rng(0), (2,)), norm.init_state((2,))
    >>> x = np.array([[1.0, 0.0], [3.0, 4.0]])
    >>> y, _, _ = norm.apply(params, x, state, train=True)
    >>> y.round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    return BatchNorm(momentum, epsilon)
