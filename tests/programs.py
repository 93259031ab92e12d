"""Random NumPy programs, written as people write them, that hold backpropagation against differences.

    python tests/programs.py --programs 20000 --vectors 12000 --few 20000 --seed 0 --jobs 2

`write` makes a program from a seed: readable source text of ``def f(x): …`` with its helpers, its data and two points.
Each chunk of it is run at both points as it is written, so that shapes are known and every value stays finite and
small. `check` runs one program through everything that could be silently wrong, every executor among it; `shrink` cuts
a failing program down to what makes it fail, so that it can be pasted into ``test_named_programs.py``. Not all of these
programs are for machine code, so the graphs of `executors.Vectors` go through it, too.
"""

from __future__ import annotations

import argparse
import collections
import functools
import itertools
import math
import multiprocessing
import random
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from executors import MACHINE, Agreement, Vectors, odd_points

import koubai.derivatives.paths as paths
from koubai.derivatives.agreement import cross_check
from koubai.derivatives.differences import derivative, numerical_gradient
from koubai.derivatives.gradient import hvp, value_and_grad
from koubai.errors import GradientError, TraceError
from koubai.graph.call import Leaves, record_call
from koubai.graph.graph import Graph, evaluate
from koubai.graph.reverse import reverse

LARGEST = 12.0  # no value of a program is larger at its two points
NODES = 40  # chunks that a program has at most
MODULES = "import functools\nimport math\n\nimport numpy as np\n"


# --- programs
@dataclass(frozen=True)
class Program:
    """A function as source text, with the points at which it is checked.

    header: what stands before f, in pieces (arrays, helpers); body: the chunks of f; terms: what f returns, summed.
    points: two values of the first argument, as source text; data: the values of the other arguments.
    """

    seed: int
    header: tuple[str, ...]
    parameters: tuple[str, ...]
    body: tuple[str, ...]
    terms: tuple[str, ...]
    closing: str  # how the terms are summed: "{}" or "float({})"
    points: tuple[str, str]
    data: tuple[str, ...] = ()
    closure: tuple[str, ...] = ()  # names of header arrays that f closes over instead of reading as globals
    families: tuple[str, ...] = ()
    text: str = ""  # the whole source, where the program was not written here

    @classmethod
    def pasted(cls, text: str, x: str, elsewhere: str, *data: str, seed: int = 0) -> Program:
        """Return a program from its text, with its two points and its other arguments as text."""
        return cls(seed, (), (), (), (), "{}", (x, elsewhere), data, text=MODULES + text)

    @property
    def single(self) -> bool:
        """Does anything here have the precision of float32?"""
        return "float32" in self.source or "float32" in "".join(self.points + self.data)

    @property
    def source(self) -> str:
        """The program as text that can be pasted and run."""
        if self.text:
            return self.text
        lines = [*chunk_lines(self.body), "return " + self.closing.format(" + ".join(self.terms) or "0.0")]
        function = [f"def f({', '.join(self.parameters)}):", *("    " + line for line in lines)]
        if self.closure:
            inner = ["    " + line for line in function]
            names = ", ".join(self.closure)
            function = [f"def make({names}):", *inner, "", "    return f", "", "", f"f = make({names})"]
        return "\n".join([MODULES, *self.header, "", *function, ""])

    def load(self, double: bool = False) -> tuple[Callable[..., Any], list[Any], list[Any], dict[str, Any]]:
        """Run the text; return f, the two points, the other arguments and the module. double: in float64 throughout."""
        change = (lambda text: text.replace("float32", "float64")) if double else (lambda text: text)
        module: dict[str, Any] = {"__name__": "program"}
        exec(compile(change(self.source), f"<program {self.seed}>", "exec"), module)
        points = [eval(change(text), module) for text in self.points]
        return module["f"], points, [eval(change(text), module) for text in self.data], module


def chunk_lines(chunks: Sequence[str]) -> list[str]:
    return [line for chunk in chunks for line in chunk.split("\n")]


# --- writing
def words(text: str) -> list[str]:
    return text.split()


class NoOperandError(Exception):
    """There is nothing of the kind that the family needs."""


UNARY = (
    *("np.sin({a})", "np.cos({a})", "np.tan(0.8 * np.tanh({a}))", "np.arcsin(0.9 * np.tanh({a}))", "np.arctan({a})"),
    *("np.arccos(0.9 * np.sin({a}))", "np.sinh(0.5 * {a})", "np.cosh(0.5 * {a})", "np.tanh({a})", "np.arcsinh({a})"),
    *("np.arccosh({a} ** 2 + 1.3)", "np.arctanh(0.9 * np.tanh({a}))", "np.exp(-({a} ** 2))", "np.exp(0.3 * {a})"),
    *("np.exp2(0.4 * {a})", "np.expm1(0.3 * {a})", "np.log({a} ** 2 + {p})", "np.log2(np.abs({a}) + {p})"),
    *("np.log10({a} ** 2 + {p})", "np.log1p({a} ** 2)", "np.sqrt({a} ** 2 + {p})", "np.cbrt({a} ** 2 + {p})"),
    *("np.square({a})", "np.reciprocal({a} ** 2 + {p})", "np.abs({a})", "np.fabs({a})", "abs({a})", "-{a}", "+{a}"),
    *("np.negative({a})", "np.positive({a})", "{a} ** 2", "{a} ** 3", "({a} ** 2 + {p}) ** 0.5", "{p} ** {a}"),
    *("({a} ** 2 + {p}) ** {c}", "np.power(np.abs({a}) + {p}, {c})", "np.float_power(np.abs({a}) + {p}, {c})"),
    *("np.deg2rad(30 * {a})", "np.rad2deg(0.02 * {a})", "np.degrees(0.02 * {a})", "np.radians(40 * {a})"),
    *("np.sinc({a})", "np.heaviside({a}, 0.5) * {a}", "np.sign({a}) * {a} ** 2", "{a} - 0.3 * np.floor({a})"),
    *("{a} + 0.2 * np.ceil({a})", "{a} - np.trunc({a})", "{a} * np.rint({a})", "{a} + np.round({a}, 1)"),
    *("np.remainder({a}, 1.3)", "np.fmod({a}, 1.1)", "{a} % 1.7", "{a} // 0.8 + {a}", "np.clip({a}, -0.6, 0.8)"),
    *("np.maximum({a}, 0)", "np.maximum(0.1, {a})", "np.minimum({a}, {c})", "np.where({a} > {c}, {a}, 0.2 * {a})"),
    *("np.nan_to_num({a})", "np.logaddexp(0, {a})", "np.logaddexp2(0, {a})", "1 / (1 + np.exp(-{a}))"),
    *("1 / (2 + np.cos({a}))", "np.hypot({a}, 1)", "np.arctan2({a}, {p})", "np.copysign(np.abs({a}), {c})"),
    *("np.real({a})", "np.conj({a})", "np.ldexp({a}, 1)", "np.modf({a})[0]", "np.divmod({a}, 0.9)[1]"),
    *("np.select([{a} > 0.5, {a} < -0.5], [{a} ** 2, -{a}], 0.1)", "np.where({a} < {c}, {c}, {a} ** 2)"),
    *("np.where(np.isfinite({a}), {a}, 0.0)", "np.logical_not({a} > {c}) * {a}", "2 - {a}", "{c} * {a}"),
    *("{a} * {c} + {c}", "{a} / {p}", "{p} / ({p} + {a} ** 2)", "np.tanh({a}) ** 2", "np.exp(np.sin({a}))"),
    *("({a} > {c}) * {a}", "np.subtract(1, {a})", "np.sqrt(1 + np.exp(0.2 * {a}))", "np.fabs({a}) ** 1.5"),
    *("np.clip({a}, None, 0.7)", "np.clip({a}, {c}, None)", "np.float64({a})", "np.exp(np.minimum({a}, 1.2))"),
)
BINARY = (
    *("{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / ({b} ** 2 + {p})", "({a} ** 2 + {p}) ** np.tanh({b})"),
    *("np.maximum({a}, {b})", "np.minimum({a}, {b})", "np.fmax({a}, {b})", "np.fmin({a}, {b})"),
    *("np.hypot({a}, {b})", "np.arctan2({a}, {b} ** 2 + {p})", "np.logaddexp({a}, {b})", "np.logaddexp2({a}, {b})"),
    *("np.where({a} > {b}, {a} * {b}, {a} - {b})", "np.add({a}, {b})", "np.multiply({a}, np.sin({b}))"),
    *("np.divide({a}, {b} ** 2 + {p})", "np.true_divide({a}, 2 + np.cos({b}))", "np.copysign({a}, {b}) + {b}"),
    *("np.power(np.abs({a}) + {p}, np.cos({b}))", "np.remainder({a}, {b} ** 2 + {p})", "np.fmod({a}, {b} ** 2 + {p})"),
    *("{a} + 0.3 * np.floor_divide({a}, {b} ** 2 + {p})", "np.heaviside({a}, {b}) * {b}", "{a} % ({b} ** 2 + 1.1)"),
    *("np.greater({a}, {b}) * {a}", "({a} <= {b}) * {a} + {b}", "({a} < {b}).astype(float) * {b}"),
    *("np.logical_and({a} > 0, {b} < 0.5) * {a} + {b}", "np.where(({a} > 0) & ({b} > 0), {a}, {b})"),
    *("np.where(({a} < 0) | ({b} < 0), np.sin({a}), {b})", "np.where(np.logical_not({a} > {b}), {a}, {b} ** 2)"),
    *("{a} ** 2 + {b} ** 2", "({a} - {b}) ** 2", "np.exp(-(({a} - {b}) ** 2))", "np.tanh({a} + {c} * {b})"),
    *("np.subtract({a}, {b})", "np.where(np.logical_xor({a} > 0, {b} > 0), {a}, {b})", "{a} / (1 + np.abs({b}))"),
    "np.float_power(np.abs({a}) + {p}, 0.5 * {b})",
)
SCALAR = (
    *("math.sin({a})", "math.cos({a})", "math.exp(-({a} ** 2))", "math.sqrt({a} * {a} + {p})", "math.tanh({a})"),
    *("math.log({a} ** 2 + {p})", "math.atan({a})", "math.atan2({a}, {p})", "math.hypot({a}, {p})", "math.fabs({a})"),
    *(
        "math.pow(abs({a}) + {p}, {c})",
        "math.expm1(0.3 * {a})",
        "math.log1p({a} ** 2)",
        "math.erf({a})",
        "math.asinh({a})",
    ),
    *(
        "math.asin(0.9 * math.tanh({a}))",
        "math.acos(0.8 * math.sin({a}))",
        "math.sinh(0.5 * {a})",
        "math.cosh(0.4 * {a})",
    ),
    *("float({a}) * {c}", "float({a}) ** 2", "max({a}, {c})", "min({a}, {c})", "abs({a})", "math.pi * {a}"),
    *("math.log2({a} ** 2 + {p})", "math.log10({a} ** 2 + {p})", "math.log({a} ** 2 + {p}, 3)", "math.fmod({a}, 1.1)"),
    *(
        "{a} if {a} > {c} else {c} * {a}",
        "math.copysign({a}, {c})",
        "math.degrees(0.02 * {a})",
        "math.radians(30 * {a})",
    ),
    *("math.tan(0.7 * math.tanh({a}))", "math.acosh({a} ** 2 + 1.4)", "math.atanh(0.8 * math.tanh({a}))"),
    *(
        "math.exp2(0.3 * {a})",
        "math.cbrt({a} ** 2 + {p})",
        "pow({a}, 2)",
        "{a} + math.floor({a})",
        "round({a}, 1) + {a}",
    ),
    *(
        "math.sqrt(math.exp({c}) + {a} ** 2)",
        "{a} * int({a} * 3)",
        "float(np.sin({a}))",
        "math.gamma(2 + math.sin({a}))",
    ),
    "divmod({a}, 1.3)[1]",
)
REDUCTIONS = (
    *("np.sum({a}{k})", "{a}.sum({m})", "np.mean({a}{k})", "{a}.mean({m})", "np.max({a}{k})", "{a}.max({m})"),
    *("np.min({a}{k})", "{a}.min({m})", "np.prod(1 + 0.3 * np.tanh({a}){k})", "{a}.prod({m})", "np.var({a}{k})"),
    *("np.std({a}{k})", "{a}.var({m})", "{a}.std({m})", "np.ptp({a}{k})", "np.amax({a}{k})", "np.amin({a}{k})"),
    *("np.median({a}{k})", "np.average({a}{k})", "np.linalg.norm({a}{k})", "np.sqrt(np.sum({a} ** 2{k}) + {p})"),
    *("np.log(np.sum(np.exp({a}){k}))", "np.quantile({a}, 0.3{k})", "np.percentile({a}, 65{k})", "np.nansum({a}{k})"),
    *(
        "np.nanmean({a}{k})",
        "np.nanmax({a}{k})",
        "np.var({a}, ddof=1{k})",
        "np.count_nonzero({a} > 0{k}) * np.sum({a}{k})",
    ),
    *("np.sum({a}{k}, where={a} > 0)", "np.mean(np.abs({a}){k})", "np.all({a} < 2{k}) * np.sum({a}{k})"),
    *(
        "np.add.reduce({a}{k})",
        "np.multiply.reduce(np.cos({a}){k})",
        "np.maximum.reduce({a}{k})",
        "np.minimum.reduce({a}{k})",
    ),
    *("np.logaddexp.reduce({a}{k})", "np.any({a} > 1{k}) + np.mean({a}{k})", "np.nanmin({a}{k})", "np.nanstd({a}{k})"),
    *(
        "np.sum({a}{k}, dtype=np.float64)",
        "np.max({a}{k}, initial=0.1)",
        "np.sum({a}{k}, initial=0.5)",
        "np.nanprod({a}{k})",
    ),
)
HELPERS = (
    "def {n}(u):\n    return np.tanh(u) * {c}\n",
    "def {n}(u, scale={p}):\n    return scale * u / (1 + u ** 2)\n",
    "def {n}(u):\n    return np.where(u > {c}, u, {p} * (np.exp(np.minimum(u, 0.0)) - 1))\n",
    "def {n}(u):\n    total = 0.0\n    for v in np.ravel(u):\n        total = total + np.sin(v)\n"
    "    return u - 0.1 * total\n",
    "def {n}(u, *, power=2):\n    if np.sum(u) > {c}:\n        return np.abs(u) ** power * 0.5\n    return np.cos(u)\n",
    "def {n}(u):\n    out = np.empty_like(u)\n    out[...] = u\n    out[..., 0] = {c} * out[..., -1]\n    return out\n",
    "def {n}(u):\n    w = np.array(u)\n    w += {c}\n    w *= {p}\n    return w\n",
    "{n} = lambda u: np.log(u ** 2 + {p})\n",
    "def {n}(u, depth=3):\n    if depth == 0:\n        return u\n    return {n}(np.sin(u) + {c}, depth - 1)\n",
    "def {n}(u):\n    def inner(v):\n        return v * {p} + u\n\n    return inner(np.tanh(u))\n",
    "def {n}(u):\n    shift = np.max(u)\n    e = np.exp(u - shift)\n    return e / np.sum(e)\n",
    "class {N}:\n    def __init__(self, gain):\n        self.gain = gain\n\n    def __call__(self, u):\n"
    "        return np.sin(self.gain * u)\n\n\n{n} = {N}({p})\n",
    "{n} = functools.partial(np.multiply, {p})\n",
    "{n} = np.vectorize(lambda v: v * {c} if v > 0 else math.sin(v))\n",
)
NAMES = (
    *(
        "a",
        "b",
        "c",
        "d",
        "e",
        "g",
        "h",
        "p",
        "q",
        "r",
        "s",
        "t",
        "u",
        "v",
        "w",
        "z",
        "alpha",
        "beta",
        "gamma",
        "delta",
    ),
    *(
        "loss",
        "score",
        "total",
        "hidden",
        "energy",
        "angle",
        "rate",
        "field",
        "flow",
        "shape_",
        "mass",
        "level",
        "state",
    ),
    *("signal", "weight", "error", "force", "trend", "power", "cost", "depth", "drift", "pulse", "scale", "wave"),
)
FAMILIES: dict[str, tuple[Callable[[Writer], str], float]] = {}


