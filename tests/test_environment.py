"""What a traced function reads and changes outside itself: every row is a program as people write it."""

import abc
import argparse
import array
import collections
import contextlib
import contextvars
import dataclasses
import enum
import functools
import gc
import math
import sys
import types
import typing
import warnings

import numpy as np
import pytest

import koubai as kb
from koubai.errors import FallbackWarning
from koubai.graph.traced import Traced

X = np.array([1.5, 0.7])
slope = 2.0


def loss(x, mu):
    return np.sum(x**2) * mu + np.sin(x[0])


def helper(x):
    return loss(x, slope) + math.exp(x[1])


def steeper():
    global slope
    slope += 1.0


def differences(f, x):
    return np.array([(f(x + e) - f(x - e)) / 2e-5 for e in np.eye(x.size) * 1e-5])


# -- what it reads ----------------------------------------------------------------------------------------------------
# each returns f and what changes its surroundings: afterwards, the same gradient object has to see the change


def simple_namespace():
    c = types.SimpleNamespace(mu=2.0)
    return lambda x: loss(x, c.mu), lambda: setattr(c, "mu", 3.0)


def parsed_arguments():
    c = argparse.Namespace(mu=2.0)
    return lambda x: loss(x, c.mu), lambda: setattr(c, "mu", 3.0)


def user_dict():
    c = collections.UserDict(mu=2.0)
    return lambda x: loss(x, c["mu"]), lambda: c.update(mu=3.0)


def chain_map():
    inner = {"mu": 2.0}
    c = collections.ChainMap({}, inner)
    return lambda x: loss(x, c["mu"]), lambda: inner.update(mu=3.0)


def deque():
    c = collections.deque([2.0])
    return lambda x: loss(x, c[0]), lambda: c.__setitem__(0, 3.0)


def c_array():
    c = array.array("d", [2.0])
    return lambda x: loss(x, c[0]), lambda: c.__setitem__(0, 3.0)


def byte_array():
    c = bytearray([2])
    return lambda x: loss(x, c[0]), lambda: c.__setitem__(0, 3)


def context_variable():
    c = contextvars.ContextVar("c")
    c.set(2.0)
    return lambda x: loss(x, c.get()), lambda: c.set(3.0)


def slots():
    class Config:
        __slots__ = ("mu",)

    c = Config()
    c.mu = 2.0
    return lambda x: loss(x, c.mu), lambda: setattr(c, "mu", 3.0)


@dataclasses.dataclass(slots=True)
class Slotted:
    mu: float = 2.0

    def loss(self, x):
        return loss(x, self.mu) * math.exp(-x[1])


def slotted_dataclass():
    c = Slotted()
    return c.loss, lambda: setattr(c, "mu", 3.0)


def structured_array():
    c = np.array([(2.0, 1)], dtype=[("mu", float), ("n", int)])
    return lambda x: loss(x, c["mu"][0]), lambda: c["mu"].__setitem__(0, 3.0)


def object_array():
    c = np.array([2.0, None], dtype=object)
    return lambda x: loss(x, c[0]), lambda: c.__setitem__(0, 3.0)


def text_array():
    c = np.array(["2.0"])
    return lambda x: loss(x, float(c[0])), lambda: c.__setitem__(0, "3.0")


def keyword_default():
    def f(x, *, mu=2.0):
        return loss(x, mu)

    return f, lambda: f.__kwdefaults__.update(mu=3.0)


def partial_keyword():
    f = functools.partial(lambda x, mu: loss(x, mu), mu=2.0)
    return f, lambda: f.keywords.update(mu=3.0)


def class_of_an_object():
    class One:
        mu = 2.0

    class Two:
        mu = 3.0

    c = One()
    return lambda x: loss(x, c.mu), lambda: setattr(c, "__class__", Two)


def attribute_that_shades_the_class():
    class Config:
        mu = 2.0

    c = Config()
    return lambda x: loss(x, c.mu), lambda: setattr(c, "mu", 3.0)


def name_that_comes_later():
    space = {"np": np}
    exec("def f(x):\n    try: mu = later\n    except NameError: mu = 2.0\n    return np.sum(x**2) * mu", space)
    return space["f"], lambda: space.update(later=3.0)


