from hypothesis import given
from hypothesis import strategies as st

from mirror.advertise.inventory import Announce, Inventory, Withdraw
from mirror.oci.digest import Digest
from mirror.store.base import ContentAdded, ContentEvent, ContentRemoved, Snapshot, StreamLost

A, B, C = sorted(Digest.of(text) for text in (b"a", b"b", b"c"))


def test_a_snapshot_is_announced_whole() -> None:
    assert Inventory().handle(Snapshot({B: 1, A: 2})) == [Announce((str(A), str(B)))]


def test_a_second_snapshot_announces_the_difference() -> None:
    inventory = Inventory()
    inventory.handle(Snapshot({A: 1, B: 1}))
    assert inventory.handle(Snapshot({B: 1, C: 1})) == [Announce((str(C),)), Withdraw((str(A),))]
    assert inventory.handle(Snapshot({B: 1, C: 1})) == []
    assert [inventory.is_announced(digest) for digest in (A, B, C)] == [False, True, True]


def test_changes_are_said_once() -> None:
    inventory = Inventory()
    assert inventory.handle(ContentAdded(A, 1)) == [Announce((str(A),))]
    assert inventory.handle(ContentAdded(A, 1)) == []
    assert inventory.handle(ContentRemoved(A)) == [Withdraw((str(A),))]
    assert inventory.handle(ContentRemoved(A)) == []


def test_a_lost_store_withdraws_nothing() -> None:
    inventory = Inventory()
    inventory.handle(Snapshot({A: 1}))
    assert inventory.handle(StreamLost("containerd restarts")) == []
    assert inventory.announced_count == 1


digests = st.sampled_from([Digest.of(bytes([n])) for n in range(6)])
events = st.one_of(
    st.builds(ContentAdded, digests, st.just(1)),
    st.builds(ContentRemoved, digests),
    st.builds(Snapshot, st.dictionaries(digests, st.just(1))),
    st.builds(StreamLost, st.just("away")),
)


@given(st.lists(events, max_size=30))
def test_what_was_announced_follows_what_is_held(history: list[ContentEvent]) -> None:
    inventory, announced, held = Inventory(), set[str](), set[str]()
    for event in history:
        match event:
            case Snapshot(sizes):
                held = {str(digest) for digest in sizes}
            case ContentAdded(digest, _):
                held.add(str(digest))
            case ContentRemoved(digest):
                held.discard(str(digest))
            case StreamLost():
                pass
        for command in inventory.handle(event):
            match command:
                case Announce(keys):
                    assert not announced & set(keys)
                    announced |= set(keys)
                case Withdraw(keys):
                    assert announced >= set(keys)
                    announced -= set(keys)
        assert announced == held
