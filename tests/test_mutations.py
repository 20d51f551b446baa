"""The list of mutations fits the sources and names tests that exist; the operators change code."""

import ast
import pathlib

import mutation_operators
import mutations
import pytest

TESTS = pathlib.Path(__file__).parent

MODULE = '''"""A module."""
NUMBER = 3


def f(x, flag=True):
    """Say 4."""
    if x < 2 and not flag:
        raise ValueError(f"x: {x - 1}")
    total = [0]
    for k in range(x):
        if k == 1:
            continue
        total[0] += -k * 2
    print(total, *zip(total, total, strict=True))
    return total[0] if flag else x
'''


def test_every_old_text_occurs_once():
    found = mutations.listed()
    assert len(found) == len({mutant.name for mutant in found}) >= 80
    changed = {mutant.file for mutant in found}
    for part in ("math", "cpu", "cpu/simd", "cuda", "layers", "registration"):
        assert any(file.startswith(f"numba_stn/kernels/{part}/") for file in changed), part


def test_every_mutation_names_tests_that_exist():
    for row in mutations.rows():
        for test in row.tests:
            file, _, function = test.partition(" ")[0].partition("::")
            assert not function or f"def {function}(" in (TESTS / file).read_text(), row.name
        if not row.tests:
            assert row.explained, row.name


def test_every_mutant_is_python():
    for mutant in mutations.listed():
        ast.parse(mutant.source)


def test_a_stale_list_is_an_error(tmp_path):
    path = tmp_path / "list.txt"
    for old, count in (("no such text", 0), ("import", "[1-9]")):
        path.write_text(f"@ numba_stn/nn/optim.py\n\n- {old}\n+ pass\n? test_data.py\n")
        with pytest.raises(mutations.StaleError, match=f"the old text occurs {count}"):
            mutations.listed(path)
    path.write_text("@ numba_stn/nn/optim.py\n\n= import\n")
    with pytest.raises(mutations.StaleError, match="a line begins with none of"):
        mutations.listed(path)


def test_a_result_is_valid_until_its_tests_change():
    source = (TESTS / "test_tps.py").read_text()
    some = {"test_the_lattice_is_the_identity"}
    other = source + "\n\n@pytest.mark.slow\ndef test_more():\n    assert 3 == 3\n"
    kept = mutations.without_other_tests(source, some)
    assert mutations.without_other_tests(other, some) == kept
    assert kept in mutations.without_other_tests(other + "\nlast = 3\n", some)
    assert mutations.without_other_tests(other + "\nlast = 3\n", some) != kept
    assert "def test_the_lattice_is_the_identity" in kept
    assert "def test_the_grid_s_gradient" not in kept
    assert mutations.without_other_tests(other, {""}).endswith("assert 3 == 3")


def test_few_mutations_survive_and_each_is_explained():
    results = mutations.load(mutations.RESULTS)
    entries = results["mutations"].values()
    assert results["summary"] == mutations.summary(entries)
    assert {entry["result"] for entry in entries} <= {"noticed", "explained"}
    for kind in ("listed", "generated"):
        found = [entry["result"] for entry in entries if entry["kind"] == kind]
        assert found.count("explained") <= 0.03 * len(found)


# --- Operators ------------------------------------------------------------------------------------


def test_operators_change_one_thing_each():
    found = {edit.name: edit.applied(MODULE) for edit in mutation_operators.edits(MODULE)}
    assert "f: x < 2 -> (x <= 2)" in found
    assert "module: 3 -> 4" in found
    assert "f: True -> False" in found
    assert "f: not flag -> (flag)" in found
    assert "f: continue -> pass" in found
    assert "f: print(total, *zip(total, total, strict=True)) -> pass" in found
    assert "f: -k -> (k)" in found
    assert "f: -k * 2 -> (-k / 2)" in found
    assert "f: flag -> (not (flag))" in found
    assert sum("True -> False" in name for name in found) == 1
    assert not any("Say" in name or "x - 1 ->" in name for name in found)
    for name, source in found.items():
        assert ast.dump(ast.parse(source)) != ast.dump(ast.parse(MODULE)), name


def test_a_sample_is_that_of_its_seed():
    one, same, other = (mutation_operators.sampled(MODULE, 5, seed) for seed in (0, 0, 1))
    assert one == same != other
    assert len(one) == 5
    every = mutation_operators.edits(MODULE)
    assert mutation_operators.sampled(MODULE, 999, 0) == every


def test_what_pytest_says_is_judged():
    assert mutations.judged(0, "3 passed in 1 s", "t").passed
    failed = mutations.judged(1, "FAILED tests/t.py::f - assert 1\n1 failed", "t")
    assert failed == mutations.Outcome(False, "tests/t.py::f - assert 1")
    assert "SIGSEGV" in mutations.judged(-11, "", "t").by
    for code, output in ((0, "4 skipped"), (5, "no tests ran"), (4, "not found")):
        with pytest.raises(mutations.StaleError, match="ran no test"):
            mutations.judged(code, output, "t")


def test_tests_of_the_simulator_run_there(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    env = mutations.environment("cuda_simulator_suite.py::test_affine_grid")
    assert env["NUMBA_ENABLE_CUDASIM"] == "1"
    assert "NUMBA_DISABLE_JIT" not in env
    assert "NUMBA_ENABLE_CUDASIM" not in mutations.environment("test_tps.py")
