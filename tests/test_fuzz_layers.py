"""Random stacks of layers, right and wrong: the short form of fuzz_layers.py."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name("fuzz_layers.py")


@pytest.mark.skipif(os.name != "posix", reason="pages are protected by mprotect")
def test_random_stacks_of_layers():
    command = [sys.executable, str(PROGRAM), "--count", "150", "--progress"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert re.match(r"150 stacks, \d+ wrong arguments refused, \d+ that fitted", done.stdout)
