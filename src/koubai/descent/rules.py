"""Every update rule, as its textbook formula. Imports NumPy only.

A rule is a pure function ``rule(x, g, state, t, *, lr, …) -> (x, state)``: x and g are arrays of one shape, state is a
tuple of arrays, t = 1, 2, … counts the updates, and every hyperparameter is an argument, so that a schedule or a search
changes it with nothing rebuilt. Nothing is written in place, and only hyperparameters decide an ``if``. Where
frameworks differ, the difference is a named argument (``eps_in``, ``lr_inside``, …), never a second formula.
Adding a rule is writing one function here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

__all__ = [
    "CHOICES",
    "INTERVALS",
    "RULES",
    "Rule",
    "adabelief",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adan",
    "asgd",
    "ftrl",
    "lion",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "rule",
    "sgd",
    "yogi",
]

State: TypeAlias = tuple[Any, ...]
Step: TypeAlias = tuple[Any, State]
Begin: TypeAlias = Callable[[Any, Mapping[str, Any]], Any]

# Where each hyperparameter may lie: (low, high, low allowed, high allowed). A name means the same in every rule, but
# for the few that are given as "rule.name".
INTERVALS: dict[str, tuple[float, float, bool, bool]] = {
    "lr": (0.0, np.inf, False, False),
    "momentum": (0.0, 1.0, True, False),
    "dampening": (0.0, 1.0, True, True),
    "weight_decay": (0.0, np.inf, True, False),
    "clipvalue": (0.0, np.inf, False, True),
    "clipnorm": (0.0, np.inf, False, True),
    "lr_decay": (0.0, np.inf, True, False),
    "initial_accumulator_value": (0.0, np.inf, True, False),
    "initial_accumulator": (0.0, np.inf, True, False),
    "eps": (0.0, np.inf, True, False),
    "eps_root": (0.0, np.inf, True, False),
    "alpha": (0.0, 1.0, True, True),
    "rho": (0.0, 1.0, True, False),
    "beta1": (0.0, 1.0, True, False),
    "beta2": (0.0, 1.0, True, False),
    "beta3": (0.0, 1.0, True, False),
    "momentum_decay": (0.0, np.inf, True, True),
    "eta_minus": (0.0, 1.0, False, False),
    "eta_plus": (1.0, np.inf, False, False),
    "step_min": (0.0, np.inf, True, False),
    "step_max": (0.0, np.inf, False, True),
    "lambd": (0.0, np.inf, True, False),
    "t0": (0.0, np.inf, True, True),
    "lr_power": (-np.inf, 0.0, False, True),
    "l1": (0.0, np.inf, True, False),
    "l2": (0.0, np.inf, True, False),
    "l2_shrinkage": (0.0, np.inf, True, False),
    "beta": (0.0, np.inf, True, False),
}

# What each hyperparameter that is a word may be.
CHOICES: dict[str, tuple[str, ...]] = {
    "adam.eps_in": ("corrected", "raw"),
    "adam.max_of": ("raw", "corrected"),
    "radam.eps_in": ("raw", "corrected"),
    "adamax.eps_in": ("max", "denominator"),
}


@dataclass(frozen=True)
class Rule:
    """One update rule: its formula, the names of its state arrays, and its hyperparameters with their defaults.

    scope: what one new element of x depends on. "element": the same element of x, g and state (and scalars of the
    state); "tensor": the whole array it lies in, in its shape; "vector": all parameters at once.
    uses: what the formula needs besides: "fun", f at x; "evaluate", a function of x that returns f and the gradient.
    """

    name: str
    formula: Callable[..., Step]
    state: tuple[str, ...]
    defaults: dict[str, Any] = field(hash=False)
    scope: Literal["element", "tensor", "vector"] = "element"
    uses: tuple[str, ...] = ()
    begin: Mapping[str, Begin] = field(default_factory=dict, hash=False)
    only_if: Mapping[str, str] = field(default_factory=dict, hash=False)
    # The largest lr × curvature at which the rule is stable on a quadratic; None where no such number is known.
    stability: Callable[..., float] | None = None
    # What the user should be told of the state after t updates, if anything.
    advise: Callable[..., str | None] | None = None

    def __call__(self, x: Any, g: Any, state: State, t: Any, **hyper: Any) -> Step:
        return self.formula(x, g, state, t, **hyper)

    def start(self, x: Any, hyper: Mapping[str, Any]) -> State:
        """Return the state before the first update; an array that these hyperparameters leave unused is one number."""

        def first(name: str) -> Any:
            if name in self.only_if and not hyper[self.only_if[name]]:
                return np.zeros((), x.dtype)
            return self.begin[name](x, hyper) if name in self.begin else np.zeros_like(x)

        return tuple(first(name) for name in self.state)


RULES: dict[str, Rule] = {}


def rule(
    state: tuple[str, ...] = (),
    scope: Literal["element", "tensor", "vector"] = "element",
    begin: Mapping[str, Begin] | None = None,
    only_if: Mapping[str, str] | None = None,
    stability: Callable[..., float] | None = None,
    advise: Callable[..., str | None] | None = None,
) -> Callable[[Callable[..., Step]], Rule]:
    """Register the decorated formula as a Rule. Its keyword-only arguments with a default are the hyperparameters.

    state: the names of the state arrays, zeros in the shape of x at the start but where ``begin`` has a function of x
    and the hyperparameters. only_if: which of them are used only where a hyperparameter is on.
    """

    def register(formula: Callable[..., Step]) -> Rule:
        parameters = [p for p in inspect.signature(formula).parameters.values() if p.kind is p.KEYWORD_ONLY]
        name = formula.__name__
        RULES[name] = Rule(
            name,
            formula,
            state,
            {p.name: p.default for p in parameters if p.default is not p.empty},
            scope,
            tuple(p.name for p in parameters if p.default is p.empty),
            begin or {},
            only_if or {},
            stability,
            advise,
        )
        return RULES[name]

    return register


def _full(name: str) -> Begin:
    return lambda x, hyper: np.full_like(x, hyper[name])


def _number(value: float) -> Begin:
    return lambda x, hyper: np.asarray(value, x.dtype)


# -- gradient descent and its averages --------------------------------------------------------------------------------


def _sgd_stability(momentum: float, nesterov: bool, dampening: float, **_: Any) -> float:
    # Both roots of z² − (1 + μ − λ(1−τ)) z + μ stay inside the unit circle (Nesterov: z² − (1+μ)(1 − λ) z + μ(1 − λ)).
    if momentum == 0:
        return 2.0
    if nesterov:
        return 2 * (1 + momentum) / (1 + 2 * momentum)
    return 2 * (1 + momentum) / (1 - dampening) if dampening < 1 else np.inf


@rule(state=("b",), only_if={"b": "momentum"}, stability=_sgd_stability)
def sgd(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    lr_inside: bool = False,
) -> Step:
    """Gradient descent, with momentum where it is asked for.

        b = momentum * b + (1 - dampening) * g        (b = g at t = 1)
        x = x - lr * b                                (nesterov: x - lr * (g + momentum * b))

    x, g, b: the same shape. momentum in [0, 1), dampening in [0, 1].
    lr stands outside b, as in PyTorch and optax; Keras keeps it inside (lr_inside), so that a schedule acts differently
    there.

    Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Comput. Math. Math. Phys. 1964;
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
    """
    (b,) = state
    if momentum == 0:
        return x - lr * g, state
    if lr_inside:
        g, lr = lr * g, 1.0
    b = np.where(t == 1, g, momentum * b + (1 - dampening) * g)
    return x - lr * (g + momentum * b if nesterov else b), (b,)


@rule(state=("average",))
def asgd(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
) -> Step:
    """ASGD: gradient descent with a decaying rate and, from step t0 on, an average of the points.

        eta = lr / (1 + lambd * lr * (t - 1))**alpha
        x = x * (1 - lambd * eta) - eta * g
        average = average + (x - average) / max(1, t - 1 - t0)

    The average is kept in the state; x itself is not replaced by it. As in PyTorch, which applies a changed lr one step
    later.

    Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 1992.
    """
    (average,) = state
    eta = lr / (1 + lambd * lr * (t - 1)) ** alpha
    x = x * (1 - lambd * eta) - eta * g
    return x, (average + (x - average) / np.maximum(1.0, t - 1 - t0),)


@rule(state=("step", "size"), begin={"size": _full("lr")})
def rprop(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-2,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-6,
    step_max: float = 50.0,
    one_late: bool = False,
) -> Step:
    """Rprop: steps whose size grows while a component's sign stays and shrinks where it turns.

        size = clip(size * (eta_plus if g * step > 0, eta_minus if < 0, 1 if = 0), step_min, step_max)
        step = sign(g) * size                         (0 where g * step < 0)
        x = x - step

    size is lr at the start; lr has no part in later steps. step in the first line is the last update's. For whole
    gradients, not batches. optax takes each step one update late (one_late): the first update is 0, and a turn leaves
    out the step that was waiting.

    Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", ICNN 1993.
    """
    last, size = state
    agree = np.sign(g) * np.sign(last)
    factor = np.where(agree > 0, eta_plus, np.where(agree < 0, eta_minus, 1.0)).astype(x.dtype)
    size = np.minimum(np.maximum(size * factor, step_min), step_max)
    step = np.where(agree < 0, 0.0, np.sign(g) * size)
    return x - (np.where(agree < 0, 0.0, last) if one_late else step), (step, size)


@rule(state=("m",))
def lion(x: Any, g: Any, state: State, t: Any, *, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.99) -> Step:
    """Lion: the sign of an interpolated momentum.

        x = x - lr * sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g

    Every component moves by lr, so lr is 3 to 10 times smaller than Adam's. Keras decays no weights by default, optax
    1e-3; both decay them apart from the gradient.

    Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, Algorithm 2.
    """
    (m,) = state
    x = x - lr * np.sign(m * beta1 + g * (1 - beta1))
    return x, (m * beta2 + g * (1 - beta2),)


# -- rates that each element keeps for itself -------------------------------------------------------------------------


@rule(state=("s",), begin={"s": _full("initial_accumulator_value")})
def adagrad(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    eps_in_sqrt: bool = False,
) -> Step:
    """Adagrad: each element's rate falls with the gradients that it has seen.

        s = s + g**2
        x = x - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    s starts at initial_accumulator_value: 0 in PyTorch, 0.1 in Keras and optax, which also put eps under the root
    (eps_in_sqrt) and know no lr_decay.

    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 2011.
    """
    (s,) = state
    s = s + g * g
    root = np.sqrt(s + eps) if eps_in_sqrt else np.sqrt(s) + eps
    return x - lr / (1 + (t - 1) * lr_decay) * _ratio(g, root), (s,)


@rule(state=("v", "m", "b"), only_if={"m": "centered", "b": "momentum"})
def rmsprop(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    nesterov: bool = False,
    eps_in_sqrt: bool = False,
    lr_inside: bool = False,
) -> Step:
    """RMSprop: the gradient over the root of its mean square.

        v = alpha * v + (1 - alpha) * g**2
        m = alpha * m + (1 - alpha) * g               (centered: v - m**2 stands for v below)
        b = momentum * b + g / (sqrt(v) + eps)
        x = x - lr * b

    alpha is Keras's rho and optax's decay. Keras and optax put eps under the root (eps_in_sqrt) and lr inside b
    (lr_inside); nesterov is optax's. Where rounding makes v - m**2 negative, 0 takes its place.

    Tieleman & Hinton, "Lecture 6.5: rmsprop", Coursera 2012; centered: Graves, "Generating sequences with recurrent
    neural networks", arXiv:1308.0850, 2013.
    """
    v, m, b = state
    v = alpha * v + (1 - alpha) * (g * g)
    spread = v
    if centered:
        m = alpha * m + (1 - alpha) * g
        spread = np.maximum(v - m * m, 0.0)
    step = _ratio(g, np.sqrt(spread + eps) if eps_in_sqrt else np.sqrt(spread) + eps)
    if momentum == 0:
        return x - lr * step, (v, m, b)
    if lr_inside:
        step, lr = lr * step, 1.0
    b = momentum * b + step
    return x - lr * (step + momentum * b if nesterov else b), (v, m, b)


@rule(state=("v", "d"))
def adadelta(x: Any, g: Any, state: State, t: Any, *, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6) -> Step:
    """Adadelta: steps in the units of x, from the mean squares of the gradients and of the steps.

        v = rho * v + (1 - rho) * g**2
        step = sqrt(d + eps) / sqrt(v + eps) * g
        d = rho * d + (1 - rho) * step**2
        x = x - lr * step

    The paper has no lr (1.0, as PyTorch's default); Keras's default is 0.001, with rho 0.95 and eps 1e-7.

    Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, 2012, Algorithm 1.
    """
    v, d = state
    v = rho * v + (1 - rho) * (g * g)
    step = np.sqrt(d + eps) * _ratio(g, np.sqrt(v + eps))
    return x - lr * step, (v, rho * d + (1 - rho) * (step * step))


@rule(state=("n", "z"), begin={"n": _full("initial_accumulator")})
def ftrl(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    lr_power: float = -0.5,
    initial_accumulator: float = 0.1,
    l1: float = 0.0,
    l2: float = 0.0,
    l2_shrinkage: float = 0.0,
    beta: float = 0.0,
) -> Step:
    """Ftrl: follow the regularized leader, which sets small weights to exactly zero under l1.

        z = z + g + 2 * l2_shrinkage * x - ((n + g**2)**-lr_power - n**-lr_power) / lr * x
        n = n + g**2
        x = (clip(z, -l1, l1) - z) / (n**-lr_power / lr + 2 * (l2 + beta / (2 * lr)))

    n starts at initial_accumulator. The start x is not remembered as a leader: with lr far from n**0.5 the first step
    is a jump. Keras's formula. An element whose divisor is still zero stays.

    McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, Algorithm 1.
    """
    n, z = state
    after = n + g * g
    z = z + (g + 2 * l2_shrinkage * x - (after**-lr_power - n**-lr_power) / lr * x)
    divisor = after**-lr_power / lr + 2 * (l2 + beta / (2 * lr))
    leader = np.minimum(np.maximum(z, -l1), l1) - z
    return np.where(divisor > 0, _ratio(leader, divisor), x), (after, z)


# -- Adam and its kin -------------------------------------------------------------------------------------------------


@rule(state=("m", "v", "v_max"), only_if={"v_max": "amsgrad"})
def adam(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    amsgrad: bool = False,
    eps_in: str = "corrected",
    max_of: str = "raw",
    eps_root: float = 0.0,
) -> Step:
    """Adam: the mean of the gradients over the root of their mean square, both corrected for their start at zero.

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        v_max = max(v_max, v)                         (amsgrad: v_max stands for v below)
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        x = x - lr * m_hat / (sqrt(v_hat) + eps)

    PyTorch and optax add eps to the root of the corrected v_hat (eps_in="corrected"), Keras to that of v itself
    ("raw"), which is eps / sqrt(1 - beta2**t) here. AMSGrad keeps the largest v in PyTorch and Keras (max_of="raw"),
    the largest v_hat in optax ("corrected"). eps_root, optax's, stands under the root. With decoupled weight decay this
    is AdamW.

    Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1; amsgrad: Reddi, Kale & Kumar, "On
    the convergence of Adam and beyond", ICLR 2018, Algorithm 2; AdamW: Loshchilov & Hutter, "Decoupled weight decay
    regularization", ICLR 2019, Algorithm 2.
    """
    m, v, v_max = state
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    correction = 1 - beta2**t
    v_hat = v / correction
    if amsgrad:
        v_max = np.maximum(v_max, v if max_of == "raw" else v_hat)
        v_hat = v_max / correction if max_of == "raw" else v_max
    m_hat = m / (1 - beta1**t)
    eps = eps if eps_in == "corrected" else eps / correction**0.5
    return x - lr * _ratio(m_hat, np.sqrt(v_hat + eps_root) + eps), (m, v, v_max)


@rule(state=("m", "u"))
def adamax(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    eps_in: str = "max",
) -> Step:
    """Adamax: Adam with the largest recent gradient in place of the mean square.

        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + eps)
        x = x - lr / (1 - beta1**t) * m / u

    PyTorch and optax keep eps inside u (eps_in="max"); Keras has u = max(beta2 * u, |g|) and divides by u + eps
    ("denominator").

    Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 2.
    """
    m, u = state
    m = beta1 * m + (1 - beta1) * g
    u = np.maximum(beta2 * u, np.abs(g) + eps if eps_in == "max" else np.abs(g))
    return x - lr / (1 - beta1**t) * _ratio(m, u if eps_in == "max" else u + eps), (m, u)


@rule(state=("m", "v", "mu_product"), begin={"mu_product": _number(1.0)})
def nadam(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    momentum_decay: float = 4e-3,
    eps_root: float = 0.0,
) -> Step:
    """NAdam: Adam with Nesterov's look ahead and a momentum that warms up.

        mu = beta1 * (1 - 0.5 * 0.96**(t * momentum_decay)),   mu_next likewise with t + 1
        mu_product = mu_product * mu
        m, v = as in Adam;   v_hat = v / (1 - beta2**t)
        m_hat = mu_next * m / (1 - mu_product * mu_next) + (1 - mu) * g / (1 - mu_product)
        x = x - lr * m_hat / (sqrt(v_hat) + eps)

    momentum_decay is 0.004 in PyTorch, 1 in Keras, which has no such argument; optax has no schedule, mu = beta1, which
    is momentum_decay = inf.

    Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, Algorithm 8.
    """
    m, v, mu_product = state
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    mu_product = mu_product * mu
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    m_hat = mu_next / (1 - mu_product * mu_next) * m + (1 - mu) / (1 - mu_product) * g
    return x - lr * _ratio(m_hat, np.sqrt(v / (1 - beta2**t) + eps_root) + eps), (m, v, mu_product)


@rule(state=("m", "v"))
def radam(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    eps_in: str = "raw",
    eps_root: float = 0.0,
) -> Step:
    """RAdam: Adam that trusts its mean square only once enough gradients stand behind it.

        m, v, m_hat, v_hat = as in Adam;   rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        x = x - lr * m_hat * r / (sqrt(v_hat) + eps)          (where rho > 5)
        x = x - lr * m_hat                                    (elsewhere)

    PyTorch adds eps to the root of v itself (eps_in="raw"), optax to that of v_hat ("corrected").

    Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020, Algorithm 2.
    """
    m, v = state
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    m_hat, correction = m / (1 - beta1**t), 1 - beta2**t
    rho_inf = 2 / (1 - beta2) - 1
    if rho_inf <= 5:
        return x - lr * m_hat, (m, v)
    rho = rho_inf - 2 * t * beta2**t / correction
    r = np.sqrt(np.maximum((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho), 0.0))
    eps = eps if eps_in == "corrected" else eps / correction**0.5
    adaptive = _ratio(m_hat, np.sqrt(v / correction + eps_root) + eps)
    return x - np.where(rho > 5, lr * r.astype(x.dtype) * adaptive, lr * m_hat), (m, v)


@rule(state=("m", "s"))
def adabelief(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
) -> Step:
    """AdaBelief: Adam that divides by how far the gradient was from its prediction.

        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m)**2 + eps_root
        x = x - lr * m_hat / (sqrt(s_hat) + eps)              (m_hat, s_hat corrected as in Adam)

    As in optax. eps_root adds up inside s, as in the paper, where it has eps's value.

    Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients", NeurIPS 2020,
    Algorithm 2.
    """
    m, s = state
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * ((g - m) * (g - m)) + eps_root
    return x - lr * _ratio(m / (1 - beta1**t), np.sqrt(s / (1 - beta2**t)) + eps), (m, s)


@rule(state=("m", "v", "n", "previous"))
def adan(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.98,
    beta2: float = 0.92,
    beta3: float = 0.99,
    eps: float = 1e-8,
    eps_root: float = 1e-8,
) -> Step:
    """Adan: Nesterov's look ahead from the differences of successive gradients.

        d = g - previous                              (0 at t = 1),   previous = g
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * d
        n = beta3 * n + (1 - beta3) * (g + (1 - beta2) * d)**2
        x = x - lr * (m_hat + (1 - beta2) * v_hat) / (sqrt(n_hat + eps_root) + eps)

    The betas are the weights of the past, as in optax: one minus those of the paper; and as there, 1 - beta2 is where
    the paper's text has beta2.

    Xie et al., "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models", TPAMI 2024, Algorithm 1.
    """
    m, v, n, previous = state
    d = np.where(t == 1, 0.0, g - previous)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * d
    ahead = g + (1 - beta2) * d
    n = beta3 * n + (1 - beta3) * (ahead * ahead)
    direction = m / (1 - beta1**t) + (1 - beta2) * (v / (1 - beta2**t))
    return x - lr * _ratio(direction, np.sqrt(n / (1 - beta3**t) + eps_root) + eps), (m, v, n, g)


@rule(state=("m", "v"), begin={"m": _full("initial_accumulator"), "v": _full("initial_accumulator")})
def yogi(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-2,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-3,
    initial_accumulator: float = 1e-6,
) -> Step:
    """Yogi: Adam whose mean square moves by steps of g**2 only, never by a fraction of itself.

        m = beta1 * m + (1 - beta1) * g
        v = v - (1 - beta2) * sign(v - g**2) * g**2
        x = x - lr * m_hat / (sqrt(v_hat) + eps)              (m_hat, v_hat corrected as in Adam)

    m and v both start at initial_accumulator, as in optax.

    Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS 2018, Algorithm 2.
    """
    m, v = state
    m = beta1 * m + (1 - beta1) * g
    v = v - (1 - beta2) * np.sign(v - g * g) * (g * g)
    return x - lr * _ratio(m / (1 - beta1**t), np.sqrt(v / (1 - beta2**t)) + eps), (m, v)


def _ratio(a: Any, b: Any) -> Any:
    """Return a / b, and 0 where both are 0: a component that never had a gradient does not move."""
    return a / np.where((b == 0) & (a == 0), 1.0, b)
