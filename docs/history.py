"""The speed history's site: asv's, made to be read without a network connection.

``python docs/history.py FOLDER`` writes it; the documentation's build does so for its own folder
``history``. It needs the results in benchmarks/results/asv, a clone with all commits on a branch
main, and npm, from whose packages the libraries come that asv's page would load from elsewhere.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"

# What asv's page loads, by the end of its address: npm's package, and the file in it.
LIBRARIES = {
    "jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.min.js": ("flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.min.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.min.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.min.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.min.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "md5.min.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.min.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.min.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}

# A script or a style sheet of another server: its tag up to the address, the address, the rest.
ELSEWHERE = re.compile(r'(<(?:script|link)[^>]* (?:src|href)=")(https://[^"]+)("[^>]*>)')
CHECKS = re.compile(r' (?:integrity|crossorigin|referrerpolicy)="[^"]*"')

EMPTY = """<!DOCTYPE html>
<title>Speed history</title>
<h1>Speed history</h1>
<p>It was not drawn when these pages were built: {reason}.</p>
"""


class HistoryError(Exception):
    """The site cannot be made here."""


def write(folder: pathlib.Path) -> str:
    """Write the site, or a page that says why there is none; returns the reason."""
    try:
        with tempfile.TemporaryDirectory() as made:
            publish(pathlib.Path(made, "site"))
            leave_out_unmeasured(pathlib.Path(made, "site"))
            localise(pathlib.Path(made, "site"))
            shutil.copytree(pathlib.Path(made, "site"), folder, dirs_exist_ok=True)
    except HistoryError as error:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(EMPTY.format(reason=error))
        return str(error)
    return ""


def publish(folder: pathlib.Path) -> None:
    """What asv itself makes of the results."""
    _run("asv publish", [sys.executable, "-m", "asv", "publish", "-o", str(folder)], BENCHMARKS)


def leave_out_unmeasured(folder: pathlib.Path) -> None:
    """Drop what was never measured from the list: the page would look for its graph in vain."""
    index = folder / "index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    drawn = {path.stem for path in (folder / "graphs" / "summary").glob("*.json")}
    content["benchmarks"] = {
        name: about for name, about in content["benchmarks"].items() if name in drawn
    }
    index.write_text(json.dumps(content), encoding="utf-8")


def localise(folder: pathlib.Path) -> None:
    """Put what the page loads from elsewhere beside it."""
    page = folder / "index.html"
    text = page.read_text(encoding="utf-8")
    packages: dict[str, pathlib.Path] = {}
    with tempfile.TemporaryDirectory() as unpacked:

        def local(match):
            name = match[2].rpartition("/")[2]
            if name not in LIBRARIES:
                raise HistoryError(f"this asv's page loads {match[2]}, which is not known here")
            package, path = LIBRARIES[name]
            if package not in packages:
                packages[package] = _unpacked(package, pathlib.Path(unpacked, package))
            shutil.copy(packages[package] / path, folder / name)
            return CHECKS.sub("", match[1] + name + match[3])

        page.write_text(ELSEWHERE.sub(local, text), encoding="utf-8")


def _unpacked(package, folder):
    """A package of npm's, in this folder."""
    folder.mkdir()
    _run(f"npm pack {package}", ["npm", "pack", "--silent", package], folder)
    [packed] = folder.glob("*.tgz")
    with tarfile.open(packed) as file:
        file.extractall(folder, filter="data")
    return folder / "package"


def _run(what, command, folder):
    if not (shutil.which(command[0]) and folder.is_dir()):
        raise HistoryError(f"there is no {command[0]}")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "?").splitlines()[-1]
        raise HistoryError(f"{what} failed: {said}")


if __name__ == "__main__":
    sys.exit(write(pathlib.Path(sys.argv[1])) or None)
