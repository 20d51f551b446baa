"""Time one commit's numba_stn on request: the process that :mod:`.against` starts.

The arguments are the folder that contains numba_stn, and the folder of the rows. The process
reads one request per line and answers it with one line: ``prepare ROW`` with ``ready`` or
``missing: WHY``, and ``time`` with a number of seconds.
"""

import importlib
import pathlib
import sys

from benchmarks.common import import_rows  # of the suites, which are beside this file


def main(tree: str, folder: str) -> None:
    """Answer requests until the input ends."""
    sys.path.insert(0, tree)
    bench = import_rows(pathlib.Path(folder))
    rows, clock = (importlib.import_module(f"{bench}.{name}") for name in ("report", "clock"))
    found = pathlib.Path(importlib.import_module("numba_stn").__file__).parents[1]
    if found != pathlib.Path(tree):
        raise ImportError(f"numba_stn: expected the one in {tree}, got {found}")
    run = None
    for line in sys.stdin:
        word, _, name = line.strip().partition(" ")
        if word == "prepare":
            try:
                run = rows.prepared(name, "ours", rows.ROWS[name].problem()).run
                answer = "ready"
            except rows.MissingError as error:
                answer = f"missing: {error}"
        else:
            [answer] = clock.interleaved_times({"ours": run}, 1)["ours"]
        print(answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
