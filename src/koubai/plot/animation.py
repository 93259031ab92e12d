"""A descent as a moving picture: a .gif, or a page that can be stopped and stepped through."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from koubai.descent.files import replacing
from koubai.descent.record import Run, rows_of
from koubai.errors import InputError
from koubai.parameters import FloatArray, flatten
from koubai.plot.descent import path_1d, path_2d
from koubai.plot.style import DARK, PATH, halo, number
from koubai.plot.text import said, spoken

__all__ = ["PATH_ORDER", "animate", "moving_target", "picture_of", "write_moving"]

FRAMES = 100  # at most
PAUSE, LAST = 80, 2500  # milliseconds that a frame is shown, and the last one
PATH_ORDER = (3, 5)  # the zorder of a path and of its ends; except for the start, a frame draws them again


def animate(run: Run, path: str | os.PathLike[str], *, minima: Iterable[Any] = ()) -> Path:
    """Animate: write the descent as a moving picture, in which its path grows on the curve or over the contours.

    Up to 100 frames, spaced along the path and its steps, of the rows that the history keeps; each names its step. The
    last frame is the picture of `koubai.plot.run`. A page of HTML has buttons to stop and to step, and needs nothing
    but itself. Either is a few hundred kilobytes.

    Parameters
    ----------
    run : Run
        A descent of one or two parameters.
    path : str or path
        Of the file, a .gif or an .html.
    minima : iterable, default ()
        Known minima to mark: points, or objects with the point as ``.x``, such as those of a Problem.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    InputError
        For a run of more than two parameters or with mini-batches, for another kind of file, and if the folder does not
        exist.

    Examples
    --------
    >>> import os, tempfile
    >>> run = kb.minimize(lambda x: x**2, 1.0, lr=0.4, max_steps=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kb.plot.animate(run, os.path.join(folder, "path.gif")).name
    'path.gif'
    """
    if not isinstance(run, Run):
        raise InputError(f"run must be a Run, as koubai.minimize returns it, got {type(run).__name__}")
    layout, _ = flatten(run.x, "run.x")
    if layout.size > 2 or run.history.epochs is not None:
        what = f"{layout.size} parameters" if layout.size > 2 else "mini-batches"
        raise InputError(f"a path moves in pictures of 1 or 2 parameters; this run has {what}: draw run.plot()")
    target = moving_target(path)
    from PIL import Image

    figure = Figure(figsize=(7.2, 5.4), dpi=100, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib's has no types
    ax = (path_1d if layout.size == 1 else path_2d)(run, minima=minima, ax=figure.add_subplot())

    canvas.draw()
    palette = picture_of(canvas).quantize(256)
    last = picture_of(canvas).quantize(palette=palette, dither=Image.Dither.NONE)
    figure.set_layout_engine("none")  # from here on nothing moves but the path
    for artist in (*ax.collections, *ax.lines):
        if artist.get_zorder() in PATH_ORDER and not str(artist.get_label()).startswith(said("start")):
            artist.set_visible(False)
    ax.title.set_visible(False)
    canvas.draw()
    ground = canvas.copy_from_bbox(figure.bbox)
    ax.title.set_visible(True)
    points = _drawn(run, np.array([ax.get_xlim(), ax.get_ylim()]))
    (line,) = ax.plot([], [], color=PATH, linewidth=1.6, path_effects=halo(1.6, 0.6), zorder=3)
    (point,) = ax.plot([], [], "o", color=PATH, markersize=8, markeredgecolor=DARK, zorder=5)
    frames = []
    for row in _rows(points):
        canvas.restore_region(ground)
        line.set_data(*points[: row + 1].T)
        point.set_data(*points[row : row + 1].T)
        ax.set_title(said("frame", step=run.history.t[row], fun=number(run.history.fun[row])), fontsize="medium")
        for artist in (line, point, ax.title):
            ax.draw_artist(artist)
        frames.append(picture_of(canvas).quantize(palette=palette, dither=Image.Dither.NONE))
    return write_moving(target, [*frames, last], said("moving_path"))


def picture_of(canvas: Any) -> Any:
    """Return what is on a canvas as a picture of Pillow's, without transparency."""
    from PIL import Image

    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def moving_target(path: str | os.PathLike[str]) -> Path:
    """Return the path of a moving picture to be. Raises InputError if it is of another kind, or has no folder."""
    target = Path(path)
    if target.suffix.lower() not in (".gif", ".html"):
        raise InputError(f"path must end in .gif or .html, got {str(path)!r}")
    if not target.absolute().parent.is_dir():
        raise InputError(f"path: the folder {str(target.absolute().parent)!r} does not exist; make it first")
    return target


def write_moving(target: Path, frames: Sequence[Any], title: str) -> Path:
    """Write pictures of one palette one after the other, as a .gif or a page; the last one is shown for longer."""
    pauses = [PAUSE] * (len(frames) - 1) + [LAST]
    with replacing(target) as file:
        if target.suffix.lower() == ".gif":
            frames[0].save(file, "GIF", save_all=True, append_images=list(frames[1:]), duration=pauses, loop=0)
        else:
            file.write(_page(frames, pauses, title).encode())
    return target


def _page(frames: Sequence[Any], pauses: Sequence[int], title: str) -> str:
    """Return a page that shows each frame as what it changes of the last one."""
    from PIL import Image

    ground = frames[-1]
    under = np.asarray(ground)
    patches = []
    for frame in frames:
        pixels = np.array(frame)
        differs = pixels != under
        if not differs.any():
            patches.append([0, 0, ""])
            continue
        rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        patch = np.array(frame.convert("RGBA"))[part]
        patch[~differs[part]] = 0
        patches.append([int(columns[0]), int(rows[0]), _png(Image.fromarray(patch))])
    words = {name.upper(): html.escape(said(f"page_{name}")) for name in ("back", "play", "on", "place")}
    values = words | {
        "LANG": spoken(), "TITLE": html.escape(title), "WIDTH": ground.width, "HEIGHT": ground.height,
        "LAST": len(frames) - 1,
        "GROUND": _png(ground), "PATCHES": json.dumps(patches), "PAUSES": json.dumps(list(pauses)),
    }  # fmt: skip
    page = files("koubai.plot").joinpath("moving.html").read_text(encoding="utf-8")
    for name, value in values.items():
        page = page.replace(f"@{name}@", str(value))
    return page


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _drawn(run: Run, window: FloatArray) -> FloatArray:
    """Return the path as it is drawn, (rows, 2); what is far outside the window is brought nearer."""
    layout, _ = flatten(run.x)
    x = rows_of(run.history.x, layout).astype(np.float64)
    points = np.column_stack([x[:, 0], run.history.fun]) if layout.size == 1 else x
    reach = 1e6 * np.ptp(window, axis=1)
    return np.clip(points, window[:, 0] - reach, window[:, 1] + reach)


def _rows(points: FloatArray) -> list[int]:
    """Return the rows that get a frame: half of them count steps, half of them follow the path where it is long."""
    count = len(points)
    if count <= FRAMES:
        return list(range(count))
    scale = np.ptp(points, axis=0)
    length = np.linalg.norm(np.diff(points, axis=0) / np.where(scale > 0, scale, 1.0), axis=1)
    along = np.cumsum(length / (length.sum() or 1.0) + 1 / count)
    wanted = np.linspace(0, along[-1], FRAMES - 1)
    return [0, *(1 + np.unique(np.searchsorted(along, wanted).clip(0, count - 2))).tolist()]
