"""Pictures of derivatives, descents, learning rates and networks, in matplotlib.

Every function draws on ``ax``, or on a new figure if it is None, and returns the axes (`training`, a page of several
pictures, the figure); none of them shows a window, saves a file or changes matplotlib's settings. Titles, legends and
labels are fitted to the axes whenever these are drawn, so that they hold in subplots of any layout. They are in the
language of the locale, English or Japanese, or in that of ``with koubai.messages.speaking("ja")``; in English where no
font has the characters.
"""

from koubai.plot.animation import animate
from koubai.plot.comparison import compare, paths
from koubai.plot.derivatives import difference_error, gradient_field, tangent
from koubai.plot.descent import convergence, path_1d, path_2d, run
from koubai.plot.network import (
    activations,
    confusion,
    decision,
    filters,
    gradient_by_depth,
    gradient_norms,
    training,
    training_curves,
    weights,
)
from koubai.plot.rates import profile, progress, race_page, rates
from koubai.plot.schedules import schedules
from koubai.plot.starts import basins, shares
from koubai.plot.surface import surface
from koubai.plot.sweep import sweep
from koubai.plot.theory import theory

__all__ = [
    "activations",
    "animate",
    "basins",
    "compare",
    "confusion",
    "convergence",
    "decision",
    "difference_error",
    "filters",
    "gradient_by_depth",
    "gradient_field",
    "gradient_norms",
    "path_1d",
    "path_2d",
    "paths",
    "profile",
    "progress",
    "race_page",
    "rates",
    "run",
    "schedules",
    "shares",
    "surface",
    "sweep",
    "tangent",
    "theory",
    "training",
    "training_curves",
    "weights",
]
