"""Idioms: numbers that f reads from outside, from every kind of thing that people keep them in, and that then change."""

# ruff: noqa: E501  (a short program is read best on one line)

from .writing import idiom

PLACES = {  # how f comes by the thing: ($head is its first line, and $box what it says for the thing)
    "outer": ("def f(x):", "box"),
    "default": ("def f(x, held=box):", "held"),
    "keyword": ("def f(x, *, held=box):", "held"),
}


def held(name, make, read="box.mu", write="box.mu = $e", imports="", places=("outer", "default", "keyword"), **options):
    """Enter an idiom for a thing that holds a number, ``box``, however f comes by it."""
    for i, place in enumerate(places):
        head, box = PLACES[place]
        text = (
            f"{imports}\n\n{make}\n\n{head}\n    return $F({read.replace('box', box)})\n\ndef change():\n    {write}\n"
        )
        idiom(
            f"held in {name}, {place}" if i else f"held in {name}", text, **{"variants": 4 if i == 0 else 1, **options}
        )


held("a dict", "box = {'mu': $a, 'other': 3}", "box['mu']", "box['mu'] = $e")
held("a dict of dicts", "box = {'a': {'b': {'mu': $a}}}", "box['a']['b']['mu']", "box['a']['b']['mu'] = $e")
held("a list", "box = [7, $a]", "box[1]", "box[1] = $e")
held("a list of lists", "box = [[1], [$a, $b]]", "box[1][0]", "box[1][0] = $e")
held("a namespace", "box = SimpleNamespace(mu=$a)", imports="from types import SimpleNamespace")
held("argparse's namespace", "box = argparse.Namespace(mu=$a, verbose=False)", imports="import argparse")
held(
    "parsed arguments",
    "parser = argparse.ArgumentParser()\nparser.add_argument('--mu', type=float, default=$a)\nbox = parser.parse_args([])",
    imports="import argparse",
)
held("a UserDict", "box = UserDict(mu=$a)", "box['mu']", "box['mu'] = $e", "from collections import UserDict")
held("a UserList", "box = UserList([$a, 2.0])", "box[0]", "box[0] = $e", "from collections import UserList")
held(
    "a ChainMap",
    "box = ChainMap({'nu': 1}, {'mu': $a})",
    "box['mu']",
    "box.maps[1]['mu'] = $e",
    "from collections import ChainMap",
)
held(
    "a ChainMap shaded",
    "box = ChainMap({}, {'mu': $a})",
    "box['mu']",
    "box['mu'] = $e",
    "from collections import ChainMap",
)
held("an OrderedDict", "box = OrderedDict(mu=$a)", "box['mu']", "box['mu'] = $e", "from collections import OrderedDict")
held(
    "a defaultdict",
    "box = defaultdict(lambda: 1.0, mu=$a)",
    "box['mu']",
    "box['mu'] = $e",
    "from collections import defaultdict",
)
held("a Counter", "box = Counter(aab=1)", "box['aab']", "box.update(['aab'])", "from collections import Counter")
held("a deque", "box = deque([1.0, $a], maxlen=2)", "box[1]", "box.append($e)", "from collections import deque")
held("an array.array", "box = array('d', [$a, $b])", "box[0]", "box[0] = $e", "from array import array")
held("a bytearray", "box = bytearray([1, 2])", "box[0]", "box[0] = 2")
held("a memoryview", "store = bytearray([1, 2])\nbox = memoryview(store)", "box[0]", "store[0] = 2")
held(
    "a ContextVar",
    "box = ContextVar('mu', default=$a)",
    "box.get()",
    "box.set($e)",
    "from contextvars import ContextVar",
)
held("thread-local data", "box = threading.local()\nbox.mu = $a", imports="import threading")
held("a class", "class box:\n    mu = $a")
held("an object", "class Box:\n    def __init__(self, mu):\n        self.mu = mu\n\nbox = Box($a)")
held("an object's class", "class Box:\n    mu = $a\n\nbox = Box()", write="Box.mu = $e")
held("a base class", "class Base:\n    mu = $a\n\nclass Box(Base):\n    pass\n\nbox = Box()", write="Base.mu = $e")
held(
    "a mixin",
    "class Scaled:\n    mu = $a\n\nclass Base:\n    pass\n\nclass Box(Base, Scaled):\n    pass\n\nbox = Box()",
    write="Scaled.mu = $e",
)
held("a metaclass", "class Meta(type):\n    mu = $a\n\nclass box(metaclass=Meta):\n    pass", write="Meta.mu = $e")
held(
    "a slotted object",
    "class Box:\n    __slots__ = ('mu',)\n\n    def __init__(self, mu):\n        self.mu = mu\n\nbox = Box($a)",
)
held(
    "slots of a base",
    "class Base:\n    __slots__ = ('mu',)\n\nclass Box(Base):\n    pass\n\nbox = Box()\nbox.mu = $a",
)
held(
    "a dataclass",
    "@dataclass\nclass Box:\n    mu: float = 1.0\n\nbox = Box($a)",
    imports="from dataclasses import dataclass",
)
held(
    "a slotted dataclass",
    "@dataclass(slots=True)\nclass Box:\n    mu: float\n\nbox = Box($a)",
    imports="from dataclasses import dataclass",
)
held(
    "a frozen dataclass, forced",
    "@dataclass(frozen=True)\nclass Box:\n    mu: float\n\nbox = Box($a)",
    write="object.__setattr__(box, 'mu', $e)",
    imports="from dataclasses import dataclass",
)
held(
    "a frozen dataclass's dict",
    "@dataclass(frozen=True)\nclass Box:\n    table: dict\n\nbox = Box({'mu': $a})",
    "box.table['mu']",
    "box.table['mu'] = $e",
    "from dataclasses import dataclass",
)
held(
    "a default factory",
    "@dataclass\nclass Box:\n    values: list = field(default_factory=lambda: [$a])\n\nbox = Box()",
    "box.values[0]",
    "box.values[0] = $e",
    "from dataclasses import dataclass, field",
)
held(
    "a property",
    "class Box:\n    _mu = $a\n\n    @property\n    def mu(self):\n        return self._mu\n\nbox = Box()",
    write="box._mu = $e",
)
held(
    "a property over a closure",
    "hidden = [$a]\n\nclass Box:\n    @property\n    def mu(self):\n        return hidden[0]\n\nbox = Box()",
    write="hidden[0] = $e",
)
held(
    "a descriptor",
    "class Field:\n    def __init__(self, value):\n        self.value = value\n\n    def __get__(self, thing, owner=None):\n"
    "        return self.value\n\nfield = Field($a)\n\nclass Box:\n    mu = field\n\nbox = Box()",
    write="field.value = $e",
)
held(
    "__getattr__",
    "class Box:\n    def __init__(self):\n        self.__dict__['table'] = {'mu': $a}\n\n    def __getattr__(self, name):\n"
    "        try:\n            return self.__dict__['table'][name]\n        except KeyError:\n            raise AttributeError(name) from None\n\nbox = Box()",
    write="box.__dict__['table']['mu'] = $e",
)
held(
    "__getitem__",
    "class Box:\n    def __init__(self):\n        self.values = [$a]\n\n    def __getitem__(self, i):\n        return self.values[i]\n\nbox = Box()",
    "box[0]",
    "box.values[0] = $e",
)
held("a subclass of dict", "class Box(dict):\n    pass\n\nbox = Box(mu=$a)", "box['mu']", "box['mu'] = $e")
held(
    "a dict with attributes",
    "class Box(dict):\n    __getattr__ = dict.__getitem__\n    __setattr__ = dict.__setitem__\n\nbox = Box(mu=$a)",
)
held("a subclass of list", "class Box(list):\n    pass\n\nbox = Box([$a])", "box[0]", "box[0] = $e")
held(
    "a subclass of float",
    "class Box:\n    pass\n\nclass Metres(float):\n    pass\n\nbox = Box()\nbox.mu = Metres($a)",
    write="box.mu = Metres($e)",
)
held("a function's attribute", "def box():\n    pass\n\nbox.mu = $a")
held("a partial's keywords", "box = functools.partial(dict, mu=$a)", "box()['mu']", "box.keywords['mu'] = $e")
held("a module", "box = types.ModuleType('TAG_settings')\nbox.mu = $a", imports="import types")
held(
    "a registered module",
    "box = sys.modules['TAG_settings'] = types.ModuleType('TAG_settings')\nbox.mu = $a",
    imports="import sys\nimport types",
)
held(
    "a mapping proxy",
    "hidden = {'mu': $a}\nbox = types.MappingProxyType(hidden)",
    "box['mu']",
    "hidden['mu'] = $e",
    "import types",
)
held("a dict's view", "hidden = {'mu': $a}\nbox = hidden.values()", "sum(box)", "hidden['mu'] = $e")
held(
    "a weak reference",
    "class Box:\n    mu = $a\n\ntarget = Box()\nbox = weakref.ref(target)",
    "box().mu",
    "target.mu = $e",
    "import weakref",
)
held(
    "a weak proxy",
    "class Box:\n    mu = $a\n\ntarget = Box()\nbox = weakref.proxy(target)",
    "box.mu",
    "target.mu = $e",
    "import weakref",
)
held(
    "a WeakValueDictionary",
    "class Box:\n    mu = $a\n\ntarget = Box()\nbox = weakref.WeakValueDictionary(t=target)",
    "box['t'].mu",
    "target.mu = $e",
    "import weakref",
)
held("a ctypes number", "box = ctypes.c_double($a)", "box.value", "box.value = $e", "import ctypes")
held(
    "a ctypes structure",
    "class Box(ctypes.Structure):\n    _fields_ = [('mu', ctypes.c_double)]\n\nbox = Box($a)",
    imports="import ctypes",
)
held("a ctypes array", "box = (ctypes.c_double * 2)($a, 1.0)", "box[0]", "box[0] = $e", "import ctypes")
held("an array", "box = np.array([$a, 2.0])", "box[0]", "box[0] = $e")
held("a 0-d array", "box = np.array($a)", "box", "box[...] = $e")
held("an array's view", "base = np.array([[1.0, $a]])\nbox = base[0, 1:]", "box[0]", "base[0, 1] = $e")
held(
    "a read-only view",
    "base = np.array([$a])\nbox = base.view()\nbox.flags.writeable = False",
    "box[0]",
    "base[0] = $e",
)
held(
    "a structured array",
    "box = np.array([($a, 1)], dtype=[('mu', float), ('n', int)])",
    "box['mu'][0]",
    "box['mu'][0] = $e",
)
held(
    "a record array", "box = np.rec.array([($a, 1)], dtype=[('mu', float), ('n', int)])", "box.mu[0]", "box.mu[0] = $e"
)
held(
    "a structured scalar",
    "table = np.array([($a, 1)], dtype=[('mu', float), ('n', int)])\nbox = table[0]",
    "box['mu']",
    "table['mu'][0] = $e",
)
held("an object array", "box = np.array([$a, None], dtype=object)", "box[0]", "box[0] = $e")
held("an array of dicts", "box = np.array([{'mu': $a}, None], dtype=object)", "box[0]['mu']", "box[0]['mu'] = $e")
held("an array of strings", "box = np.array(['$a', '9'])", "float(box[0])", "box[0] = '$e'")
held(
    "an array of dates",
    "box = np.array(['2020-01-01', '2020-01-02'], dtype='M8[D]')",
    "float((box[1] - box[0]).astype(int))",
    "box[1] = '2020-01-03'",
)
held("a masked array", "box = np.ma.array([$a, 2.0], mask=[False, True])", "box.sum()", "box[0] = $e")
held(
    "an array subclass",
    "class Field(np.ndarray):\n    pass\n\nbox = np.array([$a, 1.0]).view(Field)",
    "float(box[0])",
    "box[0] = $e",
)
held(
    "an array subclass's attribute",
    "class Field(np.ndarray):\n    pass\n\nbox = np.array([1.0]).view(Field)\nbox.mu = $a",
)
held("text", "box = ['$a']", "float(box[0])", "box[0] = '$e'")
held(
    "JSON",
    "box = {'text': '{\"mu\": $a}'}",
    "json.loads(box['text'])['mu']",
    "box['text'] = '{\"mu\": $e}'",
    "import json",
)
held("a StringIO", "box = io.StringIO('$a')", "float(box.getvalue())", "box.seek(0) or box.write('$e')", "import io")
held(
    "a config parser",
    "box = configparser.ConfigParser()\nbox['s'] = {'mu': '$a'}",
    "box.getfloat('s', 'mu')",
    "box['s']['mu'] = '$e'",
    "import configparser",
)

