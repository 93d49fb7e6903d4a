"""The tags of a directory store: whole names in index.json whose content is here. Writes nothing.

Rules
1. No registry has said any of them: an operator did, by `peili import` or by copying into the layout. So each counts as
   imported, see docs/adr/0022.
2. When it was said stands in the entry; for what another program wrote it is the time of the file.
3. A name whose document is not in the store, or was evicted, is none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec

from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.layout import (
    IMPORTED_AT_ANNOTATION,
    INDEX_MAX_BYTES,
    NAME_ANNOTATION,
    REF_ANNOTATION,
)
from mirror.store.blob_watch import BlobWatch
from mirror.store.disk_work import run_to_the_end
from mirror.store.oci_layout import OciLayout
from mirror.tags.base import OwnTag, TagName
from mirror.tags.image_name import parse_tag_name
from mirror.tags.source import OwnTags, TagEvent, TagGone, TagSet, TagsLost


class _Entry(msgspec.Struct):
    digest: str
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct):
    manifests: list[_Entry] = []


_DECODER = msgspec.json.Decoder(_Index)


class LayoutTags:
    """Implements `TagSource`."""

    def __init__(self, root: Path) -> None:
        self._layout = OciLayout(root)

    async def watch_tags(self) -> AsyncGenerator[TagEvent, None]:
        """As `TagSource.watch_tags`."""
        known: dict[TagName, OwnTag] = {}
        is_told = False
        # index.json is replaced by a rename; blobs come and go by others.
        watch = BlobWatch([self._layout.root, *self._layout.blob_folders])
        async with aclosing(watch.changes()) as changes:
            async for _ in changes:
                try:
                    found = await run_to_the_end(self._look)
                except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
                    if is_told:
                        is_told = False
                        yield TagsLost(f"{self._layout.index_path} cannot be read: {exc}")
                    continue
                if not is_told:
                    is_told = True
                    yield OwnTags(found)
                else:
                    for name in known.keys() - found.keys():
                        yield TagGone(name)
                    for name, tag in found.items():
                        if known.get(name) != tag:
                            yield TagSet(tag)
                known = found

    def _look(self) -> dict[TagName, OwnTag]:
        """Blocks. Raises: OSError, and what msgspec raises."""
        try:
            with self._layout.index_path.open("rb") as file:
                written_at_s = os.fstat(file.fileno()).st_mtime
                entries = _DECODER.decode(file.read(INDEX_MAX_BYTES)).manifests
        except FileNotFoundError:
            return {}  # The store makes it.
        found = {}
        for entry in entries:
            tag = _tag(entry, written_at_s)
            if tag is not None and self._layout.blob_path(tag.digest).exists():
                # The last one counts.
                found[tag.name] = tag
        return found


def _tag(entry: _Entry, written_at_s: float) -> OwnTag | None:
    notes = entry.annotations or {}
    name = parse_tag_name(notes.get(NAME_ANNOTATION) or notes.get(REF_ANNOTATION, ""))
    if name is None:
        return None
    try:
        digest = Digest.parse(entry.digest)
    except DigestInvalid:
        return None
    stated = notes.get(IMPORTED_AT_ANNOTATION, "")
    at_s = float(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 12 else written_at_s
    return OwnTag(name, digest, at_s, is_imported=True)
