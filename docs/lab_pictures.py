"""The lab's pictures: each room in light and dark, on a desk and a phone, in both languages.

    python docs/lab_pictures.py [FOLDER] [ROOM …]     written to docs/lab unless a folder is named

They are taken of a running lab in headless Chromium, so they show what the page shows, with the engine's numbers.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import sync_playwright

HIMMELBLAU = {
    "function": {"problem": "himmelblau"}, "x0": [-0.5, -0.5],
    "optimizers": [
        {"name": "SGD", "lr": 0.01}, {"name": "Momentum", "lr": 0.005}, {"name": "Adam", "lr": 0.2}, {"name": "LBFGS"},
    ],
}  # fmt: skip
EDGE = {"window": [[-6, 6], [-6, 6]], "optimizer": {"name": "SGD", "lr": 0.0235}, "steps": 300, "x0": [-3.2, -2.4]}
ROOMS = {
    "descent": {"descent": HIMMELBLAU},
    "surface": {"descent": {**HIMMELBLAU, "view": "surface", "function": {"problem": "peaks"}, "x0": [-0.2, 1.3]}},
    "step": {"descent": {"panel": "step", "chosen": 3, "t": 5}},
    "basins": {"room": "basins", "basins": EDGE},
    "derivative": {"room": "derivative"},
    "network": {"room": "network", "network": {"epoch": 60}},
}
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}
SIGHTS = {
    "light": {**DESK, "color_scheme": "light", "locale": "en"},
    "dark": {**DESK, "color_scheme": "dark", "locale": "ja"},
    "phone": {**PHONE, "color_scheme": "dark", "locale": "en"},
    "phone-ja": {**PHONE, "color_scheme": "light", "locale": "ja"},
}
READY = "!!window.__lab?.state?.ready"
REST = 3500  # ms until everything that follows when hands rest is there


def take(browser, address, folder, room, sight):
    """Take one picture, and return what the page complained about."""
    context = browser.new_context(**SIGHTS[sight])
    page = context.new_page()
    errors = []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(address)
    page.goto("about:blank")
    page.goto(f"{address.split('?')[0]}#{quote(json.dumps({'koubai': 1, **ROOMS[room]}))}")
    while not page.evaluate(READY):
        page.wait_for_timeout(50)
    page.wait_for_timeout(REST)
    page.screenshot(path=folder / f"{room}-{sight}.png")
    context.close()
    return errors


def main():
    words = sys.argv[1:]
    folder = Path(words[0]) if words else Path(__file__).parent / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from koubai.cli import main; main()", "lab", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        where = {"executable_path": chromium} if chromium else {}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(args=["--no-sandbox"], **where)
            for room in words[1:] or ROOMS:
                for sight in SIGHTS:
                    began = time.perf_counter()
                    errors = take(browser, address, folder, room, sight)
                    print(f"{room}-{sight}.png {time.perf_counter() - began:.1f} s", *errors)
            browser.close()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
