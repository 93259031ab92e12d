"""Idioms: functions that leave something behind at each call: counters, logs, caches, records of the best."""

# ruff: noqa: E501  (a short program is read best on one line)

from .writing import idiom

COUNTERS = {  # how it starts, what f does, what it holds
    "a list": ("n = [0]", "n[0] += 1", "n[0]"),
    "a dict": ("n = {'calls': 0}", "n['calls'] += 1", "n['calls']"),
    "a name": ("n = 0", "$scope n\n    n += 1", "n"),
    "an object": ("class Count:\n    n = 0\n\ncount = Count()", "count.n += 1", "count.n"),
    "a class": ("class Count:\n    n = 0", "Count.n += 1", "Count.n"),
    "a slotted object": (
        "class Count:\n    __slots__ = ('n',)\n\ncount = Count()\ncount.n = 0",
        "count.n += 1",
        "count.n",
    ),
    "a dataclass": (
        "import dataclasses\n\n@dataclasses.dataclass\nclass Count:\n    n: int = 0\n\ncount = Count()",
        "count.n += 1",
        "count.n",
    ),
    "a namespace": ("from types import SimpleNamespace\n\ncount = SimpleNamespace(n=0)", "count.n += 1", "count.n"),
    "an array": ("n = np.zeros(1)", "n[0] += 1", "n[0]"),
    "an integer array": ("n = np.zeros(2, int)", "n[1] += 1", "n[1]"),
    "a Counter": ("from collections import Counter\n\nn = Counter()", "n['f'] += 1", "n['f']"),
    "a defaultdict": ("from collections import defaultdict\n\nn = defaultdict(int)", "n['f'] += 1", "n['f']"),
    "a method": (
        "class Count:\n    def __init__(self):\n        self.n = 0\n\n    def tick(self):\n        self.n += 1\n\ncount = Count()",
        "count.tick()",
        "count.n",
    ),
    "itertools.count": (
        "import itertools\n\nnumbers = itertools.count()\nlast = [0]",
        "last[0] = next(numbers)",
        "last[0]",
    ),
    "a deque": ("from collections import deque\n\nn = deque()", "n.append(1)", "len(n)"),
    "a set": ("n = set()", "n.add(len(n))", "len(n)"),
    "a ContextVar": (
        "from contextvars import ContextVar\n\nn = ContextVar('n', default=0)",
        "n.set(n.get() + 1)",
        "n.get()",
    ),
    "a lock": ("import threading\n\nlock = threading.Lock()\nn = [0]", "with lock:\n        n[0] += 1", "n[0]"),
    "a context manager": (
        "import contextlib\n\nn = [0]\n\n@contextlib.contextmanager\ndef counted():\n    n[0] += 1\n    yield",
        "with counted():\n        pass",
        "n[0]",
    ),
    "a file": (
        "import pathlib\n\npath = pathlib.Path(FOLDER, 'n')\npath.write_text('')",
        "path.write_text(path.read_text() + 'x')",
        "len(path.read_text())",
    ),
}
for name, (make, tick, read) in COUNTERS.items():
    idiom(
        f"a counter in {name}",
        f"{make}\nmu = {{'mu': $a}}\n\ndef f(x):\n    {tick}\n    return $F(mu['mu'])\n\n"
        f"def change():\n    mu['mu'] = $e\n\ndef probe():\n    return {read}\n",
        variants=3,
    )