def family(weight: float) -> Callable[[Callable[[Writer], str]], Callable[[Writer], str]]:
    """Enter a family: it returns one chunk, whose new names stand left of ``=`` at its outer level."""

    def enter(write: Callable[[Writer], str]) -> Callable[[Writer], str]:
        FAMILIES[write.__name__] = (write, weight)
        return write

    return enter


def is_number(value: Any) -> bool:
    return isinstance(value, float | np.floating) or (isinstance(value, np.ndarray) and value.shape == ())


def is_floats(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, np.ndarray | np.floating) and value.dtype.kind == "f")


def sane(value: Any) -> bool:
    """Is this a value that a program may hold: finite, small in size and magnitude?"""
    if isinstance(value, list | tuple):
        return all(sane(part) for part in value)
    if isinstance(value, np.ndarray | np.generic | float):
        array = np.asarray(value)
        if array.dtype.kind == "f":
            return array.size <= 64 and array.ndim <= 3 and bool((np.abs(array) <= LARGEST).all()) and array.size > 0
    return True


class Writer:
    """A program as it is written: its text so far, and what its names hold at the two points."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.header: list[str] = []
        self.body: list[str] = []
        self.families: list[str] = []
        self.names: list[str] = []  # float values, oldest first
        self.used: set[str] = set()
        self.reserved = 0
        self.constants: dict[tuple[tuple[int, ...], str], list[str]] = {}
        self.outside = self.chance(0.65)  # are its arrays made outside f?
        self.exact = self.chance(0.12)  # arithmetic and moving things about, whose bits are the same everywhere
        self.start()

    # --- small choices
    def choice(self, items: Sequence[Any]) -> Any:
        return items[self.random.randrange(len(items))]

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def c(self, low: float = -1.3, high: float = 1.3) -> str:
        value = round(self.random.uniform(low, high), 2)
        return str(value if abs(value) > 0.05 else 0.37)

    def p(self) -> str:
        return self.c(0.3, 1.9)

    # --- the argument
    def start(self) -> None:
        kind = self.random.random()
        self.data: list[str] = []
        if kind < 0.08:
            self.parameters = ["x"]
            self.points = [self.c(0.2, 1.9), self.c(-1.9, -0.2)]
            shapes: Any = ()
        elif kind < 0.2:
            shapes = {"W": (2, 2), "b": (2,)} if self.chance(0.5) else {"u": (2,), "s": (), "v": (3,)}
            self.parameters = ["params"]
            self.points = [
                "{" + ", ".join(f'"{k}": {self.array_text(s)}' for k, s in shapes.items()) + "}" for _ in range(2)
            ]
        else:
            shapes = self.choice([(2,), (3,), (3,), (4,), (5,), (6,), (2, 2), (2, 3), (3, 2), (1,), (2, 1, 2)])
            self.parameters = ["x"]
            dtype = ", np.float32" if self.chance(0.04) else ""
            self.points = [self.array_text(shapes, dtype=dtype) for _ in range(2)]
        if self.chance(0.25):
            self.parameters.append("data")
            self.data.append(
                self.array_text(self.choice([(3,), (4,), (2, 3)]), dtype=", np.float32" * self.chance(0.2))
            )
        self.rebuild()
        if isinstance(shapes, dict):
            for name in shapes:
                self.add(f'{name} = params["{name}"]', "dict")
        else:
            self.names.append("x")
        if self.data:
            self.names.append("data")

    def array_text(self, shape: tuple[int, ...], dtype: str = "", low: float = -1.8, high: float = 1.8) -> str:
        def text(rest: tuple[int, ...]) -> str:
            if not rest:
                value = round(self.random.uniform(low, high), 4)
                return str(value if abs(value) > 0.02 else 0.4321)
            return "[" + ", ".join(text(rest[1:]) for _ in range(rest[0])) + "]"

        return f"np.array({text(shape)}{dtype})" if shape else text(())

    # --- running what is written
    def rebuild(self) -> None:
        """Run all that stands so far, at both points."""
        self.environments: list[dict[str, Any]] = []
        for point in self.points:
            environment: dict[str, Any] = {}
            exec("\n".join([MODULES, *self.header]), environment)
            for name, text in zip(self.parameters, [point, *self.data], strict=True):
                environment[name] = eval(text, environment)
            exec("\n".join(self.body), environment)
            self.environments.append(environment)
        self.given = [self.outside_values(environment) for environment in self.environments]

    def outside_values(self, environment: dict[str, Any]) -> dict[str, Any]:
        """Return copies of the arguments and of the arrays that are made outside the function."""
        made = [piece.split(" = ")[0] for piece in self.header if re.match(r"\w+ = np.array", piece)]
        names = [*self.parameters, *made]
        return {name: flat(environment[name]).copy() for name in names}

    def changed_outside(self) -> bool:
        """Has the last chunk changed an argument, or an array outside? That is hidden state, which has no gradient."""
        return any(
            not np.array_equal(value, flat(environment[name]))
            for environment, given in zip(self.environments, self.given, strict=True)
            for name, value in given.items()
        )

    def add(self, chunk: str, family: str) -> bool:
        """Run a chunk at both points and keep it, if all is sane; otherwise leave everything as it was."""
        new = set(re.findall(r"^([a-z_]\w*) = ", chunk, re.M))
        new |= {name for names in re.findall(r"^(\w+(?:, \w+)+) = ", chunk, re.M) for name in names.split(", ")}
        before = set(self.environments[0])
        if self.exact and not arithmetic(chunk):
            return False
        try:
            code = compile(chunk, "<chunk>", "exec")
            for environment in self.environments:
                exec(code, environment)
            shapes = [
                {n: (np.shape(e[n]) if not isinstance(e[n], list) else len(e[n])) for n in new if n in e}
                for e in self.environments
            ]
            good = (
                shapes[0] == shapes[1]
                and not self.changed_outside()
                and all(
                    sane(value)
                    for e in self.environments
                    for n, value in e.items()
                    if n in new or (isinstance(value, np.ndarray) and n in self.names)
                )
            )
        except Exception:
            good = False
        if not good:
            self.rebuild()
            return False
        made = set(self.environments[0]) - before
        self.body.append(chunk)
        self.families.append(family)
        self.used |= set(re.findall(r"[a-z_]\w*", re.sub(r"^[a-z_]\w* = ", "", chunk, flags=re.M)))
        for name in sorted(new | made):
            if name in self.names:
                self.names.remove(name)
                self.used.discard(name)
            if all(is_floats(e.get(name)) for e in self.environments):
                self.names.append(name)
        return True

    def value(self, name: str) -> Any:
        return self.environments[0][name]

    def shape(self, text: str) -> tuple[int, ...]:
        try:
            return np.shape(eval(text, self.environments[0]))
        except Exception:  # the expression makes no sense
            raise NoOperandError from None

    def is_array(self, name: str) -> bool:
        return isinstance(self.value(name), np.ndarray) and self.value(name).ndim > 0

    def fresh(self) -> str:
        """Return a name for a new value; now and then one that is taken, which is then bound anew."""
        mine = [n for n in self.names if n not in ("x", "data") and n in NAMES]
        if mine and self.chance(0.12):
            return self.choice(mine)
        self.reserved += 1
        i, n = (self.reserved - 1) * 7 % len(NAMES), (self.reserved - 1) // len(NAMES)
        return NAMES[i] + (str(n) if n else "")

    def spare(self, count: int) -> list[str]:
        """Return names that are certainly new."""
        names = []
        for _ in range(count):
            self.reserved += 1
            names.append(f"{NAMES[(self.reserved - 1) * 7 % len(NAMES)]}{self.reserved}")
        return names

    # --- operands
    def weighted(self, names: Sequence[str]) -> str:
        """Prefer what is new and unused."""
        if not names:
            raise NoOperandError
        weights = [(3.0 if n not in self.used else 1.0) * (1.0 + i / len(names)) for i, n in enumerate(names)]
        return self.random.choices(names, weights)[0]

    def operand(self) -> str:
        return self.weighted(self.names)

    def constant(self, shape: tuple[int, ...], kind: str = "") -> str:
        """Return the name of an array outside the function, a new one if there is none."""
        kind = kind or self.random.choices(["float", "int", "float32"], [8, 1, 1])[0]
        known = self.constants.setdefault((shape, kind), [])
        if known and self.chance(0.6):
            return self.choice(known)
        self.reserved += 1
        name = f"{self.choice('ABCDKMQW')}{self.reserved}"
        if kind == "int":
            entries: Any = np.array([self.choice([-2, -1, 1, 2, 3]) for _ in range(math.prod(shape))]).reshape(shape)
            text = f"np.array({entries.tolist()})"
        else:
            text = self.array_text(shape, dtype=", np.float32" if kind == "float32" else "")
        if self.outside:
            self.declare(f"{name} = {text}")
        elif not self.add(f"{name} = {text}", "constant"):
            raise NoOperandError
        known.append(name)
        return name

    def declare(self, piece: str) -> None:
        self.header.append(piece)
        for environment in self.environments:
            exec(piece, environment)
        self.given = [self.outside_values(environment) for environment in self.environments]

    def scalar(self) -> str:
        """Return an expression for one number."""
        numbers = [n for n in self.names if not self.is_array(n)]
        if numbers and self.chance(0.6):
            return self.weighted(numbers)
        arrays = [n for n in self.names if self.is_array(n)]
        if not arrays:
            return self.weighted(numbers)
        a = self.weighted(arrays)
        if self.chance(0.5):
            return f"{a}[{', '.join(str(self.integer(-n, n - 1)) for n in self.shape(a))}]"
        return self.choice(["np.sum({a})", "{a}.mean()", "{a}.sum()", "np.max({a})", "np.mean({a})"]).format(a=a)

    def array(self, ndim: int | None = None, least: int = 1) -> str:
        """Return the name of an array, written now if there is none of that kind."""
        fits = [
            n
            for n in self.names
            if self.is_array(n) and (ndim is None or self.value(n).ndim == ndim) and min(self.value(n).shape) >= least
        ]
        if fits and self.chance(0.85):
            return self.weighted(fits)
        width = ndim if ndim is not None else self.integer(1, 2)
        return self.shaped(tuple(self.integer(max(2, least), 4) for _ in range(width)))

    def shaped(self, shape: tuple[int, ...], positive: bool = False) -> str:
        """Return the name of an array of this shape, written now if there is none."""
        fits = [n for n in self.names if self.is_array(n) and self.shape(n) == shape]
        if fits and self.chance(0.7):
            return self.weighted(fits)
        for _ in range(8):
            name = self.spare(1)[0]
            if self.add(f"{name} = {self.spread(shape)}", "spread"):
                return name
        raise NoOperandError

    def spread(self, shape: tuple[int, ...]) -> str:
        """Return an expression for an array of this shape made of what there is."""
        size = math.prod(shape)
        s = self.scalar()
        vectors = [n for n in self.names if self.is_array(n) and self.value(n).ndim == 1]
        kind = self.integer(0, 7)
        if kind == 0 and vectors:
            v = self.weighted(vectors)
            flat = f"{v}[np.arange({size}) % {self.shape(v)[0]}]"
            return f"{flat}.reshape({shape})" if len(shape) != 1 else flat
        if kind == 1 and len(shape) == 1:
            return f"np.array([{s} * {self.c()} + 0.1 * i for i in range({size})])"
        if kind == 2 and len(shape) == 1:
            return f"np.array([{', '.join(self.f(self.scalar()) for _ in range(size))}])"
        if kind == 3:
            return f"np.full({shape}, {s}) * {self.constant(shape)}"
        if kind == 4 and len(shape) == 2:
            return f"np.outer({self.shaped(shape[:1])}, {self.shaped(shape[1:])})"
        if kind == 5 and size > 1:
            line = f"np.linspace({s}, {self.c()}, {size})"
            return line if len(shape) == 1 else f"{line}.reshape({shape})"
        if kind == 6:
            return f"np.sin({self.constant(shape)} + {s})"
        return f"{self.constant(shape)} * {s} + {self.c()}"

    def like(self, shape: tuple[int, ...]) -> str:
        """Return an operand that broadcasts against this shape."""
        fits = [n for n in self.names if self.broadcasts(self.shape(n), shape)]
        kind = self.random.random()
        if fits and kind < 0.7:
            return self.weighted(fits)
        if kind < 0.85 and shape:
            return self.constant(shape if self.chance(0.6) else shape[-1:])
        return self.scalar() if kind < 0.95 else self.c()

    @staticmethod
    def broadcasts(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        try:
            return math.prod(np.broadcast_shapes(one, other)) <= 40
        except ValueError:
            return False

    # --- expressions
    def fill(self, template: str, **parts: str) -> str:
        """Fill in operands; {c} is any number, {p} a positive one, anew at each place."""
        text = re.sub(r"\{c\}", lambda _: self.c(), template)
        text = re.sub(r"\{p\}", lambda _: self.p(), text)
        for key, part in parts.items():
            text = text.replace("{" + key + "}", enclosed(part))
        return text

    def f(self, a: str) -> str:
        """Return a smooth or bent function of an operand."""
        return self.fill(self.choice(UNARY), a=a)

    def expression(self, a: str, depth: int = 2) -> str:
        """Return a random elementwise expression of the shape of ``a``, or one that broadcasts with it."""
        text = a
        for _ in range(self.integer(1, depth)):
            if self.chance(0.55):
                text = self.f(text)
            else:
                b = self.like(self.shape(text))
                pair = (text, b) if self.chance(0.7) else (b, text)
                text = self.fill(self.choice(BINARY), a=pair[0], b=pair[1])
        return text

    def axis(self, a: str, keep: float = 0.3) -> str:
        """Return ``axis=…`` (or nothing) for a reduction of ``a``."""
        ndim = len(self.shape(a))
        if ndim == 0 or self.chance(0.3):
            text = "axis=None" if self.chance(0.1) else ""
        elif ndim > 1 and self.chance(0.2):
            text = f"axis={tuple(sorted(self.random.sample(range(ndim), 2)))}"
        else:
            text = f"axis={self.integer(-ndim, ndim - 1)}"
        if self.chance(keep):
            text += ", keepdims=True" if text else "keepdims=True"
        return text

    def slices(self, n: int) -> str:
        """Return a slice of an axis of length n that is not empty."""
        start = self.integer(0, n - 1)
        stop = self.integer(start + 1, n)
        return self.choice(
            [
                ":",
                "::-1",
                f"{start}:",
                f":{stop}",
                f"{start}:{stop}",
                "::2",
                f"{-(n - start)}:",
                f"{stop - 1}::-1",
                "...",
            ]
        )

    def positions(self, n: int, count: int | None = None) -> str:
        """Return a list of positions, now and then repeated or negative."""
        count = self.integer(1, 4) if count is None else count
        return str([self.integer(-n, n - 1) for _ in range(count)])

    def condition(self) -> str:
        """Return a look at a value that decides a branch."""
        s = self.scalar()
        arrays = [n for n in self.names if self.is_array(n)]
        a = self.weighted(arrays) if arrays else s
        kinds = [
            f"{s} > {self.c()}",
            f"{s} < {self.c()}",
            f"abs({s}) >= {self.p()}",
            f"{self.c(-1, 0)} < {s} < {self.p()}",
        ]
        kinds += [f"not {s} > {self.c()}", f"{s} > {self.c()} and {self.scalar()} < {self.c()}", f"bool({s} > 0.1)"]
        kinds += [
            f"int({s} * 3) % 2 == 0",
            f"float({s}) > {self.c()}",
            f"math.floor({s} * 2) > 0",
            f"{s} <= {self.c()} or {s} > 1",
        ]
        if arrays:
            kinds += [f"np.any({a} > {self.c()})", f"({a} > {self.c()}).all()", f"{a}.max() > {self.p()}"]
            kinds += [
                f"np.linalg.norm({a}) > {self.p()}",
                f"np.argmax({a}) == 0",
                f"np.sum({a} > 0) >= 2",
                f"{a}.size > 3",
            ]
            kinds += [
                f"np.isfinite({a}).all() and {s} > 0",
                f"len({a}) > 2",
                f"{a}.argmin() > 1",
                f"np.sum({a}) > np.mean({a})",
            ]
            kinds += [f"np.allclose({a}, 0.5)", f"np.count_nonzero({a} > {self.c()}) > 1"]
        return self.choice(kinds)


def enclosed(text: str) -> str:
    """Return an expression in parentheses, unless it is one name, call or item."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0 and letter in " -+~" and (i > 0 or letter in "-+~"):
            return f"({text})"
    return text


