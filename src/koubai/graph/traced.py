"""The array that stands in: what a function meets in place of an argument while it is traced.

A traced value carries its number, so ``if``, ``while`` and ``int()`` work; each number read like this is a *guard*,
and a graph is only valid if its guards hold. It is not an ndarray: ``np.asarray`` of a subclass would silently drop
the trace. In-place writes are recorded functionally: the array object is pointed at a new node, and so are the views
of it.

What NumPy's functions do to it is in the table `FUNCTIONS`, which graph/numpy fills.
"""

from __future__ import annotations

import dis
import math
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.errors import CompileError, TraceError
from koubai.graph.graph import CONSTANT, Kink, Node
from koubai.graph.infer import NUMBER
from koubai.graph.ops import ON_NUMBERS, OPS, UFUNCS, Index, Op, Shape
from koubai.graph.user_code import number_taken, untraceable

if TYPE_CHECKING:
    from koubai.graph.tracer import Trace

__all__ = [
    "FUNCTIONS",
    "OutsideWrite",
    "Traced",
    "concretize",
    "constant_array",
    "current_node",
    "is_differentiated",
    "is_python_number",
    "new_traced",
    "normalized",
    "number_for_text",
    "overwrite",
    "python_number",
    "record",
    "recorded_node",
    "strangers",
    "trace_of",
    "unwrap_closed",
    "value_of",
    "weaken",
    "zero_array",
]

FUNCTIONS: dict[Any, Callable[..., Any]] = {}  # NumPy function -> how it is written in primitives; graph/numpy/
_NONE: dict[str, Any] = {}


class OutsideWrite(BaseException):
    """The function is about to write into an array from outside: it is to be traced again with a copy of that one.

    It isn't an Exception, lest the function catch it.
    """

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array


_NUMBERS = frozenset((np.float64, float))  # of which one at least is NumPy's


def record(op: Op, args: Sequence[Any], params: dict[str, Any] = _NONE) -> Traced:
    """Record one call of a primitive on traced and plain values, and run it if the trace carries numbers."""
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
                raise strangers()
            elif (i := a._node) < 0:
                if op.elementwise and _are_numbers(args):  # so is the result, and no node until it meets more
                    value = op.call(*[b._value if type(b) is Traced else b for b in args], **params)
                    return new_traced(trace, -1, value, (), value.dtype)
                i = current_node(a)
            nodes.append(i)
        i = trace.derive(op, nodes, params)
        shape, dtype = trace.forms[i]
        return new_traced(trace, i, None, shape, dtype)
    values = []
    for a in args:
        if type(a) is Traced:
            if a._trace is not trace:
                if a._trace.closed:
                    return record(op, [unwrap_closed(b) for b in args], params)
                return record(op, trace.adopt_all(args), params)
            if a._weak:
                cast = _given_way(args)
                if cast is not args:
                    return record(op, cast, params)
            nodes.append(a._node if a._base is None else current_node(a))
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
        elif type(values[0]) in _NUMBERS and type(values[-1]) in _NUMBERS:  # no such row has more than two operands
            value = ON_NUMBERS.get(op, op.call)(*values)
        else:
            value = op.call(*values)
    except (ArithmeticError, np.linalg.LinAlgError, RuntimeWarning) as error:
        trace.unwatch(f"{op.name} raised {type(error).__name__}")  # the function may catch it: a way without a guard
        raise
    shape, dtype = form = NUMBER if type(value) is np.float64 else (value.shape, value.dtype)
    i = trace.emit(op, tuple(nodes), params, form, 4)
    if op.kink is not None and trace.activity[i] == 2 and op.kink(value, *values, **params):
        trace.kinks.append(Kink(i, op.name, trace.nodes[i].where))
    result = new_traced(trace, i, value, shape, dtype)
    if shape and (op.view or op is _GETITEM) and _is_view(value, values[0]):
        base = args[0]
        result._base, result._base_node, result._view = base, nodes[0], trace.nodes[i]
        root = result._root = base if base._base is None else base._root
        result._root_node = root._node
    return result


