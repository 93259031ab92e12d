"""Idioms: writes in place, buffers, views, masks, and the NumPy of everyday."""

from .writing import idiom

VECTORS = (2, 3, 1)

# --- into the argument
idiom(
    "a write into the argument",
    """
def f(x):
    $write
    return $a * np.sum(x**2) + np.sum(np.sin(x))
""",
    forms=VECTORS,
    slots={
        "write": (
            "x *= 2",
            "x += $b",
            "x -= x.mean()",
            "x[0] = 0.3",
            "x[:] = np.tanh(x)",
            "x[x < 0] *= 0.5",
            "x /= 1 + np.sum(x**2)",
            "x **= 3",
            "np.multiply(x, $b, out=x)",
            "np.sin(x, x)",
            "x[::-1] = x.copy()",
            "x.sort()",
            "x[-1] += x[0]",
            "np.add.at(x, [0, 0], $b)",
            "np.clip(x, -0.7, 0.7, out=x)",
            "x.flat[0] = $b * x.flat[-1]",
            "np.copyto(x, x * $b)",
            "x.fill(np.sum(x))",
            "np.put(x, [0], [0.4])",
            "x.itemset(0, 0.2) if hasattr(x, 'itemset') else x.put(0, 0.2)",
            "np.negative(x, out=x, where=x > 0)",
            "x[np.argmax(x)] = 0.5",
            "x[...] = x[..., ::-1] * $b",
        )
    },
    variants=23,
)
idiom(
    "a write into the argument by a helper",
    """
def normalise(v):
    v -= 0.3 * np.sum(v)
    v[0] *= $a
    return v

def f(x):
    return np.sum(normalise(x) ** 2) + np.sum(x)
""",
    forms=VECTORS,
)
idiom(
    "a write into a view of the argument",
    """
def f(x):
    view = $view
    view *= $a
    return np.sum(x**2) + np.sum(np.cos(view))
""",
    forms=VECTORS,
    slots={
        "view": (
            "x[:1]",
            "x[::-1]",
            "x.reshape(-1, 1)",
            "x.ravel()",
            "x[None]",
            "x.T",
            "x.view()",
            "np.atleast_2d(x)[0]",
            "np.squeeze(x[:, None])",
            "x[...]",
            "np.asarray(x)",
            "np.broadcast_to(x, x.shape).T if x.size > 9 else x[-1:]",
        )
    },
    variants=12,
)
idiom(
    "an augmented assignment of the argument's name",
    """
def f(x):
    y = x
    y = y * 2
    y += $a
    y *= x
    return np.sum(y) + np.sum(x**2)
""",
)
idiom(
    "a copy that is written into",
    """
import copy

def f(x):
    y = $copy
    y[0] = y[-1] * $a + 0.2
    y += 1
    return np.sum(y**2) + np.sum(x**2)
""",
    forms=VECTORS,
    slots={
        "copy": (
            "x.copy()",
            "np.copy(x)",
            "np.array(x)",
            "x + 0",
            "+x",
            "copy.copy(x)",
            "copy.deepcopy(x)",
            "np.array(x, copy=True)",
            "x.astype(float)",
            "np.concatenate([x, [1.0]])",
            "x[:].copy()",
            "np.ascontiguousarray(x) * 1.0",
            "np.array([*x])",
            "np.array(x.tolist())",
            "np.asarray(list(x))",
            "np.require(x, float).copy()",
        )
    },
    variants=16,
)

