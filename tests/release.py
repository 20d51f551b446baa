"""Check a release: ``python tests/release.py [PYTHON...]``; not a test of pytest, as it installs.

It builds the wheel and the source archive, looks at their files and metadata, and installs them in
fresh environments: the wheel for each interpreter that is named (by default python3.10 to
python3.13, those that are found) with the newest dependencies, and for the first of them with the
oldest that ``pyproject.toml`` allows, all extras but those for a GPU included; the source archive
for the last. In each it runs the smoke test below, away from the checkout. The exit code is 1 if
anything failed. ARM processors, Windows and macOS cannot be tried by it on another system.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence

if sys.version_info >= (3, 11):
    import tomllib
else:
    raise SystemExit("tests/release.py: expected Python 3.11 or newer, which reads TOML")

ROOT = pathlib.Path(__file__).parents[1]
PYTHONS = ("python3.10", "python3.11", "python3.12", "python3.13")

# Extras whose oldest dependencies are tried; the others need a GPU, or are peers with one version.
EXTRAS = ("images", "export", "scale", "train", "docs")

SMOKE = """
import subprocess, sys, tempfile
import numpy as np
import numba_stn as stn
from numba_stn.nn import adam, conv2d, flatten, linear, relu, serial, spatial_transformer
from numba_stn.nn import softmax_cross_entropy, global_avg_pool

image = np.arange(48.0).reshape(1, 1, 6, 8)
mirror = np.array([[[-1.0, 0, 0], [0, 1, 0]]])
assert np.allclose(stn.warp_affine(image, mirror), image[..., ::-1])
dimages, dtheta = stn.warp_affine_vjp(image, image, mirror)
assert np.allclose(dimages, image[..., ::-1]) and dtheta.shape == (1, 2, 3)
photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
assert (stn.rotate(photo, 180) == photo[::-1, ::-1]).all()
assert stn.resize(photo, (20, 30), antialias=True).shape == (20, 30, 3)
found = stn.register(photo[5:35, 5:50, 0].astype("f4"), photo[5:35, 5:50, 0].astype("f4"))
assert found.matrix is not None

net = serial(spatial_transformer(serial(flatten(), linear(8), relu())), conv2d(4, 3), relu(),
             global_avg_pool(), linear(3))
images, labels = np.random.default_rng(0).random((9, 1, 12, 12), np.float32), np.arange(9) % 3
params = net.init(np.random.default_rng(0), (1, 12, 12))
optimiser = adam(1e-2)
memory, losses = optimiser.init(params), []
for _ in range(5):
    logits, pullback, _ = net.apply(params, images)
    loss, dlogits = softmax_cross_entropy(logits, labels)
    losses.append(float(loss))
    params, memory = optimiser.update(params, pullback(dlogits)[0], memory)
assert losses[-1] < losses[0], losses
said = subprocess.run([sys.executable, "-m", "numba_stn", "--version"], capture_output=True,
                      text=True, check=True).stdout
assert stn.__version__ in said, said
print("ok", sys.version.split()[0], "numba", __import__("numba").__version__,
      "numpy", np.__version__)
"""

# With the extras: files, training from the command line, exports, Dask and Zarr.
SMOKE_OF_EXTRAS = """
import pathlib, subprocess, sys, tempfile
import numpy as np
import dask.array as da
import numba_stn as stn
from PIL import Image
folder = pathlib.Path(tempfile.mkdtemp())
Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "a.png")
def run(*words):
    subprocess.run([sys.executable, "-m", "numba_stn", *map(str, words)], check=True, cwd=folder)
run("warp", "a.png", "b.png", "--rotate", "30", "--expand")
assert (folder / "b.png").exists()
run("train", "--epochs", "1", "--out", "run")
assert (folder / "run" / "report.html").exists()
run("export", "run", "net.onnx")
assert (folder / "net.onnx").stat().st_size > 1000
import matplotlib, sklearn, tifffile
images = da.ones((4, 1, 8, 8), chunks=(2, 1, 8, 8))
theta = np.tile(np.eye(2, 3), (4, 1, 1))
assert np.allclose(stn.warp_affine(images, theta).compute(), 1)
print("ok extras")
"""


class ReleaseError(Exception):
    """A check that failed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="interpreters; default: "
                        "those of python3.10 to python3.13 that are found")  # fmt: skip
    parser.add_argument("--oldest-only", action="store_true",
                        help="only the oldest dependencies")  # fmt: skip
    args = parser.parse_args(argv)
    pythons = args.pythons or [name for name in PYTHONS if shutil.which(name)]
    failed = []
    with tempfile.TemporaryDirectory() as work:
        try:
            wheel, archive = build(pathlib.Path(work))
            check_files(wheel, archive)
        except ReleaseError as error:
            print(f"FAILED build: {error}")
            return 1
        trials = {f"{pythons[0]}, oldest dependencies": (pythons[0], wheel, True)}
        if not args.oldest_only:
            trials |= {f"{name}, wheel": (name, wheel, False) for name in pythons}
            trials[f"{pythons[-1]}, source archive"] = (pythons[-1], archive, False)
        for name, trial in trials.items():
            try:
                print(f"{name}: {try_out(pathlib.Path(work), *trial)}", flush=True)
            except ReleaseError as error:
                print(f"FAILED {name}: {error}", flush=True)
                failed.append(name)
    print(f"{len(trials) - len(failed)} of {len(trials)} environments work")
    return int(bool(failed))


