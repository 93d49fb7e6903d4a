"""For which blobs an uplink is needed, and who has to look anew when that changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mirror.swarm.lending import Lending

BLOBS = "abc"
steps = st.lists(st.tuples(st.sampled_from(BLOBS), st.booleans() | st.none()), max_size=20)


@given(steps)
def test_it_is_needed_elsewhere_where_another_one_needs_it(told: list[tuple[str, bool | None]]) -> None:
    """None: the blob is left."""
    lending: Lending[str] = Lending()
    needed: dict[str, bool] = {}
    for blob, is_needed in told:
        if is_needed is None and blob not in needed:
            continue
        before = {one: lending.is_needed_elsewhere(one) for one in needed}
        changed = lending.left(blob) if is_needed is None else lending.told(blob, is_needed)
        if is_needed is None:
            del needed[blob]
        else:
            needed[blob] = is_needed
        for one in BLOBS:
            assert lending.is_needed_elsewhere(one) == any(needed[other] for other in needed if other != one)
        after = {one: lending.is_needed_elsewhere(one) for one in needed}
        assert sorted(changed) == [one for one in sorted(after) if one != blob and after[one] != before[one]]
