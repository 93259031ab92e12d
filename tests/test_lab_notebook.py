"""The lab in a notebook: what Python is given, what travels, and what is refused. The page itself: tests/lab."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import koubai as kb
from koubai import lab
from koubai.errors import ExpressionError, InputError, MissingPackageError

notebook = pytest.importorskip(
    "koubai.lab.notebook", reason="the lab in a notebook needs anywidget", exc_type=ImportError
)

HIMMELBLAU = {"problem": "himmelblau"}
SGD = {"name": "SGD", "lr": 0.01}


class Frontend:
    """What a page would be: it sends requests through the widget's handler, and keeps the answers."""

    def __init__(self, widget, channel="a"):
        self.widget, self.channel, self.answers = widget, channel, []
        self.came = threading.Condition()
        widget.send = self._take

    def _take(self, content, buffers=None):
        with self.came:
            self.answers.append((content, bytes(buffers[0])))
            self.came.notify_all()

    def say(self, content):
        self.widget._handle_custom_msg(content, [])

    def ask(self, number, ask, view="v", **arguments):
        self.say(
            {"channel": self.channel, "request": json.dumps({"view": view, "id": number, "ask": ask, **arguments})}
        )

    def headers(self, count, timeout=30.0):
        """Wait for so many answers; return their headers by id, and the arrays."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.answers) >= count, timeout), self.answers
        return [unpacked(data) for _, data in self.answers]


def unpacked(data):
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    arrays = {
        name: np.frombuffer(data, a["dtype"], int(np.prod(a["shape"])), 4 + length + a["offset"]).reshape(a["shape"])
        for name, a in header.get("arrays", {}).items()
    }
    return header, arrays


@pytest.fixture
def room():
    made = []

    def make(*args, **kwargs):
        made.append(lab.descent(*args, **kwargs))
        return made[-1]

    yield make
    for widget in made:
        widget.close()


def test_an_ask_is_answered_with_the_bits_of_the_library(room):
    page = Frontend(room("himmelblau", x0=[-0.5, -0.5], optimizers=[SGD]))
    page.ask(1, "descend", function=HIMMELBLAU, x0=[-0.5, -0.5], optimizers=[SGD], max_steps=50, gtol=0.0)
    [(header, arrays)] = page.headers(1)
    run = kb.minimize(kb.problems["himmelblau"].f, [-0.5, -0.5], lr=0.01, max_steps=50, gtol=0.0)
    assert header["ok"]
    assert header["runs"][0]["x"] == run.x.tolist()
    assert arrays["path.0"].shape == (51, 2)
    assert page.answers[0][0] == {"channel": "a"}


def test_of_one_view_the_newest_wins(room):
    page = Frontend(room())
    wide = {"function": HIMMELBLAU, "window": [[-6, 6], [-6, 6]], "optimizer": SGD, "steps": 1000}
    for number in range(1, 8):
        page.ask(number, "basins", resolution=[400, 400], **wide)
    page.ask(8, "descend", function=HIMMELBLAU, x0=[1, 1], optimizers=[SGD], max_steps=5)
    found = {header["id"]: header for header, _ in page.headers(8)}
    assert found[8]["ok"]
    assert {found[number].get("code") for number in range(1, 8)} == {"superseded"}


def test_views_of_a_widget_are_told_apart(room):
    page = Frontend(room())
    for channel in "abc":
        page.channel = channel
        page.ask(1, "parse", expression="x + y")
    page.headers(3)
    assert sorted(content["channel"] for content, _ in page.answers) == ["a", "b", "c"]
    page.say({"channel": "a", "closed": True})
    for k in range(20):
        page.channel = f"more{k}"
        page.ask(1, "parse", expression="x + y")
        page.headers(4 + k)
    assert len(page.widget._sessions) <= notebook.MOST_CHANNELS


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("{broken", "input"),
        ("[]", "input"),
        (None, "input"),
        ("x" * (2**20 + 1), "input"),
        ('{"view": "v", "id": 1, "ask": "attack"}', "input"),
        ('{"view": "v", "id": 1, "ask": "parse", "expression": "x +"}', "expression"),
        ('{"view": "v", "id": 1, "ask": "descend", "x0": [1]}', "input"),
    ],
)
def test_what_cannot_be_used_is_answered(room, request_, code):
    page = Frontend(room())
    page.say({"channel": "a", "request": request_})
    [(header, _)] = page.headers(1)
    assert (header["ok"], header["code"]) == (False, code)


@pytest.mark.parametrize("content", [None, 3, [], {}, {"channel": 7}, {"channel": "x" * 41, "request": "{}"}])
def test_other_messages_are_left_alone(room, content):
    widget = room()
    widget._handle_custom_msg(content, [])
    assert widget._sessions == {}


def test_a_widget_that_is_closed_stops_what_it_computes(room):
    page = Frontend(room())
    page.ask(
        1, "basins", function=HIMMELBLAU, window=[[-6, 6], [-6, 6]], optimizer=SGD, steps=1000, resolution=[400, 400]
    )
    end = time.monotonic() + 10
    while not page.widget._sessions and time.monotonic() < end:
        threading.Event().wait(0.01)
    [session] = page.widget._sessions.values()
    page.widget.close()
    while page.widget._sessions and time.monotonic() < end:
        threading.Event().wait(0.01)
    assert page.widget._sessions == {}
    assert all(view.running is None or view.running.superseded for view in session.views.values())


def test_the_state_is_read_and_the_runs_are_made_again(room):
    widget = room("x**2/20 + y**2", x0=(-7, 2), optimizers=["sgd", kb.Adam(0.3, beta1=0.8)], max_steps=60)
    state = widget.state
    assert state["function"] == {"expression": "x**2/20 + y**2"}
    assert state["x0"] == [-7.0, 2.0]
    assert state["optimizers"][1] == {"name": "Adam", "lr": 0.3, "beta1": 0.8}
    assert [run["name"] for run in state["runs"]] == ["SGD", "Adam"]
    again = kb.minimize(kb.parse("x**2/20 + y**2"), [-7, 2], kb.Adam(0.3, beta1=0.8), max_steps=60, gtol=1e-6)
    assert state["runs"][1]["x"] == again.x.tolist() == widget.runs()[1].x.tolist()
    assert kb.minimize(widget.specs()[1]).x.tolist() == again.x.tolist()


def test_a_start_that_was_dragged_is_the_state(room):
    widget = room()
    before = widget.state["runs"][0]["x"]
    widget.set_state({"_setting": {**widget._setting, "x0": [3.0, -1.0], "t": None}})  # as the page sends it
    assert widget.state["x0"] == [3.0, -1.0]
    assert widget.state["runs"][0]["x"] != before
    widget.set_state({"_shown": {"rate": "Infinity"}})
    assert widget.state["rate"] == np.inf


def test_an_optimizer_that_is_off_makes_no_run(room):
    widget = room(optimizers=["sgd", "adam"])
    widget.set_state(
        {"_setting": {**widget._setting, "optimizers": [{**SGD, "off": True}, {"name": "Adam", "lr": 0.1}]}}
    )
    assert [run["name"] for run in widget.state["runs"]] == ["Adam"]


def test_it_is_changed_from_python(room):
    widget = room()
    widget.set(x0=np.array([1.0, 2.0]), optimizers="lbfgs", max_steps=30)
    assert widget.state["x0"] == [1.0, 2.0]
    assert widget.state["runs"][0]["name"] == "LBFGS"
    widget.set(function="booth")
    assert widget.state["x0"] == list(kb.problems["booth"].x0)
    with pytest.raises(InputError, match="x1"):
        widget.set(x1=[1, 2])


def test_a_specification_starts_it(room):
    run = kb.minimize(kb.parse("x**2/20 + y**2"), [-7.0, 2.0], kb.Momentum(0.1), max_steps=40, gtol=0.0)
    widget = room(run.spec)
    assert widget.runs()[0].x.tolist() == run.x.tolist()
    assert widget.specs()[0]["optimizer"] == {"name": "Momentum", "lr": 0.1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"function": "sin(x)"}, "2 variables"),
        ({"function": "x + "}, "x \\+"),
        ({"function": lambda x: x}, "catalogue"),
        ({"function": 3}, "catalogue"),
        ({"x0": [1, 2, 3]}, "x0"),
        ({"x0": [1, float("nan")]}, "x0"),
        ({"optimizers": []}, "optimizers"),
        ({"optimizers": ["sgd"] * 13}, "12"),
        ({"optimizers": ["addam"]}, "adam"),
        ({"optimizers": "auto"}, "auto"),
        ({"optimizers": kb.SGD(kb.schedules.exponential(0.1, 0.9))}, "lr must be a number"),
        ({"window": [[1, 0], [0, 1]]}, "window"),
        ({"max_steps": 10**9}, "max_steps"),
        ({"seed": -1}, "seed"),
        ({"view": "globe"}, "view"),
        ({"language": "fr"}, "language"),
        ({"height": 3}, "height"),
    ],
)
def test_what_is_wrong_is_named(given, message):
    with pytest.raises((InputError, ExpressionError), match=message):
        lab.descent(**given)


def test_basins_are_set_and_checked():
    widget = lab.basins("himmelblau", {"name": "SGD", "lr": 0.0235}, steps=300, window=[[-6, 6], [-6, 6]])
    assert widget.state["optimizer"] == {"name": "SGD", "lr": 0.0235}
    assert widget.state["window"] == [[-6.0, 6.0], [-6.0, 6.0]]
    widget.set(steps=100)
    assert widget.state["steps"] == 100
    with pytest.raises(InputError, match="steps"):
        widget.set(steps=0)
    widget.close()


def test_every_module_comes_after_those_it_imports():
    names = [name for name, _ in notebook.modules()]
    assert names[-1] == notebook.ENTRY
    assert len(names) == len(set(names))
    for name, source in notebook.modules():
        folder = notebook.STATIC.joinpath(name).parent
        for imported in notebook.IMPORT.findall(source):
            path = (folder / imported).resolve().relative_to(notebook.STATIC).as_posix()
            assert names.index(path) < names.index(name)
        # what only the page has: files beside a module, its own document
        assert "import.meta" not in source, name
        assert "document.head" not in source, name
        assert "getElementById" not in source, name


def test_the_styles_leave_the_notebook_alone():
    style = notebook._style()
    assert ":root" not in style
    assert "\nbody" not in style
    assert "@media (max-width" not in style


def test_without_anywidget_it_says_what_to_install(tmp_path):
    program = "import sys; sys.modules['anywidget'] = None\nfrom koubai import lab\nlab.descent()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert "the lab in a notebook needs anywidget, which is not installed: pip install anywidget" in done.stderr
    assert MissingPackageError.__name__ in done.stderr
