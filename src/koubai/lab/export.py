"""What a room shows as a file: the numbers as CSV, the picture as PNG or SVG, a descent as a moving GIF."""

from __future__ import annotations

import csv
import io
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from koubai.descent.record import Run, rows_of
from koubai.descent.spec import read_function
from koubai.errors import InputError
from koubai.functions.expression import Expression
from koubai.lab.descents import (
    LIMITS,
    Point,
    check_map,
    made,
    read_plane,
    read_rule,
    read_rules,
    read_size,
    read_window,
)
from koubai.lab.fields import Fields
from koubai.lab.replay import own_state
from koubai.parameters import flatten

__all__ = [
    "ASKS",
    "export",
]

MEDIA = {"csv": "text/csv", "svg": "image/svg+xml", "png": "image/png", "gif": "image/gif"}
ROOMS = ("descent", "basins", "derivative", "network")
FRAMES, GRID = 40, 96  # of a training's GIF: pictures, and points along a side where the network is asked
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1A1A1A", "#F0E442")  # Okabe & Ito's
MOST_SECONDS = 8.0  # of a training that is saved
MOST_STEPS = 5_000
MOST_SIDE = LIMITS["side"]  # as large as the map that a page shows
_drawing = threading.Lock()  # Matplotlib keeps fonts and texts that two threads must not make at once


def export(arguments: Mapping[str, Any], cancelled: Callable[[], None]) -> dict[str, Any]:
    """Return a file: array bytes, and its name and media type.

    kind: csv, svg, png or gif. state: as in replay. slot: of a GIF, the optimizer that is shown.
    """
    fields = Fields(arguments)
    kind = fields.word("kind", MEDIA)
    room, state = own_state(arguments)
    if room not in ROOMS:
        raise InputError(f"there are files of the rooms {', '.join(ROOMS)}")
    makers = {"descent": _descents, "basins": _basins, "derivative": _derivatives, "network": _networks}
    data = makers[room](kind, state, fields.whole("slot", 0), cancelled)
    return {
        "arrays": {"bytes": np.frombuffer(data, np.uint8)},
        "name": f"koubai-{room}.{kind}",
        "media_type": MEDIA[kind],
    }


def _descents(kind: str, state: Mapping[str, Any], slot: int, cancelled: Callable[[], None]) -> bytes:
    fields = Fields(state)
    point = Point(fields)
    rules = read_rules(fields)
    options = {
        "max_steps": fields.whole("max_steps", 500, 0, MOST_STEPS),
        "gtol": fields.number("gtol", 0.0, low=0.0),
        "seed": fields.whole("seed", 0),
        "record": "all",
    }
    if not rules or slot >= len(rules):
        raise InputError("choose an optimizer first: there is no descent to save")
    if kind == "gif":
        rules = [rules[slot]]
    runs = []
    for rule in rules:
        cancelled()
        runs.append(made(point.f, point.x0, rule, cancelled, **options))
    if kind == "csv":
        return _table(point, runs)
    from koubai import plot

    with _drawing, warnings.catch_warnings(action="ignore"):
        if kind == "gif":
            return _written(".gif", lambda path: plot.animate(runs[0], path))
        minima = () if point.problem is None else point.problem.minima
        return _picture(
            kind, lambda ax: plot.paths(runs, ax=ax) if len(runs) > 1 else plot.run(runs[0], minima=minima, ax=ax)
        )


def _table(point: Point, runs: list[Run]) -> bytes:
    """Return the paths as CSV, in full precision."""
    names = point.f.variables if isinstance(point.f, Expression) else [f"x{i}" for i in range(point.ndim)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["optimizer", "t", *names, "f", "grad_norm", "lr"])
    for run in runs:
        layout, _ = flatten(run.x)
        for row, x in zip(run.history, rows_of(run.history.x, layout).tolist(), strict=True):
            numbers = (*x, float(row.fun), float(row.grad_norm), float(row.lr))
            rows.writerow([repr(run.optimizer), int(row.t), *map(repr, numbers)])
    return text.getvalue().encode()


