"""Parameters: a number, an array, or arrays in dicts, lists and tuples outside; one flat float vector inside.

A list or tuple of numbers, or of such lists, is one array. One that holds an array, a dict or another such structure is
a structure itself: ``[(W1, b1), (W2, b2)]`` has four arrays, ``[W1, W2]`` has two, even if they are equally large.
A NamedTuple is always one, and keeps its type.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.errors import FunctionError, InputError

__all__ = [
    "SHORT",
    "FloatArray",
    "Layout",
    "Parameters",
    "as_pair",
    "as_scalar",
    "check_flag",
    "check_whole",
    "flatten",
    "form_of_text",
    "form_text",
    "is_finite",
    "is_structure",
    "leaves",
    "members",
    "plain",
    "real_array",
    "rebuilt",
]

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Parameters: TypeAlias = Any  # a number, an array_like of any shape, or a dict, list or tuple of them


def is_structure(value: Any) -> bool:
    """Return whether ``value`` is a structure of arrays, and not one array."""
    if isinstance(value, list | tuple):
        if hasattr(value, "_fields"):
            return True
        return any((isinstance(part, np.ndarray) and part.ndim > 0) or is_structure(part) for part in value)
    return isinstance(value, Mapping)


def members(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a structure called ``name``, and what the caller would call them."""
    if isinstance(value, Mapping):
        yield from ((f"{name}[{key!r}]", part) for key, part in value.items())
    elif hasattr(value, "_fields"):
        yield from ((f"{name}.{field}", part) for field, part in zip(value._fields, value, strict=True))
    else:
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value))


def leaves(value: Any) -> Iterator[Any]:
    """Yield the arrays of a structure, or the one array that ``value`` is, in the order of `rebuilt`."""
    if not is_structure(value):
        yield value
    else:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(part)


def rebuilt(value: Any, parts: Iterator[Any]) -> Any:
    """Return a structure like ``value`` whose arrays are the next of ``parts``."""
    if not is_structure(value):
        return next(parts)
    if isinstance(value, Mapping):
        return {key: rebuilt(part, parts) for key, part in value.items()}
    return _listed(type(value), [rebuilt(part, parts) for part in value])


def _listed(kind: Any, parts: Sequence[Any]) -> Any:
    if kind is list or kind is tuple:
        return kind(parts)
    return kind(*parts) if hasattr(kind, "_fields") else (list if issubclass(kind, list) else tuple)(parts)


# How arrays are nested: of an array None; else dict, list, tuple or the class of a NamedTuple, and its (key, form)
Form: TypeAlias = Any


