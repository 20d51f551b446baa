"""A run's report: one HTML file, which needs no other file and no network connection."""

import base64
import html
import io
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from ..nn.base import Layer
from ..nn.train import Learner
from . import pictures
from .frames import frames
from .review import review

# What the report shows at most: classes in the tables and among the samples, and mistakes.
MOST_CLASSES, SHOWN_CLASSES, SHOWN_MISTAKES = 50, 16, 12

# Pictures are enlarged to at least this number of pixels a side.
PICTURE_SIDE = 120

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em;
       color: #222; background: #fff; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: .2em .6em; text-align: right; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; } .confusion td { min-width: 1.8em; }
.confusion th.column { writing-mode: vertical-rl; text-align: left; }
figure { display: inline-block; margin: .3em .6em .8em 0; vertical-align: top; }
figcaption { font-size: 13px; max-width: 260px; } figure img { image-rendering: pixelated; }
img.plot { max-width: 100%; } code { background: #f2f2f2; padding: .1em .3em; }
.big { font-size: 1.3em; }
"""


class Subject(NamedTuple):
    """What a report is about.

    ``test`` has ``labels`` and ``take(indices)``; ``show`` makes pictures from 0 to 1 of images as
    the network takes them; ``files`` has a name for each test image, or is empty.
    """

    config: Any
    net: Layer
    learner: Learner
    test: Any
    names: Sequence[str]
    show: Callable[[np.ndarray], np.ndarray]
    files: Sequence[str] = ()


def build(subject: Subject, metrics: dict, plots: dict[str, bytes]) -> bytes:
    """The report's HTML; ``plots`` has the PNG files of the run."""
    found = review(subject.net, subject.learner, subject.test)
    parts = [
        _summary(subject, metrics),
        _plot("Learning curves", plots.get("curves.png")),
        _where_it_looks(subject, found),
        _mistakes(subject, found),
        _classes(subject, found),
        _confusion(subject, found),
        _plot("Classes before and after the transformer", plots.get("classes.png"), "The last "
              "rows are means: they are sharp where the transformer brings a class into one "
              "pose."),
    ]  # fmt: skip
    body = "\n".join(part for part in parts if part)
    title = f"numba_stn: {_escape(', '.join(map(str, subject.names[:4])))} ..."
    head = f'<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>'
    page = (f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n'
            f"</html>\n")  # fmt: skip
    return page.encode("utf-8", "replace")


# --- The parts ------------------------------------------------------------------------------------


def _summary(subject, metrics):
    error = metrics["test_error"]
    words = "not measured" if error is None else f"{error:.2f} %"
    rows = {
        "command": f"<code>{_escape(command(subject.config))}</code>",
        "seed": str(subject.config.seed),
        "network": f"{_escape(subject.config.model)}, {metrics['parameters']:,} parameters",
        "epochs": f"{len(metrics['history'])} of {metrics['epochs']}",
        "versions": _escape(", ".join(f"{k} {v}" for k, v in metrics["versions"].items())),
        "commit": _escape(str(metrics["commit"])),
    }
    if "best_epoch" in metrics:
        rows["epochs"] += f"; the best by validation, which is kept, is {metrics['best_epoch']}"
    lines = "".join(f"<tr><th>{name}</th><td style='text-align:left'>{value}</td></tr>"
                    for name, value in rows.items())  # fmt: skip
    return (f'<h1>Report of a run</h1>\n<p class="big">Test error: <b>{words}</b> of '
            f"{metrics['test_images']:,} images</p>\n<div class='scroll'><table>{lines}</table>"
            f"</div>")  # fmt: skip


def _plot(title, png, text=""):
    if png is None:
        return ""
    return (f'<h2>{title}</h2>\n<p>{text}</p>\n<img class="plot" alt="{title}" '
            f'src="{_address(png)}">')  # fmt: skip


def _where_it_looks(subject, found):
    """A sample of each class, with the frame and what was read; the spread of the poses."""
    if found.poses is None:
        return ""
    figures = []
    for label in np.unique(found.labels)[:SHOWN_CLASSES]:
        index = int(np.flatnonzero(found.labels == label)[0])
        figures.append(_figure(subject, index, _escape(subject.names[label])))
    quantities = {
        "rotation (degrees)": found.poses.rotation,
        "size (share of the image's)": found.poses.size,
        "shift to the right (share of the width)": found.poses.shift[:, 0],
        "shift down (share of the height)": found.poses.shift[:, 1],
        "coverage (share inside the image)": found.poses.coverage,
    }
    rows = "".join(
        f"<tr><td>{name}</td>"
        + "".join(f"<td>{q:.2f}</td>" for q in np.percentile(values, [5, 25, 50, 75, 95]))
        + f"<td>{values.std():.2f}</td></tr>"
        for name, values in quantities.items()
    )
    return (f"<h2>Where the transformer looks</h2>\n<p>Left, an image with the frame; right, what "
            f"was read there.</p>\n{''.join(figures)}\n<p>Over {len(found.poses.size):,} test "
            f"images:</p><table><tr><th>of the frame</th><th>5 %</th><th>25 %</th><th>median</th>"
            f"<th>75 %</th><th>95 %</th><th>deviation</th></tr>{rows}</table>\n"
            f'<img class="plot" alt="Histograms of the poses" '
            f'src="{_address(pictures.to_png(pictures.histograms(quantities)))}">')  # fmt: skip


def _mistakes(subject, found):
    """The mistakes of which the network was most certain."""
    figures = []
    for index in found.worst(SHOWN_MISTAKES):
        label, answer = int(found.labels[index]), int(found.found[index])
        own, other = (100 * found.probabilities[index, k] for k in (label, answer))
        text = (f"<b>{_escape(subject.names[label])}</b> ({own:.1f} %), read as "
                f"<b>{_escape(subject.names[answer])}</b> ({other:.1f} %)")  # fmt: skip
        if subject.files:
            text += f"<br>{_escape(subject.files[index])}"
        figures.append(_figure(subject, int(index), text))
    wrong = int((found.found != found.labels).sum())
    shown = "".join(figures) or "<p>There are none.</p>"
    return f"<h2>The worst mistakes</h2>\n<p>{wrong} of {len(found.labels)}.</p>\n{shown}"


def _classes(subject, found):
    """Precision and recall of each class, those of low recall first."""
    counts = found.confusion()
    right, of_label, of_answer = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):
        recall, precision = 100 * right / of_label, 100 * right / of_answer
    order = [int(k) for k in np.argsort(recall, kind="stable") if of_label[k]][:MOST_CLASSES]
    rows = "".join(
        f"<tr><td>{_escape(subject.names[k])}</td><td>{of_label[k]}</td><td>{_percent(recall[k])}"
        f"</td><td>{_percent(precision[k])}</td></tr>"
        for k in order
    )
    return (f"<h2>Classes</h2>\n<p>Recall: the share of a class's images that were recognised. "
            f"Precision: the share of the images read as this class that are of it.</p>\n"
            f"<table><tr><th>class</th><th>images</th><th>recall</th><th>precision</th></tr>"
            f"{rows}</table>")  # fmt: skip


