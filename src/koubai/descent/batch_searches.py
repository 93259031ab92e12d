"""L-BFGS from many starts: the text of `koubai.descent.searches` as machine code, each thread with memory of its own.

It asks machine code of f for values and gradients (`koubai.execute.pointwise`, or a table of NumPy's loops for larger
graphs). Where f takes another path than the traced one, or the gradient is not finite, it asks Python, for this point
alone, and where that path can't be traced, differences; a point at which f raises counts as not finite, and is noted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from koubai.derivatives.gradient import Differentiated
from koubai.derivatives.paths import Path
from koubai.descent import searches
from koubai.descent.objective import Bounds
from koubai.descent.optimizers import LBFGS, Optimizer
from koubai.descent.search_stepper import LARGEST, Kind
from koubai.errors import CompileError, FunctionError, GradientError, KoubaiError, TraceError, quiet
from koubai.execute import scalar_code
from koubai.execute.abi import address
from koubai.execute.batched import NONFINITE
from koubai.execute.elements import NotLowerable
from koubai.execute.pointwise import Pointwise
from koubai.execute.replay import Replay
from koubai.execute.scalar_code import ANSWER, AT, CALLED, Block
from koubai.parameters import FloatArray, Layout

__all__ = ["Searches"]


class Searches:
    """The code for L-BFGS on one function from many starts.

    raised: what f raised, in turn; raised_at: the same by the bytes of x. Raises NotLowerable where there is none.
    """

    def __init__(
        self, program: Differentiated, path: Path, optimizer: Optimizer, layout: Layout, bounds: Bounds | None
    ) -> None:
        kind = Kind.of(optimizer)
        if not (type(optimizer) is LBFGS and kind.suits and isinstance(optimizer.lr, float)):
            raise NotLowerable("a search with settings that only Python knows")
        if layout.dtype != np.float64 or layout.size > LARGEST:
            raise NotLowerable(f"{layout.size} parameters of {layout.dtype}")
        self.program, self.path, self.optimizer, self.kind = program, path, optimizer, kind
        self.layout, self.bounds, self.lock = layout, bounds, threading.Lock()
        self.raised: list[str] = []
        self.raised_at: dict[bytes, str] = {}
        self.by_differences: Differentiated | None = None  # once f has taken a path that can't be traced
        text: Any = searches.lbfgs_many if bounds is None else searches.lbfgs_many_within
        self.names = text.__code__.co_varnames[: text.__code__.co_argcount]
        self.code: Pointwise | None = None
        try:
            self.code = Pointwise(path.graph)
        except NotLowerable:
            Replay(path.graph, path.program.executor == "floats")  # or it is refused, too
        try:
            self.machine = scalar_code.compiled(text)
        except CompileError as error:
            raise NotLowerable(str(error)) from error

    def worker(
        self, starts: FloatArray, results: Any, gtol: float | None, max_steps: int
    ) -> Callable[[int, int], None]:
        """Return what descends from the starts first … last - 1, for one thread.

        results: the arrays x, f, norm, steps, codes and evaluations, 64 bits each.
        """
        kind, n = self.kind, self.layout.size
        arrays = self._memory(n, kind)
        numbers, counts, task = arrays["numbers"], arrays["counts"], arrays["task"]
        counts[searches.N], counts[searches.ROOM], counts[searches.VARIANT] = n, kind.history_size + 1, kind.variant
        numbers[searches.C1 : searches.C1 + 2] = kind.own[:2]
        arrays["rates"][0] = self.optimizer.lr
        arrays["gtol"][0] = 1e-6 if gtol is None else gtol or -1.0
        arrays |= dict(zip(("x", "fun", "norm", "steps", "codes", "tried"), results, strict=True))
        arrays["starts"] = starts
        task[searches.MOST_STEPS] = max_steps
        task[searches.IS_SHARE] = gtol is None
        block = Block([arrays[name] for name in self.names])
        held: Any = self.code
        if held is None:
            held = Replay(self.path.graph, self.path.program.executor == "floats")
        block.places[CALLED[0]], block.places[CALLED[0] + 1] = held.address, held.place
        xs, gs, base, call = arrays["xs"], arrays["gs"], address(arrays["xs"]), self.machine.call

        def run(first: int, last: int, kept: Any = (self, held, arrays, block)) -> None:
            task[searches.FIRST], task[searches.LAST] = first, last
            block.frame[0] = 0
            while call(block.address) < 0:
                place = (int(block.frame[AT]) - base) // (8 * n)
                block.numbers[ANSWER] = self._evaluate(xs[place], gs[place])

        return run

    def raised_from(self, starts: FloatArray, codes: Any, steps: Any) -> dict[int, str]:
        """Return what f raised at these starts, by row."""
        refused = np.flatnonzero((codes == NONFINITE) & (steps == 0)) if self.raised_at else ()
        told = {int(row): self.raised_at.get(starts[row].tobytes()) for row in refused}
        return {row: text for row, text in told.items() if text is not None}

    def raised_on_the_way(self, at_starts: Mapping[int, str], before: int = 0) -> str | None:
        """Return the first text, of those after the first ``before``, that f raised at none of the starts."""
        known = set(at_starts.values())
        return next((text for text in self.raised[before:] if text not in known), None)

    def _memory(self, n: int, kind: Kind) -> dict[str, Any]:
        room = kind.history_size + 1
        scratch = max(n, room)
        vectors = dict.fromkeys(("x_last", "g_last", "step", "free", "row_x"), n)
        vectors |= dict.fromkeys(("direction", "column", "parts", "q"), scratch)
        vectors |= dict.fromkeys(("along", "along_next"), room - 1)
        vectors |= {"best": 2 * n, "numbers": searches.NUMBERS, "ends": 2, "ends_next": 2}
        vectors |= dict.fromkeys(("rates", "row_fun", "row_norm", "gtol"), 1)
        arrays: dict[str, Any] = {name: np.zeros(size) for name, size in vectors.items()}
        arrays |= {"xs": np.zeros((4, n)), "gs": np.zeros((4, n)), "trials": np.zeros((4, 3))}
        arrays |= {"before": np.zeros((2, n)), "s": np.zeros((room, n)), "y": np.zeros((room, n))}
        arrays |= {name: np.zeros((room - 1, room - 1)) for name in ("inverse", "inverse_next")}
        arrays |= {"counts": np.zeros(searches.COUNTS, np.int64), "task": np.zeros(searches.TASK, np.int64)}
        if self.bounds is not None:
            arrays |= {"low": self.bounds.low, "high": self.bounds.high}
        return arrays

    def _evaluate(self, x: FloatArray, g: FloatArray) -> float:
        """Evaluate f as Python does; one thread at a time, as f may keep things of its own."""
        with self.lock, quiet():
            try:
                fun, gradient = self._derived(x)
            except (FunctionError, GradientError) as error:
                return self._note(x, str(error))
            except KoubaiError:
                raise
            except Exception as error:  # f's own: it counts as not finite here, and is no end of the others
                return self._note(x, f"{type(error).__name__}: {error}")
        g[:] = np.ravel(gradient)
        return float(fun)

    def _derived(self, x: FloatArray) -> Any:
        try:
            return self.program(self.layout.copy(x.copy()))
        except (TraceError, GradientError):
            if self.by_differences is None:
                self.by_differences = Differentiated(self.program.f, 0, "adaptive")
            return self.by_differences(self.layout.copy(x.copy()))

    def _note(self, x: FloatArray, text: str) -> float:
        self.raised.append(text)
        self.raised_at[x.tobytes()] = text
        return float("nan")
