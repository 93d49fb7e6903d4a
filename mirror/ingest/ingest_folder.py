"""What stands in containerd's `ingest/` and comes into its `blobs/sha256/`, one look at a time. All calls block:
they belong into a thread, one at a time. `file_of` and `keep_only` belong to whoever waits for the looks.

Says what is there, never what it means, and writes nothing.

Layout, seen on 1.6, 1.7 and 2.1: `ingest/<any name>/` with `ref` (``<namespace>/<number>/<client's name>``),
`total` (where the size is known) and, written last, `data`. A commit renames `data` to
`blobs/<algorithm>/<hex>` and then removes the folder, so one of the two is always there. A directory store's own
unfinished blobs are plain files beside such folders: they are passed over.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from mirror.ingest.table import IngestKey, Seen, Sighting
from mirror.oci.digest import Digest
from mirror.store.file_blob import FileBlob

log = logging.getLogger(__name__)

# A descriptor each. A kubelet that pulls ten images at once has some forty.
INGEST_MAX_COUNT = 256

# A ref is a namespace, a number and a client's name, some 100 bytes; a total is a number.
NOTE_MAX_BYTES = 4096

# A modification time is as coarse as the kernel's tick (4 ms, or 1 s on old file systems): a folder that changed
# this recently is listed again.
RACY_S = 2.0

_REF = re.compile(r"(?P<namespace>[^/]+)/\d+/(?P<ref>.+)", re.DOTALL)
_DIGEST_AT_END = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")
_TOTAL = re.compile(r"[0-9]{1,19}")
_BLOB_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BlobNames:
    """What changed in the folder of blobs since the last look. A name in both went and came again."""

    arrived: Collection[str]
    gone: Collection[str]


@dataclass(frozen=True, slots=True)
class BlobsUnknown:
    """Nobody knows what changed: the folder is listed, if it is not as it was."""


BlobChanges = BlobNames | BlobsUnknown


@dataclass(frozen=True, slots=True)
class _Followed:
    """One ingest whose data file was seen. namespace "": what is written in `ref` is not of containerd."""

    inode: int
    namespace: str
    ref: str
    digest: Digest | None
    total_bytes: int | None

    def seen(self, name: str, size_bytes: int) -> Seen:
        key = IngestKey(name, self.inode)
        return Seen(key, self.namespace, self.ref, self.digest, self.total_bytes, size_bytes)


class IngestFolder:
    """Follows what belongs to `namespaces`, and no more than INGEST_MAX_COUNT of it."""

    def __init__(self, content_root: Path, namespaces: Iterable[str]) -> None:
        self.ingests = content_root / "ingest"
        self.blobs = content_root / "blobs" / "sha256"
        # As of the last look. containerd 1.6 makes `ingest/` when it starts, 1.7 and 2.1 make it and even the content
        # root with the first ingest, and all of them `blobs/sha256/` with the first commit.
        self.is_mounted = False
        self._content_root = content_root
        self._ingests = str(self.ingests)
        self._blobs = str(self.blobs.parent)
        self._namespaces = frozenset(namespaces)
        self._followed: dict[str, _Followed] = {}
        self._files: dict[IngestKey, FileBlob] = {}
        self._blob_names: set[str] = set()
        self._blobs_state: tuple[int, int] | None = None
        self._blobs_changed_at_s = float("-inf")
        self._is_first_look = True
        self._noted: set[str] = set()

    def look(self, changes: BlobChanges) -> Sighting:
        """Raises: OSError where one of the folders is there and cannot be read."""
        arrived = self._note_blobs(changes)
        seen: list[Seen] = []
        nascent: set[str] = set()
        asked: set[Digest] = set()
        try:
            names = _names(self.ingests, folders_only=True)
            self.is_mounted = True
        except (FileNotFoundError, NotADirectoryError):
            names = []
            self.is_mounted = self._content_root.parent.is_dir()
        for name in self._followed.keys() - set(names):
            self._forget(name, asked)
        for name in names:
            size_bytes = self._size_if_same(name)
            if size_bytes is None:
                self._forget(name, asked)
                size_bytes = self._begin(name)
            if size_bytes is None:
                nascent.add(name)
            elif (followed := self._followed[name]).namespace in self._namespaces:
                seen.append(followed.seen(name, size_bytes))
                if followed.digest is not None:
                    asked.add(followed.digest)
        # After the ingests: what was renamed before they were looked at is here by now.
        complete = frozenset(
            digest
            for digest in asked
            if os.path.lexists(f"{self._blobs}/{digest.algorithm}/{digest.encoded}")
        )
        # One that was first seen in the look in which it was committed: nobody else will tell.
        came = {digest for digest in complete if digest.encoded not in self._blob_names}
        self._blob_names.update(digest.encoded for digest in came)
        came.update(Digest("sha256", name) for name in arrived)
        return Sighting(seen, frozenset(nascent), frozenset(came), complete)

    def file_of(self, key: IngestKey) -> FileBlob | None:
        return self._files.get(key)

    def keep_only(self, keys: Collection[IngestKey]) -> None:
        """Not while a look is under way."""
        for key in [key for key in self._files if key not in keys]:
            self._files.pop(key).close()

    def close(self) -> None:
        self.keep_only(())

    def _size_if_same(self, name: str) -> int | None:
        """The size of a followed ingest whose file is still the one that is open."""
        followed = self._followed.get(name)
        if followed is None:
            return None
        try:
            # Text, not paths: twenty times a second for each download.
            status = os.lstat(f"{self._ingests}/{name}/data")
        except OSError:
            return None
        return status.st_size if status.st_ino == followed.inode else None

    def _begin(self, name: str) -> int | None:
        """The size of an ingest that is followed from now on. None: it has no data file yet, or is none."""
        folder = self.ingests / name
        if len(self._files) >= INGEST_MAX_COUNT:
            self._note(f"more than {INGEST_MAX_COUNT} ingests in {self.ingests}: the newest are not followed")
            return None
        try:
            file = FileBlob.open(folder / "data")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            self._note(f"{folder / 'data'} cannot be opened: {exc.strerror}")
            return None
        assert file.descriptor is not None
        inode = os.fstat(file.descriptor).st_ino
        try:
            followed = _described(_note_text(folder / "ref"), _note_text(folder / "total"), inode)
        except OSError as exc:
            self._note(f"{exc.filename} cannot be read: {exc.strerror}")
            followed = None
        if followed is None:
            # It is being removed, or can be read later.
            file.close()
            return None
        if followed.digest is None or followed.namespace not in self._namespaces:
            file.close()
        else:
            self._files[IngestKey(name, inode)] = file
        self._followed[name] = followed
        return file.size_bytes

    def _forget(self, name: str, asked: set[Digest]) -> None:
        followed = self._followed.pop(name, None)
        if followed is not None and followed.digest is not None:
            asked.add(followed.digest)

    def _note_blobs(self, changes: BlobChanges) -> set[str]:
        """The names that came."""
        before = self._blob_names
        if isinstance(changes, BlobNames):
            before.difference_update(changes.gone)
            arrived = {name for name in changes.arrived if _BLOB_NAME.fullmatch(name)} - before
            before |= arrived
        else:
            arrived = self._list_blobs()
        if self._is_first_look:
            self._is_first_look = False
            return set()
        return arrived

    def _list_blobs(self) -> set[str]:
        state = _folder_state(self.blobs)
        if state != self._blobs_state:
            self._blobs_state = state
            self._blobs_changed_at_s = time.monotonic()
        elif time.monotonic() - self._blobs_changed_at_s > RACY_S:
            return set()
        try:
            names = {name for name in _names(self.blobs) if _BLOB_NAME.fullmatch(name)}
        except FileNotFoundError:
            names = set()
        before, self._blob_names = self._blob_names, names
        return names - before

    def _note(self, complaint: str) -> None:
        if complaint not in self._noted:
            if len(self._noted) >= INGEST_MAX_COUNT:
                self._noted.clear()
            self._noted.add(complaint)
            log.warning("%s", complaint)


def _described(ref_text: str, total_text: str, inode: int) -> _Followed | None:
    if not ref_text:
        return None
    parts = _REF.fullmatch(ref_text)
    if parts is None:
        return _Followed(inode, "", "", None, None)
    digest = _DIGEST_AT_END.search(ref_text)
    return _Followed(
        inode,
        parts["namespace"],
        parts["ref"],
        None if digest is None else Digest.parse(digest[0]),
        int(total_text) if _TOTAL.fullmatch(total_text) else None,
    )


def _note_text(path: Path) -> str:
    """The text of a small file; "" where there is none. Raises: OSError."""
    try:
        file = FileBlob.open(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        assert file.descriptor is not None
        return os.pread(file.descriptor, NOTE_MAX_BYTES, 0).decode(errors="replace").strip()
    finally:
        file.close()


def _names(folder: Path, *, folders_only: bool = False) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not folders_only or entry.is_dir(follow_symlinks=False)]


def _folder_state(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
