"""Where the origin client goes: redirects, realms, certificates, proxies, and what goes along."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from mirror.origin import connections as connections_module
from mirror.origin.base import Endpoint, Repository
from mirror.origin.client import OriginClient
from mirror.origin.connections import SESSION_KEPT_S
from mirror.origin.credentials import Credentials
from mirror.origin.errors import (
    OriginError,
    OriginFailing,
    OriginForbidden,
    OriginNonsense,
    OriginRefused,
)
from mirror.origin.proxies import Proxies
from mirror.origin.resolver import AddressGuard
from tests.support.hosts_tls import CLIENT_CERTIFICATE, CLIENT_KEY
from tests.support.origin_clients import (
    APP,
    IMAGE,
    LAYER,
    LAYER_DIGEST,
    NO_PROXIES,
    SECRET,
    an_origin,
    client_of,
    docker_config,
    endpoint_of,
    read_blob,
    serving,
)
from tests.support.token_origin import (
    RESET,
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


# --- TLS, proxies, secrets


async def test_certificates_are_as_the_endpoint_says(tmp_path: Path) -> None:
    tls, authority = server_tls(tmp_path)
    async with TokenOrigin(tls=tls) as origin:
        origin.add(IMAGE, APP.name, "v1")
        plain = endpoint_of(origin)
        async with client_of(plain) as client:
            with pytest.raises(OriginFailing, match=r"(?i)certificate"):
                await client.head(APP, "v1", is_anonymous=True)
        for endpoint in (replace(plain, ca_files=(str(authority),)), replace(plain, skip_verify=True)):
            async with client_of(endpoint) as client:
                await client.head(APP, "v1", is_anonymous=True)
        async with client_of(replace(plain, ca_files=(str(tmp_path / "none"),))) as client:
            with pytest.raises(OriginFailing, match="none"):
                await client.head(APP, "v1", is_anonymous=True)


async def test_the_machines_authorities_can_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, authority = server_tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    async with TokenOrigin(tls=tls) as origin, client_of(origin) as client:
        origin.add(IMAGE, APP.name, "v1")
        await client.head(APP, "v1", is_anonymous=True)


async def test_a_client_certificate_is_a_credential(tmp_path: Path) -> None:
    tls, authority = server_tls(tmp_path)
    tls.load_verify_locations(authority)
    tls.verify_mode = ssl.CERT_OPTIONAL
    (tmp_path / "client.crt").write_text(CLIENT_CERTIFICATE)
    (tmp_path / "client.key").write_text(CLIENT_KEY)
    shown: list[bool] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        shown.append(bool(request.transport.get_extra_info("peercert")))
        return web.Response(
            body=IMAGE.manifest.content,
            content_type=IMAGE.manifest.media_type,
            headers={"Docker-Content-Digest": IMAGE.manifest.digest},
        )

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    pair = (str(tmp_path / "client.crt"), str(tmp_path / "client.key"))
    endpoint = Endpoint(f"https://127.0.0.1:{runner.addresses[0][1]}/v2", True, (str(authority),), (pair,))
    try:
        async with client_of(endpoint) as client:
            await client.head(APP, "v1", is_anonymous=False)
            await client.head(APP, "v1", is_anonymous=True)
    finally:
        await runner.cleanup()
    assert shown == [True, False]


class LoopbackNames(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class RoutesByRegistry:
    def __init__(self, routes: Mapping[str, Endpoint]) -> None:
        self.routes = routes

    async def route(self, registry: str) -> Sequence[Endpoint]:
        return [self.routes[registry]]


async def test_an_open_connection_is_a_permission_that_is_not_lent() -> None:
    async with an_origin() as origin:
        base = f"http://reg.peili-test.org:{origin.port}/v2"
        routes = RoutesByRegistry({"named": Endpoint(base, named_by_user=True), "unnamed": Endpoint(base)})
        guard, credentials = AddressGuard(names=LoopbackNames), Credentials(None, time.monotonic)
        async with OriginClient(routes, credentials, guard, time.monotonic, proxies=NO_PROXIES) as client:
            await client.head(Repository("named", APP.name), "v1", is_anonymous=True)
            with pytest.raises(OriginForbidden, match="loopback"):
                await client.head(Repository("unnamed", APP.name), "v1", is_anonymous=True)
        assert len(origin.journal) == 1


async def test_renewed_certificates_are_read(tmp_path: Path) -> None:
    tls, authority = server_tls(tmp_path)
    now_s = 0.0
    async with TokenOrigin(tls=tls) as origin:
        origin.add(IMAGE, APP.name, "v1")
        routes = RoutesByRegistry({APP.registry: replace(endpoint_of(origin), ca_files=(str(authority),))})
        credentials = Credentials(None, time.monotonic)
        async with OriginClient(
            routes, credentials, AddressGuard(), lambda: now_s, proxies=NO_PROXIES
        ) as client:
            await client.head(APP, "v1", is_anonymous=True)
            authority.write_text("no certificate any more")
            await client.head(APP, "v1", is_anonymous=True)
            now_s += SESSION_KEPT_S + 1
            with pytest.raises(OriginFailing, match="certificate files"):
                await client.head(APP, "v1", is_anonymous=True)


async def test_a_session_that_is_replaced_ends_after_its_last_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "SESSIONS_MAX_COUNT", 1)
    async with an_origin() as first, an_origin() as second:
        one, other = Repository("one", APP.name), Repository("other", APP.name)
        third = replace(endpoint_of(second), skip_verify=True)
        routes = RoutesByRegistry({"one": endpoint_of(first), "other": endpoint_of(second), "third": third})
        guard, credentials = AddressGuard(), Credentials(None, time.monotonic)
        async with OriginClient(routes, credentials, guard, time.monotonic, proxies=NO_PROXIES) as client:
            async with client.blob(one, LAYER_DIGEST, 0, None, is_anonymous=True) as body:
                assert await read_blob(client, repository=other) == LAYER.content
                # What is in use is not closed for another.
                assert b"".join([chunk async for chunk in body.chunks()]) == LAYER.content
            assert first.connection_count
            await client.head(Repository("third", APP.name), "v1", is_anonymous=True)
            async with asyncio.timeout(5):
                while first.connection_count:
                    await asyncio.sleep(0.01)


async def test_headers_of_the_users_file_are_not_for_anonymous_questions() -> None:
    async with an_origin() as origin:
        endpoint = replace(endpoint_of(origin), headers={"Authorization": "Basic c2VjcmV0", "X-Key": "1"})
        async with client_of(endpoint) as client:
            await client.head(APP, "v1", is_anonymous=True)
            await client.head(APP, "v1", is_anonymous=False)
        anonymous, known = (exchange.asked.headers for exchange in origin.journal)
        assert anonymous.keys().isdisjoint({"authorization", "x-key"})
        assert (known["authorization"], known["x-key"]) == ("Basic c2VjcmV0", "1")


async def test_the_proxy_of_the_environment_is_asked() -> None:
    asked: list[tuple[str, str, str | None]] = []

    async def proxy(request: web.BaseRequest) -> web.Response:
        asked.append((request.method, str(request.url), request.headers.get("Proxy-Authorization")))
        if "cdn.invalid" in str(request.url):
            return web.Response(status=404)
        return web.Response(
            body=IMAGE.manifest.content,
            content_type=IMAGE.manifest.media_type,
            headers={"Docker-Content-Digest": IMAGE.manifest.digest},
        )

    async with serving(proxy) as there:
        url = there.base.removesuffix("/v2").replace("http://", "http://user:word@")
        proxies = Proxies.of({"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": "near.invalid"})
        # No name server knows these names: the proxy resolves them.
        async with client_of(
            Endpoint("http://reg.invalid/v2", named_by_user=True), proxies=proxies
        ) as client:
            await client.head(APP, "v1", is_anonymous=True)
        assert asked == [
            (
                "HEAD",
                f"http://reg.invalid/v2/{APP.name}/manifests/v1?ns=reg.example",
                f"Basic {base64.b64encode(b'user:word').decode()}",
            )
        ]
        async with client_of(
            Endpoint("https://reg.invalid/v2", named_by_user=True), proxies=proxies
        ) as client:
            # This one knows no CONNECT that leads somewhere.
            with pytest.raises(OriginError) as caught:
                await client.head(APP, "v1", is_anonymous=True)
        assert asked[-1][0] == "CONNECT" and "word" not in str(caught.value)
        # What is written in the URL is judged all the same.
        async with client_of(Endpoint("http://169.254.169.254/v2"), proxies=proxies) as client:
            with pytest.raises(OriginForbidden):
                await client.head(APP, "v1", is_anonymous=True)
        async with client_of(
            Endpoint("http://near.invalid/v2", named_by_user=True), proxies=proxies
        ) as client:
            with pytest.raises(OriginFailing):
                await client.head(APP, "v1", is_anonymous=True)
        assert len(asked) == 2


async def test_a_proxy_of_another_kind_is_told_and_not_gone_around() -> None:
    async with an_origin() as origin:
        proxies = Proxies("socks5://127.0.0.1:1", "", ())
        async with client_of(
            Endpoint("http://reg.invalid/v2", named_by_user=True), proxies=proxies
        ) as client:
            with pytest.raises(OriginFailing, match="proxy"):
                await client.head(APP, "v1", is_anonymous=True)
        assert origin.journal == []


async def test_no_secret_is_ever_logged_or_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    async with an_origin("bearer") as origin:
        config = docker_config(tmp_path, origin)
        async with client_of(origin, config=config) as client:
            await client.manifest(SECRET, "v1", is_anonymous=False)
            token = origin.of("manifest")[-1].asked.authorization.removeprefix("Bearer ")
            for answer in (Status(403), Status(500), RESET, Redirect("http://127.0.0.1:1/?signature=xyzzy")):
                origin.behave(answer, "manifest")
                with pytest.raises(OriginError) as caught:
                    await client.manifest(SECRET, "v1", is_anonymous=False)
                texts.append(f"{caught.value!r} {caught.value} {caught.value.__cause__!r}")
            texts.append(repr(client) + repr(vars(client)))
    told = caplog.text + "".join(texts)
    for secret in ("pass:word", base64.b64encode(b"me:pass:word").decode(), token, "xyzzy"):
        assert secret not in told


def test_the_client_does_not_load_containerd() -> None:
    code = "import sys, mirror.origin.client; print([m for m in sys.modules if m.startswith(('containerd', 'grpc'))])"
    ran = subprocess.run([".venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
