"""The discovery port on real DHTs over loopback: what the conformance suite cannot ask of every implementation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dht import settings as of_dht
from dht.endpoints import Endpoint
from dht.ids import NodeId, key_of
from dht.service import DHT
from dht.wire.envelope import Key
from mirror.discovery.base import Peer, ProviderState
from mirror.discovery.dht_discovery import DhtDiscovery
from mirror.discovery.dht_settings import DHT_USE
from mirror.discovery.errors import DiscoveryFailed
from mirror.discovery.peer_info import PeerInfo, encode
from mirror.identity import Identity
from mirror.oci.digest import Digest
from mirror.secret import ClusterSecret
from mirror.settings.model import Address, StaticBootstrap
from mirror.web.listener import bind_with_udp
from tests.support.dht_hosts import SECRET, DhtHost, dht_host, dht_hosts, joined, until

KEY = str(Digest.of(b"x"))


async def providers(host: DhtHost, key: str = KEY) -> set[Peer]:
    return {found.peer async for found in host.discovery.find_providers(key)}


def settings(info: bytes, bootstrap: DhtHost) -> of_dht.Settings:
    return of_dht.Settings(
        random.randbytes(20),
        1,
        "lab",
        tuple(Key(bytes.fromhex(one.key_id), one.key) for one in SECRET.subkeys(DHT_USE, "lab")),
        (Endpoint("127.0.0.1", 0),),
        info,
        (of_dht.StaticBootstrap(bootstrap.peer.address, bootstrap.peer.port),),
    )


@contextlib.asynccontextmanager
async def node(info: bytes, bootstrap: DhtHost) -> AsyncIterator[DHT]:
    """A node of the cluster that says of itself what it likes."""
    async with DHT(settings(info, bootstrap)) as dht:
        await until(lambda: len(dht.members) > 0)
        yield dht


async def test_a_provider_is_where_its_node_is_at_the_port_it_names(tmp_path: Path) -> None:
    async with dht_host(tmp_path) as host, node(encode(PeerInfo(4711, is_seed=True)), host) as other:
        other.provide([key_of(KEY)], 1)
        await other.flush()
        (found,) = [one async for one in host.discovery.find_providers(KEY)]
        assert found.peer == Peer("127.0.0.1", 4711)
        assert (found.state, found.is_seed) == (ProviderState.PARTIAL, True)


@pytest.mark.parametrize("info", [b"", b"\xff" * 48, b"\x91\x00", b"nonsense"])
async def test_a_node_that_says_nonsense_of_itself_is_no_provider(tmp_path: Path, info: bytes) -> None:
    async with (
        dht_host(tmp_path) as host,
        node(info, host) as strange,
        node(encode(PeerInfo(4711)), host) as good,
    ):
        for one in (strange, good):
            one.provide([key_of(KEY)])
            await one.flush()
        assert await providers(host) == {Peer("127.0.0.1", 4711)}


async def test_this_host_is_not_found_under_a_node_id_that_it_had_before(tmp_path: Path) -> None:
    """Its data directory was lost, and others still know the old node."""
    async with dht_host(tmp_path) as host, node(encode(PeerInfo(host.peer.port)), host) as before:
        before.provide([key_of(KEY)])
        await before.flush()
        assert await providers(host) == set()


async def test_a_host_alone_is_ready_and_finds_nobody_at_once(tmp_path: Path) -> None:
    async with dht_host(tmp_path) as host:
        await until(lambda: host.discovery.unready is None)
        started_s = time.monotonic()
        assert await providers(host) == set()
        assert time.monotonic() - started_s < 0.1
        assert host.discovery.trouble is None


async def test_a_bootstrap_that_is_not_there_is_told_and_the_host_is_ready_anyway(tmp_path: Path) -> None:
    async with dht_host(tmp_path / "gone") as gone:
        absent = gone.bootstrap
    async with dht_host(tmp_path, bootstrap=[absent]) as host:
        await until(lambda: host.discovery.unready is None)
        # Once may be a host that is just starting; it is tried again.
        await until(lambda: host.discovery.trouble is not None)
        assert str(absent.address.port) in str(host.discovery.trouble)
        assert host.discovery.unready is None


async def test_the_same_bootstrap_may_be_given_to_every_host_itself_included(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with bind_with_udp("peer", "127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    entry = StaticBootstrap(Address("127.0.0.1", port))
    async with contextlib.AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(dht_host(tmp_path / str(at), bootstrap=[entry], port=at))
            for at in (port, 0, 0)
        ]
        await joined(hosts)
        await until(lambda: all(host.discovery.unready is None for host in hosts))
        assert [host.discovery.trouble for host in hosts] == [None] * 3
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("cluster", "secret"),
    [("garage", SECRET), ("lab", ClusterSecret((b"t" * 32,))), ("lab", None), ("garage", None)],
)
async def test_clusters_do_not_mix(tmp_path: Path, cluster: str, secret: ClusterSecret | None) -> None:
    async with dht_host(tmp_path / "one") as one:
        await one.discovery.announce([KEY])
        other = dht_host(tmp_path / "two", bootstrap=[one.bootstrap], cluster=cluster, secret=secret)
        async with other as two:
            await until(lambda: two.discovery.unready is None)
            assert await providers(two) == set()
            assert (len(one.dht.members), len(two.dht.members)) == (0, 0)


OLD, NEW = b"o" * 32, b"n" * 32


@pytest.mark.parametrize(
    ("one", "other"), [((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD)), ((NEW, OLD), (NEW,))]
)
async def test_at_each_step_of_changing_the_secret_hosts_are_one_cluster(
    tmp_path: Path, one: tuple[bytes, ...], other: tuple[bytes, ...]
) -> None:
    async with dht_host(tmp_path / "one", secret=ClusterSecret(one)) as first:
        changed = dht_host(tmp_path / "two", bootstrap=[first.bootstrap], secret=ClusterSecret(other))
        async with changed as second:
            await joined([first, second])
            await first.discovery.announce([KEY])
            await first.dht.flush()
            assert await providers(second) == {first.peer}


async def test_a_udp_port_that_is_taken_is_named_with_its_flag(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ExceptionGroup) as caught:
            async with dht_host(tmp_path, port=port) as host:
                await asyncio.wait([host.task])
    (error,) = caught.value.exceptions
    assert isinstance(error, DiscoveryFailed)
    assert str(error).startswith(f"--peer-addr: UDP 127.0.0.1:{port} cannot be bound: ")


async def test_before_it_runs_nothing_is_found_and_announcing_waits(tmp_path: Path) -> None:
    async with dht_hosts(2, tmp_path) as (one, two):
        late = DhtDiscovery(DHT(settings(encode(PeerInfo(1)), one)), ())
        assert late.unready is not None
        assert [found async for found in late.find_providers(KEY)] == []
        async with asyncio.TaskGroup() as tasks:
            announcing = tasks.create_task(late.announce([KEY]))
            await asyncio.sleep(0)
            assert not announcing.done()
            running = tasks.create_task(late.run())
            await announcing
            await until(lambda: len(two.dht.records) == 1)
            running.cancel()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the adapter told the log, without the explanations."""
    name = DhtDiscovery.__module__
    return [one.getMessage().partition(":")[0] for one in caplog.records if one.name == name]


