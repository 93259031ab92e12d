"""``numpy.polynomial``: series in six bases, evaluated at traced points, with traced coefficients, and fitted.

NumPy's own functions run on traced points as they are; what is here is for traced coefficients and data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array
from koubai.graph.numpy.linalg import lstsq
from koubai.graph.twins import Twins, differentiated, meets_traced, plain
from koubai.graph.user_code import untraceable

__all__ = ["standin"]

# short name -> module, class, and the step of Clenshaw's recurrence (n, c[n], c0, c1, x, the first x) -> (c0, c1)
_BASES: dict[str, tuple[str, str, Callable[..., tuple[Any, Any]]]] = {
    "poly": ("polynomial", "Polynomial", lambda n, c, c0, c1, x: (c, c0 + c1 * x)),
    "cheb": ("chebyshev", "Chebyshev", lambda n, c, c0, c1, x: (c - c1, c0 + c1 * 2.0 * x)),
    "leg": ("legendre", "Legendre", lambda n, c, c0, c1, x: (c - c1 * (n - 1) / n, c0 + c1 * x * (2 * n - 1) / n)),
    "lag": ("laguerre", "Laguerre", lambda n, c, c0, c1, x: (c - c1 * (n - 1) / n, c0 + c1 * (2 * n - 1 - x) / n)),
    "herm": ("hermite", "Hermite", lambda n, c, c0, c1, x: (c - c1 * (2 * (n - 1)), c0 + c1 * 2.0 * x)),
    "herme": ("hermite_e", "HermiteE", lambda n, c, c0, c1, x: (c - c1 * (n - 1), c0 + c1 * x)),
}
# the last sum, c0 + c1 · (first degree)
_FIRST = {"lag": lambda x: 1.0 - x, "herm": lambda x: 2.0 * x}
_twins: list[Twins] = []
_classes: dict[Any, Any] = {}


def standin(value: Any) -> Any:
    if isinstance(value, type):
        return _classes.get(value)
    for twins in _twins:
        found = twins.standin(value)
        if found is not None:
            return found
    return None


def _value(short: str, x: Any, c: Any) -> Any:
    """The sum of c[n] · P_n(x) by Clenshaw's recurrence."""
    step = _BASES[short][2]
    c, x = array(c), array(x)
    if c.ndim != 1:
        raise untraceable(
            "a series of several traced coefficients a degree has no rule here", "evaluate one after another"
        )
    c = c.astype(np.float64, copy=False) if c.dtype.kind in "biu" else c
    count = c.shape[0]
    if count == 1:
        return c[0] + 0.0 * x
    c0, c1 = c[count - 2], c[count - 1]
    for n in range(count - 1, 1, -1):
        c0, c1 = step(n, c[n - 2], c0, c1, x)
    return c0 + c1 * _FIRST.get(short, lambda x: x)(x)


def _fitted(short: str, module: Any, x: Any, y: Any, deg: Any, rcond: Any, full: bool, w: Any) -> Any:
    if differentiated(x, w, deg) or np.ndim(deg) or full:
        raise untraceable(
            f"numpy.polynomial.{_BASES[short][0]}.{short}fit is traced in y alone, and for one degree",
            "keep x, w and deg constant and leave full out",
        )
    x, y = np.asarray(plain(x)) + 0.0, array(y) + 0.0
    rows = getattr(module, f"{short}vander")(x, int(deg))
    if w is not None:
        weights = np.asarray(plain(w))
        rows, y = rows * weights[:, None], y * (weights if y.ndim == 1 else weights[:, None])
    scale = np.sqrt(np.sum(rows * rows, axis=0))
    scale[scale == 0] = 1.0
    c = lstsq(rows / scale, y, x.shape[0] * np.finfo(x.dtype).eps if rcond is None else rcond)[0]
    return c / (scale if c.ndim == 1 else scale[:, None])


