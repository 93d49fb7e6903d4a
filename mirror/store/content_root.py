"""The folder in which containerd keeps its blobs, seen from here: is it there, and can a blob's file be
opened?

Answers from the file system alone. That a file is there does not mean that it may be shared: namespaces keep
their blobs in one folder, and only containerd knows whose a blob is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import SettingsError
from mirror.oci.digest import Digest
from mirror.store.file_blob import FileBlob

log = logging.getLogger(__name__)

CONTENT_PATH_SETTING = "--containerd-content-path"


@dataclass(frozen=True, slots=True)
class FileAbsent:
    """The folder is containerd's, and the file is not in it."""


@dataclass(frozen=True, slots=True)
class FileUnreadable:
    """The file may well be there: whether it is cannot be seen from here."""

    reason: str


class ContentRoot:
    """`path` holds `blobs/` and `ingest/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # sha512 is left to events and walks: no image was seen to use it, and its folder is usually missing.
        self.blob_folder = path / "blobs" / "sha256"

    @staticmethod
    def given_by_operator(path: Path) -> ContentRoot:
        """What this user may not see is believed: its bytes come over gRPC. Raises: SettingsError where the
        path cannot be what was meant."""
        root = ContentRoot(path)
        try:
            if not path.is_dir():
                raise SettingsError(
                    CONTENT_PATH_SETTING,
                    f"{path} is not a folder. Name the folder io.containerd.content.v1.content below "
                    "containerd's root, or leave the flag out and let containerd name it",
                )
            if not root._is_containerd_s():
                raise SettingsError(
                    CONTENT_PATH_SETTING,
                    f"{path} has neither blobs/ nor ingest/, so it is not the folder of containerd's content. "
                    "Its name usually ends in io.containerd.content.v1.content",
                )
        except PermissionError as exc:
            log.warning("%s: %s", CONTENT_PATH_SETTING, exc)
        return root

    def open(self, digest: Digest) -> FileBlob | FileAbsent | FileUnreadable:
        """Raises: OSError for what has nothing to do with this file, such as too many open files."""
        path = self.path / "blobs" / digest.algorithm / digest.encoded
        try:
            try:
                return FileBlob.open(path)
            except (FileNotFoundError, NotADirectoryError):
                if self._is_containerd_s():
                    return FileAbsent()
                return FileUnreadable(f"{self.path} is not here")
        except PermissionError as exc:
            return FileUnreadable(f"{exc.filename}: permission denied")

    def _is_containerd_s(self) -> bool:
        """containerd makes `ingest/` when it starts, and `blobs/` with the first blob. Raises:
        PermissionError."""
        return any((self.path / name).is_dir() for name in ("blobs", "ingest"))
