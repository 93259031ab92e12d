"""Machine code is compiled once and found again; no state of the disk, of threads or of llvmlite is an error."""

import ctypes
import dataclasses
import errno
import gc
import hashlib
import math
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import koubai as kb
from koubai import nn
from koubai.descent import training_step
from koubai.errors import CompileError
from koubai.execute import library

TIMES = "define double @times(double %x) {{\n  %y = fmul double %x, {}.0\n  ret double %y\n}}\n"
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Give each test a folder and a memory of its own; return the folder of the objects."""
    monkeypatch.setenv("KOUBAI_CACHE", str(tmp_path / "cache"))
    library.clear()
    yield tmp_path / "cache" / "native"
    library.clear()


class Times:
    """Writes the text of one function, ``factor * x``, and counts how often it is asked to."""

    def __init__(self, factor=3):
        self.factor = factor
        self.written = 0

    def __call__(self):
        self.written += 1
        return TIMES.format(self.factor)

    def load(self):
        return library.load(f"times {self.factor}", self)


def call(loaded, x=2.0, name="times"):
    return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(loaded.address(name))(x)


def python(script):
    """Run a script in a process of its own and return what it printed; it must end well and warn of nothing of ours."""
    peers = [f"-Wignore::{kind}" for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")]
    command = [sys.executable, "-Werror", *peers, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_compiled_once_then_from_memory_then_from_disk():
    times = Times()
    found = []
    for forget in (False, False, True, False):
        if forget:
            library.clear()
        loaded = times.load()
        found.append(loaded.origin)
        assert call(loaded) == 6.0
    assert found == ["compiled", "memory", "disk", "memory"]
    assert times.written == 1


def test_bytes_and_text_are_keys_and_each_key_has_its_own_library():
    assert call(library.load(b"\xff\n\0", Times(5))) == 10.0
    assert call(library.load(b"\xff\n", Times(7))) == 14.0
    assert call(library.load("勾配", Times(9))) == 18.0
    library.clear()
    assert [call(library.load(key, Times(0))) for key in (b"\xff\n\0", b"\xff\n", "勾配")] == [10.0, 14.0, 18.0]


def test_another_cpu_version_or_generator_compiles_anew(monkeypatch):
    Times(3).load()
    compiler = library._compiler()
    monkeypatch.setattr(library, "_set_up", dataclasses.replace(compiler, identity=compiler.identity + b"other\n"))
    for forget in (False, True):
        if forget:
            library.clear()
        assert Times(3).load().origin == ("disk" if forget else "compiled")


def test_the_identity_holds_the_cpu_the_versions_and_the_generators_sources(monkeypatch, tmp_path):
    compiler = library._compiler()
    sources = library._sources()
    for part in (compiler.llvm.get_host_cpu_name(), str(compiler.llvm.llvm_version_info), sources):
        assert part.encode() in compiler.identity

    (tmp_path / "native.py").write_text("one")
    monkeypatch.setattr(library.importlib.resources, "files", lambda room: tmp_path)
    one = library._sources()
    (tmp_path / "native.py").write_text("two")
    two = library._sources()
    (tmp_path / "family").mkdir()
    (tmp_path / "family" / "rows.py").write_text("three")
    assert len({sources, one, two, library._sources()}) == 4


def test_memory_is_bounded_and_forgets_the_least_recently_used(monkeypatch):
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    monkeypatch.setattr(library, "MEMORY_LIMIT", 2)
    kept = Times(3).load()
    Times(4).load()
    Times(3).load()
    Times(5).load()  # 4 has not been used for longest
    assert [Times(n).load().origin for n in (3, 5, 4)] == ["memory", "memory", "compiled"]
    assert call(kept) == 6.0


def test_a_function_holds_its_library(monkeypatch):
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    function = Times(3).load().function("times", ctypes.c_double, ctypes.c_double)
    library.clear()
    for n in range(50):  # whose memory would lie where the freed one lay
        library.load(str(n), Times(n))
        library.clear()
    assert function(2.0) == 6.0


def test_a_training_holds_all_of_its_machine_code(monkeypatch):
    """A second network of a shape is trained by the code of the first, whatever was forgotten between."""
    monkeypatch.setattr(training_step, "FUSED", 0)
    X = np.random.default_rng(0).standard_normal((96, 5)).astype(np.float32)
    options = {"epochs": 3, "batch_size": 32}
    trained = []
    for seed in (1, 1):
        network = nn.Network([nn.Dense(24), nn.ReLU(), nn.Dense(3)], nn.CrossEntropy(), seed=seed)
        network.fit(X, X[:, :3].argmax(axis=1), kb.SGD(lr=0.1), **options)
        trained.append(network.vector.copy())
        library.clear()
        for n in range(50):
            library.load(str(n), Times(n))
            library.clear()
    assert trained[0].tobytes() == trained[1].tobytes()


def test_a_library_lives_as_long_as_someone_holds_it(monkeypatch):
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    held = Times(3).load()
    library.clear()
    for n in range(50):  # whose memory would lie where the freed one lay
        library.load(str(n), Times(n))
        library.clear()
    assert call(held) == 6.0


# What the code is


@pytest.mark.parametrize(
    "name", ["exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "atan", "sqrt", "erf", "lgamma"]
)
def test_functions_of_the_c_library_resolve(name):
    body = f"  %y = call double @{name}(double %x)\n  ret double %y"
    text = f"declare double @{name}(double)\ndefine double @f(double %x) {{\n{body}\n}}"
    assert call(library.load(name, lambda: text), 0.7, "f") == pytest.approx(getattr(math, name)(0.7), rel=1e-15)


def test_a_product_and_a_sum_are_rounded_apart():
    text = """define double @f(double %x) {
      %s = fmul double %x, %x
      %y = fadd double %s, 0xBFF0000000800000
      ret double %y
    }"""
    x = 1 + 2.0**-30  # x·x - (1 + 2⁻²⁹) is 2⁻⁶⁰, or 0 where the product is rounded first
    assert call(library.load("unfused", lambda: text), x, "f") == x * x - (1 + 2.0**-29) == 0.0


VECTORS = """define void @f(ptr %p) {
  %x = load <8 x double>, ptr %p, align 8
  %y = fmul <8 x double> %x, %x
  store <8 x double> %y, ptr %p, align 8
  ret void
}"""


def test_512_bits_are_used_where_there_are_512_bits():
    compiler = library._compiler()
    llvm = compiler.llvm
    triple = llvm.get_process_triple()
    if not triple.startswith("x86_64"):
        pytest.skip("registers of x86")
    # LLVM's own vectoriser would keep to 256 bits on these two.
    machine = llvm.Target.from_triple(triple).create_target_machine
    targets = [machine(cpu=cpu) for cpu in ("skylake-avx512", "sapphirerapids")]
    if llvm.get_host_cpu_features().get("avx512f"):
        targets.append(compiler.target)
    for target in targets:
        assert "zmm" in target.emit_assembly(library._optimised(compiler, VECTORS))


def test_what_is_marked_so_is_inlined():
    text = """define internal double @square(double %x) alwaysinline {
      %y = fmul double %x, %x
      ret double %y
    }
    define double @f(double %x) {
      %y = call double @square(double %x)
      %z = call double @square(double %y)
      ret double %z
    }"""
    module = library._optimised(library._compiler(), text)
    assert [f.name for f in module.functions] == ["f"]
    loaded = library.load("inlined", lambda: text)
    assert list(loaded.addresses) == ["f"]
    assert call(loaded, 3.0, "f") == 81.0


def test_has_fma_is_what_the_cpu_says():
    flags = library._compiler().llvm.get_host_cpu_features()
    if "fma" not in flags:
        pytest.skip("not an x86")
    assert library.has_fma() is flags["fma"]


# Faults in the text are faults of koubai's


def test_text_that_does_not_parse_is_quoted_by_line():
    text = TIMES.format(3).replace("fmul double", "fmul float")
    with pytest.raises(
        CompileError, match=r"fault of koubai's(.|\n)*defined with type 'double'(.|\n)*\n {4}2> +%y = fmul float"
    ):
        library.load("wrong", lambda: text)


def test_text_that_does_not_verify_is_quoted_by_line():
    text = """define double @f(double %x) {
      %z = fadd double %y, %x
      %y = fmul double %x, %x
      ret double %z
    }"""
    with pytest.raises(CompileError, match=r"not dominate all uses(.|\n)*\n {4}2> +%z = fadd(.|\n)*\n {4}3> +%y"):
        library.load("wrong", lambda: text)


def test_a_function_that_no_c_library_has_is_named(capfd):
    text = "declare double @nonsense(double)\n" + TIMES.format(3).replace(
        "fmul double %x, 3.0", "call double @nonsense(double %x)"
    )
    with pytest.raises(CompileError, match="nonsense"):
        library.load("wrong", lambda: text)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_name_names_the_known():
    with pytest.raises(CompileError, match=r"no function 'twice'.*only times"):
        Times().load().address("twice")


def test_a_key_whose_text_failed_can_be_asked_for_again():
    with pytest.raises(ZeroDivisionError):
        library.load("times 3", lambda: 1 / 0)
    assert Times(3).load().origin == "compiled"
    assert library._locks == {}


# The disk


def entry(cache):
    """Return the one entry of the folder."""
    (path,) = cache.iterdir()
    return path


def test_an_entry_that_is_damaged_in_any_place_is_rebuilt(cache):
    Times(3).load()
    path = entry(cache)
    whole = path.read_bytes()
    places = range(0, len(whole), len(whole) // 40)
    damaged = [whole[:n] for n in places] + [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in places]
    for content in [*damaged, b"", b"\x7fELF", whole + b"\0"]:
        path.write_bytes(content)
        library.clear()
        loaded = Times(3).load()
        assert (loaded.origin, call(loaded)) == ("compiled", 6.0)
        assert path.read_bytes() == whole


def test_an_entry_of_another_key_is_rebuilt(cache):
    Times(3).load()
    three = entry(cache)
    content = three.read_bytes()
    three.unlink()
    Times(4).load()
    entry(cache).write_bytes(content)
    library.clear()
    loaded = Times(4).load()
    assert (loaded.origin, call(loaded)) == ("compiled", 8.0)


def test_an_entry_that_llvm_cannot_link_is_rebuilt(monkeypatch, cache):
    with monkeypatch.context() as patch:
        to_disk = library._to_disk
        patch.setattr(library, "_to_disk", lambda *args: to_disk(*args[:3], b"\x7fELF no object"))
        Times(3).load()
    for origin in ("compiled", "disk"):
        library.clear()
        loaded = Times(3).load()
        assert (loaded.origin, call(loaded)) == (origin, 6.0)


def obstacle_file(cache):
    cache.parent.write_text("not a folder")


def obstacle_file_within(cache):
    cache.parent.mkdir()
    cache.write_text("not a folder")


def obstacle_folder_for_entry(cache):
    Times(3).load()
    path = entry(cache)
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("obstacle", [obstacle_file, obstacle_file_within, obstacle_folder_for_entry])
def test_what_stands_in_the_way_is_left_alone(obstacle, cache):
    obstacle(cache)
    for _ in range(2):
        library.clear()
        loaded = Times(3).load()
        assert (loaded.origin, call(loaded)) == ("compiled", 6.0)
    assert not list(cache.parent.rglob("*.part")) if cache.parent.is_dir() else cache.parent.is_file()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    "broken", ["stat", "makedirs", "open", "fstat", "read", "write", "utime", "replace", "scandir"]
)
def test_a_disk_that_fails_anywhere_only_costs_time(monkeypatch, cache, broken, code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    class Broken:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def __getattr__(self, name):
            return fail if name == broken else getattr(self.file, name)

    key = next(str(n) for n in range(10_000) if digest(str(n)).startswith("00"))  # whose write sweeps, too
    with monkeypatch.context() as patch:
        if broken in ("read", "write"):
            patch.setattr(library, "open", lambda *args: Broken(open(*args)), raising=False)  # noqa: SIM115
        else:
            patch.setattr(library.os, broken, fail)
        for _ in range(3):
            assert call(library.load(key, Times(3))) == 6.0
            library.clear()
    assert not list(cache.glob("*.part"))
    assert call(library.load(key, Times(3))) == 6.0


def digest(key):
    return hashlib.sha256(library._compiler().identity + key.encode()).hexdigest()


@pytest.mark.parametrize("value", ["", "0", "off", "OFF"])
def test_the_disk_cache_can_be_turned_off(monkeypatch, tmp_path, value):
    monkeypatch.setenv("KOUBAI_CACHE", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert library._folder() is None
    Times(3).load()
    library.clear()
    assert Times(3).load().origin == "compiled"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.cache/koubai"),
        ("linux", {"HOME": "/home/me", "XDG_CACHE_HOME": "/var/me"}, "/var/me/koubai"),
        ("linux", {"HOME": "/home/me", "XDG_CACHE_HOME": "not/absolute"}, "/home/me/.cache/koubai"),
        ("freebsd14", {"HOME": "/home/me"}, "/home/me/.cache/koubai"),
        ("darwin", {"HOME": "/Users/me", "XDG_CACHE_HOME": "/var/me"}, "/Users/me/Library/Caches/koubai"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/koubai/Cache"),
        ("linux", {"HOME": "/home/me", "KOUBAI_CACHE": "~/here"}, "/home/me/here"),
        ("linux", {}, None),
        ("darwin", {}, None),
    ],
)
@posix
def test_the_folder_follows_the_platform(monkeypatch, platform, environment, folder):
    import pwd

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "KOUBAI_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert library._cache_folder() == folder


@posix
def test_without_a_home_all_works(monkeypatch):
    import pwd

    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    for name in ("HOME", "XDG_CACHE_HOME", "KOUBAI_CACHE"):
        monkeypatch.delenv(name, raising=False)
    assert call(Times(3).load()) == 6.0


@posix
def test_only_this_user_can_write_to_the_folder_and_its_entries(cache):
    mask = os.umask(0)
    try:
        Times(3).load()
    finally:
        os.umask(mask)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert entry(cache).stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702])
@pytest.mark.parametrize("what", ["folder", "entry"])
def test_what_others_can_write_to_is_not_run(cache, what, mode):
    Times(3).load()
    (cache if what == "folder" else entry(cache)).chmod(mode)
    library.clear()
    assert Times(3).load().origin == "compiled"
    library.clear()
    # An entry is replaced by one that can be trusted; a folder stays out of use until its owner mends it.
    assert Times(3).load().origin == ("compiled" if what == "folder" else "disk")


@posix
@pytest.mark.parametrize("what", ["folder", "entry"])
def test_what_another_user_owns_is_not_run(monkeypatch, cache, what):
    Times(3).load()
    library.clear()
    with monkeypatch.context() as patch:
        mine = os.geteuid()
        # The one is asked for twice (once for the folder, once for the entry), by this answer.
        answers = iter([mine + 1] * 9 if what == "folder" else [mine, mine + 1, *[mine] * 9])
        patch.setattr(os, "geteuid", lambda: next(answers))
        assert Times(3).load().origin == "compiled"
    library.clear()
    assert Times(3).load().origin == "disk"


@posix
def test_an_entry_that_is_a_link_is_not_followed(cache, tmp_path):
    Times(3).load()
    path = entry(cache)
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    library.clear()
    assert Times(3).load().origin == "compiled"
    assert not path.is_symlink()


def test_the_sweep_takes_what_was_not_used_for_longest(monkeypatch, cache):
    cache.mkdir(parents=True)
    for n in range(10):
        path = cache / f"{n}{library._SUFFIX if n else '.part'}"
        path.write_bytes(bytes(100))
        os.utime(path, (n, n))
    (cache / "mine.txt").write_bytes(bytes(10_000))
    monkeypatch.setattr(library, "DISK_LIMIT", 1000)
    library._sweep(str(cache))
    assert len(list(cache.iterdir())) == 11
    monkeypatch.setattr(library, "DISK_LIMIT", 999)
    library._sweep(str(cache))
    assert sorted(p.stem for p in cache.iterdir()) == ["3", "4", "5", "6", "7", "8", "9", "mine"]


def test_writing_sweeps_once_in_256_keys(monkeypatch, cache):
    monkeypatch.setattr(library, "DISK_LIMIT", 1)
    keys = [str(n) for n in range(10_000)]
    sweeping = next(key for key in keys if digest(key).startswith("00"))
    others = [key for key in keys if not digest(key).startswith("00")][:5]
    for key in others:
        library.load(key, Times(3))
    assert len(list(cache.iterdir())) == 5
    library.load(sweeping, Times(3))
    assert list(cache.iterdir()) == []


def test_use_makes_an_entry_young(cache):
    Times(3).load()
    os.utime(entry(cache), (1, 1))
    library.clear()
    assert Times(3).load().origin == "disk"
    assert entry(cache).stat().st_mtime > 1e9


SHARE = """
import ctypes, os
from koubai.execute import library

