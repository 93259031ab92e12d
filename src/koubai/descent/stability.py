"""The largest stable learning rate of a rule and its rate of convergence near a minimum, found from the rule itself.

There f is a parabola, and a rule that is linear in the gradient, or is so once its preconditioner stands still, is a
linear recurrence of its own in each direction of the parabola:

    (x, state) at t + 1  =  M(lr, curvature) · (x, state) at t

It converges if the spectral radius of M, the largest |eigenvalue|, is below 1, and f - f* shrinks by its square each
step in the end. M is measured by one update of each unit vector, so that no rule has a formula of its own here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.descent.default import remade, with_rate
from koubai.descent.optimizers import Optimizer
from koubai.errors import InputError, quiet
from koubai.parameters import FloatArray

__all__ = [
    "divides",
    "divisors",
    "fixed_bound",
    "has_recurrence",
    "preconditioner",
    "predicted_rate",
    "recurrence",
    "stability_bound",
]

SETTLED = 10**9  # a step number so late that nothing is left of any correction for the start
SMALL = 1e-100  # a unit so small that its square is nothing beside it, and exact where all else is 0
RANGE = (1e-3, 1e8)  # of lr × curvature in which the bound is looked for
GRID = 400
SPECTRUM = 64  # curvatures between the two extremes


def has_recurrence(optimizer: Optimizer) -> bool:
    """Return whether near a minimum the rule is linear in the gradient, perhaps after a division that stands still."""
    rule = optimizer.rule
    return rule.preconditioner is not None and rule.scope == "element" and not optimizer.hyperparameters.get("groups")


def divides(optimizer: Optimizer) -> bool:
    """Return whether the rule divides by something that it has seen, as Adam does by √v."""
    return bool(optimizer.rule.preconditioner)


def recurrence(optimizer: Optimizer, curvature: Any, lr: Any) -> FloatArray | None:
    """Return the matrix M of one update of (x, state), for each curvature; the rate may be one number or one for each.

    curvature: shape (k,), that of f where the rule is linear; of P^½ ∇²f P^½ where it divides by √v: P is the divisor
    with which a step is P times a step of the linear rule. Returns shape (k, s, s), or None if the rule has no such
    matrix: it is another kind of rule, or forgets its divisor at once (alpha=0), so that nothing ever stands still.
    """
    if not has_recurrence(optimizer):
        return None
    curvature = np.atleast_1d(np.asarray(curvature, np.float64))
    still = _settled(optimizer)
    divided = divisors(still, curvature.size)
    if divided is None:
        return None
    places = [i for i in range(len(divided)) if _is_linear(still, i, divided)]
    columns: list[FloatArray] = []
    with quiet():
        for unit in [None, *places]:
            state = list(divided)
            x = np.full(curvature.size, SMALL if unit is None else 0.0)
            if unit is not None:
                state[unit] = np.full(curvature.size, SMALL)
            x, after = still.step(x, curvature * x, tuple(state), SETTLED, lr)
            columns.append(np.stack([x, *(after[i] for i in places)], axis=1) / SMALL)
    matrices = np.stack(columns, axis=2)
    # A state from which no way leads to x, such as a mean that is only taken off a divisor, is no part of it.
    leads = np.abs(matrices).max(axis=0) > 0
    used = np.zeros(len(leads), dtype=bool)
    used[0] = True
    for _ in places:
        used |= leads[used].any(axis=0)
    return matrices[:, used][:, :, used]


def _settled(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer with nothing added to its divisor."""
    none = {
        name: 0.0
        for name, value in optimizer.rule.defaults.items()
        if name.startswith("eps") and isinstance(value, float)
    }
    return remade(optimizer, 1.0, **none) if none else optimizer


