"""The lessons: each is opened, done as a learner does it, and shows the numbers of the articles."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import koubai as kb
from koubai.errors import InputError
from koubai.lab import descents

PLAN = Path(__file__).parents[2] / "src" / "koubai" / "lab" / "static" / "lessons" / "plan.js"
IDS = re.findall(r'^    id: "(\w+)"', PLAN.read_text("utf-8"), re.M)
STEPS = {"slope": 4, "rounding": 5, "gradient": 5, "walking": 5, "rate": 5, "valleys": 5, "walkers": 5, "network": 5}
STEPS["converge"] = 4
ROUND = {"expression": "x0**2 + x1**2"}


class Learner:
    """A page with a lesson on it."""

    def __init__(self, open_lab, step, **options):
        self.tab = open_lab({"lesson": step}, **options)
        self.page = self.tab.page
        self.at(step)
        self.tab.quiet()

    @property
    def state(self):
        return self.tab.state

    def at(self, step):
        lesson, number = step.split(".")
        self.tab.until(lambda s: s["shown"]["lesson"]["id"] == lesson and s["shown"]["lesson"]["step"] == int(number))

    def done(self):
        """Wait until the step says that it is done; return what it shows."""
        self.tab.until("s => s.shown.lesson?.done && s.shown.lesson.values")
        self.tab.quiet()
        assert self.page.inner_text(".lesson-done").strip()
        values, words = self.page.evaluate(
            "[window.__lab.state.shown.lesson.values, document.querySelector('.lesson-see').innerText]"
        )
        assert all(str(value) in words for value in values.values()), (values, words)
        return values

    def not_done(self):
        assert self.state["shown"]["lesson"]["done"] is False
        assert self.page.inner_text(".lesson-done").strip() == ""

    def next(self, step):
        self.page.click(".lesson-next")
        self.at(step)
        self.tab.quiet()
        self.not_done()

    def type(self, label, text):
        field = self.page.get_by_role("textbox", name=label, exact=True).locator("visible=true")
        field.fill(text)
        field.press("Enter")

    def drag(self, handle, dx, dy):
        box = self.page.locator(handle).first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + dx, y + dy, steps=5)
        self.page.mouse.up()

    def own(self, step, expression, room):
        """The last step: all controls are back, and a function of one's own is taken."""
        self.next(step)
        assert self.page.locator(".lesson-away").count() == 0
        typed = self.page.locator(".typed .line-input")
        if not typed.is_visible():
            self.page.get_by_role("combobox", name="Function").select_option("own")
        typed.fill(expression)
        self.tab.until(lambda s: s[room]["function"]["expression"] == expression and s["shown"]["lesson"]["done"])
        assert self.page.inner_text(".lesson-done").strip()


def test_lesson_1_the_slope_at_a_point(open_lab):
    learner = Learner(open_lab, "slope.1")
    learner.tab.until("s => s.shown.derivative.forward === 475")
    box = learner.page.locator(".handle.small").bounding_box()
    whole = learner.page.locator(".plane").first.bounding_box()
    learner.drag(".handle.small", -0.31 * whole["width"] - box["width"], 0.3 * whole["height"])
    learner.tab.until("s => s.derivative.h < 1")
    learner.type("Step h", "0.01")
    values = learner.done()
    assert values["value"] == repr(kb.derivative(kb.parse("x**3"), 10.0, method="forward", h=0.01).value)
    learner.next("slope.2")
    learner.type("Step h", "1e-4")
    assert learner.done()["value"] == "300.00000000939053"
    assert learner.state["shown"]["derivative"]["central"] == 300.00000000939053
    learner.next("slope.3")
    learner.type("Point x", "0")
    assert learner.done()["value"] == "0.0"
    learner.own("slope.4", "x**3 - 3*x", "derivative")


