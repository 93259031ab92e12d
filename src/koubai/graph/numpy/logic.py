"""Comparisons of whole arrays, and answers that are not numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, implements
from koubai.graph.numpy.ufuncs import imag
from koubai.graph.traced import Traced

__all__: list[str] = []


@implements(np.isreal)
def isreal(x: Any) -> Any:
    return imag(x) == 0


@implements(np.iscomplex)
def iscomplex(x: Any) -> Any:
    return imag(x) != 0


@implements(np.result_type)
def result_type(*args: Any) -> Any:
    return np.result_type(*(a.dtype if type(a) is Traced else a for a in args))


@implements(np.can_cast)
def can_cast(from_: Any, to: Any, casting: str = "safe") -> Any:
    return np.can_cast(from_.dtype if type(from_) is Traced else from_, to, casting)  # type: ignore[arg-type]


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    return bool(x.dtype.kind == "c")


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    return bool(x.dtype.kind != "c")


@implements(np.isscalar)
def isscalar(element: Any) -> bool:
    return type(element) is Traced and element.ndim == 0


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> bool:
    return bool(np.all(isclose(a, b, rtol, atol, equal_nan)))


@implements(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    return x.astype(dtype, copy=copy)


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> bool:
    return bool(np.all(array(a1) == array(a2)))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    a1, a2 = array(a1), array(a2)
    if a1.shape != a2.shape:
        return False
    return bool(np.all(_equal(a1, a2, equal_nan)))


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    a, b = array(a), array(b)
    near = np.absolute(a - b) <= atol + rtol * np.absolute(b)
    return (near & np.isfinite(b)) | _equal(a, b, equal_nan)


def _equal(a: Any, b: Any, equal_nan: bool) -> Any:
    return (a == b) | (np.isnan(a) & np.isnan(b)) if equal_nan else a == b


@implements(np.isposinf)
def isposinf(x: Any) -> Any:
    return x == math.inf


@implements(np.isneginf)
def isneginf(x: Any) -> Any:
    return x == -math.inf
