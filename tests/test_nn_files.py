"""Trees of arrays in files: the same bits back, and clear errors for anything else."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from numba_stn import nn
from numba_stn.nn.tree import leaves

NET = nn.serial(
    nn.residual(nn.conv2d(2, 3, padding="same"), nn.batch_norm()), nn.dropout(0.5), nn.flatten(),
    nn.linear(3),
)  # fmt: skip


def started():
    return {"params": NET.init(np.random.default_rng(0), (2, 4, 4)),
            "state": NET.init_state((2, 4, 4))}  # fmt: skip


def same(one, other):
    one, other = list(leaves(one)), list(leaves(other))
    assert [path for path, _ in one] == [path for path, _ in other]
    for (path, a), (_, b) in zip(one, other, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), path
        assert a.tobytes() == b.tobytes(), path


def test_what_is_saved_is_loaded(tmp_path):
    tree = started()
    for saved in (tree, tree["params"], (), {"a": (), "b": {"c": np.arange(3), "d": ()}},
                  np.array(1.5), (np.zeros((0, 2), bool),)):  # fmt: skip
        nn.save(tmp_path / "tree", saved)
        loaded = nn.load(str(tmp_path / "tree"))
        same(loaded, saved)
        same(nn.load(tmp_path / "tree", like=saved), saved)
        assert repr(nn.tree.tree_map(lambda leaf: 0, loaded)) == repr(
            nn.tree.tree_map(lambda leaf: 0, saved)
        )


def test_another_process_gives_the_same_bits(tmp_path):
    tree = started()
    nn.save(tmp_path / "net", tree)
    code = (
        "import sys, numpy as np\nfrom numba_stn import nn\n"
        "tree = nn.load(sys.argv[1])\n"
        "net = nn.serial(nn.residual(nn.conv2d(2, 3, padding='same'), nn.batch_norm()),"
        " nn.dropout(0.5), nn.flatten(), nn.linear(3))\n"
        "x = np.arange(64, dtype=np.float32).reshape(2, 2, 4, 4)\n"
        "print(net.apply(tree['params'], x, tree['state'])[0].tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "net")], env=os.environ,
                          capture_output=True, text=True, check=True)  # fmt: skip
    x = np.arange(64, dtype=np.float32).reshape(2, 2, 4, 4)
    expected = NET.apply(tree["params"], x, tree["state"])[0]
    assert done.stdout.strip() == expected.tobytes().hex()


def test_what_cannot_be_saved(tmp_path):
    for tree, error, message in (
        ({"step": 3}, TypeError, "tree: step: expected an array, got int"),
        ((np.ones(1), None), TypeError, "tree: 1: expected an array, got NoneType"),
        ("weights", TypeError, "tree: itself: expected an array, got str"),
        ({"a.b": np.ones(1), "a": {"b": np.ones(1)}}, ValueError, "different names"),
        ((np.array([1, np.nan]),), ValueError, "0 has NaN or infinity at 1 of 2 places"),
        ((np.array(["x"]),), TypeError, "tree: 0: expected real numbers, got <U1"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            nn.save(tmp_path / "tree", tree)
        assert not list(tmp_path.iterdir())


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "tree"
    nn.save(path, started())
    content = path.read_bytes()
    with pytest.raises(ValueError, match="tree: weights: expected the names"):
        nn.load(path, like=started()["params"])
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        nn.load(tmp_path / "absent")
    for damaged in (b"", content[:50], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="truncated, or not safetensors"):
            nn.load(path)
    for structure in ("{", '{"a": null, "b": null}', "3", "[]", "[" * 10_000, '{"a": 1}'):
        metadata = {"format": "numba_stn arrays 1", "structure": structure}
        save_file({"a": np.ones(2)}, path, metadata)
        with pytest.raises(ValueError, match="damaged"):
            nn.load(path)
    save_file({"a": np.ones(2)}, path, {"structure": json.dumps({"a": None})})
    with pytest.raises(ValueError, match=r"expected a file of nn\.save"):
        nn.load(path)
    same(nn.load(path, like={"a": np.zeros(2)}), {"a": np.ones(2)})
