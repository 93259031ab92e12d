"""Idioms: what comes and goes (keys, attributes, entries, order, classes), and what the process and the disk hold."""

import importlib.util

from .writing import idiom

# ruff: noqa: E501  (a short program is read best on one line)


def changing(name, make, read, write, imports="", **options):
    """Enter an idiom: f reads the number ``read``, which ``write`` changes."""
    text = f"{imports}\n\n{make}\n\ndef f(x):\n    return $F({read})\n\ndef change():\n    {write}\n"
    idiom(f"changing: {name}", text, **{"variants": 2, **options})


# --- what is not there yet, or no longer
changing("a key that comes", "box = {}", "(2.0 if 'mu' in box else 1.0)", "box['mu'] = None")
changing("a key with get", "box = {}", "box.get('mu', $a)", "box['mu'] = $e")
changing("a key with setdefault", "box = {}", "box.setdefault('mu', $a)", "box['mu'] = $e")
changing("a key that goes", "box = {'mu': $e}", "box.get('mu', $a)", "del box['mu']")
changing("pop with a default", "box = {'mu': $e}", "dict(box).pop('mu', $a)", "box.clear()")
changing(
    "a missing key of a defaultdict",
    "box = defaultdict(lambda: $a)",
    "box['mu']",
    "box['mu'] = $e",
    "from collections import defaultdict",
)
changing(
    "the default factory itself",
    "box = defaultdict(lambda: $a)",
    "dict.get(box, 'nu') or box.default_factory()",
    "box.default_factory = lambda: $e",
    "from collections import defaultdict",
)
changing(
    "an attribute that comes",
    "class Box:\n    pass\n\nbox = Box()",
    "(2.0 if hasattr(box, 'mu') else 1.0)",
    "box.mu = None",
)
changing("getattr with a default", "class Box:\n    pass\n\nbox = Box()", "getattr(box, 'mu', $a)", "box.mu = $e")
changing("an attribute over its class's", "class Box:\n    mu = $a\n\nbox = Box()", "box.mu", "box.mu = $e")
changing("an attribute that goes", "class Box:\n    mu = $a\n\nbox = Box()\nbox.mu = $e", "box.mu", "del box.mu")
changing(
    "an attribute over a base's",
    "class Base:\n    mu = $a\n\nclass Box(Base):\n    pass\n\nbox = Box()",
    "box.mu",
    "Box.mu = $e",
)
changing(
    "a method that comes",
    "class Box:\n    pass\n\nbox = Box()",
    "(box.rule() if hasattr(box, 'rule') else $a)",
    "Box.rule = lambda self: $e",
)
changing(
    "__getattr__ that comes",
    "class Box:\n    pass\n\nbox = Box()",
    "getattr(box, 'mu', $a)",
    "Box.__getattr__ = lambda self, name: $e",
)
changing(
    "__call__ replaced",
    "class Rule:\n    def __call__(self):\n        return $a\n\nrule = Rule()",
    "rule()",
    "Rule.__call__ = lambda self: $e",
)
changing(
    "__getitem__ replaced",
    "class Box:\n    def __getitem__(self, i):\n        return $a\n\nbox = Box()",
    "box[0]",
    "Box.__getitem__ = lambda self, i: $e",
)
changing(
    "__len__ replaced",
    "class Box:\n    def __len__(self):\n        return 1\n\nbox = Box()",
    "len(box)",
    "Box.__len__ = lambda self: 2",
)
changing(
    "a property replaced",
    "class Box:\n    mu = property(lambda self: $a)\n\nbox = Box()",
    "box.mu",
    "Box.mu = property(lambda self: $e)",
)
changing(
    "a static method replaced",
    "class Box:\n    @staticmethod\n    def rule():\n        return $a",
    "Box.rule()",
    "Box.rule = staticmethod(lambda: $e)",
)
changing(
    "a base's method replaced",
    "class Base:\n    def rule(self):\n        return $a\n\nclass Box(Base):\n    def rule(self):\n        return super().rule()\n\nbox = Box()",
    "box.rule()",
    "Base.rule = lambda self: $e",
)
changing(
    "the bases of a class",
    "class One:\n    mu = $a\n\nclass Two:\n    mu = $e\n\nclass Box(One):\n    pass\n\nbox = Box()",
    "box.mu",
    "Box.__bases__ = (Two,)",
)
changing(
    "a registration with singledispatch",
    "@functools.singledispatch\ndef rule(k):\n    return $a",
    "rule(1)",
    "rule.register(int)(lambda k: $e)",
)
changing(
    "a registration with an ABC",
    "class Kind(abc.ABC):\n    pass\n\nclass Box:\n    pass\n\nbox = Box()",
    "(2.0 if isinstance(box, Kind) else 1.0)",
    "Kind.register(Box)",
    "import abc",
)
changing(
    "a subclass that comes",
    "class Base:\n    pass",
    "1.0 + len(Base.__subclasses__())",
    "kept.append(type('Box', (Base,), {}))",
    "kept = []",
)
changing(
    "a wrapped function",
    "def rule():\n    return $a\n\n@functools.wraps(rule)\ndef outer():\n    return outer.__wrapped__()",
    "outer()",
    "outer.__wrapped__ = lambda: $e",
)
changing(
    "the code of a helper",
    "def rule():\n    return $a\n\ndef other():\n    return $e",
    "rule()",
    "rule.__code__ = other.__code__",
)
changing("the defaults of a helper", "def rule(k=$a):\n    return k", "rule()", "rule.__defaults__ = ($e,)")
changing(
    "the defaults of a method",
    "class Box:\n    def rule(self, k=$a):\n        return k\n\nbox = Box()",
    "box.rule()",
    "Box.rule.__defaults__ = ($e,)",
)
changing(
    "the keyword defaults of a helper", "def rule(*, k=$a):\n    return k", "rule()", "rule.__kwdefaults__['k'] = $e"
)
changing(
    "a partial's state",
    "rule = functools.partial(lambda k: k, $a)",
    "rule()",
    "rule.__setstate__((lambda k: k, ($e,), {}, {}))",
)
changing(
    "a function's doc", "def rule():\n    'soft'", "(1.0 if rule.__doc__ == 'soft' else 2.0)", "rule.__doc__ = 'hard'"
)
changing("annotations", "class Box:\n    mu: float", "len(Box.__annotations__)", "Box.__annotations__['nu'] = float")
changing(
    "dataclass fields",
    "@dataclass\nclass Box:\n    mu: float = $a\n    nu: float = 1.0\n\nbox = Box()",
    "sum(getattr(box, part.name) for part in fields(box))",
    "box.nu = $e",
    "from dataclasses import dataclass, fields",
)