def divisors(optimizer: Optimizer, n: int) -> tuple[Any, ...] | None:
    """Return a state at rest whose divisors are 1 after the next update; None if they are forgotten at once."""
    state = [np.zeros(() if a.ndim == 0 else n) for a in optimizer.init(np.zeros(n))]
    names = optimizer.rule.state
    held = [i for i, name in enumerate(names) if name in (optimizer.rule.preconditioner or ()) and state[i].ndim]
    for i in held:
        state[i] = np.ones(n)
    with quiet():
        _, after = optimizer.step(np.zeros(n), np.zeros(n), tuple(state), SETTLED, 1.0)
    for i in held:
        if not (after[i] > 0).all():
            return None
        state[i] = 1 / after[i]
    return tuple(state)


def _is_linear(optimizer: Optimizer, i: int, state: Sequence[Any]) -> bool:
    return state[i].ndim > 0 and optimizer.rule.state[i] not in (optimizer.rule.preconditioner or ())


def preconditioner(optimizer: Optimizer, state: Sequence[Any], t: int) -> FloatArray | None:
    """Return the diagonal of P: the step after the state of update ``t``, over that of the same rule without divisor.

    state: as update t has left it, with flat arrays. Adam's P is 1 / (sqrt(v_hat) + eps), the corrections for its start
    included. None if the rule has no P.
    """
    n = max(np.size(a) for a in state)
    still = _settled(optimizer)
    unit = divisors(still, n)
    if unit is None:
        return None
    given = list(state)
    for i, name in enumerate(optimizer.rule.state):
        if _is_linear(optimizer, i, unit):
            given[i] = np.zeros(n)
        elif name in (optimizer.rule.preconditioner or ()) and unit[i].ndim:
            given[i] = state[i] * unit[i]  # it is multiplied by 1 / unit once more before the division
    zeros, g = np.zeros(n), np.full(n, SMALL)
    with quiet():
        step, _ = optimizer.step(zeros, g, tuple(given), t, 1.0)
        alone, _ = still.step(zeros, g, unit, SETTLED, 1.0)
        return np.asarray(step / alone, np.float64)


def _spectral_radius(matrices: FloatArray) -> FloatArray:
    """Return the largest |eigenvalue| of each matrix; inf where it isn't finite."""
    finite = np.isfinite(matrices).all(axis=(1, 2))
    found = np.full(len(matrices), np.inf)
    found[finite] = np.abs(np.linalg.eigvals(matrices[finite])).max(axis=1)
    return found


def stability_bound(optimizer: Optimizer, curvature: float) -> float | None:
    """Stability bound: the largest learning rate with which the rule converges on a parabola of this curvature.

        ρ(M(lr, curvature)) ≤ 1     gradient descent 2 / λ,   heavy ball 2 (1 + β) / λ,
                                    Nesterov 2 (1 + β) / ((1 + 2β) λ),   Adam 2 (1 + β1) / ((1 - β1) λ)

    Parameters
    ----------
    optimizer : Optimizer
        Its own rate plays no part.
    curvature : float > 0
        The largest eigenvalue of the Hessian; for a rule that divides by √v, of P^½ ∇²f P^½ with the diagonal P of
        `preconditioner`, as `koubai.derivatives.curvature` measures it with scale=P.

    Returns
    -------
    float or None
        inf if every rate is stable; None for a rule without such a bound: line searches, signs of gradients, rates
        that the rule finds itself, norms of whole arrays.

    Raises
    ------
    InputError
        For a curvature that isn't positive and finite.

    Examples
    --------
    >>> from koubai.descent.stability import stability_bound
    >>> [round(stability_bound(o, 4.0), 4) for o in (kb.SGD(0.1), kb.Momentum(0.1), kb.Nesterov(0.1), kb.Adam(0.1))]
    [0.5, 0.95, 0.3393, 9.5]
    >>> stability_bound(kb.LBFGS(), 4.0) is None
    True

    References
    ----------
    Polyak, "Introduction to Optimization", 1987, sections 2.1 and 3.2; for adaptive rules: Cohen et al., "Adaptive
    gradient methods at the edge of stability", arXiv:2207.14484, 2022.
    """
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"optimizer must be an optimizer object, got {optimizer!r}")
    curvature = float(curvature)
    if not 0 < curvature < math.inf:
        raise InputError(f"curvature must be positive and finite, got {curvature!r}: only a valley bounds the rate")
    if isinstance(optimizer.lr, str):  # "auto": to be found
        optimizer = with_rate(optimizer, 1.0)
    # Without decoupled decay lr and the curvature count as their product alone.
    decay = float(optimizer.hyperparameters.get("weight_decay") or 0.0)
    if decay and optimizer.hyperparameters.get("decoupled_weight_decay"):
        return _bound(optimizer, optimizer.settings, curvature)
    plain = _bound(remade(optimizer, 1.0, weight_decay=0.0) if decay else optimizer, optimizer.settings, 1.0)
    return None if plain is None else plain / (curvature + decay)


