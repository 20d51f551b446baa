"""Networks exported to ONNX and PyTorch give the same logits, on real digits."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from numba_stn import cli, data, export, nn
from numba_stn.nn import zoo
from numba_stn.training import experiment, runs
from numba_stn.transforms import TRANSFORMS, compose, parametrisations

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
    "layers": nn.serial(
        nn.conv2d(4, 3, padding="same"), nn.tanh(), nn.conv2d(4, 4, 2, "same"), nn.leaky_relu(0.2),
        nn.residual(nn.conv2d(4, 3, padding="same"), nn.batch_norm(), nn.softmax()),
        nn.sum_of(nn.conv2d(6, 3, 2, "same"), nn.serial(nn.conv2d(6, 2, 2), nn.sigmoid())),
        nn.global_avg_pool(), nn.residual(nn.linear(6), nn.softmax()), nn.linear(10),
    ),
    "rotation, views": nn.serial(
        warped("rotation", size=(9, 8), view_angles=(0, 70)),
        nn.mean_of_views(2, nn.flatten(), nn.linear(10)),
    ),
    "shear, rotation, projective": nn.serial(
        warped(compose("shear", "rotation", "projective")), nn.flatten(), nn.linear(10),
    ),
    "affine in rounds, views": nn.serial(
        warped("affine", size=(9, 8), zoom=0.6, view_angles=(0, -20, 20), rounds=3),
        nn.mean_of_views(3, nn.flatten(), nn.linear(10)),
    ),
    "theta as channels": nn.serial(
        warped("similarity", size=(9, 8), view_angles=(0, 20), return_theta=True),
        nn.mean_of_views(2, nn.with_theta(6, nn.conv2d(2, 3), nn.flatten()), nn.linear(10)),
    ),
    "apart, theta of projective maps": nn.serial(
        nn.apart(*[warped("projective", size=(7, 8), return_theta=True)] * 2),
        nn.conv2d(4, 3), nn.flatten(), nn.linear(10),
    ),
    "projective in rounds": nn.serial(
        warped("projective", size=(11, 7), zoom=0.9, padding_mode="border", rounds=2),
        nn.flatten(), nn.linear(10),
    ),
    "views": nn.serial(
        warped("affine", size=(9, 8), view_angles=(0, -20, 20)),
        nn.mean_of_views(
            3, nn.batch_norm(), warped("projective", view_angles=(5,)), nn.flatten(), nn.linear(10),
        ),
    ),
}  # fmt: skip


def trained(net, images=DIGITS):
    """Parameters whose transformers are not the identity, and statistics that are not initial."""
    shape, rng = images.shape[1:], np.random.default_rng(0)
    params, state = net.init(rng, shape), net.init_state(shape)
    params = nn.tree.tree_map(
        lambda a: (a + 0.02 * rng.standard_normal(a.shape)).astype(a.dtype), params
    )
    for _ in range(3):
        _, _, state = net.apply(params, images, state, train=True)
    return net, params, state


def run_onnx(model, images):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"images": images})
    return found


@pytest.mark.parametrize("name", NETS)
def test_onnxruntime_gives_the_same_logits(name):
    runtime = pytest.importorskip("onnxruntime")
    net, params, state = trained(NETS[name])
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


# --- Transforms -----------------------------------------------------------------------------------

VOLUMES = np.random.default_rng(1).random((5, 1, 6, 7, 5)).astype(np.float32)


def swirl(params):
    """A transform of a user's own: a rotation by an angle that is limited, and a bounded zoom."""
    theta = np.zeros((len(params), 2, 3), params.dtype)
    angle, zoom = np.tanh(params[:, 0]), np.exp(-(params[:, 1] ** 2)) / (1 + abs(params[:, 1]))
    theta[:, 0, 0] = theta[:, 1, 1] = zoom * np.cos(angle)
    theta[:, 1, 0] = zoom * np.sin(angle)
    theta[:, 0, 1] = 0 - theta[:, 1, 0]
    theta[:, :, 2] = np.arctan(params) / 2
    return theta


SWIRL = parametrisations.Transform("swirl", (0.0, 0.0), swirl, lambda dtheta, params: params)


def transformer_alone(transform):
    """A network that is a transformer, and images whose thetas differ much from one another."""
    images = VOLUMES if transform.kind == "affine 3-D" else DIGITS
    net = nn.serial(nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(6)), transform))
    params, rng = net.init(np.random.default_rng(0), images.shape[1:]), np.random.default_rng(2)
    head = params[0]["localisation"]["head"]
    head["bias"] = head["bias"] + rng.uniform(-0.3, 0.3, head["bias"].shape).astype(np.float32)
    head["weight"] = rng.uniform(-0.1, 0.1, head["weight"].shape).astype(np.float32)
    return net, params, images


