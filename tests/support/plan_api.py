"""The Kubernetes API of a ClusterPlan, in memory: the port that doctor asks, without a connection. Only equality in
selectors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from mirror.doctor.cluster.port import ListRefused, NotRun, Printed
from tests.support.cluster_plan import DAEMONSETS, ClusterPlan
from tests.support.helm_chart import Object

Item = TypeVar("Item")


def selected(plan: ClusterPlan, path: str, query: Mapping[str, str]) -> list[Object]:
    """What a list at this path holds."""
    group, _, rest = path.partition("/namespaces/")
    namespace, _, plural = rest.partition("/")
    collection = f"{group}/{plural}" if rest else path
    assert collection in plan.objects, path
    return [
        it
        for it in plan.objects[collection]
        if (not rest or it["metadata"].get("namespace") == namespace)
        and all(_at(it["metadata"].get("labels", {}), one) for one in _terms(query.get("labelSelector", "")))
        and all(_at(it, one) for one in _terms(query.get("fieldSelector", "")))
    ]


def _terms(selector: str) -> list[str]:
    return [one for one in selector.split(",") if one]


def _at(values: Mapping[str, Any], term: str) -> bool:
    key, _, value = term.partition("=")
    return bool(values.get(key) == value)


@dataclass(slots=True)
class PlanApi:
    """Implements `port.ClusterApi`. `forbidden`: ends of paths. `held`: pods whose commands never end. `most_at_once`:
    commands that ran at the same moment, in all and in one pod."""

    plan: ClusterPlan
    forbidden: tuple[str, ...] = ()
    not_run: dict[str, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    commands: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    most_at_once: int = 0
    most_in_a_pod: int = 0

    async def items(self, path: str, kind: type[Item], *, labels: str = "", fields: str = "") -> list[Item]:
        if path.endswith(self.forbidden) and self.forbidden:
            raise ListRefused(f"may not list {path.rpartition('/')[2]}")
        found = selected(self.plan, path, {"labelSelector": labels, "fieldSelector": fields})
        return [msgspec.convert(it, kind) for it in found]

    async def run(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> Printed:
        assert (namespace, container) == (self.plan.objects[DAEMONSETS][0]["metadata"]["namespace"], "daemon")
        self.commands.append((pod, tuple(command)))
        self.running.append(pod)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.most_in_a_pod = max(self.most_in_a_pod, self.running.count(pod))
        try:
            # Others run meanwhile.
            await asyncio.sleep(0)
            if pod in self.held:
                await asyncio.Event().wait()
            if pod in self.not_run:
                raise NotRun(self.not_run[pod])
            return self.plan.daemons[pod].answer(list(command))
        finally:
            self.running.remove(pod)