def builtin_that_is_shaded():
    space = {"np": np}
    exec("def f(x):\n    return sum(x * x) * 2.0", space)
    return space["f"], lambda: space.update(sum=lambda v: 3.0 * np.sum(v))


def function_attribute():
    def f(x):
        return loss(x, f.mu)

    f.mu = 2.0
    return f, lambda: setattr(f, "mu", 3.0)


def imported_inside():
    module = types.ModuleType("a_module_of_the_users")
    exec("import numpy as np\nmu = 2.0\ndef h(x): return np.sum(x**2) * mu", vars(module))
    sys.modules[module.__name__] = module

    def f(x):
        import a_module_of_the_users
        from a_module_of_the_users import h

        return h(x) + a_module_of_the_users.mu * np.sum(x)

    return f, lambda: setattr(module, "mu", 3.0)


def made_by_frompyfunc():
    rule = np.frompyfunc(lambda k: k * slope, 1, 1)
    return lambda x: loss(x, float(rule(1.0))), steeper


def evaluated():
    space = {"np": np, "mu": 2.0}
    exec("def f(x): return np.sum(x**2) * eval('mu + 1.0')", space)
    return space["f"], lambda: space.update(mu=3.0)


def class_body():
    def f(x):
        class Weights:
            mu = slope

        return loss(x, Weights.mu)

    return f, steeper


class Toolbox:
    scale = 2.0

    @staticmethod
    def static(x):
        return helper(x)

    @classmethod
    def of_class(cls, x):
        return helper(x) * cls.scale

    @property
    def mu(self):
        return slope * self.scale

    @functools.cached_property
    def weights(self):
        return np.arange(1.0, 3.0)

    def method(self, x):
        return np.sum(self.weights * x) * helper(x)

    def __call__(self, x):
        return helper(x)


class Descriptor:
    def __get__(self, thing, kind):
        return lambda x: helper(x)


class Abstract(abc.ABC):
    @abc.abstractmethod
    def inner(self, x): ...

    def f(self, x):
        return self.inner(x) * 2


class Concrete(Abstract):
    attached = Descriptor()

    def __init__(self):
        super().__init__()
        self.k = 2.0

    def inner(self, x):
        return helper(x) * self.k

    def f(self, x):
        return super().f(x) + math.exp(x[0])


class Settings(dict):
    __getattr__ = dict.__getitem__


class Borg:
    shared: typing.ClassVar = {"mu": 2.0}

    def __init__(self):
        self.__dict__ = self.shared


class Choice(enum.Enum):
    A = 2.0


@contextlib.contextmanager
def scaled(x):
    yield x * slope


def doubled(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) * 2

    return wrapper


@functools.lru_cache
def cached(n):
    return slope * n


def in_context(x):
    with scaled(x) as y:
        return np.sum(y**2)


def class_attribute():
    return lambda x: Toolbox.of_class(x), lambda: setattr(Toolbox, "scale", Toolbox.scale + 1)


def shared_attributes():
    return lambda x: loss(x, Borg().mu), lambda: setattr(Borg(), "mu", Borg().mu + 1)


def class_of_dicts():
    c = Settings(mu=2.0)
    return lambda x: loss(x, c.mu), lambda: c.update(mu=c.mu + 1)


