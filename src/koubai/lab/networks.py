"""The asks of the network room: data in the plane, a training that goes on frame by frame, and a check of its gradient.

A training is addressed by its specification and an epoch, and nothing else: the ones that are kept between two frames
are a cache. If none fits, the training is run again from its seed, which gives the same bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from koubai import nn
from koubai.derivatives.differences import numerical_gradient
from koubai.derivatives.gradient import value_and_grad
from koubai.descent import schedules
from koubai.descent.optimizers import CLASSES, Optimizer, names
from koubai.descent.record import Run, Status
from koubai.descent.spec import read_optimizer
from koubai.errors import FunctionError, InputError
from koubai.lab.fields import Fields
from koubai.lab.writing import optimizer_text, optimizer_words
from koubai.messages import Worded, refused, told, worded
from koubai.nn.datasets import TOYS, csv_columns, parse_csv
from koubai.nn.sources import held_back
from koubai.parameters import FloatArray

__all__ = [
    "ASKS",
    "FULL",
    "LIMITS",
    "REPLAYS",
    "Data",
    "Live",
    "Pool",
    "Specification",
    "as_command",
    "as_python",
    "check",
    "data",
    "decision",
    "diagnose",
    "held_out",
    "read_state",
    "table_of_epochs",
    "tables",
    "train",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Cancelled: TypeAlias = Callable[[], None]  # raises if a newer request has come

LIMITS = {
    "points": 2000, "classes": 8, "layers": 6, "units": 64, "epochs": 10_000, "csv": 200_000, "pixels": 256,
    "unit_pixels": 48,
}  # fmt: skip
SLICE = 0.025  # seconds of training that one frame may take
LONGEST = 0.25  # and the most that one may ask for
KEPT = 24  # trainings between two frames
FULL = 2**16 - 1  # how a probability of 1 travels
CHECKED = 300  # components of the gradient that are checked by differences
CHECKED_SAMPLES = 64
DIAGNOSED = 8.0  # seconds of training for a diagnosis
SCHEDULES = ("constant", "step", "exponential", "cosine", "linear", "one_cycle", "inverse_sqrt", "plateau")
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "leakyrelu": nn.LeakyReLU, "gelu": nn.GELU}
LOSSES = {"crossentropy": nn.CrossEntropy, "binarycrossentropy": nn.BinaryCrossEntropy, "mse": nn.MSE}
INITIALIZERS = ("xavier", "he", "normal", "zeros", "orthogonal")
WITH_CLASSES = ("spirals", "blobs")
DELIMITERS = (",", ";", "\t", " ")


# -- the specification ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Points of the plane with their classes. source: how they are made in Python."""

    X: FloatArray
    y: Array
    classes: tuple[str, ...]
    source: tuple[str, ...]
    axes: tuple[str, str] = ("x", "y")
    mean: tuple[float, float] = (0.0, 0.0)  # of the columns before they were standardized,
    scale: tuple[float, float] = (1.0, 1.0)  # and their deviation


@dataclass(frozen=True)
class Specification:
    """All that a training follows from: the same specification gives the same bits at the same epoch."""

    data: Data
    layers: tuple[tuple[int, str], ...]  # units and activation of the hidden ones
    loss: str
    optimizer: Optimizer
    batch_size: int
    validation: float
    seed: int
    init: str
    key: str = field(compare=False, default="")

    @classmethod
    def read(cls, given: Any) -> Specification:
        """Read it field by field; one that was read lately is at hand. Raises InputError naming the wrong field."""
        fields = Fields(given, "spec")
        written = json.dumps({name: fields.given.get(name) for name in _NAMED}, sort_keys=True, default=repr)
        key = hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()
        if (spec := _read_lately.get(key)) is None:
            spec = cls._read(fields, key)
            with _reading:
                _read_lately[key] = spec
                while len(_read_lately) > KEPT:
                    del _read_lately[next(iter(_read_lately))]
        return spec

    @classmethod
    def _read(cls, fields: Fields, key: str) -> Specification:
        fields.only((*_NAMED, "koubai", "room", "epoch"))
        fields.whole("koubai", 1, 1, 1)
        data = _read_data(fields.fields("data", {"name": "spirals"}))
        loss = fields.word("loss", LOSSES, "crossentropy")
        if loss == "binarycrossentropy" and len(data.classes) != 2:
            raise refused(
                "binarycrossentropy tells two classes apart, and there are {count}: take crossentropy",
                count=len(data.classes),
            )
        validation = fields.number("validation", 0.0, 0.0, 0.9)
        if validation and len(data.y) < 2 * len(data.classes):
            raise refused(
                "there are too few points ({count}) to hold some back; set validation to 0", count=len(data.y)
            )
        return cls(
            data,
            _read_layers(fields),
            loss,
            _read_optimizer(fields),
            fields.whole("batch_size", 16, 1, LIMITS["points"]),
            validation,
            fields.whole("seed", 0),
            fields.word("init", INITIALIZERS, "xavier"),
            key,
        )

    @property
    def outputs(self) -> int:
        return 1 if self.loss == "binarycrossentropy" else len(self.data.classes)

    @property
    def targets(self) -> Array:
        return nn.one_hot(self.data.y, len(self.data.classes)) if self.loss == "mse" else self.data.y

    def network(self) -> nn.Network:
        """Return the network before its training."""
        return nn.Network(self.stack(), LOSSES[self.loss](), seed=self.seed)

    def stack(self) -> list[nn.Layer]:
        """Return new layers."""
        stack: list[nn.Layer] = []
        for units, activation in self.layers:
            stack += [nn.Dense(units, init=self.init), ACTIVATIONS[activation]()]
        return [*stack, nn.Dense(self.outputs, init=self.init)]

    def fit_options(self) -> dict[str, Any]:
        """Return the arguments of `fit` besides data, optimizer and epochs."""
        return {"batch_size": self.batch_size, "validation": self.validation or None}


