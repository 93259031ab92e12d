"""The graph: a function as a flat list of nodes in execution order, and what it means.

`evaluate` is the meaning: every executor gives its numbers. A graph is checked when it is made, and prints as NumPy
code that can be pasted and run.
"""

from __future__ import annotations

import functools
import itertools
import keyword
import operator
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from koubai.errors import CompileError
from koubai.graph.infer import infer_shape_dtype
from koubai.graph.ops import Op, Shape
from koubai.graph.user_code import Where, line_of, named_line, named_place, stored_name

if TYPE_CHECKING:
    import hashlib

    from koubai.graph.tracer import Trace

__all__ = [
    "CAPTURED",
    "CONSTANT",
    "INPUT",
    "LEAVES",
    "Calls",
    "Graph",
    "Guard",
    "Kink",
    "Node",
    "evaluate",
    "misfit",
    "new_node",
    "run_nodes",
    "statement",
]


# op -> call of it -> node: so that none is recorded twice
Calls: TypeAlias = defaultdict[Op, dict[Any, int]]

INPUT = Op("input", lambda: None)
CONSTANT = Op("constant", lambda *, value: value)
CAPTURED = Op("captured", lambda *, value: value)  # an array of the caller's, read again at each run
LEAVES = (INPUT, CONSTANT, CAPTURED)


class Node(NamedTuple):
    """One step of a graph. ``inputs`` are indices of earlier nodes; ``dtype`` None marks a Python number (weak, NEP
    50).
    """

    op: Op
    inputs: tuple[int, ...]
    params: dict[str, Any]
    shape: Shape
    dtype: np.dtype[Any] | None
    where: Where = None

    @property
    def file(self) -> str | None:
        return self.where[0].co_filename if self.where else None

    @property
    def line(self) -> int | None:
        """The line of the user's code that the node came from."""
        return line_of(self.where) if self.where else None

    @property
    def name(self) -> str | None:
        """The user's variable that the value was stored in, if it was."""
        if self.op is INPUT:
            return self.params["name"]  # type: ignore[no-any-return]
        return stored_name(self.where) if self.where else None


_make = tuple.__new__
_BLOCK = 4096  # nodes that are renumbered before the old ones are dropped
new_node: Callable[[Any], Node] = functools.partial(tuple.__new__, Node)  # Node's own constructor takes twice as long


class Guard(NamedTuple):
    """A number that was read while tracing: the graph holds only if ``node`` still has the value ``expected``."""

    node: int
    expected: Any
    where: Where

    def holds(self, value: Any) -> bool:
        """Return whether reading it would give the same answer again."""
        expected = self.expected
        if type(expected) is bool:
            return bool(value) is expected
        return bool(np.array_equal(value, expected, equal_nan=np.asarray(expected).dtype.kind == "f"))

    @property
    def line(self) -> int | None:
        return line_of(self.where) if self.where else None


class Kink(NamedTuple):
    """A point where the derivative jumps, met at the traced values."""

    node: int
    op: str
    where: Where

    @property
    def line(self) -> int | None:
        return line_of(self.where) if self.where else None

    def __repr__(self) -> str:
        return f"<Kink of {self.op}{f' at {named_place(self.where)}' if self.where else ''}>"


