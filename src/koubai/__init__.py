"""koubai (勾配, "gradient"): gradient descent that people can see, trust and use."""

import importlib as _importlib
from typing import Any as _Any

from koubai.derivatives.check import GradientCheck, check_gradient
from koubai.derivatives.differences import Estimate, derivative, numerical_gradient
from koubai.derivatives.gradient import grad, hessian, hvp, jacobian, value_and_grad
from koubai.descent import optimizers, schedules
from koubai.descent.loop import iterate, minimize, resume
from koubai.descent.record import History, Run, Status, Step, load
from koubai.functions.expression import Expression, parse
from koubai.functions.problems import Problem, problems
from koubai.graph.call import trace

__version__ = "0.1.0"

__all__ = [
    "Basins",
    "Estimate",
    "Expression",
    "FoundMinimum",
    "GradientCheck",
    "History",
    "Many",
    "MultiStart",
    "Problem",
    "Run",
    "Status",
    "Step",
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

globals().update({_cls.__name__: _cls for _cls in optimizers.CLASSES.values()})
__all__ += sorted(_cls.__name__ for _cls in optimizers.CLASSES.values())

_ON_FIRST_USE = {  # what needs more than NumPy, or much time
    "diagnose": "koubai.diagnosis",
    "Basins": "koubai.search.basins",
    "FoundMinimum": "koubai.search.minima",
    "Many": "koubai.descent.many",
    "MultiStart": "koubai.search.multistart",
    "basins": "koubai.search.basins",
    "explain": "koubai.derivatives.explain",
    "find_lr": "koubai.search.learning_rate",
    "fit": "koubai.descent.fit",
    "minimize_many": "koubai.descent.many",
    "multistart": "koubai.search.multistart",
    "nn": "koubai.nn",
    "plot": "koubai.plot",
    "race": "koubai.search.race",
    "sweep": "koubai.search.sweep",
}


def __getattr__(name: str) -> _Any:
    if name in _ON_FIRST_USE:
        module = _importlib.import_module(_ON_FIRST_USE[name])
        return getattr(module, name, module)
    from koubai.synonyms import no_attribute, suggestion

    if not name.startswith("_") and not suggestion(name, __all__)[2]:
        network = _importlib.import_module("koubai.nn").__all__
        if suggestion(name, network)[2]:
            raise no_attribute(__name__, name, network, "nn.")
    raise no_attribute(__name__, name, __all__)
