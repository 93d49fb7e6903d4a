"""What a finding is, and every code that there is. Pure.

A code is a promise to scripts and to docs/doctor.md, which lists each with its mend (a test compares the two): it keeps
its meaning, and is not given to anything else. Notes are good to know, and nothing is broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    PROBLEM = "problem"
    NOTE = "note"


class Code(StrEnum):
    # containerd
    CONTAINERD_ABSENT = "containerd-absent"
    CONTAINERD_FORBIDDEN = "containerd-forbidden"
    CONTAINERD_SILENT = "containerd-silent"
    CONTAINERD_TOO_OLD = "containerd-too-old"
    CONTAINERD_OTHER_NETWORK = "containerd-other-network"
    CONFIG_UNKNOWN = "config-unknown"
    CONFIG_PATH_UNSET = "config-path-unset"
    CONFIG_PATH_ELSEWHERE = "config-path-elsewhere"
    CONFIG_PATH_LIST = "config-path-list"
    LEGACY_REGISTRY_TABLES = "legacy-registry-tables"
    RESTART_PENDING = "restart-pending"
    LAYERS_DISCARDED = "layers-discarded"
    CONTENT_UNREADABLE = "content-unreadable"
    # hosts.toml
    HOSTS_ABSENT = "hosts-absent"
    HOSTS_SHADOWED = "hosts-shadowed"
    HOSTS_CHANGED = "hosts-changed"
    HOSTS_INVALID = "hosts-invalid"
    HOSTS_OTHER_ADDRESS = "hosts-other-address"
    HOSTS_UNWRITABLE = "hosts-unwritable"
    # listeners
    REGISTRY_CLOSED = "registry-closed"
    REGISTRY_TAKEN = "registry-taken"
    REGISTRY_ROUTABLE = "registry-routable"
    PORT_IN_NODEPORT_RANGE = "port-in-nodeport-range"
    # the daemon
    ADMIN_SILENT = "admin-silent"
    DAEMON_NOT_READY = "daemon-not-ready"
    DAEMON_TROUBLE = "daemon-trouble"
    NO_PEERS = "no-peers"
    ALONE_ON_LAN = "alone-on-lan"
    PEER_PORT_BLOCKED = "peer-port-blocked"
    NO_BOOTSTRAP = "no-bootstrap"
    SECRET_MISMATCH = "secret-mismatch"  # noqa: S105 - a code
    STRANGERS_REFUSED = "strangers-refused"
    CLOCK_SKEW = "clock-skew"
    WIRE_VERSION_SKEW = "wire-version-skew"
    OTHER_RELEASE = "other-release"
    NOBODY_ASKED = "nobody-asked"


NOTES = frozenset(
    {
        Code.CONFIG_UNKNOWN,
        Code.RESTART_PENDING,
        Code.LAYERS_DISCARDED,
        Code.ALONE_ON_LAN,
        Code.NO_BOOTSTRAP,
        Code.STRANGERS_REFUSED,
        Code.WIRE_VERSION_SKEW,
        Code.OTHER_RELEASE,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend`: what to do, one step each, in order; a step that is a command is one line for a shell as root."""

    code: Code
    what: str
    evidence: str
    mend: tuple[str, ...]

    @property
    def level(self) -> Level:
        return Level.NOTE if self.code in NOTES else Level.PROBLEM
