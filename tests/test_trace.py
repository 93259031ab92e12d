"""Plain NumPy programs as people write them: traced, differentiated, compared with differences and with themselves."""

import gc
import math
import types
import weakref

import numpy as np
import pytest
from scipy import special

from koubai.derivatives.gradient import grad, hessian, hvp, value_and_grad
from koubai.errors import CompileError, FunctionError, TraceError
from koubai.graph.call import trace
from koubai.graph.graph import Graph, evaluate
from koubai.graph.ops import Op
from koubai.graph.reverse import reverse
from koubai.graph.traced import record
from koubai.graph.tracer import Trace

PROGRAMS = []
X = np.array([0.3, 1.2, -0.7, 2.1])
U = np.array([0.3, -0.2, 0.5, 0.1])


def program(f):
    PROGRAMS.append(f)
    return f


@program
def alias(x):
    y = x.reshape(2, 2)
    z = y.T
    z[0] *= 3
    return np.sum(y**2 * np.array([[1, 2], [3, 4.0]]))


@program
def view_of_view(x):
    o = np.zeros((3, 4))
    r = o[1]
    r[1:3] = x[:2]
    o[2] = r * 2
    r[:] = r + x
    return np.sum(np.sin(o))


@program
def out_kw(x):
    a = np.empty(4)
    np.multiply(x, x, out=a)
    np.add(a, 1, out=a)
    np.exp(a * 0.1, out=a)
    return a.sum()


@program
def mask(x):
    y = x.copy()
    y[y < 0] = 0
    y[x > 1] *= 2
    return np.sum(y**2)


@program
def mask2(x):
    return np.sum(x[x > 0] ** 3)


@program
def branch(x):
    if x[0] > 0 and np.any(x > 2):
        return np.sum(x**2)
    return np.prod(x)


@program
def whileloop(x):
    s = x[0]
    n = 0
    while s < 10:
        s = s * 2 + abs(x[1])
        n += 1
    return s * n


@program
def mathy(x):
    return (
        math.exp(x[0])
        + math.sin(x[1]) * math.sqrt(x[3])
        + math.hypot(x[0], x[2])
        + math.log(x[1], 3)
        + math.pow(x[1], 2.5)
        + math.atan2(x[0], x[1])
    )


@program
def floaty(x):
    t = 0.0
    for i in range(len(x)):
        t += float(x[i]) ** 2 * i
    return float(t)


@program
def sorty(x):
    return np.sum(np.sort(x) * np.arange(4)) + np.median(x) + np.max(x) - np.min(x) + np.quantile(x, 0.3)


@program
def interp(x):
    return np.sum(np.interp(x, [0, 1, 2.0], [0, 2.0, 1]))


@program
def pw(x):
    return np.sum(np.piecewise(x, [x < 0, x > 1], [lambda v: v**2, lambda v: np.log(v), 3.0]))


@program
def sel(x):
    return np.sum(np.select([x < 0, x > 1], [x**2, np.log(np.abs(x) + 1)], x))


@program
def vec(x):
    return np.sum(np.vectorize(lambda t: t**2 if t > 0 else -t)(x))


@program
def unpack(x):
    a, b, c, d = x
    return a * b + c / d - a**b


@program
def lists(x):
    return np.sum(np.array([x[0] * x[1], [1.0, 2.0][0] * x[2], x[3]]) ** 2)


@program
def lcomp(x):
    return sum([v**2 for v in x])


@program
def maxpy(x):
    return max(x) * 2 + min(x)


@program
def stacky(x):
    return np.sum(np.vstack([x, x**2]).T @ np.ones(2) * np.hstack([x[:2], x[2:]]))


@program
def norm(x):
    return np.sqrt(np.sum(x * x)) + np.std(x) + np.var(x, ddof=1)


@program
def einsum(x):
    return np.einsum("i,ij,j", x, np.arange(16.0).reshape(4, 4), x) + np.einsum("ii", np.outer(x, x))


@program
def conv(x):
    return (
        np.sum(np.convolve(x, x[:2], "same") ** 2)
        + np.trapezoid(x**2)
        + np.sum(np.diff(x, 2) ** 2)
        + np.sum(np.gradient(x) ** 2)
    )


