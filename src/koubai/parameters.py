"""Parameters: one number, one array or a dict of arrays outside; one flat float64 or float32 vector inside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.errors import FunctionError, InputError

__all__ = ["FloatArray", "Layout", "Parameters", "as_scalar", "flatten", "real_array"]

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Parameters: TypeAlias = Any  # a number, an array_like of any shape, or a dict of them


@dataclass(frozen=True)
class Layout:
    """The form of the caller's parameters: how one flat vector is shown as a number, an array or a dict."""

    names: tuple[str, ...] | None  # None: not a dict
    shapes: tuple[tuple[int, ...], ...]
    is_number: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    def view(self, vector: FloatArray) -> Any:
        """Show ``vector`` in the caller's form, as views of it. Leading axes of ``vector`` are kept."""
        if self.is_number:
            return vector[..., 0]
        lead = vector.shape[:-1]
        if self.names is None:
            return vector.reshape(lead + self.shapes[0])
        out, start = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            stop = start + math.prod(shape)
            out[name] = vector[..., start:stop].reshape(lead + shape)
            start = stop
        return out

    def copy(self, vector: FloatArray) -> Any:
        """Show a copy of ``vector`` in the caller's form: what the caller does with it stays with the caller."""
        return vector[0] if self.is_number else self.view(vector.copy())

    def label(self, i: int) -> str:
        """Name element ``i`` of the flat vector as the caller would: ``x``, ``x[1, 2]`` or ``W[0, 3]``."""
        if self.is_number:
            return "x"
        for name, shape in zip(self.names or ("x",), self.shapes, strict=True):
            size = math.prod(shape)
            if i < size:
                index = np.unravel_index(i, shape)
                return f"{name}[{', '.join(map(str, index))}]" if shape else name
            i -= size
        raise IndexError(i)

    def match(self, value: Parameters, argument: str) -> FloatArray:
        """Flatten ``value``, which must have this form (a gradient, say). Raises InputError where it does not.

        Values are not checked for being finite: the caller decides what NaN means there.
        """
        if self.names is None:
            parts = [real_array(value, argument)]
        else:
            if not isinstance(value, Mapping) or set(value) != set(self.names):
                got = sorted(value) if isinstance(value, Mapping) else type(value).__name__
                raise InputError(f"{argument} must be a dict with the keys {sorted(self.names)}, got {got}")
            parts = [real_array(value[name], f"{argument}[{name!r}]") for name in self.names]
        for part, shape, name in zip(parts, self.shapes, self.names or ("",), strict=True):
            fits = part.size == 1 if self.is_number else part.shape == shape
            if not fits:
                where = f"{argument}[{name!r}]" if name else argument
                raise InputError(f"{where} has shape {part.shape}, but x has shape {shape}; they must be equal")
        return np.concatenate([part.ravel() for part in parts]).astype(self.dtype, copy=False)


def real_array(value: Any, argument: str) -> FloatArray:
    """Return ``value`` as an array of real numbers; integers become float64."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{argument} is not an array of numbers: {error}") from None
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    elif array.dtype.kind != "f":
        reasons = {
            "c": "complex; koubai descends over real numbers: stack the real and imaginary parts",
            "O": f"of object dtype ({type(value).__name__}); every entry must be a number and all rows equally long",
            "b": "boolean; use float(...) if 0 and 1 are meant",
        }
        what = reasons.get(array.dtype.kind, f"of dtype {array.dtype}, which is not a real number")
        raise InputError(f"{argument} is {what}")
    if array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float64)  # float16 has too few digits to descend with; longdouble has no BLAS
    return array


def flatten(x: Parameters, argument: str = "x0") -> tuple[Layout, FloatArray]:
    """Copy ``x`` into one flat vector and tell its form. Integers become float64; the caller's arrays are not kept.

    Raises InputError if ``x`` is empty, complex, of object dtype, or not finite, naming the first bad element.
    """
    if isinstance(x, Mapping):
        if not x:
            raise InputError(f"{argument} is an empty dict; give at least one array")
        if not all(isinstance(name, str) for name in x):
            raise InputError(f"{argument} must have strings as keys, got {list(x)!r}")
        names: tuple[str, ...] | None = tuple(x)
        parts = [real_array(value, f"{argument}[{name!r}]") for name, value in x.items()]
    else:
        names = None
        parts = [real_array(x, argument)]
    dtype = np.result_type(*parts)
    is_number = names is None and parts[0].ndim == 0
    layout = Layout(names, tuple(part.shape for part in parts), is_number, dtype)
    vector = np.concatenate([part.ravel() for part in parts]).astype(dtype)
    if vector.size == 0:
        raise InputError(f"{argument} is empty (shape {parts[0].shape}); give at least one number")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        label = layout.label(int(bad[0])).replace("x", argument, 1) if names is None else layout.label(int(bad[0]))
        raise InputError(f"{argument} must be finite, but {label} = {vector[bad[0]]}")
    return layout, vector


def as_scalar(value: Any, what: str = "f(x)") -> np.floating[Any]:
    """Return what the user's function gave as one real NumPy scalar, float32 kept. It may be NaN or infinite.

    Raises FunctionError for None, text, complex numbers and arrays with more than one element.
    """
    if isinstance(value, float):  # also np.float64: by far the commonest answer
        return np.float64(value)
    if value is None:
        raise FunctionError(f"{what} returned None; the function must return a number (is a `return` missing?)")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise FunctionError(f"{what} returned {type(value).__name__}, which is not a number: {error}") from None
    if array.dtype.kind not in "fiu":
        shown = repr(value) if len(repr(value)) < 40 else type(value).__name__
        raise FunctionError(f"{what} returned {shown}, which is not a real number")
    if array.size != 1:
        raise FunctionError(
            f"{what} returned an array of shape {array.shape}; the function must return one number: "
            "sum it or take its mean"
        )
    scalar: Any = array.reshape(())[()] if array.dtype.kind == "f" else np.float64(array.item())
    return scalar  # type: ignore[no-any-return]
