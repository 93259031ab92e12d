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
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
# each theme, size and language meets all rules once; the other theme has the same elements in other colours
SIGHTS = {
    "desk": {"color_scheme": "light", "locale": "en-US"},
    "phone": {"color_scheme": "dark", "locale": "ja-JP", **PHONE},
}
PLAN = Path(__file__).parents[2] / "src" / "koubai" / "lab" / "static" / "lessons" / "plan.js"
LESSONS = re.findall(r'^    id: "(\w+)"', PLAN.read_text("utf-8"), re.M)


def found_in_both_themes(page, axe):
    page.quiet()
    found = serious(page.page, axe)
    page.page.click("#theme")
    page.quiet()
    return found + serious(page.page, axe, only="color-contrast")


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("where", ROOMS)
def test_axe_finds_nothing_serious(open_lab, axe, where, sight):
    assert found_in_both_themes(open_lab(ROOMS[where], **SIGHTS[sight]), axe) == []


@pytest.mark.parametrize("sight", SIGHTS)
def test_axe_finds_nothing_serious_in_the_lessons(open_lab, axe, sight):
    page = open_lab(**SIGHTS[sight])
    for lesson in LESSONS:
        page.follow({"lesson": f"{lesson}.1"})
        page.until(f"s => s.shown.lesson?.id === '{lesson}'")
        assert found_in_both_themes(page, axe) == [], lesson
    page.page.locator("#lessons").click()
    assert serious(page.page, axe) == []


@pytest.mark.parametrize("room", ["descent", "basins"])
def test_everything_is_reached_by_tab_and_shows_its_focus(open_lab, room):
    page = open_lab({"room": room})
    page.quiet()
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
