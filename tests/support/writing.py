"""How a program is written from an idiom: its numbers, its formula, its argument, where it stands and what wraps it.

An idiom is a piece of source text with slots: ``$a`` to ``$d`` are numbers from 0.6 to 1.2, ``$e`` and ``$g`` from 1.5
to 2.4, ``$vec`` and ``$other`` lists of numbers, ``$u`` and ``$w`` the first and the last number of x, ``$scope`` the
word with which ``change`` assigns an outer name, ``$F(k)`` a smooth formula in x and the number k.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .programs import Program

FORMULAS = (
    "{k} * np.sum((x - {p}) ** 2)",
    "np.sum(np.sin({k} * x) + x**2)",
    "np.sum(x**2) + {k} * np.sum(np.cos(x))",
    "np.log(1 + {k} * np.sum(x**2))",
    "np.sum(np.exp(0.5 * {k} * x) - x)",
    "sum({k} * math.sin(v) + v * v for v in np.ravel(x))",
    "np.sqrt({k} ** 2 + np.sum(x * x)) + np.sum(x)",
    "np.sum(np.tanh({k} * x) * x)",
    "{k} * float(np.mean(x**2)) + {p} * np.mean(x)",
)
WRAPPERS = {
    "bare": "",
    "lambda": "inner_f = f\nf = lambda x: inner_f(x)\n",
    "partial": """
inner_f = f

def scaled(factor, x):
    return factor * inner_f(x)

f = functools.partial(scaled, 1.5)
""",
    "callable": """
class WrappedLoss:
    def __init__(self, loss):
        self.loss = loss

    def __call__(self, x):
        return self.loss(x)

f = WrappedLoss(f)
""",
    "method": """
class WrappedLosses:
    def __init__(self, *losses):
        self.losses = losses

    def evaluate(self, x):
        return sum(loss(x) for loss in self.losses)

model_of_f = WrappedLosses(f)
f = model_of_f.evaluate
""",
    "wraps": """
