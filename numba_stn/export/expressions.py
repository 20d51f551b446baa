"""Formulas of transforms as expressions, which become operators of ONNX or PyTorch.

A transform's formula is NumPy code. On arrays of objects NumPy calls the objects' own methods, so
the same code, given :class:`Expression` instead of numbers, returns expressions of what it
computes: no formula is written twice, and users' own transforms can be exported too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# The functions of NumPy that formulas may use besides arithmetic; a method of each name is called.
FUNCTIONS = (
    "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "exp", "log", "sqrt",
)  # fmt: skip


class Expression:
    """A number that is computed from parameters: an operation, and its operands.

    Operands are expressions or numbers; that of ``parameter`` is the index of a parameter.
    """

    __array_ufunc__ = None  # so that NumPy's numbers leave arithmetic to the methods here

    def __init__(self, operation: str, *operands: Any):
        self.operation = operation
        self.operands = operands

    def __add__(self, other):
        return self if _is(other, 0) else Expression("add", self, other)

    def __radd__(self, other):
        return self if _is(other, 0) else Expression("add", other, self)

    def __sub__(self, other):
        return self if _is(other, 0) else Expression("subtract", self, other)

    def __rsub__(self, other):
        return -self if _is(other, 0) else Expression("subtract", other, self)

    def __mul__(self, other):
        if _is(other, 0):  # as in most products of matrices
            return 0
        return self if _is(other, 1) else Expression("multiply", self, other)

    def __rmul__(self, other):
        return self * other

    def __truediv__(self, other):
        return self if _is(other, 1) else Expression("divide", self, other)

    def __rtruediv__(self, other):
        return Expression("divide", other, self)

    def __pow__(self, other):
        return Expression("power", self, other)

    def __neg__(self):
        return Expression("negative", self)

    def __pos__(self):
        return self

    def __abs__(self):
        return Expression("absolute", self)

    def conjugate(self):
        """Return the number itself, which is real."""
        return self

    def __bool__(self):
        raise TypeError("the formula compares its parameters")

    def __float__(self):
        raise TypeError("the formula needs the values of its parameters")

    def __eq__(self, other):
        raise TypeError("the formula compares its parameters")

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None  # type: ignore[assignment]


for _name in FUNCTIONS:
    setattr(Expression, _name, lambda self, name=_name: Expression(name, self))


def parameters(count: int) -> np.ndarray:
    """Parameters (1, count) as an array of expressions, for a formula."""
    found = np.empty((1, count), object)
    found[0] = [Expression("parameter", index) for index in range(count)]
    return found


def compute(
    expressions: list[Expression], leaf: Callable[[int], Any], apply: Callable[..., Any]
) -> list[Any]:
    """Compute expressions; each is computed once, however often it is used.

    ``leaf(index)`` is a parameter, and ``apply(operation, *operands)`` a result.
    """
    done: dict[int, Any] = {}

    def value(item):
        if not isinstance(item, Expression):
            return float(item)
        if id(item) not in done:
            if item.operation == "parameter":
                done[id(item)] = leaf(*item.operands)
            else:
                done[id(item)] = apply(item.operation, *map(value, item.operands))
        return done[id(item)]

    return [value(expression) for expression in expressions]


def _is(other, number):
    return not isinstance(other, Expression) and other == number
