"""The documentation site: what it lists, and the built one, its links, and a browser's view of it.

The last need ``python -m sphinx -W -b html docs docs/_build/html``, as .ci/run does it.
"""

import functools
import html.parser
import http.server
import importlib
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
DRAWN_ELSEWHERE = {"history", "_static", "_sources", "_modules", "_downloads", "_images"}


# --- The sources ----------------------------------------------------------------------------------


def listed():
    """Every name of the reference's tables, whole."""
    found = set()
    for page in (DOCS / "reference").glob("*.rst"):
        module = ""
        for line in page.read_text().split("\n"):
            if line.startswith(".. currentmodule:: "):
                module = line.rpartition(" ")[2]
            elif module and re.fullmatch(r"   \w+", line):
                found.add(f"{module}.{line.strip()}")
    return found


def test_the_reference_lists_every_public_function():
    here = {
        f"numba_stn.{name}"
        for name in numba_stn.__all__
        if callable(getattr(numba_stn, name)) and not name.startswith("_")
    }
    for module in ("data", "export", "inline", "matrices", "nn", "transforms"):
        names = importlib.import_module(f"numba_stn.{module}")
        here |= {
            f"numba_stn.{module}.{name}" for name in names.__all__ if callable(getattr(names, name))
        }
    values = {f"numba_stn.transforms.{name}" for name in numba_stn.transforms.TRANSFORMS}
    assert not here - listed() - values
    for name in listed():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_command_lines_page_has_every_command():
    from numba_stn import cli

    page = (DOCS / "reference" / "command-line.md").read_text()
    names = [part.__name__.rpartition(".")[2] for part in cli.PARTS]
    assert sorted(re.findall(r"^## numba-stn (\w+)$", page, re.MULTILINE)) == sorted(names)


def test_the_pictures_of_the_explanation_are_drawn(monkeypatch):
    """As docs/figures.py does; one of them is enough here, and all are known by their page."""
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


# --- The built pages ------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """What a page points to, what it loads, and its own anchors."""

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
        path
        for path in SITE.rglob("*.html")
        if path.relative_to(SITE).parts[0] not in DRAWN_ELSEWHERE
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
    """The site on a server of this machine."""

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


# A page, a word of its heading, how many pictures it has at least, and formulas.
VIEWED = {
    "index.html": ("numba_stn", 1, 0),
    "how.html": ("How a spatial transformer works", 6, 10),
    "examples/index.html": ("Gallery", 14, 0),
    "examples/plot_02_transforms.html": ("Every transform", 1, 0),
    "reference/index.html": ("Reference", 0, 0),
    "reference/generated/numba_stn.warp_affine.html": ("warp_affine", 0, 0),
    "coming-from.html": ("Coming from another library", 0, 0),
    "chinese.html": ("中文", 1, 0),
}


@built
@pytest.mark.parametrize("name", VIEWED)
def test_a_browser_shows_the_page(name, address, browser):
    heading, pictures, formulas = VIEWED[name]
    browser.get_log("browser")  # what an earlier page said
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


# The speed history's points, as asv's page has drawn them: of each line, x and y.
POINTS = """
const plot = $("#main-graph").data("plot");
return plot ? plot.getData().map(line => line.data.filter(point => point[1] !== null)) : [];
"""
ROW = "warp_affine 1x3x1080x1920"


@built
def test_a_browser_shows_the_speed_history(address, browser):
    """Its grid of benchmarks, and a graph with a point for each commit that was measured."""
    text = (SITE / "history" / "index.html").read_text(encoding="utf-8")
    if "It was not drawn" in text:
        pytest.skip(re.search("<p>(.*)</p>", text)[1])
    assert not [load for load in Page(text).loads if urllib.parse.urlsplit(load).netloc]
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(browser, 60)
    browser.get_log("browser")
    browser.get(f"{address}/history/index.html")
    shown = wait.until(
        lambda browser: browser.find_elements("css selector", "#summarygrid-display a")
    )
    assert {"WarpAffine.time_ours", "GridSample.time_ours"} <= {link.text for link in shown}
    browser.get(f"{address}/history/index.html#suites.WarpAffine.time_ours?p-row='{ROW}'")
    [points] = wait.until(lambda browser: browser.execute_script(POINTS))
    commits = {path.name.partition("-")[0] for path in HISTORY.glob("*/*-env-*.json")}
    assert len(points) == len(commits) > 1
    assert all(1e-4 < seconds < 1 for _, seconds in points)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
