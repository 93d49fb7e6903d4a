"""What is to be changed on a host, as values. Pure: `ledger` makes the changes and takes them back.

hosts.toml files are not among them: they are `containerd.hosts`' to write and to restore.
"""

from __future__ import annotations

from dataclasses import dataclass

FILE_MODE = 0o644
SECRET_MODE = 0o600


@dataclass(frozen=True, slots=True)
class FileChange:
    """A whole file. `path` is absolute; directories that are missing are made. `mode` is that of a new file: one that
    is there keeps its mode and owner. `why` ends the sentence "peili up writes PATH: …"."""

    path: str
    content: bytes
    why: str
    mode: int = FILE_MODE
