"""Tracing: a plain NumPy function, run once on traced values, leaves a `Graph`.

A node's activity says what it depends on: 0 on constants only, 1 on arguments that are not differentiated, 2 on
differentiated ones. At 0 and 1 a number can be read without losing a derivative, as ``np.asarray`` and ``float`` do;
at 2 only what is locally constant (comparisons, ``int``) may be read of it, and anything else raises
`TraceError`.
"""

from __future__ import annotations

import contextlib
import gc
import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from koubai.errors import quiet
from koubai.graph.graph import CAPTURED, CONSTANT, INPUT, Calls, Graph, Guard, Kink, Node, misfit, new_node
from koubai.graph.infer import NUMBER, infer_shape_dtype
from koubai.graph.ops import Op, Shape
from koubai.graph.simplify import SIMPLIFY, simplify_elementwise
from koubai.graph.traced import (
    Traced,
    current_node,
    is_python_number,
    new_traced,
    strangers,
    trace_of,
    unwrap_closed,
    value_of,
    weaken,
)
from koubai.graph.user_code import Where, forget_places, untraceable, user_frame

__all__ = ["Trace", "current_trace", "seldom_collected", "uncollected"]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector off while many objects are made that aren't garbage: it would go through all of them
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
    """Has the garbage collector run seldom while a function is traced: it makes many objects that aren't garbage, and
    may make garbage besides.
    """

    OBJECTS = 20_000  # made until the collector runs

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
            forget_places()


