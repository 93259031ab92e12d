"""Curvature: the extreme eigenvalues of a Hessian, by Lanczos on Hessian-vector products; no matrix is formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from koubai.derivatives.gradient import hvp
from koubai.errors import FunctionError, InputError, quiet
from koubai.parameters import FloatArray, flatten

__all__ = ["Curvature", "curvature", "extreme_eigenvalues", "hessian_product"]

DENSE = 12  # parameters up to which the Hessian is formed, column by column: Lanczos needs as many products
RTOL = 1e-4  # of the eigenvalues, relative to the larger of the two
MOST = 60  # products at most, beyond which what has been found so far is the answer


@dataclass(frozen=True, eq=False)
class Curvature:
    """The least and the largest eigenvalue of a symmetric matrix, and where they point.

    Attributes
    ----------
    smallest, largest : float
        The eigenvalues; for a Hessian the curvatures of f along their directions.
    lowest, highest : array, shape (n,)
        The directions, of length 1.
    error : float
        The largest residual |H v − λ v| of the two: an eigenvalue is within it of each.
    products : int
        Hessian-vector products that it took.
    """

    smallest: float
    largest: float
    lowest: FloatArray
    highest: FloatArray
    error: float
    products: int


def curvature(
    f: Callable[..., Any],
    x: Any,
    *,
    args: tuple[Any, ...] = (),
    scale: Any = None,
    gradient: Callable[[FloatArray], FloatArray] | None = None,
    seed: int = 0,
    most: int = MOST,
) -> Curvature:
    """Curvature: the extreme eigenvalues of the Hessian of f at x, or of P^½ ∇²f P^½ for a diagonal P.

        λ_min ≤ v·∇²f(x) v / v·v ≤ λ_max

    scale: the diagonal of P, in the form of x, none of it negative: the preconditioner of a rule x - lr * P g, whose
    largest stable rate follows from λ_max. gradient: a function of a flat x that returns the flat gradient, of which
    differences are taken instead of products by `koubai.hvp`. seed: of the first direction. most: products at most.
    Raises InputError for a scale that isn't one, FunctionError if a product is not finite.
    """
    layout, _ = flatten(x, "x")
    root = None
    if scale is not None:
        diagonal = layout.match(scale, "scale").astype(np.float64)
        if not (np.isfinite(diagonal) & (diagonal >= 0)).all():
            raise InputError(f"scale must be finite and ≥ 0 everywhere, got {scale!r}")
        root = np.sqrt(diagonal)
    product = hessian_product(f, x, args=args, gradient=gradient)

    def scaled(v: FloatArray) -> FloatArray:
        return product(v) if root is None else root * product(root * v)

    return extreme_eigenvalues(scaled, layout.size, most=most, seed=seed)


def hessian_product(
    f: Callable[..., Any],
    x: Any,
    *,
    args: tuple[Any, ...] = (),
    gradient: Callable[[FloatArray], FloatArray] | None = None,
) -> Callable[[FloatArray], FloatArray]:
    """Return the function v → ∇²f(x) v of flat vectors; the arguments are those of `curvature`."""
    layout, start = flatten(x, "x")
    if gradient is not None:
        return _differences(gradient, start)
    exact = hvp(f)

    def product(v: FloatArray) -> FloatArray:
        along = layout.view(v.astype(start.dtype))
        return layout.match(exact(layout.copy(start), along, *args), "the product").astype(np.float64)

    return product


def _differences(gradient: Callable[[FloatArray], FloatArray], x: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Return the product with the Hessian at x by central differences of the gradient."""
    step = float(np.finfo(x.dtype).eps) ** (1 / 3) * max(1.0, float(np.max(np.abs(x))))

    def product(v: FloatArray) -> FloatArray:
        size = float(np.linalg.norm(v))
        if size == 0:
            return np.zeros(v.size)
        h = (step / size * v).astype(x.dtype)
        ahead, behind = x + h, x - h
        change = np.asarray(gradient(ahead), np.float64) - np.asarray(gradient(behind), np.float64)
        return change / (float(np.linalg.norm(ahead - behind)) / size)

    return product


def extreme_eigenvalues(
    product: Callable[[FloatArray], FloatArray],
    n: int,
    *,
    most: int = MOST,
    towards: FloatArray | None = None,
    seed: int = 0,
) -> Curvature:
    """Extreme eigenvalues of the symmetric matrix whose products with vectors of length n ``product`` gives.

    By Lanczos with all vectors kept orthogonal, until both residuals are small or after ``most`` products. towards: a
    direction that the first vector leans to, since one of the two is thought to be near it.

    Lanczos, "An Iteration Method for the Solution of the Eigenvalue Problem of Linear Differential and Integral
    Operators", 1950; residuals: Parlett, "The Symmetric Eigenvalue Problem", 1998, section 13.2.
    """
    with quiet():
        if n <= min(DENSE, most):
            return _of_columns(product, n)
        v = np.random.default_rng(seed).normal(size=n)
        if towards is not None and (size := float(np.linalg.norm(towards))) > 0:
            v = v / np.linalg.norm(v) + towards / size
        return _by_lanczos(product, v, most)


def _of_columns(product: Callable[[FloatArray], FloatArray], n: int) -> Curvature:
    matrix = np.array([_finite(product(unit)) for unit in np.eye(n)])
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    error = float(np.max(np.abs(matrix - matrix.T)))
    return Curvature(float(values[0]), float(values[-1]), vectors[:, 0], vectors[:, -1], error, n)


def _by_lanczos(product: Callable[[FloatArray], FloatArray], v: FloatArray, most: int) -> Curvature:
    basis = [v / np.linalg.norm(v)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        w = _finite(product(basis[-1]))
        diagonal.append(float(w @ basis[-1]))
        kept = np.array(basis)
        for _ in range(2):  # once leaves a part of the order of rounding over |w|
            w = w - kept.T @ (kept @ w)
        beta, k = float(np.linalg.norm(w)), len(basis)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        error = beta * float(max(abs(vectors[-1, 0]), abs(vectors[-1, -1])))
        size = max(abs(values[0]), abs(values[-1]))
        if error <= RTOL * size or k >= min(v.size, most) or beta <= 1e-14 * size:
            lowest, highest = (kept.T @ vectors[:, i] for i in (0, -1))
            return Curvature(float(values[0]), float(values[-1]), lowest, highest, error, k)
        beside.append(beta)
        basis.append(w / beta)


def _finite(w: FloatArray) -> FloatArray:
    if not np.isfinite(w).all():
        i = int(np.flatnonzero(~np.isfinite(w))[0])
        raise FunctionError(f"the Hessian-vector product is {w[i]} in component {i}: f has no curvature there")
    return w
