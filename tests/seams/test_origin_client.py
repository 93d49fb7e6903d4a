"""What the origin client answers and how it fails, against a registry over real sockets, with the real guard."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from aiohttp import web

from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_MAX_BYTES
from mirror.origin import client as client_module
from mirror.origin.base import Endpoint
from mirror.origin.client import MANIFEST_ACCEPT
from mirror.origin.errors import (
    OriginAbsent,
    OriginBroke,
    OriginError,
    OriginFailing,
    OriginForbidden,
    OriginNonsense,
    OriginRateLimited,
    OriginRefused,
    OriginStalled,
)
from mirror.version import VERSION
from tests.support.oci_image import Blob
from tests.support.origin_clients import (
    APP,
    IMAGE,
    LAYER,
    LAYER_DIGEST,
    QUICK,
    an_origin,
    client_of,
    read_blob,
    serving,
)
from tests.support.recording_mirror import refused_address
from tests.support.token_origin import (
    RESET,
    BlackHole,
    Cut,
    End,
    Good,
    Stall,
    Status,
    http_date,
    rate_limited,
)

# --- the good case


async def test_head_manifest_and_blob_of_an_open_registry() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        head = await client.head(APP, "v1", is_anonymous=True)
        assert (str(head.digest), head.media_type) == (IMAGE.manifest.digest, IMAGE.manifest.media_type)
        assert head.size_bytes == len(IMAGE.manifest.content)
        fetched = await client.manifest(APP, "v1", is_anonymous=True)
        assert (fetched.data, fetched.digest) == (IMAGE.manifest.content, head.digest)
        assert await client.head(APP, str(head.digest), is_anonymous=True) == head
        async with client.blob(APP, LAYER_DIGEST, 0, None, is_anonymous=True) as body:
            assert (body.span, body.size_bytes) == (ByteSpan(0, len(LAYER.content)), len(LAYER.content))
            assert b"".join([chunk async for chunk in body.chunks()]) == LAYER.content
        asked = origin.journal[0].asked
        assert asked.headers["accept"] == MANIFEST_ACCEPT
        assert asked.headers["user-agent"] == f"peili/{VERSION}"
        assert asked.headers["accept-encoding"] == "identity"
        assert asked.query == {"ns": "reg.example"}


async def test_the_registry_itself_is_not_told_its_name() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        await client.head(replace(APP, registry=origin.authority), "v1", is_anonymous=True)
        assert origin.journal[0].asked.query == {}


@pytest.mark.parametrize(("start", "stop"), [(5, None), (5, 100), (0, 1), (299_999, None)])
async def test_a_range_is_what_was_asked_for(start: int, stop: int | None) -> None:
    async with an_origin() as origin, client_of(origin) as client:
        async with client.blob(APP, LAYER_DIGEST, start, stop, is_anonymous=True) as body:
            end = len(LAYER.content) if stop is None else stop
            assert (body.span, body.size_bytes) == (ByteSpan(start, end), len(LAYER.content))
            assert b"".join([chunk async for chunk in body.chunks()]) == LAYER.content[start:end]


async def test_an_origin_that_ignores_the_range_sends_the_whole() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Good(ignore_range=True), "blob")
        async with client.blob(APP, LAYER_DIGEST, 1000, 2000, is_anonymous=True) as body:
            assert body.span == ByteSpan(0, len(LAYER.content))


async def test_a_range_behind_the_end_is_nonsense() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        with pytest.raises(OriginNonsense, match="416"):
            await read_blob(client, start=len(LAYER.content))


# --- failures


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, OriginRefused),
        (403, OriginRefused),
        (404, OriginAbsent),
        (429, OriginRateLimited),
        (500, OriginFailing),
        (503, OriginFailing),
        (400, OriginNonsense),
        (302, OriginNonsense),
        (204, OriginNonsense),
    ],
)
async def test_statuses_are_errors_in_the_origins_words(code: int, kind: type[OriginError]) -> None:
    body = json.dumps({"errors": [{"code": "SOME", "message": "words\nof it"}]})
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Status(code, body="" if code in (204, 302) else body))
        for ask in (client.head, client.manifest):
            with pytest.raises(kind):
                await ask(APP, "v1", is_anonymous=True)
        with pytest.raises(kind) as caught:
            await read_blob(client)
        if code not in (204, 302):
            assert "SOME words of it" in str(caught.value)
        assert origin.url in str(caught.value)


async def test_a_long_error_page_is_not_read_to_its_end() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Status(404, body="x" * 50_000_000))
        with pytest.raises(OriginAbsent) as caught:
            await client.manifest(APP, "v1", is_anonymous=True)
        assert len(str(caught.value)) < 400


async def test_a_get_is_tried_once_more_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RETRY_PAUSE_S", (0.0, 0.01))
    async with an_origin() as origin, client_of(origin) as client:
        for answer in (Status(500), Status(503), RESET, End("fin")):
            origin.journal.clear()
            origin.behave(answer, "manifest", times=1)
            assert (await client.manifest(APP, "v1", is_anonymous=True)).data == IMAGE.manifest.content
            origin.behave(answer, "blob", times=1)
            assert await read_blob(client) == LAYER.content
            # aiohttp itself repeats what a kept connection lost.
            assert len(origin.of("manifest", "blob")) == 4, answer
        origin.behave(Status(500), "blob")
        origin.journal.clear()
        with pytest.raises(OriginFailing, match="500"):
            await read_blob(client)
        assert len(origin.journal) == 2


async def test_a_head_says_how_things_stand_now() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        for answer, kind in [(Status(503), OriginFailing), (rate_limited("1"), OriginRateLimited)]:
            origin.behave(answer, "head")
            origin.journal.clear()
            with pytest.raises(kind):
                await client.head(APP, "v1", is_anonymous=True)
            assert len(origin.journal) == 1


async def test_a_pause_that_is_asked_for_is_kept_if_it_is_short() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(rate_limited("1"), "manifest", times=1)
        assert (await client.manifest(APP, "v1", is_anonymous=True)).data
        first, second = origin.of("manifest")
        assert second.begun_s - first.begun_s >= 1.0


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"),
    [("11", 11, 11), ("in 30 s", 28, 31), (None, 0, 0), ("soon", 0, 0), ("0", 0, 0), ("9" * 30, 86_400, 86_400)],
)  # fmt: skip
async def test_a_longer_pause_is_the_callers(header: str | None, least_s: float, most_s: float) -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(rate_limited(http_date(30) if header == "in 30 s" else header), "blob")
        with pytest.raises(OriginRateLimited, match="slow down") as caught:
            await read_blob(client)
        assert least_s <= caught.value.retry_after_s <= most_s
        assert len(origin.journal) == 1


async def test_pauses_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 2.0)
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(rate_limited("1"), "blob")
        with pytest.raises(OriginRateLimited):
            await read_blob(client)
        assert len(origin.journal) == 3


async def test_silence_ends_in_time() -> None:
    async with an_origin() as origin, client_of(origin, timeouts=QUICK) as client:
        origin.behave(BlackHole())
        begun_s = time.monotonic()
        for ask in (client.head, client.manifest):
            with pytest.raises(OriginFailing, match=r"0\.5 s"):
                await ask(APP, "v1", is_anonymous=True)
        assert time.monotonic() - begun_s < 5
        assert len(origin.journal) == 2


async def test_a_refused_connection_is_failure_at_once() -> None:
    with refused_address() as authority:
        async with client_of(Endpoint(f"http://{authority}/v2", named_by_user=True)) as client:
            with pytest.raises(OriginFailing, match="takes no connection"):
                await client.manifest(APP, "v1", is_anonymous=True)


async def test_what_speaks_no_http_is_nonsense() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, client_of(Endpoint(f"http://127.0.0.1:{port}/v2", named_by_user=True)) as client:
        with pytest.raises(OriginNonsense, match="HTTP"):
            await client.head(APP, "v1", is_anonymous=True)


@pytest.mark.parametrize("ending", ["fin", "rst"])
async def test_a_body_that_is_cut_gives_what_arrived(ending: str) -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Cut(100_000, "fin" if ending == "fin" else "rst"), "blob")
        data = bytearray()
        async with client.blob(APP, LAYER_DIGEST, 0, None, is_anonymous=True) as body:
            with pytest.raises(OriginBroke):
                async for chunk in body.chunks():
                    data += chunk
        assert data == LAYER.content[:100_000]


async def test_a_body_that_stalls_gives_what_arrived() -> None:
    async with an_origin() as origin, client_of(origin, timeouts=QUICK) as client:
        origin.behave(Stall(100_000), "blob")
        data = bytearray()
        async with client.blob(APP, LAYER_DIGEST, 0, None, is_anonymous=True) as body:
            with pytest.raises(OriginStalled):
                async for chunk in body.chunks():
                    data += chunk
        assert data == LAYER.content[:100_000]


async def test_a_reader_that_pauses_is_no_stall() -> None:
    big = Blob.of("application/octet-stream", bytes(16 << 20))
    async with an_origin() as origin, client_of(origin, timeouts=QUICK) as client:
        origin.add_blob(APP.name, big)
        received_bytes = 0
        async with client.blob(APP, Digest.parse(big.digest), 0, None, is_anonymous=True) as body:
            async for chunk in body.chunks():
                if not received_bytes:
                    await asyncio.sleep(3 * QUICK.between_bytes_s)  # the pause is what is tested
                received_bytes += len(chunk)
        assert received_bytes == len(big.content)


async def test_leaving_a_body_early_ends_the_transfer() -> None:
    big = Blob.of("application/octet-stream", bytes(32 << 20))
    async with an_origin() as origin, client_of(origin) as client:
        origin.add_blob(APP.name, big)
        async with client.blob(APP, Digest.parse(big.digest), 0, None, is_anonymous=True) as body:
            await anext(aiter(body.chunks()))
        async with asyncio.timeout(5):
            while not origin.journal[0].ended_s:
                await asyncio.sleep(0.01)
        assert origin.journal[0].client_left


# --- nonsense


async def test_other_bytes_than_the_digest_says_are_nonsense() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Good(is_corrupt=True), "manifest")
        for reference in ("v1", IMAGE.manifest.digest):
            with pytest.raises(OriginNonsense, match="other bytes"):
                await client.manifest(APP, reference, is_anonymous=True)


@pytest.mark.parametrize(
    "answer",
    [
        Good(tells_digest=False),
        Good(content_type="application/octet-stream"),
        Good(tells_length=False),
        Status(405),
        Status(501),
    ],
)
async def test_what_a_head_does_not_tell_is_fetched(answer: Good | Status) -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(answer, "head")
        head = await client.head(APP, "v1", is_anonymous=True)
        assert str(head.digest) == IMAGE.manifest.digest
        assert (head.media_type, head.size_bytes) == (
            IMAGE.manifest.media_type,
            len(IMAGE.manifest.content),
        )
        assert origin.trace() == ["HEAD head v1", "GET manifest v1"]


def _wide_manifest(size_bytes: int) -> Blob:
    document = json.loads(IMAGE.manifest.content) | {"annotations": {"x": "y" * size_bytes}}
    return Blob.of(IMAGE.manifest.media_type, json.dumps(document).encode())


async def test_no_manifest_is_read_beyond_its_bound() -> None:
    for tells_length in (True, False):
        async with an_origin() as origin, client_of(origin) as client:
            origin.behave(Good(tells_length=tells_length))
            origin.add(replace(IMAGE, manifest=_wide_manifest(MANIFEST_MAX_BYTES - 1000)), APP.name, "fits")
            await client.manifest(APP, "fits", is_anonymous=True)
            origin.add(replace(IMAGE, manifest=_wide_manifest(MANIFEST_MAX_BYTES * 4)), APP.name, "wide")
            for ask in (client.manifest, client.head):
                with pytest.raises(OriginNonsense, match=r"bytes"):
                    await ask(APP, "wide", is_anonymous=True)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Range": "bytes 0-9/100"}, b"0123456789"),
        ({"Content-Range": "bytes 5-3/100"}, b"0123456789"),
        ({"Content-Range": "bytes 5-14/*"}, b"0123456789"),
        ({"Content-Range": "bytes 5-15/100"}, b"0123456789"),
        ({"Content-Range": "bytes 5-104/200"}, b"x" * 100),
        ({}, b"0123456789"),
    ],
)
async def test_partial_answers_that_cannot_be(headers: Mapping[str, str], body: bytes) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=206, headers=headers, body=body)

    async with serving(answer) as endpoint, client_of(endpoint) as client:
        with pytest.raises(OriginNonsense):
            await read_blob(client, start=5, stop=15)


async def test_what_is_compressed_on_the_way_is_nonsense() -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        content = gzip.compress(IMAGE.manifest.content)
        return web.Response(headers={"Content-Encoding": "gzip"}, body=content)

    async with serving(answer) as endpoint, client_of(endpoint) as client:
        with pytest.raises(OriginNonsense, match="encoded as 'gzip'"):
            await read_blob(client)
        with pytest.raises(OriginNonsense, match="encoded as 'gzip'"):
            await client.manifest(APP, "v1", is_anonymous=True)


async def test_a_blob_without_a_length_is_nonsense() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Good(tells_length=False), "blob")
        with pytest.raises(OriginNonsense, match="length"):
            await read_blob(client)


# --- the route


async def test_the_first_endpoint_that_has_it_answers() -> None:
    async with an_origin() as empty, an_origin() as full, client_of(empty, full) as client:
        empty.behave(Status(404))
        await client.head(APP, "v1", is_anonymous=True)
        assert await read_blob(client) == LAYER.content
        empty.behave_well()
        full.journal.clear()
        await client.head(APP, "v1", is_anonymous=True)
        assert full.journal == []


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (403, 404, OriginRefused),
        (404, 403, OriginRefused),
        (404, 429, OriginAbsent),
        (500, 429, OriginRateLimited),
        (500, 400, OriginFailing),
        (400, 500, OriginFailing),
    ],
)
async def test_of_several_errors_the_weightiest_is_told(
    first: int, second: int, kind: type[OriginError]
) -> None:
    async with an_origin() as one, an_origin() as other, client_of(one, other) as client:
        one.behave(Status(first))
        other.behave(Status(second))
        with pytest.raises(kind):
            await client.head(APP, "v1", is_anonymous=True)
        other.behave(Status(first))
        with pytest.raises(OriginError, match=other.authority):
            await client.head(APP, "v1", is_anonymous=True)


async def test_an_endpoint_that_nobody_named_may_not_be_this_host() -> None:
    async with an_origin() as origin:
        async with client_of(Endpoint(f"{origin.url}/v2")) as client:
            with pytest.raises(OriginForbidden, match="nobody on this host named it"):
                await client.head(APP, "v1", is_anonymous=True)
        assert origin.journal == []


@pytest.mark.parametrize("base", ["http://[::1/v2", "unix:///run/x", "http:///v2"])
async def test_an_endpoint_that_is_no_address(base: str) -> None:
    async with client_of(Endpoint(base, named_by_user=True)) as client:
        with pytest.raises((OriginNonsense, OriginForbidden)):
            await client.head(APP, "v1", is_anonymous=True)


# --- at the same time


async def test_equal_questions_share_an_answer() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Good(first_byte_after_s=0.1), "head", "manifest")
        heads = await asyncio.gather(*(client.head(APP, "v1", is_anonymous=True) for _ in range(20)))
        assert len(set(heads)) == 1
        await asyncio.gather(*(client.manifest(APP, "v1", is_anonymous=True) for _ in range(20)))
        assert origin.trace() == ["HEAD head v1", "GET manifest v1"]


async def test_whoever_gives_up_leaves_the_question_to_the_others() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Good(first_byte_after_s=0.2), "head")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(client.head(APP, "v1", is_anonymous=True))
            others = [group.create_task(client.head(APP, "v1", is_anonymous=True)) for _ in range(3)]
            while not origin.journal:
                await asyncio.sleep(0.01)
            first.cancel()
        assert {str(task.result().digest) for task in others} == {IMAGE.manifest.digest}
        assert len(origin.journal) == 2