# --- order and number
changing("a list reversed", "box = [$a, $e]", "box[0]", "box.reverse()")
changing("a list sorted", "box = [$e, $a]", "box[0]", "box.sort()")
changing("a list cleared", "box = [$a]", "(box[0] if box else 2.0)", "box.clear()")
changing("an entry deleted", "box = [$a, $e]", "box[0]", "del box[0]")
changing("an entry inserted", "box = [$a]", "box[0]", "box.insert(0, $e)")
changing("a slice assigned", "box = [1.0, $a, 1.0]", "box[1]", "box[1:2] = [$e]")
changing("the order of a dict", "box = {'a': $a, 'b': $e}", "next(iter(box.values()))", "box['a'] = box.pop('a')")
changing(
    "the order of an OrderedDict",
    "box = OrderedDict(a=$a, b=$e)",
    "list(box.values())[0]",
    "box.move_to_end('a')",
    "from collections import OrderedDict",
)
changing("a deque rotated", "box = deque([$a, $e])", "box[0]", "box.rotate(1)", "from collections import deque")
changing("two entries swapped", "box = {'a': $a, 'b': $e}", "box['a']", "box['a'], box['b'] = box['b'], box['a']")
changing("a nested list shared", "inner = [$a]\nbox = {'x': [inner, inner]}", "box['x'][1][0]", "inner[0] = $e")
changing("a list replaced within a tuple", "box = ([$a],)", "box[0][0]", "box[0][:] = [$e]")
changing("a set of text", "box = {'soft'}", "(2.0 if 'hard' in box else 1.0)", "box.add('hard')")
changing("a number's sign of zero", "box = [0.0]", "(1.5 + math.copysign(0.5, box[0]))", "box[0] = -0.0")
changing("an int that becomes a float", "box = [1]", "(1.0 if isinstance(box[0], int) else 2.0)", "box[0] = 1.0")
changing("True for 1", "box = [1]", "(2.0 if box[0] is True else 1.0)", "box[0] = True")
changing(
    "an equal object",
    "class Box:\n    def __init__(self, mu):\n        self.mu = mu\n\n    def __eq__(self, other):\n        return True\n\n    __hash__ = None\n\nbox = [Box($a)]",
    "box[0].mu",
    "box[0] = Box($e)",
)
changing(
    "an equal string",
    "class Name(str):\n    mu = $a\n\nclass Other(str):\n    mu = $e\n\nbox = [Name('n')]",
    "box[0].mu",
    "box[0] = Other('n')",
)
changing(
    "an equal number of a class",
    "class Metres(float):\n    mu = $a\n\nclass Feet(float):\n    mu = $e\n\nbox = [Metres(1.0)]",
    "box[0].mu",
    "box[0] = Feet(1.0)",
)
changing("an equal tuple of lists", "box = ([$a],)\nboxes = [box]", "boxes[0][0][0]", "box[0][0] = $e")
changing(
    "a NaN among the numbers", "box = [float('nan'), $a]", "(box[1] if math.isnan(box[0]) else 2.0)", "box[1] = $e"
)
changing("None for a number", "box = {'mu': None}", "($a if box['mu'] is None else box['mu'])", "box['mu'] = $e")