def test_lesson_2_why_not_h_zero(open_lab):
    learner = Learner(open_lab, "rounding.1")
    learner.type("Step h", "1e-4")
    values = learner.done()
    assert values == {"forward": "4.0001000000078335", "backward": "3.999900000000167", "central": "4.000000000004"}
    learner.next("rounding.2")
    learner.type("Step h", "1e-50")
    assert learner.done()["forward"] == "0.0"
    learner.next("rounding.3")
    handle = learner.page.locator(".vee .handle")
    handle.focus()
    for _ in range(8):
        handle.press("Shift+ArrowLeft")
    learner.done()
    assert learner.state["shown"]["derivative"]["regime"] == "bottom"
    learner.next("rounding.4")
    learner.type("Point x", "3")
    values = learner.done()
    assert float(values["off"].replace("−", "-")) <= float(values["error"].replace("−", "-"))
    learner.own("rounding.5", "sin(x)", "derivative")


def test_lesson_3_from_slope_to_gradient(open_lab):
    learner = Learner(open_lab, "gradient.1")
    learner.drag(".field .handle", 120, 60)
    learner.tab.until("s => s.descent.x0[0] > 1.5")
    assert learner.state["descent"]["x0"][1] == 4  # it is held
    learner.type("x₀", "3")
    assert learner.done()["value"] == "6.0"
    learner.next("gradient.2")
    learner.type("x₁", "4")
    values = learner.done()
    assert (values["a"], values["b"]) == ("6.0", "8.0")
    assert learner.state["shown"]["descent"]["partials"]["g"] == [6.0, 8.0]
    learner.next("gradient.3")
    learner.page.click(".arrow-switch")
    learner.drag(".field .handle", -150, 90)
    learner.done()
    x, g = (learner.state["shown"]["descent"]["partials"][k] for k in ("x", "g"))
    assert g == [2 * x[0], 2 * x[1]]
    learner.next("gradient.4")
    learner.tab.until("s => s.shown.lesson.values?.angle === '0'")
    learner.page.locator(".typed .line-input").fill("x0**2/20 + x1**2")
    assert float(learner.done()["angle"]) > 30
    learner.own("gradient.5", "x**2 + x*y + y**2", "descent")


def test_lesson_4_walking_down(open_lab):
    learner = Learner(open_lab, "walking.1")
    for _ in range(3):
        learner.page.get_by_role("button", name="One step on").click()
    learner.done()
    run = kb.minimize(kb.parse("(x - 1)**2"), -1.4761195622774732, kb.SGD(0.1), max_steps=4, gtol=0.0)
    learner.tab.until(lambda s: s["shown"]["derivative"]["step"]["t"] == 3)
    assert learner.state["shown"]["derivative"]["step"]["x_next"] == run.x
    learner.next("walking.2")
    learner.type("Stop when |f′| ≤", "0.1")
    assert learner.done() == {"n": 18, "x": "0.9553941954480096"}
    learner.next("walking.3")
    learner.page.get_by_role("button", name="Play").click()
    assert learner.done() == {"n": 20, "x": "(0.98847078, 1.97694157)"}
    learner.next("walking.4")
    learner.drag(".field .handle", -180, 120)
    learner.done()
    x = learner.state["shown"]["descent"]["runs"][0]["x"]
    np.testing.assert_allclose(x, [1, 2], atol=1e-6)
    learner.own("walking.5", "x**2 + 3*y**2", "descent")


def test_lesson_5_how_large_a_step(open_lab):
    learner = Learner(open_lab, "rate.1")
    learner.type("Learning rate η", "10")
    learner.done()
    learner.tab.until("s => s.shown.descent.verdict?.code === 'lr_too_large'")
    learner.next("rate.2")
    learner.type("Learning rate η", "1e-10")
    assert learner.done()["x"] == "(−2.99999994, 3.99999992)"
    learner.next("rate.3")
    strip = learner.page.locator(".strip-slider")
    strip.focus()
    for _ in range(60):
        if learner.state["shown"]["lesson"]["done"]:
            break
        rate = learner.state["descent"]["optimizers"][0]["lr"]
        strip.press("ArrowRight")
        learner.tab.until(f"s => s.descent.optimizers[0].lr !== {rate!r} && !s.shown.descent.pending")
    values = learner.done()
    assert (values["bound"], values["curvature"]) == ("1", "2")
    learner.next("rate.4")
    learner.page.get_by_role("button", name="Find the rate").click()
    learner.done()
    found = kb.find_lr(kb.parse(ROUND["expression"]), np.array([-3.0, 4.0]), kb.SGD(0.1))
    assert learner.state["shown"]["descent"]["found"]["lr"] == found.lr
    learner.own("rate.5", "2*x**2 + y**2", "descent")


