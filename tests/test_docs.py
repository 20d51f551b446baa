"""The documentation: its sources, the built site and its links, and the site in a browser.

The tests of the built site need ``python -m sphinx -W -b html docs docs/_build/html``, which
.ci/run runs.
"""

import functools
import html.parser
import http.server
import importlib
import json
import pathlib
import re
import shutil
import threading
import urllib.parse

import pytest

import numba_stn

DOCS = pathlib.Path(__file__).parents[1] / "docs"
SITE = DOCS / "_build" / "html"
HISTORY = DOCS.parent / "benchmarks" / "results" / "asv"
built = pytest.mark.skipif(
    not (SITE / "index.html").exists(),
    reason="no built site: python -m sphinx -W -b html docs docs/_build/html",
)
NOT_SPHINX = {"history", "_static", "_sources", "_modules", "_downloads", "_images"}


# --- The sources ----------------------------------------------------------------------------------


def listed():
    """Return every name of the reference's tables, with its module."""
    found = set()
    for page in (DOCS / "reference").glob("*.rst"):
        module = ""
        for line in page.read_text().split("\n"):
            if line.startswith(".. currentmodule:: "):
                module = line.rpartition(" ")[2]
            elif module and re.fullmatch(r"   \w+", line):
                found.add(f"{module}.{line.strip()}")
    return found


def public_module(name):
    """Return a module by its public name, which may be an attribute of the package."""
    found = numba_stn
    for part in name.split(".")[1:]:
        if not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    return found


def test_the_reference_lists_every_public_function():
    here = {
        f"numba_stn.{name}"
        for name in numba_stn.__all__
        if callable(getattr(numba_stn, name)) and not name.startswith("_")
    }
    for module in (
        "data",
        "deformations",
        "export",
        "inline",
        "maps",
        "matrices",
        "matrices_3d",
        "nn",
        "transforms",
    ):
        names = public_module(f"numba_stn.{module}")
        here |= {
            f"numba_stn.{module}.{name}" for name in names.__all__ if callable(getattr(names, name))
        }
    values = {f"numba_stn.transforms.{name}" for name in numba_stn.transforms.TRANSFORMS}
    assert not here - listed() - values
    for name in listed():
        module, _, attribute = name.rpartition(".")
        assert hasattr(public_module(module), attribute), name


def test_the_command_lines_page_has_every_command():
    from numba_stn import cli

    page = (DOCS / "reference" / "command-line.md").read_text()
    names = [part.__name__.rpartition(".")[2] for part in cli.COMMANDS]
    assert sorted(re.findall(r"^## numba-stn (\w+)$", page, re.MULTILINE)) == sorted(names)


def test_the_pictures_of_the_explanation_are_drawn(monkeypatch):
    """docs/figures.py draws them; one is enough here. The page shows every figure."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pytest.importorskip("sklearn")
    pyplot.switch_backend("agg")
    monkeypatch.syspath_prepend(DOCS)
    figures = importlib.import_module("figures")
    shown = re.findall(r"images/how-(\w+)\.png", (DOCS / "how.md").read_text())
    assert sorted(shown) == sorted(figures.FIGURES)
    try:
        assert figures.weights().axes
    finally:
        pyplot.close("all")


def test_the_picture_of_the_packages_is_up_to_date(monkeypatch):
    """Every package has a box, every import points down, and the arrows drawn are today's."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    monkeypatch.syspath_prepend(DOCS)
    packages = importlib.import_module("packages")
    found = packages.imports()
    assert set(found) == set(packages.BOXES)
    for name, below in found.items():
        for other in below:
            assert packages.BOXES[name][1] > packages.BOXES[other][1], f"{name} imports {other}"
    drawn = packages.PICTURE.read_bytes()
    assert packages.description().encode() in drawn, "python docs/packages.py"


