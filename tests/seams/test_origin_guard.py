"""The origin client with the real guard and real hosts directories: where an image may lead it, and where not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.origin.base import Origin, Repository
from mirror.origin.client import OriginClient
from mirror.origin.credentials import Credentials
from mirror.origin.errors import OriginForbidden, OriginRefused
from mirror.origin.hosts_routes import HostsRoutes
from mirror.origin.proxies import Proxies
from mirror.origin.resolver import AddressGuard
from tests.support.hosts_runs import URL, run_configure, write
from tests.support.oci_image import build_image
from tests.support.origin_answers import Kind
from tests.support.scripted_names import ScriptedNames
from tests.support.token_origin import Redirect, TokenOrigin

IMAGE = build_image(1, [1000])
NAME = "lib/app"
REGISTRY = Repository("reg.test", NAME)
DIGEST = Digest.parse(IMAGE.manifest.digest)
LAYER = Digest.parse(IMAGE.layers[0].digest)


@dataclass(frozen=True, slots=True)
class Bed:
    """`registry` is the user's for reg.test; `target` is on the same host and no business of any image."""

    registry: TokenOrigin
    target: TokenOrigin
    names: ScriptedNames
    hosts_dir: Path
    origin: Origin

    def names_beside(self, *ports: int) -> None:
        beside = "".join(f'[host."http://127.0.0.1:{port}"]\ncapabilities = ["push"]\n' for port in ports)
        write(
            self.hosts_dir / "reg.test/hosts.toml",
            f'server = "http://127.0.0.1:{self.registry.port}"\n{beside}',
        )
        run_configure(self.hosts_dir, registries=["reg.test", "docker.io"])


@asynccontextmanager
async def bed_of(hosts_dir: Path) -> AsyncIterator[Bed]:
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(TokenOrigin(auth="bearer"))
        target = await stack.enter_async_context(TokenOrigin())
        for origin in (registry, target):
            origin.add(IMAGE, NAME, "v1")
        names = ScriptedNames({})
        routes = HostsRoutes(
            hosts_dir, config_path=None, containerd_version=(2, 1), registry_url=URL, clock=time.monotonic
        )
        guard = AddressGuard(
            names=lambda: names, named_with=routes.named_with, own_ports=lambda: {target.cdn_port}
        )
        client = await stack.enter_async_context(
            OriginClient(
                routes,
                Credentials(None, time.monotonic),
                guard,
                time.monotonic,
                proxies=Proxies("", "", ()),
            )
        )
        bed = Bed(registry, target, names, hosts_dir, client)
        bed.names_beside()
        yield bed


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with bed_of(tmp_path) as found:
        yield found


LEADS = (
    "http://127.0.0.1:{port}{path}",
    "http://localhost:{port}{path}",
    "http://[::1]:{port}{path}",
    "http://[::ffff:127.0.0.1]:{port}{path}",
    "http://2130706433:{port}{path}",
    "http://0x7f.1:{port}{path}",
    "http://0.0.0.0:{port}{path}",
    "http://evil.test:{port}{path}",
    "http://EVIL.test.:{port}{path}",
    "http://169.254.169.254{path}",
)


@pytest.mark.parametrize("lead", LEADS)
async def test_a_token_realm_leads_to_no_other_place_of_this_host(bed: Bed, lead: str) -> None:
    bed.names.answer("evil.test", ["127.0.0.1", "::1"])
    bed.names.answer("EVIL.test", ["127.0.0.1"])
    bed.registry.realm = lead.format(port=bed.target.port, path="/token")
    with pytest.raises(OriginForbidden):
        await bed.origin.head(REGISTRY, "v1", is_anonymous=True)
    assert bed.target.journal == []


@pytest.mark.parametrize("kind", ["head", "manifest", "blob"])
@pytest.mark.parametrize("lead", LEADS)
async def test_a_redirect_leads_to_no_other_place_of_this_host(bed: Bed, lead: str, kind: Kind) -> None:
    bed.names.answer("evil.test", ["127.0.0.1", "::1"])
    bed.names.answer("EVIL.test", ["127.0.0.1"])
    path = f"/v2/{NAME}/blobs/{LAYER}" if kind == "blob" else f"/v2/{NAME}/manifests/{DIGEST}"
    bed.registry.behave(Redirect(lead.format(port=bed.target.port, path=path)), kind)
    with pytest.raises(OriginForbidden):
        await ask(bed.origin, REGISTRY, kind)
    assert bed.target.journal == []


REGISTRIES = (
    "localhost:{port}",
    "127.0.0.1:{port}",
    "[::1]:{port}",
    "0.0.0.0:{port}",
    "any.localhost:{port}",
    "evil.test:{port}",
    "127.1:{port}",
    "169.254.169.254",
    "metadata.google.internal",
    "localhost:2375",
    "nodots",
    "../etc",
)


@pytest.mark.parametrize("registry", REGISTRIES)
@pytest.mark.parametrize("kind", ["head", "manifest", "blob"])
async def test_no_name_of_an_image_leads_to_this_host(bed: Bed, registry: str, kind: Kind) -> None:
    bed.names.answer("evil.test", ["127.0.0.1", "::1"])
    with pytest.raises(OriginForbidden):
        await ask(bed.origin, Repository(registry.format(port=bed.target.port), NAME), kind)
    assert bed.target.journal == []


async def test_a_name_of_another_registry_cannot_borrow_what_the_user_named(bed: Bed) -> None:
    bed.names.answer("evil.test", ["127.0.0.1"])
    assert (await bed.origin.head(REGISTRY, "v1", is_anonymous=True)).digest == DIGEST
    asked = len(bed.registry.journal)
    with pytest.raises(OriginForbidden):
        await bed.origin.head(Repository(f"evil.test:{bed.registry.port}", NAME), "v1", is_anonymous=True)
    with pytest.raises(OriginForbidden):
        await bed.origin.head(Repository(f"127.0.0.1:{bed.registry.port}", NAME), "v1", is_anonymous=True)
    assert len(bed.registry.journal) == asked


async def test_what_the_user_named_beside_it_serves_tokens_and_content(bed: Bed) -> None:
    bed.names_beside(bed.target.port, bed.registry.cdn_port)
    bed.registry.behave(Redirect(), "blob")
    await ask(bed.origin, REGISTRY, "blob")
    assert len(bed.registry.of("cdn")) == 1
    bed.registry.forget_tokens()
    bed.registry.realm = f"http://127.0.0.1:{bed.target.port}/token"
    # A token of the wrong server opens nothing; but it was asked.
    with pytest.raises(OriginRefused):
        await bed.origin.head(REGISTRY, "v1", is_anonymous=True)
    assert len(bed.target.of("token")) == 1


async def test_our_own_listener_is_asked_nothing_even_where_the_user_names_it(bed: Bed) -> None:
    bed.names_beside(bed.target.cdn_port)
    bed.registry.behave(Redirect(f"http://127.0.0.1:{bed.target.cdn_port}/v2/{NAME}/blobs/{LAYER}"), "blob")
    with pytest.raises(OriginForbidden, match="this daemon itself"):
        await ask(bed.origin, REGISTRY, "blob")
    assert bed.target.journal == []


async def ask(origin: Origin, repository: Repository, kind: Kind) -> None:
    if kind == "head":
        await origin.head(repository, "v1", is_anonymous=True)
    elif kind == "manifest":
        await origin.manifest(repository, "v1", is_anonymous=True)
    else:
        async with origin.blob(repository, LAYER, 0, None, is_anonymous=True) as body:
            async for _ in body.chunks():
                pass
