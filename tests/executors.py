"""Every executor against `evaluate`, which is what a graph means, also where numbers are not finite, or hardly numbers.

Where only arithmetic stands between input and output, the bits have to be the same, signs of zeros included. Elsewhere
a difference has to be explained by what is documented: functions within 2 ulp of the exact result (NumPy's own stay
within 4), sums added in another order. What that amounts to at the end of a graph is found by doing it: `evaluate` runs
again and again with every such result moved at random within its bound. NaN and ±inf must stand where they do in NumPy,
unless these runs too put them elsewhere.

`Vectors` writes graphs that machine code takes.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import random
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
from support.native import compile_native

from koubai.errors import TraceError
from koubai.execute import choose, library, llvm, loops, regions, vectormath
from koubai.execute.arrays import compile_arrays
from koubai.execute.elements import NotLowerable
from koubai.execute.floats import compile_floats
from koubai.execute.interpreter import interpret
from koubai.execute.loops import compile_loops
from koubai.graph.call import trace
from koubai.graph.graph import INPUT, Graph
from koubai.graph.ops import OPS, UFUNCS

EXACT = frozenset(name for name, op in OPS.items() if op.exact)  # the same bits in every executor
EXTREMES = ("maximum", "minimum", "fmax", "fmin", "max", "min")  # of two zeros NumPy returns one or the other
ULP = 6.0  # between two results of a function: 2 of koubai's, 4 of NumPy's
REORDERED = ("loops", "regions")  # the executors whose sums have an order of their own
MACHINE = {"native": compile_native, "loops": compile_loops, "regions": choose._compile_rows}
RUNS = 8, 100  # with results moved at random: at first, and where a difference is not explained by them
FACTOR = 4.0  # times the widest of these runs' differences


def ulps(x: Any) -> Any:
    return np.spacing(np.abs(x))


class Blurred:
    """`evaluate`, in which each result that is not promised to the bit is moved at random within its bound.

    values: the outputs; holds: would the guards let this pass?
    """

    def __init__(self, graph: Graph, given: Sequence[Any], random: np.random.Generator | None, reordered: bool) -> None:
        self.random, self.reordered = random, reordered
        nodes: list[Any] = [None] * len(graph.nodes)
        for i, value in zip(graph.inputs, given, strict=True):
            nodes[i] = value
        with np.errstate(all="ignore"):
            for i, node in enumerate(graph.nodes):
                if node.op is not INPUT:
                    operands = [nodes[j] for j in node.inputs]
                    nodes[i] = node.op.call(*operands, **node.params)
                    if random is not None and node.inputs and not node.op.exact:
                        nodes[i] = self._moved(node, operands, nodes[i])
        self.values = [nodes[i] for i in graph.outputs]
        self.holds = all(guard.holds(nodes[guard.node]) for guard in graph.guards)

    def _moved(self, node: Any, operands: Sequence[Any], result: Any) -> Any:
        name = node.op.name
        if isinstance(result, tuple) or np.asarray(result).dtype.kind not in "fc" or not np.size(result):
            return result
        if name in EXTREMES:
            return np.where(result == 0, np.copysign(result, self._between(result)), result)[()].astype(result.dtype)
        if name == "sum" and not self.reordered and np.ndim(operands[0]) == 1:
            return result  # the order of a sum of rows depends on how they lie in memory
        if name in ("sum", "matmul"):
            return self._summed(name, operands, node.params, result)
        if name == "prod":
            return self._multiplied(operands[0], node.params, result)
        size = result if node.op.elementwise else np.max(np.abs(result), where=np.isfinite(result), initial=0.0)
        if name.startswith("logaddexp"):  # where it is nearly 0, two large terms cancel
            size = functools.reduce(np.maximum, map(np.abs, operands), np.abs(result))
        width = np.where(np.isfinite(result), ULP * ulps(size), 0.0)
        return (result + width * self._between(result)).astype(result.dtype)[()]

    def _summed(self, name: str, operands: Sequence[Any], params: dict[str, Any], result: Any) -> Any:
        """Move a sum by what another order may make of it: to anything, where a part of it may overflow."""
        sizes = [np.where(np.isfinite(x), np.abs(x), 0) for x in operands]
        total = np.sum(sizes[0], **params) if name == "sum" else np.matmul(*sizes)
        terms = np.log2(max(2, np.size(operands[0]) / max(1, np.size(result))))
        width = np.asarray(total * np.finfo(result.dtype).eps, result.dtype) * (2 + terms)
        anything = self.random.choice([np.nan, np.inf, -np.inf, 0.0], np.shape(result))
        moved = result + width * self._between(result)
        return np.where(np.isfinite(total), moved, anything).astype(result.dtype)[()]

    def _multiplied(self, x: Any, params: dict[str, Any], result: Any) -> Any:
        """Move a product in the same way: where a part of it may leave the range of numbers, to anything."""
        sizes = np.where(np.isfinite(x) & (x != 0), np.abs(x), 1)
        parts = [np.prod(bound(sizes, 1), **params) for bound in (np.minimum, np.maximum)]
        inside = (parts[0] >= np.finfo(result.dtype).tiny) & np.isfinite(parts[1])
        width = np.where(np.isfinite(result), ulps(result), 0) * np.size(x) / max(1, np.size(result))
        anything = self.random.choice([np.nan, np.inf, -np.inf, 0.0], np.shape(result))
        return np.where(inside, result + width * self._between(result), anything).astype(result.dtype)[()]

    def _between(self, like: Any) -> Any:
        return self.random.uniform(-1.0, 1.0, np.shape(like))


def same_bits(a: Any, b: Any) -> Any:
    """Return where two arrays are the same, zeros' signs included; one NaN is as good as another."""
    if a.dtype.kind not in "fc":
        return a == b
    if a.dtype.kind == "c":
        return same_bits(a.real, b.real) & same_bits(a.imag, b.imag)
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))


