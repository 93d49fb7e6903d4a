"""Which ingest counts and what a look means: tables, and a model in which containerds do what they like."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mirror.ingest.base import Born, Committed, Grew, IngestEvent, Vanished
from mirror.ingest.table import (
    GROWTH_POLL_S,
    IDLE_POLL_S,
    KEPT_AFTER_END_S,
    LEADER_SILENT_S,
    NASCENT_POLL_S,
    NASCENT_S,
    PATIENT_POLL_S,
    QUIET_AFTER_S,
    QUIET_POLL_S,
    IngestKey,
    IngestTable,
    Seen,
    Sighting,
)
from mirror.oci.digest import Digest
from tests.support.examples import examples

MIB = 1 << 20
A, B = Digest.of(b"a"), Digest.of(b"b")


def seen(name: str, size_bytes: int, digest: Digest | None = A, *, inode: int = 1) -> Seen:
    return Seen(IngestKey(name, inode), name, f"layer-{digest}", digest, 9 * MIB, size_bytes)


def born(name: str, digest: Digest | None = A) -> Born:
    return Born(name, f"layer-{digest}", digest, 9 * MIB)


def look(
    *ingests: Seen,
    nascent: Iterable[str] = (),
    arrived: Iterable[Digest] = (),
    complete: Iterable[Digest] = (),
) -> Sighting:
    return Sighting(ingests, frozenset(nascent), frozenset(arrived), frozenset(complete))


def events_of(*looks: tuple[float, Sighting]) -> list[list[IngestEvent]]:
    """Of a table that has looked once and seen nothing."""
    table = IngestTable()
    table.note(look(), 0)
    return [table.note(sighting, now) for now, sighting in looks]


def test_growth_is_told_from_the_first_byte_on() -> None:
    assert events_of(
        (1, look(seen("one", 0))),
        (2, look(seen("one", 0))),
        (3, look(seen("one", MIB))),
        (4, look(seen("one", MIB))),
        (5, look(seen("one", 9 * MIB))),
        (6, look(complete=[A])),
        (7, look()),
    ) == [[born("one")], [], [Grew(A, MIB)], [], [Grew(A, 9 * MIB)], [Committed(A)], []]


def test_one_that_is_born_with_bytes_has_grown() -> None:
    assert events_of((1, look(seen("one", 5)))) == [[born("one"), Grew(A, 5)]]


def test_what_was_there_at_the_first_look_is_told_and_its_size_when_it_grows() -> None:
    table = IngestTable()
    assert table.note(look(seen("one", MIB), arrived=[]), 0) == [born("one")]
    assert table.present() == [born("one")]
    assert table.size_bytes(A) == MIB
    assert table.note(look(seen("one", 2 * MIB)), 1) == [Grew(A, 2 * MIB)]
    assert table.present() == [born("one"), Grew(A, 2 * MIB)]


def test_what_goes_without_a_commit_vanishes() -> None:
    assert events_of((1, look(seen("one", 5))), (2, look()))[1] == [Vanished(A)]


def test_a_commit_without_an_ingest_is_told_once() -> None:
    assert events_of((1, look(arrived=[A])), (2, look()))[:2] == [[Committed(A)], []]


def test_a_commit_that_is_seen_in_two_ways_is_told_once() -> None:
    told = events_of((1, look(seen("one", 5))), (2, look(arrived=[A, B], complete=[A])))
    assert sorted(told[1], key=repr) == sorted([Committed(A), Committed(B)], key=repr)


def test_what_stands_in_the_folder_of_blobs_is_no_download() -> None:
    assert events_of((1, look(seen("one", 5), complete=[A])), (2, look(seen("one", 6), complete=[A]))) == [
        [],
        [],
    ]


def test_a_commit_ends_the_other_ingests_of_the_digest() -> None:
    both = (seen("one", 5), seen("two", 3))
    told = events_of((1, look(*both)), (2, look(seen("two", 4), complete=[A])), (3, look()))
    assert told[1:] == [[Committed(A)], []]


def test_a_shorter_file_begins_again() -> None:
    told = events_of((1, look(seen("one", 5))), (2, look(seen("one", 0))), (3, look(seen("one", 2))))
    assert told[1:] == [[born("one")], [Grew(A, 2)]]


def test_another_file_in_the_same_folder_begins_again() -> None:
    told = events_of((1, look(seen("one", 5))), (2, look(seen("one", 7, inode=2))))
    assert told[1] == [born("one"), Grew(A, 7)]


def test_the_largest_counts_and_the_next_when_it_goes() -> None:
    table = IngestTable()
    table.note(look(), 0)
    assert table.note(look(seen("one", 3), seen("two", 5)), 1) == [born("two"), Grew(A, 5)]
    assert table.key_to_open(A) == IngestKey("two", 1)
    assert table.note(look(seen("one", 4)), 2) == [born("one"), Grew(A, 4)]
    assert table.key_to_open(A) == IngestKey("one", 1)


def test_a_leader_that_grows_stays_and_a_silent_one_is_left() -> None:
    told = events_of(
        (1, look(seen("one", 3))),
        (2, look(seen("one", 4), seen("two", 5))),
        (2.5, look(seen("one", 4), seen("two", 6))),
        (2 + LEADER_SILENT_S, look(seen("one", 4), seen("two", 7))),
    )
    assert told[1:] == [[Grew(A, 4)], [], [born("two"), Grew(A, 7)]]


def test_a_silent_leader_stays_as_long_as_the_other_is_not_larger() -> None:
    told = events_of((1, look(seen("one", 5))), (9, look(seen("one", 5), seen("two", 5))))
    assert told[1] == []


def test_a_leftover_counts_less_than_what_grows() -> None:
    table = IngestTable()
    table.note(look(seen("old", 8)), 0)
    assert table.note(look(seen("old", 8), seen("new", 1)), LEADER_SILENT_S) == [born("new"), Grew(A, 1)]


def test_a_ref_without_a_digest_is_told_once_and_not_followed() -> None:
    nameless = seen("one", 1, None)
    told = events_of((1, look(nameless)), (2, look(seen("one", 5, None))), (3, look()))
    assert told == [[born("one", None)], [], []]


def test_an_ended_ingest_is_wanted_for_a_while() -> None:
    table = IngestTable()
    table.note(look(), 0)
    table.note(look(seen("one", 5)), 1)
    table.note(look(), 2)
    key = IngestKey("one", 1)
    table.note(look(), 2 + KEPT_AFTER_END_S - 0.1)
    assert table.key_to_open(A) == key
    assert table.wanted_keys() == {key}
    assert table.size_bytes(A) is None
    table.note(look(), 2 + KEPT_AFTER_END_S)
    assert table.key_to_open(A) is None
    assert table.wanted_keys() == set()


def awaited(_: Digest) -> bool:
    """No watch is patient."""
    return False


def test_how_long_to_wait() -> None:
    table = IngestTable()
    table.note(look(), 0)
    assert table.wait_s(0, awaited) == IDLE_POLL_S
    table.note(look(nascent=["one"]), 10)
    assert table.wait_s(10, awaited) == NASCENT_POLL_S
    table.note(look(nascent=["one"]), 10 + NASCENT_S)
    assert table.wait_s(10 + NASCENT_S, awaited) == GROWTH_POLL_S
    assert table.wait_s(10 + QUIET_AFTER_S, awaited) == QUIET_POLL_S
    table.note(look(seen("one", 0)), 50)
    assert table.wait_s(50, awaited) == GROWTH_POLL_S
    table.note(look(seen("one", 0)), 50 + QUIET_AFTER_S)
    assert table.wait_s(50 + QUIET_AFTER_S, awaited) == QUIET_POLL_S
    table.note(look(seen("one", 1)), 100)
    assert table.wait_s(100, awaited) == GROWTH_POLL_S


def test_growth_that_nobody_waits_for_is_looked_at_seldom() -> None:
    table = IngestTable()
    table.note(look(seen("one", 1, A), seen("two", 1, B)), 10)
    assert table.wait_s(11, lambda digest: digest == A) == GROWTH_POLL_S, "B may not be late"
    assert table.wait_s(11, lambda _: True) == PATIENT_POLL_S
    table.note(look(seen("one", 1, A), seen("two", 1, B)), 10 + QUIET_AFTER_S)
    assert table.wait_s(10 + QUIET_AFTER_S, lambda _: True) == QUIET_POLL_S
    table.note(look(seen("one", 1, A), nascent=["new"]), 60)
    assert table.wait_s(60, lambda _: True) == NASCENT_POLL_S, "a birth may not be late"


def test_what_has_no_digest_is_looked_at_seldom() -> None:
    table = IngestTable()
    table.note(look(seen("one", 1, None)), 10)
    assert table.wait_s(11, awaited) == PATIENT_POLL_S


class Downloads(RuleBasedStateMachine):
    """Namespaces download digests, are cancelled, begin again and commit; looks come when they come. What a
    listener makes of the events must be what the table says, and never wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.table = IngestTable()
        self.now = 0.0
        self.next_inode = 1
        self.ingests: dict[tuple[str, Digest], Seen] = {}
        self.blobs: set[Digest] = set()
        self.arrived: set[Digest] = set()
        self.known: dict[Digest, int | None] = {}

    names = st.sampled_from(["one", "two", "three"])
    digests = st.sampled_from([A, B])

    @rule(name=names, digest=digests)
    def begin(self, name: str, digest: Digest) -> None:
        key = IngestKey(f"{name}-{digest}", self.next_inode)
        self.next_inode += 1
        self.ingests[name, digest] = Seen(key, name, f"layer-{digest}", digest, 9, 0)

    @precondition(lambda self: self.ingests)
    @rule(data=st.data(), size_bytes=st.integers(0, 9))
    def write(self, data: st.DataObject, size_bytes: int) -> None:
        place = data.draw(st.sampled_from(sorted(self.ingests)))
        old = self.ingests[place]
        self.ingests[place] = Seen(old.key, old.namespace, old.ref, old.digest, 9, size_bytes)

    @precondition(lambda self: self.ingests)
    @rule(data=st.data(), is_commit=st.booleans())
    def end(self, data: st.DataObject, is_commit: bool) -> None:
        place = data.draw(st.sampled_from(sorted(self.ingests)))
        del self.ingests[place]
        if is_commit and place[1] not in self.blobs:
            self.blobs.add(place[1])
            self.arrived.add(place[1])

    @rule(digest=digests)
    def delete_blob(self, digest: Digest) -> None:
        self.blobs.discard(digest)
        self.arrived.discard(digest)

    @rule(passed_s=st.sampled_from([0.05, 1.0, 6.0, 40.0]))
    def look(self, passed_s: float) -> None:
        self.now += passed_s
        before = dict(self.known)
        arrived, self.arrived = frozenset(self.arrived), set()
        sighting = Sighting(list(self.ingests.values()), frozenset(), arrived, frozenset(self.blobs))
        events = self.table.note(sighting, self.now)
        for event in events:
            self.hear(event)
        assert {event.digest for event in events if isinstance(event, Committed)} >= arrived
        live = {digest for _, digest in self.ingests} - self.blobs
        assert set(self.known) == live, "known is what is downloaded and not complete"
        for digest in set(before) - live:
            assert (Committed(digest) in events) != (Vanished(digest) in events)
            assert (Committed(digest) in events) == (digest in self.blobs)

    def hear(self, event: IngestEvent) -> None:
        match event:
            case Born(digest=Digest() as digest):
                self.known[digest] = None
            case Grew(digest, size_bytes):
                assert size_bytes > (self.known[digest] or 0)
                self.known[digest] = size_bytes
            case Committed(digest):
                assert digest in self.blobs
                self.known.pop(digest, None)
            case Vanished(digest):
                assert digest not in self.blobs
                del self.known[digest]

    @invariant()
    def a_listener_knows_what_the_table_knows(self) -> None:
        replayed: dict[Digest, int | None] = {}
        for event in self.table.present():
            match event:
                case Born(digest=Digest() as digest):
                    replayed[digest] = None
                case Grew(digest, size_bytes):
                    replayed[digest] = size_bytes
        assert replayed == self.known
        for digest, known_bytes in self.known.items():
            assert known_bytes in (None, self.table.size_bytes(digest))
            key = self.table.key_to_open(digest)
            assert key is not None and key in self.table.wanted_keys()


TestDownloads = Downloads.TestCase
TestDownloads.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