LOGS = {  # how it starts, how f enters its loss, the number of entries, the last one
    "a list": ("log = []", "log.append($loss)", "len(log)", "log[-1]"),
    "a list of pairs": ("log = []", "log.append((len(log), $loss))", "len(log)", "log[-1][1]"),
    "a list of dicts": ("log = []", "log.append({'loss': $loss})", "len(log)", "log[-1]['loss']"),
    "a dict of lists": (
        "log = {'loss': [], 'k': []}",
        "log['loss'].append($loss)",
        "len(log['loss'])",
        "log['loss'][-1]",
    ),
    "a dict": ("log = {}", "log[len(log)] = $loss", "len(log)", "log[len(log) - 1]"),
    "a defaultdict": (
        "from collections import defaultdict\n\nlog = defaultdict(list)",
        "log['loss'].append($loss)",
        "len(log['loss'])",
        "log['loss'][-1]",
    ),
    "a deque": (
        "from collections import deque\n\nlog = deque(maxlen=3)\nn = [0]",
        "n[0] += 1; log.append($loss)",
        "n[0]",
        "log[-1]",
    ),
    "an attribute": (
        "class Log:\n    def __init__(self):\n        self.n, self.last = 0, None\n\nlog = Log()",
        "log.n += 1; log.last = $loss",
        "log.n",
        "log.last",
    ),
    "a list attribute": (
        "class Log:\n    def __init__(self):\n        self.losses = []\n\nlog = Log()",
        "log.losses.append($loss)",
        "len(log.losses)",
        "log.losses[-1]",
    ),
    "a slot": (
        "class Log:\n    __slots__ = ('n', 'last')\n\nlog = Log()\nlog.n = 0",
        "log.n += 1; log.last = $loss",
        "log.n",
        "log.last",
    ),
    "a class": ("class Log:\n    n, last = 0, None", "Log.n += 1; Log.last = $loss", "Log.n", "Log.last"),
    "a function's attribute": (
        "def log():\n    pass\n\nlog.n = 0",
        "log.n += 1; log.last = $loss",
        "log.n",
        "log.last",
    ),
    "an array": ("log, n = np.zeros(10_000), [0]", "log[n[0]] = $loss; n[0] += 1", "n[0]", "log[n[0] - 1]"),
    "an array.array": ("from array import array\n\nlog = array('d')", "log.append($loss)", "len(log)", "log[-1]"),
    "a namespace": (
        "from types import SimpleNamespace\n\nlog = SimpleNamespace(n=0, last=None)",
        "log.n += 1; log.last = $loss",
        "log.n",
        "log.last",
    ),
    "a heap": ("import heapq\n\nlog = []", "heapq.heappush(log, $loss)", "len(log)", "log[0]"),
    "a queue": ("import queue\n\nlog = queue.SimpleQueue()\nn = [0, 0.0]", "log.put($loss); n[0] += 1", "n[0]", "1.0"),
    "setdefault": (
        "log = {}",
        "log.setdefault('loss', []).append($loss)",
        "len(log.get('loss', ()))",
        "log['loss'][-1]",
    ),
    "a StringIO": (
        "import io\n\nlog, n = io.StringIO(), [0]",
        "log.write(f'{$loss}\\n'); n[0] += 1",
        "n[0]",
        "float(log.getvalue().split()[-1])",
    ),
    "a name": ("n, last = 0, None", "$scope n, last; n, last = n + 1, $loss", "n", "last"),
    "a csv writer": (
        "import csv\nimport io\n\nout = io.StringIO()\nlog, n = csv.writer(out), [0]",
        "log.writerow([n[0], $loss]); n[0] += 1",
        "n[0]",
        "float(out.getvalue().split(',')[-1])",
    ),
    "a dataclass's list": (
        "import dataclasses\n\n@dataclasses.dataclass\nclass Log:\n    losses: list = dataclasses.field(default_factory=list)\n\nlog = Log()",
        "log.losses.append($loss)",
        "len(log.losses)",
        "log.losses[-1]",
    ),
    "a named tuple": (
        "from typing import NamedTuple\n\nclass Row(NamedTuple):\n    loss: float\n\nlog = []",
        "log.append(Row($loss))",
        "len(log)",
        "log[-1].loss",
    ),
    "a weak dictionary's objects": (
        "class Row:\n    pass\n\nlog = []",
        "row = Row(); row.loss = $loss; log.append(row)",
        "len(log)",
        "log[-1].loss",
    ),
    "a closure": (
        "def build():\n    rows = []\n\n    def enter(loss):\n        rows.append(loss)\n\n    return rows, enter\n\nrows, enter = build()",
        "enter($loss)",
        "len(rows)",
        "rows[-1]",
    ),
    "a generator": (
        "rows = []\n\ndef writer():\n    while True:\n        rows.append((yield))\n\nlog = writer()\nnext(log)",
        "log.send($loss)",
        "len(rows)",
        "rows[-1]",
    ),
}
for name, (make, enter, count, last) in LOGS.items():
    lines = enter.replace("; ", "\n    ")
    idiom(
        f"a log in {name}",
        f"{make}\n\ndef f(x):\n    loss = $F($a)\n    {lines}\n    return loss\n\n"
        f"def probe():\n    return {count}\n\ndef last_entry():\n    return {last}\n",
        slots={"loss": ("loss", "float(loss)", "loss * 1.0")},
        variants=3,
    )

