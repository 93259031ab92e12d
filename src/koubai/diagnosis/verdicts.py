"""Why a descent ended as it did: the rules, in the order in which they are asked, and what each of them measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from koubai.derivatives.check import WrongComponent, check_gradient
from koubai.descent.default import remade, with_rate
from koubai.descent.files import describe_function
from koubai.descent.objective import Bounds
from koubai.descent.optimizers import LBFGS, Optimizer
from koubai.descent.record import Status
from koubai.descent.schedules import cosine
from koubai.descent.stability import fixed_bound
from koubai.descent.stopping import Point
from koubai.diagnosis.case import KEPT, TAIL, Case, SpentError, Trial
from koubai.errors import KoubaiError, quiet
from koubai.graph.call import Leaves, trace
from koubai.graph.graph import run_nodes
from koubai.graph.user_code import named_place
from koubai.parameters import FloatArray, flatten

__all__ = ["FAULTS", "Evidence", "Finding", "Remedy", "Share", "first_nonfinite", "judged"]

FAULTS = (
    "lr_too_large", "lr_too_small", "ill_conditioned", "plateau", "noisy_gradient", "wrong_gradient", "nonfinite",
    "noise_floor", "kink", "unbounded", "saddle", "local_minimum", "vanishing_gradient", "dead_relu", "overfitting",
)  # fmt: skip
SOLVED = 1e-6  # of all that f could fall: an end so near to the lowest point nearby has arrived
NEAR = 1e-2  # of f at the lowest point nearby, if that is not 0
CROSSING = -0.3  # a mean cosine between two steps below this: the path goes to and fro
HARD = 20.0  # a condition number beyond which the shape of f is what makes a descent slow
FLAT = 1e-2  # of what f could fall: a slope or bend over the path's extent that explains less of it is flat
JUMP = 0.1  # of a change of slope, on 1/1024 of the distance: a kink
TRIAL = 20  # steps in which a rate that is named has to lower f
FEW = 2  # steps, which alone say nothing of a rate
ROOM = 3.0  # the largest stable rate beside a rate that is too small, at least
FADED = 1e-3  # of the largest rate of a schedule: where it has fallen to, it is next to nothing
HALF = 0.5  # of how far above the lowest point f was before: it hovers if it keeps more, and a small rate leaves less
LOUD = 1e-2  # of what f has fallen by: through more noise no difference sees a slope
MOMENTUM = 0.95  # beyond it a step goes on for so long that it is the momentum which overshoots
PROBE = 40  # steps of a trial at another rate, at most


class Share(float):
    """A part of a whole, which texts show as a percentage."""


@dataclass(frozen=True)
class Evidence:
    """One thing that was measured: its value, how, and what it was compared with."""

    value: Any
    source: str
    bound: Any = None


@dataclass(frozen=True)
class Remedy:
    """A change to the call: arguments of `Run.again`, and the name of the text that explains it."""

    change: dict[str, Any]
    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A verdict: its code, which of the texts of that code tells it, what was measured, and what may help."""

    code: str
    text: str
    evidence: dict[str, Evidence]
    remedies: tuple[Remedy, ...] = ()


def judged(case: Case) -> Finding:
    """Return the verdict on a descent."""
    for rule in (
        _wrong_gradient,
        _not_begun,
        _noisy_f,
        _nonfinite,
        _grew,
        _noise_floor,
        _unending,
        _stalled,
        _slow,
        _arrived,
    ):
        try:
            if (finding := rule(case)) is not None:
                return finding
        except SpentError:
            continue
    return _unfinished(case, _where(case))


# -- what several verdicts tell ---------------------------------------------------------------------------------------


def _where(case: Case) -> dict[str, Evidence]:
    """Return the start, the end, and how much lower f is nearby."""
    evidence = {
        "f_start": Evidence(case.start, "history"),
        "f_end": Evidence(case.end, "history"),
        "steps": Evidence(int(case.run.nit), "history"),
    }
    if case.lr is not None:
        evidence["lr"] = Evidence(case.lr, "history")
    return evidence


def _below(case: Case) -> dict[str, Evidence]:
    return {"f_low": Evidence(float(case.low.fun), "lbfgs")}


def _bends(case: Case) -> dict[str, Evidence]:
    """Return the curvatures at the end, and what they mean for the rate."""
    found = case.curvature
    if found is None:
        return {}
    evidence = {"L": Evidence(found.largest, "lanczos"), "mu": Evidence(found.smallest, "lanczos")}
    if found.smallest > 0:
        evidence["condition"] = Evidence(found.largest / found.smallest, "lanczos")
    if (stable := _stable(case, found.largest)) is not None:
        evidence["stable_lr"] = Evidence(stable, "bound")
    return evidence


