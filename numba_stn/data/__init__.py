"""Images to train on, and the distortions of the paper's experiments."""
