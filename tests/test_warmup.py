"""``numba-stn warmup``: no later process compiles again what it has compiled."""

import math
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
image = numpy.ones((300, 400), numpy.uint8)
numba_stn.rotate(image, 3), numba_stn.resize(image, (200, 30)), numba_stn.rotate(image[:9, :9], 3)
net = nn.serial(nn.conv2d(4, 5), nn.relu(), nn.max_pool(2))
for count in (1, 300):
    x = numpy.ones((count, 1, 28, 28), numpy.float32)
    y, pullback, _ = net.apply(net.init(numpy.random.default_rng(0), x.shape[1:]), x)
    pullback(y)
"""


def test_a_later_process_compiles_nothing(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    words = ["float32 zeros: warp_affine", "training: layers", "uint8: resize", "uint8 zeros: ro"]
    done = run("-m", "numba_stn", "warmup", *words)
    assert done.stdout.startswith("6 calls, processes: ")
    folder = done.stdout.split()[-1]
    assert folder.startswith(str(tmp_path))
    assert "6/6" in done.stderr
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}
    assert kept
    run("-c", CALLS)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")} == kept


def test_every_usual_call_has_a_name():
    names = [call.name for call in warmup.choose([])]
    every = [call.name for call in warmup.choose(["all"])]
    assert len(set(every)) == len(every)
    assert set(names) < set(every)
    for group in ("images", "batches", "registration", "training"):
        assert {call.name for call in warmup.choose([group])} & set(names)
    assert {call.name for call in warmup.choose(["float64"])} < set(every) - set(names)


def test_a_failure_in_another_process_is_raised(monkeypatch):
    monkeypatch.setattr(warmup, "_compile", math.sqrt)  # not the name of a call
    with pytest.raises(TypeError):
        list(warmup.compile_calls(warmup.choose(["affine_grid"]), 2))


def test_the_list_compiles_nothing(capsys):
    assert main(["warmup", "--list", "registration", "nearest"]) == 0
    assert "registration: affine" in capsys.readouterr().out.splitlines()


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