class Graph:
    """A function as a flat list of nodes in execution order. Immutable; checked when it is made.

    inputs: the nodes that take the arguments; outputs: the nodes that are the results.
    guards: the numbers read on which the path depends; kinks: the kinks that the traced point sits on.
    """

    __slots__ = ("forms", "guards", "inputs", "kinks", "name", "nodes", "operations", "outputs", "value_numbering")
    forms: tuple[Any, ...]  # (shape, dtype) of each node; of a Python number its type stands for the dtype
    operations: int | None  # elements that it computes, once somebody has counted them
    value_numbering: list[Calls]  # of its nodes, for one derivative to take and continue; empty if nobody kept it

    def __init__(
        self,
        nodes: Sequence[Node],
        inputs: Sequence[int],
        outputs: Sequence[int],
        guards: Sequence[Guard] = (),
        kinks: Sequence[Kink] = (),
        name: str = "f",
        known: Graph | Trace | None = None,
        forms: Sequence[Any] = (),
    ) -> None:
        """``known``, ``forms``: as `check` takes them."""
        self.nodes = tuple(nodes)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.guards = tuple(guards)
        self.kinks = tuple(kinks)
        self.name = name if name.isidentifier() and not keyword.iskeyword(name) else "f"
        self.operations = None
        self.value_numbering = []
        self.check(known, forms)

    def check(self, known: Graph | Trace | None = None, given: Sequence[Any] = ()) -> None:
        """Raise CompileError unless order, shapes and dtypes are consistent.

        known: a graph, or a trace, which checks what it records; as far as this graph begins with the same nodes, they
        need no other check. given: the forms of the first nodes, if these are such nodes with other numbers, in
        order.
        """
        nodes = self.nodes
        forms: list[Any] = []  # of the nodes before the one checked
        if known is not None:
            forms += known.forms[: len(nodes)]
            if not all(map(operator.is_, nodes, known.nodes)):
                same = itertools.takewhile(bool, map(operator.is_, nodes, known.nodes))
                del forms[sum(same) :]
            elif len(nodes) == len(known.nodes):
                if isinstance(known, Graph):
                    self.value_numbering = known.value_numbering
                else:
                    self.value_numbering = [known.value_numbering]
                    known.value_numbering = defaultdict(dict)  # what it records from now on is not in this graph
        forms += given[len(forms) :]
        for op, inputs, params, shape, dtype, _ in nodes[len(forms) :]:
            i = len(forms)
            form = (shape, dtype if dtype is not None else type(params["value"]))
            if inputs and not 0 <= min(inputs) <= max(inputs) < i:
                raise _disorder(i, op, inputs)
            if op.elementwise or op.shape is not None:
                found = infer_shape_dtype(op, forms, nodes, inputs, params)
                if found != form:
                    raise misfit(i, op, form, found)
            forms.append(form)
        for i in (*self.outputs, *self.inputs, *[guard.node for guard in self.guards]):
            if not 0 <= i < len(nodes):
                raise CompileError(f"node {i} does not exist")
        self.forms = tuple(forms)

    @classmethod
    def pruned(
        cls,
        nodes: Sequence[Node],
        inputs: Sequence[int],
        outputs: Sequence[int],
        guards: Sequence[Guard] = (),
        kinks: Sequence[Kink] = (),
        name: str = "f",
        known: Graph | Trace | None = None,
    ) -> Graph:
        """Return the graph without the nodes that nothing needs. ``known``: as `check` takes it."""
        needed = bytearray(len(nodes))
        for i in (*outputs, *inputs, *[guard.node for guard in guards]):
            needed[i] = 1
        for i in range(len(nodes) - 1, -1, -1):
            if needed[i]:
                for j in nodes[i][1]:
                    needed[j] = 1
        first = needed.find(0)
        if first < 0:
            return cls(nodes, inputs, outputs, guards, kinks, name, known)
        if known is not None and not isinstance(known, Graph):
            known.value_numbering = defaultdict(dict)  # its numbers are not the graph's; room for the graph's nodes
        forms: Sequence[Any] = ()
        ends = False  # whether the nodes are of a trace that ends here: then they are dropped on the way
        if known is not None and known.nodes is nodes:
            forms = list(itertools.compress(known.forms, needed))
            ends = not isinstance(known, Graph) and not known.concrete
        if not forms:  # a trace's nodes are in order
            for i, (op, used, *_) in enumerate(nodes):
                if needed[i] and used and not 0 <= min(used) <= max(used) < i:
                    raise _disorder(i, op, used)
        new = list(itertools.accumulate(needed, initial=0))  # of each node that is needed, its place
        kept = list(nodes[:first])  # what is before the first dead node stays
        for start in range(first, len(nodes), _BLOCK):
            end = min(start + _BLOCK, len(nodes))
            kept += [
                _make(
                    Node,
                    (
                        op,
                        (new[used[0]], new[used[1]]) if len(used) == 2 else tuple([new[j] for j in used]),
                        params, shape, dtype, where,
                    ),
                )
                for op, used, params, shape, dtype, where in itertools.compress(nodes[start:end], needed[start:end])
            ]  # fmt: skip
            if ends:
                nodes[start:end] = [None] * (end - start)  # type: ignore[index]
        return cls(
            kept,
            [new[i] for i in inputs],
            [new[i] for i in outputs],
            [guard._replace(node=new[guard.node]) for guard in guards],
            [kink._replace(node=new[k] if (k := kink.node) >= 0 and needed[k] else -1) for kink in kinks],
            name,
            known,
            forms,
        )

    def unguarded(self) -> Graph:
        """Return the graph without its guards, for a run where it was traced."""
        return Graph.pruned(self.nodes, self.inputs, self.outputs, (), self.kinks, self.name, self)

    def equals(self, other: Graph) -> bool:
        """Return whether the other graph has the same nodes, outputs and guards, and reads the same arrays."""
        if (len(self.nodes), self.inputs, self.outputs) != (len(other.nodes), other.inputs, other.outputs):
            return False
        if len(self.guards) != len(other.guards) or not all(map(_same_node, self.nodes, other.nodes)):
            return False
        return all(
            a.node == b.node and _same_value(a.expected, b.expected)
            for a, b in zip(self.guards, other.guards, strict=True)
        )

    def digest(self) -> str:
        """Return a short text that is the same for equal graphs, in every process."""
        digest = _blake2b()
        for op, inputs, params, shape, dtype, _ in self.nodes:
            kept = () if op is CAPTURED else _described(params)
            digest.update(repr((op.name, inputs, kept, shape, str(dtype))).encode())
        digest.update(
            repr((self.inputs, self.outputs, [(g.node, _described(g.expected)) for g in self.guards])).encode()
        )
        return digest.hexdigest()

    def gradient(self, wrt: Sequence[int] | None = None) -> Graph:
        """Return the graph of the value and its gradient with respect to the inputs numbered ``wrt`` (default: all).

        The result is a graph like any other: its own ``gradient`` gives second derivatives.
        """
        from koubai.graph.reverse import reverse

        return reverse(self, wrt)

    def __call__(self, *args: Any) -> Any:
        """Evaluate; one output is returned as it is, several as a tuple."""
        results = evaluate(self, *args)
        return results[0] if len(results) == 1 else results

    def names(self) -> list[str]:
        """Return one Python name a node: the user's own if it can be recovered, never twice."""
        used: dict[str, int] = {}
        names = []
        taken = {"np", "special", "linalg", self.name}
        for i, node in enumerate(self.nodes):
            name = node.name
            if name is None or not name.isidentifier() or keyword.iskeyword(name):
                name = f"v{i}"
            base = name
            while name in taken:
                used[base] = used.get(base, 1) + 1
                name = f"{base}_{used[base]}"
            taken.add(name)
            names.append(name)
        return names

    def _typed_numbers(self) -> set[int]:
        """Return the nodes that must not be printed as plain Python numbers, which give way to other types."""
        typed = set(self.outputs)
        for node in self.nodes:
            given = [self.nodes[j] for j in node.inputs]
            as_float64 = all(n.dtype is None or n.dtype.kind != "f" or n.dtype == np.float64 for n in given)
            if not (
                node.op.elementwise
                and node.op.name != "astype"
                and as_float64
                and any(n.op is not CONSTANT for n in given)
            ):
                typed.update(node.inputs)
        return typed

    def source(self) -> str:
        """Return the graph as NumPy code that can be pasted and run: one line a node, with the user's line as
        comment.
        """
        names = self.names()
        typed = self._typed_numbers()
        lines, comments = [], []
        for i, node in enumerate(self.nodes):
            if node.op is INPUT:
                continue
            if node.op in LEAVES:
                value = node.params["value"]
                if node.dtype is None or node.shape == ():
                    names[i] = _number(value, i in typed)
                    continue
                lines.append(f"{names[i]} = {_array_text(value)}")
            else:
                lines.append(statement(node, names[i], [names[j] for j in node.inputs]))
            comments.append(named_line(node.file, node.line) if node.file else "")
        width = min(60, max((len(line) for line in lines), default=0))
        body = [
            f"    {line:<{width}}  # {where}" if where else f"    {line}"
            for line, where in zip(lines, comments, strict=True)
        ]
        arguments = ", ".join(names[i] for i in self.inputs)
        returned = ", ".join(names[i] for i in self.outputs)
        imports = ["import numpy as np"]
        parts = sorted({node.op.name.partition(".")[0] for node in self.nodes if "." in node.op.name})
        if parts:  # a primitive of SciPy's is named after the part of SciPy that it comes from
            imports.append(f"from scipy import {', '.join(parts)}")
        return "\n".join([*imports, "", "", f"def {self.name}({arguments}):", *body, f"    return {returned}", ""])

    def __str__(self) -> str:
        parts = [self.source().partition("\n\n\n")[2].rstrip()]
        names = self.names()
        for guard in self.guards:
            parts.append(f"# holds where {names[guard.node]} is {guard.expected!r}, looked at on line {guard.line}")
        for kink in self.kinks:
            parts.append(f"# at a kink of {kink.op} on line {kink.line}")
        return "\n".join(parts)

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.nodes)} nodes, {len(self.guards)} guards>"