REACHED = {  # a function that reads the global ``slope``, reached in every way
    "list": (held := [helper], lambda x: held[0](x))[1],
    "tuple in a dict": (table := {"a": (helper,)}, lambda x: table["a"][0](x))[1],
    "namespace": (space := types.SimpleNamespace(f=helper), lambda x: space.f(x))[1],
    "default": lambda x, f=helper: f(x),
    "partial": functools.partial(lambda s, x: helper(x) * s, 2.0),
    "partial in a name": (bound := functools.partial(lambda s, x: helper(x) * s, 2.0), lambda x: bound(x))[1],
    "static method": lambda x: Toolbox.static(x),
    "class method": lambda x: Toolbox.of_class(x),
    "property": lambda x: loss(x, Toolbox().mu),
    "object that is called": Toolbox(),
    "method": Toolbox().method,
    "method of an object made inside": lambda x: Toolbox().method(x),
    "abstract base class": Concrete().f,
    "descriptor": lambda x: Concrete().attached(x),
    "decorator": doubled(helper),
    "context manager": in_context,
    "generator": lambda x: sum(helper(v) for v in (x, 2 * x)),
    "comprehension of methods": lambda x: [layer.method for layer in (Toolbox(), Toolbox())][1](x),
    "map": lambda x: sum(map(helper, (x, 2 * x))),
    "reduce": lambda x: functools.reduce(lambda a, b: a + helper(b), (x, 2 * x), 0.0),
    "bound method in a name": (method := Toolbox().method, lambda x: method(x))[1],
    "np.vectorize": lambda x: np.sum(np.vectorize(lambda v: v * v * slope)(x)),
    "recursion": lambda x: (lambda f: f(f, 3))(lambda f, n: helper(x) + (f(f, n - 1) if n else 0)),
    "lru_cache": lambda x: np.sum(x**2) * cached.__wrapped__(3),
}
CHANGES = [
    simple_namespace, parsed_arguments, user_dict, chain_map, deque, c_array, byte_array, context_variable, slots,
    slotted_dataclass, structured_array, object_array, text_array, keyword_default, partial_keyword, class_of_an_object,
    attribute_that_shades_the_class, name_that_comes_later, builtin_that_is_shaded, function_attribute, imported_inside,
    made_by_frompyfunc, evaluated, class_body,
    *[pytest.param(lambda f=f: (f, steeper), id=name) for name, f in REACHED.items()],
    class_attribute, shared_attributes, class_of_dicts,
]  # fmt: skip


# -- what it has kept of an earlier call under x, or beside a copy of it ----------------------------------------------
def kept_in_a_dict():
    cache = {}

    def f(x):
        key = tuple(x.tolist())
        if key not in cache:
            cache[key] = np.sum(x**2) * slope
        return cache[key] + np.sum(np.sin(x))

    return f


def kept_by_number():
    cache = {}

    def step(v, n):
        if (v, n) not in cache:
            cache[v, n] = v if n == 0 else math.sin(step(v, n - 1)) + 0.9 * v
        return cache[v, n]

    return lambda x: sum(step(v, 3) for v in x.tolist()) * 1e-6 + np.sum(x**2)


def kept_beside_x():
    class Last:
        x = None

        def value(self, x):
            if not np.array_equal(x, self.x):
                self.x, self.kept = np.copy(x), np.sum(np.exp(x))
            return self.kept

    return Last().value


def kept_in_lists():
    seen, values = [], []

    def f(x):
        for one, value in zip(seen, values, strict=True):
            if (one == x).all():
                return value
        seen.append(x.copy())
        values.append(loss(x, slope))
        return values[-1]

    return f


def kept_by_lru_cache():
    @functools.lru_cache
    def inner(parts):
        return sum(v**3 for v in parts)

    return lambda x: inner(tuple(x.tolist())) + inner(tuple(np.tanh(x).tolist()))


@pytest.mark.parametrize("make", [kept_in_a_dict, kept_by_number, kept_beside_x, kept_in_lists, kept_by_lru_cache])
def test_what_is_kept_under_x_is_traced_again(make):
    f, fresh = make(), make()
    for both in (kb.value_and_grad(f, method="backprop"), kb.value_and_grad(f, method="backprop")):
        for x in (X, X + 0.3, X):
            wanted = f(x)
            value, gradient = both(x)
            assert value == pytest.approx(wanted, rel=1e-14)
            np.testing.assert_allclose(gradient, differences(fresh, x), rtol=1e-9, atol=1e-9)
            assert type(f(x)) in (float, np.float64)


def test_a_value_that_only_equals_one_from_elsewhere_stays_what_it_is():
    table, special = {1.0: 5.0, 2.0: 7.0}, np.array([1.0, 2.0])
    x = np.array([1.0, 0.7])
    for f, along in (
        (lambda x: table[float(x[0])] * x[1], 5.0),
        (lambda x: np.sum(np.where(x == special, 3 * x, x**2)) + x[0], 1.4),
        (lambda x: x[1] ** 2 if x[0] == 1.0 else x[0] * np.sin(x[1]), 1.4),
    ):
        with warnings_that_are("ignore"):
            value, gradient = kb.value_and_grad(f)(x)
        assert value == f(x)
        assert gradient[1] == pytest.approx(along, rel=1e-9)


