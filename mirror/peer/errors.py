"""Why a peer did not give what it was asked for. Each is one source's failure and never escapes a download."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.discovery.base import Peer
from mirror.errors import MirrorError, TransferError


class PeerError(TransferError):
    """Base class. `peer` is host:port as text."""

    def __init__(self, peer: str, message: str) -> None:
        super().__init__(f"peer {peer}: {message}")
        self.peer = peer


class PeerAbsent(PeerError):
    """It does not hold the content. Normal."""


class PeerUnreachable(PeerError):
    """No connection, or it was lost before the answer began."""


class PeerStalled(PeerError):
    """No byte within the allowed silence."""


class PeerBroke(PeerError):
    """The body ended early."""


class PeerRefused(PeerError):
    """It will not serve us: another secret, or failing."""


class PeerBusy(PeerError):
    """It has no free upload slot. No failure of its own: it may be asked again after `retry_after_s`, and says that
    `others` may have what was asked for."""

    def __init__(self, peer: str, message: str, retry_after_s: float, others: Sequence[Peer] = ()) -> None:
        super().__init__(peer, message)
        self.retry_after_s = retry_after_s
        self.others = tuple(others)


class PeerIncompatible(PeerError):
    """It speaks no wire version that we speak."""


class PeerDisagrees(PeerError):
    """It tells another size than a manifest or a peer before it. Who is wrong, only the digest will tell."""


class PeerNonsense(PeerError):
    """The answer contradicts itself or the protocol. Such a peer is banned for a while."""


class ChannelFull(MirrorError):
    """As many digests are told to one peer, or as many peers spoken to, as may be. Not the peer's failure."""