def _stable(case: Case, largest: float) -> float | None:
    """Return the largest stable rate for this curvature."""
    if case.optimizer is None or case.is_search or not largest > 0:
        return None
    return fixed_bound(case.optimizer, largest)


def _unfinished(case: Case, evidence: dict[str, Evidence], text: str = "unfinished") -> Finding:
    """It may just go on: where its steps ran out, or somebody stopped it."""
    if case.run.status is not Status.stopped:
        return Finding("unfinished", text, evidence, _go_on(case))
    go_on = Remedy({"on_step": None}, "go_on")
    return Finding("unfinished", "unfinished.stopped", evidence, (go_on, *_other_optimizer(case)))


def _go_on(case: Case) -> tuple[Remedy, ...]:
    more = max(10 * int(case.run.options.get("max_steps", case.run.nit) or 1), 100)
    remedies = [Remedy({"max_steps": more}, "more_steps", {"max_steps": more})]
    return (*remedies, *_other_optimizer(case))


def _other_optimizer(case: Case) -> tuple[Remedy, ...]:
    if isinstance(case.optimizer, LBFGS) or case.call.options.get("batches") is not None:
        return ()
    return (Remedy({"optimizer": LBFGS()}, "lbfgs"),)


def _rates(case: Case, *rates: float | None) -> tuple[Remedy, ...]:
    """Return the run with the same optimizer at other rates."""
    found: list[Remedy] = []
    for lr in rates:
        if lr is not None and math.isfinite(lr) and lr > 0 and lr not in [remedy.values["lr"] for remedy in found]:
            found.append(Remedy({"lr": float(f"{lr:.2g}")}, "lr", {"lr": float(f"{lr:.2g}")}))
    return tuple(found)


def _tried_rates(case: Case, *rates: float | None, steps: int = TRIAL) -> tuple[Remedy, ...]:
    """Return the run at other rates; none is the first that a short descent from the start has failed."""
    remedies = list(_rates(case, *rates))
    while remedies and case.left >= 4:
        trial = case.at_rate(remedies[0].values["lr"], min(steps, case.left - 2))
        if not trial.trouble and trial.fun[-1] < trial.fun[0]:
            break
        if trial.trouble == "spent":
            break
        remedies.pop(0)
    return tuple(remedies)


# -- a gradient that is not that of f ---------------------------------------------------------------------------------


def _wrong_gradient(case: Case) -> Finding | None:
    """A gradient of the user's own is compared with differences of f, at the start and at the end."""
    if case.run.gradient_source != "user" or not (callable(case.grad) or case.grad is True):
        return None
    f = case.call.f
    plain = (lambda x: f(x, *case.args)[0]) if case.grad is True else (lambda x: f(x, *case.args))
    places = [(case.start_x, "start")] if _exploded(case) else [(case.start_x, "start"), (case.end_x, "end")]
    for x, place in places:
        point = case.at(x)
        if point is None:
            continue
        narrow = point.g.astype(np.float32)
        g = narrow if np.array_equal(narrow, point.g) else point.g  # computed so: its rounding is no fault
        try:
            found = check_gradient(plain, case.layout.view(g), case.layout.view(x.astype(case.layout.dtype)))
        except KoubaiError:
            continue
        if not found.ok and found.wrong:
            worst = max(found.wrong, key=lambda wrong: abs(wrong.given - wrong.expected))
            evidence = _where(case) | {
                "component": Evidence(_label(worst.index), "check_gradient"),
                "given": Evidence(float(worst.given), "user"),
                "expected": Evidence(float(worst.expected), "differences", worst.tolerance),
                "place": Evidence(place, "history"),
                "wrong": Evidence(len(found.wrong), "check_gradient"),
            }
            remedies: tuple[Remedy, ...] = (Remedy({"grad": "auto"}, "grad_auto"),)
            if (factor := _factor(found.wrong, case.layout.size)) is None:
                return Finding("wrong_gradient", "wrong_gradient", evidence, remedies)
            evidence["factor"] = Evidence(factor, "check_gradient")
            if case.fixed_lr is not None and factor > 0:  # its steps were those of another rate
                lr = float(f"{case.fixed_lr * factor:.2g}")
                remedies = (Remedy({"grad": "auto", "lr": lr}, "grad_auto_lr", {"lr": lr}), *remedies)
            return Finding("wrong_gradient", "wrong_gradient.factor", evidence, remedies)
    return None


