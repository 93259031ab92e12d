"""Why a training on mini-batches ended as it did: noise told apart from curvature, and the faults of networks."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from koubai.derivatives.curvature import Curvature, curvature
from koubai.descent.batch_iterator import BatchIterator, weight
from koubai.descent.default import with_rate
from koubai.descent.fit import ValueAndGradient
from koubai.descent.objective import Objective
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Run, Status, rows_of
from koubai.descent.schedules import cosine
from koubai.descent.stability import fixed_bound
from koubai.diagnosis.case import LEAST, SHARE, SpentError
from koubai.diagnosis.verdicts import Evidence, Finding, Remedy, Share
from koubai.errors import KoubaiError, quiet
from koubai.parameters import FloatArray, flatten

__all__ = ["TrainingCase", "judged_training"]

Batch = tuple[Any, ...]

EDGE = 0.8  # of the largest stable rate: from there on a training is at the edge of stability
SOME = 8  # batches, to see the loss at the start
DROP = 0.01  # of all that the loss has fallen by: by so much is it lower at the path's average, if noise held it up
LOWER = 0.08  # of the loss at the average: and by so much
LITTLE = 0.05  # of the loss: a training that has gained no more may have too small a rate
FADED = 1e-3  # the first layer's gradient beside the last one's: below that, it has vanished on its way
DEAD = 0.5  # of a layer's units
_FADED = {"tanh": ("Tanh", "xavier"), "relu": ("ReLU", "he"), "batchnorm": ("BatchNorm", None)}
_DEAD = {"fresh": ("ReLU", "he"), "leaky": ("LeakyReLU", "he")}
SMALLEST_RISE = 0.1  # of what the validation loss had fallen by: risen by more, the network over-fits


class TrainingCase:
    """A finished training, and evaluations of its loss on batches, counted and bounded. Nothing of the run changes."""

    def __init__(self, run: Run) -> None:
        self.run, self.call = run, run.call
        self.layout, self.end_x = flatten(run.x)
        self.epochs = run.history.epochs
        self.most, self.spent, self.nfev = max(LEAST, int(SHARE * run.njev)), 0, 0
        self.optimizer = run.optimizer if isinstance(run.optimizer, Optimizer) else None
        self.network: Any = None
        self.first: float | None = None  # the loss at the start
        self._evaluate: Callable[[FloatArray, Batch], tuple[float, FloatArray]] | None = None
        self._batches: Callable[[], Iterator[Batch]] = lambda: iter(())
        if run.call is not None:
            self._prepare()

    def _prepare(self) -> None:
        call = self.call
        assert call is not None
        if call.source is None:  # of `minimize`
            args = call.options["args"]
            batches = BatchIterator.read(call.options["batches"], args if isinstance(args, tuple) else (args,))
            assert batches is not None
            objective = Objective(call.f, call.options["grad"], call.layout)

            def by_objective(x: FloatArray, batch: Batch) -> tuple[float, FloatArray]:
                objective.batch = batch
                point = objective.evaluate(1, x)
                return point.fun, point.g

            self._evaluate, self._batches = by_objective, batches.all
        elif hasattr(call.f, "layers"):
            from koubai.nn.model import NetworkPrograms

            network: Any = copy.deepcopy(call.f)
            self.network = network
            network.vector = self.end_x

            def by_network(x: FloatArray, batch: Batch) -> tuple[float, FloatArray]:
                network.vector = x
                X, y, *w = batch
                return NetworkPrograms.of(network).loss_and_gradient(network, [(X, y, w[0] if w else None)])

            self._evaluate, self._batches = by_network, BatchIterator(call.source.epoch).all
        else:
            value_and_gradient = ValueAndGradient(call.f)

            def by_loss(x: FloatArray, batch: Batch) -> tuple[float, FloatArray]:
                return value_and_gradient(self.layout.copy(x), *[np.asarray(a) for a in batch])

            self._evaluate, self._batches = by_loss, BatchIterator(call.source.epoch).all

    @property
    def left(self) -> int:
        return self.most - self.spent

    def at(self, x: FloatArray, batch: Batch) -> tuple[float, FloatArray] | None:
        """Return loss and gradient of a batch; None if they are not finite. Raises SpentError."""
        if self.left <= 0 or self._evaluate is None:
            raise SpentError
        self.spent += 1
        with quiet(), warnings.catch_warnings(action="ignore"):
            try:
                fun, g = self._evaluate(x.astype(self.layout.dtype), batch)
            except Exception:
                return None
        return (float(fun), g) if math.isfinite(fun) and np.isfinite(g).all() else None

    def batches(self, most: int) -> list[Batch]:
        """Return copies of the first batches of an epoch: they may all come in the same memory."""
        found: list[Batch] = []
        for batch in self._batches():
            found.append(tuple(part.copy() if isinstance(part, np.ndarray) else part for part in batch))
            if len(found) >= most:
                break
        return found

    def mean(self, x: FloatArray, batches: list[Batch]) -> float:
        """Return the mean loss over batches."""
        total = size = 0.0
        for batch in batches:
            found = self.at(x, batch)
            if found is None:
                return math.inf
            total, size = total + weight(batch) * found[0], size + weight(batch)
        return total / size if size else math.nan

    def epoch(self, x: FloatArray, batches: list[Batch], lr: float) -> FloatArray | None:
        """Return the parameters after one more pass over the batches at a rate; None if that diverges."""
        assert self.optimizer is not None
        optimizer = with_rate(self.optimizer, lr)
        state = optimizer.init(x, self.layout)
        for t, batch in enumerate(batches, 1):
            found = self.at(x, batch)
            if found is None:
                return None
            with quiet():
                x, state = optimizer.step(x, found[1], state, t, lr, fun=found[0], layout=self.layout)
        return x if np.isfinite(x).all() else None

    def curvature(self, batches: list[Batch], most: int, x: FloatArray | None = None) -> Curvature | None:
        """Return the extreme curvatures of the mean loss over batches at x, the end by default."""

        def gradient(x: FloatArray) -> FloatArray:
            total: Any = 0.0
            for batch in batches:
                found = self.at(x, batch)
                if found is None:
                    raise FloatingPointError
                total = total + found[1].astype(np.float64)
            return np.asarray(total / len(batches))

        try:
            there = self.layout.view(self.end_x if x is None else x)
            return curvature(self.run.function, there, gradient=gradient, most=most)
        except (SpentError, KoubaiError, ArithmeticError):
            return None

    @property
    def lr(self) -> float:
        return float(self.run.history.lr[-1])

    @property
    def fixed_lr(self) -> float | None:
        if self.optimizer is None or callable(self.optimizer.lr):
            return None
        return float(self.optimizer.lr)

    @property
    def is_trainable(self) -> bool:
        """Whether the data and the loss are at hand."""
        return self._evaluate is not None and self.optimizer is not None


def judged_training(case: TrainingCase) -> Finding:
    """Return the verdict on a training."""
    for rule in (_not_begun, _ran_away, _dead, _faded, _over_fits, _tried_rates):
        try:
            if (finding := rule(case)) is not None:
                return finding
        except SpentError:
            continue
    evidence = _where(case) | _edge(case)
    if "stable_lr" in evidence and case.lr >= EDGE * evidence["stable_lr"].value:
        product, limit = (rate * evidence["L"].value for rate in (case.lr, evidence["stable_lr"].value))
        evidence |= {"product": Evidence(product, "lanczos", limit), "limit": Evidence(limit, "bound")}
        return Finding("converged", "converged.edge", evidence)
    return Finding("converged", "converged.finished", evidence)


def _where(case: TrainingCase) -> dict[str, Evidence]:
    return {
        "f_start": Evidence(_first(case), "epochs"),
        "f_end": Evidence(_last(case), "epochs"),
        "steps": Evidence(int(case.run.nit), "history"),
        "lr": Evidence(case.lr, "history"),
    }


def _first(case: TrainingCase) -> float:
    """The loss at the start, over some batches; along the first epoch, if the data are not at hand."""
    assert case.epochs is not None
    if case.first is None:
        case.first = float(case.epochs.fun[0]) if len(case.epochs) else float(case.run.history.fun[0])
        if case.call is not None and case.is_trainable:
            found = case.mean(case.call.start, case.batches(SOME))
            case.first = found if math.isfinite(found) else case.first
    return case.first


def _last(case: TrainingCase) -> float:
    assert case.epochs is not None
    return float(case.epochs.fun[-1]) if len(case.epochs) else float(case.run.history.fun[-1])


def _rates(*rates: float) -> tuple[Remedy, ...]:
    return tuple(Remedy({"lr": (short := float(f"{lr:.2g}"))}, "lr", {"lr": short}) for lr in rates if lr > 0)


def _not_begun(case: TrainingCase) -> Finding | None:
    """No step was asked for: nothing is known of the training."""
    run = case.run
    if run.nit or run.status not in (Status.max_steps, Status.stopped):
        return None
    loss = _first(case)
    evidence = _where(case) | {"f_start": Evidence(loss, "batches"), "f_end": Evidence(loss, "batches")}
    if case.call is not None and case.call.source is None:  # of `minimize`
        remedy = Remedy({"max_steps": 1000}, "more_steps", {"max_steps": 1000})
    else:
        remedy = Remedy({"epochs": 10}, "more_epochs", {"epochs": 10})
    return Finding("unfinished", "unfinished.none", evidence, (remedy,))


def _ran_away(case: TrainingCase) -> Finding | None:
    run = case.run
    wild = run.status in (Status.nonfinite, Status.diverged)
    end = _last(case)
    risen = not wild and case.fixed_lr is not None and end > _first(case) + 0.05 * abs(_first(case))
    if not wild and not risen:
        return None
    lr = case.fixed_lr or case.lr
    evidence = _where(case) | {"message": Evidence(run.message, "history")}
    shrunk = any(_stays_finite(case, lr / k) for k in (10, 1000)) if run.status is Status.nonfinite else True
    if wild and case.is_trainable and case.fixed_lr is not None and not shrunk:
        return Finding("nonfinite", "nonfinite.training", evidence, _rates(lr / 10, lr / 100, lr / 1000))
    text = "lr_too_large.training" if wild else "lr_too_large.risen"
    return Finding("lr_too_large", text, evidence, _rates(lr / 10, lr / 100, lr / 1000))


def _stays_finite(case: TrainingCase, lr: float) -> bool:
    """Whether some steps from the start at another rate stay finite and lower the loss."""
    assert case.call is not None
    start = case.call.start
    batches = case.batches(max(1, min(20, case.left // 3)))
    before = case.mean(start, batches[:3])
    x = case.epoch(start, batches, lr)
    return x is not None and math.isfinite(before) and case.mean(x, batches[:3]) <= before


def _fell(case: TrainingCase) -> float:
    """The share of the loss that is gone."""
    first = _first(case)
    return (first - _last(case)) / abs(first) if first else 0.0


def _faded(case: TrainingCase) -> Finding | None:
    """Whether the gradient fades on its way back to the first layer, and the loss stays where it was."""
    epochs = case.epochs
    if epochs is None or epochs.layer_grad_norm is None or len(epochs.layers) < 3:
        return None
    norms = np.median(np.asarray(epochs.layer_grad_norm), axis=0)
    if not (norms[-1] > 0 and norms[0] <= FADED * norms[-1]):
        return None
    fell = _fell(case)
    if norms[0] <= FADED**2 * norms[-1] and len(epochs) > 2:  # at first the last biases learn the shares of the classes
        fell = min(fell, float(epochs.fun[1] - epochs.fun[-1]) / max(abs(float(epochs.fun[1])), 1e-300))
    if fell > 0.2:
        return None
    evidence = _where(case) | {
        "first_layer": Evidence(float(norms[0]), "epochs"),
        "last_layer": Evidence(float(norms[-1]), "epochs"),
        "layer": Evidence(epochs.layers[0], "epochs"),
    }
    remedies = _other_layers(case, _FADED, lambda network: _reaches_back(case, network))
    return Finding("vanishing_gradient", "vanishing_gradient", evidence, remedies or (Remedy({}, "activation"),))


def _dead(case: TrainingCase) -> Finding | None:
    """Whether most units of a ReLU layer give 0 for every sample."""
    if case.network is None or not case.batches(1):
        return None
    case.network.vector = case.end_x
    kinds = {name: type(layer).__name__ for name, layer in zip(case.network.names, case.network.layers, strict=True)}
    if "ReLU" not in kinds.values():
        return None
    X = np.concatenate([np.asarray(batch[0]) for batch in case.batches(8)])[:1000]
    case.nfev += 1
    for name, outputs in case.network.activations(X).items():
        if kinds[name] == "ReLU":
            dead = _dead_share(outputs)
            if dead >= DEAD:
                evidence = _where(case) | {
                    "dead": Evidence(Share(dead), "activations", DEAD),
                    "layer": Evidence(name, "activations"),
                }
                others = _other_layers(case, _DEAD, lambda network: _lives(network, X))
                rates = _rates(case.lr / 10, case.lr / 100) if _lives(_at_its_start(case), X) else ()
                return Finding("dead_relu", "dead_relu", evidence, (*rates, *others))
    return None


def _dead_share(outputs: FloatArray) -> float:
    """The share of the units that give 0 for every sample; of images, of the channels."""
    axes = tuple(k for k in range(outputs.ndim) if k != 1) if outputs.ndim > 2 else (0,)
    return float(np.mean(~(outputs > 0).any(axis=axes)))


# -- other layers -----------------------------------------------------------------------------------------------------


def _at_its_start(case: TrainingCase) -> Any:
    network = copy.deepcopy(case.network)
    network.vector = case.call.start if case.call is not None else case.end_x
    return network


def _lives(network: Any, X: Any) -> bool:
    """Whether most units of each ReLU layer give more than 0 for some sample."""
    outputs = zip(network.layers, network.activations(X).values(), strict=True)
    return all(_dead_share(out) < DEAD for layer, out in outputs if type(layer).__name__ == "ReLU")


def _reaches_back(case: TrainingCase, network: Any) -> bool:
    """Whether the gradient of a new network, of one batch, reaches its first layer."""
    X, y, *_ = case.batches(1)[0]
    if case.left <= 0:
        raise SpentError
    case.spent += 1
    gradients = network.gradient(X, y)
    own: dict[str, float] = {}
    for name, g in gradients.items():
        number = name.partition(".")[0]
        own[number] = math.hypot(own.get(number, 0.0), float(np.linalg.norm(g)))
    norms = list(own.values())
    return norms[0] > FADED * norms[-1] > 0


def _other_layers(
    case: TrainingCase, changes: Mapping[str, tuple[str, str | None]], heals: Callable[[Any], bool]
) -> tuple[Remedy, ...]:
    """Return the training with other layers, where a new network of the same seed shows the fault no more.

    changes: by the name of the remedy, what comes in place of activations, and the ``init`` that suits it. Layers of
    the user's own can't be made again.
    """
    from koubai.nn import layers as known
    from koubai.nn.settings import is_own

    network = case.network
    if network is None or not all(is_own(type(part)) for part in (network, *network.layers)):
        return ()
    replaced = ("Sigmoid", "Tanh") if changes is _FADED else ("ReLU",)
    names = sorted({type(layer).__name__ for layer in network.layers} & {*replaced})
    remedies = []
    for text, (name, init) in changes.items():
        if names == [name] and text != "fresh":
            continue
        made: list[Any] = []
        for layer in network.layers:
            settings = {each: layer.setting(each) for each in layer.settings}
            if "init" in settings and init is not None:
                settings["init"] = init
            if type(layer).__name__ not in replaced:
                made.append(type(layer)(**settings))
            elif name == "BatchNorm":
                made += [known.BatchNorm(), type(layer)(**settings)]
            else:
                made.append(getattr(known, name)())
        other = {each: network.setting(each) for each in network.settings} | {"layers": made}
        try:
            new = type(network)(**other).build(network.input_shape)
            if heals(new):
                remedies.append(Remedy({"f": new}, text, {"layer": ", ".join(f"{each}()" for each in names)}))
        except (KoubaiError, SpentError):
            continue
    return tuple(remedies)


def _over_fits(case: TrainingCase) -> Finding | None:
    epochs = case.epochs
    if epochs is None or epochs.validation_fun is None or len(epochs) < 5:
        return None
    held, fun = np.asarray(epochs.validation_fun), np.asarray(epochs.fun)
    best = int(np.argmin(held))
    rise, fall = float(np.median(held[-3:])) - float(held[best]), float(held[0]) - float(held[best])
    since = len(held) - 1 - best
    if since < max(3, 0.2 * len(held)) or rise <= max(SMALLEST_RISE * fall, 0.05 * abs(float(held[best]))):
        return None
    if not fun[-1] < 0.95 * fun[best]:
        return None
    evidence = _where(case) | {
        "validation_best": Evidence(float(held[best]), "epochs"),
        "validation_end": Evidence(float(held[-1]), "epochs"),
        "epoch": Evidence(best + 1, "epochs"),
    }
    remedies = (
        Remedy({"epochs": best + 1}, "epochs", {"epochs": best + 1}),
        Remedy({"patience": max(3, since // 3)}, "patience", {"patience": max(3, since // 3)}),
    )
    return Finding("overfitting", "overfitting", evidence, remedies)


def _tried_rates(case: TrainingCase) -> Finding | None:
    """Go on for part of an epoch at a tenth and at ten times the rate: noise, too small a rate, or neither."""
    if not case.is_trainable or case.fixed_lr is None or case.epochs is None or len(case.epochs) < 2:
        return None
    lr = case.fixed_lr
    evidence = _where(case)
    if case.epochs.noise is not None and len(case.epochs.noise):
        evidence["noise"] = Evidence(float(case.epochs.noise[-1]), "epochs")
        if case.epochs.grad_norm is not None:
            evidence["grad_norm"] = Evidence(float(case.epochs.grad_norm[-1]), "epochs")
    if _stagnates(case) and (found := _averaged(case)) is not None:
        around, middle = found
        if around - middle > max(DROP * (_first(case) - middle), LOWER * abs(middle)):
            evidence["f_around"], evidence["f_low"] = Evidence(around, "path"), Evidence(middle, "average")
            evidence |= (bend := _bend_at_the_start(case))
            if "stable_lr" in bend and lr > bend["stable_lr"].value:
                return Finding(
                    "lr_too_large",
                    "lr_too_large.unsteady",
                    evidence,
                    _rates(bend["stable_lr"].value / 2, lr / 10, lr / 100),
                )
            remedies = (Remedy({"lr": cosine(lr, max(1, int(case.run.nit)))}, "decay", {"lr": lr}), *_rates(lr / 10))
            return Finding("noisy_gradient", "noisy_gradient.batches", evidence, remedies)
    factors = _factors(case)
    if _fell(case) > LITTLE or not factors:
        return None
    batches = case.batches(max(4, min(16, case.left // 8)))
    here = case.mean(case.end_x, batches)
    for factor in factors:
        if case.left < 2 * len(batches):
            break
        there = case.epoch(case.end_x, batches, factor * lr)
        if there is not None and here - (after := case.mean(there, batches)) > 0.02 * abs(here):
            evidence["f_faster"] = Evidence(after, "trial")
            rates = _rates(*(factor * k * lr for k in (1, 10, 0.1)))
            return Finding("lr_too_small", "lr_too_small.training", evidence, rates)
    return None


def _bend_at_the_start(case: TrainingCase) -> dict[str, Evidence]:
    """Return the largest curvature of the loss at the start, along a few directions, and the bound that follows."""
    assert case.call is not None
    assert case.optimizer is not None
    if case.left < 12:
        return {}
    return _bends(case.optimizer, case.curvature(case.batches(max(1, min(16, case.left // 8))), 3, case.call.start))


def _bends(optimizer: Optimizer, found: Curvature | None) -> dict[str, Evidence]:
    """Return a curvature, and the largest stable rate that follows from it."""
    stable = None if found is None else fixed_bound(optimizer, found.largest)
    if found is None or stable is None:
        return {}
    return {"L": Evidence(found.largest, "lanczos"), "stable_lr": Evidence(stable, "bound")}


def _averaged(case: TrainingCase) -> tuple[float, float] | None:
    """Return the mean loss of points along the last half of the path, and the loss at their average.

    Where noise throws a path about, its average lies much lower than its points.
    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
    """
    rows = len(case.run.history)
    if rows < 16:
        return None
    last = rows_of(case.run.history.x, case.layout)[rows // 2 :].astype(np.float64)
    batches = case.batches(max(4, case.left // 8))
    points = last[np.linspace(0, len(last) - 1, 4).astype(int)]
    around = float(np.mean([case.mean(x, batches) for x in points]))
    middle = case.mean(last.mean(axis=0), batches)
    return (around, middle) if math.isfinite(around) and math.isfinite(middle) else None


def _factors(case: TrainingCase) -> tuple[float, ...]:
    """Return by what the rate may have to be multiplied: so that a step changes the weights by about a thousandth."""
    ratios = None if case.epochs is None else case.epochs.layer_update_ratio
    if ratios is None or not len(ratios):
        return 10.0, 100.0, 1000.0
    ratio = float(np.median(ratios))
    return (1e-3 / ratio, 1e-2 / ratio) if 0 < ratio < 1e-4 else ()


def _stagnates(case: TrainingCase) -> bool:
    """Whether the loss no longer falls from epoch to epoch, beside its own scatter."""
    assert case.epochs is not None
    fun = np.asarray(case.epochs.fun)[-max(4, len(case.epochs) // 2) :]
    if len(fun) < 4:
        return False
    k = np.arange(len(fun)) - (len(fun) - 1) / 2
    slope = float(k @ fun) / float(k @ k)
    scatter = float(np.sqrt(np.sum((fun - fun.mean() - slope * k) ** 2) / max(1, len(fun) - 2) / float(k @ k)))
    return slope > -3 * scatter


def _edge(case: TrainingCase) -> dict[str, Evidence]:
    """Return rate × curvature beside the bound of the rule, which training at the edge of stability comes close to."""
    if case.network is None or case.optimizer is None or case.fixed_lr is None or not case.is_trainable:
        return {}
    most = min(10, case.left // 2)
    return _bends(case.optimizer, case.curvature(case.batches(1), most) if most >= 3 else None)
