"""Whose code is running: the user's line that a node came from, and errors that point at the user's line."""

from __future__ import annotations

import dis
import functools
import itertools
import os
import sys
import sysconfig
import weakref
from types import CodeType, FrameType, FunctionType
from typing import Any, TypeAlias

from koubai.errors import TraceError

__all__ = [
    "Where",
    "forget_places",
    "is_library",
    "line_of",
    "named_line",
    "named_place",
    "number_taken",
    "stored_name",
    "untraceable",
    "user_frame",
]

# the code object and the offset of the instruction in it; True: the node is part of that instruction's derivative
Where: TypeAlias = tuple[CodeType, int, bool] | None


def named_place(where: tuple[CodeType, int, bool]) -> str:
    """Return the user's file and line, as a comment names them."""
    return named_line(where[0].co_filename, line_of(where))


def named_line(file: str, line: int | None) -> str:
    """Return a file and a line, as a comment names them."""
    name = file.rsplit("/", 1)[-1]
    if "ipykernel" in file or name.startswith("<"):  # a notebook's cell, or typed text: its name says nothing
        return f"line {line}"
    return f"{name}:{line}"


def line_of(where: tuple[CodeType, int, bool]) -> int | None:
    """Return the number of the user's line."""
    code, offset, _ = where
    for start, stop, line in code.co_lines():
        if start <= offset < stop:
            return line
    return None


def stored_name(where: tuple[CodeType, int, bool]) -> str | None:
    """Return the user's variable that the result of this instruction is stored in, if it is."""
    code, offset, derived = where
    if derived:
        return None
    return _stores(code).get(offset)


@functools.lru_cache(maxsize=16)
def _stores(code: CodeType) -> dict[int, str]:
    """Return the variable that the result of each instruction is stored in, by the instruction's offset."""
    instructions = [i for i in dis.get_instructions(code) if i.opname != "CACHE"]
    return {
        i.offset: str(after.argval)
        for i, after in itertools.pairwise(instructions)
        if after.opname in ("STORE_FAST", "STORE_NAME", "STORE_DEREF", "STORE_GLOBAL")
    }


# Whose code it is: by identity, since hashing a code object reads all of it, and until the code is gone
_owners: dict[int, int] = {}
_seen: dict[int, weakref.ref[CodeType]] = {}
# By the code's identity and the offset: one object for all nodes made there while something is traced
_places: dict[tuple[int, int], Where] = {}
_USER, _INSIDE, _LIBRARY, _CALLER = range(4)
_STDLIB = tuple({sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib")})


def is_library(file: str) -> bool:
    """Return whether a file of code belongs to Python itself or to an installed package."""
    return file.startswith((*_STDLIB, "<frozen")) or "site-packages" in file or "dist-packages" in file


def _owner(frame: FrameType) -> int:
    code = frame.f_code
    owner = _owners.get(id(code))
    if owner is None:
        module = frame.f_globals.get("__name__") or ""
        if module == "koubai.graph.call":
            owner = _CALLER  # whose callee is the traced function
        elif module.partition(".")[0] in ("koubai", "numpy"):
            owner = _INSIDE
        else:
            owner = _LIBRARY if is_library(code.co_filename) else _USER
        _seen[id(code)] = weakref.ref(code, functools.partial(_gone, id(code)))
        _owners[id(code)] = owner
    return owner


def _gone(identity: int, reference: Any) -> None:
    """Forget a code before another one takes its identity."""
    _owners.pop(identity, None)
    _seen.pop(identity, None)


def user_frame(depth: int = 1) -> Where:
    """Return where the nearest frame of the user's is; the first ``depth`` are known to be koubai's.

    Where the traced function itself is an installed package's, it counts as the user's.
    """
    frame: FrameType | None = sys._getframe(depth)
    outermost = None
    while frame is not None:
        owner = _owners.get(id(frame.f_code))
        if owner is None:
            owner = _owner(frame)
        if owner == _USER:
            key = id(frame.f_code), frame.f_lasti
            where = _places.get(key)
            return _place_of(frame) if where is None else where
        if owner == _LIBRARY:
            outermost = frame
        elif owner == _CALLER and (outermost is not None or not _is_traced(frame.f_back)):
            break
        frame = frame.f_back
    return None if outermost is None else _place_of(outermost)


def _is_traced(frame: FrameType | None) -> bool:
    """Return whether a frame is part of an outer traced function; else it is where the user called koubai."""
    while frame is not None:
        if _owner(frame) == _CALLER:
            return True
        frame = frame.f_back
    return False


def _place_of(frame: FrameType) -> Where:
    return _places.setdefault((id(frame.f_code), frame.f_lasti), (frame.f_code, frame.f_lasti, False))


def forget_places() -> None:
    """Forget the places that nodes were made at, which hold the user's code."""
    _places.clear()


def _library_call() -> str | None:
    """Return the public name of the library's function that the user's line calls, if one is running."""
    frame: FrameType | None = sys._getframe(1)
    names = []
    while frame is not None and (owner := _owner(frame)) not in (_USER, _CALLER):
        if owner == _LIBRARY:
            names.append(_public_name(frame.f_globals.get("__name__") or "", frame.f_code.co_qualname))
            # a decorator's wrapper holds what it wraps
            inner = [f for f in frame.f_locals.values() if type(f) is FunctionType] if not names[-1][1] else []
            names += [_public_name(f.__module__ or "", f.__qualname__) for f in inner]
        frame = frame.f_back
    known = [name for name, is_known in names if is_known]
    return known[-1] if known else names[-1][0] if names else None


def _public_name(module: str, qualname: str) -> tuple[str, bool]:
    """Return what a user would call a library's function, and whether there is such a name."""
    parts = itertools.takewhile(lambda part: not part.startswith("_"), module.split("."))
    public = ".".join(parts)
    names = [name for name in qualname.replace("<locals>.", "").split(".") if name not in ("__call__", "__init__")]
    return f"{public}.{'.'.join(names)}", hasattr(sys.modules.get(public), names[0] if names else "")


def untraceable(reason: str, fix: str) -> TraceError:
    """Return a TraceError that points at the user's line."""
    where = user_frame()
    return TraceError(reason, fix, where[0].co_filename if where else None, line_of(where) if where else None)


def number_taken(what: str, fix: str) -> TraceError:
    """Return a TraceError that says who took the number out of a traced value: ``what``, or the library in between."""
    called = _library_call()
    if called is not None:
        what = called
        fix = "koubai doesn't know it: write it with NumPy's functions, or " + _DIFFERENCES
    return untraceable(f"{what} takes the number out of the traced value, and its derivative with it", fix)


_DIFFERENCES = (
    "let differences be taken from the start: method='central' (in minimize grad='central') costs two evaluations of f "
    "an element of x"
)
