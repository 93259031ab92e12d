"""Derive the polynomials of koubai.execute.vectormath: `python tests/reference/vectormath.py` prints its table.

Each row is the best polynomial P of its length (Remez' exchange in 60 digits) for target(z) on [low, high], where the
error weight(z)·(P(z) − target(z)) is the relative error of the function that is made of P. The coefficients are then
rounded to the format: they stand behind a leading term that is exact, so that their rounding does not count.
"""

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp

mp.mp.dps = 60
mpf = mp.mpf

HALF_LN2 = mp.log(2) / 2 * mpf("1.0001")
LOG_S = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * mpf("1.0001")  # s = f/(2 + f) where 1 + f = √2
QUARTER = mp.pi / 4 * mpf("1.0001")
ARCTAN = mp.tan(mpf("0.5")) * mpf("1.0001")


def taylor(z: mpf, first: int, term: Callable[[int], mpf]) -> mpf:
    total, power, k = mpf(0), mpf(1), first
    while True:
        step = term(k) * power
        total += step
        if abs(step) < mpf(10) ** -58:
            return total
        power *= z
        k += 1


def exp_rest(r: mpf) -> mpf:  # (e^r − 1 − r)/r²
    return taylor(r, 2, lambda k: 1 / mp.factorial(k))


def sin_rest(z: mpf) -> mpf:  # (sin(r)/r − 1)/z, z = r²
    return taylor(z, 1, lambda k: (-1) ** k / mp.factorial(2 * k + 1))


def cos_rest(z: mpf) -> mpf:  # (cos(r) − 1 + z/2)/z²
    return taylor(z, 2, lambda k: (-1) ** k / mp.factorial(2 * k))


def log_rest(first: int) -> Callable[[mpf], mpf]:  # log((1 + s)/(1 − s)) = Σ 2/(2k + 1)·s·z^k, z = s²
    return lambda z: taylor(z, first, lambda k: mpf(2) / (2 * k + 1))


def arctan_rest(z: mpf) -> mpf:  # (arctan(t)/t − 1)/z
    return taylor(z, 1, lambda k: mpf((-1) ** k) / (2 * k + 1))


def arctan_ratio(z: mpf) -> mpf:
    return 1 + z * arctan_rest(z)


def arcsin_rest(z: mpf) -> mpf:  # (arcsin(t)/t − 1)/z
    return taylor(z, 1, lambda k: mp.binomial(2 * k, k) / (mpf(4) ** k * (2 * k + 1)))


def inverse_cbrt(f: mpf) -> mpf:
    return 1 / mp.cbrt(1 + f)


# name: (target, low, high, weight)
TARGETS: dict[str, tuple[Callable[[mpf], mpf], mpf, mpf, Callable[[mpf], mpf]]] = {
    "exp": (exp_rest, -HALF_LN2, HALF_LN2, lambda r: HALF_LN2),  # relative to expm1(r) too
    "log": (log_rest(1), mpf(0), LOG_S**2, lambda z: z / 2),
    "log_pow": (log_rest(2), mpf(0), LOG_S**2, lambda z: z * z / 2),
    "sin": (sin_rest, mpf(0), QUARTER**2, lambda z: z / (1 + z * sin_rest(z))),
    "cos": (cos_rest, mpf(0), QUARTER**2, lambda z: z * z / mp.cos(mp.sqrt(z))),
    "arcsin": (arcsin_rest, mpf(0), mpf("0.25"), lambda z: z / (1 + z * arcsin_rest(z))),
    "inverse_cbrt": (inverse_cbrt, mp.sqrt(mpf("0.5")) - 1, mp.sqrt(2) - 1, lambda f: mp.cbrt(1 + f)),
    "arctan": (arctan_rest, mpf(0), ARCTAN**2, lambda z: z / arctan_ratio(z)),
}

# (name, format of the coefficients, how many); the short ones serve float32 results computed in float64
ROWS = [
    ("exp", "f64", 11),
    ("exp", "f32", 6),
    ("exp short", "f64", 7),
    ("log", "f64", 7),
    ("log", "f32", 3),
    ("log short", "f64", 4),
    ("log_pow", "f64", 8),
    ("sin", "f64", 6),
    ("sin short", "f64", 3),
    ("cos", "f64", 6),
    ("cos short", "f64", 3),
    ("arctan", "f64", 13),
    ("arctan", "f32", 6),
    ("arctan short", "f64", 6),
    ("arcsin", "f64", 13),
    ("arcsin", "f32", 5),
    ("inverse_cbrt", "f64", 5),
    ("inverse_cbrt short", "f64", 4),
]


def fit(target, low, high, weight, length: int) -> tuple[list[mpf], mpf]:
    """Return the coefficients of the best polynomial, lowest first, and its largest weighted error."""
    middle, half = (low + high) / 2, (high - low) / 2
    points = [middle - half * mp.cos(mp.pi * (2 * i + 1) / (2 * length + 2)) for i in range(length + 1)]
    grid = [middle - half * mp.cos(mp.pi * i / 600) for i in range(601)]
    wanted = [target(z) for z in grid]
    weights = [weight(z) for z in grid]
    for _ in range(12):
        system = mp.matrix(length + 1, length + 1)
        right = mp.matrix(length + 1, 1)
        for i, z in enumerate(points):
            w = weight(z) or mpf(10) ** -30
            for j in range(length):
                system[i, j] = z**j
            system[i, length] = (-1) ** i / w
            right[i] = target(z)
        solution = mp.lu_solve(system, right)
        coefficients = [solution[j] for j in range(length)]
        errors = [w * (polynomial(coefficients, z) - t) for z, t, w in zip(grid, wanted, weights, strict=True)]
        peaks: list[int] = []
        for i in range(len(grid)):
            if errors[i] == 0:
                continue
            if peaks and mp.sign(errors[peaks[-1]]) == mp.sign(errors[i]):
                if abs(errors[i]) > abs(errors[peaks[-1]]):
                    peaks[-1] = i
            else:
                peaks.append(i)
        while len(peaks) > length + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        if len(peaks) < length + 1:
            break
        points = [grid[i] for i in peaks]
    return coefficients, max(abs(e) for e in errors)


def polynomial(coefficients: Sequence[Any], z: mpf) -> mpf:
    """Return Σ cₖ zᵏ: mpmath's polyval takes the coefficients in another order from one release to the next."""
    return functools.reduce(lambda total, c: total * z + c, reversed(coefficients), mpf(0))


def rounded(x: mpf, kind: str) -> float:
    # float() of an mpf rounds to nearest; the way through double is harmless for a coefficient.
    return float(x) if kind == "f64" else struct.unpack("f", struct.pack("f", float(x)))[0]


def coefficients(name: str, kind: str, length: int) -> tuple[list[float], float]:
    """Return the rounded coefficients, lowest first, and the log2 of the largest weighted error they leave."""
    target, low, high, weight = TARGETS[name.removesuffix(" short")]
    values = [rounded(c, kind) for c in fit(target, low, high, weight, length)[0]]
    grid = [low + (high - low) * i / 500 for i in range(501)]
    worst = max(abs(weight(z) * (polynomial(values, z) - target(z))) for z in grid)
    return values, float(mp.log(worst, 2))


if __name__ == "__main__":
    for name, kind, length in ROWS:
        values, error = coefficients(name, kind, length)
        print(f'    ("{name}", "{kind}"): (  # 2^{error:.1f}')
        for value in values:
            print(f"        {value!r},")
        print("    ),")
