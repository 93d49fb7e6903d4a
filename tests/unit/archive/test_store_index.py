"""index.json of a directory store is written under a lock, and never so large that nobody reads it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from mirror.archive import store_index
from mirror.archive.documents import Reference
from mirror.archive.errors import ImportFailed
from mirror.archive.store_index import NamedReference, put_names
from mirror.oci.digest import Digest
from mirror.oci.layout import LAYOUT_INDEX, NAME_ANNOTATION
from mirror.oci.manifest import OCI_MANIFEST
from mirror.store.oci_layout import OciLayout

REFERENCE = Reference(OCI_MANIFEST, Digest.of(b"manifest"), 8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    OciLayout(tmp_path).prepare()
    return tmp_path


def put(root: Path, *names: str) -> None:
    put_names(root, [NamedReference(name, REFERENCE) for name in names], 1.0)


def names_in(root: Path) -> list[str]:
    found = json.loads((root / LAYOUT_INDEX).read_bytes())["manifests"]
    return [one["annotations"][NAME_ANNOTATION] for one in found]


def test_names_that_it_has_no_room_for_are_not_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "a")
    monkeypatch.setattr(store_index, "INDEX_MAX_BYTES", (root / LAYOUT_INDEX).stat().st_size)
    put(root, "a")
    with pytest.raises(ImportFailed, match="remove names from it"):
        put(root, "b")
    assert names_in(root) == ["a"]


def test_it_is_read_and_written_under_one_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two imports at once would keep the names of one."""
    was_locked = []
    with_names = store_index.with_names

    def looked_at(index: bytes, named: Sequence[NamedReference], now_s: float) -> bytes:
        another = os.open(root, os.O_RDONLY)
        try:
            fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
            was_locked.append(False)
        except BlockingIOError:
            was_locked.append(True)
        finally:
            os.close(another)
        return with_names(index, named, now_s)

    monkeypatch.setattr(store_index, "with_names", looked_at)
    put(root, "a")
    assert was_locked == [True] and names_in(root) == ["a"]
    assert (root / LAYOUT_INDEX).stat().st_mode & 0o777 == 0o644
