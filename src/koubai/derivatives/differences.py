"""Derivatives by differences, each with an error estimate: forward, backward, central, complex step, adaptive."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Never, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.errors import FunctionError, GradientWarning, InputError, UnknownNameError, called, quiet, warn
from koubai.messages import worded
from koubai.parameters import FloatArray, Layout, Parameters, as_scalar, flatten, is_structure

__all__ = [
    "ABOVE",
    "BELOW",
    "FLAT",
    "INDEPENDENT",
    "METHODS",
    "Box",
    "Differences",
    "Estimate",
    "derivative",
    "difference_gradient",
    "difference_hessian",
    "difference_hvp",
    "difference_jacobian",
    "estimate",
    "into",
    "measured_error",
    "numerical_gradient",
    "one_vector",
    "outputs_of",
]

METHODS = ("forward", "backward", "central", "complex", "adaptive")

Array: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Box: TypeAlias = tuple[Any, Any]  # the lowest and the highest x

EPS = float(np.finfo(np.float64).eps)

# The adaptive ladder: 14 steps from half the size of x down to where rounding drowns everything. The odd ratio keeps
# them off the periods that people write, and off round numbers, on which the rounding inside f repeats and hides.
LEVELS, RATIO, FIRST = 14, 3.8, 0.47
COLUMNS = 4  # extrapolations of the ladder; more only amplify rounding
EXTENSION, DEEPEST = 8, 40  # levels added if the ladder did not reach the scale of f, and the most levels of all
ENOUGH = 4  # steps with both sides that make central differences of a ladder
FINEST = 64  # the finest step, in units of the spacing of numbers at x
# the finest step if coarser ones have given the slope (to DECENT of f's spread), in units of the rounding of |x| or 1
DECENT, ROUNDED = 0.02, 256
SAFETY = 2.0  # what the disagreement of the rows is multiplied with
SHRINK = RATIO ** -np.arange(LEVELS)[:, None]
TOGETHER = 512  # components that are worked on at once: 6 MB of tables
GOOD = (1e-10, 1e-7)  # relative error of a first and a second derivative at which the ladder is not extended

INDEPENDENT = (
    "{name} does not depend on its argument: nothing that it returns comes of it, and its derivative is 0. Make what "
    "is to be differentiated the argument, as in lambda W: loss(W), and compute with it"
)
BELOW = "f is not finite below x: the {} is that of the right side"
ABOVE = "f is not finite above x: the {} is that of the left side"
FLAT = worded(
    "f is the same at all points that were looked at: it does not depend on its argument, or is flat around x"
)


def _operators(ufunc: Callable[..., Any]) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """Return an operator of arrays and its reflection, for a class that has an ``__array_ufunc__``."""

    def operator(self: Any, other: Any) -> Any:
        return NotImplemented if getattr(other, "__array_ufunc__", ufunc) is None else ufunc(self, other)

    def reflected(self: Any, other: Any) -> Any:
        return NotImplemented if getattr(other, "__array_ufunc__", ufunc) is None else ufunc(other, self)

    return operator, reflected


def _plain(value: Any) -> Any:
    return value._values() if isinstance(value, Estimate) else value


@dataclass(frozen=True, repr=False, eq=False)
class Estimate:
    """A derivative with the error to expect of it.

        |value − f'(x)| ≤ error   (an estimate, not a proof)

    In arithmetic, comparisons, indexing, iteration, formats and NumPy's functions an Estimate is its value, as in
    ``x -= lr * kb.numerical_gradient(f, x)``; what comes out is a plain number or array. It can't be written into:
    ``g *= 0.5`` makes g a plain array, ``g[0] = 0`` raises. If x is a dict, list or tuple of arrays, its parts are
    reached by key and by iteration, and arithmetic raises TypeError.

    Attributes
    ----------
    value, error, h : in the form of x
        A float for a number, an array of x's shape, or a structure of arrays as x is. error is absolute; h is the step,
        for "adaptive" the finest one that the value rests on.
    nfev : int
        Points at which f was evaluated.
    method : str
        The method's name.
    noise : float, or in the form of x for elementwise derivatives
        How far f's values are off, absolute: by rounding, and for "adaptive" as measured.
    warnings : tuple of str
        Plain sentences; empty if nothing is the matter.

    Examples
    --------
    >>> slope = kb.derivative(np.sin, 0.0)
    >>> print(f"{slope:.6f}, {slope.method}")
    1.000000, adaptive
    >>> slope.error < 1e-10
    True
    """

    value: Any
    error: Any
    h: Any
    nfev: int
    method: str
    noise: Any
    warnings: tuple[str, ...] = ()

    def _parts(self) -> Any:
        """Return the value as NumPy's own number or array, or the structure that it is."""
        return np.float64(self.value) if isinstance(self.value, float) else self.value

    def _values(self) -> Any:
        """Return the value as NumPy's own number or array. Raises TypeError if it is a structure of arrays."""
        if is_structure(self.value):
            kind = type(self.value).__name__
            raise TypeError(
                f"this Estimate is a {kind} of arrays, which don't compute as one array: take its parts, as in "
                + ("{key: lr * g for key, g in estimate.items()}" if kind == "dict" else "[lr * g for g in estimate]")
            )
        return self._parts()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._values(), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(target, Estimate) for target in kwargs.get("out", ())):
            raise TypeError("an Estimate can't be written into: its error belongs to its value; use np.array(estimate)")
        own = [part._values() if isinstance(part, Estimate) else part for part in inputs]
        return getattr(ufunc, method)(*own, **kwargs)

    __add__, __radd__ = _operators(np.add)
    __sub__, __rsub__ = _operators(np.subtract)
    __mul__, __rmul__ = _operators(np.multiply)
    __matmul__, __rmatmul__ = _operators(np.matmul)
    __truediv__, __rtruediv__ = _operators(np.true_divide)
    __floordiv__, __rfloordiv__ = _operators(np.floor_divide)
    __mod__, __rmod__ = _operators(np.remainder)
    __divmod__, __rdivmod__ = _operators(np.divmod)
    __pow__, __rpow__ = _operators(lambda a, b: _plain(a) ** _plain(b))  # before 2.1, np.power rounds squares otherwise
    __lt__, __gt__ = _operators(np.less)
    __le__, __ge__ = _operators(np.less_equal)

    def __eq__(self, other: object) -> Any:
        return self is other if is_structure(self.value) else self._values() == other

    def __ne__(self, other: object) -> Any:
        return self is not other if is_structure(self.value) else self._values() != other

    def __neg__(self) -> Any:
        return -self._values()

    def __pos__(self) -> Any:
        return +self._values()

    def __abs__(self) -> Any:
        return abs(self._values())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._values(), digits)

    def __hash__(self) -> int:
        return hash(self.value)  # that of a number; arrays have none

    def __bool__(self) -> bool:
        return bool(self._values())

    def __int__(self) -> int:
        return int(float(self))

    def __float__(self) -> float:
        if not isinstance(self.value, float):
            raise TypeError(f"only the estimate of a single number converts to float; .value is {self.value!r}")
        return self.value

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __getitem__(self, index: Any) -> Any:
        return self._parts()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("an Estimate can't be written into: its error belongs to its value; use np.array(estimate)")

    def __getattr__(self, name: str) -> Any:
        """Return what the value has by this name: shape, T, sum(), or the items() of a dict."""
        if not name.startswith("__") and "value" in self.__dict__:
            value = self._parts()
            if hasattr(value, name):
                return getattr(value, name)
        raise AttributeError(f"an Estimate has no attribute {name!r}, nor has its value")

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        value = self._values()
        if isinstance(value, float):
            return format(value, spec)
        return np.array2string(value, formatter={"float_kind": lambda number: format(number, spec)})

    def __repr__(self) -> str:
        if isinstance(self.value, float):
            head = f"{self.value!r} ± {self.error:.1e}  ({self.method}, h={self.h:.3g}, {self.nfev} evaluations)"
        else:
            head = f"({self.method}, {self.nfev} evaluations)\n  value: {self.value!r}\n  error: {self.error!r}"
        return "\n".join([f"Estimate: {head}", *(f"  warning: {text}" for text in self.warnings)])


