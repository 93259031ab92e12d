"""Idioms: text, hashing, stairs, and functions that have no derivative to speak of."""

# ruff: noqa: E501  (a short program is read best on one line)

from .writing import idiom

# --- text that x is read back from: only differences can follow
idiom(
    "x through text",
    """
import ast
import decimal
import fractions
import io
import json
import re

def f(x):
    s = float(np.sum(x))
    v = $read
    return $a * v**2 + v + np.sum(x**2)
""",
    expect="differences",
    tolerance=1e-5,
    slots={
        "read": (
            "float(str(s))",
            "float(repr(s))",
            "float(f'{s:.17g}')",
            "float('%.17g' % s)",
            "float('{:.16e}'.format(s))",
            "json.loads(json.dumps({'s': s}))['s']",
            "ast.literal_eval(repr([s]))[0]",
            "float(np.loadtxt(io.StringIO(f'{s:.17g}')))",
            "float(decimal.Decimal(str(s)))",
            "float(decimal.Decimal(s))",
            "float(fractions.Fraction(s))",
            "float.fromhex(s.hex())",
            "eval(repr(s))",
            "float(re.match(r'(.*)', repr(s)).group(1))",
            "float(np.format_float_positional(s, 17))",
            "float(np.array2string(np.float64(s), precision=17))",
            "s.as_integer_ratio()[0] / s.as_integer_ratio()[1]",
            "np.array([repr(s)]).astype(float)[0]",
            "float(bytes(repr(s), 'ascii'))",
            "np.fromstring(repr(s), sep=' ')[0]",
            "float(decimal.Decimal(s).normalize())",
            "float(fractions.Fraction(repr(s)) * 3 / 3)",
        )
    },
    variants=22,
)
idiom(
    "text that is only read for its sign",
    """
def f(x):
    text = $text
    return ($a if text.lstrip("[").startswith("-") else $b) * np.sum(x**2) + np.sum(x)
""",
    slots={
        "text": (
            "str(float(np.sum(x)))",
            "f'{np.sum(x):.3f}'",
            "'%g' % np.sum(x)",
            "repr(float(np.sum(x)))",
            "format(float(np.sum(x)), '.2f')",
            "'{}'.format(np.sum(x))",
            "str(x)",
            "np.array2string(np.ravel(x))",
        )
    },
    variants=8,
)
idiom(
    "a message that is built and dropped",
    """
def f(x):
    message = $text
    return $F($a) + 0 * len(message)
""",
    slots={
        "text": (
            "f'x = {x}'",
            "str(x)",
            "repr(x)",
            "'%s' % (x,)",
            "f'{np.sum(x):10.4f}'",
            "'{0:>12}'.format(float(np.sum(x)))",
            "', '.join(map(str, np.ravel(x).tolist()))",
            "', '.join(f'{v:.2f}' for v in np.ravel(x))",
            "np.array2string(np.ravel(x), precision=2)",
            "str(np.ravel(x).tolist())",
        )
    },
    variants=10,
)
idiom(
    "a key made of text",
    """
gains = {"-": $a, "+": $b}

def f(x):
    key = f"{float(np.sum(x)):+.0f}"[0]
    return gains[key] * np.sum(x**2) + np.sum(x)

def change():
    gains.update({"-": $e, "+": $g})
""",
)
idiom(
    "a formula as text",
    """
formula = ["$a * s**2 + sin(s)"]

def f(x):
    return eval(formula[0], {"s": np.sum(x), "sin": np.sin, "cos": np.cos}) + np.sum(x**2)

def change():
    formula[0] = "$e * s**2 + cos(s)"
""",
)
idiom(
    "a formula that is compiled",
    """
code = [compile("$a * s**2 + math.sin(s)", "<formula>", "eval")]

def f(x):
    return eval(code[0], {"math": math}, {"s": np.sum(x)}) + np.sum(x**2)

def change():
    code[0] = compile("$e * s", "<formula>", "eval")
""",
)
idiom(
    "a function made by eval",
    """
f = eval("lambda x: $a * sum(x * x) + sum(sin(x))", {"sum": np.sum, "sin": np.sin})
""",
    alone=True,
)
idiom(
    "a function made by exec",
    """
space = {"mu": $a}
exec("from math import *\\nimport numpy\\ndef f(x):\\n    return mu * numpy.sum(x * x) + sqrt(1 + numpy.sum(x) ** 2)\\n", space)
f = space["f"]

def change():
    space["mu"] = $e
""",
    alone=True,
)
idiom(
    "a generated class",
    """
import dataclasses

Point = dataclasses.make_dataclass("Point", ["x", ("gain", float, $a)])

def f(x):
    point = Point(x)
    return point.gain * np.sum(point.x**2) + np.sum(x)
""",
)
idiom(
    "string.Template",
    """
import string

template = string.Template("$$gain")
gains = {"gain": "$a"}

def f(x):
    return $F(float(template.substitute(gains)))

def change():
    gains["gain"] = "$e"
""",
)

