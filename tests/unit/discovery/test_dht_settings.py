"""What the DHT is told, by table."""

from __future__ import annotations

from pathlib import Path

import pytest

from dht import settings as of_dht
from dht.endpoints import Endpoint
from dht.ids import NodeId
from dht.wire.envelope import Key
from mirror.discovery.base import Peer
from mirror.discovery.dht_settings import DHT_USE, dht_settings, own_peers
from mirror.discovery.peer_info import PeerInfo, decode
from mirror.identity import Identity
from mirror.secret import ClusterSecret, Subkey
from mirror.settings.model import Address, Bootstrap, DnsBootstrap, LanBootstrap, StaticBootstrap

NODE = NodeId(bytes(range(20)))


def settled(
    *,
    peer_host: str = "10.0.0.7",
    keys: tuple[Subkey, ...] = (),
    advertise_addr: str | None = None,
    bootstrap: tuple[Bootstrap, ...] = (),
) -> of_dht.Settings:
    return dht_settings(
        identity=Identity(NODE, 7),
        cluster="lab",
        keys=keys,
        peer_host=peer_host,
        peer_port=29021,
        advertise_addr=advertise_addr,
        bootstrap=bootstrap,
        state_dir=Path("/data"),
    )


def test_who_it_is() -> None:
    found = settled()
    assert (found.node, found.epoch, found.cluster, found.state_dir) == (NODE.value, 7, "lab", Path("/data"))
    assert decode(found.info) == PeerInfo(29021)


@pytest.mark.parametrize(
    ("peer_host", "listen"),
    [
        ("10.0.0.7", [("10.0.0.7", 29021)]),
        ("127.0.0.1", [("127.0.0.1", 29021)]),
        ("fd00::7", [("fd00::7", 29021)]),
        ("fe80::7%eth0", [("fe80::7%eth0", 29021)]),
        ("::ffff:10.0.0.7", [("10.0.0.7", 29021)]),
        ("0.0.0.0", [("0.0.0.0", 29021)]),
        ("::", [("0.0.0.0", 29021), ("::", 29021)]),
    ],
)
def test_where_it_listens(peer_host: str, listen: list[tuple[str, int]]) -> None:
    assert settled(peer_host=peer_host).listen == tuple(Endpoint(*one) for one in listen)


def test_what_it_says_of_its_address() -> None:
    assert settled().advertise is None
    assert settled(advertise_addr="fd00::8").advertise == Endpoint("fd00::8", 29021)


def test_keys_are_the_subkeys_of_its_use_the_signing_one_first() -> None:
    secret = ClusterSecret((b"n" * 32, b"o" * 32))
    subkeys = secret.subkeys(DHT_USE, "lab")
    found = settled(keys=subkeys).keys
    assert found == tuple(Key(bytes.fromhex(one.key_id), one.key) for one in subkeys)
    assert found[0].key != secret.subkeys("peerhttp", "lab")[0].key
    assert settled().keys == ()


def test_bootstraps() -> None:
    told: tuple[Bootstrap, ...] = (
        StaticBootstrap(Address("fd00::8", 1)),
        StaticBootstrap(Address("seed", 2)),
        DnsBootstrap("peers.svc", 3),
        LanBootstrap(),
    )
    assert settled(bootstrap=told).bootstrap == (
        of_dht.StaticBootstrap("fd00::8", 1),
        of_dht.StaticBootstrap("seed", 2),
        of_dht.DnsBootstrap("peers.svc", 3),
        of_dht.LanBootstrap(),
    )


@pytest.mark.parametrize(
    ("peer_host", "advertise_addr", "own"),
    [
        ("10.0.0.7", None, {"10.0.0.7"}),
        ("::ffff:10.0.0.7", None, {"10.0.0.7"}),
        ("10.0.0.7", "10.0.0.8", {"10.0.0.7", "10.0.0.8"}),
        ("::", "10.0.0.8", {"10.0.0.8"}),
        ("::", None, set()),
        ("0.0.0.0", None, set()),
        ("127.0.0.1", "127.0.0.1", {"127.0.0.1"}),
    ],
)
def test_who_we_are_to_others(peer_host: str, advertise_addr: str | None, own: set[str]) -> None:
    everywhere = {"0.0.0.0", "::"}
    assert own_peers(peer_host, 29021, advertise_addr) == {Peer(host, 29021) for host in own | everywhere}