@dataclass
class _Found:
    """The result of a method, one entry per component; ``notes`` maps a sentence to the components it is true of."""

    value: Array
    error: Array
    h: Array
    noise: Array
    notes: dict[str, Mask]


def derivative(
    f: Callable[[Any], Any],
    x: Any,
    *,
    n: int = 1,
    method: str = "adaptive",
    h: float | None = None,
    **unknown: Never,
) -> Estimate:
    """Derivative: the n-th derivative of f at x, by differences, with its error.

        forward   (f(x+h) − f(x)) / h
        backward  (f(x) − f(x−h)) / h
        central   (f(x+h) − f(x−h)) / (2h)
        complex   Im f(x + ih) / h
        adaptive  central differences over a ladder of steps, extrapolated to h = 0

    and for n = 2

        forward   (f(x+2h) − 2 f(x+h) + f(x)) / h²
        backward  (f(x) − 2 f(x−h) + f(x−2h)) / h²
        central   (f(x+h) − 2 f(x) + f(x−h)) / h²
        complex   adaptive first differences of Im f(x + ih) / h
        adaptive  the central ones over a ladder of steps, extrapolated to h = 0

    The error of the first three is the truncation, measured from a second step h/2 (this doubles the evaluations), plus
    the rounding bound; of "complex", which is checked by a central difference, the measured rounding; of "adaptive" the
    disagreement of consecutive rows of the ladder plus the measured noise of f.

    Parameters
    ----------
    f : callable
        Takes a number and returns one. It is called with numbers; an array of points is tried if many are wanted, and
        used only if it gives what the numbers give.
    x : number or array
        If an array, of any shape, f is elementwise and every element gets its own derivative. Integers and float32
        become float64.
    n : int, default 1
        The order of the derivative, 1 or 2.
    method : str, default "adaptive"
        One of the names above.
    h : float, optional
        > 0, used exactly as given ("adaptive" finds its own). None takes the optimum for the method: eps^(1/2)
        (forward, backward) or eps^(1/3) (central), for n = 2 eps^(1/3) or eps^(1/4), times max(|x|, 1), eps being the
        rounding of what f returns (float32 or float64).

    Returns
    -------
    Estimate
        The value and its error. If f is not finite at x±h, the error is infinite and a warning says so; "adaptive"
        keeps to the steps and the side where f is finite, and takes anything that f raises away from x as a point
        outside its domain.

    Raises
    ------
    InputError
        For an x, n or h that can't be used.
    UnknownNameError
        For an unknown method.
    FunctionError
        If f does not return one real number or is not finite at x.

    A GradientWarning says that f does not depend on x.

    Examples
    --------
    >>> print(f"{kb.derivative(lambda x: x**3, 10.0).value:.9f}")
    300.000000000
    >>> kb.derivative(lambda x: x**2, 2.0, method="forward", h=1e-4).value
    4.0001000000078335

    References
    ----------
    Richardson, "The approximate arithmetical solution by finite differences", Phil. Trans. A 210, 1911;
    Squire and Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40, 1998.
    """
    if unknown:
        raise UnknownNameError.of_argument(derivative, unknown)
    if n not in (1, 2) or isinstance(n, bool):
        raise InputError(f"n must be 1 or 2, the first or the second derivative, got {n!r}")
    return _with_warnings(f, estimate(f, x, method, h, elementwise=True, n=n))


def numerical_gradient(
    f: Callable[[Any], Any], x: Parameters, *, method: str = "adaptive", h: float | None = None, **unknown: Never
) -> Estimate:
    """Numerical gradient: all partial derivatives of f at x, by differences, with their errors.

        g[i] = (f(x + h e_i) − f(x − h e_i)) / (2h)   (central; the other methods as in `derivative`)

    Parameters
    ----------
    f : callable
        Maps x, in the form it is given here, to one number. It never sees the caller's arrays, only copies.
    x : number, array, or a dict, list or tuple of arrays
        The point.
    method : str, default "adaptive"
        As in `derivative`.
    h : float, optional
        The step, as in `derivative`.

    Returns
    -------
    Estimate
        The gradient and its error, in the form of x.

    Raises
    ------
    InputError, UnknownNameError, FunctionError
        As in `derivative`.

    Examples
    --------
    >>> gradient = kb.numerical_gradient(lambda x: x[0] ** 2 + x[1] ** 2, [3.0, 4.0])
    >>> gradient.value.round(9)
    array([6., 8.])
    """
    if unknown:
        raise UnknownNameError.of_argument(numerical_gradient, unknown)
    return _with_warnings(f, estimate(f, x, method, h, elementwise=False))


def _with_warnings(f: Callable[[Any], Any], found: Estimate) -> Estimate:
    """Warn if f does not depend on its argument: the derivative is right, but hardly what is meant."""
    if INDEPENDENT in found.warnings:
        sentence = INDEPENDENT.format(name=getattr(f, "__name__", "f"))
        warn(GradientWarning(sentence))
        return replace(found, warnings=tuple(sentence if w is INDEPENDENT else w for w in found.warnings))
    return found


def difference_gradient(
    f: Callable[[Any], Any],
    layout: Layout,
    vector: FloatArray,
    method: str = "central",
    h: float | None = None,
    fun: np.floating[Any] | None = None,
    tell: Callable[[str, str], None] | None = None,
) -> tuple[Array, Array, Mask, int]:
    """Difference gradient: `numerical_gradient` for a descent, without the evaluations that measure truncation.

    f takes the caller's form (``layout``); ``vector`` is x, flat, and is not changed. fun: f(x) as `as_scalar` gives
    it, if it is known; otherwise it is evaluated when it is needed (every method but central with a given h). tell:
    is given what `Estimate.warnings` would say (complex and adaptive): the matter, and the sentence with components.
    Returns gradient, rounding error (the bound eps |f| / h; for complex and adaptive the whole error),
    below_rounding (the differences see no change of x, as x+h and x−h round to x: the component is 0 for any f), nfev;
    the first three flat, in float64. If f is not finite at x±h the component is not finite; nothing is raised for it.
    """
    _check_method(method)
    _check_step(h)
    x = vector.astype(np.float64)
    with quiet():
        sampler = _Sampler(f, layout, x, elementwise=False)
        if fun is not None:
            sampler.know(fun)
        if method in ("complex", "adaptive"):
            found = _complex(sampler, h) if method == "complex" else _adaptive(sampler)
            for note, where in found.notes.items():
                if tell is not None and where.any():
                    tell(note, _sentence(layout, note, where))
            if tell is not None and sampler.flat:
                tell(FLAT, FLAT)
            return found.value, found.error, np.zeros(x.size, dtype=bool), sampler.nfev
        pair = _pair(sampler, method, _step(sampler, method, h))
        if tell is not None and sampler.flat:
            tell(FLAT, FLAT)
    return pair.slope, pair.rounding, pair.low == pair.high, sampler.nfev


def measured_error(
    f: Callable[[Any], Any],
    layout: Layout,
    vector: FloatArray,
    method: str,
    h: float | None = None,
    box: Box | None = None,
) -> tuple[float, int]:
    """Measured error: what the noise of f makes of a difference of one step; and the evaluations that this took.

        noise / h

    The rounding that `difference_gradient` reckons with is that of the type that f returns; f may compute in another
    one, or end an iteration early. Here its values are measured, along one random direction through x. h: the smallest
    step; None for the method's own. box: the ends into which the direction leads.
    """
    x = vector.astype(np.float64)
    random = np.random.default_rng(20240229)
    direction = random.choice([-1.0, 1.0], x.size) * random.uniform(0.5, 1.5, x.size) * np.maximum(np.abs(x), 1.0)
    if box is not None:
        (direction,) = into(box, [x], [direction], FIRST)
    sampler = _Sampler(f, layout, x, elementwise=False)
    with quiet():
        found = estimate(lambda s: f(layout.copy(x + s * direction)), 0.0, "adaptive", None, elementwise=False)
        step = float(_step(sampler, method, h).min())
    return found.noise / step, found.nfev + sampler.nfev


