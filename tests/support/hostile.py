"""Hostile text and files: whatever is in them, koubai answers with what was meant or with an error of its own.

A sample is in the suite; all of it, with the time and the memory that each took, is one command:

    PYTHONPATH=src:tests python -m support.hostile --files 10000 --expressions 20000
"""

from __future__ import annotations

import argparse
import io
import json
import random
import string
import sys
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import koubai as kb
from koubai.errors import KoubaiError
from koubai.functions.expression import CONSTANTS, FUNCTIONS

# -- text -------------------------------------------------------------------------------------------------------------

NUMBERS = ["0", "1", "2", "3", "10", "0.5", ".25", "1.5e-3", "7.", "2E1", "pi", "e"]


def random_text(rng: random.Random, depth: int) -> str:
    """A well-formed expression in x, y, z; brackets only now and then, so that precedence is at work."""
    space = rng.choice(["", " "])
    kind = rng.random()
    if depth == 0 or kind < 0.15:
        return rng.choice(["x", "y", "z", "x", "y", "z", rng.choice(NUMBERS)])
    if kind < 0.6:
        op = rng.choice(["+", "-", "*", "/", "//", "%"])
        return random_text(rng, depth - 1) + space + op + space + random_text(rng, depth - 1)
    if kind < 0.68:
        return f"({random_text(rng, depth - 1)}){space}**{space}{rng.choice(['2', '3', '-1', '0.5', '-2', 'y'])}"
    if kind < 0.74:
        return rng.choice("-+") + space + random_text(rng, depth - 1)
    if kind < 0.8:
        return f"({space}{random_text(rng, depth - 1)})"
    name = rng.choice(list(FUNCTIONS))
    args = [random_text(rng, depth - 1) for _ in range(FUNCTIONS[name][0])]
    if name == "where":
        ops = rng.choices(["<", "<=", ">", ">=", "==", "!="], k=rng.choice([1, 1, 2]))
        args[0] = "".join([args[0], *(f" {op} {random_text(rng, depth - 1)}" for op in ops)])
    return f"{name}({', '.join(args)})"


ATTACKS = [
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "x.__class__.__mro__",
    "getattr(x, '__class__')",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd').read()",
    "compile('1', '', 'eval')",
    "globals()",
    "breakpoint()",
    "exit()",
    "(lambda: 0)()",
    "lambda x: x",
    "[x for x in (1, 2)]",
    "{x: 1 for x in y}",
    "(i for i in x)",
    "(y := 3)",
    "f'{x}'",
    "'%s' % x",
    "b'x'",
    "x[0:10**9]",
    "x if y else z",
    "not x",
    "x and y",
    "x or y",
    "x is y",
    "x in y",
    "x @ y",
    "x << 9999999",
    "~x",
    "await x",
    "yield x",
    "*x",
    "**x",
    "sin(*x)",
    "sin(**x)",
    "sin(x=1)",
    "...",
    "Ellipsis()",
    "1j",
    "True",
    "None",
    "9**9**9**9",
    "9**9**9**9*x",
    "x**9**9**9",
    "(((9**9)**9)**9)**99999",
    "2**1000**1000*x",
    "1e99999*x",
    "x; y",
    "x\ny",
    "x\\\ny",
    "import os",
    "del x",
    "x = 1",
    "assert x",
    "# comment",
    "x # y",
    "type(x)",
    "__builtins__",
    "__debug__",
    "print(x)",
    "help()",
    "sin.__call__(x)",
    "sin(sin)",
    "where.x",
    "where(__import__('os') == 1, x, y)",
    "where(x < (y := 2), x, y)",
    "ｓin(x)",
    "𝓍**2",
    "x²",
    "ﬁ(x)",
    "__ｉmport__('os')",
    "ℯ**x",
    "x\u200b+y",
    "\u202ex+y",
    "x\0y",
    "\0",
    "\ud800",
    "\ufeffx",
    "٣*x",
    "𝟗**𝟗",
]
SOUP = [
    *FUNCTIONS,
    *CONSTANTS,
    *["x", "y", "z", "x0", "x1", "x2", "_", "__class__", "lambda", "for", "in", "if", "else", "and", "None", "True"],
    *["+", "-", "*", "/", "//", "%", "**", "(", ")", ",", "<", "<=", "==", "!=", ">", "=", ":=", ".", "[", "]"],
    *["{", "}", ":", ";", "'", '"', "\\", "\n", "\0", "@", "~", "^", "&", "|", "0", "1", "9", "999", "1e308", "0.5"],
    *["1e-300", " ", " ", " ", "²", "ｘ", "π"],
]
PLAIN_SOUP = ["x", "y", "2", "0.5", "+", "-", "*", "/", "**", "(", ")", ",", "sin(", "where(", "<", "min("]


