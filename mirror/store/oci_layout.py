"""What stands in a folder that is an OCI image layout. All calls block: run them in a thread, but for
`blob_path`.

Beside the layout's own files there are `ingest/` (blobs being written: ours are files, other processes' are folders
as containerd makes them) and `pins/` (one empty file for each pinned digest, so that a crash cannot spoil the list).
Refuses to decide what is kept.
Source: OCI image-spec image-layout.md.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import MirrorError
from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.layout import LAYOUT_INDEX, LAYOUT_MARKER, LAYOUT_VERSION
from mirror.store.ingest_file import IngestFile

ALGORITHMS = ("sha256", "sha512")
# In the refs of those who download into the folder as containerd does: its own name for the first namespace.
INGEST_NAMESPACE = "default"


class LayoutInvalid(MirrorError):
    """The folder holds something else than an OCI image layout of a version that is understood. Name another
    folder, or move what is there away."""


@dataclass(frozen=True, slots=True)
class FoundBlob:
    digest: Digest
    size_bytes: int
    used_at_ns: int
    """Wall clock: the file's modification time, which is set again when the blob is used."""


@dataclass(frozen=True, slots=True)
class Scan:
    """`found`: blobs that were not known before. `strangers`: path and reason of what is no blob."""

    seen: frozenset[Digest]
    found: tuple[FoundBlob, ...]
    strangers: dict[str, str]


class OciLayout:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.blob_folders = tuple(root / "blobs" / algorithm for algorithm in ALGORITHMS)
        self.ingest_folder = root / "ingest"
        self.index_path = root / LAYOUT_INDEX
        self._pins_folder = root / "pins"

    def blob_path(self, digest: Digest) -> Path:
        return self.root / "blobs" / digest.algorithm / digest.encoded

    def prepare(self) -> None:
        """Makes what is missing and leaves what is there. Raises: LayoutInvalid, OSError."""
        for folder in (*self.blob_folders, self.ingest_folder, self._pins_folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._check_version()
        if not self.index_path.exists():
            _write_whole(self.index_path, {"schemaVersion": 2, "manifests": []})

    def remove_abandoned_ingests(self) -> int:
        """The bytes freed. What a living process is still writing is left alone."""
        freed_bytes = 0
        for path in self.ingest_folder.iterdir():
            freed_bytes += IngestFile.remove_abandoned(path)
        return freed_bytes

    def scan(self, known: Collection[Digest]) -> Scan:
        """Raises: OSError."""
        seen: set[Digest] = set()
        found: list[FoundBlob] = []
        strangers: dict[str, str] = {}
        for folder in self.blob_folders:
            for entry in _entries(folder):
                try:
                    digest = Digest.parse(f"{folder.name}:{entry.name}")
                except DigestInvalid:
                    strangers[entry.path] = "its name is not a digest"
                    continue
                if digest in known:
                    seen.add(digest)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not stat.S_ISREG(status.st_mode):
                    strangers[entry.path] = "it is not a plain file"
                elif status.st_size == 0 and not digest.matches(b""):
                    strangers[entry.path] = "it is empty: whoever wrote it was cut off"
                else:
                    seen.add(digest)
                    found.append(FoundBlob(digest, status.st_size, status.st_mtime_ns))
        return Scan(frozenset(seen), tuple(found), strangers)

    def ingest_file(self, digest: Digest, size_bytes: int) -> IngestFile:
        return IngestFile(self.ingest_folder, digest, size_bytes)

    def publish(self, file: IngestFile) -> None:
        """Makes a sealed ingest a blob, in one step and for good. Raises: OSError."""
        target = self.blob_path(file.digest)
        file.publish(target)
        sync_folder(target.parent)

    def delete(self, digests: Collection[Digest]) -> dict[Digest, OSError]:
        """What could not be deleted. A blob that is gone already is no failure."""
        failed: dict[Digest, OSError] = {}
        for digest in digests:
            try:
                self.blob_path(digest).unlink(missing_ok=True)
            except OSError as exc:
                failed[digest] = exc
        return failed

    def pins(self) -> frozenset[Digest]:
        """Raises: OSError."""
        return frozenset(_pinned_digests(self._pins_folder))

    def set_pin(self, digest: Digest, *, is_pinned: bool) -> None:
        """Idempotent, durable when it returns. Raises: OSError."""
        path = self._pins_folder / f"{digest.algorithm}-{digest.encoded}"
        if is_pinned:
            path.touch()
        else:
            path.unlink(missing_ok=True)
        sync_folder(self._pins_folder)

    def _check_version(self) -> None:
        marker = self.root / LAYOUT_MARKER
        if not marker.exists():
            _write_whole(marker, {"imageLayoutVersion": LAYOUT_VERSION})
            return
        try:
            document = json.loads(marker.read_bytes())
        except ValueError as exc:
            raise LayoutInvalid(f"{marker} is not JSON ({exc}): repair it, or name another folder") from exc
        version = document.get("imageLayoutVersion") if isinstance(document, dict) else None
        if version != LAYOUT_VERSION:
            raise LayoutInvalid(
                f"{marker} says version {version!r}, this program understands {LAYOUT_VERSION!r}: "
                "name another folder"
            )


def sync_folder(folder: Path) -> None:
    """Names in the folder survive a power cut after this. Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def _pinned_digests(folder: Path) -> Iterator[Digest]:
    for entry in _entries(folder):
        try:
            yield Digest.parse(entry.name.replace("-", ":", 1))
        except DigestInvalid:
            continue


def _write_whole(path: Path, document: dict[str, object]) -> None:
    """Never visible half-written."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(document))
    draft.replace(path)
