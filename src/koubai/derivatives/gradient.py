"""Gradients of NumPy functions: by backpropagation through the traced graph, or by differences, with a warning."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import CodeType
from typing import Any, NamedTuple, Never

import numpy as np

from koubai.derivatives.agreement import refuse_random
from koubai.derivatives.differences import (
    INDEPENDENT,
    Differences,
    Estimate,
    difference_hessian,
    difference_hvp,
    difference_jacobian,
    estimate,
    outputs_of,
)
from koubai.derivatives.nonfinite import GRADIENT, HESSIAN_VECTOR, PRODUCT
from koubai.derivatives.paths import RAISED, Path, Paths
from koubai.errors import (
    FallbackWarning,
    FunctionError,
    GradientError,
    GradientWarning,
    InputError,
    TraceError,
    UnknownNameError,
    warn,
)
from koubai.graph.call import Leaf, Leaves, Static, real
from koubai.graph.environment import MISSING
from koubai.graph.numpy.arguments import array
from koubai.graph.traced import Traced
from koubai.graph.tracer import current_trace
from koubai.log import debug
from koubai.parameters import Layout, as_scalar, flatten, is_structure, rebuilt

__all__ = ["Differentiated", "grad", "hessian", "hvp", "jacobian", "value_and_grad"]

METHODS = ("auto", "backprop", "forward", "backward", "central", "complex", "adaptive")


class Differentiated:
    """A function together with its derivative program. Calling it returns (value, gradient).

    gradient_source: what the last call used: "backprop" or the name of the numerical method.
    nfev: evaluations of f itself so far (tracing, cross-checks and differences); executor: what runs the graph; last:
    the traced path that the last call took; paths: all of them.
    cache: whether the paths of f are shared with other such objects, later ones included. box: the lowest and the
    highest argument, flat, beyond which f is never called; only with one argument that is differentiated.
    """

    _differences: int = 0
    _fast_call: Callable[..., Any] | None = None  # for arguments of the same form as the last ones
    last: Path | None = None  # the traced path that was used last
    first: float | None = None  # what f itself gave, if it was called right before the first call

    def __init__(
        self,
        f: Callable[..., Any],
        argnums: int | Sequence[int],
        method: str,
        cache: bool = False,
        box: tuple[Any, Any] | None = None,
    ) -> None:
        if method not in METHODS:
            raise UnknownNameError("method", method, METHODS)
        self.f = _function(f)
        self.one, self.argnums = _argument_numbers(argnums)
        self.method = method
        self._refused = method not in ("auto", "backprop")
        self.gradient_source = method if self._refused else "backprop"
        self.paths = Paths(f, GRADIENT, True, cache, box)
        self.__name__ = self.paths.name
        self.__doc__ = getattr(f, "__doc__", None)

    @property
    def nfev(self) -> int:
        return self.paths.nfev + self._differences

    @property
    def executor(self) -> str:
        return self.paths.executor

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return (f, gradient) at these arguments."""
        fast_call = self._fast_call
        if fast_call is not None and not kwargs and current_trace() is None:
            answer = fast_call(args)
            if answer is not None:
                return answer
        if self._refused:
            return self._by_differences(args, kwargs)
        if self.last is None and not kwargs and current_trace() is None:
            found = self.paths.found_again(args, self.first)
            if found is not None:
                answer, self.last = found
                self._fast_call = self.last.fast_call
                return answer
        leaves = _leaves(self.f, args, kwargs, self.argnums)
        try:
            results = self.paths.run(leaves)
        except (TraceError, GradientError) as error:
            if self.method == "backprop" or current_trace() is not None:
                raise  # in a trace, differences would only be refused again
            debug("%s: adaptive differences take the place of backpropagation: %s", self.__name__, error)
            self._refused = True
            self.gradient_source = "adaptive"
            return self._by_differences(args, kwargs, error)
        path = self.last = self.paths.newest(leaves.form)
        if path is not None and path.agrees and not kwargs and path.recorded.environment.complete:
            if path.fast_call is None:
                numbers = [_position(n, args) for n in self.argnums]
                path.fast_call = _fast_call(path, leaves.form[0], numbers, self.one)
            self._fast_call = path.fast_call
        return results[0], self._shaped(args, results[1:])

    def path(self, *args: Any) -> Path | None:
        """Return the traced path that was used last for arguments of this form, if there is one."""
        return self.paths.newest(_leaves(self.f, args, {}, self.argnums).form)

    def path_for(self, *args: Any) -> Path:
        """Return the traced path that f takes for these arguments, traced and checked now if none is known.

        Raises TraceError and GradientError as backpropagation does.
        """
        leaves = _leaves(self.f, args, {}, self.argnums)
        self.paths.run(leaves)
        path = self.paths.newest(leaves.form)
        assert path is not None
        return path

    def _shaped(self, args: Sequence[Any], gradients: Sequence[Any]) -> Any:
        """Give the gradients the form of the arguments they belong to."""
        if self.one and len(gradients) == 1 and not is_structure(args[self.argnums[0]]):
            return gradients[0]
        numbers = [_position(n, args) for n in self.argnums]
        rest = iter(gradients)
        by_argument = {n: rebuilt(args[n], rest) for n in sorted(numbers)}
        shaped = tuple(by_argument[n] for n in numbers)
        return shaped[0] if self.one else shaped

    def explain(self, tell: Callable[[str], None]) -> None:
        """Have ``tell`` called with the sentences about gradients that are not finite, which otherwise are warnings."""
        self.paths.tell = tell

    def _by_differences(self, args: Sequence[Any], kwargs: dict[str, Any], error: Exception | None = None) -> Any:
        """Return (f, gradient) by differences. error: why they take the place of backpropagation from now on."""
        if error is not None:
            self._differences += 2
            refuse_random(lambda: as_scalar(self.f(*_own(args), **_own(kwargs))), self.paths.name)
        before = self._differences  # what is left is what a later gradient takes too
        try:
            answer, estimates = self._differenced(args, kwargs)
        except Exception:
            if error is not None:
                warn(FallbackWarning(error))
            raise
        if error is not None:
            warn(FallbackWarning(error, self._differences - before))
        for found in estimates:
            errors = found.error.values() if isinstance(found.error, dict) else [found.error]
            largest = max(float(np.max(error)) for error in errors)
            for sentence in found.warnings:
                if sentence is INDEPENDENT:
                    warn(GradientWarning(sentence.format(name=self.paths.name)))
                    continue
                text = f"the gradient of {self.paths.name} by differences: {sentence}"
                warn(GradientWarning(f"{text}; its error is up to {largest:.2g}"))
        return answer

    def _differenced(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, list[Estimate]]:
        method = "adaptive" if self.method in ("auto", "backprop") else self.method
        estimates = []
        for n in (_position(n, args) for n in self.argnums):

            def along(x: Any, n: int = n) -> Any:
                return self.f(*[x if i == n else _own(a) for i, a in enumerate(args)], **_own(kwargs))

            estimates.append(estimate(along, args[n], method, None, elementwise=False))
            self._differences += estimates[-1].nfev
        self._differences += 1
        value = as_scalar(self.f(*_own(args), **_own(kwargs)))
        results = tuple(each.value for each in estimates)
        return (value, results[0] if self.one else results), estimates


