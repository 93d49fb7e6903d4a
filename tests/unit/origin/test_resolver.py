"""The guard in front of real connections: what it lets aiohttp connect to, and what it does not."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from aiohttp import ClientConnectorDNSError, ClientSession, TCPConnector, web
from yarl import URL

from mirror.origin.addresses import Place
from mirror.origin.base import Endpoint
from mirror.origin.errors import OriginForbidden
from mirror.origin.guard import Guard
from mirror.origin.resolver import AddressGuard, is_local, place_of
from tests.support.scripted_names import ScriptedNames

NOBODYS = Endpoint("https://evil.example/v2")


@dataclass(slots=True)
class Target:
    """What must not be reached."""

    port: int
    request_count: int = 0


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    found = Target(0)

    async def answer(_request: web.BaseRequest) -> web.Response:
        found.request_count += 1
        return web.Response(text="secret")

    server = web.Server(answer)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


def guard_of(names: ScriptedNames | None = None, **others: Sequence[Place]) -> AddressGuard:
    return AddressGuard(
        names=lambda: names or ScriptedNames({}), named_with=lambda _endpoint: others.get("named", ())
    )


async def fetch(guard: Guard, endpoint: Endpoint, url: URL, proxy: URL | None = None) -> str:
    """As the origin client does it."""
    guard.check(url, endpoint)
    connector = TCPConnector(resolver=guard.resolver(endpoint, proxy))
    async with ClientSession(connector=connector) as session, session.get(url, proxy=proxy) as response:
        return await response.text()


# --- What is written in the URL


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://①②⑦.0.0.1:{port}/",
        "http://127。0。0。1:{port}/",
        "http://localhost:{port}/",
        "http://LocalHost.:{port}/",
        "http://localhost..:{port}/",
        "http://ⓛocalhost:{port}/",
        "http://any.localhost:{port}/",
        "http://%6c%6f%63alhost:{port}/",
        "http://[fe80::1%25lo]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/",
        "http://quay.io@127.0.0.1:{port}/",
        "http://name:word@quay.io:{port}/",
        "http://quay.io:0/",
        "ftp://quay.io:{port}/",
        "file:///etc/shadow",
        "//quay.io/",
    ],
)
async def test_a_url_that_leads_to_this_host_is_not_asked_for(target: Target, url: str) -> None:
    names = ScriptedNames({"quay.io": [["127.0.0.1"]]})
    with pytest.raises(OriginForbidden):
        await fetch(guard_of(names), NOBODYS, URL(url.format(port=target.port)))
    assert target.request_count == 0
    assert names.asked == []


def test_the_refusal_does_not_tell_what_the_url_holds() -> None:
    with pytest.raises(OriginForbidden) as raised:
        guard_of().check(URL("http://user:pass@127.0.0.1:1/path?token=t0ken"), NOBODYS)
    assert not {"user:", "pass", "t0ken"} & set(str(raised.value).replace("@", " ").split())
    assert "t0ken" not in str(raised.value)
    assert "pass" not in str(raised.value)


@pytest.mark.parametrize("url", ["https://quay.io/v2/", "https://10.1.2.3:5000/v2/", "http://[fd00::7]/v2/"])
def test_registries_may_be_asked(url: str) -> None:
    guard_of().check(URL(url), NOBODYS)


# --- What a name becomes


async def test_a_name_that_resolves_to_this_host_is_not_connected_to(target: Target) -> None:
    names = ScriptedNames({"evil.example": [["127.0.0.1", "::1"]]})
    with pytest.raises(OriginForbidden, match="loopback"):
        await fetch(guard_of(names), NOBODYS, URL(f"http://evil.example:{target.port}/"))
    assert target.request_count == 0


async def test_a_name_rebound_after_the_first_answer_is_not_followed(target: Target) -> None:
    # The first answer is fine and nobody listens there; aiohttp would ask again for the second request.
    names = ScriptedNames({"evil.example": [["10.255.255.1"], ["127.0.0.1"]]})
    resolver = guard_of(names).resolver(NOBODYS)
    assert [it["host"] for it in await resolver.resolve("evil.example", target.port)] == ["10.255.255.1"]
    connector = TCPConnector(resolver=resolver, use_dns_cache=False)
    async with ClientSession(connector=connector) as session:
        with pytest.raises(OriginForbidden):
            await session.get(f"http://evil.example:{target.port}/")
    assert target.request_count == 0


async def test_only_the_forbidden_among_several_addresses_are_left_out() -> None:
    names = ScriptedNames({"mixed.example": [["127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00::1"]]})
    found = await guard_of(names).resolver(NOBODYS).resolve("mixed.example", 443)
    assert [it["host"] for it in found] == ["10.0.0.1", "fd00::1"]


@pytest.mark.parametrize("address", ["not an address", "", "127.1"])
async def test_an_address_that_is_none_is_not_connected_to(address: str) -> None:
    names = ScriptedNames({"odd.example": [[address]]})
    with pytest.raises(OriginForbidden):
        await guard_of(names).resolver(NOBODYS).resolve("odd.example", 443)


async def test_a_name_without_address_is_an_ordinary_failure() -> None:
    with pytest.raises(ClientConnectorDNSError):
        await fetch(guard_of(), NOBODYS, URL("http://nowhere.example/"))


async def test_a_spelling_that_aiohttp_would_resolve_is_refused_there_too() -> None:
    with pytest.raises(OriginForbidden):
        await guard_of().resolver(NOBODYS).resolve("0x7f.1", 80)


async def test_this_hosts_own_addresses_are_refused(target: Target) -> None:
    own = outward_address()
    reason = "a loopback address" if own.startswith("127.") else "an address of this host"
    names = ScriptedNames({"evil.example": [[own]]})
    with pytest.raises(OriginForbidden, match=reason):
        await fetch(guard_of(names), NOBODYS, URL(f"http://evil.example:{target.port}/"))
    with pytest.raises(OriginForbidden, match=reason):
        guard_of().check(URL(f"http://{own}:{target.port}/"), NOBODYS)
    with pytest.raises(OriginForbidden, match=reason):
        guard_of().check(URL(f"http://[64:ff9b::{own}]/"), NOBODYS)


def test_addresses_of_the_host_around_a_container_are_told() -> None:
    guard = AddressGuard(own_addresses=[ip_address("10.9.8.7")])
    with pytest.raises(OriginForbidden, match="an address of this host"):
        guard.check(URL("http://10.9.8.7:10250/"), NOBODYS)
    guard.check(URL("http://10.9.8.8:10250/"), NOBODYS)


# --- What the user named


def named(port: int, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(f"http://{host}:{port}/v2", named_by_user=True)


async def test_the_users_own_endpoint_is_reached(target: Target) -> None:
    assert await fetch(guard_of(), named(target.port), URL(f"http://127.0.0.1:{target.port}/v2/")) == "secret"
    names = ScriptedNames({"registry.lan": [["127.0.0.1"]]})
    endpoint = named(target.port, "registry.lan")
    assert await fetch(guard_of(names), endpoint, URL(f"http://registry.LAN.:{target.port}/v2/")) == "secret"
    names = ScriptedNames({"localhost": [["127.0.0.1"]]})
    endpoint = named(target.port, "localhost")
    assert await fetch(guard_of(names), endpoint, URL(f"http://localhost:{target.port}/")) == "secret"


async def test_only_that_host_and_port_are(target: Target) -> None:
    names = ScriptedNames({"registry.lan": [["127.0.0.1"]], "evil.example": [["127.0.0.1"]]})
    endpoint = named(5000, "registry.lan")
    for url in (
        f"http://registry.lan:{target.port}/",
        f"http://127.0.0.1:{target.port}/",
        "http://127.0.0.1:5000/",
        "http://evil.example:5000/",
        "http://localhost:5000/",
    ):
        with pytest.raises(OriginForbidden):
            await fetch(guard_of(names), endpoint, URL(url))
    assert target.request_count == 0


async def test_a_redirect_of_it_may_go_to_what_the_user_named_beside_it(target: Target) -> None:
    guard = guard_of(named=[Place("127.0.0.1", target.port)])
    url = URL(f"http://127.0.0.1:{target.port}/token")
    assert await fetch(guard, named(5000), url) == "secret"
    with pytest.raises(OriginForbidden):
        await fetch(guard, NOBODYS, url)
    assert target.request_count == 1


async def test_a_registry_that_nobody_named_cannot_borrow_a_name(target: Target) -> None:
    names = ScriptedNames({"registry.lan": [["127.0.0.1"]]})
    guard = guard_of(names, named=[Place("registry.lan", target.port)])
    with pytest.raises(OriginForbidden):
        await fetch(guard, NOBODYS, URL(f"http://registry.lan:{target.port}/"))
    assert target.request_count == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "localhost"])
async def test_our_own_listeners_are_no_registry_whoever_names_them(target: Target, host: str) -> None:
    names = ScriptedNames({"localhost": [["127.0.0.1"]]})
    guard = AddressGuard(own_ports=lambda: {target.port}, names=lambda: names)
    with pytest.raises(OriginForbidden, match="this daemon itself"):
        await fetch(guard, named(target.port, host), URL(f"http://{host}:{target.port}/"))
    assert target.request_count == 0


# --- Through a proxy


async def test_the_proxys_own_address_is_the_operators(target: Target) -> None:
    names = ScriptedNames({"proxy.lan": [["127.0.0.1"]]})
    proxy = URL(f"http://proxy.lan:{target.port}")
    assert await fetch(guard_of(names), NOBODYS, URL("http://quay.io/v2/"), proxy) == "secret"
    # The proxy resolves the origin's name, not we.
    assert names.asked == ["proxy.lan"]


async def test_behind_a_proxy_only_its_own_name_is_free(target: Target) -> None:
    names = ScriptedNames({"proxy.lan": [["127.0.0.1"]], "evil.example": [["127.0.0.1"]]})
    resolver = guard_of(names).resolver(NOBODYS, URL(f"http://proxy.lan:{target.port}"))
    assert await resolver.resolve("proxy.lan", target.port)
    for host, port in (("proxy.lan", target.port + 1), ("evil.example", target.port)):
        with pytest.raises(OriginForbidden):
            await resolver.resolve(host, port)


async def test_the_proxy_is_no_registry(target: Target) -> None:
    names = ScriptedNames({"proxy.lan": [["127.0.0.1"]]})
    with pytest.raises(OriginForbidden):
        await fetch(guard_of(names), NOBODYS, URL(f"http://proxy.lan:{target.port}/"))
    assert target.request_count == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "169.254.169.254", "metadata.google.internal", "0x7f.1"]
)
async def test_what_is_written_is_judged_also_where_a_proxy_connects(target: Target, host: str) -> None:
    names = ScriptedNames({"proxy.lan": [["127.0.0.1"]]})
    with pytest.raises(OriginForbidden):
        await fetch(guard_of(names), NOBODYS, URL(f"http://{host}/"), URL(f"http://proxy.lan:{target.port}"))
    assert target.request_count == 0


# --- The machine


def outward_address() -> str:
    """One of this machine's addresses; not loopback, where it has another."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.77", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_the_kernel_tells_which_addresses_are_ours() -> None:
    own = outward_address()
    assert is_local(ip_address(own))
    assert not is_local(ip_address(own) + 1)
    assert not is_local(ip_address("1.1.1.1"))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://Quay.io./v2", Place("quay.io", 443)),
        ("http://[::0001]:5000", Place("::1", 5000)),
        ("http://127.1/", None),
        ("/v2/", None),
    ],
)
def test_the_place_of_a_url(url: str, place: Place | None) -> None:
    assert place_of(URL(url)) == place
