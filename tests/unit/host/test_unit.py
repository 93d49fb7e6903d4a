"""What stands in the unit, and that its numbers are those of the daemon and of the chart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mirror import daemon
from mirror.cli import main
from mirror.host import unit
from mirror.host.errors import HostError
from mirror.host.unit import ServiceFacts, service

CHART = Path(__file__).resolve().parents[3] / "helm" / "peili"
# "leave within two more" (mirror/daemon.py).
LEAVING_S = 2
FACTS = ServiceFacts(
    program=("/opt/peili/bin/peili",),
    serve_flags=("--bootstrap=lan", "--cluster-secret-file=/etc/peili/secret"),
    data_dir="/var/lib/peili",
    hosts_dirs=("/etc/containerd/certs.d",),
)


def lines(facts: ServiceFacts) -> list[str]:
    """Without comments."""
    return [
        line for line in service(facts).content.decode().splitlines() if line and not line.startswith("#")
    ]


def said(facts: ServiceFacts, key: str) -> list[str]:
    return [line.partition("=")[2] for line in lines(facts) if line.startswith(f"{key}=")]


def test_it_is_a_file_of_systemd() -> None:
    change = service(FACTS)
    assert (change.path, change.mode) == ("/etc/systemd/system/peili.service", 0o644)
    assert change.content.endswith(b"\n") and b"\n\n\n" not in change.content
    sections = [line for line in lines(FACTS) if line.startswith("[")]
    assert sections == ["[Unit]", "[Service]", "[Install]"]


def test_the_same_facts_give_the_same_bytes() -> None:
    other = replace(FACTS, environment={"B": "2", "A": "1"}, reads=("/root/b", "/root/a"))
    again = replace(FACTS, environment={"A": "1", "B": "2"}, reads=("/root/a", "/root/b", "/root/a/"))
    assert service(other) == service(again)


def test_it_runs_serve_and_comes_after_containerd() -> None:
    facts = replace(
        FACTS, after=("k3s.service", "k3s-agent.service"), environment={"HTTPS_PROXY": "http://p%20"}
    )
    assert said(facts, "ExecStart") == [
        "/opt/peili/bin/peili serve --bootstrap=lan --cluster-secret-file=/etc/peili/secret"
    ]
    assert said(facts, "After")[0] == "k3s.service k3s-agent.service"
    assert said(facts, "Environment") == ["PEILI_LOG_FORMAT=text", '"HTTPS_PROXY=http://p%%20"']
    assert said(facts, "WorkingDirectory") == []
    facts = replace(facts, program=("/usr/bin/python3", "-m", "mirror"), working_dir="/opt/peili")
    assert said(facts, "ExecStart")[0].startswith("/usr/bin/python3 -m mirror serve ")
    assert said(facts, "WorkingDirectory") == ["/opt/peili"]


@pytest.mark.parametrize(
    ("data_dir", "key", "value"),
    [
        ("/var/lib/peili", "StateDirectory", "peili"),
        ("/var/lib/peili/", "StateDirectory", "peili"),
        ("/var/lib/a/b", "StateDirectory", "a/b"),
        ("/var/lib/../etc", "ReadWritePaths", "/var/lib/../etc"),
        ("/var/lib/a b", "ReadWritePaths", '"/var/lib/a b"'),
        ("/srv/peili", "ReadWritePaths", "/srv/peili"),
        ("/home/me/peili", "BindPaths", "/home/me/peili"),
        ("/tmp/peili", "BindPaths", "/tmp/peili"),
    ],
)
def test_the_data_directory_is_writable_wherever_it_is(data_dir: str, key: str, value: str) -> None:
    facts = replace(FACTS, data_dir=data_dir)
    keys = {"StateDirectory", "ReadWritePaths", "BindPaths"}
    found = {it: said(facts, it) for it in keys}
    hosts = found["ReadWritePaths"].pop()
    assert hosts == "-/etc/containerd/certs.d"
    assert found == {it: [value] if it == key else [] for it in keys}
    assert said(facts, "StateDirectoryMode") == (["0700"] if key == "StateDirectory" else [])
    assert len(said(facts, "RequiresMountsFor")) == 1


@pytest.mark.parametrize(
    ("reads", "shown", "home"),
    [
        ((), [], "yes"),
        (("/opt/peili", "/usr", "/run/containerd/containerd.sock", "/rooted", "/homes/a"), [], "yes"),
        (("/root/p", "/root/p/bin", "/root/pq", "/usr"), ["-/root/p", "-/root/pq"], "tmpfs"),
        (("/home/me/a b",), ['-"/home/me/a b"'], "tmpfs"),
        (("/tmp/p",), ["-/tmp/p"], "yes"),
    ],
)
def test_what_it_needs_of_what_is_hidden_is_shown(reads: Sequence[str], shown: list[str], home: str) -> None:
    facts = replace(FACTS, reads=reads)
    assert [it.replace('-"', '-"') for it in said(facts, "BindReadOnlyPaths")] == shown
    assert said(facts, "ProtectHome") == [home]
    assert said(facts, "PrivateTmp") == ["yes"]


def test_the_program_is_shown_wherever_it_is() -> None:
    facts = replace(FACTS, program=("/root/bin/python", "/home/me/peili.pyz"), working_dir="/tmp/here")
    shown = ["-/home/me/peili.pyz", "-/root/bin/python", "-/tmp/here"]
    assert said(facts, "BindReadOnlyPaths") == shown


def test_a_data_directory_at_home_does_not_open_it() -> None:
    assert said(replace(FACTS, data_dir="/home/me/peili"), "ProtectHome") == ["tmpfs"]


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, program=("peili",)),
        replace(FACTS, serve_flags=("a\0",)),
        replace(FACTS, data_dir="data"),
        replace(FACTS, hosts_dirs=("/a\nExecStart=/bin/sh",)),
        replace(FACTS, reads=("/home/a:b",)),
        replace(FACTS, after=("containerd",)),
        replace(FACTS, working_dir="here"),
    ],
    ids=range(7),
)
def test_what_cannot_be_said_is_refused(facts: ServiceFacts) -> None:
    with pytest.raises(HostError):
        service(facts)


def test_the_back_off_is_for_those_who_know_it() -> None:
    assert said(FACTS, "RestartSteps") == said(replace(FACTS, systemd_version=253), "RestartSteps") == []
    assert said(replace(FACTS, systemd_version=254), "RestartSteps") == [str(unit.RESTART_STEPS_COUNT)]


def test_its_numbers_are_those_of_the_daemon() -> None:
    assert daemon.DRAIN_S + LEAVING_S < unit.STOP_TIMEOUT_S
    assert main.EXIT_USAGE == unit.EXIT_USAGE


def test_its_numbers_are_those_of_the_chart() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["resources"]["limits"]["memory"] == f"{unit.MEMORY_MAX_MIB}Mi"
    probe = (CHART / "templates" / "daemonset.yaml").read_text().partition("livenessProbe:")[2]
    period, count = (
        int(re.findall(rf"{key}: (\d+)", probe)[0]) for key in ("periodSeconds", "failureThreshold")
    )
    assert period * count == unit.WATCHDOG_S