def _own(value: Any) -> Any:
    """Return arguments whose arrays are copies: what f does with its arguments stays with f."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)([_own(part) for part in value])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_own, value))
    return {k: _own(part) for k, part in value.items()} if type(value) is dict else value


def _function(f: Any) -> Callable[..., Any]:
    if not callable(f):
        raise InputError(f"f must be a function, got {type(f).__name__}")
    return f  # type: ignore[no-any-return]


def _argument_numbers(argnums: int | Sequence[int]) -> tuple[bool, tuple[int, ...]]:
    if type(argnums) is int:
        return True, (argnums,)
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


def _fast_call(path: Path, form: Sequence[Any], numbers: Sequence[int], one: bool) -> Callable[..., Any]:
    """Return a function from arguments of this form to the answer, as `_compile_fast_call` does; by a table, if there
    is one.
    """
    if path.single is None:
        return _compile_fast_call(path, form, numbers, one)
    compiled: Callable[..., Any] | None = None

    def call(args: Any) -> Any:
        nonlocal compiled
        answer = path.by_table(args)
        if answer is False:
            return None  # as would the program, which need not be run for it
        if answer is None:
            if compiled is None:
                compiled = _compile_fast_call(path, form, numbers, one)
            answer = compiled(args)
        return answer

    return call


def _compile_fast_call(path: Path, form: Sequence[Any], numbers: Sequence[int], one: bool) -> Callable[..., Any]:
    """Generate a function from arguments of this exact form to the answer; it returns None for any others, and if
    the answer is not finite.

    Inspecting the arguments costs as much as a small function itself, so the tests are written out once.
    """
    tests: list[str] = []
    leaves: list[str] = []
    shapes: list[Any] = []
    namespace: dict[str, Any] = {
        "ndarray": np.ndarray,
        "float64": np.float64,
        "same": path.same,
        "run": path.program.run,
        "raised": RAISED,
    }

    def add_tests(part: Any, text: str) -> str:
        """Add the tests for one argument; return its gradient's text."""
        if isinstance(part, Leaf):
            k = len(leaves)
            shapes.append(part.shape)
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
        made, parts = part
        shape: str = made if isinstance(made, str) else f"kind{len(namespace)}"
        if shape is not made:  # the class of a NamedTuple
            namespace[shape] = made
        tests.append(f"type({text}) is {shape} and len({text}) == {len(parts)}")
        if shape == "dict":
            inner = [f"{name!r}: " + add_tests(v, f"{text}[{name!r}]") for name, v in parts]
            return "{{" + ", ".join(inner) + "}}"
        inner = [add_tests(v, f"{text}[{i}]") for i, v in enumerate(parts)]
        if shape == "list":
            return f"[{', '.join(inner)}]"
        return f"({', '.join(inner)},)" if shape == "tuple" else f"{shape}({', '.join(inner)})"

    shown = [add_tests(part, f"a{i}") for i, part in enumerate(form)]
    if (environment := path.recorded.environment).only_names:
        for i, (outer, name, value) in enumerate(environment.names.values()):
            namespace |= {f"outer{i}": outer.get, f"value{i}": value, "missing": MISSING}
            tests.append(f"outer{i}({name!r}, missing) is value{i}")
        for i, read in enumerate(environment.functions):
            names = [f"f{i}", f"code{i}", f"defaults{i}", f"kwdefaults{i}", f"doc{i}", f"bare{i}"]
            namespace |= dict(zip(names, read, strict=True))
            tests.append(f"(f := f{i}()).__code__ is code{i}")
            tests.append(f"f.__defaults__ is defaults{i} and f.__kwdefaults__ is kwdefaults{i}")
            tests.append(f"f.__doc__ is doc{i}" + (" and not f.__dict__" if read[-1] else ""))
    else:
        tests.append("same()")
    active = {k: n + 1 for n, k in enumerate(path.recorded.leaves.active)}
    places = [str(active.get(k, 0)) for k in range(len(leaves))]
    gradients = [shown[n].format(*places) for n in numbers]
    refused, arguments = "r is None", list(leaves)
    if path.program.executor == "floats":
        arguments.append("True")
    elif path.resolver is not None:
        namespace |= {"isfinite": math.isfinite, "vdot": np.vdot}
        for k, n in active.items():
            square = f"r[{n}].dot(r[{n}])" if len(shapes[k]) == 1 else f"vdot(r[{n}], r[{n}])"
            refused += f" or not isfinite({square if shapes[k] else f'r[{n}]'})"
    source = f"""
def direct(args):
    try:
        {", ".join(f"a{i}" for i in range(len(form)))}, = args
        if not ({" and ".join(tests)}): return None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    try:
        r = run({", ".join(arguments)})
    except raised:
        return None
    return None if {refused} else (r[0], {gradients[0] if one else f"({', '.join(gradients)},)"})
"""
    exec(_compiled(source), namespace)
    return namespace["direct"]  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=128)
