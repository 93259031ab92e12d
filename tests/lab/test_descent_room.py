"""The descent room: the numbers on the page are the library's, to the bit."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
from running import environment

import koubai as kb

RUNS = "s => s.shown.descent.runs?.length"
OWN = {"descent": {"function": {"expression": "x**2/20 + y**2 + 0.3*sin(2*x)"}, "x0": [-5.5, 2.25]}}


def same_runs(page, f):
    """Compare what the page shows with descents made here."""
    state = page.until("s => s.shown.descent.pending === false")
    own, shown = state["descent"], state["shown"]["descent"]
    assert shown["x0"] == own["x0"]
    for run in shown["runs"]:
        given = {k: v for k, v in own["optimizers"][run["slot"]].items() if k not in ("name", "off")}
        optimizer = getattr(kb, own["optimizers"][run["slot"]]["name"])(**given)
        here = kb.minimize(f, own["x0"], optimizer, max_steps=own["max_steps"], gtol=own["gtol"])
        assert run["x"] == here.x.tolist()
        assert run["fun"] == here.fun
        assert run["nit"] == here.nit


def drag(page, dx, dy):
    box = page.page.locator(".handle").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x + dx, y + dy, steps=5)
    page.page.mouse.up()


def test_it_opens_with_four_descents_of_the_library(open_lab):
    page = open_lab()
    page.until(RUNS)
    same_runs(page, kb.problems["elongated_bowl"].f)


def test_dragging_the_start_moves_every_path(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.runs?.length === 4")
    before = page.shown("descent")["runs"]
    drag(page, 160, -90)
    page.until("s => s.shown.descent.x0[0] > -5 && s.shown.descent.x0[0] === s.descent.x0[0]")
    after = page.shown("descent")["runs"]
    assert all(a["x"] != b["x"] for a, b in zip(after, before, strict=True))
    same_runs(page, kb.problems["elongated_bowl"].f)


def test_the_start_is_moved_by_keys(open_lab):
    page = open_lab()
    page.until(RUNS)
    page.page.locator(".handle").first.focus()
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowRight"):
        page.page.keyboard.press(key)
    page.until("s => s.descent.x0[0] > -7 && s.descent.x0[1] > 2 && s.shown.descent.x0[0] === s.descent.x0[0]")
    same_runs(page, kb.problems["elongated_bowl"].f)


def test_a_function_is_typed(open_lab):
    page = open_lab()
    page.until(RUNS)
    page.page.get_by_role("combobox", name="Function").select_option("own")
    field = page.page.locator(".line-input")
    field.fill("x**2 + 2*y**2 + 0.5*sin(3*x)")
    page.until("s => s.descent.function.expression === 'x**2 + 2*y**2 + 0.5*sin(3*x)'")
    page.until("s => s.shown.descent.runs.some((r) => Math.abs(r.x[1]) < 10)")
    same_runs(page, kb.parse("x**2 + 2*y**2 + 0.5*sin(3*x)"))


def test_a_wrong_function_is_told_under_the_caret_and_nothing_is_lost(open_lab):
    page = open_lab(OWN)
    page.until(RUNS)
    before = page.shown("descent")["runs"]
    field = page.page.locator(".line-input")
    field.fill("x**2/20 + y** * 0.3")
    page.until("s => s.shown.descent.complaint?.message")
    complaint = page.shown("descent")["complaint"]
    start, end = complaint["position"]
    assert 0 <= start < end <= len("x**2/20 + y** * 0.3") + 1
    assert complaint["message"] in page.page.inner_text(".complaint")
    assert field.get_attribute("aria-invalid") == "true"
    assert page.shown("descent")["runs"] == before
    assert page.state["descent"]["function"] == OWN["descent"]["function"]
    # what was typed survives a visit to another room
    page.page.locator("#rooms button").nth(1).click()
    page.until("s => s.room === 'basins'")
    page.page.locator("#rooms button").nth(0).click()
    page.until("s => s.shown.descent.complaint?.message")
    assert page.page.locator(".line-input").input_value() == "x**2/20 + y** * 0.3"
    page.page.locator(".line-input").fill("x**2/20 + y**2")
    page.until("s => !s.shown.descent.complaint && s.descent.function.expression === 'x**2/20 + y**2'")


def test_optimizers_are_toggled_added_and_removed(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.runs?.length === 4")
    page.page.get_by_role("checkbox", name="Momentum").uncheck()
    page.until("s => s.shown.descent.runs.length === 3")
    assert [r["slot"] for r in page.shown("descent")["runs"]] == [0, 2, 3]
    page.page.get_by_role("checkbox", name="Momentum").check()
    page.until("s => s.shown.descent.runs.length === 4")
    page.page.get_by_role("combobox", name="Add").select_option("LBFGS")
    page.until("s => s.shown.descent.runs.length === 5")
    assert page.shown("descent")["chosen"] == "LBFGS"
    page.page.get_by_role("button", name="Remove LBFGS").click()
    page.until("s => s.shown.descent.runs.length === 4")


def test_the_rate_is_set_by_number_and_by_the_strip(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.rates?.bound")
    assert page.shown("descent")["rates"]["bound"] == 1.0
    rate = page.page.get_by_role("textbox", name="Learning rate η")
    rate.fill("0.5")
    page.until("s => s.shown.descent.rate === 0.5")
    strip = page.page.locator(".strip-slider")
    strip.focus()
    page.page.keyboard.press("ArrowRight")
    page.until("s => s.shown.descent.rate > 0.5 && s.shown.descent.rate < 0.6")
    box = strip.bounding_box()
    page.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 30)
    page.until("s => s.shown.descent.rate < 0.2")
    same_runs(page, kb.problems["elongated_bowl"].f)


def test_every_hyperparameter_can_be_set(open_lab):
    page = open_lab({"descent": {"chosen": 3}})
    page.until(RUNS)
    beta = page.page.get_by_role("textbox", name="β₁")
    beta.fill("0.5")
    page.until("s => s.descent.optimizers[3].beta1 === 0.5")
    page.page.get_by_text("All hyperparameters").click()
    page.page.get_by_role("checkbox", name="amsgrad").check()
    page.until("s => s.descent.optimizers[3].amsgrad === true")
    page.page.get_by_role("radio", name="Keras").check(force=True)
    page.until("s => s.descent.optimizers[3].semantics === 'keras'")
    same_runs(page, kb.problems["elongated_bowl"].f)


def test_the_verdict_is_the_librarys_and_its_fix_helps(open_lab):
    page = open_lab({"descent": {"optimizers": [{"name": "SGD", "lr": 1.1}], "max_steps": 300}})
    page.until("s => s.shown.descent.verdict?.code")
    verdict = page.shown("descent")["verdict"]
    run = kb.minimize(kb.problems["elongated_bowl"].f, [-7.0, 2.0], kb.SGD(1.1), max_steps=300, gtol=1e-6)
    found = run.diagnose()
    assert (verdict["code"], verdict["title"]) == (found.code, found.title)
    assert found.explanation[1:] in page.page.inner_text(".verdict")
    page.page.get_by_role("button", name="Try the fix").click()
    page.until("s => s.shown.descent.fix?.helped && s.shown.descent.verdict.code === 'converged'")
    assert page.state["descent"]["optimizers"][0]["lr"] == 0.5
    same_runs(page, kb.problems["elongated_bowl"].f)


def test_a_fix_by_bounds_is_applied_drawn_kept_and_copied(open_lab, tmp_path):
    falling = {"function": {"expression": "y**2 - x"}, "x0": [1, 1], "optimizers": [{"name": "SGD", "lr": 0.1}]}
    page = open_lab({"descent": {**falling, "window": [[-12, 12], [-2, 2]], "panel": "share"}})
    page.until("s => s.shown.descent.verdict?.code === 'unbounded'")
    canvas = "[...document.querySelectorAll('.field canvas')].map((c) => c.toDataURL()).join()"
    before = page.page.evaluate(canvas)
    assert not page.page.locator(".bounds").is_visible()
    page.page.get_by_role("button", name="Try the fix").click()
    page.until("s => s.shown.descent.fix?.helped && s.shown.descent.verdict.code === 'converged'")
    assert page.state["descent"]["bounds"] == [[-10, 10], [-10, 10]]
    assert "x₀ in [−10, 10]" in page.page.inner_text(".bounds")
    page.quiet()
    assert page.page.evaluate(canvas) != before
    run = kb.minimize(kb.parse("y**2 - x"), [1.0, 1.0], lr=0.1, bounds=[(-10, 10), (-10, 10)], max_steps=200, gtol=1e-6)
    assert page.shown("descent")["runs"][0]["x"] == run.x.tolist()
    # a hand can't drag the start out of the box
    drag(page, -600, 0)
    page.until("s => s.descent.x0[0] === -10 && s.shown.descent.x0[0] === -10")
    page.page.click("#undo")
    page.until("s => s.shown.descent.x0[0] === 1")
    page.settled()
    page.page.reload()
    page.until("s => s.ready && s.descent.bounds?.[0][0] === -10")
    page.until("s => s.shown.descent.python?.includes('bounds=')")
    script = page.shown("descent")["python"]
    done = subprocess.run(
        [sys.executable, "-c", script + "print(run.x.tolist())"],
        capture_output=True, text=True, check=True, env=environment(tmp_path),
    )  # fmt: skip
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == run.x.tolist()
    page.page.get_by_role("button", name="Copy as command").click()
    page.until("s => s.shown.descent.command?.includes('--bounds=-10.0,10.0 --bounds=-10.0,10.0')")
    page.page.get_by_role("button", name="Remove the bounds").click()
    page.until("s => s.descent.bounds === null && s.shown.descent.verdict?.code === 'unbounded'")


def test_on_a_japanese_page_what_is_wrong_is_said_in_japanese(open_lab):
    page = open_lab(OWN, locale="ja-JP")
    page.until(RUNS)
    page.page.locator(".line-input").fill("x^2 + y")
    page.until("s => s.shown.descent.complaint?.message.includes('べき乗は ** と書いてください')")
    page.page.click("#lang")
    page.until("s => s.shown.descent.complaint?.message.includes('write ** for a power')")


def test_a_seek_by_hand_can_be_undone(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.total === 200")
    page.page.get_by_role("button", name="To the start").click()
    page.until("s => s.descent.t === 0")
    page.settled()
    page.page.get_by_role("button", name="One step on").click()
    page.settled()
    page.page.click("#undo")
    page.until("s => s.descent.t === 0")
    page.page.click("#undo")
    page.until("s => s.descent.t === null")
    assert page.page.locator("#undo").is_disabled()


def test_the_rate_is_found(open_lab):
    page = open_lab()
    page.until(RUNS)
    page.page.get_by_role("button", name="Find the rate").click()
    page.until("s => s.shown.descent.found?.lr")
    here = kb.find_lr(kb.problems["elongated_bowl"].f, np.array([-7.0, 2.0]), kb.SGD(0.95))
    assert page.shown("descent")["found"]["lr"] == here.lr


def test_playing_stepping_back_and_resetting(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.total === 200")
    page.page.get_by_role("button", name="To the start").click()
    page.until("s => s.descent.t === 0")
    page.page.get_by_role("button", name="One step on").click()
    page.page.get_by_role("button", name="One step on").click()
    page.until("s => s.descent.t === 2")
    page.page.get_by_role("button", name="One step back").click()
    page.until("s => s.descent.t === 1")
    page.page.get_by_role("combobox", name="Steps a second").select_option("300")
    page.page.get_by_role("button", name="Play").click()
    page.until("s => s.descent.t === 200")


def test_a_step_is_told(open_lab):
    page = open_lab({"descent": {"panel": "step", "chosen": 3, "t": 3}})
    page.until("s => s.shown.descent.step?.t === 3")
    step = page.shown("descent")["step"]
    run = kb.minimize(kb.problems["elongated_bowl"].f, [-7.0, 2.0], kb.Adam(0.3), max_steps=4, gtol=0.0)
    assert step["x_next"] == run.x.tolist()
    assert [term["name"] for term in step["terms"]][-1] == "x"
    assert "m_hat" in page.page.inner_text(".terms")


def test_a_race_has_one_budget(open_lab):
    page = open_lab({"descent": {"panel": "race", "budget": 150}})
    page.until(RUNS)
    page.page.get_by_role("button", name="Race", exact=True).click()
    page.until("s => s.shown.descent.race?.winner")
    race = page.shown("descent")["race"]
    assert race["budget"] == 150
    assert len(race["table"]) == 4
    assert "150 evaluations each" in page.page.inner_text(".panels")


def test_the_surface_is_shown_and_turned(open_lab):
    page = open_lab({"descent": {"view": "surface"}})
    page.until(RUNS)
    before = page.shown("descent")["x0"]
    box = page.page.locator(".surface").bounding_box()
    page.page.mouse.move(box["x"] + 200, box["y"] + 300)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.page.mouse.up()
    assert page.state["descent"]["x0"] == before
    handle = page.page.locator(".surface .handle").bounding_box()
    page.page.mouse.move(handle["x"] + 22, handle["y"] + 22)
    page.page.mouse.down()
    page.page.mouse.move(handle["x"] + 82, handle["y"] + 32, steps=4)
    page.page.mouse.up()
    page.until(f"s => s.shown.descent.x0[0] !== {before[0]} && s.shown.descent.x0[0] === s.descent.x0[0]")
    same_runs(page, kb.problems["elongated_bowl"].f)
    # far out of the picture it stays at the edge of what is drawn
    handle = page.page.locator(".surface .handle").bounding_box()
    page.page.mouse.move(handle["x"] + 22, handle["y"] + 22)
    page.page.mouse.down()
    for x, y in ((40, 300), (5, 790), (900, 60), (1270, 780)):
        page.page.mouse.move(x, y, steps=6)
        (low_x, high_x), (low_y, high_y) = page.shown("descent")["field"]["window"]
        x0 = page.state["descent"]["x0"]
        assert low_x <= x0[0] <= high_x
        assert low_y <= x0[1] <= high_y
    page.page.mouse.up()
    assert page.page.locator(".surface .handle").is_visible()


def test_the_address_gives_the_same_page_again(open_lab):
    page = open_lab(OWN)
    page.until(RUNS)
    drag(page, 60, 40)
    page.page.get_by_role("checkbox", name="Adagrad").uncheck()
    page.page.locator("#lang").click()
    page.until("s => s.shown.descent.runs.length === 3 && s.lang === 'ja'")
    page.settled()
    page.until("s => s.shown.descent.x0[0] === s.descent.x0[0]")
    before = page.state
    page.page.reload()
    page.until("s => s.ready")
    page.until("s => s.shown.descent.runs?.length === 3")
    after = page.state
    assert after["descent"] == before["descent"]
    assert after["lang"] == "ja"
    assert after["shown"]["descent"]["runs"] == before["shown"]["descent"]["runs"]


def test_copy_as_python_gives_the_same_bits(open_lab, tmp_path):
    page = open_lab({**OWN, "descent": {**OWN["descent"], "panel": "share"}})
    page.until("s => s.shown.descent.python && s.shown.descent.runs?.length === 4")
    page.page.get_by_role("button", name="Copy as Python").click()
    page.quiet()
    script = page.shown("descent")["python"]
    assert script == page.page.locator(".source").text_content()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment(tmp_path)
    )
    ends = [ast.literal_eval(line[line.rindex("[") :]) for line in done.stdout.splitlines()]
    assert ends == [run["x"] for run in page.shown("descent")["runs"]]
    page.page.get_by_role("button", name="Copy as command").click()
    page.until("s => s.shown.descent.command?.startsWith('koubai minimize')")


def test_files_are_saved(open_lab):
    page = open_lab({"descent": {"panel": "share", "max_steps": 30}})
    page.until(RUNS)
    page.quiet()
    for kind, begins in {"PNG": b"\x89PNG", "SVG": b"<?xml", "CSV": b"", "GIF": b"GIF8"}.items():
        with page.page.expect_download(timeout=60000) as download:
            page.page.get_by_role("button", name=kind, exact=True).click()
        data = Path(download.value.path()).read_bytes()
        assert data.startswith(begins), kind
        assert len(data) > 200, kind


def test_rates_that_could_not_be_found_out_look_like_no_rate(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.rates?.kinds")
    page.page.evaluate("""async () => {
        const { Refused } = await import("/static/connection.js");
        const { lab } = window.__lab, ask = lab.ask;
        lab.ask = (view, name, args) => (name === "rates"
            ? Promise.reject(new Refused({ code: "limit", message: "it takes too long" })) : ask(view, name, args));
        lab.store.set("descent", { x0: [-6, 1] });
    }""")
    page.until("s => s.shown.descent.rates_unknown?.code === 'limit'")
    assert page.page.locator(".strip .complaint").inner_text() == "it takes too long"


def test_nothing_old_is_said_when_nothing_can_be_judged(open_lab):
    page = open_lab({"descent": {"optimizers": [{"name": "SGD", "lr": 0.1}]}})
    page.until("s => s.shown.descent.verdict?.code")
    page.page.locator(".optimizers input[type=checkbox]").uncheck()
    page.until("s => s.shown.descent.verdict === null")
    assert page.page.inner_text(".verdict .title") == "Choose an optimizer"
    page.page.locator(".optimizers input[type=checkbox]").check()
    page.until("s => s.shown.descent.verdict?.code")


def test_a_number_that_is_refused_says_what_is_allowed(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.verdict?.code")
    box = page.page.get_by_role("textbox", name="Learning rate η").first
    box.fill("-1")
    assert page.page.locator(".allowed:visible").inner_text() == box.get_attribute("title") == "A number above 0"
    box.fill("0.5")
    assert page.page.locator(".allowed:visible").count() == 0
