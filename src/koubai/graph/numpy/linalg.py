"""Linear algebra: the functions of ``np.linalg``, as primitives of matrices and compositions of them.

Every row works on stacks (…, m, n), and NumPy's LAPACK does the numbers. A decomposition is one primitive whose result
holds its parts packed in one array, so that it is computed once and its parts share one derivative.

What is read: cholesky, eigh and eigvalsh read one triangle, as NumPy does, so the other triangle's derivative is zero.
Where a derivative does not exist, koubai says so:

- det: exact at singular matrices too (the cofactors); its second derivative needs the inverse and is taken as a limit
  there. The derivative of slogdet, whose value is −inf, is nan.
- eigh, svd: an eigenvector or singular vector has no derivative where its value is repeated: the result is inf or nan,
  a GradientWarning says so, and the trace lists a kink; vectors of other values, if only they are used, have theirs.
  The values themselves have one as long as the function treats the repeated ones alike (a sum); their second derivative
  is taken as a limit. Signs of vectors are LAPACK's: only what does not depend on the sign (V f(w) Vᵀ, V**2) is a
  function of the matrix.
- eig, eigvals: of real matrices, also where the spectrum is complex. Repeated eigenvalues are a kink.
- norm at 0: subgradient 0, a kink. The nuclear norm at a singular matrix: the subgradient U Vᵀ, a kink.
- pinv, lstsq: along changes that keep the rank; a matrix without full rank is a kink.
- matrix_rank and the sign of slogdet are steps: derivative zero.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, axes_of, finish, implements, refuse
from koubai.graph.numpy.products import cross, diagonal, outer, tensordot
from koubai.graph.numpy.ufuncs import conjugated
from koubai.graph.ops import ANY, Interval, Op, Shape, add_row, apply, expand, reduced_shape, unbroadcast
from koubai.graph.user_code import untraceable

__all__ = ["eig", "eigenvalue_kink", "eigenvalues_vjp", "eigh_vjp", "eigvals", "lstsq", "norm", "qr", "svd"]


def _matrix_row(
    name: str,
    call: Callable[..., Any],
    vjp: Sequence[Callable[..., Any] | None],
    shape: Callable[..., Shape],
    examples: Sequence[tuple[tuple[Shape, ...], dict[str, Any]]] = (),
    code: str | Callable[..., str] | None = None,
    kink: Callable[..., Any] | None = None,
    dtype: Callable[..., Any] | None = None,
    domain: Interval = ANY,
) -> None:
    add_row(
        Op(
            name,
            call,
            tuple(vjp),
            shape=shape,
            code=code or f"np.linalg.{name}({', '.join(f'{{{i}}}' for i in range(max(1, len(vjp))))})",
            domain=(domain,) * len(vjp),
            examples=tuple(examples),
            kink=kink,
            dtype=dtype,
        )
    )


def _matrices(a: Any) -> Any:
    a = array(a)
    return a.astype(np.float64) if a.dtype.kind in "biu" else a


def _real_matrices(function: str, a: Any) -> Any:
    a = _matrices(a)
    if a.dtype.kind == "c":
        fix = "write it for the real matrix [[Re, -Im], [Im, Re]], or pass method='adaptive'"
        raise untraceable(f"np.linalg.{function} of a complex matrix has no rule here", fix)
    return a


def _numbers(a: Shape) -> Shape:
    return a[:-2]


def _same(a: Shape) -> Shape:
    return a


@functools.cache
def _result_type(function: Callable[..., Any]) -> Callable[..., Any]:
    """The named tuple that a function of np.linalg answers with."""
    return type(function(np.eye(1)))


_SQUARE: tuple[tuple[tuple[Shape, ...], dict[str, Any]], ...] = (
    (((1, 1),), {}),
    (((3, 3),), {}),
    (((2, 2, 2),), {}),
)


# --- inverse and determinant
def _solve_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    return unbroadcast(-(apply("solve", a.mT, g) @ y.mT), a.shape)


def _solve_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    return unbroadcast(apply("solve", a.mT, g), b.shape)


def _inv_vjp(g: Any, y: Any, a: Any) -> Any:
    return -(y.mT @ g @ y.mT)


_matrix_row("inv", np.linalg.inv, (_inv_vjp,), _same, _SQUARE)
_matrix_row(
    "solve",
    np.linalg.solve,
    (_solve_a, _solve_b),
    lambda a, b: (*np.broadcast_shapes(a[:-2], b[:-2]), *b[-2:]),
    ((((3, 3), (3, 2)), {}), (((2, 2, 2), (2, 1)), {}), (((2, 2), (3, 2, 1)), {})),
)


def _inverse_or_nan(a: Any) -> Any:
    """inv(a) for derivatives: nan, not an exception, if the function has a value (−inf, say) but they have none."""
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        y = np.full(a.shape, np.nan, a.dtype)
        for i in np.ndindex(*a.shape[:-2]):
            with contextlib.suppress(np.linalg.LinAlgError):
                y[i] = np.linalg.inv(a[i])
        return y


def _cofactors(a: Any) -> Any:
    """det(a) · inv(a)ᵀ without the division: products of all singular values but one, exact if one is zero."""
    u, s, vh = np.linalg.svd(a)
    ones = np.ones((*s.shape[:-1], 1), s.dtype)
    left = np.cumprod(np.concatenate([ones, s[..., :-1]], -1), -1)
    right = np.cumprod(np.concatenate([ones, s[..., :0:-1]], -1), -1)[..., ::-1]
    turns = np.linalg.det(u) * np.linalg.det(vh)
    return turns[..., None, None] * (np.conj(u) * (left * right)[..., None, :]) @ np.conj(vh)


def _cofactors_vjp(g: Any, y: Any, a: Any) -> Any:
    inverse = apply("inverse_or_nan", a).mT
    inner = apply("sum", g * inverse, axis=(a.ndim - 2, a.ndim - 1), keepdims=True)
    return apply("det", a)[..., None, None] * (inverse * inner - inverse @ g.mT @ inverse)


_matrix_row("inverse_or_nan", _inverse_or_nan, (_inv_vjp,), _same, _SQUARE, code="np.linalg.inv({0})")
_matrix_row("det", np.linalg.det, (lambda g, y, a: g[..., None, None] * apply("cofactors", a),), _numbers, _SQUARE)
_matrix_row(
    "cofactors",
    _cofactors,
    (_cofactors_vjp,),
    _same,
    _SQUARE[1:],
    code="np.linalg.det({0})[..., None, None] * np.linalg.inv({0}).mT",
)
_matrix_row(
    "logabsdet",
    lambda a: np.linalg.slogdet(a)[1],
    (lambda g, y, a: g[..., None, None] * apply("inverse_or_nan", a).mT,),
    _numbers,
    _SQUARE,
    code="np.linalg.slogdet({0})[1]",
)
_matrix_row("det_sign", lambda a: np.linalg.slogdet(a)[0], (), _numbers, code="np.linalg.slogdet({0})[0]")

implements(np.linalg.inv)(lambda a: apply("inv", _matrices(a)))
implements(np.linalg.det)(lambda a: apply("det", _matrices(a)))


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    a, b = _matrices(a), _matrices(b)
    if b.ndim == 1:
        return apply("solve", a, b[:, None])[..., 0]
    return apply("solve", a, b)


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    a = _real_matrices("slogdet", a)
    return _result_type(np.linalg.slogdet)(apply("det_sign", a), apply("logabsdet", a))


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: Any) -> Any:
    a, n = _matrices(a), n.__index__()
    if n < 0:
        a, n = apply("inv", a), -n
    y: Any = None
    while n:
        if n & 1:
            y = a if y is None else y @ a
        n >>= 1
        a = a @ a if n else a
    return np.zeros_like(a) + np.eye(a.shape[-1], dtype=a.dtype) if y is None else +y


@implements(np.linalg.tensorsolve)
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    a, b = _matrices(a), _matrices(b)
    if axes is not None:
        places = [i % a.ndim for i in axes]
        a = np.transpose(a, [i for i in range(a.ndim) if i not in places] + places)
    y = solve(a.reshape((b.size, -1)), b.ravel())
    return y.reshape(a.shape[b.ndim :])


@implements(np.linalg.tensorinv)
def tensorinv(a: Any, ind: int = 2) -> Any:
    a = _matrices(a)
    lead, tail = a.shape[:ind], a.shape[ind:]
    return apply("inv", a.reshape((math.prod(lead), math.prod(tail)))).reshape((*tail, *lead))


# --- decompositions of symmetric matrices: the lower triangle is read
def _half_lower(x: Any) -> Any:
    """The lower triangle with half the diagonal."""
    n = x.shape[-1]
    return x * (np.tri(n, dtype=x.dtype) - np.eye(n, dtype=x.dtype) * x.dtype.type(0.5))


def _to_lower(g: Any) -> Any:
    """Turn the cotangent of a symmetric matrix into that of its lower triangle."""
    return _half_lower(g + g.mT)


def _cholesky_vjp(g: Any, y: Any, a: Any) -> Any:
    """L⁻ᵀ Φ(Lᵀ g) L⁻¹, with Φ the lower triangle with half the diagonal (Murray, 2016)."""
    inner = apply("solve", y.mT, _half_lower(y.mT @ g))
    return _to_lower(apply("solve", y.mT, inner.mT))


# one by one in the table of primitives, where a random matrix is positive definite; larger ones in tests/supported.py
_matrix_row(
    "cholesky",
    np.linalg.cholesky,
    (_cholesky_vjp,),
    _same,
    ((((1, 1),), {}), (((2, 1, 1),), {})),
    domain=(0.5, 2.0),
)


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    a = _real_matrices("cholesky", a)
    return apply("cholesky", a.mT).mT if upper else apply("cholesky", a)


def _off_diagonal_gaps(w: Any) -> Any:
    """w[j] − w[i], with 1 on the diagonal."""
    return w[..., None, :] - w[..., :, None] + np.eye(w.shape[-1], dtype=w.dtype)


def _close(w: Any, scale: Any) -> bool:
    """Return whether two neighbours of a sorted row are equal up to rounding."""
    gaps = np.abs(np.diff(w, axis=-1))
    return bool(np.any(gaps <= 8 * np.finfo(w.dtype).eps * scale))


def eigenvalue_kink(w: Any) -> bool:
    return _close(w, np.max(np.abs(w), axis=-1, keepdims=True, initial=0.0))


def _eigh(a: Any, *, uplo: str = "L") -> Any:
    """The decomposition that the lower triangle of a tells.

    uplo "U": as LAPACK finds it from the upper triangle of aᵀ, which may turn other vectors round.
    """
    w, v = np.linalg.eigh(a) if uplo == "L" else np.linalg.eigh(a.mT, "U")
    return np.concatenate([w[..., None, :], v], -2)


def _turns(turn: Any, gaps: Any, live: Any) -> Any:
    """Half of turn − turnᵀ over the gaps, 0 between vectors that nothing depends on, however close their values are.

    live: which vectors something depends on, None for all.
    """
    turned = turn - turn.mT
    if live is None:
        return turned / gaps
    pairs = np.logical_or(live[..., None, :], live[..., :, None])
    return np.where(pairs, turned / gaps, 0.0)


def eigh_vjp(g: Any, y: Any, a: Any, live: Any = None, **how: Any) -> Any:
    """V (diag(gw) + F ∘ Vᵀ gV) Vᵀ with F[i, j] = 1 / (w[j] − w[i]) (Giles, 2008).

    live: where g may be anything but 0; None: everywhere.
    """
    w, v, gw, gv = y[..., 0, :], y[..., 1:, :], g[..., 0, :], g[..., 1:, :]
    columns = None if live is None else np.any(live[..., 1:, :], axis=-2)
    inner = _turns(v.mT @ gv, _off_diagonal_gaps(w), columns) * 0.5
    return _to_lower((v * gw[..., None, :] + v @ inner) @ v.mT)


def eigenvalues_vjp(g: Any, y: Any, a: Any, packed: Any) -> Any:
    v = packed[..., 1:, :]
    return _to_lower((v * g[..., None, :]) @ v.mT)


def _eigh_code(y: str, args: Sequence[str], params: dict[str, Any]) -> str:
    given = f"{args[0]}.mT, 'U'" if params else args[0]
    return f"{y} = (lambda w, v: np.concatenate([w[..., None, :], v], -2))(*np.linalg.eigh({given}))"


_matrix_row(
    "eigh",
    _eigh,
    (eigh_vjp,),
    lambda a, **how: (*a[:-2], a[-2] + 1, a[-1]),
    (*_SQUARE[1:], (((4, 4),), {"uplo": "U"})),
    code=_eigh_code,
    kink=lambda y, a, **how: eigenvalue_kink(y[..., 0, :]),
)
_matrix_row(
    "eigvalsh",
    np.linalg.eigvalsh,
    (lambda g, y, a: eigenvalues_vjp(g, y, a, apply("eigh", a)),),
    lambda a: a[:-1],
    _SQUARE,
    kink=lambda y, a: eigenvalue_kink(y),
)
# the eigenvalues out of a decomposition of a: their derivative needs no gap, so it does not pass through the vectors
_matrix_row(
    "eigenvalues",
    lambda a, packed: packed[..., 0, :],
    (eigenvalues_vjp, None),
    lambda a, packed: a[:-1],
    code="{1}[..., 0, :]",
)


def _triangle(function: str, a: Any, UPLO: str) -> Any:
    a = _real_matrices(function, a)
    if UPLO.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return a if UPLO.upper() == "L" else a.mT


@implements(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    a = _triangle("eigh", a, UPLO)
    y = apply("eigh", a) if UPLO.upper() == "L" else apply("eigh", a, uplo="U")
    return _result_type(np.linalg.eigh)(apply("eigenvalues", a, y), y[..., 1:, :])


@implements(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return apply("eigvalsh", _triangle("eigvalsh", a, UPLO))


# --- eigenvalues of general matrices
def _general_eig_vjp(g: Any, y: Any, a: Any) -> Any:
    """V⁻ᵀ (diag(gw) + F ∘ Vᵀ gV) Vᵀ with F[i, j] = 1 / (w[j] − w[i]), whatever the length of the vectors: that is
    for `eig` to fix."""
    w, v, gw, gv = y[..., 0, :], y[..., 1:, :], g[..., 0, :], g[..., 1:, :]
    n = a.shape[-1]
    gaps = _off_diagonal_gaps(w)
    inner = np.where(np.eye(n, dtype=np.bool_), gw[..., None, :], (v.mT @ gv) / gaps)
    return apply("inverse_or_nan", v).mT @ inner @ v.mT


def _repeated(y: Any) -> bool:
    w = y[..., 0, :]
    n = w.shape[-1]
    gaps = np.abs(w[..., None, :] - w[..., :, None])[..., ~np.eye(n, dtype=np.bool_)]
    scale = np.max(np.abs(w), axis=-1, keepdims=True, initial=0.0)
    return bool(np.any(gaps <= 8 * np.finfo(w.dtype).eps * scale))


def _general_eig(a: Any) -> Any:
    w, v = np.linalg.eig(a)
    return np.concatenate([w[..., None, :], v], -2).astype(_complex_of(a.dtype), copy=False)


def _complex_of(kind: Any) -> Any:
    return np.result_type(kind, np.complex64)


_matrix_row(
    "eig",
    _general_eig,
    (_general_eig_vjp,),
    lambda a: (*a[:-2], a[-2] + 1, a[-1]),
    code="(lambda w, v: np.concatenate([w[..., None, :], v], -2) + 0j)(*np.linalg.eig({0}))",
    kink=lambda y, a: _repeated(y),
    dtype=_complex_of,
)


@implements(np.linalg.eig)
def eig(a: Any) -> Any:
    packed = apply("eig", _real_matrices("eig", a))
    w, v = packed[..., 0, :], packed[..., 1:, :]
    if np.all(np.imag(w) == 0):
        w, v = np.real(w), np.real(v)
    else:  # LAPACK turns each vector so that its largest component is real
        place = np.argmax(np.absolute(v) ** 2, axis=-2, keepdims=True)
        largest = np.take_along_axis(v, place, axis=-2)
        turned = v * (np.sign(np.real(largest)) * np.absolute(largest) / largest)
        v = np.where(np.imag(v) == 0, np.real(turned), turned)  # what rounding leaves of an imaginary part
    return _result_type(np.linalg.eig)(w, v / np.sqrt(np.sum(np.absolute(v) ** 2, axis=-2, keepdims=True)))


@implements(np.linalg.eigvals)
def eigvals(a: Any) -> Any:
    w = apply("eig", _real_matrices("eigvals", a))[..., 0, :]
    return np.real(w) if np.all(np.imag(w) == 0) else w


# --- singular values
def _singular_kink(s: Any) -> bool:
    top = np.max(s, axis=-1, keepdims=True, initial=0.0)
    return _close(s, top) or bool(np.any(s <= 8 * np.finfo(s.dtype).eps * top))


def _svd(a: Any) -> Any:
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return np.concatenate([u.reshape((*s.shape[:-1], -1)), s, vh.reshape((*s.shape[:-1], -1))], -1)


def _svd_parts(y: Any, m: int, n: int) -> tuple[Any, Any, Any]:
    k, lead = min(m, n), y.shape[:-1]
    u, s, vh = y[..., : m * k], y[..., m * k : m * k + k], y[..., m * k + k :]
    return np.reshape(u, (*lead, m, k)), s, np.reshape(vh, (*lead, k, n))


def _svd_vjp(g: Any, y: Any, a: Any, live: Any = None) -> Any:
    """Townsend, "Differentiating the singular value decomposition", 2016. live: as for eigh."""
    m, n = a.shape[-2:]
    u, s, vh = _svd_parts(y, m, n)
    gu, gs, gvh = _svd_parts(g, m, n)
    left, right = u.mT @ gu, vh @ gvh.mT
    gaps = _off_diagonal_gaps(s * s)
    used = None
    if live is not None:
        live_u, _, live_vh = _svd_parts(live, m, n)
        used = np.logical_or(np.any(live_u, axis=-2), np.any(live_vh, axis=-1))
    inner = _turns(left, gaps, used) * s[..., None, :] + s[..., :, None] * _turns(right, gaps, used)
    total = (u * gs[..., None, :] + u @ inner) @ vh
    if m > n:
        part = gu / s[..., None, :]
        part = part if used is None else np.where(used[..., None, :], part, 0.0)
        total = total + (part - u @ (u.mT @ part)) @ vh
    elif n > m:
        part = gvh / s[..., :, None]
        part = part if used is None else np.where(used[..., :, None], part, 0.0)
        total = total + u @ (part - (part @ vh.mT) @ vh)
    return total


def _singular_values_vjp(g: Any, y: Any, a: Any, packed: Any) -> Any:
    u, _, vh = _svd_parts(packed, *a.shape[-2:])
    return (u * g[..., None, :]) @ vh


_RECTANGLES: tuple[tuple[tuple[Shape, ...], dict[str, Any]], ...] = (
    (((3, 3),), {}),
    (((4, 2),), {}),
    (((2, 2, 3),), {}),
)
_matrix_row(
    "svd",
    _svd,
    (_svd_vjp,),
    lambda a: (*a[:-2], min(a[-2:]) * (a[-2] + 1 + a[-1])),
    _RECTANGLES,
    code=lambda y, args, params: (
        f"{y} = np.concatenate([part.reshape((*{args[0]}.shape[:-2], -1)) "
        f"for part in np.linalg.svd({args[0]}, full_matrices=False)], -1)"
    ),
    kink=lambda y, a: _singular_kink(_svd_parts(y, *a.shape[-2:])[1]),
)
_matrix_row(
    "svdvals",
    lambda a: np.linalg.svd(a, compute_uv=False),
    (lambda g, y, a: _singular_values_vjp(g, y, a, apply("svd", a)),),
    lambda a: (*a[:-2], min(a[-2:])),
    _RECTANGLES,
    code="np.linalg.svd({0}, compute_uv=False)",
    kink=lambda y, a: _singular_kink(y),
)
_matrix_row(
    "singular_values",
    lambda a, packed: _svd_parts(packed, *a.shape[-2:])[1],
    (_singular_values_vjp, None),
    lambda a, packed: (*a[:-2], min(a[-2:])),
    code=lambda y, args, params: (
        f"{y} = (lambda m, n: {args[1]}[..., m * min(m, n) : (m + 1) * min(m, n)])(*{args[0]}.shape[-2:])"
    ),
)


@implements(np.linalg.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    a = _real_matrices("svd", a)
    if hermitian:
        refuse("linalg.svd", "hermitian", hermitian)
    if not compute_uv:
        return apply("svdvals", a)
    m, n = a.shape[-2:]
    if full_matrices and m != n:
        raise untraceable(
            "np.linalg.svd of a rectangular matrix completes its singular vectors in an arbitrary way",
            "pass full_matrices=False",
        )
    packed = apply("svd", a)
    u, _, vh = _svd_parts(packed, m, n)
    return _result_type(np.linalg.svd)(u, apply("singular_values", a, packed), vh)


@implements(np.linalg.svdvals)
def svdvals(x: Any, /) -> Any:
    return apply("svdvals", _real_matrices("svdvals", x))


@implements(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Any:
    x = _real_matrices("cond", x)
    if p is None or p in (2, -2):
        s = apply("svdvals", x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return norm(x, p, axis=(-2, -1)) * norm(apply("inv", x), p, axis=(-2, -1))


# --- rectangular systems
def _rank(a: Any, rcond: Any) -> Any:
    s = np.linalg.svd(a, compute_uv=False)
    return np.sum(s > rcond * np.max(s, axis=-1, keepdims=True, initial=0.0), axis=-1)


def _default_rcond(a: Any) -> float:
    return float(max(a.shape[-2:]) * np.finfo(a.dtype).eps)


def _pinv_vjp(g: Any, y: Any, a: Any, *, rcond: float) -> Any:
    """Golub and Pereyra, "The differentiation of pseudo-inverses", 1973, at constant rank."""
    total = -(y.mT @ g @ y.mT)
    gt, outer_left, outer_right = g.mT, y @ y.mT, y.mT @ y
    total = total + (gt - a @ (y @ gt)) @ outer_left
    return total + outer_right @ (gt - (gt @ y) @ a)


_matrix_row(
    "pinv",
    lambda a, *, rcond: np.linalg.pinv(a, rcond),
    (_pinv_vjp,),
    lambda a, *, rcond: (*a[:-2], a[-1], a[-2]),
    tuple((shapes, {"rcond": 1e-6}) for shapes, _ in _RECTANGLES),
    code=lambda y, args, params: f"{y} = np.linalg.pinv({args[0]}, {params['rcond']!r})",
    kink=lambda y, a, *, rcond: bool(np.any(_rank(a, rcond) < min(a.shape[-2:]))),
)


@implements(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    a = _real_matrices("pinv", a)
    if hermitian:
        refuse("linalg.pinv", "hermitian", hermitian)
    given = rcond if rtol is None or rtol is np._NoValue else rtol
    # NumPy's own defaults: rcond is 1e-15 (2.0 to 2.x) if neither is given
    return apply("pinv", a, rcond=1e-15 if given is None else float(given))


_matrix_row(
    "matrix_rank",
    lambda a, *, tol: np.linalg.matrix_rank(a, tol),
    (),
    lambda a, *, tol: a[:-2],
    code=lambda y, args, params: f"{y} = np.linalg.matrix_rank({args[0]}, {params['tol']!r})",
    dtype=lambda a: np.intp,
)


@implements(np.linalg.matrix_rank)
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    if hermitian or rtol is not None:
        refuse("linalg.matrix_rank", "hermitian or rtol", "given")
    return apply("matrix_rank", _matrices(A), tol=None if tol is None else float(tol))


@implements(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    a, b = _real_matrices("lstsq", a), _real_matrices("lstsq", b)
    rcond = _default_rcond(a) if rcond is None else float(np.finfo(a.dtype).eps) if rcond == -1 else float(rcond)
    m, n = a.shape
    s = apply("svdvals", a)
    rank = np.sum(s > rcond * s[0])
    x = apply("pinv", a, rcond=rcond) @ b
    full = bool(rank == n) and m > n
    residuals = np.sum((b - a @ x) ** 2, axis=0, keepdims=b.ndim == 1) if full else np.zeros(0, s.dtype)
    return x, residuals, rank, s


# --- orthogonal factors
def _qr(a: Any) -> Any:
    return np.concatenate(np.linalg.qr(a), -2)


def _qr_vjp(g: Any, y: Any, a: Any) -> Any:
    """(gQ + Q copyltu(M)) R⁻ᵀ with M = R gRᵀ − gQᵀ Q (Walter and Lehmann, 2018)."""
    m = a.shape[-2]
    q, r, gq, gr = y[..., :m, :], y[..., m:, :], g[..., :m, :], np.triu(g[..., m:, :])
    inner = r @ gr.mT - gq.mT @ q
    lower = _half_lower(inner)
    return apply("solve", r, (gq + q @ (lower + lower.mT)).mT).mT


_matrix_row(
    "qr",
    _qr,
    (_qr_vjp,),
    lambda a: (*a[:-2], a[-2] + a[-1], a[-1]),
    ((((3, 3),), {}), (((4, 2),), {}), (((2, 3, 2),), {})),
    code="np.concatenate(np.linalg.qr({0}), -2)",
    kink=lambda y, a: bool(np.any(_rank(a, _default_rcond(a)) < a.shape[-1])),
)


@implements(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    a = _real_matrices("qr", a)
    m, n = a.shape[-2:]
    if mode not in ("reduced", "r") and not (mode == "complete" and m <= n):
        refuse("linalg.qr", "mode", mode)
    k = min(m, n)
    y = apply("qr", a[..., :k])  # the columns beyond the square are turned by the same Q
    q, r = y[..., :m, :], np.triu(y[..., m:, :])
    if n > m:
        r = np.concatenate([r, q.mT @ a[..., k:]], -1)
    return r if mode == "r" else _result_type(np.linalg.qr)(q, r)


# --- norms
def _norm(x: Any, *, p: float, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    if p == 2 and (axis is None or len(axis) <= 2):
        where = axis[0] if axis is not None and len(axis) == 1 else axis
        return np.linalg.norm(x, axis=where, keepdims=keepdims)
    sizes = np.absolute(x)
    return np.sum(sizes**p, axis=axis, keepdims=keepdims) ** (1.0 / p)


def _norm_vjp(g: Any, y: Any, x: Any, *, p: float, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    g, y = (expand(v, x.shape, axis, keepdims) for v in (g, y))
    if p == 2:
        return g * apply("quotient_or_zero", conjugated(x), y)
    return g * apply("quotient_or_zero", np.absolute(x), y) ** (p - 1.0) * apply("sign", x)


def _norm_kink(y: Any, x: Any, *, p: float, axis: tuple[int, ...] | None, keepdims: bool) -> bool:
    return bool(np.any(y == 0) or (p <= 1 and np.any(x == 0)))


def _norm_code(y: str, args: Sequence[str], params: dict[str, Any]) -> str:
    axis, p = params["axis"], params["p"]
    rest = (f", axis={axis}" if axis is not None else "") + (", keepdims=True" if params["keepdims"] else "")
    power = f"(np.abs({args[0]}) ** {p!r})" if p != 2 else f"(np.abs({args[0]}) ** 2)"
    return f"{y} = np.sum({power[1:-1]}{rest}) ** {1.0 / p!r}"


add_row(
    Op(
        "norm",
        _norm,
        (_norm_vjp,),
        shape=lambda x, *, p, axis, keepdims: reduced_shape(x, axis=axis, keepdims=keepdims),
        code=_norm_code,
        domain=(ANY,),
        examples=(
            (((4,),), {"p": 2, "axis": None, "keepdims": False}),
            (((2, 3),), {"p": 2, "axis": (1,), "keepdims": True}),
            (((2, 3, 2),), {"p": 2, "axis": (0, 2), "keepdims": False}),
            (((2, 3),), {"p": 3.0, "axis": None, "keepdims": False}),
            (((2, 3),), {"p": 2.5, "axis": (0,), "keepdims": False}),
        ),
        kink=_norm_kink,
        dtype=lambda x: x.type(0).real.dtype,
    )
)


def _vector_norm(x: Any, p: Any, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    if p == 2:
        return apply("norm", x, p=2, axis=axis, keepdims=keepdims)
    sizes = np.absolute(x)
    if p == math.inf:
        return np.max(sizes, axis=axis, keepdims=keepdims)
    if p == -math.inf:
        return np.min(sizes, axis=axis, keepdims=keepdims)
    if p == 0:
        return np.sum((x != 0).astype(sizes.dtype), axis=axis, keepdims=keepdims)
    if p == 1:
        return np.sum(sizes, axis=axis, keepdims=keepdims)
    if isinstance(p, str) or not isinstance(p, int | float | np.integer | np.floating):
        raise ValueError(f"Invalid norm order '{p}' for vectors")
    return apply("norm", sizes, p=float(p), axis=axis, keepdims=keepdims)


def _matrix_norm(x: Any, p: Any, rows: int, columns: int, keepdims: bool) -> Any:
    if p is None or p in ("fro", "f"):
        return apply("norm", x, p=2, axis=tuple(sorted((rows, columns))), keepdims=keepdims)
    if p in ("nuc", 2, -2):
        s = svdvals(np.moveaxis(x, (rows, columns), (-2, -1)))
        y = np.sum(s, axis=-1) if p == "nuc" else s[..., 0] if p == 2 else s[..., -1]
    elif p in (1, -1, math.inf, -math.inf):
        first, second = (rows, columns) if abs(p) == 1 else (columns, rows)
        sums = np.sum(np.absolute(x), axis=first)
        left = second - (first < second)
        y = np.max(sums, axis=left) if p > 0 else np.min(sums, axis=left)
    else:
        raise ValueError("Invalid norm order for matrices.")
    return np.expand_dims(y, tuple(sorted((rows, columns)))) if keepdims else y


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = _matrices(x)
    if axis is None and (ord is None or (ord in ("f", "fro") and x.ndim == 2) or (ord == 2 and x.ndim == 1)):
        return _vector_norm(x, 2, None, keepdims)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if len(axes) == 1:
        return _vector_norm(x, 2 if ord is None else ord, axes_of(axes, x.ndim), keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    rows, columns = (i % x.ndim for i in axes)
    return _matrix_norm(x, ord, rows, columns, keepdims)


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    x = _matrices(x)
    return _vector_norm(x, ord, axes_of(axis, x.ndim), keepdims)


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    x = _matrices(x)
    return _matrix_norm(x, ord, x.ndim - 2, x.ndim - 1, keepdims)


# --- products, under the names of the array API
@implements(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    parts = [array(a) for a in arrays]
    if len(parts) < 2:
        raise ValueError("Expecting at least two arrays.")
    first, last = parts[0].ndim == 1, parts[-1].ndim == 1
    parts[0] = parts[0][None, :] if first else parts[0]
    parts[-1] = parts[-1][:, None] if last else parts[-1]
    sizes = [parts[0].shape[0], *(part.shape[1] for part in parts)]

    @functools.cache
    def cheapest(i: int, j: int) -> tuple[int, int]:
        """Return (multiplications, where the last product splits) of parts i to j."""
        if i == j:
            return 0, i
        price = sizes[i] * sizes[j + 1]
        return min((cheapest(i, k)[0] + cheapest(k + 1, j)[0] + price * sizes[k + 1], k) for k in range(i, j))

    def product(i: int, j: int) -> Any:
        k = cheapest(i, j)[1]
        return parts[i] if i == j else product(i, k) @ product(k + 1, j)

    y = product(0, len(parts) - 1)
    y = y[0] if first else y
    y = y[..., 0] if last else y
    return finish(y, None, out)


implements(np.linalg.diagonal)(lambda x, /, *, offset=0: diagonal(x, offset, -2, -1))
implements(np.linalg.trace)(lambda x, /, *, offset=0, dtype=None: np.trace(x, offset, -2, -1, dtype))
implements(np.linalg.outer)(lambda x1, x2, /: outer(x1, x2))
implements(np.linalg.cross)(lambda x1, x2, /, *, axis=-1: cross(x1, x2, axis=axis))
implements(np.linalg.matmul)(lambda x1, x2, /: apply("matmul", array(x1), array(x2)))
implements(np.linalg.matrix_transpose)(lambda x, /: x.mT)
implements(np.linalg.tensordot)(lambda x1, x2, /, *, axes=2: tensordot(x1, x2, axes))


@implements(np.linalg.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return np.sum(conjugated(array(x1)) * array(x2), axis=axis)


if hasattr(np, "matvec"):  # NumPy 2.2

    @implements(np.matvec)
    def matvec(x1: Any, x2: Any) -> Any:
        return (array(x1) @ array(x2)[..., None])[..., 0]

    @implements(np.vecmat)
    def vecmat(x1: Any, x2: Any) -> Any:
        return (conjugated(array(x1))[..., None, :] @ array(x2))[..., 0, :]
