"""Who stands where: contacts in the order of their ids, and what is nearest, in a range, or next in the ring.

Two lists side by side: 16 bytes a member where contacts are shared between tables, and every answer is a slice.
A member is another node: the node's own contact is in none of the answers but where it is said. Judges nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from operator import attrgetter, itemgetter
from random import Random

from dht.contacts import Contact
from dht.members.nearest import nearest

_node = attrgetter("node")


class MemberTable:
    __slots__ = ("_contacts", "_ids", "_own", "_own_number", "_revisions", "revision")

    def __init__(self, own: Contact) -> None:
        self._own = own
        self._own_number = int.from_bytes(own.node, "big")
        self._ids: list[bytes] = []
        self._contacts: list[Contact] = []
        # Rises with every change of `own` or of a member.
        self.revision = 0
        # By the first byte of the id.
        self._revisions = [0] * 256

    @property
    def own(self) -> Contact:
        return self._own

    @own.setter
    def own(self, contact: Contact) -> None:
        """Other endpoints, info or epoch of the same node."""
        assert contact.node == self._own.node
        self._own = contact
        self._touched(contact.node)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, node: object) -> bool:
        return isinstance(node, bytes) and self._find(node) >= 0

    def __iter__(self) -> Iterator[Contact]:
        """In id order. Not while members change."""
        return iter(self._contacts)

    def get(self, node: bytes) -> Contact | None:
        index = self._find(node)
        return self._contacts[index] if index >= 0 else None

    def revision_of(self, first_byte: int) -> int:
        """Rises with every change of `own` or of a member whose id starts with that byte."""
        return self._revisions[first_byte]

    def nearest(self, key: bytes, count: int, *, with_own: bool = False) -> list[Contact]:
        """In XOR order from the key, nearest first."""
        found = nearest(self._ids, key, count)
        contacts = self._contacts
        if not with_own or count <= 0:
            return [contacts[index] for _, index in found]
        distance = self._own_number ^ int.from_bytes(key, "big")
        place = bisect_left(found, distance, key=itemgetter(0))
        listed = [contacts[index] for _, index in found]
        listed.insert(place, self._own)
        return listed[:count]

    def closer(self, key: bytes, than: bytes, count: int) -> list[Contact]:
        """The members nearer to the key than that node, nearest first."""
        number = int.from_bytes(key, "big")
        limit = int.from_bytes(than, "big") ^ number
        contacts = self._contacts
        return [contacts[index] for distance, index in nearest(self._ids, key, count) if distance < limit]

    def page(self, first: bytes, last: bytes, count: int) -> tuple[list[Contact], bool]:
        """At most `count` of first <= id <= last in id order, own included, and whether there are more."""
        low = bisect_left(self._ids, first)
        high = bisect_right(self._ids, last, low)
        found = self._contacts[low : min(high, low + count + 1)]
        if first <= self._own.node <= last:
            found.insert(bisect_left(found, self._own.node, key=_node), self._own)
        return found[:count], len(found) > count

    def count(self, first: bytes, last: bytes) -> int:
        """How many the whole page would hold, own included."""
        low = bisect_left(self._ids, first)
        return bisect_right(self._ids, last, low) - low + (first <= self._own.node <= last)

    def in_ring(self, after: bytes, upto: bytes) -> list[Contact]:
        """after < id <= upto, in ring order; across zero where `upto` is lower; empty where they are equal."""
        low, high = bisect_right(self._ids, after), bisect_right(self._ids, upto)
        if after <= upto:
            return self._contacts[low:high]
        return self._contacts[low:] + self._contacts[:high]

    def random(self, rng: Random) -> Contact | None:
        return rng.choice(self._contacts) if self._contacts else None

    def preload(self, contacts: Iterable[Contact]) -> None:
        """Known from the start, as by hearsay. Of two of one node the later one stays."""
        known = {one.node: one for one in self._contacts}
        known.update((one.node, one) for one in contacts)
        known.pop(self._own.node, None)
        self._contacts = sorted(known.values(), key=_node)
        self._ids = [one.node for one in self._contacts]
        self.revision += 1
        self._revisions = [self.revision] * 256

    def _find(self, node: bytes) -> int:
        ids = self._ids
        index = bisect_left(ids, node)
        return index if index < len(ids) and ids[index] == node else -1

    def _touched(self, node: bytes) -> None:
        self.revision += 1
        self._revisions[node[0]] = self.revision

    def _insert(self, contact: Contact) -> None:
        index = bisect_left(self._ids, contact.node)
        self._ids.insert(index, contact.node)
        self._contacts.insert(index, contact)
        self._touched(contact.node)

    def _replace(self, index: int, contact: Contact) -> None:
        self._contacts[index] = contact
        self._touched(contact.node)

    def _take_out(self, index: int) -> Contact:
        contact = self._contacts[index]
        del self._ids[index], self._contacts[index]
        self._touched(contact.node)
        return contact
