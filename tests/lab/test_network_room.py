"""The network room in the browser: it trains live, and ends at the library's weights to the bit."""

import socket
import subprocess
import sys

from running import start_lab, stop_lab

ROOM = "network"


def here(**values):
    return {"room": ROOM, ROOM: values}


def of(state):
    return state["shown"][ROOM]


def at(epoch):
    return lambda s: of(s)["done"] and of(s)["epoch"] == epoch


def python_weights(text):
    """Run a copied script in a fresh process; return the digest of its weights."""
    text += "import hashlib; print(hashlib.sha256(network.vector.tobytes()).hexdigest()[:16])\n"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=240)
    return done.stdout.splitlines()[-1]


def test_it_learns_while_one_watches_and_copies_to_the_same_weights(open_lab):
    lab = open_lab(here(source="moons", n=120, limit=40, speed=0))
    lab.until(at(0))
    lab.page.get_by_role("button", name="Train", exact=True).click()
    lab.until(lambda s: of(s)["playing"])
    state = lab.until(lambda s: at(40)(s) and not of(s)["playing"])
    assert state["network"]["epoch"] == 40
    assert of(state)["score"] > 0.9
    assert of(state)["history"] == 40
    lab.page.get_by_role("tab", name="Take it away").click()
    lab.page.get_by_role("button", name="Copy as Python").click()
    text = of(lab.until(lambda s: "epochs=40" in of(s)["python"]))["python"]
    assert python_weights(text) == of(state)["weights"]


def test_pause_step_back_and_reset_with_the_same_seed(open_lab):
    lab = open_lab(here(source="xor", n=60, limit=200, speed=20))
    first = of(lab.until(at(0)))["weights"]
    play = lab.page.get_by_role("button", name="Train", exact=True)
    play.click()
    lab.until(lambda s: of(s)["epoch"] >= 5)
    lab.page.get_by_role("button", name="Pause").click()
    lab.until(lambda s: not of(s)["playing"] and of(s)["epoch"] == s["network"]["epoch"])
    epoch = lab.state["network"]["epoch"]
    here_ = of(lab.until(at(epoch)))["weights"]
    lab.page.get_by_role("button", name="One epoch on").click()
    assert of(lab.until(at(epoch + 1)))["weights"] != here_
    lab.page.get_by_role("button", name="One epoch back").click()
    assert of(lab.until(at(epoch)))["weights"] == here_
    lab.page.get_by_role("button", name="Back to the first weights").click()
    assert of(lab.until(at(0)))["weights"] == first


def test_a_link_leads_to_the_same_weights(open_lab):
    values = {"source": "circles", "n": 100, "epoch": 25, "layers": [5], "activation": "relu", "seed": 4}
    values["schedule"] = {"name": "cosine", "steps": 120, "warmup": 10}
    first = of(open_lab(here(**values)).until(at(25)))
    again = open_lab(here(**values))
    second = of(again.until(at(25)))
    assert first["weights"] == second["weights"]
    assert first["fun"] == second["fun"]
    again.page.reload()
    assert of(again.until(lambda s: s and s["ready"] and at(25)(s)))["weights"] == first["weights"]


def test_points_are_drawn_by_pointer_and_by_keyboard(open_lab):
    lab = open_lab(here(source="drawn", validation=0, limit=60, speed=0))
    canvas = lab.page.locator(".field canvas").first
    canvas.click(position={"x": 200, "y": 150})
    canvas.click(position={"x": 250, "y": 200})
    lab.page.get_by_role("button", name="class 1", exact=True).click()
    canvas.click(position={"x": 600, "y": 150})
    lab.until(lambda s: len(s["network"]["points"]) == 3)
    canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "1", "Enter"):
        lab.page.keyboard.press(key)
    state = lab.until(lambda s: len(s["network"]["points"]) == 4 and of(s)["points"] == 4)
    assert [p[2] for p in state["network"]["points"]] == [0, 0, 1, 1]
    lab.page.get_by_role("button", name="Train", exact=True).click()
    state = lab.until(at(60))
    assert of(state)["score"] == 1.0
    lab.page.get_by_role("button", name="Remove the last").click()
    lab.until(lambda s: len(s["network"]["points"]) == 3)