def test_the_memory_of_a_function_is_cleared_inside():
    mu = 2.0

    @functools.lru_cache
    def rule():
        return mu

    def f(x):
        rule.cache_clear()
        return loss(x, rule())

    both = kb.value_and_grad(f, method="backprop")
    for _ in range(2):
        assert both(X)[0] == f(X)
        np.testing.assert_allclose(both(X)[1], differences(f, X), rtol=1e-7)
        mu = 3.0


def test_an_array_of_ctypes_is_read_where_its_class_has_no_module():
    namespace = {"loss": loss}
    exec("import ctypes\nbox = (ctypes.c_double * 2)(2.0, 1.0)\ndef f(x):\n    return loss(x, box[0])", namespace)
    f, both = namespace["f"], kb.value_and_grad(namespace["f"], method="backprop")
    for namespace["box"][0] in (2.0, 3.0):
        assert both(X)[0] == f(X)


def test_a_class_shows_its_annotations():
    class Box:
        mu: float

    def f(x):
        return loss(x, float(len(Box.__annotations__)))

    both = kb.value_and_grad(f, method="backprop")
    for count in (1, 2):
        assert both(X)[0] == f(X)
        np.testing.assert_allclose(both(X)[1], differences(f, X), rtol=1e-7)
        assert len(Box.__annotations__) == count
        Box.__annotations__["nu"] = float


@pytest.mark.parametrize("make", CHANGES)
def test_a_gradient_in_use_sees_what_changes_outside(make):
    f, change = make()
    gradient = kb.grad(f, method="backprop")
    for x in (X, X + 0.3):
        np.testing.assert_allclose(gradient(x), differences(f, x), rtol=1e-7, atol=1e-7)
    before = gradient(X)
    change()
    np.testing.assert_allclose(gradient(X), differences(f, X), rtol=1e-7, atol=1e-7)
    assert np.max(np.abs(gradient(X) - before)) > 1e-3
    assert type(f(X)) in (float, np.float64)


def test_objects_and_functions_given_as_arguments_are_watched():
    class Config:
        mu = 2.0

    def made(mu):
        def rule(x):
            return loss(x, mu[0])

        return rule

    mu = [2.0]
    for thing, f, change in (
        (Config(), lambda x, c: loss(x, c.mu), lambda c: setattr(c, "mu", 3.0)),
        (types.SimpleNamespace(mu=2.0), lambda x, c: loss(x, c.mu), lambda c: setattr(c, "mu", 3.0)),
        (made(mu), lambda x, rule: rule(x), lambda rule: mu.__setitem__(0, 3.0)),
        (Slotted(), lambda x, c: c.loss(x), lambda c: setattr(c, "mu", 3.0)),
    ):
        gradient = kb.grad(f, method="backprop")
        for _ in range(2):
            expected = differences(lambda x, f=f, thing=thing: f(x, thing), X)
            np.testing.assert_allclose(gradient(X, thing), expected, rtol=1e-7)
            change(thing)


def test_what_can_not_be_watched_is_traced_at_each_call_and_checked_once(monkeypatch):
    current = contextvars.ContextVar("current")
    current.set(2.0)
    both = kb.value_and_grad(lambda x: loss(x, current.get()), method="backprop")
    both(X)
    first = both.nfev
    for n in range(1, 20):
        both(X * n)
    assert both.nfev == first + 19
    assert "ContextVar" in both.paths.newest(next(iter(both.paths._known))).recorded.environment.unwatched