async def test_the_log_tells_who_comes_and_who_goes_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with dht_host(tmp_path / "one") as one:
        await until(lambda: one.discovery.unready is None)
        assert said(caplog) == []
        async with dht_host(tmp_path / "two", bootstrap=[one.bootstrap]):
            await until(lambda: len(said(caplog)) == 2)
            assert said(caplog) == ["found a first host of the cluster"] * 2
        await until(lambda: len(said(caplog)) == 3)
        assert said(caplog)[2] == "alone"


async def test_the_log_tells_that_nobody_answers_and_that_somebody_does_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with dht_hosts(5, tmp_path) as (host, *others):
        caplog.set_level(logging.INFO)
        for other in others:
            other.cable.cut()
        for number in range(2):
            assert await providers(host, str(Digest.of(b"%d" % number))) == set()
        await until(lambda: "isolated" in said(caplog))
        started_s = time.monotonic()
        assert await providers(host, str(Digest.of(b"y"))) == set()
        assert time.monotonic() - started_s < 0.1
        async with dht_host(tmp_path / "new", bootstrap=[host.bootstrap]):
            await until(lambda: "no longer isolated" in said(caplog))
    lines = said(caplog)
    assert (lines.count("isolated"), lines.count("no longer isolated")) == (1, 1)


async def test_a_copied_host_is_a_warning_that_tells_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = Identity(NodeId(random.randbytes(20)), 1)
    async with dht_host(tmp_path / "one", identity=identity) as one:
        async with dht_host(tmp_path / "copy", bootstrap=[one.bootstrap], identity=identity):
            await until(lambda: any("node.json" in record.getMessage() for record in caplog.records))
    (record,) = [record for record in caplog.records if "node.json" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert str(identity.node) in record.getMessage() and "delete node.json in" in record.getMessage()


async def test_a_host_of_both_ip_versions_is_found_over_either(tmp_path: Path) -> None:
    async with (
        dht_host(tmp_path / "v4") as old,
        dht_host(tmp_path / "v6", address="::1") as new,
        dht_host(tmp_path / "both", address="::", bootstrap=[old.bootstrap, new.bootstrap]) as both,
    ):
        await until(lambda: len(both.dht.members) == 2)
        await both.discovery.announce([KEY])
        await both.dht.flush()
        assert await providers(old) == {Peer("127.0.0.1", both.peer.port)}
        assert await providers(new) == {Peer("::1", both.peer.port)}
        for host in (old, new):
            key = str(Digest.of(str(host.peer).encode()))
            await host.discovery.announce([key])
            await host.dht.flush()
            assert await providers(both, key) == {host.peer}