library.available()
gate, opener = os.pipe()
children = []
for _ in range(20):
    children.append(os.fork())
    if children[-1] == 0:
        os.close(opener)
        os.read(gate, 1)  # all start when the parent closes the other end
        origins = []
        for n in [*range(12), *range(12)]:
            if n == 0:
                library.clear()
            loaded = library.load(str(n), lambda: TIMES.format(n))
            assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(loaded.address("times"))(2.0) == 2.0 * n
            origins.append(loaded.origin)
        os.write(1, (" ".join(origins) + os.linesep).encode())
        os._exit(0)
os.close(opener)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


@forking
def test_20_processes_share_a_folder(cache):
    lines = python(f"TIMES = {TIMES!r}\n{SHARE}").splitlines()
    assert len(lines) == 20
    for line in lines:
        assert set(line.split()[:12]) <= {"compiled", "disk"}
        assert line.split()[12:] == ["disk"] * 12
    assert len(list(cache.iterdir())) == 12  # and no temporary file is left


# Threads and processes


def test_200_threads_compile_one_key_once():
    times = Times(3)
    barrier = threading.Barrier(200)

    def work(_):
        barrier.wait()
        loaded = times.load()
        return loaded.origin, call(loaded)

    with ThreadPoolExecutor(200) as pool:
        results = list(pool.map(work, range(200)))
    assert times.written == 1
    assert sorted(results) == [("compiled", 6.0)] + [("memory", 6.0)] * 199
    assert library._locks == {}


