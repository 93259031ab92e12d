"""The catalogue of test functions: formula, domain, start, exact gradient, known minima.

Every function is plain NumPy over the first axis: f takes x of shape (n,) and returns a number, or x of shape (n, …)
and returns (…), so that one call evaluates a whole grid. Functions of one variable take a number, or any array
elementwise.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from koubai.errors import InputError, UnknownNameError
from koubai.parameters import FloatArray

__all__ = ["Catalogue", "Minimum", "Problem", "problems"]

Function: TypeAlias = Callable[[Any], Any]
Bounds: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Minimum:
    """A known minimum: the point, in the form of x0, the value of f there, and whether no other point is lower."""

    x: float | FloatArray
    fun: float
    is_global: bool = True


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """A test function with all that is known of it.

    Attributes
    ----------
    name : str
        Its key in `koubai.problems`.
    f, grad : callable
        f(x): x of shape (n,) gives a number, (n, …) gives (…); grad(x) has the shape of x.
    x0 : array or float
        A start, read-only; a float if the function has one plain variable.
    bounds : tuple of (low, high)
        The region to draw and to search, one pair per variable; it is the literature's unless that is too wide to see
        anything in.
    minima : tuple
        Every global minimum within bounds first; local ones follow if they are few, with ``is_global`` False. Empty if
        f has no minimum.
    formula, source : str
        One line of plain text, and where f comes from.
    minima_in, least_ndim : callable, int
        The minima in n variables, and the least number of variables, if their number is free.

    Examples
    --------
    >>> problem = kb.problems["rosenbrock"]
    >>> print(problem.f(problem.x0).round(9), problem.minima[0].x)
    24.2 [1. 1.]
    """

    name: str
    f: Function
    grad: Function
    x0: float | FloatArray
    bounds: Bounds
    minima: tuple[Minimum, ...]
    formula: str
    source: str
    minima_in: Callable[[int], tuple[Minimum, ...]] | None = None  # None: f has a fixed number of variables
    least_ndim: int = 1

    @property
    def ndim(self) -> int:
        """The number of variables."""
        return len(self.bounds)

    def in_dimension(self, n: int) -> Problem:
        """Return this problem with n variables; x is then an array of shape (n,), also for n = 1.

        Raises InputError if the function has a fixed number of variables, or needs more than n.
        """
        if self.minima_in is None:
            raise InputError(f"{self.name} has {self.ndim} variable(s) and no n-dimensional form; got n = {n!r}")
        try:
            n = operator.index(n)
        except TypeError:
            raise InputError(f"n must be a whole number, got {n!r}") from None
        if n < self.least_ndim:
            raise InputError(f"{self.name} needs at least {self.least_ndim} variable(s), got n = {n}")
        return replace(self, x0=_read_only(np.resize(self.x0, n)), bounds=self.bounds[:1] * n, minima=self.minima_in(n))

    def __repr__(self) -> str:
        return f"<Problem {self.name}, {self.ndim}-D: {self.formula}>"


class Catalogue:
    """The test functions by name: ``problems["rosenbrock"]``. Iterating gives the names, simple functions first."""

    def __init__(self, table: dict[str, Problem]) -> None:
        self._table = dict(table)

    def __getitem__(self, name: str) -> Problem:
        if name not in self:
            raise UnknownNameError("problem", name, self._table)
        return self._table[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def names(self) -> tuple[str, ...]:
        """Return every name, in the order of the catalogue."""
        return tuple(self._table)

    def __repr__(self) -> str:
        return f"<Catalogue of {len(self)} problems: {', '.join(self)}>"


def _read_only(values: Any) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _point(values: Any) -> float | FloatArray:
    return float(values) if np.ndim(values) == 0 else _read_only(values)


def _at(values: Any, fun: float, is_global: bool = True) -> Minimum:
    return Minimum(_point(values), float(fun), is_global)


def _on_diagonal(value: float, fun: float, n: int) -> tuple[Minimum, ...]:
    """Return the one global minimum of a family whose coordinates are all equal; ``fun`` is the value per variable."""
    return (_at(np.full(n, value), n * fun),)


_table: dict[str, Problem] = {}


def _problem(
    grad: Function,
    *,
    x0: Any,
    bounds: Bounds,
    formula: str,
    source: str,
    minima: tuple[Minimum, ...] = (),
    minima_in: Callable[[int], tuple[Minimum, ...]] | None = None,
    least_ndim: int = 1,
) -> Callable[[Function], Function]:
    """Enter the decorated function into the catalogue under its own name; it stays an ordinary function."""

    def enter(f: Function) -> Function:
        known = minima_in(len(bounds)) if minima_in else minima
        _table[f.__name__] = Problem(
            f.__name__, f, grad, _point(x0), bounds, known, formula, source, minima_in, least_ndim
        )
        return f

    return enter


_BOYD = 'S. Boyd and L. Vandenberghe, "Convex Optimization", Cambridge University Press 2004, section 9.3'
_SAITO = 'K. Saito (斎藤康毅), "ゼロから作る Deep Learning", O\'Reilly Japan 2016'
_DIXON_SZEGO = 'L. C. W. Dixon and G. P. Szegő, "Towards Global Optimisation 2", North-Holland 1978'
_JAMIL_YANG = (
    'M. Jamil and X.-S. Yang, "A literature survey of benchmark functions for global optimisation problems", '
    "Int. J. Mathematical Modelling and Numerical Optimisation 4, 2013"
)
_LAGUNA_MARTI = (
    'M. Laguna and R. Martí, "Experimental testing of advanced scatter search designs for global optimization of '
    'multimodal functions", Journal of Global Optimization 33, 2005'
)


# Bowls: one minimum, nothing else.


def _parabola_gradient(x: Any) -> Any:
    return 2 * (x - 1)


@_problem(
    _parabola_gradient,
    x0=-4.0,
    bounds=((-5, 7),),
    minima=(_at(1.0, 0.0),),
    formula="f(x) = (x − 1)²",
    source=f"the quadratic of every introduction; {_BOYD}",
)
def parabola(x: Any) -> Any:
    return (x - 1) ** 2


def _sphere_gradient(x: Any) -> Any:
    return 2 * x


@_problem(
    _sphere_gradient,
    x0=(-3, 4),
    bounds=((-5, 5),) * 2,
    minima_in=partial(_on_diagonal, 0.0, 0.0),
    formula="f(x) = Σ xᵢ²",
    source=f"{_SAITO}, section 4.3",
)
def sphere(x: Any) -> Any:
    return np.sum(x**2, axis=0)


def _shifted_bowl_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([2 * (x0 - 1), 2 * (x1 - 2)])


@_problem(
    _shifted_bowl_gradient,
    x0=(0, 0),
    bounds=((-2, 4), (-1, 5)),
    minima=(_at((1, 2), 0.0),),
    formula="f(x) = (x₀ − 1)² + (x₁ − 2)²",
    source=f"the quadratic of every introduction; {_BOYD}",
)
def shifted_bowl(x: Any) -> Any:
    x0, x1 = x
    return (x0 - 1) ** 2 + (x1 - 2) ** 2


def _elongated_bowl_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([x0 / 10, 2 * x1])


@_problem(
    _elongated_bowl_gradient,
    x0=(-7, 2),
    bounds=((-10, 10), (-10, 10)),
    minima=(_at((0, 0), 0.0),),
    formula="f(x) = x₀²/20 + x₁²",
    source=f"{_SAITO}, section 6.1",
)
def elongated_bowl(x: Any) -> Any:
    x0, x1 = x
    return x0**2 / 20 + x1**2


def _ill_conditioned_gradient(x: Any) -> Any:
    return (np.logspace(0, 3, len(x)) * x.T).T


@_problem(
    _ill_conditioned_gradient,
    x0=(-4, 1),
    bounds=((-5, 5),) * 2,
    minima_in=partial(_on_diagonal, 0.0, 0.0),
    formula="f(x) = ½ Σ cᵢ xᵢ², cᵢ = 1000^((i−1)/(n−1)): condition number 1000",
    source='the ellipsoid of N. Hansen and A. Ostermeier, "Completely derandomized self-adaptation in evolution '
    'strategies", Evolutionary Computation 9, 2001, there with a larger condition number',
)
def ill_conditioned(x: Any) -> Any:
    curvature = np.logspace(0, 3, len(x))
    return np.tensordot(curvature, x**2, axes=1) / 2


def _matyas_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([0.52 * x0 - 0.48 * x1, 0.52 * x1 - 0.48 * x0])


@_problem(
    _matyas_gradient,
    x0=(-8, 6),
    bounds=((-10, 10),) * 2,
    minima=(_at((0, 0), 0.0),),
    formula="f(x) = 0.26 (x₀² + x₁²) − 0.48 x₀ x₁",
    source=_JAMIL_YANG,
)
def matyas(x: Any) -> Any:
    x0, x1 = x
    return 0.26 * (x0**2 + x1**2) - 0.48 * x0 * x1


def _booth_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([10 * x0 + 8 * x1 - 34, 8 * x0 + 10 * x1 - 38])


@_problem(
    _booth_gradient,
    x0=(-6, -4),
    bounds=((-10, 10),) * 2,
    minima=(_at((1, 3), 0.0),),
    formula="f(x) = (x₀ + 2x₁ − 7)² + (2x₀ + x₁ − 5)²",
    source=_JAMIL_YANG,
)
def booth(x: Any) -> Any:
    x0, x1 = x
    return (x0 + 2 * x1 - 7) ** 2 + (2 * x0 + x1 - 5) ** 2


def _zakharov_gradient(x: Any) -> Any:
    i = np.arange(1, len(x) + 1)
    s = np.tensordot(i, x, axes=1) / 2
    return 2 * x + np.multiply.outer(i / 2, 2 * s + 4 * s**3)


@_problem(
    _zakharov_gradient,
    x0=(-4, 3),
    bounds=((-5, 10),) * 2,
    minima_in=partial(_on_diagonal, 0.0, 0.0),
    formula="f(x) = Σ xᵢ² + s² + s⁴, s = ½ Σ i xᵢ",
    source=_LAGUNA_MARTI,
)
def zakharov(x: Any) -> Any:
    i = np.arange(1, len(x) + 1)
    s = np.tensordot(i, x, axes=1) / 2
    return np.sum(x**2, axis=0) + s**2 + s**4


# Valleys: the floor bends or is nearly flat, and plain descent crawls.


def _rosenbrock_gradient(x: Any) -> Any:
    d = x[1:] - x[:-1] ** 2
    g = np.zeros(x.shape)
    g[:-1] = -400 * x[:-1] * d - 2 * (1 - x[:-1])
    g[1:] += 200 * d
    return g


@_problem(
    _rosenbrock_gradient,
    x0=(-1.2, 1),
    bounds=((-2, 2), (-1, 3)),
    minima_in=partial(_on_diagonal, 1.0, 0.0),
    least_ndim=2,
    formula="f(x) = Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)²",
    source='H. H. Rosenbrock, "An automatic method for finding the greatest or least value of a function", '
    "The Computer Journal 3, 1960",
)
def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2, axis=0)


def _dixon_price_gradient(x: Any) -> Any:
    i = np.arange(2, len(x) + 1)
    d = (i * (2 * x[1:] ** 2 - x[:-1]).T).T
    g = np.zeros(x.shape)
    g[1:] = 8 * x[1:] * d
    g[:-1] -= 2 * d
    g[0] += 2 * (x[0] - 1)
    return g


def _dixon_price_minima(n: int) -> tuple[Minimum, ...]:
    """The last variable occurs only squared: its sign is free, and the minimum is double."""
    i = np.arange(1, n + 1)
    x = 2.0 ** -(1 - 2.0 ** (1 - i))
    mirrored = np.append(x[:-1], -x[-1])
    return (_at(x, 0.0), _at(mirrored, 0.0))


@_problem(
    _dixon_price_gradient,
    x0=(-5, 6),
    bounds=((-10, 10),) * 2,
    minima_in=_dixon_price_minima,
    least_ndim=2,
    formula="f(x) = (x₁ − 1)² + Σᵢ₌₂ⁿ i (2xᵢ² − xᵢ₋₁)²",
    source=_LAGUNA_MARTI,
)
def dixon_price(x: Any) -> Any:
    i = np.arange(2, len(x) + 1)
    return (x[0] - 1) ** 2 + np.tensordot(i, (2 * x[1:] ** 2 - x[:-1]) ** 2, axes=1)


def _beale_gradient(x: Any) -> Any:
    x0, x1 = x
    a, b, c = 1.5 - x0 + x0 * x1, 2.25 - x0 + x0 * x1**2, 2.625 - x0 + x0 * x1**3
    return np.array(
        [
            2 * (a * (x1 - 1) + b * (x1**2 - 1) + c * (x1**3 - 1)),
            2 * x0 * (a + 2 * b * x1 + 3 * c * x1**2),
        ]
    )


@_problem(
    _beale_gradient,
    x0=(1, 1),
    bounds=((-4.5, 4.5),) * 2,
    minima=(_at((3, 0.5), 0.0),),
    formula="f(x) = (1.5 − x₀ + x₀x₁)² + (2.25 − x₀ + x₀x₁²)² + (2.625 − x₀ + x₀x₁³)²",
    source='E. M. L. Beale, "On an iterative method for finding a local minimum of a function of more than one '
    'variable", Princeton University, Statistical Techniques Research Group, Technical Report 25, 1958',
)
def beale(x: Any) -> Any:
    x0, x1 = x
    return (1.5 - x0 + x0 * x1) ** 2 + (2.25 - x0 + x0 * x1**2) ** 2 + (2.625 - x0 + x0 * x1**3) ** 2


def _powell_singular_gradient(x: Any) -> Any:
    x0, x1, x2, x3 = x
    a, b, c, d = x0 + 10 * x1, x2 - x3, x1 - 2 * x2, x0 - x3
    return np.array([2 * a + 40 * d**3, 20 * a + 4 * c**3, 10 * b - 8 * c**3, -10 * b - 40 * d**3])


@_problem(
    _powell_singular_gradient,
    x0=(3, -1, 0, 1),
    bounds=((-4, 5),) * 4,
    minima=(_at((0, 0, 0, 0), 0.0),),
    formula="f(x) = (x₀ + 10x₁)² + 5 (x₂ − x₃)² + (x₁ − 2x₂)⁴ + 10 (x₀ − x₃)⁴",
    source='M. J. D. Powell, "An iterative method for finding stationary values of a function of several variables", '
    "The Computer Journal 5, 1962",
)
def powell_singular(x: Any) -> Any:
    x0, x1, x2, x3 = x
    return (x0 + 10 * x1) ** 2 + 5 * (x2 - x3) ** 2 + (x1 - 2 * x2) ** 4 + 10 * (x0 - x3) ** 4


# Saddles and plateaus: the gradient is small, and there is no minimum near.


def _saddle_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([x0, x1**3 - x1])


@_problem(
    _saddle_gradient,
    x0=(1.5, 0.01),
    bounds=((-2, 2), (-2, 2)),
    minima=(_at((0, 1), -0.25), _at((0, -1), -0.25)),
    formula="f(x) = ½ x₀² + ¼ x₁⁴ − ½ x₁²: a saddle at (0, 0)",
    source='Y. Nesterov, "Introductory Lectures on Convex Optimization", Kluwer 2004, Example 1.2.2',
)
def saddle(x: Any) -> Any:
    x0, x1 = x
    return x0**2 / 2 + x1**4 / 4 - x1**2 / 2


def _monkey_saddle_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([3 * x0**2 - 3 * x1**2, -6 * x0 * x1])


@_problem(
    _monkey_saddle_gradient,
    x0=(1, 0.01),
    bounds=((-2, 2),) * 2,
    formula="f(x) = x₀³ − 3x₀x₁²: a degenerate saddle at (0, 0), unbounded below",
    source='D. Hilbert and S. Cohn-Vossen, "Anschauliche Geometrie", Springer 1932',
)
def monkey_saddle(x: Any) -> Any:
    x0, x1 = x
    return x0**3 - 3 * x0 * x1**2


def _plateau_gradient(x: Any) -> Any:
    w, b = x
    p, q = (1 + np.tanh((b + w) / 2)) / 2, (1 + np.tanh((b - w) / 2)) / 2
    dp, dq = (p - 0.8) * p * (1 - p), (q - 0.2) * q * (1 - q)
    return np.array([dp - dq, dp + dq])


@_problem(
    _plateau_gradient,
    x0=(-6, 1),
    bounds=((-10, 10),) * 2,
    minima=(_at((np.log(4), 0), 0.0),),
    formula="f(w, b) = ½ (σ(b + w) − 0.8)² + ½ (σ(b − w) − 0.2)², σ(z) = 1/(1 + e⁻ᶻ): a neuron that saturates",
    source='Y. LeCun, L. Bottou, G. B. Orr and K.-R. Müller, "Efficient BackProp", in Neural Networks: Tricks of the '
    "Trade, Springer 1998, section 1.4.4",
)
def plateau(x: Any) -> Any:
    w, b = x
    p, q = (1 + np.tanh((b + w) / 2)) / 2, (1 + np.tanh((b - w) / 2)) / 2  # σ without overflow
    return ((p - 0.8) ** 2 + (q - 0.2) ** 2) / 2


def _easom_gradient(x: Any) -> Any:
    x0, x1 = x
    bump = np.exp(-((x0 - np.pi) ** 2) - (x1 - np.pi) ** 2)
    return np.array(
        [
            bump * np.cos(x1) * (np.sin(x0) + 2 * (x0 - np.pi) * np.cos(x0)),
            bump * np.cos(x0) * (np.sin(x1) + 2 * (x1 - np.pi) * np.cos(x1)),
        ]
    )


@_problem(
    _easom_gradient,
    x0=(1.8, 2),
    bounds=((-5, 10),) * 2,  # the literature's ±100 is flat to the last digit almost everywhere
    minima=(_at((np.pi, np.pi), -1.0),),
    formula="f(x) = −cos x₀ cos x₁ exp(−(x₀ − π)² − (x₁ − π)²)",
    source='E. E. Easom, "A survey of global optimization techniques", M.Eng. thesis, University of Louisville 1990',
)
def easom(x: Any) -> Any:
    x0, x1 = x
    return -np.cos(x0) * np.cos(x1) * np.exp(-((x0 - np.pi) ** 2) - (x1 - np.pi) ** 2)


# A few minima: which start ends where.


def _double_well_gradient(x: Any) -> Any:
    return 4 * x**3 - 4 * x + 0.5


@_problem(
    _double_well_gradient,
    x0=1.8,
    bounds=((-2, 2),),
    minima=(
        _at(-1.0574537707383779, -1.5147536412757056),
        _at(0.9304029265558517, -0.5167485082852492, is_global=False),
    ),
    formula="f(x) = x⁴ − 2x² + x/2",
    source='the potential of S. H. Strogatz, "Nonlinear Dynamics and Chaos", Addison-Wesley 1994, section 3.6, scaled',
)
def double_well(x: Any) -> Any:
    return x**4 - 2 * x**2 + x / 2


def _two_sines_gradient(x: Any) -> Any:
    return np.cos(x) + 10 / 3 * np.cos(10 / 3 * x)


@_problem(
    _two_sines_gradient,
    x0=6.1,
    bounds=((2.7, 7.5),),
    minima=(
        _at(5.145735290256128, -1.8995993491521134),
        _at(3.387251718444631, -1.199920783932685, is_global=False),
        _at(7.000149116862254, -0.3169955018732478, is_global=False),
    ),
    formula="f(x) = sin x + sin(10x/3)",
    source='P. Hansen, B. Jaumard and S.-H. Lu, "Global optimization of univariate Lipschitz functions: II", '
    "Mathematical Programming 55, 1992, problem 2",
)
def two_sines(x: Any) -> Any:
    return np.sin(x) + np.sin(10 / 3 * x)


def _forrester_gradient(x: Any) -> Any:
    a, b = 6 * x - 2, 12 * x - 4
    return 12 * a * np.sin(b) + 12 * a**2 * np.cos(b)


@_problem(
    _forrester_gradient,
    x0=0.45,
    bounds=((0, 1),),
    minima=(
        _at(0.7572487578418559, -6.020740055767083),
        _at(0.1425891893247163, -0.9863254063210814, is_global=False),
    ),
    formula="f(x) = (6x − 2)² sin(12x − 4)",
    source='A. Forrester, A. Sóbester and A. Keane, "Engineering Design via Surrogate Modelling", Wiley 2008',
)
def forrester(x: Any) -> Any:
    return (6 * x - 2) ** 2 * np.sin(12 * x - 4)


def _himmelblau_gradient(x: Any) -> Any:
    x0, x1 = x
    a, b = x0**2 + x1 - 11, x0 + x1**2 - 7
    return np.array([4 * x0 * a + 2 * b, 2 * a + 4 * x1 * b])


@_problem(
    _himmelblau_gradient,
    x0=(-0.5, -0.5),
    bounds=((-5, 5),) * 2,
    minima=(
        _at((3, 2), 0.0),
        _at((-2.8051180869527449, 3.1313125182505730), 0.0),
        _at((-3.7793102533777469, -3.2831859912861694), 0.0),
        _at((3.5844283403304917, -1.8481265269644036), 0.0),
    ),
    formula="f(x) = (x₀² + x₁ − 11)² + (x₀ + x₁² − 7)²",
    source='D. M. Himmelblau, "Applied Nonlinear Programming", McGraw-Hill 1972',
)
def himmelblau(x: Any) -> Any:
    x0, x1 = x
    return (x0**2 + x1 - 11) ** 2 + (x0 + x1**2 - 7) ** 2


def _three_hump_camel_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([4 * x0 - 4.2 * x0**3 + x0**5 + x1, x0 + 2 * x1])


@_problem(
    _three_hump_camel_gradient,
    x0=(-1.2, 1.8),
    bounds=((-2.5, 2.5),) * 2,  # the literature's ±5 hides the humps under x⁶
    minima=(
        _at((0, 0), 0.0),
        _at((1.7475523458302890, -0.8737761729151445), 0.29863844223685982, is_global=False),
        _at((-1.7475523458302890, 0.8737761729151445), 0.29863844223685982, is_global=False),
    ),
    formula="f(x) = 2x₀² − 1.05x₀⁴ + x₀⁶/6 + x₀x₁ + x₁²",
    source=_DIXON_SZEGO,
)
def three_hump_camel(x: Any) -> Any:
    x0, x1 = x
    return 2 * x0**2 - 1.05 * x0**4 + x0**6 / 6 + x0 * x1 + x1**2


def _six_hump_camel_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([8 * x0 - 8.4 * x0**3 + 2 * x0**5 + x1, x0 - 8 * x1 + 16 * x1**3])


@_problem(
    _six_hump_camel_gradient,
    x0=(-1.1, 0.1),
    bounds=((-2, 2), (-1.1, 1.1)),
    minima=(
        _at((0.08984201310031806, -0.7126564030207396), -1.0316284534898774),
        _at((-0.08984201310031806, 0.7126564030207396), -1.0316284534898774),
        _at((1.703606714969981, -0.7960835686726251), -0.21546382438371764, is_global=False),
        _at((-1.703606714969981, 0.7960835686726251), -0.21546382438371764, is_global=False),
        _at((1.6071047529201972, 0.5686514548841314), 2.1042503103112583, is_global=False),
        _at((-1.6071047529201972, -0.5686514548841314), 2.1042503103112583, is_global=False),
    ),
    formula="f(x) = (4 − 2.1x₀² + x₀⁴/3) x₀² + x₀x₁ + (4x₁² − 4) x₁²",
    source=_DIXON_SZEGO,
)
def six_hump_camel(x: Any) -> Any:
    x0, x1 = x
    return (4 - 2.1 * x0**2 + x0**4 / 3) * x0**2 + x0 * x1 + (4 * x1**2 - 4) * x1**2


def _branin_gradient(x: Any) -> Any:
    x0, x1 = x
    a = x1 - 5.1 / (4 * np.pi**2) * x0**2 + 5 / np.pi * x0 - 6
    return np.array([2 * a * (5 / np.pi - 5.1 / (2 * np.pi**2) * x0) - 10 * (1 - 1 / (8 * np.pi)) * np.sin(x0), 2 * a])


@_problem(
    _branin_gradient,
    x0=(0, 12),
    bounds=((-5, 10), (0, 15)),
    minima=tuple(_at((k * np.pi, x1), 5 / (4 * np.pi)) for k, x1 in ((-1, 12.275), (1, 2.275), (3, 2.475))),
    formula="f(x) = (x₁ − 5.1/(4π²) x₀² + 5/π x₀ − 6)² + 10 (1 − 1/(8π)) cos x₀ + 10",
    source='F. H. Branin, "Widely convergent method for finding multiple solutions of simultaneous nonlinear '
    'equations", IBM Journal of Research and Development 16, 1972',
)
def branin(x: Any) -> Any:
    x0, x1 = x
    a = x1 - 5.1 / (4 * np.pi**2) * x0**2 + 5 / np.pi * x0 - 6
    return a**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x0) + 10


def _goldstein_price_gradient(x: Any) -> Any:
    x0, x1 = x
    a, b = x0 + x1 + 1, 2 * x0 - 3 * x1
    p = 19 - 14 * x0 + 3 * x0**2 - 14 * x1 + 6 * x0 * x1 + 3 * x1**2
    q = 18 - 32 * x0 + 12 * x0**2 + 48 * x1 - 36 * x0 * x1 + 27 * x1**2
    u, v = 1 + a**2 * p, 30 + b**2 * q
    du = 2 * a * p + a**2 * (-14 + 6 * x0 + 6 * x1)  # ∂u/∂x₀ and ∂u/∂x₁ are equal
    dv0 = 4 * b * q + b**2 * (-32 + 24 * x0 - 36 * x1)
    dv1 = -6 * b * q + b**2 * (48 - 36 * x0 + 54 * x1)
    return np.array([du * v + u * dv0, du * v + u * dv1])


@_problem(
    _goldstein_price_gradient,
    x0=(-1.5, 1),
    bounds=((-2, 2),) * 2,
    minima=(
        _at((0, -1), 3.0),
        _at((-0.6, -0.4), 30.0, is_global=False),
        _at((1.8, 0.2), 84.0, is_global=False),
        _at((1.2, 0.8), 840.0, is_global=False),
    ),
    formula="f(x) = (1 + (x₀ + x₁ + 1)² (19 − 14x₀ + 3x₀² − 14x₁ + 6x₀x₁ + 3x₁²)) · "
    "(30 + (2x₀ − 3x₁)² (18 − 32x₀ + 12x₀² + 48x₁ − 36x₀x₁ + 27x₁²))",
    source='A. A. Goldstein and J. F. Price, "On descent from local minima", Mathematics of Computation 25, 1971',
)
def goldstein_price(x: Any) -> Any:
    x0, x1 = x
    p = 19 - 14 * x0 + 3 * x0**2 - 14 * x1 + 6 * x0 * x1 + 3 * x1**2
    q = 18 - 32 * x0 + 12 * x0**2 + 48 * x1 - 36 * x0 * x1 + 27 * x1**2
    return (1 + (x0 + x1 + 1) ** 2 * p) * (30 + (2 * x0 - 3 * x1) ** 2 * q)


def _mccormick_gradient(x: Any) -> Any:
    x0, x1 = x
    c, d = np.cos(x0 + x1), 2 * (x0 - x1)
    return np.array([c + d - 1.5, c - d + 2.5])


@_problem(
    _mccormick_gradient,
    x0=(3, 3.5),
    bounds=((-1.5, 4), (-3, 4)),
    minima=(
        _at((0.5 - np.pi / 3, -0.5 - np.pi / 3), -np.sqrt(3) / 2 - np.pi / 3),
        _at((0.5 + 2 * np.pi / 3, -0.5 + 2 * np.pi / 3), -np.sqrt(3) / 2 + 2 * np.pi / 3, is_global=False),
    ),
    formula="f(x) = sin(x₀ + x₁) + (x₀ − x₁)² − 1.5x₀ + 2.5x₁ + 1",
    source=f"after G. P. McCormick; {_JAMIL_YANG}",
)
def mccormick(x: Any) -> Any:
    x0, x1 = x
    return np.sin(x0 + x1) + (x0 - x1) ** 2 - 1.5 * x0 + 2.5 * x1 + 1


def _freudenstein_roth_gradient(x: Any) -> Any:
    x0, x1 = x
    a = x0 - 13 + ((5 - x1) * x1 - 2) * x1
    b = x0 - 29 + ((x1 + 1) * x1 - 14) * x1
    return np.array([2 * (a + b), 2 * (a * (10 * x1 - 3 * x1**2 - 2) + b * (3 * x1**2 + 2 * x1 - 14))])


@_problem(
    _freudenstein_roth_gradient,
    x0=(0.5, -2),
    bounds=((-5, 20), (-5, 6)),
    minima=(
        _at((5, 4), 0.0),
        _at((11.412778986902094, -0.8968052532744765), 48.98425367924002, is_global=False),
    ),
    formula="f(x) = (x₀ − 13 + ((5 − x₁)x₁ − 2)x₁)² + (x₀ − 29 + ((x₁ + 1)x₁ − 14)x₁)²",
    source='F. Freudenstein and B. Roth, "Numerical solution of systems of nonlinear equations", '
    "Journal of the ACM 10, 1963",
)
def freudenstein_roth(x: Any) -> Any:
    x0, x1 = x
    return (x0 - 13 + ((5 - x1) * x1 - 2) * x1) ** 2 + (x0 - 29 + ((x1 + 1) * x1 - 14) * x1) ** 2


def _peaks_gradient(x: Any) -> Any:
    x0, x1 = x
    e0, e1, e2 = np.exp(-(x0**2) - (x1 + 1) ** 2), np.exp(-(x0**2) - x1**2), np.exp(-((x0 + 1) ** 2) - x1**2)
    poly = x0 / 5 - x0**3 - x1**5
    return np.array(
        [
            -6 * (1 - x0) * (1 + x0 * (1 - x0)) * e0
            - 10 * (0.2 - 3 * x0**2 - 2 * x0 * poly) * e1
            + 2 / 3 * (x0 + 1) * e2,
            -6 * (1 - x0) ** 2 * (x1 + 1) * e0 + 10 * (5 * x1**4 + 2 * x1 * poly) * e1 + 2 / 3 * x1 * e2,
        ]
    )


@_problem(
    _peaks_gradient,
    x0=(-0.2, 1.3),
    bounds=((-3, 3),) * 2,
    minima=(
        _at((0.22827892055636910, -1.6255349574999965), -6.551133332835837),
        _at((-1.3473962443682108, 0.20451886609700518), -3.0498494028002598, is_global=False),
        _at((0.29644555384683207, 0.32019624766683434), -0.06493586825552689, is_global=False),
    ),
    formula="f(x) = 3 (1 − x₀)² exp(−x₀² − (x₁ + 1)²) − 10 (x₀/5 − x₀³ − x₁⁵) exp(−x₀² − x₁²) "
    "− ⅓ exp(−(x₀ + 1)² − x₁²)",
    source='The MathWorks, "peaks", MATLAB reference, since before R2006a',
)
def peaks(x: Any) -> Any:
    x0, x1 = x
    return (
        3 * (1 - x0) ** 2 * np.exp(-(x0**2) - (x1 + 1) ** 2)
        - 10 * (x0 / 5 - x0**3 - x1**5) * np.exp(-(x0**2) - x1**2)
        - np.exp(-((x0 + 1) ** 2) - x1**2) / 3
    )


def _egg_crate_gradient(x: Any) -> Any:
    x0, x1 = x
    return np.array([2 * x0 + 25 * np.sin(2 * x0), 2 * x1 + 25 * np.sin(2 * x1)])


@_problem(
    _egg_crate_gradient,
    x0=(-4, 2.5),
    bounds=((-5, 5),) * 2,
    minima=(
        _at((0, 0), 0.0),
        *(
            _at((3.019601884784952 * i, 3.019601884784952 * j), 9.488197339106259 * (i * i + j * j), is_global=False)
            for i, j in itertools.product((-1, 0, 1), repeat=2)
            if i or j
        ),
    ),
    formula="f(x) = x₀² + x₁² + 25 (sin² x₀ + sin² x₁)",
    source=_JAMIL_YANG,
)
def egg_crate(x: Any) -> Any:
    x0, x1 = x
    return x0**2 + x1**2 + 25 * (np.sin(x0) ** 2 + np.sin(x1) ** 2)


# Many minima: the number grows exponentially with n, and only the global ones are listed.


def _styblinski_tang_gradient(x: Any) -> Any:
    return 2 * x**3 - 16 * x + 2.5


@_problem(
    _styblinski_tang_gradient,
    x0=(1, 4),
    bounds=((-5, 5),) * 2,
    minima_in=partial(_on_diagonal, -2.903534027771177, -39.166165703771415),
    formula="f(x) = ½ Σ xᵢ⁴ − 16xᵢ² + 5xᵢ",
    source='M. A. Styblinski and T.-S. Tang, "Experiments in nonconvex optimization: stochastic approximation with '
    'function smoothing and simulated annealing", Neural Networks 3, 1990',
)
def styblinski_tang(x: Any) -> Any:
    return np.sum(x**4 - 16 * x**2 + 5 * x, axis=0) / 2


def _rastrigin_gradient(x: Any) -> Any:
    return 2 * x + 20 * np.pi * np.sin(2 * np.pi * x)


@_problem(
    _rastrigin_gradient,
    x0=(-3.2, 2.3),
    bounds=((-5.12, 5.12),) * 2,
    minima_in=partial(_on_diagonal, 0.0, 0.0),
    formula="f(x) = Σ xᵢ² + 10 − 10 cos 2πxᵢ",
    source='L. A. Rastrigin, "Systems of Extremal Control", Nauka 1974; n-D form: H. Mühlenbein, M. Schomisch and '
    'J. Born, "The parallel genetic algorithm as function optimizer", Parallel Computing 17, 1991',
)
def rastrigin(x: Any) -> Any:
    return np.sum(x**2 + 10 - 10 * np.cos(2 * np.pi * x), axis=0)


def _ackley_gradient(x: Any) -> Any:
    n = len(x)
    r = np.sqrt(np.sum(x**2, axis=0) / n)
    waves = np.exp(np.sum(np.cos(2 * np.pi * x), axis=0) / n)
    slope = 4 * np.exp(-0.2 * r) / np.where(r > 0, r, 1)  # at the kink, x = 0, the subgradient 0
    return (slope * x + 2 * np.pi * np.sin(2 * np.pi * x) * waves) / n


@_problem(
    _ackley_gradient,
    x0=(-3.3, 2.6),
    bounds=((-5, 5),) * 2,  # the literature's ±32.768 shows only the funnel
    minima_in=partial(_on_diagonal, 0.0, 0.0),
    formula="f(x) = 20 − 20 exp(−0.2 √(Σxᵢ²/n)) + e − exp(Σ cos(2πxᵢ)/n): a kink at its minimum",
    source='D. H. Ackley, "A Connectionist Machine for Genetic Hillclimbing", Kluwer 1987',
)
def ackley(x: Any) -> Any:
    n = len(x)
    funnel = 20 - 20 * np.exp(-0.2 * np.sqrt(np.sum(x**2, axis=0) / n))
    return funnel + (np.e - np.exp(np.sum(np.cos(2 * np.pi * x), axis=0) / n))


def _levy_gradient(x: Any) -> Any:
    w = 1 + (x - 1) / 4
    a, b = w[:-1], w[-1]
    g = np.zeros(x.shape)
    g[:-1] = 2 * (a - 1) * (1 + 10 * np.sin(np.pi * a + 1) ** 2)
    g[:-1] += 10 * np.pi * (a - 1) ** 2 * np.sin(2 * np.pi * a + 2)
    g[-1] = 2 * (b - 1) * (1 + np.sin(2 * np.pi * b) ** 2) + 2 * np.pi * (b - 1) ** 2 * np.sin(4 * np.pi * b)
    g[0] += np.pi * np.sin(2 * np.pi * w[0])
    return g / 4


@_problem(
    _levy_gradient,
    x0=(-7, 6),
    bounds=((-10, 10),) * 2,
    minima_in=partial(_on_diagonal, 1.0, 0.0),
    formula="f(x) = sin² πw₁ + Σᵢ₌₁ⁿ⁻¹ (wᵢ − 1)² (1 + 10 sin²(πwᵢ + 1)) + (wₙ − 1)² (1 + sin² 2πwₙ), w = 1 + (x − 1)/4",
    source='A. V. Levy and A. Montalvo, "The tunneling algorithm for the global minimization of functions", '
    f"SIAM Journal on Scientific and Statistical Computing 6, 1985; n-D form: {_LAGUNA_MARTI}",
)
def levy(x: Any) -> Any:
    w = 1 + (x - 1) / 4
    a, b = w[:-1], w[-1]
    inner = np.sum((a - 1) ** 2 * (1 + 10 * np.sin(np.pi * a + 1) ** 2), axis=0)
    return np.sin(np.pi * w[0]) ** 2 + inner + (b - 1) ** 2 * (1 + np.sin(2 * np.pi * b) ** 2)


def _griewank_gradient(x: Any) -> Any:
    root = np.sqrt(np.arange(1, len(x) + 1))
    angle = (x.T / root).T
    cos = np.cos(angle)
    # The product of the other cosines, from both ends: dividing by one's own would fail where it is zero.
    before = np.cumprod(np.concatenate([np.ones_like(cos[:1]), cos[:-1]]), axis=0)
    after = np.cumprod(np.concatenate([np.ones_like(cos[:1]), cos[:0:-1]]), axis=0)[::-1]
    return x / 2000 + (np.sin(angle).T / root).T * before * after


@_problem(
    _griewank_gradient,
    x0=(-8, 10),
    bounds=((-15, 15),) * 2,  # the literature's ±600 shows only the bowl
    minima_in=partial(_on_diagonal, 0.0, 0.0),
    formula="f(x) = 1 + Σ xᵢ²/4000 − Π cos(xᵢ/√i)",
    source='A. O. Griewank, "Generalized descent for global optimization", '
    "Journal of Optimization Theory and Applications 34, 1981",
)
def griewank(x: Any) -> Any:
    root = np.sqrt(np.arange(1, len(x) + 1))
    return 1 + np.sum(x**2, axis=0) / 4000 - np.prod(np.cos((x.T / root).T), axis=0)


problems = Catalogue(_table)