# --- by value: counting, sets, keys
idiom(
    "numbers as keys",
    """
from collections import Counter, defaultdict

def f(x):
    values = np.append(x, $tail).tolist()
    $count
    return $a * sum(v * c for v, c in table.items()) + np.sum(x**2)
""",
    slots={
        "tail": ("[np.ravel(x)[0], 0.5]", "[0.5, 0.5]"),
        "count": (
            "table = Counter(values)",
            "table = {v: values.count(v) for v in values}",
            "table = defaultdict(int)\n    for v in values:\n        table[v] += 1",
            "table = dict.fromkeys(values, 2)",
            "table = {}\n    for v in values:\n        table[v] = table.get(v, 0) + 1",
            "table = {v: 1 for v in set(values)}",
        ),
    },
    variants=12,
)
idiom(
    "a set of numbers",
    """
def f(x):
    values = np.append(x, [np.ravel(x)[0], 0.5]).tolist()
    return $a * sum(v * v for v in $set) + np.sum(x**2)
""",
    slots={
        "set": (
            "set(values)",
            "frozenset(values)",
            "{v for v in values}",
            "dict.fromkeys(values)",
            "sorted(set(values))",
            "set(values) | {0.3}",
            "set(values) - {0.5}",
            "np.unique(values)",
            "np.unique(values).tolist()",
            "set(values) & set(values[:-1])",
        )
    },
    variants=10,
)
idiom(
    "membership",
    """
marked = [0.25, 0.5]

def f(x):
    values = np.append(x, 0.5).tolist()
    return sum($a * v * v for v in values if $test) + np.sum(x**2)
""",
    slots={
        "test": (
            "v in marked",
            "v not in marked",
            "v in {0.5: 1}",
            "v in {0.5}",
            "v not in set(marked)",
            "values.index(v) > 0 or len(values) == 1",
            "values.count(v) == 1",
            "hash(v) == hash(0.5)",
            "v == 0.5",
            "v is not None",
            "not (v != 0.5)",
        )
    },
    variants=11,
)
idiom(
    "a key that is the largest",
    """
def f(x):
    table = {"a": $a * np.sum(x), "b": np.sum(x**2), "c": 0.3}
    best = $best
    return table[best] ** 2 + np.sum(np.cos(x)) + len(best)
""",
    slots={
        "best": (
            "max(table, key=table.get)",
            "min(table, key=lambda k: table[k])",
            "sorted(table, key=table.get)[1]",
            "max(table.items(), key=lambda item: item[1])[0]",
            "[k for k, v in table.items() if v == max(table.values())][0]",
            "{v: k for k, v in table.items()}[max(table.values())]",
        )
    },
    variants=6,
)
idiom(
    "numbers in tuples as keys",
    """
memo = {}

def step(v, n):
    if (v, n) not in memo:
        memo[v, n] = v if n == 0 else math.sin(step(v, n - 1)) + $a * v
    return memo[v, n]

def f(x):
    return sum(step(v, 3) for v in np.ravel(x).tolist()) + np.sum(x**2)
""",
)
idiom(
    "identity",
    """
def f(x):
    y = x * 1.0
    seen = {id(y): y, id(x): x}
    return $a * sum(np.sum(v**2) for v in seen.values()) + np.sum(x)
""",
)
idiom(
    "objects with numbers as keys",
    """
class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x

    def __hash__(self):
        return hash(self.x)

def f(x):
    points = {Point(v) for v in [*np.ravel(x).tolist(), 0.5, 0.5]}
    return $a * sum(p.x**2 for p in points) + np.sum(x)
""",
)
idiom(
    "equal numbers are merged",
    """
def f(x):
    values = sorted(np.append(x, [np.ravel(x)[0], 0.5]).tolist())
    kept = [v for i, v in enumerate(values) if i == 0 or v != values[i - 1]]
    return $a * sum(v * v for v in kept) + np.sum(x**2)
""",
)