def kind(x: Any) -> Any:
    """Return a number for what each element is: NaN, inf, -inf, or finite."""
    return np.where(np.isnan(x), 2, np.where(np.isinf(x), np.sign(x.real), 0))


def explained(found: Any, expected: Any, runs: Sequence[Any]) -> Any:
    """Return where a difference is one that the runs with moved results have too."""
    others = np.array([np.asarray(run).ravel() for run in runs])
    found, expected = np.ravel(found), np.ravel(expected)
    if expected.dtype.kind not in "fc":
        return (others != expected).any(axis=0)
    alike = kind(expected) == kind(found)
    with np.errstate(all="ignore"):
        apart = np.abs(others - expected)
        spread = np.max(np.where(np.isfinite(apart), apart, 0), axis=0)
        near = (np.abs(found - expected) <= FACTOR * spread + 4 * ulps(expected.real)) | (kind(expected) != 0)
    moved = ~same_bits(others, expected[None]).all(axis=0)
    wild = (kind(others) != kind(expected)).any(axis=0)  # a sum that overflows in one order and not in another
    return (alike & near & moved) | wild


class Agreement:
    """All executors of one graph. counts: how many graphs each has run, by its name."""

    def __init__(
        self, graph: Graph, counts: collections.Counter[str] | None = None, machine: Sequence[str] = tuple(MACHINE)
    ) -> None:
        """machine: the executors in machine code that are wanted."""
        self.graph = graph
        self.executors = dict(compiled(graph, machine))
        if counts is not None:
            counts.update(self.executors.keys())

    def look(self, given: Sequence[Any], seed: int = 0) -> str:
        """Run all executors on these arguments; return what is wrong, or nothing."""
        try:
            plain = Blurred(self.graph, given, None, False)
        except Exception:  # a guard fails, and what comes after it makes no sense
            return ""
        for name, run in self.executors.items():
            wrong = self._wrong(name, run(*given), given, plain, seed)
            if wrong:
                return f"{name}: {wrong}"
        return ""

    def _wrong(self, name: str, results: Any, given: Sequence[Any], plain: Blurred, seed: int) -> str:
        if results is None:
            results, at_fault = plain.values, [plain.holds]
        else:
            at_fault = [not plain.holds]
            for a, b in zip(results, plain.values, strict=True):
                a, b = np.asarray(a), np.asarray(b)
                if a.shape != b.shape or a.dtype != b.dtype:
                    return f"{a.dtype}{a.shape} instead of {b.dtype}{b.shape}"
                at_fault.append(not same_bits(a, b).all())
        if not any(at_fault):
            return ""
        random = np.random.default_rng(seed)
        runs: list[Blurred] = []
        for more in RUNS:
            for _ in range(more):
                with contextlib.suppress(np.linalg.LinAlgError):
                    runs.append(Blurred(self.graph, given, random, name in REORDERED))
            if at_fault[0]:
                if any(run.holds != plain.holds for run in runs):
                    return ""
                continue
            rest = []
            for k, (a, b) in enumerate(zip(results, plain.values, strict=True)):
                a, b = np.ravel(a), np.ravel(b)
                bad = ~(same_bits(a, b) | explained(a, b, [run.values[k] for run in runs]))
                rest += [(k, i, a[i], b[i]) for i in np.flatnonzero(bad)]
            if not rest:
                return ""
        if at_fault[0]:
            return "a guard that holds is said to fail" if plain.holds else "a guard that fails is said to hold"
        k, i, a, b = rest[0]
        return f"output {k}, element {i}: {a!r}, evaluate {b!r} ({len(rest)} elements differ)"

    def smallest(self, given: Sequence[Any], name: str, seed: int = 0) -> str:
        """Return the first node on which an executor goes wrong, as NumPy source."""
        for i, node in enumerate(self.graph.nodes):
            if not node.inputs or node.dtype is None:
                continue
            part = Graph.pruned(self.graph.nodes, self.graph.inputs, [i])
            try:
                found = Agreement(part)
                found.executors = {name: found.executors[name]}
                if wrong := found.look(given, seed):
                    return f"{part.source()}\n{wrong}"
            except Exception:
                continue
        return self.graph.source()


