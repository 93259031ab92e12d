"""The widgets of the notebook, in a plain page: a model that a browser sees, and behind it Python's own handler."""

from __future__ import annotations

import base64
import json
import queue
import time

import pytest
from running import serious

import koubai as kb
from koubai import lab

pytest.importorskip("anywidget", reason="the lab in a notebook needs anywidget")

# as JupyterLab hosts a widget: styles of its own around it, and shortcuts for single letters
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>a notebook</title>
<style>body { font: 11px serif; margin: 20px; } button { background: rgb(255, 0, 0); } main { width: 900px; }</style>
</head><body data-jp-theme-light="true"><main><button id="own">Run</button><div id="out"></div></main></body></html>"""

# a model as anywidget's render gets it: get, set, save_changes, on, off, send
MODEL = """
async ([source, state]) => {
  const listeners = new Map();
  const changed = new Set();
  window.shortcuts = [];
  document.addEventListener("keydown", (e) => window.shortcuts.push(e.key));
  const tell = (name, ...args) => { for (const l of [...(listeners.get(name) ?? [])]) l(...args); };
  const model = {
    get: (name) => state[name],
    set(name, value) { state[name] = value; changed.add(name); tell(`change:${name}`); },
    save_changes() { for (const name of changed) window.toPython({ name, value: state[name] }); changed.clear(); },
    on(name, l) { listeners.set(name, [...(listeners.get(name) ?? []), l]); },
    off(name, l) { listeners.set(name, (listeners.get(name) ?? []).filter((o) => o !== l)); },
    send(content) { window.toPython({ content }); },
  };
  window.fromPython = (content, data) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    tell("msg:custom", content, [new DataView(bytes.buffer)]);
  };
  window.changeFromPython = (name, value) => { state[name] = value; tell(`change:${name}`); };
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const widget = (await import(url)).default;
  window.away = await widget.render({ model, el: document.getElementById("out") });
  window.again = (id) => { widget.render({ model, el: document.getElementById(id) }); };
}
"""
SETTING = "document.querySelector('#out > div').lab.store.state"


class Notebook:
    """A page with one widget in it, and the kernel's side of its channel."""

    def __init__(self, page, widget):
        self.page, self.widget, self.errors, self.requests = page, widget, [], []
        self.answers = queue.Queue()
        widget.send = lambda content, buffers: self.answers.put((content, base64.b64encode(buffers[0]).decode()))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("request", lambda r: self.requests.append(r.url))
        page.expose_function("toPython", self._hear)
        page.set_content(PAGE)

    def show(self):
        state = {name: value for name, value in self.widget.get_state().items() if name in SYNCED}
        self.page.evaluate(f"(given) => {{ window.shown = ({MODEL})(given); }}", [self.widget._esm, state])
        self.until(lambda: self.page.evaluate("!!document.querySelector('#out > div')?.lab"))
        return self

    def _hear(self, message):
        if "content" in message:
            self.widget._handle_custom_msg(message["content"], [])
        else:
            self.widget.set_state({message["name"]: message["value"]})

    def pump(self):
        """Carry the kernel's answers to the page, as the notebook would."""
        while not self.answers.empty():
            self.page.evaluate("([content, data]) => window.fromPython(content, data)", list(self.answers.get()))
        self.page.wait_for_timeout(15)

    def until(self, condition, timeout=60.0):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.pump()
            try:
                if condition():
                    return
            except (KeyError, IndexError, TypeError):
                pass
        raise AssertionError(f"did not come true; {self.errors}; {json.dumps(self.widget._shown)[:500]}")

    def quiet(self):
        """Wait until all is answered and painted."""
        idle = (
            "!document.querySelector('#out > div').lab.isBusy() && !document.getAnimations().some((a) => "
            "a.playState === 'running')"
        )
        since = time.monotonic()
        while time.monotonic() - since < 0.2:
            self.until(lambda: self.page.evaluate(idle))
            if not self.answers.empty():
                since = time.monotonic()

    def inside(self, selector):
        return self.page.locator(f"#out {selector}")


