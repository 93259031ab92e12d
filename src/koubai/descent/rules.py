"""Every update rule, as its textbook formula. Imports NumPy only.

A rule is a pure function ``rule(x, g, state, t, *, lr, …) -> (x, state)``: x and g are arrays of one shape, state is a
tuple of arrays, t = 1, 2, … counts the updates, and every hyperparameter is an argument, so that a schedule or a search
changes it with nothing rebuilt. Nothing is written in place, and only hyperparameters decide an ``if``. Where
frameworks differ, the difference is a named argument (``eps_in``, ``lr_inside``, …), never a second formula.
Adding a rule is writing one function here.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from koubai.messages import worded

__all__ = ["CHOICES", "INTERVALS", "RULES", "Rule", "rule"]

State: TypeAlias = tuple[Any, ...]
Step: TypeAlias = tuple[Any, State]
Begin: TypeAlias = Callable[[Any, Mapping[str, Any]], Any]

# The range of each hyperparameter: (low, high, low allowed, high allowed). A name means the same in every rule, but
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
    "trust_coefficient": (0.0, np.inf, False, False),
    "beta2_decay": (-np.inf, 0.0, False, True),
    "eps1": (0.0, np.inf, True, False),
    "eps2": (0.0, np.inf, True, False),
    "d": (1.0, np.inf, True, True),
    "factor_from": (1, np.inf, True, False),
    "ns_a": (-np.inf, np.inf, False, False),
    "ns_b": (-np.inf, np.inf, False, False),
    "ns_c": (-np.inf, np.inf, False, False),
    "ns_steps": (0, 100, True, False),
    "adam_lr_ratio": (0.0, np.inf, False, False),
    "adam_beta1": (0.0, 1.0, True, False),
    "adam_beta2": (0.0, 1.0, True, False),
    "adam_eps": (0.0, np.inf, True, False),
    "adam_weight_decay": (0.0, np.inf, True, False),
    "weight_lr_power": (0.0, np.inf, True, False),
    "schedule_free_sgd.beta1": (0.0, 1.0, False, False),
    "schedule_free_adamw.beta1": (0.0, 1.0, False, False),
    "reps_rel": (0.0, np.inf, False, False),
    "init_estim_sq_dist": (0.0, np.inf, False, False),
    "estim_lr0": (0.0, np.inf, False, False),
    "estim_lr_coef": (0.0, np.inf, False, False),
    "momo.beta": (0.0, 1.0, True, False),
    "lower_bound": (-np.inf, np.inf, False, False),
    "f_min": (-np.inf, np.inf, False, False),
    "cocob.alpha": (0.0, np.inf, False, False),
    "c1": (0.0, 0.5, False, False),
    "c2": (0.0, 1.0, False, False),
    "lr_min": (0.0, np.inf, False, False),
    "lr_max": (0.0, np.inf, False, False),
    "memory": (1, np.inf, True, False),
    "history_size": (1, np.inf, True, False),
}

# What each hyperparameter that is a word may be.
CHOICES: dict[str, tuple[str, ...]] = {
    "adam.eps_in": ("corrected", "raw"),
    "adam.max_of": ("raw", "corrected"),
    "radam.eps_in": ("raw", "corrected"),
    "adamax.eps_in": ("max", "denominator"),
    "lamb.decay_in": ("ratio", "first"),
    "adafactor.eps1_in": ("clamp", "square"),
    "adafactor.decay_in": ("after_scale", "first", "unscaled"),
    "muon.average": ("mean", "sum", "corrected"),
    "muon.eps_in": ("max", "sum"),
    "muon.adjust_lr_fn": ("original", "match_rms_adamw", "width_transfer"),
    "muon.rest": ("adam", "nadam"),
    "schedule_free_adamw.decay_in": ("z", "y"),
    "gradient_descent.line_search": ("armijo", "wolfe"),
    "barzilai_borwein.variant": ("long", "short"),
    "conjugate_gradient.variant": ("pr+", "fr"),
    "lbfgs.line_search": ("wolfe", "none"),
    "lbfgs.curvature_test": ("relative", "absolute"),
}


@dataclass(frozen=True)
class Rule:
    """One update rule: its formula, the names of its state arrays, and its hyperparameters with their defaults.

    scope: what one new element of x depends on. "element": the same element of x, g and state (and scalars of the
    state); "tensor": the whole array that it belongs to, in its shape; "vector": all parameters at once.
    uses: what the formula needs besides: "fun", f at x; "evaluate", a function of x that returns f and the gradient;
    "unclipped", the gradient itself if g is a clipped one; "box", the bounds, or None; "residuals", a function of x
    that returns r, of which f is the sum of squares, and its Jacobian.
    """

    name: str
    formula: Callable[..., Step]
    state: tuple[str, ...]
    defaults: dict[str, Any] = field(hash=False)
    scope: Literal["element", "tensor", "vector"] = "element"
    uses: tuple[str, ...] = ()
    begin: Mapping[str, Begin] = field(default_factory=dict, hash=False)
    only_if: Mapping[str, str] = field(default_factory=dict, hash=False)
    # State arrays that count or number rows: whole numbers from 0 to a hyperparameter, by their names.
    counts: Mapping[str, str] = field(default_factory=dict, hash=False)
    # The state arrays under whose root a step is divided; (): the rule is linear in the gradient; None: it's neither.
    preconditioner: tuple[str, ...] | None = None
    # The largest lr × curvature at which the rule is stable on a quadratic; None if no such number is known.
    # Returns what the user should know about the state after t updates, if anything.
    advise: Callable[..., str | None] | None = None

    @functools.cached_property
    def searches(self) -> bool:
        """Whether the formula evaluates f itself."""
        return not {"evaluate", "residuals"}.isdisjoint(self.uses)

    @functools.cached_property
    def promises(self) -> bool:
        """Whether the state says by how much the last update was to lower f."""
        return "promise" in self.state

    def __call__(self, x: Any, g: Any, state: State, t: Any, **hyper: Any) -> Step:
        return self.formula(x, g, state, t, **hyper)

    def start(self, x: Any, hyper: Mapping[str, Any]) -> State:
        """Return the state before the first update; an array that these hyperparameters leave unused is one number."""

        found = []
        for name in self.state:
            if name in self.only_if and not hyper[self.only_if[name]]:
                found.append(np.zeros((), x.dtype))
            else:
                found.append(self.begin[name](x, hyper) if name in self.begin else np.zeros(x.shape, x.dtype))
        return tuple(found)


RULES: dict[str, Rule] = {}


def rule(
    state: tuple[str, ...] = (),
    scope: Literal["element", "tensor", "vector"] = "element",
    begin: Mapping[str, Begin] | None = None,
    only_if: Mapping[str, str] | None = None,
    counts: Mapping[str, str] | None = None,
    preconditioner: tuple[str, ...] | None = None,
    advise: Callable[..., str | None] | None = None,
) -> Callable[[Callable[..., Step]], Rule]:
    """Register the decorated formula as a Rule. Its keyword-only arguments with a default are the hyperparameters.

    state: the names of the state arrays, zeros in the shape of x at the start but where ``begin`` has a function of x
    and the hyperparameters. only_if: which of them are used only where a hyperparameter is on. counts: which of them
    count or number the rows of others, up to a hyperparameter: in a file nothing else is accepted. preconditioner: as
    in `Rule`, of rules that work element by element.
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
            counts or {},
            preconditioner,
            advise,
        )
        return RULES[name]

    return register


def _full(name: str) -> Begin:
    return lambda x, hyper: np.full_like(x, hyper[name])


def _number(value: float) -> Begin:
    return lambda x, hyper: np.asarray(value, x.dtype)


# -- gradient descent and its averages --------------------------------------------------------------------------------


