"""The subcommand ``numba-stn reproduce``."""

import argparse
import contextlib
import os
import pathlib
import sys
import time

from .options import (
    DATASETS,
    TABLE_MODELS,
    TABLE_TASKS,
    TABLE_TRANSFORMS,
    FailedError,
    UsageError,
    positive,
    seeds,
    some_of,
)
from .surroundings import one_line
from .train import require_training, run_folder, train_in_folder

EXAMPLES = """\
  numba-stn reproduce table1 --tasks R --seeds 0        a column of the paper's table
  numba-stn reproduce table2 --tasks RTS                transformers in several rounds
  numba-stn reproduce table1 --scheduler tcp://host:8786
                                                        all of it, on a Dask cluster
"""

STOPPED = "stopped; the same command resumes"


def add(commands) -> None:
    """Add the subcommand."""
    command = commands.add_parser(
        "reproduce",
        help="train the networks of the paper's table",
        description="Train every network of a table on every distortion, one folder per run, and "
        "write the table with the numbers to compare with: for table1 those of Jaderberg et al. "
        "2015, for table2 those of one round. You may stop it at any "
        "time: runs that are complete in --out are not trained again, and stopped ones are "
        "resumed.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add(
        "table",
        choices=("table1", "table2"),
        help="table1: test errors on distorted MNIST, and of the addition of two digits; table2: "
        "of transformers that predict their map in several rounds",
    )
    add("--tasks", type=some_of(TABLE_TASKS), default=TABLE_TASKS, metavar="A,B",
        help=f"default: {','.join(TABLE_TASKS)}")  # fmt: skip
    add("--models", type=some_of(TABLE_MODELS), default=TABLE_MODELS, metavar="A,B",
        help=f"default: {','.join(TABLE_MODELS)}")  # fmt: skip
    add("--transforms", type=some_of(TABLE_TRANSFORMS), default=TABLE_TRANSFORMS, metavar="A,B",
        help=f"default: {','.join(TABLE_TRANSFORMS)}")  # fmt: skip
    add("--seeds", type=seeds, default=(0, 1, 2), metavar="S,T", help="of table1, st-cnn affine "
        "is trained with all of them, the others with the first; default: 0,1,2")  # fmt: skip
    add("--out", metavar="DIR", help="output folder; default: runs/table1, or runs/table2")
    add("--epochs", type=positive, metavar="N", help="number of epochs of all runs, for a trial")
    add("--dataset", choices=DATASETS, help="another data set, for a trial; default: mnist")
    add("--data-dir", metavar="DIR", help="as for train")
    add("--scheduler", metavar="ADDRESS", help="address of a Dask cluster, whose workers must see "
        "the same files; each trains one run at a time")  # fmt: skip
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train the runs that are not complete, and print the table; returns 130 after Ctrl-C."""
    require_training()
    from ..training import table1

    if args.data_dir and args.dataset == "digits":
        raise UsageError("--data-dir: only for MNIST; the digits come with scikit-learn")
    changes = {name: getattr(args, name) for name in ("epochs", "dataset") if getattr(args, name)}
    table = table1.TABLES[args.table]
    wanted = table1.planned_runs(args.tasks, args.models, args.transforms, args.seeds, table)
    if not wanted:
        raise UsageError("the table has no cell with these tasks, models and transforms")
    with run_folder(pathlib.Path(f"runs/{table.name}" if args.out is None else args.out)) as folder:
        try:
            table1.check_table(folder, table)
            missing = table1.incomplete_runs(folder, wanted, **changes)
            table1.collect_runs(folder, table)  # raises now, not after the first run
        except ValueError as error:
            raise UsageError(str(error)) from error
        print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are complete in {folder}")
        configs = {run: run.config(**changes) for run in missing}
        if args.scheduler and missing:
            code = _train_on_cluster(args, folder, configs)
        else:
            code = _train_here(args, folder, configs)
        if code:
            return code
        table1.write_table(folder, ["numba-stn", *sys.argv[1:]], table)
        print((folder / f"{table.name}.md").read_text())
    return 0


def _train_here(args, folder, configs):
    """Train one run after another; a run that fails is reported, and the others go on.

    Returns the exit code.
    """
    from ..training import table1

    if configs:
        _checked_data_dir(args, next(iter(configs.values())))
    failed = 0
    for run in _announce(list(configs)):
        try:
            metrics = _train_run(args, folder / run.folder, configs[run])
        except UsageError as error:
            failed += 1
            print(f"numba-stn: {run}: {one_line(error)}", file=sys.stderr)
            continue
        table1.write_table(folder, ["numba-stn", *sys.argv[1:]], table1.TABLES[args.table])
        if metrics["interrupted"]:
            print(STOPPED, file=sys.stderr)
            return 130
        print(f"{run}: {metrics['test_error']:.2f} %", flush=True)
    if failed:
        raise _failed(failed, len(configs))
    return 0


def _train_run(args, folder, config):
    """Train one run, unless another process has done so meanwhile; returns its metrics."""
    from ..training import runs, table1

    with run_folder(folder) as own_folder:
        if table1.is_complete(own_folder, config):
            return runs.complete_metrics(own_folder)
        return train_in_folder(own_folder, config, args.data_dir)[1]


def _failed(count, total):
    """The error at the end, if some runs failed."""
    return FailedError(f"{count} of {total} runs failed; the same command tries them again")


# --- On a cluster ---------------------------------------------------------------------------------


def _train_on_cluster(args, folder, configs):
    """Distribute the runs over the workers; a run that fails is reported, and the others go on."""
    try:
        from ..distributed import cluster, runs_on_cluster
        from ..training import table1
    except ImportError as error:
        raise UsageError(f'--scheduler needs more packages ({error}); pip install '
                         f'"numba-stn[scale,train]", on every machine') from error  # fmt: skip
    data_dir = _checked_data_dir(args, next(iter(configs.values())))
    jobs = {
        str(run): {"folder": (folder / run.folder).absolute(), "config": config,
                   "data_dir": data_dir}
        for run, config in configs.items()
    }  # fmt: skip
    failed = 0
    try:
        with (
            cluster.connect(args.scheduler) as client,
            _epoch_bar(sum(config.epochs for config in configs.values()), jobs) as (bar, report),
            contextlib.closing(runs_on_cluster.run_on_cluster(client, jobs, report)) as ended,
        ):
            for name, outcome in ended:
                failed += outcome.metrics is None
                bar.write(_outcome_line(name, outcome), _stream(outcome))
                table1.write_table(folder, ["numba-stn", *sys.argv[1:]], table1.TABLES[args.table])
    except cluster.ClusterError as error:
        raise UsageError(
            f"--scheduler {args.scheduler}: {error}; the same command resumes"
        ) from error
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    if failed:
        raise _failed(failed, len(jobs))
    return 0


def _outcome_line(name, outcome):
    if outcome.metrics is None:
        return f"numba-stn: {name}: {outcome.error}"
    return f"{name}: {outcome.metrics['test_error']:.2f} %"


def _stream(outcome):
    return sys.stdout if outcome.metrics else sys.stderr


def _checked_data_dir(args, config):
    """The data's folder, for the workers; the data are loaded once here, to check them."""
    from .. import data

    folder = args.data_dir or os.environ.get("NUMBA_STN_DATA")
    folder = os.path.abspath(folder) if folder and config.dataset != "digits" else None
    try:
        data.DATASETS[config.dataset](folder)
    except data.DataError as error:
        raise UsageError(str(error)) from error
    return folder


