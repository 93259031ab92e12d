"""The command line. Printing only: every number comes from the library.

Data goes to stdout, progress and errors to stderr. Exit codes: 0 done, 1 failure, 2 usage, 3 the descent did not
succeed, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import numpy as np
import typer

from koubai import __version__
from koubai.derivatives.check import SHOWN, GradientCheck, check_gradient
from koubai.derivatives.differences import METHODS, Estimate, derivative, numerical_gradient
from koubai.descent import optimizers
from koubai.descent.files import replacing
from koubai.descent.loop import minimize
from koubai.descent.record import Run, Status, load, rows_of
from koubai.descent.spec import read, read_file, schema
from koubai.errors import ExpressionError, InputError, Interrupted, KoubaiError, UnknownNameError
from koubai.functions.expression import CONSTANTS, FUNCTIONS, Expression, parse
from koubai.functions.problems import Problem, problems
from koubai.messages import Worded, command_line, counted, language, reason, speaking, told
from koubai.messages import text as message
from koubai.parameters import flatten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from koubai.diagnosis import Diagnosis
    from koubai.nn import Loss, Network
    from koubai.nn.datasets import Table
    from koubai.search.minima import FoundMinimum
    from koubai.search.multistart import MultiStart
    from koubai.search.sweep import Sweep

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

DONE, FAILURE, USAGE, NO_SUCCESS, INTERRUPTED = 0, 1, 2, 3, 130
PICTURES = (".png", ".svg", ".pdf")
MOVING = ".gif", ".html"
MINIMA = 10  # that are printed
FUNCTION = 'An expression as "x**3", the name of a known function, or MODULE:FUNCTION or FILE.py:FUNCTION of yours.'

Lr = Annotated[float | None, typer.Option("--lr", help="Learning rate; sgd takes 0.1, others their own.")]
Semantics = Annotated[
    str | None, typer.Option("--semantics", help="Whose formula and defaults: torch, keras or optax.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another hyperparameter; may be repeated.")
]
Lang = Annotated[str | None, typer.Option("--lang", help="Language of what is said: en or ja; the locale's.")]
Box = Annotated[
    list[str] | None,
    typer.Option("--bounds", metavar="LOW,HIGH", help="The box: once for all variables, or once for each in turn."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Picture = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE.png", help="Draw a picture (.png, .svg or .pdf).")
]
MovingPicture = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE.png", help="Draw a picture: .png, .svg, .pdf; moving: .gif, .html."),
]

Start = Annotated[str | None, typer.Option("--start", metavar="X,Y,…", help="The start; a known function has its own.")]
BoundsOption = Annotated[
    list[str] | None,
    typer.Option("--bounds", metavar="LOW,HIGH", help="Bounds of all variables, or once for each in turn."),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]


@app.callback(invoke_without_command=True)
def koubai(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    lang: Lang = None,
) -> None:
    """Gradient descent that people can see, trust and use.

    \b
      koubai minimize "(x-1)**2 + (y-2)**2" --start=-3,4 --lr 0.1 -o path.png
      koubai derivative "x**3" --at 10 -o tangent.png
      koubai minimize losses.py:loss --start 1,2
      koubai lr rosenbrock --optimizer adam
      koubai race rosenbrock
      koubai train spirals --lr 0.01 -o spirals.png
      koubai functions himmelblau
    """
    if version:
        typer.echo(f"koubai {__version__}")
        raise typer.Exit(DONE)


@app.command("derivative")
def derivative_command(
    text: Annotated[str, typer.Argument(metavar="FUNCTION", help=FUNCTION)],
    at: Annotated[float, typer.Option("--at", help="The point.")],
    method: Annotated[str, typer.Option("--method", help=f"One of: {', '.join(METHODS)}.")] = "adaptive",
    h: Annotated[float | None, typer.Option("--h", help="The step, used exactly; the best one if left out.")] = None,
    output: Picture = None,
    as_json: Json = False,
) -> None:
    """The slope of a function at a point, with its error.

    \b
      koubai derivative "x**3" --at 10
      koubai derivative "x**2" --at 2 --method forward --h 1e-4
      koubai derivative "x**3" --at 10 --method forward --h 3 -o tangent.png
    """
    _check_picture(output)
    f, start, _, title = _function(text)
    names = _variables(f, np.size(start) if start is not None else 1)
    if len(names) != 1:
        raise InputError(
            f"a derivative needs one variable, {text!r} has {', '.join(names)}: use `koubai gradient` for several"
        )
    estimate = derivative(f, at, method=method, h=h)
    if output is not None:
        from koubai.plot import tangent

        _save(output, lambda ax: tangent(f, at, h=h, ax=ax))
    if as_json:
        _print_json({"function": text, "at": at, **_estimate_fields(estimate)})
        return
    shown = f.text if isinstance(f, Expression) else title
    typer.echo(_told("derivative_at", name=names[0], f=shown, at=f"{at:.15g}"))
    typer.echo(f"  {float(estimate)!r} ± {estimate.error:.1e}")
    _print_estimate(estimate, f"h = {estimate.h:.3g}")


@app.command("gradient")
def gradient_command(
    text: Annotated[str, typer.Argument(metavar="FUNCTION", help=FUNCTION)],
    at: Annotated[str | None, typer.Option("--at", metavar="X,Y,…", help="The point, as numbers with commas.")] = None,
    method: Annotated[str, typer.Option("--method", help=f"One of: {', '.join(METHODS)}.")] = "adaptive",
    h: Annotated[float | None, typer.Option("--h", help="The step, used exactly; the best one if left out.")] = None,
    output: Picture = None,
    as_json: Json = False,
) -> None:
    """The partial derivatives of a function at a point, with their errors.

    \b
      koubai gradient "x**2 + y**2" --at 3,4 -o field.png
      koubai gradient rosenbrock
    """
    _check_picture(output)
    f, start, _, title = _function(text)
    x = _point(at, "--at", f) if at is not None else start
    if x is None:
        raise InputError(f"give the point: --at with {_numbers_wanted(f)}")
    estimate = numerical_gradient(f, x, method=method, h=h)
    if output is not None:
        if np.size(x) != 2:
            raise InputError(f"the gradient field is drawn for 2 variables; {text!r} has {np.size(x)}")
        from koubai.plot import gradient_field

        reach = 2.0 * max(1.0, float(np.abs(x).max()))
        _save(output, lambda ax: gradient_field(f, ((-reach, reach), (-reach, reach)), at=x, ax=ax))
    if as_json:
        _print_json({"function": text, "at": x, **_estimate_fields(estimate)})
        return
    typer.echo(_told("gradient_at", f=title, point=_numbers(x)))
    for name, value, error in zip(
        _variables(f, np.size(x)), np.ravel(estimate.value), np.ravel(estimate.error), strict=True
    ):
        typer.echo(f"  d/d{name} = {float(value)!r} ± {error:.1e}")
    _print_estimate(estimate)


@app.command("check")
def check_command(
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help=FUNCTION)],
    gradient: Annotated[
        str, typer.Argument(metavar="GRADIENT", help="What is said to be its gradient, MODULE:NAME or FILE.py:NAME.")
    ],
    at: Annotated[str, typer.Option("--at", metavar="X,Y,…", help="The point, as numbers with commas.")],
    seed: Annotated[int, typer.Option("--seed", help="Of the random directions, above 64 components.")] = 0,
    as_json: Json = False,
) -> None:
    """Check a gradient that you wrote against differences; name each component that is wrong.

    With losses.py in the current folder, and in it two functions of a NumPy array:

    \b
      koubai check losses.py:loss losses.py:loss_gradient --at 0.1,0.2,0.3
    """
    f, g = _function(function)[0], _imported(gradient)
    check = check_gradient(f, g, _point(at, "--at", f), seed=seed)
    if as_json:
        wrong = [_fields(one, "index", "label", "given", "expected", "tolerance") for one in check.wrong]
        _print_json({"ok": check.ok, "wrong": wrong, "nfev": check.nfev, "tolerance": check.tolerance})
    else:
        _print_check(check)
    raise typer.Exit(DONE if check.ok else FAILURE)


def _schema(asked: bool) -> None:
    """Print the schema of a specification, if it is asked for, and nothing else."""
    if asked:
        _print_json(schema())
        raise typer.Exit(DONE)


@app.command("minimize")
def minimize_command(
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(metavar="FUNCTION", help=FUNCTION)] = None,
    start: Start = None,
    lr: Lr = None,
    optimizer: Annotated[str, typer.Option("--optimizer", help="Its name; see `koubai optimizers`. Or auto.")] = "auto",
    semantics: Semantics = None,
    settings: Settings = None,
    gradient: Annotated[
        str | None, typer.Option("--grad", help="exact (known functions), backprop, central …, or FILE.py:GRADIENT.")
    ] = None,
    max_steps: Annotated[int, typer.Option("--max-steps", help="The most updates to make.")] = 10_000,
    gtol: Annotated[
        float | None,
        typer.Option("--gtol", help="Stop at this largest |gradient|; 0 turns it off. Left out: see kb.minimize."),
    ] = None,
    ftol: Annotated[float | None, typer.Option("--ftol", help="Stop when f changes by no more, relatively.")] = None,
    xtol: Annotated[float | None, typer.Option("--xtol", help="Stop when x changes by no more, relatively.")] = None,
    target: Annotated[float | None, typer.Option("--target", help="Stop when f is no larger.")] = None,
    bounds: BoundsOption = None,
    seed: Seed = 0,
    history: Annotated[
        bool, typer.Option("--history", help="Print the path as CSV, a row a step, and the rest on stderr.")
    ] = False,
    spec: Annotated[
        Path | None,
        typer.Option("--spec", metavar="FILE.json", help="A specification, as of run.spec, in the place of all that."),
    ] = None,
    spec_schema: Annotated[
        bool,
        typer.Option("--spec-schema", help="Print the JSON Schema of such a file.", is_eager=True, callback=_schema),
    ] = False,
    output: MovingPicture = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text; the path is in it.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="RUN.npz", help="Save the run, for `koubai diagnose`.")
    ] = None,
    lang: Lang = None,
) -> None:
    """Descend along the gradient, and say why it stopped.

    \b
      koubai minimize "(x-1)**2 + (y-2)**2" --start=-3,4 --lr 0.1 -o path.png
      koubai minimize rosenbrock --lr 0.001 --set momentum=0.9
      koubai minimize rosenbrock --optimizer adam --semantics keras --lr 0.01 --set clipnorm=1
      koubai minimize "x**4 - 3*x**2 + x" --start 2 --lr 0.02 --history > path.csv
      koubai minimize losses.py:loss --start 1,2 -o path.gif   # a function of yours
      koubai minimize --spec run.json                          # as run.spec, or the lab, has written it
    """
    _check_picture(output, (*PICTURES, *MOVING))
    if history and as_json:
        raise InputError("--json holds the path already; leave --history out")
    problem: Problem | None
    if spec is not None:
        arguments, problem, text, title = _specified(context, spec)
    else:
        f, x0, problem, title = _started(_named(text), start)
        if gradient == "exact" and problem is None:
            raise InputError(f"--grad exact is for known functions (see `koubai functions`); {text!r} is none")
        source: Any = gradient or ("exact" if problem is not None else "auto")
        if ":" in source:
            source = _imported(source)
        elif source == "exact" and problem is not None:
            source = problem.grad
        arguments = {
            "f": f, "x0": x0, "optimizer": _optimizer(optimizer, lr, semantics, settings), "grad": source,
            "max_steps": max_steps, "gtol": gtol, "ftol": ftol, "xtol": xtol, "target": target,
            "bounds": _bounds(bounds), "seed": seed,
        }  # fmt: skip
    f, x0 = arguments["f"], arguments["x0"]
    if output is not None and output.suffix.lower() in MOVING and np.size(x0) > 2:
        raise InputError(f"a path moves in pictures of 1 or 2 variables, this one has {np.size(x0)}: -o path.png")
    try:
        run = minimize(**arguments, progress=sys.stderr.isatty())
        code = DONE if run.success else NO_SUCCESS
    except Interrupted as interrupted:
        run, code = interrupted.run, INTERRUPTED
    if output is not None:
        from koubai import plot

        minima = problem.minima if problem is not None else ()
        if output.suffix.lower() in MOVING:
            plot.animate(run, output, minima=minima)
        else:
            _save(output, lambda ax: plot.run(run, minima=minima, ax=ax))
    if save is not None:
        run.save(save)
    found = run.diagnose(lang=lang)
    if as_json:
        fields = _run_fields(_named(text), run) | {"diagnosis": found.to_dict()}
        _print_json(fields, output)
    else:
        if history:
            _print_history(f, run)
        _print_run(title, run, output, found, on_stderr=history)
    raise typer.Exit(code)


@app.command("multistart")
def multistart_command(
    text: Annotated[str, typer.Argument(metavar="FUNCTION", help=FUNCTION)],
    bounds: Box = None,
    variables: Annotated[
        int | None, typer.Option("--variables", help="How many, if one --bounds is for all of an array.")
    ] = None,
    starts: Annotated[int, typer.Option("--starts", help="From how many starts to descend.")] = 1000,
    hops: Annotated[int, typer.Option("--hops", help="Rounds of hops from the lowest minima.")] = 0,
    optimizer: Annotated[str, typer.Option("--optimizer", help="Its name; auto is L-BFGS.")] = "auto",
    lr: Lr = None,
    semantics: Semantics = None,
    settings: Settings = None,
    max_steps: Annotated[int, typer.Option("--max-steps", help="The most updates of each descent.")] = 1000,
    sampling: Annotated[str, typer.Option("--sampling", help="sobol or latin_hypercube.")] = "sobol",
    seed: Annotated[int, typer.Option("--seed", help="Of the starts and hops.")] = 0,
    output: Picture = None,
    as_json: Json = False,
) -> None:
    """The minima in a box: descents from starts all over it.

    \b
      koubai multistart himmelblau
      koubai multistart "x**4 - 3*x**2 + x" --bounds=-2,2 -o shares.png
      koubai multistart rastrigin --starts 200 --hops 20
      koubai multistart losses.py:loss --bounds=-5,5 --variables 2
    """
    from koubai.search.multistart import multistart

    _check_picture(output)
    f, _, problem, title = _function(text)
    box = _box(f, problem, bounds, variables)
    chosen = _optimizer(optimizer, lr, semantics, settings)
    with _counting(_told("descents")) as progress:
        found = multistart(
            f, box, starts=starts, optimizer=chosen, hops=hops, sampling=sampling, max_steps=max_steps, seed=seed,
            progress=progress,
        )  # fmt: skip
    if output is not None:
        _save(output, lambda ax: found.plot(ax))
    if as_json:
        fields = {
            "function": text,
            "minima": [_minimum_fields(minimum) for minimum in found.minima],
            "best": _minimum_fields(found.best),
            "chance_of_lower": found.chance_of_lower,
            "starts": len(found.ends),
            "status": {status.name: count for status, count in found.status.items()},
            "raised": dict(found.raised),
            "nfev": found.nfev,
            "seed": seed,
        }
        _print_json(fields, output)
    else:
        typer.echo(title)
        typer.echo(_reached(found))
        _print_minima(found.minima)
        if not found.minima:
            typer.echo(f"  {_told('best', x=_numbers(found.best.x), fun=f'{found.best.fun:.10g}')}")
        _print_picture(output)
    raise typer.Exit(DONE if found.minima else NO_SUCCESS)


@app.command("basins")
def basins_command(
    text: Annotated[str, typer.Argument(metavar="FUNCTION", help=FUNCTION)],
    bounds: Box = None,
    optimizer: Annotated[str, typer.Option("--optimizer", help="Its name; see `koubai optimizers`.")] = "sgd",
    lr: Lr = None,
    semantics: Semantics = None,
    settings: Settings = None,
    resolution: Annotated[
        str, typer.Option("--resolution", metavar="WIDTH,HEIGHT", help="Starts along each axis, or one number.")
    ] = "400",
    steps: Annotated[int, typer.Option("--steps", help="The most updates of each descent.")] = 1000,
    at: Annotated[
        str | None, typer.Option("--at", metavar="X,Y,…", help="A point of more variables, for a slice through it.")
    ] = None,
    axes: Annotated[str, typer.Option("--axes", metavar="I,J", help="The variables that vary in a slice.")] = "0,1",
    output: Picture = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the map, instead of text.")] = False,
) -> None:
    """The map of which minimum each start leads to, and in how many steps.

    \b
      koubai basins himmelblau --lr 0.01 -o basins.png
      koubai basins "x**4 - 3*x**2 + x" --bounds=-2,2 --lr 0.02 -o strip.png
      koubai basins himmelblau --optimizer adam --lr 0.1 --resolution 200
      koubai basins losses.py:loss --bounds=-5,5 --bounds=-4,4 --lr 0.01
    """
    from koubai.search.basins import basins

    _check_picture(output)
    f, _, problem, title = _function(text)
    point = None if at is None else np.atleast_1d(_point(at, "--at", f))
    box = _box(f, problem, bounds, None, most=2 if point is not None else None)
    chosen = _optimizer(optimizer, lr, semantics, settings)
    size = _whole_numbers(resolution, "--resolution")
    with _counting(_told("starts")) as progress:
        found = basins(
            f, box, optimizer=chosen, resolution=size[0] if len(size) == 1 else size, steps=steps, at=point,
            axes=_whole_numbers(axes, "--axes"), progress=progress,
        )  # fmt: skip
    if output is not None:
        _save(output, lambda ax: found.plot(ax))
    if as_json:
        fields = {
            "function": text,
            "optimizer": repr(found.optimizer),
            "minima": [_minimum_fields(minimum) for minimum in found.minima],
            **found.shares,
            "raised": dict(found.raised),
            "x": found.x,
            "label": found.label,
            "steps": found.steps,
        }
        _print_json(fields, output)
    else:
        typer.echo(title)
        shown = " × ".join(map(str, found.label.shape[::-1]))
        typer.echo(counted("cli.places", language(), len(found.minima), starts=shown, optimizer=found.optimizer))
        _print_minima(found.minima)
        for name, share in found.shares.items():
            if share:
                typer.echo(f"  {share:7.2%}  {message(f'status.{name}', language())}")
        _print_picture(output)
    raise typer.Exit(DONE if found.minima else NO_SUCCESS)


@app.command("lr")
def lr_command(
    text: Annotated[str, typer.Argument(metavar="FUNCTION", help=FUNCTION)],
    start: Start = None,
    optimizer: Annotated[str, typer.Option("--optimizer", help="Its name; see `koubai optimizers`.")] = "sgd",
    semantics: Semantics = None,
    settings: Settings = None,
    bounds: BoundsOption = None,
    steps: Annotated[int | None, typer.Option("--steps", help="The most updates of one probing descent.")] = None,
    seed: Seed = 0,
    output: Picture = None,
    as_json: Json = False,
) -> None:
    """The learning rate with which an optimizer descends fastest, and the range that is usable.

    \b
      koubai lr rosenbrock --optimizer adam
      koubai lr "(x-1)**2 + 20*(y-2)**2" --start=-3,4 --set momentum=0.9 -o rates.png
    """
    from koubai.search.learning_rate import find_lr

    _check_picture(output)
    f, x0, _, title = _started(text, start)
    chosen = _optimizer("sgd" if optimizer.lower() == "auto" else optimizer, None, semantics, settings)
    found = find_lr(f, x0, chosen, bounds=_bounds(bounds), steps=steps, seed=seed)
    if output is not None:
        _save(output, lambda ax: found.plot(ax))
    if as_json:
        fields = {"function": text, "optimizer": repr(found.optimizer), "start": x0}
        fields |= _fields(found, "lr", "low", "high", "bound", "bound_reason", "target", "nfev")
        fields["curve"] = _fields(found.curve, "lr", "fun", "last", "steps", "time", "diverged")
        _print_json(fields, output)
        return
    typer.echo(title)
    typer.echo(f"  {_told('rate', lr=found.lr, optimizer=type(found.optimizer).__name__)}")
    typer.echo(f"  {_told('usable', low=found.low, high=found.high)}")
    bound = f"{'' if found.bound is None else f'{found.bound:.6g}: '}{found.bound_reason}"
    typer.echo(f"  {_told('bound', bound=bound)}")
    typer.echo(f"  {_told('rates_tried', count=found.nfev, rates=len(found.curve))}")
    _print_picture(output)


@app.command("race")
def race_command(
    text: Annotated[str, typer.Argument(metavar="FUNCTION", help=FUNCTION)],
    optimizers_text: Annotated[
        str, typer.Option("--optimizers", metavar="A,B,…", help="Names, as of `koubai optimizers`, and scipy:METHOD.")
    ] = "sgd,momentum,adam,lbfgs",
    start: Start = None,
    budget: Annotated[int, typer.Option("--budget", help="Evaluations of each from each start.")] = 1000,
    lr: Annotated[
        str, typer.Option("--lr", help="tuned (found for each), given (their own), same (0.01), or a number for all.")
    ] = "tuned",
    starts: Annotated[int, typer.Option("--starts", help="How many starts, the first of them --start.")] = 1,
    target: Annotated[float | None, typer.Option("--target", help="The f that counts as reached.")] = None,
    bounds: BoundsOption = None,
    seed: Seed = 0,
    output: MovingPicture = None,
    as_json: Json = False,
) -> None:
    """Race optimizers: the same budget of evaluations for each.

    \b
      koubai race rosenbrock -o race.png
      koubai race himmelblau --optimizers adam,lbfgs,scipy:BFGS --starts 5 --budget 300
    """
    from koubai.search.race import race

    _check_picture(output, (*PICTURES, *MOVING))
    f, x0, _, title = _started(text, start)
    rate: Any = lr
    if lr not in ("tuned", "given", "same"):
        try:
            rate = float(lr)
        except ValueError:
            raise InputError(f"--lr must be tuned, given, same or a number, got {lr!r}") from None
    say = (lambda name: typer.echo(f"\r\033[K{name}", err=True, nl=False)) if sys.stderr.isatty() else None
    found = race(
        f, x0, [name.strip() for name in optimizers_text.split(",")],
        budget=budget, lr=rate, starts=starts, target=target, bounds=_bounds(bounds), seed=seed, progress=say,
    )  # fmt: skip
    if say is not None:
        typer.echo("\r\033[K", err=True, nl=False)
    if output is not None and output.suffix.lower() in MOVING:
        found.animate(output)
    elif output is not None:
        from matplotlib.figure import Figure

        from koubai.plot import race_page

        panels = (np.size(x0) <= 2) + 1 + (starts > 1)
        figure = Figure(figsize=(6.4 * panels, 5.6), dpi=120, layout="constrained")
        _write(output, race_page(found, figure=figure))
    if as_json:
        count = range(len(found.table["name"]))
        fields = {"function": text, "winner": found.winner, "tied": found.tied, "budget": found.budget}
        fields |= {"targets": found.targets, "rules": found.rules}
        fields["table"] = [{name: column[i] for name, column in found.table.items()} for i in count]
        _print_json(fields, output)
        return
    typer.echo(title)
    typer.echo(found.told(language()))
    _print_picture(output)


@app.command("train")
def train_command(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="digits, moons, circles, spirals, blobs, xor, or a CSV file of yours.")
    ],
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="ITEM,…", help="The network: see above; 64,relu,N if left out.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option("--loss", help="crossentropy, mse …; what suits the labels if left out.")
    ] = None,
    optimizer: Annotated[str, typer.Option("--optimizer", help="Its name; see `koubai optimizers`.")] = "adam",
    lr: Lr = None,
    semantics: Semantics = None,
    settings: Settings = None,
    epochs: Annotated[int, typer.Option("--epochs", help="How often every sample is seen.")] = 50,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples an update.")] = 32,
    validation: Annotated[
        float, typer.Option("--validation", help="The share of the samples that is held back; 0 for none.")
    ] = 0.2,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Stop after so many epochs without a better validation loss.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split, the weights and the order of the data.")] = 0,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="COLUMN", help="The label in a CSV file; the last column if left out."),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE.npz", help="Save the network.")] = None,
    output: Picture = None,
    as_json: Json = False,
    lang: Lang = None,
) -> None:
    """Train a network, and show how well it does on samples that it has not seen.

    \b
      koubai train spirals -o spirals.png
      koubai train spirals --layers 64,relu,64,relu,3 --lr 0.01 -o spiral.png
      koubai train digits --layers conv16x3,relu,pool2,flatten,10 --save d.npz
      koubai train iris.csv --label species --layers batchnorm,16,relu,3

    The digits come with scikit-learn: pip install scikit-learn

    \b
    The items of --layers:
      64          a dense layer of 64 units; at the end one a class
      relu        activation: relu, leakyrelu, gelu, sigmoid, tanh, softmax
      conv8x3     8 filters of 3 × 3; conv8x3s2p1: with stride 2, padding 1
      pool2       the largest of every 2 × 2 window; avgpool2: the mean
      flatten     images to rows, before the first dense layer
      dropout0.5  leaves out half of the values, while training
      batchnorm   to mean 0, deviation 1; as first item for columns of a file
      layernorm   the same, sample by sample

    \b
    Exit code 3: the loss diverged or became NaN.
    """
    from koubai import nn

    _check_picture(output)
    _check_folder(save, "--save")
    if not 0 <= validation < 1:
        raise InputError(f"--validation must be a share of the samples, 0 or more and below 1; got {validation}")
    chosen = _optimizer(optimizer, lr, semantics, settings)
    network, criterion, table, classes = _network_for(data, label, layers, loss, seed)
    X, y = table.X, table.y
    train, held = (X, y), None
    if validation:
        train, held = nn.split(X, y, validation, seed, stratified=classes is not None)
    try:
        run = network.fit(
            *train, chosen, epochs=epochs, batch_size=batch_size, validation=held, patience=patience,
            progress=sys.stderr.isatty(),
        )  # fmt: skip
        code = NO_SUCCESS if run.status in (Status.diverged, Status.nonfinite) else DONE
    except Interrupted as interrupted:
        run, code = interrupted.run, INTERRUPTED
    written = {}
    if save is not None:
        network.save(save)
        written["network"] = str(save)
    if output is not None and len(run.history.epochs or ()):
        from matplotlib.figure import Figure

        from koubai.plot import training

        page = Figure(figsize=(12, 6), dpi=120, layout="constrained")
        names = {"classes": classes, "features": table.features}
        _write(output, training(network, run, *(held or train), **names, figure=page))
        written["picture"] = str(output)
    results = {
        part: dataclasses.asdict(network.evaluate(*samples)) | {"score": network.score(*samples)}
        for part, samples in (("training", train), ("validation", held)) if samples is not None
    }  # fmt: skip
    if as_json:
        fields = _training_fields(network, criterion, run) | {"diagnosis": run.diagnose(lang=lang).to_dict()}
        _print_json({"data": data, "classes": classes} | fields | results | written)
    else:
        kind = _told("numbers") if classes is None else _told("classes", count=len(classes))
        shape = "×".join(map(str, X.shape[1:]))
        typer.echo(_told("samples", data=data, count=len(X), shape=shape, kind=kind))
        _print_training(network, criterion, run, results, written)
        typer.echo(run.diagnose(lang=lang).summary)
    if output is not None and "picture" not in written:
        typer.echo(_told("no_epoch"), err=True)
    raise typer.Exit(code)


@app.command("sweep")
def sweep_command(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="What is swept, as shown above.")],
    output: Picture = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text, all trials in it.")] = False,
) -> None:
    """Descend, train or call with many settings; show the best ones. Called again, it goes on from its journal.

    \b
      koubai sweep sweep.toml
      koubai sweep sweep.toml -o sweep.png

    \b
    In sweep.toml:
      function = "rosenbrock"      # or an expression, or FILE.py:FUNCTION
      start = [-1.2, 1.0]          # a known function has its own
      trials = 30                  # left out: every combination of the lists
      seed = 0                     # of the draws
      workers = 4                  # processes; left out: this one alone
      journal = "sweep.jsonl"      # each finished trial is kept here
      \\[space]
      lr = {low = 1e-5, high = 1e-2, log = true}
      momentum = [0.0, 0.9, 0.99]  # a list of values
      \\[options]                    # the same for all trials
      optimizer = "momentum"
      max_steps = 1000

    Instead of function and start, data = "spirals" (or a CSV file with label = "COLUMN") trains a network of
    layers = "64,relu,3" with loss = "crossentropy"; a fifth of the samples is held back, or options.validation. A
    FILE.py:FUNCTION without a start is called with the hyperparameters by name, and returns a number.

    \b
    Exit code 3: no trial ended well.
    """
    from koubai.search.sweep import sweep

    _check_picture(output)
    work, given = _sweep_arguments(file)
    try:
        result = sweep(work, **given, progress=sys.stderr.isatty())
    except KeyboardInterrupt as stopped:
        typer.echo("; ".join(["interrupted", *getattr(stopped, "__notes__", ())]), err=True)
        raise typer.Exit(INTERRUPTED) from None
    best = result.best
    if output is not None and np.isfinite(result.table["fun"]).any():
        _save(output, lambda ax: result.plot(ax=ax))
    elif output is not None:
        typer.echo(_told("no_number"), err=True)
        output = None
    if as_json:
        columns = [column.tolist() for column in result.table.values()]
        rows = [dict(zip(result.table, row, strict=True)) for row in zip(*columns, strict=True)]
        _print_json({"hyperparameters": result.hyperparameters, "best": best, "trials": rows}, output)
    else:
        _print_sweep(result, output)
    raise typer.Exit(NO_SUCCESS if best is None else DONE)


@app.command("diagnose")
def diagnose_command(
    path: Annotated[Path, typer.Argument(metavar="RUN.npz", help="What run.save, or minimize --save, has written.")],
    text: Annotated[
        str | None, typer.Option("--function", metavar="FUNCTION", help="Its function, if the file can't hold it.")
    ] = None,
    as_json: Json = False,
    lang: Lang = None,
) -> None:
    """Say why a descent ended as it did: the verdict, what was measured, and what to try.

    \b
      koubai minimize himmelblau --lr 0.01 --save run.npz
      koubai diagnose run.npz
      koubai diagnose run.npz --lang ja
    """
    f = None if text is None else _function(text)[0]
    found = load(path, f).diagnose(lang=lang)
    if as_json:
        _print_json(found.to_dict())
    else:
        typer.echo(found)


@app.command("functions")
def functions_command(
    name: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None,
    as_json: Json = False,
) -> None:
    """The known test functions: formula, domain, start and minima.

    \b
      koubai functions
      koubai functions himmelblau
    """
    chosen = [problems[n] for n in ([name] if name else problems.names())]
    if as_json:
        fields = [_problem_fields(problem) for problem in chosen]
        _print_json(fields[0] if name else fields)
        return
    if name:
        problem = chosen[0]
        typer.echo(f"{problem.name}: {problem.formula}")
        bounds = ", ".join(f"[{low:g}, {high:g}]" for low, high in problem.bounds)
        typer.echo(f"  {_told('source', source=problem.source)}")
        typer.echo(f"  {_told('bounds', bounds=bounds)}")
        typer.echo(f"  {_told('start', start=_numbers(problem.x0))}")
        for minimum in problem.minima:
            typer.echo(f"  {_told('minimum', x=_numbers(minimum.x), fun=f'{minimum.fun:.10g}')}")
        return
    width = max(len(problem.name) for problem in chosen)
    for problem in chosen:
        typer.echo(f"{problem.name:<{width}}  {problem.formula}")


@app.command("optimizers")
def optimizers_command(
    name: Annotated[str | None, typer.Argument(help="Show this one: formula, hyperparameters, frameworks.")] = None,
) -> None:
    """The optimizers: their formulas, and how the frameworks' versions differ.

    \b
      koubai optimizers
      koubai optimizers adam
    """
    if name is None:
        for known in optimizers.names():
            chosen = optimizers.resolve(known)
            typer.echo(f"{known:<18} {(type(chosen).__doc__ or '').splitlines()[0]}")
        return
    chosen = optimizers.resolve(name)
    typer.echo(inspect.cleandoc(type(chosen).__doc__ or ""))
    defaults = f"lr={chosen.lr}, {', '.join(f'{k}={v!r}' for k, v in chosen.hyperparameters.items())}"
    typer.echo(f"\n{_told('defaults', values=defaults)}")
    typer.echo(f"\n{optimizers.compare(name)}")


@app.command("lab")
def lab_command(
    state: Annotated[
        str,
        typer.Argument(metavar="[STATE]", help="What the page shows first: JSON, or what is behind # in its address."),
    ] = "",
    port: Annotated[
        int | None, typer.Option("--port", help="Where; 8421, or any other port if that one is taken.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open nothing.")] = False,
) -> None:
    """Open the lab: a page in the browser, on this machine alone, that runs the real engine.

    \b
      koubai lab
      koubai lab --port 9000 --no-browser

    The first line on stdout is the address, with a token that lets you in. Ctrl-C ends the lab.
    """
    from koubai.lab import serve

    serve(port, browser=not no_browser, state=state)


# -- reading arguments ------------------------------------------------------------------------------------------------


def _function(text: str) -> tuple[Callable[[Any], Any], Any, Problem | None, str]:
    """Return the function that ``text`` names or spells, its own start, its problem, and how to show it."""
    if text in problems:
        problem = problems[text]
        return problem.f, problem.x0, problem, f"{problem.name}: {problem.formula}"
    if ":" in text:
        return _imported(text), None, None, text
    try:
        f = parse(text)
    except ExpressionError:
        if text.replace("-", "_").isidentifier() and text not in {*FUNCTIONS, *CONSTANTS}:
            raise UnknownNameError("function", text, problems.names()) from None
        raise
    if f.variables == (text,) and len(text) > 3:  # a lone word: a misspelt name, hardly a function
        raise UnknownNameError("function", text, problems.names())
    for name in f.variables:
        if name in problems:
            raise InputError(
                f"{name} is a known function, and no variable of {text!r}: write {name} alone, or another variable"
            )
    return f, None, None, f"f({', '.join(f.variables)}) = {f.text}"


def _named(text: str | None) -> str:
    """Return the function that was named. Raises InputError if none was."""
    if text is None:
        raise InputError("give the function: an expression, the name of a known one, FILE.py:FUNCTION, or --spec FILE")
    return text


def _specified(context: typer.Context, path: Path) -> tuple[dict[str, Any], Problem | None, str, str]:
    """Return the arguments of the descent in a file, its problem, its function as text, and how to show it.

    Raises InputError for other arguments beside it that it says itself.
    """
    beside = ("spec", "output", "as_json", "history", "save", "lang")
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in beside and source is not None and source.name == "COMMANDLINE":
            told = parameter.opts[0] if parameter.opts[0].startswith("-") else "FUNCTION"
            raise InputError(f"{told} is given beside --spec, whose file says it itself: change it there")
    found = read(read_file(path))
    text = next(iter(found.fields["function"].values()))
    problem, title = _function(text)[2:]
    return {"f": found.f, "x0": found.x0, "optimizer": found.optimizer, **found.options}, problem, text, title


def _started(text: str, start: str | None) -> tuple[Callable[[Any], Any], Any, Problem | None, str]:
    """Return what `_function` does, with the start of --start."""
    f, own, problem, title = _function(text)
    x0 = _point(start, "--start", f) if start is not None else own
    if x0 is None:
        raise InputError(f"give the start: --start with {_numbers_wanted(f)}")
    return f, x0, problem, title


def _imported(text: str) -> Callable[..., Any]:
    """Return the function of ``module:name`` or ``file.py:name``; modules of the current folder are found too."""
    module_name, colon, name = text.rpartition(":")
    if not colon or not module_name or not name:
        raise InputError(f"write MODULE:FUNCTION or FILE.py:FUNCTION, as in losses.py:loss; got {text!r}")
    file = Path(module_name)
    if file.suffix == ".py" and not file.is_file():
        raise InputError(f"there is no file {module_name!r}")
    sys.path.insert(0, str((file.parent if file.suffix == ".py" else Path()).absolute()))
    try:
        module = _module_of(file) if file.suffix == ".py" else importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".")[0] and error.name != module_name:
            raise
        raise InputError(f"there is no module {module_name!r} here or among the installed packages") from None
    finally:
        sys.path.pop(0)
    found = getattr(module, name, None)
    if found is None:
        raise UnknownNameError(f"function of {module_name}", name, [n for n in vars(module) if not n.startswith("_")])
    if not callable(found):
        raise InputError(f"{text} is {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def _module_of(file: Path) -> ModuleType:
    """Return the module in this very file, even if another module has its name."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)
    spec.loader.exec_module(module)
    return module


