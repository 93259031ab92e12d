"""What is asked of a library of gradients for each program of the corpus; whatever is wrong becomes a Finding."""

from __future__ import annotations

import contextlib
import gc
import io
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import koubai
from koubai.errors import CompileWarning, KoubaiError

from .programs import Instance, Program
from .truth import argument, bend, slope

# what a queue of C's or a generator on its way is handed, nothing can follow: a traced value is a number there
SINKS = re.compile(r"queue\.SimpleQueue|= writer(_\d+)?\(\)")  # compositions number their names
STEPS = 6  # of each descent
CHANGE_AT = 3  # the surroundings change after so many of them
LR = 0.03
FAR = 100.0  # beyond it a step of the differences is no longer one of x
STAIRS = 1e-3  # tolerance of the slope of fine stairs
BENT = 1e-3  # tolerance of second derivatives, whose truth is a difference of differences
DEAR = 160  # evaluations of f that a descent of STEPS steps, and the advice after it, may take by backpropagation


@dataclass(frozen=True)
class Finding:
    """wrong: a number that is not the derivative, or a success that is none. broken: an exception that f doesn't raise,
    a plain function that is no longer what it was, or a descent that is absurdly dear. refused: aloud, and right."""

    what: str
    check: str
    reason: str


@dataclass
class Outcome:
    """What became of one program: "wrong", "broken", "refused" or "right", the worst of what was found."""

    program: Program
    findings: list[Finding] = field(default_factory=list)
    compared: int = 0
    skipped: int = 0  # comparisons without a truth: the differences of the plain function didn't agree

    @property
    def what(self) -> str:
        found = {finding.what for finding in self.findings}
        return next((what for what in ("wrong", "broken", "refused") if what in found), "right")

    @property
    def reason(self) -> str:
        return next((f"{f.check}: {f.reason}" for f in self.findings if f.what == self.what), "")


@dataclass
class Heard:
    """The warnings that were given, of the library alone."""

    texts: list[str] = field(default_factory=list)


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """Record the library's warnings, and keep what f itself prints and warns of to itself."""
    heard = Heard()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            yield heard
        finally:
            for warning in caught:
                own = warning.category.__module__.partition(".")[0] == "koubai"
                if own and not issubclass(warning.category, CompileWarning):
                    heard.texts.append(str(warning.message))


@dataclass
class Answer:
    """What a call returned or raised, and what was said about it."""

    value: Any = None
    error: Exception | None = None
    warned: str = ""


def ask(call: Callable[[], Any]) -> Answer:
    with listening() as heard:
        try:
            answer = Answer(call())
        except Exception as error:
            answer = Answer(error=error)
    answer.warned = heard.texts[0] if heard.texts else ""
    return answer


def kind(error: Exception) -> str:
    """Return the name of the exception's class; each instance of a program has classes of its own."""
    return type(error).__name__


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


