"""What was seen on this host: values for the checks, gathered by `mirror.doctor.look_*`. Pure.

None means that it could not be seen, which is never a finding by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mirror.host.distribution import CRI_NAMESPACE
from mirror.host.facts import Answer, ConfigFacts


@dataclass(frozen=True, slots=True)
class Asked:
    """What the operator told doctor, as serve and configure would take it. Addresses are ADDRESS:PORT. `registry_url`
    and `configured_addr`: where configure sends containerd; `is_forwarded`: a port leads from there to the daemon."""

    sock: str
    hosts_dir: str
    registry_addr: str
    registry_port: int
    registry_is_loopback: bool
    registry_url: str
    configured_addr: str
    is_forwarded: bool
    peer_port: int
    admin_addr: str
    admin_port: int
    mirrors: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = (CRI_NAMESPACE,)


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image whose content came from a registry since the daemon was started."""

    name: str
    registry: str


@dataclass(frozen=True, slots=True)
class ContainerdFacts:
    """`trouble` is in words, where it does not answer. `network`: the namespace of its process, as in /proc;
    `content_trouble`: why its blobs cannot be read here."""

    answer: Answer
    trouble: str = ""
    version: str = ""
    release: tuple[int, int] = (0, 0)
    namespaces: tuple[str, ...] = ()
    network: str | None = None
    config: ConfigFacts | None = None
    content_root: str = ""
    content_trouble: str = ""
    pulled: tuple[PulledImage, ...] = ()
    other_socks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostsFile:
    """One registry's directory. `is_ours`: our marks are in its hosts.toml. `first_host`: who is asked first."""

    directory: str
    is_ours: bool
    is_loopback: bool = False
    first_host: str = ""
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class HostsFacts:
    """`changed`: files that configure wrote and that are not as it left them, with what happened to them.
    `has_literal`: the directory that has a whole list as its name has our `_default`."""

    exists: bool
    is_configured: bool = False
    files: tuple[HostsFile, ...] = ()
    changed: tuple[str, ...] = ()
    unwritable: str = ""
    has_literal: bool = False


class Port(StrEnum):
    """What is behind the registry port."""

    OURS = "ours"
    CLOSED = "closed"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class ListenFacts:
    """`bound`: every local address that a listener on the registry port is bound to. `owner`: its process."""

    port: Port
    said: str = ""
    bound: tuple[str, ...] = ()
    owner: str = ""
    network: str | None = None


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """What /api/v1/status says. `refused`: datagrams that were not acted on, by reason."""

    version: str = ""
    uptime_s: float = 0.0
    unready: tuple[str, ...] = ()
    trouble: str = ""
    members: int = 0
    bootstrap: tuple[str, ...] | None = None
    requests: int | None = None
    clock_offset_s: float = 0.0
    refused: Mapping[str, int] = field(default_factory=dict)


class Reach(StrEnum):
    """What a connection to another host's peer port came to. REFUSED: the host answers that nobody listens."""

    REACHED = "reached"
    REFUSED = "refused"
    DROPPED = "no answer"


@dataclass(frozen=True, slots=True)
class PeerReach:
    """`address`: ADDRESS:PORT. `is_member`: the daemon knows it, by UDP; else --bootstrap names it."""

    address: str
    is_member: bool
    reach: Reach


@dataclass(frozen=True, slots=True)
class Facts:
    """`daemon` None: the admin address did not answer as ours, and `admin_trouble` says how."""

    asked: Asked
    containerd: ContainerdFacts
    hosts: HostsFacts
    listen: ListenFacts
    daemon: DaemonFacts | None
    release: str
    admin_trouble: str = ""
    has_rke2: bool = False
    peers: tuple[PeerReach, ...] = ()