class _Series:
    """``Polynomial(c)`` or its kin: to be evaluated at traced points. original: NumPy's own, of plain coefficients."""

    def __init__(self, short: str, coef: Any, domain: Any, window: Any, original: Any = None) -> None:
        self.short, self.coef, self.original = short, coef, original
        self.domain, self.window = np.asarray(domain), np.asarray(window)

    def __call__(self, x: Any) -> Any:
        if self.original is not None and not meets_traced(x):
            return self.original(x)
        (low, high), (left, right) = self.domain, self.window
        scale = (right - left) / (high - low)
        return _value(self.short, (left * high - right * low) / (high - low) + scale * array(x), self.coef)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._plain(name), name)
        return (lambda *args, **kwargs: _shown(value(*args, **kwargs))) if callable(value) else value

    def __len__(self) -> int:
        return int(array(self.coef).shape[0])

    def _plain(self, name: str) -> Any:
        if self.original is None:
            raise untraceable(
                f"{name} of a series of traced coefficients has no rule here", "evaluate the series itself"
            )
        return self.original


def _shown(result: Any) -> Any:
    """Return a series that a method answered with, to be evaluated at traced points too."""
    found = standin(result)
    return result if found is None else found


def _operator(name: str) -> Callable[..., Any]:
    def operate(self: Any, *others: Any) -> Any:
        if differentiated(others):
            self = None
        plain_ones = [other.original if isinstance(other, _Series) else plain(other) for other in others]
        if not isinstance(self, _Series) or any(other is None for other in plain_ones):
            raise untraceable("a series is combined with traced values", "evaluate the series, and combine the values")
        return _shown(getattr(self._plain(name), name)(*plain_ones))

    return operate


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "radd", "rsub", "rmul", "neg", "pos"):
    setattr(_Series, f"__{_name}__", _operator(f"__{_name}__"))


class _Kind:
    """One of the classes, as a traced function meets it."""

    def __init__(self, short: str, module: Any, original: Any) -> None:
        self.short, self.module, self.original = short, module, original

    def __call__(self, coef: Any, domain: Any = None, window: Any = None, symbol: str = "x") -> Any:
        if not differentiated(coef):
            return _shown(self.original(plain(coef), plain(domain), plain(window), symbol))
        default = self.original.domain, self.original.window
        domain, window = (
            d if given is None else plain(given) for d, given in zip(default, (domain, window), strict=True)
        )
        return _Series(self.short, array(coef), domain, window)

    def fit(
        self,
        x: Any,
        y: Any,
        deg: Any,
        domain: Any = None,
        rcond: Any = None,
        full: bool = False,
        w: Any = None,
        window: Any = None,
        symbol: str = "x",
    ) -> Any:
        if not differentiated(x, y, w):
            return _shown(self.original.fit(plain(x), plain(y), deg, domain, rcond, full, plain(w), window, symbol))
        if differentiated(x):
            _fitted(self.short, self.module, x, y, deg, rcond, full, w)  # says why not
        points = np.asarray(plain(x))
        ends = (points.min(), points.max()) if domain is None else domain
        window = self.original.window if window is None else window
        scale = (window[1] - window[0]) / (ends[1] - ends[0])
        mapped = (window[0] * ends[1] - window[1] * ends[0]) / (ends[1] - ends[0]) + scale * points
        return _Series(self.short, _fitted(self.short, self.module, mapped, y, deg, rcond, full, w), ends, window)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def _enter(short: str, module: str, name: str) -> None:
    twins = Twins(f"numpy.polynomial.{module}")
    own = getattr(twins.module, f"{short}val")

    def value(x: Any, c: Any, tensor: bool = True) -> Any:
        return _value(short, x, c) if differentiated(c) else own(x, plain(c), tensor)

    def fit(x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None) -> Any:
        return _fitted(short, twins.module, x, y, deg, rcond, full, w)

    twins.of(f"{short}val")(value)
    twins.of(f"{short}fit")(fit)
    original = getattr(twins.module, name)
    twins.kinds[original] = lambda series: _Series(short, series.coef, series.domain, series.window, series)
    _classes[original] = _Kind(short, twins.module, original)
    _twins.append(twins)


for _short, (_module, _name, _) in _BASES.items():
    _enter(_short, _module, _name)
