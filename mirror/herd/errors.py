"""How a request of the own containerd ends when it cannot be served from here."""

from __future__ import annotations

from mirror.errors import TransferError
from mirror.oci.digest import Digest


class Missed(TransferError):
    """It is a 404: nobody here has it, or this host's containerd is to ask the origin."""

    def __init__(self, digest: Digest, why: str) -> None:
        super().__init__(f"{digest}: {why}")


class EndedEarly(TransferError):
    """Its body ends where it is, by FIN: containerd goes on from there elsewhere."""

    def __init__(self, digest: Digest, offset: int) -> None:
        super().__init__(f"{digest}: ended at {offset}, containerd goes on at the origin")
