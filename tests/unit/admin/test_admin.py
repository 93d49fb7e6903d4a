"""Health, status and metrics over HTTP, and what the metrics page promises."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mirror.admin.server import AdminServer, host_name, metrics_app
from mirror.metrics import Metrics
from mirror.web.listener import Listener, ListenFailed, bind
from tests.support.mirror_host import ask

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs/metrics.md").read_text()


async def test_ready_with_reasons_and_without() -> None:
    reasons = ["containerd at /run/x.sock: not there"]
    listener = Listener(
        AdminServer(lambda: reasons, lambda: {"a": 1}, "127.0.0.1").app,
        bind("admin", "127.0.0.1", 0),
        drain_s=0.1,
    )
    await listener.start()
    try:
        url = f"http://127.0.0.1:{listener.address[1]}"
        answer = await ask(url + "/readyz")
        assert (answer.status, answer.body.decode()) == (503, reasons[0] + "\n")
        assert (await ask(url + "/livez")).status == 200
        reasons.clear()
        assert (await ask(url + "/readyz")).status == 200
        assert json.loads((await ask(url + "/api/v1/status")).body) == {"a": 1}
        assert (await ask(url + "/api/v1/status", "POST")).status == 405
    finally:
        await listener.stop()


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 421), ("evil.example:29022", 421), ("localhost:1", 200), ("[::1]:5", 200)],
)
async def test_a_foreign_host_header_is_refused(host: str, status: int) -> None:
    listener = Listener(AdminServer(list, dict, "127.0.0.1").app, bind("admin", "127.0.0.1", 0), drain_s=0.1)
    await listener.start()
    try:
        assert (await ask(f"http://127.0.0.1:{listener.address[1]}/readyz", Host=host)).status == status
    finally:
        await listener.stop()


@pytest.mark.parametrize(
    ("text", "name"), [("a:1", "a"), ("a", "a"), ("[::1]:29022", "::1"), ("[fe80::1]", "fe80::1"), ("", "")]
)
def test_the_name_in_a_host_header(text: str, name: str) -> None:
    assert host_name(text) == name


async def test_the_metrics_page_holds_what_the_document_names() -> None:
    listener = Listener(metrics_app(Metrics()), bind("metrics", "127.0.0.1", 0), drain_s=0.1)
    await listener.start()
    try:
        page = (await ask(f"http://127.0.0.1:{listener.address[1]}/metrics")).body.decode()
    finally:
        await listener.stop()
    served = {
        name
        for name in re.findall(r"^(peili_\w+)(?:\{[^}]*\})? ", page, re.MULTILINE)
        if not name.endswith("_created")
    }
    assert served == set(re.findall(r"^\| `(peili_\w+)`", DOCUMENT, re.MULTILINE))


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


def test_an_ipv6_wildcard_serves_ipv4_too() -> None:
    import socket

    with bind("peer", "::", 0) as sock:
        sock.listen()
        with socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=5):
            pass
