"""The gallery's pages run: here with fewer steps, in the build of the docs completely.

Where ``NUMBA_STN_PAGES=built``, as in .ci/run, which builds the docs first, the tests look at what
the pages have printed and drawn in the build, and do not run them again.
"""

import ast
import html
import os
import pathlib
import re

import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"
GALLERY = DOCS / "gallery"
NAMES = sorted(path.name for path in GALLERY.glob("plot_*.py"))

# What is shortened in each page that trains a network.
SHORTER = {
    "plot_06_digits.py": [("EPOCHS, BATCH = 25, 40", "EPOCHS, BATCH = 1, 80")],
    "plot_07_mnist.py": [("6_000, 3, 60", "240, 1, 60"), ("slice(2_000)", "slice(200)")],
    "plot_08_clutter.py": [("EPOCHS, BATCH = 40, 50", "EPOCHS, BATCH = 1, 200")],
    "plot_09_two_digits.py": [("EPOCHS, BATCH = 25, 40", "EPOCHS, BATCH = 1, 200")],
    "plot_10_volumes.py": [("EPOCHS, BATCH = 15, 50", "EPOCHS, BATCH = 1, 200")],
    "plot_11_colocalisation.py": [("range(200)", "range(3)"), ("range(10)", "range(1)")],
    "plot_12_own_loop.py": [("SIDE, STEPS = 320, 18", "SIDE, STEPS = 90, 4")],
    "plot_16_tetracubes.py": [("800, 12, 40", "80, 1, 40")],
    "plot_15_signs.py": [("EPOCHS, SIDE = 1800, 20, 48", "EPOCHS, SIDE = 90, 1, 48")],
    "plot_13_dask.py": [("FRAMES = 240", "FRAMES = 48"), ("film[::80]", "film[::16]")],
}

# What a page must print, and the number of figures it draws if it is not one.
PRINTS = {
    "plot_03_paddings.py": "21 % of the larger picture",
    "plot_05_register.py": "match: True; rotated by 9.00 degrees; gain 1.43",
    "plot_06_digits.py": "test error",
    "plot_07_mnist.py": "test error",
    "plot_08_clutter.py": "test error",
    "plot_09_two_digits.py": "2 in parallel",
    "plot_10_volumes.py": "test error",
    "plot_11_colocalisation.py": "IoU",
    "plot_13_dask.py": "dask.array",
    "plot_14_cupy.py": " ms",
    "plot_15_signs.py": "test error",
    "plot_16_tetracubes.py": "test error",
}
FIGURES = {"plot_07_mnist.py": 2}


def test_the_gallery_has_what_it_promises():
    assert len(NAMES) == 16
    assert not set(SHORTER) - set(NAMES)
    header = (GALLERY / "GALLERY_HEADER.rst").read_text()
    assert header.startswith("Gallery\n=======")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_short(name):
    """At most 56 lines without its texts.

    The page with two networks and a loss has more, and so have those that draw their images.
    """
    tree = ast.parse((GALLERY / name).read_text())
    texts = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node)
    ]
    lines = {
        line
        for node in ast.walk(tree)
        if hasattr(node, "lineno")
        for line in range(node.lineno, node.end_lineno + 1)
    }
    for text in texts:
        lines -= set(range(text.lineno, text.end_lineno + 1))
    code = (GALLERY / name).read_text().split("\n")
    written = [n for n in lines if code[n - 1].strip() and not code[n - 1].lstrip().startswith("#")]
    longer = ("plot_11_colocalisation.py", "plot_15_signs.py", "plot_16_tetracubes.py")
    assert len(written) <= (68 if name in longer else 56)


def built(name):
    """What a page has printed in the build of the docs, and the number of its figures."""
    assert (DOCS / "examples" / name).read_text() == (GALLERY / name).read_text()
    stem = name.removesuffix(".py")
    page = (DOCS / "_build" / "html" / "examples" / f"{stem}.html").read_text()
    printed = re.findall(r'<div class="sphx-glr-script-out.*?</div>', page, re.DOTALL)
    figures = set(re.findall(rf"sphx_glr_{stem}_\d+\.png", page))
    assert all((DOCS / "_build" / "html" / "_images" / figure).exists() for figure in figures)
    return html.unescape(re.sub("<.*?>", "", "".join(printed))), len(figures)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_runs(name, capsys, monkeypatch):
    if os.environ.get("NUMBA_STN_PAGES") == "built":
        printed, figures = built(name)
        assert figures == FIGURES.get(name, 1)
        assert PRINTS.get(name, "") in printed
        return
    pyplot = pytest.importorskip("matplotlib.pyplot")
    for module in ("sklearn", "PIL", *(["dask"] if "dask" in name else [])):
        pytest.importorskip(module)
    if name == "plot_07_mnist.py":  # use scikit-learn's digits
        monkeypatch.delenv("NUMBA_STN_DATA", raising=False)
    pyplot.switch_backend("agg")
    code = (GALLERY / name).read_text()
    for long, short in SHORTER.get(name, ()):
        assert code.count(long) == 1, long
        code = code.replace(long, short)
    try:
        exec(compile(code, name, "exec"), {"__name__": "page"})
        assert len(pyplot.get_fignums()) == FIGURES.get(name, 1)
        for number in pyplot.get_fignums():
            pyplot.figure(number).canvas.draw()
    finally:
        pyplot.close("all")
    assert PRINTS.get(name, "") in capsys.readouterr().out
