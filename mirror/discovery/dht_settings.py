"""What the DHT is told, made from what the daemon was told. Pure: reads no file, asks no network."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from dht import settings as of_dht
from dht.endpoints import Endpoint, canonical
from dht.wire.envelope import Key
from mirror.discovery import peer_info
from mirror.discovery.base import Peer
from mirror.discovery.peer_info import PeerInfo
from mirror.identity import Identity
from mirror.secret import Subkey
from mirror.settings.model import Bootstrap, DnsBootstrap, LanBootstrap, StaticBootstrap

# Which subkey of the cluster's secret the DHT gets.
DHT_USE = "dht"

_EVERY_V4, _EVERY_V6 = "0.0.0.0", "::"  # noqa: S104 - what the peer listener was told


def dht_settings(
    *,
    identity: Identity,
    cluster: str,
    keys: Collection[Subkey],
    peer_host: str,
    peer_port: int,
    advertise_addr: str | None,
    bootstrap: Collection[Bootstrap],
    state_dir: Path,
) -> of_dht.Settings:
    """`peer_host` and `peer_port` are where the peer HTTP listens, the port a real one: UDP takes the same. `keys` are
    those of `DHT_USE`."""
    return of_dht.Settings(
        node=identity.node.value,
        epoch=identity.epoch,
        cluster=cluster,
        keys=tuple(Key(bytes.fromhex(key.key_id), key.key) for key in keys),
        listen=_listen(canonical(peer_host), peer_port),
        info=peer_info.encode(PeerInfo(peer_port)),
        bootstrap=tuple(_bootstrap(entry) for entry in bootstrap),
        advertise=None if advertise_addr is None else Endpoint(advertise_addr, peer_port),
        state_dir=state_dir,
    )


def own_peers(peer_host: str, peer_port: int, advertise_addr: str | None) -> set[Peer]:
    """This host as a record may name it, its own of an earlier node id included: a host that listens at every address
    knows no better name for itself."""
    hosts = {canonical(peer_host), advertise_addr or _EVERY_V4, _EVERY_V4, _EVERY_V6}
    return {Peer(host, peer_port) for host in hosts}


def _listen(address: str, port: int) -> tuple[Endpoint, ...]:
    """The peer listener at `::` serves both families on one socket; datagrams need one each, or IPv4 addresses would
    come in IPv6's clothes."""
    if address == _EVERY_V6:
        return (Endpoint(_EVERY_V4, port), Endpoint(_EVERY_V6, port))
    return (Endpoint(address, port),)


def _bootstrap(entry: Bootstrap) -> of_dht.Bootstrap:
    match entry:
        case StaticBootstrap(address):
            return of_dht.StaticBootstrap(address.host, address.port)
        case DnsBootstrap(name, port):
            return of_dht.DnsBootstrap(name, port)
        case LanBootstrap():
            return of_dht.LanBootstrap()
