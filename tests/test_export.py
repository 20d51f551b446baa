"""Networks exported to ONNX and PyTorch give the same logits, on real digits."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from numba_stn import cli, data, export, nn
from numba_stn.nn import zoo
from numba_stn.training import experiment, runs
from numba_stn.transforms import parametrisations

DIGITS = data.digits().test.take(slice(32)).images
SHAPE = DIGITS.shape[1:]


def localisation():
    return nn.serial(nn.avg_pool(2), nn.conv2d(4, 3), nn.batch_norm(), nn.relu(), nn.flatten(),
                     nn.linear(6), nn.relu())  # fmt: skip


def warped(transform, **options):
    return nn.spatial_transformer(localisation(), transform, **options)


NETS = {
    "fcn": zoo.build("fcn", SHAPE),
    "cnn": zoo.build("cnn", SHAPE),
    "affine": zoo.build("st-cnn", SHAPE),
    "projective": zoo.build("st-fcn", SHAPE, "projective"),
    "tps": zoo.build("st-fcn", SHAPE, "tps"),
    "attention, border": nn.serial(
        warped("attention", size=(11, 7), padding_mode="border", align_corners=True),
        nn.conv2d(3, 3, 2, 1), nn.relu(), nn.max_pool(2), nn.flatten(), nn.linear(10),
    ),
    "projective, corners": nn.serial(
        warped("projective", size=(9, 5), padding_mode="reflection", align_corners=True),
        nn.flatten(), nn.linear(10),
    ),
    "smooth tps, corners": nn.serial(
        warped(parametrisations.tps(3, 0.3), align_corners=True), nn.flatten(), nn.linear(10),
    ),
    "several": nn.serial(
        nn.parallel(warped("affine"), nn.serial(warped("tps"), warped("projective"))),
        nn.conv2d(4, 3), nn.batch_norm(), nn.relu(), warped("translation"), nn.flatten(),
        nn.dropout(0.3), nn.linear(10),
    ),
    "views": nn.serial(
        warped("affine", size=(9, 8), view_angles=(0, -20, 20)),
        nn.mean_of_views(
            3, nn.batch_norm(), warped("projective", view_angles=(5,)), nn.flatten(), nn.linear(10),
        ),
    ),
}  # fmt: skip


def trained(name):
    """A network whose transformers are not the identity, and whose statistics are not initial."""
    net, rng = NETS[name], np.random.default_rng(0)
    params, state = net.init(rng, SHAPE), net.init_state(SHAPE)
    params = nn.tree.tree_map(
        lambda a: (a + 0.02 * rng.standard_normal(a.shape)).astype(a.dtype), params
    )
    for _ in range(3):
        _, _, state = net.apply(params, DIGITS, state, train=True)
    return net, params, state


@pytest.mark.parametrize("name", NETS)
def test_onnxruntime_gives_the_same_logits(name):
    runtime = pytest.importorskip("onnxruntime")
    net, params, state = trained(name)
    model = export.to_onnx(net, params, state, SHAPE)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = net.apply(params, DIGITS, state)[0]
    assert expected.std() > 0.1
    for images in (DIGITS, DIGITS[:1]):  # any N
        (found,) = session.run(["logits"], {"images": images})
        np.testing.assert_allclose(found, expected[: len(images)], atol=1e-4)
    if "several" in name:
        kinds = [node.op_type for node in model.graph.node]
        assert (kinds.count("GridSample"), kinds.count("AffineGrid")) == (4, 2)


@pytest.mark.parametrize("name", NETS)
def test_pytorch_gives_the_same_logits(name):
    torch = pytest.importorskip("torch")
    net, params, state = trained(name)
    module = export.to_torch(net, params, state, SHAPE)
    with torch.no_grad():
        found = module(torch.from_numpy(DIGITS)).numpy()
    np.testing.assert_allclose(found, net.apply(params, DIGITS, state)[0], atol=1e-4)
    names = {n for n in module.state_dict() if not n.endswith("num_batches_tracked")}
    assert names == export.state_dict(net, params, state).keys()


@pytest.mark.parametrize("name", ["tps", "views"])
def test_pytorch_gives_the_same_gradients(name):
    torch = pytest.importorskip("torch")
    net, params, state = trained(name)
    module = export.to_torch(net, params, state, SHAPE)
    module(torch.from_numpy(DIGITS)).square().mean().backward()
    logits, pullback, _ = net.apply(params, DIGITS, state)
    dparams, _ = pullback(2 * logits / logits.size)
    ours = export.state_dict(net, dparams, state)
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), ours[name], atol=2e-5, err_msg=name)


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert cli.main(["train", "--model", "st-fcn", "--epochs", "1", "--out", str(folder)]) == 0
    return folder


def test_export_of_a_run(run, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    onnx, weights = tmp_path / "new" / "net.onnx", tmp_path / "net.safetensors"
    assert cli.main(["export", str(run), str(onnx)]) == 0
    assert cli.main(["export", str(run), str(weights)]) == 0
    _, net, learner = runs.load_trained(run)
    (found,) = runtime.InferenceSession(onnx).run(None, {"images": DIGITS})
    expected = net.apply(learner.params, DIGITS, learner.state)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    arrays = export.state_dict(net, learner.params, learner.state)
    stored = load_file(weights)
    assert stored.keys() == arrays.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_export_of_a_run_with_several_views(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    command = ["train", "--model", "st-fcn", "--task", "RTS", "--views", "3", "--epochs", "1"]
    folder, onnx = tmp_path / "run", tmp_path / "net.onnx"
    assert cli.main([*command, "--out", str(folder)]) == 0
    config, net, learner = runs.load_trained(folder)
    assert config.views == 3
    assert cli.main(["export", str(folder), str(onnx)]) == 0
    _, shape = experiment.network(config)
    images = np.random.default_rng(0).random((5, *shape), np.float32)
    (found,) = runtime.InferenceSession(onnx).run(None, {"images": images})
    expected = net.apply(learner.params, images, learner.state)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_export_reports_what_it_cannot_export(run, tmp_path, capsys):
    for transform, message in (("rotation", "not linear"), ("rigid_3d", "volumes")):
        net = nn.serial(nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(3)), transform))
        shape = (1, 4, 4, 4) if transform == "rigid_3d" else SHAPE
        params = net.init(np.random.default_rng(0), shape)
        with pytest.raises(export.ExportError, match=message):
            export.to_onnx(net, params, net.init_state(shape), shape)
    net = nn.serial(warped("affine", padding_mode="wrap"))
    params = net.init(np.random.default_rng(0), SHAPE)
    with pytest.raises(export.ExportError, match="'wrap'"):
        export.to_onnx(net, params, net.init_state(SHAPE), SHAPE)
    target = tmp_path / "net.onnx"
    target.write_text("mine")
    for words, message in (
        ([run, target], "--force"), ([run, tmp_path / "net.pt"], ".onnx or .safetensors"),
        ([tmp_path, tmp_path / "x.onnx"], "not a run: "),
    ):  # fmt: skip
        assert cli.main(["export", *map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert target.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx"}
    assert experiment.Config().model == "st-cnn"
