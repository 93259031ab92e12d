"""The lab's server, as an attacker and a page see it: a real process, real sockets."""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import websockets.exceptions
from websockets.sync.client import connect

from koubai.lab import serve, session
from koubai.lab.messages import MOST_BYTES
from koubai.lab.server import Tickets, signing_key

START = [sys.executable, "-c", "from koubai.cli import main; main()", "lab", "--no-browser"]
BOWL = {"expression": "x**2/20 + y**2"}
DESCENT = {
    "function": BOWL, "x0": [-7, 2], "optimizers": [{"name": "SGD", "lr": 0.1}, {"name": "Adam", "lr": 0.1}],
    "max_steps": 200,
}  # fmt: skip
MEBIBYTE = 2**20


class Lab:
    """A lab in a process of its own."""

    def __init__(self, folder, *words):
        self.env = {**os.environ, "XDG_STATE_HOME": str(folder), "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*START, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env
        )
        self.address = self.process.stdout.readline().strip()
        match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{20,})(#.*)?", self.address)
        assert match, (self.address, self.process.poll())
        self.port, self.token = int(match[1]), match[2]
        self.base = f"http://127.0.0.1:{self.port}"

    def ticket(self):
        """Return the cookie that the address gives."""
        answer = httpx.get(f"{self.base}/", params={"token": self.token})
        assert answer.status_code == 303
        return "; ".join(f"{name}={value}" for name, value in answer.cookies.items())

    def connect(self, cookie=None, origin=None, **options):
        headers = {"Cookie": self.ticket() if cookie is None else cookie}
        origin = self.base if origin is None else origin
        return connect(
            f"ws://127.0.0.1:{self.port}/ws", origin=origin, additional_headers=headers, max_size=None, proxy=None,
            **options,
        )  # fmt: skip

    def raw(self, path, method="GET", **headers):
        """Return the status, headers and body of a request with just these headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": f"127.0.0.1:{self.port}", **headers}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def memory(self):
        """Return the resident memory of the process, in bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024

    def is_well(self):
        """Ask for a descent on a new connection: the server lives, and computes what it should."""
        with self.connect() as page:
            answer = ask(page, "descend", view="well", **DESCENT)
        return answer["ok"] and answer["runs"][0]["nit"] == 200 and self.process.poll() is None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def lab(folder):
    own = Lab(folder, "--port", "0")
    yield own
    own.stop()


def unpack(data):
    length = int.from_bytes(data[:4], "little")
    header, start = json.loads(data[4 : 4 + length]), 4 + length
    assert start % 8 == 0
    for name, told in header.pop("arrays", {}).items():
        count = int(np.prod(told["shape"]))
        header[name] = np.frombuffer(data, told["dtype"], count, start + told["offset"]).reshape(told["shape"])
    return header


def ask(page, name, view="test", number=1, **arguments):
    page.send(json.dumps({"view": view, "id": number, "ask": name, **arguments}))
    answer = unpack(page.recv(timeout=30))
    assert (answer["view"], answer["id"]) == (view, number)
    return answer


# -- serving ----------------------------------------------------------------------------------------------------------


def test_the_address_gives_a_ticket_and_the_page(lab):
    answer = httpx.get(lab.base, params={"token": lab.token, "lang": "ja"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?lang=ja")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = httpx.get(lab.base, headers={"Cookie": lab.ticket()})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert lab.token not in page.text


def test_every_response_is_guarded_by_headers(lab):
    for path in ("/", "/static/index.html", "/static/none.js", "/none"):
        _, headers, _ = lab.raw(path)
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert not [name for name in headers if name.startswith("access-control")]


def test_a_descent_comes_as_numbers(lab):
    with lab.connect() as page:
        answer = ask(page, "descend", **DESCENT)
    assert answer["ok"]
    assert [run["name"] for run in answer["runs"]] == ["SGD", "Adam"]
    assert answer["path.1"].shape == (201, 2)
    assert answer["path.1"].dtype == np.float32
    np.testing.assert_array_equal(answer["path.0"][0], [-7, 2])


def test_a_port_that_is_taken_is_a_clear_error(lab):
    found = subprocess.run([*START, "--port", str(lab.port)], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert f"port {lab.port} can't be used" in found.stderr
    assert found.stdout == ""


def test_the_page_comes_back_after_a_restart_on_the_same_port(folder):
    with Lab(folder, "--port", "0") as first:
        cookie = first.ticket()
        with first.connect(cookie) as page:
            before = ask(page, "descend", **DESCENT)
        first.process.kill()
    with Lab(folder, "--port", str(first.port)) as second:
        assert second.token != first.token
        with second.connect(cookie) as page:  # with what the open page has, and nothing else
            after = ask(page, "descend", **DESCENT)
        assert httpx.get(second.base, headers={"Cookie": cookie}).status_code == 200
        assert before["runs"] == after["runs"]
        assert httpx.get(second.base, params={"token": first.token}).status_code == 403
    assert (folder / "koubai" / "lab.key").stat().st_mode & 0o077 == 0


# -- who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", "", None],
)
def test_another_host_is_refused(lab, host):
    """DNS rebinding: a name of the attacker's that points here."""
    host = None if host is None else host.format(port=lab.port)
    for path in ("/", f"/?token={lab.token}", "/static/index.html"):
        status, _, body = lab.raw(path, Host=host)
        assert status in (400, 403)
        assert b"<title" not in body


def test_two_hosts_are_refused(lab):
    with socket.create_connection(("127.0.0.1", lab.port), timeout=10) as own:
        own.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{lab.port}\r\nHost: evil.example\r\n\r\n".encode())
        assert own.recv(4096).split()[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil"],
)
def test_another_origin_is_refused(lab, origin):
    origin = origin.format(port=lab.port)
    assert lab.raw("/", Origin=origin, Cookie=lab.ticket())[0] == 403
    with pytest.raises(websockets.exceptions.InvalidStatus, match="403"), lab.connect(origin=origin):
        pass


def test_a_websocket_without_an_origin_is_refused(lab):
    with pytest.raises(websockets.exceptions.InvalidStatus, match="403"), lab.connect(origin=""):
        pass
    url, cookie = f"ws://127.0.0.1:{lab.port}/ws", {"Cookie": lab.ticket()}
    with pytest.raises(websockets.exceptions.InvalidStatus, match="403"), connect(url, additional_headers=cookie):
        pass


def test_localhost_is_the_same_machine(lab):
    host = f"localhost:{lab.port}"
    assert lab.raw("/", Host=host, Origin=f"http://{host}", Cookie=lab.ticket())[0] == 200
    assert lab.raw("/", Host=host, Origin=lab.base, Cookie=lab.ticket())[0] == 403


def forged(ticket, lab):
    name, _, value = ticket.partition("=")
    expires, nonce, signature = value.split(".")
    return [
        "", "none=1", f"{name}=", f"{name}=..", f"{name}={expires}.{nonce}.", f"{name}={nonce}.{signature}",
        f"{name}={int(expires) + 1}.{nonce}.{signature}", f"{name}=1.{nonce}.{signature}", f"{name}={'9' * 5000}",
        f"koubai-lab-{lab.port + 1}={value}", f"{name}={expires}.{nonce}.{signature[:-1]}x{signature[-1]}",
    ]  # fmt: skip


def test_no_ticket_and_forged_ones_are_refused(lab):
    for cookie in forged(lab.ticket(), lab):
        status, _, body = lab.raw("/", Cookie=cookie)
        assert (status, b"token" in body) == (403, True)
        with pytest.raises(websockets.exceptions.InvalidStatus, match="403"), lab.connect(cookie or "a=b"):
            pass


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 32, "%00", "A" * 5000])
def test_a_wrong_token_is_refused(lab, token):
    assert httpx.get(lab.base, params={"token": token}).status_code == 403
    assert lab.raw(f"/?token={lab.token[:-1]}")[0] == 403
    assert lab.raw(f"/ws?token={lab.token[:-1]}")[0] in (403, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static/%2e%2e%2fserver.py",
        "/static/....//server.py", "/static//etc/passwd", "/static/%2fetc/passwd", "/static/..\\server.py",
        "/static/rooms/../../server.py", "/static/%00index.html", "/../server.py", "//etc/passwd", "/static/",
        "/static/" + "a" * 4000, "/static/" + "../" * 30 + "etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_static_files(lab, path):
    status, _, body = lab.raw(path, Cookie=lab.ticket())
    assert status in (400, 403, 404)
    assert b"import" not in body
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_nothing_but_reading_is_served(lab, method):
    status, headers, _ = lab.raw("/", method, Cookie=lab.ticket())
    assert status == 405
    assert not [name for name in headers if name.startswith("access-control")]


def test_the_key_is_kept_for_this_user_alone(tmp_path):
    key = signing_key(tmp_path / "state")
    assert len(key) == 32
    assert signing_key(tmp_path / "state") == key
    (tmp_path / "state" / "lab.key").chmod(0o644)  # others may have read it
    assert signing_key(tmp_path / "state") != key
    (tmp_path / "file").write_text("")
    assert len(signing_key(tmp_path / "file")) == 32  # no folder there: for this launch alone


def test_tickets_are_for_one_port_and_one_key_and_end(monkeypatch):
    own = Tickets(b"k" * 32, 8421, "token")
    ticket = own.issue()
    assert own.is_good(ticket)
    assert not Tickets(b"k" * 32, 8422, "token").is_good(ticket)
    assert not Tickets(b"l" * 32, 8421, "token").is_good(ticket)
    after = time.time() + 40 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: after)
    assert not own.is_good(ticket)


# -- messages ---------------------------------------------------------------------------------------------------------

MALFORMED = [
    "", "{", "null", "[]", "1", '"text"', "{}", "NaN", '{"view": NaN}', "[" * 100_000, '{"a":' * 50_000,
    '{"view": 1, "id": 1, "ask": "parse"}', '{"view": "a", "id": "1", "ask": "parse"}', '{"view": "a", "id": -1}',
    '{"view": "a", "id": 1e400, "ask": "parse"}', '{"view": "a b", "id": 1, "ask": "parse"}',
    '{"view": "' + "a" * 100 + '", "id": 1, "ask": "parse"}', '{"view": "a", "id": 1, "ask": ["parse"]}',
    '{"view": "a", "id": 1, "ask": "__import__"}', '{"view": "a", "id": 1, "ask": "none"}',
    '{"view": "a", "id": 1, "ask": "parse", "lang": "xx"}', '{"view": "a", "id": 1, "ask": "parse"}',
    '{"view": "\\ud800", "id": 1, "ask": "parse"}', '{"view": "a", "id": ' + "9" * 10_000 + ', "ask": "parse"}',
    '{"view": "a", "id": 1, "ask": "parse", "expression": "\\ud800"}',
]  # fmt: skip


def test_malformed_messages_are_answered_and_the_connection_goes_on(lab):
    with lab.connect() as page:
        for text in [*MALFORMED, b"\x00\xff", b"{}"]:
            page.send(text)
            answer = unpack(page.recv(timeout=10))
            assert (answer["ok"], answer["code"] in ("input", "expression")) == (False, True), (text, answer)
        assert ask(page, "parse", expression="x + y")["variables"] == ["x", "y"]


def test_an_oversized_message_ends_its_connection_alone(lab):
    with lab.connect() as other, lab.connect() as page:
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            page.send("x" * (2 * MOST_BYTES))
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            page.recv(timeout=10)
        assert ask(other, "parse", expression="x")["ok"]


def test_of_one_view_the_newest_wins(lab):
    slow = {**DESCENT, "max_steps": 20_000, "optimizers": [{"name": "LBFGS"}, *[{"name": "MoMo"}] * 8]}
    with lab.connect() as page:
        for number in range(20):
            page.send(json.dumps({"view": "a", "id": number, "ask": "descend", **(slow if number < 19 else DESCENT)}))
        answers = {}
        while 19 not in answers:
            answer = unpack(page.recv(timeout=30))
            answers[answer["id"]] = answer
    assert sorted(answers) == list(range(20))
    assert answers[19]["ok"]
    assert {answers[i].get("code") for i in range(19)} == {"superseded"}


def test_views_do_not_hinder_one_another_and_are_bounded(lab):
    with lab.connect() as page:
        for i in range(40):
            page.send(json.dumps({"view": f"v{i}", "id": i, "ask": "descend", **DESCENT}))
        answers = [unpack(page.recv(timeout=30)) for _ in range(40)]
    assert sorted(answer["id"] for answer in answers) == list(range(40))
    assert sum(answer["ok"] for answer in answers) >= 16
    assert all("at most 16 views" in answer["message"] for answer in answers if not answer["ok"])


def answer_of(ask_name, **arguments):
    return unpack(session.answered(session.Request("a", 7, ask_name, arguments)))


def test_what_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(session, "SECONDS", 0.0)
    answer = answer_of("descend", **DESCENT)
    assert (answer["ok"], answer["code"], answer["id"]) == (False, "limit", 7)
    assert "longer than" in answer["message"]


def test_an_error_of_the_labs_own_is_an_answer_too(monkeypatch):
    def broken(arguments, cancelled):
        raise KeyError("inside")

    monkeypatch.setattr(session, "table", lambda: {"broken": broken})
    answer = answer_of("broken")
    assert (answer["code"], answer["message"]) == ("internal", "KeyError: 'inside'")


HOSTILE = [
    "__import__('os').system('true')", "().__class__", "open('/etc/passwd')", "x" * 100_000, "(" * 5_000, "x**" * 3_000,
    "+".join(["x"] * 999) + "+y", "-" * 9_000 + "x", "sin(" * 99 + "x+y" + ")" * 99, "x**y**x**y**x**y", "9**9**9**9*x",
    "exp(exp(exp(exp(x))))*y", "x/0 + y", "log(-1)*x*y", "where(x<0, 1/0, y)", "1e308*1e308*x+y", "lambda: x", "x;y",
    "x\0y", "x\ny", "＿＿import＿＿", "f'{x}'", "x if y else x", "[x for x in y]", "x:=1",
    "sqrt(x)*arccos(y)*arccosh(x)",
    "%".join(["x"] * 900) + "%y", "x//y//x//y", "floor(x)*ceil(y)", "min(x, max(y, x))", "abs(x)**0.001*abs(y)**-50",
]  # fmt: skip


def test_hostile_expressions_are_refused_or_served(lab):
    with lab.connect() as page:
        for text in HOSTILE:
            function = {"expression": text}
            for name, more in {
                "parse": {"expression": text},
                "field": {"function": function, "window": [[-5, 5], [-5, 5]], "resolution": [64, 64]},
                "descend": {**DESCENT, "function": function},
                "diagnose": {"function": function, "x0": [1, 2], "optimizer": {"name": "SGD", "lr": 0.1}},
            }.items():
                answer = ask(page, name, **more)
                assert answer["ok"] or answer["code"] in ("expression", "input", "limit"), (text, name, answer)
    assert lab.is_well()


BAD_VALUES = [
    None,
    -1,
    1e308,
    10**30,
    "Infinity",
    "NaN",
    "x",
    [],
    [[]],
    {},
    True,
    [1e308, -1e308],
    {"a": [1]},
    [None] * 9,
]


def hostile_specs():
    plain = {
        "function": BOWL, "x0": [1, 2], "optimizer": {"name": "Adam", "lr": 0.1}, "max_steps": 50, "gtol": 0.0,
        "seed": 0,
        "optimizers": [{"name": "LBFGS", "history_size": 10**9}], "window": [[-1, 1], [-1, 1]], "resolution": [20, 20],
        "steps": 10, "low": 1e-3, "high": 1.0, "count": 8, "budget": 50, "t": 3, "lr": "given",
    }  # fmt: skip
    for field in plain:
        for value in BAD_VALUES:
            yield {**plain, field: value}
    for value in BAD_VALUES:
        for name in (
            "lr",
            "beta1",
            "eps",
            "semantics",
            "hyperparameters",
            "groups",
            "name",
            "weight_decay",
            "clipnorm",
        ):
            yield {**plain, "optimizer": {**plain["optimizer"], name: value}}
    yield {**plain, "optimizer": {"name": "LBFGS", "history_size": 10**9}}
    yield {**plain, "optimizer": {"name": "GradientDescent", "memory": 10**9}}
    yield {**plain, "function": {"problem": "himmelblau", "expression": "x"}}
    yield {**plain, "resolution": [1024, 1024], "steps": 20_000}
    yield {**plain, "x0": [1.0] * 100_000}


ROOM_ASKS = ("descend", "step", "diagnose", "fix", "rates", "find_lr", "race", "basins", "field", "arrows")


def test_hostile_specifications_are_refused_or_served(lab):
    specs = list(hostile_specs())
    with lab.connect() as page:
        for i, spec in enumerate(specs):
            answer = ask(page, ROOM_ASKS[i % len(ROOM_ASKS)], **spec)
            assert answer["ok"] or answer["code"] in ("expression", "input", "limit"), (spec, answer)
    assert lab.is_well()


# -- many, much, slow -------------------------------------------------------------------------------------------------


def fuzzed(random):
    """Return one message that is wrong in one way or another, or right."""
    kind = random.random()
    if kind < 0.15:
        return bytes(random.randrange(256) for _ in range(random.randrange(200)))
    if kind < 0.3:
        return "".join(chr(random.choice([random.randrange(32, 127), random.randrange(0xD7FF)])) for _ in range(100))
    value = lambda: random.choice([*BAD_VALUES, random.random() * 10, random.randrange(-5, 30), [1, 2], BOWL])  # noqa: E731
    message = {
        "view": random.choice(["a", "b", "c"]),
        "id": random.randrange(1000),
        "ask": random.choice(sorted(session.table())),
    }
    message |= {
        "function": random.choice(
            [BOWL, {"expression": random.choice(HOSTILE)}, {"problem": "himmelblau"}, {"expression": "x**3"}]
        )
    }
    message |= {"x": 2.0, "h": 0.1, "kind": "csv", "state": BOWL, "expression": "x+y", "epoch": 1, "spec": {}}
    message |= {"x0": [1, 2], "max_steps": 30, "steps": 5, "resolution": [16, 16], "window": [[-2, 2], [-2, 2]]}
    message |= {"optimizer": {"name": "SGD", "lr": 0.01}, "optimizers": [{"name": "Adam"}], "budget": 20, "count": 4}
    for field in random.sample(sorted(message), random.randrange(3)):
        message[field] = value()
    text = json.dumps(message)
    if random.random() < 0.2:
        at = random.randrange(len(text))
        text = text[:at] + random.choice(["", "}", '"', "\\", "[", "9"]) + text[at + random.randrange(3) :]
    return text


def attack(lab, messages, seed):
    """Send fuzzed messages as fast as answers come; every one of them is answered."""
    draw = random.Random(seed)
    with lab.connect() as page:
        sent = answered = 0
        while answered < messages:
            while sent < messages and sent - answered < 8:
                page.send(fuzzed(draw))
                sent += 1
            answer = unpack(page.recv(timeout=60))
            answered += 1
            assert answer["ok"] or answer["code"] != "internal", answer["message"]


def settled(lab):
    """Make the caches what they become by use, and return the memory then."""
    attack(lab, 300, 99)
    assert lab.is_well()
    return lab.memory()


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@linux
def test_fuzzed_messages_are_all_answered(lab):
    before = settled(lab)
    attack(lab, 700, 0)
    assert lab.is_well()
    assert lab.memory() - before < 100 * MEBIBYTE


@linux
@pytest.mark.slow
def test_ten_thousand_fuzzed_messages_are_all_answered(lab):
    before = settled(lab)
    threads = [threading.Thread(target=attack, args=(lab, 2500, seed)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lab.is_well()
    assert lab.memory() - before < 100 * MEBIBYTE


@linux
def test_fifty_clients_at_once_are_all_served(lab):
    before, cookie, failed = settled(lab), lab.ticket(), []

    def client(number):
        try:
            with lab.connect(cookie) as page:
                for i in range(10):
                    start = [-7 + 0.1 * number, 2 + 0.01 * i]
                    answer = ask(page, "descend", number=i, **{**DESCENT, "x0": start})
                    assert answer["ok"], answer
                    np.testing.assert_allclose(answer["path.0"][0], start, rtol=1e-6)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert lab.memory() - before < 100 * MEBIBYTE


@linux
def test_a_reader_that_reads_nothing_fills_no_memory(lab):
    """It asks for maps of a megabyte, and never reads an answer: the server stops listening to it."""
    before, cookie = settled(lab), lab.ticket()
    map_of_f = {"ask": "field", "function": BOWL, "window": [[-5, 5], [-5, 5]], "resolution": [512, 512]}
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            own = stack.enter_context(lab_socket(lab, cookie))
            own.settimeout(0.5)
            with contextlib.suppress(TimeoutError, OSError):
                for number in range(400):
                    own.sendall(frame(json.dumps({"view": f"v{number % 16}", "id": number, **map_of_f})))
        time.sleep(1)
        assert lab.is_well()  # while they hang there
        assert lab.memory() - before < 100 * MEBIBYTE
    assert lab.is_well()


def lab_socket(lab, cookie):
    """Return a socket on which a websocket has been opened by hand, and of which nothing will be read."""
    own = socket.create_connection(("127.0.0.1", lab.port), timeout=10)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    own.sendall(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{lab.port}\r\nOrigin: {lab.base}\r\nCookie: {cookie}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert own.recv(12) == b"HTTP/1.1 101"
    return own


def frame(text):
    """Return a text as one masked frame, the mask being zero."""
    data = text.encode()
    assert 125 < len(data) < 65_536
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data


def test_half_a_request_holds_nobody_up(lab):
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            own = stack.enter_context(socket.create_connection(("127.0.0.1", lab.port), timeout=10))
            own.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        assert lab.is_well()
    with contextlib.suppress(ConnectionError):  # it may be cut off before it is told why
        assert lab.raw("/", **{"X-Long": "a" * 300_000})[0] in (400, 431)
    assert lab.is_well()


def test_ctrl_c_ends_the_lab(folder):
    with Lab(folder, "--port", "0") as own:
        with own.connect() as page:
            ask(page, "parse", expression="x")
            own.process.send_signal(signal.SIGINT)
            own.process.wait(15)
        assert own.process.stderr.read() == ""


@linux
@pytest.mark.slow
def test_the_whole_attack_leaves_memory_bounded(folder):
    own = Lab(folder, "--port", "0")
    try:
        with own.connect() as page:  # what every lab holds that was used: each room's code, imported and compiled once
            for name in ROOM_ASKS:
                plain = next(hostile_specs()) | {"function": BOWL, "optimizers": [{"name": "Adam"}]}
                assert ask(page, name, **plain)["ok"]
            flat = {"function": {"expression": "x//y//x//y"}, "x0": [1, 2], "optimizer": {"name": "SGD", "lr": 0.1}}
            assert ask(page, "diagnose", **flat)["ok"]  # looks around it, with samplers of SciPy
        before = own.memory()
        for attacked in (
            test_hostile_expressions_are_refused_or_served, test_hostile_specifications_are_refused_or_served,
            test_malformed_messages_are_answered_and_the_connection_goes_on,
            test_an_oversized_message_ends_its_connection_alone, test_ten_thousand_fuzzed_messages_are_all_answered,
            test_fifty_clients_at_once_are_all_served, test_a_reader_that_reads_nothing_fills_no_memory,
        ):  # fmt: skip
            attacked(own)
        assert own.memory() - before < 100 * MEBIBYTE
        print(f"memory grew by {(own.memory() - before) / MEBIBYTE:.0f} MiB from {before / MEBIBYTE:.0f}")
    finally:
        own.stop()


@pytest.mark.parametrize(
    ("state", "fragment"),
    [
        ("", ""),
        ('{"koubai": 1, "room": "basins"}', "#%7B%22koubai%22:%201,%20%22room%22:%20%22basins%22%7D"),
        ("#%7B%22koubai%22:1%7D", "#%7B%22koubai%22:1%7D"),
    ],
)
def test_a_state_to_begin_with_is_in_the_address(monkeypatch, state, fragment):
    monkeypatch.setattr("koubai.lab.run_server", lambda *_: None)
    said = []
    serve(0, browser=False, state=state, say=said.append)
    assert said[0].partition("#")[1:] == (("#", fragment[1:]) if fragment else ("", ""))
