"""Progress bars on stderr: of a descent by its steps, of a training by its epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from koubai.descent.batch_iterator import BatchIterator
from koubai.descent.stopping import Point

__all__ = ["counting_bar", "epochs_bar", "steps_bar"]


@contextmanager
def counting_bar(total: int) -> Iterator[Callable[..., None]]:
    """Give a function of completed= and at=, a text, that shows them in a Rich progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield partial(bar.update, bar.add_task("", total=total, at=""))


@contextmanager
def steps_bar(max_steps: int) -> Iterator[Callable[[Point], None]]:
    """Give a function that reports a point to a Rich progress bar on stderr."""
    with counting_bar(max_steps) as show:

        def report(point: Point) -> None:
            if point.t % 16 == 0:
                show(completed=point.t, at=f"f {point.fun:.6g}  |g| {point.grad_norm:.3g}")

        yield report


@contextmanager
def epochs_bar(
    batches: BatchIterator, epochs: int, right: Callable[[], float] | None
) -> Iterator[Callable[[Point], None]]:
    """Give a function that reports points to a Rich progress bar on stderr: epoch, loss, accuracy, samples a second.

    right: gives how many samples of this epoch were classified rightly so far.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    began = time.monotonic()
    shown, seen, first = began, 0.0, -1
    columns = (BarColumn(), TextColumn("{task.fields[at]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=float(epochs), at="")
        length = 0  # batches in an epoch, known after the first

        def report(point: Point) -> None:
            nonlocal shown, seen, first, length
            first = point.t if first < 0 else first
            length = max(length, batches.index)
            now = time.monotonic()
            if now - shown < 0.1 and point.is_sample:
                return
            shown, sums = now, batches.sums
            if sums.weight:
                seen = sums.weight / max(batches.index, 1)
                at = f"epoch {batches.epoch + 1}/{epochs}  loss {sums.mean:.4g}"
                if right is not None:
                    at += f"  accuracy {right() / sums.weight:.2%}"
                at += f"  {seen * (point.t + 1 - first) / max(now - began, 1e-9):,.0f} samples/s"
                part = min(batches.index / length, 1.0) if batches.epoch else 0.0
                bar.update(task, completed=batches.epoch + part, at=at)

        yield report