# --- stairs so fine that they look like slopes: no trace follows them, and what is said must say so
idiom(
    "fine stairs",
    """
import decimal

T = np.linspace(-5, 5, 1000001)

def f(x):
    $stair
    return np.sum(y**2) + np.sum(y)
""",
    expect="aloud",
    slots={
        "stair": (
            "y = T[np.searchsorted(T, x)]",
            "y = np.round(x, 6)",
            "y = (x * 1e6).astype(np.int64) / 1e6",
            "y = np.floor(x * 1e6) / 1e6",
            "y = x // 1e-6 * 1e-6",
            "y = np.array([round(float(v), 6) for v in np.ravel(x)])",
            "y = np.array([int(v * 1e6) / 1e6 for v in np.ravel(x)])",
            "y = np.array([float(f'{v:.6f}') for v in np.ravel(x)])",
            "y = T[np.digitize(x, T)]",
            "y = np.rint(x * 1e6) * 1e-6",
            "y = np.trunc(x * 1e6) / 1e6",
            "y = np.ceil(x * 1e6) / 1e6",
            "y = np.array([float(np.float32(v)) for v in np.ravel(x)])",
            "y = np.asarray(x).astype(np.float32).astype(float)",
            "y = np.array([float(decimal.Decimal(float(v)).quantize(decimal.Decimal('0.000001'))) for v in np.ravel(x)])",
            "y = x - x % 1e-6",
            "y = np.array([math.floor(v * 1e6) / 1e6 for v in np.ravel(x)])",
            "y = np.array([divmod(float(v), 1e-6)[0] * 1e-6 for v in np.ravel(x)])",
        )
    },
    forms=(2, 1, 3),
    variants=18,
)
idiom(
    "a sum that is rounded",
    """
def f(x):
    return $round
""",
    expect="aloud",
    slots={
        "round": (
            "round(float(np.sum(x**2)), 6)",
            "np.round(np.sum(x**2) + np.sum(x), 7)",
            "float(f'{np.sum(x**2):.6f}')",
            "float('%.7g' % np.sum(x**2 + x))",
            "int(1e7 * np.sum(x**2)) / 1e7",
            "math.floor(1e6 * np.sum(x**2)) / 1e6",
        )
    },
    variants=6,
)
idiom(
    "coarse stairs",
    """
def f(x):
    return $stair
""",
    expect="flat",
    slots={
        "stair": (
            "np.sum(np.round(x))",
            "float(int(np.sum(x)))",
            "np.sum(x > 0) * 1.0",
            "np.sum(np.sign(x))",
            "float(np.argmax(np.append(x, 0)))",
            "np.sum(np.heaviside(x, 0.5))",
            "np.mean((x > 0) == 1)",
            "float(np.count_nonzero(x > 0))",
            "float(sum(v > 0 for v in np.ravel(x)))",
            "np.sum(np.floor(x)) ** 2",
        )
    },
    variants=10,
)