@program
def pad(x):
    return (
        np.sum(np.pad(x, 2, mode="reflect") ** 2 * np.arange(8))
        + np.sum(np.pad(x, (1, 2))[::-1] * np.arange(7))
        + np.sum(np.roll(x, 1) * x)
        + np.sum(np.tile(x, 2) * np.arange(8) + np.repeat(x, 2))
    )


@program
def cum(x):
    return np.sum(np.cumsum(x) ** 2) + np.sum(np.cumprod(x) * np.arange(4))


@program
def logs(x):
    return np.logaddexp.reduce(x) + np.sum(np.logaddexp(x, 1.0))


@program
def fancy(x):
    i = np.array([0, 0, 3, 1])
    y = np.zeros(4)
    y[i] += x
    np.add.at(y, i, x)
    return np.sum(y**2 * np.arange(1, 5))


@program
def dup(x):
    y = np.zeros(3)
    y[[0, 0, 1, 2]] = x
    return np.sum(y**2)


@program
def setslice(x):
    y = np.ones((2, 4))
    y[:, 1:3] = x[None, :2]
    y[0] = x
    y[1, ::2] += x[2:]
    return np.sum(y**3)


@program
def argm(x):
    return x[np.argmax(x)] ** 2 + x[int(np.argmin(x))]


@program
def mesh(x):
    a, b = np.meshgrid(x[:2], x[2:])
    return np.sum(a * b**2)


@program
def inplace_input(x):
    x *= 2
    x[0] = x[1] * x[2]
    return np.sum(x**2)


@program
def swap(x):
    y = x.copy()
    y[[0, 1]] = y[[1, 0]]
    y[::2], y[1::2] = y[1::2].copy(), y[::2].copy()
    return np.sum(y * np.arange(4) ** 2)


@program
def tri(x):
    return (
        np.sum(np.tril(np.outer(x, x)) ** 2)
        + np.trace(np.outer(x, x))
        + np.sum(np.diag(x) @ np.ones(4) * x)
        + np.kron(x, x)[5]
    )


@program
def poly(x):
    return np.polyval([1.0, 2, 3], x[0]) + np.polyval(x, 2.0)


@program
def clipy(x):
    return np.sum(np.clip(x, -0.5, 1) ** 2) + np.sum(np.maximum(x, 0)) + np.sum(np.where(x > 0, x, x**2))


@program
def ternary(x):
    return np.sum(x**2) if x.sum() > 0 else 0.0


@program
def const(x):
    return 3.0 + 0 * x[0]


@program
def isinst(x):
    return np.sum(x**2) if isinstance(x, np.ndarray) else np.sum(x)


@program
def enum(x):
    s = 0.0
    for i, v in enumerate(x):
        s += (i + 1) * v
    for a, b in zip(x[:-1], x[1:], strict=True):  # noqa: RUF007
        s += a * b
    return s


@program
def rosen_loop(x):
    s = 0
    for i in range(len(x) - 1):
        s += 100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return s


@program
def matpow(x):
    M = np.array([[x[0], 1], [0.5, x[1]]])
    for _ in range(3):
        M = M @ M
    return M[0, 1]


