"""A registry listener with a real origin behind it: client, probe, memory, and a relay where it is wanted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.oci.digest import Digest
from mirror.oci.scope import ImageScope
from mirror.origin.base import Repository
from mirror.origin.client import OriginClient
from mirror.origin.credentials import Credentials
from mirror.origin.memory import OriginMemory
from mirror.origin.probe import OriginProbe
from mirror.origin.proxies import Proxies
from mirror.origin.resolver import AddressGuard
from mirror.tags.base import Attestation, OwnTag, TagName
from mirror.tags.rules import TagPolicy
from tests.support.mirror_host import Answer, KnownTags, MirrorHost, Upstream, ask, mirror_host
from tests.support.oci_image import Image, Index
from tests.support.relay_bed import OneRoute, relay_bed
from tests.support.token_origin import TokenOrigin

REGISTRY = "registry.corp"
OPEN = Repository(REGISTRY, "team/open")
CLOSED = Repository(REGISTRY, "team/closed")
PODMAN = "containers/5.23.1 (github.com/containers/image)"


@dataclass(frozen=True, slots=True)
class RegistryBed:
    origin: TokenOrigin
    memory: OriginMemory
    host: MirrorHost

    async def at_fallback(
        self, repository: Repository, what: str, method: str = "HEAD", agent: str = "containerd/1.7.24"
    ) -> Answer:
        """`what` is the end of the path, such as ``manifests/1``."""
        url = f"{self.host.registry_url}/fallback/v2/{repository.name}/{what}?ns={REGISTRY}"
        return await ask(url, method, User_Agent=agent)

    async def at_first(self, repository: Repository, what: str, method: str = "GET") -> Answer:
        return await ask(
            f"{self.host.registry_url}/v2/{repository.name}/{what}?ns={REGISTRY}",
            method,
            User_Agent="containerd/2.1.9",
        )

    async def by_podman(self, repository: Repository, what: str) -> Answer:
        """Which sends no namespace, and stays with the mirror that gave it the manifest."""
        url = f"{self.host.registry_url}/v2/{REGISTRY}/{repository.name}/{what}"
        return await ask(url, User_Agent=PODMAN)

    def tags(self, outcome: str) -> int:
        return self.host.metrics.value("peili_tags_total", outcome=outcome)

    def failures(self, kind: str, standing: str) -> int:
        return self.host.metrics.value("peili_origin_failures_total", kind=kind, standing=standing)


@contextlib.asynccontextmanager
async def registry_bed(
    image: Image | Index,
    *,
    held: Sequence[bytes] = (),
    policy: TagPolicy = TagPolicy.UPSTREAM,
    own: Sequence[OwnTag] = (),
    attested: Sequence[Attestation] = (),
    stale_private: Sequence[ImageScope] = (),
    protected: Sequence[ImageScope] = (),
    spool_in: Path | None = None,
) -> AsyncIterator[RegistryBed]:
    """`image` stands at the origin as OPEN:1, for everybody, and as CLOSED:1, for those with credentials. `held`: the
    blobs of this host's store. `spool_in`: where a relay keeps what it fetches; None: no relay."""
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(TokenOrigin(auth="bearer"))
        origin.add(image, OPEN.name, "1")
        origin.add(image, CLOSED.name, "1", is_private=True)
        base = f"{origin.url}/v2"
        client = await stack.enter_async_context(
            OriginClient(
                OneRoute(base),
                Credentials(None, time.monotonic),
                AddressGuard(),
                time.monotonic,
                proxies=Proxies.of({}),
            )
        )
        memory = OriginMemory()
        relay = None
        if spool_in is not None:
            relay = (await stack.enter_async_context(relay_bed(spool_in, base))).relay
        upstream = Upstream(
            policy=policy,
            prober=OriginProbe(client, memory, time.monotonic, time.time),
            relay=relay,
            known=KnownTags({one.name: one for one in own}, attested),
            memory=memory,
            stale_private=stale_private,
        )
        host = await stack.enter_async_context(mirror_host(*held, upstream=upstream, protected=protected))
        yield RegistryBed(origin, memory, host)


def own_tag(repository: Repository, image: Image | Index, age_s: float = 60.0) -> OwnTag:
    digest = Digest.parse(image.manifest.digest)
    return OwnTag(TagName(repository, "1"), digest, time.time() - age_s)


def attestations(image: Image | Index, count: int, *, is_public: bool = True) -> list[Attestation]:
    digest, now_s = Digest.parse(image.manifest.digest), time.time()
    return [
        Attestation(f"10.0.0.{number}", digest, now_s - 60.0, now_s - 60.0 if is_public else None)
        for number in range(count)
    ]