def _variables(f: Callable[[Any], Any], n: int) -> tuple[str, ...]:
    if isinstance(f, Expression):
        return f.variables
    return ("x",) if n == 1 else tuple(f"x{i}" for i in range(n))


def _numbers_wanted(f: Callable[[Any], Any]) -> str:
    names = f.variables if isinstance(f, Expression) else ()
    return f"{len(names)} number{'s' * (len(names) > 1)}, for {', '.join(names)}" if names else "numbers"


def _point(text: str, option: str, f: Callable[[Any], Any]) -> Any:
    """Return the numbers in ``text``: a float for one, else an array; as many as ``f`` has variables.

    A comma at the end makes an array of one number.
    """
    try:
        numbers = [float(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise InputError(f"{option} must be numbers with commas between them, got {text!r}") from None
    if isinstance(f, Expression) and len(numbers) != len(f.variables):
        raise InputError(f"{option} has {len(numbers)} number(s), but the function wants {_numbers_wanted(f)}")
    return numbers[0] if len(numbers) == 1 and "," not in text else np.array(numbers)


def _optimizer(
    name: str, lr: float | None, semantics: str | None, settings: list[str] | None
) -> optimizers.Optimizer | str:
    """Return the optimizer of --optimizer, --lr, --semantics and --set; these alone mean gradient descent."""
    if name.lower() == "auto":
        if (lr, semantics, settings) == (None, None, None):
            return "auto"
        name = "sgd"
    given = {"lr": lr, "semantics": semantics}
    return optimizers.resolve(name, **_settings(settings or []) | {k: v for k, v in given.items() if v is not None})


_SWEEP = (
    "function", "start", "data", "label", "layers", "loss", "trials", "seed", "workers", "journal", "space", "options",
)  # fmt: skip


def _sweep_arguments(file: Path) -> tuple[Any, dict[str, Any]]:
    """Return what a file in TOML says is swept, and the other arguments of `koubai.sweep`."""
    import tomllib

    if not file.is_file():
        raise InputError(f"there is no file {str(file)!r}")
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not TOML: {error}") from None
    for name in told:
        if name not in _SWEEP:
            raise UnknownNameError(f"entry of {file}", name, _SWEEP)
    kinds = {"function": str, "data": str, "label": str, "layers": str, "loss": str, "journal": str,
             "space": dict, "options": dict, "workers": int}  # fmt: skip
    for name, kind in kinds.items():
        if name in told and (not isinstance(told[name], kind) or isinstance(told[name], bool)):
            what = {str: "text in quotes", dict: f"a table, [{name}]", int: "a whole number"}[kind]
            raise InputError(f"{name} must be {what} in {file}, got {told[name]!r}")
    if ("function" in told) == ("data" in told):
        raise InputError(f"{file} must have one of function and data, such as function = 'rosenbrock'")
    space, options = told.get("space", {}), dict(told.get("options", {}))
    if misplaced := [name for name in options if name in (*_SWEEP, "x0", "executor", "study", "progress")]:
        raise InputError(f"{misplaced[0]} can't stand below [options] in {file}")
    given: dict[str, Any] = {"space": space, "trials": told.get("trials"), "seed": told.get("seed", 0)}
    given |= {"executor": told.get("workers"), "journal": told.get("journal"), **options}
    trains = "data" in told
    if foreign := [n for n in (("start",) if trains else ("label", "layers", "loss")) if n in told]:
        raise InputError(f"{foreign[0]} in {file} is for {'functions' if trains else 'data'}; leave it out")
    if trains:
        network, _, table, _ = _network_for(told["data"], told.get("label"), told.get("layers"), told.get("loss"))
        held = {} if "validation" in space else {"validation": 0.2}
        return network, {"data": (table.X, table.y)} | held | given
    f, start, problem, _ = _function(told["function"])
    if ":" in told["function"]:  # worker processes find it there
        sys.path.append(str(Path(told["function"].rpartition(":")[0]).parent.absolute()))
    if "start" in told:
        x0 = told["start"]
        numbers = x0 if isinstance(x0, list) else [x0]
        if not numbers or any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers):
            raise InputError(f"start must be a number or a list of numbers in {file}, got {x0!r}")
        start = _point(",".join(map(str, numbers)) + "," * isinstance(x0, list), "start", f)
    if "x0" in space and "start" not in told:
        start = None
    elif start is None and isinstance(f, Expression):
        raise InputError(f"give the start in {file}: start = {_numbers_wanted(f)}")
    if problem is not None and not {"grad", "args"} & {*space, *options}:
        given["grad"] = problem.grad
    return f, {"x0": start} | given


def _network_for(
    data: str, label: str | None, layers: str | None, loss: str | None, seed: int = 0
) -> tuple[Network, Loss, Table, tuple[str, ...] | None]:
    """Return a network for a data set, its loss, the samples, and the names of the classes, if there are any."""
    from koubai import nn

    stack = None if layers is None else nn.parse_layers(layers)
    images = stack is not None and isinstance(stack[0], nn.Conv2D | nn.MaxPool2D | nn.AvgPool2D)
    table = _table(data, label, images)
    classes = _class_names(table)
    if stack is None:
        stack = nn.parse_layers(f"64,relu,{len(classes) if classes else 1}")
    units = next((layer.units for layer in reversed(stack) if isinstance(layer, nn.Dense)), None)
    criterion = nn.parse_loss(loss or _suitable_loss(classes, units))
    if not criterion.classifies:
        if table.classes is not None:
            raise InputError(f"the labels are text, {', '.join(table.classes[:3])} …; {criterion.name} wants numbers")
        classes = None
    return nn.Network(stack, criterion, seed=seed), criterion, table, classes


def _table(data: str, label: str | None, images: bool) -> Table:
    """Return the samples of a data set, given by its name or as a CSV file."""
    from koubai.nn import datasets

    if data in ("digits", *datasets.TOYS):
        if label is not None:
            raise InputError(f"--label is for CSV files; {data} has labels of its own")
        if images and data != "digits":
            raise InputError(f"convolutions and pooling want images, as digits has; {data} has points of the plane")
        X, y = datasets.digits(images=images) if data == "digits" else datasets.TOYS[data]()
        return datasets.Table(X, y, None, None, None)
    if not Path(data).suffix and not Path(data).exists():
        raise UnknownNameError("data set", data, ("digits", *datasets.TOYS, "FILE.csv"))
    if images:
        raise InputError(f"convolutions and pooling want images, as digits has; {data} has columns of numbers")
    return datasets.read_csv(data, label)


def _class_names(table: Table) -> tuple[str, ...] | None:
    """Return the names of the classes; whole numbers 0, 1, …, none of them left out, are classes too."""
    if table.classes is not None or table.y.dtype.kind != "i":
        return table.classes
    found = np.unique(table.y).tolist()
    return tuple(map(str, found)) if found == list(range(len(found))) else None


def _suitable_loss(classes: tuple[str, ...] | None, units: int | None) -> str:
    """Return the loss for these labels and so many units at the end: one unit tells two classes apart."""
    if classes is None:
        return "mse"
    return "binarycrossentropy" if units == 1 and len(classes) == 2 else "crossentropy"


def _settings(texts: list[str]) -> dict[str, Any]:
    """Return hyperparameters from ``name=value`` texts; a value is a number, true, false, or a word."""
    out: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name and value):
            raise InputError(f"--set wants NAME=VALUE, as in momentum=0.9, got {text!r}")
        try:
            out[name] = float(value) if value.lower() in ("inf", "-inf") else json.loads(value.lower())
        except ValueError:
            out[name] = value
    return out


