"""Warps of batches of images (N, C, H, W) and of volumes."""

from .common import Operation, bench, sides

DIRECTIONS = ["forward", "both ways"]


class WarpAffine(Operation):
    """Affine warps; both ways: with the gradients of the images and of theta."""

    params = (["1x1x28x28", "256x1x42x42", "1x3x1080x1920"], DIRECTIONS)
    param_names = ("shape", "direction")

    def setup(self, shape, direction):
        make = {"forward": bench("warps").forward, "both ways": bench("warps").both_ways}
        self.prepare(make[direction](*sides(shape)))

    def time_warp_affine(self, shape, direction):
        self.ours()

    def track_pytorch(self, shape, direction):
        return self.ratio("torch")

    def track_opencv(self, shape, direction):
        return self.ratio("cv2")


class WarpPerspective(Operation):
    """Projective warps; both ways: with the gradients of the images and of theta."""

    params = (["1x3x540x960"], DIRECTIONS)
    param_names = ("shape", "direction")

    def setup(self, shape, direction):
        module = bench("modes" if direction == "forward" else "gradients")
        self.prepare(module.perspective_row(*sides(shape)))

    def time_warp_perspective(self, shape, direction):
        self.ours()

    def track_pytorch(self, shape, direction):
        return self.ratio("torch")

    def track_opencv(self, shape, direction):
        return self.ratio("cv2")


class WarpTPS(Operation):
    """Warps by thin-plate splines; both ways: with the gradients of images and control points."""

    params = (["256x1x42x42"], DIRECTIONS)
    param_names = ("shape", "direction")

    def setup(self, shape, direction):
        make = bench("splines").row if direction == "forward" else bench("gradients").spline_row
        self.prepare(make(*sides(shape)))

    def time_warp_tps(self, shape, direction):
        self.ours()

    def track_pytorch(self, shape, direction):
        return self.ratio("torch")


class GridSample(Operation):
    """An image sampled at a smooth grid; both ways: with the gradients of image and grid."""

    params = ([1024], DIRECTIONS)
    param_names = ("side", "direction")

    def setup(self, side, direction):
        make = bench("grids").row if direction == "forward" else bench("gradients").grid_row
        self.prepare(make(side))

    def time_grid_sample(self, side, direction):
        self.ours()

    def track_pytorch(self, side, direction):
        return self.ratio("torch")

    def track_opencv(self, side, direction):
        return self.ratio("cv2")


class Modes(Operation):
    """Affine warps of an image 1x3x540x960 by other interpolations."""

    params = (["nearest", "bicubic", "lanczos4", "spline3"],)
    param_names = ("mode",)

    def setup(self, mode):
        modes, shape = bench("modes"), (1, 3, 540, 960)
        row = modes.spline_row(*shape) if mode == "spline3" else modes.mode_row(mode, *shape)
        self.prepare(row)

    def time_warp_affine(self, mode):
        self.ours()

    def track_pytorch(self, mode):
        return self.ratio("torch")

    def track_opencv(self, mode):
        return self.ratio("cv2")


class ChannelsLast(Operation):
    """Affine warps of batches (N, H, W, C)."""

    params = (["64x3x224x224"],)
    param_names = ("shape",)

    def setup(self, shape):
        self.prepare(bench("modes").channels_last_row(*sides(shape)))

    def time_warp_affine(self, shape):
        self.ours()

    def track_pytorch(self, shape):
        return self.ratio("torch")


class Volumes(Operation):
    """Affine warps of a volume of one channel."""

    params = ([64], DIRECTIONS)
    param_names = ("side", "direction")

    def setup(self, side, direction):
        make = (
            bench("modes").volume_row if direction == "forward" else bench("gradients").volume_row
        )
        self.prepare(make(side))

    def time_warp_affine(self, side, direction):
        self.ours()

    def track_pytorch(self, side, direction):
        return self.ratio("torch")