ARITHMETIC = frozenset(  # the names after a dot that an exact program may use
    words("""
    abs absolute add append arange array array_split asarray ascontiguousarray astype atleast_1d atleast_2d
    broadcast_to ceil clip column_stack concatenate copy copyto divide dstack empty empty_like expand_dims eye
    fabs fill flat flatten flip flipud float32 float64 floor full full_like hstack item linspace maximum minimum
    moveaxis multiply negative ones ones_like pad ravel reciprocal repeat reshape rint roll rot90 shape sign
    size split sqrt square squeeze stack subtract swapaxes T take tile transpose tri tril trunc vstack where
    zeros zeros_like
    """)
)


def arithmetic(chunk: str) -> bool:
    """Is there nothing in the chunk but arithmetic, square roots, comparisons, and reading and writing?"""
    return not {*re.findall(r"\b[a-zA-Z_]\w*\.([a-zA-Z]\w*)", chunk)} - ARITHMETIC and not re.search(
        r"\*\*|@|%|//|math\.|_\(|sum\(", chunk
    )


# --- families: elementwise, reductions
@family(5)
def elementwise(w: Writer) -> str:
    return f"{w.fresh()} = {w.expression(w.operand())}"


@family(1.5)
def mathematics(w: Writer) -> str:
    s = w.scalar()
    text = w.fill(w.choice(SCALAR), a=s)
    if w.chance(0.3):
        text = w.fill(w.choice(SCALAR), a=text)
    return f"{w.fresh()} = {text}"


@family(3)
def reduction(w: Writer) -> str:
    a = w.array()
    axis = w.axis(a)
    text = w.choice(REDUCTIONS).replace("{k}", f", {axis}" if axis else "").replace("{m}", axis)
    return f"{w.fresh()} = {w.fill(text, a=a)}"


@family(0.6)
def weighted_average(w: Writer) -> str:
    a = w.array()
    shape = w.shape(a)
    weights = f"np.abs({w.shaped(shape)}) + {w.p()}" if w.chance(0.5) else f"np.abs({w.constant(shape)})"
    axis = w.axis(a, keep=0.0)
    return f"{w.fresh()} = np.average({a}, weights={weights}{', ' + axis if axis else ''})"


@family(1.2)
def running(w: Writer) -> str:
    a = w.array()
    axis = w.choice(["", f", axis={w.integer(0, len(w.shape(a)) - 1)}"])
    text = w.choice(
        [
            *("np.cumsum({a}{k})", "np.cumprod(np.cos({a}){k})", "np.diff({a}{k})", "np.add.accumulate({a})"),
            *("np.multiply.accumulate(np.sin({a}))", "np.maximum.accumulate({a})", "{a}.cumsum()", "np.gradient({b})"),
            *("np.diff({a}, n=2{k})", "np.diff({a}, prepend=0.0)", "np.ediff1d({a})", "np.trapezoid({a}, dx=0.3)"),
            *("np.convolve({b}, {v})", "np.convolve({b}, {v}, 'same')", "np.convolve({b}, {v}, 'valid')"),
            *(
                "np.correlate({b}, {v})",
                "np.correlate({b}, {v}, 'full')",
                "np.trapezoid({b}, np.cumsum({b} ** 2 + 0.2))",
            ),
            *(
                "np.nancumsum({a})",
                "np.gradient({b}, 0.5)",
                "np.gradient({b}, edge_order=2)",
                "np.diff({b}, append=[{c}])",
            ),
        ]
    )
    b = w.array(1, least=3)
    v = w.array(1) if w.chance(0.5) else w.constant((w.integer(2, 3),))
    return f"{w.fresh()} = {w.fill(text.replace('{k}', axis), a=a, b=b, v=v)}"


@family(1)
def ufunc_methods(w: Writer) -> str:
    a, b = w.array(1), w.array(1)
    text = w.choice(
        [
            *(
                "np.multiply.outer({a}, {b})",
                "np.add.outer({a}, {b})",
                "np.subtract.outer({a}, {b})",
                "np.maximum.outer({a}, {b})",
            ),
            *("np.add.reduce({a} * {c})", "np.divide.outer({a}, {b} ** 2 + {p})", "np.hypot.outer({a}, {b})"),
            *("np.add({a}, {c}, dtype=np.float64)", "np.logaddexp.outer({a}, {b})"),
        ]
    )
    return f"{w.fresh()} = {w.fill(text, a=a, b=b)}"


# --- families: reading
@family(3)
def indexing(w: Writer) -> str:
    a = w.array()
    shape = w.shape(a)
    n = shape[0]
    y = w.fresh()
    kinds = [
        f"{a}[{w.integer(-n, n - 1)}]",
        f"{a}[{w.slices(n)}]",
        f"{a}[{w.positions(n)}]",
        f"{a}[None]",
        f"{a}[..., None]",
    ]
    kinds += [f"{a}[np.array({w.positions(n)})]", f"{a}[...]", f"np.take({a}, {w.positions(n)}, axis=0)"]
    kinds += [
        f"{a}[np.arange({n})[::-1]]",
        f"{a}.take({w.positions(a and math.prod(shape))})",
        f"{a}[[{', '.join(w.choice(['True', 'False']) for _ in range(n - 1)) + ', ' * (n > 1)}True]]",
    ]
    kinds += [f"np.sum({a}[{a} > {w.c()}])", f"np.sum({a}[np.abs({a}) < 1] ** 2)", f"{a}[np.argmax({a[:0] + a}) % {n}]"]
    kinds += [f"np.sum({a}[np.where({a} > {w.c()})])", f"np.sum({a}[np.nonzero({a} > 0)])", f"np.take({a}, 0)"]
    kinds += [f"np.take({a}, [0, {n + 1}], axis=0, mode='clip')", f"np.take({a}, [1, {n + 2}], axis=0, mode='wrap')"]
    kinds += [
        f"{a}[:, None]",
        f"{a}[np.newaxis, ::-1]",
        f"np.sum(np.extract({a} > 0, {a}))",
        f"{a}.flat[{n - 1}]",
        f"{a}.item({n - 1})",
    ]
    kinds += [
        f"np.compress({[bool(i % 2) for i in range(n - 1)] + [True]}, {a}, axis=0)",
        f"{a}[-{n}:]",
        f"{a}[slice(None, None, -1)]",
    ]
    if len(shape) == 2:
        m = shape[1]
        i, j = w.positions(n, 3), w.positions(m, 3)
        kinds += [f"{a}[{w.integer(0, n - 1)}, {w.integer(-m, m - 1)}]", f"{a}[{w.slices(n)}, {w.integer(0, m - 1)}]"]
        kinds += [
            f"{a}[:, {w.positions(m)}]",
            f"{a}[{i}, {j}]",
            f"{a}[np.ix_({w.positions(n, 2)}, {w.positions(m, 2)})]",
        ]
        kinds += [
            f"{a}[{w.integer(0, n - 1)}, {w.slices(m)}]",
            f"{a}[::-1, ::-1]",
            f"{a}[{i}, :]",
            f"{a}[..., {w.integer(0, m - 1)}]",
        ]
        kinds += [
            f"{a}[np.arange({n}), np.argmax({a}, axis=1)]",
            f"{a}[1:][:, :1]",
            f"{a}[0][::-1]",
            f"{a}[None, :, None, 0]",
        ]
        kinds += [
            f"np.take_along_axis({a}, np.argsort({a}, axis=1), axis=1)",
            f"{a}[{w.integer(0, n - 1)}, {j}]",
            f"{a}[:, None, {j}]",
        ]
        kinds += [f"{a}[np.array({i})[:, None], np.array({j})]", f"{a}[{a}.sum(axis=1) > -50]", f"{a}[[[0], [1]], 0]"]
        kinds += [
            f"np.sum({a}[:, {a}[0] > 0])",
            f"{a}[np.triu_indices({min(n, m)})]",
            f"{a}[np.diag_indices({min(n, m)})]",
        ]
        kinds += [
            f"np.take_along_axis({a}, {a}.argmax(axis=0)[None], axis=0)",
            f"{a}[np.tril_indices({min(n, m)}, -1)]",
        ]
    elif len(shape) == 3:
        kinds += [
            f"{a}[:, 0]",
            f"{a}[..., 0]",
            f"{a}[0, ..., -1]",
            f"{a}[:, :, ::-1]",
            f"{a}[[0, -1], :, [0, 0]]",
            f"{a}[:, 0, [0, -1]]",
        ]
        kinds += [f"{a}[0, :, [0, -1]]", f"{a}[[0, -1], 0]", f"{a}[..., [0, 0]]"]
    return f"{y} = {w.choice(kinds)}"


