"""Idioms: functions that read an outer number, and every way by which f comes to call them."""

# ruff: noqa: E501  (a short program is read best on one line)

from .writing import idiom


def reached(name, make, call, *, imports="", scale=True, **options):
    """Enter an idiom: ``scale()`` reads the outer ``mu``; make binds what f calls by the text ``call``."""
    helper = "def scale():\n    return mu\n\n" if scale else ""
    text = f"{imports}\n\nmu = $a\n\n{helper}{make}\n\ndef f(x):\n    return $F({call})\n\ndef change():\n    $scope mu\n    mu = $e\n"
    idiom(f"reached by {name}", text, **{"variants": 3, **options})


reached("its name", "", "scale()")
reached("another name", "alias = scale", "alias()")
reached("a list", "rules = [scale]", "rules[0]()")
reached("a tuple", "rules = (None, scale)", "rules[1]()")
reached("a dict", "rules = {'l2': scale}", "rules['l2']()")
reached("a dict's get", "rules = {'l2': scale}", "rules.get('l1', scale)()")
reached("a loop over a list", "rules = [scale, scale]", "sum(rule() for rule in rules) / 2")
reached("a dict of dicts", "rules = {'a': {'b': scale}}", "rules['a']['b']()")
reached("an attribute", "class Box:\n    pass\n\nbox = Box()\nbox.rule = scale", "box.rule()")
reached("a namespace", "box = SimpleNamespace(rule=scale)", "box.rule()", imports="from types import SimpleNamespace")
reached(
    "a list of an object",
    "class Box:\n    def __init__(self, *rules):\n        self.rules = list(rules)\n\nbox = Box(scale)",
    "box.rules[0]()",
)
reached("an object's method", "class Box:\n    def rule(self):\n        return scale()\n\nbox = Box()", "box.rule()")
reached(
    "a bound method", "class Box:\n    def rule(self):\n        return mu\n\nrule = Box().rule", "rule()", scale=False
)
reached(
    "bound methods in a list",
    "class Box:\n    def rule(self):\n        return mu\n\nrules = [Box().rule]",
    "[r() for r in rules][0]",
    scale=False,
)
reached(
    "a static method", "class Box:\n    @staticmethod\n    def rule():\n        return mu", "Box.rule()", scale=False
)
reached(
    "an object's static method",
    "class Box:\n    @staticmethod\n    def rule():\n        return mu\n\nbox = Box()",
    "box.rule()",
    scale=False,
)
reached(
    "a class method", "class Box:\n    @classmethod\n    def rule(cls):\n        return mu", "Box.rule()", scale=False
)
reached(
    "an object's class method",
    "class Box:\n    @classmethod\n    def rule(cls):\n        return mu\n\nbox = Box()",
    "box.rule()",
    scale=False,
)
reached("a static method held", "class Box:\n    rule = staticmethod(scale)", "Box.rule()")
reached("a partial", "rule = functools.partial(scale)", "rule()")
reached(
    "a partial of a partial",
    "def times(a, b):\n    return a * b * mu\n\nrule = functools.partial(functools.partial(times, 1.0), b=1.0)",
    "rule()",
    scale=False,
)
reached(
    "a partial method",
    "class Box:\n    def rule(self, k):\n        return k * mu\n\n    plain = functools.partialmethod(rule, 1.0)\n\nbox = Box()",
    "box.plain()",
    scale=False,
)
reached(
    "an ABC",
    "class Base(abc.ABC):\n    @abc.abstractmethod\n    def rule(self): ...\n\nclass Box(Base):\n    def rule(self):\n        return mu\n\nbox = Box()",
    "box.rule()",
    imports="import abc",
    scale=False,
)
reached(
    "an abstract base's own method",
    "class Base(abc.ABC):\n    def rule(self):\n        return self.plain()\n\n    @abc.abstractmethod\n    def plain(self): ...\n\nclass Box(Base):\n    def plain(self):\n        return mu\n\nbox = Box()",
    "box.rule()",
    imports="import abc",
    scale=False,
)
reached(
    "a protocol",
    "class Rule(Protocol):\n    def rule(self) -> float: ...\n\nclass Box(Rule):\n    def rule(self):\n        return mu\n\nbox = Box()",
    "box.rule()",
    imports="from typing import Protocol",
    scale=False,
)
reached(
    "super()",
    "class Base:\n    def rule(self):\n        return mu\n\nclass Box(Base):\n    def rule(self):\n        return super().rule()\n\nbox = Box()",
    "box.rule()",
    scale=False,
)
reached(
    "a diamond of bases",
    "class A:\n    def rule(self):\n        return mu\n\nclass B(A):\n    def rule(self):\n        return super().rule()\n\nclass C(A):\n    def rule(self):\n        return super().rule()\n\nclass D(B, C):\n    def rule(self):\n        return super().rule()\n\nbox = D()",
    "box.rule()",
    scale=False,
)
reached(
    "a mixin",
    "class Mixin:\n    def rule(self):\n        return mu\n\nclass Box(Mixin, dict):\n    pass\n\nbox = Box()",
    "box.rule()",
    scale=False,
)
reached(
    "a metaclass's method",
    "class Meta(type):\n    def rule(cls):\n        return mu\n\nclass Box(metaclass=Meta):\n    pass",
    "Box.rule()",
    scale=False,
)
reached(
    "a metaclass's property",
    "class Meta(type):\n    @property\n    def rule(cls):\n        return mu\n\nclass Box(metaclass=Meta):\n    pass",
    "Box.rule",
    scale=False,
)
reached(
    "a property",
    "class Box:\n    @property\n    def rule(self):\n        return mu\n\nbox = Box()",
    "box.rule",
    scale=False,
)
reached(
    "a property made by hand",
    "class Box:\n    rule = property(lambda self: mu)\n\nbox = Box()",
    "box.rule",
    scale=False,
)
reached(
    "an uncached property",
    "class Box:\n    @functools.cached_property\n    def rule(self):\n        return mu",
    "Box().rule",
    scale=False,
)
reached(
    "a descriptor",
    "class Rule:\n    def __get__(self, thing, owner=None):\n        return mu\n\nclass Box:\n    rule = Rule()\n\nbox = Box()",
    "box.rule",
    scale=False,
)
reached(
    "__getattr__",
    "class Box:\n    def __getattr__(self, name):\n        if name == 'rule':\n            return mu\n        raise AttributeError(name)\n\nbox = Box()",
    "box.rule",
    scale=False,
)
reached(
    "__getattribute__",
    "class Box:\n    def __getattribute__(self, name):\n        return mu if name == 'rule' else object.__getattribute__(self, name)\n\nbox = Box()",
    "box.rule",
    scale=False,
)
reached(
    "a module's __getattr__",
    "box = types.ModuleType('TAG_lazy')\nbox.__getattr__ = lambda name: mu",
    "box.rule",
    imports="import types",
    scale=False,
)
reached("__call__", "class Rule:\n    def __call__(self):\n        return mu\n\nrule = Rule()", "rule()", scale=False)
reached(
    "__call__ in a list",
    "class Rule:\n    def __call__(self):\n        return mu\n\nrules = [Rule()]",
    "rules[0]()",
    scale=False,
)
reached(
    "__call__ with slots",
    "class Rule:\n    __slots__ = ()\n\n    def __call__(self):\n        return mu\n\nrule = Rule()",
    "rule()",
    scale=False,
)
reached(
    "__getitem__", "class Box:\n    def __getitem__(self, i):\n        return mu\n\nbox = Box()", "box[3]", scale=False
)
reached(
    "__len__",
    "class Box:\n    def __len__(self):\n        return 1 if mu < 1.3 else 2\n\nbox = Box()",
    "len(box)",
    scale=False,
)
reached("__iter__", "class Box:\n    def __iter__(self):\n        yield mu\n\nbox = Box()", "sum(box)", scale=False)
reached(
    "__next__",
    "class Box:\n    def __iter__(self):\n        return self\n\n    def __next__(self):\n        return mu",
    "next(Box())",
    scale=False,
)
reached(
    "__contains__",
    "class Box:\n    def __contains__(self, k):\n        return mu > 1.3\n\nbox = Box()",
    "(2.0 if 3 in box else 1.0)",
    scale=False,
)
reached(
    "__enter__",
    "class Box:\n    def __enter__(self):\n        return mu\n\n    def __exit__(self, *problem):\n        return False\n\ndef used():\n    with Box() as rule:\n        return rule",
    "used()",
    scale=False,
)
reached(
    "__missing__",
    "class Box(dict):\n    def __missing__(self, key):\n        return mu\n\nbox = Box()",
    "box['rule']",
    scale=False,
)
reached(
    "__float__",
    "class Box:\n    def __float__(self):\n        return float(mu)\n\nbox = Box()",
    "float(box)",
    scale=False,
)
reached(
    "__bool__",
    "class Box:\n    def __bool__(self):\n        return mu > 1.3\n\nbox = Box()",
    "(2.0 if box else 1.0)",
    scale=False,
)
reached(
    "__eq__",
    "class Box:\n    __hash__ = None\n\n    def __eq__(self, other):\n        return mu > 1.3\n\nbox = Box()",
    "(2.0 if box == 1 else 1.0)",
    scale=False,
)
reached(
    "__rmul__",
    "class Box:\n    def __rmul__(self, other):\n        return other * mu\n\nbox = Box()",
    "1.0 * box",
    scale=False,
)
reached(
    "__matmul__",
    "class Box:\n    def __matmul__(self, other):\n        return mu * other\n\nbox = Box()",
    "box @ 1.0",
    scale=False,
)
reached(
    "__array__",
    "class Box:\n    def __array__(self, dtype=None, copy=None):\n        return np.array([mu])\n\nbox = Box()",
    "np.sum(box)",
    scale=False,
)
reached(
    "__format__",
    "class Box:\n    def __format__(self, spec):\n        return str(mu)\n\nbox = Box()",
    "float(f'{box}')",
    scale=False,
)
reached(
    "__str__",
    "class Box:\n    def __str__(self):\n        return str(mu)\n\nbox = Box()",
    "float(str(box))",
    scale=False,
)
reached(
    "__new__",
    "class Box:\n    def __new__(cls):\n        thing = super().__new__(cls)\n        thing.mu = mu\n        return thing",
    "Box().mu",
    scale=False,
)
reached("__init__", "class Box:\n    def __init__(self):\n        self.mu = mu", "Box().mu", scale=False)
reached(
    "__post_init__",
    "@dataclass\nclass Box:\n    k: float = 1.0\n\n    def __post_init__(self):\n        self.k *= mu",
    "Box().k",
    imports="from dataclasses import dataclass",
    scale=False,
)
reached(
    "a default factory",
    "@dataclass\nclass Box:\n    k: float = field(default_factory=lambda: mu)",
    "Box().k",
    imports="from dataclasses import dataclass, field",
    scale=False,
)
reached(
    "a slotted dataclass's method",
    "@dataclass(slots=True)\nclass Box:\n    k: float = 1.0\n\n    def rule(self):\n        return self.k * mu\n\nbox = Box()",
    "box.rule()",
    imports="from dataclasses import dataclass",
    scale=False,
)
reached(
    "a frozen dataclass's method",
    "@dataclass(frozen=True)\nclass Box:\n    k: float = 1.0\n\n    def rule(self):\n        return self.k * mu\n\nbox = Box()",
    "box.rule()",
    imports="from dataclasses import dataclass",
    scale=False,
)
reached(
    "a named tuple's method",
    "class Box(NamedTuple):\n    k: float = 1.0\n\n    def rule(self):\n        return self.k * mu\n\nbox = Box()",
    "box.rule()",
    imports="from typing import NamedTuple",
    scale=False,
)
reached(
    "a named tuple's field",
    "class Box(NamedTuple):\n    rule: object\n\nbox = Box(scale)",
    "box.rule()",
    imports="from typing import NamedTuple",
)
reached(
    "an enum's method",
    "class Box(enum.Enum):\n    ONE = 1\n\n    def rule(self):\n        return self.value * mu",
    "Box.ONE.rule()",
    imports="import enum",
    scale=False,
)
reached(
    "a class made in f",
    "def used():\n    class Box:\n        def rule(self):\n            return mu\n\n    return Box().rule()",
    "used()",
    scale=False,
)
reached(
    "a class body in f", "def used():\n    class Box:\n        rule = mu\n\n    return Box.rule", "used()", scale=False
)
reached(
    "type() in f", "def used():\n    return type('Box', (), {'rule': lambda self: mu})().rule()", "used()", scale=False
)
reached(
    "a function made in f",
    "def used():\n    def inner():\n        return mu\n\n    return inner()",
    "used()",
    scale=False,
)
reached(
    "a factory",
    "def build(k):\n    def inner():\n        return k * mu\n\n    return inner\n\nrule = build(1.0)",
    "rule()",
    scale=False,
)
reached("a default", "def used(rule=scale):\n    return rule()", "used()")
reached("a keyword default", "def used(*, rule=scale):\n    return rule()", "used()")
reached("an argument", "def used(rule):\n    return rule()", "used(scale)")
reached(
    "star arguments",
    "def used(*rules, **named):\n    return rules[0]() * named['one']() / mu",
    "used(scale, one=scale)",
)
reached(
    "a decorator",
    "def plain(function):\n    def inner():\n        return function()\n\n    return inner\n\n@plain\ndef rule():\n    return mu",
    "rule()",
    scale=False,
)
reached(
    "functools.wraps",
    "def plain(function):\n    @functools.wraps(function)\n    def inner(*args, **kwargs):\n        return function(*args, **kwargs)\n\n    return inner\n\n@plain\ndef rule():\n    return mu",
    "rule()",
    scale=False,
)
reached(
    "a decorator with arguments",
    "def times(k):\n    def wrap(function):\n        def inner():\n            return k * function()\n\n        return inner\n\n    return wrap\n\n@times(1.0)\ndef rule():\n    return mu",
    "rule()",
    scale=False,
)
reached(
    "a decorator class",
    "class Plain:\n    def __init__(self, function):\n        self.function = function\n\n    def __call__(self):\n        return self.function()\n\n@Plain\ndef rule():\n    return mu",
    "rule()",
    scale=False,
)
reached(
    "a registry by decorator",
    "RULES = {}\n\ndef register(function):\n    RULES[function.__name__] = function\n    return function\n\n@register\ndef rule():\n    return mu",
    "RULES['rule']()",
    scale=False,
)
reached(
    "a registry of classes",
    "RULES = {}\n\nclass Base:\n    def __init_subclass__(cls):\n        RULES[cls.__name__] = cls\n\nclass Box(Base):\n    def rule(self):\n        return mu",
    "RULES['Box']().rule()",
    scale=False,
)
reached(
    "lru_cache, cleared",
    "@functools.lru_cache\ndef rule():\n    return mu\n\ndef used():\n    rule.cache_clear()\n    return rule()",
    "used()",
    scale=False,
)
reached("functools.cache over mu", "@functools.cache\ndef rule(k):\n    return 1.0 * k", "rule(mu)", scale=False)
reached(
    "singledispatch",
    "@functools.singledispatch\ndef rule(k):\n    return 0.0\n\n@rule.register\ndef _(k: int):\n    return k * mu",
    "rule(1)",
    scale=False,
)
reached(
    "singledispatchmethod",
    "class Box:\n    @functools.singledispatchmethod\n    def rule(self, k):\n        return 0.0\n\n    @rule.register\n    def _(self, k: int):\n        return k * mu\n\nbox = Box()",
    "box.rule(1)",
    scale=False,
)
reached(
    "contextlib",
    "@contextlib.contextmanager\ndef opened():\n    yield mu\n\ndef used():\n    with opened() as rule:\n        return rule",
    "used()",
    imports="import contextlib",
    scale=False,
)
reached(
    "an ExitStack",
    "@contextlib.contextmanager\ndef opened():\n    yield mu\n\ndef used():\n    with contextlib.ExitStack() as stack:\n        return stack.enter_context(opened())",
    "used()",
    imports="import contextlib",
    scale=False,
)
reached("a generator", "def rules():\n    yield mu\n    yield 0.0", "sum(rules())", scale=False)
reached(
    "yield from", "def inner():\n    yield mu\n\ndef rules():\n    yield from inner()", "next(rules())", scale=False
)
reached(
    "a generator that is sent to",
    "def rules():\n    k = yield\n    yield k * mu\n\ndef used():\n    talk = rules()\n    next(talk)\n    return talk.send(1.0)",
    "used()",
    scale=False,
)
reached(
    "a coroutine",
    "async def rule():\n    return mu\n\ndef used():\n    try:\n        rule().send(None)\n    except StopIteration as end:\n        return end.value",
    "used()",
    scale=False,
)
reached(
    "attrgetter",
    "class Box:\n    @property\n    def rule(self):\n        return mu\n\nget = operator.attrgetter('rule')\nbox = Box()",
    "get(box)",
    imports="import operator",
    scale=False,
)
reached(
    "methodcaller",
    "class Box:\n    def rule(self):\n        return mu\n\ncall = operator.methodcaller('rule')\nbox = Box()",
    "call(box)",
    imports="import operator",
    scale=False,
)
reached("operator.call", "", "operator.call(scale)", imports="import operator")
reached("map", "", "list(map(lambda k: k * mu, [1.0]))[0]")
reached("filter", "", "len(list(filter(lambda k: k > mu, [0.0, 1.3, 9.0])))")
reached("reduce", "", "functools.reduce(lambda s, k: s + k * mu, [1.0], 0.0)")
reached("sorted's key", "", "sorted([0.0, 2.0], key=lambda k: k * (mu - 1.3))[0] + mu")
reached("max's key", "", "max([0.5, 2.0], key=lambda k: k * (mu - 1.3))")
reached("itertools", "", "sum(itertools.starmap(lambda a, b: a * b * mu, [(1.0, 1.0)]))", imports="import itertools")
reached(
    "accumulate", "", "list(itertools.accumulate([1.0, 1.0], lambda s, k: s + k * mu))[-1]", imports="import itertools"
)
reached("an iterator of two arguments", "", "next(iter(scale, None))")
reached("re.sub", "", "float(re.sub('k', lambda m: str(mu), 'k'))", imports="import re")
reached("eval", "rule = eval('lambda: mu')", "rule()", scale=False, layouts=("module", "loose", "anonymous"))
reached("eval in f", "", "eval('mu * 1.0')", scale=False, layouts=("module", "loose", "anonymous"))
reached(
    "eval with names", "names = {'sqrt': np.sqrt}\nrule = eval('lambda k: sqrt(k)', names)", "rule(mu)", scale=False
)
reached("exec", "space = {}\nexec('def rule(k):\\n    return 1.0 * k', space)", "space['rule'](mu)", scale=False)
reached(
    "exec in f",
    "def used():\n    space = {'mu': mu}\n    exec('k = mu * 1.0', space)\n    return space['k']",
    "used()",
    scale=False,
)
reached("globals()", "", "globals()['scale']()", layouts=("module", "loose", "anonymous"))
reached("vars()", "class Box:\n    pass\n\nbox = Box()\nbox.rule = scale", "vars(box)['rule']()")
reached("getattr", "class Box:\n    rule = staticmethod(scale)\n\nname = 'rule'", "getattr(Box, name)()")
reached(
    "a class's dict", "class Box:\n    def rule(self):\n        return mu", "Box.__dict__['rule'](None)", scale=False
)
reached("a module", "box = types.ModuleType('TAG_rules')\nbox.rule = scale", "box.rule()", imports="import types")
reached("np.vectorize", "rule = np.vectorize(lambda k: k * mu)", "np.sum(rule(np.ones(1)))", scale=False)
reached("np.frompyfunc", "rule = np.frompyfunc(lambda k: k * mu, 1, 1)", "float(rule(1.0))", scale=False)
reached("np.apply_along_axis", "", "np.apply_along_axis(lambda row: row.sum() * mu, 0, np.ones(1))", scale=False)
reached("np.fromfunction", "", "float(np.fromfunction(lambda i: (i + 1) * mu, (1,))[0])", scale=False)
reached("np.fromiter", "", "np.fromiter((k * mu for k in [1.0]), float)[0]", scale=False)
reached("np.piecewise", "", "np.piecewise(np.ones(1), [np.array([True])], [lambda k: k * mu])[0]", scale=False)
reached("recursion", "def rule(depth):\n    return mu if depth == 0 else rule(depth - 1)", "rule(3)", scale=False)
reached(
    "mutual recursion",
    "def even(k):\n    return mu if k == 0 else odd(k - 1)\n\ndef odd(k):\n    return even(k - 1)",
    "even(4)",
    scale=False,
)
reached(
    "a thread pool",
    "def used():\n    with ThreadPoolExecutor(1) as pool:\n        return list(pool.map(lambda k: k * mu, [1.0]))[0]",
    "used()",
    imports="from concurrent.futures import ThreadPoolExecutor",
    scale=False,
)
reached(
    "a thread",
    "def used():\n    found = []\n    thread = threading.Thread(target=lambda: found.append(mu))\n    thread.start()\n    thread.join()\n    return found[0]",
    "used()",
    imports="import threading",
    scale=False,
)
reached(
    "a weak method",
    "class Box:\n    def rule(self):\n        return mu\n\nbox = Box()\nref = weakref.WeakMethod(box.rule)",
    "ref()()",
    imports="import weakref",
    scale=False,
    layouts=("module", "loose", "anonymous"),
)
reached(
    "a composed function",
    "def compose(*functions):\n    return lambda k: functools.reduce(lambda v, g: g(v), functions, k)\n\nrule = compose(lambda k: k * mu, float)",
    "rule(1.0)",
    scale=False,
)
reached(
    "a match statement",
    "def used(kind):\n    match kind:\n        case ('l2', k):\n            return k * mu\n        case _:\n            return 0.0",
    "used(('l2', 1.0))",
    scale=False,
)
reached(
    "a match of a class",
    "@dataclass\nclass Box:\n    k: float\n\ndef used(thing):\n    match thing:\n        case Box(k=k):\n            return k * mu\n        case {'k': k}:\n            return k\n    return 0.0",
    "used(Box(1.0))",
    imports="from dataclasses import dataclass",
    scale=False,
)
reached("a comprehension", "", "[k * mu for k in (1.0, 2.0)][0]", scale=False)
reached("a dict comprehension", "", "{k: k * mu for k in (1.0, 2.0)}[1.0]", scale=False)
reached("a walrus", "", "(k := mu) * 1.0", scale=False)
reached(
    "a signal by name",
    "HANDLERS = []\n\ndef connect(function):\n    HANDLERS.append(weakref.ref(function))\n    return function\n\n@connect\ndef rule():\n    return mu",
    "HANDLERS[0]()()",
    imports="import weakref",
    scale=False,
    layouts=("module", "loose", "anonymous"),
)
