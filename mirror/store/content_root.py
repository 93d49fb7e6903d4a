"""The folder in which containerd keeps its blobs, seen from here: is it there, and can a blob's file be
opened?

Answers from the file system alone. That a file is there does not mean that it may be shared: namespaces keep
their blobs in one folder, and only containerd knows whose a blob is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mirror.errors import SettingsError
from mirror.oci.digest import Digest
from mirror.store.file_blob import FileBlob

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
        """Raises: SettingsError where it cannot be what was meant."""
        if not path.is_dir():
            raise SettingsError(
                CONTENT_PATH_SETTING,
                f"{path} is not a folder. Name the folder io.containerd.content.v1.content below "
                "containerd's root, or leave the flag out and let containerd name it",
            )
        root = ContentRoot(path)
        if not root.looks_right():
            raise SettingsError(
                CONTENT_PATH_SETTING,
                f"{path} has neither blobs/ nor ingest/, so it is not the folder of containerd's content. "
                "Its name usually ends in io.containerd.content.v1.content",
            )
        return root

    def looks_right(self) -> bool:
        """containerd makes `ingest/` when it starts, and `blobs/` with the first blob."""
        return any((self.path / name).is_dir() for name in ("blobs", "ingest"))

    def open(self, digest: Digest) -> FileBlob | FileAbsent | FileUnreadable:
        """Raises: OSError for what has nothing to do with this file, such as too many open files."""
        path = self.path / "blobs" / digest.algorithm / digest.encoded
        try:
            return FileBlob.open(path)
        except PermissionError:
            return FileUnreadable(f"{path}: permission denied")
        except (FileNotFoundError, NotADirectoryError):
            if self.looks_right():
                return FileAbsent()
            return FileUnreadable(f"{self.path} is not here")
