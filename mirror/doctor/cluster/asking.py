"""Asks every daemon what it knows and what its host's doctor finds: some at once, each for a bounded time. One that
cannot be asked is a fact, and keeps no other from being asked.

By exec in the daemon's container, one command after the other, since what they need counts against the pod's memory
(25 MiB for a second). Why exec and no forwarded port: the admin API shows no host's doctor, and in two of the chart's
three network modes it is not at the pod's loopback (docs/doctor.md, Rights, says what that costs).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from mirror.doctor.cluster.facts import Answer, NotAsked
from mirror.doctor.cluster.objects import Pod
from mirror.doctor.cluster.port import ClusterApi, NotRun, Printed
from mirror.doctor.cluster.told import HostFinding, NotOurs, read_findings, read_told

# Connections to the API server at once: 500 hosts are asked in half a minute, and nobody else has to wait.
AT_ONCE_COUNT: Final = 48
# Three commands of well under a second, on a host that is busy; a stuck containerd alone takes doctor 20.
HOST_LIMIT_S: Final = 40.0
CONTAINER: Final = "daemon"
# Flags of serve that doctor takes as well; all others of its settings are variables in the chart's container.
_SHARED_FLAGS: Final = ("--mirror=", "--containerd-namespace=")
_DOCTOR_EXIT_CODES: Final = (0, 3)


async def ask_all(
    api: ClusterApi, pods: Iterable[Pod], limit_s: float = HOST_LIMIT_S
) -> dict[str, Answer | NotAsked]:
    """By the name of the pod, of those whose container runs."""
    answers: dict[str, Answer | NotAsked] = {}
    gate = asyncio.Semaphore(AT_ONCE_COUNT)

    async def ask_one(pod: Pod) -> None:
        async with gate:
            try:
                async with asyncio.timeout(limit_s):
                    answers[pod.name] = await ask(api, pod)
            except TimeoutError:
                answers[pod.name] = NotAsked(f"no answer within {limit_s:g} s")
            except NotRun as exc:
                answers[pod.name] = NotAsked(str(exc))

    async with asyncio.TaskGroup() as tasks:
        for pod in pods:
            if is_running(pod):
                tasks.create_task(ask_one(pod))
    return answers


async def ask(api: ClusterApi, pod: Pod) -> Answer:
    """Raises: NotRun, for what keeps a command from being run; not for what it says."""

    async def run(*command: str) -> Printed:
        return await api.run(pod.metadata.namespace, pod.name, _container(pod), command)

    told, trouble = None, ""
    status = await run("peili", "status", "--json")
    if status.code == 0:
        peers = await run("peili", "peers", "--json")
        try:
            told = read_told(status.out, peers.out if peers.code == 0 else None)
        except NotOurs as exc:
            trouble = str(exc)
    else:
        trouble = _last_line(status)
    findings, doctor_trouble = _findings(await run("peili", "doctor", "--json", *_flags(pod)))
    return Answer(told, findings, trouble, doctor_trouble)


def is_running(pod: Pod) -> bool:
    return pod.status.phase == "Running" and any(
        one.name == _container(pod) and one.state.waiting is None and one.state.terminated is None
        for one in pod.status.container_statuses or ()
    )


def _findings(doctor: Printed) -> tuple[tuple[HostFinding, ...], str]:
    if doctor.code not in _DOCTOR_EXIT_CODES:
        return (), _last_line(doctor)
    try:
        return read_findings(doctor.out), ""
    except NotOurs as exc:
        return (), str(exc)


def _container(pod: Pod) -> str:
    names = [one.name for one in pod.spec.containers]
    return CONTAINER if CONTAINER in names or not names else names[0]


def _flags(pod: Pod) -> Sequence[str]:
    """As the container has them: Kubernetes made one $ of two."""
    arguments = next((one.args or [] for one in pod.spec.containers if one.name == _container(pod)), [])
    return [one.replace("$$", "$") for one in arguments if one.startswith(_SHARED_FLAGS)]


def _last_line(printed: Printed) -> str:
    lines = printed.err.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("peili: ") if lines else f"exit code {printed.code}"
