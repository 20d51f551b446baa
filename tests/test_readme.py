"""The Python of the README and of the docs runs, and prints what they say; their links lead on."""

import contextlib
import doctest
import io
import pathlib
import re
import shutil

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
ELSEWHERE = {"coming-from.md"}  # its code is run by a test of its own

# A piece of Python, and what it prints, where the page shows that.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<prints>.*?)^```)?", re.MULTILINE | re.DOTALL
)
NEEDS = re.compile(r"^(?:import|from) (torch|sklearn|dask|PIL)\b", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CHECKER = doctest.OutputChecker()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page):
    return [(found["code"], found["prints"]) for found in BLOCK.finditer(page.read_text())]


WITH_CODE = [page for page in PAGES if page.name not in ELSEWHERE and blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    for module in sorted(set(NEEDS.findall("".join(code for code, _ in blocks(page))))):
        pytest.importorskip(module)
    shutil.copy(DOCS / "images" / "chelsea.jpg", tmp_path / "photo.jpg")  # any picture of yours
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, (code, prints) in enumerate(blocks(page)):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        assert (prints is None) == (not said.getvalue()), (number, said.getvalue())
        assert CHECKER.check_output(prints or "", said.getvalue(), FLAGS), said.getvalue()


def test_the_first_two_bash_blocks_are_one_line_each():
    found = re.findall(r"^```bash\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert [block.count("\n") for block in found[:2]] == [1, 1]
    assert "numba-stn train" in found[0]
    assert "pytest" in found[1]


def anchors(page):
    """What a page's headings are called in links."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """To files of the checkout, or to the gallery's pages, which are made of its programs."""
    for target, anchor in re.findall(
        r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", FENCE.sub("", page.read_text())
    ):
        path = page.parent / target if target else page
        if path.parent == DOCS / "examples":
            path = DOCS / "gallery" / path.name.replace("index.rst", "GALLERY_HEADER.rst")
            path = path.with_suffix(".py") if path.name.startswith("plot_") else path
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), (target, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_speak_of_pictures_that_are_there_and_say_what_they_show(page):
    for text, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text()):
        assert (page.parent / target).exists()
        assert len(text) > 10, target
