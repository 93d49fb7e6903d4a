"""The file of what is remembered of origins: replaced as a whole, private, bounded, and never the end of a daemon."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from mirror.origin.base import Repository, Standing
from mirror.origin.memory import (
    PRIVATE_MAX_COUNT,
    PUBLIC_MAX_COUNT,
    REFERENCES_MAX_COUNT,
    REGISTRIES_MAX_COUNT,
    Findings,
    FoundPublic,
    OriginMemory,
    Remembered,
)
from mirror.origin.memory_file import FILE_MAX_BYTES, ORIGINS_FILE, REGISTRY_MAX_LENGTH, MemoryFile, encode

NOW_S = 1_800_000_000.0
NGINX = Repository("docker.io", "library/nginx")
OURS = Repository("registry.corp:5000", "team/app")
# Of every test that waits for the disk.
PATIENCE_S = 5.0


def file_in(folder: Path, now_s: float = NOW_S, save_every_s: float = 3600.0) -> MemoryFile:
    return MemoryFile(folder, lambda: now_s, save_every_s)


def noted() -> OriginMemory:
    memory = OriginMemory()
    memory.note(NGINX, "1.27", Standing.PUBLIC, NOW_S)
    memory.note(OURS, "1", Standing.REFUSED, NOW_S)
    return memory


@asynccontextmanager
async def running(file: MemoryFile, memory: OriginMemory) -> AsyncIterator[None]:
    """Ends it as the daemon does: by cancellation, and waits for it."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(file.run(memory))
        await asyncio.sleep(0)
        yield
        task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_is_saved_at_the_end_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    memory = await file_in(folder).load()
    async with running(file_in(folder), memory):
        memory.note(NGINX, "1.27", Standing.PUBLIC, NOW_S)
        memory.note(OURS, "1", Standing.REFUSED, NOW_S)
    loaded = await file_in(folder, NOW_S + 60).load()
    assert loaded.recall(NGINX, NOW_S + 60) == Remembered(True, True, None)
    assert loaded.recall(OURS, NOW_S + 60) == Remembered(True, False, NOW_S)
    assert loaded.findings(NOW_S + 60).public == {NGINX: FoundPublic(NOW_S, ("1.27",))}


async def test_only_this_user_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    memory = OriginMemory()
    async with running(file_in(folder), memory):
        memory.reached("docker.io", NOW_S)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / ORIGINS_FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [ORIGINS_FILE]


async def test_a_change_is_saved_while_it_runs(tmp_path: Path) -> None:
    memory = OriginMemory()
    path = tmp_path / ORIGINS_FILE
    async with running(file_in(tmp_path, save_every_s=0.01), memory):
        memory.reached("docker.io", NOW_S)
        await until(path.exists)
        assert json.loads(path.read_text())["reached_at_s"] == {"docker.io": NOW_S}
        memory.reached("ghcr.io", NOW_S)
        await until(lambda: "ghcr.io" in path.read_text())


async def test_what_does_not_change_is_not_written(tmp_path: Path) -> None:
    memory = noted()
    path = tmp_path / ORIGINS_FILE
    async with running(file_in(tmp_path, save_every_s=0.01), memory):
        await asyncio.to_thread(lambda: None)
    assert not path.exists()
    async with running(file_in(tmp_path, save_every_s=0.01), memory):
        memory.reached("ghcr.io", NOW_S)
        await until(path.exists)
        written = path.stat()
        # A save every hundredth of a second would have replaced it by now.
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await until(lambda: path.stat().st_ino != written.st_ino)
        assert path.stat().st_mtime_ns == written.st_mtime_ns


async def test_no_file_is_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = await file_in(tmp_path / "none").load()
    assert memory.findings(NOW_S) == Findings(NOW_S)
    assert caplog.records == []


PUBLIC = {"registry": "docker.io", "name": "a", "at_s": 1.0, "references": ["1"]}
PRIVATE = {"registry": "docker.io", "name": "a", "at_s": 1.0}


def stored(**changes: object) -> bytes:
    whole: dict[str, object] = {
        "version": 1,
        "saved_at_s": NOW_S,
        "reached_at_s": {},
        "public": [],
        "private": [],
    }
    return json.dumps(whole | changes).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"version": 1}', "saved_at_s"),
        (stored(version=2), "another release (version 2)"),
        (stored(colour="red"), "colour"),
        (stored(saved_at_s=1e13), "saved_at_s"),
        (stored(reached_at_s={"docker.io": "yesterday"}), "reached_at_s"),
        (stored(reached_at_s={"docker.io": NOW_S + 1}), "after that of its saving"),
        (stored(reached_at_s={"x" * (REGISTRY_MAX_LENGTH + 1): 1.0}), "damaged"),
        (stored(reached_at_s={f"r{n}": 1.0 for n in range(REGISTRIES_MAX_COUNT + 1)}), "damaged"),
        (stored(public=[PUBLIC | {"references": []}]), "references"),
        (stored(public=[PUBLIC | {"at_s": NOW_S + 1}]), "after that of its saving"),
        (stored(public=[PUBLIC] * (PUBLIC_MAX_COUNT + 1)), "public"),
        (stored(private=[PRIVATE | {"at_s": NOW_S + 1}]), "after that of its saving"),
        (stored(public=[PUBLIC], private=[PRIVATE]), "public and that it is not"),
        (stored() + b" " * FILE_MAX_BYTES, "longer than"),
    ],
)
async def test_a_file_that_cannot_be_used_is_set_aside_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, reason: str
) -> None:
    (tmp_path / ORIGINS_FILE).write_bytes(content)
    file = file_in(tmp_path)
    memory = await file.load()
    assert memory.findings(NOW_S) == Findings(NOW_S)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert reason in warning.getMessage()
    assert (tmp_path / f"{ORIGINS_FILE}.damaged").read_bytes() == content
    await file.load()
    assert len(caplog.records) == 1
    async with running(file, memory):
        memory.note(NGINX, "1", Standing.PUBLIC, NOW_S)
    assert (await file.load()).is_public_lately(NGINX, NOW_S)


