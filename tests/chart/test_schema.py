"""Values that cannot be right are refused, by both majors of helm, with the name of the value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.settings import values as parsers
from mirror.settings.model import OriginUse, StaleTags, Tags, Verify
from tests.support.helm_chart import CHART, HelmError, nested, rendered

SCHEMA = json.loads((CHART / "values.schema.json").read_text())

# The path of a value, and what it cannot be.
BAD: list[tuple[str, object]] = [
    ("peilli", {}),
    ("image.repo", "x"),
    ("image.repository", ""),
    ("image.repository", "registry.test/peili:v1"),
    ("image.digest", "sha256:12"),
    ("image.pullPolicy", "Sometimes"),
    ("imagePullSecrets", ["name"]),
    ("namespaceOverride", "Peili"),
    ("network.mode", "loadBalancer"),
    ("service.peer.port", 0),
    ("service.peer.port", 65536),
    ("service.registry.port", "29020"),
    ("service.registry.hostPort", 30020),
    ("clusterSecret.key", "a/b"),
    ("commonLabels", {"a": 1}),
    ("peili.containerdSock", "containerd.sock"),
    ("peili.containerdSock", "/containerd.sock"),
    ("peili.containerdNamespace", []),
    ("peili.containerdNamespace", "k8s io"),
    ("peili.containerdContentPath", "var/lib"),
    ("peili.containerdRegistryConfigPath", "/"),
    ("peili.mirroredRegistries", "ghcr.io"),
    ("peili.mirroredRegistries", ["https://ghcr.io/path"]),
    ("peili.mirroredRegistries", ["_default"]),
    ("peili.registryFilters", [""]),
    ("peili.protect", ["ghcr.io/UPPER"]),
    ("peili.tags", "all"),
    ("peili.staleTags", "yes"),
    ("peili.origin", "direct"),
    ("peili.verify", "never"),
    ("peili.cacheSize", "10Gi"),
    ("peili.cacheSize", 10),
    ("peili.dataDir", "peili"),
    ("peili.cluster", "-"),
    ("peili.bootstrap", ["10.0.0.8:29021"]),
    ("peili.logLevel", "trace"),
    ("peili.resolveTags", True),
    ("extraEnv", [{"value": "no name"}]),
    ("resources", {"limit": {"memory": "128Mi"}}),
    ("updateStrategy.type", "Recreate"),
    ("terminationGracePeriodSeconds", 5),
    ("cleanup.timeoutSeconds", 30),
    ("serviceMonitor.interval", 60),
    ("seed.replicas", 0),
    ("scheduler.storage", "1Gi"),
]


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize(("path", "value"), BAD, ids=lambda it: it if isinstance(it, str) else None)
def test_it_is_refused_by_its_name(home: Path, major: int, path: str, value: object) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema") as refused:
        rendered(home, nested(path, value), major)
    assert path.split(".")[-1] in str(refused.value)


GOOD: list[tuple[str, object]] = [
    ("global", {"anything": 1}),
    ("image.repository", "registry.test:5000/team/peili"),
    ("peili.containerdNamespace", ["k8s.io", "moby"]),
    ("peili.mirroredRegistries", ["https://ghcr.io", "registry.test:5000", "http://[fd00::8]:5000"]),
    ("peili.logLevel", "INFO"),
    # YAML reads an unquoted off as false.
    ("peili.tags", False),
    ("peili.staleTags", True),
    ("peili.origin", False),
    ("clusterDomain", "cluster.local"),
]


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize(("path", "value"), GOOD, ids=lambda it: it if isinstance(it, str) else None)
def test_it_is_taken(home: Path, major: int, path: str, value: object) -> None:
    assert rendered(home, nested(path, value), major)


def parts(
    schema: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    yield path, schema
    for key, part in schema.get("properties", {}).items():
        yield from parts(part, (*path, key))


# What Kubernetes defines, not the chart.
FREE = {
    ("global",),
    ("affinity",),
    ("podSecurityContext",),
    ("securityContext",),
    ("resources", "requests"),
    ("resources", "limits"),
    ("updateStrategy", "rollingUpdate"),
    ("seed", "affinity"),
    ("scheduler", "affinity"),
}


def test_no_map_of_ours_takes_names_that_it_does_not_know() -> None:
    loose = {
        path
        for path, part in parts(SCHEMA)
        if part.get("type") in ("object", ["object", "null"])
        and part.get("additionalProperties") is not False
    }
    assert loose == FREE


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tags", Tags),
        ("staleTags", StaleTags),
        ("origin", OriginUse),
        ("verify", Verify),
        ("logFormat", ("json", "text")),
    ],
)
def test_words_are_those_of_the_settings(name: str, words: Any) -> None:
    listed = SCHEMA["properties"]["peili"]["properties"][name]["enum"]
    assert [word for word in listed if isinstance(word, str)] == [str(word) for word in words]


@pytest.mark.parametrize("text", ["10GiB", "512MiB", "0", "1048576"])
def test_sizes_are_those_of_the_settings(home: Path, text: str) -> None:
    parsers.size_bytes(0)(text)
    assert rendered(home, nested("peili.cacheSize", text))