# --- arrays
changing("an array filled", "box = np.full(2, $a)", "box.sum() / 2", "box.fill($e)")
changing("an array sorted", "box = np.array([$e, $a])", "box[0]", "box.sort()")
changing("an array in a list", "box = [np.array([$a])]", "box[0][0]", "box[0] += 1")
changing("an array in a tuple", "box = (np.array([$a]),)", "box[0][0]", "box[0][0] = $e")
changing(
    "an array in an object",
    "class Box:\n    def __init__(self):\n        self.w = np.array([$a])\n\nbox = Box()",
    "box.w[0]",
    "box.w = np.array([$e])",
)
changing(
    "an array in an object, in place",
    "class Box:\n    def __init__(self):\n        self.w = np.array([$a])\n\nbox = Box()",
    "box.w[0]",
    "box.w *= 2",
)
changing("an array's shape", "box = np.array([$a, $e])", "len(box) / box.size", "box.shape = (1, 2)")
changing("an array's type", "box = np.array([1.0])", "(1.0 if box.dtype == float else 2.0)", "box.dtype = np.int64")
changing("an array through its memory", "box = np.array([$a])", "box[0]", "memoryview(box)[0] = $e")
changing(
    "an array's other view", "base = np.array([$a, 1.0, 2.0])\nbox = base[::2]", "box[0]", "base.reshape(3, 1)[0] = $e"
)
changing("an integer array", "box = np.array([1, 2])", "box[0]", "box[0] = 2")
changing("a bool array", "box = np.array([True, True])", "np.sum(box)", "box[1] = False")
changing("a complex array", "box = np.array([1j * $a])", "np.abs(box[0])", "box[0] = $e * 1j")
changing("a float32 array", "box = np.array([$a], np.float32)", "float(box[0])", "box[0] = $e")
changing("a byte array", "box = np.array([b'a', b'b'])", "(1.0 if box[0] == b'a' else 2.0)", "box[0] = b'c'")
changing("an array of arrays", "box = np.empty(1, object)\nbox[0] = np.array([$a])", "box[0][0]", "box[0][0] = $e")
changing(
    "a masked array's mask", "box = np.ma.array([1.0, $a], mask=[False, True])", "box.sum()", "box.mask[1] = False"
)
changing(
    "a matrix",
    "import warnings\n\nwith warnings.catch_warnings():\n    warnings.simplefilter('ignore')\n    box = np.matrix([[$a]])",
    "box[0, 0]",
    "box[0, 0] = $e",
)

