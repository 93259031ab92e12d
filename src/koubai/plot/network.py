"""Pictures of networks: how training went, what the network decides, and what its layers hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator, PercentFormatter

from koubai.descent.record import Epochs, Run
from koubai.errors import InputError
from koubai.parameters import FloatArray, real_array
from koubai.plot.comparison import compare, drawn_before, reason_of, remember
from koubai.plot.fitting import finish
from koubai.plot.scales import count_along, log_scale
from koubai.plot.style import (
    BEST,
    COLORS,
    CURVE,
    DARK,
    FIELD,
    LIGHT,
    MARKERS,
    PATH,
    axes_for,
    figure_of,
    halo,
    look,
    number,
)
from koubai.plot.text import LINE, said, status_name, text_width

__all__ = [
    "activations",
    "confusion",
    "decision",
    "filters",
    "gradient_by_depth",
    "gradient_norms",
    "training",
    "training_curves",
    "weights",
]

GRID = 300  # points per side, of the plane that `decision` draws
TILES = 100  # filters drawn at most
BINS = 60  # of a histogram at most
SMALL = 8.0  # points, of the notes beside a histogram at most


# -- how training went ------------------------------------------------------------------------------------------------


def training_curves(
    run: Run,
    *,
    curve: Literal["loss", "accuracy"] = "loss",
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Training curves: the loss or the accuracy of every epoch, on the training and on the validation data.

    The training curve is the mean along the epoch, while the weights still move; validation is measured at its end.
    The best epoch is marked, by validation if there is any. A loss that spans decades has a logarithmic scale.
    A training that ended within its first epoch is drawn step by step, by the losses of its mini-batches.

    Parameters
    ----------
    run : Run
        A training.
    curve : {"loss", "accuracy"}, default "loss"
        What is drawn.
    title : str, optional
        None names the picture, "" leaves it out.
    legend : bool, default True
        False leaves it out.
    ax : Axes, optional
        What to draw on; a new figure by default. A second run's loss on the
        same axes joins the first one, as `compare` draws them.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        For a run without epochs, or without the curve that is asked for.

    Examples
    --------
    >>> X, y = nn.moons(60)
    >>> network = nn.Network([nn.Dense(8), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy())
    >>> run = network.fit(X, y, "adam", epochs=2)
    >>> kb.plot.training_curves(run).get_xlabel()
    'epoch'
    """
    if curve not in ("loss", "accuracy"):
        raise InputError(f"curve must be 'loss' or 'accuracy', got {curve!r}")
    if curve == "loss" and isinstance(run, Run) and (joint := drawn_before(ax, run, "loss")) is not None:
        return compare(**joint, title=title, legend=legend, ax=ax)
    if curve == "loss" and _within_an_epoch(run):
        return _steps(run, axes_for(ax), title, legend)
    epochs = _epochs(run)
    train, held = (
        (epochs.fun, epochs.validation_fun) if curve == "loss" else (epochs.accuracy, epochs.validation_accuracy)
    )
    if train is None:
        raise InputError("the run has no accuracy: its loss is not one of classes; draw curve='loss'")
    ax = axes_for(ax)
    before = set(ax.get_children())
    at = np.arange(1, len(train) + 1)
    drawn = []
    for name, given, color, style, mark in (
        (said("training"), train, PATH, "--", "o"), (said("validation"), held, CURVE, "-", "s"),
    ):  # fmt: skip
        if given is None:
            continue
        values = np.where(np.isfinite(given), given, np.nan)  # a gap where the loss was lost
        ax.plot(at, values, color=color, linestyle=style, linewidth=2.2, path_effects=halo(2.2, 0.5),
                marker=mark if len(at) <= 30 else "", markersize=5, markeredgecolor=DARK, label=name)  # fmt: skip
        drawn.append(np.column_stack([at, values]))
    points, judged = np.vstack(drawn), drawn[-1]
    judged = judged[np.isfinite(judged[:, 1])]
    if len(judged):
        epoch, value = judged[judged[:, 1].argmin() if curve == "loss" else judged[:, 1].argmax()]
        score = number(value) if curve == "loss" else f"{value:.2%}"
        ax.plot(epoch, value, linestyle="", marker="D", markersize=9, markerfacecolor=BEST, markeredgecolor=DARK,
                label=said("best_epoch", score=score, epoch=epoch), zorder=5)  # fmt: skip
    finite = points[np.isfinite(points[:, 1]), 1]
    if curve == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min():
        log_scale(ax, finite)
    count_along(ax, said("epoch"))
    ax.set_ylabel(said(curve))
    if curve == "loss":
        remember(ax, before, "loss", {"": run}, [run], None)
    finish(ax, said(f"{curve}_in_{'training' if held is None else 'both'}"), title=title, legend=legend)
    return ax


