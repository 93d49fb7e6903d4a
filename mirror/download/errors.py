"""Why a download gives nothing, or nothing more."""

from __future__ import annotations

from mirror.errors import TransferError
from mirror.oci.digest import Digest


class NoSources(TransferError):
    """Nobody has it, or nobody who has it could give it. Before the first byte this is a 404."""

    def __init__(self, digest: Digest, reason: str) -> None:
        super().__init__(f"{digest}: {reason}")
        self.digest = digest


class DigestMismatch(TransferError):
    """The bytes that arrived are not those of the digest. Nothing of them may be completed."""

    def __init__(self, digest: Digest, peers: str) -> None:
        super().__init__(
            f"{digest}: the bytes from {peers} have another digest; these peers are left aside for a while"
        )
        self.digest = digest
