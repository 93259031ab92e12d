"""Tracing: a plain NumPy function, run once on traced values, leaves a `Graph`.

A traced value carries its number, so ``if``, ``while`` and ``int()`` work; each such look at a number is a *guard*,
and a graph is only valid where its guards hold. It is not an ndarray: ``np.asarray`` of a subclass would silently drop
the trace. In-place writes are recorded functionally: the array object is pointed at a new node, and so are the views
of it.

A node's level says what it depends on: 0 on constants only, 1 on arguments that are not differentiated, 2 on
differentiated ones. Looks at levels 0 and 1 lose no derivative, so ``np.asarray`` and ``float`` may have them; at
level 2 only looks whose answer is locally constant (comparisons, ``int``) are allowed, and every other raises
`TraceError`.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import hashlib
import itertools
import keyword
import math
import operator
import os
import sys
import sysconfig
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from koubai.errors import CompileError, TraceError, quiet
from koubai.graph.ops import ON_NUMBERS, OPS, UFUNCS, Index, Op, Shape

__all__ = [
    "DIFFERENCES",
    "FUNCTIONS",
    "Calls",
    "Graph",
    "Guard",
    "Kink",
    "Node",
    "OutsideWrite",
    "Trace",
    "Traced",
    "current_trace",
    "evaluate",
    "infer",
    "is_library",
    "named_place",
    "new_traced",
    "normalized",
    "number_taken",
    "public_name",
    "record",
    "run_nodes",
    "seldom_collected",
    "settled",
    "statement",
    "uncollected",
    "untraceable",
    "user_frame",
]

# op -> call of it -> node: so that none is recorded twice
Calls: TypeAlias = defaultdict[Op, dict[Any, int]]
# the code object and the offset of the instruction in it; True: the node is part of that instruction's derivative
Where: TypeAlias = tuple[CodeType, int, bool] | None

INPUT = Op("input", lambda: None)
CONSTANT = Op("constant", lambda *, value: value)
CAPTURED = Op("captured", lambda *, value: value)  # an array of the caller's, read anew at each run
LEAVES = (INPUT, CONSTANT, CAPTURED)
FUNCTIONS: dict[Any, Callable[..., Any]] = {}  # NumPy function -> how it is written in primitives; graph/functions.py
_NONE: dict[str, Any] = {}


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
        return _line(self.where) if self.where else None

    @property
    def name(self) -> str | None:
        """The user's variable that the value was stored in, if it was."""
        if self.op is INPUT:
            return self.params["name"]  # type: ignore[no-any-return]
        return _stored_name(self.where) if self.where else None


new_node: Callable[[Any], Node] = functools.partial(tuple.__new__, Node)  # Node's own constructor takes twice as long


class Guard(NamedTuple):
    """A look at a value while tracing: the graph holds only where ``node`` still has the value ``expected``."""

    node: int
    expected: Any
    where: Where

    def holds(self, value: Any) -> bool:
        """Return whether the look would give the same answer again."""
        expected = self.expected
        if type(expected) is bool:
            return bool(value) is expected
        return bool(np.array_equal(value, expected, equal_nan=np.asarray(expected).dtype.kind == "f"))

    @property
    def line(self) -> int | None:
        return _line(self.where) if self.where else None


class Kink(NamedTuple):
    """A point where the derivative jumps, met at the traced values."""

    node: int
    op: str
    where: Where

    @property
    def line(self) -> int | None:
        return _line(self.where) if self.where else None

    def __repr__(self) -> str:
        return f"<Kink of {self.op}{f' at {named_place(self.where)}' if self.where else ''}>"


def named_place(where: tuple[CodeType, int, bool]) -> str:
    """Return the user's file and line, as a comment names them."""
    return _named_line(where[0].co_filename, _line(where))


def _named_line(file: str, line: int | None) -> str:
    name = file.rsplit("/", 1)[-1]
    if "ipykernel" in file or name.startswith("<"):  # a notebook's cell, or typed text: its name says nothing
        return f"line {line}"
    return f"{name}:{line}"


def _line(where: tuple[CodeType, int, bool]) -> int | None:
    code, offset, _ = where
    for start, stop, line in code.co_lines():
        if start <= offset < stop:
            return line
    return None


def _stored_name(where: tuple[CodeType, int, bool]) -> str | None:
    code, offset, derived = where
    if derived:
        return None
    return _stores(code).get(offset)


@functools.lru_cache(maxsize=16)
def _stores(code: CodeType) -> dict[int, str]:
    """Return the variable that the result of each instruction is stored in, by the instruction's offset."""
    instructions = [i for i in dis.get_instructions(code) if i.opname != "CACHE"]
    return {
        i.offset: str(after.argval)
        for i, after in itertools.pairwise(instructions)
        if after.opname in ("STORE_FAST", "STORE_NAME", "STORE_DEREF", "STORE_GLOBAL")
    }


