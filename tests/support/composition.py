"""Random compositions: two or three idioms in one program, side by side or one within the other."""

from __future__ import annotations

import ast
import itertools
import random

from .idioms import IDIOMS, Idiom
from .programs import Program
from .writing import FORMS, FORMULAS, SQUARE, fill, inside, names_of, points_of

SUMS = ("{p}(x) + {q}(x)", "{p}(x) + 0.5 * {q}(x) + {r}(x)")
OTHERS = (
    "{p}(x) + {q}(x) * np.tanh({r}(x))",
    "{p}(x) + np.tanh({q}(x))",
    "np.log(1 + {p}(x) ** 2) + {q}(x)",
    "{p}(x * (1 + 0.1 * np.tanh({q}(x)))) + {r}(x)",
    "{p}(np.tanh(x)) + {q}(0.5 * x)",
    "sum(part(x) for part in ({p}, {q}, {r}))",
    "max({p}(x), {q}(x)) + {r}(x)",
    "({p}(x) if {q}(x) > 1 else {r}(x)) + {q}(x)",
    "functools.reduce(lambda total, part: math.sin(total) + part(x), ({p}, {q}, {r}), 0.0)",
    "math.hypot({p}(x), {q}(x)) + {r}(x)",
    "{p}(x) / (1 + {q}(x) ** 2)",
)
RANKS = ("constant", "flat", "right", "differences", "aloud")  # what a sum of two such is, is the later


class _Renamed(ast.NodeTransformer):
    """The same text with other outer names."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_Global(self, node: ast.Global) -> ast.Global:
        return ast.Global([self.names.get(name, name) for name in node.names])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        return node


def renamed(text: str, suffix: str) -> str | None:
    """Return the text with a suffix to every outer name, or None where one of them means something else, too."""
    tree = ast.parse(text)
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    names = {name: name + suffix for name in names_of(text) if name not in imported}
    other: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.keyword):
            other.add(node.arg or "")
        elif isinstance(node, ast.Attribute):
            other.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            other.update(node.value.replace("'", " ").replace("(", " ").split())
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            other.add(node.name or "")
        elif isinstance(node, ast.ClassDef):
            other.update(part.name for part in node.body if isinstance(part, ast.FunctionDef))
    if other & set(names):
        return None
    return ast.unparse(_Renamed(names).visit(tree)) + "\n"


def compose(seed: int) -> Program:
    """Return a random program of two or three idioms."""
    rng = random.Random(seed)
    form = rng.choice((*FORMS, SQUARE))
    layout = rng.choice(("module", "module", "loose", "anonymous"))
    known = [
        idiom
        for idiom in IDIOMS.values()
        if form in idiom.forms
        and "extra =" not in idiom.text
        and "factory" in idiom.layouts
        and (layout != "loose" or "dataclass" not in idiom.text)
    ]
    chosen = [rng.choice(known) for _ in range(rng.choice((2, 2, 3)))]
    parts, changes, probes, closes = [], [], [], []
    for i, idiom in enumerate(chosen):
        text = part_text(idiom, form, i, rng)
        parts.append(text)
        defined = names_of(text)
        changes += [name for name in defined if name == f"change_{i}"]
        probes += [name for name in defined if name == f"probe_{i}"]
        closes += [name for name in defined if name == f"close_{i}"]
    expect = max((idiom.expect for idiom in chosen), key=RANKS.index)
    formula = rng.choice(SUMS if expect == "aloud" else SUMS + OTHERS)
    names = [f"f_{i}" for i in range(len(chosen))]
    p, q, r = (*names, *names)[:3] if len(names) < 3 else names
    if "{r}" not in formula and len(names) == 3:
        formula += " + f_2(x)"
    text = "\n".join(parts) + f"\ndef f(x):\n    return {formula.format(p=p, q=q, r=r)}\n"
    if changes:
        some = [name for name in changes if rng.random() < 0.7] or changes[:1]
        text += "\ndef change():\n" + "".join(f"    {name}()\n" for name in some)
    if probes:
        text += f"\ndef probe():\n    return [{', '.join(f'{name}()' for name in probes)}]\n"
    if closes:
        text += "\ndef close():\n" + "".join(f"    {name}()\n" for name in closes)
    tolerance = max(idiom.tolerance for idiom in chosen) * (10 if expect == "differences" else 1)
    name = f"composition {seed}: " + " + ".join(idiom.name for idiom in chosen)
    return Program(name, text, points_of(form, rng), expect, layout, tolerance, steady=False)


def part_text(idiom: Idiom, form: int, i: int, rng: random.Random) -> str:
    """Return one part: it binds f_i, and where the idiom has them change_i, probe_i and close_i."""
    combinations = list(itertools.product(*idiom.slots.values()))
    chosen = dict(zip(idiom.slots, rng.choice(combinations), strict=True))
    formula, state = rng.choice(FORMULAS), rng.getstate()
    if rng.random() < 0.5:
        rng.setstate(state)
        flat = renamed(fill(idiom, form, "module", rng, chosen, formula), f"_{i}")
        if flat is not None:
            return flat
    text = inside(fill(idiom, form, "factory", rng, chosen, formula), f"make_{i}")
    *body, last = text.rstrip("\n").split("\n")
    bound, made = last.split(" = ")
    return "\n".join([*body, ", ".join(f"{name}_{i}" for name in bound.rstrip(",").split(", ")) + f", = {made}"]) + "\n"
