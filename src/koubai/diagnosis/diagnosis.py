"""A diagnosis: the verdict on a run, its evidence in words, and remedies that can be tried."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Run, Status
from koubai.diagnosis.case import Case
from koubai.diagnosis.trainings import TrainingCase, judged_training
from koubai.diagnosis.verdicts import FAULTS, Evidence, Finding, Remedy, Share, judged
from koubai.errors import InputError, KoubaiError, quiet
from koubai.messages import Worded, language, text, told
from koubai.parameters import is_structure, plain

__all__ = ["Diagnosis", "Told", "Verification", "diagnose", "helps", "shown"]

KNOWN = "diagnosed"  # where a run keeps it
LITTLE = 1e-3  # of what a run has fallen by: a remedy that gains no more hasn't helped


def diagnose(run: Run, *, lang: str | None = None) -> Diagnosis:
    """Diagnose: say why a descent or a training ended as it did, from what is measured on it, and what would help.

    f and its gradient are evaluated around the path, at most 60 gradients or a fifth of the run's own, whichever is
    more; ``njev`` and ``nfev`` say how many. Nothing of the run changes.

    Parameters
    ----------
    run : Run
        What `minimize`, `fit` or a network's ``fit`` returned. One from a file needs its function; a training needs the
        data, which a file does not hold.
    lang : {"en", "ja"}, optional
        The language of the texts; None is the locale's.

    Returns
    -------
    Diagnosis
        The verdict, with its evidence, an explanation and remedies.

    Raises
    ------
    InputError
        If ``run`` is not a run, or its function is not at hand.

    Examples
    --------
    >>> run = kb.minimize(lambda x: x[0] ** 2 + x[1] ** 2, [-3.0, 4.0], lr=10.0)
    >>> found = kb.diagnose(run, lang="en")
    >>> found.code, found.evidence["stable_lr"].value
    ('lr_too_large', 1.0)
    >>> print(found.remedy)
    take the rate 0.5
    >>> found.verify().helped
    True
    """
    if not isinstance(run, Run):
        raise InputError(f"run must be a Run, as minimize and fit return it, got {type(run).__name__}")
    lang = language(lang)
    if (known := run.__dict__.get(KNOWN)) is None:  # a picture, a card and a call share one
        known = run.__dict__[KNOWN] = _found(run)
    return Diagnosis(run, known[0], lang, *known[1:])


def _found(run: Run) -> tuple[Finding, int, int]:
    """Return the verdict, and the evaluations of the gradient and of f that it took."""
    if run.history.epochs is not None or (run.call is not None and run.call.options.get("batches") is not None):
        training = TrainingCase(run)
        with quiet():
            finding = judged_training(training)
        return finding, training.spent, training.nfev
    case = Case(run)
    with quiet():
        finding = judged(case)
    return finding, case.spent, max(0, case.objective.nfev - case.spent)


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Why a run ended as it did.

    Attributes
    ----------
    code : str
        The verdict: converged, unfinished, saddle, local_minimum, lr_too_large, lr_too_small, ill_conditioned, plateau,
        noisy_gradient, wrong_gradient, nonfinite, noise_floor, kink, unbounded; of trainings also vanishing_gradient,
        dead_relu and overfitting.
    is_fault : bool
        Whether something is to be mended.
    evidence : dict of Evidence
        What was measured, by name: its ``value``, its ``source``, and the ``bound`` that it was compared with.
    explanation : str
        The reason, in the language that was asked for.
    remedy : Remedy or None
        The change to the call to be tried first, as text if printed; ``remedy.change`` goes to ``run.again``.
    remedies : tuple of Remedy
        All of them, in the order in which `verify` tries them.
    njev, nfev : int
        Evaluations that it took, of the gradient and of f alone.
    lang : str
        The language of the texts.
    """

    run: Run
    finding: Finding
    lang: str
    njev: int
    nfev: int

    @property
    def code(self) -> str:
        return self.finding.code

    @property
    def is_fault(self) -> bool:
        return self.code in FAULTS

    @property
    def evidence(self) -> Mapping[str, Evidence]:
        return self.finding.evidence

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        return self.finding.remedies

    @property
    def remedy(self) -> Told | None:
        return Told(self.remedies[0].change, self.told(self.remedies[0])) if self.remedies else None

    @property
    def title(self) -> str:
        """The verdict in a few words."""
        return text(f"title.{self.code}", self.lang)

    @property
    def explanation(self) -> str:
        values = {name: shown(found.value, self.lang) for name, found in self.evidence.items()}
        values["at"] = text("told.at_place", self.lang, **values) if "operation" in values else ""
        return text(f"why.{self.finding.text}", self.lang, **values)

    @property
    def summary(self) -> str:
        """The verdict, and the first remedy if there is one, in one or two lines."""
        lines = [text("told.line", self.lang, title=self.title, why=self.explanation)]
        if self.remedies:
            lines.append(text("told.remedy", self.lang, remedy=self.told(self.remedies[0])))
        return "\n".join(lines)

    def told(self, remedy: Remedy) -> str:
        """Return a remedy in words, in the language of the diagnosis."""
        return text(
            f"remedy.{remedy.text}",
            self.lang,
            **{name: shown(value, self.lang) for name, value in remedy.values.items()},
        )

    def verify(self) -> Verification:
        """Make the run again with each remedy until one helps.

        Returns
        -------
        Verification
            ``helped``, the runs ``before`` and ``after``, the ``remedy``, and all that were ``tried``.

        Raises
        ------
        InputError
            If the run comes from a file, which does not hold the call.

        Examples
        --------
        >>> run = kb.minimize(lambda x: np.sum(x**2), [3.0, 4.0], lr=1e-9, max_steps=100)
        >>> kb.diagnose(run).verify().after.success
        True
        """
        if self.run.call is None:
            raise InputError(
                "this run comes from a file, which does not hold the call: make it again, and diagnose that"
            )
        tried: list[tuple[Remedy, Run]] = []
        best: tuple[Remedy, Run] | None = None
        for remedy in self.remedies:
            if not remedy.change:
                continue
            with quiet(), warnings.catch_warnings(action="ignore"):
                try:
                    after = self.run.again(**remedy.change)
                except (KoubaiError, ArithmeticError, ValueError):
                    continue
            tried.append((remedy, after))
            if helps(self.code, self.run, after):
                return Verification(True, self.run, after, remedy, tuple(tried), self.lang)
            if best is None or after.best_fun < best[1].best_fun:
                best = tried[-1]
        remedy_after = best or (None, self.run)
        return Verification(False, self.run, remedy_after[1], remedy_after[0], tuple(tried), self.lang)

    def in_language(self, lang: str) -> Diagnosis:
        """Return the same diagnosis with its texts in another language."""
        return Diagnosis(self.run, self.finding, language(lang), self.njev, self.nfev)

    def to_dict(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return {
            "code": self.code,
            "is_fault": self.is_fault,
            "title": self.title,
            "explanation": self.explanation,
            "evidence": {
                name: {"value": _plain(found.value), "source": found.source, "bound": _plain(found.bound)}
                for name, found in self.evidence.items()
            },
            "remedies": [
                {"text": self.told(remedy), "change": {name: _plain(value) for name, value in remedy.change.items()}}
                for remedy in self.remedies
            ],
            "njev": self.njev,
            "nfev": self.nfev,
        }

    def __str__(self) -> str:
        lines = [self.summary]
        for name, found in self.evidence.items():
            told = {
                "name": text(f"name.{name}", self.lang), "value": shown(found.value, self.lang),
                "source": text(f"source.{found.source}", self.lang),
            }  # fmt: skip
            if found.bound is None:
                lines.append("  " + text("told.compared", self.lang, **told))
            else:
                lines.append("  " + text("told.compared_with", self.lang, bound=shown(found.bound), **told))
        return "\n".join([*lines, text("told.cost", self.lang, njev=self.njev, nfev=self.nfev)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The verdict for notebooks."""
        import html

        first, *rest = str(self).split("\n")
        items = "".join(f"<div>{html.escape(line.strip())}</div>" for line in rest)
        return f"<div><b>{html.escape(first)}</b><div style='opacity:.75'>{items}</div></div>"


@dataclass(frozen=True)
class Told:
    """A remedy with its text: ``change`` are the arguments for `Run.again`."""

    change: Mapping[str, Any]
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False, repr=False)
class Verification:
    """What came of trying the remedies.

    Attributes
    ----------
    helped : bool
        Whether one of them made the run better.
    before, after : Run
        The run, and the one with the remedy (the best of those tried, if none helped).
    remedy : Remedy or None
        The one that made ``after``.
    tried : tuple of (Remedy, Run)
        All that were tried, in order.
    """

    helped: bool
    before: Run
    after: Run
    remedy: Remedy | None
    tried: tuple[tuple[Remedy, Run], ...]
    lang: str = "en"

    def __bool__(self) -> bool:
        return self.helped

    def __repr__(self) -> str:
        if not self.tried:
            return text("told.untried", self.lang)
        which = "told.helped" if self.helped else "told.no_help"
        before, after = (f"{run.status.name}, f = {shown(run.fun)}" for run in (self.before, self.after))
        return text(which, self.lang, before=before, after=after)


def helps(code: str, before: Run, after: Run) -> bool:
    """Return whether the second run is better than the first, which had this fault."""
    if code == "overfitting":
        return _validation(after) < _validation(before)
    if not math.isfinite(after.fun) or after.status in (Status.nonfinite, Status.diverged):
        return False
    start = float(before.history.fun[0])
    # where x never comes to rest, its best point is one of luck
    reached = before.fun if code in ("noisy_gradient", "lr_too_large", "kink") else before.best_fun
    gained = reached - after.best_fun
    if after.success and not before.success and gained >= -1e-9 * max(1.0, abs(reached)):
        return True
    if code == "unbounded":  # within bounds it comes to rest
        return after.success or after.status is Status.stalled
    if code == "noise_floor":
        return after.success
    if code == "noisy_gradient" and after.status is Status.noise_floor:  # no lower than that can be seen
        return gained > 0
    fallen = start - reached
    return gained > LITTLE * max(abs(fallen) if math.isfinite(fallen) else 0.0, 1e-300) or (
        code == "nonfinite" and after.success
    )


def _validation(run: Run) -> float:
    epochs = run.history.epochs
    return math.inf if epochs is None or epochs.validation_fun is None else float(epochs.validation_fun[-1])


def shown(value: Any, lang: str | None = None) -> str:
    """Return a number, or whatever else was measured, as short text."""
    if isinstance(value, Share):
        return f"{value:.0%}"
    if isinstance(value, Worded):
        return told(value, lang)
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def _plain(value: Any) -> Any:
    """Return a value in JSON's types."""
    value = plain(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Optimizer):
        return repr(value)
    if is_structure(value):
        return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return repr(value)
