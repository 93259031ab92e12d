"""The house: a room imports only from rooms above it, a file only from files above it, and there are no cycles."""

import ast
import functools
import re
from pathlib import Path

import koubai

ROOT = Path(koubai.__file__).parent

# Ground floor first, as in CONTRIBUTING.md. A file that is not named here has no place yet: give it one.
FLOORS = [
    "synonyms",
    "log",
    "folders",
    "errors",
    "messages",
    "messages.lines",
    "messages.command_line",
    "parameters",
    "functions",
    "functions.problems",
    "functions.expression",
    "graph",
    "graph.ops",
    "graph.user_code",
    "graph.infer",
    "graph.graph",
    "graph.simplify",
    "graph.traced",
    "graph.tracer",
    "graph.numpy.arguments",
    "graph.numpy.ufuncs",
    "graph.numpy.special",
    "graph.numpy.logic",
    "graph.numpy.shapes",
    "graph.numpy.indexing",
    "graph.numpy.sorting",
    "graph.numpy.joining",
    "graph.numpy.functional",
    "graph.numpy.creation",
    "graph.numpy.reductions",
    "graph.numpy.statistics",
    "graph.numpy.nanfunctions",
    "graph.numpy.products",
    "graph.numpy.sampled",
    "graph.numpy.linalg",
    "graph.numpy.fft",
    "graph.numpy.polynomials",
    "graph.numpy",
    "graph.twins",
    "graph.numpy.polynomial_bases",
    "graph.scipy",
    "graph.scipy.special",
    "graph.scipy.linalg",
    "graph.scipy.stats",
    "graph.scipy.integrate",
    "graph.scipy.spatial",
    "graph.scipy.signal",
    "graph.scipy.interpolate",
    "graph.activations",
    "graph.windows",
    "graph.standins",
    "graph.kinds",
    "graph.environment",
    "graph.namespaces",
    "graph.mirror",
    "graph.call",
    "graph.careful",
    "graph.repeats",
    "graph.reverse",
    "graph.forward",
    "graph.squares",
    "graph.formula",
    "execute",
    "execute.elements",
    "execute.lower",
    "execute.abi",
    "execute.memory",
    "execute.interpreter",
    "execute.floats",
    "execute.arrays",
    "execute.library",
    "execute.ir",
    "execute.vectormath",
    "execute.llvm",
    "execute.scalar_code",
    "execute.replay",
    "execute.native",
    "execute.pointwise",
    "execute.chain",
    "execute.regions",
    "execute.loops",
    "execute.batched",
    "execute.update",
    "execute.choose",
    "derivatives",
    "derivatives.differences",
    "derivatives.agreement",
    "derivatives.nonfinite",
    "derivatives.paths",
    "derivatives.gradient",
    "derivatives.residuals",
    "derivatives.check",
    "derivatives.curvature",
    "derivatives.explain",
    "descent",
    "descent.schedules",
    "descent.rules",
    "descent.hyperparameters",
    "descent.fused",
    "descent.optimizers",
    "descent.files",
    "descent.spec",
    "descent.record",
    "descent.stopping",
    "descent.checkpoint",
    "descent.batches",
    "descent.batch_iterator",
    "descent.progress_bar",
    "descent.objective",
    "descent.endings",
    "descent.default",
    "descent.descent",
    "descent.steppers",
    "descent.step_program",
    "descent.compiled_stepper",
    "descent.searches",
    "descent.search_stepper",
    "descent.saving",
    "descent.arguments",
    "descent.loop",
    "descent.batch_searches",
    "descent.stability",
    "descent.many",
    "descent.training_step",
    "descent.training",
    "descent.fit",
    "nn.data",
    "nn.datasets",
    "nn.initializers",
    "nn.settings",
    "nn.layer",
    "nn.layers",
    "nn.losses",
    "nn.sources",
    "nn.notation",
    "nn.files",
    "nn.model",
    "nn.network",
    "nn",
    "search.trial",
    "search.space",
    "search.journal",
    "search.study",
    "search.workers",
    "search.sweep",
    "search",
    "search.minima",
    "search.basins",
    "search.multistart",
    "search.learning_rate",
    "search.race",
    "diagnosis.theory",
    "diagnosis.case",
    "diagnosis.verdicts",
    "diagnosis.trainings",
    "diagnosis.diagnosis",
    "diagnosis",
    "plot",
    "lab.fields",
    "lab.messages",
    "lab.writing",
    "lab.narration",
    "lab.derivatives",
    "lab.networks",
    "lab.descents",
    "lab.replay",
    "lab.export",
    "lab.session",
    "lab.notebook",
    "lab.warming",
    "lab.server",
    "lab",
    "cli",
    "__init__",
]

