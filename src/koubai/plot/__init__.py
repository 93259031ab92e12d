"""Pictures of derivatives, descents and learning rates, in matplotlib.

Every function draws on ``ax``, or on a new figure where it is None, and returns the axes; none of them shows a window,
saves a file or changes matplotlib's settings.
"""

from koubai.plot.derivatives import difference_error, gradient_field, tangent
from koubai.plot.descent import convergence, path_1d, path_2d, run
from koubai.plot.schedules import schedules

__all__ = ["convergence", "difference_error", "gradient_field", "path_1d", "path_2d", "run", "schedules", "tangent"]
