"""What is known of a tag: the vocabulary of own records, of what peers attest, and of answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.oci.digest import Digest
from mirror.origin.base import Repository


@dataclass(frozen=True, slots=True, order=True)
class TagName:
    """As an image name says it: `repository`, then the tag."""

    repository: Repository
    tag: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"

    @property
    def key(self) -> str:
        """The DHT's key string."""
        return f"tag:{self}".lower()


@dataclass(frozen=True, slots=True)
class OwnTag:
    """This host has an image of that name. Its manifest came from that registry, as containerd's source label says; or,
    `is_imported`, an operator brought it in an archive, and no registry has said so. `pulled_at_s` (seconds since
    1970): when the name was last written."""

    name: TagName
    digest: Digest
    pulled_at_s: float
    is_imported: bool = False


@dataclass(frozen=True, slots=True)
class Attestation:
    """What one other host says of its own record."""

    host: str
    digest: Digest
    pulled_at_s: float
    # Seconds since 1970 when the repository was last found public, by that host or by two that it heard; None: it does
    # not say so.
    public_at_s: float | None