def test_threads_with_many_keys_and_a_small_memory(monkeypatch):
    monkeypatch.setattr(library, "MEMORY_LIMIT", 3)

    def work(thread):
        return all(call(Times(n).load()) == 2.0 * n for n in ((thread * 7 + k) % 12 for k in range(36)))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_threads_set_llvm_up_once(monkeypatch):
    compiler = library._compiler()
    entered, arrived, go_on = [], threading.Semaphore(0), threading.Event()

    def slow():
        entered.append(1)
        assert go_on.wait(60)
        return compiler

    def work(_):
        arrived.release()
        return library.available()

    monkeypatch.setattr(library, "_set_up", None)
    monkeypatch.setattr(library, "_start", slow)
    with ThreadPoolExecutor(20) as pool:
        results = pool.map(work, range(20))
        for _ in range(20):
            arrived.acquire()
        go_on.set()
        assert all(results)
    assert entered == [1]


def test_one_key_does_not_wait_for_another():
    other_is_loaded = threading.Event()

    def slow():
        assert other_is_loaded.wait(60)
        return TIMES.format(3)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(library.load, "times 3", slow)
        assert call(Times(4).load()) == 8.0
        other_is_loaded.set()
        assert call(waiting.result()) == 6.0


FORK = """
import ctypes, itertools, os, signal, threading
from koubai.execute import library

def use(n):
    loaded = library.load(f"times {n}", lambda: TIMES.format(n))
    assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(loaded.address("times"))(2.0) == 2.0 * n

def work(first):
    for n in itertools.count(first, 4):
        if stop.is_set():
            return
        use(n % 50)
        library.clear()

use(1)
stop = threading.Event()
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for thread in threads:
    thread.start()
for fork in range(12):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that waits for ever
        for n in (1, 2, 3, 1000 + fork):
            use(n)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
"""


