"""The lab's pictures: of each room and lesson, in light and dark, on a desk and a phone, in both languages.

    python docs/lab_pictures.py                      the chosen ones, for the README, into docs/lab
    python docs/lab_pictures.py FOLDER [NAME …]      all, or those whose names begin so, to be looked at

They are taken of a running lab in headless Chromium, so they show what the page shows, with the engine's numbers.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
HIMMELBLAU = {
    "function": {"problem": "himmelblau"}, "x0": [-0.5, -0.5],
    "optimizers": [
        {"name": "SGD", "lr": 0.01}, {"name": "Momentum", "lr": 0.005}, {"name": "Adam", "lr": 0.2}, {"name": "LBFGS"},
    ],
}  # fmt: skip
EDGE = {"window": [[-6, 6], [-6, 6]], "optimizer": {"name": "SGD", "lr": 0.0235}, "steps": 300, "x0": [-2.8, -2.4]}
ROOMS = {
    "descent": {"descent": HIMMELBLAU},
    "surface": {"descent": {**HIMMELBLAU, "view": "surface", "function": {"problem": "peaks"}, "x0": [-0.2, 1.3]}},
    "step": {"descent": {"panel": "step", "chosen": 3, "t": 5}},
    "basins": {"room": "basins", "basins": EDGE},
    "derivative": {"room": "derivative"},
    "network": {"room": "network", "network": {"epoch": 60}},
}
PLAN = HERE.parent / "src/koubai/lab/static/lessons/plan.js"
LESSONS = re.findall(r'^    id: "(\w+)"', PLAN.read_text("utf-8"), re.M)
STATES = {**ROOMS, **{f"lesson-{name}": {"lesson": f"{name}.1"} for name in LESSONS}}

DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "device_scale_factor": 2}
SIGHTS = {
    "light": {**DESK, "color_scheme": "light", "locale": "en"},
    "dark": {**DESK, "color_scheme": "dark", "locale": "ja"},
    "light-ja": {**DESK, "color_scheme": "light", "locale": "ja"},
    "dark-en": {**DESK, "color_scheme": "dark", "locale": "en"},
    "phone": {**PHONE, "color_scheme": "dark", "locale": "en"},
    "phone-ja": {**PHONE, "color_scheme": "light", "locale": "ja"},
}
CHOSEN = (
    "descent-light", "descent-light-ja", "basins-dark-en", "basins-dark", "network-light", "network-light-ja",
    "lesson-rate-light", "lesson-rate-light-ja",
)  # fmt: skip
MOST_BYTES = 200_000
READY = """(() => {
  const s = window.__lab?.state, d = s?.shown?.descent;
  return s?.ready && (s.room !== "descent" || !!d.verdict?.code) && (s.room !== "basins" || !!s.shown.basins.minima);
})()"""
REST = 2500  # ms until everything that follows when hands rest is there


def take(browser, address, path, state, sight):
    """Take one picture, and return what the page complained about."""
    context = browser.new_context(**SIGHTS[sight])
    page = context.new_page()
    errors = []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(address)
    page.goto("about:blank")
    page.goto(f"{address.split('?')[0]}#{quote(json.dumps({'koubai': 1, **state}))}")
    while not page.evaluate(READY):
        page.wait_for_timeout(50)
    page.wait_for_timeout(REST)
    path.write_bytes(small(page.screenshot()))
    context.close()
    return errors


def small(png):
    """Return a picture as it is, or in as many colours as keep it small enough for a README, rare ones included."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (None, 256, 128, 64, 32):
        file, reduced = io.BytesIO(), image
        if colours is not None:
            reduced = image.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        reduced.save(file, "png", optimize=True)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()


def main():
    words = sys.argv[1:]
    folder = Path(words[0]) if words else HERE / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    every = [(f"{name}-{sight}", name, sight) for name in STATES for sight in SIGHTS]
    wanted = [one for one in every if (one[0].startswith(tuple(words[1:] or [""])) if words else one[0] in CHOSEN)]
    command = [sys.executable, "-c", "from koubai.cli import main; main()", "lab", "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(args=["--no-sandbox"], executable_path=chromium)
            for file, name, sight in wanted:
                began = time.perf_counter()
                path = folder / f"{file}.png"
                errors = take(browser, address, path, STATES[name], sight)
                print(f"{path.name} {path.stat().st_size // 1000} kB {time.perf_counter() - began:.1f} s", *errors)
            browser.close()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