def test_a_csv_and_a_wrong_one(open_lab):
    rows = ["height,weight,kind", *(f"{150 + 3 * i},{50 + 4 * i},{'ab'[i > 4]}" for i in range(10))]
    lab = open_lab(here(source="csv", validation=0, epoch=20))
    paste = lab.page.get_by_label("Text of the CSV")
    paste.fill("\n".join(rows))
    state = lab.until(at(20))
    assert of(state)["classes"] == ["a", "b"]
    weights = of(state)["weights"]
    paste.fill("\n".join([*rows, "1,oops,a"]))
    lab.until(lambda s: "oops" in of(s)["complaint"])
    assert "oops" in lab.page.locator(".complaint").first.inner_text()
    paste.fill("\n".join(rows))
    assert of(lab.until(lambda s: not of(s)["complaint"] and at(20)(s)))["weights"] == weights


def test_the_columns_and_the_delimiter_of_a_csv_are_chosen(open_lab):
    rows = [f"{i};{'ab'[i > 4]};{150 + i * i};{50 + 4 * i}" for i in range(10)]
    lab = open_lab(here(source="csv", validation=0, epoch=5))
    paste = lab.page.get_by_label("Text of the CSV")
    paste.fill("number;kind;height;weight\n" + "\n".join(rows))
    lab.until(lambda s: "another delimiter" in of(s)["complaint"])
    lab.page.get_by_label("Delimiter").select_option(";")
    # by itself: the first two columns, and the last for the class, which has too many of them
    lab.until(lambda s: "is 'a', not a number" in of(s)["complaint"])
    lab.page.get_by_label("Column of the class").select_option("kind")
    lab.page.get_by_label("Column up").select_option("weight")
    state = lab.until(lambda s: not of(s)["complaint"] and at(5)(s))
    assert of(state)["classes"] == ["a", "b"]
    assert state["network"]["csv_columns"] == ["number", "weight", "kind"]
    weights = of(state)["weights"]
    lab.page.get_by_label("Column across").select_option("height")
    state = lab.until(lambda s: s["network"]["csv_columns"][0] == "height" and at(5)(s) and of(s)["weights"] != weights)
    # nothing is lost by a wrong choice: what was trained comes back with the right one
    weights = of(state)["weights"]
    lab.page.get_by_label("First line").select_option("false")
    lab.until(lambda s: "is 'number', not a number" in of(s)["complaint"])
    lab.page.click("#lang")
    lab.until(lambda s: "数値ではありません" in of(s)["complaint"])
    lab.page.click("#lang")
    lab.page.get_by_label("First line").select_option("null")
    for label, name in (("Column across", "height"), ("Column of the class", "kind"), ("Column up", "weight")):
        lab.page.get_by_label(label).select_option(name)
    assert of(lab.until(lambda s: not of(s)["complaint"] and at(5)(s)))["weights"] == weights
    lab.settled()
    lab.page.reload()
    assert of(lab.until(lambda s: s and s["ready"] and at(5)(s)))["weights"] == weights
    assert lab.page.get_by_label("Column of the class").input_value() == "kind"


def test_layers_units_and_a_look_into_one(open_lab):
    lab = open_lab(here(source="moons", n=80, epoch=10, tab="layers", layers=[4]))
    before = of(lab.until(at(10)))["parameters"]
    lab.page.get_by_role("button", name="Add a layer").click()
    lab.until(lambda s: at(10)(s) and of(s)["parameters"] > before)
    lab.page.get_by_role("button", name="Layer 2, unit 3").click()
    lab.until(lambda s: of(s)["unit"] == [1, 2])
    lab.page.get_by_role("button", name="Remove layer 2").click()
    state = lab.until(lambda s: at(10)(s) and of(s)["parameters"] == before)
    assert state["network"]["unit"] is None


