"""Any order of announcements, removals, members and time, against a model that keeps a list of plain entries."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dht.contacts import Contact, stamp
from dht.endpoints import Endpoint
from dht.params import Params
from dht.records.records import Record, Records, Stored
from tests.support.examples import examples

# Small enough that every quota is met.
PARAMS = Params(
    providers_per_key_count=3,
    keys_per_provider_count=4,
    records_per_address_count=5,
    records_max_count=9,
    record_ttl_s=3600.0,
    tombstone_s=300.0,
)
TOMBSTONES_PER_NODE_COUNT = 1
TOMBSTONES_MAX_COUNT = 2
# The second and third stand in the first one's rows when bytes are looked for without regard to rows.
KEYS = [bytes(20), bytes(19) + b"\1", b"\1" + bytes(19), b"k" * 20, b"l" * 20]
NODES = [bytes([number]) * 20 for number in (1, 2, 3, 4, 0)]
V4 = (Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 1))
V6 = Endpoint("fd00::1", 1)

keys = st.sampled_from(KEYS)
nodes = st.sampled_from(NODES)
epochs = st.integers(1, 2)
sequences = st.integers(0, 9)
places = st.sampled_from([(V4[0],), (V4[1],), (V6,), (V4[0], V6)])


@dataclass(eq=False)
class Provider:
    contact: Contact
    is_hidden: bool = False
    is_forgotten: bool = False


@dataclass(eq=False)
class Entry:
    key: bytes
    provider: Provider
    stamp: int
    ends_s: int
    state: int = 0


class RecordsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.records = Records(PARAMS)
        self.now = 0.0
        self.entries: list[Entry] = []
        self.tombstones: list[Entry] = []
        self.providers: dict[bytes, Provider] = {}

    # -- the model

    def known(self, entries: list[Entry], key: bytes, node: bytes) -> Entry | None:
        provider = self.providers.get(node)
        return next((one for one in entries if one.key == key and one.provider is provider), None)

    def is_older(self, said: int, entry: Entry) -> bool:
        if entry.ends_s <= self.now or said >= entry.stamp:
            return False
        renewed_s = entry.ends_s - PARAMS.record_ttl_s
        return said >> 40 == entry.stamp >> 40 or self.now <= renewed_s + PARAMS.tombstone_s

    def tidy(self) -> None:
        named = {id(one.provider) for one in self.entries + self.tombstones}
        self.providers = {node: one for node, one in self.providers.items() if id(one) in named}

    def at_address(self, address: str) -> int:
        return sum(
            not one.provider.is_forgotten
            and any(found.address == address for found in one.provider.contact.endpoints)
            for one in self.entries
        )

    def expected_add(self, key: bytes, contact: Contact, state: int, said: int, ends_s: int) -> Stored:
        provider = self.providers.get(contact.node)
        entry = self.known(self.entries, key, contact.node) if provider else None
        if provider and entry:
            if self.is_older(said, entry):
                return Stored.STALE
            entry.state, entry.stamp, entry.ends_s = state, said, ends_s
        else:
            removed = self.known(self.tombstones, key, contact.node) if provider else None
            if removed and removed.ends_s > self.now and said <= removed.stamp:
                return Stored.STALE
            if provider:
                held = sum(one.provider is provider for one in self.entries)
                if held >= PARAMS.keys_per_provider_count:
                    return Stored.QUOTA
            if any(
                self.at_address(one.address) >= PARAMS.records_per_address_count for one in contact.endpoints
            ):
                return Stored.QUOTA
            of_key = [one for one in self.entries if one.key == key]
            if len(of_key) >= PARAMS.providers_per_key_count:
                weak = [one for one in of_key if one.ends_s <= self.now]
                weak += [one for one in of_key if one.provider.is_hidden]
                if not weak:
                    return Stored.SATURATED
                self.entries.remove(weak[0])
                self.tidy()
            elif len(self.entries) >= PARAMS.records_max_count:
                return Stored.QUOTA
            provider = self.providers.setdefault(contact.node, Provider(contact))
            self.entries.append(Entry(key, provider, said, ends_s, state))
        provider.contact = contact
        provider.is_hidden = False
        return Stored.STORED

    def expected_remove(self, key: bytes, node: bytes, said: int) -> bool:
        entry = self.known(self.entries, key, node)
        if entry and self.is_older(said, entry):
            return False
        provider = self.providers.setdefault(node, Provider(Contact(node, said >> 40, (), b"")))
        removed = self.known(self.tombstones, key, node)
        ends_s = math.ceil(self.now + PARAMS.tombstone_s)
        if removed:
            removed.stamp, removed.ends_s = max(said, removed.stamp), ends_s
        elif (
            sum(one.key == key for one in self.tombstones) < PARAMS.providers_per_key_count
            and sum(one.provider is provider for one in self.tombstones) < TOMBSTONES_PER_NODE_COUNT
            and len(self.tombstones) < TOMBSTONES_MAX_COUNT
        ):
            self.tombstones.append(Entry(key, provider, said, ends_s))
        if entry:
            self.entries.remove(entry)
        self.tidy()
        return entry is not None and entry.ends_s > self.now

    # -- what may happen

    @rule(
        key=keys,
        node=nodes,
        epoch=epochs,
        where=places,
        state=st.integers(0, 255),
        sequence=sequences,
        ttl_s=st.sampled_from([0, 1, 200, 3600, 7200]),
    )
    def add(
        self,
        key: bytes,
        node: bytes,
        epoch: int,
        where: tuple[Endpoint, ...],
        state: int,
        sequence: int,
        ttl_s: int,
    ) -> None:
        contact = Contact(node, epoch, where, bytes([sequence]))
        said = stamp(epoch, sequence)
        ends_s = math.ceil(self.now + min(ttl_s, PARAMS.record_ttl_s))
        expected = self.expected_add(key, contact, state, said, ends_s)
        assert self.records.add(key, contact, state, said, ttl_s, self.now) is expected

    @rule(key=keys, node=nodes, epoch=epochs, sequence=sequences)
    def remove(self, key: bytes, node: bytes, epoch: int, sequence: int) -> None:
        said = stamp(epoch, sequence)
        expected = self.expected_remove(key, node, said)
        assert self.records.remove(key, node, said, self.now) is expected

    @rule(node=nodes, is_hidden=st.booleans())
    def hide_or_show(self, node: bytes, is_hidden: bool) -> None:
        (self.records.hide if is_hidden else self.records.show)(node)
        if node in self.providers:
            self.providers[node].is_hidden = is_hidden

    @rule(node=nodes, where=places)
    def relocate(self, node: bytes, where: tuple[Endpoint, ...]) -> None:
        contact = Contact(node, 3, where, b"moved")
        self.records.relocate(contact)
        if node in self.providers:
            self.providers[node].contact = contact

    @rule(node=nodes)
    def forget(self, node: bytes) -> None:
        self.records.forget(node)
        provider = self.providers.pop(node, None)
        if provider:
            provider.is_hidden = provider.is_forgotten = True

    @rule(passed_s=st.sampled_from([0.5, 150.0, 300.0, 3600.0]))
    def wait(self, passed_s: float) -> None:
        self.now += passed_s

    @rule()
    def expire(self) -> None:
        def is_over(entry: Entry) -> bool:
            return entry.ends_s <= self.now or entry.provider.is_forgotten

        gone = sum(map(is_over, self.entries))
        self.entries = [one for one in self.entries if not is_over(one)]
        self.tombstones = [one for one in self.tombstones if not is_over(one)]
        self.tidy()
        assert self.records.expire(self.now, 10**6) == gone

    @rule(away_s=st.sampled_from([0.0, 150.0]))
    def restart(self, away_s: float) -> None:
        """Saved, and taken back by a store that knows nothing: what is shown afterwards is the same, less what is over,
        and what was hidden is shown."""
        saved = [one._replace(remaining_s=one.remaining_s - away_s) for one in self.records.entries(self.now)]
        # Quotas are met in another order: here they are out of the way.
        after = Records(Params())
        after.restore(saved, self.now + away_s)
        living = [
            one
            for one in self.entries
            if one.ends_s > self.now + away_s
            and not one.provider.is_forgotten
            and one.provider.contact.endpoints
        ]
        for key in KEYS:
            told = after.find(key, 99, self.now + away_s, random.Random(1))
            assert sorted((one.provider.node, one.state) for one in told) == sorted(
                (one.provider.contact.node, one.state) for one in living if one.key == key
            )

    # -- what must hold

    @invariant()
    def tells_what_the_model_tells(self) -> None:
        for key in KEYS:
            told = self.records.find(key, 99, self.now, random.Random(1))
            expected = [
                Record(one.provider.contact, one.state)
                for one in self.entries
                if one.key == key and one.ends_s > self.now and not one.provider.is_hidden
            ]
            assert sorted(told, key=repr) == sorted(expected, key=repr)
            assert self.records.count(key) == sum(one.key == key for one in self.entries)

    @invariant()
    def counts_what_the_model_counts(self) -> None:
        assert len(self.records) == len(self.entries)
        assert self.records.keys_count == len({one.key for one in self.entries})
        assert self.records.tombstones_count == len(self.tombstones)
        assert self.records.providers_count == len(self.providers)


RecordsMachine.TestCase.settings = settings(max_examples=examples(120), stateful_step_count=40, deadline=None)
TestRecords = RecordsMachine.TestCase
