"""Which kinds of things there are outside a traced function: constants, pure modules, what a library owns."""

from __future__ import annotations

import abc
import collections
import enum
import functools
import inspect
import numbers
import re
import sys
import sysconfig
import types
from typing import Any

import numpy as np

__all__ = [
    "BUILTIN",
    "CACHED",
    "CONSTANT_KINDS",
    "CONSTANT_TYPES",
    "DESCRIBED",
    "DISPATCHED",
    "FUNCTION",
    "IMPURE_BUILTINS",
    "METACLASSES",
    "SHADOWED",
    "SKIPPED",
    "SOLID",
    "TRANSPARENT",
    "TUPLE_GETTER",
    "home_of",
    "is_foreign",
    "is_library_class",
    "is_pure",
    "module_of",
    "names_of",
    "names_of_class_bodies",
    "traits_of",
    "unchanged",
]

_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})

# never changed: the same object always has the same value
CONSTANT_TYPES = frozenset(
    [
        *(int, float, complex, str, bytes, bool, type(None), type(Ellipsis), type(NotImplemented), range, slice),
        *(types.CodeType, re.Pattern, types.MethodDescriptorType, types.WrapperDescriptorType, types.GenericAlias),
        *(types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType),
        types.MethodWrapperType,
    ]
)
CONSTANT_KINDS = (np.generic, np.dtype, enum.Enum, numbers.Number)
FUNCTION = types.FunctionType
BUILTIN = types.BuiltinFunctionType
DISPATCHED = type(np.sum)  # NumPy's functions have a type of their own
CACHED = type(functools.lru_cache(lambda: None))
TUPLE_GETTER = type(vars(collections.namedtuple("_Pair", "a"))["a"])


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# modules whose functions and classes read nothing but their arguments
_PURE = _words(
    "abc array ast bisect builtins cmath collections collections.abc contextlib copy dataclasses enum fractions "
    "functools heapq itertools json json.decoder json.encoder math numbers operator re statistics string types typing "
    "__future__ _abc _ast _bisect _collections _collections_abc _functools _heapq _json _operator "
    "koubai koubai.functions.expression koubai.functions.problems koubai.derivatives.gradient "
    "koubai.derivatives.differences"
)
# Python classes of the standard library whose objects are mirrored as a user's own are
TRANSPARENT = _words("collections argparse types")
SHADOWED = frozenset((collections.UserDict, collections.UserList, collections.ChainMap, types.SimpleNamespace))
# builtins that read what no argument tells, or tell apart what has the same value
IMPURE_BUILTINS = _words("aiter anext breakpoint compile dir eval exec globals id input locals open print vars")
METACLASSES = (type, abc.ABCMeta)
# of a class, handed on as they are: code that reads them is recognised
DESCRIBED = _words("__orig_bases__ __annotations__ __annotations_cache__ __annotate__ __annotate_func__")
# of a class: made with every class, or of no use to a copy of it
SKIPPED = _words(
    "__dict__ __weakref__ __module__ __qualname__ __slots__ __abstractmethods__ _abc_impl __doc__ __annotations__ "
    "__annotate__ __annotate_func__ __annotations_cache__ __classdictcell__ __firstlineno__ __static_attributes__ "
    "__orig_bases__ __getattr__"
)
# builtin classes whose objects have a content besides their attributes
SOLID = (
    *(collections.OrderedDict, collections.defaultdict, collections.deque, types.SimpleNamespace),
    *(dict, list, set, frozenset, tuple, float, int, str, bytes),
)


def is_foreign(module: str | None) -> bool:
    """Return whether this module is part of a library, whose functions are left alone."""
    module = module or ""
    top = module.partition(".")[0]
    if top in ("koubai", "numpy", "scipy") or top in sys.stdlib_module_names:
        return top != "__main__" and module not in TRANSPARENT
    file = getattr(sys.modules.get(module), "__file__", None)
    return bool(file and file.startswith(_LIBRARIES))


def is_library_class(cls: type) -> bool:
    """Return whether a class is a library's; one that is made in a namespace without a name says "builtins" too."""
    module = module_of(cls)
    return is_foreign(module) and not (module == "builtins" and cls.__flags__ & _HEAP_TYPE)


def module_of(cls: type) -> str:
    """Return the name of the module that a class says it is from."""
    return str(getattr(cls, "__module__", "builtins"))


_HEAP_TYPE = 1 << 9


_ANNOTATED = _words("__annotations__ __annotate__ get_annotations get_type_hints")


def traits_of(code: types.CodeType) -> tuple[bool, bool]:
    """Return whether a function, or one within it, may handle exceptions, and whether it may read annotations."""
    handles, annotated = code.co_exceptiontable != b"", not _ANNOTATED.isdisjoint(code.co_names)
    for part in code.co_consts:
        if type(part) is types.CodeType:
            handling, reading = traits_of(part)
            handles, annotated = handles or (handling and part.co_name[0] != "<"), annotated or reading
    return handles, annotated


def home_of(function: types.FunctionType) -> str:
    """Return the module whose names the function sees; decorators give a function another module's name."""
    return str(function.__globals__.get("__name__") or "")


def is_pure(module: str | None) -> bool:
    """Return whether the functions of a module read nothing but their arguments."""
    return module in _PURE or ((module or "").partition(".")[0] in ("numpy", "scipy") and not _random(module))


def _random(module: str | None) -> bool:
    return (module or "").startswith(("numpy.random", "scipy.stats", "scipy.optimize", "scipy.io"))


def names_of(code: types.CodeType) -> list[str]:
    """Return the names that a code, or one within it, looks up."""
    parts = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return [*code.co_names, *(name for part in parts for name in names_of(part))]


def names_of_class_bodies(code: types.CodeType) -> list[str]:
    """Return the names that the bodies of classes within a code look up."""
    found: list[str] = []
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            if not part.co_flags & inspect.CO_OPTIMIZED:
                found += part.co_names
            found += names_of_class_bodies(part)
    return found


def unchanged(first: Any, now: Any) -> bool:
    """Return whether a mirror holds what it held at first, or an equal constant."""
    if first is now:
        return True
    kind = type(first)
    return kind is type(now) and kind in CONSTANT_TYPES and bool(first == now)
