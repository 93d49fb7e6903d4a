"""Where pieces lie: in the spool, in a file of the own containerd's, in memory; and when files are closed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from pathlib import Path

import pytest

from mirror.herd.own_bytes import OwnBytes, Portion, SpoolSpace
from mirror.oci.byterange import ByteSpan
from mirror.swarm.pieces import PieceLayout

MIB = 1024 * 1024
LAYOUT = PieceLayout(4 * MIB + 5, MIB)
DATA = random.Random(3).randbytes(LAYOUT.size_bytes)
SMALL = PieceLayout(25, 10)


class Disk:
    """Counts what was made and given back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.made: list[int] = []
        self.given_back_count = 0

    async def make(self) -> SpoolSpace:
        await asyncio.sleep(0)
        return self._space()

    def _space(self) -> SpoolSpace:
        descriptor = os.open(self._folder / f"{len(self.made)}", os.O_RDWR | os.O_CREAT)
        self.made.append(descriptor)

        def give_back() -> None:
            self.given_back_count += 1
            os.close(descriptor)

        return SpoolSpace(descriptor, give_back)


def file_of(folder: Path, data: bytes) -> int:
    """As the own containerd's."""
    path = folder / "ingest"
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def spooled(own: OwnBytes, *pieces: int) -> None:
    for piece in pieces:
        span = LAYOUT.span(piece, piece + 1)
        await own.write(span.start, DATA[span.start : span.stop])
        own.spooled(piece)