held(
    "a list of objects",
    "class Layer:\n    def __init__(self, mu):\n        self.mu = mu\n\nbox = [Layer($a), Layer($b)]",
    "sum(layer.mu for layer in box)",
    "box[1].mu = $e",
)
held(
    "a dict of objects",
    "class Layer:\n    def __init__(self, mu):\n        self.mu = mu\n\nbox = {'l': Layer($a)}",
    "box['l'].mu",
    "box['l'].mu = $e",
)
held("a list that grows", "box = [$a]", "sum(box)", "box.append($e)")
held("a dict that grows", "box = {'a': $a}", "len(box)", "box['b'] = 0")
held("a set", "box = {1, 2}", "len(box) / 2", "box.add(5)")
held(
    "a linked list",
    "class Node:\n    def __init__(self, mu, next):\n        self.mu, self.next = mu, next\n\nbox = Node(1.0, Node($a, None))",
    "box.next.mu",
    "box.next.mu = $e",
)
held(
    "an iterable object",
    "class Box:\n    def __init__(self):\n        self.values = [$a]\n\n    def __iter__(self):\n        return iter(self.values)\n\nbox = Box()",
    "sum(box)",
    "box.values[0] = $e",
)
held(
    "an object with __float__",
    "class Box:\n    def __init__(self):\n        self.mu = $a\n\n    def __float__(self):\n        return self.mu\n\nbox = Box()",
    "float(box)",
)
held(
    "an object with __array__",
    "class Box:\n    def __init__(self):\n        self.mu = $a\n\n    def __array__(self, dtype=None, copy=None):\n        return np.array(self.mu)\n\nbox = Box()",
    "np.sum(box)",
)
held(
    "an object with __len__",
    "class Box:\n    n = 1\n\n    def __len__(self):\n        return self.n\n\nbox = Box()",
    "len(box)",
    "box.n = 2",
)
held(
    "an object with __bool__",
    "class Box:\n    on = True\n\n    def __bool__(self):\n        return self.on\n\nbox = Box()",
    "(1.0 if box else 2.0)",
    "box.on = False",
)
held(
    "an object with operators",
    "class Box:\n    mu = $a\n\n    def __mul__(self, other):\n        return self.mu * other\n\nbox = Box()",
    "(box * 1.0)",
)
held(
    "a bound method",
    "class Model:\n    def __init__(self):\n        self.mu = $a\n\n    def scale(self):\n        return self.mu\n\nmodel = Model()\nbox = model.scale",
    "box()",
    "model.mu = $e",
)
held("a lambda", "hidden = {'mu': $a}\nbox = lambda: hidden['mu']", "box()", "hidden['mu'] = $e")
held("a cycle of references", "class Node:\n    pass\n\nbox = Node()\nbox.me = box\nbox.mu = $a", "box.me.me.mu")
held(
    "the class of an object",
    "class Plain:\n    mu = $a\n\nclass Steep:\n    mu = $e\n\nbox = Plain()",
    write="box.__class__ = Steep",
)
held(
    "nested namespaces",
    "box = SimpleNamespace(inner=SimpleNamespace(mu=$a))",
    "box.inner.mu",
    "box.inner.mu = $e",
    "from types import SimpleNamespace",
)
held(
    "an enum's value",
    "class Mode(enum.Enum):\n    SOFT = $a\n    HARD = $e\n\nbox = [Mode.SOFT]",
    "box[0].value",
    "box[0] = Mode.HARD",
    "import enum",
)
held(
    "an int enum",
    "class Level(enum.IntEnum):\n    LOW = 1\n    HIGH = 2\n\nbox = {'level': Level.LOW}",
    "box['level']",
    "box['level'] = Level.HIGH",
    "import enum",
)
held("a tuple in a list", "box = [($a, 2)]", "box[0][0]", "box[0] = ($e, 2)")
held(
    "a fraction", "box = [Fraction(1, 2)]", "float(box[0])", "box[0] = Fraction(3, 2)", "from fractions import Fraction"
)
held("a decimal", "box = [Decimal('$a')]", "float(box[0])", "box[0] = Decimal('$e')", "from decimal import Decimal")
held("a complex number", "box = [complex(0, $a)]", "abs(box[0])", "box[0] = complex(0, $e)")
held("a queue", "box = queue.Queue()\nbox.put($a)", "box.queue[0]", "box.queue.appendleft($e)", "import queue")
held("a polynomial", "box = np.polynomial.Polynomial([$a])", "box(1.0)", "box.coef[0] = $e")
held(
    "an ABC",
    "class Base(abc.ABC):\n    @abc.abstractmethod\n    def scale(self): ...\n\nclass Box(Base):\n    def __init__(self):\n        self.mu = $a\n\n    def scale(self):\n        return self.mu\n\nbox = Box()",
    "box.scale()",
    imports="import abc",
)
held(
    "a generic class",
    "T = TypeVar('T')\n\nclass Box(Generic[T]):\n    def __init__(self, mu):\n        self.mu = mu\n\nbox = Box[float]($a)",
    imports="from typing import Generic, TypeVar",
)