def test_lesson_6_valleys(open_lab):
    learner = Learner(open_lab, "valleys.1")
    learner.drag(".handle.ball", -300, 0)
    learner.tab.until("s => s.derivative.x0 < 2")
    learner.type("Start x₀", "-0.2")
    learner.done()
    assert learner.state["shown"]["derivative"]["run"]["x"] == pytest.approx(-0.7391363, abs=1e-6)
    learner.next("valleys.2")
    learner.type("Learning rate", "0.14")
    learner.done()
    assert learner.state["shown"]["derivative"]["run"]["x"] == pytest.approx(-1.0574537, abs=1e-6)
    learner.next("valleys.3")
    learner.type("Learning rate", "0.24")
    learner.done()
    assert learner.state["shown"]["derivative"]["run"]["status"] == "max_steps"
    learner.next("valleys.4")
    learner.tab.until("s => s.shown.basins.path?.status === 'converged'")
    learner.drag(".field .handle", 220, 160)
    learner.done()
    learner.own("valleys.5", "x**2/20 + y**2 + 3*sin(x)", "basins")


def test_lesson_7_better_walkers(open_lab):
    learner = Learner(open_lab, "walkers.1")
    for name in ("Momentum", "Adagrad", "RMSprop", "Adam"):
        learner.page.get_by_role("checkbox", name=name, exact=True).check()
    learner.done()
    f = kb.parse("x0**2/20 + x1**2")
    shown = {run["name"]: run["fun"] for run in learner.state["shown"]["descent"]["runs"]}
    assert shown["SGD"] == kb.minimize(f, [-7.0, 2.0], kb.SGD(0.95), max_steps=30, gtol=0.0).fun
    assert shown["Adagrad"] == kb.minimize(f, [-7.0, 2.0], kb.Adagrad(1.5), max_steps=30, gtol=0.0).fun
    learner.next("walkers.2")
    for _ in range(2):
        learner.page.get_by_role("button", name="One step on").click()
    learner.done()
    assert "v_hat" in learner.page.inner_text(".terms")
    learner.next("walkers.3")
    learner.page.get_by_role("button", name="Race", exact=True).click()
    assert learner.done()["budget"] == 100
    learner.next("walkers.4")
    learner.page.get_by_role("radio", name="Keras").check(force=True)
    learner.done()
    runs = learner.state["shown"]["descent"]["runs"]
    for run, rule in zip(runs, (kb.RMSprop(0.1), kb.RMSprop(0.1, semantics="keras")), strict=True):
        assert run["x"] == kb.minimize(f, [-7.0, 2.0], rule, max_steps=60, gtol=0.0).x.tolist()
    learner.own("walkers.5", "x**2/4 + y**2", "descent")
    assert len(learner.state["shown"]["descent"]["runs"]) == 9


