"""How the origin client fails: in which words, after how many tries and how long, and with which bytes."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from mirror.oci.digest import Digest
from mirror.origin import client as client_module
from mirror.origin.base import Endpoint
from mirror.origin.body import HttpBody
from mirror.origin.errors import (
    OriginAbsent,
    OriginBroke,
    OriginError,
    OriginFailing,
    OriginNonsense,
    OriginRateLimited,
    OriginRefused,
    OriginStalled,
)
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
)
from tests.support.recording_mirror import refused_address
from tests.support.token_origin import (
    RESET,
    BlackHole,
    Cut,
    End,
    Stall,
    Status,
    http_date,
    rate_limited,
)


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


@pytest.mark.parametrize("is_read_late", [False, True])
@pytest.mark.parametrize("ending", ["fin", "rst"])
async def test_a_body_that_is_cut_gives_what_arrived(ending: str, is_read_late: bool) -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Cut(100_000, "fin" if ending == "fin" else "rst"), "blob")
        data = bytearray()
        async with client.blob(APP, LAYER_DIGEST, 0, None, is_anonymous=True) as body:
            assert isinstance(body, HttpBody)
            async with asyncio.timeout(5):
                while is_read_late and body._response.content.exception() is None:
                    await asyncio.sleep(0.01)
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
