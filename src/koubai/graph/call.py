"""One call of a user's function as a graph: arguments become inputs, the answer becomes outputs."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from koubai.errors import FunctionError, InputError, KoubaiError, TraceError, called
from koubai.graph.environment import Environment
from koubai.graph.graph import CAPTURED, CONSTANT, INPUT, Graph
from koubai.graph.mirror import Mirror
from koubai.graph.numpy.arguments import array, holds_traced
from koubai.graph.ops import apply
from koubai.graph.traced import OutsideWrite, Traced, current_node, trace_of
from koubai.graph.tracer import Trace, current_trace, seldom_collected
from koubai.graph.user_code import is_library, untraceable
from koubai.parameters import is_structure, members

__all__ = ["Leaf", "Leaves", "Static", "TracedCall", "argument_names", "inline", "real", "record_call", "trace"]


_ARRAYS = np.ndarray, np.generic


class Leaves(NamedTuple):
    """The arrays among the arguments, in order, and what is left of the arguments without them.

    form: hashable; two calls with equal form have the same arrays in the same places and the same other arguments.
    """

    values: tuple[Any, ...]
    names: tuple[str, ...]
    active: tuple[int, ...]  # which of the values are differentiated
    form: Any

    def rebuild(
        self, values: Sequence[Any], static: Callable[[Any], Any] = lambda value: value
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return args and kwargs with ``values`` in place of the arrays. static: makes what stands for the others."""
        rest = iter(values)
        positional, named = self.form
        filled = [_filled(part, rest, static) for part in positional]
        return filled, {name: _filled(part, rest, static) for name, part in named}

    @classmethod
    def of(cls, f: Any, args: Sequence[Any], kwargs: Mapping[str, Any], active: Collection[int] | None) -> Leaves:
        """Take the arguments apart. ``active``: the positions that are differentiated; None: every real array."""
        found: _Found = ([], [], [])
        every = active is None
        names = argument_names(f, len(args))
        positional = [_part(v, names[i], active is not None and i in active, every, found) for i, v in enumerate(args)]
        named = [(k, _part(kwargs[k], k, False, every, found)) for k in sorted(kwargs)]
        values, labels, chosen = found
        return cls(tuple(values), tuple(labels), tuple(chosen), (tuple(positional), tuple(named)))


_Found: TypeAlias = tuple[list[Any], list[str], list[int]]  # the values, their names, and which are differentiated


def _part(value: Any, name: str, on: bool, every: bool, found: _Found, label: str = "") -> Any:
    """Return the form of an argument or a part of one, and add its arrays to ``found``.

    name: as it can stand in code; label: as the caller would write it. on: it is differentiated; every: every real
    array is.
    """
    if not on and isinstance(value, _ARRAYS) and (kind := value.dtype.kind) in "fiubc":
        return _leaf(value, name, every and kind == "f", found)
    label = label or name
    if (type(value) is dict or isinstance(value, Mapping)) and all(isinstance(k, str) for k in value):
        if on and not value:
            raise InputError(f"{label} is an empty dict; give at least one array")
        names = [k if k.isidentifier() else f"{name}_{k}" for k in value]
        inner = [_part(v, n, on, every, found, m) for n, (m, v) in zip(names, members(value, label), strict=True)]
        return "dict", tuple(zip(value, inner, strict=True))
    if on:
        if not isinstance(value, _ARRAYS) and is_structure(value):
            if isinstance(value, Mapping):
                raise InputError(f"{label} must have strings as keys, got {list(value)!r}")
            return _kind(value), _listed(value, name, on, every, found, label)
        if isinstance(value, list | tuple):
            if not value:
                raise InputError(f"{label} is an empty {type(value).__name__}; give at least one number")
            value = array(value) if holds_traced(value) else value
        return _leaf(real(value, label), name, True, found)
    if every and isinstance(value, float):
        return _leaf(np.float64(value), name, True, found)
    try:
        hash(value)
    except TypeError:
        if isinstance(value, list | tuple):
            return _kind(value), _listed(value, name, on, every, found, label)
    return Static(value)


