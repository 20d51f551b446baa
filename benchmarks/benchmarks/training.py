"""Training: one Adam step, and one epoch on scikit-learn's digits."""

import numpy as np

from .common import Operation, bench


class AdamStep(Operation):
    """One Adam step of PyTorch's tutorial network (batch 64) and of the paper's ST-CNN (256)."""

    params = (["tutorial", "paper"],)
    param_names = ("network",)

    def setup(self, network):
        rows = bench("training_steps")
        build, size = {"tutorial": (rows.tutorial, 64), "paper": (rows.st_cnn, 256)}[network]
        self.prepare(rows.row(build, size))

    def time_step(self, network):
        self.ours()

    def track_pytorch(self, network):
        return self.ratio("torch")


class DigitsEpoch(Operation):
    """One epoch of the tutorial network on the 1,797 digits, at 28x28 pixels, in batches of 64."""

    number, warmup_time, repeat = 1, 0, 3

    def setup(self):
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise NotImplementedError("scikit-learn is not installed") from error
        rows, digits = bench("training_steps"), load_digits()
        images = np.zeros((len(digits.images), 1, 28, 28), np.float32)
        images[:, 0, 2:26, 2:26] = digits.images.repeat(3, 1).repeat(3, 2) / 16
        self.epoch = rows.epoch(rows.tutorial, images, digits.target, 64)
        self.epoch()

    def time_epoch(self):
        self.epoch()