class Examination:
    """One program, examined. library: has grad, value_and_grad, iterate, minimize and SGD, as koubai has."""

    def __init__(self, program: Program, library: Any = koubai) -> None:
        self.program = program
        self.library = library
        self.outcome = Outcome(program)
        self.numeric = program.expect in ("right", "differences")
        self.aloud = program.expect in ("aloud", "constant")

    def found(self, what: str, check: str, reason: str) -> None:
        self.outcome.findings.append(Finding(what, check, reason))

    def run(self) -> Outcome:
        self.session(self.gradients)
        self.session(self.iterated)
        self.session(self.watched)
        self.session(self.minimized)
        self.session(self.own_loop)
        self.session(self.other_derivatives)
        return self.outcome

    def session(self, check: Callable[[Instance, Instance], None]) -> None:
        """Run a check on a fresh instance beside its twin, which the library never sees, and look at it afterwards."""
        with listening(), self.program.instance() as one, self.program.instance() as twin:
            answers = [ask(lambda point=point: twin(argument(point))) for point in self.program.points]
            self.raised = {kind(answer.error) for answer in answers if answer.error is not None}
            check(one, twin)
            self.unharmed(check.__name__, one, twin)

    # --- one answer
    def compare(self, check: str, answer: Answer, twin: Instance, point: Any, at: Callable[[Any], Any]) -> None:
        """Hold one answer against the plain twin. at: the gradient in the answer's value."""
        wanted = ask(lambda: twin(argument(point)))
        if answer.error is not None:
            if wanted.error is not None and kind(wanted.error) == kind(answer.error):
                return
            self.found("refused" if isinstance(answer.error, KoubaiError) else "broken", check, told(answer.error))
            return
        if answer.warned:
            self.found("refused", check, answer.warned.splitlines()[0][:200])
        if not self.numeric:
            return
        if wanted.error is not None:
            self.found("wrong", check, f"gave {answer.value!r} where f raises {told(wanted.error)}")
            return
        self.hold(check, at(answer.value), twin, point)

    def hold(self, check: str, gradient: Any, twin: Instance, point: Any) -> None:
        """Hold a gradient against differences of the twin."""
        with listening():
            truth, error = slope(twin, point)
        scale = 1 + np.max(np.abs(truth))
        tolerance = self.program.tolerance * scale
        if not error <= tolerance or np.max(np.abs(point)) > FAR:
            self.outcome.skipped += 1
            return
        self.outcome.compared += 1
        if np.shape(gradient) != np.shape(truth):
            self.found("wrong", check, f"gradient of shape {np.shape(gradient)} at x of shape {np.shape(truth)}")
        elif not np.all(np.abs(np.asarray(gradient) - truth) <= tolerance + 10 * error):
            self.found("wrong", check, f"{np.asarray(gradient).tolist()} for {truth.tolist()}")

    def hold_value(self, check: str, value: Any, twin: Instance, point: Any) -> None:
        wanted = ask(lambda: float(twin(argument(point))))
        if wanted.error is None and not abs(float(value) - wanted.value) <= 1e-9 * (1 + abs(wanted.value)):
            self.found("wrong", check, f"value {float(value)!r} for {wanted.value!r}")

    # --- checks
    def gradients(self, one: Instance, twin: Instance) -> None:
        """A gradient made once: fresh, at other points, and with its surroundings changed."""
        gradient = self.library.grad(one.f)
        both = self.library.value_and_grad(one.f)
        first, second, third = self.program.points

        def look(check: str, point: Any) -> Answer:
            x = argument(point)
            answer = ask(lambda: gradient(x, *one.extra))
            self.compare(check, answer, twin, point, lambda value: value)
            if np.ndim(point) and not np.array_equal(x, np.asarray(point, float)):
                self.found("wrong", check, "the caller's x was written into")
            return answer

        def look_both(check: str, point: Any) -> None:
            answer = ask(lambda: both(argument(point), *one.extra))
            self.compare(check, answer, twin, point, lambda value: value[1])
            if answer.error is None and self.numeric:
                self.hold_value(check, answer.value[0], twin, point)

        answer = look("fresh", first)
        if self.aloud and answer.error is None and not answer.warned and not self.follows(answer.value, twin):
            self.found("wrong", "fresh", f"gave {np.asarray(answer.value).tolist()} without a word")
        look_both("fresh", first)
        for point in (second, third, first):
            look("reused", point)
            look_both("reused", point)
        if one.change is not None:
            for side in (one, twin):
                side.change()
            for point in (first, second):
                look("changed", point)
                look_both("changed", point)

    def follows(self, gradient: Any, twin: Instance) -> bool:
        """Is this the slope of the twin where it has one but for its stairs, such as those of float32?"""
        if self.program.expect == "constant":
            return False
        with listening():
            truth, error = slope(twin, self.program.points[0])
        return bool(error <= STAIRS and np.allclose(gradient, truth, atol=10 * STAIRS, rtol=10 * STAIRS))

    def iterated(self, one: Instance, twin: Instance) -> None:
        """A descent step by step, whose surroundings change on the way."""
        if self.program.expect == "flat":
            return

        def descend() -> None:
            steps = self.library.iterate(
                one.loss, argument(self.program.points[0]), self.library.SGD(lr=LR), gtol=0, max_steps=STEPS
            )
            for step in steps:
                self.look_at_step("iterate", step, one, twin)

        self.descent("iterate", descend, twin)

    def watched(self, one: Instance, twin: Instance) -> None:
        """The same by minimize and on_step."""
        limits = {} if self.program.expect == "flat" else {"gtol": 0}

        def descend() -> Any:
            return self.library.minimize(
                one.loss,
                argument(self.program.points[0]),
                self.library.SGD(lr=LR),
                max_steps=STEPS,
                on_step=lambda step: self.look_at_step("on_step", step, one, twin),
                **limits,
            )

        self.descent("on_step", descend, twin)

    def look_at_step(self, check: str, step: Any, one: Instance, twin: Instance) -> None:
        if self.numeric:
            self.hold(f"{check} {step.t}", step.g, twin, step.x)
            self.hold_value(f"{check} {step.t}", step.f, twin, step.x)
        if step.t == CHANGE_AT and one.change is not None:
            one.change()
            twin.change()

    def descent(self, check: str, descend: Callable[[], Any], twin: Instance) -> Answer:
        """Run a descent and judge what it raised, said and claimed."""
        answer = ask(descend)
        if answer.error is not None:
            if kind(answer.error) not in self.raised and not self.is_its_own(answer.error, twin):
                what = "refused" if isinstance(answer.error, KoubaiError) else "broken"
                self.found(what, check, told(answer.error))
            return answer
        if answer.warned:
            self.found("refused", check, answer.warned.splitlines()[0][:200])
        run = answer.value
        if run is None:
            return answer
        if self.program.expect in ("aloud", "constant", "flat") and run.success and not answer.warned:
            self.found("wrong", check, f"claims success: {run.message}")
        if self.program.expect == "right" and self.program.steady and not answer.warned and run.nfev > DEAR:
            self.found("broken", check, f"{run.nfev} evaluations of f for {run.nit} steps")
        return answer

    @staticmethod
    def is_its_own(error: Exception, twin: Instance) -> bool:
        """Return whether the plain twin raises the same where the descent had come to when f raised."""
        frame = error.__traceback__
        while frame is not None:
            x = frame.tb_frame.f_locals.get("x")
            if frame.tb_frame.f_code.co_filename.startswith("<") and isinstance(x, np.ndarray | float):
                raised = ask(lambda x=x: twin(argument(x))).error
                return raised is not None and kind(raised) == kind(error)
            frame = frame.tb_next
        return False

    def minimized(self, one: Instance, twin: Instance) -> None:
        """Two descents that nobody looks at, with a change between, against a plain loop over differences."""
        if not self.numeric:
            return
        for check in ("minimize", "minimize again"):
            start = argument(self.program.points[0])
            answer = self.descent(
                check,
                lambda start=start: self.library.minimize(
                    one.loss, start, self.library.SGD(lr=LR), gtol=0, max_steps=STEPS
                ),
                twin,
            )
            if answer.error is not None:
                continue
            wanted, error = self.plain_descent(twin)
            if not error <= self.program.tolerance * (1 + np.max(np.abs(wanted))) or np.max(np.abs(wanted)) > FAR:
                self.outcome.skipped += 1
            else:
                self.outcome.compared += 1
                self.hold_point(check, answer.value.x, wanted, error)
                self.hold_value(check, answer.value.fun, twin, answer.value.x)
            if check == "minimize again" or one.change is None:
                return
            one.change()
            twin.change()

    def own_loop(self, one: Instance, twin: Instance) -> None:
        """The reader's own loop: update(params, grads) in place, whose surroundings change on the way."""
        if not self.numeric:
            return
        gradient = self.library.grad(one.f)
        optimizer = self.library.SGD(lr=LR)
        params = {"x": np.array(self.program.points[0], float)}
        for step in range(STEPS):
            x = params["x"] if params["x"].ndim else np.float64(params["x"])
            answer = ask(lambda x=x: gradient(x, *one.extra))
            self.compare(f"own loop {step}", answer, twin, np.array(x), lambda value: value)
            if answer.error is not None or np.shape(answer.value) != params["x"].shape:
                return
            if not np.all(np.isfinite(answer.value)):
                return
            optimizer.update(params, {"x": np.asarray(answer.value)})
            if step == CHANGE_AT and one.change is not None:
                one.change()
                twin.change()

    def other_derivatives(self, one: Instance, twin: Instance) -> None:
        """hessian, hvp and jacobian, before and after a change; they may refuse, if only aloud."""
        if not self.numeric or not hasattr(self.library, "hessian"):
            return
        hessian, product, jacobian = (
            derivative(one.loss) for derivative in (self.library.hessian, self.library.hvp, self.library.jacobian)
        )
        point = self.program.points[0]
        v = argument(np.linspace(1, 0.5, np.size(point)).reshape(np.shape(point)))
        for when in ("", "changed "):
            with listening():
                truth, error = bend(twin, point)
            if np.all(np.isfinite(truth)) and error <= 1e-2 * BENT * (1 + np.max(np.abs(truth))):
                along = np.tensordot(truth, v, np.ndim(v))
                for check, call, wanted in (
                    ("hessian", lambda: hessian(argument(point)), truth),
                    ("hvp", lambda: product(argument(point), v), along),
                ):
                    answer = ask(call)
                    self.outcome.compared += 1
                    if answer.error is not None and not isinstance(answer.error, KoubaiError):
                        self.found("broken", when + check, told(answer.error))
                    if answer.error is None and not np.allclose(answer.value, wanted, atol=BENT, rtol=BENT):
                        given = np.asarray(answer.value).tolist()
                        self.found("wrong", when + check, f"{given} for {np.asarray(wanted).tolist()}")
            answer = ask(lambda: jacobian(argument(point)))
            if answer.error is None:
                self.hold(when + "jacobian", answer.value, twin, point)
            if when or one.change is None:
                return
            one.change()
            twin.change()

    def plain_descent(self, twin: Instance) -> tuple[Any, float]:
        """Return where STEPS steps of plain gradient descent end, and how sure that is."""
        x, worst = np.array(self.program.points[0], float), 0.0
        with listening():
            for _ in range(STEPS):
                gradient, error = slope(twin, x)
                worst = max(worst, error)
                if not np.isfinite(worst):
                    break
                x = x - LR * gradient
        return x, worst

    def hold_point(self, check: str, x: Any, wanted: Any, error: float) -> None:
        if not np.all(np.abs(np.asarray(x) - wanted) <= self.program.tolerance * (1 + np.abs(wanted)) + 10 * error):
            self.found("wrong", check, f"ends at {np.asarray(x).tolist()} instead of {wanted.tolist()}")

    def unharmed(self, check: str, one: Instance, twin: Instance) -> None:
        """Called plainly, f does afterwards what its twin does, and nothing of the library's is left behind in it."""
        check = f"plain after {check}"
        leaked = "" if SINKS.search(self.program.text) else left_behind(one)
        if leaked and "import koubai" not in self.program.text:
            self.found("broken", check, f"a {leaked} is left behind")
        for point in self.program.points:
            given, wanted = plainly(one, point), plainly(twin, point)
            if type(given[0]).__name__ != type(wanted[0]).__name__:
                self.found("broken", check, f"f returns {given[0]!r}, its twin {wanted[0]!r}")
                return
            if isinstance(given[0], Exception) or self.program.expect == "aloud":
                continue
            if not abs(float(given[0]) - float(wanted[0])) <= 1e-9 * (1 + abs(float(wanted[0]))):
                self.found("broken", check, f"f returns {given[0]!r}, its twin {wanted[0]!r}")
            if given[1] != wanted[1]:
                self.found("broken", check, f"a call advances its numbers by {given[1]}, the twin's by {wanted[1]}")


