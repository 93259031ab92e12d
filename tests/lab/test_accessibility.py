"""axe-core finds nothing serious in any room, light or dark, on a desk or a phone; and everything works by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import serious

ROOMS = {
    "descent": {},
    "descent, a step": {"descent": {"panel": "step", "t": 2}},
    "descent, the race": {"descent": {"panel": "race"}},
    "descent, to take away": {"descent": {"panel": "share", "view": "surface"}},
    "descent, typed": {"descent": {"function": {"expression": "x**2 + y**2"}, "draft": "x**2 + "}},
    "basins": {"room": "basins"},
    "derivative": {"room": "derivative"},
    "network": {"room": "network"},
}
SIGHTS = {
    "desk, light": {"color_scheme": "light"},
    "desk, dark": {"color_scheme": "dark"},
    "phone, light": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}, "has_touch": True},
    "phone, dark": {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}, "has_touch": True},
}
PLAN = Path(__file__).parents[2] / "src" / "koubai" / "lab" / "static" / "lessons" / "plan.js"
LESSONS = re.findall(r'^    id: "(\w+)"', PLAN.read_text("utf-8"), re.M)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("where", ROOMS)
def test_axe_finds_nothing_serious(open_lab, axe, where, sight):
    assert serious(open_lab(ROOMS[where], **SIGHTS[sight]).page, axe) == []


@pytest.mark.parametrize(
    ("lesson", "sight"),
    [
        (lesson, sight)
        for lesson in LESSONS
        for sight in SIGHTS
        if lesson == "rate" or sight in ("desk, light", "phone, dark")
    ],
)
def test_axe_finds_nothing_serious_in_a_lesson(open_lab, axe, lesson, sight):
    assert serious(open_lab({"lesson": f"{lesson}.1"}, **SIGHTS[sight]).page, axe) == []


def test_axe_finds_nothing_serious_in_the_list_of_lessons(open_lab, axe):
    page = open_lab(viewport={"width": 360, "height": 740}, has_touch=True)
    page.page.locator("#lessons, .lessons-button").first.click()
    assert serious(page.page, axe) == []


@pytest.mark.parametrize("room", ["descent", "basins"])
def test_everything_is_reached_by_tab_and_shows_its_focus(open_lab, room):
    page = open_lab({"room": room})
    page.page.wait_for_timeout(800)
    seen = set()
    for _ in range(90):
        page.page.keyboard.press("Tab")
        name = page.page.evaluate(
            "(() => { const e = document.activeElement; return `${e.tagName} ${e.id} ${e.className} "
            "${e.getAttribute('aria-label') ?? e.textContent.slice(0, 20)}`; })()"
        )
        seen.add(name)
    text = "\n".join(sorted(seen))
    wanted = {
        "descent": ["handle", "strip-slider", "Play", "Try the fix|Find the rate", "INPUT", "SELECT"],
        "basins": ["handle", "SELECT", "INPUT", "A small rate"],
    }[room]
    for one in wanted:
        assert any(part in text for part in one.split("|")), (one, text)


def test_motion_stops_where_less_is_wanted(open_lab):
    page = open_lab(reduced_motion="reduce")
    moving = "(e) => parseFloat(getComputedStyle(e).transitionDuration) > 0"
    assert page.page.evaluate(f"[...document.querySelectorAll('*')].filter({moving}).length") == 0


def test_the_verdict_is_spoken(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.verdict?.code")
    assert page.page.locator("#aloud").get_attribute("aria-live") == "polite"
    assert "converged" in page.page.inner_text("#aloud")