def test_the_design_names_packages_files_and_functions_that_exist():
    page, root = (DOCS / "design.md").read_text(), DOCS.parent / "numba_stn"
    packages, path, where = (
        page.split(f"## {title}")[1].split("\n## ")[0]
        for title in ("The packages", "The path of one call", "Where to change what")
    )
    rows = re.findall(r"^\| (`.+?) \|", packages, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        first, *others = re.findall(r"`([^`]+)`", row)
        for name in (first, *(f"{first.rpartition('/')[0]}/{other}" for other in others)):
            assert (root / name).exists(), name
    steps = re.findall(r"^\| `(\S+\.py)` \| (.+?) \|", path, re.MULTILINE)
    assert len(steps) > 20
    for file, functions in steps:
        code = (root / file).read_text()
        for name in re.findall(r"`(\w+)`", functions):
            assert re.search(rf"^\s*(?:def|class) {name}\b", code, re.MULTILINE), (file, name)
    for file in re.findall(r"`([\w/]+/\w+\.(?:py|rst|md))`", path + where):
        assert any((base / file).exists() for base in (root, root.parent)), file


# Of a table of ratios: the columns that the summary speaks of, and its words.
FASTER = (
    "faster than {column} in {wins} of {count} rows, by up to {high} times",
    ("PyTorch", "OpenCV"),
)
RANGES = {
    "Intel IPP": "Intel IPP takes {low} to {high} times our time",
    "Pillow": "Pillow {low} to {high} times",
    "kornia-rs": "kornia-rs {low} to {high} times",
    "kornia": "kornia {low} to {high} times",
    "scikit-image": "scikit-image {low} to {high} times",
    "SciPy": "SciPy {low} to {high} times",
}


def cells(page, marker):
    """Return the head of a generated table, and its rows."""
    region = page.split(f"<!-- {marker} -->\n")[1].split("\n<!-- end -->")[0]
    head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")]
                      for line in region.split("\n"))  # fmt: skip
    return head, rows


def test_the_summary_of_the_speed_agrees_with_the_tables():
    page = (DOCS / "performance.md").read_text()
    head, rows = cells(page, "compare.json: rows")

    def ratios(column, what=""):
        k = head.index(f"{column}, times ours")
        return [float(row[k]) for row in rows if row[k] and what in row[0]]

    def between(numbers):
        short = [f"{n:.1f}" if n < 10 else f"{n:.0f}" for n in (min(numbers), max(numbers))]
        return {"low": short[0], "high": short[1]}

    for column, words in RANGES.items():
        assert words.format(**between(ratios(column))) in page, column
    words, columns = FASTER
    for column in columns:
        found = ratios(column)
        wins, high = sum(ratio > 1 for ratio in found), between(found)["high"]
        assert words.format(column=column, wins=wins, count=len(found), high=high) in page, column
    for what, words in (
        ("both ways", "Forward and backward together take PyTorch {low} to {high} times"),
        ("Adam", "a training step takes it {low} to {high} times our time"),
    ):
        assert words.format(**between(ratios("PyTorch", what))) in page
    _, errors = cells(page, "compare.json: errors")
    assert all(float(ours) <= float(theirs) for _, _, ours, theirs in errors)
    _, memory = cells(page, "compare.json: memory")
    assert {ours for _, _, ours, _ in memory} == {"1.0"}
    assert f"PyTorch needs up to {max(float(theirs) for *_, theirs in memory):.1f} times" in page


# --- The built pages ------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """The links of a page, the files it loads, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found.get("id"), found.get("name")}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("img", "script", "iframe") and "src" in found:
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(found["href"])


@functools.cache
def page(path):
    return Page(path.read_text(encoding="utf-8"))


def pages():
    return [
        path for path in SITE.rglob("*.html") if path.relative_to(SITE).parts[0] not in NOT_SPHINX
    ]


@built
def test_every_local_link_and_picture_of_the_site_is_there():
    broken = []
    for path in pages():
        for address in page(path).links + page(path).loads:
            parts = urllib.parse.urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            name = urllib.parse.unquote(parts.path)
            target = (path.parent / name).resolve() if name else path
            anchor = urllib.parse.unquote(parts.fragment)
            if not (address and target.exists()) or (
                anchor and target.suffix == ".html" and anchor not in page(target).anchors
            ):
                broken.append(f"{path.relative_to(SITE)}: {address}")
    assert not broken


@built
def test_the_site_loads_nothing_from_elsewhere():
    for path in pages():
        for address in page(path).loads:
            assert not urllib.parse.urlsplit(address).netloc, (path.name, address)


# --- A browser ------------------------------------------------------------------------------------

