"""Grid generators, points, tangents, deformations, registration, estimation: one row each."""

from .common import Operation, bench


class _Row(Operation):
    """The work of a row of ``numba-stn bench``."""

    name = ""

    def setup(self):
        self.prepare(bench("operations").ROWS[self.name])


class AffineGrid(_Row):
    """affine_grid: the sampling positions of affine maps."""

    name = "affine_grid 256x1x42x42"

    def time_affine_grid(self):
        self.ours()

    def track_pytorch(self):
        return self.ratio("torch")


class TPSGrid(_Row):
    """tps_grid: the sampling positions of thin-plate splines."""

    name = "tps_grid 256x1x42x42"

    def time_tps_grid(self):
        self.ours()

    def track_pytorch(self):
        return self.ratio("torch")


class SamplePoints(_Row):
    """sample_points: 10,000 positions in each of 8 feature maps."""

    name = "sample_points 8x16x128x128, 10000 points"

    def time_sample_points(self):
        self.ours()

    def track_pytorch(self):
        return self.ratio("torch")


class Splat(_Row):
    """Splat: 10,000 values spread over the pixels of each of 8 feature maps."""

    name = "splat 8x16x128x128, 10000 points"

    def time_splat(self):
        self.ours()

    def track_pytorch(self):
        return self.ratio("torch")


class WarpAffineJVP(_Row):
    """warp_affine_jvp: the derivative of the samples in one direction."""

    name = "warp_affine_jvp 256x1x42x42"

    def time_warp_affine_jvp(self):
        self.ours()


class DoubleBackward(Operation):
    """grid_sample_vjp_vjp: the gradients of grid_sample's gradients."""

    def setup(self):
        self.prepare(bench("second_derivatives").ROWS["double backward 16x3x224x224"])

    def time_grid_sample_vjp_vjp(self):
        self.ours()

    def track_pytorch(self):
        return self.ratio("torch")


class IntegrateVelocity(_Row):
    """deformations.integrate_velocity: seven squarings of a velocity field of 256x256."""

    name = "integrate_velocity 1x256x256x2"

    def time_integrate_velocity(self):
        self.ours()

    def track_pytorch(self):
        return self.ratio("torch")


class ResizeVolume(_Row):
    """resize_volume: 96x96x96 to 128x128x128."""

    name = "resize_volume 1x1x96x96x96 to 128x128x128"

    def time_resize_volume(self):
        self.ours()

    def track_pytorch(self):
        return self.ratio("torch")


class Register(_Row):
    """Register: an affine map between two images of 512x512."""

    name = "register affine 512x512"

    def time_register(self):
        self.ours()

    def track_opencv(self):
        return self.ratio("cv2")


class Estimate(_Row):
    """Estimate: an affine map from 1,000 pairs of points, by least squares."""

    name = "estimate affine, 1000 points"

    def time_estimate(self):
        self.ours()
