"""The ids nearest to a key, out of a sorted list. Exact, and without looking at most of them.

Ids that share a longer prefix with the key are nearer than all that share a shorter one, and in a sorted list they
stand side by side. So the nearest stand in one small slice, found by bisection. Keeps nothing.
"""

from __future__ import annotations

from bisect import bisect_left

from dht.ids import ID_BYTES

ID_BITS = 8 * ID_BYTES
# A slice of at most so many times the wanted ids is sorted rather than divided further: a division costs as much as
# sorting about ten ids. Random ids never have more; ids that somebody chose may.
_SORTED_FACTOR = 4


def nearest(ids: list[bytes], key: bytes, count: int) -> list[tuple[int, int]]:
    """(distance, index into `ids`), nearest first, at most `count`. `ids` is sorted and holds no id twice."""
    total = len(ids)
    if count <= 0 or total == 0:
        return []
    number = int.from_bytes(key, "big")
    # The free bits of the smallest subtree around the key that should hold `count` ids.
    free = ID_BITS if count >= total else ID_BITS + 1 - (total // count).bit_length()
    low, high = subtree(ids, number, free)
    while high - low < count and free < ID_BITS:
        free += 1
        low, high = subtree(ids, number, free)
    if high - low <= _SORTED_FACTOR * count:
        return _sorted(ids, number, low, high, count)
    return _divided(ids, number, low, high, count)


def subtree(ids: list[bytes], number: int, free: int) -> tuple[int, int]:
    """The slice of the ids that equal `number` in all but the last `free` bits."""
    if free >= ID_BITS:
        return 0, len(ids)
    first = number >> free << free
    low = bisect_left(ids, first.to_bytes(ID_BYTES, "big"))
    after = first + (1 << free)
    if after >> ID_BITS:
        return low, len(ids)
    return low, bisect_left(ids, after.to_bytes(ID_BYTES, "big"), low)


def _sorted(ids: list[bytes], number: int, low: int, high: int, count: int) -> list[tuple[int, int]]:
    from_bytes = int.from_bytes
    found = [(from_bytes(ids[index], "big") ^ number, index) for index in range(low, high)]
    found.sort()
    del found[count:]
    return found


def _divided(ids: list[bytes], number: int, low: int, high: int, count: int) -> list[tuple[int, int]]:
    """The same for a slice that holds many more than `count`."""
    from_bytes = int.from_bytes
    found: list[tuple[int, int]] = []
    todo = [(low, high)]
    while todo and len(found) < count:
        low, high = todo.pop()
        wanted = count - len(found)
        if high - low <= _SORTED_FACTOR * wanted:
            found += _sorted(ids, number, low, high, wanted)
            continue
        # The first bit in which ids of the slice differ divides it.
        last = from_bytes(ids[high - 1], "big")
        free = (from_bytes(ids[low], "big") ^ last).bit_length() - 1
        middle = bisect_left(ids, (last >> free << free).to_bytes(ID_BYTES, "big"), low, high)
        # The half that agrees with the key in that bit is the nearer one: it is taken first.
        lower, upper = (low, middle), (middle, high)
        todo += [lower, upper] if number >> free & 1 else [upper, lower]
    return found