def _bounds(texts: list[str] | None) -> list[tuple[float, ...]] | tuple[float, ...] | None:
    if not texts:
        return None
    try:
        pairs = [tuple(float(part) for part in text.split(",")) for text in texts]
    except ValueError:
        raise InputError(f"--bounds wants LOW,HIGH, got {' '.join(texts)!r}; inf and -inf are allowed") from None
    return pairs[0] if len(pairs) == 1 else pairs


def _box(
    f: Callable[[Any], Any], problem: Problem | None, texts: list[str] | None, variables: int | None,
    most: int | None = None,
) -> Any:  # fmt: skip
    """Return the box of a search: --bounds, one for all or one for each; a known function has its own."""
    given = _bounds(texts)
    if given is None:
        if problem is None:
            raise InputError(f"give the box: --bounds LOW,HIGH, once for each of {_numbers_wanted(f)}")
        return problem.bounds[0] if np.ndim(problem.x0) == 0 else problem.bounds
    if isinstance(given, list):
        return given
    if variables is not None:
        if variables < 1:
            raise InputError(f"--variables must be at least 1, got {variables}")
        return [given] * variables
    count = len(f.variables) if isinstance(f, Expression) else np.size(problem.x0) if problem is not None else 1
    return given if count == 1 else [given] * min(count, most or count)


