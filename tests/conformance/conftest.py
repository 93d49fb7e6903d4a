"""Containerds for the conformance suites of the client: two fakes, and real ones of three versions.

The real ones are started once for a module: every test takes a namespace and contents of its own. Modules that use
these fixtures run on one event loop (`pytest.mark.asyncio(loop_scope="module")`): gRPC logs an error when it has
something left to tell a loop that is closed.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from containerd.client import Client
from tests.support.containerd_calls import Publish, Runtime
from tests.support.fake_containerd import FakeContainerd
from tests.support.oci_image import Image
from tests.support.real_containerd import RealContainerd
from tests.support.skips import tool_bin

FAKES = ["fake-1.7", "fake-2.1"]
REAL = [pytest.param(version, marks=pytest.mark.containerd) for version in ("1.6", "1.7", "2.1")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[*FAKES, *REAL])
async def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str | RealContainerd]:
    """The version of a fake, to be made for each test; or a running containerd."""
    name = str(request.param)
    if name.startswith("fake-"):
        yield f"{name.removeprefix('fake-')}.5"
        return
    workdir = tmp_path_factory.mktemp("containerd")
    binaries = tool_bin(f"containerd-{name}")
    async with RealContainerd(binaries, workdir, certs_dir=workdir / "certs") as containerd:
        yield containerd


@pytest_asyncio.fixture(loop_scope="module")
async def runtime(kind: str | RealContainerd, tmp_path: Path) -> AsyncIterator[Runtime]:
    if isinstance(kind, str):
        async with FakeContainerd(tmp_path, version=kind) as fake:
            yield fake
    else:
        yield kind
        if not kind.running:
            await kind.start()


@pytest_asyncio.fixture(loop_scope="module")
async def client(runtime: Runtime) -> AsyncIterator[Client]:
    async with Client(runtime.socket) as client:
        yield client


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest_asyncio.fixture(loop_scope="module")
async def publish(runtime: Runtime) -> AsyncIterator[Publish]:
    """Makes an image pullable, and gives its reference."""
    if isinstance(runtime, FakeContainerd):
        remote = runtime.state.remote

        async def publish_to_fake(name: str, image: Image) -> str:
            remote[f"reg.test/{name}"] = image
            return f"reg.test/{name}"

        yield publish_to_fake
        return
    objects: dict[str, tuple[str, bytes, str]] = {}

    async def serve(request: web.Request) -> web.Response:
        media_type, content, digest = objects[request.path]
        headers = {"Docker-Content-Digest": digest, "Content-Type": media_type}
        return web.Response(body=content, headers=headers)

    runner = web.AppRunner(web.Application())
    runner.app.router.add_get("/{path:.*}", serve)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    async def publish_by_http(name: str, image: Image) -> str:
        repository, tag = name.split(":")
        manifest = (image.manifest.media_type, image.manifest.content, image.manifest.digest)
        for reference in (tag, image.manifest.digest):
            objects[f"/v2/{repository}/manifests/{reference}"] = manifest
        for blob in (image.config, *image.layers):
            objects[f"/v2/{repository}/blobs/{blob.digest}"] = (blob.media_type, blob.content, blob.digest)
        return f"127.0.0.1:{port}/{name}"

    yield publish_by_http
    await runner.cleanup()
