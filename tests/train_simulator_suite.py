"""Training on arrays of a stand-in for CuPy, with the warps' CUDA kernels in Numba's simulator.

test_cuda_simulator.py runs this. Shapes are small: the simulator runs one CUDA thread after
the other in Python.
"""

import contextlib
import json

import fake_cupy
import numpy as np
import pytest
import simulator
from numba import config, cuda
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray
from test_layers import LAYERS, built
from test_nn_on_device import check, close, cupy  # noqa: F401

import numba_stn as stn
from numba_stn import cli, data, nn
from numba_stn.nn import train
from numba_stn.training import experiment, runs

simulator.prepare()


@pytest.fixture
def gpu(cupy, monkeypatch):  # noqa: F811
    """The stand-in, with arrays that the simulator's kernels take."""
    assert config.ENABLE_CUDASIM
    monkeypatch.setattr(
        cuda, "from_cuda_array_interface", lambda interface, array, sync: FakeCUDAArray(
            array._data.reshape(interface["shape"])
        ), raising=False,
    )  # fmt: skip
    monkeypatch.setattr(cuda, "gpus", [contextlib.nullcontext()])
    return cupy


def test_warps_of_the_stand_ins_arrays(gpu):
    rng = np.random.default_rng(0)
    images, theta = rng.standard_normal((2, 1, 5, 6)), rng.standard_normal((2, 2, 3))
    there = gpu.asarray(images), gpu.asarray(theta)
    close(stn.warp_affine(*there, size=(4, 3)), stn.warp_affine(images, theta, size=(4, 3)))


# --- Layers with warps ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith("transformer")])
def test_transformers_agree_with_the_cpu(gpu, name):
    layer, params, x, state, _ = built(name)
    check(gpu, layer, params, x, state, True, 1e-10)


def test_images_that_are_not_contiguous(gpu):
    layer, params, x, _, _ = built("transformer")
    there = nn.tree.tree_map(gpu.asarray, params)
    y, pullback, _ = layer.apply(there, gpu.asarray(x.swapaxes(2, 3).copy()).swapaxes(2, 3))
    want, back, _ = layer.apply(params, x)
    close(y, want, 1e-10)
    d = want.swapaxes(2, 3).copy()
    close(pullback(gpu.asarray(d).swapaxes(2, 3)), back(want), 1e-10)


# --- Steps ----------------------------------------------------------------------------------------


def st_cnn():
    localisation = nn.serial(nn.avg_pool(2), nn.conv2d(2, 3), nn.relu(), nn.flatten(), nn.linear(4))
    return nn.serial(
        nn.spatial_transformer(localisation, "restricted_affine", size=(8, 8)),
        nn.conv2d(3, 3), nn.batch_norm(), nn.relu(), nn.max_pool(2), nn.flatten(), nn.linear(4),
    )  # fmt: skip


def test_steps_agree_with_the_cpu_and_give_the_same_bits_again(gpu):
    net, optimiser, rng = st_cnn(), nn.adam(0.02), np.random.default_rng(0)
    learners = [
        train.init_learner(net, optimiser, (1, 10, 9), np.random.default_rng(1), library)
        for library in (np, gpu, gpu)
    ]
    for _ in range(3):
        images, labels = rng.random((5, 1, 10, 9)), rng.integers(0, 4, 5)
        fake_cupy.counts["waits"] = 0
        found = [train.train_step(net, optimiser, learner, images, labels) for learner in learners]
        assert fake_cupy.counts["waits"] == 0
        learners = [learner for learner, _, _ in found]
        losses = [float(loss) for _, loss, _ in found]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        assert losses[1] == losses[2]
        assert int(found[1][2]) == found[0][2]
    here, there, again = (learner.params for learner in learners)
    close(there, here, 1e-3)
    head = here[0]["localisation"]["head"]
    assert np.abs(head["weight"]).max() > 0  # the transformer has learned something
    for (_, one), (_, other) in zip(nn.tree.leaves(there), nn.tree.leaves(again), strict=True):
        assert one.get().tobytes() == other.get().tobytes()


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """A small part of the digits, with one distortion each."""
    whole = data.DATASETS["digits"](None)
    small = whole._replace(
        train=whole.train.take(slice(24)), validation=whole.validation.take(slice(4)),
        test=whole.test.take(slice(10)),
    )  # fmt: skip
    monkeypatch.setitem(data.DATASETS, "digits", lambda folder: small)
    monkeypatch.setattr(experiment, "TEST_IMAGES", 1)
    monkeypatch.setattr(experiment, "VALIDATION_IMAGES", 1)
    monkeypatch.setitem(experiment.STEPS_PER_LOSS, "cuda", 2)


def run(folder, *words):
    command = ["train", "--epochs", "1", "--batch", "8", "--out", str(folder), *words]
    code = cli.main(command)
    path = folder / "metrics.json"
    return code, json.loads(path.read_text()) if path.exists() else None


@pytest.mark.parametrize("model", ["st-cnn", "fcn"])
def test_the_command_agrees_with_the_cpu(gpu, few, model, tmp_path, capsys):
    from safetensors.numpy import load_file

    (done, here), (done_there, there) = (
        run(tmp_path / device, "--model", model, "--device", device) for device in ("cpu", "cuda")
    )
    assert done == done_there == 0, capsys.readouterr().err
    assert (here["device"], here["gpu"]) == ("cpu", None)
    assert (there["device"], there["gpu"]) == ("cuda", "A stand-in")
    assert there["versions"].keys() - here["versions"].keys() == {"cupy", "numba-cuda"}
    (epoch_here,), (epoch_there,) = here["history"], there["history"]
    coverages = [epoch.pop("coverage", None) for epoch in (epoch_there, epoch_here)]
    assert coverages[0] == (None if model == "fcn" else pytest.approx(coverages[1], rel=1e-3))
    assert epoch_there == pytest.approx(epoch_here, rel=1e-3)
    assert there["test_error"] == here["test_error"]
    assert {path.name for path in (tmp_path / "cuda").iterdir()} == set(runs.FILES)
    weights = [load_file(tmp_path / device / "weights.safetensors") for device in ("cpu", "cuda")]
    assert weights[0].keys() == weights[1].keys()
    for name, array in weights[0].items():
        assert (weights[1][name].dtype, weights[1][name].shape) == (array.dtype, array.shape)
        # A bias before batch normalisation has no effect, so Adam amplifies its rounding errors.
        if name.endswith("weight"):
            np.testing.assert_allclose(weights[1][name], array, rtol=1e-2, atol=1e-3, err_msg=name)


def test_the_gpu_is_waited_for_only_now_and_then(gpu, few, tmp_path):
    """At the first of 6 steps and at every second one, and for two sets' predictions.

    For loss and errors at four steps, for a look at the weights at three of them.
    """
    fake_cupy.counts["waits"] = 0
    setup = experiment.prepare(experiment.Config(model="fcn", epochs=1, batch=4, device="cuda"))
    seen = []
    experiment.run(setup, on_step=lambda done, loss, error: seen.append((loss, error)))
    assert len(seen) == 6
    assert len(set(seen)) == 4
    assert fake_cupy.counts["waits"] == 4 * 2 + 3 + 2 + 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_is_reported(gpu, few, tmp_path, capsys):
    assert run(tmp_path / "run", "--model", "fcn", "--device", "cuda", "--rate", "1e30")[0] == 1
    assert "a smaller --rate may help" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == [runs.CHECKPOINT]