def _whole_numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} must be whole numbers with a comma between them, got {text!r}") from None


@contextlib.contextmanager
def _counting(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show on stderr how much is done, if it is a terminal; Ctrl-C ends the command with its exit code."""
    try:
        if not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    except KeyboardInterrupt:
        typer.echo(_told("interrupted"), err=True)
        raise typer.Exit(INTERRUPTED) from None


def _check_picture(path: Path | None, kinds: tuple[str, ...] = PICTURES) -> None:
    """Refuse a picture that could not be written before any work is done."""
    if path is None:
        return
    if path.suffix.lower() not in kinds:
        raise InputError(f"-o must end in {', '.join(kinds)}, got {str(path)!r}")
    _check_folder(path, "-o")


def _check_folder(path: Path | None, option: str) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"{option}: the folder {str(path.absolute().parent)!r} does not exist; make it first")


# -- printing ---------------------------------------------------------------------------------------------------------


def _told(name: str, /, **values: Any) -> str:
    """Return what the commands say, in the language of the command line."""
    return message(f"cli.{name}", language(), **values)


def _save(path: Path, draw: Callable[[Any], Any]) -> None:
    """Draw one picture and write it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 5.4), dpi=150, layout="constrained")
    draw(figure.add_subplot())
    _write(path, figure)


