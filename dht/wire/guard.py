"""The whole path of a datagram between the socket and the RPCs: what may come in, and what goes out.

Pure: no socket, no clock, no log. Decodes no body: that is for who acts on it. Order of an incoming datagram:
envelope, source address, our own id, frame type, time or token, replay, rate. A word for each refusal, for a counter.

Without a secret a sender's id and address can be invented. Then a stamp or a rate counts only for whoever showed, by
a token, that he hears us; and answers (RESPONSE, CHALLENGE) stand and fall with the message id, which is the caller's
to judge. Nobody's window or bucket can be spoilt by a stranger in his name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from dht.endpoints import Endpoint, is_local, is_source, scope
from dht.errors import FrameInvalid
from dht.params import Params
from dht.wire.clock import Clock
from dht.wire.codec import Challenge, ChallengeReason, FrameType, encode_challenge, split
from dht.wire.envelope import ADVERTISED_BYTES, ENVELOPE_BYTES, Dropped, Envelope, Opened
from dht.wire.limits import RateLimits
from dht.wire.replay import Replay, Verdict
from dht.wire.tokens import TokenJar, Tokens

# What an operator must know: another live node bears our id.
DUPLICATE_ID: Final = "duplicate_id"
_EVERYBODY: Final = b""
_NOT_NEWS: Final = {Verdict.REPLAYED: "replayed", Verdict.STALE_EPOCH: "stale_epoch"}
# Refused for the stamp alone: sealed, fresh, and mostly a copy.
OUTDATED: Final = frozenset(_NOT_NEWS.values())
_TYPES: Final = tuple(FrameType)


class Admitted(Struct, frozen=True, gc=False):
    """`source` is where the datagram came from and where its answer goes; `endpoint` is where its sender wants to be
    found. `teaches`: the endpoint may be learned; of a RESPONSE or CHALLENGE only after its message id was found to
    be one of ours. `sent_ms` is the sender's clock. `addressed`: meant for this node and no other."""

    sender: bytes
    stamp: int
    sent_ms: int
    source: Endpoint
    endpoint: Endpoint
    addressed: bool
    teaches: bool
    frame_type: FrameType
    message_id: bytes
    body: bytes


class Challenged(Struct, frozen=True, gc=False):
    """`reply` is to be sent to the source. `reason`: clock or token."""

    reply: bytes
    reason: str


class Refused(Struct, frozen=True, gc=False):
    reason: str


