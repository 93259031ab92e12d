"""koubai (勾配, "gradient"): gradient descent that people can see, trust and use."""

from koubai.derivatives.differences import Estimate, derivative, numerical_gradient
from koubai.descent.loop import iterate, minimize
from koubai.descent.optimizers import SGD
from koubai.descent.record import History, Run, Status, Step

__version__ = "0.1.0"