# --- f without its argument, or without any rule
idiom(
    "an argument that is ignored",
    """
W = np.array($vec)

def f(x):
    return $value
""",
    expect="constant",
    slots={
        "value": (
            "3.0",
            "np.sum(W**2)",
            "float(W @ W)",
            "np.float64(2.0)",
            "len(np.ravel(x)) * 1.0",
            "float(np.size(x))",
            "np.sum(np.zeros_like(x))",
            "$a",
        )
    },
    variants=9,
)
idiom(
    "simpleNet of the articles",
    """
class SimpleNet:
    def __init__(self):
        self.W = np.outer($vec, [1.0, -0.5, 0.2])

    def predict(self, x):
        return np.dot(x, self.W)

    def loss(self, x, t):
        z = self.predict(x)
        y = np.exp(z - np.max(z))
        return -np.sum(t * np.log(y / np.sum(y) + 1e-7))

net = SimpleNet()
inputs, t = np.array($vec), np.array([0, 0, 1])
f = $f
""",
    expect="constant",
    slots={"f": ("lambda W: net.loss(inputs, t)", "lambda x, *_: net.loss(inputs, t)")},
    alone=True,
    forms=(2, 3),
)
idiom(
    "simpleNet, put right",
    """
class SimpleNet:
    def __init__(self):
        self.W = np.outer($vec, [1.0, -0.5, 0.2])

    def predict(self, x):
        return np.dot(x, self.W)

    def loss(self, x, t):
        z = self.predict(x)
        y = np.exp(z - np.max(z))
        return -np.sum(t * np.log(y / np.sum(y) + 1e-7))

net = SimpleNet()
inputs, t = np.array($vec), np.array([0, 0, 1])

def f(x):
    net.W = np.outer(x, [1.0, $a, -0.3])
    return net.loss(inputs, t) + np.sum(x**2)

def change():
    t[:] = [1, 0, 0]
""",
    forms=(2, 3),
)
idiom(
    "numbers drawn without a seed",
    """
import random

def f(x):
    return $F($draw)
""",
    expect="aloud",
    slots={
        "draw": (
            "0.5 + np.random.rand()",
            "0.5 + random.random()",
            "0.5 + np.random.default_rng().uniform()",
            "1 + 0.1 * np.random.randn()",
            "0.5 + random.choice(range(1000)) / 1000",  # hardly ever the same twice
            "0.5 + np.random.uniform(0, 1)",
        )
    },
    variants=6,
)
idiom(
    "a generator from outside",
    """
import random

source = $source

def f(x):
    return $F(0.5 + source.random())
""",
    expect="aloud",
    slots={"source": ("random.Random(1)", "np.random.default_rng(1)", "np.random.RandomState(1)")},
)
idiom(
    "an iterator from outside",
    """
import itertools

source = $source

def f(x):
    return $F(next(source))
""",
    expect="aloud",
    slots={
        "source": (
            "itertools.cycle([$a, $e])",
            "itertools.count(1)",
            "(k / (k + 1) for k in itertools.count(1))",
            "iter(range(1, 10**6))",
        )
    },
)
idiom(
    "a count that enters the value",
    """
n = [0]

def f(x):
    n[0] += 1
    return $F($a + 0.1 * n[0])
""",
    expect="aloud",
)
idiom(
    "the time of day in the value",
    """
import time

def f(x):
    return $F(1 + time.perf_counter() % 1.0)
""",
    expect="aloud",
)
idiom(
    "a seed inside f",
    """
import random

def f(x):
    $draw
    return $F(0.5 + noise)
""",
    slots={
        "draw": (
            "noise = np.random.default_rng(3).uniform()",
            "noise = random.Random(3).random()",
            "noise = np.random.RandomState(3).rand()",
            "rng = np.random.default_rng(1)\n    noise = np.mean(rng.uniform(size=5))",
        )
    },
)
idiom(
    "a seed for all, inside f",
    """
import random

def f(x):
    $draw
    return $F(0.5 + noise)
""",
    slots={"draw": ("np.random.seed(0)\n    noise = np.random.rand()", "random.seed(0)\n    noise = random.random()")},
)
idiom(
    "a sample drawn in f",
    """
seed = [3]

def f(x):
    rng = np.random.default_rng(seed[0])
    sample = rng.normal(size=20) * $a + np.sum(x)
    return np.mean(np.log(1 + sample**2)) + np.sum(x**2)

def change():
    seed[0] = 4
""",
)