def _compiled(source: str) -> CodeType:
    """Return the code of a fast call; functions of arguments of one form mostly have the same."""
    return compile(source, "<koubai: direct call>", "exec")


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, method: str = "auto", **unknown: Never
) -> Callable[..., tuple[Any, Any]]:
    """Value and gradient: a function of the same arguments as f that returns (f(x), ∇f(x)).

    At kinks the convention is JAX's: |x|' = 0 at 0, ties in max share evenly. What f does not depend on, since a mask
    or an index leaves it out, counts for nothing, however steep; a composite that is smooth though one of its parts is
    not has its own gradient. If there is none though f is finite, as of sqrt(x) at 0, the result is inf or nan and a
    GradientWarning names the operation and its line. Inside a function that is differentiated itself, the gradient is a
    part of it.

    Parameters
    ----------
    f : callable
        Returns one real number. Its arguments that are differentiated may be numbers, arrays of any shape, or arrays in
        dicts, lists, tuples and NamedTuples, also nested; integers become float64, and a list or tuple of numbers is
        one array. Other arguments may be arrays, such structures of them, or anything hashable.
    argnums : int or tuple of int, default 0
        Which positional arguments are differentiated; a tuple gives a tuple of gradients.
    method : str, default "auto"
        "auto" backpropagates, and if f can't be traced takes adaptive differences after one FallbackWarning; "backprop"
        raises TraceError instead; "forward", "backward", "central", "complex" and "adaptive" are differences.

    Returns
    -------
    callable
        (value, gradient) at its arguments; the gradient has the form of x.

    Raises
    ------
    InputError
        For complex, empty or non-numeric x.
    FunctionError
        If f does not return one real number.
    GradientError
        If backpropagation disagrees with a difference.

    Examples
    --------
    >>> value, gradient = kb.value_and_grad(lambda x: np.sum(x**2))(np.array([3.0, 4.0]))
    >>> print(value, gradient)
    25.0 [6. 8.]
    """
    if unknown:
        raise UnknownNameError.of_argument(value_and_grad, unknown)
    return Differentiated(f, argnums, method)