def hostile_texts(count: int, seed: int = 5000) -> Iterator[str]:
    """Text that somebody may give `kb.parse`: attacks, soup, formulas with a few wrong letters, and right ones."""
    rng = random.Random(seed)

    def soup(words):
        return "".join(rng.choices(words, k=rng.randint(1, 30)))

    def mutation():
        text = list(random_text(rng, 3))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text) + 1)
            text[at : at + rng.randint(0, 1)] = rng.choice([*string.printable, *SOUP, ""])
        return "".join(text)

    def deep():
        n = rng.randint(50, 6000)
        opening, middle, closing = rng.choice(
            [
                ("(", "x", ")"),
                ("sin(", "x", ")"),
                ("-", "x", ""),
                ("x+", "x", ""),
                ("x**", "x", ""),
                ("x**-", "x", ""),
                ("9**", "9", ""),
                ("where(x<1,x,", "x", ")"),
                ("[", "x", "]"),
                ("x<", "x", ""),
                ("(", "", ""),
                ("x,", "x", ""),
                ("lambda:", "x", ""),
            ]
        )
        return opening * n + middle + closing * n

    def long():
        return rng.choice(["x", "1", " ", "x+", "(", "é", "9**", "\0", "sin(", "1e"]) * rng.randint(1_000, 200_000)

    def characters():
        return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randint(1, 20)))

    def numbered():
        names = [f"x{rng.randrange(10 ** rng.randint(1, 31))}" for _ in range(rng.randint(1, 4))]
        return rng.choice(["+", "*", "-"]).join(names)

    def attack():
        text = rng.choice(ATTACKS)
        return rng.choice([text, f"x + {text}", f"sin({text})", f"({text})**2", f"where(x < {text}, x, y)", text * 2])

    makers = [
        numbered,
        attack,
        lambda: soup(SOUP),
        lambda: soup(PLAIN_SOUP),
        mutation,
        lambda: random_text(rng, 3),
        deep,
    ]
    for _ in range(count):
        yield rng.choices([*makers, characters, long], weights=[1, 4, 4, 4, 4, 2, 2, 1, 0.3])[0]()


# -- files ------------------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).standard_normal((24, 3))
Y = (X.sum(axis=1) > 0).astype(np.int64)


def _bowl(x: Any) -> Any:
    return np.sum(np.cosh(x) - 1)


def _two(p: Any) -> Any:
    return np.sum(p["W"] ** 2) + (p["b"] - 1) ** 2


def _fitted(p: Any, X: Any, y: Any) -> Any:
    return np.mean((X @ p["w"] + p["b"] - y) ** 2)


def _net(*layers: Any, **options: Any) -> kb.nn.Network:
    nn = kb.nn
    first = layers or (nn.Dense(4), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Dense(2))
    return nn.Network(first, nn.CrossEntropy(label_smoothing=0.1), **options)


def _images() -> kb.nn.Network:
    nn = kb.nn
    layers = nn.Conv2D(2, 3, padding="same"), nn.LeakyReLU(), nn.MaxPool2D(2), nn.Flatten(), nn.LayerNorm(), nn.Dense(2)
    return _net(*layers, dtype=np.float64).build((1, 4, 4))


def _words() -> kb.nn.Network:
    return _net(kb.nn.Embedding(5, 2), kb.nn.Flatten(), kb.nn.Dense(2)).build((3,))


SCHEDULE = kb.schedules.warmup(kb.schedules.plateau(0.05, patience=3), steps=4)
BATCHES = kb.nn.batches(X, Y, size=8, seed=2)
W = {"w": np.zeros(3), "b": 0.0}

