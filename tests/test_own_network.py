"""Networks from functions in files."""

import numpy as np
import pytest

from numba_stn import cli, nn
from numba_stn.training.own_network import NetworkError, build, load_builder, source_digest

FILE = """
from dataclasses import dataclass
from numba_stn import nn

@dataclass(frozen=True)
class Twice(nn.Layer):
    def forward(self, params, x, wrt_x=True):
        return 2 * x, lambda dy: ((), 2 * dy)

def small(shape, outputs):
    return nn.serial(Twice(), nn.flatten(), nn.linear(outputs))

def wrong(shape, outputs):
    return nn.serial(nn.flatten(), nn.linear(outputs + 1))

def large(shape, outputs):
    return nn.serial(nn.conv2d(4, 99), nn.flatten(), nn.linear(outputs))

def none(shape, outputs):
    pass

def failing(shape, outputs):
    raise RuntimeError("two\\nlines")

number = 3
"""


def test_a_network_is_built(tmp_path):
    path = tmp_path / "my nets.py"
    path.write_text(FILE)
    net = build(load_builder(f"{path}:small"), (3, 4, 5), 7)
    assert net.output_shape((3, 4, 5)) == (7,)
    first = source_digest(f"{path}:small")
    path.write_text(FILE.replace("2 * x", "3 * x"))
    assert source_digest(f"{path}:small") != first
    assert build(lambda shape, outputs: nn.flatten(), (1, 2, 3), 6) == nn.flatten()


@pytest.mark.parametrize(("name", "message"), [
    ("wrong", r"wrong: expected 2 outputs for images of shape .*, \(N, 2\), got \('N', 3\)"),
    ("large", r"large, called with the shape \(1, 6, 6\) and 2 outputs: ValueError: conv2d: x: "),
    ("none", "none: expected a layer, got NoneType"),
    ("failing", "2 outputs: RuntimeError: two lines$"),
    ("number", "expected a function 'number', and found none"),
    ("absent", "expected a function 'absent', and found none"),
])  # fmt: skip
def test_functions_that_do_not_fit(tmp_path, name, message):
    path = tmp_path / "nets.py"
    path.write_text(FILE)
    with pytest.raises(NetworkError, match=message):
        build(load_builder(f"{path}:{name}"), (1, 6, 6), 2)


def test_files_that_cannot_be_run(tmp_path):
    path = tmp_path / "nets.py"
    for content, message in (("x = ", "SyntaxError: "), ("1 / 0", "ZeroDivisionError: division"),
                             ("import sys; sys.exit(3)", "SystemExit: 3")):  # fmt: skip
        path.write_text(content)
        with pytest.raises(NetworkError, match=message):
            load_builder(f"{path}:small")
    for spec in (f"{tmp_path}:small", f"{tmp_path / 'absent.py'}:small", f"{tmp_path / 'x'}:f"):
        with pytest.raises(NetworkError, match="expected a Python file, and found none"):
            load_builder(spec)
    for spec in ("nets.py", "nets.py:", ":small", "", "nets.py:not a name", "nets.py:a.b"):
        with pytest.raises(NetworkError, match="expected FILE.py:FUNCTION, got"):
            load_builder(spec)
    with pytest.raises(NetworkError, match="No such file"):
        source_digest(f"{tmp_path / 'absent.py'}:small")


def test_the_command_says_before_the_training_what_cannot_be_exported(tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(60) % 2)
    (tmp_path / "nets.py").write_text(FILE)
    command = ["train", str(tmp_path / "set.npz"), "--epochs", "1", "--out", str(tmp_path / "run")]
    assert cli.main([*command, "--net", f"{tmp_path / 'nets.py'}:small"]) == 0
    said = capsys.readouterr().err
    assert "numba-stn: this network can be trained but not exported: Twice() has no" in said
    assert said.index("not exported") < said.index("step/s")
