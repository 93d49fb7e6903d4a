"""Who provides which key: what this node stores for others, with TTL, quotas and tombstones.

Rules
1. The newest stamp wins: an announcement that was overtaken by a removal changes nothing. A lower epoch is believed
   when the record was not renewed for as long as a removal is remembered: the node was restored from a backup.
2. A record of a node that fell silent stays, unseen, until the node is back or the record ends.
3. A key with enough providers is saturated; a record that is over or unseen makes room first.
4. Everything a stranger can grow has a bound; tombstones beyond theirs are not kept (the TTL covers the loss).

Times of ends are whole seconds, rounded up. What is over is never told, but counts until `expire` came by.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain
from math import ceil
from typing import Final, NamedTuple

from dht.contacts import Contact, epoch_of
from dht.endpoints import EndpointInvalid, pack, unpack
from dht.ids import ID_BYTES
from dht.params import Params
from dht.records.provider_slots import Slot, Slots
from dht.records.rows import ROW_BYTES, Rows, fields, overwrite, packed_slot, place, span

# Of the quotas for records, tombstones may have this share on top.
_TOMBSTONES_SHARE: Final = 4
# A slot with its entries, its counts and a contact of its own.
_SLOT_BYTES: Final = 450


class Stored(Enum):
    STORED = "stored"
    STALE = "stale"
    SATURATED = "saturated"
    QUOTA = "quota"


class Record(NamedTuple):
    provider: Contact
    state: int


class SavedRecord(NamedTuple):
    """A record outside of memory. `endpoints` are packed; `remaining_s` counts from the moment of saving."""

    key: bytes
    node: bytes
    endpoints: bytes
    info: bytes
    state: int
    stamp: int
    remaining_s: float


class Records:
    def __init__(self, params: Params) -> None:
        self._params = params
        self._rows = Rows()
        self._tombstones = Rows()
        self._slots = Slots()

    # -- what providers say ----------------------------------------------------------------------------------------

    def add(self, key: bytes, provider: Contact, state: int, stamp: int, ttl_s: float, now: float) -> Stored:
        """A provider that announces is no longer hidden. Raises: ValueError when the key has not 20 bytes."""
        _check(key)
        ends_s = ceil(now + min(ttl_s, self._params.record_ttl_s))
        slot = self._slots.get(provider.node)
        if slot is not None:
            array = self._rows.array(key)
            at = place(array, key + slot.packed)
            if at >= 0:
                _, _, old_ends_s, old_stamp = fields(array, at)
                if old_ends_s > now and self._is_older(stamp, old_stamp, old_ends_s, now):
                    return Stored.STALE
                overwrite(array, at, state, ends_s, stamp)
                slot.is_hidden = False
                if provider is not slot.contact:
                    self._slots.relocate(slot, provider)
                return Stored.STORED
            if slot.tombstones_count and self._is_removed(key, slot, stamp, now):
                return Stored.STALE
            if slot.records_count >= self._params.keys_per_provider_count:
                return Stored.QUOTA
        if self._slots.fullest_address(provider) >= self._params.records_per_address_count:
            return Stored.QUOTA
        return self._insert(key, provider, (state, ends_s, stamp), now)

    def remove(self, key: bytes, node: bytes, stamp: int, now: float) -> bool:
        """Whether there was a record. Raises: ValueError when the key has not 20 bytes."""
        _check(key)
        slot = self._slots.get(node) or self._slots.open(Contact(node, epoch_of(stamp), (), b""))
        array = self._rows.array(key)
        at = place(array, key + slot.packed)
        if at < 0:
            self._bury(key, slot, stamp, now)
            self._slots.settle(slot)
            return False
        _, _, ends_s, old_stamp = fields(array, at)
        if ends_s > now and self._is_older(stamp, old_stamp, ends_s, now):
            return False
        # The tombstone first: a slot that no row names is given back.
        self._bury(key, slot, stamp, now)
        self._drop(array, at, slot)
        return ends_s > now

    # -- what members do -------------------------------------------------------------------------------------------

    def hide(self, node: bytes) -> None:
        """The member is gone: its records stay, unseen."""
        slot = self._slots.get(node)
        if slot is not None:
            slot.is_hidden = True

    def show(self, node: bytes) -> None:
        slot = self._slots.get(node)
        if slot is not None:
            slot.is_hidden = False

    def relocate(self, contact: Contact) -> None:
        """What is known of a provider now. Whether it may be believed is the caller's to judge."""
        slot = self._slots.get(contact.node)
        if slot is not None:
            self._slots.relocate(slot, contact)

    def provider(self, node: bytes) -> Contact | None:
        """Where its records say it is."""
        slot = self._slots.get(node)
        return None if slot is None else slot.contact

    def forget(self, node: bytes) -> None:
        """The node left: its records are over. The sweep clears them away."""
        slot = self._slots.get(node)
        if slot is not None:
            self._slots.forget(slot)

    # -- who asks --------------------------------------------------------------------------------------------------

    def find(
        self, key: bytes, want: int, now: float, rng: random.Random, exclude: bytes = b""
    ) -> list[Record]:
        """At most `want` records from a random place on, without those of the node `exclude`."""
        array = self._rows.array(key)
        start, end = span(array, key)
        found: list[Record] = []
        if not end or want <= 0:
            return found
        first = start + ROW_BYTES * int(rng.random() * ((end - start) // ROW_BYTES))
        for at in chain(range(first, end, ROW_BYTES), range(start, first, ROW_BYTES)):
            index, state, ends_s, _ = fields(array, at)
            slot = self._slots.at(index)
            if ends_s > now and not slot.is_hidden and slot.contact.node != exclude:
                found.append(Record(slot.contact, state))
                if len(found) == want:
                    break
        return found

    def count(self, key: bytes) -> int:
        """Providers stored for the key; hidden ones count, and until the sweep those that are over."""
        start, end = span(self._rows.array(key), key)
        return (end - start) // ROW_BYTES

    def providers(self) -> Iterator[Contact]:
        return (slot.contact for slot in self._slots.known() if slot.records_count)

    # -- time ------------------------------------------------------------------------------------------------------

    def expire(self, now: float, budget: int) -> int:
        """Looks at about `budget` rows (0.2 us each), going on where it stopped; says how many records are gone."""
        gone = 0
        for rows in (self._tombstones, self._rows):
            looked = 0
            for _ in range(min(budget, rows.arrays_count)):
                array = rows.next_array()
                looked += 1 + len(array) // ROW_BYTES
                gone += self._expire_array(rows, array, now)
                if looked >= budget:
                    break
        return gone

    def entries(self, now: float) -> Iterator[SavedRecord]:
        """What is to be saved: hidden records, too, since their nodes may be back."""
        packed: dict[int, bytes] = {}
        for key, index, _, _, _ in self._rows:
            # The caller may have done other work since these rows were read: what stands there now counts.
            array = self._rows.array(key)
            at = place(array, key + packed_slot(index))
            if at < 0:
                continue
            _, state, ends_s, stamp = fields(array, at)
            if ends_s <= now:
                continue
            slot = self._slots.at(index)
            contact = slot.contact
            if slot.is_forgotten or not contact.endpoints:
                continue
            if index not in packed:
                packed[index] = pack(contact.endpoints)
            yield SavedRecord(key, contact.node, packed[index], contact.info, state, stamp, ends_s - now)

    def restore(self, saved: Iterable[SavedRecord], now: float) -> int:
        """How many were taken. What is newer here stays; what is no record is left out."""
        taken = 0
        contacts: dict[tuple[bytes, int], Contact] = {}
        for key, node, endpoints, info, state, stamp, remaining_s in saved:
            if len(key) != ID_BYTES or len(node) != ID_BYTES or remaining_s <= 0:
                continue
            contact = contacts.get((node, epoch_of(stamp)))
            if contact is None:
                try:
                    contact = Contact(node, epoch_of(stamp), unpack(endpoints), info)
                except EndpointInvalid:
                    continue
                contacts[node, epoch_of(stamp)] = contact
            taken += self.add(key, contact, state, stamp, remaining_s, now) is Stored.STORED
        return taken

    # -- figures ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._rows.count

    @property
    def keys_count(self) -> int:
        return self._rows.keys_count

    @property
    def providers_count(self) -> int:
        return len(self._slots)

    @property
    def tombstones_count(self) -> int:
        return self._tombstones.count

    @property
    def size_bytes(self) -> int:
        return self._rows.size_bytes + self._tombstones.size_bytes + len(self._slots) * _SLOT_BYTES

    # -- rows ------------------------------------------------------------------------------------------------------

    def _is_older(self, stamp: int, known: int, ends_s: int, now: float) -> bool:
        if stamp >= known:
            return False
        renewed_s = ends_s - self._params.record_ttl_s
        return epoch_of(stamp) == epoch_of(known) or now <= renewed_s + self._params.tombstone_s

    def _insert(self, key: bytes, provider: Contact, record: tuple[int, int, int], now: float) -> Stored:
        state, ends_s, stamp = record
        array = self._rows.array(key)
        start, end = span(array, key)
        if (end - start) // ROW_BYTES >= self._params.providers_per_key_count:
            at = self._weakest(array, range(start, end, ROW_BYTES), now)
            if at < 0:
                return Stored.SATURATED
            self._drop(array, at, self._slots.at(fields(array, at)[0]))
            start, end = span(array, key)
        elif self._rows.count >= self._params.records_max_count:
            return Stored.QUOTA
        slot = self._slots.open(provider)
        self._slots.relocate(slot, provider)
        slot.is_hidden = False
        self._rows.insert(array, end, key, (slot.index, state, ends_s, stamp))
        self._slots.count_records(slot, 1)
        return Stored.STORED

    def _weakest(self, array: bytearray, places: range, now: float) -> int:
        """A row that is over, else one that nobody sees, else -1."""
        unseen = -1
        for at in places:
            index, _, ends_s, _ = fields(array, at)
            if ends_s <= now:
                return at
            if unseen < 0 and self._slots.at(index).is_hidden:
                unseen = at
        return unseen

    def _drop(self, array: bytearray, at: int, slot: Slot) -> None:
        self._rows.remove(array, at)
        self._slots.count_records(slot, -1)
        self._slots.settle(slot)

    def _is_removed(self, key: bytes, slot: Slot, stamp: int, now: float) -> bool:
        """Whether a removal that is not older stands against it. It stays beside a newer record."""
        array = self._tombstones.array(key)
        at = place(array, key + slot.packed)
        if at < 0:
            return False
        _, _, ends_s, removed = fields(array, at)
        return ends_s > now and stamp <= removed

    def _bury(self, key: bytes, slot: Slot, stamp: int, now: float) -> None:
        ends_s = ceil(now + self._params.tombstone_s)
        array = self._tombstones.array(key)
        at = place(array, key + slot.packed)
        if at >= 0:
            overwrite(array, at, 0, ends_s, max(stamp, fields(array, at)[3]))
            return
        start, end = span(array, key)
        params = self._params
        if (
            (end - start) // ROW_BYTES < params.providers_per_key_count
            and slot.tombstones_count < max(1, params.keys_per_provider_count // _TOMBSTONES_SHARE)
            and self._tombstones.count < max(1, params.records_max_count // _TOMBSTONES_SHARE)
        ):
            self._tombstones.insert(array, end, key, (slot.index, 0, ends_s, stamp))
            slot.tombstones_count += 1

    def _expire_array(self, rows: Rows, array: bytearray, now: float) -> int:
        gone = 0
        for at in range(len(array) - ROW_BYTES, -1, -ROW_BYTES):
            index, _, ends_s, _ = fields(array, at)
            slot = self._slots.at(index)
            if ends_s > now and not slot.is_forgotten:
                continue
            if rows is self._rows:
                self._drop(array, at, slot)
                gone += 1
            else:
                rows.remove(array, at)
                slot.tombstones_count -= 1
                self._slots.settle(slot)
        return gone


def _check(key: bytes) -> None:
    """A row of another length would shift all behind it."""
    if len(key) != ID_BYTES:
        raise ValueError(f"a key has {ID_BYTES} bytes, not {len(key)}")
