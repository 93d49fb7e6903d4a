from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mirror.swarm.bitfield import pieces_of
from mirror.swarm.rarity import Rarity

COUNT = 12
masks = st.integers(0, (1 << COUNT) - 1)


@given(st.lists(masks, max_size=20), masks, st.data())
def test_it_counts_and_finds_the_fewest(added: list[int], asked: int, data: st.DataObject) -> None:
    rarity = Rarity()
    for mask in added:
        rarity.add(mask)
    left = list(added)
    for _ in range(data.draw(st.integers(0, len(added)))):
        gone = left.pop(data.draw(st.integers(0, len(left) - 1)))
        rarity.remove(gone)
    counts = [sum(mask >> piece & 1 for mask in left) for piece in range(COUNT)]
    assert [rarity.count(piece) for piece in range(COUNT)] == counts
    among = list(pieces_of(asked))
    fewest = min((counts[piece] for piece in among), default=0)
    assert list(pieces_of(rarity.rarest(asked))) == [piece for piece in among if counts[piece] == fewest]