@rule(state=("b",), only_if={"b": "momentum"}, preconditioner=())
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
    """Gradient descent, with momentum if it is set.

        b = momentum * b + (1 - dampening) * g        (b = g at t = 1)
        x = x - lr * b                                (nesterov: x - lr * (g + momentum * b))

    x, g, b: the same shape. momentum in [0, 1), dampening in [0, 1].
    lr is outside b, as in PyTorch and optax; Keras keeps it inside (lr_inside), so that a schedule acts differently
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


@rule(state=("average", "eta"), begin={"eta": _number(0.0)})
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

        x = x * (1 - lambd * eta) - eta * g           (eta = lr at t = 1)
        average = average + (x - average) / max(1, t - 1 - t0)
        eta = lr / (1 + lambd * lr * t)**alpha

    eta is made for the next update, with the lr of this one: a schedule acts one step later, as in PyTorch. The average
    is kept in the state; x itself is not replaced by it.

    Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 1992.
    """
    average, eta = state
    eta = np.where(t == 1, lr, eta)
    x = x * (1 - lambd * eta) - eta * g
    average = average + (x - average) / np.maximum(1.0, t - 1 - t0).astype(x.dtype)
    return x, (average, (lr / np.power(1.0 + lambd * lr * t, alpha)).astype(x.dtype))


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
    """Rprop: steps whose size grows while a component's sign stays and shrinks when it turns.

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


@rule(state=("s",), begin={"s": _full("initial_accumulator_value")}, preconditioner=("s",))
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


@rule(state=("v", "m", "b"), only_if={"m": "centered", "b": "momentum"}, preconditioner=("v",))
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
    (lr_inside); nesterov is optax's. If rounding makes v - m**2 negative, 0 takes its place.

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


@rule(state=("m", "v", "v_max"), only_if={"v_max": "amsgrad"}, preconditioner=("v", "v_max"))
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
    the largest v_hat in optax ("corrected"). eps_root, optax's, is under the root. With decoupled weight decay this
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


@rule(state=("m", "u"), preconditioner=("u",))
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


@rule(state=("m", "v", "mu_product"), begin={"mu_product": _number(1.0)}, preconditioner=("v",))
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


@rule(state=("m", "v"), preconditioner=("v",))
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
    """RAdam: Adam that trusts its mean square only once it is based on enough gradients.

        m, v, m_hat, v_hat = as in Adam;   rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        x = x - lr * m_hat * r / (sqrt(v_hat) + eps)          (if rho > 5)
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


@rule(state=("m", "s"), preconditioner=("s",))
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


@rule(state=("m", "v", "n", "previous"), preconditioner=("n",))
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


@rule(
    state=("m", "v"),
    begin={"m": _full("initial_accumulator"), "v": _full("initial_accumulator")},
    preconditioner=("v",),
)
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


# -- rules that look at a whole array: `scope="tensor"` ---------------------------------------------------------------


@rule(state=("b",), scope="tensor")
def lars(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1.0,
    momentum: float = 0.9,
    nesterov: bool = False,
    trust_coefficient: float = 1e-3,
    eps: float = 0.0,
) -> Step:
    """Lars: momentum with a rate for each array, in proportion to its own norm.

        ratio = trust_coefficient * |x| / (|g| + eps)         (1 if |x| or |g| is 0)
        b = momentum * b + lr * ratio * g
        x = x - b                                             (nesterov: x - (lr * ratio * g + momentum * b))

    |.| is the norm of one array. lr is inside b, as in optax.

    You, Gitman & Ginsburg, "Large batch training of convolutional networks", arXiv:1708.03888, 2017, Algorithm 1.
    """
    (b,) = state
    step = lr * _trust(x, g, trust_coefficient, eps) * g
    b = momentum * b + step
    return x - (step + momentum * b if nesterov else b), (b,)


@rule(state=("m", "v"), scope="tensor")
def lamb(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-7,
    weight_decay: float = 0.0,
    decay_in: str = "first",
) -> Step:
    """Lamb: Adam's step, scaled in each array to the norm of that array.

        u = m_hat / (sqrt(v_hat) + eps) + weight_decay * x    (m_hat, v_hat as in Adam)
        x = x - lr * |x| / |u| * u                            (ratio 1 if |x| or |u| is 0)

    |.| is the norm of one array. optax decays inside u, as the paper does (decay_in="ratio"); Keras, outside the ratio,
    x = x * (1 - lr * weight_decay) before the step ("first").

    You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", ICLR 2020, Algorithm 2.
    """
    m, v = state
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    u = _ratio(m / (1 - beta1**t), np.sqrt(v / (1 - beta2**t)) + eps)
    if decay_in == "ratio":
        u = u + weight_decay * x
    else:
        x = x * (1 - lr * weight_decay)
    return x - lr * _trust(x, u) * u, (m, v)