# --- the process and the disk
changing(
    "a file that comes",
    "import pathlib\n\npath = pathlib.Path(FOLDER, 'flag')",
    "(2.0 if path.exists() else 1.0)",
    "path.touch()",
)
changing(
    "the files of a folder",
    "import os",
    "1.0 + len(os.listdir(FOLDER))",
    "open(os.path.join(FOLDER, 'listed'), 'w').close()",
)
changing(
    "glob",
    "import glob\nimport os",
    "1.0 + len(glob.glob(os.path.join(FOLDER, '*')))",
    "open(os.path.join(FOLDER, 'globbed'), 'w').close()",
)
changing(
    "the size of a file",
    "import os\n\npath = os.path.join(FOLDER, 'sized')\nopen(path, 'w').close()",
    "1.0 + os.path.getsize(path)",
    "os.truncate(path, 2)",
)
changing(
    "a JSON file",
    "import json\nimport pathlib\n\npath = pathlib.Path(FOLDER, 'mu.json')\npath.write_text('{\"mu\": $a}')",
    "json.loads(path.read_text())['mu']",
    "path.write_text('{\"mu\": $e}')",
)
changing(
    "a TOML file",
    "import pathlib\nimport tomllib\n\npath = pathlib.Path(FOLDER, 'mu.toml')\npath.write_text('mu = $a')",
    "tomllib.loads(path.read_text())['mu']",
    "path.write_text('mu = $e')",
)
changing(
    "a pickle file",
    "import pathlib\nimport pickle\n\npath = pathlib.Path(FOLDER, 'mu.pickle')\npath.write_bytes(pickle.dumps($a))",
    "pickle.loads(path.read_bytes())",
    "path.write_bytes(pickle.dumps($e))",
)
changing(
    "a CSV file",
    "import csv\nimport pathlib\n\npath = pathlib.Path(FOLDER, 'table.csv')\npath.write_text('mu,1\\n$a,2\\n')",
    "float(next(csv.reader(path.read_text().splitlines()[1:]))[0])",
    "path.write_text('mu,1\\n$e,2\\n')",
)
changing(
    "an npz file",
    "import os\n\npath = os.path.join(FOLDER, 'mu.npz')\nnp.savez(path, mu=$a)\n\ndef load():\n    with np.load(path) as data:\n        return float(data['mu'])",
    "load()",
    "np.savez(path, mu=$e)",
)
changing(
    "np.fromfile",
    "import os\n\npath = os.path.join(FOLDER, 'mu.raw')\nnp.array([$a]).tofile(path)",
    "np.fromfile(path)[0]",
    "np.array([$e]).tofile(path)",
)
changing(
    "an open file",
    "import io\n\nstream = io.BufferedRandom(io.BytesIO(b'$a'))\n\ndef read():\n    stream.seek(0)\n    return float(stream.read())",
    "read()",
    "stream.seek(0) or stream.write(b'$e')",
)
changing(
    "bytes in memory",
    "import io\n\nstream = io.BytesIO(b'$a')",
    "float(stream.getvalue())",
    "stream.seek(0) or stream.write(b'$e')",
)
changing("mmap", "import mmap\n\nstore = mmap.mmap(-1, 4)\nstore[0] = 1", "store[0]", "store[0] = 2")
changing(
    "shared numbers",
    "import multiprocessing.sharedctypes as shared\n\nbox = shared.RawValue('d', $a)",
    "box.value",
    "box.value = $e",
)
changing(
    "shared arrays",
    "import multiprocessing.sharedctypes as shared\n\nbox = shared.RawArray('d', [$a])",
    "box[0]",
    "box[0] = $e",
)
changing(
    "a shelf",
    "import os\nimport shelve\n\npath = os.path.join(FOLDER, 'shelf')\n\ndef read():\n    with shelve.open(path) as box:\n        return box.get('mu', $a)\n\ndef write():\n    with shelve.open(path) as box:\n        box['mu'] = $e",
    "read()",
    "write()",
)
changing(
    "a logger's level",
    "import logging\n\nlogger = logging.getLogger('TAG')\nlogger.setLevel(logging.WARNING)",
    "(2.0 if logger.isEnabledFor(logging.DEBUG) else 1.0)",
    "logger.setLevel(logging.DEBUG)",
)
changing(
    "a logger's handlers",
    "import logging\n\nlogger = logging.getLogger('TAG')",
    "1.0 + len(logger.handlers)",
    "logger.addHandler(logging.NullHandler())",
)
changing(
    "a thread's name",
    "import threading\n\nthread = threading.Thread(name='soft')",
    "(1.0 if thread.name == 'soft' else 2.0)",
    "thread.name = 'hard'",
)
changing("an event", "import threading\n\nevent = threading.Event()", "(2.0 if event.is_set() else 1.0)", "event.set()")
changing(
    "a lock that is held",
    "import threading\n\nlock = threading.Lock()",
    "(2.0 if lock.locked() else 1.0)",
    "lock.acquire()",
)
changing(
    "a module of a file, reloaded",
    "import importlib\nimport pathlib\nimport sys\n\npath = pathlib.Path(FOLDER, 'TAG_config.py')\npath.write_text('mu = $a')\nsys.path.insert(0, FOLDER)\nTAG_config = importlib.import_module('TAG_config')\nsys.path.remove(FOLDER)",
    "TAG_config.mu",
    "exec('mu = $e', vars(TAG_config))",
)
changing(
    "a function of a module of a file",
    "import importlib\nimport pathlib\nimport sys\n\npath = pathlib.Path(FOLDER, 'TAG_config.py')\npath.write_text('mu = $a\\ndef scale():\\n    return mu')\nsys.path.insert(0, FOLDER)\nTAG_config = importlib.import_module('TAG_config')\nsys.path.remove(FOLDER)",
    "TAG_config.scale()",
    "TAG_config.mu = $e",
)
changing(
    "a name imported from a module of a file",
    "import importlib\nimport pathlib\nimport sys\n\npath = pathlib.Path(FOLDER, 'TAG_config.py')\npath.write_text('mu = $a\\ndef scale():\\n    return mu')\nsys.path.insert(0, FOLDER)\nTAG_config = importlib.import_module('TAG_config')\nscale = TAG_config.scale\nsys.path.remove(FOLDER)",
    "scale()",
    "vars(TAG_config)['mu'] = $e",
)
changing(
    "a frame's variables",
    "import sys\n\ndef look():\n    return sys._getframe(1).f_locals['k']\n\nbox = [$a]\n\ndef used():\n    k = box[0]\n    return look()",
    "used()",
    "box[0] = $e",
)
changing("locals()", "box = [$a]\n\ndef used():\n    k = box[0]\n    return locals()['k']", "used()", "box[0] = $e")
changing("dir()", "class Box:\n    pass\n\nbox = Box()", "1.0 + ('mu' in dir(box))", "box.mu = 1")
changing(
    "inspect",
    "import inspect\n\ndef rule(k=$a):\n    return k",
    "inspect.signature(rule).parameters['k'].default",
    "rule.__defaults__ = ($e,)",
)
changing("a copy made in f", "import copy\n\nbox = {'mu': [$a]}", "copy.deepcopy(box)['mu'][0]", "box['mu'][0] = $e")
changing("a shallow copy made in f", "box = {'mu': [$a]}", "dict(box)['mu'][0]", "box['mu'][0] = $e")
changing(
    "a JSON copy made in f",
    "import json\n\nbox = {'mu': [$a]}",
    "json.loads(json.dumps(box))['mu'][0]",
    "box['mu'][0] = $e",
)
changing("sorted() in f", "box = {3: $a, 5: 1.0}", "box[sorted(box)[0]]", "box[1] = $e")
changing("unpacking in f", "box = [1, $a]", "(lambda *parts: parts[1])(*box)", "box[1] = $e")
changing("unpacking a dict in f", "box = {'mu': $a}", "(lambda mu: mu)(**box)", "box['mu'] = $e")
changing("format_map", "box = {'mu': '$a'}", "float('{mu}'.format_map(box))", "box['mu'] = '$e'")
changing(
    "itemgetter", "import operator\n\nbox = {'mu': $a}\nget = operator.itemgetter('mu')", "get(box)", "box['mu'] = $e"
)
changing("a bound get of a dict", "box = {'mu': $a}\nget = box.get", "get('mu')", "box['mu'] = $e")
changing("a bound __getitem__", "box = [$a]\nget = box.__getitem__", "get(0)", "box[0] = $e")
changing("a bound method of an array", "box = np.array([$a, $a])\nget = box.mean", "get()", "np.add(box, 1, out=box)")
changing(
    "sum over map of a dict's items",
    "box = {'a': $a, 'b': 0.0}",
    "sum(v for k, v in box.items() if k != 'c')",
    "box['b'] = $e",
)
changing("max of a list", "box = [$a, 0.1]", "max(box)", "box.append($e)")
changing("any of a list of flags", "box = [False, False]", "(2.0 if any(box) else 1.0)", "box[1] = True")
changing("zip of two lists", "one, two = [1.0, $a], [1.0, 1.0]", "sum(p * q for p, q in zip(one, two))", "two[1] = 3.0")
changing(
    "a dict keyed by a class",
    "class Box:\n    pass\n\ntable = {Box: $a}\nbox = Box()",
    "table[type(box)]",
    "table[Box] = $e",
)
changing(
    "a counter of references",
    "import sys\n\nclass Box:\n    pass\n\nbox, kept = Box(), []",
    "(2.0 if len(kept) else 1.0)",
    "kept.append(box)",
)
if importlib.util.find_spec("pandas"):
    changing(
        "a data frame",
        "import pandas as pd\n\ntable = pd.DataFrame({'mu': [$a, 1.0]})",
        "float(table.loc[0, 'mu'])",
        "table.loc[0, 'mu'] = $e",
    )
    changing("a series", "import pandas as pd\n\ntable = pd.Series([$a, 1.0])", "table.sum()", "table[0] = $e")
    changing(
        "a data frame's array",
        "import pandas as pd\n\ntable = pd.DataFrame({'mu': [$a, 1.0]})",
        "table['mu'].to_numpy()[0]",
        "table.iloc[0, 0] = $e",
    )
