"""A sweep whose hyperparameters an Optuna study chooses, and whose record is in the study's storage."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from koubai.errors import InputError, MissingPackageError
from koubai.search.journal import as_record
from koubai.search.space import Range, Space
from koubai.search.trial import describe

__all__ = ["StudyRecord"]

NAME = "koubai sweep"  # of the attributes of study and trials that hold the record


class StudyRecord:
    """The trials of a study, as a `Journal` has those of a file. Raises InputError for another sweep's study."""

    asks = True  # its sampler learns from what is finished

    def __init__(self, study: Any, space: Space, sweep: Mapping[str, Any]) -> None:
        try:
            import optuna
        except ImportError:
            raise MissingPackageError("study= needs", "optuna") from None
        if not isinstance(study, optuna.study.Study):
            raise InputError(f"study must be an Optuna study, as optuna.create_study() makes it; got {study!r:.60}")
        if study.directions != [optuna.study.StudyDirection.MINIMIZE]:
            raise InputError("study must have the direction 'minimize', as fun is made small")
        self.optuna, self.study, self.space = optuna, study, space
        self.distributions = {name: self._distribution(name, part) for name, part in space.parts.items()}
        here = json.dumps(sweep)
        there = study.user_attrs.get(NAME)
        if there is None:
            study.set_user_attr(NAME, here)
        elif there != here:
            raise InputError(f"study: {study.study_name!r} is of another sweep: give another study_name")
        self.trials: dict[int, Any] = {}
        self.records: dict[int, dict[str, Any]] = {}
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished() and NAME in trial.user_attrs:
                try:
                    record = as_record(json.loads(trial.user_attrs[NAME]), "")
                except (ValueError, TypeError, RecursionError) as error:
                    raise InputError(f"study: trial {trial.number} has no record of a sweep: {error}") from None
                self.records[trial.number] = {**record, "trial": trial.number}
                self._params(trial)

    @property
    def prunes(self) -> bool:
        return not isinstance(self.study.pruner, self.optuna.pruners.NopPruner)

    def check_processes(self) -> None:
        """Raise InputError if workers in other processes can't report to the study's pruner."""
        storage = type(self.study._storage).__name__
        if self.prunes and storage == "InMemoryStorage":
            raise InputError(
                "study: its pruner asks the trials how they fare, but its storage is in this process's memory: give it "
                "storage='sqlite:///study.db' or another that all workers reach, optuna.pruners.NopPruner(), or threads"
            )

    def _distribution(self, name: str, part: Any) -> Any:
        known = self.optuna.distributions
        if isinstance(part, list):
            plain = all(value is None or isinstance(value, bool | int | float | str) for value in part)
            return known.CategoricalDistribution(part if plain else list(range(len(part))))
        if not isinstance(part, Range):
            part = self._as_range(name, part)
        if part.integer:
            return known.IntDistribution(int(part.low), int(part.high), log=part.log)
        return known.FloatDistribution(part.low, part.high, log=part.log)

    def _as_range(self, name: str, part: Any) -> Range:
        kind = getattr(getattr(part, "dist", None), "name", "")
        if kind in ("uniform", "loguniform", "reciprocal", "randint"):
            low, high = map(float, part.support())
            return Range(low, high, log=kind in ("loguniform", "reciprocal"), integer=kind == "randint")
        raise InputError(
            f"space[{name!r}]: a study draws from lists, dict(low=…, high=…), and SciPy's uniform, loguniform and "
            f"randint; got {kind or part!r}"
        )

    def ask(self, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give the numbers and hyperparameters of so many new trials, as the study's sampler chooses them."""
        for _ in range(count):
            trial = self.study.ask(self.distributions)
            self.trials[trial.number] = trial
            yield trial.number, self._params(trial)

    def _params(self, trial: Any) -> dict[str, Any]:
        params = {}
        for name, part in self.space.parts.items():
            value = trial.params.get(name)
            known = getattr(self.distributions[name], "choices", None)
            if name not in trial.params or (known is not None and value not in known):
                raise InputError(f"study: trial {trial.number} has no {name} of this space")
            params[name] = value if known is None else part[known.index(value)]
        return params

    def params(self, number: int) -> dict[str, Any]:
        """Return the hyperparameters of a trial."""
        return self._params(self.study.trials[number])

    def append(self, record: dict[str, Any]) -> None:
        """Tell the study the outcome of a trial: a worse one than any, if it has no finite number."""
        trial = self.trials.pop(record["trial"])
        trial.set_user_attr(NAME, json.dumps({**record, "params": describe(record["params"])}))
        states = self.optuna.trial.TrialState
        fun = record["values"].get("fun", math.nan)
        if record["status"] == "pruned":
            self.study.tell(trial, state=states.PRUNED)
        elif math.isfinite(fun):
            self.study.tell(trial, fun)
        else:
            self.study.tell(trial, state=states.FAIL)
        self.records[record["trial"]] = record