_NAMED = (
    "data", "layers", "activation", "loss", "optimizer", "schedule", "batch_size", "validation", "seed", "init",
)  # fmt: skip
_read_lately: dict[str, Specification] = {}  # by key
_reading = threading.Lock()


def _read_data(fields: Fields) -> Data:
    given = [name for name in ("name", "points", "csv") if fields.has(name)]
    if len(given) != 1:
        raise InputError(f"{fields.where} must have one of name, points and csv, got {len(given)} of them")
    return {"name": _known_data, "points": _drawn_data, "csv": _csv_data}[given[0]](fields)


def _known_data(fields: Fields) -> Data:
    fields.only(("name", "n", "noise", "seed", "classes"))
    name = fields.word("name", TOYS)
    arguments: dict[str, Any] = {"n": fields.whole("n", 300, 2, LIMITS["points"])}
    if fields.has("noise"):
        arguments["noise"] = fields.number("noise", low=0.0, high=10.0)
    arguments["seed"] = fields.whole("seed", 0)
    if name in WITH_CLASSES:
        arguments["classes"] = fields.whole("classes", 3, 2, LIMITS["classes"])
    elif fields.has("classes"):
        fields.whole("classes", low=2, high=2)
    X, y = TOYS[name](**arguments)
    written = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    classes = tuple(map(str, range(int(arguments.get("classes", 2)))))
    return Data(X, y, classes, (f"X, y = nn.{name}({written})",))


def _drawn_data(fields: Fields) -> Data:
    fields.only(("points", "classes"))
    rows = fields.list("points", most=LIMITS["points"])
    if not rows:
        raise InputError(f"{fields.name('points')} is empty; draw at least one point")
    X, y = np.empty((len(rows), 2)), np.empty(len(rows), np.int64)
    for i, row in enumerate(rows):
        name = f"{fields.name('points')}[{i}]"
        if not isinstance(row, list | tuple) or len(row) != 3:
            raise InputError(f"{name} must be a list of x, y and a class")
        one = Fields({"x": row[0], "y": row[1], "class": row[2]}, name)
        X[i] = one.number("x", low=-1e6, high=1e6), one.number("y", low=-1e6, high=1e6)
        y[i] = one.whole("class", high=LIMITS["classes"] - 1)
    count = fields.whole("classes", max(2, int(y.max()) + 1), max(2, int(y.max()) + 1), LIMITS["classes"])
    source = (f"X = np.array({X.tolist()!r})", f"y = np.array({y.tolist()!r})")
    return Data(X, y, tuple(map(str, range(count))), source)


