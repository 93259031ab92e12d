"""One step of a descent, told line by line as its rule computes it.

The rule is run as it stands, on the numbers of the step, and what each of its lines gives is noted on the way. So what
is told is the library's own formula, with its own numbers, whichever branch a hyperparameter chooses.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import numpy as np

from koubai.descent.arguments import prepared
from koubai.descent.descent import Descent
from koubai.descent.loop import drive
from koubai.descent.optimizers import Optimizer
from koubai.errors import InputError, quiet
from koubai.functions.expression import syntax_tree

__all__ = ["narrated_step"]

MOST_TERMS = 60
OF_A_SEARCH = ("direction", "x")
WITH_TERMS = 100  # numbers of a term, up to which it is told


def narrated_step(f: Any, x0: Any, optimizer: Optimizer, t: int, bounds: Any = None) -> dict[str, Any]:
    """Return update t + 1 of a descent: where it starts, the terms of its rule in order, and where it leads.

    Raises InputError if the descent does not get that far.
    """
    descent = _at(f, x0, optimizer, t, bounds)
    point, layout, lr = descent.point, descent.layout, descent.lr
    if point.t < t:
        raise InputError(f"there is no step {t}: the descent ended after {point.t}, {descent.verdict.message}")  # type: ignore[union-attr]
    before, box = descent.state, descent.bounds

    def update() -> Any:
        return descent.optimizer.step(
            point.x, point.g, before, t + 1, lr, fun=point.fun, evaluate=lambda x: _evaluated(descent, t + 1, x),
            layout=layout, residuals=lambda x: descent.objective.residuals(point),
            box=None if box is None else (box.low, box.high),
        )  # fmt: skip

    with quiet():
        (x_next, after), terms = _noting(descent.optimizer.rule.formula, descent.optimizer.hyperparameters, update)
        if box is not None and not np.array_equal(inside := box.project(x_next), x_next):
            x_next = inside
            terms.append({"name": "x", "formula": "project(x, bounds)", "value": _number(inside)})
        end = descent.objective.visit(t + 1, x_next)
    x = np.ravel(point.x)
    names = descent.optimizer.state_names(layout)
    return {
        "t": t,
        "x": x,
        "f": point.fun,
        "g": np.ravel(point.g),
        "lr": lr,
        "x_next": np.ravel(x_next),
        "f_next": end.fun,
        "g_next": np.ravel(end.g),
        "step": np.ravel(x_next) - x,
        "before": _named(names, before),
        "after": _named(names, after),
        "terms": _prepared_gradient(descent.optimizer, point.x, point.g, layout) + _telling(descent.optimizer, terms),
    }


def _telling(optimizer: Optimizer, terms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the terms that tell something: of a search, whose lines are bookkeeping, where it looks and arrives."""
    return [term for term in terms if term["name"] in OF_A_SEARCH] if optimizer.rule.searches else terms


def _at(f: Any, x0: Any, optimizer: Optimizer, t: int, bounds: Any) -> Descent:
    """Return a descent that has made t updates."""
    stepper = prepared(
        f, x0, optimizer, lr=None, args=(), grad="auto", bounds=bounds, batches=None, seed=0, record="off",
        checkpoint=None, max_steps=t, gtol=0.0, ftol=None, xtol=None, target=None,
    )  # fmt: skip
    drive(stepper, None, False)
    return stepper.descent


def _evaluated(descent: Descent, t: int, x: Any) -> tuple[float, Any]:
    trial = descent.objective.visit(t, x if descent.bounds is None else descent.bounds.project(x))
    return trial.fun, trial.g


def _named(names: tuple[str, ...], state: tuple[Any, ...]) -> dict[str, Any]:
    return {name: _number(part) for name, part in zip(names, state, strict=True) if np.size(part) <= WITH_TERMS}


def _number(value: Any) -> Any:
    """Return a number, or a list of them."""
    array = np.asarray(value)
    return array.item() if not array.ndim else array.ravel().tolist()


def _prepared_gradient(optimizer: Optimizer, x: Any, g: Any, layout: Any) -> list[dict[str, Any]]:
    """Return what is done to the gradient before the rule sees it: clipping, and weight decay that is coupled."""
    hyper = optimizer.hyperparameters
    terms: list[dict[str, Any]] = []
    for name in ("clipvalue", "clipnorm"):
        if hyper.get(name) is not None and optimizer.clips(x, g, layout):
            terms.append({"name": "g", "formula": f"clipped by {name} = {hyper[name]:g}", "value": None})
    decay = hyper.get("weight_decay", 0.0)
    if decay and "weight_decay" not in optimizer.rule.defaults:
        if hyper.get("decoupled_weight_decay"):
            value = np.ravel(x * (1 - optimizer.lr_at(0) * decay)) if not callable(optimizer.lr) else None
            terms.append({"name": "x", "formula": "x * (1 - lr * weight_decay)", "value": value})
        else:
            terms.append({"name": "g", "formula": "g + weight_decay * x", "value": None if terms else g + decay * x})
    return terms


