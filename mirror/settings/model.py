"""What a command is told, checked and complete: one frozen dataclass a command.

Holds no secret: what is secret is in a file that a setting names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mirror.log import LogFormat, LogLevel
from mirror.oci.scope import ImageScope

_ANY_IPV4 = "0.0.0.0"  # noqa: S104 - what a user may ask for
_ANY_IPV6 = "::"


class StoreKind(StrEnum):
    AUTO = "auto"
    CONTAINERD = "containerd"
    DIRECTORY = "directory"


class Tags(StrEnum):
    UPSTREAM = "upstream"
    PEERS = "peers"
    OFF = "off"


class OriginUse(StrEnum):
    """What the daemon itself does at registries: asks what it must know of tags, fetches content too, or nothing."""

    STEER = "steer"
    RELAY = "relay"
    OFF = "off"


class Verify(StrEnum):
    """What of a layer is hashed here before its end is handed to containerd, which hashes all of it."""

    AUTO = "auto"
    ALWAYS = "always"


class StaleTags(StrEnum):
    """Whether the fallback host may be asked for tags."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where to listen or connect. `host` is an IP address without brackets or, for peers only, a name; port 0
    of a listener is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return self.host.startswith("127.") or self.host in ("::1", "localhost")

    @property
    def is_name(self) -> bool:
        """Not an IP address."""
        return not (":" in self.host or self.host.rpartition(".")[2].isdecimal())

    @property
    def is_every_address(self) -> bool:
        return self.host in (_ANY_IPV4, _ANY_IPV6)

    @property
    def from_this_host(self) -> Address:
        """Where a program of this host reaches a listener at this address."""
        return Address("127.0.0.1", self.port) if not self.host or self.is_every_address else self

    def collides_with(self, other: Address) -> bool:
        """Whether two listeners cannot both be bound. An IPv6 wildcard serves IPv4, too."""
        if self.port != other.port or self.port == 0:
            return False
        hosts = {self.host, other.host}
        if len(hosts) == 1 or _ANY_IPV6 in hosts:
            return True
        return _ANY_IPV4 in hosts and not any(":" in host for host in hosts)


@dataclass(frozen=True, slots=True)
class StaticBootstrap:
    """A peer that is named by its address."""

    address: Address

    def __str__(self) -> str:
        return f"static:{self.address}"


@dataclass(frozen=True, slots=True)
class DnsBootstrap:
    """A name that has the addresses of many peers. `port` 0: the one of our own peer address, which is not known while
    a value is read; settled settings never have it."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"dns:{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class LanBootstrap:
    """Whoever is heard on the local network."""

    def __str__(self) -> str:
        return "lan"


Bootstrap = StaticBootstrap | DnsBootstrap | LanBootstrap


@dataclass(frozen=True, slots=True)
class ContainerdStoreSettings:
    """Serve what this host's containerd holds. `containerd_content_path` None: ask containerd. `cache_size_bytes`: of
    what it does not keep; 0: nothing."""

    containerd_sock: Path
    containerd_namespaces: tuple[str, ...]
    containerd_content_path: Path | None
    cache_size_bytes: int


@dataclass(frozen=True, slots=True)
class DirectoryStoreSettings:
    """Serve a directory of our own, an OCI image layout of at most `cache_size_bytes`."""

    store_dir: Path
    cache_size_bytes: int


@dataclass(frozen=True, slots=True)
class HostsSettings:
    """containerd's hosts directory and what is written there. `registry_url` is what hosts.toml points to.
    `containerd_config_path` None: not known. `add_registries`: whether the daemon adds those that it hears of."""

    hosts_dir: Path
    registry_url: str
    stale_tags: StaleTags
    containerd_config_path: str | None
    add_registries: bool


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """`metrics_addr` None: no metrics listener. `advertise_addr` None: others reach this host where its datagrams come
    from. `mirrors` empty: every registry. `docker_config` None: no credentials. `spool_size_bytes`: of each
    spool. Paths are absolute."""

    store: ContainerdStoreSettings | DirectoryStoreSettings
    data_dir: Path
    registry_addr: Address
    peer_addr: Address
    admin_addr: Address
    metrics_addr: Address | None
    advertise_addr: str | None
    bootstrap: tuple[Bootstrap, ...]
    cluster: str
    cluster_secret_file: Path | None
    mirrors: tuple[str, ...]
    filters: tuple[re.Pattern[str], ...]
    origin: OriginUse
    verify: Verify
    tags: Tags
    stale_private: tuple[ImageScope, ...]
    protect: tuple[ImageScope, ...]
    docker_config: Path | None
    spool_size_bytes: int
    hosts: HostsSettings
    log_level: LogLevel
    log_format: LogFormat


@dataclass(frozen=True, slots=True)
class ConfigureSettings:
    hosts: HostsSettings
    tags: Tags
    mirrors: tuple[str, ...]
    containerd_sock: Path


@dataclass(frozen=True, slots=True)
class CleanupSettings:
    """`remove_data_dir` None: the data stays. `stay_addr` None: end when this host is clean."""

    hosts_dir: Path
    remove_data_dir: Path | None
    stay_addr: Address | None


@dataclass(frozen=True, slots=True)
class DownSettings:
    data_dir: Path


@dataclass(frozen=True, slots=True)
class CleanupWaitSettings:
    """`wait_for`: a name with the addresses of many, and the port where each says that it is clean."""

    wait_for: Address
    give_up_after_s: int


@dataclass(frozen=True, slots=True)
class AskingSettings:
    """`admin_addr`: to connect to."""

    admin_addr: Address


@dataclass(frozen=True, slots=True)
class DoctorSettings:
    """As serve and configure were told. `containerd_content_path` None: ask containerd; `containerd_config_path` None:
    read containerd's configuration. `configured_addr` None: containerd is sent to `registry_addr` itself."""

    containerd_sock: Path
    containerd_namespaces: tuple[str, ...]
    containerd_content_path: Path | None
    containerd_config_path: str | None
    hosts_dir: Path
    registry_addr: Address
    peer_addr: Address
    admin_addr: Address
    configured_addr: Address | None
    mirrors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """Where import and export find this host's images, as serve was told. `store_dir` None: in containerd.
    `cache_size_bytes`: of the directory store; None: no matter. `data_dir`: where standard input may lie meanwhile."""

    containerd_sock: Path
    containerd_namespaces: tuple[str, ...]
    store_dir: Path | None
    cache_size_bytes: int | None
    data_dir: Path
