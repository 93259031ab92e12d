"""The derivative bench in the browser: what is dragged and typed changes the numbers, and they are the library's."""

import json
import shlex
import subprocess
import sys

import pytest

import koubai as kb

ROOM = "derivative"
CUBE = {"room": ROOM, "derivative": {"function": {"expression": "x**3"}, "x": 10, "h": 1e-4, "window": [-2, 14]}}


def here(**values):
    return {"room": ROOM, ROOM: values}


def of(state):
    return state["shown"][ROOM]


def test_the_numbers_of_the_lesson(open_lab):
    lab = open_lab(CUBE)
    shown = of(lab.until(lambda s: of(s)["h"] == 1e-4))
    assert shown["central"] == 300.00000000939053
    assert lab.page.locator("tr.central td.value").inner_text() == "300.00000000939053"
    lab.page.evaluate("window.__lab.store.set('derivative', {function: {expression: 'x**2'}, x: 2})")
    lab.until(lambda s: of(s)["x"] == 2)
    texts = [lab.page.locator(f"tr.{m} td.value").inner_text() for m in ("forward", "backward", "central")]
    assert texts == ["4.0001000000078335", "3.999900000000167", "4.000000000004"]


def test_h_is_dragged_until_the_secant_is_the_tangent(open_lab):
    lab = open_lab(here(function={"expression": "x**2"}, x=1, h=2, window=[-4, 4]))
    lab.until(lambda s: of(s)["h"] == 2)
    end = lab.page.get_by_role("slider", name="End of the secant")
    box = end.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.page.mouse.move(x, y)
    lab.page.mouse.down()
    for k in range(1, 12):
        lab.page.mouse.move(x - 15 * k, y)
    lab.page.mouse.up()
    shown = of(lab.until(lambda s: s["derivative"]["h"] < 1 and of(s)["h"] == s["derivative"]["h"]))
    assert shown["x"] == 1
    assert shown["forward"] == kb.derivative(kb.parse("x**2"), 1.0, method="forward", h=shown["h"]).value
    lab.page.get_by_role("textbox", name="Step h").fill("1e-50")
    shown = of(lab.until(lambda s: of(s)["h"] == 1e-50))
    assert shown["forward"] == 0.0
    assert shown["rounds"]
    assert "x + h is x itself" in lab.page.locator(".verdict").inner_text()


def test_x_moves_by_pointer_and_by_keyboard(open_lab):
    lab = open_lab(here(x=1, h=0.5))
    lab.until(lambda s: of(s)["x"] == 1)
    dot = lab.page.get_by_role("slider", name="Point x")
    box = dot.bounding_box()
    lab.page.mouse.move(box["x"] + 22, box["y"] + 22)
    lab.page.mouse.down()
    lab.page.mouse.move(box["x"] + 122, box["y"] + 22, steps=5)
    lab.page.mouse.up()
    state = lab.until(lambda s: s["derivative"]["x"] > 2 and of(s)["x"] == s["derivative"]["x"])
    dot.focus()
    lab.page.keyboard.press("ArrowLeft")
    after = lab.until(lambda s: s["derivative"]["x"] < state["derivative"]["x"])
    assert after["derivative"]["x"] == pytest.approx(state["derivative"]["x"] - 0.05)


def test_the_v_has_its_bottom_where_theory_says(open_lab):
    lab = open_lab(here(function={"expression": "sin(x)"}, x=1, h=1e-8))
    shown = of(lab.until(lambda s: of(s)["best"] and of(s)["regime"] == "bottom"))
    assert shown["best"]["forward"]["h"] == pytest.approx(2**-26)
    assert abs(shown["adaptive"] - shown["exact"]) <= shown["adaptive_error"]
    lab.page.get_by_role("slider", name="Step h on the error curve").focus()
    lab.page.keyboard.press("ArrowRight")
    lab.until(lambda s: s["derivative"]["h"] > 1e-8)