async def test_what_was_written_is_read_across_pieces(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    own = OwnBytes(LAYOUT, disk.make)
    await spooled(own, 2, 1)
    span = ByteSpan(MIB + 7, 3 * MIB - 3)
    assert own.portions(span) == [Portion(disk.made[0], span)], "pieces of one file are one portion"
    assert await own.read(span) == DATA[span.start : span.stop]
    assert own.portions(ByteSpan(MIB - 1, 2 * MIB)) is None, "piece 0 is not here"
    own.close()


async def test_two_that_write_at_once_share_one_file(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    own = OwnBytes(LAYOUT, disk.make)
    await asyncio.gather(spooled(own, 0), spooled(own, 4))
    assert len(disk.made) == 1
    own.close()


async def test_pieces_of_two_files_are_two_portions(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    own = OwnBytes(LAYOUT, disk.make)
    await spooled(own, 1, 2)
    ingest = file_of(tmp_path, DATA)
    own.take_own(ingest)
    own.owned(0)
    own.owned(1)
    portions = own.portions(ByteSpan(5, 2 * MIB + 5))
    assert portions == [
        Portion(ingest, ByteSpan(5, 2 * MIB)),
        Portion(disk.made[0], ByteSpan(2 * MIB, 2 * MIB + 5)),
    ], "the own containerd's file first"
    assert await own.read(ByteSpan(0, 3 * MIB)) == DATA[: 3 * MIB]
    own.close()


async def test_small_blobs_are_no_files(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    own = OwnBytes(SMALL, disk.make)
    await own.write(0, b"0123456789")
    own.spooled(0)
    assert await own.read(ByteSpan(2, 8)) == b"234567"
    assert disk.made == []
    (portion,) = own.portions(ByteSpan(2, 8)) or []
    own.close()
    await asyncio.sleep(0)
    assert not is_open(portion.descriptor)


async def test_nothing_is_closed_while_it_is_held(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    own = OwnBytes(LAYOUT, disk.make)
    await spooled(own, 0)
    ingest = file_of(tmp_path, DATA)
    own.take_own(ingest)
    with own.hold(), own.hold():
        own.lose_own()
        own.close()
        await asyncio.sleep(0)
        assert is_open(ingest)
        assert disk.given_back_count == 0
    assert is_open(ingest), "a sendfile of this round of the loop may still have it"
    await asyncio.sleep(0)
    assert not is_open(ingest)
    assert disk.given_back_count == 1
    own.close()
    await asyncio.sleep(0)
    assert disk.given_back_count == 1


async def test_a_write_after_the_end_leaves_no_file(tmp_path: Path) -> None:
    """A run that was cancelled late."""
    disk = Disk(tmp_path)
    own = OwnBytes(LAYOUT, disk.make)
    own.close()
    await own.write(0, b"late")
    await asyncio.sleep(0)
    assert disk.given_back_count == len(disk.made) == 1


async def test_another_file_of_the_own_containerd_has_none_of_the_pieces(tmp_path: Path) -> None:
    own = OwnBytes(LAYOUT, Disk(tmp_path).make)
    own.take_own(file_of(tmp_path, DATA))
    own.owned(0)
    own.take_own(file_of(tmp_path, DATA[:10]))
    assert own.mask == 0
    own.close()


async def test_the_spool_is_given_back_where_the_own_file_stands_for_all(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    own = OwnBytes(LAYOUT, disk.make)
    await spooled(own, 0, 1)
    ingest = file_of(tmp_path, DATA)
    own.take_own(ingest)
    with own.hold():
        own.stands_whole()
        await asyncio.sleep(0)
        assert disk.given_back_count == 0
    await asyncio.sleep(0)
    assert disk.given_back_count == 1
    await spooled(own, 2)
    assert len(disk.made) == 1, "nothing is written any more"
    whole = ByteSpan(0, LAYOUT.size_bytes)
    assert own.portions(whole) == [Portion(ingest, whole)]
    own.close()


async def test_digests_of_the_pieces_that_are_here(tmp_path: Path) -> None:
    own = OwnBytes(LAYOUT, Disk(tmp_path).make)
    await spooled(own, 1, 4)
    found = await own.piece_digests(range(LAYOUT.count))
    assert found == {
        1: hashlib.sha256(DATA[MIB : 2 * MIB]).digest(),
        4: hashlib.sha256(DATA[4 * MIB :]).digest(),
    }
    own.close()


async def test_what_is_forgotten_is_not_here(tmp_path: Path) -> None:
    own = OwnBytes(LAYOUT, Disk(tmp_path).make)
    await spooled(own, 0, 1)
    own.forget(0b01)
    assert own.mask == 0b10
    assert own.portions(ByteSpan(0, 1)) is None
    own.close()


async def test_also_what_stands_in_the_own_file_is_forgotten(tmp_path: Path) -> None:
    own = OwnBytes(LAYOUT, Disk(tmp_path).make)
    own.take_own(file_of(tmp_path, DATA))
    own.owned(0)
    own.owned(2)
    own.forget(0b001)
    assert own.mask == 0b100
    own.close()


async def test_a_file_with_the_same_bytes_takes_the_place_of_the_own_one(tmp_path: Path) -> None:
    own = OwnBytes(LAYOUT, Disk(tmp_path).make)
    former = file_of(tmp_path, DATA)
    own.take_own(former)
    own.owned(1)
    later = file_of(tmp_path, DATA)
    own.exchange_own(later)
    span = LAYOUT.span(1, 2)
    assert own.mask == 0b10
    assert own.portions(span) == [Portion(later, span)]
    await asyncio.sleep(0)
    assert not is_open(former)
    own.close()
    await asyncio.sleep(0)
    assert not is_open(later), "closed with the rest"


async def test_what_is_lost_after_it_stood_for_all_can_be_spooled_again(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    own = OwnBytes(LAYOUT, disk.make)
    await spooled(own, 0)
    own.take_own(file_of(tmp_path, DATA))
    own.stands_whole()
    own.spooled(1)
    own.lose_own()
    assert own.mask == 0, "the spool was given back"
    await spooled(own, 3)
    assert own.mask == 0b1000
    assert await own.read(LAYOUT.span(3, 4)) == DATA[3 * MIB : 4 * MIB]
    own.close()


async def test_bytes_of_two_files_get_into_one_hash(tmp_path: Path) -> None:
    own = OwnBytes(LAYOUT, Disk(tmp_path).make)
    await spooled(own, 1, 2)
    own.take_own(file_of(tmp_path, DATA))
    own.owned(0)
    hasher = hashlib.sha256()
    await own.hash_into(hasher, ByteSpan(5, 3 * MIB))
    assert hasher.digest() == hashlib.sha256(DATA[5 : 3 * MIB]).digest()
    own.close()


async def test_a_file_that_became_shorter_is_an_error_and_no_other_hash(tmp_path: Path) -> None:
    own = OwnBytes(LAYOUT, Disk(tmp_path).make)
    own.take_own(file_of(tmp_path, DATA[: MIB + 9]))
    own.owned(0)
    own.owned(1)
    with pytest.raises(OSError, match=f"ends at {MIB + 9}, and should reach {2 * MIB}"):
        await own.hash_into(hashlib.sha256(), ByteSpan(0, 2 * MIB))
    with pytest.raises(OSError, match=f"ends at {MIB + 9}, and should reach {2 * MIB}"):
        await own.read(ByteSpan(0, 2 * MIB))
    own.close()
