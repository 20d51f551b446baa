"""The gallery's pages run, here with fewer steps; what they show is seen when they are built."""

import pathlib

import pytest

GALLERY = pathlib.Path(__file__).parents[1] / "docs" / "gallery"

# In each page, what is made short, and what it must say.
PAGES = {
    "plot_colocalisation.py": ([("range(300)", "range(3)"), ("range(10)", "range(1)")], "IoU"),
    "plot_volumes.py": ([("EPOCHS, BATCH = 40, 50", "EPOCHS, BATCH = 1, 200")], "misread"),
}


def test_every_page_is_tried():
    assert {path.name for path in GALLERY.glob("plot_*.py")} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs(name, capsys, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    code, (shorter, says) = (GALLERY / name).read_text(), PAGES[name]
    for long, short in shorter:
        assert code.count(long) == 1, long
        code = code.replace(long, short)
    try:
        exec(compile(code, name, "exec"), {"__name__": "page"})
        assert pyplot.get_fignums()
    finally:
        pyplot.close("all")
    assert says in capsys.readouterr().out