@rule(state=("m", "v"), scope="tensor", begin={"v": _number(0.0)})
def novograd(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.25,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> Step:
    """NovoGrad: momentum over gradients that are normalized array by array.

        v = beta2 * v + (1 - beta2) * |g|**2                  (|g|**2 at t = 1)
        m = beta1 * m + g / (sqrt(v + eps_root) + eps) + weight_decay * x        (without beta1 * m at t = 1)
        x = x - lr * m

    |.| is the norm of one array, v one number for each. As in optax.

    Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments for training of deep networks",
    arXiv:1905.11286, 2019, Algorithm 1.
    """
    m, v = state
    square = np.sum(g * g)
    v = np.where(t == 1, square, beta2 * v + (1 - beta2) * square)
    m = np.where(t == 1, 0.0, beta1 * m) + _ratio(g, np.sqrt(v + eps_root) + eps) + weight_decay * x
    return x - lr * m, (m, v)


def _is_factored(x: Any, hyper: Mapping[str, Any]) -> bool:
    return bool(x.ndim > 1 and sorted(x.shape)[-2] >= hyper["factor_from"])


@rule(
    state=("row", "col", "v"),
    scope="tensor",
    begin={
        "row": lambda x, h: np.zeros((*x.shape[:-1], 1) if _is_factored(x, h) else (), x.dtype),
        "col": lambda x, h: np.zeros((*x.shape[:-2], 1, x.shape[-1]) if _is_factored(x, h) else (), x.dtype),
        "v": lambda x, h: np.zeros(() if _is_factored(x, h) else x.shape, x.dtype),
    },
)
def adafactor(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-2,
    beta2_decay: float = -0.8,
    eps1: float | None = None,
    eps2: float = 1e-3,
    d: float = 1.0,
    weight_decay: float = 0.0,
    eps1_in: str = "clamp",
    relative_step: bool = True,
    decay_in: str = "after_scale",
    factor_from: int = 1,
) -> Step:
    """Adafactor: Adam's mean square of a matrix, kept as the product of its row and column means.

        rest = t**beta2_decay
        row, col = (1 - rest) * row + rest * mean(g**2 over the last axis), likewise col over the one before
        v = row * col / mean(row)                             (an array of one axis: the mean square itself)
        u = g / sqrt(v)
        u = u / max(1, rms(u) / d)
        x = x - max(eps2, rms(x)) * min(lr, 1 / sqrt(t)) * u  (relative_step off: lr alone)

    rms(x) = sqrt(mean(x**2)) over one array. eps1: PyTorch's default is that of the dtype, and it keeps v and mean(row)
    from vanishing (eps1_in="clamp"); Keras and optax add theirs, 1e-30, to g**2 ("square"). weight_decay takes
    lr * weight_decay * x off x, in PyTorch after rms(x) was taken (decay_in="after_scale"), in Keras before ("first");
    optax takes off weight_decay * x ("unscaled"). Axes shorter than factor_from (128 in optax) are not factored.

    Shazeer & Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML 2018, Algorithm 4 and 5.
    """
    row, col, v = state
    eps1 = float(np.finfo(x.dtype).eps) if eps1 is None else eps1
    if decay_in == "first":
        x = x * (1 - lr * weight_decay)
    rest = t**beta2_decay
    square = g * g + eps1 if eps1_in == "square" else g * g
    if _is_factored(x, {"factor_from": factor_from}):
        row = (1 - rest) * row + rest * np.mean(square, axis=-1, keepdims=True)
        col = (1 - rest) * col + rest * np.mean(square, axis=-2, keepdims=True)
        mean = np.mean(row, axis=-2, keepdims=True)
        estimate = row * col / (np.maximum(mean, eps1) if eps1_in == "clamp" else mean)
    else:
        estimate = v = (1 - rest) * v + rest * square
    u = _ratio(g, np.sqrt(np.maximum(estimate, eps1 * eps1) if eps1_in == "clamp" else estimate))
    u = u / np.maximum(_rms(u) / d, 1.0)
    scale = np.maximum(_rms(x), eps2) * (np.minimum(lr, t**-0.5) if relative_step else lr)
    if decay_in == "after_scale":
        x = x * (1 - lr * weight_decay)
    elif decay_in == "unscaled":
        x = x * (1 - weight_decay)
    return x - scale.astype(x.dtype) * u, (row, col, v)


@rule(
    state=("m", "v", "mu_product"),
    scope="tensor",
    begin={"v": lambda x, h: np.zeros(() if x.ndim == 2 else x.shape, x.dtype), "mu_product": _number(1.0)},
)
def muon(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1e-3,
    momentum: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.1,
    ns_a: float = 3.4445,
    ns_b: float = -4.7750,
    ns_c: float = 2.0315,
    ns_steps: int = 5,
    eps: float = 1e-7,
    eps_in: str = "max",
    average: str = "mean",
    adjust_lr_fn: str = "original",
    rest: str = "adam",
    adam_lr_ratio: float = 1.0,
    adam_beta1: float = 0.9,
    adam_beta2: float = 0.999,
    adam_eps: float = 1e-8,
    adam_weight_decay: float = 1e-2,
) -> Step:
    """Muon: momentum whose matrix is made nearly orthogonal, so that every direction in it is of one size.

        m = momentum * m + (1 - momentum) * g
        o = (1 - momentum) * g + momentum * m                 (nesterov; else m)
        o = o / max(|o|, eps);   ns_steps times: o = ns_a * o + (ns_b * (o @ o.T) + ns_c * (o @ o.T)**2) @ o
        x = x * (1 - lr * weight_decay) - lr * sqrt(max(1, rows / columns)) * o

    Arrays that aren't matrices take AdamW's step, with the adam_… settings and lr * adam_lr_ratio, as in Keras and
    optax; PyTorch refuses them. PyTorch rounds o to bfloat16; here it keeps its precision. Keras sums the gradients
    (average="sum") and scales by 0.2 * sqrt(max(rows, columns)) (adjust_lr_fn="match_rms_adamw"); optax corrects the
    mean for its start ("corrected"), scales by sqrt(max(1, columns / rows)) ("width_transfer") and gives other arrays
    NAdam's step (rest="nadam"). Both add eps to the norm (eps_in="sum").

    Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024; Liu et al., "Muon is scalable for LLM
    training", arXiv:2502.16982, 2025.
    """
    m, v, mu_product = state
    if x.ndim != 2:
        x = x * (1 - lr * adam_weight_decay)
        shared = {"lr": lr * adam_lr_ratio, "beta1": adam_beta1, "beta2": adam_beta2, "eps": adam_eps}
        if rest == "nadam" and nesterov:
            return nadam(x, g, state, t, **shared, momentum_decay=np.inf)
        eps_place = "raw" if average == "sum" else "corrected"
        x, (m, v, _) = adam(x, g, (m, v, mu_product), t, **shared, eps_in=eps_place)
        return x, (m, v, mu_product)
    weight = 1.0 if average == "sum" else 1 - momentum
    m = momentum * m + weight * g
    now, ahead = (1 - momentum**k if average == "corrected" else 1.0 for k in (t, t + 1))
    o = momentum / ahead * m + weight / now * g if nesterov else m / now
    tall = x.shape[0] > x.shape[1]
    o = o.T if tall else o
    norm = np.sqrt(np.sum(o * o))
    o = _ratio(o, np.maximum(norm, eps) if eps_in == "max" else norm + eps)
    for _ in range(ns_steps):
        gram = o @ o.T
        o = ns_a * o + (ns_b * gram + ns_c * (gram @ gram)) @ o
    o = o.T if tall else o
    rows, columns = x.shape
    scale = {
        "original": max(1.0, rows / columns) ** 0.5,
        "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5,
        "width_transfer": max(1.0, columns / rows) ** 0.5,
    }[adjust_lr_fn]
    return x * (1 - lr * weight_decay) - lr * scale * o, (m, v, mu_product)


def _trust(x: Any, u: Any, coefficient: float = 1.0, eps: float = 0.0) -> Any:
    """Return coefficient * |x| / (|u| + eps), and 1 if either norm is 0: the array would never move."""
    x_norm, u_norm = np.sqrt(np.sum(x * x)), np.sqrt(np.sum(u * u))
    return np.where((x_norm > 0) & (u_norm > 0), coefficient * _ratio(x_norm, u_norm + eps), 1.0)


def _rms(x: Any) -> Any:
    return np.sqrt(np.mean(x * x))


# -- averages that need no schedule -----------------------------------------------------------------------------------


def _copy(x: Any, hyper: Mapping[str, Any]) -> Any:
    return x.copy()


def _averaged(y: Any, z: Any, z_next: Any, sums: State, lr: Any, beta1: float, power: float) -> Step:
    """Return the next y, and the state, of a schedule-free rule whose z went to z_next."""
    weight_sum, max_lr = sums
    max_lr = np.maximum(max_lr, lr)
    weight = max_lr**power
    weight_sum = weight_sum + weight
    c = _ratio(weight, weight_sum).astype(y.dtype)
    x = (y - (1 - beta1) * z) / beta1
    x = (1 - c) * x + c * z_next
    return beta1 * x + (1 - beta1) * z_next, (z_next, weight_sum.astype(y.dtype), max_lr.astype(y.dtype))


@rule(
    state=("z", "weight_sum", "max_lr"),
    begin={"z": _copy, "weight_sum": _number(0.0), "max_lr": _number(0.0)},
)
def schedule_free_sgd(
    x: Any, g: Any, state: State, t: Any, *, lr: float = 1.0, beta1: float = 0.9, weight_lr_power: float = 2.0
) -> Step:
    """Schedule-free SGD: gradient descent z and its average, with the gradient taken between the two.

        z' = z - lr * g
        c = w / (sum of all w),   w = (largest lr so far)**weight_lr_power
        average = (1 - c) * average + c * z'
        x = beta1 * average + (1 - beta1) * z'

    x is the point between, where gradients are taken; the average, the point to use in the end, is
    (x - (1 - beta1) * z) / beta1. As in optax.

    Defazio et al., "The road less scheduled", NeurIPS 2024, Algorithm 1.
    """
    z, *sums = state
    return _averaged(x, z, z - lr * g, tuple(sums), lr, beta1, weight_lr_power)


@rule(
    state=("z", "weight_sum", "max_lr", "v"),
    begin={"z": _copy, "weight_sum": _number(0.0), "max_lr": _number(0.0)},
)
def schedule_free_adamw(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 2.5e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    weight_lr_power: float = 2.0,
    decay_in: str = "z",
) -> Step:
    """Schedule-free AdamW: schedule-free SGD whose steps are divided by the root of the mean square gradient.

        v = beta2 * v + (1 - beta2) * g**2;   v_hat = v / (1 - beta2**t)
        z' = z - lr * (g / (sqrt(v_hat) + eps) + weight_decay * x)
        average = (1 - c) * average + c * z'                  (c as in schedule-free SGD)
        x = beta1 * average + (1 - beta1) * z'

    optax weighs the average by lr**2 (weight_lr_power 2) and decays z (decay_in="z"); Keras weighs all steps alike (0)
    and takes lr * weight_decay * x off x before the step ("y").

    Defazio et al., "The road less scheduled", NeurIPS 2024, Algorithm 1.
    """
    z, weight_sum, max_lr, v = state
    if decay_in == "y":
        x = x * (1 - lr * weight_decay)
    v = beta2 * v + (1 - beta2) * (g * g)
    step = _ratio(g, np.sqrt(v / (1 - beta2**t)) + eps)
    if decay_in == "z":
        step = step + weight_decay * x
    x, sums = _averaged(x, z, z - lr * step, (weight_sum, max_lr), lr, beta1, weight_lr_power)
    return x, (*sums, v)


# -- rules that set their own rate: `scope="vector"` ------------------------------------------------------------------


def _stuck(what: str, value: Any, first: float, t: int, argument: str) -> str | None:
    """Return what to say of an estimate that has hardly left its tiny first value."""
    if t < 10 or float(value) > 10 * first:
        return None
    return worded(
        "the estimate of {what}, {value:.3g}, has hardly left its first value {first:.3g} in {t} updates: x barely "
        "moves; give a larger {argument}",
        what=what,
        value=float(value),
        first=first,
        t=t,
        argument=argument,
    )


def _dog_start(x0: Any, hyper: Mapping[str, Any]) -> Any:
    return (hyper["reps_rel"] * (1 + np.sqrt(np.sum(x0 * x0)))).astype(x0.dtype)


@rule(
    state=("x0", "distance", "g_sum"),
    scope="vector",
    begin={"x0": _copy, "distance": _dog_start, "g_sum": _number(0.0)},
    advise=lambda state, t, h: _stuck(worded("the distance"), state[1], float(_dog_start(state[0], h)), t, "reps_rel"),
)
def dog(x: Any, g: Any, state: State, t: Any, *, lr: float = 1.0, reps_rel: float = 1e-6, eps: float = 1e-8) -> Step:
    """DoG: the rate is the distance from the start over the root of all squared gradients.

        distance = max(distance, |x - x0|)                    (at first reps_rel * (1 + |x0|))
        x = x - lr * distance / sqrt(sum of |g|**2 so far + eps) * g

    lr is a factor, 1 in the paper. |.| is the norm of all parameters. As in optax.

    Ivgi, Hinder & Carmon, "DoG is SGD's best friend: a parameter-free dynamic step size schedule", ICML 2023.
    """
    x0, distance, g_sum = state
    away = x0 - x
    distance = np.maximum(distance, np.sqrt(np.sum(away * away)))
    g_sum = g_sum + np.sum(g * g)
    return x - lr * _ratio(distance, np.sqrt(g_sum + eps)) * g, (x0, distance, g_sum)


def _dowg_start(x0: Any, hyper: Mapping[str, Any]) -> Any:
    first = hyper["init_estim_sq_dist"]
    return np.asarray(hyper["eps"] if first is None else first, x0.dtype)


@rule(
    state=("x0", "distance", "g_sum"),
    scope="vector",
    begin={"x0": _copy, "distance": _dowg_start, "g_sum": _number(0.0)},
    advise=lambda state, t, h: _stuck(
        worded("the squared distance"), state[1], float(_dowg_start(state[0], h)), t, "init_estim_sq_dist"
    ),
)
def dowg(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1.0,
    init_estim_sq_dist: float | None = None,
    eps: float = 1e-4,
) -> Step:
    """DoWG: DoG with the gradients weighted by the squared distance.

        distance = max(distance, |x - x0|**2)                 (at first init_estim_sq_dist; eps if None)
        g_sum = g_sum + distance * |g|**2
        x = x - lr * distance / (sqrt(g_sum) + eps) * g

    As in optax.

    Khaled, Mishchenko & Jin, "DoWG unleashed: an efficient universal parameter-free gradient descent method",
    NeurIPS 2023, Algorithm 1.
    """
    x0, distance, g_sum = state
    away = x0 - x
    distance = np.maximum(distance, np.sum(away * away))
    g_sum = g_sum + distance * np.sum(g * g)
    return x - lr * _ratio(distance, np.sqrt(g_sum) + eps) * g, (x0, distance, g_sum)


@rule(
    state=("m", "v", "s", "d", "numerator"),
    scope="vector",
    begin={"d": lambda x, h: np.asarray(h["estim_lr0"], x.dtype), "numerator": _number(0.0)},
    advise=lambda state, t, h: _stuck(worded("the rate"), state[3], h["estim_lr0"], t, "estim_lr0"),
)
def dadapt_adamw(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    estim_lr0: float = 1e-6,
    weight_decay: float = 0.0,
) -> Step:
    """D-Adapt AdamW: AdamW whose rate d is a lower bound, learned on the way, on the distance to the minimum.

        a = d * lr * sqrt(1 - beta2**t) / (1 - beta1**t);   q = sqrt(beta2)
        numerator = q * numerator + (1 - q) * a * sum(g * s / (sqrt(v) + eps))
        m = beta1 * m + (1 - beta1) * a * g;   v as in Adam;   s = q * s + (1 - q) * a * g
        x = x - a * weight_decay * x - m / (sqrt(v) + eps)
        d = max(d, numerator / ((1 - q) * sum(|s|)))          (at first estim_lr0)

    As in optax. lr is a factor, 1 in the paper.

    Defazio & Mishchenko, "Learning-rate-free learning by D-adaptation", ICML 2023, Algorithm 5.
    """
    m, v, s, d, numerator = state
    q = beta2**0.5
    a = d * (lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t))
    numerator = q * numerator + (1 - q) * a * np.sum(g * _ratio(s, np.sqrt(v) + eps))
    m = beta1 * m + (1 - beta1) * a * g
    v = beta2 * v + (1 - beta2) * (g * g)
    s = q * s + (1 - q) * a * g
    x = x - weight_decay * a * x - _ratio(m, np.sqrt(v) + eps)
    return x, (m, v, s, np.maximum(d, _ratio(numerator, (1 - q) * np.sum(np.abs(s)))), numerator)


