"""Where the origin client goes: redirects, gateways and realms, and what goes along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mirror.origin.errors import (
    OriginError,
    OriginForbidden,
    OriginNonsense,
    OriginRefused,
)
from tests.support.origin_clients import (
    APP,
    IMAGE,
    LAYER,
    SECRET,
    an_origin,
    client_of,
    docker_config,
    endpoint_of,
    read_blob,
)
from tests.support.token_origin import (
    Asked,
    Redirect,
    Status,
    TokenOrigin,
    server_tls,
)

# --- redirects


async def test_a_redirected_blob_comes_from_the_cdn_without_our_secrets(tmp_path: Path) -> None:
    async with an_origin("bearer") as origin:
        endpoint = replace(endpoint_of(origin), headers={"X-Key": "secret"})
        config = docker_config(tmp_path, origin)
        async with client_of(endpoint, config=config, named=[origin]) as client:
            origin.behave(Redirect(), "blob")
            assert await read_blob(client, start=7) == LAYER.content[7:]
        cdn, blob = origin.of("cdn")[0].asked, origin.of("blob")[-1].asked
        assert blob.headers["x-key"] == "secret" and blob.authorization.startswith("Bearer ")
        assert cdn.headers.keys().isdisjoint({"authorization", "x-key", "cookie", "referer"})
        assert cdn.range == "bytes=7-"
        # What is signed is spelled as it was.
        assert cdn.target.endswith("?signature=abc%2F1%7E")


async def test_a_redirect_that_stays_keeps_the_token() -> None:
    async with an_origin("bearer") as origin, client_of(origin) as client:
        there = f"/v2/{APP.name}/blobs/{LAYER.digest}?again=1"

        def once(asked: Asked) -> Redirect | None:
            return Redirect(there) if asked.kind == "blob" and "again" not in asked.query else None

        origin.answer = once
        assert await read_blob(client) == LAYER.content
        assert origin.of("blob")[-1].asked.authorization.startswith("Bearer ")


@pytest.mark.parametrize("asks_first", [False, True])
async def test_a_way_by_a_stranger_loses_the_token_for_good(asks_first: bool) -> None:
    async with an_origin("bearer") as origin, client_of(origin) as client:
        home = f"{origin.url}/v2/{APP.name}/blobs/{LAYER.digest}?again=1"
        there = f"http://127.0.0.1:{origin.cdn_port}/cdn/x/y"
        away = Redirect(there) if asks_first else Status(307, (("Location", there),))

        def by_way(asked: Asked) -> Redirect | Status | None:
            if asked.kind == "cdn":
                return Redirect(home)
            return away if asked.kind == "blob" and "again" not in asked.query else None

        origin.answer = by_way
        with pytest.raises(OriginRefused):
            await read_blob(client)
        assert origin.of("blob")[-1].asked.authorization == ""
        # The stranger cannot have tokens made, either.
        assert len(origin.of("token")) == asks_first


async def test_a_registry_behind_a_gateway_gives_an_anonymous_token(tmp_path: Path) -> None:
    """As behind registry gateways that redirect every request and know no tokens themselves."""
    async with an_origin() as gateway, an_origin("bearer") as behind:
        endpoint = replace(endpoint_of(gateway), headers={"X-Key": "secret"})
        gateway.answer = lambda asked: Redirect(f"{behind.url}{asked.path}")
        config = docker_config(tmp_path, behind)
        async with client_of(endpoint, config=config, named=[gateway, behind]) as client:
            assert (await client.manifest(APP, "v1", is_anonymous=False)).data == IMAGE.manifest.content
            assert behind.trace() == ["GET manifest v1", "GET token", "GET manifest v1"]
            assert await read_blob(client) == LAYER.content
            # The token is remembered.
            assert behind.trace()[3:] == ["GET blob " + LAYER.digest[:11]]
            # The gateway chose what is asked for there, so our own credentials are no answer.
            with pytest.raises(OriginRefused):
                await client.manifest(SECRET, "v1", is_anonymous=False)
        asked = [exchange.asked for exchange in behind.journal]
        assert all("x-key" not in one.headers and "Basic" not in one.authorization for one in asked)
        assert all(exchange.asked.authorization == "" for exchange in gateway.journal)


async def test_a_gateway_that_asks_for_tokens_itself() -> None:
    async with an_origin("bearer") as gateway, an_origin("bearer") as behind:
        gateway.answer = lambda asked: (
            Redirect(f"{behind.url}{asked.path}") if asked.kind in ("head", "blob", "manifest") else None
        )
        async with client_of(gateway, behind) as client:
            await client.head(APP, "v1", is_anonymous=True)
            assert await read_blob(client) == LAYER.content
        # Of the gateway one is anonymous; behind it both are, and so they are one.
        assert (len(gateway.of("token")), len(behind.of("token"))) == (2, 1)
        tokens = [{e.asked.authorization for e in one.of("blob")} - {""} for one in (gateway, behind)]
        assert tokens[0] and tokens[1] and tokens[0].isdisjoint(tokens[1])


@pytest.mark.parametrize(
    ("location", "kind", "words"),
    [
        ("", OriginNonsense, "nowhere"),
        ("http://127.0.0.1:1/", OriginForbidden, "loopback"),
        ("http://169.254.169.254/latest/meta-data", OriginForbidden, "."),
        ("http://[::ffff:127.0.0.1]/", OriginForbidden, "."),
        ("http://localhost:2375/", OriginForbidden, "."),
        ("file:///etc/passwd", OriginNonsense, "no place on the web"),
        ("http://me:secret@cdn.example/", OriginNonsense, "user name"),
        ("http://cdn.example:99999/", OriginNonsense, "."),
        ("http://cdn.exa\tmple/", OriginNonsense, "."),
        ("http://cdn.exämple/", OriginNonsense, "not one"),
    ],
)
async def test_redirects_that_are_not_followed(location: str, kind: type[OriginError], words: str) -> None:
    async with an_origin() as origin:
        async with client_of(endpoint_of(origin)) as client:
            origin.behave(Status(307, (("Location", location),)), "blob")
            with pytest.raises(kind, match=words):
                await read_blob(client)


async def test_redirects_have_an_end() -> None:
    async with an_origin() as origin, client_of(origin) as client:
        origin.behave(Status(307, (("Location", "?x"),)), "blob")
        with pytest.raises(OriginNonsense, match="more than 5 times"):
            await read_blob(client)
        assert len(origin.of("blob")) == 6


async def test_https_is_never_left_for_http(tmp_path: Path) -> None:
    tls, authority = server_tls(tmp_path)
    async with an_origin() as plain, TokenOrigin("bearer", tls=tls) as origin:
        origin.add(IMAGE, APP.name, "v1")
        endpoint = replace(endpoint_of(origin), ca_files=(str(authority),))
        async with client_of(endpoint, named=[origin, plain]) as client:
            origin.realm = f"{plain.url}/token"
            with pytest.raises(OriginForbidden, match="http address"):
                await client.head(APP, "v1", is_anonymous=True)
            origin.realm = ""
            await client.head(APP, "v1", is_anonymous=True)
            origin.behave(Redirect(f"{plain.url}/v2/{APP.name}/blobs/{LAYER.digest}"), "blob")
            with pytest.raises(OriginNonsense, match="https to http"):
                await read_blob(client)
        assert plain.journal == []


@pytest.mark.parametrize(
    "realm", ["http://127.0.0.1:1/token", "http://169.254.169.254/", "ftp://x/", "x", ""]
)
async def test_realms_are_judged_like_redirects(realm: str) -> None:
    async with TokenOrigin("bearer") as origin, client_of(endpoint_of(origin)) as client:
        origin.answer = lambda _: Status(
            401, (("WWW-Authenticate", f'Bearer realm="{realm}",service="x"'), ("X-Mine", "1"))
        )
        with pytest.raises((OriginForbidden, OriginNonsense, OriginRefused)):
            await client.head(APP, "v1", is_anonymous=True)
        assert len(origin.journal) == 1