@pytest.mark.parametrize("transform", [*TRANSFORMS.values(), SWIRL], ids=str)
def test_every_transform_is_exported(transform):
    net, params, images = transformer_alone(transform)
    shape = images.shape[1:]
    expected = net.apply(params, images)[0]
    theta = net.layers[0].theta(params[0], images)[0]
    assert theta.std(0).max() > 0.02
    export.check_exportable(net)
    found = run_onnx(export.to_onnx(net, params, net.init_state(shape), shape), images)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    torch = pytest.importorskip("torch")
    module = export.to_torch(net, params, net.init_state(shape), shape)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(images)).numpy(), expected, atol=1e-4)


def test_networks_of_volumes_are_exported():
    """Convolutions with the same zeros at both ends, and with one more at one end; pooling."""
    localisation = nn.serial(nn.conv3d(3, 3, 2, "same"), nn.relu(), nn.flatten(), nn.linear(4))
    net, params, state = trained(
        nn.serial(
            nn.spatial_transformer(localisation, "affine_3d"), nn.conv3d(4, 3, padding="same"),
            nn.batch_norm(), nn.relu(), nn.max_pool3d(2), nn.conv3d(3, 2, padding="same"),
            nn.avg_pool3d(2), nn.flatten(), nn.linear(3),
        ),
        VOLUMES,
    )  # fmt: skip
    shape, expected = VOLUMES.shape[1:], net.apply(params, VOLUMES, state)[0]
    assert expected.std() > 0.1
    found = run_onnx(export.to_onnx(net, params, state, shape), VOLUMES)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    torch = pytest.importorskip("torch")
    module = export.to_torch(net, params, state, shape)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(VOLUMES)).numpy(), expected, atol=1e-4)


def test_rotations_of_volumes_by_no_angle():
    """There the formula divides by the angle."""
    net, params, images = transformer_alone(TRANSFORMS["rigid_3d"])
    params = nn.tree.tree_map(np.zeros_like, params)
    shape = images.shape[1:]
    found = run_onnx(export.to_onnx(net, params, net.init_state(shape), shape), images)
    np.testing.assert_allclose(found, images, atol=1e-5)


@pytest.mark.parametrize("name", ["similarity", "restricted_affine"])
def test_pytorch_gives_the_same_gradients_of_transforms(name):
    torch = pytest.importorskip("torch")
    net, params, images = transformer_alone(TRANSFORMS[name])
    module = export.to_torch(net, params, ((),), SHAPE)
    y, pullback, _ = net.apply(params, images)
    dy = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    module(torch.from_numpy(images)).backward(torch.from_numpy(dy))
    ours = export.state_dict(net, pullback(dy)[0], ((),))
    for key, parameter in module.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), ours[key], rtol=1e-3, atol=2e-2)


def test_formulas_that_cannot_be_exported():
    """Those that compare their parameters, or leave NumPy; before any training."""

    def folded(params):
        return TRANSFORMS["rotation"].forward(np.where(params > 0, params, -params))

    def rounded(params):
        return TRANSFORMS["rotation"].forward(np.rint(params))

    def listed(params):
        return TRANSFORMS["rotation"].forward(np.array([[float(p)] for p in params[:, 0]]))

    def split(params):
        return TRANSFORMS["rotation"].forward(params * (params != 0))

    for formula in (folded, rounded, listed, split):
        transform = parametrisations.Transform("own", (0.0,), formula, formula)
        net = nn.serial(nn.residual(nn.spatial_transformer(nn.flatten(), transform)))
        with pytest.raises(export.ExportError, match="the transform own cannot be exported"):
            export.check_exportable(net)


# --- Models with preprocessing --------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "activation"), [
    ("uint8", "softmax"), ("uint16", None), ("float32", "sigmoid"),
])  # fmt: skip
def test_preprocessing_is_inside(dtype, activation):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 12, 10, 3)).astype(dtype)
    mean, deviation = [100.0, 120.5, 131.0], [40.0, 60.25, 70.0]
    planes = ((images - np.array(mean)) / deviation).transpose(0, 3, 1, 2).astype(np.float32)
    net, params, state = trained(
        nn.serial(warped("similarity"), nn.flatten(), nn.linear(4)), planes
    )
    logits = net.apply(params, planes, state)[0].astype(float)
    if activation == "softmax":
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    else:
        expected = 1 / (1 + np.exp(-logits)) if activation else logits
    ends = {"preprocessing": export.Preprocessing(mean, deviation, dtype), "activation": activation}
    model = export.to_onnx(net, params, state, planes.shape[1:], **ends)
    np.testing.assert_allclose(run_onnx(model, images), expected, atol=1e-4)
    assert model.graph.output[0].name == ("probabilities" if activation else "logits")
    torch = pytest.importorskip("torch")
    module = export.to_torch(net, params, state, planes.shape[1:], **ends)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(images)), expected, atol=1e-4)