@rule(
    state=("m", "v", "s", "x0", "d", "numerator"),
    scope="vector",
    begin={"x0": _copy, "d": lambda x, h: np.asarray(h["estim_lr0"], x.dtype), "numerator": _number(0.0)},
    advise=lambda state, t, h: _stuck(worded("the rate"), state[4], h["estim_lr0"], t, "estim_lr0"),
)
def prodigy(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    lr: float = 1.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float | None = None,
    eps: float = 1e-8,
    estim_lr0: float = 1e-6,
    estim_lr_coef: float = 1.0,
    weight_decay: float = 0.0,
    safeguard_warmup: bool = False,
) -> Step:
    """Prodigy: D-Adapt Adam that learns its rate d faster.

        a = d * lr * sqrt(1 - beta2**t) / (1 - beta1**t)
        numerator = beta3 * numerator + d / estim_lr0 * a * sum(g * (x0 - x))
        m = beta1 * m + (1 - beta1) * d * g;   v = beta2 * v + (1 - beta2) * (d * g)**2
        s = beta3 * s + a * d / estim_lr0 * g                 (safeguard_warmup: d in place of a)
        d = max(d, estim_lr_coef * numerator / sum(|s|))      (at first estim_lr0)
        x = x - a * weight_decay * x - a * m / (sqrt(v) + d * eps)

    beta3 is sqrt(beta2) if None. As in optax. lr is a factor, 1 in the paper.

    Mishchenko & Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", ICML 2024, Algorithm 4.
    """
    m, v, s, x0, d, numerator = state
    beta3 = beta2**0.5 if beta3 is None else beta3
    a = d * (lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t))
    numerator = beta3 * numerator + d / estim_lr0 * a * np.sum(g * (x0 - x))
    dg = d * g
    m = beta1 * m + (1 - beta1) * dg
    v = beta2 * v + (1 - beta2) * (dg * dg)
    s = beta3 * s + (d if safeguard_warmup else a) * dg / estim_lr0
    d = np.maximum(d, estim_lr_coef * _ratio(numerator, np.sum(np.abs(s))))
    x = x - weight_decay * a * x - a * _ratio(m, np.sqrt(v) + d * eps)
    return x, (m, v, s, x0, d, numerator)


def _below(name: str, gap: Any, bound: float) -> str | None:
    if float(gap) >= 0:
        return None
    return worded(
        "f lies {gap:.3g} below {name} = {bound:g}, which the rule takes for the least possible: lower it",
        gap=-float(gap),
        name=name,
        bound=bound,
    )


@rule(
    state=("m", "f_mean", "gamma", "lower", "gap"),
    scope="vector",
    begin={
        "f_mean": _number(0.0), "gamma": _number(0.0), "gap": _number(0.0),
        "lower": lambda x, h: np.asarray(h["lower_bound"], x.dtype),
    },
    advise=lambda state, t, h: _below("lower_bound", state[4], h["lower_bound"]),
)  # fmt: skip
def momo(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    fun: Any,
    lr: float = 1.0,
    beta: float = 0.9,
    lower_bound: float = 0.0,
    weight_decay: float = 0.0,
    adapt_lower_bound: bool = False,
) -> Step:
    """MoMo: momentum with the rate at which the model of f, built from past values and gradients, meets its bound.

        f_mean, m, gamma = the means of f, of g and of sum(g * x), with weight beta for the past     (beta 0 at t = 1)
        k = 1 + lr * weight_decay
        gap = k * (f_mean - lower - gamma) + sum(m * x)
        x = x / k - min(lr, max(gap, 0) / |m|**2) * m

    lr is the largest rate. lower is lower_bound, a number that f never falls below; adapt_lower_bound learns a better
    one. As in optax.

    Schaipp et al., "MoMo: momentum models for adaptive learning rates", ICML 2024, Algorithm 2.
    """
    m, f_mean, gamma, lower, gap_last = state
    past = np.where(t == 1, 0.0, beta).astype(x.dtype)
    f_mean = past * f_mean + (1 - past) * fun
    m = past * m + (1 - past) * g
    gamma = past * gamma + (1 - past) * np.sum(g * x)
    square, along = np.sum(m * m), np.sum(m * x)
    k = 1 + lr * weight_decay
    if adapt_lower_bound:
        cap = k * (f_mean - gamma) + along
        lower = np.where(cap < k * lower, np.maximum(cap / (2 * k), lower_bound), lower)
    gap = k * (f_mean - lower - gamma) + along
    small = square <= np.finfo(np.float64).eps
    rate = np.minimum(lr, np.where(small, 0.0, np.maximum(gap, 0.0) / np.where(small, 1.0, square)))
    if adapt_lower_bound:
        lower = np.maximum(f_mean + along - gamma - 0.5 * rate * square, lower_bound)
    x = x - lr * weight_decay / k * x - rate.astype(x.dtype) * m
    return x, (m, f_mean, gamma, lower, np.where(t > 0, fun - lower_bound, gap_last))


@rule(
    state=("gap",),
    scope="vector",
    begin={"gap": _number(0.0)},
    advise=lambda state, t, h: _below("f_min", state[0], h["f_min"]),
)
def polyak_sgd(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    fun: Any,
    lr: float = 1.0,
    f_min: float = 0.0,
    eps: float = 0.0,
    positive_gap: bool = True,
) -> Step:
    """Polyak SGD: the rate that is best for a convex f whose least value is known.

        x = x - min((f - f_min) / (|g|**2 + eps), lr) * g

    lr is the largest rate, f_min the least value of f. optax's default climbs if f is below f_min; with
    positive_gap (its variant "sps+", the default here) the rate is then 0.

    Polyak, "Introduction to optimization", 1987; Loizou et al., "Stochastic Polyak step-size for SGD: an adaptive
    learning rate for fast convergence", AISTATS 2021.
    """
    gap = np.where(t > 0, fun - f_min, state[0])  # in the dtype of the state
    square = np.sum(g * g) + eps
    small = square <= np.finfo(np.float64).eps
    rate = np.minimum((np.maximum(gap, 0.0) if positive_gap else gap) / np.where(small, 1.0, square), lr)
    return x - np.where(small, 0.0, rate).astype(x.dtype) * g, (gap,)


