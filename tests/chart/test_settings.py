"""What the chart says to the processes is what they read: flags and variables go through the real loader.

Every setting has a value, or a reason not to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mirror.cli.main import peili
from mirror.doctor.gather import asked
from mirror.settings import resolve, table
from mirror.settings.load import Values, read
from mirror.settings.model import Address, CleanupSettings, CleanupWaitSettings
from mirror.settings.setting import Command, Setting
from mirror.settings.table import settings_of
from tests.support.chart_golden import cases
from tests.support.helm_chart import (
    CASES,
    Object,
    containers,
    nested,
    objects,
    one,
    pod_specs,
    rendered,
    template,
)
from tests.support.helm_chart import settings_of as told
from tests.support.settled import AROUND, DATA_DIR, settled

# The setting to the value that decides it.
VALUES = {
    "cache-size": "peili.cacheSize",
    "containerd-sock": "peili.containerdSock",
    "containerd-namespace": "peili.containerdNamespace",
    "containerd-content-path": "peili.containerdContentPath",
    "data-dir": "peili.dataDir",
    "registry-addr": "service.registry.port",
    "peer-addr": "service.peer.port",
    "admin-addr": "service.admin.port",
    "metrics-addr": "service.metrics.port",
    "bootstrap": "peili.bootstrap",
    "cluster": "peili.cluster",
    "cluster-secret-file": "clusterSecret.existingSecret",
    "mirror": "peili.mirroredRegistries",
    "filter": "peili.registryFilters",
    "origin": "peili.origin",
    "verify": "peili.verify",
    "tags": "peili.tags",
    "stale-private": "peili.stalePrivate",
    "protect": "peili.protect",
    "docker-config": "peili.dockerConfigSecret",
    "log-level": "peili.logLevel",
    "log-format": "peili.logFormat",
    "hosts-dir": "peili.containerdRegistryConfigPath",
    "add-registries": "peili.addRegistries",
    "stale-tags": "peili.staleTags",
    "containerd-config-path": "peili.containerdConfigPath",
}
REASONS = {
    "store": "the DaemonSet shares what the hosts' containerd holds; a directory is what seeds have",
    "store-dir": "as store",
    "advertise-addr": "each host has its own: PEILI_HOST_IP, from the status of the pod",
}


def test_every_setting_has_a_value_or_a_reason() -> None:
    names = {setting.name for setting in settings_of(Command.SERVE)}
    assert VALUES.keys() | REASONS.keys() == names and not VALUES.keys() & REASONS.keys()
    defaults = yaml.safe_load((CASES.parents[2] / "helm" / "peili" / "values.yaml").read_text())
    for path in VALUES.values():
        found: Any = defaults
        for key in path.split("."):
            found = found[key]


def processes(found: list[Object]) -> Iterator[tuple[str, Command, Values]]:
    """What each process with a command of peili reads."""
    for where, spec in pod_specs(found):
        for it in containers(spec):
            arguments, environment = told(it)
            # Seed and scheduler are to come, with settings of serve; `first` and the test are other programs.
            name = next(iter(arguments), "")
            name = "serve" if name in ("seed", "scheduler") else name
            if name not in list(Command):
                continue
            command = Command(name)
            loaded = peili.get_command(click.Context(peili), command)
            assert loaded is not None
            flags = loaded.make_context(name, arguments[1:]).params
            own = {key: text for key, text in environment.items() if key.startswith("PEILI_")}
            yield f"{where} {it['name']}", command, read(command, flags, own)


@pytest.mark.parametrize("name", cases())
def test_every_process_reads_what_it_is_told_without_a_warning(
    case: Callable[[str], list[Object]], name: str
) -> None:
    read_by = []
    for where, command, values in processes(case(name)):
        warnings = settled(command, values).warnings
        if name in ("hostport", "nodeport") and command is Command.SERVE:
            # The price that values.yaml tells of.
            warnings = tuple(text for text in warnings if "is not loopback" not in text)
        assert warnings == (), where
        read_by.append(where)
    daemon = "DaemonSet/mirror daemon" if name == "everything" else "DaemonSet/peili daemon"
    assert daemon in read_by
    assert len(read_by) == {"default": 4, "minimal": 1, "everything": 6, "hostport": 4, "nodeport": 4}[name]


def of(found: list[Object], where: str) -> Values:
    (values,) = [values for name, _, values in processes(found) if name.endswith(where)]
    return values


def test_every_value_arrives(case: Callable[[str], list[Object]]) -> None:
    """everything.yaml has no default but this."""
    values = of(case("everything"), "mirror daemon")
    assert [name for name in VALUES if not values.is_given(_setting(name))] == []
    plain = of(case("default"), "peili daemon")
    same = {name for name in VALUES if values.all(_setting(name)) == plain.all(_setting(name))}
    assert same == {"tags"}


def _setting(name: str) -> Setting[object]:
    (found,) = [setting for setting in table.TABLE if setting.name == name]
    return found


def test_texts_arrive_as_they_were_written(case: Callable[[str], list[Object]]) -> None:
    """Kubernetes reads `$`, a shell would read more, and commas divide variables."""
    values = of(case("everything"), "mirror daemon")
    wanted = yaml.safe_load((CASES / "everything.yaml").read_text())["peili"]
    assert [it.pattern for it in values.all(table.FILTER)] == wanted["registryFilters"]
    assert [str(it) for it in values.all(table.BOOTSTRAP)[1:]] == wanted["bootstrap"]
    assert values.all(table.MIRROR) == ("ghcr.io", "docker.io")
    assert values.all(table.CONTAINERD_NAMESPACE) == ("k8s.io", "moby")


def test_daemons_find_each_other_by_the_service(case: Callable[[str], list[Object]]) -> None:
    found = case("everything")
    first = of(found, "mirror daemon").all(table.BOOTSTRAP)[0]
    service = one(found, "Service", "mirror-peers")
    port = next(it["port"] for it in service["spec"]["ports"] if it["protocol"] == "UDP")
    assert str(first) == f"dns:{service['metadata']['name']}.elsewhere.svc.cluster.test:{port}"


def test_behind_a_node_port_the_daemon_is_a_plain_mirror(case: Callable[[str], list[Object]]) -> None:
    """Another host's containerd may ask it: it must not wait for its own to fetch."""
    found = case("nodeport")
    serve = resolve.serve(of(found, " daemon"), AROUND, DATA_DIR).settings
    configure = resolve.configure(of(found, " configuration"), AROUND).settings
    service = one(found, "Service", "peili-registry")["spec"]
    assert configure.hosts.registry_url == f"http://127.0.0.1:{service['ports'][0]['nodePort']}"
    assert (service["type"], service["externalTrafficPolicy"]) == ("NodePort", "Local")
    assert (serve.origin.value, serve.tags.value, configure.tags.value) == ("off", "off", "off")
    assert not serve.hosts.add_registries
    (container,) = one(found, "DaemonSet", "peili")["spec"]["template"]["spec"]["containers"]
    assert "hostPort" not in container["ports"][0] and "host" not in container["livenessProbe"]["httpGet"]