@family(1)
def sorting(w: Writer) -> str:
    a = w.array()
    axis = w.choice(["", ", axis=0", ", axis=-1"])
    kinds = [
        "np.sort({a}{k})",
        "np.sort({a}, axis=None)",
        "np.sort({a}{k})[::-1]",
        "{b}[np.argsort({b})]",
        "{b}[{b}.argsort()[::-1]]",
    ]
    kinds += [
        "np.sort(np.abs({b}))[-2:]",
        "np.partition({b}, 1)[0]",
        "np.array(sorted({b}))",
        "np.median({a}{k})",
        "np.sort({b})[{b}.size // 2]",
    ]
    kinds += [
        "np.max({b}) - np.min({b})",
        "max({b}) + min({b})",
        "np.quantile({b}, [0.25, 0.6])",
        "np.percentile({b}, 40)",
        "np.flip(np.sort({b}))",
    ]
    kinds += [
        "np.searchsorted(np.sort({b}), 0.1) * {b}",
        "np.digitize({b}, [0.0, 1.0]) * {b}",
    ]
    return f"{w.fresh()} = {w.fill(w.choice(kinds).replace('{k}', axis), a=a, b=w.array(1, least=2))}"


# --- families: shapes
@family(2.5)
def reshaping(w: Writer) -> str:
    a = w.array()
    shape = w.shape(a)
    size = math.prod(shape)
    rows = w.choice([k for k in range(1, size + 1) if size % k == 0])
    kinds = [f"{a}.reshape({rows}, -1)", f"np.reshape({a}, ({rows}, {size // rows}))", f"{a}.ravel()", f"{a}.flatten()"]
    kinds += [
        f"np.ravel({a})",
        f"{a}.reshape(-1)",
        f"{a}.reshape(({rows}, {size // rows}), order='F')",
        f"{a}.ravel(order='F')",
    ]
    kinds += [
        f"np.expand_dims({a}, {w.integer(0, len(shape))})",
        f"np.squeeze({a})",
        f"np.atleast_2d({a})",
        f"{a}[None].squeeze(0)",
    ]
    kinds += [
        f"np.transpose({a})",
        f"{a}.T",
        f"np.broadcast_to({a}, (2, *{a}.shape))",
        f"np.flip({a})",
        f"np.flip({a}, 0)",
        f"np.flipud({a})",
    ]
    kinds += [
        f"np.roll({a}, {w.integer(-3, 3)})",
        f"np.roll({a}, {w.integer(1, 2)}, axis=0)",
        f"np.tile({a}, 2)",
        f"np.tile({a}, (2, 1))",
    ]
    kinds += [
        f"np.repeat({a}, 2)",
        f"np.repeat({a}, 2, axis=0)",
        f"{a}.repeat(2)",
        f"np.repeat({a}, {[i % 2 + 1 for i in range(shape[0])]}, axis=0)",
    ]
    kinds += [
        f"np.pad({a}, 1)",
        f"np.pad({a}, 1, mode='edge')",
        f"np.pad({a}, 1, mode='reflect')",
        f"np.pad({a}, 1, mode='wrap')",
    ]
    kinds += [
        f"np.pad({a}, 1, constant_values={w.c()})",
        f"np.pad({a}, (1, 0), mode='symmetric')",
        f"np.resize({a}, {size + 2})",
    ]
    kinds += [
        f"np.append({a}, {w.scalar()})",
        f"np.delete({a}, 0)",
        f"np.insert({a}, 1, {w.scalar()})",
        f"{a}.copy()",
        f"np.copy({a})",
    ]
    kinds += [
        f"np.asarray({a})",
        f"np.array({a})",
        f"{a}.astype(float)",
        f"np.ascontiguousarray({a})",
        f"{a} + np.zeros_like({a})",
    ]
    kinds += [
        f"np.atleast_1d({a})",
        f"np.atleast_3d({a})",
        f"{a} * np.ones_like({a})",
        f"np.full_like({a}, {w.c()}) * {a}",
        f"np.array({a}, ndmin=2)",
    ]
    if len(shape) > 1:
        kinds += [
            f"np.swapaxes({a}, 0, 1)",
            f"np.moveaxis({a}, 0, -1)",
            f"{a}.swapaxes(0, -1)",
            f"np.fliplr({a})",
            f"np.rot90({a})",
        ]
        kinds += [
            f"np.roll({a}, (1, -1), axis=(0, 1))",
            f"np.rot90({a}, {w.integer(-1, 3)})",
            f"{a}.transpose()",
            f"np.flip({a}, (0, 1))",
        ]
        kinds += [
            f"np.rollaxis({a}, 1)",
            f"np.permute_dims({a})",
            f"np.pad({a}, ((1, 0), (0, 2)))",
            f"np.repeat({a}, 2, axis=1)",
            f"{a}.mT",
        ]
        kinds += [f"np.apply_along_axis(lambda r: np.sin(r) * r.sum(), 1, {a})", f"np.apply_along_axis(np.sum, 0, {a})"]
    return f"{w.fresh()} = {w.choice(kinds)}"


@family(2)
def joining(w: Writer) -> str:
    a = w.array()
    b = w.shaped(w.shape(a)) if w.chance(0.7) else w.constant(w.shape(a))
    kinds = [
        "np.concatenate([{a}, {b}])",
        "np.concatenate(({a}, {b}), axis=-1)",
        "np.stack([{a}, {b}])",
        "np.stack(({a}, {b}), axis=-1)",
    ]
    kinds += [
        "np.hstack([{a}, {b}])",
        "np.vstack([{a}, {b}])",
        "np.dstack([{a}, {b}])",
        "np.column_stack([{a}, {b}])",
        "np.concatenate([{a}, {b}], axis=None)",
    ]
    kinds += [
        "np.array([{a}, {b}])",
        "np.array([{a}, {a} * {c}])",
        "np.append({a}, {b})",
        "np.block([{a}, {b}])",
        "np.r_[{a}, {b}]",
        "np.c_[{a}, {b}]",
    ]
    kinds += [
        "np.block([[{a}, {b}], [{b}, {a}]])",
        "np.stack([v * {c} for v in {a}])",
        "np.array([v for v in {a}])",
        "np.concatenate([v.ravel() for v in ({a}, {b})])",
    ]
    kinds += [
        "np.array([{s}, {t}, {c}])",
        "np.array([[{s}, {c}], [{c}, {t}]])",
        "np.array([np.sin(v) for v in {a}])",
        "np.asarray([{s}, {t}])",
    ]
    kinds += [
        "np.array([{s}, {t}], dtype=float)",
        "np.array(({s}, 1, {t}))",
        "np.fromiter((v * 2 for v in {a}), float)",
        "np.insert({a}, 0, {s})",
    ]
    return f"{w.fresh()} = {w.fill(w.choice(kinds), a=a, b=b, s=w.scalar(), t=w.scalar())}"


@family(1.2)
def splitting(w: Writer) -> str:
    a = w.array(least=2)
    n = w.shape(a)[0]
    one, two, three = w.spare(3)
    kinds = [
        f"{one}, {two} = np.array_split({a}, 2)",
        f"{one}, {two} = np.split({a}, [1])",
        f"{one}, *{two} = {a}\n{three} = sum(np.sum(v) for v in {two})",
        f"{one} = [np.sum(part ** 2) for part in np.array_split({a}, 2)]\n{two} = {one}[0] - {one}[-1]",
        f"{one} = np.split({a}, {n})[0]",
        f"{one}, {two} = {a}[0], {a}[-1]",
        f"{one}, {two} = {a}[:1], {a}[1:]\n{three} = np.concatenate([{two}, {one}])",
        f"{one} = np.hsplit({a}, [1])[-1]",
        f"{one} = np.vsplit(np.atleast_2d({a}), 1)[0]",
        f"{one}, {two} = {a}[:2]",
        f"{one} = np.unstack({a})[1]",
        f"{one} = next(iter({a})) * {w.c()}",
    ]
    return w.choice(kinds)


# --- families: products and matrices
@family(2)
def products(w: Writer) -> str:
    v = w.array(1)
    n = w.shape(v)[0]
    u, m, k = w.shaped((n,)), w.shaped((n, w.integer(1, 3))), w.constant((n, w.integer(2, 3)))
    kinds = [
        "{v} @ {u}",
        "np.dot({v}, {u})",
        "{v} @ {m}",
        "{v} @ {k}",
        "{k}.T @ {v}",
        "np.dot({v}, {m})",
        "{m}.T @ {u}",
        "np.inner({v}, {u})",
        "np.vdot({v}, {u})",
    ]
    kinds += [
        "np.matmul({m}.T, {k})",
        "{m}.T.dot({v})",
        "{v}.dot({u})",
        "np.outer({v}, {u})",
        "np.tensordot({v}, {m}, axes=1)",
        "np.tensordot({m}, {k}, axes=(0, 0))",
    ]
    kinds += [
        "np.einsum('i,i->', {v}, {u})",
        "np.einsum('i,ij->j', {v}, {m})",
        "np.einsum('ij,ik->jk', {m}, {k})",
        "np.einsum('i,j->ij', {v}, {u})",
        "np.einsum('ij,i', {m}, {v})",
    ]
    kinds += [
        "np.einsum('ij->j', {m})",
        "np.einsum('ij->ji', {k} * {s})",
        "np.einsum('...i,i->...', {m}.T, {v})",
        "np.einsum('i,ij,i->j', {v}, {k}, {u})",
        "np.einsum('ii->i', np.outer({v}, {u}))",
    ]
    kinds += [
        "np.einsum('ij,jk,kl->il', {m}, {m}.T, {k})",
        "np.kron({v}, [{c}, {c}])",
        "np.kron({m}, [[{c}]])",
        "np.trace(np.outer({v}, {u}))",
        "np.sum({m} * {v}[:, None])",
    ]
    kinds += [
        "np.linalg.multi_dot([{v}, {m}, {m}.T])",
        "np.vecdot({v}, {u})",
        "np.linalg.matrix_power(np.outer({v}, {u}) * 0.2, 2)",
        "np.inner({m}.T, {v})",
        "np.dot({m}.T, {k})",
        "np.matvec({m}.T, {v})",
    ]
    kinds += [
        "np.cov({v}, {u})[0, 1]",
        "np.tensordot({m}, {k}, axes=([0], [0]))",
        "np.cross({x}, {y})",
        "sum({v} * {u})",
        "np.linalg.norm({v} - {u})",
    ]
    x, y = (w.shaped((3,)), w.shaped((3,))) if w.chance(0.3) else (v, u)
    return f"{w.fresh()} = {w.fill(w.choice(kinds), v=v, u=u, m=m, k=k, s=w.scalar(), x=x, y=y)}"


@family(1)
def matrices(w: Writer) -> str:
    n = w.integer(2, 3)
    m = w.shaped((n, n))
    b = w.shaped((n,))
    kinds = [
        "np.diag({m})",
        "np.diag({b})",
        "np.diag({b}, 1)",
        "np.diagonal({m})",
        "np.trace({m})",
        "np.triu({m})",
        "np.tril({m}, -1)",
        "np.triu({m}, 1)",
        "np.diag({m}, 1)",
    ]
    kinds += [
        "np.trace({m}, offset=1)",
        "{m}.trace()",
        "{m}.diagonal()",
        "np.diagflat({b})",
        "{m} + {m}.T",
        "{m} - np.eye(" + str(n) + ")",
        "np.vander({b}, 3)",
        "np.vander({b}, increasing=True)",
    ]
    kinds += [
        "np.eye(" + str(n) + ") * {s}",
        "np.identity(" + str(n) + ") @ {m}",
        "np.tri(" + str(n) + ") * {m}",
        "{m} @ {m}",
        "{b} @ {m} @ {b}",
        "np.meshgrid({b}, {b} ** 2)[0]",
        "np.meshgrid({b}, {b} ** 2, indexing='ij')[1]",
    ]
    kinds += [
        "np.diag({m}, -1)",
        "np.outer({b}, {b}) + np.diag({b})",
        "np.ones((" + str(n) + ", 2)) * {b}[:, None]",
        "np.tril(np.ones(({n}, {n}))) @ {b}".replace("{n}", str(n)),
    ]
    return f"{w.fresh()} = {w.fill(w.choice(kinds), m=m, b=b, s=w.scalar())}"