def test_lesson_8_a_network_learns(open_lab):
    learner = Learner(open_lab, "network.1")
    learner.drag(".field .handle", 60, -40)
    learner.done()
    x, g = (learner.state["shown"]["descent"]["partials"][k] for k in ("x", "g"))
    np.testing.assert_allclose(g, 2 * sum(x), rtol=1e-12)
    learner.next("network.2")
    learner.page.get_by_role("button", name="Backprop against numerical").click()
    values = learner.done()
    assert values["a"] == 1
    assert values["n"] == 9
    assert values["b"] > 9
    assert learner.state["shown"]["network"]["check"]["largest"] < 1e-8
    learner.next("network.3")
    learner.page.get_by_role("button", name="Train").click()
    learner.tab.until("s => s.network.epoch >= 12", 40)
    learner.page.locator(".diagram .unit").nth(1).click()
    learner.done()
    learner.next("network.4")
    learner.tab.until("s => s.shown.lesson.values")
    tanh = learner.state["shown"]["lesson"]["values"]
    learner.page.get_by_role("combobox", name="Activation").select_option("sigmoid")
    sigmoid = learner.done()
    assert float(sigmoid["ratio"]) > 4 * float(tanh["ratio"])
    learner.next("network.5")
    learner.page.get_by_role("combobox", name="Data").select_option("moons")
    learner.tab.until("s => s.shown.lesson.done")


def test_does_it_converge(open_lab):
    learner = Learner(open_lab, "converge.1")
    learner.page.get_by_role("checkbox", name="Draw what theory guarantees").check()
    assert learner.done() == {"n": 100, "gain": "0.21", "L": "2"}
    told = learner.state["shown"]["descent"]["theory"]
    assert told["holds"] is True
    assert told["least_margin"] >= -1e-12
    learner.next("converge.2")
    learner.type("Learning rate η", "0.5")
    assert learner.done() == {"rate": "0.5", "measured": "0.9025", "factor": "0.95", "classic": "0.95"}
    learner.next("converge.3")
    learner.type("Learning rate η", "1.1")
    values = learner.done()
    assert (values["bound"], values["gain"]) == ("1", "−0.11")
    assert float(values["measured"]) > 1
    learner.own("converge.4", "x**2 + 2*y**2", "descent")


# -- around them ------------------------------------------------------------------------------------------------------


def test_all_nine_are_there():
    assert list(STEPS) == IDS


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("lesson", IDS)
def test_every_step_has_its_words_in_both_languages(open_lab, lesson, lang):
    learner = Learner(open_lab, f"{lesson}.1", locale=lang)
    assert learner.state["shown"]["lesson"]["steps"] == STEPS[lesson]
    for n in range(1, STEPS[lesson] + 1):
        words = learner.page.inner_text(".lesson")
        assert not re.search(r"\b(lessons|shell|descent|basins|derivative|network)\.\w+", words), words
        assert not re.search(r"\{\w+\}", words), words
        if n < STEPS[lesson]:
            learner.page.locator(".lesson-dots button").nth(n).click()
            learner.at(f"{lesson}.{n + 1}")


def test_the_words_of_each_step_are_in_the_catalogues():
    for lang in ("en", "ja"):
        path = PLAN.parents[1] / "text" / f"{lang}.json"
        words = json.loads(path.read_text("utf-8"))["lessons"]
        for lesson, count in STEPS.items():
            steps = [f"s{n}" for n in range(1, count)]
            assert set(words[lesson]) == {"title", "term", "about", "own", *steps}
            assert set(words[lesson]["own"]) == {"read", "do", "done"}
            for step in steps:
                assert set(words[lesson][step]) == {"read", "do", "see", "done"}


def test_the_menu_is_used_by_keyboard(open_lab):
    page = open_lab()
    page.page.locator("#lessons").focus()
    page.page.keyboard.press("Enter")
    assert page.page.locator("dialog.lesson-menu").is_visible()
    page.page.keyboard.press("Escape")
    assert not page.page.locator("dialog.lesson-menu").is_visible()
    page.page.keyboard.press("Enter")
    page.page.locator('[data-lesson="rate"]').focus()
    page.page.keyboard.press("Enter")
    page.until("s => s.shown.lesson?.id === 'rate' && s.room === 'descent'")
    page.page.get_by_role("button", name="Leave the lesson").click()
    page.until("s => !s.shown.lesson && s.lesson === null")
    assert page.page.locator(".lesson-away").count() == 0
    assert page.page.evaluate("document.activeElement.id") == "lessons"