@dataclass(frozen=True)
class Layout:
    """The form of the caller's parameters: how one flat vector is shown as a number, an array or several arrays.

    names: what the caller would call each array; None: there is one. form: how they are nested, if that is more than
    one dict with the names as its keys.
    """

    names: tuple[str, ...] | None
    shapes: tuple[tuple[int, ...], ...]
    is_number: bool
    dtype: np.dtype[Any]
    form: Form = None

    @functools.cached_property
    def is_vector(self) -> bool:
        """Whether it is one array with one axis."""
        return self.names is None and len(self.shapes[0]) == 1

    @functools.cached_property
    def size(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    @functools.cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each array lies in the flat vector."""
        ends = itertools.accumulate(map(math.prod, self.shapes), initial=0)
        return tuple(slice(*pair) for pair in itertools.pairwise(ends))

    def view(self, vector: FloatArray) -> Any:
        """Show ``vector`` in the caller's form, as views of it. Leading axes of ``vector`` are kept."""
        if self.is_vector:
            return vector.view()
        if self.is_number:
            return vector[..., 0]
        lead = vector.shape[:-1]
        if self.names is None:
            return vector.reshape(lead + self.shapes[0])
        pairs = zip(self.slices, self.shapes, strict=True)
        return self.assembled([vector[..., part].reshape(lead + shape) for part, shape in pairs])

    def only(self, members: Sequence[int]) -> Layout:
        """Return the layout of a dict of some of the arrays, given by their places."""
        names = self.names or ("x",)
        return Layout(tuple(names[i] for i in members), tuple(self.shapes[i] for i in members), False, self.dtype)

    def assembled(self, parts: Sequence[Any]) -> Any:
        """Return ``parts``, one for each array, in the caller's form."""
        if self.names is None:
            return parts[0]
        return dict(zip(self.names, parts, strict=True)) if self.form is None else _assembled(self.form, iter(parts))

    def parts(self, value: Any) -> list[Any]:
        """Return the arrays of ``value``. Raises KeyError, IndexError or TypeError if it has another form."""
        if self.names is None:
            return [value]
        return [value[name] for name in self.names] if self.form is None else list(_parts(self.form, value))

    def copy(self, vector: FloatArray) -> Any:
        """Show a copy of ``vector`` in the caller's form: what the caller does with it stays with the caller."""
        if self.is_vector:
            return vector.copy()
        if self.is_number:
            return vector[0]
        if self.names is None:
            return vector.reshape(self.shapes[0]).copy()
        shown = self.view(vector)
        return self.assembled([part.copy() for part in self.parts(shown)])

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
        """Flatten ``value``, which must have this form (a gradient, say). Raises InputError if it does not.

        An Estimate is taken for its value. Values are not checked for being finite: the caller decides what NaN means
        there.
        """
        if self.names is not None and not is_structure(value):
            value = getattr(value, "value", value)
        if type(value) is np.ndarray and value.dtype == self.dtype and (value.shape,) == self.shapes and not self.names:
            return value.flatten()  # by far the commonest answer
        if self.names is None:
            labels, parts = [argument], [real_array(value, argument)]
        elif self.form is None:
            if not isinstance(value, Mapping) or set(value) != set(self.names):
                got = sorted(value) if isinstance(value, Mapping) else type(value).__name__
                raise InputError(f"{argument} must be a dict with the keys {sorted(self.names)}, got {got}")
            labels = [f"{argument}[{name!r}]" for name in self.names]
            parts = [real_array(value[name], label) for name, label in zip(self.names, labels, strict=True)]
        else:
            found = list(_matched(self.form, value, argument))
            labels = [label for label, _ in found]
            parts = [real_array(part, label) for label, part in found]
        for part, shape, label in zip(parts, self.shapes, labels, strict=True):
            fits = part.size == 1 if self.is_number else part.shape == shape
            if not fits:
                raise InputError(f"{label} has shape {part.shape}, but x has shape {shape}; they must be equal")
        return np.concatenate([part.ravel() for part in parts]).astype(self.dtype, copy=False)


def _assembled(form: Form, parts: Iterator[Any]) -> Any:
    if form is None:
        return next(parts)
    kind, entries = form
    if kind is dict:
        return {key: _assembled(inner, parts) for key, inner in entries}
    return _listed(kind, [_assembled(inner, parts) for _, inner in entries])


def _parts(form: Form, value: Any) -> Iterator[Any]:
    if form is None:
        yield value
    else:
        kind, entries = form
        if len(value) != len(entries) or isinstance(value, Mapping) is not (kind is dict):
            raise KeyError(len(value))
        for key, inner in entries:
            yield from _parts(inner, value[key])


def _matched(form: Form, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of ``value`` and what they are called. Raises InputError if it has another form."""
    if form is None:
        yield name, value
        return
    kind, entries = form
    keys = [key for key, _ in entries]
    if kind is dict:
        if not isinstance(value, Mapping) or set(value) != set(keys):
            got = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise InputError(f"{name} must be a dict with the keys {sorted(keys)}, got {got}")
    elif not isinstance(value, list | tuple) or len(value) != len(keys):
        got = f"{len(value)}" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
        raise InputError(f"{name} must be a {'list' if kind is list else 'tuple'} of {len(keys)} parts, got {got}")
    for key, inner in entries:
        yield from _matched(inner, value[key], f"{name}[{key!r}]")


def _taken_apart(value: Any, name: str) -> tuple[Form, list[tuple[str, Any]]]:
    """Return the form of ``value``, and its arrays with their names. Raises InputError if a part is empty."""
    if not is_structure(value):
        if isinstance(value, list | tuple) and not value:
            raise InputError(f"{name} is an empty {type(value).__name__}; leave it out, or give at least one array")
        return None, [(name, value)]
    if not value:
        raise InputError(f"{name} is an empty {'dict' if isinstance(value, Mapping) else type(value).__name__}")
    if isinstance(value, Mapping):
        if not all(isinstance(k, str) for k in value):
            raise InputError(f"{name} must have strings as keys, got {list(value)!r}")
        kind: Any = dict
        keys: list[Any] = list(value)
    else:
        kind = type(value) if hasattr(value, "_fields") else list if isinstance(value, list) else tuple
        keys = list(range(len(value)))
    entries, arrays = [], []
    for k, (label, part) in zip(keys, members(value, name), strict=True):
        form, found = _taken_apart(part, label)
        entries.append((k, form))
        arrays += found
    return (kind, tuple(entries)), arrays


def form_text(form: Form) -> Any:
    """Return a form in JSON's types."""
    if form is None:
        return None
    kind, entries = form
    what = [kind.__name__, *kind._fields] if hasattr(kind, "_fields") else [kind.__name__]
    return [what, [[key, form_text(inner)] for key, inner in entries]]


def form_of_text(text: Any) -> Form:
    """Return the form that `form_text` wrote. A NamedTuple comes back as one of the same name and fields.

    Raises ValueError if it isn't a form.
    """
    if text is None:
        return None
    (name, *fields), entries = text
    kinds: dict[str, Any] = {"dict": dict, "list": list, "tuple": tuple}
    kind = collections.namedtuple(str(name), [str(field) for field in fields]) if fields else kinds.get(name)
    if kind is None:
        raise ValueError(f"{name!r} is no structure of arrays")
    keys = [str(key) if kind is dict else int(key) for key, _ in entries]
    if kind is not dict and keys != list(range(len(fields) or len(keys))):
        raise ValueError("the parts of a structure are not numbered in order")
    return kind, tuple(zip(keys, [form_of_text(inner) for _, inner in entries], strict=True))


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
    if type(x) is np.ndarray and x.ndim and x.dtype == np.float64:
        vector = x.flatten()
        if vector.size and is_finite(vector):
            return _one_array(x.shape), vector
    form: Form = None
    if is_structure(x):
        form, found = _taken_apart(x, argument)
        parts = [real_array(value, label) for label, value in found]
        if form[0] is dict and all(inner is None for _, inner in form[1]):
            names, form = tuple(x), None
        else:
            names = tuple(_within(label, argument) for label, _ in found)
    else:
        names = None
        parts = [real_array(x, argument)]
    dtype = np.result_type(*parts)
    is_number = names is None and parts[0].ndim == 0
    layout = Layout(names, tuple(part.shape for part in parts), is_number, dtype, form)
    vector = np.concatenate([part.ravel() for part in parts]).astype(dtype)
    if vector.size == 0:
        raise InputError(f"{argument} is empty (shape {parts[0].shape}); give at least one number")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        label = layout.label(int(bad[0]))
        label = argument + label[1:] if names is None or label.startswith(("x[", "x.")) else label
        raise InputError(f"{argument} must be finite, but {label} = {vector[bad[0]]}")
    return layout, vector


@functools.lru_cache(256)
def _one_array(shape: tuple[int, ...]) -> Layout:
    return Layout(None, (shape,), False, np.dtype(np.float64))


_DOUBLE = np.float64
SHORT = 16  # components, up to which Python takes less time than a call of NumPy


def is_finite(vector: FloatArray) -> bool:
    """Return whether every element of a flat vector is finite."""
    if vector.size <= SHORT:
        return all(map(math.isfinite, vector.tolist()))
    return bool(np.logical_and.reduce(np.isfinite(vector)))


def _within(label: str, argument: str) -> str:
    """Return the name of an array as the function would write it: ``x[0][1]``, or ``layers[0][1]`` in a dict."""
    inner = label[len(argument) :]
    if inner.startswith("['"):
        key, _, rest = inner[2:].partition("']")
        return key + rest
    return "x" + inner


def plain(value: Any) -> Any:
    """Return Python's number for one of NumPy, anything else as it is: files and messages have Python's."""
    return value.item() if isinstance(value, np.generic) else value


def check_whole(value: Any, least: int, name: str, more: str = "") -> int:
    """Return a whole number ≥ ``least`` as Python's. Raises InputError for all else; ``more``: what else it may be."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number ≥ {least}{more}, got {value!r}")
    return int(value)


def check_flag(value: Any, name: str) -> bool:
    """Return True or False as Python's. Raises InputError for all else."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def as_scalar(value: Any, what: str = "f(x)") -> np.floating[Any]:
    """Return what the user's function gave as one real NumPy scalar, float32 kept. It may be NaN or infinite.

    Raises FunctionError for None, text, complex numbers and arrays with more than one element.
    """
    if type(value) is _DOUBLE:  # by far the commonest answer
        return value
    if isinstance(value, float):
        return np.float64(value)
    if value is None:
        raise FunctionError(f"{what} returned None; the function must return a number (is a `return` missing?)")
    if isinstance(value, tuple):
        raise FunctionError(
            f"{what} returned a tuple of {len(value)}; the function must return one number. Where it returns its value "
            "and its gradient, minimize takes grad=True"
        )
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


def as_pair(value: Any) -> tuple[Any, Any]:
    """Return what an f with its gradient returned. Raises FunctionError if it isn't such a pair."""
    if isinstance(value, tuple | list) and len(value) == 2 and value[1] is not None:
        return value[0], value[1]
    shown = repr(value) if len(repr(value)) < 40 else type(value).__name__
    raise FunctionError(
        f"grad=True wants f(x) to return (value, gradient), but it returned {shown}; "
        "leave grad out for an f that returns its value alone"
    )