@program
def divmody(x):
    return np.sum(x % 1.51) + np.sum(np.fmod(x, 0.73)) + np.sum(x // 1)


@program
def zeros_like(x):
    y = np.zeros_like(x)
    y[1:] = x[:-1]
    y += x
    return y @ y


@program
def fullk(x):
    y = np.full(4, x[0])
    y[2] = 5
    return np.sum(y * x)


@program
def lin(x):
    return np.sum(np.linspace(x[0], x[1], 5) ** 2)


@program
def ptpy(x):
    return np.ptp(x) + np.average(x, weights=np.arange(1, 5.0)) + np.mean(x, where=x > 0)


@program
def cx(x):
    return np.abs(x[0]) + np.sign(x[1]) * x[2] + np.hypot(x[0], x[1]) + np.copysign(x[0], x[2])


# cotangents that are smaller than what they belong to, on their way through every kind of primitive
@program
def spread_through_broadcasting(x):
    column, row = x.reshape(4, 1), x[None, :3]
    return np.sum(column + row) + np.mean(column - 2 * row) + np.sum(column) * np.sum(-row) / 7


@program
def spread_through_reductions(x):
    a = x.reshape(2, 2) * x[:2]
    return np.sum(np.sum(a, axis=0)) - np.sum(np.mean(a, axis=1, keepdims=True)) + np.sum(np.max(a, axis=1))


@program
def spread_through_rearrangement(x):
    a = np.concatenate([x, x[1:]])
    return np.sum(a.reshape(7, 1).T) + np.sum(np.stack([x, x**2])[1]) + np.sum(np.where(x > 0, x, 3 * x))


@program
def spread_meets_what_is_whole(x):
    b = np.zeros(4)
    b[1:3] = x[:2]
    return np.sum(b) + np.sum(x) + np.sum(x[1:]) + x[0] + np.sum(x @ np.arange(8.0).reshape(4, 2)) + np.sum(b * b)


def differences(f, x):
    """Central differences along each axis, extrapolated three times."""
    gradient = np.zeros_like(x)
    for i in range(x.size):
        table = []
        for h in (1e-2, 5e-3, 2.5e-3, 1.25e-3):
            step = np.zeros_like(x)
            step[i] = h
            table.append((f(x + step) - f(x - step)) / (2 * h))
        for k in (1, 2, 3):
            table = [(4**k * table[j + 1] - table[j]) / (4**k - 1) for j in range(len(table) - 1)]
        gradient[i] = table[0]
    return gradient


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_gradient_of_a_plain_program(f):
    x = X.copy()
    both = value_and_grad(f, method="backprop")
    value, gradient = both(x)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_allclose(value, f(X.copy()), rtol=1e-13)
    np.testing.assert_allclose(gradient, differences(f, X), rtol=1e-5, atol=1e-6)
    again = both(x)
    assert again[0] == value
    np.testing.assert_array_equal(again[1], gradient)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_second_derivative_of_a_plain_program(f):
    both = value_and_grad(f, method="backprop")

    def along(h):
        return (both(X + h * U)[1] - both(X - h * U)[1]) / (2 * h)

    expected = (4 * along(1e-4) - along(2e-4)) / 3
    np.testing.assert_allclose(hvp(f)(X, U), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_source_runs_and_means_the_same(f):
    graph = trace(f, X)
    for g in (graph, graph.gradient()):
        namespace = {}
        exec(g.source(), namespace)
        results = namespace[g.name](X.copy())
        for got, expected in zip(results if isinstance(results, tuple) else (results,), evaluate(g, X), strict=True):
            np.testing.assert_array_equal(got, expected)


def rosenbrock(x):
    a = x[1:] - x[:-1] ** 2
    return np.sum(100.0 * a**2 + (1 - x[:-1]) ** 2)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_the_source_of_logsumexp_has_its_very_bits(axis, keepdims):
    x = np.random.default_rng(3).standard_normal((50, 40)) * 3
    x[0], x[1:, 0] = -np.inf, -np.inf
    x[2, 3] = np.inf
    graph = trace(lambda x: special.logsumexp(x, axis=axis, keepdims=keepdims), x)
    namespace = {}
    exec(graph.source(), namespace)
    for y in (x, np.where(np.isinf(x), 0.1, x)):
        with np.errstate(all="ignore"):
            pasted = namespace[graph.name](y)
        assert type(pasted) is type(graph(y))
        np.testing.assert_array_equal(pasted, graph(y))


def test_source_uses_the_users_names_and_names_the_line():
    source = trace(rosenbrock, X).source()
    assert "    a = v1 - v4" in source
    line = rosenbrock.__code__.co_firstlineno + 1
    assert f"# test_trace.py:{line}" in source
    assert source.startswith("import numpy as np")


def test_common_subexpressions_are_shared_and_dead_nodes_gone():
    def f(x):
        np.exp(x)  # nobody needs it
        return np.sum(np.sin(x) * np.sin(x))

    assert [node.op.name for node in trace(f, X).nodes] == ["input", "sin", "multiply", "sum"]


def test_a_gradient_writes_no_constant_and_nothing_spread_but_what_it_needs():
    graph = trace(lambda x: -np.mean(np.sum(x * W, axis=1)) / 2, np.ones((2, 3)))
    derived = graph.gradient().nodes[len(graph.nodes) :]
    assert [node.op.name for node in derived] == ["constant", "multiply"]
    assert derived[0].params["value"] == -0.25
    assert [node.op.name for node in trace(np.sum, X).gradient().nodes] == ["input", "sum", "constant", "broadcast_to"]


@pytest.mark.parametrize("dead", [False, True])
def test_a_derivative_shares_what_the_function_has(dead):
    def f(x):
        if dead:
            np.exp(x)  # nobody needs it
        return np.sum(np.tanh(x) * np.tanh(x) * (1.0 + np.cos(x)))

    graph = trace(f, X).gradient()
    names = [node.op.name for node in graph.nodes]
    assert names.count("tanh") == names.count("cos") == 1
    squares = [n for n in graph.nodes if n.op.name == "multiply" and n.inputs == (names.index("tanh"),) * 2]
    assert len(squares) == 1


def test_what_is_done_with_a_kept_value_does_not_reach_the_graph():
    kept = []

    def f(x):
        kept.append(x)
        return np.sum(np.tanh(x))

    graph = trace(f, X)
    np.testing.assert_array_equal(1.0 - kept[0], 1.0 - X)  # the derivative will ask for this number
    np.testing.assert_allclose(graph.gradient()(X)[1], 1 - np.tanh(X) ** 2, rtol=1e-14)


def test_tracing_leaves_nothing_to_the_garbage_collector():
    def f(p, x):
        return np.sum(np.tanh(x @ p["w"]) ** 2) + np.max(p["b"])

    arguments = {"w": np.ones((3, 2)), "b": np.arange(2.0)}, np.ones((4, 3))
    trace(f, *arguments).gradient()  # what the first call alone makes
    while gc.collect():  # what is freed may leave more to be freed
        pass
    gc.disable()
    try:
        trace(f, *arguments).gradient()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_spread_cotangent_is_cast_as_any_other():
    def f(x):
        return np.sum(x.astype(np.float32)) + np.sum(np.cumsum(x)) + np.sum(x + np.ones(4, np.float32))

    for dtype in (np.float64, np.float32):
        gradient = trace(f, X.astype(dtype)).gradient()(X.astype(dtype))[1]
        assert gradient.dtype == dtype
        np.testing.assert_array_equal(gradient, [6, 5, 4, 3])


W = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])


