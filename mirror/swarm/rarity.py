"""How many sources hold each piece, and which pieces the fewest hold. Pure.

The counts of all pieces are kept as the binary digits of one number each, turned on its side: bit `i` of digit `d` is
digit `d` of the count of piece `i`. A bitfield is added or taken away, and the rarest pieces found, in a few operations
of ints, whatever the number of pieces.
"""

from __future__ import annotations


class Rarity:
    __slots__ = ("_digits",)

    def __init__(self) -> None:
        self._digits: list[int] = []

    def add(self, mask: int) -> None:
        """One more source holds these."""
        for place, digit in enumerate(self._digits):
            if not mask:
                return
            self._digits[place] = digit ^ mask
            mask &= digit
        if mask:
            self._digits.append(mask)

    def remove(self, mask: int) -> None:
        """One source less holds these. Each must have been added."""
        for place, digit in enumerate(self._digits):
            if not mask:
                return
            self._digits[place] = digit ^ mask
            mask &= ~digit
        assert not mask, "a piece that nobody held was taken away"

    def rarest(self, mask: int) -> int:
        """Those of `mask` that the fewest sources hold."""
        for digit in reversed(self._digits):
            fewer = mask & ~digit
            if fewer:
                mask = fewer
        return mask

    def count(self, piece: int) -> int:
        return sum((digit >> piece & 1) << place for place, digit in enumerate(self._digits))
