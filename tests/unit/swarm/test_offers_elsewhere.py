"""What a host tells of one blob while another blob of its own needs the uplink (rule 5 of `mirror.swarm.offers`)."""

from __future__ import annotations

from mirror.swarm.offers import Offers
from tests.support.offers_of import ALL, PARAMS, offers


def fed_whole(*names: str) -> Offers[str]:
    """All is here and was shown, the first neighbour has it, the others nothing; the origin is done since 11."""
    made = offers(names[0], params=PARAMS)
    made.look(ALL, True, 10.0)
    made.has(names[0], ALL, 10.5)
    for name in names[1:]:
        made.joined(name)
        made.has(name, 0, 11.0)
    made.look(ALL, False, 11.0, is_needed_elsewhere=True)
    return made


def test_a_newcomer_is_left_to_those_who_have_it() -> None:
    made = fed_whole("a", "b")
    assert made.is_careful and made.told("b") == 0 and not made.is_needed
    made.look(ALL, False, 11.0 + PARAMS.offers_starved_s - 0.1, is_needed_elsewhere=True)
    assert made.told("b") == 0
    made.look(ALL, False, 12.0, is_needed_elsewhere=False)
    assert not made.is_careful and made.told("b") == ALL


def test_who_gets_nothing_from_them_gets_it_here_after_all() -> None:
    made = fed_whole("a", "b")
    starved_at = made.next_timer()
    assert starved_at == 11.0 + PARAMS.offers_starved_s
    made.look(ALL, False, starved_at, is_needed_elsewhere=True)
    first = made.told("b")
    assert first.bit_count() == 1
    # He fetched it, and gets the next one from somebody else.
    made.has("b", first, starved_at + 0.1)
    made.look(ALL, False, starved_at + 0.2, is_needed_elsewhere=True)
    assert made.told("b") == first
    assert made.next_timer() == starved_at + 0.1 + PARAMS.offers_starved_s


def test_what_nobody_has_any_more_is_offered_again() -> None:
    made = fed_whole("a", "b")
    made.left("a")
    made.look(ALL, False, 11.1, is_needed_elsewhere=True)
    assert made.is_needed and made.told("b")


def test_a_blob_is_needed_while_a_neighbour_may_lack_what_nobody_else_has() -> None:
    made = offers()
    made.look(0, True, 10.0)
    assert not made.is_needed, "nobody is there"
    made.joined("a")
    made.look(ALL, True, 10.5)
    assert made.is_needed, "the origin brings more"
    made.look(ALL, False, 10.6)
    assert made.is_needed
    made.has("a", ALL, 10.7)
    made.look(ALL, False, 10.7)
    assert not made.is_needed


def test_two_blobs_whose_neighbours_fetch_nothing_do_not_wait_for_each_other() -> None:
    """Each would be needed elsewhere for as long as the other one is."""
    made = offers("a")
    made.look(ALL, True, 10.0)
    made.look(ALL, False, 11.0, is_needed_elsewhere=True)
    assert made.is_needed
    over_at = 11.0 + PARAMS.offers_after_s
    while (at := made.next_timer()) is not None and at < over_at:
        made.look(ALL, False, at, is_needed_elsewhere=True)
    assert at == over_at, "it is looked at then, whatever the other one does"
    made.look(ALL, False, over_at, is_needed_elsewhere=True)
    assert not made.is_needed
