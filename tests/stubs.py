"""What type checkers are told of `import koubai as kb`: the lazy names, and each optimizer's own keywords.

Optimizers are made from their rules when koubai is imported, and some names are imported on first use: a checker, which
runs nothing, can't see either. This file, run by itself, writes ``src/koubai/__init__.pyi`` from what is there at run
time: ``python tests/stubs.py``. ``tests/test_types.py`` fails if that file is out of date.
"""

from __future__ import annotations

import ast
import inspect
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "src" / "koubai" / "__init__.pyi"


def _type(name, defaults, words):
    """Return the type of a hyperparameter with these defaults, one for each framework."""
    if name == "lr":
        return "Rate"
    if name == "groups":
        return "Mapping[str, Mapping[str, Any]] | None"
    if words:
        return f"Literal[{', '.join(map(repr, words))}]"
    kinds = {type(default) for default in defaults}
    if bool in kinds:
        return "bool"
    plain = "int" if kinds - {type(None)} == {int} else "float"
    return f"{plain} | None" if type(None) in kinds else plain


def _default(value):
    return "..." if isinstance(value, float) and not math.isfinite(value) else repr(value)


def optimizer(cls):
    """Return the class of one optimizer as a stub."""
    from koubai.descent.optimizers import SEMANTICS
    from koubai.descent.rules import CHOICES

    rule = cls.rule.name
    frameworks = list(SEMANTICS[rule])
    made = [cls(semantics=framework) for framework in frameworks]
    each = [{"lr": one.lr, **one.hyperparameters} for one in made]
    parameters = []
    for name, parameter in inspect.signature(cls).parameters.items():
        if name == "semantics":
            annotation = f"Literal[{', '.join(map(repr, frameworks))}] | None"
        else:
            annotation = _type(name, [own[name] for own in each], CHOICES.get(f"{rule}.{name}"))
        if name == "lr":
            annotation += " | None"
        # None, as of each framework's own default, which may be another one
        default = "None" if name in ("lr", "semantics") else _default(parameter.default)
        parameters.append(f"{name}: {annotation} = {default}")
    first, *rest = parameters
    lines = [f"class {cls.__name__}(Optimizer):", "    def __init__("]
    lines += [f"        {text}," for text in ("self", first, "*", *rest)]
    return "\n".join([*lines, "    ) -> None: ...", ""])


def text():
    import koubai

    tree = ast.parse((ROOT / "src" / "koubai" / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("koubai")
        for alias in node.names
    }
    classes = sorted(cls.__name__ for cls in koubai.optimizers.CLASSES.values())
    for name, module in koubai._ON_FIRST_USE.items():
        imported[name] = module.removesuffix(f".{name}") if inspect.ismodule(getattr(koubai, name)) else module
    by_module: dict[str, list[str]] = {}
    for name, module in imported.items():
        by_module.setdefault(module, []).append(name)
    by_module["koubai.descent.optimizers"] = ["Optimizer", "Rate"]
    lines = [
        '"""Written by `python tests/stubs.py` from what koubai has at run time; don\'t edit by hand."""',
        "",
        "from collections.abc import Mapping",
        "from typing import Any, Literal",
        "",
    ]
    lines += [f"from {module} import {', '.join(sorted(by_module[module]))}" for module in sorted(by_module)]
    lines += ["", "__version__: str", "__all__ = ["]
    lines += [f'    "{name}",' for name in sorted(koubai.__all__)]
    lines += ["]", "", *(optimizer(getattr(koubai, name)) for name in classes)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    STUB.write_text(text(), encoding="utf-8")
    print(f"wrote {STUB.relative_to(ROOT)}")
