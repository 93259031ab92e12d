"""Idioms: exceptions, early exits, loops that end by a tolerance, recursion, generators, the words of the language."""

from .writing import idiom

# --- exceptions
idiom(
    "log of a negative number, caught",
    """
def f(x):
    try:
        y = math.log($u)
    except ValueError:
        y = $low
    return $a * y + np.sum(x**2)
""",
    slots={"low": ("0.0", "-3.0", "$u**2", "math.sin($u)")},
)
idiom(
    "a root of a negative number, caught",
    """
def f(x):
    try:
        y = math.sqrt($u)
    except ValueError:
        y = -$u
    else:
        y = y + 1.0
    finally:
        done = True
    return $a * y + np.sum(x**2) * done
""",
)
idiom(
    "a domain error that passes through",
    """
def f(x):
    return $a * math.$name($u) + np.sum(x**2)
""",
    slots={"name": ("log", "sqrt", "log2", "log10")},
)
idiom(
    "arcsine out of range, caught",
    """
def f(x):
    try:
        return math.asin(1.2 * $u) + np.sum(x**2)
    except ValueError:
        return $a * $u + np.sum(x**2)
""",
)
idiom(
    "ZeroDivisionError",
    """
def f(x):
    count = sum(1 for v in np.ravel(x) if v > 0)
    try:
        mean = sum(float(v) for v in np.ravel(x) if v > 0) / count
    except ZeroDivisionError:
        mean = $a
    return mean**2 + np.sum(x**2)
""",
)
idiom(
    "OverflowError",
    """
def f(x):
    try:
        y = math.exp(800 + 1e4 * $u)
    except OverflowError:
        y = $u**2
    return min(y, 3.0) + $a * np.sum(x**2)
""",
)
idiom(
    "overflow of a power",
    """
def f(x):
    try:
        y = float($u * 1e3) ** 200
    except OverflowError:
        y = $u
    return y * 1e-3 + $a * np.sum(x**2)
""",
)
idiom(
    "np.errstate that raises",
    """
def f(x):
    try:
        with np.errstate($what="raise"):
            y = $call + 0.1
    except FloatingPointError:
        y = $a * $u
    return y + np.sum(x**2)
""",
    slots={"what": ("invalid", "all"), "call": ("np.log($u) / 9", "np.sqrt($u) / 9")},
)
idiom(
    "np.errstate that ignores",
    """
def f(x):
    with np.errstate(all="ignore"):
        y = np.log(x)
    y = np.where(np.isfinite(y), y, $a)
    return np.sum(y) + np.sum(x**2)
""",
)
idiom(
    "a Cholesky factor, retried",
    """
def f(x):
    A = np.array([[$u, 0.3], [0.3, $a + $w**2]])
    jitter = 0.0
    for _ in range(12):
        try:
            L = np.linalg.cholesky(A + jitter * np.eye(2))
            break
        except np.linalg.LinAlgError:
            jitter = max(2 * jitter, 3.0)
    return 2 * np.sum(np.log(np.diag(L))) + np.sum(x**2)
""",
)
idiom(
    "a singular matrix, caught",
    """
def f(x):
    A = np.array([[1.0, max($u, 0.0)], [max($u, 0.0), max($u, 0.0)]]) if $u < 0 else np.eye(2) + $u
    try:
        y = np.linalg.solve(A, np.array([1.0, $a]))[0]
    except np.linalg.LinAlgError:
        y = $u
    return y + np.sum(x**2)
""",
)
idiom(
    "KeyError",
    """
table = {1: $a}

def f(x):
    try:
        k = table[1 if $u > 0 else -1]
    except KeyError:
        k = $b
    return k * np.sum(x**2) + np.sum(x)

def change():
    table[1] = $e
""",
)
idiom(
    "IndexError",
    """
def f(x):
    large = [v for v in np.ravel(x) if v > 0]
    try:
        y = large[0]
    except IndexError:
        y = $a
    return y**2 + np.sum(x**2)
""",
)
idiom(
    "StopIteration",
    """
def f(x):
    try:
        y = next(v for v in np.ravel(x) if v > 0)
    except StopIteration:
        y = $a
    return y * y + np.sum(x**2)
""",
)
idiom(
    "next with a default",
    """
def f(x):
    y = next((v for v in np.ravel(x) if v > 0), $a)
    return y * y + np.sum(x**2)
""",
)
idiom(
    "an exception of one's own",
    """
class OutOfRange(ValueError):
    def __init__(self, by):
        super().__init__(f"out of range by {by:.3f}")
        self.by = by

def checked(v):
    if v < 0:
        raise OutOfRange(-v)
    return $a * v

def f(x):
    try:
        return checked(np.sum(x)) ** 2 + np.sum(x**2)
    except OutOfRange as problem:
        return problem.by * $b + np.sum(x**2)
""",
)
idiom(
    "an exception of one's own that passes through",
    """
class Infeasible(Exception):
    pass

def f(x):
    if np.sum(x) < 0:
        raise Infeasible("the sum is negative")
    return $F($a)
""",
)
idiom(
    "a range that is checked",
    """
def f(x):
    if not np.all(np.abs(x) < 1e3):
        raise ValueError(f"x = {x} is too large")
    return $F($a)
""",
)
idiom(
    "an exit by exception",
    """
class Found(Exception):
    pass

def search(values):
    for v in values:
        if v < 0:
            raise Found(v)

def f(x):
    try:
        search(np.ravel(x))
        y = 1.0
    except Found as found:
        y = found.args[0]
    return $a * y**2 + np.sum(x**2)
""",
)
idiom(
    "raise from",
    """
def inner(v):
    try:
        return math.log(v)
    except ValueError as problem:
        raise RuntimeError("no log") from problem

def f(x):
    try:
        y = inner($u)
    except RuntimeError as problem:
        y = $a if problem.__cause__ is not None else 0.0
    return y + np.sum(x**2)
""",
)
idiom(
    "contextlib.suppress",
    """
import contextlib

def f(x):
    y = $a * $u
    with contextlib.suppress(ValueError):
        y = math.log($u)
    return y + np.sum(x**2)
""",
)
idiom(
    "an exception group",
    """
def f(x):
    y = 0.0
    try:
        if $u < 0:
            raise ExceptionGroup("both", [ValueError(), KeyError()])
        y = $u
    except* ValueError:
        y = $a * $u
    except* KeyError:
        pass
    return y + np.sum(x**2)
""",
)
idiom(
    "an assertion, caught",
    """
def f(x):
    try:
        assert $u > 0
        y = np.log($u)
    except AssertionError:
        y = $a
    return y + np.sum(x**2)
""",
)
idiom(
    "a warning made an error",
    """
import warnings

def f(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            y = np.log(np.float64($u))
        except RuntimeWarning:
            y = $a
    return y + np.sum(x**2)
""",
)
idiom(
    "a TypeError asked for",
    """
def f(x):
    try:
        n = len(x)
    except TypeError:
        n = 1
    return $F($a * n)
""",
)
idiom(
    "an AttributeError asked for",
    """
def f(x):
    try:
        y = x.squared()
    except AttributeError:
        y = x * x
    return np.sum(y) * $a + np.sum(x)
""",
)
idiom(
    "hasattr",
    """
def f(x):
    y = x.sum() if hasattr(x, "sum") else x
    return $a * y**2 + np.sum(np.cos(x))
""",
)
idiom(
    "an exception in a generator",
    """
def logs(values):
    for v in values:
        try:
            yield math.log(v)
        except ValueError:
            yield $a * v

def f(x):
    return sum(logs(np.ravel(x))) + np.sum(x**2)
""",
)
idiom(
    "float of text, caught",
    """
entries = ["$a", "none"]

def number(text):
    try:
        return float(text)
    except ValueError:
        return 0.5

def f(x):
    return $F(sum(map(number, entries)))

def change():
    entries[1] = "$e"
""",
)
idiom(
    "a matrix that is not finite, caught",
    """
def f(x):
    with np.errstate(all="ignore"):
        A = np.eye(2) * np.log(np.float64($u))
    try:
        y = np.asarray_chkfinite(A).sum()
    except ValueError:
        y = $a * $u
    return y + np.sum(x**2)
""",
)

