"""The probe over the real client, against a registry: what it makes of each answer, and how often it asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.origin.base import Endpoint, Repository, Standing
from mirror.origin.client import OriginClient
from mirror.origin.credentials import Credentials
from mirror.origin.memory import OriginMemory, Remembered
from mirror.origin.probe import (
    DEADLINE_S,
    DETAIL_MAX_LENGTH,
    REMEMBER_S,
    REMEMBERED_MAX_COUNT,
    SILENT_S,
    SLOW_S,
    OriginProbe,
)
from mirror.origin.resolver import AddressGuard
from tests.support.oci_image import build_image
from tests.support.recording_mirror import Status
from tests.support.token_origin import RESET, Answer, Asked, BlackHole, Good, TokenOrigin, rate_limited

NOW_S = 1_800_000_000.0
PUBLIC = Repository("registry.corp", "team/open")
PRIVATE = Repository("registry.corp", "team/closed")
IMAGE = build_image(7, [1000])
# Of what waits for an answer that must come.
PATIENCE_S = 10.0


class OneRoute:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def route(self, registry: str) -> Sequence[Endpoint]:
        return [self.endpoint]


def client_of(endpoint: Endpoint, docker_config: Path | None = None) -> OriginClient:
    credentials = Credentials(docker_config, lambda: 0.0)
    return OriginClient(OneRoute(endpoint), credentials, AddressGuard(), lambda: 0.0)


@dataclass(slots=True)
class Bed:
    origin: TokenOrigin
    memory: OriginMemory
    probe: OriginProbe
    now: float = 0.0

    def heads(self) -> int:
        return len(self.origin.of("head"))


@asynccontextmanager
async def probing(
    deadline_s: float = DEADLINE_S, turn_wait_s: float = PATIENCE_S, under_way_max_count: int = 16
) -> AsyncIterator[Bed]:
    async with TokenOrigin(auth="bearer") as origin:
        origin.add(IMAGE, PUBLIC.name, "1")
        origin.add(IMAGE, PRIVATE.name, "1", is_private=True)
        async with client_of(Endpoint(f"{origin.url}/v2", named_by_user=True)) as client:
            memory = OriginMemory()
            bed: Bed
            probe = OriginProbe(
                client,
                memory,
                clock=lambda: bed.now,
                wall=lambda: NOW_S,
                deadline_s=deadline_s,
                turn_wait_s=turn_wait_s,
                under_way_max_count=under_way_max_count,
            )
            bed = Bed(origin, memory, probe)
            async with asyncio.timeout(PATIENCE_S):
                yield bed


async def test_what_anybody_may_read_is_public() -> None:
    async with probing() as bed:
        probed = await bed.probe.probe(PUBLIC, "1")
        assert probed.standing is Standing.PUBLIC
        assert probed.head is not None
        assert probed.head.digest == Digest.parse(IMAGE.manifest.digest)
        assert bed.memory.recall(PUBLIC, NOW_S) == Remembered(True, True, None)


async def test_what_not_everybody_may_read_is_refused() -> None:
    async with probing() as bed:
        probed = await bed.probe.probe(PRIVATE, "1")
        assert (probed.standing, probed.head) == (Standing.REFUSED, None)
        assert bed.memory.recall(PRIVATE, NOW_S) == Remembered(True, False, NOW_S)


async def test_credentials_do_not_make_it_public(tmp_path: Path) -> None:
    async with probing() as bed:
        bed.origin.users["ann"] = "secret"
        config = tmp_path / "config.json"
        auths = {bed.origin.authority: {"username": "ann", "password": "secret"}}
        config.write_text(json.dumps({"auths": auths}))
        async with client_of(Endpoint(f"{bed.origin.url}/v2", named_by_user=True), config) as client:
            await client.head(PRIVATE, "1", is_anonymous=False)
            probe = OriginProbe(client, bed.memory, lambda: 0.0, lambda: NOW_S)
            assert (await probe.probe(PRIVATE, "1")).standing is Standing.REFUSED


@pytest.mark.parametrize(
    ("answer", "standing", "is_reached"),
    [
        (Status(401), Standing.REFUSED, True),
        (Status(403), Standing.REFUSED, True),
        (Status(404), Standing.ABSENT, True),
        (rate_limited(), Standing.RATE_LIMITED, True),
        (rate_limited("2"), Standing.RATE_LIMITED, True),
        (rate_limited("60"), Standing.RATE_LIMITED, True),
        (Status(500), Standing.FAILING, False),
        (Status(503), Standing.FAILING, False),
        (RESET, Standing.FAILING, False),
    ],
    ids=["401", "403", "404", "429", "429 for 2 s", "429 for 60 s", "500", "503", "reset"],
)
async def test_each_answer_has_its_standing(answer: Answer, standing: Standing, is_reached: bool) -> None:
    async with probing() as bed:
        bed.origin.behave(answer)
        probed = await bed.probe.probe(PUBLIC, "1")
        assert (probed.standing, probed.head) == (standing, None)
        assert 0 < len(probed.detail) <= DETAIL_MAX_LENGTH
        assert bed.memory.was_reached_lately(PUBLIC.registry, NOW_S) is is_reached
        assert not bed.memory.is_public_lately(PUBLIC, NOW_S)


async def test_a_registry_that_is_not_there_fails() -> None:
    async with probing() as bed:
        await bed.origin.refuse()
        assert (await bed.probe.probe(PUBLIC, "1")).standing is Standing.FAILING
        assert not bed.memory.was_reached_lately(PUBLIC.registry, NOW_S)


async def test_a_registry_that_never_answers_fails_within_the_deadline() -> None:
    async with probing(deadline_s=0.2) as bed:
        bed.origin.behave(BlackHole())
        probed = await bed.probe.probe(PUBLIC, "1")
        assert probed.standing is Standing.FAILING
        assert "0.2 s" in probed.detail


async def test_an_address_that_nobody_named_is_not_asked() -> None:
    async with probing() as bed:
        async with client_of(Endpoint("http://169.254.169.254/v2")) as client:
            probe = OriginProbe(client, bed.memory, lambda: 0.0, lambda: NOW_S)
            assert (await probe.probe(PUBLIC, "1")).standing is Standing.NOT_ASKED
        assert bed.memory.recall(PUBLIC, NOW_S) == Remembered(False, False, None)


async def test_an_answer_is_remembered_for_a_while_whatever_it_was() -> None:
    async with probing() as bed:
        for answer, standing in ((Good(), Standing.PUBLIC), (Status(404), Standing.ABSENT)):
            bed.origin.behave(answer)
            first = await bed.probe.probe(PUBLIC, "1")
            assert first.standing is standing
            asked = bed.heads()
            bed.now += REMEMBER_S - 0.1
            assert await bed.probe.probe(PUBLIC, "1") == first
            assert bed.heads() == asked
            bed.now += 0.2
            await bed.probe.probe(PUBLIC, "1")
            assert bed.heads() == asked + 1
            bed.now += 2 * REMEMBER_S


async def test_each_reference_is_a_question_of_its_own() -> None:
    async with probing() as bed:
        assert (await bed.probe.probe(PUBLIC, "1")).standing is Standing.PUBLIC
        assert (await bed.probe.probe(PUBLIC, "2")).standing is Standing.ABSENT
        assert (await bed.probe.probe(PUBLIC, IMAGE.manifest.digest)).standing is Standing.PUBLIC
        assert (await bed.probe.probe(PRIVATE, "1")).standing is Standing.REFUSED


async def test_who_asks_together_asks_once() -> None:
    async with probing() as bed:
        bed.origin.behave(Good(first_byte_after_s=0.1))
        answers = await asyncio.gather(*(bed.probe.probe(PUBLIC, "1") for _ in range(20)))
        assert {answer.standing for answer in answers} == {Standing.PUBLIC}
        assert bed.memory.changes_count == 1
        assert sum(exchange.status == 200 for exchange in bed.origin.of("head")) == 1


async def test_when_who_asked_is_cancelled_another_one_asks() -> None:
    async with probing() as bed:
        bed.origin.behave(BlackHole(), "head", times=1)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(bed.probe.probe(PUBLIC, "1"))
            others = [tasks.create_task(bed.probe.probe(PUBLIC, "1")) for _ in range(3)]
            while not bed.heads():
                await asyncio.sleep(0.005)
            first.cancel()
        assert {task.result().standing for task in others} == {Standing.PUBLIC}
        assert first.cancelled()


async def test_too_many_questions_at_once_say_nothing_of_the_registry() -> None:
    async with probing(deadline_s=0.5, turn_wait_s=0.1, under_way_max_count=1) as bed:
        bed.origin.behave(BlackHole())
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(bed.probe.probe(PUBLIC, "1"))
            second = tasks.create_task(bed.probe.probe(PRIVATE, "1"))
        assert first.result().standing is Standing.FAILING
        assert second.result().standing is Standing.NOT_ASKED
        bed.origin.behave_well()
        # It is asked now: that it was not is not remembered.
        assert (await bed.probe.probe(PRIVATE, "1")).standing is Standing.REFUSED
        assert (await bed.probe.probe(PUBLIC, "1")).standing is Standing.FAILING


async def test_who_waits_for_a_turn_has_the_whole_deadline_then() -> None:
    async with probing(deadline_s=0.5, under_way_max_count=1) as bed:
        bed.origin.behave(BlackHole(), "head", times=1)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(bed.probe.probe(PUBLIC, "1"))
            second = tasks.create_task(bed.probe.probe(PUBLIC, "2"))
        assert first.result().standing is Standing.FAILING
        assert second.result().standing is Standing.ABSENT


async def test_it_remembers_no_more_than_so_many() -> None:
    async with probing() as bed:
        await bed.origin.refuse()
        for number in range(REMEMBERED_MAX_COUNT + 1):
            await bed.probe.probe(PUBLIC, str(number))
        await bed.origin.listen_again()
        bed.origin.behave(Status(404))
        assert (await bed.probe.probe(PUBLIC, "1")).standing is Standing.FAILING
        assert (await bed.probe.probe(PUBLIC, "0")).standing is Standing.ABSENT


async def test_a_registry_that_keeps_us_waiting_is_left_alone_for_a_while() -> None:
    """Each pull would wait for the same silence again."""
    async with probing(deadline_s=0.1) as bed:

        def swallow(_: Asked) -> Answer:
            bed.now += SLOW_S
            return BlackHole()

        bed.origin.answer = swallow
        assert (await bed.probe.probe(PUBLIC, "1")).standing is Standing.FAILING
        bed.now += SILENT_S - 0.1
        for reference in ("1", "other"):
            assert (await bed.probe.probe(PUBLIC, reference)).standing is Standing.FAILING
        assert bed.heads() == 1
        bed.origin.behave_well()
        bed.now += 0.2
        assert (await bed.probe.probe(PUBLIC, "1")).standing is Standing.PUBLIC


async def test_a_failure_that_is_told_at_once_is_no_silence() -> None:
    async with probing() as bed:
        bed.origin.behave(Status(503))
        assert (await bed.probe.probe(PUBLIC, "1")).standing is Standing.FAILING
        bed.origin.behave_well()
        assert (await bed.probe.probe(PUBLIC, "other")).standing is Standing.ABSENT
