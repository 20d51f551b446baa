"""The comparison of a training step with PyTorch's: that both make the same step."""

import argparse

import pytest

from benchmarks import recipe_step


@pytest.mark.parametrize("model", ["cnn", "st-cnn"])
def test_both_libraries_train_the_same_network(model):
    """The loss before a step is the same; and a step can be made."""
    pytest.importorskip("torch")
    args = argparse.Namespace(size=16, channels=3, classes=3, batch=12, threads=1)
    losses, steps = zip(
        *(recipe_step.make_steps(args, name, model) for name in recipe_step.LIBRARIES), strict=True
    )
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-4)
    for step in steps:
        step()