def _basins(kind: str, state: Mapping[str, Any], slot: int, cancelled: Callable[[], None]) -> bytes:
    from koubai.search.basins import basins

    fields = Fields(state)
    f, window, rule = read_plane(fields), read_window(fields), read_rule(fields)
    size = read_size(fields, "resolution", (200, 200), MOST_SIDE)
    steps = fields.whole("steps", 200, 1, MOST_STEPS)
    check_map(fields, size[0] * size[1], steps)
    if kind == "gif":
        raise InputError("a map does not move: save it as PNG or SVG")
    with warnings.catch_warnings(action="ignore"):
        found = basins(f, window, optimizer=rule, resolution=size, steps=steps, progress=lambda *_: cancelled())
    if kind == "csv":
        x, y = (grid.ravel().tolist() for grid in np.meshgrid(*found.x))
        rows = zip(x, y, found.label.ravel().tolist(), found.steps.ravel().tolist(), strict=True)
        return "".join(["x,y,label,steps\n", *(f"{a!r},{b!r},{label},{made}\n" for a, b, label, made in rows)]).encode()
    with _drawing, warnings.catch_warnings(action="ignore"):
        return _picture(kind, lambda ax: found.plot(ax))


def _derivatives(kind: str, state: Mapping[str, Any], slot: int, cancelled: Callable[[], None]) -> bytes:
    from koubai.lab.derivatives import table_of_differences, walk

    fields = Fields(state)
    if kind == "csv":
        return table_of_differences(fields, cancelled).encode()
    from koubai import plot

    run = walk(fields)
    with _drawing, warnings.catch_warnings(action="ignore"):
        if kind == "gif":
            return _written(".gif", lambda path: plot.animate(run, path))
        f, x, h = read_function(fields.value("function")), fields.number("x"), fields.number("h", above=0.0)
        steps = [h] if x + h != x else []  # a step below the spacing of numbers gives no secant
        return _picture(
            kind,
            lambda ax: plot.tangent(f, x, h=steps, ax=ax),
            lambda ax: plot.difference_error(f, x, ax=ax),
        )


def _networks(kind: str, state: Mapping[str, Any], slot: int, cancelled: Callable[[], None]) -> bytes:
    from koubai.lab.networks import Live, read_state, table_of_epochs

    spec, epoch = read_state(state)
    live = Live.begin(spec)
    if kind == "gif":
        return _film(live, epoch, cancelled)
    live.advance(epoch, MOST_SECONDS, cancelled)
    if kind == "csv":
        return table_of_epochs(live).encode()
    from koubai import plot

    def decision(ax: Any) -> Any:
        proba = live.network.predict_proba if spec.loss != "mse" else shares
        data = spec.data
        return plot.decision(proba, data.X, data.y, classes=data.classes, features=data.axes, ax=ax)

    def shares(X: Any) -> Any:
        return np.clip(live.network.outputs(X), 0.0, 1.0)

    run = live.run
    curves = [] if run is None or not live.epoch else [lambda ax: plot.training_curves(run, ax=ax)]
    with _drawing, warnings.catch_warnings(action="ignore"):
        return _picture(kind, decision, *curves)


def _film(live: Any, epoch: int, cancelled: Callable[[], None]) -> bytes:
    """Return a GIF of the decision as it is learnt."""
    from PIL import Image, ImageDraw

    from koubai.lab.networks import FULL, decision

    data, side = live.spec.data, 4 * GRID
    colors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLORS], np.float64)[: len(data.classes)]
    images = []
    for number in sorted({round(epoch * i / FRAMES) for i in range(FRAMES + 1)}):
        live.advance(number, MOST_SECONDS, cancelled)
        found, ((left, right), (low, high)) = decision(live, GRID)
        share = (found / FULL) ** 2
        mixed = np.tensordot(share / np.maximum(share.sum(axis=0), 1e-6), colors, (0, 0))
        ground = 255 - 0.5 * (255 - mixed)
        image = Image.fromarray(ground[::-1].astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(image)
        for (x, y), label in zip(data.X.tolist(), data.y.tolist(), strict=True):
            px, py = side * (x - left) / (right - left), side * (high - y) / (high - low)
            pen.ellipse((px - 4, py - 4, px + 4, py + 4), fill=COLORS[label], outline="white")
        pen.text((8, 8), f"epoch {live.epoch}", fill="#1a1a1a")
        images.append(image.quantize(128))
        cancelled()
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=80, loop=0)
    return buffer.getvalue()


def _picture(kind: str, *draw: Callable[[Any], Any]) -> bytes:
    """Return a figure with one picture beside the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 * len(draw), 5.4), dpi=150, layout="constrained")
    for each, ax in zip(draw, np.ravel(figure.subplots(1, len(draw))), strict=True):
        each(ax)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def _written(suffix: str, write: Callable[[Path], Any]) -> bytes:
    """Return what ``write`` puts into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return path.read_bytes()


ASKS = {"export": export}