def _within_an_epoch(run: Run) -> bool:
    """Return whether a training ended before its first epoch did."""
    return isinstance(run, Run) and run.history.epochs is not None and not len(run.history.epochs)


def _steps(run: Run, ax: Axes, title: str | None, legend: bool) -> Axes:
    """Draw the losses of the mini-batches of a training that diverged, say, in its first epoch."""
    before = set(ax.get_children())
    at, loss = run.history.t, np.where(np.isfinite(run.history.fun), run.history.fun, np.nan)
    ax.plot(at, loss, color=PATH, linewidth=2.2, path_effects=halo(2.2, 0.5), marker="o" if len(at) <= 30 else "",
            markersize=5, markeredgecolor=DARK, label=said("batches"))  # fmt: skip
    finite = loss[np.isfinite(loss)]
    if len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min():
        log_scale(ax, finite)
    count_along(ax, said("step"))
    ax.set_ylabel(said("loss"))
    remember(ax, before, "loss", {"": run}, [run], None)
    ended = said("first_epoch_ended", status=status_name(run.status.name))
    finish(ax, ended, reason_of(run), title=title, legend=legend)
    return ax


def gradient_norms(run: Run, *, title: str | None = None, legend: bool = True, ax: Axes | None = None) -> Axes:
    """Gradient norms: how large the gradient of each layer is, epoch by epoch.

        √Σ (∂loss/∂w)²  over the parameters w of a layer,  mean along an epoch

    Layers are coloured in order, the first one darkest. If the first layers are decades below the last, their
    gradient vanishes and they hardly learn.

    Parameters
    ----------
    run : Run
        The training of a network.
    title : str, optional
        None names the picture, "" leaves it out.
    legend : bool, default True
        False leaves it out.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        Unless ``run`` is that of a network.

    Examples
    --------
    >>> X, y = nn.moons(60)
    >>> network = nn.Network([nn.Dense(8), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy())
    >>> run = network.fit(X, y, "adam", epochs=2)
    >>> ax = kb.plot.gradient_norms(run)
    """
    names, norms = _layer_norms(run)
    ax = axes_for(ax)
    at = np.arange(1, len(norms) + 1)
    for i, (name, color) in enumerate(zip(names, _by_depth(len(names)), strict=True)):
        ax.plot(at, _positive(norms[:, i]), color=color, linewidth=2.2, path_effects=halo(2.2, 0.5),
                marker=MARKERS[i % len(MARKERS)] if len(at) <= 30 else "", markeredgecolor=DARK,
                label=name)  # fmt: skip
    log_scale(ax, _positive(norms))
    count_along(ax, said("epoch"))
    ax.set_ylabel(said("gradient_norm"))
    finish(ax, said("norm_by_layer"), title=title, legend=legend, beside=len(names) > 6)
    return ax


