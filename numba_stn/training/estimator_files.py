"""Fitted estimators in safetensors files: arrays and JSON, without pickle."""

import json
import pathlib
from typing import Any

import numpy as np

from ..nn.files import FileError, pack, read, unpack
from ..transforms.parametrisations import TRANSFORMS, Transform
from ..utils.atomic_write import write_atomically

FORMAT = "numba_stn estimator 1"

_CODE = object()  # stands for a parameter that is not saved

# Attributes of a fitted estimator besides its arrays, if it has them.
FITTED = (
    "image_shape_", "_form", "_several", "_integers", "history_", "n_iter_", "best_iteration_",
    "n_features_in_",
)  # fmt: skip

# What the network is built from.
DESCRIPTION = ("transformation", "net", "rounds")

# Attributes that are arrays.
ARRAYS = ("mean_", "deviation_", "target_mean_", "target_deviation_")


def save(estimator: Any, path: Any) -> None:
    """Write a fitted estimator to a file, whole or not at all."""
    parameters = {name: _named(name, v) for name, v in estimator.get_params(deep=False).items()}
    described = {
        name: _named(name, value)
        for name, value in zip(DESCRIPTION, estimator._description, strict=True)
    }
    content = {
        "estimator": type(estimator).__name__,
        "parameters": {name: value for name, value in parameters.items() if value is not _CODE},
        "description": {name: v for name, v in described.items() if v is not _CODE},
        "fitted": {n: _plain(getattr(estimator, n)) for n in FITTED if hasattr(estimator, n)},
        "names": np.asarray(getattr(estimator, "feature_names_in_", [])).tolist(),
        "classes": _classes(estimator),
    }
    arrays = {n: np.asarray(getattr(estimator, n)) for n in ARRAYS if hasattr(estimator, n)}
    metadata = {"format": FORMAT, "estimator": json.dumps(content)}
    tree = {"weights": estimator.weights_, "arrays": arrays}
    write_atomically(pathlib.Path(path), pack(tree, metadata))


def load(kind: type, path: Any, given: dict[str, Any]) -> Any:
    """Read an estimator of a class from a file; ``given`` are parameters that are code."""
    path = pathlib.Path(path)
    flat, metadata = read(path)
    if metadata.get("format") != FORMAT:
        raise FileError(f"{path}: expected a file of {kind.__name__}.save")
    try:
        content = json.loads(metadata["estimator"])
        if content["estimator"] != kind.__name__:
            raise FileError(f"{path}: expected a {kind.__name__}, got a {content['estimator']}")
        return _rebuilt(kind, content, flat, given)
    except FileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileError(f"{path}: damaged: {' '.join(str(error).split())}") from error


def _rebuilt(kind, content, flat, given):
    """The estimator of a file's content."""
    description = content["description"] | given
    needed = [name for name in DESCRIPTION if name not in description]
    if needed:
        raise FileError(
            f"the estimator was saved without {' and '.join(needed)}, which is code: give it, as "
            f"in {kind.__name__}.load(path, {needed[0]}=...)"
        )
    unknown = given.keys() - kind._get_param_names()
    if unknown:
        raise FileError(f"{kind.__name__} has no parameter {sorted(unknown)[0]!r}")
    estimator = kind(**(content["parameters"] | given))
    for name, value in content["fitted"].items():
        if name in FITTED:
            setattr(estimator, name, value)
    estimator.image_shape_ = tuple(estimator.image_shape_)
    if content["names"]:
        estimator.feature_names_in_ = np.array(content["names"], object)
    if content["classes"] is not None:
        estimator.classes_ = np.array(content["classes"]["values"], content["classes"]["dtype"])
    for name in ARRAYS:
        if f"arrays.{name}" in flat:
            setattr(estimator, name, flat.pop(f"arrays.{name}"))
    estimator._description = tuple(description[name] for name in DESCRIPTION)
    estimator._net = net = estimator._build()
    height, width, channels = estimator.image_shape_
    shape = channels, height, width
    like = {"params": net.init(np.random.default_rng(0), shape), "state": net.init_state(shape)}
    estimator.weights_ = unpack(flat, {"weights": like})["weights"]
    return estimator


def _named(name, value):
    """A parameter as JSON has it: a transform by its name; _CODE for what JSON does not have.

    A network's name is code too: a file that is loaded must not run another one.
    """
    if isinstance(value, Transform) and TRANSFORMS.get(value.name) == value:
        return value.name
    if isinstance(value, np.generic):
        value = value.item()
    return value if _is_json(value) and (name != "net" or value is None) else _CODE


def _plain(value):
    """A value of JSON."""
    return list(value) if isinstance(value, tuple) else value


def _is_json(value):
    """Whether a parameter can be written and read back."""
    try:
        return json.loads(json.dumps(value)) == _plain(value)
    except (TypeError, ValueError, RecursionError):
        return False


def _classes(estimator):
    """The classes of a classifier, and their dtype."""
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return None
    if classes.dtype.kind not in "biufUO" or not _is_json(classes.tolist()):
        raise TypeError(f"classes_: expected numbers or strings, got {classes.dtype}")
    return {"values": classes.tolist(), "dtype": classes.dtype.str}
