"""Idioms: SciPy, numba, C and threads inside f. Some of them no trace can follow; differences can."""

# ruff: noqa: E501  (a short program is read best on one line)

import importlib.util
import sys

from .writing import idiom


def called(name, imports, body, **options):
    options = {"expect": "differences", "tolerance": 1e-5, "variants": 1, **options}
    idiom(name, f"{imports}\n\ndef f(x):\n{body}\n", **options)


SCIPY = {
    "quad": ("from scipy.integrate import quad", "    return quad(lambda t: math.exp(-t * t * (1 + $u**2)), 0, 1)[0] * $a + np.sum(x**2)"),
    "solve_ivp": (
        "from scipy.integrate import solve_ivp",
        "    s = solve_ivp(lambda t, y: -(1 + $u**2) * y, (0, 1), [$a], rtol=1e-10, atol=1e-12)\n"
        "    return s.y[0, -1] + np.sum(x**2)",
    ),
    "odeint": (
        "from scipy.integrate import odeint",
        "    y = odeint(lambda y, t: -(1 + $u**2) * y, $a, [0.0, 1.0], rtol=1e-11, atol=1e-12)\n    return y[-1, 0] + np.sum(x**2)",
    ),
    "brentq": ("from scipy.optimize import brentq", "    return brentq(lambda t: t**3 + t - np.sum(x), -9, 9, xtol=1e-14) * $a + np.sum(x**2)"),
    "newton": ("from scipy.optimize import newton", "    return newton(lambda t: t**3 + t - np.sum(x), 0.5, tol=1e-14) * $a + np.sum(x**2)"),
    "fsolve": ("from scipy.optimize import fsolve", "    return float(fsolve(lambda t: t**3 + t - np.sum(x), 0.5, xtol=1e-13)[0]) * $a + np.sum(x**2)"),
    "minimize_scalar": (
        "from scipy.optimize import minimize_scalar",
        "    return minimize_scalar(lambda t: (t - np.sum(x)) ** 2 + $a * t**2).fun + np.sum(x**2)",
    ),
    "norm.logpdf": ("from scipy import stats", "    return -np.sum(stats.norm.logpdf(np.array($vec), np.sum(x), $a)) + np.sum(x**2)"),
    "norm.cdf": ("from scipy.stats import norm", "    return np.sum(norm.cdf(x)) * $a + np.sum(x**2)"),
    "multivariate normal": (
        "from scipy.stats import multivariate_normal",
        "    return -multivariate_normal.logpdf([0.1, $a], mean=[$u, $w], cov=np.eye(2)) + np.sum(x**2)",
    ),
    "CubicSpline": ("from scipy.interpolate import CubicSpline", "    return float(CubicSpline([0.0, 1.0, 2.0, 3.0], [$u, 1.0, $a, 0.5])(1.5)) ** 2 + np.sum(x**2)"),
    "scipy.linalg.solve": ("import scipy.linalg", "    A = np.array([[3.0 + $u**2, $a], [$a, 2.0]])\n    return scipy.linalg.solve(A, [1.0, $w]).sum() + np.sum(x**2)"),
    "cho_factor": ("from scipy.linalg import cho_factor, cho_solve", "    A = np.array([[3.0 + $u**2, $a], [$a, 2.0]])\n    return cho_solve(cho_factor(A), np.array([1.0, $w])).sum() + np.sum(x**2)"),
    "expm": ("from scipy.linalg import expm", "    return np.sum(expm(np.array([[0.0, $u], [-$a, 0.1]]))) + np.sum(x**2)"),
    "cdist": ("from scipy.spatial.distance import cdist", "    p = np.outer(np.append(x, 1.0), [1.0, $a])\n    return np.sum(cdist(p, p + 3.0)) + np.sum(x**2)"),
    "convolve": ("from scipy.signal import convolve", "    return np.sum(convolve(np.append(x, 1.0), [1.0, $a]) ** 2)"),
    "simpson": ("from scipy.integrate import simpson", "    t = np.linspace(0, 1, 11)\n    return simpson(np.exp(-t * np.sum(x)), x=t) + np.sum(x**2)"),
    "sparse": ("from scipy import sparse", "    A = sparse.csr_array(np.array([[2.0, $a], [0.0, 1.0]]))\n    return np.sum((A @ np.array([$u, $w])) ** 2)"),
}  # fmt: skip
for name, (imports, body) in SCIPY.items():
    called(f"scipy: {name}", imports, body)
for name in ("gammaln(x**2 + 1)", "erf(x)", "expit(x)", "logsumexp(x)", "xlogy(x**2 + 1, x**2 + 1)"):
    idiom(
        f"scipy.special: {name}",
        f"from scipy import special\n\ndef f(x):\n    return $a * np.sum(special.{name}) + np.sum(x**2)\n",
        variants=2,
    )

