"""Each op, forward and backward, warm."""

import numba_stn as stn

from .common import SHAPES, problem


class Sampler:
    """What every sampler benchmark does: draw its inputs, and compile before the clock starts."""

    params = (SHAPES,)
    param_names = ("images",)

    def setup(self, shape):
        """Draw and warm up."""
        self.images, self.theta, self.dsamples = problem(shape)
        self.size = self.images.shape[2:]
        self.grid = stn.affine_grid(self.theta, self.size)
        for name in dir(self):
            if name.startswith("time_"):
                getattr(self, name)(shape)


class AffineGrid(Sampler):
    """affine_grid."""

    def time_forward(self, shape):
        stn.affine_grid(self.theta, self.size)

    def time_backward(self, shape):
        stn.affine_grid_vjp(self.grid)


class GridSample(Sampler):
    """grid_sample."""

    def time_forward(self, shape):
        stn.grid_sample(self.images, self.grid)

    def time_backward(self, shape):
        stn.grid_sample_vjp(self.dsamples, self.images, self.grid)


class WarpAffine(Sampler):
    """warp_affine."""

    def time_forward(self, shape):
        stn.warp_affine(self.images, self.theta)

    def time_backward(self, shape):
        stn.warp_affine_vjp(self.dsamples, self.images, self.theta)

    def time_backward_to_theta(self, shape):
        stn.warp_affine_vjp(self.dsamples, self.images, self.theta, wrt=("theta",))

    def peakmem_forward_and_backward(self, shape):
        stn.warp_affine(self.images, self.theta)
        stn.warp_affine_vjp(self.dsamples, self.images, self.theta)
