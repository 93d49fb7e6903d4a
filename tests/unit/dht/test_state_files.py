"""The files of a node's state: replaced as a whole, private, bounded, and never the end of a node."""

import asyncio
import logging
import os
import random
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dht.contacts import Contact
from dht.endpoints import Endpoint, pack
from dht.params import Params
from dht.records.records import Records, SavedRecord
from dht.records.saved import PEERS_MAX_BYTES, RECORDS_PER_CHUNK_COUNT
from dht.state_files import PEERS_FILE, RECORDS_FILE, StateFiles

NOW_S = 1e9
PEER = Contact(b"n" * 20, 3, (Endpoint("10.0.0.1", 29021), Endpoint("fd00::1", 29021)), b"info")
RECORD = SavedRecord(b"k" * 20, b"n" * 20, pack(PEER.endpoints), b"info", 1, 7, 60.0)


def _files(folder: Path, cluster: str = "home", now_s: float = NOW_S) -> StateFiles:
    return StateFiles(folder, cluster, Params(), lambda: now_s)


async def test_what_is_saved_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    assert await _files(folder).save_peers([PEER])
    assert await _files(folder).save_records([RECORD])
    assert await _files(folder).load_peers() == [PEER]
    assert await _files(folder, now_s=NOW_S + 20).load_records() == [RECORD._replace(remaining_s=40.0)]
    assert await _files(folder, now_s=NOW_S + 61).load_records() == []


async def test_only_this_user_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    await _files(folder).save_peers([PEER])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / PEERS_FILE).stat().st_mode) == 0o600


async def test_without_files_nothing_is_loaded_and_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _files(tmp_path).load_peers() == []
    assert await _files(tmp_path / "none").load_records() == []
    assert caplog.records == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin"),
        (b"\x80\x04pickle", "does not begin"),
        (b"dht peers 1\n" + bytes(16), "checksum"),
        (b"dht peers 2\n", "another release"),
        (b"dht peers 1\n" + bytes(PEERS_MAX_BYTES), "longer than"),
    ],
)
async def test_a_damaged_file_is_set_aside_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, reason: str
) -> None:
    (tmp_path / PEERS_FILE).write_bytes(content)
    files = _files(tmp_path)
    assert await files.load_peers() == []
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert reason in warning.getMessage()
    assert (tmp_path / f"{PEERS_FILE}.damaged").read_bytes() == content
    assert await files.load_peers() == []
    assert len(caplog.records) == 1
    assert await files.save_peers([PEER])
    assert await files.load_peers() == [PEER]


async def test_the_state_of_another_cluster_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await _files(tmp_path, "home").save_records([RECORD])
    assert await _files(tmp_path, "work").load_records() == []
    assert "cluster 'home'" in caplog.text
    (tmp_path / f"{RECORDS_FILE}.damaged").rename(tmp_path / RECORDS_FILE)
    assert await _files(tmp_path, "home").load_records() == [RECORD]


async def test_a_disk_that_takes_nothing_is_told_once_and_again_after_it_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    files = _files(folder)
    for _ in range(2):
        folder.write_text("in the way")
        assert not await files.save_peers([PEER])
        assert not await files.save_records([RECORD])
        folder.unlink()
        assert await files.save_peers([PEER])
        shutil.rmtree(folder)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "mend the permissions" in caplog.text


async def test_a_save_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _files(tmp_path)
    await files.save_peers([PEER])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not await files.save_peers([])
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [PEERS_FILE]
    assert await files.load_peers() == [PEER]


async def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    files = _files(tmp_path)
    await files.save_peers([PEER])
    (tmp_path / f".{PEERS_FILE}.x1y2").write_bytes(b"half")
    assert await files.load_peers() == [PEER]
    assert [path.name for path in tmp_path.iterdir()] == [PEERS_FILE]


async def test_many_records_leave_the_event_loop_to_others(tmp_path: Path) -> None:
    pieces_count = 5
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turns_at: list[int] = []

    def many() -> Iterator[SavedRecord]:
        for number in range(pieces_count * RECORDS_PER_CHUNK_COUNT):
            if number % RECORDS_PER_CHUNK_COUNT == 0:
                turns_at.append(turns)
            yield RECORD._replace(key=number.to_bytes(20, "big"))

    async with asyncio.TaskGroup() as tasks:
        other = tasks.create_task(other_work())
        assert await _files(tmp_path).save_records(many())
        other.cancel()
    assert turns_at == sorted(set(turns_at))
    assert len(await _files(tmp_path).load_records()) == pieces_count * RECORDS_PER_CHUNK_COUNT


async def test_records_that_go_while_they_are_saved_are_left_out(tmp_path: Path) -> None:
    records, count = Records(Params()), 3 * RECORDS_PER_CHUNK_COUNT
    ids = [number.to_bytes(20, "big") for number in range(count)]
    for key in ids:
        # As many providers as keys: their places are given back one by one.
        records.add(key, Contact(key, 1, PEER.endpoints, b""), 0, 1 << 40, 3600, 0.0)

    async def members_leave() -> None:
        for node in ids:
            records.forget(node)
        records.expire(0.0, 10 * count)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(members_leave())
        assert await _files(tmp_path).save_records(records.entries(0.0))
    assert len(records) == 0
    assert len(await _files(tmp_path).load_records()) == RECORDS_PER_CHUNK_COUNT


async def test_a_store_of_records_is_the_same_after_a_restart(tmp_path: Path) -> None:
    before, after = Records(Params()), Records(Params())
    other = Contact(b"o" * 20, 5, (Endpoint("10.0.0.2", 29021),), b"")
    for number in range(500):
        for provider in (PEER, other)[: 1 + number % 2]:
            before.add(number.to_bytes(20, "big"), provider, number % 256, provider.epoch << 40, 3600, 100.0)
    assert await _files(tmp_path).save_records(before.entries(1100.0))
    # Another process, another monotonic clock, ten minutes later.
    after.restore(await _files(tmp_path, now_s=NOW_S + 600).load_records(), 7.0)
    assert len(after) == len(before) == 750
    for now, is_there in ((7.0 + 1999, True), (7.0 + 2001, False)):
        found = after.find(bytes(19) + b"\x03", 16, now, random.Random(1))
        assert {(one.provider, one.state) for one in found} == (
            {(PEER, 3), (other, 3)} if is_there else set()
        )
