"""What the benchmarks share: turns that are fair, one file of results, and the README's chart drawn from it.

    python benchmarks/report.py                redraws docs/speed.png from benchmarks/results.json

``results.json`` holds one section a benchmark, each with the machine, the versions and the date of its own run.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results.json"
CHART = Path(__file__).parents[1] / "docs" / "speed.png"
PACKAGES = (
    "koubai",
    "numpy",
    "llvmlite",
    "numba",
    "jax",
    "optax",
    "torch",
    "scikit-learn",
    "autograd",
    "numdifftools",
    "mpmath",
)


def use_two_cores() -> None:
    """Keep this process on two cores, where the system can: every contender has two threads then.

    Call it before the frameworks are imported, which count the cores as they start.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "2"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


# -- measuring -------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], Any], times: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the mean time of one call in a row of ``times``."""
    start = clock()
    for _ in range(times):
        call()
    return (clock() - start) / times


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    burst: float = 0.01,
    before: Mapping[str, Callable[[], Any]] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds a call of every contender, one figure a round.

    Within a round all take turns, each for about ``burst`` seconds after as many that are not counted, since the
    threads of the one before may still be busy. The order moves on by one from round to round. The figure is the median
    over samples of some 20 µs: a mean would rather tell of the other load of the machine, for which threads that wait
    for each other pay most. A call of more than half a second begins without the calls that are not counted. before:
    what to call when a contender's turn begins. clock: time.thread_time where all contenders work in the thread that
    calls them, and some calls are so short that they fit between two interruptions while others are not.
    """
    expected = {}
    for who, call in calls.items():
        if before is not None and who in before:
            before[who]()
        expected[who] = once = seconds(call, 1)
        if once < 0.1:
            expected[who] = max(min(seconds(call, 1) for _ in range(5)), 1e-7)
    taken: dict[str, list[float]] = {who: [] for who in calls}
    names = list(calls)
    for r in range(rounds):
        for who in names[r % len(names) :] + names[: r % len(names)]:
            if before is not None and who in before:
                before[who]()
            times = max(1, round(20e-6 / expected[who]))
            samples = max(1, int(burst / (times * expected[who])))
            if expected[who] < 0.5:
                seconds(calls[who], times * samples)
            taken[who].append(statistics.median(seconds(calls[who], times, clock) for _ in range(samples)))
    return taken


# -- rows ------------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One work, done by koubai and its peers, all figures from one run.

    figures: a median a contender, in ``unit``. peers: whom ``required`` is about; ``against`` is the best of them.
    ratio: the peer's figure by koubai's, above 1 where koubai is better; None where there is no peer, and ``required``
    bounds koubai's own figure instead. spread: the quartiles of the ratio over the rounds.
    """

    table: str
    work: str
    figures: dict[str, float]
    peers: tuple[str, ...] = ()
    required: float | None = None
    unit: str = "s"
    note: str = ""
    spread: tuple[float, float] | None = None
    against: str | None = field(init=False)
    ratio: float | None = field(init=False)
    holds: bool | None = field(init=False)

    def __post_init__(self) -> None:
        own = self.figures["koubai"]
        self.against = self.ratio = self.holds = None
        if self.peers:
            rising = self.unit == "GB/s"
            self.against = (max if rising else min)(self.peers, key=self.figures.__getitem__)
            ratio = self.figures[self.against] / own
            self.ratio = 1 / ratio if rising else ratio
        if self.required is not None:
            self.holds = self.ratio >= self.required if self.ratio is not None else own <= self.required

    @classmethod
    def of(
        cls, table: str, work: str, taken: Mapping[str, Sequence[float]], peers: Sequence[str] = (),
        required: float | None = None, note: str = "",
    ) -> Row:  # fmt: skip
        """Make a row of the rounds that `take_turns` returned."""
        medians = {who: statistics.median(values) for who, values in taken.items()}
        row = cls(table, work, medians, tuple(peers), required, note=note)
        if row.against is not None:
            ratios = [peer / own for peer, own in zip(taken[row.against], taken["koubai"], strict=True)]
            low, _, high = statistics.quantiles(ratios, n=4)
            row.spread = low, high
        return row

    def __str__(self) -> str:
        verdict = "" if self.holds is None else "holds" if self.holds else "SHORT"
        if self.ratio is not None:
            ratio = f"{self.ratio:.3g}×"
            between = "" if self.spread is None else "[{:.3g} … {:.3g}]".format(*self.spread)
            least = "" if self.required is None else f"≥ {self.required:.3g}×"
            ratio = f"{ratio:>7} {between:<15} {least:<8} {self.against}"
        else:
            ratio = "" if self.required is None else f"≤ {shown(self.required, self.unit)}"
        figures = ", ".join(f"{who} {shown(value, self.unit)}" for who, value in self.figures.items())
        text = f"  {verdict:5}  {self.work:30}  {ratio:52}  {figures}"
        return f"{text}  [{self.note}]" if self.note else text


