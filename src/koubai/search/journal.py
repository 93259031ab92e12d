"""The journal of a sweep: a file of JSON lines, one for each finished trial, that is only ever appended to.

The first line says which sweep it is. Every line is written in one piece under a lock and synced to the disk, so that
any number of processes may append to one journal, and a process that is killed loses no line but the one it was
writing: a line without its end is cut. A trial has one line: the first one counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from koubai.descent.files import Path, a_mapping, a_number, a_record, a_text, a_whole, check_target, one_of, version
from koubai.errors import InputError
from koubai.search.trial import STATUSES

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Journal", "as_record"]

FORMAT = 1
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_PLACE = 2**31 - 2  # of the byte that Windows locks: beyond what is written

_RECORD = a_record(
    {
        "trial": a_whole(),
        "params": a_mapping(lambda value, name: value),  # compared with those of the sweep
        "status": one_of(*STATUSES),
        "message": a_text,
        "values": a_mapping(a_number(finite=False)),
    }
)


def as_record(value: Any, name: str) -> dict[str, Any]:
    """Return one trial's record, every field of it checked. Raises InputError."""
    record: dict[str, Any] = _RECORD(value, name)
    if record["status"] != "failed" and "fun" not in record["values"]:
        raise InputError(f"there is no 'fun' in {name or 'the record'}")
    return record


class Journal:
    """The records of the trials that are finished, in memory and on the disk.

    path: of the file, made if there is none. sweep: what the sweep is, in JSON's types. params: gives the
    hyperparameters that a trial must have. Raises InputError if the file is not a journal, or one of another sweep.
    """

    asks = prunes = False  # as a study does

    def __init__(self, path: Path, sweep: Mapping[str, Any], params: Callable[[int], Any]) -> None:
        self.path = os.fspath(path)
        self.params = params
        self.records: dict[int, dict[str, Any]] = {}
        self.line = 1  # of the file that is read next
        self.read = 0  # bytes
        target = check_target(path, "journal")
        head = {"koubai": version(), "kind": "sweep", "format": FORMAT, "sweep": sweep}
        self.head: dict[str, Any] = json.loads(json.dumps(head))
        try:
            self.file = os.open(target, _FLAGS, 0o666)
        except OSError as error:
            raise InputError(f"journal: {self.path!r} can't be opened: {error.strerror}") from None
        try:
            with self._locked():
                if not os.fstat(self.file).st_size:
                    self._write(self.head)
                    self.line = 2
                self._catch_up()
        except BaseException:
            os.close(self.file)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.file)

    def append(self, record: dict[str, Any]) -> None:
        """Add the record of a trial, unless there is one; it is on the disk when this returns. Raises OSError."""
        with self._locked():
            self._catch_up()
            if record["trial"] in self.records:
                return
            self._write(record)
            self.line += 1
            self.records[record["trial"]] = record

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """A context that one process at a time is in. Where a disk knows no locks, writing in one piece must do."""
        with contextlib.suppress(OSError):
            if fcntl is not None:
                fcntl.flock(self.file, fcntl.LOCK_EX)
            else:
                _lock_byte(self.file, True)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if fcntl is not None:
                    fcntl.flock(self.file, fcntl.LOCK_UN)
                else:
                    _lock_byte(self.file, False)

    def _write(self, fields: dict[str, Any]) -> None:
        """Append one line: whole and synced, or not at all."""
        if not os.fstat(self.file).st_nlink:
            raise FileNotFoundError(2, "the file was removed", self.path)
        text = json.dumps(fields, ensure_ascii=True)
        data = f'{{"crc": "{zlib.crc32(text.encode()):08x}", {text[1:]}\n'.encode()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.file, rest) :]
            os.fsync(self.file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.read)
            raise
        self.read += len(data)

    def _catch_up(self) -> None:
        """Read the lines that were added since, by this process or another, and cut one that has no end."""
        data = b""
        while part := self._read_at(self.read + len(data)):
            data += part
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines(keepends=True)
        for i, line in enumerate(lines):
            fields = self._fields(line)
            if fields is None:
                if (
                    self.line > 1 and i == len(lines) - 1 and whole == len(data)
                ):  # a disk that lost power keeps its length
                    whole -= len(line)
                    break
                raise InputError(self._blame("it is damaged" if self.line > 1 else "it is not a sweep's journal"))
            if self.line == 1:
                self._compare(fields)
            else:
                self._take(fields)
            self.line += 1
            self.read += len(line)
        if self.line == 1:  # a first line without its end: this process is the first one after a kill
            if not self._own_beginning(data):
                raise InputError(self._blame("it is not a sweep's journal"))
            os.ftruncate(self.file, 0)
            self._write(self.head)
            self.line = 2
        elif whole < len(data):
            os.ftruncate(self.file, self.read)

    def _read_at(self, at: int) -> bytes:
        os.lseek(self.file, at, os.SEEK_SET)  # appending does not ask where it is
        return os.read(self.file, 2**24)

    def _own_beginning(self, data: bytes) -> bool:
        return b'{"crc": "'.startswith(data[:9]) and len(data) < 2**24 and b"\0" not in data

    def _fields(self, line: bytes) -> dict[str, Any] | None:
        """Return the fields of a line, or None if it is not what was written."""
        start, crc, rest = line[:9], line[9:17], line[17:]
        if start != b'{"crc": "' or rest[:3] != b'", ':
            return None
        text = b"{" + rest[3:-1]
        if f"{zlib.crc32(text):08x}".encode() != crc:
            return None
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return fields if isinstance(fields, dict) else None

    def _compare(self, fields: dict[str, Any]) -> None:
        if fields.get("kind") != "sweep":
            raise InputError(self._blame("it is not a sweep's journal"))
        if (what := _difference(fields, self.head)) is not None:
            raise InputError(
                f"journal: {self.path!r} is of another sweep: {what}; name another file, or remove this one"
            )

    def _take(self, fields: dict[str, Any]) -> None:
        try:
            record = as_record(fields, "")
            expected = self.params(record["trial"])
            if expected is not None and (what := _difference(record["params"], expected, "params")) is not None:
                raise InputError(what)
        except InputError as error:
            raise InputError(self._blame(str(error))) from None
        self.records.setdefault(record["trial"], record)

    def _blame(self, what: str) -> str:
        return f"journal: {self.path!r} can't be used, line {self.line}: {what}; name another file, or remove this one"


def _difference(there: Any, here: Any, name: str = "") -> str | None:
    """Return the first difference between two things in JSON's types, in words; None if they are the same."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            if key not in there or key not in here:
                where = "here" if key not in there else "in the file"
                return f"{name}.{key:.40}".lstrip(".") + f" is only {where}"
            if (what := _difference(there[key], here[key], f"{name}.{key}".lstrip("."))) is not None:
                return what
        return None
    one, other = json.dumps(there), json.dumps(here)  # as text, where NaN is NaN and 1 is not 1.0
    return None if one == other else f"{name} is {one:.60} in the file, and {other:.60} here"


def _lock_byte(file: int, lock: bool) -> None:
    import msvcrt

    windows: Any = msvcrt
    os.lseek(file, _PLACE, os.SEEK_SET)
    windows.locking(file, windows.LK_LOCK if lock else windows.LK_UNLCK, 1)