@family(1.2)
def linear_algebra(w: Writer) -> str:
    n = w.integer(2, 3)
    m, b = w.shaped((n, n)), w.shaped((n,))
    one, two = w.spare(2)
    spread = [float(3 + 2 * i) for i in range(n)]
    safe = f"{one} = 0.3 * np.tanh({m}) + np.diag({spread})"
    symmetric = f"{one} = 0.1 * ({m} + {m}.T) + np.diag({spread})"
    kinds = [
        (safe, t)
        for t in (
            "np.linalg.solve({a}, {b})",
            "np.linalg.inv({a})",
            "np.linalg.det({a}) / 50",
            "np.linalg.slogdet({a})[1]",
            "np.linalg.solve({a}, {m})",
        )
    ]
    kinds += [
        (safe, t)
        for t in (
            "np.linalg.norm({a}) / 3",
            "np.linalg.norm({a}, 1) / 3",
            "np.linalg.norm({a}, np.inf) / 3",
            "np.linalg.svd({a}, compute_uv=False)",
            "np.linalg.norm({a}, 2)",
        )
    ]
    kinds += [
        (safe, t)
        for t in (
            "np.linalg.norm({a}, 'fro')",
            "np.linalg.norm({a}, 'nuc') / 3",
            "np.linalg.norm({a}, axis=0)",
            "np.linalg.pinv({a})",
            "np.linalg.cond({a})",
            "np.linalg.lstsq({a}, {b})[0]",
        )
    ]
    kinds += [
        (safe, t)
        for t in (
            "np.abs(np.linalg.qr({a})[1])",
            "np.linalg.matrix_power({a} / 4, 3)",
            "np.linalg.matrix_power({a}, -1)",
            "np.linalg.inv({a}) @ {b}",
            "np.linalg.svdvals({a})",
        )
    ]
    kinds += [
        (symmetric, t)
        for t in (
            "np.linalg.cholesky({a})",
            "np.linalg.eigvalsh({a})",
            "np.linalg.eigh({a})[0]",
            "np.linalg.eigh({a})[1] ** 2",
            "np.linalg.slogdet({a})[1]",
        )
    ]
    kinds += [
        (symmetric, t)
        for t in (
            "{b} @ np.linalg.solve({a}, {b})",
            "np.log(np.diag(np.linalg.cholesky({a}))).sum()",
            "np.linalg.eigvalsh({a})[-1]",
            "np.linalg.norm({a}, -1)",
            "np.linalg.det({a}) / 50",
        )
    ]
    kinds += [
        ("", t)
        for t in (
            "np.linalg.norm({b} + 2)",
            "np.linalg.norm({b} + 2, 1)",
            "np.linalg.norm({b}, np.inf)",
            "np.linalg.norm({b} + 2, 3)",
            "np.linalg.norm({m}, axis=1, keepdims=True)",
        )
    ]
    kinds += [
        ("", t)
        for t in (
            "np.linalg.norm({b}, -np.inf)",
            "np.linalg.norm({m} + 2, ord=1, axis=0)",
            "np.linalg.vector_norm({b})",
            "np.linalg.trace({m})",
            "np.linalg.outer({b}, {b})",
        )
    ]
    first, text = w.choice(kinds)
    return (first + "\n" if first else "") + f"{two} = {w.fill(text, a=one, b=b, m=m)}"


@family(0.8)
def tables(w: Writer) -> str:
    a, b = w.operand(), w.array(1, least=2)
    n = w.shape(b)[0]
    kinds = [
        "np.interp({a}, [-2.0, -0.5, 0.4, 2.0], [{c}, {c}, {c}, {c}])",
        "np.interp({c}, np.cumsum({b} ** 2 + 0.3), {b})",
        "np.polyval([{c}, {c}, {c}], {a})",
        "np.polyval({b}, {c})",
    ]
    kinds += [
        "np.interp(np.linspace(-1, 1, 3), np.linspace(-1.2, 1.3, " + str(n) + "), {b})",
        "np.piecewise({b}, [{b} < 0, {b} >= 0.7], [lambda v: v ** 2, np.sin, {c}])",
    ]
    kinds += [
        "np.select([{b} > 0.5, {b} > -0.5], [np.sin({b}), {b} ** 2], default={c})",
        "np.choose([0, 1] * " + str(n) + ", [{s}, {c}])",
        "np.piecewise({b}, [{b} < 0], [{c}, np.cos])",
    ]
    kinds += [
        "np.vectorize(lambda v: v ** 2 if v > 0 else -v)({b})",
        "np.fft.rfft({b}).real",
        "np.abs(np.fft.rfft({b})) ** 2",
        "np.abs(np.fft.fft({b}))[1]",
        "np.fft.ifft(np.fft.fft({b}) * {c}).real",
    ]
    kinds += [
        "np.fft.irfft(np.fft.rfft({b}), " + str(n) + ")",
        "np.fft.fft({b}).imag",
        "np.sum(np.abs(np.fft.fft({b})) ** 2)",
        "np.angle(np.fft.rfft({b} ** 2 + 0.3))",
    ]
    kinds += [
        "np.lib.stride_tricks.sliding_window_view({b}, 2) @ np.array([{c}, {c}])",
        "np.lib.stride_tricks.sliding_window_view({b}, 2).max(axis=1)",
        "np.linspace({s}, {s} ** 2, 4)",
        "np.arange(3) * {s}",
    ]
    kinds += [
        "np.i0({a})",
        "np.unwrap({b})",
        "np.cov({b})",
        "np.corrcoef({b}, {b} ** 2 + np.arange(" + str(n) + "))[0, 1]",
        "np.poly1d([{c}, {c}])({a})",
        "np.logspace(0, {s} * 0.3, 3)",
    ]
    return f"{w.fresh()} = {w.fill(w.choice(kinds), a=a, b=b, s=w.scalar())}"


@family(0.4)
def special(w: Writer) -> str:
    a = w.operand()
    if not any("scipy" in piece for piece in w.header):
        w.declare("from scipy import special")
    kinds = [
        "special.expit({a})",
        "special.erf({a})",
        "special.erfc({a})",
        "special.gammaln({a} ** 2 + {p})",
        "special.digamma({a} ** 2 + {p})",
        "special.logsumexp({a})",
        "special.log_ndtr({a})",
    ]
    kinds += [
        "special.softmax({b})",
        "special.logit(0.4 + 0.3 * np.tanh({a}))",
        "special.xlogy({a}, {a} ** 2 + {p})",
        "special.j0({a})",
        "special.j1({a})",
        "special.i0({a})",
        "special.ndtr({a})",
        "special.log_softmax({b})",
    ]
    return f"{w.fresh()} = {w.fill(w.choice(kinds), a=a, b=w.array(1))}"


# --- families: writing
@family(2.5)
def filling(w: Writer) -> str:
    """An array made of zeros (or nothing) and filled item by item or slice by slice."""
    (y,) = w.spare(1)
    v = w.array(1, least=2)
    n = w.shape(v)[0]
    make = w.choice(
        [
            f"np.zeros({n})",
            f"np.empty({n})",
            f"np.ones({n})",
            f"np.zeros_like({v})",
            f"np.empty_like({v})",
            f"np.zeros(len({v}))",
            f"np.zeros({v}.shape)",
            f"np.full({n}, {w.c()})",
        ]
    )
    f = w.f("{v}")
    loops = [
        f"for i in range({n}):\n    {y}[i] = {f.replace('{v}', f'{v}[i]')}",
        f"for i, entry in enumerate({v}):\n    {y}[i] = {f.replace('{v}', 'entry')}",
        f"{y}[0] = {w.scalar()}\nfor i in range(1, {n}):\n"
        f"    {y}[i] = {w.p()} * {y}[i - 1] + {f.replace('{v}', f'{v}[i]')}",
        f"{y}[:] = {v}\n{y}[1:] += {w.c()} * {v}[:-1]",
        f"{y}[...] = {f.replace('{v}', v)}\n{y}[-1] = {w.scalar()}",
        f"{y}[:1] = {v}[-1:]\n{y}[1:] = {v}[:-1]",
        f"{y}.fill({w.scalar()})\n{y}[0] *= {v}[-1]",
        f"{y}[:] = {w.scalar()}\n{y}[{v} > {w.c()}] = {w.c()}",
        f"{y}[::-1] = {v}\n{y}[{w.positions(n, 2)}] = {w.scalar()}",
        f"{y}[np.arange({n})] = {v}\n{y}[[0, -1]] += {w.c()}",
        f"{y}[:] = {v}\nfor i in range({n} - 1):\n    {y}[i + 1] -= 0.5 * {y}[i] ** 2",
        f"np.copyto({y}, {v})\n{y}[{w.integer(-n, n - 1)}] = {w.f(w.scalar())}",
        f"np.multiply({v}, {w.c()}, out={y})\nnp.add({y}, {w.scalar()}, out={y})",
        f"{y}[:] = {v}\n{y}[{y} < 0] *= {w.c()}",
        f"{y}[:] = {v}\n{y}[{y} > 0] = {v}[{y} > 0] ** 2",
        f"{y}[:] = np.sin({v})\nnp.clip({y}, -0.5, 0.6, out={y})",
        f"{y}[:] = {v}\n{y}[0], {y}[-1] = {y}[-1], {y}[0]",
        f"{y}[:] = {v}\n{y}[[0, 1]] = {y}[[1, 0]]",
        f"{y}[:] = {v}\n{y}[1:] = {y}[:-1]",
        f"{y}[:] = {v}\n{y}.sort()",
        f"{y}[:] = {v}\nnp.sqrt({y} ** 2 + {w.p()}, out={y}, where={v} > 0)",
        f"{y}[:] = {v}\nnp.putmask({y}, {v} > 0, {w.c()})",
        f"{y}[:] = {v}\nnp.put({y}, [0], {w.scalar()})",
        f"{y}[:] = {v}\nnp.place({y}, {v} > 0, [{w.c()}])",
        f"{y}[:] = {v}\nnp.subtract.at({y}, [0, 0], {w.scalar()})",
        f"{y}[:] = 1.0\nfor i in range({n}):\n    {y} *= np.cos({v}[i])",
        f"{y}[:] = {v}\n{y} += {w.like((n,))}\n{y} /= {w.p()}",
        f"{y}[:] = {v}\n{y} **= 2\n{y} -= {w.scalar()}",
        f"{y}[:] = 0\nnp.add.at({y}, {w.positions(n, 3)}, {w.shaped((3,))})",
        f"{y}[:] = {v}\n{y} @= np.eye({n})",
        f"{y}[:] = {v}\n{y} %= 1.3",
        f"{y}[:] = {v}\n{y}.flat[0] = {w.scalar()}",
        f"{y}[:] = {v}\nnp.cumsum({v}, out={y})",
        f"{y}[:] = {v}\nnp.maximum({y}, {w.scalar()}, out={y})",
        f"{y}[:] = [{', '.join([w.scalar()] * n)}]",
        f"{y}[:] = {v}\n{y}[{y}.argmax()] = {w.c()}",
        f"{y}[:] = {v}\n{y}[{w.slices(n)}] *= {w.scalar()}",
        f"def fill(into, value):\n    into[0] = value\n    into[-1] *= 2\n\n{y}[:] = {v}\nfill({y}, {w.scalar()})",
        f"def fill(into):\n    for part in into:\n        part += {w.scalar()}\n\n"
        f"{y}[:] = {v}\nfill([{y}[:1], {y}[1:]])",
        f"with np.errstate(all='ignore'):\n    {y}[:] = 1 / ({v} ** 2 + {w.p()})",
        f"def entries():\n    for i in range({n}):\n        yield {v}[i] * i\n\n{y}[:] = list(entries())",
        f"{y}[:] = {v}\nrows = [{y}[i : i + 1] for i in range({n})]\nrows[0][0] = {w.scalar()}\nrows[-1] += {w.c()}",
        f"{y}[:] = {v}\nwhole = np.zeros({n}, dtype=int)\nwhole[:] = {v} * 3\n{y} += 0.1 * whole",
        f"{y}[:] = {v}\nspare = {y}\nspare = spare + 1\nspare[0] = {w.scalar()}\n{y} *= spare",
        f"{y}[:] = {v}\nmask = {y} > {w.c()}\n{y}[mask] = {y}[mask] * {w.c()}\n{y}[~mask] += {w.c()}",
        f"{y}[:] = {v}\nnumber = np.zeros(())\nalias = number\nnumber += {w.scalar()}\n{y} *= alias",
        f"{y}[:] = {v}\nnumber = np.array({w.c()})\nnumber[...] = {w.scalar()}\n{y} -= number",
        f"{y}[:] = {v}\norder = np.argsort({y})\n{y}[order] = {v}",
        f"{y}[:] = {v}\n{y}[np.argmin({y})] = {w.scalar()}\n{y}[int(abs({w.scalar()})) % {n}] += {w.c()}",
    ]
    return f"{y} = {make}\n{w.choice(loops)}"


