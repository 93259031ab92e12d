"""The basin room: every pixel is a descent of the library."""

from __future__ import annotations

import koubai as kb

MAP = "s => s.shown.basins.minima?.length"
EDGE = {
    "room": "basins",
    "basins": {
        "window": [[-6, 6], [-6, 6]],
        "optimizer": {"name": "SGD", "lr": 0.0235},
        "steps": 300,
        "x0": [-3.2, -2.4],
    },
}


def same_map(page):
    """Compare the shares on the page with a map made here."""
    state = page.state
    own, shown = state["basins"], state["shown"]["basins"]
    given = {k: v for k, v in own["optimizer"].items() if k != "name"}
    optimizer = getattr(kb, own["optimizer"]["name"])(**given)
    f = kb.problems[own["function"]["problem"]].f
    here = kb.basins(f, shown["window"], optimizer=optimizer, resolution=shown["resolution"], steps=own["steps"])
    assert [m["x"] for m in shown["minima"]] == [m.x.tolist() for m in here.minima]
    assert [m["share"] for m in shown["minima"]] == [m.share for m in here.minima]
    assert shown["shares"] == here.shares


def test_four_basins_with_their_shares(open_lab):
    page = open_lab({"room": "basins"})
    page.until(MAP)
    page.until("s => s.shown.basins.sharp")
    same_map(page)
    assert page.page.locator("table tbody tr").count() == 4


def test_the_map_follows_rate_momentum_and_optimizer(open_lab):
    page = open_lab({"room": "basins"})
    page.until(MAP)
    page.page.get_by_role("textbox", name="Learning rate η").fill("0.021")
    page.until("s => s.shown.basins.shares.diverged > 0")
    page.page.get_by_role("textbox", name="momentum").fill("0.5")
    page.until("s => s.basins.optimizer.momentum === 0.5")
    page.page.get_by_role("combobox", name="Optimizer").select_option("Adam")
    page.until("s => s.basins.optimizer.name === 'Adam' && s.shown.basins.shares.diverged === 0")


def test_a_pixel_shows_its_path(open_lab):
    page = open_lab({"room": "basins"})
    page.until(MAP)
    box = page.page.locator(".field").bounding_box()
    page.page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.7)
    page.until("s => s.shown.basins.path?.x0[0] < -1 && s.shown.basins.path.x0[0] === s.basins.x0[0]")
    path = page.shown("basins")["path"]
    run = kb.minimize(kb.problems["himmelblau"].f, path["x0"], kb.SGD(0.01), max_steps=200, gtol=1e-6)
    assert path["x"] == run.x.tolist()


def test_near_the_bound_the_borders_turn_fractal_and_zooming_computes_anew(open_lab):
    page = open_lab({"room": "basins"})
    page.until(MAP)
    page.page.locator("[data-preset=edge]").click()
    page.until("s => s.basins.optimizer.lr === 0.0235 && s.shown.basins.shares.diverged > 0.1")
    page.page.get_by_role("button", name="Zoom in").click()
    page.page.get_by_role("button", name="Zoom in").click()
    page.until("s => s.shown.basins.window[0][1] - s.shown.basins.window[0][0] < 8 && s.shown.basins.sharp")
    same_map(page)


def test_the_address_gives_the_same_map_again(open_lab):
    page = open_lab(EDGE)
    page.until("s => s.shown.basins.sharp")
    before = page.state
    page.page.reload()
    page.until("s => s.ready")
    page.until("s => s.shown.basins.sharp")
    after = page.state
    assert after["basins"] == before["basins"]
    assert after["shown"]["basins"]["minima"] == before["shown"]["basins"]["minima"]


def test_opening_a_link_changes_nothing(open_lab):
    page = open_lab({"room": "basins"})
    page.until("s => s.shown.basins.path && s.shown.basins.minima")
    page.settled()
    assert page.kept == {"koubai": 1, "room": "basins"}
    assert page.page.locator("#undo").is_disabled()


def test_the_text_makes_the_map_that_is_shown(open_lab):
    page = open_lab({"room": "basins"}, device_scale_factor=2)
    state = page.until("s => s.shown.basins.sharp")
    width, height = state["shown"]["basins"]["resolution"]
    assert width * height > 200_000
    page.until(lambda s: f"{width}" in s["shown"]["basins"]["python"] and f"{height}" in s["shown"]["basins"]["python"])