def gradient_by_depth(
    runs: Mapping[str, Run],
    *,
    epoch: int = 0,
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Gradient by depth: the gradient norm of each layer from the first to the last, one line per network.

    A line that falls towards the first layer is a gradient that vanishes on its way back, one that rises explodes.

    Parameters
    ----------
    runs : dict of name → Run
        Trainings to compare: activations, initialisers.
    epoch : int, default 0
        Which one, 0 the first, −1 the last.
    title : str, optional
        None names the picture, "" leaves it out.
    legend : bool, default True
        False leaves it out.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        Unless every run is that of a network with so many epochs.

    Examples
    --------
    >>> X, y = nn.moons(60)
    >>> network = nn.Network([nn.Dense(8), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy())
    >>> run = network.fit(X, y, "adam", epochs=2)
    >>> ax = kb.plot.gradient_by_depth({"tanh": run}, epoch=-1)
    """
    if not isinstance(runs, Mapping) or not runs:
        raise InputError(f"runs must be a dict of named runs, got {type(runs).__name__}")
    lines = {}
    for name, run in runs.items():
        _, norms = _layer_norms(run)
        if not -len(norms) <= epoch < len(norms):
            raise InputError(f"epoch {epoch} is not in run {name!r}, which has {len(norms)}")
        lines[name] = _positive(norms[epoch])
    ax = axes_for(ax)
    for i, (name, line) in enumerate(lines.items()):
        ax.plot(np.arange(1, len(line) + 1), line, **look(i), linewidth=2.4, path_effects=halo(2.4, 0.5), markersize=8,
                markeredgecolor=DARK, label=name)  # fmt: skip
    log_scale(ax, np.concatenate(list(lines.values())))
    count_along(ax, said("layers"))
    ax.set_ylabel(said("gradient_norm"))
    which = said({0: "first_epoch", -1: "last_epoch"}.get(epoch, "epoch_number"), number=epoch + 1)
    finish(ax, said("norm_by_depth", which=which), title=title, legend=legend)
    return ax


# -- what the network decides -----------------------------------------------------------------------------------------


def decision(
    network: Any,
    X: Any,
    y: Any,
    *,
    classes: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    bounds: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """Decision: the plane, coloured by the class that the network sees there, with the data on it.

    Colours fade if the network is not sure; dark lines are the boundaries between classes. Samples that are on the
    wrong side are drawn large.

    Parameters
    ----------
    network : Network or callable
        Has predict_proba, or is a function of points (n, 2) that gives probabilities, (n, classes), or (n,) of class 1.
    X : array, shape (n, 2)
        The samples.
    y : array of int, shape (n,)
        Labels 0, 1, ….
    classes : list of str, optional
        Names for the legend; the numbers if left out.
    features : list of str, optional
        Names for the axes.
    bounds : ((x0 low, x0 high), (x1 low, x1 high)), optional
        The window; the data with a margin if left out.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        For data that has other than two features.

    Examples
    --------
    >>> X, y = nn.moons(60)
    >>> network = nn.Network([nn.Dense(8), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy())
    >>> run = network.fit(X, y, "adam", epochs=2)
    >>> kb.plot.decision(network, X, y).get_xlabel()
    'x0'
    """
    X, y = _plane(X), _labels(y, "y")
    if len(X) != len(y):
        raise InputError(f"X has {len(X)} samples, y has {len(y)}; they must be equally many")
    low, high = X.min(axis=0), X.max(axis=0)
    margin = 0.1 * np.where(high > low, high - low, 1.0)
    ranges = np.column_stack([low - margin, high + margin]) if bounds is None else np.asarray(bounds, dtype=np.float64)
    if ranges.shape != (2, 2) or not (ranges[:, 0] < ranges[:, 1]).all():
        raise InputError(f"bounds must be ((x0 low, x0 high), (x1 low, x1 high)), got {bounds!r}")
    proba = getattr(network, "predict_proba", network)
    grid = np.meshgrid(*(np.linspace(a, b, GRID) for a, b in ranges))
    field = _probabilities(proba, np.column_stack([axis.ravel() for axis in grid]))
    count = max(field.shape[1], int(y.max()) + 1)
    names = _class_names(classes, count)
    axes = ("x0", "x1") if features is None else tuple(map(str, features))
    if len(axes) != 2:
        raise InputError(f"features must be two names, got {features!r}")
    wrong = _probabilities(proba, X).argmax(axis=1) != y
    ax = axes_for(ax)
    colors = np.array([to_rgb(COLORS[k % len(COLORS)]) for k in range(count)])
    faded = 1 - 0.6 * (1 - field @ colors[: field.shape[1]])  # towards white, so that the points stand out
    ax.imshow(
        faded.reshape(GRID, GRID, 3), origin="lower", extent=(*ranges[0], *ranges[1]), interpolation="bilinear",
        aspect="auto", zorder=0,
    )  # fmt: skip
    for k in range(field.shape[1]):
        others = np.delete(field, k, axis=1).max(axis=1)
        ahead = (field[:, k] - others).reshape(GRID, GRID)
        if ahead.min() < 0 < ahead.max():
            ax.contour(*grid, ahead, levels=[0.0], colors=DARK, linewidths=1.2, zorder=1)
    for k in range(count):
        for rows, size in (((y == k) & ~wrong, 26), ((y == k) & wrong, 90)):
            ax.scatter(X[rows, 0], X[rows, 1], s=size, color=COLORS[k % len(COLORS)], marker=MARKERS[k % len(MARKERS)],
                       edgecolor=DARK, linewidth=0.8, zorder=2 + (size > 50),
                       label=names[k] if size < 50 else None)  # fmt: skip
    ax.set_xlim(*ranges[0])
    ax.set_ylim(*ranges[1])
    ax.set_xlabel(axes[0])
    ax.set_ylabel(axes[1])
    errors = int(wrong.sum())
    finish(ax, said("decision" if errors else "decision_all", right=len(y) - errors, count=len(y)))
    return ax


def confusion(y: Any, predicted: Any, *, classes: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Confusion: how often class i (row) was taken for class j (column).

    The colour is the share of the row; the diagonal is right.

    Parameters
    ----------
    y, predicted : arrays of int
        Labels 0, 1, …, equally many.
    classes : list of str, optional
        Names; the numbers if left out.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        For labels that aren't whole numbers ≥ 0.

    Examples
    --------
    >>> kb.plot.confusion([0, 1, 1], [0, 1, 0]).get_ylabel()
    'true class'
    """
    y, predicted = _labels(y, "y"), _labels(predicted, "predicted")
    if len(y) != len(predicted):
        raise InputError(f"y has {len(y)} labels, predicted has {len(predicted)}; they must be equally many")
    count = int(max(y.max(), predicted.max())) + 1 if classes is None else len(classes)
    names = _class_names(classes, count)
    if max(y.max(), predicted.max()) >= count:
        raise InputError(f"classes has {count} names, but there is a label {max(y.max(), predicted.max())}")
    table = np.zeros((count, count), dtype=np.int64)
    np.add.at(table, (y, predicted), 1)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.32 * count + 1.5, 6, 14))
    ax = axes_for(ax, (max(8.0, 1.15 * side), side))
    # A logarithmic scale, so that one error in a hundred shows beside the diagonal; an empty cell is white.
    ax.imshow(np.ma.masked_equal(shares, 0), cmap="Blues", norm=LogNorm(0.003, 1.0), aspect="equal")
    width, height = _points_of(ax)
    cell = 0.9 * min(width, height) / count  # in points: a layout will take some of the room
    size = min(11.0, 0.55 * cell, 1.4 * cell / len(str(table.max())))
    if size >= 4:
        for i, j in np.argwhere(table > 0):
            ax.text(j, i, str(table[i, j]), ha="center", va="center", fontsize=size,
                    color=LIGHT if shares[i, j] > 0.12 else DARK)  # fmt: skip
    _name_cells(ax, names, cell)
    ax.set_xlabel(said("predicted_class"))
    ax.set_ylabel(said("true_class"))
    right = int(np.trace(table))
    finish(ax, said("confusion", right=right, count=len(y), share=right / len(y)))
    return ax


def _points_of(ax: Axes) -> tuple[float, float]:
    """Return the width and height of ``ax`` in points, as they are before a layout."""
    figure = figure_of(ax)
    return ax.bbox.width * 72 / figure.dpi, ax.bbox.height * 72 / figure.dpi


def _name_cells(ax: Axes, names: Sequence[str], cell: float) -> None:
    """Write the classes beside the rows and columns, as many as can be read if a cell is so many points wide."""
    size = float(np.clip(0.8 * cell, 6, 10))
    step = max(1, math.ceil(LINE * size / cell))
    shown = range(0, len(names), step)
    ax.set_yticks(shown, names[::step], fontsize=size)
    widest = max(text_width(name, FontProperties(size=size)) for name in names[::step])
    if (fitting := size * 0.9 * step * cell / widest) >= 6:  # smaller rather than turned
        size = min(size, fitting)
    turned = fitting < 6
    ax.set_xticks(shown, names[::step], fontsize=size, rotation=90 if turned else 0)


# -- what the layers hold ---------------------------------------------------------------------------------------------


def weights(network: Any, *, ax: Axes | None = None) -> Axes:
    """Weights: a histogram of the weights of each layer, all on one scale.

    Parameters
    ----------
    network : Network or dict of arrays
        Its params are drawn; vectors (biases, scales) are left out.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        They hold one inset per layer.

    Raises
    ------
    InputError
        If there are no weights.

    Examples
    --------
    >>> ax = kb.plot.weights({"W": np.eye(3)})
    """
    params = getattr(network, "params", network)
    if not isinstance(params, Mapping):
        raise InputError(f"network must have params or be a dict of arrays, got {type(network).__name__}")
    rows = {name: real_array(value, name).ravel() for name, value in params.items() if np.ndim(value) > 1}
    if not rows:
        raise InputError("there are no weights yet: fit or build the network first")
    names = tuple(getattr(network, "names", ()))
    rows = {_weight_name(name, names): values for name, values in rows.items()}
    notes = {
        name: said("weight_note", count=len(values), std=number(float(values.std()), 3))
        for name, values in rows.items()
    }
    return _histograms(ax, rows, notes, said("weights"), shared=True)


def activations(outputs: Any, X: Any = None, *, ax: Axes | None = None) -> Axes:
    """Activations: a histogram of what each layer puts out for the samples X.

    Beside each histogram are mean and spread; how many values are exactly zero, which the histogram leaves out; and
    how many units are dead, that is zero for every sample.

    Parameters
    ----------
    outputs : Network or dict of arrays
        A network, with X; or name → array, (samples, …), as network.activations(X) gives.
    X : array, optional
        The samples, for a network.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        They hold one inset per layer.

    Raises
    ------
    InputError
        If there is nothing to draw.

    Examples
    --------
    >>> X, y = nn.moons(60)
    >>> network = nn.Network([nn.Dense(8), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy())
    >>> run = network.fit(X, y, "adam", epochs=2)
    >>> len(kb.plot.activations(network, X).child_axes)
    3
    """
    found = outputs.activations(X) if hasattr(outputs, "activations") else outputs
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"outputs must be a network or a dict of arrays, got {type(outputs).__name__}")
    rows, notes = {}, {}
    for name, given in found.items():
        values = real_array(given, name)
        zero = values == 0
        units = zero.reshape(len(values), -1).all(axis=0) if values.ndim == 2 else _silent_channels(zero)
        lines = [said("activation_note", mean=number(float(values.mean()), 3), std=number(float(values.std()), 3))]
        if zero.any():
            note = "dead_note" if units.any() else "zero_note"
            lines.append(said(note, zero=zero.mean(), dead=units.sum(), count=units.size))
        rows[name], notes[name] = values[~zero].ravel(), "\n".join(lines)
    return _histograms(ax, rows, notes, said("activations"), shared=False)