def compiled(graph: Graph, machine: Sequence[str]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Return the executors that take the graph, by name, however little they would gain."""
    arrays = compile_arrays(graph)
    yield "numpy", arrays
    yield "interpreter", interpret(graph)
    floats = compile_floats(graph, arrays)
    if floats is not None:
        yield "floats", floats
    for name in machine if library.available() else ():
        with (
            contextlib.suppress(NotLowerable),
            mock.patch.object(loops, "SHARE", 0),
            mock.patch.object(regions, "LEAST", 2),
        ):
            yield name, MACHINE[name](graph)


def odd_numbers(dtype: Any) -> Any:
    """Return numbers at which something may go wrong."""
    of = np.finfo(dtype)
    numbers = [np.nan, np.inf, -np.inf, 0.0, -0.0, of.smallest_subnormal, -of.tiny / 3, of.tiny, of.max, -of.max / 2]
    numbers += [np.sqrt(of.max), -np.sqrt(of.tiny), 1 / of.eps, -1 / of.eps, np.log(of.max), np.log(of.tiny), 1.0, -1.0]
    return np.array([*numbers, 0.5, 2.0, 100.5, -3.25], dtype)


def odd_points(given: Sequence[Any], count: int, seed: int) -> Iterator[list[Any]]:
    """Return the arguments with some of their floats replaced by odd numbers."""
    random = np.random.default_rng(seed)
    for k in range(count):
        point = []
        for value in given:
            array = np.asarray(value)
            if array.dtype.kind != "f":
                point.append(value)
                continue
            odd = random.choice(odd_numbers(array.dtype), array.shape)
            chosen = random.uniform(size=array.shape) < (0.15, 0.5, 0.05)[k % 3]
            moved = np.where(chosen, odd, array).astype(array.dtype)
            point.append(moved if array.shape else type(value)(moved[()]))
        yield point


# -- graphs that machine code takes -----------------------------------------------------------------------------------

WRITTEN_OUT = {name for name, op in OPS.items() if op.lower is not None and op.domain}
CODED = [
    name for name in sorted({*llvm._EMIT, *vectormath.FUNCTIONS, *WRITTEN_OUT}) if getattr(np, name, None) in UFUNCS
]
LARGEST = 1e3  # no value of a graph's is larger where it is traced


NUMBERS = (
    *("{a} * {c} - {b}", "{a} + {b} * {c}", "{a} / ({b} * {b} + {c})", "{a} ** 2", "{a} ** 3", "-{a} * {b}"),
    *("1 / ({c} + np.abs({a}))", "np.where({a} > {b}, {a}, {c} * {b})", "({a} > {c}) * {b}", "{a} - {a}"),
    *(
        "np.where(({a} > 0) & ({b} < {c}), {a}, -{b})",
        "np.where(np.isfinite({a}), {a}, 0.0)",
        "({a} * {a} + {c}) ** -2",
    ),
    *("(np.abs({a}) + {c}) ** np.minimum({b}, 2)", "({a} * {a} + {c}) ** 0.5", "{a} * 0.0 + {b} * -0.0"),
    *(
        "np.where({a} == {b}, {c}, {a})",
        "np.where(~({a} <= {b}) | ({a} > {c}), {b}, {a})",
        "(np.abs({a}) + {c}) ** 1.5",
    ),
    "{a} * ({b} != {c})",
)
REDUCED = (
    *("{a} - np.sum({b}) * 0.1", "np.sum({a} * {b})", "np.mean({a})", "np.max({a}) - {b}", "{a} - np.min({a})"),
    *("np.prod({c} + 0.001 * {a})", "np.sum({a} ** 2) * {c}", "{a} / (np.sum(np.abs({a})) + {c})", "{a}[0] * {b}"),
    *("np.where(np.any({a} > {c}), {b}, -{b})", "np.where(np.all({a} < {c}), {b}, 2 * {b})", "np.max(np.abs({a}))"),
    *("np.log(np.sum(np.exp({a} - np.max({a}))))", "np.sum({a}[::2])", "np.sum(np.where({a} > 0, {a}, 0))"),
    "{a}[-1] + {b}",
)
MOVED = (
    *("{v} = {a}[1:] - {a}[:-1]", "{v} = {a}[::-1] * {b}", "{v} = {a}[::2]", "{v} = {a}[1:]", "{v} = {a}[:-1] * {c}"),
    *("{v} = np.concatenate([{a}[1:], {a}[:1] * {c}])", "{v} = np.append({a}, {c})", "{v} = {a}[::-2]"),
    *("{v} = np.zeros_like({a}); {v}[1:] = {a}[:-1]; {v}[0] += {a}[-1]", "{v} = {a}[1::2] * {a}[:-1:2]"),
    *("{v} = {a}.copy(); {v}[::2] *= {c}; {v} += {b}", "{v} = {a}.copy(); {v}[:-1] += {a}[1:]"),
    *("{v} = np.zeros_like({a}); {v}[:] = {b}; {v}[-1] = {c}", "{v} = np.concatenate([{a}, {a}[::-1]])"),
    *("{v} = {a}.copy(); {v}[{a} > {c}] = 0.5", "{v} = {a}.reshape(-1, 1)[:, 0] * {b}"),
)


ROWS = (
    *("{a} - np.sum({b}, axis=-1, keepdims=True)", "{a} - np.mean({a}, axis=0)", "np.max({a}, axis=1, keepdims=True)"),
    *("np.sum({a} * {b}, axis=0)", "np.sum({a}, axis=1)", "{a} / (np.sum(np.abs({a}), axis=0) + {c})", "{a} @ {b}.T"),
    *("np.min({a}, axis=1)[:, None] * {b}", "np.log(np.sum(np.exp({a}), axis=1))", "{a}.T * {c}", "{a}[0] + {b}"),
    *("{a} * np.argmax({a}, axis=1)[:, None]", "{a}[:, :1] * {b}", "np.sum({a}, axis=0, keepdims=True) * {b}"),
    *("{a} * (np.max({a}, axis=1, keepdims=True) == {a})", "np.mean(np.argmin({a}, axis=1) == 0) * {b}", "{a}.ravel()"),
    *("{a}[np.arange(len({a})), 0] * {c}", "{a}.reshape(-1, 1) * {c}", "np.max(np.sum({a}, axis=1)) * {b}"),
)


class Vectors:
    """Random functions of two arrays: elementwise, slices, writes, reductions. source: of ``f`` and ``total``."""

    def __init__(self, seed: int, kind: str = "vectors") -> None:
        """kind: "vectors"; "few" numbers of float64; or "rows": a matrix, and what is spread over it."""
        self.seed, self.random, self.kind = seed, random.Random(seed), kind
        size = self.random.random() * (0.65 if kind == "few" else 1.0)
        small = size < 0.65 and kind != "rows"
        count = self.random.randint(*((1, 6) if size < 0.65 else (7, 64) if size < 0.9 else (65, 200)))
        count = 70_000 + count if size > 0.995 and kind != "rows" else count
        shapes: list[tuple[int, ...]] = [(count,), (count,)]
        if kind == "rows":
            rows = self.random.randint(1, 12)
            shapes = [(rows, count), self.random.choice([(count,), (rows, 1), (1, count), (rows, count)])]
        self.dtype = np.float32 if self.random.random() < 0.3 and kind != "few" else np.float64
        numbers = np.random.default_rng(seed)
        self.given = [numbers.uniform(-1.8, 1.8, shape).astype(self.dtype) for shape in shapes]
        names = [name for name in CODED if not small or OPS[name].scalar is not None or name in WRITTEN_OUT]
        exact = [name for name in names if name in EXACT or name in EXTREMES]
        self.names = exact if self.random.random() < 0.4 else names
        self.lines: list[str] = []
        self.values: dict[str, Any] = dict(zip("xy", self.given, strict=True))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for k in range(self.random.randint(2, 9)):
                self._add(f"v{k}")
        ends = [name for name in self.values if name not in "xy"][-3:] or ["x"]
        masks = [f"{name} > 0.3" for name in ends[:1] if not small]
        body = [*self.lines, f"return {', '.join([*ends, *masks])},"]
        total = [*self.lines, f"return {' + '.join(f'np.sum({name} * {name})' for name in ends)}"]
        self.source = "".join(
            f"def {name}(x, y):\n" + "".join(f"    {line}\n" for line in lines) + "\n\n"
            for name, lines in (("f", body), ("total", total))
        )

    def graphs(self) -> Iterator[Graph]:
        """Return the graph of ``f``, and of the gradient of ``total``."""
        module: dict[str, Any] = {"np": np}
        exec(compile(self.source, f"<vectors {self.seed}>", "exec"), module)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield trace(module["f"], *self.given)
            with contextlib.suppress(TraceError):  # it has no derivative
                yield trace(module["total"], *self.given).gradient((0, 1))

    def _add(self, name: str) -> None:
        """Write a line, unless its value is no vector or number of moderate size."""
        a = self._pick()
        shapes = ((), np.shape(self.values[a]), np.shape(self.values[a])[1:])
        alike = [n for n, v in self.values.items() if np.shape(v) in shapes or self.kind == "rows"]
        text = self._text(a, self.random.choice(alike), name)
        text = re.sub(r"\{c\}", lambda _: str(round(self.random.uniform(0.2, 1.6), 2)), text)
        scope = {"np": np, **self.values}
        try:
            exec(text, scope)
        except (ValueError, IndexError):  # shapes that do not go together
            return
        value = scope[name]
        if np.asarray(value).dtype.kind == "f" and np.size(value) and bool((np.abs(value) <= LARGEST).all()):
            self.lines.append(text)
            self.values[name] = value

    def _pick(self) -> str:
        names = list(self.values)
        return self.random.choices(names, range(1, len(names) + 1))[0]

    def _text(self, a: str, b: str, name: str) -> str:
        kind = self.random.random()
        if kind < 0.55:
            chosen = self.random.choice(self.names)
            operands = (a, b)[: getattr(np, chosen).nin]
            domains = OPS[chosen].domain or ((-np.inf, np.inf),) * 2
            inside = [self._inside(x, domain) for x, domain in zip(operands, domains, strict=False)]
            return f"{name} = np.{chosen}({', '.join(inside)})"
        if self.values[a].ndim == 0 or kind < 0.75:
            return f"{name} = " + self.random.choice(NUMBERS).format(a=a, b=b, c="{c}")
        if self.kind == "rows" and self.random.random() < 0.7:
            return f"{name} = " + self.random.choice(ROWS).format(a=a, b=b, c="{c}")
        if self.random.random() < 0.5:
            return f"{name} = " + self.random.choice(REDUCED).format(a=a, b=b, c="{c}")
        return self.random.choice(MOVED).format(a=a, b=b, c="{c}", v=name)

    def _inside(self, x: str, domain: tuple[float, float]) -> str:
        low, high = domain
        if low <= -2 or self.random.random() < 0.1:
            return x
        return f"np.abs({x}) + {low}" if low >= 0 else f"np.minimum(np.maximum({x}, {low}), {high})"
