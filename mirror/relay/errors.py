"""Why the relay gives nothing, or nothing more. All of these are a 404 before the first byte, and a FIN after it."""

from __future__ import annotations

from mirror.errors import MirrorError, TransferError
from mirror.oci.digest import Digest


class RelayGaveUp(TransferError):
    """The origin could not give it within our patience, or lately gave wrong bytes."""

    def __init__(self, digest: Digest, reason: str) -> None:
        super().__init__(f"{digest}: {reason}")
        self.digest = digest


class RelayMismatch(TransferError):
    """What the origin sent has another digest. The last piece of it was never given to anybody."""

    def __init__(self, digest: Digest, where: str) -> None:
        super().__init__(
            f"{digest}: the bytes from {where} have another digest; it is not asked for again for a while"
        )
        self.digest = digest


class SpoolFull(TransferError):
    """There is no room for it: the mirror steps aside."""


class SpoolBroken(TransferError):
    """The spool's disk failed under a transfer."""


class SpoolUnusable(MirrorError):
    """The spool's folder cannot be made or purged: the daemon does not start."""