@family(2)
def filling_matrix(w: Writer) -> str:
    (y, z) = w.spare(2)
    n, m = w.integer(2, 3), w.integer(2, 3)
    v, u, a = w.shaped((m,)), w.shaped((n,)), w.shaped((n, m))
    make = w.choice(
        [
            f"np.zeros(({n}, {m}))",
            f"np.empty(({n}, {m}))",
            f"np.ones(({n}, {m}))",
            f"np.zeros(({n}, {m}), dtype=float)",
            f"np.full(({n}, {m}), {w.scalar()})",
            f"np.zeros_like({a})",
        ]
    )
    fills = [
        f"for i in range({n}):\n    for j in range({m}):\n        {y}[i, j] = {u}[i] * {v}[j] + i - j",
        f"for i in range({n}):\n    {y}[i] = {v} * {u}[i]",
        f"{y}[:] = {a}\n{y}[0] = {v}\n{y}[:, 0] += {u}",
        f"{y}[:] = {v}\n{y}[:, -1] = {w.scalar()}",
        f"{y}[...] = {u}[:, None]\n{y}[-1, ::-1] = {v}",
        f"{y}[:] = {a}\n{y}[{a} > {w.c()}] = {w.scalar()}",
        f"{y}[:] = 0.0\n{y}[{w.positions(n, 2)}, {w.positions(m, 2)}] = {w.shaped((2,))}",
        f"{y}[:] = {a}\n{y}[[0, 1]] = {y}[[1, 0]]",
        f"{y}[:] = {a}\n{y}[0, 0], {y}[-1, -1] = {y}[-1, -1], {y}[0, 0]",
        f"{y}[:] = {a}\n{z} = {y}[0]\n{z} *= {w.c()}\n{y}[1] -= {z}",
        f"{y}[:] = {a}\n{z} = {y}.T\n{z}[0] = {u}",
        f"{y}[:] = {a}\n{z} = {y}.ravel()\n{z}[1::2] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = {y}.reshape(-1)\n{z} += {w.c()}\n{z}[0] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = {y}[:, 1:]\n{z}[0][...] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = {y}[::-1]\n{z}[0, :] = {v}\n{z}[:, 0] *= {w.c()}",
        f"{y}[:] = {a}\n{z} = {y}.flatten()\n{z}[0] = {w.c()}\n{y}[0, 0] += {z}[1]",
        f"{y}[:] = {a}\nfor row in {y}:\n    row -= row.mean()",
        f"{y}[:] = {a}\nfor row in {y}:\n    row[0] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = {y}[1:][0][1:]\n{z} += {w.scalar()}",
        f"{y}[:] = {a}\nnp.fill_diagonal({y}, {w.scalar()})",
        f"{y}[:] = {a}\n{z} = {y}.swapaxes(0, 1)\n{z} *= {u}",
        f"{y}[:] = {a}\n{z} = np.expand_dims({y}[0], 0)\n{z} -= {v}",
        f"{y}[:] = {a}\nnp.add.at({y}, ([0, 0], [0, 1]), {w.scalar()})",
        f"{y}[:] = {a}\n{z} = {y}.copy()\n{z}[0] = 0.0\n{y} += {z}",
        f"{y}[:] = {a}\nnp.dot({u}, {a}, out={y}[0])",
        f"{y}[:] = {a}\nnp.add({y}, {v}, out={y})\nnp.tanh({y}, out={y})",
        f"{y}[:] = {a}\n{y}.T[0] = {u}\n{y}[:, [0, -1]] *= {w.c()}",
        f"{y}[:] = {a}\n{z} = {y}[...]\n{z}[{y} > 0] = {w.c()}",
        f"{y}[:] = {a}\n{y}[..., 0] = {u}\n{y}[None, 0] *= {w.c()}",
        f"{y}[:] = {a}\n{z} = np.split({y}, {n})\n{z}[0][0, 0] = {w.scalar()}",
        f"{y}[:] = {a}\n{y}[1:] += {y}[:-1]",
        f"{y}[:] = {a}\n{y}[:, ::-1] = {y}",
        f"{y}[:] = {a}\n{z} = {y}.T.ravel()\n{z}[0] = {w.c()}\n{y} *= {z}[1]",
        f"{y}[:] = {a}\n{y}.T.flat[1] = {w.scalar()}",
        f"{y}[:] = {a}\nnp.sum({a}, axis=0, out={y}[0])",
        f"{y}[:] = {a}\n{z} = {y}.diagonal().copy()\n{z}[0] += {w.c()}\n{y}[0, 0] = {z}[0]",
        f"{y}[:] = {a}\n{z} = np.moveaxis({y}, 0, 1)\n{z}[0, 0] = {w.scalar()}",
        f"{y}[:] = {a}\n{y}.sort(axis=0)",
        f"{y}[:] = {a}\n{z} = np.squeeze({y}[:1])\n{z}[0] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = np.flip({y})\n{z}[0] = {v}",
        f"{y}[:] = {a}\n{z} = np.atleast_2d({y})\n{z}[0] = {v}",
        f"{y}[:] = {a}\n{z} = np.asarray({y})\n{z} += {w.c()}",
        f"{y}[:] = {a}\n{z} = np.array({y})\n{z} += {w.c()}\n{y} *= {z}",
        f"{y}[:] = {a}\n{z} = {y}.astype(float)\n{z}[0] = {w.c()}\n{y} *= {z}",
        f"{y}[:] = {a}\n{z} = +{y}\n{z}[0] = {w.c()}\n{y} -= {z}",
        f"{y}[:] = {a}\n{z} = np.transpose({y})\n{z}[-1] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = np.ravel({y}.T)\n{z}[0] = {w.c()}\n{y} += {z}[0]",
        f"{y}[:] = {a}\n{z} = np.broadcast_to({y}[0], ({n}, {m}))\n{y}[0] *= {w.c()}\n{y} += {z}",
        f"{y}[:] = {a}\n{z} = {y}[[0, 1]]\n{z}[0] = {w.c()}\n{y} += {z}[1]",
        f"{y}[:] = {a}\n{z} = {y}.real\n{z}[0] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = np.real({y})\n{z}[0] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = np.reshape({y}, (1, -1))\n{z}[0, 1] = {w.scalar()}",
        f"{y}[:] = {a}\n{z} = {y}.squeeze()\n{z}[0] = {v}",
        f"{y}[:] = {a}\n{z} = np.rot90({y})\n{z}[0] = {w.c()}",
        f"{y}[:] = {a}\n{z} = {y}.transpose(1, 0)[::-1]\n{z}[0] += {u}\n{y}[0] = {v}",
        f"{y}[:] = {a}\n{z} = {y}[0]\n{y} = {y} * 2\n{z}[0] = {w.c()}\n{y}[1] += {z}",
        f"{y}[:] = {a}\n{z} = {y}\n{y} += {w.c()}\n{z} = {z} * {y}",
        f"{y}[:] = {a}\n{z} = {y}\n{y} = {y} + {w.c()}\n{z}[0] = {w.scalar()}",
        f"{y}[:] = {a}\nnp.copyto({y}, {w.c()}, where={y} > 0)",
        f"{y}[:] = {a}\nnp.copyto({y}[0], {v})",
        f"{y}[:] = {a}\nnp.einsum('ij->j', {a}, out={y}[0])",
        f"{y}[:] = {a}\nnp.matmul(np.eye({n}), {a}, out={y})",
    ]
    return f"{y} = {make}\n{w.choice(fills)}"


@family(0.8)
def stencil(w: Writer) -> str:
    """A few steps of a scheme that moves a field by views of itself."""
    (y,) = w.spare(1)
    v = w.array(1, least=3)
    (z,) = w.spare(1)
    steps = [
        f"{y}[1:-1] += 0.2 * ({y}[2:] - 2 * {y}[1:-1] + {y}[:-2])",
        f"{y} += 0.1 * np.sin({y})",
        f"{y}[0] = {y}[-1]\n    {y}[1:] = 0.5 * ({y}[1:] + {y}[:-1])",
        f"{z} = {y}.copy()\n    {y}[:-1] -= 0.3 * ({z}[1:] - {z}[:-1])",
        f"{y} = np.roll({y}, 1) * {w.c(0.3, 0.9)}",
        f"{y} = 0.7 * {y} + 0.2 * np.tanh({y}[::-1])",
    ]
    return f"{y} = {v}.copy()\nfor _ in range({w.integer(2, 4)}):\n    {w.choice(steps)}"


# --- families: paths
@family(2.5)
def branch(w: Writer) -> str:
    y = w.fresh()
    a = w.operand()
    one, two, three = w.expression(a), w.f(a), w.f(a)
    cond = w.condition()
    kinds = [
        f"if {cond}:\n    {y} = {one}\nelse:\n    {y} = {two}",
        f"{y} = {one} if {cond} else {two}",
        f"{y} = {a}\nif {cond}:\n    {y} = {one}",
        f"if {cond}:\n    {y} = {one}\nelif {w.condition()}:\n    {y} = {two}\nelse:\n    {y} = {three}",
        f"{y} = {two}\nif {cond}:\n    {y} += {w.c()}",
        f"{y} = [{two}, {three}][int({cond})]",
        f"{y} = ({cond}) * {enclosed(two)} + {a}",
        f"try:\n    assert {cond}\n    {y} = {one}\nexcept AssertionError:\n    {y} = {two}",
    ]
    return w.choice(kinds)


@family(2)
def loop(w: Writer) -> str:
    y, k = w.spare(2)
    s = w.scalar()
    v = w.array(1, least=2)
    b = w.shaped(w.shape(v))
    f = w.f("entry")
    kinds = [
        f"{y} = {s}\nwhile {w.p()} < abs({y}) < 1e6:\n    {y} = 0.6 * {y}",
        f"{y} = {s}\n{k} = 0\nwhile {k} < {w.integer(2, 4)} and {y} < 2:\n"
        f"    {y} = {y} + np.sin({y}) ** 2 + 0.1\n    {k} += 1",
        f"{y} = 0.0\nfor entry in {v}:\n    if entry < {w.c()}:\n        continue\n    {y} += {f}",
        f"{y} = 0\nfor entry in {v}:\n    {y} = {y} + {f}\n    if {y} > 1:\n        break",
        f"{y} = 1.0\nfor i in range(len({v})):\n    {y} *= np.cos({v}[i])",
        f"{y} = sum({f} for entry in {v})",
        f"{y} = sum([{f} for entry in {v}]) / len({v})",
        f"{y} = sum(p * q for p, q in zip({v}, {b}))",
        f"{y} = sum(map(lambda entry: {f}, {v}))",
        f"{y} = functools.reduce(lambda p, q: p * 0.5 + np.sin(q), {v})",
        f"{y} = max([{f} for entry in {v}])",
        f"{y} = 0.0\nfor i, entry in enumerate({v}):\n    {y} += (i + 1) * entry ** 2 / 3",
        f"{y} = {s}\nfor _ in range(3):\n    {y} = {y} - ({y} ** 3 - {w.p()}) / (3 * {y} ** 2 + 1)",
        f"{y} = {s}\nfor _ in range(min(int(abs({s}) * 2), 5) + 1):\n    {y} = np.sin({y}) + 0.2",
        f"{y} = []\nfor entry in {v}:\n    {y}.append({f})\n{k} = np.array({y})",
        f"{y} = {v}\nfor _ in range({w.integer(2, 3)}):\n    {y} = np.tanh({y} + {b})",
        f"{y} = {v}\nwhile {w.p()} < np.max(np.abs({y})) < 1e6:\n    {y} = {y} * 0.7",
        f"{y} = 0.0\nfor i in range(len({v})):\n    for j in range(i):\n        {y} += ({v}[i] - {v}[j]) ** 2 / 4",
        f"{y} = math.fsum({v})",
        f"{y} = math.prod(np.cos({v}))",
        f"{y} = 0.0\nfor entry in reversed({v}):\n    {y} = {y} * 0.5 + entry",
        f"{y} = {{}}\nfor i, entry in enumerate({v}):\n    {y}[i] = {f}\n{k} = {y}[0] + {y}[1]",
        f"{y} = sum((entry := q) * entry for q in {v})",
        f"{y} = np.sum([p * q for p in {v} for q in {b}]) / 9",
        f"{y} = np.mean([{f} for entry in {v}])",
        f"{y} = {s}\nif (half := {y} / 2) > {w.c()}:\n    {y} = half ** 2",
        f"{y} = math.dist({v}, {b} + 3)",
        f"{y} = {s}\nfor exponent in range(4):\n    {y} = {y} + {s} ** exponent / math.factorial(exponent)",
        f"{y} = [float(entry) for entry in {v}]\n{k} = {y}[0] * {y}[-1]",
        f"{y} = sorted({v})\n{k} = {y}[0] - 0.5 * {y}[-1]",
        f"{y} = {v}.tolist()\n{k} = {y}[0] * {y}[-1]",
        f"{y} = sum(entry for entry in {v} if entry > {w.c()}) + 0.0 * {s}",
    ]
    return w.choice(kinds)


@family(1.5)
def helper(w: Writer) -> str:
    known = [
        m.group(1) for piece in w.header if (m := re.match(r"(?:def |class \w+:.*\n\n\n)?([a-z]\w*_)\b", piece, re.S))
    ]
    if known and w.chance(0.6):
        name = w.choice(known)
    else:
        name = f"{w.choice(['smooth', 'gate', 'warp', 'squash', 'kernel', 'mix'])}{len(w.header)}_"
        text = w.choice(HELPERS).replace("{n}", name).replace("{N}", name.title().replace("_", ""))
        w.declare(w.fill(text))
    a = w.operand() if w.chance(0.3) else w.array()
    return f"{w.fresh()} = {name}({a})"


@family(0.8)
def local_function(w: Writer) -> str:
    y = w.fresh()
    (g,) = w.spare(1)
    a, b = w.operand(), w.scalar()
    body = w.f("t_")
    kinds = [
        f"def {g}(t_):\n    return {body} + {b}\n\n{y} = {g}({a})",
        f"{g} = lambda t_: {body} * {b}\n{y} = {g}({a})",
        f"def {g}(t_, k={b}):\n    t_ = t_ * k\n    return {body}\n\n{y} = {g}({a}) + {g}({a}, k={w.c()})",
        f"def {g}(*parts, gain={w.c()}):\n    return gain * sum(np.sum(t_) for t_ in parts)\n\n{y} = {g}({a}, {b})",
    ]
    return w.choice(kinds)


