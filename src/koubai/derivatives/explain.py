"""The explanation of a function: its trace, what that depends on, and the code that runs it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from koubai.derivatives.nonfinite import GRADIENT
from koubai.derivatives.paths import Path, Paths
from koubai.errors import GradientError, InputError, TraceError
from koubai.execute import library
from koubai.execute.arrays import compile_arrays
from koubai.execute.choose import RUNS, TOO_MANY, Program
from koubai.graph.call import Leaves
from koubai.graph.environment import Reads
from koubai.graph.graph import LEAVES, Graph, Node

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, repr=False)
class Explanation:
    """The trace of a function and its gradient at a point, and the code that runs them. Printing it gives all as text.

    Attributes
    ----------
    function : str
        The function's name.
    traced : bool
        Whether its gradient comes from backpropagation; otherwise adaptive differences take its place.
    reason : str
        Why it can't be traced, and what to do; empty if it was.
    kept : bool
        Whether the graph serves later calls; otherwise the function is traced again at each call.
    unwatched : str
        What keeps the graph from being kept; empty if it is.
    guards : tuple of str
        The tests of values (if, while, int()) that must come out the same for the graph to hold.
    kinks : tuple of str
        The kinks that the point is on: there the derivative jumps.
    globals, closures, arrays, things : dict
        What was read outside the function, by name; arrays: those in the other two, read again at every run; things:
        the containers and objects in them, compared at every call.
    executor : str
        What runs value and gradient: "floats", "numpy", "native" (machine code), or "python" if it was not traced.
    executor_reason : str
        Why this one. A long descent is compiled on its own: its run has an ``executor_reason`` too.
    left_to_numpy : tuple of str
        The operations that NumPy computes, with their shapes; none with "floats".
    graph : Graph or None
        The function as it was traced.
    source : str
        The Python code that computes value and gradient.
    kernels : tuple of str
        The LLVM IR texts of the machine code that ``source`` calls.
    notes : tuple of str
        Remarks on the gradient here: that it is not finite, say, or zero since f does not depend on x.
    """

    function: str
    traced: bool
    reason: str
    kept: bool
    unwatched: str
    guards: tuple[str, ...]
    kinks: tuple[str, ...]
    globals: dict[str, Any]
    closures: dict[str, Any]
    arrays: dict[str, np.ndarray[Any, Any]]
    things: dict[str, Any]
    executor: str
    executor_reason: str
    left_to_numpy: tuple[str, ...]
    graph: Graph | None
    source: str
    kernels: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        rows = [("traced", "yes" if self.traced else f"no: {self.reason}")]
        if self.traced:
            kept = "the graph serves later calls while all that it read is unchanged"
            rows += [
                ("kept", kept if self.kept else f"no, it is traced again at each call: {self.unwatched}"),
                ("guards", "\n".join(self.guards) or "none"),
                ("kinks", "\n".join(self.kinks)),
                ("globals", _listed(self.globals)),
                ("closures", _listed(self.closures)),
                ("arrays", _listed(self.arrays)),
                ("things", _listed(self.things)),
            ]
        rows += [
            ("executor", f"{self.executor}: {self.executor_reason}"),
            ("NumPy keeps", ", ".join(self.left_to_numpy) or ("nothing" if self.executor == "native" else "")),
            ("notes", "\n".join(self.notes)),
        ]
        lines = [f"{self.function}:"]
        for name, text in rows:
            if text:
                wrapped = [part for line in text.splitlines() for part in textwrap.wrap(line, 100)]
                lines += [f"  {name:>11}  {wrapped[0]}", *(f"{'':15}{line}" for line in wrapped[1:])]
        if self.source:
            lines += ["", "value and gradient:", "", textwrap.indent(self.source.rstrip(), "    ")]
        for number, kernel in enumerate(self.kernels):
            size = len(kernel.splitlines())
            lines += ["", f"kernel {number}: {size} lines of LLVM IR, in .kernels[{number}]"]
        return "\n".join(lines)


def explain(f: Callable[..., Any], x: Any, *args: Any) -> Explanation:
    """Explain: trace f at x, and say what was traced, guarded and read outside, and which code runs it, and why.

    f is called as f(x, *args), some times more than a gradient needs; what it changes outside, it changes.

    Parameters
    ----------
    f : callable
        Returns one real number.
    x : number, array, or a dict, list or tuple of arrays
        The point; f is differentiated with respect to it.
    *args
        What f takes after x.

    Returns
    -------
    Explanation
        Its attributes hold each answer; printing it gives a page to read.

    Raises
    ------
    InputError, FunctionError
        If x can't be used, or f does not return one real number. A function that can't be traced raises nothing:
        ``traced`` is False, and ``reason`` says why.

    Examples
    --------
    >>> import koubai as kb
    >>> explanation = kb.explain(lambda x: x**2 if x > 0 else -x, 3.0)
    >>> explanation.traced, explanation.executor
    (True, 'floats')
    >>> len(explanation.guards)  # x > 0
    1
    """
    if not callable(f):
        raise InputError(f"f must be a function, got {type(f).__name__}")
    notes: list[str] = []
    paths = Paths(f, GRADIENT, scalar=True)
    paths.tell = notes.append
    leaves = Leaves.of(f, (x, *args), {}, (0,))
    try:
        paths.run(leaves)
    except (TraceError, GradientError) as error:
        return Explanation(
            paths.name, False, str(error), False, "", (), (), {}, {}, {}, {}, "python",
            "f is called as it is, for adaptive differences of it", (), None, "", (), tuple(notes),
        )  # fmt: skip
    path = paths.newest(leaves.form)
    assert path is not None  # it ran
    return _explained(paths.name, path, tuple(notes))


def _explained(name: str, path: Path, notes: tuple[str, ...]) -> Explanation:
    environment, graph = path.recorded.environment, path.recorded.graph
    read: Reads = environment.reads()
    with library.texts() as kernels:
        program = Program(path.graph)  # made again, for the texts
    source, why, left = program.source, program.reason, program.left_to_numpy()
    if program.executor == "numpy":
        left = [node for node in path.graph.nodes if node.op not in LEAVES]
        if not source and len(path.graph.nodes) <= TOO_MANY:
            why += f"; its code is written after {RUNS} runs, until then NumPy goes from node to node"
            source = compile_arrays(path.graph).source  # type: ignore[attr-defined]
    names = graph.names()
    return Explanation(
        name,
        True,
        "",
        environment.complete,
        environment.unwatched or "",
        tuple(
            f"{names[guard.node]} is {guard.expected!r}" + (f", looked at on line {guard.line}" if guard.line else "")
            for guard in graph.guards
        ),
        tuple(f"{kink.op}" + (f" on line {kink.line}" if kink.line else "") for kink in graph.kinks),
        *read,
        program.executor,
        why,
        tuple(_operation(node) for node in left or ()),
        graph,
        source,
        tuple(kernels),
        notes,
    )


def _operation(node: Node) -> str:
    shape = "×".join(map(str, node.shape))
    return f"{node.op.name} {shape}".strip()


def _listed(read: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {_shown(value)}" for name, value in read.items())


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array of {value.dtype}, shape {value.shape}"
    if callable(value):
        return f"{type(value).__name__} {getattr(value, '__qualname__', '')}".strip()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