def one_vector(parts: Sequence[Any]) -> Any:
    return np.concatenate([np.ravel(part) for part in parts])


def into(box: Box, parts: Sequence[Any], directions: Sequence[Any], longest: float) -> list[Any]:
    """Return the directions, turned and shortened so that a step of the ``longest`` length stays in the box."""
    x, v, (low, high) = one_vector(parts), one_vector(directions), box
    v = np.where(x + longest * v > high, -np.abs(v), v)
    v = np.where(x + longest * v < low, np.abs(v), v)
    v = np.where(
        (x + longest * v > high) | (x + longest * v < low),
        0.5 * np.where(high - x > x - low, high - x, low - x) / longest,
        v,
    )
    ends = np.cumsum([part.size for part in parts])[:-1]
    return [piece.reshape(part.shape) for piece, part in zip(np.split(v, ends), parts, strict=True)]


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)


def _check_step(h: float | None) -> None:
    if h is not None:
        try:
            usable = math.isfinite(h) and h > 0
        except TypeError:
            usable = False
        if not usable:
            raise InputError(f"h must be a finite number > 0, got {h!r}; None takes the optimum for the method")


def estimate(
    f: Callable[[Any], Any], x: Parameters, method: str, h: float | None, elementwise: bool, n: int = 1
) -> Estimate:
    """Return what `derivative` (elementwise) and `numerical_gradient` do; its warnings may hold INDEPENDENT itself."""
    _check_method(method)
    _check_step(h)
    if method == "adaptive" and h is not None:
        raise InputError(f"h = {h!r} goes with the methods of one step; method='adaptive' finds its own steps")
    layout, vector = flatten(x, "x")
    with quiet():
        # in float32 most steps would round away, so f sees float64
        sampler = _Sampler(f, layout, vector.astype(np.float64), elementwise)
        found = _by(method, sampler, h, n)
        far, independent = _far(sampler.x), False
        if sampler.flat:
            points = list(far.ravel()) if elementwise else [layout.copy(point) for point in far]
            independent, used = _flat(f, sampler.at_x()[0], points)
            sampler.nfev += used

    def show(values: Array) -> Any:
        return float(values[0]) if layout.is_number else layout.view(values)

    sentences = [_sentence(layout, note, where) for note, where in found.notes.items() if where.any()]
    return Estimate(
        value=show(found.value),
        error=show(found.error),
        h=show(found.h),
        nfev=sampler.nfev,
        method=method,
        noise=show(found.noise) if elementwise else float(found.noise.max()),
        warnings=tuple([*sentences, INDEPENDENT] if independent else sentences),
    )


def _far(x: Array) -> Array:
    """Return points far from x, whose elements move at once."""
    random = np.random.default_rng(20240229)
    steps = np.array([[3.0], [-3.0], [100.0], [-100.0]]) * np.maximum(np.abs(x), 1.0)
    return np.asarray(x + steps * random.uniform(0.5, 1.5, (4, x.size)))


def _flat(f: Callable[[Any], Any], at_x: Any, points: list[Any]) -> tuple[bool, int]:
    """Return whether f is at all the points what it is at x, and the evaluations that this took."""
    for used, point in enumerate(points, 1):
        try:
            same = bool(np.all(outputs_of(called(partial(f, point))) == at_x))
        except Exception:  # whatever it raises, it depends on its argument
            same = False
        if not same:
            return False, used
    return True, len(points)


def _by(method: str, sampler: _Sampler, h: float | None, n: int) -> _Found:
    """Return the n-th derivatives of all components by this method."""
    if method == "adaptive":
        return _adaptive(sampler, n)
    if method != "complex":
        return _fixed(sampler, method, h, n)
    return _complex(sampler, h) if n == 1 else _complex_second(sampler, h)


def _sentence(layout: Layout, note: str, where: Mask) -> str:
    if layout.is_number:
        return note
    labels = [layout.label(int(i)) for i in np.flatnonzero(where)]
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return f"{', '.join(labels[:3])}{more}: {note}"


class _Sampler:
    """The user's f seen along each coordinate: row by row, the values of f where coordinate i of x is ``points[:, i]``.

    Every call of f gets its own copy of x, as f may write into it. ``eps`` is the rounding of the type that f returns.
    """

    def __init__(self, f: Callable[[Any], Any], layout: Layout, x: Array, elementwise: bool) -> None:
        self.f, self.layout, self.x, self.elementwise = f, layout, x, elementwise
        self.nfev = 0
        self.eps = EPS
        self.takes_arrays = elementwise
        self.flat = True  # whether f was the same at every point so far
        self.near = np.abs(x)
        self.size = np.maximum(self.near, 1.0)  # the scale of x for the ladder; near: if that fails
        self._at_x: Array | None = None
        self._first: float | None = None

    def spacing(self, columns: npt.NDArray[np.intp], h: Array) -> Array:
        """Return the spacing of numbers around x ± h."""
        return np.spacing(np.abs(self.x[columns]) + h)

    def at_x(self) -> Array:
        """Return f(x), once for each component. It must be finite: f has no derivative where it has no value."""
        if self._at_x is None:
            count = self.x.size if self.elementwise else 1
            values = called(lambda: [self._value(i, self.x[i], forgiving=False) for i in range(count)])
            for i, value in enumerate(values):
                if not math.isfinite(value):
                    point = self._point(i, self.x[i])
                    at = f"{self.layout.label(i)} = {point}" if self.elementwise else f"x = {point}"
                    raise FunctionError(f"f(x) = {value} at {at}; f must be finite where it is differentiated")
            self._at_x = np.array(values if count == self.x.size else values * self.x.size)
        return self._at_x

    def know(self, fun: np.floating[Any]) -> None:
        """Take f(x) from the caller."""
        self._at_x = np.full(self.x.size, self._keep_eps(fun))

    def __call__(self, points: Array, columns: npt.NDArray[np.intp], forgiving: bool = False) -> Array:
        """Return f at ``points[k, j]``, moving coordinate ``columns[j]``. forgiving: what f raises there means NaN."""
        if self.takes_arrays and points.size >= LEVELS:
            values = self._all_at_once(points, columns, forgiving)
            if values is not None:
                return values
        # f at one coordinate after the other: the values of one ladder are computed close together
        columned = list(enumerate(columns))
        return np.array(
            called(lambda: [[self._value(i, s, forgiving) for s in points[:, j].tolist()] for j, i in columned])
        ).T

    def complex_step(self, x: Array, h: Array) -> Array:
        """Return Im f(x + i h e_j) / h for every component j."""
        slopes = np.empty(x.size)
        for i in range(x.size):
            point: Any = x.astype(np.complex128)
            point[i] = complex(x[i], h[i])
            # numbers as Python's own complex: math's functions refuse it, while they would cut np.complex128 short
            alone = self.elementwise or self.layout.is_number
            shown = complex(point[i]) if alone else self.layout.copy(point)
            self.nfev += 1
            slopes[i] = _imaginary(called(partial(self.f, shown))) / h[i]
        return slopes

    def _all_at_once(self, points: Array, columns: npt.NDArray[np.intp], forgiving: bool) -> Array | None:
        """Call f once with all the points, if f gives there what it gives for single numbers; else return None."""
        flat = points.ravel()
        # the outermost points and two of the innermost: a branch on the whole array can't agree with all of them
        spots = sorted({int(flat.argmin()), int(flat.argmax()), flat.size - 1, flat.size - columns.size})

        def ask() -> tuple[Array, Any]:
            single = np.array([self._value(columns[k % columns.size], flat[k], forgiving) for k in spots])
            self.nfev += 1
            try:
                return single, np.asarray(self.f(flat.copy()))
            except Exception:  # f takes numbers, so what it raises for an array does not count
                return single, None

        single, values = called(ask)
        if values is None or values.shape != flat.shape or values.dtype.kind not in "fiu":
            self.takes_arrays = False
            return None
        self.eps = max(self.eps, _rounding_of(values.dtype))
        tolerance = 8 * self.eps
        values = values.astype(np.float64)
        self.flat = self.flat and bool((values == self._first).all())
        there = values[spots]
        same = (np.abs(there - single) <= tolerance * np.abs(single)) | (there == single)
        self.takes_arrays = bool((same | (np.isnan(there) & np.isnan(single))).all())
        if not self.takes_arrays:
            return None
        self.nfev += flat.size - 1  # the call itself is counted
        return np.asarray(values.reshape(points.shape))

    def _value(self, i: int, s: float, forgiving: bool) -> float:
        point = self._point(i, s)
        self.nfev += 1
        try:
            return self._keep_eps(as_scalar(self.f(point)))
        except Exception:  # also a complex root, say, which as_scalar refuses
            if forgiving:
                return math.nan
            raise

    def _point(self, i: int, s: float) -> Any:
        if self.elementwise:
            return np.float64(s)  # a float, but one whose arithmetic gives inf and nan rather than raising
        point = self.x.copy()
        point[i] = s
        return self._show(point)

    def _show(self, vector: Array) -> Any:
        """Return a vector made for this call in the caller's form, in arrays of their own as the caller's may be."""
        return vector if self.layout.is_vector else self.layout.copy(vector)

    def _keep_eps(self, value: np.floating[Any]) -> float:
        if value.itemsize < 8:
            self.eps = max(self.eps, _rounding_of(value.dtype))
        number = float(value)
        if self._first is None:
            self._first = number
        self.flat = self.flat and number == self._first
        return number


