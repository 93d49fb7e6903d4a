"""What the origin client answers and how it fails, against a registry over real sockets, with the real guard."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from aiohttp import web

from mirror.oci.byterange import ByteSpan
from mirror.oci.manifest import MANIFEST_MAX_BYTES
from mirror.origin.base import Endpoint
from mirror.origin.client import MANIFEST_ACCEPT
from mirror.origin.errors import (
    OriginAbsent,
    OriginError,
    OriginFailing,
    OriginForbidden,
    OriginNonsense,
    OriginRateLimited,
    OriginRefused,
)
from mirror.version import VERSION
from tests.support.oci_image import Blob
from tests.support.origin_clients import (
    APP,
    IMAGE,
    LAYER,
    LAYER_DIGEST,
    an_origin,
    client_of,
    read_blob,
    serving,
)
from tests.support.token_origin import (
    Good,
    Status,
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
    ("mirror", "registry", "kind"),
    [
        (404, 403, OriginRefused),
        (403, 404, OriginAbsent),
        (404, 429, OriginRateLimited),
        (401, 500, OriginFailing),
        (500, 400, OriginNonsense),
    ],
)
async def test_when_all_fail_it_is_the_registry_that_is_heard(
    mirror: int, registry: int, kind: type[OriginError]
) -> None:
    async with an_origin() as one, an_origin() as other, client_of(one, other) as client:
        one.behave(Status(mirror))
        other.behave(Status(registry))
        with pytest.raises(kind, match=other.authority):
            await client.head(APP, "v1", is_anonymous=True)


async def test_an_endpoint_that_may_not_resolve_is_asked_by_digest_alone() -> None:
    async with an_origin() as one, an_origin() as other:
        pulls_only = Endpoint(f"{one.url}/v2", named_by_user=True, can_resolve=False)
        async with client_of(pulls_only, other) as client:
            head = await client.head(APP, "v1", is_anonymous=True)
            assert (len(one.journal), len(other.of("head"))) == (0, 1)
            await client.manifest(APP, str(head.digest), is_anonymous=True)
            assert len(one.of("manifest")) == 1


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