def _csv_data(fields: Fields) -> Data:
    fields.only(("csv", "label", "columns", "delimiter", "header"))
    name = worded("the CSV")
    text, how = _csv_text(fields, name)
    known = csv_columns(text, **how)
    label = fields.text("label", most=200) if fields.has("label") else (known[-1] if known else None)
    given = fields.list("columns", most=2) if fields.has("columns") else [c for c in known if c != label][:2]
    columns = [Fields({"name": one}, f"{fields.name('columns')}[{i}]").text("name") for i, one in enumerate(given)]
    if len(known) > 1:
        for column in (*columns, label):
            if column not in known:
                raise refused(
                    "{name} has no column {column!r}; it has: {known}", name=name, column=column, known=", ".join(known)
                )
        if len(columns) < 2:
            raise refused(
                "{name} needs two columns of numbers and a label; it has only: {known}",
                name=name,
                known=", ".join(known),
            )
        if len({*columns, label}) < 3:
            raise refused("the two columns and the label must be three different columns")
    table = parse_csv(text, label, columns=columns, name=name, **how)
    if len(table.X) > LIMITS["points"]:
        raise refused(
            "{name} has {count:,} rows; at most {most:,} are accepted",
            name=name,
            count=len(table.X),
            most=LIMITS["points"],
        )
    X = table.X
    if np.abs(X).max(initial=0.0) > 1e100:
        raise refused("{name} has numbers beyond 1e100", name=name)
    if table.classes is not None:
        names_of_classes, y = table.classes, table.y
    elif table.y.dtype.kind == "i":
        found, y = np.unique(table.y, return_inverse=True)
        names_of_classes = tuple(map(str, found.tolist()))
    else:
        raise refused(
            "{name}: the label must be a class (text or whole numbers); column {label} has other numbers",
            name=name,
            label=label,
        )
    if len(names_of_classes) == 1:
        raise refused(
            "{name} has one class only, {label}: there is nothing to tell apart", name=name, label=names_of_classes[0]
        )
    if len(names_of_classes) > LIMITS["classes"]:
        raise refused(
            "{name} has {count} classes in column {label}; at most {most} are accepted",
            name=name,
            count=len(names_of_classes),
            label=label,
            most=LIMITS["classes"],
        )
    standardize = nn.standardize(X)
    axes = ("x", "y") if table.features is None else (table.features[0], table.features[1])
    deviation = [1.0 if d == 0 else float(d) for d in np.ravel(standardize.std)]
    source = (
        f"X = np.array({X.tolist()!r})", "X = nn.standardize(X)(X)", f"y = np.array({y.tolist()!r})",
    )  # fmt: skip
    mean = np.ravel(standardize.mean)
    return Data(
        standardize(X), y.astype(np.int64), names_of_classes, source, axes, (float(mean[0]), float(mean[1])),
        (deviation[0], deviation[1]),
    )  # fmt: skip


def _csv_text(fields: Fields, name: Worded) -> tuple[str, dict[str, Any]]:
    """Return the text of a CSV, and how it is to be read."""
    text = fields.text("csv", most=LIMITS["csv"])
    if len(text.encode("utf-8", "surrogatepass")) > LIMITS["csv"]:
        raise refused("{name} has more than {most:,} bytes; take fewer rows", name=name, most=LIMITS["csv"])
    header = fields.flag("header") if fields.has("header") else None
    return text, {"header": header, "delimiter": fields.word("delimiter", DELIMITERS, ",")}


