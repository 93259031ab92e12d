"""The exceptions that koubai raises.

::

    Exception
    └── KoubaiError
        ├── InputError (ValueError)         an argument that can't be used; names it, its value and the fix
        │   ├── UnknownNameError            a name that is not in a registry; names the nearest known one
        │   └── ExpressionError             text outside the closed grammar of `koubai.parse`
        ├── MissingPackageError (ImportError)  a package that this alone needs is not installed; says how to
        ├── FunctionError (ValueError)      the user's function returned something that can't be used
        ├── TraceError                      a function that can't be traced; names file, line, reason and fix
        ├── GradientError                   a gradient that disagrees with a difference; names both numbers
        └── CompileError                    a graph that breaks its own rules: a fault of koubai's, please report it
    KeyboardInterrupt
    └── Interrupted                         Ctrl-C during a descent; carries the run so far
    UserWarning
    ├── FallbackWarning                     differences took the place of backpropagation, and why
    ├── GradientWarning                     a gradient that is not finite, or not sharp, and why
    ├── CheckpointWarning                   a checkpoint that could not be written, and why; the descent goes on
    └── CompileWarning                      there is no machine code, and how to repair it

An exception raised inside the user's own function passes through unchanged, with the step and x as a note.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from koubai.synonyms import suggestion

if TYPE_CHECKING:
    from koubai.descent.record import Run

__all__ = [
    "CheckpointWarning",
    "CompileError",
    "CompileWarning",
    "ExpressionError",
    "FallbackWarning",
    "FunctionError",
    "GradientError",
    "GradientWarning",
    "InputError",
    "Interrupted",
    "KoubaiError",
    "MissingPackageError",
    "TraceError",
    "UnknownNameError",
    "called",
    "is_told_to_raise",
    "quiet",
    "warn",
]

# packages that a call may pass through on its way from the user's line: their lines are not the user's code
_INSIDE = ("koubai", "numpy", "contextlib", "functools", "threading", "concurrent")


def warn(warning: Warning) -> None:
    """Show a warning at the user's line: the nearest one on the stack that is outside koubai."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame):
        frame = frame.f_back
    place = frame.f_globals
    warnings.warn_explicit(
        warning,
        type(warning),
        frame.f_code.co_filename,
        frame.f_lineno,
        place.get("__name__", "<string>"),
        place.setdefault("__warningregistry__", {}),
    )


def _is_inside(frame: Any) -> bool:
    name = frame.f_globals.get("__name__") or ""
    return name.partition(".")[0] in _INSIDE or frame.f_code.co_filename.startswith("<koubai")


# --- what NumPy does about numbers that are not finite
_T = TypeVar("_T")


class _Outside(threading.local):
    """NumPy's and Python's warning settings outside of koubai, while this thread is within `quiet`.

    state: what ends the outermost `quiet`, and restores what the caller has; None outside of it.
    filters: the list of warning filters in force where a function of the user's was called; silent: whether not even a
    filter that makes errors of warnings counts.
    """

    state: Any = None
    filters: Any = None
    silent: bool = False


_outside = _Outside()


def _silenced() -> Any:
    state = np.errstate(all="ignore")
    state.__enter__()
    return state


def _restored(state: Any) -> None:
    state.__exit__(None, None, None)


_settings: Any = getattr(sys.modules.get("numpy._core.umath"), "_extobj_contextvar", None)
_silence: tuple[Any, Any] = (None, None)  # the caller's settings, and the same with all="ignore"


def _switched() -> Any:
    global _silence
    before, silent = _silence
    if before is not (now := _settings.get()):
        with np.errstate(all="ignore"):
            silent = _settings.get()
        _silence = now, silent
    return _settings.set(silent)


# Two ways to the same: NumPy keeps its settings, which never change themselves, in a context variable. To set that to
# what np.errstate made once takes a fifth of the time of np.errstate, and each descent, each step in Python does it.
_hushed, _loud = (_silenced, _restored) if _settings is None else (_switched, _settings.reset)


class quiet:
    """A context for koubai's own arithmetic, as ``np.errstate(all="ignore")``; a user's function is `called` in it."""

    __slots__ = ("_outermost",)

    def __enter__(self) -> None:
        self._outermost = _outside.state is None
        if self._outermost:
            _outside.state = _hushed()

    def __exit__(self, *exception: object) -> None:
        if self._outermost:
            _loud(_outside.state)
            _outside.state = None


# the list of warning filters in force; from Python 3.14 on a thread or task may have its own
_filters: Callable[[], Any] = getattr(warnings, "_get_filters", lambda: warnings.filters)


class _FloatingPoint:
    """In a warning filter, the text of NumPy's warnings of floating-point arithmetic that were not asked for.

    A function that has filters of its own in force asks, and so does a caller who makes errors of these warnings: the
    function may catch them.
    """

    def match(self, text: str) -> bool:
        if " encountered in " not in text or _filters() is not _outside.filters:
            return False
        return _outside.silent or not _raises_warnings()


_SILENCE: Any = ("ignore", _FloatingPoint(), RuntimeWarning, None, 0)


def _raises_warnings() -> bool:
    """Return whether a warning of NumPy's arithmetic is an error here."""
    for action, text, category, *_ in _filters():
        if issubclass(RuntimeWarning, category) and (text is None or "encountered" in getattr(text, "pattern", "")):
            return bool(action == "error")
    return False


