"""Run the commands of the README and of the pages, as they are written, in a fresh clone.

``python tests/docs_commands.py [PAGE...]`` takes each page's blocks of bash, one after the other in
one shell, beside files with the names that the page uses; it takes some minutes, most of them for
the installations. Not a test of pytest, as it installs. The exit code is 1 if a command failed.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("README.md", "docs/start.md", "docs/own-images.md", "docs/images.md", "docs/scale.md")

# What is not run, and why.
LEFT_OUT = {
    "pytest -n auto": "all tests: .ci/run runs them",
    "sphinx -W": "the documentation: .ci/run builds it",
    "scheduler": "a cluster: tests/test_cluster.py has one",
    "reproduce": "hours",
}

# Files with the names that the pages use; it runs in the page's environment.
FILES = """
import pathlib, shutil, numpy as np
from PIL import Image
rng = np.random.default_rng(0)
photo = Image.open("docs/images/photograph.jpg").convert("RGB")
photo.resize((700, 480)).save("page.jpg")
photo.save("photo.jpg"), photo.save("new.jpg")
for label, level in (("stop", 60), ("no-entry", 180)):
    folder = pathlib.Path("photographs", label)
    folder.mkdir(parents=True)
    for k in range(60):
        pixels = np.clip(rng.normal(level, 40, (40, 36, 3)), 0, 255).astype("u1")
        Image.fromarray(pixels).save(folder / f"{k // 4}_{k % 4}.jpg")
more = pathlib.Path("more")
more.mkdir()
for k in range(3):
    shutil.copy(f"photographs/stop/{k}_0.jpg", more)
np.save("stack.npy", rng.random((5, 1, 64, 80), dtype="f4"))
np.savetxt("m.txt", [[1, 0.1, 2], [0, 1, 3], [0, 0, 1]])
Image.fromarray(rng.integers(0, 256, (300, 400), dtype="u1")).save("scan.tif")
points = rng.uniform(0, 300, (12, 2))
np.savetxt("pairs.txt", np.hstack([points, 5 * points + [10, 12]]))
pages = [Image.fromarray(rng.integers(0, 256, (60, 90), dtype="u1")) for _ in range(3)]
pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
try:
    import zarr
except ImportError:
    raise SystemExit
stack = zarr.create_array("stack.zarr", shape=(6, 64, 80), chunks=(2, 64, 80), dtype="f4")
stack[:] = rng.random((6, 64, 80))
plates = zarr.create_group("plates.zarr").create_array("0", shape=(4, 3, 64, 80),
                                                       chunks=(2, 3, 64, 80), dtype="u2")
plates[:] = 7
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pages; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="PAGE")
    args = parser.parse_args(argv)
    failed = [page for page in args.pages if not works(page)]
    print(f"{len(args.pages) - len(failed)} of {len(args.pages)} pages work")
    return int(bool(failed))


def works(page: str) -> bool:
    """Run a page's commands; print what fails, or how many ran."""
    ran, left_out = [], []
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        for line in block:
            (left_out if any(words in line for words in LEFT_OUT) else ran).append(line)
    with tempfile.TemporaryDirectory() as folder:
        clone = pathlib.Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        done = subprocess.run(["bash", "-c", script(ran)], cwd=clone, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)  # fmt: skip
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        print(f"FAILED {page}:\n  " + "\n  ".join(lines[-12:]), flush=True)
    else:
        print(f"{page}: {len(ran)} lines ran, {len(left_out)} left out", flush=True)
    return not done.returncode


def blocks(text: str) -> list[list[str]]:
    """The lines of each block of bash."""
    found = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [[line for line in block.splitlines() if line.strip()] for block in found]


def script(lines: Sequence[str]) -> str:
    """A script of the lines; the files are made after the environment, or in one made for them."""
    first = next((k for k, line in enumerate(lines) if "-m venv" in line), None)
    prepare = f"$PYTHON - <<'FILES'\n{FILES}\nFILES"
    whole = ["set -e", "PYTHON=.venv/bin/python"]
    if first is None:  # a page for readers who have installed: with all that it may need
        whole += ["python3 -m venv .venv", '.venv/bin/pip install --quiet ".[images,scale]"',
                  "source .venv/bin/activate"]  # fmt: skip
    else:
        whole += lines[: first + 1]
        lines = lines[first + 1 :]
    whole += [".venv/bin/pip install --quiet pillow", prepare]
    for line in lines:
        whole += [f"echo {shell_quoted('+ ' + line)}", line]
    return "\n".join(whole)


def shell_quoted(text: str) -> str:
    """Quote a text for the shell."""
    return "'" + text.replace("'", "'\\''") + "'"


if __name__ == "__main__":
    if not shutil.which("bash"):
        raise SystemExit("tests/docs_commands.py: expected bash")
    sys.exit(main())