def test_a_wrong_function_says_where_and_loses_nothing(open_lab):
    lab = open_lab(CUBE)
    before = of(lab.until(lambda s: of(s)["central"]))["central"]
    typed = lab.page.locator(".line-input")
    typed.fill("x**3 +* 2")
    lab.until(lambda s: of(s)["complaint"])
    assert "^" in lab.page.locator(".caret").inner_text()
    assert of(lab.state)["central"] == before
    assert lab.state["derivative"]["function"] == {"expression": "x**3"}
    typed.fill("x**3 + 2")
    state = lab.until(lambda s: s["derivative"]["function"] == {"expression": "x**3 + 2"} and not of(s)["complaint"])
    assert state["derivative"]["x"] == 10


def test_the_descent_of_the_article(open_lab):
    start = -1.4761195622774732
    lab = open_lab(
        here(
            function={"problem": "parabola"}, window=[-5, 7], tab="descent", x0=start, max_steps=100, gtol=0.1, t=18,
            optimizer={"name": "SGD", "lr": 0.1},
        )
    )  # fmt: skip
    run = of(lab.until(lambda s: of(s)["run"]["status"] == "converged"))["run"]
    assert (run["nit"], run["x"]) == (18, 0.9553941954480096)
    lab.page.get_by_role("button", name="To the start").click()
    step = of(lab.until(lambda s: of(s)["step"]["t"] == 0))["step"]
    assert step["x"] == start
    assert step["x_next"] == start - 0.1 * step["g"]
    lab.page.get_by_role("button", name="One step on").click()
    lab.until(lambda s: of(s)["step"]["t"] == 1)


def test_valleys_and_their_shares(open_lab):
    lab = open_lab(
        here(
            function={"problem": "two_sines"}, window=[2.7, 7.5], x0=6.4, tab="descent",
            optimizer={"name": "SGD", "lr": 0.02},
        )
    )  # fmt: skip
    shown = of(lab.until(lambda s: len(of(s)["minima"]) == 3))
    assert 0.3 < shown["lowest"] < 0.6
    before = of(lab.until(lambda s: of(s)["run"]["nit"] == 60))["run"]["x"]
    assert before == pytest.approx(7.0, abs=1e-3)
    ball = lab.page.get_by_role("slider", name="Start of the descent")
    box = ball.bounding_box()
    lab.page.mouse.move(box["x"] + 22, box["y"] + 22)
    lab.page.mouse.down()
    lab.page.mouse.move(box["x"] - 100, box["y"] + 22, steps=5)
    lab.page.mouse.up()
    lab.until(lambda s: abs(of(s)["run"]["x"] - 5.1457) < 1e-2)


def test_copied_python_ends_at_the_same_x(open_lab):
    lab = open_lab(
        here(
            function={"problem": "double_well"}, window=[-2, 2], x0=1.8, tab="code", max_steps=40,
            optimizer={"name": "Adam", "lr": 0.1},
        )
    )  # fmt: skip
    lab.page.get_by_role("button", name="Copy as Python").click()
    text = of(lab.until(lambda s: of(s)["python"]))["python"]
    lab.page.get_by_role("tab", name="Descent").click()
    x = of(lab.until(lambda s: of(s)["run"]["nit"] == 40))["run"]["x"]
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=120)
    assert repr(x) in done.stdout
    lab.page.get_by_role("tab", name="Take it away").click()
    lab.page.get_by_role("button", name="Copy as command").click()
    *_, command = of(lab.until(lambda s: of(s)["command"]))["command"].splitlines()
    call = "import sys; from koubai.cli import main; sys.argv = sys.argv[1:]; main()"
    done = subprocess.run(
        [sys.executable, "-c", call, *shlex.split(command)], capture_output=True, text=True, timeout=120
    )
    assert json.loads(done.stdout)["x"] == x


def test_language_and_reload(open_lab):
    lab = open_lab(CUBE)
    lab.until(lambda s: of(s)["central"])
    lab.page.get_by_role("button", name="日本語").click()
    lab.until(lambda s: s["lang"] == "ja")
    assert "差分" in lab.page.locator(".verdict").inner_text()
    assert lab.page.get_by_role("tab", name="傾き").is_visible()
    lab.page.get_by_role("tab", name="降下").click()
    lab.page.evaluate("window.__lab.store.flush()")
    state = lab.state
    lab.page.reload()
    again = lab.until(lambda s: s and s["ready"] and of(s)["central"])
    assert again["derivative"] == state["derivative"]
    assert again["lang"] == "ja"