@family(0.8)
def integers(w: Writer) -> str:
    """Integers and booleans among the floats."""
    a, s = w.array(), w.scalar()
    n = math.prod(w.shape(a))
    k = w.constant(w.shape(a), "int")
    kinds = [
        f"{a} * np.arange({n}).reshape({w.shape(a)})",
        f"{a} ** {w.choice([2, 3])} * {k}",
        f"{k} / ({a} ** 2 + {w.p()})",
        f"{a} + {k}",
        f"({k} > 0) * {a}",
        f"np.where({k} > 0, {a}, 0)",
    ]
    kinds += [
        f"{a}.astype(int) * {w.c()} + {a}",
        f"np.int64(2) * {a}",
        f"{a} * np.float32(0.5)",
        f"{s} * len({a})",
        f"{a} * True",
        f"np.bincount([0, 1, 1, 2], minlength=3) * {s}",
    ]
    kinds += [
        f"({a} > 0).sum() * {s}",
        f"{a} * ({a} > 0).mean()",
        f"np.array([1, 2, 3]) * {s}",
        f"{k} @ {a}.T if {a}.ndim == 1 else {a} - {k}",
        f"2 ** ({a} * 0.3)",
        f"{s} // 1 + {s} % 1",
        f"int({s} * 4) * {s} / 5",
        f"{a} * np.sign({k})",
    ]
    return f"{w.fresh()} = {w.choice(kinds)}"


@family(0.25)
def single_precision(w: Writer) -> str:
    a = w.array()
    kinds = [
        f"{a}.astype(np.float32)",
        f"np.float32({w.c()}) * {a}",
        f"np.sin({a}.astype(np.float32)).astype(np.float64)",
        f"np.array({a}, dtype=np.float32) * {w.c()}",
        f"{w.constant(w.shape(a), 'float32')} * {a}",
        f"np.sum({a}, dtype=np.float32)",
    ]
    kinds += [
        f"np.zeros({w.shape(a)}, np.float32) + {a}",
        f"np.asarray({a}, dtype=np.float32) @ np.ones({w.shape(a)[-1]}, np.float32)",
    ]
    return f"{w.fresh()} = {w.choice(kinds)}"


@family(0.12)
def beyond(w: Writer) -> str:
    """What koubai does not trace: it must say so."""
    a, s = w.array(1, least=2), w.scalar()
    kinds = [
        f"np.unique({a})[0] * 1.0",
        f"{a}[np.lexsort(({a},))]",
        f"np.add.reduceat({a}, [0, 1])",
        f"np.histogram({a}, bins=3)[0] * {s}",
        f"np.polynomial.polynomial.polyval({w.c()}, {a})",
        f"{a}.view()",
        f"{a}[{s} > 0] * 1.0",
        f"np.trim_zeros({a})",
        f"float(np.array({a}.tolist(), dtype=object).sum())",
        f"np.frompyfunc(lambda v: v * v, 1, 1)({a}).astype(float)",
        f"np.frombuffer({a}.tobytes())",
        f"{s} * float(str({s}))",
        f"float(f'{{{s}:.1f}}') * {s}",
        f"{s} * {{0: 1.0, 1: 2.0}}[np.argmax({a}) % 2]",
        f"np.einsum({a}, [0], {a}, [0], [])",
    ]
    return f"{w.fresh()} = {w.choice(kinds)}"


# --- a whole program
def write(seed: int) -> Program:
    """Write the program of this seed."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return _write(Writer(seed))


def _write(w: Writer) -> Program:
    length = min(NODES, 2 + int(w.random.expovariate(1 / 9)))
    names, weights = zip(*((name, weight) for name, (_, weight) in FAMILIES.items()), strict=True)
    tries = 0
    while len(w.body) < length and tries < 6 * length:
        tries += 1
        chosen = w.random.choices(names, weights)[0]
        try:
            w.add(FAMILIES[chosen][0](w), chosen)
        except NoOperandError:
            continue
    loose = [n for n in w.names if n not in w.used and n not in ("x", "data")] or w.names[-1:]
    ends = loose[-5:]
    terms = []
    for name in ends:
        forms = [
            "np.sum({a})",
            "np.mean({a})",
            "{a}.sum()",
            "np.sum({a} ** 2)",
            "np.sum(np.sin({a}))",
            "{a}.ravel()[0]",
            "np.sum({a} * {c})",
            "np.linalg.norm({a} + 2)",
        ]
        forms = ["{a}.ravel()[0]", "{a}.ravel()[-1]"] if w.exact else forms
        forms = forms if w.is_array(name) else ["{a}", "{c} * {a}", "np.sin({a})", "{a} ** 2"][: 2 if w.exact else 4]
        terms.append(w.fill(w.choice(forms), a=name))
    closings = ["{}", "{}", "{}", "float({})", "np.tanh({}) + 0.1", "np.float64({})", "({}) ** 2 / 7"]
    closing = "{}" if w.exact else w.choice(closings)
    arrays = [piece.split(" = ")[0] for piece in w.header if re.match(r"[A-Z]\w* = np", piece)]
    closure = tuple(arrays) if arrays and w.chance(0.3) else ()
    return Program(
        w.seed, tuple(w.header), tuple(w.parameters), tuple(w.body), tuple(terms), closing, (w.points[0], w.points[1]),
        tuple(w.data), closure, tuple(w.families),
    )  # fmt: skip


# --- checking
FACTOR = 4.0  # backpropagation may be off by so many times the error that the adaptive difference states,
ROUNDING = 1e-11  # plus this much of the size of the gradient and the value
SINGLE = 3e-3  # where float32 is about, against the same program in float64
COARSE = 1e-4  # a difference less sure than this, relative to the gradient, says too little
ODD_POINTS = 3  # at which, besides the program's own, the executors are compared


class FailureError(Exception):
    """Something was silently wrong. ``kind`` says what, in a word."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass
class Outcome:
    """What became of one program: agreed, refused (TraceError), discarded (no sure difference), or failed."""

    seed: int
    what: str
    reason: str = ""
    ops: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    nodes: int = 0
    looks: set[str] = field(default_factory=set)  # what else was looked at: second derivatives, …
    graphs: collections.Counter[str] = field(default_factory=collections.Counter)  # compared, by executor


def flat(value: Any) -> Any:
    """Return a number, an array or a dict of them as one float64 vector."""
    parts = list(value.values()) if isinstance(value, dict) else [value]
    return np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in parts])


def moved(x: Any, step: Any) -> Any:
    """Return x + step, where step is flat, in the form of x."""
    if isinstance(x, dict):
        result, start = {}, 0
        for name, part in x.items():
            result[name] = moved(part, step[start : start + np.size(part)])
            start += np.size(part)
        return result
    return np.asarray(x, np.float64) + step.reshape(np.shape(x)) if np.ndim(x) else float(x + step[0])


def copied(x: Any) -> Any:
    """Return what the function itself is to be called with: a copy, and a NumPy number for a number."""
    if isinstance(x, dict):
        return {name: np.array(part)[()] if np.ndim(part) == 0 else part.copy() for name, part in x.items()}
    return x.copy() if isinstance(x, np.ndarray) else np.float64(x)


def same(a: Any, b: Any, tolerance: float) -> bool:
    a, b = flat(a), flat(b)
    return bool(np.all((np.abs(a - b) <= tolerance * (1 + np.abs(b).max())) | ((a != a) & (b != b)) | (a == b)))


class NotSureError(Exception):
    """The difference itself says that it can't tell."""


