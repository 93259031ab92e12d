"""How quickly the lab answers a hand, in headless Chromium with software rendering.

    python benchmarks/lab.py            all of it, as a table
    python benchmarks/lab.py --json     the same for machines

first paint   from the start of `koubai lab` to the first picture with descents on it; nothing is cached by the browser
drag          from a move of the pointer to the painted paths of 8 optimizers × 500 steps on a typed function
basins        from a move of the rate's slider to the painted map of 160,000 starts × 200 steps (400 × 400 or its like)

The page notes the times itself: from the event's own time stamp until the frame after the drawing has been handed over.
Every descent is computed by the engine and travels over the websocket; nothing is held back or made smaller for the
clock. Exits with 1 if a limit is missed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

EIGHT = ["SGD", "Momentum", "Nesterov", "Adagrad", "RMSprop", "Adam", "NAdam", "AdamW"]
RATES = {"SGD": 0.3, "Momentum": 0.03, "Nesterov": 0.03, "Adagrad": 1.0}
TYPED = "x**2/20 + y**2 + 0.5*sin(2*x)*cos(y)"
DRAG = {
    "function": {"expression": TYPED}, "x0": [-7, 2], "max_steps": 500, "gtol": 0,
    "optimizers": [{"name": name, "lr": RATES.get(name, 0.05)} for name in EIGHT],
}  # fmt: skip
LIMITS = {"first paint": 1500, "drag p50": 33, "drag p95": 66, "basins p95": 150}
MOVES, MAPS = 300, 60


def percentile(values, share):
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def started(folder):
    """Start a lab of its own; return the process, the time before it, and the address."""
    before = time.time()
    command = [sys.executable, "-c", "from koubai.cli import main; main()", "lab", "--no-browser"]
    # compiled as an installed package is; what the first start compiles stays in the folder
    environment = {**os.environ, "XDG_STATE_HOME": folder, "PYTHONPYCACHEPREFIX": str(Path(folder) / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    return process, before, process.stdout.readline().strip()


def until(page, condition, seconds=30.0):
    """Wait until a condition on the page holds."""
    end = time.monotonic() + seconds
    while not page.evaluate(f"!!({condition})"):
        if time.monotonic() > end:
            raise TimeoutError(f"{condition}: {page.evaluate('JSON.stringify(window.__lab?.state)')}")
        page.wait_for_timeout(20)


def opened(browser, address, state):
    """Open a page at a state."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en").new_page()
    page.goto(address)
    if state is not None:
        page.goto("about:blank")
        page.goto(f"{address.split('?')[0]}#{quote(json.dumps({'koubai': 1, **state}))}")
    until(page, "window.__lab?.state?.first")
    return page


def first_paint(browser, folder):
    """Return the milliseconds from the start of the command to the first picture."""
    process, before, address = started(folder)
    try:
        page = opened(browser, address, None)
        origin = page.evaluate("performance.timeOrigin + window.__lab.state.first")
        page.context.close()
    finally:
        process.terminate()
        process.wait()
    return origin - 1000 * before


def drags(page):
    """Move the start about, and return the milliseconds from each painted move to its paint."""
    until(page, "window.__lab.state.shown.descent.runs?.length === 8")
    page.wait_for_timeout(1000)
    box = page.locator(".handle").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(20):  # the first are for the machine to warm up
        page.mouse.move(x + i, y)
    until(page, "window.__lab.lab.frames.drag?.length")
    page.evaluate("window.__lab.lab.frames.drag.length = 0")
    for i in range(MOVES):
        angle = i / MOVES * 6 * math.pi
        page.mouse.move(x + 180 + 180 * math.sin(angle), y + 60 + 120 * math.cos(angle))
        page.wait_for_timeout(12)
    page.wait_for_timeout(300)
    page.mouse.up()
    return page.evaluate("window.__lab.lab.frames.drag")


def maps(page):
    """Move the rate, and return the milliseconds from each move to the painted map."""
    until(page, "window.__lab.state.shown.basins.sharp")
    slider = page.get_by_role("slider", name="Learning rate")
    slider.focus()
    found = []
    for i in range(MAPS + 5):
        count = page.evaluate("window.__lab.lab.frames.basins.length")
        page.keyboard.press("ArrowLeft" if i % 20 < 10 else "ArrowRight")
        until(page, f"window.__lab.lab.frames.basins.length > {count}")
        milliseconds, pixels = page.evaluate("window.__lab.lab.frames.basins.at(-1)")
        if pixels < 150_000:  # a coarse look, which comes first where whole maps are slow: not what is measured
            page.wait_for_timeout(600)
        elif i >= 5:
            found.append(milliseconds)
    return found


def measured():
    """Return all numbers, in milliseconds."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        where = {"executable_path": chromium} if chromium else {}
        browser = playwright.chromium.launch(args=["--no-sandbox"], **where)
        paints = [first_paint(browser, folder) for _ in range(6)][1:]
        process, _, address = started(folder)
        try:
            drag = drags(opened(browser, address, {"descent": DRAG}))
            basins = maps(opened(browser, address, {"room": "basins", "basins": {"steps": 200}}))
        finally:
            process.terminate()
            process.wait()
        browser.close()
    return {
        "first paint": percentile(paints, 0.5), "first paint max": max(paints),
        "drag p50": percentile(drag, 0.5), "drag p95": percentile(drag, 0.95), "drags painted": len(drag),
        "basins p50": percentile(basins, 0.5), "basins p95": percentile(basins, 0.95), "maps painted": len(basins),
    }  # fmt: skip


def main():
    found = measured()
    if "--json" in sys.argv:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            limit = LIMITS.get(name)
            unit = "" if "painted" in name else " ms"
            print(f"{name:16} {value:7.0f}{unit}" + (f"   limit {limit} ms" if limit else ""))
    return int(any(found[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
