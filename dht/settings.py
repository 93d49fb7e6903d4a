"""What one node is told. Checks nothing that needs the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dht.contacts import EPOCH_MAX
from dht.endpoints import Endpoint
from dht.errors import SettingsInvalid
from dht.ids import ID_BYTES
from dht.params import Params
from dht.wire.envelope import Key

# Two while a secret is changed.
KEYS_MAX_COUNT = 2
CLUSTER_MAX_BYTES = 255


@dataclass(frozen=True, slots=True)
class StaticBootstrap:
    """Another node by address or by a name, which is resolved again and again."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DnsBootstrap:
    """A name with the addresses of many nodes, all on one port: a headless Service."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class LanBootstrap:
    """Multicast beacons on every interface."""


Bootstrap = StaticBootstrap | DnsBootstrap | LanBootstrap


@dataclass(frozen=True, slots=True)
class Settings:
    """`node` has 20 bytes. `epoch` counts the starts of this node, from 1. `keys`: the signing one first, bound to
    `cluster` by whoever made them; none: anybody with a private address may take part. `listen`: at most one
    endpoint a family; port 0 is any free one. `advertise`: where others shall reach this node, instead of where its
    datagrams come from. `state_dir` None: nothing outlives a restart."""

    node: bytes
    epoch: int
    cluster: str
    keys: tuple[Key, ...]
    listen: tuple[Endpoint, ...]
    info: bytes = b""
    bootstrap: tuple[Bootstrap, ...] = ()
    advertise: Endpoint | None = None
    state_dir: Path | None = None
    params: Params = field(default_factory=Params)

    def __post_init__(self) -> None:
        """Raises: SettingsInvalid."""
        if len(self.node) != ID_BYTES:
            raise SettingsInvalid(f"a node id has {ID_BYTES} bytes, not {len(self.node)}")
        if not 0 < self.epoch <= EPOCH_MAX:
            raise SettingsInvalid(
                f"epoch {self.epoch} is not within 1 and {EPOCH_MAX}; start with a new node id"
            )
        if not 0 < len(self.cluster.encode()) <= CLUSTER_MAX_BYTES:
            raise SettingsInvalid(f"a cluster's name has 1 to {CLUSTER_MAX_BYTES} bytes")
        if len(self.keys) > KEYS_MAX_COUNT:
            raise SettingsInvalid(
                f"{len(self.keys)} keys; at most {KEYS_MAX_COUNT}, while a secret is changed"
            )
        if len(self.info) > self.params.info_max_bytes:
            raise SettingsInvalid(f"info has {len(self.info)} bytes, more than {self.params.info_max_bytes}")
        families = [found.is_v6 for found in self.listen]
        if not families or len(set(families)) != len(families):
            raise SettingsInvalid("listen on one UDP address, or on one of each family")