class _Gradient:
    """Calls a `Differentiated` and returns the gradient alone."""

    def __init__(self, source: Differentiated) -> None:
        self.source = source
        self.__name__ = f"grad_{source.__name__}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.source(*args, **kwargs)[1]


def grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, method: str = "auto", **unknown: Never
) -> Callable[..., Any]:
    """Gradient: a function of the same arguments as f that returns ∇f(x).

    Everything but the value is as in `value_and_grad`, what raises too.

    Parameters
    ----------
    f : callable
        Returns one real number.
    argnums : int or tuple of int, default 0
        Which positional arguments are differentiated; a tuple gives a tuple of gradients.
    method : str, default "auto"
        "auto" backpropagates, and if f can't be traced takes adaptive differences after one FallbackWarning; "backprop"
        raises TraceError instead; "forward", "backward", "central", "complex" and "adaptive" are differences.

    Returns
    -------
    callable
        The gradient at its arguments, in the form of x.

    Examples
    --------
    >>> kb.grad(lambda w, x: np.sum((w * x) ** 2))(np.array([1.0, 2.0]), 3.0)
    array([18., 36.])
    """
    if unknown:
        raise UnknownNameError.of_argument(grad, unknown)
    return _Gradient(Differentiated(f, argnums, method))


class _Higher:
    """A derivative of several numbers or of second order: by the graph, or once that is refused by differences.

    what: the derivative is called; method: as the user gave it.
    """

    def __init__(self, f: Callable[..., Any], argnums: int, what: str, method: str) -> None:
        if method not in METHODS:
            raise UnknownNameError("method", method, METHODS)
        self.f, self.number, self.what, self.method = _function(f), int(argnums), what, method
        self.name = getattr(f, "__name__", "f")
        self.__name__ = f"{what}_{self.name}"
        self._refused = method not in ("auto", "backprop")
        self._lost = False  # the gradient's graph isn't better than that of second derivatives
        self._gradient = Differentiated(f, argnums, "backprop")

    def take(
        self,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        by_graph: Callable[[], Any],
        by_differences: Callable[[_Alone, str, Callable[[Any], Any] | None], Differences],
    ) -> Any:
        """Return the derivative, with a warning if differences take over.

        by_differences: gets f alone, the method, and f's gradient if backpropagation gives it and may.
        """
        refused: Exception | None = None
        if not self._refused:
            try:
                return by_graph()
            except (TraceError, GradientError) as error:
                if self.method == "backprop":
                    raise
                self._refused, refused = True, error
                self._lost = isinstance(error, TraceError) and error.lost
        alone = _Alone.of(self.f, args, kwargs, _position(self.number, args))
        if refused is not None:
            refuse_random(lambda: outputs_of(alone.f(alone.layout.copy(alone.x))), self.name)
        try:
            slopes = self._slopes(alone, args, kwargs) if self.method == "auto" and not self._lost else None
            found = by_differences(alone, "adaptive" if self.method == "auto" else self.method, slopes)
        except Exception:
            if refused is not None:
                warn(FallbackWarning(refused))
            raise
        if refused is not None:
            warn(FallbackWarning(refused, found.nfev))
        for sentence in found.warnings:
            text = f"the {self.what} of {self.name} by differences: {sentence}"
            warn(GradientWarning(sentence.format(name=self.name) if sentence is INDEPENDENT else text))
        return alone, found.value

    def _slopes(self, alone: _Alone, args: Sequence[Any], kwargs: dict[str, Any]) -> Callable[[Any], Any] | None:
        """Return f's gradient, flat, if backpropagation gives it."""
        n = _position(self.number, args)

        def slopes(x: Any) -> Any:
            return alone.layout.match(self._gradient(*[*args[:n], x, *args[n + 1 :]], **kwargs)[1], "the gradient")

        if self.what == "jacobian":
            return None
        try:
            slopes(alone.layout.copy(alone.x))
        except (TraceError, GradientError):
            return None
        return slopes


