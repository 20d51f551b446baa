"""Mutations of plain Python, made from its syntax tree.

An edit changes one thing in the text of a module: an operator, a number by one, a truth value, the
sense of a condition, or a statement that is left out. Messages of errors, annotations, docstrings
and decorators are left alone. A name, ``function: old -> new``, identifies an edit without the
number of its line, so that it stays valid when other lines change.
"""

import ast
import copy
import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

# What each operator is exchanged for.
OPERATORS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip

# Fields of nodes, and arguments, that nothing is changed in. Whether an array is copied, or lengths
# are compared, changes no result.
LEFT_ALONE = {"annotation", "returns", "decorator_list"}
ARGUMENTS_LEFT_ALONE = {"copy", "strict"}
NODES_LEFT_ALONE = (ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)


class Edit(NamedTuple):
    """Another text for the bytes ``start`` to ``stop`` - 1 of a source."""

    name: str
    start: int
    stop: int
    new: str

    def applied(self, source: str) -> str:
        """The changed source."""
        raw = source.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.stop :]).decode()


def sampled(source: str, count: int, seed: int) -> list[Edit]:
    """A random sample of all edits, in the order of the source."""
    every = edits(source)
    chosen = random.Random(seed).sample(range(len(every)), min(count, len(every)))
    return [every[k] for k in sorted(chosen)]


def edits(source: str) -> list[Edit]:
    """All edits of a module."""
    raw = source.encode()
    starts = [0]
    for line in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Edit] = []
    seen: Counter = Counter()
    for function, node, new in _changes(ast.parse(source), "module"):
        start = starts[node.lineno - 1] + node.col_offset
        stop = starts[node.end_lineno - 1] + node.end_col_offset
        old = " ".join(raw[start:stop].decode().split())
        name = f"{function}: {old} -> {new}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        found.append(Edit(name, start, stop, new))
    return found


def _changes(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST, str]]:
    """Each node below this one that can be changed, with its function and its new text."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        function = node.name if function == "module" else f"{function}.{node.name}"
    for field, value in ast.iter_fields(node):
        if field in LEFT_ALONE:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, NODES_LEFT_ALONE):
                continue
            if isinstance(child, ast.keyword) and child.arg in ARGUMENTS_LEFT_ALONE:
                continue
            for new in _new_texts(child, field):
                yield function, child, new
            if not isinstance(child, ast.Raise):
                yield from _changes(child, function)


def _new_texts(node: ast.AST, field: str) -> Iterator[str]:
    """The texts that may replace a node, which is its parent's ``field``."""
    if isinstance(node, ast.Compare):
        for k, operator in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[k] = OPERATORS[type(operator)]()
            yield f"({ast.unparse(changed)})"
    elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        changed = copy.deepcopy(node)
        changed.op = OPERATORS[type(node.op)]()
        yield f"({ast.unparse(changed)})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield str(node.value + 1)
    elif _can_be_dropped(node):
        yield "pass"
    if field == "test" or (field == "ifs" and not isinstance(node, ast.UnaryOp)):
        yield f"(not ({ast.unparse(node)}))"


def _can_be_dropped(node: ast.AST) -> bool:
    """Whether a statement can be left out without an undefined name."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, (ast.Constant, ast.Yield, ast.YieldFrom))
    if isinstance(node, ast.Assign):
        return all(isinstance(each, (ast.Attribute, ast.Subscript)) for each in node.targets)
    return isinstance(node, (ast.AugAssign, ast.Raise, ast.Continue, ast.Break))