if importlib.util.find_spec("numba"):  # where it is installed
    called(
        "numba",
        "import numba\n\n@numba.njit\ndef g(v):\n    return v * v + math.sin(v)",
        "    return $a * g(float(np.sum(x))) + np.sum(x**2)",
    )
    called(
        "numba over arrays",
        "import numba\n\n@numba.njit\ndef g(v):\n    return np.sum(v * v)",
        "    return $a * g(x) + np.sum(x)",
        forms=(2, 3),
    )

if sys.platform != "win32":
    called(
        "ctypes",
        "import ctypes\nimport ctypes.util\n\nlibm = ctypes.CDLL(ctypes.util.find_library('m') or None)\nlibm.cosh.restype = ctypes.c_double\nlibm.cosh.argtypes = [ctypes.c_double]",
        "    return $a * libm.cosh(float($u)) + np.sum(x**2)",
    )
called(
    "ctypes, an array",
    "import ctypes",
    "    block = (ctypes.c_double * 3)(*np.ravel(x))\n    return $a * sum(v * v for v in block) + np.sum(x)",
)
called(
    "a number of ctypes", "import ctypes", "    return $a * ctypes.c_double(float(np.sum(x))).value ** 2 + np.sum(x**2)"
)
called(
    "decimal arithmetic",
    "from decimal import Decimal",
    "    s = Decimal(float(np.sum(x)))\n    return float(s * s * Decimal('$a') + s) + np.sum(x**2)",
)
called(
    "fraction arithmetic",
    "from fractions import Fraction",
    "    s = Fraction(float(np.sum(x)))\n    return float(s * s * Fraction(3, 4) + s) + np.sum(x**2)",
)
called(
    "an array.array in f",
    "from array import array",
    "    v = array('d', np.ravel(x))\n    v.append($a)\n    return sum(t * t for t in v) + np.sum(x)",
)
called(
    "a database in f",
    "import sqlite3",
    "    with sqlite3.connect(':memory:') as db:\n        s = db.execute('select ? * ?', (float(np.sum(x)), $a)).fetchone()[0]\n    db.close()\n    return s**2 + np.sum(x**2)",
)
idiom(
    "threads",
    """
from concurrent.futures import ThreadPoolExecutor

gains = [$a, $b]

def part(gain, s):
    return gain * np.sin(s) + s**2

def f(x):
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(part, gains, [np.sum(x), np.sum(x**2)]))

def change():
    gains[0] = $e
""",
)
idiom(
    "futures",
    """
from concurrent.futures import ThreadPoolExecutor, as_completed

def f(x):
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(lambda v=v: $a * v**2 + v) for v in np.ravel(x)]
        return sum(job.result() for job in jobs)
""",
)
idiom(
    "a thread that writes",
    """
import threading

def f(x):
    out = [None]

    def work():
        out[0] = $a * np.sum(x**2)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return out[0] + np.sum(x)
""",
)
idiom(
    "asyncio",
    """
import asyncio

async def part(v):
    await asyncio.sleep(0)
    return $a * v**2 + v

async def whole(values):
    return sum(await asyncio.gather(*(part(v) for v in values)))

def f(x):
    return asyncio.run(whole(np.ravel(x))) + np.sum(x)
""",
    variants=2,
)
idiom(
    "a context variable in f",
    """
import contextvars

depth = contextvars.ContextVar("depth", default=$a)

def inner(s):
    return depth.get() * s

def f(x):
    token = depth.set(np.sum(x))
    try:
        return inner(np.sum(x)) + np.sum(x**2)
    finally:
        depth.reset(token)
""",
)
idiom(
    "heapq and bisect",
    """
import bisect
import heapq

def f(x):
    heap = np.append(x, [$a, 0.3]).tolist()
    heapq.heapify(heap)
    low = heapq.heappop(heap)
    ordered = sorted(heap)
    bisect.insort(ordered, 0.5)
    return low**2 + ordered[-1] * $b + heapq.nlargest(1, heap)[0] + np.sum(x**2)
""",
    steady=False,
)
idiom(
    "random.choice with a seed",
    """
import random

def f(x):
    rng = random.Random(1)
    values = np.append(x, 0.4).tolist()
    rng.shuffle(values)
    return $a * values[0] ** 2 + rng.choice(values) + rng.uniform(0, 1) * np.sum(x**2)
""",
)
idiom(
    "permutations of a generator",
    """
def f(x):
    rng = np.random.default_rng(2)
    values = rng.permutation(np.append(x, 0.4))
    return $a * values[0] ** 2 + rng.choice(values) + np.sum(x**2) + np.sum(rng.normal(values))
""",
)