def _columns_of_csv(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Return the names of the columns in a CSV, their numbers if it begins without names."""
    fields = Fields(arguments).fields("dataset")
    text, how = _csv_text(fields, worded("the CSV"))
    return {"columns": list(csv_columns(text, **how))}


def _read_layers(fields: Fields) -> tuple[tuple[int, str], ...]:
    activation = fields.word("activation", ACTIVATIONS, "tanh")
    layers = []
    for i, given in enumerate(fields.list("layers", [8, 8], most=LIMITS["layers"])):
        name = f"{fields.name('layers')}[{i}]"
        one = Fields(given if isinstance(given, Mapping) else {"units": given}, name)
        one.only(("units", "activation"))
        layers.append(
            (one.whole("units", low=1, high=LIMITS["units"]), one.word("activation", ACTIVATIONS, activation))
        )
    return tuple(layers)


def _read_optimizer(fields: Fields) -> Optimizer:
    name = fields.name("optimizer")
    optimizer = read_optimizer(fields.value("optimizer", {"name": "Adam", "lr": 0.03}), name)
    if isinstance(optimizer, str):
        raise InputError(f"{name} must be named, as in {{'name': 'Adam', 'lr': 0.03}}")
    if "evaluate" in optimizer.rule.uses:
        raise refused(
            "{name}: {kind} searches along whole gradients, which mini-batches do not give; take Adam, or SGD with "
            "momentum",
            name=name,
            kind=type(optimizer).__name__,
        )
    if not isinstance(optimizer.lr, int | float):
        raise InputError(f"{name}.lr must be a number > 0; the schedule is a field of its own")
    if fields.has("schedule"):
        optimizer.lr = _read_schedule(fields.fields("schedule"), float(optimizer.lr))
    return optimizer


def _read_schedule(fields: Fields, lr: float) -> schedules.Schedule:
    """Return the schedule that starts from (one_cycle: reaches) this rate; warmup: steps over which it rises to it."""
    name = fields.word("name", SCHEDULES)
    kind = getattr(schedules, name)
    settings = _settings_of(kind)
    fields.only(("name", "warmup", *settings))
    given = {"lr": lr} | {key: fields.given[key] for key in settings if fields.has(key)}
    for key, value in given.items():
        if not isinstance(value, int | float | str) and not (isinstance(value, list) and len(value) <= 100):
            raise InputError(f"{fields.name(key)} must be a number, got {type(value).__name__}")
    try:
        schedule: schedules.Schedule = kind(**{key: _as_number(value) for key, value in given.items()})
    except TypeError:
        missing = [key for key, default in settings.items() if default is None and key not in given]
        raise InputError(f"{fields.where} needs {' and '.join(missing)}") from None
    except InputError as error:
        raise InputError(f"{fields.where}: {error}") from None
    if fields.has("warmup") and (steps := fields.whole("warmup", high=10**6)):
        schedule = schedules.warmup(schedule, steps)
    return schedule


def _settings_of(kind: Any) -> dict[str, Any]:
    """Return the settings of a schedule besides its rate, with their defaults; None where there is none."""
    return {
        f.name: None if f.default is dataclasses.MISSING else f.default
        for f in dataclasses.fields(kind)
        if f.name != "lr"
    }


def _as_number(value: Any) -> Any:
    """JavaScript writes 100.0 as 100, and may write a whole number as 1e2: what is whole is an int."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) >= 1 else value


def tables() -> dict[str, Any]:
    """Return what the page offers for choice: data sets, activations, losses, schedules, optimizers, and the limits."""
    import inspect

    return {
        "datasets": [
            {
                "name": name,
                "noise": inspect.signature(f).parameters["noise"].default,
                "classes": 3 if name in WITH_CLASSES else 2,
                "many_classes": name in WITH_CLASSES,
            }
            for name, f in TOYS.items()
        ],
        "activations": list(ACTIVATIONS),
        "losses": list(LOSSES),
        "initializers": list(INITIALIZERS),
        "schedules": [{"name": name, "settings": _settings_of(getattr(schedules, name))} for name in SCHEDULES],
        "training_optimizers": [CLASSES[n].__name__ for n in names() if "evaluate" not in CLASSES[n].rule.uses],
        "network_limits": LIMITS,
    }


# -- trainings --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Live:
    """A training that can go on: its network, how far it has come, and what each epoch was like."""

    spec: Specification
    network: nn.Network
    epoch: int = 0
    rows: list[tuple[float, ...]] = field(default_factory=list)  # loss, accuracy, validation loss and accuracy, rate
    norms: list[FloatArray] = field(default_factory=list)  # of the gradient, by layer
    names: tuple[str, ...] = ()  # of these layers
    ended: str | None = None  # why it can't go on
    run: Run | None = None  # its last stretch
    seconds: float = 0.0
    nit: int = 0  # updates

    @classmethod
    def begin(cls, spec: Specification) -> Live:
        """Return the training before its first epoch."""
        network = spec.network()
        network.build((2,))
        return cls(spec, network)

    def advance(self, until: int, seconds: float, cancelled: Cancelled) -> None:
        """Train until an epoch is over, or until the time is; what ``cancelled`` raises comes out at an epoch's end."""
        if self.epoch >= until or self.ended:
            return
        spec, began = self.spec, time.monotonic()
        raised: list[BaseException] = []
        after: list[float] = []  # the accuracy after each epoch, if the loss knows none

        def on_epoch(_: Any) -> bool:
            if spec.loss == "mse":
                after.append(float(np.mean(np.argmax(self.network.outputs(spec.data.X), axis=1) == spec.data.y)))
            try:
                cancelled()
            except BaseException as error:
                raised.append(error)
            return bool(raised) or time.monotonic() - began >= seconds

        try:
            with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
                run = self.network.fit(
                    spec.data.X, spec.targets, spec.optimizer, epochs=until - self.epoch, **spec.fit_options(),
                    resume=self.epoch > 0, on_epoch=on_epoch,
                )  # fmt: skip
        except FunctionError as error:  # an epoch that ended well led to weights whose loss is not finite
            if not self.epoch:
                raise
            self.ended = str(error)
            return
        self.seconds += time.monotonic() - began
        self.run = run
        self._add(run, after)
        if run.status in (Status.diverged, Status.nonfinite):
            self.ended = run.message
        if raised:
            raise raised[0]

    def _add(self, run: Run, after: Sequence[float]) -> None:
        epochs = run.history.epochs
        if epochs is None:
            return
        count, none = len(epochs), math.nan
        self.nit += int(epochs.t[-1]) if count else 0
        columns = [epochs.fun, epochs.accuracy, epochs.validation_fun, epochs.validation_accuracy, epochs.lr]
        if epochs.accuracy is None and len(after) == count:
            columns[1] = np.array(after)
        for i in range(count):
            self.rows.append(tuple([none if column is None else float(column[i]) for column in columns]))
        if epochs.layer_grad_norm is not None:
            self.norms.extend(epochs.layer_grad_norm)
            self.names = epochs.layers
        self.epoch += count


class Pool:
    """Trainings between two frames, the ones used last. One that is being trained is out of the pool."""

    def __init__(self, size: int = KEPT) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.kept: OrderedDict[int, Live] = OrderedDict()

    def take(self, spec: Specification, until: int) -> Live:
        """Take out the training that is farthest, but not past ``until``; a new one if there is none."""
        with self.lock:
            fitting = [
                number for number, live in self.kept.items() if live.spec.key == spec.key and (live.epoch <= until)
            ]
            if fitting:
                return self.kept.pop(max(fitting, key=lambda number: self.kept[number].epoch))
        return Live.begin(spec)

    def give_back(self, live: Live) -> None:
        """Keep a training; the one that was not used for longest goes if there are too many."""
        with self.lock:
            self.kept[id(live)] = live
            while len(self.kept) > self.size:
                self.kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all of them."""
        with self.lock:
            self.kept.clear()


POOL = Pool()


# -- asks -------------------------------------------------------------------------------------------------------------


def data(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Return the points of a data set: arrays points (n, 2) and labels; classes, axes, their mean and scale, window."""
    found = _read_data(Fields(arguments).fields("dataset"))
    return {
        "arrays": {"points": found.X.astype(np.float32), "labels": found.y.astype(np.int32)},
        **{name: list(getattr(found, name)) for name in ("classes", "axes", "mean", "scale")},
        "window": _square(found),
    }


def _square(data: Data) -> list[list[float]]:
    """Return a square window with all the points in it."""
    low, high = data.X.min(axis=0), data.X.max(axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 0.5) * 1.15
    return [[float(m) - half, float(m) + half] for m in middle]


def decision(live: Live, side: int) -> tuple[Array, list[list[float]]]:
    """Return the probabilities, (classes, side, side) in units of 1/FULL, over a square window, and the window."""
    window = _square(live.spec.data)
    grid = _grid(Fields({"x": window[0], "y": window[1]}, "window"), (side, side))
    return _probabilities(live, grid), window


def train(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Train on to ``epoch``, or as far as a frame's time allows; return what each epoch since ``since`` was like.

    epoch: where the training is; fun: the loss over all the data there, as run.fun; weights: a digest of the
    parameters' bits; ended: why it can't go on, or null; arrays loss, accuracy, validation, validation_accuracy, lr,
    and grad_norm (epochs, layers). want: {boundary: [w, h], units: [w, h], unit: [layer, number], window: {x, y},
    units_window, when_done: whether only the last frame has pictures}: arrays boundary (classes, h, w), the
    probabilities in 1/65535; unit (h, w); units.L (units, h, w) of each layer, 128 is 0, the largest size in peaks;
    weights.L (inputs, units).
    """
    fields = Fields(arguments)
    spec = Specification.read(fields.value("spec"))
    epoch = fields.whole("epoch", 0, 0, LIMITS["epochs"])
    since = fields.whole("since", 0, 0, LIMITS["epochs"])
    seconds = fields.number("seconds", SLICE, 0.0, LONGEST)
    want = fields.fields("want", {})
    live = POOL.take(spec, epoch)
    try:
        live.advance(epoch, seconds, cancelled)
        return _frame(live, epoch, since, want)
    finally:
        POOL.give_back(live)


def _frame(live: Live, epoch: int, since: int, want: Fields) -> dict[str, Any]:
    rows = np.array(live.rows[since:], np.float32).reshape(-1, 5)
    arrays: dict[str, Any] = {
        name: np.ascontiguousarray(rows[:, i])
        for i, name in enumerate(("loss", "accuracy", "validation", "validation_accuracy", "lr"))
    }
    layers = len(live.names)
    arrays["grad_norm"] = np.array(live.norms[since:], np.float32).reshape(-1, layers) if layers else rows[:0, :1]
    spec, network = live.spec, live.network
    last = live.rows[-1] if live.rows else None
    answer: dict[str, Any] = {
        "epoch": live.epoch,
        "since": min(since, live.epoch),
        "done": live.epoch >= epoch or live.ended is not None,
        "ended": None if live.ended is None else told(live.ended),
        "layers": list(live.names),
        "loss": None if last is None else last[0],
        "fun": network.loss(*_training_part(spec)) if live.run is None else live.run.fun,
        "score": _accuracy(live),
        "lr": None if last is None else last[4],
        "nit": live.nit,
        "weights": hashlib.sha256(network.vector.tobytes()).hexdigest()[:16],
        "parameters": int(network.vector.size),
        "seconds": live.seconds,
        "arrays": arrays,
    }
    if since == 0 and spec.validation:
        arrays["held"] = held_out(spec)
    if want.flag("when_done") and not answer["done"]:
        return answer
    window = want.fields("window", {"x": [-1.5, 1.5], "y": [-1.5, 1.5]})
    if want.has("boundary"):
        grid = _grid(window, _size(want, "boundary", LIMITS["pixels"]))
        arrays["boundary"] = _probabilities(live, grid)
        if want.has("unit"):
            arrays["unit"], answer["peak"] = _picture(live, grid, want)
    if want.has("units"):
        size = _size(want, "units", LIMITS["unit_pixels"])
        grid = _grid(want.fields("units_window", window.given), size)
        answer["peaks"] = _pictures(live, grid[0], size, arrays)
    return answer


def held_out(spec: Specification) -> Array:
    """Return which points are held back to validate on, 1 for each of them."""
    mask = np.zeros(len(spec.data.y), np.uint8)
    mask[_parted(spec)[1]] = 1
    return mask


def _training_part(spec: Specification) -> tuple[Array, Array]:
    """Return the points that are trained on, in the order that `Network.fit` has them, and their targets."""
    if not spec.validation:
        return spec.data.X, spec.targets
    rows = _parted(spec)[0]
    return spec.data.X[rows], spec.targets[rows]


def _parted(spec: Specification) -> tuple[Array, Array]:
    """Return the rows that are trained on, and those that are held back."""
    rows = np.arange(len(spec.data.y))[:, None]
    parts = held_back(rows, spec.targets, None, spec.validation, spec.seed, LOSSES[spec.loss]())
    return np.ravel(parts[0][0]), np.ravel(parts[1][0])


def _accuracy(live: Live) -> float:
    """Return the share of all points that are classified rightly."""
    outputs = live.network.outputs(live.spec.data.X)
    said = (outputs[:, 0] > 0).astype(int) if live.spec.outputs == 1 else np.argmax(outputs, axis=1)
    return float(np.mean(said == live.spec.data.y))


def _size(want: Fields, name: str, most: int) -> tuple[int, int]:
    pair = want.list(name, most=2)
    if len(pair) != 2:
        raise InputError(f"{want.name(name)} must be a pair [width, height]")
    size = Fields({"width": pair[0], "height": pair[1]}, want.name(name))
    return size.whole("width", low=2, high=most), size.whole("height", low=2, high=most)


def _grid(window: Fields, size: tuple[int, int]) -> tuple[FloatArray, tuple[int, int]]:
    """Return the middles of the pixels of a window, the lowest row first."""
    lines = []
    for axis, count in zip(("x", "y"), size, strict=True):
        low, high = window.window(axis)
        lines.append(low + (high - low) * (np.arange(count) + 0.5) / count)
    return np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2), size


def _probabilities(live: Live, grid: tuple[FloatArray, tuple[int, int]]) -> Array:
    points, (width, height) = grid
    with np.errstate(all="ignore"):
        outputs = live.network.outputs(points) if live.spec.loss == "mse" else live.network.predict_proba(points)
        p = outputs.reshape(len(points), -1)
        if p.shape[1] == 1:
            p = np.concatenate([1 - p, p], axis=1)
        # in 16 bits: where two classes are nearly as likely over a wide stretch, 8 would make their border jagged
        shown = np.clip(np.nan_to_num(p, nan=0.0), 0.0, 1.0) * FULL
    return np.ascontiguousarray(np.rint(shown).astype(np.uint16).T.reshape(-1, height, width))


def _outputs_of_layers(live: Live, points: FloatArray) -> list[Array]:
    """Return the outputs of each hidden layer after its activation, and those of the last layer."""
    found = list(live.network.activations(points).values())
    return [*found[1:-1:2], found[-1]]


def _scaled(values: Array) -> tuple[Array, float]:
    """Return numbers as bytes, 128 for 0, and the size of the number that 255 stands for."""
    peak = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    return (np.nan_to_num(values / peak, nan=0.0) * 127 + 128).astype(np.uint8), peak


def _picture(live: Live, grid: tuple[FloatArray, tuple[int, int]], want: Fields) -> tuple[Array, float]:
    """Return the picture that one unit, ``want.unit`` = [layer, number], makes of the window."""
    points, (width, height) = grid
    pair = want.list("unit", most=2)
    place = Fields(dict(zip(("layer", "number"), pair, strict=False)), want.name("unit"))
    values = _outputs_of_layers(live, points)
    layer = values[place.whole("layer", high=len(values) - 1)]
    shown, peak = _scaled(layer[:, place.whole("number", high=layer.shape[1] - 1)])
    return np.ascontiguousarray(shown.reshape(height, width)), peak


def _pictures(live: Live, points: FloatArray, size: tuple[int, int], arrays: dict[str, Any]) -> list[float]:
    """Add the picture that each unit makes of the window; return the largest size of a number in each layer."""
    width, height = size
    peaks = []
    for i, values in enumerate(_outputs_of_layers(live, points)):
        shown, peak = _scaled(values)
        arrays[f"units.{i}"] = np.ascontiguousarray(shown.T.reshape(-1, height, width))
        arrays[f"weights.{i}"] = np.asarray(live.network.params[f"{2 * i}.W"], np.float32)
        peaks.append(peak)
    return peaks


def check(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Compare backpropagation with central differences at the weights of an epoch, in float64.

    largest: the largest difference, relative: beside the largest component, at: its name, tolerance: what differences
    can't tell; backprop and numerical: {evaluations, seconds}; components: some of them, [name, backprop, numerical].
    """
    fields = Fields(arguments)
    spec = Specification.read(fields.value("spec"))
    epoch = fields.whole("epoch", 0, 0, LIMITS["epochs"])
    live = _at(spec, epoch, cancelled)
    network, layout = live.network, live.network.layout
    X, y = spec.data.X[:CHECKED_SAMPLES], spec.targets[:CHECKED_SAMPLES]
    vector = network.vector.astype(np.float64)
    POOL.give_back(live)
    criterion = LOSSES[spec.loss]()
    count = 0

    def loss(params: Any) -> Any:
        return criterion(network.apply(params, X, {}, train=False)[0], y)

    def at(parts: Any) -> float:
        nonlocal count
        count += 1
        if count % 64 == 0:
            cancelled()
        moved = vector.copy()
        moved[chosen] = parts
        return float(loss(layout.view(moved)))

    size = vector.size
    chosen = np.arange(size)
    if size > CHECKED:
        chosen = np.sort(np.random.default_rng(0).choice(size, CHECKED, replace=False))
    began = time.perf_counter()
    _, slopes = value_and_grad(loss, method="backprop")(layout.view(vector))
    backprop = np.concatenate([np.ravel(slopes[name]) for name in layout.names or ()])
    between = time.perf_counter()
    estimate = numerical_gradient(at, vector[chosen], method="central")
    ended = time.perf_counter()
    numerical, own = np.asarray(estimate.value), backprop[chosen]
    off = np.abs(numerical - own)
    worst = int(np.argmax(off))
    largest = float(np.abs(own).max(initial=0.0))
    some = np.argsort(-np.abs(own), kind="stable")[:12] if size > 12 else np.arange(size)
    return {
        "epoch": live.epoch,
        "parameters": size,
        "checked": len(chosen),
        "samples": len(X),
        "largest": float(off[worst]),
        "relative": float(off[worst]) / largest if largest else 0.0,
        "at": layout.label(int(chosen[worst])),
        "tolerance": float(np.max(estimate.error)),
        "agrees": bool((off <= 2 * np.asarray(estimate.error) + 1e-8 * (np.abs(own) + largest * 1e-3)).all()),
        "backprop": {"evaluations": 1, "seconds": between - began},
        "numerical": {"evaluations": estimate.nfev, "seconds": ended - between},
        "components": [[layout.label(int(chosen[i])), float(own[i]), float(numerical[i])] for i in some],
    }


def _at(spec: Specification, epoch: int, cancelled: Cancelled) -> Live:
    """Return the training at an epoch, out of the pool; one of more than ten seconds is refused."""
    live = POOL.take(spec, epoch)
    try:
        live.advance(epoch, 10.0, cancelled)
    except BaseException:
        POOL.give_back(live)
        raise
    if live.epoch < epoch and not live.ended:
        POOL.give_back(live)
        raise refused(
            "epoch {epoch} is more than ten seconds away; the training has come to epoch {there}",
            epoch=epoch,
            there=live.epoch,
        )
    return live


def diagnose(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Return `Run.diagnose` of the whole training up to an epoch: code, explanation, evidence and remedy.

    It is run again in one go, for at most eight seconds; epoch: the last one reached.
    """
    fields = Fields(arguments)
    spec = Specification.read(fields.value("spec"))
    epoch = fields.whole("epoch", 1, 1, LIMITS["epochs"])
    lang = fields.word("lang", ("en", "ja"), "en")
    live = Live.begin(spec)
    live.advance(epoch, DIAGNOSED, cancelled)
    if live.run is None:
        raise refused("there is nothing to diagnose: {why}", why=live.ended)
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        found = live.run.diagnose(lang=lang)
    return {
        "epoch": live.epoch,
        "code": found.code,
        "explanation": found.explanation,
        "remedy": None if found.remedy is None else found.remedy.text,
    }


def table_of_epochs(live: Live) -> str:
    """Return what each epoch was like as CSV, in full precision; a column that there is no number for is left out."""
    columns = ("loss", "accuracy", "validation", "validation_accuracy", "lr")
    there = [i for i in range(len(columns)) if any(math.isfinite(row[i]) for row in live.rows)]
    lines = [",".join(["epoch", *(columns[i] for i in there), *(f'"grad_norm {name}"' for name in live.names)])]
    for number, row in enumerate(live.rows):
        norms = live.norms[number].tolist() if live.norms else []
        lines.append(",".join([str(number + 1), *(repr(row[i]) for i in there), *map(repr, norms)]))
    return "\n".join([*lines, ""])


# -- as text ----------------------------------------------------------------------------------------------------------


def as_python(state: Mapping[str, Any]) -> str:
    """Return a script that trains to the same weights, to the bit."""
    spec, epoch = read_state(state)
    stack = []
    given = "" if spec.init == "xavier" else f", init={spec.init!r}"
    for units, activation in spec.layers:
        stack += [f"nn.Dense({units}{given})", f"nn.{ACTIVATIONS[activation].__name__}()"]
    stack.append(f"nn.Dense({spec.outputs}{given})")
    source = list(spec.data.source)
    y = "y"
    if spec.loss == "mse":
        y = f"nn.one_hot(y, {len(spec.data.classes)})"
    options = [f"epochs={epoch}", f"batch_size={spec.batch_size}"]
    if spec.validation:
        options.append(f"validation={spec.validation!r}")
    needs_numpy = any("np." in line for line in source)
    return "\n".join([
        *(["import numpy as np"] if needs_numpy else []),
        "import koubai as kb",
        "from koubai import nn",
        "",
        *source,
        f"network = nn.Network([{', '.join(stack)}], nn.{LOSSES[spec.loss].__name__}(), seed={spec.seed})",
        f"run = network.fit(X, {y}, {optimizer_text(spec.optimizer)}, {', '.join(options)})",
        f"print(run.fun, network.score(X, {y}), run.message)",
        "",
    ])  # fmt: skip


def as_command(state: Mapping[str, Any]) -> str:
    """Return the command that trains to the same weights. Raises InputError for what the command line can't say."""
    spec, epoch = read_state(state)
    if spec.loss == "mse" or spec.init != "xavier":
        raise refused("the command line has neither one-hot targets nor initializers; take Copy as Python")
    items = [str(part) for units, activation in spec.layers for part in (units, activation)] + [str(spec.outputs)]
    rows = [f"{x!r},{y!r},{label}" for (x, y), label in zip(spec.data.X.tolist(), spec.data.y.tolist(), strict=True)]
    if len(set(spec.data.y.tolist())) != len(spec.data.classes):
        raise refused("a class has no point, which a file can't say; take Copy as Python")
    words = [
        f"koubai train points.csv --layers {','.join(items)} --loss {spec.loss}",
        optimizer_words(spec.optimizer),
        f"--epochs {epoch} --batch-size {spec.batch_size} --validation {spec.validation!r} --seed {spec.seed}",
        "--save network.npz --json",
    ]
    return "\n".join(["cat > points.csv <<'END'", "x,y,class", *rows, "END", " ".join(words), ""])


def read_state(state: Mapping[str, Any]) -> tuple[Specification, int]:
    """Read {"spec": …, "epoch": …}."""
    fields = Fields(state, "state")
    return Specification.read(fields.value("spec")), fields.whole("epoch", 0, 0, LIMITS["epochs"])


ASKS = {"csv_columns": _columns_of_csv, "data": data, "train": train, "check": check, "diagnose_training": diagnose}
REPLAYS = {"python": as_python, "command": as_command}