def test_a_penalty_that_grows_in_on_step_ends_where_it_should():
    for config in (types.SimpleNamespace(mu=0.0), Settings(mu=0.0), {"mu": 0.0}):

        def f(x, config=config):
            mu = config["mu"] if isinstance(config, dict) else config.mu
            return (x[0] - 2.0) ** 2 + mu * (x[0] - 1.0) ** 2

        def on_step(step, config=config):
            if step.t == 50:
                config.update(mu=3.0) if isinstance(config, dict) else setattr(config, "mu", 3.0)

        run = kb.minimize(f, [5.0], kb.SGD(lr=0.1), max_steps=3000, on_step=on_step, gtol=1e-10)
        assert run.success
        assert run.x[0] == pytest.approx(1.25, abs=1e-9)
        assert run.fun == f(run.x)


# -- what it changes --------------------------------------------------------------------------------------------------


def left_behind(*things):
    """Return the traced values that can be reached from these."""
    seen, stack, found = set(), list(things), []
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, types.ModuleType | types.CodeType):
            continue
        seen.add(id(item))
        if type(item) is Traced:
            found.append(item)
        stack.extend(gc.get_referents(item))
    return found


def test_what_f_changes_outside_holds_plain_numbers():
    class Record:
        total = 0.0

        def __init__(self):
            self.n, self.last, self.points, self.best = 0, None, [], {"f": np.inf, "x": None}

    record, calls, buffer, spare = Record(), collections.deque(maxlen=5), np.zeros(2), np.array([None])
    queue, memo, seen, count = [], {}, set(), 0
    space = {"np": np}
    exec("n = 0\ndef g(x):\n    global n, last\n    n += 1\n    last = x\n    return np.sum(x)", space)

    def f(x):
        nonlocal count
        count += 1
        v = loss(x, 2.0)
        record.n += 1
        record.last = (v, [x, {"x": x}])
        Record.total = Record.total + v
        record.points.append(x.copy())
        if v < record.best["f"]:
            record.best.update(f=v, x=x.copy())
        calls.append(v)
        f.value = v
        buffer[:] = 2 * x
        buffer[0] += v
        spare[0] = x
        queue.append(types.SimpleNamespace(f=v, again=lambda: v))
        memo[len(memo)] = v
        seen.add(len(seen))
        return v + np.sum(buffer) + space["g"](x)

    both = kb.value_and_grad(f, method="backprop")
    for k in range(1, 6):
        _, gradient = both(X * k)
        np.testing.assert_allclose(gradient, differences(f, X * k), rtol=1e-6)
    assert not left_behind(f, record, Record, calls, buffer, spare, queue, memo, space)
    count, record.n, space["n"] = 0, 0, 0
    both(X)
    assert count == record.n == space["n"] == 1
    assert type(record.last[1][0]) is np.ndarray is type(space["last"])
    assert type(record.total) is type(calls[-1]) is type(f.value) is np.float64
    assert queue[-1].again() == queue[-1].f == f.value
    assert isinstance(queue[-1], types.SimpleNamespace)
    np.testing.assert_array_equal(buffer, [2 * X[0] + f.value, 2 * X[1]])
    assert f(X) == both(X)[0]


def test_an_object_made_inside_and_kept_outside_is_of_the_users_class():
    kept = []

    def f(x):
        kept.append(Slotted(mu=x[0]))
        kept.append(Concrete())
        kept[-1].k = x[1]
        return kept[-1].f(x)

    np.testing.assert_allclose(kb.grad(f, method="backprop")(X), differences(f, X), rtol=1e-7)
    assert [type(thing) for thing in kept[:2]] == [Slotted, Concrete]
    assert (kept[0].mu, kept[1].k) == tuple(X)
    assert not left_behind(kept)


def test_logs_and_counters_cost_no_second_check_and_stay_true():
    log = []

    def f(x):
        value = np.sum((x - 1.0) ** 2)
        log.append(value)
        return value

    run = kb.minimize(f, [3.0, 2.0], kb.SGD(lr=0.1), gtol=1e-6)
    assert run.success
    assert run.nfev < 2 * run.nit + 30
    assert {type(value) for value in log} <= {float, np.float64}
    assert log[-1] == run.fun


def test_nothing_is_changed_by_a_trace_that_fails():
    log = []

    def f(x):
        log.append(x)
        return np.sum(np.frombuffer(x))

    with pytest.raises(kb.errors.TraceError):
        kb.trace(f, X)
    assert {type(x) for x in log} <= {np.ndarray}  # the plain call that tells whose fault it is


