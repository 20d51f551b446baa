"""A few kills of each command; ``python tests/kills.py`` has the long form."""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("kills.py")


@pytest.mark.parametrize("case", ["train", "reproduce"])
def test_a_killed_command_leaves_nothing_half_written_and_resumes(case):
    command = [sys.executable, str(SCRIPT), "--count", "4", "--seed", "1", case]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{case}: 4 kills, 0 wrong" in done.stdout
