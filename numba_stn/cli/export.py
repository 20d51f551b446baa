"""The subcommand ``numba-stn export``."""

import argparse
import pathlib

from .options import UsageError, check_absent, output_files

EXAMPLES = """\
  numba-stn export runs/digits digits.onnx              export a trained network
"""


def add(commands) -> None:
    """Add the subcommand."""
    export = commands.add_parser(
        "export",
        help="export a trained network",
        description="Write a run's network as an ONNX model (opset 20, with the standard operators "
        "AffineGrid and GridSample), or its weights as safetensors with PyTorch's names.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("run_folder", metavar="RUN", help="folder of a run of train")
    export.add_argument("output", metavar="OUT", help="output file, .onnx or .safetensors")
    export.add_argument("--force", action="store_true", help="overwrite an existing file")
    export.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the network of a run to a file."""
    target = pathlib.Path(args.output)
    if target.suffix not in (".onnx", ".safetensors"):
        raise UsageError(f"{target}: expected a name that ends in .onnx or .safetensors")
    with output_files([target], args.force):
        check_absent([target], args.force)
        _export(pathlib.Path(args.run_folder), target)
    return 0


def _export(run_folder, target):
    try:
        from .. import export
        from ..training import experiment, runs
        from ..utils.atomic_write import write_atomically

        config, net, learner = runs.load_trained(run_folder)
        if target.suffix == ".onnx":
            _, shape = experiment.network(config)
            content = export.to_onnx(net, learner.params, learner.state, shape).SerializeToString()
        else:
            from safetensors.numpy import save

            content = save(export.state_dict(net, learner.params, learner.state))
    except ImportError as error:
        raise UsageError(
            f'export needs more packages ({error}); pip install "numba-stn[export,train]"'
        ) from error
    except (runs.RunError, export.ExportError) as error:
        raise UsageError(str(error)) from error
    write_atomically(target, content)