SYNCED = ("_room", "_setting", "_shown", "language", "theme", "height")


@pytest.fixture
def notebook(browser):
    opened = []

    def show(widget, **options):
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, "locale": "en-US", **options})
        page = Notebook(context.new_page(), widget)
        opened.append((context, page))
        return page.show()

    yield show
    for context, page in opened:
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith(("blob:", "data:", "about:"))] == []
        context.close()
        page.widget.close()


def test_a_start_is_dragged_and_python_has_the_state(notebook):
    widget = lab.descent("himmelblau", x0=[-0.5, -0.5], optimizers=[{"name": "SGD", "lr": 0.01}, "lbfgs"])
    page = notebook(widget)
    page.until(lambda: page.page.evaluate("document.querySelector('#out > div').lab.shown.runs?.length === 2"))
    box = page.inside(".handle").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x + 60, y - 40, steps=6)
    page.page.mouse.up()
    page.until(lambda: widget.state["x0"] != [-0.5, -0.5])
    page.until(lambda: page.page.evaluate("document.querySelector('#out > div').lab.shown.pending === false"))
    state = widget.state
    assert state["x0"][0] > -0.5
    assert state["x0"][1] > -0.5
    shown = page.page.evaluate("document.querySelector('#out > div').lab.shown.runs")
    assert [run["x"] for run in shown] == [run["x"] for run in state["runs"]]
    again = kb.minimize(kb.problems["himmelblau"].f, state["x0"], lr=0.01, max_steps=200, gtol=1e-6)
    assert shown[0]["x"] == again.x.tolist()


def test_it_is_changed_from_python_and_by_typing(notebook):
    widget = lab.descent("booth")
    page = notebook(widget)
    sent = widget._setting
    widget.set(function="x**2/4 + y**2", x0=[3, 1], optimizers=["adam"])
    page.page.evaluate("(value) => window.changeFromPython('_setting', value)", widget._setting)
    page.until(lambda: page.page.evaluate(f"{SETTING}.descent.x0[0] === 3"))
    page.until(lambda: page.page.evaluate("document.querySelector('#out > div').lab.shown.runs?.length === 1"))
    assert widget._setting != sent
    number = page.inside("input.num").first
    number.click()
    page.page.keyboard.type("0.25")
    page.until(lambda: widget.state["optimizers"][0]["lr"] == 0.25)
    # what is typed does not reach the notebook, where single letters are commands
    assert page.page.evaluate("window.shortcuts") == []


def test_the_notebooks_own_page_keeps_its_styles(notebook):
    look = (
        "(() => { const s = getComputedStyle(document.getElementById('own')); return [s.backgroundColor, s.font]; })()"
    )
    page = notebook(lab.descent())
    assert page.page.evaluate(look)[0] == "rgb(255, 0, 0)"
    assert page.page.evaluate("getComputedStyle(document.body).font").startswith("11px serif")
    assert page.page.evaluate("document.documentElement.lang") == "en"
    assert page.page.evaluate("document.head.querySelectorAll('link').length") == 0
    inside = page.inside("button.plain").first.evaluate("(e) => getComputedStyle(e).backgroundColor")
    assert inside != "rgb(255, 0, 0)"
    page.page.evaluate("window.away()")
    assert page.page.evaluate("document.getElementById('out').childElementCount") == 0


def test_light_and_dark_follow_the_notebook(notebook):
    page = notebook(lab.descent())
    inside = "document.querySelector('#out > div').shadowRoot.querySelector('.koubai-lab')"
    ground = f"getComputedStyle({inside}).backgroundColor"
    light = page.page.evaluate(ground)
    page.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    page.until(lambda: page.page.evaluate(ground) != light)
    page.page.evaluate("window.changeFromPython('theme', 'light')")
    page.until(lambda: page.page.evaluate(ground) == light)