def _listed(value: Any, name: str, on: bool, every: bool, found: _Found, label: str) -> tuple[Any, ...]:
    """Return the forms of the parts of a list or tuple."""
    names = [f"{name}_{field}" for field in getattr(value, "_fields", range(len(value)))]
    return tuple(
        _part(part, n, on, every, found, inner) for n, (inner, part) in zip(names, members(value, label), strict=True)
    )


def _kind(value: Any) -> Any:
    """Return what a list or tuple is rebuilt as: "list", "tuple" or the class of a NamedTuple."""
    if hasattr(value, "_fields"):
        return type(value)
    return "list" if isinstance(value, list) else "tuple"


def _leaf(value: Any, name: str, on: bool, found: _Found) -> Leaf:
    values, names, active = found
    if on:
        active.append(len(values))
    values.append(value)
    names.append(name)
    return _new_leaf((value.shape, value.dtype))


class Leaf(NamedTuple):
    """The place of an array among the arguments."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


_new_leaf: Callable[[Any], Leaf] = functools.partial(tuple.__new__, Leaf)  # Leaf's own constructor takes twice as long


class Static:
    """An argument that is not an array: equal only to the same value of the same type; what has no hash, to itself."""

    __slots__ = ("_hash", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        try:
            self._hash: int | None = hash(value)
        except TypeError:
            self._hash = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static) or type(self.value) is not type(other.value):
            return False
        return self.value is other.value or (self._hash is not None and bool(self.value == other.value))

    def __hash__(self) -> int:
        return id(self.value) if self._hash is None else self._hash


def _filled(part: Any, rest: Any, static: Callable[[Any], Any]) -> Any:
    if isinstance(part, Leaf):
        return next(rest)
    if isinstance(part, Static):
        return static(part.value)
    kind, parts = part
    if kind == "dict":
        return {k: _filled(v, rest, static) for k, v in parts}
    values = [_filled(v, rest, static) for v in parts]
    if kind == "list":
        return values
    return tuple(values) if kind == "tuple" else kind(*values)


def real(value: Any, name: str) -> Any:
    """Return a differentiated argument as a float64 or float32 array (or scalar), not copied. Raises InputError."""
    kind = type(value)
    if kind is np.ndarray and value.dtype == np.float64 and value.shape and value.size:
        return value
    if kind is float or kind is int:
        return np.float64(value)
    if kind is Traced and value.dtype.kind == "f" and value.size:
        return value
    try:
        array = value if kind is np.ndarray or isinstance(value, np.generic) else np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is not an array of numbers: {error}") from None
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    elif array.dtype.kind != "f":
        raise InputError(f"{name} is of dtype {array.dtype}; a gradient is taken with respect to real numbers")
    elif array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float64)
    if not array.size:
        raise InputError(f"{name} is empty (shape {array.shape}); give at least one number")
    return array[()] if array.ndim == 0 else array


def argument_names(f: Any, count: int) -> list[str]:
    """Return the names of the first ``count`` positional arguments, invented if the signature does not tell."""
    function = getattr(f, "__func__", f)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(type(f).__dict__.get("__call__"), "__code__", None)
        bound = 1
    else:
        bound = 0 if function is f else 1
    known = list(code.co_varnames[bound : code.co_argcount]) if code is not None else []
    return [known[i] if i < len(known) else ("x" if count == 1 else f"x{i}") for i in range(count)]


class TracedCall(NamedTuple):
    """A traced call: the graph, what was read from outside, and the exact form of its arguments.

    adopted: values of the traces around this one that it uses: the graph's inputs after those of the arguments.
    """

    graph: Graph
    environment: Environment
    leaves: Leaves
    adopted: tuple[Traced, ...] = ()


def record_call(f: Callable[..., Any], leaves: Leaves, *, scalar: bool) -> TracedCall:
    """Run ``f`` once on traced copies of its arguments. ``scalar``: the answer must be one real number."""
    writable: dict[int, np.ndarray[Any, Any]] = {}  # arrays from outside that f writes into
    aloud = True
    while True:
        try:
            return called(lambda: _record_once(f, leaves, scalar, writable, aloud))  # noqa: B023 called at once
        except OutsideWrite as write:
            writable[id(write.array)] = write.array
        except _OwnArithmetic:
            aloud = False


class _OwnArithmetic(BaseException):
    """NumPy raised, as it is told to, but not for the numbers that the function itself computes."""


def _record_once(
    f: Callable[..., Any], leaves: Leaves, scalar: bool, writable: Mapping[int, Any], aloud: bool
) -> TracedCall:
    recorded, values, met = _ran(f, leaves, scalar, writable, aloud)
    if met:  # perhaps what f kept of an earlier call was found again under its x, and is no longer traced
        try:
            second, others, _ = _ran(f, leaves, scalar, writable, aloud, apart=True)
        except (Exception, OutsideWrite, _OwnArithmetic):
            return recorded
        pairs = zip(values, others, strict=False)
        if all(np.shape(a) == np.shape(b) and np.allclose(a, b, 1e-12, 0.0, equal_nan=True) for a, b in pairs):
            return second
    return recorded


def _ran(
    f: Callable[..., Any], leaves: Leaves, scalar: bool, writable: Mapping[int, Any], aloud: bool, apart: bool = False
) -> tuple[TracedCall, list[Any], bool]:
    """Run ``f`` once; return what was recorded, the numbers of the answer, and `Trace.met`.

    apart: as `Trace.apart`; what f changes is then left as it is, and the graph holds now and here.
    """
    tape = Trace(concrete=True, name=getattr(f, "__name__", "f"))
    tape.writable, tape.apart = set(writable), apart
    mirror = Mirror(tape)
    traced = []
    for k, (value, name) in enumerate(zip(leaves.values, leaves.names, strict=True)):
        if isinstance(value, np.ndarray):
            value = value.copy("K")  # a reshape of it copies or not, as before
        traced.append(tape.input(value, name, 2 if k in leaves.active else 1))
    args, kwargs = leaves.rebuild(traced, mirror.substitute)
    with seldom_collected, tape.running(aloud):
        try:
            answer = mirror.inside(f)(*args, **kwargs)
        except KoubaiError:
            raise
        except Exception as error:
            if apart:
                raise
            _blame(f, leaves, error, aloud)
        several = not scalar and type(answer) is not Traced and isinstance(answer, tuple)
        parts = answer if several else [answer]
        outputs = [_output(tape, part, scalar) for part in parts]
        if apart:
            tape.unwatch("it keeps what it computed")
        else:
            mirror.commit()
    graph = tape.graph(outputs)
    mirror.close()
    values = [part.plain() if type(part) is Traced else part for part in parts] if tape.met else []
    return TracedCall(graph, mirror.environment, leaves, tuple(tape.adopted)), values, tape.met


def inline(recorded: TracedCall, graph: Graph, values: Sequence[Any]) -> list[Any]:
    """Record ``graph``, which was derived from ``recorded``, into the trace that is running.

    values: its inputs, of which some belong to that trace or to one around it.
    """
    outer = current_trace()
    if outer is None:
        raise untraceable(
            "a gradient is asked for at a value that outlived its trace", "don't keep values of x outside"
        )
    outer.inner.append(recorded.environment)
    made: dict[int, Any] = dict(zip(graph.inputs, values, strict=True))
    for i, node in enumerate(graph.nodes):
        if node.op is CONSTANT:
            made[i] = node.params["value"]
        elif node.op is CAPTURED:
            made[i] = outer.captured(node.params["value"])
        elif node.op is not INPUT:
            made[i] = apply(node.op.name, *[made[j] for j in node.inputs], **node.params)
    for guard in graph.guards:
        looked_at = made[guard.node]
        if type(looked_at) is Traced:
            trace_of(looked_at).guard(current_node(looked_at), guard.expected)
    return [made[i] for i in graph.outputs]


def _blame(f: Callable[..., Any], leaves: Leaves, error: Exception, aloud: bool) -> NoReturn:
    """Tell a fault of the function, which passes through, from one that only traced values meet."""
    cause: BaseException | None = error
    while cause is not None:  # NumPy wraps what __array__ and __float__ raise
        if isinstance(cause, TraceError):
            raise cause
        cause = cause.__cause__ or cause.__context__
    args, kwargs = leaves.rebuild([v.copy() if isinstance(v, np.ndarray) else v for v in leaves.values])
    f(*args, **kwargs)  # raises what the function itself raises
    if aloud and isinstance(error, FloatingPointError | RuntimeWarning):
        raise _OwnArithmetic
    place = traceback.extract_tb(error.__traceback__)
    outside = [entry for entry in place if "koubai" not in entry.filename.replace("\\", "/").split("/")]
    users = [entry for entry in outside if not is_library(entry.filename)] or outside or place
    where = users[-1]
    callee = next(iter(outside[outside.index(where) + 1 :]), None) if where in outside else None
    called = "" if callee is None else f" in {callee.name}, which is a library's"
    raise TraceError(
        f"traced values fail where numbers do not{called}: {type(error).__name__}: {error}",
        "write this line with NumPy functions of whole arrays",
        where.filename,
        where.lineno,
    ) from error


def _output(tape: Trace, answer: Any, scalar: bool) -> int:
    if answer is None:
        raise FunctionError("f(x) returned None; the function must return a number (is a `return` missing?)")
    if type(answer) is not Traced and isinstance(answer, list | tuple) and not scalar and holds_traced(answer):
        answer = array(answer)
    if type(answer) is not Traced:
        try:
            answer = np.asarray(answer)
        except (TypeError, ValueError) as error:
            raise FunctionError(f"f(x) returned {type(answer).__name__}, which is not a number: {error}") from None
        if answer.dtype.kind in "iub":
            answer = answer.astype(np.float64)
        if answer.dtype.kind != "f":
            raise FunctionError(f"f(x) returned a value of dtype {answer.dtype}, which is not a real number")
        if scalar and answer.size != 1:
            raise FunctionError(_not_scalar(answer.shape))
        return tape.constant(answer.reshape(())[()] if scalar else answer)
    if trace_of(answer) is not tape and not trace_of(answer).closed:
        answer = tape.adopt(answer)
    if trace_of(answer) is not tape:
        raise untraceable(
            "the function returned a value of another trace", "don't keep values of x outside the function"
        )
    if answer.dtype.kind not in "fiub":
        raise FunctionError(f"f(x) returned a value of dtype {answer.dtype}, which is not a real number")
    if scalar and answer.size != 1:
        raise FunctionError(_not_scalar(answer.shape))
    if answer.dtype.kind != "f":
        answer = answer.astype(np.float64)
    if scalar and answer.shape:
        answer = answer.reshape(())
    return current_node(answer)


def _not_scalar(shape: tuple[int, ...]) -> str:
    return (
        f"f(x) returned an array of shape {shape}; a gradient needs one number: sum it or take its mean, "
        "or use koubai.jacobian"
    )


def trace(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Graph:
    """Trace: the graph of a plain NumPy function, recorded on one call with example arguments.

        trace(f, x)(x) == f(x),  trace(f, x).gradient()(x) == (f(x), f'(x))

    The graph holds on the path that these arguments take: its ``guards`` list the numbers that decided it, its
    ``kinks`` the kinks that the point sits on.

    Parameters
    ----------
    f : callable
        A function of NumPy.
    *args, **kwargs
        Numbers, arrays, and dicts, lists and tuples of arrays; every real one can be differentiated. Integers stay what
        they are.

    Returns
    -------
    Graph
        ``print`` shows it as NumPy; ``.source()`` can be pasted and run; ``.gradient()`` is the graph of value and
        gradient.

    Raises
    ------
    TraceError
        With file, line, reason and fix, if the function can't be traced.

    Examples
    --------
    >>> graph = kb.trace(lambda x: np.sin(x) * x, 2.0)
    >>> len(graph.nodes), len(graph.guards)
    (3, 0)
    >>> value, slope = graph.gradient()(2.0)
    """
    return record_call(f, Leaves.of(f, args, kwargs, None), scalar=False).graph
