"""Written by `python tests/stubs.py` from what koubai has at run time; don't edit by hand."""

from collections.abc import Mapping
from typing import Any, Literal

from koubai import nn, plot
from koubai.derivatives.check import GradientCheck, check_gradient
from koubai.derivatives.differences import Estimate, derivative, numerical_gradient
from koubai.derivatives.explain import explain
from koubai.derivatives.gradient import grad, hessian, hvp, jacobian, value_and_grad
from koubai.descent import optimizers, schedules
from koubai.descent.fit import fit
from koubai.descent.loop import iterate, minimize, resume
from koubai.descent.many import Many, minimize_many
from koubai.descent.optimizers import Optimizer, Rate
from koubai.descent.record import History, Run, Status, Step, load
from koubai.diagnosis import diagnose
from koubai.functions.expression import Expression, parse
from koubai.functions.problems import Problem, problems
from koubai.graph.call import trace
from koubai.search.basins import Basins, basins
from koubai.search.learning_rate import find_lr
from koubai.search.minima import FoundMinimum
from koubai.search.multistart import MultiStart, multistart
from koubai.search.race import race
from koubai.search.sweep import sweep

__version__: str
__all__ = [
    "AMSGrad",
    "ASGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "BarzilaiBorwein",
    "Basins",
    "COCOB",
    "ConjugateGradient",
    "DAdaptAdamW",
    "DoG",
    "DoWG",
    "Estimate",
    "Expression",
    "FoundMinimum",
    "Ftrl",
    "GradientCheck",
    "GradientDescent",
    "History",
    "LBFGS",
    "Lamb",
    "Lars",
    "LevenbergMarquardt",
    "Lion",
    "Many",
    "MoMo",
    "Momentum",
    "MultiStart",
    "Muon",
    "NAdam",
    "Nesterov",
    "NovoGrad",
    "PolyakSGD",
    "Problem",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Run",
    "SGD",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Status",
    "Step",
    "Yogi",
    "basins",
    "check_gradient",
    "derivative",
    "diagnose",
    "explain",
    "find_lr",
    "fit",
    "grad",
    "hessian",
    "hvp",
    "iterate",
    "jacobian",
    "load",
    "minimize",
    "minimize_many",
    "multistart",
    "nn",
    "numerical_gradient",
    "optimizers",
    "parse",
    "plot",
    "problems",
    "race",
    "resume",
    "schedules",
    "sweep",
    "trace",
    "value_and_grad",
]

