"""The commit that results belong to."""

import pathlib
import subprocess


def current_commit() -> str | None:
    """Return the commit of this checkout, with "-dirty" if the package differs from it.

    None for an installed package.
    """
    here = pathlib.Path(__file__)
    package = here.parents[1]

    def git(*words):
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(here))  # fails in another project's checkout
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
