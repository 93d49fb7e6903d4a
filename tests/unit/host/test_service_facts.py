"""The unit fits every kind of host, and tells nobody a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.host.distribution import DOCKER, K3S, MICROK8S, RKE2, STOCK, Distribution
from mirror.host.facts import Answer, SocketFacts
from mirror.host.found import Installation
from mirror.host.plan import HostPlan, HostsDir
from mirror.host.plan import ServeSettings as Planned
from mirror.host.service_facts import Program, proxies, service_facts
from mirror.host.unit import ServiceFacts, service
from mirror.settings import load, resolve
from mirror.settings.machine import surroundings
from mirror.settings.setting import Command

PROGRAM = Program(("/opt/peili/bin/peili",), None, (Path("/home/me/venv"),))


def facts_of(distribution: Distribution, **flags: str) -> ServiceFacts:
    sock, certs = distribution.sock, "/etc/containerd/certs.d"
    values = load.read(Command.SERVE, flags, {})
    settings = resolve.serve(values, surroundings(), Path("/var/lib/peili")).settings
    chosen = Installation(distribution, SocketFacts(sock, Answer.ANSWERS))
    plan = HostPlan(Planned(sock, ("k8s.io",), certs, certs), (HostsDir(certs, certs), HostsDir("/b", "/b")))
    return service_facts(settings, chosen, plan, flags, PROGRAM, {"NO_PROXY": "here"}, systemd_version=252)


@pytest.mark.parametrize(
    ("distribution", "after"),
    [
        (STOCK, "containerd.service"),
        (K3S, "k3s.service k3s-agent.service"),
        (RKE2, "rke2-server.service rke2-agent.service"),
        (MICROK8S, "snap.microk8s.daemon-containerd.service"),
        (DOCKER, "docker.service"),
    ],
)
def test_the_daemon_is_started_after_what_brings_its_containerd(
    distribution: Distribution, after: str
) -> None:
    text = service(facts_of(distribution)).content.decode()
    assert f"\nAfter={after}\n" in text


def test_what_the_daemon_must_see_and_write_is_named() -> None:
    facts = facts_of(K3S, cluster_secret_file="/root/secret", docker_config="/home/me/config.json")
    assert facts.reads == ("/home/me/venv", "/run/k3s/containerd", "/root/secret", "/home/me/config.json")
    assert facts.hosts_dirs == ("/etc/containerd/certs.d", "/b") and facts.data_dir == "/var/lib/peili"
    assert facts.serve_flags == (
        "--cluster-secret-file=/root/secret",
        "--docker-config=/home/me/config.json",
    )
    assert facts.environment == {"NO_PROXY": "here"} and facts.systemd_version == 252


def test_no_password_stands_in_the_unit() -> None:
    found = proxies(
        {"https_proxy": "http://me:word@p:1", "HTTP_PROXY": "http://p:2", "NO_PROXY": "a,b", "HOME": "/root"}
    )
    assert found.told == {"HTTP_PROXY": "http://p:2", "NO_PROXY": "a,b"}
    assert found.hidden == ["https_proxy"]
