"""A directory store of a test: run it, fill it, look at its files."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from mirror.oci.digest import Digest
from mirror.store.directory_store import DirectoryStore
from tests.support.store_beds import running


@asynccontextmanager
async def store_in(root: Path, quota_bytes: int | None = None) -> AsyncIterator[DirectoryStore]:
    store = DirectoryStore(root, quota_bytes=quota_bytes)
    async with running(store):
        yield store


async def put(store: DirectoryStore, data: bytes) -> Digest:
    digest = Digest.of(data)
    async with store.ingest(digest, len(data)) as writer:
        await writer.write(data)
        await writer.commit()
    return digest


def files(root: Path) -> dict[str, int]:
    """Every file below blobs/ and ingest/, and its size. Copies that end meanwhile take their names away."""
    found = {}
    for path in (path for name in ("blobs", "ingest") for path in (root / name).rglob("*")):
        with suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found[str(path.relative_to(root))] = status.st_size
    return found


def name_of(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """256 KiB, mounted at the folder. Needs root."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "peili-test", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