class _Alone(NamedTuple):
    """f as a function of one argument, which it gets as float64, and that argument's form and numbers."""

    f: Callable[[Any], Any]
    layout: Layout
    x: Any

    @classmethod
    def of(cls, f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], n: int) -> _Alone:
        layout, vector = flatten(args[n], "x")

        def along(x: Any) -> Any:
            return f(*[x if i == n else _own(a) for i, a in enumerate(args)], **_own(kwargs))

        return cls(along, replace(layout, dtype=np.dtype(np.float64)), vector.astype(np.float64))

    def rows(self, matrix: Any, shape: tuple[int, ...]) -> Any:
        """Show a matrix, whose columns are the elements of x and whose rows have this shape, in the caller's form."""
        shown = self.layout.view(matrix.reshape((*shape, matrix.shape[-1])))
        return shown[()] if isinstance(shown, np.ndarray) else shown

    def square(self, matrix: Any) -> Any:
        """Show a matrix that has the elements of x as its rows too."""
        if self.layout.names is None:
            return self.rows(matrix, self.layout.shapes[0])
        parts = np.split(matrix, np.cumsum([math.prod(shape) for shape in self.layout.shapes])[:-1])
        return self.layout.assembled(
            [self.rows(part, shape) for shape, part in zip(self.layout.shapes, parts, strict=True)]
        )


class _HessianVector(_Higher):
    def __init__(self, f: Callable[..., Any], argnums: int, method: str) -> None:
        super().__init__(f, argnums, "hvp", method)
        self.paths = Paths(f, HESSIAN_VECTOR, scalar=True)

    def __call__(self, x: Any, v: Any, *rest: Any, **kwargs: Any) -> Any:
        args = [*rest[: self.number], x, *rest[self.number :]]
        parts = _matching(v, x)

        def by_differences(alone: _Alone, method: str, slopes: Callable[[Any], Any] | None) -> Differences:
            w = alone.layout.match(v, "v").astype(np.float64)
            if slopes is None:
                return difference_hvp(alone.f, alone.layout, alone.x, w, method)
            length = float(np.max(np.abs(w)))
            if length == 0:
                return Differences(np.zeros(w.size), np.zeros(w.size), 0, ())
            found = difference_jacobian(slopes, alone.layout, alone.x, method, w[None] / length).of_slopes()
            return replace(found, value=found.value[:, 0] * length, error=found.error[:, 0] * length)

        def by_graph() -> Any:
            return None, self.paths.run(_leaves(self.f, args, kwargs, (self.number,)), *parts)

        alone, found = self.take(args, kwargs, by_graph, by_differences)
        return rebuilt(x, iter(found)) if alone is None else alone.rows(found, ())


