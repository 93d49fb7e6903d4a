"""What an origin's answer says: its status as an error, its headers as a head, a span, a pause. No I/O.

Rules
1. 401, 402, 403 and 451 are refusals, 404 and 410 absence, 429 a rate limit, 408, 425 and 5xx failure. All else
   that is not the answer hoped for is nonsense.
2. A manifest's head counts only with digest, media type and size; what lacks one is fetched and hashed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mirror.oci.byterange import ByteSpan, ContentRange
from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.manifest import MANIFEST_MAX_BYTES, MANIFEST_MEDIA_TYPES
from mirror.origin.base import ManifestHead
from mirror.origin.connections import OriginHiccup
from mirror.origin.errors import (
    OriginAbsent,
    OriginError,
    OriginFailing,
    OriginNonsense,
    OriginRateLimited,
    OriginRefused,
)

_REFUSALS = frozenset({401, 402, 403, 451})
_ABSENCES = frozenset({404, 410})
_FAILURES = frozenset({408, 425})
# Enough for the code and the message of a registry's error.
DETAIL_MAX_CHARS = 200
# A pause beyond a day says no more than a day.
RETRY_AFTER_MAX_S = 86_400.0

Headers = Mapping[str, str]


def status_error(
    where: str, what: str, status: int, headers: Headers, text: str, unix_s: float
) -> OriginError:
    """`what` was asked for; `text` is the body, as far as it was read."""
    said = f": {detail}" if (detail := _detail(text)) else ""
    if status in _REFUSALS:
        return OriginRefused(where, f"refuses {what} with {status}{said}")
    if status in _ABSENCES:
        return OriginAbsent(where, f"does not have {what}{said}")
    if status == 429:
        pause_s = retry_after_s(headers, unix_s)
        when = f", and asks to wait {pause_s:g} s" if pause_s else ""
        return OriginRateLimited(where, f"limits the rate of requests{when}{said}", pause_s)
    if status >= 500:
        return OriginHiccup(where, f"answered {status} for {what}{said}")
    if status in _FAILURES:
        return OriginFailing(where, f"answered {status} for {what}{said}")
    return OriginNonsense(where, f"answered {status} for {what}{said}")


def retry_after_s(headers: Headers, unix_s: float) -> float:
    """0: not said, or in words that are none. A date counts from the server's own, where it tells one."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text[:12]), RETRY_AFTER_MAX_S)
    then = _date(text)
    if then is None:
        return 0.0
    now = _date(headers.get("Date", "")) or datetime.fromtimestamp(unix_s, UTC)
    return min(max(0.0, (then - now).total_seconds()), RETRY_AFTER_MAX_S)


def manifest_head(where: str, headers: Headers, wanted: Digest | None) -> ManifestHead | None:
    """None: it says too little. Raises: OriginNonsense, where it is the head of something else."""
    size_bytes = content_length(headers)
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    digest = told_digest(headers)
    if size_bytes is None or media_type not in MANIFEST_MEDIA_TYPES:
        return None
    if size_bytes > MANIFEST_MAX_BYTES:
        raise OriginNonsense(where, f"says that a manifest has {size_bytes} bytes")
    if wanted is not None:
        if digest is not None and digest != wanted:
            raise OriginNonsense(where, f"gives {digest} when {wanted} was asked for")
        digest = wanted
    return None if digest is None else ManifestHead(digest, media_type, size_bytes)


def told_digest(headers: Headers) -> Digest | None:
    try:
        return Digest.parse(headers.get("Docker-Content-Digest", ""))
    except DigestInvalid:
        return None


def content_length(headers: Headers) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def check_encoding(where: str, headers: Headers) -> None:
    """Raises: OriginNonsense: what is compressed on the way has other bytes than its digest says."""
    encoding = headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", ""):
        raise OriginNonsense(where, f"sent a body encoded as {encoding[:40]!r}, which nobody asked for")


def blob_span(
    where: str, status: int, headers: Headers, start: int, stop: int | None
) -> tuple[ByteSpan, int]:
    """What the body carries, and the size of the whole. The whole is accepted for any range, and less than was asked
    for is, too. Raises: OriginNonsense."""
    length_bytes = content_length(headers)
    if length_bytes is None:
        raise OriginNonsense(where, "sent a blob without telling its length")
    if status == 200:
        return ByteSpan(0, length_bytes), length_bytes
    told = ContentRange.parse(headers.get("Content-Range"))
    if told is None:
        raise OriginNonsense(where, "sent part of a blob without telling which")
    span = told.span
    if span.start != start or (stop is not None and span.stop > stop) or span.length_bytes != length_bytes:
        sent = f"{span.content_range(told.size_bytes)} in {length_bytes} bytes"
        asked = f"bytes {start} to {'the end' if stop is None else stop - 1}"
        raise OriginNonsense(where, f"sent {sent} when {asked} were asked for")
    return span, told.size_bytes


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _detail(text: str) -> str:
    """Of the specification's error body the code and the message; else the text itself, if it is no page. One line."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.lstrip().startswith("<") else _one_line(text)
    errors = document.get("errors") if isinstance(document, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return _one_line(text)
    words = [str(first[name]) for name in ("code", "message") if first.get(name)]
    return _one_line(" ".join(words))


def _one_line(text: str) -> str:
    line = " ".join(text.split())[:DETAIL_MAX_CHARS]
    return "".join(character if character.isprintable() else " " for character in line)