@forking
def test_a_child_works_whatever_its_parents_threads_were_doing():
    python(f"TIMES = {TIMES!r}\n{FORK}")


def test_what_some_systems_lack_is_not_needed(cache):
    python("""
        import os

        for name in ("sched_getaffinity", "fork", "register_at_fork", "O_NOFOLLOW"):
            if hasattr(os, name):
                delattr(os, name)
        import numpy as np
        import koubai as kb
        from koubai.execute import library, update

        assert library.processors() == os.cpu_count()
        run = kb.minimize(lambda x: x @ x, np.ones(2), kb.SGD(lr=1e-4), max_steps=5000)
        optimizer, x = kb.Adam(), np.ones(update.THREADED)
        for _ in range(3):
            optimizer.update(x, x)
        from koubai.descent.many import minimize_many
        minimize_many(lambda x: x @ x, np.ones((50, 2)), kb.SGD(lr=0.1))
    """)
    if library.available():
        assert list(cache.iterdir())


# Without llvmlite


def test_llvmlite_is_imported_late():
    python("import sys, koubai, koubai.execute.library; assert 'llvmlite' not in sys.modules")


@pytest.mark.parametrize(
    "damage",
    [
        "sys.modules['llvmlite'] = None",  # not installed
        "import llvmlite.binding as b; del b.create_lljit_compiler",  # too old
        "import llvmlite.binding as b; b.check_jit_execution = lambda: 1 / 0",  # no memory may be run
    ],
)
def test_without_llvmlite_all_is_said_once(damage):
    python(f"""
        import sys, threading, warnings
        {damage}
        from koubai.errors import CompileError, CompileWarning
        from koubai.execute import library

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            threads = [threading.Thread(target=library.available) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert library.available() is False
            assert library.has_fma() is False
            try:
                library.load("key", lambda: "")
            except CompileError as error:
                assert "llvmlite" in str(error)
            else:
                raise AssertionError
        (warning,) = caught
        assert warning.category is CompileWarning
        assert "pip install" in str(warning.message) and "times as long" in str(warning.message)
        """)


