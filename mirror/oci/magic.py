"""Whether the first bytes of a blob can be of its media type: four bytes tell a captive portal's page from a layer.

Says nothing of what is behind them: only the digest does.
"""

from __future__ import annotations

import re

# So many bytes tell all that can be told.
FIRST_BYTES_COUNT = 4

_SIGNS = {
    # RFC 1952 §2.3.1.
    "gzip": re.compile(rb"\x1f\x8b"),
    # RFC 8878 §3.1.1, or a skippable frame (§3.1.2): some compressors write one first, and containerd takes it.
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}
# OCI writes tar+gzip, Docker tar.gzip, others application/gzip or x-gzip.
_COMPRESSION = re.compile(r"[+./-](gzip|zstd)$", re.IGNORECASE)


def fits(media_type: str, first_bytes: bytes) -> bool:
    """`first_bytes`: `FIRST_BYTES_COUNT` of them or more, or all of a shorter blob. Types without a sign of their own,
    such as plain tar, always fit."""
    compression = _COMPRESSION.search(media_type.partition(";")[0].strip())
    return compression is None or bool(_SIGNS[compression[1].lower()].match(first_bytes))
