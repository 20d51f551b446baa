"""The Python code of the README and the docs runs and prints what they show; their links work."""

import doctest
import pathlib
import re
import shutil

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
ELSEWHERE = {"coming-from.md"}  # tests/test_coming_from.py runs its code

# A code block, and what it prints: in its comments, or in a text block after it.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<prints>.*?)^```)?", re.MULTILINE | re.DOTALL
)
SHOWN = re.compile(r"# -> (.*)$", re.MULTILINE)
NEEDS = re.compile(r"^(?:import|from) (torch|sklearn|dask|zarr|PIL)\b", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Yield each code block, and the output that the page shows for it."""
    for found in BLOCK.finditer(page.read_text()):
        comments = "".join(f"{line}\n" for line in SHOWN.findall(found["code"]))
        yield found["code"], comments + (found["prints"] or "")


def difference(shown, printed):
    """Describe how the output differs from what the page shows; "..." matches anything."""
    checker, options = doctest.OutputChecker(), doctest.ELLIPSIS
    if checker.check_output(shown, printed, options):
        return ""
    return checker.output_difference(doctest.Example("", shown), printed, options)


WITH_CODE = [page for page in PAGES if page.name not in ELSEWHERE and list(blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_a_page_prints_what_it_shows(page, tmp_path, monkeypatch, capsys):
    """The page shows all of the output. A block may use names of the blocks before it."""
    for module in sorted(set(NEEDS.findall("".join(code for code, _ in blocks(page))))):
        pytest.importorskip(module)
    shutil.copy(DOCS / "images" / "photograph.jpg", tmp_path / "photo.jpg")  # any picture
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, (code, shown) in enumerate(blocks(page)):
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        assert not difference(shown, capsys.readouterr().out), f"block {number}"


def test_a_wrong_figure_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)  # -> 2\nprint(0.5)\n```\n\n```text\n0.5\n```\n")
    [(_, shown)] = blocks(page)
    assert not difference(shown, "2\n0.5\n")
    assert not difference(shown.replace("0.5", "0..."), "2\n0.5\n")
    for printed in ("3\n0.5\n", "2\n", "2\n0.5\n1\n"):
        assert difference(shown, printed)
    assert difference("", "2\n")


def test_the_first_two_bash_blocks_are_one_line_each():
    found = re.findall(r"^```bash\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert [block.count("\n") for block in found[:2]] == [1, 1]
    assert "numba-stn train" in found[0]
    assert "pytest" in found[1]


def anchors(page):
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_anchors_that_exist(page):
    """They lead to files of the checkout, or to the gallery's pages, which its programs become."""
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
def test_pictures_exist_and_have_an_alternative_text(page):
    for text, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text()):
        assert (page.parent / target).exists()
        assert len(text) > 10, target
