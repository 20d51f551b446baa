"""The Python of the README and of the docs runs, and prints what they say; their links lead on."""

import doctest
import pathlib
import re
import shutil

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
ELSEWHERE = {"coming-from.md"}  # its code is run by a test of its own

# A piece of Python, and what it prints: in its comments, or in a block of text behind it.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<prints>.*?)^```)?", re.MULTILINE | re.DOTALL
)
SHOWN = re.compile(r"# -> (.*)$", re.MULTILINE)
NEEDS = re.compile(r"^(?:import|from) (torch|sklearn|dask|zarr|PIL)\b", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Each piece of code, and what the page says that it prints."""
    for found in BLOCK.finditer(page.read_text()):
        comments = "".join(f"{line}\n" for line in SHOWN.findall(found["code"]))
        yield found["code"], comments + (found["prints"] or "")


def said_otherwise(shown, printed):
    """How what was printed differs from what is shown; "..." stands for anything."""
    checker, options = doctest.OutputChecker(), doctest.ELLIPSIS
    if checker.check_output(shown, printed, options):
        return ""
    return checker.output_difference(doctest.Example("", shown), printed, options)


WITH_CODE = [page for page in PAGES if page.name not in ELSEWHERE and list(blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_a_page_prints_what_it_shows(page, tmp_path, monkeypatch, capsys):
    """And shows all of it. From top to bottom: a piece may use what stands before it."""
    for module in sorted(set(NEEDS.findall("".join(code for code, _ in blocks(page))))):
        pytest.importorskip(module)
    shutil.copy(DOCS / "images" / "photograph.jpg", tmp_path / "photo.jpg")  # any picture of yours
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, (code, shown) in enumerate(blocks(page)):
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        assert not said_otherwise(shown, capsys.readouterr().out), f"block {number}"


def test_a_wrong_figure_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)  # -> 2\nprint(0.5)\n```\n\n```text\n0.5\n```\n")
    [(_, shown)] = blocks(page)
    assert not said_otherwise(shown, "2\n0.5\n")
    assert not said_otherwise(shown.replace("0.5", "0..."), "2\n0.5\n")
    for printed in ("3\n0.5\n", "2\n", "2\n0.5\n1\n"):
        assert said_otherwise(shown, printed)
    assert said_otherwise("", "2\n")


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