# --- leaving early, and loops
idiom(
    "an early return",
    """
def f(x):
    if $test:
        return $a * np.sum(x**2)
    y = np.sum(np.sin(x))
    if y > 50:
        return y
    return $b * y + np.sum(x**2)
""",
    slots={"test": ("np.sum(x) > 0", "$u > 0", "np.all(x > 0)", "np.any(x < 0)", "np.max(x) > 0.1", "np.mean(x) < 0")},
    variants=6,
)
idiom(
    "break and else",
    """
def f(x):
    total = 0.0
    for v in np.ravel(x):
        if v < 0:
            break
        total = total + v**3
    else:
        total = total + $a
    return total + np.sum(x**2)
""",
)
idiom(
    "continue",
    """
def f(x):
    total = 0.0
    for i, v in enumerate(np.ravel(x)):
        if v < 0:
            continue
        total += (i + $a) * v * v
    return total + np.sum(x)
""",
)
idiom(
    "a chain of conditions",
    """
def f(x):
    s = np.sum(x)
    if s < -1:
        y = -s
    elif s < 0:
        y = s**2
    elif s < 1:
        y = $a * s
    else:
        y = np.log(s)
    return y + np.sum(x**2)
""",
)
idiom(
    "a conditional expression",
    """
def f(x):
    y = $a * $u if $u > 0 else $b * $u**2 if $u > -1 else 0.3
    return y + np.sum(x**2)
""",
)
idiom(
    "and, or, not",
    """
def f(x):
    on = ($u > 0 and $w > 0.1) or not $u < 0.5
    gain = on and $a or $b
    return gain * np.sum(x**2) + np.sum(x)
""",
)
idiom(
    "chained comparisons",
    """
def f(x):
    return ($a if 0 < $u <= 5 else $b) * np.sum(x**2) + (-2 < np.sum(x) < 0) * np.sum(x)
""",
)
idiom(
    "Newton's method to a tolerance",
    """
def root(c):
    y = 1.0
    for _ in range(50):
        step = (y**3 + y - c) / (3 * y**2 + 1)
        y = y - step
        if abs(step) < 1e-13:
            break
    return y

def f(x):
    return $a * root(np.sum(x)) + np.sum(x**2)
""",
    steady=False,
)
idiom(
    "a fixed point to a tolerance",
    """
def f(x):
    s, y = np.sum(x), 0.0
    while True:
        new = 0.4 * np.cos(y + s)
        if abs(new - y) < 1e-14:
            break
        y = new
    return $a * y + np.sum(x**2)
""",
    steady=False,
)
idiom(
    "Heron's root",
    """
def f(x):
    c = 1 + np.sum(x**2)
    y = c
    while abs(y * y - c) > 1e-14 * c:
        y = (y + c / y) / 2
    return $a * y + np.sum(x)
""",
    steady=False,
)
idiom(
    "a series to a tolerance",
    """
def f(x):
    s = 0.5 * np.sum(x)
    term, total, n = 1.0, 0.0, 0
    while abs(term) > 1e-17:
        total, n = total + term, n + 1
        term = term * s / n
    return $a * total + np.sum(x**2)
""",
    steady=False,
)
idiom(
    "a continued fraction",
    """
def f(x):
    y = 1.0
    for k in reversed(range(1, 12)):
        y = k + np.sum(x**2) / y
    return $a * y
""",
)
idiom(
    "bisection",
    """
def root(c):
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle**3 + middle > c:
            high = middle
        else:
            low = middle
    return low

def f(x):
    return $a * root(np.sum(x)) + np.sum(x**2)
""",
    expect="differences",
    tolerance=1e-5,
)
idiom(
    "bisection to a tolerance",
    """
def f(x):
    low, high = -10.0, 10.0
    while high - low > 1e-13:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if math.sinh(middle) > $a * np.sum(x) else (middle, high)
    return low**2 + low
""",
    expect="differences",
    tolerance=1e-5,
)
idiom(
    "the secant's root",
    """
def f(x):
    c = np.sum(x)
    g = lambda y: y + 0.3 * math.sin(y) - c
    p, q = 0.0, 1.0
    for _ in range(60):
        if g(q) == g(p):
            break
        p, q = q, q - g(q) * (q - p) / (g(q) - g(p))
        if abs(q - p) < 1e-14:
            break
    return $a * q**2 + np.sum(x)
""",
    steady=False,
)
idiom(
    "golden section, its minimum",
    """
def f(x):
    c = np.sum(x)
    phi = lambda t: (t - c) ** 2 + 0.2 * t**2
    low, high, r = -9.0, 9.0, (5**0.5 - 1) / 2
    for _ in range(40):
        p, q = high - r * (high - low), low + r * (high - low)
        if phi(p) < phi(q):
            high = q
        else:
            low = p
    return $a * phi((low + high) / 2) + np.sum(x)
""",
    expect="differences",
    tolerance=1e-5,
)
idiom(
    "gradient descent inside f",
    """
def f(x):
    y = 0.0
    for _ in range(15):
        y = y - 0.2 * (2 * (y - np.sum(x)) + math.cos(y))
    return $a * y**2 + np.sum(x**2)
""",
)
idiom(
    "the articles' numerical gradient inside f",
    """
def numerical_gradient(g, v, h=1e-4):
    return (g(v + h) - g(v - h)) / (2 * h)

def f(x):
    slope = numerical_gradient(lambda v: v**3 + v, np.sum(x))
    return $a * slope + np.sum(x**2)
""",
    tolerance=1e-5,
)
idiom(
    "Runge and Kutta",
    """
def f(x):
    def rate(t, y):
        return -$u * y + math.sin(t)

    t, y, h = 0.0, $a, 0.1
    for _ in range(10):
        k1 = rate(t, y)
        k2 = rate(t + h / 2, y + h / 2 * k1)
        k3 = rate(t + h / 2, y + h / 2 * k2)
        k4 = rate(t + h, y + h * k3)
        t, y = t + h, y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y**2 + np.sum(x**2)
""",
)
idiom(
    "Simpson's rule, adaptive",
    """
def simpson(g, a, b, fa, fm, fb, depth):
    m = (a + b) / 2
    fl, fr = g((a + m) / 2), g((m + b) / 2)
    whole = (b - a) / 6 * (fa + 4 * fm + fb)
    halves = (b - a) / 12 * (fa + 4 * fl + 2 * fm + 4 * fr + fb)
    if depth == 0 or abs(halves - whole) < 1e-13:
        return halves
    return simpson(g, a, m, fa, fl, fm, depth - 1) + simpson(g, m, b, fm, fr, fb, depth - 1)

def f(x):
    g = lambda t: math.exp(-($a + $u**2) * t * t)
    return simpson(g, 0.0, 1.0, g(0.0), g(0.5), g(1.0), 4) + np.sum(x**2)
""",
    tolerance=1e-5,
    steady=False,
)
idiom(
    "power iteration",
    """
def f(x):
    A = np.array([[3.0 + $u, 1.0], [1.0, $a]])
    v = np.ones(2)
    for _ in range(60):
        v = A @ v
        v = v / np.linalg.norm(v)
    return v @ A @ v + np.sum(x**2)
""",
)
idiom(
    "recursion",
    """
def fold(values):
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    left, right = fold(values[:half]), fold(values[half:])
    return left * math.cos(right) + right

def f(x):
    return $a * fold([*np.ravel(x), 0.3, $b]) + np.sum(x**2)
""",
)
idiom(
    "recursion to a tolerance",
    """
def shrink(v):
    return v if v < 0.05 else 0.3 * shrink(0.5 * v) + v

def f(x):
    s = 1 + np.sum(x**2)
    return $a * shrink(s)
""",
    steady=False,
)
idiom(
    "a tree",
    """
tree = ("+", ("*", "x", $a), ("sin", ("*", "x", "x")))

def value(node, s):
    match node:
        case ("+", a, b):
            return value(a, s) + value(b, s)
        case ("*", a, b):
            return value(a, s) * value(b, s)
        case ("sin", a):
            return math.sin(value(a, s))
        case "x":
            return s
        case float():
            return node

def f(x):
    return value(tree, np.sum(x)) + np.sum(x**2)

def change():
    $scope tree
    tree = ("+", "x", $e)
""",
)
idiom(
    "match on the shape",
    """
def f(x):
    match np.shape(x):
        case ():
            return $a * x**2
        case (1,):
            return $b * x[0] ** 2 + x[0]
        case (n,) if n > 1:
            return $c * np.sum(x**2) + n * x[0]
""",
)
idiom(
    "match on the values",
    """
def f(x):
    match x.tolist():
        case [] | None:
            return 0.0
        case [first, *rest]:
            return $a * first**2 + sum(v**2 for v in rest)
        case v:
            return $b * v**2 + v
""",
)
idiom(
    "walrus",
    """
def f(x):
    if (s := np.sum(x)) > 0:
        return s**2 + $a * np.sum(x**2)
    return [y := s * $b, y**2 + np.sum(x**2)][-1]
""",
)
idiom(
    "a while loop with a walrus",
    """
def f(x):
    s, n = 1 + np.sum(x**2), 0
    while (s := 0.5 * s) > 0.2 and n < 30:
        n += 1
    return $a * s * 2.0**n + np.sum(x)
""",
    steady=False,
)
idiom(
    "a generator pipeline",
    """
def f(x):
    squares = (v * v for v in np.ravel(x))
    shifted = (s + $a * i for i, s in enumerate(squares))
    return sum(math.sqrt(1 + s) for s in shifted) + np.sum(x)
""",
)
idiom(
    "a generator with state",
    """
def running(values):
    total = 0.0
    for v in values:
        total += v
        yield total

def f(x):
    return $a * sum(t * t for t in running(np.ravel(x))) + np.sum(np.cos(x))
""",
)
idiom(
    "yield from in recursion",
    """
def flat(things):
    for thing in things:
        if isinstance(thing, list):
            yield from flat(thing)
        else:
            yield thing

def f(x):
    return sum(v**2 * $a for v in flat([[*np.ravel(x)], [1.0, [np.sum(x)]]]))
""",
)
idiom(
    "zip and enumerate",
    """
weights = $vec

def f(x):
    total = 0.0
    for i, (w, v) in enumerate(zip(weights, np.ravel(x))):
        total += w * v**2 * (i + 1)
    return total + np.sum(np.sin(x))

def change():
    weights[0] = $e
""",
)
idiom(
    "map, filter, reduce",
    """
def f(x):
    positive = filter(lambda v: v > 0, np.ravel(x))
    return functools.reduce(lambda s, v: s + v, map(lambda v: v**3, positive), $a) + np.sum(x**2)
""",
)
idiom(
    "sorted with a key",
    """
def f(x):
    ordered = sorted(np.ravel(x), key=$key)
    return sum((i + $a) * v**2 for i, v in enumerate(ordered)) + np.sum(x)
""",
    slots={"key": ("abs", "lambda v: -v", "math.sin", "lambda v: (v > 0, v)")},
)
idiom(
    "sorted pairs",
    """
def f(x):
    pairs = sorted((v, i) for i, v in enumerate(np.ravel(x)))
    return sum((k + $a) * v**2 + 0.1 * i * v for k, (v, i) in enumerate(pairs))
""",
)
idiom(
    "list.sort and reverse",
    """
def f(x):
    values = list(np.ravel(x))
    values.sort(reverse=True)
    values.reverse()
    return sum(v**2 * (k + $a) for k, v in enumerate(values)) + np.sum(x)
""",
)
idiom(
    "max and min of numbers",
    """
def f(x):
    values = [*np.ravel(x).tolist(), $a * 0.1]
    return max(values) ** 2 + $b * min(values) + max(values, key=abs) + np.sum(x**2)
""",
)
idiom(
    "sum, any, all",
    """
def f(x):
    values = np.ravel(x).tolist()
    gain = $a if any(v < 0 for v in values) else $b
    return gain * sum(v * v for v in values) + all(v > 0 for v in values) * sum(values)
""",
)
idiom(
    "itertools",
    """
import itertools

def f(x):
    values = list(np.ravel(x)) + [$a]
    pairs = sum(p * q for p, q in itertools.combinations(values, 2))
    steps = sum((q - p) ** 2 for p, q in itertools.pairwise(values))
    return pairs + steps + list(itertools.accumulate(values))[-1] ** 2
""",
)
idiom(
    "itertools again",
    """
import itertools

def f(x):
    values = list(np.ravel(x))
    head = list(itertools.takewhile(lambda v: v > -5, values))
    both = itertools.chain(head, itertools.islice(itertools.cycle([$a, $b]), 3))
    table = itertools.starmap(lambda p, q: p * q, itertools.product(both, repeat=2))
    return sum(table) + np.sum(x**2)
""",
)
idiom(
    "groupby",
    """
import itertools

def f(x):
    groups = itertools.groupby(sorted(np.ravel(x).tolist()), key=lambda v: v > 0)
    return sum(sum(v for v in group) ** 2 * ($a if positive else $b) for positive, group in groups) + np.sum(x**2)
""",
)
idiom(
    "star arguments",
    """
def parts(first, *rest, scale=1.0, **named):
    return scale * first**2 + sum(v**2 for v in rest) * named.get("gain", 1.0)

options = {"scale": $a, "gain": $b}

def f(x):
    return parts(*np.ravel(x), **options) + np.sum(x)

def change():
    options["scale"] = $e
""",
)
idiom(
    "unpacking",
    """
def f(x):
    first, *rest = [*np.ravel(x), $a]
    *_, last = rest
    (p, q), r = (first, last), sum(rest)
    return p**2 + q * p + r**2 + np.sum(x**2)
""",
)
idiom(
    "keyword-only and positional-only arguments",
    """
def part(v, /, *, power=2, gain=$a):
    return gain * v**power

def f(x):
    return sum(part(v, power=k + 2) for k, v in enumerate(np.ravel(x))) + np.sum(x**2)
""",
)
idiom(
    "a scope of a comprehension",
    """
def f(x):
    v = $a
    squares = [v * v for v in np.ravel(x)]
    fs = [lambda s, k=k: s * k for k in (1, 2)]
    return sum(squares) * v + fs[0](np.sum(x)) + fs[-1](np.sum(np.sin(x)))
""",
)
idiom(
    "a mutable default",
    """
def f(x, seen=[$a]):
    return $F(seen[0])

held = f.__defaults__[0]

def change():
    held[0] = $e
""",
)
idiom(
    "a trampoline",
    """
def bounce(n, total):
    return total if n == 0 else (lambda: bounce(n - 1, total + math.sin(total) / n))

def f(x):
    step = bounce(4, np.sum(x))
    while callable(step):
        step = step()
    return $a * step + np.sum(x**2)
""",
)
idiom(
    "del and rebinding",
    """
def f(x):
    y = x * $a
    z = y
    y = y + 1
    del z
    x = x**2
    return np.sum(y * x)
""",
)
idiom(
    "a dispatch table",
    """
OPERATIONS = {"square": lambda v: v * v, "sine": math.sin, "exp": np.exp}
plan = ["square", "sine"]

def f(x):
    s = 0.5 * np.sum(x)
    for name in plan:
        s = OPERATIONS[name](s)
    return $a * s + np.sum(x**2)

def change():
    plan.append("exp")
""",
)
idiom(
    "a state machine",
    """
def f(x):
    state, total = "start", 0.0
    for v in np.ravel(x):
        if state == "start":
            state, total = ("up" if v > 0 else "down"), total + v
        elif state == "up":
            total, state = total * v + $a, "down"
        else:
            total, state = total - v**2, "up"
    return total + np.sum(x**2)
""",
)
idiom(
    "for over a range by data",
    """
steps = [3]

def f(x):
    y = np.sum(x)
    for k in range(steps[0]):
        y = math.sin(y) + k * $a
    return y**2 + np.sum(x**2)

def change():
    steps[0] = 5
""",
)
idiom(
    "a simulation in float numbers",
    """
def f(x):
    position, speed = 0.0, float($u)
    for _ in range(20):
        speed -= 0.05 * (position + $a * speed)
        position += 0.05 * speed
    return position**2 + np.sum(x**2)
""",
)
idiom(
    "a count of steps that enters smoothly",
    """
def f(x):
    s, n = 1 + np.sum(x**2), 0
    while s > 1:
        s, n = s / 2, n + 1
    return $a * (math.log(s) + n * math.log(2)) + np.sum(x)
""",
    steady=False,
)