idiom(
    "a log of x",
    """
log = []

def f(x):
    log.append($kept)
    return $F($a)

def probe():
    return len(log)
""",
    slots={
        "kept": ("x", "np.copy(x)", "np.array(x) * 2", "(len(log), x)", "np.ravel(x).tolist()", "float(np.ravel(x)[0])")
    },
    variants=6,
)
idiom(
    "the best so far",
    """
$make

def f(x):
    loss = $F($a)
    $keep
    return loss
""",
    slots={
        "make": ("best = {'f': 1e9, 'x': None}",),
        "keep": (
            "if loss < best['f']:\n        best['f'], best['x'] = loss, x",
            "best['f'] = min(best['f'], loss)",
            "best.update(f=min(best['f'], float(loss)), x=np.array(x))",
            "best['f'] = loss if loss < best['f'] else best['f']",
            "best['f'] = np.minimum(best['f'], loss)",
            "best['x'] = best['x'] if loss >= best['f'] else np.copy(x)\n    best['f'] = np.fmin(loss, best['f'])",
        ),
    },
    variants=6,
)
idiom(
    "the best so far, of an object",
    """
class Problem:
    def __init__(self):
        self.best, self.best_x, self.n = np.inf, None, 0

    def evaluate(self, x):
        self.n += 1
        loss = $F($a)
        if loss < self.best:
            self.best, self.best_x = loss, x.copy()
        return loss

problem = Problem()
f = problem.evaluate

def probe():
    return problem.n
""",
    alone=True,
)
idiom(
    "a running mean of the loss",
    """
$make

def f(x):
    loss = $F($a)
    $keep
    return loss
""",
    slots={
        "make": ("state = {'mean': 0.0, 'n': 0}",),
        "keep": (
            "state['mean'] = 0.9 * state['mean'] + 0.1 * loss",
            "state['n'] += 1\n    state['mean'] += (loss - state['mean']) / state['n']",
            "state['mean'] += loss",
        ),
    },
    variants=4,
)
idiom(
    "a running mean of a layer",
    """
class Norm:
    def __init__(self):
        self.mean, self.momentum = 0.0, 0.9

    def forward(self, x):
        batch = np.mean(x)
        self.mean = self.momentum * self.mean + (1 - self.momentum) * batch
        return x - 0.3 * batch

norm = Norm()

def f(x):
    x = norm.forward(x)
    return $F($a)
""",
)
idiom(
    "a layer that keeps its input",
    """
class Layer:
    def __init__(self, scale):
        self.scale, self.x, self.out = scale, None, None

    def forward(self, x):
        self.x = x
        self.out = np.tanh(self.scale * x)
        return self.out

layers = [Layer($a), Layer($b)]

def f(x):
    for layer in layers:
        x = layer.forward(x)
    return $F($c)

def change():
    layers[1].scale = $e
""",
)
idiom(
    "a mask that a layer keeps",
    """
class Relu:
    def __init__(self):
        self.mask = None

    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

relu = Relu()

def f(x):
    y = relu.forward(x)
    return np.sum(y**2) + np.sum(x)
""",
    forms=(2, 3),
)
idiom(
    "a cache by the bytes of x",
    """
cache = {}

def f(x):
    key = np.asarray(x).tobytes()
    if key not in cache:
        cache[key] = $F($a)
    return cache[key]
""",
    expect="differences",
)
idiom(
    "a cache by the tuple of x",
    """
cache = {}

def f(x):
    key = tuple(np.ravel(x).tolist())
    if key not in cache:
        cache[key] = $F($a)
    return cache[key]
""",
)
idiom(
    "a cache by a number",
    """
cache = {}

def square(v):
    if v not in cache:
        cache[v] = v * v
    return cache[v]

def f(x):
    return $a * sum(square(v) for v in np.ravel(x).tolist()) + np.sum(x)
""",
)
idiom(
    "lru_cache over numbers",
    """
@functools.$cache
def bump(v):
    return math.exp(-v * v)

def f(x):
    return $a * sum(bump(v) for v in np.ravel(x).tolist()) + np.sum(x**2)
""",
    slots={"cache": ("lru_cache", "lru_cache(maxsize=2)", "cache")},
)
idiom(
    "a cache by integers",
    """
cache = {0: 0, 1: 1}

def fibonacci(n):
    if n not in cache:
        cache[n] = fibonacci(n - 1) + fibonacci(n - 2)
    return cache[n]

def f(x):
    return $F(fibonacci(6) / 8)
""",
)
idiom(
    "lru_cache over integers",
    """
@functools.lru_cache
def binomial(n, k):
    return 1 if k in (0, n) else binomial(n - 1, k - 1) + binomial(n - 1, k)

def f(x):
    return $F($a * binomial(5, 2) / 10)
""",
)
idiom(
    "a cached property",
    """
class Model:
    def __init__(self, data):
        self.data = np.array(data)

    @functools.cached_property
    def gram(self):
        return self.data @ self.data

    def loss(self, x):
        return $F(self.gram / 4)

model = Model($vec)
f = model.loss

def change():
    model.data = model.data * 2
    model.__dict__.pop("gram", None)
""",
    alone=True,
)
idiom(
    "a value remembered from the first call",
    """
first = []

def f(x):
    if not first:
        first.append($a)
    return $F(first[0])

def change():
    first[:] = [$e]
""",
)
idiom(
    "printing",
    """
def f(x):
    loss = $F($a)
    print($what)
    return loss
""",
    slots={
        "what": (
            "'loss', loss",
            "f'{loss:.3f}'",
            "'%.4g' % loss",
            "x",
            "repr(x)",
            "'at {} the loss is {:8.3f}'.format(x, float(loss))",
        )
    },
    variants=6,
)
idiom(
    "logging",
    """
import logging

logger = logging.getLogger("TAG")
logger.setLevel(logging.$level)
logger.propagate = False
logger.addHandler(logging.NullHandler())

def f(x):
    loss = $F($a)
    logger.debug("loss %.3f at %s", loss, x)
    return loss
""",
    slots={"level": ("DEBUG", "WARNING")},
)
idiom(
    "a warning of its own",
    """
import warnings

def f(x):
    loss = $F($a)
    if loss > -100:
        warnings.warn("a large loss", stacklevel=2)
    return loss
""",
)
idiom(
    "a clock",
    """
import time

spent = [0.0]

def f(x):
    start = time.perf_counter()
    loss = $F($a)
    spent[0] += time.perf_counter() - start
    return loss
""",
)
idiom(
    "an assertion",
    """
def f(x):
    assert $claim, "x is not what it should be"
    return $F($a)
""",
    slots={
        "claim": (
            "np.all(np.isfinite(x))",
            "np.sum(x**2) < 1e6",
            "np.ndim(x) <= 1",
            "isinstance(x, float | np.ndarray)",
        )
    },
)
idiom(
    "a name of the branch taken",
    """
from collections import Counter

taken = Counter()

def f(x):
    branch = "up" if np.sum(x) > 0 else "down"
    taken[branch] += 1
    return ($a if branch == "up" else $b) * np.sum(x**2) + np.sum(x)

def probe():
    return sum(taken.values())
""",
)
idiom(
    "a budget of calls",
    """
class Budget:
    def __init__(self, most):
        self.most, self.used = most, 0

    def spend(self):
        self.used += 1
        if self.used > self.most:
            raise RuntimeError("too many calls")

budget = Budget(100_000)

def f(x):
    budget.spend()
    return $F($a)

def probe():
    return budget.used
""",
)
idiom(
    "a scratch array outside",
    """
scratch = np.zeros($size)

def f(x):
    scratch[...] = 0.0
    scratch[: np.size(x)] = x
    scratch[...] = scratch**2
    return $a * np.sum(scratch) + np.sum(x)
""",
    slots={"size": ("3", "(4)")},
)
idiom(
    "a scratch array of an object",
    """
class Model:
    def __init__(self):
        self.out = np.empty($n)

    def __call__(self, x):
        np.multiply(x, $a, out=self.out)
        self.out += 0.3
        np.sin(self.out, self.out)
        return np.sum(self.out) + x @ x

f = Model()
""",
    forms=(2, 3, 1),
)
idiom(
    "a ring of the last points",
    """
ring, at = np.zeros((3, $n)), [0]

def f(x):
    ring[at[0] % 3] = x
    at[0] += 1
    return $F($a)

def probe():
    return at[0]
""",
    forms=(2, 3, 1),
)
idiom(
    "data sorted on the way",
    """
data = $vec

def f(x):
    data.sort()
    return $F(data[0])
""",
)
idiom(
    "a list that is used as a stack",
    """
def f(x):
    stack, total = [(np.sum(x), 3)], 0.0
    while stack:
        v, depth = stack.pop()
        total = total + v * v
        if depth:
            stack.extend([(0.4 * v, depth - 1), (math.sin(v), 0)])
    return total + $a * np.sum(x**2)
""",
)
