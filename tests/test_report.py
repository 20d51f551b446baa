"""A run's report: the poses of frames, the tables, and one HTML file that a browser shows."""

import html.parser
import json
import shutil

import numpy as np
import pytest
from picture_sets import write_folder

from numba_stn import cli
from numba_stn.data import Split
from numba_stn.nn import flatten, linear, parallel, serial, spatial_transformer
from numba_stn.nn.train import Learner
from numba_stn.training import experiment, frames, pictures, report, review, runs


def learner_of(net, shape):
    return Learner(net.init(np.random.default_rng(0), shape), net.init_state(shape), None)


def with_head(net, learner, bias, number=0):
    """The learner, with another bias of the head of a transformer."""
    head = learner.params[number]["localisation"]["head"]
    head["bias"][:] = bias
    return learner


def transformer(transform="affine", size=None):
    return spatial_transformer(serial(flatten(), linear(2)), transform, size)


# --- Frames ---------------------------------------------------------------------------------------


def test_the_frame_of_an_affine_map():
    net = serial(transformer(size=(5, 5)), flatten(), linear(2))
    images = np.zeros((3, 1, 8, 8), np.float32)
    learner = with_head(net, learner_of(net, (1, 8, 8)), [0.5, 0, 0.2, 0, 0.25, -0.1])
    (found,) = frames.frames(net, learner, images)
    assert found.shape == (3, 4 * frames.POINTS, 2)
    np.testing.assert_allclose(found[0].min(0), [-0.3, -0.35], atol=1e-6)
    np.testing.assert_allclose(found[0].max(0), [0.7, 0.15], atol=1e-6)


def test_frames_of_transformers_in_series_and_in_parallel():
    images = np.zeros((1, 1, 8, 8), np.float32)
    net = serial(transformer(), transformer(), flatten(), linear(2))
    learner = with_head(net, learner_of(net, (1, 8, 8)), [0.5, 0, 0.5, 0, 0.5, 0], 0)
    learner = with_head(net, learner, [0.5, 0, 0, 0, 0.5, 0.5], 1)
    (found,) = frames.frames(net, learner, images)
    np.testing.assert_allclose(found[0].min(0), [0.25, 0.0], atol=1e-6)
    np.testing.assert_allclose(found[0].max(0), [0.75, 0.5], atol=1e-6)
    both = serial(parallel(transformer(), transformer()), flatten(), linear(2))
    assert len(frames.frames(both, learner_of(both, (1, 8, 8)), images)) == 2
    plain = serial(flatten(), linear(2))
    assert frames.frames(plain, learner_of(plain, (1, 8, 8)), images) == []


@pytest.mark.parametrize("transform", ["tps", "projective", "similarity", "rotation"])
def test_the_frame_of_an_identity_is_the_edge(transform):
    net = serial(transformer(transform), flatten(), linear(2))
    (found,) = frames.frames(net, learner_of(net, (1, 8, 8)), np.zeros((2, 1, 8, 8), np.float32))
    np.testing.assert_allclose(found[1], frames.outline(), atol=1e-6)


def test_poses_are_those_of_the_maps():
    angle, sides = np.radians(20), (30, 60)
    across = np.array([sides[1], sides[0]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear_part = 0.6 * turn * across / across[:, None]  # of normalised coordinates
    polygon = frames.outline() @ linear_part.T + [0.2, -0.4]
    found = review.pose_of(polygon[None], sides, np.ones(1))
    np.testing.assert_allclose(found.rotation, 20)
    np.testing.assert_allclose(found.size, 0.6)
    np.testing.assert_allclose(found.shift, [[0.1, -0.2]])


def test_the_review_counts_answers():
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.1, 0.3, 0.6], [0.4, 0.6, 0]])
    found = review.Review(np.array([0, 0, 2, 2]), probabilities, None)
    np.testing.assert_array_equal(found.confusion(), [[1, 1, 0], [0, 0, 0], [0, 1, 1]])
    assert found.worst(5).tolist() == [1, 3]
    assert found.worst(1).tolist() == [1]


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1.0])
def test_histograms_of_values_that_are_nearly_equal(spread):
    values = 1 + spread * np.linspace(0, 1, 50)
    assert pictures.to_png(pictures.histograms({"size": values})).startswith(b"\x89PNG")


