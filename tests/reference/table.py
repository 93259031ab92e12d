"""docs/optimizers.md, made from koubai's own tables and the measured differences."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reference.cases import CASES, STEPS, TOLERANCE, TOLERANCES, Case

from koubai import optimizers
from koubai.descent.optimizers import FRAMEWORKS, PRESETS, SEMANTICS

TABLE = Path(__file__).parents[2] / "docs" / "optimizers.md"

HEAD = """\
# The optimizers, and how they agree with the frameworks

This page is written by `python tests/reference/frameworks.py`, which runs every optimizer beside the framework that it
follows: {versions}. float64, {steps} updates, on a 12-dimensional quadratic of condition 1000, on
Rosenbrock's function and on a logistic regression. The frameworks update their own parameters; the gradients come from
the same NumPy function.

## Differences along the path

The largest difference of any component at any of the {steps} steps, relative to the largest component of the path; the
worst of the three problems. At most {tolerance:.0e} everywhere{but}. What a setting does not name has the framework's
default, here as there.

L-BFGS subtracts gradients that are nearly equal, so that rounding grows along its path: by 1e-16 a path agrees for its
first twenty steps, and then, without a line search or with a short history, an ulp grows to 1e-8 and more. The settings
are among those that let it grow least, and both stay where the gradient is below PyTorch's tolerance_grad. Other
settings at which a path is chaotic (Adadelta, DoWG and Polyak SGD with their default lr on these problems) tell nothing
about the formula and are not among the rows.

Four frameworks' faults are mended before comparing, since they are not part of the formula:

- PyTorch's Muon rounds its matrix to bfloat16, three digits; it is run with the same polynomial in float64.
- Keras's `maximum`, `minimum` and `norm` give float32 whatever goes in, which reaches `clipnorm`, Adafactor and Muon.
- Keras's ScheduleFreeAdamW, on its torch backend alone, overwrites z before it has read the old one.
- optax's Adafactor computes its decay in float32.

| optimizer | framework | setting | largest difference |
|---|---|---|---|
"""

MIDDLE = """
## What each framework does differently

`semantics="torch" | "keras" | "optax"` chooses the formula and the defaults. A dash: the framework has no such
optimizer. Arguments that say the same in all of them are left out. `decoupled_weight_decay` is false in torch, where
weight decay is added to the gradient, and true in Keras. In optax weight decay is whatever is chained; here it is
coupled but in AdamW, Lion and Adan. optax has no default `lr`: the rule's own stands in. `clipnorm` clips the norm of
all parameters in torch (with 1e-6 added to the norm) and in optax, that of each array in Keras.

`clipvalue` and `clipnorm` are options of every optimizer. GradientDescent, BarzilaiBorwein, ConjugateGradient, LBFGS
and LevenbergMarquardt go along the clipped gradient, but take slopes and curvatures from the gradient itself: a clipped
gradient is no function's gradient, and a search or a quasi-Newton matrix that trusts it is led astray. (Where a PyTorch
closure clips, its L-BFGS sees nothing but clipped gradients.) The line searches may then go further than the first
trial, so that there `clipnorm` shortens that trial rather than the step. Their weight decay is a part of f and is
clipped with it.

| optimizer | argument | {frameworks} |
|---|---|{dashes}|
"""


def table(worst: Mapping[Case, float], versions: Mapping[str, str]) -> str:
    """Return the page."""
    loose = [case for case in CASES if (case.framework, case.optimizer, case.setting) in TOLERANCES]
    exceptions = sorted({f"{c.framework}'s {c.optimizer} with {_settings(c)} ({c.tolerance:.0e})" for c in loose})
    text = HEAD.format(
        versions=", ".join(f"{name} {number}" for name, number in versions.items()),
        steps=STEPS,
        tolerance=TOLERANCE,
        but=f", but for {', '.join(exceptions)}" if exceptions else "",
    )
    for case in CASES:
        if case.problem != "quadratic":
            continue
        largest = max(
            d for c, d in worst.items()
            if (c.framework, c.optimizer, c.setting) == (case.framework, case.optimizer, case.setting)
        )  # fmt: skip
        name = optimizers.resolve(case.optimizer).__class__.__name__
        text += f"| {name} | {case.framework} | {_settings(case)} | {largest:.1e} |\n"
    return text + semantics_and_formulas()


def _settings(case: Case) -> str:
    return ", ".join(f"{n}={v}" for n, v in case.settings.items())


def semantics_and_formulas() -> str:
    """Return the part of the page that needs no framework: what differs, and every formula."""
    frameworks = [f for f in FRAMEWORKS if f != "paper"]
    text = MIDDLE.format(frameworks=" | ".join(frameworks), dashes="|".join("---" for _ in frameworks))
    for name in optimizers.names():
        cls = type(optimizers.resolve(name))
        rows = SEMANTICS[PRESETS.get(name, (cls.rule.name,))[0]]
        made = {f: cls(semantics=f) for f in frameworks if f in rows}
        own = {f: {"lr": one.lr, **one.hyperparameters} for f, one in made.items()}
        if not own:
            continue
        first = next(iter(own.values()))
        differing = [n for n in first if n != "decoupled_weight_decay" and (len({str(v[n]) for v in own.values()}) > 1)]
        for argument in differing or [""]:
            values = " | ".join(_shown(own[f][argument]) if f in own and argument else _has(f, own) for f in frameworks)
            text += f"| {cls.__name__} | {argument and f'`{argument}`'} | {values} |\n"
    text += "\n## Formulas\n"
    for name in optimizers.names():
        if name in PRESETS:
            continue
        cls = type(optimizers.resolve(name))
        doc = inspect.cleandoc(cls.rule.formula.__doc__ or "").splitlines()
        text += f"\n### {cls.__name__}\n\n{doc[0]}\n" + "\n".join(doc[1:]) + "\n"
    return text


def _has(framework: str, own: Mapping[str, Any]) -> str:
    return ("same" if len(own) > 1 else "yes") if framework in own else "–"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
