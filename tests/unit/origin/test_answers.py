"""Statuses, pauses, heads and spans: tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_MANIFEST
from mirror.origin.answers import blob_span, manifest_head, retry_after_s, status_error
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

NOW_S = 1_800_000_000.0
WHERE = "https://reg.example"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, OriginRefused),
        (402, OriginRefused),
        (403, OriginRefused),
        (451, OriginRefused),
        (404, OriginAbsent),
        (410, OriginAbsent),
        (429, OriginRateLimited),
        (408, OriginFailing),
        (500, OriginHiccup),
        (599, OriginHiccup),
        (400, OriginNonsense),
        (416, OriginNonsense),
        (204, OriginNonsense),
        (304, OriginNonsense),
    ],
)
def test_statuses(status: int, kind: type[OriginError]) -> None:
    assert type(status_error(WHERE, "x", status, {}, "", NOW_S)) is kind


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"errors":[{"code":"DENIED","message":"no\\nway","detail":"d"}]}', ": DENIED no way"),
        ('{"errors":[{"code":"DENIED"}]}', ": DENIED"),
        ('{"errors":[]}', ': {"errors":[]}'),
        ('{"errors":["x"]}', ': {"errors":["x"]}'),
        ("[1]", ": [1]"),
        ("plain\x1b[31m \n words", ": plain [31m words"),
        ("<html><body>", ""),
        ("", ""),
        ("y" * 500, ": " + "y" * 200),
        ("[" * 5000, ": " + "[" * 200),
    ],
)
def test_the_origins_words_are_short_and_plain(text: str, told: str) -> None:
    assert status_error(WHERE, "x", 403, {}, text, NOW_S).detail == f"refuses x with 403{told}"


DATE = "Fri, 15 Jan 2027 08:00:00 GMT"  # NOW_S


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, 0),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 7 "}, 7),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "-7"}, 0),
        ({"Retry-After": "7.5"}, 0),
        ({"Retry-After": "9999999999999999"}, 86_400),
        ({"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30),
        ({"Retry-After": "Fri, 15 Jan 2027 07:00:30 GMT"}, 0),
        ({"Retry-After": "Fri, 15 Jan 2028 08:00:30 GMT"}, 86_400),
        # The server's clock is another than ours.
        ({"Retry-After": "Fri, 15 Jan 2021 08:00:30 GMT", "Date": "Fri, 15 Jan 2021 08:00:25 GMT"}, 5),
        ({"Retry-After": "Fri, 99 Jan 2027 08:00:30 GMT"}, 0),
    ],
)
def test_pauses(headers: dict[str, str], expected_s: float) -> None:
    assert retry_after_s(headers, NOW_S) == expected_s


@given(st.text(), st.text())
def test_any_pause_is_read(text: str, date: str) -> None:
    assert 0 <= retry_after_s({"Retry-After": text, "Date": date}, NOW_S) <= 86_400


DIGEST, OTHER = Digest.of(b"one"), Digest.of(b"other")
GOOD = {"Content-Type": OCI_MANIFEST, "Content-Length": "5", "Docker-Content-Digest": str(DIGEST)}


@pytest.mark.parametrize(
    ("changes", "wanted", "expected"),
    [
        ({}, None, ManifestHead(DIGEST, OCI_MANIFEST, 5)),
        ({"Content-Type": OCI_MANIFEST + "; charset=utf-8"}, None, ManifestHead(DIGEST, OCI_MANIFEST, 5)),
        ({"Docker-Content-Digest": ""}, DIGEST, ManifestHead(DIGEST, OCI_MANIFEST, 5)),
        ({"Docker-Content-Digest": ""}, None, None),
        ({"Docker-Content-Digest": "md5:1"}, None, None),
        ({"Content-Type": "text/html"}, None, None),
        ({"Content-Type": ""}, None, None),
        ({"Content-Length": ""}, None, None),
        ({"Content-Length": "-5"}, None, None),
    ],
)
def test_heads(changes: dict[str, str], wanted: Digest | None, expected: ManifestHead | None) -> None:
    assert manifest_head(WHERE, GOOD | changes, wanted) == expected


def test_heads_of_something_else() -> None:
    with pytest.raises(OriginNonsense):
        manifest_head(WHERE, GOOD, OTHER)
    with pytest.raises(OriginNonsense):
        manifest_head(WHERE, GOOD | {"Content-Length": "4194305"}, None)


@pytest.mark.parametrize(
    ("status", "told", "length", "start", "stop", "expected"),
    [
        (200, None, "100", 0, None, (ByteSpan(0, 100), 100)),
        (200, None, "100", 7, 9, (ByteSpan(0, 100), 100)),
        (200, None, "0", 0, None, (ByteSpan(0, 0), 0)),
        (206, "bytes 7-99/100", "93", 7, None, (ByteSpan(7, 100), 100)),
        (206, "bytes 7-8/100", "2", 7, 9, (ByteSpan(7, 9), 100)),
        (206, "bytes 7-7/100", "1", 7, 9, (ByteSpan(7, 8), 100)),
        (206, "bytes 7-9/100", "3", 7, 9, None),
        (206, "bytes 6-8/100", "3", 7, 9, None),
        (206, "bytes 7-8/100", "3", 7, 9, None),
        (206, "bytes 7-8/8", "2", 7, 9, None),
        (206, "bytes 7-8/*", "2", 7, 9, None),
        (206, None, "2", 7, 9, None),
        (206, "bytes 7-8/100", "", 7, 9, None),
        (200, None, "", 0, None, None),
    ],
)
def test_spans(
    status: int,
    told: str | None,
    length: str,
    start: int,
    stop: int | None,
    expected: tuple[ByteSpan, int] | None,
) -> None:
    headers = {"Content-Length": length} | ({} if told is None else {"Content-Range": told})
    if expected is None:
        with pytest.raises(OriginNonsense):
            blob_span(WHERE, status, headers, start, stop)
    else:
        assert blob_span(WHERE, status, headers, start, stop) == expected
