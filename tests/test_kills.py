"""A few kills of each command; ``python tests/kills.py`` has the long form."""

import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).with_name("kills.py")


def test_killed_commands_leave_nothing_half_written_and_resume():
    command = [sys.executable, str(SCRIPT), "--count", "3", "--seed", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for case in ("train", "reproduce", "warp", "stack", "stack-onto-itself"):
        assert f"{case}: 3 kills, 0 wrong" in done.stdout