ROWS = zip(X[:, 0].tolist(), X[:, 1].tolist(), Y.tolist(), strict=True)
TABLE = "a,b,c\n" + "".join(f"{a},{b},{c}\n" for a, b, c in ROWS)
QUOTED = '1,"2.5",yes\n3,4e-3,no\n\n5,6,"a ""word"""\n'
LARGE = "1;2;9007199254740993\n3;4;-9223372036854775808\n"
TWO = {"W": np.ones((2, 2)), "b": 0.0}
NESTED = [np.ones(2), {"a": np.ones(2)}]


def _nested(p: Any) -> Any:
    return _bowl(p[0]) + _bowl(p[1]["a"])


# name -> (write a good file, read it)
Reader = tuple[Callable[[Path], Any], Callable[[Path], Any]]
READERS: dict[str, list[Reader]] = {
    "run": [
        (lambda path: kb.minimize(_bowl, [0.3, 0.4], kb.SGD(lr=0.1), max_steps=9).save(path), kb.load),
        (lambda path: kb.minimize(_two, TWO, kb.SGD(lr=SCHEDULE)).save(path), kb.load),
        (lambda path: kb.minimize(kb.parse("(x-1)**2 + y**2"), [2.0, 2.0], bounds=(0, 5)).save(path), kb.load),
        (lambda path: kb.minimize(_nested, NESTED).save(path), kb.load),
        (lambda path: _net().fit(X, Y, "adam", epochs=2, validation=0.25).save(path), kb.load),
    ],
    "checkpoint": [
        (
            lambda path: kb.minimize(_bowl, [0.3, 0.4], "lbfgs", max_steps=2, checkpoint=path, bounds=(-1, 1)),
            lambda path: kb.resume(path, _bowl, max_steps=9),
        ),
        (
            lambda path: kb.minimize(_two, TWO, kb.Adam(lr=0.1), max_steps=9, checkpoint=path),
            lambda path: kb.resume(path, _two, max_steps=12),
        ),
        (
            lambda path: kb.minimize(_fitted, W, kb.SGD(lr=SCHEDULE), batches=BATCHES, max_steps=7, checkpoint=path),
            lambda path: kb.resume(path, _fitted, batches=BATCHES, max_steps=9),
        ),
        (
            lambda path: _net().fit(X, Y, "adam", epochs=1, batch_size=8, checkpoint=path),
            lambda path: _net().fit(X, Y, "adam", epochs=2, batch_size=8, resume=path),
        ),
        (
            lambda path: kb.fit(_fitted, W, BATCHES, kb.SGD(lr=SCHEDULE), epochs=2, checkpoint=(path, 2)),
            lambda path: kb.fit(_fitted, W, BATCHES, kb.SGD(lr=SCHEDULE), epochs=3, resume=path),
        ),
    ],
    "network": [
        (lambda path: _net().build((3,)).save(path), kb.nn.Network.load),
        (lambda path: _images().save(path), kb.nn.Network.load),
        (lambda path: _words().save(path), kb.nn.Network.load),
    ],
    "csv": [
        (lambda path: path.write_text(TABLE), kb.nn.read_csv),
        (lambda path: path.write_text(QUOTED, encoding="utf-8-sig"), kb.nn.read_csv),
        (lambda path: path.write_text(LARGE), lambda path: kb.nn.read_csv(path, delimiter=";")),
    ],
}

VALUES = [
    *[None, True, False, 0, 1, -1, 2, 3, 7, 40_000_000, 2**31, 2**62, 2**63, 2**64, 10**40, -(2**63), 10**400],
    *[0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")],
    *["", "x", "adam", "SGD", "Schedule", "plot", "float64", "object", "__class__", "os.system", "converged", "9" * 99],
    *[[], [0], [1, 2], [None], [[]], [[2, 2]], [1e400], ["a", "b"], {}, {"a": 1}, {"schedule": "plot"}],
    *[{"schedule": "Any"}, {"schedule": "constant", "lr": 0.1}],
    *[{"schedule": "warmup", "after": {"schedule": "np"}, "steps": 1}],
    *[{"class": name, "given": {}} for name in ("Layer", "Weights", "MSE", "fitting")],
    *[{"class": "Dense", "given": {"units": 40_000_000}}],
]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*path, key))


