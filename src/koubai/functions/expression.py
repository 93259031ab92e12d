"""Expressions typed as text: "x**2 + 3*sin(y)" becomes a function, and nothing else can come of it.

The text passes three gates. The scanner lets through plain ASCII numbers, names and operators, and no word of Python's.
Python's own parser gives the tree. The builder accepts a short list of nodes and turns each into a NumPy operation;
what it doesn't know is refused. No text is ever evaluated or compiled to code.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import itertools
import keyword
import math
import operator
import re
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from koubai.errors import ExpressionError, InputError
from koubai.messages import Worded, worded
from koubai.parameters import real_array

__all__ = ["CONSTANTS", "FUNCTIONS", "Expression", "parse", "syntax_tree"]

CONSTANTS = {"pi": math.pi, "e": math.e}

# name -> (number of arguments, the NumPy function)
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "sin": (1, np.sin),
    "cos": (1, np.cos),
    "tan": (1, np.tan),
    "arcsin": (1, np.arcsin),
    "asin": (1, np.arcsin),
    "arccos": (1, np.arccos),
    "acos": (1, np.arccos),
    "arctan": (1, np.arctan),
    "atan": (1, np.arctan),
    "arctan2": (2, np.arctan2),
    "atan2": (2, np.arctan2),
    "hypot": (2, np.hypot),
    "sinh": (1, np.sinh),
    "cosh": (1, np.cosh),
    "tanh": (1, np.tanh),
    "arcsinh": (1, np.arcsinh),
    "asinh": (1, np.arcsinh),
    "arccosh": (1, np.arccosh),
    "acosh": (1, np.arccosh),
    "arctanh": (1, np.arctanh),
    "atanh": (1, np.arctanh),
    "exp": (1, np.exp),
    "exp2": (1, np.exp2),
    "expm1": (1, np.expm1),
    "log": (1, np.log),
    "log2": (1, np.log2),
    "log10": (1, np.log10),
    "log1p": (1, np.log1p),
    "logaddexp": (2, np.logaddexp),
    "sqrt": (1, np.sqrt),
    "cbrt": (1, np.cbrt),
    "abs": (1, np.abs),
    "sign": (1, np.sign),
    "floor": (1, np.floor),
    "ceil": (1, np.ceil),
    "minimum": (2, np.minimum),
    "min": (2, np.minimum),
    "maximum": (2, np.maximum),
    "max": (2, np.maximum),
    "clip": (3, np.clip),
    "where": (3, np.where),
}

# The limits keep every text, hostile ones included, far from the limits of Python's own parser and stack.
MAX_LENGTH = 10_000  # characters
MAX_TOKENS = 2_000
MAX_BRACKETS = 100  # open at once
MAX_DEPTH = 200  # of the tree; a sum of n terms is n deep
MAX_EXPONENT = 1_000
MAX_DIGITS = 50  # characters of one number
MAX_NAME = 32  # characters of one variable

_TOKEN = re.compile(
    r"(?P<space> +)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<operator>\*\*|//|[<>=!]=|[-+*/%(),<>])"
)
_CALL = re.compile(r" *\(")
_NUMBERED = re.compile(r"x([0-9]+)")

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

_CHARACTER_FIXES = {
    "^": worded("write ** for a power"),
    "²": worded("write **2"),
    "³": worded("write **3"),
    "×": worded("write *"),
    "·": worded("write *"),
    "⋅": worded("write *"),
    "∗": worded("write *"),
    "÷": worded("write /"),
    "∕": worded("write /"),
    "−": worded("write - (the ASCII minus)"),
    "–": worded("write - (the ASCII minus)"),
    "ー": worded("write - (the ASCII minus)"),
    "π": worded("write pi"),
    "√": worded("write sqrt(…)"),
    "≤": worded("write <="),
    "≥": worded("write >="),
    "≠": worded("write !="),
    "．": worded("write ."),
    "\N{IDEOGRAPHIC SPACE}": worded("write an ordinary space"),
    ".": worded("functions go by their name alone, as in sin(x), and numbers look like 0.5"),
    "[": worded("write x0 for x[0]"),
    "]": worded("write x0 for x[0]"),
    "=": worded("write == to compare; arguments go by position"),
    "!": worded("write != to compare"),
    "&": worded("comparisons chain, as in where(0 < x < 1, a, b), and where can be nested"),
    "|": worded("nest one where in another"),
}
_WORD_FIXES = {
    "if": worded("write where(condition, a, b)"),
    "else": worded("write where(condition, a, b)"),
    "and": worded("comparisons chain, as in where(0 < x < 1, a, b), and where can be nested"),
    "or": worded("nest one where in another"),
    "not": worded("turn the comparison round"),
    "lambda": worded("write the formula alone; the name can be lambda_"),
}
_FUNCTION_FIXES = {
    "ln": worded("write log(…), the natural logarithm"),
    "lg": worded("write log10(…)"),
    "pow": worded("write a**b"),
    "sgn": worded("write sign(…)"),
    "arctg": worded("write arctan(…)"),
    "tg": worded("write tan(…)"),
}

# A built part of the tree: a number, or a function of the tuple of the variables' values.
_Function: TypeAlias = Callable[[tuple[Any, ...]], Any]
_Part: TypeAlias = float | _Function


@dataclass(frozen=True, repr=False)
class Expression:
    """A function made from text by `parse`; equal to another of the same text.

    f(x) with one variable: x is a number or any array, taken elementwise; the result has x's shape.
    f(x) with n ≥ 2 variables: x has shape (n, …) and the result (…); x[k] is the k-th of ``variables``.
    The result is float64; floating-point warnings follow NumPy. Both branches of ``where`` are evaluated.
    Raises InputError if x has the wrong shape or is not an array of real numbers.

    Attributes
    ----------
    text : str
        The formula as it was given.
    variables : tuple of str
        The names of the variables, in the order of x's entries.
    """

    text: str
    variables: tuple[str, ...] = field(compare=False)
    _evaluate: _Function = field(compare=False)

    def __call__(self, x: Any) -> Any:
        kind = type(x)  # not isinstance: a traced value says of itself that it is a NumPy number
        if kind is float:
            x = np.float64(x)
        elif kind is np.ndarray or issubclass(kind, np.generic) or not hasattr(kind, "__array_ufunc__"):
            # [()] makes a number of an array without axes. Arrays of other kinds (a traced one, say) go through as
            # they are, for all that follows is NumPy calls.
            x = real_array(x, "x").astype(np.float64, copy=False)[()]
        n = len(self.variables)
        if n == 1:
            values = (x,)
        elif x.shape[:1] != (n,):
            raise InputError(
                f"x must have shape ({n}, …), one entry for each of the variables {', '.join(self.variables)}; "
                f"got shape {x.shape}"
            )
        else:
            values = tuple([x[i] for i in range(n)])
        result = self._evaluate(values)
        return result[()] if type(result) is np.ndarray else result

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        return parse, (self.text,)

    def __repr__(self) -> str:
        return f"<Expression {self.text} of {', '.join(self.variables)}>"

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Expression:
    """Parse: turn a formula typed as text into a function, by a closed grammar.

        parse("x**2 + 3*sin(y)")([2, 0]) == 4.0

    Numbers, names, + - * / // % **, parentheses, the functions in FUNCTIONS and the constants pi and e. Comparisons
    stand only as the first argument of where(condition, a, b) and may be chained: where(0 < x < 1, a, b).
    Any other ASCII name is a variable. Whole numbers are floats: 7 // 2 is 3.0. A constant part must be finite.

    Parameters
    ----------
    text : str
        The formula.

    Returns
    -------
    Expression
        The function. Its ``variables`` are those that occur, in natural order (x before y, x2 before x10), and that is
        the order of x's entries. If all are numbered (x0, x1, … or, as in books, x1, x2, …), no number may be left out.

    Raises
    ------
    ExpressionError
        For everything else, naming the piece, its position and the fix.

    Examples
    --------
    >>> f = kb.parse("x**2 + 3*sin(y)")
    >>> print(f.variables, f([2, 0]))
    ('x', 'y') 4.0
    """
    if not isinstance(text, str):
        raise _refused("an expression must be text, as in 'x**2 + y**2'; got {kind}", kind=type(text).__name__)
    if len(text) > MAX_LENGTH:
        raise _refused(
            "the expression has {count} characters; at most {most} are accepted: shorten it",
            count=len(text),
            most=MAX_LENGTH,
        )
    text = text.translate({ord("\t"): " ", ord("\n"): " ", ord("\r"): " "})
    stripped = text.strip(" ")
    if not stripped:
        raise _refused("the expression is empty; write a formula, as in 'x**2 + y**2'")
    try:
        return _parsed(stripped)
    except ExpressionError as error:
        if error.position is not None:  # in the text as it was given
            skipped = len(text) - len(text.lstrip(" "))
            error.position = error.position[0] + skipped, error.position[1] + skipped
        raise


def syntax_tree(text: str, mode: str = "exec") -> Any:
    """Return Python's syntax tree of a text.

    Before 3.11.8 Python counts the depth of trees in one place for all threads: where two of them parse, one may be
    refused with a SystemError, and is not when it asks again.
    """
    with _parsing:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(SystemError):
                return ast.parse(text, mode=mode)
        return ast.parse(text, mode=mode)


_parsing = threading.Lock()  # koubai's own threads wait for each other; those of others may still come between
_ATTEMPTS = 20


def _parsed(text: str) -> Expression:
    """Return the function that a text without spaces around it is."""
    variables = _order(text, _scan(text))
    try:
        tree = syntax_tree(text, "eval")
    except SyntaxError as error:
        at = max(error.offset or 1, 1) - 1
        raise _refusal(
            text, at, text[at:], worded("it can't stand here"), worded("check the operators and commas")
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise _refused("the expression is nested too deeply; simplify it or group its terms") from None
    built = _Builder(text, variables).build(tree.body, 1)
    if isinstance(tree.body, ast.Name) and callable(built):
        built = _after(operator.pos, built)  # a bare "x" must not hand out the caller's own array
    if not variables or not callable(built):
        raise _refused("{text!r} has no variable; there is nothing to differentiate: use x, y, …", text=_shorten(text))
    return Expression(text, variables, built)


def _shorten(piece: str, limit: int = 40) -> str:
    return piece if len(piece) <= limit else piece[: limit - 1] + "…"


def _refused(template: str, /, **values: Any) -> ExpressionError:
    """Return the error with the sentence that `worded` makes of this."""
    return ExpressionError(worded(template, **values))


def _refusal(text: str, at: int, piece: str, problem: Worded, fix: Worded) -> ExpressionError:
    around = text if len(text) <= 60 else f"…{text[max(at - 20, 0) : at + 30]}…"
    told = worded(
        "{piece!r} at position {at} of {around!r}: {problem}; {fix}",
        piece=_shorten(piece),
        at=at + 1,
        around=around,
        problem=problem,
        fix=fix,
    )
    error = ExpressionError(told)
    error.position = at, at + len(piece)
    return error


def _scan(text: str) -> set[str]:
    """Check the text token by token and return the names of its variables."""
    names: set[str] = set()
    opened: list[int] = []  # the positions of the brackets that are still open
    value = ""  # the token before, if a value ends with it
    token = ""
    at = count = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _bad_character(text, at)
        if match.lastgroup == "space":
            at = match.end()
            continue
        token = match.group()
        count += 1
        if count > MAX_TOKENS:
            raise _refusal(
                text,
                at,
                token,
                worded("more than {most} numbers, names and operators", most=MAX_TOKENS),
                worded("shorten it"),
            )
        is_called = False
        if match.lastgroup == "name":
            is_called = _CALL.match(text, match.end()) is not None
            _check_name(text, at, token, is_called)
            if not is_called and token not in CONSTANTS:
                names.add(token)
        elif match.lastgroup == "number":
            _check_number(text, at, token)
        if value and (match.lastgroup != "operator" or token == "("):
            raise _refusal(
                text,
                at,
                token,
                worded("there is no operator between {value!r} and it", value=value),
                worded("write * for a product"),
            )
        value = token if (match.lastgroup != "operator" and not is_called) or token == ")" else ""
        if token == "(":
            opened.append(at)
            if len(opened) > MAX_BRACKETS:
                raise _refusal(
                    text,
                    at,
                    token,
                    worded("more than {most} brackets are open", most=MAX_BRACKETS),
                    worded("simplify it"),
                )
        elif token == ")":
            if not opened:
                raise _refusal(
                    text, at, token, worded("no bracket is open here"), worded("remove it, or open one before")
                )
            opened.pop()
        at = match.end()
    if opened:
        raise _refusal(text, opened[-1], "(", worded("this bracket is never closed"), worded("add a )"))
    if not value:
        raise _refusal(
            text, len(text) - len(token), token, worded("the expression ends with it"), worded("write what follows")
        )
    return names


def _bad_character(text: str, at: int) -> ExpressionError:
    character = text[at]
    plain = unicodedata.normalize("NFKC", character)
    if character in _CHARACTER_FIXES:
        fix = _CHARACTER_FIXES[character]
    elif character > "\x7f" and plain.isascii() and plain.isprintable():
        fix = worded("write the plain ASCII {plain!r}", plain=plain)
    else:
        fix = worded("use ASCII letters, digits and + - * / % ( ) , < > only")
    problem = worded("this character (U+{code:04X}) is not part of an expression", code=ord(character))
    return _refusal(text, at, character, problem, fix)


def _check_name(text: str, at: int, name: str, is_called: bool) -> None:
    if keyword.iskeyword(name):
        fix = _WORD_FIXES.get(name) or worded("choose another name")
        raise _refusal(text, at, name, worded("this word of Python's is not part of an expression"), fix)
    if name.startswith("_"):
        raise _refusal(
            text, at, name, worded("a name can't start with an underscore"), worded("start it with a letter")
        )
    if len(name) > MAX_NAME:
        raise _refusal(
            text, at, name, worded("the name is longer than {most} characters", most=MAX_NAME), worded("shorten it")
        )
    if name in FUNCTIONS and not is_called:
        raise _refusal(text, at, name, worded("this is a function"), worded("write {name}(…)", name=name))


def _check_number(text: str, at: int, number: str) -> None:
    if len(number) > MAX_DIGITS:
        raise _refusal(
            text, at, number, worded("the number is longer than {most} characters", most=MAX_DIGITS), worded("round it")
        )
    if number.isdigit() and number.startswith("0") and number.strip("0"):
        raise _refusal(
            text,
            at,
            number,
            worded("a whole number can't start with 0"),
            worded("write {number}", number=number.lstrip("0")),
        )
    value = float(number)
    if math.isinf(value):
        raise _refusal(text, at, number, worded("the number is too large for float64"), worded("at most 1.7e308"))
    if value == 0 and re.search("[1-9]", re.split("[eE]", number)[0]):
        raise _refusal(
            text,
            at,
            number,
            worded("the number is too small for float64, it would be 0"),
            worded("write 0, or rescale"),
        )


def _order(text: str, names: set[str]) -> tuple[str, ...]:
    """Return the variables in natural order. Raises ExpressionError if their numbering is ambiguous."""
    numbers = sorted(int(match.group(1)) for name in names if (match := _NUMBERED.fullmatch(name)))
    if numbers and "x" in names:
        raise _refused(
            "x and x{number} both occur in {text!r}: x would be the whole and a part; write x0, x1, … throughout, "
            "or x, y, …",
            number=numbers[0],
            text=_shorten(text),
        )
    if numbers and len(numbers) == len(names):
        in_order = enumerate(sorted(set(numbers)), min(numbers[0], 1))
        missing = next((i for i, number in in_order if i != number), None)
        if missing is not None:
            raise _refused(
                "x{last} occurs in {text!r} but x{missing} does not, so the order of x's entries is in doubt; "
                "number the variables x0, x1, … (or x1, x2, …) and leave none out",
                last=numbers[-1],
                text=_shorten(text),
                missing=missing,
            )
        if len(set(numbers)) < len(numbers) or names != {f"x{i}" for i in numbers}:
            raise _refused(
                "a variable of {text!r} is numbered with a leading 0; write x1, not x01", text=_shorten(text)
            )

    def natural(name: str) -> tuple[list[str | int], str]:
        return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)], name

    return tuple(sorted(names, key=natural))


@dataclass(frozen=True)
class _Builder:
    """Turns the nodes of the tree, inside out, into functions of the variables' values; constant parts into numbers."""

    text: str
    variables: tuple[str, ...]

    def refusal(self, node: ast.expr, problem: Worded, fix: Worded) -> ExpressionError:
        piece = self.text[node.col_offset : node.end_col_offset]
        return _refusal(self.text, node.col_offset, piece, problem, fix)

    def build(self, node: ast.expr, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise self.refusal(
                node,
                worded("nested more than {most} deep", most=MAX_DEPTH),
                worded("simplify it, or group the terms of a long sum by brackets"),
            )
        match node:
            case ast.Constant(value=value) if type(value) in (int, float):
                return float(value)  # type: ignore[arg-type]
            case ast.Name(id=name) if name in CONSTANTS:
                return CONSTANTS[name]
            case ast.Name(id=name) if name in self.variables:
                return operator.itemgetter(self.variables.index(name))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                sign = operator.neg if isinstance(op, ast.USub) else operator.pos
                return self.apply(node, sign, self.build(operand, depth + 1))
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self.power(node, self.build(left, depth + 1), self.build(right, depth + 1))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self.apply(node, _OPERATORS[type(op)], self.build(left, depth + 1), self.build(right, depth + 1))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self.call(node, name, args, depth)
            case ast.Compare():
                raise self.refusal(
                    node,
                    worded("a comparison stands only as the first argument of where"),
                    worded("write where(condition, a, b)"),
                )
            case ast.Tuple():
                raise self.refusal(node, worded("a comma outside a function's arguments"), worded("write one formula"))
        raise self.refusal(
            node, worded("this is not part of an expression"), worded("use numbers, variables, operators and functions")
        )

    def power(self, node: ast.expr, base: _Part, exponent: _Part) -> _Part:
        if callable(exponent):
            return self.apply(node, operator.pow, base, exponent)
        if abs(exponent) > MAX_EXPONENT:
            raise self.refusal(
                node,
                worded("the exponent {exponent:g} is beyond ±{most}", exponent=exponent, most=MAX_EXPONENT),
                worded("use exp and log instead"),
            )
        if callable(base) and exponent.is_integer():
            whole = int(exponent)  # as people write it in NumPy: x**2, not x**2.0
            return lambda values: base(values) ** whole
        return self.apply(node, operator.pow, base, exponent)

    def call(self, node: ast.expr, name: str, args: list[ast.expr], depth: int) -> _Part:
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(name.lower(), FUNCTIONS, n=1)
            if name in _FUNCTION_FIXES:
                fix = _FUNCTION_FIXES[name]
            elif near:
                fix = worded("did you mean {near!r}?", near=near[0])
            else:
                fix = worded(
                    "for a product write {name}*(…); known functions: {known}", name=name, known=", ".join(FUNCTIONS)
                )
            raise self.refusal(node, worded("unknown function {name!r}", name=name), fix)
        count, function = FUNCTIONS[name]
        if len(args) != count:
            raise self.refusal(
                node,
                worded("{name} takes {count} argument(s), not {given}", name=name, count=count, given=len(args)),
                worded("check the commas"),
            )
        if name != "where":
            return self.apply(node, function, *(self.build(arg, depth + 1) for arg in args))
        condition = self.condition(args[0], depth + 1)
        return self.apply(node, function, condition, *(self.build(arg, depth + 1) for arg in args[1:]))

    def condition(self, node: ast.expr, depth: int) -> _Part:
        """Build the first argument of where. It is never folded into a number, for it is a truth value."""
        if not isinstance(node, ast.Compare):
            raise self.refusal(
                node, worded("the first argument of where must be a comparison"), worded("write where(x > 0, a, b)")
            )
        parts = [_as_function(self.build(operand, depth + 1)) for operand in (node.left, *node.comparators)]
        pairs = itertools.pairwise(parts)
        links = [_link(_COMPARISONS[type(op)], a, b) for op, (a, b) in zip(node.ops, pairs, strict=True)]
        if len(links) == 1:
            return links[0]

        def all_links(values: tuple[Any, ...]) -> Any:
            holds = links[0](values)
            for link in links[1:]:
                holds = np.logical_and(holds, link(values))
            return holds

        return all_links

    def apply(self, node: ast.expr, function: Callable[..., Any], *parts: _Part) -> _Part:
        """Return the function of the parts; a number if all of them are numbers."""
        if any(callable(part) for part in parts):
            functions = [_as_function(part) for part in parts]
            if len(functions) == 1:
                return _after(function, functions[0])
            if len(functions) == 2:
                return _link(function, *functions)
            return lambda values: function(*[part(values) for part in functions])
        with np.errstate(all="ignore"):
            value = float(function(*[np.float64(part) for part in parts]))  # type: ignore[arg-type]
        if not math.isfinite(value):
            raise self.refusal(
                node, worded("this constant part is {value}", value=value), worded("every constant part must be finite")
            )
        return value


def _as_function(part: _Part) -> _Function:
    return part if callable(part) else lambda values: part


def _after(function: Callable[[Any], Any], inner: _Function) -> _Function:
    return lambda values: function(inner(values))


def _link(function: Callable[[Any, Any], Any], left: _Function, right: _Function) -> _Function:
    return lambda values: function(left(values), right(values))
