"""An ingest that somebody reads: a descriptor of his own. Refuses to know its name and whose file it is."""

from __future__ import annotations

import os

from mirror.errors import StoreUnavailable
from mirror.store.file_blob import FileBlob


class OpenIngest:
    """Implements `IngestFile`. Owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @staticmethod
    def of(file: FileBlob) -> OpenIngest:
        """Stays open when `file` is closed. Raises: StoreUnavailable."""
        assert file.descriptor is not None, "closed"
        try:
            return OpenIngest(os.dup(file.descriptor))
        except OSError as exc:
            raise StoreUnavailable(f"an ingest cannot be opened: {exc}") from exc

    @property
    def descriptor(self) -> int:
        assert self._descriptor is not None, "closed"
        return self._descriptor

    def size_bytes(self) -> int:
        return os.fstat(self.descriptor).st_size

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