def test_the_language_is_the_widgets(notebook):
    page = notebook(lab.descent(language="ja"))
    words = "document.querySelector('#out > div').shadowRoot.textContent"
    page.until(lambda: "学習率" in page.page.evaluate(words))
    page.page.evaluate("window.changeFromPython('language', 'en')")
    page.until(lambda: "学習率" not in page.page.evaluate(words))


def test_basins_are_shown_and_told_to_python(notebook):
    widget = lab.basins("himmelblau", steps=150)
    page = notebook(widget)
    page.until(lambda: len(widget.state["minima"]) == 4)
    assert sum(m["share"] for m in widget.state["minima"]) > 0.9
    page.inside("[data-preset=edge]").click()
    page.until(lambda: widget.state["optimizer"]["lr"] == 0.0235)


def test_the_wheel_scrolls_the_notebook(notebook):
    widget = lab.basins("himmelblau", steps=50)
    page = notebook(widget)
    page.until(lambda: "minima" in widget.state)
    page.inside(".field").hover()
    page.page.mouse.wheel(0, 120)
    page.quiet()
    assert widget.state["window"] is None
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, 120)
    page.page.keyboard.up("Control")
    page.until(lambda: widget.state["window"] is not None)


def test_a_narrow_cell_has_the_controls_below(notebook):
    page = notebook(lab.descent(), viewport={"width": 380, "height": 800})
    page.page.evaluate("document.querySelector('main').style.width = '340px'")
    page.pump()
    field, controls = page.inside(".field").bounding_box(), page.inside(".controls").bounding_box()
    assert controls["y"] > field["y"] + field["height"] - 1
    assert page.inside(".koubai-lab").evaluate("(e) => e.scrollWidth <= e.clientWidth")


def test_while_the_kernel_is_busy_it_says_so_and_goes_on_afterwards(notebook):
    page = notebook(lab.descent())
    page.until(lambda: page.page.evaluate("document.querySelector('#out > div').lab.shown.pending === false"))
    said = page.inside(".note")
    assert said.inner_text() == ""
    page.inside(".handle").first.focus()
    page.page.keyboard.press("ArrowRight")
    said.filter(has_text="The kernel is busy").wait_for(timeout=10_000)  # nothing is carried meanwhile
    page.until(lambda: said.inner_text() == "")
    page.until(lambda: page.page.evaluate("document.querySelector('#out > div').lab.shown.pending === false"))


def test_two_views_of_a_widget_show_the_same(notebook):
    widget = lab.descent("booth")
    page = notebook(widget)
    page.page.evaluate("document.getElementById('out').insertAdjacentHTML('afterend', '<div id=\"second\"></div>')")
    page.page.evaluate("window.again('second')")
    second = "document.querySelector('#second > div')?.lab"
    page.until(lambda: page.page.evaluate(f"!!{second}"))
    page.inside(".handle").first.focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    page.until(lambda: widget.state["x0"][0] > kb.problems["booth"].x0[0])
    page.until(lambda: page.page.evaluate(f"{second}.store.state.descent.x0[0]") == widget.state["x0"][0])
    shown = f"{second}.shown.runs.map((run) => run.x)"
    page.until(lambda: page.page.evaluate(shown) == [run["x"] for run in widget.state["runs"]])


@pytest.mark.parametrize(("width", "theme"), [(900, "light"), (340, "dark")])
@pytest.mark.parametrize("make", [lab.descent, lab.basins])
def test_axe_finds_nothing_serious(notebook, axe, make, theme, width):
    page = notebook(make(theme=theme))
    page.page.evaluate(f"document.querySelector('main').style.width = '{width}px'")
    page.page.evaluate("document.getElementById('own').remove()")  # the notebook's, in colours of its own
    page.quiet()
    assert serious(page.page, axe) == []
    page.page.evaluate("(theme) => window.changeFromPython('theme', theme)", {"light": "dark", "dark": "light"}[theme])
    page.quiet()
    assert serious(page.page, axe, only="color-contrast") == []