# Whose is this code? By identity, since hashing a code object reads all of it, and until the code is gone
_owners: dict[int, int] = {}
_seen: dict[int, weakref.ref[CodeType]] = {}
# By the code's identity and the offset: one object for all nodes made there while something is traced
_places: dict[tuple[int, int], Where] = {}
_USER, _INSIDE, _LIBRARY, _CALLER = range(4)
_STDLIB = tuple({sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib")})


def is_library(file: str) -> bool:
    """Return whether a file of code belongs to Python itself or to an installed package."""
    return file.startswith((*_STDLIB, "<frozen")) or "site-packages" in file or "dist-packages" in file


def _owner(frame: FrameType) -> int:
    code = frame.f_code
    owner = _owners.get(id(code))
    if owner is None:
        module = frame.f_globals.get("__name__") or ""
        if module == "koubai.graph.call":
            owner = _CALLER  # whose callee is the traced function
        elif module.partition(".")[0] in ("koubai", "numpy"):
            owner = _INSIDE
        else:
            owner = _LIBRARY if is_library(code.co_filename) else _USER
        _seen[id(code)] = weakref.ref(code, functools.partial(_gone, id(code)))
        _owners[id(code)] = owner
    return owner


def _gone(identity: int, reference: Any) -> None:
    """Forget a code before another one takes its identity."""
    _owners.pop(identity, None)
    _seen.pop(identity, None)


def user_frame(depth: int = 1) -> Where:
    """Return where the nearest frame of the user's stands; the first ``depth`` are known to be koubai's.

    Where the traced function itself is an installed package's, it counts as the user's.
    """
    frame: FrameType | None = sys._getframe(depth)
    outermost = None
    while frame is not None:
        owner = _owners.get(id(frame.f_code))
        if owner is None:
            owner = _owner(frame)
        if owner == _USER:
            return _place_of(frame)
        if owner == _LIBRARY:
            outermost = frame
        elif owner == _CALLER and outermost is not None:
            break
        frame = frame.f_back
    return None if outermost is None else _place_of(outermost)


def _place_of(frame: FrameType) -> Where:
    key = id(frame.f_code), frame.f_lasti
    where = _places.get(key)
    if where is None:
        where = _places[key] = frame.f_code, frame.f_lasti, False
    return where


def _library_call() -> str | None:
    """Return the public name of the library's function that the user's line calls, if one is running."""
    frame: FrameType | None = sys._getframe(1)
    names = []
    while frame is not None and (owner := _owner(frame)) not in (_USER, _CALLER):
        if owner == _LIBRARY:
            names.append(public_name(frame.f_globals.get("__name__") or "", frame.f_code.co_qualname))
            # a decorator's wrapper holds what it wraps
            inner = [f for f in frame.f_locals.values() if type(f) is FunctionType] if not names[-1][1] else []
            names += [public_name(f.__module__ or "", f.__qualname__) for f in inner]
        frame = frame.f_back
    known = [name for name, is_known in names if is_known]
    return known[-1] if known else names[-1][0] if names else None


def public_name(module: str, qualname: str) -> tuple[str, bool]:
    """Return what a user would call a library's function, and whether there is such a name."""
    parts = itertools.takewhile(lambda part: not part.startswith("_"), module.split("."))
    public = ".".join(parts)
    names = [name for name in qualname.replace("<locals>.", "").split(".") if name not in ("__call__", "__init__")]
    return f"{public}.{'.'.join(names)}", hasattr(sys.modules.get(public), names[0] if names else "")


def untraceable(reason: str, fix: str) -> TraceError:
    """Return a TraceError that points at the user's line."""
    where = user_frame()
    return TraceError(reason, fix, where[0].co_filename if where else None, _line(where) if where else None)


def number_taken(what: str, fix: str) -> TraceError:
    """Return a TraceError that says who took the number out of a traced value: ``what``, or the library in between."""
    called = _library_call()
    if called is not None:
        what = called
        fix = "koubai doesn't know it: write it with NumPy's functions, or " + DIFFERENCES
    return untraceable(f"{what} takes the number out of the traced value, and its derivative with it", fix)


DIFFERENCES = (
    "let differences be taken from the start: method='central' (in minimize grad='central') costs two evaluations of f "
    "an element of x"
)


class Graph:
    """A function as a flat list of nodes in execution order. Immutable; checked when it is made.

    inputs: the nodes that take the arguments; outputs: the nodes that are the results.
    guards: the looks at values on which the path depends; kinks: the kinks that the traced point sits on.
    """

    __slots__ = ("forms", "guards", "inputs", "kinks", "name", "nodes", "outputs", "table")
    forms: tuple[Any, ...]  # (shape, dtype) of each node; of a Python number its type stands for the dtype
    table: list[Calls]  # of its nodes, for one derivative to take and go on with; empty where nobody kept it

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
        self.table = []
        self.check(known, forms)

    def check(self, known: Graph | Trace | None = None, given: Sequence[Any] = ()) -> None:
        """Raise CompileError unless order, shapes and dtypes are consistent.

        known: a graph, or a trace, which checks what it records; as far as this graph begins with the same nodes, they
        need no other look. given: the forms of the first nodes, where these are such nodes with other numbers: of
        them only the order is looked at.
        """
        nodes = self.nodes
        forms: list[Any] = []  # of the nodes before the one looked at
        if known is not None:
            forms += known.forms[: len(nodes)]
            if not all(map(operator.is_, nodes, known.nodes)):
                same = itertools.takewhile(bool, map(operator.is_, nodes, known.nodes))
                del forms[sum(same) :]
            elif len(nodes) == len(known.nodes):
                if isinstance(known, Trace):
                    self.table = [known.table]
                    known.table = defaultdict(dict)  # what it records from now on is not in this graph
                else:
                    self.table = known.table
        first = len(forms)
        forms += given[first:]
        for i in range(first, len(forms)):
            inputs = nodes[i][1]
            if inputs and not 0 <= min(inputs) <= max(inputs) < i:
                raise _disorder(i, nodes[i][0], inputs)
        for op, inputs, params, shape, dtype, _ in nodes[len(forms) :]:
            i = len(forms)
            form = (shape, dtype if dtype is not None else type(params["value"]))
            if inputs and not 0 <= min(inputs) <= max(inputs) < i:
                raise _disorder(i, op, inputs)
            if op.elementwise or op.shape is not None:
                found = infer(op, forms, nodes, inputs, params)
                if found != form:
                    raise _misfit(i, op, form, found)
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
        if isinstance(known, Trace):
            known.table = defaultdict(dict)  # its numbers are not the graph's; room for the graph's nodes
        forms: Sequence[Any] = ()
        ends = False  # are the nodes of a trace that ends here? Then they are let go of on the way
        if known is not None and known.nodes is nodes:
            forms = list(itertools.compress(known.forms, needed))
            ends = isinstance(known, Trace) and not known.concrete
        new = list(range(first))  # what stands before the first dead node stays
        kept = list(nodes[:first])
        place = new.__getitem__
        for i in range(first, len(nodes)):
            new.append(len(kept))
            if needed[i]:
                op, used, params, shape, dtype, where = node = nodes[i]
                if used:
                    node = new_node((op, tuple(map(place, used)), params, shape, dtype, where))
                kept.append(node)
            if ends:
                nodes[i] = None  # type: ignore[index]
        return cls(
            kept,
            [new[i] for i in inputs],
            [new[i] for i in outputs],
            [guard._replace(node=new[guard.node]) for guard in guards],
            [kink._replace(node=new[kink.node] if needed[kink.node] else -1) for kink in kinks],
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
        told = hashlib.blake2b(digest_size=8)
        for op, inputs, params, shape, dtype, _ in self.nodes:
            kept = () if op is CAPTURED else _told(params)
            told.update(repr((op.name, inputs, kept, shape, str(dtype))).encode())
        told.update(repr((self.inputs, self.outputs, [(g.node, _told(g.expected)) for g in self.guards])).encode())
        return told.hexdigest()

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
        """Return one Python name a node: the user's own where it can be recovered, never twice."""
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
            comments.append(_named_line(node.file, node.line) if node.file else "")
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


def _told(value: Any) -> Any:
    """Return what tells a value from others, without the address that a repr may have."""
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), hashlib.blake2b(value.tobytes(), digest_size=8).hexdigest()
    if isinstance(value, dict):
        return [(key, _told(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [_told(part) for part in value]
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


# --- shapes and dtypes without numbers
_dtypes: dict[Any, np.dtype[Any]] = {}
_inferred: dict[Any, tuple[Shape, np.dtype[Any]]] = {}  # so that the same is not worked out twice
_INFERRED = 2_000  # of them are kept, in 1 MB


def _result_dtype(op: Op, operands: Sequence[Node], params: dict[str, Any]) -> np.dtype[Any]:
    key = (op, *[b.dtype or type(b.params["value"]) for b in operands], params.get("dtype"))
    dtype = _dtypes.get(key)
    if dtype is None:
        ones = [type(b.params["value"])(1) if b.dtype is None else np.ones((), b.dtype)[()] for b in operands]
        if op.elementwise:
            with np.errstate(all="ignore"):
                dtype = np.asarray(op.call(*ones, **params)).dtype
        elif op.dtype is not None:
            dtype = np.dtype(op.dtype(*(np.result_type(one) for one in ones)))
        elif "dtype" in params:
            dtype = np.dtype(params["dtype"])
        elif op.name in ("argsort", "argmax", "argmin", "searchsorted", "nonzero"):
            dtype = np.dtype(np.intp)
        elif op.name in ("any", "all"):
            dtype = np.dtype(np.bool_)
        elif op.name in ("setitem", "add_at"):
            dtype = operands[0].dtype or np.dtype(np.float64)
        else:
            dtype = np.result_type(*ones)
            if op.name in ("sum", "prod", "cumsum", "cumprod") and dtype.kind in "bi":
                dtype = np.dtype(np.int_)
        _dtypes[key] = dtype
    return dtype


def infer(op: Op, forms: Sequence[Any], nodes: Sequence[Node], inputs: Sequence[int], params: dict[str, Any]) -> Any:
    """Return the form of a result from those of its operands."""
    question: Any
    if "index" in params:  # a loop has another place a step
        question = (op, *map(forms.__getitem__, inputs), params["index"].form)
    elif len(inputs) == 1:
        question = (op, forms[inputs[0]], *params.values()) if params else (op, forms[inputs[0]])
    elif len(inputs) == 2 and not params:
        question = op, forms[inputs[0]], forms[inputs[1]]
    else:
        question = (op, *map(forms.__getitem__, inputs), *params.values())
    found = _inferred.get(question)
    if found is None:
        if len(_inferred) >= _INFERRED:
            _inferred.clear()
        found = _inferred[question] = _worked_out(op, [nodes[j] for j in inputs], params)
    return found


def _disorder(i: int, op: Op, inputs: tuple[int, ...]) -> CompileError:
    return CompileError(f"node {i} ({op.name}) reads no earlier node: {inputs}")


def _misfit(i: int, op: Op, form: Any, found: Any) -> CompileError:
    return CompileError(f"node {i} ({op.name}) is recorded as {form}, but its inputs give {found}")


def _worked_out(op: Op, operands: Sequence[Node], params: dict[str, Any]) -> tuple[Shape, np.dtype[Any]]:
    """Ops without a shape rule are run on blank arrays."""
    if op.elementwise:
        shape: Shape = ()
        for b in operands:
            if b.shape != shape and b.shape:
                shape = b.shape if not shape else np.broadcast_shapes(shape, b.shape)
        return shape, _result_dtype(op, operands, params)
    if op.shape is not None:
        return op.shape(*[b.shape for b in operands], **params), _result_dtype(op, operands, params)
    blank = [
        b.params["value"] if b.dtype is None else np.broadcast_to(np.zeros((), b.dtype), b.shape) for b in operands
    ]
    result = op.call(*blank, **params)
    return result.shape, result.dtype


# --- the trace
@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector off while many objects are made that are no garbage: it would go through all of them
    again and again. No code of the user's runs meanwhile.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


class _Seldom:
    """Has the garbage collector look seldom while a function is traced: it makes many objects that are no garbage, and
    may make garbage besides.
    """

    OBJECTS = 20_000  # made until the collector looks

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.traces = 0  # that run, in all threads
        self.before = (0, 0, 0)

    def __enter__(self) -> None:
        with self.lock:
            self.traces += 1
            if self.traces == 1:
                self.before = gc.get_threshold()
                if 0 < self.before[0] < self.OBJECTS:
                    gc.set_threshold(self.OBJECTS, *self.before[1:])

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.traces -= 1
            if not self.traces and gc.get_threshold()[0] == self.OBJECTS:
                gc.set_threshold(*self.before)


seldom_collected = _Seldom()


class OutsideWrite(BaseException):
    """The function is about to write into an array from outside: it is to be traced again with a copy of that one.

    It is no Exception, lest the function catch it.
    """

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array


class _Active(threading.local):
    trace: Trace | None = None


_active = _Active()


def current_trace() -> Trace | None:
    """Return the trace that this thread is recording, if any."""
    return _active.trace


class _Running:
    __slots__ = ("outer", "quiet", "trace")

    def __init__(self, trace: Trace, aloud: bool) -> None:
        self.trace = trace
        self.quiet = contextlib.nullcontext() if aloud else quiet()

    def __enter__(self) -> None:
        self.outer, _active.trace = _active.trace, self.trace
        self.quiet.__enter__()

    def __exit__(self, *exception: object) -> None:
        self.quiet.__exit__(None, None, None)
        _active.trace = self.outer
        self.trace.closed = True
        if self.outer is None:
            _places.clear()  # it holds the user's code


class Trace:
    """A graph under construction. ``concrete``: traced values carry numbers; without, only shapes and dtypes."""

    def __init__(self, concrete: bool, name: str = "f") -> None:
        self.concrete = concrete
        self.name = name
        self.nodes: list[Node] = []
        self.levels: list[int] = []
        self.forms: list[Any] = []  # as a graph's
        self.table: Calls = defaultdict(dict)
        self.inputs: list[int] = []
        self.guards: dict[tuple[int, Any], Guard] = {}
        self.kinks: list[Kink] = []
        self.where: Where = None  # for nodes without a user's line of their own
        self.closed = False
        self.unwatched: str | None = None  # why the graph holds at this point and this moment alone, if it does
        self.environment: Any = None  # the mirror of the outside world that the function meets, while it runs
        self.raises = concrete  # do Python numbers raise where Python's own do?
        self.met = False  # was a differentiated number equal to one from elsewhere?
        self.apart = False  # is it to be told that it is not? Then no memory of earlier calls is used
        self.told = False  # was a differentiated value written out as text?
        self.inner: list[Any] = []  # what gradients taken inside the function read from outside
        self.adopted: list[Traced] = []  # values of the traces around this one that it uses, one an input
        self.writable: set[int] = set()  # identities of the arrays from outside that the function writes into
        self.captures: dict[int, tuple[Traced, np.ndarray[Any, Any], int]] = {}  # traced, original, node at first

    def running(self, aloud: bool = False) -> _Running:
        """Make this the trace of the thread while a function runs. aloud: with np.errstate as it is."""
        return _Running(self, aloud)

    def append(self, op: Op, params: dict[str, Any], shape: Shape, dtype: Any, level: int, where: Where = None) -> int:
        """Add a leaf."""
        i = len(self.nodes)
        self.nodes.append(new_node((op, (), params, shape, dtype, where)))
        self.forms.append((shape, type(params["value"]) if dtype is None else dtype))
        if self.concrete:
            self.levels.append(level)
        return i

    def input(self, value: Any, name: str, level: int = 2) -> Traced:
        """Add an argument. A concrete ``value`` must be a copy that the trace may write into."""
        shape, dtype = value.shape, value.dtype
        i = self.append(INPUT, {"name": name}, shape, dtype, level)
        self.inputs.append(i)
        return new_traced(self, i, value if self.concrete else None, shape, dtype)

    def constant(self, value: Any) -> int:
        """Return the node of a constant: a Python number stays one (weak); an array is copied."""
        kind = type(value)
        if kind is float or kind is int or kind is bool:
            if value == 0:
                key: Any = (kind, value, math.copysign(1.0, value))
            else:
                key = (kind, value if value == value else "nan")
            dtype = None
            shape: Shape = ()
        elif kind is complex:
            key, dtype, shape = (kind, repr(value)), None, ()
        else:
            if not isinstance(value, np.generic):
                value = np.array(value)
                if value.ndim == 0:
                    value = value[()]
            dtype, shape = value.dtype, value.shape
            if dtype.kind not in "fiubc":
                raise untraceable(f"a value of dtype {dtype} meets the traced one", "use real numbers only")
            key = (dtype, shape, value.tobytes()) if value.size <= 64 else None
        known = self.table[CONSTANT]
        if key is not None:
            i = known.get(key)
            if i is not None:
                return i
        i = self.append(CONSTANT, {"value": value}, shape, dtype, 0, self.where)
        if key is not None:
            known[key] = i
        return i

    def adopt(self, value: Traced) -> Traced:
        """Return a value of the trace around this one as an input of this one, which `koubai.graph.call.replay` gives.

        It is at the same level: what follows from it must not be looked at, though it is not differentiated here.
        """
        if value._trace is self:
            return value
        outer = value._trace
        if not outer.concrete or outer.closed or self.closed:
            raise _strangers()
        node = value._current()
        known, key = self.table[INPUT], (id(outer), node)
        i = known.get(key)
        if i is None:
            shape, dtype = value.shape, value.dtype
            i = known[key] = self.append(INPUT, {"name": f"outer{len(self.adopted)}"}, shape, dtype, outer.levels[node])
            self.inputs.append(i)
            self.adopted.append(new_traced(outer, node, value._value, shape, dtype))
        shown = value._value
        if isinstance(shown, np.ndarray):
            shown = shown.copy()
            shown.flags.writeable = False
        inner = new_traced(self, i, shown, value.shape, value.dtype)
        inner._weak = value._weak
        return inner

    def captured(self, value: np.ndarray[Any, Any]) -> Traced:
        """Add an array of the caller's that the function reads from outside; the graph keeps the object, not a copy."""
        known, key = self.table[CAPTURED], id(value)
        i = known.get(key)
        if i is None:
            i = known[key] = self.append(CAPTURED, {"value": value}, value.shape, value.dtype, 1)
        if id(value) in self.writable:
            shown = value.copy()
        else:
            shown = value.view(np.ndarray)
            shown.flags.writeable = False
        traced = new_traced(self, i, shown, value.shape, value.dtype)
        self.captures[id(traced)] = traced, value, i
        return traced

    def unwatch(self, reason: str) -> None:
        """Note why the graph can't serve another call: something that it depends on can't be watched."""
        if self.unwatched is None:
            self.unwatched = reason

    def commit_captured(self) -> bool:
        """Write what the function wrote into arrays from outside into these; return whether there was any."""
        written = [(t, array) for t, array, node in self.captures.values() if t._current() != node]
        for _, array in written:
            for _, other, _ in self.captures.values():
                if other is not array and np.may_share_memory(other, array):
                    raise untraceable("the function writes into an array that shares memory with another", "copy it")
        for traced, array in written:
            np.copyto(array, traced._value)
        return bool(written)

    def emit(self, op: Op, inputs: tuple[int, ...], params: dict[str, Any], form: Any = None, depth: int = 3) -> int:
        """Return the node for this call, a new one unless the same stands already.

        form: (shape, dtype) of the result, inferred where it is not given; depth: as `user_frame` takes it.
        """
        if self.closed:
            raise untraceable("a traced value outlived its trace", "don't keep values of x outside the function")
        known, key = self.table[op], (inputs, *params.values()) if params else inputs
        i = known.get(key)
        if i is not None:
            return i
        nodes, forms = self.nodes, self.forms
        i = len(nodes)
        if form is None or op.elementwise or op.shape is not None:
            found = infer(op, forms, nodes, inputs, params)
            if form is not None and found != form:
                if form[1] == np.object_:
                    raise untraceable(f"{op.name} gives a value of dtype object", "use real numbers only")
                raise _misfit(i, op, form, found)
            form = found  # one object for all nodes of this form
        if self.concrete:
            level, levels = 0, self.levels
            for j in inputs:
                if levels[j] > level:
                    level = levels[j]
            levels.append(1 if level == 2 and not op.vjp else level)
            frame = sys._getframe(depth - 1)  # as a rule the user's own line, which needs no search
            is_users = _owners.get(id(frame.f_code)) == _USER
            where = _place_of(frame) if is_users else user_frame(depth)
        else:
            where = self.where
        known[key] = i
        shape, dtype = form
        nodes.append(new_node((op, inputs, params, shape, dtype, where)))
        forms.append(form)
        return i

    def derive(self, op: Op, nodes: list[int], params: dict[str, Any]) -> int:
        """Return the node for this call in a trace without numbers, leaving out work that changes no bit."""
        simplify = _SIMPLER.get(op)
        if simplify is None and op.elementwise and not params:
            simplify = _simpler
        simpler = simplify(self, op, nodes, params) if simplify is not None else None
        return self.emit(op, tuple(nodes), params) if simpler is None else simpler

    def own(self, value: Any) -> Any:
        """Return ``value``, which is to be written into an array of this trace, as a value of this trace."""
        if type(value) is not Traced or value._trace is self or value._trace.closed:
            return settled(value)
        if _active.trace is not self:
            raise _strangers()
        return self.adopt(value)

    def guard(self, node: int, expected: Any) -> None:
        if self.closed:
            return
        if self.concrete and self.levels[node] == 0:
            return  # a constant can't change
        key = (node, expected.tobytes() if isinstance(expected, np.ndarray) else (type(expected), expected))
        if key not in self.guards:
            self.guards[key] = Guard(node, expected, user_frame())

    def graph(self, outputs: Sequence[int]) -> Graph:
        """Close the trace and return what it recorded, without the dead nodes."""
        guards = list(self.guards.values())
        return Graph.pruned(self.nodes, self.inputs, outputs, guards, self.kinks, self.name, self)


_NUMBERS = frozenset((np.float64, float))  # of which one at least is NumPy's


def record(op: Op, args: Sequence[Any], params: dict[str, Any] = _NONE) -> Traced:
    """Record one call of a primitive on traced and plain values, and run it where the trace carries numbers."""
    first = args[0]
    trace = first._trace if type(first) is Traced else next(a._trace for a in args if type(a) is Traced)
    if trace.closed:
        return _after_the_trace(op, args, params)  # type: ignore[no-any-return]
    nodes = []
    if not trace.concrete:
        for a in args:
            if type(a) is not Traced:
                i = trace.constant(a)
            elif a._trace is not trace:
                raise _strangers()
            elif (i := a._node) < 0:
                if op.elementwise and _are_numbers(args):  # so is the result, and no node until it meets more
                    value = op.call(*[b._value if type(b) is Traced else b for b in args], **params)
                    return new_traced(trace, -1, value, (), value.dtype)
                i = a._current()
            nodes.append(i)
        i = trace.derive(op, nodes, params)
        shape, dtype = trace.forms[i]
        return new_traced(trace, i, None, shape, dtype)
    values = []
    for a in args:
        if type(a) is Traced:
            if a._trace is not trace:
                if a._trace.closed:
                    return record(op, [settled(b) for b in args], params)
                return record(op, _adopted(args), params)
            if a._weak:
                cast = _given_way(args)
                if cast is not args:
                    return record(op, cast, params)
            nodes.append(a._node if a._base is None else a._current())
            values.append(a._value)
        else:
            i = trace.constant(a)
            nodes.append(i)
            values.append(trace.nodes[i].params["value"])
    if (op is _EQUAL or op is _NOT_EQUAL) and (answer := _kept_apart(trace, op, nodes, values)) is not None:
        return answer  # type: ignore[no-any-return]
    try:
        if params:
            value = op.call(*values, **params)
        elif (operate := ON_NUMBERS.get(op)) is not None and _NUMBERS.issuperset(map(type, values)):
            value = operate(*values)
        else:
            value = op.call(*values)
    except (ArithmeticError, np.linalg.LinAlgError, RuntimeWarning) as error:
        trace.unwatch(f"{op.name} raised {type(error).__name__}")  # the function may catch it: a way without a guard
        raise
    shape, dtype = form = value.shape, value.dtype
    i = trace.emit(op, tuple(nodes), params, form, 4)
    if op.kink is not None and trace.levels[i] == 2 and op.kink(value, *values, **params):
        trace.kinks.append(Kink(i, op.name, trace.nodes[i].where))
    result = new_traced(trace, i, value, shape, dtype)
    if shape and (op.view or op is _GETITEM) and _is_view(value, values[0]):
        base = args[0]
        result._base, result._base_node, result._view = base, nodes[0], trace.nodes[i]
        root = result._root = base if base._base is None else base._root
        result._root_node = root._node
    return result


def _kept_apart(trace: Trace, op: Op, nodes: Sequence[int], values: Sequence[Any]) -> Any:
    """Answer that a differentiated number is not one from elsewhere, though it is now; or None, where nothing is told.

    Beside this point it is not. A number that was kept under x, or beside a copy of x, is so computed anew.
    """
    active = [trace.levels[i] == 2 for i in nodes]
    if active[0] == active[1]:
        return None
    same = np.equal(*values)
    met = same & (values[active.index(False)] != 0)  # 0 is a place where formulas change, as a rule
    if not met.any():
        return None
    trace.met = True
    same = same & ~met
    return None if not trace.apart else ~same if op is _NOT_EQUAL else same


def _after_the_trace(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """Answer for traced values that outlived their trace: they are the numbers that they were."""
    plain = [settled(a) for a in args]
    if any(type(a) is Traced for a in plain):
        return record(op, plain, params)
    return op.call(*plain, **params)


def settled(value: Any) -> Any:
    """Return a traced value that outlived its trace as the number that it was, also inside lists and tuples."""
    kind = type(value)
    if kind is Traced:
        return value.plain() if value._trace.closed and value._trace.concrete else value
    if kind is list or kind is tuple:
        parts = [settled(part) for part in value]
        return value if all(map(operator.is_, parts, value)) else kind(parts)
    return value


def _strangers() -> TraceError:
    return untraceable(
        "values of two different traces meet",
        "let the function of an inner gradient change no array of the outer one's",
    )


def _adopted(args: Sequence[Any]) -> list[Any]:
    """Return the arguments in the trace that is running: what belongs to one around it becomes an input there."""
    trace = _active.trace
    if trace is None or trace.closed or not trace.concrete:
        raise _strangers()
    return [trace.adopt(a) if type(a) is Traced else a for a in args]


def _are_numbers(args: Sequence[Any]) -> bool:
    for a in args:  # noqa: SIM110 a third of the time of all(...)
        if type(a) is Traced and a._node >= 0:
            return False
    return True


def _given_way(args: Sequence[Any]) -> Sequence[Any]:
    """Cast the Python numbers among the arguments to the precision of what they meet, as NumPy does (NEP 50)."""
    kinds = [a.dtype for a in args if hasattr(a, "dtype") and not (type(a) is Traced and a._weak)]
    if not any(kind.kind == "f" for kind in kinds) or np.result_type(*kinds) == np.float64:
        return args
    kind = np.result_type(*kinds, 1.0)
    return [a.astype(kind) if type(a) is Traced and a._weak else a for a in args]


def _python_like(a: Any) -> bool:
    return a._weak if type(a) is Traced else type(a) in (float, int, bool)


def _is_view(value: Any, base: Any) -> bool:
    if not isinstance(value, np.ndarray) or value.base is None:
        return False
    return value.base is base or np.may_share_memory(value, base)


def _simpler(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    """Simplify an elementwise call: spread no operand that is spread anyway, and work out what only has constants.

    Return the node of the result, or None, with the operands in ``nodes`` made simpler.
    """
    at = trace.nodes
    constant = True
    for i in nodes:
        kind = at[i][0]
        if kind is _BROADCAST:
            return _unspread(trace, op, nodes)
        if constant and (kind is not CONSTANT or at[i][3]):
            constant = False
    if constant:
        value = op.call(*[at[i].params["value"] for i in nodes])
        if isinstance(value, np.generic):
            return trace.constant(value)
    return None


def _unspread(trace: Trace, op: Op, nodes: list[int]) -> int | None:
    at = trace.nodes
    wide = None
    for k, i in enumerate(nodes):
        if at[i].op is _BROADCAST and all(at[j].shape in ((), at[i].shape) for m, j in enumerate(nodes) if m != k):
            source = at[i].inputs[0]
            if at[source].shape == () or (len(nodes) == 2 and at[nodes[1 - k]].shape == at[i].shape):
                nodes[k], wide = source, at[i].shape
    if wide is None:
        return None
    if all(at[i].shape == () for i in nodes):  # each is one number: spread the result
        return trace.derive(_BROADCAST, [trace.derive(op, nodes, _NONE)], {"shape": wide})
    return trace.derive(op, nodes, _NONE)


def _simpler_product(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    at = trace.nodes
    a, b = nodes
    left, right = at[a], at[b]
    one, other = left[0], right[0]
    if one is CONSTANT or other is CONSTANT:
        for constant, i in ((left, b), (right, a)):
            factor = _factor(constant)
            dtype = at[i].dtype
            if factor is None or dtype is None:
                continue
            if factor == 1.0 and (constant.dtype is None or constant.dtype == dtype):
                return i
            inner = _scaled(trace, i)
            if inner is not None and (_exact(factor) or _exact(inner[0])):
                return trace.derive(op, [trace.constant(factor * inner[0]), inner[1]], _NONE)
    elif one is _MULTIPLY and other is _MULTIPLY:
        first, second = _scaled(trace, a), _scaled(trace, b)
        if first is not None and second is not None and (_exact(first[0]) or _exact(second[0])):
            scaled = trace.derive(op, [trace.constant(first[0] * second[0]), first[1]], _NONE)
            return trace.derive(op, [scaled, second[1]], _NONE)
    return _simpler(trace, op, nodes, params)


def _simpler_negative(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    (i,) = nodes
    given = trace.nodes[i]
    if given.op is _NEGATIVE:
        return given.inputs[0]
    inner = _scaled(trace, i)
    if inner is not None:
        return trace.derive(_MULTIPLY, [trace.constant(-inner[0]), inner[1]], _NONE)
    return _simpler(trace, op, nodes, params)


def _simpler_sum_of_two(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    at = trace.nodes
    i, j = nodes
    if at[i][0] is _NEGATIVE:
        return trace.derive(_SUBTRACT, [j, at[i].inputs[0]], _NONE)
    if at[j][0] is _NEGATIVE:
        return trace.derive(_SUBTRACT, [i, at[j].inputs[0]], _NONE)
    return _simpler(trace, op, nodes, params)


def _simpler_reduction(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    given = trace.nodes[nodes[0]]
    if given.op is not _NEGATIVE:
        return None
    return trace.derive(_NEGATIVE, [trace.derive(op, [given.inputs[0]], params)], _NONE)


def _simpler_write(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    spread = trace.nodes[nodes[1]]
    if spread.op is _BROADCAST and trace.nodes[spread.inputs[0]].shape == ():
        nodes[1] = spread.inputs[0]  # a write spreads its value anyway
    return None


def _simpler_shape(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    spread = trace.nodes[nodes[0]]
    if spread.op is not _BROADCAST or trace.nodes[spread.inputs[0]].shape:
        return None
    return trace.derive(_BROADCAST, [spread.inputs[0]], {"shape": params["shape"]})


def _factor(node: Node) -> float | None:
    """Return a finite real constant as a Python float, if the node is one."""
    if node.op is not CONSTANT or node.shape:
        return None
    value = node.params["value"]
    if type(value) is not float and isinstance(value, _NO_FACTORS):
        return None
    return float(value) if math.isfinite(value) else None


_NO_FACTORS = bool, np.bool_, complex, np.complexfloating


def _scaled(trace: Trace, i: int) -> tuple[float, int] | None:
    """Return (c, node of a) if node ``i`` is a Python number c times a float array or scalar a."""
    at = trace.nodes
    op, inputs, _, _, dtype, _ = at[i]
    if op is _MULTIPLY and dtype is not None and dtype.kind == "f":
        for j, k in (inputs, inputs[::-1]):
            factor = _factor(at[j])
            if factor is not None and at[k].dtype == dtype and at[j].dtype in (None, dtype):
                return factor, k
    return None


def _exact(factor: float) -> bool:
    """Is scaling by ``factor`` free of rounding? Powers of two of moderate size are."""
    return math.frexp(factor)[0] in (0.5, -0.5) and 1e-6 < abs(factor) < 1e6


_GETITEM, _BROADCAST, _MULTIPLY, _NEGATIVE, _SUBTRACT = (
    OPS[name] for name in ("getitem", "broadcast_to", "multiply", "negative", "subtract")
)
_SIMPLER: dict[Op, Callable[[Trace, Op, list[int], dict[str, Any]], int | None]] = {
    _MULTIPLY: _simpler_product,
    _NEGATIVE: _simpler_negative,
    OPS["add"]: _simpler_sum_of_two,
    OPS["sum"]: _simpler_reduction,
    OPS["setitem"]: _simpler_write,
    OPS["add_at"]: _simpler_write,
    OPS["reshape"]: _simpler_shape,
    _BROADCAST: _simpler_shape,
}


def new_traced(trace: Trace, node: int, value: Any, shape: Shape, dtype: Any) -> Traced:
    """Return a new traced value. (A constructor would take half as long again: it starts the interpreter anew.)"""
    made = _blank(Traced)
    made._trace = trace
    made._node = node
    made._value = value
    made._base = None
    made._weak = False
    made.shape = shape
    made.dtype = dtype
    return made


_blank = object.__new__
_BINARY = dis.opmap["BINARY_OP"]


def _formats(frame: FrameType) -> bool:
    """Is this frame at a ``%``? A traced value does not ask itself for its number there, so a text does."""
    code, at = frame.f_code.co_code, frame.f_lasti
    return code[at] == _BINARY and dis._nb_ops[code[at + 1]][1] in ("%", "%=")  # type: ignore[attr-defined]


class Traced:
    """A value of the function being traced. It behaves as a NumPy array, or as a NumPy scalar when 0-d."""

    __slots__ = (
        *("__weakref__", "_base", "_base_node", "_node", "_root", "_root_node", "_trace", "_value", "_view", "_weak"),
        *("dtype", "shape"),
    )
    _record = staticmethod(record)
    _trace: Trace
    _node: int  # below 0: a number of a trace without numbers, which is no node yet
    _value: Any
    _weak: bool  # a Python number, which gives way to the precision of what it meets
    _base: Traced | None  # the array that this one is a view of,
    _base_node: int  # the node of the base that `_node` was taken from,
    _view: Node  # and the node that took it
    _root: Traced  # at the end of the chain of bases: the one whose memory it is, and not a view,
    _root_node: int  # and that one's node for which `_node` holds
    shape: Shape
    dtype: Any

    def _zeros(self, shape: Shape, dtype: Any) -> Traced:
        """Return an assignable array of zeros in the same trace."""
        trace = self._trace
        dtype = np.dtype(dtype)
        i = trace.emit(OPS["zeros"], (), {"shape": shape, "dtype": dtype}, (shape, dtype))
        return new_traced(trace, i, np.zeros(shape, dtype) if trace.concrete else None, shape, dtype)

    @property
    def _known(self) -> Any:
        """The value, where it is a constant of the graph."""
        node = self._trace.nodes[self._current()]
        return node.params["value"] if node.op is CONSTANT else None

    # --- aliasing: what is written into an array shows in its views, and the other way round
    def _current(self) -> int:
        """Return the node that holds this array's present content; a view's is taken anew when its base was written."""
        if self._base is not None:
            if self._root._node != self._root_node:
                self._take_anew()
        elif self._node < 0:  # a number of a trace without numbers
            self._node = self._trace.constant(self._value)
        return self._node

    def _take_anew(self) -> None:
        chain = [self]  # of views of views, which may be long
        while (base := chain[-1]._base) is not self._root:
            chain.append(base)  # type: ignore[arg-type]
        now = root_node = self._root._node
        for shown in reversed(chain):
            if now != shown._base_node:
                view = shown._view
                inputs = (now, *view.inputs[1:])
                shown._node = self._trace.emit(view.op, inputs, view.params, (shown.shape, shown.dtype))
                shown._base_node = now
            shown._root_node = root_node
            now = shown._node

    def _assign(self, node: int) -> None:
        """Point this array, and what it is a view of, at new content."""
        emit = self._trace.emit
        shown: Traced = self
        chain: list[tuple[Traced, int]] = []  # of views of views, and the new content of each
        while (base := shown._base) is not None:
            chain.append((shown, node))
            view, form = shown._view, (base.shape, base.dtype)
            if view.op is _GETITEM:
                node = emit(OPS["setitem"], (base._current(), node, *view.inputs[1:]), view.params, form)
            elif view.op.name == "transpose":
                axes = view.params["axes"]
                back = {"axes": tuple(sorted(range(len(axes)), key=axes.__getitem__))}
                node = emit(view.op, (node,), back, form)
            elif view.op.name == "reshape":
                node = emit(view.op, (node,), {"shape": base.shape}, form)
            else:
                raise untraceable(f"the function writes into a view made by {view.op.name}", "write into a copy")
            shown = base
        root, now = shown, node
        root._node = now
        for shown, node in reversed(chain):
            shown._base_node, shown._root_node, shown._node = now, root._node, node
            now = node

    def _write(self, new: Any) -> Traced:
        """Overwrite this array with ``new``, as ``out=`` and ``+=`` do."""
        if self._trace.closed:
            self._writeable()[...] = settled(new)
            return self
        if np.shape(new) != self.shape:
            if len(np.shape(new)) > self.ndim or np.broadcast_shapes(np.shape(new), self.shape) != self.shape:
                raise ValueError(
                    f"non-broadcastable output operand with shape {self.shape}: the result has {np.shape(new)}"
                )
            new = np.broadcast_to(new, self.shape)
        new = self._trace.own(new)
        if not isinstance(new, Traced):
            new = self._wrap(new)
        if new.dtype != self.dtype:
            if not np.can_cast(new.dtype, self.dtype, "same_kind"):
                raise TypeError(f"cannot cast the result from {new.dtype} to {self.dtype}")
            new = record(_ASTYPE, (new,), {"dtype": self.dtype})
        self._writeable()[...] = new._value
        self._assign(new._current())
        return self

    def _writeable(self) -> Any:
        value = self._value
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{type(value).__name__} does not support item assignment")
        if not value.flags.writeable:
            root = self
            while root._base is not None:
                root = root._base
            captured = self._trace.captures.get(id(root))
            if captured is not None and captured[1].flags.writeable:
                raise OutsideWrite(captured[1])
            raise untraceable("the function writes into a read-only array", "write into a copy")
        return value

    def _wrap(self, value: Any) -> Traced:
        trace = self._trace
        i = trace.constant(value)
        held = np.array(value)
        return new_traced(trace, i, held if held.ndim else held[()], held.shape, held.dtype)

    # --- looks
    def plain(self) -> Any:
        """Return the number, or a copy of the array, that this is at the traced point."""
        value = self._value
        if isinstance(value, np.ndarray):
            return value.copy()
        return value.item() if self._weak else value

    def __hash__(self) -> int:
        value = self._value
        if self.shape or not self._trace.concrete:
            raise TypeError("unhashable type: 'numpy.ndarray'")
        trace = self._trace
        if not trace.closed:
            node = self._current()
            trace.guard(node, value)
            if trace.levels[node] == 2:
                trace.unwatch("it takes a traced value as a key")
        return hash(value)

    def _look(self, what: str, fix: str) -> Any:
        """Return the number itself, guarded; refused where the derivative would be lost."""
        if self._trace.closed:
            return self.plain()
        if not self._trace.concrete:
            raise CompileError(f"a derivative rule looked at a value: {what}")
        node = self._current()
        if self._trace.levels[node] == 2:
            raise number_taken(what, fix)
        value = self._value.copy() if isinstance(self._value, np.ndarray) else self._value
        self._trace.guard(node, value)
        return value

    def __bool__(self) -> bool:
        if not self._trace.concrete:
            raise CompileError("a derivative rule looked at a value: bool()")
        answer = bool(self._value)  # raises for more than one element, as NumPy does
        if self._trace.closed:
            return answer
        asked = self if self.dtype == np.bool_ else record(OPS["not_equal"], (self, 0))
        self._trace.guard(asked._current(), answer)
        return answer

    def __int__(self) -> int:
        whole = record(OPS["trunc"], (self,)) if self.dtype.kind == "f" else self
        return int(whole._look("int()", "leave int() out"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.shape:
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(self._look("an index", "index with integers"))

    def __float__(self) -> float:
        if _formats(sys._getframe(1)):  # a text's own % asks for the number
            return float(self._shown())
        return float(self._look("float()", "leave float() out"))

    def __complex__(self) -> complex:
        return complex(self._look("complex()", "leave complex() out"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        fix = "build the array inside the function with np.zeros or np.array, and call NumPy as np.name"
        return np.array(self._look("np.asarray, or a write into an array made elsewhere,", fix), dtype=dtype)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Traced]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return iter([self[i] for i in range(self.shape[0])])

    def _shown(self, rounded: bool = False) -> Any:
        """Return the number for a text. The text may come back as a number, so the path is bound to it."""
        trace = self._trace
        if self._value is not None and not trace.closed:
            node = self._current()
            trace.guard(node, np.copy(self._value) if self.shape else self._value)
            if trace.levels[node] == 2:
                trace.unwatch("it makes a text of a traced value")
                trace.told = trace.told or not rounded
        return self.plain() if trace.concrete else self._value

    def __repr__(self) -> str:
        return repr(self._shown())

    def __str__(self) -> str:
        return str(self._shown())

    def __format__(self, spec: str) -> str:
        return format(self._shown(rounded=bool(spec)), spec)

    def __copy__(self) -> Traced:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Traced:
        return self.copy()

    def __reduce__(self) -> Any:
        raise untraceable("the function pickles a traced value", "keep I/O out of the function")

    # so that isinstance(x, np.ndarray) and isinstance(x, float) answer as they would outside
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return np.ndarray if self.shape else self.dtype.type

    # --- NumPy's protocols
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if self._trace.closed:
            inputs = tuple([settled(a) for a in inputs])
            return getattr(ufunc, method)(*inputs, **{k: settled(v) for k, v in kwargs.items()})
        if method == "__call__" and not kwargs:
            op = UFUNCS.get(ufunc)
            if op is not None:
                return record(op, inputs)
        return FUNCTIONS["ufunc"](ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if self._trace.closed:
            return function(*[settled(a) for a in args], **{k: settled(v) for k, v in kwargs.items()})
        written = FUNCTIONS.get(function)
        if written is not None:
            return written(*args, **kwargs)
        return FUNCTIONS["unknown"](function, args, kwargs)

    # --- reading and writing
    def __getitem__(self, index: Any) -> Any:
        if type(index) is int:
            return record(_GETITEM, (self,), {"index": Index.of(index)})
        index, arrays = normalized(self, index)
        return record(_GETITEM, (self, *arrays), {"index": index})

    def __setitem__(self, index: Any, value: Any) -> None:
        held = self._writeable()
        if self._trace.closed:
            held[settled(index)] = settled(value)
            return
        if isinstance(index, Traced) and index.dtype == np.bool_ and index.shape == self.shape and np.ndim(value) == 0:
            self._write(record(OPS["where"], (index, value, self)))
            return
        index, arrays = normalized(self, index)
        if isinstance(value, list | tuple):
            value = FUNCTIONS["array"](value)
        trace = self._trace
        value, *arrays = [trace.own(a) for a in (value, *arrays)]
        values = [a._value if type(a) is Traced else a for a in (value, *arrays)]
        held[index.fill(values[1:])] = values[0]
        nodes = [self._current()]
        for a in (value, *arrays):
            nodes.append(a._current() if type(a) is Traced else trace.constant(a))
        self._assign(trace.emit(OPS["setitem"], tuple(nodes), {"index": index}, (self.shape, self.dtype)))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def base(self) -> Traced | None:
        return self._base

    @property
    def flags(self) -> Any:
        return np.asarray(self._value).flags

    @property
    def T(self) -> Traced:
        return record(OPS["transpose"], (self,), {"axes": tuple(range(self.ndim))[::-1]}) if self.ndim > 1 else self

    @property
    def mT(self) -> Any:
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> Any:
        return np.real(self)

    @property
    def imag(self) -> Any:
        return np.imag(self)

    @property
    def flat(self) -> Any:
        value = self._value
        return self.ravel() if not isinstance(value, np.ndarray) or value.flags.c_contiguous else _Flat(self)

    def view(self, dtype: Any = None, type: Any = None) -> Any:
        if type in (None, np.ndarray) and (dtype in (None, np.ndarray) or np.dtype(dtype) == self.dtype):
            return self[...] if self.shape else self
        raise untraceable("view() reads the bytes of a traced value as another type", "use astype")

    def put(self, indices: Any, values: Any, mode: str = "raise") -> None:
        FUNCTIONS[np.put](self, indices, values, mode)

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        return FUNCTIONS[np.reshape](self, shape[0] if len(shape) == 1 else shape, order)

    def transpose(self, *axes: Any) -> Any:
        return FUNCTIONS[np.transpose](self, (axes[0] if len(axes) == 1 else axes) or None)

    def copy(self, order: Any = "C") -> Traced:
        value = self._value.copy(order) if isinstance(self._value, np.ndarray) else self._value
        return new_traced(self._trace, self._current(), value, self.shape, self.dtype)

    def flatten(self, order: str = "C") -> Any:
        return self.ravel(order).copy()

    def ravel(self, order: str = "C") -> Any:
        return FUNCTIONS[np.ravel](self, order)

    def astype(self, dtype: Any, *args: Any, copy: bool = True, **kwargs: Any) -> Traced:
        wanted = np.dtype(dtype)
        if wanted == self.dtype:
            return self.copy("K") if copy else self
        return record(_ASTYPE, (self,), {"dtype": wanted})

    def item(self, *index: int) -> Any:
        if not index and self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        place = index[0] if len(index) == 1 else index
        if isinstance(place, tuple) and place:
            return self[place]._as_python()
        return (self.ravel()[place or 0] if self.shape else self)._as_python()

    def tolist(self) -> Any:
        return [part.tolist() for part in self] if self.shape else self._as_python()

    def _as_python(self) -> Any:
        """Return this number as the Python number that ``float()`` or ``item()`` would give."""
        y = self.astype(np.float64) if self.dtype.kind == "f" and self.dtype != np.float64 else self
        number = new_traced(y._trace, y._current(), y._value, (), y.dtype)
        number._weak = y.dtype == np.float64
        return number

    def tobytes(self, order: Any = "C") -> bytes:
        return bytes(np.asarray(self._shown()).tobytes(order))

    def is_integer(self) -> bool:
        return bool(self == np.trunc(self))

    def fill(self, value: Any) -> None:
        self[...] = value

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        self._write(np.sort(self, axis=axis))

    def __round__(self, ndigits: int | None = None) -> Any:
        if ndigits is None:
            return int(np.rint(self))
        rounded: Any = np.round(self, ndigits)
        if self._weak:
            rounded._weak = True  # Python rounds a Python number to one
        return rounded

    def __floor__(self) -> int:
        return int(np.floor(self))

    def __ceil__(self) -> int:
        return int(np.ceil(self))

    def __trunc__(self) -> int:
        return int(self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self


class _Flat:
    """``a.flat`` where ``a.ravel()`` would be a copy, so that writes would be lost."""

    def __init__(self, array: Traced) -> None:
        self._array = array

    def __len__(self) -> int:
        return self._array.size

    def __iter__(self) -> Iterator[Traced]:
        return iter(self._array.ravel())

    def __getitem__(self, index: Any) -> Any:
        return self._array.ravel()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        line = self._array.ravel().copy()
        line[index] = value
        self._array._write(line.reshape(self._array.shape))


_ASTYPE = OPS["astype"]
_EQUAL, _NOT_EQUAL = OPS["equal"], OPS["not_equal"]


_DIVISIONS = ("divide", "floor_divide", "remainder")


def _number_of(a: Any) -> Any:
    return a.plain() if type(a) is Traced else a


def _define_operators() -> None:
    def binary(op: Op) -> tuple[Any, Any, Any]:
        def forward(self: Traced, other: Any) -> Any:
            if type(other) is not Traced:
                if other is None or isinstance(other, str):
                    return NotImplemented
                other = _plain(other)
            if self._weak and _python_like(other):
                return python_numbers(self, other)
            return record(op, (self, other))

        def reflected(self: Traced, other: Any) -> Any:
            if self._weak and _python_like(other):
                return python_numbers(other, self)
            return record(op, (_plain(other), self))

        def python_numbers(a: Any, b: Any) -> Any:
            """Compute with Python numbers, which raise where NumPy's would give inf or nan."""
            raises = (a if type(a) is Traced else b)._trace.raises
            if raises and op.name in _DIVISIONS and b == 0:  # guarded
                return operator.truediv(1.0, 0.0)
            result = record(op, (a, b))
            if raises and op.name == "power" and not np.isfinite(result):  # guarded
                exact = _number_of(a) ** _number_of(b)
                if isinstance(exact, complex):
                    raise untraceable("a power of a negative number is complex", "use real numbers only")
            if type(result) is Traced:
                result._weak = result.dtype.kind != "b"  # a comparison's answer is no number that could be cast
            return result

        def inplace(self: Traced, other: Any) -> Any:
            if isinstance(self._value, np.ndarray):
                return self._write(record(op, (self, _plain(other))))
            return forward(self, other)

        return forward, reflected, inplace

    names = {
        "add": "add",
        "sub": "subtract",
        "mul": "multiply",
        "truediv": "divide",
        "pow": "power",
        "floordiv": "floor_divide",
        "mod": "remainder",
        "and": "bitwise_and",
        "or": "bitwise_or",
        "xor": "bitwise_xor",
        "lshift": "left_shift",
        "rshift": "right_shift",
        "matmul": "matmul",
    }
    for short, name in names.items():
        forward, reflected, inplace = binary(OPS[name])
        setattr(Traced, f"__{short}__", forward)
        setattr(Traced, f"__i{short}__", inplace)
        setattr(Traced, f"__r{short}__", reflected)
    compare = {
        "lt": "less",
        "le": "less_equal",
        "gt": "greater",
        "ge": "greater_equal",
        "eq": "equal",
        "ne": "not_equal",
    }
    for short, name in compare.items():
        setattr(Traced, f"__{short}__", binary(OPS[name])[0])

    def unary_of(op: Op) -> Any:
        def unary(self: Traced) -> Traced:
            result = record(op, (self,))
            if self._weak and type(result) is Traced:
                result._weak = True
            return result

        return unary

    for short, name in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():
        setattr(Traced, f"__{short}__", unary_of(OPS[name]))


def _plain(other: Any) -> Any:
    return FUNCTIONS["array"](other) if isinstance(other, list | tuple) else other


_define_operators()


def _define_methods() -> None:
    """Give Traced the methods of ndarray that have a function of the same name."""

    def method(function: Any) -> Any:
        def call(self: Traced, *args: Any, **kwargs: Any) -> Any:
            if self._trace.closed:
                return function(self.plain(), *map(settled, args), **kwargs)
            return FUNCTIONS[function](self, *args, **kwargs)

        return call

    for name in (
        *("sum", "mean", "prod", "max", "min", "var", "std", "cumsum", "cumprod", "any", "all", "argmax", "argmin"),
        *("argsort", "dot", "swapaxes", "clip", "round", "take", "repeat", "squeeze", "trace", "diagonal", "nonzero"),
        *("searchsorted", "conj"),
    ):
        setattr(Traced, name, method(getattr(np, name)))
    Traced.conjugate = Traced.conj  # type: ignore[attr-defined]


_define_methods()


def normalized(x: Traced, index: Any) -> tuple[Index, list[Any]]:
    """Return the index with holes for its arrays, and the arrays. A mask becomes the positions that it selects."""
    items: list[Any] = []
    arrays: list[Any] = []
    for item in index if type(index) is tuple else (index,):
        kind = type(item)
        if kind is int or item is None or item is Ellipsis:
            items.append(item)
        elif kind is slice:
            ends = item.start, item.stop, item.step
            if not {int, type(None)}.issuperset(map(type, ends)):
                item = slice(*[None if v is None else v.__index__() for v in ends])
            items.append(item)
        elif isinstance(item, bool | np.bool_) and kind is not Traced:
            raise untraceable("an index is a single True or False", "use np.where")
        elif isinstance(item, int | np.integer) and not (kind is Traced and x.ndim == 1):
            items.append(item.__index__())
        else:
            if kind is not Traced:
                item = np.asarray(item)
                if item.size == 0:
                    item = item.astype(np.intp)
            if item.dtype == np.bool_:
                if not item.shape:
                    raise untraceable("an index is a single True or False", "use np.where")
                found = FUNCTIONS[np.nonzero](item) if kind is Traced else np.nonzero(item)
                arrays += found
                items += [Index.HOLE] * len(found)
                continue
            if item.dtype.kind not in "iu":
                raise IndexError("arrays used as indices must be of integer (or boolean) type")
            arrays.append(item)
            items.append(Index.HOLE)
    return Index(tuple(items)), arrays