class Trace:
    """A graph under construction. ``concrete``: traced values carry numbers; without, only shapes and dtypes."""

    def __init__(self, concrete: bool, name: str = "f") -> None:
        self.concrete = concrete
        self.name = name
        self.nodes: list[Node] = []
        self.activity: list[int] = []  # of each node, if there are numbers
        self.forms: list[Any] = []  # as a graph's
        self.value_numbering: Calls = defaultdict(dict)  # finds the node of a call that was recorded before
        self.inputs: list[int] = []
        self.guards: dict[tuple[int, Any], Guard] = {}
        self.kinks: list[Kink] = []
        self.where: Where = None  # for nodes without a user's line of their own
        self.closed = False
        self.unwatched: str | None = None  # why the graph holds at this point and this moment alone, if it does
        self.mirror: Any = None  # the mirror of the outside world that the function meets, while it runs
        self.raises = concrete  # whether Python numbers raise as Python's own do
        self.met = False  # whether a differentiated number was equal to one from elsewhere
        self.apart = False  # whether it counts as different then, so that no memory of earlier calls is used
        self.written_as_text = False  # whether a differentiated value was, with all its digits
        self.inner: list[Any] = []  # what gradients taken inside the function read from outside
        self.adopted: list[Traced] = []  # values of the traces around this one that it uses, one an input
        self.writable: set[int] = set()  # identities of the arrays from outside that the function writes into
        self.captures: dict[int, tuple[Traced, np.ndarray[Any, Any], int]] = {}  # traced, original, node at first

    def running(self, aloud: bool = False) -> _Running:
        """Make this the trace of the thread while a function runs. aloud: with np.errstate as it is."""
        return _Running(self, aloud)

    def append(
        self, op: Op, params: dict[str, Any], shape: Shape, dtype: Any, activity: int, where: Where = None
    ) -> int:
        """Add a leaf."""
        i = len(self.nodes)
        self.nodes.append(new_node((op, (), params, shape, dtype, where)))
        self.forms.append((shape, type(params["value"]) if dtype is None else dtype))
        if self.concrete:
            self.activity.append(activity)
        return i

    def input(self, value: Any, name: str, activity: int = 2) -> Traced:
        """Add an argument. A concrete ``value`` must be a copy that the trace may write into."""
        shape, dtype = value.shape, value.dtype
        i = self.append(INPUT, {"name": name}, shape, dtype, activity)
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
        known = self.value_numbering[CONSTANT]
        if key is not None:
            i = known.get(key)
            if i is not None:
                return i
        i = self.append(CONSTANT, {"value": value}, shape, dtype, 0, self.where)
        if key is not None:
            known[key] = i
        return i

    def adopt(self, value: Traced) -> Traced:
        """Return a value of the trace around this one as an input of this one, which `koubai.graph.call.inline` gives.

        It has the same activity: what follows from it must not be read, though it is not differentiated here.
        """
        if trace_of(value) is self:
            return value
        outer = trace_of(value)
        if not outer.concrete or outer.closed or self.closed:
            raise strangers()
        node = current_node(value)
        known, key = self.value_numbering[INPUT], (id(outer), node)
        i = known.get(key)
        if i is None:
            shape, dtype = value.shape, value.dtype
            i = known[key] = self.append(
                INPUT, {"name": f"outer{len(self.adopted)}"}, shape, dtype, outer.activity[node]
            )
            self.inputs.append(i)
            self.adopted.append(new_traced(outer, node, value_of(value), shape, dtype))
        shown = value_of(value)
        if isinstance(shown, np.ndarray):
            shown = shown.copy()
            shown.flags.writeable = False
        inner = new_traced(self, i, shown, value.shape, value.dtype)
        return weaken(inner) if is_python_number(value) else inner

    @staticmethod
    def adopt_all(args: Sequence[Any]) -> list[Any]:
        """Return the arguments in the trace that is running: what belongs to one around it becomes an input there."""
        trace = _active.trace
        if trace is None or trace.closed or not trace.concrete:
            raise strangers()
        return [trace.adopt(a) if type(a) is Traced else a for a in args]

    def captured(self, value: np.ndarray[Any, Any]) -> Traced:
        """Add an array of the caller's that the function reads from outside; the graph keeps the object, not a copy."""
        known, key = self.value_numbering[CAPTURED], id(value)
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
        written = [(t, array) for t, array, node in self.captures.values() if current_node(t) != node]
        for _, array in written:
            for _, other, _ in self.captures.values():
                if other is not array and np.may_share_memory(other, array):
                    raise untraceable("the function writes into an array that shares memory with another", "copy it")
        for traced, array in written:
            np.copyto(array, value_of(traced))
        return bool(written)

    def emit(self, op: Op, inputs: tuple[int, ...], params: dict[str, Any], form: Any = None, depth: int = 3) -> int:
        """Return the node for this call, a new one unless there is the same already.

        form: (shape, dtype) of the result, inferred if it is not given; depth: as `user_frame` takes it.
        """
        if self.closed:
            raise untraceable("a traced value outlived its trace", "don't keep values of x outside the function")
        known, key = self.value_numbering[op], (inputs, *params.values()) if params else inputs
        i = known.get(key)
        if i is not None:
            return i
        nodes, forms = self.nodes, self.forms
        i = len(nodes)
        is_number = form is NUMBER and op.elementwise  # as most nodes of a loop over numbers: there is no more to infer
        if not is_number and (form is None or op.elementwise or op.shape is not None):
            found = infer_shape_dtype(op, forms, nodes, inputs, params)
            if form is not None and found != form:
                if form[1] == np.object_:
                    raise untraceable(f"{op.name} gives a value of dtype object", "use real numbers only")
                raise misfit(i, op, form, found)
            form = found  # one object for all nodes of this form
        if self.concrete:
            active, activity = 0, self.activity
            for j in inputs:
                if activity[j] > active:
                    active = activity[j]
            activity.append(1 if active == 2 and not op.vjp else active)
            where = user_frame(depth)
        else:
            where = self.where
        known[key] = i
        shape, dtype = form
        nodes.append(new_node((op, inputs, params, shape, dtype, where)))
        forms.append(form)
        return i

    def derive(self, op: Op, nodes: list[int], params: dict[str, Any]) -> int:
        """Return the node for this call in a trace without numbers, leaving out work that changes no bit."""
        simplify = SIMPLIFY.get(op)
        if simplify is None and op.elementwise and not params:
            simplify = simplify_elementwise
        simpler = simplify(self, op, nodes, params) if simplify is not None else None
        return self.emit(op, tuple(nodes), params) if simpler is None else simpler

    def own(self, value: Any) -> Any:
        """Return ``value``, which is to be written into an array of this trace, as a value of this trace."""
        if type(value) is not Traced or trace_of(value) is self or trace_of(value).closed:
            return unwrap_closed(value)
        if _active.trace is not self:
            raise strangers()
        return self.adopt(value)

    def guard(self, node: int, expected: Any) -> None:
        if self.closed:
            return
        if self.concrete and self.activity[node] == 0:
            return  # a constant can't change
        key = (node, expected.tobytes() if isinstance(expected, np.ndarray) else (type(expected), expected))
        if key not in self.guards:
            self.guards[key] = Guard(node, expected, user_frame())

    def graph(self, outputs: Sequence[int]) -> Graph:
        """Close the trace and return what it recorded, without the dead nodes."""
        guards = list(self.guards.values())
        return Graph.pruned(self.nodes, self.inputs, outputs, guards, self.kinks, self.name, self)