def test_a_reload_returns_to_the_same_step_and_what_was_done(open_lab):
    learner = Learner(open_lab, "rate.1")
    learner.type("Learning rate η", "10")
    learner.done()
    learner.next("rate.2")
    learner.type("Learning rate η", "1e-9")
    learner.tab.settled()
    learner.page.reload()
    learner.tab.until("s => s.ready")
    learner.at("rate.2")
    assert learner.state["descent"]["optimizers"] == [{"name": "SGD", "lr": 1e-9}]
    learner.not_done()
    learner.type("Learning rate η", "1e-10")
    learner.done()
    learner.tab.settled()
    learner.page.reload()
    learner.tab.until("s => s.shown.lesson?.done")
    learner.at("rate.2")


def test_every_state_can_be_undone(open_lab):
    page = open_lab({"descent": {"x0": [-5, 1]}})
    page.until("s => s.shown.descent.runs?.length === 4")
    page.page.click("#lessons")
    page.page.click('[data-lesson="walking"]')
    page.until("s => s.shown.lesson?.id === 'walking' && s.room === 'derivative'")
    page.settled()
    page.page.locator(".lesson-dots button").nth(2).click()
    page.until("s => s.shown.lesson?.step === 3 && s.room === 'descent'")
    page.settled()
    page.page.click("#undo")
    page.until("s => s.shown.lesson?.step === 1 && s.room === 'derivative'")
    page.page.click("#undo")
    page.until("s => !s.shown.lesson && s.room === 'descent'")
    assert page.state["descent"]["x0"] == [-5, 1]


def test_a_link_to_a_step_can_be_undone_to_its_beginning(open_lab):
    learner = Learner(open_lab, "slope.2")
    learner.type("Step h", "1e-4")
    learner.done()
    learner.tab.settled()
    learner.page.click("#undo")
    learner.tab.until("s => s.derivative.h === 0.01 && s.shown.derivative.h === 0.01")
    learner.at("slope.2")
    assert learner.page.locator(".lesson").is_visible()


def test_another_link_is_followed_on_the_same_page(open_lab):
    learner = Learner(open_lab, "rate.3")
    fragment = json.dumps({"koubai": 1, "lesson": "rounding.2"})
    learner.page.evaluate("(f) => { location.hash = encodeURIComponent(f); }", fragment)
    learner.at("rounding.2")
    learner.tab.until("s => s.room === 'derivative' && s.derivative.h === 1e-4 && s.shown.derivative.h === 1e-4")
    assert learner.page.locator(".lesson").count() == 1
    learner.type("Step h", "1e-50")
    learner.done()


def test_the_link_of_a_step_is_copied(open_lab):
    learner = Learner(open_lab, "rate.3", permissions=["clipboard-read", "clipboard-write"])
    learner.page.get_by_role("button", name="Copy link").click()
    learner.tab.sees("document.querySelector('#note').textContent")
    link = learner.page.evaluate("navigator.clipboard.readText()")
    learner.page.goto("about:blank")
    learner.page.goto(link)
    learner.at("rate.3")
    assert learner.tab.until("s => s.ready")["room"] == "descent"


def test_another_room_ends_the_lesson(open_lab):
    learner = Learner(open_lab, "slope.2")
    learner.page.locator("#rooms button").nth(1).click()
    learner.tab.until("s => s.room === 'basins' && s.lesson === null")
    assert learner.page.locator(".lesson").count() == 0
    assert learner.page.locator(".lesson-away").count() == 0


@pytest.mark.parametrize("name", ["rate.9", "nothing.1", "rate.x", "rate", "<b>"])
def test_a_link_to_no_step_does_no_harm(open_lab, name):
    page = open_lab({"lesson": name})
    page.until("s => s.shown.descent.runs?.length >= 1")
    assert (page.page.locator(".lesson").count() == 1) == (name == "rate")