changing(
    "scipy's spline, outside",
    "from scipy.interpolate import CubicSpline\n\nbox = [CubicSpline([0, 1, 2], [1.0, $a, 1.0])]",
    "float(box[0](1.0))",
    "box[0] = CubicSpline([0, 1, 2], [1.0, $e, 1.0])",
)
changing(
    "scipy's distribution, outside",
    "from scipy import stats\n\nbox = [stats.norm(scale=$a)]",
    "box[0].std()",
    "box[0] = stats.norm(scale=$e)",
)
changing(
    "a sparse matrix, outside",
    "from scipy import sparse\n\nbox = sparse.csr_array(np.array([[$a, 1.0]]))",
    "box[0, 0]",
    "box.data[0] = $e",
)
changing(
    "a polynomial of numpy, outside", "box = [np.poly1d([1.0, $a])]", "box[0](0.0)", "box[0] = np.poly1d([1.0, $e])"
)

# --- gradients within f, and f that changes what it is given
idiom(
    "a gradient in f",
    """
import koubai as kb

slope = kb.grad(lambda v: np.sum(np.sin(v) + $a * v**3))

def f(x):
    return np.sum(slope(x) ** 2) + np.sum(x**2)
""",
)
idiom(
    "a gradient made in f",
    """
import koubai as kb

def f(x):
    return np.sum(kb.grad(lambda v: $a * np.sum(v**3) + np.sum(np.cos(v)))(x) ** 2) + np.sum(x)
""",
)
idiom(
    "a dict that f fills",
    """
def collect(x, found):
    found["y"] = np.sin(x)
    found.setdefault("z", []).append(np.sum(x**2))
    return found

def f(x):
    found = {}
    collect(x, found)
    return np.sum(found["y"]) + $a * sum(found["z"])
""",
)
idiom(
    "a dict outside that f fills",
    """
found = {}

def f(x):
    found["y"] = np.sin(x)
    found["z"] = $a * np.sum(found["y"] ** 2)
    return found["z"] + np.sum(x**2)
""",
)
idiom(
    "a list outside that f fills and clears",
    """
parts = []

def f(x):
    parts.clear()
    for v in np.ravel(x):
        parts.append($a * v**2)
    return sum(parts) + np.sum(np.sin(x))

def probe():
    return len(parts)
""",
)
idiom(
    "a list outside that f fills and empties",
    """
stack = []

def f(x):
    stack.append(np.sum(x))
    stack.append($a * np.sum(x**2))
    return stack.pop() * 1.5 + math.sin(stack.pop())

def probe():
    return len(stack)
""",
)
idiom(
    "a result kept for the caller",
    """
class Model:
    def __call__(self, x):
        self.residuals = $a * np.asarray(x) - 0.3
        self.n = getattr(self, "n", 0) + 1
        self.cost = float(np.sum(self.residuals**2))
        return self.cost + np.sum(x)

f = model = Model()

def probe():
    return getattr(model, "n", 0)
""",
    alone=True,
)
idiom(
    "a gradient by hand beside the value",
    """
class Problem:
    def __init__(self):
        self.last_x = self.last_grad = None

    def both(self, x):
        if self.last_x is None or not np.array_equal(x, self.last_x):
            self.last_x, self.last_value = np.copy(x), $a * np.sum(x**2) + np.sum(np.sin(x))
        return self.last_value

problem = Problem()

def f(x):
    return problem.both(x)
""",
)
idiom(
    "a memo of f by its author",
    """
def memoized(function):
    known = {}

    @functools.wraps(function)
    def inner(x):
        key = $key
        if key not in known:
            known[key] = function(x)
        return known[key]

    return inner

@memoized
def f(x):
    return $F($a)
""",
    expect="differences",
    slots={"key": ("np.asarray(x).tobytes()", "tuple(np.ravel(x))", "str(x)", "repr(np.ravel(x).tolist())")},
)
idiom(
    "lru_cache over a tuple",
    """
@functools.lru_cache(maxsize=None)
def cost(parts):
    return $a * sum(v * v for v in parts) + math.sin(parts[0])

def f(x):
    return cost(tuple(np.ravel(x).tolist())) + np.sum(x**2)
""",
)
idiom(
    "a stop by the number of calls",
    """
class Stop(Exception):
    pass

calls = [0]

def f(x):
    calls[0] += 1
    if calls[0] > 10**6:
        raise Stop
    return $F($a)

def probe():
    return calls[0]
""",
)
idiom(
    "a history written by a callback",
    """
history = []
callbacks = [history.append, lambda loss: None]

def f(x):
    loss = $F($a)
    for callback in callbacks:
        callback(loss)
    return loss

def probe():
    return len(history)
""",
)
idiom(
    "a progress bar's text",
    """
import sys

def f(x):
    loss = $F($a)
    sys.stdout.write(f"\\rloss {loss:8.4f}")
    sys.stdout.flush()
    return loss
""",
)
idiom(
    "a moving average that enters the value, frozen",
    """
state = {"mean": 0.4, "train": False}

def f(x):
    batch = np.mean(x)
    if state["train"]:
        state["mean"] = 0.9 * state["mean"] + 0.1 * batch
    return $a * np.sum((x - state["mean"]) ** 2) + batch

def change():
    state["mean"] = 1.3
""",
)
idiom(
    "a clipping by a running maximum",
    """
largest = [100.0]

def f(x):
    s = np.sum(x)
    largest[0] = max(largest[0], abs(float(s)))
    return $a * min(s, largest[0]) ** 2 + np.sum(x**2)
""",
)
