"""hosts.toml as tests of containerd's own behaviour need it: any chain of hosts, written out plainly.

It is not the writer that users get; that one has tests of its own against the same layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostEntry:
    """url up to, and without, /v2 unless override_path says that the path is complete."""

    url: str
    capabilities: tuple[str, ...] = ("pull", "resolve")
    override_path: bool = False

    def lines(self) -> list[str]:
        quoted = ", ".join(f'"{capability}"' for capability in self.capabilities)
        return [f"capabilities = [{quoted}]", *(["override_path = true"] if self.override_path else [])]


def hosts_toml(server: HostEntry, *hosts: HostEntry) -> str:
    """The server is asked last, behind the hosts."""
    lines = [f'server = "{server.url}"', *server.lines()]
    for host in hosts:
        lines += [f'[host."{host.url}"]', *host.lines()]
    return "\n".join([*lines, ""])


def mirror_layout(origin: str, mirror: str) -> str:
    """Our layout: the mirror for digests only, the origin, and the mirror's fallback behind it."""
    return hosts_toml(
        HostEntry(f"{mirror}/fallback/v2", override_path=True),
        HostEntry(mirror, ("pull",)),
        HostEntry(origin),
    )


def install(certs_dir: Path, registry: str, text: str) -> None:
    """containerd reads it anew at each pull."""
    folder = certs_dir / registry
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(text)