def hvp(f: Callable[..., Any], argnums: int = 0, *, method: str = "auto", **unknown: Never) -> Callable[..., Any]:
    """Hessian-vector product: a function (x, v) → ∇²f(x) v, without forming the Hessian.

    By reverse mode twice.

    Parameters
    ----------
    f : callable
        Returns one real number.
    argnums : int, default 0
        Which positional argument is differentiated.
    method : str, default "auto"
        As in `hessian`; differences are taken along v.

    Returns
    -------
    callable
        Takes x, then v of the form of x, then f's other arguments: ``hvp(f)(x, v, data)``.

    Examples
    --------
    >>> kb.hvp(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 3.0]), np.array([1.0, 0.0]))
    array([6., 2.])

    References
    ----------
    Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 1994.
    """
    if unknown:
        raise UnknownNameError.of_argument(hvp, unknown)
    return _HessianVector(f, argnums, method)


def _matching(v: Any, x: Any) -> list[Any]:
    """Return the arrays of ``v``, which must have the form of ``x``."""
    if isinstance(x, Mapping):
        if not isinstance(v, Mapping) or set(v) != set(x):
            raise InputError(f"v must be a dict with the keys {sorted(x)}, as x is")
        return [part for name in x for part in _matching(v[name], x[name])]
    if is_structure(x):
        if not isinstance(v, list | tuple) or len(v) != len(x):
            raise InputError(f"v must be a {type(x).__name__} of {len(x)} parts, as x is")
        return [part for one, other in zip(v, x, strict=True) for part in _matching(one, other)]
    value = real(v, "v")
    if np.shape(value) != np.shape(x):
        raise InputError(f"v has shape {np.shape(value)}, but x has shape {np.shape(x)}; they must be equal")
    return [value.astype(real(x, "x").dtype)]


