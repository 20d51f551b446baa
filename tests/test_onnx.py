"""ONNX's own test cases of GridSample and AffineGrid, from the onnx package (extra ``peers``).

ONNX's modes linear and cubic are bilinear and bicubic here. All other names are the same.
"""

import warnings

import numpy as np
import pytest

import numba_stn as stn

pytest.importorskip("onnx")

from onnx.backend.test.case.node import collect_testcases
from onnx.reference.ops.op_grid_sample import GridSample

MODES = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}


def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases of other operators overflow on purpose
        found = collect_testcases(None)
    return [case for case in found if case.name.startswith(("test_gridsample", "test_affine_grid"))]


CASES = cases()


def ours(case, inputs):
    """numba_stn's output for a case. The expanded cases are AffineGrid in smaller operators."""
    node = case.model.graph.node[0]
    attributes = {each.name: each.s.decode() if each.s else each.i for each in node.attribute}
    if case.name.startswith("test_affine_grid"):
        aligned = "align_corners" in case.name
        assert node.op_type != "AffineGrid" or attributes["align_corners"] == aligned
        return stn.affine_grid(inputs[0], inputs[1], align_corners=aligned)
    assert attributes.keys() <= {"mode", "padding_mode", "align_corners"}
    return stn.grid_sample(
        *inputs,
        mode=MODES[attributes.get("mode", "linear")],
        padding_mode=attributes.get("padding_mode", "zeros"),
        align_corners=bool(attributes.get("align_corners", 0)),
    )


def test_all_cases_are_found():
    """ONNX 1.23 has 18 cases of GridSample, and 4 of AffineGrid, each as a node and expanded."""
    grids = [case for case in CASES if case.name.startswith("test_affine_grid")]
    assert len(grids) >= 8
    assert len(CASES) >= 26


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case):
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        got = ours(case, inputs)
        assert got.dtype == outputs[0].dtype
        np.testing.assert_allclose(got, outputs[0], rtol=case.rtol, atol=max(case.atol, 1e-6))


# --- The reference implementation -----------------------------------------------------------------


def reference(images, grid, mode, padding_mode, align_corners):
    node = object.__new__(GridSample)
    node.mode, node.padding_mode, node.align_corners = mode, padding_mode, align_corners
    return node._run(images, grid)[0]


def compared(mode, padding_mode, align_corners):
    """Both outputs on random coordinates, at least 1/4 pixel from any discontinuity.

    The coordinates are in the image or near it, where all implementations agree on reflection.
    """
    rng = np.random.default_rng(0)
    images = rng.standard_normal((1, 2, 5, 6)).astype(np.float32)
    pixel = rng.integers(-3, 8, (1, 6, 6, 2)) + rng.choice([0.25, 0.75], (1, 6, 6, 2))
    sides = np.array([6, 5])
    grid = 2 * pixel / (sides - 1) - 1 if align_corners else (2 * pixel + 1) / sides - 1
    arguments = images, grid.astype(np.float32)
    chosen = {"padding_mode": padding_mode, "align_corners": align_corners}
    got = stn.grid_sample(*arguments, mode=MODES[mode], **chosen)
    return got, reference(*arguments, mode, padding_mode, align_corners)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("mode", "padding_mode"), [
    ("linear", "zeros"), ("linear", "border"), ("linear", "reflection"), ("nearest", "zeros"),
    ("cubic", "zeros"),
])  # fmt: skip
def test_the_reference_implementation_agrees(mode, padding_mode, align_corners):
    got, want = compared(mode, padding_mode, align_corners)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_cubic_samples_of_volumes_are_those_of_the_reference_implementation():
    rng = np.random.default_rng(1)
    volumes = rng.standard_normal((1, 2, 4, 5, 6))
    grid = rng.uniform(-1.4, 1.4, (1, 2, 3, 4, 3))
    for align_corners in (False, True):
        want = reference(volumes, grid, "cubic", "zeros", align_corners)
        got = stn.grid_sample(volumes, grid, mode="bicubic", align_corners=align_corners)
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_where_the_reference_implementation_differs(align_corners):
    """Cubic with border: it clips the coordinate and the taps; PyTorch and numba_stn the taps only.

    So just outside the image its value is constant, and ours still overshoots. test_peers_all.py
    tests that ours agrees with PyTorch. The operator's specification does not decide it.
    """
    got, want = compared("cubic", "border", align_corners)
    differs = np.abs(got - want) > 1e-4
    assert 0 < differs.mean() < 0.9
    np.testing.assert_allclose(got[~differs], want[~differs], atol=2e-4)