def passed_on(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner

f = passed_on(f)
""",
}
FORMS: tuple[int, ...] = (2, 0, 3, 1)  # elements of x; 0 is a number
SQUARE = 22  # a matrix of two rows and two columns
LAYOUTS = ("module", "factory", "loose", "anonymous")
ORDER = ("bare", "bare", "lambda", "bare", "callable", "bare", "method", "bare", "partial", "bare", "wraps", "bare")


@dataclass(frozen=True)
class Idiom:
    """What programs are written from.

    slots: further slots of the text, each with its choices. forms: sizes of x that it can take, 0 for a number;
    where the text leaves x to ``$F``, a matrix as well.
    alone: must it be the outermost function of its program? steady: does the path not depend on the digits of x, as
    that of a loop does that ends by a tolerance? variants: programs of it in the corpus.
    """

    name: str
    text: str
    slots: Mapping[str, Sequence[str]]
    forms: tuple[int, ...]
    layouts: tuple[str, ...]
    expect: str
    tolerance: float
    alone: bool
    steady: bool
    variants: int


IDIOMS: dict[str, Idiom] = {}


def idiom(
    name: str,
    text: str,
    *,
    slots: Mapping[str, Sequence[str]] | None = None,
    forms: tuple[int, ...] = FORMS,
    layouts: tuple[str, ...] = LAYOUTS,
    expect: str = "right",
    tolerance: float = 1e-6,
    alone: bool = False,
    steady: bool = True,
    variants: int = 4,
) -> None:
    """Enter an idiom."""
    assert name not in IDIOMS, name
    whole = " ".join([text, *itertools.chain.from_iterable((slots or {}).values())]).replace("def f(x", "")
    if forms is FORMS and not re.search(r"\bx\b|\$[uwn]\b|\$vec|\$other", whole):  # x stands in the formula alone
        forms = (*FORMS, SQUARE)
    IDIOMS[name] = Idiom(
        name, text.strip("\n") + "\n", slots or {}, forms, layouts, expect, tolerance, alone, steady, variants
    )


def fill(idiom: Idiom, form: int, layout: str, rng: random.Random, chosen: Mapping[str, str], formula: str) -> str:
    """Return the idiom's text with every slot filled."""

    def number(low: float, high: float) -> str:
        return f"{rng.uniform(low, high):.3f}"

    values = {name: number(0.6, 1.2) for name in "abcd"} | {name: number(1.5, 2.4) for name in "eg"}
    for name in ("vec", "other"):
        values[name] = "[" + ", ".join(number(0.4, 1.6) for _ in range(2 if form in (0, SQUARE) else form)) + "]"
    values |= {
        "n": str(form),
        "u": "x[0]" if form else "x",
        "w": "x[-1]" if form else "x",
        "scope": "nonlocal" if layout == "factory" else "global",
    }
    text = idiom.text
    for name, choice in chosen.items():
        text = text.replace(f"${name}", choice)
    while (at := text.find("$F(")) >= 0:
        depth, end = 1, at + 3
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        inner = text[at + 3 : end - 1]
        k = inner if re.fullmatch(r"[\w.]+", inner) else f"({inner})"
        text = text[:at] + formula.format(k=k, p=values["d"]) + text[end:]
    return re.sub(r"\$(\$|[a-z]+)", lambda match: "$" if match[1] == "$" else values[match[1]], text)


def names_of(text: str) -> list[str]:
    """Return the names that a text binds at its outer level."""
    names: list[str] = []
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names += [(alias.asname or alias.name).partition(".")[0] for alias in statement.names]
        else:
            names += [
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            ]
    return list(dict.fromkeys(names))


def inside(text: str, name: str = "make") -> str:
    """Return the text within a function, so that what it binds becomes closure variables."""
    given = [part for part in ("f", "change", "probe", "extra", "close") if part in names_of(text)]
    body = textwrap.indent(text, "    ")
    return f"def {name}():\n{body}    return {', '.join(given)},\n\n{', '.join(given)}, = {name}()\n"


def points_of(form: int, rng: random.Random) -> tuple[Any, ...]:
    """Return three points: of positive, negative and mixed numbers."""

    def point(low: float, high: float) -> Any:
        values = [round(rng.uniform(low, high), 3) for _ in range(4 if form == SQUARE else form or 1)]
        if form == SQUARE:
            return (tuple(values[:2]), tuple(values[2:]))
        return tuple(values) if form else values[0]

    return point(0.25, 1.4), point(-1.4, -0.25), point(-1.2, 1.2)


def write(idiom: Idiom, number: int) -> Program:
    """Return one variant of an idiom."""
    rng = random.Random(f"{idiom.name} {number}")
    index = sum(map(ord, idiom.name))  # idioms begin at different places of the same round
    combinations = list(itertools.product(*idiom.slots.values()))
    chosen = dict(zip(idiom.slots, combinations[number % len(combinations)], strict=True))
    layouts = [layout for layout in idiom.layouts if "dataclass" not in idiom.text or layout != "loose"]
    form = idiom.forms[(index + number) % len(idiom.forms)]
    layout = layouts[(index // 4 + number) % len(layouts)]
    text = fill(idiom, form, layout, rng, chosen, FORMULAS[(index + 2 * number) % len(FORMULAS)])
    if not idiom.alone:
        text += WRAPPERS[ORDER[(index + 5 * number) % len(ORDER)]]
    if layout == "factory":
        text, layout = inside(text), "module"
    return Program(
        f"{idiom.name}/{number}", text, points_of(form, rng), idiom.expect, layout, idiom.tolerance, idiom.steady
    )


def corpus(most: int = 1) -> list[Program]:
    """Return the programs of every idiom: so many of each, and of one with choices of its own one for each choice."""
    return [
        write(idiom, number)
        for idiom in IDIOMS.values()
        for number in range(idiom.variants if idiom.slots else min(most, idiom.variants))
    ]