ASSIGNED = {  # a name whose thing is replaced: (imports and make, read, replacement)
    "a number": ("mu = $a", "mu", "$e"),
    "a NumPy number": ("mu = np.float64($a)", "mu", "np.float64($e)"),
    "an integer": ("mu = 1", "mu", "2"),
    "a flag": ("mu = True", "(1.0 if mu else 2.0)", "False"),
    "None": ("mu = None", "(1.0 if mu is None else mu)", "$e"),
    "text": ("mu = 'soft'", "{'soft': 1.0, 'hard': 2.0}[mu]", "'hard'"),
    "a tuple": ("mu = ($a, 1)", "mu[0]", "($e, 1)"),
    "a frozenset": ("mu = frozenset([1])", "len(mu)", "frozenset([1, 2])"),
    "an array": ("mu = np.array($vec)", "np.sum(mu)", "np.array($vec) + 0.7"),
    "a list": ("mu = [$a]", "mu[0]", "[$e]"),
    "a named tuple": (
        "from typing import NamedTuple\n\nclass Box(NamedTuple):\n    mu: float\n    n: int = 3\n\nmu = Box($a)",
        "mu.mu",
        "mu._replace(mu=$e)",
    ),
    "a frozen dataclass": (
        "import dataclasses\n\n@dataclasses.dataclass(frozen=True)\nclass Box:\n    mu: float\n\nmu = Box($a)",
        "mu.mu",
        "dataclasses.replace(mu, mu=$e)",
    ),
    "a lambda": ("mu = lambda: $a", "mu()", "lambda: $e"),
    "a function": ("def one():\n    return $a\n\ndef two():\n    return $e\n\nmu = one", "mu()", "two"),
    "a class": ("class One:\n    mu = $a\n\nclass Two:\n    mu = $e\n\nmu = One", "mu().mu", "Two"),
    "a range": ("mu = range(2)", "len(mu)", "range(1)"),
    "an enum": (
        "import enum\n\nclass Mode(enum.Enum):\n    SOFT = 1\n    HARD = 2\n\nmu = Mode.SOFT",
        "(1.0 if mu is Mode.SOFT else 2.0)",
        "Mode.HARD",
    ),
    "a partial": ("mu = functools.partial(np.multiply, $a)", "mu(1.0)", "functools.partial(np.multiply, $e)"),
    "a ufunc": ("mu = np.sin", "mu(1.0)", "np.exp"),
}
for kind, (make, read, new) in ASSIGNED.items():
    idiom(
        f"a name for {kind}",
        f"{make}\n\ndef f(x):\n    return $F({read})\n\ndef change():\n    $scope mu\n    mu = {new}\n",
    )