def _cocob_advice(state: State, t: int, hyper: Mapping[str, Any]) -> str | None:
    if t < 10 or np.any(state[4] > 0):
        return None
    return worded(
        "no component has won anything in {t} updates, so the bets stay tiny: scale the gradient with a larger lr", t=t
    )


@rule(
    state=("x0", "g_sum", "largest", "absolute", "reward"),
    begin={"x0": _copy, "largest": _full("eps")},
    advise=_cocob_advice,
)
def cocob(x: Any, g: Any, state: State, t: Any, *, lr: float = 1.0, alpha: float = 100.0, eps: float = 1e-8) -> Step:
    """COCOB: each component bets its winnings on the next gradient; no rate at all.

        g = lr * g
        largest = max(largest, |g|)                           (at first eps)
        absolute = absolute + |g|;   reward = max(reward - g * (x - x0), 0);   g_sum = g_sum - g
        x = x0 + g_sum / (largest * max(absolute + largest, alpha * largest)) * (largest + reward)

    As in optax, where lr scales the gradient; the paper has 1.

    Orabona & Tommasi, "Training deep networks without learning rates through coin betting", NeurIPS 2017, Algorithm 2.
    """
    x0, g_sum, largest, absolute, reward = state
    g = lr * g
    largest = np.maximum(largest, np.abs(g))
    absolute = absolute + np.abs(g)
    reward = np.maximum(reward - g * (x - x0), 0.0)
    g_sum = g_sum - g
    bet = _ratio(g_sum, largest * np.maximum(absolute + largest, alpha * largest)) * (largest + reward)
    return x0 + bet, (x0, g_sum, largest, absolute, reward)


# -- line searches and curvature: `uses` "evaluate"; every evaluation goes through it ---------------------------------
#
# A clipped g decides where to go, the unclipped gradient says how f changes there: slopes and curvatures are f's own.
# Clipping multiplies each component by a number in (0, 1], so that -g goes down wherever the gradient is not 0.

Evaluate: TypeAlias = Callable[[Any], tuple[float, Any]]
Box: TypeAlias = tuple[Any, Any] | None  # the lowest and the highest x; None: no bounds

# Within bounds a search follows the path along a direction bent onto them: what has come to its bound stays there. Its
# slope is that of the components still moving, and the decrease that it asks for is c1 * g·(the step itself).


class _Trial(NamedTuple):
    """A point along a direction: how far, f and its slope there, the point and its gradient.

    gain: what f would have changed by so far if it were a plane.
    """

    a: float
    fun: float
    slope: float
    x: Any
    g: Any
    gain: float


ALONE = 4096  # numbers of a matrix that no BLAS shares out among threads
CHUNK = 8192  # and of a vector


def _dot(a: Any, b: Any) -> Any:
    """Return a·b, to the same bit whatever the number of threads, which BLAS does not promise for long vectors."""
    return a.dot(b) if a.size <= CHUNK else _chunked(a, b)


def _dots(rows: Any, x: Any) -> Any:
    """Return the product of each row with x, as `_dot`."""
    return rows.dot(x) if rows.size <= ALONE else _chunked(rows, x)


def _chunked(rows: Any, x: Any) -> Any:
    whole = x.size - x.size % CHUNK
    rest = np.vecdot(rows[..., whole:], x[whole:])
    if not whole:
        return rest
    chunks = rows[..., :whole].reshape(*rows.shape[:-1], -1, CHUNK)
    return np.add.reduce(np.vecdot(chunks, x[:whole].reshape(-1, CHUNK)), axis=-1) + rest


def _clipped(x: Any, box: Box) -> Any:
    """Return the point of the box nearest to ``x``; what is not finite stays, as no point of it is near."""
    return x if box is None else np.where(np.isfinite(x), np.minimum(np.maximum(x, box[0]), box[1]), x)


def _arrived(there: Any, x: Any, direction: Any, box: tuple[Any, Any]) -> Any:
    """Return ``there``, reached from x along ``direction``, in the box; on a bound if only rounding is between."""
    low, high = box
    near = 4 * np.finfo(x.dtype).eps * np.maximum(np.abs(x), np.abs(there))
    there = np.where((direction < 0) & (there - low <= near), low, there)
    return _clipped(np.where((direction > 0) & (high - there <= near), high, there), box)


def _pushing(x: Any, g: Any, box: Box) -> Any:
    """Tell which components of -g push x out of the box; those whose bounds are equal always do."""
    if box is None:
        return np.zeros(x.shape, bool)
    low, high = box
    return ((x <= low) & (g > 0)) | ((x >= high) & (g < 0)) | (low == high)


def _downhill(x: Any, g: Any, box: Box) -> Any:
    """Return -g, without the components that push x out of the box."""
    return -g if box is None else np.where(_pushing(x, g, box), 0.0, -g)


def _along(evaluate: Evaluate, start: _Trial, direction: Any, box: Box = None) -> Callable[[float], _Trial]:
    """Return a function that evaluates f at a distance along ``direction``; what is not finite counts as inf."""

    def at(a: float) -> _Trial:
        straight = start.x + a * direction
        there = straight if box is None else _arrived(straight, start.x, direction, box)
        fun, g = evaluate(there)
        if box is None:
            slope, gain = float(_dot(g, direction)), a * start.slope
        else:
            slope = float(_dot(g, np.where(there == straight, direction, 0.0)))
            gain = float(_dot(start.g, there - start.x))
        # a product with a gradient that is not finite is not finite either
        finite = math.isfinite(fun) and (math.isfinite(slope) or np.isfinite(g).all())
        return _Trial(a, float(fun) if finite else np.inf, slope if finite else np.nan, there, g, gain)

    return at


def _armijo(at: Callable[[float], _Trial], start: _Trial, first: float, c1: float, ceiling: float) -> _Trial:
    """Return the first of first, first / 2, first / 4, … at which f is low enough; ``start`` if none is."""
    a = first
    for _ in range(60):
        trial = at(a)
        if trial.fun <= ceiling + c1 * trial.gain:
            return trial
        a /= 2
    return start


def _cubic(p: _Trial, q: _Trial, low: float, high: float) -> float:
    """Return the minimum in [low, high] of the cubic with the values and slopes of ``p`` and ``q``."""
    p, q = (p, q) if p.a <= q.a else (q, p)
    with np.errstate(all="ignore"):
        d1 = p.slope + q.slope - 3 * (p.fun - q.fun) / (p.a - q.a)
        _, exponent = np.frexp(max(abs(p.slope), abs(q.slope), abs(d1)))  # squares of slopes may be out of range
        unit = float(np.ldexp(1.0, int(np.clip(exponent, -1000, 1000))))
        square = (d1 / unit) ** 2 - (p.slope / unit) * (q.slope / unit)
        if not (np.isfinite(square) and square >= 0):
            return (low + high) / 2
        d2 = float(np.sqrt(square)) * unit
        bottom = q.slope - p.slope + 2 * d2
        a = q.a - (q.a - p.a) * ((q.slope + d2 - d1) / bottom) if bottom != 0 else np.nan
    return min(max(a, low), high) if np.isfinite(a) else (low + high) / 2


def _wolfe(at: Callable[[float], _Trial], start: _Trial, first: float, c1: float, c2: float, box: Box = None) -> _Trial:
    """Return a point that meets the strong Wolfe conditions, or the lowest one found; ``start`` if none is lower.

    If f changes by no more than its rounding, the slope tells whether f is low enough: for a parabola, f is below
    f + c1 * gain if the slope is below (2 * c1 - 1) * slope (Hager & Zhang, "A new conjugate gradient method with
    guaranteed descent and an efficient line search", SIAM J. Optim. 2005); f itself must not be higher than at start.

    Brackets and interpolates by cubics: Nocedal & Wright, "Numerical optimization", 2006, Algorithms 3.5 and 3.6, with
    the safeguards of minFunc (Schmidt, 2005), as in PyTorch's L-BFGS.
    """

    def too_high(trial: _Trial) -> bool:
        return not trial.fun <= start.fun + c1 * trial.gain

    def flat(trial: _Trial) -> bool:
        return abs(trial.slope) <= -c2 * start.slope

    def hidden(a: float) -> bool:
        return not a * -start.slope > rounding

    def low_by_its_slope(trial: _Trial) -> bool:
        is_flat = flat(trial) and trial.slope <= (2 * c1 - 1) * start.slope
        return is_flat and too_high(trial) and trial.fun <= start.fun

    # nearer than where f falls by its rounding, it can't be seen to fall
    rounding = float(np.finfo(start.x.dtype).eps) * abs(start.fun)
    # where a path is bent f may have a kink along it, and then no point meets the conditions
    most = 25 if box is None else 8
    previous, trial, tried = start, at(first), 0
    while True:
        if low_by_its_slope(trial):
            return trial
        if tried == most or (too_high(trial) and hidden(trial.a)):
            return min((start, trial), key=lambda p: p.fun)
        if too_high(trial) or (tried > 1 and trial.fun >= previous.fun):
            break
        if flat(trial):
            return trial
        if trial.slope >= 0:
            break
        a = _cubic(previous, trial, trial.a + 0.01 * (trial.a - previous.a), 10 * trial.a)
        previous, trial, tried = trial, at(a), tried + 1
    low, high = (previous, trial) if previous.fun <= trial.fun else (trial, previous)
    slow = False
    while tried < most and not np.array_equal(low.x, high.x) and not hidden(max(low.a, high.a)):
        left, right = min(low.a, high.a), max(low.a, high.a)
        a, margin = _cubic(low, high, left, right), 0.1 * (right - left)
        if min(right - a, a - left) < margin:
            if slow or a >= right or a <= left:
                a, slow = (right - margin if abs(a - right) < abs(a - left) else left + margin), False
            else:
                slow = True
        else:
            slow = False
        trial, tried = at(a), tried + 1
        if low_by_its_slope(trial):
            return trial
        if too_high(trial) or trial.fun >= low.fun:
            high = trial
            low, high = (low, high) if low.fun <= high.fun else (high, low)
        else:
            if flat(trial):
                return trial
            if trial.slope * (high.a - low.a) >= 0:
                high = low
            low = trial
    return low