def _confusion(subject, found):
    """The confusion matrix, or, with many classes, the most frequent confusions."""
    counts = found.confusion()
    if len(counts) > MOST_CLASSES:
        wrong = counts - np.diag(np.diag(counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CLASSES]
        pairs = [(int(k) // len(wrong), int(k) % len(wrong)) for k in order if wrong.flat[k]]
        rows = "".join(f"<tr><td>{_escape(subject.names[a])}</td><td>{_escape(subject.names[b])}"
                       f"</td><td>{wrong[a, b]}</td></tr>" for a, b in pairs)  # fmt: skip
        return (f"<h2>Confusions</h2>\n<table><tr><th>class</th><th>read as</th><th>images</th>"
                f"</tr>{rows}</table>")  # fmt: skip
    head = "".join(f'<th class="column">{_escape(name)}</th>' for name in subject.names)
    lines = []
    for label, row in enumerate(counts):
        cells = "".join(_cell(count, row.sum(), label == k) for k, count in enumerate(row))
        lines.append(f"<tr><th>{_escape(subject.names[label])}</th>{cells}</tr>")
    return (f"<h2>Confusion matrix</h2>\n<p>Rows: the label. Columns: the network's answer.</p>\n"
            f'<div class="scroll"><table class="confusion"><tr><th></th>{head}</tr>'
            f"{''.join(lines)}</table></div>")  # fmt: skip


def _cell(count, total, right):
    if not count:
        return "<td></td>"
    share = count / total
    colour = "30,140,70" if right else "210,50,40"
    return f'<td style="background:rgba({colour},{0.15 + 0.6 * share:.2f})">{count}</td>'


# --- Pictures -------------------------------------------------------------------------------------


def _figure(subject, index, caption):
    """An image with the frame, beside what the transformer made of it."""
    images = subject.test.take(np.array([index])).images
    (picture,) = subject.show(images)
    polygons = [frame[0] for frame in frames(subject.net, subject.learner, images)]
    shown = [pictures.framed(picture, polygons, PICTURE_SIDE)]
    after = pictures.transformed(subject.net, subject.learner, images)
    if after is not None:
        shown.append(pictures.framed(subject.show(after)[0], [], PICTURE_SIDE))
    tags = " ".join(f'<img alt="" src="{_address(_png(each))}">' for each in shown)
    return f"<figure>{tags}<figcaption>{caption}</figcaption></figure>"


def _png(pixels):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _address(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


# --- Words ----------------------------------------------------------------------------------------


def command(config: Any) -> str:
    """The command that starts a run of a configuration: its options that are not the defaults."""
    words = ["numba-stn", "train"]
    if hasattr(config, "data"):
        words.append(config.data)
    for each in fields(config):
        value = getattr(config, each.name)
        value = tuple(value) if isinstance(value, list) else value
        if each.name in NOT_OPTIONS or value == each.default or value is None:
            continue
        if each.name == "split":
            value = ",".join(f"{share:g}" for share in value)
        words.append(f"--{each.name.replace('_', '-')}")
        words += [] if value is True else [str(value)]
    if hasattr(config, "height"):
        words += ["--size", f"{config.height}x{config.width}"]
    if hasattr(config, "data"):
        words += _augmentation(config)
    return shlex.join(words)


# Fields that are not options of the command of their own.
NOT_OPTIONS = {"data", "digest", "net_digest", "classes", "height", "width", "dtype", "mean",
               "deviation", "rotate", "scale", "translate", "shear", "flip", "perspective",
               "elastic", "light"}  # fmt: skip


def _augmentation(config):
    """The option ``--augment``, if it is not the default."""
    from .recipe import AUGMENTATIONS, Recipe

    values = {name: getattr(config, name) for name in AUGMENTATIONS}
    if all(value == getattr(Recipe(), name) for name, value in values.items()):
        return []
    some = [name if value is True else f"{name}={value:g}"
            for name, value in values.items() if value]  # fmt: skip
    return ["--augment", ",".join(some) or "none"]


def _percent(value):
    return "" if np.isnan(value) else f"{value:.1f} %"


def _escape(text):
    return html.escape(str(text))