def _write(path: Path, figure: Figure) -> None:
    """Write a figure: whole or not at all."""
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower())


def _numbers(x: Any) -> str:
    values = [f"{v:.10g}" for v in np.ravel(x)]
    if len(values) > 8:
        values = [*values[:4], "…", *values[-2:]]
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _print_history(f: Callable[[Any], Any], run: Run) -> None:
    """Print the path as CSV, in full precision."""
    x = rows_of(run.history.x, flatten(run.x)[0])
    typer.echo(",".join(["t", *_variables(f, x.shape[1]), "f", "grad_norm", "lr"]))
    for row, point in zip(run.history, x.tolist(), strict=True):
        typer.echo(",".join([str(row.t), *map(repr, [*point, row.fun, row.grad_norm, row.lr])]))


def _print_run(title: str, run: Run, picture: Path | None, found: Diagnosis, on_stderr: bool) -> None:
    echo = functools.partial(typer.echo, err=on_stderr)
    echo(title)
    for line in _ended(run):
        echo(line)
    echo(found.summary)
    echo(f"  x     {_numbers(run.x)}")
    echo(f"  f(x)  {run.fun:.10g}")
    if run.best_fun < run.fun:
        echo(f"  {_told('best', x=_numbers(run.best_x), fun=f'{run.best_fun:.10g}')}")
    source = {"user": "gradient_user", "backprop": "gradient_backprop"}.get(run.gradient_source, "gradient_by")
    source = _told(source, source=run.gradient_source)
    counts = "counts_of_both" if run.njev else "counts"
    echo(f"  {_told(counts, steps=run.nit, count=run.nfev, gradients=run.njev, source=source)}")
    reason = _told("given") if run.optimizer_reason == "given" else run.optimizer_reason
    echo(f"  {run.optimizer}: {reason}")
    _print_picture(picture, on_stderr)