LOOK = """
const pictures = [...document.images];
return {
    title: document.title,
    heading: document.querySelector("h1").innerText,
    pictures: pictures.length,
    broken: pictures.filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.src),
    formulas: [...document.querySelectorAll("math")]
        .filter(m => m.getBoundingClientRect().height > 5).length,
    wide: document.documentElement.scrollWidth > window.innerWidth,
    links: [...document.links].map(a => a.href),
};
"""


@pytest.fixture(scope="module")
def address():
    """Serve the site on this machine, and yield its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason='no selenium: ".[docs]"')
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1400,1000", f"--user-data-dir={profile}"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    with webdriver.Chrome(options=options, service=service) as found:
        found.set_page_load_timeout(60)
        yield found


# For each page: a part of its heading, and the least number of pictures and of formulas.
VIEWED = {
    "index.html": ("numba_stn", 1, 0),
    "how.html": ("How a spatial transformer works", 6, 10),
    "examples/index.html": ("Gallery", 14, 0),
    "examples/plot_02_transforms.html": ("Every transform", 1, 0),
    "reference/index.html": ("Reference", 0, 0),
    "reference/generated/numba_stn.warp_affine.html": ("warp_affine", 0, 0),
    "coming-from.html": ("Coming from another library", 0, 0),
    "performance.html": ("Performance", 0, 0),
    "results.html": ("Results", 2, 0),
    "lab-notes.html": ("Lab notes", 0, 0),
    "design.html": ("Design", 1, 0),
    "chinese.html": ("中文", 1, 0),
}


@built
@pytest.mark.parametrize("name", VIEWED)
def test_a_browser_shows_the_page(name, address, browser):
    heading, pictures, formulas = VIEWED[name]
    browser.get_log("browser")  # drop the messages of an earlier page
    browser.get(f"{address}/{name}")
    seen = browser.execute_script(LOOK)
    assert heading in seen["heading"]
    assert seen["pictures"] >= pictures
    assert seen["formulas"] >= formulas
    assert not seen["broken"]
    assert not seen["wide"], "the page scrolls sideways"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    for link in {urllib.parse.urldefrag(link)[0] for link in seen["links"]}:
        if link.startswith(address):
            path = urllib.parse.unquote(urllib.parse.urlsplit(link).path).lstrip("/")
            assert (SITE / (path or "index.html")).exists(), link


# The points that asv's page has drawn: x and y of each line.
POINTS = """
const plot = $("#main-graph").data("plot");
return plot ? plot.getData().map(line => line.data.filter(point => point[1] !== null)) : [];
"""


@built
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_browser_shows_the_speed_history(address, browser, scheme):
    """It has a grid of benchmarks, and a graph with a point for each measured commit."""
    page = SITE / "history" / "index.html"
    text = page.read_text(encoding="utf-8")
    if "It was not drawn" in text:
        pytest.skip(re.search("<p>(.*)</p>", text)[1])
    assert not [load for load in Page(text).loads if urllib.parse.urlsplit(load).netloc]
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(browser, 60)
    address = f"{address}/history/index.html" if scheme == "http" else page.as_uri()
    browser.get_log("browser")
    browser.get(address)
    shown = wait.until(
        lambda browser: browser.find_elements("css selector", "#summarygrid-display a")
    )
    [warp] = [link for link in shown if link.text.startswith("WarpAffine.time_")]
    browser.get(warp.get_attribute("href"))
    lines = wait.until(lambda browser: browser.execute_script(POINTS))
    commits = {path.name.partition("-")[0] for path in HISTORY.glob("*/*-*.json")}
    assert max(map(len, lines)) == len(commits) > 1
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@built
def test_the_page_of_the_history_draws_every_suite_that_was_measured():
    text = (SITE / "over-time.html").read_text(encoding="utf-8")
    about = json.loads((HISTORY / "benchmarks.json").read_text(encoding="utf-8"))
    measured = {name.rsplit(".", 2)[1] for name in about if name != "version"}
    suites = (DOCS.parent / "benchmarks" / "benchmarks").glob("*.py")
    named = set(re.findall(r"^class (\w+)", "".join(map(pathlib.Path.read_text, suites)), re.M))
    assert text.count('class="speed-history"') == len(measured & named) > 0
    assert text.count("<svg") >= len(measured & named)
