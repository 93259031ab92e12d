"""Traced paths: one graph per form of the arguments and per way through the function, checked at its first use."""

from __future__ import annotations

import threading
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from koubai.derivatives.agreement import check_bend, cross_check, directions_of
from koubai.derivatives.differences import INDEPENDENT
from koubai.derivatives.nonfinite import GRADIENT, PRODUCT, Careful, Derivation, Resolver, all_finite, may_fail
from koubai.errors import GradientWarning, TraceError, called, warn
from koubai.execute.abi import operations
from koubai.execute.choose import Program
from koubai.execute.replay import Replay, Tables, is_loaded
from koubai.functions.expression import Expression
from koubai.graph.call import Leaf, Leaves, TracedCall, inline, record_call
from koubai.graph.graph import CAPTURED, LEAVES, Graph, run_nodes
from koubai.graph.ops import apply
from koubai.graph.traced import Traced, current_node, new_traced
from koubai.graph.tracer import Trace, current_trace, seldom_collected
from koubai.log import debug
from koubai.parameters import as_scalar

__all__ = ["RAISED", "Path", "Paths"]

# what f itself may raise, or catch, when a program of it meets numbers that it can't work with
RAISED = ArithmeticError, ValueError, IndexError
_HIDDEN = "a function with randomness or hidden state has no gradient; keep its state outside"
_PATHS = 16  # graphs cached for one form of the arguments: the paths that guards lead to
_FORMS = 64  # forms of the arguments cached for one function
_FUNCTIONS = 32  # whose paths are cached for another object of the same function
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_bytes = np.ndarray.tobytes
_CACHED = (types.FunctionType, Expression)
_BYTES = 2**20  # that such a path may take, with the buffers of its program


Derive: TypeAlias = Derivation | Callable[[Graph, Sequence[int]], Graph]


