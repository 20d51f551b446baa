"""Write the site of the speed history, made by asv, so that it needs neither server nor network.

``python docs/history.py FOLDER`` writes it; the build of the documentation writes it to its folder
``history``. It needs the results in benchmarks/results/asv, a clone with all commits on the branch
main, and npm, whose packages contain the libraries that asv's page would load from other servers.
What the page would load from its own server is in the file ``embedded.js``, because browsers load
no data into a page that was opened from a file.
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
RESULTS = BENCHMARKS / "results" / "asv"

# The libraries that asv's page loads, by file name: the npm package, and the file in it.
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

# A script or style sheet of another server: the tag up to the address, the address, the remainder.
ELSEWHERE = re.compile(r'(<(?:script|link)[^>]* (?:src|href)=")(https://[^"]+)("[^>]*>)')
CHECKS = re.compile(r' (?:integrity|crossorigin|referrerpolicy)="[^"]*"')

EMPTY = """<!DOCTYPE html>
<title>Speed history</title>
<h1>Speed history</h1>
<p>It was not drawn when these pages were built: {reason}.</p>
"""


class HistoryError(Exception):
    """The site cannot be written here."""


# asv's page asks for its data by jQuery; this answers from the file.
TRANSPORT = """
jQuery.ajaxTransport("+json", function (options) {
    const name = decodeURIComponent(options.url.split("?")[0]);
    if (!(name in EMBEDDED)) return;
    return {
        send: (headers, complete) =>  // later, as a server's answer: all scripts have run by then
            setTimeout(() => complete(200, "OK", {json: structuredClone(EMBEDDED[name])}), 0),
        abort: () => {},
    };
});
"""


def write(folder: pathlib.Path, results: pathlib.Path = RESULTS) -> str:
    """Write the site, or a page that says why there is none; return the reason."""
    try:
        with tempfile.TemporaryDirectory() as made:
            site = pathlib.Path(made, "site")
            publish(site, results)
            leave_out_unmeasured(site)
            localise(site)
            embed(site)
            shutil.copytree(site, folder, dirs_exist_ok=True)
    except HistoryError as error:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(EMPTY.format(reason=error))
        return str(error)
    return ""


def publish(folder: pathlib.Path, results: pathlib.Path) -> None:
    """Let asv write its site from the results, of which it changes none."""
    config = json.loads((BENCHMARKS / "asv.conf.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as copied:
        results = shutil.copytree(results, pathlib.Path(copied, "results"))
        config |= {"repo": str(BENCHMARKS.parent), "results_dir": str(results),
                   "benchmark_dir": str(BENCHMARKS / config["benchmark_dir"]),
                   "env_dir": str(pathlib.Path(copied, "env"))}  # fmt: skip
        file = pathlib.Path(copied, "asv.conf.json")
        file.write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-m", "asv", "publish", "--config", str(file)]
        _run("asv publish", [*command, "-o", str(folder)], BENCHMARKS)


def leave_out_unmeasured(folder: pathlib.Path) -> None:
    """Remove benchmarks without results from the list, because they have no graph to load."""
    index = folder / "index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    drawn = {path.stem for path in (folder / "graphs" / "summary").glob("*.json")}
    content["benchmarks"] = {
        name: about for name, about in content["benchmarks"].items() if name in drawn
    }
    index.write_text(json.dumps(content), encoding="utf-8")


def localise(folder: pathlib.Path) -> None:
    """Store the libraries that the page loads from other servers next to it."""
    page = folder / "index.html"
    text = page.read_text(encoding="utf-8")
    packages: dict[str, pathlib.Path] = {}
    with tempfile.TemporaryDirectory() as unpacked:

        def local(match):
            name = match[2].rpartition("/")[2]
            if name not in LIBRARIES:
                raise HistoryError(
                    f"asv's page loads {match[2]}, which docs/history.py does not know"
                )
            package, path = LIBRARIES[name]
            if package not in packages:
                packages[package] = _unpacked(package, pathlib.Path(unpacked, package))
            shutil.copy(packages[package] / path, folder / name)
            return CHECKS.sub("", match[1] + name + match[3])

        page.write_text(ELSEWHERE.sub(local, text), encoding="utf-8")


def embed(folder: pathlib.Path) -> None:
    """Store all data in one script, which the page loads after jQuery."""
    data = {path.relative_to(folder).as_posix(): json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(folder.rglob("*.json"))}  # fmt: skip
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    (folder / "embedded.js").write_text(f"const EMBEDDED = {text};\n{TRANSPORT}", encoding="utf-8")
    page = folder / "index.html"
    loads = re.compile(r'<script[^>]* src="jquery-[^"]*"[^>]*></script>')
    text, count = loads.subn(r'\g<0>\n<script src="embedded.js"></script>',
                             page.read_text(encoding="utf-8"), count=1)  # fmt: skip
    if not count:
        raise HistoryError("asv's page loads no jQuery, after which docs/history.py puts the data")
    page.write_text(text, encoding="utf-8")


def _unpacked(package, folder):
    """Download an npm package and unpack it into this folder; return the path of its files."""
    folder.mkdir()
    _run(f"npm pack {package}", ["npm", "pack", "--silent", package], folder)
    [packed] = folder.glob("*.tgz")
    with tarfile.open(packed) as file:
        file.extractall(folder, filter="data")
    return folder / "package"


def _run(what, command, folder):
    """Run a command, or raise HistoryError with the last line that it printed."""
    if not (shutil.which(command[0]) and folder.is_dir()):
        raise HistoryError(f"{command[0]} was not found")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        message = (done.stderr.strip() or done.stdout.strip() or "?").splitlines()[-1]
        raise HistoryError(f"{what} failed: {message}")


if __name__ == "__main__":
    sys.exit(write(pathlib.Path(sys.argv[1])) or None)
