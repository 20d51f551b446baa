"""What the suites share: an operation's work, its time, and a peer's time divided by it."""

import contextlib
import importlib
import importlib.util
import itertools
import os
import pathlib
import sys
from types import ModuleType

# Each commit has a cache of its own, so that no kernel of another commit is timed. asv sets both
# variables.
if {"ASV_ENV_DIR", "ASV_COMMIT"} <= os.environ.keys():
    _HERE = pathlib.Path(os.environ["ASV_ENV_DIR"], "numba", os.environ["ASV_COMMIT"])
    os.environ["NUMBA_CACHE_DIR"] = str(_HERE)

BENCH = pathlib.Path(__file__).parents[2] / "numba_stn" / "bench"


def import_rows(folder: pathlib.Path = BENCH) -> str:
    """Import a checkout's rows, whatever numba_stn is installed; return their package's name."""
    name = "rows_of_this_checkout"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return name


def suites() -> list[type]:
    """All suites that have rows."""
    modules = (importlib.import_module(f".{name}", __package__)
               for name in ("warps", "images", "operations", "training"))  # fmt: skip
    return [
        each for module in modules for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
        and issubclass(each, Operation) and not each.__name__.startswith("_")
    ]  # fmt: skip


def compile_all(part: int, parts: int) -> None:
    """Run the k-th of every ``parts`` cases once, which leaves their kernels in the cache."""
    cases = [(suite, case) for suite in suites()
             for case in itertools.product(*getattr(suite, "params", []))]  # fmt: skip
    for suite, case in cases[part::parts]:
        with contextlib.suppress(Exception):  # asv reports what a commit cannot do
            suite().setup(*case)


def bench(module: str) -> ModuleType:
    """Import a module of this checkout's numba_stn/bench."""
    return importlib.import_module(f"{import_rows()}.{module}")


def sides(shape: str) -> tuple[int, ...]:
    """``"1x3x1080x1920" -> (1, 3, 1080, 1920)``."""
    return tuple(map(int, shape.split("x")))


def image(text: str) -> tuple:
    """``"uint8 256x256x3" -> ("uint8", 256, 256, 3)``; an image without channels has one."""
    dtype, shape = text.split()
    return dtype, *(*sides(shape), 1)[:3]


class Operation:
    """The work of one operation; a suite's ``setup`` calls :meth:`prepare`."""

    warmup_time, sample_time, repeat, rounds = 0.1, 0.03, (3, 8, 1.0), 1
    timeout = 300
    version = "1"
    unit = "times"  # of the ratios

    def prepare(self, row):
        """Draw the row's inputs, and call numba_stn once, which compiles its kernels."""
        self.row, self.problem = row, row.problem()
        self.ours = self.runner("ours")

    def runner(self, who):
        """Prepare a library and call it once; NotImplementedError if it cannot do the work."""
        if who not in self.row.makers:
            raise NotImplementedError(f"no {who} for this work")
        run = self.row.makers[who](self.problem).run
        run()
        return run

    def ratio(self, who):
        """Measure a peer's time divided by that of numba_stn; NaN if it cannot do the work."""
        clock = bench("clock")
        try:
            runs = {who: self.runner(who), "ours": self.ours}
        except NotImplementedError:
            return float("nan")
        times = clock.medians(clock.interleaved_times(runs, rounds=5, patience=1.5))
        return times[who] / times["ours"]
