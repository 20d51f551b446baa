"""``numba-stn warmup``: no later process compiles again what it has compiled."""

import os
import subprocess
import sys

import pytest

from numba_stn import warmup
from numba_stn.cli import main
from numba_stn.utils.progress import progress

CALLS = """
import numpy, numba_stn
from numba_stn import nn
for side in (20, 300):
    images = numpy.ones((2, 3, side, side), numpy.float32)
    theta = numpy.tile(numpy.eye(2, 3, dtype=numpy.float32), (2, 1, 1))
    samples = numba_stn.warp_affine(images, theta)
    numba_stn.warp_affine_vjp(samples, images, theta)
net = nn.serial(nn.conv2d(4, 5), nn.max_pool(2), nn.avg_pool(2), nn.conv2d(2, 1, stride=2))
for count in (1, 300):
    x = numpy.ones((count, 3, 28, 28), numpy.float32)
    y, pullback, _ = net.apply(net.init(numpy.random.default_rng(0), x.shape[1:]), x)
    pullback(y)
"""


def test_a_later_process_compiles_nothing(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    words = ["warp_affine float32 zeros", "layers float32"]
    done = run("-m", "numba_stn", "warmup", *words)
    folder = done.stdout.split()[-1]
    assert folder.startswith(str(tmp_path))
    assert "4/4" in done.stderr
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}
    assert kept
    run("-c", CALLS)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")} == kept


def test_every_usual_call_has_a_name():
    names = [call.name for call in warmup.choose([])]
    assert len(set(names)) == len(names) == 2 * (3 * 2 * 3 + 1 + 1)
    assert {call.name for call in warmup.choose(["float32"])} < set(names)


def test_an_unknown_call_is_one_line(capsys):
    assert main(["warmup", "float16"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("numba-stn: no call's name contains 'float16'")
    assert error.count("\n") == 1


def test_a_missing_cache_folder_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(warmup, "cache_folder", lambda: None)
    assert main(["warmup"]) == 2
    assert "set NUMBA_CACHE_DIR" in capsys.readouterr().err


@pytest.mark.parametrize("tqdm", [True, False])
def test_progress_is_printed_with_and_without_tqdm(tqdm, monkeypatch, capsys):
    if not tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(progress(["first", "second"], str.upper)) == ["first", "second"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2/2" in captured.err
    assert tqdm or "FIRST" in captured.err