def shown(value: float, unit: str) -> str:
    """Return a figure as a person reads it: 3.2 µs, 71 GB/s."""
    if unit != "s":
        return f"{value:.3g} {unit}"
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value / 1e-9:.3g} ns"


# -- the file --------------------------------------------------------------------------------------------------------


def processor() -> str:
    """Return the processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        flags = next(line.split() for line in lines if line.startswith("flags"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
    vectors = [flag for flag in ("avx2", "avx512f") if flag in flags]
    return f"{name} ({', '.join(vectors)})" if vectors else name


def about() -> dict[str, Any]:
    """Return where, when and with what this run takes place."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": processor(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "cores used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "load at the start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        },
        "versions": versions,
    }


def headline(where: Mapping[str, Any]) -> str:
    """Return the two lines that stand over a table."""
    machine = ", ".join(f"{key} {value}" for key, value in where["machine"].items())
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return f"{where['date']}  {machine}\n{versions}"


def save(section: str, where: Mapping[str, Any], rows: Sequence[Row | Mapping[str, Any]]) -> None:
    """Put the rows of one benchmark into the file of results, in place of its last run's; the rest stays."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    plain = [asdict(row) if isinstance(row, Row) else dict(row) for row in rows]
    results[section] = {**where, "rows": plain}
    text = json.dumps(_rounded(results), indent=1, ensure_ascii=False, allow_nan=False)
    draft = RESULTS.with_suffix(".tmp")
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(RESULTS)


def _rounded(value: Any) -> Any:
    """Return ``value`` with its floats at four digits, and null for NaN, which JSON does not know."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value


# -- the chart -------------------------------------------------------------------------------------------------------

# The works shown, as the rows of results.json name them, and in the words of the chart.
SHOWN = {
    "1000 steps, 2-D, in the calling thread's processor time": {
        "quad, compiled": "1000 steps on a quadratic, compiled before",
        "quad, a later step of minimize": "a step of minimize on a quadratic, after 10,000",
        "quad, a whole minimize": "1000 steps by minimize on a quadratic, a later call",
        "rosenbrock, compiled": "1000 steps on Rosenbrock, compiled before",
        "rosenbrock, a later step of minimize": "a step of minimize on Rosenbrock, after 10,000",
        "rosenbrock, a whole minimize": "1000 steps by minimize on Rosenbrock, a later call",
    },
    "1000 steps, 2-D, from a cold function": {
        "quad": "1000 steps on a quadratic, the first call",
        "rosenbrock": "1000 steps on Rosenbrock, the first call",
    },
    "value and gradient, NumPy in and out": {
        "Rosenbrock n=10000": "value and gradient, Rosenbrock, 10,000-D",
        "Rosenbrock n=1e+06": "value and gradient, Rosenbrock, 1,000,000-D",
        "log-sum-exp n=10000": "value and gradient, log-sum-exp, 10,000-D",
    },
    "many descents on Himmelblau's function, 200 steps each, 2 threads": {
        "plain, 1e+06 starts": "1,000,000 descents × 200 steps, plain",
        "Adam, 1e+06 starts": "1,000,000 descents × 200 steps, Adam",
    },
    "one optimizer step, float32, on two cores": {
        "Adam n=1000": "an Adam step, 1000 parameters",
        "Adam n=1e+07": "an Adam step, 10,000,000 parameters",
    },
}