@functools.cache
def _rounding_of(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else EPS


class _Directions(_Sampler):
    """The user's f along directions: column k is f(x + s u_k), seen at s = 0."""

    def __init__(self, f: Callable[[Any], Any], layout: Layout, x: Array, directions: Array) -> None:
        super().__init__(f, layout, np.zeros(len(directions)), elementwise=False)
        self.base, self.directions = x, directions
        distances = np.where((directions != 0) & (x != 0), np.abs(x / directions), np.inf).min(axis=1)
        self.near = np.where(np.isfinite(distances), distances, 0.0)

    def spacing(self, columns: npt.NDArray[np.intp], h: Array) -> Array:
        found = np.empty(h.shape)
        for k, column in enumerate(columns):
            moved = np.flatnonzero(self.directions[column])
            u, x = np.abs(self.directions[column, moved]), np.abs(self.base[moved])
            found[..., k] = (np.spacing(x + h[..., k, None] * u) / u).max(axis=-1, initial=0.0)
        return found

    def _point(self, i: int, s: float) -> Any:
        return self._show(self.base + s * self.directions[i])


class _Outputs(_Directions):
    """All the numbers that the user's f returns, along one direction: column k is f(x + s u)[k]."""

    def __init__(self, f: Callable[[Any], Any], layout: Layout, x: Array, direction: Array, at_x: Array) -> None:
        super().__init__(f, layout, x, direction[None])
        self.x = np.zeros(at_x.size)
        self.size, self.near = np.ones(at_x.size), np.full(at_x.size, self.near[0])
        self._at_x, self._rows = at_x, {0.0: at_x}

    def at_x(self) -> Array:
        assert self._at_x is not None
        return self._at_x

    def spacing(self, columns: npt.NDArray[np.intp], h: Array) -> Array:
        return np.stack([super(_Outputs, self).spacing(np.zeros(1, np.intp), h[..., k, None])[..., 0]
                         for k in range(len(columns))], axis=-1)  # fmt: skip

    def __call__(self, points: Array, columns: npt.NDArray[np.intp], forgiving: bool = False) -> Array:
        found = np.empty(points.shape)
        for row, places in zip(found, points, strict=True):
            for s in np.unique(places).tolist():
                row[places == s] = self._row(s, forgiving)[columns[places == s]]
        return found

    def _row(self, s: float, forgiving: bool) -> Array:
        if s not in self._rows:
            self.nfev += 1
            at_x = self.at_x()
            try:
                value = outputs_of(called(lambda: self.f(self._point(0, s))))
                if value.size != at_x.size:
                    raise FunctionError(f"f returned {at_x.size} numbers at x, and {value.size} near x")
                self._rows[s] = value.ravel().astype(np.float64)
                if value.dtype.itemsize < 8:
                    self.eps = max(self.eps, _rounding_of(value.dtype))
            except Exception:
                if not forgiving:
                    raise
                self._rows[s] = np.full(at_x.size, math.nan)
            self.flat = self.flat and bool((self._rows[s] == at_x).all())
        return self._rows[s]

    def complex_step(self, x: Array, h: Array) -> Array:
        shift = complex(x[0], h[0])
        self.nfev += 1
        value = np.asarray(called(lambda: self.f(self._show(self.base + shift * self.directions[0]))))
        return np.asarray((value.imag if value.dtype.kind == "c" else np.zeros(x.size)).ravel() / h[0])


def outputs_of(value: Any) -> Any:
    """Return what the user's function gave as an array of real numbers."""
    if value is None:
        raise FunctionError("f(x) returned None; the function must return numbers (is a `return` missing?)")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise FunctionError(
            f"f(x) returned {type(value).__name__}, which is not an array of numbers: {error}"
        ) from None
    if array.dtype.kind not in "fiub":
        raise FunctionError(f"f(x) returned a value of dtype {array.dtype}, which is not real numbers")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


# ---- of several numbers, and of second order -----------------------------------------------------------------------


@dataclass(frozen=True)
class Differences:
    """Many derivatives at once: value and error in one shape; nfev and warnings as in `Estimate`."""

    value: Array
    error: Array
    nfev: int
    warnings: tuple[str, ...]

    def of_slopes(self) -> Differences:
        """Take these, which are of a gradient, as second derivatives: a gradient may well be the same everywhere."""
        return replace(self, warnings=tuple(sentence for sentence in self.warnings if sentence is not INDEPENDENT))

    def symmetric(self) -> Differences:
        return replace(self, value=(self.value + self.value.T) / 2, error=np.maximum(self.error, self.error.T))


def difference_jacobian(
    f: Callable[[Any], Any], layout: Layout, x: Array, method: str, directions: Array | None = None
) -> Differences:
    """Difference Jacobian: the derivatives of all the numbers that f returns, (outputs, elements of x).

    One direction after the other: the elements of x, or the rows of ``directions``. f takes the form of ``layout``.
    """
    _check_method(method)
    units = np.diag(_powers(x)) if directions is None else directions
    scale = np.diag(units) if directions is None else np.ones(len(units))
    with quiet():
        at_x = outputs_of(called(lambda: f(layout.copy(x))))
        shape, at_x = at_x.shape, at_x.ravel()
        if not np.isfinite(at_x).all():
            k = int(np.flatnonzero(~np.isfinite(at_x))[0])
            raise FunctionError(f"f(x) = {at_x[k]} in output {k}; f must be finite where it is differentiated")
        value, error = np.empty((2, at_x.size, len(units)))
        nfev, notes, flat = 1, dict[str, list[int]](), True
        for j, unit in enumerate(units):
            sampler = _Outputs(f, layout, x, unit, at_x.astype(np.float64))
            sampler.eps = max(sampler.eps, _rounding_of(at_x.dtype) if at_x.dtype.itemsize < 8 else EPS)
            found = _by(method, sampler, None, 1)
            value[:, j], error[:, j] = found.value / scale[j], found.error / np.abs(scale[j])
            nfev, flat = nfev + sampler.nfev, flat and sampler.flat
            for note, where in found.notes.items():
                if where.any():
                    notes.setdefault(note, []).append(j)
        flat, used = _flat(f, at_x.reshape(shape), [layout.copy(p) for p in _far(x)]) if flat else (False, 0)
    return Differences(value, error, nfev + used, _of_elements(layout, notes, flat, directions is None))


def difference_hessian(f: Callable[[Any], Any], layout: Layout, x: Array, method: str) -> Differences:
    """Difference Hessian: the second derivatives of f, (elements of x, elements of x), symmetric.

        u_i u_j H[i, j] = (D(u_i + u_j) − D(u_i) − D(u_j)) / 2,  D(u) = d²f(x + s u) / ds² at s = 0

    with u_i along element i in the scale of x, a power of two. With the complex step: adaptive differences of its
    gradient. f takes the form of ``layout`` and returns one number.
    """
    _check_method(method)
    n = x.size
    if method == "complex":
        return _of_complex_gradient(f, layout, x, None).symmetric()
    scale = _powers(x)
    i, j = np.triu_indices(n, 1)
    units = np.diag(scale)
    found = _along(f, layout, x, np.concatenate([units, units[i] + units[j]]), method)
    value, error = np.diag(found.value[:n]), np.diag(found.error[:n])
    value[i, j] = value[j, i] = (found.value[n:] - found.value[i] - found.value[j]) / 2
    error[i, j] = error[j, i] = (found.error[n:] + found.error[i] + found.error[j]) / 2
    both = np.outer(scale, scale)
    return Differences(value / both, error / both, found.nfev, found.warnings)


def difference_hvp(f: Callable[[Any], Any], layout: Layout, x: Array, v: Array, method: str) -> Differences:
    """Difference Hessian-vector product: H v, without the other elements of H, as `difference_hessian` takes them."""
    _check_method(method)
    scale = _powers(x)
    length = float(np.max(np.abs(v) / scale))
    if length == 0:
        return Differences(np.zeros(x.size), np.zeros(x.size), 0, ())
    w = v / length
    if method == "complex":
        found = _of_complex_gradient(f, layout, x, w[None])
        return replace(found, value=found.value[:, 0] * length, error=found.error[:, 0] * length)
    n, units = x.size, np.diag(scale)
    found = _along(f, layout, x, np.concatenate([units, units + w, w[None]]), method)
    value = (found.value[n : 2 * n] - found.value[:n] - found.value[-1]) / (2 * scale)
    error = (found.error[n : 2 * n] + found.error[:n] + found.error[-1]) / (2 * scale)
    return Differences(value * length, error * length, found.nfev, found.warnings)


def _along(f: Callable[[Any], Any], layout: Layout, x: Array, directions: Array, method: str) -> Differences:
    """Return the second derivatives of f along the directions."""
    with quiet():
        sampler = _Directions(f, layout, x, directions)
        found = _by(method, sampler, None, 2)
        flat, used = _flat(f, sampler.at_x()[0], [layout.copy(p) for p in _far(x)]) if sampler.flat else (False, 0)
    notes = {note: np.flatnonzero(where).tolist() for note, where in found.notes.items() if where.any()}
    return Differences(found.value, found.error, sampler.nfev + used, _of_elements(layout, notes, flat, True))


def _of_elements(layout: Layout, notes: dict[str, list[int]], flat: bool, elements: bool) -> tuple[str, ...]:
    """Return the sentences, each with the elements of x that it is true of, unless that is a mixed direction."""
    sentences = [INDEPENDENT] if flat else []
    for note, columns in notes.items():
        where = np.zeros(layout.size, dtype=bool)
        where[[c for c in columns if c < layout.size]] = elements
        sentences.append(_sentence(layout, note, where) if where.any() else note)
    return tuple(sentences)


def _powers(x: Array) -> Array:
    """Return the scale of x, element by element: powers of two, with which steps are exact."""
    return np.asarray(2.0 ** np.floor(np.log2(np.maximum(np.abs(x), 1.0))))


def _of_complex_gradient(f: Callable[[Any], Any], layout: Layout, x: Array, directions: Array | None) -> Differences:
    """Return adaptive differences of the gradient that the complex step gives, along the directions."""
    found = difference_jacobian(_complex_gradient(f, layout), layout, x, "adaptive", directions)
    nfev, sentences = x.size * found.nfev, found.of_slopes().warnings
    if sentences != found.warnings:
        with quiet():
            at_x = outputs_of(called(lambda: f(layout.copy(x))))
            flat, used = _flat(f, at_x, [layout.copy(p) for p in _far(x)])
        nfev, sentences = nfev + 1 + used, found.warnings if flat else sentences
    return replace(found, nfev=nfev, warnings=sentences)


def _complex_gradient(f: Callable[[Any], Any], layout: Layout) -> Callable[[Any], Array]:
    def gradient(x: Any) -> Array:
        flat = layout.match(x, "x").astype(np.float64)
        sampler = _Sampler(f, layout, flat, elementwise=False)
        with _complex_numbers():
            return sampler.complex_step(flat, np.full(flat.size, 1e-200))

    return gradient


# ---- one step: forward, backward, central --------------------------------------------------------------------------


@dataclass
class _Pair:
    """One difference a component: the two ends of its interval, f there, the slope and its rounding bound."""

    low: Array
    high: Array
    f_low: Array
    f_high: Array
    slope: Array
    rounding: Array


def _step(sampler: _Sampler, method: str, h: float | None, n: int = 1) -> Array:
    """Return the caller's h, or the one that balances truncation and rounding if the scale of f is max(|x|, 1)."""
    x = sampler.x
    if h is not None:
        return np.full(x.size, float(h))
    sampler.at_x()  # tells the type that f computes in
    step: Array = sampler.eps ** (1 / (n + 2) if method == "central" else 1 / (n + 1)) * sampler.size
    return (x + step) - x


def _pair(sampler: _Sampler, method: str, h: Array, n: int = 1) -> _Pair:
    x = sampler.x
    columns = np.arange(x.size)
    if n == 2:
        return _second_pair(sampler, method, h)
    low = x if method == "forward" else x - h
    high = x if method == "backward" else x + h
    if method == "central":
        f_low, f_high = sampler(np.array([low, high]), columns)
        width = 2 * h
    else:
        f_moved = sampler((high if method == "forward" else low)[None], columns)[0]
        f_low, f_high = (sampler.at_x(), f_moved) if method == "forward" else (f_moved, sampler.at_x())
        width = h
    slope = (f_high - f_low) / width
    in_f = sampler.eps * (np.abs(f_low) + np.abs(f_high)) / width
    in_x = np.abs(slope) * np.abs((high - low) - width) / width  # x±h need not be h away from x
    return _Pair(low, high, f_low, f_high, slope, in_f + in_x)


def _second_pair(sampler: _Sampler, method: str, h: Array) -> _Pair:
    x, at_x = sampler.x, sampler.at_x()
    ends = {"forward": (x, x + 2 * h), "backward": (x - 2 * h, x), "central": (x - h, x + h)}[method]
    middle = {"forward": x + h, "backward": x - h, "central": x}[method]
    low, high = ends
    points = [point for point in (low, middle, high) if point is not x]
    found = iter(sampler(np.array(points), np.arange(x.size)))
    f_low, f_middle, f_high = (at_x if point is x else next(found) for point in (low, middle, high))
    second = (f_high - 2 * f_middle + f_low) / h**2
    in_f = sampler.eps * (np.abs(f_low) + 2 * np.abs(f_middle) + np.abs(f_high)) / h**2
    # the points need not be h apart, and the slope makes of that what looks like a bend
    in_x = np.abs(f_high - f_low) / h * np.abs((high - middle) - (middle - low)) / h**2
    return _Pair(low, high, f_low, f_high, second, in_f + in_x)


def _fixed(sampler: _Sampler, method: str, h: float | None, n: int = 1) -> _Found:
    """Take one difference with the step h, and a second one with h/2 that shows the truncation."""
    at_x = sampler.at_x()
    step = _step(sampler, method, h, n)
    pair = _pair(sampler, method, step, n)
    half = _pair(sampler, method, step / 2, n)
    # D(h) − D(h/2) is 1/2 of the truncation of a first-order formula and 3/4 of that of a second-order one, as long as
    # the next term is small; and it is known only up to the rounding of D(h/2)
    share = 3 / 4 if method == "central" else 1 / 2
    error = 1.25 * (np.abs(pair.slope - half.slope) + half.rounding) / share + pair.rounding
    below_rounding = pair.low == pair.high
    finite = np.isfinite(pair.f_low) & np.isfinite(pair.f_high)
    error[below_rounding | ~np.isfinite(error)] = math.inf
    one_side = ((pair.low == sampler.x) ^ (pair.high == sampler.x)) & (method == "central")
    ends = {"forward": "x+h == x", "backward": "x−h == x", "central": "x+h == x and x−h == x"}[method]
    notes = {
        f"{ends} in float64: h is below the spacing of numbers at x, so the difference says nothing": below_rounding,
        "x+h or x−h rounds to x in float64: the step that was really made is not h": one_side,
        "f is not finite at x+h or x−h: the difference can't be trusted": ~finite,
    }
    noise = sampler.eps * np.maximum(np.abs(at_x), np.maximum(np.abs(pair.f_low), np.abs(pair.f_high)))
    return _Found(pair.slope, error, step, noise, notes)


# ---- complex step --------------------------------------------------------------------------------------------------


_NOT_ANALYTIC = (
    "the complex step disagrees with a central difference: f is not analytic here (abs, real, a comparison or a "
    "function that drops the imaginary part), so the value can't be trusted"
)


@contextmanager
def _complex_numbers() -> Iterator[None]:
    """A context in which f is given complex numbers. Raises FunctionError if it does not take them as such."""
    with warnings.catch_warnings(action="error", category=np.exceptions.ComplexWarning):
        try:
            yield
        except (TypeError, np.exceptions.ComplexWarning) as problem:
            raise FunctionError(
                f"f can't be evaluated at a complex x ({problem}); use NumPy's functions instead of math's, "
                "or method='adaptive'"
            ) from problem


def _imaginary(value: Any) -> float:
    array = np.asarray(value)
    if array.dtype.kind != "c":
        as_scalar(value)  # raises for what is not one number
        return 0.0
    if array.size != 1:
        raise FunctionError(f"f(x) returned an array of shape {array.shape}; the function must return one number")
    return float(array.imag.item())


def _complex(sampler: _Sampler, h: float | None) -> _Found:
    """Take the complex step, measure its rounding from two neighbours, and hold it against a central difference."""
    x = sampler.x
    check = _fixed(sampler, "central", None)
    # no difference is taken, so h may be as small as the product h f' can be without underflow
    step = np.full(x.size, 1e-200 if h is None else float(h))
    near = np.where(x == 0, 1e-9, 1e-9 * np.abs(x))
    with _complex_numbers():
        value, above, below = (sampler.complex_step(at, step) for at in (x, x + near, x - near))
    scatter = np.abs(above - 2 * value + below)
    error = 4 * EPS * np.abs(value) + np.where(np.isfinite(scatter), scatter, 0.0)
    apart = np.abs(value - check.value)
    differs = ~(apart <= 4 * check.error + error)
    error = np.where(differs, apart + check.error, error)
    error[~np.isfinite(error)] = math.inf
    notes = {
        _NOT_ANALYTIC: differs,
        "the central difference that checks the complex step is not finite": ~np.isfinite(check.error) & ~differs,
    }
    return _Found(value, error, step, check.noise, notes)


def _complex_second(sampler: _Sampler, h: float | None) -> _Found:
    """Take adaptive differences of the complex step, and hold them against central second differences."""
    check = _fixed(sampler, "central", None, n=2)
    step = 1e-200 if h is None else float(h)
    f = sampler.f
    slopes = _Sampler(lambda s: _imaginary(f(complex(s, step))) / step, sampler.layout, sampler.x, elementwise=True)
    slopes.takes_arrays = False
    with _complex_numbers():
        found = _adaptive(slopes)
    sampler.nfev += slopes.nfev
    apart = np.abs(found.value - check.value)
    checked = np.isfinite(check.value) & np.isfinite(check.error)
    differs = checked & ~(apart <= 4 * check.error + found.error)
    error = np.where(differs, apart + check.error, found.error)
    return _Found(found.value, error, found.h, check.noise, found.notes | {_NOT_ANALYTIC: differs})


# ---- adaptive ------------------------------------------------------------------------------------------------------


def _adaptive(sampler: _Sampler, n: int = 1) -> _Found:
    """Run the ladder for all components, as many at a time as memory likes."""
    size = sampler.x.size
    if size <= TOGETHER:
        return _ladder(sampler, np.arange(size), n)
    found = _Found(np.empty(size), np.empty(size), np.empty(size), np.empty(size), {})
    for start in range(0, size, TOGETHER):
        columns = np.arange(start, min(start + TOGETHER, size))
        _put(found, columns, _ladder(sampler, columns, n))
    return found


def _ladder(sampler: _Sampler, columns: npt.NDArray[np.intp], n: int) -> _Found:
    """Climb down a ladder of steps; if it does not reach the scale of f, lengthen it."""
    x, at_x, size = sampler.x[columns], sampler.at_x()[columns], sampler.size[columns]
    spacing = sampler.spacing(columns, np.zeros(x.size))
    h = _steps(sampler, columns, FIRST * size, LEVELS)
    f_low, f_high = _both_sides(sampler, columns, x, h)
    found = _climb(x, at_x, sampler.eps, h, f_low, f_high, spacing, n)
    error, value = found.error, found.value
    left = np.arange(x.size)  # which of the columns are still at work
    while len(h) < DEEPEST:
        bad = ~(error <= GOOD[n - 1] * np.maximum(np.abs(value), np.abs(at_x[left]) / size[left] ** n))
        if not bad.any():
            break
        finest = _finest(size[left], spacing[left], at_x[left], f_low, f_high, error, n)
        deeper = np.log(h[-1] / finest) / math.log(RATIO)
        bad &= deeper >= 1
        if not bad.any():
            break
        left, h, f_low, f_high = left[bad], h[:, bad], f_low[:, bad], f_high[:, bad]
        top, count = h[-1] / RATIO, int(min(EXTENSION, deeper[bad].min()))
        near = FIRST * sampler.near[columns[left]]
        # no step was small enough: f may end at 0. The ladder starts again, as its ratio is broken
        beyond = (np.isfinite(f_low + f_high).sum(axis=0) < ENOUGH) & (near > 0) & (near < top)
        f_low[:, beyond] = f_high[:, beyond] = np.nan
        steps = _steps(sampler, columns[left], np.where(beyond, near, top), count)
        more_low, more_high = _both_sides(sampler, columns[left], x[left], steps)
        h, f_low, f_high = (np.concatenate(pair) for pair in ((h, steps), (f_low, more_low), (f_high, more_high)))
        part = _climb(x[left], at_x[left], sampler.eps, h, f_low, f_high, spacing[left], n)
        error, value = part.error, part.value
        _put(found, left, part)
    return found


def _both_sides(sampler: _Sampler, columns: npt.NDArray[np.intp], x: Array, h: Array) -> tuple[Array, Array]:
    values = sampler(np.concatenate([x - h, x + h]), columns, forgiving=True)
    return values[: len(h)], values[len(h) :]


def _steps(sampler: _Sampler, columns: npt.NDArray[np.intp], top: Array, count: int) -> Array:
    """Return the ladder down from ``top``, each step rounded so that x + h and x − h are exact if x has the digits."""
    h = top * SHRINK[:count]
    grid = sampler.spacing(columns, h)
    return np.asarray(np.round(h / grid) * grid)


def _finest(size: Array, spacing: Array, at_x: Array, f_low: Array, f_high: Array, error: Array, n: int) -> Array:
    """Return the finest step worth trying.

    Far below the size of x, or of 1, the numbers inside f round away, and what is left of it may be smooth and wrong:
    the ladder goes there only if it has found nothing above.
    """
    apart = np.abs(np.concatenate([f_low, f_high]) - at_x)
    decent = error <= DECENT * np.where(np.isfinite(apart), apart, 0.0).max(axis=0) / size**n
    return np.where(decent, (ROUNDED * EPS) ** (1 / n) * size, FINEST * spacing)


def _put(found: _Found, columns: npt.NDArray[np.intp], part: _Found) -> None:
    """Write what was found out about some columns into what is known of all."""
    for name in ("value", "error", "h", "noise"):
        getattr(found, name)[columns] = getattr(part, name)
    for note in [*found.notes, *(new for new in part.notes if new not in found.notes)]:
        found.notes.setdefault(note, np.zeros(found.value.size, dtype=bool))[columns] = part.notes.get(note, False)


def _climb(x: Array, at_x: Array, eps: float, h: Array, f_low: Array, f_high: Array, spacing: Array, n: int) -> _Found:
    """Extrapolate each ladder (coarsest step first) to h = 0 and judge it by the agreement of its rows.

    spacing: of numbers at x; n: which derivative.
    """
    notes: dict[str, Mask] = {}

    def note(text: str, where: Mask) -> None:
        if where.any():
            notes[text] = where

    low, high = x - h, x + h
    left, right = f_low, f_high
    one_sided: Mask | None = None
    if not (np.isfinite(f_low).all() and np.isfinite(f_high).all()):
        f_low, f_high = np.where(np.isfinite(f_low), f_low, np.nan), np.where(np.isfinite(f_high), f_high, np.nan)
        above, below = _open_side(f_low, f_high)
        low, left = np.where(above, x, low), np.where(above, at_x, f_low)
        high, right = np.where(below, x, high), np.where(below, at_x, f_high)
        one_sided = above | below
        note(BELOW.format(_WORD[n]), above)
        note(ABOVE.format(_WORD[n]), below)

    width = high - low
    slope = (right - left) / width
    if one_sided is not None:
        slope = np.where(np.isfinite(slope), slope, np.nan)  # it may overflow where f does not
    sizes = np.abs(left) + np.abs(right)
    even = f_high + f_low - 2 * at_x
    scatter = _scatter(slope, even, h, one_sided)
    rough, jump = _grain(at_x, eps, f_low, f_high, scatter)
    noise = np.fmax(np.fmax.reduce(scatter[-3:], axis=0), rough)  # as it shows at the three finest steps
    rows, uncertainty = slope, np.fmax(eps * sizes / width + 2 * eps * np.abs(slope), 2 * noise / h)
    if n == 2:
        slopes, uncertain = slope, uncertainty
        side = 0.0 if one_sided is None else np.where(above, 1.0, -1.0) * one_sided
        rows, uncertainty = _second(slope, even, sizes + 2 * np.abs(at_x), noise, eps, h, np.asarray(side))
    # the steps are rounded, so their ratio, and with it what is left of the truncation, is not quite as it should be
    uneven = uncertainty[1:] + np.abs(rows[1:] - rows[:-1]) * (spacing / h[1:])
    uncertainty[1:] = np.fmax(uncertainty[1:], uneven)

    value, error, row = _agree(rows, uncertainty, one_sided)
    frozen = _frozen(slope, even, h, scatter)
    if frozen.any():
        noise = np.fmax(noise, frozen)
        uncertainty = np.fmax(uncertainty, 2 * n * frozen / h**n)
        coarse, coarse_error, coarse_row = _agree(rows, uncertainty, one_sided)
        # it looks like noise that froze; should f be only fast, and bent nearby, the error covers that slope too
        error = np.where(frozen > 0, np.fmax(coarse_error, np.abs(coarse - value)), error)
        value, row = np.where(frozen > 0, coarse, value), np.where(frozen > 0, coarse_row, row)
    kink = _kink(even / h, 2 * uncertainty * h ** (n - 1))
    if one_sided is not None:
        kink[one_sided] = 0.0
    undefined = ~np.isfinite(value) | jump
    every = np.arange(x.size)
    note("f jumps at x: it has no derivative there", jump)
    if n == 1:
        error = np.fmax(error, kink / 2)
        note("f has a kink at x: the value lies between the slopes of its two sides", (kink > 0) & ~jump)
    else:
        undefined |= kink > 0
        note("f has a kink at x: it has no second derivative there", (kink > 0) & ~jump)
        bend = _bend_of_slope(slopes, uncertain, h)
        if one_sided is not None:
            bend[one_sided] = 0.0
        bend[kink > 0] = 0.0
        error = np.fmax(error, 2 * bend)
        note("the slope of f has a kink at x: the value lies between the second derivatives of its two sides", bend > 0)
        kink = np.fmax(kink, bend)
    wide = ~(error <= 0.1 * np.abs(value))
    if wide.any():
        endless = wide & ~jump & (_least_ratio(rows, 10 * uncertainty, 3)[0] > 1.3)
        none = "no derivative at x" if n == 1 else "no second derivative at x"
        note(f"the {_WORD[n]} grows as the step shrinks: f has {none}, or bends on a finer scale", endless)
        undefined |= endless
        # what is small for an f of this size may well be 0
        small = 1e-5 * np.fmax.reduce(np.fmax(sizes, np.abs(at_x)), axis=0) / h[0] ** n
        note("no two step sizes agree: the value is a guess", wide & ~undefined & (kink == 0) & (error > small))
    error *= SAFETY
    error[undefined] = math.inf
    note("f is not finite near x on either side: nothing can be said", np.isnan(value))
    note(
        "f is noisy: its values scatter by far more than their rounding (see .noise)",
        noise > 1e4 * eps * (sizes[row, every] + np.abs(at_x)),
    )
    return _Found(value, error, h[row, every], np.maximum(noise, eps * np.abs(at_x)), notes)


_WORD = {1: "slope", 2: "second derivative"}


def _second(
    slope: Array, even: Array, sizes: Array, noise: Array, eps: float, h: Array, side: Array
) -> tuple[Array, Array]:
    """Return the second differences of a ladder and their uncertainty.

    (f(x+h) + f(x−h) − 2 f(x)) / h². If f exists above x only (side 1), or below (−1), by its slopes D over two steps:
    ± 2 (D(h) − D(k)) / (h − k), which is right to order h; the first step then has none.
    """
    rows, uncertainty = even / h**2, np.fmax(eps * sizes, 4 * noise) / h**2
    if side.any():
        steps, doubt = h[:-1] - h[1:], np.fmax(eps * sizes, 2 * noise) / h
        sided, bound = np.full((2, *rows.shape), np.nan)
        sided[1:] = side * 2 * (slope[:-1] - slope[1:]) / steps
        bound[1:] = 2 * (doubt[:-1] + doubt[1:]) / steps
        rows, uncertainty = np.where(side == 0, rows, sided), np.where(side == 0, uncertainty, bound)
    return rows, uncertainty


def _bend_of_slope(slope: Array, uncertainty: Array, h: Array) -> Array:
    """Return a quarter of the jump of f'' at x, 0 if there is none: the slopes over steps are then off by as much
    times h, while those of a smooth f are off by h².
    """
    steps = h[:-1] - h[1:]
    bend = np.abs((slope[:-1] - slope[1:]) / steps)
    return _kink(bend, 2 * (uncertainty[:-1] + uncertainty[1:]) / steps)


def _open_side(f_low: Array, f_high: Array) -> tuple[Mask, Mask]:
    """Return where f exists above x only, and where below x only: too few steps have both sides."""
    has_low, has_high = ~np.isnan(f_low), ~np.isnan(f_high)
    both = (has_low & has_high).sum(axis=0)
    above = (both < ENOUGH) & (has_high.sum(axis=0) > both)
    below = (both < ENOUGH) & (has_low.sum(axis=0) > both) & ~above
    return above, below


def _scatter(slope: Array, even: Array, h: Array, one_sided: Mask | None) -> Array:
    """Return what each step but the first two shows of f that no smooth f can have there, if the step is small."""
    # the slope is a power series in h² (one-sided: in h); two steps predict the third
    share = 1 / RATIO**2 if one_sided is None else np.where(one_sided, 1 / RATIO, 1 / RATIO**2)
    odd = slope[2:] - slope[1:-1] + share * (slope[:-2] - slope[1:-1])
    bend = even[2:] - even[1:-1] / RATIO**2
    return np.fmax(np.abs(odd) * h[2:], np.abs(bend) / math.sqrt(6))


def _grain(at_x: Array, eps: float, f_low: Array, f_high: Array, scatter: Array) -> tuple[Array, Mask]:
    """Find values that come in steps: how rough f is for it, and whether the step is a jump of f at x itself."""
    moves = np.maximum(np.abs(f_low[1:] - f_low[:-1]), np.abs(f_high[1:] - f_high[:-1]))
    gap = np.abs(f_high[-1] - f_low[-1])
    last = moves[-2:].max(axis=0)
    flat = last <= 0.1 * gap
    if not flat.any():
        return np.zeros(at_x.size), flat
    low, high = np.abs(f_low - at_x), np.abs(f_high - at_x)
    sizes = np.concatenate([low, high])
    jump = flat & (gap > 16 * eps * np.abs(at_x)) & (gap > 0.02 * np.fmax.reduce(sizes, axis=0))
    varies = (last == 0) & ((low > 0).sum(axis=0) >= 3) & ((high > 0).sum(axis=0) >= 3)
    step = np.where(sizes > 0, sizes, np.inf).min(axis=0)
    # the three finest steps at which f still changes show its noise
    shows = (moves > 0)[1:] & ((moves > 0)[1:][::-1].cumsum(axis=0)[::-1] <= 3)
    return np.where(varies, np.fmax(step / 2, np.where(shows, scatter, 0.0).max(axis=0)), 0.0), jump


def _frozen(slope: Array, even: Array, h: Array, scatter: Array) -> Array:
    """Return the noise that coarser steps show if the finer ones are smooth only because a part of f is frozen.

    In (1 − cos x)/x² near 1e-6, cos x is one and the same number for all steps below 1e-10: what is left is smooth, and
    its slope is wrong. Noise ends so in one step, or in two if it comes from stairs, while what is merely fast gets
    smooth step by step.
    """
    drops = scatter[1:] < 1e-5 * scatter[:-1]
    drops[1:] |= scatter[2:] < 1e-5 * scatter[:-2]
    drops[:8] = False  # that many steps must show whether there was noise,
    drops[-3:] = False  # and so many that it is over
    noise = np.zeros(slope.shape[1])
    if drops.any():
        moves = np.fmax(np.abs(np.diff(even, axis=0)), np.abs(np.diff(slope * h, axis=0)))[1:]
        for k in np.flatnonzero(drops.any(axis=1)):
            top = scatter[k - 8 : k].max(axis=0)
            # noise moves f at most steps, and up to the last; what has a jump or a kink nearby at one, or less and less
            moved = (moves[k - 8 : k] > 0.03 * top).sum(axis=0) >= 5
            lasts = np.isfinite(top) & (scatter[k - 1] > 0.03 * top)
            at_once = scatter[k + 1] <= 10 * scatter[k + 2 : k + 5].max(axis=0)
            at_once |= scatter[k + 1] < 1e-8 * scatter[k]
            noise = np.where(drops[k] & moved & lasts & at_once, np.fmax(noise, top), noise)
    return noise


@functools.cache
def _extrapolation(levels: int, order: int) -> tuple[Array, Array, Array, Array]:
    """Return the extrapolation to h = 0: weights of the slopes (column, row, level), their absolute values, NaN for the
    rows that have none to compare them with, and which row is finer than which (row, other, 1).

    Neville's scheme for an error that is a power series in h^order: T[i, j] = T[i, j−1] + (T[i, j−1] − T[i−1, j−1]) /
    (RATIO^(order j) − 1).
    """
    weights = np.zeros((COLUMNS + 1, levels, levels))
    weights[0] = np.eye(levels)
    compares = np.full((COLUMNS + 1, levels, 1), np.nan)
    for j in range(COLUMNS + 1):
        if j:
            last = weights[j - 1]
            weights[j, j:] = last[j:] + (last[j:] - last[j - 1 : -1]) / (RATIO ** (order * j) - 1)
        # two rows that rest on so few steps may agree by chance: the first two columns want a third one
        compares[j, (j + 2 if j < 2 else j + 1) :] = 0.0
    return weights, np.abs(weights), compares, np.tri(levels, k=-1).T[:, :, None]


def _agree(slope: Array, uncertainty: Array, one_sided: Mask | None) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """Extrapolate to h = 0, and take the entry whose rows agree best and that no finer row contradicts."""
    levels, size = slope.shape
    missing = ~np.isfinite(slope)
    gaps = bool(missing.any())
    if gaps:
        slope, uncertainty = np.where(missing, 0.0, slope), np.where(missing, 0.0, uncertainty)
    weights, absolute, compares, finer = _extrapolation(levels, 2)
    values, bounds = weights @ slope, absolute @ uncertainty
    if one_sided is not None and one_sided.any():
        weights, absolute, *_ = _extrapolation(levels, 1)
        values = np.where(one_sided, weights @ slope, values)
        bounds = np.where(one_sided, absolute @ uncertainty, bounds)
    if gaps:
        values[(weights != 0) @ missing] = np.nan
    apart = np.abs(values[:, 1:] - values[:, :-1])
    apart[:2, 1:] = np.maximum(apart[:2, 1:], apart[:2, :-1] / 8)
    errors = bounds + compares
    errors[:, 1:] += apart
    contradiction = np.abs(values[:, :, None] - values[:, None]) - errors[:, None]
    contradiction *= finer  # only finer rows may contradict
    errors = np.maximum(errors, np.fmax.reduce(contradiction, axis=2)).reshape(-1, size)
    errors[~np.isfinite(errors)] = math.inf
    best = errors.argmin(axis=0)
    every = np.arange(size)
    return values.reshape(-1, size)[best, every], errors[best, every], best % levels


def _kink(bend: Array, uncertainty: Array) -> Array:
    """Return the jump of the slope at x (0 if there is none): (f(x+h) + f(x−h) − 2 f(x)) / h stays as h shrinks."""
    ratio, last = _least_ratio(bend, 10 * uncertainty, 2)
    return np.where(ratio > 1.4, np.inf, np.where(ratio > 0.7, np.abs(last), 0.0))


def _least_ratio(rows: Array, threshold: Array, count: int) -> tuple[Array, Array]:
    """Return the least of the last ``count`` ratios row / row above, ending at the finest row that is significant.

    It is 0 if that row does not last: a finer one is smaller by more than the threshold hides.
    """
    levels, size = rows.shape
    last = levels - 1 - (np.abs(rows) > threshold)[::-1].argmax(axis=0)
    last[last < count] = count
    every = np.arange(size)
    end = rows[last - np.arange(count + 1)[:, None], every]  # finest first
    ratio = (end[:-1] / end[1:]).min(axis=0)
    size_there = np.abs(end[0])
    lasts = (last == levels - 1) | (threshold[np.minimum(last + 1, levels - 1), every] > 0.5 * size_there)
    seen = np.isfinite(ratio) & (size_there > threshold[last, every]) & lasts
    return np.where(seen, ratio, 0.0), end[0]
