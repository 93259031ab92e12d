"""Machine code: LLVM IR text in, addresses of functions out, compiled once and kept in memory and on disk.

An object on disk is found by all that its code depends on: the text's key, CPU, LLVM, koubai and the sources of the
code generator. It is stored in the user's cache folder, or in the one that the environment variable ``KOUBAI_CACHE``
names (empty, ``0`` or ``off``: nowhere). If that folder can't be used, koubai compiles again, without an error.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import dataclasses
import importlib
import itertools
import os
import re
import stat
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from koubai.errors import CompileError, CompileWarning, warn
from koubai.folders import user_folder
from koubai.log import debug

if TYPE_CHECKING:
    import hashlib

__all__ = ["Library", "available", "clear", "has_fma", "load", "processors", "texts"]

# Libraries kept in memory. One takes about 25 kB.
MEMORY_LIMIT = 256
# Bytes on disk; a sweep goes down to three quarters of them, so that the next one is not due soon.
DISK_LIMIT = 256 * 2**20

_ORIGINS = {"compiled": "compiled", "disk": "found on disk", "memory": "found in memory"}
_FAULT = "this is a fault of koubai's, please report it"
_ENTRY = b"koubai object 1\n"
_SUFFIX = ".object"


@dataclasses.dataclass(frozen=True, slots=True)
class Library:
    """Compiled functions, alive as long as anything holds this object.

    origin: "compiled", "disk" or "memory".
    """

    origin: Literal["compiled", "disk", "memory"]
    addresses: Mapping[str, int]
    code: object = dataclasses.field(repr=False)  # LLVM frees the memory with the last reference to it

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """Return function `name`, to be called with arguments of these types of ctypes. It holds the library."""
        made: Any = ctypes.CFUNCTYPE(result, *arguments)(self.address(name))
        made.library = self
        return made

    def address(self, name: str) -> int:
        """Return the address of function `name`, for who holds the library as long as it is used."""
        try:
            return self.addresses[name]
        except KeyError:
            raise CompileError(
                f"no function {name!r} in this library, only {', '.join(self.addresses) or 'none'}; {_FAULT}"
            ) from None


def load(key: bytes | str, make_ir: Callable[[], str], vectorise: bool = False) -> Library:
    """Return the library of the LLVM IR text that `make_ir` returns, compiled at most once.

    key: identifies everything that the text depends on; CPU, versions and code generator are added here. `make_ir` is
    called only if neither cache has the key. Raises `CompileError` if LLVM refuses the text.

    Only functions marked ``alwaysinline`` are inlined, and nothing is vectorised that the text does not write as
    vectors; with ``vectorise`` LLVM does all that it can to the same bits, which takes it five times as long. C's
    functions (``declare double @exp(double)``) are those of the process.
    """
    key = (key.encode() if isinstance(key, str) else key) + b", vectorised" * vectorise
    collected = _collected.get()
    if collected is not None:
        text = make_ir()
        collected.append(text)
        return _loaded(key, lambda: text, vectorise)
    return _loaded(key, make_ir, vectorise)


_collected: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("collected", default=None)


@contextlib.contextmanager
def texts() -> Iterator[list[str]]:
    """Collect the LLVM IR texts of the libraries that are loaded inside, those in a cache included."""
    found: list[str] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def _loaded(key: bytes, make_ir: Callable[[], str], vectorise: bool) -> Library:
    compiler = _compiler()
    identity = compiler.identity + key
    digest = _sha256(identity).hexdigest()
    with _lock:
        library = _recall(digest)
        if library is not None:
            debug("machine code %.8s: found in memory", digest)
            return library
        lock = _locks.setdefault(digest, threading.Lock())
    with lock:  # of the threads that ask for one key, the first compiles
        try:
            with _lock:
                library = _recall(digest)
            if library is None:
                library = _from_disk(compiler, identity, digest)
                library = library or _compile(compiler, identity, digest, make_ir(), vectorise)
                debug("machine code %.8s: %s, %s", digest, _ORIGINS[library.origin], ", ".join(library.addresses))
                _remember(digest, library)
        finally:
            with _lock:
                _locks.pop(digest, None)
    return library


def clear() -> None:
    """Forget the libraries kept in memory; those in use stay alive."""
    with _lock:
        forgotten = list(_libraries.values())
        _libraries.clear()
    del forgotten  # freed outside the lock: LLVM has one of its own


_libraries: OrderedDict[str, Library] = OrderedDict()  # the least recently used first
_locks: dict[str, threading.Lock] = {}
_lock = threading.Lock()  # held for moments only, and never while LLVM works


def _recall(digest: str) -> Library | None:
    library = _libraries.get(digest)
    if library is not None:
        _libraries.move_to_end(digest)
    return library


def _remember(digest: str, library: Library) -> None:
    evicted = []
    with _lock:
        _libraries[digest] = dataclasses.replace(library, origin="memory")
        while len(_libraries) > MEMORY_LIMIT:
            evicted.append(_libraries.popitem(last=False))
    del evicted  # freed outside the lock: LLVM has one of its own


# The compiler


@dataclasses.dataclass(frozen=True, slots=True)
class _Compiler:
    """LLVM, set up for this machine."""

    llvm: Any
    target: Any
    fma: bool
    lock: Any  # llvmlite takes it for every call
    passes: Any  # for every text, since LLVM keeps 400 bytes of every list of passes that it ever had
    identity: bytes


_set_up: _Compiler | Exception | None = None
_setting_up = threading.RLock()


def available() -> bool:
    """Return whether machine code can be made and run here.

    The first call loads llvmlite and sets it up: 20 to 100 ms. Where that fails, a `CompileWarning` says so, once.
    """
    try:
        _compiler()
    except CompileError:
        return False
    return True


def processors() -> int:
    """Return how many CPUs this process may use; on macOS and Windows, how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_fma() -> bool:
    """Return whether this CPU multiplies and adds in one rounding, in hardware."""
    return available() and _compiler().fma