# --- what kind of number x is
idiom(
    "isinstance of a float",
    """
def f(x):
    if isinstance(x, float):
        return $a * x**2 + x
    return $b * x**2 if np.ndim(x) == 0 else np.sum(x)
""",
    forms=(0,),
)
idiom(
    "isinstance of its elements",
    """
def f(x):
    total = 0.0
    for v in x:
        total += $a * v**2 if isinstance(v, float) else v
    return total
""",
    forms=(2, 3, 1),
)
idiom(
    "the type of x",
    """
def f(x):
    if $test:
        return $a * np.sum(x**2) + np.sum(x)
    return np.sum(x)
""",
    slots={
        "test": (
            "type(x) in (float, np.float64)",
            "isinstance(x, np.floating)",
            "type(x) is np.float64",
            "isinstance(x, np.generic)",
            "np.isscalar(x)",
        )
    },
    forms=(0,),
    variants=5,
)
idiom(
    "the type of an array",
    """
import collections.abc

def f(x):
    if $test:
        return $a * np.sum(x**2) + np.sum(x)
    return np.sum(x)
""",
    slots={
        "test": (
            "type(x) is np.ndarray",
            "isinstance(x, np.ndarray)",
            "not isinstance(x, list)",
            "isinstance(x, collections.abc.Iterable)",
            "x.dtype == float",
            "x.flags.c_contiguous",
            "x.flags.writeable",
            "hasattr(x, '__len__')",
            "x.dtype.kind == 'f'",
            "np.issubdtype(x.dtype, np.floating)",
            "callable(getattr(x, 'tolist', None))",
            "not isinstance(x, collections.abc.Sequence)",
            "x.flags.owndata",
            "x.base is None",
        )
    },
    forms=(2, 3, 1),
    variants=14,
)
idiom(
    "numbers.Real",
    """
import numbers

def f(x):
    values = [x] if isinstance(x, numbers.Real) else list(x)
    return sum($a * v**2 if isinstance(v, numbers.Number) else v for v in values)
""",
)
idiom(
    "float, item and tolist",
    """
def f(x):
    values = [$look for v in np.ravel(x)]
    return sum($a * v * v + math.sin(v) for v in values)
""",
    slots={"look": ("float(v)", "v.item()", "v.tolist()", "np.float64(v)", "v + 0.0", "float(v.item())")},
    variants=6,
)
idiom(
    "a float in a condition of its text",
    """
def f(x):
    sign = "-" if str(float(np.sum(x))).startswith("-") else "+"
    return {"+": $a, "-": $b}[sign] * np.sum(x**2) + np.sum(x)
""",
)
idiom(
    "int of a number as an index",
    """
table = $vec + [0.3, 0.7]

def f(x):
    i = int(abs($u) * 1.3)
    return table[i] * np.sum(x**2) + np.sum(x)

def change():
    table[0], table[1] = $e, $g
""",
    steady=False,
)
idiom(
    "round as an index",
    """
table = {0: $a, 1: $b, -1: $c, 2: 0.3, -2: 0.4}

def f(x):
    return table[round($u)] * np.sum(x**2) + np.sum(x)

def change():
    table.update({0: $e, 1: $g})
""",
    variants=3,
    steady=False,
)
idiom(
    "argmax and argsort",
    """
gains = np.array($vec + [1.1])

def f(x):
    values = np.append(x, 0.2)
    i = $index
    return gains[i] * values[i] ** 2 + np.sum(x**2)

def change():
    gains[:] = gains + 0.8
""",
    slots={
        "index": (
            "np.argmax(values)",
            "values.argmin()",
            "np.argsort(values)[0]",
            "int(np.argmax(np.abs(values)))",
            "values.tolist().index(max(values.tolist()))",
            "max(range(len(values)), key=values.__getitem__)",
        )
    },
    variants=6,
)