def run(what: str, *command: object, cwd: pathlib.Path | None = None) -> str:
    """Run a command; raise ReleaseError with its last lines if it fails."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise ReleaseError(f"{what}: " + "\n  ".join(lines[-12:]))
    return done.stdout.strip()


# --- The files ------------------------------------------------------------------------------------


def build(work: pathlib.Path) -> list[pathlib.Path]:
    """Build the wheel and the source archive from the committed files."""
    clone = work / "clone"
    run("git clone", "git", "clone", "--quiet", ROOT, clone)
    run("build", sys.executable, "-m", "build", "--outdir", work / "dist", clone)
    return [next((work / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz")]


def check_files(wheel: pathlib.Path, archive: pathlib.Path) -> None:
    """Check what the files contain, and that all places name one version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version, license_text = project["version"], (ROOT / "LICENSE").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    for expected in (f"version: {version}", f"license: {project['license']}"):
        if f"{expected}\n" not in citation:
            raise ReleaseError(f"CITATION.cff: expected {expected!r}")
    if f"\n## {version}" not in (ROOT / "docs/changelog.md").read_text():
        raise ReleaseError(f"docs/changelog.md: expected a section {version}")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        about = next(name for name in names if name.endswith("/METADATA"))
        metadata = file.read(about).decode()
        texts = [file.read(name).decode() for name in names if name.endswith("/LICENSE")]
    if texts != [license_text]:
        raise ReleaseError("wheel: expected the licence once")
    strange = [name for name in names if not name.startswith(("numba_stn/", "numba_stn-"))]
    if strange or "numba_stn/py.typed" not in names:
        raise ReleaseError(f"wheel: expected the package with py.typed only, got {strange[:3]}")
    for expected in (f"Version: {version}", "License-Expression: MIT", "Requires-Python: >=3.10",
                     "Description-Content-Type: text/markdown"):  # fmt: skip
        if f"{expected}\n" not in metadata:
            raise ReleaseError(f"metadata: expected {expected!r}")
    with tarfile.open(archive) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    if missing := {"LICENSE", "README.md", "pyproject.toml", "numba_stn/__init__.py"} - inside:
        raise ReleaseError(f"source archive: expected {sorted(missing)}")


# --- Environments ---------------------------------------------------------------------------------


def try_out(work: pathlib.Path, interpreter: str, file: pathlib.Path, oldest: bool) -> str:
    """Install the file in a new environment and run the smoke test; return what it printed."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        place = pathlib.Path(folder)
        run("venv", interpreter, "-m", "venv", place / "env")
        python = place / "env" / "bin" / "python"
        if oldest:
            pins = place / "oldest.txt"
            pins.write_text("\n".join(lower_bounds(EXTRAS)))
            extras = f"{file}[{','.join(EXTRAS)}]"
            run("pip install", python, "-m", "pip", "install", "--quiet", "-c", pins, extras)
        else:
            run("pip install", python, "-m", "pip", "install", "--quiet", file)
        said = run("smoke test", python, "-W", "error::DeprecationWarning:numba_stn", "-c", SMOKE,
                   cwd=place)  # fmt: skip
        if oldest:
            said += ", " + run("smoke test of the extras", python, "-c", SMOKE_OF_EXTRAS, cwd=place)
        return said.replace("\n", ", ")


def lower_bounds(extras: Sequence[str]) -> list[str]:
    """Pin the package's dependencies, and those of extras, to the oldest series allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + [
        each for extra in extras for each in project["optional-dependencies"][extra]
    ]
    found = (re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", each) for each in named)
    return sorted({f"{each[1]}=={each[2]}.*" for each in found if each})


if __name__ == "__main__":
    sys.exit(main())
