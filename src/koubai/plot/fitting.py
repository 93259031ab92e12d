"""Title, legend and labels that fit their axes: placed again whenever a layout has given the axes another size.

A subplot does not know its size before it is drawn: layouts, titles, colour scales and neighbours take their share. So
each of koubai's axes holds one unseen artist, which is asked for its extent by every layout and is drawn before all
others; then it wraps the title to the room that there is, and looks for a place for each label, and for the legend,
where it hides nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine, TightLayoutEngine
from matplotlib.legend import Legend
from matplotlib.patheffects import Normal, Stroke
from matplotlib.quiver import Quiver
from matplotlib.text import Annotation, Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, BboxBase, IdentityTransform

from koubai.parameters import FloatArray
from koubai.plot.style import DARK, LIGHT, figure_of
from koubai.plot.text import LINE, find_fonts, text_width, wrap

__all__ = ["Fitting", "Obstacles", "along", "finish"]

SHRINK = (1.0, 0.9, 0.8, 0.7, 0.6)  # of the usual size of text; the first that fits is taken
READABLE = 8.0  # points, of a title that a subplot without a layout makes room for
SMALLEST, LAST = 6.0, 5.0  # points; the last resort is for titles, which are to be whole
TITLE_SHARE = 0.24  # of the height that a layout has for a subplot; a title that needs more is written smaller
LEGEND_SHARE = 0.6  # of that height, for a legend below its axes
SPACES = {
    "handlelength": 1.8,
    "handletextpad": 0.6,
    "borderpad": 0.4,
    "labelspacing": 0.35,
}  # of a legend, in font sizes
POINTS = 600  # of a line that are checked, at most
SPACING = 6.0  # pixels between the points of a line that are checked
Place: TypeAlias = Literal[
    "upper right", "upper left", "lower right", "lower left", "center right", "center left", "upper center",
    "lower center",
]  # fmt: skip
PLACES: tuple[Place, ...] = get_args(Place)


def finish(
    ax: Axes,
    *lines: str,
    title: str | None = None,
    legend: bool = True,
    extra: Sequence[Artist] = (),
    beside: bool = False,
) -> None:
    """Write the title over ``ax``, place its labels and its legend, and keep all of them fitting.

    lines: of the title, those that are not empty; title: given instead of them, "" for none. legend: of what has a
    label in ``ax``, and of extra. beside: the legend below the axes in any case, if there is a layout.
    """
    fitting = Fitting.of(ax)
    fitting.lines = tuple(line for line in (lines if title is None else title.split("\n")) if line)
    ax.set_title("\n".join(fitting.lines), fontsize="medium", parse_math=False)  # a $ in a name or message is a $
    fitting.written = ax.get_title()
    handles = [*ax.get_legend_handles_labels()[0], *extra]
    if ax.get_legend() is not None:
        ax.get_legend().remove()  # type: ignore[union-attr]
    given: dict[str, Any] = {"handles": handles, "loc": "upper right", **SPACES}
    fitting.legend = ax.legend(**given) if legend and handles else None
    fitting.names = [text.get_text() for text in fitting.legend.get_texts()] if fitting.legend is not None else []
    fitting.beside = beside
    complete = find_fonts(_texts(ax), tell=True)
    fitting.fit()
    figure = figure_of(ax)
    engine = figure.figure.get_layout_engine()
    if complete and _has_layout(ax) and engine is not None and len(figure.figure.axes) == 1:
        engine.execute(figure.figure)  # a scale of colours needs more rounds than the first drawing makes


def _texts(ax: Axes) -> list[Text]:
    return [text for text in ax.findobj(Text) if isinstance(text, Text)]


class Fitting(Artist):
    """Keeps title, labels and legend of one axes fitting, and knows what koubai has drawn there.

    lines: of the title, unwrapped; written: the title as it was wrapped last: another text is the user's own.
    names: what the legend says. labels: names to write beside their points. runs, drawn: the descents in the picture
    and the artists that show them; kind: of picture, "" if it takes no other run; more: the other arguments.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_zorder(-1)
        self.lines: tuple[str, ...] = ()
        self.written = ""
        self.legend: Legend | None = None
        self.names: list[str] = []
        self.beside = False
        self.labels: list[Annotation] = []
        self.leaders: LineCollection | None = None
        self.runs: list[Any] = []
        self.drawn: list[Artist] = []
        self.kind = ""
        self.more: dict[str, Any] = {}
        self._fitted: Any = None
        self._given = (0.0, 0.0)  # of the figure's width and height, what `locate` leaves to the neighbours

    @classmethod
    def of(cls, ax: Axes) -> Fitting:
        """Return the one of ``ax``, which gets it now unless it has one."""
        found = next((artist for artist in ax.get_children() if isinstance(artist, cls)), None)
        if found is None:
            found = cls()
            ax.add_artist(found)
            found.set_clip_on(False)
            if ax.get_axes_locator() is None and ax.get_subplotspec() is not None:
                ax.set_axes_locator(_Place(found))
        return found

    def __getstate__(self) -> dict[str, Any]:
        # a picture can be pickled, but its runs only if their function has a name: the copy takes no other run
        state: Any = super().__getstate__()
        return {**state, "runs": [], "kind": "", "more": {}}

    def draw(self, renderer: RendererBase) -> None:
        self.fit(renderer, layout_done=True)
        self.stale = False

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:
        return Bbox.null()

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Any:
        self.fit(renderer)  # a layout asks, before it gives each axes its room
        return None

    def label(self, text: str, at: Sequence[float]) -> None:
        """Write ``text`` near the point ``at``, where it hides nothing; not at all if there is no such place."""
        assert isinstance(self.axes, Axes)
        label = self.axes.annotate(
            text, (at[0], at[1]), (0, 0), textcoords="offset points", ha="center", va="center", fontsize="small",
            color=DARK, parse_math=False, annotation_clip=False, zorder=7,
            path_effects=[Stroke(linewidth=2.5, foreground=LIGHT), Normal()],
        )  # fmt: skip
        self.labels.append(label)
        if self.leaders is None:
            self.leaders = LineCollection([], transform=IdentityTransform(), linewidths=0.9, colors=DARK, zorder=6)
            self.leaders.set_in_layout(False)
            self.axes.add_collection(self.leaders, autolim=False)

    def clear(self) -> None:
        """Take off what was drawn for the runs; what the user drew stays."""
        for artist in sorted(self.drawn, key=lambda artist: not isinstance(artist, Axes)):  # a scale before its field
            if artist.axes is not None:  # else the user took it off
                artist.remove()
        self.drawn, self.labels, self.leaders = [], [], None

    def fit(self, renderer: RendererBase | None = None, layout_done: bool = False) -> None:
        """Fit everything to the size that the axes have now, unless that was done already.

        layout_done: no layout will make more room than there is.
        """
        ax = self.axes
        if not isinstance(ax, Axes):
            return
        locator: Any = ax.get_axes_locator()
        ax.apply_aspect(locator(ax, None) if locator is not None else None)
        ax.get_xlim(), ax.get_ylim()  # matplotlib puts off finding limits until they are asked for
        figure = figure_of(ax)
        state = (
            *(round(v, 3) for v in ax.bbox.bounds), figure.dpi, *ax.get_xlim(), *ax.get_ylim(), ax.get_xscale(),
            ax.get_yscale(), ax.get_title(), ax.get_legend() is self.legend, renderer is None, layout_done,
            len(ax.get_children()),
        )  # fmt: skip
        if state == self._fitted:
            return
        find_fonts(_texts(ax))
        _fit_ticks(ax, points := figure.dpi / 72)
        hidden = Obstacles(ax)
        if self.labels:
            self._fit_labels(ax, hidden, points)
        if self.legend is not None and ax.get_legend() is self.legend:
            self._fit_legend(ax, self.legend, hidden, renderer, layout_done, points)
        if self.lines and ax.get_title() == self.written:
            self._fit_title(ax, renderer, layout_done, points)
        self._fitted = (*state[:-5], ax.get_title(), *state[-4:])

    # -- the size of the axes --

    def locate(self, ax: Axes, renderer: RendererBase | None) -> Bbox:
        """Return where ``ax`` is in its figure: where it was placed, less the room that its title and scale need.

        The latter only without a layout: then they would overlap its neighbours or be outside of the figure.
        """
        whole = Bbox(ax.get_position(original=True))
        figure = ax.get_figure()
        if figure is None or ax.get_subplotspec() is None or figure.figure.get_layout_engine() is not None:
            return whole
        if renderer is not None:
            ax.apply_aspect(whole)
            points = figure.dpi / 72
            left, right, above, _ = _room(ax, renderer, layout_done=True)
            middle = (ax.bbox.x0 + ax.bbox.x1) / 2
            width = max(2 * min(middle - left, right - middle), ax.bbox.width) / points
            font = ax.title.get_fontproperties().copy()
            font.set_size(READABLE)
            lines = [part for line in self.lines for part in wrap(line, 0.97 * width, font)]
            wanted = (READABLE * 1.35 * len(lines) + float(rcParams["axes.titlepad"])) * points if lines else 0.0
            top = figure.bbox.y0 + whole.y1 * figure.bbox.height  # an aspect may keep the axes below it
            down = top - ax.bbox.y1 + wanted - above if wanted > above else 0.0
            right = min(right, *(
                extent.x0 for other in figure.figure.axes
                if other is not ax and other.bbox.x0 >= ax.bbox.x1
                and (extent := other.yaxis.get_tightbbox(renderer)) is not None
                and extent.y1 > ax.bbox.y0 and extent.y0 < ax.bbox.y1
            ), math.inf)  # fmt: skip
            scales = [extent for scale in ax.child_axes if (extent := scale.get_tightbbox(renderer)) is not None]
            across = max([0.0, *(extent.x1 + 4 - max(right, ax.bbox.x1) for extent in scales)])
            self._given = (across / figure.bbox.width, down / figure.bbox.height)
        across, down = (
            min(share, most * side) for share, most, side in zip(self._given, (0.25, 0.4), whole.size, strict=True)
        )
        return Bbox.from_extents(whole.x0, whole.y0, whole.x1 - across, whole.y1 - down)

    # -- the title --

    def _fit_title(self, ax: Axes, renderer: RendererBase | None, layout_done: bool, points: float) -> None:
        left, right, above, _ = _room(ax, renderer, layout_done)
        middle = (ax.bbox.x0 + ax.bbox.x1) / 2
        width = max(2 * min(middle - left, right - middle), ax.bbox.width) / points
        pad = float(rcParams["axes.titlepad"])
        height = above / points - pad
        usual = FontProperties(size="medium").get_size_in_points()
        font = ax.title.get_fontproperties().copy()

        def fits(lines: list[str]) -> bool:
            size = font.get_size_in_points()
            tall = (1.35 * len(lines) - 0.2) * size  # above the baseline of the last line, rounded up to whole pixels
            if renderer is not None:
                ax.title.set_text("\n".join(lines))
                ax.title.set_fontsize(size)
                tall = ax.title.get_window_extent(renderer).height / points - 0.2 * size
            return tall <= height + 1

        for said, size in itertools.product((self.lines, self.lines[1:2] or self.lines), (*_sizes(usual), LAST)):
            font.set_size(size)
            lines = [part for line in said for part in wrap(line, 0.97 * width, font)]
            if fits(lines):
                break
        else:  # no room for what matters most, at any size that can be read: as much of it as there is room for
            count = max(n for n in range(1, len(lines) + 1) if n == 1 or fits(lines[:n]))
            lines = [*lines[: count - 1], _shortened(" ".join(lines[count - 1 :]), 0.97 * width, font)]
        text = "\n".join(lines)
        ax.title.set_text(text)
        ax.title.set_fontsize(font.get_size())
        self.written = text

    # -- the legend --

    def _fit_legend(
        self,
        ax: Axes,
        legend: Legend,
        obstacles: Obstacles,
        renderer: RendererBase | None,
        layout_done: bool,
        points: float,
    ) -> None:
        usual = FontProperties(size="medium").get_size_in_points()
        left, right, _, below = _room(ax, renderer, layout_done)
        pad = 0.5 * usual * points  # matplotlib's own, between a legend and what it is anchored to
        low = pad  # how far below the axes a legend may begin
        if renderer is not None and ax.axison and (extent := ax.xaxis.get_tightbbox(renderer)) is not None:
            low += max(ax.bbox.y0 - extent.y0, 0.0)
        middle = (ax.bbox.x0 + ax.bbox.x1) / 2
        beneath = 2 * min(middle - left, right - middle)
        legend.set_visible(True)
        for folded in (False, True):
            best: tuple[float, float, Place] = (math.inf, -SMALLEST, "upper right")
            for size in _sizes(usual):
                width, height = _legend_size(self._names(size, ax.bbox.width / points, folded), size, points)
                if width > ax.bbox.width or height > ax.bbox.height:
                    continue
                for k, place in enumerate(PLACES):
                    box = _placed(ax.bbox, place, width + pad, height + pad)
                    best = min(best, (obstacles.hidden(box) + 1e-3 * k, -size, place))
                if best[0] < 0.01:
                    break
            cost, size, place = best[0], -best[1], best[2]
            hides = cost >= 0.5 or self.beside
            for smaller in _sizes(0.9 * usual) if renderer is not None and (hides or size < 0.75 * usual) else ():
                if not hides and smaller <= size:
                    break
                names = self._names(smaller, beneath / points, folded)
                width, height = _legend_size(names, smaller, points)
                if low + height <= below + 1 and width <= beneath:
                    _write(legend, names, smaller)
                    legend.set_loc("upper center")
                    legend.set_bbox_to_anchor((0.5, (pad - low) / ax.bbox.height))
                    legend.get_frame().set_alpha(0.9)
                    return
            if cost < math.inf:
                _write(legend, self._names(size, ax.bbox.width / points, folded), size)
                legend.set_loc(place)
                legend.set_bbox_to_anchor(None)
                legend.get_frame().set_alpha(0.9 if cost < 0.5 else 0.6)
                return
        legend.set_visible(False)  # a picture as small as that has no room for one

    def _names(self, size: float, width: float, folded: bool) -> list[str]:
        """Return what the legend says: as it is, or folded to so many points."""
        if not folded:
            return self.names
        font = FontProperties(size=size)
        usual = FontProperties(size="medium").get_size_in_points()
        room = (width - usual * (SPACES["handlelength"] + SPACES["handletextpad"] + 2 * SPACES["borderpad"])) / 1.05
        return ["\n".join(wrap(name, max(room, 5 * size), font)) for name in self.names]

    # -- the labels --

    def _fit_labels(self, ax: Axes, obstacles: Obstacles, points: float) -> None:
        taken: list[Bbox] = []
        leaders = []
        inside = ax.bbox
        for label in self.labels:
            at = np.asarray(ax.transData.transform(label.xy))
            font = label.get_fontproperties()
            width = (text_width(label.get_text(), font) * 1.03 + 3) * points
            height = LINE * font.get_size_in_points() * points
            found: tuple[float, Any, Bbox] | None = None
            for reach, angle in itertools.product((9, 18, 30, 45, 65, 90, 120), range(0, 360, 30)):
                turn = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
                middle: Any = at + turn * (reach * points + np.array([width, height]) / 2)
                box = Bbox.from_bounds(middle[0] - width / 2, middle[1] - height / 2, width, height)
                if not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1):
                    continue
                if any(box.overlaps(other) for other in taken):
                    continue
                cost = 10 * obstacles.hidden(box) + reach / 40 + (0.0 if abs(angle - 180) > 90 else 0.1)
                if found is None or cost < found[0]:
                    found = cost, middle, box
            label.set_visible(found is not None)
            if found is None:
                continue
            _, middle, box = found
            taken.append(box)
            obstacles.boxes.append(box)
            label.set_position(tuple((middle - at) / points))
            nearest = np.clip(at, box.min, box.max)
            if np.hypot(*(nearest - at)) > 14 * points:
                leaders.append([at, nearest])
        if self.leaders is not None:
            self.leaders.set_segments(leaders)


