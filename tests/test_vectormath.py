"""Vector math against mpmath, over the whole range: every function, format and width, with and without fused
multiply-add.
"""

import ctypes
import functools
import re

import mpmath as mp
import numpy as np
import pytest
from reference import vectormath as reference

from koubai.execute import library, vectormath

pytestmark = pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")

WIDTHS = (1, 4, 8, 16, 32)
FORMATS = {"f64": ("double", np.float64, np.uint64), "f32": ("float", np.float32, np.uint32)}
FMA = [
    pytest.param(
        True, id="fused", marks=pytest.mark.skipif(not library.has_fma(), reason="the CPU would not fuse in hardware")
    ),
    pytest.param(False, id="not fused"),
]
POINTS = 2400
MAX_ULP = 2.0


# -- from text to calls -----------------------------------------------------------------------------------------------


@functools.cache
def compiled(name, dtype, width, fma):
    """Compile a function; return the engine, which owns the code."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    number = FORMATS[dtype][0]
    of = number if width == 1 else f"<{width} x {number}>"
    size = np.dtype(FORMATS[dtype][1]).itemsize
    text = vectormath.definitions([(name, dtype, width)], fma=fma)
    arguments = vectormath.FUNCTIONS[name]
    pointers = ", ".join(f"ptr %p{k}" for k in range(arguments))
    loads = "\n".join(
        f"  %q{k} = getelementptr {number}, ptr %p{k}, i64 %i\n  %x{k} = load {of}, ptr %q{k}, align {size}"
        for k in range(arguments)
    )
    given = ", ".join(f"{of} %x{k}" for k in range(arguments))
    text += f"""
define void @"{name}"({pointers}, ptr %y, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{loads}
  %r = call {of} @"{vectormath.symbol(name, dtype, width)}"({given})
  %to = getelementptr {number}, ptr %y, i64 %i
  store {of} %r, ptr %to, align {size}
  %next = add i64 %i, {width}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""
    module = llvm.parse_assembly(text)
    module.verify()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=2)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


def run(name, dtype, width, fma, *arrays):
    """Compute a function of arrays of any length: what is missing to full vectors is filled up with ones."""
    kind = FORMATS[dtype][1]
    n = len(arrays[0])
    padded = [np.append(np.asarray(a, kind), np.ones(-n % width, kind)) for a in arrays]
    y = np.empty(len(padded[0]), kind)
    address = compiled(name, dtype, width, fma).get_function_address(name)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(arrays) + 1), ctypes.c_int64)(address)
    call(*(a.ctypes.data for a in padded), y.ctypes.data, len(y))
    return y[:n]


# -- where to look ----------------------------------------------------------------------------------------------------


def spread(dtype, rng, n):
    """Return numbers of every magnitude, denormal ones too: the bits are random."""
    _, kind, bits = FORMATS[dtype]
    x = rng.integers(0, np.iinfo(bits).max, n, dtype=bits, endpoint=True).view(kind)
    return x[np.isfinite(x)]


def around(values, dtype, rng):
    """Return values, rounded, and their neighbours up to three away."""
    kind = FORMATS[dtype][1]
    x = np.asarray(values, kind)
    for _ in range(3):
        x = np.where(rng.random(len(x)) < 0.5, x, np.nextafter(x, kind(rng.choice([-np.inf, np.inf]))))
    return x


def magnitudes(rng, low, high, n):
    return rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(low, high, n)