def filters(W: Any, *, shape: tuple[int, int] | None = None, ax: Axes | None = None) -> Axes:
    """Filters: the weights of a first layer as images, one per unit; each is what that unit looks for.

    Blue is negative, red positive, white zero; each image is scaled by its own largest weight. Of more than 100 units
    the first 100 are drawn.

    Parameters
    ----------
    W : array
        Of a convolution, (out, in, height, width), with the mean over more than one input channel; or of a dense layer,
        (in, out), whose inputs are the pixels of images.
    shape : (height, width), optional
        Of these images, for a dense layer.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        They hold one inset per unit.

    Raises
    ------
    InputError
        If shape does not fit.

    Examples
    --------
    >>> ax = kb.plot.filters(np.eye(4), shape=(2, 2))
    """
    W = real_array(W, "W")
    if W.ndim == 4:
        images = W.mean(axis=1)
    elif W.ndim == 2 and shape is not None and len(shape) == 2 and shape[0] * shape[1] == W.shape[0]:
        images = W.T.reshape(-1, *shape)
    else:
        raise InputError(
            f"W must have shape (out, in, height, width), or (height·width, out) with shape=(height, width); "
            f"got {W.shape} with shape={shape}"
        )
    count = len(images)
    images = images[:TILES]
    height, width = images.shape[1:]
    square = int(np.ceil(np.sqrt(len(images))))
    columns = min(range(square, max(square + 1, 2 * square - 1)), key=lambda wide: -len(images) % wide)
    lines = -(-len(images) // columns)
    gap = max(1, min(height, width) // 6)
    mosaic = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        largest = float(np.abs(image).max()) or 1.0
        mosaic[top : top + height, left : left + width] = image / largest
    ax = axes_for(ax)
    ax.imshow(mosaic, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    what = "first_filters" if count > TILES else "filters"
    line = said(what, shown=TILES, count=count, height=height, width=width)
    finish(ax, line, said("filter_colors"))
    return ax


# -- all of it on one page --------------------------------------------------------------------------------------------


def training(
    network: Any,
    run: Run,
    X: Any,
    y: Any,
    *,
    classes: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Training: loss and accuracy by epoch, and beside them what the network makes of the data X, y.

    For two features the decision boundary, for more the confusion matrix, for numbers to be predicted the predictions
    against the truth.

    Parameters
    ----------
    network : Network
        The network.
    run : Run
        Its training.
    X, y : arrays
        The data to show it on.
    classes : list of str, optional
        Names; the numbers if left out.
    features : list of str, optional
        Names for the axes.
    figure : Figure, optional
        What to draw on; a new one by default.

    Returns
    -------
    Figure
        The page.

    Examples
    --------
    >>> X, y = nn.moons(60)
    >>> network = nn.Network([nn.Dense(8), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy())
    >>> run = network.fit(X, y, "adam", epochs=2)
    >>> figure = kb.plot.training(network, run, X, y, classes=["upper", "lower"])
    """
    if figure is None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(12, 6), layout="constrained")
    begun = _within_an_epoch(run)
    epochs: Any = run.history.epochs if begun else _epochs(run)
    grid = figure.add_gridspec(1, 2)
    left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    if epochs.accuracy is None or begun:
        training_curves(run, ax=left.subplots())
    else:
        top, bottom = left.subplots(2, 1, sharex=True)
        training_curves(run, ax=top)
        top.set_xlabel("")
        training_curves(run, curve="accuracy", ax=bottom)
    if epochs.accuracy is None:
        _predictions(y, network.predict(X), right.subplots())
        return figure
    ax = right.subplots()
    said = np.asarray(network.predict(X))
    if said.ndim > 1:  # several questions a sample: all the answers together
        confusion(np.ravel(y), said.ravel(), classes=classes, ax=ax)
    elif np.ndim(X) == 2 and np.shape(X)[1] == 2:
        decision(network, X, y, classes=classes, features=features, ax=ax)
    else:
        confusion(y, said, classes=classes, ax=ax)
    return figure


def _predictions(y: Any, predicted: Any, ax: Axes) -> None:
    """Draw what is predicted against what is true."""
    truth, guess = np.ravel(real_array(y, "y")), np.ravel(real_array(predicted, "predicted"))
    ends = [min(truth.min(), guess.min()), max(truth.max(), guess.max())]
    ax.plot(ends, ends, color=DARK, linewidth=1.2, label=said("right"))
    ax.scatter(truth, guess, s=26, color=CURVE, edgecolor=DARK, linewidth=0.6, label=said("samples"))
    ax.set_xlabel("y")
    ax.set_ylabel(said("predicted"))
    ax.grid(alpha=0.25)
    spread = float(np.var(truth))
    score = f", R² = {number(1 - float(np.mean((truth - guess) ** 2)) / spread)}" if spread else ""
    finish(ax, said("prediction", count=len(truth), score=score))


# -- reading what is given --------------------------------------------------------------------------------------------


def _epochs(run: Run) -> Epochs:
    if not isinstance(run, Run):
        raise InputError(f"run must be a Run, as network.fit returns it, got {type(run).__name__}")
    if run.history.epochs is None or not len(run.history.epochs.t):
        raise InputError("the run has no finished epoch: only a training on mini-batches has curves by epoch")
    return run.history.epochs


def _layer_norms(run: Run) -> tuple[tuple[str, ...], FloatArray]:
    epochs = _epochs(run)
    if epochs.layer_grad_norm is None:
        raise InputError(
            "the run has no gradient norms by layer: it is not that of a network, or it was trained with record='off'"
        )
    return epochs.layers, epochs.layer_grad_norm


def _positive(values: Any) -> Any:
    """Leave a gap where a gradient is zero, which no logarithmic scale can show."""
    return np.where(values > 0, values, np.nan)


def _by_depth(count: int) -> list[Any]:
    """Return colours in order, dark first; not the lightest, which would be lost on white."""
    return [colormaps[FIELD](0.9 * i / max(count - 1, 1)) for i in range(count)]


def _plane(given: Any) -> FloatArray:
    X = real_array(given, "X")
    if X.ndim != 2 or X.shape[1] != 2 or not len(X):
        raise InputError(f"the decision is drawn for two features, X of shape (n, 2); got {X.shape}")
    return X


def _labels(given: Any, name: str) -> npt.NDArray[np.int64]:
    labels = np.asarray(given)
    if labels.ndim == 2 and labels.shape[1] > 1:  # one-hot rows
        labels = labels.argmax(axis=1)
    whole = labels.ravel().astype(np.int64) if labels.dtype.kind in "iufb" else np.array([-1])
    if not whole.size or (whole < 0).any() or not np.array_equal(whole, labels.ravel()):
        raise InputError(f"{name} must hold labels 0, 1, 2, …, got {labels.dtype} of shape {labels.shape}")
    return whole


def _class_names(classes: Sequence[str] | None, count: int) -> list[str]:
    if classes is None:
        return [str(k) for k in range(count)]
    if len(classes) < count:
        raise InputError(f"classes has {len(classes)} names for {count} classes")
    return [str(name) for name in classes]


def _probabilities(of: Callable[[FloatArray], Any], X: FloatArray) -> FloatArray:
    """Return (n, classes); one column is the probability of class 1."""
    p: FloatArray = np.asarray(of(X), dtype=np.float64).reshape(len(X), -1)
    return np.concatenate([1 - p, p], axis=1) if p.shape[1] == 1 else p


def _weight_name(name: str, layers: tuple[str, ...]) -> str:
    """Return the layer's own name for a parameter called "0.W", if it is known."""
    place, _, kind = name.partition(".")
    if kind and place.isdigit() and int(place) < len(layers):
        return layers[int(place)] if kind == "W" else f"{layers[int(place)]} {kind}"
    return name


def _silent_channels(zero: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return, a channel of (samples, channels, …), whether all of it is zero."""
    return np.asarray(zero.all(axis=(0, *range(2, zero.ndim))))


def _histograms(
    ax: Axes | None, rows: Mapping[str, FloatArray], notes: Mapping[str, str], title: str, shared: bool
) -> Axes:
    """Draw one histogram per row, in insets one under the other; shared: on one scale.

    Names and notes are inside of ``ax``, which a subplot's neighbours leave alone; if the rows are narrow, text is
    smaller, a note takes one line, and the ends of a scale are written in it instead of ticks.
    """
    ax = axes_for(ax, (8.0, float(np.clip(0.62 * len(rows) + 1.0, 6, 20))))
    ax.set_axis_off()
    width, room = _points_of(ax)
    share = 1 / len(rows)
    row = 0.95 * room / len(rows)  # in points
    ticks = shared or row >= 30
    lines = 2 if row >= 2 * LINE * SMALL else 1
    size = float(np.clip(row / (LINE * lines) - 0.5, 5, 10))
    small = min(size, SMALL)
    if not ticks:
        notes = {
            name: f"{note}, {number(values.min(), 2)} … {number(values.max(), 2)}" if len(values) else note
            for (name, note), values in zip(notes.items(), rows.values(), strict=True)
        }
    if lines == 1:
        notes = {name: note.replace("\n", ", ") for name, note in notes.items()}
    font = FontProperties(size=size)
    left = max(text_width(name, font) for name in rows) + 6
    font.set_size(small)
    right = max(text_width(line, font) for note in notes.values() for line in note.split("\n")) + 8
    left, right = min(left, 0.35 * width) / width, min(right, 0.45 * width) / width
    everything = np.concatenate(list(rows.values()))
    for i, (name, values) in enumerate(rows.items()):
        tall = share * (0.62 if ticks and not shared else 0.86)
        inset = ax.inset_axes((left, 1 - i * share - (0.04 * share + tall), 1 - left - right, tall))
        scale = everything if shared else values
        if len(scale):
            low, high = float(scale.min()), float(scale.max())
            if low == high:
                low, high = low - 0.5, high + 0.5
            bins = int(np.clip(2 * np.sqrt(len(values)), 10, BINS))
            counts, edges = np.histogram(values, bins=bins, range=(low, high))
            inset.stairs(counts, edges, fill=True, color=CURVE)
            inset.stairs(counts, edges, color=DARK, linewidth=0.8)
            inset.set_xlim(low, high)
        inset.set_ylim(bottom=0)
        inset.set_yticks([])
        inset.xaxis.set_major_locator(MaxNLocator(max(2, int((1 - left - right) * width / 45))))
        inset.tick_params(axis="x", labelsize=min(8.0, size), length=2, pad=1)
        inset.spines[["top", "left", "right"]].set_visible(False)
        inset.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=size, parse_math=False)
        inset.text(
            1 + 6 / (width * (1 - left - right)), 0.5, notes[name], transform=inset.transAxes, va="center",
            fontsize=small, parse_math=False,
        )  # fmt: skip
        if not ticks or (shared and i < len(rows) - 1):
            inset.tick_params(labelbottom=False)
    finish(ax, title, legend=False)
    return ax
