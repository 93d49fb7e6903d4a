"""How daemons are asked: some at once, each for a bounded time, and one that hangs is a fact."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import pytest

from mirror.cli import cluster_doctor
from mirror.cli.main import main
from mirror.doctor.cluster.asking import AT_ONCE_COUNT, ask_all
from mirror.doctor.cluster.facts import Answer, NotAsked
from mirror.doctor.cluster.gather import ClusterAsked, gather
from mirror.doctor.cluster.port import ApiUnheard
from mirror.errors import SettingsError
from tests.support.cluster_plan import DAEMONSETS, PODS, cluster_in_order
from tests.support.plan_api import PlanApi
from tests.support.virtual_time import VirtualLoop, run_virtual


def test_500_hosts_are_asked_some_at_once_and_one_command_at_a_time_in_each() -> None:
    api = PlanApi(cluster_in_order(500))
    facts = asyncio.run(gather(api, ClusterAsked()))
    assert len(facts.told()) == 500 and len(api.commands) == 1500
    assert api.most_at_once == AT_ONCE_COUNT
    assert api.most_in_a_pod == 1


def test_a_host_that_hangs_is_given_up_and_the_others_are_asked() -> None:
    plan = cluster_in_order(AT_ONCE_COUNT + 20)
    held = {plan.pod(number)["metadata"]["name"] for number in range(20)}
    api = PlanApi(plan, held=held)

    async def ask(loop: VirtualLoop) -> Mapping[str, Answer | NotAsked]:
        return (await gather(api, ClusterAsked(), limit_s=7.0)).answers

    answers = run_virtual(ask)
    assert {name for name, one in answers.items() if isinstance(one, NotAsked)} == held
    assert {one.why for one in answers.values() if isinstance(one, NotAsked)} == {"no answer within 7 s"}
    assert len(answers) == AT_ONCE_COUNT + 20 and api.running == []


def test_only_containers_that_run_are_asked() -> None:
    plan = cluster_in_order(3)
    plan.not_running(0)
    plan.state(1)["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    api = PlanApi(plan)
    facts = asyncio.run(gather(api, ClusterAsked()))
    assert set(facts.answers) == {"peili-00002"}
    assert asyncio.run(ask_all(api, [])) == {}


def test_several_releases_are_told_apart() -> None:
    plan = cluster_in_order(1)
    second = {**plan.daemonset, "metadata": {**plan.daemonset["metadata"], "namespace": "two"}}
    plan.objects[DAEMONSETS].append(second)
    with pytest.raises(SettingsError, match="--namespace peili-system --release peili, --namespace two"):
        asyncio.run(gather(PlanApi(plan), ClusterAsked()))
    facts = asyncio.run(gather(PlanApi(plan), ClusterAsked(namespace="peili-system")))
    assert facts.namespace == "peili-system"


def test_a_chart_with_another_name_is_found_and_another_chart_is_not() -> None:
    plan = cluster_in_order(1)
    plan.daemonset["metadata"]["labels"]["app.kubernetes.io/name"] = "mirror"
    assert asyncio.run(gather(PlanApi(plan), ClusterAsked())).name == "peili"
    plan.daemonset["metadata"]["labels"]["helm.sh/chart"] = "other-1.0.0"
    assert asyncio.run(gather(PlanApi(plan), ClusterAsked())).daemonset is None


@pytest.mark.parametrize("path", ["/daemonsets", "/pods"])
def test_without_the_daemonset_or_its_pods_nothing_can_be_said(path: str) -> None:
    plan = cluster_in_order(1)
    assert plan.objects[PODS]
    with pytest.raises(ApiUnheard, match="does not list"):
        asyncio.run(gather(PlanApi(plan, forbidden=(path,)), ClusterAsked()))


# --- The command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--context", "x"], "--context is for a cluster: give --cluster as well"),
        (["--release", "x"], "--release is for a cluster"),
        (["--cluster", "--hosts-dir", "/x"], "--hosts-dir is for a host"),
        (["--cluster", "--mirror", "ghcr.io"], "--mirror is for a host"),
    ],
)
def test_flags_of_a_host_and_of_a_cluster_do_not_go_together(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["doctor", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_without_the_extra_it_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mirror.doctor.cluster.api", None)
    assert main(["doctor", "--cluster"]) == 1
    told = capsys.readouterr().err
    assert f"install {cluster_doctor.EXTRA};" in told and told.startswith("peili: --cluster needs")


def test_no_kubeconfig_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--cluster", "--kubeconfig", "/no/such/file"]) == 1
    assert "there is no kubeconfig at /no/such/file" in capsys.readouterr().err
