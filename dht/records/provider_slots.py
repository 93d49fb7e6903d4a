"""Who provides: one slot a provider, shared by all rows that name it, and what each node and address holds.

Counts rows so that quotas can be judged; it judges nothing and drops nothing by itself.
"""

from __future__ import annotations

from dht.contacts import Contact
from dht.records.rows import packed_slot


class Slot:
    """`is_hidden`: its records are not told. `is_forgotten`: they are dead and wait for the sweep; the node, should
    it come back, gets a new slot."""

    __slots__ = (
        "contact",
        "index",
        "is_forgotten",
        "is_hidden",
        "records_count",
        "tombstones_count",
    )

    def __init__(self, index: int, contact: Contact) -> None:
        self.index = index
        self.contact = contact
        self.is_hidden = False
        self.is_forgotten = False
        self.records_count = 0
        self.tombstones_count = 0

    @property
    def packed(self) -> bytes:
        """As in a row. Not kept, nor the contact's addresses: a node holds few records of each of many providers."""
        return packed_slot(self.index)


class Slots:
    """A slot lives as long as a row names it (`settle` after each change)."""

    __slots__ = ("_by_address", "_by_index", "_by_node", "_free")

    def __init__(self) -> None:
        self._by_node: dict[bytes, Slot] = {}
        self._by_index: list[Slot | None] = []
        self._free: list[int] = []
        self._by_address: dict[str, int] = {}

    def get(self, node: bytes) -> Slot | None:
        return self._by_node.get(node)

    def at(self, index: int) -> Slot:
        slot = self._by_index[index]
        assert slot is not None, "a row names a slot that was given back"
        return slot

    def open(self, contact: Contact) -> Slot:
        """The node's slot; a new one when it has none."""
        slot = self._by_node.get(contact.node)
        if slot is None:
            if self._free:
                slot = Slot(self._free.pop(), contact)
                self._by_index[slot.index] = slot
            else:
                slot = Slot(len(self._by_index), contact)
                self._by_index.append(slot)
            self._by_node[contact.node] = slot
        return slot

    def relocate(self, slot: Slot, contact: Contact) -> None:
        """What is known of the node now. An equal contact is not taken: the one that is kept may be shared."""
        if contact == slot.contact:
            return
        if contact.endpoints != slot.contact.endpoints:
            self._count_addresses(slot.contact, -slot.records_count)
            self._count_addresses(contact, slot.records_count)
        slot.contact = contact

    def forget(self, slot: Slot) -> None:
        del self._by_node[slot.contact.node]
        self._count_addresses(slot.contact, -slot.records_count)
        slot.is_hidden = slot.is_forgotten = True

    def count_records(self, slot: Slot, change: int) -> None:
        slot.records_count += change
        if not slot.is_forgotten:
            self._count_addresses(slot.contact, change)

    def settle(self, slot: Slot) -> None:
        """Gives the slot back when no row names it any more."""
        if slot.records_count == 0 and slot.tombstones_count == 0:
            if self._by_node.get(slot.contact.node) is slot:
                del self._by_node[slot.contact.node]
            self._by_index[slot.index] = None
            self._free.append(slot.index)

    def fullest_address(self, contact: Contact) -> int:
        """Records at the fullest of its addresses."""
        fullest = 0
        for one in contact.endpoints:
            fullest = max(fullest, self._by_address.get(one.address, 0))
        return fullest

    def known(self) -> list[Slot]:
        return list(self._by_node.values())

    def __len__(self) -> int:
        return len(self._by_node)

    @property
    def addresses_count(self) -> int:
        return len(self._by_address)

    def _count_addresses(self, contact: Contact, change: int) -> None:
        for one in contact.endpoints:
            count = self._by_address.get(one.address, 0) + change
            if count > 0:
                self._by_address[one.address] = count
            else:
                self._by_address.pop(one.address, None)