FUNCTIONS = {  # the function itself, edited in place
    "its defaults": ("def f(x, mu=$a):\n    return $F(mu)", "f.__defaults__ = ($e,)"),
    "its keyword defaults": ("def f(x, *, mu=$a):\n    return $F(mu)", "f.__kwdefaults__ = {'mu': $e}"),
    "its keyword defaults in place": ("def f(x, *, mu=$a):\n    return $F(mu)", "f.__kwdefaults__['mu'] = $e"),
    "its code": (
        "def f(x):\n    mu = $a\n    return $F(mu)\n\ndef other(x):\n    mu = $e\n    return $F(mu)",
        "f.__code__ = other.__code__",
    ),
    "its attribute": ("def f(x):\n    return $F(f.mu)\n\nf.mu = $a", "f.mu = $e"),
    "its cell": (
        "def build():\n    mu = $a\n\n    def loss(x):\n        return $F(mu)\n\n    return loss\n\nf = build()",
        "f.__closure__[[cell.cell_contents == $a for cell in f.__closure__].index(True)].cell_contents = $e",
    ),
    "its module's dict": ("mu = $a\n\ndef f(x):\n    return $F(globals()['mu'])", "f.__globals__['mu'] = $e"),
}
for kind, (make, write) in FUNCTIONS.items():
    layouts = (
        ("module", "loose", "anonymous")
        if kind in ("its module's dict", "its code")
        else ("module", "factory", "loose", "anonymous")
    )
    idiom(f"edited in {kind}", f"{make}\n\ndef change():\n    {write}\n", alone=True, layouts=layouts)

