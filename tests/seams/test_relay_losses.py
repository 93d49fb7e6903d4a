"""A large blob over connections that are lost again and again."""

from __future__ import annotations

from pathlib import Path

from mirror.origin.base import Repository
from tests.support.relay_bed import assert_sent_once, marked_file, relay_bed
from tests.support.token_origin import Answer, Asked, Cut, FileContent, TokenOrigin

REPOSITORY = Repository("registry.example", "team/app")
SIZE_BYTES = 1 << 30


async def test_a_gibibyte_survives_ten_losses_and_no_byte_is_sent_twice(tmp_path: Path) -> None:
    digest = marked_file(tmp_path / "layer", SIZE_BYTES)
    asked_count = lost_count = 0

    def cut_every_third(_: Asked) -> Answer | None:
        nonlocal asked_count, lost_count
        asked_count += 1
        if asked_count % 3 or lost_count == 10:
            return None
        lost_count += 1
        # Somewhere in the range, at an odd byte.
        return Cut(999_983 * lost_count % (1 << 20))

    async with TokenOrigin() as origin, relay_bed(tmp_path, f"{origin.url}/v2") as bed:
        origin.add_blob(REPOSITORY.name, FileContent(tmp_path / "layer", SIZE_BYTES), str(digest))
        origin.answer = cut_every_third
        assert await bed.sha256(REPOSITORY, digest) == digest.encoded
        assert bed.received_bytes == SIZE_BYTES
        assert_sent_once(origin, SIZE_BYTES)
    assert lost_count == 10
