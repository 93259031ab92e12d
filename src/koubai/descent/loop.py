"""The ways to start a descent, minimize, iterate and resume, and the one loop behind them."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, Never

from koubai.descent.arguments import prepared
from koubai.descent.default import AUTO
from koubai.descent.descent import Descent, RuleStepper, Stepper
from koubai.descent.objective import Function, Gradient, NoResidualsError
from koubai.descent.optimizers import LBFGS, Optimizer, Rate
from koubai.descent.record import Call, Run, Status, Step
from koubai.descent.saving import restored, save
from koubai.descent.spec import read
from koubai.descent.steppers import PythonStepper
from koubai.descent.stopping import Point, Verdict
from koubai.errors import InputError, Interrupted, UnknownNameError, quiet
from koubai.messages import worded
from koubai.parameters import Parameters

if TYPE_CHECKING:
    from koubai.descent.compiled_stepper import CompiledStepper
    from koubai.descent.search_stepper import SearchStepper

__all__ = ["DEFAULTS", "drive", "iterate", "minimize", "points", "resume"]


def minimize(
    f: Function | Mapping[str, Any],
    x0: Parameters = None,
    optimizer: Optimizer | str = AUTO,
    *,
    lr: Rate | None = None,
    args: Any = (),
    grad: Gradient = "auto",
    max_steps: int = 10_000,
    gtol: float | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    target: float | None = None,
    bounds: Any = None,
    batches: Any = None,
    seed: int | None = 0,
    on_step: Callable[[Step], Any] | None = None,
    record: Literal["auto", "all", "off"] = "auto",
    progress: bool = False,
    checkpoint: Any = None,
    **unknown: Never,
) -> Run:
    """Minimize: descend from x0 along the gradient of f, and say why it stopped.

        x = x - lr * g,   g = ∇f(x)        (with lr alone; optimizers: their own rule)

    Stops when the largest |gradient component| ≤ gtol; f ≤ target; ftol or xtol hold (see `koubai.descent.stopping`); f
    or x diverges; f or the gradient is not finite; x no longer changes; the gradient is lost in its own rounding error;
    or max_steps updates were made. Only a met tolerance or target is a success. What was traced and compiled of a small
    f serves later calls with the same f, as long as nothing that it reads has changed: they are faster for it, and the
    same to the bit.

    Parameters
    ----------
    f : callable, or a specification
        Maps x, in the form of x0, to one number. Or a mapping such as ``run.spec``, which says all that a descent
        needs: then nothing else is given but on_step, record, progress and checkpoint.
    x0 : number, array, or a dict, list or tuple of arrays, also nested
        The start. Integers become float64, and nothing that is passed in is changed. Left out for a specification.
    optimizer : Optimizer or str, default "auto"
        An object, its name, or "auto": Levenberg–Marquardt if f's own graph is a sum of squares of up to 100
        parameters, with mini-batches Adam, else L-BFGS. The fixed rule is in `koubai.descent.default`, and
        run.optimizer_reason says why it was.
    lr : float, "auto", schedule or callable of the step, optional
        Alone, plain gradient descent at this rate; with a name, that optimizer's rate. "auto": `koubai.find_lr` finds
        it first.
    args : tuple, default ()
        What f, and a grad of your own, take after x, as in SciPy: f(x, *args). Anything but a tuple is one argument.
    grad : str, callable or True, default "auto"
        "auto" backpropagates, and if f can't be traced takes adaptive differences after one FallbackWarning; "backprop"
        raises TraceError instead; "forward", "backward", "central", "complex" and "adaptive" are differences; or your
        own function of x, which may return an array in the form of x or an Estimate; or True: f returns the pair
        (value, gradient), and is called once per point.
    max_steps : int, default 10_000
        The most updates that are made.
    gtol : float, optional
        Absolute; 0 turns it off. None is 1e-6, but for least squares until a step promises no more than the rounding of
        f.
    ftol : float, optional
        Stop when the change of f and the decrease still to be expected are both ≤ ftol * max(1, |f|).
    xtol : float, optional
        Stop when the step and the distance still to be expected are both ≤ xtol * max(1, largest |x|).
    target : float, optional
        Stop when f is this low.
    bounds : pair, list of pairs or `scipy.optimize.Bounds`, optional
        One (low, high) pair for all elements, one per element, or for a dict a dict of these; None in a pair is no
        bound, and equal ones hold an element in place. x is projected onto them; line searches, L-BFGS and conjugate
        gradients go along them. f, differences of it and the check of its gradient included, is never called outside.
    batches : Batches, list or callable, optional
        Mini-batches for stochastic descent: koubai.nn.batches(X, y, size, seed), a list of batches, or a function of
        the epoch (0, 1, …) that gives them. f and grad are then called as f(x, *batch, *args) and return a mean over
        it; every update takes the next batch, an epoch takes each once. ``history.epochs`` sums up the epochs; target
        and gtol are asked at an epoch's end, and success needs them to hold over all the data at x. run.fun, run.jac
        and best_fun are over all the data; best_x is the best of the start, the end, and the end of the epoch with the
        least mean loss.
    seed : int or None, default 0
        Kept with the run.
    on_step : callable, optional
        Called with each Step; returning True stops the run.
    record : {"auto", "all", "off"}, default "auto"
        "auto" thins long histories, "all" keeps every step, "off" the first and the last.
    progress : bool, default False
        A progress bar on stderr.
    checkpoint : path or (path, every), optional
        A file for `resume`, replaced whole every 10 seconds and at the end; every: so many steps (an int) or seconds (a
        float) instead.

    Returns
    -------
    Run
        Where it ended, why, and the path.

    Raises
    ------
    InputError
        For an argument that can't be used.
    FunctionError
        If f gives no finite number at x0.
    Interrupted
        On Ctrl-C: a KeyboardInterrupt that carries the run so far.

    An exception raised by f or grad passes through, with the step and x as a note.

    Examples
    --------
    >>> run = kb.minimize(lambda x: np.sum((x - 3) ** 2), [0.0, 0.0], "adam", lr=0.5)
    >>> run.status, run.x.round(3)
    (<Status.converged: 'the stopping tolerance was met'>, array([3., 3.]))
    >>> print(kb.minimize(lambda x, a: (x - a) ** 2, 0.0, args=(2.0,), bounds=(0, 1)).x)
    1.0
    """
    if unknown:
        raise UnknownNameError.of_argument(minimize, unknown)
    options = {
        "lr": lr, "args": args, "grad": grad, "max_steps": max_steps, "gtol": gtol, "ftol": ftol, "xtol": xtol,
        "target": target, "bounds": bounds, "batches": batches, "seed": seed, "record": record,
        "checkpoint": checkpoint,
    }  # fmt: skip
    if type(f) is not FunctionType and isinstance(f, Mapping):
        f, x0, optimizer, options = _specified(f, x0, optimizer, options)
    elif x0 is None:
        raise InputError("give the start: x0, in the form that f takes")
    return drive(_begun(f, x0, optimizer, options), on_step, progress)


def _specified(
    spec: Mapping[str, Any], x0: Parameters, optimizer: Optimizer | str, options: dict[str, Any]
) -> tuple[Function, Parameters, Optimizer | str, dict[str, Any]]:
    """Return the arguments of the descent that a specification describes. Raises InputError for others beside it."""
    given = ["x0"] * (x0 is not None) + ["optimizer"] * (optimizer is not AUTO)
    given += [n for n in options if n not in ("record", "checkpoint") and options[n] is not DEFAULTS[n]]
    if given:
        raise InputError(f"{given[0]} is given beside a specification, which says it itself: change it there")
    described = read(spec)
    own = {name: options[name] for name in ("record", "checkpoint") if options[name] is not DEFAULTS[name]}
    return described.f, described.x0, described.optimizer, DEFAULTS | described.options | own


def _begun(f: Function, x0: Parameters, optimizer: Optimizer | str, options: dict[str, Any]) -> RuleStepper:
    """Return a stepper for a new descent, which remembers how it was called: with ``options``, which are kept."""
    stepper = prepared(f, x0, optimizer, **options)
    descent, options["optimizer"], options["checkpoint"] = stepper.descent, optimizer, None
    descent.call = Call(minimize, f, descent.start, descent.layout, options)
    return stepper


def resume(
    path: str | os.PathLike[str],
    f: Function,
    *,
    args: Any = (),
    grad: Function | bool | None = None,
    optimizer: Optimizer | None = None,
    batches: Any = None,
    max_steps: int | None = None,
    on_step: Callable[[Step], Any] | None = None,
    progress: bool = False,
    **unknown: Never,
) -> Run:
    """Resume: go on from the checkpoint that `minimize` wrote, bit for bit as if it had never stopped.

    The file goes on being replaced.

    Parameters
    ----------
    path : str or path
        The checkpoint.
    f : callable
        The function of the checkpoint.
    args : tuple, default ()
        What f takes after x, if there was anything.
    grad : callable or True, optional
        Only if grad was your own, which a file can't hold.
    optimizer : Optimizer, optional
        Only if the optimizer's lr was a function, which a file can't hold.
    batches : Batches, list or callable, optional
        Only if there were any.
    max_steps : int, optional
        A new limit, counted from the very start.
    on_step, progress : callable, bool
        As in `minimize`.

    Returns
    -------
    Run
        The whole run, its first part included.

    Raises
    ------
    InputError
        If the file isn't a checkpoint of this version of koubai, if f or grad give other numbers at the checkpoint than
        they gave then, and if what is needed is not given.

    Examples
    --------
    >>> import os, tempfile
    >>> f = lambda x: np.sum(x**2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "descent.npz")
    ...     half = kb.minimize(f, [1.0, 2.0], lr=0.1, max_steps=10, checkpoint=file)
    ...     kb.resume(file, f, max_steps=20).nit
    20
    """
    if unknown:
        raise UnknownNameError.of_argument(resume, unknown)
    return drive(restored(path, f, args, grad, optimizer, batches, max_steps), on_step, progress)


def drive(stepper: RuleStepper, on_step: Callable[[Step], Any] | None, progress: bool) -> Run:
    """Run a descent to its end."""
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step must be a function of a Step or None, got {on_step!r}")
    ours = on_step is None and not callable(stepper.descent.optimizer.lr)  # no function of the user's but f and grad
    if ours:
        if isinstance(stepper, PythonStepper):
            stepper.ask()
        with quiet():
            interrupted = _interrupted(stepper, on_step, progress)
    else:
        interrupted = _interrupted(stepper, on_step, progress)
    run = stepper.run(skip_final_pass=interrupted)
    if interrupted:
        raise Interrupted(run)
    return run


def _interrupted(stepper: RuleStepper, on_step: Callable[[Step], Any] | None, progress: bool) -> bool:
    """Make the steps of a descent; return whether Ctrl-C ended it."""
    descent = stepper.descent
    try:
        if progress:
            with stepper.bar() as report:
                for point in points(stepper, many=on_step is None):
                    report(point)
                    if _stops(on_step, descent):
                        break
        else:
            for _ in points(stepper, many=on_step is None):
                if on_step is not None and _stops(on_step, descent):
                    break
    except KeyboardInterrupt:
        if not descent.recorder.count:
            raise
        descent.verdict = Verdict(Status.stopped, worded("interrupted after step {t}", t=descent.point.t))
        return True
    finally:
        if descent.checkpoint is not None:
            save(stepper, last=True)
    return False


def _stops(on_step: Callable[[Step], Any] | None, descent: Descent) -> bool:
    """Return whether on_step ends the descent at its present point."""
    if on_step is None or on_step(descent.step()) is not True:
        return False
    descent.verdict = Verdict(Status.stopped, worded("on_step returned True at step {t}", t=descent.point.t))
    return True


def iterate(
    f: Function, x0: Parameters, optimizer: Optimizer | str = AUTO, **options: Any
) -> Generator[Step, None, Run]:
    """Iterate: the same descent as `minimize`, one Step(t, x, f, g, lr) at a time. Leave the loop to stop.

    Wrong arguments are reported at once, not at the first step.

    Parameters
    ----------
    f, x0, optimizer
        As in `minimize`.
    **options
        Those of `minimize` but for on_step and progress.

    Yields
    ------
    Step
        The start first; x and g are copies.

    Returns
    -------
    Run
        The generator's return value.

    Raises
    ------
    InputError, FunctionError
        As in `minimize`.

    Examples
    --------
    >>> for step in kb.iterate(lambda x: x**2, 1.0, lr=0.25):
    ...     print(step.t, step.x)
    ...     if step.f < 0.1:
    ...         break
    0 1.0
    1 0.5
    2 0.25
    """
    for name in options:
        if name not in DEFAULTS:
            raise UnknownNameError("argument of iterate", name, ("f", "x0", "optimizer", *DEFAULTS))
    stepper = _begun(f, x0, optimizer, DEFAULTS | options)

    def steps() -> Generator[Step, None, Run]:
        for _ in points(stepper):
            yield stepper.descent.step()
        return stepper.run(skip_final_pass=False)

    return steps()


DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(minimize).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in ("on_step", "progress")
}


# -- the loop ---------------------------------------------------------------------------------------------------------


def points(own: RuleStepper, many: bool = False) -> Iterator[Point]:
    """Run a descent to its verdict; yield every good point of it, or, with ``many``, only some of them."""
    descent = own.descent
    if not descent.recorder.count:
        own.begin()
        yield descent.point
    if descent.verdict is not None:
        return
    stepper = _suitable(own, many)
    try:
        while descent.verdict is None:
            if descent.checkpoint is not None and descent.checkpoint.is_due():
                save(own)
            descent.committed = False
            try:
                stepper.advance(many)
            except NoResidualsError as problem:
                _fall_back_to_lbfgs(descent, problem)
                stepper.leave()
                stepper = _suitable(own, many)
                continue
            if descent.ended_nonfinite:
                return
            descent.committed = True
            yield descent.point
    finally:
        stepper.leave()


def _suitable(own: RuleStepper, many: bool) -> Stepper:
    """Return the stepper that suits: the rule itself, or machine code. many: only some of the points are wanted."""
    if isinstance(own, PythonStepper):
        descent = own.descent
        if descent.optimizer.rule.searches and (search := _search_stepper().of(own)) is not None:
            descent.reason = f"{type(descent.optimizer).__name__} evaluates f itself, in a loop of its own"
            return search
        if many:
            compiled, descent.reason = _compiled_stepper().of(own)
            return compiled or own
    return own


def _fall_back_to_lbfgs(descent: Descent, problem: NoResidualsError) -> None:
    """Go on without least squares from a point where f, on another path, has no residuals, though it has at the start.

    Raises the problem if the user chose the optimizer and no step was made.
    """
    t = descent.point.t
    if descent.optimizer_reason == "given":
        if not t:
            raise problem
        why = worded("f takes another path after step {t}: {problem}", t=t, problem=str(problem))
        descent.verdict = Verdict(Status.stalled, why)
        return
    descent.optimizer_reason += f"; L-BFGS from step {t} on, where f takes another path: {problem.reason}"
    descent.optimizer = descent.stopping.optimizer = LBFGS()
    descent.state = descent.optimizer.init(descent.point.x, descent.layout)
    descent.lr = descent.optimizer.lr_at(t)


@functools.cache
def _compiled_stepper() -> type[CompiledStepper]:
    """Return the stepper for machine code, imported by the first descent that may need it."""
    from koubai.descent.compiled_stepper import CompiledStepper

    return CompiledStepper


@functools.cache
def _search_stepper() -> type[SearchStepper]:
    from koubai.descent.search_stepper import SearchStepper

    return SearchStepper
