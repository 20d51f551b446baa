"""Prepared warps, for loops over small batches: everything is checked once.

Ordinary calls look up the same :class:`.sampler.Plan` by their arguments; a prepared warp holds it,
so a call only compares two shapes and dtypes.
"""

from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Any

from .any_dtype import gradient_dtype
from .docstrings import documented
from .sampler import Plan, check_affine, check_projective, find_plan
from .validate import check_array, check_options, check_wrt, choose_backend

__all__ = ["plan_warp"]

Array = Any


@documented
def plan_warp(
    images: Array,
    theta: Array,
    size: tuple[int, ...] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
) -> "WarpPlan":
    """Prepare :func:`warp_affine` or :func:`warp_perspective` for many arrays of one shape.

    ``images (N, C, H, W), theta (N, 2, 3) -> plan``

    ``plan(images, theta, out=None)`` returns the samples, bit for bit those of the function. The
    options are checked once; a call compares the arrays' shapes and dtypes with those of the plan.

    Parameters
    ----------
    images : (N, C, H, W) or (N, C, D, H, W) array
        An array like those to be warped. Only its shape, its dtype and its device count.
    theta : (N, 2, 3), (N, 3, 4), (N, 3, 3) or (N, 4, 4) array
        Maps like those to be used, of which the same holds. Square matrices are projective maps.
    {size}
    {mode, padding_mode, align_corners, fill, layout}

    Returns
    -------
    plan : WarpPlan
        ``plan(images, theta, out=None)`` returns samples, ``plan.vjp(dsamples, images, theta)``
        their gradients, and ``plan.shape`` is the shape of the samples.

    Raises
    ------
    {errors}

    See Also
    --------
    warp_affine, warp_perspective : The same for arrays of any shape.

    Notes
    -----
    ``coverage`` and ``antialias`` cannot be planned. A plan holds no arrays, and may be used by
    several threads at once.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> frames, theta = np.ones((3, 1, 1, 2, 2)), np.array([[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    >>> plan, samples = stn.plan_warp(frames[0], theta), np.empty((1, 1, 2, 2))
    >>> for frame in frames:
    ...     _ = plan(frame, theta, out=samples)
    >>> samples
    array([[[[1., 0.],
             [1., 0.]]]])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, theta = choose_backend(None, images=images, theta=theta)
    projective = tuple(theta.shape[1:]) in ((3, 3), (4, 4))
    check = check_projective if projective else check_affine
    plan = find_plan(kernels, check, images, theta, options, size)
    return WarpPlan(plan, kernels, (images.shape, images.dtype), (theta.shape, theta.dtype))


class WarpPlan:
    """A prepared warp, made by :func:`plan_warp`."""

    def __init__(
        self, plan: Plan, kernels: ModuleType, images: tuple[Any, Any], theta: tuple[Any, Any]
    ):
        self._plan, self._kernels, self._images, self._theta = plan, kernels, images, theta

    @property
    def shape(self) -> tuple[int, ...]:
        """The samples' shape."""
        return self._plan.shape

    def __repr__(self) -> str:
        (images, dtype), (theta, real) = self._images, self._theta
        return f"WarpPlan(images {images} {dtype}, theta {theta} {real} -> samples {self.shape})"

    def __call__(
        self, images: Array, theta: Array, out: Array | None = None, *, stream: Any = None
    ) -> Array:
        """Return the samples of images at the positions that theta gives.

        Parameters
        ----------
        images, theta
            Arrays of the planned shapes and dtypes.
        out, stream
            As in :func:`warp_affine`.

        Returns
        -------
        samples : array of the plan's ``shape`` and of the images' dtype

        Raises
        ------
        ValueError, TypeError
            If an array does not fit the plan; the message names it.
        """
        kernels, images, theta = choose_backend(stream, images=images, theta=theta)
        self._check(kernels, images, theta)
        return self._plan.sample(images, theta, out, False, stream)

    def vjp(
        self,
        dsamples: Array,
        images: Array,
        theta: Array,
        *,
        wrt: Collection[str] = ("images", "theta"),
        stream: Any = None,
    ) -> tuple[Array | None, Array | None]:
        """Compute the gradients with respect to the images and theta.

        Parameters
        ----------
        dsamples
            Gradient of the loss with respect to the samples; of the images' dtype, or float32 if
            the images are integers.
        images, theta
            The arrays that were warped.
        wrt, stream
            As in :func:`warp_affine_vjp`.

        Returns
        -------
        dimages : array of the images' shape and of dsamples' dtype, or None
        dtheta : array of theta's shape and dtype, or None

        Raises
        ------
        ValueError, TypeError
            If an array does not fit the plan; the message names it.
        """
        wanted = check_wrt(wrt, ("images", "theta"))
        kernels, dsamples, images, theta = choose_backend(
            stream, dsamples=dsamples, images=images, theta=theta
        )
        self._check(kernels, images, theta)
        dtype = images.dtype
        check_array("dsamples", dsamples, self._plan.shape, (gradient_dtype(dtype),))
        return self._plan.vjp(dsamples, images, theta, wanted)

    def _check(self, kernels, images, theta):
        """Raise an error unless the arrays are those of the plan, except for their contents."""
        if kernels is not self._kernels:
            raise TypeError("images: expected an array on the device for which the plan was made")
        shape, dtype = self._images
        check_array("images", images, shape, (dtype,))
        shape, dtype = self._theta
        check_array("theta", theta, shape, (dtype,))