def _same_node(a: Node, b: Node) -> bool:
    if a is b:
        return True
    op, inputs, params, shape, dtype, _ = a
    if op is not b[0] or inputs != b[1] or shape != b[3] or dtype != b[4]:
        return False
    if op is CAPTURED:
        return params["value"] is b[2]["value"]
    if op is CONSTANT:
        return _same_value(params["value"], b[2]["value"])
    return bool(params == b[2])  # not the user's line: it does not count


def _blake2b(data: bytes = b"") -> hashlib.blake2b:
    import hashlib  # only now: OpenSSL would slow down the import of koubai

    return hashlib.blake2b(data, digest_size=8)


def _described(value: Any) -> Any:
    """Return what tells a value from others, without the address that a repr may have."""
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), _blake2b(value.tobytes()).hexdigest()
    if isinstance(value, dict):
        return [(key, _described(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [_described(part) for part in value]
    plain = isinstance(value, str | bytes | int | float | complex | np.generic | np.dtype | slice | type | None)
    return repr(value) if plain else type(value).__name__


def _same_value(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    return bool(repr(a) == repr(b) if isinstance(a, float | complex) else a == b)


def _number(value: Any, typed: bool) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    text = repr(value.item() if isinstance(value, np.generic | np.ndarray) else value)
    text = text.replace("inf", "np.inf").replace("nan", "np.nan")
    if isinstance(value, np.generic | np.ndarray) and (typed or value.dtype != np.float64):
        return f"np.{value.dtype.name}({text})"
    return f"({text})" if text.startswith("-") else text


def _array_text(value: Any) -> str:
    array = np.asarray(value)
    if not array.size:  # its text would lose the shape
        return f"np.empty({array.shape}, np.{array.dtype.name})"
    with np.printoptions(threshold=sys.maxsize, floatmode="unique", linewidth=sys.maxsize):
        text = " ".join(np.array2string(array, separator=", ").split())
    text = text.replace("inf", "np.inf").replace("nan", "np.nan")
    return f"np.array({text}, np.{array.dtype.name})"


def statement(node: Node, target: str, args: Sequence[str]) -> str:
    """Return the node as one NumPy statement that assigns to ``target``."""
    code = node.op.code
    if callable(code):
        return code(target, args, node.params)
    if code is None:
        return f"{target} = np.{node.op.name}({', '.join(args)})"
    return f"{target} = {code.format(*args)}"


def evaluate(graph: Graph, *args: Any) -> tuple[Any, ...]:
    """Run the graph in plain NumPy: this is what it means. Guards are not looked at."""
    if len(args) != len(graph.inputs):
        raise TypeError(f"{graph.name} takes {len(graph.inputs)} arguments, got {len(args)}")
    last = {j: i for i, node in enumerate(graph.nodes) for j in node.inputs}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    values: dict[int, Any] = dict(zip(graph.inputs, args, strict=True))
    with np.errstate(all="ignore"):
        for i, node in enumerate(graph.nodes):
            if node.op is not INPUT:
                values[i] = node.op.call(*[values[j] for j in node.inputs], **node.params)
            for j in node.inputs:
                if last[j] == i:  # a loop that fills a table makes a table a step
                    values.pop(j, None)
    return tuple([values[i] for i in graph.outputs])


def run_nodes(graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Return the value of every node."""
    values: list[Any] = [None] * len(graph.nodes)
    for i, arg in zip(graph.inputs, args, strict=True):
        values[i] = arg
    with np.errstate(all="ignore"):
        for i, node in enumerate(graph.nodes):
            if node.op is not INPUT:
                values[i] = node.op.call(*[values[j] for j in node.inputs], **node.params)
    return values


def _disorder(i: int, op: Op, inputs: tuple[int, ...]) -> CompileError:
    return CompileError(f"node {i} ({op.name}) reads no earlier node: {inputs}")


def misfit(i: int, op: Op, form: Any, found: Any) -> CompileError:
    """Return the error for a node whose form is not the one that its operands give."""
    return CompileError(f"node {i} ({op.name}) is recorded as {form}, but its inputs give {found}")