def _factor(wrong: Sequence[WrongComponent], n: int) -> float | None:
    """Return by what all components of the right gradient are multiplied in the given one; None if by no one number."""
    factors = [w.given / w.expected for w in wrong if w.expected]
    if n < 2 or len(factors) < n or np.ptp(factors) > 1e-3 * abs(factors[0]):
        return None
    return float(f"{float(np.median(factors)):.4g}")


def _label(index: Any) -> str:
    return str(index[0] if isinstance(index, tuple) and len(index) == 1 else index)


def _not_begun(case: Case) -> Finding | None:
    """No step was asked for: nothing is known of the descent."""
    if case.run.nit or case.run.status not in (Status.max_steps, Status.stopped):
        return None
    return Finding("unfinished", "unfinished.none", _where(case), _go_on(case))


# -- not finite, or without end ---------------------------------------------------------------------------------------


def _nonfinite(case: Case) -> Finding | None:
    run = case.run
    if run.status is not Status.nonfinite or _exploded(case):
        return None
    evidence = _where(case) | {"message": Evidence(run.message, "history")}
    evidence |= first_nonfinite(case)
    if (off := _off_the_edge(case, evidence)) is not None:
        return off
    # a smaller rate needs more steps to come as far
    steps = max(TRIAL, min(case.left // 2, 10 * (run.nit + 1)))
    rates = (case.fixed_lr * k for k in (0.1, 0.01, 1e-3)) if case.fixed_lr else ()
    remedies = _tried_rates(case, *rates, steps=steps)
    return Finding("nonfinite", "nonfinite", evidence, (*remedies, *_other_optimizer(case)))


def _off_the_edge(case: Case, evidence: dict[str, Evidence]) -> Finding | None:
    """F falls as far as its domain goes: at any rate the descent is led out of it, and bounds alone help."""
    if (fun := case.falls_off()) is None:
        return None
    evidence = evidence | {"f_low": Evidence(fun, "line")}
    evidence.setdefault("message", Evidence(case.run.message, "history"))
    return Finding("nonfinite", "nonfinite.edge", evidence, _tried_bounds(case))


def _tried_bounds(case: Case) -> tuple[Remedy, ...]:
    """Return bounds that keep x off the edge of the domain, and within which a short descent lowers f."""
    start, end, outside = case.start_x.astype(float), case.end_x, case.outside
    assert outside is not None
    low, high = np.full(end.size, -math.inf), np.full(end.size, math.inf)
    if case.bounds is not None:
        low, high = case.bounds.low.astype(float), case.bounds.high.astype(float)
    found = False
    for i in np.flatnonzero(outside != end)[:100]:
        there = end.copy()
        there[i] = outside[i]
        if (edge := case.edge(end, there)) is None:
            continue
        bound = float(f"{edge[i] + 0.1 * (start[i] - edge[i]):.2g}")
        if end[i] > outside[i] and edge[i] < bound <= start[i]:
            low[i], found = bound, True
        elif end[i] < outside[i] and start[i] <= bound < edge[i]:
            high[i], found = bound, True
    if not found:
        return ()
    box, remedies = _bounds(case, low, high), []
    for text, optimizer in (("bounds", case.optimizer), ("bounds_lbfgs", LBFGS())):
        if optimizer is None or case.left < 4 or (text == "bounds_lbfgs" and not _other_optimizer(case)):
            continue
        inside = case.within(box)
        trial = inside.descend(optimizer, case.start_x, TRIAL, most=case.left // 2)
        case.spent = inside.spent
        if trial.trouble in ("", "spent") and trial.fun[-1] < trial.fun[0]:
            change = {"bounds": box} | ({"optimizer": optimizer} if text == "bounds_lbfgs" else {})
            remedies.append(Remedy(change, text, {"bounds": box}))
    return tuple(remedies)


def _exploded(case: Case) -> bool:
    """Whether f, or x, grew much along the path before it ended."""
    if len(case.fun) < 2:
        return False
    sizes = np.linalg.norm(case.path, axis=1)
    grew = float(np.max(case.fun)) - case.start > 10 * max(abs(case.start), 1e-12) and case.fun[-1] >= np.max(case.fun)
    return bool(grew or sizes[-1] > 1e3 * max(1.0, sizes[0]))


def first_nonfinite(case: Case) -> dict[str, Evidence]:
    """Return the first operation of f that is not finite where the failed step led, and its line in the user's code."""
    if case.run.failed_x is None:
        return {}
    there = case.layout.view(flatten(case.run.failed_x)[1])
    try:
        graph = trace(case.call.f, case.layout.view(case.end_x.astype(case.layout.dtype)), *case.args)
        leaves = Leaves.of(case.call.f, [there, *case.args], {}, (0,))
        with quiet():
            values = run_nodes(graph, leaves.values)
    except Exception:  # another path of f, or one that can't be traced
        return {}
    for node, value in zip(graph.nodes, values, strict=False):
        if np.issubdtype(np.asarray(value).dtype, np.inexact) and not np.isfinite(value).all():
            operands = ", ".join(f"{_there(values[j], np.asarray(value)):.6g}" for j in node.inputs[:2])
            (name,) = describe_function(case.run.function).values()
            place = name if node.where is None else named_place(node.where)
            return {
                "operation": Evidence(f"{node.op.name}({operands})", "trace"),
                "place": Evidence(place, "trace"),
            }
    return {}


def _there(operand: Any, result: Any) -> float:
    """Return the number of an operand that led to the first number of the result that is not finite."""
    if np.shape(operand) == np.shape(result) or np.ndim(operand) < np.ndim(result):
        operand = np.broadcast_to(operand, np.shape(result))
        return float(operand[np.unravel_index(int(np.argmin(np.isfinite(result))), np.shape(result))])
    spoilt = np.ravel(operand)[~np.isfinite(np.ravel(operand))]
    return float(spoilt[0] if spoilt.size else np.ravel(operand)[0])


def _grew(case: Case) -> Finding | None:
    """F ran away: downward without end, or upward because the steps are too long."""
    run = case.run
    size = float(np.linalg.norm(case.end_x))
    far = run.status is Status.max_steps and size > 1e4 * max(1.0, float(np.linalg.norm(case.start_x)))
    if run.fun < case.start and (run.status is Status.diverged or (far and case.turning > 0.9)):
        evidence = _where(case) | {"x_size": Evidence(size, "history")}
        return Finding("unbounded", "unbounded", evidence, _box(case))
    wild = run.status in (Status.diverged, Status.nonfinite)
    if case.lr is None or not (wild or (case.fixed_lr and case.end > case.start + 1e-9 * abs(case.start))):
        return None
    return _too_large(case, "diverged" if wild else "risen")


def _box(case: Case) -> tuple[Remedy, ...]:
    """Return the run within ten times its start, and by a search where its own steps may not get so far."""
    reach = float(f"{10 * max(1.0, float(np.max(np.abs(case.start_x)))):.1g}")
    low, high = np.full(case.layout.size, -reach), np.full(case.layout.size, reach)
    if case.bounds is not None:
        low, high = np.maximum(low, case.bounds.low), np.minimum(high, case.bounds.high)
    box = _bounds(case, low, high)
    by_search = Remedy({"bounds": box, "optimizer": LBFGS()}, "bounds_lbfgs", {"bounds": box})
    return (Remedy({"bounds": box}, "bounds", {"bounds": box}), *([by_search] if _other_optimizer(case) else ()))


def _bounds(case: Case, low: FloatArray, high: FloatArray) -> Any:
    """Return flat bounds as `minimize` takes them: one pair if one does for all."""
    if len({*low.tolist()}) == len({*high.tolist()}) == 1:
        first, last = Bounds(low[:1], high[:1]).pairs()[0]
        return (first, last)
    pairs, layout = Bounds(low, high).pairs(), case.layout
    found = [
        np.array(pairs[part], dtype=object).reshape((*shape, 2)).tolist()
        for part, shape in zip(layout.slices, layout.shapes, strict=True)
    ]
    return found[0] if layout.names is None else dict(zip(layout.names, found, strict=True))


def _unending(case: Case) -> Finding | None:
    return None if case.run.success else _falls_on(case)


def _falls_on(case: Case) -> Finding | None:
    """F has not come to rest, and falls on and on ahead of the path."""
    if not case.run.nit or not case.end < case.start:
        return None
    if case.run.status in (Status.diverged, Status.nonfinite, Status.target_reached):
        return None
    if (found := case.falls_on()) is None:
        return None
    x, fun = found
    evidence = _where(case) | {
        "f_low": Evidence(fun, "line"),
        "distance": Evidence(float(np.linalg.norm(x - case.end_x)), "line"),
        "grad_norm": Evidence(float(np.max(np.abs(case.end_g))), "history"),
    }
    return Finding("unbounded", "unbounded.ahead", evidence, _box(case))


def _too_large(case: Case, how: str) -> Finding:
    lr = case.fixed_lr or case.lr or 0.0
    evidence = _where(case)
    found = case.curvature_at(case.start_x) if how == "diverged" else case.curvature
    stable = None
    if found is not None:
        evidence["L"] = Evidence(found.largest, "lanczos")
        stable = _stable(case, found.largest)
        if stable is not None:
            evidence["stable_lr"] = Evidence(stable, "bound")
    if how in ("hovering", "momentum"):
        evidence |= _below(case)
    if how == "momentum" and case.optimizer is not None:
        evidence["momentum"] = Evidence(float(case.optimizer.hyperparameters["momentum"]), "history", MOMENTUM)
    if how in ("cycle", "bouncing"):
        evidence["turning"] = Evidence(case.turning, "path", CROSSING)
    if how == "diverged" and found is None:
        how = "risen"
    elif how == "diverged" and stable is not None and stable < lr:
        how = "known"
    below = [stable / 2] if stable is not None and stable <= 2 * lr else []
    smaller = [lr / 3, *(lr / 10**k for k in range(1, 9))]
    remedies = (*_tried_rates(case, *below, *smaller), *_other_optimizer(case))
    if how in ("unsteady", "momentum") and (calmer := _calmer(case)) is not None:
        remedies = (Remedy({"optimizer": calmer}, "momentum", {"momentum": 0.9}), *remedies)
    return Finding("lr_too_large", f"lr_too_large.{how}", evidence, remedies)


# -- noise ------------------------------------------------------------------------------------------------------------


def _noise_floor(case: Case) -> Finding | None:
    if case.run.status is not Status.noise_floor:
        return None
    evidence = _where(case) | {"grad_norm": Evidence(float(case.run.history.grad_norm[-1]), "history")}
    return Finding("noise_floor", "noise_floor", evidence, (Remedy({"grad": "auto"}, "grad_auto"),))


def _noisy_f(case: Case) -> Finding | None:
    """Whether f itself jumps: its values close together scatter far more than rounding explains."""
    if not case.run.gradient_source.endswith("differences"):
        return None
    x = case.start_x.astype(float) if _exploded(case) else case.end_x
    eps = float(np.finfo(case.layout.dtype).eps)
    width = 1e-7 * max(1.0, float(np.max(np.abs(x))))
    random = np.random.default_rng(0)
    along = random.choice([-1.0, 1.0], x.size)
    values = np.array([case.value(x + k * width * along) for k in range(-4, 5)] + [case.value(x)])
    if not np.isfinite(values).all():
        return None
    # third differences of a smooth f at such distances are rounding
    third = np.abs(np.diff(values[:9], 3)) / math.sqrt(20)
    noise = float(np.median(third))
    again = abs(values[9] - values[4])
    noise = max(noise, again)
    rounding = 1e3 * eps * max(float(np.max(np.abs(values))), 1e-300)
    if noise <= rounding:
        return None
    evidence = _where(case) | {"noise": Evidence(noise, "values", rounding)}
    is_random = again > rounding
    text = "noisy_gradient.random" if is_random else "noisy_gradient.rough"
    remedies = (Remedy({"grad": "adaptive"}, "grad_adaptive"), *_rates(case, (case.fixed_lr or 0) / 10))
    if is_random and not noise < LOUD * (case.start - float(case.run.best_fun)):
        remedies = (Remedy({}, "seed"), *remedies)
    return Finding("noisy_gradient", text, evidence, remedies)


# -- x stands still ---------------------------------------------------------------------------------------------------


def _stalled(case: Case) -> Finding | None:
    run = case.run
    if run.status is not Status.stalled or _is_near(case):
        return None
    if (finding := _decayed(case) or _faded(case)) is not None:
        return finding
    if (finding := _off_the_edge(case, _where(case)) or _kink(case)) is not None:
        return finding
    lower = case.elsewhere
    if lower is not None and float(np.linalg.norm(case.end_g)) * case.extent <= FLAT * (case.end - lower.fun):
        return _at_rest(case) or _plateau(case)
    if run.history.grad_norm[-1] == 0 or _is_flat(case):
        return _at_rest(case) or _plateau(case)
    stands = len(case.steps) and not np.any(case.steps[-1])
    if case.gap > 0 and case.fixed_lr is not None and stands:
        return _too_small(case, "below_rounding")
    return None


def _decayed(case: Case) -> Finding | None:
    """Whether x rests where weight decay balances the gradient: in the minimum of another function than f."""
    optimizer = case.optimizer
    decay = 0.0 if optimizer is None else float(optimizer.hyperparameters.get("weight_decay") or 0.0)
    if not decay or optimizer is None:
        return None
    pulled = case.end_g + decay * case.end_x
    if not float(np.linalg.norm(pulled)) <= FLAT * float(np.linalg.norm(case.end_g)):
        return None
    evidence = _where(case) | _below(case) | {
        "grad_norm": Evidence(float(np.max(np.abs(case.end_g))), "history"),
        "decay": Evidence(decay, "history"),
    }  # fmt: skip
    without = remade(optimizer, optimizer.lr, weight_decay=0.0)
    return Finding("unfinished", "unfinished.decay", evidence, (Remedy({"optimizer": without}, "no_decay"),))


def _faded(case: Case) -> Finding | None:
    """Whether a schedule has taken the rate away before the descent was there."""
    rates = case.run.history.lr
    if case.lr is None or case.fixed_lr is not None or not case.lr <= FADED * float(np.max(rates)):
        return None
    before = float(f"{float(np.max(rates)):.2g}")
    evidence = _where(case) | _below(case) | {"lr_before": Evidence(before, "history", case.lr)}
    remedies = (*_tried_rates(case, before, before / 10), *_other_optimizer(case))
    return Finding("lr_too_small", "lr_too_small.schedule", evidence, remedies)


def _kink(case: Case) -> Finding | None:
    """Whether the slope jumps between the last points of the path, or along the gradient at the end."""
    tail, size = case.tail, float(np.linalg.norm(case.end_g))
    if (turn := case.sharpest_turn) is not None:
        a, b = tail[turn], tail[turn + 1]
    elif len(tail) > 1:
        a, b = tail[-min(4, len(tail))], tail[-1]
    elif size > 0:
        a, b = case.end_x, case.end_x - 1e-6 * case.extent * case.end_g / size
    else:
        return None
    found = case.jump(a, b)
    if found is None or found <= JUMP:
        return None
    return _kinked(case, found)


def _kinked(case: Case, jump: float) -> Finding:
    evidence = _where(case) | {"jump": Evidence(jump, "bisection", 2.0**-10)}
    lr = case.fixed_lr
    if not lr:
        return Finding("kink", "kink", evidence)
    decay = Remedy(
        {"lr": cosine(lr, max(1, int(case.run.options.get("max_steps") or case.run.nit)))}, "decay", {"lr": lr}
    )
    return Finding("kink", "kink", evidence, (decay, *_rates(case, lr / 10, lr / 100)))


# -- too slow, or never coming to rest --------------------------------------------------------------------------------


def _slow(case: Case) -> Finding | None:
    run = case.run
    if run.success or run.status in (Status.diverged, Status.nonfinite, Status.noise_floor, Status.stopped):
        return None
    if run.nit < FEW:
        return None
    crossing = case.turning < CROSSING and not case.shrinking < 0.97
    if (case.cycle or crossing) and case.lr is not None:
        return _kink(case) or _too_large(case, "cycle" if case.cycle else "bouncing")
    if _is_near(case):
        return None
    if _is_flat(case) and (finding := _at_rest(case) or _plateau(case)) is not None:
        return finding
    if (kink := _kink(case)) is not None:
        return kink
    if case.fixed_lr is not None:
        return _hovering(case) or _by_rates(case)
    return _faded(case) or _shape(case)


def _hovering(case: Case) -> Finding | None:
    """Whether f goes up and down along the last half of the path, where calmer steps bring it down at once."""
    gaps = case.fun[case.t >= case.t[-1] / 2] - case.low.fun
    if len(gaps) < TAIL or case.optimizer is None or not 0.25 < float(np.mean(np.diff(gaps) > 0)) < 0.75:
        return None
    before, after = (float(np.median(part)) for part in np.array_split(gaps, 2))
    if not after > HALF * before > 0 or case.left < 2 * TRIAL:
        return None
    calmer = _calmer(case)
    trial = case.descend(calmer or with_rate(case.optimizer, (case.fixed_lr or 0.0) / 10), case.end_x, TRIAL)
    if not trial.fun[-1] - case.low.fun < HALF * HALF * after:
        return None
    jump = case.jump(case.start_x.astype(float), case.end_x) if case.left > 12 else None
    if jump is not None and jump > JUMP:  # it goes to and fro between faces
        return _kinked(case, jump)
    return _too_large(case, "momentum" if calmer else "hovering")


def _calmer(case: Case) -> Optimizer | None:
    """Return the optimizer with less momentum; None if it has none that is unusually large."""
    optimizer = case.optimizer
    if optimizer is None or not float(optimizer.hyperparameters.get("momentum") or 0.0) > MOMENTUM:
        return None
    return remade(optimizer, optimizer.lr, momentum=0.9)


def _by_rates(case: Case) -> Finding:
    """Compare short descents at ten times and a tenth of the rate with the run's own first steps."""
    lr = case.fixed_lr or 0.0
    bends = 2 * min(case.layout.size, 6) + KEPT
    k = int(min(PROBE, max(5, (case.left - bends) // 3), max(5, case.run.nit)))
    own = _fall(case, case.fun[case.t <= k])
    faster = case.at_rate(10 * lr, k)
    more = _fall(case, faster.fun[: k + 1]) if not faster.trouble else -math.inf
    if more > 3 * max(own, 0.0) and more > 0 and _has_room(case):
        return _too_small(case, "slow", faster)
    for smaller in (lr / 10, lr / 100):
        slower = case.at_rate(smaller, k)
        less = _fall(case, slower.fun) if not slower.trouble else -math.inf
        if less > 1.2 * own and less > 0 and (own <= 0 or case.turning < 0.5):
            return _too_large(case, "unsteady")
        if own > 0:
            break
    return _shape(case)


def _has_room(case: Case) -> bool:
    """Whether the curvature at the end allows a clearly larger rate: a short trial may not see the steps grow.

    From far away f falls so much along one direction that what grows along another shows late.
    """
    stable = None if case.curvature is None else _stable(case, case.curvature.largest)
    return stable is None or stable > ROOM * (case.fixed_lr or 0.0)


def _fall(case: Case, funs: FloatArray) -> float:
    """Return by how many factors of e the last value is nearer to the lowest f than the first."""
    low = case.low.fun
    first, last = float(funs[0]) - low, float(funs[-1]) - low
    if not math.isfinite(last):
        return -math.inf
    tiny = 1e-12 * max(abs(first), 1e-300)
    return math.log(max(first, tiny) / max(last, tiny)) if first > 0 else 0.0


def _too_small(case: Case, how: str, faster: Trial | None = None) -> Finding:
    lr = case.fixed_lr or 0.0
    evidence = _where(case) | _below(case) | _bends(case)
    if faster is not None:
        evidence["fallen"] = Evidence(case.start - case.end, "history")
        evidence["faster_fall"] = Evidence(float(faster.fun[0] - faster.fun[-1]), "trial")
        evidence["faster_steps"] = Evidence(len(faster.fun) - 1, "trial")
    stable = evidence["stable_lr"].value if "stable_lr" in evidence else None
    rates = [stable / 2] if stable is not None and stable > lr else []
    return Finding(
        "lr_too_small", f"lr_too_small.{how}", evidence,
        (*_tried_rates(case, *rates, 10 * lr, 100 * lr, 1e3 * lr, 1e4 * lr), *_other_optimizer(case)),
    )  # fmt: skip


def _by_the_pace(case: Case, evidence: dict[str, Evidence]) -> float:
    """Return the condition number that the pace of the last steps shows: of gradient descent alone, else 0.

    f - f_low shrinks by exp(-2 lr μ) a step where only the flattest direction is left
    """
    if "stable_lr" not in evidence or case.fixed_lr is None:
        return 0.0
    largest, lr = evidence["L"].value, case.fixed_lr
    rows = (case.t >= case.t[-1] - TAIL) & (case.fun > case.low.fun)
    fun, t = case.fun[rows] - case.low.fun, case.t[rows]
    if abs(evidence["stable_lr"].value * largest - 2) > 1e-6 or len(fun) < 5 or not fun[-1] < fun[0]:
        return 0.0
    pace = math.log(fun[0] / fun[-1]) / float(t[-1] - t[0])
    return float(2 * lr * largest / pace)


def _shape(case: Case) -> Finding:
    """The rate is right, or there is none: it is the shape of f that makes the descent slow, or it is just short."""
    evidence = _where(case) | _below(case) | _bends(case)
    found = case.curvature
    condition = math.inf if found is None or found.smallest <= 0 else found.largest / found.smallest
    condition = max(condition, _by_the_pace(case, evidence))
    if found is not None and found.largest * case.extent <= FLAT * float(np.linalg.norm(case.end_g)):
        jump = case.jump(case.start_x.astype(float), case.end_x) if case.left > 12 else None
        if jump is not None and jump > JUMP:  # f is made of flat faces: its slope changes at edges alone
            return _kinked(case, jump)
    if found is not None and condition > 1.01 * HARD:  # it is measured to about a percent
        known = "condition" in evidence
        return Finding(
            "ill_conditioned",
            "ill_conditioned" if known else "ill_conditioned.flat",
            evidence,
            (*_other_optimizer(case), *_go_on(case)[:1]),
        )
    return _unfinished(case, evidence)


# -- arrived, and where -----------------------------------------------------------------------------------------------


def _is_near(case: Case) -> bool:
    """Whether the end is next to the lowest point nearby, beside what f has fallen by and beside f itself."""
    low = abs(case.low.fun)
    if case.share > SOLVED:
        return False
    if case.gap == 0 or case.gap <= NEAR * low:
        return True
    # f at the minimum is 0, and has no scale: where the start was far, the end may be far as well
    apart = float(np.linalg.norm(case.end_x - case.low.x))
    return low <= 1e-3 * case.gap and apart <= NEAR * max(1.0, float(np.linalg.norm(case.low.x)))


def _is_flat(case: Case) -> bool:
    """Whether the slope of f at the end explains next to nothing of how much lower f is elsewhere."""
    slope = float(np.linalg.norm(case.end_g)) * case.extent
    return slope <= FLAT * max(case.gap, 1e-300) or slope == 0


def _at_rest(case: Case) -> Finding | None:
    """A point where the gradient is zero, or next to it, that is no minimum."""
    found = case.curvature
    if found is None:
        return None
    size = max(abs(found.smallest), abs(found.largest))
    if not found.smallest < -1e-4 * size or size == 0:
        return None
    lowest = min(case.low.fun, math.inf if (lower := case.elsewhere) is None else lower.fun)
    if abs(found.smallest) * case.extent**2 <= 5 * FLAT * (case.end - lowest):
        return None  # so flat that the bend is no reason
    kind = "maximum" if found.largest <= 0 else "saddle"
    evidence = _where(case) | {
        "L": Evidence(found.largest, "lanczos"),
        "mu": Evidence(found.smallest, "lanczos", 0.0),
    }
    step = 1e-2 * case.extent
    down = [case.end_x + sign * step * found.lowest for sign in (1, -1)]
    down.sort(key=lambda x: v if math.isfinite(v := case.value(x)) else math.inf)
    remedies = tuple(Remedy({"x0": case.layout.copy(x.astype(case.layout.dtype))}, "x0_along", {}) for x in down)
    return Finding("saddle", f"saddle.{kind}", evidence, remedies)


def _plateau(case: Case) -> Finding | None:
    lower = case.elsewhere
    if lower is None and case.gap == 0:
        return None
    best = lower or case.low
    if _slopes_to(case, best):
        return None
    evidence = _where(case) | {
        "f_low": Evidence(best.fun, "search"),
        "grad_norm": Evidence(float(np.max(np.abs(case.end_g))), "history"),
    }
    return Finding(
        "plateau", "plateau", evidence, (Remedy({"x0": case.layout.copy(best.x)}, "x0"), *_other_optimizer(case))
    )


def _slopes_to(case: Case, lower: Point) -> bool:
    """Whether the slope of f at the end explains some of how much lower another point is: the end is not at rest."""
    apart = float(np.linalg.norm(lower.x - case.end_x))
    return float(np.linalg.norm(case.end_g)) * apart > FLAT * (case.end - lower.fun)


def _arrived(case: Case) -> Finding | None:
    """The descent has arrived: at a minimum, and whether there is a lower one."""
    if not case.run.success and not _is_near(case):
        return None
    if (rest := _at_rest(case)) is not None:
        return rest
    evidence = _where(case) | _bends(case)
    lower = None if case.run.status is Status.target_reached else case.elsewhere
    if lower is not None:
        evidence["f_low"] = Evidence(lower.fun, "search")
        if _is_barren(case, lower):
            return _plateau(case)
        if _slopes_to(case, lower):
            return _falls_on(case) or _loose(case)
        apart = float(np.linalg.norm(lower.x - case.end_x))
        evidence["distance"] = Evidence(apart, "search")
        return Finding("local_minimum", "local_minimum", evidence, (Remedy({"x0": case.layout.copy(lower.x)}, "x0"),))
    if case.run.status is Status.target_reached:
        return Finding("converged", "converged.target", evidence)
    if case.run.success:
        return Finding("converged", "converged", evidence)
    return _unfinished(case, evidence, "unfinished.near")


def _loose(case: Case) -> Finding:
    """The slope explains a lower point: where the run has a stopping rule, it stopped too early; else it is on its way.

    No minimum holds the descent.
    """
    if not case.run.success:
        return _unfinished(case, _where(case))
    evidence = _where(case) | {"grad_norm": Evidence(float(np.max(np.abs(case.end_g))), "history")}
    rules = Remedy({"gtol": None, "ftol": None, "xtol": None}, "stopping")
    return Finding("unfinished", "unfinished.loose", evidence, (rules, *_other_optimizer(case)))


def _is_barren(case: Case, lower: Point) -> bool:
    """Whether f is flat on the way to a lower point, beside how much lower that is: no valley holds the descent."""
    apart = float(np.linalg.norm(lower.x - case.end_x))
    slope, bend = case.along((lower.x - case.end_x) / apart, 1e-4 * apart)
    return max(abs(slope) * apart, abs(bend) * apart**2) <= FLAT * (case.end - lower.fun)