def _print_picture(path: Path | None, on_stderr: bool = False) -> None:
    if path is not None:
        typer.echo(f"  {_told('picture', path=path)}", err=on_stderr)


def _print_sweep(result: Sweep, picture: Path | None) -> None:
    """Print the best trials, and how the others failed."""
    from koubai.search.trial import FAILURES

    typer.echo(_swept(result))
    from rich.cells import cell_len  # Japanese letters are two cells wide

    table, shown = result.table, 10
    names = ["trial", *result.hyperparameters, "fun", "status"]
    fun = np.where(np.isin(table["status"], FAILURES), np.inf, table["fun"])
    order = [i for i in np.argsort(fun, kind="stable").tolist() if np.isfinite(fun[i])][:shown]
    heads = {"trial": _told("trial"), "status": _told("status")}
    cells = [[heads.get(name, name) for name in names]]
    for i in order:
        ended = message(f"status.{table['status'][i]}", language()) if language() != "en" else table["status"][i]
        cells.append([*(_cell(table[name][i]) for name in names[:-1]), ended])
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells if order else ():
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        typer.echo("  " + "  ".join(padded).rstrip())
    if len(order) == shown < len(result):
        typer.echo(f"  {_told('all_trials')}")
    failed = [i for i in range(len(result)) if table["status"][i] in FAILURES]
    for text in list(dict.fromkeys(f"{table['status'][i]}: {table['message'][i]}" for i in failed))[:5]:
        typer.echo(f"  {text}")
    _print_picture(picture)