def nearby(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return f for differences: where it fails at a point that is not x, it has no value to compare with."""

    def g(x: Any) -> Any:
        try:
            return f(x)
        except (ArithmeticError, ValueError):
            raise
        except Exception as error:
            raise NotSureError(f"f itself fails near x: {type(error).__name__}") from None

    return g


def plain_difference(f: Callable[[float], float]) -> tuple[float, float]:
    """Return f'(0) and its error by Richardson's extrapolation from steps of moderate size, where they agree best."""
    found = []
    for h in (1e-2, 3e-3, 1e-3, 3e-4, 1e-4):
        wide, narrow = ((f(s) - f(-s)) / (2 * s) for s in (h, h / 2))
        found.append((narrow + (narrow - wide) / 3, abs(narrow - wide)))
    pairs = [(abs(a[0] - b[0]), b[0]) for a, b in itertools.pairwise(found)]
    error, value = min(pairs)
    return value, error


def hold(kind: str, given: Any, estimate: Any, size: float, single: bool) -> None:
    """Raise unless ``given`` is within the error of the estimate."""
    doubts = [text for text in estimate.warnings if "does not depend" not in text]
    if doubts:
        raise NotSureError(doubts[0].split(": ", 1)[-1])
    expected, error = flat(estimate.value), flat(estimate.error)
    scale = np.abs(expected).max() + size
    if not (error <= COARSE * max(scale, 1e-3)).all():
        raise NotSureError("coarse")
    allowed = FACTOR * error + (SINGLE * (1 + scale) if single else ROUNDING * scale)
    off = np.abs(flat(given) - expected)
    if not (off <= allowed).all():
        i = int(np.argmax(np.where(np.isnan(off), np.inf, off - allowed)))
        raise FailureError(
            kind, f"component {i}: backprop {flat(given)[i]!r}, difference {expected[i]!r} ± {error[i]:.1e}"
        )


def agrees(given: float, f: Callable[[float], float]) -> bool:
    """Does a plain difference at moderate steps side with backpropagation against the adaptive one?"""
    expected, error = plain_difference(f)
    sharp = error <= 1e-3 * abs(expected) + 1e-9
    return bool(sharp and abs(given - expected) <= 10 * error + 1e-9 + 1e-6 * abs(expected))


def kinks(f: Any, x: Any, data: Sequence[Any]) -> bool:
    """Does the graph say that x sits on a kink?"""
    return bool(record_call(f, Leaves.of(f, (x, *data), {}, (0,)), scalar=True).graph.kinks)


def check(program: Program, machine: Sequence[str] = tuple(MACHINE)) -> Outcome:
    """Run one program through everything that could be silently wrong. machine: the executors of machine code."""
    outcome = Outcome(program.seed, "agreed", names=names_in(program.source))
    doubts: list[str] = []

    def watched(*args: Any, **kwargs: Any) -> bool:
        try:
            return cross_check(*args, **kwargs)
        except (GradientError, TraceError) as error:
            if "derivative is lost" in str(error):  # said aloud, as it should be
                raise
            doubts.append(f"{type(error).__name__}: {error}")
            return True

    paths.cross_check = watched  # the engine alone must be right, not only together with its own check
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            _check(program, outcome, machine)
    except (GradientError, TraceError) as error:
        outcome.what, outcome.reason = "refused", str(error)
    except NotSureError as error:
        outcome.what, outcome.reason = "discarded", str(error)
    except FailureError as error:
        outcome.what, outcome.reason = "failed", str(error)
    except Exception as error:
        outcome.what = "failed"
        place = traceback.extract_tb(error.__traceback__)[-1]
        file = place.filename.rsplit("/", 1)[-1]
        outcome.reason = f"{type(error).__name__}: {error} ({file}:{place.lineno} {place.name})"
    finally:
        paths.cross_check = cross_check
    if doubts:
        outcome.what, outcome.reason = _weighed(program, doubts[0])
    return outcome


def _weighed(program: Program, doubt: str) -> tuple[str, str]:
    """Return what an alarm of the library's cross-check means: a failure, unless the graph names a kink at a point.

    There the chain rule may miss a derivative that exists (the larger of two minima that tie), and the alarm is right.
    """
    f, points, data, _ = program.load()
    if any(kinks(f, x, data) for x in points):
        return "discarded", "the library's cross-check refuses a point that sits on a kink"
    return "failed", f"cross-check: {doubt}"


def _check(program: Program, outcome: Outcome, machine: Sequence[str]) -> None:
    single = program.single
    f, (first, second), data, module = program.load()
    plain = [f(copied(x), *data) for x in (first, second)]
    if any(np.ndim(value) for value in plain):
        raise NotSureError("another branch returns an array")
    if not all(np.isfinite(float(value)) for value in plain):
        raise NotSureError("not finite")
    before = [copied(first), *[d.copy() for d in data]]
    run = value_and_grad(f, method="backprop")
    value, gradient = run(first, *data)
    if any(not np.array_equal(flat(a), flat(b)) for a, b in zip(before, [first, *data], strict=True)):
        raise FailureError("argument changed", "x or data")
    close = 1e-4 if single else 1e-11

    # 1: the value, and its type
    if not same(value, plain[0], close):
        raise FailureError("value", f"graph {value!r}, function {plain[0]!r}")
    wanted = np.asarray(plain[0]).dtype
    if wanted.kind == "f" and np.asarray(value).dtype != wanted:
        raise FailureError("dtype", f"graph {np.asarray(value).dtype}, function {wanted}")
    if np.shape(first) != np.shape(gradient) or isinstance(first, dict) is not isinstance(gradient, dict):
        raise FailureError("form", f"gradient of shape {np.shape(gradient)} for x of shape {np.shape(first)}")
    at_kink = _check_graph(outcome, f, first, data, close, machine)

    # 2: the gradient, against the adaptive difference; at a kink that the graph names, any subgradient is right
    twin, twin_points, twin_data, _ = program.load(double=True) if single else (f, (first, second), data, None)
    reference = numerical_gradient(nearby(lambda x: twin(x, *twin_data)), twin_points[0])
    try:
        hold("gradient", gradient, reference, abs(float(value)), single)
    except FailureError:
        if at_kink:
            raise NotSureError("the graph says that the point sits on a kink") from None
        for i, unit in enumerate(np.eye(flat(first).size)):
            if not agrees(flat(gradient)[i], lambda t, unit=unit: twin(moved(twin_points[0], t * unit), *twin_data)):
                raise
        raise NotSureError("the adaptive difference is wrong, plain ones side with backpropagation") from None

    # 3: another point, perhaps on another path; then the first one again
    random_numbers = np.random.default_rng(program.seed)
    direction = random_numbers.choice([-1.0, 1.0], flat(first).size) * random_numbers.uniform(
        0.5, 1.0, flat(first).size
    )
    other_value, other = run(second, *data)
    if not same(other_value, plain[1], close):
        raise FailureError("value elsewhere", f"graph {other_value!r}, function {plain[1]!r}")
    along = nearby(lambda t: twin(moved(twin_points[1], t * direction), *twin_data))
    try:
        hold("gradient elsewhere", flat(other) @ direction, derivative(along, 0.0), abs(float(other_value)), single)
    except FailureError:
        if kinks(f, second, data):
            raise NotSureError("the graph says that the point sits on a kink") from None
        if not agrees(flat(other) @ direction, along):
            raise
        raise NotSureError("the adaptive difference is wrong, plain ones side with backpropagation") from None
    again_value, again = run(first, *data)
    if float(again_value) != float(value) or not np.array_equal(flat(again), flat(gradient), equal_nan=True):
        raise FailureError("not repeatable", f"{value!r} then {again_value!r}")

    # 7: second derivatives
    if program.seed % 5 == 0 and not single and not at_kink:
        outcome.looks.add("second derivative")
        _check_second(outcome, f, run, first, data, direction, random_numbers)

    # stale data: the arrays outside the function are turned round in place
    arrays = [v for v in module.values() if isinstance(v, np.ndarray)]
    if program.seed % 3 == 0 and arrays and not single:
        for array in arrays:
            array[...] = array[::-1].copy()
        try:
            new = float(f(copied(first), *data))
        except (
            ArithmeticError,
            ValueError,
            IndexError,
            TypeError,
        ):  # on another branch
            return
        if math.isfinite(new):
            outcome.looks.add("data changed in place")
            now, there = run(first, *data)
            if not same(now, new, close):
                raise FailureError("stale data", f"graph {now!r}, function {new!r}")
            fresh = value_and_grad(f, method="backprop")(first, *data)[1]
            if not same(there, fresh, close):
                raise FailureError("stale gradient", f"{there!r}, traced anew {fresh!r}")


def _check_graph(outcome: Outcome, f: Any, x: Any, data: Sequence[Any], close: float, machine: Sequence[str]) -> bool:
    """Check that the executors and the printed source agree with the meaning of the graph; return: is it at a kink?"""
    leaves = Leaves.of(f, (x, *data), {}, (0,))
    graph = record_call(f, leaves, scalar=True).graph
    both = reverse(graph, leaves.active)
    outcome.nodes = len(graph.nodes)
    outcome.ops = {node.op.name for node in both.nodes}
    if graph.guards:
        outcome.looks.add("guards")
    meaning = evaluate(both, *leaves.values)
    namespace: dict[str, Any] = {}
    for kind, graph_, results in (("source", graph, meaning[:1]), ("gradient source", both, meaning)):
        text = graph_.source()
        exec(compile(text, f"<{kind}>", "exec"), namespace)
        pasted = namespace[graph_.name](*[copied(v) for v in leaves.values])
        for a, b in zip(pasted if len(results) > 1 else (pasted,), results, strict=True):
            if not same(a, b, close):
                raise FailureError(kind, f"{a!r}, evaluate {b!r}")
    compare_executors(both, leaves.values, outcome, machine)
    return bool(graph.kinks)


def compare_executors(
    graph: Graph, given: Sequence[Any], outcome: Outcome, machine: Sequence[str] = tuple(MACHINE)
) -> None:
    """Compare all executors where the graph was traced, and where its arguments are not finite, or hardly numbers."""
    executors = Agreement(graph, outcome.graphs, machine)
    for point in (given, *odd_points(given, ODD_POINTS, outcome.seed)):
        wrong = executors.look(point, outcome.seed)
        if wrong:
            name = wrong.partition(":")[0]
            raise FailureError("executors", f"{wrong}\nat {point}\n{executors.smallest(point, name, outcome.seed)}")


def _check_second(
    outcome: Outcome, f: Any, run: Any, x: Any, data: Sequence[Any], direction: Any, random_numbers: Any
) -> None:
    other = random_numbers.uniform(-1.0, 1.0, direction.size)
    zero = moved(x, -flat(x))
    product = hvp(f)(x, moved(zero, direction), *data)

    def along(t: float) -> float:
        return float(flat(run(moved(x, t * direction), *data)[1]) @ other)

    size = float(np.abs(flat(run(x, *data)[1])).max())
    try:
        hold("second derivative", flat(product) @ other, derivative(along, 0.0), size, False)
    except NotSureError:  # a difference of the gradient asks for more smoothness than f has to have
        return
    except FailureError:
        if not agrees(flat(product) @ other, along):
            raise
        outcome.looks.add("adaptive second difference wrong")


def names_in(source: str) -> set[str]:
    """Return the NumPy (and math and scipy) names and methods that a program uses."""
    names = set(re.findall(r"\b(?:np|math|special)\.[a-z_]\w*(?:\.[a-z_]\w*)*", source))
    methods = """
    sum mean max min var std prod cumsum dot ravel reshape flatten copy astype take repeat trace diagonal sort argsort
    fill T mT flat item tolist
    """
    return names | {f".{m}" for m in methods.split() if re.search(rf"\w\.{m}\b", re.sub(r"\bnp\.\w+", "", source))}


# --- shrinking
def shrink(program: Program, tries: int = 400) -> Program:
    """Return a shorter program that fails in the same way."""
    kind = check(program).reason.split(":")[0]

    def fails(candidate: Program) -> bool:
        try:
            candidate.load()[0]
        except Exception:
            return False
        found = check(candidate)
        return found.what == "failed" and found.reason.split(":")[0] == kind

    def candidates(p: Program) -> Iterator[Program]:
        """Yield what might do as well, the greatest cuts first."""
        for i in range(len(p.terms)):
            if len(p.terms) > 1:
                yield replace(p, terms=(p.terms[i],))
        for i in range(len(p.terms)):
            if len(p.terms) > 2:
                yield replace(p, terms=p.terms[:i] + p.terms[i + 1 :])
        width = len(p.body) // 2
        while width >= 1:
            for i in range(len(p.body) - width, -1, -width):
                yield replace(p, body=p.body[:i] + p.body[i + width :])
            width //= 2
        if p.closing != "{}":
            yield replace(p, closing="{}")
        if p.closure:
            yield replace(p, closure=())
        width = len(p.header)
        while width >= 1:
            for i in range(len(p.header) - width, -1, -width):
                yield replace(p, header=p.header[:i] + p.header[i + width :])
            width //= 2
        for i in range(len(p.body)):
            lines = p.body[i].split("\n")
            for j in range(len(lines) if len(lines) > 1 else 0):
                yield replace(p, body=(*p.body[:i], "\n".join(lines[:j] + lines[j + 1 :]), *p.body[i + 1 :]))

    progress = True
    while progress and tries > 0:
        progress = False
        for candidate in candidates(program):
            tries -= 1
            if tries <= 0:
                break
            if candidate != program and fails(candidate):
                program, progress = candidate, True
                break
    return program


# --- many programs
def examine(seed: int, machine: Sequence[str] = tuple(MACHINE)) -> Outcome:
    """Write and check the program of a seed."""
    return check(write(seed), machine)


def examine_vectors(seed: int, kind: str = "vectors") -> Outcome:
    """Compare the executors on the graphs of vectors of a seed; where there are "few", no loops over them."""
    outcome = Outcome(seed, "agreed")
    vectors = Vectors(seed, kind)
    try:
        for graph in vectors.graphs():
            compare_executors(graph, vectors.given, outcome, ["native"] if kind == "few" else tuple(MACHINE))
    except FailureError as error:
        outcome.what, outcome.reason = "failed", str(error)
    return outcome


@dataclass
class Statistics:
    """What became of many programs."""

    outcomes: list[Outcome] = field(default_factory=list)

    def count(self, what: str) -> int:
        return sum(o.what == what for o in self.outcomes)

    def share(self, what: str) -> float:
        return self.count(what) / max(1, len(self.outcomes))

    @property
    def failures(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.what == "failed"]

    def reasons(self, what: str) -> list[tuple[str, int, int]]:
        """Return (reason without its numbers, how often, one seed)."""
        found: dict[str, list[int]] = collections.defaultdict(list)
        for o in self.outcomes:
            if o.what == what:
                text = re.sub(r"^<program \d+>:\d+: ", "", o.reason)
                found[re.sub(r"-?\d[\d.e+-]*|array\(.*?\)", "#", text)[:170]].append(o.seed)
        return sorted(((text, len(seeds), seeds[0]) for text, seeds in found.items()), key=lambda row: -row[1])

    def __str__(self) -> str:
        total = len(self.outcomes)
        lines = [f"{total} programs"]
        for what in ("agreed", "refused", "discarded", "failed"):
            lines.append(f"  {what:10} {self.count(what):6}  {self.share(what):7.2%}")
            if what != "agreed":
                lines += [f"      {n:5}  {text}  (seed {seed})" for text, n, seed in self.reasons(what)]
        looks = collections.Counter(look for o in self.outcomes for look in o.looks)
        lines.append("also looked at: " + ", ".join(f"{look} {n}" for look, n in sorted(looks.items())))
        graphs: collections.Counter[str] = sum((o.graphs for o in self.outcomes), collections.Counter())
        lines.append("graphs compared: " + ", ".join(f"{name} {n}" for name, n in graphs.items()))
        nodes = sorted(o.nodes for o in self.outcomes if o.nodes)
        if nodes:
            lines.append(f"graph nodes: median {nodes[len(nodes) // 2]}, largest {nodes[-1]}")
        return "\n".join(lines)

    def coverage(self) -> str:
        """Return which primitives and which NumPy names the programs used."""
        from koubai.graph.ops import OPS

        ops = collections.Counter(op for o in self.outcomes for op in o.ops)
        names = collections.Counter(name for o in self.outcomes if o.what == "agreed" for name in o.names)
        refused = collections.Counter(name for o in self.outcomes for name in o.names)
        return "\n".join(
            [
                f"primitives used: {len(set(ops) & set(OPS))} of {len(OPS)}",
                "  not used: " + ", ".join(sorted(set(OPS) - set(ops))),
                f"names in programs that agreed: {len(names)}",
                "  " + ", ".join(f"{name} {n}" for name, n in sorted(names.items())),
                "names only in programs that did not: " + ", ".join(sorted(set(refused) - set(names))),
            ]
        )


def examine_all(
    seeds: Sequence[int], jobs: int = 1, show: bool = False, look: Callable[[int], Outcome] = examine
) -> Statistics:
    """Return what became of the seeds. look: writes what a seed stands for, and checks it."""
    statistics = Statistics()
    started = time.perf_counter()

    def take(outcomes: Any) -> Statistics:
        for i, outcome in enumerate(outcomes, 1):
            statistics.outcomes.append(outcome)
            if show and (outcome.what == "failed" or i % 500 == 0):
                passed = time.perf_counter() - started
                text = f"seed {outcome.seed}: {outcome.reason}" if outcome.what == "failed" else ""
                print(f"[{i}/{len(seeds)} {passed:.0f} s] {text}", file=sys.stderr, flush=True)
        return statistics

    if jobs == 1:
        return take(map(look, seeds))
    with multiprocessing.Pool(jobs) as pool:
        return take(pool.imap_unordered(look, seeds, chunksize=10))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Hold backpropagation against differences on random NumPy programs.")
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--vectors", type=int, default=0, help="so many pairs of graphs of vectors for the executors")
    parser.add_argument("--rows", type=int, default=0, help="the same, of a matrix and what is spread over it")
    parser.add_argument("--few", type=int, default=0, help="the same, of a few numbers")
    parser.add_argument("--seed", type=int, default=0, help="the first program is number seed * 1,000,000")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--show", type=int, metavar="NUMBER", help="print one program and what becomes of it")
    parser.add_argument(
        "--shrink", type=int, metavar="NUMBER", help="print the shortest program that fails like this one"
    )
    parser.add_argument("--coverage", action="store_true", help="list the primitives and NumPy names used")
    given = parser.parse_args(arguments)
    if given.show is not None or given.shrink is not None:
        program = write(given.show if given.shrink is None else given.shrink)
        if given.shrink is not None:
            program = shrink(program)
        outcome = check(program)
        print(program.source)
        print(f"\nx = {program.points[0]}\nelsewhere = {program.points[1]}\ndata = [{', '.join(program.data)}]")
        print(f"# {outcome.what}: {outcome.reason}")
        return int(outcome.what == "failed")
    first = given.seed * 1_000_000
    graphs = Statistics()
    for kind in ("vectors", "rows", "few"):
        seeds = range(first, first + getattr(given, kind))
        graphs.outcomes += examine_all(seeds, given.jobs, True, functools.partial(examine_vectors, kind=kind)).outcomes
    if graphs.outcomes:
        print(f"vectors: {graphs}")
    statistics = examine_all(range(first, first + given.programs), given.jobs, show=True)
    print(statistics)
    if given.coverage:
        print(statistics.coverage())
    return int(
        bool(statistics.failures or graphs.failures)
        or statistics.share("refused") >= 0.03
        or statistics.share("discarded") >= 0.15
    )


if __name__ == "__main__":
    sys.exit(main())