class Guard:
    """One a node, for all its sockets. `random_bytes(count)` is a source of secrets. `advertised` is where
    others shall find us instead of our datagrams' source; told with a secret only, and only over its own family."""

    def __init__(
        self,
        envelope: Envelope,
        params: Params,
        random_bytes: Callable[[int], bytes],
        advertised: Endpoint | None = None,
    ) -> None:
        self.clock = Clock(params)
        self._envelope = envelope
        self._own = envelope.node
        self.is_sealed = envelope.sealed
        self._amplification_max = params.amplification_max
        self._advertised = advertised if envelope.sealed else None
        self._replay = Replay(params)
        self._tokens = Tokens(random_bytes, params)
        self._jar = TokenJar(params)
        known_count = params.members_max_count + params.strangers_max_count
        self._limits = RateLimits(params.sender_rate_per_s, params.sender_burst_count, known_count)
        # One bucket for everybody who has shown nothing: a second's worth at once.
        self._strangers = RateLimits(params.tokenless_rate_per_s, int(params.tokenless_rate_per_s), 1)

    @property
    def overhead_bytes(self) -> int:
        """What `seal` adds to a frame at most."""
        return ENVELOPE_BYTES + (ADVERTISED_BYTES if self._advertised is not None else 0)

    def seal(
        self, frame: bytes, *, destination: bytes | None, to: Endpoint, now: float, wall_s: float
    ) -> bytes:
        """`destination` is None for who is not known yet. Raises: FrameTooLong."""
        if self.is_sealed:
            advertised = self._advertised
            if advertised is not None and advertised.is_v6 != to.is_v6:
                advertised = None
            return self._envelope.seal(
                frame, destination=destination, now_ms=self.clock.now_ms(wall_s), advertised=advertised
            )
        return self._envelope.seal(
            frame, destination=destination, now_ms=self.clock.now_ms(wall_s), token=self._jar.get(to, now)
        )

    def learn_token(self, endpoint: Endpoint, token: bytes, now: float) -> None:
        """A TOKEN challenge from there answered a request of ours."""
        self._jar.put(endpoint, token, now)

    def admit(
        self, datagram: bytes, source: Endpoint, now: float, wall_s: float
    ) -> Admitted | Challenged | Refused:
        try:
            opened = self._envelope.open(datagram)
            frame_type, message_id, body = split(opened.frame)
        except Dropped as exc:
            return Refused(exc.reason)
        except FrameInvalid:
            return Refused("short")
        if not is_source(source):
            return Refused("source")
        if not self.is_sealed and not is_local(source.address):
            return Refused("not_local")
        if opened.sender == self._own:
            return self._own_id(opened, wall_s)
        if frame_type >= len(_TYPES):
            return Refused("frame_type")
        kind = _TYPES[frame_type]
        if self.is_sealed:
            return self._admit_sealed(datagram, opened, source, kind, message_id, body, now, wall_s)
        return self._admit_open(datagram, opened, source, kind, message_id, body, now, wall_s)

    def _admit_sealed(
        self,
        datagram: bytes,
        opened: Opened,
        source: Endpoint,
        kind: FrameType,
        message_id: bytes,
        body: bytes,
        now: float,
        wall_s: float,
    ) -> Admitted | Challenged | Refused:
        sender = opened.sender
        asks = kind is FrameType.REQUEST or kind is FrameType.BEACON
        is_newest = False
        if self.clock.is_fresh(opened.sent_ms, wall_s):
            verdict = self._replay.accept(sender, opened.stamp, now)
            is_newest = verdict is Verdict.NEWEST
            if not is_newest and verdict is not Verdict.LATE:
                return Refused(_NOT_NEWS[verdict])
            self.clock.agreed(sender, opened.sent_ms, wall_s)
            # What answers us was asked for: we set its rate.
            if asks and not self._limits.allow(sender, now):
                return Refused("rate")
        elif kind is FrameType.REQUEST:
            challenge = Challenge(ChallengeReason.CLOCK)
            return self._challenged(challenge, datagram, opened, source, message_id, now, wall_s)
        elif kind is FrameType.BEACON:
            return Refused("stale")
        # An old answer is past the replay window's reach and leaves it alone: the message id tells what it is worth.
        return Admitted(
            sender,
            opened.stamp,
            opened.sent_ms,
            source,
            source if opened.advertised is None else _believed(opened.advertised, source),
            opened.addressed,
            is_newest and (opened.addressed or kind is FrameType.RESPONSE),
            kind,
            message_id,
            body,
        )

    def _admit_open(
        self,
        datagram: bytes,
        opened: Opened,
        source: Endpoint,
        kind: FrameType,
        message_id: bytes,
        body: bytes,
        now: float,
        wall_s: float,
    ) -> Admitted | Challenged | Refused:
        teaches = kind is FrameType.RESPONSE
        if kind is FrameType.REQUEST:
            if not self._tokens.valid(opened.token, source, opened.sender, now):
                token = self._tokens.issue(source, opened.sender, now)
                challenge = Challenge(ChallengeReason.TOKEN, token)
                return self._challenged(challenge, datagram, opened, source, message_id, now, wall_s)
            verdict = self._replay.accept((opened.sender, source), opened.stamp, now)
            if verdict in _NOT_NEWS:
                return Refused(_NOT_NEWS[verdict])
            # Who has no secret may call himself many nodes: it is the address that has a rate. On loopback all
            # nodes of a demonstration share one.
            payer = source if scope(source.address) == "loopback" else source.address
            if not self._limits.allow(payer, now):
                return Refused("rate")
            teaches = opened.addressed and verdict is Verdict.NEWEST
        elif kind is FrameType.BEACON and not self._strangers.allow(_EVERYBODY, now):
            return Refused("rate")
        return Admitted(
            opened.sender,
            opened.stamp,
            opened.sent_ms,
            source,
            source,
            opened.addressed,
            teaches,
            kind,
            message_id,
            body,
        )

    def _own_id(self, opened: Opened, wall_s: float) -> Refused:
        """Our own datagram came back (a bootstrap address or a multicast group is us), or somebody has our id."""
        if self._envelope.has_sent(opened.stamp):
            return Refused("echo")
        if self.is_sealed and not self.clock.is_fresh(opened.sent_ms, wall_s):
            return Refused("stale")
        return Refused(DUPLICATE_ID)

    def _challenged(
        self,
        challenge: Challenge,
        datagram: bytes,
        opened: Opened,
        source: Endpoint,
        message_id: bytes,
        now: float,
        wall_s: float,
    ) -> Challenged | Refused:
        """Whoever is challenged may be an invented or a replayed address: bounded in number and in size."""
        if not self._strangers.allow(_EVERYBODY, now):
            return Refused("rate")
        reply = self.seal(
            encode_challenge(message_id, challenge),
            destination=opened.sender,
            to=source,
            now=now,
            wall_s=wall_s,
        )
        if len(reply) > self._amplification_max * len(datagram):
            return Refused("amplification")
        return Challenged(reply, ChallengeReason(challenge.reason).name.lower())


def _believed(advertised: Endpoint, source: Endpoint) -> Endpoint:
    """An address that means something else on every host is believed only of a sender that speaks from it."""
    if scope(advertised.address) in ("private", "global"):
        return advertised
    if advertised.address == source.address.partition("%")[0]:
        return Endpoint(source.address, advertised.port)
    return source
