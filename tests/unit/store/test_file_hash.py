"""What of a file gets into a hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mirror.oci.byterange import ByteSpan
from mirror.store.file_hash import HASH_READ_BYTES, hash_span

DATA = bytes(range(251)) * (3 * HASH_READ_BYTES // 251)


@pytest.mark.parametrize(
    ("start", "stop", "read_bytes"),
    [
        (0, len(DATA), len(DATA)),
        (7, HASH_READ_BYTES + 8, HASH_READ_BYTES + 1),
        (5, 5, 0),
        (3, len(DATA) + 9, len(DATA) - 3),
        (len(DATA), len(DATA) + 1, 0),
    ],
)
def test_it_hashes_the_span_as_far_as_the_file_goes(
    tmp_path: Path, start: int, stop: int, read_bytes: int
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        assert hash_span(hasher, file.fileno(), ByteSpan(start, stop)) == read_bytes
    assert hasher.digest() == hashlib.sha256(DATA[start:stop]).digest()
