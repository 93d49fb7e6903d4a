"""What was seen of containerd on this host: values, gathered by `look_*` modules, here and in `mirror.doctor`. Pure.

None means that it could not be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from containerd.effective_config import EffectiveConfig


class Answer(StrEnum):
    """How containerd's socket behaves."""

    ANSWERS = "answers"
    ABSENT = "absent"
    FORBIDDEN = "forbidden"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """`source`: the command or file that it was read from; `file`: the one to edit. `effective` None: it could not be
    read, and `trouble` says why. `is_newer`: the file was changed after containerd was started."""

    source: str
    effective: EffectiveConfig | None
    trouble: str = ""
    is_newer: bool = False
    file: str = ""


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """One of containerd's sockets, at the path `sock`. `release`: major, minor; (0, 0) where the version names none.
    `namespaces`: those that are there. `config_files`: the main one, which need not be there, and those that it
    imports, in order; none where they are not among the files that are seen here (containerd is in a container)."""

    sock: str
    answer: Answer
    trouble: str = ""
    version: str = ""
    release: tuple[int, int] = (0, 0)
    namespaces: tuple[str, ...] = ()
    config: ConfigFacts | None = None
    config_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """What dockerd says of itself (`GET /info`). `store`: its storage driver, such as overlay2; `has_containerd_store`:
    images are in containerd. `containerd_sock`: of the containerd that it uses, "" where it does not say it (before
    Docker 27)."""

    version: str
    store: str
    has_containerd_store: bool
    containerd_sock: str = ""
    namespace: str = "moby"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """All paths are those of the host, also where another root was looked at. `sockets`: those that are there, in the
    order of `distribution.KNOWN_SOCKS`, one that was asked for first, that one also if it is not there. `files`: the
    texts of the files that a plan may change or must know; what is not there is left out. `unreadable`: files that are
    there and could not be read as text, with the reason. `read_only`: directories that would be written, on a file
    system that cannot be. `units`: the names of systemd's unit files; `enabled_units`: of
    those that start with the host. `docker_trouble`: why Docker's socket, which is
    there, did not answer."""

    os_id: str
    os_name: str
    sockets: tuple[SocketFacts, ...]
    docker: DockerFacts | None = None
    docker_trouble: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    read_only: tuple[str, ...] = ()
    units: frozenset[str] = frozenset()
    enabled_units: frozenset[str] = frozenset()
    has_rke2: bool = False