def chart() -> Figure:
    """Return the chart: how many times as fast as each peer koubai is, one point a peer and work, 1 in plain sight."""
    from matplotlib.figure import Figure
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import LogLocator, NullLocator

    from koubai.plot import style

    looks = {"jax": ("JAX", style.CURVE, "o"), "numba": ("numba, by hand", style.PATH, "s")}
    looks["torch"] = ("PyTorch", style.END, "D")
    native = json.loads(RESULTS.read_text(encoding="utf-8"))["native"]
    labels: list[str] = []
    points: dict[str, list[tuple[float, int]]] = {family: [] for family in looks}
    for table, works in SHOWN.items():
        for work, label in works.items():
            medians = next(row["figures"] for row in native["rows"] if row["table"] == table and row["work"] == work)
            labels.append(label)
            for family, at in points.items():
                best = min((value for who, value in medians.items() if who.startswith(family)), default=None)
                if best is not None:
                    at.append((best / medians["koubai"], len(labels) - 1))
    figure = Figure(figsize=(10, 0.38 * len(labels) + 1.3), layout="constrained")
    ax = figure.add_subplot()
    ax.set_xscale("log")
    for y in range(len(labels)):
        ax.axhline(y, color="#E0E0E0", linewidth=0.8, zorder=0)
    ax.axvline(1, color=style.DARK, linewidth=1.2, zorder=1)
    for family, at in points.items():
        name, colour, marker = looks[family]
        x, y = zip(*at, strict=True)
        ax.scatter(x, y, s=52, c=colour, marker=marker, edgecolors=style.DARK, linewidths=0.8, label=name, zorder=3)
    ratios = [ratio for at in points.values() for ratio, _ in at]
    low, high = min(0.5, 0.2 * min(ratios)), max(2, 2.5 * max(ratios))
    ax.set_xlim(low, high)
    room = math.log10(high / low) / 8  # of a label, in decades
    for ratio, row in ((ratio, row) for at in points.values() for ratio, row in at):
        # beside its mark: on the side that leads away from the line at 1, unless another mark of its row is there
        others = [math.log10(other / ratio) for at in points.values() for other, its in at if its == row]
        side = -1 if ratio < 1 else 1
        if any(0 < side * distance < room for distance in others):
            side = -side
        ax.annotate(
            f"{style.number(ratio, 2)}×", (ratio, row), (8 * side, 0), textcoords="offset points", va="center",
            ha="left" if side > 0 else "right", fontsize="x-small", parse_math=False,
            path_effects=[Stroke(linewidth=2, foreground=style.LIGHT), Normal()],
        )  # fmt: skip
    ax.set_ylim(len(labels) - 0.5, -0.7)
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    decades = math.log10(max(ratios) / min(ratios))
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    ax.xaxis.set_minor_locator(NullLocator())
    for side_of_axes in ("top", "right", "left"):
        ax.spines[side_of_axes].set_visible(False)
    ax.set_xlabel("koubai is so many times as fast (log scale); left of the line, slower")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    machine, versions = native["machine"], native["versions"]
    names = ", ".join(f"{name} {versions[name]}" for name in ("jax", "numba", "torch", "numpy"))
    figure.supxlabel(
        f"{machine['processor']}, {machine['cores used']} cores; {names}; {native['date'][:10]}; make bench",
        fontsize="x-small", color="#555555", parse_math=False,
    )  # fmt: skip
    return figure


def draw_chart() -> None:
    """Draw `chart` into `CHART`."""
    chart().savefig(CHART, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    draw_chart()
