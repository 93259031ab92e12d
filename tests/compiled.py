"""Which optimizers run in machine code, and why the others do not: docs/compiled.md, made from what happens.

Regenerate with ``python tests/compiled.py``.
"""

import contextlib
from pathlib import Path
from unittest import mock

import numpy as np

import koubai as kb
from koubai.descent import compiled_stepper, search_stepper
from koubai.descent.fused import Fused
from koubai.descent.many import minimize_many
from koubai.errors import TraceError
from koubai.execute import choose, replay
from koubai.execute.elements import NotLowerable
from koubai.parameters import flatten

PAGE = Path(__file__).parent.parent / "docs" / "compiled.md"
HEAD = """# What runs in machine code

<!-- Written by `python tests/compiled.py` from what happens; don't edit by hand. -->

Every update rule is one function of NumPy text (`koubai/descent/rules.py`). The same text is traced and compiled:

- *descent*: `minimize` runs value, gradient, update, history and the tests for stopping as one loop (the first 2000
  steps of a few numbers in Python, which costs no compiling); searches along a line and least squares have texts of
  their own (`koubai/descent/searches.py`), for up to 16,384 and 32 parameters, and go through the operations of f and
  of J as tables of NumPy's loops;
- *many*: the same loop for many starts side by side; where the step depends on the point and the state alone, a
  block of starts (32 or 16) that has come to rest, to the last bit, is not stepped further;
- *update*: `optimizer.update(params, grads)` is one pass over memory, for arrays of any size, after a look at all
  gradients, so that NaN changes nothing; `check_finite=False` leaves that look to the caller.

"""


def quadratic(x):
    return x[0] * x[0] + 2.0 * x[1] * x[1]


def descent(name: str) -> str:
    at_once = [
        (choose, "NATIVE_FROM"),
        (compiled_stepper, "NATIVE_FROM"),
        (search_stepper, "MACHINE_FROM"),
        (replay, "ASKED_FOR"),
    ]
    with contextlib.ExitStack() as stack:
        for module, name_of in at_once:
            stack.enter_context(mock.patch.object(module, name_of, 0))
        run = kb.minimize(quadratic, [1.0, 2.0], kb.optimizers.resolve(name), max_steps=2000, gtol=0.0)
    return "yes" if run.executor == "native" else run.executor_reason


def many(name: str) -> str:
    found = minimize_many(quadratic, np.ones((3, 2)), kb.optimizers.resolve(name), max_steps=5)
    return "yes" if found.executor == "native" else found.executor_reason


def update(name: str) -> str:
    optimizer = kb.optimizers.resolve(name)
    if "evaluate" in optimizer.rule.uses:
        return f"{type(optimizer).__name__} evaluates f itself"
    if optimizer.rule.scope == "tensor":
        return "looks at whole arrays: norms, means, or a matrix product"
    if optimizer.rule.scope == "vector":
        return "looks at all parameters at once"
    layout, x = flatten(np.ones(2))
    try:
        Fused(optimizer.step, optimizer.init, layout, optimizer.init(x, layout))
    except (TraceError, NotLowerable) as error:
        return str(error)
    return "yes"


def page() -> str:
    notes: dict[str, int] = {}

    def mark(reason: str) -> str:
        if reason == "yes":
            return "yes"
        reason = reason.replace(f"{shown} ", "it ")
        return f"no [{notes.setdefault(reason, len(notes) + 1)}]"

    rows = []
    for name in kb.optimizers.names():
        shown = type(kb.optimizers.resolve(name)).__name__
        rows.append(f"| {shown} | {mark(descent(name))} | {mark(many(name))} | {mark(update(name))} |")
    table = "\n".join(["| optimizer | descent | many | update |", "|---|---|---|---|", *rows])
    reasons = "\n".join(f"{k}. {reason}" for reason, k in notes.items())
    return f"{HEAD}{table}\n\n{reasons}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