def is_told_to_raise() -> bool:
    """Return whether NumPy raises, outside of koubai, if a number is not finite: a function may catch it there."""
    errors = called(np.geterr).values()
    return "raise" in errors or "call" in errors or _raises_warnings()


def called(ask: Callable[[], _T]) -> _T:
    """Return what the user's function gives, called by ``ask`` as it is outside of the `quiet` context around this.

    It runs under the caller's np.errstate. Warnings of its arithmetic are not shown: koubai chose the point. If it
    raises one, as the caller wants warnings to be errors, it is called again without.
    """
    filters, state = _filters(), _outside.state
    before = _outside.filters, _outside.silent
    if state is not None:
        _loud(state)
        _outside.state = None
    _outside.filters, _outside.silent = filters, False
    filters.insert(0, _SILENCE)  # not by `warnings`, which would forget what has been shown once
    try:
        return ask()
    except RuntimeWarning:
        if not _raises_warnings():
            raise
        _outside.silent = True
        return ask()
    finally:
        if filters and filters[0] is _SILENCE:
            del filters[0]
        elif _SILENCE in filters:  # f has put in some of its own, or all are gone
            filters.remove(_SILENCE)
        _outside.filters, _outside.silent = before
        if state is not None:
            _outside.state = _hushed()


def _arrived(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return an exception as it was after its own __init__, which wants other arguments than it keeps."""
    error = kind.__new__(kind, *args)
    builtin: Any = next(cls for cls in kind.__mro__ if cls.__module__ == "builtins")
    builtin.__init__(error, *args)
    return error


class _Sent(BaseException):
    """The base of koubai's exceptions and warnings: they can be pickled, and arrive in another process as they were."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self), self.args), self.__dict__


class KoubaiError(_Sent, Exception):
    """Every error that koubai itself raises."""


class InputError(KoubaiError, ValueError):
    """An argument that can't be used. The message names the argument, the value and the fix."""


class UnknownNameError(InputError):
    """A name that is not in a registry. The message gives koubai's word for it, or the nearest known one."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        names = sorted(known)
        self.suggestion, text, is_sure = suggestion(name, names)
        rest = "" if is_sure else f"{' ' if text else ''}known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}: {text}{rest}")

    @classmethod
    def of_argument(cls, function: Callable[..., Any], unknown: Iterable[str]) -> UnknownNameError:
        """Return the error of a call of ``function`` with arguments that it does not know."""
        import inspect  # not at the top: it is slow

        known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        return cls(f"argument of {function.__name__}", next(iter(unknown)), known)


class ExpressionError(InputError):
    """Text outside the closed grammar of `koubai.parse`.

    position: where in the text the piece is that can't stand there, as its first character and the one after its last;
    None if it is the whole that is wrong.
    """

    position: tuple[int, int] | None = None


class MissingPackageError(KoubaiError, ImportError):
    """A package that is needed for this alone is not installed. The message says how to install it."""

    def __init__(self, what: str, package: str) -> None:
        super().__init__(f"{what} {package}, which is not installed: pip install {package}")


class FunctionError(KoubaiError, ValueError):
    """The user's function returned something that can't be used: not a scalar, not real, not finite at the start."""


class TraceError(KoubaiError):
    """The function can't be traced. `reason` and `fix` are sentences; `file` and `line` say where in the user's
    code; `lost` tells whether it was traced, and a derivative that it has is lost in the graph.
    """

    lost: bool = False

    def __init__(self, reason: str, fix: str, file: str | None = None, line: int | None = None) -> None:
        where = f"{file}:{line}: " if file else ""
        super().__init__(f"{where}{reason}; {fix}")
        self.reason, self.fix, self.file, self.line = reason, fix, file, line


class GradientError(KoubaiError):
    """A gradient disagrees with a difference beyond the measured noise. The message gives both numbers."""


class CompileError(KoubaiError):
    """A graph breaks its own rules. This is a fault of koubai's, never of the user's function."""


class FallbackWarning(_Sent, UserWarning):
    """The function could not be differentiated by backpropagation, so numerical differences took its place.

    evaluations: of f, that a gradient takes from now on; None if it is not known.
    """

    def __init__(self, reason: object, evaluations: int | None = None) -> None:
        cost = "" if evaluations is None else f": {evaluations} evaluations of f a gradient"
        super().__init__(f"{reason}. Adaptive differences take the place of backpropagation{cost}.")


class GradientWarning(_Sent, UserWarning):
    """A gradient that is not finite where the function is, or that differences give only roughly, and why."""


class CheckpointWarning(_Sent, UserWarning):
    """A checkpoint could not be written. The descent goes on, and the last good file stays."""


class CompileWarning(_Sent, UserWarning):
    """There is no machine code for something. Everything works without it, but slower."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"{reason}. All works without machine code, but long descents take 10 to 100 times as long.")


class Interrupted(_Sent, KeyboardInterrupt):
    """Ctrl-C during a descent. `run` is the run so far, with status ``stopped``; its best point is kept.

    If it is sent to another process and the function can't be pickled, the run arrives without it, as from a file.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run.message)
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        remake, made_of, state = super().__reduce__()
        return remake, made_of, state | {"run": self.run.picklable()}