def _changed_header(header: dict[str, Any], rng: random.Random) -> Any:
    """Return a header with a field of another value, of another name, twice, or gone."""
    header = json.loads(json.dumps(header))
    *way, last = rng.choice([place for place in _places(header) if place])
    inside = header
    for key in way:
        inside = inside[key]
    kind = rng.random()
    if kind < 0.6:
        inside[last] = rng.choice(VALUES)
    elif kind < 0.75:
        del inside[last]
    elif kind < 0.85 and isinstance(inside, dict):
        inside[rng.choice(["x", "lr", "__init__", "semantics", "", "units"])] = rng.choice(VALUES)
    elif isinstance(inside, list):
        inside.insert(last, rng.choice([inside[last], *VALUES]))
    elif isinstance(inside[last], int | float) and not isinstance(inside[last], bool):
        inside[last] = rng.choice([-inside[last], inside[last] + 1, inside[last] * 1e7, int(inside[last]) * 10**7])
    else:
        inside[last] = rng.choice(["@deep", [inside[last]]])
    return header


def _changed_array(array: Any, rng: random.Random) -> Any:
    """Return an array of another dtype or shape, or with other numbers."""
    kind = rng.randrange(7)
    if kind == 0:
        return array.astype(rng.choice(["f2", "f4", "f8", "i4", "i8", "u1", "?", "c16", "U3", "S3", ">f8", "M8[s]"]))
    if kind == 1:
        return array[None] if array.ndim < 30 else array
    if kind == 2:
        return array.ravel()[: rng.randint(0, array.size)]
    if kind == 3:
        return np.concatenate([array.ravel(), array.ravel()])
    if kind == 4:
        return np.asfortranarray(array.T)
    if array.size and array.dtype.kind in "fi":
        array = array.copy()
        worst = [np.nan, np.inf, -np.inf, 1e308, -1.0] if array.dtype.kind == "f" else [-1, 2**62, -(2**63), 0]
        array.ravel()[rng.randrange(array.size)] = rng.choice(worst)
        return array
    return np.array(rng.choice(VALUES[:9]), dtype=object) if kind == 5 else np.array("text")


def _rewritten(good: bytes, rng: random.Random) -> bytes:
    """Return an archive that is one, with a field, an array or a part of it changed."""
    with np.load(io.BytesIO(good), allow_pickle=False) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")[()]))
    kind = rng.random()
    name = rng.choice([*arrays])
    if kind < 0.55:
        header = _changed_header(header, rng)
    elif kind < 0.85:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays[name] = _changed_array(arrays[name], rng)
    elif kind < 0.9:
        del arrays[name]
    elif kind < 0.95:
        arrays[rng.choice(["x", "state.99", "params.7.W", "../x", "history.t.t", ""])] = arrays[name]
    text = json.dumps(header, ensure_ascii=False).replace('"@deep"', "[" * 20_000 + "]" * 20_000)
    if rng.random() < 0.05:
        text = rng.choice(["", "null", "[" * 100_000, "{}", text[:-1], text * 2, "1" * 5000, f'{{"a": {text}}}', "NaN"])
    out = io.BytesIO()
    (np.savez_compressed if rng.random() < 0.03 else np.savez)(out, header=np.array(text), **arrays)
    data = out.getvalue()
    if rng.random() < 0.08:  # of one part, that it is far larger than it is, or twice there
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        victim = rng.choice([*parts])
        shape = rng.choice([b"(1000000000000,)", b"(1, -1)", b"(3, )", b"(9, 99999999999999999999)", b"(None,)"])
        old = parts[victim]
        start, end = old.find(b"'shape': ") + 9, old.find(b"), }") + 1
        parts[victim] = rng.choice([old[:start] + shape + old[end:], b"", old[:60], old + b"x" * 99, bytes(2**24)])
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for each, content in parts.items():
                archive.writestr(each, content)
                if rng.random() < 0.05:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        archive.writestr(each, content)
        data = out.getvalue()
    return data