class Path:
    """One traced path: valid while its guards hold and what it read from outside is unchanged.

    If that can't be watched, the path is valid only at the point and the moment of its tracing; f is traced again at
    each call, and the path serves again if the graph is equal.

    specializations: what others have compiled of it, by their own keys. checked: the cache key for which it was found
    right, the value of f there, and how many evaluations that took; there: that check, and what the path gives for
    these numbers. agrees: whether it was found to agree with f; if f
    or its derivative is not finite, that isn't known, and the next call checks again. careful: whether zeros are kept
    where derivatives are infinite, since the first gradient needed it. depends: whether f depends on what is
    differentiated. last_results: the leaves of a call and what the path gave for them, until `take_results`.
    """

    __slots__ = (
        "agrees",
        "captured",
        "careful",
        "checked",
        "depends",
        "fast_call",
        "gradient",
        "graph",
        "last_results",
        "program",
        "recorded",
        "resolver",
        "same",
        "single",
        "specializations",
        "tables",
        "there",
    )

    def __init__(self, recorded: TracedCall, derive: Derive, shared: bool = False) -> None:
        """shared: between descents; then tables are made of it, if it is the gradient by one array."""
        active, form = recorded.leaves.active, recorded.leaves.form
        self.single: Leaf | None = None
        if shared and derive is GRADIENT and len(recorded.leaves.values) == len(form[0]) == 1 and not form[1]:
            leaf = form[0][0]
            self.single = leaf if type(leaf) is Leaf and leaf.shape and leaf.dtype == np.float64 else None
        self.recorded = recorded
        self.graph = derive(recorded.graph, active)
        self.program = Program(self.graph)
        self.resolver: Resolver | None = None
        if isinstance(derive, Derivation) and may_fail(self.graph, active):
            self.resolver = Resolver(recorded.graph, active, derive)
        self.careful = False
        self.agrees = self.depends = True
        self.gradient: Path | None = None  # the first derivative, which is compared with f
        self.renew(recorded)
        self.last_results: Any = None
        self.specializations: dict[Any, Any] = {}
        self.tables = Tables()
        self.checked: tuple[Any, float, int] = ((), np.nan, 0)
        self.there: tuple[Any, Any, Any] | None = None

    def renew(self, recorded: TracedCall) -> None:
        """Take over a tracing, the first one or another that gave an equal graph."""
        self.recorded, self.same = recorded, recorded.environment.same
        self.fast_call: Callable[..., Any] | None = None  # made by `koubai.derivatives.gradient`
        self.captured = [node.params["value"] for node in recorded.graph.nodes if node.op is CAPTURED]

    def run(self, leaves: Leaves, *extra: Any) -> tuple[Any, str]:
        """Return the outputs, None if a guard fails, and a sentence about a derivative that is not finite, or ""."""
        results = self.program.run(*leaves.values, *extra)
        if results is None or self.resolver is None or all_finite(results):
            return results, ""
        return self.resolver(leaves.values, extra, results)

    def table(self) -> Replay | None:
        """Return a table of f and its gradient, with the bits of the program, if one is ready and unused; the caller
        gives it back to ``tables``.
        """
        floats, graph = self.program.executor == "floats", self.graph
        if not floats and self.program.executor != "numpy":
            return None
        found: Replay | None = self.tables.take(len(graph.nodes), lambda most: Replay(graph, floats, most))
        return found

    def by_table(self, args: Sequence[Any]) -> tuple[Any, Any] | Literal[False] | None:
        """Return f and its gradient for one array by a table, to the bits of the program, if one is ready and unused;
        None too if what f reads has changed; False if a guard fails, or something is not finite.
        """
        if self.single is None or len(args) != 1 or type(args[0]) is not np.ndarray or not is_loaded():
            return None
        x, program = args[0], self.program
        if (x.shape, x.dtype) != self.single or program.executor != "numpy" or not self.recorded.environment.complete:
            return None
        if not self.same() or (table := self.table()) is None:
            return None
        found = table(x)
        refused = found is None and table.is_valid()
        self.tables.spare.append(table)
        if found is None:
            return False if refused else None
        return np.float64(found[0]), found[1].reshape(x.shape)

    def take_results(self, leaves: Leaves) -> Any:
        """Return what the path has already given in this very call, if it has, and forget it."""
        found, self.last_results = self.last_results, None
        return found[1] if found is not None and found[0] is leaves else None

    def take_care(self, leaves: Leaves, derive: Derivation) -> None:
        """Make the path a careful one from the beginning, if only so its first derivative is finite."""
        if self.resolver is None:
            return
        tabled = self.by_table(leaves.values)
        results = tabled if type(tabled) is tuple else self.program.run(*leaves.values)
        if results is None or not np.isfinite(results[0]):
            return
        if all_finite(results):
            self.last_results = leaves, results
            return
        if self.resolver.by_masks_alone(leaves.values):
            self.careful, self.program = True, self.resolver.careful()
            self.graph = derive(self.recorded.graph, leaves.active, Careful())

    def is_cacheable(self, f: Any) -> bool:
        """Return whether the path may serve later calls: everything it reads is watched, and it is small."""
        environment = self.recorded.environment
        if self.careful or not environment.complete or environment.holds(f):
            return False
        leaves = [node for node in self.graph.nodes if not node[1] and node.op in LEAVES]
        arrays = [node.params["value"] for node in leaves if "value" in node.params]
        arrays += [*self.recorded.leaves.values, *(then for _, then in environment.arrays)]
        return 8 * operations(self.graph) + sum(np.asarray(array).nbytes for array in arrays) <= _BYTES


def _warned(sentence: str) -> None:
    warn(GradientWarning(sentence))