# Convenience methods of a result, and lr="auto", which is find_lr: the only imports from below, made inside the method.
INSIDE_METHODS = {
    ("descent.default", "search.learning_rate"),
    ("descent.record", "diagnosis"),
    ("descent.record", "plot"),
    ("descent.schedules", "plot"),
    ("diagnosis.theory", "plot"),
    ("graph.graph", "graph.reverse"),
    ("search.basins", "plot"),
    ("search.learning_rate", "plot"),
    ("search.multistart", "plot"),
    ("search.race", "plot"),
    ("search.sweep", "plot"),
}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@functools.cache
def imports(path: Path) -> set[tuple[str, bool]]:
    """Return (module below koubai, whether the import stands inside a function) for every import that runs."""
    found = set()

    def visit(node: ast.AST, inside: bool) -> None:
        if is_type_checking(node):
            return
        if isinstance(node, ast.Import):
            found.update((a.name.removeprefix("koubai."), inside) for a in node.names if a.name.startswith("koubai."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it in full"
            if node.module == "koubai":
                found.update((a.name if a.name in MODULES else "__init__", inside) for a in node.names)
            elif (node.module or "").startswith("koubai."):
                module = node.module.removeprefix("koubai.")
                submodules = {f"{module}.{a.name}" for a in node.names} & set(MODULES)
                found.update((name, inside) for name in submodules or {module})
        for child in ast.iter_child_nodes(node):
            visit(child, inside or isinstance(node, ast.FunctionDef))

    visit(ast.parse(path.read_text()), False)
    return found


def floor(module: str) -> int:
    # Files of the plot and lab rooms stand in the order of their imports, which the cycle test guards.
    while module not in FLOORS and "." in module and module.split(".")[0] in ("plot",):
        module = module.rpartition(".")[0]
    assert module in FLOORS, f"{module} has no floor: add it to FLOORS where it belongs"
    return FLOORS.index(module)


def test_every_import_goes_up():
    wrong = []
    for module, path in MODULES.items():
        for imported, inside in imports(path):
            room_of_own_files = imported.split(".")[0] == module.split(".")[0] == "plot"
            if (module, imported) == ("cli", "__init__"):
                continue  # the command line prints the version
            if floor(imported) < floor(module) or room_of_own_files:
                continue
            if inside and {(module, imported), (module, imported.split(".")[0])} & INSIDE_METHODS:
                continue
            wrong.append(f"{module} imports {imported}, which stands below it")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles():
    graph = {module: {i for i, inside in imports(path) if not inside} for module, path in MODULES.items()}
    graph["__init__"] = graph["__init__"] - {"__init__"}
    graph["cli"] = graph["cli"] - {"__init__"}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail, module))}"
        if module in done:
            return
        for imported in graph.get(module, ()):
            visit(imported, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_the_floors_name_only_what_exists_in_order():
    assert [name for name in FLOORS if name not in MODULES] == []


def test_no_name_with_an_underscore_is_imported():
    """What another file needs has a name without one, and a docstring."""
    tests = Path(__file__).parent
    files = [file for folder in (ROOT, tests, tests.parent / "benchmarks") for file in folder.rglob("*.py")]
    assert len(files) > 150
    found = [
        f"{file.name}:{node.lineno}: {alias.name}"
        for file in files
        if re.search(r"import \(?\s*_|,\s*_", text := file.read_text("utf-8"))  # most say so without being parsed
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name.startswith("_") and alias.name != "__version__"
    ]
    assert not found