def _damaged(good: bytes, rng: random.Random) -> bytes:
    """Return a file with other bytes here and there."""
    data = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 5, 30])):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(6)
        if kind == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            data[at : at + 1] = bytes([data[at] ^ (1 << rng.randrange(8))]) if at < len(data) else b""
        elif kind == 2:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 40)))
        elif kind == 4:
            data[at : at + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"PK\1\2", b"PK\3\4", b"PK\5\6", b"1e99", b"\n"]
            )
        else:
            end = rng.randrange(len(data) + 1)
            data[at:at] = data[min(at, end) : max(at, end)]
        if not data:
            break
    return bytes(data[: rng.randrange(len(data) + 1)]) if rng.random() < 0.1 else bytes(data)


def good_files(reader: str, folder: Path) -> list[tuple[bytes, Callable[[Path], Any]]]:
    """Return what every kind of file holds that this reader reads, with the reader."""
    found = []
    for k, (write, read) in enumerate(READERS[reader]):
        path = folder / f"{reader}{k}"
        write(path)
        read(path)
        found.append((path.read_bytes(), read))
    return found


def hostile_files(reader: str, count: int, folder: Path, seed: int = 0) -> Iterator[tuple[Path, Callable[[Path], Any]]]:
    """Yield files that this reader may be given, one after another under one name, with the reader."""
    rng, path, good = random.Random(f"{reader} {seed}"), folder / "hostile", good_files(reader, folder)
    for _ in range(count):
        data, read = rng.choice(good)
        if reader == "csv" or rng.random() < 0.3:
            path.write_bytes(_damaged(data, rng))
        else:
            path.write_bytes(_rewritten(data, rng))
        yield path, read


def main() -> int:
    """Try all of them; say what was slow, large, or answered by an error of somebody else's."""
    parser = argparse.ArgumentParser(description="Give koubai hostile files and expressions.")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--expressions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    bad = 0
    tracemalloc.start()

    def attempt(what: str, ask: Callable[[], Any], keep: Callable[[], str]) -> bool:
        nonlocal bad
        tracemalloc.reset_peak()
        before, start = tracemalloc.get_traced_memory()[0], time.process_time()
        problem, taken = "", False
        try:
            ask()
            taken = True
        except KoubaiError:
            pass
        except BaseException as error:
            problem = f"{type(error).__name__}: {error}"
        seconds, size = time.process_time() - start, (tracemalloc.get_traced_memory()[1] - before) / 1e6
        slowest[0], largest[0] = max(slowest[0], seconds), max(largest[0], size)
        if problem or seconds > 1 or size > 200:
            bad += 1
            print(f"{what}: {seconds:.2f} s, {size:.0f} MB, {problem[:300]}; {keep()}")
        return taken

    for reader in READERS:
        slowest, largest, taken = [0.0], [0.0], 0
        with TemporaryDirectory() as folder:
            for k, (path, read) in enumerate(hostile_files(reader, given.files, Path(folder), given.seed)):

                def keep(path: Path = path, name: str = f"hostile-{reader}-{k}") -> str:
                    kept = Path(f"/tmp/{name}")
                    kept.write_bytes(path.read_bytes())
                    return str(kept)

                taken += attempt(f"{reader} {k}", lambda path=path, read=read: read(path), keep)  # type: ignore[misc]
        print(
            f"{reader}: {given.files} files, {taken} read, at most {slowest[0]:.2f} s, {largest[0]:.0f} MB", flush=True
        )
    slowest, largest, taken = [0.0], [0.0], 0
    for text in hostile_texts(given.expressions, given.seed):

        def ask(text: str = text) -> Any:
            f = kb.parse(text)
            with np.errstate(all="ignore"):
                return f(0.7 if len(f.variables) == 1 else np.linspace(0.1, 0.9, len(f.variables)))

        taken += attempt("expression", ask, lambda text=text: repr(text[:100]))  # type: ignore[misc]
    print(f"expressions: {given.expressions}, {taken} read, at most {slowest[0]:.2f} s, {largest[0]:.0f} MB")
    print(f"{bad} bad")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
