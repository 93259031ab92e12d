"""Gradients of plain NumPy functions: by backpropagation through the traced graph, or, aloud, by differences."""

from __future__ import annotations

import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from koubai.derivatives.agreement import cross_check
from koubai.errors import FallbackWarning, FunctionError, GradientError, InputError, TraceError, UnknownNameError
from koubai.execute.choose import Program
from koubai.execute.descents import operations
from koubai.graph.call import Leaf, Leaves, Recorded, Static, real, record_call, replay
from koubai.graph.reverse import pullback, reverse
from koubai.graph.trace import CAPTURED, LEAVES, Graph, Traced
from koubai.parameters import as_scalar

__all__ = ["Differentiated", "Paths", "grad", "hessian", "hvp", "jacobian", "value_and_grad"]

METHODS = ("auto", "backprop", "forward", "backward", "central", "complex", "adaptive")
_HIDDEN = "a function with randomness or hidden state has no gradient; keep its state outside"
_PATHS = 16  # graphs kept for one form of the arguments: the paths that guards lead to
_FORMS = 64  # forms of the arguments kept for one function
_FUNCTIONS = 32  # whose paths are kept for another object of the same function
_BYTES = 2**20  # that such a path may take, with the buffers of its program


class _Path:
    """One traced path: valid while its guards hold and what it read from outside is unchanged.

    made: what others have made of it, to be found again by their own keys; checked: what it was compared with f for,
    the value of f there, and how many evaluations that took.
    """

    __slots__ = ("checked", "direct", "graph", "made", "program", "recorded", "same")

    def __init__(self, recorded: Recorded, graph: Graph) -> None:
        self.recorded = recorded
        self.graph = graph
        self.program = Program(graph)
        self.same = recorded.surroundings.same
        self.direct: Callable[..., Any] | None = None  # the short way in, made by `_direct_call`
        self.made: dict[Any, Any] = {}
        self.checked: tuple[Any, float, int] = ((), np.nan, 0)

    def circumstances(self, leaves: Leaves) -> tuple[Any, ...]:
        """Return all the numbers that f depends on with these arguments, as bytes."""
        outside = (node.params["value"] for node in self.recorded.graph.nodes if node.op is CAPTURED)
        return tuple(np.asarray(value).tobytes() for value in (*leaves.values, *outside))

    def may_be_kept(self, f: Any) -> bool:
        """Return whether the path may serve later calls: everything it reads is watched, and it is small."""
        surroundings = self.recorded.surroundings
        if not surroundings.complete or surroundings.holds(f):
            return False
        arrays = [node.params["value"] for node in self.graph.nodes if node.op in LEAVES and "value" in node.params]
        arrays += [*self.recorded.leaves.values, *(then for _, then in surroundings.arrays.values())]
        return 8 * operations(self.graph) + sum(np.asarray(array).nbytes for array in arrays) <= _BYTES


