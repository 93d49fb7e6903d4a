"""What both majors of helm make of the chart, and that every value changes something."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart_checks import faults
from tests.support.chart_golden import GOLDEN, cases, golden_text
from tests.support.chart_readme import values as documented
from tests.support.helm_chart import (
    CASES,
    CHART,
    NAMESPACE,
    REPOSITORY,
    HelmError,
    Object,
    objects,
    one,
    pod_specs,
    rendered,
    run,
    template,
    values_file,
)

VALUES = (CHART / "values.yaml").read_text()
EVERYTHING = yaml.safe_load((CASES / "everything.yaml").read_text())
OLDEST, NEWEST = "1.29.0", "1.35.0"


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize("name", cases())
def test_the_chart_lints(home: Path, major: int, name: str) -> None:
    told = run(major, "lint", "--strict", str(CHART), "--values", str(CASES / f"{name}.yaml"), home=home)
    assert "0 chart(s) failed" in told and "[WARNING]" not in told


@pytest.mark.parametrize("name", cases())
def test_a_render_is_what_it_was(home: Path, name: str) -> None:
    """Regenerate with `python -m tests.support.chart_golden`, and look at the diff."""
    assert golden_text(name, home) == (GOLDEN / f"{name}.yaml").read_text()


def test_no_golden_file_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == cases()


@pytest.mark.parametrize("name", cases())
def test_both_majors_render_alike(home: Path, name: str) -> None:
    assert yaml_of(golden_text(name, home, 3)) == yaml_of(golden_text(name, home, 4))


def yaml_of(text: str) -> list[Object]:
    return list(yaml.safe_load_all(text))


@pytest.mark.matrix
@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize(
    "kube_version", [OLDEST, "1.32.3", NEWEST, "1.31.4-eks-abcdef", "1.30.5-gke.1014001"]
)
@pytest.mark.parametrize("name", cases())
def test_every_version_of_kubernetes(home: Path, major: int, kube_version: str, name: str) -> None:
    assert template(major, home, CASES / f"{name}.yaml", kube_version=kube_version)


def test_the_oldest_version_of_kubernetes(home: Path) -> None:
    assert template(4, home, kube_version=OLDEST)
    with pytest.raises(HelmError, match=r"kubeVersion: >=1\.29\.0-0"):
        template(4, home, kube_version="1.28.9")


def test_the_chart_has_the_version_of_the_distribution() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]
    assert set(project["keywords"]) <= set(chart["keywords"])


# Values that everything.yaml leaves at their default, and those that others hide there.
OTHER: dict[str, Any] = {
    "serviceAccount.create": False,
    "network.mode": "hostPort",
    "service.metrics.enabled": False,
    "peili.mountHostsDirParent": False,
    "peili.containerdMirrorAdd": False,
    "peili.tags": "peers",
    "livenessProbe.enabled": False,
    "cleanup.enabled": False,
}
BESIDES: dict[str, dict[str, Any]] = {
    "service.registry.nodePort": {"network.mode": "nodePort"},
    "peili.mountHostsDirParent": {"peili.containerdConfigPath": ""},
    "image.tag": {"image.digest": ""},
    "service.metrics.enabled": {"serviceMonitor.enabled": False, "podMonitor.enabled": False},
}
PATHS = [value.path for value in documented(VALUES)]


def put(values: dict[str, Any], path: str, value: object) -> None:
    *above, last = path.split(".")
    for key in above:
        values = values.setdefault(key, {})
    values[last] = value


def at(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = values
    for key in path:
        found = found[key]
    return found


@pytest.fixture(scope="module")
def base(home: Path) -> Callable[[dict[str, Any]], str]:
    made: dict[str, str] = {}

    def of(besides: dict[str, Any]) -> str:
        if repr(besides) not in made:
            values = copy.deepcopy(EVERYTHING)
            for path, value in besides.items():
                put(values, path, value)
            made[repr(besides)] = template(4, home, values_file(home, values))
        return made[repr(besides)]

    return of


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_value_changes_something(
    home: Path, base: Callable[[dict[str, Any]], str], path: tuple[str, ...]
) -> None:
    name = ".".join(path)
    besides = BESIDES.get(name, {})
    values = copy.deepcopy(EVERYTHING)
    for other, value in besides.items():
        put(values, other, value)
    changed = OTHER.get(name, at(yaml.safe_load(VALUES), path))
    assert at(values, path) != changed, "everything.yaml has the default: give it another value, or OTHER"
    put(values, name, changed)
    if changed == {}:  # helm merges maps: what is not named stays
        put(values, name, None)
    assert template(4, home, values_file(home, values)) != base(besides)


def leaves(values: Mapping[str, Any], inside: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in values.items():
        path = (*inside, key)
        found += leaves(value, path) if isinstance(value, dict) and value and path not in PATHS else [path]
    return found


def test_every_value_is_documented() -> None:
    assert sorted(leaves(yaml.safe_load(VALUES))) == sorted(PATHS)
    assert len(PATHS) > 80
    assert all(len(value.about) > 10 for value in documented(VALUES))


def test_everything_sets_every_value() -> None:
    for path in PATHS:
        at(EVERYTHING, path)


def test_the_secret_is_32_random_bytes_and_new_each_time(home: Path) -> None:
    """Without a cluster to look at, as `helm template` is; upgrades are in test_kube.py."""
    import base64

    from mirror.secret import ClusterSecret

    made = [one(rendered(home, {}), "Secret")["data"]["secret"] for _ in range(2)]
    assert made[0] != made[1]
    for text in made:
        assert len(ClusterSecret.parse(base64.b64decode(text), "the Secret").secrets[0]) == 32


def test_a_secret_of_the_user_s_takes_its_place(home: Path) -> None:
    found = rendered(home, {"clusterSecret": {"existingSecret": "mine", "key": "lines"}})
    assert not [it for it in found if it["kind"] == "Secret"]
    spec = one(found, "DaemonSet", "peili")["spec"]["template"]["spec"]
    (volume,) = [it for it in spec["volumes"] if it["name"] == "cluster-secret"]
    assert volume["secret"]["secretName"] == "mine"


def test_no_pod_of_the_uninstall_is_found_by_the_daemons(case: Callable[[str], list[Object]]) -> None:
    found = case("default")
    (peers,) = [it for it in found if it["metadata"]["name"] == "peili-peers"]
    for suffix in ("cleanup", "cleanup-wait"):
        (pod,) = [
            it.get("spec", {}).get("template", it)["metadata"]["labels"]
            for it in found
            if it["metadata"]["name"] == f"peili-{suffix}" and it["kind"] in ("DaemonSet", "Pod")
        ]
        assert not peers["spec"]["selector"].items() <= pod.items()


@pytest.mark.parametrize("name", ["default", "everything"])
def test_what_cleans_up_runs_where_the_daemon_does(case: Callable[[str], list[Object]], name: str) -> None:
    specs = dict(pod_specs(case(name)))
    (daemon,) = (it for where, it in specs.items() if where in ("DaemonSet/peili", "DaemonSet/mirror"))
    for where, spec in specs.items():
        if "cleanup" not in where:
            continue
        for key in ("nodeSelector", "tolerations", "affinity", "imagePullSecrets", "priorityClassName"):
            assert spec.get(key) == daemon.get(key), (where, key)
        assert spec["containers"][0]["resources"] == daemon["containers"][0]["resources"]
        # The release's own is deleted before they begin.
        assert spec["serviceAccountName"] != daemon["serviceAccountName"]


def test_the_port_keeps_cleanup_off_a_host_where_the_daemon_still_is(
    case: Callable[[str], list[Object]],
) -> None:
    """The scheduler gives a host port to one pod at a time."""
    found = case("everything")
    ports = {
        name: {
            (port["hostPort"], port["protocol"])
            for port in one(found, "DaemonSet", name)["spec"]["template"]["spec"]["containers"][0]["ports"]
        }
        for name in ("mirror", "mirror-cleanup")
    }
    assert ports["mirror-cleanup"] == {(30002, "TCP")} < ports["mirror"]


def test_what_cleans_hosts_that_were_down_can_be_rendered_alone(home: Path) -> None:
    """As docs/kubernetes.md says."""
    told = run(4, "template", "peili", str(CHART), "--show-only", "templates/cleanup.yaml", home=home)
    assert [it["kind"] for it in yaml.safe_load_all(told) if it] == ["Service", "DaemonSet", "Pod"]


def test_hooks_in_order(case: Callable[[str], list[Object]]) -> None:
    hooks = [it for it in case("default") if "helm.sh/hook" in it["metadata"].get("annotations", {})]
    order = {
        f"{it['kind']}/{it['metadata']['name']}": (
            it["metadata"]["annotations"]["helm.sh/hook"],
            int(it["metadata"]["annotations"].get("helm.sh/hook-weight", 0)),
        )
        for it in hooks
    }
    assert order == {
        "DaemonSet/peili-cleanup": ("post-delete", 0),
        "Service/peili-cleanup": ("post-delete", 0),
        "Pod/peili-cleanup-wait": ("post-delete", 1),
        "Pod/peili-test": ("test", 0),
    }
    # Left where it failed: a host that was down is cleaned when it is back.
    assert {it["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for it in hooks} == {
        "before-hook-creation,hook-succeeded"
    }


@pytest.mark.parametrize(
    ("values", "hosts", "data"),
    [
        ({}, "/etc/containerd", "/var/lib"),
        (
            {"peili": {"containerdRegistryConfigPath": "/etc/cri/conf.d/hosts/"}},
            "/etc/cri/conf.d",
            "/var/lib",
        ),
        ({"peili": {"containerdRegistryConfigPath": "/hosts", "dataDir": "/peili"}}, "/hosts", "/peili"),
        (
            {"peili": {"mountHostsDirParent": False}, "cleanup": {"mountDataDirParent": False}},
            "/etc/containerd/certs.d",
            "/var/lib/peili",
        ),
    ],
)
def test_what_is_mounted(home: Path, values: dict[str, Any], hosts: str, data: str) -> None:
    """The root of the host is never mounted: then it is the directory itself."""
    found = rendered(home, values)
    daemon = one(found, "DaemonSet", "peili")["spec"]["template"]["spec"]
    cleanup = one(found, "DaemonSet", "cleanup")["spec"]["template"]["spec"]
    paths = {it["name"]: it["hostPath"]["path"] for it in daemon["volumes"] if "hostPath" in it}
    assert paths["hosts"] == hosts and paths["data"] == values.get("peili", {}).get(
        "dataDir", "/var/lib/peili"
    )
    paths = {it["name"]: it["hostPath"]["path"] for it in cleanup["volumes"]}
    assert paths == {"hosts": hosts, "data": data}
    for spec in (daemon, cleanup):
        for container in spec["containers"]:
            mounts = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
            assert mounts["hosts"] == hosts


def test_one_directory_above_both_is_mounted_once(home: Path) -> None:
    values = {"peili": {"containerdRegistryConfigPath": "/srv/certs.d", "dataDir": "/srv/peili"}}
    cleanup = one(rendered(home, values), "DaemonSet", "cleanup")["spec"]["template"]["spec"]
    assert [it["hostPath"]["path"] for it in cleanup["volumes"]] == ["/srv"]


def test_a_colon_needs_the_larger_mount(home: Path) -> None:
    """Beside the hosts directory nothing could be written."""
    values: dict[str, Any] = {"peili": {"mountHostsDirParent": False}}
    spec = one(rendered(home, values), "DaemonSet", "peili")["spec"]["template"]["spec"]
    for container in [*spec["initContainers"], *spec["containers"]]:
        told = {it["name"]: it.get("value") for it in container["env"]}
        assert told["PEILI_CONTAINERD_CONFIG_PATH"] == told["PEILI_HOSTS_DIR"] == "/etc/containerd/certs.d"
    values["peili"]["containerdConfigPath"] = "/etc/containerd/certs.d:/etc/docker/certs.d"
    with pytest.raises(HelmError, match=r"peili\.mountHostsDirParent: false mounts only the hosts directory"):
        rendered(home, values)


def test_a_package_renders_what_the_folder_does(home: Path, tmp_path: Path) -> None:
    run(4, "package", str(CHART), "--destination", str(tmp_path), home=home)
    (package,) = tmp_path.iterdir()
    everything = str(CASES / "everything.yaml")
    told = [
        run(4, "template", "peili", str(chart), "--values", everything, home=home)
        for chart in (package, CHART)
    ]
    assert told[0] == told[1]


def test_the_longest_name_of_a_release(home: Path) -> None:
    """helm takes 53 letters; DNS labels have 63."""
    found = objects(template(4, home, release="r" * 53))
    assert faults(found) == []
    assert max(len(it["metadata"]["name"]) for it in found) <= 63


def test_metrics_that_are_off_cannot_be_scraped(home: Path) -> None:
    for kind in ("serviceMonitor", "podMonitor"):
        values = {"service": {"metrics": {"enabled": False}}, kind: {"enabled": True}}
        with pytest.raises(HelmError, match=rf"{kind}\.enabled: there are no metrics"):
            rendered(home, values)


def test_every_object_is_in_the_namespace(case: Callable[[str], list[Object]]) -> None:
    assert {it["metadata"]["namespace"] for it in case("default")} == {NAMESPACE}
    assert {it["metadata"]["namespace"] for it in case("everything")} == {"elsewhere"}
