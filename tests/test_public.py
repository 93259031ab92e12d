"""The public names: complete, documented, and cheap to import."""

import ast
import contextlib
import importlib
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import koubai

ROOT = Path(koubai.__file__).parent
MODULES = sorted(
    ".".join(("koubai", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_all_is_complete(module):
    """Every public definition of a module stands in its __all__. Decorated functions are the rows of a table."""
    loaded = importlib.import_module(module)
    tree = ast.parse(Path(loaded.__file__).read_text())
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if isinstance(node, ast.ClassDef) or not node.decorator_list
    }
    if module == "koubai.cli":
        assert "main" in defined  # the entry point; the rest are commands
        return
    listed = set(getattr(loaded, "__all__", ()))
    assert defined <= listed, f"not in __all__: {defined - listed}"
    assert [name for name in listed if not hasattr(loaded, name)] == []


def test_the_public_names_of_koubai():
    """What is imported into koubai without an underscore is public, and listed."""
    listed = set(koubai.__all__)
    tree = ast.parse(Path(koubai.__file__).read_text())
    imported = {a.asname or a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    classes = {cls.__name__ for cls in koubai.optimizers.CLASSES.values()}
    assert {name for name in imported if not name.startswith("_")} == listed - set(koubai._ON_FIRST_USE) - classes


@pytest.mark.parametrize("name", [n for n in koubai.__all__ if not inspect.ismodule(getattr(koubai, n))])
def test_public_names_are_documented(name):
    assert len(inspect.getdoc(getattr(koubai, name)) or "") > 20


def test_import_pulls_in_numpy_alone():
    code = (
        "import sys; import koubai; "
        "heavy = {'matplotlib', 'rich', 'typer', 'scipy', 'llvmlite', 'pandas', 'unittest', 'email'}; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fit_needs_no_network():
    code = (
        "import sys; import koubai as kb; import numpy as np; "
        "kb.fit(lambda w, x: np.mean((w - x) ** 2), 0.0, np.arange(8.0), epochs=1); "
        "print([m for m in sys.modules if m.startswith('koubai.nn')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
@pytest.mark.parametrize(
    ("module", "ours"),
    [("koubai", True), ("koubai.graph.tracer", True), ("<string>", True), ("numpy", False), (__name__, False)],
)
def test_a_deprecation_is_a_failure_where_koubais_code_meets_it(kind, module, ours):
    """By the filters in pyproject.toml: what a peer's next version deprecates fails no test on a stranger's machine."""
    with warnings.catch_warnings(record=True) as told, pytest.raises(kind) if ours else contextlib.nullcontext():
        warnings.warn_explicit("old", kind, "file.py", 1, module=module, registry={})
    assert len(told) == (not ours)


def test_every_other_warning_is_a_failure():
    with pytest.raises(RuntimeWarning, match="divide by zero"):
        np.ones(1) / 0


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        koubai.no_such_name  # noqa: B018
