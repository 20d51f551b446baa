"""Time one commit's numba_stn on request: the process that :mod:`.against` starts.

The arguments are the folder that contains numba_stn, and the folder of the suites. The process
reads one request per line and answers it with one line: ``prepare ROW`` with ``ready`` or
``missing: WHY``, and ``time`` with a number of seconds.
"""

import importlib
import importlib.util
import pathlib
import sys


def main(tree: str, suites: str) -> None:
    """Answer requests until the input ends."""
    sys.path.insert(0, tree)
    bench = import_suites(pathlib.Path(suites))
    rows, clock = (importlib.import_module(f"{bench}.{name}") for name in ("suites", "clock"))
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


def import_suites(folder: pathlib.Path) -> str:
    """Import the folder of the suites as a package, as asv does: the same for each commit."""
    name = "suites_of_this_checkout"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec
    assert spec.loader
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return name


if __name__ == "__main__":
    main(*sys.argv[1:])
