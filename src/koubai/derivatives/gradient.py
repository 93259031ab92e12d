"""Gradients of plain NumPy functions: by backpropagation through the traced graph, or, aloud, by differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from koubai.derivatives.paths import Path, Paths
from koubai.errors import FallbackWarning, FunctionError, GradientError, InputError, TraceError, UnknownNameError
from koubai.graph.call import Leaf, Leaves, Static, real
from koubai.graph.reverse import pullback, reverse
from koubai.graph.trace import Graph, Traced
from koubai.parameters import as_scalar

__all__ = ["Differentiated", "grad", "hessian", "hvp", "jacobian", "value_and_grad"]

METHODS = ("auto", "backprop", "forward", "backward", "central", "complex", "adaptive")


class Differentiated:
    """A function together with its derivative program. Calling it returns (value, gradient).

    gradient_source: what the last call used: "backprop" or the name of the numerical method.
    nfev: evaluations of f itself so far (tracing, cross-checks and differences); executor: what runs the graph.
    keep: are the paths of f shared with other such objects, those to come included? box: the lowest and the highest
    argument, flat, beyond which f is never asked; only with one argument that is differentiated.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        argnums: int | Sequence[int],
        method: str,
        depth: int = 1,
        keep: bool = False,
        box: tuple[Any, Any] | None = None,
    ) -> None:
        if method not in METHODS:
            raise UnknownNameError("method", method, METHODS)
        self.f = _function(f)
        self.one, self.argnums = _argument_numbers(argnums)
        self.method = method
        self.gradient_source = "backprop" if method in ("auto", "backprop") else method
        self._paths = Paths(f, reverse, scalar=True, keep=keep, box=box)
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

    def path(self, *args: Any) -> Path | None:
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


def _direct_call(path: Path, form: Sequence[Any], numbers: Sequence[int], one: bool) -> Callable[..., Any]:
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
    if (environment := path.recorded.environment).empty:
        for i, read in enumerate(environment.functions):
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