def _swept(result: Sweep) -> str:
    """Return one sentence on what a sweep has found."""
    if language() == "en":
        return repr(result)
    names, counts = np.unique(result.table["status"], return_counts=True)
    ended = [f"{message(f'status.{name}', language())} {n}" for name, n in zip(names, counts, strict=True)]
    text, best = _told("swept", count=len(result), ended=_told("comma").join(ended)), result.best
    if best is None:
        return text + _told("none_well")
    values = ", ".join(f"{name}={best[name]!r}" for name in result.hyperparameters)
    return text + _told("best_trial", trial=best["trial"], fun=f"{best['fun']:.6g}", values=values)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _print_training(
    network: Network, loss: Loss, run: Run, results: dict[str, dict[str, Any]], written: dict[str, str]
) -> None:
    typer.echo(network.summary())
    for line in _ended(run):
        typer.echo(line)
    for part, result in results.items():
        right = result["accuracy"]
        score = f"R² {result['score']:.5g}" if right is None else _told("accuracy", share=right)
        typer.echo(f"  {_told(part, loss=result['loss'], score=score, count=result['samples'])}")
    typer.echo(f"  {_told('updates', steps=run.nit, optimizer=run.optimizer, loss=loss, seed=network.seed)}")
    for what, path in written.items():
        typer.echo(f"  {_told(what, path=path)}")