class _TraceCache:
    """The paths of plain functions and expressions, kept so that the next descent on one need not trace it again.

    A path is used again if tracing would give it again: what it read is unchanged, its guards hold, and f, evaluated
    once, gives what it gave. Then the same evaluations are counted as if it had been traced and checked; for other
    arguments it really is checked. So only the time depends on what is in the cache.
    """

    def __init__(self) -> None:
        self._paths: weakref.WeakKeyDictionary[Any, list[Path]] = weakref.WeakKeyDictionary()
        self._last: tuple[Any, Path] | None = None  # f, weakly, and the path of it that was used last
        self._lock = threading.RLock()  # a finalizer of what is dropped may call koubai again

    def of(self, f: Any, form: Any) -> list[Path]:
        """Return the paths of ``f`` for this form of the arguments that are still valid."""
        with self._lock:
            known = self._paths.get(f, [])
        return [p for p in known if p.recorded.leaves.form == form and p.same()]

    def newest(self, f: Any) -> Path | None:
        """Return the path of ``f`` that was used last, if nothing else was used since."""
        return self._last[1] if self._last is not None and self._last[0]() is f else None

    def _forget(self, gone: Any) -> None:
        if self._last is not None and self._last[0] is gone:
            self._last = None

    def add(self, f: Any, path: Path) -> None:
        with self._lock:
            if self._last is None or self._last[0]() is not f or self._last[1] is not path:
                self._last = weakref.ref(f, self._forget), path
            known = [path, *(p for p in self._paths.pop(f, []) if p is not path and p.same())]
            self._paths[f] = known[:_PATHS]
            while len(self._paths) > _FUNCTIONS:
                del self._paths[next(iter(self._paths))]


_trace_cache = _TraceCache()


def _computes_single(graph: Graph) -> bool:
    """Return whether anything is computed in float32. Arrays of float32 that only meet float64 do no harm."""
    return any(node[4] is not _DOUBLE and node[4] == _SINGLE and node[0] not in LEAVES for node in graph.nodes)


class _Adopting(Exception):
    """A function uses values of a trace around its own, so its derivative belongs there."""

    def __init__(self, recorded: TracedCall) -> None:
        self.recorded = recorded


