"""What the labels of containerd's garbage collection say of a blob."""

from __future__ import annotations

import pytest

from mirror.keep.fates import Fate, Fates
from mirror.oci.digest import Digest

MANIFEST, INDEX, CONFIG, FIRST, SECOND = (
    Digest.of(name) for name in (b"manifest", b"index", b"config", b"1", b"2")
)
REFERS = "containerd.io/gc.ref.content"
# As seen on containerd 1.6.20, 1.7.24 and 2.1.9.
KEEPING = {
    "containerd.io/distribution.source.reg.test": "lib/app",
    f"{REFERS}.config": str(CONFIG),
    f"{REFERS}.l.0": str(FIRST),
    f"{REFERS}.l.1": str(SECOND),
}
DISCARDING = {
    "containerd.io/distribution.source.reg.test": "lib/app",
    f"{REFERS}.config": str(CONFIG),
}


def test_of_a_manifest_that_keeps_its_layers_everything_stays() -> None:
    fates = Fates()
    assert not fates.note(str(MANIFEST), KEEPING)
    assert {fates.of(digest) for digest in (MANIFEST, CONFIG, FIRST, SECOND)} == {Fate.STAYS}


def test_layers_that_a_manifest_lists_and_does_not_refer_to_go() -> None:
    fates = Fates()
    assert fates.note(str(MANIFEST), DISCARDING)
    assert fates.of(FIRST) is None, "its bytes were not read"
    fates.note_layers([FIRST, SECOND])
    assert {fates.of(digest) for digest in (FIRST, SECOND)} == {Fate.GOES}
    assert {fates.of(digest) for digest in (MANIFEST, CONFIG)} == {Fate.STAYS}


@pytest.mark.parametrize("keeping_first", [True, False])
def test_what_one_manifest_keeps_stays(keeping_first: bool) -> None:
    fates = Fates()
    if keeping_first:
        fates.note(str(INDEX), KEEPING)
    fates.note(str(MANIFEST), DISCARDING)
    fates.note_layers([FIRST])
    if not keeping_first:
        fates.note(str(INDEX), KEEPING)
    assert fates.of(FIRST) is Fate.STAYS


def test_an_index_is_no_manifest_without_layers() -> None:
    fates = Fates()
    assert not fates.note(str(INDEX), {f"{REFERS}.m.0": str(MANIFEST)})
    assert fates.of(MANIFEST) is Fate.STAYS


def test_of_what_nobody_mentions_nothing_is_known() -> None:
    fates = Fates()
    fates.note(str(MANIFEST), {"containerd.io/distribution.source.reg.test": str(FIRST)})
    assert fates.of(FIRST) is None
