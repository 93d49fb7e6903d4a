"""What we changed, kept beside it in `_peili/manifest.json`, so that any process can undo it.

It reads and writes no file; see `disk`.

Rules
1. Paths are relative to the hosts directory: it may be mounted elsewhere when somebody undoes.
2. The manifest is on disk before the first change that it tells of. So it may tell of changes that were
   never made, and undoing must bear that: a file whose content is not `written_sha256` is not as we left
   it.
"""

from hashlib import sha256

import msgspec

from containerd.hosts.errors import HostsError

VERSION = 1


class Original(msgspec.Struct, frozen=True):
    """The user's hosts.toml as it was. Its bytes are in `_peili/originals`, under their digest.

    Mode and owner are those of the file still, if nobody changed them: here for who restores by hand.
    """

    sha256: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link: str | None
    """Where it pointed to, if it was a symbolic link."""


class Entry(msgspec.Struct, frozen=True):
    """One hosts.toml that we wrote."""

    path: str
    registry: str
    named: bool
    """Somebody asked for this registry; else we wrote it because of what else we wrote."""
    written_sha256: str
    original: Original | None
    """None when there was no file."""
    first_seen: bool = False
    """The daemon heard of this registry in a request; no operator named it."""


class Manifest(msgspec.Struct, frozen=True):
    made_directories: tuple[str, ...] = ()
    """Those that we made, parents first; "." is the hosts directory itself."""
    entries: tuple[Entry, ...] = ()
    version: int = VERSION


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def encode(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(content: bytes, where: str) -> Manifest:
    """Raises: HostsError, which says how to go on without it."""
    remedy = "remove this file and run cleanup again, then only the marks in the files tell what is ours"
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise HostsError(f"{where}: damaged ({error}); {remedy}") from error
    if manifest.version > VERSION:
        raise HostsError(f"{where}: written by a newer peili; use that one, or {remedy}")
    return manifest