def near_quarter_turns(dtype, rng, n):
    """Return the numbers next to multiples of π/2, small and huge."""
    with mp.workprec(1400):
        top = 1000 if dtype == "f64" else 120
        turns = [int(2 ** rng.uniform(0, 12)) for _ in range(n // 2)]
        turns += [int(mp.mpf(2) ** int(rng.integers(12, top)) * (1 + rng.random())) for _ in range(n - n // 2)]
        return around([float(k * mp.pi / 2) for k in turns], dtype, rng)


def points(name, dtype, rng):
    """Return the arguments to try, an array each."""
    kind = FORMATS[dtype][1]
    limits = np.finfo(kind)
    top = float(np.log(limits.max))
    bottom = float(np.log(limits.smallest_subnormal))
    if vectormath.FUNCTIONS[name] == 2:
        x, y = pairs(name, dtype, rng, top, bottom)
        n = min(len(x), len(y))
        return np.asarray(x[:n], kind), np.asarray(y[:n], kind)
    parts = [
        spread(dtype, rng, 500),
        rng.uniform(-3.0, 3.0, 500),
        magnitudes(rng, -9, 3, 400),
        rng.uniform(bottom - 2, top + 2, 400),
        1.0 + magnitudes(rng, -8, -1, 200),
        1.0 + magnitudes(rng, -3, 2, 300),
        rng.uniform(-1.0, 1.0, 300),
        around(np.repeat([-1.0, 1.0], 40), dtype, rng),
        around(np.repeat([top, -top, bottom, 0.5, 1.0, -1.0, np.log(2) / 2, 22.0, 40.0], 10), dtype, rng),
        rng.uniform(0, 30, 200) * limits.smallest_subnormal,
        near_quarter_turns(dtype, rng, 250),
        np.array([6381956970095103 * 2.0**797]) if dtype == "f64" else np.array([16367173 * 2.0**72]),  # worst of all
    ]
    with np.errstate(over="ignore"):
        return (np.concatenate([np.asarray(p, kind) for p in parts]),)


def pairs(name, dtype, rng, top, bottom):
    if name == "power":
        x = np.concatenate(
            [
                spread(dtype, rng, 500),
                np.abs(spread(dtype, rng, 600)),
                rng.uniform(0.0, 4.0, 600),
                1.0 + magnitudes(rng, -15 if dtype == "f64" else -6, -0.5, 600),
                rng.uniform(-9.0, 9.0, 300),
            ]
        )
        y = magnitudes(rng, -10, 3, len(x))
        wanted = rng.uniform(bottom - 1, top + 1, len(x))  # the logarithm of the result
        with np.errstate(all="ignore"):
            y = np.where(rng.random(len(x)) < 0.6, wanted / np.log(np.abs(x)), y)
        y = np.where(np.isfinite(y), y, 1.5)
        y = np.where((x < 0) & (rng.random(len(x)) < 0.9), np.rint(np.clip(y, -1e15, 1e15)), y)
        return x, y
    n = POINTS // 4
    x = np.concatenate(
        [spread(dtype, rng, n), rng.uniform(-5, 5, n), magnitudes(rng, -5, 2, n), np.zeros(n), rng.normal(0, 9, n)]
    )
    y = np.concatenate(
        [spread(dtype, rng, n), rng.uniform(-5, 5, n), magnitudes(rng, -5, 2, n), rng.uniform(bottom, 9, n)]
    )
    return x, np.append(y, x[len(y) :] + magnitudes(rng, -4, 1.3, len(x) - len(y)))


# -- what is right ----------------------------------------------------------------------------------------------------


def exact_power(x, y):
    if x < 0 and y != mp.floor(y):
        return mp.nan
    size = y * mp.log(abs(x))
    if size > 800 or size < -800:
        size = mp.sign(size) * 800
    sign = -1 if x < 0 and y % 2 == 1 else 1
    return sign * mp.exp(size)


def exact_logaddexp(a, b):
    low, high = sorted((a, b))
    return high + mp.log1p(mp.exp(max(low - high, -2000)))


def exact_logaddexp2(a, b):
    low, high = sorted((a, b))
    return high + mp.log1p(mp.mpf(2) ** max(low - high, -2000)) / mp.log(2)


def exact_at_the_end(x, end):
    return -mp.inf if x == end else mp.nan


EXACT = {
    "exp": lambda x: mp.exp(min(max(x, -800), 800)),
    "expm1": lambda x: mp.expm1(min(max(x, -800), 800)),
    "log": lambda x: mp.log(x) if x > 0 else exact_at_the_end(x, 0),
    "log1p": lambda x: mp.log1p(x) if x > -1 else exact_at_the_end(x, -1),
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "tanh": lambda x: mp.tanh(x) if abs(x) < 60 else mp.sign(x),
    "sqrt": lambda x: mp.sqrt(x) if x >= 0 else mp.nan,
    "arctan": mp.atan,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)) if x > -800 else mp.mpf(0),
    "power": exact_power,
    "exp2": lambda x: mp.mpf(2) ** min(max(x, -1200), 1200),
    "log2": lambda x: mp.log(x) / mp.log(2) if x > 0 else exact_at_the_end(x, 0),
    "log10": lambda x: mp.log(x) / mp.log(10) if x > 0 else exact_at_the_end(x, 0),
    "sinh": lambda x: mp.sinh(min(max(x, -800), 800)),
    "cosh": lambda x: mp.cosh(min(max(x, -800), 800)),
    "arcsin": lambda x: mp.asin(x) if abs(x) <= 1 else mp.nan,
    "arccos": lambda x: mp.acos(x) if abs(x) <= 1 else mp.nan,
    "arctan2": lambda y, x: mp.atan2(y, x),
    "arcsinh": mp.asinh,
    "arccosh": lambda x: mp.acosh(x) if x >= 1 else mp.nan,
    "arctanh": lambda x: mp.atanh(x) if abs(x) < 1 else mp.mpf(x) * mp.inf if abs(x) == 1 else mp.nan,
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "hypot": mp.hypot,
    "logaddexp2": exact_logaddexp2,
    "logaddexp": exact_logaddexp,
}


@functools.cache
def exact(name, dtype):
    """Return the arguments, and the exact results in ulp: the nearest integer, what is left, and the ulp."""
    arguments = points(name, dtype, np.random.default_rng(len(name)))
    kind = FORMATS[dtype][1]
    limits = np.finfo(kind)
    rounded = np.empty(len(arguments[0]))
    rest = np.empty(len(arguments[0]))
    unit = np.empty(len(arguments[0]))
    for i, values in enumerate(zip(*(a.tolist() for a in arguments), strict=True)):
        # A sine far out needs all the digits of its argument, a sum that cancels those of its terms.
        far = name in ("sin", "cos", "tan") and abs(values[0]) > 1e9
        with mp.workprec(1300 if far else 240):
            value = EXACT[name](*(mp.mpf(v) for v in values))
            if mp.isnan(value):
                rounded[i], rest[i], unit[i] = np.nan, 0.0, 1.0
                continue
            out_of_range = mp.mpf(2) ** limits.maxexp
            value = max(min(value, out_of_range), -out_of_range)
            exponent = limits.minexp if value == 0 else max(mp.frexp(value)[1] - 1, limits.minexp)
            unit[i] = np.ldexp(1.0, min(exponent, limits.maxexp - 1) - limits.nmant)
            whole = mp.nint(value / unit[i])  # an integer, 2^54 at most
            rounded[i], rest[i] = float(whole), float(value / unit[i] - whole)
    return arguments, rounded, rest, unit


def ulps(y, dtype, rounded, rest, unit):
    """Return the errors in ulp of the exact results. An infinite result stands for the first number out of range."""
    limits = np.finfo(FORMATS[dtype][1])
    units = np.where(np.isinf(y), np.copysign(2.0 ** (limits.nmant + 1), y), y.astype(float) / unit)
    wrong = np.where(np.isnan(rounded) == np.isnan(y), np.abs(units - rounded - rest), np.inf)
    return np.where(np.isnan(rounded) & np.isnan(y), 0.0, wrong)


# -- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(17)
@pytest.mark.parametrize("fma", FMA)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", vectormath.FUNCTIONS)
def test_within_2_ulp_of_the_exact_result(name, dtype, fma):
    arguments, rounded, rest, unit = exact(name, dtype)
    assert len(rounded) >= 2000
    y = run(name, dtype, 8, fma, *arguments)
    if name in ("logaddexp", "logaddexp2"):  # where its terms cancel, ulp of the greater one
        greater = np.spacing(np.max(np.abs(arguments), axis=0)).astype(float) * (np.max(arguments, axis=0) < 0)
        unit_of_terms = np.maximum(unit, greater)
        errors = ulps(y, dtype, rounded, rest, unit) * unit / unit_of_terms
    else:
        errors = ulps(y, dtype, rounded, rest, unit)
    worst = int(np.argmax(errors))
    assert errors[worst] <= MAX_ULP, f"{name}{tuple(a[worst] for a in arguments)} = {y[worst]}: {errors[worst]:.3g} ulp"


@pytest.mark.sampled(17)
@pytest.mark.parametrize("fma", FMA)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", vectormath.FUNCTIONS)
def test_a_lane_has_the_bits_of_the_number_alone(name, dtype, fma):
    bits = FORMATS[dtype][2]
    rng = np.random.default_rng(7)
    arguments = points(name, dtype, rng)
    order = rng.permutation(len(arguments[0]))  # near and far, zero and huge in one vector
    ends = [np.array([0.0, -0.0, np.inf, -np.inf, 1.0, np.inf, 5e-324]), np.array([np.inf, 3.0, -1, 0.5, 2, -0.0, 1])]
    with np.errstate(under="ignore"):
        arguments = [np.append(a[order], e.astype(a.dtype)) for a, e in zip(arguments, ends, strict=False)]
    alone = run(name, dtype, 1, fma, *arguments)
    for width in WIDTHS[1:]:
        together = run(name, dtype, width, fma, *arguments)
        number = ~np.isnan(alone)
        np.testing.assert_array_equal(np.isnan(together), ~number)
        np.testing.assert_array_equal(together[number].view(bits), alone[number].view(bits))


@pytest.mark.parametrize("width", [2, 64])
def test_other_widths_work_too(width):
    (x,) = points("sin", "f64", np.random.default_rng(3))
    for name in ("exp", "sin", "log"):
        alone, together = (run(name, "f64", w, False, x) for w in (1, width))
        np.testing.assert_array_equal(together, alone)


def special_values(dtype):
    limits = np.finfo(FORMATS[dtype][1])
    sizes = [0.0, np.inf, 1.0, 0.5, 2.0, 3.0, 1e-30, 1e30, limits.max, limits.tiny, limits.smallest_subnormal]
    return np.array([*sizes, *(-s for s in sizes), np.nan], FORMATS[dtype][1])


def in_numpy(name, *arguments):
    if name == "sigmoid":
        return 1 / (1 + np.exp(-arguments[0]))
    return getattr(np, name)(*arguments)


@pytest.mark.parametrize("fma", FMA)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", vectormath.FUNCTIONS)
def test_ends_of_the_range_are_numpys(name, dtype, fma):
    x, limits = special_values(dtype), np.finfo(FORMATS[dtype][1])
    arguments = [x] if vectormath.FUNCTIONS[name] == 1 else [a.ravel() for a in np.meshgrid(x, x)]
    with np.errstate(all="ignore"):
        expected = in_numpy(name, *arguments)
    for width in (1, 8):
        y = run(name, dtype, width, fma, *arguments)
        for i, (a, b) in enumerate(zip(y, expected, strict=True)):
            what = f"{name}{tuple(v[i] for v in arguments)} = {a}, NumPy's {b}"
            if np.isfinite(b) and b != 0:
                close = 4 * (limits.eps * abs(float(b)) + limits.smallest_subnormal)  # either may be 2 ulp off
                assert abs(float(a) - float(b)) <= close, what
            else:
                assert np.array_equal(a, b, equal_nan=True), what
            if b == b:
                assert np.signbit(a) == np.signbit(b), what


@pytest.mark.parametrize("fma", [True, False])
def test_the_text_is_strict_and_calls_nothing_from_outside(fma):
    wanted = [(name, dtype, 8) for name in vectormath.FUNCTIONS for dtype in FORMATS]
    text = vectormath.definitions(wanted, fma=fma)
    assert not re.search(r"\b(fast|reassoc|contract|afn|arcp|nnan|ninf|nsz)\b", text)
    defined = re.findall(r"^define internal .* @\"?([\w.]+)\"?\(", text, re.M)
    declared = re.findall(r"^declare .* @([\w.]+)\(", text, re.M)
    assert len(set(defined)) == len(defined)
    assert len(set(declared)) == len(declared)
    assert {vectormath.symbol(*w) for w in wanted} <= set(defined)
    assert all(name.startswith("llvm.") for name in declared)
    assert set(re.findall(r"call .*?@\"?([\w.]+)\"?\(", text)) <= {*defined, *declared}
    assert ("llvm.fma" in text) == fma


def test_a_function_asked_for_twice_stands_once():
    once = vectormath.definitions([("sin", "f64", 8), ("cos", "f64", 1)], fma=True)
    assert vectormath.definitions([("sin", "f64", 8), ("cos", "f64", 1), ("sin", "f64", 8)], fma=True) == once
    assert once.count("define internal void @kb.turns(") == 1
    assert vectormath.definitions([], fma=True) == "\n"


@pytest.mark.slow
def test_the_polynomials_are_those_of_the_script():
    rows = {(name.removesuffix(" short"), "short" if " short" in name else kind): n for name, kind, n in reference.ROWS}
    assert {key: len(values) for key, values in vectormath.POLYNOMIALS.items()} == rows
    for name, kind, length in (("exp", "f32", 6), ("log", "f32", 3), ("sin", "f64", 6)):
        values, error = reference.coefficients(name, kind, length)
        np.testing.assert_allclose(vectormath.POLYNOMIALS[name, kind], values, rtol=1e-9)
        assert error < (-28 if kind == "f32" else -54)