def test_arguments_of_exports():
    net = nn.serial(nn.flatten(), nn.linear(2))
    params = net.init(np.random.default_rng(0), (3, 4, 5))
    for options, message in (
        ({"opset": 19}, "opset: expected a whole number from 20 to"),
        ({"opset": 1000}, "opset: "), ({"opset": "20"}, "opset: "),
        ({"activation": "relu"}, "activation: expected softmax, sigmoid or None, got 'relu'"),
        ({"preprocessing": export.Preprocessing([0], [1])}, "mean: expected 3 finite numbers"),
        ({"preprocessing": export.Preprocessing([0] * 3, [1, 1, 0])}, "deviation: .*positive"),
        ({"preprocessing": export.Preprocessing([0] * 3, [1] * 3, "int8")}, "dtype: "),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            export.to_onnx(net, params, ((), ()), (3, 4, 5), **options)


def test_more_zeros_at_some_sides_than_at_others():
    """Of images with an even and an odd side, and a stride of 2."""
    images = np.random.default_rng(0).standard_normal((3, 2, 8, 7)).astype(np.float32)
    net, params, state = trained(nn.serial(nn.conv2d(3, 3, 2, "same"), nn.flatten()), images)
    assert net.layers[0].margins((8, 7)) == (0, 1, 1, 1)
    expected = net.apply(params, images, state)[0]
    model = export.to_onnx(net, params, state, (2, 8, 7))
    np.testing.assert_allclose(run_onnx(model, images), expected, atol=1e-5)
    torch = pytest.importorskip("torch")
    module = export.to_torch(net, params, state, (2, 8, 7))
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(images)), expected, atol=1e-5)


def test_every_opset():
    onnx = pytest.importorskip("onnx")
    net, params, state = trained(NETS["several"])
    expected = net.apply(params, DIGITS, state)[0]
    for opset in range(20, onnx.defs.onnx_opset_version() + 1):
        model = export.to_onnx(net, params, state, SHAPE, opset)
        assert model.opset_import[0].version == opset
        try:
            found = run_onnx(model, DIGITS)
        except Exception as error:  # the runtime may be older than the package onnx
            assert "opset" in str(error) or "IR version" in str(error)  # noqa: PT017
            assert opset > 22
        else:
            np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_pytorch_gives_the_same_logits(name):
    torch = pytest.importorskip("torch")
    net, params, state = trained(NETS[name])
    module = export.to_torch(net, params, state, SHAPE)
    with torch.no_grad():
        found = module(torch.from_numpy(DIGITS)).numpy()
    np.testing.assert_allclose(found, net.apply(params, DIGITS, state)[0], atol=1e-4)
    names = {n for n in module.state_dict() if not n.endswith("num_batches_tracked")}
    assert names == export.state_dict(net, params, state).keys()


@pytest.mark.parametrize("name", ["tps", "views"])
def test_pytorch_gives_the_same_gradients(name):
    torch = pytest.importorskip("torch")
    net, params, state = trained(NETS[name])
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


def test_export_of_a_run_with_its_preprocessing(run, tmp_path):
    """On the grey levels that image files have: a 255th of each is what the network was given."""
    runtime = pytest.importorskip("onnxruntime")
    onnx = tmp_path / "net.onnx"
    command = ["export", str(run), str(onnx), "--with-preprocessing", "--opset", "21"]
    assert cli.main(command) == 0
    _, net, learner = runs.load_trained(run)
    levels = np.rint(255 * DIGITS).astype(np.uint8)
    session = runtime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": levels.transpose(0, 2, 3, 1)})
    planes = levels.astype(np.float32) / np.float32(255)
    logits = net.apply(learner.params, planes, learner.state)[0].astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.argmax(1) == data.digits().test.labels[:32]).mean() > 0.5


@pytest.mark.parametrize(("words", "message"), [
    (["x.safetensors", "--with-preprocessing"], "of ONNX models only"),
    (["x.safetensors", "--opset", "21"], "of ONNX models only"),
    (["x.onnx", "--opset", "19"], "--opset: expected a whole number from 20 to"),
    (["x.onnx", "--opset", "9999"], "--opset: expected a whole number from 20 to"),
])  # fmt: skip
def test_options_of_the_command(run, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(run), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


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
    class Square(nn.Layer):
        pass

    for make in (export.to_onnx, export.to_torch):
        with pytest.raises(export.ExportError, match="Square object.* has no counterpart"):
            make(nn.serial(Square()), ((),), ((),), SHAPE)
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
