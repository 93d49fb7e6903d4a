"""Who is to blame for which piece: a row per rule, and what a lone liar cannot do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.swarm.blame import Inquiry

GOOD, BAD, OTHER = b"good", b"bad", b"other"


def asked(own: list[bytes], senders: str, words: dict[str, list[bytes | None]]) -> Inquiry:
    inquiry = Inquiry(tuple(own), dict(enumerate(senders)), words, 10.0)
    for source_id, said in words.items():
        inquiry.said(source_id, {piece: word for piece, word in enumerate(said) if word is not None})
    return inquiry


@pytest.mark.parametrize(
    ("name", "inquiry", "pieces", "doubtful", "odd"),
    [
        (
            "two against the sender",
            asked([GOOD, BAD], "ab", {"c": [GOOD, GOOD], "d": [GOOD, GOOD]}),
            (1,),
            set(),
            ("b",),
        ),
        (
            "the sender's own innocence counts for nothing",
            asked([GOOD, BAD], "ab", {"b": [GOOD, GOOD], "c": [GOOD, GOOD]}),
            (1,),
            {1},
            (),
        ),
        (
            "one against one: doubtful",
            asked([GOOD, BAD], "ab", {"a": [GOOD, GOOD]}),
            (1,),
            {1},
            (),
        ),
        (
            "one lies in words, and another piece is wrong",
            asked(
                [GOOD, BAD, GOOD],
                "abc",
                {"d": [BAD, GOOD, GOOD], "e": [GOOD, GOOD, GOOD], "a": [GOOD, GOOD, GOOD]},
            ),
            (1,),
            set(),
            ("d", "b"),
        ),
        (
            "partial sources speak of what they hold",
            asked([GOOD, BAD, BAD], "abc", {"d": [None, GOOD, None], "e": [GOOD, GOOD, None]}),
            (1,),
            set(),
            ("b",),
        ),
        (
            "three words, none with two voices",
            asked([GOOD, BAD], "ab", {"c": [GOOD, GOOD], "d": [GOOD, OTHER]}),
            (1,),
            {1},
            (),
        ),
        (
            "two against two",
            asked([GOOD, BAD], "ab", {"c": [GOOD, GOOD], "d": [GOOD, BAD], "e": [GOOD, GOOD]}),
            (1,),
            {1},
            (),
        ),
        ("nobody says anything", asked([GOOD, BAD], "ab", {}), (0, 1), {0, 1}, ()),
        (
            "all agree, so all may be wrong",
            asked([BAD, BAD], "ab", {"c": [BAD, BAD]}),
            (0, 1),
            {0, 1},
            (),
        ),
        (
            "only a word is odd: the question is open",
            asked([GOOD, GOOD], "ab", {"c": [GOOD, BAD], "d": [GOOD, GOOD]}),
            (0, 1),
            {0, 1},
            ("c",),
        ),
    ],
)
def test_verdicts(
    name: str, inquiry: Inquiry, pieces: tuple[int, ...], doubtful: set[int], odd: tuple[str, ...]
) -> None:
    verdict = inquiry.verdict()
    assert (verdict.pieces, verdict.doubtful, verdict.odd) == (pieces, frozenset(doubtful), odd), name


def test_it_is_over_when_all_were_heard() -> None:
    inquiry = Inquiry((GOOD, BAD), {0: "a", 1: "b"}, ["c", "d", "e"], 10.0)
    inquiry.said("c", {1: GOOD})
    inquiry.said("c", {1: BAD})
    inquiry.said("stranger", {1: BAD})
    inquiry.is_silent("d")
    assert not inquiry.is_over
    inquiry.said("e", {1: GOOD})
    assert inquiry.is_over
    assert inquiry.verdict().odd == ("b",)


HONEST = "abc"
LIAR = "x"


@given(st.data(), st.integers(2, 6))
def test_a_liar_alone_makes_nobody_odd(data: st.DataObject, count: int) -> None:
    senders = data.draw(st.lists(st.sampled_from(HONEST + LIAR), min_size=count, max_size=count))
    lies = st.sampled_from([GOOD, BAD, OTHER])
    own = [data.draw(lies) if sender == LIAR else GOOD for sender in senders]
    witnesses = data.draw(st.sets(st.sampled_from(HONEST + LIAR)))
    words: dict[str, list[bytes | None]] = {
        source_id: [data.draw(lies) if source_id == LIAR else GOOD for _ in range(count)]
        for source_id in sorted(witnesses)
    }
    verdict = asked(own, "".join(senders), words).verdict()
    assert set(verdict.odd) <= {LIAR}
    wrong = {piece for piece, word in enumerate(own) if word != GOOD}
    others = {piece: witnesses & set(HONEST) - {senders[piece]} for piece in range(count)}
    for piece in wrong:
        if len(others[piece]) >= 2:
            assert piece in verdict.pieces
            assert LIAR in verdict.odd
    if wrong and all(len(others[piece]) >= 2 for piece in range(count)):
        assert set(verdict.pieces) == wrong, "one wrong piece costs one piece"
