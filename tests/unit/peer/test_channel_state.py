"""What one side holds is what the other side knows, in whichever order things happen, and however late it is sent."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dht.endpoints import Endpoint
from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer import frames, news
from mirror.peer.channel_params import ChannelParams
from mirror.peer.errors import ChannelFull
from mirror.peer.frames import DeclineReason, LeaveReason
from mirror.peer.inbox import Inbox
from mirror.peer.outbox import Outbox
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.pieces import PieceLayout
from tests.support.examples import examples

PARAMS = ChannelParams(streams_max_count=4, digest_asks_max_count=2)
DIGESTS = [Digest.of(bytes((number,))) for number in range(6)]
SIZES = (1, 40 * 2**20, 3 * 2**30)
ENDPOINT = Endpoint("10.0.0.1", 29021)
DIGEST = st.sampled_from(DIGESTS)


class Host:
    """One side: what it holds, and what it was told."""

    def __init__(self) -> None:
        self.outbox = Outbox(PARAMS, 0.0)
        self.inbox = Inbox(ENDPOINT, self.outbox, PARAMS)
        self.holds: dict[Digest, tuple[int, Bitfield, bool]] = {}
        self.named: dict[Digest, tuple[Peer, ...]] = {}
        self.declined: set[Digest] = set()
        self.refused: set[Digest] = set()
        self.owes: list[tuple[Digest, int, int]] = []
        self.told: dict[Digest, tuple[int, Bitfield, bool] | None] = {}
        self.told_peers: dict[Digest, tuple[Peer, ...]] = {}
        self.load = self.told_load = 0.0

    def hear(self, frame: frames.Frame) -> None:
        match self.inbox.read(frame):
            case news.PeerJoined(digest):
                self.told[digest] = None
                self.refused.discard(digest)
            case news.PeerHolds(digest, size_bytes, bitfield, is_fed):
                self.told[digest] = (size_bytes, bitfield, is_fed)
                self.refused.discard(digest)
            case news.PeerHas(digest, pieces):
                known = self.told[digest]
                assert known is not None
                size_bytes, bitfield, is_fed = known
                more = Bitfield.holding(bitfield.piece_count, [*bitfield, *pieces])
                self.told[digest] = (size_bytes, more, is_fed)
            case news.PeerNames(digest, peers):
                assert digest in self.told
                self.told_peers[digest] = peers
            case news.PeerLeft(digest):
                del self.told[digest]
                self.told_peers.pop(digest, None)
            case news.PeerDeclined(digest):
                self.declined.add(digest)
            case news.PeerLoad(load_ratio):
                self.told_load = load_ratio
            case news.PieceDigestsAsked(digest, first, stop):
                assert digest in self.holds
                self.owes.append((digest, first, stop))
            case news.PieceDigestsTold(digest, first, stop, digests):
                assert all(first <= piece < stop for piece in digests)
            case news.ChannelUp() | news.ChannelDown():
                raise AssertionError("not from a frame")
            case None:
                pass


class TwoHosts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.hosts = (Host(), Host())
        self.wires: tuple[list[bytes], list[bytes]] = ([], [])

    side = st.sampled_from((0, 1))

    @rule(
        side=side,
        digest=DIGEST,
        size=st.sampled_from(SIZES),
        seed=st.integers(0, 2**16),
        is_fed=st.booleans(),
    )
    def hold(self, side: int, digest: Digest, size: int, seed: int, is_fed: bool) -> None:
        host = self.hosts[side]
        count = PieceLayout.of(size).count
        rng = random.Random(seed)
        bitfield = Bitfield(
            count, rng.getrandbits(count) if seed % 3 else (1 << rng.randrange(count + 1)) - 1
        )
        self._tell(host, digest, size, bitfield, is_fed)

    @rule(side=side, digest=DIGEST)
    def join(self, side: int, digest: Digest) -> None:
        self._tell(self.hosts[side], digest, 0, Bitfield(0), False)

    def _tell(self, host: Host, digest: Digest, size: int, bitfield: Bitfield, is_fed: bool) -> None:
        try:
            host.outbox.tell(digest, size, bitfield, is_fed)
        except ChannelFull:
            assert digest not in host.holds
            return
        host.holds[digest] = (size, bitfield, is_fed)

    @rule(side=side, digest=DIGEST, seed=st.integers(0, 2**16))
    def add(self, side: int, digest: Digest, seed: int) -> None:
        host = self.hosts[side]
        size, bitfield, is_fed = host.holds.get(digest, (0, Bitfield(0), False))
        mask = random.Random(seed).getrandbits(bitfield.piece_count) if size else 1
        host.outbox.add(digest, mask)
        if size:
            host.holds[digest] = (size, Bitfield(bitfield.piece_count, bitfield.mask | mask), is_fed)

    @rule(side=side, digest=DIGEST, count=st.integers(0, 20))
    def name(self, side: int, digest: Digest, count: int) -> None:
        host = self.hosts[side]
        peers = tuple(Peer(f"10.0.1.{number}", 29021) for number in range(count))
        host.outbox.name(digest, peers)
        if digest in host.holds:
            host.named[digest] = peers[: frames.PEERS_MAX_COUNT]

    @rule(side=side, digest=DIGEST, reason=st.sampled_from(LeaveReason))
    def leave(self, side: int, digest: Digest, reason: LeaveReason) -> None:
        host = self.hosts[side]
        host.outbox.leave(digest, reason)
        host.inbox.left(digest)
        host.holds.pop(digest, None)
        host.named.pop(digest, None)
        host.declined.discard(digest)
        host.owes = [owed for owed in host.owes if owed[0] != digest]

    @rule(side=side, digest=DIGEST)
    def decline(self, side: int, digest: Digest) -> None:
        host = self.hosts[side]
        host.inbox.decline(digest, DeclineReason.ABSENT)
        if digest in host.told:
            del host.told[digest]
            host.told_peers.pop(digest, None)

    @rule(side=side, percent=st.integers(0, 100))
    def load(self, side: int, percent: int) -> None:
        self.hosts[side].load = percent / 100
        self.hosts[side].outbox.load(percent / 100)

    @rule(side=side, digest=DIGEST, first=st.integers(0, 3))
    def ask(self, side: int, digest: Digest, first: int) -> None:
        self.hosts[side].inbox.ask(digest, first, first + 2)

    @precondition(lambda self: any(host.owes for host in self.hosts))
    @rule()
    def answer(self) -> None:
        for host in self.hosts:
            for digest, first, stop in host.owes:
                assert host.inbox.answered(digest, first, stop)
                assert not host.inbox.answered(digest, first, stop)
                host.outbox.answer(digest, first, stop, {first: bytes(32)})
            host.owes = []

    @rule(side=side)
    def send(self, side: int) -> None:
        message = self.hosts[side].outbox.next_message(1)
        if message is not None:
            assert len(message) <= frames.MESSAGE_MAX_BYTES
            self.wires[side].append(message)

    @rule(side=side)
    def arrive(self, side: int) -> None:
        if self.wires[side]:
            for frame in frames.decode_message(self.wires[side].pop(0), 1)[0]:
                self.hosts[1 - side].hear(frame)

    @rule()
    def settle(self) -> None:
        """All is sent and heard: then both are of one mind."""
        while any(self.wires) or any(host.outbox.is_due for host in self.hosts):
            for side in (0, 1):
                self.send(side)
                self.arrive(side)
        for mine, yours in (self.hosts, self.hosts[::-1]):
            for digest, (size, bitfield, is_fed) in mine.holds.items():
                if digest in mine.declined:
                    assert digest not in yours.told
                    continue
                assert yours.told[digest] == ((size, bitfield, is_fed) if size else None)
                assert yours.told_peers.get(digest, ()) == mine.named.get(digest, ())
            assert set(yours.told) == set(mine.holds) - mine.declined
            assert abs(yours.told_load - mine.load) <= 0.026

    @invariant()
    def is_bounded(self) -> None:
        for host in self.hosts:
            outbox = host.outbox
            assert len(outbox._by_digest) + len(outbox._closes) <= PARAMS.streams_max_count
            assert set(outbox._due) <= set(outbox._by_number)
            assert len(outbox._declines) <= PARAMS.streams_max_count
            assert len(outbox._asks) <= 64
            assert len(outbox._answers) <= PARAMS.digest_asks_max_count * PARAMS.streams_max_count
            assert len(host.inbox._streams) == len(host.inbox._numbers) <= PARAMS.streams_max_count


TwoHosts.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
test_two_hosts = TwoHosts.TestCase