def test_an_optimizer_and_a_schedule_change_the_training(open_lab):
    lab = open_lab(here(source="moons", n=80, epoch=10, tab="training"))
    before = of(lab.until(at(10)))["weights"]
    lab.page.get_by_label("Optimizer").select_option("Momentum")
    lab.until(lambda s: at(10)(s) and of(s)["weights"] != before)
    rate = of(lab.state)["lr"]
    lab.page.get_by_label("Schedule of the rate").select_option("exponential")
    lab.until(lambda s: at(10)(s) and of(s)["lr"] < rate)


def test_backprop_is_checked_and_the_training_diagnosed(open_lab):
    lab = open_lab(here(source="drawn", points=[[0.6, 0.9, 2]], validation=0, layers=[], tab="check"))
    lab.until(at(0))
    lab.page.get_by_role("button", name="Backprop against numerical").click()
    check = of(lab.until(lambda s: of(s)["check"]))["check"]
    assert check["agrees"]
    assert check["largest"] < 1e-8
    assert check["backprop"] == 1 < check["parameters"] == 9 < check["numerical"]
    lab = open_lab(here(source="moons", n=100, epoch=20, optimizer={"name": "SGD", "lr": 1e-5}))
    lab.until(at(20))
    lab.page.get_by_role("button", name="What is going on?").click()
    assert of(lab.until(lambda s: of(s)["diagnosis"]))["diagnosis"] == "lr_too_small"


def test_gradients_fade_in_a_deep_sigmoid(open_lab):
    lab = open_lab(here(source="spirals", n=100, epoch=5, layers=[8, 8, 8, 8], activation="sigmoid", chart="gradient"))
    lab.until(at(5))
    frame = lab.page.evaluate(
        "window.__lab.ask('test', 'train', {spec: {data: {name: 'spirals', n: 100}, layers: [8, 8, 8, 8],"
        " activation: 'sigmoid', validation: 0}, epoch: 3, seconds: 0.25}).then(a => Array.from(a.arrays.grad_norm))"
    )
    first, last = frame[0], frame[4]
    assert first < 0.1 * last


def test_a_restart_of_the_server_loses_nothing(open_lab, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process, address = start_lab(tmp_path, port)
    try:
        lab = open_lab(here(source="moons", n=80, epoch=30, limit=60, speed=0), address=address, token=True)
        before = of(lab.until(at(30)))
    finally:
        stop_lab(process)
    lab.until(lambda s: not s["connected"])
    process, _ = start_lab(tmp_path, port)
    try:
        lab.until(lambda s: s["connected"])
        assert of(lab.state)["weights"] == before["weights"]
        lab.page.get_by_role("button", name="Train", exact=True).click()
        after = of(lab.until(at(60)))
        assert after["history"] == 60
        lab.page.get_by_role("tab", name="Take it away").click()
        text = of(lab.until(lambda s: "epochs=60" in of(s)["python"]))["python"]
        assert python_weights(text) == after["weights"]
        lab.errors.clear()  # the browser's own, of the connection that was refused
        lab.page.close()  # before its server
    finally:
        stop_lab(process)


def test_what_is_going_on_is_answered_when_the_first_step_blew_up(open_lab):
    page = open_lab({"room": "network", "network": {"optimizer": {"name": "SGD", "lr": 1e300}}})
    ask = page.page.get_by_role("button", name="What is going on?")
    assert ask.is_disabled()
    page.page.locator(".transport .round").nth(2).click()
    page.until("s => s.shown.network.ended && s.network.epoch === 0")
    ask.click()
    page.until("s => s.shown.network.diagnosis")
    assert "blew up" in page.page.inner_text(".verdict .why")


def test_the_first_points_are_drawn_without_a_complaint(open_lab):
    page = open_lab({"room": "network", "network": {"source": "drawn", "points": [[0.1, 0.2, 0]]}})
    page.until("s => s.shown.network.points === 1 && s.shown.network.done")
    assert "that takes 3 more" in page.page.inner_text(".verdict .why")
    assert not page.shown("network").get("complaint")
