"""`kb.explain` tells what koubai made of a function, and logging what it decides on its own."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest

import koubai as kb
from koubai.errors import FallbackWarning, FunctionError, InputError
from koubai.execute import library

WEIGHTS = np.array([1.0, 2.0, 3.0])
SCALE = 2.0
SETTINGS = {"power": 2}


def reading_globals(x):
    return SCALE * np.sum(WEIGHTS * x ** SETTINGS["power"])


def guarded(x):
    return np.sum(x**2) if x[0] > 0 else np.sum(np.abs(x))


def hidden(x):
    return json.loads(json.dumps(float(x[0])))


def restless(x):
    return np.sum(x**2) + 0 * np.random.rand()  # noqa: NPY002 as people write it


def large(x):
    return np.sum(np.exp(x) * np.sin(x) + x**2)


class TestExplain:
    def test_a_traced_function(self):
        found = kb.explain(lambda x: x**3, 2.0)
        assert (found.traced, found.kept, found.executor) == (True, True, "floats")
        assert (found.reason, found.unwatched, found.guards, found.kernels, found.left_to_numpy) == ("", "", (), (), ())
        assert found.globals == found.closures == found.arrays == found.things == {}
        assert found.graph(2.0) == 8.0
        assert "def run(" in found.source
        assert "faster than NumPy" in found.executor_reason

    def test_a_guarded_one(self):
        found = kb.explain(guarded, [1.0, 2.0])
        assert len(found.guards) == 1
        assert "is True, looked at on line" in found.guards[0]
        assert found.guards[0] in repr(found)

    def test_a_kink(self):
        found = kb.explain(guarded, [0.0, 2.0])
        assert len(found.kinks) == 1
        assert "absolute on line" in found.kinks[0]

    def test_what_it_reads_outside(self):
        found = kb.explain(reading_globals, np.ones(3))
        assert found.globals == {"SCALE": 2.0, "WEIGHTS": WEIGHTS, "SETTINGS": SETTINGS}
        assert list(found.arrays) == ["WEIGHTS"]
        assert list(found.things) == ["SETTINGS"]
        text = repr(found)
        assert "WEIGHTS: array of float64, shape (3,)" in text
        assert "SETTINGS: {'power': 2}" in text

    def test_closures_and_functions(self):
        factor, offset = 3.0, np.ones(2)

        def inner(x):
            return factor * x

        found = kb.explain(lambda x: np.sum(inner(x) + offset), np.ones(2))
        assert found.closures == {"inner": inner, "offset": offset, "factor": 3.0}
        assert list(found.arrays) == ["offset"]

    def test_inner_gradients_are_read_too(self):
        found = kb.explain(lambda x: x * kb.grad(lambda y: SCALE * y**2)(3.0), 2.0)
        assert found.globals["SCALE"] == 2.0

    def test_a_fallback(self):
        found = kb.explain(hidden, [1.0])
        assert (found.traced, found.kept, found.executor, found.graph) == (False, False, "python", None)
        assert "test_explain.py" in found.reason
        assert "traced  no: " in repr(found)

    def test_what_is_traced_at_each_call(self):
        found = kb.explain(restless, np.ones(2))
        assert found.traced
        assert not found.kept
        assert "numpy.random" in found.unwatched
        assert "traced again at each call: it uses numpy.random" in repr(found)

    @pytest.mark.skipif(not library.available(), reason="needs llvmlite")
    def test_large_arrays_are_machine_codes(self):
        x = np.linspace(0, 1, 100_000)
        found = kb.explain(large, x)
        assert found.executor == "native"
        assert "compiling pays" in found.executor_reason
        assert len(found.kernels) == 1
        assert "define i1 @kernel" in found.kernels[0]
        assert "np.sin" in found.source
        assert found.left_to_numpy == ()
        assert "lines of LLVM IR" in repr(found)
        assert "NumPy keeps  nothing" in repr(found)

    @pytest.mark.skipif(not library.available(), reason="needs llvmlite")
    def test_what_is_left_to_numpy_beside_machine_code(self):
        x = np.linspace(0, 1, 100_000)
        found = kb.explain(lambda x: large(x) + np.sort(x[:10])[3], x)
        assert found.executor == "native"
        assert any(text.endswith(" 10") for text in found.left_to_numpy)

    def test_numpy_keeps_all_of_a_few_arrays(self):
        found = kb.explain(lambda x: np.sum(np.exp(x)), np.ones(100))
        assert found.executor == "numpy"
        assert "exp 100" in found.left_to_numpy
        assert "too few for machine code" in found.executor_reason
        assert "exp(" in found.source

    def test_notes(self):
        assert "sqrt" in kb.explain(lambda x: np.sqrt(x), 0.0).notes[0]

    def test_arguments_after_x(self):
        assert kb.explain(lambda x, a: a * x**2, 3.0, 2.0).graph(3.0) == 18.0

    def test_it_is_as_minimize_says(self):
        run = kb.minimize(guarded, [1.0, 2.0], lr=0.1, max_steps=3)
        assert kb.explain(guarded, [1.0, 2.0]).traced == (run.gradient_source == "backprop")

    def test_what_can_not_be_used_is_an_error(self):
        with pytest.raises(InputError, match="f must be a function"):
            kb.explain("x**2", 1.0)
        with pytest.raises(FunctionError):
            kb.explain(lambda x: x, np.ones(2))


def messages(caplog):
    found = [record.getMessage() for record in caplog.records if record.name == "koubai"]
    caplog.clear()
    return found


class TestLogging:
    @pytest.fixture(autouse=True)
    def level(self, caplog):
        caplog.set_level(logging.DEBUG, logger="koubai")

    def test_a_trace_and_its_executor(self, caplog):
        gradient = kb.grad(lambda x: np.sum(x**2))
        gradient(np.ones(3))
        traced, runs = messages(caplog)
        assert traced.startswith("<lambda> is traced: ")
        assert runs.startswith("a graph of ")
        assert "runs as floats: a few numbers" in runs
        gradient(np.zeros(3))
        assert messages(caplog) == []  # nothing is decided where everything is in place

    def test_a_refusal_and_the_fallback(self, caplog):
        with pytest.warns(FallbackWarning):
            kb.grad(hidden)(np.ones(1))
        refused, fallback = messages(caplog)
        assert refused.startswith("hidden is not traced: ")
        assert fallback.startswith("hidden: adaptive differences take the place of backpropagation: ")

    def test_what_is_traced_at_each_call(self, caplog):
        gradient = kb.grad(restless)
        gradient(np.ones(2))
        messages(caplog)
        gradient(np.zeros(2))
        (traced,) = messages(caplog)
        assert "again at each call: it uses numpy.random" in traced

    @pytest.mark.skipif(not library.available(), reason="needs llvmlite")
    def test_machine_code(self, caplog):
        x = np.linspace(0, 1, 60_000)
        kb.grad(lambda x: np.sum(np.cos(x) * np.exp(x) - x**3))(x)
        assert any(text.startswith("machine code ") and "compiled, kernel" in text for text in messages(caplog))
        kb.grad(lambda x: np.sum(np.cos(x) * np.exp(x) - x**3))(x)
        assert any("found in memory" in text for text in messages(caplog))
        library.clear()
        kb.grad(lambda x: np.sum(np.cos(x) * np.exp(x) - x**3))(x)
        assert any("found on disk" in text for text in messages(caplog))

    @pytest.mark.skipif(not library.available(), reason="needs llvmlite")
    def test_a_descent_in_machine_code_and_one_without(self, caplog):
        kb.minimize(lambda x: np.sum((x - 1) ** 2) / 7, np.zeros(3), lr=1e-3, gtol=0, max_steps=4000)
        assert any(text.startswith("a descent in machine code: ") for text in messages(caplog))

    def test_a_kept_graph_serves_again(self, caplog):
        def bowl(x):
            return np.sum(x**2)

        kb.minimize(bowl, [1.0, 2.0], lr=0.1, max_steps=3)
        messages(caplog)
        kb.minimize(bowl, [1.0, 2.0, 3.0], lr=0.1, max_steps=3)
        assert any("is traced" in text for text in messages(caplog))
        kb.minimize(bowl, [2.0, 1.0], lr=0.1, max_steps=3)
        assert [text for text in messages(caplog) if "graph" in text] == [
            "bowl: a graph of an earlier descent serves again"
        ]

    def test_no_handler_is_added(self):
        logger = logging.getLogger("koubai")
        assert logger.handlers == []
        assert logger.propagate


def test_nobody_who_does_not_log_imports_logging():
    code = "import sys, koubai as kb; kb.grad(lambda x: x**2)(3.0); print('logging' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