@pytest.mark.parametrize("name", ["default", "hostport", "nodeport", "everything"])
def test_doctor_in_a_pod_knows_where_containerd_asks(case: Callable[[str], list[Object]], name: str) -> None:
    """Else it calls the right address wrong, and the pod's own a danger."""
    found = case(name)
    container = next(it for _, spec in pod_specs(found) for it in containers(spec) if it["name"] == "daemon")
    environment = told(container)[1]
    own = {key: text for key, text in environment.items() if key.startswith("PEILI_")}
    seen = asked(settled(Command.DOCTOR, read(Command.DOCTOR, {}, own)).settings)
    configure = resolve.configure(of(found, " configuration"), AROUND).settings
    assert seen.registry_url == configure.hosts.registry_url
    assert seen.is_forwarded is (name in ("hostport", "nodeport"))


def test_behind_a_node_port_the_daemon_does_what_a_plain_mirror_may(home: Path) -> None:
    values = {"network": {"mode": "nodePort"}, "peili": {"origin": "relay", "tags": "peers"}}
    found = rendered(home, values)
    daemon, configuration = of(found, " daemon"), of(found, " configuration")
    assert (str(daemon.one(table.ORIGIN)), str(daemon.one(table.TAGS))) == ("relay", "peers")
    assert str(configuration.one(table.TAGS)) == "peers"


