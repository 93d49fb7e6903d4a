"""What goes to the DHT for an ask and for a renewal."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dht.claims.claims import REASON_DONE, REASON_WHOLE
from dht.service import DHT
from dht.wire.codec import AskReason as WireReason
from dht.wire.codec import Verb
from mirror.discovery.dht_claims import DhtClaims
from mirror.oci.digest import Digest
from mirror.steer.commands import AskClaim, AskReason, ReleaseClaim, ReleaseReason, RenewClaim
from mirror.steer.rulings import Fence, Unruled

D = Digest.of(b"any")
FENCE = Fence(b"\x01" * 20, 7)


class Recorder:
    """A DHT that reaches nobody."""

    unready = None
    members: tuple[()] = ()

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def claim(self, key: bytes, verb: Verb, **words: Any) -> None:
        self.asked.append({"verb": verb, **words})


async def asked(order: AskClaim | RenewClaim) -> dict[str, Any]:
    dht = Recorder()
    word = await DhtClaims(cast(DHT, dht), (), lambda: True).ask(D, order, lambda _: None)
    assert word.ruling == Unruled()
    (words,) = dht.asked
    return words


@pytest.mark.parametrize(("is_queued", "reason"), [(True, WireReason.QUEUED), (False, WireReason.NEEDED)])
async def test_a_renewal_says_whether_it_is_queued(is_queued: bool, reason: WireReason) -> None:
    words = await asked(RenewClaim(1, FENCE, 5, is_queued))
    assert (words["verb"], words["reason"], words["progress"]) == (Verb.RENEW, reason, 5)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (AskReason.NEEDED, WireReason.NEEDED),
        (AskReason.HELD_LONG, WireReason.HELD_LONG),
        (AskReason.SLOW_CLAIMANT, WireReason.SLOW_CLAIMANT),
        (AskReason.FALLBACK_ONLY, WireReason.NEEDED),
    ],
)
async def test_an_ask_says_why(reason: AskReason, told: WireReason) -> None:
    words = await asked(AskClaim(1, 5, reason, None, wants_providers=True))
    assert (words["verb"], words["reason"]) == (Verb.ASK, told)
    assert words["want"] > 0


async def test_providers_of_no_use_are_not_wanted() -> None:
    assert (await asked(AskClaim(1, 0, AskReason.NEEDED, FENCE, wants_providers=False)))["want"] == 0


@pytest.mark.parametrize("reason", ReleaseReason)
async def test_a_release_says_what_the_arbiter_understands(reason: ReleaseReason) -> None:
    """Whether the blob is to be had here, and whether this host is to be left out for a while."""
    dht = Recorder()
    await DhtClaims(cast(DHT, dht), (), lambda: True).release(D, ReleaseClaim(FENCE, 5, reason))
    (words,) = dht.asked
    no_fault = {ReleaseReason.VANISHED, ReleaseReason.UNUSED, ReleaseReason.NO_GAIN}
    assert (words["reason"] == REASON_WHOLE) is (reason is ReleaseReason.COMMITTED)
    assert (words["reason"] == REASON_DONE) is (reason in no_fault)
