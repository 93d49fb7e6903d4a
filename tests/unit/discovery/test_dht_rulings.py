"""The DHT's answers, as the ladder hears them."""

from __future__ import annotations

import pytest

from dht.claims import rulings as told
from mirror.discovery.dht_rulings import from_dht
from mirror.steer.rulings import (
    Excluded,
    Fence,
    Granted,
    Participant,
    Pending,
    Refused,
    Ruling,
    Unruled,
    Wait,
)
from tests.support.claim_hosts import FOREIGN, A, B

FENCE = Fence(FOREIGN.arbiter, FOREIGN.counter)
RUNNING = told.Running(FOREIGN, told.Holding(A, 5))
OTHERS = (told.Holding(B, 7),)
PARTICIPANTS = (Participant(B.node, 7),)


@pytest.mark.parametrize(
    ("ruling", "heard"),
    [
        (told.Granted(FOREIGN, 10.0, OTHERS), Granted(FENCE, PARTICIPANTS)),
        (told.Wait(RUNNING, 1.0, OTHERS), Wait(FENCE, Participant(A.node, 5), 1.0, PARTICIPANTS)),
        (told.Lost(RUNNING, 1.0, ()), Wait(FENCE, Participant(A.node, 5), 1.0)),
        (told.Pending(0.5, OTHERS), Pending(0.5, PARTICIPANTS)),
        (told.Excluded(9.0), Excluded(9.0)),
        (told.Refused(8.0), Refused(8.0)),
        (told.Full(5.0), Unruled()),
        (told.NotJoined(1.0), Unruled()),
        (told.Redirect(()), Unruled()),
        (told.Released(), Unruled()),
        (None, Unruled()),
    ],
)
def test_what_is_heard(ruling: told.Ruling | None, heard: Ruling) -> None:
    assert from_dht(ruling) == heard
