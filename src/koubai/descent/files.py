"""Files: archives of arrays with a JSON header, written whole or not at all, and read with nothing taken on trust.

An archive is an .npz file, which NumPy reads too. `read_archive` checks every byte count before it takes memory, and
checks the header by a description of its fields; `Archive.expect` checks the arrays by theirs. Only what passed both is
built into a run, a descent or a network, within `Archive.building`. Whatever a file holds, the answer is the object
that was saved or an InputError.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Never, TypeAlias, TypeVar

import numpy as np

from koubai.descent import schedules
from koubai.descent.optimizers import Optimizer, resolve
from koubai.errors import FunctionError, InputError
from koubai.functions.expression import Expression, parse
from koubai.functions.problems import problems
from koubai.parameters import Layout, Parameters, form_of_text, form_text

try:
    import fcntl
except ImportError:  # Windows, which refuses to remove a file that is open
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Applied",
    "Archive",
    "ArraySpec",
    "Missing",
    "a_flag",
    "a_function",
    "a_layout",
    "a_list",
    "a_mapping",
    "a_number",
    "a_rate",
    "a_record",
    "a_row",
    "a_setting",
    "a_text",
    "a_whole",
    "an_optimizer",
    "check_target",
    "describe_function",
    "describe_layout",
    "describe_optimizer",
    "one_of",
    "open_regular",
    "optional",
    "read_archive",
    "replacing",
    "restore_function",
    "restore_optimizer",
    "schedule_schema",
    "schema_of",
    "shown",
    "stated",
    "version",
    "write_archive",
]

Path: TypeAlias = str | os.PathLike[str]

FORMAT = 1
_DTYPES = {name: np.dtype(name) for name in ("float32", "float64", "int64", "bool")}


def version() -> str:
    """Return the version of koubai that is installed."""
    import importlib.metadata  # not at the top: it brings in half of the standard library

    return importlib.metadata.version("koubai")


# -- writing ----------------------------------------------------------------------------------------------------------

_TEMPORARY = re.compile(r"\.koubai-[0-9a-f]{16}\.part")
_BINARY = getattr(os, "O_BINARY", 0)
_cleared: set[str] = set()  # the folders that this process has looked through


def check_target(path: Path, argument: str = "path") -> str:
    """Return where a file at ``path`` would be written. Raises InputError if there is no folder for it, or another
    thing than a file in its place.
    """
    try:
        target = os.path.realpath(os.fspath(path))  # a link stays one
        folder = os.path.dirname(target)
        if not os.path.isdir(folder):
            raise InputError(f"{argument}: the folder {folder!r} does not exist; make it first")
        kind = os.stat(target).st_mode
    except FileNotFoundError:
        return target
    except (TypeError, ValueError, NotADirectoryError) as error:
        raise InputError(f"{argument} must be the path of a file, got {path!r}: {error}") from None
    if not stat.S_ISREG(kind):
        raise InputError(f"{argument}: {target!r} is {_kind(kind)}, and no file that could be replaced")
    return target


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a new file beside ``path``, open for writing; afterwards it takes the place of ``path``, with the rights
    that the old one had, unless something was raised.

    Its name can't be guessed, and no other file is opened. It is locked while this process lives: what a process
    leaves behind that was killed is removed by the next one that writes into the folder.
    """
    target = check_target(path)
    folder = os.path.dirname(target)
    if folder not in _cleared:
        _cleared.add(folder)
        _clear(folder)
    temporary = ""
    try:
        with contextlib.ExitStack() as stack:
            file: Any = None
            while file is None or (fcntl is not None and not os.fstat(file.fileno()).st_nlink):
                # a second time if another process took it for a dead one's, before it was locked
                temporary = os.path.join(folder, f".koubai-{os.urandom(8).hex()}.part")
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _BINARY
                file = stack.enter_context(open(os.open(temporary, flags, 0o666), "w+b"))
                _lock(file)
            if fcntl is not None and os.path.exists(target):
                os.fchmod(file.fileno(), stat.S_IMODE(os.stat(target).st_mode))
            yield file
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (temporary, None):
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def _lock(file: Any, *, wait: bool = True) -> bool:
    """Lock a file until it is closed or the process is gone; return whether it could be done."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # another process has it, or there are no locks on this disk
        return False
    return True


def _clear(folder: str) -> None:
    """Remove the files of a folder that dead processes of koubai's were about to write."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError, InputError), open_regular(entry.path) as file:
                    if fcntl is None:
                        file.close()  # else not even this process could remove it
                    if _lock(file, wait=False):
                        os.unlink(entry.path)


