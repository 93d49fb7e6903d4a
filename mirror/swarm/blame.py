"""Which pieces of a blob with the wrong digest are wrong, and who brought them. Pure.

Rules
1. What a source sent is its word on that piece, whatever it says now. Each other source that was asked has one word.
2. Where the words differ and one has more voices than each other, so at least two, it is right: a piece that differs
   from it is wrong, and who sent or said anything else is odd.
3. Where no word has a majority the piece is doubtful: it is to come from another source, and nobody is odd. When the
   whole matches later, what was sent first is compared with what is right then: that is proof, and only then is the
   sender odd.
4. Where all words agree the question is open, and so is every piece.
Two sources that lie alike can make an honest third odd, for the time of a ban; a liar alone cannot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mirror.swarm.events import SourceId


@dataclass(frozen=True, slots=True)
class Verdict:
    """`pieces`: to be dropped, in order. `odd`: to be banned. `doubtful`: those of `pieces` that prove nothing yet."""

    pieces: tuple[int, ...]
    doubtful: frozenset[int]
    odd: tuple[SourceId, ...]


class Inquiry:
    """Of one mismatch. `own`: the digest of each piece as it came; `senders`: from whom."""

    def __init__(
        self,
        own: tuple[bytes, ...],
        senders: Mapping[int, SourceId],
        asked: Iterable[SourceId],
        ends_at: float,
    ) -> None:
        self.own = own
        self.senders = dict(senders)
        self.ends_at = ends_at
        self._open = set(asked)
        self._words: dict[SourceId, Mapping[int, bytes]] = {}

    @property
    def is_over(self) -> bool:
        return not self._open

    def said(self, source_id: SourceId, digests: Mapping[int, bytes]) -> None:
        """Nobody is heard twice, or unasked."""
        if source_id in self._open:
            self._open.discard(source_id)
            self._words[source_id] = digests

    def is_silent(self, source_id: SourceId) -> None:
        self._open.discard(source_id)

    def verdict(self) -> Verdict:
        wrong: list[int] = []
        doubtful: set[int] = set()
        odd: dict[SourceId, None] = {}
        for piece, own in enumerate(self.own):
            words = {self.senders[piece]: own}
            for source_id, digests in self._words.items():
                word = digests.get(piece)
                if word is not None and source_id not in words:
                    words[source_id] = word
            if all(word == own for word in words.values()):
                continue
            right = _majority(words.values())
            if right is None:
                doubtful.add(piece)
            else:
                odd.update((source_id, None) for source_id, word in words.items() if word != right)
            if right != own:
                wrong.append(piece)
        if not wrong:
            wrong = list(range(len(self.own)))
            doubtful = set(wrong)
        return Verdict(tuple(wrong), frozenset(doubtful), tuple(odd))


def _majority(words: Iterable[bytes]) -> bytes | None:
    ranked = Counter(words).most_common(2)
    if len(ranked) > 1 and ranked[1][1] == ranked[0][1]:
        return None
    return ranked[0][0]
