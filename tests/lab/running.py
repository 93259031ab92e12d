"""A lab in a process of its own, and a page of it that is read by its numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

try:
    from playwright.sync_api import Error
except ImportError:  # then conftest skips the pages
    Error = Exception

SRC = Path(__file__).parents[2] / "src"
# the lab gives up after ten seconds, which on a busy machine even a small picture may take
COMMAND = "from koubai.lab import session; session.SECONDS = 60.0; from koubai.cli import main; main()"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium(playwright):
    """Return the path of the system's Chromium, else of Playwright's own; None if there is neither."""
    own = playwright.chromium.executable_path
    return next(filter(None, map(shutil.which, CHROMIUM)), own if os.path.exists(own) else None)


def environment(folder):
    """Return the environment of a lab that keeps its key in a folder of its own."""
    path = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(folder), "HOME": str(folder)}


def start_lab(folder, port=None):
    """Start a lab; return the process and the address with its token."""
    words = ["lab", "--no-browser", *(["--port", str(port)] if port else [])]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, text=True, env=environment(folder)
    )
    return process, process.stdout.readline().strip()


def stop_lab(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def holds(condition, state):
    """Return whether a condition holds; what it looks for may not be there yet."""
    try:
        return condition(state)
    except (KeyError, IndexError, TypeError):
        return False


# Whether something holds, asked again and again within the page: its policy forbids it to evaluate text later on. True
# or false, if not within these milliseconds.
WAIT = """async (most) => {
  const holds = () => { try { return !!(%s); } catch { return false; } };
  for (const end = performance.now() + most; performance.now() < end;) {
    if (holds()) return true;
    await new Promise((later) => setTimeout(later, 10));
  }
  return holds();
}"""
# Nothing has been asked of the engine for so long that nothing is on its way (what plays asks on and on), and nothing
# fades.
QUIET = """async (most) => {
  const begun = performance.now();
  const idle = () => {
    const s = window.__lab?.state;
    const playing = s && Object.values(s.shown).some((room) => room?.playing);
    const moving = document.getAnimations().some((a) => a.playState === "running");
    return s?.ready && (playing || !s.busy) && !moving;
  };
  for (let since = begun; performance.now() - since < 200;) {
    if (performance.now() - begun > most) return false;
    if (!idle()) since = performance.now();
    await new Promise((later) => setTimeout(later, 10));
  }
  return true;
}"""


class Page:
    """A page of the lab, read by its numbers: `window.__lab.state`."""

    def __init__(self, page, address):
        self.page, self.address = page, address
        self.base = address.split("?")[0]
        self.errors, self.requests = [], []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("request", lambda r: self.requests.append(r.url))

    def open(self, state=None, query="", token=False):
        """Open the lab at a state, by a cookie that its token has given before, or with the token first."""
        if token:
            self.page.goto(self.address)
            self.page.goto("about:blank")  # a change of the fragment alone does not load a page
        fragment = "" if state is None else "#" + quote(json.dumps({"koubai": 1, **state}))
        self.page.goto(f"{self.base}{query}{fragment}")
        self.until("s => s.ready")
        return self

    def follow(self, state):
        """Follow a link to a state on the page that is open."""
        self.page.evaluate("(hash) => { location.hash = hash; }", quote(json.dumps({"koubai": 1, **state})))
        self.quiet()

    @property
    def state(self):
        return self.page.evaluate("window.__lab?.state ?? null")

    @property
    def kept(self):
        """What the address holds."""
        return json.loads(self.page.evaluate("decodeURIComponent(location.hash.slice(1))"))

    def shown(self, room):
        return self.state["shown"][room]

    def _wait(self, text, timeout):
        """Wait for a text of JavaScript to be true, whether or not another page is loaded meanwhile."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            try:
                return self.page.evaluate(text, 1000 * left)
            except Error as error:
                if "context was destroyed" not in str(error) and "navigation" not in str(error):
                    raise
        return False

    def until(self, condition, timeout=60.0):
        """Wait until a function of the state holds, of Python or as text of JavaScript; return the state."""
        if isinstance(condition, str):
            if self._wait(WAIT % f"window.__lab?.state && ({condition})(window.__lab.state)", timeout):
                return self.state
        else:
            end = time.monotonic() + timeout
            while time.monotonic() < end:
                if (state := self.state) is not None and holds(condition, state):
                    return state
                self.page.wait_for_timeout(30)
        raise AssertionError(f"{condition} did not come true: {json.dumps(self.state)[:3000]}; {self.errors}")

    def sees(self, condition, timeout=60.0):
        """Wait until a text of JavaScript about the document is true."""
        assert self._wait(WAIT % condition, timeout), f"{condition} did not come true; {self.errors}"

    def quiet(self):
        """Wait until all is answered and painted."""
        assert self._wait(QUIET, 60.0), f"it does not come to rest: {json.dumps(self.state)[:3000]}; {self.errors}"

    def settled(self):
        """Wait until the address holds what the page shows, and the next change is another step of Undo."""
        self.sees("window.__lab.store.isSettled()")


def serious(page, axe, only=None):
    """Return what axe-core finds on a page that keeps somebody out: by all of its rules, or by one of them."""
    page.evaluate(f"window.axe || (() => {{ {axe} }})()")
    options = {"resultTypes": ["violations"], **({"runOnly": {"type": "rule", "values": [only]}} if only else {})}
    found = page.evaluate("(options) => axe.run(document, options)", options)["violations"]
    return [
        (v["id"], v["help"], [(n["html"][:160], n["failureSummary"][:200]) for n in v["nodes"][:4]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
