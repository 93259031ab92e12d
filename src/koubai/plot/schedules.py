"""The picture of a learning rate against the step."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

from koubai.descent.schedules import Schedule
from koubai.errors import InputError
from koubai.parameters import check_whole
from koubai.plot.style import BEST, CURVE, DARK, END, PATH, THIRD, axes_for, halo
from koubai.plot.text import find_fonts, said

__all__ = ["schedules"]


def schedules(*given: Schedule, steps: int = 1000, ax: Axes | None = None) -> Axes:
    """Schedules: the learning rate of each against the step.

        (t, schedule(t)),   t = 0 … steps − 1

    Parameters
    ----------
    *given : Schedule
        A plateau, which depends on f, is drawn as if f kept falling.
    steps : int, default 1000
        A whole number ≥ 2.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        For anything else.

    Examples
    --------
    >>> ax = kb.plot.schedules(kb.schedules.cosine(0.1, 100), kb.schedules.constant(0.05), steps=120)
    >>> len(ax.lines)
    2
    """
    if not given or not all(isinstance(one, Schedule) for one in given):
        raise InputError(f"give schedules, such as koubai.schedules.cosine(0.1, steps=100); got {given!r}")
    t = np.arange(check_whole(steps, 2, "steps"))
    ax = axes_for(ax)
    for i, one in enumerate(given):
        color, style = (CURVE, PATH, THIRD, END, BEST)[i % 5], ("-", "--", "-.", ":")[i % 4]
        ax.plot(t, [one(int(k)) for k in t], color=color, linestyle=style, linewidth=2.5, path_effects=halo(2.5, 0.5),
                label=repr(one))  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_xlabel(said("step"))
    ax.set_ylabel("lr")
    ax.set_title(said("learning_rate"))
    ax.grid(True, color=DARK, alpha=0.12)
    # Below the axes: the curves fill them from corner to corner.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9)
    find_fonts(text for text in ax.findobj(Text) if isinstance(text, Text))
    return ax
