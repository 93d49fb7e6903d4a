"""Registries heard of in requests: which get an entry in a real hosts directory, and which never do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from containerd.hosts import state
from containerd.hosts.cleanup import cleanup
from containerd.hosts.manifest import Entry, Manifest
from mirror.origin.connections import Connections, Timeouts
from mirror.origin.first_seen import (
    FIRST_PAUSE_S,
    REGISTRIES_MAX_COUNT,
    SETTLED_S,
    WAITING_MAX_COUNT,
    Entries,
    FirstSeen,
)
from mirror.origin.hosts_routes import HostsRoutes
from mirror.origin.proxies import Proxies
from mirror.origin.resolver import AddressGuard
from tests.support.hosts_runs import URL, run_configure, write
from tests.support.scripted_names import ScriptedNames
from tests.support.token_origin import Answer, Status, TokenOrigin, server_tls

DEADLINE_S = 10.0
# Files are written and synced in a thread; a machine with a slow disk takes some ten milliseconds for each.
POLL_S = 0.005


@dataclass(slots=True)
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Bed:
    hosts_dir: Path
    origin: TokenOrigin
    names: ScriptedNames
    clock: Clock
    seen: FirstSeen = field(init=False)

    def has(self, registry: str) -> bool:
        return (self.hosts_dir / registry / "hosts.toml").exists()

    async def until_added(self, registry: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not self.has(registry):
                await asyncio.sleep(POLL_S)

    async def until_idle(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.seen.waiting_count:
                await asyncio.sleep(POLL_S)

    async def judge(self, registry: str) -> None:
        self.seen.saw(registry)
        await self.until_idle()

    @property
    def ping_count(self) -> int:
        return len(self.origin.of("ping"))


@asynccontextmanager
async def bed_of(folder: Path, users_default: str | None = None) -> AsyncIterator[Bed]:
    """`_default` leads every registry to an HTTPS origin of the test: so the user names it."""
    tls, authority = server_tls(folder)
    hosts_dir = folder / "certs.d"
    async with TokenOrigin(auth="bearer", tls=tls) as origin:
        default = users_default or f'server = "https://127.0.0.1:{origin.port}"\nca = "{authority}"\n'
        write(hosts_dir / "_default/hosts.toml", default)
        run_configure(hosts_dir, registries=["docker.io"])
        bed = Bed(hosts_dir, origin, ScriptedNames({}), Clock())
        routes = HostsRoutes(
            hosts_dir, config_path=None, containerd_version=(2, 1), registry_url=URL, clock=bed.clock
        )
        guard = AddressGuard(names=lambda: bed.names, named_with=routes.named_with)
        entries = Entries(hosts_dir, URL, "upstream", None, (2, 1), None)
        async with (
            Connections(guard, bed.clock, Proxies("", "", ()), Timeouts()) as connections,
            asyncio.TaskGroup() as group,
        ):
            bed.seen = FirstSeen(entries, routes, connections, bed.clock)
            running = group.create_task(bed.seen.run())
            yield bed
            running.cancel()


@pytest.fixture
async def bed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Bed]:
    caplog.set_level(logging.INFO, "mirror")
    async with bed_of(tmp_path) as found:
        yield found


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [it.getMessage() for it in caplog.records if it.levelno == level and it.name.startswith("mirror")]


async def test_a_registry_heard_of_gets_an_entry(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    bed.seen.saw("quay.io")
    await bed.until_added("quay.io")
    text = (bed.hosts_dir / "quay.io/hosts.toml").read_text()
    assert f"{URL}/fallback/v2" in text
    # What `_default` said for it still counts.
    assert f"https://127.0.0.1:{bed.origin.port}" in text
    manifest = state.load(bed.hosts_dir)
    assert manifest is not None
    assert {it.registry for it in manifest.entries if it.first_seen} == {"quay.io"}
    await bed.until_idle()
    lines = said(caplog, logging.INFO)
    assert len([line for line in lines if "quay.io" in line]) == 1
    assert said(caplog, logging.WARNING) == []
    cleanup(bed.hosts_dir)
    assert not bed.has("quay.io")


async def test_it_is_asked_about_once_however_often_it_is_heard_of(bed: Bed) -> None:
    for _ in range(1000):
        bed.seen.saw("quay.io")
    await bed.until_added("quay.io")
    for _ in range(1000):
        bed.seen.saw("quay.io")
    bed.clock.now_s += SETTLED_S + 1
    await bed.judge("quay.io")
    assert [it.asked.authorization for it in bed.origin.of("ping")] == [""]


@pytest.mark.parametrize(
    "registry",
    [
        "localhost",
        "localhost:2375",
        "any.localhost",
        "metadata.google.internal",
        "127.0.0.1:5000",
        "169.254.169.254",
        "10.0.0.1",
        "[::1]:5000",
        "[fd00::1]",
        *("../x", "a/b", "nodots", "", "x" * 300, "docker.io"),
    ],
)
async def test_these_never_get_one(bed: Bed, registry: str) -> None:
    before = sorted(bed.hosts_dir.rglob("*"))
    await bed.judge(registry)
    new = {
        path.relative_to(bed.hosts_dir).parts[0] for path in bed.hosts_dir.rglob("*") if path not in before
    }
    assert new == set()
    assert bed.ping_count == 0


async def test_without_our_manifest_nothing_is_written(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    cleanup(bed.hosts_dir)
    await bed.judge("quay.io")
    assert not bed.has("quay.io")
    assert bed.ping_count == 0
    # Configured later, perhaps by another process: it is found out.
    run_configure(bed.hosts_dir, registries=["docker.io"])
    bed.clock.now_s += FIRST_PAUSE_S + 1
    await bed.judge("quay.io")
    assert bed.has("quay.io")
    assert said(caplog, logging.WARNING) == []


@pytest.mark.parametrize("answer", [Status(500), Status(503)])
async def test_an_origin_that_fails_is_asked_again_after_a_pause_that_doubles(
    bed: Bed, answer: Answer
) -> None:
    bed.origin.behave(answer, "ping", times=1)
    await bed.judge("quay.io")
    assert not bed.has("quay.io")
    await bed.judge("quay.io")
    assert not bed.has("quay.io")
    bed.clock.now_s += FIRST_PAUSE_S + 1
    bed.origin.behave(answer, "ping", times=1)
    await bed.judge("quay.io")
    assert not bed.has("quay.io")
    bed.clock.now_s += FIRST_PAUSE_S + 1
    await bed.judge("quay.io")
    assert not bed.has("quay.io")
    bed.clock.now_s += FIRST_PAUSE_S
    await bed.judge("quay.io")
    assert bed.has("quay.io")
    assert bed.ping_count == 3


@pytest.mark.parametrize("answer", [Status(200), Status(401), Status(403), Status(404), Status(429)])
async def test_any_answer_of_an_origin_that_is_well_counts(bed: Bed, answer: Status) -> None:
    bed.origin.behave(answer, "ping")
    bed.seen.saw("quay.io")
    await bed.until_added("quay.io")
    assert bed.ping_count == 1


async def test_a_certificate_that_does_not_fit_is_no_answer(tmp_path: Path) -> None:
    async with bed_of(tmp_path) as bed:
        ours = f'server = "https://127.0.0.1:{bed.origin.port}"\n'
        default = bed.hosts_dir / "_default/hosts.toml"
        trusted = default.read_text()
        default.write_text(ours)
        bed.seen.saw("quay.io")
        await bed.until_idle()
        assert not bed.has("quay.io")
        default.write_text(trusted)
        bed.clock.now_s += FIRST_PAUSE_S + 1
        await bed.judge("quay.io")
        assert bed.has("quay.io")


async def test_plain_http_is_no_answer(tmp_path: Path) -> None:
    async with TokenOrigin() as plain, bed_of(tmp_path, f'server = "{plain.url}"\n') as bed:
        bed.seen.saw("quay.io")
        await bed.until_idle()
        assert not bed.has("quay.io")
        assert plain.journal == []


async def test_a_name_that_leads_to_this_host_is_not_even_connected_to(tmp_path: Path) -> None:
    async with bed_of(tmp_path, '[host."https://m.example"]\n') as bed:
        bed.names.answer("evil.test", ["127.0.0.1"])
        bed.seen.saw(f"evil.test:{bed.origin.port}")
        await bed.until_idle()
        assert bed.names.asked == ["evil.test"]
        assert bed.origin.journal == []
        assert not bed.has(f"evil.test:{bed.origin.port}")


async def test_no_more_than_some_but_those_that_an_operator_named_do_not_count(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    known = state.load(bed.hosts_dir)
    assert known is not None
    extra = [entry_of(f"op{number}.test", first_seen=False) for number in range(100)]
    extra += [entry_of(f"seen{number}.test", first_seen=True) for number in range(REGISTRIES_MAX_COUNT - 1)]
    state.save(bed.hosts_dir, Manifest(known.made_directories, (*known.entries, *extra)))
    bed.seen.saw("quay.io")
    await bed.until_added("quay.io")
    for registry in ("ghcr.io", "gcr.io"):
        bed.seen.saw(registry)
        await bed.until_idle()
        assert not bed.has(registry)
    assert bed.ping_count == 1
    assert len(said(caplog, logging.WARNING)) == 1


async def test_an_entry_that_only_keeps_default_from_hiding_a_directory_becomes_a_whole_one(bed: Bed) -> None:
    known = state.load(bed.hosts_dir)
    assert known is not None
    entry = Entry("quay.io/hosts.toml", "quay.io", False, "0" * 64, None)
    state.save(bed.hosts_dir, Manifest(known.made_directories, (*known.entries, entry)))
    await bed.judge("quay.io")
    assert bed.has("quay.io")


def entry_of(registry: str, *, first_seen: bool) -> Entry:
    return Entry(f"{registry}/hosts.toml", registry, True, "0" * 64, None, first_seen)


async def test_a_directory_that_cannot_be_written_is_told_once(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    # The tests may run as root, whom no mode stops.
    (bed.hosts_dir / "_peili/manifest.json.new").mkdir()
    for registry in ("quay.io", "ghcr.io", "quay.io"):
        bed.seen.saw(registry)
        await bed.until_idle()
    assert not bed.has("quay.io")
    assert len(said(caplog, logging.WARNING)) == 1
    (bed.hosts_dir / "_peili/manifest.json.new").rmdir()
    bed.clock.now_s += FIRST_PAUSE_S + 1
    await bed.judge("quay.io")
    assert bed.has("quay.io")


async def test_a_damaged_file_of_the_user_is_left_alone(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    write(bed.hosts_dir / "quay.io/hosts.toml", "server = ")
    bed.names.answer("quay.io", ["127.0.0.1"])
    bed.seen.saw("quay.io")
    await bed.until_idle()
    assert (bed.hosts_dir / "quay.io/hosts.toml").read_text() == "server = "
    assert "line 1" in said(caplog, logging.WARNING)[0]


async def test_a_flood_of_names_waits_in_no_queue(bed: Bed) -> None:
    for number in range(10_000):
        bed.seen.saw(f"flood{number}.localhost")
    assert bed.seen.waiting_count == WAITING_MAX_COUNT
    await bed.until_idle()
    bed.seen.saw("quay.io")
    await bed.until_added("quay.io")