class _Hessian(_Higher):
    def __init__(self, f: Callable[..., Any], argnums: int, method: str) -> None:
        super().__init__(f, argnums, "hessian", method)
        self.paths = Paths(f, HESSIAN_VECTOR, scalar=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        alone, found = self.take(args, kwargs, lambda: (None, self._by_graph(args, kwargs)), self._by_differences)
        return found if alone is None else alone.square(found)

    def _by_graph(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        leaves = _leaves(self.f, args, kwargs, (self.number,))
        x = args[_position(self.number, args)]
        parts = [leaves.values[k] for k in leaves.active]
        rows: list[list[Any]] = [[] for _ in parts]
        for i, unit in _units(parts):
            rows[i].append(self.paths.run(leaves, *unit))
        blocks = [_stacked(these, a.shape, parts) for these, a in zip(rows, parts, strict=True)]
        if not is_structure(x):
            return blocks[0][0]
        return rebuilt(x, iter([rebuilt(x, iter(row)) for row in blocks]))

    @staticmethod
    def _by_differences(alone: _Alone, method: str, slopes: Callable[[Any], Any] | None) -> Differences:
        if slopes is None:
            return difference_hessian(alone.f, alone.layout, alone.x, method)
        return difference_jacobian(slopes, alone.layout, alone.x, method).of_slopes().symmetric()


def hessian(f: Callable[..., Any], argnums: int = 0, *, method: str = "auto", **unknown: Never) -> Callable[..., Any]:
    """Hessian: a function of the same arguments as f that returns the matrix of second derivatives of f at x.

        H[i, j] = ∂²f / ∂x[i] ∂x[j]

    Parameters
    ----------
    f : callable
        Returns one real number.
    argnums : int, default 0
        Which positional argument is differentiated.
    method : str, default "auto"
        "auto" backpropagates twice, and if f can't be traced takes adaptive differences after one FallbackWarning: of
        the gradient if that can be traced, else of f; "backprop" raises TraceError instead, or GradientError if
        differences disagree; "forward", "backward", "central", "complex" and "adaptive" are differences of f
        (`koubai.derivative` with n = 2 has the formulas), and symmetric.

    Returns
    -------
    callable
        The Hessian at its arguments. For x of shape s it has shape s + s; for a number it is a number; for a dict, list
        or tuple of arrays, H[a][b] holds the derivatives with respect to x[a] and x[b]. A GradientWarning says that
        differences give the result only roughly.

    Examples
    --------
    >>> kb.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 3.0]))
    array([[6., 2.],
           [2., 0.]])
    """
    if unknown:
        raise UnknownNameError.of_argument(hessian, unknown)
    return _Hessian(f, argnums, method)


def _stacked(rows: Sequence[Sequence[Any]], shape: tuple[int, ...], parts: Sequence[Any]) -> list[Any]:
    """Return, for every part, its rows as one array of this shape followed by the part's."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(parts)
    stacked = []
    for column, part in zip(columns, parts, strict=True):
        if any(type(row) is Traced for row in column):
            stacked.append(array(list(column)).reshape((*shape, *part.shape)))
        else:
            block = np.array(column, part.dtype if not column else None).reshape((*shape, *part.shape))
            stacked.append(block if block.ndim else block[()])
    return stacked


def _units(parts: Sequence[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Yield (part, the arrays of ``parts`` with 1 in one place and 0 elsewhere) for every element."""
    zeros = [np.zeros(part.shape, part.dtype) for part in parts]
    for i, part in enumerate(parts):
        for at in np.ndindex(*part.shape):
            unit = list(zeros)
            unit[i] = zeros[i].copy()
            unit[i][at] = 1.0
            yield i, [u if u.ndim else u[()] for u in unit]


class _Jacobian(_Higher):
    def __init__(self, f: Callable[..., Any], argnums: int, method: str) -> None:
        super().__init__(f, argnums, "jacobian", method)
        self.values = Paths(f, lambda graph, active: graph, scalar=False)
        self.products = Paths(f, PRODUCT, scalar=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        shape: list[tuple[int, ...]] = []

        def by_differences(alone: _Alone, method: str, slopes: Callable[[Any], Any] | None) -> Differences:
            def outputs(x: Any) -> Any:
                y = alone.f(x)
                shape.append(np.shape(y))
                return y

            return difference_jacobian(outputs, alone.layout, alone.x, method)

        alone, found = self.take(args, kwargs, lambda: (None, self._by_graph(args, kwargs)), by_differences)
        return found if alone is None else alone.rows(found, shape[0])

    def _by_graph(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        leaves = _leaves(self.f, args, kwargs, (self.number,))
        outputs = self.values.run(leaves)
        if len(outputs) != 1:
            raise FunctionError(f"f(x) returned {len(outputs)} arrays; stack them into one")
        y = outputs[0]
        parts = [leaves.values[k] for k in leaves.active]
        rows = [self.products.run(leaves, *unit) for _, unit in _units([y])]
        shaped = _stacked(rows, y.shape, parts)
        return rebuilt(args[_position(self.number, args)], iter(shaped))


def jacobian(f: Callable[..., Any], argnums: int = 0, *, method: str = "auto", **unknown: Never) -> Callable[..., Any]:
    """Jacobian: a function of the same arguments as f that returns the derivatives of all outputs at x.

        J[i, j] = ∂f[i] / ∂x[j]

    One reverse pass per output element.

    Parameters
    ----------
    f : callable
        Returns one array of any shape.
    argnums : int, default 0
        Which positional argument is differentiated.
    method : str, default "auto"
        As in `hessian`, with one ladder of steps per element of x.

    Returns
    -------
    callable
        The Jacobian at its arguments: the shape of f's result, followed by that of x (for a structure of arrays, a
        structure of such).

    Examples
    --------
    >>> kb.jacobian(lambda x: np.array([x[0] * x[1], x[1]]))(np.array([2.0, 3.0]))
    array([[3., 2.],
           [0., 1.]])
    """
    if unknown:
        raise UnknownNameError.of_argument(jacobian, unknown)
    return _Jacobian(f, argnums, method)
