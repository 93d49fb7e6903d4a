"""Credentials from a real file and from real helper programs, as they change, hang and talk too much."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mirror import child_process
from mirror.origin import credentials as credentials_module
from mirror.origin.credentials import FILE_MAX_BYTES, HELPER_FAILED_KEPT_S, HELPER_KEPT_S, Credentials
from mirror.origin.docker_config import CredentialsDamaged, IdentityToken, Password
from tests.support.store_beds import eventually


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def write(path: Path, document: object) -> None:
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def one(username: str, password: str = "word") -> object:
    return {"auths": {"reg.example": {"username": username, "password": password}}}


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def install(folder: Path, name: str, script: str) -> None:
    """What was asked, and how often, stands in NAME.log."""
    program = folder / f"docker-credential-{name}"
    program.write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {folder / name}.log\n{script}\n')
    program.chmod(0o755)


def asked(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.log").read_text().splitlines()


async def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    for path in (None, tmp_path / "none.json"):
        credentials = Credentials(path, Clock())
        credentials.load()
        assert await credentials.find("reg.example") is None


async def test_a_changed_file_is_read_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, clock = tmp_path / "config.json", Clock()
    credentials = Credentials(path, clock)
    credentials.load()
    for username in ("first", "second"):
        write(path, one(username))
        clock.now_s += 1
        assert await credentials.find("reg.example") == Password(username, "word")
    # A secret that is mounted by Kubernetes changes by a link.
    write(tmp_path / "new.json", one("linked"))
    path.unlink()
    path.symlink_to("new.json")
    clock.now_s += 1
    assert await credentials.find("reg.example") == Password("linked", "word")
    assert caplog.text == ""
    path.unlink()
    clock.now_s += 1
    assert await credentials.find("reg.example") is None


async def test_while_the_file_is_damaged_the_old_one_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "config.json", Clock()
    write(path, one("me"))
    credentials = Credentials(path, clock)
    credentials.load()
    write(path, '{"auths": {"reg.example": {"password": "sEcReT')
    for _ in range(3):
        clock.now_s += 1
        assert await credentials.find("reg.example") == Password("me", "word")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text and "sEcReT" not in caplog.text
    write(path, one("mended"))
    clock.now_s += 1
    assert await credentials.find("reg.example") == Password("mended", "word")


@pytest.mark.parametrize("content", ["{", "x" * (FILE_MAX_BYTES + 1), '{"credsStore": "a/b"}'])
def test_a_damaged_file_ends_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(CredentialsDamaged, match="mend or remove it"):
        Credentials(path, Clock()).load()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CredentialsDamaged, match="cannot be read"):
        Credentials(tmp_path, Clock()).load()


async def test_a_helper_is_asked_first_and_seldom(tmp_path: Path, helpers: Path) -> None:
    path, clock = tmp_path / "config.json", Clock()
    write(path, {"credHelpers": {"reg.example": "mine"}, "auths": {"reg.example": {"identitytoken": "t"}}})
    install(helpers, "mine", """echo '{"ServerURL":"x","Username":"me","Secret":"from helper"}'""")
    credentials = Credentials(path, clock)
    found = await asyncio.gather(*(credentials.find("reg.example") for _ in range(5)))
    assert set(found) == {Password("me", "from helper")}
    assert asked(helpers, "mine") == ["get reg.example"]
    clock.now_s += HELPER_KEPT_S + 1
    await credentials.find("reg.example")
    assert len(asked(helpers, "mine")) == 2


async def test_what_helpers_said_is_bounded_and_forgotten_with_the_file(
    tmp_path: Path, helpers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_module, "HELPER_ANSWERS_MAX_COUNT", 2)
    path, clock = tmp_path / "config.json", Clock()
    write(path, {"credsStore": "store"})
    install(helpers, "store", """echo '{"Username":"me","Secret":"s"}'""")
    credentials = Credentials(path, clock)
    for host in ("a", "b", "c", "c", "b", "a"):
        await credentials.find(host)
    assert asked(helpers, "store") == ["get a", "get b", "get c", "get a"]
    write(path, {"credsStore": "store", "auths": {}})
    clock.now_s += 1
    await credentials.find("a")
    assert len(asked(helpers, "store")) == 5


async def test_docker_hub_is_asked_for_by_its_key(tmp_path: Path, helpers: Path) -> None:
    path = tmp_path / "config.json"
    write(path, {"credsStore": "store"})
    install(helpers, "store", """echo '{"Username":"<token>","Secret":"t"}'""")
    assert await Credentials(path, Clock()).find("registry-1.docker.io") == IdentityToken("t")
    assert asked(helpers, "store") == ["get https://index.docker.io/v1/"]


@pytest.mark.parametrize(
    ("script", "is_warned"),
    [
        ("echo credentials not found in native keychain; exit 1", False),
        ("echo nonsense", True),
        ("exec yes '{}'", True),
        ("exec sleep 60", True),
    ],
)
async def test_a_helper_that_tells_nothing_leaves_the_file(
    script: str,
    is_warned: bool,
    tmp_path: Path,
    helpers: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credentials_module, "HELPER_TIMEOUT_S", 0.5)
    path, clock = tmp_path / "config.json", Clock()
    write(path, {"credsStore": "store", "auths": {"reg.example": {"identitytoken": "t"}}})
    install(helpers, "store", f"echo $$ > {helpers}/pid\n{script}")
    credentials = Credentials(path, clock)
    begun_s = time.monotonic()
    for _ in range(2):
        assert await credentials.find("reg.example") == IdentityToken("t")
    assert time.monotonic() - begun_s < 5
    assert len(asked(helpers, "store")) == 1
    assert bool(caplog.records) == is_warned
    # Nothing of it is left running.
    assert not Path(f"/proc/{(helpers / 'pid').read_text().strip()}").exists()
    if is_warned:
        clock.now_s += HELPER_FAILED_KEPT_S + 1
        await credentials.find("reg.example")
        assert len(asked(helpers, "store")) == 2


async def test_a_helper_that_has_filled_its_pipe_is_left(
    tmp_path: Path, helpers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio has stopped reading then, and would wait for the pipe's end for ever."""
    begin = asyncio.create_subprocess_exec

    async def begun(*words: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await begin(*words, **options)
        answer = process.stdout
        assert answer is not None

        async def read(count: int) -> bytes:
            monkeypatch.setattr(answer, "read", at_once)
            await eventually(lambda: answer._paused)  # type: ignore[attr-defined]
            return await at_once(count)

        at_once = answer.read
        monkeypatch.setattr(answer, "read", read)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", begun)
    monkeypatch.setattr(credentials_module, "HELPER_ANSWER_MAX_BYTES", 10)
    path = tmp_path / "config.json"
    write(path, {"credsStore": "store", "auths": {"reg.example": {"identitytoken": "t"}}})
    install(helpers, "store", "exec yes '{}'")
    async with asyncio.timeout(10):
        assert await Credentials(path, Clock()).find("reg.example") == IdentityToken("t")


async def test_a_helper_whose_child_holds_its_pipe_is_left(
    tmp_path: Path, helpers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_module, "HELPER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(child_process, "GONE_MAX_S", 0.2)
    path = tmp_path / "config.json"
    write(path, {"credsStore": "store", "auths": {"reg.example": {"identitytoken": "t"}}})
    install(helpers, "store", f"sleep 60 & echo $! > {helpers}/child; wait")
    try:
        async with asyncio.timeout(10):
            assert await Credentials(path, Clock()).find("reg.example") == IdentityToken("t")
    finally:
        os.kill(int((helpers / "child").read_text()), signal.SIGKILL)


async def test_a_helper_that_is_not_there_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.json"
    write(path, {"credsStore": "peili-has-no-such"})
    assert await Credentials(path, Clock()).find("reg.example") is None
    assert "docker-credential-peili-has-no-such" in caplog.text


async def test_a_question_that_is_given_up_ends_its_helper(tmp_path: Path, helpers: Path) -> None:
    path, pid = tmp_path / "config.json", helpers / "pid"
    write(path, {"credsStore": "store"})
    install(helpers, "store", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60")
    credentials = Credentials(path, Clock())
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(credentials.find("reg.example"))
        while not pid.exists():
            await asyncio.sleep(0.01)
        task.cancel()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