class _Kept:
    """The paths of plain functions, kept so that the next descent on the same function need not trace it anew.

    A path is used again where tracing would give it again: what it read is unchanged, its guards hold, and f, asked
    once, gives what it gave. Then the same evaluations are counted as if it had been traced and checked; for other
    arguments it is checked indeed. So nothing but the time depends on what is kept.
    """

    def __init__(self) -> None:
        self._paths: weakref.WeakKeyDictionary[Any, list[_Path]] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()  # what is let go of may call koubai once more

    def of(self, f: Any, form: Any) -> list[_Path]:
        """Return the paths of ``f`` for this form of the arguments that still stand."""
        with self._lock:
            known = self._paths.get(f, [])
        return [p for p in known if p.recorded.leaves.form == form and p.recorded.surroundings.unchanged()]

    def keep(self, f: Any, path: _Path) -> None:
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
    keep: are paths shared with other objects of this function, those to come included?
    """

    def __init__(
        self, f: Callable[..., Any], derive: Callable[[Graph, Sequence[int]], Graph], scalar: bool, keep: bool = False
    ) -> None:
        self.f = f
        self.keeps = keep and isinstance(f, types.FunctionType)
        self.name = getattr(f, "__name__", "f")
        self.derive = derive
        self.scalar = scalar
        self.nfev = 0  # plain evaluations of f: tracing and cross-checks
        self.executor = ""
        self._known: dict[Any, list[_Path]] = {}
        self._lock = threading.RLock()

    def run(self, leaves: Leaves, *extra: Any) -> Any:
        """Return the outputs of the derived graph for these leaves and the ``extra`` inputs that it has."""
        known: Sequence[_Path] = self._known.get(leaves.form, ())
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

    def _first(self, known: Any, path: _Path) -> None:
        with self._lock:
            if path in known:
                known.remove(path)
                known.insert(0, path)

    def replayed(self, leaves: Leaves) -> Any:
        """Record the derived graph into the outer trace that the leaves belong to."""
        numbers = tuple(v.copy()._value if type(v) is Traced else v for v in leaves.values)
        recorded = record_call(self.f, leaves._replace(values=numbers), scalar=self.scalar)
        return replay(recorded, self.derive(recorded.graph, leaves.active), leaves.values)

    def newest(self, form: Any) -> _Path | None:
        """Return the path used last for this form of the arguments."""
        known = self._known.get(form)
        return known[0] if known else None

    def _traced(self, leaves: Leaves) -> _Path:
        """Trace, derive, compile and check a new path, unless one is kept that this would give again; and keep it."""
        path = self._found(leaves) if self.keeps else None
        if path is None:
            recorded = record_call(self.f, leaves, scalar=self.scalar)
            before, self.nfev = self.nfev, self.nfev + 1
            path = _Path(recorded, self.derive(recorded.graph, leaves.active))
            if self.scalar:
                first = path.program if self.derive is reverse else Program(reverse(recorded.graph, leaves.active))
                value = self._check(first, leaves, recorded.graph)
                if self.keeps and path.may_be_kept(self.f):
                    path.checked = path.circumstances(leaves), value, self.nfev - before
                    _kept.keep(self.f, path)
        known = self._known.setdefault(leaves.form, [])
        known[:] = [path, *(p for p in known if p.same())][:_PATHS]
        while len(self._known) > _FORMS:
            self._known.pop(next(iter(self._known)))
        self.executor = path.program.executor
        return path

    def _found(self, leaves: Leaves) -> _Path | None:
        """Return the kept path that f takes for these arguments, if there is one, checked for them."""
        before = self.nfev
        for path in _kept.of(self.f, leaves.form):
            here = path.circumstances(leaves)
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

        cross_check(asked, leaves.values, leaves.active, float(value), gradients, self.name, single, graph)
        return answers[0] if answers else np.nan

    def _plain(self, leaves: Leaves) -> Callable[..., float]:
        def f(*values: Any) -> float:
            args, kwargs = leaves.rebuild(values)
            self.nfev += 1
            return float(as_scalar(self.f(*args, **kwargs)))

        return f


class Differentiated:
    """A function together with its derivative program. Calling it returns (value, gradient).

    gradient_source: what the last call used: "backprop" or the name of the numerical method.
    nfev: evaluations of f itself so far (tracing, cross-checks and differences); executor: what runs the graph.
    keep: are the paths of f shared with other such objects, those to come included?
    """

    def __init__(
        self, f: Callable[..., Any], argnums: int | Sequence[int], method: str, depth: int = 1, keep: bool = False
    ) -> None:
        if method not in METHODS:
            raise UnknownNameError("method", method, METHODS)
        self.f = _function(f)
        self.one, self.argnums = _argument_numbers(argnums)
        self.method = method
        self.gradient_source = "backprop" if method in ("auto", "backprop") else method
        self._paths = Paths(f, reverse, scalar=True, keep=keep)
        self._depth = depth  # calls between the user's line and this object, so that a warning names that line
        self._differences = 0
        self._direct: Callable[..., Any] | None = None  # for arguments of the same form as the last ones
        self._refused = method not in ("auto", "backprop")
        self.__name__ = self._paths.name
        self.__doc__ = getattr(f, "__doc__", None)

    @property
    def nfev(self) -> int:
        return self._paths.nfev + self._differences

    @property
    def executor(self) -> str:
        return self._paths.executor

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return (f, gradient) at these arguments."""
        direct = self._direct
        if direct is not None and not kwargs:
            answer = direct(args)
            if answer is not None:
                return answer
        if self._refused:
            return self._by_differences(args, kwargs)
        leaves = _leaves(self.f, args, kwargs, self.argnums)
        if any(type(value) is Traced for value in leaves.values):  # a gradient inside a function that is being traced
            results = self._paths.replayed(leaves)
            return results[0], self._shaped(args, results[1:])
        try:
            results = self._paths.run(leaves)
        except (TraceError, GradientError) as error:
            if self.method == "backprop":
                raise
            self._refused = True
            self.gradient_source = "adaptive"
            warnings.warn(FallbackWarning(error), stacklevel=1 + self._depth)
            return self._by_differences(args, kwargs)
        path = self._paths.newest(leaves.form)
        if path is not None and not kwargs:
            if path.direct is None:
                numbers = [_position(n, args) for n in self.argnums]
                path.direct = _direct_call(path, leaves.form[0], numbers, self.one)
            self._direct = path.direct
        return results[0], self._shaped(args, results[1:])

    def path(self, *args: Any) -> _Path | None:
        """Return the traced path that was used last for arguments of this form, if there is one."""
        return self._paths.newest(_leaves(self.f, args, {}, self.argnums).form)

    def _shaped(self, args: Sequence[Any], gradients: Sequence[Any]) -> Any:
        """Give the gradients the form of the arguments they belong to."""
        if self.one and len(gradients) == 1 and not isinstance(args[self.argnums[0]], dict):
            return gradients[0]
        numbers = [_position(n, args) for n in self.argnums]
        rest = iter(gradients)
        by_argument = {n: _like(args[n], rest) for n in sorted(numbers)}
        shaped = tuple(by_argument[n] for n in numbers)
        return shaped[0] if self.one else shaped

    def _by_differences(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        from koubai.derivatives.differences import numerical_gradient

        method = "adaptive" if self.method in ("auto", "backprop") else self.method
        results = []
        for n in (_position(n, args) for n in self.argnums):

            def along(x: Any, n: int = n) -> Any:
                return self.f(*[x if i == n else a for i, a in enumerate(args)], **kwargs)

            estimate = numerical_gradient(along, args[n], method=method)
            self._differences += estimate.nfev
            results.append(estimate.value)
        self._differences += 1
        value = as_scalar(self.f(*args, **kwargs))
        return value, (results[0] if self.one else tuple(results))


def _function(f: Any) -> Callable[..., Any]:
    if not callable(f):
        raise InputError(f"f must be a function, got {type(f).__name__}")
    return f  # type: ignore[no-any-return]


def _argument_numbers(argnums: int | Sequence[int]) -> tuple[bool, tuple[int, ...]]:
    one = isinstance(argnums, int | np.integer)
    numbers = (argnums,) if isinstance(argnums, int | np.integer) else tuple(argnums)
    if not numbers or any(not isinstance(n, int | np.integer) for n in numbers) or len(set(numbers)) != len(numbers):
        raise InputError(f"argnums must be an int or a tuple of different ints, got {argnums!r}")
    return one, tuple(int(n) for n in numbers)


def _position(n: int, args: Sequence[Any]) -> int:
    if not -len(args) <= n < len(args):
        raise InputError(f"argnums names argument {n}, but {len(args)} positional arguments were given")
    return n % len(args)


def _leaves(f: Any, args: Sequence[Any], kwargs: dict[str, Any], argnums: Sequence[int]) -> Leaves:
    return Leaves.of(f, args, kwargs, [_position(n, args) for n in argnums])


def _direct_call(path: _Path, form: Sequence[Any], numbers: Sequence[int], one: bool) -> Callable[..., Any]:
    """Generate the short way from arguments of this exact form to the answer; it returns None for any others.

    Looking at the arguments costs as much as a small function itself, so the tests are written out once.
    """
    tests: list[str] = []
    leaves: list[str] = []
    namespace: dict[str, Any] = {
        "ndarray": np.ndarray,
        "float64": np.float64,
        "same": path.same,
        "run": path.program.run,
    }

    def look(part: Any, text: str) -> str:
        """Add the tests for one argument; return its gradient's text."""
        if isinstance(part, Leaf):
            k = len(leaves)
            if part.shape:
                namespace[f"d{k}"] = np.dtype(part.dtype.str)
                tests.append(f"type({text}) is ndarray and {text}.dtype is d{k} and {text}.shape == {part.shape}")
                leaves.append(text)
            else:
                kind = part.dtype.type
                namespace[f"d{k}"] = kind
                plain = f" or type({text}) is float" if kind is np.float64 else ""
                tests.append(f"(type({text}) is d{k}{plain})")
                leaves.append(f"d{k}({text})")
            return f"r[{{{k}}}]"
        if isinstance(part, Static):
            namespace[f"s{len(namespace)}"] = part
            tests.append(f"s{len(namespace) - 1} == Static({text})")
            namespace["Static"] = Static
            return ""
        kind, parts = part
        tests.append(f"type({text}) is {kind} and len({text}) == {len(parts)}")
        if kind == "dict":
            inner = [f"{name!r}: " + look(v, f"{text}[{name!r}]") for name, v in parts]
            return "{{" + ", ".join(inner) + "}}"
        return ", ".join(look(v, f"{text}[{i}]") for i, v in enumerate(parts))

    shown = [look(part, f"a{i}") for i, part in enumerate(form)]
    if (surroundings := path.recorded.surroundings).empty:
        for i, read in enumerate(surroundings.functions):
            names = [f"f{i}", f"code{i}", f"defaults{i}", f"kwdefaults{i}"]
            namespace |= dict(zip(names, read, strict=True))
            tests.append(f"(f := f{i}()).__code__ is code{i}")
            tests.append(f"f.__defaults__ is defaults{i} and f.__kwdefaults__ is kwdefaults{i}")
    else:
        tests.append("same()")
    active = {k: n + 1 for n, k in enumerate(path.recorded.leaves.active)}
    places = [str(active.get(k, 0)) for k in range(len(leaves))]
    gradients = [shown[n].format(*places) for n in numbers]
    source = f"""
def direct(args):
    try:
        {", ".join(f"a{i}" for i in range(len(form)))}, = args
        if not ({" and ".join(tests)}): return None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    r = run({", ".join(leaves)})
    return None if r is None else (r[0], {gradients[0] if one else f"({', '.join(gradients)},)"})
"""
    exec(compile(source, "<koubai: direct call>", "exec"), namespace)
    return namespace["direct"]  # type: ignore[no-any-return]


def _like(argument: Any, rest: Any) -> Any:
    if isinstance(argument, dict):
        return {name: _like(part, rest) for name, part in argument.items()}
    return next(rest)


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, method: str = "auto"
) -> Callable[..., tuple[Any, Any]]:
    """Value and gradient: a function of the same arguments as f that returns (f(x), ∇f(x)).

    argnums: which positional arguments are differentiated; a tuple gives a tuple of gradients. x may be a number, an
    array of any shape or a dict of arrays, and the gradient has its form; integers become float64. Other arguments may
    be arrays, dicts of arrays, or anything hashable.
    method: "auto" backpropagates, and where f can't be traced uses adaptive differences after one FallbackWarning;
    "backprop" raises TraceError instead; "forward", "backward", "central", "complex" and "adaptive" are differences.
    Raises InputError for complex, empty or non-numeric x, FunctionError where f does not return one real number, and
    GradientError where backpropagation disagrees with a difference.
    At kinks the convention is JAX's: |x|' = 0 at 0, ties in max share evenly.
    """
    return Differentiated(f, argnums, method)