def test_guards_name_the_look_and_its_line():
    def f(x):
        if x[0] > 0:
            return x[0]
        return -x[0]

    graph = trace(f, X)
    (guard,) = graph.guards
    assert guard.expected is True
    assert graph.nodes[guard.node].op.name == "greater"
    assert guard.line == f.__code__.co_firstlineno + 1
    assert "holds where" in str(graph)


@pytest.mark.parametrize(
    ("f", "x", "op"),
    [
        (lambda x: np.sum(np.abs(x)), [0.0, 1.0], "absolute"),
        (lambda x: np.sum(np.maximum(x, 0)), [0.0, 1.0], "maximum"),
        (lambda x: np.max(x), [1.0, 1.0], "max"),
        (lambda x: np.sqrt(x[0]), [0.0, 1.0], "sqrt"),
    ],
)
def test_kinks_that_the_point_sits_on_are_listed(f, x, op):
    assert [kink.op for kink in trace(f, np.array(x)).kinks] == [op]
    assert trace(f, np.array(x) + np.array([0.5, 0.25])).kinks == ()


@pytest.mark.parametrize(
    ("x", "kinks"),
    [([[np.nan, 1.0], [2.0, 2.0]], ["max"]), ([[np.nan, 1.0], [2.0, 3.0]], []), ([[np.nan, 1.0], [np.nan, 1.0]], [])],
)
def test_a_row_without_a_maximum_hides_no_tie_and_is_none(x, kinks):
    assert [kink.op for kink in trace(lambda x: np.sum(np.max(x, axis=1)), np.array(x)).kinks] == kinks


def test_ties_follow_jax():
    assert reverse(trace(lambda x: abs(x), 0.0))(0.0)[1] == 0.0
    assert reverse(trace(lambda x: np.maximum(x, 0), 0.0))(np.float64(0.0))[1] == 0.5
    np.testing.assert_array_equal(reverse(trace(lambda x: np.max(x), np.ones(4)))(np.ones(4))[1], np.full(4, 0.25))


def refused_asarray(x):
    array = np.frombuffer(x, dtype=float)
    return array.sum()


def refused_histogram(x):
    return np.sum(np.histogram(x, "auto")[0])


OUTSIDE = np.zeros(4)
OUTSIDE.flags.writeable = False


def refused_write_outside(x, out=OUTSIDE):
    out[0] = x[0]
    return out.sum()


