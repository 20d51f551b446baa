"""The subcommand ``numba-stn export``."""

import argparse
import contextlib
import json
import pathlib

from .options import UsageError, check_absent, output_files, positive

EXAMPLES = """\
  numba-stn export runs/digits digits.onnx              export a trained network
  numba-stn export runs/signs signs.onnx --with-preprocessing
                                                        uint8 images in, probabilities out
"""


def add(commands) -> None:
    """Add the subcommand."""
    export = commands.add_parser(
        "export",
        help="export a trained network",
        description="Write a run's network as an ONNX model, with the standard operators "
        "AffineGrid and GridSample, or its weights as safetensors with PyTorch's names.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("run_folder", metavar="RUN", help="folder of a run of train")
    export.add_argument("output", metavar="OUT", help="output file, .onnx or .safetensors")
    export.add_argument(
        "--with-preprocessing", action="store_true",
        help="put the standardisation of the images and the softmax into the model: its input is "
        "uint8 images (N, H, W, C) of the run's size, its output probabilities",
    )  # fmt: skip
    export.add_argument(
        "--opset", type=positive, metavar="N",
        help="version of ONNX's operators, at least 20, which is the default",
    )  # fmt: skip
    export.add_argument("--net", metavar="FILE.py:FUNCTION", help="of a run with a network of its "
                        "own: that file, which is run")  # fmt: skip
    export.add_argument("--force", action="store_true", help="overwrite an existing file")
    export.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the network of a run to a file."""
    target, folder = pathlib.Path(args.output), pathlib.Path(args.run_folder)
    if target.suffix not in (".onnx", ".safetensors"):
        raise UsageError(f"{target}: expected a name that ends in .onnx or .safetensors")
    if target.suffix != ".onnx" and (args.with_preprocessing or args.opset):
        raise UsageError(f"{target}: --with-preprocessing and --opset are of ONNX models only")
    try:
        from .. import export
        from ..training import runs
        from ..utils.atomic_write import write_atomically
        from ..utils.lock import LockedError

        _check_target(target, folder, args.force)
        with output_files([target], args.force), _lock(target):
            _check_target(target, folder, args.force)  # another process may have written it
            write_atomically(target, _content(folder, target.suffix, args))
    except ImportError as error:
        raise UsageError(
            f'export needs more packages ({error}); pip install "numba-stn[export,train]"'
        ) from error
    except LockedError as error:
        raise UsageError(f"{target}: {error}; wait for it, or choose another name") from error
    except (runs.RunError, export.ExportError) as error:
        raise UsageError(str(error)) from error
    return 0


def _lock(target):
    """The lock of a file while it is written."""
    from ..utils.atomic_write import is_stream
    from ..utils.lock import locked

    if is_stream(target):
        return contextlib.nullcontext()
    return locked(_lock_file(target))


def _lock_file(target):
    """The file to lock, whose name is short enough for all systems."""
    name = target.name.encode()[:200].decode(errors="ignore")
    return target.with_name(f"{name}.lock")


def _check_target(target, folder, force):
    """Raise if the file exists, unless ``--force`` is given, or if it is a file of the run."""
    from ..training import runs

    for name in (*runs.FILES, *runs.IMAGE_FILES, runs.CHECKPOINT):
        if target.exists() and (folder / name).exists() and target.samefile(folder / name):
            raise UsageError(f"{target}: a file of the run; choose another name")
    check_absent([target], force)


def _content(folder, suffix, args):
    """The file's bytes: the network of a run."""
    from .. import export
    from ..training import runs
    from ..training.checkpoint import pack

    config, net, learner = runs.load_trained(folder, args.net)
    if suffix == ".safetensors":
        return pack(export.state_dict(net, learner.params, learner.state))
    shape = runs.input_shape(config)
    options = {"opset": args.opset} if args.opset else {}
    if args.with_preprocessing:
        options |= {"preprocessing": _preprocessing(config, shape), "activation": "softmax"}
    try:
        model = export.to_onnx(net, learner.params, learner.state, shape, **options)
    except ValueError as error:  # there is no such opset
        raise UsageError(f"--{error}") from error
    if classes := getattr(config, "classes", None):
        entry = model.metadata_props.add()
        entry.key, entry.value = "classes", json.dumps(list(classes))
    return model.SerializeToString()


def _preprocessing(config, shape):
    """What is done with the images of a run's kind; those of built-in data are from 0 to 1."""
    from ..export import Preprocessing

    if hasattr(config, "standardisation"):
        mean, deviation = config.standardisation
        return Preprocessing(mean, deviation, config.dtype)
    return Preprocessing([0.0] * shape[0], [255.0] * shape[0])