def _compiler() -> _Compiler:
    global _set_up
    if _set_up is None:
        with _setting_up:
            if _set_up is None:
                try:
                    _set_up = _start()
                    debug("LLVM is set up for machine code")
                except Exception as error:  # ImportError, OSError of a library, AttributeError of an old llvmlite
                    _set_up = error
                    debug("no machine code: llvmlite can't be used: %s", error)
                    fault = f"llvmlite can't be used ({type(error).__name__}: {error})"
                    warn(CompileWarning(f"{fault}; pip install --upgrade llvmlite may repair it"))
    if isinstance(_set_up, Exception):
        raise CompileError(f"llvmlite can't be used: {_set_up}") from _set_up
    return _set_up


def _start() -> _Compiler:
    global _linker
    llvm: Any = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.check_jit_execution()
    triple = llvm.get_process_triple()
    cpu = llvm.get_host_cpu_name()
    features = llvm.get_host_cpu_features()
    flags = features.flatten()
    target = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=flags, opt=2, jit=True)
    _linker = _new_linker(llvm, target)
    llvmlite = importlib.import_module("llvmlite").__version__
    fields = (sys.modules["koubai"].__version__, _sources(), llvmlite, llvm.llvm_version_info, triple, cpu, flags)
    return _Compiler(
        llvm,
        target,
        # Every 64-bit ARM multiplies and adds in one rounding; it isn't a named feature there.
        fma=features.get("fma", False) or triple.startswith(("aarch64", "arm64")),
        lock=getattr(llvm.ffi.lib, "_lock", contextlib.nullcontext()),
        passes=_passes(llvm),
        identity="".join(f"{field}\n" for field in fields).encode(),
    )


def _sha256(data: bytes = b"") -> hashlib._Hash:
    import hashlib  # only now: OpenSSL would slow down the import of koubai

    return hashlib.sha256(data)


def _sources() -> str:
    """Return a hash of the sources that write IR, so that a changed generator never meets an old object."""
    import importlib.resources  # only now, as above

    total = _sha256()
    for room in ("koubai.graph", "koubai.execute"):
        for text in _texts(importlib.resources.files(room)):
            total.update(text)
    return total.hexdigest()