def test_the_language_is_switched_within_a_lesson(open_lab):
    learner = Learner(open_lab, "gradient.2")
    learner.type("x₁", "4")
    learner.done()
    learner.page.click("#lang")
    learner.tab.until("s => s.lang === 'ja'")
    words = learner.page.inner_text(".lesson")
    assert "偏微分と勾配" in words
    assert "∂f/∂x₁ = 8.0" in words
    assert "勾配（gradient）" in learner.page.inner_text(".lesson-done")


@pytest.mark.parametrize("lesson", IDS)
def test_on_a_phone_the_words_are_above_the_field(open_lab, lesson):
    learner = Learner(open_lab, f"{lesson}.1", viewport={"width": 360, "height": 740})
    words, field = (learner.page.locator(s).first.bounding_box() for s in (".lesson", ".field"))
    assert words["y"] + words["height"] <= field["y"] + 1
    assert learner.page.evaluate("document.documentElement.scrollWidth") <= 360


# -- the asks of lessons ----------------------------------------------------------------------------------------------


def wanted():
    pass


def test_partials_are_the_gradient_and_slices_of_f():
    asked = {"function": ROUND, "x": [3, 4], "window": [[-5, 5], [-6, 6]], "count": 11}
    found = descents.ASKS["partials"](asked, wanted)
    assert found["f"] == 25.0
    assert found["g"].tolist() == [6.0, 8.0]
    np.testing.assert_allclose(found["numerical"], [6, 8], rtol=1e-9)
    arrays = found["arrays"]
    np.testing.assert_allclose(arrays["f.0"], arrays["at.0"] ** 2 + 16)
    np.testing.assert_allclose(arrays["f.1"], 9 + arrays["at.1"] ** 2)


@pytest.mark.parametrize(
    "wrong", [{"x": [1]}, {"x": [1, "a"]}, {"x": 3}, {"count": 10**6}, {"function": {"expression": "x"}}]
)
def test_partials_refuse_what_they_cannot_do(wrong):
    asked = {"function": ROUND, "x": [3, 4], "window": [[-5, 5], [-6, 6]], **wrong}
    with pytest.raises(InputError):
        descents.ASKS["partials"](asked, wanted)


def test_theory_is_the_librarys():
    asked = {"function": {"expression": "x**2/20 + y**2"}, "x0": [-7, 2], "optimizer": {"name": "SGD", "lr": 0.5}}
    found = descents.ASKS["theory"]({**asked, "max_steps": 80}, wanted)
    run = kb.minimize(kb.parse("x**2/20 + y**2"), [-7.0, 2.0], kb.SGD(0.5), max_steps=80, gtol=0.0)
    told = run.theory()
    assert (found["L"], found["mu"], found["bound"], found["measured"]) == (
        told.L,
        told.mu,
        told.bound,
        told.measured.value,
    )
    assert found["factor"] == pytest.approx(found["classic"]) == pytest.approx(0.95)
    fun, limit = run.history.fun, found["arrays"]["limit"]
    assert (fun <= limit + 1e-6).all()
    arrays = found["arrays"]
    assert (arrays["fall"] >= arrays["promised"] - 1e-6).all()


def test_theory_promises_nothing_for_rules_without_a_bound():
    asked = {"function": ROUND, "x0": [-3, 4], "optimizer": {"name": "Adam", "lr": 0.1}, "max_steps": 50}
    found = descents.ASKS["theory"](asked, wanted)
    assert found["gain"] is None
    assert found["factor"] is None
    assert "limit" not in found["arrays"]


def test_a_promise_that_is_broken_is_told(open_lab):
    state = {"function": {"expression": "abs(x) + y**2"}, "x0": [-1.2, 1], "optimizers": [{"name": "SGD", "lr": 0.1}]}
    page = open_lab({"descent": {**state, "max_steps": 50, "gtol": 0, "bound": True}})
    assert page.until("s => s.shown.descent.theory")["shown"]["descent"]["theory"]["holds"] is False
    assert "fell short" in page.page.inner_text(".bound")