@pytest.mark.parametrize("f", [refused_histogram, refused_write_outside])
def test_refusal_names_file_line_reason_and_fix(f):
    with pytest.raises(TraceError) as caught:
        trace(f, X)
    assert caught.value.reason
    assert caught.value.fix
    assert caught.value.file is not None
    assert caught.value.file.endswith("test_trace.py")
    assert f.__code__.co_firstlineno <= caught.value.line <= f.__code__.co_firstlineno + 3


def test_buffers_of_any_kind_that_numpy_would_read_behind_the_trace_are_refused():
    with pytest.raises(TraceError):
        trace(refused_asarray, X)


def test_a_plain_array_made_elsewhere_can_not_swallow_a_traced_value():
    def f(x):
        y = np.arange(4.0)
        y[0] = x[0]
        return y.sum()

    with pytest.raises(TraceError, match="takes the number out"):
        trace(f, X)


def test_the_users_own_exception_passes_through():
    def f(x):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        trace(f, X)


def test_none_and_text_are_not_answers():
    for answer in (None, "text"):
        with pytest.raises(FunctionError):
            value_and_grad(lambda x, answer=answer: answer, method="backprop")(X)


def test_a_traced_value_that_outlives_its_trace_is_the_number_that_it_was():
    def kept():  # a generator is no kind of thing that could hold plain numbers instead
        while True:
            held.append((yield))

    held, generator = [], kept()
    next(generator)

    def f(x):
        generator.send(x)
        generator.send(x[0])
        return np.sum(x**2)

    trace(f, X)
    x, first = held
    assert type(x) is not np.ndarray
    for plain in (
        x + 1, 1 - x, x * x, -x, abs(x), x > 0, np.exp(x), np.add.reduce(x), np.concatenate([x, x]), x.sum(), x[1:],
        x.T, np.asarray(x), x.reshape(2, 2) + 0, first * 2, np.where(x > 0, x, 0), x @ x, x.astype(int),
    ):  # fmt: skip
        assert isinstance(plain, np.ndarray | np.generic)
    assert (float(first), bool(first), f"{first:.2f}", hash(first)) == (X[0], True, f"{X[0]:.2f}", hash(X[0]))
    np.testing.assert_array_equal(x * np.ones(4), X)
    x[0] = 7.0
    assert x[0] == 7.0
    np.testing.assert_array_equal(trace(lambda y: np.sum(x[1:] * y[1:]), X).gradient()(X)[1], [0, *X[1:]])


def test_helpers_in_other_modules_are_traced():
    helpers = types.ModuleType("helpers_of_the_user")
    code = "import numpy as np, math\nfrom math import exp\nscale = 2.0\n"
    code += "def loss(x):\n    out = np.zeros(2)\n    out[0] = exp(x[0]) * scale\n"
    code += "    out[1] = float(x[1])\n    return out.sum()\n"
    exec(code, helpers.__dict__)

    def f(x):
        return helpers.loss(x) ** 2

    both = value_and_grad(f, method="backprop")
    np.testing.assert_allclose(both(X)[1], differences(f, X), rtol=1e-7, atol=1e-9)
    helpers.scale = 3.0
    np.testing.assert_allclose(both(X)[1], differences(f, X), rtol=1e-7, atol=1e-9)


def test_methods_that_call_methods_are_traced():
    class Network:
        def __init__(self):
            self.weights = [np.full((4, 4), 0.3), np.eye(4)]

        @property
        def scale(self):
            return math.sqrt(4.0)

        def layer(self, x, weight):
            out = np.zeros(4)
            out[:] = np.tanh(weight @ x) * self.scale
            return out

        def loss(self, x):
            for weight in self.weights:
                x = self.layer(x, weight)
            return float(np.sum(x**2))

    network = Network()
    for f in (network.loss, lambda x: network.loss(x) * 2):
        np.testing.assert_allclose(value_and_grad(f, method="backprop")(X)[1], differences(f, X), rtol=1e-7, atol=1e-8)


def test_a_text_made_of_a_value_binds_the_path_to_it():
    def f(x):
        return float(f"{x[0]:.1f}") * x[1]

    both = value_and_grad(f, method="backprop")
    for x in (X, X + 1.0, X + 2.0):
        value, gradient = both(x)
        assert value == f(x)
        np.testing.assert_array_equal(gradient, [0.0, float(f"{x[0]:.1f}"), 0.0, 0.0])


