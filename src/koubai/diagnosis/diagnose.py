from __future__ import annotations
from dataclasses import dataclass
from typing import Any
from koubai.diagnosis.case import Case
from koubai.diagnosis.trainings import TrainingCase, judged_training
from koubai.diagnosis.verdicts import judged


@dataclass
class Diagnosis:
    finding: Any
    run: Any
    njev: int
    nfev: int

    @property
    def code(self):
        return self.finding.code

@dataclass
class Verification:
    pass

def diagnose(run, *, lang=None):
    if run.history.epochs is not None:
        case = TrainingCase(run)
        return Diagnosis(judged_training(case), run, case.spent, case.nfev)
    case = Case(run)
    f = judged(case)
    return Diagnosis(f, run, case.spent, case.objective.nfev)
