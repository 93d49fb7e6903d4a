"""What is asked of an origin and what it answers: the vocabulary of the origin client, its probe and the relay. Pure.

A *route* is the list of endpoints at which a registry's content is asked for, in the order in which this host's
containerd would: the user's own mirrors as his hosts.toml lists them, then the registry itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """`registry` is canonical (`canonical_registry`): lower-case, docker.io in one spelling, with its port if any."""

    registry: str
    name: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a registry's API is. `base` has scheme, host and path, without a slash at its end, such as
    ``https://registry-1.docker.io/v2``. `named_by_user`: it stands in the user's own hosts.toml, so that loopback and
    private addresses are his choice. `headers` may hold credentials: never for an anonymous request. `ca_files`
    empty: the machine's authorities. `client_pairs`: certificate file, and key file or "". `can_resolve`: may be asked
    for tags."""

    base: str
    named_by_user: bool = False
    ca_files: tuple[str, ...] = ()
    client_pairs: tuple[tuple[str, str], ...] = ()
    skip_verify: bool = False
    can_resolve: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


class Routes(Protocol):
    async def route(self, registry: str) -> Sequence[Endpoint]:
        """At least one endpoint. Reads the hosts directory as it is now (small files, in a thread); what cannot be
        read is logged once and left out. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class ManifestHead:
    digest: Digest
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """`data` was verified against `digest`."""

    digest: Digest
    media_type: str
    data: bytes


class OriginBody(Protocol):
    """A blob's bytes on their way. `span` is what the origin sends of the `size_bytes`."""

    @property
    def span(self) -> ByteSpan: ...

    @property
    def size_bytes(self) -> int: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """In order, nothing of what arrived is lost when it ends early. Raises: OriginBroke, OriginStalled."""
        ...


class Origin(Protocol):
    """One request to a registry and its outcome, whatever tokens, redirects and endpoints that takes. Every call raises
    OriginError only (mirror.origin.errors); when all endpoints of the route failed, the last one's, which is the
    registry itself. `is_anonymous`: without credentials of any kind."""

    async def head(self, repository: Repository, reference: str, *, is_anonymous: bool) -> ManifestHead:
        """`reference` is a tag or a digest. Where a HEAD tells no digest, the manifest is fetched and hashed."""
        ...

    async def manifest(
        self, repository: Repository, reference: str, *, is_anonymous: bool
    ) -> FetchedManifest:
        """At most MANIFEST_MAX_BYTES. By digest, other bytes are OriginNonsense."""
        ...

    def blob(
        self, repository: Repository, digest: Digest, start: int, stop: int | None, *, is_anonymous: bool
    ) -> AbstractAsyncContextManager[OriginBody]:
        """Bytes `start` to `stop` (None: the end). An origin that ignores the Range sends the whole: its `span` then
        begins at 0."""
        ...


class Standing(Enum):
    """What an anonymous question to the origin showed."""

    PUBLIC = "public"
    # 401 or 403 after the token flow: there may be such an image, but not for everybody.
    REFUSED = "refused"
    ABSENT = "absent"
    RATE_LIMITED = "rate_limited"
    # 5xx, no connection, no answer in time, no HTTP.
    FAILING = "failing"
    # Not asked: an address that may not be connected to, or the operator forbids it (`--origin off`).
    NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True)
class Probed:
    """`head` is there exactly where the standing is PUBLIC. `detail` is for the log: the origin's own words, short."""

    standing: Standing
    head: ManifestHead | None = None
    detail: str = ""


class Prober(Protocol):
    async def probe(self, repository: Repository, reference: str) -> Probed:
        """Asked anonymously; one question at a time for each reference, remembered for ten seconds. Never raises."""
        ...