def test_numbers_stay_weak_and_float32_stays_float32():
    def f(x):
        y = np.zeros(3, dtype=x.dtype)
        y[:] = x * 2.0 + 1
        return np.mean(np.tanh(y) / 3)

    graph = trace(f, np.ones(3, np.float32)).gradient()
    assert {node.dtype for node in graph.nodes if node.dtype is not None} == {np.dtype(np.float32)}


def test_a_graph_checks_itself():
    graph = trace(rosenbrock, X)
    broken = [node._replace(shape=(7,)) if node.op.name == "multiply" else node for node in graph.nodes]
    with pytest.raises(Exception, match="is recorded as"):
        Graph(broken, graph.inputs, graph.outputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (4,)}, "but its inputs give"),
        ({"dtype": np.dtype(np.float32)}, "but its inputs give"),
        ({"inputs": (5, 0)}, "reads no earlier node"),
        ({"inputs": (3, 3)}, "reads no earlier node"),
        ({"inputs": (-1,)}, "reads no earlier node"),
    ],
)
def test_a_faulty_graph_is_refused(change, message):
    good = trace(lambda x: np.sum((x * x + x) * np.sin(x)), np.arange(3.0))
    i = next(i for i, node in enumerate(good.nodes) if node.op.name == "sin")
    assert i == 3
    nodes = list(good.nodes)
    nodes[i] = nodes[i]._replace(**change)
    for known in (None, Graph(good.nodes[:i], good.inputs, [0]), good):  # nodes known to be right excuse no other
        with pytest.raises(CompileError, match=message):
            Graph(nodes, good.inputs, good.outputs, known=known)
    with pytest.raises(CompileError, match="does not exist"):
        Graph(good.nodes, good.inputs, [99], known=good)


def test_what_is_recorded_is_checked_at_once():
    wrong = Op("wrong", np.exp, shape=lambda x: (1, *x))
    with pytest.raises(CompileError, match=r"node 1 \(wrong\) is recorded as .* but its inputs give \(\(1, 4\)"):
        record(wrong, (Trace(concrete=True).input(X, "x"),))


def test_values_of_two_traces_do_not_mix():
    for concrete in (True, False):
        a, b = (Trace(concrete).input(X, "x") for _ in range(2))
        with pytest.raises(TraceError, match="two different traces"):
            _ = a + b


def test_objects_are_refused():
    with pytest.raises(TraceError, match="dtype object") as caught:
        trace(lambda x: np.sum(x.astype(object)), X)
    assert caught.value.line == test_objects_are_refused.__code__.co_firstlineno + 2


def test_a_kink_of_a_node_that_is_gone_has_none_however_often_a_graph_is_pruned():
    def f(x):
        np.sum(np.maximum(x, 0))  # nobody reads it
        return np.sum(np.sin(x)), np.sum(np.cos(x))

    graph = trace(f, np.array([0.0, 1.0]))
    assert [kink.node for kink in graph.kinks] == [-1]
    part = Graph.pruned(graph.nodes, graph.inputs, graph.outputs[1:], (), graph.kinks)
    assert len(part.nodes) < len(graph.nodes)
    assert [kink.node for kink in part.kinks] == [-1]


def test_kinks_say_what_they_are_of_and_where():
    (kink,) = trace(lambda x: np.sum(np.maximum(x, 0)), np.array([0.0, 1.0])).kinks
    assert repr(kink) == f"<Kink of maximum at test_trace.py:{kink.line}>"


def test_lines_of_typed_text_are_numbered_without_a_file():
    names = {"np": np}
    exec(compile("def f(x):\n    y = x * x\n    return np.sum(y)\n", "<typed>", "exec"), names)
    assert "y = x * x" in (source := trace(names["f"], np.ones(2)).source())
    assert "# line 2" in source


def test_code_that_is_gone_is_forgotten():
    """Tracing holds no function of the user's once nothing else does."""
    space, codes = {"np": np}, []
    for k in range(50):
        exec(f"def f(x):\n    y = np.cosh({k}.5 * x)\n    return np.sum(y)", space)
        grad(space["f"])(np.ones(3))
        hessian(space["f"])(np.ones(3))
        codes.append(weakref.ref(space.pop("f").__code__))
    gc.collect()
    assert not [code for code in codes if code() is not None]
