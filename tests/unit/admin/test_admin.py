"""Health, status and metrics over HTTP, and what the metrics page promises."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import msgspec
import pytest

from mirror.admin.answers import IMAGES_PATH, PEERS_PATH, STATUS_PATH
from mirror.admin.server import AdminServer, host_name, metrics_app
from mirror.metrics import Metrics
from mirror.web import listener
from mirror.web.listener import Listener, ListenFailed, bind, bind_with_udp
from tests.support.admin_views import IMAGES, PEERS, STATUS, views
from tests.support.dht_view import View
from tests.support.mirror_host import ask

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs/metrics.md").read_text()


async def test_ready_with_reasons_and_without() -> None:
    reasons = ["containerd at /run/x.sock: not there"]
    served = Listener(
        AdminServer(views(unready=lambda: reasons), "127.0.0.1").app,
        bind("admin", "127.0.0.1", 0),
        drain_s=0.1,
    )
    await served.start()
    try:
        url = f"http://127.0.0.1:{served.address[1]}"
        answer = await ask(url + "/readyz")
        assert (answer.status, answer.body.decode()) == (503, reasons[0] + "\n")
        assert (await ask(url + "/livez")).status == 200
        reasons.clear()
        assert (await ask(url + "/readyz")).status == 200
        for path, told in ((STATUS_PATH, STATUS), (PEERS_PATH, PEERS), (IMAGES_PATH, IMAGES)):
            answer = await ask(url + path)
            assert answer.body == msgspec.json.encode(told)
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            assert (await ask(url + path, "POST")).status == 405
    finally:
        await served.stop()


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 421), ("evil.example:29022", 421), ("localhost:1", 200), ("[::1]:5", 200)],
)
async def test_a_foreign_host_header_is_refused(host: str, status: int) -> None:
    served = Listener(AdminServer(views(), "127.0.0.1").app, bind("admin", "127.0.0.1", 0), drain_s=0.1)
    await served.start()
    try:
        for path in ("/readyz", STATUS_PATH, PEERS_PATH, IMAGES_PATH):
            assert (await ask(f"http://127.0.0.1:{served.address[1]}{path}", Host=host)).status == status
    finally:
        await served.stop()


async def test_images_of_a_containerd_that_is_away_are_no_answer_with_the_reason() -> None:
    app = AdminServer(views(images=None), "127.0.0.1").app
    served = Listener(app, bind("admin", "127.0.0.1", 0), drain_s=0.1)
    await served.start()
    try:
        answer = await ask(f"http://127.0.0.1:{served.address[1]}{IMAGES_PATH}")
        assert (answer.status, answer.body) == (503, b"containerd at /run/x.sock: not there\n")
    finally:
        await served.stop()


@pytest.mark.parametrize(
    ("text", "name"), [("a:1", "a"), ("a", "a"), ("[::1]:29022", "::1"), ("[fe80::1]", "fe80::1"), ("", "")]
)
def test_the_name_in_a_host_header(text: str, name: str) -> None:
    assert host_name(text) == name


async def test_the_metrics_page_holds_what_the_document_names() -> None:
    metrics = Metrics()
    metrics.show_dht(View())
    served = Listener(metrics_app(metrics), bind("metrics", "127.0.0.1", 0), drain_s=0.1)
    await served.start()
    try:
        page = (await ask(f"http://127.0.0.1:{served.address[1]}/metrics")).body.decode()
    finally:
        await served.stop()
    shown = {
        (name, kind)
        for name, kind in re.findall(r"^# TYPE (peili_\w+) (\w+)$", page, re.MULTILINE)
        if not name.endswith("_created")
    }
    assert shown == set(re.findall(r"^\| `(peili_\w+)` \| (\w+) \|", DOCUMENT, re.MULTILINE))


def test_an_address_in_use_is_named_with_its_flag() -> None:
    taken = bind("registry", "127.0.0.1", 0)
    taken.listen()
    with (
        taken,
        pytest.raises(
            ListenFailed, match=r"--registry-addr 127\.0\.0\.1:\d+ cannot be bound: Address already in use"
        ),
    ):
        bind("registry", "127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(("listens_at", "datagrams_at"), [("127.0.0.1", "127.0.0.1"), ("::", "0.0.0.0")])
def test_any_free_port_is_one_where_datagrams_come_too(
    listens_at: str, datagrams_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken,
        bind("peer", listens_at, 0) as first,
        bind("peer", listens_at, 0) as second,
    ):
        # Both are free for TCP: a port of another program's ended connection would not be.
        ports = [sock.getsockname()[1] for sock in (first, second)]
        taken.bind((datagrams_at, ports[0]))
        first.close()
        second.close()
        # What the kernel gives for port 0 is its own choice: here it is the one that is taken, first.
        choices = iter(ports)
        monkeypatch.setattr(
            listener, "bind", lambda name, host, port: bind(name, host, port or next(choices))
        )
        with bind_with_udp("peer", listens_at, 0) as found:
            assert found.getsockname()[1] == ports[1]


def test_a_port_that_is_asked_for_is_the_one_whatever_datagrams_do() -> None:
    """The DHT says what is wrong when it binds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with bind_with_udp("peer", "127.0.0.1", port) as found:
            assert found.getsockname()[1] == port


def test_an_ipv6_wildcard_serves_ipv4_too() -> None:
    with bind("peer", "::", 0) as sock:
        sock.listen()
        with socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=5):
            pass


def test_requests_of_all_kinds_and_outcomes_are_counted_together() -> None:
    metrics = Metrics()
    assert metrics.requests_count() == 0
    metrics.requests.labels("manifest", "miss").inc()
    metrics.requests.labels("blob", "peer").inc(2)
    assert metrics.requests_count() == 3