class _Place:
    """The locator of an axes: matplotlib asks it for the place before each drawing, and layouts for the subplot."""

    def __init__(self, fitting: Fitting) -> None:
        self.fitting = fitting

    def __call__(self, ax: Any, renderer: RendererBase | None) -> Bbox:
        return self.fitting.locate(ax, renderer)

    def get_subplotspec(self) -> Any:
        return self.fitting.axes.get_subplotspec() if isinstance(self.fitting.axes, Axes) else None


# -- what may not be hidden -------------------------------------------------------------------------------------------


class Obstacles:
    """The things drawn in ``ax``, in pixels: points along its lines, its marks, and boxes of text.

    Hiding all of a line costs 4, a mark or a box 1.
    """

    def __init__(self, ax: Axes) -> None:
        self.marks = np.empty((0, 2))
        self.lines: list[FloatArray] = []
        self.boxes: list[Bbox] = []
        marks = [self.marks]
        for line in ax.lines:
            if not line.get_visible() or line.get_zorder() < 0:
                continue
            rows = line.get_transform().transform(np.asarray(line.get_xydata(), dtype=np.float64).reshape(-1, 2))
            if line.get_linestyle() in ("None", "", " ") or len(rows) < 2:
                marks.append(rows)
            else:
                self.lines.append(along(rows, ax.bbox))
        for artist in ax.collections:
            if isinstance(artist, Quiver) and artist.scale_units == "xy":
                tails = np.asarray(artist.XY, dtype=np.float64)
                tips = tails + np.column_stack([np.ravel(artist.U), np.ravel(artist.V)])
                pairs = np.stack([ax.transData.transform(tails), ax.transData.transform(tips)], axis=1)
                self.lines.append(np.concatenate([along(pair, ax.bbox) for pair in pairs]) if len(pairs) else marks[0])
            elif isinstance(artist, PathCollection):
                self.lines.append(artist.get_offset_transform().transform(np.asarray(artist.get_offsets())))
        self.lines = [rows[:: 1 + len(rows) // POINTS] for rows in self.lines]
        self.marks = np.concatenate(marks)
        self.marks = self.marks[np.isfinite(self.marks).all(axis=1)]

    def hidden(self, box: BboxBase) -> float:
        """Return how much a box over the picture would hide."""
        low, high = np.asarray(box.min) - 4, np.asarray(box.max) + 4

        def count(rows: FloatArray) -> float:
            return float(np.count_nonzero(((rows > low) & (rows < high)).all(axis=1)))

        lines = sum(count(rows) / len(rows) for rows in self.lines if len(rows))
        return 4 * lines + count(self.marks) + sum(box.overlaps(other) for other in self.boxes)


def along(rows: FloatArray, box: BboxBase) -> FloatArray:
    """Return points along the part of a polyline that is inside ``box``, evenly spaced; all in pixels."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) < 2:
        return rows
    tails, steps = rows[:-1], np.diff(rows, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (box.min - tails) / steps, (box.max - tails) / steps
    enter = np.fmax.reduce(np.fmin(low, high), axis=1).clip(0)  # a 0/0 of a step along the edge is ignored
    leave = np.fmin.reduce(np.fmax(low, high), axis=1).clip(None, 1)
    seen = enter < leave
    tails, steps, enter, leave = tails[seen], steps[seen], enter[seen], leave[seen]
    lengths = np.hypot(*steps.T) * (leave - enter)
    counts = np.ceil(lengths / max(SPACING, float(lengths.sum()) / 20_000)).astype(np.int64).clip(1)
    which = np.repeat(np.arange(len(counts)), counts)
    place = (np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + 0.5) / counts[which]
    share = enter[which] + place * (leave - enter)[which]
    return np.asarray(tails[which] + share[:, np.newaxis] * steps[which])


# -- room -------------------------------------------------------------------------------------------------------------


def _has_layout(ax: Axes) -> bool:
    """Return whether a layout makes room for what is beside ``ax``."""
    figure = figure_of(ax)
    return isinstance(figure.figure.get_layout_engine(), ConstrainedLayoutEngine | TightLayoutEngine)


def _room(ax: Axes, renderer: RendererBase | None, layout_done: bool) -> tuple[float, float, float, float]:
    """Return how far to the left and right text may reach beside ``ax``, and how far over and below it, in pixels."""
    figure = figure_of(ax)
    here, edge = ax.bbox, figure.bbox
    left, right, top, bottom = edge.x0 + 4, edge.x1 - 4, edge.y1 - 2, edge.y0 + 2
    for other in figure.figure.axes:
        box = other.bbox
        if other is ax or not other.get_visible() or box.width <= 0 or box.height <= 0:
            continue
        if box.y1 > here.y0 and box.y0 < here.y1:
            if box.x0 >= here.x1:
                right = min(right, (here.x1 + box.x0) / 2)
            elif box.x1 <= here.x0:
                left = max(left, (here.x0 + box.x1) / 2)
        if box.x1 > here.x0 and box.x0 < here.x1:
            if box.y0 >= here.y1:
                extent = other.xaxis.get_tightbbox(renderer) if renderer is not None and other.axison else None
                top = min(top, box.y0 if extent is None else extent.y0)
            elif box.y1 <= here.y0:
                title = other.title.get_window_extent(renderer) if renderer is not None else None
                bottom = max(bottom, box.y1 if title is None or not other.get_title() else title.y1)
    above, below = top - here.y1, here.y0 - bottom
    spec = ax.get_subplotspec()
    if not layout_done and spec is not None and _has_layout(ax):
        cell = edge.height / spec.get_gridspec().nrows
        above, below = max(above, TITLE_SHARE * cell), max(below, LEGEND_SHARE * cell)
    return left, right, above, below


def _fit_ticks(ax: Axes, points: float) -> None:
    """Choose as many ticks on the x axis as have room for their labels."""
    locator, formatter = ax.xaxis.get_major_locator(), ax.xaxis.get_major_formatter()
    if not isinstance(locator, MaxNLocator) or not ax.axison:
        return
    low, high = sorted(ax.get_xlim())
    font = FontProperties(size=rcParams["xtick.labelsize"])
    for count in ("auto", 7, 6, 5, 4, 3, 2):
        locator.set_params(nbins=count)
        ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
        widest = max((text_width(label, font) for label in formatter.format_ticks(ticks)), default=0.0)
        if len(ticks) * (widest + 6) * points <= ax.bbox.width:
            return


def _sizes(usual: float) -> Iterable[float]:
    """Return sizes of text in points, from the usual one down."""
    return dict.fromkeys(max(share * usual, min(usual, SMALLEST)) for share in SHRINK)


def _shortened(text: str, width: float, font: FontProperties) -> str:
    """Return ``text``, cut if it is wider than ``width``."""
    while text_width(f"{text} …", font) > width and len(text) > 1:
        text = text[: -max(1, len(text) // 20)].rstrip()
    return f"{text} …"


def _write(legend: Legend, names: Sequence[str], size: float) -> None:
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
        text.set_fontsize(size)


def _legend_size(names: Sequence[str], size: float, points: float) -> tuple[float, float]:
    """Return the width and height in pixels of a legend that says this in text of this size."""
    usual = FontProperties(size="medium").get_size_in_points()  # the handles keep the size that they were made for
    font = FontProperties(size=size)
    lines = [name.split("\n") for name in names]
    widest = max((text_width(line, font) for parts in lines for line in parts), default=0.0)
    tall = sum(max(LINE * size * len(parts), 0.7 * usual) for parts in lines)
    tall += (len(lines) - 1) * SPACES["labelspacing"] * usual
    wide = 1.03 * widest + (SPACES["handlelength"] + SPACES["handletextpad"]) * usual
    border = 2 * SPACES["borderpad"] * usual
    return (wide + border) * points, (tall + border) * points


def _placed(inside: BboxBase, place: str, width: float, height: float) -> Bbox:
    """Return the box of this size at a place in ``inside``."""
    x = inside.x1 - width if "right" in place else inside.x0
    y = inside.y1 - height if "upper" in place else inside.y0
    if place.startswith("center"):
        y = (inside.y0 + inside.y1 - height) / 2
    if place.endswith("center"):
        x = (inside.x0 + inside.x1 - width) / 2
    return Bbox.from_bounds(x, y, width, height)
