"""Where first addresses come from: whom a DNS answer makes us ask, and what is said when a name gives nothing."""

import asyncio
import ipaddress
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.bootstrap.sources import DnsSource, SourceFailed, StaticSource, sample
from dht.endpoints import Endpoint
from dht.params import Params

PARAMS = Params(resolve_timeout_s=0.2)
v4 = st.ip_addresses(v=4, network="10.0.0.0/8").map(lambda a: Endpoint(str(a), 1))
v6 = st.ip_addresses(v=6, network="fd00::/16").map(lambda a: Endpoint(str(a), 1))


@given(st.lists(st.one_of(v4, v6), max_size=40), st.data(), st.randoms(use_true_random=False))
def test_a_sample_has_the_lowest_and_prefers_who_is_no_member(
    found: list[Endpoint], data: st.DataObject, rng: random.Random
) -> None:
    known = frozenset(one for one in found if data.draw(st.booleans()))
    chosen = sample(found, known, rng, PARAMS)
    assert len(chosen) == len(set(chosen))
    for is_v6 in (False, True):
        family = sorted(
            {one for one in found if one.is_v6 is is_v6}, key=lambda one: ipaddress.ip_address(one.address)
        )
        ours = [one for one in chosen if one.is_v6 is is_v6]
        assert ours[:3] == family[:3]
        assert len(ours) == min(6, len(family))
        unknown = [one for one in family[3:] if one not in known]
        assert len([one for one in ours[3:] if one not in known]) == min(3, len(unknown))


def test_random_addresses_are_spread() -> None:
    found = [Endpoint(f"10.0.0.{n}", 1) for n in range(1, 34)]
    rng = random.Random(1)
    asked = Counter(one for _ in range(1000) for one in sample(found, frozenset(), rng, PARAMS))
    assert all(asked[one] == 1000 for one in found[:3])
    # 3 of 30 each time: 100 each on average.
    assert all(60 < asked[one] < 140 for one in found[3:])


def test_addresses_are_ordered_as_numbers() -> None:
    found = [Endpoint(f"10.0.0.{n}", 1) for n in (100, 20, 3, 4)]
    chosen = sample(found, frozenset(), random.Random(1), Params(dns_random_count=0))
    assert [one.address for one in chosen] == ["10.0.0.3", "10.0.0.4", "10.0.0.20"]


@pytest.mark.parametrize(
    ("host", "address", "text"),
    [
        ("192.0.2.7", "192.0.2.7", "static:192.0.2.7:29021"),
        ("::FFFF:192.0.2.7", "192.0.2.7", "static:[::FFFF:192.0.2.7]:29021"),
        ("FD00::1", "fd00::1", "static:[FD00::1]:29021"),
        ("fe80::1%eth0", "fe80::1%eth0", "static:[fe80::1%eth0]:29021"),
    ],
)
async def test_an_address_needs_no_resolver(
    host: str, address: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    source = StaticSource(host, 29021, PARAMS)
    assert await source.endpoints() == [Endpoint(address, 29021)]
    assert str(source) == text


async def test_a_name_is_resolved_by_the_machine() -> None:
    found = await StaticSource("localhost", 29021, PARAMS).endpoints()
    assert found
    assert set(found) <= {Endpoint("127.0.0.1", 29021), Endpoint("::1", 29021)}


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "exa mple\0"])
async def test_what_is_no_host_name_is_a_reason(name: str) -> None:
    with pytest.raises(SourceFailed, match=r"cannot resolve .*check its spelling"):
        await DnsSource(name, 29021, random.Random(1), PARAMS).endpoints()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The C library's resolver without a name server: holds its thread until the event is set."""
    answer = threading.Event()

    def getaddrinfo(host: str, port: int, *, type: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        answer.wait()
        return [(2, type, 17, "", ("192.0.2.1", port)), (2, type, 17, "", ("0.0.0.0", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answer
    answer.set()


def _resolvers() -> int:
    return sum(thread.name == "resolve members.example" for thread in threading.enumerate())


async def test_a_resolver_that_hangs_is_asked_once_and_its_answer_is_used_later(
    hanging: threading.Event,
) -> None:
    source = DnsSource("members.example", 29021, random.Random(1), PARAMS)
    for _ in range(3):
        with pytest.raises(SourceFailed, match=r"no answer in 0\.2 s; check"):
            await source.endpoints()
        assert _resolvers() == 1
    hanging.set()
    # Without what is no address of a host.
    assert await source.endpoints() == [Endpoint("192.0.2.1", 29021)]


def test_nobody_waits_for_a_resolver_that_hangs_at_exit(hanging: threading.Event) -> None:
    source = DnsSource("members.example", 29021, random.Random(1), PARAMS)

    async def cancelled() -> None:
        async with asyncio.timeout(0.01):
            await source.endpoints()

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    assert not hanging.is_set()
    (left,) = [thread for thread in threading.enumerate() if thread.name == "resolve members.example"]
    assert left.daemon
    # It answers a loop that has ended: no traceback (pytest turns one of a thread into a failure).
    hanging.set()
    left.join(5)
    assert not left.is_alive()