idiom(
    "an environment variable",
    """
import os

os.environ["TAG_MU"] = "$a"

def f(x):
    return $F(float(os.environ["TAG_MU"]))

def change():
    os.environ["TAG_MU"] = "$e"
""",
)
idiom(
    "os.getenv with a default",
    """
import os

def f(x):
    return $F(float(os.getenv("TAG_MU", "$a")))

def change():
    os.environ["TAG_MU"] = "$e"
""",
)
idiom(
    "a text file",
    """
import pathlib

path = pathlib.Path(FOLDER, "mu.txt")
path.write_text("$a")

def f(x):
    return $F(float(path.read_text()))

def change():
    path.write_text("$e")
""",
)
idiom(
    "a file opened in f",
    """
import os

path = os.path.join(FOLDER, "mu.txt")
with open(path, "w") as stream:
    stream.write("$a")

def f(x):
    with open(path) as stream:
        mu = float(stream.read())
    return $F(mu)

def change():
    with open(path, "w") as stream:
        stream.write("$e")
""",
)
idiom(
    "a file of an array",
    """
import os

path = os.path.join(FOLDER, "mu.npy")
np.save(path, np.array([$a, 1.0]))

def f(x):
    return $F($load[0])

def change():
    np.save(path, np.array([$e, 1.0]))
""",
    slots={"load": ("np.load(path)", "np.load(path, mmap_mode='r')")},
)
idiom(
    "a table read by loadtxt",
    """
import os

path = os.path.join(FOLDER, "mu.csv")
np.savetxt(path, [$a, 1.0])

def f(x):
    return $F(np.$load(path)[0])

def change():
    np.savetxt(path, [$e, 1.0])
""",
    slots={"load": ("loadtxt", "genfromtxt")},
)
idiom(
    "a memory map",
    """
import os

table = np.memmap(os.path.join(FOLDER, "mu.bin"), dtype=float, mode="w+", shape=(2,))
table[:] = [$a, 1.0]

def f(x):
    return $F(table[0])

def change():
    table[0] = $e
""",
)
idiom(
    "an import inside f",
    """
import sys
import types

settings = sys.modules["TAG_settings"] = types.ModuleType("TAG_settings")
settings.mu = $a

def f(x):
    $imported
    return $F($read)

def change():
    sys.modules["TAG_settings"].mu = $e
""",
    slots={
        "imported": (
            "import TAG_settings",
            "from TAG_settings import mu as TAG_settings",
            "import importlib; TAG_settings = importlib.import_module('TAG_settings')",
            "TAG_settings = __import__('TAG_settings')",
        ),
        "read": ("getattr(TAG_settings, 'mu', TAG_settings)",),
    },
)
idiom(
    "a module that is replaced",
    """
import sys
import types

sys.modules["TAG_settings"] = types.ModuleType("TAG_settings")
sys.modules["TAG_settings"].mu = $a

def f(x):
    return $F(sys.modules["TAG_settings"].mu)

def change():
    sys.modules["TAG_settings"] = types.ModuleType("TAG_settings")
    sys.modules["TAG_settings"].mu = $e
""",
)
idiom(
    "a module's function, patched",
    """
import types

physics = types.ModuleType("TAG_physics")
physics.scale = lambda: $a

def f(x):
    return $F(physics.scale())

def change():
    physics.scale = lambda: $e
""",
)
idiom(
    "a builtin, shaded later",
    """
def f(x):
    return $F(abs(-$a))

def change():
    globals()["abs"] = lambda value: $e
""",
    layouts=("module", "loose", "anonymous"),
)
idiom(
    "a name defined later",
    """
def f(x):
    try:
        mu = later
    except NameError:
        mu = $a
    return $F(mu)

def change():
    globals()["later"] = $e
""",
    layouts=("module", "loose", "anonymous"),
)
idiom(
    "a method, patched",
    """
class Model:
    def scale(self):
        return $a

model = Model()

def f(x):
    return $F(model.scale())

def change():
    $patch
""",
    slots={"patch": ("model.scale = lambda: $e", "Model.scale = lambda self: $e")},
)
idiom(
    "an object given as an argument's default, in a partial",
    """
class Config:
    mu = $a

cfg = Config()

def loss(x, cfg):
    return $F(cfg.mu)

f = functools.partial(loss, cfg=cfg)

def change():
    cfg.mu = $e
""",
    alone=True,
)
idiom(
    "a penalty raised",
    """
class Config:
    def __init__(self):
        self.mu = $a

cfg = Config()

def constraint(x):
    return np.sum(x) - 1.0

def f(x):
    return np.sum((x - $b) ** 2) + cfg.mu * constraint(x) ** 2

def change():
    cfg.mu *= 3
""",
)
idiom(
    "np.seterr",
    """
def f(x):
    return $F(1.0 if np.geterr()["under"] == "ignore" else 2.0)
""",
)
idiom(
    "decimal's context",
    """
import decimal

own = decimal.Context(prec=3)

def f(x):
    return $F(float(own.divide(decimal.Decimal(2), decimal.Decimal(3))))

def change():
    own.prec = 1
""",
)
idiom(
    "a random state outside",
    """
import random

source = random.Random(3)

def f(x):
    state = source.getstate()
    mu = source.random()
    source.setstate(state)
    return $F(0.5 + mu)

def change():
    source.seed(5)
""",
)
idiom(
    "a generator's bit state",
    """
source = np.random.default_rng(3)

def f(x):
    state = source.bit_generator.state
    mu = source.uniform()
    source.bit_generator.state = state
    return $F(0.5 + mu)

def change():
    source.uniform(size=3)
""",
)