@contextlib.contextmanager
def _epoch_bar(total, names):
    """A progress bar of all runs' epochs; yields it and the function for the workers' messages."""
    from tqdm import tqdm

    done = dict.fromkeys(names, 0)
    with tqdm(total=total, unit="epoch", mininterval=0.1 if sys.stderr.isatty() else 10) as bar:

        def report(message):
            name, epochs = message["name"], message.get("began", message.get("epoch"))
            if "text" in message:
                bar.write(f"numba-stn: {name}: {message['text']}", file=sys.stderr)
            if "began" in message:
                resumed = f" resumed after epoch {epochs}" if epochs else ""
                bar.write(f"{name}:{resumed} on {message['worker']}", file=sys.stderr)
            if epochs is not None and name in done:
                bar.update(max(0, epochs - done[name]))
                done[name] = max(epochs, done[name])

        yield bar, report


def _announce(missing):
    """Yield the runs; before each one, print its name and an estimate of the remaining time."""
    began = time.perf_counter()
    for number, run in enumerate(missing):
        left = len(missing) - number
        mean = (time.perf_counter() - began) / number if number else 0
        estimate = f", about {mean * left / 60:.0f} min for this and all others" if number else ""
        print(f"run {number + 1} of {len(missing)}: {run}{estimate}", file=sys.stderr, flush=True)
        yield run
