"""An origin client wired to token origins, with the real guard, and two images to ask for."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from aiohttp import web

from mirror.oci.digest import Digest
from mirror.origin.addresses import Place
from mirror.origin.base import Endpoint, Repository
from mirror.origin.client import OriginClient
from mirror.origin.connections import Timeouts
from mirror.origin.credentials import Credentials
from mirror.origin.proxies import Proxies
from mirror.origin.resolver import AddressGuard
from tests.support.oci_image import build_image
from tests.support.token_origin import (
    TokenOrigin,
)

IMAGE = build_image(1, [300_000])
LAYER = IMAGE.layers[0]
LAYER_DIGEST = Digest.parse(LAYER.digest)
SECRET_IMAGE = build_image(2, [1000])
APP = Repository("reg.example", "library/app")
SECRET = Repository("reg.example", "team/secret")
NO_PROXIES = Proxies("", "", ())
QUICK = Timeouts(connect_s=0.5, answer_s=0.5, between_bytes_s=0.5)


class FixedRoutes:
    def __init__(self, *endpoints: Endpoint) -> None:
        self.endpoints = endpoints

    async def route(self, registry: str) -> Sequence[Endpoint]:
        return self.endpoints


def endpoint_of(origin: TokenOrigin) -> Endpoint:
    return Endpoint(f"{origin.url}/v2", named_by_user=True)


@contextlib.asynccontextmanager
async def client_of(
    *origins: TokenOrigin | Endpoint,
    config: Path | None = None,
    timeouts: Timeouts | None = None,
    proxies: Proxies = NO_PROXIES,
    named: Sequence[TokenOrigin] = (),
) -> AsyncIterator[OriginClient]:
    """Everything of the origins is named by the user: their token servers and CDNs, too."""
    endpoints = [one if isinstance(one, Endpoint) else endpoint_of(one) for one in origins]
    listening = [*(one for one in origins if isinstance(one, TokenOrigin)), *named]
    places = {
        Place("127.0.0.1", port)
        for origin in listening
        for port in (origin.port, origin.cdn_port, origin.token_port)
    }
    guard = AddressGuard(named_with=lambda _: places)
    credentials = Credentials(config, time.monotonic)
    routes = FixedRoutes(*endpoints)
    async with OriginClient(
        routes, credentials, guard, time.monotonic, proxies=proxies, timeouts=timeouts
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def an_origin(auth: str = "none", **options: bool) -> AsyncIterator[TokenOrigin]:
    assert auth in ("none", "basic", "bearer")
    async with TokenOrigin(auth, **options) as origin:  # type: ignore[arg-type]
        origin.add(IMAGE, APP.name, "v1")
        origin.add(SECRET_IMAGE, SECRET.name, "v1", is_private=True)
        origin.users["me"] = "pass:word"
        yield origin


def docker_config(folder: Path, origin: TokenOrigin, user: str = "me:pass:word") -> Path:
    path = folder / "config.json"
    auth = base64.b64encode(user.encode()).decode()
    path.write_text(json.dumps({"auths": {f"{origin.authority}": {"auth": auth}}}))
    return path


async def read_blob(
    client: OriginClient,
    digest: Digest = LAYER_DIGEST,
    start: int = 0,
    stop: int | None = None,
    repository: Repository = APP,
) -> bytes:
    data = bytearray()
    async with client.blob(repository, digest, start, stop, is_anonymous=False) as body:
        async for chunk in body.chunks():
            data += chunk
    return bytes(data)


@contextlib.asynccontextmanager
async def serving(answer: web.RequestHandler | object) -> AsyncIterator[Endpoint]:
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield Endpoint(f"http://127.0.0.1:{runner.addresses[0][1]}/v2", named_by_user=True)
    finally:
        await runner.cleanup()