class _Gradient:
    """Calls a `Differentiated` and returns the gradient alone."""

    def __init__(self, source: Differentiated) -> None:
        self.source = source
        self.__name__ = f"grad_{source.__name__}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.source(*args, **kwargs)[1]


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, method: str = "auto") -> Callable[..., Any]:
    """Gradient: a function of the same arguments as f that returns ∇f(x). See `value_and_grad` for everything else."""
    return _Gradient(Differentiated(f, argnums, method, depth=2))


def _hessian_vector(graph: Graph, active: Sequence[int]) -> Graph:
    """The gradient, reversed once more with a cotangent v for each part: H v, since H is symmetric."""
    both = reverse(graph, active)
    alone = Graph(both.nodes, both.inputs, both.outputs[1:], both.guards, both.kinks, both.name, both)
    return pullback(alone, active)


def hvp(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Hessian-vector product: a function (x, v) → ∇²f(x) v, without forming the Hessian.

    v: of the form of x; f's other arguments follow after v: ``hvp(f)(x, v, data)``. By reverse mode twice; TraceError
    where f can't be traced.

    Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 1994.
    """
    paths = Paths(_function(f), _hessian_vector, scalar=True)
    number = int(argnums)

    def product(x: Any, v: Any, *rest: Any, **kwargs: Any) -> Any:
        args = [*rest[:number], x, *rest[number:]]
        leaves = _leaves(f, args, kwargs, (number,))
        parts = _matching(v, x)
        return _like(x, iter(paths.run(leaves, *parts)))

    product.__name__ = f"hvp_{paths.name}"
    return product


def _matching(v: Any, x: Any) -> list[Any]:
    """Return the arrays of ``v``, which must have the form of ``x``."""
    if isinstance(x, dict):
        if not isinstance(v, dict) or set(v) != set(x):
            raise InputError(f"v must be a dict with the keys {sorted(x)}, as x is")
        return [part for name in x for part in _matching(v[name], x[name])]
    value = real(v, "v")
    if np.shape(value) != np.shape(x):
        raise InputError(f"v has shape {np.shape(value)}, but x has shape {np.shape(x)}; they must be equal")
    return [value.astype(real(x, "x").dtype)]


def hessian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Hessian: a function of the same arguments as f that returns the matrix of second derivatives of f at x.

        H[i, j] = ∂²f / ∂x[i] ∂x[j]

    For x of shape s the result has shape s + s; for a number it is a number; for a dict of arrays, H[a][b] holds the
    derivatives with respect to x[a] and x[b]. TraceError where f can't be traced.
    """
    paths = Paths(_function(f), _hessian_vector, scalar=True)
    number = int(argnums)

    def matrix(*args: Any, **kwargs: Any) -> Any:
        leaves = _leaves(f, args, kwargs, (number,))
        x = args[_position(number, args)]
        parts = [leaves.values[k] for k in leaves.active]
        blocks = [[np.empty((*a.shape, *b.shape), np.result_type(a, b)) for b in parts] for a in parts]
        for i, at, unit in _units(parts):
            for block, row in zip(blocks[i], paths.run(leaves, *unit), strict=True):
                block[at] = row
        if not isinstance(x, dict):
            return blocks[0][0] if parts[0].ndim else blocks[0][0][()]
        return {a: dict(zip(x, row, strict=True)) for a, row in zip(x, blocks, strict=True)}

    matrix.__name__ = f"hessian_{paths.name}"
    return matrix


def _units(parts: Sequence[Any]) -> Iterator[tuple[int, tuple[int, ...], list[Any]]]:
    """Yield (part, index, the arrays of ``parts`` with 1 there and 0 elsewhere) for every element."""
    zeros = [np.zeros(part.shape, part.dtype) for part in parts]
    for i, part in enumerate(parts):
        for at in np.ndindex(*part.shape):
            unit = list(zeros)
            unit[i] = zeros[i].copy()
            unit[i][at] = 1.0
            yield i, at, [u if u.ndim else u[()] for u in unit]


def jacobian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Jacobian: a function of the same arguments as f that returns the derivatives of all outputs at x.

        J[i, j] = ∂f[i] / ∂x[j]

    f returns an array of any shape; the result has that shape followed by x's (for a dict of arrays, a dict of such).
    One reverse pass an output element. TraceError where f can't be traced.
    """
    values = Paths(_function(f), lambda graph, active: graph, scalar=False)
    products = Paths(f, pullback, scalar=False)
    number = int(argnums)

    def matrix(*args: Any, **kwargs: Any) -> Any:
        leaves = _leaves(f, args, kwargs, (number,))
        x = args[_position(number, args)]
        outputs = values.run(leaves)
        if len(outputs) != 1:
            raise FunctionError(f"f(x) returned {len(outputs)} arrays; stack them into one")
        y = outputs[0]
        parts = [leaves.values[k] for k in leaves.active]
        blocks = [np.empty((*y.shape, *part.shape), np.result_type(y, part)) for part in parts]
        for _, at, unit in _units([y]):
            for block, row in zip(blocks, products.run(leaves, *unit), strict=True):
                block[at] = row
        shaped = [block if block.ndim else block[()] for block in blocks]
        return _like(x, iter(shaped))

    matrix.__name__ = f"jacobian_{values.name}"
    return matrix
