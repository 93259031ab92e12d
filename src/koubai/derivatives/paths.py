"""Traced paths: one graph per form of the arguments and per way through the function, checked at its first use."""

from __future__ import annotations

import threading
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.derivatives.agreement import cross_check
from koubai.errors import TraceError
from koubai.execute.choose import Program
from koubai.execute.descents import operations
from koubai.graph.call import Leaves, Recorded, record_call, replay
from koubai.graph.reverse import reverse
from koubai.graph.trace import CAPTURED, LEAVES, Graph, Traced
from koubai.parameters import as_scalar

__all__ = ["Path", "Paths"]

_HIDDEN = "a function with randomness or hidden state has no gradient; keep its state outside"
_PATHS = 16  # graphs kept for one form of the arguments: the paths that guards lead to
_FORMS = 64  # forms of the arguments kept for one function
_FUNCTIONS = 32  # whose paths are kept for another object of the same function
_BYTES = 2**20  # that such a path may take, with the buffers of its program


class Path:
    """One traced path: valid while its guards hold and what it read from outside is unchanged.

    made: what others have made of it, to be found again by their own keys; checked: what it was compared with f for,
    the value of f there, and how many evaluations that took.
    """

    __slots__ = ("checked", "direct", "graph", "made", "program", "recorded", "same")

    def __init__(self, recorded: Recorded, graph: Graph) -> None:
        self.recorded = recorded
        self.graph = graph
        self.program = Program(graph)
        self.same = recorded.environment.same
        self.direct: Callable[..., Any] | None = None  # the short way in, made by `_direct_call`
        self.made: dict[Any, Any] = {}
        self.checked: tuple[Any, float, int] = ((), np.nan, 0)

    def circumstances(self, leaves: Leaves) -> tuple[Any, ...]:
        """Return all the numbers that f depends on with these arguments, as bytes."""
        outside = (node.params["value"] for node in self.recorded.graph.nodes if node.op is CAPTURED)
        return tuple(np.asarray(value).tobytes() for value in (*leaves.values, *outside))

    def may_be_kept(self, f: Any) -> bool:
        """Return whether the path may serve later calls: everything it reads is watched, and it is small."""
        environment = self.recorded.environment
        if not environment.complete or environment.holds(f):
            return False
        arrays = [node.params["value"] for node in self.graph.nodes if node.op in LEAVES and "value" in node.params]
        arrays += [*self.recorded.leaves.values, *(then for _, then in environment.arrays.values())]
        return 8 * operations(self.graph) + sum(np.asarray(array).nbytes for array in arrays) <= _BYTES


class _Kept:
    """The paths of plain functions, kept so that the next descent on the same function need not trace it anew.

    A path is used again where tracing would give it again: what it read is unchanged, its guards hold, and f, asked
    once, gives what it gave. Then the same evaluations are counted as if it had been traced and checked; for other
    arguments it is checked indeed. So nothing but the time depends on what is kept.
    """

    def __init__(self) -> None:
        self._paths: weakref.WeakKeyDictionary[Any, list[Path]] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()  # what is let go of may call koubai once more

    def of(self, f: Any, form: Any) -> list[Path]:
        """Return the paths of ``f`` for this form of the arguments that still stand."""
        with self._lock:
            known = self._paths.get(f, [])
        return [p for p in known if p.recorded.leaves.form == form and p.recorded.environment.unchanged()]

    def keep(self, f: Any, path: Path) -> None:
        with self._lock:
            known = [path, *(p for p in self._paths.pop(f, []) if p is not path and p.same())]
            self._paths[f] = known[:_PATHS]
            while len(self._paths) > _FUNCTIONS:
                del self._paths[next(iter(self._paths))]


_kept = _Kept()


def _computes_single(graph: Graph) -> bool:
    """Is anything computed in float32? Arrays of float32 that only meet float64 do no harm."""
    return any(node.dtype == np.float32 and node.op not in LEAVES for node in graph.nodes)


