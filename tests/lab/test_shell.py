"""The page around the rooms: opened, spoken to in two languages, kept in the address, and back after a restart."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
from running import start_lab, stop_lab

TEXT = Path(__file__).parents[2] / "src" / "koubai" / "lab" / "static" / "text"
ROOMS = ("descent", "basins", "derivative", "network")


def leaves(tree, path=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def test_the_catalogues_have_equal_keys_and_places():
    en, ja = (dict(leaves(json.loads((TEXT / f"{lang}.json").read_text("utf-8")))) for lang in ("en", "ja"))
    assert en.keys() == ja.keys()
    for key in en:
        assert sorted(re.findall(r"\{\w+\}", en[key])) == sorted(re.findall(r"\{\w+\}", ja[key])), key
        assert en[key].strip()
        assert ja[key].strip()


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("room", ROOMS)
def test_each_room_opens_and_every_text_is_there(open_lab, room, lang):
    page = open_lab({"room": room}, locale=lang)
    assert page.state["room"] == room
    assert page.state["lang"] == lang
    page.quiet()
    words = page.page.inner_text("body")
    assert not re.search(r"\b(shell|descent|basins|derivative|network)\.[a-z_]+\b", words), words
    assert page.page.evaluate("document.documentElement.lang") == lang
    said = "[...document.querySelectorAll('[data-t]')].filter((e) => e.dataset.t === e.textContent)"
    assert page.page.evaluate(f"{said}.map((e) => e.dataset.t)") == []


def test_the_rooms_are_reached_by_the_bar(open_lab):
    page = open_lab()
    for room in (*ROOMS[1:], ROOMS[0]):
        page.page.locator("#rooms button").nth(ROOMS.index(room)).click()
        page.until(f"s => s.room === '{room}'")
    page.until("s => s.shown.descent.runs?.length === 4")


def test_the_language_is_switched_without_a_reload(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.verdict?.code")
    before = page.shown("descent")
    page.page.click("#lang")
    page.until("s => s.lang === 'ja' && /[ぁ-ん]/.test(s.shown.descent.verdict.title)")
    assert page.page.inner_text("#lang") == "English"
    assert page.shown("descent")["runs"] == before["runs"]
    page.page.click("#lang")
    page.until("s => s.lang === 'en'")


def test_a_link_chooses_the_language_until_it_is_switched(open_lab):
    page = open_lab(query="?lang=ja")
    assert page.state["lang"] == "ja"
    page.page.click("#lang")
    page.until("s => s.lang === 'en'")
    page.settled()
    page.page.reload()
    page.until("s => s.ready")
    assert page.state["lang"] == "en"


@pytest.mark.parametrize(
    "fragment",
    [
        "%7Bbroken",
        "[]",
        "null",
        '{"koubai":99}',
        '{"koubai":1,"descent":{"x0":["a",1],"optimizers":[{"name":"none"}],"function":{"problem":"nope"}}}',
        '{"koubai":1,"descent":{"function":{"expression":"__import__(1)"},"optimizers":7},"room":"attic","lang":"xx"}',
        '{"koubai":1,"__proto__":{"room":"x"},"descent":{"__proto__":{"x0":[1,1]},"max_steps":1e9}}',
    ],
)
def test_a_hostile_link_gives_the_defaults(open_lab, fragment):
    page = open_lab()
    page.page.goto("about:blank")  # a change of the fragment alone does not load a page
    page.page.goto(f"{page.base}#{fragment}")
    page.until("s => s.ready")
    page.quiet()
    assert page.state["room"] == "descent"
    assert page.state["descent"]["max_steps"] == 200
    assert page.page.evaluate("({}).room") is None


def test_undo_takes_back_a_change(open_lab):
    page = open_lab()
    page.until("s => s.shown.descent.runs?.length === 4")
    page.page.locator(".optimizers input[type=checkbox]").nth(1).uncheck()
    page.until("s => s.shown.descent.runs.length === 3")
    page.settled()
    page.page.keyboard.press("Control+z")
    page.until("s => s.shown.descent.runs.length === 4")


def test_dark_and_light(open_lab):
    page = open_lab(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.page.evaluate(ground)
    page.page.click("#theme")
    page.until("s => s.theme === 'light'")
    assert page.page.evaluate(ground) != dark


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_nothing_is_wider_than_a_phone(open_lab, room, lang):
    page = open_lab({"room": room}, locale=lang, viewport={"width": 360, "height": 740}, has_touch=True)
    page.quiet()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_server_is_killed_and_comes_back_and_nothing_is_lost(browser, open_lab, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process, address = start_lab(tmp_path, port)
    try:
        page = open_lab(address=address, token=True)
        page.until("s => s.shown.descent.verdict?.code")
        page.page.locator(".handle").first.focus()
        page.page.keyboard.press("ArrowRight")
        page.until("s => s.shown.descent.x0[0] > -7")
        before = page.state
    finally:
        stop_lab(process)
    page.until("s => !s.connected")
    page.page.keyboard.press("ArrowRight")
    page.settled()
    # a browser tells of the lost socket by itself
    page.errors.clear()
    process, _ = start_lab(tmp_path, port)
    try:
        page.until("s => s.connected", timeout=30)
        page.until(f"s => s.shown.descent.x0[0] > {before['descent']['x0'][0]}")
        assert page.state["descent"]["optimizers"] == before["descent"]["optimizers"]
        page.errors.clear()
        page.page.close()  # before its server
    finally:
        stop_lab(process)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_link_with_a_theme_opens(open_lab, theme):
    page = open_lab({"theme": theme})
    page.until("s => s.shown.descent.runs?.length === 4")
    assert page.page.evaluate("document.documentElement.dataset.theme") == theme


def test_the_address_follows_while_something_plays_and_undo_takes_back_what_was_done(open_lab):
    page = open_lab({"descent": {"max_steps": 2000, "gtol": 0, "speed": 10}})
    page.until("s => s.shown.descent.runs?.length === 4")
    page.page.locator(".transport .round").nth(2).click()
    page.until("s => s.descent.t > 3")
    page.page.locator(".optimizers input[type=checkbox]").nth(1).uncheck()
    page.until("s => s.descent.t > 25")
    address = page.kept
    assert address["descent"]["optimizers"][1]["off"]
    assert address["descent"]["t"] > 3
    assert page.page.locator("#undo").is_enabled()
    page.page.click("#undo")
    state = page.until("s => !s.descent.optimizers[1].off")
    assert 3 < state["descent"]["t"] < 25
    assert page.page.locator("#undo").is_disabled()


def test_the_language_is_switched_where_the_link_says_two(open_lab):
    page = open_lab({"lang": "ja"}, query="?lang=en")
    assert page.state["lang"] == "en"
    page.page.click("#lang")
    page.until("s => s.lang === 'ja'")


def test_undo_brings_the_language_back(open_lab):
    page = open_lab(query="?lang=ja")
    page.page.click("#lang")
    page.until("s => s.lang === 'en'")
    page.page.click("#undo")
    page.until("s => s.lang === 'ja'")


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ({"descent": {"function": {"problem": "nope"}}}, "descent.function"),
        ({"descent": {"optimizers": [{"name": "Nope"}]}}, "descent.optimizers"),
        ({"room": "basins", "basins": {"optimizer": {"name": "Nope"}}}, "basins.optimizer"),
        ({"room": "derivative", "derivative": {"function": {"problem": "nope"}}}, "derivative.function"),
        ({"lesson": "rate.99"}, "lesson"),
    ],
)
def test_what_a_link_names_and_nobody_knows_is_said(open_lab, state, fields):
    page = open_lab(state)
    page.quiet()
    assert page.page.inner_text("#note").endswith(f": {fields}")
    assert page.kept == {"koubai": 1, **state}
    assert page.page.locator("#undo").is_disabled()