def plainly(instance: Instance, point: Any) -> tuple[Any, Any]:
    """Return what a plain call returns or raises, and by how much it advances what the probe shows."""
    with listening():
        before = instance.probe() if instance.probe else 0
        try:
            value = instance(argument(point))
        except Exception as error:
            value = error
        after = instance.probe() if instance.probe else 0
    return value, np.subtract(after, before).tolist()


def is_namespace(names: dict[Any, Any]) -> bool:
    """Return whether these are the names of a module that is loaded."""
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    return isinstance(module, types.ModuleType) and vars(module) is names


def left_behind(instance: Instance) -> str:
    """Return the type of a thing of koubai's that the program's own objects still hold, or ""."""
    skipped = {id(instance.namespace.get("__builtins__"))}
    seen: set[int] = set()
    stack: list[Any] = [instance.f, instance.namespace]
    while stack and len(seen) < 20_000:
        item = stack.pop()
        if id(item) in seen or id(item) in skipped or isinstance(item, types.ModuleType | types.CodeType):
            continue
        if type(item) is dict and item is not instance.namespace and is_namespace(item):
            continue
        seen.add(id(item))
        if str(getattr(type(item), "__module__", "")).partition(".")[0] == "koubai":
            return type(item).__qualname__
        if type(item) is np.ndarray and item.dtype.kind == "O":
            stack.extend(item.flat)
        if isinstance(item, type) and getattr(item, "__module__", "") in sys.stdlib_module_names:
            continue
        stack.extend(gc.get_referents(item))
    return ""


def examine(program: Program, library: Any = koubai) -> Outcome:
    """Examine one program; what goes wrong in the examination itself is a finding, too."""
    examination = Examination(program, library)
    try:
        return examination.run()
    except Exception as error:
        examination.found("broken", "examination", told(error))
        return examination.outcome