class Paths:
    """The traced paths of one function, found by the form of its arguments, then by what they read, then by their
    guards.

    derive: makes of the function's graph the one to be run, e.g. value and gradient; scalar: f must return one number;
    keep: are paths shared with other objects of this function, those to come included? box: the ends, flat, beyond
    which f is not asked for the check.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        derive: Callable[[Graph, Sequence[int]], Graph],
        scalar: bool,
        keep: bool = False,
        box: tuple[Any, Any] | None = None,
    ) -> None:
        self.f = f
        self.keeps = keep and isinstance(f, types.FunctionType)
        self.name = getattr(f, "__name__", "f")
        self.derive = derive
        self.scalar = scalar
        self.box = box
        self.nfev = 0  # plain evaluations of f: tracing and cross-checks
        self.executor = ""
        self._known: dict[Any, list[Path]] = {}
        self._lock = threading.RLock()

    def run(self, leaves: Leaves, *extra: Any) -> Any:
        """Return the outputs of the derived graph for these leaves and the ``extra`` inputs that it has."""
        known: Sequence[Path] = self._known.get(leaves.form, ())
        for path in known:
            if path.same():
                results = path.program.run(*leaves.values, *extra)
                if results is not None:
                    if known[0] is not path:
                        self._first(known, path)
                    return results
        with self._lock:
            path = self._traced(leaves)
            results = path.program.run(*leaves.values, *extra)
        if results is None:
            raise TraceError(f"{self.name} takes another path when it is called again", _HIDDEN)
        return results

    def _first(self, known: Any, path: Path) -> None:
        with self._lock:
            if path in known:
                known.remove(path)
                known.insert(0, path)

    def replayed(self, leaves: Leaves) -> Any:
        """Record the derived graph into the outer trace that the leaves belong to."""
        numbers = tuple(v.copy()._value if type(v) is Traced else v for v in leaves.values)
        recorded = record_call(self.f, leaves._replace(values=numbers), scalar=self.scalar)
        return replay(recorded, self.derive(recorded.graph, leaves.active), leaves.values)

    def newest(self, form: Any) -> Path | None:
        """Return the path used last for this form of the arguments."""
        known = self._known.get(form)
        return known[0] if known else None

    def _traced(self, leaves: Leaves) -> Path:
        """Trace, derive, compile and check a new path, unless one is kept that this would give again; and keep it."""
        path = self._found(leaves) if self.keeps else None
        if path is None:
            recorded = record_call(self.f, leaves, scalar=self.scalar)
            before, self.nfev = self.nfev, self.nfev + 1
            path = Path(recorded, self.derive(recorded.graph, leaves.active))
            if self.scalar:
                first = path.program if self.derive is reverse else Program(reverse(recorded.graph, leaves.active))
                value = self._check(first, leaves, recorded.graph)
                if self.keeps and path.may_be_kept(self.f):
                    path.checked = self._circumstances(path, leaves), value, self.nfev - before
                    _kept.keep(self.f, path)
        known = self._known.setdefault(leaves.form, [])
        known[:] = [path, *(p for p in known if p.same())][:_PATHS]
        while len(self._known) > _FORMS:
            self._known.pop(next(iter(self._known)))
        self.executor = path.program.executor
        return path

    def _found(self, leaves: Leaves) -> Path | None:
        """Return the kept path that f takes for these arguments, if there is one, checked for them."""
        before = self.nfev
        for path in _kept.of(self.f, leaves.form):
            here = self._circumstances(path, leaves)
            there, value, evaluations = path.checked
            try:
                if path.program.run(*leaves.values) is None:
                    continue
                if here == there:
                    found = self._plain(leaves)(*leaves.values) == value
                    self.nfev = before + evaluations
                else:
                    self.nfev += 1  # as if it had been traced
                    value = self._check(path.program, leaves, path.recorded.graph)
                    path.checked = here, value, self.nfev - before
                    found = True
            except Exception:  # it will come up again, where it belongs
                found = False
            if found:
                _kept.keep(self.f, path)
                return path
            self.nfev = before
        return None

    def _circumstances(self, path: Path, leaves: Leaves) -> tuple[Any, ...]:
        """Return all that the check of a path depends on."""
        return (*path.circumstances(leaves), *(end.tobytes() for end in self.box or ()))

    def _check(self, program: Program, leaves: Leaves, graph: Graph) -> float:
        """Compare the program with f itself; return f there."""
        results = program.run(*leaves.values)
        if results is None:
            raise TraceError(f"{self.name} takes another path when it is called again", _HIDDEN)
        value, *gradients = results
        del results
        program.release()  # the check needs memory too, and not at the same time
        single = _computes_single(graph)
        f, answers = self._plain(leaves), []

        def asked(*values: Any) -> float:
            answers.append(f(*values))
            return answers[-1]

        cross_check(asked, leaves.values, leaves.active, float(value), gradients, self.name, single, graph, self.box)
        return answers[0] if answers else np.nan

    def _plain(self, leaves: Leaves) -> Callable[..., float]:
        def f(*values: Any) -> float:
            args, kwargs = leaves.rebuild(values)
            self.nfev += 1
            return float(as_scalar(self.f(*args, **kwargs)))

        return f