def _started(x: Any, g: Any, fun: Any, direction: Any) -> _Trial:
    return _Trial(0.0, float(fun), float(_dot(g, direction)), x, g, 0.0)


@rule(state=("a",), scope="vector", begin={"a": _number(0.0)})
def gradient_descent(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    fun: Any,
    evaluate: Evaluate,
    unclipped: Any,
    box: Box,
    lr: float = 1.0,
    line_search: str = "armijo",
    c1: float = 1e-4,
    c2: float = 0.9,
) -> Step:
    """Gradient descent with a line search: the step that lowers f enough, found by evaluating f.

        x = x - a * g
        armijo: a = the first of first, first / 2, first / 4, … with f(x - a * g) ≤ f(x) - c1 * a * g·unclipped
        wolfe:  that, and |slope at x - a * g| ≤ c2 * |slope at x|, by bracketing and cubic interpolation

    unclipped: the gradient, of which g is the clipped one if it is clipped. first is lr, and later twice the last a.
    If no step lowers f, x stays. Within bounds x - a * g is put back onto them, and a * g·unclipped is what it moves
    times the gradient.

    Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives", Pacific J. Math. 1966;
    Wolfe, "Convergence conditions for ascent methods", SIAM Review 1969.
    """
    (last,) = state
    direction = _downhill(x, g, box)
    start = _started(x, unclipped, fun, direction)
    at = _along(evaluate, start, direction, box)
    first = float(2 * last if last > 0 else lr)
    if line_search == "armijo":
        end = _armijo(at, start, first, c1, start.fun)
    else:
        end = _wolfe(at, start, first, c1, c2, box)
    return end.x, (np.asarray(end.a, x.dtype),)


@rule(
    state=("x_last", "g_last", "recent"),
    scope="vector",
    begin={"recent": lambda x, h: np.full(h["memory"], -np.inf, x.dtype)},
)
def barzilai_borwein(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    fun: Any,
    evaluate: Evaluate,
    unclipped: Any,
    box: Box,
    lr: float = 1e-3,
    variant: str = "long",
    memory: int = 10,
    c1: float = 1e-4,
    lr_min: float = 1e-10,
    lr_max: float = 1e10,
) -> Step:
    """Barzilai–Borwein: the rate is one over the curvature along the last step.

        s, y = x - x_last, unclipped - g_last;   g_last = unclipped
        a = s·s / s·y        (variant "long");   a = s·y / y·y        (variant "short")
        x = x - a * g;   a halved until f ≤ (largest of the last ``memory`` values of f) - c1 * a * g·unclipped

    unclipped: the gradient, of which g is the clipped one if it is clipped. a is lr at first and when the curvature
    s·y is not positive, and is kept within lr_min and lr_max. f may rise on the way: that is what makes the rule fast.
    Within bounds x - a * g is put back onto them, and a * g·unclipped is what it moves times the gradient.

    Barzilai & Borwein, "Two-point step size gradient methods", IMA J. Numer. Anal. 1988; the safeguard: Raydan, "The
    Barzilai and Borwein gradient method for the large scale unconstrained minimization problem", SIAM J. Optim. 1997.
    """
    x_last, g_last, recent = state
    recent = np.concatenate([recent[1:], np.asarray([fun], x.dtype)])
    s, y = x - x_last, unclipped - g_last
    curvature = float(_dot(s, y))
    a = float(lr)
    if t > 1 and curvature > 0 and np.isfinite(curvature):
        a = float(_dot(s, s)) / curvature if variant == "long" else curvature / float(_dot(y, y))
    a = min(max(a, lr_min), lr_max)
    direction = _downhill(x, g, box)
    start = _started(x, unclipped, fun, direction)
    end = _armijo(_along(evaluate, start, direction, box), start, a, c1, max(float(recent.max()), start.fun))
    return end.x, (x, unclipped, recent)


@rule(
    state=("g_last", "square", "direction", "a", "held"),
    scope="vector",
    begin={"square": _number(0.0), "a": _number(0.0)},
)
def conjugate_gradient(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    fun: Any,
    evaluate: Evaluate,
    unclipped: Any,
    box: Box,
    lr: float = 1.0,
    variant: str = "pr+",
    c1: float = 1e-4,
    c2: float = 0.1,
) -> Step:
    """Nonlinear conjugate gradient: each direction keeps a part of the last one.

        b = max(g·(unclipped - g_last) / square, 0)   (variant "pr+");   b = g·unclipped / square   (variant "fr")
        direction = -g + b * direction                (-g if that would not go down)
        x = x + a * direction,   a by a strong Wolfe search;   g_last, square = unclipped, g·unclipped

    unclipped: the gradient, of which g is the clipped one if it is clipped; clipping then is what preconditioning is
    to conjugate gradients. The first trial is lr / max(1, sum(|g|)), later the a of the same expected decrease as the
    last one. Within bounds, components that push x out of them are left out of every gradient, and if others are
    left out than before, the direction is -g.

    Fletcher & Reeves, "Function minimization by conjugate gradients", Computer J. 1964; Polak & Ribière, "Note sur la
    convergence de méthodes de directions conjuguées", 1969; Gilbert & Nocedal, "Global convergence properties of
    conjugate gradient methods for optimization", SIAM J. Optim. 1992.
    """
    g_last, square_last, direction, a, held_last = state
    held = _pushing(x, g, box)
    g, unclipped = np.where(held, 0.0, g), np.where(held, 0.0, unclipped)
    square, b = _dot(g, unclipped), 0.0
    if square_last > 0 and a > 0 and np.array_equal(held, held_last):
        part = max(float(_dot(g, unclipped - g_last)), 0.0) if variant == "pr+" else float(square)
        b = part / float(square_last)
    slope_last = float(_dot(g_last, direction))
    direction = -g + b * direction
    lengths = float(np.sqrt(_dot(unclipped, unclipped) * _dot(direction, direction)))
    if b == 0 or not float(_dot(unclipped, direction)) < -1e-10 * lengths:
        direction = -g
    start = _started(x, unclipped, fun, direction)
    first = float(lr) / max(1.0, float(np.abs(g).sum()))
    if a > 0 and start.slope < 0:
        first = min(max(float(a) * slope_last / start.slope, first * 1e-6), 1e6 * float(a))
    end = _wolfe(_along(evaluate, start, direction, box), start, first, c1, c2, box)
    kept = (unclipped, np.asarray(square, x.dtype), direction, np.asarray(end.a, x.dtype), held.astype(x.dtype))
    return end.x, kept


