"""Claims of one digest: what was ruled is told once, with whom its names mean; a ruling that comes late takes its
place. And the claims of a plain mirror, whose word is that nobody else can."""

from __future__ import annotations

from dataclasses import dataclass, field

import mirror.steer.events as on
from mirror.discovery.base import Peer
from mirror.herd.claiming import Claiming
from mirror.herd.plain_claims import PlainClaims
from mirror.oci.digest import Digest
from mirror.steer.claims import NamedPeer, Replaced, Word, name_of
from mirror.steer.commands import AskClaim, AskReason, ReleaseClaim, ReleaseReason, RenewClaim
from mirror.steer.rulings import Excluded, Fence, Granted

D = Digest.of(b"a layer")
HOLDER = NamedPeer(Peer("10.0.0.1", 1), is_complete=False)
PROVIDER = NamedPeer(Peer("10.0.0.2", 1), is_complete=True)
FENCE, NEARER_FENCE = Fence(b"a" * 20, 1), Fence(b"b" * 20, 1)


def ask(number: int, *, wants_providers: bool = True) -> AskClaim:
    return AskClaim(number, 0, AskReason.NEEDED, None, wants_providers)


@dataclass
class Arbiter:
    """Says always the same; `replace` is what the last asker is to be told later."""

    is_joining: bool = False
    released: list[ReleaseClaim] = field(default_factory=list)
    replace: Replaced | None = None

    async def ask(self, digest: Digest, ask: AskClaim | RenewClaim, on_replaced: Replaced) -> Word:
        self.replace = on_replaced
        return Word(Granted(FENCE), (PROVIDER,), (HOLDER,), is_alone=False)

    async def release(self, digest: Digest, release: ReleaseClaim) -> None:
        self.released.append(release)


async def test_what_was_ruled_is_told_with_whom_its_names_mean() -> None:
    told: list[on.Event] = []
    names: list[NamedPeer] = []
    claiming = Claiming(D, Arbiter(), tell=told.append, note_names=names.extend)
    await claiming.ask(ask(7))
    assert told == [on.Ruled(7, Granted(FENCE), (name_of(PROVIDER.peer),), is_alone=False)]
    assert names == [HOLDER, PROVIDER]


async def test_a_grant_that_came_late_from_a_nearer_arbiter_is_told() -> None:
    told: list[on.Event] = []
    names: list[NamedPeer] = []
    arbiter = Arbiter()
    claiming = Claiming(D, arbiter, tell=told.append, note_names=names.extend)
    await claiming.ask(ask(1))
    assert arbiter.replace is not None
    arbiter.replace(Word(Granted(NEARER_FENCE), (), (HOLDER,), is_alone=False))
    assert told[1:] == [on.Replaced(Granted(NEARER_FENCE))]
    assert names[2:] == [HOLDER]


async def test_joining_is_told_when_it_changes() -> None:
    told: list[on.Event] = []
    arbiter = Arbiter(is_joining=True)
    claiming = Claiming(D, arbiter, tell=told.append, note_names=lambda _: None)
    claiming.note_joining()
    claiming.note_joining()
    assert told == [on.DaemonJoining(True)]
    arbiter.is_joining = False
    await claiming.ask(ask(1))
    assert told[1] == on.DaemonJoining(False)
    assert isinstance(told[2], on.Ruled)


async def test_what_is_given_back_is_passed_on() -> None:
    arbiter = Arbiter()
    claiming = Claiming(D, arbiter, tell=lambda _: None, note_names=lambda _: None)
    release = ReleaseClaim(FENCE, 5, ReleaseReason.UNUSED)
    await claiming.release(release)
    assert arbiter.released == [release]


async def test_a_plain_mirror_has_providers_and_no_claims() -> None:
    async def find(digest: Digest) -> list[NamedPeer]:
        return [PROVIDER]

    claims = PlainClaims(find)
    word = await claims.ask(D, ask(1), lambda _: None)
    assert isinstance(word.ruling, Excluded)
    assert (word.providers, word.is_alone) == ((PROVIDER,), False)
    word = await claims.ask(D, ask(2, wants_providers=False), lambda _: None)
    assert (word.providers, word.is_alone) == ((), True), "they were of no use: nobody else can"


async def test_a_plain_mirror_whom_nobody_helps_is_alone() -> None:
    async def find(digest: Digest) -> list[NamedPeer]:
        return []

    assert (await PlainClaims(find).ask(D, ask(1), lambda _: None)).is_alone