def _ended(run: Run) -> list[str]:
    """Return how a run ended: its status and why; in English beside what the status means if it is told so alone."""
    said, name = f"{run.status}: {run.message}", run.status.name
    if language() == "en":
        return [said]
    ended = f"{message(f'status.{name}', language())}: {reason(name, run.message)}"
    return [ended] if isinstance(run.message, Worded) else [ended, f"  {said}"]


def _reached(found: MultiStart) -> str:
    """Return one sentence on what a search from many starts has found."""
    if language() == "en":
        return found.summary
    names = {status: message(f"status.{status.name}", language()) for status in found.status}
    raised = len(found.raised) if set(found.raised) - {-1} else 0
    parts = [
        counted("cli.reached", language(), len(found.minima), starts=len(found.ends), fun=f"{found.best.fun:.6g}"),
        *(f"{names[status]} {count}" for status, count in found.status.items() if status is not Status.converged),
        *([_told("raised", count=raised)] if raised else ()),
        _told("chance", chance=found.chance_of_lower),
    ]
    return _told("comma").join(parts)


def _print_check(check: GradientCheck) -> None:
    """Print which components of a gradient are wrong."""
    cost = _told("check_cost", count=check.nfev, tolerance=check.tolerance)
    verdict = "check_ok" if check.ok else "check_wrong" if check.wrong else "check_no_verdict"
    typer.echo(_told(verdict, count=len(check.wrong), size=check.size, cost=cost))
    for one in check.wrong[:SHOWN]:
        values = {"given": repr(one.given), "expected": repr(one.expected), "tolerance": one.tolerance}
        typer.echo(f"  {_told('check_component', label=one.label, **values)}")
    if len(check.wrong) > SHOWN:
        typer.echo(f"  {_told('check_more', count=len(check.wrong) - SHOWN)}")
    for warning in check.warnings:
        typer.echo(f"  {_told('warning', warning=warning)}")


def _training_fields(network: Network, loss: Loss, run: Run) -> dict[str, Any]:
    columns = ("fun", "accuracy", "validation_fun", "validation_accuracy", "lr")
    return {
        "layers": network.names,
        "parameters": network.vector.size,
        "loss": loss.name,
        "status": run.status.name,
        "message": run.message,
        "fun": run.fun,
        "nit": run.nit,
        "optimizer": repr(run.optimizer),
        "seed": network.seed,
        "epochs": {name: getattr(run.history.epochs, name, None) for name in columns},
    }


def _print_minima(minima: list[FoundMinimum]) -> None:
    for minimum in minima[:MINIMA]:
        place = message(f"place.{minimum.signature}", language())
        found = _told("minimum_at", place=place, fun=f"{minimum.fun:.10g}", x=_numbers(minimum.x))
        typer.echo(f"  {minimum.share:7.2%}  {found}")
    if len(minima) > MINIMA:
        typer.echo(f"  {sum(m.share for m in minima[MINIMA:]):7.2%}  {_told('others', count=len(minima) - MINIMA)}")


def _minimum_fields(minimum: FoundMinimum) -> dict[str, Any]:
    return _fields(minimum, "x", "fun", "share", "signature", "count")


def _print_estimate(estimate: Estimate, *more: str) -> None:
    parts = [_told("by_differences", method=estimate.method), *more, _told("evaluations", count=estimate.nfev)]
    typer.echo(f"  {_told('comma').join(parts)}")
    for warning in estimate.warnings:
        typer.echo(f"  {_told('warning', warning=warning)}", err=True)


def _estimate_fields(estimate: Estimate) -> dict[str, Any]:
    return _fields(estimate, "value", "error", "h", "nfev", "method", "noise", "warnings")


def _run_fields(function: str, run: Run) -> dict[str, Any]:
    names = ("x", "fun", "jac", "nit", "nfev", "njev", "success", "message", "best_x", "best_fun", "gradient_source")
    return {
        "function": function,
        "status": run.status.name,
        **_fields(run, *names),
        "optimizer": repr(run.optimizer),
        "optimizer_reason": run.optimizer_reason,
        "seed": run.seed,
        "history": _fields(run.history, "t", "x", "fun", "grad_norm", "lr"),
    }


def _problem_fields(problem: Problem) -> dict[str, Any]:
    minima = [{"x": minimum.x, "fun": minimum.fun} for minimum in problem.minima]
    return _fields(problem, "name", "formula", "source", "bounds", "x0") | {"minima": minima}


def _fields(of: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names}


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON types; a number that is not finite becomes null, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _print_json(fields: Any, picture: Path | None = None) -> None:
    typer.echo(_json(_plain(fields if picture is None else fields | {"picture": str(picture)}), depth=2))


def _json(value: Any, depth: int) -> str:
    """Return JSON text with a line for each entry of the outer objects; arrays of numbers stay on one line."""
    if depth and isinstance(value, dict):
        lines = [f"{json.dumps(str(key), ensure_ascii=False)}: {_json(item, depth - 1)}" for key, item in value.items()]
    elif depth and isinstance(value, list) and any(isinstance(item, dict) for item in value):
        lines = [_json(item, depth - 1) for item in value]
    else:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = ",\n".join(lines).replace("\n", "\n  ")
    return f"{{\n  {inner}\n}}" if isinstance(value, dict) else f"[\n  {inner}\n]"


def main() -> NoReturn:
    """Run the command line; an error of koubai's becomes one line on stderr and an exit code."""
    lang = None
    try:
        with speaking(command_line.asked_language(sys.argv[1:])) as lang:
            command_line.run(app, lang)
    except InputError as error:
        typer.echo(f"koubai: {told(error, lang)}", err=True)
        sys.exit(USAGE)
    except (KoubaiError, OSError) as error:
        typer.echo(f"koubai: {told(error, lang)}", err=True)
        sys.exit(FAILURE)
    sys.exit(DONE)