@pytest.mark.parametrize(
    ("version", "preferred"),
    [("1.33.9", None), ("1.34.0-gke.1", "PreferSameNode"), ("1.35.0", "PreferSameNode")],
)
def test_a_node_port_prefers_the_daemon_of_its_host(home: Path, version: str, preferred: str | None) -> None:
    """An older API server refuses the word."""
    found = objects(template(4, home, CASES / "nodeport.yaml", kube_version=version))
    assert one(found, "Service", "peili-registry")["spec"].get("trafficDistribution") == preferred


@pytest.mark.parametrize(("mode", "is_open"), [("host", False), ("hostPort", False), ("nodePort", True)])
def test_a_network_policy_lets_in_whom_kube_proxy_sends(home: Path, mode: str, is_open: bool) -> None:
    """Else containerd waits for a connection that is dropped."""
    values = {"network": {"mode": mode}, "networkPolicy": {"enabled": True}}
    (rule,) = one(rendered(home, values), "NetworkPolicy")["spec"]["ingress"]
    assert ({"port": 29020, "protocol": "TCP"} in rule["ports"]) is is_open


def test_configure_and_serve_agree(case: Callable[[str], list[Object]]) -> None:
    for name in ("default", "hostport", "everything"):
        found = case(name)
        serve = resolve.serve(of(found, " daemon"), AROUND, DATA_DIR).settings
        configure = resolve.configure(of(found, " configuration"), AROUND).settings
        assert (
            serve.hosts.registry_url
            == configure.hosts.registry_url
            == ("http://127.0.0.1:30001" if name == "everything" else "http://127.0.0.1:29020")
        )
        assert (serve.hosts.hosts_dir, serve.tags, serve.mirrors) == (
            configure.hosts.hosts_dir,
            configure.tags,
            configure.mirrors,
        )
        assert serve.hosts.stale_tags == configure.hosts.stale_tags
        assert serve.hosts.containerd_config_path == configure.hosts.containerd_config_path


def test_on_the_host_s_network_containerd_s_port_is_loopback_alone(
    case: Callable[[str], list[Object]],
) -> None:
    settings = resolve.serve(of(case("default"), " daemon"), AROUND, DATA_DIR).settings
    assert settings.registry_addr == Address("127.0.0.1", 29020)
    assert settings.admin_addr == Address("127.0.0.1", 29022)
    assert settings.peer_addr == Address("::", 29021) and settings.metrics_addr == Address("::", 29023)
    assert settings.advertise_addr == "10.0.0.7" and settings.cluster_secret_file is not None


def test_what_is_undone_is_what_was_done(case: Callable[[str], list[Object]]) -> None:
    for name in ("default", "everything"):
        found = case(name)
        serve = resolve.serve(of(found, " daemon"), AROUND, DATA_DIR).settings
        cleanup = resolve.cleanup(of(found, " cleanup"), AROUND).settings
        stay_addr = Address("::", serve.peer_addr.port)
        assert cleanup == CleanupSettings(serve.hosts.hosts_dir, serve.data_dir, stay_addr)
        wait = resolve.cleanup_wait(of(found, " wait")).settings
        domain = {"default": "peili-system.svc.cluster.local.", "everything": "elsewhere.svc.cluster.test"}[
            name
        ]
        fullname = {"default": "peili", "everything": "mirror"}[name]
        assert wait == CleanupWaitSettings(
            Address(f"{fullname}-cleanup.{domain}", stay_addr.port), {"default": 240, "everything": 600}[name]
        )


@pytest.mark.parametrize(
    ("path", "value", "setting", "told_text"),
    [
        ("peili.tags", False, table.TAGS, "off"),
        ("peili.origin", False, table.ORIGIN, "off"),
        ("peili.staleTags", True, table.STALE_TAGS, "on"),
        ("peili.addRegistries", False, table.ADD_REGISTRIES, "off"),
        ("peili.logLevel", "INFO", table.LOG_LEVEL, "info"),
        ("peili.logLevel", "WARN", table.LOG_LEVEL, "warning"),
        ("service.metrics.enabled", False, table.METRICS_ADDR, "None"),
    ],
)
def test_words_that_yaml_or_spegel_spell_otherwise(
    home: Path, path: str, value: object, setting: Setting[object], told_text: str
) -> None:
    assert str(of(rendered(home, nested(path, value)), " daemon").one(setting)) == told_text