async def test_a_file_that_is_as_it_should_be_is_read(tmp_path: Path) -> None:
    """Beside the cases above, which differ from it in one point each."""
    (tmp_path / ORIGINS_FILE).write_bytes(stored(public=[PUBLIC], reached_at_s={"docker.io": NOW_S}))
    memory = await file_in(tmp_path).load()
    assert memory.was_reached_lately("docker.io", NOW_S)


async def test_a_file_of_a_clock_that_was_ahead_keeps_its_ages(tmp_path: Path) -> None:
    public = [PUBLIC | {"at_s": NOW_S - 1000.0}]
    (tmp_path / ORIGINS_FILE).write_bytes(stored(public=public))
    early_s = NOW_S - 3600 * 24 * 365
    memory = await file_in(tmp_path, early_s).load()
    assert memory.public_at_s(Repository("docker.io", "a"), early_s) == early_s - 1000.0


async def test_a_clock_that_began_in_1970_leaves_a_file_that_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ORIGINS_FILE).write_bytes(stored(public=[PUBLIC | {"at_s": NOW_S - 1000.0}]))
    memory = await file_in(tmp_path, 10.0).load()
    async with running(file_in(tmp_path, 20.0), memory):
        memory.reached("docker.io", 20.0)
    again = await file_in(tmp_path, 30.0).load()
    assert again.public_at_s(Repository("docker.io", "a"), 30.0) == pytest.approx(10.0 - 1000.0)
    assert caplog.records == []


async def test_leftovers_of_a_save_that_was_killed_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / f".{ORIGINS_FILE}.abc"
    leftover.write_bytes(b"half")
    await file_in(tmp_path).load()
    assert not leftover.exists()


async def test_a_disk_that_does_not_take_it_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "data"
    blocked.write_bytes(b"a file where the directory should be")
    memory = OriginMemory()
    async with running(file_in(blocked, save_every_s=0.01), memory):
        memory.reached("docker.io", NOW_S)
        await until(lambda: len(caplog.records) == 1)
        # At the end it tries again.
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text


async def test_a_disk_that_takes_it_again_gets_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "data"
    blocked.write_bytes(b"a file where the directory should be")
    memory = OriginMemory()
    async with running(file_in(blocked, save_every_s=0.01), memory):
        memory.reached("docker.io", NOW_S)
        await until(lambda: len(caplog.records) == 1)
        blocked.unlink()
        await until((blocked / ORIGINS_FILE).exists)
        shutil.rmtree(blocked)
        blocked.write_bytes(b"again")
        memory.reached("docker.io", NOW_S)
        await until(lambda: len(caplog.records) == 2)


async def test_a_file_that_cannot_be_read_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ORIGINS_FILE).mkdir()
    memory = await file_in(tmp_path).load()
    assert memory.findings(NOW_S) == Findings(NOW_S)
    assert "cannot be read" in caplog.text
    assert (tmp_path / ORIGINS_FILE).is_dir()


def test_all_that_can_be_remembered_fits_with_the_longest_names() -> None:
    registry = "r" * (REGISTRY_MAX_LENGTH - 6)
    references = tuple("t" * 135 for _ in range(REFERENCES_MAX_COUNT))
    findings = Findings(
        NOW_S,
        {f"{registry}{n:06}": NOW_S - 0.1 for n in range(REGISTRIES_MAX_COUNT)},
        {
            Repository(registry, "n" * 249 + f"{n:06}"): FoundPublic(NOW_S - 0.1, references)
            for n in range(PUBLIC_MAX_COUNT)
        },
        {Repository(registry, "p" * 249 + f"{n:06}"): NOW_S - 0.1 for n in range(PRIVATE_MAX_COUNT)},
    )
    assert len(encode(findings)) < FILE_MAX_BYTES


async def test_a_name_that_is_too_long_for_the_file_does_not_spoil_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = "r" * (REGISTRY_MAX_LENGTH + 1)
    memory = OriginMemory()
    async with running(file_in(tmp_path), memory):
        memory.note(NGINX, "1", Standing.PUBLIC, NOW_S)
        memory.note(Repository(long, "a"), "1", Standing.PUBLIC, NOW_S)
        memory.note(Repository(long, "b"), "1", Standing.REFUSED, NOW_S)
    loaded = await file_in(tmp_path).load()
    assert loaded.is_public_lately(NGINX, NOW_S)
    assert len(loaded.findings(NOW_S).public) == 1
    assert caplog.records == []
