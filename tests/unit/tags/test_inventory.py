"""What this host keeps of its own tags, and what of it others are told."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mirror.advertise.inventory import Announce, Command, Withdraw
from mirror.oci.digest import Digest
from mirror.origin.base import Repository
from mirror.tags.base import OwnTag, TagName
from mirror.tags.inventory import TagInventory
from mirror.tags.rules import TagPolicy
from mirror.tags.source import OwnTags, TagEvent, TagGone, TagSet, TagsLost

PUBLIC, PRIVATE, NAMED = (Repository("reg.test", name) for name in ("public", "private", "named"))
D = Digest.of(b"manifest")


def tag(repository: Repository, text: str = "v1", pulled_at_s: float = 1.0) -> OwnTag:
    return OwnTag(TagName(repository, text), D, pulled_at_s)


def listed(*tags: OwnTag) -> OwnTags:
    return OwnTags({one.name: one for one in tags})


def is_public(repository: Repository) -> bool:
    return repository == PUBLIC


def inventory(policy: TagPolicy = TagPolicy.UPSTREAM) -> TagInventory:
    return TagInventory(policy, lambda repository: repository == NAMED)


def keys(*repositories: Repository) -> tuple[str, ...]:
    return tuple(sorted(f"tag:{repository}:v1" for repository in repositories))


def test_what_is_announced_depends_on_the_policy() -> None:
    told = {
        TagPolicy.UPSTREAM: [Announce(keys(PUBLIC, NAMED))],
        TagPolicy.PEERS: [Announce(keys(PUBLIC, NAMED, PRIVATE))],
        TagPolicy.OFF: [],
    }
    for policy, commands in told.items():
        made = inventory(policy)
        made.handle(listed(tag(PUBLIC), tag(PRIVATE), tag(NAMED)))
        assert made.changes(is_public) == commands
        assert made.own(tag(PRIVATE).name) == tag(PRIVATE), "known here, whatever others are told"


def test_what_was_imported_is_a_record_under_peers_alone() -> None:
    """Even of a repository that is public, or named: no registry has said where the tag points."""
    brought = [replace(tag(one), is_imported=True) for one in (PUBLIC, NAMED)]
    for policy in TagPolicy:
        made = inventory(policy)
        made.handle(listed(*brought))
        is_record = policy is TagPolicy.PEERS
        assert made.changes(is_public) == ([Announce(keys(PUBLIC, NAMED))] if is_record else [])
        assert made.own(brought[0].name) == (brought[0] if is_record else None)
        assert made.newest(PUBLIC) == (brought[0].name if is_record else None)
        assert not made.to_be_known()


def test_an_import_takes_the_place_of_what_was_pulled() -> None:
    for policy, withdrawn in ((TagPolicy.UPSTREAM, [Withdraw(keys(PUBLIC))]), (TagPolicy.PEERS, [])):
        made = inventory(policy)
        made.handle(listed(tag(PUBLIC)))
        made.changes(is_public)
        brought = replace(tag(PUBLIC), digest=Digest.of(b"other"), is_imported=True)
        made.handle(TagSet(brought))
        assert made.changes(is_public) == withdrawn
        assert made.own(brought.name) == (None if withdrawn else brought)


def test_only_where_it_matters_it_is_to_be_known() -> None:
    for policy, wanted in (
        (TagPolicy.UPSTREAM, {PUBLIC, PRIVATE}),
        (TagPolicy.PEERS, set()),
        (TagPolicy.OFF, set()),
    ):
        made = inventory(policy)
        made.handle(listed(tag(PUBLIC), tag(PRIVATE), tag(NAMED)))
        assert set(made.to_be_known()) == wanted


def test_what_is_no_longer_public_is_withdrawn() -> None:
    made = inventory()
    made.handle(listed(tag(PUBLIC), tag(NAMED)))
    made.changes(is_public)
    assert made.changes(lambda _: False) == [Withdraw(keys(PUBLIC))]
    assert made.changes(is_public) == [Announce(keys(PUBLIC))]
    assert made.announced_count == 2


def test_a_key_of_two_spellings_stays_until_both_are_gone() -> None:
    made = inventory()
    made.handle(listed(tag(PUBLIC, "v1"), tag(PUBLIC, "V1")))
    assert made.changes(is_public) == [Announce(keys(PUBLIC))]
    made.handle(TagGone(TagName(PUBLIC, "V1")))
    assert made.changes(is_public) == []
    made.handle(TagGone(TagName(PUBLIC, "v1")))
    assert made.changes(is_public) == [Withdraw(keys(PUBLIC))]


def test_while_the_runtime_is_away_all_stays() -> None:
    made = inventory()
    made.handle(listed(tag(PUBLIC)))
    made.changes(is_public)
    made.handle(TagsLost("containerd restarts"))
    assert made.changes(is_public) == []
    made.handle(listed())
    assert made.changes(is_public) == [Withdraw(keys(PUBLIC))]


def test_the_tag_that_was_pulled_last_stands_for_its_repository() -> None:
    made = inventory()
    made.handle(listed(tag(PUBLIC, "old", 1.0), tag(PUBLIC, "new", 3.0), tag(PUBLIC, "middle", 2.0)))
    assert made.newest(PUBLIC) == TagName(PUBLIC, "new")
    assert made.newest(PRIVATE) is None


NAMES = [TagName(repository, text) for repository in (PUBLIC, PRIVATE, NAMED) for text in ("a", "A", "b")]
names = st.sampled_from(NAMES)
own_tags = st.builds(OwnTag, names, st.just(D), st.floats(0, 9))
events = st.one_of(
    st.lists(own_tags).map(lambda tags: listed(*tags)),
    own_tags.map(TagSet),
    names.map(TagGone),
    st.just(TagsLost("away")),
)


@given(
    st.lists(st.tuples(events, st.sets(st.sampled_from([PUBLIC, PRIVATE])))),
    st.sampled_from(TagPolicy),
)
def test_what_others_know_is_what_may_be_told(
    steps: list[tuple[TagEvent, set[Repository]]], policy: TagPolicy
) -> None:
    made = inventory(policy)
    here: dict[TagName, OwnTag] = {}
    told: set[str] = set()
    for event, public in steps:
        made.handle(event)
        match event:
            case OwnTags(tags):
                here = dict(tags)
            case TagSet(one):
                here[one.name] = one
            case TagGone(name):
                here.pop(name, None)
        apply(made.changes(public.__contains__), told)
        assert told == {name.key for name in here if may_be_told(policy, name.repository, public)}
        assert made.announced_count == len(told)
        # Of two spellings with one key, the one that is here.
        assert {name for name in NAMES if made.is_announced(name)} == {it for it in here if it.key in told}
        assert all(made.own(name) == one for name, one in here.items())


def may_be_told(policy: TagPolicy, repository: Repository, public: set[Repository]) -> bool:
    return policy is TagPolicy.PEERS or (
        policy is TagPolicy.UPSTREAM and (repository in public or repository == NAMED)
    )


def apply(commands: list[Command], told: set[str]) -> None:
    for command in commands:
        match command:
            case Announce(added):
                assert told.isdisjoint(added), "announced twice"
                told.update(added)
            case Withdraw(gone):
                assert told.issuperset(gone), "withdrawn without having been announced"
                told.difference_update(gone)
