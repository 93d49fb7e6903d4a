"""The names of a directory store: index.json of its layout, read and changed by whoever holds its lock. Blocking.

Rules
1. What somebody else wrote there stays as it is. A name that is given anew replaces the entry of that name.
2. Each entry has the whole name twice: as containerd and Docker read it, and as OCI's reference name, so that
   `skopeo copy oci:STORE:NAME …` finds it. And when it was imported, since the newest word of a tag counts.
3. The file is replaced in one step, and is on the disk when `put_names` returns.

Source: OCI image-spec image-layout.md, image-index.md.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from mirror import whole_file
from mirror.archive.documents import Reference
from mirror.archive.errors import ArchiveInvalid, ImportFailed
from mirror.oci.layout import (
    IMPORTED_AT_ANNOTATION,
    INDEX_MAX_BYTES,
    LAYOUT_INDEX,
    NAME_ANNOTATION,
    REF_ANNOTATION,
)

# As other files of a layout: whoever may enter the folder may read it.
_MODE: Final = 0o644

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class NamedReference:
    name: str
    reference: Reference


def put_names(root: Path, named: Sequence[NamedReference], now_s: float) -> None:
    """`now_s`: seconds since 1970. Raises: ArchiveInvalid where index.json cannot be understood; ImportFailed where it
    has no room; OSError."""
    with _locked(root):
        path = root / LAYOUT_INDEX
        content = with_names(path.read_bytes(), named, now_s)
        whole_file.replace(path, content, finish=lambda descriptor: os.fchmod(descriptor, _MODE))


def with_names(index: bytes, named: Sequence[NamedReference], now_s: float) -> bytes:
    """index.json with these names. Raises: ArchiveInvalid, ImportFailed where it has no room for them."""
    document, entries = _parsed(index)
    names = {one.name for one in named}
    kept = [entry for entry in entries if not names & _names(entry)]
    written = json.dumps(
        {**document, "manifests": [*kept, *(_entry(one, now_s) for one in named)]},
        indent=1,
    ).encode()
    if len(written) > INDEX_MAX_BYTES:
        # Nobody would read it: all its names would be lost, the old ones, too.
        raise ImportFailed(
            f"{LAYOUT_INDEX} of the store would have {len(written)} bytes, over the limit of {INDEX_MAX_BYTES}: "
            "remove names from it that are not needed"
        )
    return written


def _parsed(index: bytes) -> tuple[Json, list[Json]]:
    if len(index) > INDEX_MAX_BYTES:
        raise ArchiveInvalid(f"{LAYOUT_INDEX} of the store has {len(index)} bytes: move it away")
    try:
        document = msgspec.json.decode(index, type=Json)
        entries = msgspec.convert(document.get("manifests", []), type=list[Json])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ArchiveInvalid(f"{LAYOUT_INDEX} of the store cannot be read ({exc}): repair it") from exc
    return document, entries


def _names(entry: Json) -> set[object]:
    notes = entry.get("annotations")
    if not isinstance(notes, dict):
        return set()
    # Where there is a whole name, the other may be a tag alone, which many may have.
    return {notes.get(NAME_ANNOTATION) or notes.get(REF_ANNOTATION)}


def _entry(one: NamedReference, now_s: float) -> Json:
    return {
        "mediaType": one.reference.media_type,
        "digest": str(one.reference.digest),
        "size": one.reference.size_bytes,
        "annotations": {
            NAME_ANNOTATION: one.name,
            REF_ANNOTATION: one.name,
            IMPORTED_AT_ANNOTATION: str(int(now_s)),
        },
    }


def check(root: Path) -> None:
    """Raises: ArchiveInvalid, OSError: `put_names` would, too."""
    _parsed((root / LAYOUT_INDEX).read_bytes())


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Against another import, which would write what it read before."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