class Paths:
    """The traced paths of one function, found by the form of its arguments, then by what they read, then by their
    guards.

    derive: makes the graph that is run, e.g. value and gradient, from the function's graph. scalar: f must return one
    number. cache: whether paths are shared with other objects of this function, later ones included. box: the ends,
    flat, beyond which the check does not evaluate f. tell: is called with a sentence about every derivative that is not
    finite although the function is.
    """

    nfev: int = 0  # plain evaluations of f: tracing and cross-checks
    executor: str = ""

    def __init__(
        self,
        f: Callable[..., Any],
        derive: Derive,
        scalar: bool,
        cache: bool = False,
        box: tuple[Any, Any] | None = None,
    ) -> None:
        self.f = f
        self.caches = cache and isinstance(f, _CACHED)
        self.name = getattr(f, "__name__", "f")
        self.derive = derive
        self.scalar = scalar
        self.box = box
        self.tell: Callable[[str], None] = _warned
        self._known: dict[Any, list[Path]] = {}
        self._lock = threading.RLock()

    def run(self, leaves: Leaves, *extra: Any) -> Any:
        """Return the outputs of the derived graph for these leaves and the ``extra`` inputs that it has.

        Inside a function that is being traced they are recorded there, if they depend on what is traced.
        """
        outer = current_trace()
        if outer is not None:
            if any(type(v) is Traced for v in (*leaves.values, *extra)):
                numbers = tuple(v.plain() if type(v) is Traced else v for v in leaves.values)
                recorded = record_call(self.f, leaves._replace(values=numbers), scalar=self.scalar)
                return self._inlined(recorded, leaves, extra)
            try:
                results = self._run(leaves, *extra)
            except _Adopting as adopting:
                return self._inlined(adopting.recorded, leaves, extra)
            outer.inner.append(self._known[leaves.form][0].recorded.environment)
            return results
        return self._run(leaves, *extra)

    def _inlined(self, recorded: TracedCall, leaves: Leaves, extra: Sequence[Any]) -> Any:
        """Record the derived graph into the trace that is running."""
        graph = self.derive(recorded.graph, leaves.active)
        return inline(recorded, graph, [*leaves.values, *recorded.adopted, *extra])

    def _run(self, leaves: Leaves, *extra: Any) -> Any:
        known: Sequence[Path] = self._known.get(leaves.form, ())
        for path in known:
            if path.same():
                try:
                    results, sentence = path.run(leaves, *extra)
                except RAISED:  # f raises too, or takes another way: it shows when f is traced here
                    results, sentence = None, ""
                if results is not None:
                    if not path.agrees:
                        with self._lock:
                            self._verify(path, leaves)
                    if known[0] is not path:
                        self._first(known, path)
                    break
        else:
            with self._lock, seldom_collected:  # what is made of f is no garbage
                path = self._traced(leaves)
                results, sentence = path.take_results(leaves), ""
                if results is None:
                    results, sentence = path.run(leaves, *extra)
            if results is None:
                raise TraceError(f"{self.name} takes another path when it is called again", _HIDDEN)
        if sentence:
            self.tell(sentence)
        return results

    def _first(self, known: Any, path: Path) -> None:
        with self._lock:
            if path in known:
                known.remove(path)
                known.insert(0, path)

    def newest(self, form: Any) -> Path | None:
        """Return the path used last for this form of the arguments."""
        known = self._known.get(form)
        return known[0] if known else None

    def _traced(self, leaves: Leaves) -> Path:
        """Trace, derive, compile and check a new path, unless the cache has the one that this would give."""
        path = self._found(leaves) if self.caches else None
        known = self._known.setdefault(leaves.form, [])
        if path is not None:
            debug("%s: a graph of an earlier descent serves again", self.name)
        else:
            try:
                recorded = record_call(self.f, leaves, scalar=self.scalar)
            except TraceError as error:
                debug("%s is not traced: %s", self.name, error)
                raise
            if recorded.adopted:
                raise _Adopting(recorded)
            before, self.nfev = self.nfev, self.nfev + 1
            guarded = recorded.graph
            unwatched = recorded.environment.unwatched
            debug(
                "%s is traced: %d nodes, %d guards%s", self.name, len(guarded.nodes), len(guarded.guards),
                f"; again at each call: {unwatched}" if unwatched else "",
            )  # fmt: skip
            if not recorded.environment.complete:
                recorded = recorded._replace(graph=guarded.unguarded())  # it serves at this point alone
            path = next((p for p in known if p.recorded.graph.equals(recorded.graph)), None)
            if path is not None:
                path.renew(recorded)
            else:
                path = Path(recorded, self.derive, self.caches)
                if self.derive is GRADIENT:
                    path.take_care(leaves, GRADIENT)
                self._checked(path, leaves, before, guarded)
        if not path.depends and path not in known:
            self.tell(INDEPENDENT.format(name=self.name))
        known[:] = [path, *(p for p in known if p is not path)][:_PATHS]
        while len(self._known) > _FORMS:
            self._known.pop(next(iter(self._known)))
        self.executor = path.program.executor
        return path

    def _checked(self, path: Path, leaves: Leaves, before: int, guarded: Graph) -> None:
        """Check a new path against f, and cache it if it may serve later calls.

        before: evaluations up to its tracing; guarded: its graph with all its guards.
        """
        if not self.scalar and self.derive is not PRODUCT:
            return
        value = self._verify(path, leaves, guarded)
        if self.caches and path.agrees and path.is_cacheable(self.f):
            path.checked = self._all_numbers(path, leaves.values), value, self.nfev - before
            _trace_cache.add(self.f, path)

    def _found(self, leaves: Leaves) -> Path | None:
        """Return the cached path that f takes for these arguments, if there is one, checked for them."""
        before = self.nfev
        for path in _trace_cache.of(self.f, leaves.form):
            here = self._all_numbers(path, leaves.values)
            there, value, evaluations = path.checked
            try:
                if path.program.run(*leaves.values) is None:
                    continue
                if here == there:
                    found = self._plain(leaves, path)(*leaves.values) == value
                    self.nfev = before + evaluations
                else:
                    self.nfev += 1  # as if it had been traced
                    value = self._verify(path, leaves)
                    path.checked = here, value, self.nfev - before
                    found = True
            except Exception:  # it will come up again, where it belongs
                found = False
            if found:
                _trace_cache.add(self.f, path)
                return path
            self.nfev = before
        return None

    def found_again(self, args: Sequence[Any], fun: float | None = None) -> tuple[Any, Path] | None:
        """Return what the cached path that was used last gives for one array, and that path, or None if all cached
        paths have to be looked at. Does what `_found` does, but only for the numbers for which the path was checked,
        for which it is asked only once. fun: what f has just given there, if it was evaluated.
        """
        path = _trace_cache.newest(self.f) if self.caches else None
        if path is None or path.fast_call is None or not path.depends:
            return None
        if len(args) != 1 or type(args[0]) is not np.ndarray:
            return None
        checked, (x,), form = path.checked, args, path.recorded.leaves.form[0]
        if len(form) != 1 or form[0] != (x.shape, x.dtype) or self._all_numbers(path, args) != checked[0]:
            return None
        there = path.there
        if there is None or there[0] is not checked:
            if (answer := path.fast_call(args)) is None:
                return None
            path.there = there = checked, answer[0], answer[1].copy()
        elif not path.same():
            return None
        try:
            if fun is None:
                fun = float(as_scalar(called(lambda: self.f(x.copy()))))
            if fun != checked[1]:
                return None
        except Exception:  # it will come up again, where it belongs
            return None
        self.nfev += path.checked[2]
        self._known[path.recorded.leaves.form] = [path]
        self.executor = path.program.executor
        return (there[1], there[2].copy()), path

    def _all_numbers(self, path: Path, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return all that the check of a path depends on, at these values of its leaves, as bytes."""
        arrays = (*map(np.asarray, values), *path.captured, *(self.box or ()))
        return tuple(map(_bytes, arrays))

    def _verify(self, path: Path, leaves: Leaves, guarded: Graph | None = None) -> float:
        """Compare the derivative of the path with f itself, and note whether that was conclusive; return f there."""
        graph = guarded or path.recorded.graph
        if self.derive is PRODUCT:
            self._verify_product(path, leaves, graph)
            return np.nan
        if path.gradient is None:
            path.gradient = path if self.derive is GRADIENT else Path(path.recorded, GRADIENT)
        first = path.gradient
        results = first.take_results(leaves)
        if results is None:
            results, _ = first.run(leaves)
        if results is None:
            raise TraceError(f"{self.name} takes another path when it is called again", _HIDDEN)
        value, *gradients = results
        path.agrees = all_finite(results)
        if path.agrees and first is path and path.recorded.environment.complete:
            path.last_results = leaves, results  # nothing that it depends on changes
        del results
        first.program.release()  # the check needs memory too, and not at the same time
        single = _computes_single(graph)
        f, answers = self._plain(leaves, path), []

        def asked(*values: Any) -> float:
            answers.append(f(*values))
            return answers[-1]

        path.depends = cross_check(
            asked, leaves.values, leaves.active, float(value), gradients, self.name, single, graph, box=self.box
        )
        if self.derive is not GRADIENT and path.agrees:
            self._verify_second(path, first, leaves, graph)
        return answers[0] if answers else np.nan

    def _verify_second(self, path: Path, first: Path, leaves: Leaves, graph: Graph) -> None:
        """Compare the Hessian of the path with its gradient, ``first``, and with f."""
        active, single = leaves.active, _computes_single(graph)
        along = directions_of(leaves.values, active)
        seeds = [v.astype(leaves.values[k].dtype)[()] for k, v in zip(active, along, strict=True)]
        products, _ = path.run(leaves, *seeds)
        if products is None or not all_finite(products):
            path.agrees = False
            return

        def slope(*values: Any) -> float:
            results = first.program.run(*values)
            return np.nan if results is None else _times(results[1:], seeds)

        both = GRADIENT(graph, active)
        slopes = _weighted(both, both.outputs[1:], seeds)
        value = slope(*leaves.values)
        what = f"the gradient of {self.name}"
        cross_check(slope, leaves.values, active, value, products, what, single, slopes, stairs=False)
        if not single:

            def product(vectors: Sequence[Any]) -> Sequence[Any]:
                seeds = [v.astype(leaves.values[k].dtype)[()] for k, v in zip(active, vectors, strict=True)]
                return path.run(leaves, *seeds)[0]  # type: ignore[no-any-return]

            check_bend(self._plain(leaves, path), leaves.values, active, product, self.name, graph)

    def _verify_product(self, path: Path, leaves: Leaves, graph: Graph) -> None:
        """Compare a product of cotangents with the Jacobian of the path with one number made of all that f returns."""
        if len(graph.outputs) != 1:
            return
        shape, dtype = graph.nodes[graph.outputs[0]].shape, graph.nodes[graph.outputs[0]].dtype
        y = np.asarray(run_nodes(graph, leaves.values)[graph.outputs[0]], np.float64)
        finite = np.isfinite(y)
        if not finite.any():
            path.agrees = False
            return
        size = np.abs(np.where(finite, y, 0.0))
        scale = np.where(size > 0, size, size.max() or 1.0)
        weights = np.random.default_rng(20240229).uniform(0.5, 1.5, shape) / scale  # so that each counts
        weights = np.where(finite, weights, 0.0).astype(dtype)[()]
        products, _ = path.run(leaves, weights)
        if products is None:
            raise TraceError(f"{self.name} takes another path when it is called again", _HIDDEN)
        path.agrees = all_finite(products)

        def asked(*values: Any) -> float:
            self.nfev += 1
            y = called(lambda: self._own(leaves, values))
            return _times([np.where(finite, np.asarray(y, np.float64), 0.0)], [weights])

        whole = _weighted(graph, graph.outputs, [weights]) if finite.all() else None
        value = _times([np.where(finite, y, 0.0)], [weights])
        single = _computes_single(graph)
        path.depends = cross_check(asked, leaves.values, leaves.active, value, products, self.name, single, whole)

    def _plain(self, leaves: Leaves, path: Path) -> Callable[..., float]:
        """Return f itself; called as its caller would call it, if it may read NumPy's error settings."""
        reads = path.recorded.environment.may_read_errstate

        def f(*values: Any) -> float:
            self.nfev += 1
            y = called(lambda: self._own(leaves, values)) if reads else self._own(leaves, values)
            return float(as_scalar(y))

        return f

    def _own(self, leaves: Leaves, values: Sequence[Any]) -> Any:
        """Return what f itself gives for copies of these arrays."""
        copies = [v.copy() if isinstance(v, np.ndarray) else v for v in values]
        positional, named = leaves.form
        if len(positional) == 1 and type(positional[0]) is Leaf and not named:
            return self.f(copies[0])
        args, kwargs = leaves.rebuild(copies)
        return self.f(*args, **kwargs)


def _times(parts: Sequence[Any], weights: Sequence[Any]) -> float:
    return float(sum(np.sum(np.asarray(p, np.float64) * w) for p, w in zip(parts, weights, strict=True)))


def _weighted(graph: Graph, outputs: Sequence[int], weights: Sequence[Any]) -> Graph:
    """Return the graph of the sum of these outputs, each times its weights."""
    trace = Trace(concrete=False, name=graph.name)
    trace.inputs, trace.nodes, trace.forms = list(graph.inputs), list(graph.nodes), list(graph.forms)
    total: Any = 0.0
    for i, weight in zip(outputs, weights, strict=True):
        total = total + apply("sum", new_traced(trace, i, None, *graph.forms[i]) * weight, axis=None, keepdims=False)
    return Graph.pruned(trace.nodes, trace.inputs, [current_node(total)], graph.guards, (), graph.name, trace)
