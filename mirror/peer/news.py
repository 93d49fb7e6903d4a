"""What a peer told over its state channel, in our words. Holds nothing, decides nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer.frames import DeclineReason, LeaveReason
from mirror.swarm.bitfield import Bitfield


class ChannelEnd(Enum):
    """Why a channel ended, with the WebSocket's close code where one is sent."""

    # The connection was lost, or the peer answers no ping.
    LOST = 4000
    # Nothing was open on it for a while.
    IDLE = 4001
    # There is another one between these two.
    DUPLICATE = 4002
    # No version in common.
    VERSION = 4003
    # A peer that sends what is no message, or no HELLO in time.
    NONSENSE = 4004
    # A peer that sends faster than it may, for long.
    FLOOD = 4005
    # A peer that does not read.
    STALLED = 4006
    # The daemon stops.
    STOPPED = 4007
    # A daemon that speaks to itself.
    SELF = 4008


@dataclass(frozen=True, slots=True)
class ChannelUp:
    """The first of a channel's news."""


@dataclass(frozen=True, slots=True)
class ChannelDown:
    """The last of a channel's news; all that was told over it is void."""

    reason: ChannelEnd


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """It takes part, and does not know the size yet: it holds nothing that can be asked for."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class PeerHolds:
    """Replaces what was known of its pieces."""

    digest: Digest
    size_bytes: int
    bitfield: Bitfield
    is_fed_from_origin: bool


@dataclass(frozen=True, slots=True)
class PeerHas:
    """It holds these, too. All are within the blob."""

    digest: Digest
    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PeerLoad:
    """`load_ratio`: the share of its upload slots in use, 0 to 1."""

    load_ratio: float


@dataclass(frozen=True, slots=True)
class PeerNames:
    """Others to try. Hearsay; addresses that mean nothing here were left out."""

    digest: Digest
    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class PeerLeft:
    digest: Digest
    reason: LeaveReason


@dataclass(frozen=True, slots=True)
class PeerDeclined:
    """It does not listen to what this host tells of that digest; nothing more of it is sent until it is told anew."""

    digest: Digest
    reason: DeclineReason


@dataclass(frozen=True, slots=True)
class PieceDigestsAsked:
    """To be answered with `Channel.answer_digests`, and with nothing in it where nothing is to be told: few questions
    are open at a time. SHA-256 of each piece from `first` to before `stop`."""

    digest: Digest
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class PieceDigestsTold:
    """Answers one `Channel.ask_digests`. What is left out, the peer does not hold or does not tell."""

    digest: Digest
    first: int
    stop: int
    digests: Mapping[int, bytes]


News = (
    ChannelUp
    | ChannelDown
    | PeerJoined
    | PeerHolds
    | PeerHas
    | PeerLoad
    | PeerNames
    | PeerLeft
    | PeerDeclined
    | PieceDigestsAsked
    | PieceDigestsTold
)