def _bound(optimizer: Optimizer, settings: str, curvature: float) -> float | None:
    cache = optimizer.derived
    key = ("stability", settings, curvature)
    if key not in cache:
        cache[key] = _searched(optimizer, curvature)
    return cache[key]  # type: ignore[no-any-return]


def _searched(optimizer: Optimizer, curvature: float) -> float | None:
    low, high = RANGE[0] / curvature, RANGE[1] / curvature
    for _ in range(5):
        rates = np.geomspace(low, high, GRID)
        matrices = recurrence(optimizer, np.full(GRID, curvature), rates)
        if matrices is None:
            return None
        beyond = np.flatnonzero(_spectral_radius(matrices) > 1 + 1e-11)
        if not beyond.size:
            return math.inf
        first = int(beyond[0])
        if first == 0:
            return float(rates[0])
        low, high = float(rates[first - 1]), float(rates[first])
    return float(f"{low:.9g}")  # so many digits are certain


def fixed_bound(optimizer: Optimizer, curvature: float) -> float | None:
    """Return the stability bound of a rule that divides by nothing it has seen, for the curvature of f itself.

    None for all other rules, where gradients are clipped, and without an upward curvature.
    """
    if not curvature > 0 or not has_recurrence(optimizer) or divides(optimizer) or optimizer.is_clipping:
        return None
    return stability_bound(optimizer, curvature)


def predicted_rate(optimizer: Optimizer, mu: float, L: float, lr: float | None = None) -> float | None:
    """Predicted rate: the factor by which f - f* shrinks in a step in the end, on a parabola of curvatures mu … L.

        max ρ(M(lr, λ))² over mu ≤ λ ≤ L     gradient descent: max(|1 - lr mu|, |1 - lr L|)²

    Parameters
    ----------
    optimizer : Optimizer
        With its hyperparameters.
    mu, L : float
        The smallest and the largest curvature, as for `stability_bound`. With mu ≤ 0 the rate is 1 or above.
    lr : float, optional
        The rate; the optimizer's own by default, that of its first update if it has a schedule.

    Returns
    -------
    float or None
        Below 1 if it converges, above 1 if it diverges; None for a rule without a recurrence.

    Raises
    ------
    InputError
        Unless mu ≤ L are finite.

    Examples
    --------
    >>> from koubai.descent.stability import predicted_rate
    >>> round(predicted_rate(kb.SGD(0.1), 1.0, 10.0), 6)
    0.81
    """
    if not (math.isfinite(mu) and math.isfinite(L) and mu <= L):
        raise InputError(f"mu and L must be finite with mu ≤ L, got {mu!r} and {L!r}")
    between = np.geomspace(mu, L, SPECTRUM) if mu > 0 else np.linspace(mu, L, SPECTRUM)
    between[0], between[-1] = mu, L
    matrices = recurrence(optimizer, between, optimizer.lr_at(0) if lr is None else float(lr))
    return None if matrices is None else float(_spectral_radius(matrices).max() ** 2)