# -- exceptions, keys and types ---------------------------------------------------------------------------------------


def domain_error(x):
    try:
        return math.log(x[0]) * 2 + x[1]
    except ValueError:
        return x[1] ** 2


def division_by_zero(x):
    try:
        return 1.0 / float(x[0]) + x[1]
    except ZeroDivisionError:
        return x[1] ** 2


def overflow(x):
    try:
        return math.exp(x[0]) + x[1]
    except OverflowError:
        return x[1] ** 2


def power(x):
    try:
        return x.tolist()[0] ** -2 + x[1]
    except ZeroDivisionError:
        return x[1] ** 2


def no_cholesky(x):
    a = np.array([[x[0], 1.0], [1.0, 2.0]])
    try:
        return np.sum(np.linalg.cholesky(a) ** 2) + x[1]
    except np.linalg.LinAlgError:
        return np.sum(np.linalg.cholesky(a + 5 * np.eye(2))) + x[1] ** 2


def raised_by_numpy(x):
    with np.errstate(all="raise"):
        try:
            return np.log(x[0]) + x[1]
        except FloatingPointError:
            return x[1] ** 2


def not_finite(x):
    with np.errstate(all="ignore"):
        y = np.log(x)
    try:
        return np.asarray_chkfinite(y).sum()
    except ValueError:
        return x[1] ** 2


def own_exception(x):
    class Infeasible(Exception):
        pass

    try:
        if x[0] < 0:
            raise Infeasible
        return x[0] ** 2 + x[1]
    except Infeasible:
        return x[1] ** 2


