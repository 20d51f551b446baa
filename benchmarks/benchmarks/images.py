"""Functions of single images (H, W[, C]), as users of OpenCV and Pillow call them."""

from .common import Operation, bench, image, sides

PHOTOGRAPHS = ["uint8 1080x1920x3", "float32 1080x1920x3", "uint8 256x256x3", "float32 64x64"]


class WarpImage(Operation):
    """warp_image: rotation by 30 degrees, and a zoom."""

    params = (PHOTOGRAPHS,)
    param_names = ("image",)

    def setup(self, text):
        self.prepare(bench("images").row(*image(text)))

    def time_warp_image(self, text):
        self.ours()

    def track_opencv(self, text):
        return self.ratio("cv2")


class Rotate(Operation):
    """rotate by 30 degrees."""

    params = (["uint8 1080x1920x3", "float32 64x64"],)
    param_names = ("image",)

    def setup(self, text):
        self.prepare(bench("image_operations").rotate_row(*image(text)))

    def time_rotate(self, text):
        self.ours()

    def track_opencv(self, text):
        return self.ratio("cv2")


class Resize(Operation):
    """resize: bilinear, without antialiasing."""

    params = (["uint8 1080x1920", "float32 1080x1920"], ["540x960", "2160x3840", "224x398"])
    param_names = ("image", "size")

    def setup(self, text, size):
        dtype, height, width, channels = image(text)
        self.prepare(bench("resizes").row(dtype, sides(size), channels, sides=(height, width)))

    def time_resize(self, text, size):
        self.ours()

    def track_opencv(self, text, size):
        return self.ratio("cv2")


class ResizeFilters(Operation):
    """resize with antialiasing: uint8 1080x1920x3 to 224x398."""

    params = (["area", "triangle", "cubic", "lanczos3"],)
    param_names = ("filter",)

    def setup(self, kind):
        self.prepare(bench("resizes").row("uint8", (224, 398), 3, kind))

    def time_resize(self, kind):
        self.ours()

    def track_opencv(self, kind):
        return self.ratio("cv2")

    def track_pillow(self, kind):
        return self.ratio("pillow")


class CropAndResize(Operation):
    """crop_and_resize: 64 boxes of a photograph to 64x64x3."""

    def setup(self):
        self.prepare(bench("resizes").crops_row(64, (64, 64)))

    def time_crop_and_resize(self):
        self.ours()

    def track_opencv(self):
        return self.ratio("cv2")


class Remap(Operation):
    """Remap and warp_polar of uint8 1024x1024x3."""

    params = (["remap", "warp_polar"],)
    param_names = ("function",)

    def setup(self, function):
        rows = bench("image_operations")
        make = {"remap": rows.remap_row, "warp_polar": rows.polar_row}[function]
        self.prepare(make("uint8", 1024))

    def time_remap(self, function):
        self.ours()

    def track_opencv(self, function):
        return self.ratio("cv2")


class Augment(Operation):
    """Augment: a batch of uint8 images (N, H, W, C), each warped by a random map."""

    params = (["64x224x224", "256x48x48"],)
    param_names = ("batch",)

    def setup(self, batch):
        count, side, _ = sides(batch)
        self.prepare(bench("image_operations").augment_row(count, side))

    def time_augment(self, batch):
        self.ours()

    def track_opencv(self, batch):
        return self.ratio("cv2")