@rule(
    state=("s", "y", "ends", "inverse", "along", "x_last", "g_last", "step"),
    scope="vector",
    begin={
        "s": lambda x, h: np.zeros((h["history_size"] + 1, x.size), x.dtype),
        "y": lambda x, h: np.zeros((h["history_size"] + 1, x.size), x.dtype),
        "ends": lambda x, h: np.array([0, h["history_size"]], x.dtype),  # pairs that there are, row of the newest
        "inverse": lambda x, h: np.zeros((h["history_size"], h["history_size"]), x.dtype),
        "along": lambda x, h: np.zeros(h["history_size"], x.dtype),
    },
    counts={"ends": "history_size"},
)
def lbfgs(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    fun: Any,
    evaluate: Evaluate,
    unclipped: Any,
    box: Box,
    lr: float = 1.0,
    history_size: int = 10,
    line_search: str = "wolfe",
    curvature_test: str = "relative",
    c1: float = 1e-4,
    c2: float = 0.9,
) -> Step:
    """L-BFGS: Newton's step with the inverse Hessian that the last steps and gradient changes tell of.

        s, y = x - x_last, unclipped - g_last         (the last history_size pairs with enough curvature s·y)
        direction = -H g                              (BFGS updates of H = s·y / y·y, one per pair)
        x = x + a * direction,   a from lr on by a strong Wolfe search   (line_search "none": a = lr)
        g_last = unclipped

    unclipped: the gradient, of which g is the clipped one if it is clipped. a is lr * min(1, 1 / sum(|g|)) at first,
    or what lowers a plane by 1.5e-8 |f| if f could not be seen to fall otherwise.
    A pair is kept if s·y > 1e-10 * |s| * |y| (curvature_test="relative"), in PyTorch if s·y > 1e-10 ("absolute").
    If no step along the direction lowers f, the pairs know only narrow directions: then the step along all
    others is made long enough for f to fall by 1.8e-12 |f|, and then by 1.5e-8 |f|, were it a plane. If that does
    not lower f either, or if the direction does not go down, the pairs are forgotten and the direction is -g: it
    never becomes NaN. PyTorch's default has no line search.
    Within bounds the direction leads to the lowest point within them of the parabola with the slopes g and curvature
    H⁻¹.

    Nocedal, "Updating quasi-Newton matrices with limited storage", Math. Comp. 1980; Nocedal & Wright, "Numerical
    optimization", 2006, Algorithm 7.5; the matrix: Byrd, Nocedal & Schnabel, "Representations of quasi-Newton matrices
    and their use in limited memory methods", Math. Programming 1994; the bounds: Schmidt, van den Berg, Friedlander &
    Murphy, "Optimizing costly functions with simple constraints", AISTATS 2009.
    """
    s, y, ends, inverse, along_last, x_last, g_last, step = state
    n, newest, column, curvature = int(ends[0]), int(ends[1]), None, 0.0
    if t > 1:
        # The step itself is more precise than x - x_last, unless x was projected onto bounds.
        moved = step if (x == x_last + step).all() else x - x_last
        change = unclipped - g_last
        curvature, change2 = float(_dot(moved, change)), float(_dot(change, change))
        scale = 1.0 if curvature_test == "absolute" else math.sqrt(float(_dot(moved, moved)) * change2)
        if math.isfinite(curvature) and curvature > 1e-10 * scale and change2 > 0:
            newest, k = (newest + 1) % len(s), min(n, history_size - 1)
            s, y = (rows if rows.flags.writeable else rows.copy() for rows in (s, y))
            s[newest], y[newest] = moved, change  # in place: that row is of no pair in use
            n, first = k + 1, n - k
            column = along_last[first : first + k]
    along = np.zeros_like(along_last)
    if n:
        along[:n] = _products(s, newest, n, unclipped)
    if column is not None:
        inverse = _with_pair(inverse, first, n - 1, along[: n - 1] - column, curvature)
    fresh = n == 0
    if fresh:
        direction = _downhill(x, g, box)
    elif box is None:
        along_g = along[:n] if g is unclipped else _products(s, newest, n, g)
        direction = _quasi_newton(g, s, y, newest, inverse[:n, :n], along_g)
    else:
        used = _places(newest, n, len(s))
        direction = _lowest(x, g, s[used], y[used], box)
    if not (math.isfinite(slope := float(_dot(unclipped, direction))) and slope < 0):
        n, direction, fresh = 0, _downhill(x, g, box), True
    short = min(1.0, 1.0 / max(float(np.abs(g).sum()), 1e-300)) * float(lr)
    if line_search == "none":
        a = short if t == 1 else float(lr)
        ends = np.array([n, newest], x.dtype)
        return x + a * direction, (s, y, ends, inverse, along, x, unclipped, a * direction)

    eps = float(np.finfo(x.dtype).eps)
    seen = eps**0.5 * abs(float(fun))

    def search(direction: Any, first: float) -> _Trial:
        start = _started(x, unclipped, fun, direction)
        if not start.slope < 0:
            return start
        if first == short and -first * start.slope <= eps * abs(start.fun):
            first = -seen / start.slope
        return _wolfe(_along(evaluate, start, direction, box), start, first, c1, c2, box)

    end = search(direction, short if fresh else float(lr))
    for part in (eps**0.75, eps**0.5):
        if end.a > 0 or fresh or box is not None:
            break
        direction = _quasi_newton(g, s, y, newest, inverse[:n, :n], along_g, part * abs(float(fun)))
        end = search(direction, float(lr))
    if end.a == 0 and not fresh:
        n, direction = 0, _downhill(x, g, box)
        end = search(direction, short)
    if end.a == 0:
        n = 0
    return end.x, (s, y, np.array([n, newest], x.dtype), inverse, along, x, unclipped, end.a * direction)


@rule(
    state=("radius", "scale", "promise"),
    scope="vector",
    begin={"radius": _number(0.0), "promise": _number(np.inf)},
)
def levenberg_marquardt(
    x: Any,
    g: Any,
    state: State,
    t: Any,
    *,
    fun: Any,
    evaluate: Evaluate,
    unclipped: Any,
    box: Box,
    residuals: Callable[[Any], tuple[Any, Any]],
    lr: float = 1.0,
) -> Step:
    """Levenberg–Marquardt: the least squares of the residuals, as if they were straight lines, within a trust region.

        f(x) = r·r,   J[i, j] = ∂r[i] / ∂x[j]
        step = the s with the least |r + J s| among those with |D s| ≤ radius,   D[j] = largest |J[:, j]| so far
        x = x + step if f falls, by at least 1e-4 of what |r + J s|² promises; else again with a smaller radius

    radius is lr * |D x| at first, shrinks if f falls by less than 1/4 of what was promised, and becomes twice |D s|
    if it falls by 3/4 of it or more. f must be a sum of squares in its own graph: of r**2, r*r, r @ r or norm(r)**2,
    its mean, half of it, weighted, or a sum of such sums. Within bounds what a step brings to a bound stays there while
    the others are found again. A clipped g takes the place of 2 J'r. If no step lowers f, x stays. promise: what f
    could fall by in all at the last x, were the residuals straight lines, whatever the radius.

    Levenberg, "A method for the solution of certain non-linear problems in least squares", Quart. Appl. Math. 1944;
    Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", J. SIAM 1963; the radius: Moré, "The
    Levenberg–Marquardt algorithm: implementation and theory", Lecture Notes in Mathematics 630, 1978.
    """
    radius, scale = float(state[0]), state[1]
    r, jacobian = residuals(x)
    if not np.isfinite(jacobian).all() or not np.isfinite(r).all():
        return x, state
    length = np.sqrt(np.einsum("ij,ij->j", jacobian, jacobian))
    if not np.isfinite(length).all():  # their squares are too large, they are not
        largest = np.maximum(np.abs(jacobian).max(axis=0), np.finfo(x.dtype).tiny)
        units = jacobian / largest
        length = largest * np.sqrt(np.einsum("ij,ij->j", units, units))
    scale = np.maximum(scale, length)
    d = np.where(scale > 0, scale, 1.0)
    fresh = radius == 0.0
    if fresh:
        radius = float(lr) * (float(np.sqrt(_dot(d * x, d * x))) or 1.0)
    held = _pushing(x, g, box)
    pull = None if np.array_equal(g, unclipped) else g / 2
    while True:
        step, damped, ahead = _within_radius(r, jacobian, d, radius, held, pull, x, box)
        there = x + step if box is None else _arrived(x + step, x, step, box)
        step = there - x
        length = float(np.sqrt(_dot(d * step, d * step)))
        along = jacobian @ step
        slope, curvature = float(_dot(r, along)), float(_dot(along, along))
        promised = -2 * slope - curvature
        # a promise below the rounding of f can't be seen to be kept
        if np.array_equal(there, x) or not promised > np.finfo(x.dtype).eps / 16 * abs(float(fun)):
            return x, (np.asarray(radius, x.dtype), scale, np.asarray(ahead, x.dtype))
        if fresh:
            radius, fresh = min(radius, length), False
        trial, g_trial = evaluate(there)
        finite = np.isfinite(trial) and np.isfinite(g_trial).all()
        fallen = float(fun) - float(trial) if finite else -np.inf
        if fallen < 0.25 * promised:
            shrink = 0.5
            if fallen < 0:
                bottom = 2 * slope + fallen
                shrink = slope / bottom if np.isfinite(bottom) and bottom != 0 else 0.1
                shrink = min(max(shrink, 0.1), 0.5)
            radius = shrink * min(radius, 10 * length)
        elif not damped or fallen >= 0.75 * promised:
            radius = 2 * length
        if fallen >= 1e-4 * promised:
            return there, (np.asarray(radius, x.dtype), scale, np.asarray(ahead, x.dtype))


