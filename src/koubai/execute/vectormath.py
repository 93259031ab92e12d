"""exp, log, sin, pow and their kin as LLVM IR: straight-line arithmetic that works on a number or on a whole vector.

Every function works like this: the argument is reduced to a small interval, a polynomial is evaluated there, and the
reduction is undone. The text is generated once from one body for every format and width, without branches, so that a
lane of a vector has the same bits as the number alone. There are no fast-math flags. What LLVM has no vector operation
for (a sine far out) is computed lane by lane in a branch that other arguments never take.

Methods: Cody and Waite, "Software Manual for the Elementary Functions", Prentice-Hall 1980 (arguments reduced with a
constant in two or three parts); Payne and Hanek, "Radian reduction for trigonometric functions", SIGNUM 1983; Dekker,
"A floating-point technique for extending the available precision", Numer. Math. 1971 (exact sums and products);
Muller, "Elementary Functions: Algorithms and Implementation", Birkhäuser 2016. The polynomials are minimax, found by
Remez' exchange: tests/reference/vectormath.py.

Every result is within 2 ulp of the exact one; where the two terms of logaddexp cancel, 2 ulp of the greater. Zeros
keep their signs, infinities and NaN are NumPy's.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from koubai.execute.ir import Argument, Function, Operand, Value, of_type

__all__ = ["FUNCTIONS", "definitions", "symbol"]

# Coefficients, lowest first, by function and format. "short" ones serve a float32 result that is computed in float64.
POLYNOMIALS: dict[tuple[str, str], tuple[float, ...]] = {
    ("exp", "f64"): (  # 2^-60.0
        0.5,
        0.1666666666666667,
        0.041666666666666685,
        0.008333333333326134,
        0.0013888888888874394,
        0.0001984126987482211,
        2.48015873473438e-05,
        2.7557255398566312e-06,
        2.755725291135471e-07,
        2.510521761002638e-08,
        2.0921589006149914e-09,
    ),
    ("exp", "f32"): (  # 2^-29.5
        0.5,
        0.1666666716337204,
        0.04166646674275398,
        0.00833328627049923,
        0.0013933652080595493,
        0.0001990758755709976,
    ),
    ("exp", "short"): (  # 2^-36.7
        0.499999999999102,
        0.16666666719037806,
        0.04166666685360094,
        0.008333298466760765,
        0.0013888824157248646,
        0.0001989928763323838,
        2.487617146079738e-05,
    ),
    ("log", "f64"): (  # 2^-58.8
        0.6666666666666734,
        0.39999999999413977,
        0.2857142874255989,
        0.22222198553931347,
        0.18183565402874022,
        0.1531402117019004,
        0.1479626111402704,
    ),
    ("log", "f32"): (  # 2^-30.1
        0.6666677594184875,
        0.39977532625198364,
        0.29871997237205505,
    ),
    ("log", "short"): (  # 2^-37.6
        0.6666666564461049,
        0.40000335398748893,
        0.2853729438693192,
        0.23582436657882624,
    ),
    ("log_pow", "f64"): (  # 2^-66.3
        0.3999999999999998,
        0.28571428571445123,
        0.22222222217533555,
        0.18181818870672556,
        0.15384556846501232,
        0.13336318364881616,
        0.11674799238190096,
        0.11989174187395908,
    ),
    ("sin", "f64"): (  # 2^-56.4
        -0.1666666666666663,
        0.008333333333322108,
        -0.00019841269829580329,
        2.7557313618060165e-06,
        -2.5050747223405e-08,
        1.5896197873538838e-10,
    ),
    ("sin", "short"): (  # 2^-28.0
        -0.1666665460230768,
        0.008332160293851192,
        -0.0001951521833004763,
    ),
    ("cos", "f64"): (  # 2^-59.6
        0.041666666666666595,
        -0.001388888888887304,
        2.4801587288841367e-05,
        -2.7557314176233885e-07,
        2.087570041558388e-09,
        -1.1358513938598842e-11,
    ),
    ("cos", "short"): (  # 2^-33.0
        0.041666645669997775,
        -0.0013887315609601252,
        2.4433081969478173e-05,
    ),
    ("arctan", "f64"): (  # 2^-56.8
        -0.3333333333333317,
        0.19999999999956916,
        -0.14285714281666723,
        0.11111110919132271,
        -0.09090903703029247,
        0.07692210107410766,
        -0.06665465496739917,
        0.058719892212234996,
        -0.05199427894642153,
        0.04481052731100299,
        -0.03464237043388462,
        0.020361183869949142,
        -0.006427265955553067,
    ),
    ("arctan", "f32"): (  # 2^-28.2
        -0.33333316445350647,
        0.19998909533023834,
        -0.14261147379875183,
        0.10852135717868805,
        -0.07658805698156357,
        0.034319814294576645,
    ),
    ("arctan", "short"): (  # 2^-30.3
        -0.3333331703881394,
        0.19998908938004767,
        -0.1426114744581249,
        0.10852136007275451,
        -0.07658805489029434,
        0.03431981565645531,
    ),
    ("arcsin", "f64"): (  # 2^-59.3
        0.1666666666666676,
        0.07499999999970797,
        0.04464285717461489,
        0.030381942707661452,
        0.02237221499054459,
        0.017351611969872737,
        0.013980820989888416,
        0.011398909136337428,
        0.01078026784116376,
        0.0037063583325487,
        0.021707557502959756,
        -0.020999204929682245,
        0.03262870578289438,
    ),
    ("arcsin", "f32"): (  # 2^-27.3
        0.16666752099990845,
        0.07495297491550446,
        0.04547037184238434,
        0.024179531261324883,
        0.04216628894209862,
    ),
    ("inverse_cbrt", "f64"): (  # 2^-14.7
        0.9999765855734557,
        -0.3329015926455431,
        0.22436269498975786,
        -0.18890896046628575,
        0.12836929602455222,
    ),
    ("inverse_cbrt", "short"): (  # 2^-11.9
        0.9997786329515049,
        -0.3346699794937532,
        0.23772129727164026,
        -0.15853966621368548,
    ),
}


@dataclass(frozen=True)
class _Format:
    """A binary floating-point format, and the integers that have its size."""

    kind: str
    floats: str
    ints: str
    mantissa: int
    bias: int

    @property
    def smallest(self) -> float:
        """The smallest number that is not denormal."""
        return math.ldexp(1.0, 1 - self.bias)

    @property
    def magic(self) -> float:
        """Added to a number far below it, this leaves the nearest integer in the lowest bits of the sum."""
        return math.ldexp(1.5, self.mantissa)


_FORMATS = {"f64": _Format("f64", "double", "i64", 52, 1023), "f32": _Format("f32", "float", "i32", 23, 127)}
_SHORT = _Format("short", "double", "i64", 52, 1023)  # float64 arithmetic for a float32 result


class _Code(Function):
    """One function, all of whose values have ``width`` lanes. ``fma``: the processor multiplies and adds in one
    rounding.
    """

    def __init__(
        self, head: tuple[str, str, Sequence[Argument]], form: _Format, width: int, fma: bool, attributes: str
    ) -> None:
        super().__init__(*head, apart=False, internal=True, attributes=attributes)
        self.form, self.width, self.fma = form, width, fma
        self.helpers: set[str] = set()

    def constant(self, value: float, kind: str = "") -> Value:
        return self.splat(super().constant(value, kind or self.form.floats), self.width)

    def fused(self, a: Operand, b: Value, c: Operand) -> Value:
        """a·b + c, rounded once if the processor can, else twice."""
        a = b.like(a)
        return self.intrinsic("fma", a, b, b.like(c)) if self.fma else a * b + c

    def residual(self, n: Value, part: float, x: Value) -> Value:
        """x − n·part, rounded once if the processor can; else n·part must be exact."""
        return self.fused(-n, self.constant(part), x) if self.fma else x - n * part

    def sum(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a + b and its rounding error, exactly (Dekker); |a| ≥ |b| or a = 0."""
        total = a + b
        return total, b - (total - a)

    def any_sum(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a + b and its rounding error, exactly (Knuth), whichever is greater."""
        total = a + b
        other = total - a
        return total, (a - (total - other)) + (b - other)

    def product(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a·b and its rounding error, exactly (Dekker)."""
        product = a * b
        if self.fma:
            return product, self.fused(a, b, -product)
        a_high, a_low = self.halves(a)
        b_high, b_low = self.halves(b)
        return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low

    def halves(self, a: Value) -> tuple[Value, Value]:
        """Two numbers of half as many bits that make ``a`` (Veltkamp)."""
        scaled = a * (math.ldexp(1.0, (self.form.mantissa + 2) // 2) + 1.0)
        high = scaled - (scaled - a)
        return high, a - high

    def quotient(self, n: Value, n_low: Value | None, d: Value, d_low: Value) -> tuple[Value, Value]:
        """(n + n_low)/(d + d_low) in two parts."""
        inverse = 1.0 / d
        q = n * inverse
        if self.fma:
            rest = self.fused(-q, d, n)
        else:
            product, error = self.product(q, d)
            rest = (n - product) - error
        rest = self.fused(-q, d_low, rest)
        return q, (rest if n_low is None else rest + n_low) * inverse

    def polynomial(self, z: Value, name: str) -> Value:
        """Σ c_k·z^k: even and odd powers side by side, so that the chain of operations is half as long."""
        coefficients = POLYNOMIALS[name, self.form.kind]
        if len(coefficients) <= 3:
            return self._horner(z, coefficients)
        square = z * z
        return self.fused(self._horner(square, coefficients[1::2]), z, self._horner(square, coefficients[::2]))

    def _horner(self, z: Value, coefficients: tuple[float, ...]) -> Value:
        total: Operand = coefficients[-1]
        for c in coefficients[-2::-1]:
            total = self.fused(total, z, c)
        return z.like(total)

    def round(self, x: Value) -> tuple[Value, Value]:
        """The nearest integer as a number, and as the lowest bits of an integer."""
        shifted = x + self.form.magic
        return shifted - self.form.magic, shifted.bits()


# -- the list ---------------------------------------------------------------------------------------------------------

_Body: TypeAlias = Callable[..., Value]
_BODIES: dict[str, tuple[_Body, int, bool]] = {}


def _function(name: str, arguments: int = 1, *, in_double: bool = False) -> Callable[[_Body], _Body]:
    """Add a function to the list. in_double: its float32 form computes in float64."""

    def register(body: _Body) -> _Body:
        _BODIES[name] = (body, arguments, in_double)
        return body

    return register


def symbol(name: str, dtype: str, width: int) -> str:
    """Return the name of a function's IR, without the @: ``symbol("exp", "f64", 8)`` is kb.exp.f64x8."""
    return f"kb.{name}.{dtype}x{width}"


def definitions(needed: Iterable[tuple[str, str, int]], *, fma: bool, inlined: bool = False) -> str:
    """Return the IR text of functions, each given as (name, "f64" or "f32", width), with what they call.

    The functions are internal; a `declare` is on a line of its own. fma: the processor has fused multiply-add.
    inlined: whether they become part of what calls them.
    """
    texts: dict[str, None] = {}
    helpers: set[str] = set()
    declared: set[str] = set()
    for name, dtype, width in dict.fromkeys(needed):
        text, called, declarations = _definition(name, dtype, width, fma, inlined)
        texts[text] = None
        helpers |= called
        declared |= declarations
    for helper in sorted(helpers):
        text, declarations = _HELPERS[helper](fma)
        texts[text] = None
        declared |= declarations
    return "\n".join([*sorted(declared), *texts]) + "\n"


@lru_cache(maxsize=512)
def _definition(
    name: str, dtype: str, width: int, fma: bool, inlined: bool
) -> tuple[str, frozenset[str], frozenset[str]]:
    """Return (its text, the helpers it calls, what it declares)."""
    body, count, in_double = _BODIES[name]
    kind = _FORMATS[dtype].floats
    short = in_double and dtype == "f32"
    arguments: list[Argument] = [(kind, f"x{i}", width) for i in range(count)]
    result, form = of_type(kind, width), _SHORT if short else _FORMATS[dtype]
    attributes = "nounwind alwaysinline " if inlined else "nounwind "
    code = _Code((f'"{symbol(name, dtype, width)}"', result, arguments), form, width, fma, attributes)
    code.ret(body(code, *(x.to("fpext", form.floats) for x in code.arguments)).to("fptrunc", kind))
    return code.text(), frozenset(code.helpers), frozenset(code.declared)


# -- constants in parts -----------------------------------------------------------------------------------------------


def _parts(x: int, scale: int, *bits: int) -> tuple[float, ...]:
    """Return x/2^scale as a sum of numbers of so many bits each, greatest first."""
    parts = []
    for size in bits:
        shift = abs(x).bit_length() - size
        top = (x + (1 << (shift - 1))) >> shift
        parts.append(math.ldexp(top, shift - scale))
        x -= top << shift
    return tuple(parts)


# The binary digits of ln 2 (192 of them), and those of 2/π (1216, as many as the greatest number needs).
_LN2 = 0xB17217F7D1CF79ABC9E3B39803F2F6AF40F343267298B62D
_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921c"
    "fe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d08"
    "56033046fc7b6bab",
    16,
)
_HALF_PI = (1 << (1216 + 320)) // _TWO_OVER_PI  # π/2·2^320

_LOGARITHMS = {2: _LN2, 10: 0x24D763776AAA2B05BA95B58AE0B4C28A38A3FB3E76977E43A}  # times 2^192

# The first part times an exponent is exact.
LN2 = {"f64": _parts(_LN2, 192, 42, 53), "f32": _parts(_LN2, 192, 15, 24)}
LN2["short"] = LN2["f64"]


# -- powers of e ------------------------------------------------------------------------------------------------------


def _power_parts(c: _Code, x: Value, low: Value | None = None) -> tuple[Value, Value, Value]:
    """Return (r, w, m): e^(x + low) = 2^n·(1 + (r + w)), |r| ≤ ln 2/2; the lowest bits of m hold n + 2·bias."""
    form = c.form
    offset = form.magic + 2 * form.bias
    shifted = c.fused(x, c.constant(1 / math.log(2)), offset)
    n = shifted - offset
    r = x
    for part in LN2[form.kind]:
        r = c.residual(n, part, r)
    if low is not None:
        r = r + low
    return r, (r * r) * c.polynomial(r, "exp"), shifted.bits()


def _power_of_two(c: _Code, m: Value, less: int = 0) -> Value:
    """2^(n − less), which must be within the format's range, from the bits of n + 2·bias."""
    return ((m - (c.form.bias + less)) << c.form.mantissa).floats()


def _scaled(c: _Code, m: Value, *numbers: Value) -> list[Value]:
    """The numbers times 2^n, in two steps, so that 2^n itself may be too great or too small."""
    half = m >> 1
    first, second = (half << c.form.mantissa).floats(), ((m - half) << c.form.mantissa).floats()
    return [x * first * second for x in numbers]


def _over(form: _Format) -> float:
    """From here on e^x is infinite."""
    return math.ceil((form.bias + 1) * math.log(2))


def _under(form: _Format) -> float:
    """From here on e^x is 0."""
    return -math.ceil((form.bias + form.mantissa + 1) * math.log(2))


@_function("exp")
def _exp(c: _Code, x: Value) -> Value:
    r, w, m = _power_parts(c, x.at_most(_over(c.form)).at_least(_under(c.form)))
    return _scaled(c, m, 1.0 + (r + w))[0]


def _power_of_two_parts(c: _Code, x: Value, low: Value | None = None) -> tuple[Value, Value, Value]:
    """Return (r, w, m): 2^(x + low) = 2^n·(1 + (r + w)), as for e."""
    offset = c.form.magic + 2 * c.form.bias
    shifted = x + offset
    r = x - (shifted - offset)
    if low is not None:
        r = r + low
    r = r * math.log(2)
    return r, (r * r) * c.polynomial(r, "exp"), shifted.bits()


@_function("exp2")
def _exp2(c: _Code, x: Value) -> Value:
    bias, mantissa = c.form.bias, c.form.mantissa
    r, w, m = _power_of_two_parts(c, x.at_most(bias + 2).at_least(-bias - mantissa - 2))
    return _scaled(c, m, 1.0 + (r + w))[0]


@_function("cosh")
def _cosh(c: _Code, x: Value) -> Value:
    """E + 1/(4E) with E = e^|x|/2."""
    r, w, m = _power_parts(c, abs(x).at_most(_over(c.form) + 1))
    power, power_low = c.sum(c.constant(1.0), r + w)
    half, half_low = _scaled(c, m - 1, power, power_low)
    return half + (half_low + 0.25 / half)


@_function("sinh")
def _sinh(c: _Code, x: Value) -> Value:
    """(u + u/(1 + u))/2 with u = e^|x| − 1, of which a quarter is computed, for its range."""
    r, w, m = _power_parts(c, abs(x).at_most((c.form.bias + 2.2) * math.log(2)))  # the result is infinite there
    quarter = _power_of_two(c, m, 2)
    u, u_low = c.sum(c.fused(quarter, r, quarter - 0.25), quarter * w)
    d, d_low = c.any_sum(c.constant(1.0), (4.0 * u).at_most(2.0**100))  # beyond, the quotient is nothing
    q, q_low = c.quotient(u, u_low, d, d_low)
    return _tiny(c, x, (2.0 * (u + (q + (u_low + q_low)))).with_sign(x))


@_function("expm1")
def _expm1(c: _Code, x: Value) -> Value:
    r, w, m = _power_parts(c, x.at_most(_over(c.form)).at_least(-40.0))
    half = _power_of_two(c, m, 1)  # the last doubling may overflow, as it should
    return _tiny(c, x, 2.0 * c.fused(half, w, c.fused(half, r, half - 0.5)))


@_function("tanh")
def _tanh(c: _Code, x: Value) -> Value:
    """q = t/(t + 2) with t = e^(2|x|) − 1, and what its roundings lost; 1/(t + 2) is (1 − q)/2."""
    r, w, m = _power_parts(c, (2.0 * abs(x)).at_most(40.0))
    power = _power_of_two(c, m)
    t, t_low = c.sum(c.fused(power, r, power - 1.0), power * w)
    d, d_low = c.any_sum(c.constant(2.0), t)
    q = t / d
    rest = c.fused(-q, d_low + t_low, t_low)
    return c.fused(rest, c.fused(-0.5, q, 0.5), q).with_sign(x)


@_function("sigmoid")
def _sigmoid(c: _Code, x: Value) -> Value:
    r, w, m = _power_parts(c, (-abs(x)).at_least(_under(c.form)))
    power, power_low = c.sum(c.constant(1.0), r + w)
    d, d_low = c.sum(c.constant(1.0), _scaled(c, m, power)[0])
    below = x < 0.0
    q, q_low = c.quotient(c.select(below, power, 1.0), c.select(below, power_low, 0.0), d, d_low)
    q = q + q_low
    return c.select(below, _scaled(c, m, q)[0], q)


# -- logarithms -------------------------------------------------------------------------------------------------------


def _logarithm_parts(c: _Code, x: Value) -> tuple[Value, Value, Value]:
    """Return (k, f, moved): x = 2^k·(1 + f), √½ ≤ 1 + f < √2; x > 0. moved: the bits of x less those of 1 + f."""
    form = c.form
    tiny = x < form.smallest
    lift = form.mantissa + 2
    x = c.select(tiny, x * math.ldexp(1.0, lift), x)
    root = _bits(math.sqrt(0.5), form)
    bits = x.bits()
    raised = bits + (_bits(1.0, form) - root)
    one = math.ldexp(1.0, form.mantissa)  # the bits of an integer below, written into it, are added to it
    offset = one + form.bias
    k = ((raised >> form.mantissa) | _bits(one, form)).floats() - c.select(tiny, offset + lift, c.constant(offset))
    m = (raised & ((1 << form.mantissa) - 1)) + root
    return k, m.floats() - 1.0, bits - m


def _bits(x: float, form: _Format) -> int:
    code = "<dq" if form.ints == "i64" else "<fi"
    bits: int = struct.unpack("<" + code[2], struct.pack("<" + code[1], x))[0]
    return bits


def _log_of(c: _Code, k: Value, f: Value, low: Value | None = None) -> Value:
    """k·ln 2 + log(1 + f) + low: with s = f/(2 + f), log(1 + f) = 2s + s·R(s²) = f − f²/2 + s·(f²/2 + R)."""
    high_ln2, low_ln2 = LN2[c.form.kind]
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * (f * f)
    tail = k * low_ln2 if low is None else c.fused(k, c.constant(low_ln2), low)
    return c.fused(k, c.constant(high_ln2), f - (half - c.fused(s, c.fused(z, c.polynomial(z, "log"), half), tail)))


def _log_ends(c: _Code, x: Value, result: Value, zero: float = 0.0) -> Value:
    """The result, but for x that is infinite, NaN, at ``zero`` or below it."""
    result = c.select(x < math.inf, result, x)
    return c.select(x <= zero, c.select(x < zero, math.nan, c.constant(-math.inf)), result)


@_function("log")
def _log(c: _Code, x: Value) -> Value:
    k, f, _ = _logarithm_parts(c, x)
    return _log_ends(c, x, _log_of(c, k, f))


def _log1p_parts(c: _Code, x: Value, low: Value | None = None) -> tuple[Value, Value, Value]:
    """Return (k, f, rest): log(1 + x + low) = k·ln 2 + log(1 + f) + rest; x > −1."""
    u, rest = c.any_sum(c.constant(1.0), x)
    if low is not None:
        rest = rest + low
    k, f, moved = _logarithm_parts(c, u)
    # log(u + rest) is log(u) + rest/u, where rest/u = rest·2^−k/(1 + f) need have a few digits only.
    shrink = c.select(x < math.ldexp(1.0, c.form.mantissa + 2), (_bits(1.0, c.form) - moved).floats(), 0.0)
    return k, f, (rest * shrink) * c.fused(f, c.fused(f, 1.0 - f, -1.0), 1.0)


def _tiny(c: _Code, x: Value, result: Value) -> Value:
    """x itself if the function is x(1 + O(x)) and x is below half an ulp of 1, else the result."""
    return c.select(abs(x) < math.ldexp(1.0, -c.form.mantissa - 2), x, result)


@_function("log1p")
def _log1p(c: _Code, x: Value) -> Value:
    return _tiny(c, x, _log_ends(c, x, _log_of(c, *_log1p_parts(c, x)), -1.0))


def _over_log(c: _Code, base: int, logarithm: Value) -> Value:
    """logarithm/log(base), rounded about once."""
    inverse, inverse_low = _parts((1 << 384) // _LOGARITHMS[base], 192, c.form.mantissa + 1, c.form.mantissa + 1)
    product, error = c.product(logarithm, c.constant(inverse))
    return product + c.fused(logarithm, c.constant(inverse_low), error)


@_function("log2")
def _log2(c: _Code, x: Value) -> Value:
    k, f, _ = _logarithm_parts(c, x)
    return _log_ends(c, x, k + _over_log(c, 2, _log_of(c, c.constant(0.0), f)))


@_function("log10")
def _log10(c: _Code, x: Value) -> Value:
    k, f, _ = _logarithm_parts(c, x)
    high, low = _parts((_LN2 << 192) // _LOGARITHMS[10], 192, c.form.mantissa - 10, c.form.mantissa + 1)
    return _log_ends(
        c,
        x,
        c.fused(k, c.constant(high), c.fused(k, c.constant(low), _over_log(c, 10, _log_of(c, c.constant(0.0), f)))),
    )


# -- trigonometry -----------------------------------------------------------------------------------------------------


def _quarter_turns(c: _Code, a: Value, exact: bool) -> tuple[Value, Value, Value]:
    """Return (r, low, n): a = n·π/2 + r + low, n an integer, |r| ≤ π/4; a ≥ 0. low counts only if ``exact``."""
    # With fused multiply-add the first step is exact whatever n is; without, n·part must be, so that parts are short.
    bits = (53, 53, 53) if c.fma else (33, 33, 33, 53)
    number, n = c.round(a * (2 / math.pi))
    first, *parts = _parts(_HALF_PI, 320, *(bits[:-1] if c.form is _SHORT else bits))
    r, low = c.residual(number, first, a), c.constant(0.0)
    if c.form is _SHORT or (c.fma and not exact):
        for part in parts:
            r = c.residual(number, part, r)
    else:
        for part in parts[:-1]:
            product, error = c.product(number, c.constant(part)) if c.fma else (number * part, 0.0)
            r, lost = c.any_sum(r, -product)
            low = low + (lost - error)
        r, low = c.sum(r, low - number * parts[-1])
    return _far_out(c, a, r, low, n)


def _far_out(c: _Code, a: Value, r: Value, low: Value, n: Value) -> tuple[Value, Value, Value]:
    """The same, but for a > 2^30 by Payne and Hanek, lane by lane in a branch of its own."""
    far = a > (2.0**30 if c.fma else 2.0**20)
    buffer = c.alloca("double", 3 * c.width)
    c.helpers.add("turns")
    near = (r, low, n)
    with c.when(c.any(far) if c.width > 1 else far, *near) as branch:
        c.store(a, buffer, align=8)
        c.call("kb.turns", "void", buffer, Value(str(c.width), "i64"))
        places = (c.at(buffer, k * c.width, "double") for k in range(3))
        slow = (c.load(place, 0, v.kind, c.width, 8) for place, v in zip(places, near, strict=True))
        branch.give(*(c.select(far, v, other) for v, other in zip(slow, near, strict=True)))
    r, low, n = branch.values
    return r, low, n


def _turns(fma: bool) -> tuple[str, frozenset[str]]:
    """Payne and Hanek: the quarter turns of numbers however great, one after the other, in a buffer: a is replaced by
    r, and after the last come the low parts and the integers n. The digits of 2/π that count are multiplied by a.

    a = M·2^E with an integer M of 53 bits. The digits of 2/π worth 4/2^E or more give multiples of 4 turns, which are
    nothing; the next 192 make an integer W, and a·2/π mod 4 is M·W/2^190 mod 4.
    """
    words = [0, *(_TWO_OVER_PI >> (1216 - 64 * (i + 1)) & (2**64 - 1) for i in range(19))]
    # Rarely run, so it isn't optimised.
    attributes = "noinline optnone cold nounwind "
    c = _Code(("kb.turns", "void", ["buffer", ("i64", "count")]), _FORMATS["f64"], 1, fma, attributes)
    buffer, count = c.arguments
    with c.loop(0, count, once=True) as loop:
        at = loop.index
        places = [c.at(buffer, k, "double") for k in (at, at + count, at + count + count)]
        a = c.load(places[0], 0, "double")
        bits = a.bits()
        exponent = (bits >> 52) & 0x7FF
        whole = (bits & (2**52 - 1)) | 2**52
        place = exponent - (1075 - 62)  # of the first digit wanted, with 64 zeros before the digits
        place = c.select(place < 0, 0, place)  # lanes that are not far out come here too, for nothing
        index, shift = place >> 6, place & 63
        table = Value("@kb.two_over_pi", "ptr")
        digits = [c.load(table, index + i, "i64") for i in range(4)]
        w2, w1, w0 = (c.intrinsic("fshl", digits[i], digits[i + 1], shift) for i in range(3))
        m = whole.to("zext", "i128")
        low = (m * w0.to("zext", "i128")) >> 64
        turns = ((whole * w2).to("zext", "i128") << 64) + (m * w1.to("zext", "i128") + low)
        n = ((turns + (1 << 125)) >> 126).to("trunc", "i64")
        fraction = turns << 2  # as a signed number, from −1/2 to 1/2 in units of 2^-128
        negative = fraction < 0
        size = c.select(negative, 0 - fraction, fraction)
        zeros = c.pure(f"call i128 @llvm.ctlz.i128({size.typed}, i1 false)", "i128")
        c.declared.add("declare i128 @llvm.ctlz.i128(i128, i1)")
        top = ((size << zeros) >> 64).to("trunc", "i64")
        high, rest = (top >> 11).to("sitofp", "double"), (top & 0x7FF).to("sitofp", "double")
        half_pi, half_pi_low = _parts(_HALF_PI, 320, 53, 53)
        product, error = c.product(high, c.constant(half_pi))
        error = error + (high * half_pi_low + rest * (half_pi * 2.0**-11))
        scale = ((1023 - 53 - zeros.to("trunc", "i64")) << 52).floats()
        scale = c.select(negative, -scale, scale)
        nothing = a - a  # NaN for infinity
        r, r_low = c.sum(product, error)
        for v, to in zip((r * scale + nothing, r_low * scale, n), places, strict=True):
            c.store(v, to)
    c.ret()
    numbers = ", ".join(f"i64 {word - (word >> 63 << 64)}" for word in words)
    return f"@kb.two_over_pi = internal constant [20 x i64] [{numbers}]\n{c.text()}", frozenset(c.declared)


_HELPERS: dict[str, Callable[[bool], tuple[str, frozenset[str]]]] = {"turns": lru_cache(_turns)}


def _sine(c: _Code, r: Value, z: Value) -> Value:
    """sin(r) − r."""
    return (r * z) * c.polynomial(z, "sin")


def _sine_or_cosine(c: _Code, r: Value, odd: Value) -> Value:
    """cos(r) if ``odd``, else sin(r)."""
    z = r * r
    half = 0.5 * z
    most = 1.0 - half
    fourth = z * z * c.polynomial(z, "cos")
    cosine = most + (fourth if c.form is _SHORT else ((1.0 - most) - half) + fourth)
    return c.select(odd, cosine, r + _sine(c, r, z))


@_function("sin", in_double=True)
def _sin(c: _Code, x: Value) -> Value:
    r, _, n = _quarter_turns(c, abs(x), False)
    size = _sine_or_cosine(c, r, (n & 1).equals(1))
    return (size.bits() ^ ((n & 2) << 62)).floats().mirrored(x)


@_function("cos", in_double=True)
def _cos(c: _Code, x: Value) -> Value:
    r, _, n = _quarter_turns(c, abs(x), False)
    n = n + 1
    size = _sine_or_cosine(c, r, (n & 1).equals(1))
    return (size.bits() ^ ((n & 2) << 62)).floats()


@_function("tan", in_double=True)
def _tan(c: _Code, x: Value) -> Value:
    """sin/cos, or −cos/sin after an odd number of quarter turns, with what their roundings lost."""
    r, low, n = _quarter_turns(c, abs(x), c.form is not _SHORT)
    z = r * r
    half = 0.5 * z
    most = 1.0 - half
    fourth = z * z * c.polynomial(z, "cos")
    odd = (n & 1).equals(1)
    if c.form is _SHORT:
        sine, cosine = r + _sine(c, r, z), most + fourth
        return (c.select(odd, -cosine, sine) / c.select(odd, sine, cosine)).mirrored(x)
    sine, sine_low = c.sum(r, _sine(c, r, z))
    cosine, cosine_low = c.sum(most, ((1.0 - most) - half) + (fourth - r * low))
    sine_low = sine_low + low * cosine
    upper, upper_low = c.select(odd, -cosine, sine), c.select(odd, -cosine_low, sine_low)
    lower, lower_low = c.select(odd, sine, cosine), c.select(odd, sine_low, cosine_low)
    q, q_low = c.quotient(upper, upper_low, lower, lower_low)
    return (q + q_low).mirrored(x)


# -- and back ---------------------------------------------------------------------------------------------------------


def _half_pi(c: _Code) -> tuple[float, float]:
    high, low = _parts(_HALF_PI, 320, c.form.mantissa + 1, c.form.mantissa + 1)
    return high, low


def _turned(c: _Code, n: Value, d: Value) -> tuple[Value, Value, Value]:
    """Return (turns, t, w): arctan(n/d) = turns·π/4 + (t + w), turns 0, 1 or 2; n, d ≥ 0.

    Beyond tan(1/2) it is π/4 + arctan((n − d)/(n + d)); beyond the inverse, π/2 + arctan(−d/n).
    """
    middle, outer = n > d * math.tan(0.5), n > d * (1 / math.tan(0.5))
    upper = c.select(outer, -d, c.select(middle, n - d, n))
    t = upper / c.select(outer, n, c.select(middle, n + d, d))
    z = t * t
    return c.select(outer, 2.0, c.select(middle, 1.0, c.constant(0.0))), t, t * z * c.polynomial(z, "arctan")


@_function("arctan")
def _arctan(c: _Code, x: Value) -> Value:
    turns, t, w = _turned(c, abs(x), c.constant(1.0))
    high, low = _half_pi(c)
    return (turns * (0.5 * high) + (t + c.fused(turns, c.constant(0.5 * low), w))).with_sign(x)


@_function("arctan2", 2, in_double=True)
def _arctan2(c: _Code, y: Value, x: Value) -> Value:
    n, d = abs(y), abs(x)
    huge = (n > 2.0**1000) | (d > 2.0**1000)
    same = n.equals(d)  # both zero, or both infinite
    one = c.select(n.equals(0.0), 0.0, c.constant(1.0))
    n, d = c.select(same, one, c.select(huge, 0.25 * n, n)), c.select(same, 1.0, c.select(huge, 0.25 * d, d))
    turns, t, w = _turned(c, n, d)
    left = x.bits() < 0
    turns, t, w = c.select(left, 4.0 - turns, turns), c.select(left, -t, t), c.select(left, -w, w)
    high, low = _half_pi(c)
    return (turns * (0.5 * high) + (t + c.fused(turns, c.constant(0.5 * low), w))).with_sign(y)


def _arcsine_parts(c: _Code, x: Value) -> tuple[Value, Value, Value]:
    """Return (far, t, w): arcsin|x| = t + w, or if far, which is |x| > 1/2, π/2 − 2(t + w)."""
    a = abs(x)
    far = a > 0.5
    z = c.select(far, 0.5 - 0.5 * a, a * a)
    root = c.intrinsic("sqrt", z)
    square, error = c.product(root, root)
    lost = c.select(z > 0.0, ((z - square) - error) / (2.0 * root), z)
    w = c.select(far, root, a) * z * c.polynomial(z, "arcsin")
    return far, c.select(far, root, a), c.select(far, w + lost, w)


@_function("arcsin")
def _arcsin(c: _Code, x: Value) -> Value:
    far, t, w = _arcsine_parts(c, x)
    high, low = _half_pi(c)
    return c.select(far, high - (2.0 * t + (2.0 * w - low)), t + w).with_sign(x)


@_function("arccos")
def _arccos(c: _Code, x: Value) -> Value:
    """π/2 − arcsin(x), where 2(t + w) is what remains of it near 1."""
    far, t, w = _arcsine_parts(c, x)
    high, low = _half_pi(c)
    below = x < 0.0
    near = high - (c.select(below, -t, t) + (c.select(below, -w, w) - low))
    return c.select(far, c.select(below, 2.0 * high - (2.0 * t + (2.0 * w - 2.0 * low)), 2.0 * (t + w)), near)


@_function("arcsinh")
def _arcsinh(c: _Code, x: Value) -> Value:
    """log(1 + (a + a²/(1 + √(1 + a²)))) with a = |x|; far out, log(2a)."""
    a = abs(x)
    far = a > math.ldexp(1.0, c.form.mantissa + 4)
    square = a * a
    s, s_low = c.sum(a, square / (1.0 + c.intrinsic("sqrt", 1.0 + square)))
    result = _log_of(c, *_log1p_or_twice(c, far, s, s_low, a))
    return _tiny(c, x, c.select(a < math.inf, result, a).with_sign(x))


@_function("arccosh")
def _arccosh(c: _Code, x: Value) -> Value:
    """log(1 + (b + √(2b + b²))) with b = x − 1; far out, log(2x)."""
    b = x - 1.0
    far = x > math.ldexp(1.0, c.form.mantissa + 4)
    s, s_low = c.any_sum(c.intrinsic("sqrt", c.fused(b, b, 2.0 * b)), b)
    result = _log_of(c, *_log1p_or_twice(c, far, s, s_low, x))
    return c.select(x < math.inf, c.select(x < 1.0, math.nan, result), x)


def _log1p_or_twice(c: _Code, far: Value, s: Value, s_low: Value, x: Value) -> tuple[Value, Value, Value]:
    """Return (k, f, rest) of log(1 + s + s_low), or if far, of log(2x)."""
    s, s_low = c.select(far, x, s), c.select(far, 0.0, s_low)  # far out, 1 more is nothing
    k, f, rest = _log1p_parts(c, s, s_low)
    return c.select(far, k + 1.0, k), f, rest


@_function("arctanh")
def _arctanh(c: _Code, x: Value) -> Value:
    """log(1 + 2a/(1 − a))/2 with a = |x|."""
    a = abs(x)
    d, d_low = c.sum(c.constant(1.0), -a)
    s, s_low = c.quotient(2.0 * a, None, d, d_low)
    result = 0.5 * _log_of(c, *_log1p_parts(c, s, s_low))
    result = c.select(a < 1.0, result, c.select(a.equals(1.0), math.inf, c.constant(math.nan)))
    return _tiny(c, x, result.with_sign(x))


# -- roots ------------------------------------------------------------------------------------------------------------


@_function("sqrt")
def _sqrt(c: _Code, x: Value) -> Value:
    return c.intrinsic("sqrt", x)


@_function("cbrt", in_double=True)
def _cbrt(c: _Code, x: Value) -> Value:
    """2^n·∛m with 1/∛m by Newton's iteration from a polynomial; at last what ∛m is off is taken away."""
    a = abs(x)
    k, f, _ = _logarithm_parts(c, a)
    n, bits = c.round(k * (1 / 3))
    left = k - 3.0 * n  # −1, 0 or 1
    m = (1.0 + f) * c.select(left > 0.0, 2.0, c.select(left < 0.0, 0.5, c.constant(1.0)))
    y = c.polynomial(f, "inverse_cbrt")
    y = y * c.select(left > 0.0, 2 ** (-1 / 3), c.select(left < 0.0, 2 ** (1 / 3), c.constant(1.0)))
    for _ in range(1 if c.form is _SHORT else 2):
        y = y * (4 / 3 - (m * (1 / 3)) * (y * y * y))
    root = m * y * y
    square, error = c.product(root, root)
    cube, cube_error = c.product(square, root)
    rest = (m - cube) - (cube_error + error * root)
    root = root + rest * (y * y * (1 / 3))
    result = root * ((bits + c.form.bias) << c.form.mantissa).floats()
    return c.select((a > 0.0) & (a < math.inf), result, a).with_sign(x)


@_function("hypot", 2, in_double=True)
def _hypot(c: _Code, a: Value, b: Value) -> Value:
    """√(a² + b²), scaled so that the greater is near 1 if it is huge or tiny."""
    a, b = abs(a), abs(b)
    above = a > b
    x, y = c.select(above, a, b), c.select(above, b, a)
    huge, tiny = x > 2.0**500, x < 2.0**-450
    up, down = 2.0**600, 2.0**-600
    scale = c.select(huge, down, c.select(tiny, up, c.constant(1.0)))
    x, y = x * scale, y * scale
    square, error = c.product(x, x)
    other, other_error = c.product(y, y)
    total, lost = c.sum(square, other)
    root = c.intrinsic("sqrt", total + (lost + (error + other_error)))
    result = root * c.select(huge, up, c.select(tiny, down, c.constant(1.0)))
    return c.select(a.equals(math.inf) | b.equals(math.inf), math.inf, c.select(x > 0.0, result, a + b))


@_function("logaddexp2", 2, in_double=True)
def _logaddexp2(c: _Code, a: Value, b: Value) -> Value:
    """max(a, b) + log2(1 + 2^−|a − b|), as logaddexp."""
    greater, d, d_low = _ordered(c, a, b)
    r, w, m = _power_of_two_parts(c, d.at_least(-1100.0), d_low)
    return greater + _over_log(c, 2, _log_of_one_more(c, r, w, m))


@_function("logaddexp", 2, in_double=True)
def _logaddexp(c: _Code, a: Value, b: Value) -> Value:
    """max(a, b) + log1p(e^−|a − b|), each with what its roundings lost.

    Where the two terms cancel, within 2 ulp of the greater; as near the inputs themselves say what the result is.
    """
    greater, d, d_low = _ordered(c, a, b)
    return greater + _log_of_one_more(c, *_power_parts(c, d.at_least(_under(c.form)), d_low))


def _ordered(c: _Code, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """Return (the greater, d, low): the smaller is the greater and d + low."""
    above = a > b
    greater, smaller = c.select(above, a, b), c.select(above, b, a)
    d, low = c.any_sum(smaller, -greater)
    return greater, c.select(a.equals(b), 0.0, d), c.select(abs(low) < 1.0, low, 0.0)  # infinities too


def _log_of_one_more(c: _Code, r: Value, w: Value, m: Value) -> Value:
    """log(1 + 2^n·(1 + (r + w))), n ≤ 0."""
    power, power_low = c.sum(c.constant(1.0), r + w)
    power, power_low = _scaled(c, m, power, power_low)
    return _log_of(c, *_log1p_parts(c, power, power_low))


# -- powers -----------------------------------------------------------------------------------------------------------


def _precise_logarithm(c: _Code, x: Value) -> tuple[Value, Value]:
    """log(x) in two parts, its relative error near 2^-65; x > 0."""
    high_ln2, low_ln2 = LN2[c.form.kind]
    k, f, _ = _logarithm_parts(c, x)
    d, d_low = c.sum(c.constant(2.0), f)
    s, s_low = c.quotient(f, None, d, d_low)
    z, z_low = c.product(s, s)
    z_low = z_low + 2.0 * s * s_low
    # log(1 + f) = 2s + s·z·(2/3 + z·(2/5 + …))
    two_thirds, two_thirds_low = _parts((2 << 200) // 3, 200, 53, 53)
    p, p_low = c.sum(c.constant(two_thirds), z * c.polynomial(z, "log_pow"))
    p_low = p_low + two_thirds_low
    cube, cube_low = c.product(s, z)
    cube_low = cube_low + (s * z_low + s_low * z)
    t, t_low = c.product(cube, p)
    t_low = t_low + (cube * p_low + cube_low * p)
    total, first = c.sum(k * high_ln2, 2.0 * s)
    total, second = c.sum(total, t)
    return c.sum(total, first + (second + (k * low_ln2 + (2.0 * s_low + t_low))))


@_function("power", 2, in_double=True)
def _power(c: _Code, x: Value, y: Value) -> Value:
    """e^(y·log|x|), with the sign that an odd y keeps."""
    a, size = abs(x), abs(y)
    bound = math.ldexp(1.0, c.form.mantissa)
    whole = (size >= bound) | ((size + bound) - bound).equals(size)
    half = (0.5 * size).at_most(bound)
    odd = whole & ~((half + bound) - bound).equals(half)
    y_bound = math.ldexp(1.0, 65)  # beyond it, log|x| being 0 or above 2^-54, the result is 0, 1 or infinite
    held = y.at_most(y_bound).at_least(-y_bound)
    if c.form is _SHORT:
        k, f, _ = _logarithm_parts(c, a)
        exponent, low = held * _log_of(c, k, f), None
    else:
        logarithm, logarithm_low = _precise_logarithm(c, a)
        exponent, low = c.product(held, logarithm)
        low = c.select(abs(exponent) < 1024.0, c.fused(held, logarithm_low, low), 0.0)
    r, w, m = _power_parts(c, exponent.at_most(_over(c.form) + 1).at_least(_under(c.form) - 1), low)
    result = _scaled(c, m, 1.0 + (r + w))[0]
    end = a.equals(0.0) | a.equals(math.inf)
    result = c.select(end, c.select((a > 1.0) ^ (y > 0.0), 0.0, c.constant(math.inf)), result)
    result = c.select(odd, result.mirrored(x), result)
    result = c.select((x < 0.0) & ~(end | whole), math.nan, result)
    result = c.select(x.is_nan() | y.is_nan(), x + y, result)
    return c.select(y.equals(0.0) | x.equals(1.0), 1.0, result)


FUNCTIONS: dict[str, int] = {name: arguments for name, (_, arguments, _) in _BODIES.items()}
