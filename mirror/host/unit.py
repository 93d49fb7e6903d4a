"""The text of `peili.service`: what systemd is told of the daemon on a plain host. Pure: writes nothing, asks nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.host.changes import FileChange

UNIT_NAME = "peili.service"
UNIT_DIR = "/etc/systemd/system"


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What the unit depends on. All paths are absolute.

    `program`: the command `peili`, its first word a path: `("/opt/peili/bin/peili",)`, a zipapp, or
    `(sys.executable, "-m", "mirror")`. `serve_flags`: what follows `serve`, unquoted, such as `"--bootstrap=lan"`.
    `data_dir`, `containerd_sock`, `hosts_dirs`: the same that the flags say, or their defaults. `content_root`: where
    containerd keeps blobs; None where that is not known. `after`: the unit of containerd on this host, such as
    `("containerd.service",)`, `("k3s.service",)`, `("docker.service",)`; may name several, of which not all need exist.
    `read_only`: what else the flags name and the daemon must see: the secret file, a docker config.json.
    """

    program: Sequence[str]
    serve_flags: Sequence[str]
    data_dir: str
    containerd_sock: str
    content_root: str | None
    hosts_dirs: Sequence[str]
    after: Sequence[str] = ("containerd.service",)
    read_only: Sequence[str] = ()


def service(facts: ServiceFacts) -> FileChange:
    """Raises: HostError where a path is not absolute or a text cannot stand in a unit (a line break, a NUL)."""
    raise NotImplementedError
