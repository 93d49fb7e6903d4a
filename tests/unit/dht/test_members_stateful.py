"""Any order of evidence, hearsay, silence and time, against a model that keeps one plain record a node."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import distance
from dht.members.hashes import MemberHashes
from dht.members.members import HEARD_LATELY_S, Change, Conflict, Gone, GoneReason, Joined, Members, Updated
from dht.params import Params
from tests.support.examples import examples

PARAMS = Params()
V4 = [Endpoint("10.0.0.1", 29022), *(Endpoint(f"10.0.0.{last}", 29021) for last in (1, 2, 3))]
V6 = [Endpoint("fd00::1", 29021), Endpoint("fd00::2", 29021)]
OWN = Contact(b"\x70" + bytes(19), 3, (Endpoint("10.0.0.9", 29021),), b"own")
# Near each other, near us, and far: every bucket that matters has some.
NODES = [
    bytes(20),
    b"\xff" * 20,
    b"\x70" + bytes(18) + b"\x01",
    b"\x70" + bytes(18) + b"\x02",
    b"\x71" + bytes(19),
    b"\x8f" + bytes(19),
]

nodes = st.sampled_from([*NODES, OWN.node])
epochs = st.integers(1, 3)
infos = st.sampled_from([b"", b"a", b"b"])
addresses = st.sampled_from(V4 + V6)
told_addresses = st.one_of(
    st.tuples(st.sampled_from(V4)),
    st.tuples(st.sampled_from(V6)),
    st.tuples(st.sampled_from(V4), st.sampled_from(V6)),
)
# Below and above every period that counts.
waits = st.sampled_from(
    [0.1, PARAMS.rpc_timeout_s, HEARD_LATELY_S + 1, PARAMS.dead_memory_s, PARAMS.lost_forget_s]
)


@dataclass
class Known:
    """All that the model knows of one node."""

    contact: Contact | None = None
    heard_s: float | None = None
    strikes_s: list[float] = field(default_factory=list)
    # The last move: address before, when, and whether a conflict was said.
    move: tuple[Endpoint, float, bool] | None = None
    buried: tuple[int, float] | None = None
    lost: tuple[Contact, float] | None = None


def by_family(contact: Contact | None) -> dict[bool, Endpoint]:
    return {one.is_v6: one for one in contact.endpoints} if contact else {}


def put_together(families: dict[bool, Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(families[is_v6] for is_v6 in (False, True) if is_v6 in families)


class Evidence(RuleBasedStateMachine):
    # Ids heard at one address; None: as many as there are.
    bound: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        params = replace(PARAMS, members_per_address_count=self.bound or 0)
        self.members = Members(OWN, params, is_open=self.bound is not None)
        self.hashes = MemberHashes(self.members)
        self.model = {node: Known() for node in NODES}
        # Who was heard where.
        self.tenants: dict[Endpoint, bytes] = {}
        # What somebody knows who only sees the changes.
        self.replica: dict[bytes, Contact] = {}

    def became(self, node: bytes, after: Contact | None, gone: GoneReason | None = None) -> list[Change]:
        """Take over the new contact; what should have been said about it."""
        known = self.model[node]
        before, known.contact = known.contact, after
        self.stays(node, after.endpoints if after else ())
        if before is None and after is None:
            return []
        if before is None:
            assert after is not None
            was_gone = (known.buried is not None and self.now - known.buried[1] < PARAMS.dead_memory_s) or (
                known.lost is not None and self.now - known.lost[1] < PARAMS.lost_forget_s
            )
            known.buried = known.lost = None
            return [Joined(after, was_gone)]
        if after is None:
            assert gone is not None
            known.heard_s, known.strikes_s, known.move = None, [], None
            return [Gone(before, gone)]
        if after.epoch != before.epoch and before.epoch != 0:
            return [Joined(after, is_rejoin=True)]
        return [Updated(after)] if after != before else []

    def stays(self, node: bytes, homes: tuple[Endpoint, ...]) -> None:
        """It is heard nowhere else any more."""
        for endpoint, tenant in list(self.tenants.items()):
            if tenant == node and endpoint not in homes:
                del self.tenants[endpoint]

    def bury(self, node: bytes, epoch: int) -> None:
        known = self.model[node]
        known.buried = (max(epoch, known.buried[0]) if known.buried else epoch, self.now)
        for other in self.model.values():
            if other.buried is not None and self.now - other.buried[1] >= PARAMS.dead_memory_s:
                other.buried = None

    def moves_in(self, node: bytes, endpoint: Endpoint) -> list[Change]:
        """What is said of whoever was heard there before."""
        before = self.tenants.get(endpoint, node)
        said: list[Change] = []
        if before != node:
            contact = self.model[before].contact
            assert contact is not None
            said = self.became(before, None, GoneReason.REPLACED)
            self.bury(before, contact.epoch)
            self.model[before].lost = None
        self.tenants[endpoint] = node
        return said

    def has_room(self, node: bytes, endpoint: Endpoint) -> bool:
        there = {tenant for home, tenant in self.tenants.items() if home.address == endpoint.address}
        return self.bound is None or endpoint in self.tenants or node in there or len(there) < self.bound

    def check(self, changes: list[Change], expected: list[Change]) -> None:
        assert changes == expected
        for change in changes:
            match change:
                case Joined(contact) | Updated(contact):
                    assert (contact.node in self.replica) == (
                        isinstance(change, Updated)
                        or self.replica.get(contact.node, contact).epoch != contact.epoch
                    )
                    self.replica[contact.node] = contact
                case Gone(contact):
                    assert self.replica.pop(contact.node) == contact
                case Conflict():
                    pass

    @rule(
        node=nodes,
        epoch=epochs,
        endpoint=addresses,
        info=st.none() | infos,
    )
    def heard(self, node: bytes, epoch: int, endpoint: Endpoint, info: bytes | None) -> None:
        changes = self.members.heard(node, epoch, endpoint, info, self.now)
        if node == OWN.node:
            assert changes == []
            return
        if not self.has_room(node, endpoint):
            assert changes == []
            return
        known = self.model[node]
        before = known.contact
        families = by_family(before) if before and before.epoch == epoch else {}
        held = families.get(endpoint.is_v6)
        if before and before.epoch == epoch and held is not None and held != endpoint:
            in_turns = (
                known.move is not None
                and known.move[0] == endpoint
                and self.now - known.move[1] <= PARAMS.conflict_window_s
            )
            if in_turns and known.move is not None:
                if known.move[2]:
                    self.check(changes, [])
                else:
                    known.move = (endpoint, self.now, True)
                    self.check(changes, [Conflict(node, (held, endpoint))])
                return
            known.move = (held, self.now, False)
        if before and before.epoch != epoch:
            known.move = None
        said = info if info is not None else before.info if before else b""
        after = Contact(node, epoch, put_together(families | {endpoint.is_v6: endpoint}), said)
        replaced = self.moves_in(node, endpoint)
        expected = self.became(node, after)
        known.heard_s, known.strikes_s = self.now, []
        self.check(changes, replaced + expected)

    @rule(node=nodes, epoch=st.integers(0, 3), endpoints=told_addresses, info=infos)
    def told(self, node: bytes, epoch: int, endpoints: tuple[Endpoint, ...], info: bytes) -> None:
        told = Contact(node, epoch, endpoints, info)
        changes = self.members.told(told, self.now)
        if node == OWN.node:
            assert changes == []
            return
        known = self.model[node]
        before = known.contact
        after: Contact | None
        if before is None:
            is_buried = (
                known.buried is not None
                and epoch <= known.buried[0]
                and self.now - known.buried[1] < PARAMS.dead_memory_s
            )
            after = None if is_buried else told
        elif epoch < before.epoch:
            after = before
        elif epoch > before.epoch:
            after = told
            known.heard_s, known.strikes_s, known.move = None, [], None
            self.stays(node, ())
        elif known.heard_s is not None and self.now - known.heard_s <= HEARD_LATELY_S and not known.strikes_s:
            families = by_family(told) | by_family(before)
            after = replace(before, endpoints=put_together(families), info=before.info or info)
        else:
            families = by_family(before) | by_family(told)
            after = replace(before, endpoints=put_together(families), info=info)
            if after.endpoints != before.endpoints:
                known.strikes_s = []
        self.check(changes, self.became(node, after))

    @rule(node=nodes)
    def struck(self, node: bytes) -> None:
        changes = self.members.struck(node, self.now)
        known = self.model.get(node, Known())
        if known.contact is None:
            assert changes == []
            return
        if not known.strikes_s or self.now - known.strikes_s[-1] >= PARAMS.strikes_apart_s:
            known.strikes_s.append(self.now)
        if len(known.strikes_s) < PARAMS.strikes_count:
            assert changes == []
            return
        contact = known.contact
        expected = self.became(node, None, GoneReason.SILENT)
        self.bury(node, contact.epoch)
        known.lost = (contact, self.now)
        self.check(changes, expected)

    @rule(node=nodes, epoch=epochs)
    def left(self, node: bytes, epoch: int) -> None:
        changes = self.members.left(node, epoch, self.now)
        if node == OWN.node:
            assert changes == []
            return
        known = self.model[node]
        if known.contact is not None and epoch < known.contact.epoch:
            assert changes == []
            return
        expected = self.became(node, None, GoneReason.LEFT)
        self.bury(node, epoch)
        known.lost = None
        self.check(changes, expected)

    @rule(seconds=waits)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(epoch=epochs)
    def we_are_started_anew(self, epoch: int) -> None:
        self.members.own = replace(OWN, epoch=epoch)

    @rule(key=st.sampled_from(NODES) | st.binary(min_size=20, max_size=20), count=st.integers(1, 8))
    def the_nearest(self, key: bytes, count: int) -> None:
        listed = sorted(self.expected(), key=lambda one: distance(one.node, key))
        assert self.members.nearest(key, count) == listed[:count]

    @rule(seed=st.integers(0, 9))
    def a_lost_one(self, seed: int) -> None:
        found = self.members.lost_sample(random.Random(seed), self.now)
        lost = [
            known.lost[0]
            for known in self.model.values()
            if known.lost is not None and self.now - known.lost[1] < PARAMS.lost_forget_s
        ]
        assert (found is None) == (not lost)
        assert found is None or found in lost

    @rule(count=st.integers(0, 8))
    def the_best(self, count: int) -> None:
        best = self.members.best(count)
        assert len(best) == min(count, len(self.members))
        heard = [self.model[one.node].heard_s or 0.0 for one in best]
        assert heard == sorted(heard, reverse=True)
        others = [self.model[one.node].heard_s or 0.0 for one in self.expected() if one not in best]
        assert not heard or not others or max(others) <= heard[-1]

    def expected(self) -> list[Contact]:
        return [known.contact for _, known in sorted(self.model.items()) if known.contact is not None]

    @invariant()
    def the_table_is_the_model(self) -> None:
        expected = self.expected()
        assert list(self.members) == expected
        assert len(self.members) == len(expected)
        for node in self.model:
            assert self.members.get(node) == self.model[node].contact
            assert (node in self.members) == (self.model[node].contact is not None)
        assert self.members.get(OWN.node) is None

    @invariant()
    def one_is_heard_at_an_endpoint_and_few_at_an_address(self) -> None:
        assert all(endpoint in self.homes_of(node) for endpoint, node in self.tenants.items())
        if self.bound is not None:
            for address in {endpoint.address for endpoint in self.tenants}:
                there = {node for home, node in self.tenants.items() if home.address == address}
                assert len(there) <= self.bound

    def homes_of(self, node: bytes) -> tuple[Endpoint, ...]:
        contact = self.members.get(node)
        return contact.endpoints if contact else ()

    @invariant()
    def the_changes_tell_all(self) -> None:
        assert sorted(self.replica.items()) == [(one.node, one) for one in self.expected()]

    @rule()
    def the_hashes_follow(self) -> None:
        assert self.hashes.hashes(b"") == MemberHashes(self.members).hashes(b"")


class OpenEvidence(Evidence):
    """Without a secret."""

    bound = 1


class AtTheCap(RuleBasedStateMachine):
    """Whoever comes: the cap holds, nobody heard gives way to hearsay, and no bucket grows at a thinner one's cost."""

    cap = 6

    def __init__(self) -> None:
        super().__init__()
        self.members = Members(OWN, replace(PARAMS, members_max_count=self.cap))
        self.heard_nodes: set[bytes] = set()
        self.now = 0.0

    def bucket(self, node: bytes) -> int:
        return distance(node, OWN.node).bit_length()

    def count(self, bucket: int) -> int:
        return sum(self.bucket(one.node) == bucket for one in self.members)

    def check(self, newcomer: bytes, sizes: dict[int, int], changes: list[Change], *, is_heard: bool) -> None:
        assert len(self.members) <= self.cap
        gones = [change for change in changes if isinstance(change, Gone)]
        assert len(gones) <= 1, "who is replaced makes the room"
        for change in gones:
            gone = change.contact.node
            if change.reason is GoneReason.REPLACED:
                assert is_heard and gone in self.heard_nodes and newcomer in self.members
                self.heard_nodes.discard(gone)
            else:
                assert change.reason is GoneReason.EVICTED
                assert newcomer in self.members
                assert is_heard or gone not in self.heard_nodes
                assert sizes[self.bucket(gone)] == max(sizes.values()), "the fattest loses one"
                assert (
                    gone not in self.heard_nodes
                    or sizes.get(self.bucket(newcomer), 0) + 1 < sizes[self.bucket(gone)]
                ), "who was heard gives way only to a thinner bucket"
                self.heard_nodes.discard(gone)
        if is_heard and newcomer in self.members:
            self.heard_nodes.add(newcomer)

    @initialize(
        firsts=st.lists(
            st.tuples(st.integers(140, 159), st.integers(0, 3)), min_size=cap, max_size=cap, unique=True
        )
    )
    def filled(self, firsts: list[tuple[int, int]]) -> None:
        self.members.preload(Contact(self.node(*one), 1, (V4[0],), b"") for one in firsts)

    def node(self, bit: int, low: int) -> bytes:
        return ((int.from_bytes(OWN.node, "big") ^ 1 << bit) + low).to_bytes(20, "big")

    @rule(
        bit=st.integers(150, 159),
        low=st.integers(0, 5),
        is_heard=st.booleans(),
        port=st.integers(1, 3) | st.none(),
    )
    def comes(self, bit: int, low: int, is_heard: bool, port: int | None) -> None:
        """`port` None: one of his own."""
        self.now += 1.0
        node = self.node(bit, low)
        place = Endpoint("10.0.0.1", port or 1000 + 10 * bit + low)
        sizes = {bucket: self.count(bucket) for bucket in {self.bucket(one.node) for one in self.members}}
        if is_heard:
            changes = self.members.heard(node, 1, place, None, self.now)
        else:
            changes = self.members.told(Contact(node, 1, (place,), b""), self.now)
        self.check(node, sizes, changes, is_heard=is_heard)

    @precondition(lambda self: len(self.members) > 3)
    @rule(index=st.integers(0, 3))
    def leaves(self, index: int) -> None:
        self.now += PARAMS.dead_memory_s
        contact = list(self.members)[index]
        self.members.left(contact.node, contact.epoch, self.now)
        self.heard_nodes.discard(contact.node)

    @invariant()
    def room_is_used(self) -> None:
        assert self.members.is_full == (len(self.members) >= self.cap)


TestEvidence = Evidence.TestCase
TestEvidence.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
TestOpenEvidence = OpenEvidence.TestCase
TestOpenEvidence.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestAtTheCap = AtTheCap.TestCase
TestAtTheCap.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
