"""Schemas: the type and range of each value that comes from a file or a user, declared once.

A rule is a function ``rule(value, name)`` that returns the value, of the declared type, or raises a
ValueError that says in one line which value is wrong, what came and what was expected. Rules are
combined: a list of numbers, a record of named fields.
"""

import json
import math
import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_type_hints

Rule = Callable[[Any, str], Any]

# Whole numbers of files are at most this. It is exact in JSON, and in float64.
LARGEST = 2**53

_SHOWN = 60  # characters of a wrong value, or of a list of names, in a message


def whole(least: int = 0, most: int = LARGEST) -> Rule:
    """A whole number from ``least`` to ``most``; never a boolean.

    Examples
    --------
    >>> from numba_stn.utils.schema import whole
    >>> whole(1)(0, "batch")
    Traceback (most recent call last):
        ...
    ValueError: batch: expected a whole number of at least 1, got 0
    """
    limits = _range(least, most if most < LARGEST else math.inf)
    expected = str(least) if least == most else f"a whole number {limits}"

    def check(value, name):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise _wrong(name, expected, value)
        found = int(value)
        if not least <= found <= most:
            raise _wrong(name, expected if found < least else f"{expected}, at most {most}", value)
        return found

    return check


def number(
    least: float = -math.inf, most: float = math.inf, above: float = -math.inf,
    below: float = math.inf,
) -> Rule:  # fmt: skip
    """A finite number from ``least`` to ``most``, above ``above`` and below ``below``, as a float.

    Examples
    --------
    >>> from numba_stn.utils.schema import number
    >>> number(above=0)(float("nan"), "rate")
    Traceback (most recent call last):
        ...
    ValueError: rate: expected a finite number above 0, got nan
    """
    expected = f"a finite number {_range(least, most, above, below)}".rstrip()

    def check(value, name):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise _wrong(name, expected, value)
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if not (math.isfinite(found) and least <= found <= most and above < found < below):
            raise _wrong(name, expected, value)
        return found

    return check


def one_of(choices: Collection[str]) -> Rule:
    """One of these names."""

    def check(value, name):
        if not isinstance(value, str) or value not in choices:
            raise _wrong(name, f"one of {list(choices)}", value)
        return value

    return check


def text(value: Any, name: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise _wrong(name, "text", value)
    return value


def flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def maybe(rule: Rule) -> Rule:
    """None, or what follows the rule."""
    return lambda value, name: None if value is None else rule(value, name)


def list_of(rule: Rule) -> Rule:
    """A list or tuple, each entry of which follows the rule."""

    def check(value, name):
        if not isinstance(value, (list, tuple)):
            raise _wrong(name, "a list", value)
        return [rule(entry, f"{name}[{index}]") for index, entry in enumerate(value)]

    return check


def dict_of(rule: Rule) -> Rule:
    """An object with any names, each value of which follows the rule."""

    def check(value, name):
        if not isinstance(value, dict):
            raise _wrong(name, "an object", value)
        return {key: rule(entry, _join(name, repr(key))) for key, entry in value.items()}

    return check


class NamesError(ValueError):
    """A record lacks fields, or has unknown ones: it is damaged, or of another version."""


def record(rules: Mapping[str, Rule], optional: Collection[str] = ()) -> Rule:
    """An object with these fields, each of which follows its rule, and no others.

    Those in ``optional`` may be missing.
    """

    def check(value, name):
        if not isinstance(value, dict):
            raise _wrong(name, "an object", value)
        missing = [key for key in rules if key not in value and key not in optional]
        unknown = [key for key in value if key not in rules]
        if missing or unknown:
            parts = [f"lacks {_listed(missing)}"] * bool(missing)
            parts += [f"has the unknown {_listed(map(repr, unknown))}"] * bool(unknown)
            raise NamesError(f"{name}{': ' if name else ''}{' and '.join(parts)}")
        return {key: rules[key](value[key], _join(name, key)) for key in rules if key in value}

    return check


def field_rules(kind: type) -> dict[str, Rule]:
    """The rules of a dataclass whose fields are declared as ``Annotated[type, rule]``."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


def from_json(content: str | bytes, rule: Rule, name: str = "") -> Any:
    """Read JSON that follows a rule.

    Parameters
    ----------
    content : str or bytes
    rule : Rule
    name : str
        Begins the messages; nothing if it is empty.

    Raises
    ------
    ValueError
        If it is not JSON, or does not follow the rule.

    Examples
    --------
    >>> from numba_stn.utils.schema import from_json, record, whole
    >>> from_json('{"epochs": true}', record({"epochs": whole()}))
    Traceback (most recent call last):
        ...
    ValueError: epochs: expected a whole number of at least 0, got True
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError(f"{name or 'JSON'}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name or 'JSON'}: cannot be read: {error}") from error
    return rule(value, name)


def short(value: Any) -> str:
    """The value's repr, shortened to a part of a line."""
    try:
        found = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        found = f"<{type(value).__name__}>"
    return found if len(found) <= _SHOWN else f"{found[: _SHOWN - 3]}..."


def _wrong(name, expected, value):
    return ValueError(f"{name}{': ' if name else ''}expected {expected}, got {short(value)}")


def _range(least=-math.inf, most=math.inf, above=-math.inf, below=math.inf):
    """The range in words, for example "of at least 0 and below 1"."""
    if -math.inf < least and most < math.inf:
        return f"from {least} to {most}"
    words = {"of at least": least, "of at most": most, "above": above, "below": below}
    return " and ".join(f"{word} {end}" for word, end in words.items() if abs(end) < math.inf)


def _join(name, key):
    return f"{name}.{key}" if name else key


def _listed(names):
    """The names with commas, shortened to a part of a line."""
    found = ", ".join(names)
    return found if len(found) <= 2 * _SHOWN else f"{found[: 2 * _SHOWN - 3]}..."
