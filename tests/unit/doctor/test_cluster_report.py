"""What is printed of a cluster: a page however many hosts there are, and what docs/doctor.md promises."""

from __future__ import annotations

import re
from pathlib import Path

from mirror.doctor.cluster.diagnosis import diagnose
from mirror.doctor.cluster.finding import CLUSTER_NOTES, ClusterCode
from mirror.doctor.cluster.report import document, lines
from mirror.doctor.finding import Code
from mirror.doctor.report import problem_count
from tests.support.cluster_findings import alone, seen
from tests.support.cluster_plan import cluster_in_order

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "doctor.md").read_text()


# --- Many hosts


def test_500_hosts_with_every_trouble_are_a_page() -> None:
    plan = cluster_in_order(500)
    for number in range(500):
        plan.find(
            number, "nobody-asked", evidence=f"{number} pulled in 3600 s: registry.example/app:{number}"
        )
        plan.find(number, "hosts-shadowed", evidence="quay.io")
        plan.daemon(number).status["version"] = f"0.{number}"
        plan.node(number)["status"]["nodeInfo"]["containerRuntimeVersion"] = "cri-o://1.33"
        if number % 2:
            plan.daemon(number).status["clock_offset_s"] = float(number)
    facts = seen(plan)
    findings = diagnose(facts)
    printed = lines(facts, findings)
    assert len(printed) < 40 and all(len(line) < 1500 for line in printed), [len(line) for line in printed]
    told = {one.code: one for one in findings}
    assert set(told) == {
        *("nobody-asked", "hosts-shadowed", "releases-differ", "runtime-not-containerd", "clocks-differ"),
    }
    # The document has them all.
    assert len(told["nobody-asked"].hosts) == 500
    assert told["nobody-asked"].evidence.endswith("; and 497 others")


def test_hosts_are_named_by_code_once() -> None:
    plan = cluster_in_order(9)
    for number in range(8):
        plan.find(number, "hosts-shadowed", evidence="quay.io" if number else "ghcr.io")
    one = alone(plan)
    assert one.what.startswith("8 hosts: ")
    assert one.evidence == "quay.io on host-1, host-2, host-3, host-4, host-5, and 2 more; ghcr.io on host-0"


# --- What is printed


def test_problems_come_before_notes() -> None:
    plan = cluster_in_order(3)
    plan.policy(ingress=[])
    plan.find(1, "nobody-asked")
    facts = seen(plan)
    assert [one.code for one in diagnose(facts)] == ["nobody-asked", "network-policy-may-block"]
    assert problem_count(diagnose(facts)) == 1
    assert lines(facts, diagnose(facts))[-1] == "1 problem, 1 note; 3 of 3 daemons answered"


def test_the_page_names_every_key_of_the_document() -> None:
    plan = cluster_in_order(1)
    plan.find(0, "nobody-asked")
    facts = seen(plan)
    told = document(facts, diagnose(facts))
    findings = told["findings"]
    assert isinstance(findings, list) and told["healthy"] is False
    assert told["nodes"] == told["pods"] == told["answered"] == 1 and told["namespace"] == "peili-system"
    section = PAGE.partition("## A cluster")[2]
    for key in (*told, *findings[0]):
        assert f"`{key}`" in section, key


def test_the_page_lists_every_code_with_its_level_and_a_mend() -> None:
    section = PAGE.partition("## A cluster")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \| (problem|note) \| (.+) \| (.+) \|$", section, re.MULTILINE)
    told = {code: level for code, level, _, mend in rows if mend.strip()}
    assert len(told) == len(rows)
    assert told == {code.value: "note" if code in CLUSTER_NOTES else "problem" for code in ClusterCode}


def test_no_code_of_a_cluster_is_one_of_a_host() -> None:
    assert not {code.value for code in ClusterCode} & {code.value for code in Code}
