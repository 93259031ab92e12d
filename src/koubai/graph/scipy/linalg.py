"""Linear algebra after ``scipy.linalg``: what it has beside ``np.linalg``, or reads in another way.

Here a triangle is read where SciPy reads one, so the derivative of the other is zero; what an option leaves to chance
(overwriting an argument) is not done. As SciPy does, a function that checks refuses inf and nan by a ValueError, unless
check_finite is False. Matrices come one by one: stacks are refused. Decompositions follow the conventions of
graph/numpy/linalg.py: signs of vectors are LAPACK's, and a repeated eigenvalue has no vectors' derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy import linalg as np_linalg
from koubai.graph.numpy.arguments import array
from koubai.graph.numpy.indexing import take
from koubai.graph.numpy.joining import concatenate
from koubai.graph.numpy.linalg import eigenvalue_kink, eigenvalues_vjp, eigh_vjp
from koubai.graph.numpy.products import diagonal, tril, triu
from koubai.graph.ops import ANY, Op, add_row, apply
from koubai.graph.twins import Twins
from koubai.graph.user_code import untraceable

__all__ = ["standin"]

_TWINS = Twins("scipy.linalg")
linalg = _TWINS.module
standin = _TWINS.standin


def _matrix(function: str, a: Any, check_finite: bool = True, square: bool = True) -> Any:
    """Return a real matrix in floating point."""
    a = array(a)
    a = a.astype(np.float64) if a.dtype.kind in "biu" else a
    if a.dtype.kind == "c":
        fix = "write it for the real matrix [[Re, -Im], [Im, Re]], or pass method='central'"
        raise untraceable(f"scipy.linalg.{function} of a complex matrix has no rule here", fix)
    if a.ndim != 2:
        if a.ndim > 2:
            raise untraceable(
                f"scipy.linalg.{function} of a stack of matrices has no rule here",
                "take them one by one" + (f", or use np.linalg.{function}" if hasattr(np.linalg, function) else ""),
            )
        raise ValueError(f"Expected a matrix, got an array of shape {a.shape}")
    if square and a.shape[0] != a.shape[1]:
        raise ValueError(f"Expected a square matrix, got shape {a.shape}")
    _check(a, check_finite)
    return a


def _right(b: Any, check_finite: bool, length: int) -> tuple[Any, bool]:
    """Return the right-hand sides as columns, and whether there was one vector."""
    b = array(b)
    b = b.astype(np.float64) if b.dtype.kind in "biu" else b
    if not b.ndim or b.shape[0] != length or b.ndim > 2:
        raise ValueError(f"Input a and b must be compatible: b has shape {b.shape}, a has {length} rows")
    _check(b, check_finite)
    return (b[:, None], True) if b.ndim == 1 else (b, False)


def _check(a: Any, check_finite: bool) -> None:
    if check_finite and not np.all(np.isfinite(a)):
        raise ValueError("array must not contain infs or NaNs")


def _row(
    name: str,
    call: Callable[..., Any],
    vjp: Sequence[Callable[..., Any] | None],
    shape: Callable[..., Any],
    code: str | Callable[..., str],
    examples: Sequence[tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = (),
    **more: Any,
) -> None:
    domain = more.pop("domain", (ANY,) * len(vjp))
    add_row(
        Op(
            f"linalg.{name}",
            call,
            tuple(vjp),
            shape=shape,
            code=code,
            domain=domain,
            examples=tuple(examples),
            **more,
        )
    )


# --- triangular systems
def _flipped(a: Any, b: Any, lower: bool) -> Any:
    return apply("linalg.solve_triangular", a.mT, b, lower=not lower)


def _triangular_vjp(g: Any, y: Any, a: Any, b: Any, *, lower: bool) -> Any:
    outer = -(_flipped(a, g, lower) @ y.mT)
    return tril(outer) if lower else triu(outer)


_row(
    "solve_triangular",
    lambda a, b, *, lower: linalg.solve_triangular(a, b, lower=lower, check_finite=False),
    (_triangular_vjp, lambda g, y, a, b, *, lower: _flipped(a, g, lower)),
    lambda a, b, *, lower: b,
    lambda y, args, params: f"{y} = linalg.solve_triangular({args[0]}, {args[1]}, lower={params['lower']})",
    ((((3, 3), (3, 2)), {"lower": True}), (((2, 2), (2, 1)), {"lower": False})),
    domain=((0.5, 2.0), ANY),
)


def _transposed(function: str, trans: Any) -> bool:
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise ValueError(f"{function}: trans must be 0, 1, 2, 'N', 'T' or 'C', got {trans!r}")
    return trans not in (0, "N")


def _triangular(a: Any, b: Any, lower: bool, transposed: bool = False, unit: bool = False) -> Any:
    if unit:
        n = a.shape[0]
        a = np.where(np.eye(n, dtype=np.bool_), 1.0, a)
    if transposed:
        a, lower = a.mT, not lower
    return apply("linalg.solve_triangular", a, b, lower=bool(lower))


@_TWINS.of("solve_triangular")
def solve_triangular(
    a: Any,
    b: Any,
    trans: Any = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    a = _matrix("solve_triangular", a, check_finite)
    b, vector = _right(b, check_finite, a.shape[0])
    y = _triangular(a, b, lower, _transposed("solve_triangular", trans), unit_diagonal)
    return y[:, 0] if vector else y


# --- systems of equations
def _symmetric(a: Any, lower: bool) -> Any:
    """The symmetric matrix that one triangle tells."""
    n = a.shape[0]
    half = tril(a) if lower else triu(a)
    return half + half.mT - np.where(np.eye(n, dtype=np.bool_), half, 0.0)


def _band(a: Any, width: int) -> Any:
    places = np.arange(a.shape[0])
    return np.where(np.absolute(places[:, None] - places[None, :]) <= width, a, 0.0)


def _structured(function: str, a: Any, b: Any, assume_a: Any, lower: bool, transposed: bool) -> Any:
    """Solve a y = b, reading of a what SciPy reads."""
    if assume_a in (None, "gen", "general", "banded"):
        return apply("solve", a.mT if transposed else a, b)
    if assume_a in ("sym", "symmetric", "her", "hermitian"):
        return apply("solve", _symmetric(a, lower), b)
    if assume_a in ("pos", "positive definite"):
        root = _cholesky(a, lower)
        return _cholesky_solve(root, b, lower)
    if assume_a == "diagonal":
        return b / diagonal(a)[:, None]
    if assume_a == "tridiagonal":
        return apply("solve", _band(a.mT if transposed else a, 1), b)
    if assume_a in ("upper triangular", "lower triangular"):
        return _triangular(a, b, assume_a == "lower triangular", transposed)
    raise _TWINS.refusal(function, "assume_a", assume_a)


@_TWINS.of("solve")
def solve(
    a: Any,
    b: Any,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    assume_a: Any = None,
    transposed: bool = False,
) -> Any:
    a = _matrix("solve", a, check_finite)
    b, vector = _right(b, check_finite, a.shape[0])
    y = _structured("solve", a, b, assume_a, lower, transposed)
    return y[:, 0] if vector else y


@_TWINS.of("inv")
def inv(
    a: Any, overwrite_a: bool = False, check_finite: bool = True, *, assume_a: Any = None, lower: bool = False
) -> Any:
    a = _matrix("inv", a, check_finite)
    if assume_a in (None, "gen", "general"):
        return apply("inv", a)
    return _structured("inv", a, np.eye(a.shape[0], dtype=a.dtype), assume_a, lower, False)


@_TWINS.of("det")
def det(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    return apply("det", _matrix("det", a, check_finite).astype(np.float64, copy=False))  # as SciPy's answer is


@_TWINS.of("pinv")
def pinv(a: Any, *, atol: Any = None, rtol: Any = None, return_rank: bool = False, check_finite: bool = True) -> Any:
    a = _matrix("pinv", a, check_finite, square=False)
    if atol is not None:
        _TWINS.refuse("pinv", "atol", atol)
    rcond = float(max(a.shape) * np.finfo(a.dtype).eps if rtol is None else rtol)
    y = apply("pinv", a, rcond=rcond)
    if not return_rank:
        return y
    s = apply("svdvals", a)
    return y, int(np.sum(s > rcond * s[0]))


@_TWINS.of("lstsq")
def lstsq(
    a: Any,
    b: Any,
    cond: Any = None,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    lapack_driver: Any = None,
) -> Any:
    a = _matrix("lstsq", a, check_finite, square=False)
    b, vector = _right(b, check_finite, a.shape[0])
    if lapack_driver == "gelsy":
        _TWINS.refuse("lstsq", "lapack_driver", lapack_driver)
    m, n = a.shape
    cond = float(np.finfo(a.dtype).eps if cond is None else cond)
    s = apply("svdvals", a)
    rank = int(np.sum(s > cond * s[0]))
    x = apply("pinv", a, rcond=cond) @ b
    left = np.sum((b - a @ x) ** 2, axis=0) if rank == n and m > n else np.zeros(0)
    if vector:
        x, left = x[:, 0], left[0] if rank == n and m > n else left
    return x, left, rank, s


# --- Cholesky
def _cholesky(a: Any, lower: bool) -> Any:
    return apply("cholesky", a) if lower else apply("cholesky", a.mT).mT


def _cholesky_solve(root: Any, b: Any, lower: bool) -> Any:
    return _triangular(root, _triangular(root, b, lower, not lower), lower, lower)


@_TWINS.of("cholesky")
def cholesky(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    return _cholesky(_matrix("cholesky", a, check_finite), lower)


@_TWINS.of("cho_factor")
def cho_factor(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    a = _matrix("cho_factor", a, check_finite)
    root = _cholesky(a, lower)
    return (root + (triu(a, 1) if lower else tril(a, -1))), lower  # the other triangle is as it was, as in SciPy


@_TWINS.of("cho_solve")
def cho_solve(c_and_lower: Any, b: Any, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    c, lower = c_and_lower
    c = _matrix("cho_solve", c, check_finite)
    b, vector = _right(b, check_finite, c.shape[0])
    y = _cholesky_solve(c, b, bool(lower))
    return y[:, 0] if vector else y


# --- LU, with the pivots as they are at the point: they are constant around it
def _lu_vjp(g: Any, y: Any, a: Any, piv: Any) -> Any:
    """P L⁻ᵀ (tril(Lᵀ gL, −1) + triu(gU Uᵀ)) U⁻ᵀ for a = P L U."""
    unit = np.eye(a.shape[0], dtype=a.dtype)
    left, right = tril(y, -1) + unit, triu(y)
    inner = tril(left.mT @ tril(g, -1), -1) + triu(triu(g) @ right.mT)
    inner = apply("linalg.solve_triangular", left.mT, inner, lower=False)
    inner = apply("linalg.solve_triangular", right, inner.mT, lower=False).mT
    return take(inner, np.argsort(apply("linalg.permutation", piv)), 0)


def _permutation(piv: Any) -> Any:
    order = np.arange(piv.shape[0])
    for i, j in enumerate(piv):
        order[i], order[j] = order[j], order[i]
    return order


_row(
    "pivots",
    lambda a: np.asarray(linalg.lu_factor(a, check_finite=False)[1]),
    (),
    lambda a: a[:1],
    "linalg.lu_factor({0})[1]",
    dtype=lambda a: linalg.lu_factor(np.eye(1))[1].dtype,
)
_row(
    "permutation",
    _permutation,
    (),
    lambda piv: piv,
    "(lambda p: [p.__setitem__([i, j], p[[j, i]]) for i, j in enumerate({0})] and p)(np.arange(len({0})))",
    dtype=lambda piv: np.intp,
)
_row(
    "lu_factor",
    lambda a, piv: linalg.lu_factor(a, check_finite=False)[0],
    (_lu_vjp, None),
    lambda a, piv: a,
    "linalg.lu_factor({0})[0]",
    dtype=lambda a, piv: a,
)


@_TWINS.of("lu_factor")
def lu_factor(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    a = _matrix("lu_factor", a, check_finite)
    piv = apply("linalg.pivots", a)
    return apply("linalg.lu_factor", a, piv), piv


@_TWINS.of("lu_solve")
def lu_solve(lu_and_piv: Any, b: Any, trans: Any = 0, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    lu, piv = lu_and_piv
    lu = _matrix("lu_solve", lu, check_finite)
    b, vector = _right(b, check_finite, lu.shape[0])
    order = apply("linalg.permutation", piv)
    if _transposed("lu_solve", trans):
        y = _triangular(lu, _triangular(lu, b, False, True), True, True, unit=True)
        y = take(y, np.argsort(order), 0)
    else:
        y = _triangular(lu, _triangular(lu, take(b, order, 0), True, unit=True), False)
    return y[:, 0] if vector else y


@_TWINS.of("lu")
def lu(
    a: Any,
    permute_l: bool = False,
    overwrite_a: bool = False,
    check_finite: bool = True,
    p_indices: bool = False,
) -> Any:
    a = _matrix("lu", a, check_finite)
    piv = apply("linalg.pivots", a)
    packed = apply("linalg.lu_factor", a, piv)
    left, right = tril(packed, -1) + np.eye(a.shape[0], dtype=a.dtype), triu(packed)
    back = np.argsort(apply("linalg.permutation", piv))  # row i of a is row back[i] of L U
    if permute_l:
        return take(left, back, 0), right
    return (back if p_indices else np.eye(a.shape[0], dtype=a.dtype)[back]), left, right


# --- orthogonal factors and singular values
@_TWINS.of("qr")
def qr(
    a: Any,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> Any:
    a = _matrix("qr", a, check_finite, square=False)
    m, n = a.shape
    if pivoting:
        _TWINS.refuse("qr", "pivoting", pivoting)
    if mode not in ("full", "r", "economic"):
        _TWINS.refuse("qr", "mode", mode)
    if m > n and mode == "full":
        raise untraceable(
            "scipy.linalg.qr of a tall matrix completes Q in an arbitrary way", "pass mode='economic' or mode='r'"
        )
    q, r = np_linalg.qr(a)
    if mode == "r":
        return (concatenate([r, np.zeros((m - n, n), r.dtype)], 0) if m > n else r,)
    return q, r


@_TWINS.of("svd")
def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    a = _matrix("svd", a, check_finite, square=False)
    if lapack_driver != "gesdd":
        _TWINS.refuse("svd", "lapack_driver", lapack_driver)
    if not compute_uv:
        return apply("svdvals", a)
    return tuple(np_linalg.svd(a, full_matrices))


@_TWINS.of("svdvals")
def svdvals(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    return apply("svdvals", _matrix("svdvals", a, check_finite, square=False))


# --- eigenvalues of symmetric matrices: SciPy's own call, since the signs of its vectors are not NumPy's
def _eigh(a: Any, *, lower: bool = True) -> Any:
    w, v = linalg.eigh(a if lower else a.T, lower=lower, check_finite=False)
    return np.concatenate([w[None, :], v])


_row(
    "eigh",
    _eigh,
    (eigh_vjp,),
    lambda a, **how: (a[0] + 1, a[1]),
    lambda y, args, params: (
        f"{y} = (lambda w, v: np.concatenate([w[None, :], v]))"
        f"(*linalg.eigh({args[0]}{'.T, lower=False' if params else ''}))"
    ),
    ((((3, 3),), {}), (((4, 4),), {"lower": False})),
    kink=lambda y, a, **how: eigenvalue_kink(y[0]),
)
_row(
    "eigvalsh",
    lambda a: linalg.eigvalsh(a, check_finite=False),
    (lambda g, y, a: eigenvalues_vjp(g, y, a, apply("linalg.eigh", a)),),
    lambda a: a[:1],
    "linalg.eigvalsh({0})",
    ((((3, 3),), {}),),
    kink=lambda y, a: eigenvalue_kink(y),
)


def _spectral(function: str, a: Any, b: Any, lower: bool, kind: int, check_finite: bool, **options: Any) -> Any:
    """Return the symmetric matrix whose eigenvalues are wanted, and the root of b, if there is one."""
    for name, value in options.items():
        if value is not None:
            _TWINS.refuse(function, name, value)
    a = _matrix(function, a, check_finite)
    a = a if lower else a.mT  # the lower triangle is read from here on
    if b is None:
        return a, None
    b = _matrix(function, b, check_finite)
    root = apply("cholesky", b if lower else b.mT)
    if kind == 1:  # a v = w b v
        inner = apply("linalg.solve_triangular", root, _symmetric(a, True), lower=True)
        return apply("linalg.solve_triangular", root, inner.mT, lower=True), root
    return root.mT @ _symmetric(a, True) @ root, root


@_TWINS.of("eigh")
def eigh(
    a: Any,
    b: Any = None,
    *,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    type: int = 1,
    check_finite: bool = True,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
    driver: Any = None,
) -> Any:
    if eigvals_only:
        return eigvalsh(
            a,
            b,
            lower=lower,
            type=type,
            check_finite=check_finite,
            subset_by_index=subset_by_index,
            subset_by_value=subset_by_value,
            driver=driver,
        )
    if b is not None:
        raise untraceable(
            "the eigenvectors of scipy.linalg.eigh with b have no rule here",
            "pass eigvals_only=True, or reduce it by the Cholesky factor of b",
        )
    a, _ = _spectral(
        "eigh",
        a,
        None,
        lower,
        type,
        check_finite,
        subset_by_index=subset_by_index,
        subset_by_value=subset_by_value,
        driver=None if driver == "evr" else driver,
    )
    packed = apply("linalg.eigh", a) if lower else apply("linalg.eigh", a, lower=False)
    return apply("eigenvalues", a, packed), packed[1:]


@_TWINS.of("eigvalsh")
def eigvalsh(
    a: Any,
    b: Any = None,
    *,
    lower: bool = True,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    type: int = 1,
    check_finite: bool = True,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
    driver: Any = None,
) -> Any:
    a, _ = _spectral("eigvalsh", a, b, lower, type, check_finite, subset_by_value=subset_by_value)
    w = apply("linalg.eigvalsh", a)
    return w if subset_by_index is None else w[int(subset_by_index[0]) : int(subset_by_index[1]) + 1]


@_TWINS.of("eig")
def eig(
    a: Any,
    b: Any = None,
    left: bool = False,
    right: bool = True,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    homogeneous_eigvals: bool = False,
) -> Any:
    for name, value in {"b": b, "left": left, "homogeneous_eigvals": homogeneous_eigvals}.items():
        if value is not None and value is not False:
            _TWINS.refuse("eig", name, value)
    w, v = np_linalg.eig(_matrix("eig", a, check_finite))
    w = w.astype(np.result_type(w.dtype, np.complex64))  # which they are in SciPy in any case
    return (w, v) if right else w


@_TWINS.of("eigvals")
def eigvals(
    a: Any,
    b: Any = None,
    overwrite_a: bool = False,
    *options: bool,
    overwrite_b: bool = False,
    check_finite: bool = True,
    homogeneous_eigvals: bool = False,
) -> Any:
    if b is not None or homogeneous_eigvals or options:  # SciPy 1.18 has put one of them between
        _TWINS.refuse("eigvals", "b or homogeneous_eigvals", "given")
    w = np_linalg.eigvals(_matrix("eigvals", a, check_finite))
    return w.astype(np.result_type(w.dtype, np.complex64))


# --- functions of matrices
def _matrix_function(name: str, domain: tuple[float, float]) -> None:
    """Enter a function whose derivative is a block of it: f([[a, e], [0, a]]) holds the derivative of f along e.

    Mathias, "A chain rule for matrix functions and applications", SIAM J. Matrix Anal. Appl. 1996.
    """
    original = getattr(linalg, name)

    def call(a: Any) -> Any:
        y = original(a)
        if y.dtype.kind == "c":
            if np.any(y.imag != 0):
                reason = f"scipy.linalg.{name} of this matrix is complex, which has no rule here"
                raise untraceable(reason, "take its real part by another formula, or pass method='central'")
            y = y.real
        return y.astype(a.dtype, copy=False)

    def vjp(g: Any, y: Any, a: Any) -> Any:
        n = a.shape[0]
        upper = concatenate([a.mT, g], 1)
        lower = concatenate([np.zeros((n, n), a.dtype), a.mT], 1)
        return apply(f"linalg.{name}", concatenate([upper, lower], 0))[:n, n:]

    examples: tuple[Any, ...] = ((((2, 2),), {}),) if name in ("expm", "sinm", "cosm") else ()
    code = f"linalg.{name}({{0}})"
    _row(name, call, (vjp,), lambda a: a, code, examples, domain=(domain,))

    def twin(A: Any) -> Any:
        return apply(f"linalg.{name}", _matrix(name, A, check_finite=False))

    _TWINS.of(name)(twin)


for _name in ("expm", "logm", "sqrtm", "sinm", "cosm", "sinhm", "coshm", "tanm", "tanhm"):
    _matrix_function(_name, (-1.0, 1.0))


# --- matrices made of vectors
@_TWINS.of("block_diag")
def block_diag(*arrs: Any) -> Any:
    blocks = [array(a) for a in arrs]
    blocks = [a.reshape((1, -1)) if a.ndim < 2 else a for a in blocks]
    if any(a.ndim > 2 for a in blocks):
        _TWINS.refuse("block_diag", "arrs", "stacks of matrices")
    dtype = np.result_type(*(a.dtype for a in blocks))
    width = sum(a.shape[1] for a in blocks)
    rows, start = [], 0
    for a in blocks:
        m, n = a.shape
        before, after = np.zeros((m, start), dtype), np.zeros((m, width - start - n), dtype)
        rows.append(concatenate([before, a, after], 1, dtype=dtype))
        start += n
    return concatenate(rows, 0)


def _vector(function: str, c: Any) -> Any:
    c = array(c)
    if c.ndim > 1:
        _TWINS.refuse(function, "argument", f"an array of shape {c.shape}")
    return c.reshape((1,)) if c.ndim == 0 else c


@_TWINS.of("toeplitz")
def toeplitz(c: Any, r: Any = None) -> Any:
    c = _vector("toeplitz", c)
    r = c if r is None else _vector("toeplitz", r)
    line = concatenate([np.flip(r[1:]), c]) if r.shape[0] > 1 else c
    places = np.arange(c.shape[0])[:, None] - np.arange(r.shape[0])[None, :] + r.shape[0] - 1
    return take(line, places, 0)


@_TWINS.of("circulant")
def circulant(c: Any) -> Any:
    c = _vector("circulant", c)
    n = c.shape[0]
    return take(c, (np.arange(n)[:, None] - np.arange(n)[None, :]) % n, 0)


@_TWINS.of("hankel")
def hankel(c: Any, r: Any = None) -> Any:
    c = _vector("hankel", c)
    r = np.zeros(c.shape[0], c.dtype) if r is None else _vector("hankel", r)
    line = concatenate([c, r[1:]])
    return take(line, np.arange(c.shape[0])[:, None] + np.arange(r.shape[0])[None, :], 0)


@_TWINS.of("companion")
def companion(a: Any) -> Any:
    a = _vector("companion", a)
    n = a.shape[0]
    if n < 2:
        raise ValueError("The length of `a` along the last axis must be at least 2.")
    first = (-a[1:] / a[0])[None, :]
    return concatenate([first, np.eye(n - 2, n - 1, dtype=first.dtype)], 0)


@_TWINS.of("kron")
def kron(a: Any, b: Any) -> Any:
    return np.kron(array(a), array(b))


# --- band matrices, in SciPy's diagonal ordered form: ab[u + i - j, j] is a[i, j]
def _shifted(v: Any, by: int) -> Any:
    """v[i + by], and 0 beyond the ends."""
    n = v.shape[0]
    by = max(-n, min(n, by))
    zeros = np.zeros((abs(by), *v.shape[1:]), v.dtype)
    return concatenate([v[by:], zeros], 0) if by >= 0 else concatenate([zeros, v[:by]], 0)


def _banded_vjp(g: Any, y: Any, ab: Any, b: Any, *, below: int, above: int) -> Any:
    inner = _banded_transposed(g, ab, below, above)
    rows = [-np.sum(_shifted(inner, r - above) * y, axis=1) for r in range(below + above + 1)]
    return np.stack(rows)


def _banded_transposed(g: Any, ab: Any, below: int, above: int) -> Any:
    """Solve with the transposed matrix, whose rows are those of ab in the other order, each moved along."""
    turned = np.stack([_shifted(ab[below + above - s], s - below) for s in range(below + above + 1)])
    return apply("linalg.solve_banded", turned, g, below=above, above=below)


_row(
    "solve_banded",
    lambda ab, b, *, below, above: linalg.solve_banded((below, above), ab, b, check_finite=False),
    (_banded_vjp, lambda g, y, ab, b, *, below, above: _banded_transposed(g, ab, below, above)),
    lambda ab, b, *, below, above: b,
    lambda y, args, params: f"{y} = linalg.solve_banded(({params['below']}, {params['above']}), {args[0]}, {args[1]})",
)


@_TWINS.of("solve_banded")
def solve_banded(
    l_and_u: Any,
    ab: Any,
    b: Any,
    overwrite_ab: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    ab = _matrix("solve_banded", ab, check_finite, square=False)
    b, vector = _right(b, check_finite, ab.shape[1])
    below, above = (int(n) for n in l_and_u)
    if below + above + 1 != ab.shape[0]:
        raise ValueError(
            f"invalid values for the number of lower and upper diagonals: l+u+1 ({below + above + 1}) does not equal "
            f"ab.shape[0] ({ab.shape[0]})"
        )
    y = apply("linalg.solve_banded", ab, b, below=below, above=above)
    return y[:, 0] if vector else y


def _definite_banded_vjp(g: Any, y: Any, ab: Any, b: Any) -> Any:
    inner = apply("linalg.solveh_banded", ab, g)
    first = -np.sum(inner * y, axis=1)
    rows = [-np.sum(_shifted(inner, d) * y + inner * _shifted(y, d), axis=1) for d in range(1, ab.shape[0])]
    return np.stack([first, *rows])


_row(
    "solveh_banded",
    lambda ab, b: linalg.solveh_banded(ab, b, lower=True, check_finite=False),
    (_definite_banded_vjp, lambda g, y, ab, b: apply("linalg.solveh_banded", ab, g)),
    lambda ab, b: b,
    "linalg.solveh_banded({0}, {1}, lower=True)",
)


@_TWINS.of("solveh_banded")
def solveh_banded(
    ab: Any,
    b: Any,
    overwrite_ab: bool = False,
    overwrite_b: bool = False,
    lower: bool = False,
    check_finite: bool = True,
) -> Any:
    ab = _matrix("solveh_banded", ab, check_finite, square=False)
    b, vector = _right(b, check_finite, ab.shape[1])
    if not lower:
        u = ab.shape[0] - 1
        ab = np.stack([_shifted(ab[u - d], d) for d in range(u + 1)])
    y = apply("linalg.solveh_banded", ab, b)
    return y[:, 0] if vector else y


@_TWINS.of("solve_toeplitz")
def solve_toeplitz(c_or_cr: Any, b: Any, check_finite: bool = True) -> Any:
    c, r = c_or_cr if isinstance(c_or_cr, tuple) else (c_or_cr, None)
    return solve(toeplitz(c, r).astype(np.float64, copy=False), b, check_finite=check_finite)


@_TWINS.of("solve_circulant")
def solve_circulant(
    c: Any, b: Any, singular: str = "raise", tol: Any = None, caxis: int = -1, baxis: int = 0, outaxis: int = 0
) -> Any:
    if singular != "raise" or tol is not None or (caxis, baxis, outaxis) != (-1, 0, 0):
        _TWINS.refuse("solve_circulant", "singular, tol or an axis", "given")
    return solve(circulant(c), b)


# --- norms
@_TWINS.of("norm")
def norm(a: Any, ord: Any = None, axis: Any = None, keepdims: bool = False, check_finite: bool = True) -> Any:
    a = array(a)
    _check(a, check_finite)
    return np_linalg.norm(a, ord, axis, keepdims)