def _kept_apart(trace: Trace, op: Op, nodes: Sequence[int], values: Sequence[Any]) -> Any:
    """Answer that a differentiated number is not one from elsewhere, though it is now; or None, for NumPy's own answer.

    Beside this point it is not. A number that was kept under x, or beside a copy of x, is so computed again.
    """
    active = [trace.activity[i] == 2 for i in nodes]
    if active[0] == active[1]:
        return None
    same = np.equal(*values)
    met = same & (values[active.index(False)] != 0)  # formulas often change at 0
    if not met.any():
        return None
    trace.met = True
    same = same & ~met
    return None if not trace.apart else ~same if op is _NOT_EQUAL else same


def _after_the_trace(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """Answer for traced values that outlived their trace: they are the numbers that they were."""
    plain = [unwrap_closed(a) for a in args]
    if any(type(a) is Traced for a in plain):
        return record(op, plain, params)
    return op.call(*plain, **params)


def unwrap_closed(value: Any) -> Any:
    """Return a traced value that outlived its trace as the number that it was, also inside lists and tuples."""
    kind = type(value)
    if kind is Traced:
        return value.plain() if value._trace.closed and value._trace.concrete else value
    if kind is list or kind is tuple:
        parts = [unwrap_closed(part) for part in value]
        return value if all(map(operator.is_, parts, value)) else kind(parts)
    return value


def strangers() -> TraceError:
    """Return the error for values of two traces of which neither runs inside the other."""
    return untraceable(
        "values of two different traces meet",
        "let the function of an inner gradient change no array of the outer one's",
    )


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


def is_python_number(a: Any) -> bool:
    """Return whether a value is a Python number, traced or not."""
    return a._weak if type(a) is Traced else type(a) in (float, int, bool)


def _is_view(value: Any, base: Any) -> bool:
    if not isinstance(value, np.ndarray) or value.base is None:
        return False
    return value.base is base or np.may_share_memory(value, base)


def new_traced(trace: Trace, node: int, value: Any, shape: Shape, dtype: Any) -> Traced:
    """Return a new traced value. (A constructor would take half as long again: it starts the interpreter again.)"""
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
    """Return whether this frame is at a ``%``: no traced value asks for its own number there, so a text does."""
    code, at = frame.f_code.co_code, frame.f_lasti
    return code[at] == _BINARY and dis._nb_ops[code[at + 1]][1] in ("%", "%=")  # type: ignore[attr-defined]


class Traced:
    """A value of the function being traced. It behaves as a NumPy array, or as a NumPy scalar when 0-d."""

    __slots__ = (
        *("__weakref__", "_base", "_base_node", "_node", "_root", "_root_node", "_trace", "_value", "_view", "_weak"),
        *("dtype", "shape"),
    )
    _record = staticmethod(record)  # for `ops.apply`, as _zeros and _known are for ops.py
    _trace: Trace
    _node: int  # below 0: a number of a trace without numbers, which isn't a node yet
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
        return zero_array(self._trace, shape, dtype)

    @property
    def _known(self) -> Any:
        """The value, if it is a constant of the graph."""
        node = self._trace.nodes[current_node(self)]
        return node.params["value"] if node.op is CONSTANT else None

    # --- aliasing: what is written into an array shows in its views, and the other way round
    def _refresh(self) -> None:
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
                node = emit(OPS["setitem"], (current_node(base), node, *view.inputs[1:]), view.params, form)
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

    # --- numbers that are read
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
            node = current_node(self)
            trace.guard(node, value)
            if trace.activity[node] == 2:
                trace.unwatch("it takes a traced value as a key")
        return hash(value)

    def __bool__(self) -> bool:
        if not self._trace.concrete:
            raise CompileError("a derivative rule looked at a value: bool()")
        answer = bool(self._value)  # raises for more than one element, as NumPy does
        if self._trace.closed:
            return answer
        asked = self if self.dtype == np.bool_ else record(OPS["not_equal"], (self, 0))
        self._trace.guard(current_node(asked), answer)
        return answer

    def __int__(self) -> int:
        whole = record(OPS["trunc"], (self,)) if self.dtype.kind == "f" else self
        return int(concretize(whole, "int()", "leave int() out"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.shape:
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(concretize(self, "an index", "index with integers"))

    def __float__(self) -> float:
        if _formats(sys._getframe(1)):  # a text's own % asks for the number
            return float(number_for_text(self))
        return float(concretize(self, "float()", "leave float() out"))

    def __complex__(self) -> complex:
        return complex(concretize(self, "complex()", "leave complex() out"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        fix = "build the array inside the function with np.zeros or np.array, and call NumPy as np.name"
        return np.array(concretize(self, "np.asarray, or a write into an array made elsewhere,", fix), dtype=dtype)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Traced]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return iter([self[i] for i in range(self.shape[0])])

    def __repr__(self) -> str:
        return repr(number_for_text(self))

    def __str__(self) -> str:
        return str(number_for_text(self))

    def __format__(self, spec: str) -> str:
        return format(number_for_text(self, rounded=bool(spec)), spec)

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
            inputs = tuple([unwrap_closed(a) for a in inputs])
            return getattr(ufunc, method)(*inputs, **{k: unwrap_closed(v) for k, v in kwargs.items()})
        if method == "__call__" and not kwargs:
            op = UFUNCS.get(ufunc)
            if op is not None:
                return record(op, inputs)
        return FUNCTIONS["ufunc"](ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if self._trace.closed:
            return function(*[unwrap_closed(a) for a in args], **{k: unwrap_closed(v) for k, v in kwargs.items()})
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
            held[unwrap_closed(index)] = unwrap_closed(value)
            return
        if isinstance(index, Traced) and index.dtype == np.bool_ and index.shape == self.shape and np.ndim(value) == 0:
            overwrite(self, record(OPS["where"], (index, value, self)))
            return
        index, arrays = normalized(self, index)
        if isinstance(value, list | tuple):
            value = FUNCTIONS["array"](value)
        trace = self._trace
        value, *arrays = [trace.own(a) for a in (value, *arrays)]
        values = [a._value if type(a) is Traced else a for a in (value, *arrays)]
        held[index.fill(values[1:])] = values[0]
        nodes = [current_node(self)]
        for a in (value, *arrays):
            nodes.append(current_node(a) if type(a) is Traced else trace.constant(a))
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
        return new_traced(self._trace, current_node(self), value, self.shape, self.dtype)

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
            return python_number(self[place])
        return python_number(self.ravel()[place or 0] if self.shape else self)

    def tolist(self) -> Any:
        return [part.tolist() for part in self] if self.shape else python_number(self)

    def tobytes(self, order: Any = "C") -> bytes:
        return bytes(np.asarray(number_for_text(self)).tobytes(order))

    def is_integer(self) -> bool:
        return bool(self == np.trunc(self))

    def fill(self, value: Any) -> None:
        self[...] = value

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        overwrite(self, np.sort(self, axis=axis))

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


# --- what other files need of a traced value. It has no public name that an array has not: a function may ask for one
def trace_of(x: Traced) -> Trace:
    """Return the trace that a traced value belongs to."""
    return x._trace


def value_of(x: Traced) -> Any:
    """Return the number or the array itself, not a copy, that a traced value carries; None in a trace without numbers.

    It is neither guarded nor may it be written into: `concretize` is for a function that asks.
    """
    return x._value


def recorded_node(x: Traced) -> int:
    """Return the node that a traced value was last known as; below 0: a number that isn't a node yet."""
    return x._node


def current_node(x: Traced) -> int:
    """Return the node that holds the present content; a view's is taken again if its base was written."""
    if x._base is not None:
        if x._root._node != x._root_node:
            x._refresh()
    elif x._node < 0:  # a number of a trace without numbers
        x._node = x._trace.constant(x._value)
    return x._node


def is_differentiated(x: Traced) -> bool:
    """Return whether a derivative is lost with the number of a traced value."""
    return not x._trace.concrete or x._trace.activity[current_node(x)] == 2


def weaken(x: Traced) -> Traced:
    """Make a traced number one of Python's, which gives way to the precision of what it meets (NEP 50)."""
    x._weak = True
    return x


def python_number(x: Traced) -> Traced:
    """Return a traced number as the Python number that ``float()`` or ``item()`` would give."""
    y = x.astype(np.float64) if x.dtype.kind == "f" and x.dtype != np.float64 else x
    number = new_traced(y._trace, current_node(y), y._value, (), y.dtype)
    number._weak = y.dtype == np.float64
    return number


def concretize(x: Traced, what: str, fix: str) -> Any:
    """Return the number itself, guarded; refused if the derivative would be lost.

    what: who reads it, fix: what to do instead, for the TraceError.
    """
    trace = x._trace
    if trace.closed:
        return x.plain()
    if not trace.concrete:
        raise CompileError(f"a derivative rule looked at a value: {what}")
    node = current_node(x)
    if trace.activity[node] == 2:
        raise number_taken(what, fix)
    value = x._value.copy() if isinstance(x._value, np.ndarray) else x._value
    trace.guard(node, value)
    return value


def number_for_text(x: Traced, rounded: bool = False) -> Any:
    """Return the number for a text. The text may come back as a number, so the path is bound to it."""
    trace = x._trace
    if x._value is not None and not trace.closed:
        node = current_node(x)
        trace.guard(node, np.copy(x._value) if x.shape else x._value)
        if trace.activity[node] == 2:
            trace.unwatch("it makes a text of a traced value")
            trace.written_as_text = trace.written_as_text or not rounded
    return x.plain() if trace.concrete else x._value


def overwrite(x: Traced, new: Any) -> Traced:
    """Overwrite an array with ``new``, as ``out=`` and ``+=`` do, and return it."""
    if x._trace.closed:
        x._writeable()[...] = unwrap_closed(new)
        return x
    if np.shape(new) != x.shape:
        if len(np.shape(new)) > x.ndim or np.broadcast_shapes(np.shape(new), x.shape) != x.shape:
            raise ValueError(f"non-broadcastable output operand with shape {x.shape}: the result has {np.shape(new)}")
        new = np.broadcast_to(new, x.shape)
    new = x._trace.own(new)
    if not isinstance(new, Traced):
        new = constant_array(x._trace, new)
    if new.dtype != x.dtype:
        if not np.can_cast(new.dtype, x.dtype, "same_kind"):
            raise TypeError(f"cannot cast the result from {new.dtype} to {x.dtype}")
        new = record(_ASTYPE, (new,), {"dtype": x.dtype})
    x._writeable()[...] = new._value
    x._assign(current_node(new))
    return x


def constant_array(trace: Trace, value: Any, held: Any = None) -> Traced:
    """Return a constant as a traced array. held: the array that is to be written into, if it is made already."""
    i = trace.constant(value)
    if held is None:
        held = np.array(value)
        held = held if held.ndim else held[()]
    return new_traced(trace, i, held, held.shape, held.dtype)


def zero_array(trace: Trace, shape: Shape, dtype: Any, held: Any = None) -> Traced:
    """Return an assignable array of zeros. held: the zeros, in a layout of their own, if they are made already."""
    dtype = np.dtype(dtype)
    i = trace.emit(OPS["zeros"], (), {"shape": shape, "dtype": dtype}, (shape, dtype))
    if held is None and trace.concrete:
        held = np.zeros(shape, dtype)
    return new_traced(trace, i, held, shape, dtype)


class _Flat:
    """``a.flat`` if ``a.ravel()`` would be a copy, so that writes would be lost."""

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
        overwrite(self._array, line.reshape(self._array.shape))


_ASTYPE, _GETITEM = OPS["astype"], OPS["getitem"]
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
            if self._weak and is_python_number(other):
                return python_numbers(self, other)
            return record(op, (self, other))

        def reflected(self: Traced, other: Any) -> Any:
            if self._weak and is_python_number(other):
                return python_numbers(other, self)
            return record(op, (_plain(other), self))

        def python_numbers(a: Any, b: Any) -> Any:
            """Compute with Python numbers, which raise when NumPy's would give inf or nan."""
            raises = (a if type(a) is Traced else b)._trace.raises
            if raises and op.name in _DIVISIONS and b == 0:  # guarded
                return operator.truediv(1.0, 0.0)
            result = record(op, (a, b))
            if raises and op.name == "power" and not np.isfinite(result):  # guarded
                exact = _number_of(a) ** _number_of(b)
                if isinstance(exact, complex):
                    raise untraceable("a power of a negative number is complex", "use real numbers only")
            if type(result) is Traced:
                result._weak = result.dtype.kind != "b"  # a comparison's answer isn't a number that could be cast
            return result

        def inplace(self: Traced, other: Any) -> Any:
            if isinstance(self._value, np.ndarray):
                return overwrite(self, record(op, (self, _plain(other))))
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
                return function(self.plain(), *map(unwrap_closed, args), **kwargs)
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
