"""One Adam step of the paper's networks on 28 x 28 images."""

import numpy as np

from numba_stn.nn import adam, train, zoo


class Step:
    """A batch of 256, forward, backward and update."""

    params = (["fcn", "st-fcn", "cnn", "st-cnn"],)
    param_names = ("model",)

    def setup(self, model):
        """Build and warm up."""
        rng = np.random.default_rng(0)
        self.images = rng.random((256, 1, 28, 28), np.float32)
        self.labels = rng.integers(0, 10, 256)
        self.net, self.optimiser = zoo.build(model, (1, 28, 28)), adam(1e-3)
        self.learner = train.start(self.net, self.optimiser, (1, 28, 28), rng)
        self.time_step(model)

    def time_step(self, model):
        train.step(self.net, self.optimiser, self.learner, self.images, self.labels)