# -- running a rule with its lines watched ----------------------------------------------------------------------------


class _Plain(ast.NodeTransformer):
    """Writes a formula as in a book: _ratio(a, b) is a / b, np.sqrt(v) is sqrt(v), and of two branches that a
    hyperparameter chooses between, the one that it chooses.
    """

    def __init__(self, hyper: Mapping[str, Any]) -> None:
        self.hyper = dict(hyper)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "_ratio" and len(node.args) == 2:
            return ast.BinOp(node.args[0], ast.Div(), node.args[1])
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "np":
            return ast.Name(node.attr)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        names = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
        if names <= self.hyper.keys() and not any(isinstance(part, ast.Call) for part in ast.walk(node.test)):
            test = compile(ast.fix_missing_locations(ast.Expression(node.test)), "<rule>", "eval")
            chosen = node.body if eval(test, {"__builtins__": {}}, self.hyper) else node.orelse
            return self.visit(chosen)  # type: ignore[no-any-return]
        self.generic_visit(node)
        return node


@functools.cache
def _lines(formula: Callable[..., Any]) -> dict[int, list[tuple[str, str]]]:
    """Return for each first line of a statement what it gives: pairs of a name and its formula; "" is what returns."""
    lines, first = inspect.getsourcelines(formula)
    tree = syntax_tree(textwrap.dedent("".join(lines)))
    found: dict[int, list[tuple[str, str]]] = {}
    for node in ast.walk(tree):
        pairs: list[tuple[str, ast.expr]] = []
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                both = zip(target.elts, value.elts, strict=True)
                pairs = [(own.id, part) for own, part in both if isinstance(own, ast.Name)]
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Call):
                pairs = [(own.id, value) for own in target.elts if isinstance(own, ast.Name)]
            elif isinstance(target, ast.Name):
                pairs = [(target.id, value)]
        elif isinstance(node, ast.Return) and node.value is not None:
            pairs = [("", node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value)]
        told = [(name, ast.unparse(value)) for name, value in pairs if not isinstance(value, ast.Name)]
        if told:
            found[first + node.lineno - 1] = told  # type: ignore[attr-defined]
    return found


def _noting(
    formula: Callable[..., Any], hyper: Mapping[str, Any], update: Callable[[], Any]
) -> tuple[Any, list[dict[str, Any]]]:
    """Return what ``update`` gives, and the terms that the rule's formula computed in it, the last as x."""
    told, terms, code = _lines(formula), dict[tuple[int, str], dict[str, Any]](), formula.__code__
    line, before = 0, dict[str, Any]()

    def finish(local: dict[str, Any]) -> None:
        for name, text in told.get(line, ()):
            value: Any = local.get(name)
            if name and value is not before.get(name) and _is_numeric(value) and np.size(value) <= WITH_TERMS:
                terms[line, name] = {"name": name, "formula": text, "value": _number(value)}

    def watch(frame: FrameType, event: str, result: Any) -> Any:
        nonlocal line, before
        if frame.f_code is not code:
            return None
        if event == "call":
            line, before = 0, {}
            return watch
        local = dict(frame.f_locals)
        if event == "return" and result is not None:
            for name, text in told.get(line, ()):
                if not name and isinstance(result, tuple) and np.size(result[0]) <= WITH_TERMS:
                    terms[line, "x"] = {"name": "x", "formula": text, "value": _number(result[0])}
        if event in ("line", "return") and (event == "return" or frame.f_lineno != line):
            finish(local)
            if event == "line" and (frame.f_lineno in told or line not in told):
                line, before = frame.f_lineno, local
        return watch

    outside = sys.gettrace()
    sys.settrace(watch)
    try:
        result = update()
    finally:
        sys.settrace(outside)
    for term in terms.values():
        tree = _Plain(hyper).visit(syntax_tree(term["formula"], "eval"))
        term["formula"] = ast.unparse(ast.fix_missing_locations(tree))
    return result, list(terms.values())[:MOST_TERMS]


def _is_numeric(value: Any) -> bool:
    return isinstance(value, int | float | np.ndarray | np.generic) and not isinstance(value, bool)