def test_the_warning_can_be_an_error_and_still_comes_once():
    python("""
        import sys
        sys.modules["llvmlite"] = None
        from koubai.errors import CompileWarning
        from koubai.execute import library

        try:
            library.available()
        except CompileWarning:
            pass
        else:
            raise AssertionError
        assert library.available() is False
        """)


def test_a_linker_serves_so_many_libraries_and_then_goes_with_them(monkeypatch):
    """LLVM keeps something of every library that a linker ever had."""
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    monkeypatch.setattr(library, "_LINKED", 4)
    library.clear()
    made = [
        library.load(f"linker {k}", lambda: "define double @f(double %x) {\n  ret double %x\n}\n") for k in range(12)
    ]
    linkers = [weakref.ref(one.code[0]) for one in made]
    assert 3 <= len({id(linker()) for linker in linkers}) <= 4
    library.clear()
    del made
    gc.collect()
    assert sum(linker() is not None for linker in linkers) <= 4  # the one in use


def test_a_list_of_passes_serves_many_texts_and_a_builder_one(monkeypatch):
    """LLVM keeps something of a list for ever; a builder's second text would call back to what the first one freed."""
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    llvm, made = library._compiler().llvm, []

    def counting(name, create):
        def counted(*args):
            made.append(name)
            return create(*args)

        return counted

    for name in ("create_pass_builder", "create_new_module_pass_manager"):
        monkeypatch.setattr(llvm, name, counting(name, getattr(llvm, name)))
    for k in range(12):
        library.load(f"passes {k}", lambda: "define double @f(double %x) {\n  ret double %x\n}\n")
    assert made == ["create_pass_builder"] * 12


def test_compiling_says_nothing():
    """LLVM writes to the process's own stderr, which no warning filter sees."""
    code = """
import numpy as np
from koubai.execute.loops import compile_loops
from support.native import compile_native
from koubai.graph.call import trace
for k in range(1, 11):
    compile_loops(trace(lambda x: np.sum(np.sin(k * x) * np.cos(x) + np.exp(x)), np.ones(100_000)))
    compile_native(trace(lambda x: np.sin(k * x[0]) * np.cos(x[1]) * np.log(x[0]), np.ones(2)))
print("done")
"""
    environment = os.environ | {"KOUBAI_CACHE": "off"}
    tests = Path(__file__).parent
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, cwd=tests
    )
    assert (ran.stdout, ran.stderr) == ("done\n", "")