ARGUMENTS = {  # a further argument of f: (what it is, how f reads it, how it changes)
    "a dict": ("{'mu': $a}", "given['mu']", "extra[0]['mu'] = $e"),
    "a list": ("[$a, 1.0]", "given[0]", "extra[0][0] = $e"),
    "an array": ("np.array([$a, 1.0])", "given[0]", "extra[0][0] = $e"),
    "an object": ("type('Box', (), {'mu': $a})()", "given.mu", "extra[0].mu = $e"),
    "a class": ("type('Box', (), {'mu': $a})", "given.mu", "extra[0].mu = $e"),
    "a namespace": ("__import__('types').SimpleNamespace(mu=$a)", "given.mu", "extra[0].mu = $e"),
    "a function": ("(lambda held: lambda: held[0])(store)", "given()", "store[0] = $e"),
    "a function's attribute": ("(lambda: None)", "getattr(given, 'mu', $a)", "extra[0].mu = $e"),
    "a partial": ("functools.partial(dict, mu=$a)", "given()['mu']", "extra[0].keywords['mu'] = $e"),
    "a bound method": ("store.copy", "given()[0]", "store[0] = $e"),
    "an array of objects": ("np.array([{'mu': $a}, None], dtype=object)", "given[0]['mu']", "extra[0][0]['mu'] = $e"),
    "a structured array": ("np.array([($a,)], dtype=[('mu', float)])", "given['mu'][0]", "extra[0]['mu'][0] = $e"),
    "a list of arrays": ("[np.array([$a]), np.ones(2)]", "given[0][0]", "extra[0][0][0] = $e"),
    "a dict of lists": ("{'mu': [$a]}", "given['mu'][0]", "extra[0]['mu'][0] = $e"),
    "a deque": ("__import__('collections').deque([$a])", "given[0]", "extra[0][0] = $e"),
    "a set": ("{1}", "len(given)", "extra[0].add(2)"),
}
for kind, (given, read, write) in ARGUMENTS.items():
    idiom(
        f"an argument that is {kind}",
        f"store = [$a]\nextra = ({given},)\n\ndef f(x, given):\n    return $F({read})\n\ndef change():\n    {write}\n",
        alone=True,
        variants=2,
    )

idiom(
    "held in a database",
    """
import sqlite3

box = sqlite3.connect(":memory:", check_same_thread=False)
box.execute("create table t (mu real)")
box.execute("insert into t values ($a)")

def f(x):
    return $F(box.execute("select mu from t").fetchone()[0])

def change():
    box.execute("update t set mu = $e")

def close():
    box.close()
""",
)