class AMSGrad(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        amsgrad: bool = True,
        eps_in: Literal['corrected', 'raw'] = 'corrected',
        max_of: Literal['raw', 'corrected'] = 'raw',
        eps_root: float = 0.0,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class ASGD(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        lambd: float = 0.0001,
        alpha: float = 0.75,
        t0: float = 1000000.0,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch'] | None = None,
    ) -> None: ...

class AdaBelief(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-16,
        eps_root: float = 1e-16,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class Adadelta(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        rho: float = 0.9,
        eps: float = 1e-06,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class Adafactor(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta2_decay: float = -0.8,
        eps1: float | None = None,
        eps2: float = 0.001,
        d: float = 1.0,
        weight_decay: float = 0.0,
        eps1_in: Literal['clamp', 'square'] = 'clamp',
        relative_step: bool = True,
        decay_in: Literal['after_scale', 'first', 'unscaled'] = 'after_scale',
        factor_from: int = 1,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class Adagrad(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        lr_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        eps_in_sqrt: bool = False,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class Adam(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        amsgrad: bool = False,
        eps_in: Literal['corrected', 'raw'] = 'corrected',
        max_of: Literal['raw', 'corrected'] = 'raw',
        eps_root: float = 0.0,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class AdamW(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        amsgrad: bool = False,
        eps_in: Literal['corrected', 'raw'] = 'corrected',
        max_of: Literal['raw', 'corrected'] = 'raw',
        eps_root: float = 0.0,
        weight_decay: float = 0.01,
        decoupled_weight_decay: bool = True,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class Adamax(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        eps_in: Literal['max', 'denominator'] = 'max',
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class Adan(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.98,
        beta2: float = 0.92,
        beta3: float = 0.99,
        eps: float = 1e-08,
        eps_root: float = 1e-08,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class BarzilaiBorwein(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        variant: Literal['long', 'short'] = 'long',
        memory: int = 10,
        c1: float = 0.0001,
        lr_min: float = 1e-10,
        lr_max: float = 10000000000.0,
        weight_decay: float = 0.0,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        semantics: Literal['paper'] | None = None,
    ) -> None: ...

class COCOB(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        alpha: float = 100.0,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class ConjugateGradient(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        variant: Literal['pr+', 'fr'] = 'pr+',
        c1: float = 0.0001,
        c2: float = 0.1,
        weight_decay: float = 0.0,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        semantics: Literal['paper'] | None = None,
    ) -> None: ...

class DAdaptAdamW(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        estim_lr0: float = 1e-06,
        weight_decay: float = 0.0,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class DoG(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        reps_rel: float = 1e-06,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class DoWG(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        init_estim_sq_dist: float | None = None,
        eps: float = 0.0001,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class Ftrl(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        lr_power: float = -0.5,
        initial_accumulator: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        l2_shrinkage: float = 0.0,
        beta: float = 0.0,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['keras'] | None = None,
    ) -> None: ...

class GradientDescent(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        line_search: Literal['armijo', 'wolfe'] = 'armijo',
        c1: float = 0.0001,
        c2: float = 0.9,
        weight_decay: float = 0.0,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        semantics: Literal['paper'] | None = None,
    ) -> None: ...

class LBFGS(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        history_size: int = 10,
        line_search: Literal['wolfe', 'none'] = 'wolfe',
        curvature_test: Literal['relative', 'absolute'] = 'relative',
        c1: float = 0.0001,
        c2: float = 0.9,
        weight_decay: float = 0.0,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        semantics: Literal['paper', 'torch'] | None = None,
    ) -> None: ...

class Lamb(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-07,
        weight_decay: float = 0.0,
        decay_in: Literal['ratio', 'first'] = 'first',
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['keras', 'optax'] | None = None,
    ) -> None: ...

class Lars(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        momentum: float = 0.9,
        nesterov: bool = False,
        trust_coefficient: float = 0.001,
        eps: float = 0.0,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class LevenbergMarquardt(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        weight_decay: float = 0.0,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        semantics: Literal['paper'] | None = None,
    ) -> None: ...

class Lion(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['keras', 'optax'] | None = None,
    ) -> None: ...

class MoMo(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta: float = 0.9,
        lower_bound: float = 0.0,
        weight_decay: float = 0.0,
        adapt_lower_bound: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class Momentum(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        momentum: float = 0.9,
        dampening: float = 0.0,
        nesterov: bool = False,
        lr_inside: bool = False,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class Muon(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        ns_a: float = 3.4445,
        ns_b: float = -4.775,
        ns_c: float = 2.0315,
        ns_steps: int = 5,
        eps: float = 1e-07,
        eps_in: Literal['max', 'sum'] = 'max',
        average: Literal['mean', 'sum', 'corrected'] = 'mean',
        adjust_lr_fn: Literal['original', 'match_rms_adamw', 'width_transfer'] = 'original',
        rest: Literal['adam', 'nadam'] = 'adam',
        adam_lr_ratio: float = 1.0,
        adam_beta1: float = 0.9,
        adam_beta2: float = 0.999,
        adam_eps: float = 1e-08,
        adam_weight_decay: float = 0.01,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class NAdam(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        momentum_decay: float = 0.004,
        eps_root: float = 0.0,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class Nesterov(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        momentum: float = 0.9,
        dampening: float = 0.0,
        nesterov: bool = True,
        lr_inside: bool = False,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class NovoGrad(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.25,
        eps: float = 1e-06,
        eps_root: float = 0.0,
        weight_decay: float = 0.0,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class PolyakSGD(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        f_min: float = 0.0,
        eps: float = 0.0,
        positive_gap: bool = True,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['paper', 'optax'] | None = None,
    ) -> None: ...

class Prodigy(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        beta3: float | None = None,
        eps: float = 1e-08,
        estim_lr0: float = 1e-06,
        estim_lr_coef: float = 1.0,
        weight_decay: float = 0.0,
        safeguard_warmup: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class RAdam(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        eps_in: Literal['raw', 'corrected'] = 'raw',
        eps_root: float = 0.0,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'optax'] | None = None,
    ) -> None: ...

class RMSprop(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        alpha: float = 0.99,
        eps: float = 1e-08,
        momentum: float = 0.0,
        centered: bool = False,
        nesterov: bool = False,
        eps_in_sqrt: bool = False,
        lr_inside: bool = False,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class Rprop(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        eta_minus: float = 0.5,
        eta_plus: float = 1.2,
        step_min: float = 1e-06,
        step_max: float = 50.0,
        one_late: bool = False,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'optax'] | None = None,
    ) -> None: ...

class SGD(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        lr_inside: bool = False,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['torch', 'keras', 'optax'] | None = None,
    ) -> None: ...

class ScheduleFreeAdamW(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        weight_lr_power: float = 0.0,
        decay_in: Literal['z', 'y'] = 'y',
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['keras', 'optax'] | None = None,
    ) -> None: ...

class ScheduleFreeSGD(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        weight_lr_power: float = 2.0,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...

class Yogi(Optimizer):
    def __init__(
        self,
        lr: Rate | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 0.001,
        initial_accumulator: float = 1e-06,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        semantics: Literal['optax'] | None = None,
    ) -> None: ...
