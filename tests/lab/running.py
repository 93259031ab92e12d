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

SRC = Path(__file__).parents[2] / "src"
COMMAND = "from koubai.cli import main; main()"
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


class Page:
    """A page of the lab, read by its numbers: `window.__lab.state`."""

    def __init__(self, page, address):
        self.page, self.address = page, address
        self.base = address.split("?")[0]
        self.errors, self.requests = [], []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("request", lambda r: self.requests.append(r.url))

    def open(self, state=None, query=""):
        """Open the lab at a state, by the address with the token first."""
        self.page.goto(self.address)
        if state is not None or query:
            fragment = "" if state is None else "#" + quote(json.dumps({"koubai": 1, **state}))
            # a change of the fragment alone does not load a page
            self.page.goto("about:blank")
            self.page.goto(f"{self.base}{query}{fragment}")
        self.until("s => s.ready")
        return self

    @property
    def state(self):
        return self.page.evaluate("window.__lab?.state ?? null")

    @property
    def kept(self):
        """What the address holds."""
        return json.loads(self.page.evaluate("decodeURIComponent(location.hash.slice(1))"))

    def shown(self, room):
        return self.state["shown"][room]

    def until(self, condition, timeout=20.0):
        """Wait until a function of the state holds, of Python or as text of JavaScript; return the state.

        It is polled from here: the page's policy forbids a page to evaluate text.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if isinstance(condition, str):
                found = self.page.evaluate(
                    f"(() => {{ const s = window.__lab?.state; return !!s && !!({condition})(s) }})()"
                )
                if found:
                    return self.state
            elif (state := self.state) is not None and holds(condition, state):
                return state
            self.page.wait_for_timeout(30)
        raise AssertionError(f"{condition} did not come true: {json.dumps(self.state)[:3000]}; {self.errors}")

    def settled(self):
        """Wait until the address holds what the page shows."""
        self.page.wait_for_timeout(400)


def serious(page, axe):
    """Return what axe-core finds on a page that keeps somebody out."""
    page.wait_for_timeout(1200)
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        (v["id"], v["help"], [(n["html"][:160], n["failureSummary"][:200]) for n in v["nodes"][:4]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
