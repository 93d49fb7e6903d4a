"""Answers for tags: asks what the rules need, in their order. Decides nothing; see `mirror.tags.rules`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.origin.base import Probed, Prober, Repository, Standing
from mirror.origin.memory import Remembered
from mirror.tags.base import Attestation, OwnTag, TagName
from mirror.tags.rules import Answer, AskedAt, Need, Question, TagPolicy, decide, needs


class OwnTags(Protocol):
    def own(self, name: TagName) -> OwnTag | None: ...


class Witnesses(Protocol):
    async def ask(self, name: TagName) -> Sequence[Attestation]: ...


@dataclass(frozen=True, slots=True)
class TagPorts:
    """`prober` None: no registry is asked. `remembered`: of a repository, at a Unix time in seconds."""

    own: OwnTags
    witnesses: Witnesses
    prober: Prober | None
    remembered: Callable[[Repository, float], Remembered]
    is_stale_allowed: Callable[[Repository], bool]
    other_hosts_count: Callable[[], int]
    unix_clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Told:
    """`probed`: what the registry said, where it was asked."""

    answer: Answer
    probed: Probed | None


class TagAnswers:
    def __init__(self, policy: TagPolicy, ports: TagPorts) -> None:
        self._policy = policy
        self._ports = ports

    async def answer(self, name: TagName, asked_at: AskedAt) -> Told:
        """Within the deadlines of the prober and of the witnesses. Never raises for what the network does."""
        ports = self._ports
        probed: Probed | None = None
        attestations: Sequence[Attestation] | None = None
        while True:
            # Each time: the probe teaches what is remembered.
            question = self._question(name, asked_at)
            wanted = needs(question, probed, attestations)
            if Need.PROBE in wanted:
                probed = await self._probe(name)
            elif Need.ATTESTATIONS in wanted:
                attestations = await ports.witnesses.ask(name)
            else:
                return Told(decide(question, probed, attestations or ()), probed)

    async def _probe(self, name: TagName) -> Probed:
        if self._ports.prober is None:
            return Probed(Standing.NOT_ASKED, detail="--origin off")
        return await self._ports.prober.probe(name.repository, name.tag)

    def _question(self, name: TagName, asked_at: AskedAt) -> Question:
        ports, now_s = self._ports, self._ports.unix_clock()
        return Question(
            policy=self._policy,
            asked_at=asked_at,
            own=ports.own.own(name),
            remembered=ports.remembered(name.repository, now_s),
            is_stale_allowed=ports.is_stale_allowed(name.repository),
            other_hosts_count=ports.other_hosts_count(),
            now_s=now_s,
        )
