"""Images of the directory store, for an export: those that its index.json names. Implements `ImageSource`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

from mirror.archive.documents import Reference, parse_layout_index
from mirror.archive.errors import ImageNameInvalid
from mirror.archive.layout_folder import LayoutFolder
from mirror.archive.names import names_of, normalised
from mirror.oci.digest import Digest
from mirror.oci.layout import INDEX_MAX_BYTES, LAYOUT_INDEX, blob_entry
from mirror.store.disk_work import run_to_the_end


class DirectorySource:
    def __init__(self, root: Path) -> None:
        self._folder = LayoutFolder(str(root), root)

    async def find(self, text: str) -> tuple[str, Reference] | None:
        """Raises: ImageNameInvalid, ArchiveInvalid."""
        wanted = normalised(text)
        index = await run_to_the_end(self._folder.read, LAYOUT_INDEX, INDEX_MAX_BYTES)
        found = None
        for entry in parse_layout_index(index) if index is not None else ():
            try:
                names = names_of(entry, ())
            except ImageNameInvalid:
                continue
            if wanted in names:
                found = wanted, entry  # The last one counts: it was named last.
        return found

    async def size_bytes(self, digest: Digest) -> int | None:
        return await run_to_the_end(self._folder.size_bytes, blob_entry(digest))

    async def chunks(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        chunks = self._folder.chunks(blob_entry(digest))
        while chunk := await run_to_the_end(next, chunks, b""):
            yield chunk