# --- into arrays made in f
idiom(
    "np.zeros and items",
    """
def f(x):
    out = $make
    for i, v in enumerate(np.ravel(x)):
        out[i] = v**2 + (out[i - 1] if i else $a)
    return np.sum(np.sqrt(out[: np.size(x)] + 1)) + np.sum(x)
""",
    slots={
        "make": (
            "np.zeros(4)",
            "np.empty(np.size(x))",
            "np.ones(5)",
            "np.full(3, 0.0)",
            "np.zeros_like(np.ravel(x))",
            "np.empty_like(np.ravel(x))",
            "np.zeros((4,), dtype=float)",
            "np.arange(4.0)",
            "np.linspace(0, 1, 4)",
            "np.repeat(0.0, 4)",
        )
    },
    variants=10,
)
idiom(
    "a matrix filled",
    """
def f(x):
    n = np.size(x)
    A = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            A[i, j] = np.exp(-($a * np.ravel(x)[i] - 0.2 * j) ** 2) + (i == j)
    return np.sum(A) + np.linalg.det(A)
""",
)
idiom(
    "rows filled",
    """
def f(x):
    states = np.zeros((5, np.size(x)))
    states[0] = x
    for t in range(4):
        states[t + 1] = states[t] + 0.1 * np.sin(states[t]) * $a
    return np.sum(states[-1] ** 2) + states[2, 0] + np.sum(x)
""",
)
idiom(
    "a mask assigned",
    """
def f(x):
    y = np.array(x, ndmin=1)
    $write
    return np.sum(y**2) + $a * np.sum(x)
""",
    slots={
        "write": (
            "y[y < 0] = 0.1 * y[y < 0]",
            "y[y > 0] += $b",
            "np.putmask(y, y < 0, 0.0)",
            "np.place(y, y > 0, [0.5])",
            "y[np.where(y < 0)] *= 2",
            "y[np.nonzero(y > 0)] = 1",
            "y[~(y > 0)] = -y[~(y > 0)]",
            "np.copyto(y, 0.2, where=y < 0)",
            "y[np.flatnonzero(y < 0)] -= 0.3",
            "y[np.isnan(y)] = 0",
            "y = np.where(y > 0, y, $b * y)",
            "y[(y > 0) & (y < 9)] **= 2",
        )
    },
    variants=12,
)
idiom(
    "np.add.at",
    """
places = [0, 1, 0, 2]

def f(x):
    out = np.zeros(3)
    np.$ufunc.at(out, places, np.sum(x) * np.linspace(0.1, 0.4, 4))
    return $a * np.sum(out**2) + np.sum(x**2)

def change():
    places[3] = 0
""",
    slots={"ufunc": ("add", "subtract")},
)
idiom(
    "out=",
    """
def f(x):
    y = np.empty(np.shape(x))
    np.$call
    return $a * np.sum(y) + np.sum(x**2)
""",
    slots={
        "call": (
            "sin(x, out=y)",
            "multiply(x, x, out=y)",
            "exp(x, y)",
            "add(x, 1.0, out=(y,))",
            "power(x, 3, out=y)",
            "tanh(x, out=y)",
        )
    },
    forms=VECTORS,
    variants=6,
)
idiom(
    "reductions with out=",
    """
def f(x):
    total = np.zeros(())
    $call
    return $a * total**2 + np.sum(x**2)
""",
    slots={"call": ("np.sum(x, out=total)", "np.mean(x, out=total)", "x.sum(out=total)", "np.dot(x, x, out=total)")},
    forms=VECTORS,
)
idiom(
    "fill_diagonal",
    """
def f(x):
    A = np.outer(x, x)
    np.fill_diagonal(A, $a)
    return np.sum(A) + np.linalg.det(A + 3 * np.eye(len(A))) * 0.1 + np.sum(x**2)
""",
    forms=VECTORS,
)
idiom(
    "a diagonal written",
    """
def f(x):
    A = np.eye(np.size(x)) * 2
    A[np.diag_indices(len(A))] += np.ravel(x) ** 2
    A[0, -1] += $a
    return np.linalg.slogdet(A)[1] + np.sum(x)
""",
)
idiom(
    "a list of lists made an array",
    """
def f(x):
    A = np.array([[$u, $a], [$w, math.sin($u)], [1.0, $u * $w]])
    return np.sum(A.T @ A) + np.sum(x**2)
""",
)
idiom(
    "a list appended to",
    """
def f(x):
    out = []
    for v in np.ravel(x):
        out.append(v * $a)
        out.extend([v, v**2])
        out.insert(0, 0.5)
    out[0] = $u
    return np.sum(np.array(out) ** 2) + np.mean(out)
""",
)
idiom(
    "np.append in a loop",
    """
def f(x):
    out = np.array([])
    for v in np.ravel(x):
        out = np.append(out, [v, $a * v**2])
    return np.sum(np.cumsum(out) ** 2)
""",
)
idiom(
    "a dict of arrays",
    """
def f(x):
    params = {"W": np.outer([1.0, $a], np.ravel(x)), "b": np.array([0.1, 0.2])}
    for name in params:
        params[name] = np.tanh(params[name])
    h = params["W"].sum(axis=1) + params["b"]
    return sum(np.sum(p**2) for p in params.values()) + np.sum(h)
""",
)
idiom(
    "shapes and joins",
    """
def f(x):
    v = np.ravel(x)
    y = $join
    return $a * np.sum(y * np.arange(1, y.size + 1).reshape(y.shape)) + np.sum(v**2)
""",
    slots={
        "join": (
            "np.concatenate([v, v**2])",
            "np.stack([v, np.sin(v)])",
            "np.vstack([v, v**3])",
            "np.hstack([v, 1.0])",
            "np.column_stack([v, v**2])",
            "np.tile(v, 2)",
            "np.repeat(v, 2)",
            "np.pad(v, 1)",
            "np.roll(np.append(v, $b), 1)",
            "np.outer(v, v)",
            "np.kron(v, [1.0, $b])",
            "np.r_[v, 1.0, v**2]",
            "np.c_[v, v]",
            "np.block([[v], [v**2]])",
            "np.meshgrid(v, [1.0, $b])[0]",
            "np.flip(np.append(v, $b))",
            "np.insert(v, 0, $b)",
            "np.delete(np.append(v, [$b, 0.3]), 0)",
            "np.broadcast_to(v, (2, v.size))",
            "np.swapaxes(v[None, :], 0, 1)",
            "np.take(v, [0, -1])",
            "np.diag(v)",
            "np.tril(np.outer(v, v))",
            "np.vander(v, 3)",
            "np.split(np.append(v, v), 2)[0]",
            "np.array_split(v, 1)[0]",
            "np.trim_zeros(v)",
            "np.resize(v, 4)",
        )
    },
    variants=28,
)
idiom(
    "sums and their kin",
    """
data = np.array($vec)

def f(x):
    v = np.append(x, data)
    return $a * $call + np.sum(v**2)

def change():
    data[:] = data * 2 + 0.1
""",
    slots={
        "call": (
            "np.cumsum(v)[-1] ** 2",
            "np.cumprod(v)[1]",
            "np.diff(v)[0] ** 2",
            "np.prod(np.cos(v))",
            "np.var(v)",
            "np.std(v)",
            "np.median(v)",
            "np.ptp(v)",
            "np.max(v)",
            "np.average(v, weights=np.arange(1, v.size + 1))",
            "np.einsum('i,i->', v, v)",
            "np.dot(v, v[::-1])",
            "np.inner(v, v)",
            "np.vdot(v, v)",
            "np.tensordot(v, v, 1)",
            "np.linalg.norm(v)",
            "np.trapezoid(v)",
            "np.convolve(v, [1.0, 2.0])[1]",
            "np.correlate(v, v)[0]",
            "np.polyval([1.0, -2.0, 0.5], v)[0]",
            "np.interp(0.5, [0.0, 1.0], v[:2])",
            "np.percentile(v, 40)",
            "np.gradient(v)[0]",
            "np.cross(np.append(v, [1.0, 2.0])[:3], [1.0, 0.0, 2.0])[0]",
            "np.sort(v)[0]",
            "np.clip(v, -0.4, 0.9).sum()",
            "np.nansum(v)",
            "np.count_nonzero(v > 0) * np.sum(v)",
            "np.logaddexp.reduce(v)",
            "np.maximum.accumulate(v)[-1]",
            "np.corrcoef(v, v**3)[0, 1]",
            "np.cov(v)",
            "np.hypot(v[0], v[1])",
            "np.linalg.multi_dot([v[None], np.eye(v.size), v])[0]",
        )
    },
    variants=34,
)
idiom(
    "linear algebra",
    """
def f(x):
    s = np.sum(x)
    A = np.array([[3 + s**2, $a, 0.1], [$a, 2.0, np.sin(s)], [0.1, np.sin(s), 4.0]])
    b = np.array([1.0, s, $b])
    return $call + np.sum(x**2)
""",
    slots={
        "call": (
            "np.linalg.solve(A, b).sum()",
            "np.linalg.det(A)",
            "np.linalg.inv(A)[0, 1]",
            "np.linalg.slogdet(A)[1]",
            "np.log(np.diag(np.linalg.cholesky(A))).sum()",
            "np.linalg.eigvalsh(A)[0]",
            "np.linalg.eigh(A)[0][-1]",
            "np.linalg.svd(A, compute_uv=False)[0]",
            "np.linalg.lstsq(A, b, rcond=None)[0][0]",
            "np.linalg.pinv(A)[0, 0]",
            "np.trace(A @ A)",
            "np.linalg.norm(A)",
            "np.linalg.qr(A)[1][0, 0] ** 2",
            "np.linalg.matrix_power(A, 2)[0, 1]",
            "b @ A @ b",
            "np.linalg.cond(A)",
            "(A @ b)[1] * b[1]",
            "np.linalg.norm(A, 'nuc')",
            "np.linalg.norm(A, 2)",
            "np.sort(np.linalg.eigvals(A).real)[0]",
            "np.real(np.fft.fft(b)[1])",
            "np.abs(np.fft.rfft(A[0]))[1]",
        )
    },
    variants=22,
)
idiom(
    "complex numbers on the way",
    """
def f(x):
    z = np.exp(1j * $a * x) + $b
    return np.sum($call) + np.sum(x**2)
""",
    slots={"call": ("np.abs(z) ** 2", "z.real", "z.imag", "np.angle(z)", "(z * np.conj(z)).real", "np.real(z**2)")},
    variants=6,
)
idiom(
    "cmath and complex()",
    """
import cmath

def f(x):
    z = complex($a, $u)
    return $call + np.sum(x**2)
""",
    slots={
        "call": (
            "abs(z) ** 2",
            "z.real * z.imag",
            "cmath.exp(z).real",
            "(z * z).imag",
            "cmath.phase(z)",
            "cmath.polar(z)[0]",
        )
    },
    variants=6,
)
idiom(
    "np.vectorize",
    """
gain = [$a]

@np.vectorize
def bump(v):
    return gain[0] * v if v > 0 else math.sin(v)

def f(x):
    return np.sum(bump(x)) + np.sum(x**2)

def change():
    gain[0] = $e
""",
)
idiom(
    "np.vectorize with a signature",
    """
norm = np.vectorize(lambda row: np.sqrt(row @ row + $a), signature="(n)->()")

def f(x):
    return np.sum(norm(np.outer([1.0, 2.0], np.ravel(x)))) + np.sum(x)
""",
)
idiom(
    "np.apply_along_axis",
    """
def f(x):
    table = np.outer([1.0, $a, 2.0], np.ravel(x))
    return np.sum(np.apply_along_axis(lambda row: np.sum(row**2) * row[0], $axis, table)) + np.sum(x**2)
""",
    slots={"axis": ("0", "1")},
)
idiom(
    "np.frompyfunc",
    """
square = np.frompyfunc(lambda v: v * v + $a * v, 1, 1)

def f(x):
    return float(np.sum(square(x))) + np.sum(np.cos(x))
""",
)
idiom(
    "np.piecewise",
    """
def f(x):
    v = np.ravel(x)
    return np.sum(np.piecewise(v, [v < 0, v >= 0], [lambda t: $a * t**2, lambda t: np.sin(t)])) + np.sum(v)
""",
)
idiom(
    "np.select and choose",
    """
def f(x):
    v = np.ravel(x)
    y = np.select([v < -0.5, v < 0.5], [v, $a * v**2], np.cos(v))
    return np.sum(y) + np.sum(np.choose((v > 0).astype(int), [v, v**2]))
""",
)
idiom(
    "np.ndenumerate and its kin",
    """
def f(x):
    total = 0.0
    for $head:
        total = total + $term
    return total + np.sum(x**2)
""",
    slots={
        "head": ("(i,), v in np.ndenumerate(np.ravel(x))",),
        "term": ("$a * (i + 1) * v**2", "math.sin(v) * $a"),
    },
)
idiom(
    "np.ndindex, np.nditer, flat",
    """
def f(x):
    v, total = np.ravel(x), 0.0
    for $head:
        total = total + $a * $item ** 3
    return total + np.sum(x**2)
""",
    slots={"head": ("at in np.ndindex(v.shape)", "at in range(len(v))", "at in np.arange(v.size)"), "item": ("v[at]",)},
)
idiom(
    "np.nditer",
    """
def f(x):
    total = 0.0
    for v in $iter:
        total = total + $a * v**2
    return total + np.sum(np.sin(x))
""",
    slots={
        "iter": (
            "np.nditer(np.asarray(x))",
            "np.asarray(x).flat",
            "np.ravel(x)[::-1]",
            "iter(np.ravel(x))",
            "np.ravel(x).tolist()",
            "reversed(np.ravel(x))",
        )
    },
    variants=6,
)
idiom(
    "np.fromiter",
    """
def f(x):
    y = np.fromiter((v * v for v in np.ravel(x)), dtype=float, count=np.size(x))
    return $a * np.sum(np.sqrt(1 + y)) + np.sum(x)
""",
)
idiom(
    "sliding windows",
    """
def f(x):
    v = np.concatenate([np.ravel(x), $vec, [1.0]])
    w = np.lib.stride_tricks.sliding_window_view(v, 2)
    return np.sum(w.mean(axis=1) ** 2) * $a + np.sum(x)
""",
)
idiom(
    "np.matrix",
    """
import warnings

def f(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        v = np.matrix(np.ravel(x))
    return float((v * v.T)[0, 0]) * $a + np.sum(x)
""",
)
idiom(
    "masked arrays",
    """
def f(x):
    m = np.ma.masked_less(np.ravel(x), 0)
    return float(np.ma.filled(m**2, $a).sum()) + np.sum(x**2)
""",
)
idiom(
    "float32 on the way",
    """
def f(x):
    y = np.asarray(x).astype(np.float32).astype(float)
    return $a * np.sum(x**2) + 0.0 * np.sum(y) + np.sum(x)
""",
)
idiom(
    "bool and int arrays by data",
    """
labels = np.array([0, 1, 1, 0])

def f(x):
    scores = np.outer([0.2, 1.0, -0.5, 0.7], np.ravel(x)).sum(axis=1)
    p = 1 / (1 + np.exp(-scores))
    return -np.sum(np.where(labels, np.log(p), np.log(1 - p))) * $a + np.sum(x**2)

def change():
    labels[0] = 1
""",
)
idiom(
    "cross entropy by fancy indices",
    """
T = [0, 2, 1]

def f(x):
    logits = np.outer([1.0, $a, -0.4], np.append(x, [0.1, -0.2])[:3])
    logits = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.mean(np.log(p[np.arange(3), T] + 1e-7)) + np.sum(x**2)

def change():
    T[0] = 1
""",
)
idiom(
    "convolution by loops",
    """
kernel = [[$a, 0.2], [0.1, -$b]]

def f(x):
    image = np.outer(np.append(x, [0.5, 1.0]), [1.0, 0.3, -0.7])
    h, w = image.shape
    out = np.zeros((h - 1, w - 1))
    for i in range(h - 1):
        for j in range(w - 1):
            out[i, j] = np.sum(image[i : i + 2, j : j + 2] * kernel)
    return np.sum(out**2) + np.sum(x)

def change():
    kernel[0][0] = $e
""",
)
idiom(
    "conversions of x",
    """
import array
import copy

def f(x):
    v = $convert
    return $a * sum(t * t for t in v) + np.sum(np.cos(x))
""",
    slots={
        "convert": (
            "list(x)",
            "tuple(x)",
            "x.tolist()",
            "np.array(list(x))",
            "copy.deepcopy(x)",
            "array.array('d', x)",
            "[float(t) for t in x]",
            "np.asarray(x, dtype=object)",
            "memoryview(x)",
            "map(float, x)",
            "sorted(x)",
            "{i: t for i, t in enumerate(x)}.values()",
            "dict(enumerate(x)).values()",
            "np.nditer(x)",
            "x.astype(object)",
            "np.float64(x)",
            "np.longdouble(x)",
            "x.view()",
            "np.array(x, dtype=np.longdouble)",
            "frozenset(x.tolist())",
            "x.flatten('F')",
            "x.__array__()",
            "x.__iter__()",
            "np.array(x, subok=True)",
        )
    },
    forms=VECTORS,
    variants=24,
)
idiom(
    "x by its bytes",
    """
import struct

def f(x):
    v = $convert
    return $a * np.sum(np.asarray(v) ** 2) + np.sum(np.cos(x))
""",
    slots={
        "convert": (
            "np.frombuffer(x.tobytes())",
            "struct.unpack(f'{x.size}d', x.tobytes())",
            "struct.unpack(f'{x.size}d', struct.pack(f'{x.size}d', *x))",
            "np.frombuffer(x.data)",
            "x.view(np.uint64).view(float)",
            "np.frombuffer(bytes(x))",
        )
    },
    forms=VECTORS,
    expect="differences",
    variants=2,
)
idiom(
    "x through a pickle",
    """
import pickle

def f(x):
    return $F($a) + np.sum(pickle.loads(pickle.dumps(x)))
""",
    expect="differences",
    variants=2,
)
idiom(
    "x through a file",
    """
import io

def f(x):
    stream = io.BytesIO()
    np.save(stream, x)
    stream.seek(0)
    return $a * np.sum(np.load(stream) ** 2) + np.sum(x)
""",
    expect="differences",
    variants=1,
)
idiom(
    "math's sums",
    """
import statistics

def f(x):
    values = $values
    return $a * $call + np.sum(x**2)
""",
    slots={
        "values": ("np.append(x, 0.5).tolist()", "list(np.append(x, 0.5))", "np.append(x, 0.5)"),
        "call": (
            "math.fsum(values)",
            "math.prod(values)",
            "math.hypot(*values)",
            "math.dist(values, [0.1] * len(values))",
            "statistics.mean(values)",
            "statistics.fmean(values)",
            "statistics.median(values)",
            "statistics.pvariance(values)",
            "sum(values) ** 2",
            "math.sqrt(sum(v * v for v in values))",
            "statistics.stdev(values)",
            "statistics.harmonic_mean([v * v for v in values])",
        ),
    },
    variants=36,
)
idiom(
    "functions of math",
    """
def f(x):
    v = float($u)
    return $a * math.$call + np.sum(x**2)
""",
    slots={
        "call": (
            "sin(v)",
            "exp(v)",
            "erf(v)",
            "gamma(v * v + 1)",
            "lgamma(v * v + 1)",
            "atan2(v, $b)",
            "pow(abs(v), 1.5)",
            "log1p(v * v)",
            "ldexp(v, 2)",
            "frexp(v)[0] * 2.0 ** math.frexp(v)[1]",
            "modf(v + 0.0)[0] + math.modf(v)[1]",
            "fmod(v, 7.0)",
            "copysign(v, -1.0)",
            "remainder(v, 50.0)",
            "tanh(v)",
            "erfc(v)",
            "expm1(v)",
            "degrees(v)",
            "hypot(v, $b)",
            "cbrt(v * v + 1)",
            "exp2(v)",
            "dist([v, 1.0], [0.0, $b])",
            "asinh(v)",
            "trunc(v * 0) + v",
            "fsum([v, v * v])",
            "isclose(v, 1e9) + v",
            "sqrt(v * v + 1)",
            "log(v * v + 1, 3)",
            "nextafter(v, 9.0)",
            "ulp(v) + v",
        )
    },
    variants=30,
)
idiom(
    "methods of float",
    """
def f(x):
    v = float($u)
    return $a * ($call) ** 2 + np.sum(x**2)
""",
    slots={
        "call": (
            "v.real",
            "v.conjugate()",
            "v.__abs__()",
            "v.__add__(1.0)",
            "v + v.is_integer()",
            "divmod(v, 99.0)[1] + v",
            "abs(v)",
            "pow(v, 3)",
            "-v",
            "max(v, -9.0)",
            "v.__mul__(2)",
            "sum([v, 1])",
            "float.__add__(v, 1.0)",
            "v.hex() and v",
        )
    },
    variants=14,
)