# --- The page -------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """What a page loads, its headings, and whether its tags are closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.loads, self.headings, self.open, self.images = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loads += [found[name] for name in ("src", "href") if name in found]
        self.images += tag == "img"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on three classes, one of which has a name that is not plain."""
    folder = tmp_path_factory.mktemp("report")
    pictures = write_folder(folder / "set", classes=("bar", "cross", "<b>&dot"))
    assert cli.main(["train", str(pictures), "--size", "12", "--epochs", "1", "--batch", "4",
                     "--augment", "rotate=5", "--out", str(folder / "run")]) == 0  # fmt: skip
    return folder / "run"


def test_the_report_is_one_file_with_all_parts(run):
    text = (run / runs.REPORT).read_text("utf-8")
    page = Page(text)
    assert not page.open
    assert page.loads
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert page.headings == [
        "Report of a run", "Learning curves", "Where the transformer looks", "The worst mistakes",
        "Classes", "Confusion matrix", "Classes before and after the transformer",
    ]  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_bytes())
    assert f"{metrics['test_error']:.2f} %" in text
    assert "&lt;b&gt;&amp;dot" in text
    assert "<b>&dot" not in text
    assert "--augment rotate=5" in text


def test_the_same_run_gives_the_same_report(run, tmp_path):
    pictures = run.parent / "set"
    assert cli.main(["train", str(pictures), "--size", "12", "--epochs", "1", "--batch", "4",
                     "--augment", "rotate=5", "--out", str(tmp_path)]) == 0  # fmt: skip
    assert (tmp_path / runs.REPORT).read_bytes() == (run / runs.REPORT).read_bytes()


def test_a_report_without_a_transformer_and_with_many_classes():
    net = serial(flatten(), linear(60))
    rng = np.random.default_rng(0)
    test = Split(rng.random((70, 1, 4, 4), np.float32), rng.integers(0, 60, 70))
    subject = report.Subject(experiment.Config(model="fcn", seed=7), net,
                             learner_of(net, (1, 4, 4)), test, [str(k) for k in range(60)],
                             lambda planes: planes[:, 0])  # fmt: skip
    metrics = {"test_error": None, "test_images": 70, "parameters": 5, "history": [], "epochs": 3,
               "versions": {}, "commit": None}  # fmt: skip
    page = Page(report.build(subject, metrics, {}).decode())
    assert "Confusions" in page.headings
    assert "Where the transformer looks" not in page.headings


def test_the_command_has_the_options_that_are_not_the_defaults():
    assert report.command(experiment.Config()) == "numba-stn train"
    config = experiment.Config(model="fcn", epochs=3, label_smoothing=0.1)
    assert report.command(config) == (
        "numba-stn train --model fcn --epochs 3 --label-smoothing 0.1"
    )


def test_the_command_of_a_report_repeats_the_run(run, tmp_path):
    """Its words are options that the command line takes, and describe the same run."""
    config, _, _ = runs.load_trained(run)
    words = report.command(config).split()[1:]
    args = cli.parser().parse_args([*words, "--out", str(tmp_path)])
    assert args.data == config.data
    assert (args.size, args.epochs, args.batch) == ((12, 12), 1, 4)
    assert args.augment["rotate"] == 5
    assert args.augment["light"] == 0


def test_a_browser_shows_the_report(run, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason='no selenium: ".[docs]"')
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1200,900", f"--user-data-dir={tmp_path}"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as browser:
        browser.get((run / runs.REPORT).as_uri())
        look = (
            "return [document.querySelector('h1').textContent, document.images.length, "
            "[...document.images].filter(i => !i.complete || !i.naturalWidth).length, "
            "document.documentElement.scrollWidth <= window.innerWidth]"
        )
        heading, count, broken, fits = browser.execute_script(look)
        assert heading == "Report of a run"
        assert count >= 6
        assert not broken
        assert fits
        assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