def write_archive(path: Path, kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays with a JSON header into one .npz file: whole or not at all, and never a pickle."""
    import zipfile  # only now: with what it loads it would slow down the import of koubai

    text = json.dumps({"format": FORMAT, "kind": kind, "koubai": version(), **header}, ensure_ascii=False)
    parts = {name: np.asarray(array) for name, array in arrays.items()}
    if wrong := [f"{name!r} is of {part.dtype}" for name, part in parts.items() if part.dtype.name not in _DTYPES]:
        raise InputError(f"only arrays of {', '.join(_DTYPES)} can be saved, but {wrong[0]}")
    # not np.savez, which before NumPy 2.1 takes allow_pickle for an array, and leaves the archive open if it fails
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, part in {"header": np.array(text), **parts}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, part, allow_pickle=False)


# -- reading ----------------------------------------------------------------------------------------------------------

Check: TypeAlias = Callable[[Any, str], Any]  # (a value of JSON's, what it is called) -> the value as it is used

_HEADING = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-Z][0-9]{1,18})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,18}, )*(?:[0-9]{1,18},?)?)\), \} *\n"
)
_CHUNK = 2**20


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def open_regular(path: Path) -> BinaryIO:
    """Open a file to be read, and nothing but a file: a pipe would be waited for, a device may have no end.

    Raises InputError if there is none, or it can't be read.
    """
    try:
        shown, name = repr(os.fspath(path)), os.fspath(path)
    except TypeError:
        raise InputError(f"path must be the path of a file, got {path!r}") from None
    try:
        mode = os.stat(name).st_mode  # before it is opened, which a device may take for a command
        if stat.S_ISREG(mode):
            descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode):  # still
                return open(descriptor, "rb")
            os.close(descriptor)
    except FileNotFoundError:
        raise InputError(f"there is no file {shown}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown} can't be read: {error}") from None
    raise InputError(f"{shown} is {_kind(mode)}, and no file that could be read")


@dataclass(frozen=True)
class ArraySpec:
    """The requirements of an array in a file.

    dtype: the names that are allowed. shape: sizes, or names of sizes that are the same wherever they occur.
    """

    dtype: str | tuple[str, ...]
    shape: tuple[int | str, ...]
    finite: bool = False
    least: float = -math.inf
    optional: bool = False


@dataclass(frozen=True)
class Archive:
    """The contents of a file. header: checked, without format and kind; koubai: the version that wrote it.

    arrays: as they are in the file, until `expect` has checked them.
    """

    path: str
    kind: str
    koubai: str
    header: dict[str, Any]
    arrays: dict[str, Any]

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """A context for building something from the file: an error in it is reported as a fault of the file."""
        with _blaming(self.path, self.kind):
            yield

    def expect(self, arrays: Mapping[str, ArraySpec], sizes: Mapping[str, int] | None = None) -> dict[str, int]:
        """Raise InputError unless these are the arrays of the file; return the named sizes. sizes: those known."""
        known = dict(sizes or {})
        for name in self.arrays.keys() - arrays.keys():
            raise InputError(f"there should be no array {name!r} in it")
        for name, wanted in arrays.items():
            if name not in self.arrays:
                if wanted.optional:
                    continue
                raise InputError(f"there is no array {name!r} in it")
            array = self.arrays[name]
            names = (wanted.dtype,) if isinstance(wanted.dtype, str) else wanted.dtype
            if array.dtype.name not in names:
                raise InputError(f"the array {name!r} must be of {' or '.join(names)}, not of {array.dtype}")
            shape = tuple(known.get(n, n) if isinstance(n, str) else n for n in wanted.shape)
            pairs = [*zip(shape, array.shape, strict=False)]
            if len(shape) != array.ndim or any(n != m for n, m in pairs if not isinstance(n, str)):
                raise InputError(f"the array {name!r} must have the shape {shape}, not {array.shape}")
            known |= {n: m for n, m in pairs if isinstance(n, str)}
            if wanted.finite and not np.isfinite(array).all():
                raise InputError(f"the array {name!r} must be finite")
            if wanted.least > -math.inf and not (array >= wanted.least).all():
                raise InputError(f"the array {name!r} must not lie below {wanted.least:g}")
        return known


@contextlib.contextmanager
def _blaming(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a wrong file can lead to any of them
        what = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{str(path)!r} is not a {kind} that koubai saved: {what}") from None


def read_archive(path: Path, kind: str, check: Check) -> Archive:
    """Return what `write_archive` wrote, the header checked. Raises InputError for other files."""
    with open_regular(path) as file, _blaming(path, kind):
        arrays = _arrays(file)
        if "header" not in arrays:
            raise InputError("there is no header in it")
        header = json.loads(arrays.pop("header"), parse_int=_int)
        if not isinstance(header, dict):
            raise InputError("its header is no list of fields")
        found, found_kind, writer = (header.pop(name, None) for name in ("format", "kind", "koubai"))
        if found_kind != kind:
            raise InputError(f"it is a {_plain(found_kind) if isinstance(found_kind, str) else shown(found_kind)}")
        if found != FORMAT:
            raise InputError(f"it has format {shown(found)}, written by koubai {shown(writer)}; here it is {FORMAT}")
        return Archive(os.fspath(path), kind, a_text(writer, "koubai"), check(header, ""), arrays)


def _int(text: str) -> int:
    if len(text) > 80:  # a seed may have many digits
        raise InputError(f"the number {text[:20]}… is too large")
    return int(text)


def _arrays(file: BinaryIO) -> dict[str, Any]:
    """Return the arrays of an .npz file by name; the header, which is text, as that."""
    import zipfile  # only now, as above

    arrays: dict[str, Any] = {}
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise InputError(f"its part {shown(entry.filename)} is compressed, which koubai's are not")
        if sum(entry.file_size for entry in entries) > size:
            raise InputError("its parts are larger than the whole")
        for entry in entries:
            name, dot, ending = entry.filename.rpartition(".")
            if ending != "npy" or not dot or name in arrays:
                raise InputError(f"its part {shown(entry.filename)} is no array, or there twice")
            with archive.open(entry) as part:
                arrays[name] = _array(part, entry.file_size, name)
    return arrays


def _array(part: Any, size: int, name: str) -> Any:
    """Return the array in a part of this many bytes; text as Python's."""
    wrong = InputError(f"its part {shown(name)} is no array of numbers")
    if part.read(8) != b"\x93NUMPY\x01\x00":
        raise wrong
    length = int.from_bytes(part.read(2), "little")
    match = _HEADING.fullmatch(part.read(length))
    if match is None:
        raise wrong
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(n) for n in match[3].decode().replace(",", " ").split())
    count = size - 10 - length
    if math.prod(shape) * dtype.itemsize != count:
        raise InputError(f"its part {shown(name)} has {count} bytes, which are no {shape} of {dtype}")
    if dtype.kind == "U" and shape == ():
        order = "be" if dtype.byteorder == ">" else "le"
        return part.read().decode(f"utf-32-{order}", "surrogatepass").rstrip("\0")
    plain = _DTYPES.get(dtype.name)
    if plain is None:
        raise wrong
    flat = np.empty(count // dtype.itemsize, dtype)
    memory, at = flat.view(np.uint8), 0
    while chunk := part.read(_CHUNK):
        memory[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
        at += len(chunk)
    if at != count or (dtype.kind == "b" and count and flat.view(np.uint8).max() > 1):
        raise wrong
    return flat.astype(plain, copy=False).reshape(shape, order="F" if match[2] == b"True" else "C")


# -- what a field of a header may be ----------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """Return a value as messages show it, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _refuse(name: str, what: str, value: Any) -> Never:
    raise InputError(f"{name or 'the header'} must be {what}, got {shown(value)}")


_C = TypeVar("_C", bound=Check)


def stated(schema: Mapping[str, Any]) -> Callable[[_C], _C]:
    """Give a check the JSON Schema of what it accepts, as far as a schema can say it: never less than that."""

    def give(check: _C) -> _C:
        check.schema = dict(schema)  # type: ignore[attr-defined]
        return check

    return give


def schema_of(check: Check) -> dict[str, Any]:
    """Return the JSON Schema of what a check accepts: of anything, if nothing is stated of it."""
    return getattr(check, "schema", {})


@stated({"type": "string"})
def a_text(value: Any, name: str) -> str:
    return value if type(value) is str else _refuse(name, "text", value)


@stated({"type": "boolean"})
def a_flag(value: Any, name: str) -> bool:
    return value if type(value) is bool else _refuse(name, "true or false", value)


def a_whole(least: int = 0, most: int = 2**63 - 1) -> Check:
    @stated({"type": "integer", "minimum": least, "maximum": most})
    def check(value: Any, name: str) -> int:
        if type(value) is not int or not least <= value <= most:
            _refuse(name, "a whole number" + (f" ≥ {least}" if least > -(2**63) else ""), value)
        return value

    return check


def a_number(least: float = -math.inf, *, finite: bool = True) -> Check:
    """finite=False: it may be infinite or NaN."""

    @stated({"type": "number"} | ({"minimum": least} if least > -math.inf else {}))
    def check(value: Any, name: str) -> float:
        if type(value) not in (int, float) or (type(value) is int and value.bit_length() > 1000):
            _refuse(name, "a number", value)
        if finite and not math.isfinite(value):
            _refuse(name, "a finite number", value)
        if value < least:
            _refuse(name, f"a number ≥ {least:g}", value)
        return value  # type: ignore[no-any-return]

    return check


def one_of(*values: Any) -> Check:
    @stated({"enum": list(values)})
    def check(value: Any, name: str) -> Any:
        if not any(type(value) is type(known) and value == known for known in values):
            _refuse(name, f"one of {', '.join(map(repr, values))}", value)
        return value

    return check


def optional(check: Check) -> Check:
    schema = schema_of(check)
    either = stated({"anyOf": [schema, {"type": "null"}]} if schema else {})
    return either(lambda value, name: None if value is None else check(value, name))


def a_list(check: Check, length: int | None = None) -> Check:
    sizes = {} if length is None else {"minItems": length, "maxItems": length}

    @stated({"type": "array", "items": schema_of(check), **sizes})
    def checked(value: Any, name: str) -> list[Any]:
        if type(value) is not list or length not in (None, len(value)):
            _refuse(name, "a list" if length is None else f"a list of {length}", value)
        return [check(part, f"{name}[{i}]") for i, part in enumerate(value)]

    return checked


def a_row(*checks: Check) -> Check:
    sizes = {"minItems": len(checks), "maxItems": len(checks)}

    @stated({"type": "array", "prefixItems": [schema_of(check) for check in checks], **sizes})
    def checked(value: Any, name: str) -> list[Any]:
        if type(value) is not list or len(value) != len(checks):
            _refuse(name, f"a list of {len(checks)}", value)
        return [check(part, f"{name}[{i}]") for i, (check, part) in enumerate(zip(checks, value, strict=True))]

    return checked


def a_mapping(check: Check) -> Check:
    """Fields of any name, each of which passes."""

    @stated({"type": "object", "additionalProperties": schema_of(check)})
    def checked(value: Any, name: str) -> dict[str, Any]:
        if type(value) is not dict:
            _refuse(name, "a list of fields", value)
        return {key: check(part, f"{name}.{_plain(key)}".lstrip(".")) for key, part in value.items()}

    return checked


def a_record(fields: Mapping[str, Check], may: Mapping[str, Check] | None = None, rest: Check | None = None) -> Check:
    """These fields and no others. may: those that may be left out; rest: what all others have to pass, if there may be
    others.
    """
    known = {**fields, **(may or {})}
    others: Any = False if rest is None else schema_of(rest)
    properties = {key: schema_of(check) for key, check in known.items()}

    @stated({"type": "object", "properties": properties, "required": [*fields], "additionalProperties": others})
    def checked(value: Any, name: str) -> dict[str, Any]:
        if type(value) is not dict:
            _refuse(name, "a list of fields", value)
        if missing := [key for key in fields if key not in value]:
            raise InputError(f"there is no {missing[0]!r} in {name or 'the header'}")
        if rest is None and (unknown := [key for key in value if key not in known]):
            raise InputError(f"there should be no {_plain(unknown[0])!r} in {name or 'the header'}")
        return {
            key: known.get(key, rest)(part, f"{name}.{_plain(key)}".lstrip("."))  # type: ignore[misc]
            for key, part in value.items()
        }

    return checked


def _plain(key: str) -> str:
    return key if len(key) <= 40 else f"{key[:39]}…"


def a_setting(value: Any, name: str) -> Any:
    """A setting of an optimizer or a descent: a number, a word, true, false, or nothing."""
    return value if value is None or type(value) in (bool, str) else a_number(finite=False)(value, name)


# -- what files hold, in JSON's types ---------------------------------------------------------------------------------


def describe_layout(layout: Layout) -> dict[str, Any]:
    return {
        "names": layout.names,
        "shapes": layout.shapes,
        "is_number": layout.is_number,
        "dtype": layout.dtype.name,
        "form": form_text(layout.form),
    }


_LAYOUT = a_record(
    {
        "names": optional(a_list(a_text)),
        "shapes": a_list(a_list(a_whole())),
        "is_number": a_flag,
        "dtype": one_of("float32", "float64"),
    },
    may={"form": lambda value, name: value},  # checked when a layout is made from it
)


def a_layout(value: Any, name: str) -> Layout:
    saved = _LAYOUT(value, name)
    names = None if saved["names"] is None else tuple(saved["names"])
    shapes = tuple(map(tuple, saved["shapes"]))
    layout = Layout(names, shapes, saved["is_number"], np.dtype(saved["dtype"]), form_of_text(saved.get("form")))
    count = len(shapes)
    if (count != 1 or layout.form is not None) if names is None else (count != len(names) or layout.is_number):
        raise InputError(f"{name} must have a name for each of its {count} shapes")
    if layout.is_number and shapes != ((),):
        raise InputError(f"{name}: a number has no shape {shapes}")
    if names is not None and layout.parts(layout.assembled(range(count))) != [*range(count)]:
        raise InputError(f"{name}.form must have a place for each of its {count} arrays")
    return layout


def describe_optimizer(optimizer: Optimizer | str) -> dict[str, Any] | str:
    """Return an optimizer in JSON's types; if its lr is a function of the caller's, only its repr."""
    if isinstance(optimizer, str) or (callable(optimizer.lr) and not isinstance(optimizer.lr, schedules.Schedule)):
        return str(optimizer)
    lr = _describe_schedule(optimizer.lr) if isinstance(optimizer.lr, schedules.Schedule) else optimizer.lr
    return {
        "name": type(optimizer).__name__,
        "semantics": optimizer.semantics,
        "lr": lr,
        "hyperparameters": dict(optimizer.hyperparameters),
    }


_GROUPS = a_mapping(a_mapping(a_setting))
_A_RATE = a_number(0)


@stated({"anyOf": [schema_of(_A_RATE), {"$ref": "#/$defs/schedule"}]})
def a_rate(value: Any, name: str) -> Any:
    """A number, or a schedule, which is checked when it is made."""
    return value if type(value) is dict else _A_RATE(value, name)


_OPTIMIZER = a_record(
    {
        "name": a_text,
        "semantics": a_text,
        "lr": a_rate,
        "hyperparameters": a_mapping(lambda value, name: (_GROUPS if type(value) is dict else a_setting)(value, name)),
    }
)


def restore_optimizer(saved: Mapping[str, Any] | str, name: str = "optimizer") -> Optimizer | str:
    if isinstance(saved, str):
        return saved
    given = _OPTIMIZER(saved, name)
    lr = _restore_schedule(given["lr"], f"{name}.lr") if type(given["lr"]) is dict else given["lr"]
    return resolve(given["name"], lr=lr, semantics=given["semantics"], **given["hyperparameters"])


def an_optimizer(value: Any, name: str) -> dict[str, Any] | str:
    """One that `restore_optimizer` can make; it stays as it is written."""
    restore_optimizer(value, name)
    return value  # type: ignore[no-any-return]


_SCHEDULES: dict[str, type[schedules.Schedule]] = {
    name: kind
    for name in schedules.__all__
    if isinstance(kind := getattr(schedules, name), type) and kind is not schedules.Schedule
}


def schedule_schema() -> dict[str, Any]:
    """Return the JSON Schema of a schedule, which is named "schedule" among the definitions of the whole."""
    numbers = {"type": "array", "items": schema_of(a_whole())}
    part = {"anyOf": [{"type": ["string", "number"]}, numbers, {"$ref": "#/$defs/schedule"}]}
    each = []
    for name, kind in _SCHEDULES.items():
        known = {field.name: stated(part)(lambda value, name: value) for field in dataclasses.fields(kind)}
        each.append(schema_of(a_record({"schedule": one_of(name), **known})))
    return {"oneOf": each}


def _describe_schedule(schedule: schedules.Schedule) -> dict[str, Any]:
    fields = {f.name: getattr(schedule, f.name) for f in dataclasses.fields(schedule)}
    nested = {k: _describe_schedule(v) if isinstance(v, schedules.Schedule) else v for k, v in fields.items()}
    nested = {k: list(v) if isinstance(v, tuple) else v for k, v in nested.items()}
    return {"schedule": type(schedule).__name__, **nested}


def _restore_schedule(saved: Any, name: str) -> Any:
    """Return a schedule, or a field of one: a number, a list of numbers, or a word."""
    if type(saved) is list:
        return tuple(a_list(a_whole())(saved, name))
    if type(saved) is not dict:
        return saved if type(saved) is str else (a_whole() if type(saved) is int else a_number())(saved, name)
    if saved.get("schedule") not in _SCHEDULES:
        raise InputError(f"{name} must be one of the schedules {', '.join(_SCHEDULES)}, got {shown(saved)}")
    kind = _SCHEDULES[saved["schedule"]]
    known = {field.name: lambda value, name: value for field in dataclasses.fields(kind)}
    given = a_record({"schedule": a_text, **known})(saved, name)
    return kind(**{k: _restore_schedule(v, f"{name}.{k}") for k, v in given.items() if k != "schedule"})


def describe_function(f: Callable[..., Any]) -> dict[str, str]:
    """Return a function as text: an expression, a problem's name, or else only the name it has in Python."""
    if isinstance(f, Expression):
        return {"expression": f.text}
    if isinstance(f, Missing):
        return {"name": f.name}
    if isinstance(f, Applied):
        return describe_function(f.f)
    for name in problems:
        if problems[name].f is f:
            return {"problem": name}
    return {"name": f"{getattr(f, '__module__', '?')}.{getattr(f, '__qualname__', type(f).__name__)}"}


def restore_function(saved: Mapping[str, str]) -> Callable[..., Any]:
    if "expression" in saved:
        return parse(saved["expression"])
    if "problem" in saved:
        return problems[saved["problem"]].f
    return Missing(saved["name"])


def a_function(value: Any, name: str) -> dict[str, str]:
    """One that `restore_function` can make; it stays as it is written."""
    written: dict[str, str] = a_record({}, may=dict.fromkeys(("expression", "problem", "name"), a_text))(value, name)
    if len(written) != 1:
        raise InputError(f"{name} must be an expression, a problem or a name")
    restore_function(written)
    return written


@dataclass(frozen=True)
class Missing:
    """Takes the place of the function of a loaded run, and says so when it is called."""

    name: str

    def __call__(self, x: Parameters) -> Any:
        raise FunctionError(f"the run was loaded without its function {self.name}; use koubai.load(path, f)")


@dataclass(frozen=True)
class Applied:
    """A function of x alone, made from one that takes more or returns its gradient too: what a run draws."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    has_gradient: bool

    def __call__(self, x: Parameters) -> Any:
        value = self.f(x, *self.args)
        return value[0] if self.has_gradient else value