def _within_radius(
    r: Any, jacobian: Any, d: Any, radius: float, held: Any, pull: Any, x: Any, box: Box
) -> tuple[Any, bool, float]:
    """Return the s with the least |r + J s| among those with |d s| ≤ radius and x + s in the box, if the radius stopped
    it, and what |r + J s|² could fall by in all without radius and box.

    held: the components that stay. pull: takes the place of J'r, or None.
    """
    step, damped, ahead = np.zeros_like(x), False, None
    while not held.all():
        free = ~held
        rows = jacobian[:, free] / d[free]
        left, sizes, right = np.linalg.svd(rows, full_matrices=False)
        there = (
            sizes > max(rows.shape) * np.finfo(x.dtype).eps * sizes[0] if sizes[0] > 0 else np.zeros(len(sizes), bool)
        )
        left, sizes, right = left[:, there], sizes[there], right[there]
        if pull is None:
            part = sizes * (left.T @ (r + jacobian[:, held] @ step[held]))
        else:
            part = right @ (pull[free] / d[free])
        if ahead is None:
            ahead = float(np.square(part / sizes).sum())
        damping = _damping(part, sizes, radius)
        damped = damping > 0
        step[free] = -(right.T @ (part / (sizes * sizes + damping))) / d[free]
        if box is None:
            break
        low, high = box[0] - x, box[1] - x
        outside = free & ((step < low) | (step > high))
        if not outside.any():
            break
        step, held = np.where(outside, np.clip(step, low, high), step), held | outside
    return step, damped, ahead or 0.0


def _damping(part: Any, sizes: Any, radius: float) -> float:
    """Return the c ≥ 0 for which |part / (sizes² + c)| is the radius, to a tenth; 0 if it is shorter anyway."""
    square = sizes * sizes

    def excess(c: float) -> tuple[float, float]:
        ratio = part / (square + c)
        length = float(np.sqrt(ratio @ ratio))
        return length - radius, -float(ratio @ (ratio / (square + c))) / length if length else 0.0

    beyond, falling = excess(0.0) if len(sizes) else (0.0, 0.0)
    if beyond <= 0.1 * radius:
        return 0.0
    low, high = -_quotient(beyond, falling), _quotient(float(np.sqrt(part @ part)), radius)
    c = low
    for _ in range(30):
        c = c if low <= c <= high else max(1e-3 * high, float(np.sqrt(low * high)))
        beyond, falling = excess(c)
        if abs(beyond) <= 0.1 * radius:
            break
        low, high = (max(low, c), high) if beyond > 0 else (low, min(high, c))
        c -= _quotient(_quotient(beyond + radius, radius) * beyond, falling)
    return c


def _quotient(a: float, b: float) -> float:
    """Return a / b; NaN by 0, which is between no two bounds."""
    return a / b if b else math.nan


# The last pairs of L-BFGS go round in the rows of s and y; there is one more row than they need, so that what a step
# begins, and does not end, loses none of them. What is small goes by their age, the oldest first:
#
#     inverse = R⁻¹ of R[i, j] = s[i]·y[j] for i ≤ j, else 0;   along[i] = s[i]·g


def _places(newest: int, n: int, room: int) -> Any:
    """Return the rows of the last n pairs, the oldest first."""
    return np.arange(newest - n + 1, newest + 1) % room


def _products(rows: Any, newest: int, n: int, x: Any) -> Any:
    """Return the products of the last n rows with x."""
    if n <= newest + 1:
        return _dots(rows[newest - n + 1 : newest + 1], x)
    return _dots(rows, x)[_places(newest, n, len(rows))]


def _combined(rows: Any, newest: int, parts: Any) -> Any:
    """Return the sum of the last rows, each times its part."""
    n = len(parts)
    if n <= newest + 1:
        rows = rows[newest - n + 1 : newest + 1]
    else:
        given, parts = parts, np.zeros(len(rows), parts.dtype)
        parts[_places(newest, n, len(rows))] = given
    return parts.dot(rows) if rows.size <= ALONE else np.einsum("ki,k->i", rows, parts)


def _with_pair(inverse: Any, first: int, k: int, column: Any, curvature: float) -> Any:
    """Return R⁻¹ of the k pairs from ``first`` on and a new one, of which R has this column above its curvature."""
    longer = np.zeros_like(inverse)
    longer[:k, :k] = inverse[first : first + k, first : first + k]
    longer[:k, k] = _dots(longer[:k, :k], column) / -curvature
    longer[k, k] = 1 / curvature
    return longer


def _quasi_newton(g: Any, s: Any, y: Any, newest: int, inverse: Any, along: Any, visible: float = 0.0) -> Any:
    """Return -H g for the H of the pairs, the two-loop recursion in matrices, which goes through each row twice:

        u = R⁻¹ S'g,   q = g - Y u,   H g = c q + S R⁻ᵀ (D u - c Y'q)        c = s·y / y·y of the newest pair

    D: the s[i]·y[i] on a diagonal. visible: by how much f is to fall along the directions that no pair tells of, were
    it a plane, at the least.
    """
    u = _dots(inverse, along)
    q = np.subtract(g, _combined(y, newest, u))
    scale = 1 / (inverse[-1, -1] * _dot(y[newest], y[newest]))
    if visible > 0:
        scale = max(scale, visible / max(_dot(q, q), np.finfo(q.dtype).tiny))
    parts = _dots(inverse.T, scale * _products(y, newest, len(u), q) - u / inverse.diagonal())
    q *= scale
    return np.subtract(_combined(s, newest, parts), q, out=q)


def _lowest(x: Any, g: Any, s: Any, y: Any, box: tuple[Any, Any]) -> Any:
    """Return the d with the least g·d + d·B d / 2 for which x + d is in the box; zeros if it can't be found.

    B = c I - W' M⁻¹ W, with the pairs in the rows of s and y, each divided by |s|:
        c = y·y / s·y of the newest,   W = [y, c s],   M = [[-D, L'], [L, c s·s']]
        D: the s[i]·y[i] on a diagonal,   L[i, j] = s[i]·y[j] for i > j and else 0

    Newton's step in the components that no bound stops, put back onto the bounds, again and again: Bertsekas,
    "Projected Newton methods for optimization problems with simple constraints", SIAM J. Control Optim. 1982.
    """
    length = np.sqrt(np.einsum("ki,ki->k", s, s))[:, None]
    s, y = s / length, y / length
    products = np.einsum("ki,li->kl", s, y)
    c = float(_dot(y[-1], y[-1])) / float(products[-1, -1])
    rows = np.concatenate([y, c * s])
    lower = np.tril(products, -1)
    middle = np.block([[-np.diag(np.diag(products)), lower.T], [lower, c * np.einsum("ki,li->kl", s, s)]])

    def times(v: Any) -> Any:
        return c * v - np.einsum("ki,k->i", rows, np.linalg.solve(middle, np.einsum("ki,i->k", rows, v)))

    def newton(v: Any, free: Any) -> Any:
        alone = np.where(free, rows, 0.0)
        inner = middle - np.einsum("ki,li->kl", alone, alone) / c
        return -(v + np.einsum("ki,k->i", alone, np.linalg.solve(inner, np.einsum("ki,i->k", alone, v))) / c) / c

    room = box[0] - x, box[1] - x
    d, slopes = np.zeros_like(x), g
    aim = 1e-8 * float(np.abs(np.where(_pushing(d, g, room), 0.0, g)).max())
    try:
        for _ in range(50):
            held = _pushing(d, slopes, room)
            v = np.where(held, 0.0, slopes)
            if not float(np.abs(v).max()) > aim:
                break
            step = newton(v, ~held)
            while (outside := ((d <= room[0]) & (step < 0)) | ((d >= room[1]) & (step > 0))).any():
                held = held | outside
                step = newton(np.where(held, 0.0, v), ~held)
            moved = _search_model(d, slopes, step, times, room)
            if moved is None:
                unit = v / float(np.abs(v).max())  # the square of v itself may be 0
                curvature = float(_dot(unit, times(unit)))
                if curvature > 0:
                    moved = _search_model(d, slopes, -v * (float(_dot(unit, unit)) / curvature), times, room)
            if moved is None:
                break
            d, slopes = moved[0], slopes + moved[1]
    except np.linalg.LinAlgError:
        return np.zeros_like(x)
    return d


def _search_model(d: Any, slopes: Any, step: Any, times: Callable[[Any], Any], room: tuple[Any, Any]) -> Any:
    """Return a point from d along ``step`` where the parabola is lower, and how its slopes change; None: nowhere."""
    for _ in range(12):
        there = _clipped(d + step, room)
        move = there - d
        expected, change = float(_dot(slopes, move)), times(move)
        if expected + float(_dot(move, change)) / 2 <= 1e-4 * expected < 0:
            return there, change
        step = step / 2
    return None


def _ratio(a: Any, b: Any) -> Any:
    """Return a / b, and 0 if b is 0: a component that never had a gradient, or too small a one, does not move."""
    return a / np.where(b == 0, np.inf, b)
