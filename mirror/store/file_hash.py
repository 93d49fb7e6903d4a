"""How bytes of an open file get into a hash. Blocking: runs in a thread. Refuses to know what they should hash to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mirror.oci.byterange import ByteSpan

if TYPE_CHECKING:
    from hashlib import _Hash

# Read from the page cache into one buffer of this size, which stays in the CPU's own cache.
HASH_READ_BYTES = 256 * 1024


def hash_span(hasher: _Hash, descriptor: int, span: ByteSpan) -> int:
    """How many bytes; fewer than `span` has where the file ends before. Raises: OSError."""
    buffer = memoryview(bytearray(min(HASH_READ_BYTES, span.length_bytes)))
    position = span.start
    while position < span.stop:
        portion = buffer[: span.stop - position]
        read_bytes = os.preadv(descriptor, [portion], position)
        if not read_bytes:
            break
        hasher.update(portion[:read_bytes])
        position += read_bytes
    return position - span.start
