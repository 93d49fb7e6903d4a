"""How the origin client connects: certificates, proxies, sessions that are shared and end, and what it never tells."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from mirror.origin import connections as connections_module
from mirror.origin.addresses import Place
from mirror.origin.base import Endpoint, Repository
from mirror.origin.client import OriginClient
from mirror.origin.connections import SESSION_KEPT_S
from mirror.origin.credentials import Credentials
from mirror.origin.errors import (
    OriginError,
    OriginFailing,
    OriginForbidden,
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
    Redirect,
    Status,
    TokenOrigin,
    server_tls,
)


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


@contextlib.asynccontextmanager
async def _serving_tls(
    answer: Callable[[web.BaseRequest], Awaitable[web.Response]], tls: ssl.SSLContext
) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_client_certificate_is_a_credential(tmp_path: Path) -> None:
    tls, authority = server_tls(tmp_path)
    tls.load_verify_locations(authority)
    tls.verify_mode = ssl.CERT_OPTIONAL
    (tmp_path / "client.crt").write_text(CLIENT_CERTIFICATE)
    (tmp_path / "client.key").write_text(CLIENT_KEY)
    shown: list[bool] = []
    there: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        shown.append(bool(request.transport.get_extra_info("peercert")))
        if there:
            return web.Response(status=307, headers={"Location": there.pop()})
        return web.Response(
            body=IMAGE.manifest.content,
            content_type=IMAGE.manifest.media_type,
            headers={"Docker-Content-Digest": IMAGE.manifest.digest},
        )

    async with _serving_tls(answer, tls) as home, _serving_tls(answer, tls) as away:
        pair = (str(tmp_path / "client.crt"), str(tmp_path / "client.key"))
        endpoint = Endpoint(f"{home}/v2", True, (str(authority),), (pair,))
        guard = AddressGuard(named_with=lambda _: [Place("127.0.0.1", int(away.rpartition(":")[2]))])
        routes = RoutesByRegistry({APP.registry: endpoint})
        credentials = Credentials(None, time.monotonic)
        async with OriginClient(routes, credentials, guard, time.monotonic, proxies=NO_PROXIES) as client:
            await client.head(APP, "v1", is_anonymous=False)
            await client.head(APP, "v1", is_anonymous=True)
            # And it is not shown to whom the registry redirects.
            there.append(f"{away}/v2/x")
            await client.head(APP, "v1", is_anonymous=False)
    assert shown == [True, False, True, False]


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


async def test_a_session_that_is_too_old_ends_after_its_last_body() -> None:
    now_s = 0.0
    async with an_origin() as origin:
        routes, guard = RoutesByRegistry({APP.registry: endpoint_of(origin)}), AddressGuard()
        credentials = Credentials(None, time.monotonic)
        async with OriginClient(routes, credentials, guard, lambda: now_s, proxies=NO_PROXIES) as client:
            async with client.blob(APP, LAYER_DIGEST, 0, None, is_anonymous=True) as body:
                now_s += SESSION_KEPT_S + 1
                await client.head(APP, "v1", is_anonymous=True)
                assert b"".join([chunk async for chunk in body.chunks()]) == LAYER.content
                assert origin.connection_count == 2
            async with asyncio.timeout(5):
                while origin.connection_count != 1:
                    await asyncio.sleep(0.01)


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
        # The registry itself is not told its name, and this is Docker Hub's.
        async with client_of(Endpoint("http://registry-1.docker.io/v2"), proxies=proxies) as client:
            await client.head(Repository("docker.io", APP.name), "v1", is_anonymous=True)
        assert asked.pop()[1] == f"http://registry-1.docker.io/v2/{APP.name}/manifests/v1"
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