@pytest.mark.parametrize(("f", "points"), [
    (domain_error, [(2, 1), (-3, 1), (2, 3)]), (division_by_zero, [(2, 1), (0, 1), (3, 1)]), (power, [(2, 1), (0, 3)]),
    (overflow, [(2, 1), (2000, 1), (1, 3)]), (no_cholesky, [(2, 1), (-3, 1), (3, 1)]),
    (own_exception, [(2, 1), (-3, 1)]),
    (raised_by_numpy, [(2, 1), (-2, 1), (3, 1)]), (not_finite, [(2, 1), (-2, 1), (3, 1)]),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_exceptions_that_f_catches_lead_where_they_lead_without_a_trace(f, points):
    both = kb.value_and_grad(f, method="backprop")
    for point in points:
        x = np.array(point, float)
        value, gradient = both(x)
        assert value == pytest.approx(f(x), rel=1e-14)
        assert gradient[1] == pytest.approx(differences(f, x)[1], abs=1e-5)


def test_where_f_raises_its_gradient_raises_the_same():
    for f in (lambda x: math.sqrt(x[0]) + x[1], lambda x: np.where(x[0] > 0, math.log(x[0]), 0.0) + x[1]):
        gradient = kb.grad(f)
        gradient(np.array([1.0, 1.0]))
        with pytest.raises(ValueError, match=r"math domain error|expected a (nonnegative|positive) input"):
            gradient(np.array([-1.0, 1.0]))


# --- what the caller asked of NumPy for numbers that are not finite
def handled(x):
    try:
        return np.log(x[0]) + x[1]
    except (FloatingPointError, RuntimeWarning):
        return 7 * x[0] + x[1] ** 2


def made_an_error(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return handled(x)


def recorded(x):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        y = np.log(x[0])
    return 7 * x[0] + x[1] ** 2 if said else y + x[1]


def handled_beside_a_number_taken_out(x):
    return made_an_error(x) + math.fsum([float(repr(float(x[0]))) ** 2])


def asks_geterr(x):
    return (2.0 if np.geterr()["divide"] == "warn" else 1.0) * np.sum(x**2)


@contextlib.contextmanager
def warnings_that_are(action):
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        yield


CALLERS = {
    "as NumPy is": lambda: warnings_that_are("ignore"),
    "raise": lambda: np.errstate(all="raise"),
    "warnings are errors": lambda: warnings_that_are("error"),
    "ignore": lambda: np.errstate(all="ignore"),
}


@pytest.mark.sampled(7)
@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("method", ["auto", "central", "adaptive"])
@pytest.mark.parametrize("f", [handled, made_an_error, recorded, handled_beside_a_number_taken_out, asks_geterr])
def test_f_meets_what_the_caller_asked_of_numpy(f, method, caller):
    both = kb.value_and_grad(f, method=method)
    with warnings_that_are("ignore"):
        both(np.array([2.0, 3.0]))  # traced where nothing is raised, by another caller
    for point in ([2.0, 1.0], [-3.0, 1.5], [0.7, 2.0]):
        x = np.array(point)
        with CALLERS[caller]():
            try:
                wanted, slope = f(x), differences(f, x)
            except FloatingPointError:
                for call in (both, lambda x: kb.numerical_gradient(f, x)):
                    with pytest.raises(FloatingPointError, match="encountered in log"):
                        call(x)
                continue
            if not math.isfinite(wanted):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FallbackWarning)
                value, gradient = both(x)
                estimated = kb.numerical_gradient(f, x).value
            run = kb.minimize(f, x, kb.SGD(lr=1e-9), grad="adaptive", max_steps=1, gtol=0)
        assert value == pytest.approx(wanted, rel=1e-14)
        assert run.history.fun[0] == pytest.approx(wanted, rel=1e-14)
        for found in (gradient, estimated, run.history.x[0] - run.history.x[-1]):
            scale = 1.0 if found is gradient or found is estimated else 1e9
            np.testing.assert_allclose(found * scale, slope, rtol=1e-4, atol=1e-4)


def test_a_descent_meets_it_too():
    for grad in ("auto", "central", lambda x: differences(made_an_error, x)):
        run = kb.minimize(made_an_error, [0.5, 1.0], kb.SGD(lr=0.3), grad=grad, max_steps=3, gtol=0)
        x = np.array([0.5, 1.0])
        for _ in range(3):
            x = x - 0.3 * differences(made_an_error, x)
        np.testing.assert_allclose(run.x, x, rtol=1e-5)
        assert x[0] < 0


@pytest.mark.parametrize("action", ["always", "error"])
def test_what_koubai_tries_warns_nobody(action):
    f = lambda x: np.sum(np.log(x)) + np.sum(np.exp(500 * x)) / 1e300  # noqa: E731
    x = np.array([1e-3, 0.5])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter(action)
        for call in (
            lambda: kb.grad(f)(x), lambda: kb.hessian(f)(x), lambda: kb.numerical_gradient(f, x),
            lambda: kb.value_and_grad(f, method="central")(x), lambda: kb.jacobian(f)(x),
            lambda: kb.minimize(f, x, kb.SGD(lr=1.0), max_steps=4),
            lambda: kb.minimize(f, x, kb.SGD(lr=1.0), max_steps=4, grad="central"),
            lambda: kb.minimize(f, x, kb.LBFGS(), max_steps=4),
        ):  # fmt: skip
            call()
        filters = list(warnings.filters)
    assert [str(one.message) for one in said if one.category is RuntimeWarning] == []
    assert not any(action == "ignore" and category is RuntimeWarning for action, _, category, *_ in filters)


@pytest.mark.parametrize("f", [
    lambda x: sum(v * c for v, c in collections.Counter(x.tolist()).items()) ** 2,
    lambda x: sum({v: v * 2 for v in x.tolist()}.values()) ** 2,
    lambda x: sum(set(x.tolist())) ** 2,
    lambda x: {x[0]: x[1]}[x[0]] ** 2 + x[0],
])  # fmt: skip
def test_numbers_are_keys_by_their_value(f):
    both = kb.value_and_grad(f, method="backprop")
    for x in (np.array([1.0, 2.0]), np.array([2.0, 3.0]), np.array([0.5, 0.7])):
        value, gradient = both(x)
        assert value == f(x)
        np.testing.assert_allclose(gradient, differences(f, x), rtol=1e-7)


def test_a_number_is_of_one_type_everywhere():
    kinds = set()

    def f(x):
        kinds.add((type(x), isinstance(x, float), np.isscalar(x)))
        return (x - 1.0) ** 2 if isinstance(x, float) else (x - 2.0) ** 2

    for call in (
        lambda: kb.grad(f)(0.7), lambda: kb.minimize(f, 0.7, kb.SGD(lr=0.1), max_steps=3),
        lambda: kb.minimize(f, 0.7, kb.SGD(lr=0.1), max_steps=3, grad="central"), lambda: kb.hessian(f)(0.7),
        lambda: kb.check_gradient(f, lambda x: 2 * (x - 1.0), 0.7), lambda: kb.numerical_gradient(f, 0.7),
        lambda: kb.minimize(f, np.array(0.7), "adam", max_steps=3), lambda: kb.jacobian(f)(0.7),
    ):  # fmt: skip
        call()
    assert kinds == {(np.float64, True, True)}


def test_f_gets_arrays_of_its_own():
    def f(x):
        assert x.base is None
        x *= 2
        return np.sum(x**2)

    x = np.array([1.0, 2.0])
    for call in (
        lambda: kb.grad(f)(x), lambda: kb.value_and_grad(f, method="central")(x), lambda: kb.numerical_gradient(f, x),
        *2 * [lambda: kb.minimize(f, x, kb.SGD(lr=0.01), max_steps=3)],
        lambda: kb.check_gradient(f, lambda x: 8 * x, x), lambda: kb.hessian(f)(x), lambda: kb.jacobian(f)(x),
        lambda: kb.hvp(f)(x, x), lambda: kb.minimize(f, x, kb.SGD(lr=0.01), max_steps=3, grad="adaptive"),
        lambda: kb.hessian(f, method="adaptive")(x), lambda: kb.jacobian(f, method="central")(x),
        lambda: kb.minimize(f, x, kb.SGD(lr=0.01), max_steps=3, grad="central", bounds=(1, 2)),
        lambda: kb.numerical_gradient(f, x.reshape(2, 1)), lambda: kb.numerical_gradient(lambda p: f(p["w"]), {"w": x}),
    ):  # fmt: skip
        call()
        np.testing.assert_array_equal(x, [1.0, 2.0])
    both = kb.value_and_grad(f)
    for _ in range(3):
        value, gradient = both(x)
        assert value == 20.0
        np.testing.assert_array_equal(gradient, [8.0, 16.0])


def test_a_descent_whose_best_point_lies_on_another_path_than_its_last():
    mu = [0.769]

    def f(x):
        y = np.array(0.5 * x, ndmin=1)
        y[y > 0] += 0.871
        z = np.tanh(x)
        return np.sum(y**2) + 0.3655 * np.sum(x) + np.sqrt(mu[0] ** 2 + np.sum(z * z)) + np.sum(z)

    for step in kb.iterate(f, [0.281], kb.SGD(lr=0.03), gtol=0, max_steps=6):
        np.testing.assert_allclose(step.g, kb.numerical_gradient(f, step.x).value, rtol=1e-6)
        if step.t == 3:
            mu[0] = 2.25


class Scaled(kb.nn.Layer):
    scale = 2.0

    def apply(self, params, x, state, *, train, noise=None):
        return np.tanh(x) * self.scale * slope, state


class Weighted(kb.nn.MSE):
    weight = 1.0

    def each(self, outputs, y):
        return self.weight * np.sum((outputs - y) ** 2, axis=1)


@pytest.mark.parametrize("change", [
    lambda layer, loss: setattr(layer, "scale", 3.0), lambda layer, loss: setattr(loss, "weight", 3.0),
    lambda layer, loss: steeper(),
])  # fmt: skip
def test_a_network_sees_what_a_users_layer_and_loss_read(change):
    layer, loss = Scaled(), Weighted()
    network = kb.nn.Network([kb.nn.Dense(2), layer], loss, seed=0)
    network.build((2,))
    X, y = np.arange(6.0).reshape(3, 2) / 5, np.ones((3, 2))
    before = network.gradient(X, y)
    change(layer, loss)
    after = network.gradient(X, y)
    fresh = kb.nn.Network([kb.nn.Dense(2), layer], loss, seed=0)
    fresh.build((2,))
    for name, part in fresh.gradient(X, y).items():
        np.testing.assert_array_equal(after[name], part)
        assert np.max(np.abs(part - before[name])) > 1e-3