def _texts(folder: Any) -> Iterator[bytes]:
    """Yield the text of each Python file in a folder of a package, and in the folders in it."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.is_dir():
            yield from _texts(file)
        elif file.name.endswith(".py"):
            yield file.read_bytes()


def _compile(compiler: _Compiler, identity: bytes, digest: str, text: str, vectorise: bool) -> Library:
    module = _optimised(compiler, text, vectorise)
    names = [f.name for f in module.functions if not f.is_declaration and f.linkage.name == "external"]
    try:
        code = compiler.target.emit_object(module)
        library = _link(compiler, "compiled", names, code)
    except RuntimeError as error:
        find = compiler.llvm.address_of_symbol
        called = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
        missing = ", ".join(name for name in called if find(name) is None) or "none"
        raise CompileError(f"LLVM can't link the code; {_FAULT}: {error}; functions not found: {missing}") from None
    _to_disk(identity, digest, names, code)
    return library


def _optimised(compiler: _Compiler, text: str, vectorise: bool = False) -> Any:
    """Return the text as an LLVM module, verified and optimised."""
    llvm = compiler.llvm
    try:
        # A context of its own is freed with the module; the global one only grows.
        module = llvm.parse_assembly(text, context=llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise CompileError(_explain(str(error), text)) from None
    with compiler.lock:
        # LLVM keeps 1.5 kB of every builder; but one that serves a second text calls back to what is gone by then.
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = vectorise
        builder = llvm.create_pass_builder(compiler.target, options)
        compiler.passes.run(module, builder)
        if vectorise:
            builder.getModulePassManager().run(module, builder)
    return module


def _passes(llvm: Any) -> Any:
    # The text is written with care: with these alone the code is as fast as with LLVM's O1 or O2, in half the time.
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_new_gvn_pass()
    passes.add_dead_code_elimination_pass()
    return passes


def _explain(message: str, text: str) -> str:
    lines = text.splitlines()
    quoted = {line.strip() for line in message.splitlines()} - {""}
    numbers = {i for i, line in enumerate(lines, 1) if line.strip() in quoted}
    numbers.update(int(number) for number in re.findall(r"<string>:(\d+):\d+", message))
    context = sorted({n for i in numbers for n in range(i - 2, i + 3) if 1 <= n <= len(lines)})
    listing = "\n".join(f"{n:5}{'>' if n in numbers else ' '} {lines[n - 1]}" for n in context)
    return f"LLVM refuses the code; {_FAULT}\n{message.strip()}\n{listing}"


# A linker of LLVM's keeps 10 kB of every library that it ever had; with the last one in use they go with the linker.
_LINKED = 64  # libraries that a linker gets; the next one costs 1 ms
_numbers = itertools.count()  # names of LLVM's libraries, none used twice
_linker: Any = None


def _new_linker(llvm: Any, target: Any) -> Any:
    # LLVM's own choice: the newer kind, but not yet on Windows
    return llvm.create_lljit_compiler(target, use_jit_link=sys.platform != "win32", suppress_errors=True)


def _linker_for(compiler: _Compiler, number: int) -> Any:
    global _linker
    with compiler.lock:
        if number and not number % _LINKED:
            _linker = _new_linker(compiler.llvm, compiler.target)
        return _linker


def _link(compiler: _Compiler, origin: Literal["compiled", "disk"], names: list[str], code: bytes) -> Library:
    builder = compiler.llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for name in names:
        builder.export_symbol(name)
    number = next(_numbers)
    linker = _linker_for(compiler, number)
    tracker = builder.link(linker, f"koubai{number}")
    return Library(origin, {name: tracker[name] for name in names}, (linker, tracker))  # freed from the end


# Fork: a child must not inherit a lock that another thread of its parent held.


def _before_fork() -> None:
    _setting_up.acquire()
    if isinstance(_set_up, _Compiler):
        _set_up.lock.__enter__()


def _after_fork() -> None:
    if isinstance(_set_up, _Compiler):
        _set_up.lock.__exit__(None, None, None)
    _setting_up.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    _locks.clear()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


# The disk. An entry is the SHA-256 of everything after it, then a heading with the whole identity, the functions' names
# and the object.


def _from_disk(compiler: _Compiler, identity: bytes, digest: str) -> Library | None:
    """Return the library kept on disk, or None if there is none that can be trusted."""
    try:
        folder = _folder()
        if folder is None:
            return None
        path = os.path.join(folder, digest + _SUFFIX)
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not _ours(status):
                return None
            entry = file.read()
        checksum, body = entry[:32], entry[32:]
        heading = _ENTRY + identity + b"\n"
        if _sha256(body).digest() != checksum or not body.startswith(heading):
            return None
        names, _, code = body[len(heading) :].partition(b"\n")
        library = _link(compiler, "disk", names.decode().split(), code)
    except (OSError, RuntimeError):  # RuntimeError: LLVM can't link it
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the sweep takes the oldest
    return library


def _to_disk(identity: bytes, digest: str, names: list[str], code: bytes) -> None:
    """Store an object for the next process, if that is possible."""
    body = _ENTRY + identity + b"\n" + " ".join(names).encode() + b"\n" + code
    try:
        folder = _folder()
        if folder is None:
            return
        temporary = os.path.join(folder, f"{digest}.{os.urandom(8).hex()}.part")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(_sha256(body).digest() + body)
            os.replace(temporary, os.path.join(folder, digest + _SUFFIX))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if digest.startswith("00"):  # one write in 256, whichever process it falls to
            _sweep(folder)
    except OSError:
        return


def _sweep(folder: str) -> None:
    """Remove the least recently used objects, if the folder is above its limit."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((_SUFFIX, ".part")):
                with contextlib.suppress(OSError):  # another process may sweep too
                    status = entry.stat(follow_symlinks=False)
                    files.append((status.st_mtime_ns, status.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    if total <= DISK_LIMIT:
        return
    for _, size, path in sorted(files):
        if total <= DISK_LIMIT * 3 // 4:
            return
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size


def _folder() -> str | None:
    """Return the folder of the objects, made if need be, or None if there is none or another user could write to it.

    An object is code that will run.
    """
    cache = _cache_folder()
    if cache is None:
        return None
    folder = os.path.join(cache, "native")
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        status = os.stat(folder)
    return folder if stat.S_ISDIR(status.st_mode) and _ours(status) else None


def _cache_folder() -> str | None:
    """Return koubai's cache folder by the platform's conventions, or None if there is none."""
    chosen = os.environ.get("KOUBAI_CACHE")
    if chosen is not None:
        return None if chosen.lower() in ("", "0", "off") else os.path.abspath(os.path.expanduser(chosen))
    return user_folder("cache")


def _ours(status: os.stat_result) -> bool:
    """Return whether only this user can write there. On Windows, the folder's own access list says so."""
    return os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
